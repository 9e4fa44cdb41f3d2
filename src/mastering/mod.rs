// [worker] Loudness and true peak to a target; export.

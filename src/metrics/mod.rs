// [worker] Pure measurements of audio, with a before/after comparison.

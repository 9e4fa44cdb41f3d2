// [worker] Model-free separation.

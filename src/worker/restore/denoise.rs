// [worker]

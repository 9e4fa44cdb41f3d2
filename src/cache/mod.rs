// [worker] Content-addressed stages of the road, and committed patches on disk.

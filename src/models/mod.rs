// [worker] Models: which there are, where they come from, and how their files are read.

pub mod checkpoint;

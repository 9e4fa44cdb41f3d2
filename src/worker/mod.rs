// [worker] Everything that takes longer than a block: jobs, progress, the road from take to patch.

pub mod progress;
pub mod restore;

// [worker] Everything that takes longer than a block: jobs, progress, the road from take to patch.

pub mod engine;
pub mod options;
pub mod progress;
pub mod restore;
pub mod session;
pub mod view;

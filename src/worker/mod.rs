// [worker] Everything that takes longer than a block: jobs, progress, the road from take to patch.

pub mod ahead;
mod edits;
pub mod engine;
mod instance;
mod jobs;
pub mod offline;
pub mod options;
pub mod picture;
pub mod pieces;
pub mod pipeline;
pub mod process;
pub mod progress;
pub mod pyramid;
mod regenerate;
mod relief;
pub mod report;
pub mod restore;
pub mod road;
pub mod scratch;
pub mod segments;
mod separate;
pub mod session;
pub mod shelf;
pub mod takes;
pub mod view;

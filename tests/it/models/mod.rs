// The models' room: checkpoints, hostile files, the manifest, the library and downloads.

mod checkpoint;
#[cfg(feature = "cli")]
mod cli;
mod fetch;
mod hostile;
mod library;
mod server;
mod shelf;
mod writer;

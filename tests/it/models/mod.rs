// The models' room: checkpoints, hostile files, the manifest, the library and downloads.

mod checkpoint;
mod fetch;
mod hostile;
mod library;
mod server;
mod writer;

// The models' room: checkpoints, hostile files, the manifest, the library and downloads.

mod checkpoint;
mod hostile;
mod writer;

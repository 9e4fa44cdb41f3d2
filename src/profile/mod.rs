// [worker] From stems and mix to a [`MusicalProfile`]. Pure functions.

pub mod quality;
mod types;

pub use types::*;

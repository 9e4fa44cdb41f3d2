// [worker] From stems and mix to a [`MusicalProfile`]. Pure functions.

mod types;

pub use types::*;

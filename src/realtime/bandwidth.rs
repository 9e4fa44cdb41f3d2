// [audio] Brings back what a phone's microphone took: lows below 100 Hz, highs above 8 kHz.

pub mod bass;
pub mod filter;
pub mod treble;

pub use bass::BassRestorer;
pub use treble::TrebleRestorer;

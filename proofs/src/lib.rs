//! The boundary of the audio thread, from the very files of the plugin. Under `--cfg loom` the ring below it is
//! a double that loom can run in every order.

// The files name the crate as they do in the plugin.
#[cfg(loom)]
extern crate self as rtrb;

#[path = "../../src/damage.rs"]
pub mod damage;
#[path = "../../src/exchange/mod.rs"]
pub mod exchange;

#[cfg(loom)]
mod doubles;
#[cfg(loom)]
pub use doubles::*;

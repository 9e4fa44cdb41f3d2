// [worker] Models: which there are, where they come from, and how their files are read.
//!
//! [`checkpoint`] reads the files, [`tensors`] is how networks see them, [`convert`] keeps what is made of them, so that
//! they open at once, [`manifest`] lists what is known, [`library`] is the folder of what is installed, [`fetch`] the
//! only code of the crate that uses the network.

pub mod checkpoint;
pub mod convert;
pub mod fetch;
pub mod library;
pub mod manifest;
pub mod tensors;

pub use crate::system::hash;

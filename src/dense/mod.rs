// [worker] Dense float32 arithmetic for networks: packed matrix products, activations, norms, a thread pool.
//!
//! Everything works on plain row-major slices; shapes stand on every function. Nothing here knows what a
//! model is, and nothing here starts a thread that outlives its [`pool::Pool`].
//!
//! Results don't depend on the number of threads: every output element is one chain of operations in a
//! fixed order, and sums over many elements are made of fixed pieces.

// Several arrays are walked by one index: the loops that the compiler turns into vector code.
#![allow(clippy::needless_range_loop)]

pub mod act;
pub mod aligned;
#[cfg(feature = "ml")]
pub mod device;
pub mod gemm;
mod kernels;
pub mod level;
pub mod norm;
pub mod pool;
pub mod strassen;
pub mod weights;

//! The workspace's own tests of the boundary, for Miri and ThreadSanitizer.
#![cfg(not(loom))]

#[path = "../../tests/it/exchange.rs"]
mod exchange;

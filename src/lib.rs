// [any] Module list and plugin exports only.
#![doc = include_str!("ARCHITECTURE.md")]

pub mod audio;
pub mod cache;
pub mod damage;
pub mod exchange;
pub mod mastering;
pub mod metrics;
pub mod profile;
pub mod realtime;
pub mod regeneration;
pub mod separation;
pub mod worker;

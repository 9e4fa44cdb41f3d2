// [any] Module list and plugin exports only.
#![doc = include_str!("ARCHITECTURE.md")]
// The documentation is for those who work on the crate: links to private items are meant.
#![allow(rustdoc::private_intra_doc_links)]

pub mod audio;
pub mod cache;
pub mod damage;
pub mod dense;
#[cfg(feature = "plugin")]
pub mod editor;
pub mod exchange;
pub mod mastering;
pub mod metrics;
#[cfg(feature = "ml")]
pub mod models;
#[cfg(feature = "plugin")]
pub mod params;
#[cfg(feature = "plugin")]
pub mod plugin;
pub mod profile;
pub mod realtime;
pub mod regeneration;
pub mod separation;
pub mod system;
pub mod worker;

#[cfg(feature = "plugin")]
use plugin::Uncook;
#[cfg(feature = "plugin")]
nice_plug::nice_export_clap!(Uncook);
#[cfg(feature = "plugin")]
nice_plug::nice_export_vst3!(Uncook);

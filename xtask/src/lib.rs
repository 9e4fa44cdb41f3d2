// [cli] The workspace's tasks, and a CLAP host that plays the bundled plugin.
//! `cargo xtask <task>`: bundle, render, demo, quality, tidy, test,
//! install. The host is a library, so that the
//! tests of the bundled plugin use the same one.

pub mod automation;
pub mod bundle;
pub mod demo;
pub mod host;
pub mod install;
pub mod packages;
pub mod picture;
pub mod quality;
pub mod render;
pub mod song;
pub mod test;
pub mod tidy;
pub mod workspace;

// [cli] The workspace's tasks, and a CLAP host that plays the bundled plugin.
//! `cargo xtask <task>`: bundle, render, demo, tidy, test, install. The host is a library, so that the
//! tests of the bundled plugin use the same one.

pub mod automation;
pub mod host;
pub mod render;
pub mod workspace;

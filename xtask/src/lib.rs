// [cli] The workspace's tasks, and a CLAP host that plays the bundled plugin.
//! `cargo xtask <task>`: bundle, render, demo, listen, load, quality, tidy, test, install, hosts, screenshots,
//! licences, release, soak. The
//! host is a library, so that the tests of the bundled plugin use the same one.

#[cfg(target_os = "linux")]
pub mod access;
pub mod automation;
pub mod bundle;
pub mod demo;
pub mod host;
pub mod hosts;
pub mod install;
pub mod licences;
pub mod listen;
pub mod load;
pub mod packages;
pub mod picture;
pub mod quality;
pub mod rebuild;
pub mod release;
pub mod render;
#[cfg(target_os = "linux")]
pub mod screenshots;
pub mod soak;
pub mod song;
pub mod test;
pub mod tidy;
pub mod workspace;

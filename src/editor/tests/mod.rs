// [main] Tests of the editor without a window.

mod app;
mod controls;
mod every;
mod hour;
mod models;
mod music;
mod paint;
mod presets;
mod said;
mod snapshots;
mod stage;
pub mod still;
mod timeline;

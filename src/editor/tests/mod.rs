// [main] Tests of the editor without a window.

mod controls;
mod hour;
mod models;
mod music;
mod paint;
mod snapshots;
mod stage;

// [main] Tests of the editor without a window.

mod controls;
mod paint;
mod snapshots;
mod stage;

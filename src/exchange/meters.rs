// [any] Levels and damage, from the audio thread to the editor: plain atomics, newest value wins.

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

use atomic_float::AtomicF32;

use crate::damage::{DamageKind, Severity};

/// Written by the audio thread, read by anyone. All values are independent: a reader may see two
/// blocks mixed.
#[derive(Debug, Default)]
pub struct Meters {
    /// Input and output peak since the last read, linear.
    pub input_peak: AtomicF32,
    pub output_peak: AtomicF32,
    /// Gain reduction of the limiter, dB, 0 or positive.
    pub limiter_db: AtomicF32,
    /// Newest severity per kind.
    severity: [AtomicF32; DamageKind::COUNT],
    /// Song position of the newest block; [`Meters::NO_POSITION`] while the host gives none.
    pub position: AtomicI64,
    /// What the player does: see [`PlayerState`].
    player: AtomicU32,
    /// Samples processed so far: lets a reader see that audio runs.
    pub processed: AtomicU64,
}

/// What the player is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum PlayerState {
    /// No patch at this position (or no position): the live chain plays.
    Live = 0,
    /// The rebuilt audio plays.
    Patch = 1,
    /// There is a patch, but the incoming audio is not what was captured.
    OutOfDate = 2,
}

impl Meters {
    /// Value of `position` while unknown.
    pub const NO_POSITION: i64 = i64::MIN;

    /// Publishes the newest severity.
    pub fn set_severity(&self, severity: &Severity) {
        for (cell, &value) in self.severity.iter().zip(severity) {
            cell.store(value, Ordering::Relaxed);
        }
    }

    /// The newest severity.
    pub fn severity(&self) -> Severity {
        std::array::from_fn(|i| self.severity[i].load(Ordering::Relaxed))
    }

    /// Publishes what the player does.
    pub fn set_player(&self, state: PlayerState) {
        self.player.store(state as u32, Ordering::Relaxed);
    }

    /// What the player does.
    pub fn player(&self) -> PlayerState {
        match self.player.load(Ordering::Relaxed) {
            1 => PlayerState::Patch,
            2 => PlayerState::OutOfDate,
            _ => PlayerState::Live,
        }
    }

    /// Raises `peak` to `value` if that is larger.
    pub fn raise(peak: &AtomicF32, value: f32) {
        peak.fetch_max(value, Ordering::Relaxed);
    }

    /// Reads a peak and sets it back to 0.
    pub fn take(peak: &AtomicF32) -> f32 {
        peak.swap(0.0, Ordering::Relaxed)
    }
}

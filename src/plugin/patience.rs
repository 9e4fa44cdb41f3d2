// [audio] When `process` may wait for the worker: only while a host renders offline.
//!
//! A render shall play what the worker makes of the recording, so where a job is still running the
//! render waits, within a limit. Live playback must never wait, and hosts tell the two apart badly:
//! * CLAP: the process mode given at activation is right.
//! * VST3: the wrapper passes on the mode of the activation before, so the first playback after a
//!   render would claim to be a render. The mode is ignored; what counts is the pace. Four seconds of
//!   audio in less than two are a render: hosts that process ahead while playing do so by a fraction
//!   of a second. The first four seconds of a VST3 render therefore don't wait, and a render slower
//!   than twice real time never does.

use std::time::{Duration, Instant};

use nice_plug::prelude::{PluginApi, ProcessMode};

/// Longest wait from one reset to the next, all waits together.
const LIMIT: Duration = Duration::from_secs(600);
/// Audio after which the pace is judged.
const PACE_SECONDS: f64 = 4.0;
/// Share of real time below which a pace is a render's.
const PACE_SHARE: f64 = 0.5;

/// Decides about waiting.
#[derive(Debug)]
pub struct Patience {
    /// The host said that it renders, and can be trusted.
    offline: bool,
    /// The pace says that the host renders; `None` where the pace is not asked.
    pace: Option<Pace>,
    /// Nothing was processed since the last reset.
    fresh: bool,
    was_playing: bool,
    left: Duration,
}

#[derive(Debug)]
struct Pace {
    rate: f64,
    /// Begin of the stretch that is being judged, and its frames so far.
    stretch: Option<(Instant, u64)>,
    /// Whether the last full stretch was fast.
    fast: bool,
    /// When the last block was done.
    left_at: Option<Instant>,
    /// Whether this block came as soon as a render's does.
    prompt: bool,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            offline: false,
            pace: None,
            fresh: true,
            was_playing: false,
            left: LIMIT,
        }
    }
}

impl Patience {
    /// A new activation at `rate` Hz.
    pub fn activate(&mut self, api: PluginApi, mode: ProcessMode, rate: f32) {
        *self = Self {
            offline: api == PluginApi::Clap && mode == ProcessMode::Offline,
            pace: (api == PluginApi::Vst3).then(|| Pace {
                rate: f64::from(rate),
                stretch: None,
                fast: false,
                left_at: None,
                prompt: false,
            }),
            ..Self::default()
        };
    }

    /// The host cleared the plugin's memory: a new render may begin.
    pub fn reset(&mut self) {
        if let Some(pace) = &mut self.pace {
            pace.stretch = None;
            pace.fast = false;
            pace.left_at = None;
            pace.prompt = false;
        }
        self.fresh = true;
        self.was_playing = false;
        self.left = LIMIT;
    }

    /// Whether the host renders offline, as far as can be known.
    pub fn is_rendering(&self) -> bool {
        self.offline || self.pace.as_ref().is_some_and(|p| p.fast && p.prompt)
    }

    /// To be asked once before each block of `frames`: whether to wait at the render's begin or where
    /// it starts to play.
    pub fn wants_to_wait_before(&mut self, playing: bool, frames: usize) -> bool {
        if let Some(pace) = &mut self.pace {
            pace.enter(Instant::now(), frames);
        }
        let begins = self.fresh || (playing && !self.was_playing);
        self.fresh = false;
        self.was_playing = playing;
        begins && self.is_rendering() && !self.left.is_zero()
    }

    /// Whether to wait after a block: while the render stands still.
    pub fn wants_to_wait_after(&self, playing: bool) -> bool {
        !playing && self.is_rendering() && !self.left.is_zero()
    }

    /// Calls `wait` with the time left, and takes what it used.
    pub fn spend(&mut self, wait: impl FnOnce(Duration) -> bool) {
        let before = Instant::now();
        wait(self.left);
        self.left = self.left.saturating_sub(before.elapsed());
        // Waiting is no slowness of the host.
        if let Some(pace) = &mut self.pace {
            pace.stretch = None;
        }
    }

    /// The block is done.
    pub fn leave(&mut self) {
        if let Some(pace) = &mut self.pace {
            pace.left_at = Some(Instant::now());
        }
    }
}

impl Pace {
    /// A block of `frames` arrives at `now`.
    fn enter(&mut self, now: Instant, frames: usize) {
        let block = frames as f64 / self.rate;
        self.prompt = self
            .left_at
            .is_some_and(|left_at| now.duration_since(left_at).as_secs_f64() < PACE_SHARE * block);
        let (begin, before) = self.stretch.unwrap_or((now, 0));
        let seconds = before as f64 / self.rate;
        if seconds >= PACE_SECONDS {
            self.fast = now.duration_since(begin).as_secs_f64() < PACE_SHARE * seconds;
            self.stretch = Some((now, frames as u64));
        } else {
            self.stretch = Some((begin, before + frames as u64));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: f32 = 48_000.0;

    fn activated(api: PluginApi, mode: ProcessMode) -> Patience {
        let mut patience = Patience::default();
        patience.activate(api, mode, RATE);
        patience.reset();
        patience
    }

    #[test]
    fn a_clap_render_waits_at_its_begin_at_play_and_at_standstill() {
        let mut p = activated(PluginApi::Clap, ProcessMode::Offline);
        assert!(p.is_rendering());
        assert!(p.wants_to_wait_before(false, 64), "the first block");
        assert!(p.wants_to_wait_after(false));
        assert!(!p.wants_to_wait_before(false, 64));
        assert!(p.wants_to_wait_before(true, 64), "play starts");
        assert!(!p.wants_to_wait_after(true));
        assert!(!p.wants_to_wait_before(true, 64));
        p.reset();
        assert!(p.wants_to_wait_before(true, 64), "the first block again");
    }

    #[test]
    fn the_limit_is_for_all_waits_together() {
        let mut p = activated(PluginApi::Clap, ProcessMode::Offline);
        p.left = Duration::ZERO;
        assert!(!p.wants_to_wait_before(true, 64));
        assert!(!p.wants_to_wait_after(false));
    }

    #[test]
    fn live_playback_never_waits_whatever_vst3_says() {
        for (api, mode) in [
            (PluginApi::Clap, ProcessMode::Realtime),
            (PluginApi::Clap, ProcessMode::Buffered),
            (PluginApi::Vst3, ProcessMode::Offline),
        ] {
            let mut p = activated(api, mode);
            for _ in 0..10 {
                assert!(!p.wants_to_wait_before(true, 64), "{api} {mode:?}");
                assert!(!p.wants_to_wait_after(false), "{api} {mode:?}");
            }
        }
    }

    /// Feeds blocks of 512 frames, each `share` of its duration after the last.
    fn pace_after(seconds: f64, share: f64, burst: usize) -> Pace {
        let mut pace = Pace {
            rate: f64::from(RATE),
            stretch: None,
            fast: false,
            left_at: None,
            prompt: false,
        };
        let start = Instant::now();
        let block = 512.0 / f64::from(RATE);
        for i in 0..(seconds / block) as usize {
            // In bursts: all blocks of a burst arrive at its begin.
            let at = (i / burst * burst) as f64 * block * share;
            let now = start + Duration::from_secs_f64(at);
            pace.enter(now, 512);
            pace.left_at = Some(now);
        }
        pace
    }

    #[test]
    fn only_a_lasting_pace_is_a_render() {
        assert!(pace_after(6.0, 0.1, 1).fast);
        assert!(!pace_after(3.0, 0.1, 1).fast, "too short to know");
        assert!(!pace_after(60.0, 1.0, 1).fast, "live");
        assert!(!pace_after(60.0, 0.6, 1).fast, "slow render");
        // A host that processes half a second ahead, in bursts, while playing live.
        assert!(!pace_after(60.0, 1.0, 47).fast, "anticipating host");
    }
}

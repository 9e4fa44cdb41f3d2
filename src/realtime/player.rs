// [audio] Plays committed patches over the live chain, wherever the input still is what was captured.

use crate::{
    damage::Stem,
    exchange::{
        SamplePos,
        meters::PlayerState,
        patch::{Patch, PatchReader, PatchSet},
    },
    realtime::{
        delay::Delay,
        settings::Settings,
        stage::{RAMP_SECONDS, Ramp},
    },
};

/// Length of every fade between live and patch.
const FADE_SECONDS: f64 = 0.020;
/// Time a mismatch has to be noticed before it must be faded out.
const NOTICE_SECONDS: f64 = 0.005;
/// Time constant of the running comparison of input and take.
const COMPARE_SECONDS: f64 = 0.002;
/// Error above which input and take differ, relative to their energy: −40 dB.
const MISMATCH: f64 = 1e-4;
/// Energy below which a difference is inaudible whatever the level: −120 dBFS.
const FLOOR: f64 = 1e-12;

const NOWHERE: i64 = i64::MIN;

/// The player. Raw input is shown to [`Player::observe`] when it enters the chain; [`Player::play`] mixes
/// the patch in `delay` samples later. The time between is used to look ahead: a fade-out is finished
/// when the audio that no longer matches arrives.
///
/// The weight `w` of the patch is 0 outside patches and wherever the input differs from the take, 1
/// inside, with linear fades of 20 ms. It follows, per sample,
/// `out = live + w · repair · (base + Σ blend_s · layer_s − live)`;
/// weight 0 gives exactly `live`, weight 1 exactly the patch.
pub struct Player {
    sample_rate: u32,
    /// Position of each sample on its way from `observe` to `play`.
    positions: Delay<i64>,
    /// Whether the patch may play, per sample, on its way from decision to use.
    gates: Delay<bool>,
    /// Samples that a closed gate stays closed: makes the gate the minimum over the look-ahead.
    hold: u32,
    hold_samples: u32,
    /// Smoothed energies of `input − take` and of both.
    error: f64,
    energy: f64,
    smoothing: f64,
    observed: Cursor,
    played: Cursor,
    weight_steps: u32,
    fade_steps: u32,
    repair: Ramp,
    blends: [Ramp; Stem::COUNT],
    state: PlayerState,
}

/// Remembers the last patch found: positions mostly follow each other.
#[derive(Clone, Copy, Default)]
struct Cursor(Option<usize>);

impl Cursor {
    fn find(&mut self, set: &PatchSet, pos: i64) -> Option<usize> {
        if pos == NOWHERE {
            return None;
        }
        let pos = SamplePos(pos);
        let covers = |p: &Patch| p.start <= pos && pos < p.end();
        if !self
            .0
            .and_then(|i| set.patches().get(i))
            .is_some_and(|p| covers(p))
        {
            self.0 = set.index_at(pos);
        }
        self.0
    }
}

impl Player {
    /// Samples of look-ahead that [`Player::new`] needs as `delay` at least.
    pub fn look_ahead_samples(sample_rate: f64) -> usize {
        ((FADE_SECONDS + NOTICE_SECONDS) * sample_rate).ceil() as usize
    }

    /// A player at `sample_rate` Hz whose `play` runs `delay` samples behind `observe`.
    ///
    /// # Panics
    /// If `delay` is shorter than [`Player::look_ahead_samples`]: a defect of the chain.
    pub fn new(sample_rate: f64, delay: usize) -> Self {
        let look_ahead = Self::look_ahead_samples(sample_rate);
        assert!(delay >= look_ahead, "player delay {delay} < {look_ahead}");
        Self {
            sample_rate: sample_rate.round() as u32,
            positions: Delay::new(delay),
            // The gate of sample n is known `look_ahead - 1` samples later.
            gates: Delay::new(delay - (look_ahead - 1)),
            hold: 0,
            hold_samples: look_ahead as u32,
            error: 0.0,
            energy: 0.0,
            smoothing: 1.0 - (-1.0 / (COMPARE_SECONDS * sample_rate)).exp(),
            observed: Cursor::default(),
            played: Cursor::default(),
            weight_steps: 0,
            fade_steps: ((FADE_SECONDS * sample_rate).round() as u32).max(1),
            repair: Ramp::new(1.0, RAMP_SECONDS, sample_rate),
            blends: [Ramp::new(1.0, RAMP_SECONDS, sample_rate); Stem::COUNT],
            state: PlayerState::Live,
        }
        .cleared()
    }

    fn cleared(mut self) -> Self {
        self.reset();
        self
    }

    /// Forgets everything on its way; ramps settle.
    pub fn reset(&mut self) {
        // `Delay` starts on 0, which is a position: fill with none.
        self.positions.fill(NOWHERE);
        self.gates.reset();
        self.hold = 0;
        self.error = 0.0;
        self.energy = 0.0;
        self.observed = Cursor::default();
        self.played = Cursor::default();
        self.weight_steps = 0;
        self.repair.settle();
        self.blends.iter_mut().for_each(Ramp::settle);
        self.state = PlayerState::Live;
    }

    /// What the newest sample plays.
    pub fn state(&self) -> PlayerState {
        self.state
    }

    /// Targets from the next sample on.
    pub fn set(&mut self, settings: &Settings) {
        self.repair.set_target(settings.repair);
        for (ramp, blend) in self.blends.iter_mut().zip(settings.blend) {
            ramp.set_target(blend * settings.master_blend);
        }
    }

    /// Takes a newly published set if one is there and nothing of the old one can be heard, or the same is heard.
    /// Returns whether one is still to be taken.
    fn exchange(&mut self, patches: &mut PatchReader) -> bool {
        if !patches.has_next() {
            return false;
        }
        if patches.is_renewed() {
            // The same patches in the same order: where they are found and what was decided stays right.
            patches.advance();
            return false;
        }
        if self.weight_steps == 0 && patches.advance() {
            // Decisions on their way were made for the old set.
            self.gates.reset();
            self.hold = self.hold_samples;
            self.observed = Cursor::default();
            self.played = Cursor::default();
            return false;
        }
        true
    }

    /// Looks at one raw input frame at `pos` (`None`: no position, or the transport stands), then mixes
    /// the patch into the frame of `delay` samples ago, given as `live`, in place.
    /// `raw` and `live` have the same 1 or 2 channels.
    #[inline]
    pub fn process(
        &mut self,
        patches: &mut PatchReader,
        pos: Option<SamplePos>,
        raw: [f32; 2],
        live: &mut [f32; 2],
    ) {
        let replacing = self.exchange(patches);
        if let Some(pos) = pos {
            patches.look(pos);
        }
        let pos = pos.map_or(NOWHERE, |p| p.0);
        let gate = self.observe(patches.current(), pos, raw);
        let open = self.gates.push(gate) && !replacing;
        let pos = self.positions.push(pos);
        self.play(patches.current(), pos, open, live);
    }

    fn observe(&mut self, set: &PatchSet, pos: i64, raw: [f32; 2]) -> bool {
        let before = self.observed.0;
        let index = self.observed.find(set, pos);
        let patch = index
            .and_then(|i| set.patches().get(i))
            .filter(|p| p.sample_rate == self.sample_rate && set.is_here(pos));
        let matches = match patch {
            None => {
                self.error = 0.0;
                self.energy = 0.0;
                self.state = PlayerState::Live;
                false
            }
            Some(patch) => {
                let n = pos.wrapping_sub(patch.start.0) as usize;
                let (mut error, mut energy) = (0.0f64, 0.0f64);
                for (take, x) in patch.take.iter().zip(raw) {
                    let (t, x) = (f64::from(take.at(n)), f64::from(x));
                    error += (x - t) * (x - t);
                    energy += x * x + t * t;
                }
                self.error += self.smoothing * (error - self.error);
                self.energy += self.smoothing * (energy - self.energy);
                let matches = self.error <= MISMATCH * self.energy + FLOOR;
                self.state = if matches {
                    PlayerState::Patch
                } else {
                    PlayerState::OutOfDate
                };
                // From one patch straight into another: fade through live.
                matches && (before.is_none() || before == index)
            }
        };
        if matches {
            self.hold = self.hold.saturating_sub(1);
        } else {
            self.hold = self.hold_samples;
        }
        self.hold == 0
    }

    fn play(&mut self, set: &PatchSet, pos: i64, open: bool, live: &mut [f32; 2]) {
        let repair = self.repair.next();
        let blends = self.blends.each_mut().map(Ramp::next);
        let patch = self
            .played
            .find(set, pos)
            .and_then(|i| set.patches().get(i))
            // What was there when it was observed stays there until it has played, unless the song was left meanwhile.
            .filter(|_| set.is_here(pos));
        match (patch, open) {
            (Some(_), true) => self.weight_steps = (self.weight_steps + 1).min(self.fade_steps),
            (Some(_), false) => self.weight_steps = self.weight_steps.saturating_sub(1),
            (None, _) => self.weight_steps = 0,
        }
        let Some(patch) = patch else { return };
        let weight = repair * (self.weight_steps as f32 / self.fade_steps as f32);
        if weight == 0.0 {
            return;
        }
        let n = pos.wrapping_sub(patch.start.0) as usize;
        for (c, out) in live.iter_mut().enumerate() {
            let mut rebuilt = patch.base[c].at(n);
            for (layer, &blend) in patch.layers.iter().zip(&blends) {
                if let Some(layer) = layer
                    && blend != 0.0
                {
                    rebuilt += blend * layer[c].at(n);
                }
            }
            *out = if weight == 1.0 {
                rebuilt
            } else {
                *out + weight * (rebuilt - *out)
            };
        }
    }
}

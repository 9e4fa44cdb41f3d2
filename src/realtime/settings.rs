// [any] What the chain is told per block. Plain numbers: the chain never sees the host's parameters.

use crate::damage::Stem;

/// Settings of one block. The chain ramps every continuous value itself, per sample, so that output
/// does not depend on how the host cuts its blocks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Overall amount, 0..=1: scales every stage and the player. 0 returns the input.
    pub repair: f32,
    /// Intensities, each 0..=1; 0 is exactly transparent.
    pub declip: f32,
    pub declick: f32,
    pub denoise: f32,
    pub bass: f32,
    pub treble: f32,
    pub dereverb_early: f32,
    pub dereverb_late: f32,
    pub eq_match: f32,
    /// Gain of the repaired signal in dB, before `mix`.
    pub output_gain_db: f32,
    /// 0 = input (delayed), 1 = repaired.
    pub mix: f32,
    /// How much of each rebuilt stem replaces the separated one, 0..=1.
    pub blend: [f32; Stem::COUNT],
    /// Scales every `blend`, 0..=1.
    pub master_blend: f32,
    /// True-peak limiter at the end of the chain.
    pub limiter: bool,
    /// Its ceiling in dBTP.
    pub ceiling_db: f32,
    /// Hear only what is changed: output minus input.
    pub delta: bool,
    /// Hear the input, at the output's loudness (gain-matched A/B).
    pub compare: bool,
    /// Hear the input, delayed to the reported latency.
    pub bypass: bool,
}

impl Default for Settings {
    /// The plugin's default parameters.
    fn default() -> Self {
        Self {
            repair: 1.0,
            declip: 1.0,
            declick: 1.0,
            denoise: 0.5,
            bass: 0.0,
            treble: 0.0,
            dereverb_early: 0.0,
            dereverb_late: 0.0,
            eq_match: 0.0,
            output_gain_db: 0.0,
            mix: 1.0,
            blend: [1.0; Stem::COUNT],
            master_blend: 1.0,
            limiter: true,
            ceiling_db: -1.0,
            delta: false,
            compare: false,
            bypass: false,
        }
    }
}

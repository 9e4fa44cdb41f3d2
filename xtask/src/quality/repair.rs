// [cli] The repairs that `quality` measures: the worker's kernels over a whole file, and the plugin's chain in blocks.

use std::sync::Arc;

use uncook::{
    audio::AudioBuffer,
    exchange::{capture::capture_ring, meters::Meters, patch::patch_snapshot},
    realtime::{AudioLink, Chain, Settings, Transport},
    worker::{progress::Progress, restore},
};

/// Samples a block of the live chain.
const BLOCK: usize = 512;

/// What is switched on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// The default settings.
    Default,
    Declick,
    Declip,
    Denoise,
    Bass,
    Treble,
    Dereverb,
    Everything,
}

/// Both results, at the input's length.
pub struct Repaired {
    pub offline: AudioBuffer,
    pub live: AudioBuffer,
}

impl Repair {
    /// Repairs `input` offline and live.
    pub fn both(self, input: &AudioBuffer) -> Repaired {
        Repaired {
            offline: self.offline(input),
            live: self.live(input),
        }
    }

    /// Whether `stage` is part of this.
    fn has(self, stage: Self) -> bool {
        self == stage
            || self == Self::Everything
            || (self == Self::Default
                && matches!(stage, Self::Declick | Self::Declip | Self::Denoise))
    }

    fn amount(self, stage: Self) -> f32 {
        let defaults = Settings::default();
        match (self.has(stage), self, stage) {
            (false, ..) => 0.0,
            (true, Self::Default, Self::Denoise) => defaults.denoise,
            (true, ..) => 1.0,
        }
    }

    fn offline(self, input: &AudioBuffer) -> AudioBuffer {
        let mut audio = input.clone();
        let rate = f64::from(audio.sample_rate);
        let x = &mut audio.channels;
        let (progress, amount) = (&Progress::new(), |stage| self.amount(stage));
        let declip = amount(Self::Declip);
        restore::undo::restore_overflow(x, rate, declip, progress);
        restore::undo::restore_saturation(x, rate, declip, progress);
        restore::declick::restore(x, rate, amount(Self::Declick), progress);
        restore::declip::restore(x, rate, declip, progress);
        restore::denoise::restore(x, rate, amount(Self::Denoise), progress);
        restore::bandwidth::restore_bass(x, rate, amount(Self::Bass), progress);
        restore::bandwidth::restore_treble(x, rate, amount(Self::Treble), progress);
        if self == Self::Everything {
            restore::eq::restore(x, rate, 1.0, progress);
        }
        let room = amount(Self::Dereverb);
        restore::dereverb::restore(x, rate, room, room, progress);
        audio
    }

    fn live(self, input: &AudioBuffer) -> AudioBuffer {
        let amount = |stage| self.amount(stage);
        let settings = Settings {
            declick: amount(Self::Declick),
            declip: amount(Self::Declip),
            denoise: amount(Self::Denoise),
            bass: amount(Self::Bass),
            treble: amount(Self::Treble),
            dereverb_early: amount(Self::Dereverb),
            dereverb_late: amount(Self::Dereverb),
            eq_match: f32::from(u8::from(self == Self::Everything)),
            // Restored peaks exceed full scale: the reference does, too.
            limiter: false,
            ..Settings::default()
        };
        let (capture, _reader) = capture_ring(1);
        let (_publisher, patches) = patch_snapshot();
        let link = AudioLink {
            patches,
            capture,
            meters: Arc::new(Meters::default()),
        };
        let rate = f64::from(input.sample_rate);
        let mut chain = Chain::new(rate, input.channels.len(), link);
        let latency = chain.latency();
        let frames = input.frames() + latency;
        let mut channels = input.channels.clone();
        for channel in &mut channels {
            channel.resize(frames, 0.0);
        }
        for start in (0..frames).step_by(BLOCK) {
            let end = (start + BLOCK).min(frames);
            let mut block: Vec<&mut [f32]> =
                channels.iter_mut().map(|c| &mut c[start..end]).collect();
            chain.process(&mut block, Transport::default(), &settings);
        }
        for channel in &mut channels {
            channel.drain(..latency);
        }
        AudioBuffer::new(channels, input.sample_rate)
    }
}

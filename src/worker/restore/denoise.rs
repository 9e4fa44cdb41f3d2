// [worker] Steady noise over a whole take: what the noise is like is heard first, then taken out.

use realfft::num_complex::Complex;

use crate::{
    realtime::{
        Stage,
        denoise::{WienerGain, floor::NoiseFloor},
        stft::{FrameEngine, FrameKernel, frame_length},
    },
    worker::progress::Progress,
};

/// Blocks between two looks at the cancel switch, in seconds of audio.
const BLOCK_SECONDS: f64 = 0.5;
/// Seconds between snapshots of the noise, and how far ahead the one in use lies: the middle of the
/// window in which floors are sought.
const SNAPSHOT_SECONDS: f64 = 0.25;
const AHEAD_SECONDS: f64 = 1.5;
const MEMORY: f32 = 0.85;
const LEAST_GAIN: f32 = 0.12;

/// Reduces steady noise. `channels` are 1..=2 planar channels at `sample_rate` Hz, changed in place;
/// `amount` 0..=1. A take without steady noise comes back bit for bit. `false` if cancelled.
pub fn restore(
    channels: &mut [Vec<f32>],
    sample_rate: f64,
    amount: f32,
    progress: &Progress,
) -> bool {
    if amount <= 0.0 {
        return !progress.is_cancelled();
    }
    let frame = frame_length(sample_rate);
    let hop = frame / 4;
    let every = ((SNAPSHOT_SECONDS * sample_rate / hop as f64) as usize).max(1);
    let mut listener = Listener {
        floor: NoiseFloor::live(sample_rate, frame, hop),
        power: vec![0.0; frame / 2 + 1],
        every,
        frames: 0,
        snapshots: Vec::new(),
    };
    let mut heard = channels.to_vec();
    if !run_kernel(&mut listener, frame, 1.0, &mut heard, sample_rate, progress) {
        return false;
    }
    let mut snapshots = listener.snapshots;
    // Before the first evidence the noise was there, too: it is what was found first.
    let Some(first) = snapshots.iter().position(Option::is_some) else {
        return true;
    };
    let found = snapshots[first].clone();
    let until_known = ((3.0 / SNAPSHOT_SECONDS) as usize).min(first);
    for s in &mut snapshots[first - until_known..first] {
        s.clone_from(&found);
    }
    // Noise is heard with live frames, whose thresholds are known to hold, and taken out with frames of
    // twice the length, which are sharper between partials: as many bins again, each of twice the power.
    for noise in snapshots.iter_mut().flatten() {
        *noise = (0..=frame)
            .map(|k| noise[k / 2] + noise[k.div_ceil(2)])
            .collect();
    }
    let bins = frame + 1;
    let mut remover = Remover {
        rule: WienerGain::new(bins, MEMORY, LEAST_GAIN),
        snapshots,
        every: every as f64 / 2.0,
        ahead: (AHEAD_SECONDS / SNAPSHOT_SECONDS) as usize,
        frames: 0,
        power: vec![0.0; bins],
        gains: vec![1.0; bins],
    };
    run_kernel(
        &mut remover,
        2 * frame,
        amount,
        channels,
        sample_rate,
        progress,
    )
}

/// First pass: collects the noise.
struct Listener {
    floor: NoiseFloor,
    power: Vec<f32>,
    every: usize,
    frames: usize,
    /// Noise power per bin where there was evidence.
    snapshots: Vec<Option<Vec<f32>>>,
}

impl FrameKernel for Listener {
    fn frame(&mut self, spectra: &mut [Vec<Complex<f32>>], _: f32) -> bool {
        crate::realtime::denoise::mean_power(spectra, &mut self.power);
        let gate = self.floor.update(&self.power);
        if self.frames.is_multiple_of(self.every) {
            self.snapshots
                .push((gate >= 1.0).then(|| self.floor.noise().to_vec()));
        }
        self.frames += 1;
        false
    }

    fn reset(&mut self) {
        self.floor.reset();
        self.frames = 0;
        self.snapshots.clear();
    }
}

/// Second pass: takes it out.
struct Remover {
    rule: WienerGain,
    snapshots: Vec<Option<Vec<f32>>>,
    /// Frames from snapshot to snapshot.
    every: f64,
    ahead: usize,
    frames: usize,
    power: Vec<f32>,
    gains: Vec<f32>,
}

impl FrameKernel for Remover {
    fn frame(&mut self, spectra: &mut [Vec<Complex<f32>>], _: f32) -> bool {
        let now = (self.frames as f64 / self.every) as usize;
        self.frames += 1;
        let index = (now + self.ahead).min(self.snapshots.len().saturating_sub(1));
        let Some(Some(noise)) = self.snapshots.get(index) else {
            self.rule.reset();
            return false;
        };
        crate::realtime::denoise::mean_power(spectra, &mut self.power);
        self.rule.gains(&self.power, noise, &mut self.gains);
        for spectrum in spectra {
            for (bin, &g) in spectrum.iter_mut().zip(&self.gains) {
                *bin *= g - 1.0;
            }
        }
        true
    }

    fn reset(&mut self) {
        self.rule.reset();
        self.frames = 0;
    }
}

/// Runs `kernel` over a take with 75 % overlap, latency trimmed. `false` if cancelled.
pub(super) fn run_kernel(
    kernel: &mut impl FrameKernel,
    frame: usize,
    amount: f32,
    channels: &mut [Vec<f32>],
    sample_rate: f64,
    progress: &Progress,
) -> bool {
    let mut engine = FrameEngine::new(frame, 4, 0, sample_rate, channels.len());
    engine.set_intensity(amount);
    engine.reset();
    let latency = engine.latency();
    stream(channels, latency, sample_rate, progress, |block| {
        engine.process(block, kernel)
    })
}

/// Runs a stage over a take from its settled start, latency trimmed. `false` if cancelled.
pub(super) fn run(
    mut stage: impl Stage,
    channels: &mut [Vec<f32>],
    sample_rate: f64,
    progress: &Progress,
) -> bool {
    let latency = stage.latency();
    stream(channels, latency, sample_rate, progress, |block| {
        stage.process(block)
    })
}

pub(super) fn stream(
    channels: &mut [Vec<f32>],
    latency: usize,
    sample_rate: f64,
    progress: &Progress,
    mut process: impl FnMut(&mut [&mut [f32]]),
) -> bool {
    let length = channels.iter().map(Vec::len).min().unwrap_or(0);
    for channel in channels.iter_mut() {
        channel.truncate(length);
        channel.resize(length + latency, 0.0);
    }
    let step = ((BLOCK_SECONDS * sample_rate) as usize).max(1);
    let mut at = 0;
    while at < length + latency {
        if progress.is_cancelled() {
            return false;
        }
        let end = (at + step).min(length + latency);
        let mut block: Vec<&mut [f32]> = channels.iter_mut().map(|c| &mut c[at..end]).collect();
        process(&mut block);
        at = end;
    }
    for channel in channels.iter_mut() {
        channel.drain(..latency);
    }
    true
}

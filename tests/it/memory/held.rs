//! A stand-in for the analysis and a track that plays to the engine, for all that counts what audio takes.

use std::sync::Arc;

use uncook::{
    audio::AudioBuffer,
    cache::Cache,
    exchange::{
        SamplePos,
        capture::{CaptureTap, capture_ring},
        patch::{PatchReader, patch_snapshot},
    },
    worker::{
        ahead,
        engine::{Engine, Instance},
        options::Options,
        pipeline::{Outcome, PipelineError},
        progress::Progress,
        road::Road,
        view::Findings,
    },
};

use crate::support::{LIMIT, Noise, options, wait_for};

pub const RATE: u32 = 48_000;

/// Gives at once what an analysis would give: a restored mix that differs from the take in every sample, four stems,
/// and drums and bass rebuilt in one fifth of the song.
pub struct Given;

/// Whether something is rebuilt there: 6 s in every 30.
fn rebuilt(n: usize) -> bool {
    (n / RATE as usize) % 30 >= 24
}

impl Road for Given {
    fn run(
        &self,
        take: &AudioBuffer,
        _options: &Options,
        _cache: Option<&Cache>,
        _progress: &Progress,
    ) -> Result<Outcome, PipelineError> {
        let made = |f: &dyn Fn(usize, f32) -> f32| {
            let channels = take.channels.iter();
            let channels = channels
                .map(|c| c.iter().enumerate().map(|(n, x)| f(n, *x)).collect())
                .collect();
            AudioBuffer::new(channels, take.sample_rate)
        };
        let layer = |gain: f32| made(&|n, x| if rebuilt(n) { gain * x } else { 0.0 });
        Ok(Outcome {
            base: made(&|_, x| 0.93 * x),
            stems: [0.4, 0.3, 0.2, 0.03].map(|gain| made(&|_, x| gain * x)),
            parts: Vec::new(),
            layers: [Some(layer(0.21)), Some(layer(-0.17)), None, None],
            findings: Findings::default(),
            separators: Vec::new(),
            rebuilders: Vec::new(),
        })
    }

    fn ahead(
        &self,
        _take: &ahead::Take<'_>,
        _options: &Options,
        _cache: &Cache,
        _progress: &Progress,
    ) -> Result<(), PipelineError> {
        Ok(())
    }
}

pub struct Track {
    tap: CaptureTap,
    pub patches: PatchReader,
    pub instance: Instance,
}

pub fn track(engine: &Arc<Engine>) -> Track {
    // Half a minute and more.
    let (mut tap, reader) = capture_ring(1 << 21);
    tap.set_sample_rate(RATE);
    let (publisher, patches) = patch_snapshot();
    let instance = engine.connect(reader, publisher);
    instance.set_sample_rate(RATE);
    instance.set_options(&options());
    Track {
        tap,
        patches,
        instance,
    }
}

/// What is played, sample by sample.
pub type Sound = Box<dyn FnMut() -> [f32; 2]>;

/// Noise of which no sample fits 24 bits.
pub fn noise(seed: u64) -> Sound {
    let mut noise = Noise(seed);
    Box::new(move || [0.3 * noise.next(), 0.3 * noise.next()])
}

/// The same noise on both channels.
pub fn equal_channels(seed: u64) -> Sound {
    let mut noise = Noise(seed);
    Box::new(move || [0.3 * noise.next(); 2])
}

/// Noise as files of so many bits hold it.
pub fn quantised(seed: u64, bits: i32) -> Sound {
    let mut noise = noise(seed);
    let steps = 2f32.powi(bits - 1);
    // A file knows no -0.
    Box::new(move || noise().map(|x| (x * steps).round() / steps + 0.0))
}

impl Track {
    /// Plays so many seconds, faster than a clock but hardly faster than they are collected. Of what is played again
    /// nothing says how much was collected: the ring has room for it.
    pub fn play(&mut self, start: SamplePos, seconds: usize, sound: &mut Sound) {
        let again = !self.instance.view().takes.iter().all(|t| {
            let end = t.start.offset(t.frames as i64);
            start < t.start || end <= start
        });
        let behind = if again { 30 } else { 1 };
        for second in 0..seconds {
            for n in 0..RATE as usize {
                let [left, right] = sound();
                let n = (second * RATE as usize + n) as i64;
                self.tap.push(start.offset(n), left, right);
            }
            let captured = (second.saturating_sub(behind) * RATE as usize) as u64;
            wait_for(|| {
                let view = self.instance.view();
                let take = view.takes.iter().find(|t| t.start == start);
                let frames = take.map_or(0, |t| t.frames);
                let full = view.problems.iter().any(|p| p.words.contains("fill the"));
                (frames >= captured || full).then_some(())
            });
        }
        self.tap.stop();
        assert!(self.instance.wait_idle(LIMIT));
        while self.patches.has_next() && self.patches.advance() {}
    }
}

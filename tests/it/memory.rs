//! What an instance holds of a long song: the take that was captured, and the patch that repairs it.

use std::{sync::Arc, time::Duration};

use uncook::{
    audio::AudioBuffer,
    cache::Cache,
    exchange::{
        SamplePos,
        capture::{CaptureTap, capture_ring},
        patch::{PatchReader, patch_snapshot},
        samples::held_bytes,
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

use super::support::{LIMIT, Noise, options, wait_for};

const RATE: u32 = 48_000;

/// Gives at once what an analysis would give: a restored mix that differs from the take in every sample, four stems,
/// and drums and bass rebuilt in one fifth of the song.
struct Given;

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

struct Track {
    tap: CaptureTap,
    patches: PatchReader,
    instance: Instance,
}

fn track(engine: &Arc<Engine>) -> Track {
    let (mut tap, reader) = capture_ring(1 << 18);
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

impl Track {
    /// Plays noise of so many seconds, faster than a clock but no faster than it is collected.
    fn play(&mut self, seconds: usize, seed: u64, mono: bool) {
        let mut noise = Noise(seed);
        for second in 0..seconds {
            for n in 0..RATE as usize {
                // No sample fits 24 bits.
                let left = 0.3 * noise.next();
                let right = if mono { left } else { 0.3 * noise.next() };
                let pos = SamplePos((second * RATE as usize + n) as i64);
                self.tap.push(pos, left, right);
            }
            let captured = (second * RATE as usize).saturating_sub(2 * RATE as usize) as u64;
            wait_for(|| {
                let view = self.instance.view();
                let frames = view.takes.first().map_or(0, |t| t.frames);
                (frames >= captured).then_some(())
            });
        }
        self.tap.stop();
        assert!(self.instance.wait_idle(LIMIT));
        self.patches.has_next();
        assert!(self.patches.advance());
    }
}

/// A line of what the system says about this process, in MB.
fn resident_mb(line: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with(line)).unwrap();
    let kb: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kb / 1024.0
}

/// Prints what instances take that hold 8 minutes each.
fn eight_minutes(mono: bool) {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::with_road(folder.path().to_owned(), Arc::new(Given));
    let before = resident_mb("VmRSS:");
    let mut tracks = Vec::new();
    for seed in 1..=3 {
        let mut track = track(&engine);
        track.play(480, seed, mono);
        tracks.push(track);
        std::thread::sleep(Duration::from_millis(500));
        println!(
            "{seed} x 8 minutes, equal channels: {mono}: {:.0} MB in samples, {:.0} MB resident, at most {:.0} MB",
            held_bytes() as f64 / 1e6,
            resident_mb("VmRSS:") - before,
            resident_mb("VmHWM:") - before
        );
    }
}

#[test]
#[ignore = "a measurement, alone in its process: 8 minutes of audio"]
fn eight_minutes_in_stereo() {
    eight_minutes(false);
}

#[test]
#[ignore = "a measurement, alone in its process: 8 minutes of audio"]
fn eight_minutes_in_mono() {
    eight_minutes(true);
}

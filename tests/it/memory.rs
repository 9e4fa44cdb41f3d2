//! What an instance holds of a long song: the take that was captured, and the patch that repairs it.

use std::{path::Path, sync::Arc, time::Duration};

use uncook::{
    audio::AudioBuffer,
    cache::Cache,
    damage::Stem,
    exchange::{
        SamplePos,
        capture::{CaptureTap, capture_ring},
        patch::{PatchReader, patch_snapshot},
        samples::{BLOCK, held_bytes},
    },
    worker::{
        ahead,
        engine::{Engine, Instance},
        options::{CaptureMode, Options},
        pipeline::{Outcome, PipelineError},
        progress::Progress,
        road::Road,
        session::{Decision, Edits},
        view::Findings,
    },
};

use super::support::{LIMIT, Noise, options, wait_for, with_data_of_its_own};

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
type Sound = Box<dyn FnMut() -> [f32; 2]>;

/// Noise of which no sample fits 24 bits.
fn noise(seed: u64) -> Sound {
    let mut noise = Noise(seed);
    Box::new(move || [0.3 * noise.next(), 0.3 * noise.next()])
}

/// The same noise on both channels.
fn equal_channels(seed: u64) -> Sound {
    let mut noise = Noise(seed);
    Box::new(move || [0.3 * noise.next(); 2])
}

/// Noise as files of so many bits hold it.
fn quantised(seed: u64, bits: i32) -> Sound {
    let mut noise = noise(seed);
    let steps = 2f32.powi(bits - 1);
    // A file knows no -0.
    Box::new(move || noise().map(|x| (x * steps).round() / steps + 0.0))
}

impl Track {
    /// Plays so many seconds, faster than a clock but hardly faster than they are collected. Of what is played again
    /// nothing says how much was collected: the ring has room for it.
    fn play(&mut self, start: SamplePos, seconds: usize, sound: &mut Sound) {
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
                (frames >= captured || !view.problems.is_empty()).then_some(())
            });
        }
        self.tap.stop();
        assert!(self.instance.wait_idle(LIMIT));
        while self.patches.has_next() && self.patches.advance() {}
    }
}

/// A line of what the system says about this process, in MB.
fn resident_mb(line: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with(line)).unwrap();
    let kb: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kb / 1024.0
}

/// Waits until all audio of this process takes `expected` bytes, give or take some blocks.
fn assert_held(expected: usize, what: &str) {
    // Two blocks at the ends of each channel.
    let tolerance = 2 * 20 * 4 * BLOCK;
    for _ in 0..500 {
        if held_bytes().abs_diff(expected) <= tolerance {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{what}: {} bytes, not {expected}", held_bytes());
}

/// Seconds of every song of these tests.
const SECONDS: usize = 30;
/// One buffer of them in stereo, and the part of one in which something is rebuilt.
const BUFFER: usize = 8 * SECONDS * RATE as usize;
const REBUILT: usize = BUFFER / 5;

#[test]
fn what_is_the_same_is_held_once() {
    // In a process of its own: it counts all audio that is held there.
    let test = "memory::what_is_the_same_is_held_once";
    with_data_of_its_own(test, |_| (), the_same_is_held_once);
}

fn the_same_is_held_once(folder: &Path) {
    let start = SamplePos(10_000);
    let engine = Engine::with_road(folder.to_owned(), Arc::new(Given));
    let listening = 4 * BUFFER;
    let mut first = track(&engine);
    first.play(start, SECONDS, &mut noise(1));
    let song = 2 * BUFFER + 2 * REBUILT;
    assert_held(song + listening, "take, base, two layers, four stems");
    let session = first.instance.session();
    drop(first);
    assert_held(0, "nothing");

    // A project that is opened and played again, from somewhere: the take is the patch's.
    let mut again = track(&engine);
    again.instance.load_session(&session);
    assert_held(song, "from a file");
    let mut sound = noise(1);
    for _ in 0..5 * RATE {
        sound();
    }
    let later = start.offset(5 * i64::from(RATE));
    again.play(later, SECONDS - 5, &mut sound);
    assert_eq!(again.instance.session(), session);
    assert_held(song, "played again");
    // Decisions and listening copy what they change, no more.
    let mut edits = Edits::default();
    edits.decide(Decision {
        stem: Stem::Bass,
        start: start.offset(26 * i64::from(RATE)),
        end: start.offset(28 * i64::from(RATE)),
        percent: 0,
    });
    again.instance.set_edits(&edits);
    wait_for(|| (again.patches.has_next() && again.patches.advance()).then_some(()));
    assert_held(
        song,
        "one span refused: its blocks are silent, those of its fades are copied",
    );
    drop(again);

    let mut mono = track(&engine);
    mono.play(start, SECONDS, &mut equal_channels(2));
    assert_held((song + listening) / 2, "equal channels");
    drop(mono);
    for bits in [16, 24] {
        let mut few = track(&engine);
        few.play(start, SECONDS, &mut quantised(3, bits));
        let saved = BUFFER - BUFFER * bits as usize / 32;
        assert_held(song + listening - saved, "a take of few bits");
    }
}

#[test]
fn at_the_budget_stems_go_first_and_then_nothing_more_is_captured() {
    let test = "memory::at_the_budget_stems_go_first_and_then_nothing_more_is_captured";
    with_data_of_its_own(test, |_| (), the_budget_is_kept);
}

fn the_budget_is_kept(folder: &Path) {
    let song = 2 * BUFFER + 2 * REBUILT;
    let budget = song + BUFFER / 2;
    let engine = Engine::with_budget(folder.to_owned(), Arc::new(Given), budget);
    let mut track = track(&engine);
    track.play(SamplePos(0), SECONDS, &mut noise(1));
    assert_held(song, "without stems");
    assert!(!track.instance.view().takes[0].stems_at_hand);
    assert!(track.instance.view().problems.is_empty());
    // Manual: a second song is captured until the budget is reached.
    track.instance.set_options(&Options {
        capture: CaptureMode::Manual,
        ..options()
    });
    track.play(SamplePos(10_000_000), SECONDS, &mut noise(2));
    let problems = wait_for(|| {
        let problems = track.instance.view().problems.clone();
        (!problems.is_empty()).then_some(problems)
    });
    assert!(problems[0].words.contains("fill the"), "{problems:?}");
    // And what had come at once.
    let over = held_bytes().saturating_sub(budget);
    assert!(over < 4 * 8 * RATE as usize, "{over} bytes too many");
    let view = track.instance.view();
    assert_eq!(view.takes.len(), 2);
    assert!(view.takes[1].frames < u64::from(RATE) * SECONDS as u64);
    // What plays is what played.
    assert_eq!(track.patches.current().patches().len(), 1);
}

/// Prints what instances take that hold 8 minutes each.
fn eight_minutes(what: &str, sound: fn(u64) -> Sound) {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::with_road(folder.path().to_owned(), Arc::new(Given));
    let before = resident_mb("VmRSS:");
    let mut tracks = Vec::new();
    for seed in 1..=3 {
        let mut track = track(&engine);
        track.play(SamplePos(0), 480, &mut sound(seed));
        tracks.push(track);
        std::thread::sleep(Duration::from_millis(500));
        println!(
            "{seed} x 8 minutes, {what}: {:.0} MB in samples, {:.0} MB resident, at most {:.0} MB",
            held_bytes() as f64 / 1e6,
            resident_mb("VmRSS:") - before,
            resident_mb("VmHWM:") - before
        );
    }
}

#[test]
#[ignore = "a measurement, alone in its process: 24 minutes of audio"]
fn eight_minutes_in_stereo() {
    eight_minutes("stereo", noise);
}

#[test]
#[ignore = "a measurement, alone in its process: 24 minutes of audio"]
fn eight_minutes_of_16_bits() {
    eight_minutes("16 bits", |seed| quantised(seed, 16));
}

#[test]
#[ignore = "a measurement, alone in its process: 24 minutes of audio"]
fn eight_minutes_with_equal_channels() {
    eight_minutes("equal channels", equal_channels);
}

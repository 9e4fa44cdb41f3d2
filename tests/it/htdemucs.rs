//! HTDemucs against what PyTorch and the `demucs` package computed for small random networks.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use candle_core::Device;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use uncook::{
    audio::AudioBuffer,
    damage::Stem,
    dense::pool::{PerWorker, Pool},
    separation::{
        Growing, NoShelf, Piece, SeparationError, Separator, Shelf,
        htdemucs::{
            HtDemucs, ModelError, Settings,
            device::DeviceNet,
            file::ModelFile,
            grid::Overlap,
            net::{Net, Probe},
            offsets,
            work::{Context, Scratch},
        },
    },
    worker::progress::Progress,
};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/htdemucs")
        .join(name)
}

fn floats(view: &TensorView<'_>) -> Vec<f32> {
    assert_eq!(view.dtype(), Dtype::F32);
    let bytes = view.data().chunks_exact(4);
    bytes
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect()
}

/// Shape and values of every tensor of a golden file.
fn golden(name: &str) -> Tensors {
    let bytes = std::fs::read(path(name)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.tensors()
        .iter()
        .map(|(name, view)| (name.clone(), (view.shape().to_vec(), floats(view))))
        .collect()
}

/// Largest difference as a share of the reference's peak.
fn difference(reference: &[f32], ours: &[f32]) -> f32 {
    assert_eq!(reference.len(), ours.len());
    let peak = reference.iter().fold(0.0f32, |a, x| a.max(x.abs()));
    let pairs = reference.iter().zip(ours);
    let worst = pairs.fold(0.0f32, |a, (x, y)| {
        let d = (x - y).abs();
        if d.is_nan() { f32::INFINITY } else { a.max(d) }
    });
    worst / peak
}

/// The signal of `make_golden.py`: a linear congruential generator and triangles in whole numbers.
fn signal(samples: usize) -> Vec<Vec<f32>> {
    let mut state = 12_345u32;
    let mut out = [(); 2].map(|()| Vec::with_capacity(samples)).to_vec();
    for n in 0..samples as i64 {
        for (channel, period) in out.iter_mut().zip([97, 211]) {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = i64::from(state >> 16) - 32_768;
            let phase = n % period;
            let triangle = 2 * phase.min(period - phase) * 65_536 / period - 32_768;
            channel.push((noise + 3 * triangle) as f32 / 524_288.0);
        }
    }
    out
}

fn settings(threads: usize) -> Settings {
    Settings {
        threads,
        ..Settings::default()
    }
}

fn tiny(settings: Settings) -> HtDemucs {
    HtDemucs::open("tiny", &[path("tinyA.weights.safetensors")], settings).unwrap()
}

/// Every source, one after the other, channels one after the other.
fn sources(model: &HtDemucs, channels: Vec<Vec<f32>>, shelf: &dyn Shelf) -> Vec<Vec<f32>> {
    let mix = AudioBuffer::new(channels, 44_100);
    let (sources, notes) = model.sources_of(&mix, shelf, &Progress::new()).unwrap();
    assert!(notes.is_empty(), "{notes:?}");
    sources.into_iter().flat_map(|s| s.channels).collect()
}

type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// What a golden file's network hears.
fn input_of(golden: &Tensors, segment: usize) -> Vec<Vec<f32>> {
    match golden.get("input") {
        Some((_, input)) => {
            let (left, right) = input.split_at(input.len() / 2);
            vec![left.to_vec(), right.to_vec()]
        }
        None => signal(segment),
    }
}

/// Whether every tensor of a golden file that `wanted` names was seen as it is there.
fn compare(golden: &Tensors, seen: &Tensors, limit: f32, wanted: impl Fn(&str) -> bool) -> usize {
    let mut compared = 0;
    for (key, (_, reference)) in golden.iter().filter(|(key, _)| *key != "input") {
        // Some are stored thinned: every 16th row of `[c][row][t]`, every 4th sample of `[c][t]`.
        let (base, rows, samples) = match key.rsplit_once(".every") {
            Some((base, "16")) => (base, 16, 1),
            Some((base, step)) => (base, 1, step.parse().unwrap()),
            None => (key.as_str(), 1, 1),
        };
        if !wanted(base) {
            continue;
        }
        let (shape, ours) = &seen[base];
        let len = *shape.last().unwrap();
        let lines = ours.chunks(len).enumerate();
        let kept = lines.filter(|(i, _)| i % rows == 0);
        let ours: Vec<f32> = kept
            .flat_map(|(_, line)| line.iter().step_by(samples).copied())
            .collect();
        let error = difference(reference, &ours);
        assert!(error <= limit, "{key}: {error:e}");
        compared += 1;
    }
    compared
}

/// Runs a pass that shows its layers, on a number of threads; the result's samples stand under "output".
fn watched(
    threads: usize,
    pass: impl FnOnce(&Context<'_>, Probe<'_>) -> Result<Vec<Vec<Vec<f32>>>, ModelError>,
) -> Tensors {
    let pool = Pool::new(threads);
    let context = Context {
        pool: &pool,
        cancelled: &|| false,
        scratch: &PerWorker::new(pool.threads(), Scratch::default),
    };
    let mut seen = Tensors::new();
    let mut probe = |name: &str, shape: &[usize], values: Vec<f32>| {
        seen.insert(format!("act.{name}"), (shape.to_vec(), values));
    };
    let out = pass(&context, &mut probe).unwrap();
    let out: Vec<f32> = out.into_iter().flatten().flatten().collect();
    seen.insert("output".into(), (vec![out.len()], out));
    seen
}

#[test]
fn every_layer_is_the_references() {
    for name in ["tinyA", "tinyB", "hdemucs"] {
        let golden = golden(&format!("{name}.golden.safetensors"));
        let file = ModelFile::open(&path(&format!("{name}.weights.safetensors"))).unwrap();
        let net = Net::load(&file, file.hyper.clone()).unwrap();
        let mut work = net.workspace().unwrap();
        let mix = input_of(&golden, net.hyper().segment_samples);
        let mut last = None;
        for threads in [1, 3] {
            let mut seen = watched(threads, |context, probe| {
                net.forward(&mix, &mut work, context, Some(probe))
            });
            let compared = compare(&golden, &seen, 1e-5, |_| true);
            assert_eq!(
                compared,
                golden.len() - usize::from(golden.contains_key("input"))
            );
            // The same bits for any number of threads.
            let out = seen.remove("output");
            assert!(last.replace(out.clone()).is_none_or(|before| before == out));
        }
    }
}

/// The graph for graphics processors, here on candle's processor.
#[test]
fn candles_layers_are_the_references() {
    for name in ["tinyA", "tinyB"] {
        let golden = golden(&format!("{name}.golden.safetensors"));
        let file = ModelFile::open(&path(&format!("{name}.weights.safetensors"))).unwrap();
        let net = DeviceNet::load(&file, file.hyper.clone(), &Device::Cpu).unwrap();
        let mix = input_of(&golden, file.hyper.segment_samples);
        let seen = watched(2, |context, probe| net.forward(&mix, context, Some(probe)));
        let unseen = ["act.cac", "act.tr.in.", "act.tr.layers."];
        let wanted = |key: &str| !unseen.iter().any(|start| key.starts_with(start));
        let compared = compare(&golden, &seen, 2e-5, wanted);
        assert_eq!(compared, if name == "tinyA" { 19 } else { 3 });
    }
    // What the device can't run is done by the processor, and a note says so.
    let merged = || {
        let weights = path("hdemucs.weights.safetensors");
        HtDemucs::open("tiny", &[weights], settings(2)).unwrap()
    };
    let mix = AudioBuffer::new(signal(30_000), 44_100);
    let sources = |model: HtDemucs| {
        let done = model.sources_of(&mix, &NoShelf, &Progress::new());
        done.unwrap()
    };
    let (ours, notes) = sources(merged().with_candle(Device::Cpu));
    assert_eq!((ours, Vec::new()), sources(merged()));
    assert!(
        notes.len() == 1 && notes[0].contains("without a transformer"),
        "{notes:?}"
    );
    // And the whole of a signal.
    let (candle, notes) = sources(tiny(settings(2)).with_candle(Device::Cpu));
    assert_eq!(notes, [""; 0]);
    for (a, b) in sources(tiny(settings(2))).0.iter().zip(&candle) {
        let error = difference(&a.channels.concat(), &b.channels.concat());
        assert!(error <= 2e-5, "{error:e}");
    }
}

#[test]
fn whole_signals_are_the_packages() {
    let golden = golden("apply.safetensors");
    let input = signal(30_000);
    for (c, channel) in input.iter().enumerate() {
        assert_eq!(channel[..64], golden["input"].1[c * 64..(c + 1) * 64]);
    }
    let shifted = Settings {
        offsets: vec![11_025],
        ..settings(2)
    };
    let steep = Settings {
        overlap: Overlap {
            share: 0.1,
            power: 2.0,
        },
        ..settings(2)
    };
    for (name, settings) in [
        ("shifts0", settings(2)),
        ("shifts1", shifted),
        ("overlap10", steep),
    ] {
        let ours = sources(&tiny(settings), input.clone(), &NoShelf);
        let thin: Vec<f32> = ours
            .iter()
            .flat_map(|c| c.iter().step_by(4).copied())
            .collect();
        let error = difference(&golden[name].1, &thin);
        assert!(error <= 1e-5, "{name}: {error:e}");
    }
    for samples in [1777, 5000] {
        let cut = input.iter().map(|c| c[..samples].to_vec()).collect();
        let ours = sources(&tiny(settings(2)), cut, &NoShelf).concat();
        let error = difference(&golden[&format!("len{samples}")].1, &ours);
        assert!(error <= 1e-5, "{samples} samples: {error:e}");
    }
}

#[test]
fn the_network_without_transformer_is_the_references() {
    let golden = golden("hdemucs.apply.safetensors");
    let file = path("hdemucs.weights.safetensors");
    for threads in [1, 3] {
        let model =
            HtDemucs::open("hdemucs", std::slice::from_ref(&file), settings(threads)).unwrap();
        // The last chunk is short, and so is a whole signal of 3001 samples: heard as they are.
        for (name, samples, step) in [("whole", 40_000, 8), ("len3001", 3001, 2)] {
            let ours: Vec<f32> = sources(&model, signal(samples), &NoShelf)
                .iter()
                .flat_map(|channel| channel.iter().step_by(step).copied())
                .collect();
            let error = difference(&golden[name].1, &ours);
            assert!(error <= 1e-5, "{name}: {error:e}");
        }
    }
    let model = HtDemucs::open("hdemucs", &[file], settings(2)).unwrap();
    for samples in [1, 2, 64, 255] {
        let made = sources(&model, signal(samples), &NoShelf);
        assert!(made.iter().flatten().all(|x| x.is_finite()), "{samples}");
    }
}

#[test]
fn a_second_opening_uses_what_the_first_one_kept() {
    for name in ["tinyA", "hdemucs"] {
        let desk = tempfile::tempdir().unwrap();
        let (file, copies) = (
            desk.path().join("m.safetensors"),
            desk.path().join("copies"),
        );
        std::fs::copy(path(&format!("{name}.weights.safetensors")), &file).unwrap();
        let open = |copies: Option<&Path>| {
            HtDemucs::open("kept", std::slice::from_ref(&file), settings(2))
                .unwrap()
                .with_copies(copies.map(Path::to_owned))
        };
        let input = || signal(6000);
        let plain = sources(&open(None), input(), &NoShelf);
        assert!(plain == sources(&open(Some(&copies)), input(), &NoShelf));
        let copy = || {
            let files = std::fs::read_dir(&copies)
                .unwrap()
                .map(|f| f.unwrap().path());
            let mut copies = files.filter(|f| f.extension().is_some_and(|e| e == "safetensors"));
            (copies.next().unwrap(), copies.next())
        };
        assert!(copy().1.is_none());
        // A damaged copy is made anew.
        let made = std::fs::read(copy().0).unwrap();
        std::fs::write(copy().0, &made[..made.len() / 2]).unwrap();
        assert!(plain == sources(&open(Some(&copies)), input(), &NoShelf));
        assert!(made == std::fs::read(copy().0).unwrap(), "{name}");
        // The file's own tensors aren't read any more: they are gone, its length and its time are not.
        let mut bytes = std::fs::read(&file).unwrap();
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        bytes[8 + header..].fill(0);
        let time = std::fs::metadata(&file).unwrap().modified().unwrap();
        std::fs::write(&file, bytes).unwrap();
        let handle = std::fs::File::options().write(true).open(&file).unwrap();
        handle.set_modified(time).unwrap();
        assert!(plain != sources(&open(None), input(), &NoShelf), "{name}");
        assert!(
            plain == sources(&open(Some(&copies)), input(), &NoShelf),
            "{name}"
        );
    }
    // Where nothing can be kept a note says so, and the stems come all the same.
    let model = tiny(settings(2)).with_copies(Some(path("tinyA.th").join("below")));
    let mix = AudioBuffer::new(signal(6000), 44_100);
    let (_, notes) = model.sources_of(&mix, &NoShelf, &Progress::new()).unwrap();
    assert!(
        notes.len() == 1 && notes[0].contains("can't be kept"),
        "{notes:?}"
    );
}

#[test]
fn the_authors_form_gives_what_safetensors_gives() {
    let input = signal(6000);
    let pickle = HtDemucs::open("tiny", &[path("tinyA.th")], settings(2)).unwrap();
    assert_eq!(pickle.sources(), ["drums", "bass", "other", "vocals"]);
    let a = sources(&pickle, input.clone(), &NoShelf);
    assert!(a == sources(&tiny(settings(2)), input, &NoShelf));
}

/// A shelf in memory that counts.
#[derive(Default)]
struct Memory {
    pieces: Mutex<BTreeMap<String, Vec<AudioBuffer>>>,
    hits: AtomicUsize,
}

fn name(piece: &Piece<'_>) -> String {
    let bits = |c: &&[f32]| c.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let heard: Vec<Vec<u32>> = piece.heard.iter().map(bits).collect();
    format!("{} {:?} {heard:?}", piece.id, piece.numbers)
}

impl Shelf for Memory {
    fn find(&self, piece: &Piece<'_>) -> Option<Vec<AudioBuffer>> {
        let found = self.pieces.lock().unwrap().get(&name(piece)).cloned();
        self.hits
            .fetch_add(usize::from(found.is_some()), Ordering::Relaxed);
        found
    }

    fn keep(&self, piece: &Piece<'_>, buffers: &[AudioBuffer]) {
        let mut pieces = self.pieces.lock().unwrap();
        assert!(pieces.insert(name(piece), buffers.to_vec()).is_none());
    }
}

#[test]
fn kept_pieces_join_to_exactly_the_whole() {
    // 9 chunks of 3749 samples: two pieces.
    let input = signal(33_000);
    let model = tiny(settings(2));
    let whole = sources(&model, input.clone(), &NoShelf);
    let shelf = Memory::default();
    assert!(sources(&model, input.clone(), &shelf) == whole);
    assert_eq!(shelf.pieces.lock().unwrap().len(), 2);
    assert_eq!(shelf.hits.load(Ordering::Relaxed), 0);
    assert!(sources(&model, input.clone(), &shelf) == whole);
    assert_eq!(shelf.hits.load(Ordering::Relaxed), 2);
    // One piece lost: the other one serves.
    let first = shelf.pieces.lock().unwrap().keys().next().unwrap().clone();
    shelf.pieces.lock().unwrap().remove(&first);
    assert!(sources(&model, input.clone(), &shelf) == whole);
    assert_eq!(shelf.hits.load(Ordering::Relaxed), 3);
    // Another model's pieces are not taken.
    let other = HtDemucs::open("tiny", &[path("tinyA.th")], settings(2)).unwrap();
    assert!(sources(&other, input, &shelf) == whole);
    assert_eq!(shelf.hits.load(Ordering::Relaxed), 3);
}

/// A recording of which more and more is settled.
struct Recording {
    whole: AudioBuffer,
    settled: usize,
    before: usize,
}

impl Growing for Recording {
    fn sample_rate(&self) -> u32 {
        self.whole.sample_rate
    }

    fn channels(&self) -> usize {
        self.whole.channels.len()
    }

    fn settled(&self) -> usize {
        self.settled
    }

    fn before(&self) -> usize {
        self.before
    }

    fn part(&self, range: std::ops::Range<usize>) -> Result<AudioBuffer, SeparationError> {
        assert!(range.end <= self.settled, "{range:?} is not settled");
        Ok(self.whole.slice(range.start, range.len()))
    }
}

#[test]
fn pieces_made_ahead_are_those_that_the_whole_needs() {
    // Pieces of 19 995 samples every 18 745, and a level of one second.
    let short = |offsets: &[usize]| {
        tiny(Settings {
            level_seconds: 1,
            offsets: offsets.to_vec(),
            ..settings(2)
        })
    };
    for (rate, offsets, certain) in [
        (44_100, &[][..], 5),
        (48_000, &[][..], 4),
        (22_050, &[][..], 10),
        (44_100, &[9000, 22_050][..], 10),
    ] {
        let model = short(offsets);
        let mix = AudioBuffer::new(signal(100_000), rate);
        let (whole, _) = model.sources_of(&mix, &NoShelf, &Progress::new()).unwrap();
        let shelf = Memory::default();
        let mut growing = Recording {
            whole: mix.clone(),
            settled: 0,
            before: 0,
        };
        let mut found = 0;
        for settled in [30_000, 44_000, 60_000, 99_000] {
            (growing.before, growing.settled) = (growing.settled, settled);
            found = model
                .separate_ahead(&growing, &shelf, &Progress::new())
                .unwrap();
            // Nothing before the level is known; everything that is certain is there, and made once.
            assert_eq!(
                shelf.pieces.lock().unwrap().len(),
                found,
                "{rate} {settled}"
            );
            if (settled as u32) < rate {
                assert_eq!(found, 0);
            }
        }
        assert_eq!(found, certain, "{rate} {offsets:?}");
        let (joined, _) = model.sources_of(&mix, &shelf, &Progress::new()).unwrap();
        assert!(joined == whole, "{rate} {offsets:?}");
        assert_eq!(
            shelf.hits.load(Ordering::Relaxed),
            found,
            "{rate} {offsets:?}"
        );
        // A second look makes nothing again: the shelf would not take a piece twice.
        growing.before = 0;
        model
            .separate_ahead(&growing, &shelf, &Progress::new())
            .unwrap();
    }
}

/// The level of the first part in place of the whole recording's: what that changes against the reference.
#[test]
fn the_level_of_the_beginning_gives_the_references_stems() {
    // 2.3 s that become four times as loud after one.
    let mut input = signal(100_000);
    for channel in &mut input {
        channel[44_100..].iter_mut().for_each(|x| *x *= 4.0);
    }
    let with = |level_seconds| {
        let model = tiny(Settings {
            level_seconds,
            ..settings(2)
        });
        sources(&model, input.clone(), &NoShelf)
    };
    for (reference, ours) in with(1000).iter().zip(&with(1)) {
        let error = difference(reference, ours);
        assert!(error <= 1e-4, "{error:e}");
    }
}

#[test]
fn stems_sum_to_the_mix_at_any_rate_and_channel_count() {
    let model = tiny(settings(2));
    let long = signal(9000);
    for (rate, len) in [
        (8000, 3000),
        (44_100, 9000),
        (48_000, 6001),
        (96_000, 5000),
        (44_100, 1),
        (44_100, 0),
    ] {
        for channels in [1, 2] {
            let channels = long[..channels].iter().map(|c| c[..len].to_vec()).collect();
            let mut mix = AudioBuffer::new(channels, rate);
            if let Some(x) = mix.channels[0].get_mut(100) {
                *x = f32::NAN;
            }
            let stems = model.separate(&mix, &Progress::new()).unwrap();
            for stem in &stems {
                assert_eq!((stem.sample_rate, stem.frames()), (rate, len));
                assert_eq!(stem.channels.len(), mix.channels.len());
                assert!(stem.channels.iter().flatten().all(|x| x.is_finite()));
            }
            for (c, channel) in mix.channels.iter().enumerate() {
                for (n, x) in channel.iter().enumerate().filter(|(_, x)| x.is_finite()) {
                    let sum: f32 = stems.iter().map(|s| s.channels[c][n]).sum();
                    assert!((sum - x).abs() < 1e-6, "{rate} Hz, sample {n}");
                }
            }
        }
    }
}

#[test]
fn a_mono_take_hears_what_equal_channels_hear() {
    let model = tiny(settings(2));
    let left = signal(6000).swap_remove(0);
    let one = sources(&model, vec![left.clone()], &NoShelf);
    let two = sources(&model, vec![left.clone(), left], &NoShelf);
    assert_eq!((one.len(), two.len()), (4, 8));
    for (one, pair) in one.iter().zip(two.chunks(2)) {
        let mean: Vec<f32> = pair[0]
            .iter()
            .zip(&pair[1])
            .map(|(a, b)| 0.5 * (a + b))
            .collect();
        assert!(difference(&mean, one) < 1e-6);
    }
}

#[test]
fn six_sources_fold_into_four_stems() {
    let model = HtDemucs::open("tiny6", &[path("tinyB.weights.safetensors")], settings(2)).unwrap();
    assert_eq!(model.sources().len(), 6);
    let mix = AudioBuffer::new(signal(7000), 44_100);
    let (six, _) = model.sources_of(&mix, &NoShelf, &Progress::new()).unwrap();
    let four = model.separate(&mix, &Progress::new()).unwrap();
    for stem in [Stem::Drums, Stem::Bass, Stem::Vocals] {
        let at = model
            .sources()
            .iter()
            .position(|s| s == stem.name())
            .unwrap();
        assert!(six[at] == four[stem as usize]);
    }
}

#[test]
fn a_bag_of_specialists_takes_each_stem_from_its_own_model() {
    // The same model four times, as specialists and as a mean: both are that model.
    let files = vec![path("tinyA.weights.safetensors"); 4];
    let input = signal(6000);
    let one = sources(&tiny(settings(2)), input.clone(), &NoShelf);
    let specialists = HtDemucs::open("tiny_ft", &files, settings(2)).unwrap();
    assert!(sources(&specialists, input.clone(), &NoShelf) == one);
    let mean = HtDemucs::open("tiny", &files, settings(2)).unwrap();
    for (mean, one) in sources(&mean, input, &NoShelf).iter().zip(&one) {
        assert!(difference(one, mean) < 1e-6);
    }
    // Models that separate different things are no bag.
    let files = ["tinyA", "tinyB"].map(|n| path(&format!("{n}.weights.safetensors")));
    assert!(HtDemucs::open("tiny", &files, settings(2)).is_err());
}

#[test]
fn shifts_follow_from_the_seed() {
    let all = offsets(7, 50, 44_100);
    assert_eq!(all, offsets(7, 50, 44_100));
    assert_ne!(all, offsets(8, 50, 44_100));
    assert!(all.iter().all(|o| *o <= 22_050));
}

#[test]
fn a_cancelled_job_stops_in_the_middle_of_a_segment() {
    let model = tiny(settings(2));
    let mix = AudioBuffer::new(signal(30_000), 44_100);
    let progress = Progress::new();
    progress.cancel();
    let stopped = model.separate(&mix, &progress);
    assert!(matches!(stopped, Err(SeparationError::Cancelled)));

    // The switch is looked at before every task: a pass ends at the next one.
    let file = ModelFile::open(&path("tinyA.weights.safetensors")).unwrap();
    let net = Net::load(&file, file.hyper.clone()).unwrap();
    let mut work = net.workspace().unwrap();
    let pool = Pool::new(2);
    let scratch = PerWorker::new(2, Scratch::default);
    let mix: Vec<Vec<f32>> = signal(4999);
    for limit in [1, 50, 500] {
        let looks = AtomicUsize::new(0);
        let cancelled = || looks.fetch_add(1, Ordering::Relaxed) >= limit;
        let context = Context {
            pool: &pool,
            cancelled: &cancelled,
            scratch: &scratch,
        };
        let stopped = net.forward(&mix, &mut work, &context, None);
        assert_eq!(stopped, Err(ModelError::Cancelled));
        // What was under way looks once for each of its tasks, and does nothing.
        assert!(looks.into_inner() < limit + 2 * 600);
    }
}

/// A copy of a weights file with its metadata and tensors changed.
fn changed(
    folder: &Path,
    metadata: impl Fn(&mut std::collections::HashMap<String, String>),
    tensor: impl Fn(&str, &mut Vec<u8>) -> bool,
) -> PathBuf {
    let bytes = std::fs::read(path("tinyA.weights.safetensors")).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let mut info = header.metadata().clone().unwrap();
    metadata(&mut info);
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut kept = Vec::new();
    for (name, view) in file.tensors() {
        let mut data = view.data().to_vec();
        if tensor(&name, &mut data) {
            kept.push((name, view.dtype(), view.shape().to_vec(), data));
        }
    }
    let views = kept.iter().map(|(name, dtype, shape, data)| {
        let view = TensorView::new(*dtype, shape.clone(), data).unwrap();
        (name.clone(), view)
    });
    let to = folder.join("changed.safetensors");
    std::fs::write(&to, safetensors::serialize(views, Some(info)).unwrap()).unwrap();
    to
}

#[test]
fn files_that_are_no_such_model_are_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let open = |path: &Path| match HtDemucs::open("tiny", &[path.to_owned()], settings(1)) {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(error) => error.to_string(),
    };
    let other = changed(
        folder.path(),
        |info| {
            info.insert("klass".into(), "demucs.demucs.Demucs".into());
        },
        |_, _| true,
    );
    assert!(open(&other).contains("demucs.demucs.Demucs"));
    let strange = changed(
        folder.path(),
        |info| {
            let kwargs = info["kwargs"].replace("\"depth\": 4", "\"depth\": 4000000");
            info.insert("kwargs".into(), kwargs);
        },
        |_, _| true,
    );
    assert!(open(&strange).contains("depth"));
    for name in ["tinyA.th", "tinyA.weights.safetensors"] {
        let whole = std::fs::read(path(name)).unwrap();
        for keep in [0, 1, 100, whole.len() / 2, whole.len() - 1] {
            let cut = folder.path().join("cut.th");
            std::fs::write(&cut, &whole[..keep]).unwrap();
            assert!(!open(&cut).is_empty(), "{name} {keep}");
        }
    }
    assert!(!open(&folder.path().join("missing.th")).is_empty());

    // Tensors are read when they are needed.
    let run = |path: &Path| {
        let model = HtDemucs::open("tiny", &[path.to_owned()], settings(1)).unwrap();
        let mix = AudioBuffer::new(signal(3000), 44_100);
        match model.separate(&mix, &Progress::new()) {
            Err(SeparationError::Model(error)) => error.to_string(),
            other => panic!("{other:?}"),
        }
    };
    let name = "tdecoder.1.rewrite.weight";
    let lost = changed(folder.path(), |_| {}, |n, _| n != name);
    assert!(run(&lost).contains(name));
    let bad = changed(
        folder.path(),
        |_| {},
        |n, data| {
            if n == name {
                // The sign, all exponent bits and one more: not a number in half precision.
                data[..2].copy_from_slice(&[0xff, 0xff]);
            }
            true
        },
    );
    assert!(run(&bad).contains(name));
}

#[test]
fn a_segment_without_numbers_is_separated_otherwise_and_said() {
    let folder = tempfile::tempdir().unwrap();
    // The largest half-precision number everywhere on the way down: single precision overflows.
    let wild = changed(
        folder.path(),
        |_| {},
        |name, data| {
            if name.starts_with("encoder") && name.ends_with("weight") {
                for half in data.chunks_exact_mut(2) {
                    half.copy_from_slice(&[0xff, 0x7b]);
                }
            }
            true
        },
    );
    let model = HtDemucs::open("tiny", &[wild], settings(2)).unwrap();
    let mix = AudioBuffer::new(signal(6000), 44_100);
    let shelf = Memory::default();
    let found = model
        .separate_whole(&mix, &shelf, &Progress::new())
        .unwrap();
    assert_eq!(found.notes.len(), 2, "{:?}", found.notes);
    assert!(found.notes[0].contains("spectral"), "{:?}", found.notes);
    assert!(shelf.pieces.lock().unwrap().is_empty());
    for (n, x) in mix.channels[0].iter().enumerate() {
        let sum: f32 = found.stems.iter().map(|s| s.channels[0][n]).sum();
        assert!((sum - x).abs() < 1e-5, "{n}");
    }
}

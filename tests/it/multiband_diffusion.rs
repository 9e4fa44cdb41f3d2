// MultiBand Diffusion against what the reference computed with random weights (tests/golden/mbd), and its limits.

use std::{collections::HashMap, sync::Arc};

use candle_core::{DType, Device, Tensor};
use uncook::{
    audio::AudioBuffer,
    damage::{DamageKind, DamageMap, Region, Stem},
    models::checkpoint::{Checkpoint, Limits, Value},
    profile::MusicalProfile,
    regeneration::{
        RegenerationError, Regenerator, Request,
        multiband_diffusion::{
            BandConfig, DiffusionRegenerator, MbdError, MultiBandDiffusion, Noise, Seeded,
            SplitBands, re_eq,
        },
    },
    worker::progress::Progress,
};

use super::encodec::{Memory, difference, golden, native, tensors};

fn file() -> Arc<Checkpoint> {
    Arc::new(Checkpoint::open(golden("mbd/mbd_tiny.th"), &Limits::default()).expect("golden"))
}

fn model() -> MultiBandDiffusion {
    MultiBandDiffusion::open(file(), Arc::new(native()), &Device::Cpu).unwrap()
}

fn flat(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

fn apart(actual: &[f32], expected: &Tensor) -> f64 {
    let actual = Tensor::from_slice(actual, expected.dims(), &Device::Cpu).unwrap();
    difference(&actual, expected)
}

/// The noise that the reference drew.
struct Given(HashMap<String, Tensor>);

impl Noise for Given {
    fn fill(&self, band: usize, draw: usize, first: usize, out: &mut [f32]) {
        let values = match draw {
            0 => flat(&self.0[&format!("band{band}.init")]),
            _ => flat(&self.0[&format!("band{band}.noise")].get(draw - 1).unwrap()),
        };
        out.copy_from_slice(&values[first..first + out.len()]);
    }
}

/// The condition `[frames][dimension]`.
fn condition(io: &HashMap<String, Tensor>) -> Vec<f32> {
    flat(&io["emb"].transpose(1, 2).unwrap().contiguous().unwrap())
}

#[test]
fn the_released_format_is_opened() {
    let model = model();
    assert_eq!((model.bands(), model.sample_rate()), (2, 32_000));
    // The same configuration as text.
    let text = std::fs::read_to_string(golden("mbd/cfg.json")).unwrap();
    let cfg = Value::from_json(&text).unwrap();
    for band in ["0", "1"] {
        let expected = BandConfig::from_value(cfg.at(band).unwrap()).unwrap();
        let found = BandConfig::from_value(file().value(&format!("{band}.cfg")).unwrap()).unwrap();
        assert_eq!(found, expected);
    }
}

#[test]
fn the_schedule_equals_the_reference() {
    let text = std::fs::read_to_string(golden("mbd/schedule.json")).unwrap();
    let expected: serde_json::Value = serde_json::from_str(&text).unwrap();
    let model = model();
    let schedule = model.schedule(0);
    let steps: Vec<u64> = schedule.sampled().iter().map(|&s| s as u64).collect();
    assert_eq!(serde_json::json!(steps), expected["step_list"]);
    assert_eq!(schedule.evaluations(), 20);
    let noises = (0..20).filter(|&i| schedule.is_noisy(i)).count();
    assert_eq!(serde_json::json!(noises), expected["noises_per_band"]);
    let bars = expected["alpha_bar_at_steps"].as_array().unwrap();
    for (&step, bar) in schedule.sampled().iter().zip(bars) {
        let bar = bar.as_f64().unwrap();
        let error = (f64::from(schedule.alpha_bar(step)) - bar).abs() / bar;
        assert!(error < 1e-6, "step {step}: {error:e}");
    }
}

#[test]
fn every_layer_of_a_network_equals_the_reference() {
    let io = tensors("mbd/io.safetensors");
    let x = flat(&io["step.in"]);
    let (out, layers) = model().activations(0, &x, 500, &condition(&io)).unwrap();
    assert_eq!(layers.len(), 6);
    for (kind, i, values, channels) in layers {
        let expected = &io[&format!("step.{kind}{i}")];
        let actual = Tensor::from_slice(&values, (values.len() / channels, channels), &Device::Cpu)
            .and_then(|t| t.t()?.contiguous()?.unsqueeze(0))
            .unwrap();
        let error = difference(&actual, expected);
        assert!(error <= 2e-6, "{kind}{i}: {error:e}");
    }
    let error = apart(&out, &io["step.out"]);
    assert!(error <= 2e-6, "out: {error:e}");
}

#[test]
fn the_full_schedule_equals_the_reference() {
    let io = tensors("mbd/io.safetensors");
    for candle in [false, true] {
        let mut model = model();
        if candle {
            model = model.with_candle(&Device::Cpu);
        }
        let x = flat(&io["x"]);
        let noise = Given(io.clone());
        let made = model
            .regenerate_own(&[x], &noise, &Progress::new())
            .unwrap();
        assert!(model.take_notices().is_empty(), "it fell back");
        let error = apart(&made[0], &io["sum"]);
        assert!(error <= 2e-5, "candle {candle}: {error:e}");
    }
}

#[test]
fn each_band_equals_the_reference() {
    // One band at a time: the file's tensors under the other spelling, the other band's left out.
    let io = tensors("mbd/io.safetensors");
    let all = Memory::read("mbd/weights.safetensors");
    let cfg = Value::from_json(&std::fs::read_to_string(golden("mbd/cfg.json")).unwrap()).unwrap();
    for band in [0, 1] {
        let weights = Memory(
            all.0
                .iter()
                .filter_map(|(name, t)| {
                    let rest = name.strip_prefix(&format!("{band}."))?;
                    Some((format!("0.{rest}"), t.clone()))
                })
                .collect(),
        );
        let config = BandConfig::from_value(cfg.at(&band.to_string()).unwrap()).unwrap();
        assert_eq!(config.processor.is_some(), band == 1);
        let model = MultiBandDiffusion::load(
            Arc::new(weights),
            32_000,
            vec![config],
            Arc::new(native()),
            &Device::Cpu,
        )
        .unwrap();
        let noise = Given(
            ["init", "noise"]
                .map(|what| {
                    (
                        format!("band0.{what}"),
                        io[&format!("band{band}.{what}")].clone(),
                    )
                })
                .into(),
        );
        let made = model
            .generate(&[condition(&io)], 2500, &noise, &Progress::new())
            .unwrap();
        let error = apart(&made[0], &io[&format!("band{band}.out")]);
        assert!(error <= 2e-5, "band {band}: {error:e}");
    }
}

#[test]
fn bands_and_their_levels_equal_the_reference() {
    let io = tensors("mbd/io.safetensors");
    let x = flat(&io["x"]);
    let mut sum = vec![0.0f32; x.len()];
    let mut seen = 0;
    let peak = x.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    SplitBands::new(8, 32_000).for_each(&x, |b, band| {
        let expected = flat(&io["splitbands8"].get(b).unwrap());
        let worst = band
            .iter()
            .zip(&expected)
            .fold(0.0f32, |m, (a, e)| m.max((a - e).abs()));
        assert!(worst <= 2e-6 * peak, "band {b}: {worst:e}");
        sum.iter_mut().zip(band).for_each(|(s, v)| *s += v);
        seen += 1;
    });
    assert_eq!(seen, 8);
    assert!(
        sum.iter()
            .zip(&x)
            .all(|(s, v)| (s - v).abs() <= 1e-6 * peak)
    );
    let made = re_eq(&flat(&io["sum"]), &flat(&io["ref"]), 32_000);
    let error = apart(&made, &io["re_eq"]);
    assert!(error <= 2e-5, "re_eq: {error:e}");
}

#[test]
fn codes_are_decoded_with_and_without_levels() {
    let io = tensors("mbd/io.safetensors");
    let model = model();
    let progress = Progress::new();
    let plain = model
        .decode_codes(&io["codes"], false, &Seeded(1), &progress)
        .unwrap();
    assert_eq!(plain.len(), 4 * 640);
    let equalised = model
        .decode_codes(&io["codes"], true, &Seeded(1), &progress)
        .unwrap();
    let reference = flat(&model.codec().decode_codes(&io["codes"]).unwrap());
    let expected = re_eq(&plain, &reference, 32_000);
    assert_eq!(equalised, expected);
    // The point of it: every band has the level of EnCodec's own decoding.
    let levels = |x: &[f32]| {
        let mut levels = Vec::new();
        SplitBands::new(4, 32_000).for_each(x, |_, band| {
            levels.push(band.iter().map(|v| f64::from(v * v)).sum::<f64>());
        });
        levels
    };
    for ((before, after), wanted) in levels(&plain)
        .iter()
        .zip(levels(&equalised))
        .zip(levels(&reference))
    {
        assert!((after / wanted).ln().abs() < (before / wanted).ln().abs().max(0.7));
    }
}

fn tone(channels: usize, frames: usize, sample_rate: u32) -> AudioBuffer {
    let one = |c: usize| {
        (0..frames)
            .map(|n| 0.3 * (0.05 * n as f32 * (1.0 + c as f32 * 0.5)).sin())
            .collect::<Vec<f32>>()
    };
    AudioBuffer::new((0..channels).map(one).collect(), sample_rate)
}

#[test]
fn any_length_rate_and_channels_come_back_as_they_went_in() {
    let model = model();
    for (channels, frames, rate) in [
        (1, 1, 32_000),
        (1, 700, 44_100),
        (2, 1501, 48_000),
        (2, 999, 8_000),
        (1, 3000, 96_000),
    ] {
        let made = model
            .regenerate(&tone(channels, frames, rate), 3, &Progress::new())
            .unwrap();
        assert_eq!(
            (made.channels.len(), made.frames(), made.sample_rate),
            (channels, frames, rate)
        );
        assert!(made.channels.iter().flatten().all(|x| x.is_finite()));
    }
}

#[test]
fn the_seed_decides_and_equal_channels_stay_equal() {
    let model = model();
    let run = |audio: &AudioBuffer, seed| model.regenerate(audio, seed, &Progress::new()).unwrap();
    let mono = tone(1, 2000, 32_000);
    let first = run(&mono, 5);
    assert_eq!(first, run(&mono, 5));
    assert_ne!(first, run(&mono, 6));
    let dual = AudioBuffer::new(vec![mono.channels[0].clone(); 2], 32_000);
    let made = run(&dual, 5);
    assert_eq!(made.channels[0], made.channels[1]);
    assert_eq!(made.channels[0], first.channels[0]);
    let wide = run(&tone(2, 2000, 32_000), 5);
    assert_eq!(wide.channels[0], first.channels[0]);
    assert_ne!(wide.channels[0], wide.channels[1]);
}

#[test]
fn wrong_shapes_are_refused_in_words() {
    // The reference dies on these with a bare assertion.
    let text = std::fs::read_to_string(golden("mbd/shape_errors.json")).unwrap();
    let died: HashMap<String, String> = serde_json::from_str(&text).unwrap();
    assert_eq!(died.len(), 2);
    let model = model();
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    for shape in [
        &[2500][..],
        &[1, 2500],
        &[1, 3, 2500],
        &[1, 1, 0],
        &[0, 1, 10],
        &[1, 1, 1, 10],
    ] {
        let error = model
            .regenerate_tensor(&zeros(shape), 32_000, 1, &Progress::new())
            .unwrap_err();
        assert!(matches!(error, MbdError::Shape { .. }), "{error}");
        let text = error.to_string();
        assert!(
            text.contains(&format!("{shape:?}")) && text.contains("[batch, channels, samples]"),
            "{text}"
        );
    }
    let made = model
        .regenerate_tensor(&zeros(&[2, 2, 300]), 44_100, 1, &Progress::new())
        .unwrap();
    assert_eq!(made.dims(), [2, 2, 300]);
    for (channels, frames) in [(0, 0), (1, 0), (3, 10)] {
        assert!(
            model
                .regenerate(&tone(channels, frames, 32_000), 1, &Progress::new())
                .is_err()
        );
    }
}

/// Cancels after so many draws and counts them.
struct Cancelling<'a>(&'a Progress, std::sync::atomic::AtomicUsize, usize);

impl Noise for Cancelling<'_> {
    fn fill(&self, band: usize, draw: usize, first: usize, out: &mut [f32]) {
        if self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1 == self.2 {
            self.0.cancel();
        }
        Seeded(1).fill(band, draw, first, out);
    }
}

#[test]
fn cancel_acts_within_a_step_and_progress_counts_steps() {
    let io = tensors("mbd/io.safetensors");
    let model = model();
    let progress = Progress::new();
    let noise = Cancelling(&progress, 0.into(), 5);
    let result = model.generate(&[condition(&io)], 2500, &noise, &progress);
    assert!(matches!(result, Err(MbdError::Cancelled)));
    // Draw 5 is evaluation 4's; its step ends, the next one does not begin: 4 of 40 done, nothing drawn after.
    assert_eq!(noise.1.into_inner(), 5);
    assert!(
        (progress.done() - 4.0 / 40.0).abs() < 1e-5,
        "{}",
        progress.done()
    );
    let progress = Progress::new();
    model
        .generate(&[condition(&io)], 2500, &Seeded(1), &progress)
        .unwrap();
    assert!((progress.done() - 1.0).abs() < 1e-5);
}

#[test]
fn every_missing_tensor_is_named_and_codecs_must_fit() {
    let cfg = Value::from_json(&std::fs::read_to_string(golden("mbd/cfg.json")).unwrap()).unwrap();
    let config = |band: &str| BandConfig::from_value(cfg.at(band).unwrap()).unwrap();
    let mut weights = Memory::read("mbd/weights.safetensors");
    let gone = [
        "0.model.decoders.1.convtr.weight",
        "1.processor.sum_x2",
        "1.model.embeddings.1.weight",
    ];
    for name in gone {
        weights.0.remove(name).unwrap();
    }
    let bands = vec![config("0"), config("1")];
    let load = |weights: Memory, rate, bands| {
        MultiBandDiffusion::load(
            Arc::new(weights),
            rate,
            bands,
            Arc::new(native()),
            &Device::Cpu,
        )
    };
    let text = load(weights, 32_000, bands.clone())
        .err()
        .unwrap()
        .to_string();
    assert!(gone.iter().all(|name| text.contains(name)), "{text}");
    let whole = Memory::read("mbd/weights.safetensors");
    let error = load(whole.clone(), 24_000, bands).err().unwrap();
    assert!(matches!(error, MbdError::Config(_)), "{error}");
    let mut wrong = config("0");
    wrong.unet.codec_dim = 9;
    assert!(matches!(
        load(whole, 32_000, vec![wrong]),
        Err(MbdError::Config(_))
    ));
}

#[test]
fn strange_configurations_are_refused() {
    let text = std::fs::read_to_string(golden("mbd/cfg.json")).unwrap();
    for (from, to) in [
        ("\"bilstm\": false", "\"bilstm\": true"),
        ("\"kernel\": 8", "\"kernel\": 7"),
        ("\"hidden\": 4", "\"hidden\": 5"),
        ("\"hidden\": 4", "\"hidden\": 400000000"),
        ("\"depth\": 3", "\"depth\": -1"),
        ("\"num_steps\": 1000", "\"num_steps\": 3"),
        ("\"beta_exp\": 7.5", "\"beta_exp\": \"x\""),
        ("\"repartition\": \"power\"", "\"repartition\": \"cosine\""),
    ] {
        assert!(text.contains(from), "{from}");
        let cfg = Value::from_json(&text.replacen(from, to, 1)).unwrap();
        let error = BandConfig::from_value(cfg.at("0").unwrap()).unwrap_err();
        assert!(matches!(error, MbdError::Config(_)), "{from}: {error}");
    }
}

#[test]
fn a_damaged_span_of_a_stem_comes_back_made_anew() {
    let regenerator = DiffusionRegenerator::new(Arc::new(model()));
    let stem = tone(2, 44_100 * 4, 44_100);
    let silent = AudioBuffer::silence(2, 44_100 * 4, 44_100);
    let profile = MusicalProfile::default();
    let damage = DamageMap::default();
    let region = |start: f64, end: f64| Region {
        start,
        end,
        kind: DamageKind::Clipping,
        severity: 1.0,
    };
    let regions = [region(1.5, 1.6), region(2.0, 2.1)];
    let request = |stem_audio: &'static AudioBuffer, stem| Request {
        stem,
        separated: stem_audio,
        mix: stem_audio,
        damage: Box::leak(Box::new(damage.clone())),
        regions: Box::leak(Box::new(regions)),
        profile: Box::leak(Box::new(profile.clone())),
        style: "",
        seed: 9,
    };
    let stem: &'static AudioBuffer = Box::leak(Box::new(stem));
    let silent: &'static AudioBuffer = Box::leak(Box::new(silent));
    let progress = Progress::new();
    let made = regenerator
        .regenerate(&request(stem, Stem::Bass), &progress)
        .unwrap()
        .unwrap();
    assert_eq!(
        (made.channels.len(), made.frames(), made.sample_rate),
        (2, 44_100 * 4, 44_100)
    );
    assert_eq!(progress.done(), 1.0);
    let second = |s: f64| (s * 44_100.0) as usize;
    for channel in &made.channels {
        assert!(channel.iter().all(|x| x.is_finite()));
        // The spans touch with their margins: 1.25 s to 2.35 s, silence around.
        assert!(channel[..second(1.25) - 1].iter().all(|&x| x == 0.0));
        assert!(channel[second(2.35) + 2..].iter().all(|&x| x == 0.0));
        let energy: f32 = channel[second(1.5)..second(2.1)]
            .iter()
            .map(|x| x * x)
            .sum();
        assert!(energy > 0.0);
    }
    let nothing = regenerator
        .regenerate(&request(silent, Stem::Drums), &Progress::new())
        .unwrap();
    assert!(nothing.is_none());
    let other = regenerator.regenerate(&request(stem, Stem::Vocals), &Progress::new());
    assert!(matches!(other, Err(RegenerationError::Unsupported { .. })));
    let cancelled = Progress::new();
    cancelled.cancel();
    let result = regenerator.regenerate(&request(stem, Stem::Bass), &cancelled);
    assert!(matches!(result, Err(RegenerationError::Cancelled)));
}

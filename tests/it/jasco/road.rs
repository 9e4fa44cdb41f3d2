//! From a damaged stem to a rebuilt one, with the tiny model in a folder as an installed one lies there.

use std::{path::Path, sync::Arc};

use candle_core::Device;
use tempfile::TempDir;
use uncook::{
    audio::AudioBuffer,
    damage::{DamageKind, DamageMap, Region, Stem},
    dense::{level::Level, pool::Pool},
    models::{
        checkpoint::{Checkpoint, Limits},
        convert::{Draft, Form},
        fetch::Checked,
        hash::sha256,
        library::{InstalledFile, Library, Receipt},
        manifest::Manifest,
        tensors::Stored,
    },
    profile::{Chord, DrumClass, DrumHit, Estimate, MusicalProfile, Note},
    regeneration::{
        RegenerationError, Regenerator, Request, blend,
        jasco::{
            Jasco, JascoError, JascoFiles,
            conditions::{Conditions, Guidance},
            flow::{Session, cpu::CpuFlow},
            inpaint::{Hole, Sampler},
            model::{Model, Task},
        },
        multiband_diffusion::MultiBandDiffusion,
    },
    separation::spectral::Spectral,
    worker::progress::Progress,
};

use super::{Arrays, error, folder};
use crate::{encodec::native, support::overdriven_band};

const RATE: u32 = 44_100;
const SECONDS: f64 = 4.0;
const REGION: (f64, f64) = (1.2, 3.0);

/// A tokenizer of single characters in the format of T5's own file, with the ids that the tiny encoder knows.
fn tokenizer() -> String {
    let mut vocabulary = vec!["[\"<pad>\",0.0]".to_owned(), "[\"</s>\",0.0]".to_owned()];
    vocabulary.push("[\"<unk>\",-100.0]".to_owned());
    vocabulary.extend(
        ('a'..='z')
            .chain('A'..='Z')
            .chain('0'..='9')
            .chain([' ', ',', '/'])
            .map(|c| format!("[\"{c}\",-5.0]")),
    );
    format!(
        r#"{{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,
        "pre_tokenizer":null,"post_processor":{{"type":"TemplateProcessing",
        "single":[{{"Sequence":{{"id":"A","type_id":0}}}},{{"SpecialToken":{{"id":"</s>","type_id":0}}}}],
        "pair":[],"special_tokens":{{"</s>":{{"id":"</s>","ids":[1],"tokens":["</s>"]}}}}}},
        "decoder":null,"model":{{"type":"Unigram","unk_id":2,"vocab":[{}]}}}}"#,
        vocabulary.join(",")
    )
}

/// The tiny model and its text encoder under their published names.
pub fn install(name: &str, to: &Path) -> JascoFiles {
    let from = folder("jasco").join(name);
    let (model, text) = (to.join("jasco"), to.join("t5-base"));
    for folder in [&model, &text] {
        std::fs::create_dir_all(folder).expect("a folder");
    }
    let copy = |name: &str, to: std::path::PathBuf| {
        std::fs::copy(from.join(name), to).expect("a copy");
    };
    copy("state_dict.bin", model.join("state_dict.bin"));
    copy(
        "compression_state_dict.bin",
        model.join("compression_state_dict.bin"),
    );
    copy("t5.safetensors", text.join("model.safetensors"));
    copy("t5_config.json", text.join("config.json"));
    std::fs::write(text.join("tokenizer.json"), tokenizer()).expect("written");
    JascoFiles::in_folders(&model, &text)
}

fn profile() -> MusicalProfile {
    MusicalProfile {
        tempo_bpm: Some(Estimate {
            value: 120.0,
            confidence: 0.9,
        }),
        chords: vec![Chord {
            start: 0.0,
            end: SECONDS,
            label: "A:min".into(),
            confidence: 0.8,
        }],
        bass_notes: (0..8)
            .map(|i| Note {
                t: 0.5 * f64::from(i),
                dur: 0.4,
                midi: 33.0,
                velocity: 0.8,
                confidence: 0.9,
            })
            .collect(),
        drums: (0..8)
            .map(|i| DrumHit {
                t: 0.5 * f64::from(i),
                class: DrumClass::Kick,
                velocity: 0.8,
                confidence: 0.9,
            })
            .collect(),
        ..MusicalProfile::default()
    }
}

fn open(name: &str, to: &Path) -> Jasco {
    let mut jasco = Jasco::open(install(name, to), Box::new(Spectral)).expect("the tiny model");
    jasco.settings.sampler.steps = 3;
    jasco
}

fn regenerate(jasco: &Jasco, stem: Stem, seed: u64, severity: f32) -> AudioBuffer {
    let take = overdriven_band(SECONDS, RATE);
    let damage = DamageMap::default();
    let profile = profile();
    let regions = [Region {
        start: REGION.0,
        end: REGION.1,
        kind: DamageKind::Saturation,
        severity,
    }];
    let request = Request {
        stem,
        separated: &take,
        mix: &take,
        damage: &damage,
        regions: &regions,
        profile: &profile,
        style: "funk",
        seed,
    };
    let progress = Progress::new();
    let rebuilt = jasco.regenerate(&request, &progress).expect("no failure");
    assert!(progress.done() > 0.99, "{}", progress.done());
    let rebuilt = rebuilt.expect("a stem");
    // The blend takes it like any other.
    let layer = blend::layer(&request, &rebuilt);
    assert!(layer.audio.channels.iter().flatten().all(|x| x.is_finite()));
    rebuilt
}

#[test]
fn a_damaged_span_is_generated_the_same_for_a_seed_and_only_there() {
    let desk = TempDir::new().expect("a folder");
    let jasco = open("melody", desk.path());
    let first = regenerate(&jasco, Stem::Bass, 1, 1.0);
    assert_eq!(first.frames(), (SECONDS * f64::from(RATE)) as usize);
    assert_eq!((first.channels.len(), first.sample_rate), (2, RATE));
    for (n, x) in first.channels[0].iter().enumerate() {
        let t = n as f64 / f64::from(RATE);
        let near = t > REGION.0 - 0.26 && t < REGION.1 + 0.26;
        assert!(x.is_finite() && (near || *x == 0.0), "{t} s: {x}");
    }
    let inside = &first.channels[0][(1.4 * f64::from(RATE)) as usize..][..RATE as usize];
    assert!(inside.iter().any(|x| x.abs() > 1e-6), "silence");
    // Another process, the same sound: the model is opened anew.
    let again = regenerate(&open("melody", desk.path()), Stem::Bass, 1, 1.0);
    assert!(first == again, "another result for the same seed");
    assert!(
        first != regenerate(&jasco, Stem::Bass, 2, 1.0),
        "the seed does nothing"
    );
    assert!(
        first != regenerate(&jasco, Stem::Bass, 1, 0.6),
        "mild damage starts as severe"
    );
    assert!(jasco.notes().is_empty());
}

/// The copy of the codec in the model's own file, and the drums' way through it.
#[test]
fn latents_audio_and_what_silence_sounds_like_are_the_references() {
    for name in ["melody", "skip"] {
        let desk = TempDir::new().expect("a folder");
        let files = install(name, desk.path());
        let model = Model::open(files, &Device::Cpu, 2).expect("the tiny model");
        let io = Arrays::read(folder("jasco").join(name).join("io.safetensors"));
        let (length, width) = (model.config.frames(), model.config.flow.flow_dim);
        let mut drums = io.get("in.drums_wav").to_vec();
        drums.resize(length * model.config.hop(), 0.0);
        let latents = model.encode_raw(&drums).expect("encoded");
        let stored = io.get("drums.encoder_latents");
        let stored: Vec<f32> = (0..stored.len())
            .map(|i| stored[(i % width) * length + i / width])
            .collect();
        let e = error(&latents, &stored);
        assert!(e <= 2e-6, "{name} latents: {e:e}");
        let e = error(
            &model.decode(io.get("euler3.latents")).expect("decoded"),
            io.get("euler3.wav"),
        );
        assert!(e <= 2e-6, "{name} audio: {e:e}");
        // With the reference's quirk, terms without drums hear encoded silence.
        let silence = model.encode_raw(&vec![0.0; drums.len()]).expect("encoded");
        let given = Conditions {
            drums: Some(model.conditioner.drums(&latents)),
            silence: Some(model.conditioner.drums(&silence)),
            ..Conditions::default()
        };
        let guidance = Guidance {
            all: 1.75,
            text: 3.5,
        };
        let rows = model.conditioner.rows(&given, guidance, true);
        let f = &model.config.flow;
        let heard: Vec<f32> = rows
            .rows
            .iter()
            .flat_map(|r| r.local.chunks_exact(f.local_dim()))
            .flat_map(|frame| frame[f.chords_dim..][..f.drums_dim].to_vec())
            .collect();
        let e = error(&heard, io.get("cond3.self_wav"));
        assert!(e <= 2e-6, "{name} drums: {e:e}");
    }
}

/// MultiBand Diffusion in place of the codec's decoder: another sound, the same for a seed.
#[test]
fn what_is_generated_can_be_decoded_by_diffusion() {
    let desk = TempDir::new().expect("a folder");
    let diffusion = || {
        let file = Checkpoint::open(folder("mbd").join("mbd_tiny.th"), &Limits::default());
        let codec = Arc::new(native());
        let file = Arc::new(file.expect("golden"));
        Arc::new(MultiBandDiffusion::open(file, codec, &Device::Cpu).expect("the tiny model"))
    };
    let plain = regenerate(&open("melody", desk.path()), Stem::Bass, 1, 1.0);
    let with = || open("melody", desk.path()).with_diffusion(diffusion());
    let decoded = regenerate(&with(), Stem::Bass, 1, 1.0);
    assert!(decoded != plain, "the codec's own decoder ran");
    assert!(decoded == regenerate(&with(), Stem::Bass, 1, 1.0));
    let inside = &decoded.channels[0][(1.4 * f64::from(RATE)) as usize..][..RATE as usize];
    assert!(inside.iter().any(|x| x.abs() > 1e-6), "silence");
}

#[test]
fn drums_are_generated_by_a_model_without_melody() {
    let desk = TempDir::new().expect("a folder");
    let drums = regenerate(&open("skip", desk.path()), Stem::Drums, 1, 1.0);
    assert!(drums.channels[0].iter().any(|x| x.abs() > 1e-6));
}

#[test]
fn nothing_damaged_or_cancelled_gives_nothing() {
    let desk = TempDir::new().expect("a folder");
    let jasco = open("melody", desk.path());
    let take = overdriven_band(1.0, RATE);
    let (damage, profile) = (DamageMap::default(), profile());
    let region = Region {
        start: 0.2,
        end: 0.5,
        kind: DamageKind::Clipping,
        severity: 1.0,
    };
    let request = |regions| Request {
        stem: Stem::Bass,
        separated: &take,
        mix: &take,
        damage: &damage,
        regions,
        profile: &profile,
        style: "",
        seed: 0,
    };
    let nothing = jasco.regenerate(&request(&[]), &Progress::new());
    assert!(matches!(nothing, Ok(None)));
    let progress = Progress::new();
    progress.cancel();
    let cancelled = jasco.regenerate(&request(&[region]), &progress);
    assert!(matches!(cancelled, Err(RegenerationError::Cancelled)));
}

/// What one evaluation of the network does is counted by the trace of a session that is asked to stop.
#[test]
fn cancel_acts_within_a_step_and_progress_counts_steps() {
    let desk = TempDir::new().expect("a folder");
    let model = Model::open(install("melody", desk.path()), &Device::Cpu, 2).expect("a model");
    let (length, width) = (model.config.frames(), model.config.flow.flow_dim);
    let known = vec![0.0; length * width];
    let mask = vec![1.0; length];
    let given = Conditions::default();
    let sampler = Sampler {
        steps: 40,
        renoise: 0.6,
        travel: 1,
        start: 0.0,
    };
    let task = Task {
        given: &given,
        guidance: Guidance {
            all: 1.0,
            text: 0.0,
        },
        parity: false,
        hole: &Hole {
            known: &known,
            mask: &mask,
        },
        sampler: &sampler,
        seed: 1,
    };
    // Uncancelled, the steps are seen one after the other.
    let progress = Progress::new();
    let seen = std::thread::scope(|scope| {
        let worker = scope.spawn(|| model.fill(&task, &progress));
        let mut seen = std::collections::BTreeSet::new();
        while !worker.is_finished() {
            seen.insert((40.0 * progress.done()).round() as usize);
            std::thread::yield_now();
        }
        worker.join().expect("no panic").expect("filled");
        seen
    });
    assert!(seen.len() > 3, "steps are not counted: {seen:?}");
    assert_eq!(progress.done(), 1.0);
    // Cancelled after some steps, at most the one that runs is finished.
    let progress = Progress::new();
    let at = std::thread::scope(|scope| {
        let worker = scope.spawn(|| model.fill(&task, &progress));
        while progress.done() < 0.1 {
            std::thread::yield_now();
        }
        progress.cancel();
        let at = progress.done();
        assert!(matches!(
            worker.join().expect("no panic"),
            Err(JascoError::Cancelled)
        ));
        at
    });
    let steps = 40.0 * (progress.done() - at);
    assert!(steps < 1.5, "{steps} steps after it was cancelled");
    // Cancelled in the middle of an evaluation, not even that is finished.
    let source = super::checkpoint("melody");
    let source = Stored {
        checkpoint: &source,
        prefix: "best_state.",
    };
    let pool = Pool::new(2);
    let flow = CpuFlow::load(&source, &model.config.flow, &pool).expect("weights");
    let rows = model.conditioner.rows(&given, task.guidance, false);
    let progress = Progress::new();
    let mut session = flow.session(&rows, &pool).watching(&progress);
    let mut out = vec![vec![0.0; length * width]; rows.rows.len()];
    let mut layers = 0;
    let mut stop = |stage: &str, _: &[f32]| {
        layers += usize::from(stage.ends_with("_out"));
        progress.cancel();
    };
    let result = session.terms(0.5, &known, &mut out, Some(&mut stop));
    assert!(matches!(result, Err(JascoError::Cancelled)));
    assert!(layers <= 1, "{layers} layers after it was cancelled");
}

/// Everything that a model computes.
fn everything(model: &Model) -> Vec<Vec<f32>> {
    let config = &model.config;
    let (length, width) = (config.frames(), config.flow.flow_dim);
    let tone: Vec<f32> = (0..length * config.hop())
        .map(|n| (0.05 * n as f32).sin())
        .collect();
    let latents = model.encode(&tone).expect("encoded");
    let given = Conditions {
        text: model.hear("funk bass").expect("heard"),
        chords: Some(vec![3; length]),
        drums: Some((model.conditioner).drums(&model.encode_raw(&tone).expect("encoded"))),
        melody: (config.melody_rows > 0).then(|| vec![0.5; config.melody_rows * length]),
        ..Conditions::default()
    };
    let task = Task {
        given: &given,
        guidance: Guidance {
            all: 1.75,
            text: 3.5,
        },
        parity: false,
        hole: &Hole {
            known: &latents,
            mask: &vec![1.0; length],
        },
        sampler: &Sampler {
            steps: 2,
            renoise: 0.6,
            travel: 1,
            start: 0.0,
        },
        seed: 1,
    };
    let filled = model.fill(&task, &Progress::new()).expect("filled");
    assert_eq!(filled.len(), length * width);
    let audio = model.decode(&filled).expect("decoded");
    vec![latents, given.text, filled, audio]
}

#[test]
fn a_second_opening_maps_what_the_first_has_made_and_computes_the_same() {
    for name in ["melody", "skip"] {
        let desk = TempDir::new().expect("a folder");
        let mut files = install(name, desk.path());
        let opened = |files: &JascoFiles| Model::open(files.clone(), &Device::Cpu, 2);
        let expected = everything(&opened(&files).expect("a model"));
        let folder = desk.path().join("copies");
        files.copies = Some(folder.clone());
        let first = opened(&files).expect("a model");
        assert!(first.take_notices().is_empty());
        assert!(everything(&first) == expected, "{name}: the first opening");
        drop(first);
        // From here on there is nothing in the model's own file; its path, length and time stay.
        let own = std::fs::read(&files.state).expect("a file");
        let time = std::fs::metadata(&files.state).and_then(|m| m.modified());
        let write = |bytes: &[u8]| {
            std::fs::write(&files.state, bytes).expect("written");
            let file = std::fs::File::options().write(true).open(&files.state);
            file.and_then(|f| f.set_modified(*time.as_ref().expect("a time")))
                .expect("set");
        };
        write(&vec![7; own.len()]);
        let second = opened(&files).expect("a model from its copy");
        assert!(
            everything(&second) == expected,
            "{name}: the second opening"
        );
        drop(second);
        // A copy that is damaged, or that lacks what this version asks for, is made anew from the model's own file.
        let copy = (std::fs::read_dir(&folder).expect("a folder"))
            .map(|entry| entry.expect("an entry").path())
            .find(|path| path.extension().is_some_and(|e| e == "safetensors"))
            .expect("a copy");
        let whole = std::fs::read(&copy).expect("a copy");
        let form = Form {
            name: "jasco-1",
            lanes: Level::best().lanes(),
        };
        for hurt in [true, false] {
            std::fs::remove_file(&copy).expect("removed");
            if hurt {
                std::fs::write(&copy, &whole[..whole.len() / 2]).expect("written");
                let error = opened(&files).err().expect("the model's file is empty now");
                assert!(error.to_string().contains("state_dict.bin"), "{error}");
            }
            write(&own);
            if !hurt {
                let source = Checkpoint::open(&files.state, &Limits::default()).expect("a file");
                let draft = Draft::new(&source).expect("whole");
                draft.write(&folder, &form).expect("written");
            }
            assert!(everything(&opened(&files).expect("a model")) == expected);
            assert!(
                std::fs::read(&copy).expect("a copy") == whole,
                "{name}: {hurt}"
            );
        }
        // Where none can be kept the model is used all the same, and it is said.
        files.copies = Some(copy.join("below"));
        let model = opened(&files).expect("a model");
        let notices = model.take_notices();
        assert!(notices[0].contains("can't be kept"), "{notices:?}");
        assert!(everything(&model) == expected);
    }
}

#[test]
fn a_missing_or_wrong_file_is_named() {
    let desk = TempDir::new().expect("a folder");
    let files = install("melody", desk.path());
    let message = |files: JascoFiles| match Jasco::open(files, Box::new(Spectral)) {
        Ok(_) => panic!("opened"),
        Err(error) => error.to_string(),
    };
    let mut wrong = files.clone();
    wrong.state = desk.path().join("nothing.bin");
    assert!(message(wrong).contains("nothing.bin"));
    let mut wrong = files.clone();
    wrong.state = files.text.clone();
    assert!(message(wrong).contains("xp.cfg"));
    // The text encoder is only read when there is something to say.
    std::fs::write(&files.tokenizer, "{}").expect("written");
    let jasco = Jasco::open(files, Box::new(Spectral)).expect("the model itself is whole");
    let take = overdriven_band(1.0, RATE);
    let region = Region {
        start: 0.2,
        end: 0.5,
        kind: DamageKind::Clipping,
        severity: 1.0,
    };
    let request = Request {
        stem: Stem::Bass,
        separated: &take,
        mix: &take,
        damage: &DamageMap::default(),
        regions: &[region],
        profile: &profile(),
        style: "",
        seed: 0,
    };
    match jasco.regenerate(&request, &Progress::new()) {
        Err(RegenerationError::Failed(why)) => assert!(why.contains("tokenizer.json"), "{why}"),
        other => panic!("{:?}", other.map(|_| ())),
    }
}

/// The model that the tiny files are installed as.
pub const NAME: &str = "jasco-chords-drums-melody-400M";

/// As which the tiny diffusion and its codec are installed.
pub const DIFFUSION: &str = "multiband-diffusion";
pub const CODEC: &str = "musicgen-codec";

/// The tiny files as installed models in the data folder `data`, no terms accepted: the model, its text encoder,
/// MultiBand Diffusion and its codec.
pub fn install_in(data: &Path) -> Library {
    let desk = TempDir::new().expect("a folder");
    install("melody", desk.path());
    for (to, from) in [
        ("mbd/mbd_musicgen_32khz.th", "mbd/mbd_tiny.th"),
        (
            "codec/compression_state_dict.bin",
            "encodec/native_compression_state_dict.bin",
        ),
    ] {
        let to = desk.path().join(to);
        std::fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        std::fs::copy(folder(from), to).expect("a copy");
    }
    let manifest = Manifest::embedded().expect("the list");
    let library = Library::at(data.join("models"), manifest);
    for (name, from) in [
        (NAME, "jasco"),
        ("t5-base", "t5-base"),
        (DIFFUSION, "mbd"),
        (CODEC, "codec"),
    ] {
        let folder = library.folder().join(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        let model = library.manifest().get(name).expect("a listed model");
        let files = model.files.iter().map(|file| {
            let bytes = std::fs::read(desk.path().join(from).join(&file.file)).expect("a file");
            std::fs::write(folder.join(&file.file), &bytes).expect("written");
            InstalledFile {
                file: file.file.clone(),
                sha256: sha256(&bytes),
                bytes: bytes.len() as u64,
                checked: Checked::FirstSeen,
            }
        });
        let receipt = Receipt {
            name: name.to_owned(),
            folder: None,
            files: files.collect(),
        };
        let json = serde_json::to_vec(&receipt).expect("a receipt");
        std::fs::write(library.folder().join(format!("{name}.json")), json).expect("written");
    }
    library
}

//! Every stage of the network and every stored run.

use candle_core::{DType, Device};
use serde_json::Value;
use uncook::{
    dense::pool::Pool,
    models::{
        checkpoint::Checkpoint,
        tensors::{Stored, Tensors},
    },
    regeneration::jasco::{
        JascoError, chords,
        conditions::{Conditioner, Conditions, Guidance},
        config::ModelConfig,
        flow::{Guided, Rows, Session, cpu::CpuFlow, device::DeviceFlow},
        solver::Solver,
        text::t5::{T5, T5Config},
        weights,
    },
    worker::progress::Progress,
};

use super::{Arrays, Spoiled, checkpoint, error, folder, open};

/// What the issue allows.
const TOLERANCE: f64 = 2e-6;

/// A checkpoint of the tests with everything that is stored beside it.
struct Model {
    io: Arrays,
    meta: Value,
    config: ModelConfig,
    conditioner: Conditioner,
    cpu: CpuFlow,
    device: DeviceFlow,
    pool: Pool,
    /// The prompt, as the transformer hears it.
    text: Vec<f32>,
    /// Drums as stored by the reference's encoder, and silence in the terms that don't hear them.
    drums: Vec<f32>,
}

fn json(path: std::path::PathBuf) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).expect("golden")).expect("golden")
}

fn plain(checkpoint: &Checkpoint) -> Stored<'_> {
    Stored {
        checkpoint,
        prefix: "",
    }
}

/// The tensors of a model's file, and its configuration as text.
fn stored(checkpoint: &Checkpoint) -> (Stored<'_>, &str) {
    let source = Stored {
        checkpoint,
        prefix: "best_state.",
    };
    let xp = checkpoint.value("xp.cfg").and_then(|v| v.as_str());
    (source, xp.expect("xp.cfg"))
}

impl Model {
    fn load(name: &str) -> Self {
        let dir = folder("jasco").join(name);
        let io = Arrays::read(dir.join("io.safetensors"));
        let checkpoint = checkpoint(name);
        let (source, xp) = stored(&checkpoint);
        let config = ModelConfig::read(&source, xp).expect("config");
        weights::check(&source, &config.needed()).expect("all tensors");
        let flow = &config.flow;
        let pool = Pool::new(2);
        let cpu = CpuFlow::load(&source, flow, &pool).expect("weights");
        let device = DeviceFlow::load(&source, flow, &Device::Cpu, DType::F32).expect("weights");
        let conditioner = Conditioner::load(&source, &config).expect("weights");

        let t5_config = std::fs::read_to_string(dir.join("t5_config.json")).expect("golden");
        let t5_config = T5Config::parse(&t5_config).expect("golden");
        let weights = open(dir.join("t5.safetensors"));
        let t5 = T5::load(&plain(&weights), t5_config).expect("T5");
        let ids: Vec<u32> = io.get("t5.input_ids")[..5]
            .iter()
            .map(|x| *x as u32)
            .collect();
        let hidden = t5.encode(&ids, None, &pool).expect("in the vocabulary");
        let stored = &io.get("t5.last_hidden_state")[..5 * t5.width()];
        assert!(error(&hidden, stored) <= TOLERANCE);
        let text = conditioner.text(&hidden);
        let stored = &io.get("cond3.description")[..text.len()];
        assert!(error(&text, stored) <= TOLERANCE);

        let latents = transposed(io.get("drums.encoder_latents"), config.flow.flow_dim);
        let codes: Vec<f32> = conditioner
            .codes(&latents)
            .iter()
            .map(|c| *c as f32)
            .collect();
        assert_eq!(codes, io.get("drums.codes0"));
        let drums = conditioner.drums(&latents);
        assert!(error(&drums, io.get("drums.blurred")) <= TOLERANCE);
        Self {
            meta: json(dir.join("meta.json")),
            io,
            config,
            conditioner,
            cpu,
            device,
            pool,
            text,
            drums,
        }
    }

    fn chords(&self) -> Vec<u32> {
        let list = self.meta["chords"].as_array().expect("list");
        let changes: Vec<(f64, &str)> = list
            .iter()
            .map(|c| (c[1].as_f64().expect("time"), c[0].as_str().expect("label")))
            .collect();
        chords::frames(
            &changes,
            self.config.frames(),
            self.config.frame_rate,
            0,
            "",
        )
        .expect("known chords")
    }

    fn given(&self, run: &Value) -> Conditions {
        let has = |name: &str| run[name].as_bool().expect("flag");
        let melody = self.io.has("in.melody") && has("melody");
        Conditions {
            text: self.text.clone(),
            chords: has("chords").then(|| self.chords()),
            drums: has("drums").then(|| self.drums.clone()),
            silence: None,
            melody: melody.then(|| self.io.get("in.melody").to_vec()),
        }
    }

    /// The terms with the reference's quirks. What its terms without drums hear is taken from the golden: the
    /// codec that encodes silence is another room's.
    fn rows(&self, given: &Conditions, guidance: Guidance) -> Rows {
        let mut rows = self.conditioner.rows(given, guidance, true);
        if given.drums.is_some() {
            let f = &self.config.flow;
            let frames = rows.frames;
            let silence = &self.io.get("cond3.self_wav")[frames * f.drums_dim..];
            for row in rows.rows.iter_mut().skip(1) {
                let frames = row.local.chunks_exact_mut(f.local_dim());
                for (to, from) in frames.zip(silence.chunks_exact(f.drums_dim)) {
                    to[f.chords_dim..][..f.drums_dim].copy_from_slice(from);
                }
            }
        }
        rows
    }

    fn session<'a>(&'a self, rows: &Rows, engine: &str) -> Box<dyn Session + 'a> {
        match engine {
            "cpu" => Box::new(self.cpu.session(rows, &self.pool)),
            _ => Box::new(self.device.session(rows).expect("room")),
        }
    }

    /// The conditions of one kind in all rows against the stored ones.
    fn check_local(&self, label: &str, rows: &Rows) {
        let f = &self.config.flow;
        let kinds = [
            ("chords", 0, f.chords_dim),
            ("self_wav", f.chords_dim, f.drums_dim),
            ("melody", f.chords_dim + f.drums_dim, f.melody_dim),
        ];
        for (kind, first, width) in kinds.into_iter().filter(|k| k.2 > 0) {
            let actual: Vec<f32> = rows
                .rows
                .iter()
                .flat_map(|r| r.local.chunks_exact(f.local_dim()))
                .flat_map(|frame| frame[first..first + width].iter().copied())
                .collect();
            let e = error(&actual, self.io.get(&format!("{label}.{kind}")));
            assert!(e <= TOLERANCE, "{label} {kind}: {e:e}");
        }
    }
}

/// `[channels][frames]` to `[frames][channels]`.
fn transposed(x: &[f32], channels: usize) -> Vec<f32> {
    let frames = x.len() / channels;
    (0..x.len())
        .map(|i| x[(i % channels) * frames + i / channels])
        .collect()
}

const ALL: Guidance = Guidance {
    all: 1.75,
    text: 3.5,
};

#[test]
fn every_intermediate_of_the_velocity_field() {
    for name in ["melody", "skip"] {
        let model = Model::load(name);
        let given = model.given(&model.meta["runs"]["euler3"]);
        let rows = model.rows(&given, ALL);
        model.check_local("cond3", &rows);
        let width = model.config.flow.flow_dim;
        for engine in ["cpu", "device"] {
            let mut terms = vec![vec![0.0; rows.frames * width]; rows.rows.len()];
            let mut seen = Vec::new();
            let z = model.io.get("in.z0");
            model
                .session(&rows, engine)
                .terms(
                    0.37,
                    z,
                    &mut terms,
                    Some(&mut |stage: &str, values: &[f32]| {
                        let e = error(values, model.io.get(&format!("vel.{stage}")));
                        assert!(e <= TOLERANCE, "{name} {engine} {stage}: {e:e}");
                        seen.push(stage.to_owned());
                        if stage == "temb_proj" {
                            // What the reference attends to is never stored here, only its parts.
                            let source: Vec<f32> =
                                [&model.text[..], &model.text, &vec![0.0; model.text.len()]]
                                    .concat()
                                    .chunks_exact(values.len())
                                    .flat_map(|row| row.iter().zip(values).map(|(e, t)| e + t))
                                    .collect();
                            let e = error(&source, model.io.get("vel.cross_src"));
                            assert!(e <= TOLERANCE, "{name} cross_src: {e:e}");
                        }
                    }),
                )
                .expect("no device to fail");
            let stages = if engine == "cpu" { 5 } else { 8 };
            assert_eq!(seen.len(), model.config.flow.layers + stages, "{seen:?}");
            let mut guided = vec![0.0f32; terms[0].len()];
            for (term, weight) in terms.iter().zip(&rows.weights) {
                for (g, v) in guided.iter_mut().zip(term) {
                    *g += weight * v;
                }
            }
            let e = error(&guided, model.io.get("vel.v_cfg_1.75_3.5"));
            assert!(e <= TOLERANCE, "{name} {engine} guided: {e:e}");
        }
    }
}

#[test]
fn every_stored_run_with_the_same_number_of_evaluations() {
    for name in ["melody", "skip"] {
        let model = Model::load(name);
        for (label, run) in model.meta["runs"].as_object().expect("runs") {
            let number = |key: &str| run[key].as_f64().map(|x| x as f32);
            let solver = match run["euler_steps"].as_u64() {
                Some(steps) => Solver::Euler {
                    steps: steps as usize,
                },
                None => Solver::Dopri5 {
                    rtol: number("ode_rtol").unwrap_or(1e-5),
                    atol: number("ode_atol").unwrap_or(1e-5),
                    overshoot: true,
                },
            };
            let guidance = Guidance {
                all: number("cfg_coef_all").expect("coefficient"),
                text: number("cfg_coef_txt").expect("coefficient"),
            };
            let given = model.given(run);
            let rows = model.rows(&given, guidance);
            assert_eq!(
                Some(rows.rows.len() as u64),
                run["batch"].as_u64(),
                "{label}"
            );
            if label.ends_with("_only") && label != "text_only" {
                model.check_local(&format!("cond_{label}"), &rows);
            }
            // With loose tolerances the error estimate is at the floor of rounding, where step sequences differ.
            let (tolerance, same) = match label.as_str() {
                "dopri_loose" => (1e-3, false),
                "dopri_default" => (5e-6, true),
                _ => (TOLERANCE, true),
            };
            for engine in ["cpu", "device"] {
                let progress = Progress::new();
                let width = model.config.flow.flow_dim;
                let session = model.session(&rows, engine);
                let mut field = Guided::new(session, &rows, width, &progress, 1);
                let mut z = model.io.get("in.z0").to_vec();
                let evaluations = solver.solve(&mut field, &mut z).expect("solved") as u64;
                let e = error(&z, model.io.get(&format!("{label}.latents")));
                println!("{name} {engine} {label}: {e:.1e}, {evaluations} evaluations");
                assert!(e <= tolerance, "{name} {engine} {label}: {e:e}");
                assert!(!same || Some(evaluations) == run["nfe"].as_u64(), "{label}");
            }
        }
    }
}

#[test]
fn sane_guidance_drops_melody_and_drums_where_the_reference_does_not() {
    let model = Model::load("melody");
    let mut given = model.given(&model.meta["runs"]["melody_only"]);
    given.drums = Some(model.drums.clone());
    given.silence = Some(vec![1.0; model.drums.len()]);
    let nothing = Conditions {
        text: model.text.clone(),
        ..Conditions::default()
    };
    let bare = model.conditioner.rows(&nothing, ALL, false);
    let sane = model.conditioner.rows(&given, ALL, false);
    let parity = model.conditioner.rows(&given, ALL, true);
    for term in [1, 2] {
        assert_eq!(sane.rows[term].local, bare.rows[0].local);
        assert_ne!(parity.rows[term].local, bare.rows[0].local);
    }
    assert_ne!(sane.rows[0].local, sane.rows[1].local);
}

#[test]
fn t5_with_a_mask_and_alone() {
    let dir = folder("t5");
    let io = Arrays::read(dir.join("io.safetensors"));
    let config = std::fs::read_to_string(dir.join("t5_config.json")).expect("golden");
    let config = T5Config::parse(&config).expect("golden");
    let weights = open(dir.join("t5.safetensors"));
    let t5 = T5::load(&plain(&weights), config).expect("T5");
    let pool = Pool::new(2);
    assert_eq!(t5.biases(0, 160), io.get("bias_head0"));
    let n = 160;
    for row in 0..2 {
        let ids: Vec<u32> = io.get("ids")[row * n..][..n]
            .iter()
            .map(|x| *x as u32)
            .collect();
        let keep: Vec<bool> = io.get("mask")[row * n..][..n]
            .iter()
            .map(|x| *x > 0.0)
            .collect();
        let all = t5.encode(&ids, Some(&keep), &pool).expect("known ids");
        let stored = &io.get("out")[row * all.len()..][..all.len()];
        assert!(
            error(&all, stored) <= TOLERANCE,
            "row {row}: {:e}",
            error(&all, stored)
        );
        if row == 1 {
            let alone = keep.iter().filter(|k| **k).count();
            let alone = t5.encode(&ids[..alone], None, &pool).expect("known ids");
            assert!(error(&alone, io.get("solo_row1")) <= TOLERANCE);
        }
    }
    assert!(matches!(
        t5.encode(&[128], None, &pool),
        Err(JascoError::Prompt { .. })
    ));
    assert!(matches!(
        t5.encode(&[1, 2], Some(&[true]), &pool),
        Err(JascoError::Prompt { .. })
    ));
}

#[test]
fn frame_chords_are_the_references() {
    let cases = json(folder("jasco").join("chords.json"));
    for case in cases.as_array().expect("cases") {
        let changes: Vec<(f64, &str)> = case["changes"]
            .as_array()
            .expect("changes")
            .iter()
            .map(|c| (c[0].as_f64().expect("time"), c[1].as_str().unwrap_or("")))
            .collect();
        let rate = case["frame_rate"].as_f64().expect("rate");
        let seconds = case["segment_duration"].as_f64().expect("seconds");
        let result = chords::frames(
            &changes,
            (seconds * rate) as usize,
            rate,
            case["min_timestamp"].as_u64().expect("frame") as usize,
            case["prev_chord"].as_str().expect("label"),
        );
        let name = &case["name"];
        match case["runs"].as_array() {
            None => assert!(
                matches!(&result, Err(JascoError::UnknownChord { label }) if label == "Cmaj9"),
                "{name}"
            ),
            Some(runs) => {
                let expected: Vec<u32> = runs
                    .iter()
                    .flat_map(|r| {
                        let number = |i: usize| r[i].as_u64().expect("number");
                        std::iter::repeat_n(number(0) as u32, number(1) as usize)
                    })
                    .collect();
                assert_eq!(result.expect("known"), expected, "{name}");
            }
        }
    }
}

#[test]
fn every_missing_and_misshapen_tensor_is_named() {
    let checkpoint = checkpoint("melody");
    let (source, xp) = stored(&checkpoint);
    let config = ModelConfig::read(&source, xp).expect("config");
    let spoiled = Spoiled {
        inner: &source,
        missing: "transformer.layers.2.norm_cross.bias",
        misshapen: "temb_proj.weight",
    };
    let message = weights::check(&spoiled, &config.needed())
        .expect_err("spoiled")
        .to_string();
    assert!(message.contains(spoiled.missing), "{message}");
    assert!(message.contains("temb_proj.weight has shape"), "{message}");
    // Without these nothing can be told about the model.
    for missing in ["emb.weight", "linear.weight"] {
        let spoiled = Spoiled {
            inner: &source,
            missing,
            misshapen: "",
        };
        let message = ModelConfig::read(&spoiled, xp)
            .expect_err("spoiled")
            .to_string();
        assert!(message.contains(missing), "{message}");
    }
}

#[test]
fn a_configuration_that_disagrees_or_asks_for_another_network_is_refused() {
    let checkpoint = checkpoint("skip");
    let (source, xp) = stored(&checkpoint);
    let tries: [(&str, &str, &str); 7] = [
        (
            "num_layers: 6",
            "num_layers: 4",
            "transformer_lm.num_layers",
        ),
        ("num_heads: 3", "num_heads: 5", "transformer_lm.num_heads"),
        (
            "skip_connections: true",
            "skip_connections: false",
            "transformer_lm.skip_connections",
        ),
        ("causal: false", "causal: true", "transformer_lm.causal"),
        ("norm: layer_norm", "norm: rms_norm", "transformer_lm.norm"),
        (
            "card: 194",
            "card: 12",
            "conditioners.chords.chords_emb.card",
        ),
        ("sample_rate: 32000", "sample_rate: many", "sample_rate"),
    ];
    for (from, to, named) in tries {
        assert!(xp.contains(from), "{from}");
        let error = ModelConfig::read(&source, &xp.replace(from, to)).expect_err(to);
        assert!(error.to_string().contains(named), "{error}");
    }
    // What isn't known is ignored, what isn't said is told by the shapes.
    let more = format!("{xp}\nnew_key: ${{nowhere}}\nother:\n  cache_path: /x/y\n");
    assert!(ModelConfig::read(&source, &more).is_ok());
    let heads_only = "transformer_lm:\n  num_heads: 3\n";
    let config = ModelConfig::read(&source, heads_only).expect("shapes tell the rest");
    let full = ModelConfig::read(&source, xp).expect("config");
    assert_eq!(config.flow, full.flow);
}

#[test]
fn another_prompt_or_seed_changes_the_result_and_the_number_of_threads_does_not() {
    let model = Model::load("melody");
    let given = model.given(&model.meta["runs"]["euler3"]);
    let rows = model.rows(&given, ALL);
    let run = |rows: &Rows, threads: usize, z0: f32| {
        let pool = Pool::new(threads);
        let progress = Progress::new();
        let session = Box::new(model.cpu.session(rows, &pool));
        let mut field = Guided::new(session, rows, model.config.flow.flow_dim, &progress, 2);
        let mut z: Vec<f32> = model.io.get("in.z0").iter().map(|z| z * z0).collect();
        Solver::Euler { steps: 2 }
            .solve(&mut field, &mut z)
            .expect("solved");
        z
    };
    let one = run(&rows, 1, 1.0);
    for threads in [2, 3, 5] {
        assert_eq!(one, run(&rows, threads, 1.0), "{threads} threads");
    }
    assert_ne!(one, run(&rows, 1, -1.0));
    let mut other = given.clone();
    other.text.iter_mut().for_each(|x| *x *= -1.0);
    assert_ne!(one, run(&model.rows(&other, ALL), 1, 1.0));
}

/// Cancelling acts within one evaluation.
#[test]
fn a_cancelled_generation_stops_at_the_next_evaluation() {
    struct Counting<'a>(&'a Progress, usize);
    impl Session for Counting<'_> {
        fn terms(
            &mut self,
            _: f32,
            _: &[f32],
            _: &mut [Vec<f32>],
            _: Option<uncook::regeneration::jasco::flow::Trace<'_>>,
        ) -> Result<(), JascoError> {
            self.1 += 1;
            if self.1 == 3 {
                self.0.cancel();
            }
            assert!(self.1 <= 3);
            Ok(())
        }
    }
    let progress = Progress::new();
    let rows = Rows {
        rows: Vec::new(),
        weights: Vec::new(),
        text: Vec::new(),
        frames: 4,
    };
    let mut field = Guided::new(Box::new(Counting(&progress, 0)), &rows, 1, &progress, 10);
    let result = Solver::Euler { steps: 10 }.solve(&mut field, &mut vec![0.0; 4]);
    assert!(matches!(result, Err(JascoError::Cancelled)));
    assert_eq!(field.evaluations(), 3);
    assert!((progress.done() - 0.3).abs() < 1e-3);
}

/// The trait is the codec's; its adapter must answer for names that aren't there.
#[test]
fn a_stored_checkpoint_answers_plainly_for_what_it_lacks() {
    let checkpoint = checkpoint("melody");
    let source = Stored {
        checkpoint: &checkpoint,
        prefix: "best_state.",
    };
    assert_eq!(source.shape("nothing"), None);
    let message = source
        .tensor_f32("nothing", &[1])
        .expect_err("nothing there");
    assert!(message.contains("nothing"), "{message}");
}

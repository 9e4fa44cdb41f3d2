// EnCodec against what the reference computed with random weights (tests/golden/encodec), and its limits.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use candle_core::{Device, Tensor};
use uncook::{
    models::{
        checkpoint::{Checkpoint, Limits},
        tensors::Tensors,
    },
    regeneration::encodec::{Encodec, EncodecConfig, EncodecError, PadMode},
};

pub(super) fn golden(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/golden", name]
        .iter()
        .collect()
}

pub(super) fn tensors(name: &str) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(golden(name), &Device::Cpu).expect("golden")
}

fn checkpoint(name: &str) -> Checkpoint {
    Checkpoint::open(golden(name), &Limits::default()).expect("golden")
}

/// Tensors in memory, to be renamed, left out or misshapen.
#[derive(Default, Clone)]
pub(super) struct Memory(pub HashMap<String, Tensor>);

impl Memory {
    pub fn read(name: &str) -> Self {
        Self(tensors(name))
    }
}

impl Tensors for Memory {
    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        Some(self.0.get(name)?.dims().to_vec())
    }

    fn tensor_f32(&self, name: &str, expected: &[usize]) -> Result<Vec<f32>, String> {
        let tensor = self.0.get(name).ok_or("missing")?;
        assert_eq!(tensor.dims(), expected);
        tensor
            .flatten_all()
            .and_then(|t| t.to_vec1())
            .map_err(|e| e.to_string())
    }
}

/// Largest difference relative to the reference's peak.
pub(super) fn difference(actual: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(actual.dims(), expected.dims());
    let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (a, e) = (flat(actual), flat(expected));
    let peak = e.iter().fold(0.0f64, |m, x| m.max(f64::from(x.abs())));
    let worst = a.iter().zip(&e).fold(0.0f64, |m, (a, e)| {
        let d = f64::from(*a) - f64::from(*e);
        if d.is_nan() {
            f64::INFINITY
        } else {
            m.max(d.abs())
        }
    });
    worst / peak.max(1e-30)
}

fn codes(t: &Tensor) -> Vec<i64> {
    t.to_dtype(candle_core::DType::I64)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

fn hugging_face_config() -> EncodecConfig {
    let json = std::fs::read_to_string(golden("encodec/hf_config.json")).unwrap();
    EncodecConfig::from_hugging_face(&json).unwrap()
}

const TOLERANCE: f64 = 2e-6;

fn check_cases(encodec: &Encodec, io: &HashMap<String, Tensor>, cases: &[&str]) {
    for case in cases {
        let at = |what: &str| &io[&format!("{case}.{what}")];
        let close = |what: &str, actual: &Tensor| {
            let error = difference(actual, at(what));
            assert!(error <= TOLERANCE, "{case}.{what}: {error:e}");
        };
        let latents = encodec.encode_latents(at("x")).unwrap();
        close("latents", &latents);
        let found = encodec.quantize(&latents).unwrap();
        assert_eq!(found.dims(), at("codes").dims());
        assert_eq!(codes(&found), codes(at("codes")), "{case}.codes");
        close("quantized", &encodec.dequantize(&found).unwrap());
        close("wav_from_codes", &encodec.decode_codes(&found).unwrap());
        if io.contains_key(&format!("{case}.wav_from_latents")) {
            close(
                "wav_from_latents",
                &encodec.decode_latents(at("latents")).unwrap(),
            );
        }
    }
}

#[test]
fn equals_the_reference_with_hugging_face_names_and_mirrored_edges() {
    let weights = checkpoint("encodec/hf_model.safetensors");
    let io = tensors("encodec/hf_io.safetensors");
    let encodec = Encodec::load(&weights, "", hugging_face_config(), &Device::Cpu).unwrap();
    assert_eq!(
        (encodec.sample_rate(), encodec.channels(), encodec.hop()),
        (32_000, 1, 640)
    );
    assert_eq!(encodec.frame_rate(), 50.0);
    check_cases(&encodec, &io, &["a", "b", "c"]);
    assert!(encodec.take_notices().is_empty());
}

#[test]
fn every_layer_equals_the_reference() {
    let weights = checkpoint("encodec/hf_model.safetensors");
    let io = tensors("encodec/hf_io.safetensors");
    let encodec = Encodec::load(&weights, "", hugging_face_config(), &Device::Cpu).unwrap();
    let mut seen = 0;
    let encoder = encodec.encoder_activations(&io["b.x"]).unwrap();
    let decoder = encodec.decoder_activations(&io["b.latents"]).unwrap();
    for (half, layers) in [("enc", encoder), ("dec", decoder)] {
        for (layer, actual) in layers {
            let Some(expected) = io.get(&format!("b.{half}.layer{layer}")) else {
                continue;
            };
            let error = difference(&actual, expected);
            assert!(error <= TOLERANCE, "{half} layer {layer}: {error:e}");
            seen += 1;
        }
    }
    // Encoder 3, 6, 9, 12 to 15, decoder 0, 1, 4: the others exist in tiles only.
    assert_eq!(seen, 10);
}

#[test]
fn candle_operators_give_the_same() {
    let weights = checkpoint("encodec/hf_model.safetensors");
    let io = tensors("encodec/hf_io.safetensors");
    let encodec =
        Encodec::load_with_candle(&weights, "", hugging_face_config(), &Device::Cpu).unwrap();
    check_cases(&encodec, &io, &["a", "b", "c"]);
    assert!(encodec.take_notices().is_empty(), "it fell back");
}

#[test]
fn equals_the_reference_with_native_names_and_zero_edges() {
    let io = tensors("encodec/native_io.safetensors");
    let encodec = native();
    assert_eq!(
        (encodec.config().codebooks, encodec.config().codebook_size),
        (4, 256)
    );
    check_cases(&encodec, &io, &["a", "b"]);
    let weights = checkpoint(NATIVE);
    let config = encodec.config().clone();
    let candle = Encodec::load_with_candle(&weights, "best_state.", config, &Device::Cpu).unwrap();
    check_cases(&candle, &io, &["a", "b"]);
    assert!(candle.take_notices().is_empty(), "it fell back");
}

const NATIVE: &str = "encodec/native_compression_state_dict.bin";

/// AudioCraft's own file, whose tensors lie under `best_state.`.
pub(super) fn native() -> Encodec {
    let codec = Encodec::open_native(&golden(NATIVE), None, &Device::Cpu).unwrap();
    assert_eq!(codec.config().pad_mode, PadMode::Zeros);
    codec
}

#[test]
fn a_second_opening_uses_what_the_first_one_kept() {
    let desk = tempfile::tempdir().unwrap();
    let (file, copies) = (desk.path().join("codec.bin"), desk.path().join("copies"));
    std::fs::copy(golden(NATIVE), &file).unwrap();
    let io = tensors("encodec/native_io.safetensors");
    let open = || {
        let codec = Encodec::open_native(&file, Some(&copies), &Device::Cpu).unwrap();
        assert_eq!(codec.take_notices(), [""; 0]);
        check_cases(&codec, &io, &["a", "b"]);
    };
    open();
    // The file itself isn't read again: nothing of it is left but its length and its time.
    spoil(&file);
    assert!(Encodec::open_native(&file, None, &Device::Cpu).is_err());
    open();
    // Where nothing can be kept a notice says so, and the codec works.
    let file = golden(NATIVE);
    let codec = Encodec::open_native(&file, Some(&file.join("below")), &Device::Cpu).unwrap();
    let notices = codec.take_notices();
    assert!(
        notices.len() == 1 && notices[0].contains("can't be kept"),
        "{notices:?}"
    );
    check_cases(&codec, &io, &["a"]);
}

/// Overwrites a file with zeros; length and time of change stay.
pub(super) fn spoil(path: &Path) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    let metadata = file.metadata().unwrap();
    std::fs::write(path, vec![0; metadata.len() as usize]).unwrap();
    file.set_modified(metadata.modified().unwrap()).unwrap();
}

#[test]
fn sizes_are_read_off_the_tensors() {
    let weights = checkpoint("encodec/hf_model.safetensors");
    let found = EncodecConfig::from_shapes(&weights, "", 32_000, PadMode::Reflect).unwrap();
    assert_eq!(found, hugging_face_config());
}

#[test]
fn both_spellings_of_weight_norm_and_a_prefix_are_read() {
    let io = tensors("encodec/hf_io.safetensors");
    let renamed = Memory::read("encodec/hf_model.safetensors")
        .0
        .into_iter()
        .map(|(name, t)| {
            let name = name
                .replace("weight_g", "parametrizations.weight.original0")
                .replace("weight_v", "parametrizations.weight.original1");
            (format!("some.where.{name}"), t)
        })
        .collect();
    let weights = Memory(renamed);
    let encodec =
        Encodec::load(&weights, "some.where.", hugging_face_config(), &Device::Cpu).unwrap();
    check_cases(&encodec, &io, &["b"]);
}

#[test]
fn a_batch_equals_its_signals_one_by_one() {
    let weights = checkpoint("encodec/hf_model.safetensors");
    let io = tensors("encodec/hf_io.safetensors");
    for load in [Encodec::load, Encodec::load_with_candle] {
        let encodec = load(&weights, "", hugging_face_config(), &Device::Cpu).unwrap();
        let one = &io["b.x"];
        let two = (one * -0.5).unwrap();
        let both = Tensor::cat(&[one, &two], 0).unwrap();
        let latents = encodec.encode_latents(&both).unwrap();
        let audio = encodec.decode_latents(&latents).unwrap();
        for (i, x) in [one, &two].into_iter().enumerate() {
            let single = encodec.encode_latents(x).unwrap();
            assert!(difference(&latents.narrow(0, i, 1).unwrap(), &single) < 1e-6);
            let single = encodec.decode_latents(&single).unwrap();
            assert!(difference(&audio.narrow(0, i, 1).unwrap(), &single) < 1e-6);
        }
    }
}

/// Tiles must leave no seam: lengths around multiples of tiles and hops against candle's whole-signal path.
#[test]
fn tiles_leave_no_seam_at_any_length() {
    let weights = checkpoint("encodec/hf_model.safetensors");
    let [host, candle] = [Encodec::load, Encodec::load_with_candle]
        .map(|load| load(&weights, "", hugging_face_config(), &Device::Cpu).unwrap());
    for len in [1, 2, 3, 7, 639, 640, 641, 6145, 98_303, 131_073] {
        let noise: Vec<f32> = (0..len)
            .map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 1.7e7 - 0.5)
            .collect();
        let x = Tensor::from_vec(noise, (1, 1, len as usize), &Device::Cpu).unwrap();
        let (a, b) = (
            host.encode_latents(&x).unwrap(),
            candle.encode_latents(&x).unwrap(),
        );
        assert_eq!(a.dims(), [1, 8, (len as usize).div_ceil(640)]);
        let error = difference(&a, &b);
        assert!(error < TOLERANCE, "latents of {len} samples: {error:e}");
        let error = difference(
            &host.decode_latents(&a).unwrap(),
            &candle.decode_latents(&a).unwrap(),
        );
        assert!(error < TOLERANCE, "audio of {len} samples: {error:e}");
    }
}

#[test]
fn every_missing_or_misshapen_tensor_is_named() {
    let mut weights = Memory::read("encodec/hf_model.safetensors");
    let gone = [
        "decoder.layers.1.lstm.bias_hh_l1",
        "quantizer.layers.2.codebook.embed",
    ];
    for name in gone {
        weights.0.remove(name).unwrap();
    }
    let bent = "encoder.layers.6.conv.bias";
    weights.0.insert(
        bent.into(),
        Tensor::zeros(3, candle_core::DType::F32, &Device::Cpu).unwrap(),
    );
    let error = Encodec::load(&weights, "", hugging_face_config(), &Device::Cpu)
        .err()
        .unwrap();
    let text = error.to_string();
    for name in gone.iter().chain(&[bent, "[3]", "[8]"]) {
        assert!(text.contains(name), "{name} in: {text}");
    }
    let error = Encodec::load(&weights, "else.", hugging_face_config(), &Device::Cpu)
        .err()
        .unwrap();
    assert!(matches!(error, EncodecError::NoEncodec { .. }), "{error}");
}

#[test]
fn wrong_shapes_and_codes_are_refused_in_words() {
    let weights = checkpoint("encodec/hf_model.safetensors");
    let encodec = Encodec::load(&weights, "", hugging_face_config(), &Device::Cpu).unwrap();
    let zeros =
        |shape: &[usize]| Tensor::zeros(shape, candle_core::DType::F32, &Device::Cpu).unwrap();
    for shape in [&[100][..], &[1, 100], &[1, 2, 100], &[1, 1, 0], &[0, 1, 5]] {
        let error = encodec.encode_latents(&zeros(shape)).unwrap_err();
        assert!(error.to_string().contains(&format!("{shape:?}")), "{error}");
    }
    assert!(encodec.decode_latents(&zeros(&[1, 9, 3])).is_err());
    let code = Tensor::from_vec(vec![0u32, 5, 1024, 3], (1, 4, 1), &Device::Cpu).unwrap();
    let error = encodec.decode_codes(&code).unwrap_err();
    assert!(
        matches!(
            error,
            EncodecError::Code {
                code: 1024,
                size: 1024
            }
        ),
        "{error}"
    );
}

#[test]
fn configurations_of_other_kinds_are_refused() {
    let json = std::fs::read_to_string(golden("encodec/hf_config.json")).unwrap();
    for (from, to) in [
        ("\"use_causal_conv\": false", "\"use_causal_conv\": true"),
        ("\"reflect\"", "\"circular\""),
        ("\"num_filters\": 2", "\"num_filters\": 0"),
        ("\"kernel_size\": 7", "\"kernel_size\": 1000000000"),
    ] {
        assert!(json.contains(from), "{from}");
        let error = EncodecConfig::from_hugging_face(&json.replacen(from, to, 1)).unwrap_err();
        assert!(matches!(error, EncodecError::Config(_)), "{error}");
    }
}

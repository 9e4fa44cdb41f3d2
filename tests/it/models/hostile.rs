// Files that are damaged, hostile or something else: each is refused with a reason, and nothing panics.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use proptest::prelude::*;
use uncook::models::checkpoint::{Checkpoint, CheckpointError, Key, Limits, Value, pickle};

use super::writer::{Pickle, f32_bytes, torch_zip, write, zip};

fn open_bytes(bytes: &[u8]) -> Result<Checkpoint, CheckpointError> {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "model.th", bytes);
    // On Unix a mapped file stays readable after its folder is gone; elsewhere keep it.
    let opened = Checkpoint::open(&path, &Limits::default());
    if !cfg!(unix) {
        std::mem::forget(folder);
    }
    opened
}

fn open_pickle(pickle: Vec<u8>) -> Result<Checkpoint, CheckpointError> {
    open_bytes(&torch_zip(&pickle, &[("0", &f32_bytes([1.0, 2.0, 3.0]))]))
}

/// The file is refused, and the reason names the file, `expected` and what to do.
fn refused(result: Result<Checkpoint, CheckpointError>, expected: &str) {
    let text = result.expect_err("it must be refused").to_string();
    for part in ["model.th", expected, ";"] {
        assert!(text.contains(part), "{text:?} lacks {part:?}");
    }
}

fn one_tensor(elements: i64, offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    Pickle::new()
        .op(b"}")
        .text("w")
        .tensor("FloatStorage", "0", elements, offset, shape, strides)
        .op(b"s")
        .stop()
}

#[test]
fn a_tensor_inside_its_storage_is_read() {
    let file = open_pickle(one_tensor(3, 1, &[2], &[1])).unwrap();
    assert_eq!(file.tensor_f32("w", &[2]).unwrap(), [2.0, 3.0]);
    // A stride of 0 repeats.
    let file = open_pickle(one_tensor(3, 2, &[2, 2], &[0, 0])).unwrap();
    assert_eq!(file.tensor_f32("w", &[2, 2]).unwrap(), [3.0; 4]);
}

#[test]
fn tensors_outside_their_storage_are_refused() {
    for (elements, offset, shape, strides) in [
        (3, 1, vec![3], vec![1]),
        (3, 0, vec![2], vec![3]),
        (3, i64::MAX, vec![1], vec![1]),
        (3, 0, vec![2], vec![i64::MAX]),
        (3, 0, vec![2, 2], vec![i64::MAX / 2, i64::MAX / 2]),
        (4, 0, vec![4], vec![1]),
        (i64::MAX, 0, vec![1], vec![1]),
        (3, 0, vec![i64::MAX, i64::MAX], vec![0, 0]),
        (3, 0, vec![1 << 40], vec![0]),
        // 2^31 elements from 3: nothing outside, but 8 GB from a file of 1 kB.
        (3, 0, vec![1 << 31], vec![0]),
    ] {
        let result = open_pickle(one_tensor(elements, offset, &shape, &strides));
        refused(result, "no real model");
    }
    for (offset, shape, strides) in [
        (-1, vec![1], vec![1]),
        (0, vec![-1], vec![1]),
        (0, vec![2], vec![-1]),
    ] {
        refused(
            open_pickle(one_tensor(3, offset, &shape, &strides)),
            "negative",
        );
    }
    refused(open_pickle(one_tensor(3, 0, &[1, 1], &[1])), "strides");
    refused(open_pickle(one_tensor(3, 0, &[1; 9], &[1; 9])), "axes");
}

#[test]
fn code_is_named_and_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let proof = folder.path().join("proof");
    let command = format!("touch {}", proof.display());
    for (module, name) in [
        ("os", "system"),
        ("posix", "system"),
        ("nt", "system"),
        ("subprocess", "Popen"),
        ("builtins", "exec"),
        ("__builtin__", "eval"),
        ("builtins", "getattr"),
        ("runpy", "_run_code"),
        ("torch.hub", "load"),
        ("torch.storage", "_load_from_bytes"),
        ("operator", "attrgetter"),
        ("importlib", "import_module"),
    ] {
        let call = Pickle::new()
            .global(module, name)
            .op(b"(")
            .text(&command)
            .op(b"tR")
            .stop();
        refused(open_pickle(call), name);
        let named = Pickle::new()
            .op(&[0x80, 4])
            .text(module)
            .text(name)
            .op(b"\x93")
            .stop();
        refused(open_pickle(named), name);
    }
    assert!(!proof.exists());
}

#[test]
fn unknown_classes_are_only_names() {
    let pickle = Pickle::new()
        .op(b"}(")
        .text("klass")
        .global("somebodys.package", "Network")
        .text("made")
        .global("somebodys.package", "make")
        .op(b"(")
        .int(7)
        .op(b"tR}")
        .text("weight")
        .tensor("FloatStorage", "0", 3, 0, &[3], &[1])
        .op(b"sbu")
        .stop();
    let file = open_pickle(pickle).unwrap();
    let class = file.value("klass").and_then(Value::class);
    assert_eq!(class, Some("somebodys.package.Network"));
    let Some(Value::Object(made)) = file.value("made") else {
        panic!("an object expected");
    };
    assert_eq!(&*made.class, "somebodys.package.make");
    assert_eq!(made.args, [Value::Int(7)]);
    assert_eq!(
        file.tensor_f32("made.weight", &[3]).unwrap(),
        [1.0, 2.0, 3.0]
    );
}

#[test]
fn every_kind_of_value_is_read() {
    let pickle = Pickle::new()
        .op(b"}(")
        .text("none")
        .op(b"N")
        .text("yes")
        .op(b"\x88")
        .text("list")
        .op(b"](K\x01M\x00\x02J\xff\xff\xff\xffe")
        .text("pi")
        .op(b"G")
        .op(&3.25f64.to_be_bytes())
        .text("bytes")
        .op(b"C\x02\x00\xff")
        .text("half")
        .global("fractions", "Fraction")
        .ints(&[39, 5])
        .op(b"R")
        .text("text half")
        .global("fractions", "Fraction")
        .op(b"(")
        .text("39/5")
        .op(b"tR")
        .text("long")
        .op(b"\x8a\x02\xfe\xff")
        .op(b"K\x05")
        .text("five")
        .text("a.b")
        .op(b"}")
        .text("c.d")
        .op(b"K\x2as")
        .text("twice")
        .op(b"K\x01")
        .text("twice")
        .op(b"K\x02u")
        .stop();
    let root = pickle::parse(&pickle, &Limits::default()).unwrap().root;
    assert_eq!(root.at("none"), Some(&Value::None));
    assert_eq!(root.at("yes").and_then(Value::as_bool), Some(true));
    assert_eq!(
        root.at("list").and_then(Value::as_slice),
        Some(&[Value::Int(1), Value::Int(512), Value::Int(-1)][..])
    );
    assert_eq!(root.at("list.1").and_then(Value::as_i64), Some(512));
    assert_eq!(root.at("pi").and_then(Value::as_f64), Some(3.25));
    assert_eq!(root.at("bytes"), Some(&Value::Bytes([0, 255][..].into())));
    for half in ["half", "text half"] {
        assert_eq!(root.at(half).and_then(Value::as_fraction), Some((39, 5)));
    }
    assert_eq!(root.at("long").and_then(Value::as_i64), Some(-2));
    assert_eq!(root.at("5").and_then(Value::as_str), Some("five"));
    assert_eq!(root.at("a.b.c.d").and_then(Value::as_i64), Some(42));
    let dict = root.as_dict().unwrap();
    let twice = Key::Str("twice".into());
    assert_eq!(dict.0.iter().filter(|(key, _)| *key == twice).count(), 1);
    assert_eq!(root.at("twice").and_then(Value::as_i64), Some(2));
}

#[test]
fn cycles_end() {
    // A list that holds itself, and an object whose state refers back to it (OmegaConf's `_parent`).
    let list = Pickle::new().op(b"]q\x00h\x00a.").0;
    let root = pickle::parse(&list, &Limits::default()).unwrap().root;
    assert_eq!(root, Value::List(vec![Value::Cycle]));
    let object = Pickle::new()
        .global("omegaconf.dictconfig", "DictConfig")
        .op(b")\x81q\x00}(")
        .text("_parent")
        .op(b"h\x00")
        .text("_content")
        .op(b"}")
        .text("rate")
        .global("omegaconf.nodes", "AnyNode")
        .op(b")\x81}(")
        .text("_val")
        .int(32000)
        .text("_parent")
        .op(b"h\x00ubsub")
        .stop();
    let root = pickle::parse(&object, &Limits::default()).unwrap().root;
    assert_eq!(root.at("_parent"), Some(&Value::Cycle));
    let plain = root.plain();
    assert_eq!(plain.at("rate").and_then(Value::as_i64), Some(32000));
    // A dictionary whose key is itself.
    let key = Pickle::new().op(b"}q\x00h\x00Ns.").0;
    refused(open_pickle(key), "contains itself");
}

#[test]
fn growth_is_bounded() {
    // Each list holds the one before twice: 2^40 values from 240 bytes.
    let mut laughs = Pickle::new().op(b"]q\x00");
    for i in 0..40u8 {
        laughs = laughs.op(&[b']', b'q', i + 1, b'(', b'h', i, b'h', i, b'e']);
    }
    refused(open_pickle(laughs.stop()), "values");
    refused(
        open_pickle(Pickle::new().op(&vec![b']'; 70_000]).stop()),
        "stack",
    );
    refused(
        open_pickle(Pickle::new().op(&vec![b'('; 70_000]).stop()),
        "marks",
    );
    let mut deep = Pickle::new().op(b"]");
    for _ in 0..200 {
        deep = deep.op(b"\x85");
    }
    refused(open_pickle(deep.stop()), "levels");
    let mut many = Pickle::new();
    for _ in 0..400_000 {
        many = many.op(b"N0");
    }
    refused(open_pickle(many.op(b"N").stop()), "values");
    // One long text encoded again and again.
    let mut encode = Pickle::new()
        .text(&"x".repeat(1 << 20))
        .op(b"q\x00")
        .global("_codecs", "encode")
        .op(b"q\x01");
    for _ in 0..1000 {
        encode = encode.op(b"h\x01h\x00\x85R");
    }
    refused(open_pickle(encode.stop()), "values");
    // One long key many times.
    let mut keys = Pickle::new().text(&"x".repeat(1 << 20)).op(b"q\x000}");
    for _ in 0..50_000 {
        keys = keys.op(b"h\x00Ns");
    }
    assert!(open_pickle(keys.stop()).is_ok());
}

#[test]
fn lengths_are_checked_before_anything_is_allocated() {
    let huge = [
        Pickle::new().op(b"X\xff\xff\xff\xff"),
        Pickle::new().op(b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff"),
        Pickle::new().op(b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f"),
        Pickle::new().op(b"\x96\xff\xff\xff\xff\xff\xff\xff\x7f"),
        Pickle::new().op(b"\x8b\xff\xff\xff\x7f"),
    ];
    for pickle in huge {
        refused(open_pickle(pickle.stop()), "bytes in one string");
    }
    refused(
        open_pickle(Pickle::new().op(b"X\xff\xff\x00\x00").stop()),
        "ends early",
    );
}

#[test]
fn nonsense_is_refused() {
    for pickle in [
        &b"\x80\x02"[..],
        b"\x80\x02.",
        b"\x80\x09N.",
        b"\x80\x02N.N",
        b"\x80\x02\xff.",
        b"\x80\x02h\x00.",
        b"\x80\x02R.",
        b"\x80\x02)R.",
        b"\x80\x02NN\x81.",
        b"\x80\x02Nb.",
        b"\x80\x02NNs.",
        b"\x80\x02}(Nu.",
        b"\x80\x02NQ.",
        b"\x80\x02ctorch\n",
        b"\x80\x02t.",
        b"\x80\x02N(.",
        b"",
    ] {
        refused(open_pickle(pickle.to_vec()), "model.th");
    }
}

#[test]
fn other_files_are_called_by_their_name() {
    for (bytes, what) in [
        (&b"<!DOCTYPE html><p>Sign in"[..], "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", "before 1.6"),
        (b"RIFF....WAVE", "another kind"),
        (b"", "empty"),
    ] {
        refused(open_bytes(bytes), what);
    }
    let entries = [("notes.txt".to_owned(), b"hello".to_vec())];
    refused(open_bytes(&zip(&entries, false)), "zip without");
    let missing = Checkpoint::open(Path::new("no/such/model.th"), &Limits::default());
    assert!(matches!(missing, Err(CheckpointError::Io { .. })));
}

#[test]
fn damaged_zips_are_refused() {
    let good = torch_zip(
        &one_tensor(3, 0, &[3], &[1]),
        &[("0", &f32_bytes([1.0, 2.0, 3.0]))],
    );
    assert!(open_bytes(&good).is_ok());
    for len in (4..good.len()).step_by(7) {
        refused(open_bytes(&good[..len]), "model.th");
    }
    // A flipped bit in the pickle is caught by its checksum even where the pickle stays a pickle.
    let at = good.windows(7).position(|w| w == b"storage").unwrap();
    let mut flipped = good.clone();
    flipped[at] ^= 1;
    refused(open_bytes(&flipped), "checksum");
    // One in a storage only when the sums are compared.
    let at = good
        .windows(4)
        .position(|w| w == 2f32.to_le_bytes())
        .unwrap();
    let mut flipped = good.clone();
    flipped[at] ^= 1;
    let text = open_bytes(&flipped).unwrap().verify_sums().unwrap_err();
    assert!(text.to_string().contains("checksum"), "{text}");
    // The directory says that there are more files than any model has.
    let mut many = good.clone();
    let end = good.len() - 22;
    many[end + 8..end + 12].copy_from_slice(&[0xfe, 0xff, 0xfe, 0xff]);
    refused(open_bytes(&many), "65534 files");
}

#[test]
fn sixty_four_bit_zips_are_read() {
    let entries = [
        ("a/data.pkl".to_owned(), one_tensor(3, 0, &[3], &[1])),
        ("a/data/0".to_owned(), f32_bytes([1.0, 2.0, 3.0])),
    ];
    let file = open_bytes(&zip(&entries, true)).unwrap();
    assert_eq!(file.tensor_f32("w", &[3]).unwrap(), [1.0, 2.0, 3.0]);
}

#[test]
fn safetensors_headers_are_checked() {
    let good = safetensors::serialize(
        [(
            "w",
            safetensors::tensor::TensorView::new(
                safetensors::Dtype::F32,
                vec![3],
                &f32_bytes([1.0, 2.0, 3.0]),
            )
            .unwrap(),
        )],
        None,
    )
    .unwrap();
    let file = open_bytes(&good).unwrap();
    assert_eq!(file.tensor_f32("w", &[3]).unwrap(), [1.0, 2.0, 3.0]);
    let with_header = |header: &str| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(&f32_bytes([1.0, 2.0, 3.0]));
        bytes
    };
    for header in [
        r#"{"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#,
        r#"{"w":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#,
        r#"{"w":{"dtype":"F32","shape":[3],"data_offsets":[4,16]}}"#,
        r#"{"w":{"dtype":"F32","shape":[18446744073709551615,2],"data_offsets":[0,12]}}"#,
        r#"{"w":{"dtype":"X","shape":[3],"data_offsets":[0,12]}}"#,
        r#"{"w""#,
        &"[".repeat(10_000),
    ] {
        let text = header.to_owned();
        refused(open_bytes(&with_header(&text)), "model.th");
    }
    for len in [u64::MAX, 1 << 40, 1 << 30, good.len() as u64] {
        let mut bytes = good.clone();
        bytes[..8].copy_from_slice(&len.to_le_bytes());
        refused(open_bytes(&bytes), "model.th");
    }
}

/// A safetensors file with this header and nothing behind it.
fn headed(header: &str) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes
}

/// As many of `entry` as fit a header of the largest length, each with its number for `#`, between `begin` and `end`.
fn flood(begin: &str, entry: &str, end: &str) -> String {
    let most = Limits::default().header_bytes - end.len() - 1;
    let mut text = begin.to_owned();
    for number in 0.. {
        let next = entry.replace('#', &format!("{number:x}"));
        if text.len() + next.len() > most {
            break;
        }
        text += &next;
    }
    text.truncate(text.trim_end_matches(',').len());
    text + end
}

/// The fullest headers that the limit lets in: each is counted to its limit and refused, not kept.
#[test]
fn floods_in_a_header_are_refused_before_anything_is_kept() {
    let tensor = r##""#":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"##;
    let shape = r##"{"w":{"dtype":"U8","data_offsets":[0,0],"shape":["##;
    for (header, reason) in [
        (flood("{", tensor, "}"), "20000 tensors"),
        // The same name over and over.
        (flood("{", &tensor.replace('#', ""), "}"), "20000 tensors"),
        (
            flood(r#"{"__metadata__":{"#, r##""#":"","##, "}}"),
            "1000 notes",
        ),
        (
            flood(r#"{"__metadata__":{"#, r#""":"","#, "}}"),
            "1000 notes",
        ),
        (flood(shape, "1,", "]}}"), "8 axes"),
        (flood(shape, "[],", "]}}"), "8 axes"),
        (flood(r#"{""#, "x", r#"":{}}"#), "name"),
        // No JSON, but long.
        (flood("{", "[", ""), "JSON"),
        (flood("{\"w\":", "[", ""), "JSON"),
        (flood("{\"w\":", "{\"a\":", ""), "JSON"),
        (flood("{", " ", ""), "JSON"),
        (flood("{\"w\":{\"shape\":", "9", "}}"), "JSON"),
        (flood("{\"", "\\u0001", "\":1}"), "name"),
    ] {
        assert!(header.len() > 2_000_000, "{}", header.len());
        let begin = header[..30].to_owned();
        let start = Instant::now();
        let result = open_bytes(&headed(&header));
        let took = start.elapsed();
        refused(result, reason);
        assert!(took < Duration::from_secs(1), "{begin}: {took:?}");
    }
    // One byte more isn't read at all.
    let long = flood("{", tensor, "}") + &" ".repeat(64);
    refused(open_bytes(&headed(&long)), "header claims");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever stands in a pickle, the walk ends without a panic.
    #[test]
    fn any_bytes_are_walked(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = pickle::parse(&bytes, &Limits::default());
    }

    /// The same for bytes that look like a pickle.
    #[test]
    fn changed_pickles_are_walked(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12)) {
        let mut bytes = Pickle::new()
            .op(b"}q\x00(").text("best_state").global("collections", "OrderedDict").op(b")R(")
            .text("w").tensor("FloatStorage", "0", 3, 0, &[3], &[1]).op(b"u}")
            .text("_metadata").op(b"](K\x01K\x02e\x85sb")
            .text("cfg").global("omegaconf.dictconfig", "DictConfig").op(b")\x81q\x01}")
            .text("_parent").op(b"h\x01sbu").stop();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = pickle::parse(&bytes, &Limits::default());
    }

    /// Whatever stands in a file that begins as a checkpoint, opening and reading it ends without a panic.
    #[test]
    fn changed_files_are_opened(
        which in 0usize..3,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        keep in 0.2f64..1.2,
    ) {
        let mut bytes = match which {
            0 => torch_zip(&one_tensor(3, 0, &[3], &[1]), &[("0", &f32_bytes([1.0, 2.0, 3.0]))]),
            1 => std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/formats/edge.bin")).unwrap(),
            _ => {
                let data = f32_bytes([1.0, 2.0, 3.0]);
                let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![3], &data).unwrap();
                safetensors::serialize([("w", view)], None).unwrap()
            }
        };
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(((bytes.len() as f64 * keep) as usize).max(1));
        if let Ok(file) = open_bytes(&bytes) {
            for name in file.names() {
                let view = file.tensor(name).unwrap();
                prop_assert_eq!(view.bytes.len(), view.shape.iter().product::<usize>() * view.dtype.bytes());
                let _ = view.to_f32();
            }
            let _ = file.verify_sums();
        }
    }
}

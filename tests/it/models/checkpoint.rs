// Checkpoints that PyTorch wrote: every element type, layout and kind of container.

use std::path::PathBuf;

use uncook::models::checkpoint::{Checkpoint, CheckpointError, DType, Limits, Value};

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/formats")
        .join(name)
}

fn open(name: &str) -> Checkpoint {
    Checkpoint::open(golden(name), &Limits::default()).expect("a golden file opens")
}

fn counting(from: usize, to: usize) -> Vec<f32> {
    (from..to).map(|i| i as f32).collect()
}

#[test]
fn element_types_are_widened_exactly() {
    let file = open("edge.bin");
    for (name, dtype) in [
        ("f32", DType::F32),
        ("f16", DType::F16),
        ("bf16", DType::BF16),
    ] {
        let name = format!("best_state.{name}");
        assert_eq!(file.dtype(&name), Some(dtype));
        assert_eq!(file.tensor_f32(&name, &[4, 6]).unwrap(), counting(0, 24));
    }
    for (name, dtype) in [
        ("i64", DType::I64),
        ("i32", DType::I32),
        ("bool", DType::Bool),
    ] {
        let name = format!("best_state.{name}");
        let error = file.tensor_f32(&name, file.shape(&name).unwrap());
        assert!(
            matches!(error, Err(CheckpointError::Type { actual, .. }) if actual == dtype),
            "{error:?}"
        );
    }
    let i64s = file.tensor("best_state.i64").unwrap();
    let expected: Vec<u8> = (0..6i64).flat_map(i64::to_le_bytes).collect();
    assert_eq!(*i64s.bytes, expected);
    assert_eq!(*file.tensor("best_state.bool").unwrap().bytes, [1, 0, 1]);
}

#[test]
fn strides_offsets_and_shared_storages_are_honoured() {
    let file = open("edge.bin");
    let get = |name: &str, shape: &[usize]| {
        file.tensor_f32(&format!("best_state.{name}"), shape)
            .unwrap()
    };
    // Row-major 4 × 6 seen as 6 × 4 without moving anything.
    let transposed: Vec<f32> = (0..6)
        .flat_map(|row| (0..4).map(move |column| (column * 6 + row) as f32))
        .collect();
    assert_eq!(get("transposed", &[6, 4]), transposed);
    // Rows 1 and 2.
    assert_eq!(get("slice_offset", &[2, 6]), counting(6, 18));
    // Every other column.
    let strided: Vec<f32> = (0..12).map(|i| (2 * i) as f32).collect();
    assert_eq!(get("strided", &[4, 3]), strided);
    assert_eq!(get("shared_a", &[4, 6]), counting(0, 24));
    assert_eq!(get("param", &[4, 6]), counting(0, 24));
    assert_eq!(get("scalar", &[]), [3.5]);
    assert_eq!(get("zero_size", &[0, 3]), [0.0; 0]);
}

#[test]
fn names_come_in_the_files_order() {
    let names: Vec<String> = open("edge.bin").names().map(str::to_owned).collect();
    let expected = [
        "f32",
        "f16",
        "bf16",
        "i64",
        "i32",
        "bool",
        "transposed",
        "slice_offset",
        "strided",
        "shared_a",
        "param",
        "scalar",
        "zero_size",
    ];
    assert_eq!(names, expected.map(|name| format!("best_state.{name}")));
}

#[test]
fn half_precision_layers_read_alike() {
    let file = open("fp16.bin");
    assert_eq!(file.names().len(), 12);
    let norm = file
        .tensor_f32("best_state.transformer.layers.0.norm_cross.weight", &[48])
        .unwrap();
    assert!(norm.iter().all(|x| (0.5..1.5).contains(x)), "{norm:?}");
    let first = file
        .tensor_f32(
            "best_state.transformer.layers.0.self_attn.in_proj_weight",
            &[144, 48],
        )
        .unwrap();
    assert_eq!(
        first[..4],
        [-0.291_748_05, -0.013_488_769_5, 0.186_889_65, 0.085_144_04]
    );
}

#[test]
fn a_state_dict_with_metadata_is_a_plain_dictionary() {
    let file = open("ordereddict_with_metadata.bin");
    let names: Vec<&str> = file.names().collect();
    assert_eq!(names, ["best_state.l.weight", "best_state.l.bias"]);
    let bias = file.tensor_f32("best_state.l.bias", &[2]).unwrap();
    assert_eq!(bias, [-0.118_775_56, 0.293_723_4]);
    assert_eq!(file.value("xp.cfg").and_then(Value::as_str), Some("x: 1"));
    assert_eq!(file.value("exported"), Some(&Value::Bool(true)));
    file.verify_sums().expect("PyTorch's checksums hold");
}

#[test]
fn a_missing_or_misshapen_tensor_is_named() {
    let file = open("edge.bin");
    let missing = file.tensor_f32("best_state.f33", &[4, 6]).unwrap_err();
    let text = missing.to_string();
    assert!(
        text.contains("best_state.f33") && text.contains("[4, 6]"),
        "{text}"
    );
    let misshapen = file.tensor_f32("best_state.f32", &[6, 4]).unwrap_err();
    let text = misshapen.to_string();
    assert!(
        text.contains("edge.bin") && text.contains("[4, 6]") && text.contains("[6, 4]"),
        "{text}"
    );
}

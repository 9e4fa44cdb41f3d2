// Copies that open at once: what is kept comes back bit for bit, what is damaged or old is never used.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use uncook::{
    dense::aligned::Lent,
    models::{
        checkpoint::{Checkpoint, DType, Limits},
        convert::{Copy, Draft, Form, forget},
        hash,
    },
};

const FORM: Form = Form {
    name: "test-1",
    lanes: 16,
};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/formats")
        .join(name)
}

fn open(path: &Path) -> Checkpoint {
    Checkpoint::open(path, &Limits::default()).unwrap()
}

/// Lengths that fill lines of 64 bytes, and that don't.
fn arrays() -> Vec<(&'static str, Vec<f32>)> {
    let numbers = |n: usize| (0..n).map(|i| (i as f32).sin()).collect();
    vec![
        ("long", numbers(50_000)),
        ("odd", numbers(33)),
        ("none", Vec::new()),
        ("line", numbers(16)),
    ]
}

/// Makes a copy of `source` with [`arrays`] and every tensor of floats under another name.
fn make(source: &Path, folder: &Path, form: &Form) {
    let checkpoint = open(source);
    let draft = Draft::new(&checkpoint).unwrap();
    draft.text("config", "a: 1\n\"quoted\" ümlaut");
    for (name, numbers) in arrays() {
        draft.array(name, Arc::new(numbers));
    }
    for name in checkpoint.names() {
        draft.shape(name, checkpoint.shape(name).unwrap());
        draft.tensor(&format!("own.{name}"), name);
    }
    draft.write(folder, form).unwrap();
}

fn check(copy: &Copy, source: &Path) {
    assert_eq!(copy.text("config"), Some("a: 1\n\"quoted\" ümlaut"));
    assert_eq!(copy.text("nothing"), None);
    for (name, numbers) in arrays() {
        let array: Lent = copy.array(name).unwrap();
        assert_eq!((*array).as_ref(), numbers, "{name}");
        assert_eq!((*array).as_ref().as_ptr().addr() % 64, 0, "{name}");
    }
    assert!(copy.array("nothing").is_none());
    let original = open(source);
    for name in original.names() {
        let shape = original.shape(name).unwrap();
        assert_eq!(copy.shape(name), Some(shape));
        let floats = [DType::F16, DType::BF16, DType::F32, DType::F64];
        if floats.contains(&original.dtype(name).unwrap()) {
            assert_eq!(
                copy.tensor_f32(&format!("own.{name}"), shape).unwrap(),
                original.tensor_f32(name, shape).unwrap(),
                "{name}"
            );
        }
        // Bytes are no floats, whatever they are asked for as.
        if original.dtype(name) == Some(DType::U8) {
            assert!(copy.array(&format!("own.{name}")).is_none());
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let mut all: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    all.sort();
    all
}

fn the_copy(folder: &Path) -> PathBuf {
    let is_copy = |path: &PathBuf| path.extension().is_some_and(|e| e == "safetensors");
    files(folder).into_iter().find(is_copy).unwrap()
}

#[test]
fn what_is_kept_comes_back_where_it_lies() {
    for name in ["edge.bin", "fp16.bin", "ordereddict_with_metadata.bin"] {
        let folder = tempfile::tempdir().unwrap();
        let copies = folder.path().join("copies");
        assert!(Copy::find(&golden(name), &copies, &FORM).is_none());
        make(&golden(name), &copies, &FORM);
        let copy = Copy::find(&golden(name), &copies, &FORM).unwrap();
        check(&copy, &golden(name));
        let sum = hash::sha256(&fs::read(golden(name)).unwrap());
        assert_eq!(
            copy.path(),
            copies.join(format!("{sum}.test-1-16.safetensors"))
        );
        // It is the documented form: any reader opens it.
        let bytes = fs::read(copy.path()).unwrap();
        let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(read.tensor("odd").unwrap().shape(), [33]);
        // Arrays outlive the copy that they came from.
        let array = copy.array("long").unwrap();
        drop(copy);
        assert_eq!((*array).as_ref(), arrays()[0].1);
        assert_eq!(files(&copies).len(), 2, "nothing is left aside");
    }
}

#[test]
fn the_source_is_not_read_again_until_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let (source, copies) = (
        folder.path().join("model.bin"),
        folder.path().join("copies"),
    );
    fs::copy(golden("edge.bin"), &source).unwrap();
    make(&source, &copies, &FORM);
    // Other bytes under the same path, length and time: only somebody who reads them would notice.
    let metadata = fs::metadata(&source).unwrap();
    fs::write(&source, vec![7; metadata.len() as usize]).unwrap();
    let file = fs::File::options().write(true).open(&source).unwrap();
    file.set_modified(metadata.modified().unwrap()).unwrap();
    check(
        &Copy::find(&source, &copies, &FORM).unwrap(),
        &golden("edge.bin"),
    );
    // Changed at another time, they are another file.
    let later = metadata.modified().unwrap() + std::time::Duration::from_secs(1);
    file.set_modified(later).unwrap();
    assert!(Copy::find(&source, &copies, &FORM).is_none());
    // The same content again is found under its hash: the copy is not written anew.
    fs::copy(golden("edge.bin"), &source).unwrap();
    let before = fs::metadata(the_copy(&copies)).unwrap();
    make(&source, &copies, &FORM);
    let after = fs::metadata(the_copy(&copies)).unwrap();
    assert_eq!(before.modified().unwrap(), after.modified().unwrap());
    assert!(Copy::find(&source, &copies, &FORM).is_some());
}

#[test]
fn other_vectors_have_their_own_copy_and_another_version_replaces_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let source = golden("edge.bin");
    let narrow = Form { lanes: 8, ..FORM };
    let newer = Form {
        name: "test-2",
        ..FORM
    };
    make(&source, folder.path(), &FORM);
    assert!(Copy::find(&source, folder.path(), &narrow).is_none());
    make(&source, folder.path(), &narrow);
    assert!(Copy::find(&source, folder.path(), &FORM).is_some());
    assert!(Copy::find(&source, folder.path(), &newer).is_none());
    make(&source, folder.path(), &newer);
    assert!(Copy::find(&source, folder.path(), &newer).is_some());
    assert!(Copy::find(&source, folder.path(), &narrow).is_some());
    assert!(Copy::find(&source, folder.path(), &FORM).is_none());
    let sum = hash::sha256(&fs::read(&source).unwrap());
    assert_eq!(forget(folder.path(), &["no"].into()).unwrap(), 0);
    assert!(forget(folder.path(), &[sum.as_str()].into()).unwrap() > 2 * 200_000);
    assert!(files(folder.path()).is_empty());
}

#[test]
fn a_damaged_copy_is_not_used_and_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let source = golden("edge.bin");
    let copies = folder.path().join("copies");
    make(&source, &copies, &FORM);
    let path = the_copy(&copies);
    let whole = fs::read(&path).unwrap();
    let mut hurt: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"cut".to_vec(),
        whole[..whole.len() - 1].to_vec(),
        whole[..whole.len() / 2].to_vec(),
        [&whole[..], &[0]].concat(),
        vec![0; whole.len()],
    ];
    // This one is short enough for every byte to be looked at.
    for place in [
        9,
        whole.len() / 3,
        whole.len() / 2,
        whole.len() - 40,
        whole.len() - 1,
    ] {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x10;
        hurt.push(bytes);
    }
    for (which, bytes) in hurt.iter().enumerate() {
        fs::write(&path, bytes).unwrap();
        assert!(Copy::find(&source, &copies, &FORM).is_none(), "{which}");
        make(&source, &copies, &FORM);
        check(&Copy::find(&source, &copies, &FORM).unwrap(), &source);
    }
    // A note that holds no hash finds nothing.
    let is_note = |path: &PathBuf| path.extension().is_some_and(|e| e == "source");
    let note = files(&copies).into_iter().find(is_note).unwrap();
    for text in ["", "../../etc/passwd", &"/".repeat(64)] {
        fs::write(&note, text).unwrap();
        assert!(Copy::find(&source, &copies, &FORM).is_none());
    }
}

#[test]
fn damage_that_only_checksums_show_never_gets_into_a_copy() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("model.bin");
    let mut bytes = fs::read(golden("edge.bin")).unwrap();
    let number = 23f32.to_le_bytes();
    let at = bytes.windows(4).position(|w| w == number).unwrap();
    bytes[at] ^= 1;
    fs::write(&source, bytes).unwrap();
    let error = Draft::new(&open(&source)).err().unwrap();
    assert!(error.to_string().contains("checksum"), "{error}");
}

#[test]
fn where_no_copy_can_be_written_the_reason_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, b"not a folder").unwrap();
    let source = open(&golden("edge.bin"));
    let draft = Draft::new(&source).unwrap();
    let error = draft.write(&file.join("below"), &FORM).unwrap_err();
    assert!(error.to_string().contains("can't be written"), "{error}");
    // A tensor that the source lacks is no copy either, and nothing is left behind.
    let draft = Draft::new(&source).unwrap();
    draft.tensor("own", "nothing");
    assert!(draft.write(folder.path(), &FORM).is_err());
    assert_eq!(files(folder.path()), [file]);
}

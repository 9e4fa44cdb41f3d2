//! The cache and the sidecars, against what disks, crashes and other processes do to them.

use std::{fs, path::Path};

use uncook::{
    audio::AudioBuffer,
    cache::{
        Cache, CacheError, KeyBuilder,
        commits::{self, CommitError, CommitRef},
        decode_audio, decode_value, encode_audio, encode_value,
    },
    exchange::{
        SamplePos,
        samples::{self, StereoSamples},
    },
};

use super::support::Noise;

fn key(n: u64) -> uncook::cache::Key {
    KeyBuilder::new("test", 1).u64(n).finish()
}

/// Every file under `dir`, sorted.
fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut out = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(d) = open.pop() {
        for e in fs::read_dir(d).unwrap().flatten() {
            if e.path().is_dir() {
                open.push(e.path());
            } else {
                out.push(e.path());
            }
        }
    }
    out.sort();
    out
}

#[test]
fn a_result_comes_back_and_survives_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), 1 << 20).unwrap();
    assert_eq!(cache.get(&key(1)), None);
    cache.put(&key(1), b"one").unwrap();
    cache.put(&key(2), b"").unwrap();
    assert_eq!(cache.get(&key(1)).as_deref(), Some(&b"one"[..]));
    cache.put(&key(1), b"another").unwrap();
    drop(cache);
    let cache = Cache::open(dir.path(), 1 << 20).unwrap();
    assert_eq!(cache.get(&key(1)).as_deref(), Some(&b"another"[..]));
    assert_eq!(cache.get(&key(2)).as_deref(), Some(&b""[..]));
    assert_eq!(cache.counts().hits, 2);
    assert_eq!(files(dir.path()).len(), 2, "nothing is left aside");
}

#[test]
fn keys_tell_every_sequence_of_items_apart() {
    let new = || KeyBuilder::new("stage", 1);
    let keys = [
        new().finish(),
        KeyBuilder::new("stage", 2).finish(),
        KeyBuilder::new("stag", 1).str("e").finish(),
        new().str("ab").str("c").finish(),
        new().str("a").str("bc").finish(),
        new().str("abc").finish(),
        new().bytes(b"abc").finish(),
        new().str("").str("abc").finish(),
        new().samples(&[0.0]).finish(),
        new().samples(&[-0.0]).finish(),
        new().samples(&[0.0, 0.0]).finish(),
        new().samples(&[0.0]).samples(&[0.0]).finish(),
        new().bytes(&[0; 4]).finish(),
        new().u64(1).finish(),
        new().bytes(&1u64.to_le_bytes()).finish(),
    ];
    for (i, a) in keys.iter().enumerate() {
        assert_eq!(a.as_str().len(), 64);
        for b in &keys[..i] {
            assert_ne!(a, b);
        }
    }
    // SHA-256 of the documented layout, written out by hand: kind, length, content of each item.
    use sha2::Digest;
    let mut bytes = Vec::new();
    for (kind, content) in [
        (b's', &b"stage"[..]),
        (b'u', &1u64.to_le_bytes()),
        (b's', b"abc"),
    ] {
        bytes.push(kind);
        bytes.extend_from_slice(&(content.len() as u64).to_le_bytes());
        bytes.extend_from_slice(content);
    }
    let hex: String = sha2::Sha256::digest(&bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    assert_eq!(new().str("abc").finish().as_str(), hex);
    // A long channel is hashed in pieces: the last sample counts.
    let (mut long, base) = (vec![0.5f32; 5000], vec![0.5f32; 5000]);
    assert_eq!(new().samples(&long).finish(), new().samples(&base).finish());
    long[4999] = 0.25;
    assert_ne!(new().samples(&long).finish(), new().samples(&base).finish());
}

#[test]
fn a_flipped_bit_anywhere_or_a_missing_end_is_found_and_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), 1 << 20).unwrap();
    let payload = b"the payload of an entry";
    cache.put(&key(7), payload).unwrap();
    let path = files(dir.path()).remove(0);
    let good = fs::read(&path).unwrap();
    let mut wrong = 0;
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        for bad in [bad, good[..at].to_vec()] {
            fs::write(&path, bad).unwrap();
            assert_eq!(cache.get(&key(7)), None, "byte {at}");
            assert!(!path.exists(), "byte {at}");
            wrong += 1;
            assert_eq!(cache.counts().corrupted, wrong);
        }
    }
    let mut longer = good.clone();
    longer.push(0);
    fs::write(&path, longer).unwrap();
    assert_eq!(cache.get(&key(7)), None);
    cache.put(&key(7), payload).unwrap();
    assert_eq!(cache.get(&key(7)).as_deref(), Some(&payload[..]));
}

#[test]
fn the_oldest_used_goes_first_and_the_limit_holds() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), 100_000).unwrap();
    for n in 0..9 {
        cache.put(&key(n), &[n as u8; 10_000]).unwrap();
    }
    // Ages, written by hand: entry n was used n minutes after the first.
    let start = std::time::SystemTime::now() - std::time::Duration::from_secs(7200);
    for path in files(dir.path()) {
        let n = fs::read(&path).unwrap()[60];
        fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(start + std::time::Duration::from_secs(60 * u64::from(n)))
            .unwrap();
    }
    assert!(cache.get(&key(0)).is_some(), "now the newest");
    for n in 9..12 {
        cache.put(&key(n), &[n as u8; 10_000]).unwrap();
        let total: u64 = files(dir.path())
            .iter()
            .map(|p| p.metadata().unwrap().len())
            .sum();
        assert!(total <= 100_000, "{total}");
    }
    assert!(cache.get(&key(0)).is_some());
    assert!(cache.get(&key(1)).is_none());
    for n in 5..12 {
        assert!(cache.get(&key(n)).is_some(), "{n}");
    }
    assert!(matches!(
        cache.put(&key(99), &vec![0; 100_001]),
        Err(CacheError::TooLarge { .. })
    ));
    assert!(cache.get(&key(11)).is_some(), "too large evicts nothing");
    // A smaller limit holds as soon as the store is opened.
    let small = Cache::open(dir.path(), 25_000).unwrap();
    assert!(files(dir.path()).len() <= 2);
    assert!(small.counts().evicted > 0);
}

#[test]
fn files_that_are_not_ours_stay_and_abandoned_ones_go() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), 1000).unwrap();
    cache.put(&key(1), &[1; 700]).unwrap();
    fs::write(dir.path().join("note.txt"), [0; 5000]).unwrap();
    fs::create_dir(dir.path().join("other")).unwrap();
    fs::write(dir.path().join("other/x.entry"), [0; 5000]).unwrap();
    let shelf = files(dir.path())
        .into_iter()
        .find(|p| p.extension().is_some_and(|e| e == "entry") && !p.ends_with("other/x.entry"))
        .unwrap();
    let aside = shelf.with_file_name("1-1-1.aside");
    let fresh = shelf.with_file_name("1-1-2.aside");
    fs::write(&aside, b"half").unwrap();
    fs::write(&fresh, b"half").unwrap();
    fs::File::options()
        .write(true)
        .open(&aside)
        .unwrap()
        .set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(90_000))
        .unwrap();
    cache.put(&key(2), &[2; 700]).unwrap();
    assert!(!aside.exists() && fresh.exists());
    assert!(dir.path().join("note.txt").exists() && dir.path().join("other/x.entry").exists());
    assert_eq!(cache.counts().evicted, 1);
}

#[test]
fn threads_and_stores_share_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let stores = [
        Cache::open(dir.path(), 45_000).unwrap(),
        Cache::open(dir.path(), 45_000).unwrap(),
    ];
    std::thread::scope(|scope| {
        for t in 0..4u64 {
            let cache = &stores[t as usize % 2];
            scope.spawn(move || {
                for round in 0..150u64 {
                    let n = (round * 7 + t * 3) % 20;
                    // What a key stands for is a function of the key.
                    let want = vec![n as u8; 1000 + 200 * n as usize];
                    match cache.get(&key(n)) {
                        Some(found) => assert_eq!(found, want),
                        None => cache.put(&key(n), &want).unwrap(),
                    }
                }
            });
        }
    });
    for cache in &stores {
        assert_eq!(cache.counts().corrupted, 0);
    }
    assert!(stores.iter().any(|c| c.counts().evicted > 0));
    assert!(stores.iter().any(|c| c.counts().hits > 0));
}

/// Signals that need every kind of block, several blocks long.
fn signals() -> Vec<(&'static str, Vec<f32>)> {
    let mut noise = Noise(3);
    let n = 5000;
    let float: Vec<f32> = (0..n)
        .map(|i| (i as f32 * 0.05).sin() * 0.7 + 0.01 * noise.next())
        .collect();
    let pcm16: Vec<f32> = float
        .iter()
        .map(|x| (x * 32768.0).round() / 32768.0)
        .collect();
    let pcm24: Vec<f32> = float
        .iter()
        .map(|x| (x * 8_388_608.0).round() / 8_388_608.0)
        .collect();
    let mut specials = float.clone();
    specials[10] = f32::NAN;
    specials[11] = f32::from_bits(0xffc0_1234);
    specials[3000] = f32::NEG_INFINITY;
    specials[4100] = -0.0;
    let decay: Vec<f32> = (0..n).map(|i| noise.next() * 0.97f32.powi(i)).collect();
    let any: Vec<f32> = (0..n)
        .map(|_| f32::from_bits((noise.next().to_bits() << 9) ^ noise.next().to_bits()))
        .collect();
    let tiny: Vec<f32> = (0..n)
        .map(|_| f32::from_bits((noise.next().abs() * 5e6) as u32))
        .collect();
    let signed_zeros: Vec<f32> = (0..n)
        .map(|i| if i % 3 == 0 { -0.0 } else { 0.0 })
        .collect();
    let extremes = [f32::MAX, f32::MIN, f32::MIN_POSITIVE, 1e-45, 1.0, -1.0, 0.0]
        .iter()
        .copied()
        .cycle()
        .take(n as usize)
        .collect();
    let square = (0..n)
        .map(|i| if i / 50 % 2 == 0 { 1.0 } else { -1.0 })
        .collect();
    vec![
        ("float", float),
        ("16 bit", pcm16),
        ("24 bit", pcm24),
        ("specials", specials),
        ("decay into subnormals", decay),
        ("any bits", any),
        ("subnormals", tiny),
        ("signed zeros", signed_zeros),
        ("extremes", extremes),
        ("square", square),
        ("silence", vec![0.0; 5000]),
        ("one", vec![0.3]),
        ("none", vec![]),
    ]
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn audio_comes_back_bit_for_bit_and_smaller() {
    for (name, signal) in signals() {
        let audio = AudioBuffer::new(vec![signal.clone(), signal.clone()], 44_100);
        let packed = encode_audio(&audio);
        let back = decode_audio(&packed).unwrap();
        assert_eq!(back.sample_rate, 44_100);
        for channel in &back.channels {
            assert_eq!(bits(channel), bits(&signal), "{name}");
        }
        let ratio = packed.len() as f64 / (8 * signal.len().max(1)) as f64;
        match name {
            "float" => assert!(ratio < 0.80, "{name} {ratio}"),
            "16 bit" => assert!(ratio < 0.40, "{name} {ratio}"),
            "24 bit" => assert!(ratio < 0.70, "{name} {ratio}"),
            "square" | "silence" => assert!(ratio < 0.06, "{name} {ratio}"),
            _ => assert!(packed.len() <= 8 * signal.len() + 128, "{name} {ratio}"),
        }
    }
    let empty = AudioBuffer::new(vec![], 8000);
    assert_eq!(decode_audio(&encode_audio(&empty)).unwrap(), empty);
}

#[test]
fn bytes_from_anywhere_never_panic_nor_ask_for_much_memory() {
    let audio = AudioBuffer::new(signals().into_iter().take(3).map(|s| s.1).collect(), 48_000);
    let good = encode_audio(&audio);
    for cut in (0..good.len()).step_by(97) {
        assert!(decode_audio(&good[..cut]).is_err(), "{cut}");
    }
    let mut noise = Noise(5);
    for round in 0..2000usize {
        let mut bad = good.clone();
        for _ in 0..1 + round % 4 {
            let at = ((noise.next() * 0.5 + 0.5) * (bad.len() - 1) as f32) as usize;
            bad[at] ^= 1 << (round % 8);
        }
        // Changed or refused: both are fine, a panic is not.
        let _ = decode_audio(&bad);
    }
    // A claim of 2^60 samples, of 2^31 samples without data, and of too many channels.
    for (channels, frames) in [
        (1u32, 1u64 << 60),
        (1, 1 << 31),
        (2, u64::MAX),
        (65, 0),
        (u32::MAX, 1),
    ] {
        let mut claim = 48_000u32.to_le_bytes().to_vec();
        claim.extend_from_slice(&channels.to_le_bytes());
        claim.extend_from_slice(&frames.to_le_bytes());
        assert!(decode_audio(&claim).is_err());
    }
    let value = vec![("a".to_owned(), 0.1f64 + 0.2, Some(3i32))];
    let back: Vec<(String, f64, Option<i32>)> =
        decode_value(&encode_value(&value).unwrap()).unwrap();
    assert_eq!(back, value);
    assert!(decode_value::<Vec<f32>>(b"[1, 2").is_err());
}

fn stereo(seed: u64, frames: usize) -> StereoSamples {
    let mut noise = Noise(seed);
    let [left, right] = [0, 1].map(|_| (0..frames).map(|_| noise.next()).collect::<Vec<_>>());
    samples::stereo(SamplePos(-480), [&left, &right], &[])
}

fn example(dir: &Path, seed: u64) -> (CommitRef, [StereoSamples; 3]) {
    let [take, base, layer] = [0, 1, 2].map(|i| stereo(seed + i, 3000));
    let layers = [Some(layer.clone()), None, None, None];
    let commit = commits::save(
        dir,
        SamplePos(-480),
        48_000,
        &take,
        &base,
        &layers,
        "{\"a\":1}",
    )
    .unwrap();
    (commit, [take, base, layer])
}

#[test]
fn a_patch_is_committed_and_loaded_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    let (commit, [take, base, layer]) = example(dir.path(), 1);
    assert_eq!(commit.file, format!("{}.uncookpatch", commit.hash));
    assert_eq!(
        (commit.start, commit.frames, commit.sample_rate),
        (-480, 3000, 48_000)
    );
    let (patch, meta) = commits::load(&[dir.path()], &commit).unwrap();
    assert_eq!(meta, "{\"a\":1}");
    assert_eq!(
        (patch.start, patch.sample_rate, patch.id),
        (SamplePos(-480), 48_000, commit.hash.clone())
    );
    assert_eq!((patch.take, patch.base), (take, base));
    assert_eq!(patch.layers, [Some(layer), None, None, None]);
    // The name is the plain SHA-256 of the file: any tool can check it.
    use sha2::Digest;
    let hex: String = sha2::Sha256::digest(fs::read(dir.path().join(&commit.file)).unwrap())
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    assert_eq!(hex, commit.hash);
    // The reference survives the project's JSON.
    let json = serde_json::to_string(&commit).unwrap();
    assert_eq!(serde_json::from_str::<CommitRef>(&json).unwrap(), commit);
}

#[test]
fn equal_content_is_one_file_and_is_not_rewritten() {
    let dir = tempfile::tempdir().unwrap();
    let (first, _) = example(dir.path(), 1);
    let path = dir.path().join(&first.file);
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(9000);
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(old)
        .unwrap();
    let before = path.metadata().unwrap().modified().unwrap();
    let (second, _) = example(dir.path(), 1);
    assert_eq!(first, second);
    assert_eq!(path.metadata().unwrap().modified().unwrap(), before);
    let (third, _) = example(dir.path(), 9);
    assert_ne!(first.hash, third.hash);
    assert_eq!(files(dir.path()).len(), 2);
    // A damaged file of that name is healed by saving again.
    let mut bytes = fs::read(&path).unwrap();
    bytes[500] ^= 4;
    fs::write(&path, bytes).unwrap();
    assert!(commits::load(&[dir.path()], &first).is_err());
    example(dir.path(), 1);
    assert!(commits::load(&[dir.path()], &first).is_ok());
}

#[test]
fn wrong_sidecars_are_refused_with_file_and_cure() {
    let dir = tempfile::tempdir().unwrap();
    let (commit, _) = example(dir.path(), 1);
    let (other, _) = example(dir.path(), 9);
    let path = dir.path().join(&commit.file);
    let good = fs::read(&path).unwrap();
    let told = |e: CommitError| {
        let text = e.to_string();
        assert!(text.contains(&commit.hash[..16]), "{text}");
        assert!(text.contains("analyse again"), "{text}");
        e
    };

    for cut in [0, 7, 8, 40, good.len() - 1] {
        fs::write(&path, &good[..cut]).unwrap();
        let e = told(commits::load(&[dir.path()], &commit).unwrap_err());
        assert!(matches!(e, CommitError::Damaged { .. }));
    }
    // Swapped: another intact sidecar under this name.
    fs::copy(dir.path().join(&other.file), &path).unwrap();
    let e = told(commits::load(&[dir.path()], &commit).unwrap_err());
    assert!(matches!(e, CommitError::Damaged { .. }));
    // An intact copy in the second folder is found.
    let relinked = tempfile::tempdir().unwrap();
    fs::write(relinked.path().join(&commit.file), &good).unwrap();
    assert!(commits::load(&[dir.path(), relinked.path()], &commit).is_ok());

    fs::remove_file(&path).unwrap();
    let e = told(commits::load(&[dir.path()], &commit).unwrap_err());
    assert!(matches!(e, CommitError::Missing { .. }) && e.to_string().contains("relink"));
    assert!(commits::load(&[], &commit).is_err());

    // A state whose numbers were changed: the sidecar is the witness.
    fs::write(&path, &good).unwrap();
    for change in [
        CommitRef {
            start: 0,
            ..commit.clone()
        },
        CommitRef {
            frames: 2999,
            ..commit.clone()
        },
        CommitRef {
            frames: u64::MAX,
            ..commit.clone()
        },
        CommitRef {
            sample_rate: 44_100,
            ..commit.clone()
        },
    ] {
        let e = told(commits::load(&[dir.path()], &change).unwrap_err());
        assert!(matches!(e, CommitError::Mismatch { .. }));
    }
}

#[test]
fn a_reference_cannot_leave_its_folder() {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("project");
    let (commit, _) = example(dir.path(), 1);
    fs::create_dir(&inner).unwrap();
    let hash = &commit.hash;
    for file in [
        format!("../{hash}.uncookpatch"),
        format!("..\\{hash}.uncookpatch"),
        dir.path().join(&commit.file).display().to_string(),
        format!("./{hash}.uncookpatch"),
        "..".to_owned(),
        String::new(),
        format!("{hash}.uncookpatch\0"),
        format!("{hash}.wav"),
    ] {
        let escaped = CommitRef {
            file,
            ..commit.clone()
        };
        let e = commits::load(&[&inner], &escaped).unwrap_err();
        assert!(matches!(e, CommitError::BadName { .. }), "{e}");
    }
    for hash in ["../../x", "", &"A".repeat(64), &"é".repeat(32)] {
        let escaped = CommitRef {
            hash: hash.to_owned(),
            file: format!("{hash}.uncookpatch"),
            ..commit.clone()
        };
        let e = commits::load(&[&inner], &escaped).unwrap_err();
        assert!(matches!(e, CommitError::BadName { .. }), "{e}");
    }
}

/// A sidecar with a right name whose inside lies: the hash can't help, the bounds must.
#[test]
fn hostile_headers_are_refused_before_memory_is_asked_for() {
    use sha2::Digest;
    let dir = tempfile::tempdir().unwrap();
    let (commit, _) = example(dir.path(), 1);
    let good = fs::read(dir.path().join(&commit.file)).unwrap();
    // Layout: magic 8, version 4, start 8, rate 4, frames 8, layers 4, notes 8.
    let plant = |at: usize, value: &[u8], frames: u64| {
        let mut bytes = good.clone();
        bytes[at..at + value.len()].copy_from_slice(value);
        let hash: String = sha2::Sha256::digest(&bytes)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        let file = format!("{hash}.uncookpatch");
        fs::write(dir.path().join(&file), bytes).unwrap();
        let lie = CommitRef {
            hash,
            file,
            frames,
            ..commit.clone()
        };
        commits::load(&[dir.path()], &lie).unwrap_err()
    };
    for frames in [3001, 1 << 30, 1 << 31, 1 << 61, u64::MAX] {
        let e = plant(24, &frames.to_le_bytes(), frames);
        assert!(matches!(e, CommitError::Damaged { .. }), "{e}");
    }
    let e = plant(32, &u32::MAX.to_le_bytes(), 3000);
    assert!(matches!(e, CommitError::Damaged { .. }), "{e}");
    for notes in [1u64 << 20, u64::MAX] {
        let e = plant(36, &notes.to_le_bytes(), 3000);
        assert!(matches!(e, CommitError::Damaged { .. }), "{e}");
    }
    let e = plant(8, &2u32.to_le_bytes(), 3000);
    assert!(matches!(e, CommitError::TooNew { actual: 2, .. }), "{e}");
    let e = plant(0, b"RIFF", 3000);
    assert!(matches!(e, CommitError::Damaged { .. }), "{e}");
}

#[test]
fn unequal_lengths_and_odd_sizes() {
    let dir = tempfile::tempdir().unwrap();
    let (a, mut b) = (stereo(1, 10), stereo(2, 10));
    b[1] = stereo(2, 9)[1].clone();
    let none = [const { None }; 4];
    let e = commits::save(dir.path(), SamplePos(0), 48_000, &a, &b, &none, "").unwrap_err();
    assert!(matches!(e, CommitError::Unsuitable { .. }));
    assert!(files(dir.path()).is_empty());
    // Mono material (two equal channels) costs one channel; an empty patch is a patch.
    let mono = stereo(3, 5000);
    let mono = [mono[0].clone(), mono[0].clone()];
    let m = commits::save(dir.path(), SamplePos(0), 48_000, &mono, &mono, &none, "").unwrap();
    let (patch, _) = commits::load(&[dir.path()], &m).unwrap();
    assert_eq!(patch.base, mono);
    assert!(dir.path().join(&m.file).metadata().unwrap().len() < 2 * 4 * 5000 + 1000);
    let empty = samples::stereo(SamplePos(0), [&[]; 2], &[]);
    let e = commits::save(
        dir.path(),
        SamplePos(i64::MIN),
        8000,
        &empty,
        &empty,
        &none,
        "é",
    )
    .unwrap();
    let (patch, meta) = commits::load(&[dir.path()], &e).unwrap();
    assert!(patch.is_empty() && meta == "é");
}

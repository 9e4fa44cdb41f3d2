//! `cargo xtask quality` on a small song made here: every repair stays above its floor, and a floor that is not
//! reached fails the task.

use std::{f64::consts::TAU, fs, path::Path, process::Command};

use uncook::audio::{AudioBuffer, BitDepth};
use xtask::render::split_mix;

const RATE: u32 = 44_100;
const SECONDS: usize = 5;

/// SplitMix64, uniform in −1..1.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        (split_mix(&mut self.0) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

/// Stems of a little song: drums, bass, chords and a melody, each from its own formula.
fn write_song(folder: &Path) {
    let n = SECONDS * RATE as usize;
    let mut noise = Noise(5);
    let rate = f64::from(RATE);
    let stem = |name: &str, f: &mut dyn FnMut(f64) -> f64| {
        let x: Vec<f32> = (0..n).map(|i| f(i as f64 / rate) as f32).collect();
        let audio = AudioBuffer::new(vec![x.clone(), x], RATE);
        let path = folder.join(format!("{name}.flac"));
        audio.write(&path, BitDepth::Int24).unwrap();
    };
    stem("drums", &mut |t| {
        let (kick, snare, hat) = (t % 0.5, (t + 0.25) % 0.5, t % 0.125);
        let strike = |s: f64| (s / 0.001).min(1.0);
        let boom = (TAU * (50.0 * kick + 4.0 * (1.0 - (-40.0 * kick).exp()))).sin();
        0.3 * strike(kick) * boom * (-12.0 * kick).exp()
            + strike(snare) * 0.15 * noise.next() * (-30.0 * snare).exp()
            + strike(hat) * 0.05 * noise.next() * (-60.0 * hat).exp()
    });
    let note = |t: f64, hz: f64, partials: u32| -> f64 {
        let sum = |h: u32| (TAU * hz * f64::from(h) * t).sin() / f64::from(h * h);
        (1..=partials).map(sum).sum()
    };
    let edge = |s: f64| (s / 0.005).min(1.0);
    stem("bass", &mut |t| {
        let hz = [55.0, 73.4, 82.4, 49.0][(t * 2.0) as usize % 4];
        0.15 * edge(t % 0.5) * note(t, hz, 6) * (-2.0 * (t % 0.5)).exp()
    });
    stem("other", &mut |t| {
        let root = [220.0, 293.7, 329.6, 196.0][(t * 2.0) as usize % 4];
        let chord: f64 = [1.0, 1.26, 1.498]
            .iter()
            .map(|r| note(t, root * r, 8))
            .sum();
        0.04 * edge(t % 0.5) * chord * (-3.0 * (t % 0.5)).exp()
    });
    stem("vocals", &mut |t| {
        let hz = [440.0, 493.9, 587.3, 392.0, 659.3][(t * 3.0) as usize % 5];
        0.06 * edge(t % (1.0 / 3.0)) * note(t, hz * (1.0 + 0.004 * (TAU * 5.0 * t).sin()), 5)
    });
    fs::write(folder.join("damage.json"), "{}").unwrap();
}

#[test]
fn repairs_of_a_small_song_stay_above_their_floors() {
    let songs = tempfile::tempdir().unwrap();
    let song = songs.path().join("little");
    fs::create_dir(&song).unwrap();
    write_song(&song);
    let quality = |floors: &Path| {
        Command::new(env!("CARGO_BIN_EXE_xtask"))
            .arg("quality")
            .arg(songs.path())
            .arg("--floors")
            .arg(floors)
            .output()
            .unwrap()
    };
    let floors = Path::new(env!("CARGO_MANIFEST_DIR")).join("quality-floors-small.json");
    let out = quality(&floors);
    let table = String::from_utf8_lossy(&out.stdout);
    println!("{table}");
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    // Every floor's row was measured: a renamed row would be held to nothing.
    let wanted: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&floors).unwrap()).unwrap();
    for row in wanted.as_object().unwrap().keys() {
        assert!(
            table.lines().any(|l| l.starts_with(row)),
            "{row} is missing"
        );
    }
    // And a floor out of reach fails.
    let high = songs.path().join("high.json");
    fs::write(&high, r#"{"made crackle, 25 a second": [99.0, null]}"#).unwrap();
    let out = quality(&high);
    assert!(!out.status.success());
    let error = String::from_utf8_lossy(&out.stderr);
    assert!(
        error.contains("made crackle, 25 a second, offline"),
        "{error}"
    );
}

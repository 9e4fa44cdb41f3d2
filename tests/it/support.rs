//! What several rooms' tests share: deterministic signals and measures.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use uncook::{
    audio::AudioBuffer,
    worker::options::{Options, Quality, RegeneratorChoice, Regenerators},
};

/// How long a test waits for what must happen, on a machine that does much else.
pub const LIMIT: Duration = Duration::from_secs(600);

/// Waits until there is something.
pub fn wait_for<T>(mut ready: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(start.elapsed() < LIMIT, "nothing happened");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Fast, and with something rebuilt.
pub fn options() -> Options {
    Options {
        quality: Quality::Draft,
        regenerators: Regenerators::all(RegeneratorChoice::Everywhere),
        ..Options::default()
    }
}

/// Puts a tiny network of the golden files where the installed model `name` with this one `file` would be.
#[cfg(feature = "ml")]
pub fn install_tiny_model(data: &Path, name: &str, file: &str, golden: &str) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/htdemucs");
    let models = data.join("models");
    std::fs::create_dir_all(models.join(name)).unwrap();
    let bytes = std::fs::copy(from.join(golden), models.join(name).join(file)).unwrap();
    let receipt = serde_json::json!({"name": name, "folder": null, "files": [
        {"file": file, "sha256": "", "bytes": bytes, "checked": "first_seen"}]});
    std::fs::write(models.join(format!("{name}.json")), receipt.to_string()).unwrap();
}

/// Runs `body` in a process of its own whose data folder `prepare` has filled: the folder belongs to a process.
/// `test` is the whole name of the test that calls this and does nothing else; `body` gets the folder.
pub fn with_data_of_its_own(test: &str, prepare: impl FnOnce(&Path), body: impl FnOnce(&Path)) {
    use uncook::worker::engine::DATA_DIR_VARIABLE;
    const CHILD: &str = "UNCOOK_TEST_CHILD";
    if std::env::var_os(CHILD).is_some() {
        return body(Path::new(&std::env::var_os(DATA_DIR_VARIABLE).unwrap()));
    }
    let data = tempfile::tempdir().unwrap();
    prepare(data.path());
    let run = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(DATA_DIR_VARIABLE, data.path())
        .env(CHILD, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    let erred = String::from_utf8_lossy(&run.stderr);
    assert!(
        run.status.success() && said.contains("1 passed"),
        "{said}\n{erred}"
    );
}

/// SDR of `estimate` against `reference` in dB over all samples.
pub fn sdr_db(reference: &[f32], estimate: &[f32]) -> f64 {
    assert_eq!(reference.len(), estimate.len());
    let (mut signal, mut error) = (0.0f64, 0.0f64);
    for (&r, &e) in reference.iter().zip(estimate) {
        signal += f64::from(r) * f64::from(r);
        error += (f64::from(r) - f64::from(e)).powi(2);
    }
    10.0 * (signal / error.max(1e-30)).log10()
}

/// A deterministic noise source (SplitMix64), uniform in -1..1.
pub struct Noise(pub u64);

impl Noise {
    pub fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// A deterministic band in stereo: kick, snare, hats, bass and chords at 120 beats a minute. Its drums and
/// bass are turned up and overdriven in the middle third.
pub fn overdriven_band(seconds: f64, sample_rate: u32) -> AudioBuffer {
    band(seconds, sample_rate, |low| (4.0 * low).clamp(-0.55, 0.55))
}

/// The band, its drums and bass bent by `drive` in the middle third.
pub fn band(seconds: f64, sample_rate: u32, drive: impl Fn(f64) -> f64) -> AudioBuffer {
    let rate = f64::from(sample_rate);
    let frames = (seconds * rate) as usize;
    let mut noise = Noise(42);
    let tau = std::f64::consts::TAU;
    let (mut left, mut right) = (Vec::with_capacity(frames), Vec::with_capacity(frames));
    for n in 0..frames {
        let t = n as f64 / rate;
        let since = |period: f64, offset: f64| (t - offset).rem_euclid(period);
        let decay = |since: f64, speed: f64| (-since * speed).exp();
        let hiss = f64::from(noise.next());
        let kick_t = since(1.0, 0.0);
        let kick =
            decay(kick_t, 9.0) * (tau * (48.0 * kick_t + 1.5 * (1.0 - decay(kick_t, 45.0)))).sin();
        let snare_t = since(1.0, 0.5);
        let snare = decay(snare_t, 18.0) * (0.5 * hiss + 0.5 * (tau * 190.0 * snare_t).sin());
        let hat = 0.25 * decay(since(0.25, 0.0), 60.0) * hiss;
        let root = [55.0, 43.65, 65.41, 49.0][(t / 2.0) as usize % 4];
        let pluck = since(0.5, 0.0);
        let bass: f64 = (1..10)
            .map(|h| {
                decay(pluck, 1.0 + 0.7 * f64::from(h)) * (tau * root * f64::from(h) * t).sin()
                    / f64::from(h)
            })
            .sum();
        let mut low = 0.45 * kick + 0.35 * snare + 0.3 * hat + 0.3 * bass;
        if (t * 3.0 / seconds) as usize == 1 {
            low = drive(low);
        }
        let chord = |ratio: f64| 0.05 * (tau * 4.0 * root * ratio * t).sin();
        let (third, fifth) = (chord(1.2), chord(1.5));
        left.push((low + chord(1.0) + third) as f32 * 0.8);
        right.push((low + chord(1.0) + fifth) as f32 * 0.8);
    }
    AudioBuffer::new(vec![left, right], sample_rate)
}

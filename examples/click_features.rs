//! Writes what the click score is trained on: see `models/training/clicks/fit.py`.
//!
//! `click_features STEMS OUT`: `STEMS/*.wav` are those of `models/training/separation/generate.py`, four channels each.
//! Of every song the mix, its drums and its chords by themselves are searched as they are, and the mix with 3 and with 25
//! clicks a second added, heavy-tailed in height and from one sample to one millisecond long. OUT gets one row of
//! little-endian f32 for every candidate that the finder considers: its features, the share of what is wrong there that
//! the filling leaves (100 where nothing is wrong), clicks a second, the song's number and the place in samples.
//! Four in five of the candidates that mend something are repaired, the others stay as they would if they weren't found.

use std::{
    error::Error,
    fs,
    io::{BufWriter, Write},
    path::Path,
};

use uncook::{
    audio::AudioBuffer,
    realtime::{
        declick::{
            find::{ClickFinder, Finder},
            flat_top, live_setup,
            score::features,
        },
        declip::level::LevelTracker,
    },
};

/// Seconds of each song that are used, of its mix and of single stems.
const SECONDS: [f64; 2] = [14.0, 7.0];
/// Rounds over each take, as the worker does.
const ROUNDS: usize = 2;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [stems, out] = arguments.as_slice() else {
        return Err("usage: click_features STEMS OUT".into());
    };
    let mut files: Vec<_> = fs::read_dir(Path::new(stems))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_, std::io::Error>>()?;
    files.sort();
    let mut out = BufWriter::new(fs::File::create(out)?);
    for (number, path) in files.iter().enumerate() {
        let song = AudioBuffer::read(path)?;
        let rate = f64::from(song.sample_rate);
        let mut random = Random(number as u64);
        let gains: Vec<f64> = (0..song.channels.len())
            .map(|_| 10f64.powf(0.6 * random.next() - 0.3))
            .collect();
        let all: Vec<usize> = (0..song.channels.len()).collect();
        let mut take = |parts: &[usize], seconds: f64, per_second: f64| {
            let clean = mixed(&song, parts, &gains, (seconds * rate) as usize);
            let damaged = clicked(&clean, rate, per_second, &mut random);
            for row in examine(&clean, damaged, rate, &mut random) {
                let (row, ratio, place) = row;
                let facts = [ratio, per_second as f32, number as f32, place as f32];
                for value in row.iter().chain(&facts) {
                    out.write_all(&value.to_le_bytes())?;
                }
            }
            Ok::<_, std::io::Error>(())
        };
        let [mix, single] = SECONDS;
        for per_second in [0.0, 3.0, 25.0] {
            take(&all, mix, per_second)?;
        }
        take(&[0], mix, 0.0)?;
        take(&[2], single, 0.0)?;
    }
    Ok(())
}

/// The sum of `parts` at their gains, 16 bits, its peak at 0.8.
fn mixed(song: &AudioBuffer, parts: &[usize], gains: &[f64], frames: usize) -> Vec<f32> {
    let frames = frames.min(song.frames());
    let sum: Vec<f64> = (0..frames)
        .map(|i| {
            let part = |&p: &usize| gains[p] * f64::from(song.channels[p][i]);
            parts.iter().map(part).sum()
        })
        .collect();
    let peak = sum.iter().fold(1e-3f64, |m, v| m.max(v.abs()));
    sum.iter()
        .map(|x| ((0.8 * x / peak * 32_768.0).round() / 32_768.0) as f32)
        .collect()
}

/// Clicks of four shapes at random places.
fn clicked(clean: &[f32], rate: f64, per_second: f64, random: &mut Random) -> Vec<f32> {
    let mut out = clean.to_vec();
    if per_second <= 0.0 {
        return out;
    }
    let energy: f64 = clean.iter().map(|&x| f64::from(x).powi(2)).sum();
    let level = (energy / clean.len().max(1) as f64).sqrt();
    let mut at = 0.0;
    loop {
        at += -random.next().max(1e-9).ln() / per_second * rate;
        if at >= clean.len() as f64 {
            return out;
        }
        let longest = 0.001 * rate;
        let length = (longest * longest.powf(-random.next())).round().max(1.0) as usize;
        let height = (0.3 * level * random.next().max(1e-3).powf(-0.7)).min(1.5);
        let shape = (4.0 * random.next()) as usize;
        let cycles = (2_000.0 + 14_000.0 * random.next()) / rate;
        let phase = random.next();
        let mut coloured = 0.0;
        for (i, x) in out[at as usize..].iter_mut().take(length).enumerate() {
            let t = i as f64 / length as f64;
            let white = random.normal();
            coloured = 0.6 * coloured + 0.8 * white;
            let value = match shape {
                0 => white.signum() * (0.5 + 0.5 * random.next()) * (-3.0 * t).exp(),
                1 => coloured * (-3.0 * t).exp(),
                2 => (std::f64::consts::TAU * (cycles * i as f64 + phase)).sin() * (-4.0 * t).exp(),
                _ => white * (std::f64::consts::PI * (t + 0.5 / length as f64)).sin(),
            };
            *x = (*x + (height * value) as f32).clamp(-1.5, 1.5);
        }
    }
}

/// Every candidate's features, what its filling leaves of what is wrong, and its place.
fn examine(
    clean: &[f32],
    mut x: Vec<f32>,
    rate: f64,
    random: &mut Random,
) -> Vec<(
    [f32; uncook::realtime::declick::score::FEATURES],
    f32,
    usize,
)> {
    let setup = Finder {
        odds: 0.0,
        most: 8,
        trials: 40,
        rounds: 3,
        ..live_setup(rate)
    };
    let mut finder = ClickFinder::new(setup);
    let ahead = ClickFinder::lookahead(&setup);
    let hop = setup.window / 16;
    let zone = (setup.window - ahead - hop, setup.window - ahead);
    let mut rows = Vec::new();
    for _ in 0..ROUNDS {
        let mut tracker = LevelTracker::new(rate);
        let mut heard = 0;
        for start in (0..x.len()).step_by(hop) {
            let end = (start + hop + ahead).min(x.len());
            x[heard..end].iter().for_each(|&v| tracker.push(v));
            heard = end;
            let origin = start as isize - zone.0 as isize;
            let stretch = |x: &[f32]| -> Vec<f32> {
                (origin..)
                    .take(setup.window)
                    .map(|i| usize::try_from(i).ok().and_then(|i| x.get(i)))
                    .map(|x| x.copied().unwrap_or(0.0))
                    .collect()
            };
            let (mut now, truth) = (stretch(&x), stretch(clean));
            let before = now.clone();
            let levels = tracker.levels();
            finder.repair_by(
                &mut now,
                zone,
                |from, to, x| flat_top(levels, from, to, x),
                |candidate, filled| {
                    let place = candidate.from..candidate.to;
                    let wrong = |x: &[f32]| -> f64 {
                        let pairs = x[place.clone()].iter().zip(&truth[place.clone()]);
                        pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum()
                    };
                    let heard = wrong(&before);
                    let ratio = if heard > 1e-9 {
                        (wrong(filled) / heard).min(100.0)
                    } else {
                        100.0
                    };
                    let at = (origin + candidate.from as isize).max(0) as usize;
                    rows.push((features(&candidate.evidence), ratio as f32, at));
                    // The one that mends most is made.
                    if ratio < 0.5 && random.next() < 0.8 {
                        -ratio.max(1e-9).ln() as f32
                    } else {
                        -1.0
                    }
                },
            );
            for (i, value) in (origin..).zip(now) {
                if let Some(slot) = usize::try_from(i).ok().and_then(|i| x.get_mut(i)) {
                    *slot = value;
                }
            }
        }
    }
    rows
}

/// SplitMix64 (G. Steele et al., 2014), uniform in 0..1.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Normally distributed (Box and Muller), standard deviation 1.
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.next().max(1e-300).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.next()).cos()
    }
}

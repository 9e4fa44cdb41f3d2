// [worker] Sounds that no instrument made: metallic specks, ringing, clicks, phase problems.

use serde::{Deserialize, Serialize};

use super::spectrum::{Stft, window_size};
use crate::{audio::AudioBuffer, damage::DamageKind};

/// What kind of artefact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArtefactKind {
    /// Isolated specks in time and frequency ("musical noise") left by denoisers and low-rate codecs.
    Metallic,
    /// A lone tone that stays after everything around it has gone: feedback, resonant filters.
    Ringing,
    /// Clicks and crackle.
    Clicks,
    /// The channels cancel each other in mono.
    Phase,
}

/// An artefact over a span of seconds from the start.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Artefact {
    pub start: f64,
    pub end: f64,
    pub kind: ArtefactKind,
    /// 0..=1, 0.5 = clearly audible.
    pub severity: f32,
}

/// Every artefact found, by start, then kind.
pub fn artefacts(audio: &AudioBuffer) -> Vec<Artefact> {
    let mut out = clicks(audio);
    let mono = audio.mono();
    let size = window_size(audio.sample_rate);
    let hop = size / 4;
    let frames = Stft::new(size, hop).power(&mono);
    let grid = Grid {
        frames: &frames,
        seconds_a_frame: hop as f64 / f64::from(audio.sample_rate),
        bin_hz: f64::from(audio.sample_rate) / size as f64,
    };
    out.extend(metallic(&grid));
    out.extend(ringing(&grid));
    if let [left, right] = audio.channels.as_slice() {
        out.extend(phase(left, right, audio.sample_rate));
    }
    out.sort_by(|a, b| a.start.total_cmp(&b.start).then(a.kind.cmp(&b.kind)));
    out
}

/// Power spectra with their scales.
struct Grid<'a> {
    frames: &'a [Vec<f32>],
    seconds_a_frame: f64,
    bin_hz: f64,
}

impl Grid<'_> {
    fn bin(&self, hz: f64) -> usize {
        let bins = self.frames.first().map_or(0, Vec::len);
        ((hz / self.bin_hz).round() as usize).min(bins.saturating_sub(1))
    }
}

fn clicks(audio: &AudioBuffer) -> Vec<Artefact> {
    super::damage::damage_map(audio)
        .regions(DamageKind::Click, crate::damage::DEFAULT_THRESHOLD, 1)
        .into_iter()
        .map(|r| Artefact {
            start: r.start,
            end: r.end,
            kind: ArtefactKind::Clicks,
            severity: r.severity,
        })
        .collect()
}

/// Specks a second and kilohertz that count as clearly audible. A first setting: the tests' clean and noisy
/// music stay below it and their sprinkled specks above; not calibrated on real denoisers.
const AUDIBLE_SPECKS: f64 = 5.0;

/// Metallic: the density, in half-second windows, of specks between 1 and 12 kHz: a local maximum that
/// towers 20 dB over the ring of bins 3–5 frames before and after it at its own frequency and 4–6 bins
/// to both sides at its own time. A partial goes on in time, a drum hit in frequency; only specks stand
/// alone both ways.
fn metallic(grid: &Grid<'_>) -> Vec<Artefact> {
    let (low, high) = (grid.bin(1000.0), grid.bin(12_000.0));
    let frames = grid.frames;
    let strongest = frames.iter().flatten().fold(0.0f32, |m, &p| m.max(p));
    let floor = strongest * 1e-9;
    let window = ((0.5 / grid.seconds_a_frame) as usize).max(1);
    if frames.len() < window || high < low + 16 || floor <= 0.0 {
        return Vec::new();
    }
    let mut counts = vec![0u32; frames.len()];
    for t in 5..frames.len().saturating_sub(5) {
        let row = &frames[t];
        for k in low.max(6)..high.min(row.len().saturating_sub(7)) {
            let p = row[k];
            if p <= floor || p < row[k - 1] || p < row[k + 1] {
                continue;
            }
            if p < frames[t - 1][k] || p < frames[t + 1][k] {
                continue;
            }
            let around_time = (3..=5)
                .flat_map(|d| [frames[t - d][k], frames[t + d][k]])
                .fold(0.0f32, f32::max);
            let around_frequency = (4..=6)
                .flat_map(|d| [row[k - d], row[k + d]])
                .fold(0.0f32, f32::max);
            if p > 100.0 * around_time.max(around_frequency) {
                counts[t] += 1;
            }
        }
    }
    let khz = (high - low) as f64 * grid.bin_hz / 1000.0;
    let seconds = window as f64 * grid.seconds_a_frame;
    let severities = (0..frames.len() / window).map(|w| {
        let specks: u32 = counts[w * window..(w + 1) * window].iter().sum();
        let density = f64::from(specks) / (seconds * khz);
        (density / (density + AUDIBLE_SPECKS)) as f32
    });
    spans(severities, seconds, ArtefactKind::Metallic)
}

/// Shortest ringing, seconds.
const RINGING_SECONDS: f64 = 0.3;

/// Ringing: above 500 Hz, a spectral peak that stays in its bin for at least 0.3 s, 30 dB over the median
/// of the half octave around it and the strongest there, without a partner within 10 dB at twice, half, a
/// third, one and a half or two thirds of its frequency. Notes have partials; feedback and resonances
/// stand alone.
fn ringing(grid: &Grid<'_>) -> Vec<Artefact> {
    let bins = grid.frames.first().map_or(0, Vec::len);
    let (low, high) = (
        grid.bin(500.0),
        grid.bin(12_000.0).min(bins.saturating_sub(3)),
    );
    let shortest = ((RINGING_SECONDS / grid.seconds_a_frame).ceil() as usize).max(2);
    let strongest = grid.frames.iter().flatten().fold(0.0f32, |m, &p| m.max(p));
    let mut since: Vec<Option<usize>> = vec![None; bins];
    let mut out = Vec::new();
    let mut neighbourhood = Vec::new();
    let mut end = |since: &mut Option<usize>, t: usize, k: usize| {
        let Some(start) = since.take() else { return };
        if t - start >= shortest {
            let seconds = (t - start) as f64 * grid.seconds_a_frame;
            out.push((start, t, k, (seconds / (seconds + RINGING_SECONDS)) as f32));
        }
    };
    for (t, row) in grid.frames.iter().enumerate() {
        for k in low..high {
            // The window's main lobe is two bins wide on either side: a peak may wander by one.
            let peak = row[k] >= row[k - 1] && row[k] > row[k + 1];
            let alone = peak && row[k] > strongest * 1e-7 && {
                let half = (k as f64 * 0.19) as usize + 4;
                let around = &row[k.saturating_sub(half)..(k + half).min(bins)];
                neighbourhood.clear();
                neighbourhood.extend_from_slice(around);
                let middle = neighbourhood.len() / 2;
                let median = *neighbourhood
                    .select_nth_unstable_by(middle, f32::total_cmp)
                    .1;
                let near = |at: f64| {
                    let at = at.round() as usize;
                    let from = at.saturating_sub(1).min(bins);
                    row[from..(at + 2).min(bins)]
                        .iter()
                        .fold(0.0f32, |m, &p| m.max(p))
                };
                let partner = [2.0, 0.5, 1.0 / 3.0, 1.5, 2.0 / 3.0]
                    .iter()
                    .any(|r| near(k as f64 * r) > row[k] * 0.1);
                let dominant = around.iter().all(|&p| p <= row[k]);
                row[k] > 1000.0 * median && dominant && !partner
            };
            if alone {
                since[k].get_or_insert(t);
            } else {
                end(&mut since[k], t, k);
            }
        }
    }
    for (k, s) in since.iter_mut().enumerate() {
        end(s, grid.frames.len(), k);
    }
    out.into_iter()
        .map(|(start, t, _, severity)| Artefact {
            start: start as f64 * grid.seconds_a_frame,
            end: t as f64 * grid.seconds_a_frame,
            kind: ArtefactKind::Ringing,
            severity,
        })
        .collect()
}

/// Phase: windows of 0.4 s in which the channels' correlation is at most −0.5, so that their sum loses
/// more than half of the energy. Severity 0.5 there, 1 at −1.
fn phase(left: &[f32], right: &[f32], sample_rate: u32) -> Vec<Artefact> {
    let seconds = 0.4;
    let window = ((f64::from(sample_rate) * seconds) as usize).max(1);
    let loudest = left.iter().chain(right).fold(0.0f32, |m, x| m.max(x.abs()));
    let floor = window as f64 * (f64::from(loudest) * 1e-3).powi(2);
    let severities = left
        .chunks_exact(window)
        .zip(right.chunks_exact(window))
        .map(|(l, r)| {
            let (mut ll, mut rr, mut lr) = (0.0f64, 0.0f64, 0.0f64);
            for (&l, &r) in l.iter().zip(r) {
                let (l, r) = (f64::from(l), f64::from(r));
                ll += l * l;
                rr += r * r;
                lr += l * r;
            }
            if ll <= floor || rr <= floor {
                return 0.0;
            }
            (-lr / (ll * rr).sqrt()).max(0.0) as f32
        });
    spans(severities, seconds, ArtefactKind::Phase)
}

/// Neighbouring windows of severity 0.5 and more, as one artefact each.
fn spans(severities: impl Iterator<Item = f32>, seconds: f64, kind: ArtefactKind) -> Vec<Artefact> {
    let mut out: Vec<Artefact> = Vec::new();
    let mut open = false;
    for (i, severity) in severities.enumerate() {
        if severity < crate::damage::DEFAULT_THRESHOLD {
            open = false;
            continue;
        }
        let end = (i + 1) as f64 * seconds;
        match out.last_mut() {
            Some(last) if open => {
                last.end = end;
                last.severity = last.severity.max(severity);
            }
            _ => out.push(Artefact {
                start: i as f64 * seconds,
                end,
                kind,
                severity,
            }),
        }
        open = true;
    }
    out
}

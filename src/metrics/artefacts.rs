// [worker] Sounds that no instrument made: metallic specks, ringing, clicks, phase problems.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{
    source::{Source, peak, planes},
    spectrum::{Stft, window_size},
};
use crate::damage::DamageKind;

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
pub fn artefacts(audio: &dyn Source) -> Vec<Artefact> {
    let mut out = clicks(audio);
    let size = window_size(audio.sample_rate());
    let hop = size / 4;
    let mut stft = Stft::new(size, hop);
    let (mut strongest, mut frames) = (0.0f32, 0);
    stft.each(audio, |frame| {
        strongest = frame.iter().fold(strongest, |m, &p| m.max(p));
        frames += 1;
    });
    let grid = Grid {
        frames,
        bins: size / 2 + 1,
        strongest,
        seconds_a_frame: hop as f64 / f64::from(audio.sample_rate()),
        bin_hz: f64::from(audio.sample_rate()) / size as f64,
    };
    let (mut metallic, mut ringing) = (Metallic::new(&grid), Ringing::new(&grid));
    stft.each(audio, |frame| {
        metallic.push(frame);
        ringing.push(frame);
    });
    out.extend(metallic.finish());
    out.extend(ringing.finish());
    if audio.channels() == 2 {
        out.extend(phase(audio));
    }
    out.sort_by(|a, b| a.start.total_cmp(&b.start).then(a.kind.cmp(&b.kind)));
    out
}

/// The scales of power spectra that come frame by frame, and their strongest bin.
#[derive(Clone, Copy)]
struct Grid {
    frames: usize,
    bins: usize,
    strongest: f32,
    seconds_a_frame: f64,
    bin_hz: f64,
}

impl Grid {
    fn bin(&self, hz: f64) -> usize {
        ((hz / self.bin_hz).round() as usize).min(self.bins.saturating_sub(1))
    }
}

fn clicks(audio: &dyn Source) -> Vec<Artefact> {
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
struct Metallic {
    grid: Grid,
    low: usize,
    high: usize,
    floor: f32,
    /// Frames that a window has.
    window: usize,
    /// The newest 11 frames, oldest first: specks are looked for in the middle one.
    near: VecDeque<Vec<f32>>,
    counts: Vec<u32>,
}

/// Frames before and after one that are looked at.
const AROUND: usize = 5;

impl Metallic {
    fn new(grid: &Grid) -> Self {
        Self {
            grid: *grid,
            low: grid.bin(1000.0),
            high: grid.bin(12_000.0),
            floor: grid.strongest * 1e-9,
            window: ((0.5 / grid.seconds_a_frame) as usize).max(1),
            near: VecDeque::new(),
            counts: vec![0; AROUND],
        }
    }

    fn is_possible(&self) -> bool {
        self.grid.frames >= self.window && self.high >= self.low + 16 && self.floor > 0.0
    }

    fn push(&mut self, frame: &[f32]) {
        if !self.is_possible() {
            return;
        }
        let mut newest = if self.near.len() > 2 * AROUND {
            self.near.pop_front().unwrap_or_default()
        } else {
            Vec::new()
        };
        newest.clear();
        newest.extend_from_slice(frame);
        self.near.push_back(newest);
        if self.near.len() > 2 * AROUND {
            self.counts.push(self.specks());
        }
    }

    /// Of the middle frame.
    fn specks(&self) -> u32 {
        let at = |d: i64| &self.near[(AROUND as i64 + d) as usize];
        let row = at(0);
        let mut count = 0;
        for k in self.low.max(6)..self.high.min(row.len().saturating_sub(7)) {
            let p = row[k];
            if p <= self.floor || p < row[k - 1] || p < row[k + 1] {
                continue;
            }
            if p < at(-1)[k] || p < at(1)[k] {
                continue;
            }
            let around_time = (3..=5)
                .flat_map(|d| [at(-d)[k], at(d)[k]])
                .fold(0.0f32, f32::max);
            let around_frequency = (4..=6)
                .flat_map(|d| [row[k - d], row[k + d]])
                .fold(0.0f32, f32::max);
            if p > 100.0 * around_time.max(around_frequency) {
                count += 1;
            }
        }
        count
    }

    fn finish(mut self) -> Vec<Artefact> {
        if !self.is_possible() {
            return Vec::new();
        }
        let (window, grid) = (self.window, self.grid);
        self.counts.resize(grid.frames, 0);
        let khz = (self.high - self.low) as f64 * grid.bin_hz / 1000.0;
        let seconds = window as f64 * grid.seconds_a_frame;
        let severities = self.counts.chunks_exact(window).map(|counts| {
            let density = f64::from(counts.iter().sum::<u32>()) / (seconds * khz);
            (density / (density + AUDIBLE_SPECKS)) as f32
        });
        spans(severities, seconds, ArtefactKind::Metallic)
    }
}

/// Shortest ringing, seconds.
const RINGING_SECONDS: f64 = 0.3;

/// Ringing: above 500 Hz, a spectral peak that stays in its bin for at least 0.3 s, 30 dB over the median
/// of the half octave around it and the strongest there, without a partner within 10 dB at twice, half, a
/// third, one and a half or two thirds of its frequency. Notes have partials; feedback and resonances
/// stand alone.
struct Ringing {
    grid: Grid,
    low: usize,
    high: usize,
    /// Frames.
    shortest: usize,
    /// Frames so far.
    frames: usize,
    /// Since which frame a bin stands alone.
    since: Vec<Option<usize>>,
    neighbourhood: Vec<f32>,
    out: Vec<Artefact>,
}

impl Ringing {
    fn new(grid: &Grid) -> Self {
        let shortest = (RINGING_SECONDS / grid.seconds_a_frame).ceil() as usize;
        Self {
            grid: *grid,
            low: grid.bin(500.0),
            high: grid.bin(12_000.0).min(grid.bins.saturating_sub(3)),
            shortest: shortest.max(2),
            frames: 0,
            since: vec![None; grid.bins],
            neighbourhood: Vec::new(),
            out: Vec::new(),
        }
    }

    fn push(&mut self, row: &[f32]) {
        for k in self.low..self.high {
            if self.is_alone(row, k) {
                self.since[k].get_or_insert(self.frames);
            } else {
                self.end(k);
            }
        }
        self.frames += 1;
    }

    fn is_alone(&mut self, row: &[f32], k: usize) -> bool {
        // The window's main lobe is two bins wide on either side: a peak may wander by one.
        let peak = row[k] >= row[k - 1] && row[k] > row[k + 1];
        if !peak || row[k] <= self.grid.strongest * 1e-7 {
            return false;
        }
        let half = (k as f64 * 0.19) as usize + 4;
        let around = &row[k.saturating_sub(half)..(k + half).min(row.len())];
        self.neighbourhood.clear();
        self.neighbourhood.extend_from_slice(around);
        let middle = self.neighbourhood.len() / 2;
        let (_, median, _) = (self.neighbourhood).select_nth_unstable_by(middle, f32::total_cmp);
        if row[k] <= 1000.0 * *median {
            return false;
        }
        let near = |at: f64| {
            let at = at.round() as usize;
            let from = at.saturating_sub(1).min(row.len());
            row[from..(at + 2).min(row.len())]
                .iter()
                .fold(0.0f32, |m, &p| m.max(p))
        };
        let partner = [2.0, 0.5, 1.0 / 3.0, 1.5, 2.0 / 3.0]
            .iter()
            .any(|r| near(k as f64 * r) > row[k] * 0.1);
        around.iter().all(|&p| p <= row[k]) && !partner
    }

    /// Bin `k` does not stand alone any more.
    fn end(&mut self, k: usize) {
        let Some(start) = self.since[k].take() else {
            return;
        };
        let frames = self.frames - start;
        if frames >= self.shortest {
            let seconds = frames as f64 * self.grid.seconds_a_frame;
            self.out.push(Artefact {
                start: start as f64 * self.grid.seconds_a_frame,
                end: self.frames as f64 * self.grid.seconds_a_frame,
                kind: ArtefactKind::Ringing,
                severity: (seconds / (seconds + RINGING_SECONDS)) as f32,
            });
        }
    }

    fn finish(mut self) -> Vec<Artefact> {
        (0..self.since.len()).for_each(|k| self.end(k));
        self.out
    }
}

/// Phase: windows of 0.4 s in which the channels' correlation is at most −0.5, so that their sum loses
/// more than half of the energy. Severity 0.5 there, 1 at −1.
fn phase(audio: &dyn Source) -> Vec<Artefact> {
    let seconds = 0.4;
    let window = ((f64::from(audio.sample_rate()) * seconds) as usize).max(1);
    let floor = window as f64 * (f64::from(peak(audio)) * 1e-3).powi(2);
    let severities = (0..audio.frames() / window).map(|i| {
        let planes = planes(audio, &(i * window..(i + 1) * window));
        let (mut ll, mut rr, mut lr) = (0.0f64, 0.0f64, 0.0f64);
        for (&l, &r) in planes[0].iter().zip(&planes[1]) {
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

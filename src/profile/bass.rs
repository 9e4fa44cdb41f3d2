// [worker] The bass line: periodicity and a harmonic sieve fused along the smoothest path, cut into notes.

use std::sync::Arc;

use realfft::{ComplexToReal, RealFftPlanner, num_complex::Complex};

use super::{
    Note,
    spectra::{FPS, SILENCE, Source, Spectrum, for_frames, frame_count, quantile, sections},
};
use crate::{audio::AudioBuffer, worker::progress::Progress};

/// A pitch every `hop_seconds`, frame `i` centred on `i * hop_seconds`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PitchTrack {
    /// Seconds between frames.
    pub hop_seconds: f64,
    /// Fundamental in Hz, 0 = unvoiced.
    pub hz: Vec<f32>,
    /// 0..=1, one a frame.
    pub confidence: Vec<f32>,
}

impl PitchTrack {
    /// Fundamental at `seconds`, 0 where unvoiced or outside.
    pub fn hz_at(&self, seconds: f64) -> f32 {
        if self.hop_seconds <= 0.0 || seconds < 0.0 {
            return 0.0;
        }
        let at = (seconds / self.hop_seconds).round() as usize;
        self.hz.get(at).copied().unwrap_or(0.0)
    }
}

/// Rate at which the bass is heard, Hz: partials up to 2 kHz.
const RATE: u32 = 4400;
/// Window: 120 ms, three periods at 28 Hz.
const SIZE: usize = 528;
const FFT_SIZE: usize = 2048;
/// Pitch grid: MIDI 20.8 (27.2 Hz) to 63, five steps a semitone.
const LOWEST_MIDI: f64 = 20.8;
const STEPS: f64 = 5.0;
const PITCHES: usize = 212;
/// Partials that the sieve sums, and their falling weight.
const PARTIALS: usize = 8;
const PARTIAL_DECAY: f64 = 0.82;
/// Share of periodicity in a pitch's score; the rest is the sieve's.
const PERIODICITY_SHARE: f64 = 0.3;
/// Power of the magnitudes in the autocorrelation.
const COMPRESSION: f32 = 1.6;
/// Price of a jump to any pitch, and of a step of a fifth of a semitone.
const JUMP: f64 = 0.8;
const STEP: f64 = 0.06;
/// Score of a fully expected pitch class.
const EXPECTED: f64 = 0.12;
/// Periodicity below which a frame has no pitch.
const VOICED: f64 = 0.35;

fn pitch_hz(i: f64) -> f64 {
    440.0 * ((LOWEST_MIDI + i / STEPS - 69.0) / 12.0).exp2()
}

/// MIDI note number of a frequency.
pub(super) fn midi_of(hz: f64) -> f64 {
    69.0 + 12.0 * (hz / 440.0).log2()
}

/// Pitch of a bass, from its stem (or from a mix, less surely), 27 to 310 Hz, every 10 ms.
pub fn track_bass(audio: &AudioBuffer) -> PitchTrack {
    track(&[(audio, 1.0)], Hints::default(), &Progress::new()).unwrap_or_default()
}

/// What the rest of the profile knows that helps the bass.
#[derive(Clone, Copy, Default)]
pub(super) struct Hints<'a> {
    /// Strength of onsets every 10 ms, about 0..=1: pitch jumps where notes begin.
    pub onsets: &'a [f32],
    /// How much each pitch class is expected at a time in seconds, 0..=1.
    pub expected: Option<&'a dyn Fn(f64) -> [f32; 12]>,
}

/// As [`track_bass`] over a weighted sum of recordings, with hints. None when cancelled.
pub(super) fn track(
    parts: &[(&AudioBuffer, f32)],
    hints: Hints,
    progress: &Progress,
) -> Option<PitchTrack> {
    let source = Source::new(parts, RATE);
    let mut listener = Listener::new();
    let hop = RATE as usize / FPS as usize;
    let mut out = PitchTrack {
        hop_seconds: 1.0 / FPS,
        ..PitchTrack::default()
    };
    for (hear, keep) in sections(frame_count(&source, hop)) {
        let mut path = Path::default();
        let done = for_frames(&source, SIZE, hop, hear.clone(), progress, |i, frame| {
            let expected = hints.expected.map(|e| e(i as f64 / FPS));
            listener.listen(frame, expected.as_ref());
            // The window hears an onset about 30 ms before and after it.
            let near = hints
                .onsets
                .get(i.saturating_sub(3)..(i + 4).min(hints.onsets.len()));
            let onset = near.map_or(0.0, |n| n.iter().copied().fold(0.0, f32::max));
            path.step(&listener, JUMP * (1.0 - 0.7 * f64::from(onset.min(1.0))));
        });
        if !done {
            return None;
        }
        let section = path.finish();
        let kept = keep.start - hear.start..keep.end - hear.start;
        out.hz.extend_from_slice(&section.hz[kept.clone()]);
        out.confidence.extend_from_slice(&section.confidence[kept]);
    }
    Some(out)
}

/// Scores of every pitch in one frame.
struct Listener {
    spectrum: Spectrum,
    inverse: Arc<dyn ComplexToReal<f32>>,
    power: Vec<Complex<f32>>,
    correlation: Vec<f32>,
    /// Autocorrelation of the window, 1 at lag 0.
    window: Vec<f32>,
    /// Weight of each bin.
    weight: Vec<f32>,
    /// Lag in samples, frequency, and (for a frame) roots of the magnitudes.
    lags: Vec<f64>,
    hz: Vec<f64>,
    roots: Vec<f32>,
    /// Periodicity of each pitch, −1..=1.
    periodicity: Vec<f64>,
    score: Vec<f64>,
    level: f32,
}

impl Listener {
    fn new() -> Self {
        let inverse = RealFftPlanner::new().plan_fft_inverse(FFT_SIZE);
        let power = inverse.make_input_vec();
        let correlation = inverse.make_output_vec();
        let hann: Vec<f64> = (0..SIZE)
            .map(|n| 0.5 - 0.5 * (std::f64::consts::TAU * (n as f64 + 0.5) / SIZE as f64).cos())
            .collect();
        let energy: f64 = hann.iter().map(|w| w * w).sum();
        let window = (0..SIZE)
            .map(|lag| {
                let dot: f64 = hann[lag..].iter().zip(&hann).map(|(a, b)| a * b).sum();
                (dot / energy) as f32
            })
            .collect();
        let weight = (0..=FFT_SIZE / 2)
            .map(|k| {
                let hz = k as f64 * f64::from(RATE) / FFT_SIZE as f64;
                // Rumble below the lowest note; above 350 Hz the rest of the band takes over.
                let high_pass = (hz / 25.0).powi(4) / (1.0 + (hz / 25.0).powi(4));
                let low_pass = 1.0 / (1.0 + (hz / 350.0).powi(4));
                (high_pass * low_pass) as f32
            })
            .collect();
        Self {
            spectrum: Spectrum::new(SIZE, FFT_SIZE),
            inverse,
            power,
            correlation,
            window,
            weight,
            lags: (0..PITCHES)
                .map(|i| f64::from(RATE) / pitch_hz(i as f64))
                .collect(),
            hz: (0..PITCHES).map(|i| pitch_hz(i as f64)).collect(),
            roots: vec![0.0; FFT_SIZE / 2 + 1],
            periodicity: vec![0.0; PITCHES],
            score: vec![0.0; PITCHES],
            level: 0.0,
        }
    }

    fn listen(&mut self, frame: &[f32], expected: Option<&[f32; 12]>) {
        self.spectrum.analyse(frame);
        let mut energy = 0.0f32;
        for ((p, m), w) in self
            .power
            .iter_mut()
            .zip(&mut self.spectrum.magnitudes)
            .zip(&self.weight)
        {
            *m *= w;
            energy += *m * *m;
            // Slightly compressed power: strong partials rule less (Tolonen & Karjalainen 2000).
            *p = Complex::new(m.powf(COMPRESSION), 0.0);
        }
        self.level = energy.sqrt();
        if self.level < SILENCE {
            self.periodicity.fill(0.0);
            self.score.fill(0.0);
            return;
        }
        let done = self.inverse.process(&mut self.power, &mut self.correlation);
        debug_assert!(done.is_ok());
        let zero = self.correlation[0].max(1e-20);
        for (r, m) in self.roots.iter_mut().zip(&self.spectrum.magnitudes) {
            *r = m.sqrt();
        }
        let roots = &self.roots;
        let bins_per_hz = FFT_SIZE as f64 / f64::from(RATE);
        let at = |hz: f64| -> f64 {
            let x = hz * bins_per_hz;
            let (k, f) = (x as usize, x.fract() as f32);
            match roots.get(k..k + 2) {
                Some(m) => f64::from(m[0] * (1.0 - f) + m[1] * f),
                None => 0.0,
            }
        };
        let mut top = 1e-9f64;
        for (i, s) in self.score.iter_mut().enumerate() {
            let lag = self.lags[i];
            let (k, f) = (lag as usize, lag.fract() as f32);
            let r = self.correlation[k] * (1.0 - f) + self.correlation[k + 1] * f;
            let w = (self.window[k] * (1.0 - f) + self.window[k + 1] * f).max(0.2);
            self.periodicity[i] = f64::from(r / zero / w).clamp(-1.0, 1.0);
            let f0 = self.hz[i];
            let mut weight = 1.0;
            *s = 0.0;
            for h in 1..=PARTIALS {
                let h = h as f64;
                // A partial counts by how far it stands out of the dips beside it.
                *s += weight * (at(h * f0) - 0.5 * (at((h - 0.5) * f0) + at((h + 0.5) * f0)));
                weight *= PARTIAL_DECAY;
            }
            top = top.max(*s);
        }
        for (i, s) in self.score.iter_mut().enumerate() {
            let sieve = (*s / top).max(0.0);
            let midi = LOWEST_MIDI + i as f64 / STEPS;
            // Two octaves up is as likely a guitar as a bass.
            let range = -0.012 * (midi - 45.0).max(0.0);
            let hint = expected.map_or(0.0, |e| {
                let pc = (midi.round() as usize) % 12;
                EXPECTED * f64::from(e[pc])
            });
            *s = PERIODICITY_SHARE * self.periodicity[i]
                + (1.0 - PERIODICITY_SHARE) * sieve
                + range
                + hint;
        }
    }
}

/// The best path through the pitches, kept as back pointers.
#[derive(Default)]
struct Path {
    value: Vec<f64>,
    back: Vec<u8>,
    level: Vec<f32>,
    periodicity: Vec<u8>,
}

impl Path {
    fn step(&mut self, listener: &Listener, price: f64) {
        if self.value.is_empty() {
            self.value = vec![0.0; PITCHES];
        }
        let best = (0..PITCHES)
            .max_by(|&a, &b| self.value[a].total_cmp(&self.value[b]))
            .unwrap_or(0);
        let jump = self.value[best] - price;
        let before = std::mem::take(&mut self.value);
        self.value = (0..PITCHES)
            .map(|i| {
                let (mut v, mut from) = (before[i], i);
                for (j, price) in [(i.wrapping_sub(1), STEP), (i + 1, STEP)] {
                    if let Some(&b) = before.get(j).filter(|&&b| b - price > v) {
                        (v, from) = (b - price, j);
                    }
                }
                if jump > v {
                    (v, from) = (jump, best);
                }
                self.back.push(from as u8);
                v + listener.score[i]
            })
            .collect();
        // Values only matter relative to each other: keep them small for an hour.
        let top = self.value.iter().copied().fold(f64::MIN, f64::max);
        self.value.iter_mut().for_each(|v| *v -= top);
        self.level.push(listener.level);
        let quantised = listener
            .periodicity
            .iter()
            .map(|p| (p.max(0.0) * 255.0) as u8);
        self.periodicity.extend(quantised);
    }

    fn finish(self) -> PitchTrack {
        let frames = self.level.len();
        let mut hz = vec![0.0; frames];
        let mut confidence = vec![0.0; frames];
        let loud = quantile(&self.level, 0.9);
        let mut state = (0..PITCHES.min(self.value.len()))
            .max_by(|&a, &b| self.value[a].total_cmp(&self.value[b]))
            .unwrap_or(0);
        for t in (0..frames).rev() {
            let row = &self.periodicity[t * PITCHES..][..PITCHES];
            let near = row[state.saturating_sub(1)..(state + 2).min(PITCHES)]
                .iter()
                .copied()
                .max();
            let periodicity = f64::from(near.unwrap_or(0)) / 255.0;
            if periodicity > VOICED && self.level[t] > (0.03 * loud).max(SILENCE) {
                hz[t] = pitch_hz(refine(row, state)) as f32;
                confidence[t] = ((periodicity - VOICED) / (1.0 - VOICED)).clamp(0.0, 1.0) as f32;
            }
            state = usize::from(self.back[t * PITCHES + state]);
        }
        PitchTrack {
            hop_seconds: 1.0 / FPS,
            hz,
            confidence,
        }
    }
}

/// Vertex of the parabola through the periodicity around `i`, in grid steps.
fn refine(row: &[u8], i: usize) -> f64 {
    if i == 0 || i + 1 >= row.len() {
        return i as f64;
    }
    let (a, b, c) = (
        f64::from(row[i - 1]),
        f64::from(row[i]),
        f64::from(row[i + 1]),
    );
    let bend = a - 2.0 * b + c;
    let shift = if bend < -1e-9 {
        0.5 * (a - c) / bend
    } else {
        0.0
    };
    i as f64 + shift.clamp(-1.0, 1.0)
}

/// Shortest note, seconds.
const SHORTEST: f64 = 0.07;

/// Cuts a track into notes at `onsets` (seconds, ascending) and where the pitch moves by more than a half
/// tone for good.
pub(super) fn notes(track: &PitchTrack, onsets: &[f64], levels: &[f32]) -> Vec<Note> {
    let frames = track.hz.len();
    let midi: Vec<Option<f64>> = track
        .hz
        .iter()
        .map(|&hz| (hz > 0.0).then(|| midi_of(f64::from(hz))))
        .collect();
    let mut cuts: Vec<usize> = onsets.iter().map(|t| (t * FPS).round() as usize).collect();
    cuts.extend(pitch_changes(&midi));
    cuts.push(frames);
    cuts.retain(|&c| c <= frames);
    cuts.sort_unstable();
    let mut merged: Vec<usize> = vec![0];
    for cut in cuts {
        // An onset and the pitch change it brings are one event.
        if merged
            .last()
            .is_none_or(|&l| cut >= l + (SHORTEST * FPS) as usize)
        {
            merged.push(cut);
        }
    }
    if merged.last().is_some_and(|&l| l < frames) {
        merged.push(frames);
    }
    let loud = quantile(levels, 0.95).max(1e-9);
    let mut out = Vec::new();
    for span in merged.windows(2) {
        let voiced: Vec<(usize, f64)> = (span[0]..span[1])
            .filter_map(|t| midi[t].map(|m| (t, m)))
            .collect();
        let long_enough = voiced.len() as f64 >= SHORTEST * FPS;
        if !long_enough || voiced.len() * 4 < span[1] - span[0] {
            continue;
        }
        let start = if voiced[0].0 <= span[0] + 6 {
            span[0]
        } else {
            voiced[0].0
        };
        // The middle of the note is free of its neighbours.
        let body = &voiced[voiced.len() / 5..voiced.len() - voiced.len() / 5];
        let pitches: Vec<f32> = body.iter().map(|v| v.1 as f32).collect();
        let end = voiced.last().map_or(span[1], |v| v.0 + 1);
        let confidence: f32 = voiced.iter().map(|v| track.confidence[v.0]).sum::<f32>();
        let peak = levels
            .get(start..end.min(levels.len()))
            .map_or(0.0, |l| l.iter().copied().fold(0.0, f32::max));
        out.push(Note {
            t: start as f64 / FPS,
            dur: (end - start) as f64 / FPS,
            midi: quantile(&pitches, 0.5),
            velocity: (peak / loud).sqrt().clamp(0.0, 1.0),
            confidence: (confidence / voiced.len() as f32).clamp(0.0, 1.0),
        });
    }
    out
}

/// Frames where the pitch settles more than half a semitone from where it was.
fn pitch_changes(midi: &[Option<f64>]) -> Vec<usize> {
    const REACH: usize = 4;
    let mut out: Vec<usize> = Vec::new();
    let mut current: Option<f64> = None;
    for t in 0..midi.len() {
        let Some(pitch) = midi[t] else {
            // A gap ends the note.
            if (t..(t + 3).min(midi.len())).all(|k| midi[k].is_none()) {
                current = None;
            }
            continue;
        };
        let settled = (t..(t + REACH).min(midi.len()))
            .all(|k| midi[k].is_some_and(|m| (m - pitch).abs() < 0.4));
        match current {
            Some(c) if (pitch - c).abs() > 0.6 && settled => {
                out.push(t);
                current = Some(pitch);
            }
            None if settled => {
                out.push(t);
                current = Some(pitch);
            }
            _ => {}
        }
    }
    out
}

// [cli] A band made of arithmetic, and the damage of a phone recording: the demo's and the tests' song.

use std::f64::consts::{PI, TAU};

use uncook::audio::AudioBuffer;

use crate::render::split_mix;

/// Hz.
pub const SAMPLE_RATE: u32 = 48_000;

/// Beats a minute; four beats a bar.
const TEMPO_BPM: f64 = 112.0;

/// Root (MIDI) and whether the chord is minor, one a bar: A minor, F, C, G.
const CHORDS: [(f64, bool); 4] = [(57.0, true), (53.0, false), (60.0, false), (55.0, false)];

/// The lead's notes: quarter notes from the start of the bar, MIDI note, length in quarter notes.
const LEAD: [(f64, f64, f64); 6] = [
    (0.0, 76.0, 0.9),
    (1.0, 74.0, 0.45),
    (1.5, 72.0, 0.45),
    (2.0, 74.0, 0.9),
    (3.0, 79.0, 0.45),
    (3.5, 76.0, 0.45),
];

/// SDR, in dB, that the phone's overload leaves of what its capsule hears.
const OVERLOAD_SDR_DB: f64 = 7.0;
/// Corner of the phone's second-order high-pass in Hz.
const MICROPHONE_HZ: f64 = 120.0;
/// RMS of the phone's noise, relative to the mix.
const NOISE_DB: f64 = -50.0;
/// Gain, relative to the peak, at which the amplifier of drums and bass is driven into its rails.
const DRIVE: f64 = 4.0;
/// Gain of chords and lead.
const OTHERS_GAIN: f32 = 1.0;
/// Fade at the edges of the overdriven span.
const DRIVE_FADE_SECONDS: f64 = 0.01;

/// A song, its truth and its damage.
#[derive(Clone, Debug)]
pub struct Song {
    /// Drums, bass, chords, lead: before any damage.
    pub stems: [AudioBuffer; 4],
    /// Their sum.
    pub clean: AudioBuffer,
    /// What the phone recorded.
    pub damaged: AudioBuffer,
    /// Seconds between which drums and bass were overdriven before they were mixed.
    pub overdriven: (f64, f64),
    /// Level at which the phone clipped.
    pub clip_level: f32,
}

/// Composes and damages `seconds` of a band. The same samples on every run.
pub fn song(seconds: f64) -> Song {
    let frames = (seconds * f64::from(SAMPLE_RATE)).round() as usize;
    let stems = [
        drums(frames),
        bass(frames),
        scaled(chords(frames)),
        scaled(lead(frames)),
    ];
    let clean = sum(&stems);
    let overdriven = (seconds / 3.0, seconds * 2.0 / 3.0);
    let [drums, bass, chords, lead] = &stems;
    // One amplifier for both, as on a small stage: that is what makes them dirty each other.
    let cooked = overdrive(&add(drums, bass), overdriven);
    let (damaged, clip_level) = phone(&add(&cooked, &add(chords, lead)));
    Song {
        clean,
        damaged,
        overdriven,
        clip_level,
        stems,
    }
}

/// Phone chain: the capsule loses the lows, its noise comes in, the converter clips. Returns the level at
/// which it does.
fn phone(mix: &AudioBuffer) -> (AudioBuffer, f32) {
    let noise_rms = rms(mix) * 10f64.powf(NOISE_DB / 20.0);
    let mut noise = Noise(0x0070_686F_6E65);
    let mut recording = mix.clone();
    for channel in &mut recording.channels {
        let mut high_pass = HighPass::new(MICROPHONE_HZ);
        for s in channel {
            // A uniform source of width 2 has an RMS of 1/√3.
            let hiss = noise.next() * noise_rms * 3f64.sqrt();
            *s = (high_pass.next(f64::from(*s)) + hiss) as f32;
        }
    }
    let level = clip_level(&recording);
    for s in recording.channels.iter_mut().flatten() {
        *s = s.clamp(-level, level);
    }
    (recording, level)
}

/// The level that leaves [`OVERLOAD_SDR_DB`], by bisection.
fn clip_level(mix: &AudioBuffer) -> f32 {
    let samples = || mix.channels.iter().flatten().map(|&s| f64::from(s));
    let power: f64 = samples().map(|s| s * s).sum();
    let peak = samples().fold(0.0, |p: f64, s| p.max(s.abs()));
    let (mut low, mut high) = (0.0, peak);
    for _ in 0..40 {
        let level = 0.5 * (low + high);
        let lost: f64 = samples().map(|s| (s.abs() - level).max(0.0).powi(2)).sum();
        let sdr = 10.0 * (power / lost.max(f64::MIN_POSITIVE)).log10();
        if sdr < OVERLOAD_SDR_DB {
            low = level;
        } else {
            high = level;
        }
    }
    high as f32
}

/// Overdrives a span: turned up by [`DRIVE`] into the amplifier's rails.
fn overdrive(stem: &AudioBuffer, (start, end): (f64, f64)) -> AudioBuffer {
    let rate = f64::from(stem.sample_rate);
    let peak = stem
        .channels
        .iter()
        .flatten()
        .fold(0.0f32, |p, s| p.max(s.abs()));
    let shape = |s: f64| (s / f64::from(peak) * DRIVE).clamp(-1.0, 1.0);
    // The rails stand at two thirds of the loudest peak: turned up, it gets louder and flat.
    let makeup = f64::from(peak) * 2.0 / 3.0;
    let channels = stem
        .channels
        .iter()
        .map(|channel| {
            channel
                .iter()
                .enumerate()
                .map(|(n, &s)| {
                    let t = n as f64 / rate;
                    let inside =
                        ((t - start).min(end - t) / DRIVE_FADE_SECONDS + 0.5).clamp(0.0, 1.0);
                    let s = f64::from(s);
                    (s + inside * (shape(s) * makeup - s)) as f32
                })
                .collect()
        })
        .collect();
    AudioBuffer::new(channels, stem.sample_rate)
}

fn sum([drums, bass, chords, lead]: &[AudioBuffer; 4]) -> AudioBuffer {
    add(&add(drums, bass), &add(chords, lead))
}

/// Quieter than the rhythm section, as everyone is on a small stage.
fn scaled(mut stem: AudioBuffer) -> AudioBuffer {
    for s in stem.channels.iter_mut().flatten() {
        *s *= OTHERS_GAIN;
    }
    stem
}

fn add(a: &AudioBuffer, b: &AudioBuffer) -> AudioBuffer {
    let channels = a
        .channels
        .iter()
        .zip(&b.channels)
        .map(|(a, b)| a.iter().zip(b).map(|(a, b)| a + b).collect())
        .collect();
    AudioBuffer::new(channels, a.sample_rate)
}

fn rms(audio: &AudioBuffer) -> f64 {
    let all = || audio.channels.iter().flatten();
    let power: f64 = all().map(|&s| f64::from(s).powi(2)).sum();
    (power / all().count().max(1) as f64).sqrt()
}

/// A stem in the making: stereo, f64.
struct Canvas {
    channels: [Vec<f64>; 2],
}

impl Canvas {
    fn new(frames: usize) -> Self {
        Self {
            channels: [vec![0.0; frames], vec![0.0; frames]],
        }
    }

    /// Adds `sound(seconds since start)` for `length` seconds from `start`; `pan` runs from 0, left, to 1.
    fn add(&mut self, start: f64, length: f64, pan: f64, mut sound: impl FnMut(f64) -> f64) {
        let rate = f64::from(SAMPLE_RATE);
        let first = (start * rate).round() as usize;
        let gains = [(pan * PI / 2.0).cos(), (pan * PI / 2.0).sin()];
        for n in 0..(length * rate) as usize {
            let at = first + n;
            if at >= self.channels[0].len() {
                break;
            }
            let value = sound(n as f64 / rate);
            for (channel, gain) in self.channels.iter_mut().zip(gains) {
                channel[at] += value * gain;
            }
        }
    }

    fn done(self) -> AudioBuffer {
        let channels = self
            .channels
            .into_iter()
            .map(|c| c.into_iter().map(|s| s as f32).collect())
            .collect();
        AudioBuffer::new(channels, SAMPLE_RATE)
    }
}

fn beat_seconds() -> f64 {
    60.0 / TEMPO_BPM
}

fn beats(frames: usize) -> usize {
    (frames as f64 / f64::from(SAMPLE_RATE) / beat_seconds()).ceil() as usize
}

fn hertz(midi: f64) -> f64 {
    440.0 * ((midi - 69.0) / 12.0).exp2()
}

/// Attack and release without clicks.
fn envelope(t: f64, length: f64, attack: f64, release: f64) -> f64 {
    (t / attack).min(1.0) * ((length - t) / release).clamp(0.0, 1.0)
}

/// Kick on 1 and 3, snare on 2 and 4, closed hats in eighths.
fn drums(frames: usize) -> AudioBuffer {
    let mut canvas = Canvas::new(frames);
    let mut noise = Noise(0x6472_756D);
    for beat in 0..beats(frames) {
        let start = beat as f64 * beat_seconds();
        if beat % 2 == 0 {
            // From 140 Hz down to 48 Hz: the phase is the integral of the exponential sweep.
            canvas.add(start, 0.3, 0.5, |t| {
                let phase = 48.0 * t + (140.0 - 48.0) / 30.0 * (1.0 - (-30.0 * t).exp());
                0.55 * (TAU * phase).sin() * (-9.0 * t).exp() * envelope(t, 0.3, 0.001, 0.02)
            });
        } else {
            canvas.add(start, 0.2, 0.45, |t| {
                let body = (TAU * 190.0 * t).sin() * (-22.0 * t).exp();
                let rattle = noise.next() * (-16.0 * t).exp();
                (0.2 * body + 0.22 * rattle) * envelope(t, 0.2, 0.001, 0.02)
            });
        }
        for half in 0..2 {
            let accent = if half == 0 { 0.09 } else { 0.06 };
            let mut last = 0.0;
            canvas.add(start + half as f64 * beat_seconds() / 2.0, 0.06, 0.7, |t| {
                let white = noise.next();
                // A first difference rises by 6 dB an octave: bright, as hats are.
                let bright = white - std::mem::replace(&mut last, white);
                accent * bright * (-60.0 * t).exp() * envelope(t, 0.06, 0.001, 0.005)
            });
        }
    }
    canvas.done()
}

/// Roots in eighths, every fourth an octave up: harmonics that fall with their number.
fn bass(frames: usize) -> AudioBuffer {
    let mut canvas = Canvas::new(frames);
    let eighth = beat_seconds() / 2.0;
    for step in 0..beats(frames) * 2 {
        let (root, _) = CHORDS[step / 8 % CHORDS.len()];
        let note = root - 24.0 + if step % 4 == 3 { 12.0 } else { 0.0 };
        let f = hertz(note);
        let length = eighth * 0.95;
        canvas.add(step as f64 * eighth, length, 0.5, |t| {
            let tone: f64 = (1..=6)
                .map(|k| {
                    let k = f64::from(k);
                    (TAU * f * k * t).sin() / k.powf(1.6)
                })
                .sum();
            0.26 * tone * (-2.5 * t).exp() * envelope(t, length, 0.004, 0.02)
        });
    }
    canvas.done()
}

/// Triads of slightly detuned voices, spread from left to right.
fn chords(frames: usize) -> AudioBuffer {
    let mut canvas = Canvas::new(frames);
    let bar = 4.0 * beat_seconds();
    for index in 0..beats(frames).div_ceil(4) {
        let (root, minor) = CHORDS[index % CHORDS.len()];
        let third = if minor { 3.0 } else { 4.0 };
        for (voice, interval) in [0.0, third, 7.0, 12.0].into_iter().enumerate() {
            let pan = 0.2 + 0.2 * voice as f64;
            for detune in [-0.04, 0.04] {
                let f = hertz(root + interval + detune);
                canvas.add(index as f64 * bar, bar, pan, |t| {
                    let tone: f64 = (1..=8)
                        .map(|k| {
                            let k = f64::from(k);
                            (TAU * f * k * t).sin() / (k * k)
                        })
                        .sum();
                    0.032 * tone * envelope(t, bar, 0.03, 0.08)
                });
            }
        }
    }
    canvas.done()
}

/// A reedy melody with vibrato: odd harmonics up to 9 kHz.
fn lead(frames: usize) -> AudioBuffer {
    let mut canvas = Canvas::new(frames);
    for index in 0..beats(frames).div_ceil(4) {
        for (beat, note, length) in LEAD {
            let start = (4.0 * index as f64 + beat) * beat_seconds();
            let length = length * beat_seconds();
            let f = hertz(note);
            canvas.add(start, length, 0.35, |t| {
                let phase = f * t + 0.4 * (TAU * 5.2 * t).sin() * t.min(0.3);
                let tone: f64 = (0..)
                    .map(|k| f64::from(2 * k + 1))
                    .take_while(|k| k * f < 9_000.0)
                    .map(|k| (TAU * phase * k).sin() / k.powf(1.4))
                    .sum();
                0.1 * tone * envelope(t, length, 0.01, 0.04)
            });
        }
    }
    canvas.done()
}

/// Uniform in -1..1.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        (split_mix(&mut self.0) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

/// Butterworth high-pass of second order (bilinear transform, RBJ's cookbook with Q = 1/√2).
struct HighPass {
    b: [f64; 3],
    a: [f64; 2],
    x: [f64; 2],
    y: [f64; 2],
}

impl HighPass {
    fn new(hz: f64) -> Self {
        let w = TAU * hz / f64::from(SAMPLE_RATE);
        let alpha = w.sin() / 2f64.sqrt();
        let a0 = 1.0 + alpha;
        let b = (1.0 + w.cos()) / 2.0 / a0;
        Self {
            b: [b, -2.0 * b, b],
            a: [-2.0 * w.cos() / a0, (1.0 - alpha) / a0],
            x: [0.0; 2],
            y: [0.0; 2],
        }
    }

    fn next(&mut self, x: f64) -> f64 {
        let y = self.b[0] * x + self.b[1] * self.x[0] + self.b[2] * self.x[1]
            - self.a[0] * self.y[0]
            - self.a[1] * self.y[1];
        self.x = [x, self.x[0]];
        self.y = [y, self.y[0]];
        y
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overload_leaves_the_sdr_it_says() {
        let song = song(3.0);
        let mix = &song.clean;
        let level = clip_level(mix);
        let (mut signal, mut error) = (0.0, 0.0);
        for &s in mix.channels.iter().flatten() {
            let clipped = s.clamp(-level, level);
            signal += f64::from(s).powi(2);
            error += f64::from(s - clipped).powi(2);
        }
        let sdr = 10.0 * f64::log10(signal / error);
        assert!((sdr - OVERLOAD_SDR_DB).abs() < 0.01, "{sdr}");
    }

    #[test]
    fn only_drums_and_bass_are_overdriven_and_only_in_their_span() {
        let song = song(3.0);
        let cooked = overdrive(&song.stems[1], song.overdriven);
        let rate = f64::from(SAMPLE_RATE);
        let changed: Vec<f64> = (0..cooked.frames())
            .filter(|&n| cooked.channels[0][n] != song.stems[1].channels[0][n])
            .map(|n| n as f64 / rate)
            .collect();
        let (start, end) = song.overdriven;
        assert!(*changed.first().unwrap() >= start - DRIVE_FADE_SECONDS);
        assert!(*changed.last().unwrap() <= end + DRIVE_FADE_SECONDS);
        assert!(changed.len() as f64 > 0.8 * (end - start) * rate);
    }

    #[test]
    fn the_mix_fits_and_is_the_same_every_time() {
        let (a, b) = (song(3.0), song(3.0));
        assert_eq!(a.damaged, b.damaged);
        let peak = |audio: &AudioBuffer| {
            let all = audio.channels.iter().flatten();
            all.fold(0.0f32, |p, s| p.max(s.abs()))
        };
        assert!(peak(&a.clean) < 1.0, "{}", peak(&a.clean));
        assert!(peak(&a.clean) > 0.3, "{}", peak(&a.clean));
        assert!(peak(&a.damaged) < 1.0);
    }
}

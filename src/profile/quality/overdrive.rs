// [worker] Hears whether drums and bass were overdriven before they were mixed: a small network over the whole take.

use std::sync::OnceLock;

use super::super::{
    ears::{EarsError, Net, Nets},
    spectra::{BandSpectra, RATE, Source, quantile, sections_of},
};
use crate::{
    audio::AudioBuffer, damage::DamageMap, metrics::damage::damage_map_and_features,
    realtime::detect::FEATURES, worker::progress::Progress,
};

/// What is listened to: the mix, drums and bass together, drums, bass.
const SIGNALS: usize = 4;
/// Bands of a signal: neighbours among [`BandSpectra`]'s, two by two.
const BANDS: usize = 19;
/// What is heard of a signal every 10 ms: the live detector's features, then the bands' levels.
const HEARD: usize = FEATURES + BANDS;
/// Inputs of the networks: everything that is heard, then the same relative to its median over the take.
pub const INPUTS: usize = 2 * SIGNALS * HEARD;
/// Drums, bass.
const OUTPUTS: usize = 2;
/// Networks whose log odds are averaged.
const NETS: usize = 1;
/// Frames that are judged at once, and of what is heard of the music before and after them: their medians are
/// taken over both, so that an hour is judged like a song.
const SECTION: usize = 3_000;
const OVERLAP: usize = 1_500;
/// A band's level counts from this far below the mix's loud frames, dB.
const FLOOR_DB: f32 = -80.0;
/// Frames this far below the loud ones say nothing about the take's medians, dB.
const AUDIBLE_DB: f32 = -40.0;
/// Overdrive begins or ends once in so many frames (3 s).
const FRAMES_BETWEEN_TURNS: f64 = 300.0;
/// How far a frame's log odds count: neighbours say nearly the same. With half of it, and turns every 10 s, more is found
/// and the borders are blurred by half a second.
const EVIDENCE: f64 = 0.04;

/// What the networks hear of a take: `[frame of 10 ms][SIGNALS][HEARD]`.
pub(super) struct Heard {
    rows: Vec<f32>,
    /// Level of the mix in dB over its loud frames.
    level: Vec<f32>,
    /// The live detector's judgement of the mix.
    pub mix: DamageMap,
}

impl Heard {
    /// `stems` of `base`, drums and bass of them.
    pub fn new(base: &AudioBuffer, drums: &AudioBuffer, bass: &AudioBuffer) -> Self {
        let (mix, features) = damage_map_and_features(base);
        let frames = mix.frames.len();
        let mut rows = vec![0.0; frames * SIGNALS * HEARD];
        let together = super::separated::sum(drums, bass);
        let features = [
            features,
            damage_map_and_features(&together).1,
            damage_map_and_features(drums).1,
            damage_map_and_features(bass).1,
        ];
        let signals = [base, &together, drums, bass];
        let mut level = Vec::new();
        let mut loud = 0.0;
        for (signal, (features, audio)) in features.iter().zip(signals).enumerate() {
            let bands = band_powers(audio);
            if signal == 0 {
                level = bands.iter().map(|b| b.iter().sum::<f32>()).collect();
                level.resize(frames, 0.0);
                loud = quantile(&level, 0.9).max(1e-12);
                level.iter_mut().for_each(|p| *p = decibels(*p / loud));
            }
            for i in 0..frames {
                let row = &mut rows[(i * SIGNALS + signal) * HEARD..][..HEARD];
                let (own, levels) = row.split_at_mut(FEATURES);
                if let Some(features) = features.get(i) {
                    own.copy_from_slice(features);
                }
                let power = bands.get(i).or(bands.last());
                for (b, level) in levels.iter_mut().enumerate() {
                    // A twentieth brings decibels to the size of the other inputs.
                    *level = decibels(power.map_or(0.0, |p| p[b]) / loud) / 20.0;
                }
            }
        }
        rows.iter_mut()
            .filter(|x| !x.is_finite())
            .for_each(|x| *x = 0.0);
        Self { rows, level, mix }
    }

    pub fn frames(&self) -> usize {
        self.level.len()
    }

    /// `[frame][INPUTS]` of a range of frames: medians are taken over its audible ones.
    pub fn inputs(&self, range: std::ops::Range<usize>) -> Vec<f32> {
        let width = SIGNALS * HEARD;
        let audible: Vec<usize> = range
            .clone()
            .filter(|&i| self.level[i] > AUDIBLE_DB)
            .collect();
        let mut column = Vec::with_capacity(audible.len());
        let medians: Vec<f32> = (0..width)
            .map(|k| {
                column.clear();
                column.extend(audible.iter().map(|i| self.rows[i * width + k]));
                quantile(&column, 0.5)
            })
            .collect();
        let mut out = Vec::with_capacity(range.len() * INPUTS);
        for row in self.rows[range.start * width..range.end * width].chunks_exact(width) {
            out.extend_from_slice(row);
            out.extend(row.iter().zip(&medians).map(|(x, m)| x - m));
        }
        out
    }
}

fn decibels(power: f32) -> f32 {
    (10.0 * power.max(1e-12).log10()).max(FLOOR_DB)
}

/// Power of each of [`BANDS`] bands every 10 ms.
fn band_powers(audio: &AudioBuffer) -> Vec<[f32; BANDS]> {
    let source = Source::new(&[(audio, 1.0)], RATE);
    // Nobody can cancel this.
    let Some(spectra) = BandSpectra::new(&source, &Progress::new()) else {
        return Vec::new();
    };
    (0..spectra.frames())
        .map(|i| {
            let mut out = [0.0; BANDS];
            for (k, m) in spectra.frame(i).iter().enumerate() {
                out[(k / 2).min(BANDS - 1)] += m * m;
            }
            out
        })
        .collect()
}

/// The networks.
pub(super) struct Overdrive {
    nets: Vec<Net>,
}

impl Overdrive {
    /// Those inside the binary. The weights are part of it and a test reads them: they can't fail to load.
    pub fn built_in() -> Option<&'static Self> {
        static BUILT_IN: OnceLock<Option<Overdrive>> = OnceLock::new();
        BUILT_IN
            .get_or_init(|| Self::read(include_bytes!("weights.bin")).ok())
            .as_ref()
    }

    pub fn read(bytes: &[u8]) -> Result<Self, EarsError> {
        let mut reader = Nets::new(bytes)?;
        let nets = (0..NETS)
            .map(|_| {
                let net = reader.net()?;
                for (expected, actual) in [(INPUTS, net.inputs), (OUTPUTS, net.outputs)] {
                    if expected != actual {
                        return Err(EarsError::Shape { expected, actual });
                    }
                }
                Ok(net)
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { nets })
    }

    /// Log odds that drums and that bass are overdriven, every 10 ms.
    pub fn odds(&self, heard: &Heard) -> [Vec<f32>; OUTPUTS] {
        let mut raw = [const { Vec::new() }; OUTPUTS];
        for (hear, keep) in sections_of(heard.frames(), SECTION, OVERLAP) {
            let input = heard.inputs(hear.clone());
            let mut sum = vec![0.0f32; hear.len() * OUTPUTS];
            for net in &self.nets {
                for (sum, out) in sum.iter_mut().zip(net.run(&input)) {
                    *sum += out / NETS as f32;
                }
            }
            let skip = keep.start - hear.start;
            for row in sum.chunks_exact(OUTPUTS).skip(skip).take(keep.len()) {
                for (raw, x) in raw.iter_mut().zip(row) {
                    raw.push(*x);
                }
            }
        }
        raw.map(|odds| in_spans(&odds))
    }
}

/// Log odds of a chain of two states that seldom changes, given every frame's own log odds (forward–backward;
/// Rabiner, "A tutorial on hidden Markov models", 1989).
fn in_spans(odds: &[f32]) -> Vec<f32> {
    let turn = 1.0 / FRAMES_BETWEEN_TURNS;
    let evidence = |x: &f32| EVIDENCE * f64::from(if x.is_finite() { *x } else { 0.0 });
    // Log odds after a step of the chain.
    let step = |log_odds: f64| {
        let p = 1.0 / (1.0 + (-log_odds).exp());
        let p = p * (1.0 - turn) + (1.0 - p) * turn;
        (p / (1.0 - p)).ln()
    };
    let mut forward = Vec::with_capacity(odds.len());
    let mut past = 0.0;
    for x in odds {
        forward.push(past + evidence(x));
        past = step(past + evidence(x));
    }
    let mut future = 0.0;
    for (sum, x) in forward.iter_mut().zip(odds).rev() {
        *sum += future;
        future = step(future + evidence(x));
    }
    forward.iter().map(|x| *x as f32).collect()
}

/// What the networks hear of a take of less than a minute, `[frame][INPUTS]`: for their training.
pub fn training_features(base: &AudioBuffer, drums: &AudioBuffer, bass: &AudioBuffer) -> Vec<f32> {
    let heard = Heard::new(base, drums, bass);
    heard.inputs(0..heard.frames())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kick on every half second over a steady bass, and some noise in both.
    fn drums_and_bass(gain: f32) -> [AudioBuffer; 2] {
        let tone =
            |hz: f64, n: usize| (std::f64::consts::TAU * hz * n as f64 / 44_100.0).sin() as f32;
        let mut state = 1u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state as f32 / u32::MAX as f32 - 0.5
        };
        let (mut drums, mut bass) = (Vec::new(), Vec::new());
        for n in 0..3 * 44_100 {
            let fall = (-((n % 22_050) as f32) / 4_000.0).exp();
            drums.push(gain * (0.4 * fall * (tone(70.0, n) + 0.2 * noise()) + 0.02 * noise()));
            bass.push(gain * 0.2 * (tone(55.0, n) + 0.3 * tone(110.0, n) + 0.1 * noise()));
        }
        [drums, bass].map(|x| AudioBuffer::new(vec![x], 44_100))
    }

    #[test]
    fn levels_do_not_depend_on_the_gain() {
        let hear = |gain| {
            let [drums, bass] = drums_and_bass(gain);
            training_features(&super::super::separated::sum(&drums, &bass), &drums, &bass)
        };
        let (loud, quiet) = (hear(1.0), hear(0.1));
        assert_eq!(loud.len(), 300 * INPUTS);
        // The detector's own features have floors in full scale; the levels are the take's own.
        for (i, (a, b)) in loud.iter().zip(&quiet).enumerate() {
            let is_level = i % HEARD >= FEATURES;
            assert!(!is_level || (a - b).abs() < 0.02, "{i}: {a} {b}");
        }
    }

    #[test]
    fn silence_and_numbers_that_are_none_are_heard_as_numbers() {
        let rate = 48_000;
        for x in [
            vec![0.0; 9_600],
            vec![f32::NAN; 9_600],
            vec![1e30; 9_600],
            Vec::new(),
        ] {
            let frames = x.len() / 480;
            let audio = AudioBuffer::new(vec![x], rate);
            let heard = training_features(&audio, &audio, &audio);
            assert_eq!(heard.len(), frames * INPUTS);
            assert!(heard.iter().all(|x| x.is_finite()));
        }
    }

    #[test]
    fn the_networks_inside_say_what_pytorch_says() {
        let nets = Overdrive::built_in().expect("the weights inside the binary");
        let input: Vec<f32> = (0..40 * INPUTS)
            .map(|i| (0.37 * (i / INPUTS) as f64 + 0.1 * (i % INPUTS) as f64).sin() as f32)
            .collect();
        let bytes = include_bytes!("../../../tests/golden/overdrive.f32");
        let expected = bytes
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let mut found = vec![0.0; 40 * OUTPUTS];
        for net in &nets.nets {
            found
                .iter_mut()
                .zip(net.run(&input))
                .for_each(|(sum, x)| *sum += x / NETS as f32);
        }
        assert_eq!(expected.len(), found.len());
        for (expected, found) in expected.zip(found) {
            // Half precision of the weights is part of what PyTorch was asked for.
            assert!(
                (expected - found).abs() < 2e-3 * (1.0 + expected.abs()),
                "{expected} {found}"
            );
        }
    }

    #[test]
    fn spans_are_kept_and_single_frames_are_not() {
        let mut odds = vec![-4.0; 1_000];
        odds[400..600].fill(4.0);
        odds[500..505].fill(-6.0);
        odds[200..205].fill(9.0);
        let found = in_spans(&odds);
        let driven: Vec<usize> = (0..1_000).filter(|&i| found[i] > 0.0).collect();
        assert_eq!(driven.len(), 200, "{driven:?}");
        assert_eq!((driven[0], driven[199]), (400, 599));
        assert!(
            in_spans(&[f32::NAN, f32::INFINITY, 1.0])
                .iter()
                .all(|x| x.is_finite())
        );
    }

    #[test]
    fn a_broken_file_is_an_error() {
        assert!(Overdrive::read(b"nothing").is_err());
        let ears = include_bytes!("../ears/weights.bin");
        assert!(matches!(
            Overdrive::read(ears),
            Err(EarsError::Shape { .. })
        ));
    }
}

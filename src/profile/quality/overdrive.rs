// [worker] Hears whether drums and bass were overdriven before they were mixed: a small network over the whole take.

use std::sync::OnceLock;

use super::super::{
    ears::{EarsError, Net, Nets},
    spectra::{BandSpectra, RATE, Source, moving_mean, quantile, sections_of},
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
const NETS: usize = 3;
/// What the judge hears of a stem's frame.
const JUDGED: usize = 17;
/// The frames' log odds count up to this.
const SUREST: f32 = 12.0;
/// Frames before and after over which the judge hears means of them.
const SHORT: usize = 15;
const LONG: usize = 50;
/// The judge's log odds from which on a frame counts as damaged, and the share of the frames' own that counts: with
/// half of them a region goes on (at severity 0.3) until they speak clearly against it. Of 67 clean generated takes that
/// training never heard (56 of them of sounds that it never heard; compressed, limited, ducked, through microphones and
/// codecs) 0.9 % of the frames lie above; regions of driven ones cover 0.34 to 0.51 of the driven frames.
const JUDGE_AT_ZERO: f32 = 0.4;
const SHARE_OF_OWN: f32 = 0.5;
/// Frames that are judged at once, and of what is heard of the music before and after them: their medians are
/// taken over both, so that an hour is judged like a song.
const SECTION: usize = 3_000;
const OVERLAP: usize = 1_500;
/// A band's level counts from this far below the mix's loud frames, dB.
const FLOOR_DB: f32 = -80.0;
/// Frames this far below the loud ones say nothing about the take's medians, dB.
const AUDIBLE_DB: f32 = -40.0;
/// What the networks hear of a take: `[frame of 10 ms][SIGNALS][HEARD]`.
pub(super) struct Heard {
    rows: Vec<f32>,
    /// Level of the mix in dB over its loud frames.
    level: Vec<f32>,
    /// The live detector's judgement of the mix, and of drums and bass together.
    pub mix: DamageMap,
    pub together: DamageMap,
}

impl Heard {
    /// `stems` of `base`, drums and bass of them.
    pub fn new(base: &AudioBuffer, drums: &AudioBuffer, bass: &AudioBuffer) -> Self {
        let (mix, features) = damage_map_and_features(base);
        let frames = mix.frames.len();
        let mut rows = vec![0.0; frames * SIGNALS * HEARD];
        let sum = super::separated::sum(drums, bass);
        let (together, features_together) = damage_map_and_features(&sum);
        let features = [
            features,
            features_together,
            damage_map_and_features(drums).1,
            damage_map_and_features(bass).1,
        ];
        let signals = [base, &sum, drums, bass];
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
        Self {
            rows,
            level,
            mix,
            together,
        }
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

/// The networks: some hear frames, and one judges by what they make of the whole take.
pub(super) struct Overdrive {
    nets: Vec<Net>,
    judge: Net,
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
        let mut net = |inputs, outputs| {
            let net = reader.net()?;
            for (expected, actual) in [(inputs, net.inputs), (outputs, net.outputs)] {
                if expected != actual {
                    return Err(EarsError::Shape { expected, actual });
                }
            }
            Ok(net)
        };
        let nets = (0..NETS)
            .map(|_| net(INPUTS, OUTPUTS))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            nets,
            judge: net(JUDGED, 1)?,
        })
    }

    /// Log odds that drums and that bass are overdriven, every 10 ms: above 0 where the judge's exceed
    /// [`JUDGE_AT_ZERO`] and the frames' own, over 0.3 s, speak for it too.
    pub fn odds(&self, heard: &Heard) -> [Vec<f32>; OUTPUTS] {
        let mut out = [const { Vec::new() }; OUTPUTS];
        for (hear, keep) in sections_of(heard.frames(), SECTION, OVERLAP) {
            let odds = self.frame_odds(&heard.inputs(hear.clone()));
            let skip = keep.start - hear.start;
            let level = &heard.level[hear];
            for (stem, out) in out.iter_mut().enumerate() {
                let judged = self.judge.run(&judged(&odds, level, stem));
                let own = moving_mean(&odds[stem], SHORT);
                let both = judged.iter().zip(own).map(|(j, o)| together(*j, o));
                out.extend(both.skip(skip).take(keep.len()));
            }
        }
        out
    }

    /// Mean log odds of the networks that hear frames. `input`: `[frame][INPUTS]`.
    fn frame_odds(&self, input: &[f32]) -> [Vec<f32>; OUTPUTS] {
        let frames = input.len() / INPUTS;
        let mut sum = vec![0.0f32; frames * OUTPUTS];
        for net in &self.nets {
            for (sum, out) in sum.iter_mut().zip(net.run(input)) {
                *sum += out / NETS as f32;
            }
        }
        std::array::from_fn(|k| {
            let of_stem = sum.iter().skip(k).step_by(OUTPUTS);
            of_stem
                .map(|x| if x.is_finite() { *x } else { 0.0 })
                .map(|x| x.clamp(-SUREST, SUREST))
                .collect()
        })
    }
}

/// Log odds of a frame by what the judge says and by what the frames around it say themselves.
fn together(judged: f32, own: f32) -> f32 {
    (judged - JUDGE_AT_ZERO).min(SHARE_OF_OWN * own)
}

/// What the judge hears of `stem`, `[frame][JUDGED]`: its frames' log odds, over some time too, against those of the
/// least and the most suspicious frames; then what is the same for all frames: how suspicious these are, whether
/// suspicion goes with the level (`level`: of the mix, dB), and whether it lasts.
fn judged(odds: &[Vec<f32>; OUTPUTS], level: &[f32], stem: usize) -> Vec<f32> {
    let own = &odds[stem];
    let (short, long) = (moving_mean(own, SHORT), moving_mean(own, LONG));
    let other = moving_mean(&odds[OUTPUTS - 1 - stem], SHORT);
    let [low, middle, high, top] = [0.1, 0.5, 0.9, 0.98].map(|q| quantile(&short, q));
    let spread = (top - low).max(0.5);
    // Decibels at the size of the other inputs, as the bands have them.
    let level: Vec<f32> = level.iter().map(|l| l / 20.0).collect();
    let (level_mean, level_spread) = mean_and_spread(&level);
    let (short_mean, short_spread) = mean_and_spread(&short);
    let together = level.iter().zip(&short);
    let together = together.map(|(l, s)| f64::from((l - level_mean) * (s - short_mean)));
    let together = together.sum::<f64>() / level.len().max(1) as f64;
    let whole = [
        low,
        middle,
        high,
        top,
        quantile(&other, 0.9),
        (short_mean - low) / spread,
        together as f32 / (level_spread * short_spread + 1e-6),
        mean_and_spread(&long).1 / (short_spread + 1e-6),
    ];
    let mut out = Vec::with_capacity(own.len() * JUDGED);
    for i in 0..own.len() {
        let s = short[i];
        let over_low = s - low;
        out.extend_from_slice(&[s, long[i], other[i], own[i], over_low, s - middle, s - top]);
        out.extend_from_slice(&[over_low / spread, level[i]]);
        out.extend_from_slice(&whole);
    }
    out
}

/// Mean and standard deviation.
fn mean_and_spread(values: &[f32]) -> (f32, f32) {
    let n = values.len().max(1) as f64;
    let mean = values.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
    let square = |x: &f32| (f64::from(*x) - mean).powi(2);
    let variance = values.iter().map(square).sum::<f64>() / n;
    (mean as f32, variance.sqrt() as f32)
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

    /// The judge's odds of the frames' odds, and these: against PyTorch's of the same input and level.
    #[test]
    fn the_networks_inside_say_what_pytorch_says() {
        const FRAMES: usize = 240;
        let nets = Overdrive::built_in().expect("the weights inside the binary");
        let input: Vec<f32> = (0..FRAMES * INPUTS)
            .map(|i| (0.37 * (i / INPUTS) as f64 + 0.1 * (i % INPUTS) as f64).sin() as f32)
            .collect();
        let level: Vec<f32> = (0..FRAMES)
            .map(|i| 20.0 * (0.05 * i as f64).sin() as f32)
            .collect();
        let odds = nets.frame_odds(&input);
        let judged = [0, 1].map(|stem| nets.judge.run(&judged(&odds, &level, stem)));
        let found = (0..FRAMES).flat_map(|i| [odds[0][i], odds[1][i], judged[0][i], judged[1][i]]);
        let bytes = include_bytes!("../../../tests/golden/overdrive.f32");
        let expected: Vec<f32> = bytes
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        assert_eq!(expected.len(), FRAMES * 4);
        for (expected, found) in expected.into_iter().zip(found) {
            // Half precision of the weights is part of what PyTorch was asked for.
            assert!(
                (expected - found).abs() < 3e-3 * (1.0 + expected.abs()),
                "{expected} {found}"
            );
        }
    }

    /// 15 s of frames' log odds: one value inside 4..7 s and 10..12 s, another outside, and what wanders around it.
    fn take(inside: f32, outside: f32) -> [Vec<f32>; OUTPUTS] {
        let (mut state, mut slow) = (1u32, 0.0);
        let odds: Vec<f32> = (0..1_500)
            .map(|i| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let noise = state as f32 / u32::MAX as f32 - 0.5;
                slow = 0.97 * slow + 0.3 * noise;
                let driven = (400..700).contains(&i) || (1_000..1_200).contains(&i);
                slow + 0.5 * noise + if driven { inside } else { outside }
            })
            .collect();
        [odds.clone(), odds]
    }

    #[test]
    fn what_the_judge_hears_of_a_take_moves_with_it_or_is_relative() {
        let level: Vec<f32> = (0..1_500).map(|i| (i as f32 * 0.01).sin()).collect();
        let [before, after] = [0.0, 1.5].map(|by| judged(&take(1.0 + by, by - 4.0), &level, 0));
        // Its own, over some time, the other's; four quantiles; the other's quantile.
        let moves = [0, 1, 2, 3, 9, 10, 11, 12, 13];
        for (i, (a, b)) in before.iter().zip(&after).enumerate() {
            let by = if moves.contains(&(i % JUDGED)) {
                1.5
            } else {
                0.0
            };
            assert!((b - a - by).abs() < 1e-3, "{i}: {a} {b}");
        }
        assert!(judged(&[Vec::new(), Vec::new()], &[], 1).is_empty());
    }

    #[test]
    fn the_judge_finds_spans_that_stand_out_and_nothing_in_an_even_take() {
        let nets = Overdrive::built_in().expect("the weights inside the binary");
        let level = vec![0.0; 1_500];
        let judge = |odds| nets.judge.run(&judged(&odds, &level, 0));
        let share = |odds: &[f32], span: std::ops::Range<usize>| {
            let above = odds[span.clone()].iter().filter(|x| **x > -1.0).count();
            above as f64 / span.len() as f64
        };
        let driven = judge(take(1.0, -4.5));
        for span in [400..700, 1_000..1_200] {
            assert!(share(&driven, span) > 0.95);
        }
        for span in [0..380, 720..980, 1_220..1_500] {
            assert!(share(&driven, span) < 0.05);
        }
        assert!(share(&judge(take(-3.0, -3.0)), 0..1_500) < 0.01);
    }

    #[test]
    fn neither_the_judge_nor_the_frames_find_anything_alone() {
        assert!(together(1.0, 2.0) > 0.0);
        assert!(together(0.3, 12.0) < 0.0);
        // The frames are clearly sound: a region would not even go on here (severity 0.3 is log odds -0.85).
        assert!(together(12.0, -2.0) < -0.85);
        assert!(together(12.0, -1.0) > -0.85);
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

// [worker] How far an estimate's timbre and its movement are from a reference's, whatever their levels.

use super::spectrum::Stft;

/// Mel bands between [`LOWEST_HZ`] and [`HIGHEST_HZ`] (or half the rate).
const BANDS: usize = 40;
const LOWEST_HZ: f64 = 40.0;
const HIGHEST_HZ: f64 = 16_000.0;
/// Cepstral coefficients compared, from the second: the first is the level.
const COEFFICIENTS: usize = 13;
/// Band powers are floored this far below the reference's strongest.
const FLOOR: f64 = 1e-8;
/// Frames a second.
const FRAMES_PER_SECOND: f64 = 100.0;
/// Frames of a stretch whose modulation is analysed: 2.56 s.
const STRETCH: usize = 256;
/// Edges of the octaves of modulation in Hz: from one bar's swell to the fastest repeated notes.
const OCTAVES_HZ: [f64; 6] = [0.75, 1.5, 3.0, 6.0, 12.0, 24.0];

/// Mel-cepstral distance in dB (Kubichek 1993, "Mel-cepstral distance measure for objective speech quality
/// assessment"): `10/ln 10 · sqrt(2 Σ (c_d − ĉ_d)²)` over the coefficients 1 to 13 of 40 mel bands, mean over
/// the frames (10 ms apart) in which the reference sounds. A change of level alone is 0. `None` if the
/// lengths differ or the reference is silent.
pub fn mel_cepstral_distance_db(
    reference: &[f32],
    estimate: &[f32],
    sample_rate: u32,
) -> Option<f64> {
    let [r, e] = log_bands(reference, estimate, sample_rate)?;
    let loudest = r.iter().flatten().fold(f64::NEG_INFINITY, |m, &x| m.max(x));
    let (mut sum, mut frames) = (0.0, 0usize);
    for (r, e) in r.iter().zip(&e) {
        // Frames 60 dB below the loudest are pauses: their cepstrum is that of the floor.
        if r.iter()
            .all(|&x| x < loudest - 6.0 * std::f64::consts::LN_10)
        {
            continue;
        }
        // The logarithm of the magnitude is half that of the power.
        let difference: Vec<f64> = r.iter().zip(e).map(|(r, e)| 0.5 * (r - e)).collect();
        let square: f64 = (1..=COEFFICIENTS)
            .map(|d| cosine_coefficient(&difference, d).powi(2))
            .sum();
        sum += 10.0 / std::f64::consts::LN_10 * (2.0 * square).sqrt();
        frames += 1;
    }
    (frames > 0).then(|| sum / frames as f64)
}

/// Modulation-spectrum distance in dB: how differently the two move. The log power of each of 40 mel bands
/// over time (its mean removed, so that level and tone don't count) is analysed in stretches of 2.56 s;
/// the powers of its modulation in five octaves from 0.75 to 24 Hz are compared in dB, and the magnitudes
/// of the differences averaged (after Greenberg & Kingsbury 1997, "The modulation spectrogram"). `None` if
/// the lengths differ, the reference is silent or shorter than a stretch.
pub fn modulation_distance_db(
    reference: &[f32],
    estimate: &[f32],
    sample_rate: u32,
) -> Option<f64> {
    let bands = log_bands(reference, estimate, sample_rate)?;
    let frames = bands[0].len();
    let (mut sum, mut count) = (0.0, 0usize);
    let mut stft = Stft::new(STRETCH, STRETCH);
    for start in (0..(frames + 1).saturating_sub(STRETCH)).step_by(STRETCH / 2) {
        for band in 0..BANDS {
            let [r, e] = bands.each_ref().map(|frames| {
                let track: Vec<f64> = frames[start..start + STRETCH]
                    .iter()
                    .map(|f| f[band])
                    .collect();
                octaves(&track, &mut stft)
            });
            for (r, e) in r.iter().zip(&e) {
                // A hundredth of a dB² of movement is none.
                sum += (10.0 * ((r + 1e-2) / (e + 1e-2)).log10()).abs();
                count += 1;
            }
        }
    }
    (count > 0).then(|| sum / count as f64)
}

/// Modulation power of each octave.
fn octaves(track: &[f64], stft: &mut Stft) -> [f64; OCTAVES_HZ.len() - 1] {
    let mean = track.iter().sum::<f64>() / track.len() as f64;
    let centred: Vec<f32> = track.iter().map(|x| (x - mean) as f32).collect();
    let power = stft.power(&centred);
    let mut out = [0.0; OCTAVES_HZ.len() - 1];
    let hz = FRAMES_PER_SECOND / STRETCH as f64;
    for frame in &power {
        for (bin, &p) in frame.iter().enumerate() {
            let at = OCTAVES_HZ.partition_point(|&edge| edge <= bin as f64 * hz);
            if (1..OCTAVES_HZ.len()).contains(&at) {
                out[at - 1] += f64::from(p);
            }
        }
    }
    out
}

/// Natural logarithm of the mel bands' powers, a frame every 10 ms, of both signals.
fn log_bands(reference: &[f32], estimate: &[f32], sample_rate: u32) -> Option<[Vec<Vec<f64>>; 2]> {
    if reference.len() != estimate.len() || sample_rate == 0 {
        return None;
    }
    let rate = f64::from(sample_rate);
    let size = ((rate * 0.04) as usize).next_power_of_two();
    let hop = (rate / FRAMES_PER_SECOND).round().max(1.0) as usize;
    let mut stft = Stft::new(size, hop);
    let weights = mel_weights(size, rate);
    let [r, e] = [reference, estimate].map(|x| {
        let frames = stft.power(x);
        frames
            .iter()
            .map(|frame| {
                let band = |(first, w): &(usize, Vec<f64>)| -> f64 {
                    let bins = frame.get(*first..).unwrap_or_default();
                    w.iter().zip(bins).map(|(w, &p)| w * f64::from(p)).sum()
                };
                weights.iter().map(band).collect::<Vec<f64>>()
            })
            .collect::<Vec<_>>()
    });
    let strongest = r.iter().flatten().fold(0.0f64, |m, &x| m.max(x));
    if strongest <= 0.0 {
        return None;
    }
    let log = |frames: Vec<Vec<f64>>| -> Vec<Vec<f64>> {
        let floored = |x: f64| x.max(FLOOR * strongest).ln();
        frames
            .into_iter()
            .map(|f| f.into_iter().map(floored).collect())
            .collect()
    };
    Some([log(r), log(e)])
}

/// Triangles on the mel scale (Slaney's of 1998 have another form; this is O'Shaughnessy's 1987
/// `2595 log10(1 + f/700)`), unit peak: first bin and weights of each band.
fn mel_weights(size: usize, rate: f64) -> Vec<(usize, Vec<f64>)> {
    let mel = |hz: f64| 2595.0 * (1.0 + hz / 700.0).log10();
    let hz = |mel: f64| 700.0 * (10f64.powf(mel / 2595.0) - 1.0);
    let (low, high) = (mel(LOWEST_HZ), mel(HIGHEST_HZ.min(rate / 2.0)));
    let edge =
        |i: usize| hz(low + (high - low) * i as f64 / (BANDS + 1) as f64) * size as f64 / rate;
    (0..BANDS)
        .map(|band| {
            let (left, middle, right) = (edge(band), edge(band + 1), edge(band + 2));
            let first = left.floor() as usize;
            let weights: Vec<f64> = (first..=right.ceil() as usize)
                .map(|bin| {
                    let x = bin as f64;
                    ((x - left) / (middle - left))
                        .min((right - x) / (right - middle))
                        .max(0.0)
                })
                .collect();
            // Low bands are narrower than a bin: they take the nearest whole.
            if weights.iter().sum::<f64>() < 0.5 {
                return (middle.round() as usize, vec![1.0]);
            }
            (first, weights)
        })
        .collect()
}

/// Coefficient `d` of the orthonormal DCT-II, as cepstra of mel bands are defined.
fn cosine_coefficient(values: &[f64], d: usize) -> f64 {
    let n = values.len() as f64;
    let sum: f64 = values
        .iter()
        .enumerate()
        .map(|(i, v)| v * (std::f64::consts::PI * d as f64 * (i as f64 + 0.5) / n).cos())
        .sum();
    sum * (2.0 / n).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u32 = 22_050;

    fn noise(seconds: f64, gain: impl Fn(f64) -> f64) -> Vec<f32> {
        let mut seed = 5u64;
        (0..(seconds * f64::from(RATE)) as usize)
            .map(|n| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let white = (seed >> 40) as f64 / (1u64 << 23) as f64 - 1.0;
                (0.2 * white * gain(n as f64 / f64::from(RATE))) as f32
            })
            .collect()
    }

    #[test]
    fn a_change_of_level_is_no_change_of_timbre() {
        let a = noise(6.0, |_| 1.0);
        let b: Vec<f32> = a.iter().map(|x| 0.3 * x).collect();
        assert!(mel_cepstral_distance_db(&a, &b, RATE).unwrap() < 1e-3);
        assert!(modulation_distance_db(&a, &b, RATE).unwrap() < 1e-3);
        assert_eq!(mel_cepstral_distance_db(&a, &b[1..], RATE), None);
        assert_eq!(
            modulation_distance_db(&[0.0; 99_000], &a[..99_000], RATE),
            None
        );
    }

    #[test]
    fn a_tilt_of_a_band_measures_what_its_cepstrum_says() {
        // One band 20 dB down: of a single changed value v in 40 the squares of the orthonormal DCT's
        // coefficients sum to v²; the direct sum over 1..=13 is the oracle.
        let mut frame = vec![0.0; BANDS];
        frame[7] = 0.5 * 100f64.ln();
        let all: f64 = (1..BANDS)
            .map(|d| cosine_coefficient(&frame, d).powi(2))
            .sum();
        let mean = frame.iter().sum::<f64>() / BANDS as f64;
        let variance: f64 = frame.iter().map(|x| (x - mean).powi(2)).sum();
        assert!((all - variance).abs() < 1e-9, "{all} {variance}");
    }

    #[test]
    fn a_filter_is_heard_as_timbre_not_as_movement() {
        let a = noise(6.0, |t| 1.0 + 0.9 * (std::f64::consts::TAU * 4.0 * t).sin());
        let mut y = 0.0;
        let dull: Vec<f32> = a
            .iter()
            .map(|x| {
                y += 0.15 * (x - y);
                y
            })
            .collect();
        let steady = noise(6.0, |_| 1.0);
        let timbre = mel_cepstral_distance_db(&a, &dull, RATE).unwrap();
        assert!(timbre > 4.0, "{timbre}");
        let moved = modulation_distance_db(&a, &steady, RATE).unwrap();
        let filtered = modulation_distance_db(&a, &dull, RATE).unwrap();
        assert!(moved > 3.0 * filtered, "{moved} {filtered}");
    }
}

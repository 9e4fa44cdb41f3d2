// [worker] How far an estimate is from its reference.

use super::spectrum::Stft;

/// Largest ratio reported, dB: identical signals.
pub const MAX_DB: f64 = 200.0;

/// Signal-to-distortion ratio in dB over all samples: `10 log10(Σ r² / Σ (r − e)²)`, within ±[`MAX_DB`].
/// `None` if the lengths differ, nothing is there, or the reference is silent.
pub fn sdr_db(reference: &[f32], estimate: &[f32]) -> Option<f64> {
    if reference.len() != estimate.len() {
        return None;
    }
    let (mut signal, mut error) = (0.0f64, 0.0f64);
    for (&r, &e) in reference.iter().zip(estimate) {
        signal += f64::from(r).powi(2);
        error += (f64::from(r) - f64::from(e)).powi(2);
    }
    ratio_db(signal, error)
}

/// Scale-invariant SDR in dB (Le Roux et al. 2019, "SDR – half-baked or well done?"): the estimate is
/// compared with its projection on the reference; means are not removed. `None` as [`sdr_db`], and for
/// a silent estimate.
pub fn si_sdr_db(reference: &[f32], estimate: &[f32]) -> Option<f64> {
    if reference.len() != estimate.len() {
        return None;
    }
    let (mut rr, mut re, mut ee) = (0.0f64, 0.0f64, 0.0f64);
    for (&r, &e) in reference.iter().zip(estimate) {
        let (r, e) = (f64::from(r), f64::from(e));
        rr += r * r;
        re += r * e;
        ee += e * e;
    }
    if rr <= 0.0 || ee <= 0.0 {
        return None;
    }
    let target = re * re / rr;
    ratio_db(target, (ee - target).max(0.0)).or(Some(-MAX_DB))
}

fn ratio_db(signal: f64, error: f64) -> Option<f64> {
    if signal <= 0.0 || !signal.is_finite() || !error.is_finite() {
        return None;
    }
    let floor = signal * 10f64.powf(-MAX_DB / 10.0);
    Some((10.0 * (signal / error.max(floor)).log10()).max(-MAX_DB))
}

/// Log-spectral distance in dB between `low_hz` and `high_hz` (Gray & Markel 1976): per frame the root
/// mean square over bins of the difference of the power spectra in dB, averaged over the frames in which
/// the reference sounds. Windows of 85 ms (Hann, three quarters overlapping); both spectra are floored
/// 80 dB below the reference's strongest bin. `None` if nothing can be compared.
pub fn log_spectral_distance_db(
    reference: &[f32],
    estimate: &[f32],
    sample_rate: u32,
    low_hz: f64,
    high_hz: f64,
) -> Option<f64> {
    if reference.len() != estimate.len() {
        return None;
    }
    let size = ((f64::from(sample_rate) * 0.085) as usize).next_power_of_two();
    let mut stft = Stft::new(size, size / 4);
    let r = stft.power(reference);
    let e = stft.power(estimate);
    let bin_hz = f64::from(sample_rate) / size as f64;
    let first = (low_hz / bin_hz).ceil().max(0.0) as usize;
    let last = ((high_hz / bin_hz).floor() as usize).min(size / 2);
    if first > last {
        return None;
    }
    let strongest = r.iter().flatten().fold(0.0f32, |m, &x| m.max(x));
    let floor = strongest * 1e-8;
    let (mut sum, mut frames) = (0.0, 0usize);
    for (r, e) in r.iter().zip(&e) {
        let (r, e) = (&r[first..=last], &e[first..=last]);
        if r.iter().all(|&p| p <= floor) {
            continue;
        }
        let mean_square = r
            .iter()
            .zip(e)
            .map(|(&r, &e)| {
                let d = 10.0 * f64::from(r.max(floor) / e.max(floor)).log10();
                d * d
            })
            .sum::<f64>()
            / r.len() as f64;
        sum += mean_square.sqrt();
        frames += 1;
    }
    (frames > 0).then(|| sum / frames as f64)
}

/// Multi-resolution STFT distance (Yamamoto et al. 2020, Parallel WaveGAN, eq. 4–6): spectral convergence
/// plus mean absolute difference of the natural log magnitudes, averaged over windows of 512, 1024 and
/// 2048 samples (Hann, three quarters overlapping). 0 is identical. Magnitudes are floored at 1e-7 of the
/// reference's strongest. `None` if the lengths differ or the reference is silent.
pub fn multi_resolution_stft_distance(reference: &[f32], estimate: &[f32]) -> Option<f64> {
    if reference.len() != estimate.len() {
        return None;
    }
    let mut total = 0.0;
    let sizes = [512, 1024, 2048];
    for size in sizes {
        let mut stft = Stft::new(size, size / 4);
        let r = stft.power(reference);
        let e = stft.power(estimate);
        let strongest = r.iter().flatten().fold(0.0f32, |m, &x| m.max(x));
        if strongest <= 0.0 {
            return None;
        }
        let floor = 1e-7 * f64::from(strongest).sqrt();
        let (mut difference, mut energy, mut logs, mut count) = (0.0f64, 0.0f64, 0.0f64, 0u64);
        for (&r, &e) in r.iter().flatten().zip(e.iter().flatten()) {
            let (r, e) = (f64::from(r).sqrt(), f64::from(e).sqrt());
            difference += (r - e).powi(2);
            energy += r * r;
            logs += (r.max(floor) / e.max(floor)).ln().abs();
            count += 1;
        }
        total += (difference / energy).sqrt() + logs / count as f64;
    }
    Some(total / sizes.len() as f64)
}

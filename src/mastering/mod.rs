// [worker] Loudness and true peak to a target.

mod limit;

use crate::{
    audio::AudioBuffer,
    metrics::loudness::{integrated_lufs, true_peak_dbtp},
};

/// What loudness normalisation did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoudnessReport {
    /// LUFS before and after.
    pub before_lufs: f64,
    pub after_lufs: f64,
    /// dBTP after.
    pub true_peak_dbtp: f64,
    /// Gain before the limiter, dB.
    pub gain_db: f64,
    /// Strongest gain reduction of the limiter, dB, 0 or positive.
    pub limited_db: f64,
}

/// Why the loudness was not changed. The audio is as it was.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum MasteringError {
    #[error(
        "the recording is silent or shorter than 0.4 s, so its loudness cannot be measured; leave loudness out"
    )]
    NoLoudness,
    #[error(
        "a target of {target_lufs} LUFS under {ceiling_dbtp} dBTP makes no sense; give negative numbers such as -14 and -1"
    )]
    BadTarget { target_lufs: f32, ceiling_dbtp: f32 },
    #[error(
        "{target_lufs:.1} LUFS cannot be reached under {ceiling_dbtp:.1} dBTP: {reached_lufs:.1} LUFS is the most; choose a lower target"
    )]
    Unreachable {
        target_lufs: f32,
        ceiling_dbtp: f32,
        reached_lufs: f64,
    },
}

/// Largest distance from the target, LU: half of what is promised, so that rounding to a file keeps it.
const TOLERANCE_LU: f64 = 0.05;
/// Most gain ever tried above the target's own, dB: past it the limiter eats all of it.
const MOST_EXTRA_DB: f64 = 24.0;

/// Brings the integrated loudness (BS.1770) within ±0.1 LU of `target_lufs`, with the true peak (read at
/// 16 times) at most `ceiling_dbtp`: one gain, and a look-ahead limiter where that alone would exceed the
/// ceiling. Any rate, channels and length of at least 0.4 s.
///
/// # Errors
/// Silence, too short, an absurd target, or a target that no amount of limiting reaches; the audio is
/// then unchanged.
pub fn loudness_normalised(
    audio: &mut AudioBuffer,
    target_lufs: f32,
    ceiling_dbtp: f32,
) -> Result<LoudnessReport, MasteringError> {
    if !(-70.0..=0.0).contains(&target_lufs) || !(-60.0..=0.0).contains(&ceiling_dbtp) {
        return Err(MasteringError::BadTarget {
            target_lufs,
            ceiling_dbtp,
        });
    }
    let target = f64::from(target_lufs);
    let ceiling = f64::from(ceiling_dbtp);
    let before_lufs = integrated_lufs(audio).ok_or(MasteringError::NoLoudness)?;
    let plain_db = target - before_lufs;
    let peak_before = true_peak_dbtp(audio).ok_or(MasteringError::NoLoudness)?;
    if peak_before + plain_db <= ceiling - 0.01 {
        let mut scaled = audio.clone();
        let gain = 10f64.powf(plain_db / 20.0);
        for x in scaled.channels.iter_mut().flatten() {
            *x = (f64::from(*x) * gain) as f32;
        }
        let after_lufs = integrated_lufs(&scaled).ok_or(MasteringError::NoLoudness)?;
        // The gates are absolute: a gain can move quiet blocks over −70 LUFS. Then iterate below.
        if (after_lufs - target).abs() <= TOLERANCE_LU {
            let report = LoudnessReport {
                before_lufs,
                after_lufs,
                true_peak_dbtp: true_peak_dbtp(&scaled).unwrap_or(f64::NEG_INFINITY),
                gain_db: plain_db,
                limited_db: 0.0,
            };
            *audio = scaled;
            return Ok(report);
        }
    }
    // Loudness grows with the gain before the limiter, ever more slowly: bracket, then regula falsi.
    let limiter = limit::OfflineLimiter::new(audio);
    let mut low = (plain_db - 1.0, f64::NEG_INFINITY);
    let mut high: Option<(f64, f64)> = None;
    let mut gain_db = plain_db;
    let mut best = f64::NEG_INFINITY;
    for _ in 0..24 {
        let (limited, limited_db) = limiter.apply(audio, gain_db, ceiling);
        let lufs = integrated_lufs(&limited).ok_or(MasteringError::NoLoudness)?;
        best = best.max(lufs);
        if (lufs - target).abs() <= TOLERANCE_LU {
            let report = LoudnessReport {
                before_lufs,
                after_lufs: lufs,
                true_peak_dbtp: true_peak_dbtp(&limited).unwrap_or(f64::NEG_INFINITY),
                gain_db,
                limited_db,
            };
            *audio = limited;
            return Ok(report);
        }
        if lufs < target {
            low = (gain_db, lufs);
        } else {
            high = Some((gain_db, lufs));
        }
        gain_db = match high {
            None => {
                let next = gain_db + (1.5 * (target - lufs)).max(0.1);
                if gain_db >= plain_db + MOST_EXTRA_DB {
                    break;
                }
                next.min(plain_db + MOST_EXTRA_DB)
            }
            Some((high_db, high_lufs)) if low.1.is_finite() => {
                let share = (target - low.1) / (high_lufs - low.1).max(1e-9);
                low.0 + share.clamp(0.1, 0.9) * (high_db - low.0)
            }
            Some((high_db, high_lufs)) => high_db - 1.2 * (high_lufs - target),
        };
    }
    Err(MasteringError::Unreachable {
        target_lufs,
        ceiling_dbtp,
        reached_lufs: best,
    })
}

// [worker] Removing clicks and filling dropouts over a whole take.
//!
//! Clicks: the live kernel ([`crate::realtime::declick`]) twice over a finer grid, so that the second
//! round sees each click without its neighbours. Dropouts: stretches of digital silence with loud sides
//! are filled by continuing the music from both sides with models of high order and fading from one
//! into the other (I. Kauppinen, K. Roth, "Audio signal extrapolation: theory and applications", DAFx 2002;
//! the models by J. P. Burg's method, which needs no taper).

use crate::{
    realtime::{
        declick::{find::ClickFinder, flat_top, live_setup, rate_factor},
        declip::level::LevelTracker,
    },
    worker::progress::Progress,
};

/// Rounds over the take.
const ROUNDS: usize = 2;
/// Order of the models that continue the music, at 44.1 and 48 kHz.
const ORDER: usize = 1024;
/// Samples each is fitted to.
const CONTEXT: usize = 8192;
/// Dropouts shorter or longer than this are left: shorter ones are clicks, longer ones can't be guessed.
const DROPOUT_SECONDS: std::ops::RangeInclusive<f64> = 0.001..=0.060;
/// Digital silence: below one step of 16-bit audio.
const SILENT: f32 = 0.9 / 32768.0;
/// The sides of a dropout are at least this loud (RMS, −46 dBFS).
const LOUD: f64 = 0.005;

/// Declicks planar `channels` at `sample_rate` Hz in place and fills dropouts of up to 60 ms; `amount`
/// 0..=1 scales the change (0 changes nothing). Where there is no damage every bit is kept. Returns
/// `false` if cancelled.
pub fn restore(
    channels: &mut [Vec<f32>],
    sample_rate: f64,
    amount: f32,
    progress: &Progress,
) -> bool {
    if amount.is_nan() || amount <= 0.0 {
        return true;
    }
    let amount = amount.min(1.0);
    for samples in channels {
        for x in samples.iter_mut().filter(|x| !x.is_finite()) {
            *x = 0.0;
        }
        for _ in 0..ROUNDS {
            if !remove_clicks(samples, sample_rate, amount, progress) {
                return false;
            }
        }
        if !fill_dropouts(samples, sample_rate, amount, progress) {
            return false;
        }
    }
    true
}

/// One round of click repair. `false` if cancelled.
fn remove_clicks(samples: &mut [f32], sample_rate: f64, amount: f32, progress: &Progress) -> bool {
    let setup = live_setup(sample_rate);
    let mut finder = ClickFinder::new(setup);
    let mut tracker = LevelTracker::new(sample_rate);
    let ahead = ClickFinder::lookahead(&setup);
    let hop = setup.window / 16;
    let mut stretch = vec![0.0f32; setup.window];
    // Zone k covers k·hop .. (k + 1)·hop of the take; its stretch ends `ahead` later. Silence around the
    // take stands for what was not recorded.
    let zone = (setup.window - ahead - hop, setup.window - ahead);
    let mut heard = 0;
    for (k, start) in (0..samples.len()).step_by(hop).enumerate() {
        if k % 512 == 0 && progress.is_cancelled() {
            return false;
        }
        let end = (start + hop + ahead).min(samples.len());
        for &x in samples.get(heard..end).unwrap_or_default() {
            tracker.push(x);
        }
        heard = heard.max(end);
        let origin = start as isize - zone.0 as isize;
        for (i, x) in (origin..).zip(stretch.iter_mut()) {
            *x = usize::try_from(i)
                .ok()
                .and_then(|i| samples.get(i))
                .copied()
                .unwrap_or(0.0);
        }
        let levels = tracker.levels();
        let made = finder.repair(&mut stretch, zone, |from, to, x| {
            flat_top(levels, from, to, x)
        });
        if made > 0 {
            for (i, &x) in (origin..).zip(stretch.iter()).skip(zone.0 - 1) {
                if let Some(slot) = usize::try_from(i).ok().and_then(|i| samples.get_mut(i))
                    && *slot != x
                {
                    *slot += amount * (x - *slot);
                }
            }
        }
    }
    true
}

/// Dropouts as ranges of samples: digital silence that cuts off loud music abruptly on both sides.
pub fn find_dropouts(samples: &[f32], sample_rate: f64) -> Vec<std::ops::Range<usize>> {
    let side = (0.003 * sample_rate) as usize;
    let rms = |x: &[f32]| {
        (x.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>() / x.len().max(1) as f64).sqrt()
    };
    let mut found = Vec::new();
    let mut n = 0;
    while n < samples.len() {
        if samples[n].abs() > SILENT {
            n += 1;
            continue;
        }
        let start = n;
        while n < samples.len() && samples[n].abs() <= SILENT {
            n += 1;
        }
        let seconds = (n - start) as f64 / sample_rate;
        if !DROPOUT_SECONDS.contains(&seconds) || start < 4 * side || n + 4 * side > samples.len() {
            continue;
        }
        // A note that fades or a gate that opens is quiet right at the silence; a dropout is not.
        let (left, right) = (&samples[start - side..start], &samples[n..n + side]);
        let around = rms(&samples[start - 4 * side..start]).max(rms(&samples[n..n + 4 * side]));
        let quieter = rms(left).min(rms(right));
        if quieter >= LOUD && quieter >= 0.2 * around {
            found.push(start..n);
        }
    }
    found
}

/// Fills every dropout. `false` if cancelled.
fn fill_dropouts(samples: &mut [f32], sample_rate: f64, amount: f32, progress: &Progress) -> bool {
    let factor = rate_factor(sample_rate);
    let context = (CONTEXT as f64 * factor) as usize;
    let order = (ORDER as f64 * factor) as usize;
    for gap in find_dropouts(samples, sample_rate) {
        if progress.is_cancelled() {
            return false;
        }
        let left: Vec<f64> = samples[gap.start.saturating_sub(context)..gap.start]
            .iter()
            .map(|&x| f64::from(x))
            .collect();
        // The right side runs backwards into the gap.
        let right: Vec<f64> = samples[gap.end..(gap.end + context).min(samples.len())]
            .iter()
            .rev()
            .map(|&x| f64::from(x))
            .collect();
        let length = gap.len();
        let forward = extrapolate(&left, order, length);
        let backward = extrapolate(&right, order, length);
        for (i, x) in samples[gap].iter_mut().enumerate() {
            let t = (i as f64 + 0.5) / length as f64;
            let fade = (std::f64::consts::FRAC_PI_2 * t).cos().powi(2);
            let filled = fade * forward[i] + (1.0 - fade) * backward[length - 1 - i];
            *x += amount * (filled as f32 - *x);
        }
    }
    true
}

/// Continues `x` by `length` samples with a model of `order` at most (a quarter of `x` at most).
fn extrapolate(x: &[f64], order: usize, length: usize) -> Vec<f64> {
    let a = burg(x, order.min(x.len() / 4));
    let loudest = x.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    let mut out: Vec<f64> = Vec::with_capacity(length);
    for n in 0..length {
        let mut sum = 0.0;
        for (k, &a) in a.iter().enumerate().skip(1) {
            let past = if k <= n {
                out[n - k]
            } else {
                x.get(x.len() + n - k).copied().unwrap_or(0.0)
            };
            sum -= a * past;
        }
        // Burg's models are stable; the clamp is for what rounding may do to one at the edge.
        out.push(sum.clamp(-2.0 * loudest, 2.0 * loudest));
    }
    out
}

/// Burg's method: the prediction-error filter `a` (`a[0] = 1`) of `x`.
fn burg(x: &[f64], order: usize) -> Vec<f64> {
    let mut a = vec![0.0; order + 1];
    a[0] = 1.0;
    let (mut f, mut b) = (x.to_vec(), x.to_vec());
    let energy: f64 = x.iter().map(|v| v * v).sum();
    for m in 1..=order {
        let (mut cross, mut power) = (0.0, 0.0);
        for (f, b) in f[m..].iter().zip(&b[m - 1..]) {
            cross += f * b;
            power += f * f + b * b;
        }
        // What is left is rounding noise: the model is complete.
        if power <= 1e-12 * energy || power <= 0.0 {
            break;
        }
        let reflection = -2.0 * cross / power;
        let old = a.clone();
        for (a, mirrored) in a[..=m].iter_mut().zip(old[..=m].iter().rev()) {
            *a += reflection * mirrored;
        }
        for n in (m..x.len()).rev() {
            let (forward, backward) = (f[n], b[n - 1]);
            f[n] = forward + reflection * backward;
            b[n] = backward + reflection * forward;
        }
    }
    a
}

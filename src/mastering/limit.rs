// [worker] A look-ahead true-peak limiter over a whole buffer.

use crate::{
    audio::AudioBuffer,
    metrics::loudness::{true_peak_dbtp, true_peak_envelope},
};

/// Half the length of the gain's smoothing, seconds: the gain moves within ±5 ms of a peak, slow enough
/// not to distort lows audibly, short enough to come back before the ear misses level.
const HALF_SECONDS: f64 = 0.005;

/// The true-peak envelope of one buffer, ready to be limited at any gain.
pub(super) struct OfflineLimiter {
    envelope: Vec<f32>,
    /// Reach of each of the two moving averages that smooth the gain, samples to either side.
    reach: usize,
}

impl OfflineLimiter {
    pub(super) fn new(audio: &AudioBuffer) -> Self {
        let half = f64::from(audio.sample_rate) * HALF_SECONDS;
        Self {
            envelope: true_peak_envelope(audio),
            reach: ((half / 2.0) as usize).max(1),
        }
    }

    /// `audio` times `gain_db`, limited to `ceiling_dbtp` measured at 16 times; and the strongest gain
    /// reduction in dB.
    pub(super) fn apply(
        &self,
        audio: &AudioBuffer,
        gain_db: f64,
        ceiling_dbtp: f64,
    ) -> (AudioBuffer, f64) {
        let gain = 10f64.powf(gain_db / 20.0);
        // The envelope is read at 4 times and the gain moves between its points: what that leaves above
        // the ceiling, a few hundredths of a dB, is taken off the limit itself and tried again.
        let mut limit_db = ceiling_dbtp - 0.02;
        loop {
            let curve = self.curve(gain, 10f64.powf(limit_db / 20.0));
            let mut out = audio.clone();
            for channel in &mut out.channels {
                for (x, c) in channel.iter_mut().zip(&curve) {
                    *x = (f64::from(*x) * gain * c) as f32;
                }
            }
            let over = true_peak_dbtp(&out).unwrap_or(f64::NEG_INFINITY) - ceiling_dbtp;
            if over <= 0.0 {
                let lowest = curve.iter().fold(1.0f64, |m, &c| m.min(c));
                return (out, -20.0 * lowest.log10());
            }
            limit_db -= over + 0.01;
        }
    }

    /// The gain of each sample: the lowest needed within the smoothing's reach, smoothed by two moving
    /// averages (a triangle). A weighted mean of minima that all include the sample's own need never
    /// exceeds that need.
    fn curve(&self, gain: f64, limit: f64) -> Vec<f64> {
        let needed: Vec<f64> = self
            .envelope
            .iter()
            .map(|&e| (limit / (f64::from(e) * gain).max(1e-12)).min(1.0))
            .collect();
        let lowest = sliding_minimum(&needed, 2 * self.reach);
        let once = moving_average(&lowest, self.reach);
        let mut curve = moving_average(&once, self.reach);
        // Where nothing is reduced, the gain is exactly 1, without the sums' rounding.
        let busy = sliding_minimum(&lowest, 2 * self.reach);
        for (c, (&need, &busy)) in curve.iter_mut().zip(needed.iter().zip(&busy)) {
            *c = if busy >= 1.0 { 1.0 } else { c.min(need) };
        }
        curve
    }
}

/// The mean over `n - half ..= n + half` for every n, the ends repeated.
fn moving_average(values: &[f64], half: usize) -> Vec<f64> {
    let Some(last) = values.len().checked_sub(1) else {
        return Vec::new();
    };
    let mut sum: f64 = values[0] * half as f64;
    sum += (0..=half).map(|i| values[i.min(last)]).sum::<f64>();
    let scale = 1.0 / (2 * half + 1) as f64;
    (0..values.len())
        .map(|n| {
            let mean = sum * scale;
            sum += values[(n + half + 1).min(last)] - values[n.saturating_sub(half)];
            mean
        })
        .collect()
}

/// The minimum over `n - half ..= n + half` for every n (Lemire's monotonic deque).
fn sliding_minimum(values: &[f64], half: usize) -> Vec<f64> {
    let mut candidates = std::collections::VecDeque::new();
    let mut out = Vec::with_capacity(values.len());
    for n in 0..values.len() + half {
        if n < values.len() {
            while candidates
                .back()
                .is_some_and(|&b: &usize| values[b] >= values[n])
            {
                candidates.pop_back();
            }
            candidates.push_back(n);
        }
        if n >= half {
            let centre = n - half;
            while candidates.front().is_some_and(|&f| f + half < centre) {
                candidates.pop_front();
            }
            if let Some(&front) = candidates.front() {
                out.push(values[front]);
            }
        }
    }
    out
}

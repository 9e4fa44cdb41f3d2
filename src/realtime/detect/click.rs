// [audio] Clicks: samples that tower over their linear prediction.
//!
//! The residual of a short linear prediction is small for music and large for an impulse (Vaseghi 1990;
//! Godsill & Rayner 1998, §5.2). A drum hit raises it too, but keeps it up: a click stands alone.

/// Order of the prediction.
const ORDER: usize = 16;
/// Residual peak over the largest median of the frame and its neighbours (in robust standard deviations) at
/// which a click is clearly audible.
/// Set by looking at four songs with and without crackle; not validated on others.
const THRESHOLD: f32 = 15.0;

/// Least residual peak, as a part of the RMS of the frame or the next, that counts as audible.
const AUDIBLE_PART: f32 = 0.1;

/// Residual peaks this much alike on both sides of a frame belong to one sound: the edges of a low saw or
/// pulse wave come with every period. Of 25 random clicks a second, 3 % meet the same.
const ALIKE: std::ops::Range<f32> = 0.6..1.7;

/// What is left of one frame after prediction.
#[derive(Clone, Copy, Default)]
pub(super) struct Residual {
    /// Largest magnitude.
    peak: f32,
    /// Median magnitude over 0.6745: the standard deviation if it were normal.
    deviation: f32,
    /// Share of samples over a quarter of the peak.
    width: f32,
    /// RMS of the frame itself.
    level: f32,
}

impl Residual {
    pub(super) const SILENCE: Self = Self {
        peak: 0.0,
        deviation: 0.0,
        width: 0.0,
        level: 0.0,
    };
}

/// Predicts frame after frame.
pub(super) struct Clicks {
    /// The frame, with the last ORDER samples of the one before in front.
    window: Vec<f64>,
    previous: [f64; ORDER],
    magnitudes: Vec<f32>,
}

impl Clicks {
    pub(super) fn new(longest: usize) -> Self {
        Self {
            window: vec![0.0; longest + ORDER],
            previous: [0.0; ORDER],
            magnitudes: vec![0.0; longest],
        }
    }

    pub(super) fn reset(&mut self) {
        self.previous = [0.0; ORDER];
    }

    /// The residual of one frame.
    pub(super) fn frame(&mut self, samples: &[f32]) -> Residual {
        let length = samples.len();
        let (Some(window), Some(magnitudes)) = (
            self.window.get_mut(..length + ORDER),
            self.magnitudes.get_mut(..length),
        ) else {
            return Residual::default();
        };
        let (head, body) = window.split_at_mut(ORDER);
        head.copy_from_slice(&self.previous);
        for (o, &x) in body.iter_mut().zip(samples) {
            *o = f64::from(x);
        }
        if let Some(tail) = window.last_chunk::<ORDER>() {
            self.previous = *tail;
        }

        let mut correlation = [0.0f64; ORDER + 1];
        for (lag, r) in correlation.iter_mut().enumerate() {
            *r = window
                .iter()
                .zip(window.iter().skip(lag))
                .map(|(a, b)| a * b)
                .sum();
        }
        if correlation[0] <= 1e-9 {
            return Residual::default();
        }
        let power = correlation[0];
        // White noise 60 dB below keeps the prediction tame where there is next to nothing.
        correlation[0] *= 1.0 + 1e-6;
        let a = levinson(&correlation);
        let mut peak = 0.0f32;
        for (m, past) in magnitudes.iter_mut().zip(window.windows(ORDER + 1)) {
            let e: f64 = past.iter().rev().zip(&a).map(|(x, a)| x * a).sum();
            *m = e.abs() as f32;
            peak = peak.max(*m);
        }
        let wide = magnitudes.iter().filter(|&&m| m > 0.25 * peak).count();
        let middle = length / 2;
        let median = if middle < length {
            *magnitudes.select_nth_unstable_by(middle, f32::total_cmp).1
        } else {
            0.0
        };
        Residual {
            peak,
            deviation: median / 0.6745,
            width: wide as f32 / length as f32,
            level: (power / length as f64).sqrt() as f32,
        }
    }
}

/// Levinson–Durbin recursion: the prediction error filter, its first coefficient 1.
fn levinson(correlation: &[f64; ORDER + 1]) -> [f64; ORDER + 1] {
    let mut a = [0.0; ORDER + 1];
    a[0] = 1.0;
    let mut error = correlation[0];
    for i in 1..=ORDER {
        let sum: f64 = (0..i).map(|j| a[j] * correlation[i - j]).sum();
        let k = -sum / error;
        let before = a;
        for j in 1..=i {
            a[j] += k * before[i - j];
        }
        error *= 1.0 - k * k;
        if error <= 0.0 {
            break;
        }
    }
    a
}

/// Severity of a click in `frame`, knowing the two frames before and after it, oldest first: 0.5 at the
/// threshold, 0 for anything wider than a twentieth of the frame (0.5 ms) and for what comes again and again.
pub(super) fn severity(
    [earlier, before]: [&Residual; 2],
    frame: &Residual,
    [next, later]: [&Residual; 2],
) -> f32 {
    let alike = |other: &Residual| ALIKE.contains(&(other.peak / frame.peak.max(1e-9)));
    if (alike(earlier) || alike(before)) && (alike(next) || alike(later)) {
        return 0.0;
    }
    // Next to perfectly predictable tones, the mere start of a note would tower: what stays below a tenth
    // of the frame's level is masked by it.
    let masked = AUDIBLE_PART * frame.level.max(next.level) / THRESHOLD;
    let around = before.deviation.max(frame.deviation).max(next.deviation);
    let calm = around.max(masked).max(1e-6);
    if frame.width > 0.05 {
        return 0.0;
    }
    let ratio = frame.peak / (calm * THRESHOLD);
    ratio * ratio / (1.0 + ratio * ratio)
}

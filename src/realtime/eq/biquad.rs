// [any] Second-order filters: coefficients after the Audio EQ Cookbook, state in f64.

use std::f64::consts::PI;

/// Coefficients of a second-order section, normalized to a0 = 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Coefficients {
    pub b: [f64; 3],
    /// a1, a2.
    pub a: [f64; 2],
}

/// Shapes after R. Bristow-Johnson, "Audio EQ Cookbook" (W3C note, 2021). Frequencies in Hz are limited
/// to 0.49 of the sample rate.
impl Coefficients {
    /// Changes nothing.
    pub const IDENTITY: Self = Self {
        b: [1.0, 0.0, 0.0],
        a: [0.0, 0.0],
    };

    fn angle(hz: f64, sample_rate: f64, q: f64) -> (f64, f64) {
        let w = 2.0 * PI * hz.clamp(1e-3 * sample_rate / 48.0, 0.49 * sample_rate) / sample_rate;
        (w.cos(), w.sin() / (2.0 * q))
    }

    fn normalized(b: [f64; 3], a: [f64; 3]) -> Self {
        Self {
            b: b.map(|x| x / a[0]),
            a: [a[1] / a[0], a[2] / a[0]],
        }
    }

    /// Low-pass.
    pub fn low_pass(hz: f64, q: f64, sample_rate: f64) -> Self {
        let (c, alpha) = Self::angle(hz, sample_rate, q);
        let half = (1.0 - c) / 2.0;
        Self::normalized([half, 1.0 - c, half], [1.0 + alpha, -2.0 * c, 1.0 - alpha])
    }

    /// High-pass.
    pub fn high_pass(hz: f64, q: f64, sample_rate: f64) -> Self {
        let (c, alpha) = Self::angle(hz, sample_rate, q);
        let half = (1.0 + c) / 2.0;
        Self::normalized([half, -1.0 - c, half], [1.0 + alpha, -2.0 * c, 1.0 - alpha])
    }

    /// Band-pass with a peak of 0 dB.
    pub fn band_pass(hz: f64, q: f64, sample_rate: f64) -> Self {
        let (c, alpha) = Self::angle(hz, sample_rate, q);
        Self::normalized([alpha, 0.0, -alpha], [1.0 + alpha, -2.0 * c, 1.0 - alpha])
    }

    /// A bell of `gain_db` at `hz`.
    pub fn bell(hz: f64, q: f64, gain_db: f64, sample_rate: f64) -> Self {
        let (c, alpha) = Self::angle(hz, sample_rate, q);
        let a = 10f64.powf(gain_db / 40.0);
        Self::normalized(
            [1.0 + alpha * a, -2.0 * c, 1.0 - alpha * a],
            [1.0 + alpha / a, -2.0 * c, 1.0 - alpha / a],
        )
    }

    /// A shelf of `gain_db` below `hz`.
    pub fn low_shelf(hz: f64, q: f64, gain_db: f64, sample_rate: f64) -> Self {
        let (c, alpha) = Self::angle(hz, sample_rate, q);
        let a = 10f64.powf(gain_db / 40.0);
        let root = 2.0 * a.sqrt() * alpha;
        let (up, down) = (a + 1.0, a - 1.0);
        Self::normalized(
            [
                a * (up - down * c + root),
                2.0 * a * (down - up * c),
                a * (up - down * c - root),
            ],
            [
                up + down * c + root,
                -2.0 * (down + up * c),
                up + down * c - root,
            ],
        )
    }

    /// A shelf of `gain_db` above `hz`.
    pub fn high_shelf(hz: f64, q: f64, gain_db: f64, sample_rate: f64) -> Self {
        let (c, alpha) = Self::angle(hz, sample_rate, q);
        let a = 10f64.powf(gain_db / 40.0);
        let root = 2.0 * a.sqrt() * alpha;
        let (up, down) = (a + 1.0, a - 1.0);
        Self::normalized(
            [
                a * (up + down * c + root),
                -2.0 * a * (down + up * c),
                a * (up + down * c - root),
            ],
            [
                up - down * c + root,
                2.0 * (down - up * c),
                up - down * c - root,
            ],
        )
    }

    /// Gain in dB at `hz`.
    pub fn gain_db(&self, hz: f64, sample_rate: f64) -> f64 {
        let w = 2.0 * PI * hz / sample_rate;
        let at = |x0: f64, x1: f64, x2: f64| {
            let re = x0 + x1 * w.cos() + x2 * (2.0 * w).cos();
            let im = x1 * w.sin() + x2 * (2.0 * w).sin();
            re * re + im * im
        };
        let [b0, b1, b2] = self.b;
        10.0 * (at(b0, b1, b2) / at(1.0, self.a[0], self.a[1]).max(1e-300))
            .max(1e-30)
            .log10()
    }
}

/// One channel's memory of a section (transposed direct form II).
#[derive(Clone, Copy, Debug, Default)]
pub struct State([f64; 2]);

impl State {
    /// Filters one sample.
    #[inline]
    pub fn run(&mut self, c: &Coefficients, x: f64) -> f64 {
        let y = c.b[0] * x + self.0[0];
        self.0[0] = c.b[1] * x - c.a[0] * y + self.0[1];
        self.0[1] = c.b[2] * x - c.a[1] * y;
        y
    }
}

// [audio] Bands of the signal, 4000 times a second.

/// Cells a frame (0.25 ms each).
pub(super) const CELLS: usize = 40;
/// Frames remembered: the judged one in the middle, two on each side.
pub(super) const FRAMES: usize = 5;
/// High bands whose energy is followed.
pub(super) const HIGHS: usize = 3;
/// Their edges in Hz.
const HIGH_HZ: [(f64, f64); HIGHS] = [(2000.0, 6000.0), (3000.0, 10_000.0), (6000.0, 14_000.0)];
/// Low-passes whose swing is followed, Hz.
pub(super) const LOWS: usize = 2;
const LOW_HZ: [f64; LOWS] = [300.0, 1000.0];
/// Bands whose level and shape are followed over frames, Hz.
pub(super) const BANDS: usize = 4;
const BAND_HZ: [(f64, f64); BANDS] = [
    (40.0, 250.0),
    (250.0, 1000.0),
    (1000.0, 4000.0),
    (4000.0, 14_000.0),
];

/// One frame: per cell energies, and sums over the frame.
#[derive(Clone, Copy)]
pub(super) struct Frame {
    /// Natural logarithm of the mean square of each high band by cell.
    pub high: [[f32; CELLS]; HIGHS],
    /// Sum over cells of the energy smoothed over two cells, and of its logarithm.
    pub smooth: [f32; HIGHS],
    pub smooth_log: [f32; HIGHS],
    /// Mean magnitude of each low-passed signal by cell.
    pub low: [[f32; CELLS]; LOWS],
    /// Mean square and mean fourth power of each band.
    pub square: [f32; BANDS],
    pub fourth: [f32; BANDS],
    /// Largest magnitude, mean square, and share of samples over 0.8 of the largest.
    pub peak: f32,
    pub power: f32,
    pub wide: f32,
}

impl Frame {
    const EMPTY: Self = Self {
        high: [[0.0; CELLS]; HIGHS],
        smooth: [0.0; HIGHS],
        smooth_log: [0.0; HIGHS],
        low: [[0.0; CELLS]; LOWS],
        square: [0.0; BANDS],
        fourth: [0.0; BANDS],
        peak: 0.0,
        power: 0.0,
        wide: 0.0,
    };
}

/// Splits the signal and remembers the last frames.
pub(super) struct Cells {
    low: [Biquad; LOWS],
    high: [[Biquad; 2]; HIGHS],
    band: [[Biquad; 2]; BANDS],
    /// Energy of the last cell in each high band.
    last: [f32; HIGHS],
    /// Oldest first.
    frames: [Frame; FRAMES],
}

impl Cells {
    pub(super) fn new(sample_rate: f64) -> Self {
        let pass = |(low, high): (f64, f64)| {
            [
                Biquad::high_pass(low, sample_rate),
                Biquad::low_pass(high, sample_rate),
            ]
        };
        Self {
            low: LOW_HZ.map(|hz| Biquad::low_pass(hz, sample_rate)),
            high: HIGH_HZ.map(pass),
            band: BAND_HZ.map(pass),
            last: [0.0; HIGHS],
            frames: [Frame::EMPTY; FRAMES],
        }
    }

    pub(super) fn reset(&mut self) {
        let filters = self.low.iter_mut();
        let filters = filters.chain(self.high.iter_mut().flatten());
        for filter in filters.chain(self.band.iter_mut().flatten()) {
            filter.state = [0.0; 2];
        }
        self.last = [0.0; HIGHS];
        self.frames = [Frame::EMPTY; FRAMES];
    }

    /// The last frames, oldest first.
    pub(super) fn frames(&self) -> &[Frame; FRAMES] {
        &self.frames
    }

    /// Takes the samples of cell `cell` of the frame being built (the first starts it). At low rates a cell
    /// may be empty: it repeats the one before.
    pub(super) fn cell(&mut self, cell: usize, samples: &[f32]) {
        if cell == 0 {
            self.frames.rotate_left(1);
        }
        let Some(frame) = self.frames.last_mut() else {
            return;
        };
        if cell == 0 {
            *frame = Frame::EMPTY;
        }
        let scale = 1.0 / samples.len() as f32;
        for (filter, cells) in self.low.iter_mut().zip(&mut frame.low) {
            let sum: f32 = samples.iter().map(|&x| filter.next(x).abs()).sum();
            write_cell(cells, cell, samples.is_empty(), sum * scale);
        }
        for (h, [first, second]) in self.high.iter_mut().enumerate() {
            let mut sum = 0.0;
            for &x in samples {
                let y = second.next(first.next(x));
                sum += y * y;
            }
            // −120 dB keeps the logarithm of silence finite.
            let energy = if samples.is_empty() {
                self.last[h]
            } else {
                (sum * scale).max(1e-12)
            };
            let smooth = 0.5 * (energy + self.last[h]).max(2e-12);
            self.last[h] = energy;
            frame.smooth[h] += smooth;
            frame.smooth_log[h] += smooth.ln();
            write_cell(&mut frame.high[h], cell, false, energy.max(1e-12).ln());
        }
        for (b, [first, second]) in self.band.iter_mut().enumerate() {
            for &x in samples {
                let y = second.next(first.next(x));
                let p = y * y;
                frame.square[b] += p;
                frame.fourth[b] += p * p;
            }
        }
    }

    /// Completes the frame, all of whose samples are given again.
    pub(super) fn finish(&mut self, samples: &[f32]) {
        let Some(frame) = self.frames.last_mut() else {
            return;
        };
        for &x in samples {
            frame.peak = frame.peak.max(x.abs());
            frame.power += x * x;
        }
        let limit = 0.8 * frame.peak;
        let wide = samples.iter().filter(|x| x.abs() >= limit).count();
        let scale = 1.0 / samples.len() as f32;
        frame.wide = wide as f32 * scale;
        frame.power *= scale;
        for sum in frame.square.iter_mut().chain(&mut frame.fourth) {
            *sum *= scale;
        }
    }
}

fn write_cell(cells: &mut [f32; CELLS], cell: usize, empty: bool, value: f32) {
    let before = cell.checked_sub(1).and_then(|c| cells.get(c)).copied();
    if let Some(target) = cells.get_mut(cell) {
        *target = if empty {
            before.unwrap_or(value)
        } else {
            value
        };
    }
}

/// A second-order Butterworth filter (bilinear transform; transposed direct form II), in f64 for the sake
/// of 40 Hz at 192 kHz.
#[derive(Clone, Copy)]
struct Biquad {
    b: [f64; 3],
    a: [f64; 2],
    state: [f64; 2],
}

impl Biquad {
    fn low_pass(hz: f64, sample_rate: f64) -> Self {
        let (k, norm) = Self::prewarp(hz, sample_rate);
        let b = k * k * norm;
        Self::with([b, 2.0 * b, b], k, norm)
    }

    fn high_pass(hz: f64, sample_rate: f64) -> Self {
        let (k, norm) = Self::prewarp(hz, sample_rate);
        Self::with([norm, -2.0 * norm, norm], k, norm)
    }

    fn prewarp(hz: f64, sample_rate: f64) -> (f64, f64) {
        let hz = hz.min(0.45 * sample_rate);
        let k = (std::f64::consts::PI * hz / sample_rate).tan();
        (k, 1.0 / (1.0 + std::f64::consts::SQRT_2 * k + k * k))
    }

    fn with(b: [f64; 3], k: f64, norm: f64) -> Self {
        let a = [
            2.0 * (k * k - 1.0) * norm,
            (1.0 - std::f64::consts::SQRT_2 * k + k * k) * norm,
        ];
        Self {
            b,
            a,
            state: [0.0; 2],
        }
    }

    #[inline]
    fn next(&mut self, x: f32) -> f32 {
        // The offset keeps the state out of denormals; far below any signal.
        let x = f64::from(x) + 1e-20;
        let y = self.b[0] * x + self.state[0];
        self.state[0] = self.b[1] * x - self.a[0] * y + self.state[1];
        self.state[1] = self.b[2] * x - self.a[1] * y;
        y as f32
    }
}

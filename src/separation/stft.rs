// [worker] Offline short-time Fourier transform and its inverse, and planes of time and frequency.

use std::sync::Arc;

use realfft::{ComplexToReal, RealFftPlanner, RealToComplex, num_complex::Complex};

/// Values by frame and bin: `data[frame * bins + bin]`.
#[derive(Clone, Debug, Default)]
pub struct Plane<T> {
    pub data: Vec<T>,
    pub frames: usize,
    pub bins: usize,
}

impl<T: Copy + Default> Plane<T> {
    /// All zero.
    pub fn new(frames: usize, bins: usize) -> Self {
        Self {
            data: vec![T::default(); frames * bins],
            frames,
            bins,
        }
    }

    /// One frame's bins.
    pub fn row(&self, frame: usize) -> &[T] {
        &self.data[frame * self.bins..(frame + 1) * self.bins]
    }

    /// One frame's bins.
    pub fn row_mut(&mut self, frame: usize) -> &mut [T] {
        &mut self.data[frame * self.bins..(frame + 1) * self.bins]
    }
}

/// Window of `size` samples (Hann, periodic, for analysis and synthesis), a hop of a quarter. Frame `t` is
/// centred on sample `t * hop`; samples outside the signal are 0. Analysis then synthesis is the identity.
pub struct Stft {
    pub size: usize,
    pub hop: usize,
    window: Vec<f32>,
    forward: Arc<dyn RealToComplex<f32>>,
    inverse: Arc<dyn ComplexToReal<f32>>,
}

impl Stft {
    /// `size`: a power of two, at least 8.
    pub fn new(size: usize) -> Self {
        let mut planner = RealFftPlanner::new();
        let window = (0..size)
            .map(|n| {
                let phase = std::f64::consts::TAU * n as f64 / size as f64;
                (0.5 - 0.5 * phase.cos()) as f32
            })
            .collect();
        Self {
            size,
            hop: size / 4,
            window,
            forward: planner.plan_fft_forward(size),
            inverse: planner.plan_fft_inverse(size),
        }
    }

    /// Bins of a frame.
    pub fn bins(&self) -> usize {
        self.size / 2 + 1
    }

    /// Frames that cover `len` samples.
    pub fn frames(&self, len: usize) -> usize {
        len / self.hop + 2
    }

    /// The transform of one channel.
    pub fn analyse(&self, signal: &[f32]) -> Plane<Complex<f32>> {
        let mut out = Plane::new(self.frames(signal.len()), self.bins());
        let mut buffer = vec![0.0f32; self.size];
        let mut scratch = self.forward.make_scratch_vec();
        for t in 0..out.frames {
            // The first sample of the frame; half a window before its centre.
            let start = (t * self.hop) as isize - (self.size / 2) as isize;
            for (n, (b, w)) in buffer.iter_mut().zip(&self.window).enumerate() {
                let at = start + n as isize;
                let x = usize::try_from(at)
                    .ok()
                    .and_then(|at| signal.get(at))
                    .copied()
                    .unwrap_or(0.0);
                *b = x * w;
            }
            // Lengths come from the plan itself: it can't refuse them.
            let done = self
                .forward
                .process_with_scratch(&mut buffer, out.row_mut(t), &mut scratch);
            debug_assert!(done.is_ok());
        }
        out
    }

    /// `len` samples of the inverse of `spectrum` scaled bin by bin with `mask`.
    pub fn synthesise(
        &self,
        spectrum: &Plane<Complex<f32>>,
        mask: &Plane<f32>,
        len: usize,
    ) -> Vec<f32> {
        let mut out = vec![0.0f32; len];
        let mut bins = self.inverse.make_input_vec();
        let mut buffer = self.inverse.make_output_vec();
        let mut scratch = self.inverse.make_scratch_vec();
        // Squared Hann windows at a quarter hop add up to 3/2; the transform scales by its size.
        let scale = 1.0 / (1.5 * self.size as f32);
        for t in 0..spectrum.frames {
            for ((b, s), m) in bins.iter_mut().zip(spectrum.row(t)).zip(mask.row(t)) {
                *b = *s * *m;
            }
            // A real signal's first and last bins are real.
            if let Some(first) = bins.first_mut() {
                first.im = 0.0;
            }
            if let Some(last) = bins.last_mut() {
                last.im = 0.0;
            }
            let done = self
                .inverse
                .process_with_scratch(&mut bins, &mut buffer, &mut scratch);
            debug_assert!(done.is_ok());
            let start = (t * self.hop) as isize - (self.size / 2) as isize;
            for (n, (b, w)) in buffer.iter().zip(&self.window).enumerate() {
                if let Some(o) = usize::try_from(start + n as isize)
                    .ok()
                    .and_then(|at| out.get_mut(at))
                {
                    *o += b * w * scale;
                }
            }
        }
        out
    }
}

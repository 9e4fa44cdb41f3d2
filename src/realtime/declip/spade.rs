// [audio] The declipping kernel: A-SPADE with a geometric sparsity schedule ("G-SPADE"), frame by frame.
//!
//! A frame of a clipped signal is any signal that agrees with the reliable samples and lies beyond the
//! clip level elsewhere. Among those SPADE looks for one whose spectrum is sparse: it alternates between
//! "keep the `k` largest bins" and "go to the nearest consistent signal", with scaled dual `u`, while `k`
//! grows (S. Kitić, N. Bertin, R. Gribonval, "Sparsity and cosparsity for audio declipping: a flexible
//! non-convex approach", LVA/ICA 2015; P. Záviška et al., "A survey and an extensive evaluation of popular
//! audio declipping methods", IEEE JSTSP 2021). With redundancy 1 the analysis operator is the unitary DFT,
//! so the projection is exact: one inverse transform, a clamp, one forward transform. `k` grows by
//! [`Schedule::growth`] instead of by one, which reaches the dense end in tens of iterations.

use std::sync::Arc;

use realfft::{ComplexToReal, RealFftPlanner, RealToComplex, num_complex::Complex32};

/// How `k` grows and when a frame is done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// Bins kept in the first iteration, at least 1.
    pub first: usize,
    /// Factor by which `k` grows after each iteration (at least by one bin).
    pub growth: f32,
    /// Done when the distance between the sparse and the consistent spectrum falls below this share of
    /// the frame's norm.
    pub tolerance: f32,
    /// Iterations after which a frame is done in any case.
    pub max_iterations: usize,
}

/// Transforms and scratch of one frame length; shared by all frames of that length on a thread.
pub struct Spade {
    length: usize,
    forward: Arc<dyn RealToComplex<f32>>,
    inverse: Arc<dyn ComplexToReal<f32>>,
    forward_scratch: Vec<Complex32>,
    inverse_scratch: Vec<Complex32>,
    spectrum: Vec<Complex32>,
    time: Vec<f32>,
    /// Squared magnitudes of the bins as ordered integers (the bits of a non-negative float order like it).
    power: Vec<u32>,
    ranked: Vec<u32>,
}

/// A frame being declipped: its constraints and the state of the iteration.
pub struct Frame {
    /// Smallest and largest allowed value of each sample; equal where the sample is reliable.
    pub lower: Vec<f32>,
    pub upper: Vec<f32>,
    /// The consistent signal so far.
    pub solution: Vec<f32>,
    spectrum: Vec<Complex32>,
    dual: Vec<Complex32>,
    k: usize,
    iterations: usize,
    limit: f32,
    done: bool,
}

impl Frame {
    /// A frame of `length` samples with nothing to do.
    pub fn new(length: usize) -> Self {
        let bins = length / 2 + 1;
        Self {
            lower: vec![0.0; length],
            upper: vec![0.0; length],
            solution: vec![0.0; length],
            spectrum: vec![Complex32::default(); bins],
            dual: vec![Complex32::default(); bins],
            k: 1,
            iterations: 0,
            limit: 0.0,
            done: true,
        }
    }

    /// Whether further iterations would change nothing.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Gives the frame up.
    pub fn finish(&mut self) {
        self.done = true;
    }

    /// Takes over another frame's result (of the same length).
    pub fn copy_solution(&mut self, other: &Self) {
        self.solution.copy_from_slice(&other.solution);
        self.done = other.done;
    }
}

impl Spade {
    /// Plans frames of `length` samples (even).
    pub fn new(length: usize) -> Self {
        let mut planner = RealFftPlanner::<f32>::new();
        let forward = planner.plan_fft_forward(length);
        let inverse = planner.plan_fft_inverse(length);
        let bins = length / 2 + 1;
        Self {
            length,
            forward_scratch: forward.make_scratch_vec(),
            inverse_scratch: inverse.make_scratch_vec(),
            forward,
            inverse,
            spectrum: vec![Complex32::default(); bins],
            time: vec![0.0; length],
            power: vec![0; bins],
            ranked: vec![0; bins],
        }
    }

    /// Frame length in samples.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Starts `frame`, whose `solution` holds the windowed clipped signal and whose `lower` and `upper`
    /// hold the constraints.
    pub fn begin(&mut self, frame: &mut Frame, schedule: &Schedule) {
        self.time.copy_from_slice(&frame.solution);
        let planned = self.forward.process_with_scratch(
            &mut self.time,
            &mut frame.spectrum,
            &mut self.forward_scratch,
        );
        debug_assert!(planned.is_ok());
        frame.dual.fill(Complex32::default());
        frame.k = schedule.first.max(1);
        frame.iterations = 0;
        let energy: f32 = frame.spectrum.iter().map(Complex32::norm_sqr).sum();
        frame.limit = schedule.tolerance * schedule.tolerance * energy;
        frame.done = energy <= 0.0;
    }

    /// One iteration; nothing if the frame is done.
    pub fn iterate(&mut self, frame: &mut Frame, schedule: &Schedule) {
        if frame.done {
            return;
        }
        let bins = self.power.len();
        for ((power, x), u) in self.power.iter_mut().zip(&frame.spectrum).zip(&frame.dual) {
            *power = (x + u).norm_sqr().to_bits();
        }
        // The k-th largest power: bins at or above it are kept.
        let keep = frame.k.min(bins);
        self.ranked.copy_from_slice(&self.power);
        let threshold = *self.ranked.select_nth_unstable(bins - keep).1;
        // z − u is x where a bin is kept and −u where it is not.
        for (((w, &power), x), u) in self
            .spectrum
            .iter_mut()
            .zip(&self.power)
            .zip(&frame.spectrum)
            .zip(&frame.dual)
        {
            *w = if power >= threshold { *x } else { -u };
        }
        // The transform of a real signal has real first and last bins; rounding may say otherwise.
        if let Some(w) = self.spectrum.first_mut() {
            w.im = 0.0;
        }
        if let Some(w) = self.spectrum.last_mut() {
            w.im = 0.0;
        }
        let ok = self.inverse.process_with_scratch(
            &mut self.spectrum,
            &mut self.time,
            &mut self.inverse_scratch,
        );
        debug_assert!(ok.is_ok());
        let scale = 1.0 / self.length as f32;
        for (((t, s), &lo), &hi) in self
            .time
            .iter_mut()
            .zip(&mut frame.solution)
            .zip(&frame.lower)
            .zip(&frame.upper)
        {
            let v = (*t * scale).max(lo).min(hi);
            *s = v;
            *t = v;
        }
        let ok = self.forward.process_with_scratch(
            &mut self.time,
            &mut self.spectrum,
            &mut self.forward_scratch,
        );
        debug_assert!(ok.is_ok());
        // u ← u + x_new − z, and the distance |x_new − z|².
        let mut distance = 0.0f32;
        for (((new, &power), x), u) in self
            .spectrum
            .iter()
            .zip(&self.power)
            .zip(&mut frame.spectrum)
            .zip(&mut frame.dual)
        {
            let next = if power >= threshold {
                new - *x
            } else {
                *u + new
            };
            distance += (next - *u).norm_sqr();
            *u = next;
            *x = *new;
        }
        frame.iterations += 1;
        frame.k = (frame.k + 1).max((frame.k as f32 * schedule.growth).ceil() as usize);
        // Not "greater": an overflow to infinity or NaN ends the frame too.
        let far = distance > frame.limit && distance.is_finite();
        frame.done = !far || frame.iterations >= schedule.max_iterations || keep == bins;
    }
}

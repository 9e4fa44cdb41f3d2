// [audio] Autoregressive modelling: fit, residuals both ways, and least-squares filling of a gap.
//!
//! Conventions: a model of order `p` is `a[0..=p]` with `a[0] = 1`; the forward residual at `n` is
//! `Σ a[k] x[n−k]`, the backward one `Σ a[k] x[n+k]`. Callers own all buffers; nothing here allocates.

/// `r[l] = Σ x[n] x[n+l]` for each lag.
pub fn autocorrelate(x: &[f64], r: &mut [f64]) {
    for (lag, r) in r.iter_mut().enumerate() {
        let late = x.get(lag..).unwrap_or_default();
        // Four partial sums let the compiler use vectors.
        let mut sums = [0.0f64; 4];
        let (a, b) = (x.chunks_exact(4), late.chunks_exact(4));
        let tail = late.len() - late.len() % 4;
        for (a, b) in a.zip(b) {
            for ((s, a), b) in sums.iter_mut().zip(a).zip(b) {
                *s += a * b;
            }
        }
        let rest: f64 = x.iter().zip(late).skip(tail).map(|(a, b)| a * b).sum();
        *r = sums.iter().sum::<f64>() + rest;
    }
}

/// Levinson-Durbin: the model `a` (order `a.len() − 1`) of autocorrelations `r` (at least as many).
/// `scratch` holds at least `a.len()`. Returns whether the model is usable.
pub fn levinson(r: &[f64], a: &mut [f64], scratch: &mut [f64]) -> bool {
    a.fill(0.0);
    let (Some(first), Some(&energy)) = (a.first_mut(), r.first()) else {
        return false;
    };
    *first = 1.0;
    let mut error = energy;
    for i in 1..a.len() {
        if error.is_nan() || error <= 0.0 {
            return false;
        }
        let sum: f64 = a
            .iter()
            .zip(r.get(1..=i).unwrap_or_default().iter().rev())
            .map(|(a, r)| a * r)
            .sum();
        let reflection = -sum / error;
        // a[j] += reflection · a[i − j]
        if let (Some(old), Some(copy)) = (a.get(..=i), scratch.get_mut(..=i)) {
            copy.copy_from_slice(old);
        }
        for (a, mirrored) in a
            .iter_mut()
            .take(i + 1)
            .zip(scratch.iter().take(i + 1).rev())
        {
            *a += reflection * mirrored;
        }
        error *= 1.0 - reflection * reflection;
    }
    error.is_finite() && error > 0.0
}

/// Forward residual of `x` for every sample with `p` predecessors: `out[i]` belongs to `x[i + p]`.
/// `taps` are the model's coefficients in reverse order (`a[p] … a[0]`).
pub fn forward_residual(x: &[f32], taps: &[f32], out: &mut [f32]) {
    for (window, out) in x.windows(taps.len()).zip(out) {
        *out = dot(window, taps);
    }
}

/// Backward residual of `x` for every sample with `p` successors: `out[i]` belongs to `x[i]`.
/// `taps` are the model's coefficients in order.
pub fn backward_residual(x: &[f32], taps: &[f32], out: &mut [f32]) {
    forward_residual(x, taps, out);
}

/// Σ `a[i] b[i]` over the shorter length.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let tail = a.len().min(b.len()) / 8 * 8;
    for (a, b) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
        for ((s, a), b) in sums.iter_mut().zip(a).zip(b) {
            *s += a * b;
        }
    }
    let rest: f32 = a.iter().zip(b).skip(tail).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

/// Scratch for filling gaps of up to a fixed length.
pub struct GapFiller {
    /// Autocorrelation of the coefficients: the normal equations' Toeplitz column.
    column: Vec<f64>,
    right: Vec<f64>,
    solution: Vec<f64>,
    forward: Vec<f64>,
    scratch: Vec<f64>,
}

impl GapFiller {
    /// For gaps of up to `longest` samples and models of up to `order`.
    pub fn new(longest: usize, order: usize) -> Self {
        let column = longest.max(order + 1);
        Self {
            column: vec![0.0; column],
            right: vec![0.0; longest],
            solution: vec![0.0; longest],
            forward: vec![0.0; longest],
            scratch: vec![0.0; longest],
        }
    }

    /// Replaces `x[start..end]` by the values that minimise the forward residual of model `a` over the
    /// gap and the `p` samples after it (A. J. E. M. Janssen, R. Veldhuis, L. Vries, "Adaptive
    /// interpolation of discrete-time signals that can be modeled as autoregressive processes", IEEE
    /// TASSP 1986). Needs `p` samples on either side. Returns `false`, changing nothing, if it can't.
    pub fn fill(&mut self, x: &mut [f32], start: usize, end: usize, a: &[f64]) -> bool {
        let order = a.len().saturating_sub(1);
        let gap = end.saturating_sub(start);
        if gap == 0 || gap > self.right.len() || start < order || end + order > x.len() {
            return false;
        }
        self.column.fill(0.0);
        for (lag, c) in self.column.iter_mut().enumerate().take(order + 1) {
            *c = a.iter().zip(a.iter().skip(lag)).map(|(a, b)| a * b).sum();
        }
        // The known samples on both sides, weighted by the coefficients' autocorrelation.
        let column = self.column.get(..=order).unwrap_or_default();
        for (i, right) in self.right.iter_mut().enumerate().take(gap) {
            let n = start + i;
            let weigh = |lags: &[f64], samples: &mut dyn Iterator<Item = &f32>| -> f64 {
                lags.iter()
                    .zip(samples)
                    .map(|(c, &x)| c * f64::from(x))
                    .sum()
            };
            // Lags that reach before the gap, counted from the nearest; then those behind it.
            let left = column.get(i + 1..).unwrap_or_default();
            let past = x.get(..start).unwrap_or_default();
            let behind = column.get(end - n..).unwrap_or_default();
            let future = x.get(end..).unwrap_or_default();
            *right = -weigh(left, &mut past.iter().rev()) - weigh(behind, &mut future.iter());
        }
        if !self.solve(gap) {
            return false;
        }
        for (x, &v) in x.iter_mut().skip(start).take(gap).zip(&self.solution) {
            *x = v as f32;
        }
        true
    }

    /// Levinson's recursion for the symmetric positive definite Toeplitz system `column · solution =
    /// right` of size `size` (G. Golub, C. Van Loan, "Matrix Computations", algorithm 4.7.2).
    fn solve(&mut self, size: usize) -> bool {
        let Self {
            column,
            right,
            solution,
            forward: y,
            scratch,
        } = self;
        let (Some(&diagonal), Some(&b0)) = (column.first(), right.first()) else {
            return false;
        };
        if diagonal.is_nan() || diagonal <= 0.0 || size > right.len() {
            return false;
        }
        let r = |lag: usize| column.get(lag).map_or(0.0, |c| c / diagonal);
        solution[0] = b0 / diagonal;
        let (mut beta, mut alpha) = (1.0f64, -r(1));
        y[0] = alpha;
        for k in 1..size {
            beta *= 1.0 - alpha * alpha;
            if beta.is_nan() || beta <= 0.0 {
                return false;
            }
            let mut sum = right[k] / diagonal;
            for (i, &v) in solution[..k].iter().enumerate() {
                sum -= r(k - i) * v;
            }
            let mu = sum / beta;
            for i in 0..k {
                solution[i] += mu * y[k - 1 - i];
            }
            solution[k] = mu;
            if k + 1 < size {
                let mut sum = r(k + 1);
                for (i, &v) in y[..k].iter().enumerate() {
                    sum += r(k - i) * v;
                }
                alpha = -sum / beta;
                scratch[..k].copy_from_slice(&y[..k]);
                for i in 0..k {
                    y[i] += alpha * scratch[k - 1 - i];
                }
                y[k] = alpha;
            }
        }
        solution[..size].iter().all(|v| v.is_finite())
    }
}

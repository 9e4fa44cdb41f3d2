// [audio] What of a click's stretch is click: weighs each sample heard against what the model expects there.
//!
//! A filling throws away everything that was heard in the gap, though a click is rarely as long as the gap and dies
//! away in it. Here a click is noise whose variance differs from sample to sample: the most probable audio is that of
//! Gaussian noise at given variances, and the variances are those under which what was heard is most probable
//! (expectation maximisation; S. Godsill, P. Rayner, "Digital audio restoration", 1998, chapter 4 and appendix E; one
//! variance a sample as in M. Tipping, "Sparse Bayesian learning and the relevance vector machine", JMLR 2001).
//! A sample that the model explains gets next to none and stays. All matrices have the model's bandwidth, so the
//! work grows with the gap's length only.

/// Samples on either side whose variances are averaged: a click is a burst, which crosses zero.
const NEIGHBOURS: usize = 2;
/// Least variance, far below what 24 bits can hold.
const LEAST: f64 = 1e-18;

/// Scratch for [`Weigher::weigh`].
pub struct Weigher {
    longest: usize,
    /// Autocorrelation of the model's coefficients.
    column: Vec<f64>,
    right: Vec<f64>,
    solution: Vec<f64>,
    /// Variances of the click, and what was measured of them.
    variance: Vec<f64>,
    measured: Vec<f64>,
    /// Lower bands by rows, the diagonal first: the Cholesky factor, and the inverse.
    factor: Vec<f64>,
    inverse: Vec<f64>,
}

impl Weigher {
    /// For gaps of up to `longest` samples and models of up to `order`.
    pub fn new(longest: usize, order: usize) -> Self {
        let zeros = |n: usize| vec![0.0; n];
        Self {
            longest,
            column: zeros(order + 1),
            right: zeros(longest),
            solution: zeros(longest),
            variance: zeros(longest),
            measured: zeros(longest),
            factor: zeros(longest * (order + 1)),
            inverse: zeros(longest * (order + 1)),
        }
    }

    /// Replaces `x[start..start + heard.len()]`, a gap that was filled by model `a`, by the most probable audio given
    /// `heard`, what the recording holds there. `sigma` is the standard deviation of the model's residual, `rounds`
    /// how often the click's variances are improved. Needs as many samples as the model's order on either side.
    /// `false`, changing nothing, if it can't.
    pub fn weigh(
        &mut self,
        x: &mut [f32],
        start: usize,
        heard: &[f32],
        a: &[f64],
        sigma: f64,
        rounds: usize,
    ) -> bool {
        let order = a.len().saturating_sub(1);
        let gap = heard.len();
        let end = start + gap;
        let fits = gap <= self.longest && order < self.column.len();
        if gap == 0
            || !fits
            || start < order
            || end + order > x.len()
            || sigma.is_nan()
            || sigma <= 0.0
        {
            return false;
        }
        let precision = 1.0 / (sigma * sigma);
        for (lag, c) in self.column.iter_mut().enumerate().take(order + 1) {
            *c = precision
                * a.iter()
                    .zip(a.iter().skip(lag))
                    .map(|(a, b)| a * b)
                    .sum::<f64>();
        }
        for i in 0..gap {
            let n = start + i;
            let mut sum = 0.0;
            for (lag, c) in self.column.iter().enumerate().take(order + 1).skip(1) {
                if n < start + lag {
                    sum -= c * f64::from(x[n - lag]);
                }
                if n + lag >= end {
                    sum -= c * f64::from(x[n + lag]);
                }
            }
            self.right[i] = sum;
            self.solution[i] = f64::from(x[n]);
            // Before anything is known of the click, nothing of what was heard counts: that is the filling.
            self.variance[i] = f64::INFINITY;
        }
        for round in 0..=rounds {
            if !self.factorise(gap, order) {
                return false;
            }
            if round > 0 {
                self.solve(heard, order);
            }
            if round < rounds {
                self.invert(gap, order);
                self.measure(heard, order);
            }
        }
        let solution = &self.solution[..gap];
        if !solution.iter().all(|v| v.is_finite()) {
            return false;
        }
        for (x, &v) in x.iter_mut().skip(start).zip(solution) {
            *x = v as f32;
        }
        true
    }

    /// Cholesky factor of the precision: the model's and the click's.
    fn factorise(&mut self, gap: usize, order: usize) -> bool {
        let row = order + 1;
        for i in 0..gap {
            for j in i.saturating_sub(order)..=i {
                let mut sum = self.column[i - j];
                for k in i.saturating_sub(order)..j {
                    sum -= self.factor[i * row + i - k] * self.factor[j * row + j - k];
                }
                self.factor[i * row + i - j] = if j < i {
                    sum / self.factor[j * row]
                } else {
                    sum += 1.0 / self.variance[i];
                    if sum.is_nan() || sum <= 0.0 {
                        return false;
                    }
                    sum.sqrt()
                };
            }
        }
        true
    }

    fn solve(&mut self, heard: &[f32], order: usize) {
        let (row, gap) = (order + 1, heard.len());
        for (i, &heard) in heard.iter().enumerate() {
            let mut sum = self.right[i] + f64::from(heard) / self.variance[i];
            for k in i.saturating_sub(order)..i {
                sum -= self.factor[i * row + i - k] * self.solution[k];
            }
            self.solution[i] = sum / self.factor[i * row];
        }
        for i in (0..gap).rev() {
            let mut sum = self.solution[i];
            for k in i + 1..gap.min(i + row) {
                sum -= self.factor[k * row + k - i] * self.solution[k];
            }
            self.solution[i] = sum / self.factor[i * row];
        }
    }

    /// The inverse within the band (K. Takahashi et al., "Formation of a sparse bus impedance matrix", 1973).
    fn invert(&mut self, gap: usize, order: usize) {
        let row = order + 1;
        for j in (0..gap).rev() {
            let last = gap.min(j + row);
            let pivot = self.factor[j * row];
            for i in (j..last).rev() {
                let mut sum = if i == j { 1.0 / pivot } else { 0.0 };
                for k in j + 1..last {
                    let (high, low) = (i.max(k), i.min(k));
                    sum -= self.factor[k * row + k - j] * self.inverse[high * row + high - low];
                }
                self.inverse[i * row + i - j] = sum / pivot;
            }
        }
    }

    /// The click's variances from what was taken away and how uncertain that is.
    fn measure(&mut self, heard: &[f32], order: usize) {
        let gap = heard.len();
        for (i, &heard) in heard.iter().enumerate() {
            let taken = f64::from(heard) - self.solution[i];
            self.measured[i] = taken * taken + self.inverse[i * (order + 1)];
        }
        for i in 0..gap {
            let (mut sum, mut weights) = (0.0, 0.0);
            for j in i.saturating_sub(NEIGHBOURS)..gap.min(i + NEIGHBOURS + 1) {
                let weight = 1.0 / (1 + i.abs_diff(j)) as f64;
                sum += weight * self.measured[j];
                weights += weight;
            }
            self.variance[i] = (sum / weights).max(LEAST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::ar::GapFiller, *};

    /// An autoregressive signal of order 2 with a residual of standard deviation `sigma`.
    fn signal(length: usize, sigma: f64) -> (Vec<f32>, Vec<f64>) {
        let a = vec![1.0, -1.6, 0.8];
        let mut state = 1u64;
        let mut normal = || {
            let sum: f64 = (0..12)
                .map(|_| {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695);
                    (state >> 11) as f64 / (1u64 << 53) as f64
                })
                .sum();
            sum - 6.0
        };
        let mut x = vec![0.0f64; length];
        for n in 2..length {
            x[n] = 1.6 * x[n - 1] - 0.8 * x[n - 2] + sigma * normal();
        }
        (x.iter().map(|&v| v as f32).collect(), a)
    }

    #[test]
    fn the_inverse_is_that_of_the_whole_matrix() {
        let (gap, order) = (7, 2);
        let mut w = Weigher::new(gap, order);
        w.column = vec![4.2, -2.9, 0.8];
        w.variance = (0..gap).map(|i| 0.3 + i as f64).collect();
        assert!(w.factorise(gap, order));
        w.invert(gap, order);
        let entry = |i: usize, j: usize| {
            let own = if i == j { 1.0 / w.variance[i] } else { 0.0 };
            w.column.get(i.abs_diff(j)).copied().unwrap_or(0.0) + own
        };
        for column in 0..gap {
            // Gauss without pivoting solves for a unit vector: the matrix is positive definite.
            let mut rows: Vec<Vec<f64>> = (0..gap)
                .map(|i| {
                    let unit = f64::from(u8::from(i == column));
                    (0..gap).map(|j| entry(i, j)).chain([unit]).collect()
                })
                .collect();
            for i in 0..gap {
                let pivot = rows[i].clone();
                for row in rows.iter_mut().skip(i + 1) {
                    let share = row[i] / pivot[i];
                    row.iter_mut()
                        .zip(&pivot)
                        .for_each(|(r, p)| *r -= share * p);
                }
            }
            let mut z = vec![0.0; gap];
            for i in (0..gap).rev() {
                let known: f64 = (i + 1..gap).map(|k| rows[i][k] * z[k]).sum();
                z[i] = (rows[i][gap] - known) / rows[i][i];
            }
            let band = column..gap.min(column + order + 1);
            for (i, z) in z.iter().enumerate().take(band.end).skip(band.start) {
                let banded = w.inverse[i * (order + 1) + i - column];
                assert!((banded - z).abs() < 1e-12, "{i} {column}: {banded} {z}");
            }
        }
    }

    #[test]
    fn samples_beside_a_click_stay_as_they_were_heard() {
        let (clean, a) = signal(400, 0.01);
        let (start, end) = (180, 220);
        let mut heard = clean.clone();
        // A click that is much shorter than the gap.
        for (i, x) in heard.iter_mut().enumerate().take(203).skip(198) {
            *x += if i % 2 == 0 { 0.8 } else { -0.6 };
        }
        let error = |x: &[f32]| -> f64 {
            let pairs = x[start..end].iter().zip(&clean[start..end]);
            pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum()
        };
        let mut x = heard.clone();
        assert!(GapFiller::new(64, 2).fill(&mut x, start, end, &a));
        let filled = error(&x);
        let mut weigher = Weigher::new(64, 2);
        let mut same = x.clone();
        assert!(weigher.weigh(&mut same, start, &heard[start..end], &a, 0.01, 0));
        assert_eq!(same, x, "without rounds it is the filling");
        assert!(weigher.weigh(&mut x, start, &heard[start..end], &a, 0.01, 3));
        assert!(error(&x) < 0.4 * filled, "{} of {filled}", error(&x));
        let away = (start..190).chain(212..end);
        for n in away {
            assert!((x[n] - clean[n]).abs() < 0.01, "{n}: {} {}", x[n], clean[n]);
        }
    }

    #[test]
    fn what_does_not_fit_changes_nothing() {
        let (clean, a) = signal(100, 0.01);
        let mut weigher = Weigher::new(8, 2);
        let mut x = clean.clone();
        let long = clean[20..40].to_vec();
        assert!(!weigher.weigh(&mut x, 20, &long, &a, 0.01, 2));
        assert!(!weigher.weigh(&mut x, 1, &long[..4], &a, 0.01, 2));
        assert!(!weigher.weigh(&mut x, 95, &long[..4], &a, 0.01, 2));
        assert!(!weigher.weigh(&mut x, 20, &long[..4], &a, f64::NAN, 2));
        assert_eq!(x, clean);
    }
}

// [worker] Normalisation, with statistics in double precision.
//
// Sums of ten million squares in single precision are wrong by 1e-4, and a network carries that to its
// output: everything here adds in double precision, in a fixed order.

use super::act::dispatched;

/// Sum and sum of squares of some elements.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments {
    pub count: f64,
    pub sum: f64,
    pub squares: f64,
}

impl Moments {
    /// Of `x`.
    pub fn of(x: &[f32]) -> Self {
        let (sum, squares) = sums(x);
        Self {
            count: x.len() as f64,
            sum,
            squares,
        }
    }

    /// Of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            count: self.count + other.count,
            sum: self.sum + other.sum,
            squares: self.squares + other.squares,
        }
    }

    /// Their mean; 0 of none.
    pub fn mean(&self) -> f64 {
        self.sum / self.count.max(1.0)
    }

    /// Their variance, divided by the count.
    pub fn variance(&self) -> f64 {
        (self.squares / self.count.max(1.0) - self.mean().powi(2)).max(0.0)
    }

    /// Their standard deviation, divided by the count less one.
    pub fn deviation(&self) -> f64 {
        (self.variance() * self.count / (self.count - 1.0).max(1.0)).sqrt()
    }
}

dispatched! {
    /// Sum and sum of squares.
    pub fn sums(x: &[f32]) -> (f64, f64) {
        let (mut sum, mut squares) = ([0.0f64; 16], [0.0f64; 16]);
        let chunks = x.chunks_exact(16);
        for (i, &x) in chunks.remainder().iter().enumerate() {
            let x = f64::from(x);
            sum[i] += x;
            squares[i] += x * x;
        }
        for chunk in chunks {
            for i in 0..16 {
                let x = f64::from(chunk[i]);
                sum[i] += x;
                squares[i] += x * x;
            }
        }
        (sum.iter().sum(), squares.iter().sum())
    }
}

/// What a group normalisation with these moments does to each channel: `y = x · gain + shift`, with
/// `weight` and `bias` per channel.
pub fn group_affine(
    moments: &Moments,
    epsilon: f64,
    weight: &[f32],
    bias: &[f32],
    gain: &mut [f32],
    shift: &mut [f32],
) {
    let mean = moments.mean();
    let scale = 1.0 / (moments.variance() + epsilon).sqrt();
    for (i, (gain, shift)) in gain.iter_mut().zip(shift).enumerate() {
        let g = f64::from(weight[i]) * scale;
        *gain = g as f32;
        *shift = (f64::from(bias[i]) - mean * g) as f32;
    }
}

dispatched! {
    /// Layer normalisation of one row: `to[i] = (x[i] - mean) / √(variance + epsilon) · weight[i] + bias[i]`.
    pub fn layer_norm(x: &[f32], epsilon: f64, weight: &[f32], bias: &[f32], to: &mut [f32]) {
        let (sum, _) = sums(x);
        let count = x.len().max(1) as f64;
        let mean = sum / count;
        let centre = mean as f32;
        let mut squares = [0.0f64; 16];
        let chunks = x.chunks_exact(16);
        for (i, &x) in chunks.remainder().iter().enumerate() {
            let d = f64::from(x) - mean;
            squares[i] += d * d;
        }
        for chunk in chunks {
            for i in 0..16 {
                let d = f64::from(chunk[i]) - mean;
                squares[i] += d * d;
            }
        }
        let variance = squares.iter().sum::<f64>() / count;
        let scale = (1.0 / (variance + epsilon).sqrt()) as f32;
        for (((to, x), weight), bias) in to.iter_mut().zip(x).zip(weight).zip(bias) {
            *to = (x - centre) * scale * weight + bias;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_of_many_large_values_stay_exact() {
        // A million values around 1000 with deviation 1: single precision loses the variance.
        let x: Vec<f32> = (0..1_000_003)
            .map(|i| 1000.0 + if i % 2 == 0 { 1.0 } else { -1.0 })
            .collect();
        let moments = Moments::of(&x[..1_000_002]);
        assert!((moments.mean() - 1000.0).abs() < 1e-9);
        assert!((moments.variance() - 1.0).abs() < 1e-6);
        let joined = Moments::of(&x[..777]).and(Moments::of(&x[777..]));
        assert!((joined.mean() - Moments::of(&x).mean()).abs() < 1e-9);
    }

    #[test]
    fn layer_norm_has_no_mean_and_unit_variance() {
        let x: Vec<f32> = (0..50).map(|i| ((i * 13) % 17) as f32 + 5.0).collect();
        let (weight, bias) = (vec![1.0; 50], vec![0.0; 50]);
        let mut to = vec![0.0; 50];
        layer_norm(&x, 1e-5, &weight, &bias, &mut to);
        let moments = Moments::of(&to);
        assert!(moments.mean().abs() < 1e-6);
        assert!((moments.variance() - 1.0).abs() < 1e-5);
    }

    #[test]
    fn a_group_normalises_to_its_weight_and_bias() {
        let x: Vec<f32> = (0..64).map(|i| ((i * 7) % 11) as f32).collect();
        let (mut gain, mut shift) = ([0.0; 2], [0.0; 2]);
        group_affine(
            &Moments::of(&x),
            0.0,
            &[2.0, 3.0],
            &[0.5, -1.0],
            &mut gain,
            &mut shift,
        );
        let mean: f32 = x.iter().sum::<f32>() / 64.0;
        // The mean goes to the bias.
        assert!((mean * gain[0] + shift[0] - 0.5).abs() < 1e-5);
        assert!((mean * gain[1] + shift[1] + 1.0).abs() < 1e-5);
        assert!((gain[1] / gain[0] - 1.5).abs() < 1e-6);
    }
}

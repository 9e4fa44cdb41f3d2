// [worker] Activations over slices, with the same operations on every processor.

/// Compiles a body for every vector level; the same operations in the same order, so the same results.
macro_rules! dispatched {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $out:ty)? $body:block) => {
        $(#[$doc])*
        $vis fn $name($($arg: $type),*) $(-> $out)? {
            #[inline(always)]
            fn body($($arg: $type),*) $(-> $out)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,avx2,fma")]
                fn avx512($($arg: $type),*) $(-> $out)? {
                    body($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $type),*) $(-> $out)? {
                    body($($arg),*)
                }
                match $crate::dense::level::Level::best() {
                    // SAFETY: the level was found on this processor.
                    $crate::dense::level::Level::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::dense::level::Level::Avx2 => return unsafe { avx2($($arg),*) },
                    _ => {}
                }
            }
            body($($arg),*)
        }
    };
}
pub(crate) use dispatched;

/// e^x to 2 units in the last place, for -87 ≤ x ≤ 88 (clamped there). Reduction by ln 2 in two parts and a
/// polynomial of degree 5 for the rest (Cephes, `expf`).
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    /// 1.5 · 2^23: adding it rounds to an integer.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_4;
    let r = r + n * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let p = p * r * r + r + 1.0;
    // The integer stands in the low bits of the shifted value.
    let scale = f32::from_bits((shifted.to_bits().wrapping_add(127)) << 23);
    p * scale
}

/// 1 / (1 + e^-x).
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// tanh x.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    1.0 - 2.0 / (exp(2.0 * x) + 1.0)
}

/// x · Φ(x) with the error function's rational approximation 7.1.26 of Abramowitz and Stegun (1964):
/// its error is at most 1.5e-7.
#[inline(always)]
pub fn gelu_one(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let mut p = 1.061_405_4;
    p = p * t - 1.453_152;
    p = p * t + 1.421_413_7;
    p = p * t - 0.284_496_72;
    p = p * t + 0.254_829_6;
    let tail = 0.5 * x * (p * t * exp(-z * z));
    if x >= 0.0 { x - tail } else { tail }
}

dispatched! {
    /// Replaces every `x` by `x · Φ(x)`.
    pub fn gelu(x: &mut [f32]) {
        for x in x {
            *x = gelu_one(*x);
        }
    }
}

dispatched! {
    /// Replaces every `x` below 0 by `e^x - 1`.
    pub fn elu(values: &mut [f32]) {
        for v in values {
            let x = *v;
            let below = exp(x.min(0.0)) - 1.0;
            *v = if x > 0.0 { x } else { below };
        }
    }
}

dispatched! {
    /// `x[r][i] = max(0, x[r][i] · gain[i] + shift[i])`; rows of the length of `gain`.
    pub fn affine_relu(x: &mut [f32], gain: &[f32], shift: &[f32]) {
        for x in x.chunks_mut(gain.len().max(1)) {
            for ((x, gain), shift) in x.iter_mut().zip(gain).zip(shift) {
                *x = (*x * gain + shift).max(0.0);
            }
        }
    }
}

dispatched! {
    /// One step of an LSTM cell. `gates` (input, forget, cell, output, before their nonlinearities) has four times
    /// the length of `cell` and `output`.
    pub fn lstm_cell(gates: &[f32], cell: &mut [f32], output: &mut [f32]) {
        let n = cell.len();
        let (i, rest) = gates.split_at(n);
        let (f, rest) = rest.split_at(n);
        let (g, o) = rest.split_at(n);
        let (o, output) = (&o[..n], &mut output[..n]);
        for k in 0..n {
            let c = sigmoid(f[k]) * cell[k] + sigmoid(i[k]) * tanh(g[k]);
            cell[k] = c;
            output[k] = sigmoid(o[k]) * tanh(c);
        }
    }
}

dispatched! {
    /// Gated linear unit over rows: `to[r][i] = x[r][i] · σ(x[r][n + i])`; `x` is `[rows][2n]`, `to` `[rows][n]`.
    pub fn glu(x: &[f32], n: usize, to: &mut [f32]) {
        for (x, to) in x.chunks_exact(2 * n).zip(to.chunks_exact_mut(n)) {
            let (a, b) = x.split_at(n);
            for ((to, a), b) in to.iter_mut().zip(a).zip(b) {
                *to = a * sigmoid(*b);
            }
        }
    }
}

dispatched! {
    /// `to[r][i] += scale[i] · y[r][i] · σ(y[r][n + i])` where `y = x · gain + shift` per column: a
    /// normalisation, the gate, a layer's scale and the residual in one pass. `x` is `[rows][2n]`, `to`
    /// `[rows][n]`, `gain` and `shift` have `2n` values, `scale` `n`.
    pub fn affine_glu_onto(x: &[f32], gain: &[f32], shift: &[f32], scale: &[f32], to: &mut [f32]) {
        let n = scale.len();
        let (gain_a, gain_b) = gain.split_at(n);
        let (shift_a, shift_b) = shift.split_at(n);
        let (gain_b, shift_b) = (&gain_b[..n], &shift_b[..n]);
        for (x, to) in x.chunks_exact(2 * n).zip(to.chunks_exact_mut(n)) {
            let (a, b) = x.split_at(n);
            for i in 0..n {
                let value = a[i] * gain_a[i] + shift_a[i];
                let gate = b[i] * gain_b[i] + shift_b[i];
                to[i] += scale[i] * (value * sigmoid(gate));
            }
        }
    }
}

dispatched! {
    /// `x[r][i] = gelu(x[r][i] · gain[i] + shift[i])`; rows of the length of `gain`.
    pub fn affine_gelu(x: &mut [f32], gain: &[f32], shift: &[f32]) {
        for x in x.chunks_mut(gain.len()) {
            for ((x, gain), shift) in x.iter_mut().zip(gain).zip(shift) {
                *x = gelu_one(*x * gain + shift);
            }
        }
    }
}

dispatched! {
    /// `x[r][i] = x[r][i] · gain[i] + shift[i]`; rows of the length of `gain`.
    pub fn affine(x: &mut [f32], gain: &[f32], shift: &[f32]) {
        for x in x.chunks_mut(gain.len()) {
            for ((x, gain), shift) in x.iter_mut().zip(gain).zip(shift) {
                *x = *x * gain + shift;
            }
        }
    }
}

dispatched! {
    /// `to[i] += scale[i] · x[i]`.
    pub fn scaled_onto(x: &[f32], scale: &[f32], to: &mut [f32]) {
        for ((to, x), scale) in to.iter_mut().zip(x).zip(scale) {
            *to += scale * x;
        }
    }
}

dispatched! {
    /// `to[i] += x[i]`.
    pub fn onto(x: &[f32], to: &mut [f32]) {
        for (to, x) in to.iter_mut().zip(x) {
            *to += x;
        }
    }
}

dispatched! {
    /// Replaces `x` by `e^(x - max)` and returns one over their sum: a softmax whose last step, the
    /// division, is left to what follows.
    pub fn softmax_unscaled(x: &mut [f32]) -> f32 {
        let mut most = [f32::NEG_INFINITY; 16];
        let chunks = x.chunks_exact(16);
        for &value in chunks.remainder() {
            most[0] = most[0].max(value);
        }
        for chunk in chunks {
            for (most, value) in most.iter_mut().zip(chunk) {
                *most = if *value > *most { *value } else { *most };
            }
        }
        let max = most.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
        let mut sums = [0.0f32; 16];
        let mut chunks = x.chunks_exact_mut(16);
        for chunk in &mut chunks {
            for (sum, value) in sums.iter_mut().zip(chunk) {
                *value = exp(*value - max);
                *sum += *value;
            }
        }
        for (sum, value) in sums.iter_mut().zip(chunks.into_remainder()) {
            *value = exp(*value - max);
            *sum += *value;
        }
        1.0 / sums.iter().map(|s| f64::from(*s)).sum::<f64>() as f32
    }
}

/// Turns scores into probabilities that sum to 1.
pub fn softmax(x: &mut [f32]) {
    let top = x.iter().copied().fold(f32::MIN, f32::max);
    let mut sum = 0.0;
    for v in x.iter_mut() {
        *v = (*v - top).exp();
        sum += *v;
    }
    x.iter_mut().for_each(|v| *v /= sum);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_exact_to_a_few_units() {
        for i in -8600..8700 {
            let x = i as f32 * 0.01;
            let truth = f64::from(x).exp();
            let error = (f64::from(exp(x)) - truth).abs() / truth;
            assert!(error < 3e-7, "{x}: {error:e}");
        }
        assert!(exp(f32::NEG_INFINITY) < 1e-37);
        assert!(exp(f32::NAN).is_nan());
    }

    /// erf by its Taylor series, which converges for every argument used here in double precision.
    fn erf(z: f64) -> f64 {
        let (mut term, mut sum) = (z, z);
        for n in 1..200 {
            term *= -z * z / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    }

    #[test]
    fn gelu_is_that_of_the_error_function() {
        let mut x: Vec<f32> = (-400..=400).map(|i| i as f32 * 0.01).collect();
        let truth: Vec<f64> = x
            .iter()
            .map(|&x| {
                let x = f64::from(x);
                0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2))
            })
            .collect();
        gelu(&mut x);
        for (a, b) in x.iter().zip(truth) {
            assert!((f64::from(*a) - b).abs() < 5e-7, "{a} {b}");
        }
    }

    #[test]
    fn units_of_the_codecs_equal_their_formulas() {
        let xs: Vec<f32> = (-2000..400).map(|i| i as f32 * 0.05).collect();
        let mut y = xs.clone();
        elu(&mut y);
        for (x, y) in xs.iter().zip(&y) {
            let expected = if *x > 0.0 {
                f64::from(*x)
            } else {
                f64::from(*x).exp_m1()
            };
            assert!((f64::from(*y) - expected).abs() < 1.2e-7, "elu({x}) = {y}");
        }
        let n = 64;
        let value = |i: usize| ((i * 37) % 101) as f32 * 0.02 - 1.0;
        let gates: Vec<f32> = (0..4 * n).map(|i| 9.0 * value(i)).collect();
        let before: Vec<f32> = (0..n).map(|i| value(i + 7)).collect();
        let (mut cell, mut out) = (before.clone(), vec![0.0; n]);
        lstm_cell(&gates, &mut cell, &mut out);
        let gate = |g: usize, i: usize| f64::from(gates[g * n + i]);
        let sigma = |x: f64| 1.0 / (1.0 + (-x).exp());
        for i in 0..n {
            let c =
                sigma(gate(1, i)) * f64::from(before[i]) + sigma(gate(0, i)) * gate(2, i).tanh();
            assert!((f64::from(cell[i]) - c).abs() < 5e-7);
            assert!((f64::from(out[i]) - sigma(gate(3, i)) * c.tanh()).abs() < 5e-7);
        }
        let x: Vec<f32> = (0..12).map(value).collect();
        let mut y = x.clone();
        affine_relu(&mut y, &[1.0, -2.0, 0.5], &[0.1, 0.2, -0.3]);
        for (i, y) in y.iter().enumerate() {
            let expected = x[i] * [1.0, -2.0, 0.5][i % 3] + [0.1, 0.2, -0.3][i % 3];
            assert!((y - expected.max(0.0)).abs() < 1e-6);
        }
    }

    #[test]
    fn gates_and_softmax_equal_their_formulas() {
        let x: Vec<f32> = (0..74)
            .map(|i| ((i * 37) % 23) as f32 * 0.3 - 3.0)
            .collect();
        let sigma = |x: f32| 1.0 / (1.0 + (-f64::from(x)).exp());
        let mut to = vec![0.0; 37];
        glu(&x, 37, &mut to);
        for i in 0..37 {
            assert!((f64::from(to[i]) - f64::from(x[i]) * sigma(x[37 + i])).abs() < 1e-6);
        }
        let mut soft = x.clone();
        let inverse = softmax_unscaled(&mut soft);
        let total: f64 = x.iter().map(|x| f64::from(*x).exp()).sum();
        for (soft, x) in soft.iter().zip(&x) {
            let truth = f64::from(*x).exp() / total;
            assert!((f64::from(soft * inverse) - truth).abs() < 1e-7);
        }
    }
}

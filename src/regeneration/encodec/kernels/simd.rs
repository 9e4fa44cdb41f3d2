// [worker] The inner loops, once for each instruction set: register tiles of a matrix product and maps.

/// Columns of a packed panel, whatever the instruction set. A multiple of every set's tile width.
pub(super) const PANEL: usize = 32;

/// `e^x` to about 1 unit in the last place for `x` in −87..=88 (clamped): `2^n · e^r` with `|r| ≤ ln 2 / 2` and
/// the Taylor polynomial of degree 7, whose remainder there is below 2⁻²⁴·0.1. Written so that the compiler
/// vectorises it.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    /// Adding and subtracting 1.5·2²³ rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts, the first with few enough bits that n times it is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN2_HIGH) - n * LN2_LOW;
    let mut p = 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    // The low bits of `shifted` hold n: put n + 127 in the exponent of a float.
    let scale = f32::from_bits((shifted.to_bits().wrapping_add(127)) << 23);
    p * scale
}

#[inline(always)]
fn elu_all(values: &mut [f32]) {
    for v in values {
        let x = *v;
        let below = exp(x.min(0.0)) - 1.0;
        *v = if x > 0.0 { x } else { below };
    }
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[inline(always)]
fn tanh(x: f32) -> f32 {
    1.0 - 2.0 / (exp(2.0 * x) + 1.0)
}

/// One step of an LSTM cell, gates in the order input, forget, cell, output, each `hidden` long.
#[inline(always)]
fn lstm_cell_all(gates: &[f32], cell: &mut [f32], output: &mut [f32]) {
    let hidden = cell.len();
    let (i, rest) = gates.split_at(hidden);
    let (f, rest) = rest.split_at(hidden);
    let (g, o) = rest.split_at(hidden);
    let o = &o[..hidden];
    let output = &mut output[..hidden];
    for n in 0..hidden {
        let c = sigmoid(f[n]) * cell[n] + sigmoid(i[n]) * tanh(g[n]);
        cell[n] = c;
        output[n] = sigmoid(o[n]) * tanh(c);
    }
}

/// `values[t][c] ← max(0, values[t][c]·scale[c] + shift[c])`, rows of `scale.len()`.
#[inline(always)]
fn affine_relu_all(values: &mut [f32], scale: &[f32], shift: &[f32]) {
    for row in values.chunks_exact_mut(scale.len()) {
        for ((v, s), b) in row.iter_mut().zip(scale).zip(shift) {
            *v = (*v * s + b).max(0.0);
        }
    }
}

/// Where a tile's sums start from.
#[derive(Clone, Copy)]
pub(super) struct Start {
    /// Add what the output holds.
    pub add: bool,
    /// [`PANEL`] values to add, or null.
    pub bias: *const f32,
}

macro_rules! backend {
    ($d:tt $name:ident, $lanes:expr, $rows:expr, $vector:ty, $zero:expr, $load:expr, $store:expr, $splat:expr, $fma:expr, $add:expr
     $(, #[$feature:meta])*) => {
        pub(super) mod $name {
            #[allow(unused_imports)]
            use super::*;

            /// Rows of the largest register tile: its sums must fit the registers.
            const ROWS: usize = $rows;
            const LANES: usize = $lanes;
            type Tile = unsafe fn(usize, *const f32, usize, *const f32, *mut f32, usize, Start);

            /// Makes a register tile of fixed rows, written out: loops over rows would keep the sums in memory.
            macro_rules! tile {
                ($tile:ident: $rows_of_tile:literal = $d($r:literal)*) => {
                    /// `out[r][0..32] = start + Σ_k a[r·lda + k]·b[k·32 + column]`.
                    ///
                    /// # Safety
                    /// `a` must be readable for the tile's rows of `k` at distance `lda`, `b` for `k·32`, `out` writable
                    /// for the rows of 32 at distance `ldo`; the processor must have the instruction set.
                    $(#[$feature])*
                    unsafe fn $tile(
                        k: usize, a: *const f32, lda: usize, b: *const f32, out: *mut f32, ldo: usize, start: Start,
                    ) {
                        // SAFETY: the caller's promise; offsets stay within the stated extents.
                        unsafe {
                            let mut column = 0;
                            while column < PANEL {
                                let mut sums = [[$zero; 2]; $rows_of_tile];
                                let mut bk = b.add(column);
                                for i in 0..k {
                                    let (b0, b1) = ($load(bk), $load(bk.add(LANES)));
                                    $d(
                                        let x = $splat(*a.add($r * lda + i));
                                        sums[$r][0] = $fma(x, b0, sums[$r][0]);
                                        sums[$r][1] = $fma(x, b1, sums[$r][1]);
                                    )*
                                    bk = bk.add(PANEL);
                                }
                                $d(
                                    for v in 0..2 {
                                        let at = column + v * LANES;
                                        let to = out.add($r * ldo + at);
                                        let mut sum = sums[$r][v];
                                        if !start.bias.is_null() {
                                            sum = $add(sum, $load(start.bias.add(at)));
                                        }
                                        if start.add {
                                            sum = $add(sum, $load(to));
                                        }
                                        $store(to, sum);
                                    }
                                )*
                                column += 2 * LANES;
                            }
                        }
                    }
                };
            }
            tile!(tile1: 1 = 0);
            tile!(tile2: 2 = 0 1);
            tile!(tile4: 4 = 0 1 2 3);
            tile!(tile6: 6 = 0 1 2 3 4 5);
            tile!(tile12: 12 = 0 1 2 3 4 5 6 7 8 9 10 11);

            /// The tiles for any number of rows.
            ///
            /// # Safety
            /// As the tiles, with `rows` rows.
            $(#[$feature])*
            #[allow(clippy::too_many_arguments)]
            pub unsafe fn rows(
                rows: usize, k: usize, a: *const f32, lda: usize, b: *const f32, out: *mut f32, ldo: usize, start: Start,
            ) {
                // SAFETY: the caller's promise, tile by tile.
                unsafe {
                    let mut row = 0;
                    while row < rows {
                        let (a, out) = (a.add(row * lda), out.add(row * ldo));
                        let tile = match (rows - row).min(ROWS) {
                            12.. => (12, tile12 as Tile),
                            6.. => (6, tile6 as Tile),
                            4.. => (4, tile4 as Tile),
                            2.. => (2, tile2 as Tile),
                            _ => (1, tile1 as Tile),
                        };
                        tile.1(k, a, lda, b, out, ldo, start);
                        row += tile.0;
                    }
                }
            }

            /// # Safety
            /// The processor must have the instruction set.
            $(#[$feature])*
            pub unsafe fn elu(values: &mut [f32]) {
                elu_all(values);
            }

            /// # Safety
            /// The processor must have the instruction set.
            $(#[$feature])*
            pub unsafe fn lstm_cell(gates: &[f32], cell: &mut [f32], output: &mut [f32]) {
                lstm_cell_all(gates, cell, output);
            }

            /// # Safety
            /// The processor must have the instruction set.
            $(#[$feature])*
            pub unsafe fn affine_relu(values: &mut [f32], scale: &[f32], shift: &[f32]) {
                affine_relu_all(values, scale, shift);
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

#[cfg(target_arch = "x86_64")]
backend!($ avx512, 16, 12, __m512, _mm512_setzero_ps(), _mm512_loadu_ps, _mm512_storeu_ps, _mm512_set1_ps, _mm512_fmadd_ps,
    _mm512_add_ps, #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]);
#[cfg(target_arch = "x86_64")]
backend!($ avx2, 8, 6, __m256, _mm256_setzero_ps(), _mm256_loadu_ps, _mm256_storeu_ps, _mm256_set1_ps, _mm256_fmadd_ps,
    _mm256_add_ps, #[target_feature(enable = "avx2,fma")]);

#[cfg(target_arch = "aarch64")]
use std::arch::aarch64::*;
#[cfg(target_arch = "aarch64")]
backend!(
    $ neon,
    4,
    12,
    float32x4_t,
    vdupq_n_f32(0.0),
    vld1q_f32,
    vst1q_f32,
    vdupq_n_f32,
    |x, y, sum| vfmaq_f32(sum, x, y),
    vaddq_f32
);

/// Four floats for processors without a kernel of their own.
#[cfg(not(target_arch = "aarch64"))]
#[derive(Clone, Copy)]
pub(super) struct Four([f32; 4]);

#[cfg(not(target_arch = "aarch64"))]
impl Four {
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller promises four readable floats.
        Self(unsafe { from.cast::<[f32; 4]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, x: Self) {
        // SAFETY: the caller promises four writable floats.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(x.0) }
    }

    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self([x; 4])
    }

    #[inline(always)]
    fn multiply_add(x: Self, y: Self, sum: Self) -> Self {
        Self(std::array::from_fn(|i| x.0[i] * y.0[i] + sum.0[i]))
    }

    #[inline(always)]
    fn add(x: Self, y: Self) -> Self {
        Self(std::array::from_fn(|i| x.0[i] + y.0[i]))
    }
}

#[cfg(not(target_arch = "aarch64"))]
backend!($ portable, 4, 4, Four, Four([0.0; 4]), Four::load, Four::store, Four::splat, Four::multiply_add, Four::add);

// [worker] Plain f32 kernels for the neural codecs on the processor: matrix products on strided views, maps, threads.
//
// Buffers are channels-last, `[time][channel]`. A convolution of kernel `k` and stride `s` is then one matrix product
// on an overlapping view: row `t` starts at `t·s·channels` and is `k·channels` long. No copy of the input is made.

mod simd;

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use simd::{PANEL, Start};

/// Rows and depth of a block of a product: 120 × 512 f32 of the left side stay in a core's L2 cache.
const BLOCK_ROWS: usize = 120;
const BLOCK_DEPTH: usize = 512;

/// The right side of a product `[depth][columns]`, cut into panels of 32 columns that lie one after another.
pub(crate) struct Packed {
    pub depth: usize,
    pub columns: usize,
    /// `[columns / 32][depth][32]`, the last panel filled up with zeros.
    panels: Vec<f32>,
    /// One value a column, filled up with zeros; empty if there is none.
    bias: Vec<f32>,
}

impl Packed {
    /// Packs `value(k, n)`, with `bias` (empty or one a column) that every product adds.
    pub fn new(
        depth: usize,
        columns: usize,
        bias: &[f32],
        value: impl Fn(usize, usize) -> f32,
    ) -> Self {
        let width = columns.div_ceil(PANEL) * PANEL;
        let mut panels = vec![0.0; width * depth];
        for (p, panel) in panels.chunks_exact_mut(depth.max(1) * PANEL).enumerate() {
            let first = p * PANEL;
            let last = (first + PANEL).min(columns);
            for (k, row) in panel.chunks_exact_mut(PANEL).enumerate() {
                for n in first..last {
                    row[n - first] = value(k, n);
                }
            }
        }
        let mut padded = bias.to_vec();
        if !padded.is_empty() {
            padded.resize(width, 0.0);
        }
        Self {
            depth,
            columns,
            panels,
            bias: padded,
        }
    }
}

/// What a product does with what its output holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Into {
    Replace,
    Add,
}

/// `out[m][n] (+)= Σ_k a[m·lda + k]·w[k][n] + bias[n]` for `rows` rows, `out` with `ldo` values from row to row.
/// The order of the sums depends on nothing but the shapes.
///
/// # Panics
/// If `a` or `out` are too short for `rows`: a defect of the caller.
pub(crate) fn product(
    a: &[f32],
    lda: usize,
    rows: usize,
    w: &Packed,
    out: &mut [f32],
    ldo: usize,
    into: Into,
) {
    if rows == 0 || w.columns == 0 || w.depth == 0 {
        return;
    }
    assert!(a.len() >= (rows - 1) * lda + w.depth, "left side too short");
    assert!(
        out.len() >= (rows - 1) * ldo + w.columns && ldo >= w.columns,
        "output too short"
    );
    let mut narrow = Vec::new();
    if !w.columns.is_multiple_of(PANEL) {
        narrow = vec![0.0f32; BLOCK_ROWS.min(rows) * PANEL];
    }
    for row in (0..rows).step_by(BLOCK_ROWS) {
        let now = (rows - row).min(BLOCK_ROWS);
        for k in (0..w.depth).step_by(BLOCK_DEPTH) {
            let depth = (w.depth - k).min(BLOCK_DEPTH);
            let left = &a[row * lda + k..];
            for (p, panel) in w.panels.chunks_exact(w.depth * PANEL).enumerate() {
                let first = p * PANEL;
                let bias = if k == 0 && !w.bias.is_empty() {
                    w.bias[first..first + PANEL].as_ptr()
                } else {
                    std::ptr::null()
                };
                let start = Start {
                    add: k > 0 || into == Into::Add,
                    bias,
                };
                let panel = &panel[k * PANEL..];
                let to = &mut out[row * ldo + first..];
                let columns = (w.columns - first).min(PANEL);
                // SAFETY: the assertions above hold for every block: rows `row..row + now` of the left side reach
                // `(rows − 1)·lda + depth`, the panel has `depth` rows of 32 from `k` on, and the output has
                // 32 columns from `first` on in every row (or goes through `narrow`, which has them).
                unsafe {
                    if columns == PANEL {
                        tiles(
                            now,
                            depth,
                            left.as_ptr(),
                            lda,
                            panel.as_ptr(),
                            to.as_mut_ptr(),
                            ldo,
                            start,
                        );
                    } else {
                        if start.add {
                            for r in 0..now {
                                narrow[r * PANEL..r * PANEL + columns]
                                    .copy_from_slice(&to[r * ldo..r * ldo + columns]);
                            }
                        }
                        let tmp = narrow.as_mut_ptr();
                        tiles(
                            now,
                            depth,
                            left.as_ptr(),
                            lda,
                            panel.as_ptr(),
                            tmp,
                            PANEL,
                            start,
                        );
                        for r in 0..now {
                            to[r * ldo..r * ldo + columns]
                                .copy_from_slice(&narrow[r * PANEL..r * PANEL + columns]);
                        }
                    }
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Avx512,
    Avx2,
    Portable,
}

#[cfg(target_arch = "x86_64")]
fn level() -> Level {
    if is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512bw")
    {
        Level::Avx512
    } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        Level::Avx2
    } else {
        Level::Portable
    }
}

/// Calls a kernel of the best instruction set that this processor has.
macro_rules! dispatch {
    ($kernel:ident($($argument:expr),*)) => {{
        // SAFETY: the level was detected; the kernel's other needs are the caller's promise.
        #[cfg(target_arch = "x86_64")]
        #[allow(unused_unsafe)]
        unsafe {
            match level() {
                Level::Avx512 => simd::avx512::$kernel($($argument),*),
                Level::Avx2 => simd::avx2::$kernel($($argument),*),
                Level::Portable => simd::portable::$kernel($($argument),*),
            }
        }
        // SAFETY: NEON is part of every 64-bit Arm processor.
        #[cfg(target_arch = "aarch64")]
        #[allow(unused_unsafe)]
        unsafe {
            simd::neon::$kernel($($argument),*)
        }
        // SAFETY: the portable kernels need no instruction set.
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        #[allow(unused_unsafe)]
        unsafe {
            simd::portable::$kernel($($argument),*)
        }
    }};
}

/// # Safety
/// As the kernels' `rows`.
#[allow(clippy::too_many_arguments)]
unsafe fn tiles(
    rows: usize,
    k: usize,
    a: *const f32,
    lda: usize,
    b: *const f32,
    out: *mut f32,
    ldo: usize,
    start: Start,
) {
    dispatch!(rows(rows, k, a, lda, b, out, ldo, start));
}

/// `x ← x` above 0, `e^x − 1` below.
pub(crate) fn elu(values: &mut [f32]) {
    dispatch!(elu(values));
}

/// One step of an LSTM cell. `gates` (input, forget, cell, output, before their nonlinearities) has four times
/// the length of `cell` and `output`.
///
/// # Panics
/// If the lengths do not fit: a defect of the caller.
pub(crate) fn lstm_cell(gates: &[f32], cell: &mut [f32], output: &mut [f32]) {
    assert!(gates.len() == 4 * cell.len() && output.len() == cell.len());
    dispatch!(lstm_cell(gates, cell, output));
}

/// `max(0, x·scale + shift)`, rows of `scale.len()` channels.
///
/// # Panics
/// If the lengths do not fit: a defect of the caller.
pub(crate) fn affine_relu(values: &mut [f32], scale: &[f32], shift: &[f32]) {
    assert!(scale.len() == shift.len() && values.len().is_multiple_of(scale.len().max(1)));
    if !scale.is_empty() {
        dispatch!(affine_relu(values, scale, shift));
    }
}

/// Threads to compute with.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Cuts `out` into pieces of `piece` values and gives each with its number and a scratch to `work`, on all cores.
/// Which thread computes a piece changes nothing in it. Returns when all are done.
pub(crate) fn for_pieces<S: Default>(
    out: &mut [f32],
    piece: usize,
    work: impl Fn(usize, &mut [f32], &mut S) + Sync,
) {
    let pieces: Vec<Mutex<&mut [f32]>> = out.chunks_mut(piece.max(1)).map(Mutex::new).collect();
    let next = AtomicUsize::new(0);
    let run = || {
        let mut scratch = S::default();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(piece) = pieces.get(i) else { break };
            // Nobody else takes this piece: the lock is free.
            work(
                i,
                &mut piece.lock().unwrap_or_else(PoisonError::into_inner),
                &mut scratch,
            );
        }
    };
    let workers = threads().min(pieces.len());
    if workers <= 1 {
        return run();
    }
    std::thread::scope(|scope| {
        for _ in 1..workers {
            scope.spawn(run);
        }
        run();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(n: usize, seed: u32) -> Vec<f32> {
        (0..n as u32)
            .map(|i| {
                let x = (i ^ seed.wrapping_mul(0x9e37)).wrapping_mul(2_654_435_761);
                (x >> 8) as f32 / 8_388_608.0 - 1.0
            })
            .collect()
    }

    /// The product as it is written, in f64, and how far f32 sums may be from it.
    fn slow(
        a: &[f32],
        lda: usize,
        b: &[f32],
        depth: usize,
        columns: usize,
        m: usize,
        n: usize,
    ) -> f64 {
        (0..depth)
            .map(|k| f64::from(a[m * lda + k]) * f64::from(b[k * columns + n]))
            .sum()
    }

    #[test]
    fn products_equal_the_plain_sum() {
        for (rows, depth, columns, lda, into) in [
            (1, 1, 1, 1, Into::Replace),
            (13, 7, 64, 3, Into::Replace),
            (25, 600, 33, 610, Into::Add),
            (121, 513, 96, 40, Into::Add),
            (11, 20, 31, 20, Into::Replace),
        ] {
            let a = values((rows - 1) * lda + depth, 1);
            let b = values(depth * columns, 2);
            let bias = values(columns, 3);
            let w = Packed::new(depth, columns, &bias, |k, n| b[k * columns + n]);
            // Dirty output, rows wider than what is written.
            let ldo = columns + 5;
            let before = values(rows * ldo, 4);
            let mut out = before.clone();
            product(&a, lda, rows, &w, &mut out, ldo, into);
            for m in 0..rows {
                for n in 0..ldo {
                    let was = before[m * ldo + n];
                    let at = out[m * ldo + n];
                    if n >= columns {
                        assert_eq!(at, was, "written outside");
                        continue;
                    }
                    let start = if into == Into::Add {
                        f64::from(was)
                    } else {
                        0.0
                    };
                    let expected =
                        slow(&a, lda, &b, depth, columns, m, n) + f64::from(bias[n]) + start;
                    let error = (f64::from(at) - expected).abs();
                    assert!(error < 1e-7 * depth as f64 + 1e-6, "{m} {n}: {error:e}");
                }
            }
        }
    }

    /// Every instruction set that this processor has, not only the one that is chosen.
    #[test]
    fn instruction_sets_agree() {
        let (rows, depth) = (23, 70);
        let a = values(rows * depth, 5);
        let b = values(depth * PANEL, 6);
        let start = Start {
            add: false,
            bias: std::ptr::null(),
        };
        type Kernel =
            unsafe fn(usize, usize, *const f32, usize, *const f32, *mut f32, usize, Start);
        #[allow(unused_mut)]
        let mut kernels: Vec<Kernel> = Vec::new();
        #[cfg(not(target_arch = "aarch64"))]
        kernels.push(simd::portable::rows);
        #[cfg(target_arch = "aarch64")]
        kernels.push(simd::neon::rows);
        #[cfg(target_arch = "x86_64")]
        if level() != Level::Portable {
            kernels.push(simd::avx2::rows);
        }
        #[cfg(target_arch = "x86_64")]
        if level() == Level::Avx512 {
            kernels.push(simd::avx512::rows);
        }
        for kernel in kernels {
            let mut out = vec![f32::NAN; rows * PANEL];
            let (pa, pb, po) = (a.as_ptr(), b.as_ptr(), out.as_mut_ptr());
            // SAFETY: the buffers have these extents, and the instruction set was detected.
            unsafe { kernel(rows, depth, pa, depth, pb, po, PANEL, start) };
            for m in 0..rows {
                for n in 0..PANEL {
                    let expected = slow(&a, depth, &b, depth, PANEL, m, n);
                    assert!((f64::from(out[m * PANEL + n]) - expected).abs() < 1e-5);
                }
            }
        }
    }

    #[test]
    fn maps_equal_their_formulas() {
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
        let gates = values(4 * n, 7)
            .iter()
            .map(|x| x * 9.0)
            .collect::<Vec<f32>>();
        let before = values(n, 8);
        let (mut cell, mut out) = (before.clone(), vec![0.0; n]);
        lstm_cell(&gates, &mut cell, &mut out);
        let gate = |g: usize, i: usize| f64::from(gates[g * n + i]);
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        for i in 0..n {
            let c = sigmoid(gate(1, i)) * f64::from(before[i])
                + sigmoid(gate(0, i)) * gate(2, i).tanh();
            assert!((f64::from(cell[i]) - c).abs() < 5e-7);
            assert!((f64::from(out[i]) - sigmoid(gate(3, i)) * c.tanh()).abs() < 5e-7);
        }
        let mut y = values(12, 9);
        let x = y.clone();
        affine_relu(&mut y, &[1.0, -2.0, 0.5], &[0.1, 0.2, -0.3]);
        for (i, y) in y.iter().enumerate() {
            let expected = x[i] * [1.0, -2.0, 0.5][i % 3] + [0.1, 0.2, -0.3][i % 3];
            assert!((y - expected.max(0.0)).abs() < 1e-6);
        }
    }

    #[test]
    fn every_piece_is_worked_on_once() {
        let mut out = vec![0.0f32; 1003];
        for_pieces(&mut out, 10, |i, piece, count: &mut usize| {
            *count += 1;
            piece.iter_mut().for_each(|x| *x += i as f32 + 1.0);
        });
        assert!(
            out.iter()
                .enumerate()
                .all(|(n, &x)| x == (n / 10 + 1) as f32)
        );
    }
}

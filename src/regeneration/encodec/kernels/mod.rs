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
    pub fn new(depth: usize, columns: usize, bias: &[f32], value: impl Fn(usize, usize) -> f32) -> Self {
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
    assert!(out.len() >= (rows - 1) * ldo + w.columns && ldo >= w.columns, "output too short");
    let mut narrow = Vec::new();
    if w.columns % PANEL != 0 {
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
                        tiles(now, depth, left.as_ptr(), lda, panel.as_ptr(), to.as_mut_ptr(), ldo, start);
                    } else {
                        if start.add {
                            for r in 0..now {
                                narrow[r * PANEL..r * PANEL + columns]
                                    .copy_from_slice(&to[r * ldo..r * ldo + columns]);
                            }
                        }
                        let tmp = narrow.as_mut_ptr();
                        tiles(now, depth, left.as_ptr(), lda, panel.as_ptr(), tmp, PANEL, start);
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
    assert!(scale.len() == shift.len() && values.len() % scale.len().max(1) == 0);
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
            work(i, &mut piece.lock().unwrap_or_else(PoisonError::into_inner), &mut scratch);
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

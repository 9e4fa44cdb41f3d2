// [worker] The innermost loops of a matrix product, unrolled by macro for every vector width.
//
// A tile is a few rows times one or two vectors of columns, held in registers over the whole depth.
// Plain loops over arrays reach 42 GFLOP/s a core where these reach over 100: the compiler keeps named
// variables in registers, and arrays not always.

use super::level::Level;

/// One tile of a product: `c[i][j] = bias[j] + Σ_k a[i][k] · b[k][j]`, or that added to `c`.
pub struct Tile<'a> {
    /// First element of row 0; row `i` begins `i * a_stride` later.
    pub a: *const f32,
    pub a_stride: usize,
    /// Where the pieces of a row lie, relative to its beginning, in the order of the depth.
    pub segments: &'a [usize],
    /// Elements of each piece.
    pub segment_len: usize,
    /// `[depth][width]`, packed.
    pub b: *const f32,
    /// `[width]`.
    pub bias: *const f32,
    pub c: *mut f32,
    pub c_stride: usize,
    /// Whether the sums are added to what `c` holds.
    pub add: bool,
    /// What is asked for meanwhile, a piece for every four lines of the depth: the panel that comes next. Nothing is
    /// read there.
    pub next: *const f32,
}

/// Computes one tile of a fixed number of rows and columns.
///
/// # Safety
/// The processor has the kernel's instructions; all of `a`, `b` and `bias` that the tile names is
/// readable, and `c` is writable.
pub type Kernel = unsafe fn(&Tile);

/// The kernels of a level: row counts descending to 1, with the wide (two vectors) and the narrow one.
pub fn kernels(level: Level) -> &'static [(usize, Kernel, Kernel)] {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => &[
            (12, avx512::wide12, avx512::narrow12),
            (8, avx512::wide8, avx512::narrow8),
            (4, avx512::wide4, avx512::narrow4),
            (2, avx512::wide2, avx512::narrow2),
            (1, avx512::wide1, avx512::narrow1),
        ],
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => &[
            (6, avx2::wide6, avx2::narrow6),
            (4, avx2::wide4, avx2::narrow4),
            (2, avx2::wide2, avx2::narrow2),
            (1, avx2::wide1, avx2::narrow1),
        ],
        #[cfg(target_arch = "aarch64")]
        Level::Neon => &[
            (8, neon::wide8, neon::narrow8),
            (4, neon::wide4, neon::narrow4),
            (2, neon::wide2, neon::narrow2),
            (1, neon::wide1, neon::narrow1),
        ],
        _ => &[
            (4, scalar::<4, 8>, scalar::<4, 4>),
            (1, scalar::<1, 8>, scalar::<1, 4>),
        ],
    }
}

#[inline(always)]
unsafe fn scalar<const ROWS: usize, const WIDTH: usize>(t: &Tile) {
    let mut sums = [[0.0f32; WIDTH]; ROWS];
    // SAFETY: the caller's promise.
    unsafe {
        let mut b = t.b;
        for &segment in t.segments {
            let a = t.a.add(segment);
            for k in 0..t.segment_len {
                for (i, row) in sums.iter_mut().enumerate() {
                    let x = *a.add(i * t.a_stride + k);
                    for (j, sum) in row.iter_mut().enumerate() {
                        *sum += x * *b.add(j);
                    }
                }
                b = b.add(WIDTH);
            }
        }
        for (i, row) in sums.iter().enumerate() {
            for (j, sum) in row.iter().enumerate() {
                let to = t.c.add(i * t.c_stride + j);
                let before = if t.add { *to } else { 0.0 };
                *to = before + (sum + *t.bias.add(j));
            }
        }
    }
}

/// One step of the depth for every row of a tile.
#[allow(unused_macros)]
macro_rules! step {
    (wide, $v:literal, $load:path, $set:path, $fma:path; $a:ident, $b:ident, $stride:ident, $k:literal; $($row:literal $x:ident $y:ident),+) => {
        let b0 = $load($b.add(2 * $v * $k));
        let b1 = $load($b.add(2 * $v * $k + $v));
        $(
            let value = $set(*$a.add($row * $stride + $k));
            $x = $fma($x, value, b0);
            $y = $fma($y, value, b1);
        )+
    };
    (narrow, $v:literal, $load:path, $set:path, $fma:path; $a:ident, $b:ident, $stride:ident, $k:literal; $($row:literal $x:ident),+) => {
        let b0 = $load($b.add($v * $k));
        $(
            let value = $set(*$a.add($row * $stride + $k));
            $x = $fma($x, value, b0);
        )+
    };
}

#[allow(unused_macros)]
macro_rules! kernel {
    (wide $name:ident, $feature:literal, $v:literal, $zero:path, $load:path, $store:path, $set:path, $fma:path, $add:path, $ask:path; $($row:literal $x:ident $y:ident),+) => {
        #[target_feature(enable = $feature)]
        pub unsafe fn $name(t: &Tile) {
            // SAFETY: the caller's promise.
            unsafe {
                $(let (mut $x, mut $y) = ($zero(), $zero());)+
                let stride = t.a_stride;
                let mut b = t.b;
                let mut next = t.next;
                for &segment in t.segments {
                    let mut a = t.a.add(segment);
                    let mut left = t.segment_len;
                    while left >= 4 {
                        $ask(next);
                        next = next.wrapping_add(2 * $v);
                        step!(wide, $v, $load, $set, $fma; a, b, stride, 0; $($row $x $y),+);
                        step!(wide, $v, $load, $set, $fma; a, b, stride, 1; $($row $x $y),+);
                        step!(wide, $v, $load, $set, $fma; a, b, stride, 2; $($row $x $y),+);
                        step!(wide, $v, $load, $set, $fma; a, b, stride, 3; $($row $x $y),+);
                        a = a.add(4);
                        b = b.add(8 * $v);
                        left -= 4;
                    }
                    while left > 0 {
                        step!(wide, $v, $load, $set, $fma; a, b, stride, 0; $($row $x $y),+);
                        a = a.add(1);
                        b = b.add(2 * $v);
                        left -= 1;
                    }
                }
                let (bias0, bias1) = ($load(t.bias), $load(t.bias.add($v)));
                $(
                    $x = $add($x, bias0);
                    $y = $add($y, bias1);
                    let to = t.c.add($row * t.c_stride);
                    if t.add {
                        $x = $add($load(to), $x);
                        $y = $add($load(to.add($v)), $y);
                    }
                    $store(to, $x);
                    $store(to.add($v), $y);
                )+
            }
        }
    };
    (narrow $name:ident, $feature:literal, $v:literal, $zero:path, $load:path, $store:path, $set:path, $fma:path, $add:path, $ask:path; $($row:literal $x:ident),+) => {
        #[target_feature(enable = $feature)]
        pub unsafe fn $name(t: &Tile) {
            // SAFETY: the caller's promise.
            unsafe {
                $(let mut $x = $zero();)+
                let stride = t.a_stride;
                let mut b = t.b;
                for &segment in t.segments {
                    let mut a = t.a.add(segment);
                    let mut left = t.segment_len;
                    while left >= 4 {
                        step!(narrow, $v, $load, $set, $fma; a, b, stride, 0; $($row $x),+);
                        step!(narrow, $v, $load, $set, $fma; a, b, stride, 1; $($row $x),+);
                        step!(narrow, $v, $load, $set, $fma; a, b, stride, 2; $($row $x),+);
                        step!(narrow, $v, $load, $set, $fma; a, b, stride, 3; $($row $x),+);
                        a = a.add(4);
                        b = b.add(4 * $v);
                        left -= 4;
                    }
                    while left > 0 {
                        step!(narrow, $v, $load, $set, $fma; a, b, stride, 0; $($row $x),+);
                        a = a.add(1);
                        b = b.add($v);
                        left -= 1;
                    }
                }
                let bias0 = $load(t.bias);
                $(
                    $x = $add($x, bias0);
                    let to = t.c.add($row * t.c_stride);
                    if t.add {
                        $x = $add($load(to), $x);
                    }
                    $store(to, $x);
                )+
            }
        }
    };
}

/// The wide and the narrow kernel of each height that is named, for one kind of vector: its instructions, lanes,
/// zero, load, store, broadcast, multiply-add and add.
#[allow(unused_macros)]
macro_rules! heights {
    ($with:tt; $($wide:ident $narrow:ident $height:tt),+) => {
        $(heights!(@$height $wide $narrow $with);)+
    };
    (@1 $($to:tt)+) => { heights!(=$($to)+ 0 c0 d0); };
    (@2 $($to:tt)+) => { heights!(=$($to)+ 0 c0 d0, 1 c1 d1); };
    (@4 $($to:tt)+) => { heights!(=$($to)+ 0 c0 d0, 1 c1 d1, 2 c2 d2, 3 c3 d3); };
    (@6 $($to:tt)+) => { heights!(=$($to)+ 0 c0 d0, 1 c1 d1, 2 c2 d2, 3 c3 d3, 4 c4 d4, 5 c5 d5); };
    (@8 $($to:tt)+) => {
        heights!(=$($to)+ 0 c0 d0, 1 c1 d1, 2 c2 d2, 3 c3 d3, 4 c4 d4, 5 c5 d5, 6 c6 d6, 7 c7 d7);
    };
    (@12 $($to:tt)+) => {
        heights!(=$($to)+ 0 c0 d0, 1 c1 d1, 2 c2 d2, 3 c3 d3, 4 c4 d4, 5 c5 d5, 6 c6 d6, 7 c7 d7, 8 c8 d8, 9 c9 d9,
            10 c10 d10, 11 c11 d11);
    };
    (=$wide:ident $narrow:ident ($($with:tt)+) $($row:literal $x:ident $y:ident),+) => {
        kernel!(wide $wide, $($with)+; $($row $x $y),+);
        kernel!(narrow $narrow, $($with)+; $($row $x),+);
    };
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::Tile;
    use std::arch::x86_64::{
        __m512, _MM_HINT_T0, _mm_prefetch, _mm512_add_ps, _mm512_fmadd_ps, _mm512_loadu_ps,
        _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
    };

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn fma(sum: __m512, a: __m512, b: __m512) -> __m512 {
        _mm512_fmadd_ps(a, b, sum)
    }

    /// Two cache lines of `next`.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn ask(next: *const f32) {
        _mm_prefetch::<_MM_HINT_T0>(next.cast());
        _mm_prefetch::<_MM_HINT_T0>(next.wrapping_add(16).cast());
    }

    heights!(("avx512f", 16, _mm512_setzero_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_set1_ps, fma, _mm512_add_ps, ask);
        wide12 narrow12 12, wide8 narrow8 8, wide4 narrow4 4, wide2 narrow2 2, wide1 narrow1 1);
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::Tile;
    use std::arch::x86_64::{
        __m256, _MM_HINT_T0, _mm_prefetch, _mm256_add_ps, _mm256_fmadd_ps, _mm256_loadu_ps,
        _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps,
    };

    #[target_feature(enable = "avx2,fma")]
    #[inline]
    fn fma(sum: __m256, a: __m256, b: __m256) -> __m256 {
        _mm256_fmadd_ps(a, b, sum)
    }

    /// A cache line of `next`.
    #[target_feature(enable = "avx2,fma")]
    #[inline]
    fn ask(next: *const f32) {
        _mm_prefetch::<_MM_HINT_T0>(next.cast());
    }

    heights!(("avx2,fma", 8, _mm256_setzero_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_set1_ps, fma, _mm256_add_ps, ask);
        wide6 narrow6 6, wide4 narrow4 4, wide2 narrow2 2, wide1 narrow1 1);
}

#[cfg(target_arch = "aarch64")]
mod neon {
    use super::Tile;
    use std::arch::aarch64::{
        float32x4_t, vaddq_f32, vdupq_n_f32, vfmaq_f32, vld1q_f32, vst1q_f32,
    };

    #[target_feature(enable = "neon")]
    #[inline]
    fn zero() -> float32x4_t {
        vdupq_n_f32(0.0)
    }

    /// There is no stable way to ask.
    #[target_feature(enable = "neon")]
    #[inline]
    fn ask(_next: *const f32) {}

    heights!(("neon", 4, zero, vld1q_f32, vst1q_f32, vdupq_n_f32, vfmaq_f32, vaddq_f32, ask);
        wide8 narrow8 8, wide4 narrow4 4, wide2 narrow2 2, wide1 narrow1 1);
}

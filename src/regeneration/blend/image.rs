// [worker] Gives a rebuilt mono stem the stereo image of the stem it replaces.

use std::borrow::Cow;

use super::super::resynthesis::{Spectra, spectra::smooth};
use realfft::num_complex::Complex32;

/// `rebuilt` in each of the channels `own`, whose mean is `mono`: each bin is panned as the stem's own
/// is, and what the channels have besides their common part stays, no louder than the rebuilt bin
/// makes it.
pub(super) fn place(
    spectra: &mut Spectra,
    mono: &[f32],
    rebuilt: &[f32],
    own: &[Cow<'_, [f32]>],
) -> Vec<Vec<f32>> {
    let bins = spectra.bins();
    let len = mono.len();
    let mut out = vec![vec![0.0f32; len]; own.len()];
    let zero = vec![Complex32::default(); bins];
    let (mut m, mut r) = (zero.clone(), zero.clone());
    let mut channels = vec![zero.clone(); own.len()];
    // Running means over about eight frames: an instrument stays where it stands.
    const KEEP: f32 = 0.88;
    let mut cross = vec![vec![0.0f32; bins]; own.len()];
    let mut common = vec![1e-12f32; bins];
    let mut power = vec![0.0f32; bins];
    let (mut before, mut after) = (vec![0.0f32; bins], vec![0.0f32; bins]);
    let mut placed = zero;
    for start in spectra.starts(len) {
        spectra.analyse(mono, start, &mut m);
        spectra.analyse(rebuilt, start, &mut r);
        for (c, x) in channels.iter_mut().zip(own) {
            spectra.analyse(x, start, c);
        }
        for k in 0..bins {
            common[k] = KEEP * common[k] + m[k].norm_sqr();
            for (sum, c) in cross.iter_mut().zip(&channels) {
                sum[k] = KEEP * sum[k] + (c[k] * m[k].conj()).re;
            }
            power[k] = m[k].norm_sqr();
        }
        smooth(&power, 3, &mut before);
        for (p, r) in power.iter_mut().zip(&r) {
            *p = r.norm_sqr();
        }
        smooth(&power, 3, &mut after);
        for ((c, sum), out) in channels.iter().zip(&cross).zip(&mut out) {
            for k in 0..bins {
                let pan = if common[k] > 1e-10 {
                    (sum[k] / common[k]).clamp(-4.0, 4.0)
                } else {
                    1.0
                };
                let side = (after[k] / before[k].max(1e-12)).sqrt().min(1.0);
                placed[k] = r[k] * pan + (c[k] - m[k] * pan) * side;
            }
            spectra.add(&placed, start, out);
        }
    }
    out
}

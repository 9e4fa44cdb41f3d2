// [worker] Weighs a rebuilt stem against the damaged one, bin by bin, by how far each can be trusted.

use super::{
    overdrive::Overdrive,
    spectra::{Spectra, smooth},
};
use realfft::num_complex::Complex32;

/// What goes into [`fuse`]. All slices have one length and start at the same sample.
pub(crate) struct Evidence<'a> {
    /// The damaged stem.
    pub damaged: &'a [f32],
    /// The rebuilt stem, in phase with the damaged one where it can be.
    pub rebuilt: &'a [f32],
    /// A signal whose spectrum's power is the expected power of the rebuilt stem's error.
    pub doubt: &'a [f32],
    /// Whether a sample is to be rebuilt.
    pub hurt: &'a dyn Fn(usize) -> bool,
    pub drive: Overdrive,
    /// Share of what neither error explains that counts against the damaged stem, 0..=1.
    pub blame: f32,
    /// Hz.
    pub rate: f64,
}

/// The most likely stem given two noisy witnesses.
///
/// The rebuilt stem `R` goes through the measured overload: `S = drive(R) = a·R + E`, with `a` the
/// overload's linear share (Bussgang 1952) and `E` its distortion, which tells where in time and
/// frequency the damaged stem `D` must be wrong. `D / a` has error power `|E|² / a²`, `R` has the power of
/// `doubt`; each gets a weight inverse to its error. Where nothing was overdriven `D` comes back.
pub(crate) fn fuse(spectra: &mut Spectra, e: &Evidence<'_>) -> Vec<f32> {
    let len = e.damaged.len();
    let driven: Vec<f32> = e
        .rebuilt
        .iter()
        .enumerate()
        .map(|(n, &v)| if (e.hurt)(n) { e.drive.apply(v) } else { v })
        .collect();
    let bins = spectra.bins();
    let mut out = vec![0.0; len];
    let zero = vec![Complex32::default(); bins];
    let (mut d, mut r, mut s, mut u, mut y) =
        (zero.clone(), zero.clone(), zero.clone(), zero.clone(), zero);
    let mut power = vec![0.0f32; bins];
    let mut distortion = vec![0.0f32; bins];
    let mut doubt = vec![0.0f32; bins];
    let mut apart = vec![0.0f32; bins];
    let mut held = vec![0.0f32; bins];
    for start in spectra.starts(len) {
        spectra.analyse(e.damaged, start, &mut d);
        let centre = (start + spectra.n as i64 / 2).clamp(0, len as i64 - 1) as usize;
        if !(e.hurt)(centre) {
            spectra.add(&d, start, &mut out);
            held.fill(0.0);
            continue;
        }
        spectra.analyse(e.rebuilt, start, &mut r);
        spectra.analyse(&driven, start, &mut s);
        spectra.analyse(e.doubt, start, &mut u);
        let mut cross = 0.0f64;
        let mut own = 0.0f64;
        for (s, r) in s.iter().zip(&r) {
            cross += f64::from((s * r.conj()).re);
            own += f64::from(r.norm_sqr());
        }
        let a = if own > 1e-12 {
            (cross / own).clamp(0.1, 1.0) as f32
        } else {
            1.0
        };
        for i in 0..bins {
            power[i] = (s[i] / a - r[i]).norm_sqr();
        }
        smooth(&power, 2, &mut distortion);
        for (p, u) in power.iter_mut().zip(&u) {
            *p = u.norm_sqr();
        }
        smooth(&power, 3, &mut doubt);
        for i in 0..bins {
            power[i] = (d[i] / a - r[i]).norm_sqr();
        }
        smooth(&power, 4, &mut apart);
        let floor = 1e-9 * spectra.n as f32;
        for i in 0..bins {
            // The overload also rings on for a frame: distortion fades, it doesn't stop.
            held[i] = distortion[i].max(0.5 * held[i]);
            let wrong = held[i];
            // What neither explains: damage beyond the model, or a hit that was not rebuilt.
            let unexplained = (apart[i] - doubt[i] - wrong).max(0.0);
            let wrong = wrong + e.blame * unexplained;
            let doubt = doubt[i] + (1.0 - e.blame) * unexplained + floor;
            let trust = doubt / (doubt + wrong);
            let (d, r) = (d[i] / a, r[i]);
            let mixed = r + (d - r) * trust;
            // Two independent witnesses cancel when averaged; the level stays what they agree on.
            let level = (trust * d.norm_sqr() + (1.0 - trust) * r.norm_sqr()).sqrt();
            let size = mixed.norm();
            y[i] = if size > 1e-12 {
                mixed * (level / size)
            } else {
                mixed
            };
        }
        spectra.add(&y, start, &mut out);
    }
    out
}

/// The damaged stem with its overloaded samples replaced by what the rebuilt stem says: for a stem in
/// which the overload left its level on the samples, so that all the others are known to be sound.
/// `None` where it left none.
pub(crate) fn mend(e: &Evidence<'_>) -> Option<Vec<f32>> {
    if !matches!(e.drive, Overdrive::Hard(_) | Overdrive::Soft(_)) {
        return None;
    }
    let mut out = e.drive.undo(e.damaged, e.rebuilt, (0.0015 * e.rate) as f32);
    for (n, (o, d)) in out.iter_mut().zip(e.damaged).enumerate() {
        if !(e.hurt)(n) {
            *o = *d;
        }
    }
    Some(out)
}

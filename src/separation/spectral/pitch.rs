// [worker] The strongest pitch line of a register: harmonic summation over spectral peaks, then the best path.
//!
//! Salience after Salamon & Gómez, "Melody extraction from polyphonic music signals using pitch contour
//! characteristics", IEEE TASLP 20(6), 2012; the path is a plain Viterbi search with an unvoiced state.

use crate::separation::stft::Plane;

/// Salience bins a semitone.
const STEPS: usize = 4;

/// What register is searched, and how.
#[derive(Clone, Copy, Debug)]
pub struct Register {
    pub lowest_hz: f32,
    pub highest_hz: f32,
    /// Harmonics that count towards a pitch.
    pub harmonics: usize,
    /// Weight of harmonic `h` is `decay^(h-1)`.
    pub decay: f32,
    /// A frame whose best pitch has less than this share of the register's typical salience is unvoiced.
    pub voicing: f32,
    /// Cost of a leap, as a share of the typical salience.
    pub leap: f32,
}

/// One pitch (Hz) a frame, 0 where unvoiced. `bin_hz`: distance of two bins.
pub fn track(magnitude: &Plane<f32>, bin_hz: f32, register: Register) -> Vec<f32> {
    let octaves = (register.highest_hz / register.lowest_hz).log2();
    let states = (octaves * 12.0 * STEPS as f32).ceil() as usize + 1;
    let mut salience = Plane::<f32>::new(magnitude.frames, states);
    for t in 0..magnitude.frames {
        add_peaks(magnitude.row(t), bin_hz, register, salience.row_mut(t));
    }
    let mut best: Vec<f32> = (0..salience.frames)
        .map(|t| salience.row(t).iter().copied().fold(0.0, f32::max))
        .collect();
    // The typical level of frames that have something to say.
    best.sort_unstable_by(f32::total_cmp);
    let typical = best.get(best.len() * 7 / 10).copied().unwrap_or(0.0);
    if typical <= 0.0 {
        return vec![0.0; magnitude.frames];
    }
    let path = viterbi(&salience, typical, register);
    path.into_iter()
        .map(|state| match state {
            Some(s) => register.lowest_hz * (s as f32 / (12 * STEPS) as f32).exp2(),
            None => 0.0,
        })
        .collect()
}

/// Spreads every spectral peak over the pitches it may be a harmonic of.
fn add_peaks(frame: &[f32], bin_hz: f32, register: Register, salience: &mut [f32]) {
    let top = register.highest_hz * register.harmonics as f32;
    let last = ((top / bin_hz) as usize + 1).min(frame.len().saturating_sub(1));
    for k in 1..last {
        let (a, b, c) = (frame[k - 1], frame[k], frame[k + 1]);
        if b <= a || b < c || b <= 0.0 {
            continue;
        }
        // Parabola through the logarithms of the three bins (Smith, "Spectral Audio Signal Processing").
        let (la, lb, lc) = (a.max(1e-12).ln(), b.ln(), c.max(1e-12).ln());
        let bend = la - 2.0 * lb + lc;
        let shift = if bend < 0.0 {
            (0.5 * (la - lc) / bend).clamp(-0.5, 0.5)
        } else {
            0.0
        };
        let hz = (k as f32 + shift) * bin_hz;
        // Compression: ten dB louder counts about twice.
        let strength = b.powf(0.6);
        let mut weight = 1.0;
        for h in 1..=register.harmonics {
            let pitch = hz / h as f32;
            if pitch < register.lowest_hz * 0.97 {
                break;
            }
            if pitch <= register.highest_hz {
                let centre = (pitch / register.lowest_hz).log2() * (12 * STEPS) as f32;
                let low = (centre - STEPS as f32).ceil().max(0.0) as usize;
                let high = (centre + STEPS as f32).floor().max(0.0) as usize;
                for (s, cell) in salience.iter_mut().enumerate().take(high + 1).skip(low) {
                    let off = (s as f32 - centre) / STEPS as f32;
                    let lobe = (off * std::f32::consts::FRAC_PI_2).cos();
                    *cell += weight * strength * lobe * lobe;
                }
            }
            weight *= register.decay;
        }
    }
}

/// The path of greatest salience; steps of up to a semitone a frame are cheap, leaps and changes of
/// voicing cost `leap`.
fn viterbi(salience: &Plane<f32>, typical: f32, register: Register) -> Vec<Option<usize>> {
    let states = salience.bins;
    let silent = register.voicing * typical;
    let leap = register.leap * typical;
    let step = 0.05 * typical / STEPS as f32;
    // State `states` is unvoiced. `from` remembers where each state came from.
    let mut score = vec![0.0f32; states + 1];
    let mut next = vec![0.0f32; states + 1];
    let mut from = Plane::<u16>::new(salience.frames, states + 1);
    for t in 0..salience.frames {
        let (best, best_score) = score
            .iter()
            .copied()
            .enumerate()
            .fold((0, f32::MIN), |a, b| if b.1 > a.1 { b } else { a });
        for (s, after) in next.iter_mut().enumerate() {
            let (mut came, mut value) = (best, best_score - leap);
            if s < states {
                let near = s.saturating_sub(STEPS)..(s + STEPS + 1).min(states);
                for (p, before) in near.clone().zip(&score[near]) {
                    let v = before - step * s.abs_diff(p) as f32;
                    if v > value {
                        (came, value) = (p, v);
                    }
                }
            } else if score[states] > value {
                (came, value) = (states, score[states]);
            }
            let gain = if s < states {
                salience.row(t)[s]
            } else {
                silent
            };
            *after = value + gain;
            from.row_mut(t)[s] = came as u16;
        }
        // Keep scores small: an hour's sum would lose precision.
        for (a, b) in score.iter_mut().zip(&next) {
            *a = *b - best_score;
        }
    }
    let mut at = score
        .iter()
        .copied()
        .enumerate()
        .fold((0, f32::MIN), |a, b| if b.1 > a.1 { b } else { a })
        .0;
    let mut path = vec![None; salience.frames];
    for t in (0..salience.frames).rev() {
        path[t] = (at < states).then_some(at);
        at = usize::from(from.row(t)[at]);
    }
    path
}

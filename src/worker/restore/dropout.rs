// [worker] Filling dropouts over a whole take: the music continued from both sides, or copied from where it repeats.
//!
//! Stretches of digital silence with loud sides are filled in two ways. Models of high order continue the
//! music from both sides, one fading into the other (I. Kauppinen, K. Roth, "Audio signal extrapolation:
//! theory and applications", DAFx 2002; the models by J. P. Burg's method, which needs no taper). And music
//! repeats: where both sides of the dropout occur again, on another beat or in another bar, what lies between
//! them there, mixed from several places, is what is missing (N. Perraudin et al., "Inpainting of long audio segments with similarity graphs",
//! IEEE/ACM TASLP 2018, here for short ones, by plain correlation). Both are mixed by how far each can be
//! trusted: the models by the dropout's length, the copy by how well its surroundings match.

use realfft::{RealFftPlanner, num_complex::Complex};

use crate::{
    realtime::declick::{ar::GapFiller, rate_factor},
    worker::progress::Progress,
};

/// Order of the models that continue the music, at 44.1 and 48 kHz.
const ORDER: usize = 1536;
/// Samples each is fitted to.
const CONTEXT: usize = 8192;
/// Dropouts shorter or longer than this are left: shorter ones are clicks, longer ones can't be guessed.
const DROPOUT_SECONDS: std::ops::RangeInclusive<f64> = 0.001..=0.120;
/// Devices fade out and in around a dropout: so much on either side is not trusted either.
const EDGE_SECONDS: f64 = 0.0012;
/// Digital silence: below one step of 16-bit audio.
const SILENT: f32 = 0.9 / 32768.0;
/// The sides of a dropout are at least this loud (RMS, −46 dBFS).
const LOUD: f64 = 0.005;
/// Surroundings that are compared, on either side, and how far away from the dropout they may be.
const SIDE_SECONDS: f64 = 0.060;
const SEARCH_SECONDS: f64 = 20.0;
/// Places that a copy is mixed from, how well each one's surroundings match at least (normalised correlation), and how
/// far they lie from each other.
const PLACES: usize = 12;
const MATCH: f64 = 0.3;
const APART_SECONDS: f64 = 0.0005;
/// Weights of places are kept small by this share of the surroundings' energy.
const RIDGE: f64 = 0.03;
/// The surroundings are guessed in this many parts, each from what the others say.
const PARTS: usize = 4;
/// What the models get wrong grows with the dropout's length: half the energy at this many seconds.
const HALF_WRONG_SECONDS: f64 = 0.035;
/// What lies between like surroundings is less like than they are, by this factor in energy.
const COPY_DOUBT: f64 = 2.0;

/// Dropouts as ranges of samples: digital silence that cuts off loud music abruptly on both sides.
pub fn find_dropouts(samples: &[f32], sample_rate: f64) -> Vec<std::ops::Range<usize>> {
    let side = (0.003 * sample_rate) as usize;
    let rms = |x: &[f32]| {
        (x.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>() / x.len().max(1) as f64).sqrt()
    };
    let mut found = Vec::new();
    let mut n = 0;
    while n < samples.len() {
        if samples[n].abs() > SILENT {
            n += 1;
            continue;
        }
        let start = n;
        while n < samples.len() && samples[n].abs() <= SILENT {
            n += 1;
        }
        let seconds = (n - start) as f64 / sample_rate;
        if !DROPOUT_SECONDS.contains(&seconds) || start < 4 * side || n + 4 * side > samples.len() {
            continue;
        }
        // A note that fades or a gate that opens is quiet right at the silence; a dropout is not.
        let (left, right) = (&samples[start - side..start], &samples[n..n + side]);
        let around = rms(&samples[start - 4 * side..start]).max(rms(&samples[n..n + 4 * side]));
        let quieter = rms(left).min(rms(right));
        if quieter >= LOUD && quieter >= 0.2 * around {
            found.push(start..n);
        }
    }
    found
}

/// Fills every dropout of one channel in place; `amount` 0..=1. `false` if cancelled.
pub fn fill(samples: &mut [f32], sample_rate: f64, amount: f32, progress: &Progress) -> bool {
    let factor = rate_factor(sample_rate);
    let context = (CONTEXT as f64 * factor) as usize;
    let order = (ORDER as f64 * factor) as usize;
    let edge = (EDGE_SECONDS * sample_rate) as usize;
    for silence in find_dropouts(samples, sample_rate) {
        if progress.is_cancelled() {
            return false;
        }
        let gap = silence.start - edge..silence.end + edge;
        let from = gap.start.saturating_sub(context);
        let to = (gap.end + context).min(samples.len());
        let mut modelled = samples[from..to].to_vec();
        let length = gap.len();
        let tried = interpolate(&mut modelled, gap.start - from, gap.end - from, order);
        let copy = find_again(samples, &gap, sample_rate);
        let seconds = length as f64 / sample_rate;
        let expected = seconds / (seconds + HALF_WRONG_SECONDS);
        let modelled_wrong = tried.map_or(expected, |tried| tried.min(expected));
        let trust = copy.as_ref().map_or(0.0, |copy| {
            let copied_wrong = COPY_DOUBT * copy.wrong;
            modelled_wrong / (modelled_wrong + copied_wrong)
        });
        for i in 0..length {
            let modelled = f64::from(modelled[gap.start - from + i]);
            // The copy has its own sides: at the borders the models lead over.
            let border = (i.min(length - 1 - i) as f64 / edge as f64).min(1.0);
            let copied = copy.as_ref().map_or(0.0, |copy| copy.samples[i]);
            let trust = trust * border;
            let filled = (1.0 - trust) * modelled + trust * copied;
            let x = &mut samples[gap.start + i];
            *x += amount * (filled as f32 - *x);
        }
    }
    true
}

/// What lies between surroundings that are like a dropout's.
struct Copy {
    /// Over the dropout.
    samples: Vec<f64>,
    /// Share of the surroundings' energy that is guessed wrong in the same way.
    wrong: f64,
}

/// A mix of the places whose surroundings are most like those of `gap`, if any are like them: the weights are those
/// under which the places' surroundings come closest to the dropout's (ridge regression).
fn find_again(samples: &[f32], gap: &std::ops::Range<usize>, sample_rate: f64) -> Option<Copy> {
    let side = (SIDE_SECONDS * sample_rate) as usize;
    let reach = (SEARCH_SECONDS * sample_rate) as usize;
    let template = gap.start.checked_sub(side)?..gap.end + side;
    let search = template.start.saturating_sub(reach)..(template.end + reach).min(samples.len());
    if template.end > samples.len() || search.len() < 2 * template.len() {
        return None;
    }
    let heard = &samples[search.clone()];
    let mut wanted = samples[template.clone()].to_vec();
    wanted[side..side + gap.len()].fill(0.0);
    let energy: f64 = wanted.iter().map(|&x| f64::from(x).powi(2)).sum();
    let correlation = correlate(heard, &wanted);
    let mut sums = Vec::with_capacity(heard.len() + 1);
    sums.push(0.0f64);
    let mut sum = 0.0;
    for &x in heard {
        sum += f64::from(x).powi(2);
        sums.push(sum);
    }
    let own = template.start - search.start;
    let mut likeness: Vec<(f64, usize)> = Vec::new();
    for n in 0..=heard.len() - wanted.len() {
        // Not itself, nor anything that overlaps the dropout.
        if n.abs_diff(own) < wanted.len() {
            continue;
        }
        let right = n + side + gap.len();
        let there = sums[n + side] - sums[n] + sums[right + side] - sums[right];
        if there <= 0.1 * energy {
            continue;
        }
        let c = correlation[n] / (there * energy).sqrt();
        if c > MATCH {
            likeness.push((c, n));
        }
    }
    likeness.sort_by(|a, b| b.0.total_cmp(&a.0));
    let apart = (APART_SECONDS * sample_rate) as usize;
    let mut places: Vec<usize> = Vec::new();
    for (_, n) in likeness {
        if places.iter().all(|p| p.abs_diff(n) >= apart) {
            places.push(n);
            if places.len() == PLACES {
                break;
            }
        }
    }
    if places.is_empty() {
        return None;
    }
    // The surroundings in parts, as indices into the template.
    let part = side.div_ceil(PARTS / 2);
    let parts: Vec<std::ops::Range<usize>> = [0, side + gap.len()]
        .into_iter()
        .flat_map(|start| {
            (0..side)
                .step_by(part)
                .map(move |i| start + i..start + (i + part).min(side))
        })
        .collect();
    let product = |a: &[f32], b: &[f32]| -> f64 {
        let pairs = a.iter().zip(b);
        pairs.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    };
    let at = |n: usize, r: &std::ops::Range<usize>| &heard[n + r.start..n + r.end];
    // Normal equations of each part: products of places with each other, then with what is wanted.
    let equations: Vec<Vec<f64>> = parts
        .iter()
        .map(|r| {
            let rows = places.iter().flat_map(|&a| {
                let with = places.iter().map(move |&b| product(at(a, r), at(b, r)));
                with.chain([product(at(a, r), &wanted[r.clone()])])
            });
            rows.collect()
        })
        .collect();
    let ridge = RIDGE * energy;
    let mut missed = 0.0;
    for (left_out, r) in parts.iter().enumerate() {
        let others = (0..parts.len()).filter(|&p| p != left_out);
        let weights = weigh(&equations, others, places.len(), ridge)?;
        missed += r
            .clone()
            .map(|i| {
                let guess = mixed(heard, &places, &weights, i);
                (f64::from(wanted[i]) - guess).powi(2)
            })
            .sum::<f64>();
    }
    let weights = weigh(&equations, 0..parts.len(), places.len(), ridge)?;
    Some(Copy {
        samples: (side..side + gap.len())
            .map(|i| mixed(heard, &places, &weights, i))
            .collect(),
        wrong: (missed / energy.max(f64::MIN_POSITIVE)).min(1.0),
    })
}

/// Sample `i` of the template, from the places in `heard`.
fn mixed(heard: &[f32], places: &[usize], weights: &[f64], i: usize) -> f64 {
    let terms = places.iter().zip(weights);
    terms.map(|(&n, w)| w * f64::from(heard[n + i])).sum()
}

/// Solves the sum of some parts' normal equations (`size` rows of `size + 1`) with `ridge` on the diagonal, by Gauss
/// without pivoting: the matrix is positive definite.
fn weigh(
    equations: &[Vec<f64>],
    parts: impl Iterator<Item = usize>,
    size: usize,
    ridge: f64,
) -> Option<Vec<f64>> {
    let row = size + 1;
    let mut sum = vec![0.0; size * row];
    for part in parts {
        for (s, e) in sum.iter_mut().zip(&equations[part]) {
            *s += e;
        }
    }
    for i in 0..size {
        sum[i * row + i] += ridge;
    }
    for p in 0..size {
        let pivot = sum[p * row + p];
        if pivot.is_nan() || pivot <= 0.0 {
            return None;
        }
        for i in p + 1..size {
            let share = sum[i * row + p] / pivot;
            for j in p..row {
                sum[i * row + j] -= share * sum[p * row + j];
            }
        }
    }
    let mut weights = vec![0.0; size];
    for i in (0..size).rev() {
        let known: f64 = (i + 1..size).map(|j| sum[i * row + j] * weights[j]).sum();
        weights[i] = (sum[i * row + size] - known) / sum[i * row + i];
    }
    weights.iter().all(|w| w.is_finite()).then_some(weights)
}

/// `Σ heard[n + i] wanted[i]` for every `n` at which `wanted` lies within `heard`.
fn correlate(heard: &[f32], wanted: &[f32]) -> Vec<f64> {
    let size = (heard.len() + wanted.len()).next_power_of_two();
    let mut planner = RealFftPlanner::<f32>::new();
    let forward = planner.plan_fft_forward(size);
    let inverse = planner.plan_fft_inverse(size);
    let transform = |x: &[f32]| -> Vec<Complex<f32>> {
        let mut padded = x.to_vec();
        padded.resize(size, 0.0);
        let mut spectrum = forward.make_output_vec();
        let planned = forward.process(&mut padded, &mut spectrum);
        debug_assert!(planned.is_ok());
        spectrum
    };
    let mut product = transform(heard);
    for (a, b) in product.iter_mut().zip(transform(wanted)) {
        *a *= b.conj();
    }
    for end in [0, size / 2] {
        product[end].im = 0.0;
    }
    let mut out = inverse.make_output_vec();
    let planned = inverse.process(&mut product, &mut out);
    debug_assert!(planned.is_ok());
    out.iter()
        .take(heard.len() + 1 - wanted.len())
        .map(|&x| f64::from(x) / size as f64)
        .collect()
}

/// Replaces `x[start..end]` by what a model of both its sides makes least surprising. Returns how much of the
/// energy the same model gets wrong where as much is hidden from it in the middle of either side, the worse one;
/// `None` where the sides are too short for that.
fn interpolate(x: &mut [f32], start: usize, end: usize, order: usize) -> Option<f64> {
    // Only as many samples as lie on the shorter side can be predicted from.
    let order = order.min(start / 2).min((x.len() - end) / 2);
    x[start..end].fill(0.0);
    let mut filler = GapFiller::new(end - start, order);
    let side = |x: &[f32]| -> Vec<f64> { x.iter().map(|&v| f64::from(v)).collect() };
    let a = burg(vec![side(&x[..start]), side(&x[end..])], order);
    filler.fill(x, start, end, &a);
    let mut wrong = |side: &[f32]| {
        let from = side.len().checked_sub(end - start)? / 2;
        let hidden = from..from + end - start;
        let mut guess = side.to_vec();
        guess[hidden.clone()].fill(0.0);
        let energy =
            |x: &mut dyn Iterator<Item = f32>| x.map(|v| f64::from(v).powi(2)).sum::<f64>();
        let missed = filler
            .fill(&mut guess, hidden.start, hidden.end, &a)
            .then(|| {
                energy(
                    &mut guess[hidden.clone()]
                        .iter()
                        .zip(&side[hidden.clone()])
                        .map(|(a, b)| a - b),
                )
            })?;
        Some((missed / energy(&mut side[hidden].iter().copied()).max(f64::MIN_POSITIVE)).min(1.0))
    };
    let (left, right) = x.split_at(start);
    let (left, right) = (wrong(left)?, wrong(&right[end - start..])?);
    Some(left.max(right))
}

/// Burg's method over several stretches of one signal: its prediction-error filter `a` (`a[0] = 1`).
fn burg(stretches: Vec<Vec<f64>>, order: usize) -> Vec<f64> {
    let mut a = vec![0.0; order + 1];
    a[0] = 1.0;
    let energy: f64 = stretches.iter().flatten().map(|v| v * v).sum();
    let mut errors: Vec<(Vec<f64>, Vec<f64>)> =
        stretches.into_iter().map(|x| (x.clone(), x)).collect();
    for m in 1..=order {
        let (mut cross, mut power) = (0.0, 0.0);
        for (f, b) in &errors {
            for (f, b) in f.iter().skip(m).zip(b.iter().skip(m - 1)) {
                cross += f * b;
                power += f * f + b * b;
            }
        }
        // What is left is rounding noise: the model is complete.
        if power <= 1e-12 * energy || power <= 0.0 {
            break;
        }
        let reflection = -2.0 * cross / power;
        let old = a.clone();
        for (a, mirrored) in a[..=m].iter_mut().zip(old[..=m].iter().rev()) {
            *a += reflection * mirrored;
        }
        for (f, b) in &mut errors {
            for n in (m..f.len()).rev() {
                let (forward, backward) = (f[n], b[n - 1]);
                f[n] = forward + reflection * backward;
                b[n] = backward + reflection * forward;
            }
        }
    }
    a
}

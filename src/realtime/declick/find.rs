// [audio] Finds clicks in a stretch of audio and fills them: the kernel of the live and offline declickers.
//!
//! A click is what an autoregressive model of its surroundings can explain neither from the past nor from
//! the future, while removing about a millisecond explains everything else. A drum fails that: what
//! follows its attack is the drum, and stays unexplained. What filling a stretch explains and takes away is weighed by
//! [`super::score`]. A clip's corner lies on a flat top and is left to the declipper. (Detection by prediction error:
//! S. Vaseghi, P. Rayner, "Detection and suppression of
//! impulsive noise in speech communication systems", IEE Proc. 1990; both directions: P. Esquef et al., "An
//! efficient model-based multirate method for reconstruction of audio signals across long gaps", 2006.)

use super::{
    ar::{GapFiller, autocorrelate, backward_residual, dot, forward_residual, levinson},
    score::{Evidence, LIKELY, log_odds},
    weigh::Weigher,
};

/// Lengths in samples, and thresholds as multiples of the local median residual.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Finder {
    /// Order of the model.
    pub order: usize,
    /// Samples the model is fitted to: the analysis stretch's length.
    pub window: usize,
    /// Longest click.
    pub longest: usize,
    /// Samples before and after a click that give the local scale.
    pub side: usize,
    /// A click begins above this.
    pub threshold: f32,
    /// It lasts while the residual is above this.
    pub lasting: f32,
    /// Log odds from which a repair is made ([`super::score`]).
    pub odds: f32,
    /// Clicks repaired in one zone; bounds the work.
    pub most: usize,
    /// Fillings tried in one zone while looking for clicks' extents; bounds the work, too.
    pub trials: usize,
    /// Rounds in which a repair's samples are weighed against what was heard ([`super::weigh`]).
    pub rounds: usize,
}

/// What was repaired in a zone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repairs {
    pub made: usize,
    /// Clicks with odds above [`LIKELY`] among them, and among what was left.
    pub likely: usize,
    pub left: usize,
}

/// A repair that may be made: `x[from..to]` would be replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Candidate {
    pub from: usize,
    pub to: usize,
    pub evidence: Evidence,
}

/// One step of 16-bit audio.
const LSB: f32 = 1.0 / 32768.0;
/// Residuals below this are quantization, whatever the local scale says (half a step of 16 bits,
/// times the noise gain of a steep whitening filter).
const FLOOR: f32 = 4.0 * LSB;
/// Share of the residuals around a click that it is compared with; other clicks are the rest.
const BELOW: f32 = 0.97;
/// A filling is better if what is left unexplained, in squares of the local median residual, falls by this for
/// each sample more that is given up: about twice what a sample of music leaves.
const SAMPLE_COST: f32 = 10.0;
/// One residual counts no more than this, so that a second click nearby doesn't decide.
const MOST_COST: f32 = 60.0 * 60.0;
/// Median of the smaller of two residuals' magnitudes, in standard deviations of one: both are normal, the median m of
/// the smaller has P(|e| > m)² = ½.
const MEDIAN_OF_SMALLER: f64 = 0.376;
/// Steps by which an extent is tried larger, in samples at 44.1 and 48 kHz.
const STEPS: [usize; 3] = [1, 3, 8];
/// Whitening noise added to the fit, −90 dB: keeps models of band-limited audio well-conditioned.
const WHITE: f64 = 1e-9;

/// Scratch for [`ClickFinder::repair`].
pub struct ClickFinder {
    setup: Finder,
    taper: Vec<f64>,
    windowed: Vec<f64>,
    correlation: Vec<f64>,
    model: Vec<f64>,
    levinson: Vec<f64>,
    taps: Vec<f32>,
    taps_reversed: Vec<f32>,
    forward: Vec<f32>,
    backward: Vec<f32>,
    /// Smaller of both residuals' magnitudes, one a sample of the stretch (0 where not known).
    error: Vec<f32>,
    ranked: Vec<f32>,
    saved: Vec<f32>,
    filler: GapFiller,
    weigher: Weigher,
}

impl ClickFinder {
    /// Allocates for `setup`.
    pub fn new(setup: Finder) -> Self {
        let window = setup.window;
        let taper = (0..window)
            .map(|i| 0.5 - 0.5 * (std::f64::consts::TAU * (i as f64 + 0.5) / window as f64).cos())
            .collect();
        Self {
            taper,
            windowed: vec![0.0; window],
            correlation: vec![0.0; setup.order + 1],
            model: vec![0.0; setup.order + 1],
            levinson: vec![0.0; setup.order + 1],
            taps: vec![0.0; setup.order + 1],
            taps_reversed: vec![0.0; setup.order + 1],
            forward: vec![0.0; window],
            backward: vec![0.0; window],
            error: vec![0.0; window],
            ranked: vec![0.0; window],
            saved: vec![0.0; setup.longest + 2],
            filler: GapFiller::new(setup.longest + 2, setup.order),
            weigher: Weigher::new(setup.longest + 2, setup.order),
            setup,
        }
    }

    /// Repairs from these log odds on from now on.
    pub fn set_odds(&mut self, odds: f32) {
        self.setup.odds = odds;
    }

    /// Samples needed after the zone in which clicks are looked for.
    pub fn lookahead(setup: &Finder) -> usize {
        setup.longest + 1 + GUARD + setup.side + setup.order
    }

    /// Finds clicks that begin in `x[zone.0..zone.1]` and replaces them, in place; `x` is the analysis
    /// stretch of `window` finite samples. `spare(from, to, x)` vetoes a repair. Returns how many it made.
    pub fn repair(
        &mut self,
        x: &mut [f32],
        zone: (usize, usize),
        spare: impl Fn(usize, usize, &[f32]) -> bool,
    ) -> Repairs {
        self.repair_by(x, zone, spare, |candidate, _| log_odds(&candidate.evidence))
    }

    /// Like [`repair`](Self::repair), with odds by `judge`, which gets the candidate and the stretch as it would
    /// be then: the trainer knows the truth.
    pub fn repair_by(
        &mut self,
        x: &mut [f32],
        zone: (usize, usize),
        spare: impl Fn(usize, usize, &[f32]) -> bool,
        mut judge: impl FnMut(&Candidate, &[f32]) -> f32,
    ) -> Repairs {
        let setup = self.setup;
        let mut repairs = Repairs::default();
        if x.len() != setup.window || !self.fit(x, None) {
            return repairs;
        }
        self.residuals(x, 0, x.len());
        // Is there anything? Most stretches end here.
        let Some(first) = self.next_candidate(zone.0, zone.1) else {
            return repairs;
        };
        // Clicks whiten the model they are measured with: fit again without them.
        // In silence nothing is left to fit, so nothing says what a repair should be.
        if !self.fit(x, Some(zone)) {
            return repairs;
        }
        self.residuals(x, 0, x.len());
        let mut trials = setup.trials;
        let mut from = first.min(zone.0);
        for _ in 0..setup.most {
            let Some(start) = self.next_candidate(from, zone.1) else {
                break;
            };
            let before = self.scale_before(start);
            let shortest = self.end_of(start, (setup.longest / 13).max(1), before);
            from = shortest;
            let around = Around {
                scale: before,
                ..self.around(x, start, shortest)
            };
            // The odds say whether, what filling explains says which.
            let mut best: Option<(f32, f32, Candidate)> = None;
            let mut tried = start;
            let mut highest = f32::MIN;
            // Stretches that begin here, and the one that best explains everything around it, for what it gives up.
            let reaches = [13, 6, 3, 1].map(|part| Some((setup.longest / part).max(1)));
            for reach in reaches.into_iter().chain([None]) {
                let (a, b) = if let Some(reach) = reach {
                    let end = self.end_of(start, reach, before);
                    if end <= tried {
                        continue;
                    }
                    tried = end;
                    // One more sample on either side: the click's skirts.
                    (start.saturating_sub(1), end + 1)
                } else {
                    self.extent(x, start, before, &mut trials)
                };
                if b == 0 || spare(a, b, x) {
                    continue;
                }
                let Some((odds, candidate)) = self.consider(x, a, b, &around, &mut judge) else {
                    continue;
                };
                highest = highest.max(odds);
                if odds > setup.odds {
                    let [heard, left] = candidate.evidence.reduction;
                    let explained = heard - left - SAMPLE_COST * (b - a) as f32;
                    if best.is_none_or(|best| explained > best.0) {
                        best = Some((explained, odds, candidate));
                    }
                }
            }
            let Some((_, odds, Candidate { from: a, to: b, .. })) = best else {
                repairs.left += usize::from(highest > LIKELY);
                continue;
            };
            let Some(saved) = self.saved.get_mut(..b - a) else {
                continue;
            };
            let Some(heard) = x.get(a..b) else {
                continue;
            };
            saved.copy_from_slice(heard);
            if !self.filler.fill(x, a, b, &self.model) {
                continue;
            }
            let scale = before.max(self.scale_after(b));
            let sigma = f64::from(scale) / MEDIAN_OF_SMALLER;
            let heard = self.saved.get(..b - a).unwrap_or_default();
            self.weigher
                .weigh(x, a, heard, &self.model, sigma, setup.rounds);
            repairs.made += 1;
            repairs.likely += usize::from(odds > LIKELY);
            from = from.max(b);
            self.residuals(x, a.saturating_sub(setup.order), b + setup.order);
        }
        repairs
    }
}

/// What all candidates at one place have in common.
#[derive(Clone, Copy, Default)]
struct Around {
    /// Median error before.
    scale: f32,
    /// Errors that all but a few others in the stretch are below, before and after.
    high: [f32; 2],
}

/// Samples between a click and the neighbourhood that gives its scale.
const GUARD: usize = 8;

impl ClickFinder {
    /// Fits the model to the tapered stretch; with a zone, leaving out what stands out in it.
    fn fit(&mut self, x: &[f32], without: Option<(usize, usize)>) -> bool {
        let limit = without.map(|_| self.scale_of(0, x.len()) * self.setup.lasting);
        for (((w, &x), &t), &e) in self
            .windowed
            .iter_mut()
            .zip(x)
            .zip(&self.taper)
            .zip(&self.error)
        {
            *w = f64::from(x) * t;
            if limit.is_some_and(|limit| e > limit) {
                *w = 0.0;
            }
        }
        if without.is_some() {
            self.bridge();
        }
        autocorrelate(&self.windowed, &mut self.correlation);
        let Some(energy) = self.correlation.first_mut() else {
            return false;
        };
        // Nothing to find in near silence (−100 dBFS).
        if *energy < 1e-10 * self.windowed.len() as f64 {
            return false;
        }
        *energy *= 1.0 + WHITE;
        if !levinson(&self.correlation, &mut self.model, &mut self.levinson) {
            return false;
        }
        for (tap, &a) in self.taps.iter_mut().zip(&self.model) {
            *tap = a as f32;
        }
        for (tap, &a) in self.taps_reversed.iter_mut().zip(self.model.iter().rev()) {
            *tap = a as f32;
        }
        true
    }

    /// Draws a straight line across runs of zeros in `windowed` (samples left out).
    fn bridge(&mut self) {
        let mut left = 0;
        for i in 1..self.windowed.len() {
            let here = self.windowed.get(i).copied().unwrap_or(0.0);
            if here == 0.0 {
                continue;
            }
            let run = i - left;
            if run > 1 {
                let start = self.windowed.get(left).copied().unwrap_or(0.0);
                for (j, w) in self.windowed.iter_mut().enumerate().take(i).skip(left + 1) {
                    *w = start + (here - start) * (j - left) as f64 / run as f64;
                }
            }
            left = i;
        }
    }

    /// Both residuals over `x[from..to]`, as far as they are defined.
    fn residuals(&mut self, x: &[f32], from: usize, to: usize) {
        let order = self.setup.order;
        let to = to.min(x.len());
        let from = from.max(order).min(to);
        let back_to = to.min(x.len().saturating_sub(order)).max(from);
        if let (Some(past), Some(out)) = (x.get(from - order..to), self.forward.get_mut(from..to)) {
            forward_residual(past, &self.taps_reversed, out);
        }
        if let (Some(future), Some(out)) = (
            x.get(from..(back_to + order).min(x.len())),
            self.backward.get_mut(from..back_to),
        ) {
            backward_residual(future, &self.taps, out);
        }
        for ((e, f), b) in self
            .error
            .iter_mut()
            .zip(&self.forward)
            .zip(&self.backward)
            .take(back_to)
            .skip(from)
        {
            *e = f.abs().min(b.abs());
        }
    }

    /// Median error over `side` samples from `from`, at most to `to`, floored.
    fn scale_of(&mut self, from: usize, to: usize) -> f32 {
        let to = to.min(self.error.len());
        let from = from.min(to);
        // Of a long stretch every n-th sample does.
        let step = (to - from).div_ceil(self.setup.side.max(1)).max(1);
        let mut count = 0;
        for (slot, &e) in self.ranked.iter_mut().zip(
            self.error
                .get(from..to)
                .unwrap_or_default()
                .iter()
                .step_by(step),
        ) {
            *slot = e;
            count += 1;
        }
        if count == 0 {
            return FLOOR;
        }
        let ranked = self.ranked.get_mut(..count).unwrap_or_default();
        let (_, median, _) = ranked.select_nth_unstable_by(count / 2, f32::total_cmp);
        median.max(FLOOR)
    }

    /// First sample in the range that stands out from what came before it.
    fn next_candidate(&mut self, from: usize, to: usize) -> Option<usize> {
        // The scale is renewed every few samples only: it is a median over many.
        const RENEW: usize = 16;
        let side = self.setup.side;
        let mut limit = 0.0;
        for n in from..to {
            if (n - from).is_multiple_of(RENEW) {
                let before = n.saturating_sub(GUARD);
                limit = self.scale_of(before.saturating_sub(side), before) * self.setup.threshold;
            }
            if self.error.get(n).is_some_and(|&e| e > limit) {
                return Some(n);
            }
        }
        None
    }

    /// The median error before a click that begins at `start`.
    fn scale_before(&mut self, start: usize) -> f32 {
        let before = start.saturating_sub(GUARD);
        self.scale_of(before.saturating_sub(self.setup.side), before)
    }

    /// The median error after a click that ends before `end`.
    fn scale_after(&mut self, end: usize) -> f32 {
        self.scale_of(end + GUARD, end + GUARD + self.setup.side)
    }

    /// One past the last sample of the click that begins at `start`, lasts `reach` samples at most and
    /// stands on errors of `scale`.
    fn end_of(&self, start: usize, reach: usize, scale: f32) -> usize {
        let limit = scale * self.setup.lasting;
        let reach = start + reach;
        self.error
            .get(start..reach.min(self.error.len()))
            .unwrap_or_default()
            .iter()
            .rposition(|&e| e > limit)
            .map_or(start + 1, |last| start + last + 1)
    }

    /// The stretch around the largest error of the click that begins at `start` whose filling leaves least
    /// unexplained for its length; grown from one sample, by one fit of the model. `(0, 0)` if none can be
    /// filled or `trials` are used up.
    fn extent(
        &mut self,
        x: &mut [f32],
        start: usize,
        scale: f32,
        trials: &mut usize,
    ) -> (usize, usize) {
        let longest = self.setup.longest;
        let heard = self.error.get(start..start + longest).unwrap_or_default();
        let Some((highest, _)) = heard
            .iter()
            .enumerate()
            .max_by(|(_, a), (_, b)| a.total_cmp(b))
        else {
            return (0, 0);
        };
        let top = start + highest;
        let around = top.saturating_sub(longest)..top + longest;
        let (mut best, mut extent) = (f32::MAX, (0, 0));
        let mut grown = (top, top + 1);
        loop {
            let before = best;
            let now = grown;
            let unit = (longest / 52).max(1);
            let larger = STEPS.iter().flat_map(|step| {
                let step = step * unit;
                [(now.0, now.1 + step), (now.0.saturating_sub(step), now.1)]
            });
            let own = (before == f32::MAX).then_some(now);
            for (a, b) in own.into_iter().chain(larger) {
                if b - a > longest || a < around.start || b > around.end {
                    continue;
                }
                if *trials == 0 {
                    return extent;
                }
                *trials -= 1;
                let Some(left) = self.unexplained(x, (a, b), &around, scale) else {
                    continue;
                };
                let cost = left + SAMPLE_COST * (b - a) as f32;
                if cost < best {
                    (best, extent) = (cost, (a, b));
                }
            }
            // Growing has to go on paying.
            if best >= before {
                return extent;
            }
            grown = extent;
        }
    }

    /// Sum of the squared forward residuals over `around` and what it reaches, in squares of `scale`, if
    /// `x[gap]` were filled. `x` is left as it was.
    fn unexplained(
        &mut self,
        x: &mut [f32],
        gap: (usize, usize),
        around: &std::ops::Range<usize>,
        scale: f32,
    ) -> Option<f32> {
        let order = self.setup.order;
        let saved = self.saved.get_mut(..gap.1 - gap.0)?;
        saved.copy_from_slice(x.get(gap.0..gap.1)?);
        let filled = self.filler.fill(x, gap.0, gap.1, &self.model);
        let to = (around.end + order).min(x.len());
        let sum = x
            .get(around.start.checked_sub(order)?..to)
            .unwrap_or_default()
            .windows(order + 1)
            .map(|w| {
                let r = dot(w, &self.taps_reversed) / scale;
                (r * r).min(MOST_COST)
            })
            .sum();
        let saved = self.saved.get(..gap.1 - gap.0)?;
        x.get_mut(gap.0..gap.1)?.copy_from_slice(saved);
        filled.then_some(sum)
    }

    /// What the stretch around a click between `start` and `end` is like.
    fn around(&mut self, x: &[f32], start: usize, end: usize) -> Around {
        let known = x.len().saturating_sub(self.setup.order);
        Around {
            scale: 0.0,
            high: [
                self.quantile(0, start.saturating_sub(GUARD)),
                self.quantile(end + GUARD, known),
            ],
        }
    }

    /// What [`BELOW`] of the errors in a range are at most, floored.
    fn quantile(&mut self, from: usize, to: usize) -> f32 {
        let to = to.min(self.error.len());
        let range = self.error.get(from.min(to)..to).unwrap_or_default();
        let Some(ranked) = self.ranked.get_mut(..range.len()) else {
            return FLOOR;
        };
        ranked.copy_from_slice(range);
        let rank = (range.len() as f32 * BELOW) as usize;
        if rank >= ranked.len() {
            return FLOOR;
        }
        let (_, high, _) = ranked.select_nth_unstable_by(rank, f32::total_cmp);
        high.max(FLOOR)
    }

    /// What speaks for a click in `x[start..end]`, and its odds by `judge`. `x` is left as it was.
    fn consider(
        &mut self,
        x: &mut [f32],
        start: usize,
        end: usize,
        around: &Around,
        judge: &mut impl FnMut(&Candidate, &[f32]) -> f32,
    ) -> Option<(f32, Candidate)> {
        let (gap, order) = (end - start, self.setup.order);
        let after = self.scale_after(end);
        let scale = around.scale.max(after);
        let highest = |residual: &[f32], from: usize, to: usize| {
            residual
                .get(from.min(to)..to.min(residual.len()))
                .unwrap_or_default()
                .iter()
                .fold(0.0f32, |m, e| m.max(e.abs()))
        };
        let jump = highest(&self.forward, start, end).max(highest(&self.backward, start, end));
        let peak = highest(&self.error, start, end);
        let near = 2 * order;
        let known = x.len().saturating_sub(order);
        let beside = [
            highest(
                &self.error,
                start.saturating_sub(GUARD + near),
                start.saturating_sub(GUARD),
            ),
            highest(&self.error, end + GUARD, (end + GUARD + near).min(known)),
        ];
        let reach = start.saturating_sub(order)..(end + order).min(x.len());
        let squares = |x: &[f32], taps: &[f32]| -> (f32, f32) {
            let residuals = x.windows(order + 1).map(|w| dot(w, taps).abs());
            residuals.fold((0.0f32, 0.0f32), |(sum, most), e| {
                (sum + (e / scale).min(60.0).powi(2), most.max(e))
            })
        };
        let heard = x.get(reach.clone())?;
        let (before_sum, _) = squares(heard, &self.taps_reversed);
        let level = {
            let outside = |x: &[f32]| x.iter().map(|v| v * v).sum::<f32>();
            let (l, r) = (x.get(reach.start..start)?, x.get(end..reach.end)?);
            ((outside(l) + outside(r)) / (l.len() + r.len()).max(1) as f32).sqrt()
        };
        self.saved
            .get_mut(..gap)?
            .copy_from_slice(x.get(start..end)?);
        if !self.filler.fill(x, start, end, &self.model) {
            return None;
        }
        let (left_sum, left) = squares(x.get(reach)?, &self.taps_reversed);
        // What is taken away: its height, energy and its first difference's, and how much of it comes late.
        let (mut most, mut energy, mut steps, mut last, mut late) =
            (0.0f32, 0.0f32, 0.0f32, 0.0f32, 0.0f32);
        for (i, (new, old)) in x.get(start..end)?.iter().zip(&self.saved).enumerate() {
            let taken = old - new;
            most = most.max(taken.abs());
            energy += taken * taken;
            late += taken * taken * i as f32 / gap as f32;
            steps += (taken - last) * (taken - last);
            last = taken;
        }
        steps += last * last;
        let energy = energy.max(FLOOR * FLOOR);
        let evidence = Evidence {
            peak,
            jump,
            left,
            most,
            energy,
            steps,
            late,
            level,
            scales: [around.scale, after],
            high: around.high,
            beside,
            reduction: [before_sum, left_sum],
            gap,
            order,
        };
        let candidate = Candidate {
            from: start,
            to: end,
            evidence,
        };
        let odds = judge(&candidate, x);
        x.get_mut(start..end)?
            .copy_from_slice(self.saved.get(..gap)?);
        Some((odds, candidate))
    }
}

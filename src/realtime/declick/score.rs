// [audio] How sure it is that a stretch of audio is a click: a small trained model over what filling it explains.
//!
//! No single measure tells a click from a drum's first millisecond, so all of them are weighed at once by a perceptron
//! with one hidden layer. It was fitted on generated songs with generated clicks alone (`models/training/clicks`,
//! `examples/click_features.rs`). How many clicks are to be expected shifts the odds that a repair needs
//! ([`limit`]): a doubtful click in a recording that crackles is one, in a clean one it is a drum.

use super::weights;

/// What speaks for and against a click, measured where the stretch is filled.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Evidence {
    /// Largest error (the smaller of both residuals) and largest residual in the stretch.
    pub peak: f32,
    pub jump: f32,
    /// Largest residual that the filling leaves.
    pub left: f32,
    /// Of what is taken away: largest sample, energy, energy of its first difference, energy weighed by time (0..1).
    pub most: f32,
    pub energy: f32,
    pub steps: f32,
    pub late: f32,
    /// RMS beside the stretch.
    pub level: f32,
    /// Median errors before and after.
    pub scales: [f32; 2],
    /// What nearly all errors of the whole stretch are below, before and after.
    pub high: [f32; 2],
    /// Largest error close by, before and after.
    pub beside: [f32; 2],
    /// Squared residuals in squares of the scale, bounded, before and after filling.
    pub reduction: [f32; 2],
    /// Length in samples, and the model's order.
    pub gap: usize,
    pub order: usize,
}

/// Number of [`features`].
pub const FEATURES: usize = 20;

/// Log odds of a repair where nothing crackles. In eleven minutes of clean generated music, bare drums and single
/// instruments among it, nothing reaches it.
pub const SURE: f32 = 6.0;
/// Log odds of a repair where it crackles.
pub const DOUBTFUL: f32 = 1.5;
/// Log odds from which a click counts as one more that was heard, repaired or not: once in those eleven minutes.
pub const LIKELY: f32 = 3.0;
/// Likely clicks within [`CRACKLE_SECONDS`] from which a recording crackles. Clean music with loud drums is allowed two
/// repairs in ten seconds, which change nothing of the odds.
pub const CRACKLE: usize = 6;
const ALLOWED: usize = 2;
/// See [`CRACKLE`].
pub const CRACKLE_SECONDS: f64 = 5.0;

/// Log odds that a repair needs where `likely` clicks were heard within [`CRACKLE_SECONDS`].
pub fn limit(likely: usize) -> f32 {
    let share = likely.saturating_sub(ALLOWED) as f32 / (CRACKLE - ALLOWED) as f32;
    SURE - (SURE - DOUBTFUL) * share.min(1.0)
}

/// A click that stands out this plainly needs no weighing; such clicks are rarer in training than in steady tones. In
/// five minutes of clean music by two generators nothing passes but a step that is there.
fn plain(e: &Evidence) -> bool {
    let scale = e.scales[0].max(e.scales[1]);
    // The power of what is taken away lies above an eighth of the sample rate (4 sin²(π/8)): an impulse is rough.
    let rough = e.steps >= 0.586 * e.energy;
    let alone = e.peak >= 7.5 * e.high[0].max(e.high[1]);
    let explained = e.left <= (14.0 * scale).min(e.peak / 6.5);
    rough && alone && explained && e.peak > 12.0 * scale && e.most <= 1.2 * e.jump
}

/// The evidence as numbers without unit, each finite: logarithms of ratios, so the recording's level has no say.
pub fn features(e: &Evidence) -> [f32; FEATURES] {
    let scale = e.scales[0].max(e.scales[1]);
    // Not a number counts as nothing, infinity as much.
    let bounded = |v: f32| if v > 1e9 { 1e9 } else { v.max(1e-9) };
    let ln = |a: f32, b: f32| (bounded(a) / bounded(b)).ln().clamp(-8.0, 8.0);
    [
        // How far it stands out, from both sides and from one, and what is left of that.
        ln(e.peak, scale),
        ln(e.jump, e.peak),
        ln(e.left, scale),
        ln(e.peak, e.left),
        // What would be taken away: against the jump it begins with, its roughness and its length.
        ln(e.most, e.jump),
        ln(e.steps, e.energy),
        ln(e.gap as f32, 1.0),
        // Whether the music is the same before and after.
        ln(e.scales[1], e.scales[0]),
        ln(e.scales[1], e.scales[0]).abs(),
        // Whether it stands alone, in the stretch and close by.
        ln(e.peak, e.high[0]),
        ln(e.peak, e.high[1]),
        ln(e.peak, e.beside[0]),
        ln(e.peak, e.beside[1]),
        // Against the music, and how predictable that is.
        ln(e.most, e.level),
        ln(e.level, scale),
        // How much of what is unexplained goes away for each sample, and how much stays.
        ln((e.reduction[0] - e.reduction[1]).max(0.01), e.gap as f32),
        ln(e.reduction[1], (e.gap + e.order) as f32),
        // Its shape.
        ln(e.late, e.energy),
        ln(e.most * e.most * e.gap as f32, e.energy),
        ln(e.high[1], e.high[0]),
    ]
}

/// Natural log odds of a click, finite.
pub fn log_odds(e: &Evidence) -> f32 {
    let mut inputs = features(e);
    for ((x, mean), scale) in inputs.iter_mut().zip(weights::MEAN).zip(weights::SCALE) {
        *x = ((*x - mean) * scale).clamp(-weights::SPREAD, weights::SPREAD);
    }
    let hidden = weights::INPUT.iter().zip(weights::INPUT_OFFSET);
    let odds = hidden
        .zip(weights::OUTPUT)
        .map(|((row, offset), out)| {
            let sum: f32 = row.iter().zip(inputs).map(|(w, x)| w * x).sum();
            out * (offset + sum).max(0.0)
        })
        .sum::<f32>()
        + weights::OUTPUT_OFFSET;
    if plain(e) { odds.max(SURE + 1.0) } else { odds }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A click of 12 samples, ten times the errors around it, which its filling explains wholly.
    fn click(height: f32) -> Evidence {
        Evidence {
            peak: height,
            jump: 1.2 * height,
            left: 0.1 * height,
            most: 1.1 * height,
            energy: 4.0 * height * height,
            steps: 8.0 * height * height,
            late: 1.2 * height * height,
            level: 0.5 * height,
            // Not as plain as those that need no weighing: the network decides.
            scales: [0.02 * height, 0.02 * height],
            high: [0.2 * height, 0.2 * height],
            beside: [0.06 * height, 0.06 * height],
            reduction: [9000.0, 60.0],
            gap: 14,
            order: 32,
        }
    }

    #[test]
    fn a_plain_click_is_sure_and_a_drum_that_goes_on_is_none() {
        let odds = log_odds(&click(0.5));
        assert!(!plain(&click(0.5)) && odds > LIKELY, "{odds}");
        // After the attack comes the drum: louder than before, and the filling leaves most of it unexplained.
        let drum = Evidence {
            left: 0.45,
            scales: [0.01, 0.1],
            high: [0.04, 0.4],
            beside: [0.03, 0.45],
            reduction: [9000.0, 7000.0],
            steps: 0.4,
            ..click(0.5)
        };
        let odds = log_odds(&drum);
        assert!(odds < DOUBTFUL, "{odds}");
    }

    #[test]
    fn the_recordings_level_has_no_say() {
        let (loud, soft) = (log_odds(&click(0.5)), log_odds(&click(0.005)));
        assert!((loud - soft).abs() < 1e-3, "{loud} {soft}");
    }

    #[test]
    fn anything_has_finite_odds() {
        for v in [0.0, 1e-30, 1.0, f32::MAX, f32::INFINITY, f32::NAN] {
            let e = Evidence {
                peak: v,
                jump: v,
                left: v,
                most: v,
                energy: v,
                steps: v,
                late: v,
                level: v,
                scales: [v; 2],
                high: [v; 2],
                beside: [v; 2],
                reduction: [v; 2],
                gap: 1,
                order: 0,
            };
            assert!(log_odds(&e).is_finite(), "{v}");
        }
    }

    #[test]
    fn the_more_likely_clicks_the_lower_the_limit() {
        assert_eq!((limit(0), limit(ALLOWED)), (SURE, SURE));
        assert_eq!((limit(CRACKLE), limit(1000)), (DOUBTFUL, DOUBTFUL));
        assert!((0..20).all(|n| limit(n + 1) <= limit(n)));
    }
}

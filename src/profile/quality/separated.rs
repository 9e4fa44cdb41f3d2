// [worker] Which stems of a separated recording are damaged, every 10 ms.
//!
//! A waveform separated by masks has lost the flat tops that would give overdrive away: on such stems
//! their share of near-peak samples tells driven from clean no better than chance. What survives every
//! mask is what a limiter does over time: nothing small passes while the large is at its limit. The networks
//! of [`super::overdrive`] hear this in two signals that separation hardly touches, the restored mix and drums
//! and bass together (what one lost to the other is back in the sum, what hides their damage is gone), and in
//! each of the two, against the whole take. A stem takes part where it sounds.
//!
//! Other instruments and vocals are asked of the live detector ([`metrics::damage`]), which hears drums and bass most:
//! where it finds in these two alone what it finds in the mix, over a third of a second, the others are not blamed.

use super::overdrive::{Heard, Overdrive};
use crate::{
    audio::AudioBuffer,
    damage::{DamageKind, DamageMap, FRAMES_PER_SECOND, Severity, Stem},
    separation::Stems,
};

/// The two judgements' log odds are summed and averaged over this many frames: overdrive comes with a
/// loud passage, not with a frame.
const SMOOTH_FRAMES: usize = 31;
/// The sum from which on a frame counts as damaged. Chosen on four generated songs: of their takes
/// without overdrive (whole and clean, through a phone's microphone, a whole gig's chain without its
/// overload, with crackle, with dropouts) 1 % of the frames lie above, of the clean ones none; of the
/// frames in which drums and bass were driven (4 dB hard, 5 dB soft) 70 %. The 1 % are not spread evenly:
/// two of the four songs have 15 and 22 % of theirs above through the gig's chain.
const ODDS_AT_HALF: f32 = -2.0;
/// Steepness of the severity over the summed log odds: the largest value on a clean take, -2.6, gets the
/// severity 0.3 at which a region ends.
const STEEPNESS: f32 = 1.4;
/// Log odds are trusted to this: about 1 in 500.
const SUREST: f32 = 6.0;
/// Where a stem is this much below its loud frames the damage is not its own: from -24 dB (none of it)
/// to -12 dB (all).
const PRESENCE_DB: [f32; 2] = [-24.0, -12.0];
/// A stem sounds for this long around its loud frames: a hit is rebuilt with its decay, not alone.
const HOLD_FRAMES: usize = 15;

/// Damage of every stem, one entry per started 10 ms of `base` (any rate and length, 1 or 2 channels).
///
/// `stems` are those of `base`, the restored mix; `take_damage` is the map of the raw take (may be empty
/// or shorter). Clipping and overdrive are what restoration has left: they are measured on `base` and
/// `stems`, so that a mix that was clipped as a whole and repaired is not rebuilt too. Drums and bass have odds of
/// their own, each where it sounds; one that was driven alone is seldom found. The other two take over the mix's where
/// they sound, but never what is found in drums and bass. All other kinds belong to the whole recording and are the
/// take's, unchanged.
pub fn assess_stems(
    base: &AudioBuffer,
    stems: &Stems,
    take_damage: &DamageMap,
) -> [DamageMap; Stem::COUNT] {
    let hop = f64::from(base.sample_rate.max(1)) / FRAMES_PER_SECOND as f64;
    let [drums, bass] = [Stem::Drums, Stem::Bass].map(|s| &stems[s as usize]);
    let heard = Heard::new(base, drums, bass);
    // A test reads the weights inside the binary: they can't fail to load.
    let odds = Overdrive::built_in().map_or_else(
        || std::array::from_fn(|_| vec![f32::NEG_INFINITY; heard.frames()]),
        |nets| nets.odds(&heard),
    );
    let driven: [Vec<f32>; 2] =
        odds.map(|odds| odds.iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect());
    let mix = &heard.mix.frames;
    let shared = agreed(mix, &heard.together.frames);
    Stem::ALL.map(|stem| {
        let present = presence(&stems[stem as usize], hop, mix.len());
        let frames = (0..mix.len()).map(|i| {
            let mut frame = Severity::default();
            if let Some(take) = take_damage.frames.get(i) {
                for (own, theirs) in frame.iter_mut().zip(take) {
                    *own = finite(*theirs).clamp(0.0, 1.0);
                }
            }
            let (clipping, saturation) = overdrive(&mix[i]);
            let found = match stem {
                Stem::Drums => driven[0][i],
                Stem::Bass => driven[1][i],
                // The detector hears drums and bass most: their damage is not everyone's.
                Stem::Other | Stem::Vocals => {
                    let theirs = shared[i].max(driven[0][i]).max(driven[1][i]);
                    clipping.max(saturation).min(1.0 - theirs)
                }
            };
            let (kind, not) = if clipping > saturation {
                (DamageKind::Clipping, DamageKind::Saturation)
            } else {
                (DamageKind::Saturation, DamageKind::Clipping)
            };
            frame[kind as usize] = found * present[i];
            frame[not as usize] = 0.0;
            frame
        });
        DamageMap {
            frames: frames.collect(),
        }
    })
}

/// Severity of clipping and of saturation.
fn overdrive(frame: &Severity) -> (f32, f32) {
    (
        finite(frame[DamageKind::Clipping as usize]),
        finite(frame[DamageKind::Saturation as usize]),
    )
}

/// What two judges of the same frames say together, 0..=1.
fn agreed(a: &[Severity], b: &[Severity]) -> Vec<f32> {
    let odds = |frame: &Severity| {
        let (clipping, saturation) = overdrive(frame);
        let p = f64::from(clipping.max(saturation)).clamp(1e-6, 1.0 - 1e-6);
        ((p / (1.0 - p)).ln() as f32).clamp(-SUREST, SUREST)
    };
    let sums: Vec<f32> = a.iter().zip(b).map(|(a, b)| odds(a) + odds(b)).collect();
    let half = SMOOTH_FRAMES / 2;
    (0..sums.len())
        .map(|i| {
            let near = &sums[i.saturating_sub(half)..(i + half + 1).min(sums.len())];
            // Frames before the start and after the end say nothing; a take of a few frames is not judged.
            let mean = near.iter().sum::<f32>() / near.len() as f32;
            if sums.len() < SMOOTH_FRAMES {
                return 0.0;
            }
            1.0 / (1.0 + (STEEPNESS * (ODDS_AT_HALF - mean)).exp())
        })
        .collect()
}

/// Frame by frame, channel by channel.
pub(super) fn sum(a: &AudioBuffer, b: &AudioBuffer) -> AudioBuffer {
    let mut out = a.clone();
    for (channel, other) in out.channels.iter_mut().zip(&b.channels) {
        for (x, y) in channel.iter_mut().zip(other) {
            *x += y;
        }
    }
    out
}

/// How far `stem` sounds in each of `count` frames, 0..=1.
fn presence(stem: &AudioBuffer, hop: f64, count: usize) -> Vec<f32> {
    let power = frame_power(stem, hop, count);
    let loud = loud_level(&power);
    if loud <= 1e-12 {
        return vec![0.0; count];
    }
    (0..count)
        .map(|i| {
            let near = &power[i.saturating_sub(HOLD_FRAMES)..(i + HOLD_FRAMES + 1).min(count)];
            let loudest = near.iter().copied().fold(0.0f32, f32::max);
            let level_db = 10.0 * (loudest / loud).max(1e-12).log10();
            let [none, all] = PRESENCE_DB;
            ((level_db - none) / (all - none)).clamp(0.0, 1.0)
        })
        .collect()
}

/// Mean power of each frame over all channels; non-finite samples count as 0.
fn frame_power(audio: &AudioBuffer, hop: f64, count: usize) -> Vec<f32> {
    (0..count)
        .map(|i| {
            let to = (((i + 1) as f64 * hop) as usize).min(audio.frames());
            let from = ((i as f64 * hop) as usize).min(to);
            let sum: f32 = audio
                .channels
                .iter()
                .flat_map(|c| &c[from..to])
                .map(|x| finite(*x).powi(2))
                .sum();
            sum / ((to - from).max(1) * audio.channels.len().max(1)) as f32
        })
        .collect()
}

/// The power of a loud frame: the 95th percentile.
fn loud_level(power: &[f32]) -> f32 {
    let mut sorted = power.to_vec();
    sorted.sort_unstable_by(f32::total_cmp);
    sorted
        .get(sorted.len() * 95 / 100)
        .copied()
        .unwrap_or_default()
}

fn finite(x: f32) -> f32 {
    if x.is_finite() { x } else { 0.0 }
}

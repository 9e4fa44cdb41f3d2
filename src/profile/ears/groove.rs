// [worker] Hits weighed by the whole song: their place in the bar, what falls there in other bars, how the drums sound.
//
// A kick and a soft snare may sound alike, but they are played at different places, over and over. The networks for hits
// and strokes know no bars; this one hears what they say of a moment, of the same place in other bars and of the bar's
// other beats, and how alike the moment is to the song's other hits. `models/training/profile/weigh.py groove` makes the
// same features.

use super::{
    super::{
        DrumClass,
        spectra::{FPS, quantile},
    },
    Net, STROKES, sigmoid,
};

/// What a moment is described by: three opinions, bands, likeness, loudness, other bars and beats, the beat's
/// parts, the place in the bar, the metre, the beat.
pub(super) const INPUTS: usize =
    3 * STROKES + 2 * GROUPS.len() + 7 * STROKES + 4 * PARTS_HEARD + 12 + 5 + 9;
/// Borders of groups of bands of [`super::features::rhythmic`].
const GROUPS: [(usize, usize); 8] = [
    (0, 4),
    (4, 8),
    (8, 12),
    (12, 17),
    (17, 22),
    (22, 27),
    (27, 32),
    (32, 38),
];
/// Opinions and heights are the largest within this many frames, rises within [`RISE_REACH`].
const REACH: usize = 3;
const RISE_REACH: usize = 2;
/// Log odds are limited to what this probability has, and scaled, so that inputs are about 1.
const SUREST: f32 = 0.003;
const ODDS_SCALE: f32 = 0.3;
/// Limit of the mean opinion that the network's answer is added to.
const SURE: f32 = 0.02;
/// Heights that count when a class's own loudness is asked for, and what it is without any.
const HEARD: f32 = 0.3;
/// Bars around that a habit is taken from, and those that count as the song.
const NEAR_BARS: i64 = 4;
const SONG_BARS: i64 = 16;
/// Places within the beat that are heard too, in beats, and the classes heard there.
const PARTS: [f64; 4] = [0.5, -0.5, 1.0 / 3.0, -1.0 / 3.0];
const PARTS_HEARD: usize = 4;
/// Multiples of the bar's angle.
const ANGLES: [f64; 6] = [1.0, 2.0, 3.0, 4.0, 6.0, 8.0];
/// How near a beat is on it, in beats.
const ON_BEAT: f64 = 0.06;

/// Where the bars lie.
pub(in super::super) struct Bars<'a> {
    /// Seconds.
    beats: &'a [f64],
    /// Place of each beat in its bar.
    places: Vec<usize>,
    /// Beats a bar, 2 to 4.
    length: usize,
}

impl<'a> Bars<'a> {
    pub fn new(beats: &'a [f64], downbeats: &[f64], length: usize) -> Self {
        let length = length.clamp(2, 4);
        let nearest = |time: f64| {
            let off = |i: &usize| (beats[*i] - time).abs();
            (0..beats.len()).min_by(|a, b| off(a).total_cmp(&off(b)))
        };
        let downs: Vec<usize> = downbeats.iter().filter_map(|&d| nearest(d)).collect();
        let places = (0..beats.len())
            .map(|i| {
                let last = downs.iter().copied().filter(|&d| d <= i).max();
                let last = last.or(downs.first().copied()).unwrap_or(0) as i64;
                (i as i64 - last).rem_euclid(length as i64) as usize
            })
            .collect();
        Self {
            beats,
            places,
            length,
        }
    }

    /// The beat before a time and how far towards the next it lies, 0..1.
    fn place(&self, seconds: f64) -> Option<(usize, f64)> {
        if self.beats.len() < 3 {
            return None;
        }
        let next = self.beats.partition_point(|&b| b <= seconds + 1e-9);
        let beat = next.checked_sub(1)?;
        let (from, to) = (self.beats[beat], *self.beats.get(next)?);
        Some((beat, (seconds - from) / (to - from + 1e-9)))
    }

    /// The frame that lies `beats` beats and a part of one from a place.
    fn frame(&self, (beat, part): (usize, f64), beats: i64, parts: f64) -> Option<usize> {
        let part = part + parts;
        let at = usize::try_from(beat as i64 + beats + part.floor() as i64).ok()?;
        let (from, to) = (*self.beats.get(at)?, *self.beats.get(at + 1)?);
        let seconds = from + (part - part.floor()) * (to - from);
        Some((seconds * FPS).round() as usize)
    }
}

/// What was heard of the drums, all at 100 frames a second.
pub(in super::super) struct Strokes {
    /// `[frame][STROKES]`: by the networks for strokes, phrases and hits.
    pub opinions: [Vec<f32>; 3],
    /// Their mean.
    pub mean: Vec<f32>,
    /// `[frame][2 bands]`, as [`super::features::rhythmic`], of the mix and of what the drums are heard in.
    pub bands: [Vec<f32>; 2],
}

/// Moments where a class may be hit, and the probability that it is.
pub(in super::super) type Moments = [Vec<(usize, f32)>; STROKES];

/// Weighs every summit of the mean opinion that reaches `least` of its class.
pub(super) fn weigh(net: &Net, strokes: &Strokes, bars: &Bars, least: &[f32; STROKES]) -> Moments {
    let song = Song::new(strokes, bars);
    DrumClass::ALL.map(|class| {
        let k = class as usize;
        let moments = song.summits(k, least[k]);
        let told = net.run(&song.describe(&moments));
        moments
            .iter()
            .zip(told.chunks_exact(STROKES))
            .map(|(&t, told)| (t, sigmoid(told[k] + song.mean_odds(t, k))))
            .collect()
    })
}

/// The song as a moment's description asks for it.
struct Song<'a> {
    bars: &'a Bars<'a>,
    frames: usize,
    mean: &'a [f32],
    /// `[frame][STROKES]`, largest within [`REACH`], of each opinion and of the mean.
    opinions: [Vec<f32>; 3],
    heights: Vec<f32>,
    /// `[frame][bands]`, largest rise within [`RISE_REACH`], of both ears.
    rises: [Vec<f32>; 2],
    bands: usize,
    loud: [f32; STROKES],
}

impl<'a> Song<'a> {
    fn new(strokes: &'a Strokes, bars: &'a Bars<'a>) -> Self {
        let bands = super::BandSpectra::band_count();
        let rises = strokes.bands.each_ref().map(|rows| {
            let own: Vec<f32> = rows
                .chunks_exact(2 * bands)
                .flat_map(|row| row[bands..].iter().copied())
                .collect();
            largest_around(&own, bands, RISE_REACH)
        });
        let opinions = strokes
            .opinions
            .each_ref()
            .map(|o| largest_around(o, STROKES, REACH));
        let frames = rises
            .iter()
            .map(|r| r.len() / bands)
            .chain([strokes.mean.len() / STROKES]);
        let frames = frames.min().unwrap_or(0);
        let loud = std::array::from_fn(|k| {
            let heard = strokes.mean.chunks_exact(STROKES).map(|row| row[k]);
            let heard: Vec<f32> = heard.filter(|&p| p >= HEARD).collect();
            if heard.len() < 2 {
                HEARD
            } else {
                quantile(&heard, 0.75)
            }
        });
        Self {
            bars,
            frames,
            mean: &strokes.mean,
            opinions,
            heights: largest_around(&strokes.mean, STROKES, REACH),
            rises,
            bands,
            loud,
        }
    }

    fn summits(&self, k: usize, least: f32) -> Vec<usize> {
        let at = |t: usize| self.mean[t * STROKES + k];
        (0..self.frames)
            .filter(|&t| {
                let mut around = t.saturating_sub(2)..(t + 3).min(self.frames);
                at(t) >= least && around.all(|o| at(o) <= at(t))
            })
            .collect()
    }

    /// Log odds of the three opinions' mean.
    fn mean_odds(&self, t: usize, k: usize) -> f32 {
        let sum: f32 = self
            .opinions
            .iter()
            .map(|o| o[t * STROKES + k].clamp(SUREST, 1.0 - SUREST))
            .sum();
        let p = (sum / 3.0).clamp(SURE, 1.0 - SURE);
        (p / (1.0 - p)).ln()
    }

    /// Mean heights at the same part of the beats `away`, and whether there is one.
    fn habit(
        &self,
        place: (usize, f64),
        away: impl Iterator<Item = i64>,
    ) -> ([f32; STROKES], bool) {
        let mut sum = [0.0f32; STROKES];
        let mut count = 0.0f32;
        for beats in away {
            if let Some(frame) = self.bars.frame(place, beats, 0.0) {
                let frame = frame.min(self.frames - 1);
                let row = &self.heights[frame * STROKES..][..STROKES];
                sum.iter_mut().zip(row).for_each(|(s, h)| *s += h);
                count += 1.0;
            }
        }
        (sum.map(|s| s / count.max(1.0)), count > 0.0)
    }

    /// `[moment][INPUTS]`.
    fn describe(&self, moments: &[usize]) -> Vec<f32> {
        let likeness = self.likeness(moments);
        let mut out = Vec::with_capacity(moments.len() * INPUTS);
        for (i, &t) in moments.iter().enumerate() {
            for opinion in &self.opinions {
                out.extend(opinion[t * STROKES..][..STROKES].iter().map(|&p| odds(p)));
            }
            for rises in &self.rises {
                let row = &rises[t * self.bands..][..self.bands];
                out.extend(GROUPS.map(|(a, b)| row[a..b].iter().sum::<f32>() / (b - a) as f32));
            }
            out.extend_from_slice(&likeness[i * STROKES..][..STROKES]);
            out.extend_from_slice(&self.loud);
            self.describe_place(t, &mut out);
        }
        out
    }

    fn describe_place(&self, t: usize, out: &mut Vec<f32>) {
        let length = self.bars.length as i64;
        let place = self.bars.place(t as f64 / FPS);
        let bars = |count: i64| {
            (-count..=count)
                .filter(|&k| k != 0)
                .map(move |k| k * length)
        };
        let (near, repeats) =
            place.map_or(([0.0; STROKES], false), |p| self.habit(p, bars(NEAR_BARS)));
        out.extend_from_slice(&near);
        let song = place.map_or([0.0; STROKES], |p| self.habit(p, bars(SONG_BARS)).0);
        out.extend_from_slice(&song);
        // The beat after, the one before, the one half a bar away.
        let half = (length % 2 == 0).then_some(length / 2);
        for beat in [Some(1), Some(length - 1), half] {
            let heard = place.zip(beat).map(|(p, beat)| {
                let away = (-NEAR_BARS..=NEAR_BARS).map(|k| k * length + beat);
                self.habit(p, away).0
            });
            out.extend_from_slice(&heard.unwrap_or_default());
        }
        for part in PARTS {
            let frame = place.and_then(|p| self.bars.frame(p, 0, part));
            let row = frame.map(|f| f.min(self.frames - 1) * STROKES);
            out.extend((0..PARTS_HEARD).map(|k| row.map_or(0.0, |r| self.heights[r + k])));
        }
        let at = place.map(|(beat, part)| (self.bars.places[beat], part));
        for angle in ANGLES {
            let turn = |(beat, part): (usize, f64)| {
                std::f64::consts::TAU * angle * (beat as f64 + part) / length as f64
            };
            out.push(at.map_or(0.0, |p| turn(p).cos() as f32));
            out.push(at.map_or(0.0, |p| turn(p).sin() as f32));
        }
        let flag = |yes: bool| f32::from(u8::from(yes));
        out.extend((2..=4).map(|n| flag(length == n)));
        out.push(flag(place.is_some()));
        out.push(flag(repeats));
        let on = at.map_or(0.0, |(_, part)| {
            (-(part.min(1.0 - part) / ON_BEAT).powi(2)).exp() as f32
        });
        let beat = |n: usize| flag(at.is_some_and(|p| p.0 == n));
        out.extend((0..4).map(beat));
        out.extend((0..4).map(|n| beat(n) * on));
        out.push(on);
    }

    /// Cosines between how the bands of the drums rise at each moment and at a class's hits among the moments.
    fn likeness(&self, moments: &[usize]) -> Vec<f32> {
        let row = |t: usize| &self.rises[1][t * self.bands..][..self.bands];
        let length = |v: &[f32]| v.iter().map(|x| x * x).sum::<f32>().sqrt() + 1e-6;
        let models: Vec<Vec<f32>> = (0..STROKES)
            .map(|k| {
                let mut sum = vec![0.0f32; self.bands];
                let mut total = 0.0f32;
                for &t in moments {
                    let weight = self.heights[t * STROKES + k].powi(2) + 1e-6;
                    sum.iter_mut()
                        .zip(row(t))
                        .for_each(|(s, r)| *s += weight * r);
                    total += weight;
                }
                sum.iter_mut().for_each(|s| *s /= total.max(1e-9));
                sum
            })
            .collect();
        let cosine = |t: usize, model: &Vec<f32>| {
            let dot: f32 = row(t).iter().zip(model).map(|(a, b)| a * b).sum();
            dot / (length(row(t)) * length(model))
        };
        let each = |&t: &usize| models.iter().map(move |m| cosine(t, m)).collect::<Vec<_>>();
        moments.iter().flat_map(each).collect()
    }
}

/// Log odds as the network takes them.
fn odds(p: f32) -> f32 {
    let p = p.clamp(SUREST, 1.0 - SUREST);
    (p / (1.0 - p)).ln() * ODDS_SCALE
}

/// Each value's largest within `reach` rows, `[row][width]`.
fn largest_around(rows: &[f32], width: usize, reach: usize) -> Vec<f32> {
    let count = rows.len() / width;
    let mut out = Vec::with_capacity(count * width);
    for t in 0..count {
        let near = t.saturating_sub(reach)..(t + reach + 1).min(count);
        out.extend((0..width).map(|k| {
            let all = near.clone().map(|i| rows[i * width + k]);
            all.fold(0.0, f32::max)
        }));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_counted_from_the_last_downbeat() {
        let beats: Vec<f64> = (0..9).map(f64::from).collect();
        // A bar of three, then one of four that is cut short.
        let bars = Bars::new(&beats, &[1.02, 4.0, 7.0], 4);
        assert_eq!(bars.places, [3, 0, 1, 2, 0, 1, 2, 0, 1]);
        assert_eq!(Bars::new(&beats, &[], 3).places[..4], [0, 1, 2, 0]);
        // Half a beat after beat 4; four beats later, and a beat and a half.
        let place = bars.place(4.5).unwrap();
        assert!(place.0 == 4 && (place.1 - 0.5).abs() < 1e-6);
        assert_eq!(bars.frame(place, -4, 0.0), Some(50));
        assert_eq!(bars.frame(place, 1, 0.5), Some(600));
        assert_eq!(bars.frame(place, 4, 0.0), None);
        assert!(bars.place(-0.1).is_none() && bars.place(8.0).is_none());
    }

    #[test]
    fn the_largest_around_stops_at_the_ends() {
        let rows = [1.0, 0.0, 0.0, 5.0, 2.0, 0.0, 0.0, 3.0];
        assert_eq!(
            largest_around(&rows, 2, 1),
            [1.0, 5.0, 2.0, 5.0, 2.0, 5.0, 2.0, 3.0]
        );
    }
}

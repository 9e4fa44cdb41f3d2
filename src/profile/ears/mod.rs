// [worker] Learned ears: what eight small networks hear in the audio, as probabilities over time.
//
// The first hears pitch (bass, lead, chord), the second hits (drums and note onsets), the third, from what
// the two say, beats and bars, the next two the drums' strokes, one ear on the mix and one on their stem, from 0.6 and
// from 5 s around. The others weigh what these say: hits by the song's bars, the lead's pitch by its partials, and
// whether a lead sounds. They are trained on generated music only (`models/training/profile`) and travel inside the binary;
// without them the profile falls back on its rules.

mod features;
pub(super) mod groove;
mod lead;
pub(super) mod line;
mod net;
pub(super) mod pulse;
pub(super) mod strokes;

use super::{
    chroma, onsets,
    spectra::{BandSpectra, RATE, Source, sections_of},
};
use crate::{
    dense::{act::softmax, weights::WeightsError},
    worker::progress::Progress,
};
pub(super) use features::PITCH_FPS;
use net::sigmoid;
pub(super) use net::{Net, Nets};

/// A file of weights that can't be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum EarsError {
    #[error(transparent)]
    File(#[from] WeightsError),
    #[error("a network of the ears has {actual} inputs or outputs instead of {expected}")]
    Shape { expected: usize, actual: usize },
}

/// Bass notes: MIDI 23 up, then none.
pub(super) const BASS_LOWEST: usize = 23;
pub(super) const BASS_NOTES: usize = 41;
/// Lead notes: MIDI 45 up, then none.
pub(super) const LEAD_LOWEST: usize = 45;
pub(super) const LEAD_NOTES: usize = 48;
const BASS: usize = BASS_NOTES + 1;
const LEAD: usize = LEAD_NOTES + 1;
/// Chord roots and none.
const ROOTS: usize = 13;
/// Bass, lead, root classes; chord tones; onsets of bass and lead.
const PITCH_OUTPUTS: usize = BASS + LEAD + ROOTS + 12 + 2;
/// Drum classes, then onsets of bass and lead.
pub(super) const HITS: usize = 9;
/// Classes of strokes.
pub(super) const STROKES: usize = super::DrumClass::COUNT;
/// Inputs of the network for beats.
const PULSE_INPUTS: usize = HITS + onsets::GROUPS + 1 + 3 + 2;
/// Beat, downbeat, compound time.
pub(super) const PULSE: usize = 3;
/// Share of the lead's own stem beside the mix in what is heard of its onsets. Chosen, as the next two, on generated songs
/// with other sounds than the trained ones.
const LEAD_STEM: f32 = 0.6;
/// What a pitch counts that nothing tracks, beside 1 for one that is, and the power that weighs this against what the
/// network says.
const UNTRACKED: f32 = 0.05;
const TRACK_POWER: f32 = 0.5;
/// Reach of the comparison that finds changes of harmony, in pitched frames (0.4 s).
const CHANGE_REACH: usize = 20;

/// The eight networks.
pub(super) struct Ears {
    pitch: Net,
    hits: Net,
    pulse: Net,
    /// Hears strokes from what is near, and from the phrase around them.
    strokes: [Net; 2],
    /// Weighs hits by the whole song.
    groove: Net,
    /// Weighs a pitch of the lead, and whether one sounds.
    lead: [Net; 2],
}

/// What was heard. Probabilities 0..=1.
#[derive(Default)]
pub(super) struct Heard {
    /// `[frame at 50 fps][BASS_NOTES + 1]`, summing to 1.
    pub bass: Vec<f32>,
    /// `[frame at 50 fps][LEAD_NOTES + 1]`, summing to 1; of the mix until [`Ears::hear_lead`].
    pub lead: Vec<f32>,
    /// What tells a pitch of the lead from its octaves.
    partials: lead::Partials,
    /// `[frame at 50 fps][13]`, C.. B and none, summing to 1.
    pub roots: Vec<f32>,
    /// `[frame at 50 fps][12]`, whether each pitch class belongs to the chord.
    pub tones: Vec<f32>,
    /// `[frame at 50 fps][2]`, onsets of bass and lead.
    pub note_onsets: Vec<f32>,
    /// `[frame at 100 fps][HITS]`.
    pub hits: Vec<f32>,
    /// `[frame at 50 fps][PULSE]`; empty until [`Ears::feel`].
    pub pulse: Vec<f32>,
}

impl Ears {
    /// The networks inside the binary.
    pub fn built_in() -> Result<Self, EarsError> {
        Self::read(include_bytes!("weights.bin"))
    }

    pub fn read(bytes: &[u8]) -> Result<Self, EarsError> {
        let mut reader = Nets::new(bytes)?;
        let checked = |net: Net, inputs: usize, outputs: usize| {
            for (expected, actual) in [(inputs, net.inputs), (outputs, net.outputs)] {
                if expected != actual {
                    return Err(EarsError::Shape { expected, actual });
                }
            }
            Ok(net)
        };
        Ok(Self {
            pitch: checked(reader.net()?, features::PITCH_INPUTS, PITCH_OUTPUTS)?,
            hits: checked(reader.net()?, 2 * BandSpectra::band_count(), HITS)?,
            pulse: checked(reader.net()?, PULSE_INPUTS, PULSE)?,
            strokes: [
                checked(reader.net()?, 4 * BandSpectra::band_count(), STROKES)?,
                checked(reader.net()?, 4 * BandSpectra::band_count(), STROKES)?,
            ],
            groove: checked(reader.net()?, groove::INPUTS, STROKES)?,
            lead: [
                checked(reader.net()?, lead::PITCH_INPUTS, 1)?,
                checked(reader.net()?, lead::VOICE_INPUTS, 1)?,
            ],
        })
    }

    /// Everything but the pulse. `spectra` of the same audio as `source`; `tuning` in semitones. None when
    /// cancelled.
    pub fn listen(
        &self,
        source: &Source,
        spectra: &BandSpectra,
        tuning: f64,
        progress: &Progress,
    ) -> Option<Heard> {
        let mut heard = Heard::default();
        self.hear_pitch(source, tuning, &mut heard, progress)?;
        heard.hits = in_sections(&self.hits, &features::rhythmic(spectra), progress)?;
        Some(heard)
    }

    /// Appends what the network for pitch hears. None when cancelled.
    fn hear_pitch(
        &self,
        source: &Source,
        tuning: f64,
        heard: &mut Heard,
        progress: &Progress,
    ) -> Option<()> {
        for (hear, keep) in sections_of(features::pitch_frames(source), 6000, 100) {
            let input = features::pitched(source, tuning, hear.clone(), progress)?;
            let mut out = self.pitch.run(&input);
            let skip = keep.start - hear.start;
            let bins = input.chunks_exact(features::PITCH_INPUTS);
            for row in bins.skip(skip).take(keep.len()) {
                heard.partials.push(row);
            }
            for row in out
                .chunks_exact_mut(PITCH_OUTPUTS)
                .skip(skip)
                .take(keep.len())
            {
                let (bass, rest) = row.split_at_mut(BASS);
                let (lead, rest) = rest.split_at_mut(LEAD);
                let (roots, rest) = rest.split_at_mut(ROOTS);
                softmax(bass);
                softmax(lead);
                softmax(roots);
                rest.iter_mut().for_each(|x| *x = sigmoid(*x));
                heard.bass.extend_from_slice(bass);
                heard.lead.extend_from_slice(lead);
                heard.roots.extend_from_slice(roots);
                heard.tones.extend_from_slice(&rest[..12]);
                heard.note_onsets.extend_from_slice(&rest[12..]);
            }
        }
        Some(())
    }

    /// Strokes of the drums from the mix and, where there is one, the drums' own stem. None when cancelled.
    ///
    /// Three opinions, whose mean errs less than each: the networks for strokes, which hear both at once,
    /// and the one for hits, which hears each by itself (`heard`: what [`Self::listen`] made of the mix).
    pub fn hear_strokes(
        &self,
        mix: &BandSpectra,
        drums: Option<&BandSpectra>,
        heard: &Heard,
        progress: &Progress,
    ) -> Option<groove::Strokes> {
        let wide = 2 * mix.bands;
        let whole = features::rhythmic(mix);
        let own = drums.map(features::rhythmic);
        let mut input = Vec::with_capacity(2 * whole.len());
        let beside = own.as_ref().unwrap_or(&whole);
        for (a, b) in whole.chunks_exact(wide).zip(beside.chunks_exact(wide)) {
            input.extend_from_slice(a);
            input.extend_from_slice(b);
        }
        let [near, phrase] = &self.strokes;
        let mut opinions = [
            in_sections(near, &input, progress)?,
            in_sections(phrase, &input, progress)?,
            Vec::new(),
        ];
        let own_hits = match &own {
            Some(own) => &in_sections(&self.hits, own, progress)?,
            None => &heard.hits,
        };
        let both = heard
            .hits
            .chunks_exact(HITS)
            .zip(own_hits.chunks_exact(HITS));
        opinions[2] = both
            .flat_map(|(a, b)| a.iter().zip(b).take(STROKES))
            .map(|(a, b)| 0.5 * (a + b))
            .collect();
        let [a, b, c] = &opinions;
        let mean = a.iter().zip(b).zip(c);
        let mean = mean.map(|((a, b), c)| (a + b + c) / 3.0).collect();
        let beside = own.unwrap_or_else(|| whole.clone());
        Some(groove::Strokes {
            opinions,
            mean,
            bands: [whole, beside],
        })
    }

    /// Moments where the drums may be hit, weighed by the song's bars.
    pub fn weigh_strokes(&self, strokes: &groove::Strokes, bars: &groove::Bars) -> groove::Moments {
        groove::weigh(&self.groove, strokes, bars, &strokes::least())
    }

    /// Beats and bars, from what was heard; `groups` as in [`onsets::Onsets`].
    pub fn feel(&self, heard: &mut Heard, groups: &[Vec<f32>], total: &[f32]) {
        let input = pulse_features(heard, groups, total);
        heard.pulse = self.pulse.run(&input);
        heard.pulse.iter_mut().for_each(|x| *x = sigmoid(*x));
    }
}

impl Ears {
    /// Lets the bass's own stem speak beside the mix. None when cancelled.
    pub fn hear_bass(
        &self,
        source: &Source,
        spectra: &BandSpectra,
        tuning: f64,
        heard: &mut Heard,
        progress: &Progress,
    ) -> Option<()> {
        if spectra.peak() < super::spectra::SILENCE {
            return Some(());
        }
        let own = self.listen(source, spectra, tuning, progress)?;
        average(&mut heard.bass, &own.bass);
        for (i, (a, b)) in heard
            .note_onsets
            .iter_mut()
            .zip(&own.note_onsets)
            .enumerate()
        {
            if i % 2 == 0 {
                *a = 0.5 * (*a + b);
            }
        }
        for (row, own) in heard
            .hits
            .chunks_exact_mut(HITS)
            .zip(own.hits.chunks_exact(HITS))
        {
            row[7] = 0.5 * (row[7] + own[7]);
        }
        Some(())
    }

    /// Hears the lead, its own stem beside the mix where there is one. None when cancelled.
    pub fn hear_lead(
        &self,
        source: Option<&Source>,
        tuning: f64,
        heard: &mut Heard,
        progress: &Progress,
    ) -> Option<()> {
        let own = match source {
            Some(source) => {
                let mut own = Heard::default();
                self.hear_pitch(source, tuning, &mut own, progress)?;
                let onsets = heard.note_onsets.chunks_exact_mut(2);
                for (a, b) in onsets.zip(own.note_onsets.chunks_exact(2)) {
                    a[1] = (1.0 - LEAD_STEM) * a[1] + LEAD_STEM * b[1];
                }
                Some(own)
            }
            None => None,
        };
        let [pitch, voice] = &self.lead;
        let (mix, own) = (heard.lead_ear(), own.as_ref().unwrap_or(heard).lead_ear());
        heard.lead = lead::weigh(pitch, voice, mix, own);
        Some(())
    }
}

/// Probabilities of a network at 100 fps, piece by piece. None when cancelled.
fn in_sections(net: &Net, input: &[f32], progress: &Progress) -> Option<Vec<f32>> {
    let frames = input.len() / net.inputs;
    let mut out = Vec::with_capacity(frames * net.outputs);
    for (hear, keep) in sections_of(frames, 12_000, 300) {
        if progress.is_cancelled() {
            return None;
        }
        let part = net.run(&input[hear.start * net.inputs..hear.end * net.inputs]);
        let skip = (keep.start - hear.start) * net.outputs;
        let kept = &part[skip..][..keep.len() * net.outputs];
        out.extend(kept.iter().map(|&x| sigmoid(x)));
    }
    Some(out)
}

fn average(a: &mut [f32], b: &[f32]) {
    for (a, b) in a.iter_mut().zip(b) {
        *a = 0.5 * (*a + b);
    }
}

impl Heard {
    fn lead_ear(&self) -> lead::Ear<'_> {
        lead::Ear {
            classes: &self.lead,
            partials: &self.partials,
        }
    }

    /// Onsets of bass (0) or lead (1) at 100 fps, both networks' opinions.
    fn onsets(&self, which: usize) -> Vec<f32> {
        let frames = self.hits.len() / HITS;
        (0..frames)
            .map(|t| {
                let coarse = |i: usize| self.note_onsets.get(2 * i + which).copied();
                let a = coarse(t / 2).unwrap_or(0.0);
                let b = coarse(t.div_ceil(2)).unwrap_or(a);
                0.5 * self.hits[t * HITS + 7 + which] + 0.25 * (a + b)
            })
            .collect()
    }

    /// Notes of the bass; `levels` every 10 ms, `tuning` in semitones.
    pub fn bass_line(&self, levels: &[f32], tuning: f64) -> Vec<super::Note> {
        let line = line::Line {
            classes: &self.bass,
            notes: BASS_NOTES,
            lowest: BASS_LOWEST,
            onsets: &self.onsets(0),
            levels,
            tuning,
        };
        line.read()
    }

    /// Notes of the lead; `track`: the pitch that stands out in the mix, whose octaves are surer than the network's.
    pub fn lead_line(
        &self,
        track: &super::PitchTrack,
        levels: &[f32],
        tuning: f64,
    ) -> Vec<super::Note> {
        let mut classes = self.lead.clone();
        for (t, row) in classes.chunks_exact_mut(LEAD).enumerate() {
            let mut tracked = [0.0f32; LEAD_NOTES];
            for &hz in track.hz.iter().skip(2 * t).take(2).filter(|hz| **hz > 0.0) {
                let midi = (super::bass::midi_of(f64::from(hz)) - tuning).round();
                let class = (midi as usize).checked_sub(LEAD_LOWEST);
                if let Some(share) = class.and_then(|c| tracked.get_mut(c)) {
                    *share += 0.5;
                }
            }
            let notes = &mut row[..LEAD_NOTES];
            let voiced: f32 = notes.iter().sum();
            for (p, tracked) in notes.iter_mut().zip(tracked) {
                *p *= (UNTRACKED + (1.0 - UNTRACKED) * tracked).powf(TRACK_POWER);
            }
            // Only the choice among pitches is weighed, not whether one sounds.
            let scale = voiced / notes.iter().sum::<f32>().max(1e-9);
            notes.iter_mut().for_each(|p| *p *= scale);
        }
        let line = line::Line {
            classes: &classes,
            notes: LEAD_NOTES,
            lowest: LEAD_LOWEST,
            onsets: &self.onsets(1),
            levels,
            tuning,
        };
        line.read()
    }

    /// Frames at 50 fps.
    pub fn frames(&self) -> usize {
        self.note_onsets.len() / 2
    }
}

/// `[frame at 50 fps][PULSE_INPUTS]`.
fn pulse_features(heard: &Heard, groups: &[Vec<f32>], total: &[f32]) -> Vec<f32> {
    let frames = heard.frames();
    let changes = [
        change(&heard.roots, ROOTS),
        change(&heard.tones, 12),
        change(&fold_bass(&heard.bass), 13),
    ];
    let mut out = Vec::with_capacity(frames * PULSE_INPUTS);
    for t in 0..frames {
        for k in 0..HITS {
            let at = |i: usize| heard.hits.get(i * HITS + k).copied().unwrap_or(0.0);
            out.push(at(2 * t).max(at(2 * t + 1)));
        }
        for signal in groups.iter().map(Vec::as_slice).chain([total]) {
            let at = |i: usize| signal.get(i).copied().unwrap_or(0.0);
            out.push(at(2 * t).max(at(2 * t + 1)));
        }
        out.extend(changes.iter().map(|c| c[t]));
        out.extend_from_slice(&heard.note_onsets[2 * t..][..2]);
    }
    out
}

/// Bass posteriors by pitch class, none last.
fn fold_bass(bass: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; bass.len() / BASS * 13];
    for (row, y) in bass.chunks_exact(BASS).zip(out.chunks_exact_mut(13)) {
        for (n, p) in row[..BASS_NOTES].iter().enumerate() {
            y[(n + BASS_LOWEST) % 12] += p;
        }
        y[12] = row[BASS_NOTES];
    }
    out
}

/// Half the absolute difference between the mean rows after and before each frame.
fn change(rows: &[f32], width: usize) -> Vec<f32> {
    let frames = rows.len() / width;
    let mut sums = vec![0.0f64; (frames + 1) * width];
    for t in 0..frames {
        for k in 0..width {
            sums[(t + 1) * width + k] = sums[t * width + k] + f64::from(rows[t * width + k]);
        }
    }
    let mean = |from: usize, to: usize, k: usize| {
        (sums[to * width + k] - sums[from * width + k]) / (to - from).max(1) as f64
    };
    (0..frames)
        .map(|t| {
            let (from, to) = (
                t.saturating_sub(CHANGE_REACH),
                (t + CHANGE_REACH).min(frames),
            );
            if from == t {
                return 0.0;
            }
            let sum: f64 = (0..width)
                .map(|k| (mean(t, to, k) - mean(from, t, k)).abs())
                .sum();
            (0.5 * sum) as f32
        })
        .collect()
}

/// What the networks for pitch, hits and pulse are trained on: pitched features, rhythmic ones, and, heard
/// through `weights`, those of the pulse; for `examples/profile_features.rs`.
#[doc(hidden)]
pub fn training_features(
    mix: &crate::audio::AudioBuffer,
    weights: Option<&[u8]>,
) -> Option<[Vec<f32>; 3]> {
    let parts = [(mix, 1.0)];
    let progress = Progress::new();
    let source = Source::new(&parts, RATE);
    let spectra = BandSpectra::new(&source, &progress)?;
    let tuning = chroma::tuning(&source, &progress)?;
    let frames = features::pitch_frames(&source);
    let pitched = features::pitched(&source, tuning, 0..frames, &progress)?;
    let pulse = match weights {
        Some(bytes) => {
            let ears = Ears::read(bytes).ok()?;
            let heard = ears.listen(&source, &spectra, tuning, &progress)?;
            let onsets = onsets::Onsets::new(&spectra, None)?;
            pulse_features(&heard, &onsets.groups, &onsets.total)
        }
        None => Vec::new(),
    };
    Some([pitched, features::rhythmic(&spectra), pulse])
}

/// What the network for pitch hears of a mix and of its lead, tuned to the mix; for `examples/profile_features.rs`.
#[doc(hidden)]
pub fn pitch_features(audio: [&crate::audio::AudioBuffer; 2]) -> Option<[Vec<f32>; 2]> {
    let progress = Progress::new();
    let parts = audio.map(|a| [(a, 1.0)]);
    let [mix, lead] = parts.each_ref().map(|parts| Source::new(parts, RATE));
    let tuning = chroma::tuning(&mix, &progress)?;
    let hear = |source: &Source| {
        let frames = features::pitch_frames(source);
        features::pitched(source, tuning, 0..frames, &progress)
    };
    Some([hear(&mix)?, hear(&lead)?])
}

/// What one ear of the network for strokes hears, every 10 ms; for `examples/profile_features.rs`.
#[doc(hidden)]
pub fn stroke_features(audio: &[(&crate::audio::AudioBuffer, f32)]) -> Option<Vec<f32>> {
    let spectra = BandSpectra::new(&Source::new(audio, RATE), &Progress::new())?;
    Some(features::rhythmic(&spectra))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weights_in_the_binary_fit() {
        let ears = Ears::built_in().unwrap();
        assert_eq!(ears.hits.inputs, 2 * BandSpectra::band_count());
    }

    /// The same made-up numbers as in the trainer.
    struct Numbers(u32);

    impl Numbers {
        fn take(&mut self, count: usize) -> Vec<f32> {
            (0..count)
                .map(|_| {
                    self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (self.0 >> 8) as f32 / (1 << 24) as f32
                })
                .collect()
        }
    }

    fn golden() -> Vec<f32> {
        let path = [env!("CARGO_MANIFEST_DIR"), "tests/golden/weigh.f32"];
        let bytes = std::fs::read(path.iter().collect::<std::path::PathBuf>()).unwrap();
        let number = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        bytes.chunks_exact(4).map(number).collect()
    }

    #[test]
    fn what_weighs_says_what_its_trainer_says() {
        let (ears, golden) = (Ears::built_in().unwrap(), golden());
        let (mut numbers, mut expected) = (Numbers(1), golden.iter().copied());
        const FRAMES: usize = 300;
        let mut opinion = || -> Vec<f32> {
            let all = numbers.take(FRAMES * STROKES);
            all.iter().map(|x| x * x).collect()
        };
        let opinions = [opinion(), opinion(), opinion()];
        let [a, b, c] = &opinions;
        let mean = (0..a.len()).map(|i| (a[i] + b[i] + c[i]) / 3.0).collect();
        let wide = 2 * BandSpectra::band_count();
        let bands = [numbers.take(FRAMES * wide), numbers.take(FRAMES * wide)];
        let strokes = groove::Strokes {
            opinions,
            mean,
            bands,
        };
        let beats: Vec<f64> = (0..8).map(|i| f64::from(i) * 0.375 + 0.125).collect();
        let bars = groove::Bars::new(&beats, &[beats[1], beats[5]], 4);
        for moments in ears.weigh_strokes(&strokes, &bars) {
            assert_eq!(expected.next(), Some(moments.len() as f32));
            for (t, p) in moments {
                assert_eq!(expected.next(), Some(t as f32));
                let told = expected.next().unwrap();
                assert!((p - told).abs() < 2e-3, "{t}: {p} instead of {told}");
            }
        }

        const SHORT: usize = 20;
        let mut classes = || -> Vec<f32> {
            let mut rows: Vec<f32> = numbers.take(SHORT * LEAD).iter().map(|x| 4.0 * x).collect();
            rows.chunks_exact_mut(LEAD).for_each(softmax);
            rows
        };
        let classes = [classes(), classes()];
        let heard = [0, 1].map(|_| {
            let mut partials = lead::Partials::default();
            for row in numbers.take(SHORT * 252).chunks_exact(252) {
                partials.push(row);
            }
            partials
        });
        let ear = |i: usize| lead::Ear {
            classes: &classes[i],
            partials: &heard[i],
        };
        let [pitch, voice] = &ears.lead;
        for p in lead::weigh(pitch, voice, ear(0), ear(1)) {
            let told = expected.next().unwrap();
            assert!((p - told).abs() < 2e-3, "{p} instead of {told}");
        }
        assert_eq!(expected.next(), None);
    }

    #[test]
    fn a_change_is_where_the_rows_change() {
        let mut rows = vec![0.0; 100 * 12];
        for t in 0..100 {
            rows[t * 12 + if t < 50 { 0 } else { 7 }] = 1.0;
        }
        let change = change(&rows, 12);
        let top = (0..100).max_by(|&a, &b| change[a].total_cmp(&change[b]));
        assert_eq!(top, Some(50));
        assert!((change[50] - 1.0).abs() < 1e-6 && change[20] < 1e-6);
    }
}

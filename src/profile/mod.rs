// [worker] From stems and mix to a [`MusicalProfile`]. Pure functions.

mod bass;
mod beats;
mod chords;
mod chroma;
mod drums;
mod ears;
pub mod edit;
mod key;
mod melody;
pub mod metrics;
pub mod midi;
mod onsets;
pub mod quality;
mod spectra;
mod tempo;
mod types;

pub use bass::{PitchTrack, track_bass};
pub use types::*;

use std::sync::OnceLock;

use crate::{audio::AudioBuffer, damage::Stem, separation::Stems, worker::progress::Progress};
use chroma::Notes;
use ears::Ears;
use onsets::Onsets;
use spectra::{BandSpectra, FPS, RATE, Source};

/// What the profile listens with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Listening {
    /// Small networks inside the binary, and the rules where they say nothing.
    #[default]
    Learned,
    /// Rules alone.
    Rules,
}

/// Everything that can be said about the music of `mix`; what can't be heard stays `None` or empty.
///
/// `mix`: any rate, length and number of channels; damaged input is expected. `stems`: the same music
/// taken apart, which makes every answer surer, or None. Progress is only watched for cancelling: None
/// when cancelled. Deterministic; beside the input it needs about 6 MB a minute of music.
pub fn analyse(
    mix: &AudioBuffer,
    stems: Option<&Stems>,
    progress: &Progress,
) -> Option<MusicalProfile> {
    analyse_with(mix, stems, Listening::Learned, progress)
}

/// As [`analyse`], choosing what to listen with.
pub fn analyse_with(
    mix: &AudioBuffer,
    stems: Option<&Stems>,
    listening: Listening,
    progress: &Progress,
) -> Option<MusicalProfile> {
    static EARS: OnceLock<Option<Ears>> = OnceLock::new();
    let ears = match listening {
        // The weights are part of the binary and a test reads them: they can't fail to load.
        Listening::Learned => EARS.get_or_init(|| Ears::built_in().ok()).as_ref(),
        Listening::Rules => None,
    };
    let whole = [(mix, 1.0)];
    let stem = |s: Stem| stems.map(|all| (&all[s as usize], 1.0));
    let only = |s: Stem| stem(s).map(|part| vec![part]);

    let mix_source = Source::new(&whole, RATE);
    let spectra = BandSpectra::new(&mix_source, progress)?;
    let harmony_parts = match stems {
        Some(all) => vec![
            (&all[Stem::Other as usize], 1.0),
            (&all[Stem::Bass as usize], 1.0),
            (&all[Stem::Vocals as usize], 0.25),
        ],
        None => whole.to_vec(),
    };
    let harmony = Source::new(&harmony_parts, RATE);
    let tuning = chroma::tuning(&harmony, progress)?;
    let notes = Notes::new(&harmony, tuning, progress)?;
    let bass_notes = match only(Stem::Bass) {
        Some(parts) => Some(Notes::new(&Source::new(&parts, RATE), tuning, progress)?),
        None => None,
    };

    let mut profile = MusicalProfile::default();
    let onsets = Onsets::new(&spectra, Some(&notes));
    // Silence has nothing to be heard.
    let mut heard = match (ears, &onsets) {
        (Some(ears), Some(_)) => Some(ears.listen(&mix_source, &spectra, tuning, progress)?),
        _ => None,
    };
    if let (Some(ears), Some(heard), Some(onsets)) = (ears, &mut heard, &onsets) {
        ears.feel(heard, &onsets.groups, &onsets.total);
    }
    let felt = heard.as_ref().map(|heard| heard.pulse.as_slice());
    let pulse = onsets
        .as_ref()
        .and_then(|o| find_beats(o, felt, &mut profile));
    let keys = key::profile_scores(&notes);
    let low = bass_notes.as_ref().unwrap_or(&notes);
    let chords = |beats: &[f64], downbeats: &[f64]| {
        chords::estimate(&notes, low, beats, downbeats, &keys, heard.as_ref())
    };
    // Chords change on downbeats: a first reading without bars finds the bars, a second one uses them.
    profile.chords = chords(&profile.beats, &profile.downbeats);
    if let (Some(onsets), Some(pulse)) = (&onsets, &pulse) {
        find_bars(onsets, pulse, felt, &mut profile);
        profile.chords = chords(&profile.beats, &profile.downbeats);
    }
    profile.key = key::estimate(&notes, &profile.chords);

    let bass_parts = only(Stem::Bass).unwrap_or_else(|| whole.to_vec());
    let bass_spectra = match only(Stem::Bass) {
        Some(parts) => Some(BandSpectra::new(&Source::new(&parts, RATE), progress)?),
        None => None,
    };
    let low_spectra = bass_spectra.as_ref().unwrap_or(&spectra);
    let drum_spectra = match only(Stem::Drums) {
        Some(parts) => Some(BandSpectra::new(&Source::new(&parts, RATE), progress)?),
        None => None,
    };
    let beats_per_bar = match profile.meter.map(|m| m.value) {
        Some((6, 8)) => 2,
        Some((n, _)) => usize::from(n),
        None => 4,
    };
    let drums_heard = drum_spectra.as_ref().unwrap_or(&spectra);
    if let (Some(ears), Some(mut heard)) = (ears, heard) {
        let strokes = ears.hear_strokes(&spectra, drum_spectra.as_ref(), &heard, progress)?;
        if let Some(parts) = only(Stem::Bass) {
            ears.hear_bass(
                &Source::new(&parts, RATE),
                low_spectra,
                tuning,
                &mut heard,
                progress,
            )?;
        }
        let bars = ears::groove::Bars::new(&profile.beats, &profile.downbeats, beats_per_bar);
        let moments = ears.weigh_strokes(&strokes, &bars);
        profile.drums = ears::strokes::read(&moments, &strokes.mean, drums_heard);
        if drum_spectra.is_none() {
            let ruled = drums::estimate(drums_heard, &profile.beats, beats_per_bar, progress)?;
            ears::strokes::add_ruled(&mut profile.drums, &ruled, &strokes.mean);
        }
        profile.bass_notes = heard.bass_line(&levels(low_spectra, 0.0, 400.0), tuning);
        let voice = only(Stem::Vocals).map(|parts| Source::new(&parts, RATE));
        ears.hear_lead(voice.as_ref(), tuning, &mut heard, progress)?;
        let lead = melody::track(&whole, progress)?;
        profile.melody_notes = heard.lead_line(&lead, &levels(&spectra, 200.0, 3000.0), tuning);
        return Some(profile);
    }

    let strength = bass_onsets(low_spectra, stems.is_some());
    let expected = |t: f64| chords::expected_bass(&profile.chords, t);
    let hints = bass::Hints {
        onsets: &strength,
        expected: Some(&expected),
    };
    let track = bass::track(&bass_parts, hints, progress)?;
    let low_levels = levels(low_spectra, 0.0, 400.0);
    profile.bass_notes = bass::notes(&track, &onset_times(&strength, 0.3), &low_levels);

    let lead_parts = only(Stem::Vocals).unwrap_or_else(|| whole.to_vec());
    let lead = melody::track(&lead_parts, progress)?;
    profile.melody_notes = bass::notes(&lead, &[], &lead.confidence);
    profile.drums = drums::estimate(drums_heard, &profile.beats, beats_per_bar, progress)?;
    Some(profile)
}

/// Energy between two frequencies every 10 ms.
fn levels(spectra: &BandSpectra, low_hz: f64, high_hz: f64) -> Vec<f32> {
    (0..spectra.frames())
        .map(|t| {
            let frame = spectra.frame(t).iter().zip(&spectra.centre_hz);
            frame
                .filter(|(_, hz)| (low_hz..high_hz).contains(*hz))
                .map(|(m, _)| m * m)
                .sum()
        })
        .collect()
}

/// Frames a second of a [`chromagram`].
pub const CHROMAGRAM_FPS: f64 = chroma::CHROMA_FPS;

/// How strongly each pitch class sounds, C first, 0 and up, [`CHROMAGRAM_FPS`] times a second.
pub fn chromagram(audio: &AudioBuffer) -> Vec<[f32; 12]> {
    let parts = [(audio, 1.0)];
    let source = Source::new(&parts, RATE);
    let progress = Progress::new();
    let notes = chroma::tuning(&source, &progress).and_then(|t| Notes::new(&source, t, &progress));
    notes.map_or_else(Vec::new, |notes| {
        (0..notes.frames())
            .map(|i| chroma::fold(notes.frame(i), |_| 1.0))
            .collect()
    })
}

/// Pitch of the lead voice of `audio` (its stem, or a mix, less surely), every 10 ms, 110 to 1319 Hz.
pub fn track_melody(audio: &AudioBuffer) -> PitchTrack {
    melody::track(&[(audio, 1.0)], &Progress::new()).unwrap_or_default()
}

/// Beats in frames and what they divide into.
struct Pulse {
    frames: Vec<f64>,
    division: u8,
}

/// Readings of the metre that are tried against what the ears feel.
const READINGS: usize = 6;
/// Share of the ears in the choice of the reading, and of their activation in the beats.
const FELT_READING: f64 = 1.0;
const FELT_BEAT: f32 = 0.6;

/// `felt`: what the ears feel, [`ears::PULSE`] a frame.
fn find_beats(
    onsets: &Onsets,
    felt: Option<&[f32]>,
    profile: &mut MusicalProfile,
) -> Option<Pulse> {
    let levels = tempo::Tempogram::new(onsets).levels();
    let best = levels.first()?.score;
    let mut activation = beats::activation(onsets);
    if let Some(felt) = felt {
        let own = ears::pulse::activation(felt, activation.len());
        for (a, f) in activation.iter_mut().zip(own) {
            *a = (1.0 - FELT_BEAT) * *a + FELT_BEAT * f;
        }
    }
    let count = if felt.is_some() { READINGS } else { 1 };
    let mut readings: Vec<(f64, tempo::Level, Vec<f64>)> = levels
        .iter()
        .take(count)
        .map(|&level| {
            let frames = beats::track(&activation, level);
            let agreement = felt.map_or(0.0, |felt| {
                let times: Vec<f64> = frames.iter().map(|&f| beats::seconds(f)).collect();
                ears::pulse::agreement(felt, &times)
            });
            (level.score / best + FELT_READING * agreement, level, frames)
        })
        .filter(|r| r.2.len() >= 2)
        .collect();
    readings.sort_by(|a, b| b.0.total_cmp(&a.0));
    let rival = readings.get(1).map_or(0.0, |r| r.0 / readings[0].0);
    let (_, level, frames) = readings.into_iter().next()?;
    profile.beats = frames.iter().map(|&f| beats::seconds(f)).collect();
    let span = profile.beats.last()? - profile.beats.first()?;
    let own = match felt {
        Some(felt) => ears::pulse::sureness(felt, &profile.beats),
        None => (level.score * 2.0).min(1.0) as f32,
    };
    profile.tempo_bpm = Some(Estimate {
        value: 60.0 * (frames.len() - 1) as f64 / span,
        confidence: (own * (1.6 - rival).min(1.0) as f32).clamp(0.0, 1.0),
    });
    let division = beats::division(&onsets.total, &frames);
    Some(Pulse { frames, division })
}

fn find_bars(onsets: &Onsets, pulse: &Pulse, felt: Option<&[f32]>, profile: &mut MusicalProfile) {
    let changes = chords::change_at(&profile.chords, &profile.beats);
    let odds = felt.map_or_else(Vec::new, |felt| {
        ears::pulse::downbeat_odds(felt, &profile.beats)
    });
    let Some(bars) = beats::bars(onsets, &pulse.frames, &changes, &odds, pulse.division) else {
        return;
    };
    let at = |&i: &usize| profile.beats.get(i).copied();
    profile.downbeats = bars.downbeats.iter().filter_map(at).collect();
    profile.meter = Some(Estimate {
        value: match (bars.beats_per_bar, pulse.division) {
            (2, 3) => (6, 8),
            (n, _) => (n, 4),
        },
        confidence: bars.confidence,
    });
}

/// Strength of the bass's onsets: what begins low in a mix, anything in the bass's own stem.
fn bass_onsets(spectra: &BandSpectra, own_stem: bool) -> Vec<f32> {
    let Some(onsets) = Onsets::new(spectra, None) else {
        return Vec::new();
    };
    let mut strength: Vec<f32> = (0..onsets.frames())
        .map(|t| {
            let low = onsets.groups[0][t] + onsets.groups[1][t];
            if own_stem {
                0.4 * low + 0.6 * onsets.total[t]
            } else {
                0.5 * low
            }
        })
        .collect();
    onsets::normalise(&mut strength);
    strength
}

/// Times of the summits above `threshold`, at least 60 ms apart.
fn onset_times(strength: &[f32], threshold: f32) -> Vec<f64> {
    const REACH: usize = 4;
    let mut out: Vec<f64> = Vec::new();
    for t in 0..strength.len() {
        let around = &strength[t.saturating_sub(REACH)..(t + REACH + 1).min(strength.len())];
        let summit = strength[t] >= threshold && around.iter().all(|&s| s <= strength[t]);
        let time = t as f64 / FPS;
        if summit && out.last().is_none_or(|l| time - l > 0.06) {
            out.push(time);
        }
    }
    out
}

#[doc(hidden)]
pub use ears::{pitch_features, stroke_features, training_features};

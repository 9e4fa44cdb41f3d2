// [worker] From stems and mix to a [`MusicalProfile`]. Pure functions.

mod bass;
mod beats;
mod chords;
mod chroma;
mod drums;
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

use crate::{audio::AudioBuffer, damage::Stem, separation::Stems, worker::progress::Progress};
use chroma::Notes;
use onsets::Onsets;
use spectra::{BandSpectra, FPS, RATE, Source};

/// Everything that can be said about the music of `mix`; what can't be heard stays `None` or empty.
///
/// `mix`: any rate, length and number of channels; damaged input is expected. `stems`: the same music
/// taken apart, which makes every answer surer, or None. Progress is only watched for cancelling: None
/// when cancelled. Deterministic; beside the input it needs about 5 MB a minute of music.
pub fn analyse(
    mix: &AudioBuffer,
    stems: Option<&Stems>,
    progress: &Progress,
) -> Option<MusicalProfile> {
    let whole = [(mix, 1.0)];
    let stem = |s: Stem| stems.map(|all| (&all[s as usize], 1.0));
    let only = |s: Stem| stem(s).map(|part| vec![part]);

    let spectra = BandSpectra::new(&Source::new(&whole, RATE), progress)?;
    let harmony_parts = match stems {
        Some(all) => vec![
            (&all[Stem::Other as usize], 1.0),
            (&all[Stem::Bass as usize], 1.0),
            (&all[Stem::Vocals as usize], 0.25),
        ],
        None => whole.to_vec(),
    };
    let notes = Notes::new(&Source::new(&harmony_parts, RATE), progress)?;
    let bass_notes = match only(Stem::Bass) {
        Some(parts) => Some(Notes::new(&Source::new(&parts, RATE), progress)?),
        None => None,
    };

    let mut profile = MusicalProfile::default();
    let onsets = Onsets::new(&spectra, Some(&notes));
    let pulse = onsets.as_ref().and_then(|o| find_beats(o, &mut profile));
    let keys = key::profile_scores(&notes);
    let low = bass_notes.as_ref().unwrap_or(&notes);
    let chords =
        |beats: &[f64], downbeats: &[f64]| chords::estimate(&notes, low, beats, downbeats, &keys);
    // Chords change on downbeats: a first reading without bars finds the bars, a second one uses them.
    profile.chords = chords(&profile.beats, &[]);
    if let (Some(onsets), Some(pulse)) = (&onsets, &pulse) {
        find_bars(onsets, pulse, &mut profile);
        profile.chords = chords(&profile.beats, &profile.downbeats);
    }
    profile.key = key::estimate(&notes, &profile.chords);

    let bass_parts = only(Stem::Bass).unwrap_or_else(|| whole.to_vec());
    let bass_spectra = match only(Stem::Bass) {
        Some(parts) => Some(BandSpectra::new(&Source::new(&parts, RATE), progress)?),
        None => None,
    };
    let low_spectra = bass_spectra.as_ref().unwrap_or(&spectra);
    let strength = bass_onsets(low_spectra, stems.is_some());
    let expected = |t: f64| chords::expected_bass(&profile.chords, t);
    let hints = bass::Hints {
        onsets: &strength,
        expected: Some(&expected),
    };
    let track = bass::track(&bass_parts, hints, progress)?;
    profile.bass_notes = bass_line(&track, low_spectra, &strength);

    let lead_parts = only(Stem::Vocals).unwrap_or_else(|| whole.to_vec());
    let lead = melody::track(&lead_parts, progress)?;
    profile.melody_notes = bass::notes(&lead, &[], &lead.confidence);

    let drum_spectra = match only(Stem::Drums) {
        Some(parts) => Some(BandSpectra::new(&Source::new(&parts, RATE), progress)?),
        None => None,
    };
    let beats_per_bar = match profile.meter.map(|m| m.value) {
        Some((6, 8)) => 2,
        Some((n, _)) => usize::from(n),
        None => 4,
    };
    profile.drums = drums::estimate(
        drum_spectra.as_ref().unwrap_or(&spectra),
        &profile.beats,
        beats_per_bar,
        progress,
    )?;
    Some(profile)
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

fn find_beats(onsets: &Onsets, profile: &mut MusicalProfile) -> Option<Pulse> {
    let levels = tempo::Tempogram::new(onsets).levels();
    let &level = levels.first()?;
    let frames = beats::track(&beats::activation(onsets), level);
    if frames.len() < 2 {
        return None;
    }
    profile.beats = frames.iter().map(|&f| beats::seconds(f)).collect();
    let span = profile.beats.last()? - profile.beats.first()?;
    let rival = levels.get(1).map_or(0.0, |l| l.score / level.score);
    profile.tempo_bpm = Some(Estimate {
        value: 60.0 * (frames.len() - 1) as f64 / span,
        confidence: ((level.score * 2.0).min(1.0) * (1.3 - rival).min(1.0)).clamp(0.0, 1.0) as f32,
    });
    let division = beats::division(&onsets.total, &frames);
    Some(Pulse { frames, division })
}

fn find_bars(onsets: &Onsets, pulse: &Pulse, profile: &mut MusicalProfile) {
    let changes = chords::change_at(&profile.chords, &profile.beats);
    let Some(bars) = beats::bars(onsets, &pulse.frames, &changes, pulse.division) else {
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

/// Notes of the bass, cut at its onsets.
fn bass_line(track: &PitchTrack, spectra: &BandSpectra, strength: &[f32]) -> Vec<Note> {
    let levels: Vec<f32> = (0..spectra.frames())
        .map(|t| {
            let frame = spectra.frame(t).iter().zip(&spectra.centre_hz);
            frame
                .filter(|(_, hz)| **hz < 400.0)
                .map(|(m, _)| m * m)
                .sum()
        })
        .collect();
    bass::notes(track, &onset_times(strength, 0.3), &levels)
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

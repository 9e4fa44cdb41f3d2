// [worker] From stems and mix to a [`MusicalProfile`]. Pure functions.

mod bass;
mod beats;
mod chords;
mod chroma;
mod drums;
mod key;
mod melody;
pub mod metrics;
mod onsets;
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
/// when cancelled. Deterministic; about 0.4 MB a minute... of memory beside the input.
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
            (&all[Stem::Vocals as usize], 0.5),
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
    if let Some(onsets) = &onsets {
        find_beats(onsets, &mut profile);
    }
    let keys = key::profile_scores(&notes);
    profile.chords = chords::estimate(
        &notes,
        bass_notes.as_ref().unwrap_or(&notes),
        &profile.beats,
        &profile.downbeats,
        &keys,
    );
    profile.key = key::estimate(&notes, &profile.chords);

    let bass_parts = only(Stem::Bass).unwrap_or_else(|| whole.to_vec());
    let track = bass::track(&bass_parts, None, progress)?;
    let bass_spectra = match only(Stem::Bass) {
        Some(parts) => Some(BandSpectra::new(&Source::new(&parts, RATE), progress)?),
        None => None,
    };
    profile.bass_notes = bass_line(
        &track,
        bass_spectra.as_ref().unwrap_or(&spectra),
        stems.is_some(),
    );

    let lead_parts = only(Stem::Vocals).unwrap_or_else(|| whole.to_vec());
    let lead = melody::track(&lead_parts, progress)?;
    profile.melody_notes = bass::notes(&lead, &[], &lead.confidence);

    let drum_spectra = match only(Stem::Drums) {
        Some(parts) => Some(BandSpectra::new(&Source::new(&parts, RATE), progress)?),
        None => None,
    };
    profile.drums = drums::estimate(
        drum_spectra.as_ref().unwrap_or(&spectra),
        &profile.beats,
        progress,
    )?;
    Some(profile)
}

/// Pitch of the lead voice of `audio` (its stem, or a mix, less surely), every 10 ms, 110 to 1319 Hz.
pub fn track_melody(audio: &AudioBuffer) -> PitchTrack {
    melody::track(&[(audio, 1.0)], &Progress::new()).unwrap_or_default()
}

fn find_beats(onsets: &Onsets, profile: &mut MusicalProfile) {
    let levels = tempo::Tempogram::new(onsets).levels();
    let Some(&level) = levels.first() else { return };
    let activation = beats::activation(onsets);
    let frames = beats::track(&activation, level);
    if frames.len() < 2 {
        return;
    }
    profile.beats = frames.iter().map(|&f| beats::seconds(f)).collect();
    let intervals: Vec<f32> = profile
        .beats
        .windows(2)
        .map(|b| (b[1] - b[0]) as f32)
        .collect();
    let mean = intervals.iter().map(|&i| f64::from(i)).sum::<f64>() / intervals.len() as f64;
    let rival = levels.get(1).map_or(0.0, |l| l.score / level.score);
    profile.tempo_bpm = Some(Estimate {
        value: 60.0 / mean,
        confidence: ((level.score * 2.0).min(1.0) * (1.3 - rival).min(1.0)).clamp(0.0, 1.0) as f32,
    });
    if let Some(bars) = beats::bars(onsets, &frames, level.division) {
        profile.downbeats = bars
            .downbeats
            .iter()
            .filter_map(|&i| profile.beats.get(i))
            .copied()
            .collect();
        let value = match (bars.beats_per_bar, level.division) {
            (2, 3) => (6, 8),
            (n, _) => (n, 4),
        };
        profile.meter = Some(Estimate {
            value,
            confidence: bars.confidence,
        });
    }
}

/// Notes of the bass: cut at what begins low, or at anything in the bass's own stem.
fn bass_line(track: &PitchTrack, spectra: &BandSpectra, own_stem: bool) -> Vec<Note> {
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
    let times = onset_times(&strength, 0.3);
    let levels: Vec<f32> = (0..spectra.frames())
        .map(|t| {
            let frame = spectra.frame(t);
            frame
                .iter()
                .zip(&spectra.centre_hz)
                .filter(|(_, hz)| **hz < 400.0)
                .map(|(m, _)| m * m)
                .sum()
        })
        .collect();
    bass::notes(track, &times, &levels)
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

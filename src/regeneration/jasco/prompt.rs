// [worker] The words for the model: what the user says, and what the profile knows.

use crate::{
    damage::Stem,
    profile::{Mode, MusicalProfile, PITCH_CLASSES},
};

/// Longest style that is passed on, characters. Every word costs a little in every layer.
const MAX_STYLE: usize = 240;
/// Below this confidence tempo and key are not mentioned: a wrong one is worse than none.
const LEAST_CONFIDENCE: f32 = 0.3;

/// Such as "solo electric bass, no drums, funk, 104 BPM, E minor".
pub fn prompt(stem: Stem, style: &str, profile: &MusicalProfile) -> String {
    let mut parts = vec![
        match stem {
            Stem::Drums => "solo drum kit, no bass",
            Stem::Bass => "solo electric bass, no drums",
            Stem::Other => "instrumental band, no drums, no vocals",
            Stem::Vocals => "solo singing voice",
        }
        .to_owned(),
    ];
    let style: String = style
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .take(MAX_STYLE)
        .collect();
    if !style.is_empty() {
        parts.push(style);
    }
    let tempo = profile
        .tempo_bpm
        .filter(|t| t.confidence >= LEAST_CONFIDENCE);
    if let Some(tempo) = tempo.filter(|t| (20.0..400.0).contains(&t.value)) {
        parts.push(format!("{:.0} BPM", tempo.value));
    }
    if let Some(meter) = profile.meter.filter(|m| m.confidence >= LEAST_CONFIDENCE)
        && meter.value != (4, 4)
    {
        parts.push(format!("{}/{} time", meter.value.0, meter.value.1));
    }
    // Drums have no key.
    let key = profile.key.filter(|k| k.confidence >= LEAST_CONFIDENCE);
    if let Some(key) = key.filter(|_| stem != Stem::Drums) {
        let mode = match key.value.mode {
            Mode::Major => "major",
            Mode::Minor => "minor",
        };
        if let Some(tonic) = PITCH_CLASSES.get(usize::from(key.value.tonic)) {
            parts.push(format!("{tonic} {mode}"));
        }
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Estimate, Key};

    #[test]
    fn words_of_the_user_and_of_the_profile() {
        let sure = |value| Estimate {
            value,
            confidence: 0.8,
        };
        let mut profile = MusicalProfile {
            tempo_bpm: Some(sure(103.7)),
            key: Some(Estimate {
                value: Key {
                    tonic: 4,
                    mode: Mode::Minor,
                },
                confidence: 0.9,
            }),
            ..MusicalProfile::default()
        };
        let bass = prompt(Stem::Bass, "  dirty\n funk ", &profile);
        assert_eq!(
            bass,
            "solo electric bass, no drums, dirty funk, 104 BPM, E minor"
        );
        profile.tempo_bpm = Some(Estimate {
            value: 103.7,
            confidence: 0.1,
        });
        assert_eq!(prompt(Stem::Drums, "", &profile), "solo drum kit, no bass");
        let long = prompt(Stem::Drums, &"ü ".repeat(1000), &profile);
        assert!(long.chars().count() < 300);
    }
}

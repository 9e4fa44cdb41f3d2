// [any] The documented JSON of `uncook restore --report` and `uncook analyze --json`. Stable: fields are
// added, never renamed.

use serde::{Deserialize, Serialize};

use crate::{
    damage::{DamageKind, DamageMap, Stem},
    metrics::Quality,
    profile::{
        Chord, DrumClass, DrumHit, Estimate, Key, Mode, MusicalProfile, Note, PITCH_CLASSES,
    },
    worker::{pipeline::report_regions, view::Findings},
};

/// What was found. Times in seconds; unknown is null or empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Damaged spans of the mix (`stem` null) and of each stem, ascending by start.
    pub damage: Vec<DamageEntry>,
    /// Measured on the input.
    pub quality: Quality,
    /// Measured on the result; null for an analysis.
    pub quality_after: Option<Quality>,
    pub profile: ProfileReport,
    /// What was damaged and what was done, in plain words.
    pub summary: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DamageEntry {
    pub start: f64,
    pub end: f64,
    pub kind: DamageKind,
    /// Worst inside, 0..=1.
    pub severity: f32,
    pub stem: Option<Stem>,
}

/// A [`MusicalProfile`] as it is reported.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProfileReport {
    pub tempo_bpm: Option<f64>,
    /// How sure the tempo is, 0..=1, as every confidence here.
    #[serde(default)]
    pub tempo_confidence: f32,
    pub beats: Vec<f64>,
    pub downbeats: Vec<f64>,
    /// Beats a bar and beat unit.
    pub meter: Option<(u8, u8)>,
    #[serde(default)]
    pub meter_confidence: f32,
    pub key: Option<KeyReport>,
    pub chords: Vec<ChordReport>,
    pub melody_notes: Vec<NoteReport>,
    pub bass_notes: Vec<NoteReport>,
    pub drums: Vec<DrumReport>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeyReport {
    /// `C`, `C#` .. `B`.
    pub tonic: String,
    pub mode: Mode,
    #[serde(default)]
    pub confidence: f32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChordReport {
    pub start: f64,
    pub end: f64,
    /// Harte syntax.
    pub label: String,
    #[serde(default)]
    pub confidence: f32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NoteReport {
    pub t: f64,
    pub dur: f64,
    pub midi: f32,
    #[serde(default)]
    pub velocity: f32,
    pub confidence: f32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DrumReport {
    pub t: f64,
    pub class: DrumClass,
    pub velocity: f32,
    #[serde(default)]
    pub confidence: f32,
}

impl Report {
    /// From an analysis; `after` only where something was restored.
    pub fn new(findings: &Findings, quality: Quality, after: Option<Quality>) -> Self {
        let mut damage = entries(&findings.damage, None);
        for stem in Stem::ALL {
            damage.extend(entries(&findings.stems[stem as usize].damage, Some(stem)));
        }
        damage.sort_by(|a, b| a.start.total_cmp(&b.start).then(a.stem.cmp(&b.stem)));
        Self {
            damage,
            quality,
            quality_after: after,
            profile: (&findings.profile).into(),
            summary: findings.lines.clone(),
        }
    }
}

fn entries(map: &DamageMap, stem: Option<Stem>) -> Vec<DamageEntry> {
    report_regions(map)
        .into_iter()
        .map(|region| DamageEntry {
            start: region.start,
            end: region.end,
            kind: region.kind,
            severity: region.severity,
            stem,
        })
        .collect()
}

impl From<&MusicalProfile> for ProfileReport {
    fn from(profile: &MusicalProfile) -> Self {
        let notes = |notes: &[Note]| {
            notes
                .iter()
                .map(|n| NoteReport {
                    t: n.t,
                    dur: n.dur,
                    midi: n.midi,
                    velocity: n.velocity,
                    confidence: n.confidence,
                })
                .collect()
        };
        Self {
            tempo_bpm: profile.tempo_bpm.map(|t| t.value),
            tempo_confidence: profile.tempo_bpm.map_or(0.0, |t| t.confidence),
            beats: profile.beats.clone(),
            downbeats: profile.downbeats.clone(),
            meter: profile.meter.map(|m| m.value),
            meter_confidence: profile.meter.map_or(0.0, |m| m.confidence),
            key: profile.key.map(|k| KeyReport {
                tonic: PITCH_CLASSES[usize::from(k.value.tonic % 12)].to_owned(),
                mode: k.value.mode,
                confidence: k.confidence,
            }),
            chords: profile
                .chords
                .iter()
                .map(|c| ChordReport {
                    start: c.start,
                    end: c.end,
                    label: c.label.clone(),
                    confidence: c.confidence,
                })
                .collect(),
            melody_notes: notes(&profile.melody_notes),
            bass_notes: notes(&profile.bass_notes),
            drums: profile
                .drums
                .iter()
                .map(|d| DrumReport {
                    t: d.t,
                    class: d.class,
                    velocity: d.velocity,
                    confidence: d.confidence,
                })
                .collect(),
        }
    }
}

impl From<&ProfileReport> for MusicalProfile {
    /// Back from what was reported, for exports.
    fn from(report: &ProfileReport) -> Self {
        let notes = |notes: &[NoteReport]| {
            let note = |n: &NoteReport| Note {
                t: n.t,
                dur: n.dur,
                midi: n.midi,
                velocity: n.velocity,
                confidence: n.confidence,
            };
            notes.iter().map(note).collect()
        };
        let tonic = |k: &KeyReport| PITCH_CLASSES.iter().position(|&n| n == k.tonic);
        Self {
            tempo_bpm: report.tempo_bpm.map(|value| Estimate {
                value,
                confidence: report.tempo_confidence,
            }),
            beats: report.beats.clone(),
            downbeats: report.downbeats.clone(),
            meter: report.meter.map(|value| Estimate {
                value,
                confidence: report.meter_confidence,
            }),
            key: report.key.as_ref().and_then(|k| {
                Some(Estimate {
                    value: Key {
                        tonic: tonic(k)? as u8,
                        mode: k.mode,
                    },
                    confidence: k.confidence,
                })
            }),
            chords: report
                .chords
                .iter()
                .map(|c| Chord {
                    start: c.start,
                    end: c.end,
                    label: c.label.clone(),
                    confidence: c.confidence,
                })
                .collect(),
            melody_notes: notes(&report.melody_notes),
            bass_notes: notes(&report.bass_notes),
            drums: report
                .drums
                .iter()
                .map(|d| DrumHit {
                    t: d.t,
                    class: d.class,
                    velocity: d.velocity,
                    confidence: d.confidence,
                })
                .collect(),
        }
    }
}

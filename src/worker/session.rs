// [any] What the host's project stores of the worker's results: hashes and relative names, never audio.

use serde::{Deserialize, Serialize};

pub use crate::cache::commits::CommitRef;
use crate::{damage::Stem, exchange::SamplePos, profile::edit::MusicEdit};

/// The commits of an instance, oldest first, and what the user decided about them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Session {
    pub commits: Vec<CommitRef>,
    /// Earlier rebuilds of the same spans, whose stems can be chosen instead. Oldest first.
    pub others: Vec<CommitRef>,
    pub edits: Edits,
}

/// What the user decided about the rebuilt audio. A value that is replaced as a whole, so that undo is
/// an older value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Edits {
    /// Later ones win where they overlap. Without one, all of what was rebuilt plays.
    pub decisions: Vec<Decision>,
    /// At most one per stem and commit. Without one, a commit plays its own layer.
    pub picks: Vec<Pick>,
    /// At most one per take, none without edits.
    pub music: Vec<TakeMusic>,
}

/// What the user changed of what was heard in a take. The next rebuild of the take follows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakeMusic {
    /// Where the take starts.
    pub start: SamplePos,
    /// In the order in which they are applied.
    pub edits: Vec<MusicEdit>,
}

/// How much of a rebuilt stem plays over a span of the timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    pub stem: Stem,
    /// First position, and first one after the span.
    pub start: SamplePos,
    pub end: SamplePos,
    /// 0 keeps the recorded stem (refused), 100 plays the rebuilt one (accepted).
    pub percent: u8,
}

/// Which rebuild of a stem plays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pick {
    pub stem: Stem,
    /// Where the commit in force starts.
    pub start: SamplePos,
    /// Hash of the commit whose layer plays instead.
    pub hash: String,
}

impl Edits {
    /// How much of the rebuilt `stem` plays at `pos`, in percent.
    pub fn percent_at(&self, stem: Stem, pos: SamplePos) -> u8 {
        self.decisions
            .iter()
            .rfind(|d| d.stem == stem && d.start <= pos && pos < d.end)
            .map_or(100, |d| d.percent.min(100))
    }

    /// Decides about a span; what was decided inside it before is forgotten.
    pub fn decide(&mut self, decision: Decision) {
        self.decisions.retain(|d| {
            d.stem != decision.stem || d.start < decision.start || decision.end < d.end
        });
        self.decisions.push(decision);
    }

    /// Picks a rebuild for a commit's stem; `None`: its own.
    pub fn pick(&mut self, stem: Stem, start: SamplePos, hash: Option<&str>) {
        self.picks.retain(|p| (p.stem, p.start) != (stem, start));
        if let Some(hash) = hash {
            let hash = hash.to_owned();
            self.picks.push(Pick { stem, start, hash });
        }
    }

    /// The edits of the music of the take that starts at `start`.
    pub fn music_of(&self, start: SamplePos) -> &[MusicEdit] {
        (self.music.iter().find(|m| m.start == start)).map_or(&[], |m| &m.edits)
    }

    /// The same, to be changed.
    pub fn music_mut(&mut self, start: SamplePos) -> &mut Vec<MusicEdit> {
        let place = match self.music.iter().position(|m| m.start == start) {
            Some(place) => place,
            None => {
                let edits = Vec::new();
                self.music.push(TakeMusic { start, edits });
                self.music.len() - 1
            }
        };
        &mut self.music[place].edits
    }

    /// Whether `other` makes the same patches play: edits of the music ask for another rebuild first.
    pub fn plays_like(&self, other: &Self) -> bool {
        self.decisions == other.decisions && self.picks == other.picks
    }

    /// The rebuild picked for a commit's stem.
    pub fn picked(&self, stem: Stem, start: SamplePos) -> Option<&str> {
        self.picks
            .iter()
            .find(|p| (p.stem, p.start) == (stem, start))
            .map(|p| p.hash.as_str())
    }
}

/// What of a repaired stem is heard alone or not at all. For listening only: never stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listening {
    pub solo: [bool; Stem::COUNT],
    pub mute: [bool; Stem::COUNT],
    /// Only what rebuilding changed of these stems is heard.
    pub delta: [bool; Stem::COUNT],
}

impl Listening {
    /// Whether everything is heard as it is.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}

/// Another rebuild of one stem over a span, damaged there or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Regenerate {
    pub stem: Stem,
    pub start: SamplePos,
    pub end: SamplePos,
    pub seed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(start: i64, end: i64, percent: u8) -> Decision {
        Decision {
            stem: Stem::Bass,
            start: SamplePos(start),
            end: SamplePos(end),
            percent,
        }
    }

    #[test]
    fn the_last_decision_about_a_place_counts() {
        let mut edits = Edits::default();
        assert_eq!(edits.percent_at(Stem::Bass, SamplePos(5)), 100);
        edits.decide(decision(0, 100, 0));
        edits.decide(decision(40, 60, 30));
        let at = |edits: &Edits, pos| edits.percent_at(Stem::Bass, SamplePos(pos));
        assert_eq!(
            [0, 39, 40, 59, 60, 100].map(|p| at(&edits, p)),
            [0, 0, 30, 30, 0, 100]
        );
        assert_eq!(edits.percent_at(Stem::Drums, SamplePos(50)), 100);
        // A decision about the whole replaces those about its parts.
        edits.decide(decision(0, 100, 80));
        assert_eq!(edits.decisions.len(), 1);
        assert_eq!(at(&edits, 50), 80);
    }

    #[test]
    fn projects_of_older_versions_open() {
        let session: Session = serde_json::from_str(r#"{"commits":[]}"#).unwrap();
        assert_eq!(session, Session::default());
        let mut edits = Edits::default();
        edits.pick(Stem::Drums, SamplePos(7), Some("ab"));
        assert_eq!(edits.picked(Stem::Drums, SamplePos(7)), Some("ab"));
        edits.pick(Stem::Drums, SamplePos(7), None);
        assert_eq!(edits.picked(Stem::Drums, SamplePos(7)), None);
    }
}

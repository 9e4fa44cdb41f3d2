// [worker] An instance as its editor sees it.

use std::sync::Arc;

use super::{Commit, State};
use crate::{
    damage::{DEFAULT_THRESHOLD, DamageKind, DamageMap},
    worker::{
        takes::Take,
        view::{JobView, Rebuild, TakeState, TakeView, View},
    },
};

impl State {
    pub(super) fn view(&self, job: Option<JobView>) -> View {
        let mut takes: Vec<TakeView> = self
            .takes
            .all()
            .iter()
            .map(|take| self.take_view(take, job.is_some()))
            .collect();
        // Patches of a loaded project, whose audio has not been played since.
        for commit in &self.commits {
            if let Some(patch) = &commit.patch
                && takes.iter().all(|t| {
                    patch.end() <= t.start || t.start.offset(t.frames as i64) <= patch.start
                })
            {
                takes.push(TakeView {
                    start: patch.start,
                    frames: patch.len() as u64,
                    sample_rate: patch.sample_rate,
                    before: commit.before.clone(),
                    after: commit.after.clone(),
                    damage: commit.cells.clone(),
                    shares: shares(&commit.findings.damage),
                    state: TakeState::Committed,
                    findings: Some(commit.findings.clone()),
                    rebuilds: self.rebuilds(commit),
                    stems_at_hand: commit.stems.is_some(),
                    unheard: self.is_unheard(commit, patch.start),
                });
            }
        }
        takes.sort_by_key(|t| t.start);
        let mut problems = self.problems.clone();
        if let Some(other) = self
            .commits
            .iter()
            .filter_map(|c| c.patch.as_ref())
            .find(|p| self.sample_rate != 0 && p.sample_rate != self.sample_rate)
        {
            let words = format!(
                "Rebuilt audio was made at {} Hz and does not play at {} Hz: set the project's rate back, or \
                 play the song once more",
                other.sample_rate, self.sample_rate
            );
            problems.push(words.into());
        }
        View {
            takes,
            job,
            overruns: self.capture.overruns(),
            problems,
            missing: self.missing().into_iter().map(|c| c.file).collect(),
            place: self.place.clone(),
            model: self.model.clone(),
            edits: self.edits.clone(),
            listening: self.listening,
            ahead: None,
        }
    }

    /// What can be chosen in place of `commit`'s stems, itself last.
    fn rebuilds(&self, commit: &Commit) -> Vec<Rebuild> {
        (self.others.iter().filter(|o| o.same_base(commit)))
            .chain([commit])
            .map(Commit::rebuild)
            .collect()
    }

    fn take_view(&self, take: &Take, running: bool) -> TakeView {
        let commit = self.commits.iter().rfind(|c| c.covers(take));
        let request = self.requests.iter().rfind(|r| r.revision == take.revision);
        let state = match (commit, request) {
            (_, Some(r)) if r.state == TakeState::Queued && running => TakeState::Running,
            (Some(_), _) => TakeState::Committed,
            (None, Some(r)) => r.state,
            (None, None) if self.stopped => TakeState::Captured,
            (None, None) => TakeState::Capturing,
        };
        TakeView {
            start: take.start,
            frames: take.frames() as u64,
            sample_rate: take.sample_rate,
            before: take.picture().clone(),
            after: commit.map_or_else(Arc::default, |c| c.after.clone()),
            damage: take.cells().clone(),
            shares: shares(take.damage()),
            state,
            findings: commit.map(|c| c.findings.clone()),
            rebuilds: commit.map_or_else(Vec::new, |c| self.rebuilds(c)),
            stems_at_hand: commit.is_some_and(|c| c.stems.is_some()),
            unheard: commit.is_some_and(|c| self.is_unheard(c, take.start)),
        }
    }
}

fn shares(damage: &DamageMap) -> [f32; DamageKind::COUNT] {
    DamageKind::ALL.map(|kind| damage.share(kind, DEFAULT_THRESHOLD))
}

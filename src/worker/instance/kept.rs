// [worker] What an instance keeps beside the project: the session, and its sidecars read, written, missing, found again.

use std::{cell::Cell, path::Path, sync::Arc};

use super::{Commit, State};
use crate::{
    cache::commits::{self, CommitError},
    exchange::patch::Patch,
    worker::{
        jobs::{self, Notes},
        options::Options,
        picture::Picture,
        session::{CommitRef, Edits, Listening, Session},
        view::{DamageCells, Problem},
    },
};

impl Commit {
    /// A reference whose sidecar can't be read now.
    fn absent(reference: CommitRef, problem: String) -> Self {
        Self {
            reference: Some(reference),
            patch: None,
            options: Options::default(),
            seed: 0,
            findings: Arc::default(),
            before: Picture::default(),
            after: Arc::default(),
            cells: DamageCells::default(),
            stems: None,
            problem: Some(problem),
            unsaved: None,
            compared: Cell::new(None),
        }
    }
}

impl State {
    pub fn session(&self) -> Session {
        let references = |commits: &[Commit]| {
            (commits.iter())
                .filter_map(|c| c.reference.clone())
                .collect()
        };
        Session {
            commits: references(&self.commits),
            others: references(&self.others),
            edits: Edits::clone(&self.edits),
        }
    }

    pub fn load(&mut self, session: &Session, folders: &[&Path]) {
        let mut load = |references: &[CommitRef]| -> Vec<Commit> {
            (references.iter())
                .map(|reference| self.load_commit(reference, folders))
                .collect()
        };
        let (commits, others) = (load(&session.commits), load(&session.others));
        self.commits = commits;
        self.others = others;
        // What was picked is kept.
        self.edits = Arc::new(session.edits.clone());
        self.takes.share_anew();
        self.drop_covered();
        self.listening = Listening::default();
        self.patches_changed = true;
        self.view_changed = true;
        self.publish_patches();
    }

    fn load_commit(&mut self, reference: &CommitRef, folders: &[&Path]) -> Commit {
        read(reference, folders).unwrap_or_else(|error| {
            let missing = match &error {
                CommitError::Missing { file, .. } => Some(file.clone()),
                _ => None,
            };
            self.report(Problem {
                words: error.to_string(),
                missing,
            });
            Commit::absent(reference.clone(), error.to_string())
        })
    }

    /// Reads what was missing from the first of `folders` that has it. Returns how many were found.
    pub fn find_missing(&mut self, folders: &[&Path]) -> usize {
        let mut found = 0;
        let mut solved = Vec::new();
        for commit in self.commits.iter_mut().chain(&mut self.others) {
            let (None, Some(reference)) = (&commit.patch, &commit.reference) else {
                continue;
            };
            if let Ok(read) = read(reference, folders) {
                solved.push(reference.file.clone());
                *commit = read;
                found += 1;
            }
        }
        self.solved(&solved);
        self.takes.share_anew();
        self.drop_covered();
        self.patches_changed = true;
        self.publish_patches();
        found
    }

    /// References of what is in the session and can't be read.
    pub fn missing(&self) -> Vec<CommitRef> {
        let all = self.commits.iter().chain(&self.others);
        all.filter(|commit| commit.patch.is_none())
            .filter_map(|commit| commit.reference.clone())
            .collect()
    }

    /// Tries again to write what could not be written into `folder`; returns why some still can't be.
    pub fn save_unsaved(&mut self, folder: &Path) -> Vec<String> {
        let (mut solved, mut faults) = (Vec::new(), Vec::new());
        for commit in self.commits.iter_mut().chain(&mut self.others) {
            let (Some(unsaved), Some(patch)) = (&commit.unsaved, &commit.patch) else {
                continue;
            };
            let Patch {
                start, sample_rate, ..
            } = **patch;
            let (take, base, layers) = (&patch.take, &patch.base, &patch.layers);
            match commits::save(
                folder,
                start,
                sample_rate,
                take,
                base,
                layers,
                &unsaved.meta,
            ) {
                Ok(reference) => {
                    commit.reference = Some(reference);
                    commit.unsaved = None;
                    solved.extend(commit.problem.take());
                }
                Err(error) => faults.push(jobs::unsaved(&error)),
            }
        }
        self.solved(&solved);
        faults
    }

    /// Forgets problems that are none any more: those with these words.
    fn solved(&mut self, solved: &[String]) {
        if !solved.is_empty() {
            self.problems
                .retain(|problem| !solved.iter().any(|words| problem.contains(words)));
            self.view_changed = true;
        }
    }
}

/// A commit from its sidecar.
fn read(reference: &CommitRef, folders: &[&Path]) -> Result<Commit, CommitError> {
    let (patch, meta) = commits::load(folders, reference)?;
    // Notes of another version say less; the audio still plays.
    let notes: Notes = serde_json::from_str(&meta).unwrap_or_default();
    let reference = Some(reference.clone());
    Ok(Commit::new(reference, Arc::new(patch), notes, None, None))
}

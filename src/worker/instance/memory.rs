// [worker] What an instance holds in memory: the same audio once, and what it can do without.

use std::{collections::HashSet, sync::Arc};

use super::{Commit, State};
use crate::exchange::patch::Patch;

/// Memory that earlier rebuilds may hold beside what is in force, in bytes: 1 GB. The oldest go first; their files stay.
const MAX_OTHERS_BYTES: usize = 1_000_000_000;

impl Commit {
    /// Whether the layers of both lie over the same base.
    pub(super) fn same_base(&self, other: &Self) -> bool {
        match (&self.patch, &other.patch) {
            (Some(a), Some(b)) => {
                a.start == b.start && a.sample_rate == b.sample_rate && a.base == b.base
            }
            _ => false,
        }
    }

    /// The same as far as can be told: where a sidecar is missing, the same span is enough.
    pub(super) fn may_share_base(&self, other: &Self) -> bool {
        match (&self.patch, &other.patch) {
            (Some(_), Some(_)) => self.same_base(other),
            _ => self.span().is_some() && self.span() == other.span(),
        }
    }

    /// Bytes that are not in `seen`, where they are noted.
    fn bytes(&self, seen: &mut HashSet<*const u8>) -> usize {
        let patch = self.patch.iter();
        let all = patch.flat_map(|p| {
            [&p.take, &p.base]
                .into_iter()
                .chain(p.layers.iter().flatten())
        });
        all.flatten().map(|samples| samples.bytes(seen)).sum()
    }
}

impl State {
    /// Drops earlier rebuilds that no commit in force can use, and the oldest where they get too many. The others are
    /// held together with what is in force.
    pub(super) fn forget_others(&mut self) {
        let commits = &self.commits;
        (self.others).retain(|other| commits.iter().any(|c| c.may_share_base(other)));
        for other in &mut self.others {
            let theirs = commits.iter().find(|c| c.same_base(other));
            if let (Some(own), Some(theirs)) =
                (&mut other.patch, theirs.and_then(|c| c.patch.as_ref()))
            {
                Arc::make_mut(own).share(theirs);
            }
        }
        let mut seen = HashSet::new();
        for commit in commits {
            commit.bytes(&mut seen);
        }
        let mut bytes = 0;
        let fits = |other: &&Commit| {
            bytes += other.bytes(&mut seen);
            bytes <= MAX_OTHERS_BYTES
        };
        let kept = self.others.iter().rev().take_while(fits).count();
        self.others.drain(..self.others.len() - kept);
    }

    /// Holds what is captured together with the patches that repair it.
    pub(super) fn share_takes(&mut self) {
        let patches = self.commits.iter().filter_map(|c| c.patch.as_deref());
        let patches: Vec<&Patch> = patches.collect();
        self.takes.share(&patches);
    }

    /// Drops what nothing that plays needs: the stems that can be listened to alone, while none is.
    pub fn spare(&mut self) {
        if self.listening.is_plain() {
            for commit in &mut self.commits {
                self.view_changed |= commit.stems.take().is_some();
            }
        }
    }
}

// [worker] What an instance holds in memory: the same audio once, and what it can do without.

use std::{collections::HashSet, io, ops::Range, sync::Arc};

use super::{Commit, State};
use crate::exchange::{
    SamplePos,
    patch::{Patch, PatchSet},
    samples::Depot,
};

/// Memory that earlier rebuilds may hold beside what is in force, in bytes: 1 GB. The oldest go first, but never one
/// that was picked; their files stay.
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
        let all = patch.flat_map(|p| p.buffers());
        all.flatten().map(|samples| samples.bytes(seen)).sum()
    }
}

impl State {
    /// Drops earlier rebuilds that no commit in force can use, and the oldest where they get too many. The others are
    /// held together with what is in force.
    pub(super) fn forget_others(&mut self) {
        self.forget_others_above(MAX_OTHERS_BYTES);
    }

    fn forget_others_above(&mut self, most: usize) {
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
        let (mut bytes, picks) = (0, &self.edits.picks);
        let mut kept: Vec<Commit> = Vec::new();
        let mut full = false;
        for other in self.others.drain(..).rev() {
            let picked = picks.iter().any(|pick| pick.hash == other.hash());
            bytes += other.bytes(&mut seen);
            full |= bytes > most;
            if picked || !full {
                kept.push(other);
            }
        }
        kept.reverse();
        self.others = kept;
    }

    /// Holds what is captured together with the patches that repair it.
    pub(super) fn share_takes(&mut self) {
        let patches = self.commits.iter().filter_map(|c| c.patch.as_deref());
        let patches: Vec<&Patch> = patches.collect();
        self.takes.share(&patches);
    }

    /// From now on only what plays is held in memory for the audio thread.
    pub fn start_sparing(&mut self) {
        if !std::mem::replace(&mut self.spares, true) {
            self.publish(false);
        }
    }

    /// What is to be in memory.
    fn near(&self) -> Vec<Range<i64>> {
        let starts = self.playing.iter().map(|patch| patch.start);
        self.around.spans(starts, self.sample_rate)
    }

    /// Hands what plays to the audio thread; `new`: it is other audio than before.
    pub(super) fn publish(&mut self, mut new: bool) {
        let set = if self.spares {
            PatchSet::near(&self.playing, &self.near()).unwrap_or_else(|error| {
                new = true;
                self.report(format!(
                    "The repair was put aside on the disk and can't be read back ({error}), so live repair plays: check \
                     the disk, then open the project again"
                ));
                PatchSet::default()
            })
        } else {
            PatchSet::new(self.playing.clone())
        };
        if new {
            self.publisher.publish(set);
        } else {
            self.publisher.renew(set);
        }
    }

    /// What plays from `pos` on is in memory when this returns, if it can be. For who may wait for the disk.
    pub fn bring(&mut self, pos: SamplePos) {
        if self.around.follow(pos, self.sample_rate) && self.spares {
            self.publish(false);
        }
    }

    /// Puts what does not play now into `depot`, and writes `room` bytes at most. Returns whether any went.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn put_away(&mut self, depot: &Arc<Depot>, room: &mut usize) -> io::Result<bool> {
        let near = self.near();
        let mut any = self.takes.put_away(&near, depot, room)?;
        for commit in self.commits.iter_mut().chain(&mut self.others) {
            let Some(patch) = &mut commit.patch else {
                continue;
            };
            let playing = self.playing.iter().position(|p| Arc::ptr_eq(p, patch));
            any |= put_patch_away(patch, &near, depot, room)?;
            if let Some(playing) = playing {
                self.playing[playing] = patch.clone();
            }
        }
        // Edited ones are their own.
        for patch in &mut self.playing {
            any |= put_patch_away(patch, &near, depot, room)?;
        }
        Ok(any)
    }

    /// Makes room on the disk: drops the stems that can be listened to alone, while none is.
    pub fn spare(&mut self) {
        if self.listening.is_plain() {
            for commit in &mut self.commits {
                self.view_changed |= commit.stems.take().is_some();
            }
        }
    }
}

fn put_patch_away(
    patch: &mut Arc<Patch>,
    near: &[Range<i64>],
    depot: &Arc<Depot>,
    room: &mut usize,
) -> io::Result<bool> {
    if !patch.has_to_put_away(near) {
        return Ok(false);
    }
    Arc::make_mut(patch).put_away(near, depot, room)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        damage::Stem,
        exchange::{
            SamplePos,
            capture::capture_ring,
            patch::patch_snapshot,
            samples::{BLOCK, stereo},
        },
        worker::{
            instance::Shared,
            jobs::Notes,
            session::{CommitRef, Edits},
        },
    };

    /// A rebuild over the same base whose layer is its own: one block of noise in each channel.
    fn rebuild(number: u8) -> Commit {
        let start = SamplePos(0);
        let flat = |x: f32| [x; BLOCK];
        let base = stereo(start, [&flat(0.123_456_7), &flat(0.123_456_7)], &[]);
        let layer = [0, 1].map(|c| flat(0.01 + 0.001 * f32::from(2 * number + c)).to_vec());
        let hash = format!("{number:064x}");
        let patch = Patch {
            id: hash.clone(),
            start,
            sample_rate: 48_000,
            take: base.clone(),
            base,
            layers: [
                None,
                Some(stereo(start, [&layer[0], &layer[1]], &[])),
                None,
                None,
            ],
        };
        let reference = CommitRef {
            file: format!("{hash}.uncookpatch"),
            hash,
            start: 0,
            frames: BLOCK as u64,
            sample_rate: 48_000,
        };
        Commit::new(
            Some(reference),
            Arc::new(patch),
            Notes::default(),
            None,
            None,
        )
    }

    fn hashes(state: &State) -> Vec<String> {
        state
            .others
            .iter()
            .map(|other| other.hash().to_owned())
            .collect()
    }

    #[test]
    fn the_oldest_rebuilds_go_first_but_never_one_that_was_picked() {
        let (_tap, capture) = capture_ring(16);
        let (publisher, _patches) = patch_snapshot();
        let shared = Shared::new(0, capture, publisher);
        let mut state = shared.state.lock();
        state.commits.push(rebuild(9));
        state.others.extend((1..=4).map(rebuild));
        let two = 2 * 2 * 4 * BLOCK;
        let name = |number: u8| format!("{number:064x}");
        let mut edits = Edits::default();
        edits.pick(Stem::Bass, SamplePos(0), Some(&name(1)));
        state.edits = Arc::new(edits);
        state.forget_others_above(two);
        assert_eq!(hashes(&state), [1, 3, 4].map(name));
        // Once another one is picked it may go.
        state.edits = Arc::default();
        state.forget_others_above(two);
        assert_eq!(hashes(&state), [3, 4].map(name));
    }
}

// [worker] Keeps the memory that instances hold within bounds: what does not play now goes to the disk.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    exchange::samples::{Depot, held_bytes, take_fault},
    worker::instance::Shared,
};

/// Bytes that are written at a time: nobody waits long for an instance meanwhile. 16 MB.
const ROOM: usize = 16_000_000;
/// Rest after there was nothing to put away, and after the disk refused.
const REST: Duration = Duration::from_secs(1);
const REFUSED_REST: Duration = Duration::from_secs(30);

/// The collector's part of keeping the budget: above half of it audio goes to the disk, until it is below again.
pub(super) struct Relief {
    folder: PathBuf,
    /// Bytes above which it begins.
    most: usize,
    depot: Option<Arc<Depot>>,
    /// The instance whose turn it is.
    turn: usize,
    rests_until: Instant,
}

impl Relief {
    /// For a memory of `budget` bytes, in `folder`, where nothing is done before it is needed.
    pub fn new(folder: PathBuf, budget: usize) -> Self {
        Self {
            folder,
            most: budget / 2,
            depot: None,
            turn: 0,
            rests_until: Instant::now(),
        }
    }

    /// Does a part of what has to be done. Returns whether there is more.
    pub fn work(&mut self, instances: &[Arc<Shared>]) -> bool {
        if let Some(fault) = take_fault() {
            report(instances, &fault);
        }
        if held_bytes() <= self.most || Instant::now() < self.rests_until {
            return false;
        }
        match self.put_away(instances) {
            Ok(true) => true,
            Ok(false) => {
                self.rests_until = Instant::now() + REST;
                false
            }
            Err(error) => {
                self.rests_until = Instant::now() + REFUSED_REST;
                report(
                    instances,
                    &format!(
                        "Memory is short, and songs that don't play now can't be put aside in {} ({error}): make room there",
                        self.folder.display()
                    ),
                );
                false
            }
        }
    }

    fn put_away(&mut self, instances: &[Arc<Shared>]) -> std::io::Result<bool> {
        let depot = match &self.depot {
            Some(depot) => depot.clone(),
            None => {
                std::fs::create_dir_all(&self.folder)?;
                // It has no name, or goes with its handle: nobody else opens it, nothing is left behind.
                let file = tempfile::tempfile_in(&self.folder)?;
                self.depot.insert(Depot::new(file)).clone()
            }
        };
        let (mut room, mut any) = (ROOM, false);
        for _ in 0..instances.len() {
            let Some(shared) = instances.get(self.turn % instances.len()) else {
                break;
            };
            let mut state = shared.state.lock();
            state.start_sparing();
            any |= state.put_away(&depot, &mut room)?;
            // Where it went to an end, the next one is next.
            if room < ROOM / 8 || held_bytes() <= self.most {
                break;
            }
            self.turn += 1;
        }
        Ok(any)
    }
}

fn report(instances: &[Arc<Shared>], problem: &str) {
    for shared in instances {
        shared.state.lock().report(problem.to_owned());
    }
}

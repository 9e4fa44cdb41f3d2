// [worker] The engine: one a process, shared by all instances. Collects captures, runs jobs, publishes patches.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

use crate::{
    cache::{Cache, CacheCounts, DEFAULT_LIMIT_BYTES, commits},
    exchange::{SamplePos, capture::CaptureReader, patch::PatchPublisher, samples::held_bytes},
    system::memory_bytes,
    worker::{
        instance::{Job, Shared, State},
        jobs::{self, Queue},
        options::Options,
        pipeline, process, regenerate,
        relief::Relief,
        road::{InProcess, Road},
        session::{CommitRef, Edits, Listening, Regenerate, Session},
        view::View,
    },
};

/// Environment variable that moves sidecars and cache to another folder.
pub const DATA_DIR_VARIABLE: &str = "UNCOOK_DATA_DIR";
/// How often captures are collected while audio comes in, and while none does.
const COLLECT_BUSY: Duration = Duration::from_millis(10);
const COLLECT_IDLE: Duration = Duration::from_millis(50);
/// What the engine holds for all instances together where the system does not tell its memory: 4 GB.
const UNKNOWN_MEMORY_BYTES: usize = 4_000_000_000;

/// The engine of this process. It lives while anyone holds it; the last holder joins its threads.
pub struct Engine {
    inner: Arc<Inner>,
    threads: Vec<JoinHandle<()>>,
}

/// What the engine's threads share.
pub(super) struct Inner {
    pub commits: PathBuf,
    pub cache: Option<Cache>,
    /// Where audio lies that is too long for memory.
    pub scratch: PathBuf,
    /// Why sidecars or cache can't be used, in plain words.
    pub storage_problem: Option<String>,
    pub instances: Mutex<Vec<Arc<Shared>>>,
    pub queue: Mutex<Queue>,
    pub queued: Condvar,
    pub stop: AtomicBool,
    /// Who does the heavy work.
    pub road: Arc<dyn Road>,
    /// Bytes of audio in memory from which on nothing more is captured; from half of them on it goes to the disk.
    budget: usize,
    /// Whether what is held is on its way to the disk: what was captured can wait for that.
    relieving: AtomicBool,
    next_id: AtomicU64,
}

/// One plugin instance's line to the engine. Dropping it disconnects and cancels its jobs.
pub struct Instance {
    engine: Arc<Engine>,
    shared: Arc<Shared>,
}

static SHARED: Mutex<Weak<Engine>> = Mutex::new(Weak::new());

impl Engine {
    /// The engine shared by all instances of this process, started if nobody holds it. Sidecars and cache
    /// go to the user's data and cache folders, or to the folder named by [`DATA_DIR_VARIABLE`].
    pub fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock();
        if let Some(engine) = shared.upgrade() {
            return engine;
        }
        let data = Self::data_folder().unwrap_or_else(|| std::env::temp_dir().join("uncook"));
        let cache = match std::env::var_os(DATA_DIR_VARIABLE) {
            Some(_) => data.join("cache"),
            None => Cache::default_dir().unwrap_or_else(|_| data.join("cache")),
        };
        let engine = Self::start(data.join("commits"), &cache, process::road(&data), budget());
        *shared = Arc::downgrade(&engine);
        engine
    }

    /// The user's folder for what Uncook keeps, or the one named by [`DATA_DIR_VARIABLE`].
    pub fn data_folder() -> Option<PathBuf> {
        match std::env::var_os(DATA_DIR_VARIABLE) {
            Some(folder) => Some(PathBuf::from(folder)),
            None => directories::ProjectDirs::from("org", "Uncook", "Uncook")
                .map(|dirs| dirs.data_dir().to_owned()),
        }
    }

    /// Where MIDI files go: `Uncook` in the user's documents, or `midi` in what
    /// [`DATA_DIR_VARIABLE`] names or in the folder for data.
    pub fn midi_folder() -> Option<PathBuf> {
        let documents = || Some(directories::UserDirs::new()?.document_dir()?.join("Uncook"));
        let data = || Some(Self::data_folder()?.join("midi"));
        match std::env::var_os(DATA_DIR_VARIABLE) {
            Some(_) => data(),
            None => documents().or_else(data),
        }
    }

    /// An engine of its own that keeps everything in `folder` and does everything in this process.
    pub fn in_folder(folder: PathBuf) -> Arc<Self> {
        Self::with_road(folder, Arc::new(InProcess::new(pipeline::song)))
    }

    /// [`Engine::in_folder`] with another road.
    pub fn with_road(folder: PathBuf, road: Arc<dyn Road>) -> Arc<Self> {
        Self::with_budget(folder, road, budget())
    }

    /// [`Engine::with_road`] that captures while all engines of the process hold less than so many bytes of audio.
    pub fn with_budget(folder: PathBuf, road: Arc<dyn Road>, bytes: usize) -> Arc<Self> {
        Self::start(folder.join("commits"), &folder.join("cache"), road, bytes)
    }

    fn start(commits: PathBuf, cache: &Path, road: Arc<dyn Road>, budget: usize) -> Arc<Self> {
        let opened = Cache::open(cache, DEFAULT_LIMIT_BYTES);
        let storage_problem = opened
            .as_ref()
            .err()
            .map(|error| format!("Analyses can't be kept for the next time: {error}"));
        let inner = Arc::new(Inner {
            // On the disk that holds the cache: it is too long for folders in memory.
            scratch: if opened.is_ok() {
                cache.join("jobs")
            } else {
                commits.with_file_name("jobs")
            },
            commits,
            cache: opened.ok(),
            storage_problem,
            instances: Mutex::default(),
            queue: Mutex::default(),
            queued: Condvar::new(),
            stop: AtomicBool::new(false),
            road,
            budget,
            relieving: AtomicBool::new(false),
            next_id: AtomicU64::new(0),
        });
        let spawn = |name: &str, body: fn(&Inner)| {
            let inner = inner.clone();
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || body(&inner))
        };
        // Without threads (the process is out of them) the live chain still plays; jobs just never start.
        let threads = [
            spawn("uncook-collect", collect),
            spawn("uncook-jobs", jobs::run_queue),
        ]
        .into_iter()
        .flatten()
        .collect();
        Arc::new(Self { inner, threads })
    }

    /// What became of questions to the cache of intermediate results; `None` where it can't be used.
    pub fn cache_counts(&self) -> Option<CacheCounts> {
        self.inner.cache.as_ref().map(Cache::counts)
    }

    /// Connects an instance.
    pub fn connect(self: &Arc<Self>, capture: CaptureReader, patches: PatchPublisher) -> Instance {
        let id = self.inner.next_id.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::new(Shared::new(id, capture, patches));
        if let Some(problem) = &self.inner.storage_problem {
            shared.state.lock().report(problem.clone());
        }
        self.inner.instances.lock().push(shared.clone());
        Instance {
            engine: self.clone(),
            shared,
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.inner.stop.store(true, Ordering::Relaxed);
        {
            // Under the queue's lock, so that the job thread can't miss it between test and wait.
            let queue = self.inner.queue.lock();
            queue.cancel_all();
            self.inner.queued.notify_all();
        }
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so; there is nothing left to do for it.
            let _ = thread.join();
        }
    }
}

impl Instance {
    /// Options of jobs started from now on; a change of a late option re-runs late stages only.
    pub fn set_options(&self, options: &Options) {
        // Reads the list of installed models: not under the lock.
        let model = regenerate::view(options.regenerators);
        let mut state = self.shared.state.lock();
        state.options = options.clone();
        state.set_model(model);
    }

    /// The user accepts the terms of the models that the chosen regenerators need; asked once, kept for all
    /// projects.
    pub fn accept_terms(&self) {
        let chosen = self.shared.state.lock().options.regenerators;
        let accepted = regenerate::accept(chosen);
        let model = regenerate::view(chosen);
        let mut state = self.shared.state.lock();
        if let Err(reason) = accepted {
            state.report(format!(
                "The terms could not be recorded as accepted: {reason}"
            ));
        }
        state.set_model(model);
    }

    /// The host's rate, from `activate`. Patches of another rate are kept but don't play.
    pub fn set_sample_rate(&self, sample_rate: u32) {
        self.shared.state.lock().set_sample_rate(sample_rate);
    }

    /// Queues the analysis of everything captured and not yet analysed with the present options.
    pub fn analyse(&self) {
        let mut state = self.shared.state.lock();
        self.engine.inner.drain(&mut state);
        let jobs = state.jobs(true);
        self.engine.inner.enqueue(&self.shared, &mut state, jobs);
    }

    /// Queues another rebuild of a span of one stem.
    pub fn regenerate(&self, focus: Regenerate) {
        let mut state = self.shared.state.lock();
        self.engine.inner.drain(&mut state);
        let jobs = state.regeneration(focus).into_iter().collect();
        self.engine.inner.enqueue(&self.shared, &mut state, jobs);
    }

    /// What the user decided about the rebuilt audio. Takes effect within a tick of the collector.
    pub fn set_edits(&self, edits: &Edits) {
        self.shared.state.lock().set_edits(edits.clone());
    }

    /// What of it is listened to: never stored.
    pub fn listen(&self, listening: Listening) {
        self.shared.state.lock().set_listening(listening);
    }

    /// Cancels this instance's running and waiting jobs, and what is done ahead until capture begins anew.
    pub fn cancel(&self) {
        self.shared.state.lock().stop_ahead();
        self.engine.inner.queue.lock().cancel(self.shared.id);
    }

    /// Forgets captured audio, jobs and patches (committed sidecars stay on disk).
    pub fn clear(&self) {
        self.cancel();
        self.shared.state.lock().clear();
    }

    /// What the editor shows. Lock-free.
    pub fn view(&self) -> Arc<View> {
        self.shared.view.load_full()
    }

    /// What the project stores. What could not be written before is tried again.
    pub fn session(&self) -> Session {
        let mut state = self.shared.state.lock();
        state.save_unsaved(&self.engine.inner.commits);
        state.session()
    }

    /// Copies every sidecar of the project into `folder` (created if missing), to go with it to another machine or an
    /// archive. Returns how many are there now; what can't be copied is reported in [`View::problems`] too.
    ///
    /// # Errors
    /// With every sidecar that can't be copied, one a line; the others are there.
    pub fn collect(&self, folder: &Path) -> Result<usize, String> {
        let own = &self.engine.inner.commits;
        let (session, mut faults) = {
            let mut state = self.shared.state.lock();
            let faults = state.save_unsaved(own);
            (state.session(), faults)
        };
        let all: Vec<CommitRef> = session.commits.into_iter().chain(session.others).collect();
        faults.extend(self.copy(&all, &[own], folder));
        told(all.len(), &faults)
    }

    /// Looks for the project's missing sidecars in `folder` and the folders in it, and keeps copies of what it finds
    /// where the next opening looks. Returns how many play again.
    ///
    /// # Errors
    /// With every sidecar that was found nowhere, one a line; the others play.
    pub fn relink(&self, folder: &Path) -> Result<usize, String> {
        let missing = self.shared.state.lock().missing();
        let inside = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let inside = inside
            .map(|entry| entry.path())
            .filter(|path| path.is_dir());
        let folders: Vec<PathBuf> = std::iter::once(folder.to_owned()).chain(inside).collect();
        let folders: Vec<&Path> = folders.iter().map(PathBuf::as_path).collect();
        let own = &self.engine.inner.commits;
        let faults = self.copy(&missing, &folders, own);
        // Where no copy could be kept, from where it was found.
        let folders = [&[own.as_path()][..], &folders].concat();
        let mut state = self.shared.state.lock();
        let found = state.find_missing(&folders);
        self.shared.publish_view(&mut state, None, false);
        told(found, &faults)
    }

    /// Copies sidecars; returns, and reports, why some can't be.
    fn copy(&self, all: &[CommitRef], from: &[&Path], to: &Path) -> Vec<String> {
        let faults: Vec<String> = all
            .iter()
            .filter_map(|commit| commits::copy(from, commit, to).err())
            .map(|fault| fault.to_string())
            .collect();
        let mut state = self.shared.state.lock();
        for fault in &faults {
            state.report(fault.clone());
        }
        faults
    }

    /// Replaces the commits by those of a loaded project: reads the sidecars and publishes the patches
    /// before it returns. Missing ones are reported in [`View::problems`] and stay in [`Instance::session`].
    pub fn load_session(&self, session: &Session) {
        self.cancel();
        let mut state = self.shared.state.lock();
        state.load(session, &[&self.engine.inner.commits]);
        self.shared.publish_view(&mut state, None, false);
    }

    /// What plays from `pos` on is in memory when this returns, however short that is, unless the disk refuses. For
    /// offline render: reads a file.
    pub fn bring(&self, pos: SamplePos) {
        self.shared.state.lock().bring(pos);
    }

    /// Blocks until no job of this instance is queued or running and nothing captured waits for an
    /// automatic analysis, or until `limit` has passed. Returns whether it became idle. For offline render.
    pub fn wait_idle(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            let whole = {
                let mut state = self.shared.state.lock();
                self.engine.inner.drain(&mut state);
                let whole = state.is_drained();
                // Waiting means that nothing more will come: no need to wait for silence.
                if whole {
                    let jobs = state.automatic_jobs(true);
                    self.engine.inner.enqueue(&self.shared, &mut state, jobs);
                }
                state.publish_patches();
                whole
            };
            if whole && !self.engine.inner.queue.lock().holds(self.shared.id) {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(COLLECT_BUSY);
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.cancel();
        let mut instances = self.engine.inner.instances.lock();
        instances.retain(|s| s.id != self.shared.id);
    }
}

/// `count`, or the faults, one a line.
fn told(count: usize, faults: &[String]) -> Result<usize, String> {
    if faults.is_empty() {
        Ok(count)
    } else {
        Err(faults.join("\n"))
    }
}

/// Half of the machine's memory.
fn budget() -> usize {
    let half = memory_bytes().and_then(|bytes| usize::try_from(bytes / 2).ok());
    half.unwrap_or(UNKNOWN_MEMORY_BYTES)
}

impl Inner {
    /// Adds what an instance has captured while there is room for it; where none will be, throws it away. Returns whether
    /// anything came.
    fn drain(&self, state: &mut State) -> bool {
        if held_bytes() < self.budget {
            return state.drain();
        }
        if !self.relieving.load(Ordering::Relaxed) && state.discard() {
            state.report(format!(
                "Captured and repaired songs fill the {:.1} GB of memory that Uncook takes and can't be put aside on the \
                 disk: make room there or clear what you don't need, then play again",
                self.budget as f64 / 1e9
            ));
        }
        false
    }

    fn enqueue(&self, shared: &Arc<Shared>, state: &mut State, jobs: Vec<Job>) {
        if jobs.is_empty() {
            return;
        }
        for job in &jobs {
            state.requested(job);
        }
        let mut queue = self.queue.lock();
        for job in jobs {
            queue.push(shared.clone(), job);
        }
        self.queued.notify_all();
    }
}

/// Collects what the instances capture, starts automatic jobs and renews the views.
fn collect(inner: &Inner) {
    let mut relief = Relief::new(inner.scratch.clone(), inner.budget);
    while !inner.stop.load(Ordering::Relaxed) {
        let instances = inner.instances.lock().clone();
        let place = inner.road.status();
        let mut busy = relief.work(&instances);
        inner.relieving.store(busy, Ordering::Relaxed);
        for shared in &instances {
            let mut state = shared.state.lock();
            busy |= inner.drain(&mut state);
            state.measure();
            state.set_place(&place);
            let jobs = state.automatic_jobs(false);
            inner.enqueue(shared, &mut state, jobs);
            state.publish_patches();
            let (job, works_ahead) = {
                let mut queue = inner.queue.lock();
                if inner.cache.is_some() && state.has_ahead() && queue.offer(shared) {
                    inner.queued.notify_all();
                }
                (queue.view(shared.id), queue.works_ahead(shared.id))
            };
            busy |= job.is_some();
            shared.publish_view(&mut state, job, works_ahead);
        }
        std::thread::sleep(if busy { COLLECT_BUSY } else { COLLECT_IDLE });
    }
}

// [worker] The queue of heavy jobs: one runs at a time, instances take turns, a panic ends its job only.
// While nobody has asked for anything, takes that are still captured are worked on ahead.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use crate::{
    cache::commits,
    damage::Stem,
    exchange::{
        SamplePos,
        patch::Patch,
        samples::{self, StereoSamples},
    },
    metrics::{self, Comparison},
    worker::{
        ahead, edits,
        engine::Inner,
        instance::{AheadJob, Commit, Job, Shared, State},
        options::{Asked, Options, RegeneratorChoice},
        pipeline::PipelineError,
        progress::{Progress, Step},
        road::{Rebuilt, Recording},
        scratch::{KeptStems, kept_bytes},
        session::Regenerate,
        view::{JobView, Made},
    },
};

/// What the stems that are kept for listening may take on the disk, in bytes: 4 GB, as much as the cache.
const MAX_STEMS_BYTES: u64 = 4_000_000_000;

struct Entry {
    shared: Arc<Shared>,
    job: Job,
    progress: Progress,
}

/// Waiting jobs, and the running one.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Vec<Entry>,
    /// Instances whose takes can be worked on ahead, in the order in which they take turns.
    ahead: Vec<Arc<Shared>>,
    running: Option<Running>,
    /// Instances in the order in which they were last served, newest last.
    served: Vec<u64>,
}

struct Running {
    id: u64,
    progress: Progress,
    since: Instant,
    kind: Kind,
}

/// What runs.
enum Kind {
    Asked,
    /// Work on a take that is still captured; none until it is known what there is to do.
    Ahead(Option<(SamplePos, Options)>),
}

/// The next thing to do.
enum Work {
    Asked(Box<Entry>),
    Ahead(Arc<Shared>, Progress),
}

impl Running {
    fn is_asked(&self) -> bool {
        matches!(self.kind, Kind::Asked)
    }

    /// Whether this is work ahead that `job` of instance `id` will need.
    fn serves(&self, id: u64, job: &Job) -> bool {
        match &self.kind {
            Kind::Ahead(Some((start, options))) => {
                self.id == id && *start == job.start && options.same_result(&job.options)
            }
            _ => false,
        }
    }
}

impl Queue {
    pub fn push(&mut self, shared: Arc<Shared>, job: Job) {
        // A newer analysis of the same place replaces one that has not begun.
        self.waiting
            .retain(|e| e.shared.id != shared.id || e.job.start != job.start);
        // Nobody waits for what was not asked for, except for what the job itself would begin with.
        if let Some(running) = &self.running
            && !running.is_asked()
            && !running.serves(shared.id, &job)
        {
            running.progress.cancel();
        }
        self.waiting.push(Entry {
            shared,
            job,
            progress: Progress::new(),
        });
    }

    /// Notes that a take of an instance can be worked on ahead. Returns whether that is news.
    pub fn offer(&mut self, shared: &Arc<Shared>) -> bool {
        let known = self.ahead.iter().any(|s| s.id == shared.id)
            || self.running.as_ref().is_some_and(|r| r.id == shared.id);
        if !known {
            self.ahead.push(shared.clone());
        }
        !known
    }

    fn next(&mut self) -> Option<Work> {
        if let Some(entry) = self.pop() {
            return Some(Work::Asked(Box::new(entry)));
        }
        if self.ahead.is_empty() {
            return None;
        }
        let shared = self.ahead.remove(0);
        let progress = Progress::new();
        self.running = Some(Running {
            id: shared.id,
            progress: progress.clone(),
            since: Instant::now(),
            kind: Kind::Ahead(None),
        });
        Some(Work::Ahead(shared, progress))
    }

    /// Says what the running work ahead is. Returns whether it may go on: nobody has asked for anything else.
    fn begin_ahead(&mut self, job: &AheadJob) -> bool {
        match &mut self.running {
            Some(running) if !running.progress.is_cancelled() => {
                running.kind = Kind::Ahead(Some((job.start, job.options.clone())));
                true
            }
            _ => false,
        }
    }

    /// The oldest job of the instance that has waited longest since it was served.
    fn pop(&mut self) -> Option<Entry> {
        let turn = |e: &Entry| {
            self.served
                .iter()
                .position(|&id| id == e.shared.id)
                .map_or(0, |place| place + 1)
        };
        let (i, _) = self
            .waiting
            .iter()
            .enumerate()
            .min_by_key(|(i, e)| (turn(e), *i))?;
        let entry = self.waiting.remove(i);
        self.served.retain(|&id| id != entry.shared.id);
        self.served.push(entry.shared.id);
        self.running = Some(Running {
            id: entry.shared.id,
            progress: entry.progress.clone(),
            since: Instant::now(),
            kind: Kind::Asked,
        });
        Some(entry)
    }

    fn running_job(&self) -> Option<&Running> {
        self.running.as_ref().filter(|r| r.is_asked())
    }

    /// Whether a job of instance `id` waits or runs. What is done ahead is no job.
    pub fn holds(&self, id: u64) -> bool {
        self.running_job().is_some_and(|r| r.id == id)
            || self.waiting.iter().any(|e| e.shared.id == id)
    }

    /// Takes waiting jobs of instance `id` away and asks its running one to stop.
    pub fn cancel(&mut self, id: u64) {
        self.waiting.retain(|e| e.shared.id != id);
        self.ahead.retain(|s| s.id != id);
        self.served.retain(|&served| served != id);
        if let Some(running) = self.running.as_ref().filter(|r| r.id == id) {
            running.progress.cancel();
        }
    }

    pub fn cancel_all(&self) {
        if let Some(running) = &self.running {
            running.progress.cancel();
        }
    }

    /// The running or next job of instance `id`.
    pub fn view(&self, id: u64) -> Option<JobView> {
        if let Some(running) = self.running_job().filter(|r| r.id == id) {
            let done = running.progress.done();
            let elapsed = running.since.elapsed().as_secs_f64();
            return Some(JobView {
                step: running.progress.step().label(),
                done,
                // The first steps say too little about the rest.
                seconds_left: (done > 0.02).then(|| elapsed * (1.0 - done) / done),
                ahead: 0,
            });
        }
        let place = self.waiting.iter().position(|e| e.shared.id == id)?;
        Some(JobView {
            step: Step::Queued.label(),
            done: 0.0,
            seconds_left: None,
            ahead: place + usize::from(self.running_job().is_some()),
        })
    }

    /// Whether a take of instance `id` is being worked on ahead.
    pub fn works_ahead(&self, id: u64) -> bool {
        (self.running.as_ref()).is_some_and(|r| r.id == id && !r.is_asked())
    }
}

/// Runs jobs until the engine stops.
pub(super) fn run_queue(inner: &Inner) {
    // Jobs take what the host and its audio leave. Where the system refuses, they run all the same.
    let _ = thread_priority::set_current_thread_priority(thread_priority::ThreadPriority::Min);
    loop {
        let work = {
            let mut queue = inner.queue.lock();
            queue.running = None;
            loop {
                if inner.stop.load(Ordering::Relaxed) {
                    return;
                }
                if let Some(work) = queue.next() {
                    break work;
                }
                inner.queued.wait(&mut queue);
            }
        };
        let Entry {
            shared,
            job,
            progress,
        } = match work {
            Work::Asked(entry) => *entry,
            Work::Ahead(shared, progress) => {
                run_ahead(inner, &shared, &progress);
                continue;
            }
        };
        let result = catch_unwind(AssertUnwindSafe(|| run(inner, &job, &progress)));
        let mut state = shared.state.lock();
        report(inner, &mut state);
        match result {
            Ok(Ok((commit, problem))) if !progress.is_cancelled() => {
                if let Some(problem) = problem {
                    state.report(problem);
                }
                state.committed(&job, commit);
            }
            Ok(Ok(_) | Err(PipelineError::Cancelled)) => state.cancelled(&job),
            Ok(Err(error)) => state.failed(&job, format!("The analysis stopped: {error}")),
            Err(_) => state.failed(
                &job,
                "The analysis met a defect and was ended; live repair goes on. Please report it with the \
                 output of `uncook analyze --json`"
                    .to_owned(),
            ),
        }
        state.publish_patches();
    }
}

/// Passes on what went wrong on the road, whether or not there is a result.
fn report(inner: &Inner, state: &mut State) {
    for incident in inner.road.incidents() {
        state.report(incident);
    }
}

/// Works on a take that is still captured, one segment.
fn run_ahead(inner: &Inner, shared: &Arc<Shared>, progress: &Progress) {
    let Some(cache) = &inner.cache else {
        return;
    };
    // The locks one after the other, never both.
    let job = shared.state.lock().next_ahead();
    let Some(job) = job else {
        return;
    };
    if !inner.queue.lock().begin_ahead(&job) {
        return;
    }
    let fetch = |range| shared.state.lock().captured(&job, range);
    let take = ahead::Take {
        sample_rate: job.sample_rate,
        channels: job.channels,
        frames: job.frames,
        done: job.done,
        fetch: &fetch,
    };
    let result = catch_unwind(AssertUnwindSafe(|| {
        inner.road.ahead(&take, &job.options, cache, progress)
    }));
    let mut state = shared.state.lock();
    report(inner, &mut state);
    match result {
        Ok(Ok(())) => state.ahead_done(&job),
        // Somebody else was served: it is offered again.
        Ok(Err(PipelineError::Cancelled)) => {}
        // The analysis will meet the same and report it.
        Ok(Err(_)) | Err(_) => state.stop_ahead(),
    }
}

/// The commit, and what else there is to say.
fn run(
    inner: &Inner,
    job: &Job,
    progress: &Progress,
) -> Result<(Commit, Option<String>), PipelineError> {
    let unread = samples::faults();
    let recording = Recording {
        start: job.start,
        sample_rate: job.sample_rate,
        samples: &job.take,
    };
    let options = match &job.focus {
        Some(focus) => asked(focus, job),
        None => job.options.clone(),
    };
    let bytes = KeptStems::bytes_of(recording.channels().len(), job.frames());
    let stems = has_room(inner, bytes).then_some(inner.scratch.as_path());
    let cache = inner.cache.as_ref();
    let Rebuilt {
        base,
        mut layers,
        stems,
        mut findings,
        rebuilders,
    } = (inner.road).rebuild(&recording, &options, cache, stems, progress)?;
    if samples::faults() != unread {
        let words = "the recording was put aside on the disk and can't be read back";
        return Err(PipelineError::Disk(io::Error::other(words)));
    }
    progress.set(Step::Committing, 0.99);
    let (stems, problem) = match stems {
        Some(Ok(stems)) => (Some(stems), None),
        Some(Err(reason)) => {
            let words = format!(
                "The separated stems can't be listened to, for they can't be kept: {reason}"
            );
            (None, Some(words))
        }
        None => (None, None),
    };
    let take = job.take.clone();
    if let Some(focus) = &job.focus {
        let old = job.previous.as_deref().filter(|p| p.base == base);
        let found = join(&mut layers, focus, job, old);
        for stem in Stem::ALL {
            let found = &mut findings.stems[stem as usize];
            found.rebuilt = layers[stem as usize].is_some();
            let before = job.previous_made[stem as usize].filter(|_| old.is_some());
            found.made = if stem == focus.stem && found.made.is_some() {
                let all =
                    focus.start <= job.start && focus.end.since(job.start) >= job.frames() as i64;
                Some(Made {
                    by: job.options.regenerators.of(stem),
                    throughout: all || before.is_some_and(|made| made.throughout),
                })
            } else {
                before
            };
        }
        findings.lines = std::iter::once(found).chain(rebuilders).collect();
    }
    findings.quality = Some(compare(&take, &base, &layers, job.sample_rate));
    let notes = Notes {
        findings,
        options: Options {
            // One span of one stem follows the edits now; the rest does not.
            music: (job.heard.clone()).unwrap_or_else(|| job.options.music.clone()),
            ..job.options.clone()
        },
        focus: job.focus,
    };
    let meta = serde_json::to_string(&notes).unwrap_or_default();
    let saved = commits::save(
        &inner.commits,
        job.start,
        job.sample_rate,
        &take,
        &base,
        &layers,
        &meta,
    );
    let (reference, unsaved) = match saved {
        Ok(reference) => (Some(reference), None),
        Err(error) => (
            None,
            Some(Unsaved {
                meta,
                problem: unsaved(&error),
            }),
        ),
    };
    let patch = Patch {
        id: reference
            .as_ref()
            .map_or_else(String::new, |r| r.hash.clone()),
        start: job.start,
        sample_rate: job.sample_rate,
        take,
        base,
        layers,
    };
    let commit = Commit::new(reference, Arc::new(patch), notes, stems, unsaved);
    Ok((commit, problem))
}

/// Whether there is room for the stems of another take. Those of takes that nobody listens to make it.
fn has_room(inner: &Inner, bytes: u64) -> bool {
    let fits = || kept_bytes().saturating_add(bytes) <= MAX_STEMS_BYTES;
    if bytes <= MAX_STEMS_BYTES {
        let instances = inner.instances.lock().clone();
        for shared in instances.iter().take_while(|_| !fits()) {
            shared.state.lock().spare();
        }
    }
    fits()
}

/// What is missing of a commit that could not be written, to write it later.
pub(super) struct Unsaved {
    /// Its notes.
    pub meta: String,
    /// Why, in words for the user.
    pub problem: String,
}

/// Why a repair isn't kept, and what helps.
pub(super) fn unsaved(error: &commits::CommitError) -> String {
    format!(
        "The repair plays, but could not be saved with the project: {error}. Saving the project again tries it again"
    )
}

/// The options of a job about one span: the span decides where, not the damage.
fn asked(focus: &Regenerate, job: &Job) -> Options {
    let len = job.frames() as i64;
    let sample = |pos: SamplePos| pos.since(job.start).clamp(0, len) as u64;
    Options {
        regenerators: match job.options.regenerators.of(focus.stem) {
            // Without a model everything is rebuilt, which is quick, and the span is cut out of that.
            RegeneratorChoice::Resynthesis => {
                (job.options.regenerators).with(focus.stem, RegeneratorChoice::Everywhere)
            }
            _ => job.options.regenerators,
        },
        seed: focus.seed,
        asked: Some(Asked {
            stem: focus.stem,
            start: sample(focus.start),
            end: sample(focus.end),
        }),
        ..job.options.clone()
    }
}

/// Leaves only the asked span of the asked stem, joined into what was rebuilt before. Says what was done.
fn join(
    layers: &mut [Option<StereoSamples>; Stem::COUNT],
    focus: &Regenerate,
    job: &Job,
    old: Option<&Patch>,
) -> String {
    let len = job.frames();
    let index = |pos: SamplePos| pos.since(job.start).clamp(0, len as i64) as usize;
    let span = index(focus.start)..index(focus.end);
    let clock = |sample: usize| {
        let seconds = sample as u64 / u64::from(job.sample_rate.max(1));
        format!("{}:{:02}", seconds / 60, seconds % 60)
    };
    let place = format!("{}–{}", clock(span.start), clock(span.end));
    let made = layers[focus.stem as usize].is_some();
    for stem in Stem::ALL {
        let before = old.and_then(|p| p.layers[stem as usize].as_ref());
        let layer = &mut layers[stem as usize];
        *layer = if stem == focus.stem && made {
            edits::joined(before, layer.as_ref(), span.clone(), job.sample_rate)
        } else {
            before.cloned()
        };
    }
    let name = focus.stem.name();
    if made {
        format!("{name}: rebuilt at {place} as asked, seed {}", focus.seed)
    } else {
        format!(
            "{name}: could not be rebuilt at {place}. Choose drums or bass, a longer span, and a \
             regenerator other than Off"
        )
    }
}

/// What the take is measured from, and with every blend up the repair: read piece by piece.
struct Heard<'a> {
    base: &'a StereoSamples,
    layers: &'a [Option<StereoSamples>],
    sample_rate: u32,
}

impl metrics::Source for Heard<'_> {
    fn channels(&self) -> usize {
        self.base.len()
    }

    fn sample_rate(&self) -> u32 {
        self.sample_rate
    }

    fn frames(&self) -> usize {
        self.base[0].len()
    }

    fn read(&self, channel: usize, start: usize, out: &mut [f32]) {
        let layers = self.layers.iter().flatten();
        let layers = layers.map(|layer| &layer[channel]);
        samples::read_sum(&self.base[channel], layers, start, out);
    }
}

/// The take beside the repair with every blend up.
fn compare(
    take: &StereoSamples,
    base: &StereoSamples,
    layers: &[Option<StereoSamples>; Stem::COUNT],
    sample_rate: u32,
) -> Comparison {
    let heard = |base, layers| Heard {
        base,
        layers,
        sample_rate,
    };
    Comparison::new(&heard(take, &[]), &heard(base, layers))
}

/// What a sidecar says beside its audio.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Notes {
    pub findings: crate::worker::view::Findings,
    pub options: crate::worker::options::Options,
    /// The span that was rebuilt on the user's demand.
    pub focus: Option<Regenerate>,
}

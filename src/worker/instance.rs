// [worker] What the engine knows of one instance: takes, commits, options, problems.

use std::{
    cell::Cell,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::{
    audio::AudioBuffer,
    cache::commits,
    damage::{FRAMES_PER_SECOND, Stem},
    exchange::{
        SamplePos,
        capture::CaptureReader,
        patch::{Patch, PatchPublisher, PatchSet},
    },
    worker::{
        jobs::Notes,
        options::{CaptureMode, Options},
        session::{CommitRef, Session},
        takes::{Take, Takes},
        view::{Findings, JobView, TakeState, TakeView, View},
    },
};

/// Capture that stops coming counts as stopped after this: a host that doesn't call a stopped plugin.
const SILENCE_ENDS_TAKE: Duration = Duration::from_secs(2);
/// Views are renewed at most this often.
const VIEW_INTERVAL: Duration = Duration::from_millis(100);
/// Problems kept, newest last.
const MAX_PROBLEMS: usize = 8;
/// Takes shorter than this are not analysed by themselves: 1 s. A click on the timeline is no take.
const MIN_AUTOMATIC_SECONDS: f64 = 1.0;

/// An instance, as the engine's threads share it.
pub(super) struct Shared {
    pub id: u64,
    pub state: Mutex<State>,
    pub view: ArcSwap<View>,
    view_time: Mutex<Instant>,
}

/// A job's input.
#[derive(Clone)]
pub(super) struct Job {
    pub start: SamplePos,
    pub audio: AudioBuffer,
    pub options: Options,
    revision: u64,
}

/// A patch that is in force, or a reference whose sidecar could not be read.
pub(super) struct Commit {
    reference: Option<CommitRef>,
    patch: Option<Arc<Patch>>,
    options: Options,
    findings: Arc<Findings>,
    repaired_peaks: Arc<Vec<(f32, f32)>>,
    problem: Option<String>,
    /// The last take that was compared with the patch, by revision, and the answer: takes are long.
    compared: Cell<Option<(u64, bool)>>,
}

/// What became of a take's analysis.
struct Requested {
    revision: u64,
    options: Options,
    state: TakeState,
}

pub(super) struct State {
    capture: CaptureReader,
    publisher: PatchPublisher,
    takes: Takes,
    pub options: Options,
    sample_rate: u32,
    /// Oldest first; later ones win.
    commits: Vec<Commit>,
    requests: Vec<Requested>,
    problems: Vec<String>,
    last_chunk: Instant,
    /// The transport stopped, or capture has been silent long enough, since the last chunk.
    stopped: bool,
    patches_changed: bool,
    view_changed: bool,
}

impl Shared {
    pub fn new(id: u64, capture: CaptureReader, publisher: PatchPublisher) -> Self {
        let now = Instant::now();
        Self {
            id,
            state: Mutex::new(State {
                capture,
                publisher,
                takes: Takes::default(),
                options: Options::default(),
                sample_rate: 0,
                commits: Vec::new(),
                requests: Vec::new(),
                problems: Vec::new(),
                last_chunk: now,
                stopped: true,
                patches_changed: false,
                view_changed: true,
            }),
            view: ArcSwap::default(),
            view_time: Mutex::new(now),
        }
    }

    /// Renews the view if anything changed and the last one is old enough.
    pub fn publish_view(&self, state: &State, job: Option<JobView>) {
        let old = self.view.load();
        let mut last = self.view_time.lock();
        if (!state.view_changed && old.job == job) || last.elapsed() < VIEW_INTERVAL {
            return;
        }
        *last = Instant::now();
        self.view.store(Arc::new(state.view(job)));
    }
}

impl Commit {
    pub fn new(
        reference: Option<CommitRef>,
        patch: Arc<Patch>,
        notes: Notes,
        problem: Option<String>,
    ) -> Self {
        Self {
            reference,
            repaired_peaks: Arc::new(peaks(&patch)),
            patch: Some(patch),
            options: notes.options,
            findings: Arc::new(notes.findings),
            problem,
            compared: Cell::new(None),
        }
    }

    /// Whether this commit is exactly about `take`.
    fn covers(&self, take: &Take) -> bool {
        match self.compared.get() {
            Some((revision, answer)) if revision == take.revision => answer,
            _ => {
                let answer = self.compare(take);
                self.compared.set(Some((take.revision, answer)));
                answer
            }
        }
    }

    fn compare(&self, take: &Take) -> bool {
        self.patch.as_ref().is_some_and(|patch| {
            patch.start <= take.start
                && take.end() <= patch.end()
                && patch.sample_rate == take.sample_rate
                && take.equals(&patch.take, take.start.since(patch.start) as usize)
        })
    }

    fn span(&self) -> Option<(SamplePos, SamplePos)> {
        match (&self.patch, &self.reference) {
            (Some(patch), _) => Some((patch.start, patch.end())),
            (None, Some(r)) => {
                let start = SamplePos(r.start);
                Some((start, start.offset(r.frames as i64)))
            }
            (None, None) => None,
        }
    }
}

impl State {
    pub fn takes_bytes(&self) -> usize {
        self.takes.bytes()
    }

    /// Adds what has been captured. Returns whether anything came.
    pub fn drain(&mut self) -> bool {
        let mut any = false;
        while let Some(chunk) = self.capture.pop() {
            any = true;
            self.stopped = chunk.len == 0;
            self.takes.add(&chunk);
        }
        if any {
            self.last_chunk = Instant::now();
            self.view_changed = true;
        } else if self.last_chunk.elapsed() > SILENCE_ENDS_TAKE {
            self.stopped = true;
        }
        any
    }

    /// Throws away what has been captured. Returns whether anything came.
    pub fn discard(&mut self) -> bool {
        let mut any = false;
        while self.capture.pop().is_some() {
            any = true;
        }
        any
    }

    pub fn measure(&mut self) {
        self.takes.measure();
    }

    pub fn set_sample_rate(&mut self, sample_rate: u32) {
        self.sample_rate = sample_rate;
        self.view_changed = true;
    }

    pub fn report(&mut self, problem: String) {
        if self.problems.last() != Some(&problem) {
            self.problems.push(problem);
            let excess = self.problems.len().saturating_sub(MAX_PROBLEMS);
            self.problems.drain(..excess);
            self.view_changed = true;
        }
    }

    /// Jobs that are due without being asked for; `now`: as if the transport had stopped.
    pub fn automatic_jobs(&mut self, now: bool) -> Vec<Job> {
        if self.options.capture != CaptureMode::Automatic || !(self.stopped || now) {
            return Vec::new();
        }
        self.jobs(false)
    }

    /// Jobs for takes that no request or commit covers. `asked` by the user, other options are a reason
    /// too, failed and cancelled ones run again, and short takes count.
    pub fn jobs(&self, asked: bool) -> Vec<Job> {
        self.takes
            .all()
            .iter()
            .filter(|take| {
                let seconds = take.frames() as f64 / f64::from(take.sample_rate.max(1));
                let request = self.requests.iter().rfind(|r| r.revision == take.revision);
                let commit = self.commits.iter().rfind(|c| c.covers(take));
                if asked {
                    let same = |options: &Options| options.same_result(&self.options);
                    !commit.is_some_and(|c| same(&c.options))
                        && !request
                            .is_some_and(|r| same(&r.options) && r.state == TakeState::Queued)
                } else {
                    request.is_none() && commit.is_none() && seconds >= MIN_AUTOMATIC_SECONDS
                }
            })
            .map(|take| Job {
                start: take.start,
                audio: take.audio(),
                options: self.options.clone(),
                revision: take.revision,
            })
            .collect()
    }

    pub fn requested(&mut self, job: &Job) {
        self.requests.retain(|r| {
            r.revision != job.revision && self.takes.all().iter().any(|t| t.revision == r.revision)
        });
        self.requests.push(Requested {
            revision: job.revision,
            options: job.options.clone(),
            state: TakeState::Queued,
        });
        self.view_changed = true;
    }

    fn finished(&mut self, job: &Job, state: TakeState) {
        if let Some(request) = self
            .requests
            .iter_mut()
            .find(|r| r.revision == job.revision)
        {
            request.state = state;
        }
        self.view_changed = true;
    }

    pub fn committed(&mut self, job: &Job, commit: Commit) {
        self.finished(job, TakeState::Committed);
        if let Some(problem) = &commit.problem {
            self.report(problem.clone());
        }
        self.commits.push(commit);
        self.drop_covered();
        self.patches_changed = true;
    }

    pub fn cancelled(&mut self, job: &Job) {
        self.finished(job, TakeState::Captured);
    }

    pub fn failed(&mut self, job: &Job, problem: String) {
        self.finished(job, TakeState::Failed);
        self.report(problem);
    }

    /// Where commits overlap, the newer one stays.
    fn drop_covered(&mut self) {
        let mut kept: Vec<Commit> = Vec::new();
        for commit in std::mem::take(&mut self.commits).into_iter().rev() {
            let free = commit.span().is_some_and(|(start, end)| {
                kept.iter()
                    .filter_map(Commit::span)
                    .all(|(s, e)| end <= s || e <= start)
            });
            if free {
                kept.push(commit);
            }
        }
        kept.reverse();
        self.commits = kept;
    }

    pub fn clear(&mut self) {
        self.drain();
        self.takes.clear();
        self.requests.clear();
        self.commits.clear();
        self.problems.clear();
        self.patches_changed = true;
        self.view_changed = true;
        self.publish_patches();
    }

    pub fn session(&self) -> Session {
        Session {
            commits: self
                .commits
                .iter()
                .filter_map(|c| c.reference.clone())
                .collect(),
        }
    }

    pub fn load(&mut self, session: &Session, folders: &[&Path]) {
        self.commits.clear();
        for reference in &session.commits {
            let commit = match commits::load(folders, reference) {
                Ok((patch, meta)) => {
                    // Notes of another version say less; the audio still plays.
                    let notes: Notes = serde_json::from_str(&meta).unwrap_or_default();
                    Commit::new(Some(reference.clone()), Arc::new(patch), notes, None)
                }
                Err(error) => {
                    self.report(error.to_string());
                    Commit {
                        reference: Some(reference.clone()),
                        patch: None,
                        options: Options::default(),
                        findings: Arc::default(),
                        repaired_peaks: Arc::default(),
                        problem: Some(error.to_string()),
                        compared: Cell::new(None),
                    }
                }
            };
            self.commits.push(commit);
        }
        self.drop_covered();
        self.patches_changed = true;
        self.view_changed = true;
        self.publish_patches();
    }

    /// Hands the patches to the audio thread if they changed, and frees what it gave back.
    pub fn publish_patches(&mut self) {
        if std::mem::take(&mut self.patches_changed) {
            let patches = self
                .commits
                .iter()
                .filter_map(|c| c.patch.clone())
                .collect();
            self.publisher.publish(PatchSet::new(patches));
        }
        self.publisher.collect();
    }

    fn view(&self, job: Option<JobView>) -> View {
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
                    peaks: Arc::new(frame_peaks(&patch.take, patch.sample_rate)),
                    repaired_peaks: commit.repaired_peaks.clone(),
                    damage: Arc::new(commit.findings.damage.clone()),
                    state: TakeState::Committed,
                    findings: Some(commit.findings.clone()),
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
            problems.push(format!(
                "Rebuilt audio was made at {} Hz and does not play at {} Hz: set the project's rate back, or \
                 play the song once more",
                other.sample_rate, self.sample_rate
            ));
        }
        View {
            takes,
            job,
            overruns: self.capture.overruns(),
            problems,
        }
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
            peaks: take.peaks(),
            repaired_peaks: commit.map_or_else(Arc::default, |c| c.repaired_peaks.clone()),
            damage: Arc::new(take.damage().clone()),
            state,
            findings: commit.map(|c| c.findings.clone()),
        }
    }
}

/// (min, max) per 10 ms of the mono mean of what plays with every blend up.
fn peaks(patch: &Patch) -> Vec<(f32, f32)> {
    let mut mix = patch.base.clone();
    for layer in Stem::ALL
        .iter()
        .filter_map(|&s| patch.layers[s as usize].as_ref())
    {
        for (mix, layer) in mix.iter_mut().zip(layer) {
            for (x, l) in mix.iter_mut().zip(layer) {
                *x += l;
            }
        }
    }
    frame_peaks(&mix, patch.sample_rate)
}

fn frame_peaks(samples: &[Vec<f32>; 2], sample_rate: u32) -> Vec<(f32, f32)> {
    let hop = (sample_rate as usize / FRAMES_PER_SECOND).max(1);
    samples[0]
        .chunks(hop)
        .zip(samples[1].chunks(hop))
        .map(|(left, right)| {
            left.iter()
                .zip(right)
                .fold((0.0f32, 0.0f32), |(low, high), (l, r)| {
                    let mono = 0.5 * (l + r);
                    (low.min(mono), high.max(mono))
                })
        })
        .collect()
}

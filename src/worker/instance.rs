// [worker] What the engine knows of one instance: takes, commits, options, problems.

mod around;
mod kept;
mod memory;
mod shown;

use std::{
    cell::Cell,
    io,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use self::around::Around;
use crate::{
    audio::AudioBuffer,
    damage::Stem,
    exchange::{
        SamplePos,
        capture::CaptureReader,
        patch::{Patch, PatchPublisher},
        samples::StereoSamples,
    },
    profile::edit::MusicEdit,
    worker::{
        ahead,
        edits::{self, Sources},
        jobs::{Notes, Unsaved},
        options::{CaptureMode, Options},
        picture::{Painter, Picture, Repaired},
        scratch::KeptStems,
        session::{CommitRef, Edits, Listening, Regenerate},
        takes::{Take, Takes},
        view::{
            AheadView, DamageCells, Findings, JobView, Made, ModelView, Problem, Rebuild,
            TakeState, View, damage_cell,
        },
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
    pub sample_rate: u32,
    /// The take as it was when the job was asked for, shared with it.
    pub take: StereoSamples,
    pub options: Options,
    /// The span that the user wants rebuilt, and what was rebuilt there before.
    pub focus: Option<Regenerate>,
    pub previous: Option<Arc<Patch>>,
    /// Who made the layers of `previous`.
    pub previous_made: [Option<Made>; Stem::COUNT],
    /// The edits of the music that the whole of what was rebuilt before follows.
    pub heard: Option<Vec<MusicEdit>>,
    revision: u64,
}

impl Job {
    /// Length of the take in samples.
    pub fn frames(&self) -> usize {
        self.take[0].len()
    }
}

/// A segment of a take that is still captured, to be worked on ahead.
#[derive(Clone)]
pub(super) struct AheadJob {
    pub start: SamplePos,
    pub sample_rate: u32,
    pub channels: usize,
    /// Frames captured so far.
    pub frames: usize,
    /// Segments that have been worked on.
    pub done: usize,
    pub options: Options,
}

/// How far the take that is captured now has been worked on.
#[derive(Default)]
struct Ahead {
    start: SamplePos,
    options: Options,
    /// Segments.
    done: usize,
    /// Nothing more is done ahead until capture begins anew.
    stopped: bool,
}

/// A patch that is in force, or a reference whose sidecar could not be read.
pub(super) struct Commit {
    reference: Option<CommitRef>,
    patch: Option<Arc<Patch>>,
    options: Options,
    seed: u64,
    findings: Arc<Findings>,
    /// The patch's take and its repair with every blend up, drawn.
    before: Picture,
    after: Arc<Picture>,
    cells: DamageCells,
    /// The separated stems, for listening to them alone.
    stems: Option<KeptStems>,
    problem: Option<String>,
    /// What is to be written as soon as it can be.
    unsaved: Option<Unsaved>,
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
    /// What is published, whole, as the user's edits have it.
    playing: Vec<Arc<Patch>>,
    /// Whether only what plays is held in memory for the audio thread, and where that is.
    spares: bool,
    around: Around,
    takes: Takes,
    pub options: Options,
    sample_rate: u32,
    /// Oldest first; later ones win.
    commits: Vec<Commit>,
    /// Earlier rebuilds over the base of one in force, oldest first.
    others: Vec<Commit>,
    edits: Arc<Edits>,
    listening: Listening,
    model: Option<Arc<ModelView>>,
    /// Where analyses run, in words.
    place: Arc<str>,
    requests: Vec<Requested>,
    ahead: Ahead,
    problems: Vec<Problem>,
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
                playing: Vec::new(),
                spares: false,
                around: Around::default(),
                takes: Takes::default(),
                options: Options::default(),
                sample_rate: 0,
                commits: Vec::new(),
                others: Vec::new(),
                edits: Arc::default(),
                listening: Listening::default(),
                model: None,
                place: Arc::default(),
                requests: Vec::new(),
                ahead: Ahead::default(),
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
    pub fn publish_view(&self, state: &mut State, job: Option<JobView>, works_ahead: bool) {
        let old = self.view.load();
        let mut last = self.view_time.lock();
        let ahead = state.ahead_view(works_ahead);
        let same = !state.view_changed && old.job == job && old.ahead == ahead;
        if same || last.elapsed() < VIEW_INTERVAL {
            return;
        }
        *last = Instant::now();
        state.view_changed = false;
        self.view.store(Arc::new(View {
            ahead,
            ..state.view(job)
        }));
    }
}

impl Commit {
    pub fn new(
        reference: Option<CommitRef>,
        patch: Arc<Patch>,
        notes: Notes,
        stems: Option<KeptStems>,
        unsaved: Option<Unsaved>,
    ) -> Self {
        Self {
            reference,
            before: Painter::paint(&patch.take, patch.sample_rate),
            after: Arc::new(Painter::paint(&Repaired(&patch), patch.sample_rate)),
            cells: notes
                .findings
                .damage
                .frames
                .iter()
                .map(damage_cell)
                .collect(),
            patch: Some(patch),
            seed: notes.focus.map_or(notes.options.seed, |focus| focus.seed),
            options: notes.options,
            findings: Arc::new(notes.findings),
            stems,
            problem: unsaved.as_ref().map(|u| u.problem.clone()),
            unsaved,
            compared: Cell::new(None),
        }
    }

    fn hash(&self) -> &str {
        self.reference.as_ref().map_or("", |r| &r.hash)
    }

    fn rebuild(&self) -> Rebuild {
        Rebuild {
            hash: self.hash().to_owned(),
            seed: self.seed,
            style: self.options.style.clone(),
            regenerators: Stem::ALL.map(|stem| {
                let made = self.findings.stems[stem as usize].made;
                made.map_or(self.options.regenerators.of(stem), |made| made.by)
            }),
            stems: std::array::from_fn(|i| {
                self.patch.as_ref().is_some_and(|p| p.layers[i].is_some())
            }),
            agreement: std::array::from_fn(|i| self.findings.stems[i].agreement),
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
    /// Adds what has been captured. Returns whether anything came.
    pub fn drain(&mut self) -> bool {
        let mut any = false;
        while let Some(chunk) = self.capture.pop() {
            any = true;
            if self.stopped && chunk.len > 0 {
                self.ahead.stopped = false;
            }
            self.stopped = chunk.len == 0;
            self.takes.add(&chunk);
        }
        if any {
            self.share_takes();
            self.last_chunk = Instant::now();
            self.view_changed = true;
        } else if !self.stopped && self.last_chunk.elapsed() > SILENCE_ENDS_TAKE {
            self.stopped = true;
            self.view_changed = true;
        }
        any
    }

    /// Whether nothing captured waits to be added.
    pub fn is_drained(&self) -> bool {
        self.capture.is_empty()
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

    pub fn report(&mut self, problem: impl Into<Problem>) {
        let problem = problem.into();
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
                    let wanted = self.options_for(take.start);
                    let same = |options: &Options| options.same_result(&wanted);
                    !commit.is_some_and(|c| same(&c.options))
                        && !request
                            .is_some_and(|r| same(&r.options) && r.state == TakeState::Queued)
                } else {
                    request.is_none() && commit.is_none() && seconds >= MIN_AUTOMATIC_SECONDS
                }
            })
            .map(|take| self.job(take))
            .collect()
    }

    fn job(&self, take: &Take) -> Job {
        Job {
            start: take.start,
            sample_rate: take.sample_rate,
            take: take.samples().clone(),
            options: self.options_for(take.start),
            focus: None,
            previous: None,
            previous_made: [None; Stem::COUNT],
            heard: None,
            revision: take.revision,
        }
    }

    /// The options of a job about the take that starts there.
    fn options_for(&self, start: SamplePos) -> Options {
        Options {
            music: self.edits.music_of(start).to_vec(),
            ..self.options.clone()
        }
    }

    /// Whether the music of a take was edited since its commit in force.
    fn is_unheard(&self, commit: &Commit, start: SamplePos) -> bool {
        commit.options.music != self.edits.music_of(start)
    }

    /// The job that rebuilds a span of one stem; `None` where nothing was captured there, which is
    /// reported.
    pub fn regeneration(&mut self, focus: Regenerate) -> Option<Job> {
        let take = (self.takes.all().iter()).find(|t| t.start < focus.end && focus.start < t.end());
        let Some(take) = take else {
            self.report(
                "This span has not been played since the project was opened: play it once, then \
                 rebuild it"
                    .to_owned(),
            );
            return None;
        };
        let commit = self.commits.iter().rfind(|c| c.covers(take));
        Some(Job {
            // What plays now, choices included, is what the new span is joined into.
            previous: commit.and_then(|c| self.chosen(c)),
            previous_made: Stem::ALL.map(|stem| self.made(commit?, stem)),
            heard: commit.map(|c| c.options.music.clone()),
            focus: Some(focus),
            ..self.job(take)
        })
    }

    /// The patch of a commit with the stems that were picked, everything that was rebuilt playing.
    fn chosen(&self, commit: &Commit) -> Option<Arc<Patch>> {
        let picks = Edits {
            picks: self.edits.picks.clone(),
            ..Edits::default()
        };
        // Without listening no stem is read.
        (self.with_edits(commit, &picks, &Listening::default())).unwrap_or_default()
    }

    /// Who made what plays of `stem`: of the commit that was picked, else of this one.
    fn made(&self, commit: &Commit, stem: Stem) -> Option<Made> {
        let start = commit.patch.as_ref()?.start;
        let picked = self.edits.picked(stem, start);
        let other = (self.others.iter()).find(|other| picked == Some(other.hash()));
        other.unwrap_or(commit).findings.stems[stem as usize].made
    }

    fn with_edits(
        &self,
        commit: &Commit,
        edits: &Edits,
        listening: &Listening,
    ) -> io::Result<Option<Arc<Patch>>> {
        let Some(patch) = &commit.patch else {
            return Ok(None);
        };
        let others: Vec<(&str, &Patch)> = (self.others.iter())
            .filter(|other| other.same_base(commit))
            .filter_map(|other| Some((other.hash(), other.patch.as_deref()?)))
            .collect();
        let sources = Sources {
            others: &others,
            stems: commit.stems.as_ref(),
        };
        let edited = edits::edited(patch, &sources, edits, listening)?;
        Ok(Some(edited.map_or_else(|| patch.clone(), Arc::new)))
    }

    /// What the user decided about the rebuilt audio.
    pub fn set_edits(&mut self, edits: Edits) {
        if *self.edits != edits {
            self.patches_changed |= !self.edits.plays_like(&edits);
            self.edits = Arc::new(edits);
            self.view_changed = true;
        }
    }

    /// The models that the chosen regenerators need.
    pub fn set_model(&mut self, model: Option<ModelView>) {
        if self.model.as_deref() != model.as_ref() {
            self.model = model.map(Arc::new);
            self.view_changed = true;
        }
    }

    /// Where analyses run, in words.
    pub fn set_place(&mut self, place: &Arc<str>) {
        if self.place != *place {
            self.place = place.clone();
            self.view_changed = true;
        }
    }

    /// What of it is listened to.
    pub fn set_listening(&mut self, listening: Listening) {
        if self.listening != listening {
            self.listening = listening;
            self.patches_changed = true;
            self.view_changed = true;
        }
    }

    /// The take that is captured now.
    fn growing(&self) -> Option<&Take> {
        let automatic = self.options.capture == CaptureMode::Automatic;
        let takes = self.takes.all().iter();
        takes
            .max_by_key(|t| t.revision)
            .filter(|_| automatic && !self.stopped)
    }

    /// Segments of the growing take that have been worked on.
    fn done_ahead(&self, take: &Take) -> usize {
        let ahead = &self.ahead;
        let same = ahead.start == take.start && ahead.options.same_result(&self.options);
        if same { ahead.done } else { 0 }
    }

    /// Whether a segment of the growing take can be worked on ahead.
    pub fn has_ahead(&self) -> bool {
        !self.ahead.stopped
            && self.growing().is_some_and(|take| {
                ahead::ready(take.frames(), take.sample_rate) > self.done_ahead(take)
            })
    }

    /// The next segment of the growing take that can be worked on ahead.
    pub fn next_ahead(&mut self) -> Option<AheadJob> {
        if !self.has_ahead() {
            return None;
        }
        let take = self.growing()?;
        let job = AheadJob {
            start: take.start,
            sample_rate: take.sample_rate,
            // As the analysis does: mono on a stereo track is worked on once.
            channels: if take.is_mono() { 1 } else { 2 },
            frames: take.frames(),
            done: self.done_ahead(take),
            options: self.options.clone(),
        };
        // The same song once more: its patch plays, nothing will be analysed.
        if self.commits.iter().any(|c| c.covers(take)) {
            self.ahead_done(&job);
            return None;
        }
        Some(job)
    }

    /// Frames of the take that a job works on, as they are now.
    pub fn captured(&self, job: &AheadJob, range: Range<usize>) -> Option<AudioBuffer> {
        let at = |frame: usize| job.start.offset(frame as i64);
        let take = self.takes.all().iter().find(|t| {
            t.sample_rate == job.sample_rate
                && t.start <= at(range.start)
                && at(range.end) <= t.end()
        })?;
        Some(take.part(at(range.start), range.len(), job.channels))
    }

    pub fn ahead_done(&mut self, job: &AheadJob) {
        self.ahead.start = job.start;
        self.ahead.options = job.options.clone();
        self.ahead.done = job.done + 1;
    }

    /// Nothing more is done ahead until capture begins anew.
    pub fn stop_ahead(&mut self) {
        self.ahead.stopped = true;
    }

    fn ahead_view(&self, running: bool) -> Option<AheadView> {
        let done = self.growing().map_or(0, |take| self.done_ahead(take));
        (running || done > 0).then(|| AheadView {
            running,
            seconds: ahead::seconds(done),
        })
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

    /// Where commits overlap, the newer one stays in force; over the same base the older one stays
    /// at hand.
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
            } else if kept.iter().any(|k| k.may_share_base(&commit)) {
                self.others.push(Commit {
                    stems: None,
                    ..commit
                });
            }
        }
        kept.reverse();
        self.commits = kept;
        self.forget_others();
    }

    pub fn clear(&mut self) {
        self.drain();
        self.takes.clear();
        self.requests.clear();
        self.ahead = Ahead::default();
        self.commits.clear();
        self.others.clear();
        self.edits = Arc::default();
        self.listening = Listening::default();
        self.problems.clear();
        self.patches_changed = true;
        self.view_changed = true;
        self.publish_patches();
    }

    /// Hands the patches to the audio thread if they changed or others of their parts are needed in memory, and frees
    /// what it gave back.
    pub fn publish_patches(&mut self) {
        let looked = self.publisher.looked();
        let moved = looked.is_some_and(|pos| self.around.follow(pos, self.sample_rate));
        if std::mem::take(&mut self.patches_changed) {
            self.playing = self.edited();
            self.publish(true);
        } else if moved && self.spares {
            self.publish(false);
        }
        self.publisher.collect();
    }

    /// The patches in force as the user's edits have them.
    fn edited(&mut self) -> Vec<Arc<Patch>> {
        let (mut patches, mut unread) = (Vec::new(), Vec::new());
        for (i, commit) in self.commits.iter().enumerate() {
            let edited = self.with_edits(commit, &self.edits, &self.listening);
            let edited = edited.or_else(|error| {
                unread.push((i, error));
                self.with_edits(commit, &self.edits, &Listening::default())
            });
            patches.extend(edited.unwrap_or_default());
        }
        for (i, error) in unread {
            self.commits[i].stems = None;
            self.report(format!(
                "The separated stems can't be read any more ({error}): analyse the song again to listen to them"
            ));
        }
        patches
    }
}

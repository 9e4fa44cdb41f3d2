// [worker] The host's side: finds or starts the worker process, gives it jobs, and knows what to do when it ends.

use std::{
    fs,
    io::{self, Read, Write},
    ops::Range,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{
    Settings,
    folder::{self, Shape},
    message::{
        self, Failure, GREETING_BYTES, Inbox, Order, Reply, Request, Results, Wanted, Work,
        check_greeting,
    },
    server::{BASE, FINDINGS, Found, PART, TAKE, layer_file, part_file},
    system::{self, Stream, Violence},
};
use crate::{
    audio::AudioBuffer,
    cache::Cache,
    damage::Stem,
    exchange::samples::StereoSamples,
    separation::Stems,
    system::is_running,
    worker::{
        ahead,
        options::Options,
        pieces::Layout,
        pipeline::{self, Outcome, PipelineError},
        progress::{Progress, Step},
        road::{InProcess, Rebuilt, Recording, Road},
        scratch::{self, KeptStems, Scratch, stem_file},
        view::Findings,
    },
};

/// Time between two looks for a socket, and at what has arrived.
const LOOK: Duration = Duration::from_millis(10);
/// A worker that was asked to stop is left after this.
const CANCEL_PATIENCE: Duration = Duration::from_secs(2);
/// Where the reason of an end is looked for, this long.
const AFTERMATH: Duration = Duration::from_millis(500);
/// More than any take's findings.
const MAX_FINDINGS_BYTES: u64 = 1 << 30;
/// How a process ends that gets no memory, in the runtime's words.
const OUT_OF_MEMORY: &str = "memory allocation of";
/// More parts than any separator tells apart.
const MAX_PARTS: usize = 16;

/// Jobs run in the worker process; where that can't be, in this one.
pub struct Remote {
    settings: Settings,
    binary: PathBuf,
    status: Mutex<Arc<str>>,
    incidents: Mutex<Vec<String>>,
}

/// Processes that were started here and may have ended: asked for how.
static CHILDREN: Mutex<Vec<Child>> = Mutex::new(Vec::new());

/// Why an attempt gave no result.
enum Trouble {
    /// The job's own answer.
    Job(PipelineError),
    /// The worker can't be used, now or a second later.
    Unusable(String),
    /// The worker ended or hung: another one may do it. `crashed`: not by somebody's will.
    Ended { how: String, crashed: bool },
}

impl Remote {
    /// With the program at `binary`.
    pub fn new(settings: Settings, binary: PathBuf) -> Self {
        Self {
            status: Mutex::new("Analyses run in a process of their own.".into()),
            settings,
            binary,
            incidents: Mutex::default(),
        }
    }

    /// Tries twice; says what happened otherwise than it should.
    fn tried<T>(
        &self,
        progress: &Progress,
        mut attempt: impl FnMut() -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        let first = self.explained(attempt());
        let Err(Trouble::Ended { how, .. }) = &first else {
            return first;
        };
        self.say(format!(
            "The process that analyses {how}. Live repair goes on; the analysis was started again."
        ));
        if progress.is_cancelled() {
            return Err(Trouble::Job(PipelineError::Cancelled));
        }
        self.explained(attempt())
    }

    /// An end for want of memory, by its last words.
    fn explained<T>(&self, result: Result<T, Trouble>) -> Result<T, Trouble> {
        match result {
            Err(Trouble::Ended { crashed: true, .. })
                if self.last_words().starts_with(OUT_OF_MEMORY) =>
            {
                Err(Trouble::Ended {
                    how: "ran out of memory".to_owned(),
                    crashed: true,
                })
            }
            other => other,
        }
    }

    fn say(&self, line: String) {
        self.incidents.lock().push(line);
    }

    /// The job goes on in this process, for `reason`.
    fn fall_back(&self, reason: &str) -> String {
        let line = format!("This analysis ran inside the host, because {reason}.");
        *self.status.lock() =
            format!("The last analysis ran inside the host, because {reason}.").into();
        line
    }

    /// What the job needs against what it may have.
    fn check_memory(&self, shape: Shape) -> Result<(), PipelineError> {
        let layout = Layout::new(shape.frames, shape.sample_rate);
        let needed = super::needed_memory(shape.channels, layout.longest());
        match self.settings.memory_bytes {
            Some(limit) if needed > limit => Err(PipelineError::Memory {
                needed_mb: needed >> 20,
                limit_mb: limit >> 20,
            }),
            _ => Ok(()),
        }
    }

    /// Sends a job and waits for its results: `put` leaves the take in the folder, `get` takes the results from it.
    fn attempt<T>(
        &self,
        job: &Whole<'_>,
        progress: &Progress,
        put: impl Fn(&Path) -> io::Result<()>,
        get: impl FnOnce(Scratch, &Results) -> io::Result<T>,
    ) -> Result<T, Trouble> {
        let folder = self.job_folder(job.cache)?;
        put(folder.path()).map_err(|e| unusable_folder(&e))?;
        let work = Work::Whole(job.wanted);
        let order = order(&folder, job.shape, job.options, job.cache, work);
        let mut line = self.connect(progress)?;
        line.send(&Request::Begin(Box::new(order)))?;
        match line.attend(&self.settings, progress, |_| false)? {
            Reply::Done(results) => {
                // Nobody hears it any more.
                let _ = fs::remove_file(folder.path().join(TAKE));
                get(folder, &results)
                    .map_err(|e| Trouble::Unusable(format!("its results can't be read: {e}")))
            }
            other => Err(refused(other)),
        }
    }

    /// The result, or why the job has to be done in this process.
    fn settled<T>(&self, done: Result<T, Trouble>) -> Result<Result<T, String>, PipelineError> {
        match done {
            Ok(done) => {
                *self.status.lock() = "Analyses run in a process of their own.".into();
                Ok(Ok(done))
            }
            Err(Trouble::Job(error)) => Err(error),
            // What ends one process at this take would end the host.
            Err(Trouble::Ended { how, crashed: true }) => Err(PipelineError::Worker(format!(
                "the process that analyses {how} twice at this take ({}). It was not tried inside the \
                 host, which could have ended like it",
                self.last_words()
            ))),
            Err(Trouble::Ended { how, .. }) => {
                Ok(Err(format!("the process that analyses {how} twice")))
            }
            Err(Trouble::Unusable(reason)) => Ok(Err(format!(
                "the process that analyses can't be used: {reason}"
            ))),
        }
    }

    /// The job is done in this process, for `reason`: a line for the findings.
    fn here(&self, reason: &str) -> String {
        let line = self.fall_back(reason);
        self.say(line.clone());
        line
    }

    fn attempt_ahead(
        &self,
        take: &ahead::Take<'_>,
        options: &Options,
        cache: &Cache,
        progress: &Progress,
    ) -> Result<(), Trouble> {
        let folder = self.job_folder(Some(cache))?;
        let shape = Shape {
            sample_rate: take.sample_rate,
            channels: take.channels,
            frames: take.frames,
        };
        let work = Work::Ahead {
            done: take.done as u64,
        };
        let order = order(&folder, shape, options, Some(cache), work);
        let mut line = self.connect(progress)?;
        line.send(&Request::Begin(Box::new(order)))?;
        let fetch = |range: Range<usize>| {
            range.start <= range.end
                && range.end <= take.frames
                && (take.fetch)(range)
                    .is_some_and(|part| scratch::write(folder.path(), PART, &part).is_ok())
        };
        match line.attend(&self.settings, progress, fetch)? {
            Reply::DoneAhead => Ok(()),
            other => Err(refused(other)),
        }
    }

    /// On the disk that holds the cache: a take and its stems are too large for folders in memory.
    fn job_folder(&self, cache: Option<&Cache>) -> Result<Scratch, Trouble> {
        let own = self.settings.place.folder();
        system::private_folder(own).map_err(Trouble::Unusable)?;
        let parent = cache.map_or(own, Cache::dir);
        Scratch::new(&parent.join("jobs")).map_err(|e| unusable_folder(&e))
    }

    /// A line to the worker, which is started where none answers.
    fn connect(&self, progress: &Progress) -> Result<Line, Trouble> {
        system::private_folder(self.settings.place.folder()).map_err(Trouble::Unusable)?;
        let deadline = Instant::now() + self.settings.start_patience;
        let mut started: Option<u32> = None;
        loop {
            match Stream::connect(self.settings.place.socket()) {
                Ok(stream) => {
                    if let Some(line) = Line::greeted(stream, &self.settings)? {
                        return Ok(line);
                    }
                }
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                    ) => {}
                Err(e) => return Err(Trouble::Unusable(format!("its socket can't be used: {e}"))),
            }
            if progress.is_cancelled() {
                return Err(Trouble::Job(PipelineError::Cancelled));
            }
            if Instant::now() >= deadline {
                return Err(Trouble::Unusable(format!(
                    "it did not answer within {} s of its start",
                    self.settings.start_patience.as_secs()
                )));
            }
            // One that ended well has found another one serving, or has just become idle.
            match started.map(ended) {
                None => started = Some(self.start()?),
                Some(Some(status)) if status.success() => {
                    thread::sleep(10 * LOOK);
                    started = Some(self.start()?);
                }
                Some(Some(status)) => {
                    return Err(match system::violent_end(status) {
                        Some(violence) => violence.into(),
                        None => Trouble::Unusable(format!(
                            "it can't be started ({status}): {}",
                            self.last_words()
                        )),
                    });
                }
                Some(None) => {}
            }
            thread::sleep(LOOK);
        }
    }

    fn start(&self) -> Result<u32, Trouble> {
        let place = &self.settings.place;
        let unusable = |e: io::Error| {
            Trouble::Unusable(format!("{} can't be started: {e}", self.binary.display()))
        };
        // For reading after a bad day, not for keeping. What can only be appended to can't be emptied everywhere.
        let log = fs::File::create(place.log())
            .and_then(|_| fs::File::options().append(true).open(place.log()))
            .map_err(unusable)?;
        let mut command = Command::new(&self.binary);
        command
            .arg("worker")
            .arg("--folder")
            .arg(place.folder())
            .arg("--name")
            .arg(place.name())
            .arg("--idle-ms")
            .arg(self.settings.idle.as_millis().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        // The other hosts keep their worker.
        system::apart(&mut command);
        if let Some(bytes) = self.settings.memory_bytes {
            command.arg("--memory-mb").arg((bytes >> 20).to_string());
        }
        let child = command.spawn().map_err(unusable)?;
        let pid = child.id();
        let mut children = CHILDREN.lock();
        // Nobody asks any more how earlier ones ended.
        children.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        children.push(child);
        Ok(pid)
    }

    /// What the worker said before it ended.
    fn last_words(&self) -> String {
        let log = fs::read(self.settings.place.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&log);
        let mut lines = text.lines();
        let words = lines.clone().rfind(|line| line.starts_with(OUT_OF_MEMORY));
        words
            .or(lines.next_back())
            .unwrap_or("it said nothing")
            .to_owned()
    }
}

impl Road for Remote {
    fn run(
        &self,
        take: &AudioBuffer,
        options: &Options,
        cache: Option<&Cache>,
        progress: &Progress,
    ) -> Result<Outcome, PipelineError> {
        let shape = Shape {
            sample_rate: take.sample_rate,
            channels: take.channels.len(),
            frames: take.frames(),
        };
        self.check_memory(shape)?;
        let job = Whole {
            shape,
            options,
            cache,
            wanted: Wanted {
                stems: true,
                parts: true,
            },
        };
        let put = |folder: &Path| scratch::write(folder, TAKE, take);
        let get = |folder: Scratch, results: &Results| read(folder.path(), results, shape);
        let done = self.tried(progress, || self.attempt(&job, progress, put, get));
        match self.settled(done)? {
            Ok(outcome) => Ok(outcome),
            Err(reason) => {
                let line = self.here(&reason);
                let mut outcome = pipeline::run(take, options, cache, progress)?;
                outcome.findings.lines.push(line.clone());
                outcome.rebuilders.push(line);
                Ok(outcome)
            }
        }
    }

    fn rebuild(
        &self,
        take: &Recording<'_>,
        options: &Options,
        cache: Option<&Cache>,
        stems: Option<&Path>,
        progress: &Progress,
    ) -> Result<Rebuilt, PipelineError> {
        let channels = take.channels();
        let shape = Shape {
            sample_rate: take.sample_rate,
            channels: channels.len(),
            frames: take.frames(),
        };
        self.check_memory(shape)?;
        let job = Whole {
            shape,
            options,
            cache,
            wanted: Wanted {
                stems: stems.is_some(),
                parts: false,
            },
        };
        let put = |folder: &Path| scratch::write_samples(folder, TAKE, channels);
        let get = |folder: Scratch, results: &Results| {
            progress.set(Step::Committing, 0.99);
            taken(folder, results, take, &job)
        };
        let done = self.tried(progress, || self.attempt(&job, progress, put, get));
        match self.settled(done)? {
            Ok(rebuilt) => Ok(rebuilt),
            Err(reason) => {
                let line = self.here(&reason);
                let road = InProcess::new(pipeline::song);
                let mut rebuilt = road.rebuild(take, options, cache, stems, progress)?;
                rebuilt.findings.lines.push(line.clone());
                rebuilt.rebuilders.push(line);
                Ok(rebuilt)
            }
        }
    }

    fn ahead(
        &self,
        take: &ahead::Take<'_>,
        options: &Options,
        cache: &Cache,
        progress: &Progress,
    ) -> Result<(), PipelineError> {
        let attempt = || self.attempt_ahead(take, options, cache, progress);
        match self.tried(progress, attempt) {
            Ok(()) => Ok(()),
            Err(Trouble::Job(error)) => Err(error),
            // Nobody has asked for it; the analysis will meet the same and say so.
            Err(Trouble::Ended { how, .. }) => Err(PipelineError::Worker(how)),
            Err(Trouble::Unusable(reason)) => {
                self.fall_back(&format!(
                    "the process that analyses can't be used: {reason}"
                ));
                ahead::work(take, options, cache, progress)
            }
        }
    }

    fn status(&self) -> Arc<str> {
        self.status.lock().clone()
    }

    fn incidents(&self) -> Vec<String> {
        std::mem::take(&mut self.incidents.lock())
    }
}

/// A job of the whole road.
struct Whole<'a> {
    shape: Shape,
    options: &'a Options,
    cache: Option<&'a Cache>,
    wanted: Wanted,
}

fn order(
    folder: &Scratch,
    shape: Shape,
    options: &Options,
    cache: Option<&Cache>,
    work: Work,
) -> Order {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    Order {
        folder: absolute(folder.path()),
        cache: cache.map(|cache| absolute(cache.dir())),
        sample_rate: shape.sample_rate,
        channels: shape.channels.min(255) as u8,
        frames: shape.frames as u64,
        options: options.clone(),
        work,
    }
}

fn unusable_folder(error: &io::Error) -> Trouble {
    Trouble::Unusable(format!("audio can't be handed over to it: {error}"))
}

/// What an answer without results means.
fn refused(reply: Reply) -> Trouble {
    match reply {
        Reply::Failed(Failure::Cancelled) => Trouble::Job(PipelineError::Cancelled),
        Reply::Failed(Failure::Channels(actual)) => Trouble::Job(PipelineError::Channels {
            actual: actual.into(),
        }),
        Reply::Failed(Failure::Regeneration(reason)) => {
            Trouble::Job(PipelineError::Regeneration(reason))
        }
        Reply::Failed(Failure::Defect) => Trouble::Job(PipelineError::Worker(
            "it met a defect; live repair goes on. Please report it with the output of \
             `uncook analyze --json`"
                .to_owned(),
        )),
        Reply::Failed(Failure::Refused(reason)) => Trouble::Unusable(reason),
        _ => Trouble::Unusable("it answered something else than was asked".to_owned()),
    }
}

/// How a process that was started here ended; `None` while it runs, or where another host started it.
fn ended(pid: u32) -> Option<std::process::ExitStatus> {
    let mut children = CHILDREN.lock();
    let place = children.iter().position(|child| child.id() == pid)?;
    children[place].try_wait().ok()??;
    // It has ended: this does not wait.
    children.remove(place).wait().ok()
}

/// A connection that was greeted.
struct Line {
    stream: Stream,
    inbox: Inbox,
    pid: Option<u32>,
}

impl Line {
    /// `None`: nobody is there any more.
    fn greeted(mut stream: Stream, settings: &Settings) -> Result<Option<Self>, Trouble> {
        let unusable = |e: io::Error| Trouble::Unusable(e.to_string());
        let pid = system::peer(&stream).map_err(Trouble::Unusable)?;
        stream
            .set_read_timeout(Some(settings.silence))
            .map_err(unusable)?;
        stream
            .set_write_timeout(Some(settings.silence))
            .map_err(unusable)?;
        let mut theirs = [0; GREETING_BYTES];
        let greeted = stream
            .write_all(&message::greeting())
            .and_then(|()| stream.read_exact(&mut theirs));
        let line = Self {
            stream,
            inbox: Inbox::default(),
            pid,
        };
        match greeted {
            Ok(()) => {}
            Err(e) if timed_out(&e) => return Err(line.hangs()),
            // It ended between two jobs.
            Err(_) => return Ok(None),
        }
        check_greeting(&theirs).map_err(|e| {
            Trouble::Unusable(format!("{e}; close the other hosts, then analyse again"))
        })?;
        Ok(Some(line))
    }

    fn send(&mut self, request: &Request) -> Result<(), Trouble> {
        let bytes = message::encode(request).map_err(|e| Trouble::Unusable(e.to_string()))?;
        match self.stream.write_all(&bytes) {
            Ok(()) => Ok(()),
            Err(e) if timed_out(&e) => Err(self.hangs()),
            Err(_) => Err(self.ended()),
        }
    }

    /// What has arrived within a moment.
    fn receive(&mut self) -> Result<Option<Reply>, Trouble> {
        let nonsense = |e: message::MessageError| Trouble::Unusable(e.to_string());
        if let Some(reply) = self.inbox.take().map_err(nonsense)? {
            return Ok(Some(reply));
        }
        if system::wait_readable(&mut self.stream, LOOK) {
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(n) if n > 0 => self.inbox.push(&buffer[..n]),
                Err(e) if timed_out(&e) => {}
                Ok(_) | Err(_) => return Err(self.ended()),
            }
        }
        self.inbox.take().map_err(nonsense)
    }

    /// Passes progress and questions on until there is an answer.
    fn attend(
        &mut self,
        settings: &Settings,
        progress: &Progress,
        fetch: impl Fn(Range<usize>) -> bool,
    ) -> Result<Reply, Trouble> {
        let (mut heard, mut worked) = (Instant::now(), Instant::now());
        let mut last_beats = None;
        let mut cancelled: Option<Instant> = None;
        loop {
            if progress.is_cancelled() && cancelled.is_none() {
                cancelled = Some(Instant::now());
                self.send(&Request::Cancel)?;
            }
            if cancelled.is_some_and(|at| at.elapsed() > CANCEL_PATIENCE) {
                // The line goes, which is another way to say it.
                return Err(Trouble::Job(PipelineError::Cancelled));
            }
            let reply = self.receive()?;
            if reply.is_some() {
                heard = Instant::now();
            }
            match reply {
                None => {}
                Some(Reply::Queued(_)) => {
                    progress.set(Step::Queued, 0.0);
                    worked = heard;
                }
                Some(Reply::Progress { step, done, beats }) => {
                    if let Some(step) = Step::ALL.get(usize::from(step)) {
                        progress.set(*step, if done.is_finite() { done } else { 0.0 });
                    }
                    if last_beats.replace(beats) != Some(beats) {
                        worked = heard;
                    }
                }
                Some(Reply::Fetch { start, end }) => {
                    let there = fetch(start as usize..end as usize);
                    self.send(&Request::Fetched(there))?;
                    worked = heard;
                }
                Some(reply) => return Ok(reply),
            }
            if heard.elapsed() > settings.silence || worked.elapsed() > settings.hung {
                return Err(self.hangs());
            }
        }
    }

    /// It is ended, so that another one can begin.
    fn hangs(&self) -> Trouble {
        if let Some(pid) = self.pid.filter(|&pid| pid != std::process::id()) {
            system::kill(pid);
            let deadline = Instant::now() + AFTERMATH;
            while ended(pid).is_none() && Instant::now() < deadline && is_running(pid) {
                thread::sleep(LOOK);
            }
        }
        Trouble::Ended {
            how: "hung and was ended".to_owned(),
            crashed: false,
        }
    }

    /// It has gone in the middle of a job.
    fn ended(&self) -> Trouble {
        let deadline = Instant::now() + AFTERMATH;
        let status = loop {
            let status = self.pid.and_then(ended);
            let known = self.pid.is_some_and(is_child);
            if status.is_some() || !known || Instant::now() >= deadline {
                break status;
            }
            thread::sleep(LOOK);
        };
        let violence = status.and_then(system::violent_end);
        violence.unwrap_or_else(Violence::killed).into()
    }
}

impl From<Violence> for Trouble {
    fn from(Violence { how, crashed }: Violence) -> Self {
        Self::Ended { how, crashed }
    }
}

fn is_child(pid: u32) -> bool {
    let children = CHILDREN.lock();
    children.iter().any(|child| child.id() == pid)
}

fn timed_out(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

/// What the worker found out.
fn read_findings(folder: &Path, results: &Results) -> io::Result<(Findings, Found)> {
    if results.parts.len() > MAX_PARTS || results.findings > MAX_FINDINGS_BYTES {
        return Err(invalid("more than any analysis gives"));
    }
    let bytes = fs::read(folder.join(FINDINGS))?;
    if bytes.len() as u64 != results.findings {
        return Err(invalid("the findings were cut off"));
    }
    let mut found: Found = message::decode(&bytes).map_err(io::Error::other)?;
    let findings = found.findings();
    let findings = findings.ok_or_else(|| invalid("a map of damage is missing"))?;
    Ok((findings, found))
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// Reads all that the worker wrote; the sizes are the take's.
fn read(folder: &Path, results: &Results, shape: Shape) -> io::Result<Outcome> {
    let (findings, found) = read_findings(folder, results)?;
    let base = folder::read(folder, BASE, shape)?;
    let mut stems = Vec::new();
    let mut layers = [const { None }; Stem::COUNT];
    for stem in Stem::ALL {
        stems.push(folder::read(folder, &stem_file(stem), shape)?);
        if results.layers[stem as usize] {
            layers[stem as usize] = Some(folder::read(folder, &layer_file(stem), shape)?);
        }
    }
    let parts = (results.parts.iter().enumerate())
        .map(|(i, name)| Ok((name.clone(), folder::read(folder, &part_file(i), shape)?)))
        .collect::<io::Result<_>>()?;
    Ok(Outcome {
        base,
        stems: Stems::try_from(stems).map_err(|_| invalid("not as many stems as there are"))?,
        parts,
        layers,
        findings,
        separators: found.separators,
        rebuilders: found.rebuilders,
    })
}

/// Takes over what the worker wrote, block by block; the stems stay where they are.
fn taken(
    folder: Scratch,
    results: &Results,
    take: &Recording<'_>,
    job: &Whole<'_>,
) -> io::Result<Rebuilt> {
    let (findings, found) = read_findings(folder.path(), results)?;
    let Shape {
        channels, frames, ..
    } = job.shape;
    let stereo = |name: &str, like: &[&StereoSamples]| {
        let path = folder.path().join(name);
        let read = scratch::read_stereo(&path, channels, frames, take.start, like)?;
        // Room for what comes next.
        let _ = fs::remove_file(path);
        io::Result::Ok(read)
    };
    let base = stereo(BASE, &[take.samples])?;
    let mut layers = [const { None }; Stem::COUNT];
    for stem in Stem::ALL {
        if results.layers[stem as usize] {
            layers[stem as usize] = Some(stereo(&layer_file(stem), &[])?);
        }
    }
    let stems = (job.wanted.stems).then(|| KeptStems::lying_in(folder, channels, frames));
    Ok(Rebuilt {
        base,
        layers,
        stems: stems.transpose()?.map(Ok),
        findings,
        rebuilders: found.rebuilders,
    })
}

// [worker] The worker process: serves one job after the other to the hosts of one user.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs::{self, File, TryLockError},
    io::{self, Read, Write},
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{
    Place,
    folder::{self, Shape},
    message::{
        self, Failure, GREETING_BYTES, Inbox, Order, Reply, Request, Results, Wanted, Work,
        check_greeting,
    },
    system::{self, Stream},
};
use crate::{
    audio::AudioBuffer,
    cache::{Cache, DEFAULT_LIMIT_BYTES},
    damage::{DamageMap, Severity, Stem},
    worker::{
        ahead,
        pieces::{Buffer, Sink, Source, Told},
        pipeline::PipelineError,
        progress::Progress,
        road::Road,
        scratch::{PlanarFile, stem_file},
        view::Findings,
    },
};

/// How often a host is told where its job is: also the heartbeat.
const REPORT: Duration = Duration::from_millis(200);
/// How often a connection is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// A host that says nothing for this long where it should is left.
const PATIENCE: Duration = Duration::from_secs(10);
/// Work asks whether it was cancelled at least once a second: where it has not for this long, it hangs. Long,
/// because jobs run behind everything else that the machine does.
pub(super) const PATIENCE_WITH_WORK: Duration = Duration::from_secs(300);
/// As many samples as a cache entry may have.
const MAX_SAMPLES: u64 = 1 << 31;

/// What the findings' file holds.
#[derive(Serialize, Deserialize)]
pub(super) struct Found {
    findings: Findings,
    /// Of the mix, then of the stems: maps of damage are rounded where findings are stored.
    damage: Vec<Vec<Severity>>,
    pub separators: Vec<String>,
    pub rebuilders: Vec<String>,
}

impl Found {
    fn new(told: Told) -> Self {
        let mut findings = told.findings;
        let damage = maps(&mut findings)
            .map(|map| std::mem::take(&mut map.frames))
            .collect();
        Self {
            findings,
            damage,
            separators: told.separators,
            rebuilders: told.rebuilders,
        }
    }

    /// The findings that it was made of; `None` where a map is missing.
    pub fn findings(&mut self) -> Option<Findings> {
        let mut damage = std::mem::take(&mut self.damage).into_iter();
        for map in maps(&mut self.findings) {
            map.frames = damage.next()?;
        }
        Some(std::mem::take(&mut self.findings))
    }
}

fn maps(findings: &mut Findings) -> impl Iterator<Item = &mut DamageMap> {
    let stems = findings.stems.iter_mut().map(|stem| &mut stem.damage);
    std::iter::once(&mut findings.damage).chain(stems)
}

/// Serves until nobody has asked for anything for `idle`. Returns at once where another process serves.
///
/// # Errors
/// In plain words, if the folder is not this user's alone or the socket can't be made.
pub fn serve(place: &Place, idle: Duration, road: &Arc<dyn Road>) -> Result<(), String> {
    system::private_folder(place.folder())?;
    let said = |e: io::Error| format!("{}: {e}", place.lock().display());
    let mut options = File::options();
    let lock = (options.create(true).write(true).truncate(false))
        .open(place.lock())
        .map_err(said)?;
    // Held as long as this process lives, however it ends.
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(()),
        Err(TryLockError::Error(e)) => return Err(said(e)),
    }
    // For who wants to see it, or to end it.
    let number = format!("{}\n", std::process::id());
    fs::write(place.number(), number).map_err(|e| format!("{}: {e}", place.number().display()))?;
    let socket = place.socket();
    // A socket that is there was left by a process that was killed: the lock says that nobody listens.
    let listener = system::listen(&socket).map_err(|e| format!("{}: {e}", socket.display()))?;
    let turns = Arc::new(Turns::default());
    let program = program();
    let mut last_used = Instant::now();
    let mut connections: Vec<thread::JoinHandle<()>> = Vec::new();
    // A newer program in this one's place serves better.
    while last_used.elapsed() < idle && (program.is_none() || program == self::program()) {
        if let Some(stream) = system::accept(&listener, idle.min(Duration::from_millis(250))) {
            let (turns, road) = (turns.clone(), road.clone());
            let serving = thread::Builder::new()
                .name("uncook-serve".to_owned())
                .spawn(move || {
                    // What went wrong is this connection's matter: the host has noticed, too.
                    if let Err(reason) = converse(stream, &turns, &road) {
                        eprintln!("a connection was ended: {reason}");
                    }
                });
            connections.extend(serving);
        }
        connections.retain(|connection| !connection.is_finished());
        if !connections.is_empty() {
            last_used = Instant::now();
        }
    }
    // Before the lock goes: then nobody else's socket can be met here. Who has come and was not let in is told.
    let _ = fs::remove_file(&socket);
    drop(listener);
    // What still runs is finished; who comes now starts another process.
    drop(lock);
    for connection in connections {
        let _ = connection.join();
    }
    Ok(())
}

/// What tells this process's program from another one in its place.
fn program() -> Option<impl PartialEq> {
    static PATH: OnceLock<Option<PathBuf>> = OnceLock::new();
    let path = PATH.get_or_init(|| std::env::current_exe().ok()).as_ref()?;
    system::version_of(path)
}

/// Who is served when: one at a time, what was asked for before what is done ahead, first come first served.
#[derive(Default)]
struct Turns(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    next: u64,
    running: Option<(u64, bool, Progress)>,
    waiting: Vec<(u64, bool)>,
}

impl Turns {
    /// Enters the queue.
    fn enter(&self, ahead: bool) -> u64 {
        let mut queue = self.0.lock();
        // Nobody waits for what was not asked for.
        if let Some((_, true, progress)) = &queue.running
            && !ahead
        {
            progress.cancel();
        }
        queue.next += 1;
        let id = queue.next;
        queue.waiting.push((id, ahead));
        queue.waiting.sort_by_key(|&(id, ahead)| (ahead, id));
        id
    }

    /// Whether it is this one's turn; it stays so until it leaves.
    fn begin(&self, id: u64, progress: &Progress) -> bool {
        let mut queue = self.0.lock();
        if queue.running.is_some() || queue.waiting.first().is_none_or(|first| first.0 != id) {
            return false;
        }
        let (id, ahead) = queue.waiting.remove(0);
        queue.running = Some((id, ahead, progress.clone()));
        true
    }

    /// How many are served before this one; `None` once it is served.
    fn before(&self, id: u64) -> Option<u32> {
        let queue = self.0.lock();
        let place = queue.waiting.iter().position(|w| w.0 == id)?;
        Some((place + usize::from(queue.running.is_some())) as u32)
    }

    fn leave(&self, id: u64) {
        let mut queue = self.0.lock();
        queue.waiting.retain(|w| w.0 != id);
        queue.running.take_if(|running| running.0 == id);
    }
}

/// A connection, from greeting to result.
fn converse(mut stream: Stream, turns: &Arc<Turns>, road: &Arc<dyn Road>) -> Result<(), String> {
    let words = |e: io::Error| e.to_string();
    system::peer(&stream)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(words)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(words)?;
    stream.write_all(&message::greeting()).map_err(words)?;
    let mut greeting = [0; GREETING_BYTES];
    stream.read_exact(&mut greeting).map_err(words)?;
    check_greeting(&greeting).map_err(|e| e.to_string())?;
    let mut line = Line {
        stream,
        inbox: Inbox::default(),
    };
    let order = match line.receive(PATIENCE)? {
        Some(Request::Begin(order)) => *order,
        Some(_) => return Err("an order was expected".to_owned()),
        None => return Ok(()),
    };
    let progress = Progress::new();
    let id = turns.enter(!matches!(order.work, Work::Whole(_)));
    let (asks, asked) = mpsc::channel();
    let (answers, answered) = mpsc::channel();
    let (results, result) = mpsc::channel();
    let job = Job {
        order,
        progress: progress.clone(),
        asks,
        answered: Mutex::new(answered),
    };
    let (own_turns, own_road) = (turns.clone(), road.clone());
    let worker = thread::Builder::new()
        .name("uncook-job".to_owned())
        .spawn(move || {
            // Jobs take what hosts and their audio leave. Where the system refuses, they run all the same.
            let _ =
                thread_priority::set_current_thread_priority(thread_priority::ThreadPriority::Min);
            let reply = job.run(&own_turns, id, &own_road);
            own_turns.leave(id);
            let _ = results.send(reply);
        })
        .inspect_err(|_| turns.leave(id))
        .map_err(words)?;
    let watched = Watched {
        progress: progress.clone(),
        asked,
        answers,
        result,
    };
    let end = attend(&mut line, &watched, || turns.before(id));
    drop(watched);
    // Nobody listens any more, or the job is over.
    progress.cancel();
    let mut beats = (progress.beats(), Instant::now());
    while !worker.is_finished() {
        thread::sleep(LOOK);
        if progress.beats() != beats.0 {
            beats = (progress.beats(), Instant::now());
        }
        if beats.1.elapsed() > PATIENCE_WITH_WORK {
            // It would keep all others waiting. They notice, and start another process.
            eprintln!("a job hangs and can't be stopped: the process ends");
            std::process::exit(1);
        }
    }
    end
}

/// A job, as the connection's thread sees it.
struct Watched {
    progress: Progress,
    asked: Receiver<Range<usize>>,
    answers: Sender<bool>,
    result: Receiver<Reply>,
}

/// Tells the host how its job goes, and the job what the host says, until either has ended. `before`: how
/// many are served first.
fn attend(line: &mut Line, job: &Watched, before: impl Fn() -> Option<u32>) -> Result<(), String> {
    let mut reported: Option<Instant> = None;
    loop {
        if system::wait_readable(&mut line.stream, LOOK) {
            match line.receive(PATIENCE)? {
                Some(Request::Cancel) => job.progress.cancel(),
                Some(Request::Fetched(there)) => drop(job.answers.send(there)),
                Some(Request::Begin(_)) => return Err("a second order".to_owned()),
                // The host is gone.
                None => return Ok(()),
            }
        }
        if let Ok(range) = job.asked.try_recv() {
            line.send(&Reply::Fetch {
                start: range.start as u64,
                end: range.end as u64,
            })?;
        }
        match job.result.try_recv() {
            Ok(reply) => return line.send(&reply),
            // The job can't end without a result but by a defect outside its own guard.
            Err(mpsc::TryRecvError::Disconnected) => {
                return line.send(&Reply::Failed(Failure::Defect));
            }
            Err(mpsc::TryRecvError::Empty) => {}
        }
        if reported.is_none_or(|at| at.elapsed() >= REPORT) {
            reported = Some(Instant::now());
            line.send(&match before() {
                Some(others) => Reply::Queued(others),
                None => Reply::Progress {
                    step: job.progress.step() as u8,
                    done: job.progress.done(),
                    beats: job.progress.beats(),
                },
            })?;
        }
    }
}

/// A connection that was greeted.
struct Line {
    stream: Stream,
    inbox: Inbox,
}

impl Line {
    fn send(&mut self, reply: &Reply) -> Result<(), String> {
        let bytes = message::encode(reply).map_err(|e| e.to_string())?;
        self.stream.write_all(&bytes).map_err(|e| e.to_string())
    }

    /// The next message; `None` if the other side has gone.
    fn receive(&mut self, limit: Duration) -> Result<Option<Request>, String> {
        let deadline = Instant::now() + limit;
        let mut buffer = [0; 4096];
        loop {
            if let Some(request) = self.inbox.take().map_err(|e| e.to_string())? {
                return Ok(Some(request));
            }
            if Instant::now() >= deadline {
                return Err("the host stopped in the middle of a message".to_owned());
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(None),
                Ok(n) => self.inbox.push(&buffer[..n]),
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(e) => return Err(e.to_string()),
            }
        }
    }
}

/// An order while it is worked on.
struct Job {
    order: Order,
    progress: Progress,
    asks: Sender<Range<usize>>,
    answered: Mutex<Receiver<bool>>,
}

impl Job {
    fn run(&self, turns: &Turns, id: u64, road: &Arc<dyn Road>) -> Reply {
        while !turns.begin(id, &self.progress) {
            if self.progress.is_cancelled() {
                return Reply::Failed(Failure::Cancelled);
            }
            thread::sleep(Duration::from_millis(5));
        }
        match catch_unwind(AssertUnwindSafe(|| self.work(road))) {
            Ok(Ok(reply)) => reply,
            Ok(Err(failure)) => Reply::Failed(failure),
            Err(_) => Reply::Failed(Failure::Defect),
        }
    }

    fn work(&self, road: &Arc<dyn Road>) -> Result<Reply, Failure> {
        let order = &self.order;
        let shape = self.shape()?;
        // Without a cache the work is done all the same.
        let cache =
            (order.cache.as_ref()).and_then(|folder| Cache::open(folder, DEFAULT_LIMIT_BYTES).ok());
        let refused = |e: io::Error| Failure::Refused(e.to_string());
        match order.work {
            Work::Whole(wanted) => {
                let take = MappedTake {
                    folder: &order.folder,
                    shape,
                };
                let mut files = Files {
                    folder: &order.folder,
                    shape,
                    wanted,
                    written: BTreeMap::new(),
                };
                let (options, cache) = (&order.options, cache.as_ref());
                let told = road
                    .stream(&take, options, cache, &self.progress, &mut files)
                    .map_err(failure)?;
                let results = files.finish(told).map_err(refused)?;
                Ok(Reply::Done(Box::new(results)))
            }
            Work::Ahead { done } => {
                let cache = cache.ok_or_else(|| Failure::Refused("no cache".to_owned()))?;
                let fetch = |range| self.fetch(range, shape);
                let take = ahead::Take {
                    sample_rate: shape.sample_rate,
                    channels: shape.channels,
                    frames: shape.frames,
                    done: done as usize,
                    fetch: &fetch,
                };
                road.ahead(&take, &order.options, &cache, &self.progress)
                    .map_err(failure)?;
                Ok(Reply::DoneAhead)
            }
        }
    }

    /// The order's sizes, checked before anything is allocated for them.
    fn shape(&self) -> Result<Shape, Failure> {
        let order = &self.order;
        let refused = |what: &str| Err(Failure::Refused(what.to_owned()));
        if !matches!(order.channels, 1 | 2) {
            return Err(Failure::Channels(order.channels));
        }
        if order.frames > MAX_SAMPLES / 2 || !(1..=768_000).contains(&order.sample_rate) {
            return refused("no take has that length or rate");
        }
        if !system::is_own_folder(&order.folder) {
            return refused("the job's folder is not this user's");
        }
        Ok(Shape {
            sample_rate: order.sample_rate,
            channels: order.channels.into(),
            frames: order.frames as usize,
        })
    }

    /// Frames of a growing take, from the host.
    fn fetch(&self, range: Range<usize>, whole: Shape) -> Option<AudioBuffer> {
        // One question at a time.
        let answered = self.answered.lock();
        let shape = Shape {
            frames: range.len(),
            ..whole
        };
        self.asks.send(range).ok()?;
        let there = answered.recv().ok()?;
        let all = 0..shape.frames;
        let read = || folder::read_mapped(&self.order.folder, PART, shape, all).ok();
        there.then(read).flatten()
    }
}

fn failure(error: PipelineError) -> Failure {
    match error {
        PipelineError::Cancelled => Failure::Cancelled,
        PipelineError::Channels { actual } => Failure::Channels(actual.min(255) as u8),
        PipelineError::Regeneration(reason) => Failure::Regeneration(reason),
        other => Failure::Refused(other.to_string()),
    }
}

/// Names of the files of a job.
pub(super) const TAKE: &str = "take";
pub(super) const PART: &str = "part";
pub(super) const BASE: &str = "base";
pub(super) const FINDINGS: &str = "findings";

pub(super) fn layer_file(stem: Stem) -> String {
    format!("layer-{}", stem as usize)
}

pub(super) fn part_file(i: usize) -> String {
    format!("part-{i}")
}

/// A job's take, in the file that the host has written.
struct MappedTake<'a> {
    folder: &'a Path,
    shape: Shape,
}

impl Source for MappedTake<'_> {
    fn sample_rate(&self) -> u32 {
        self.shape.sample_rate
    }

    fn frames(&self) -> usize {
        self.shape.frames
    }

    fn part(&self, range: Range<usize>) -> Result<AudioBuffer, PipelineError> {
        folder::read_mapped(self.folder, TAKE, self.shape, range).map_err(PipelineError::Disk)
    }
}

/// What is wanted of what the road yields, on its way into files.
struct Files<'a> {
    folder: &'a Path,
    shape: Shape,
    wanted: Wanted,
    written: BTreeMap<Buffer, PlanarFile>,
}

impl Sink for Files<'_> {
    fn put(&mut self, what: Buffer, at: usize, audio: AudioBuffer) -> Result<(), PipelineError> {
        let name = match what {
            Buffer::Base => BASE.to_owned(),
            Buffer::Stem(stem) if self.wanted.stems => stem_file(stem),
            Buffer::Layer(stem) => layer_file(stem),
            Buffer::Part(i) if self.wanted.parts => part_file(i),
            Buffer::Stem(_) | Buffer::Part(_) => return Ok(()),
        };
        let file = match self.written.entry(what) {
            Entry::Occupied(file) => file.into_mut(),
            Entry::Vacant(place) => {
                let (channels, frames) = (self.shape.channels, self.shape.frames);
                let file = PlanarFile::create(self.folder, &name, channels, frames);
                place.insert(file.map_err(PipelineError::Disk)?)
            }
        };
        file.put(at, &audio).map_err(PipelineError::Disk)
    }
}

impl Files<'_> {
    /// All has come. The names say what there is.
    fn finish(self, told: Told) -> io::Result<Results> {
        self.written
            .into_values()
            .try_for_each(PlanarFile::finish)?;
        let parts = if self.wanted.parts {
            told.parts.clone()
        } else {
            Vec::new()
        };
        let layers = told.layers;
        let bytes = postcard::to_stdvec(&Found::new(told)).map_err(io::Error::other)?;
        fs::write(self.folder.join(FINDINGS), &bytes)?;
        Ok(Results {
            layers,
            parts,
            findings: bytes.len() as u64,
        })
    }
}

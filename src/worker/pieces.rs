// [worker] Long takes in pieces of minutes, each a song of its own: what a job holds doesn't grow with the take.
//!
//! A piece hears a segment of its neighbours on both sides and lies on the segments of the whole take, so that
//! restoration, and separation by segments, give what they give of the whole, bit for bit but for the join. Who hears
//! more than segments (the profile, who rebuilds, some separators) hears the piece: what was played twenty minutes ago
//! is another song. Neighbours are joined by a crossfade.

mod music;

use std::{collections::BTreeMap, ops::Range};

use crate::{
    audio::AudioBuffer,
    damage::{DamageMap, FRAMES_PER_SECOND, Stem},
    profile::edit::MusicEdit,
    worker::{
        options::{Asked, Options, RegeneratorChoice, Regenerators},
        pipeline::{self, Outcome, PipelineError},
        progress::Progress,
        segments::{SEGMENT_SECONDS, half_join},
        view::{Findings, Made, StemFindings},
    },
};

/// Segments of a piece: 5 minutes. At rates above 48 kHz fewer, since samples are what memory is needed for.
const SEGMENTS: usize = 10;
/// Segments that a piece hears of each neighbour.
const CONTEXT: usize = 1;
/// A rest of at most so many segments belongs to the last piece: a song of 7 minutes is one. At higher rates fewer.
const REST: usize = 4;

/// Where the pieces of a take lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    frames: usize,
    sample_rate: u32,
    /// Samples of a segment.
    segment: usize,
    /// Segments of a piece.
    segments: usize,
}

impl Layout {
    /// Of a take of `frames` at `sample_rate` Hz.
    pub fn new(frames: usize, sample_rate: u32) -> Self {
        let segments = SEGMENTS * 48_000 / sample_rate.max(1) as usize;
        Self::of_segments(frames, sample_rate, segments.clamp(2, SEGMENTS))
    }

    /// With pieces of so many segments.
    pub fn of_segments(frames: usize, sample_rate: u32, segments: usize) -> Self {
        Self {
            frames,
            sample_rate,
            segment: (SEGMENT_SECONDS * sample_rate as usize).max(1),
            segments: segments.max(1),
        }
    }

    fn length(&self) -> usize {
        self.segments * self.segment
    }

    /// Segments that a piece of its own has at least.
    fn rest(&self) -> usize {
        REST * self.segments / SEGMENTS
    }

    /// How many pieces, at least one.
    pub fn count(&self) -> usize {
        let beyond = (self.frames).saturating_sub(self.length() + self.rest() * self.segment);
        1 + beyond.div_ceil(self.length())
    }

    /// What belongs to piece `i`.
    fn own(&self, i: usize) -> Range<usize> {
        let end = if i + 1 >= self.count() {
            self.frames
        } else {
            (i + 1) * self.length()
        };
        i * self.length()..end
    }

    /// What piece `i` hears.
    fn heard(&self, i: usize) -> Range<usize> {
        let own = self.own(i);
        let context = CONTEXT * self.segment;
        own.start.saturating_sub(context)..(own.end + context).min(self.frames)
    }

    /// What is kept of piece `i`: its own, and half a crossfade on inner sides.
    fn kept(&self, i: usize) -> Range<usize> {
        let (own, half) = (self.own(i), self.half_join());
        own.start.saturating_sub(half)..(own.end + half).min(self.frames)
    }

    /// As segments are joined.
    fn half_join(&self) -> usize {
        half_join(self.sample_rate)
    }

    /// Most frames that a piece hears.
    pub fn longest(&self) -> usize {
        (0..self.count())
            .map(|i| self.heard(i).len())
            .max()
            .unwrap_or(0)
    }

    /// The first segment that the piece hears to which `segment` of a growing take belongs, unless the take ends soon.
    pub fn first_heard_with(&self, segment: usize) -> usize {
        (segment / self.segments * self.segments).saturating_sub(CONTEXT)
    }
}

/// Audio that is heard in parts.
pub trait Source {
    /// Hz.
    fn sample_rate(&self) -> u32;

    /// Length in samples.
    fn frames(&self) -> usize;

    /// A copy of the frames of `range`, which it has.
    ///
    /// # Errors
    /// [`PipelineError::Disk`] if they lie on a disk that refuses.
    fn part(&self, range: Range<usize>) -> Result<AudioBuffer, PipelineError>;
}

impl Source for AudioBuffer {
    fn sample_rate(&self) -> u32 {
        self.sample_rate
    }

    fn frames(&self) -> usize {
        Self::frames(self)
    }

    fn part(&self, range: Range<usize>) -> Result<AudioBuffer, PipelineError> {
        Ok(self.slice(range.start, range.len()))
    }
}

/// A buffer of an [`Outcome`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Buffer {
    Base,
    Stem(Stem),
    Layer(Stem),
    /// By its number among [`Told::parts`].
    Part(usize),
}

/// Where the audio of an outcome goes.
pub trait Sink {
    /// Takes what buffer `what` has from sample `at` on. Each buffer comes in ascending order; what never comes is
    /// silent.
    ///
    /// # Errors
    /// [`PipelineError::Disk`] if it goes to a disk that refuses.
    fn put(&mut self, what: Buffer, at: usize, audio: AudioBuffer) -> Result<(), PipelineError>;
}

/// An [`Outcome`] without its audio.
pub struct Told {
    /// Stems that have a layer.
    pub layers: [bool; Stem::COUNT],
    /// Names of the separated parts.
    pub parts: Vec<String>,
    pub findings: Findings,
    /// As [`Outcome::separators`].
    pub separators: Vec<String>,
    /// As [`Outcome::rebuilders`].
    pub rebuilders: Vec<String>,
}

/// What is done with a piece: as [`pipeline::song`], with everything but these three chosen.
pub type Song<'a> = &'a dyn Fn(&AudioBuffer, &Options, &Progress) -> Result<Outcome, PipelineError>;

/// Runs `song` on every piece of `take` and puts the joined results into `sink`.
///
/// # Errors
/// The first of `song`, `take` or `sink`.
pub fn run(
    song: Song<'_>,
    layout: &Layout,
    take: &dyn Source,
    options: &Options,
    progress: &Progress,
    sink: &mut dyn Sink,
) -> Result<Told, PipelineError> {
    let count = layout.count();
    let mut joined = Joined::new(layout, sink);
    for i in 0..count {
        let share = |i: usize| i as f64 / count as f64;
        let (heard, own) = (layout.heard(i), layout.own(i));
        let outcome = {
            let audio = take.part(heard.clone())?;
            let progress = progress.part(share(i), share(i + 1));
            if count == 1 {
                song(&audio, options, &progress)?
            } else {
                song(&audio, &options_of(options, &heard, &own), &progress)?
            }
        };
        joined.add(i, outcome)?;
    }
    Ok(joined.finished(options))
}

/// The options of a piece: positions count from where it begins to hear.
fn options_of(options: &Options, heard: &Range<usize>, own: &Range<usize>) -> Options {
    let from = heard.start as i64;
    let music = (options.music.iter()).filter_map(|edit| edit_of(edit, from, heard.len() as i64));
    let mut out = Options {
        music: music.collect(),
        ..options.clone()
    };
    if let Some(asked) = options.asked {
        if asked.start < own.end as u64 && own.start as u64 <= asked.end {
            // As far as it hears: on both sides of a join the same is rebuilt.
            let within = |at: u64| (at.clamp(heard.start as u64, heard.end as u64)) - from as u64;
            out.asked = Some(Asked {
                start: within(asked.start),
                end: within(asked.end),
                ..asked
            });
        } else {
            out.regenerators = Regenerators::all(RegeneratorChoice::Off);
        }
    }
    out
}

/// An edit for a piece that begins to hear at `from` and hears `len` samples; `None` where it is about none of them.
fn edit_of(edit: &MusicEdit, from: i64, len: i64) -> Option<MusicEdit> {
    let mut edit = edit.clone();
    match &mut edit {
        MusicEdit::Chord { start, end, .. } => {
            *start = (*start - from).clamp(0, len);
            *end = (*end - from).clamp(0, len);
            (start < end).then_some(edit)
        }
        MusicEdit::AddHit { at, .. }
        | MusicEdit::RemoveHit { at, .. }
        | MusicEdit::AddNote { at, .. }
        | MusicEdit::RemoveNote { at, .. } => {
            *at -= from;
            (0..len).contains(at).then_some(edit)
        }
        MusicEdit::Tempo { .. } => Some(edit),
    }
}

/// What has come of the pieces so far.
struct Joined<'a> {
    layout: &'a Layout,
    sink: &'a mut dyn Sink,
    /// What the next piece fades in over.
    tails: BTreeMap<Buffer, AudioBuffer>,
    told: Told,
    /// How much stands behind tempo, metre and key: seconds times confidence.
    weights: [f64; 3],
    /// Of every stem's agreements the sum, and how many there are.
    agreed: [(u32, u32); Stem::COUNT],
}

impl<'a> Joined<'a> {
    fn new(layout: &'a Layout, sink: &'a mut dyn Sink) -> Self {
        Self {
            layout,
            sink,
            tails: BTreeMap::new(),
            told: Told {
                layers: [false; Stem::COUNT],
                parts: Vec::new(),
                findings: Findings::default(),
                separators: Vec::new(),
                rebuilders: Vec::new(),
            },
            weights: [0.0; 3],
            agreed: [(0, 0); Stem::COUNT],
        }
    }

    fn add(&mut self, i: usize, outcome: Outcome) -> Result<(), PipelineError> {
        if self.layout.count() == 1 {
            self.told.findings = outcome.findings;
        } else {
            self.merge(i, outcome.findings);
        }
        add_new(&mut self.told.separators, outcome.separators);
        add_new(&mut self.told.rebuilders, outcome.rebuilders);
        let mut tails = BTreeMap::new();
        // Each leaves the memory before the next is cut.
        self.put(i, Buffer::Base, outcome.base, &mut tails)?;
        for (stem, audio) in Stem::ALL.into_iter().zip(outcome.stems) {
            self.put(i, Buffer::Stem(stem), audio, &mut tails)?;
        }
        for (stem, audio) in Stem::ALL.into_iter().zip(outcome.layers) {
            if let Some(audio) = audio {
                self.told.layers[stem as usize] = true;
                self.put(i, Buffer::Layer(stem), audio, &mut tails)?;
            }
        }
        for (name, audio) in outcome.parts {
            let names = &mut self.told.parts;
            let known = names.iter().position(|known| *known == name);
            let number = known.unwrap_or_else(|| {
                names.push(name);
                names.len() - 1
            });
            self.put(i, Buffer::Part(number), audio, &mut tails)?;
        }
        // What this piece has nothing of fades out.
        for (what, mut tail) in std::mem::replace(&mut self.tails, tails) {
            let silence =
                AudioBuffer::silence(tail.channels.len(), tail.frames(), tail.sample_rate);
            fade(&mut tail, &silence);
            self.sink.put(what, self.layout.kept(i).start, tail)?;
        }
        Ok(())
    }

    /// Puts what is kept of a buffer of piece `i`, but for its end if another piece follows, which goes to `tails`.
    fn put(
        &mut self,
        i: usize,
        what: Buffer,
        audio: AudioBuffer,
        tails: &mut BTreeMap<Buffer, AudioBuffer>,
    ) -> Result<(), PipelineError> {
        let layout = self.layout;
        if layout.count() == 1 {
            return self.sink.put(what, 0, audio);
        }
        let (kept, heard) = (layout.kept(i), layout.heard(i));
        let join = 2 * layout.half_join();
        let mut start = kept.start;
        if i > 0 {
            let channels = audio.channels.len();
            let mut head = (self.tails.remove(&what))
                .unwrap_or_else(|| AudioBuffer::silence(channels, join, audio.sample_rate));
            fade(&mut head, &audio.slice(start - heard.start, join));
            self.sink.put(what, start, head)?;
            start += join;
        }
        let mut end = kept.end;
        if i + 1 < layout.count() {
            end -= join;
            tails.insert(what, audio.slice(end - heard.start, join));
        }
        let body = audio.slice(start - heard.start, end - start);
        drop(audio);
        self.sink.put(what, start, body)
    }

    fn merge(&mut self, i: usize, found: Findings) {
        let layout = self.layout;
        let (heard, own) = (layout.heard(i), layout.own(i));
        let frame = |sample: usize| {
            let rate = u64::from(layout.sample_rate.max(1));
            ((sample as u64 * FRAMES_PER_SECOND as u64 + rate / 2) / rate) as usize
        };
        let last = i + 1 == layout.count();
        let append = |all: &mut DamageMap, new: DamageMap| {
            let skip = frame(own.start) - frame(heard.start);
            let take = if last {
                usize::MAX
            } else {
                frame(own.end) - frame(own.start)
            };
            (all.frames).extend(new.frames.into_iter().skip(skip).take(take));
        };
        let all = &mut self.told.findings;
        append(&mut all.damage, found.damage);
        for ((all, new), agreed) in (all.stems.iter_mut().zip(found.stems)).zip(&mut self.agreed) {
            append(&mut all.damage, new.damage);
            all.rebuilt |= new.rebuilt;
            all.spared += new.spared;
            all.made = match (all.made, new.made) {
                (Some(a), Some(b)) => Some(Made {
                    throughout: a.throughout && b.throughout,
                    ..a
                }),
                (a, b) => a.or(b),
            };
            if let Some(percent) = new.agreement {
                *agreed = (agreed.0 + u32::from(percent), agreed.1 + 1);
            }
        }
        let seconds = |sample: usize| sample as f64 / f64::from(layout.sample_rate.max(1));
        music::join(
            &mut all.profile,
            &mut self.weights,
            found.profile,
            seconds(heard.start),
            seconds(own.start)..seconds(own.end),
        );
    }

    fn finished(mut self, options: &Options) -> Told {
        if self.layout.count() > 1 {
            let findings = &mut self.told.findings;
            for ((stem, found), (sum, count)) in
                (Stem::ALL.into_iter().zip(&mut findings.stems)).zip(self.agreed)
            {
                *found = StemFindings {
                    rebuilt: found.rebuilt,
                    made: found.made,
                    spared: found.spared,
                    agreement: (sum.checked_div(count)).map(|percent| percent as u8),
                    ..pipeline::stem_findings(stem, std::mem::take(&mut found.damage))
                };
            }
            let who = [&self.told.separators[..], &self.told.rebuilders].concat();
            findings.lines = pipeline::describe(findings, who, options);
        }
        self.told
    }
}

fn add_new(all: &mut Vec<String>, lines: Vec<String>) {
    for line in lines {
        if !all.contains(&line) {
            all.push(line);
        }
    }
}

/// Fades `old` into `new`, linearly; where both are equal they stay what they are.
fn fade(old: &mut AudioBuffer, new: &AudioBuffer) {
    let step = 1.0 / (old.frames() + 1) as f32;
    for (old, new) in old.channels.iter_mut().zip(&new.channels) {
        for (n, (old, new)) in old.iter_mut().zip(new).enumerate() {
            *old += step * (n + 1) as f32 * (new - *old);
        }
    }
}

/// The whole in memory: what a command that has read a whole file wants.
struct InMemory {
    channels: usize,
    frames: usize,
    sample_rate: u32,
    buffers: BTreeMap<Buffer, AudioBuffer>,
}

impl Sink for InMemory {
    fn put(&mut self, what: Buffer, at: usize, audio: AudioBuffer) -> Result<(), PipelineError> {
        if at == 0 && audio.frames() == self.frames {
            self.buffers.insert(what, audio);
            return Ok(());
        }
        let silence = || AudioBuffer::silence(self.channels, self.frames, self.sample_rate);
        let all = self.buffers.entry(what).or_insert_with(silence);
        for (all, new) in all.channels.iter_mut().zip(&audio.channels) {
            all[at..at + new.len()].copy_from_slice(new);
        }
        Ok(())
    }
}

/// As [`run`], all of it in memory.
///
/// # Errors
/// As [`run`].
pub fn run_in_memory(
    song: Song<'_>,
    layout: &Layout,
    take: &AudioBuffer,
    options: &Options,
    progress: &Progress,
) -> Result<Outcome, PipelineError> {
    let mut sink = InMemory {
        channels: take.channels.len(),
        frames: take.frames(),
        sample_rate: take.sample_rate,
        buffers: BTreeMap::new(),
    };
    let told = run(song, layout, take, options, progress, &mut sink)?;
    let silence = || AudioBuffer::silence(take.channels.len(), take.frames(), take.sample_rate);
    let mut taken = |what: Buffer| sink.buffers.remove(&what);
    Ok(Outcome {
        base: taken(Buffer::Base).unwrap_or_else(silence),
        stems: Stem::ALL.map(|stem| taken(Buffer::Stem(stem)).unwrap_or_else(silence)),
        layers: Stem::ALL.map(|stem| taken(Buffer::Layer(stem))),
        parts: (told.parts.into_iter().enumerate())
            .map(|(i, name)| (name, taken(Buffer::Part(i)).unwrap_or_else(silence)))
            .collect(),
        findings: told.findings,
        separators: told.separators,
        rebuilders: told.rebuilders,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Chord, DrumClass, DrumHit, Estimate, Key, Mode, MusicalProfile};

    const RATE: u32 = 100;

    fn minutes(n: f64) -> usize {
        (n * 60.0 * f64::from(RATE)) as usize
    }

    #[test]
    fn pieces_lie_on_the_segments_of_the_whole_and_are_bounded() {
        for rate in [8_000, 44_100, 48_000, 96_000, 192_000] {
            let segment = SEGMENT_SECONDS * rate as usize;
            for seconds in (0..8_000).step_by(7) {
                let layout = Layout::new(seconds * rate as usize + 13, rate);
                // All is somebody's own, once.
                let mut end = 0;
                for i in 0..layout.count() {
                    let (own, heard, kept) = (layout.own(i), layout.heard(i), layout.kept(i));
                    assert_eq!(own.start, end);
                    assert_eq!(heard.start % segment, 0);
                    assert!(heard.start <= kept.start && kept.end <= heard.end);
                    assert!(i == 0 || own.len() > layout.rest() * segment);
                    end = own.end;
                }
                assert_eq!(end, layout.frames);
                // Samples of 8 minutes at 48 kHz.
                assert!(layout.longest() <= 8 * 60 * 48_000 + 13, "{rate} {seconds}");
                assert!(layout.count() == 1 || seconds >= 60);
            }
        }
        assert_eq!(Layout::new(7 * 60 * 48_000, 48_000).count(), 1);
    }

    /// Says what it hears, and that a stem is rebuilt in the second piece.
    fn told(piece: &AudioBuffer, options: &Options) -> Outcome {
        let made = |gain: f32| {
            let channels = piece.channels.iter();
            let channels = channels.map(|c| c.iter().map(|x| gain * x).collect());
            AudioBuffer::new(channels.collect(), piece.sample_rate)
        };
        // Its second own minute, as the piece hears it.
        let first = piece.channels[0][0];
        let mut findings = Findings::default();
        let frames = piece.frames() * FRAMES_PER_SECOND / RATE as usize;
        findings.damage.frames = vec![[0.0; crate::damage::DamageKind::COUNT]; frames];
        for (frame, severity) in findings.damage.frames.iter_mut().enumerate() {
            severity[0] = piece.channels[0][frame * RATE as usize / FRAMES_PER_SECOND];
        }
        for stem in &mut findings.stems {
            stem.damage = findings.damage.clone();
        }
        let rebuilt =
            first > 0.0 && options.regenerators != Regenerators::all(RegeneratorChoice::Off);
        let layer = rebuilt.then(|| made(0.5));
        if rebuilt {
            findings.stems[0].rebuilt = true;
            findings.stems[0].spared = 2;
            findings.stems[0].agreement = Some(80);
        }
        let beats = 0..2 * piece.frames() / RATE as usize;
        findings.profile = MusicalProfile {
            tempo_bpm: Some(Estimate {
                value: 120.0 + f64::from(first),
                confidence: 0.5 + 0.1 * first.min(1.0),
            }),
            key: (first == 0.0).then_some(Estimate {
                value: Key {
                    tonic: 3,
                    mode: Mode::Minor,
                },
                confidence: 0.9,
            }),
            beats: beats.map(|n| 0.5 * n as f64 + 0.013).collect(),
            chords: vec![Chord {
                start: 0.0,
                end: piece.seconds(),
                label: "A:min".to_owned(),
                confidence: 0.7,
            }],
            drums: (options.music.iter())
                .filter_map(|edit| match edit {
                    MusicEdit::AddHit { at, class, .. } => Some(DrumHit {
                        t: *at as f64 / f64::from(RATE),
                        class: *class,
                        velocity: 1.0,
                        confidence: 1.0,
                    }),
                    _ => None,
                })
                .collect(),
            ..MusicalProfile::default()
        };
        Outcome {
            base: made(1.0),
            stems: [0.4, 0.3, 0.2, 0.1].map(made),
            parts: vec![("piano".to_owned(), made(0.15))],
            layers: [layer, None, None, None],
            findings,
            separators: vec!["separated by nobody".to_owned()],
            rebuilders: vec!["a line".to_owned()],
        }
    }

    /// Every sample is its place in segments.
    fn take(frames: usize) -> AudioBuffer {
        let segment = (SEGMENT_SECONDS * RATE as usize) as f32;
        let samples = (0..frames).map(|n| n as f32 / segment).collect();
        AudioBuffer::new(vec![samples], RATE)
    }

    fn outcome(options: &Options, frames: usize) -> Outcome {
        let song = |piece: &AudioBuffer, options: &Options, _: &Progress| Ok(told(piece, options));
        let layout = Layout::of_segments(frames, RATE, 4);
        assert_eq!(layout.count(), 3);
        run_in_memory(&song, &layout, &take(frames), options, &Progress::new()).unwrap()
    }

    #[test]
    fn pieces_join_to_the_whole() {
        let frames = minutes(6.3);
        let whole = take(frames);
        let hit = |at: usize| MusicEdit::AddHit {
            at: at as i64,
            class: DrumClass::Snare,
            velocity: 100,
        };
        let hits = [minutes(0.5), minutes(2.4), minutes(2.6), minutes(6.2)];
        let options = Options {
            music: hits.map(hit).to_vec(),
            ..Options::default()
        };
        let out = outcome(&options, frames);
        // What both sides of a border say alike stays as it is.
        assert!(out.base == whole);
        for (part, gain) in out.stems.iter().zip([0.4, 0.3, 0.2, 0.1]) {
            assert_eq!(
                part.channels[0][minutes(5.0)],
                gain * whole.channels[0][minutes(5.0)]
            );
        }
        assert_eq!(out.parts.len(), 1);
        assert_eq!(out.parts[0].1.frames(), frames);
        // Damage is found where it is, stem by stem, and once.
        for damage in [&out.findings.damage, &out.findings.stems[2].damage] {
            assert_eq!(
                damage.frames.len(),
                frames * FRAMES_PER_SECOND / RATE as usize
            );
            for (n, severity) in damage.frames.iter().enumerate() {
                assert_eq!(
                    severity[0],
                    whole.channels[0][n * RATE as usize / FRAMES_PER_SECOND]
                );
            }
        }
        // A layer fades in and out where only its neighbour has one. The first piece has none.
        let layer = out.layers[0].as_ref().unwrap();
        assert!(out.layers[1].is_none());
        let at = |n: usize| layer.channels[0][n] / whole.channels[0][n].max(1e-9);
        assert!(at(minutes(1.99)).abs() < 1e-6);
        assert!((at(minutes(2.0)) - 0.25).abs() < 0.2);
        assert!((at(minutes(2.01)) - 0.5).abs() < 1e-6);
        let found = &out.findings.stems[0];
        assert!(found.rebuilt && found.spared == 4 && found.agreement == Some(80));
        // Music is told in the take's time: even beats over the borders, one chord, every hit once.
        let profile = &out.findings.profile;
        assert_eq!(profile.beats.len(), 2 * frames / RATE as usize);
        for (n, beat) in profile.beats.iter().enumerate() {
            assert!((beat - 0.5 * n as f64 - 0.013).abs() < 1e-6, "{n}: {beat}");
        }
        assert_eq!(profile.chords.len(), 1);
        let chord = &profile.chords[0];
        assert!(chord.start == 0.0 && (chord.end - 378.0).abs() < 1e-6);
        let times: Vec<f64> = profile.drums.iter().map(|hit| hit.t).collect();
        assert_eq!(times, hits.map(|at| at as f64 / f64::from(RATE)));
        // The surest estimate of the longest piece; what one piece says alone counts.
        let tempo = profile.tempo_bpm.unwrap().value;
        assert!(tempo > 122.0, "{tempo}");
        assert_eq!(profile.key.unwrap().value.tonic, 3);
        // Who did it is said once.
        assert_eq!(out.separators, ["separated by nobody"]);
        let lines = &out.findings.lines;
        assert_eq!(lines.iter().filter(|line| *line == "a line").count(), 1);
    }

    #[test]
    fn what_was_asked_for_is_rebuilt_in_its_pieces_only() {
        let frames = minutes(6.3);
        let asked = |start: f64, end: f64| {
            let options = Options {
                asked: Some(Asked {
                    stem: Stem::Drums,
                    start: minutes(start) as u64,
                    end: minutes(end) as u64,
                }),
                ..Options::default()
            };
            outcome(&options, frames).layers[0].is_some()
        };
        assert!(!asked(0.5, 1.0));
        assert!(asked(2.5, 3.0));
        assert!(asked(1.0, 2.5));
        let own = 4 * 3_000..8 * 3_000;
        let heard = 3 * 3_000..9 * 3_000;
        let options = Options {
            asked: Some(Asked {
                stem: Stem::Bass,
                start: 0,
                end: 20_000,
            }),
            ..Options::default()
        };
        let asked = options_of(&options, &heard, &own).asked.unwrap();
        assert_eq!((asked.start, asked.end), (0, 11_000));
    }

    #[test]
    fn edits_go_to_the_pieces_that_hear_them() {
        let remove = |at| MusicEdit::RemoveNote { at, midi: 40 };
        assert_eq!(edit_of(&remove(120), 100, 50), Some(remove(20)));
        assert_eq!(edit_of(&remove(99), 100, 50), None);
        assert_eq!(edit_of(&remove(150), 100, 50), None);
        let chord = |start, end| MusicEdit::Chord {
            start,
            end,
            label: "C".to_owned(),
        };
        assert_eq!(edit_of(&chord(90, 120), 100, 50), Some(chord(0, 20)));
        assert_eq!(edit_of(&chord(90, 100), 100, 50), None);
    }
}

// [worker] The whole road from a take to what a patch holds. Read [`run`] top to bottom.

use crate::{
    audio::AudioBuffer,
    cache::{self, Cache, Key, KeyBuilder},
    damage::{DEFAULT_THRESHOLD, DamageKind, DamageMap, Region, Stem},
    metrics,
    profile::{self, MusicalProfile, edit, quality},
    regeneration::{Request, blend, rank},
    separation::{SeparationError, Separator, Stems, learned::Learned, spectral::Spectral},
    worker::{
        options::{Options, Quality, RegeneratorChoice},
        pieces,
        progress::{Progress, Step},
        regenerate::{self, Chosen},
        restore, segments, separate,
        view::{Findings, Made, StemFindings},
    },
};

pub use separate::Separation;

/// Versions of the stages that have no id of their own: raise one when the stage's output changes.
const RESTORE_VERSION: u32 = 3;
const PROFILE_VERSION: u32 = 4;
const LAYER_VERSION: u32 = 1;

/// Stems that are rebuilt where they are damaged.
const REBUILT: [Stem; 2] = [Stem::Drums, Stem::Bass];

/// What the road yields. All audio has the take's rate, channels and length.
pub struct Outcome {
    /// The restored mix.
    pub base: AudioBuffer,
    /// The stems of the restored mix; they sum to it.
    pub stems: Stems,
    /// Instruments that are in the stem `other` and that the separator can tell from it, by name.
    pub parts: Vec<(String, AudioBuffer)>,
    /// Per stem `regenerated − separated`.
    pub layers: [Option<AudioBuffer>; Stem::COUNT],
    pub findings: Findings,
    /// Who separated the stems, and why not somebody better: also among the findings' lines.
    pub separators: Vec<String>,
    /// Who rebuilt, under which terms, and why not who was asked for: also among the findings' lines.
    pub rebuilders: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    #[error("cancelled")]
    Cancelled,
    #[error("{actual} channels can't be analysed: use mono or stereo audio")]
    Channels { actual: usize },
    #[error("the drums and bass can't be rebuilt: {0}")]
    Regeneration(String),
    #[error("{0}")]
    Worker(String),
    #[error("audio can't be kept on the disk meanwhile: {0}; make room there, then analyse again")]
    Disk(std::io::Error),
    #[error(
        "it needs about {needed_mb} MB, the limit is {limit_mb} MB: stop the transport between songs, so that takes \
         are shorter, or raise memory_mb in worker.json"
    )]
    Memory { needed_mb: u64, limit_mb: u64 },
}

impl From<SeparationError> for PipelineError {
    fn from(error: SeparationError) -> Self {
        match error {
            SeparationError::Cancelled => Self::Cancelled,
            // The model-free separator never says this.
            SeparationError::NotFinite => Self::Cancelled,
            #[cfg(feature = "ml")]
            SeparationError::Model(_) => Self::Cancelled,
        }
    }
}

/// Runs every stage on `take` (1 or 2 channels), in [`pieces`] where it is long. Results of the slow ones are kept in
/// `cache`, so that a change of a late option runs late stages only; without a cache everything runs.
///
/// # Errors
/// If `progress` was cancelled, or the take has no or more than two channels.
pub fn run(
    take: &AudioBuffer,
    options: &Options,
    cache: Option<&Cache>,
    progress: &Progress,
) -> Result<Outcome, PipelineError> {
    let layout = pieces::Layout::new(take.frames(), take.sample_rate);
    if layout.count() == 1 {
        return song(take, options, cache, progress);
    }
    let song = |piece: &AudioBuffer, options: &Options, progress: &Progress| {
        song(piece, options, cache, progress)
    };
    pieces::run_in_memory(&song, &layout, take, options, progress)
}

/// As [`run`], of one piece.
///
/// # Errors
/// As [`run`].
pub fn song(
    take: &AudioBuffer,
    options: &Options,
    cache: Option<&Cache>,
    progress: &Progress,
) -> Result<Outcome, PipelineError> {
    // A model's work is nearly all of a job.
    let others = if options.regenerators.any_model() {
        0.25
    } else {
        1.0
    };
    let share = |done: f64| others * done;
    let part = |from: f64, to: f64| progress.part(share(from), share(to));
    let (base, separation) = restored_and_separated(take, options, cache, &part(0.0, 0.60))?;
    let stems = separation.stems;

    progress.set(Step::Assessing, share(0.60));
    let damage = metrics::damage::damage_map(take);
    let stem_damage = quality::assess_stems(&base, &stems, &damage);
    check(progress)?;

    progress.set(Step::Profiling, share(0.65));
    let profile = profiled(&base, &stems, &separation.id, cache, &part(0.65, 0.80))?;

    progress.set(Step::Regenerating, share(0.80));
    let mut findings = Findings {
        stems: std::array::from_fn(|i| stem_findings(Stem::ALL[i], stem_damage[i].clone())),
        damage,
        profile,
        lines: Vec::new(),
        quality: None,
    };
    // The findings keep what was heard; what is rebuilt follows the user's edits of it.
    let played = edit::edited(&findings.profile, &options.music, base.sample_rate);
    let (layers, rebuilders) = rebuilt(
        &Rebuilding {
            base: &base,
            stems: &stems,
            damage: &stem_damage,
            profile: &played,
            options,
            cache,
        },
        &mut findings,
        &progress.part(share(0.80), 0.99),
    )?;
    let who = [&separation.lines[..], &rebuilders].concat();
    findings.lines = describe(&findings, who, options);
    progress.report(0.99);
    Ok(Outcome {
        base,
        stems,
        parts: separation.parts,
        layers,
        findings,
        separators: separation.lines,
        rebuilders,
    })
}

/// The road's first half, which the engine has done ahead where it could: the restored mix and its stems.
///
/// # Errors
/// As [`run`].
pub fn restored_and_separated(
    take: &AudioBuffer,
    options: &Options,
    cache: Option<&Cache>,
    progress: &Progress,
) -> Result<(AudioBuffer, Separation), PipelineError> {
    const RESTORING: f64 = 0.58;
    check_channels(take)?;
    progress.set(Step::Restoring, 0.0);
    let base = restored(take, options, cache, &progress.part(0.0, RESTORING))?;
    progress.set(Step::Separating, RESTORING);
    let progress = progress.part(RESTORING, 1.0);
    let separation = separate::separated(&base, options.separator, cache, &progress)?;
    Ok((base, separation))
}

/// Refuses anything but mono and stereo.
///
/// # Errors
/// [`PipelineError::Channels`].
pub fn check_channels(audio: &AudioBuffer) -> Result<(), PipelineError> {
    match audio.channels.len() {
        1 | 2 => Ok(()),
        actual => Err(PipelineError::Channels { actual }),
    }
}

fn check(progress: &Progress) -> Result<(), PipelineError> {
    if progress.is_cancelled() {
        return Err(PipelineError::Cancelled);
    }
    Ok(())
}

/// Offline declick, declip, denoise: the order of the live chain.
fn restored(
    take: &AudioBuffer,
    options: &Options,
    cache: Option<&Cache>,
    progress: &Progress,
) -> Result<AudioBuffer, PipelineError> {
    let [base] = segments::map(take, |part, share| {
        restored_part(part, options, cache, &progress.part(share.start, share.end))
    })?;
    Ok(base)
}

/// One segment of [`restored`].
pub(super) fn restored_part(
    mut part: AudioBuffer,
    options: &Options,
    cache: Option<&Cache>,
    progress: &Progress,
) -> Result<[AudioBuffer; 1], PipelineError> {
    check(progress)?;
    let key = audio_key("restore", RESTORE_VERSION, &part)
        .u64(options.declick_percent.into())
        .u64(options.declip_percent.into())
        .u64(options.denoise_percent.into())
        .u64(options.quality as u64)
        .finish();
    cached_audio(cache, &key, || {
        restore_segment(&mut part, options, progress)?;
        Ok::<_, PipelineError>([part])
    })
}

fn restore_segment(
    audio: &mut AudioBuffer,
    options: &Options,
    progress: &Progress,
) -> Result<(), PipelineError> {
    let rate = f64::from(audio.sample_rate);
    let amount = |percent: u8| f32::from(percent.min(100)) / 100.0;
    let (declick, declip, denoise) = (
        amount(options.declick_percent),
        amount(options.declip_percent),
        amount(options.denoise_percent),
    );
    let channels = &mut audio.channels;
    let done = match options.quality {
        Quality::Draft => restore::draft(channels, rate, [declick, declip, denoise], progress),
        Quality::Best => {
            restore::undo::restore_overflow(channels, rate, declip, progress)
                && restore::undo::restore_saturation(channels, rate, declip, progress)
                && restore::declick::restore(channels, rate, declick, &progress.part(0.0, 0.1))
                && restore::declip::restore(channels, rate, declip, &progress.part(0.1, 0.9))
                && restore::denoise::restore(channels, rate, denoise, &progress.part(0.9, 1.0))
        }
    };
    if done {
        Ok(())
    } else {
        Err(PipelineError::Cancelled)
    }
}

/// The musical profile of a restored mix and its stems.
///
/// `separator`: who made them ([`Separation::id`]). Where that was the spectral separator, the built-in network is asked
/// too: its stems are heard more surely, but a rebuild wants those that its limits were found with.
///
/// # Errors
/// If cancelled.
pub fn heard(
    base: &AudioBuffer,
    stems: &Stems,
    separator: &str,
    progress: &Progress,
) -> Result<MusicalProfile, PipelineError> {
    let beside = match Learned::built_in() {
        Ok(learned) if separator == Spectral.id() => match learned.beside(base, stems, progress) {
            Err(SeparationError::Cancelled) => return Err(PipelineError::Cancelled),
            // Its answer isn't finite: the stems that there are have to do.
            stems => stems.ok(),
        },
        _ => None,
    };
    let stems = beside.as_ref().unwrap_or(stems);
    profile::analyse(base, Some(stems), progress).ok_or(PipelineError::Cancelled)
}

fn profiled(
    base: &AudioBuffer,
    stems: &Stems,
    separator: &str,
    cache: Option<&Cache>,
    progress: &Progress,
) -> Result<MusicalProfile, PipelineError> {
    // The stems follow from the mix and the separator.
    let key = audio_key("profile", PROFILE_VERSION, base)
        .str(separator)
        .u64(separate::VERSION.into())
        .finish();
    if let Some(bytes) = cache.and_then(|c| c.get(&key))
        && let Ok(profile) = cache::decode_value(&bytes)
    {
        return Ok(profile);
    }
    let profile = heard(base, stems, separator, progress)?;
    if let (Some(cache), Ok(bytes)) = (cache, cache::encode_value(&profile)) {
        // A cache that can't be written costs time, never a result.
        let _ = cache.put(&key, &bytes);
    }
    Ok(profile)
}

/// Per stem a layer, and sentences for the user about who rebuilt.
type Rebuilt = ([Option<AudioBuffer>; Stem::COUNT], Vec<String>);

/// What stems are rebuilt from.
struct Rebuilding<'a> {
    base: &'a AudioBuffer,
    stems: &'a Stems,
    damage: &'a [DamageMap; Stem::COUNT],
    /// What is played, after the user's edits.
    profile: &'a MusicalProfile,
    options: &'a Options,
    cache: Option<&'a Cache>,
}

fn rebuilt(
    from: &Rebuilding<'_>,
    findings: &mut Findings,
    progress: &Progress,
) -> Result<Rebuilt, PipelineError> {
    let options = from.options;
    let mut layers = [const { None }; Stem::COUNT];
    // Opened when the first damaged stem is met, one at a time: a model may be large.
    let mut open: Option<(RegeneratorChoice, Chosen)> = None;
    let mut lines: Vec<String> = Vec::new();
    // Two choices may use the same model.
    let mut tell = |chosen: Chosen| {
        for line in chosen.lines {
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
    };
    let wanted = |stem: Stem| options.asked.is_none_or(|asked| asked.stem == stem);
    let stems_asked: Vec<Stem> = REBUILT.into_iter().filter(|s| wanted(*s)).collect();
    for (i, &stem) in stems_asked.iter().enumerate() {
        check(progress)?;
        let choice = options.regenerators.of(stem);
        let rate = f64::from(from.base.sample_rate.max(1));
        let whole = |start: f64, end: f64| {
            vec![Region {
                start,
                end,
                kind: DamageKind::Saturation,
                severity: 1.0,
            }]
        };
        let regions = match options.asked {
            _ if choice == RegeneratorChoice::Everywhere => whole(0.0, from.base.seconds()),
            Some(asked) => whole(asked.start as f64 / rate, asked.end as f64 / rate),
            None => quality::regions(&from.damage[stem as usize]),
        };
        if regions.is_empty() {
            continue;
        }
        if open.as_ref().is_none_or(|(of, _)| *of != choice) {
            open.take().into_iter().for_each(|(_, chosen)| tell(chosen));
            open = regenerate::choose(choice, options.separator).map(|chosen| (choice, chosen));
        }
        let Some((_, chosen)) = &mut open else {
            continue;
        };
        let profile = relevant(from.profile, stem, choice);
        let request = Request {
            stem,
            separated: &from.stems[stem as usize],
            mix: from.base,
            damage: &from.damage[stem as usize],
            regions: &regions,
            profile: &profile,
            style: &options.style,
            seed: options.seed,
        };
        let key = layer_key(&request, chosen.id(), options);
        let share = 1.0 / stems_asked.len() as f64;
        let progress = progress.part(i as f64 * share, (i + 1) as f64 * share);
        let built = match from.cache.and_then(|cache| BuiltLayer::cached(cache, &key)) {
            Some(cached) => cached,
            None => {
                let said = chosen.lines.len();
                let stem_audio = chosen.regenerate(&request, &progress)?;
                let built = stem_audio.map_or_else(BuiltLayer::default, |stem_audio| {
                    BuiltLayer::new(&request, stem_audio, options)
                });
                // What went otherwise than wanted is tried again next time.
                if let Some(cache) = from.cache.filter(|_| chosen.lines.len() == said) {
                    built.keep(cache, &key);
                }
                built
            }
        };
        let found = &mut findings.stems[stem as usize];
        found.spared = built.spared as u32;
        found.rebuilt = built.audio.is_some();
        found.made = found.rebuilt.then_some(Made {
            by: choice,
            throughout: choice == RegeneratorChoice::Everywhere,
        });
        found.agreement = built.agreement;
        layers[stem as usize] = built.audio;
    }
    open.into_iter().for_each(|(_, chosen)| tell(chosen));
    Ok((layers, lines))
}

/// What of the music a stem's rebuild depends on: an edit of the drums leaves the bass as it is. A generating
/// model hears everything.
fn relevant(
    profile: &MusicalProfile,
    stem: Stem,
    regenerator: RegeneratorChoice,
) -> MusicalProfile {
    let mut out = profile.clone();
    if regenerator.is_model() {
        return out;
    }
    out.melody_notes.clear();
    match stem {
        Stem::Drums => out.bass_notes.clear(),
        _ => out.drums.clear(),
    }
    out
}

/// The address of a rebuilt layer: everything that goes into it.
fn layer_key(request: &Request<'_>, regenerator: &str, options: &Options) -> Key {
    let key = audio_key("layer", LAYER_VERSION, request.mix);
    let key = (request.separated.channels.iter()).fold(key, |key, channel| key.samples(channel));
    let damage = request.damage.frames.as_flattened();
    let key = (request.regions.iter()).fold(key.samples(damage), |key, region| {
        key.u64(region.start.to_bits())
            .u64(region.end.to_bits())
            .u64(region.kind as u64)
            .u64(region.severity.to_bits().into())
    });
    // Numbers are written so that they read back as they are.
    let profile = serde_json::to_string(request.profile).unwrap_or_default();
    key.str(&profile)
        .str(request.style)
        .u64(request.seed)
        .str(request.stem.name())
        .str(regenerator)
        .u64(options.regenerators.of(request.stem) as u64)
        .u64(options.asked.is_some().into())
        .finish()
}

/// What came of rebuilding a stem.
#[derive(Default)]
struct BuiltLayer {
    /// `None` where nothing was worth it.
    audio: Option<AudioBuffer>,
    /// Regions that are better left as they were.
    spared: usize,
    /// See [`agreement`].
    agreement: Option<u8>,
}

impl BuiltLayer {
    fn new(request: &Request<'_>, stem_audio: AudioBuffer, options: &Options) -> Self {
        let asked = options.asked.is_some();
        let choice = options.regenerators.of(request.stem);
        let mut layer = if asked && choice.is_model() {
            blend::layer_as_asked(request, &stem_audio)
        } else {
            blend::layer(request, &stem_audio)
        };
        let agreement = agreement(request, &stem_audio);
        // It is as long as the song.
        drop(stem_audio);
        let spared = if asked || choice == RegeneratorChoice::Everywhere {
            0
        } else {
            blend::gate::gate(request, &mut layer)
        };
        let wet = layer.wetness.iter().any(|(_, wetness)| *wetness > 0.0);
        Self {
            audio: wet.then_some(layer.audio),
            spared,
            agreement,
        }
    }

    fn cached(cache: &Cache, key: &Key) -> Option<Self> {
        let bytes = cache.get(key)?;
        let (head, rest) = bytes.split_first_chunk::<8>()?;
        let (agreement, rest) = rest.split_first()?;
        Some(Self {
            audio: decode_all(rest)?.pop(),
            spared: usize::try_from(u64::from_le_bytes(*head)).ok()?,
            agreement: (*agreement <= 100).then_some(*agreement),
        })
    }

    /// A cache that can't be written costs time, never a result.
    fn keep(&self, cache: &Cache, key: &Key) {
        let mut bytes = (self.spared as u64).to_le_bytes().to_vec();
        bytes.push(self.agreement.unwrap_or(u8::MAX));
        append_all(self.audio.as_slice(), &mut bytes);
        let _ = cache.put(key, &bytes);
    }
}

/// How well a rebuilt stem agrees with the profile over the request's regions, in percent.
fn agreement(request: &Request<'_>, rebuilt: &AudioBuffer) -> Option<u8> {
    let rate = f64::from(rebuilt.sample_rate.max(1));
    let (mut sum, mut all) = (0.0, 0.0);
    for region in request.regions {
        let first = (region.start.max(0.0) * rate) as usize;
        let part = rebuilt.slice(
            first,
            ((region.end - region.start).max(0.0) * rate) as usize,
        );
        let span = region.start..region.end;
        let start = first as f64 / rate;
        if let Some(score) = rank::agreement(request.profile, request.stem, &part, start, span) {
            let seconds = region.end - region.start;
            sum += seconds * score;
            all += seconds;
        }
    }
    (all > 0.0).then(|| (100.0 * sum / all).round() as u8)
}

/// What is said of a stem that is damaged so.
pub(super) fn stem_findings(stem: Stem, damage: DamageMap) -> StemFindings {
    let mut worst = [0.0f32; DamageKind::COUNT];
    for frame in &damage.frames {
        for (worst, severity) in worst.iter_mut().zip(frame) {
            *worst = worst.max(*severity);
        }
    }
    let shares = DamageKind::ALL.map(|kind| (kind, damage.share(kind, DEFAULT_THRESHOLD)));
    let main = shares.into_iter().max_by(|a, b| a.1.total_cmp(&b.1));
    let main = main.filter(|(_, share)| *share > 0.0);
    StemFindings {
        share: main.map_or(0.0, |(_, share)| share),
        worst,
        kind: main.map(|(kind, _)| kind),
        reason: quality::summary(stem, &damage),
        rebuilt: false,
        made: None,
        spared: 0,
        agreement: None,
        damage,
    }
}

/// What was found and done, a line each, then `who` did it.
pub(super) fn describe(findings: &Findings, who: Vec<String>, options: &Options) -> Vec<String> {
    let mut lines = Vec::new();
    for kind in DamageKind::ALL {
        let share = findings.damage.share(kind, DEFAULT_THRESHOLD);
        if share >= 0.005 {
            let regions = findings.damage.regions(kind, DEFAULT_THRESHOLD, 20);
            let worst = regions
                .iter()
                .max_by(|a, b| a.severity.total_cmp(&b.severity));
            lines.push(format!(
                "mix: {} {:.0} % of the time, worst at {}",
                kind.label(),
                (100.0 * share).max(1.0),
                clock(worst.map_or(0.0, |r| r.start)),
            ));
        }
    }
    for stem in Stem::ALL {
        let found = &findings.stems[stem as usize];
        let choice = options.regenerators.of(stem);
        if choice == RegeneratorChoice::Everywhere && found.rebuilt {
            lines.push(format!("{}: rebuilt everywhere, as asked", stem.name()));
            continue;
        }
        if options.asked.is_some_and(|asked| asked.stem == stem) {
            lines.push(if found.rebuilt {
                format!("{}: rebuilt as asked", stem.name())
            } else {
                format!(
                    "{}: could not be rebuilt as asked; choose a longer span inside the recording, another seed, \
                     and a regenerator other than Off",
                    stem.name()
                )
            });
            continue;
        }
        // Under half a percent is a frame here and there: the reason says "nothing damaged".
        if found.share >= 0.005 {
            let spared = found.spared;
            let done = match (found.rebuilt, choice, REBUILT.contains(&stem)) {
                (true, choice, _) if choice.is_model() && spared > 0 => {
                    "rebuilt, except where that would not have helped"
                }
                (true, choice, _) if choice.is_model() => "rebuilt",
                (true, ..) if spared > 0 => {
                    "rebuilt from its own undamaged sound, except where that would not have helped"
                }
                (true, ..) => "rebuilt from its own undamaged sound",
                (false, RegeneratorChoice::Off, true) => "restored only (rebuilding is off)",
                (false, _, true) if spared > 0 => {
                    "restored only (rebuilding it would not have helped)"
                }
                (false, _, true) => "restored only (not damaged enough, or too little is readable)",
                (false, _, false) => "restored only (this stem is not rebuilt)",
            };
            lines.push(format!("{}; {done}", found.reason));
        }
    }
    if lines.is_empty() {
        lines.push("No damage found".to_owned());
    }
    lines.extend(who);
    lines
}

/// Minutes and seconds.
fn clock(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

/// Regions of every kind in `map` at the default threshold, ascending, for reports.
pub fn report_regions(map: &DamageMap) -> Vec<Region> {
    /// Gaps shorter than this are bridged: 200 ms.
    const MAX_GAP_FRAMES: usize = 20;
    let mut regions: Vec<Region> = DamageKind::ALL
        .into_iter()
        .flat_map(|kind| map.regions(kind, DEFAULT_THRESHOLD, MAX_GAP_FRAMES))
        .collect();
    regions.sort_by(|a, b| a.start.total_cmp(&b.start).then(a.kind.cmp(&b.kind)));
    regions
}

pub(super) fn audio_key(stage: &str, version: u32, audio: &AudioBuffer) -> KeyBuilder {
    let key = KeyBuilder::new(stage, version).u64(audio.sample_rate.into());
    audio
        .channels
        .iter()
        .fold(key, |key, channel| key.samples(channel))
}

/// The `N` buffers under `key`, or those that `build` makes.
pub(super) fn cached_audio<const N: usize, E>(
    cache: Option<&Cache>,
    key: &Key,
    build: impl FnOnce() -> Result<[AudioBuffer; N], E>,
) -> Result<[AudioBuffer; N], E> {
    if let Some(bytes) = cache.and_then(|c| c.get(key))
        && let Some(buffers) = decode_all(&bytes)
        && let Ok(buffers) = buffers.try_into()
    {
        return Ok(buffers);
    }
    let buffers = build()?;
    if let Some(cache) = cache {
        // A cache that can't be written costs time, never a result.
        let _ = cache.put(key, &encode_all(&buffers));
    }
    Ok(buffers)
}

/// Buffers one after the other, each with its length in bytes before it.
pub(super) fn encode_all(buffers: &[AudioBuffer]) -> Vec<u8> {
    let mut out = Vec::new();
    append_all(buffers, &mut out);
    out
}

fn append_all(buffers: &[AudioBuffer], out: &mut Vec<u8>) {
    for buffer in buffers {
        let start = out.len();
        out.extend_from_slice(&[0; 8]);
        cache::append_audio(buffer, out);
        let len = (out.len() - start - 8) as u64;
        out[start..start + 8].copy_from_slice(&len.to_le_bytes());
    }
}

/// The buffers that [`encode_all`] wrote, however many.
pub(super) fn decode_all(mut bytes: &[u8]) -> Option<Vec<AudioBuffer>> {
    let mut buffers = Vec::new();
    while !bytes.is_empty() {
        let (head, rest) = bytes.split_first_chunk::<8>()?;
        let len = usize::try_from(u64::from_le_bytes(*head)).ok()?;
        let (body, rest) = rest.split_at_checked(len)?;
        buffers.push(cache::decode_audio(body).ok()?);
        bytes = rest;
    }
    Some(buffers)
}

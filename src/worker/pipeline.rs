// [worker] The whole road from a take to what a patch holds. Read [`run`] top to bottom.

use crate::{
    audio::AudioBuffer,
    cache::{self, Cache, Key, KeyBuilder},
    damage::{DEFAULT_THRESHOLD, DamageKind, DamageMap, Region, Stem},
    metrics,
    profile::{self, MusicalProfile, quality},
    regeneration::{Request, blend},
    separation::{SeparationError, Stems},
    worker::{
        options::{Options, Quality, RegeneratorChoice},
        progress::{Progress, Step},
        regenerate, restore, segments, separate,
        view::{Findings, StemFindings},
    },
};

pub use separate::Separation;

/// Versions of the stages that have no id of their own: raise one when the stage's output changes.
const RESTORE_VERSION: u32 = 2;
const PROFILE_VERSION: u32 = 1;

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
}

#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    #[error("cancelled")]
    Cancelled,
    #[error("{actual} channels can't be analysed: use mono or stereo audio")]
    Channels { actual: usize },
    #[error("the drums and bass can't be rebuilt: {0}")]
    Regeneration(String),
}

impl From<SeparationError> for PipelineError {
    fn from(error: SeparationError) -> Self {
        match error {
            SeparationError::Cancelled => Self::Cancelled,
            // The model-free separator never says this.
            #[cfg(feature = "ml")]
            SeparationError::Model(_) => Self::Cancelled,
        }
    }
}

/// Runs every stage on `take` (1 or 2 channels). Results of the slow ones are kept in `cache`, so that a
/// change of a late option runs late stages only; without a cache everything runs.
///
/// # Errors
/// If `progress` was cancelled, or the take has no or more than two channels.
pub fn run(
    take: &AudioBuffer,
    options: &Options,
    cache: Option<&Cache>,
    progress: &Progress,
) -> Result<Outcome, PipelineError> {
    let (base, separation) =
        restored_and_separated(take, options, cache, &progress.part(0.0, 0.60))?;
    let stems = separation.stems;

    progress.set(Step::Assessing, 0.60);
    let damage = metrics::damage::damage_map(take);
    let stem_damage = quality::assess_stems(&base, &stems, &damage);
    check(progress)?;

    progress.set(Step::Profiling, 0.65);
    let profile = profiled(
        &base,
        &stems,
        &separation.id,
        cache,
        &progress.part(0.65, 0.80),
    )?;

    progress.set(Step::Regenerating, 0.80);
    let mut findings = Findings {
        stems: std::array::from_fn(|i| stem_findings(Stem::ALL[i], &stem_damage[i])),
        damage,
        profile,
        lines: Vec::new(),
        quality: None,
    };
    let (layers, spared, rebuilders) = rebuilt(
        &base,
        &stems,
        &stem_damage,
        &mut findings,
        options,
        &progress.part(0.80, 0.99),
    )?;
    let who = [separation.lines, rebuilders].concat();
    findings.lines = describe(&findings, spared, who, options);
    progress.report(0.99);
    Ok(Outcome {
        base,
        stems,
        parts: separation.parts,
        layers,
        findings,
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
    let profile = profile::analyse(base, Some(stems), progress).ok_or(PipelineError::Cancelled)?;
    if let (Some(cache), Ok(bytes)) = (cache, cache::encode_value(&profile)) {
        // A cache that can't be written costs time, never a result.
        let _ = cache.put(&key, &bytes);
    }
    Ok(profile)
}

/// Per stem a layer, and how many regions were spared because rebuilding would not have helped; sentences for the
/// user about who rebuilt.
type Rebuilt = (
    [Option<AudioBuffer>; Stem::COUNT],
    [usize; Stem::COUNT],
    Vec<String>,
);

fn rebuilt(
    base: &AudioBuffer,
    stems: &Stems,
    damage: &[DamageMap; Stem::COUNT],
    findings: &mut Findings,
    options: &Options,
    progress: &Progress,
) -> Result<Rebuilt, PipelineError> {
    let mut layers = [const { None }; Stem::COUNT];
    let mut spared = [0; Stem::COUNT];
    // Opened when the first damaged stem is met: a model may be large.
    let mut chosen = None;
    for (i, stem) in REBUILT.into_iter().enumerate() {
        check(progress)?;
        let everywhere = options.regenerator == RegeneratorChoice::Everywhere;
        let regions = if everywhere {
            vec![Region {
                start: 0.0,
                end: base.seconds(),
                kind: DamageKind::Saturation,
                severity: 1.0,
            }]
        } else {
            quality::regions(&damage[stem as usize], &findings.profile.beats)
        };
        if regions.is_empty() || options.regenerator == RegeneratorChoice::Off {
            continue;
        }
        if chosen.is_none() {
            chosen = regenerate::choose(options.regenerator, options.separator);
        }
        let Some(chosen) = &mut chosen else {
            continue;
        };
        let request = Request {
            stem,
            separated: &stems[stem as usize],
            mix: base,
            damage: &damage[stem as usize],
            regions: &regions,
            profile: &findings.profile,
            style: &options.style,
            seed: options.seed,
        };
        let share = 1.0 / REBUILT.len() as f64;
        let progress = progress.part(i as f64 * share, (i + 1) as f64 * share);
        if let Some(stem_audio) = chosen.regenerate(&request, &progress)? {
            let mut layer = blend::layer(&request, &stem_audio);
            if !everywhere {
                spared[stem as usize] = blend::gate::gate(&request, &mut layer);
            }
            if layer.wetness.iter().any(|(_, wetness)| *wetness > 0.0) {
                findings.stems[stem as usize].rebuilt = true;
                layers[stem as usize] = Some(layer.audio);
            }
        }
    }
    Ok((layers, spared, chosen.map_or_else(Vec::new, |c| c.lines)))
}

fn stem_findings(stem: Stem, damage: &DamageMap) -> StemFindings {
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
        reason: quality::summary(stem, damage),
        rebuilt: false,
        damage: damage.clone(),
    }
}

fn describe(
    findings: &Findings,
    spared: [usize; Stem::COUNT],
    separation: Vec<String>,
    options: &Options,
) -> Vec<String> {
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
                100.0 * share,
                clock(worst.map_or(0.0, |r| r.start)),
            ));
        }
    }
    for stem in Stem::ALL {
        let found = &findings.stems[stem as usize];
        if options.regenerator == RegeneratorChoice::Everywhere && found.rebuilt {
            lines.push(format!("{}: rebuilt everywhere, as asked", stem.name()));
            continue;
        }
        // Under half a percent is a frame here and there: the reason says "nothing damaged".
        if found.share >= 0.005 {
            let spared = spared[stem as usize];
            let done = match (found.rebuilt, options.regenerator, REBUILT.contains(&stem)) {
                (true, RegeneratorChoice::Jasco, _) if spared > 0 => {
                    "rebuilt, except where that would not have helped"
                }
                (true, RegeneratorChoice::Jasco, _) => "rebuilt",
                (true, ..) if spared > 0 => {
                    "rebuilt from its own undamaged sound, except where that would not have helped"
                }
                (true, ..) => "rebuilt from its own undamaged sound",
                (false, RegeneratorChoice::Off, _) => "restored only (rebuilding is off)",
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
    lines.extend(separation);
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
    for buffer in buffers {
        let bytes = cache::encode_audio(buffer);
        out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        out.extend_from_slice(&bytes);
    }
    out
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

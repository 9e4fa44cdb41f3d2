// [worker] A whole file at once, through the plugin's own pipeline and chain: what the command line runs.

use std::sync::Arc;

use crate::{
    audio::AudioBuffer,
    cache::Cache,
    damage::Stem,
    exchange::{
        SamplePos,
        capture::capture_ring,
        meters::Meters,
        patch::{Patch, PatchSet, patch_snapshot},
        samples::{self, StereoSamples},
    },
    mastering, metrics,
    realtime::{AudioLink, Chain, Settings, Transport},
    separation::Stems,
    worker::{
        options::Options,
        pipeline::{self, Outcome, PipelineError, check_channels},
        progress::{Progress, Step},
        report::Report,
        restore,
        view::Findings,
    },
};

/// Target of the loudness stage where none is given: the level most streaming services play at.
pub const DEFAULT_LUFS: f32 = -14.0;
/// Its true-peak ceiling in dBTP (EBU R 128).
pub const CEILING_DBTP: f32 = -1.0;

/// Samples a block of the chain.
const BLOCK: usize = 4096;

/// A restored file.
pub struct Restored {
    /// The result, at the input's rate and channels.
    pub audio: AudioBuffer,
    /// The separated stems with their rebuilt layers, before tone and room; `None` where only stages ran
    /// that need no stems. By name, they sum to the restored mix with what was rebuilt: four, and those that the
    /// separator could tell from `other`.
    pub stems: Option<Vec<(String, AudioBuffer)>>,
    pub report: Report,
}

/// A single stage, for `--only`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnlyStage {
    Declick,
    Declip,
    Denoise,
    Eq,
    Bass,
    Treble,
    Dereverb,
    Loudness,
    Regenerate,
}

#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    #[error(transparent)]
    Loudness(#[from] mastering::MasteringError),
}

/// Restores `input` (1 or 2 channels). With `only`, just those stages run, each at its full amount with
/// its offline settings, in the order of the road, and nothing else changes the gain; otherwise the pipeline
/// makes a patch and the live chain plays it with `settings`, as the plugin would.
///
/// # Errors
/// If cancelled, or the input has no or more than two channels.
pub fn restore(
    input: &AudioBuffer,
    options: &Options,
    only: Option<&[OnlyStage]>,
    settings: &Settings,
    cache: Option<&Cache>,
    progress: &Progress,
) -> Result<Restored, OfflineError> {
    match only {
        Some(stages) => restore_only(input, options, stages, cache, progress),
        None => restore_all(input, options, settings, cache, progress),
    }
}

/// Everything but the repair itself.
///
/// # Errors
/// As [`restore()`].
pub fn analyse(
    input: &AudioBuffer,
    options: &Options,
    cache: Option<&Cache>,
    progress: &Progress,
) -> Result<Report, OfflineError> {
    let outcome = pipeline::run(input, options, cache, progress)?;
    progress.set(Step::Done, 1.0);
    Ok(Report::new(
        &outcome.findings,
        metrics::quality(input),
        None,
    ))
}

fn restore_all(
    input: &AudioBuffer,
    options: &Options,
    settings: &Settings,
    cache: Option<&Cache>,
    progress: &Progress,
) -> Result<Restored, OfflineError> {
    let outcome = pipeline::run(input, options, cache, &progress.part(0.0, 0.9))?;
    let Outcome {
        base,
        stems,
        parts,
        layers,
        findings,
        ..
    } = outcome;
    let patch = Patch {
        id: String::new(),
        start: SamplePos(0),
        sample_rate: input.sample_rate,
        take: stereo(input),
        base: stereo(&base),
        layers: layers.each_ref().map(|l| l.as_ref().map(stereo)),
    };
    let audio = play(input, patch, settings, progress)?;
    let stems = named(with_layers(stems, &layers), parts);
    let report = Report::new(
        &findings,
        metrics::quality(input),
        Some(metrics::quality(&audio)),
    );
    progress.set(Step::Done, 1.0);
    Ok(Restored {
        audio,
        stems: Some(stems),
        report,
    })
}

/// Plays `input` through a live chain that has `patch`; latency is taken off.
fn play(
    input: &AudioBuffer,
    patch: Patch,
    settings: &Settings,
    progress: &Progress,
) -> Result<AudioBuffer, PipelineError> {
    let (capture, _reader) = capture_ring(1);
    let (mut publisher, patches) = patch_snapshot();
    publisher.publish(PatchSet::new(vec![Arc::new(patch)]));
    let link = AudioLink {
        patches,
        capture,
        meters: Arc::new(Meters::default()),
    };
    let mut chain = Chain::new(f64::from(input.sample_rate), input.channels.len(), link);
    let latency = chain.latency();
    let frames = input.frames();
    let mut channels = input.channels.clone();
    for channel in &mut channels {
        channel.resize(frames + latency, 0.0);
    }
    for start in (0..frames + latency).step_by(BLOCK) {
        if progress.is_cancelled() {
            return Err(PipelineError::Cancelled);
        }
        let end = (start + BLOCK).min(frames + latency);
        let at = Transport {
            pos: Some(SamplePos(start as i64)),
            playing: true,
            capture: false,
        };
        let mut block: Vec<&mut [f32]> = channels.iter_mut().map(|c| &mut c[start..end]).collect();
        chain.process(&mut block, at, settings);
    }
    for channel in &mut channels {
        channel.drain(..latency);
    }
    Ok(AudioBuffer::new(channels, input.sample_rate))
}

fn restore_only(
    input: &AudioBuffer,
    options: &Options,
    stages: &[OnlyStage],
    cache: Option<&Cache>,
    progress: &Progress,
) -> Result<Restored, OfflineError> {
    // Rebuilding needs the road, but not its restoration; nothing else needs the road at all.
    let outcome = if stages.contains(&OnlyStage::Regenerate) {
        let options = Options {
            declick_percent: 0,
            declip_percent: 0,
            denoise_percent: 0,
            ..options.clone()
        };
        let progress = progress.part(0.0, 0.5);
        Some(pipeline::run(input, &options, cache, &progress)?)
    } else {
        check_channels(input)?;
        None
    };
    let mut audio = input.clone();
    let rate = f64::from(audio.sample_rate);
    // Overflow looks like clicks: it goes first.
    if stages.contains(&OnlyStage::Declip)
        && !(restore::undo::restore_overflow(&mut audio.channels, rate, 1.0, progress)
            && restore::undo::restore_saturation(&mut audio.channels, rate, 1.0, progress))
    {
        return Err(PipelineError::Cancelled.into());
    }
    // The order of the road, whatever the order on the command line.
    const ORDER: [OnlyStage; 9] = [
        OnlyStage::Declick,
        OnlyStage::Declip,
        OnlyStage::Denoise,
        OnlyStage::Regenerate,
        OnlyStage::Bass,
        OnlyStage::Treble,
        OnlyStage::Eq,
        OnlyStage::Dereverb,
        OnlyStage::Loudness,
    ];
    for stage in ORDER.into_iter().filter(|s| stages.contains(s)) {
        let channels = &mut audio.channels;
        let progress = progress.part(0.5, 0.9);
        let done = match stage {
            OnlyStage::Declick => restore::declick::restore(channels, rate, 1.0, &progress),
            OnlyStage::Declip => restore::declip::restore(channels, rate, 1.0, &progress),
            OnlyStage::Denoise => restore::denoise::restore(channels, rate, 1.0, &progress),
            OnlyStage::Bass => restore::bandwidth::restore_bass(channels, rate, 1.0, &progress),
            OnlyStage::Treble => restore::bandwidth::restore_treble(channels, rate, 1.0, &progress),
            OnlyStage::Eq => restore::eq::restore(channels, rate, 1.0, &progress),
            OnlyStage::Dereverb => restore::dereverb::restore(channels, rate, 1.0, 1.0, &progress),
            OnlyStage::Regenerate => {
                for layer in outcome.iter().flat_map(|o| o.layers.iter().flatten()) {
                    add(&mut audio, layer);
                }
                true
            }
            OnlyStage::Loudness => {
                mastering::loudness_normalised(&mut audio, DEFAULT_LUFS, CEILING_DBTP)?;
                true
            }
        };
        if !done {
            return Err(PipelineError::Cancelled.into());
        }
    }
    let (findings, stems) = match outcome {
        Some(outcome) => (
            outcome.findings,
            Some(named(
                with_layers(outcome.stems, &outcome.layers),
                outcome.parts,
            )),
        ),
        None => {
            let findings = Findings {
                damage: metrics::damage::damage_map(input),
                ..Findings::default()
            };
            (findings, None)
        }
    };
    let report = Report::new(
        &findings,
        metrics::quality(input),
        Some(metrics::quality(&audio)),
    );
    progress.set(Step::Done, 1.0);
    Ok(Restored {
        audio,
        stems,
        report,
    })
}

fn with_layers(mut stems: Stems, layers: &[Option<AudioBuffer>; Stem::COUNT]) -> Stems {
    for (stem, layer) in stems.iter_mut().zip(layers) {
        if let Some(layer) = layer {
            add(stem, layer);
        }
    }
    stems
}

/// All stems by name; `other` without those that stand beside it.
fn named(mut stems: Stems, parts: Vec<(String, AudioBuffer)>) -> Vec<(String, AudioBuffer)> {
    let other = &mut stems[Stem::Other as usize];
    for (_, part) in &parts {
        for (channel, part) in other.channels.iter_mut().zip(&part.channels) {
            for (x, p) in channel.iter_mut().zip(part) {
                *x -= p;
            }
        }
    }
    let names = Stem::ALL.iter().map(|stem| stem.name().to_owned());
    names.zip(stems).chain(parts).collect()
}

fn add(audio: &mut AudioBuffer, layer: &AudioBuffer) {
    for (channel, layer) in audio.channels.iter_mut().zip(&layer.channels) {
        for (x, l) in channel.iter_mut().zip(layer) {
            *x += l;
        }
    }
}

fn stereo(audio: &AudioBuffer) -> StereoSamples {
    let left = audio.channels.first().map_or(&[][..], Vec::as_slice);
    let right = audio.channels.get(1).map_or(left, Vec::as_slice);
    samples::stereo(SamplePos(0), [left, right], &[])
}

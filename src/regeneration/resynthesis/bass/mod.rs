// [worker] Bass rebuilt: notes tracked through the damage, played by a harmonic synthesizer, fused.

mod pitch;
mod tone;

use super::{
    Random, Scene, Span, Spectra, check,
    filter::zero_phase,
    fuse::{Evidence, fuse},
    overdrive::Overdrive,
};
use crate::{
    regeneration::{RegenerationError, Request},
    worker::progress::Progress,
};
use pitch::{Pitches, Played};
use tone::{Model, Synth};

/// A note is learned from if it is damaged less than this.
const DONOR_SEVERITY: f32 = 0.3;
/// Notes that are learned from: enough for every register a bassist uses in a song.
const MOST_DONORS: usize = 32;

/// Rebuilds the bass inside the scene's spans; `None` if there is no note to play.
pub(super) fn rebuild(
    scene: &Scene,
    request: &Request<'_>,
    progress: &Progress,
) -> Result<Option<Vec<f32>>, RegenerationError> {
    if scene.spans.is_empty() {
        return Ok(None);
    }
    let pitches = Pitches::new(scene);
    check(progress)?;
    let notes = pitches.notes(scene, &request.profile.bass_notes);
    if notes.is_empty() {
        return Ok(None);
    }
    check(progress)?;
    // What a harmonic synthesizer plays; above it everything is noise.
    let top = tone::top_hz(scene.rate);
    let low = zero_phase(&scene.x, scene.rate, 1.2 * top, false);
    let mut models = learn(scene, &low, &notes, progress)?;
    if models.is_empty() {
        models = vec![Model::finger()];
    }
    let mut spectra = Spectra::new(scene.rate);
    let mut random = Random(request.seed ^ 0x6261_7373_2121);
    let mut out = vec![0.0; scene.x.len()];
    let mut any = false;
    for &span in &scene.spans {
        check(progress)?;
        let drive = Overdrive::measure(scene, span);
        let pad = spectra.n as i64;
        let (start, end) = (span.start as i64 - pad, span.end as i64 + pad);
        let damaged = scene.cut(start, end);
        let mut synth = Synth::new(scene.rate, start, damaged.len());
        let mut played = false;
        for note in notes
            .iter()
            .filter(|n| n.end > start as f64 && n.start < end as f64)
        {
            check(progress)?;
            played |= synth.play(scene, &low, note, &models, &mut random);
        }
        if !played {
            out[span.start..span.end].copy_from_slice(&scene.x[span.start..span.end]);
            continue;
        }
        any = true;
        synth.level(&damaged, drive, &|n| scene.hurt(start + n as i64));
        let fused = fuse(
            &mut spectra,
            &Evidence {
                damaged: &damaged,
                rebuilt: &synth.audio,
                doubt: &synth.doubt,
                hurt: &|n| scene.hurt(start + n as i64),
                drive,
                blame: blame(drive, models[0].built_in),
                rate: scene.rate,
            },
        );
        let Span {
            start: from,
            end: to,
        } = span;
        let skip = (from as i64 - start) as usize;
        out[from..to].copy_from_slice(&fused[skip..skip + (to - from)]);
    }
    Ok(any.then_some(out))
}

/// What is neither the line's tone nor the modelled overload: a stem that still shows the level at which it was cut
/// was cut by itself, so that it is damage (the built-in tone has no noise of its own and leaves the stem's). Else the
/// stem was taken out of a mix, and most of it is other instruments, which the mix must not lose.
fn blame(drive: Overdrive, built_in: bool) -> f32 {
    match (drive, built_in) {
        (Overdrive::Hard(_), false) => 0.98,
        (Overdrive::Hard(_), true) => 0.8,
        _ => 0.3,
    }
}

/// Learns the cleanest notes' tones.
fn learn(
    scene: &Scene,
    low: &[f32],
    notes: &[Played],
    progress: &Progress,
) -> Result<Vec<Model>, RegenerationError> {
    let mut ranked: Vec<(f32, usize)> = notes
        .iter()
        .enumerate()
        .filter(|(_, n)| n.end - n.start > 0.08 * scene.rate)
        .map(|(i, n)| (scene.severity_over(n.start, n.end), i))
        .filter(|(severity, _)| *severity < DONOR_SEVERITY)
        .map(|(severity, i)| {
            // A long note teaches more: how its harmonics decay.
            let seconds = ((notes[i].end - notes[i].start) / scene.rate).min(1.0) as f32;
            (severity - 0.2 * seconds, i)
        })
        .collect();
    ranked.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    ranked.truncate(MOST_DONORS);
    let mut models = Vec::with_capacity(ranked.len());
    for (_, i) in ranked {
        check(progress)?;
        models.extend(Model::learn(scene, low, &notes[i]));
    }
    Ok(models)
}

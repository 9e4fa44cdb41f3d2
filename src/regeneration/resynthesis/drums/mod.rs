// [worker] Drums rebuilt: the recording's own hits, found, learned, re-triggered and fused.

mod fit;
mod hits;
mod kit;
mod learn;

use super::{
    Random, Scene, Span, Spectra, check,
    fuse::{Evidence, fuse, mend},
    overdrive::Overdrive,
};
use crate::{
    profile::DrumClass,
    regeneration::{RegenerationError, Request},
    worker::progress::Progress,
};

/// A hit on its way from the profile to its sound.
#[derive(Clone, Copy, Debug)]
struct Hit {
    /// Sample of the onset, fractional.
    at: f64,
    class: DrumClass,
    /// The profile's velocity, 0..=1.
    velocity: f32,
}

/// A one-shot: the sound of one hit.
struct Voice {
    /// Starts `pre` samples before the onset.
    audio: Vec<f32>,
    /// The expected error of using this voice for another hit of the class.
    doubt: Vec<f32>,
    pre: usize,
    /// The profile's velocity of the hit it was taken from.
    velocity: f32,
}

/// Rebuilds the drums inside the scene's spans; `None` if there is no hit to play.
pub(super) fn rebuild(
    scene: &Scene,
    request: &Request<'_>,
    progress: &Progress,
) -> Result<Option<Vec<f32>>, RegenerationError> {
    if scene.spans.is_empty() {
        return Ok(None);
    }
    let bands = hits::Bands::new(scene);
    check(progress)?;
    let all = hits::find(scene, &bands, &request.profile.drums);
    if all.is_empty() {
        return Ok(None);
    }
    check(progress)?;
    let mut spectra = Spectra::new(scene.rate);
    let mut random = Random(request.seed ^ 0x6472_756d_7321);
    let mut voices = learn::learn(scene, &bands, &mut spectra, &all, progress)?;
    drop(bands);
    for class in DrumClass::ALL {
        let own = &mut voices[class as usize];
        if own.is_empty() && all.iter().any(|h| h.class == class) {
            *own = kit::make(scene, &mut spectra, &all, class, &mut random);
        }
    }
    let mut out = vec![0.0; scene.x.len()];
    let mut any = false;
    for &span in &scene.spans {
        check(progress)?;
        let drive = Overdrive::measure(scene, span);
        let stage = fit::Stage::new(scene, span, &all, &voices);
        if stage.played.is_empty() {
            // Nothing is played here: what is there is not drums, and stays.
            out[span.start..span.end].copy_from_slice(&scene.x[span.start..span.end]);
            continue;
        }
        any = true;
        let stage = stage.fit(scene, drive, &mut random, progress)?;
        let (rebuilt, doubt) = (stage.render(false), stage.render(true));
        let evidence = Evidence {
            damaged: &stage.damaged,
            rebuilt: &rebuilt,
            doubt: &doubt,
            hurt: &|n| scene.hurt(stage.start + n as i64),
            drive,
            // It may be a hit that nobody transcribed, or another instrument, which the mix must not lose.
            blame: 0.0,
            rate: scene.rate,
        };
        let fused = mend(&evidence).unwrap_or_else(|| fuse(&mut spectra, &evidence));
        let Span { start, end } = span;
        let skip = (start as i64 - stage.start) as usize;
        out[start..end].copy_from_slice(&fused[skip..skip + (end - start)]);
    }
    Ok(any.then_some(out))
}

/// Seconds of sound a hit may have, onset to end of the tail.
fn length_seconds(class: DrumClass) -> f64 {
    match class {
        DrumClass::HihatClosed => 0.25,
        DrumClass::Kick => 0.5,
        DrumClass::Snare => 0.6,
        DrumClass::HihatOpen | DrumClass::Tom => 0.8,
        DrumClass::Ride => 1.2,
        DrumClass::Crash => 1.8,
    }
}

/// Which of the three bands of [`hits::Bands`] tells most about a class.
fn band_of(class: DrumClass) -> usize {
    match class {
        DrumClass::Kick => 0,
        DrumClass::Snare | DrumClass::Tom => 1,
        DrumClass::HihatClosed | DrumClass::HihatOpen | DrumClass::Crash | DrumClass::Ride => 2,
    }
}

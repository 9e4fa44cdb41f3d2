// [worker] Model-free separation: harmonic/percussive medians, pitch lines, repetition, soft masks.
//!
//! Drums are what is broad and short (Fitzgerald, "Harmonic/percussive separation using median
//! filtering", DAFx 2010), bass the lowest pitch line, vocals the strongest line above it that does not
//! repeat (REPET-SIM), `other` the rest. Every bin's masks sum to one, and `other` is computed as the mix
//! minus the three, so that stems sum to the mix.

mod hits;
mod median;
mod pitch;
mod repeat;

use crate::{
    audio::AudioBuffer,
    damage::Stem,
    separation::{
        SeparationError, Separator, Stems, in_pieces,
        stft::{Plane, Stft},
    },
    worker::progress::Progress,
};
use pitch::Register;

/// Half the median window along time: longer than a hit's ring, shorter than most notes.
const HALF_TIME_S: f32 = 0.18;
/// Half the median window along frequency: wider than partials lie apart in the middle register.
const HALF_FREQUENCY_HZ: f32 = 120.0;
/// Below this a window's main lobe is as wide as a kick: being broad says nothing, being short does.
const LOW_END_HZ: f32 = 200.0;
/// Where a bass's partials have fallen to half.
const BASS_REACH_HZ: f32 = 300.0;
/// Below this nothing lives but drums and bass.
const BOTTOM_HZ: f32 = 130.0;
/// Below this no voice has anything.
const VOICE_HZ: f32 = 120.0;
/// What of a bin is the voice's: for lying on the lead line, and for not repeating.
const LINE_SHARE: f32 = 0.75;
const NEWS_SHARE: f32 = 0.35;

/// The model-free separator.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spectral;

impl Separator for Spectral {
    fn id(&self) -> &str {
        "spectral-1"
    }

    fn separate(&self, mix: &AudioBuffer, progress: &Progress) -> Result<Stems, SeparationError> {
        in_pieces(mix, |piece| {
            separate_piece(piece, mix.sample_rate, progress).ok_or(SeparationError::Cancelled)
        })
    }
}

/// Drums, bass, (nothing), vocals of a piece; `other` is left to the caller. `None` if cancelled.
pub(super) fn separate_piece(
    mix: &[Vec<f32>],
    rate: u32,
    progress: &Progress,
) -> Option<[Vec<Vec<f32>>; Stem::COUNT]> {
    let len = mix.first().map_or(0, Vec::len);
    let go_on = || !progress.is_cancelled();
    // 93 ms at 44.1 kHz.
    let size = ((f64::from(rate) * 0.0929) as usize)
        .next_power_of_two()
        .clamp(64, 32_768);
    let stft = Stft::new(size);
    // Hits are in the middle: what was found in the mean of the channels is taken from each of them.
    let mono = AudioBuffer::new(mix.to_vec(), rate).mono();
    let hits = hits::recurring(&mono, rate, &go_on)?;
    let rest: Vec<Vec<f32>> = mix
        .iter()
        .map(|c| c.iter().zip(&hits).map(|(x, h)| x - h).collect())
        .collect();
    let spectra: Vec<_> = rest.iter().map(|c| stft.analyse(c)).collect();
    if !go_on() {
        return None;
    }
    let mut magnitude = Plane::<f32>::new(stft.frames(len), stft.bins());
    for s in &spectra {
        for (m, x) in magnitude.data.iter_mut().zip(&s.data) {
            *m += x.norm_sqr() / spectra.len() as f32;
        }
    }
    magnitude.data.iter_mut().for_each(|m| *m = m.sqrt());
    let masks = masks(
        &magnitude,
        rate as f32 / size as f32,
        rate as f32 / stft.hop as f32,
        &go_on,
    )?;
    let mut out: [Vec<Vec<f32>>; Stem::COUNT] = Default::default();
    for (stem, mask) in [Stem::Drums, Stem::Bass, Stem::Vocals]
        .into_iter()
        .zip(&masks)
    {
        for s in &spectra {
            if !go_on() {
                return None;
            }
            out[stem as usize].push(stft.synthesise(s, mask, len));
        }
    }
    for channel in &mut out[Stem::Drums as usize] {
        for (d, h) in channel.iter_mut().zip(&hits) {
            *d += h;
        }
    }
    Some(out)
}

/// Masks of drums, bass and vocals, each 0..=1; their sum is at most one and `other` has the rest.
fn masks(
    magnitude: &Plane<f32>,
    bin_hz: f32,
    frame_hz: f32,
    go_on: &dyn Fn() -> bool,
) -> Option<[Plane<f32>; 3]> {
    let half_time = (HALF_TIME_S * frame_hz).round().max(1.0) as usize;
    let half_freq = (HALF_FREQUENCY_HZ / bin_hz).round().max(1.0) as usize;
    let harmonic = median::along_time(magnitude, half_time);
    if !go_on() {
        return None;
    }
    let percussive = median::along_frequency(magnitude, half_freq);
    if !go_on() {
        return None;
    }
    let tonal = {
        let mut tonal = Plane::new(magnitude.frames, magnitude.bins);
        for (i, t) in tonal.data.iter_mut().enumerate() {
            let (h, p) = (harmonic.data[i].powi(2), percussive.data[i].powi(2));
            *t = magnitude.data[i] * h / (h + p + 1e-20);
        }
        tonal
    };
    let bass_line = pitch::track(
        magnitude,
        bin_hz,
        Register {
            lowest_hz: 30.0,
            highest_hz: 260.0,
            harmonics: 6,
            decay: 0.8,
            voicing: 0.25,
            leap: 0.6,
        },
    );
    if !go_on() {
        return None;
    }
    let background = repeat::background(magnitude, (0.8 * frame_hz) as usize, go_on)?;
    // Above the bass, and only what does not repeat.
    let mut lead = tonal.clone();
    let mut model = vec![0.0f32; magnitude.bins];
    for (t, &bass_hz) in bass_line.iter().enumerate() {
        comb(&mut model, bass_hz, bin_hz, 8);
        for (k, l) in lead.row_mut(t).iter_mut().enumerate() {
            let i = t * magnitude.bins + k;
            let hz = k as f32 * bin_hz;
            let news = 1.0 - background.data[i] / (magnitude.data[i] + 1e-20);
            let low = model[k] * (300.0 / hz.max(1.0)).powi(2).min(1.0);
            *l *= (0.3 + 0.7 * news) * (1.0 - low);
        }
    }
    let lead_line = pitch::track(
        &lead,
        bin_hz,
        Register {
            lowest_hz: 110.0,
            highest_hz: 900.0,
            harmonics: 10,
            decay: 0.85,
            voicing: 0.35,
            leap: 0.6,
        },
    );
    let mut out: [Plane<f32>; 3] =
        std::array::from_fn(|_| Plane::new(magnitude.frames, magnitude.bins));
    let mut lead_model = vec![0.0f32; magnitude.bins];
    for (t, (&bass_hz, &lead_hz)) in bass_line.iter().zip(&lead_line).enumerate() {
        comb(&mut model, bass_hz, bin_hz, 12);
        comb(&mut lead_model, lead_hz, bin_hz, 30);
        for k in 0..magnitude.bins {
            let i = t * magnitude.bins + k;
            let hz = k as f32 * bin_hz;
            let v = magnitude.data[i];
            if v <= 0.0 {
                continue;
            }
            let (h, p) = (harmonic.data[i], percussive.data[i]);
            // Where a bin is wider than what parts its neighbours, broad says nothing: there only short counts.
            let low_end = 1.0 / (1.0 + (hz / LOW_END_HZ).powi(4));
            let excess = (v - h).max(0.0);
            let broad = p * p / (h * h + p * p + 1e-20);
            let short = excess * excess / (excess * excess + h * h + 1e-20);
            let drum_share = broad + (short - broad) * low_end;
            let pitched = 1.0 - drum_share;
            // A bass's partials fall off: all of the line's fundamental is its own, less of what is higher.
            let bass_reach = 1.0 / (1.0 + (hz / BASS_REACH_HZ).powi(4));
            // Nothing but drums and bass lives at the bottom.
            let bottom = 1.0 / (1.0 + (hz / BOTTOM_HZ).powi(6));
            let bass = (model[k] * bass_reach).max(bottom) * pitched;
            let news = 1.0 - background.data[i] / v;
            let vocal_low = 1.0 / (1.0 + (VOICE_HZ / hz.max(1.0)).powi(6));
            let vocal = (pitched - bass).max(0.0)
                * vocal_low
                * (LINE_SHARE * lead_model[k] + NEWS_SHARE * news).min(1.0);
            out[0].data[i] = drum_share;
            out[1].data[i] = bass;
            out[2].data[i] = vocal;
        }
    }
    Some(out)
}

/// 1 on the partials of `pitch_hz`, falling to 0 within a window's main lobe; all 0 for pitch 0.
fn comb(model: &mut [f32], pitch_hz: f32, bin_hz: f32, partials: usize) {
    model.fill(0.0);
    if pitch_hz <= 0.0 {
        return;
    }
    for h in 1..=partials {
        let centre = pitch_hz * h as f32 / bin_hz;
        // The main lobe of a Hann window is two bins to each side; high partials move more.
        let width = 2.0 + 0.012 * centre;
        let low = (centre - width).ceil().max(0.0) as usize;
        let high = (centre + width).floor() as usize;
        for (k, m) in model.iter_mut().enumerate().take(high + 1).skip(low) {
            let off = ((k as f32 - centre) / width).abs();
            *m = m.max((1.4 * (1.0 - off * off)).clamp(0.0, 1.0));
        }
    }
}

// [worker] A small network of our own: masks for bands of the spectrum, learnt from generated songs.
//!
//! Band powers of the mix go in, four masks that sum to one come out. The network knows sounds, but forgets what
//! has gone before two seconds ago; the [spectral separator](super::spectral) knows no sound, but what repeats
//! over half a minute and where lines lie between two bands. They err in different places, so that the mean of
//! their stems is better than either. `other` is the mix minus the three others. What the network learnt from,
//! and how well both do on what it never heard, stands in `models/README.md`.

mod net;

use std::sync::OnceLock;

use crate::{
    audio::AudioBuffer,
    damage::Stem,
    dense::weights::WeightsError,
    separation::{
        SeparationError, Separator, Stems, in_pieces, rest_into_other, spectral,
        stft::{Plane, Stft},
    },
    worker::progress::Progress,
};
use net::{BANDS, Net};

/// Window at 44.1 kHz, and the step in which other rates' windows come near the same 92.9 ms.
const SIZE: f64 = 4096.0;
const RATE: f64 = 44_100.0;
const SIZE_STEP: f64 = 64.0;
/// The network's share in the stems; the rest is the spectral separator's. Of a tenth to all, this one gained most on
/// the stem that gained least, on generated songs that were held back.
const SHARE: f32 = 0.6;

/// The learned separator.
#[derive(Clone, Copy)]
pub struct Learned(&'static Net);

impl Learned {
    /// The network inside the binary.
    ///
    /// # Errors
    /// If its weights are damaged.
    pub fn built_in() -> Result<Self, WeightsError> {
        static NET: OnceLock<Result<Net, WeightsError>> = OnceLock::new();
        NET.get_or_init(|| Net::read(include_bytes!("learned/weights.bin")))
            .as_ref()
            .map(Self)
            .map_err(|e| *e)
    }

    /// Mono stems of a mix whose stems by [`spectral`] are known: as [`Self::separate`] makes them of a mono mix, without
    /// separating twice.
    ///
    /// `spectral`: of the mix's length and rate. Takes 20 bytes a frame.
    ///
    /// # Errors
    /// If cancelled, or if the network's answer is not finite.
    pub fn beside(
        &self,
        mix: &AudioBuffer,
        spectral: &Stems,
        progress: &Progress,
    ) -> Result<Stems, SeparationError> {
        let mono = |audio: &AudioBuffer| AudioBuffer::new(vec![audio.mono()], audio.sample_rate);
        let mix = mono(mix);
        let mut stems = in_pieces(&mix, |piece| {
            masked(self.0, piece, mix.sample_rate, progress)
        })?;
        for stem in [Stem::Drums, Stem::Bass, Stem::Vocals].map(|s| s as usize) {
            let other = spectral[stem].mono();
            let pairs = stems[stem].channels[0].iter_mut().zip(other);
            pairs.for_each(|(x, y)| *x = SHARE * *x + (1.0 - SHARE) * y);
        }
        rest_into_other(&mix, &mut stems);
        Ok(stems)
    }
}

impl Separator for Learned {
    /// Follows from the spectral separator too: raised with that one's.
    fn id(&self) -> &str {
        "learned-1"
    }

    /// # Errors
    /// If cancelled, or if the network's answer is not finite.
    fn separate(&self, mix: &AudioBuffer, progress: &Progress) -> Result<Stems, SeparationError> {
        in_pieces(mix, |piece| {
            separate_piece(self.0, piece, mix.sample_rate, progress)
        })
    }
}

/// Drums, bass, (nothing), vocals of a piece.
fn separate_piece(
    net: &Net,
    mix: &[Vec<f32>],
    rate: u32,
    progress: &Progress,
) -> Result<[Vec<Vec<f32>>; Stem::COUNT], SeparationError> {
    let mut stems = masked(net, mix, rate, progress)?;
    let others = spectral::separate_piece(mix, rate, progress).ok_or(SeparationError::Cancelled)?;
    let channels = stems.iter_mut().flatten().zip(others.iter().flatten());
    for (x, y) in channels.flat_map(|(a, b)| a.iter_mut().zip(b)) {
        *x = SHARE * *x + (1.0 - SHARE) * y;
    }
    Ok(stems)
}

/// The network's own opinion of drums, bass, (nothing), vocals.
fn masked(
    net: &Net,
    mix: &[Vec<f32>],
    rate: u32,
    progress: &Progress,
) -> Result<[Vec<Vec<f32>>; Stem::COUNT], SeparationError> {
    let go_on = || !progress.is_cancelled();
    let len = mix.first().map_or(0, Vec::len);
    // Bins lie as far apart as at 44.1 kHz, so that a bin's number says its frequency.
    let size = (f64::from(rate) * SIZE / RATE / SIZE_STEP).round() * SIZE_STEP;
    let stft = Stft::new(size.clamp(SIZE_STEP, 8.0 * SIZE) as usize);
    let spectra: Vec<_> = mix.iter().map(|c| stft.analyse(c)).collect();
    if !go_on() {
        return Err(SeparationError::Cancelled);
    }
    let mut powers = Plane::new(stft.frames(len), BANDS);
    for spectrum in &spectra {
        for t in 0..powers.frames {
            for (band, power) in powers.row_mut(t).iter_mut().enumerate() {
                let bins = net.bins(band, stft.bins());
                let sum: f32 = spectrum.row(t)[bins].iter().map(|x| x.norm_sqr()).sum();
                *power += sum / spectra.len() as f32;
            }
        }
    }
    to_features(&mut powers);
    let masks = net
        .masks(&powers, &go_on)
        .ok_or(SeparationError::Cancelled)?;
    if !masks.iter().all(|m| m.is_finite()) {
        return Err(SeparationError::NotFinite);
    }
    let mut out: [Vec<Vec<f32>>; Stem::COUNT] = Default::default();
    let mut mask = Plane::new(powers.frames, stft.bins());
    for stem in [Stem::Drums, Stem::Bass, Stem::Vocals].map(|s| s as usize) {
        for t in 0..powers.frames {
            for band in 0..BANDS {
                let share = masks[(t * BANDS + band) * Stem::COUNT + stem];
                mask.row_mut(t)[net.bins(band, stft.bins())].fill(share);
            }
        }
        for spectrum in &spectra {
            if !go_on() {
                return Err(SeparationError::Cancelled);
            }
            out[stem].push(stft.synthesise(spectrum, &mask, len));
        }
    }
    Ok(out)
}

/// Powers to their logarithm relative to the mean frame's, in the range that training saw.
fn to_features(powers: &mut Plane<f32>) {
    let sum: f64 = powers.data.iter().map(|x| f64::from(*x)).sum();
    let scale = powers.frames as f64 / (sum + 1e-20);
    for x in &mut powers.data {
        *x = 0.5 * ((f64::from(*x) * scale) as f32 + 1e-8).log10() + 2.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_no_number_is_refused() {
        let mut bytes = include_bytes!("learned/weights.bin").to_vec();
        let last = bytes.len() - 2;
        // The half-precision NaN.
        bytes[last..].copy_from_slice(&0x7E00u16.to_le_bytes());
        let net = Net::read(&bytes).unwrap();
        let piece = [(0..9000).map(|n| (0.05 * n as f32).sin()).collect()];
        let refused = masked(&net, &piece, 44_100, &Progress::new());
        assert!(matches!(refused, Err(SeparationError::NotFinite)));
    }

    #[test]
    fn beside_known_stems_it_gives_what_it_gives_alone() {
        // A kick every half second, a bass and a voice's overtones.
        let tone = |n: usize, hz: f32| (std::f32::consts::TAU * hz * n as f32 / 22_050.0).sin();
        let sound = (0..3 * 22_050).map(|n| {
            let kick = tone(n, 60.0) * (-((n % 11_025) as f32) / 900.0).exp();
            let voice: f32 = (1..8).map(|h| tone(n, 220.0 * h as f32) / h as f32).sum();
            0.5 * kick + 0.2 * tone(n, 82.0) + 0.1 * voice
        });
        let mix = AudioBuffer::new(vec![sound.collect()], 22_050);
        let learned = Learned::built_in().unwrap();
        let progress = Progress::new();
        let known = spectral::Spectral.separate(&mix, &progress).unwrap();
        let beside = learned.beside(&mix, &known, &progress).unwrap();
        let alone = learned.separate(&mix, &progress).unwrap();
        for (a, b) in beside.iter().zip(&alone) {
            assert!(b.channels[0].iter().any(|x| x.abs() > 1e-3));
            for (a, b) in a.channels[0].iter().zip(&b.channels[0]) {
                assert!((a - b).abs() < 1e-5, "{a} {b}");
            }
        }
    }

    #[test]
    fn the_network_gives_what_its_trainer_gives() {
        // `train.py export` wrote a mix and the stems that the same weights make of it in PyTorch.
        let path = [env!("CARGO_MANIFEST_DIR"), "tests/golden/separation.f32"];
        let bytes = std::fs::read(path.iter().collect::<std::path::PathBuf>()).unwrap();
        let values: Vec<f32> = bytes
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        let rows: Vec<&[f32]> = values.chunks_exact(values.len() / 5).collect();
        let loudest = |x: &[f32]| x.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        let peak = loudest(rows[0]);
        let Learned(net) = Learned::built_in().unwrap();
        let stems = masked(net, &[rows[0].to_vec()], 44_100, &Progress::new()).unwrap();
        for stem in [Stem::Drums, Stem::Bass, Stem::Vocals] {
            let want = rows[1 + stem as usize];
            assert!(loudest(want) > 0.01 * peak, "{} is silent", stem.name());
            for (n, (got, want)) in stems[stem as usize][0].iter().zip(want).enumerate() {
                let off = (got - want).abs() / peak;
                assert!(off < 2e-5, "{} at {n}: {got} {want}", stem.name());
            }
        }
    }
}

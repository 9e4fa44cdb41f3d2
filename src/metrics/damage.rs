// [worker] The damage map of a whole recording, by the live detector.

use super::source::{Source, pieces};
use crate::{
    damage::{DamageKind, DamageMap, Severity},
    realtime::{
        MAX_CHANNELS,
        detect::{DELAY_FRAMES, Detector, FEATURES},
    },
};

/// One [`Severity`] for every started 10 ms, by the same kernel as the live display, its delay
/// compensated. More than two channels are judged two at a time; the worst counts.
pub fn damage_map(audio: &dyn Source) -> DamageMap {
    damage_map_and_features(audio).0
}

/// As [`damage_map`], and for every frame the features that its model of saturation hears, of the first two
/// channels.
pub fn damage_map_and_features(audio: &dyn Source) -> (DamageMap, Vec<[f32; FEATURES]>) {
    let rate = f64::from(audio.sample_rate());
    let frames = (audio.frames() as f64 * 100.0 / rate).ceil() as usize;
    let mut map = DamageMap {
        frames: vec![[0.0; DamageKind::COUNT]; frames],
    };
    let mut heard = vec![[0.0; FEATURES]; frames];
    for first in (0..audio.channels()).step_by(MAX_CHANNELS) {
        let pair = first..(first + MAX_CHANNELS).min(audio.channels());
        let mut detector = Detector::new(rate, pair.len());
        let mut emit = |index: u64, severity: &Severity, features: &[f32; FEATURES]| {
            if first == 0
                && let Some(heard) = heard.get_mut(index as usize)
            {
                *heard = *features;
            }
            if let Some(frame) = map.frames.get_mut(index as usize) {
                for (worst, &s) in frame.iter_mut().zip(severity) {
                    *worst = worst.max(s);
                }
            }
        };
        let read = |start: usize, frames: usize| -> Vec<Vec<f32>> {
            let channel = |c| {
                let mut samples = vec![0.0; frames];
                audio.read(c, start, &mut samples);
                samples
            };
            pair.clone().map(channel).collect()
        };
        let mut hear = |channels: &[Vec<f32>]| {
            let channels: Vec<&[f32]> = channels.iter().map(Vec::as_slice).collect();
            detector.process_with_features(&channels, &mut emit);
        };
        for piece in pieces(audio) {
            hear(&read(piece.start, piece.len()));
        }
        // The last frames are pushed out by the take's own end played backwards: silence there would be a
        // dropout that nobody recorded.
        let length = (rate * 0.01) as usize * (DELAY_FRAMES + 2);
        let there = length.min(audio.frames());
        let mut tails = read(audio.frames() - there, there);
        for tail in &mut tails {
            tail.reverse();
            tail.resize(length, 0.0);
        }
        hear(&tails);
    }
    (map, heard)
}

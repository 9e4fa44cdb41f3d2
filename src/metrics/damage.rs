// [worker] The damage map of a whole recording, by the live detector.

use crate::{
    audio::AudioBuffer,
    damage::{DamageKind, DamageMap, Severity},
    realtime::{
        MAX_CHANNELS,
        detect::{DELAY_FRAMES, Detector, FEATURES},
    },
};

/// One [`Severity`] for every started 10 ms, by the same kernel as the live display, its delay
/// compensated. More than two channels are judged two at a time; the worst counts.
pub fn damage_map(audio: &AudioBuffer) -> DamageMap {
    damage_map_and_features(audio).0
}

/// As [`damage_map`], and for every frame the features that its model of saturation hears, of the first two
/// channels.
pub fn damage_map_and_features(audio: &AudioBuffer) -> (DamageMap, Vec<[f32; FEATURES]>) {
    let rate = f64::from(audio.sample_rate);
    let frames = (audio.frames() as f64 * 100.0 / rate).ceil() as usize;
    let mut map = DamageMap {
        frames: vec![[0.0; DamageKind::COUNT]; frames],
    };
    let mut heard = vec![[0.0; FEATURES]; frames];
    for (first, pair) in audio.channels.chunks(MAX_CHANNELS).enumerate() {
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
        let channels: Vec<&[f32]> = pair.iter().map(Vec::as_slice).collect();
        detector.process_with_features(&channels, &mut emit);
        // The last frames are pushed out by the take's own end played backwards: silence there would be a
        // dropout that nobody recorded.
        let length = (rate * 0.01) as usize * (DELAY_FRAMES + 2);
        let tails: Vec<Vec<f32>> = pair
            .iter()
            .map(|x| {
                let mut tail: Vec<f32> = x.iter().rev().take(length).copied().collect();
                tail.resize(length, 0.0);
                tail
            })
            .collect();
        let tails: Vec<&[f32]> = tails.iter().map(Vec::as_slice).collect();
        detector.process_with_features(&tails, &mut emit);
    }
    (map, heard)
}

//! Writes the damage detector's features for its training: see `models/training/detector/generate.py`.
//!
//! `detector_features LIST OUT`: LIST names one audio file a line; `OUT/<line>.bin` becomes one row of
//! little-endian f32 per 10 ms frame, the features and then the severities.

use std::{error::Error, fs, path::Path};

use uncook::{
    audio::AudioBuffer,
    damage::Severity,
    realtime::detect::{Detector, FEATURES},
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, list, out] = arguments.as_slice() else {
        return Err("usage: detector_features LIST OUT".into());
    };
    fs::create_dir_all(out)?;
    for (line, path) in fs::read_to_string(list)?.lines().enumerate() {
        let audio = AudioBuffer::read(Path::new(path))?;
        let rate = f64::from(audio.sample_rate);
        let frames = (audio.seconds() * 100.0).ceil() as u64;
        let mut rows: Vec<u8> = Vec::new();
        let mut emit = |index: u64, severity: &Severity, features: &[f32; FEATURES]| {
            if index < frames {
                for x in features.iter().chain(severity) {
                    rows.extend(x.to_le_bytes());
                }
            }
        };
        let mut detector = Detector::new(rate, audio.channels.len());
        let channels: Vec<&[f32]> = audio.channels.iter().map(Vec::as_slice).collect();
        detector.process_with_features(&channels, &mut emit);
        let silence = vec![0.0; (rate * 0.05) as usize];
        detector.process_with_features(&vec![silence.as_slice(); channels.len()], &mut emit);
        fs::write(Path::new(out).join(format!("{line}.bin")), rows)?;
    }
    Ok(())
}

// [worker] Writing WAV and FLAC: aside first, then renamed, so that no half-written file is ever seen.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use flac_codec::encode::{FlacSampleWriter, Options};

use super::{AudioBuffer, AudioError};
use crate::system;

/// How samples are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BitDepth {
    /// 16 bit integer, with dither unless every sample is on the 16 bit grid already.
    Int16,
    /// 24 bit integer, rounded.
    Int24,
    /// 32 bit float (WAV only), bit for bit.
    Float32,
}

impl AudioBuffer {
    /// Writes a 32 bit float WAV, whatever the extension: bit for bit what is in memory.
    ///
    /// # Errors
    /// If the folder is not writable, the audio has no channels or does not fit into a WAV (4 GB).
    pub fn write_wav_f32(&self, path: &Path) -> Result<(), AudioError> {
        self.check_writable(path, BitDepth::Float32)?;
        aside(path, |file| self.wav(file, BitDepth::Float32))
    }

    /// Writes a WAV or FLAC, chosen by the extension (`.wav`, `.flac`). Integers clip at full scale.
    ///
    /// # Errors
    /// As [`AudioBuffer::write_wav_f32`]; another extension; float in FLAC.
    pub fn write(&self, path: &Path, depth: BitDepth) -> Result<(), AudioError> {
        self.check_writable(path, depth)?;
        let extension = path
            .extension()
            .and_then(|e| e.to_str())
            .map(str::to_ascii_lowercase);
        match extension.as_deref() {
            Some("wav" | "wave") => aside(path, |file| self.wav(file, depth)),
            Some("flac") if depth == BitDepth::Float32 => Err(AudioError::file(
                path,
                "FLAC stores integers only; choose 16 or 24 bit, or a .wav file",
            )),
            Some("flac") => aside(path, |file| self.flac(file, depth)),
            _ => Err(AudioError::file(
                path,
                "only .wav and .flac can be written; give the file one of these extensions",
            )),
        }
    }

    fn check_writable(&self, path: &Path, depth: BitDepth) -> Result<(), AudioError> {
        if !(1..=super::MAX_CHANNELS).contains(&self.channels.len()) || self.sample_rate == 0 {
            return Err(AudioError::file(
                path,
                format!(
                    "cannot write {} channels at {} Hz; only 1 to {} channels",
                    self.channels.len(),
                    self.sample_rate,
                    super::MAX_CHANNELS
                ),
            ));
        }
        let bytes = match depth {
            BitDepth::Int16 => 2,
            BitDepth::Int24 => 3,
            BitDepth::Float32 => 4,
        };
        let total = self.frames() as u64 * self.channels.len() as u64 * bytes;
        if total > u64::from(u32::MAX) - 4096 {
            return Err(AudioError::file(
                path,
                "the audio is longer than such a file can be (4 GB); write it in parts",
            ));
        }
        Ok(())
    }

    /// Interleaved integers of `bits`, TPDF-dithered to 16 bit (Lipshitz, Wannamaker, Vanderkooy 1992).
    /// The dither is a function of frame and channel, so the same audio gives the same file.
    fn integers(&self, bits: u32) -> Vec<i32> {
        let full = f64::from(1u32 << (bits - 1));
        let on_grid = |x: &f32| {
            let scaled = f64::from(*x) * full;
            scaled == scaled.round()
        };
        let dither = bits == 16 && !self.channels.iter().flatten().all(on_grid);
        let mut out = Vec::with_capacity(self.frames() * self.channels.len());
        for n in 0..self.frames() {
            for (c, channel) in self.channels.iter().enumerate() {
                let mut value = f64::from(channel[n]) * full;
                if dither {
                    value += triangular((n as u64) << 4 | c as u64);
                }
                // `as` takes NaN to 0.
                out.push(value.round().clamp(-full, full - 1.0) as i32);
            }
        }
        out
    }

    fn wav(&self, file: &mut BufWriter<&File>, depth: BitDepth) -> Result<(), String> {
        let (bits_per_sample, sample_format) = match depth {
            BitDepth::Int16 => (16, hound::SampleFormat::Int),
            BitDepth::Int24 => (24, hound::SampleFormat::Int),
            BitDepth::Float32 => (32, hound::SampleFormat::Float),
        };
        let spec = hound::WavSpec {
            channels: self.channels.len() as u16,
            sample_rate: self.sample_rate,
            bits_per_sample,
            sample_format,
        };
        let mut write = || -> Result<(), hound::Error> {
            let mut writer = hound::WavWriter::new(&mut *file, spec)?;
            if depth == BitDepth::Float32 {
                for n in 0..self.frames() {
                    for channel in &self.channels {
                        writer.write_sample(channel[n])?;
                    }
                }
            } else {
                for value in self.integers(u32::from(bits_per_sample)) {
                    writer.write_sample(value)?;
                }
            }
            writer.finalize()
        };
        write().map_err(|e| e.to_string())
    }

    fn flac(&self, file: &mut BufWriter<&File>, depth: BitDepth) -> Result<(), String> {
        let bits = if depth == BitDepth::Int16 { 16 } else { 24 };
        let mut write = || -> Result<(), flac_codec::Error> {
            let mut writer = FlacSampleWriter::new(
                &mut *file,
                Options::default(),
                self.sample_rate,
                bits,
                self.channels.len() as u8,
                None,
            )?;
            writer.write(&self.integers(bits))?;
            writer.finalize()
        };
        write().map_err(|e| e.to_string())
    }
}

/// Triangular noise of ±1 step: the difference of two uniform values from SplitMix64 of `index`.
fn triangular(index: u64) -> f64 {
    let mut z = index.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    (f64::from((z >> 32) as u32) - f64::from(z as u32)) / 4_294_967_296.0
}

/// Deletes the file unless told that it has its final name.
struct Unfinished(Option<PathBuf>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = fs::remove_file(path); // best effort: the error that led here is being reported
        }
    }
}

fn aside(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&File>) -> Result<(), String>,
) -> Result<(), AudioError> {
    let failed = |e: String| AudioError::file(path, format!("cannot write the file: {e}"));
    if path.file_name().is_none() {
        return Err(AudioError::file(
            path,
            "this names no file; give a file name",
        ));
    }
    let aside = system::aside(path);
    let file = File::create(&aside).map_err(|e| failed(e.to_string()))?;
    let mut unfinished = Unfinished(Some(aside.clone()));
    let mut writer = BufWriter::new(&file);
    write(&mut writer).map_err(failed)?;
    writer.flush().map_err(|e| failed(e.to_string()))?;
    drop(writer);
    file.sync_all().map_err(|e| failed(e.to_string()))?;
    drop(file);
    system::replace(&aside, path).map_err(|e| failed(e.to_string()))?;
    unfinished.0 = None;
    Ok(())
}

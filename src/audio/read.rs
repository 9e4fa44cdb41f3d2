// [worker] Reading audio files, all of it or an error that says what to do.

use std::{fs::File, path::Path};

use symphonia::core::{
    codecs::audio::{
        AudioDecoderOptions,
        well_known::{CODEC_ID_MP1, CODEC_ID_MP2, CODEC_ID_MP3},
    },
    errors::Error,
    formats::{FormatOptions, TrackType, probe::Hint},
    io::{MediaSourceStream, MediaSourceStreamOptions},
    meta::MetadataOptions,
};

use super::{AudioBuffer, AudioError, mp4};

/// Most channels a file may have.
pub const MAX_CHANNELS: usize = 8;
/// Lowest sample rate a file may have, Hz.
pub const MIN_SAMPLE_RATE: u32 = 8_000;
/// Highest sample rate a file may have, Hz.
pub const MAX_SAMPLE_RATE: u32 = 192_000;
/// Longest file, seconds.
pub const MAX_SECONDS: u64 = 6 * 3600;

/// An MP3 cut out of a stream starts with packets whose bits lie in the missing ones before (at most
/// 511 bytes of bit reservoir): so many of them are silence instead of an error.
const MP3_LEADING_LOSSES: u32 = 4;

/// What was noticed while reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadReport {
    /// Samples that were NaN or infinite and became 0.
    pub non_finite_samples: u64,
    /// Packets at the start of an MP3 that could not be decoded and became silence.
    pub silenced_packets: u32,
    /// Frames of encoder delay and padding that were trimmed because the container told them
    /// (MP4; what the MP3 and Vorbis decoders trim themselves is not counted).
    pub trimmed_frames: u64,
}

impl AudioBuffer {
    /// Reads a WAV, AIFF, FLAC, MP3, OGG Vorbis, M4A/AAC or ALAC file: planar samples, full scale ±1,
    /// at the file's rate and channels. Encoder delay and padding are trimmed where the file tells them.
    /// Non-finite samples become 0 ([`AudioBuffer::read_with_report`] counts them).
    ///
    /// # Errors
    /// A missing, empty, damaged or shortened file, an unknown format, more than [`MAX_CHANNELS`]
    /// channels, more than [`MAX_SECONDS`], or a rate outside [`MIN_SAMPLE_RATE`]..=[`MAX_SAMPLE_RATE`].
    pub fn read(path: &Path) -> Result<Self, AudioError> {
        Ok(Self::read_with_report(path)?.0)
    }

    /// [`AudioBuffer::read`] with what was noticed on the way.
    pub fn read_with_report(path: &Path) -> Result<(Self, ReadReport), AudioError> {
        let mut report = ReadReport::default();
        let (mut audio, presented) = decode(path, &mut report)?;
        if let Some(presented) = presented {
            trim(&mut audio, presented, &mut report);
        }
        if audio.frames() == 0 {
            return Err(AudioError::file(
                path,
                "the file has no audio in it; record or export it again",
            ));
        }
        for x in audio.channels.iter_mut().flatten() {
            if !x.is_finite() {
                *x = 0.0;
                report.non_finite_samples += 1;
            }
        }
        Ok((audio, report))
    }
}

const DAMAGED: &str = "the file is damaged; export it again, or convert it to WAV with a player that can still play it";

fn decode(
    path: &Path,
    report: &mut ReadReport,
) -> Result<(AudioBuffer, Option<mp4::Presented>), AudioError> {
    let open = |path| {
        File::open(path).map_err(|e| AudioError::file(path, format!("cannot open the file: {e}")))
    };
    let file = open(path)?;
    let metadata = file
        .metadata()
        .map_err(|e| AudioError::file(path, format!("cannot read the file: {e}")))?;
    if metadata.is_dir() {
        return Err(AudioError::file(
            path,
            "this is a folder; name an audio file",
        ));
    }
    if metadata.len() == 0 {
        return Err(AudioError::file(
            path,
            "the file is empty; record or export it again",
        ));
    }
    let mut hint = Hint::new();
    if let Some(extension) = path.extension().and_then(|e| e.to_str()) {
        hint.with_extension(&extension.to_ascii_lowercase());
    }
    let stream = MediaSourceStream::new(Box::new(file), MediaSourceStreamOptions::default());
    let mut format = symphonia::default::get_probe()
        .probe(
            &hint,
            stream,
            FormatOptions::default(),
            MetadataOptions::default(),
        )
        .map_err(|e| match e {
            Error::Unsupported(_) => AudioError::file(
                path,
                "this is no audio file that can be read; use WAV, AIFF, FLAC, MP3, OGG Vorbis or M4A",
            ),
            e => AudioError::file(path, format!("{DAMAGED} ({e})")),
        })?;
    let is_mp4 = format.format_info().short_name == "isomp4";

    let track = format.default_track(TrackType::Audio).ok_or_else(|| {
        AudioError::file(path, "the file has no audio in it; choose another file")
    })?;
    let track_id = track.id;
    let parameters = track
        .codec_params
        .as_ref()
        .and_then(|p| p.audio())
        .ok_or_else(|| AudioError::file(path, DAMAGED))?
        .clone();
    // MP3 lengths are estimates unless a header tells them, and MP4 counts priming: only the rest can
    // prove that a file was cut short.
    let is_mpeg = matches!(parameters.codec, CODEC_ID_MP1 | CODEC_ID_MP2 | CODEC_ID_MP3);
    let promised = track.num_frames.filter(|_| !is_mpeg && !is_mp4);
    if let Some(rate) = parameters.sample_rate {
        check_rate(path, rate)?;
        let frames = track.num_frames.filter(|_| !is_mpeg).unwrap_or(0);
        check_length(path, frames, rate)?;
    }
    if let Some(channels) = &parameters.channels {
        check_channels(path, channels.count())?;
    }
    let mut decoder = symphonia::default::get_codecs()
        .make_audio_decoder(&parameters, &AudioDecoderOptions::default())
        .map_err(|e| {
            AudioError::file(
                path,
                format!("this coding cannot be read ({e}); convert the file to WAV or FLAC"),
            )
        })?;

    let mut channels: Vec<Vec<f32>> = Vec::new();
    let mut scratch: Vec<Vec<f32>> = Vec::new();
    let mut rate = 0;
    let mut leading_silence = 0u64;
    loop {
        let packet = match format.next_packet() {
            Ok(Some(packet)) => packet,
            Ok(None) => break,
            // The end of a file without a length.
            Err(Error::IoError(e)) if e.kind() == std::io::ErrorKind::UnexpectedEof => break,
            Err(Error::ResetRequired) => {
                return Err(AudioError::file(
                    path,
                    "several recordings are chained in this file; convert it to one WAV or FLAC first",
                ));
            }
            Err(e) => return Err(AudioError::file(path, format!("{DAMAGED} ({e})"))),
        };
        if packet.track_id != track_id {
            continue;
        }
        let decoded = match decoder.decode(&packet) {
            Ok(decoded) => decoded,
            Err(Error::DecodeError(_))
                if is_mpeg
                    && channels.is_empty()
                    && report.silenced_packets < MP3_LEADING_LOSSES =>
            {
                report.silenced_packets += 1;
                leading_silence = leading_silence.saturating_add(packet.dur.get());
                continue;
            }
            Err(e) => {
                let at = channels.first().map_or(0, Vec::len) as f64 / f64::from(rate.max(1));
                return Err(AudioError::file(
                    path,
                    format!("{DAMAGED} ({e} at {at:.1} s)"),
                ));
            }
        };
        let spec = decoded.spec();
        let count = spec.channels().count();
        if channels.is_empty() {
            rate = spec.rate();
            check_rate(path, rate)?;
            check_channels(path, count)?;
            check_length(path, leading_silence, rate)?;
            channels = vec![vec![0.0; leading_silence as usize]; count];
        } else if count != channels.len() || spec.rate() != rate {
            return Err(AudioError::file(
                path,
                "the sample rate or the number of channels changes inside the file; convert it to WAV or FLAC first",
            ));
        }
        decoded.copy_to_vecs_planar(&mut scratch);
        for (channel, new) in channels.iter_mut().zip(&scratch) {
            channel.extend_from_slice(new);
        }
        check_length(path, channels.first().map_or(0, Vec::len) as u64, rate)?;
    }
    let frames = channels.first().map_or(0, Vec::len) as u64;
    // A streaming writer leaves "as long as can be" in the header; that promises nothing.
    let bytes_a_frame = (channels.len() as u64 * 2).max(1);
    if let Some(promised) = promised
        && frames < promised
        && promised < 0x7FFF_0000 / bytes_a_frame
    {
        return Err(AudioError::file(
            path,
            format!(
                "the file ends too early: {:.1} of {:.1} s are there; copy or export it again",
                frames as f64 / f64::from(rate.max(1)),
                promised as f64 / f64::from(rate.max(1)),
            ),
        ));
    }
    let presented = if is_mp4 {
        mp4::presented(&mut open(path)?)
    } else {
        None
    };
    Ok((AudioBuffer::new(channels, rate), presented))
}

fn check_rate(path: &Path, rate: u32) -> Result<(), AudioError> {
    if (MIN_SAMPLE_RATE..=MAX_SAMPLE_RATE).contains(&rate) {
        return Ok(());
    }
    Err(AudioError::OutOfRange {
        path: path.to_owned(),
        what: "sample rate",
        actual: format!("{rate} Hz"),
        expected: format!("{MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz"),
        advice: "convert the file to 48000 Hz",
    })
}

fn check_channels(path: &Path, channels: usize) -> Result<(), AudioError> {
    if (1..=MAX_CHANNELS).contains(&channels) {
        return Ok(());
    }
    Err(AudioError::OutOfRange {
        path: path.to_owned(),
        what: "number of channels",
        actual: channels.to_string(),
        expected: format!("1 to {MAX_CHANNELS}"),
        advice: "mix the file down to stereo",
    })
}

fn check_length(path: &Path, frames: u64, rate: u32) -> Result<(), AudioError> {
    if frames <= MAX_SECONDS * u64::from(rate) {
        return Ok(());
    }
    Err(AudioError::OutOfRange {
        path: path.to_owned(),
        what: "length",
        actual: format!("over {} h", MAX_SECONDS / 3600),
        expected: format!("up to {} h", MAX_SECONDS / 3600),
        advice: "cut the file into shorter ones",
    })
}

/// Keeps what the container presents.
fn trim(audio: &mut AudioBuffer, presented: mp4::Presented, report: &mut ReadReport) {
    let rate = u128::from(audio.sample_rate);
    // HE-AAC counts media time at half the decoded rate in some files; scale by the time scale told.
    let to_frames = |t: u64| (u128::from(t) * rate / u128::from(presented.timescale)) as usize;
    let before = audio.frames();
    let start = to_frames(presented.start).min(before);
    let end = presented
        .frames
        .map_or(before, |f| start.saturating_add(to_frames(f)).min(before));
    for channel in &mut audio.channels {
        channel.truncate(end);
        channel.drain(..start);
    }
    report.trimmed_frames = (before - audio.frames()) as u64;
}

// [worker] What an MP4 file says about its encoder delay: the edit list, or iTunes' gapless comment.
//!
//! AAC encoders put 1024–2112 frames of priming before the audio and pad the last packet. The edit list
//! (`elst`, ISO 14496-12 §8.6.6) says which part of the media is presented; iTunes writes the same as text
//! (`iTunSMPB`: hexadecimal fields, the second the delay, the third the padding, the fourth the length).
//! Only the boxes on the way there are read; anything malformed means "unknown".

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
};

/// The presented part of the audio track, in frames of its media time scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Presented {
    /// Frames to drop from the start.
    pub start: u64,
    /// Frames to keep; `None`: to the end.
    pub frames: Option<u64>,
    /// Units a second of `start` and `frames`.
    pub timescale: u32,
}

/// A `moov` larger than this is not searched (an hour of AAC needs about 1 MB).
const MAX_MOOV_BYTES: u64 = 64 << 20;

/// Reads the presented span of the first audio track, if the file says it.
pub(super) fn presented(file: &mut File) -> Option<Presented> {
    let moov = read_moov(file)?;
    let movie_timescale = child(&moov, b"mvhd").and_then(timescale)?;
    let track = children(&moov)
        .filter(|(kind, _)| kind == b"trak")
        .map(|(_, body)| body)
        .find(|track| is_audio(track))?;
    let media_timescale = child(track, b"mdia")
        .and_then(|mdia| child(mdia, b"mdhd"))
        .and_then(timescale)?;
    child(track, b"edts")
        .and_then(|edts| child(edts, b"elst"))
        .and_then(|elst| edit(elst, movie_timescale, media_timescale))
        .or_else(|| itunes(&moov, media_timescale))
}

fn read_moov(file: &mut File) -> Option<Vec<u8>> {
    let end = file.metadata().ok()?.len();
    let mut at = 0u64;
    while at + 8 <= end {
        file.seek(SeekFrom::Start(at)).ok()?;
        let mut header = [0u8; 16];
        file.read_exact(&mut header[..8]).ok()?;
        let mut size = u64::from(u32::from_be_bytes(header[..4].try_into().ok()?));
        let mut header_bytes = 8;
        if size == 1 {
            file.read_exact(&mut header[8..]).ok()?;
            size = u64::from_be_bytes(header[8..].try_into().ok()?);
            header_bytes = 16;
        } else if size == 0 {
            size = end - at;
        }
        if size < header_bytes || size > end - at {
            return None;
        }
        if &header[4..8] == b"moov" {
            let bytes = size - header_bytes;
            if bytes > MAX_MOOV_BYTES {
                return None;
            }
            let mut moov = vec![0; bytes as usize];
            file.read_exact(&mut moov).ok()?;
            return Some(moov);
        }
        at += size;
    }
    None
}

/// The boxes inside a box: kind and body. Stops at the first malformed one.
fn children(mut bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    std::iter::from_fn(move || {
        let size = be32(bytes, 0)? as usize;
        let kind: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
        let size = if size == 0 { bytes.len() } else { size };
        let body = bytes.get(8..size)?;
        bytes = &bytes[size..];
        Some((kind, body))
    })
}

fn child<'a>(bytes: &'a [u8], wanted: &[u8; 4]) -> Option<&'a [u8]> {
    children(bytes)
        .find(|(kind, _)| kind == wanted)
        .map(|c| c.1)
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn be64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// The time scale of an `mvhd` or `mdhd`: after version, flags and two dates of 4 or 8 bytes.
fn timescale(header: &[u8]) -> Option<u32> {
    let at = if *header.first()? == 1 { 20 } else { 12 };
    be32(header, at).filter(|&t| t > 0)
}

fn is_audio(track: &[u8]) -> bool {
    child(track, b"mdia")
        .and_then(|mdia| child(mdia, b"hdlr"))
        .and_then(|hdlr| hdlr.get(8..12))
        == Some(b"soun")
}

/// A single edit after optional empty ones: where the media starts and how long it is presented.
fn edit(elst: &[u8], movie_timescale: u32, media_timescale: u32) -> Option<Presented> {
    let wide = *elst.first()? == 1;
    let count = be32(elst, 4)?;
    let mut found = None;
    for i in 0..count.min(64) as usize {
        let (duration, media_time) = if wide {
            (be64(elst, 8 + i * 20)?, be64(elst, 16 + i * 20)? as i64)
        } else {
            let duration = u64::from(be32(elst, 8 + i * 12)?);
            (duration, i64::from(be32(elst, 12 + i * 12)? as i32))
        };
        if media_time < 0 {
            continue; // an empty edit: silence before the track
        }
        if found.is_some() {
            return None; // a cut list, not encoder delay: the whole media is read
        }
        let frames = u128::from(duration) * u128::from(media_timescale);
        let frames = frames.div_ceil(u128::from(movie_timescale)) as u64;
        found = Some(Presented {
            start: media_time as u64,
            frames: (frames > 0).then_some(frames),
            timescale: media_timescale,
        });
    }
    found
}

fn itunes(moov: &[u8], timescale: u32) -> Option<Presented> {
    let name = moov.windows(8).position(|w| w == b"iTunSMPB")?;
    let rest = &moov[name + 8..];
    // The text follows in a `data` box: size, kind, type, locale, text.
    let data = rest.get(..64.min(rest.len()))?;
    let data = data.windows(4).position(|w| w == b"data")?;
    let text = rest.get(data + 12..(data + 12 + 80).min(rest.len()))?;
    let text = String::from_utf8_lossy(text).into_owned();
    let mut fields = text.split_ascii_whitespace();
    let mut hex = || u64::from_str_radix(fields.next()?, 16).ok();
    let _reserved = hex()?;
    let start = hex()?;
    let _padding = hex()?;
    let frames = hex()?;
    (start < 1 << 20).then_some(Presented {
        start,
        frames: (frames > 0).then_some(frames),
        timescale,
    })
}

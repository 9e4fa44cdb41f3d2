// [worker] Compact lossless bytes for planar audio (bit-exact for every float) and for serde values.
//!
//! Audio is cut into blocks. A block's floats become integers on one scale: the finest that any sample
//! needs if that fits 31 bits (files of 8 to 24 bits, and silence, become small), else 24 bits under the
//! loudest sample, the rest of each mantissa following verbatim. The integers are predicted by a
//! polynomial of order 0..3 and written in Rice codes (the scheme of Shorten: Robinson, CUED/F-INFENG
//! TR.156, 1994). Blocks with NaN or infinities are stored raw.

use serde::{Serialize, de::DeserializeOwned};

use crate::audio::AudioBuffer;

/// Samples a block: long enough that its five-byte head costs nothing, short enough to follow the level.
pub(super) const BLOCK: usize = 1024;
/// More channels than any file that Uncook reads.
const MAX_CHANNELS: usize = 64;
/// Bound on all samples of one buffer (8 GiB of f32): an hour of stereo at 192 kHz and some.
const MAX_SAMPLES: u64 = 1 << 31;
const MAX_RATE: u32 = 768_000;
/// A quotient this long is followed by the value in [`ESCAPE_BITS`] bits instead.
const MAX_UNARY: u32 = 24;
/// Third-order differences of 31-bit integers, zigzag, need 36 bits.
const ESCAPE_BITS: u32 = 36;

/// Kinds of block.
const ZERO: u8 = 0;
const RAW: u8 = 1;
const EXACT: u8 = 2;
const SPLIT: u8 = 3;

/// Why bytes are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    #[error("ends early: {needed} more bytes expected at byte {at}")]
    Truncated { at: usize, needed: usize },
    #[error("{what} is {actual}, expected {expected}")]
    OutOfRange {
        what: &'static str,
        actual: u64,
        expected: &'static str,
    },
    #[error("{actual} bytes left over after the end")]
    TrailingBytes { actual: usize },
    #[error("not the expected value: {0}")]
    Value(String),
}

/// Planar audio as bytes, lossless: rate, channels, length, then one packed stream a channel.
pub fn encode_audio(audio: &AudioBuffer) -> Vec<u8> {
    let mut out = Vec::new();
    append_audio(audio, &mut out);
    out
}

/// Appends [`encode_audio`]'s bytes.
pub fn append_audio(audio: &AudioBuffer, out: &mut Vec<u8>) {
    out.extend_from_slice(&audio.sample_rate.to_le_bytes());
    out.extend_from_slice(&(audio.channels.len() as u32).to_le_bytes());
    out.extend_from_slice(&(audio.frames() as u64).to_le_bytes());
    for channel in &audio.channels {
        pack_samples(channel, out);
    }
}

/// The inverse of [`encode_audio`], for bytes from anywhere.
///
/// # Errors
/// If the bytes are not a whole encoding; memory grows with what is decoded, never by a claimed length.
pub fn decode_audio(bytes: &[u8]) -> Result<AudioBuffer, CodecError> {
    let mut reader = Reader::new(bytes);
    let sample_rate = reader.u32()?;
    if !(1..=MAX_RATE).contains(&sample_rate) {
        return Err(CodecError::OutOfRange {
            what: "sample rate",
            actual: u64::from(sample_rate),
            expected: "1 to 768000 Hz",
        });
    }
    let count = reader.u32()? as usize;
    if count > MAX_CHANNELS {
        return Err(CodecError::OutOfRange {
            what: "channel count",
            actual: count as u64,
            expected: "at most 64",
        });
    }
    let frames = reader.u64()?;
    check_samples(frames.saturating_mul(count as u64))?;
    let mut channels = Vec::with_capacity(count);
    for _ in 0..count {
        channels.push(unpack_samples(&mut reader, frames as usize)?);
    }
    reader.finish()?;
    Ok(AudioBuffer::new(channels, sample_rate))
}

/// A serde value as bytes (JSON; floats survive exactly, non-finite ones do not).
///
/// # Errors
/// If the value can't be written as JSON.
pub fn encode_value<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    serde_json::to_vec(value).map_err(|e| CodecError::Value(e.to_string()))
}

/// The inverse of [`encode_value`].
///
/// # Errors
/// If the bytes are not such a value.
pub fn decode_value<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    serde_json::from_slice(bytes).map_err(|e| CodecError::Value(e.to_string()))
}

/// Refuses more samples than any real buffer has.
pub(super) fn check_samples(samples: u64) -> Result<(), CodecError> {
    if samples > MAX_SAMPLES {
        return Err(CodecError::OutOfRange {
            what: "number of samples",
            actual: samples,
            expected: "at most 2147483648",
        });
    }
    Ok(())
}

/// Bytes read in order, every length checked.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], CodecError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let Some(taken) = rest.get(..len) else {
            return Err(CodecError::Truncated {
                at: self.at,
                needed: len - rest.len(),
            });
        };
        self.at += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    pub(super) fn u8(&mut self) -> Result<u8, CodecError> {
        self.array::<1>().map(|b| b[0])
    }

    pub(super) fn u32(&mut self) -> Result<u32, CodecError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, CodecError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn i64(&mut self) -> Result<i64, CodecError> {
        self.array().map(i64::from_le_bytes)
    }

    pub(super) fn finish(&self) -> Result<(), CodecError> {
        match self.bytes.len() - self.at {
            0 => Ok(()),
            actual => Err(CodecError::TrailingBytes { actual }),
        }
    }
}

/// Appends the packed form of one channel.
pub(super) fn pack_samples(samples: &[f32], out: &mut Vec<u8>) {
    let mut ints = Vec::with_capacity(BLOCK);
    for block in samples.chunks(BLOCK) {
        pack_block(block, &mut ints, out);
    }
}

/// Reads `frames` samples that [`pack_samples`] wrote.
pub(super) fn unpack_samples(
    reader: &mut Reader<'_>,
    frames: usize,
) -> Result<Vec<f32>, CodecError> {
    let mut out = Vec::with_capacity(frames.min(1 << 16));
    let mut left = frames;
    while left > 0 {
        let len = left.min(BLOCK);
        unpack_block(reader, len, &mut out)?;
        left -= len;
    }
    Ok(out)
}

/// `x = mantissa · 2^exponent` with an odd or 24-bit mantissa; finite, not zero.
fn decompose(x: f32) -> (u32, i32) {
    let bits = x.to_bits();
    let (field, fraction) = ((bits >> 23) & 0xff, bits & 0x7f_ffff);
    if field == 0 {
        (fraction, -149)
    } else {
        (fraction | 0x80_0000, field as i32 - 150)
    }
}

fn pack_block(block: &[f32], ints: &mut Vec<i32>, out: &mut Vec<u8>) {
    // Only +0.0 counts as zero: -0.0 must come back as -0.0.
    if block.iter().all(|x| x.to_bits() == 0) {
        out.push(ZERO);
        return;
    }
    if block.iter().any(|x| !x.is_finite()) {
        pack_raw(block, out);
        return;
    }
    let (mut top, mut low, mut exact, mut subnormal) = (i32::MIN, i32::MAX, true, false);
    for &x in block {
        subnormal |= x.is_subnormal();
        if x == 0.0 {
            exact &= x.to_bits() == 0;
            continue;
        }
        let (mantissa, exponent) = decompose(x);
        top = top.max(exponent + 32 - mantissa.leading_zeros() as i32);
        low = low.min(exponent + mantissa.trailing_zeros() as i32);
    }
    // `top` is the first power of two above the block. 31 bits and a sign always fit an i32.
    exact &= top != i32::MIN && top - low <= 31;
    // A split assumes mantissas of 24 bits, which subnormals don't have; all zeros with a sign have no scale.
    if !exact && (subnormal || top == i32::MIN) {
        pack_raw(block, out);
        return;
    }
    let scale = if exact { low } else { top - 24 };
    ints.clear();
    ints.extend(block.iter().map(|&x| to_int(x, scale)));
    let start = out.len();
    out.push(if exact { EXACT } else { SPLIT });
    out.extend_from_slice(&(scale as i16).to_le_bytes());
    let mut bits = BitWriter::new(out);
    write_ints(ints, &mut bits);
    if !exact {
        for (&x, &q) in block.iter().zip(ints.iter()) {
            write_rest(x, q, &mut bits);
        }
    }
    bits.finish();
    if out.len() - start > 1 + 4 * block.len() {
        out.truncate(start);
        pack_raw(block, out);
    }
}

fn pack_raw(block: &[f32], out: &mut Vec<u8>) {
    out.push(RAW);
    out.extend(block.iter().flat_map(|x| x.to_bits().to_le_bytes()));
}

/// `x / 2^scale`, towards zero. The caller chose `scale` so that this fits.
fn to_int(x: f32, scale: i32) -> i32 {
    if x == 0.0 {
        return 0;
    }
    let (mantissa, exponent) = decompose(x);
    let shift = exponent - scale;
    let magnitude = if shift >= 0 {
        (u64::from(mantissa) << shift.min(31)) as i32
    } else {
        (mantissa >> shift.unsigned_abs().min(31)) as i32
    };
    if x < 0.0 { -magnitude } else { magnitude }
}

/// What [`to_int`] cut off in a split block: the mantissa's low bits, or the whole float where the
/// integer is 0 and the float is not.
fn write_rest(x: f32, q: i32, bits: &mut BitWriter<'_>) {
    if q == 0 {
        if x.to_bits() == 0 {
            bits.put(0, 1);
        } else {
            bits.put(1, 1);
            bits.put(u64::from(x.to_bits()), 32);
        }
        return;
    }
    let rest = rest_bits(q);
    let (mantissa, _) = decompose(x);
    bits.put(u64::from(mantissa & ((1u32 << rest) - 1)), rest);
}

/// Bits of a 24-bit mantissa that are not in `q`, which is not 0.
fn rest_bits(q: i32) -> u32 {
    24u32.saturating_sub(32 - q.unsigned_abs().leading_zeros())
}

fn unpack_block(reader: &mut Reader<'_>, len: usize, out: &mut Vec<f32>) -> Result<(), CodecError> {
    let kind = reader.u8()?;
    match kind {
        ZERO => out.resize(out.len() + len, 0.0),
        RAW => {
            let bytes = reader.take(4 * len)?;
            out.extend(
                bytes
                    .chunks_exact(4)
                    .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
            );
        }
        EXACT | SPLIT => {
            let scale = i32::from(i16::from_le_bytes(reader.array()?));
            if !(-149..=127).contains(&scale) {
                return Err(CodecError::OutOfRange {
                    what: "block scale",
                    actual: u64::from(scale.unsigned_abs()),
                    expected: "-149 to 127",
                });
            }
            let mut bits = BitReader::new(reader);
            let mut ints = [0i32; BLOCK];
            read_ints(&mut ints[..len], &mut bits)?;
            // Powers of two from 2^-172 to 2^127 are exact in f64, and so is their product with 31 bits.
            let unit = 2f64.powi(scale);
            for &q in &ints[..len] {
                let x = if kind == EXACT {
                    (f64::from(q) * unit) as f32
                } else if q == 0 {
                    if bits.get(1)? == 0 {
                        0.0
                    } else {
                        f32::from_bits(bits.get(32)? as u32)
                    }
                } else {
                    let rest = rest_bits(q);
                    let low = bits.get(rest)? as f64;
                    let whole = f64::from(q.unsigned_abs()) * 2f64.powi(rest as i32) + low;
                    let x = (whole * unit * 2f64.powi(-(rest as i32))) as f32;
                    if q < 0 { -x } else { x }
                };
                out.push(x);
            }
            bits.finish();
        }
        other => {
            return Err(CodecError::OutOfRange {
                what: "kind of block",
                actual: u64::from(other),
                expected: "0 to 3",
            });
        }
    }
    Ok(())
}

/// The difference of `order` at `i`, the samples before the block being 0.
fn residual(ints: &[i32], i: usize, order: u32) -> i64 {
    let at = |back: usize| i.checked_sub(back).map_or(0, |j| i64::from(ints[j]));
    i64::from(ints[i]) - predict(at(1), at(2), at(3), order)
}

fn predict(a: i64, b: i64, c: i64, order: u32) -> i64 {
    match order {
        0 => 0,
        1 => a,
        2 => 2 * a - b,
        _ => 3 * a - 3 * b + c,
    }
}

fn zigzag(x: i64) -> u64 {
    ((x << 1) ^ (x >> 63)) as u64
}

fn unzigzag(z: u64) -> i64 {
    (z >> 1) as i64 ^ -((z & 1) as i64)
}

/// Order (2 bits), Rice parameter (5 bits), then the codes.
fn write_ints(ints: &[i32], bits: &mut BitWriter<'_>) {
    let mut sums = [0u64; 4];
    for i in 0..ints.len() {
        for (order, sum) in (0u32..).zip(sums.iter_mut()) {
            *sum += zigzag(residual(ints, i, order));
        }
    }
    let (order, sum) = (0u32..)
        .zip(sums)
        .min_by_key(|&(order, sum)| (sum, order))
        .unwrap_or((0, 0));
    // The mean is near the best divisor for the geometric distribution that Rice codes fit.
    let mean = (sum / ints.len().max(1) as u64).max(1);
    let k = (63 - mean.leading_zeros()).min(31);
    bits.put(u64::from(order), 2);
    bits.put(u64::from(k), 5);
    for i in 0..ints.len() {
        let z = zigzag(residual(ints, i, order));
        let quotient = z >> k;
        if quotient < u64::from(MAX_UNARY) {
            // `quotient` ones, a zero, the remainder.
            bits.put((1u64 << (quotient + 1)) - 2, quotient as u32 + 1);
            bits.put(z & ((1u64 << k) - 1), k);
        } else {
            bits.put((1u64 << MAX_UNARY) - 1, MAX_UNARY);
            bits.put(z, ESCAPE_BITS);
        }
    }
}

fn read_ints(ints: &mut [i32], bits: &mut BitReader<'_, '_>) -> Result<(), CodecError> {
    let order = bits.get(2)? as u32;
    let k = bits.get(5)? as u32;
    let (mut a, mut b, mut c) = (0i64, 0i64, 0i64);
    for q in ints {
        let mut quotient = 0u64;
        while quotient < u64::from(MAX_UNARY) && bits.get(1)? == 1 {
            quotient += 1;
        }
        let z = if quotient < u64::from(MAX_UNARY) {
            (quotient << k) | bits.get(k)?
        } else {
            bits.get(ESCAPE_BITS)?
        };
        let value = unzigzag(z) + predict(a, b, c, order);
        *q = i32::try_from(value).map_err(|_| CodecError::OutOfRange {
            what: "sample",
            actual: value.unsigned_abs(),
            expected: "32 bits",
        })?;
        (a, b, c) = (value, a, b);
    }
    Ok(())
}

/// Bits, most significant first.
struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    held: u64,
    count: u32,
}

impl<'a> BitWriter<'a> {
    fn new(out: &'a mut Vec<u8>) -> Self {
        Self {
            out,
            held: 0,
            count: 0,
        }
    }

    /// The low `count` (at most 56) bits of `value`.
    fn put(&mut self, value: u64, count: u32) {
        self.held = (self.held << count) | value;
        self.count += count;
        while self.count >= 8 {
            self.count -= 8;
            self.out.push((self.held >> self.count) as u8);
        }
    }

    /// Fills the last byte with zeros.
    fn finish(self) {
        if self.count > 0 {
            self.out.push((self.held << (8 - self.count)) as u8);
        }
    }
}

struct BitReader<'r, 'a> {
    reader: &'r mut Reader<'a>,
    held: u64,
    count: u32,
}

impl<'r, 'a> BitReader<'r, 'a> {
    fn new(reader: &'r mut Reader<'a>) -> Self {
        Self {
            reader,
            held: 0,
            count: 0,
        }
    }

    fn get(&mut self, count: u32) -> Result<u64, CodecError> {
        while self.count < count {
            self.held = (self.held << 8) | u64::from(self.reader.u8()?);
            self.count += 8;
        }
        self.count -= count;
        Ok((self.held >> self.count) & ((1u64 << count) - 1))
    }

    /// The rest of the last byte is filling.
    fn finish(self) {}
}

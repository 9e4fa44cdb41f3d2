// [worker] Files of weights that travel inside the binary: a head, then numbers and half-precision values.

/// A file of weights that can't be used.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum WeightsError {
    #[error("not a file of weights for this network")]
    NotWeights,
    #[error("the weights end after {actual} bytes, {expected} are needed")]
    Short { expected: usize, actual: usize },
    #[error("the weights ask for a size of {actual}, at most {expected} is allowed")]
    TooLarge { expected: usize, actual: usize },
}

/// Reads what lies in the file one after the other.
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// `magic`: the file's first bytes.
    ///
    /// # Errors
    /// If they are others.
    pub fn new(bytes: &'a [u8], magic: &[u8; 8]) -> Result<Self, WeightsError> {
        if bytes.get(..magic.len()) != Some(magic) {
            return Err(WeightsError::NotWeights);
        }
        Ok(Self {
            bytes,
            at: magic.len(),
        })
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], WeightsError> {
        let end = self.at.saturating_add(count);
        let part = self.bytes.get(self.at..end).ok_or(WeightsError::Short {
            expected: end,
            actual: self.bytes.len(),
        })?;
        self.at = end;
        Ok(part)
    }

    /// 32 bits, little-endian.
    ///
    /// # Errors
    /// If the file ends or the number is larger than `limit`.
    pub fn number(&mut self, limit: usize) -> Result<usize, WeightsError> {
        let bytes = self.take(4)?;
        let value = bytes
            .iter()
            .rev()
            .fold(0usize, |n, &b| n << 8 | usize::from(b));
        if value > limit {
            return Err(WeightsError::TooLarge {
                expected: limit,
                actual: value,
            });
        }
        Ok(value)
    }

    /// `count` half-precision numbers.
    ///
    /// # Errors
    /// If the file ends.
    pub fn values(&mut self, count: usize) -> Result<Vec<f32>, WeightsError> {
        let bytes = self.take(count.saturating_mul(2))?;
        Ok(bytes
            .chunks_exact(2)
            .map(|b| half(u16::from_le_bytes([b[0], b[1]])))
            .collect())
    }
}

/// IEEE 754 binary16 to binary32.
fn half(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from(bits >> 10 & 0x1F);
    let fraction = f32::from(bits & 0x3FF) / 1024.0;
    match exponent {
        0 => sign * fraction * (-14f32).exp2(),
        31 if fraction == 0.0 => sign * f32::INFINITY,
        31 => f32::NAN,
        _ => sign * (1.0 + fraction) * ((exponent - 15) as f32).exp2(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Exact for the small dyadic numbers of the tests.
    pub(crate) fn to_half(x: f32) -> [u8; 2] {
        let bits = x.to_bits();
        let sign = (bits >> 16) & 0x8000;
        if x == 0.0 {
            return [0, 0];
        }
        let exponent = ((bits >> 23) & 0xFF) as i32 - 127 + 15;
        let fraction = (bits >> 13) & 0x3FF;
        ((sign | ((exponent as u32) << 10) | fraction) as u16).to_le_bytes()
    }

    #[test]
    fn half_precision() {
        for x in [0.0f32, 1.0, -2.5, 0.000061035156, 65504.0] {
            assert_eq!(half(u16::from_le_bytes(to_half(x))), x);
        }
        assert_eq!(half(1), 2f32.powi(-24));
    }
}

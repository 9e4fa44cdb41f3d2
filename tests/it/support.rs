//! What several rooms' tests share: deterministic signals and measures.

/// SDR of `estimate` against `reference` in dB over all samples.
pub fn sdr_db(reference: &[f32], estimate: &[f32]) -> f64 {
    assert_eq!(reference.len(), estimate.len());
    let (mut signal, mut error) = (0.0f64, 0.0f64);
    for (&r, &e) in reference.iter().zip(estimate) {
        signal += f64::from(r) * f64::from(r);
        error += (f64::from(r) - f64::from(e)).powi(2);
    }
    10.0 * (signal / error.max(1e-30)).log10()
}

/// A deterministic noise source (SplitMix64), uniform in -1..1.
pub struct Noise(pub u64);

impl Noise {
    pub fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

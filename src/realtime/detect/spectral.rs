// [audio] What the spectrum of the last seconds says: lost bands, noise, reverberation, coding.

#[derive(Clone, Copy, Default)]
pub(super) struct Severities {
    pub band_limit: f32,
    pub noise: f32,
    pub reverb: f32,
    pub codec: f32,
}
pub(super) struct Spectral;
impl Spectral {
    pub(super) fn new(_sample_rate: f64) -> Self {
        Self
    }
    pub(super) fn reset(&mut self) {}
    pub(super) fn frame(&mut self, _samples: &[f32]) {}
    pub(super) fn severities(&self) -> Severities {
        Severities::default()
    }
}

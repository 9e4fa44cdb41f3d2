// [audio] Live damage detector.
pub struct Detector;
impl Detector {
    pub fn new(_sample_rate: f64, _channels: usize) -> Self {
        Self
    }
}

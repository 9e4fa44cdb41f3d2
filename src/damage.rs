// [any] The vocabulary of damage, shared by every thread: kinds, frames, maps, regions, stems.

use serde::{Deserialize, Serialize};

/// Frames of a damage map per second: one every 10 ms.
pub const FRAMES_PER_SECOND: usize = 100;

/// A kind of damage. The order is the index into [`Severity`] and never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum DamageKind {
    /// Flat tops: the waveform was cut at a level.
    Clipping,
    /// Overdrive without flat tops (soft saturation, or clipping blurred by filters and codecs).
    Saturation,
    /// Clicks and crackle: impulses of a few samples.
    Click,
    /// Missing audio: silence between two loud sides.
    Dropout,
    /// Lost lows or highs (phone microphone, low-rate codec).
    BandLimit,
    /// Steady background noise.
    Noise,
    /// Too much room.
    Reverb,
    /// Lossy coding artefacts (spectral holes).
    Codec,
}

impl DamageKind {
    /// Number of kinds.
    pub const COUNT: usize = 8;
    /// Every kind, in index order.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Clipping,
        Self::Saturation,
        Self::Click,
        Self::Dropout,
        Self::BandLimit,
        Self::Noise,
        Self::Reverb,
        Self::Codec,
    ];

    /// Plain words for the user.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Clipping => "clipped",
            Self::Saturation => "overdriven",
            Self::Click => "clicks",
            Self::Dropout => "dropouts",
            Self::BandLimit => "band-limited",
            Self::Noise => "noisy",
            Self::Reverb => "roomy",
            Self::Codec => "coding artefacts",
        }
    }
}

/// Severity of each kind over one 10 ms frame, each in 0..=1 (0 = none, 0.5 = clearly audible).
pub type Severity = [f32; DamageKind::COUNT];

/// The severity at and above which a frame counts as damaged.
pub const DEFAULT_THRESHOLD: f32 = 0.5;

/// Damage of a stretch of audio: one [`Severity`] per 10 ms frame. Frame `i` covers
/// `[i * 10 ms, (i + 1) * 10 ms)` from the start of the audio it was measured on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(into = "PackedMap", try_from = "PackedMap")]
pub struct DamageMap {
    /// One entry per frame.
    pub frames: Vec<Severity>,
}

impl DamageMap {
    /// Contiguous regions in which `kind` is at least `threshold`, gaps of up to `max_gap_frames` bridged.
    pub fn regions(&self, kind: DamageKind, threshold: f32, max_gap_frames: usize) -> Vec<Region> {
        let mut out: Vec<Region> = Vec::new();
        let to_seconds = |frame: usize| frame as f64 / FRAMES_PER_SECOND as f64;
        let mut last_end: Option<usize> = None;
        for (i, frame) in self.frames.iter().enumerate() {
            let severity = frame[kind as usize];
            if severity < threshold {
                continue;
            }
            match (out.last_mut(), last_end) {
                (Some(region), Some(end)) if i - end <= max_gap_frames => {
                    region.end = to_seconds(i + 1);
                    region.severity = region.severity.max(severity);
                }
                _ => out.push(Region {
                    start: to_seconds(i),
                    end: to_seconds(i + 1),
                    kind,
                    severity,
                }),
            }
            last_end = Some(i + 1);
        }
        out
    }

    /// Share of frames, 0..=1, in which `kind` is at least `threshold`.
    pub fn share(&self, kind: DamageKind, threshold: f32) -> f32 {
        if self.frames.is_empty() {
            return 0.0;
        }
        let hit = self
            .frames
            .iter()
            .filter(|f| f[kind as usize] >= threshold)
            .count();
        hit as f32 / self.frames.len() as f32
    }
}

/// A [`DamageMap`] as text: severities in steps of 1/255, two hex digits a frame, kinds that never
/// occur left out. An hour has 360,000 frames.
#[derive(Serialize, Deserialize)]
struct PackedMap {
    frames: usize,
    kinds: Vec<(DamageKind, String)>,
}

impl From<DamageMap> for PackedMap {
    fn from(map: DamageMap) -> Self {
        let step = |severity: f32| (severity.clamp(0.0, 1.0) * 255.0).round() as u8;
        let kinds = DamageKind::ALL
            .into_iter()
            .filter(|&kind| map.frames.iter().any(|f| step(f[kind as usize]) > 0))
            .map(|kind| {
                let steps = map.frames.iter().map(|f| step(f[kind as usize]));
                (kind, steps.map(|s| format!("{s:02x}")).collect())
            })
            .collect();
        Self {
            frames: map.frames.len(),
            kinds,
        }
    }
}

impl TryFrom<PackedMap> for DamageMap {
    type Error = String;

    fn try_from(packed: PackedMap) -> Result<Self, String> {
        let digits = 2 * packed.frames;
        if let Some((kind, text)) = packed.kinds.iter().find(|(_, t)| t.len() != digits) {
            let actual = text.len();
            return Err(format!("{kind:?} has {actual} digits, expected {digits}"));
        }
        // Lengths were checked against text that is here: nothing is allocated on a claim alone.
        if packed.kinds.is_empty() && packed.frames > MAX_SILENT_FRAMES {
            return Err(format!("{} frames without content", packed.frames));
        }
        let mut frames = vec![[0.0; DamageKind::COUNT]; packed.frames];
        for (kind, text) in &packed.kinds {
            for (frame, pair) in frames.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
                let step = std::str::from_utf8(pair)
                    .ok()
                    .and_then(|pair| u8::from_str_radix(pair, 16).ok())
                    .ok_or_else(|| format!("{kind:?} holds other than hex digits"))?;
                frame[*kind as usize] = f32::from(step) / 255.0;
            }
        }
        Ok(Self { frames })
    }
}

/// A day: more frames of nothing than any session has.
const MAX_SILENT_FRAMES: usize = 24 * 3600 * FRAMES_PER_SECOND;

/// A damaged span. Times are seconds from the start of the audio.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Region {
    pub start: f64,
    pub end: f64,
    pub kind: DamageKind,
    /// Worst severity inside, 0..=1.
    pub severity: f32,
}

/// A stem, in Demucs' order; the value is its index in every `[_; 4]` of stems.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Stem {
    Drums,
    Bass,
    Other,
    Vocals,
}

impl Stem {
    /// Number of stems.
    pub const COUNT: usize = 4;
    /// Every stem, in index order.
    pub const ALL: [Self; Self::COUNT] = [Self::Drums, Self::Bass, Self::Other, Self::Vocals];

    /// Lower-case name, used for files and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drums => "drums",
            Self::Bass => "bass",
            Self::Other => "other",
            Self::Vocals => "vocals",
        }
    }
}

// [worker] Pure measurements of audio, with a before/after comparison.
//!
//! Every function takes a recording and gives values: no clock, no files, no globals. What cannot be
//! measured (silence, too short, undefined) is `None`, which is `null` in JSON.

pub mod artefacts;
pub mod damage;
pub mod distance;
pub mod level;
pub mod loudness;
mod source;
pub mod spectrum;
pub mod timbre;

use serde::{Deserialize, Serialize};

pub use artefacts::{Artefact, ArtefactKind};
pub use source::Source;

/// How good a recording is. The field names are those of the command line's JSON and stay.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Quality {
    /// Signal over steady background noise, dB ([`spectrum::snr_db`]).
    pub snr_db: Option<f64>,
    /// Integrated loudness, LUFS ([`loudness::integrated_lufs`]).
    pub lufs: Option<f64>,
    /// Highest true peak, dBTP ([`loudness::true_peak_dbtp`]).
    pub true_peak_dbtp: Option<f64>,
    /// Spectral centroid, Hz ([`spectrum::centroid_hz`]).
    pub centroid_hz: Option<f64>,
    /// Share of samples in flat tops, 0..=1 ([`level::clipping_share`]).
    pub clipping_share: Option<f64>,
    /// What should not be heard, in the order of time.
    pub artefacts: Vec<Artefact>,
}

/// Measures a recording of any rate and length; 1 or 2 channels are meant, more are taken as a mix.
pub fn quality(audio: &dyn Source) -> Quality {
    Quality {
        snr_db: spectrum::snr_db(audio),
        lufs: loudness::integrated_lufs(audio),
        true_peak_dbtp: loudness::true_peak_dbtp(audio),
        centroid_hz: spectrum::centroid_hz(audio),
        clipping_share: level::clipping_share(audio),
        artefacts: artefacts::artefacts(audio),
    }
}

/// The same recording before and after: what the command line, the report and the editor share.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    pub before: Quality,
    pub after: Quality,
}

/// After minus before; `None` where either is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Changes {
    pub snr_db: Option<f64>,
    /// LU.
    pub lufs: Option<f64>,
    pub true_peak_dbtp: Option<f64>,
    pub centroid_hz: Option<f64>,
    pub clipping_share: Option<f64>,
    /// Number of artefacts.
    pub artefacts: i64,
}

impl Comparison {
    /// Measures both.
    pub fn new(before: &dyn Source, after: &dyn Source) -> Self {
        Self {
            before: quality(before),
            after: quality(after),
        }
    }

    /// After minus before.
    pub fn changes(&self) -> Changes {
        let (b, a) = (&self.before, &self.after);
        let change = |a: Option<f64>, b: Option<f64>| Some(a? - b?);
        Changes {
            snr_db: change(a.snr_db, b.snr_db),
            lufs: change(a.lufs, b.lufs),
            true_peak_dbtp: change(a.true_peak_dbtp, b.true_peak_dbtp),
            centroid_hz: change(a.centroid_hz, b.centroid_hz),
            clipping_share: change(a.clipping_share, b.clipping_share),
            artefacts: a.artefacts.len() as i64 - b.artefacts.len() as i64,
        }
    }
}

// [cli] What `--rebuild` says: a span of one stem.

use uncook::{damage::Stem, worker::options::Asked};

/// A span of one stem, seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    stem: Stem,
    from: f64,
    to: f64,
}

impl Span {
    /// In samples of a file.
    pub fn in_samples(self, sample_rate: u32) -> Asked {
        let at = |seconds: f64| (seconds * f64::from(sample_rate)).round() as u64;
        Asked {
            stem: self.stem,
            start: at(self.from),
            end: at(self.to),
        }
    }
}

/// Reads `bass:12.5-18`.
///
/// # Errors
/// Words for the user if it is something else.
pub fn parse(text: &str) -> Result<Span, String> {
    let wrong =
        || "expected drums or bass and two times in seconds, such as bass:12.5-18".to_owned();
    let (stem, span) = text.split_once(':').ok_or_else(wrong)?;
    let (from, to) = span.split_once('-').ok_or_else(wrong)?;
    let stem = [Stem::Drums, Stem::Bass]
        .into_iter()
        .find(|s| s.name() == stem)
        .ok_or_else(wrong)?;
    let seconds = |text: &str| {
        let value: f64 = text.trim().parse().ok()?;
        (value.is_finite() && (0.0..1e6).contains(&value)).then_some(value)
    };
    match (seconds(from), seconds(to)) {
        (Some(from), Some(to)) if from < to => Ok(Span { stem, from, to }),
        _ => Err(wrong()),
    }
}

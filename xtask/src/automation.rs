// [cli] Automation from a small text file: one change a line, sample-accurate, ramps on a fixed grid.

use anyhow::{Context, Result, ensure};

use crate::host::{HostedPlugin, ParamId};

/// Samples between the steps of a ramp. Counted from the start of the song, not of a block, so that a
/// ramp is the same whatever the block size.
pub const RAMP_GRID_SAMPLES: u64 = 64;

/// A line of the file, as it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Seconds from the start of the audio.
    pub seconds: f64,
    /// The parameter's string id or name.
    pub param: String,
    /// What to set: a number in CLAP's range or the plugin's own text.
    pub value: String,
    /// Ramp from the parameter's previous point to here.
    pub linear: bool,
}

/// A change of one parameter at a sample of the audio.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    pub sample: u64,
    pub param: ParamId,
    pub value: f64,
}

/// Reads `<seconds> <parameter> <value> [linear]` lines. Names and values with spaces stand in double
/// quotes; `#` starts a comment.
///
/// # Errors
/// With the number of the line that is wrong.
pub fn parse(text: &str) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let parsed = parse_line(line).with_context(|| format!("line {}: {line}", number + 1))?;
        lines.extend(parsed);
    }
    Ok(lines)
}

fn parse_line(line: &str) -> Result<Option<Line>> {
    let words = words(line)?;
    let (seconds, param, value, linear) = match words.as_slice() {
        [] => return Ok(None),
        [seconds, param, value] => (seconds, param, value, false),
        [seconds, param, value, last] if last == "linear" => (seconds, param, value, true),
        _ => anyhow::bail!("expected `<seconds> <parameter> <value> [linear]`"),
    };
    let seconds: f64 = seconds
        .parse()
        .with_context(|| format!("\"{seconds}\" is not a time in seconds"))?;
    ensure!(
        seconds.is_finite() && seconds >= 0.0,
        "a time must be 0 or later"
    );
    Ok(Some(Line {
        seconds,
        param: param.clone(),
        value: value.clone(),
        linear,
    }))
}

/// Splits at blanks outside double quotes.
fn words(line: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '#' if !quoted => break,
            c if c.is_whitespace() && !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    ensure!(!quoted, "a quotation mark is not closed");
    words.extend(word);
    Ok(words)
}

/// Turns lines into changes at `sample_rate`, sorted by sample; later lines win at the same sample.
/// A ramp without an earlier point starts at the parameter's present value at sample 0.
///
/// # Errors
/// If a parameter or a value is unknown, or a parameter can't be automated.
pub fn resolve(lines: &[Line], plugin: &mut HostedPlugin, sample_rate: u32) -> Result<Vec<Change>> {
    // Points of each parameter, in the order in which the parameters appear.
    let mut curves: Vec<(ParamId, f64, Vec<Point>)> = Vec::new();
    for line in lines {
        let param = plugin.param(&line.param)?;
        ensure!(
            param.is_automatable(),
            "{} can't be automated; set it with --param",
            param.name
        );
        let point = Point {
            sample: (line.seconds * f64::from(sample_rate)).round() as u64,
            value: plugin.read_value(&param, &line.value)?,
            linear: line.linear,
        };
        match curves.iter_mut().find(|c| c.0 == param.id) {
            Some(curve) => curve.2.push(point),
            None => {
                let now = plugin.param_value(param.id)?;
                curves.push((param.id, now, vec![point]));
            }
        }
    }
    let mut changes = Vec::new();
    for (param, now, mut points) in curves {
        points.sort_by_key(|p| p.sample);
        changes.extend(
            curve(now, &points)
                .into_iter()
                .map(|(sample, value)| Change {
                    sample,
                    param,
                    value,
                }),
        );
    }
    changes.sort_by_key(|c| c.sample);
    Ok(changes)
}

#[derive(Clone, Copy, Debug)]
struct Point {
    sample: u64,
    value: f64,
    linear: bool,
}

/// The steps of one parameter's points.
fn curve(start: f64, points: &[Point]) -> Vec<(u64, f64)> {
    let mut steps = Vec::new();
    let (mut from_sample, mut from_value) = (0u64, start);
    for point in points {
        if point.linear && point.sample > from_sample {
            let length = (point.sample - from_sample) as f64;
            let first = (from_sample / RAMP_GRID_SAMPLES + 1) * RAMP_GRID_SAMPLES;
            for sample in (first..point.sample).step_by(RAMP_GRID_SAMPLES as usize) {
                let share = (sample - from_sample) as f64 / length;
                steps.push((sample, from_value + (point.value - from_value) * share));
            }
        }
        steps.push((point.sample, point.value));
        (from_sample, from_value) = (point.sample, point.value);
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_with_quotes_comments_and_blanks() {
        let lines =
            parse("# demo\n\n0 blend_drums 0\n1.5 \"Drums Blend\" \"50 %\" linear # up\n").unwrap();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[1].param, "Drums Blend");
        assert_eq!(lines[1].value, "50 %");
        assert!(lines[1].linear && !lines[0].linear);
    }

    #[test]
    fn wrong_lines_name_their_number() {
        for (text, needle) in [
            ("0 a 1\nx a 1", "line 2"),
            ("0 a", "line 1"),
            ("0 a 1 cubic", "expected"),
            ("-1 a 1", "0 or later"),
            ("0 \"a 1", "not closed"),
        ] {
            let message = format!("{:#}", parse(text).unwrap_err());
            assert!(message.contains(needle), "{message}");
        }
    }

    #[test]
    fn a_ramp_lies_on_its_line_and_on_the_grid() {
        let steps = curve(
            0.0,
            &[
                Point {
                    sample: 100,
                    value: 0.0,
                    linear: false,
                },
                Point {
                    sample: 1_100,
                    value: 1.0,
                    linear: true,
                },
            ],
        );
        assert_eq!(steps.first(), Some(&(100, 0.0)));
        assert_eq!(steps.last(), Some(&(1_100, 1.0)));
        assert_eq!(steps[1].0, 128);
        for &(sample, value) in &steps {
            assert!((value - (sample as f64 - 100.0) / 1_000.0).abs() < 1e-12);
        }
        assert!(
            steps[1..steps.len() - 1]
                .iter()
                .all(|s| s.0 % RAMP_GRID_SAMPLES == 0)
        );
    }
}

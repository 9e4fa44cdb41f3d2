// [cli] Before and after as a PNG: spectrograms on a logarithmic frequency axis, damage as strips.

mod text;

use std::{fs::File, io::BufWriter, path::Path};

use anyhow::{Context, Result, ensure};
use realfft::RealFftPlanner;
use uncook::{audio::AudioBuffer, damage::DamageKind};

/// Frequencies at the bottom and the top of a panel in Hz.
const RANGE_HZ: (f64, f64) = (30.0, 20_000.0);
/// From the strongest bin of either signal downwards, this many dB are told apart.
const RANGE_DB: f64 = 84.0;
/// Samples of the window at 48 kHz; it scales with the rate.
const WINDOW: f64 = 4_096.0;
/// Lines on the frequency axis, Hz.
const TICKS_HZ: [(f64, &str); 8] = [
    (50.0, "50"),
    (100.0, "100"),
    (200.0, "200"),
    (500.0, "500"),
    (1_000.0, "1K"),
    (2_000.0, "2K"),
    (5_000.0, "5K"),
    (10_000.0, "10K"),
];

const PANEL: (usize, usize) = (1_120, 300);
const LEFT: usize = 88;
const RIGHT: usize = 16;
const TITLE: usize = 28;
const STRIP: usize = 14;
const AXIS: usize = 24;

/// Red, green, blue.
pub type Rgb = [u8; 3];

const PAPER: Rgb = [18, 18, 24];
const INK: Rgb = [205, 208, 216];
const FAINT: Rgb = [70, 72, 84];

/// A damaged span to draw.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Seconds.
    pub start: f64,
    pub end: f64,
    pub kind: DamageKind,
    /// 0..=1.
    pub severity: f32,
    /// Row: "mix" or a stem's name.
    pub row: String,
}

/// Draws `before` above `after`, each with the damage found in it.
///
/// # Errors
/// If the two differ in rate, or the file can't be written.
pub fn before_after(
    path: &Path,
    before: (&AudioBuffer, &[Span]),
    after: (&AudioBuffer, &[Span]),
) -> Result<()> {
    ensure!(
        before.0.sample_rate == after.0.sample_rate,
        "before and after have different rates"
    );
    let seconds = before.0.seconds().max(after.0.seconds());
    let spectra = [before.0, after.0].map(|audio| spectrogram(audio, seconds));
    let top_db = spectra
        .iter()
        .flatten()
        .flatten()
        .fold(f64::NEG_INFINITY, |m, &v| m.max(v));
    // The same rows in both panels, so that a strip that has gone is seen to be gone.
    let mut rows: Vec<&str> = Vec::new();
    for name in ["mix", "drums", "bass", "other", "vocals"] {
        let named = |spans: &[Span]| spans.iter().any(|s| s.row == name);
        if named(before.1) || named(after.1) {
            rows.push(name);
        }
    }
    let block = TITLE + PANEL.1 + rows.len() * STRIP + AXIS;
    let mut canvas = Canvas::new(LEFT + PANEL.0 + RIGHT, 2 * block);
    for (i, (title, spans)) in [("before", before.1), ("after", after.1)]
        .into_iter()
        .enumerate()
    {
        let panel = Panel {
            top: i * block,
            seconds,
        };
        text::write(&mut canvas, (LEFT, panel.top + 8), title, 3, INK);
        legend(&mut canvas, panel.top + 10, spans);
        panel.spectrum(&mut canvas, &spectra[i], top_db);
        panel.frequencies(&mut canvas);
        for (row, name) in rows.iter().enumerate() {
            panel.strip(&mut canvas, row, name, spans);
        }
        panel.times(&mut canvas, rows.len());
    }
    canvas.save(path)
}

/// Left edge, width and whole width in pixels of the pictures' time axis.
pub const PANEL_PLACE: (usize, usize, usize) = (LEFT, PANEL.0, LEFT + PANEL.0 + RIGHT);

/// Rows of a waveform, odd: the middle is zero.
const WAVE: usize = 121;

/// Draws the waveform (extremes and RMS of the channels' mean a column, full scale at the edges) above
/// the spectrogram.
///
/// # Errors
/// If the file can't be written.
pub fn waveform_and_spectrogram(path: &Path, audio: &AudioBuffer) -> Result<()> {
    let seconds = audio.seconds();
    let spectrum = spectrogram(audio, seconds);
    let top_db = spectrum
        .iter()
        .flatten()
        .fold(f64::NEG_INFINITY, |m, &v| m.max(v));
    let panel = Panel {
        top: WAVE + 8,
        seconds,
    };
    let height = panel.top + TITLE + PANEL.1 + AXIS;
    let mut canvas = Canvas::new(LEFT + PANEL.0 + RIGHT, height);
    let mono = audio.mono();
    let y = |v: f32| ((1.0 - f64::from(v.clamp(-1.0, 1.0))) / 2.0 * (WAVE - 1) as f64).round();
    for x in 0..PANEL.0 {
        let edge = |x: usize| x * mono.len() / PANEL.0;
        let column = &mono[edge(x)..edge(x + 1)];
        let (low, high, square) = column
            .iter()
            .fold((0.0f32, 0.0f32, 0.0f32), |(l, h, s), &v| {
                (l.min(v), h.max(v), s + v * v)
            });
        let rms = (square / column.len().max(1) as f32).sqrt();
        for (top, bottom, colour) in [(high, low, [92, 120, 160]), (rms, -rms, [150, 190, 240])] {
            let (top, bottom) = (y(top) as usize, y(bottom) as usize);
            canvas.fill((LEFT + x, 4 + top), (1, bottom - top + 1), colour);
        }
    }
    panel.spectrum(&mut canvas, &spectrum, top_db);
    panel.frequencies(&mut canvas);
    panel.times(&mut canvas, 0);
    canvas.save(path)
}

/// Where a panel lies and what its width means.
struct Panel {
    top: usize,
    seconds: f64,
}

impl Panel {
    fn x(&self, seconds: f64) -> usize {
        let share = (seconds / self.seconds).clamp(0.0, 1.0);
        LEFT + (share * PANEL.0 as f64).round() as usize
    }

    fn spectrum(&self, canvas: &mut Canvas, columns: &[Vec<f64>], top_db: f64) {
        for (x, column) in columns.iter().enumerate() {
            for (y, &db) in column.iter().enumerate() {
                let level = ((db - top_db) / RANGE_DB + 1.0).clamp(0.0, 1.0);
                canvas.set((LEFT + x, self.top + TITLE + y), heat(level));
            }
        }
    }

    fn frequencies(&self, canvas: &mut Canvas) {
        for (hz, label) in TICKS_HZ {
            let share = (RANGE_HZ.1 / hz).ln() / (RANGE_HZ.1 / RANGE_HZ.0).ln();
            let y = self.top + TITLE + (share * PANEL.1 as f64) as usize;
            canvas.fill((LEFT - 6, y), (6, 1), INK);
            let at = LEFT - 10 - text::width(label, 2);
            text::write(canvas, (at, y - text::height(2) / 2), label, 2, INK);
        }
        let top = self.top + TITLE + 2;
        text::write(canvas, (4, top), "hz", 2, FAINT);
    }

    fn strip(&self, canvas: &mut Canvas, row: usize, name: &str, spans: &[Span]) {
        let y = self.top + TITLE + PANEL.1 + row * STRIP + 2;
        let at = LEFT - 10 - text::width(name, 2);
        text::write(canvas, (at, y), name, 2, INK);
        canvas.fill((LEFT, y), (PANEL.0, STRIP - 3), [30, 31, 40]);
        for span in spans.iter().filter(|s| s.row == name) {
            let (start, end) = (self.x(span.start), self.x(span.end));
            let colour = mix(
                PAPER,
                kind_colour(span.kind),
                0.35 + 0.65 * f64::from(span.severity),
            );
            canvas.fill((start, y), ((end - start).max(1), STRIP - 3), colour);
        }
    }

    fn times(&self, canvas: &mut Canvas, rows: usize) {
        let y = self.top + TITLE + PANEL.1 + rows * STRIP;
        let step = [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0]
            .into_iter()
            .find(|step| self.seconds / step <= 16.0)
            .unwrap_or(600.0);
        for i in 0..=(self.seconds / step) as usize {
            let t = i as f64 * step;
            let x = self.x(t);
            canvas.fill((x.min(LEFT + PANEL.0 - 1), y), (1, 5), INK);
            let label = if step < 1.0 {
                format!("{t:.1}")
            } else {
                format!("{}:{:02}", t as u64 / 60, t as u64 % 60)
            };
            let at = (x - text::width(&label, 2) / 2).min(LEFT + PANEL.0 - text::width(&label, 2));
            text::write(canvas, (at, y + 8), &label, 2, INK);
        }
    }
}

/// The kinds of damage that `spans` hold, in their colours, right of the title.
fn legend(canvas: &mut Canvas, y: usize, spans: &[Span]) {
    let mut x = LEFT + 140;
    for kind in DamageKind::ALL {
        if spans.iter().any(|s| s.kind == kind) {
            canvas.fill((x, y), (10, 10), kind_colour(kind));
            text::write(canvas, (x + 16, y), kind.label(), 2, INK);
            x += 16 + text::width(kind.label(), 2) + 16;
        }
    }
}

fn kind_colour(kind: DamageKind) -> Rgb {
    match kind {
        DamageKind::Clipping => [240, 84, 84],
        DamageKind::Saturation => [247, 150, 61],
        DamageKind::Click => [250, 221, 90],
        DamageKind::Dropout => [232, 236, 244],
        DamageKind::BandLimit => [96, 165, 250],
        DamageKind::Noise => [148, 163, 184],
        DamageKind::Reverb => [74, 201, 176],
        DamageKind::Codec => [192, 132, 252],
    }
}

/// Columns of dB, from the top of the panel down: the power of the strongest bin of each pixel row,
/// interpolated between bins where a row is narrower than a bin.
fn spectrogram(audio: &AudioBuffer, seconds: f64) -> Vec<Vec<f64>> {
    let rate = f64::from(audio.sample_rate);
    let window = ((WINDOW * rate / 48_000.0) as usize).next_power_of_two();
    let shape: Vec<f32> = (0..window)
        .map(|n| {
            (std::f64::consts::PI * (n as f64 + 0.5) / window as f64)
                .sin()
                .powi(2) as f32
        })
        .collect();
    let fft = RealFftPlanner::<f32>::new().plan_fft_forward(window);
    let (mut time, mut bins) = (fft.make_input_vec(), fft.make_output_vec());
    let mono = audio.mono();
    (0..PANEL.0)
        .map(|x| {
            let centre = (x as f64 + 0.5) / PANEL.0 as f64 * seconds * rate;
            let first = centre as i64 - window as i64 / 2;
            for (n, (time, shape)) in time.iter_mut().zip(&shape).enumerate() {
                let at = usize::try_from(first + n as i64).ok();
                *time = at.and_then(|at| mono.get(at)).copied().unwrap_or(0.0) * shape;
            }
            if fft.process(&mut time, &mut bins).is_err() {
                // Only wrong buffer lengths fail, and these are the planner's own.
                bins.fill(Default::default());
            }
            let power: Vec<f64> = bins.iter().map(|b| f64::from(b.norm_sqr())).collect();
            (0..PANEL.1).map(|y| row_db(&power, y, rate)).collect()
        })
        .collect()
}

fn row_db(power: &[f64], y: usize, rate: f64) -> f64 {
    let hz = |y: f64| RANGE_HZ.1 * (RANGE_HZ.0 / RANGE_HZ.1).powf(y / PANEL.1 as f64);
    let bin = |hz: f64| hz / rate * 2.0 * (power.len() - 1) as f64;
    let (high, low) = (bin(hz(y as f64)), bin(hz(y as f64 + 1.0)));
    let at = |i: usize| power.get(i).copied().unwrap_or(0.0);
    let (first, last) = (low.ceil() as usize, high.floor() as usize);
    let value = if first <= last {
        (first..=last).map(at).fold(0.0, f64::max)
    } else {
        let middle = 0.5 * (low + high);
        let (i, share) = (middle as usize, middle.fract());
        at(i) * (1.0 - share) + at(i + 1) * share
    };
    10.0 * value.max(1e-20).log10()
}

/// From black through violet and orange to pale yellow; lightness rises all the way.
fn heat(level: f64) -> Rgb {
    const STOPS: [Rgb; 7] = [
        [8, 8, 16],
        [38, 20, 74],
        [98, 24, 110],
        [165, 44, 96],
        [220, 88, 56],
        [248, 160, 50],
        [252, 246, 196],
    ];
    let at = level * (STOPS.len() - 1) as f64;
    let i = (at as usize).min(STOPS.len() - 2);
    mix(STOPS[i], STOPS[i + 1], at - i as f64)
}

fn mix(a: Rgb, b: Rgb, share: f64) -> Rgb {
    std::array::from_fn(|c| {
        (f64::from(a[c]) + (f64::from(b[c]) - f64::from(a[c])) * share.clamp(0.0, 1.0)).round()
            as u8
    })
}

/// Pixels.
struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Canvas {
    fn new(width: usize, height: usize) -> Self {
        Self {
            width,
            height,
            pixels: PAPER.repeat(width * height),
        }
    }

    fn set(&mut self, (x, y): (usize, usize), colour: Rgb) {
        if x < self.width && y < self.height {
            let at = 3 * (y * self.width + x);
            self.pixels[at..at + 3].copy_from_slice(&colour);
        }
    }

    fn fill(&mut self, (left, top): (usize, usize), (width, height): (usize, usize), colour: Rgb) {
        for y in top..top + height {
            for x in left..left + width {
                self.set((x, y), colour);
            }
        }
    }

    fn save(&self, path: &Path) -> Result<()> {
        let file =
            File::create(path).with_context(|| format!("{} can't be written", path.display()))?;
        let mut encoder = png::Encoder::new(
            BufWriter::new(file),
            u32::try_from(self.width)?,
            u32::try_from(self.height)?,
        );
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&self.pixels)?;
        writer.finish()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tone_is_drawn_at_its_frequency_and_time() {
        let rate = 48_000;
        let tone: Vec<f32> = (0..96_000)
            .map(|n| {
                let t = n as f64 / f64::from(rate);
                let on = if t < 1.0 { 0.5 } else { 0.0 };
                (on * (std::f64::consts::TAU * 1_000.0 * t).sin()) as f32
            })
            .collect();
        let columns = spectrogram(&AudioBuffer::new(vec![tone], rate), 2.0);
        let loudest = |column: &[f64]| {
            (0..column.len())
                .max_by(|&a, &b| column[a].total_cmp(&column[b]))
                .unwrap()
        };
        let y = loudest(&columns[PANEL.0 / 4]);
        let hz = RANGE_HZ.1 * (RANGE_HZ.0 / RANGE_HZ.1).powf((y as f64 + 0.5) / PANEL.1 as f64);
        assert!((hz / 1_000.0).log2().abs() < 0.05, "{hz}");
        let level = |x: usize| columns[x][y];
        assert!(level(PANEL.0 / 4) > level(PANEL.0 * 3 / 4) + 80.0);
    }

    #[test]
    fn colours_get_lighter_with_the_level() {
        let light =
            |c: Rgb| 0.3 * f64::from(c[0]) + 0.59 * f64::from(c[1]) + 0.11 * f64::from(c[2]);
        let lights: Vec<f64> = (0..=100)
            .map(|i| light(heat(f64::from(i) / 100.0)))
            .collect();
        assert!(lights.windows(2).all(|w| w[1] >= w[0] - 1.0), "{lights:?}");
    }
}

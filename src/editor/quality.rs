// [main] Measurements before and after the repair, and their change; copied as text. The average spectra of both.

use std::{ops::RangeInclusive, sync::Arc};

use egui::{Grid, Margin, RichText, Sense, Ui, WidgetInfo};
use egui_plot::{
    AxisHints, GridInput, GridMark, HoverPosition, Line, Plot, PlotBounds, PlotPoints,
};

use crate::{
    editor::{
        controls,
        model::{Command, Model},
        state::State,
        theme,
    },
    exchange::SamplePos,
    metrics::{Comparison, Quality},
    worker::{
        picture::{BANDS, Picture, SPECTRUM_FLOOR_DB, SPECTRUM_HZ},
        view::TakeView,
    },
};

/// A measurement: its name, unit, digits, what it means, and where it lies.
struct Measure {
    name: &'static str,
    unit: &'static str,
    digits: usize,
    hint: &'static str,
    of: fn(&Quality) -> Option<f64>,
    /// Whether more, less, or neither is better.
    better: f64,
}

const MEASURES: [Measure; 6] = [
    Measure {
        name: "Signal to noise",
        unit: "dB",
        digits: 1,
        hint: "Music over steady background noise, estimated",
        of: |q| q.snr_db,
        better: 1.0,
    },
    Measure {
        name: "Loudness",
        unit: "LUFS",
        digits: 1,
        hint: "Integrated loudness (EBU R 128)",
        of: |q| q.lufs,
        better: 0.0,
    },
    Measure {
        name: "True peak",
        unit: "dBTP",
        digits: 1,
        hint: "Highest peak between the samples",
        of: |q| q.true_peak_dbtp,
        better: 0.0,
    },
    Measure {
        name: "Spectral centroid",
        unit: "Hz",
        digits: 0,
        hint: "Centre of the spectrum: higher is brighter",
        of: |q| q.centroid_hz,
        better: 0.0,
    },
    Measure {
        name: "Clipped samples",
        unit: "%",
        digits: 2,
        hint: "Share of the samples that lie in flat tops",
        of: |q| q.clipping_share.map(|share| 100.0 * share),
        better: -1.0,
    },
    Measure {
        name: "Artefacts",
        unit: "",
        digits: 0,
        hint: "Places with something that should not be heard",
        of: |q| Some(q.artefacts.len() as f64),
        better: -1.0,
    },
];

impl Measure {
    fn text(&self, value: Option<f64>, signed: bool) -> String {
        let Some(value) = value else {
            return "–".to_owned();
        };
        let digits = self.digits;
        // Adding zero turns -0 into 0.
        let scale = 10f64.powi(digits as i32);
        let value = (value * scale).round() / scale + 0.0;
        let sign = if signed && value > 0.0 { "+" } else { "" };
        // A difference of loudnesses is counted in LU, one of levels in dB.
        let unit = match (signed, self.unit) {
            (true, "LUFS") => "LU",
            (true, "dBTP") => "dB",
            (_, unit) => unit,
        };
        format!("{sign}{value:.digits$} {unit}")
            .trim_end()
            .to_owned()
    }

    fn change(&self, c: &Comparison) -> Option<f64> {
        Some((self.of)(&c.after)? - (self.of)(&c.before)?)
    }
}

/// The table as text, columns parted by tabs.
pub fn as_text(c: &Comparison) -> String {
    let mut out = "\tbefore\tafter\tchange\n".to_owned();
    for m in &MEASURES {
        let [before, after] = [&c.before, &c.after].map(|q| m.text((m.of)(q), false));
        out.push_str(&format!(
            "{}\t{before}\t{after}\t{}\n",
            m.name,
            m.text(m.change(c), true)
        ));
    }
    out
}

/// The table, or the spectra.
pub fn draw(ui: &mut Ui, model: &Model<'_>, state: &mut State, out: &mut Vec<Command>) {
    let p = theme::of(ui);
    let take = model.current_take();
    let findings = take.and_then(|take| take.findings.as_ref());
    let (Some(take), Some(c)) = (take, findings.and_then(|f| f.quality.as_ref())) else {
        let text = if findings.is_some() {
            "This analysis was made by an older version. Analyse again to measure."
        } else {
            "Analyse first: then recording and repair are measured side by side."
        };
        ui.label(RichText::new(text).color(p.dim));
        return;
    };
    ui.add_space(2.0);
    ui.horizontal(|ui| {
        let views = [
            (
                "Numbers",
                "Numbers",
                "Measurements of recording and repair",
                !state.spectrum,
            ),
            (
                "Spectrum",
                "Spectrum",
                "How loud each frequency is on average, before and after",
                state.spectrum,
            ),
        ];
        if let Some(i) = controls::segments(ui, &views) {
            state.spectrum = i == 1;
        }
        ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
            let hint = "The numbers, for a mail or a spreadsheet";
            if ui.button("Copy as text").on_hover_text(hint).clicked() {
                out.push(Command::Copy(as_text(c)));
            }
        });
    });
    ui.add_space(4.0);
    if state.spectrum {
        let spectra = state.spectra.of(take);
        plot(ui, &spectra);
    } else {
        table(ui, c);
    }
}

fn table(ui: &mut Ui, c: &Comparison) {
    let p = theme::of(ui);
    let narrow = ui.available_width() < 400.0;
    ui.spacing_mut().interact_size.y = 15.0;
    if narrow {
        ui.style_mut().override_font_id = Some(egui::FontId::proportional(12.0));
    }
    Grid::new("quality")
        .num_columns(4)
        .spacing([if narrow { 10.0 } else { 20.0 }, 5.0])
        .striped(true)
        .show(ui, |ui| {
            for title in ["", "before", "after", "change"] {
                ui.label(RichText::new(title).small().color(p.dim));
            }
            ui.end_row();
            for m in &MEASURES {
                ui.label(m.name).on_hover_text(m.hint);
                ui.label(RichText::new(m.text((m.of)(&c.before), false)).color(p.dim));
                ui.label(m.text((m.of)(&c.after), false));
                let change = m.change(c);
                let good = change.map_or(0.0, |x| x * m.better);
                let colour = match good {
                    g if g > 0.0 => p.accent,
                    g if g < 0.0 => p.warning,
                    _ => p.text,
                };
                let text = RichText::new(m.text(change, true)).font(theme::strong(theme::BODY));
                ui.label(text.color(colour));
                ui.end_row();
            }
        });
    ui.add_space(4.0);
    let words = "Measured with every blend at 100 %, before output gain and mix.";
    ui.label(RichText::new(words).small().color(p.dim));
}

/// Average level of each band in dB under a full-scale sine's: of the recording and of the repair.
pub type Spectra = [Vec<f64>; 2];

/// The spectra of the take that was shown last: an hour has 84 thousand columns.
#[derive(Default)]
pub struct SpectrumCache(Option<(SamplePos, usize, Arc<Picture>, Arc<Spectra>)>);

impl SpectrumCache {
    /// Of `take`; a spectrum is empty where there is no picture.
    pub fn of(&mut self, take: &TakeView) -> Arc<Spectra> {
        let columns = take.before.spectrum.len();
        if let Some((start, len, after, spectra)) = &self.0
            && (*start, *len) == (take.start, columns)
            && Arc::ptr_eq(after, &take.after)
        {
            return spectra.clone();
        }
        let rate = take.sample_rate;
        let spectra = Arc::new([average(&take.before, rate), average(&take.after, rate)]);
        self.0 = Some((take.start, columns, take.after.clone(), spectra.clone()));
        spectra
    }
}

/// The mean power of each band over the whole picture, in dB, as far up as the rate (Hz) has frequencies.
fn average(picture: &Picture, rate: u32) -> Vec<f64> {
    let columns = picture.spectrum.len();
    if columns == 0 {
        return Vec::new();
    }
    let power: Vec<f64> = (0..256)
        .map(|level| {
            10f64.powf(0.1 * f64::from(SPECTRUM_FLOOR_DB) * (1.0 - f64::from(level) / 255.0))
        })
        .collect();
    let mut sums = [0.0; BANDS];
    for column in 0..columns {
        if let Some(bands) = picture.spectrum.over(column..column + 1) {
            for (sum, level) in sums.iter_mut().zip(bands.0) {
                *sum += power[usize::from(level)];
            }
        }
    }
    let highest = (0.5 * f64::from(rate)).log10();
    let db = |sum: f64| 10.0 * (sum / columns as f64).max(1e-12).log10();
    let heard = sums.into_iter().enumerate();
    heard
        .take_while(|(band, _)| place(*band) < highest)
        .map(|(_, sum)| db(sum))
        .collect()
}

/// Middle of a band as the logarithm of its Hz.
fn place(band: usize) -> f64 {
    let (low, high) = SPECTRUM_HZ;
    (low * (high / low).powf((band as f64 + 0.5) / BANDS as f64)).log10()
}

/// Both spectra over a logarithmic axis.
fn plot(ui: &mut Ui, spectra: &Spectra) {
    let p = theme::of(ui);
    let points = |levels: &[f64]| -> PlotPoints<'static> {
        let all = levels.iter().enumerate();
        all.map(|(band, db)| [place(band), *db]).collect()
    };
    ui.horizontal(|ui| {
        for (name, colour) in [("recorded", p.dim), ("repaired", p.accent)] {
            let (rect, _) = ui.allocate_exact_size(egui::vec2(14.0, 10.0), Sense::hover());
            let y = rect.center().y;
            let stroke = egui::Stroke::new(2.0, colour);
            ui.painter().hline(rect.x_range(), y, stroke);
            ui.label(RichText::new(name).small().color(p.dim));
        }
    });
    let (low, high) = SPECTRUM_HZ;
    let loudest = (spectra.iter().flatten()).fold(f64::NEG_INFINITY, |m, db| m.max(*db));
    let top = if loudest.is_finite() {
        (loudest / 12.0).ceil() * 12.0
    } else {
        0.0
    };
    let font = egui::FontId::proportional(10.0);
    let axis = |hints: AxisHints<'static>, name: &str| {
        let name = RichText::new(name).small().color(p.dim);
        hints
            .label(name)
            .tick_label_font(font.clone())
            .tick_label_color(p.dim)
    };
    let [x, y] = [AxisHints::new_x(), AxisHints::new_y()];
    let plot = Plot::new("spectrum")
        .height((ui.available_height() - 4.0).clamp(110.0, 240.0))
        .sense(Sense::hover())
        .allow_drag(false)
        .allow_zoom(false)
        .allow_scroll(false)
        .allow_boxed_zoom(false)
        .allow_axis_zoom_drag(false)
        .allow_double_click_reset(false)
        .show_background(false)
        .set_margin_fraction(egui::Vec2::ZERO)
        .grid_color(p.line)
        .x_grid_spacer(|_: GridInput| octaves())
        .y_grid_spacer(|input: GridInput| {
            let (from, to) = input.bounds;
            let first = (from / 12.0).ceil() as i64;
            (first..=(to / 12.0).floor() as i64)
                .map(|step| GridMark {
                    value: 12.0 * step as f64,
                    step_size: 12.0,
                })
                .collect()
        })
        .custom_x_axes(vec![axis(x, "Hz").label_spacing(20.0..=30.0).formatter(
            |mark: GridMark, _: &RangeInclusive<f64>| hertz(mark.value),
        )])
        .custom_y_axes(vec![axis(y, "dB").label_spacing(12.0..=16.0).formatter(
            |mark: GridMark, _: &RangeInclusive<f64>| {
                // Adding zero turns -0 into 0.
                format!("{:.0}", mark.value + 0.0)
            },
        )])
        .label_formatter(|at: &HoverPosition<'_>| Some(words(at, spectra)));
    let ground = egui::Frame::new()
        .fill(p.well)
        .corner_radius(egui::CornerRadius::same(theme::BUTTON_RADIUS))
        .inner_margin(Margin {
            right: 14,
            ..Margin::same(4)
        });
    let shown = ground.show(ui, |ui| {
        plot.show(ui, |plot| {
            let (left, right) = (low.log10(), high.log10());
            plot.set_plot_bounds(PlotBounds::from_min_max([left, top - 72.0], [right, top]));
            for (levels, name, colour, width) in [
                (&spectra[0], "recorded", p.dim, 1.5),
                (&spectra[1], "repaired", p.accent, 2.0),
            ] {
                plot.line(Line::new(name, points(levels)).color(colour).width(width));
            }
        })
    });
    let told = "Average spectrum before and after";
    (shown.inner.response).widget_info(|| WidgetInfo::labeled(egui::Role::Image, true, told));
}

/// Where lines stand: 50, 100, 200, 500 Hz and so on.
fn octaves() -> Vec<GridMark> {
    [50.0, 100.0, 200.0, 500.0, 1e3, 2e3, 5e3, 10e3, 20e3]
        .map(|hz: f64| GridMark {
            value: hz.log10(),
            // As if all were of one kind: all get a line and a name.
            step_size: 0.3,
        })
        .to_vec()
}

/// "200", "2k" of the logarithm of a frequency.
fn hertz(log: f64) -> String {
    match 10f64.powf(log).round() {
        hz if hz >= 1e3 => format!("{:.0}k", hz / 1e3),
        hz => format!("{hz:.0}"),
    }
}

/// What is under the pointer: "1.2 kHz: recorded -31 dB, repaired -28 dB".
fn words(at: &HoverPosition<'_>, spectra: &Spectra) -> String {
    let log = match at {
        HoverPosition::NearDataPoint { position, .. } => position.x,
        HoverPosition::Elsewhere { position } => position.x,
    };
    let (low, high) = (SPECTRUM_HZ.0.log10(), SPECTRUM_HZ.1.log10());
    let band = ((log - low) / (high - low) * BANDS as f64).clamp(0.0, BANDS as f64 - 1.0) as usize;
    let hz = 10f64.powf(place(band));
    let mut text = if hz >= 1e3 {
        format!("{:.1} kHz", hz / 1e3)
    } else {
        format!("{hz:.0} Hz")
    };
    for (levels, name) in spectra.iter().zip(["recorded", "repaired"]) {
        if let Some(db) = levels.get(band) {
            text.push_str(&format!("\n{name} {db:.0} dB"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::picture::Painter;

    /// Half the time a tone of -20 dBFS, half the time silence: 3 dB less on average, in its band.
    #[test]
    fn the_average_spectrum_is_the_mean_power_of_each_band() {
        let rate = 48_000;
        let tone: Vec<f32> = (0..10 * rate as usize)
            .map(|n| {
                let t = n as f64 / f64::from(rate);
                let on = if t < 5.0 { 0.1 } else { 0.0 };
                (on * (std::f64::consts::TAU * 1_000.0 * t).sin()) as f32
            })
            .collect();
        let mut take = TakeView {
            before: Painter::paint(&[&tone[..], &tone[..]], rate),
            sample_rate: rate,
            ..TakeView::default()
        };
        let mut cache = SpectrumCache::default();
        let spectra = cache.of(&take);
        let levels = &spectra[0];
        assert_eq!((levels.len(), spectra[1].len()), (BANDS, 0));
        let loudest = (0..BANDS)
            .max_by(|a, b| levels[*a].total_cmp(&levels[*b]))
            .unwrap();
        assert!(
            (10f64.powf(place(loudest)) / 1_000.0).ln().abs() < 0.1,
            "{loudest}"
        );
        assert!(
            (levels[loudest] + 23.0).abs() < 0.8,
            "{} dB",
            levels[loudest]
        );
        assert!(levels[4] < -80.0 && levels[BANDS - 2] < -80.0);
        // Worked out once, and anew for another picture.
        assert!(Arc::ptr_eq(&spectra, &cache.of(&take)));
        take.after = Arc::new(take.before.clone());
        take.sample_rate = 8_000;
        let low = &cache.of(&take)[1];
        assert!(low.len() < BANDS && place(low.len() - 1) < 4_000f64.log10());
        take.sample_rate = rate;
        take.after = Arc::new(take.before.clone());
        assert_eq!(cache.of(&take)[1].len(), BANDS);
        assert_eq!(
            (hertz(200f64.log10()), hertz(10_000f64.log10())),
            ("200".into(), "10k".into())
        );
    }

    #[test]
    fn the_text_holds_before_after_and_change_with_units() {
        let side = |snr: Option<f64>, lufs: f64| Quality {
            snr_db: snr,
            lufs: Some(lufs),
            true_peak_dbtp: Some(-0.04),
            centroid_hz: Some(1_234.4),
            clipping_share: Some(0.0312),
            artefacts: Vec::new(),
        };
        let c = Comparison {
            before: side(Some(21.0), -18.0),
            after: side(None, -16.5),
        };
        let text = as_text(&c);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "\tbefore\tafter\tchange");
        assert_eq!(lines[1], "Signal to noise\t21.0 dB\t–\t–");
        assert_eq!(lines[2], "Loudness\t-18.0 LUFS\t-16.5 LUFS\t+1.5 LU");
        assert_eq!(lines[3], "True peak\t0.0 dBTP\t0.0 dBTP\t0.0 dB");
        assert_eq!(lines[4], "Spectral centroid\t1234 Hz\t1234 Hz\t0 Hz");
        assert_eq!(lines[5], "Clipped samples\t3.12 %\t3.12 %\t0.00 %");
        assert_eq!(lines[6], "Artefacts\t0\t0\t0");
    }
}

// [main] Measurements before and after the repair, and their change; copied as text.

use egui::{Grid, RichText, Ui};

use crate::{
    editor::{
        model::{Command, Model},
        theme,
    },
    metrics::{Comparison, Quality},
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

/// The table.
pub fn draw(ui: &mut Ui, model: &Model<'_>, out: &mut Vec<Command>) {
    let p = theme::of(ui);
    let findings = model.current_take().and_then(|take| take.findings.as_ref());
    let Some(c) = findings.and_then(|f| f.quality.as_ref()) else {
        let text = if findings.is_some() {
            "This analysis was made by an older version. Analyse again to measure."
        } else {
            "Analyse first: then recording and repair are measured side by side."
        };
        ui.label(RichText::new(text).color(p.dim));
        return;
    };
    Grid::new("quality")
        .num_columns(4)
        .spacing([14.0, 6.0])
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
                ui.label(RichText::new(m.text(change, true)).strong().color(colour));
                ui.end_row();
            }
        });
    ui.add_space(6.0);
    ui.label(
        RichText::new("Measured with every blend at 100 %, before output gain and mix.")
            .small()
            .color(p.dim),
    );
    if ui
        .button("Copy as text")
        .on_hover_text("The table, for a mail or a spreadsheet")
        .clicked()
    {
        out.push(Command::Copy(as_text(c)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

// [main] The proposed repair as a checklist: what, where, why, how sure; each to accept, refuse or adjust.

use std::sync::Arc;

use egui::{RichText, ScrollArea, Ui, WidgetInfo, vec2};
use nice_plug::prelude::{FloatParam, Param};

use crate::{
    damage::{DEFAULT_THRESHOLD, DamageKind, FRAMES_PER_SECOND, Severity, Stem},
    editor::{
        controls,
        history::Change,
        model::{Command, Model},
        state::State,
        status, theme,
        verdict::{self, MIN_SHARE, Wrong},
        waveform,
    },
    exchange::SamplePos,
    params::UncookParams,
    worker::{
        options::CaptureMode,
        session::{Decision, Edits},
        view::{Findings, StemFindings, TakeState, TakeView},
    },
};

/// Spans closer than this are one line, in seconds; doubled until there are few enough lines.
const MIN_GAP: f64 = 1.0;
/// Width of a line's slider with its value.
const AMOUNT_WIDTH: f32 = 120.0;
/// Lines a stem, at most, and parts of a line.
const MAX_SPANS: usize = 6;
const MAX_PARTS: usize = 12;
/// Shorter parts, in seconds, have no line.
const MIN_PART: f64 = 0.02;

/// A rebuilt stretch of a stem.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    pub stem: Stem,
    pub start: SamplePos,
    pub end: SamplePos,
    /// Seconds on the host's clock.
    pub from: f64,
    pub to: f64,
    /// The kind that hurts most there; `None` where it was rebuilt on demand.
    pub kind: Option<DamageKind>,
    pub severity: f32,
    /// Mean severity of the damaged frames: how sure the measurement is, 0..=1.
    pub confidence: f32,
    /// Rebuilt over the whole take, because the user wants it so.
    pub throughout: bool,
    /// Samples a second.
    pub rate: f64,
}

/// Damage of the mix that a live stage repairs.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    pub kind: DamageKind,
    /// Share of the time, 0..=1.
    pub share: f32,
    /// Second of the worst frame on the host's clock.
    pub worst_at: f64,
    pub severity: f32,
    pub confidence: f32,
    /// Samples a second.
    pub rate: f64,
}

/// The checklist of a take.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub stages: Vec<Stage>,
    pub spans: Vec<Span>,
    /// What is wrong in words, what hurts most first.
    pub wrongs: Vec<Wrong>,
}

/// The plan of the take that was shown last: findings of an hour are long.
#[derive(Default)]
pub struct PlanCache(Option<(Arc<Findings>, SamplePos, Arc<Plan>)>);

impl PlanCache {
    /// The plan of `take`; empty while it is not analysed.
    pub fn of(&mut self, take: Option<&TakeView>) -> Arc<Plan> {
        let Some((take, findings)) = take.and_then(|t| Some((t, t.findings.as_ref()?))) else {
            return Arc::default();
        };
        match &self.0 {
            Some((of, start, plan)) if Arc::ptr_eq(of, findings) && *start == take.start => {
                plan.clone()
            }
            _ => {
                let plan = Arc::new(Plan::new(take, findings));
                self.0 = Some((findings.clone(), take.start, plan.clone()));
                plan
            }
        }
    }
}

impl Plan {
    /// What is damaged in `take`, and what is proposed.
    pub fn new(take: &TakeView, findings: &Findings) -> Self {
        let rate = f64::from(take.sample_rate.max(1));
        let origin = take.start.0 as f64 / rate;
        let stages: Vec<Stage> = (DamageKind::ALL.into_iter())
            .filter_map(|kind| {
                let frames = findings.damage.frames.iter().map(|f| f[kind as usize]);
                let share = findings.damage.share(kind, DEFAULT_THRESHOLD);
                let (worst, severity) = (frames.clone().enumerate())
                    .fold((0, 0.0), |best, at| if at.1 > best.1 { at } else { best });
                (share >= MIN_SHARE).then(|| Stage {
                    kind,
                    share,
                    worst_at: origin + worst as f64 / FRAMES_PER_SECOND as f64,
                    severity,
                    confidence: mean_over_threshold(frames),
                    rate,
                })
            })
            .collect();
        let spans = (Stem::ALL.into_iter())
            .flat_map(|stem| spans(take, stem, &findings.stems[stem as usize]))
            .collect();
        let wrongs = verdict::of(take, findings, &stages);
        Self {
            stages,
            spans,
            wrongs,
        }
    }

    /// Lines there are.
    pub fn len(&self) -> usize {
        self.stages.len() + self.spans.len()
    }

    /// Whether there is nothing to repair.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn mean_over_threshold(frames: impl Iterator<Item = f32>) -> f32 {
    let (sum, count) = frames
        .filter(|s| *s >= DEFAULT_THRESHOLD)
        .fold((0.0f64, 0u32), |(sum, n), s| (sum + f64::from(s), n + 1));
    if count == 0 {
        0.0
    } else {
        (sum / f64::from(count)) as f32
    }
}

/// The kind that damages most of the frames, by how much: the one that the verdict and the stem's row name, too.
fn dominant(frames: &[Severity]) -> Option<DamageKind> {
    let weight = |kind: DamageKind| -> f64 {
        let hurt = frames.iter().map(|frame| f64::from(frame[kind as usize]));
        hurt.filter(|s| *s >= f64::from(DEFAULT_THRESHOLD)).sum()
    };
    let all = DamageKind::ALL.map(|kind| (kind, weight(kind)));
    let most = all.into_iter().max_by(|a, b| a.1.total_cmp(&b.1));
    most.filter(|(_, weight)| *weight > 0.0)
        .map(|(kind, _)| kind)
}

/// Where `stem` was rebuilt. The findings say that it was; its damage says where.
fn spans(take: &TakeView, stem: Stem, found: &StemFindings) -> Vec<Span> {
    if !found.rebuilt {
        return Vec::new();
    }
    let per_second = FRAMES_PER_SECOND as f64;
    let frames = &found.damage.frames;
    let damaged: Vec<usize> = (frames.iter().enumerate())
        .filter(|(_, frame)| frame.iter().any(|s| *s >= DEFAULT_THRESHOLD))
        .map(|(i, _)| i)
        .collect();
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    let mut gap = MIN_GAP;
    loop {
        ranges.clear();
        for &i in &damaged {
            match ranges.last_mut() {
                Some((_, end)) if (i - *end) as f64 <= gap * per_second => *end = i + 1,
                _ => ranges.push((i, i + 1)),
            }
        }
        if ranges.len() <= MAX_SPANS {
            break;
        }
        gap *= 2.0;
    }
    let whole = (
        0,
        frames
            .len()
            .max((take.frames as f64 / f64::from(take.sample_rate.max(1)) * per_second) as usize),
    );
    let throughout = found.made.is_some_and(|made| made.throughout);
    if throughout || ranges.is_empty() {
        // Rebuilt on demand, damaged or not.
        ranges = vec![whole];
    }
    let rate = f64::from(take.sample_rate.max(1));
    let origin = take.start.0 as f64 / rate;
    let last = ranges.len() - 1;
    let cuts: Vec<usize> = ranges.windows(2).map(|w| (w[0].1 + w[1].0) / 2).collect();
    (ranges.iter().enumerate())
        .map(|(i, &(from, to))| {
            let inside = &frames[from.min(frames.len())..to.min(frames.len())];
            let kind = dominant(inside);
            let severity = kind.map_or(0.0, |kind| {
                let all = inside.iter().map(|frame| frame[kind as usize]);
                all.fold(0.0, f32::max)
            });
            let strongest = inside.iter().map(|f| f.iter().copied().fold(0.0, f32::max));
            // A decision holds half-way to its neighbours: rebuilding reaches beyond the damage.
            let begin = if i == 0 { 0 } else { cuts[i - 1] };
            let until = if i == last { whole.1 } else { cuts[i] };
            let pos = |frame: usize| {
                take.start
                    .offset((frame as f64 / per_second * rate).round() as i64)
            };
            Span {
                stem,
                start: pos(begin),
                end: if i == last {
                    crate::editor::timeline::take_end(take)
                } else {
                    pos(until)
                },
                from: origin + from as f64 / per_second,
                to: origin + to as f64 / per_second,
                kind,
                severity,
                confidence: mean_over_threshold(strongest),
                throughout,
                rate,
            }
        })
        .collect()
}

impl Span {
    /// "0:41–0:44". Short ones are told apart by their hundredths.
    pub fn place(&self) -> String {
        let clock = |seconds: f64| {
            if self.to - self.from < 2.0 {
                status::fine_time(seconds)
            } else {
                status::time(seconds.round())
            }
        };
        format!("{}–{}", clock(self.from), clock(self.to))
    }

    /// The parts of the span that were decided about differently, in order; itself where there is only one.
    pub fn parts(&self, edits: &Edits) -> Vec<Self> {
        let mut cuts: Vec<SamplePos> = (edits.decisions.iter())
            .filter(|d| d.stem == self.stem)
            .flat_map(|d| [d.start, d.end])
            .filter(|cut| self.start < *cut && *cut < self.end)
            .collect();
        cuts.sort_unstable();
        let percent = |pos: SamplePos| edits.percent_at(self.stem, pos);
        let mut parts: Vec<Self> = Vec::new();
        for (start, end) in [self.start]
            .into_iter()
            .chain(cuts.iter().copied())
            .zip(cuts.iter().copied().chain([self.end]))
        {
            match parts.last_mut() {
                Some(last) if percent(last.start) == percent(start) => last.end = end,
                _ => parts.push(Self {
                    start,
                    end,
                    ..self.clone()
                }),
            }
        }
        for part in &mut parts {
            part.from = self.from.max(part.start.0 as f64 / self.rate);
            part.to = self.to.min(part.end.0 as f64 / self.rate);
        }
        // A decision about the undamaged margin has no line of its own.
        parts.retain(|part| part.to - part.from > MIN_PART);
        if parts.is_empty() || parts.len() > MAX_PARTS {
            return vec![self.clone()];
        }
        parts
    }
}

/// Who repairs a kind of damage in the live chain, and by how much at least.
fn stage_of(params: &UncookParams, kind: DamageKind) -> Option<(&'static str, &FloatParam)> {
    let live = &params.live;
    Some(match kind {
        DamageKind::Clipping | DamageKind::Saturation => ("Declip", &live.declip),
        DamageKind::Click | DamageKind::Dropout => ("Declick", &live.declick),
        DamageKind::Noise => ("Denoise", &live.denoise),
        DamageKind::BandLimit => ("Restore treble", &live.treble),
        DamageKind::Reverb => ("Dereverb", &live.dereverb_late),
        DamageKind::Codec => return None,
    })
}

/// What is proposed where a parameter stands at 0: half the way and more, by severity.
fn proposal(severity: f32) -> f32 {
    (0.4 + 0.6 * severity).clamp(0.5, 1.0)
}

/// The checklist.
pub fn draw(ui: &mut Ui, model: &Model<'_>, state: &mut State, out: &mut Vec<Command>) {
    let p = theme::of(ui);
    let take = model.current_take();
    let plan = state.plan.of(take);
    let edits = &model.view.edits;
    ui.horizontal(|ui| {
        ui.label(theme::title(p, "REPAIR PLAN"));
        if !plan.spans.is_empty() {
            ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
                for (text, percent) in [("Refuse all", 0), ("Accept all", 100)] {
                    let hint = match percent {
                        0 => "Play the recorded drums and bass in every span of this take",
                        _ => "Play what was rebuilt in every span of this take",
                    };
                    if ui.small_button(text).on_hover_text(hint).clicked() {
                        let mut after = Edits::clone(edits);
                        plan.spans
                            .iter()
                            .for_each(|span| after.decide(decision(span, percent)));
                        decide(state, text.to_lowercase(), edits, after, out);
                    }
                }
            });
        }
    });
    if plan.is_empty() {
        ui.add_space(8.0);
        ui.label(RichText::new(empty_words(model, take)).color(p.dim));
        return;
    }
    ScrollArea::vertical()
        .id_salt("plan")
        .auto_shrink([false, false])
        .show(ui, |ui| {
            for stage in &plan.stages {
                stage_row(ui, model, stage, state, out);
            }
            let parts = plan.spans.iter().flat_map(|span| span.parts(edits));
            for span in parts.collect::<Vec<_>>() {
                span_row(ui, model, &span, state, out);
            }
            if let Some(findings) = take.and_then(|t| t.findings.as_ref()) {
                ui.add_space(theme::GAP);
                ui.label(theme::title(p, "WHAT WAS DONE"));
                for line in &findings.lines {
                    ui.label(RichText::new(line).small().color(p.dim));
                }
            }
        });
}

fn empty_words(model: &Model<'_>, take: Option<&TakeView>) -> &'static str {
    match take {
        None => {
            "1  Play the song: it is captured.\n2  Stop: it is analysed, and a repair is proposed here.\n\
             3  Accept, refuse or adjust each line, then bounce."
        }
        Some(take) if take.findings.is_some() => "No damage found. Nothing needs repair.",
        Some(_) if model.view.job.is_some() => "Measuring. The proposed repair appears here.",
        Some(take) if take.state == TakeState::Capturing => {
            match model.params.analysis.capture.value() {
                CaptureMode::Automatic => {
                    "Capturing. Stop playback, or press Analyse, for a proposed repair."
                }
                _ => "Capturing. Press Analyse for a proposed repair.",
            }
        }
        Some(take) if take.state == TakeState::Failed => {
            "The analysis failed. Press Analyse to try again."
        }
        Some(_) => "Captured. Press Analyse for a proposed repair.",
    }
}

fn decision(span: &Span, percent: u8) -> Decision {
    Decision {
        stem: span.stem,
        start: span.start,
        end: span.end,
        percent,
    }
}

fn decide(state: &mut State, name: String, before: &Edits, after: Edits, out: &mut Vec<Command>) {
    let before = before.clone();
    state
        .history
        .apply(name, Change::Edits { before, after }, out);
}

/// What a row says.
struct Words<'a> {
    /// Of its controls.
    name: &'a str,
    what: &'a str,
    why: &'a str,
    /// The same where there is no room for all of it.
    brief: &'a str,
}

/// What hands did to a row.
#[derive(Default)]
struct Touched {
    /// Its check box was clicked.
    decided: bool,
    /// Its words were: it is to be shown.
    shown: bool,
}

/// A coloured bar, a check box, two lines of words, an amount.
fn row(
    ui: &mut Ui,
    colour: egui::Color32,
    words: &Words<'_>,
    accepted: bool,
    adjust: impl FnOnce(&mut Ui),
) -> Touched {
    let p = theme::of(ui);
    let mut touched = Touched::default();
    ui.horizontal(|ui| {
        let (swatch, _) = ui.allocate_exact_size(vec2(5.0, 32.0), egui::Sense::hover());
        ui.painter().rect_filled(swatch, 2.0, colour);
        let mut on = accepted;
        let check = ui.checkbox(&mut on, "");
        check.widget_info(|| {
            WidgetInfo::selected(
                egui::Role::CheckBox,
                ui.is_enabled(),
                accepted,
                format!("Accept {}", words.name),
            )
        });
        touched.decided = check
            .on_hover_text(if accepted {
                "Accepted. Click to refuse."
            } else {
                "Refused. Click to accept."
            })
            .clicked();
        let width = (ui.available_width() - AMOUNT_WIDTH - 10.0).max(80.0);
        let (rect, response) = ui.allocate_exact_size(vec2(width, 32.0), egui::Sense::click());
        response.widget_info(|| {
            let name = format!("Show {}", words.name);
            WidgetInfo::labeled(egui::Role::Button, ui.is_enabled(), name)
        });
        let lit = response.hovered() || response.has_focus();
        let loud = match (lit, accepted) {
            (true, _) => p.accent,
            (_, true) => p.text,
            _ => p.dim,
        };
        let mut inside = ui.new_child(
            egui::UiBuilder::new()
                .max_rect(rect)
                .layout(egui::Layout::top_down(egui::Align::Min)),
        );
        inside.spacing_mut().item_spacing.y = 1.0;
        let font = egui::FontId::proportional(theme::SMALL);
        let galley = (inside.painter()).layout_no_wrap(words.why.to_owned(), font, p.dim);
        let fits = galley.size().x <= width;
        let why = if fits { words.why } else { words.brief };
        for text in [
            RichText::new(words.what).color(loud),
            RichText::new(why).small().color(p.dim),
        ] {
            let label = egui::Label::new(text)
                .truncate()
                .show_tooltip_when_elided(false);
            inside.add(label.selectable(false));
        }
        let response = response.on_hover_ui(|ui| {
            ui.label(RichText::new(words.what).font(theme::strong(theme::BODY)));
            ui.label(words.why);
            let hint = "Click to show it in the timeline";
            ui.label(RichText::new(hint).small().color(p.dim));
        });
        touched.shown = response.clicked();
        ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), adjust);
    });
    touched
}

fn stage_row(
    ui: &mut Ui,
    model: &Model<'_>,
    stage: &Stage,
    state: &mut State,
    out: &mut Vec<Command>,
) {
    let p = theme::of(ui);
    let colour = p.damage(stage.kind);
    let why = format!(
        "{} {:.0} % of the time, worst at {} · severity {:.1} · sure {:.0} %",
        stage.kind.label(),
        (100.0 * stage.share).max(1.0),
        status::time(stage.worst_at),
        stage.severity,
        100.0 * stage.confidence,
    );
    let brief = format!(
        "{} {:.0} % · {}",
        stage.kind.label(),
        (100.0 * stage.share).max(1.0),
        status::time(stage.worst_at)
    );
    let Some((verb, param)) = stage_of(model.params, stage.kind) else {
        ui.horizontal(|ui| {
            let (swatch, _) = ui.allocate_exact_size(vec2(5.0, 32.0), egui::Sense::hover());
            ui.painter().rect_filled(swatch, 2.0, colour);
            ui.vertical(|ui| {
                ui.spacing_mut().item_spacing.y = 1.0;
                ui.label(format!(
                    "{}: no stage repairs it",
                    status::capitalised(stage.kind.label())
                ));
                ui.label(RichText::new(why).small().color(p.dim));
            });
        });
        return;
    };
    let now = param.unmodulated_normalized_value();
    let name = format!("{verb} ({})", stage.kind.label());
    let amount = format!("Amount of {name}");
    let mut asked = Vec::new();
    let adjust = |ui: &mut Ui| {
        ui.allocate_ui_with_layout(
            vec2(AMOUNT_WIDTH, ui.available_height()),
            egui::Layout::left_to_right(egui::Align::Center),
            |ui| controls::slider(ui, &amount, ("", 0.0), "", param, &mut asked),
        );
    };
    let words = Words {
        name: &name,
        what: &format!("{verb} the mix"),
        why: &why,
        brief: &brief,
    };
    let touched = row(ui, colour, &words, now > 0.0, adjust);
    out.append(&mut asked);
    if touched.shown {
        let at = SamplePos((stage.worst_at * stage.rate) as i64);
        state.selection = None;
        waveform::show(
            model,
            state,
            at.offset(-(stage.rate as i64)),
            at.offset(stage.rate as i64),
        );
    }
    if touched.decided {
        let target = if now > 0.0 {
            0.0
        } else {
            proposal(stage.severity)
        };
        controls::change(param, target, out);
    }
}

fn span_row(
    ui: &mut Ui,
    model: &Model<'_>,
    span: &Span,
    state: &mut State,
    out: &mut Vec<Command>,
) {
    let p = theme::of(ui);
    let edits = &model.view.edits;
    let percent = edits.percent_at(span.stem, span.start);
    let place = span.place();
    let name = format!("{} {place}", span.stem.name());
    let verb = if percent > 0 {
        "Rebuild"
    } else {
        "Keep recorded"
    };
    let what = format!("{verb} {}  {place}", span.stem.name());
    let why = match span.kind {
        Some(kind) if span.throughout => format!(
            "throughout, as asked · {}, severity {:.1}",
            kind.label(),
            span.severity
        ),
        Some(kind) => format!(
            "{}, severity {:.1} · sure {:.0} %",
            kind.label(),
            span.severity,
            100.0 * span.confidence
        ),
        None => "rebuilt as asked".to_owned(),
    };
    let brief = match span.kind {
        Some(_) if span.throughout => "throughout, as asked".to_owned(),
        Some(kind) => format!("{}, severity {:.1}", kind.label(), span.severity),
        None => why.clone(),
    };
    let colour = span.kind.map_or(p.accent, |kind| p.damage(kind));
    let mut chosen = None;
    let adjust = |ui: &mut Ui| {
        chosen = controls::percent(
            ui,
            &format!("Amount of {name}"),
            AMOUNT_WIDTH,
            "How much of the rebuilt stem plays in this span",
            percent,
        );
    };
    let words = Words {
        name: &name,
        what: &what,
        why: &why,
        brief: &brief,
    };
    let mut verb = "adjust";
    let touched = row(ui, colour, &words, percent > 0, adjust);
    if touched.shown {
        // Selected, it can be refused in part or rebuilt anew.
        let pos = |seconds: f64| SamplePos((seconds * span.rate).round() as i64);
        let (start, end) = (pos(span.from), pos(span.to));
        state.selection = Some((start, end));
        state.stem = span.stem;
        let margin = (end.since(start) / 2).max(span.rate as i64);
        waveform::show(model, state, start.offset(-margin), end.offset(margin));
    }
    if touched.decided {
        verb = if percent > 0 { "refuse" } else { "accept" };
        chosen = Some(if percent > 0 { 0 } else { 100 });
    }
    if let Some(percent) = chosen {
        let mut after = Edits::clone(edits);
        after.decide(decision(span, percent));
        decide(state, format!("{verb} {name}"), edits, after, out);
    }
}

#[cfg(test)]
mod tests;

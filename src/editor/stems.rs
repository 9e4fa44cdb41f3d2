// [main] One row a stem: its damage and why, who rebuilds it, which rebuild plays, how much, heard alone.

use egui::{Align, ComboBox, Layout, RichText, Ui, WidgetInfo, vec2};
use nice_plug::prelude::Enum;

use crate::{
    damage::Stem,
    editor::{
        controls,
        history::Change,
        live,
        model::{Command, Model},
        state::State,
        status, theme,
        timeline::take_end,
        verdict::{self, MIN_SHARE},
        waveform,
    },
    exchange::SamplePos,
    params::MAX_SEED,
    worker::{
        options::RegeneratorChoice,
        session::{Decision, Edits, Listening, Regenerate},
        view::{Rebuild, TakeView},
    },
};

/// Room for what is said of a stem's damage.
const WORDS: f32 = 150.0;

/// Name of a stem as a title.
pub fn title(stem: Stem) -> &'static str {
    match stem {
        Stem::Drums => "Drums",
        Stem::Bass => "Bass",
        Stem::Other => "Other",
        Stem::Vocals => "Vocals",
    }
}

/// All rows.
pub fn draw(ui: &mut Ui, model: &Model<'_>, state: &mut State, out: &mut Vec<Command>) {
    ui.spacing_mut().button_padding = vec2(7.0, 1.0);
    ui.spacing_mut().item_spacing.y = 2.0;
    ui.spacing_mut().interact_size.y = 20.0;
    ui.add_space(2.0);
    for stem in Stem::ALL {
        row(ui, model, state, stem, out);
        ui.add_space(2.0);
    }
    controls::slider(
        ui,
        "Blend",
        ("All stems", 62.0),
        "Scales all four blends; 0 % plays the repaired recording, nothing rebuilt",
        &model.params.stems.master,
        out,
    );
}

/// Whether the panel is that of a small window.
fn is_narrow(ui: &Ui) -> bool {
    ui.max_rect().width() < 400.0
}

fn row(ui: &mut Ui, model: &Model<'_>, state: &mut State, stem: Stem, out: &mut Vec<Command>) {
    let p = theme::of(ui);
    let name = title(stem);
    let take = model.current_take();
    let findings = take.and_then(|t| t.findings.as_ref());
    let found = findings.map(|f| &f.stems[stem as usize]);
    ui.horizontal(|ui| {
        ui.allocate_ui_with_layout(
            vec2(52.0, 20.0),
            Layout::left_to_right(Align::Center),
            |ui| {
                ui.set_min_width(52.0);
                ui.label(RichText::new(name).font(theme::strong(theme::BODY)));
            },
        );
        listen_buttons(ui, model, state, stem, out);
        let share = found.map_or(0.0, |f| f.share);
        let room = ui.available_width();
        let width = (0.42 * room).min(room - WORDS).max(30.0);
        let meter = format!("{name} damage {:.0} %", 100.0 * share);
        let size = vec2(width, 18.0);
        waveform::strip(ui, &mut state.strips, findings, stem, size, &meter)
            .on_hover_text("Damage of this stem over the take");
        let kind = found.and_then(|f| Some((f.kind?, f.share)));
        let kind = kind.filter(|(_, share)| *share >= MIN_SHARE);
        // The little that the strip shows is named too.
        let little = found.and_then(|f| f.kind).filter(|_| share > 0.0);
        let text = match (found, kind, little) {
            (None, ..) => "not analysed yet".to_owned(),
            (_, Some((kind, share)), _) => {
                waveform::swatch(ui, p, kind);
                format!("{} {}", kind.label(), verdict::share_words(share))
            }
            (_, None, Some(kind)) => format!("{} {}", kind.label(), verdict::share_words(share)),
            (_, None, None) => "no damage".to_owned(),
        };
        let colour = if kind.is_some() { p.text } else { p.dim };
        let label = ui.add(egui::Label::new(RichText::new(text).small().color(colour)).truncate());
        if let Some(found) = found {
            label.on_hover_text(&found.reason);
            if found.rebuilt && ui.available_width() > 40.0 {
                let text = RichText::new("rebuilt").small().color(p.accent);
                ui.add(egui::Label::new(text).truncate());
            }
        }
    });
    ui.horizontal(|ui| {
        regenerate_button(ui, model, state, stem, take, out);
        let width = (!is_narrow(ui)).then_some(98.0);
        live::regenerator(ui, model, stem, width, out);
        chooser(ui, model, state, stem, take, out);
        let hint = match found {
            Some(f) if f.rebuilt => "0 % keeps the recorded stem, 100 % plays the rebuilt one",
            _ => "Takes effect where this stem has been rebuilt",
        };
        let label = format!("{name} blend");
        controls::slider(ui, &label, ("", 0.0), hint, model.params.blend(stem), out);
    });
}

/// Solo, mute, delta.
fn listen_buttons(
    ui: &mut Ui,
    model: &Model<'_>,
    state: &mut State,
    stem: Stem,
    out: &mut Vec<Command>,
) {
    let p = theme::of(ui);
    let name = title(stem);
    let i = stem as usize;
    let now = model.view.listening;
    let can = model.current_take().is_some_and(|t| t.stems_at_hand) || !now.is_plain();
    let words = |what: &str| {
        if can {
            what.to_owned()
        } else {
            format!(
                "{what}. Analyse first: stems can be heard one by one until the project is closed"
            )
        }
    };
    let mut set = |change: &dyn Fn(&mut Listening)| {
        let mut after = now;
        change(&mut after);
        let step = format!("what is heard of {}", stem.name());
        let change = Change::Listen { before: now, after };
        state.history.apply(step, change, out);
    };
    ui.add_enabled_ui(can, |ui| {
        ui.spacing_mut().item_spacing.x = 2.0;
        let hint = words("Hear this stem alone, recorded and rebuilt as blended");
        if controls::switch(
            ui,
            &format!("{name} solo"),
            "S",
            &hint,
            now.solo[i],
            p.warning,
        ) {
            set(&|listening| listening.solo[i] ^= true);
        }
        let hint = words("Don't hear this stem");
        if controls::switch(
            ui,
            &format!("{name} mute"),
            "M",
            &hint,
            now.mute[i],
            p.problem,
        ) {
            set(&|listening| listening.mute[i] ^= true);
        }
        let hint = words("Hear only what rebuilding changed of this stem");
        if controls::switch(
            ui,
            &format!("{name} delta"),
            "Δ",
            &hint,
            now.delta[i],
            p.warning,
        ) {
            set(&|listening| listening.delta[i] ^= true);
        }
    });
}

/// The span that a rebuild is about: the selection, else the whole take.
fn span_of(state: &State, take: &TakeView) -> (SamplePos, SamplePos) {
    match state.selection {
        Some((start, end)) if start < end => (start, end),
        _ => (take.start, take_end(take)),
    }
}

/// What to do where a stem's regenerator is off.
const OFF_WORDS: &str = "Its regenerator is off: choose another in the stem's row";

/// Whether the user wants nobody to rebuild `stem`.
fn is_off(model: &Model<'_>, stem: Stem) -> bool {
    let chosen = model.params.regenerator(stem);
    chosen.is_some_and(|param| param.value() == RegeneratorChoice::Off)
}

/// Rebuilds a span of a stem anew.
fn regenerate(
    model: &Model<'_>,
    take: &TakeView,
    stem: Stem,
    (start, end): (SamplePos, SamplePos),
) -> Command {
    let seed = next_seed(model, take);
    Command::Regenerate(Regenerate {
        stem,
        start,
        end,
        seed,
    })
}

/// The seed of the next rebuild: one that none of those at hand has.
fn next_seed(model: &Model<'_>, take: &TakeView) -> u64 {
    let used = |seed: u64| take.rebuilds.iter().any(|r| r.seed == seed);
    let first = model.params.options().seed;
    let count = MAX_SEED as u64 + 1;
    (0..count)
        .map(|i| (first + i) % count)
        .find(|s| !used(*s))
        .unwrap_or(first)
}

fn regenerate_button(
    ui: &mut Ui,
    model: &Model<'_>,
    state: &State,
    stem: Stem,
    take: Option<&TakeView>,
    out: &mut Vec<Command>,
) {
    let rebuilds = model.params.regenerator(stem).is_some();
    let off = is_off(model, stem);
    let can = rebuilds && !off && take.is_some() && model.view.job.is_none();
    let hint = match (rebuilds, take, state.selection) {
        (false, ..) => "No regenerator rebuilds this stem: it is only restored".to_owned(),
        (true, ..) if off => OFF_WORDS.to_owned(),
        (true, None, _) => "Play the song once, then this stem can be rebuilt".to_owned(),
        (true, Some(_), _) if model.view.job.is_some() => {
            "Wait for the running job, or cancel it first".to_owned()
        }
        (true, Some(_), Some(_)) => "Rebuild the selection of this stem anew".to_owned(),
        (true, Some(_), None) => {
            "Rebuild this stem anew over the whole take; select a span above for a part of it"
                .to_owned()
        }
    };
    let response = ui
        .add_enabled(can, egui::Button::new("Regenerate"))
        .on_hover_text(&hint)
        .on_disabled_hover_text(&hint);
    response.widget_info(|| {
        WidgetInfo::labeled(
            egui::Role::Button,
            can,
            format!("Regenerate {}", stem.name()),
        )
    });
    if let (true, Some(take)) = (response.clicked(), take) {
        let (start, end) = span_of(state, take);
        out.push(regenerate(model, take, stem, (start, end)));
    }
}

/// "3 · seed 7": which rebuild plays.
fn rebuild_name(number: usize, rebuild: &Rebuild) -> String {
    format!("Take {number} · seed {}", rebuild.seed)
}

fn chooser(
    ui: &mut Ui,
    model: &Model<'_>,
    state: &mut State,
    stem: Stem,
    take: Option<&TakeView>,
    out: &mut Vec<Command>,
) {
    let all: &[Rebuild] = take.map_or(&[], |t| &t.rebuilds);
    let mine: Vec<(usize, &Rebuild)> = (all.iter().enumerate())
        .filter(|(_, r)| r.stems[stem as usize])
        .map(|(i, r)| (i + 1, r))
        .collect();
    let edits = &model.view.edits;
    let start = take.map(|t| t.start).unwrap_or_default();
    let picked = edits.picked(stem, start);
    let current = (mine.iter())
        .find(|(_, r)| picked.is_some_and(|hash| hash == r.hash))
        .or(mine.last())
        .copied();
    // Room for the blend's slider comes first: the seeds stand in the list.
    let narrow = is_narrow(ui);
    let shown = match current {
        None if narrow => "–".to_owned(),
        None => "no take".to_owned(),
        Some((number, _)) if narrow => number.to_string(),
        Some((number, _)) => format!("Take {number}"),
    };
    let name = format!("{} take", title(stem));
    let mut chosen = None;
    ui.add_enabled_ui(mine.len() > 1, |ui| {
        let response = ComboBox::from_id_salt(&name)
            .selected_text(&shown)
            .width(if narrow { 34.0 } else { 70.0 })
            .show_ui(ui, |ui| {
                for &(number, rebuild) in &mine {
                    let on = current.is_some_and(|(n, _)| n == number);
                    let mut text = rebuild_name(number, rebuild);
                    if let Some(percent) = rebuild.agreement[stem as usize] {
                        text.push_str(&format!(" · {percent} % as played"));
                    }
                    if !rebuild.style.is_empty() {
                        text.push_str(&format!(" · {}", rebuild.style));
                    }
                    let choice = rebuild.regenerators[stem as usize].to_index();
                    let who = RegeneratorChoice::variants().get(choice);
                    let who = who.copied().unwrap_or_default();
                    let hint = format!("Play this rebuild of the stem. Regenerator: {who}");
                    let label = ui.selectable_label(on, text).on_hover_text(hint);
                    if label.clicked() && !on {
                        let newest = number == all.len();
                        chosen = Some((number, (!newest).then(|| rebuild.hash.clone())));
                    }
                }
            })
            .response;
        let hint = match current {
            Some((number, rebuild)) => format!(
                "{} plays. Choose another rebuild of this stem to compare; undo goes back",
                rebuild_name(number, rebuild)
            ),
            None => "Which rebuild of this stem plays".to_owned(),
        };
        controls::describe(response, &name, &shown, &hint)
            .on_disabled_hover_text("Regenerate to get a second take");
    });
    // The one that was heard before the present one, else the newest other.
    let i = stem as usize;
    let others = || {
        mine.iter()
            .filter(|(n, _)| current.is_some_and(|(c, _)| c != *n))
    };
    let before = others().find(|(_, r)| state.heard_before[i].as_ref() == Some(&r.hash));
    let other = before.or(others().next_back()).copied();
    let hint = match other {
        Some((number, rebuild)) => format!("Hear {} instead", rebuild_name(number, rebuild)),
        None => "Regenerate to get a second take to compare with".to_owned(),
    };
    let can = other.is_some();
    let swap = ui
        .add_enabled(can, egui::Button::new("Swap"))
        .on_hover_text(&hint)
        .on_disabled_hover_text(&hint);
    let label = format!("Compare {} takes", stem.name());
    swap.widget_info(|| WidgetInfo::labeled(egui::Role::Button, can, &label));
    if let (true, Some((number, rebuild))) = (swap.clicked(), other) {
        let newest = number == all.len();
        chosen = Some((number, (!newest).then(|| rebuild.hash.clone())));
    }
    if let Some((number, hash)) = chosen {
        state.heard_before[i] = current.map(|(_, rebuild)| rebuild.hash.clone());
        let before = Edits::clone(edits);
        let mut after = before.clone();
        after.pick(stem, start, hash.as_deref());
        let words = format!("{} take {number}", stem.name());
        state
            .history
            .apply(words, Change::Edits { before, after }, out);
    }
}

/// What is selected, and the manual way: a span, a stem, Regenerate; or to refuse what was rebuilt there.
pub fn selection(ui: &mut Ui, model: &Model<'_>, state: &mut State, out: &mut Vec<Command>) {
    let (Some((start, end)), Some(first)) = (state.selection, model.view.takes.first()) else {
        return;
    };
    let rate = f64::from(first.sample_rate.max(1));
    let clock = |pos: crate::exchange::SamplePos| status::fine_time(pos.0 as f64 / rate);
    let place = format!("{}–{}", clock(start), clock(end));
    ui.label(RichText::new(&place).font(theme::strong(theme::BODY)));
    let response = ComboBox::from_id_salt("selected stem")
        .selected_text(title(state.stem))
        .width(66.0)
        .show_ui(ui, |ui| {
            for stem in [Stem::Drums, Stem::Bass] {
                let label = ui.selectable_value(&mut state.stem, stem, title(stem));
                label.on_hover_text("What the buttons beside it are about");
            }
        })
        .response;
    let hint = "The stem that is rebuilt, or refused";
    controls::describe(response, "Selected stem", title(state.stem), hint);
    let take = (model.view.takes.iter()).find(|t| t.start < end && start < take_end(t));
    let stem = state.stem;
    let button = |ui: &mut Ui, text: &str, can: bool, hints: [&str; 2]| {
        let response = ui
            .add_enabled(can, egui::Button::new(text))
            .on_hover_text(hints[0])
            .on_disabled_hover_text(hints[1]);
        let name = format!("{text} selection");
        response.widget_info(|| WidgetInfo::labeled(egui::Role::Button, can, &name));
        response.clicked()
    };
    let off = is_off(model, stem);
    let free = !off && model.view.job.is_none() && take.is_some();
    let hints = [
        "Rebuild this stem over the selected span, damaged or not",
        if off {
            OFF_WORDS
        } else {
            "Wait for the running job, or cancel it first"
        },
    ];
    if let (true, Some(take)) = (button(ui, "Regenerate", free, hints), take) {
        out.push(regenerate(model, take, stem, (start, end)));
    }
    let findings = take.and_then(|t| t.findings.as_ref());
    let rebuilt = findings.is_some_and(|f| f.stems[stem as usize].rebuilt);
    let none = "Nothing of this stem was rebuilt there";
    for (text, hint, percent) in [
        (
            "Refuse",
            "Play the recorded stem here, the rebuilt one elsewhere",
            0,
        ),
        ("Accept", "Play the rebuilt stem here", 100),
    ] {
        if button(ui, text, rebuilt, [hint, none]) {
            let before = Edits::clone(&model.view.edits);
            let mut after = before.clone();
            after.decide(Decision {
                stem,
                start,
                end,
                percent,
            });
            let name = format!("{} {} {place}", text.to_lowercase(), stem.name());
            state
                .history
                .apply(name, Change::Edits { before, after }, out);
        }
    }
    if ui
        .button("Zoom")
        .on_hover_text("Show the selection")
        .clicked()
    {
        waveform::zoom_to_selection(model, state);
    }
}

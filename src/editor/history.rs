// [main] Undo and redo of everything that is no parameter of the host's (those the host undoes).

use crate::{
    editor::{model::Command, presets::Preset},
    worker::session::{Edits, Listening},
};

/// Steps that are remembered.
const MAX_STEPS: usize = 100;

/// What a step changed, before and after.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    Edits {
        before: Edits,
        after: Edits,
    },
    Style {
        before: String,
        after: String,
    },
    Listen {
        before: Listening,
        after: Listening,
    },
    /// The palette; `after` is light.
    Light {
        after: bool,
    },
    /// The user's presets: the file of one name, and the name that the settings go under.
    Preset {
        before: Option<Preset>,
        after: Option<Preset>,
        named: (String, String),
    },
    /// What was captured and rebuilt is forgotten.
    Clear,
}

/// A change with its name in plain words, such as "refuse bass 0:41–0:44".
#[derive(Clone, Debug, PartialEq)]
struct Step {
    name: String,
    change: Change,
}

/// What was done, and what was undone.
#[derive(Clone, Debug, Default)]
pub struct History {
    done: Vec<Step>,
    undone: Vec<Step>,
}

impl Change {
    fn forward(&self) -> Vec<Command> {
        match self {
            Self::Edits { after, .. } => vec![Command::SetEdits(after.clone())],
            Self::Style { after, .. } => vec![Command::SetStyle(after.clone())],
            Self::Listen { after, .. } => vec![Command::Listen(*after)],
            Self::Light { after } => vec![Command::SetLight(*after)],
            Self::Preset {
                before,
                after,
                named,
            } => files(before.as_ref(), after.as_ref(), &named.1),
            Self::Clear => vec![Command::Clear],
        }
    }

    fn back(&self) -> Vec<Command> {
        match self {
            Self::Edits { before, .. } => vec![Command::SetEdits(before.clone())],
            Self::Style { before, .. } => vec![Command::SetStyle(before.clone())],
            Self::Listen { before, .. } => vec![Command::Listen(*before)],
            Self::Light { after } => vec![Command::SetLight(!after)],
            Self::Preset {
                before,
                after,
                named,
            } => files(after.as_ref(), before.as_ref(), &named.0),
            Self::Clear => vec![Command::Unclear],
        }
    }

    fn is_nothing(&self) -> bool {
        match self {
            Self::Edits { before, after } => before == after,
            Self::Style { before, after } => before == after,
            Self::Listen { before, after } => before == after,
            Self::Preset {
                before,
                after,
                named,
            } => before == after && named.0 == named.1,
            Self::Light { .. } | Self::Clear => false,
        }
    }
}

/// What makes `after` of the file `before`, and names the settings.
fn files(before: Option<&Preset>, after: Option<&Preset>, name: &str) -> Vec<Command> {
    let file = match (before, after) {
        (_, Some(preset)) => Some(Command::SavePreset(preset.clone())),
        (Some(preset), None) => Some(Command::DeletePreset(preset.name.clone())),
        (None, None) => None,
    };
    let name = Command::NamePreset(name.to_owned());
    file.into_iter().chain([name]).collect()
}

impl History {
    /// Does `change` and remembers it. What was undone is forgotten.
    pub fn apply(&mut self, name: impl Into<String>, change: Change, out: &mut Vec<Command>) {
        if change.is_nothing() {
            return;
        }
        out.extend(change.forward());
        self.undone.clear();
        let name = name.into();
        // One turn of a slider is one step.
        if let (Some(last), Change::Edits { after, .. }) = (self.done.last_mut(), &change)
            && last.name == name
            && let Change::Edits { after: end, .. } = &mut last.change
        {
            *end = after.clone();
            return;
        }
        self.done.push(Step { name, change });
        let excess = self.done.len().saturating_sub(MAX_STEPS);
        self.done.drain(..excess);
    }

    /// What [`History::undo`] would undo.
    pub fn undo_name(&self) -> Option<&str> {
        self.done.last().map(|step| step.name.as_str())
    }

    /// What [`History::redo`] would do again.
    pub fn redo_name(&self) -> Option<&str> {
        self.undone.last().map(|step| step.name.as_str())
    }

    /// Takes the last step back.
    pub fn undo(&mut self, out: &mut Vec<Command>) {
        if let Some(step) = self.done.pop() {
            out.extend(step.change.back());
            self.undone.push(step);
        }
    }

    /// Does the last undone step again.
    pub fn redo(&mut self, out: &mut Vec<Command>) {
        if let Some(step) = self.undone.pop() {
            out.extend(step.change.forward());
            self.done.push(step);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn style(before: &str, after: &str) -> Change {
        Change::Style {
            before: before.to_owned(),
            after: after.to_owned(),
        }
    }

    #[test]
    fn files_listening_colours_and_clearing_come_back_too() {
        let mut history = History::default();
        let preset = |style: &str| Preset {
            name: "Cellar".to_owned(),
            style: style.to_owned(),
            ..Preset::default()
        };
        let named = |before: &str, after: &str| (before.to_owned(), after.to_owned());
        let solo = Listening {
            solo: [true, false, false, false],
            ..Listening::default()
        };
        let changes = [
            Change::Preset {
                before: Some(preset("old")),
                after: Some(preset("new")),
                named: named("Gentle", "Cellar"),
            },
            Change::Preset {
                before: Some(preset("new")),
                after: None,
                named: named("Cellar", ""),
            },
            Change::Listen {
                before: Listening::default(),
                after: solo,
            },
            Change::Light { after: true },
            Change::Clear,
        ];
        for change in changes {
            history.apply("step", change, &mut Vec::new());
        }
        let mut out = Vec::new();
        for _ in 0..5 {
            history.undo(&mut out);
        }
        let name = |name: &str| Command::NamePreset(name.to_owned());
        assert_eq!(
            out,
            [
                Command::Unclear,
                Command::SetLight(false),
                Command::Listen(Listening::default()),
                Command::SavePreset(preset("new")),
                name("Cellar"),
                Command::SavePreset(preset("old")),
                name("Gentle"),
            ]
        );
        out.clear();
        for _ in 0..5 {
            history.redo(&mut out);
        }
        let again = [
            Command::SavePreset(preset("new")),
            name("Cellar"),
            Command::DeletePreset("Cellar".to_owned()),
            name(""),
            Command::Listen(solo),
            Command::SetLight(true),
            Command::Clear,
        ];
        assert_eq!(out, again);
    }

    #[test]
    fn undo_goes_back_and_redo_goes_on() {
        let mut history = History::default();
        let mut out = Vec::new();
        history.apply("style", style("", "a"), &mut out);
        history.apply("style", style("a", "b"), &mut out);
        history.apply("nothing", style("b", "b"), &mut out);
        history.undo(&mut out);
        history.undo(&mut out);
        history.undo(&mut out);
        history.redo(&mut out);
        let set = |text: &str| Command::SetStyle(text.to_owned());
        assert_eq!(out, [set("a"), set("b"), set("a"), set(""), set("a")]);
        assert_eq!(history.redo_name(), Some("style"));
        // Something new: the undone step is gone.
        history.apply("style", style("a", "c"), &mut out);
        assert_eq!(history.redo_name(), None);
        assert_eq!(history.undo_name(), Some("style"));
    }
}

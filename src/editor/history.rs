// [main] Undo and redo of everything that is no parameter of the host's (those the host undoes).

use crate::{editor::model::Command, worker::session::Edits};

/// Steps that are remembered.
const MAX_STEPS: usize = 100;

/// What a step changed, before and after.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    Edits { before: Edits, after: Edits },
    Style { before: String, after: String },
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
    fn forward(&self) -> Command {
        match self {
            Self::Edits { after, .. } => Command::SetEdits(after.clone()),
            Self::Style { after, .. } => Command::SetStyle(after.clone()),
        }
    }

    fn back(&self) -> Command {
        match self {
            Self::Edits { before, .. } => Command::SetEdits(before.clone()),
            Self::Style { before, .. } => Command::SetStyle(before.clone()),
        }
    }

    fn is_nothing(&self) -> bool {
        match self {
            Self::Edits { before, after } => before == after,
            Self::Style { before, after } => before == after,
        }
    }
}

impl History {
    /// Does `change` and remembers it. What was undone is forgotten.
    pub fn apply(&mut self, name: impl Into<String>, change: Change, out: &mut Vec<Command>) {
        if change.is_nothing() {
            return;
        }
        out.push(change.forward());
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
            out.push(step.change.back());
            self.undone.push(step);
        }
    }

    /// Does the last undone step again.
    pub fn redo(&mut self, out: &mut Vec<Command>) {
        if let Some(step) = self.undone.pop() {
            out.push(step.change.forward());
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

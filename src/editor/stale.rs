// [main] Where the host played something else than what was captured: spans that are out of date.

use std::sync::Arc;

use crate::{
    editor::model::Model,
    exchange::{SamplePos, meters::PlayerState},
    worker::view::Findings,
};

/// Two pictures are never farther apart than this on the timeline while it plays, in seconds: else it jumped.
const MAX_STEP_SECONDS: f64 = 0.5;
/// Spans that are remembered.
const MAX_SPANS: usize = 256;

/// What was seen at the playhead, picture by picture.
#[derive(Default)]
pub struct Stale {
    /// First position and first one after it; sorted, apart.
    spans: Vec<(SamplePos, SamplePos)>,
    last: Option<SamplePos>,
    /// The takes and what was found in them: an analysis makes a take up to date.
    takes: Vec<(SamplePos, Option<Arc<Findings>>)>,
}

impl Stale {
    /// The spans, ascending.
    pub fn spans(&self) -> &[(SamplePos, SamplePos)] {
        &self.spans
    }

    /// Whether `pos` is out of date as far as anybody has seen.
    pub fn contains(&self, pos: SamplePos) -> bool {
        self.spans
            .iter()
            .any(|&(start, end)| start <= pos && pos < end)
    }

    /// Takes in what the player says at the playhead now.
    pub fn follow(&mut self, model: &Model<'_>) {
        self.forget_renewed(model);
        let Some(pos) = model.levels.position else {
            self.last = None;
            return;
        };
        let last = self.last.replace(pos);
        if !model.levels.running {
            return;
        }
        let reach = (MAX_STEP_SECONDS * model.sample_rate.unwrap_or(48_000.0)) as i64;
        let from = last.filter(|last| (0..=reach).contains(&pos.since(*last)));
        let span = (from.unwrap_or(pos), pos.offset(1));
        match model.levels.player {
            PlayerState::OutOfDate => self.add(span),
            // What plays is what was captured.
            PlayerState::Patch => self.remove(span),
            PlayerState::Live => {}
        }
    }

    fn forget_renewed(&mut self, model: &Model<'_>) {
        let same = |a: &Option<Arc<Findings>>, b: &Option<Arc<Findings>>| match (a, b) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        };
        let unchanged = self.takes.len() == model.view.takes.len()
            && (self.takes.iter().zip(&model.view.takes))
                .all(|((start, found), take)| *start == take.start && same(found, &take.findings));
        if unchanged {
            return;
        }
        for take in &model.view.takes {
            let known = self.takes.iter().find(|(start, _)| *start == take.start);
            if !known.is_some_and(|(_, found)| same(found, &take.findings)) {
                self.remove((take.start, crate::editor::timeline::take_end(take)));
            }
        }
        self.takes = (model.view.takes.iter())
            .map(|take| (take.start, take.findings.clone()))
            .collect();
    }

    fn add(&mut self, (mut start, mut end): (SamplePos, SamplePos)) {
        self.spans.retain(|&(s, e)| {
            let apart = e < start || end < s;
            if !apart {
                (start, end) = (start.min(s), end.max(e));
            }
            apart
        });
        let place = self.spans.partition_point(|(s, _)| *s < start);
        self.spans.insert(place, (start, end));
        let excess = self.spans.len().saturating_sub(MAX_SPANS);
        self.spans.drain(..excess);
    }

    fn remove(&mut self, (start, end): (SamplePos, SamplePos)) {
        self.spans = (self.spans.iter())
            .flat_map(|&(s, e)| [(s, e.min(start)), (s.max(end), e)])
            .filter(|(s, e)| s < e)
            .collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        editor::model::Levels,
        params::UncookParams,
        worker::view::{TakeView, View},
    };

    #[test]
    fn spans_grow_while_something_else_plays_and_go_when_it_is_renewed() {
        let params = UncookParams::default();
        let mut stale = Stale::default();
        let mut view = View {
            takes: vec![TakeView {
                frames: 100_000,
                sample_rate: 48_000,
                ..TakeView::default()
            }],
            ..View::default()
        };
        let see = |stale: &mut Stale, view: &View, pos: i64, player: PlayerState| {
            let mut levels = Levels::default();
            levels.position = Some(SamplePos(pos));
            levels.player = player;
            levels.running = true;
            stale.follow(&Model {
                params: &params,
                view,
                levels: &levels,
                sample_rate: Some(48_000.0),
                presets: &[],
                shelf: None,
            });
            let spans = stale.spans().iter();
            spans.map(|(s, e)| (s.0, e.0)).collect::<Vec<_>>()
        };
        use PlayerState::{Live, OutOfDate, Patch};
        assert_eq!(see(&mut stale, &view, 1_000, OutOfDate), [(1_000, 1_001)]);
        assert_eq!(see(&mut stale, &view, 3_000, OutOfDate), [(1_000, 3_001)]);
        // A jump leaves what lies between alone.
        let two = [(1_000, 3_001), (60_000, 60_001)];
        assert_eq!(see(&mut stale, &view, 60_000, OutOfDate), two);
        assert_eq!(see(&mut stale, &view, 70_000, Live), two);
        assert!(stale.contains(SamplePos(2_000)) && !stale.contains(SamplePos(3_001)));
        // The same again, as captured: a part is up to date.
        see(&mut stale, &view, 2_000, Live);
        let rest = [(1_000, 2_000), (2_501, 3_001), (60_000, 60_001)];
        assert_eq!(see(&mut stale, &view, 2_500, Patch), rest);
        // Analysed anew: everything is.
        view.takes[0].findings = Some(Arc::default());
        assert_eq!(see(&mut stale, &view, 90_000, Live), []);
    }
}

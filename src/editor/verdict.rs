// [main] What is wrong with a take, in one sentence a wrong: who, what, how often, where it is worst.

use crate::{
    damage::{DamageKind, FRAMES_PER_SECOND, Stem},
    editor::{plan::Stage, status},
    worker::view::{Findings, TakeState, TakeView},
};

/// Damage of less of the time than this is not worth a word: half a percent.
pub const MIN_SHARE: f32 = 0.005;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Wrong {
    pub kind: DamageKind,
    /// "Bass overdriven 14 % of the time, worst at 0:41."
    pub words: String,
    /// How much it hurts, for the order.
    weight: f32,
}

/// Stems that are damaged alike and equally often: named together.
struct Group {
    stems: Vec<&'static str>,
    kind: DamageKind,
    share: f32,
    /// Second of the worst frame on the host's clock, and its severity.
    worst_at: f64,
    severity: f32,
}

/// Everything that is wrong with an analysed take, what hurts most first.
pub fn of(take: &TakeView, findings: &Findings, mix: &[Stage]) -> Vec<Wrong> {
    let origin = take.start.0 as f64 / f64::from(take.sample_rate.max(1));
    let mut groups: Vec<Group> = Vec::new();
    for stem in Stem::ALL {
        let found = &findings.stems[stem as usize];
        let Some(kind) = found.kind.filter(|_| found.share >= MIN_SHARE) else {
            continue;
        };
        let alike = |g: &&mut Group| g.kind == kind && percent(g.share) == percent(found.share);
        if let Some(group) = groups.iter_mut().find(alike) {
            group.stems.push(name(stem));
            continue;
        }
        let frames = (found.damage.frames.iter()).map(|frame| frame[kind as usize]);
        let (worst, severity) =
            (frames.enumerate()).fold((0, 0.0), |best, at| if at.1 > best.1 { at } else { best });
        groups.push(Group {
            stems: vec![name(stem)],
            kind,
            share: found.share,
            worst_at: origin + worst as f64 / FRAMES_PER_SECOND as f64,
            severity,
        });
    }
    let mut all: Vec<Wrong> = groups
        .iter()
        .map(|group| Wrong {
            kind: group.kind,
            words: sentence(
                Some(&joined(&group.stems)),
                group.kind,
                group.share,
                group.worst_at,
            ),
            // A stem says more than the mix.
            weight: 2.0 * group.share * group.severity,
        })
        .collect();
    for stage in mix {
        // What is said of a stem needn't be said of the mix.
        if all.iter().all(|wrong| wrong.kind != stage.kind) {
            all.push(Wrong {
                kind: stage.kind,
                words: sentence(None, stage.kind, stage.share, stage.worst_at),
                weight: stage.share * stage.severity,
            });
        }
    }
    all.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    all
}

fn percent(share: f32) -> i32 {
    (100.0 * share).round().max(1.0) as i32
}

/// "14 %", and of the little that is not worth a word "<1 %".
pub fn share_words(share: f32) -> String {
    if share < MIN_SHARE {
        "<1 %".to_owned()
    } else {
        format!("{} %", percent(share))
    }
}

fn name(stem: Stem) -> &'static str {
    match stem {
        Stem::Drums => "drums",
        Stem::Bass => "bass",
        Stem::Other => "other instruments",
        Stem::Vocals => "vocals",
    }
}

/// "drums, bass and vocals".
fn joined(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

fn sentence(who: Option<&str>, kind: DamageKind, share: f32, worst_at: f64) -> String {
    let what = match (kind, who) {
        // These are things, not states.
        (DamageKind::Click | DamageKind::Dropout | DamageKind::Codec, Some(who)) => {
            format!("{} in the {who}", kind.label())
        }
        (_, Some(who)) => format!("{who} {}", kind.label()),
        (_, None) => kind.label().to_owned(),
    };
    let (percent, at) = (percent(share), status::time(worst_at));
    status::capitalised(&format!("{what} {percent} % of the time, worst at {at}."))
}

/// What can be said while a take is not analysed: how often the mix is damaged in which way so far.
pub fn so_far(take: &TakeView) -> String {
    let mut kinds: Vec<(DamageKind, f32)> = (DamageKind::ALL.into_iter())
        .map(|kind| (kind, take.shares[kind as usize]))
        .filter(|(_, share)| *share >= MIN_SHARE)
        .collect();
    kinds.sort_by(|a, b| b.1.total_cmp(&a.1));
    let capturing = take.state == TakeState::Capturing;
    if kinds.is_empty() {
        let words = if capturing {
            "No damage heard so far."
        } else {
            "No damage heard while it played."
        };
        return words.to_owned();
    }
    let parts: Vec<String> = (kinds.iter().take(3))
        .map(|(kind, share)| format!("{} {} %", kind.label(), percent(*share)))
        .collect();
    let parts = parts.join(", ");
    if capturing {
        format!("So far {parts} of the time.")
    } else {
        status::capitalised(&format!("{parts} of the time."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{damage::DamageMap, exchange::SamplePos, worker::view::StemFindings};

    fn damaged(kind: DamageKind, share: f32, worst: usize) -> StemFindings {
        let mut frames = vec![[0.0; DamageKind::COUNT]; 2_000];
        frames[10][kind as usize] = 0.6;
        frames[worst][kind as usize] = 0.9;
        StemFindings {
            share,
            kind: Some(kind),
            damage: DamageMap { frames },
            ..StemFindings::default()
        }
    }

    #[test]
    fn it_says_who_what_how_often_and_where() {
        let take = TakeView {
            start: SamplePos(60 * 48_000),
            frames: 20 * 48_000,
            sample_rate: 48_000,
            ..TakeView::default()
        };
        let mut findings = Findings::default();
        let stage = |kind, share| Stage {
            kind,
            share,
            worst_at: 65.0,
            severity: 0.8,
            confidence: 0.8,
            rate: 48_000.0,
        };
        let words = |findings: &Findings, mix: &[Stage]| -> Vec<String> {
            let all = of(&take, findings, mix);
            all.into_iter().map(|wrong| wrong.words).collect()
        };
        assert!(words(&findings, &[]).is_empty());
        findings.stems[Stem::Bass as usize] = damaged(DamageKind::Saturation, 0.14, 1_100);
        findings.stems[Stem::Vocals as usize] = damaged(DamageKind::Click, 0.02, 100);
        // Below what is worth a word.
        findings.stems[Stem::Other as usize] = damaged(DamageKind::Noise, 0.004, 100);
        let mix = [
            stage(DamageKind::Saturation, 0.3),
            stage(DamageKind::Reverb, 0.5),
        ];
        assert_eq!(
            words(&findings, &mix),
            [
                "Roomy 50 % of the time, worst at 1:05.",
                "Bass overdriven 14 % of the time, worst at 1:11.",
                "Clicks in the vocals 2 % of the time, worst at 1:01.",
            ]
        );
        findings.stems[Stem::Drums as usize] = damaged(DamageKind::Saturation, 0.141, 1_100);
        assert!(words(&findings, &mix)[1].starts_with("Drums and bass overdriven 14 %"));
    }

    #[test]
    fn little_is_not_rounded_up() {
        let words: Vec<_> = [0.001, 0.004_9, 0.005, 0.014, 0.25].map(share_words).into();
        assert_eq!(words, ["<1 %", "<1 %", "1 %", "1 %", "25 %"]);
    }

    #[test]
    fn before_the_analysis_it_says_what_was_heard() {
        let mut take = TakeView::default();
        assert_eq!(so_far(&take), "No damage heard so far.");
        take.shares[DamageKind::Clipping as usize] = 0.25;
        take.shares[DamageKind::Noise as usize] = 0.5;
        assert_eq!(
            so_far(&take),
            "So far noisy 50 %, clipped 25 % of the time."
        );
        take.state = TakeState::Captured;
        assert_eq!(so_far(&take), "Noisy 50 %, clipped 25 % of the time.");
    }
}

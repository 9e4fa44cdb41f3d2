// [main] Tests of the checklist: its lines, their places and parts.

use super::*;
use crate::{
    damage::DamageMap,
    worker::{options::RegeneratorChoice, view::Made},
};

/// Ten seconds of bass, overdriven at 2–3 s and 7–7.5 s.
fn take() -> (TakeView, Findings) {
    let frames = (0..1_000)
        .map(|i| {
            let mut frame = [0.0; DamageKind::COUNT];
            if (200..300).contains(&i) || (700..750).contains(&i) {
                frame[DamageKind::Saturation as usize] = 0.8;
            }
            frame
        })
        .collect();
    let mut findings = Findings::default();
    findings.stems[Stem::Bass as usize] = StemFindings {
        rebuilt: true,
        damage: DamageMap { frames },
        ..StemFindings::default()
    };
    let take = TakeView {
        start: SamplePos(48_000),
        frames: 480_000,
        sample_rate: 48_000,
        ..TakeView::default()
    };
    (take, findings)
}

#[test]
fn rebuilt_spans_say_what_where_why() {
    let (take, findings) = take();
    let plan = Plan::new(&take, &findings);
    assert_eq!(plan.stages, []);
    let [a, b] = &plan.spans[..] else {
        panic!("{plan:?}")
    };
    assert_eq!((a.stem, a.kind), (Stem::Bass, Some(DamageKind::Saturation)));
    assert!((a.from - 3.0).abs() < 1e-9 && (a.to - 4.0).abs() < 1e-9);
    assert!((a.severity - 0.8).abs() < 1e-6 && (a.confidence - 0.8).abs() < 1e-6);
    // Together the decisions cover the take, and meet half-way.
    assert_eq!(
        (a.start, a.end),
        (SamplePos(48_000), SamplePos(48_000 + 240_000))
    );
    assert_eq!((b.start, b.end), (a.end, SamplePos(48_000 + 480_000)));
}

/// A rebuild over the whole take is one line, and its line says so: what is undamaged was rebuilt, too.
#[test]
fn a_rebuild_throughout_is_one_line() {
    let (take, mut findings) = take();
    findings.stems[Stem::Bass as usize].made = Some(Made {
        by: RegeneratorChoice::Everywhere,
        throughout: true,
    });
    let plan = Plan::new(&take, &findings);
    let [span] = &plan.spans[..] else {
        panic!("{plan:?}")
    };
    assert!(span.throughout);
    assert_eq!((span.from, span.to), (1.0, 11.0));
    assert_eq!(
        (span.start, span.end),
        (take.start, SamplePos(48_000 + 480_000))
    );
    assert_eq!(span.kind, Some(DamageKind::Saturation));
}

/// One row must not say "overdriven" of what the others call clipped: a moment's worst is not what it mostly is.
#[test]
fn a_span_is_named_after_what_damages_most_of_it() {
    let (take, mut findings) = take();
    let frames = &mut findings.stems[Stem::Bass as usize].damage.frames;
    for frame in &mut frames[200..300] {
        frame[DamageKind::Saturation as usize] = 0.6;
    }
    frames[250][DamageKind::Reverb as usize] = 1.0;
    frames[250][DamageKind::Saturation as usize] = 0.7;
    let span = &Plan::new(&take, &findings).spans[0];
    assert_eq!(span.kind, Some(DamageKind::Saturation));
    assert!(
        (span.severity - 0.7).abs() < 1e-6,
        "the severity is its own"
    );
    assert_eq!(dominant(&[]), None);
    assert_eq!(dominant(&[[0.1; DamageKind::COUNT]]), None);
}

#[test]
fn a_place_is_rounded_to_what_is_told_apart() {
    let (take, findings) = take();
    let span = Plan::new(&take, &findings).spans[0].clone();
    let place = |from, to| {
        Span {
            from,
            to,
            ..span.clone()
        }
        .place()
    };
    assert_eq!(place(2.98, 6.02), "0:03–0:06");
    assert_eq!(place(59.6, 125.4), "1:00–2:05");
    assert_eq!(place(2.98, 4.9), "0:02.98–0:04.90");
}

#[test]
fn a_part_that_was_decided_about_has_a_line_of_its_own() {
    let (take, findings) = take();
    let plan = Plan::new(&take, &findings);
    let [a, b] = &plan.spans[..] else {
        panic!("{plan:?}")
    };
    let mut edits = Edits::default();
    assert_eq!(a.parts(&edits), std::slice::from_ref(a));
    let second = |t: f64| SamplePos((t * 48_000.0) as i64);
    edits.decide(Decision {
        stem: Stem::Bass,
        start: second(3.25),
        end: second(3.5),
        percent: 0,
    });
    let parts = a.parts(&edits);
    let seen = |parts: &[Span]| -> Vec<(f64, f64, u8)> {
        let percent = |p: &Span| edits.percent_at(p.stem, p.start);
        parts.iter().map(|p| (p.from, p.to, percent(p))).collect()
    };
    let three = [(3.0, 3.25, 100), (3.25, 3.5, 0), (3.5, 4.0, 100)];
    assert_eq!(seen(&parts), three);
    // Together they still cover what the whole covered, and the other span is as it was.
    assert_eq!((parts[0].start, parts[2].end), (a.start, a.end));
    assert_eq!(b.parts(&edits), std::slice::from_ref(b));
    // Decided the same again, or about another stem or the margin: one line.
    edits.decide(Decision {
        percent: 100,
        ..edits.decisions[0]
    });
    let one = a.parts(&edits);
    assert_eq!((one.len(), one[0].from, one[0].to), (1, a.from, a.to));
    edits.decide(Decision {
        stem: Stem::Drums,
        start: second(3.5),
        end: second(3.7),
        percent: 0,
    });
    edits.decide(Decision {
        stem: Stem::Bass,
        start: second(4.5),
        end: second(5.0),
        percent: 0,
    });
    assert_eq!(a.parts(&edits).len(), 1);
}

#[test]
fn many_spans_are_drawn_together() {
    let (take, mut findings) = take();
    for (i, frame) in findings.stems[Stem::Bass as usize]
        .damage
        .frames
        .iter_mut()
        .enumerate()
    {
        frame[DamageKind::Clipping as usize] = if i % 110 < 5 { 1.0 } else { 0.0 };
    }
    let plan = Plan::new(&take, &findings);
    assert!((1..=MAX_SPANS).contains(&plan.spans.len()));
}

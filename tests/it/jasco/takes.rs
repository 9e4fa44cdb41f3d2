//! Takes by seed through the engine that the plugin uses, with the tiny model installed.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use uncook::{
    damage::Stem,
    exchange::{
        SamplePos,
        capture::capture_ring,
        patch::{PatchReader, patch_snapshot},
    },
    worker::{
        engine::{Engine, Instance},
        options::{Options, Quality, RegeneratorChoice, Regenerators},
        session::{Edits, Regenerate},
        view::View,
    },
};

use super::road::{CODEC, DIFFUSION, NAME, install_in};
use crate::support::{overdriven_band, with_data_of_its_own};

const RATE: u32 = 22_050;
const LIMIT: Duration = Duration::from_secs(600);
const START: i64 = 1000;

/// The span that is asked for, and what of it lies between its fades, samples of the take.
const SPAN: (i64, i64) = (26_000, 62_000);
const INSIDE: std::ops::Range<usize> = 26_500..61_500;

fn wait_for(instance: &Instance, ready: impl Fn(&View) -> bool) -> Arc<View> {
    let start = Instant::now();
    loop {
        let view = instance.view();
        if ready(&view) {
            return view;
        }
        assert!(
            start.elapsed() < LIMIT,
            "nothing happened: {:?}",
            view.problems
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The bass layer that plays.
fn layer(patches: &mut PatchReader) -> Vec<f32> {
    let start = Instant::now();
    while !(patches.has_next() && patches.advance()) {
        assert!(start.elapsed() < LIMIT, "nothing was published");
        std::thread::sleep(Duration::from_millis(5));
    }
    let set = patches.current();
    let bass = set.patches()[0].layers[Stem::Bass as usize].as_ref();
    bass.map_or_else(Vec::new, |layer| layer[0].to_vec())
}

#[test]
fn takes_by_seed_are_kept_compared_and_undone() {
    let test = "jasco::takes::takes_by_seed_are_kept_compared_and_undone";
    with_data_of_its_own(test, |data| drop(install_in(data)), child);
}

fn child(_: &Path) {
    let engine = Engine::shared();
    let (mut tap, reader) = capture_ring(1 << 18);
    tap.set_sample_rate(RATE);
    let (publisher, mut patches) = patch_snapshot();
    let instance = engine.connect(reader, publisher);
    instance.set_sample_rate(RATE);
    let options = Options {
        quality: Quality::Draft,
        regenerators: Regenerators::all(RegeneratorChoice::Jasco),
        ..Options::default()
    };
    instance.set_options(&options);
    // The terms are shown before anything is generated, and asked for once.
    let view = wait_for(&instance, |view| view.model.is_some());
    let model = view.model.as_ref().expect("a model is needed");
    assert!(model.missing.is_empty() && !model.accepted, "{model:?}");
    assert!(model.terms[0].contains("no commercial use"), "{model:?}");

    let band = overdriven_band(4.0, RATE);
    for (n, (l, r)) in band.channels[0].iter().zip(&band.channels[1]).enumerate() {
        tap.push(SamplePos(START + n as i64), *l, *r);
    }
    tap.stop();
    assert!(instance.wait_idle(LIMIT));
    layer(&mut patches);
    let lines = |view: &View| {
        view.takes[0]
            .findings
            .as_ref()
            .expect("findings")
            .lines
            .clone()
    };
    let refused = |view: &View| {
        let found = view.takes.first().is_some_and(|t| t.findings.is_some());
        found && lines(view).iter().any(|l| l.contains("are not accepted"))
    };
    wait_for(&instance, refused);
    instance.accept_terms();
    wait_for(&instance, |v| v.model.as_ref().is_some_and(|m| m.accepted));

    let mut generate = |seed: u64, count: usize| {
        instance.regenerate(Regenerate {
            stem: Stem::Bass,
            start: SamplePos(START + SPAN.0),
            end: SamplePos(START + SPAN.1),
            seed,
        });
        assert!(instance.wait_idle(LIMIT));
        let view = wait_for(&instance, |v| {
            v.takes[0].rebuilds.len() == count && v.takes[0].rebuilds[count - 1].seed == seed
        });
        (layer(&mut patches), view)
    };
    let (first, view) = generate(1, 2);
    assert!(
        lines(&view).iter().any(|l| l.contains(NAME)),
        "{:?}",
        lines(&view)
    );
    assert!(
        first[INSIDE].iter().any(|x| *x != 0.0),
        "nothing was generated"
    );
    assert!(
        first[..SPAN.0 as usize].iter().all(|x| *x == 0.0),
        "more than the span"
    );
    let (second, view) = generate(2, 3);
    assert!(first[INSIDE] != second[INSIDE], "the seed does nothing");
    let rebuilds = view.takes[0].rebuilds.clone();
    assert!(
        rebuilds[1].agreement[Stem::Bass as usize].is_some(),
        "no rank: {rebuilds:?}"
    );
    // Made anew, not read from the cache: the same for the same seed.
    let cache = Engine::data_folder().expect("a folder").join("cache");
    std::fs::remove_dir_all(&cache).expect("a cache");
    std::fs::create_dir_all(&cache).expect("a folder");
    let (third, _) = generate(1, 4);
    assert!(
        first[INSIDE] == third[INSIDE],
        "another result for the same seed"
    );

    // The older take can be chosen, and the choice undone.
    let mut edits = Edits::default();
    edits.pick(Stem::Bass, SamplePos(START), Some(&rebuilds[2].hash));
    instance.set_edits(&edits);
    assert!(layer(&mut patches) == second);
    assert_eq!(instance.session().others.len(), 3);
    instance.set_edits(&Edits::default());
    assert!(layer(&mut patches) == third);

    // The diffusion models: a line for each, and another sound.
    let mut last = third;
    for (choice, name) in [
        (RegeneratorChoice::JascoDiffusion, DIFFUSION),
        (RegeneratorChoice::Diffusion, CODEC),
    ] {
        instance.set_options(&Options {
            regenerators: options.regenerators.with(Stem::Bass, choice),
            ..options.clone()
        });
        wait_for(&instance, |view| {
            view.model
                .as_ref()
                .is_some_and(|m| m.terms.iter().any(|t| t.starts_with(name)))
        });
        instance.accept_terms();
        wait_for(&instance, |v| v.model.as_ref().is_some_and(|m| m.accepted));
        instance.regenerate(Regenerate {
            stem: Stem::Bass,
            start: SamplePos(START + SPAN.0),
            end: SamplePos(START + SPAN.1),
            seed: 1,
        });
        assert!(instance.wait_idle(LIMIT));
        let another = |made: &[f32]| {
            made.get(INSIDE)
                .is_some_and(|x| x.iter().any(|x| *x != 0.0) && *x != last[INSIDE])
        };
        last = loop {
            let made = layer(&mut patches);
            if another(&made) {
                break made;
            }
        };
        wait_for(&instance, |view| {
            let found = view.takes[0].findings.is_some();
            found && lines(view).iter().any(|l| l.contains(name))
        });
        // The take says who made it.
        wait_for(&instance, |view| {
            let newest = view.takes[0].rebuilds.last();
            newest.is_some_and(|r| r.regenerators[Stem::Bass as usize] == choice)
        });
    }
}

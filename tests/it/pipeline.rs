//! The whole road on a synthesized band: what is found, what is rebuilt, and what is left alone.

use super::support::{band, overdriven_band};
use uncook::{
    audio::AudioBuffer,
    cache::Cache,
    damage::{Region, Stem},
    metrics::distance::multi_resolution_stft_distance,
    profile::{edit::MusicEdit, quality},
    worker::{
        options::{Options, RegeneratorChoice, Regenerators},
        pieces::{self, Layout},
        pipeline::{Outcome, PipelineError, run, song},
        progress::Progress,
        view::Made,
    },
};

const RATE: u32 = 44_100;
const SECONDS: f64 = 9.0;

fn analyse(take: &AudioBuffer, options: &Options, cache: Option<&Cache>) -> Outcome {
    run(take, options, cache, &Progress::new()).unwrap()
}

/// The band with nothing overdriven: a band three times as long is driven in its middle third only.
fn clean_band() -> AudioBuffer {
    overdriven_band(3.0 * SECONDS, RATE).slice(0, (SECONDS * f64::from(RATE)) as usize)
}

fn same(a: &Outcome, b: &Outcome) {
    assert!(a.base == b.base && a.stems == b.stems && a.layers == b.layers);
    assert!(a.findings == b.findings);
}

fn stems_sum_to_base(outcome: &Outcome) {
    for (c, base) in outcome.base.channels.iter().enumerate() {
        for (n, x) in base.iter().enumerate() {
            let sum: f32 = outcome.stems.iter().map(|s| s.channels[c][n]).sum();
            assert!((sum - x).abs() <= 1e-5, "sample {n}: {sum} {x}");
        }
    }
}

#[test]
fn pieces_are_restored_and_separated_as_the_whole() {
    let take = overdriven_band(110.0, 8_000);
    let options = Options {
        regenerators: Regenerators::all(RegeneratorChoice::Off),
        ..Options::default()
    };
    let progress = Progress::new();
    let whole = song(&take, &options, None, &progress).unwrap();
    let layout = Layout::of_segments(take.frames(), take.sample_rate, 2);
    assert_eq!(layout.count(), 2);
    let part = |piece: &AudioBuffer, options: &Options, progress: &Progress| {
        song(piece, options, None, progress)
    };
    let joined = pieces::run_in_memory(&part, &layout, &take, &options, &progress).unwrap();
    stems_sum_to_base(&joined);
    let border = 60 * take.sample_rate as usize;
    // Half a join.
    let near = take.sample_rate as usize / 40 + 1;
    let pairs = joined.stems.iter().zip(&whole.stems);
    for (own, whole) in std::iter::once((&joined.base, &whole.base)).chain(pairs) {
        for (own, whole) in own.channels.iter().zip(&whole.channels) {
            assert!(own[..border - near] == whole[..border - near]);
            assert!(own[border + near..] == whole[border + near..]);
            let steps = own[border - near..border + near]
                .iter()
                .zip(&whole[border - near..border + near]);
            for (a, b) in steps {
                assert!((a - b).abs() < 0.02, "{a} {b}");
            }
        }
    }
    assert_eq!(
        joined.findings.damage.frames.len(),
        whole.findings.damage.frames.len()
    );
    // The song goes on over the border.
    let (a, b) = (&joined.findings.profile, &whole.findings.profile);
    let beats = a.beats.windows(2).map(|pair| pair[1] - pair[0]);
    let beat = 60.0 / a.tempo_bpm.unwrap().value;
    assert!(
        beats
            .into_iter()
            .all(|step| step > 0.5 * beat && step < 1.5 * beat)
    );
    assert!((a.beats.len() as f64 / b.beats.len() as f64 - 1.0).abs() < 0.1);
}

#[test]
fn an_overdriven_third_is_found_and_rebuilt_only_if_that_helps() {
    let take = overdriven_band(SECONDS, RATE);
    let outcome = analyse(&take, &Options::default(), None);
    stems_sum_to_base(&outcome);
    let (from, to) = (SECONDS / 3.0, 2.0 * SECONDS / 3.0);
    for stem in [Stem::Other, Stem::Vocals] {
        assert!(outcome.layers[stem as usize].is_none());
    }
    let mut rebuilt = 0;
    for stem in [Stem::Drums, Stem::Bass] {
        let found = &outcome.findings.stems[stem as usize];
        let regions = quality::regions(&found.damage);
        let inside: f64 = regions
            .iter()
            .map(|r| (r.end.min(to) - r.start.max(from)).max(0.0))
            .sum();
        assert!(inside > 0.5 * (to - from), "{stem:?}: {regions:?}");
        lie_between(&regions, from, to);
        let layer = outcome.layers[stem as usize].as_ref();
        assert_eq!(layer.is_some(), found.rebuilt);
        assert!(
            outcome
                .findings
                .lines
                .iter()
                .any(|l| l.starts_with(stem.name()))
        );
        let Some(layer) = layer else {
            continue;
        };
        rebuilt += 1;
        assert_eq!(layer.frames(), take.frames());
        let margin = 0.100;
        for channel in &layer.channels {
            assert!(channel.iter().any(|&x| x != 0.0));
            for (n, &x) in channel.iter().enumerate() {
                let t = n as f64 / f64::from(RATE);
                let near = regions
                    .iter()
                    .any(|r| t >= r.start - margin - 1e-3 && t <= r.end + margin + 1e-3);
                assert!(x.is_finite() && (near || x == 0.0), "{stem:?} at {t}: {x}");
            }
        }
    }
    if rebuilt == 0 {
        // Then the user is told why.
        for stem in ["drums", "bass"] {
            let said = |l: &String| l.starts_with(stem) && l.contains("would not have helped");
            let lines = &outcome.findings.lines;
            assert!(lines.iter().any(said), "{lines:?}");
        }
        return;
    }
    // What was chosen is nearer to the band that was never overdriven.
    let (before, after) = distances(&clean_band().mono(), &outcome);
    assert!(after < before, "{before} -> {after}");
}

/// What was found begins and ends near where it was: the networks hear it to a quarter or a third of a second.
fn lie_between(regions: &[Region], from: f64, to: f64) {
    for region in regions {
        assert!(
            region.start > from - 0.5 && region.end < to + 0.5,
            "{region:?}"
        );
    }
}

/// Drums and bass that a microphone's or a preamplifier's ceiling cut off: the default road, from the take to a mix that
/// is nearer to what was played.
#[test]
fn drums_and_bass_that_hit_a_ceiling_are_rebuilt_nearer_to_what_was_played() {
    const CEILING: f64 = 0.1;
    let hard = |low: f64| low.clamp(-CEILING, CEILING);
    let soft = |low: f64| CEILING * (low / CEILING).tanh();
    let clean = band(SECONDS, RATE, |low| low).mono();
    for take in [band(SECONDS, RATE, hard), band(SECONDS, RATE, soft)] {
        let outcome = analyse(&take, &Options::default(), None);
        let lines = &outcome.findings.lines;
        let mut rebuilt = 0;
        for stem in [Stem::Drums, Stem::Bass] {
            let found = &outcome.findings.stems[stem as usize];
            let regions = quality::regions(&found.damage);
            assert!(!regions.is_empty(), "{stem:?}");
            lie_between(&regions, SECONDS / 3.0, 2.0 * SECONDS / 3.0);
            let said = |l: &String| l.starts_with(stem.name()) && l.contains("; rebuilt from");
            assert_eq!(found.rebuilt, lines.iter().any(said), "{lines:?}");
            rebuilt += usize::from(found.rebuilt);
        }
        assert!(rebuilt > 0, "{lines:?}");
        let (before, after) = distances(&clean, &outcome);
        assert!(after < before, "{before} -> {after}");
    }
}

/// Multi-resolution STFT distance in the middle third from `clean` to the restored mix, and to the rebuilt one.
fn distances(clean: &[f32], outcome: &Outcome) -> (f64, f64) {
    let base = outcome.base.mono();
    let mut repaired = base.clone();
    for layer in outcome.layers.iter().flatten() {
        for (x, l) in repaired.iter_mut().zip(layer.mono()) {
            *x += l;
        }
    }
    let third = (SECONDS / 3.0 * f64::from(RATE)) as usize;
    let [before, after] = [base, repaired].map(|x| {
        multi_resolution_stft_distance(&clean[third..2 * third], &x[third..2 * third]).unwrap()
    });
    (before, after)
}

#[test]
fn a_clean_band_is_left_alone() {
    let outcome = analyse(&clean_band(), &Options::default(), None);
    assert!(outcome.layers.iter().all(Option::is_none));
    assert!(outcome.findings.stems.iter().all(|s| !s.rebuilt));
    stems_sum_to_base(&outcome);
}

#[test]
fn a_second_run_comes_from_the_cache_and_a_seed_changes_late_stages_only() {
    let take = overdriven_band(6.0, 22_050);
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), 1 << 30).unwrap();
    let options = Options::default();
    let uncached = analyse(&take, &options, None);
    let first = analyse(&take, &options, Some(&cache));
    same(&uncached, &first);
    let filled = cache.counts();
    assert_eq!(filled.hits, 0);
    assert!(filled.misses > 0);
    same(&first, &analyse(&take, &options, Some(&cache)));
    let again = cache.counts();
    assert_eq!((again.hits, again.misses), (filled.misses, filled.misses));
    let seeded = Options {
        seed: 7,
        ..options.clone()
    };
    let other = analyse(&take, &seeded, Some(&cache));
    assert!(other.base == first.base && other.stems == first.stems);
    let seed = cache.counts();
    let layers = seed.misses - filled.misses;
    assert!(
        (1..=2).contains(&layers),
        "{layers} stems were rebuilt anew"
    );
    assert_eq!(
        seed.hits,
        2 * filled.misses - layers,
        "restored, separated, profiled"
    );
    // An early option runs the rest again.
    let undenoised = Options {
        denoise_percent: 0,
        ..options
    };
    analyse(&take, &undenoised, Some(&cache));
    assert!(cache.counts().misses > filled.misses);
}

/// An edit of the drums rebuilds the drums: the bass comes from the cache. Taken back, everything does.
#[test]
fn an_edit_of_the_music_rebuilds_only_what_depends_on_it() {
    let take = overdriven_band(6.0, 22_050);
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), 1 << 30).unwrap();
    let options = Options {
        regenerators: Regenerators::all(RegeneratorChoice::Everywhere),
        ..Options::default()
    };
    let first = analyse(&take, &options, Some(&cache));
    let [drums, bass] = [0, 1].map(|i: usize| first.layers[i].clone().expect("rebuilt"));
    let filled = cache.counts();
    // Every second drum is taken away.
    let music: Vec<MusicEdit> = (first.findings.profile.drums.iter().step_by(2))
        .map(|hit| MusicEdit::RemoveHit {
            at: (hit.t * f64::from(take.sample_rate)).round() as i64,
            class: hit.class,
        })
        .collect();
    assert!(!music.is_empty());
    let edited = Options {
        music,
        ..options.clone()
    };
    let other = analyse(&take, &edited, Some(&cache));
    let counts = cache.counts();
    assert_eq!(counts.misses, filled.misses + 1, "the drums alone");
    assert!(other.layers[0].as_ref() != Some(&drums));
    assert!(other.layers[1].as_ref() == Some(&bass));
    assert_eq!(
        other.findings.profile, first.findings.profile,
        "the findings keep what was heard"
    );
    assert!(other.base == first.base && other.stems == first.stems);
    let back = analyse(&take, &options, Some(&cache));
    assert_eq!(cache.counts().misses, counts.misses);
    assert!(back.layers[0].as_ref() == Some(&drums));
}

/// Each stem has a regenerator of its own: a choice for one leaves the other as it is.
#[test]
fn each_stem_is_rebuilt_by_its_own_regenerator() {
    let take = overdriven_band(6.0, 22_050);
    let options = |drums, bass| Options {
        regenerators: Regenerators { drums, bass },
        ..Options::default()
    };
    let (off, all) = (RegeneratorChoice::Off, RegeneratorChoice::Everywhere);
    let both = analyse(&take, &options(all, all), None);
    let drums = analyse(&take, &options(all, off), None);
    let bass = analyse(&take, &options(off, all), None);
    assert!(both.layers[0].is_some() && both.layers[1].is_some());
    assert!(drums.layers[0] == both.layers[0] && drums.layers[1].is_none());
    assert!(bass.layers[0].is_none() && bass.layers[1] == both.layers[1]);
    let made = drums.findings.stems.map(|found| found.made);
    let throughout = Made {
        by: all,
        throughout: true,
    };
    assert_eq!(made, [Some(throughout), None, None, None]);
    let lines = drums.findings.lines;
    assert!(
        lines
            .iter()
            .any(|l| l == "drums: rebuilt everywhere, as asked"),
        "{lines:?}"
    );
}

#[test]
fn a_cancelled_run_says_so() {
    let progress = Progress::new();
    progress.cancel();
    let outcome = run(
        &overdriven_band(1.0, 8_000),
        &Options::default(),
        None,
        &progress,
    );
    assert!(matches!(outcome, Err(PipelineError::Cancelled)));
}

#[test]
fn odd_takes_keep_their_shape() {
    let mono = |x: Vec<f32>| AudioBuffer::new(vec![x], 22_050);
    let takes = [
        mono(overdriven_band(2.0, 22_050).mono()),
        mono(Vec::new()),
        mono(vec![0.5]),
        mono(vec![0.25; 100]),
        AudioBuffer::silence(2, 22_050, 22_050),
        mono(vec![f32::NAN; 5_000]),
    ];
    for take in &takes {
        let outcome = analyse(take, &Options::default(), None);
        let buffers = outcome.stems.iter().chain(outcome.layers.iter().flatten());
        for buffer in buffers.chain([&outcome.base]) {
            assert_eq!(buffer.channels.len(), take.channels.len());
            assert_eq!(buffer.frames(), take.frames());
            assert!(buffer.channels.iter().flatten().all(|x| x.is_finite()));
        }
    }
    for take in &takes[1..] {
        let outcome = analyse(take, &Options::default(), None);
        assert!(outcome.layers.iter().all(Option::is_none));
    }
    let six = AudioBuffer::silence(6, 100, RATE);
    assert!(matches!(
        run(&six, &Options::default(), None, &Progress::new()),
        Err(PipelineError::Channels { actual: 6 })
    ));
}

//! The engine: from captured chunks to patches, sessions, cancel, several instances.

use std::{path::Path, sync::Arc, time::Duration};

use uncook::{
    audio::AudioBuffer,
    exchange::{
        SamplePos,
        capture::{CaptureTap, capture_ring},
        patch::{PatchReader, patch_snapshot},
    },
    profile::edit::MusicEdit,
    worker::{
        engine::{Engine, Instance},
        options::{CaptureMode, Options, Quality},
        pipeline,
        road::InProcess,
        session::{Edits, Session},
        view::{Problem, TakeState},
    },
};

use super::support::{LIMIT, options, overdriven_band, wait_for};
#[cfg(feature = "ml")]
use super::support::{install_tiny_model, with_data_of_its_own};

struct Track {
    tap: CaptureTap,
    patches: PatchReader,
    instance: Instance,
}

fn track(engine: &Arc<Engine>, rate: u32) -> Track {
    let (mut tap, reader) = capture_ring(1 << 22);
    tap.set_sample_rate(rate);
    let (publisher, patches) = patch_snapshot();
    let instance = engine.connect(reader, publisher);
    instance.set_sample_rate(rate);
    instance.set_options(&options());
    Track {
        tap,
        patches,
        instance,
    }
}

impl Track {
    fn play(&mut self, audio: &AudioBuffer, start: i64) {
        let (left, right) = (&audio.channels[0], audio.channels.last().unwrap());
        for (n, (l, r)) in left.iter().zip(right).enumerate() {
            self.tap.push(SamplePos(start + n as i64), *l, *r);
        }
        self.tap.stop();
    }

    fn swap(&mut self) -> bool {
        self.patches.has_next() && self.patches.advance()
    }

    fn problems(&self) -> Vec<Problem> {
        wait_for(|| {
            (!self.instance.view().problems.is_empty())
                .then(|| self.instance.view().problems.clone())
        })
    }
}

#[test]
fn a_take_becomes_a_patch_a_commit_and_a_session_that_reloads() {
    let folder = tempfile::tempdir().unwrap();
    let band = overdriven_band(6.0, 44_100);
    let session = {
        let engine = Engine::in_folder(folder.path().to_owned());
        let mut track = track(&engine, 44_100);
        track.play(&band, 1000);
        assert!(track.instance.wait_idle(LIMIT));
        assert!(track.swap(), "no patch was published");
        let set = track.patches.current();
        assert_eq!(set.patches().len(), 1);
        let patch = &set.patches()[0];
        assert_eq!((patch.start, patch.len()), (SamplePos(1000), band.frames()));
        assert_eq!(patch.take[0], band.channels[0]);
        assert!(
            patch.layers[0].is_some() || patch.layers[1].is_some(),
            "nothing was rebuilt"
        );
        let view = wait_for(|| {
            let view = track.instance.view();
            (view.takes.first()?.state == TakeState::Committed).then_some(view)
        });
        assert!(view.takes[0].findings.is_some() && view.problems.is_empty());
        // The same audio again: nothing new to do, nothing new published.
        track.play(&band, 1000);
        assert!(track.instance.wait_idle(LIMIT));
        assert!(!track.swap());
        track.instance.session()
    };
    assert_eq!(session.commits.len(), 1);
    let engine = Engine::in_folder(folder.path().to_owned());
    let mut track = track(&engine, 44_100);
    track.instance.load_session(&session);
    assert!(
        track.swap(),
        "patches are published before load_session returns"
    );
    assert_eq!(
        track.patches.current().patches()[0].take[0],
        band.channels[0]
    );
    assert_eq!(track.instance.session(), session);
    // A bounce captures the same audio: still nothing to do.
    track.play(&band, 1000);
    assert!(track.instance.wait_idle(LIMIT));
    assert!(!track.swap());
}

#[test]
fn a_missing_sidecar_is_reported_and_kept_in_the_session() {
    let folder = tempfile::tempdir().unwrap();
    let band = overdriven_band(2.0, 22_050);
    let engine = Engine::in_folder(folder.path().to_owned());
    let session = {
        let mut track = track(&engine, 22_050);
        track.play(&band, 0);
        assert!(track.instance.wait_idle(LIMIT));
        track.instance.session()
    };
    let name = &session.commits[0].file;
    std::fs::remove_file(folder.path().join("commits").join(name)).unwrap();
    let mut track = track(&engine, 22_050);
    track.instance.load_session(&session);
    assert!(track.swap() && track.patches.current().patches().is_empty());
    assert!(
        track.problems().iter().any(|p| p.contains(name)),
        "{:?}",
        track.problems()
    );
    assert_eq!(
        track.instance.session(),
        session,
        "the reference must survive a save"
    );
}

#[test]
fn manual_capture_waits_for_the_user_and_clear_forgets() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::in_folder(folder.path().to_owned());
    let mut track = track(&engine, 22_050);
    let manual = Options {
        capture: CaptureMode::Manual,
        ..options()
    };
    track.instance.set_options(&manual);
    track.play(&overdriven_band(2.0, 22_050), 0);
    assert!(track.instance.wait_idle(LIMIT));
    assert!(!track.swap());
    track.instance.analyse();
    assert!(track.instance.wait_idle(LIMIT));
    assert!(track.swap());
    track.instance.clear();
    assert!(track.swap() && track.patches.current().patches().is_empty());
    assert_eq!(track.instance.session(), Session::default());
}

#[test]
fn a_cancelled_job_publishes_nothing_and_can_be_asked_for_again() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::in_folder(folder.path().to_owned());
    let mut track = track(&engine, 44_100);
    track.play(&overdriven_band(20.0, 44_100), 0);
    wait_for(|| track.instance.view().job.clone());
    track.instance.cancel();
    assert!(track.instance.wait_idle(LIMIT));
    assert!(!track.swap());
    track.instance.analyse();
    assert!(track.instance.wait_idle(LIMIT));
    assert!(track.swap());
}

#[test]
fn later_audio_at_the_same_place_replaces_the_patch() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::in_folder(folder.path().to_owned());
    let mut track = track(&engine, 22_050);
    let band = overdriven_band(3.0, 22_050);
    track.play(&band, 0);
    assert!(track.instance.wait_idle(LIMIT) && track.swap());
    let mut other = band.clone();
    other.channels.iter_mut().flatten().for_each(|x| *x *= -0.5);
    track.play(&other.slice(22_050, 22_050), 22_050);
    assert!(track.instance.wait_idle(LIMIT) && track.swap());
    let set = track.patches.current();
    assert_eq!(set.patches().len(), 1);
    let take = set.patches()[0].take[0].to_vec();
    assert_eq!(take[..22_050], band.channels[0][..22_050]);
    assert_eq!(take[22_050..44_100], other.channels[0][22_050..44_100]);
    assert_eq!(take[44_100..], band.channels[0][44_100..]);
}

#[test]
fn ten_instances_share_one_engine_and_all_finish() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::in_folder(folder.path().to_owned());
    let mut tracks: Vec<Track> = (0..10).map(|_| track(&engine, 22_050)).collect();
    let band = overdriven_band(2.0, 22_050);
    for (i, track) in tracks.iter_mut().enumerate() {
        let mut own = band.clone();
        own.channels
            .iter_mut()
            .flatten()
            .for_each(|x| *x *= 1.0 - 0.03 * i as f32);
        track.play(&own, 0);
    }
    for track in &mut tracks {
        assert!(track.instance.wait_idle(LIMIT));
        assert!(track.swap());
        assert_eq!(track.patches.current().patches().len(), 1);
    }
    // One goes while its job waits: the others are served.
    for track in &mut tracks {
        track.play(&overdriven_band(2.5, 22_050), 100_000);
    }
    tracks.truncate(3);
    for track in &mut tracks {
        assert!(track.instance.wait_idle(LIMIT) && track.swap());
    }
}

#[test]
fn a_defect_in_one_job_ends_that_job_only() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::with_road(
        folder.path().to_owned(),
        Arc::new(InProcess::new(|take, options, cache, progress| {
            assert_ne!(options.seed, 13, "a defect, for this test");
            pipeline::run(take, options, cache, progress)
        })),
    );
    let band = overdriven_band(2.0, 22_050);
    let mut hurt = track(&engine, 22_050);
    let mut other = track(&engine, 22_050);
    hurt.instance.set_options(&Options {
        seed: 13,
        ..options()
    });
    hurt.play(&band, 0);
    other.play(&band, 0);
    assert!(hurt.instance.wait_idle(LIMIT) && other.instance.wait_idle(LIMIT));
    assert!(other.swap(), "the other instance got its patch");
    assert!(!hurt.swap());
    let problems = hurt.problems();
    assert!(problems[0].contains("live repair goes on"), "{problems:?}");
    assert!(other.instance.view().problems.is_empty());
    // The hurt one works again with what doesn't meet the defect.
    hurt.instance.set_options(&options());
    hurt.instance.analyse();
    assert!(hurt.instance.wait_idle(LIMIT) && hurt.swap());
}

/// An edit of the music changes nothing that plays until a rebuild is asked for; then the new rebuild follows it,
/// and the old one stays at hand.
#[test]
fn edited_music_is_rebuilt_when_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::in_folder(folder.path().to_owned());
    let band = overdriven_band(6.0, 22_050);
    let mut track = track(&engine, 22_050);
    track.play(&band, 500);
    assert!(track.instance.wait_idle(LIMIT));
    assert!(track.swap());
    let view = wait_for(|| {
        let view = track.instance.view();
        (view.takes.first()?.state == TakeState::Committed).then_some(view)
    });
    assert!(!view.takes[0].unheard);
    let findings = view.takes[0].findings.clone().unwrap();
    let mut edits = Edits::default();
    let music = edits.music_mut(SamplePos(500));
    for hit in findings.profile.drums.iter().step_by(2) {
        let at = (hit.t * 22_050.0).round() as i64;
        let class = hit.class;
        music.push(MusicEdit::RemoveHit { at, class });
    }
    assert!(!music.is_empty());
    track.instance.set_edits(&edits);
    wait_for(|| track.instance.view().takes[0].unheard.then_some(()));
    assert!(!track.swap(), "what plays stays");
    assert_eq!(track.instance.session().edits, edits);

    let old = track.patches.current().patches()[0].clone();
    track.instance.analyse();
    assert!(track.instance.wait_idle(LIMIT));
    let view = wait_for(|| {
        let view = track.instance.view();
        (!view.takes[0].unheard).then_some(view)
    });
    assert!(track.swap());
    let new = track.patches.current().patches()[0].clone();
    assert!(new.layers[0] != old.layers[0] && new.layers[1] == old.layers[1]);
    assert_eq!(
        view.takes[0].rebuilds.len(),
        2,
        "the old rebuild can be chosen"
    );
    let heard = &view.takes[0].findings.as_ref().unwrap().profile;
    assert_eq!(
        *heard, findings.profile,
        "what was heard is kept, the edits beside it"
    );
    // Undone: the rebuild has to follow again.
    track.instance.set_edits(&Edits::default());
    wait_for(|| track.instance.view().takes[0].unheard.then_some(()));
}

/// What lies in a cache, by name.
#[cfg(feature = "ml")]
fn entries(folder: &std::path::Path) -> std::collections::BTreeSet<std::path::PathBuf> {
    let cache = folder.join("cache");
    let shelves = std::fs::read_dir(&cache)
        .unwrap()
        .map(|s| s.unwrap().path());
    shelves
        // Stems that are kept for listening lie beside the shelves.
        .filter(|shelf| shelf.is_dir() && !shelf.ends_with("jobs"))
        .flat_map(|shelf| std::fs::read_dir(shelf).unwrap())
        .map(|file| {
            file.unwrap()
                .path()
                .strip_prefix(&cache)
                .unwrap()
                .to_owned()
        })
        .collect()
}

/// The road as far as work ahead goes; the drums stand for all that follows from the stems.
#[cfg(feature = "ml")]
fn first_half(
    take: &AudioBuffer,
    options: &Options,
    cache: Option<&uncook::cache::Cache>,
    progress: &uncook::worker::progress::Progress,
) -> Result<pipeline::Outcome, pipeline::PipelineError> {
    let (base, separation) = pipeline::restored_and_separated(take, options, cache, progress)?;
    let mut layers = [const { None }; 4];
    layers[0] = Some(separation.stems[0].clone());
    Ok(pipeline::Outcome {
        base,
        stems: separation.stems,
        parts: separation.parts,
        layers,
        findings: uncook::worker::view::Findings {
            lines: separation.lines,
            ..Default::default()
        },
        separators: Vec::new(),
        rebuilders: Vec::new(),
    })
}

#[cfg(feature = "ml")]
#[test]
fn a_take_is_worked_on_while_it_is_captured() {
    let install = |data: &Path| {
        install_tiny_model(data, "htdemucs", "955717e8-8726e21a.th", "tinyA.th");
    };
    let test = "engine::a_take_is_worked_on_while_it_is_captured";
    with_data_of_its_own(test, install, worked_on_ahead);
}

#[cfg(feature = "ml")]
fn worked_on_ahead(data: &Path) {
    let rate = 44_100;
    let mut band = overdriven_band(66.0, rate);
    band.channels[1] = band.channels[0].clone();

    // The whole take at once.
    let reference = data.join("reference");
    let engine = Engine::with_road(reference.clone(), Arc::new(InProcess::new(first_half)));
    let mut whole = track(&engine, rate);
    whole.instance.set_options(&Options {
        capture: CaptureMode::Manual,
        ..options()
    });
    whole.play(&band, 0);
    assert!(whole.instance.wait_idle(LIMIT));
    assert_eq!(
        entries(&reference).len(),
        0,
        "manual capture begins nothing"
    );
    whole.instance.set_options(&options());
    whole.instance.analyse();
    assert!(whole.instance.wait_idle(LIMIT) && whole.swap());
    let all = entries(&reference);

    // The same while it is captured. Its end comes again and again, which is nothing new.
    let folder = data.join("ahead");
    let engine = Engine::with_road(folder.clone(), Arc::new(InProcess::new(first_half)));
    let mut growing = track(&engine, rate);
    let push = |growing: &mut Track, from: usize, to: usize| {
        let (left, right) = (&band.channels[0], &band.channels[1]);
        for n in from..to {
            growing.tap.push(SamplePos(n as i64), left[n], right[n]);
        }
    };
    push(&mut growing, 0, band.frames());
    let done = wait_for(|| {
        push(&mut growing, band.frames() - 4096, band.frames());
        let ahead = growing.instance.view().ahead?;
        (!ahead.running && ahead.seconds == 60.0).then(|| entries(&folder))
    });
    assert_eq!(growing.instance.view().job, None);
    assert!(
        all.is_superset(&done),
        "something was made that nobody needs"
    );
    // Two segments of restoration, and the pieces of 0.43 s that lie in 59.97 s.
    assert_eq!(done.len(), 2 + 141);
    let before = engine.cache_counts().unwrap();
    growing.tap.stop();
    assert!(growing.instance.wait_idle(LIMIT) && growing.swap());
    let after = engine.cache_counts().unwrap();
    assert_eq!(after.hits - before.hits, done.len() as u64);
    assert_eq!(
        after.misses - before.misses,
        (all.len() - done.len()) as u64
    );
    assert!(entries(&folder) == all);
    assert_eq!(growing.instance.session(), whole.instance.session());
    let (a, b) = (whole.patches.current(), growing.patches.current());
    let (a, b) = (&a.patches()[0], &b.patches()[0]);
    assert!(a.layers[0].is_some() && a.layers == b.layers && a.base == b.base);
    let findings =
        |track: &Track| wait_for(|| track.instance.view().takes.first()?.findings.clone());
    assert!(
        findings(&whole)
            .lines
            .iter()
            .any(|l| l.contains("separated by htdemucs"))
    );
    assert_eq!(findings(&whole).lines, findings(&growing).lines);

    // The same song once more: its patch plays, nothing is done ahead.
    push(&mut growing, 0, band.frames());
    std::thread::sleep(Duration::from_millis(500));
    assert!(growing.instance.wait_idle(LIMIT));
    assert_eq!(engine.cache_counts().unwrap(), after);
}

/// Work ahead gives way to what is asked for, and ends with its instance.
#[test]
fn work_ahead_gives_way() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::in_folder(folder.path().to_owned());
    let rate = 22_050;
    let long = overdriven_band(90.0, rate);
    let best = Options {
        quality: Quality::Best,
        ..options()
    };
    let mut ahead = track(&engine, rate);
    ahead.instance.set_options(&best);
    let mut other = track(&engine, rate);
    for (n, x) in long.channels[0].iter().enumerate() {
        ahead.tap.push(SamplePos(n as i64), *x, *x);
    }
    let push_on = |track: &mut Track| {
        for n in long.frames() - 4096..long.frames() {
            let x = long.channels[0][n];
            track.tap.push(SamplePos(n as i64), x, x);
        }
    };
    wait_for(|| {
        push_on(&mut ahead);
        ahead.instance.view().ahead.filter(|a| a.running)
    });
    // Another instance's short take does not wait for it.
    other.play(&overdriven_band(2.0, rate), 0);
    wait_for(|| {
        // Silence of two seconds would end the take.
        push_on(&mut ahead);
        other
            .instance
            .wait_idle(Duration::from_millis(20))
            .then_some(())
    });
    assert!(other.swap());
    let done = |track: &Track| track.instance.view().ahead.map_or(0.0, |a| a.seconds);
    assert!(done(&ahead) < 60.0, "{}", done(&ahead));
    // It goes on afterwards, and stops when it is cancelled.
    wait_for(|| {
        push_on(&mut ahead);
        ahead.instance.view().ahead.filter(|a| a.running)
    });
    ahead.instance.cancel();
    wait_for(|| {
        push_on(&mut ahead);
        (!ahead.instance.view().ahead.is_some_and(|a| a.running)).then_some(())
    });
    let seconds = done(&ahead);
    for _ in 0..20 {
        push_on(&mut ahead);
        std::thread::sleep(Duration::from_millis(20));
        assert!(!ahead.instance.view().ahead.is_some_and(|a| a.running));
    }
    assert_eq!(done(&ahead), seconds);
}

//! What an instance holds of a song: the take that was captured, and the patch that repairs it. `benches/memory.rs`
//! measures long ones.

pub mod held;

use std::{path::Path, sync::Arc, time::Duration};

use uncook::{
    damage::Stem,
    exchange::{
        SamplePos,
        samples::{BLOCK, held_bytes},
    },
    worker::{
        engine::Engine,
        options::{CaptureMode, Options},
        scratch::kept_bytes,
        session::{Decision, Edits, Listening},
    },
};

use self::held::{Given, RATE, Track, equal_channels, noise, quantised, track};
use super::support::{options, wait_for, with_data_of_its_own};

/// Waits until all audio of this process takes `expected` bytes, give or take some blocks.
fn assert_held(expected: usize, what: &str) {
    // Two blocks at the ends of each channel.
    let tolerance = 2 * 20 * 4 * BLOCK;
    for _ in 0..500 {
        if held_bytes().abs_diff(expected) <= tolerance {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{what}: {} bytes, not {expected}", held_bytes());
}

/// Seconds of every song of these tests.
const SECONDS: usize = 30;
/// One buffer of them in stereo, and the part of one in which something is rebuilt.
const BUFFER: usize = 8 * SECONDS * RATE as usize;
const REBUILT: usize = BUFFER / 5;

#[test]
fn what_is_the_same_is_held_once() {
    // In a process of its own: it counts all audio that is held there.
    let test = "memory::what_is_the_same_is_held_once";
    with_data_of_its_own(test, |_| (), the_same_is_held_once);
}

fn the_same_is_held_once(folder: &Path) {
    let start = SamplePos(10_000);
    let engine = Engine::with_road(folder.to_owned(), Arc::new(Given));
    let mut first = track(&engine);
    first.play(start, SECONDS, &mut noise(1));
    let song = 2 * BUFFER + 2 * REBUILT;
    assert_held(song, "take, base, two layers");
    // The stems are on disk.
    // A view is renewed ten times a second.
    let at_hand = |first: &Track| first.instance.view().takes[0].stems_at_hand;
    wait_for(|| at_hand(&first).then_some(()));
    assert_eq!(kept_bytes(), 4 * BUFFER as u64);
    let plays = |first: &mut Track| {
        wait_for(|| (first.patches.has_next() && first.patches.advance()).then_some(()));
        let patch = first.patches.current().patches()[0].clone();
        [patch.take[1].at(5_000), patch.base[1].at(5_000)]
    };
    first.instance.listen(Listening {
        solo: [true, false, false, false],
        ..Listening::default()
    });
    let [take, alone] = plays(&mut first);
    assert!(take != 0.0 && alone == 0.4 * take, "{take} {alone}");
    assert_held(song + BUFFER, "drums alone beside the base");
    // Whatever becomes of them, the repair plays, and it is said.
    for entry in std::fs::read_dir(folder.join("cache/jobs")).unwrap() {
        std::fs::remove_dir_all(entry.unwrap().path()).unwrap();
    }
    first.instance.listen(Listening {
        solo: [false, true, false, false],
        ..Listening::default()
    });
    let [take, whole] = plays(&mut first);
    assert_eq!(whole, 0.93 * take);
    let said = wait_for(|| first.instance.view().problems.first().cloned());
    assert!(said.words.contains("can't be read any more"), "{said:?}");
    wait_for(|| (!at_hand(&first)).then_some(()));
    first.instance.listen(Listening::default());
    plays(&mut first);
    let session = first.instance.session();
    drop(first);
    assert_held(0, "nothing");

    // A project that is opened and played again, from somewhere: the take is the patch's.
    let mut again = track(&engine);
    again.instance.load_session(&session);
    assert_held(song, "from a file");
    let mut sound = noise(1);
    for _ in 0..5 * RATE {
        sound();
    }
    let later = start.offset(5 * i64::from(RATE));
    again.play(later, SECONDS - 5, &mut sound);
    assert_eq!(again.instance.session(), session);
    assert_held(song, "played again");
    // Decisions and listening copy what they change, no more.
    let mut edits = Edits::default();
    edits.decide(Decision {
        stem: Stem::Bass,
        start: start.offset(26 * i64::from(RATE)),
        end: start.offset(28 * i64::from(RATE)),
        percent: 0,
    });
    again.instance.set_edits(&edits);
    wait_for(|| (again.patches.has_next() && again.patches.advance()).then_some(()));
    assert_held(
        song,
        "one span refused: its blocks are silent, those of its fades are copied",
    );
    drop(again);

    let mut mono = track(&engine);
    mono.play(start, SECONDS, &mut equal_channels(2));
    assert_held(song / 2, "equal channels");
    assert_eq!(kept_bytes(), 2 * BUFFER as u64);
    drop(mono);
    for bits in [16, 24] {
        let mut few = track(&engine);
        few.play(start, SECONDS, &mut quantised(3, bits));
        let saved = BUFFER - BUFFER * bits as usize / 32;
        assert_held(song - saved, "a take of few bits");
    }
    // They go with the last who holds them: the worker's thread may be at it still.
    wait_for(|| (kept_bytes() == 0).then_some(()));
}

#[test]
fn a_session_larger_than_memory_plays_and_loses_nothing() {
    let test = "memory::a_session_larger_than_memory_plays_and_loses_nothing";
    with_data_of_its_own(test, |_| (), a_large_session);
}

fn a_large_session(folder: &Path) {
    const SECONDS: usize = 75;
    let buffer = 8 * SECONDS * RATE as usize;
    // Three songs of 2.4 buffers each, of which 1.4 come at once.
    let budget = 5 * buffer;
    let engine = Engine::with_budget(folder.to_owned(), Arc::new(Given), budget);
    let mut tracks = [1, 2, 3].map(|_| track(&engine));
    let start = SamplePos(-20_000);
    let played = |seed: u64| {
        let mut sound = noise(seed);
        (0..SECONDS * RATE as usize).map(move |_| sound())
    };
    for (seed, track) in (1..).zip(&mut tracks) {
        track.play(start, SECONDS, &mut noise(seed));
        assert_eq!(track.instance.view().problems, []);
    }
    wait_for(|| (held_bytes() <= budget / 2).then_some(()));
    // Wherever the song is set to, its repair is there at once: what is near comes from the disk.
    for (seed, track) in (1..).zip(&mut tracks) {
        let sound: Vec<[f32; 2]> = played(seed).collect();
        for seconds in [55, 3, 26, 70, 0] {
            let n = seconds * RATE as usize;
            let pos = start.offset(n as i64);
            track.patches.look(pos);
            wait_for(|| {
                while track.patches.has_next() && track.patches.advance() {}
                track.patches.current().is_here(pos.0).then_some(())
            });
            let set = track.patches.current();
            let end = start.offset((SECONDS * RATE as usize) as i64);
            assert!(!set.is_here_throughout(start, end), "{seconds}");
            let patch = &set.patches()[0];
            for (n, x) in sound.iter().enumerate().skip(n).take(RATE as usize) {
                let layer = patch.layers[0].as_ref().unwrap()[1].at(n);
                let rebuilt = if (n / RATE as usize) % 30 >= 24 {
                    0.21 * x[1]
                } else {
                    0.0
                };
                assert_eq!([patch.take[0].at(n), patch.take[1].at(n)], *x);
                assert_eq!([patch.base[1].at(n), layer], [0.93 * x[1], rebuilt]);
            }
            // Who may wait for the disk need not wait for the collector.
            let elsewhere = start.offset(40 * i64::from(RATE));
            track.instance.bring(elsewhere);
            while track.patches.has_next() && track.patches.advance() {}
            assert!(track.patches.current().is_here(elsewhere.0));
        }
    }
    // Played again it is the same take, and a new analysis hears what was put away.
    let [mut first, _others @ ..] = tracks;
    let session = first.instance.session();
    first.play(start, 5, &mut noise(1));
    assert_eq!(first.instance.session(), session);
    first.instance.set_options(&Options {
        seed: 77,
        ..options()
    });
    first.instance.analyse();
    assert!(first.instance.wait_idle(crate::support::LIMIT));
    let after = first.instance.session();
    assert_eq!(first.instance.view().problems, []);
    assert_eq!(after.commits.len(), 1);
    assert_ne!(after.commits, session.commits, "its notes say another seed");
    drop((first, engine));
    let engine = Engine::with_road(folder.to_owned(), Arc::new(Given));
    let mut again = track(&engine);
    again.instance.load_session(&after);
    while again.patches.has_next() && again.patches.advance() {}
    let patch = again.patches.current().patches()[0].clone();
    for (n, x) in played(1).enumerate() {
        assert_eq!([patch.take[0].at(n), patch.take[1].at(n)], x, "{n}");
        assert_eq!(patch.base[0].at(n), 0.93 * x[0], "{n}");
    }
}

#[test]
fn where_nothing_can_be_put_aside_nothing_more_is_captured() {
    let test = "memory::where_nothing_can_be_put_aside_nothing_more_is_captured";
    with_data_of_its_own(test, |_| (), the_budget_is_kept);
}

fn the_budget_is_kept(folder: &Path) {
    // A file lies where the folder should.
    std::fs::create_dir_all(folder.join("cache")).unwrap();
    std::fs::write(folder.join("cache/jobs"), "").unwrap();
    let song = 2 * BUFFER + 2 * REBUILT;
    let budget = song + BUFFER / 2;
    let engine = Engine::with_budget(folder.to_owned(), Arc::new(Given), budget);
    let mut track = track(&engine);
    track.play(SamplePos(0), SECONDS, &mut noise(1));
    assert_held(song, "a song");
    let said = |track: &Track, words: &str| {
        let problems = &track.instance.view().problems;
        problems.iter().any(|problem| problem.words.contains(words))
    };
    wait_for(|| said(&track, "can't be put aside in").then_some(()));
    assert!(!said(&track, "fill the"));
    // Manual: a second song is captured until the budget is reached.
    track.instance.set_options(&Options {
        capture: CaptureMode::Manual,
        ..options()
    });
    track.play(SamplePos(10_000_000), SECONDS, &mut noise(2));
    wait_for(|| said(&track, "fill the").then_some(()));
    // And what had come at once.
    let over = held_bytes().saturating_sub(budget);
    assert!(over < 4 * 8 * RATE as usize, "{over} bytes too many");
    let view = track.instance.view();
    assert_eq!(view.takes.len(), 2);
    assert!(view.takes[1].frames < u64::from(RATE) * SECONDS as u64);
    // What plays is what played.
    assert_eq!(track.patches.current().patches().len(), 1);
}

//! Capture ring and patch snapshot.

use std::sync::Arc;

use uncook::exchange::{
    SamplePos,
    capture::{CHUNK_FRAMES, capture_ring},
    meters::{Meters, PlayerState},
    patch::{Patch, PatchSet, patch_snapshot},
};

fn patch(start: i64, frames: usize, id: &str) -> Arc<Patch> {
    let silence = [vec![0.0; frames], vec![0.0; frames]];
    Arc::new(Patch {
        id: id.to_owned(),
        start: SamplePos(start),
        sample_rate: 48_000,
        take: silence.clone(),
        base: silence,
        layers: [const { None }; 4],
    })
}

fn ids(set: &PatchSet) -> Vec<&str> {
    set.patches().iter().map(|p| p.id.as_str()).collect()
}

#[test]
fn captured_samples_arrive_with_their_positions_whatever_the_jumps() {
    let (mut tap, mut reader) = capture_ring(4096);
    tap.set_sample_rate(44_100);
    let spans = [(-50i64, 70usize), (1000, 64), (1064, 1), (7, 3), (7, 200)];
    let mut sent = Vec::new();
    for (start, frames) in spans {
        for i in 0..frames {
            let pos = start + i as i64;
            let value = sent.len() as f32;
            tap.push(SamplePos(pos), value, -value);
            sent.push((pos, value));
        }
    }
    tap.stop();
    let mut received = Vec::new();
    let mut ended = false;
    while let Some(chunk) = reader.pop() {
        assert!(!ended && usize::from(chunk.len) <= CHUNK_FRAMES);
        assert_eq!(chunk.sample_rate, 44_100);
        ended = chunk.len == 0;
        for i in 0..usize::from(chunk.len) {
            assert_eq!(chunk.samples[1][i], -chunk.samples[0][i]);
            received.push((chunk.pos.0 + i as i64, chunk.samples[0][i]));
        }
    }
    assert!(ended, "no end mark");
    assert_eq!(received, sent);
    assert_eq!(reader.overruns(), 0);
}

#[test]
fn a_full_ring_counts_what_it_loses_and_keeps_what_it_has() {
    let (mut tap, mut reader) = capture_ring(2 * CHUNK_FRAMES);
    for i in 0..10 * CHUNK_FRAMES {
        tap.push(SamplePos(i as i64), i as f32, 0.0);
    }
    tap.stop();
    assert_eq!(reader.overruns(), 8 * CHUNK_FRAMES as u64);
    let first = reader.pop().unwrap();
    assert_eq!((first.pos, first.samples[0][3]), (SamplePos(0), 3.0));
    assert_eq!(reader.pop().unwrap().pos, SamplePos(CHUNK_FRAMES as i64));
    assert!(reader.pop().is_none());
}

#[test]
fn newer_patches_win_and_are_found_by_position() {
    let set = PatchSet::new(vec![
        patch(100, 50, "old"),
        patch(0, 100, "left"),
        patch(140, 20, "new"),
        patch(500, 0, "empty"),
    ]);
    assert_eq!(ids(&set), ["left", "new"]);
    let found = |pos: i64| {
        set.index_at(SamplePos(pos))
            .map(|i| set.patches()[i].id.as_str())
    };
    assert_eq!(found(-1), None);
    assert_eq!(found(0), Some("left"));
    assert_eq!(found(99), Some("left"));
    assert_eq!(found(100), None);
    assert_eq!(found(140), Some("new"));
    assert_eq!(found(160), None);
}

#[test]
fn the_reader_sees_the_newest_set_and_old_ones_travel_back() {
    let (mut publisher, mut reader) = patch_snapshot();
    assert!(!reader.has_next() && !reader.advance());
    let watched = patch(0, 10, "a");
    publisher.publish(PatchSet::new(vec![watched.clone()]));
    publisher.publish(PatchSet::new(vec![patch(0, 10, "b")]));
    assert_eq!(
        Arc::strong_count(&watched),
        1,
        "an unseen set is dropped by the publisher"
    );
    assert!(reader.has_next());
    assert!(
        reader.current().patches().is_empty(),
        "nothing changes before advance"
    );
    publisher.publish(PatchSet::new(vec![patch(0, 10, "c")]));
    assert!(reader.has_next());
    assert!(reader.advance() && !reader.advance());
    assert_eq!(ids(reader.current()), ["c"]);
}

#[test]
fn a_publisher_that_never_collects_costs_the_reader_nothing() {
    let (mut publisher, mut reader) = patch_snapshot();
    // More swaps than the way back has room for, collected by `publish` itself.
    for round in 0..100 {
        publisher.publish(PatchSet::new(vec![patch(0, 10, &round.to_string())]));
        assert!(reader.has_next());
        assert!(reader.advance());
        assert_eq!(ids(reader.current()), [round.to_string()]);
    }
    drop(publisher);
    assert!(!reader.has_next());
}

#[test]
fn sets_arrive_whole_across_threads() {
    let (mut publisher, mut reader) = patch_snapshot();
    let writer = std::thread::spawn(move || {
        for round in 1..=2000usize {
            let id = round.to_string();
            publisher.publish(PatchSet::new(vec![
                patch(0, round % 7 + 1, &id),
                patch(100, round % 5 + 1, &id),
            ]));
        }
        publisher
    });
    let mut last = 0;
    loop {
        let finished = writer.is_finished();
        if reader.has_next() && reader.advance() {
            let set = reader.current();
            let round: usize = set.patches()[0].id.parse().unwrap();
            assert!(round > last);
            assert_eq!(set.patches()[1].id, set.patches()[0].id);
            assert_eq!(set.patches()[0].len(), round % 7 + 1);
            last = round;
        }
        if finished && !reader.has_next() {
            break;
        }
    }
    assert_eq!(last, 2000);
}

#[test]
fn meters_hold_the_peak_until_it_is_read() {
    let meters = Meters::default();
    Meters::raise(&meters.input_peak, 0.5);
    Meters::raise(&meters.input_peak, 0.25);
    assert_eq!(Meters::take(&meters.input_peak), 0.5);
    assert_eq!(Meters::take(&meters.input_peak), 0.0);
    for state in [
        PlayerState::Live,
        PlayerState::Patch,
        PlayerState::OutOfDate,
    ] {
        meters.set_player(state);
        assert_eq!(meters.player(), state);
    }
}

//! Capture ring and patch snapshot.

use std::{collections::HashSet, slice::from_ref, sync::Arc};

use uncook::exchange::{
    SamplePos,
    capture::{CHUNK_FRAMES, capture_ring},
    meters::{Meters, PlayerState},
    patch::{Patch, PatchSet, patch_snapshot},
    samples::{BLOCK, Brought, Depot, Samples, faults, stereo},
};

fn patch(start: i64, frames: usize, id: &str) -> Arc<Patch> {
    let start = SamplePos(start);
    let silence = stereo(start, [&vec![0.0; frames]; 2], &[]);
    Arc::new(Patch {
        id: id.to_owned(),
        start,
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

/// Bytes that all of `samples` hold together.
fn bytes<'a>(samples: impl IntoIterator<Item = &'a Samples>) -> usize {
    let mut seen = HashSet::new();
    samples.into_iter().map(|s| s.bytes(&mut seen)).sum()
}

/// Values that a block must keep to the bit, other ones each time.
fn odd(count: usize, seed: usize) -> Vec<f32> {
    let value = |i: usize| match (i + seed) % 7 {
        0 => -0.0,
        1 => f32::from_bits(0x7fc0_1234),
        2 => 1e-40,
        n => (i as f32 + 0.1) * n as f32 - seed as f32,
    };
    (0..count).map(value).collect()
}

fn bits(samples: &[f32]) -> Vec<u32> {
    samples.iter().map(|x| x.to_bits()).collect()
}

/// Whatever is done to samples, they are what the same on a plain vector gives, and copies made before stay what they
/// were.
#[test]
fn samples_in_blocks_are_a_vector() {
    against_a_vector(&|_, _| true);
}

/// The same wherever they lie.
#[test]
#[cfg_attr(miri, ignore = "it opens no files")]
fn samples_in_blocks_are_a_vector_on_the_disk_too() {
    let depot = Depot::new(tempfile::tempfile().unwrap());
    against_a_vector(&|samples, keep| {
        let room = &mut usize::MAX.clone();
        samples.put_away(from_ref(&keep), &depot, room).unwrap()
    });
}

/// `put_away` may move all but a span, and says whether it did what it should.
fn against_a_vector(put_away: &dyn Fn(&mut Samples, std::ops::Range<i64>) -> bool) {
    // Miri takes minutes for each and finds the same in all.
    let (starts, step) = match cfg!(miri) {
        true => (&[-3][..], 1_009),
        false => (&[0, -3, 4_095, 5_000, -10_000_001][..], 37),
    };
    for &start in starts {
        let mut plain: Vec<f32> = Vec::new();
        let mut samples = Samples::new(SamplePos(start));
        let mut copies = Vec::new();
        let silence = vec![0.0; 2 * BLOCK + 5];
        for (i, more) in [
            odd(10, 1),
            silence.clone(),
            odd(9_000, 2),
            odd(1, 3),
            silence,
        ]
        .into_iter()
        .enumerate()
        {
            plain.extend(&more);
            samples.extend(&more, &[]);
            if i % 2 == 1 {
                samples.finish(&[]);
            }
            copies.push((samples.clone(), plain.clone()));
            if i >= 2 {
                assert!(put_away(&mut samples, 5_000..9_000));
            }
            let (at, new) = (plain.len() / 3, odd(plain.len() / 2, 5 + i));
            plain[at..at + new.len()].copy_from_slice(&new);
            samples.write(at, &new);
            copies.push((samples.clone(), plain.clone()));
            plain.splice(0..0, vec![0.0; 3_000 * i]);
            samples.prepend_silence(3_000 * i);
        }
        copies.push((samples, plain));
        for i in 0..copies.len() {
            let (mut samples, plain) = copies[i].clone();
            put_away(&mut samples, 0..0);
            copies.push((samples, plain));
        }
        for (samples, plain) in &copies {
            assert_eq!(samples.len(), plain.len());
            // The audio thread reads what was brought, which is all that was asked for.
            let spans = [100..5_000, 20_000..20_001];
            let near = samples.near(&spans, &mut Brought::default()).unwrap();
            assert_eq!(near.len(), plain.len());
            for n in spans
                .into_iter()
                .flatten()
                .filter(|n| *n < plain.len() as i64)
            {
                assert_eq!(near.at(n as usize).to_bits(), plain[n as usize].to_bits());
            }
            assert_eq!(near.at(30_000), 0.0);
            let whole = samples.near(from_ref(&(0..plain.len() as i64)), &mut Brought::default());
            let here = whole.unwrap();
            assert_eq!(bits(&samples.to_vec()), bits(plain));
            assert!(*samples == *plain && *samples == samples.clone());
            for n in (0..plain.len()).step_by(step) {
                assert_eq!(here.at(n).to_bits(), plain[n].to_bits());
                assert_eq!(
                    bits(&samples.slice(n..plain.len().min(n + 50))),
                    bits(&plain[n..plain.len().min(n + 50)])
                );
            }
            assert_eq!(samples.at(plain.len()), 0.0);
            let mut beyond = [1.0; 3];
            samples.read(plain.len() - 1, &mut beyond);
            assert_eq!(beyond[1..], [0.0; 2]);
            let mut other = plain.clone();
            other[5] = f32::from_bits(other[5].to_bits() ^ 1);
            assert!(*samples != other && samples.silenced() == vec![0.0; plain.len()]);
        }
    }
}

/// What is held together stays together on the disk and comes back together; its place there is used again.
#[test]
#[cfg_attr(miri, ignore = "it opens no files")]
fn what_is_put_away_lies_once_on_the_disk() {
    let depot = Depot::new(tempfile::tempfile().unwrap());
    let start = SamplePos(-500);
    let [left, other] = [odd(5 * BLOCK, 1), odd(5 * BLOCK, 2)];
    let [mut a, mut b] = stereo(start, [&left, &left], &[]);
    let mut c = Samples::of(start, &other, &[]);
    let mut room = usize::MAX;
    let mut put_away = |samples: &mut Samples| {
        let before = room;
        assert!(samples.has_to_put_away(&[]));
        assert!(samples.put_away(&[], &depot, &mut room).unwrap());
        assert!(!samples.has_to_put_away(&[]));
        before - room
    };
    let one = put_away(&mut a);
    assert_eq!(one, 6 * 4 * BLOCK);
    assert_eq!(put_away(&mut b), 0, "it lies there");
    assert_eq!(bytes([&a, &b]), one);
    let mut brought = Brought::default();
    let all = 0..left.len() as i64;
    let all = from_ref(&all);
    let [mut near, also] = [&a, &b].map(|s| s.near(all, &mut brought).unwrap());
    assert_eq!(bytes([&near, &also]), one, "read once for both");
    assert!(near == left && also == left);
    // What was read back need not be written again, unless it was changed.
    assert_eq!(put_away(&mut near), 0);
    let mut near = a.near(all, &mut Brought::default()).unwrap();
    near.write(BLOCK, &[9.0]);
    assert_eq!(put_away(&mut near), 4 * BLOCK);
    assert_eq!(near.slice(BLOCK..BLOCK + 2), [9.0, left[BLOCK + 1]]);
    assert!(a == left, "the others have theirs");
    // Little room: a part of it goes now.
    let mut little = 4 * BLOCK + 1;
    assert!(c.put_away(&[], &depot, &mut little).unwrap());
    assert!(little == 1 && c.has_to_put_away(&[]) && c == other);
    // Places are free again when nobody needs them.
    drop((near, also, brought));
    let unread = faults();
    drop((a, b));
    let [d, e] = [odd(5 * BLOCK, 3), odd(5 * BLOCK, 4)].map(|sound| {
        let mut samples = Samples::of(start, &sound, &[]);
        samples
            .put_away(&[], &depot, &mut usize::MAX.clone())
            .unwrap();
        (samples, sound)
    });
    assert!(d.0 == d.1 && e.0 == e.1 && c == other);
    assert_eq!(faults(), unread);
}

#[test]
fn samples_of_few_bits_take_few_bytes_and_stay_what_they_are() {
    let whole = |bits: i32| {
        let half = 2f32.powi(bits - 1);
        let value = move |i: usize| match i % 5 {
            0 => -1.0,
            1 => (half - 1.0) / half,
            2 => 0.0,
            3 => 1.0 / half,
            _ => -((i % 100) as f32) / half,
        };
        (0..2 * BLOCK).map(value).collect::<Vec<f32>>()
    };
    let held = |sound: &[f32]| {
        let samples = Samples::of(SamplePos(0), sound, &[]);
        assert_eq!(bits(&samples.to_vec()), bits(sound));
        assert!((0..sound.len()).all(|n| samples.at(n).to_bits() == sound[n].to_bits()));
        assert_eq!(bits(&samples.slice(5..4_100)), bits(&sound[5..4_100]));
        bytes([&samples])
    };
    assert_eq!(held(&whole(16)), 2 * 2 * BLOCK);
    assert_eq!(held(&whole(24)), 2 * 3 * BLOCK);
    assert_eq!(held(&whole(25)), 2 * 4 * BLOCK);
    // One sample that needs more, and the block is wide; the other one stays.
    for odd in [-0.0, 1.0, 1e-9, f32::NAN, f32::INFINITY] {
        let mut sound = whole(16);
        sound[7] = odd;
        assert_eq!(held(&sound), (4 + 2) * BLOCK);
    }
    let mut samples = Samples::of(SamplePos(0), &whole(16), &[]);
    samples.write(7, &[1e-9]);
    assert_eq!(bytes([&samples]), 6 * BLOCK);
    samples.write(7, &[whole(16)[7]]);
    assert_eq!(bytes([&samples]), 4 * BLOCK);
    assert!(samples == whole(16));
}

#[test]
fn what_is_equal_is_held_once_and_silence_not_at_all() {
    let sound = odd(5 * BLOCK, 1);
    let block = size_of::<[f32; BLOCK]>();
    let start = SamplePos(-77);
    let mono = stereo(start, [&sound, &sound], &[]);
    assert_eq!(bytes(&mono), 6 * block);
    let wide = stereo(start, [&sound, &odd(5 * BLOCK, 2)], &[]);
    assert_eq!(bytes(&wide), 12 * block);
    // A repair that differs in one place, and a layer that is silent but there.
    let mut other = sound.clone();
    other[2 * BLOCK] += 1.0;
    let repair = stereo(start, [&other, &other], &[&mono]);
    assert_eq!(bytes(mono.iter().chain(&repair)), 7 * block);
    let mut layer = vec![0.0; 5 * BLOCK];
    layer[2 * BLOCK] = 1.0;
    assert_eq!(bytes(&stereo(start, [&layer, &layer], &[])), block);
    // A copy holds nothing until it is written into, and then one block.
    let mut copy = mono[0].clone();
    copy.write(100, &sound[100..200]);
    assert_eq!(bytes([&mono[0], &copy]), 6 * block);
    copy.write(100, &[0.5]);
    assert_eq!(bytes([&mono[0], &copy]), 7 * block);
    // What begins elsewhere on the timeline shares the blocks that both have whole.
    let later = Samples::of(SamplePos(-77 + 900), &sound[900..], &[]);
    assert!(later.lies_in(&mono[0], 900) && !later.lies_in(&mono[0], 901));
    let mut shared = later.clone();
    shared.share(0..later.len(), &mono[0], 900);
    assert_eq!(bytes([&mono[0], &shared]), 7 * block);
    assert!(shared == later);
    // In another place of its block nothing can be shared, and nothing is lost.
    let mut moved = Samples::of(start.offset(1), &sound, &[]);
    moved.share(0..sound.len(), &mono[0], 0);
    assert!(moved == mono[0]);
    assert_eq!(bytes([&mono[0], &moved]), 12 * block);
}

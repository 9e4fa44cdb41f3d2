//! The boundary's protocols in every order of two threads' steps that the memory model allows.
#![cfg(loom)]

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use loom::{cell::UnsafeCell, model::Builder, thread};
use uncook::{
    exchange::{
        SamplePos,
        capture::{CHUNK_FRAMES, capture_ring},
        patch::{Patch, PatchPublisher, PatchReader, PatchSet, patch_snapshot},
        samples::stereo,
    },
    limit_rings, refused,
};

/// Runs `model` in every order and says how many there were.
fn every_order(name: &str, model: impl Fn() + Sync + Send + 'static) {
    let orders = Arc::new(AtomicUsize::new(0));
    let count = orders.clone();
    Builder::new().check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        model();
    });
    println!("{name}: {} orders", orders.load(Ordering::Relaxed));
}

/// Set number `n`, which holds `patch` alone.
fn patch(n: usize) -> Arc<Patch> {
    // Silence has no block, whose samples would be more than a thread's stack here.
    let sound = stereo(SamplePos(0), [&[0.0], &[0.0]], &[]);
    Arc::new(Patch {
        id: n.to_string(),
        start: SamplePos(0),
        sample_rate: 48_000,
        take: sound.clone(),
        base: sound,
        layers: [const { None }; 4],
    })
}

/// What goes with the sets, in cells whose every touch loom checks: written before a set is published, read while it is
/// in force, written again once it has been dropped.
struct Contents(Vec<UnsafeCell<usize>>);

// SAFETY: loom fails the model if two threads touch a cell without an order between them.
unsafe impl Send for Contents {}
unsafe impl Sync for Contents {}

impl Contents {
    fn write(&self, n: usize, value: usize) {
        // SAFETY: checked by loom.
        self.0[n].with_mut(|cell| unsafe { *cell = value });
    }

    fn read(&self, n: usize) -> usize {
        // SAFETY: checked by loom.
        self.0[n].with(|cell| unsafe { *cell })
    }
}

/// The number of the set in force; 0 before the first.
fn current(reader: &PatchReader) -> usize {
    let first = reader.current().patches().first();
    first.map_or(0, |patch| patch.id.parse().expect("a number"))
}

const DROPPED: usize = usize::MAX;

/// Publishes sets 1 to `sets`; writes into what goes with those that were dropped.
fn publish(publisher: &mut PatchPublisher, patches: &[Arc<Patch>], contents: &Contents) {
    for n in 1..patches.len() {
        contents.write(n, n);
        publisher.publish(PatchSet::new(vec![patches[n].clone()]));
    }
}

fn snapshot(sets: usize, way_back: usize, looks: usize) {
    limit_rings(way_back);
    let (mut publisher, mut reader) = patch_snapshot();
    let patches: Vec<_> = (0..=sets).map(patch).collect();
    let contents = Arc::new(Contents((0..=sets).map(UnsafeCell::new).collect()));
    let (theirs, their_contents) = (patches.clone(), contents.clone());
    let writer = thread::spawn(move || {
        publish(&mut publisher, &theirs, &their_contents);
        drop(theirs);
        publisher
    });
    let mut last = 0;
    for _ in 0..looks {
        if reader.has_next() && reader.advance() {
            let now = current(&reader);
            assert!(now > last, "{now} after {last}");
            last = now;
        }
        if last > 0 {
            assert_eq!(contents.read(last), last);
        }
    }
    let mut publisher = writer.join().expect("no panic");
    // The newest arrives, whatever was seen before, once what is on the way back is collected.
    publisher.collect();
    while reader.has_next() {
        publisher.collect();
        if reader.advance() {
            last = current(&reader);
        }
    }
    assert_eq!(last, sets);
    assert_eq!(contents.read(last), last);
    drop((publisher, reader));
    assert_eq!(refused(), 0, "a set was freed by the reader");
    for patch in &patches {
        assert_eq!(Arc::strong_count(patch), 1, "{} was kept", patch.id);
    }
}

#[test]
fn the_reader_sees_whole_sets_in_order_and_the_newest_at_last() {
    every_order("snapshot", || snapshot(3, 8, 3));
}

#[test]
fn a_full_way_back_delays_a_set_and_loses_none() {
    every_order("snapshot, way back of 1", || snapshot(3, 1, 3));
}

/// The publisher takes back what the reader has left, and the reader touches it no more.
#[test]
fn what_travels_back_is_the_publishers_alone() {
    for way_back in [1, 8] {
        every_order(&format!("free-list of {way_back}"), move || {
            limit_rings(way_back);
            let (mut publisher, mut reader) = patch_snapshot();
            let patches: Vec<_> = (0..=2).map(patch).collect();
            let contents = Arc::new(Contents((0..=2).map(UnsafeCell::new).collect()));
            contents.write(1, 1);
            publisher.publish(PatchSet::new(vec![patches[1].clone()]));
            let (theirs, seen) = (patches, contents.clone());
            let writer = thread::spawn(move || {
                contents.write(2, 2);
                publisher.publish(PatchSet::new(vec![theirs[2].clone()]));
                publisher.collect();
                for n in 1..=2 {
                    // Only this thread drops sets: what only we hold was given back, or never seen.
                    if Arc::strong_count(&theirs[n]) == 1 {
                        contents.write(n, DROPPED);
                    }
                }
                // The way back outlives the reader's last look.
                publisher
            });
            for _ in 0..3 {
                if reader.has_next() {
                    reader.advance();
                }
                let now = current(&reader);
                if now > 0 {
                    assert_eq!(seen.read(now), now, "dropped while in force");
                }
            }
            drop(writer.join().expect("no panic"));
            assert_eq!(refused(), 0, "a set was freed by the reader");
        });
    }
}

#[test]
fn captured_chunks_arrive_in_order_or_are_counted() {
    for (room, sent) in [(1, 3), (2, 3), (2, 4)] {
        every_order(&format!("capture of {room} and {sent}"), move || {
            let (mut tap, mut reader) = capture_ring(room * CHUNK_FRAMES);
            let writer = thread::spawn(move || {
                tap.set_sample_rate(48_000);
                for n in 0..sent * CHUNK_FRAMES {
                    tap.push(SamplePos(n as i64), n as f32, -(n as f32));
                }
                tap.stop();
            });
            let mut frames = 0;
            let mut next = 0;
            let mut take = |reader: &mut uncook::exchange::capture::CaptureReader| {
                while let Some(chunk) = reader.pop() {
                    // An end mark has no place.
                    assert!(chunk.len == 0 || chunk.pos.0 >= next, "out of order");
                    for i in 0..usize::from(chunk.len) {
                        let pos = chunk.pos.0 as usize + i;
                        assert_eq!(chunk.samples[0][i], pos as f32);
                        assert_eq!(chunk.samples[1][i], -(pos as f32));
                    }
                    frames += usize::from(chunk.len);
                    next = next.max(chunk.pos.0 + i64::from(chunk.len));
                }
            };
            take(&mut reader);
            take(&mut reader);
            writer.join().expect("no panic");
            assert!(reader.is_abandoned());
            take(&mut reader);
            assert_eq!(frames + reader.overruns() as usize, sent * CHUNK_FRAMES);
        });
    }
}

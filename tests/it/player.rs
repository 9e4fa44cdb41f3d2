//! Patches over the live chain: weights, borders, mismatch, exchange.

use std::{slice::from_ref, sync::Arc};

use uncook::{
    exchange::{
        SamplePos,
        meters::PlayerState,
        patch::{Patch, PatchPublisher, PatchReader, PatchSet, patch_snapshot},
        samples::{Depot, stereo},
    },
    realtime::{Settings, player::Player},
};

use super::support::Noise;

const RATE: u32 = 48_000;
const FADE: usize = 960;

struct Bench {
    player: Player,
    patches: PatchReader,
    publisher: PatchPublisher,
    delay: usize,
}

impl Bench {
    fn new(patches: Vec<Arc<Patch>>) -> Self {
        let delay = Player::look_ahead_samples(RATE.into()) + 777;
        let (mut publisher, reader) = patch_snapshot();
        publisher.publish(PatchSet::new(patches));
        Self {
            player: Player::new(RATE.into(), delay),
            patches: reader,
            publisher,
            delay,
        }
    }

    /// Plays `raw` (mono, both channels) from `start`; live is 0, so the output is the weighted patch.
    fn play(&mut self, raw: &[f32], start: i64) -> Vec<f32> {
        let mut out: Vec<f32> = (0..raw.len() + self.delay)
            .map(|i| {
                let pos = (i < raw.len()).then(|| SamplePos(start + i as i64));
                let x = raw.get(i).copied().unwrap_or(0.0);
                let mut live = [0.0; 2];
                self.player
                    .process(&mut self.patches, pos, [x; 2], &mut live);
                assert_eq!(live[0], live[1]);
                live[0]
            })
            .collect();
        out.drain(..self.delay);
        out
    }
}

fn noise(frames: usize, seed: u64) -> Vec<f32> {
    let mut noise = Noise(seed);
    (0..frames).map(|_| 0.5 * noise.next()).collect()
}

/// A patch whose base is 1 everywhere and whose layers are `layers`.
fn patch(start: i64, take: &[f32], layers: [Option<f32>; 4]) -> Arc<Patch> {
    let start = SamplePos(start);
    let constant = |x: f32| stereo(start, [&vec![x; take.len()]; 2], &[]);
    Arc::new(Patch {
        id: String::new(),
        start,
        sample_rate: RATE,
        take: stereo(start, [take; 2], &[]),
        base: constant(1.0),
        layers: layers.map(|l| l.map(constant)),
    })
}

const NO_LAYERS: [Option<f32>; 4] = [None; 4];

#[test]
fn fades_in_after_the_first_and_out_before_the_last_sample() {
    let raw = noise(20_000, 1);
    let mut bench = Bench::new(vec![patch(5_000, &raw[5_000..15_000], NO_LAYERS)]);
    let out = bench.play(&raw, 0);
    assert!(out[..5_000].iter().all(|&w| w == 0.0));
    assert!(out[15_000..].iter().all(|&w| w == 0.0));
    assert_eq!(out[5_000 + FADE], 1.0);
    assert!(
        out[5_000 + FADE..15_000 - 2 * FADE]
            .iter()
            .all(|&w| w == 1.0)
    );
    assert_eq!(out[14_999], 0.0);
    let steepest = out
        .windows(2)
        .map(|w| (w[1] - w[0]).abs())
        .fold(0.0, f32::max);
    assert!(steepest <= 1.0 / FADE as f32 + 1e-6, "{steepest}");
}

#[test]
fn plays_from_the_very_start_of_a_patch_at_the_very_start_of_the_stream() {
    let raw = noise(10_000, 2);
    let out = Bench::new(vec![patch(-3, &raw, NO_LAYERS)]).play(&raw, -3);
    assert!(out[0] > 0.0);
    assert_eq!(out[FADE], 1.0);
}

#[test]
fn other_audio_is_never_covered() {
    let take = noise(30_000, 3);
    let mut raw = take.clone();
    // From 12,000 to 18,000 another recording, quiet but audible.
    for (x, n) in raw[12_000..18_000].iter_mut().zip(noise(6_000, 4)) {
        *x += 0.05 * n;
    }
    let mut bench = Bench::new(vec![patch(0, &take, NO_LAYERS)]);
    let out = bench.play(&raw, 0);
    assert!(out[FADE..12_000 - 1_300].iter().all(|&w| w == 1.0));
    let covered = out[12_000..18_000].iter().filter(|&&w| w > 0.0).count();
    assert_eq!(covered, 0, "samples of other audio under the patch");
    assert_eq!(
        *out[18_000..28_000]
            .iter()
            .max_by(|a, b| a.total_cmp(b))
            .unwrap(),
        1.0
    );
}

#[test]
fn says_when_the_audio_is_out_of_date() {
    let take = noise(10_000, 5);
    let mut bench = Bench::new(vec![patch(0, &take, NO_LAYERS)]);
    let feed = |bench: &mut Bench, raw: &[f32]| {
        for (i, &x) in raw.iter().enumerate() {
            let mut live = [0.0; 2];
            let pos = Some(SamplePos(i as i64));
            bench
                .player
                .process(&mut bench.patches, pos, [x; 2], &mut live);
        }
        bench.player.state()
    };
    assert_eq!(feed(&mut bench, &take), PlayerState::Patch);
    assert_eq!(feed(&mut bench, &noise(5_000, 6)), PlayerState::OutOfDate);
    assert_eq!(feed(&mut bench, &noise(12_000, 6)), PlayerState::Live);
}

#[test]
fn a_patch_of_another_rate_does_not_play() {
    let raw = noise(8_000, 7);
    let mut other = (*patch(0, &raw, NO_LAYERS)).clone();
    other.sample_rate = 44_100;
    let out = Bench::new(vec![Arc::new(other)]).play(&raw, 0);
    assert!(out.iter().all(|&w| w == 0.0));
}

#[test]
fn blends_and_repair_weigh_layers_exactly() {
    let raw = noise(12_000, 8);
    let layers = [Some(0.5), Some(0.25), None, None];
    let settle = 6_000..10_000;
    let play = |settings: &Settings| {
        let mut bench = Bench::new(vec![patch(0, &raw, layers)]);
        bench.player.set(settings);
        bench.player.reset();
        bench.play(&raw, 0)[settle.clone()].to_vec()
    };
    let all = |value: f32, out: Vec<f32>| assert!(out.iter().all(|&x| x == value), "{}", out[0]);
    let full = Settings::default();
    all(1.75, play(&full));
    all(
        1.0,
        play(&Settings {
            master_blend: 0.0,
            ..full
        }),
    );
    all(
        1.5,
        play(&Settings {
            blend: [1.0, 0.0, 1.0, 1.0],
            ..full
        }),
    );
    all(
        1.375,
        play(&Settings {
            master_blend: 0.5,
            ..full
        }),
    );
    all(
        0.875,
        play(&Settings {
            repair: 0.5,
            ..full
        }),
    );
    all(
        0.0,
        play(&Settings {
            repair: 0.0,
            ..full
        }),
    );
}

#[test]
fn a_new_set_comes_in_through_silence_and_without_a_step() {
    let raw = noise(40_000, 9);
    let mut bench = Bench::new(vec![patch(0, &raw, NO_LAYERS)]);
    let mut out = Vec::new();
    for (i, &x) in raw.iter().enumerate() {
        if i == 15_000 {
            let other = patch(0, &raw, [Some(1.0), None, None, None]);
            bench.publisher.publish(PatchSet::new(vec![other]));
        }
        let mut live = [0.0; 2];
        let pos = Some(SamplePos(i as i64));
        bench
            .player
            .process(&mut bench.patches, pos, [x; 2], &mut live);
        out.push(live[0]);
    }
    assert_eq!(out[14_999], 1.0);
    assert!(out[15_000..15_000 + FADE + 2].contains(&0.0));
    assert_eq!(out[30_000], 2.0);
    let steepest = out
        .windows(2)
        .map(|w| (w[1] - w[0]).abs())
        .fold(0.0, f32::max);
    assert!(steepest <= 2.0 / FADE as f32 + 1e-6, "{steepest}");
}

#[test]
fn a_loop_back_to_the_same_patch_plays_on() {
    let raw = noise(10_000, 10);
    let mut bench = Bench::new(vec![patch(0, &raw, NO_LAYERS)]);
    let mut out = Vec::new();
    for i in 0..30_000usize {
        let n = i % 6_000;
        let mut live = [0.0; 2];
        let pos = Some(SamplePos(n as i64));
        bench
            .player
            .process(&mut bench.patches, pos, [raw[n]; 2], &mut live);
        out.push(live[0]);
    }
    assert!(out[bench.delay + FADE..].iter().all(|&w| w == 1.0));
}

#[test]
fn positions_at_the_ends_of_the_clock_do_no_harm() {
    let raw = noise(2_000, 11);
    let mut bench = Bench::new(vec![
        patch(i64::MAX - 100, &raw, NO_LAYERS),
        patch(i64::MIN + 1, &raw, NO_LAYERS),
    ]);
    for start in [i64::MAX - 500, i64::MIN, i64::MIN + 1, 0] {
        for (i, &x) in raw.iter().enumerate() {
            let mut live = [0.25; 2];
            let pos = Some(SamplePos(start).offset(i as i64));
            bench
                .player
                .process(&mut bench.patches, pos, [x; 2], &mut live);
            assert!(live[0].is_finite());
        }
    }
}

/// A patch of noise, all of it on the disk.
fn put_away(take: &[f32], depot: &Arc<Depot>) -> [Arc<Patch>; 2] {
    let start = SamplePos(-100);
    let sound = |seed: u64| {
        let sound = noise(take.len(), seed);
        stereo(start, [&sound, &sound], &[])
    };
    let whole = Patch {
        id: String::new(),
        start,
        sample_rate: RATE,
        take: stereo(start, [take, take], &[]),
        base: sound(31),
        layers: [None, Some(sound(32)), None, None],
    };
    let mut away = whole.clone();
    assert!(away.put_away(&[], depot, &mut usize::MAX.clone()).unwrap());
    [Arc::new(whole), Arc::new(away)]
}

#[test]
fn what_is_read_from_the_disk_bit_by_bit_plays_as_if_it_were_in_memory() {
    let depot = Depot::new(tempfile::tempfile().unwrap());
    let take = noise(60_000, 30);
    let [whole, away] = put_away(&take, &depot);
    let expected = Bench::new(vec![whole.clone()]).play(&take, -100);
    let mut bench = Bench::new(vec![]);
    let near =
        |pos: i64| PatchSet::near(from_ref(&away), from_ref(&(pos - 3_000..pos + 8_000))).unwrap();
    bench.publisher.publish(near(-100));
    let mut out = Vec::new();
    for (i, x) in take.iter().chain(&vec![0.0; bench.delay]).enumerate() {
        let pos = (i < take.len()).then(|| SamplePos(i as i64 - 100));
        if i % 5_000 == 0 {
            let looked = bench.publisher.looked().map_or(-100, |pos| pos.0);
            assert_eq!(looked.max(-100), (i as i64 - 101).clamp(-100, 59_899));
            bench.publisher.renew(near(looked));
        }
        let mut live = [0.0; 2];
        (bench.player).process(&mut bench.patches, pos, [*x; 2], &mut live);
        out.push(live[0]);
    }
    assert!(expected[FADE..50_000].iter().all(|x| *x != 0.0));
    assert_eq!(out[bench.delay..], expected);
    // Other audio fades, as before.
    bench.publisher.publish(PatchSet::new(vec![whole]));
    assert!(bench.patches.has_next() && !bench.patches.is_renewed());
}

#[test]
fn where_the_disk_was_not_read_yet_live_repair_plays() {
    let depot = Depot::new(tempfile::tempfile().unwrap());
    let take = noise(40_000, 30);
    let [whole, away] = put_away(&take, &depot);
    let spans = [-100..10_000, 20_000..30_000];
    let mut bench = Bench::new(vec![]);
    (bench.publisher).publish(PatchSet::near(&[away], &spans).unwrap());
    let out = bench.play(&take, -100);
    let weight = |n: usize| {
        let full = whole.base[0].at(n) + whole.layers[1].as_ref().unwrap()[0].at(n);
        out[n] / full
    };
    let expected = |n: usize| {
        let pos = n as i64 - 100;
        let edge = |span: &std::ops::Range<i64>| (pos - span.start).min(span.end - 1 - pos);
        spans.iter().map(edge).max().unwrap()
    };
    for (n, x) in out.iter().enumerate().take(take.len()) {
        let inside = expected(n);
        if inside < 0 {
            assert_eq!(*x, 0.0, "{n}");
        } else if inside > 2 * FADE as i64 {
            assert!((weight(n) - 1.0).abs() < 1e-3, "{n}: {}", weight(n));
        }
    }
    // Up and down with the fades of every patch.
    let last = (9_000..10_200).filter(|n| out[*n] != 0.0).max();
    assert!(
        last.is_some_and(|n| weight(n).abs() <= 2.0 / FADE as f32),
        "{last:?}"
    );
}

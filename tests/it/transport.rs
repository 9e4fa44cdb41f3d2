//! What hosts do with the timeline while patches exist: loops, jumps, scrubs, varispeed, other rates and layouts.

use std::ops::Range;

use uncook::{
    cache::commits,
    exchange::{
        SamplePos,
        capture::capture_ring,
        meters::Meters,
        patch::{Patch, PatchSet, patch_snapshot},
        samples,
    },
    realtime::{AudioLink, Chain, Settings, Transport},
    worker::{
        engine::Engine,
        session::{CommitRef, Session},
    },
};

use super::{
    chain::{Rig, music, patch, rig},
    support::{LIMIT, options},
};

const RATE: f64 = 48_000.0;
/// Where the patch lies.
const SPAN: Range<usize> = 24_000..84_000;
/// Samples after a border or a jump within which the player may fade: it looks 25 ms back and fades for 20.
const SETTLED: usize = 4_000;

/// What a host plays: from where on the timeline, and the audio there. Without a place it plays without a transport.
struct Move {
    from: Option<i64>,
    audio: Vec<Vec<f32>>,
}

/// Plain playback of part of the song.
fn straight(song: &[Vec<f32>], range: Range<usize>) -> Move {
    Move {
        from: Some(range.start as i64),
        audio: song.iter().map(|c| c[range.clone()].to_vec()).collect(),
    }
}

fn settings() -> Settings {
    Settings {
        limiter: false,
        ..Settings::default()
    }
}

/// Plays moves one after the other; returns the output as it comes, late by the latency.
fn play(chain: &mut Chain, moves: &[Move], block: usize) -> Vec<Vec<f32>> {
    let mut out = vec![Vec::new(); moves[0].audio.len()];
    for Move { from, audio } in moves {
        for start in (0..audio[0].len()).step_by(block) {
            let end = (start + block).min(audio[0].len());
            let mut io: Vec<Vec<f32>> = audio.iter().map(|c| c[start..end].to_vec()).collect();
            let mut block: Vec<&mut [f32]> = io.iter_mut().map(Vec::as_mut_slice).collect();
            let at = Transport {
                pos: from.map(|from| SamplePos(from + start as i64)),
                playing: from.is_some(),
                capture: from.is_some(),
            };
            chain.process(&mut block, at, &settings());
            out.iter_mut().zip(io).for_each(|(out, io)| out.extend(io));
        }
    }
    out
}

/// Plays moves with and without the patch: where the audio is what the patch was made of, and the player has settled,
/// the patch has to be heard; in the moves that `never` names, exactly what is heard without a patch. Returns how many
/// samples were judged so and so.
fn judge(patch: &Patch, moves: &[Move], never: impl Fn(usize) -> bool) -> (usize, usize) {
    let channels = moves[0].audio.len();
    let heard = |with: bool| {
        let patch = with.then_some(patch);
        // Whatever the host's blocks are.
        let mut rig = fresh(patch, channels);
        let out = play(&mut rig.chain, moves, 480);
        assert!(out == play(&mut fresh(patch, channels).chain, moves, 37));
        (out, rig.chain.latency())
    };
    let ((with, latency), (without, _)) = (heard(true), heard(false));
    assert!(with.iter().flatten().all(|x| x.is_finite()));
    let (mut patched, mut live) = (0, 0);
    let mut at = 0;
    // Samples for which the input has been the take's.
    let mut same = 0;
    for (index, Move { from, audio }) in moves.iter().enumerate() {
        for n in 0..audio[0].len() {
            let place = from.map(|from| from + n as i64 - patch.start.0);
            let inside = place.filter(|p| (0..patch.len() as i64).contains(p));
            let is_take = inside.is_some_and(|p| {
                let last = channels - 1;
                audio[0][n] == patch.take[0].at(p as usize)
                    && audio[last][n] == patch.take[1].at(p as usize)
            });
            same = if is_take { same + 1 } else { 0 };
            let Some(out) = with[0].get(at + latency) else {
                break;
            };
            // What comes decides too: the fade out is over when other audio arrives.
            let ahead = at + SETTLED < with[0].len() - latency && n + SETTLED < audio[0].len();
            if let Some(place) = inside.map(|p| p as usize)
                && same > SETTLED
                && ahead
                && place + SETTLED < patch.len()
            {
                let layer = patch.layers[0].as_ref().map_or(0.0, |l| l[0].at(place));
                assert_eq!(
                    *out,
                    patch.base[0].at(place) + layer,
                    "move {index}, sample {n}"
                );
                patched += 1;
            } else if never(index) {
                for (with, without) in with.iter().zip(&without) {
                    assert_eq!(
                        with[at + latency],
                        without[at + latency],
                        "move {index}, sample {n}"
                    );
                }
                live += 1;
            }
            at += 1;
        }
    }
    (patched, live)
}

fn fresh(patch: Option<&Patch>, channels: usize) -> Rig {
    let mut rig = rig(RATE, channels);
    if let Some(patch) = patch {
        rig.publisher
            .publish(PatchSet::new(vec![patch.clone().into()]));
    }
    rig
}

fn song() -> (Vec<Vec<f32>>, Patch) {
    let song = music(120_000, RATE, 3);
    let part: Vec<Vec<f32>> = song.iter().map(|c| c[SPAN].to_vec()).collect();
    let patch = patch(&part, SPAN.start as i64);
    (song, Patch::clone(&patch))
}

/// A second of silence, without a place.
fn pause(channels: usize) -> Move {
    Move {
        from: None,
        audio: vec![vec![0.0; 48_000]; channels],
    }
}

#[test]
fn loops_and_jumps_play_the_patch_wherever_they_lead() {
    let (song, patch) = song();
    // Round a loop inside the patch, four times; out of it, back into it, and over its whole length.
    let mut moves = vec![straight(&song, 10_000..60_000)];
    moves.extend((0..4).map(|_| straight(&song, 30_011..60_000)));
    moves.push(straight(&song, 90_000..110_000));
    moves.push(straight(&song, 50_001..80_000));
    moves.push(straight(&song, 0..20_000));
    moves.push(straight(&song, 15_000..118_000));
    let (patched, live) = judge(&patch, &moves, |index| [5, 7].contains(&index));
    assert!(patched > 150_000 && live > 25_000, "{patched} {live}");
}

#[test]
fn pre_roll_leads_into_the_patch() {
    let (song, mut patch) = song();
    // Recording: a count-in before the beginning of the timeline, the patch right at it.
    patch.start = SamplePos(0);
    let count_in = Move {
        from: Some(-30_000),
        audio: vec![vec![0.0; 30_000]; 2],
    };
    let from_patch = song.iter().map(|c| c[SPAN.start..].to_vec()).collect();
    let moves = [
        count_in,
        Move {
            from: Some(0),
            audio: from_patch,
        },
    ];
    let (patched, live) = judge(&patch, &moves, |index| index == 0);
    assert!(patched > 40_000 && live > 20_000, "{patched} {live}");
}

/// Audio that doesn't run as it was captured is repaired live, and never covered by the patch.
#[test]
fn scrubs_varispeed_and_moved_clips_are_live() {
    let (song, patch) = song();
    let piece = |range: Range<usize>| -> Vec<Vec<f32>> {
        song.iter().map(|c| c[range.clone()].to_vec()).collect()
    };
    // Backwards, block by block, each reversed.
    let reverse: Vec<Move> = (30_000..80_000)
        .step_by(500)
        .rev()
        .map(|start| {
            let mut audio = piece(start..start + 500);
            audio.iter_mut().for_each(|c| c.reverse());
            Move {
                from: Some(start as i64),
                audio,
            }
        })
        .collect();
    // Half as fast again: the host resamples, and places jump.
    let varispeed: Vec<Move> = (0..80)
        .map(|n| {
            let start = 30_000 + 600 * n;
            let stretched = |c: &Vec<f32>| -> Vec<f32> {
                (0..400)
                    .map(|i| {
                        let at = start as f64 + 1.5 * i as f64;
                        let (n, part) = (at as usize, at.fract() as f32);
                        c[n] + part * (c[n + 1] - c[n])
                    })
                    .collect()
            };
            Move {
                from: Some(start as i64),
                audio: song.iter().map(stretched).collect(),
            }
        })
        .collect();
    // Another tempo: the clip lies 700 samples later.
    let moved = vec![Move {
        from: Some(30_700),
        audio: piece(30_000..80_000),
    }];
    // Without a transport.
    let nowhere = vec![Move {
        from: None,
        audio: piece(20_000..90_000),
    }];
    for moves in [reverse, varispeed, moved, nowhere] {
        let frames: usize = moves.iter().map(|m| m.audio[0].len()).sum();
        let (patched, live) = judge(&patch, &moves, |_| true);
        assert_eq!(patched, 0);
        assert!(live + 4_000 > frames, "{live} of {frames}");
    }
    // And the patch is there as soon as all is as it was.
    let moves = [
        Move {
            from: Some(30_700),
            audio: piece(30_000..60_000),
        },
        pause(2),
        straight(&song, 20_000..90_000),
    ];
    let (patched, _) = judge(&patch, &moves, |index| index == 0);
    assert!(patched > 40_000, "{patched}");
}

/// The host activates anew with another rate or layout, and comes back.
#[test]
fn patches_outlast_other_rates_and_layouts() {
    let (mut song, _) = song();
    // The same on both sides, so that a mono track carries it, too.
    song[1] = song[0].clone();
    let part: Vec<Vec<f32>> = song.iter().map(|c| c[SPAN].to_vec()).collect();
    let mut patch = Patch::clone(&patch(&part, SPAN.start as i64));
    patch.base[1] = patch.base[0].clone();
    patch.layers = [const { None }; 4];
    let (tap, mut capture) = capture_ring(1 << 20);
    let (mut publisher, patches) = patch_snapshot();
    publisher.publish(PatchSet::new(vec![patch.clone().into()]));
    let mut link = Some(AudioLink {
        patches,
        capture: tap,
        meters: Meters::default().into(),
    });
    let moves = |channels: usize| [straight(&song[..channels], 20_000..90_000), pause(channels)];
    for (rate, channels, plays) in [
        (48_000.0, 2, true),
        (44_100.0, 2, false),
        (48_000.0, 1, true),
        (96_000.0, 1, false),
        (48_000.0, 2, true),
    ] {
        let mut chain = Chain::new(rate, channels, link.take().expect("the ends"));
        for block in [512, 64, 8_192] {
            let out = play(&mut chain, &moves(channels), block);
            let latency = chain.latency();
            // Inside, and before it begins to fade out.
            for n in 30_000..62_000 {
                let place = n + 20_000 - SPAN.start;
                let same = out
                    .iter()
                    .all(|c| c[n + latency] == patch.base[0].at(place));
                assert_eq!(
                    same, plays,
                    "{rate} Hz, {channels} channels, blocks of {block}, {n}"
                );
            }
            // What is captured says its rate, and ends.
            let mut frames = 0;
            let mut ended = false;
            while let Some(chunk) = capture.pop() {
                assert_eq!(f64::from(chunk.sample_rate), rate);
                frames += usize::from(chunk.len);
                ended = chunk.len == 0;
            }
            assert!(ended && frames == 70_000, "{frames}");
        }
        link = Some(chain.into_link());
    }
}

/// A take with its patch on disk, and the project that has it.
fn committed(folder: &std::path::Path, song: &[Vec<f32>]) -> (CommitRef, Session) {
    let stereo = samples::stereo(SamplePos(0), [&song[0], &song[1]], &[]);
    let layers = [Some(stereo.clone()), None, None, None];
    let dir = folder.join("commits");
    let commit = commits::save(&dir, SamplePos(0), 48_000, &stereo, &stereo, &layers, "{}");
    let commit = commit.expect("saved");
    let session = Session {
        commits: vec![commit.clone()],
        ..Session::default()
    };
    (commit, session)
}

/// Scrubbing over a repaired song captures pieces that were never recorded there: they must not replace the take, and
/// with it the repair.
#[test]
fn scrubbing_over_a_repaired_song_leaves_the_repair() {
    let folder = tempfile::tempdir().unwrap();
    let song = music(96_000, RATE, 4);
    let (_, session) = committed(folder.path(), &song);
    let engine = Engine::in_folder(folder.path().to_owned());
    let (mut tap, capture) = capture_ring(1 << 20);
    tap.set_sample_rate(48_000);
    let (publisher, mut patches) = patch_snapshot();
    let instance = engine.connect(capture, publisher);
    instance.set_sample_rate(48_000);
    instance.set_options(&options());
    instance.load_session(&session);
    let mut push = |pos: usize, n: usize| tap.push(SamplePos(pos as i64), song[0][n], song[1][n]);
    // As recorded.
    (0..96_000).for_each(|n| push(n, n));
    assert!(instance.wait_idle(LIMIT));
    // Half as fast again; then backwards.
    for block in 0..120 {
        (0..512).for_each(|i| push(768 * block + i, (768 * block + 3 * i / 2).min(95_999)));
    }
    for start in (0..95_000).step_by(1_000).rev() {
        (0..1_000).for_each(|i| push(start + i, start + 999 - i));
    }
    tap.stop();
    assert!(instance.wait_idle(LIMIT));
    assert_eq!(instance.session(), session, "something else was analysed");
    while patches.has_next() && patches.advance() {}
    assert_eq!(patches.current().patches()[0].take[0], song[0]);
}

/// Duplicating a track loads its state into a second instance; deleting one and undoing that, into a new one.
#[test]
fn a_track_is_duplicated_deleted_and_brought_back() {
    let folder = tempfile::tempdir().unwrap();
    let song = music(20_000, RATE, 5);
    let (commit, session) = committed(folder.path(), &song);
    let engine = Engine::in_folder(folder.path().to_owned());
    let connect = || {
        let (_, capture) = capture_ring(1 << 10);
        let (publisher, mut patches) = patch_snapshot();
        let instance = engine.connect(capture, publisher);
        instance.load_session(&session);
        while patches.has_next() && patches.advance() {}
        (instance, patches)
    };
    let (original, patches) = connect();
    let (copy, copied) = connect();
    for patches in [&patches, &copied] {
        let played = patches.current().patches();
        assert_eq!((played.len(), &played[0].id), (1, &commit.hash));
    }
    // Each goes its own way.
    original.clear();
    assert_eq!(original.session(), Session::default());
    assert_eq!(copy.session(), session);
    drop((original, copy));
    let (_back, patches) = connect();
    assert_eq!(
        patches.current().patches()[0].layers[0],
        Some(samples::stereo(SamplePos(0), [&song[0], &song[1]], &[]))
    );
}

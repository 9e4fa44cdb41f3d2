// [worker] What of a patch plays, after the user's decisions: refused spans, chosen rebuilds, single stems.

use std::io;

use crate::{
    damage::Stem,
    exchange::{
        SamplePos,
        patch::Patch,
        samples::{BLOCK, Samples, StereoSamples},
    },
    worker::{
        scratch::KeptStems,
        session::{Edits, Listening},
    },
};

/// Length of every fade between two decisions, as long as the player's own: 20 ms.
const FADE_SECONDS: f64 = 0.020;

/// What [`edited`] takes from, beside the patch itself.
pub struct Sources<'a> {
    /// Other rebuilds by hash: of the same span, over the same base.
    pub others: &'a [(&'a str, &'a Patch)],
    /// The separated stems of the base, which sum to it; `None` where they are not at hand.
    pub stems: Option<&'a KeptStems>,
}

/// `patch` as it is to play; `None` if that is `patch` itself.
///
/// # Errors
/// If stems that are listened to can't be read.
pub fn edited(
    patch: &Patch,
    sources: &Sources<'_>,
    edits: &Edits,
    listening: &Listening,
) -> io::Result<Option<Patch>> {
    let mut changed = false;
    let layers = Stem::ALL.map(|stem| {
        let own = patch.layers[stem as usize].as_ref();
        let picked = edits.picked(stem, patch.start).filter(|h| *h != patch.id);
        let other = picked.and_then(|hash| sources.others.iter().find(|(h, _)| *h == hash));
        let source = match other {
            Some((_, other)) if other.start == patch.start && other.len() == patch.len() => {
                changed = true;
                other.layers[stem as usize].as_ref()
            }
            _ => own,
        };
        let decided = edits.decisions.iter().any(|d| {
            d.stem == stem && d.percent < 100 && d.start < patch.end() && patch.start < d.end
        });
        (source, decided)
    });
    let any_decided = layers
        .iter()
        .any(|(source, decided)| *decided && source.is_some());
    let listening = (!listening.is_plain())
        .then(|| sources.stems.map(|stems| (listening, stems)))
        .flatten();
    if !changed && !any_decided && listening.is_none() {
        return Ok(None);
    }
    let mut out = Patch {
        id: patch.id.clone(),
        start: patch.start,
        sample_rate: patch.sample_rate,
        take: patch.take.clone(),
        base: patch.base.clone(),
        layers: Stem::ALL.map(|stem| {
            let (source, decided) = layers[stem as usize];
            let mut layer = source?.clone();
            if decided {
                apply(&mut layer, patch, stem, edits);
            }
            Some(layer)
        }),
    };
    if let Some((listening, stems)) = listening {
        listen(&mut out, listening, stems)?;
    }
    Ok(Some(out))
}

/// Scales a layer by what was decided about it, with fades where that changes.
fn apply(layer: &mut StereoSamples, patch: &Patch, stem: Stem, edits: &Edits) {
    let len = patch.len();
    let index = |pos: SamplePos| pos.since(patch.start).clamp(0, len as i64) as usize;
    // The decision changes only at these samples.
    let mut edges: Vec<usize> = edits
        .decisions
        .iter()
        .filter(|d| d.stem == stem)
        .flat_map(|d| [index(d.start), index(d.end)])
        .chain([0, len])
        .collect();
    edges.sort_unstable();
    edges.dedup();
    let step = 1.0 / (FADE_SECONDS * f64::from(patch.sample_rate)).max(1.0) as f32;
    let target =
        |at: usize| f32::from(edits.percent_at(stem, patch.start.offset(at as i64))) / 100.0;
    let mut gain = target(0);
    let (mut gains, mut scaled) = ([0.0; BLOCK], [0.0; BLOCK]);
    for pair in edges.windows(2) {
        let &[from, to] = pair else { continue };
        let target = target(from);
        for from in (from..to).step_by(BLOCK) {
            let gains = &mut gains[..BLOCK.min(to - from)];
            for g in gains.iter_mut() {
                gain += (target - gain).clamp(-step, step);
                *g = gain;
            }
            if gains.iter().all(|g| *g == 1.0) {
                continue;
            }
            let scaled = &mut scaled[..gains.len()];
            for channel in layer.iter_mut() {
                channel.read(from, scaled);
                for (x, g) in scaled.iter_mut().zip(&*gains) {
                    // Silence, not -0.0: it is held in no memory.
                    *x = if *g == 0.0 { 0.0 } else { *x * g };
                }
                channel.write(from, scaled);
            }
        }
    }
    let [left, right] = layer;
    right.share(0..len, left, 0);
}

/// Leaves what is listened to: solo and mute act on the recorded and the rebuilt stem alike.
fn listen(patch: &mut Patch, listening: &Listening, stems: &KeptStems) -> io::Result<()> {
    let some = |flags: &[bool]| flags.iter().any(|f| *f);
    let delta = some(&listening.delta);
    let solo = some(&listening.solo);
    let heard = Stem::ALL.map(|stem| {
        let i = stem as usize;
        !listening.mute[i]
            && if delta {
                listening.delta[i]
            } else {
                !solo || listening.solo[i]
            }
    });
    let signs = heard.map(|heard| match (delta, solo, heard) {
        (true, ..) => 0.0,
        (false, true, true) => 1.0,
        (false, false, false) => -1.0,
        _ => 0.0,
    });
    let plain = if delta || solo {
        patch.base.each_ref().map(Samples::silenced)
    } else {
        patch.base.clone()
    };
    let [mut mix, mut stem] = [[0.0; BLOCK]; 2];
    for (c, base) in plain.iter().enumerate() {
        let mut out = Samples::new(patch.start);
        let like: Vec<&Samples> = patch.base.iter().take(c).collect();
        let mut files = Vec::new();
        for (stem, sign) in Stem::ALL.into_iter().zip(signs) {
            if sign != 0.0 {
                files.push((stems.open(stem, c)?, sign));
            }
        }
        for start in (0..base.len()).step_by(BLOCK) {
            let mix = &mut mix[..BLOCK.min(base.len() - start)];
            base.read(start, mix);
            for (file, sign) in &mut files {
                let stem = &mut stem[..mix.len()];
                file.read(stem)?;
                mix.iter_mut().zip(stem).for_each(|(x, s)| *x += *sign * *s);
            }
            out.extend(mix, &like);
        }
        out.finish(&like);
        patch.base[c] = out;
    }
    for (layer, heard) in patch.layers.iter_mut().zip(heard) {
        if !heard {
            *layer = None;
        }
    }
    Ok(())
}

/// Joins a rebuild of one stem's `span` (samples of the patch) into what was rebuilt before: inside the
/// span `new` plays, outside `old`, with fades of 20 ms that lie inside the span.
pub fn joined(
    old: Option<&StereoSamples>,
    new: Option<&StereoSamples>,
    span: std::ops::Range<usize>,
    sample_rate: u32,
) -> Option<StereoSamples> {
    let mut out = match (old, new) {
        (None, None) => return None,
        (Some(old), _) => old.clone(),
        (None, Some(new)) => new.each_ref().map(Samples::silenced),
    };
    let len = out[0].len();
    let fade = (FADE_SECONDS * f64::from(sample_rate)).max(1.0);
    let weight = |n: usize| {
        let edge = |distance: usize| ((distance as f64 + 1.0) / fade).min(1.0);
        // Nothing to fade from at the ends of the patch.
        let rise = if span.start == 0 {
            1.0
        } else {
            edge(n - span.start)
        };
        let fall = if span.end >= len {
            1.0
        } else {
            edge(span.end - 1 - n)
        };
        rise.min(fall) as f32
    };
    let [mut piece, mut newer] = [[0.0; BLOCK]; 2];
    for (c, channel) in out.iter_mut().enumerate() {
        for start in span.clone().step_by(BLOCK) {
            let piece = &mut piece[..BLOCK.min(span.end - start)];
            channel.read(start, piece);
            let newer = &mut newer[..piece.len()];
            if let Some(new) = new {
                new[c].read(start, newer);
            }
            for ((n, x), new) in (start..).zip(piece.iter_mut()).zip(&*newer) {
                let w = weight(n);
                // Exactly the new outside the fades: a seed's take must not depend on what was there.
                *x = if w == 1.0 { *new } else { *x + w * (*new - *x) };
            }
            channel.write(start, piece);
        }
    }
    let [left, right] = &mut out;
    right.share(span, left, 0);
    Some(out)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{audio::AudioBuffer, exchange::samples::stereo, worker::session::Decision};

    const RATE: u32 = 8_000;
    const LEN: usize = 8_000;
    const START: SamplePos = SamplePos(1_000);

    fn flat(x: f32) -> StereoSamples {
        stereo(START, [&[x; LEN], &[x; LEN]], &[])
    }

    fn patch(id: &str, bass: f32) -> Patch {
        Patch {
            id: id.to_owned(),
            start: START,
            sample_rate: RATE,
            take: flat(0.9),
            base: flat(0.5),
            layers: [None, Some(flat(bass)), None, None],
        }
    }

    fn stems(folder: &Path) -> KeptStems {
        let flat = |x: f32| AudioBuffer::new(vec![vec![x; LEN]; 2], RATE);
        KeptStems::of(folder, &[0.2, 0.1, 0.15, 0.05].map(flat))
    }

    fn sources() -> Sources<'static> {
        Sources {
            others: &[],
            stems: None,
        }
    }

    #[test]
    fn without_decisions_the_patch_itself_plays() {
        let patch = patch("a", 0.3);
        let plain = edited(&patch, &sources(), &Edits::default(), &Listening::default());
        assert!(plain.unwrap().is_none());
    }

    #[test]
    fn a_refused_span_plays_the_base_and_fades_at_its_edges() {
        let patch = patch("a", 0.3);
        let mut edits = Edits::default();
        edits.decide(Decision {
            stem: Stem::Bass,
            start: SamplePos(3_000),
            end: SamplePos(5_000),
            percent: 0,
        });
        let out = edited(&patch, &sources(), &edits, &Listening::default());
        let out = out.unwrap().unwrap();
        let layer = out.layers[Stem::Bass as usize].as_ref().unwrap()[0].to_vec();
        let fade = 160;
        assert!(layer[..2_000].iter().all(|x| *x == 0.3));
        assert!(layer[2_000 + fade..4_000].iter().all(|x| x.abs() < 1e-6));
        assert!(layer[4_000 + fade..].iter().all(|x| (x - 0.3).abs() < 1e-6));
        let jump = layer
            .windows(2)
            .map(|w| (w[1] - w[0]).abs())
            .fold(0.0, f32::max);
        assert!(jump <= 0.3 / fade as f32 + 1e-6, "{jump}");
        assert_eq!(out.base, patch.base);
        assert_eq!(out.take, patch.take);
    }

    #[test]
    fn a_picked_rebuild_plays_only_where_it_fits() {
        let (mine, other) = (patch("a", 0.3), patch("b", -0.2));
        let mut short = patch("c", 0.7);
        short.base[0] = Samples::of(START, &[0.5; 10], &[]);
        let others = [("b", &other), ("c", &short)];
        let sources = Sources {
            others: &others,
            stems: None,
        };
        let mut edits = Edits::default();
        edits.pick(Stem::Bass, mine.start, Some("b"));
        let out = edited(&mine, &sources, &edits, &Listening::default());
        let out = out.unwrap().unwrap();
        assert_eq!(out.layers, other.layers);
        for unknown in ["c", "d", "a"] {
            edits.pick(Stem::Bass, mine.start, Some(unknown));
            let out = edited(&mine, &sources, &edits, &Listening::default());
            assert!(out.unwrap().is_none());
        }
    }

    #[test]
    fn solo_mute_and_delta_leave_what_they_say() {
        let patch = patch("a", 0.3);
        let folder = tempfile::tempdir().unwrap();
        let stems = stems(folder.path());
        let sources = Sources {
            others: &[],
            stems: Some(&stems),
        };
        let hear = |listening: Listening| {
            let out = edited(&patch, &sources, &Edits::default(), &listening);
            let out = out.unwrap().unwrap();
            let layers: f32 = out.layers.iter().flatten().map(|l| l[1].at(77)).sum();
            (out.base[1].at(77), layers)
        };
        let near = |(a, b): (f32, f32), (c, d): (f32, f32)| {
            assert!(
                (a - c).abs() < 1e-6 && (b - d).abs() < 1e-6,
                "{a} {b}, not {c} {d}"
            );
        };
        let flag = |stem: Stem| std::array::from_fn(|i| i == stem as usize);
        let plain = Listening::default();
        near(
            hear(Listening {
                solo: flag(Stem::Bass),
                ..plain
            }),
            (0.1, 0.3),
        );
        near(
            hear(Listening {
                solo: flag(Stem::Drums),
                ..plain
            }),
            (0.2, 0.0),
        );
        near(
            hear(Listening {
                mute: flag(Stem::Bass),
                ..plain
            }),
            (0.4, 0.0),
        );
        near(
            hear(Listening {
                mute: flag(Stem::Other),
                ..plain
            }),
            (0.35, 0.3),
        );
        near(
            hear(Listening {
                delta: flag(Stem::Bass),
                ..plain
            }),
            (0.0, 0.3),
        );
        near(
            hear(Listening {
                solo: flag(Stem::Bass),
                mute: flag(Stem::Bass),
                ..plain
            }),
            (0.0, 0.0),
        );
        // What is gone from the disk is an error, not silence.
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            std::fs::remove_dir_all(entry.unwrap().path()).unwrap();
        }
        let listening = Listening {
            solo: flag(Stem::Bass),
            ..plain
        };
        assert!(edited(&patch, &sources, &Edits::default(), &listening).is_err());
    }

    #[test]
    fn a_new_span_is_joined_into_the_old_layer() {
        let (old, new) = (flat(0.2), flat(-0.4));
        let joint = joined(Some(&old), Some(&new), 2_000..4_000, RATE).unwrap();
        let out = joint.each_ref().map(Samples::to_vec);
        assert!(out[0][..2_000].iter().all(|x| *x == 0.2));
        assert!(out[0][4_000..].iter().all(|x| *x == 0.2));
        assert!(out[0][2_160..3_840].iter().all(|x| *x == -0.4));
        let jump = out[0]
            .windows(2)
            .map(|w| (w[1] - w[0]).abs())
            .fold(0.0, f32::max);
        assert!(jump <= 0.6 / 160.0 + 1e-6, "{jump}");
        assert!(joined(None, None, 0..10, RATE).is_none());
        // Where there was nothing, silence is what it fades from.
        let alone = joined(None, Some(&new), 0..LEN, RATE).unwrap();
        assert_eq!(alone, new);
    }
}

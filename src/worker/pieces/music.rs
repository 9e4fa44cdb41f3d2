// [worker] What was played in a piece, told in the take's time.

use std::ops::Range;

use crate::profile::{Chord, DrumHit, Estimate, MusicalProfile, Note};

/// Adds to `all` what `new`, whose times count from `offset`, says of `span` (both in seconds of the take).
pub(super) fn join(
    all: &mut MusicalProfile,
    weights: &mut [f64; 3],
    new: MusicalProfile,
    offset: f64,
    span: Range<f64>,
) {
    let within = |t: &f64| span.contains(t);
    let times = |times: Vec<f64>| times.into_iter().map(|t| t + offset);
    // A beat on the border may be heard a little differently from either side.
    let beat = all
        .tempo_bpm
        .or(new.tempo_bpm)
        .map_or(0.5, |tempo| 60.0 / tempo.value.max(1.0));
    let follows = |last: Option<&f64>, t: &f64| last.is_none_or(|last| t - last > 0.5 * beat);
    for t in times(new.beats).filter(within) {
        if follows(all.beats.last(), &t) {
            all.beats.push(t);
        }
    }
    for t in times(new.downbeats).filter(within) {
        if follows(all.downbeats.last(), &t) {
            all.downbeats.push(t);
        }
    }
    for chord in new.chords {
        let (start, end) = (
            (chord.start + offset).max(span.start),
            (chord.end + offset).min(span.end),
        );
        match all.chords.last_mut() {
            _ if start >= end => {}
            Some(last) if last.label == chord.label && start - last.end < 1e-6 => last.end = end,
            _ => all.chords.push(Chord {
                start,
                end,
                ..chord
            }),
        }
    }
    for (all, new) in [
        (&mut all.melody_notes, new.melody_notes),
        (&mut all.bass_notes, new.bass_notes),
    ] {
        let moved = new.into_iter().map(|note| Note {
            t: note.t + offset,
            ..note
        });
        all.extend(moved.filter(|note| within(&note.t)));
    }
    let moved = new.drums.into_iter().map(|hit| DrumHit {
        t: hit.t + offset,
        ..hit
    });
    all.drums.extend(moved.filter(|hit| within(&hit.t)));
    let seconds = span.end - span.start;
    let [tempo, meter, key] = weights;
    choose(&mut all.tempo_bpm, tempo, new.tempo_bpm, seconds);
    choose(&mut all.meter, meter, new.meter, seconds);
    choose(&mut all.key, key, new.key, seconds);
}

/// Of two estimates the one with more behind it.
fn choose<T>(
    all: &mut Option<Estimate<T>>,
    weight: &mut f64,
    new: Option<Estimate<T>>,
    seconds: f64,
) {
    if let Some(new) = new {
        let own = seconds * f64::from(new.confidence);
        if all.is_none() || own > *weight {
            *weight = own;
            *all = Some(new);
        }
    }
}

// [worker] How damaged a stem is, where, and in words: severities every 10 ms, and the regions to rebuild.

mod overdrive;
mod separated;

pub use overdrive::training_features;
pub use separated::{Assessment, assess_stems, assess_stems_with};

use crate::damage::{
    DEFAULT_THRESHOLD, DamageKind, DamageMap, FRAMES_PER_SECOND, Region, Severity, Stem,
};

/// What a regenerator can cure; the rest is the restoration's work.
pub const REBUILDABLE: [DamageKind; 3] = [
    DamageKind::Clipping,
    DamageKind::Saturation,
    DamageKind::Dropout,
];

/// A region goes on while frames reach this, having begun at [`DEFAULT_THRESHOLD`].
const STAY: f32 = 0.3;
/// Shorter ones are not worth a rebuild: a click's repair is restoration's.
const SHORTEST_FRAMES: usize = 3;
/// Gaps up to this are bridged: between a note's driven peaks lies the same driven note.
const BRIDGE_FRAMES: usize = 12;

/// The spans to rebuild: ascending, not overlapping, seconds from the start of the map.
///
/// Frames enter at 0.5 and stay down to 0.3 (any of [`REBUILDABLE`]); spans closer than 120 ms join,
/// spans under 30 ms go. Where `beats` (ascending, seconds) surround an edge it moves outwards to the
/// next half beat, so that a rebuilt note begins and ends with the music: by less than half a beat.
pub fn regions(map: &DamageMap, beats: &[f64]) -> Vec<Region> {
    let worst = |f: &Severity| {
        REBUILDABLE
            .iter()
            .fold(0.0f32, |a, &k| a.max(f[k as usize]))
    };
    // Spans of frames, by hysteresis: forwards from the first strong frame, and back over weak ones.
    let mut spans: Vec<(usize, usize)> = Vec::new();
    let mut i = 0;
    while i < map.frames.len() {
        if worst(&map.frames[i]) < STAY {
            i += 1;
            continue;
        }
        let from = i;
        let mut strong = false;
        while i < map.frames.len() && worst(&map.frames[i]) >= STAY {
            strong |= worst(&map.frames[i]) >= DEFAULT_THRESHOLD;
            i += 1;
        }
        if strong {
            match spans.last_mut() {
                Some(last) if from - last.1 <= BRIDGE_FRAMES => last.1 = i,
                _ => spans.push((from, i)),
            }
        }
    }
    let mut out: Vec<Region> = Vec::new();
    let end_of_map = map.frames.len() as f64 / FRAMES_PER_SECOND as f64;
    for (from, to) in spans.into_iter().filter(|s| s.1 - s.0 >= SHORTEST_FRAMES) {
        let frames = &map.frames[from..to];
        let weight = |kind: DamageKind| frames.iter().map(|f| f[kind as usize]).sum::<f32>();
        let kind = REBUILDABLE
            .into_iter()
            .rev()
            .max_by(|&a, &b| weight(a).total_cmp(&weight(b)))
            .unwrap_or(DamageKind::Saturation);
        let start = half_beat_before(beats, from as f64 / FRAMES_PER_SECOND as f64);
        let end = half_beat_after(beats, to as f64 / FRAMES_PER_SECOND as f64).min(end_of_map);
        let severity = frames.iter().map(worst).fold(0.0, f32::max);
        match out.last_mut() {
            Some(last) if start <= last.end => {
                if severity > last.severity {
                    (last.severity, last.kind) = (severity, kind);
                }
                last.end = last.end.max(end);
            }
            _ => out.push(Region {
                start: start.max(0.0),
                end,
                kind,
                severity,
            }),
        }
    }
    out
}

/// The two beats around `t`, if there are.
fn around(beats: &[f64], t: f64) -> Option<(f64, f64)> {
    let next = beats.partition_point(|&b| b <= t);
    Some((*beats.get(next.checked_sub(1)?)?, *beats.get(next)?))
}

fn half_beat_before(beats: &[f64], t: f64) -> f64 {
    match around(beats, t) {
        Some((a, b)) if t >= (a + b) / 2.0 => (a + b) / 2.0,
        Some((a, _)) => a,
        None => t,
    }
}

fn half_beat_after(beats: &[f64], t: f64) -> f64 {
    match around(beats, t) {
        // On a beat already.
        Some((a, _)) if t - a < 1e-9 => t,
        Some((a, b)) if t <= (a + b) / 2.0 => (a + b) / 2.0,
        Some((_, b)) => b,
        None => t,
    }
}

/// Plain words: `bass: 14 % of the time overdriven, worst at 0:41`.
pub fn summary(stem: Stem, map: &DamageMap) -> String {
    let mut parts = Vec::new();
    for kind in DamageKind::ALL {
        let share = map.share(kind, DEFAULT_THRESHOLD);
        // Under half a percent is a frame here and there.
        if share < 0.005 {
            continue;
        }
        let percent = (share * 100.0).round().max(1.0);
        let at = worst_second(map, kind);
        parts.push(format!(
            "{percent:.0} % of the time {}, worst at {}:{:02}",
            kind.label(),
            at / 60,
            at % 60
        ));
    }
    if parts.is_empty() {
        format!("{}: nothing damaged", stem.name())
    } else {
        format!("{}: {}", stem.name(), parts.join("; "))
    }
}

/// The second (0, 1, ...) in which `kind` adds up to most.
fn worst_second(map: &DamageMap, kind: DamageKind) -> usize {
    let mut worst = (0, -1.0f32);
    for (second, frames) in map.frames.chunks(FRAMES_PER_SECOND).enumerate() {
        let sum = frames.iter().map(|f| f[kind as usize]).sum::<f32>();
        if sum > worst.1 {
            worst = (second, sum);
        }
    }
    worst.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A map with saturation of the given severities.
    fn map_of(spans: &[(usize, usize, f32)], len: usize) -> DamageMap {
        let mut frames = vec![Severity::default(); len];
        for &(from, to, severity) in spans {
            for f in &mut frames[from..to] {
                f[DamageKind::Saturation as usize] = severity;
            }
        }
        DamageMap { frames }
    }

    #[test]
    fn regions_have_hysteresis_bridges_and_a_least_length() {
        let map = map_of(
            &[
                (100, 110, 0.4), // weak before strong: belongs to it
                (110, 120, 0.8),
                (130, 140, 0.6), // 100 ms later: the same
                (200, 202, 1.0), // too short
                (300, 340, 0.4), // never strong
                (396, 400, 0.7), // up to the end
            ],
            400,
        );
        let found = regions(&map, &[]);
        let spans: Vec<(f64, f64)> = found.iter().map(|r| (r.start, r.end)).collect();
        assert_eq!(spans, [(1.0, 1.4), (3.96, 4.0)]);
        assert_eq!(found[0].severity, 0.8);
        assert_eq!(found[0].kind, DamageKind::Saturation);
        // What restoration cures is not rebuilt.
        let mut noisy = DamageMap {
            frames: vec![Severity::default(); 100],
        };
        for f in &mut noisy.frames {
            f[DamageKind::Noise as usize] = 1.0;
            f[DamageKind::Reverb as usize] = 1.0;
        }
        assert!(regions(&noisy, &[]).is_empty());
    }

    #[test]
    fn regions_grow_to_half_beats_and_merge() {
        let beats = [0.0, 0.5, 1.0, 1.5, 2.0];
        let map = map_of(&[(60, 70, 0.9), (90, 110, 0.6), (250, 260, 0.9)], 300);
        let found = regions(&map, &beats);
        let spans: Vec<(f64, f64)> = found.iter().map(|r| (r.start, r.end)).collect();
        // 0.60..0.70 grows to 0.50..0.75, 0.90..1.10 to 0.75..1.25: they touch. 2.5 has no beats around.
        assert_eq!(spans, [(0.5, 1.25), (2.5, 2.6)]);
        assert_eq!(found[0].severity, 0.9);
        // On a beat already: stays.
        let exact = regions(&map_of(&[(50, 100, 1.0)], 300), &beats);
        assert_eq!((exact[0].start, exact[0].end), (0.5, 1.0));
    }

    #[test]
    fn words_say_share_and_worst_time() {
        let mut map = map_of(&[(4100, 4200, 0.9), (1000, 1040, 0.6)], 10_000);
        assert_eq!(
            summary(Stem::Bass, &map),
            "bass: 1 % of the time overdriven, worst at 0:41"
        );
        for f in &mut map.frames[6500..9000] {
            f[DamageKind::Clipping as usize] = 1.0;
        }
        assert_eq!(
            summary(Stem::Drums, &map),
            "drums: 25 % of the time clipped, worst at 1:05; 1 % of the time overdriven, worst at 0:41"
        );
        assert_eq!(
            summary(Stem::Vocals, &DamageMap::default()),
            "vocals: nothing damaged"
        );
    }
}

// [worker] How damaged a stem is, where, and in words: severities every 10 ms, and the regions to rebuild.

mod overdrive;
mod separated;

pub use overdrive::training_features;
pub use separated::assess_stems;

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
/// spans under 30 ms go. They are not grown to beats: what is rebuilt beside the damage is worse than what was played.
pub fn regions(map: &DamageMap) -> Vec<Region> {
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
    let seconds = |frame: usize| frame as f64 / FRAMES_PER_SECOND as f64;
    let long = spans.into_iter().filter(|s| s.1 - s.0 >= SHORTEST_FRAMES);
    long.map(|(from, to)| {
        let frames = &map.frames[from..to];
        let weight = |kind: DamageKind| frames.iter().map(|f| f[kind as usize]).sum::<f32>();
        let kind = REBUILDABLE
            .into_iter()
            .rev()
            .max_by(|&a, &b| weight(a).total_cmp(&weight(b)))
            .unwrap_or(DamageKind::Saturation);
        Region {
            start: seconds(from),
            end: seconds(to),
            kind,
            severity: frames.iter().map(worst).fold(0.0, f32::max),
        }
    })
    .collect()
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
        let found = regions(&map);
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
        assert!(regions(&noisy).is_empty());
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

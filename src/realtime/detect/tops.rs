// [audio] Flat tops: samples that pile up at a channel's extreme.

/// Height under an extreme within which samples count as equal, as a part of the extreme; and at least so
/// much, 1.2 steps of 16 bits, because quantization spreads a flat top by one.
const EQUAL: f32 = 6.7e-5;
const STEP: f32 = 1.2 / 32768.0;
/// The shell that a smooth peak would fill too, in heights as above.
const SHELL: f32 = 3.0;
/// Quieter extremes are never judged: their steps of 16 bits are too coarse.
const QUIETEST: f32 = 0.004;
/// Frames (0.5 s) for which a proven ceiling stays proven without being reached.
const MEMORY: u32 = 50;

/// One polarity: the level at which it was seen to be cut.
#[derive(Clone, Copy, Default)]
struct Ceiling {
    level: f32,
    frames_left: u32,
}

/// Finds flat tops in one channel.
#[derive(Clone, Copy, Default)]
pub(super) struct Tops {
    ceilings: [Ceiling; 2],
}

impl Tops {
    /// Severity of clipping of one frame.
    pub(super) fn frame(&mut self, samples: &[f32]) -> f32 {
        let [up, down] = &mut self.ceilings;
        one_sided(samples, 1.0, up).max(one_sided(samples, -1.0, down))
    }

    /// Whether flat tops were seen within the last half second.
    pub(super) fn is_proven(&self) -> bool {
        self.ceilings.iter().any(|c| c.frames_left > 0)
    }
}

fn one_sided(samples: &[f32], sign: f32, ceiling: &mut Ceiling) -> f32 {
    let peak = samples.iter().fold(0.0f32, |m, &x| m.max(sign * x));
    ceiling.frames_left = ceiling.frames_left.saturating_sub(1);
    if peak < QUIETEST {
        return 0.0;
    }
    let equal = (EQUAL * peak).max(STEP);
    let (top, below) = (peak - equal, peak - SHELL * equal);
    let (mut in_runs, mut in_next, mut run) = (0u32, 0u32, 0u32);
    for &x in samples {
        let x = sign * x;
        if x >= top {
            run += 1;
            // A run counts from its third sample on.
            in_runs += match run {
                0..=2 => 0,
                3 => 3,
                _ => 1,
            };
        } else {
            run = 0;
            in_next += u32::from(x >= below);
        }
    }
    // A parabola holds √3 − 1 = 0.73 times as many samples between the two levels as above the first; with
    // four samples or more above, at least two between. A flat top holds next to none there.
    let excess = in_runs as f32 - 4.0 * in_next as f32;
    let near = SHELL * equal;
    let at_ceiling = ceiling.frames_left > 0 && (peak - ceiling.level).abs() <= near;
    if ceiling.frames_left > 0 && peak > ceiling.level + near {
        ceiling.frames_left = 0; // it was exceeded: no ceiling
    }
    if excess >= 4.0 {
        *ceiling = Ceiling {
            level: peak,
            frames_left: MEMORY,
        };
        // 4 samples of 10 ms are just audible as damage, a tenth of the frame is bad.
        let share = excess / samples.len() as f32;
        return 0.6 + 0.4 * (share * 10.0).min(1.0);
    }
    if at_ceiling {
        ceiling.frames_left = MEMORY;
        return 0.55;
    }
    0.0
}

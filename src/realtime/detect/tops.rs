// [audio] Flat tops: samples that pile up at a channel's extreme.

/// Height of the shell under an extreme in which samples count as equal, as a part of the extreme: 1.5
/// steps of 16 bits at 0.23 of full scale and above.
const SHELL: f32 = 2e-4;
/// One step of 16 bits: below 0.15 of full scale, quantization alone spreads a flat top over more.
const STEP: f32 = 1.0 / 32768.0;
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
}

fn one_sided(samples: &[f32], sign: f32, ceiling: &mut Ceiling) -> f32 {
    let peak = samples.iter().fold(0.0f32, |m, &x| m.max(sign * x));
    ceiling.frames_left = ceiling.frames_left.saturating_sub(1);
    if peak < QUIETEST {
        return 0.0;
    }
    let shell = (SHELL * peak).max(1.2 * STEP);
    let (top, below) = (peak - shell, peak - 2.0 * shell);
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
    // A smooth peak holds 1 / (√2 − 1) = 2.4 times as many samples in the shell as in the one below.
    let excess = in_runs as f32 - 4.0 * in_next as f32;
    let at_ceiling = ceiling.frames_left > 0 && (peak - ceiling.level).abs() <= 2.0 * shell;
    if ceiling.frames_left > 0 && peak > ceiling.level + 2.0 * shell {
        ceiling.frames_left = 0; // it was exceeded: no ceiling
    }
    if excess >= 3.0 {
        *ceiling = Ceiling {
            level: peak,
            frames_left: MEMORY,
        };
        // 3 samples of 10 ms are just audible as damage, a tenth of the frame is bad.
        let share = excess / samples.len() as f32;
        return 0.6 + 0.4 * (share * 10.0).min(1.0);
    }
    if at_ceiling {
        ceiling.frames_left = MEMORY;
        return 0.55;
    }
    0.0
}

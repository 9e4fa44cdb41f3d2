//! Inpainting on a flow whose answer is known: Gaussian frames with the likeness of an AR(1) process.

use uncook::regeneration::jasco::{
    JascoError, Settings,
    inpaint::{Gauss, Hole, Sampler, inpaint, mask},
    solver::Velocity,
};

const FRAMES: usize = 100;
const HOLE: std::ops::Range<usize> = 30..70;
/// Likeness of neighbours: the exact posterior's jump at a border is then 0.377, as in the comparison that the
/// sampler was chosen by.
const LIKENESS: f64 = 0.93;
/// The frames beside the hole: the posterior's mean is then 0.68 rms inside it.
const EDGE: f64 = 1.29;

/// Data with covariance `a^|i-j|`: the velocity E[x1 - x0 | z] of the straight path is linear in z.
struct Flow {
    width: usize,
    /// The velocity's matrix at the last time asked for.
    at: f32,
    matrix: Vec<f64>,
    evaluations: usize,
}

fn covariance(i: usize, j: usize) -> f64 {
    LIKENESS.powi(i.abs_diff(j) as i32)
}

/// The inverse of a symmetric positive definite matrix, by Cholesky.
fn inverse(a: &[f64], n: usize) -> Vec<f64> {
    let mut l = vec![0.0; n * n];
    for i in 0..n {
        for j in 0..=i {
            let dot: f64 = (0..j).map(|k| l[i * n + k] * l[j * n + k]).sum();
            l[i * n + j] = if i == j {
                (a[i * n + i] - dot).sqrt()
            } else {
                (a[i * n + j] - dot) / l[j * n + j]
            };
        }
    }
    let mut out = vec![0.0; n * n];
    for column in 0..n {
        let mut x = vec![0.0; n];
        for i in 0..n {
            let unit = f64::from(u8::from(i == column));
            let dot: f64 = (0..i).map(|k| l[i * n + k] * x[k]).sum();
            x[i] = (unit - dot) / l[i * n + i];
        }
        for i in (0..n).rev() {
            let dot: f64 = (i + 1..n).map(|k| l[k * n + i] * x[k]).sum();
            x[i] = (x[i] - dot) / l[i * n + i];
        }
        for (i, x) in x.iter().enumerate() {
            out[i * n + column] = *x;
        }
    }
    out
}

fn product(a: &[f64], b: &[f64], n: usize) -> Vec<f64> {
    let mut out = vec![0.0; n * n];
    for i in 0..n {
        for k in 0..n {
            for j in 0..n {
                out[i * n + j] += a[i * n + k] * b[k * n + j];
            }
        }
    }
    out
}

impl Velocity for Flow {
    fn velocity(&mut self, t: f32, z: &[f32], out: &mut [f32]) -> Result<(), JascoError> {
        self.evaluations += 1;
        if t != self.at {
            self.at = t;
            let t = f64::from(t);
            let each = |f: &dyn Fn(f64, f64) -> f64| -> Vec<f64> {
                (0..FRAMES * FRAMES)
                    .map(|i| {
                        let (i, j) = (i / FRAMES, i % FRAMES);
                        f(covariance(i, j), f64::from(u8::from(i == j)))
                    })
                    .collect()
            };
            let state = each(&|s, one| t * t * s + (1.0 - t).powi(2) * one);
            let ends = each(&|s, one| t * s - (1.0 - t) * one);
            self.matrix = product(&ends, &inverse(&state, FRAMES), FRAMES);
        }
        out.fill(0.0);
        for (row, out) in self
            .matrix
            .chunks_exact(FRAMES)
            .zip(out.chunks_exact_mut(self.width))
        {
            for (m, z) in row.iter().zip(z.chunks_exact(self.width)) {
                for (o, z) in out.iter_mut().zip(z) {
                    *o += *m as f32 * z;
                }
            }
        }
        Ok(())
    }
}

/// Known frames around the hole, and the mean of what is in it given them: an AR(1) process between two ends only
/// depends on these.
fn known(noise: &mut Gauss, signs: [f64; 2]) -> (Vec<f64>, Vec<f64>) {
    let mut y = vec![0.0; FRAMES];
    let step = (1.0 - LIKENESS * LIKENESS).sqrt();
    y[HOLE.start - 1] = EDGE * signs[0];
    y[HOLE.end] = EDGE * signs[1];
    for i in (0..HOLE.start - 1).rev() {
        y[i] = LIKENESS * y[i + 1] + step * f64::from(noise.draw());
    }
    for i in HOLE.end + 1..FRAMES {
        y[i] = LIKENESS * y[i - 1] + step * f64::from(noise.draw());
    }
    let span = LIKENESS.powi(HOLE.len() as i32 + 1);
    let mean = HOLE
        .map(|i| {
            let left = LIKENESS.powi((i + 1 - HOLE.start) as i32);
            let right = LIKENESS.powi((HOLE.end - i) as i32);
            let scale = 1.0 / (1.0 - span * span);
            scale
                * ((left - span * right) * y[HOLE.start - 1] + (right - span * left) * y[HOLE.end])
        })
        .collect();
    (y, mean)
}

/// Error of the mean over many samples, and the jump over the hole's borders, both rms.
fn measure(sampler: &Sampler) -> (f64, f64, usize) {
    const SAMPLES: usize = 400;
    let mut noise = Gauss::new(7);
    let (mut error, mut jump, mut evaluations) = (0.0, 0.0, 0);
    let cases = [[1.0, 1.0], [1.0, -1.0]];
    for signs in cases {
        let (y, mean) = known(&mut noise, signs);
        let latents: Vec<f32> = y.iter().flat_map(|v| vec![*v as f32; SAMPLES]).collect();
        let mask = mask(FRAMES, HOLE.start, HOLE.end, 0);
        let hole = Hole {
            known: &latents,
            mask: &mask,
        };
        let mut flow = Flow {
            width: SAMPLES,
            at: -1.0,
            matrix: Vec::new(),
            evaluations: 0,
        };
        let z = inpaint(&mut flow, &hole, sampler, &mut noise).expect("never fails");
        evaluations = flow.evaluations;
        let at = |frame: usize| &z[frame * SAMPLES..][..SAMPLES];
        for (frame, mean) in HOLE.zip(&mean) {
            let found = at(frame).iter().map(|v| f64::from(*v)).sum::<f64>() / SAMPLES as f64;
            error += (found - mean).powi(2) / HOLE.len() as f64;
        }
        for (inside, outside) in [(HOLE.start, HOLE.start - 1), (HOLE.end - 1, HOLE.end)] {
            let squares = at(inside)
                .iter()
                .map(|v| (f64::from(*v) - y[outside]).powi(2));
            jump += squares.sum::<f64>() / SAMPLES as f64 / 2.0;
        }
        for frame in (0..FRAMES).filter(|f| !HOLE.contains(f)) {
            assert!(
                at(frame).iter().all(|v| *v == y[frame] as f32),
                "known frame {frame}"
            );
        }
    }
    let cases = cases.len() as f64;
    ((error / cases).sqrt(), (jump / cases).sqrt(), evaluations)
}

#[test]
fn fifty_evaluations_continue_what_is_known() {
    let sampler = Sampler {
        steps: 50,
        renoise: 0.6,
        travel: 1,
        start: 0.0,
    };
    let (error, jump, evaluations) = measure(&sampler);
    println!("error of the mean {error:.3}, jump {jump:.3}, {evaluations} evaluations");
    assert_eq!(evaluations, 50);
    assert!(error <= 0.32, "error of the mean {error}");
    assert!(jump <= 0.44, "jump {jump}");
}

#[test]
fn the_default_setting_is_within_the_bars_at_two_thirds_of_the_evaluations() {
    for has_melody in [false, true] {
        let (error, jump, evaluations) = measure(&Settings::new(has_melody).sampler);
        println!("error of the mean {error:.3}, jump {jump:.3}, {evaluations} evaluations");
        assert_eq!(evaluations, 32);
        assert!(error <= 0.32, "error of the mean {error}");
        assert!(jump <= 0.44, "jump {jump}");
    }
}

#[test]
fn a_late_start_keeps_what_was_there() {
    // The "damaged" sound is the hole's own content: the later the start, the more of it remains.
    let mut noise = Gauss::new(3);
    let width = 50;
    let step = (1.0 - LIKENESS * LIKENESS).sqrt();
    let mut y = noise.take(FRAMES * width);
    for i in width..y.len() {
        y[i] = LIKENESS as f32 * y[i - width] + step as f32 * y[i];
    }
    let mask = mask(FRAMES, HOLE.start, HOLE.end, 0);
    let mut far = Vec::new();
    for start in [0.0, 0.3, 0.6] {
        let sampler = Sampler {
            steps: 25,
            renoise: 0.5,
            travel: 1,
            start,
        };
        let mut flow = Flow {
            width,
            at: -1.0,
            matrix: Vec::new(),
            evaluations: 0,
        };
        let hole = Hole {
            known: &y,
            mask: &mask,
        };
        let z = inpaint(&mut flow, &hole, &sampler, &mut noise).expect("never fails");
        let inside = HOLE.start * width..HOLE.end * width;
        let pairs = z[inside.clone()].iter().zip(&y[inside]);
        far.push(pairs.map(|(z, y)| f64::from(z - y).powi(2)).sum::<f64>());
    }
    assert!(far[0] > 1.5 * far[1] && far[1] > 1.5 * far[2], "{far:?}");
}

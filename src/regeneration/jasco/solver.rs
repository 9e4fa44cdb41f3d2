// [worker] From noise to latents: solvers of the flow's ordinary differential equation, t from 0 to 1.

use super::JascoError;

/// The velocity field dz/dt.
pub trait Velocity {
    /// Writes the velocity at `z` and time `t` into `out`, both of one length.
    ///
    /// # Errors
    /// [`JascoError::Cancelled`], or what the network's device says.
    fn velocity(&mut self, t: f32, z: &[f32], out: &mut [f32]) -> Result<(), JascoError>;
}

/// How the equation is solved. Costs are in evaluations of the velocity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Solver {
    /// One evaluation a step.
    Euler { steps: usize },
    /// Second order, two evaluations a step.
    Midpoint { steps: usize },
    /// Second order (trapezoid), two evaluations a step.
    Heun { steps: usize },
    /// Fifth order with step control (Dormand and Prince 1980, Shampine's interpolant).
    Dopri5 {
        rtol: f32,
        atol: f32,
        /// Steps past the end and reads the interpolant, as torchdiffeq does, instead of shortening
        /// the last step.
        overshoot: bool,
    },
}

/// Where the adaptive solver ends: the path is not defined at 1 itself.
const LAST_T: f64 = 1.0 - 1e-5;
/// More steps than any sound tolerance asks for.
const MAX_ADAPTIVE_STEPS: usize = 10_000;

impl Solver {
    /// Evaluations that will be made, or None where it depends on the field.
    pub fn evaluations(self) -> Option<usize> {
        match self {
            Self::Euler { steps } => Some(steps),
            Self::Midpoint { steps } | Self::Heun { steps } => Some(2 * steps),
            Self::Dopri5 { .. } => None,
        }
    }

    /// Moves `z` from time 0 to time 1. Returns the number of evaluations.
    ///
    /// # Errors
    /// The field's, and [`JascoError::Diverged`] where step control finds no step.
    pub fn solve(self, field: &mut dyn Velocity, z: &mut Vec<f32>) -> Result<usize, JascoError> {
        match self {
            Self::Euler { steps } => fixed(field, z, steps, |field, z, t, dt, k| {
                field.velocity(t, z, k)?;
                axpy(z, dt, k);
                Ok(1)
            }),
            Self::Midpoint { steps } => fixed(field, z, steps, |field, z, t, dt, k| {
                field.velocity(t, z, k)?;
                let mut half = z.to_vec();
                axpy(&mut half, 0.5 * dt, k);
                field.velocity(t + 0.5 * dt, &half, k)?;
                axpy(z, dt, k);
                Ok(2)
            }),
            Self::Heun { steps } => fixed(field, z, steps, |field, z, t, dt, k| {
                field.velocity(t, z, k)?;
                let mut end = z.to_vec();
                axpy(&mut end, dt, k);
                axpy(z, 0.5 * dt, k);
                field.velocity(t + dt, &end, k)?;
                axpy(z, 0.5 * dt, k);
                Ok(2)
            }),
            Self::Dopri5 {
                rtol,
                atol,
                overshoot,
            } => dopri5(field, z, rtol, atol, overshoot),
        }
    }
}

fn axpy(z: &mut [f32], a: f32, x: &[f32]) {
    for (z, x) in z.iter_mut().zip(x) {
        *z += a * x;
    }
}

/// `steps` equal steps; time is accumulated in f32 as the reference does.
fn fixed(
    field: &mut dyn Velocity,
    z: &mut [f32],
    steps: usize,
    step: impl Fn(&mut dyn Velocity, &mut [f32], f32, f32, &mut [f32]) -> Result<usize, JascoError>,
) -> Result<usize, JascoError> {
    let mut k = vec![0.0; z.len()];
    let dt = 1.0 / steps.max(1) as f32;
    let (mut t, mut evaluations) = (0.0f32, 0);
    for _ in 0..steps.max(1) {
        evaluations += step(field, z, t, dt, &mut k)?;
        t += dt;
    }
    Ok(evaluations)
}

/// Nodes of stages 2 to 7.
const NODES: [f64; 6] = [1.0 / 5.0, 3.0 / 10.0, 4.0 / 5.0, 8.0 / 9.0, 1.0, 1.0];
/// Weights of stages 2 to 7; the last are also those of the fifth-order result.
const STAGES: [&[f64]; 6] = [
    &[1.0 / 5.0],
    &[3.0 / 40.0, 9.0 / 40.0],
    &[44.0 / 45.0, -56.0 / 15.0, 32.0 / 9.0],
    &[
        19372.0 / 6561.0,
        -25360.0 / 2187.0,
        64448.0 / 6561.0,
        -212.0 / 729.0,
    ],
    &[
        9017.0 / 3168.0,
        -355.0 / 33.0,
        46732.0 / 5247.0,
        49.0 / 176.0,
        -5103.0 / 18656.0,
    ],
    &[
        35.0 / 384.0,
        0.0,
        500.0 / 1113.0,
        125.0 / 192.0,
        -2187.0 / 6784.0,
        11.0 / 84.0,
    ],
];
/// Fifth minus fourth order (Shampine's fourth-order weights).
const ERROR: [f64; 7] = [
    35.0 / 384.0 - 1951.0 / 21600.0,
    0.0,
    500.0 / 1113.0 - 22642.0 / 50085.0,
    125.0 / 192.0 - 451.0 / 720.0,
    -2187.0 / 6784.0 + 12231.0 / 42400.0,
    11.0 / 84.0 - 649.0 / 6300.0,
    -1.0 / 60.0,
];
/// The middle of a step, for the interpolant.
const MIDDLE: [f64; 7] = [
    6025192743.0 / 30085553152.0 / 2.0,
    0.0,
    51252292925.0 / 65400821598.0 / 2.0,
    -2691868925.0 / 45128329728.0 / 2.0,
    187940372067.0 / 1594534317056.0 / 2.0,
    -1776094331.0 / 19743644256.0 / 2.0,
    11237099.0 / 235043384.0 / 2.0,
];

/// `y + dt · Σ weights · k`, coefficients in f32 and multiplied by the step first.
fn combine(y: &[f32], k: &[Vec<f32>], weights: &[f64], dt: f32) -> Vec<f32> {
    let scaled: Vec<f32> = weights.iter().map(|&w| w as f32 * dt).collect();
    (0..y.len())
        .map(|i| {
            let sum: f32 = scaled.iter().zip(k).map(|(w, k)| w * k[i]).sum();
            y[i] + sum
        })
        .collect()
}

fn rms(values: impl Iterator<Item = f32>) -> f32 {
    let (mut sum, mut n) = (0.0f64, 0usize);
    for v in values {
        sum += f64::from(v) * f64::from(v);
        n += 1;
    }
    (sum / n.max(1) as f64).sqrt() as f32
}

/// Hairer, Nørsett and Wanner, Solving ODEs I, II.4; one extra evaluation.
fn first_step(
    field: &mut dyn Velocity,
    y: &[f32],
    f: &[f32],
    rtol: f32,
    atol: f32,
) -> Result<f64, JascoError> {
    let scale: Vec<f32> = y.iter().map(|y| atol + y.abs() * rtol).collect();
    let d0 = rms(y.iter().zip(&scale).map(|(y, s)| y / s));
    let d1 = rms(f.iter().zip(&scale).map(|(f, s)| f / s));
    let h0 = if d0 < 1e-5 || d1 < 1e-5 {
        1e-6
    } else {
        0.01 * d0 / d1
    };
    let mut y1 = y.to_vec();
    axpy(&mut y1, h0, f);
    let mut f1 = vec![0.0; y.len()];
    field.velocity(h0, &y1, &mut f1)?;
    let d2 = rms(f1.iter().zip(f).zip(&scale).map(|((a, b), s)| (a - b) / s)) / h0;
    let h1 = if d1 <= 1e-15 && d2 <= 1e-15 {
        (h0 * 1e-3).max(1e-6)
    } else {
        (0.01 / d1.max(d2)).powf(1.0 / 5.0)
    };
    Ok(f64::from((100.0 * h0).min(h1)))
}

fn dopri5(
    field: &mut dyn Velocity,
    z: &mut Vec<f32>,
    rtol: f32,
    atol: f32,
    overshoot: bool,
) -> Result<usize, JascoError> {
    let n = z.len();
    let mut k = vec![vec![0.0f32; n]; 7];
    field.velocity(0.0, z, &mut k[0])?;
    let mut dt = first_step(field, z, &k[0].clone(), rtol, atol)?;
    let mut evaluations = 2;
    let mut t = 0.0f64;
    for _ in 0..MAX_ADAPTIVE_STEPS {
        if !overshoot && t + dt > LAST_T {
            dt = LAST_T - t;
        }
        let end = t + dt;
        let (t32, dt32, end32) = (t as f32, dt as f32, end as f32);
        let mut next = Vec::new();
        for (stage, (node, weights)) in NODES.iter().zip(STAGES).enumerate() {
            let at = if *node == 1.0 {
                end32.next_down()
            } else {
                t32 + *node as f32 * dt32
            };
            next = combine(z, &k, weights, dt32);
            field.velocity(at, &next, &mut k[stage + 1])?;
            evaluations += 1;
        }
        let error = combine(&vec![0.0; n], &k, &ERROR, dt32);
        let ratio = rms((0..n).map(|i| error[i] / (atol + rtol * z[i].abs().max(next[i].abs()))));
        if !ratio.is_finite() {
            return Err(JascoError::Diverged { t: t32 });
        }
        let accepted = ratio <= 1.0;
        if accepted && end >= LAST_T {
            if overshoot {
                let middle = combine(z, &k, &MIDDLE, dt32);
                let x = ((LAST_T - t) / (end - t)) as f32;
                interpolate(z, &next, &middle, &k[0], &k[6], dt32, x);
            } else {
                *z = next;
            }
            return Ok(evaluations);
        }
        if accepted {
            *z = next;
            k.swap(0, 6);
            t = end;
        }
        let factor = if ratio == 0.0 {
            10.0
        } else {
            let least = if ratio < 1.0 { 1.0 } else { 0.2 };
            (0.9 / f64::from(ratio).powf(0.2)).clamp(least, 10.0)
        };
        dt *= factor;
        if t + dt <= t {
            return Err(JascoError::Diverged { t: t32 });
        }
    }
    Err(JascoError::Diverged { t: t as f32 })
}

/// The quartic through both ends, their slopes and the middle, at `x` in 0..=1; the result replaces `y0`.
fn interpolate(
    y0: &mut [f32],
    y1: &[f32],
    middle: &[f32],
    f0: &[f32],
    f1: &[f32],
    dt: f32,
    x: f32,
) {
    for (i, y) in y0.iter_mut().enumerate() {
        let (p, q, m, u, v) = (*y, y1[i], middle[i], f0[i], f1[i]);
        let a = 2.0 * dt * (v - u) - 8.0 * (q + p) + 16.0 * m;
        let b = dt * (5.0 * u - 3.0 * v) + 18.0 * p + 14.0 * q - 32.0 * m;
        let c = dt * (v - 4.0 * u) - 11.0 * p - 5.0 * q + 16.0 * m;
        let d = dt * u;
        *y = p + x * (d + x * (c + x * (b + x * a)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// dz/dt = −3 z + sin 5t, whose solution is known.
    struct Forced;

    impl Velocity for Forced {
        fn velocity(&mut self, t: f32, z: &[f32], out: &mut [f32]) -> Result<(), JascoError> {
            for (o, z) in out.iter_mut().zip(z) {
                *o = -3.0 * z + (5.0 * t).sin();
            }
            Ok(())
        }
    }

    fn truth(z0: f64, t: f64) -> f64 {
        let particular = |t: f64| (3.0 * (5.0 * t).sin() - 5.0 * (5.0 * t).cos()) / 34.0;
        particular(t) + (z0 - particular(0.0)) * (-3.0 * t).exp()
    }

    fn error(solver: Solver) -> f64 {
        let mut z = vec![1.0, -0.5];
        solver
            .solve(&mut Forced, &mut z)
            .expect("the field never fails");
        let d = |z: f32, z0| (f64::from(z) - truth(z0, 1.0)).abs();
        d(z[0], 1.0).max(d(z[1], -0.5))
    }

    #[test]
    fn halving_the_step_gains_what_the_order_says() {
        for (name, order, make) in [
            (
                "Euler",
                1.0,
                (|steps| Solver::Euler { steps }) as fn(usize) -> Solver,
            ),
            ("midpoint", 2.0, |steps| Solver::Midpoint { steps }),
            ("Heun", 2.0, |steps| Solver::Heun { steps }),
        ] {
            let gained = (error(make(20)) / error(make(40))).log2();
            assert!((gained - order).abs() < 0.2, "{name}: order {gained}");
        }
    }

    #[test]
    fn adaptive_solver_meets_its_tolerance_with_and_without_overshooting() {
        for overshoot in [false, true] {
            let (rtol, atol) = (1e-5, 1e-5);
            let solver = Solver::Dopri5 {
                rtol,
                atol,
                overshoot,
            };
            assert!(
                error(solver) < 1e-4,
                "overshoot {overshoot}: {}",
                error(solver)
            );
        }
    }

    #[test]
    fn a_field_that_explodes_is_an_error() {
        struct Bad;
        impl Velocity for Bad {
            fn velocity(&mut self, t: f32, _: &[f32], out: &mut [f32]) -> Result<(), JascoError> {
                out.fill(if t > 0.3 { f32::NAN } else { 1.0 });
                Ok(())
            }
        }
        let solver = Solver::Dopri5 {
            rtol: 1e-5,
            atol: 1e-5,
            overshoot: false,
        };
        let result = solver.solve(&mut Bad, &mut vec![0.0; 4]);
        assert!(matches!(result, Err(JascoError::Diverged { .. })));
    }
}

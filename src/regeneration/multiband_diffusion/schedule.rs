// [worker] The diffusion schedule: noise levels, the steps that are taken, one step back.

use super::MbdError;

/// The training schedule of a band and how it is sampled.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduleConfig {
    /// Steps of the training schedule.
    pub steps: usize,
    /// β of the first and the last step, and the exponent between them.
    pub beta_first: f64,
    pub beta_last: f64,
    pub exponent: f64,
    /// Samples are clamped to ± this after each step; 0 = not.
    pub clip: f32,
    /// Multiplies the result.
    pub rescale: f32,
    /// Multiplies the noise and what the network estimates of it.
    pub noise_scale: f32,
}

/// Training steps from one sampled step to the next.
const STRIDE: usize = 50;

impl ScheduleConfig {
    pub(super) fn check(&self) -> Result<(), MbdError> {
        let good = (STRIDE..=100_000).contains(&self.steps)
            && self.beta_first > 0.0
            && self.beta_first < self.beta_last
            && self.beta_last < 1.0
            && self.exponent > 0.0
            && self.exponent.is_finite()
            && [self.clip, self.rescale, self.noise_scale]
                .iter()
                .all(|x| x.is_finite() && *x >= 0.0);
        if good {
            Ok(())
        } else {
            Err(MbdError::Config(format!(
                "its schedule makes no sense: {self:?}"
            )))
        }
    }
}

/// A schedule ready to sample from.
pub struct Schedule {
    config: ScheduleConfig,
    alpha_bar: Vec<f32>,
    sampled: Vec<usize>,
}

impl Schedule {
    /// β_i = linspace(β₀^(1/e), β₁^(1/e), steps)^e, ᾱ = Π (1 − β), both rounded to f32 where the reference does.
    pub fn new(config: ScheduleConfig) -> Self {
        let n = config.steps;
        let root = |x: f64| x.powf(1.0 / config.exponent) as f32;
        let (first, last) = (root(config.beta_first), root(config.beta_last));
        let step = (last - first) / (n - 1) as f32;
        let mut product = 1.0f64;
        let alpha_bar = (0..n)
            .map(|i| {
                // From the nearer end, as `torch.linspace`.
                let x = if i < n / 2 {
                    first + step * i as f32
                } else {
                    last - step * (n - 1 - i) as f32
                };
                let beta = f64::from(x).powf(config.exponent) as f32;
                product *= f64::from(1.0 - beta);
                product as f32
            })
            .collect();
        let mut sampled: Vec<usize> = (0..n).rev().step_by(STRIDE).collect();
        if sampled.last() != Some(&0) {
            sampled.push(0);
        }
        Self {
            config,
            alpha_bar,
            sampled,
        }
    }

    /// The steps between which samples go, first the noisiest.
    pub fn sampled(&self) -> &[usize] {
        &self.sampled
    }

    /// ᾱ of a training step: the share of the signal in the variance.
    pub fn alpha_bar(&self, step: usize) -> f32 {
        self.alpha_bar[step]
    }

    /// Network evaluations of a run.
    pub fn evaluations(&self) -> usize {
        self.sampled.len() - 1
    }

    /// Whether evaluation `i` adds noise: all but the last do.
    pub fn is_noisy(&self, i: usize) -> bool {
        i + 1 < self.evaluations()
    }

    /// Goes from step `sampled[i]` to the next in place (Ho et al. 2020, eq. 11, over 50 steps at once). `noise` is
    /// not read where [`Schedule::is_noisy`] says no.
    pub fn step(&self, i: usize, x: &mut [f32], estimate: &[f32], noise: &[f32]) {
        let now = self.alpha_bar[self.sampled[i]];
        let next = self.alpha_bar[self.sampled[i + 1]];
        let alpha = now / next;
        let scale = self.config.noise_scale;
        let take = (1.0 - alpha) / (1.0 - now).sqrt() * scale;
        let divide = alpha.sqrt();
        let sigma = if self.is_noisy(i) {
            ((1.0 - next) / (1.0 - now) * (1.0 - alpha)).sqrt() * scale
        } else {
            0.0
        };
        for (n, (x, e)) in x.iter_mut().zip(estimate).enumerate() {
            let mut y = (*x - take * e) / divide;
            if sigma > 0.0 {
                y += sigma * noise[n];
            }
            if self.config.clip > 0.0 {
                y = y.clamp(-self.config.clip, self.config.clip);
            }
            *x = y;
        }
        if !self.is_noisy(i) && self.config.rescale != 1.0 {
            x.iter_mut().for_each(|x| *x *= self.config.rescale);
        }
    }
}

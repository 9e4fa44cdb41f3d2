// [worker] JASCO's flow transformer: the velocity of latents under text, chords, drums and melody.

pub mod cpu;
pub mod device;
mod embed;

use super::{JascoError, solver::Velocity};
use crate::worker::progress::Progress;

/// The conditions of one term of the guidance.
#[derive(Clone, Debug)]
pub struct Row {
    /// Whether this term hears the text; otherwise all text positions are zero.
    pub text: bool,
    /// `[frames][local_dim]`: chords, drums, melody, each as wide as the model's.
    pub local: Vec<f32>,
}

/// Everything that stays the same during one generation.
#[derive(Clone, Debug)]
pub struct Rows {
    /// Terms that hear the text stand first.
    pub rows: Vec<Row>,
    /// Weight of each term's velocity.
    pub weights: Vec<f32>,
    /// Text `[positions][dim]`; empty if no term hears any.
    pub text: Vec<f32>,
    pub frames: usize,
}

impl Rows {
    /// Terms that hear the text.
    pub fn heard(&self) -> usize {
        self.rows.iter().take_while(|r| r.text).count()
    }
}

/// Watches the network's insides, for tests: a name of the reference's and values, rows first.
pub type Trace<'a> = &'a mut dyn FnMut(&str, &[f32]);

/// The network on one kind of device, with one generation's conditions.
pub trait Session {
    /// The velocity of every term at `z`, `[frames][flow_dim]`, into `out[term]` of the same shape.
    ///
    /// # Errors
    /// What the device says.
    fn terms(
        &mut self,
        t: f32,
        z: &[f32],
        out: &mut [Vec<f32>],
        trace: Option<Trace<'_>>,
    ) -> Result<(), JascoError>;
}

/// The guided velocity: the weighted sum of the terms (multi-source classifier-free guidance).
pub struct Guided<'a> {
    session: Box<dyn Session + 'a>,
    weights: Vec<f32>,
    terms: Vec<Vec<f32>>,
    progress: &'a Progress,
    /// Evaluations made and expected, for the progress.
    done: usize,
    expected: usize,
}

impl<'a> Guided<'a> {
    /// `expected`: evaluations that will be made, for the progress; a guess where nobody knows.
    pub fn new(
        session: Box<dyn Session + 'a>,
        rows: &Rows,
        flow_dim: usize,
        progress: &'a Progress,
        expected: usize,
    ) -> Self {
        Self {
            session,
            weights: rows.weights.clone(),
            terms: vec![vec![0.0; rows.frames * flow_dim]; rows.rows.len()],
            progress,
            done: 0,
            expected: expected.max(1),
        }
    }

    /// Evaluations made so far.
    pub fn evaluations(&self) -> usize {
        self.done
    }
}

impl Velocity for Guided<'_> {
    fn velocity(&mut self, t: f32, z: &[f32], out: &mut [f32]) -> Result<(), JascoError> {
        if self.progress.is_cancelled() {
            return Err(JascoError::Cancelled);
        }
        self.session.terms(t, z, &mut self.terms, None)?;
        out.fill(0.0);
        for (term, weight) in self.terms.iter().zip(&self.weights) {
            for (o, v) in out.iter_mut().zip(term) {
                *o += weight * v;
            }
        }
        if !out.iter().all(|v| v.is_finite()) {
            return Err(JascoError::Diverged { t });
        }
        self.done += 1;
        self.progress
            .report(self.done as f64 / self.expected.max(self.done) as f64);
        Ok(())
    }
}

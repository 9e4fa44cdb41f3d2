// [worker] Where a network's numbers come from, and how they become packed layers.

use super::ModelError;
use crate::dense::gemm::Packed;

/// A set of named tensors.
pub trait Weights {
    /// Tensor `name` as float32 in row-major order.
    ///
    /// # Errors
    /// If it is missing or its shape is not `shape`.
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError>;
}

/// Tensors below a name, as `root.name`.
#[derive(Clone)]
pub struct Scope<'a> {
    weights: &'a dyn Weights,
    prefix: String,
}

impl<'a> Scope<'a> {
    pub fn root(weights: &'a dyn Weights) -> Self {
        Self {
            weights,
            prefix: String::new(),
        }
    }

    /// The tensors below `name`.
    pub fn at(&self, name: &str) -> Self {
        Self {
            weights: self.weights,
            prefix: format!("{}{name}.", self.prefix),
        }
    }

    /// Tensor `name`; see [`Weights::tensor`].
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        let name = format!("{}{name}", self.prefix);
        let values = self.weights.tensor(&name, shape)?;
        if values.iter().all(|x| x.is_finite()) {
            Ok(values)
        } else {
            Err(ModelError::NotFinite { name })
        }
    }

    /// A linear layer `[outputs, inputs]`, or a convolution of one tap with `ones` trailing axes of 1.
    pub fn linear(&self, inputs: usize, outputs: usize, ones: usize) -> Result<Packed, ModelError> {
        let mut shape = vec![outputs, inputs];
        shape.resize(2 + ones, 1);
        let weight = self.get("weight", &shape)?;
        let bias = self.get("bias", &[outputs])?;
        Ok(Packed::new(inputs, outputs, &bias, |k, j| {
            weight[j * inputs + k]
        }))
    }

    /// A convolution `[outputs, inputs, taps]` for a left side whose depth is taps outside, channels inside.
    /// `shape` is that of the file, the product of its last axes being the taps.
    pub fn convolution(
        &self,
        inputs: usize,
        outputs: usize,
        taps: &[usize],
    ) -> Result<Packed, ModelError> {
        let count: usize = taps.iter().product();
        let shape: Vec<usize> = [outputs, inputs].iter().chain(taps).copied().collect();
        let weight = self.get("weight", &shape)?;
        let bias = self.get("bias", &[outputs])?;
        Ok(Packed::new(inputs * count, outputs, &bias, |k, j| {
            weight[(j * inputs + k % inputs) * count + k / inputs]
        }))
    }

    /// A transposed convolution `[inputs, outputs, 2 · stride]` as a product: two neighbouring inputs, the
    /// earlier first, give `stride` neighbouring outputs, `[stride][outputs]`.
    pub fn transposed(
        &self,
        inputs: usize,
        outputs: usize,
        stride: usize,
        ones: usize,
    ) -> Result<Packed, ModelError> {
        let mut shape = vec![inputs, outputs, 2 * stride];
        shape.resize(3 + ones, 1);
        let weight = self.get("weight", &shape)?;
        let bias = self.get("bias", &[outputs])?;
        let tiled: Vec<f32> = bias
            .iter()
            .cycle()
            .take(stride * outputs)
            .copied()
            .collect();
        Ok(Packed::new(2 * inputs, stride * outputs, &tiled, |k, j| {
            let (input, earlier) = (k % inputs, k < inputs);
            let (output, phase) = (j % outputs, j / outputs);
            let tap = if earlier { phase + stride } else { phase };
            weight[(input * outputs + output) * 2 * stride + tap]
        }))
    }
}

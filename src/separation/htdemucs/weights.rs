// [worker] How a network's tensors become packed layers.

use std::cell::OnceCell;

use super::ModelError;
use crate::{
    dense::{
        gemm::Packed,
        strassen::{self, Linear, Strassen},
    },
    models::tensors::{self, Tensors},
};

/// Tensors below a name, as `root.name`.
#[derive(Clone)]
pub struct Scope<'a> {
    weights: &'a dyn Tensors,
    prefix: String,
}

impl<'a> Scope<'a> {
    pub fn root(weights: &'a dyn Tensors) -> Self {
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

    /// Tensor `name`, of this shape and finite.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        let name = format!("{}{name}", self.prefix);
        match self.weights.shape(&name) {
            None => return Err(ModelError::Missing { name }),
            Some(actual) if actual != shape => {
                return Err(ModelError::Shape {
                    name,
                    actual,
                    expected: shape.to_vec(),
                });
            }
            Some(_) => {}
        }
        let values = self.weights.tensor_f32(&name, shape);
        let values = values.map_err(ModelError::File)?;
        if values.iter().all(|x| x.is_finite()) {
            Ok(values)
        } else {
            Err(ModelError::NotFinite { name })
        }
    }

    /// The layer that an earlier opening kept under `name`, else what `make` makes of the tensors below this name, kept
    /// for the next opening. Tensors that `make` reads are not kept themselves.
    pub fn packed(
        &self,
        name: &str,
        depth: usize,
        columns: usize,
        make: impl FnOnce(&Self) -> Result<Packed, ModelError>,
    ) -> Result<Packed, ModelError> {
        let name = format!("{}{name}", self.prefix);
        if let Some(kept) = tensors::kept(self.weights, &name, depth, columns) {
            return Ok(kept);
        }
        let made = make(&self.unkept())?;
        tensors::keep(self.weights, &name, &made);
        Ok(made)
    }

    /// Tensor `name`, of this shape, when a layer asks that wasn't kept.
    pub fn once<'b>(&self, name: &'b str, shape: &'b [usize]) -> Once<'a, 'b> {
        Once {
            scope: self.unkept(),
            name,
            shape,
            values: OnceCell::new(),
        }
    }

    /// The tensors as the file has them.
    fn unkept(&self) -> Self {
        Self {
            weights: self.weights.raw().unwrap_or(self.weights),
            prefix: self.prefix.clone(),
        }
    }

    /// A linear layer by blocks where that is faster, kept as `name`. `part` is what it is made of.
    pub fn blocks<'b>(
        &self,
        name: &str,
        depth: usize,
        columns: usize,
        part: impl Fn() -> Result<Part<'b>, ModelError>,
    ) -> Result<Linear, ModelError> {
        if !strassen::fits(depth, columns) {
            let whole = self.packed(name, depth, columns, |_| {
                let part = part()?;
                Ok(Packed::new(depth, columns, part.bias, |k, j| {
                    part.weight(k, j)
                }))
            })?;
            return Ok(Linear::Whole(whole));
        }
        let (half_depth, half) = strassen::part_size(depth, columns);
        let product = |i: usize| {
            self.packed(&format!("{name}.product{i}"), half_depth, half, |_| {
                let part = part()?;
                Ok(strassen::part(i, depth, columns, part.bias, |k, j| {
                    part.weight(k, j)
                }))
            })
        };
        Ok(Linear::Blocks(Box::new(Strassen::new([
            product(0)?,
            product(1)?,
            product(2)?,
            product(3)?,
            product(4)?,
            product(5)?,
            product(6)?,
        ]))))
    }

    /// A linear layer `[outputs, inputs]`, or a convolution of one tap with `ones` trailing axes of 1.
    pub fn linear(&self, inputs: usize, outputs: usize, ones: usize) -> Result<Packed, ModelError> {
        self.packed("linear", inputs, outputs, |raw| {
            let mut shape = vec![outputs, inputs];
            shape.resize(2 + ones, 1);
            let weight = raw.get("weight", &shape)?;
            let bias = raw.get("bias", &[outputs])?;
            Ok(Packed::new(inputs, outputs, &bias, |k, j| {
                weight[j * inputs + k]
            }))
        })
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
        self.packed("convolution", inputs * count, outputs, |raw| {
            let shape: Vec<usize> = [outputs, inputs].iter().chain(taps).copied().collect();
            let weight = raw.get("weight", &shape)?;
            let bias = raw.get("bias", &[outputs])?;
            Ok(Packed::new(inputs * count, outputs, &bias, |k, j| {
                weight[(j * inputs + k % inputs) * count + k / inputs]
            }))
        })
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
        self.packed("transposed", 2 * inputs, stride * outputs, |raw| {
            let mut shape = vec![inputs, outputs, 2 * stride];
            shape.resize(3 + ones, 1);
            let weight = raw.get("weight", &shape)?;
            let tiled = raw.get("bias", &[outputs])?.repeat(stride);
            Ok(Packed::new(2 * inputs, stride * outputs, &tiled, |k, j| {
                let (input, earlier) = (k % inputs, k < inputs);
                let (output, phase) = (j % outputs, j / outputs);
                let tap = if earlier { phase + stride } else { phase };
                weight[(input * outputs + output) * 2 * stride + tap]
            }))
        })
    }
}

/// A tensor that is read at most once.
pub struct Once<'a, 'b> {
    scope: Scope<'a>,
    name: &'b str,
    shape: &'b [usize],
    values: OnceCell<Vec<f32>>,
}

impl Once<'_, '_> {
    /// See [`Scope::get`].
    pub fn get(&self) -> Result<&[f32], ModelError> {
        if self.values.get().is_none() {
            let values = self.scope.get(self.name, self.shape)?;
            // Nobody else can have set it meanwhile: it isn't shared between threads.
            let _ = self.values.set(values);
        }
        Ok(self.values.get().map_or(&[], Vec::as_slice))
    }
}

/// A part of a linear layer's weight `[outputs, inputs]`, and its bias.
pub struct Part<'a> {
    /// The whole weight, and how many inputs it has.
    pub weight: &'a [f32],
    pub inputs: usize,
    /// First output and first input of the part.
    pub first: (usize, usize),
    /// Of the part's outputs, or none.
    pub bias: &'a [f32],
}

impl Part<'_> {
    fn weight(&self, input: usize, output: usize) -> f32 {
        let (first_output, first_input) = self.first;
        self.weight[(first_output + output) * self.inputs + first_input + input]
    }
}

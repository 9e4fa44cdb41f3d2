// [worker] Where a codec's tensors come from: names in both spellings, weight norm folded, every fault named.

use super::EncodecError;
use crate::{
    dense::gemm::Packed,
    models::tensors::{self, Tensors},
};

/// How an EnCodec's tensors are called.
#[derive(Clone, Debug)]
pub(super) struct Naming {
    prefix: String,
    /// AudioCraft's own names, not Hugging Face's.
    native: bool,
}

/// Where a weight-normed convolution keeps magnitude and direction; last, a plain weight.
const WEIGHT_NORM: [(&str, &str); 2] = [
    ("weight_g", "weight_v"),
    (
        "parametrizations.weight.original0",
        "parametrizations.weight.original1",
    ),
];

impl Naming {
    /// The naming under `prefix` (with its dot, or empty), if there is an EnCodec.
    pub fn find(weights: &dyn Tensors, prefix: &str) -> Option<Self> {
        [false, true].into_iter().find_map(|native| {
            let naming = Self {
                prefix: prefix.to_owned(),
                native,
            };
            naming
                .conv_shape(weights, &naming.conv("encoder", 0))
                .map(|_| naming)
        })
    }

    pub fn conv(&self, half: &str, layer: usize) -> String {
        let p = &self.prefix;
        if self.native {
            format!("{p}{half}.model.{layer}.conv.conv")
        } else {
            format!("{p}{half}.layers.{layer}.conv")
        }
    }

    pub fn transposed(&self, layer: usize) -> String {
        let p = &self.prefix;
        if self.native {
            format!("{p}decoder.model.{layer}.convtr.convtr")
        } else {
            format!("{p}decoder.layers.{layer}.conv")
        }
    }

    pub fn block(&self, half: &str, layer: usize, part: usize) -> String {
        let p = &self.prefix;
        if self.native {
            format!("{p}{half}.model.{layer}.block.{part}.conv.conv")
        } else {
            format!("{p}{half}.layers.{layer}.block.{part}.conv")
        }
    }

    pub fn lstm(&self, half: &str, layer: usize, what: &str, l: usize) -> String {
        let p = &self.prefix;
        let list = if self.native { "model" } else { "layers" };
        format!("{p}{half}.{list}.{layer}.lstm.{what}_l{l}")
    }

    pub fn codebook(&self, q: usize) -> String {
        let p = &self.prefix;
        if self.native {
            format!("{p}quantizer.vq.layers.{q}._codebook.embed")
        } else {
            format!("{p}quantizer.layers.{q}.codebook.embed")
        }
    }

    /// The shape of a convolution's weight, in any spelling.
    pub fn conv_shape(&self, weights: &dyn Tensors, name: &str) -> Option<[usize; 3]> {
        WEIGHT_NORM
            .iter()
            .map(|(_, v)| *v)
            .chain(["weight"])
            .find_map(|v| weights.shape(&format!("{name}.{v}")))
            .and_then(|s| s.try_into().ok())
    }
}

/// Reads tensors and collects what is wrong, so that one error names everything.
pub(crate) struct Loader<'a> {
    weights: &'a dyn Tensors,
    missing: Vec<String>,
    faulty: Vec<String>,
    /// Look at names and shapes, read nothing.
    checks: bool,
}

impl<'a> Loader<'a> {
    pub fn new(weights: &'a dyn Tensors) -> Self {
        Self {
            weights,
            missing: Vec::new(),
            faulty: Vec::new(),
            checks: false,
        }
    }

    /// Whether tensors are only looked for, not read: they come back empty.
    pub fn only_check(&mut self, checks: bool) {
        self.checks = checks;
    }

    /// A layer that was packed at an earlier opening, whose tensors need not be read.
    pub fn kept(&self, name: &str, depth: usize, columns: usize) -> Option<Packed> {
        if self.checks {
            return None;
        }
        tensors::kept(self.weights, name, depth, columns)
    }

    /// A tensor of the shape; nothing, noted as a fault, if it is not there.
    pub fn tensor(&mut self, name: &str, shape: &[usize]) -> Vec<f32> {
        self.read(self.weights, name, shape)
    }

    /// The same for a tensor that only becomes part of a layer that is kept packed.
    pub fn part(&mut self, name: &str, shape: &[usize]) -> Vec<f32> {
        self.read(self.weights.raw().unwrap_or(self.weights), name, shape)
    }

    fn read(&mut self, from: &dyn Tensors, name: &str, shape: &[usize]) -> Vec<f32> {
        let Some(actual) = self.weights.shape(name) else {
            self.missing.push(name.to_owned());
            return Vec::new();
        };
        if actual != shape {
            self.faulty
                .push(format!("{name} (shape {actual:?}, expected {shape:?})"));
            return Vec::new();
        }
        if self.checks {
            return Vec::new();
        }
        let values = from.tensor_f32(name, shape).unwrap_or_else(|e| {
            self.faulty.push(format!("{name} ({e})"));
            Vec::new()
        });
        if values.iter().any(|v| !v.is_finite()) {
            self.faulty
                .push(format!("{name} (holds values that are not numbers)"));
        }
        values
    }

    /// The folded weight `[dim 0][dim 1][kernel]` of a convolution: `g·v/‖v‖` for each index of dimension 0 (the
    /// output channel of a convolution, the input channel of a transposed one), or a plain weight.
    pub fn conv(&mut self, name: &str, shape: [usize; 3]) -> Vec<f32> {
        for (g, v) in WEIGHT_NORM {
            let (g, v) = (format!("{name}.{g}"), format!("{name}.{v}"));
            if self.weights.shape(&v).is_none() {
                continue;
            }
            let mut weight = self.part(&v, &shape);
            let magnitude = self.part(&g, &[shape[0], 1, 1]);
            let row = (shape[1] * shape[2]).max(1);
            for (w, g) in weight.chunks_exact_mut(row).zip(&magnitude) {
                let norm = w
                    .iter()
                    .map(|&x| f64::from(x) * f64::from(x))
                    .sum::<f64>()
                    .sqrt();
                // A direction of length 0 has no meaning: it stays 0 rather than becoming NaN.
                let scale = if norm > 0.0 {
                    f64::from(*g) / norm
                } else {
                    0.0
                };
                for x in w {
                    *x = (f64::from(*x) * scale) as f32;
                }
            }
            return weight;
        }
        let plain = format!("{name}.weight");
        if self.weights.shape(&plain).is_some() {
            return self.part(&plain, &shape);
        }
        self.missing
            .push(format!("{name}.weight_g and {name}.weight_v"));
        Vec::new()
    }

    /// Whether nothing was wrong so far: only then may what was read be used.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.faulty.is_empty()
    }

    /// # Errors
    /// Everything that was missing or faulty.
    pub fn finish(self) -> Result<(), EncodecError> {
        if self.is_complete() {
            return Ok(());
        }
        Err(EncodecError::Tensors {
            missing: self.missing,
            faulty: self.faulty,
        })
    }
}

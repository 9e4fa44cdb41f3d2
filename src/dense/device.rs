// [worker] What networks on candle's devices share: choosing one, saying why it failed, a transposed convolution.

use candle_core::{Device, Result, Tensor};

/// The graphics processor that this build can use, else the processor.
pub fn best_device() -> Device {
    let try_device = || -> Result<Device> {
        if cfg!(feature = "cuda") {
            return Device::new_cuda(0);
        }
        if cfg!(feature = "metal") {
            return Device::new_metal(0);
        }
        Ok(Device::Cpu)
    };
    try_device().unwrap_or(Device::Cpu)
}

/// What the user reads when a device fails, after candle's own words.
pub fn notice(device: &Device, error: &candle_core::Error) -> String {
    failed(device, &reason(error))
}

/// An error's first line: candle's carry a backtrace behind it.
pub fn reason(error: &candle_core::Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().to_owned()
}

/// What the user reads when a device fails.
pub fn failed(device: &Device, reason: &str) -> String {
    let name = match device {
        Device::Cuda(_) => "the NVIDIA graphics processor",
        Device::Metal(_) => "the Apple graphics processor",
        Device::Cpu => "candle on the processor",
    };
    format!(
        "{name} could not run the model ({reason}); the processor does it instead, which takes longer"
    )
}

/// `[batch, channels, positions]` with mean 0 and deviation 1 in each group of neighbouring channels. The mean goes
/// off before the squares are taken, and sums are taken over positions first: a plain f32 sum over both loses digits.
///
/// # Errors
/// If the channels can't be grouped so, or the device fails.
pub fn standardised(x: &Tensor, groups: usize, epsilon: f64) -> Result<Tensor> {
    let (batch, channels, len) = x.dims3()?;
    let grouped = x
        .contiguous()?
        .reshape((batch, groups, channels / groups, len))?;
    let mean = |t: &Tensor| t.mean_keepdim(3)?.mean_keepdim(2);
    let centred = grouped.broadcast_sub(&mean(&grouped)?)?;
    let deviation = (mean(&centred.sqr()?)? + epsilon)?.sqrt()?;
    centred
        .broadcast_div(&deviation)?
        .reshape((batch, channels, len))
}

/// A transposed convolution whose kernel is twice its stride, without half a stride at either end. Written as a
/// 1×1 convolution and a shifted sum: candle's own transposed convolution is slow on graphics processors, and
/// on the CPU wrong for more than one signal without padding (0.11.1).
pub struct Transposed {
    /// `[2·stride·outputs, inputs, 1]`, taps outermost.
    weight: Tensor,
    /// `[1, outputs, 1]`.
    bias: Tensor,
    stride: usize,
    outputs: usize,
}

impl Transposed {
    /// `weight` is `[inputs, outputs, 2·stride]`, `bias` one value an output.
    ///
    /// # Errors
    /// If the lengths don't agree, or the device has no room.
    pub fn new(weight: &[f32], bias: &[f32], stride: usize, device: &Device) -> Result<Self> {
        let (outputs, taps) = (bias.len(), 2 * stride);
        let inputs = weight.len() / (outputs * taps);
        let weight = Tensor::from_slice(weight, (inputs, outputs, taps), &Device::Cpu)?
            .permute((2, 1, 0))?
            .contiguous()?
            .reshape((taps * outputs, inputs, 1))?
            .to_device(device)?;
        Ok(Self {
            weight,
            bias: Tensor::from_slice(bias, (1, outputs, 1), device)?,
            stride,
            outputs,
        })
    }

    /// `[batch, inputs, len]` to `[batch, outputs, len·stride]`.
    ///
    /// # Errors
    /// If the device fails.
    pub fn run(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, _, len) = x.dims3()?;
        let (s, c) = (self.stride, self.outputs);
        let taps = x.contiguous()?.conv1d(&self.weight, 0, 1, 1, 1)?;
        let now = taps.narrow(1, 0, s * c)?.pad_with_zeros(2, 0, 1)?;
        let before = taps.narrow(1, s * c, s * c)?.pad_with_zeros(2, 1, 0)?;
        let full = (now + before)?
            .reshape((batch, s, c, len + 1))?
            .permute((0, 2, 3, 1))?
            .contiguous()?
            .reshape((batch, c, (len + 1) * s))?;
        full.narrow(2, s - s / 2, len * s)?
            .broadcast_add(&self.bias)
    }
}

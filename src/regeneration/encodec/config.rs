// [worker] What an EnCodec is made of: read from its configuration or from the shapes of its tensors.

use serde::Deserialize;

use super::{EncodecError, STATE_PREFIX, weights::Naming};
use crate::models::tensors::Tensors;

/// What stands beyond a signal's ends where a convolution reaches over them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PadMode {
    /// The signal mirrored about its first and last sample (Hugging Face's `encodec_32khz`).
    Reflect,
    /// Zeros (MusicGen's own file: `pad_mode: constant`).
    Zeros,
}

/// Sizes of an EnCodec (Défossez et al. 2022, "High Fidelity Neural Audio Compression") of the kind that
/// `facebook/encodec_32khz` is: not causal, weight norm, one residual layer a stage, identity skips.
#[derive(Clone, Debug, PartialEq)]
pub struct EncodecConfig {
    /// Hz.
    pub sample_rate: u32,
    pub channels: usize,
    /// Channels of the first convolution; doubles with each stage.
    pub filters: usize,
    /// Dimension of latents and codebook entries.
    pub dimension: usize,
    /// Upsampling factors in the decoder's order, first the one next to the latents.
    pub ratios: Vec<usize>,
    /// Kernel of the first convolution of encoder and decoder.
    pub kernel: usize,
    /// Kernel of their last convolution.
    pub last_kernel: usize,
    /// Kernel of a residual block's first convolution.
    pub residual_kernel: usize,
    /// A residual block's inner channels are its outer ones divided by this.
    pub compress: usize,
    pub lstm_layers: usize,
    pub codebooks: usize,
    /// Entries of each codebook.
    pub codebook_size: usize,
    pub pad_mode: PadMode,
}

/// The keys of Hugging Face's `config.json` that matter.
#[derive(Deserialize)]
struct HuggingFace {
    sampling_rate: u32,
    audio_channels: usize,
    num_filters: usize,
    hidden_size: usize,
    codebook_dim: Option<usize>,
    codebook_size: usize,
    upsampling_ratios: Vec<usize>,
    kernel_size: usize,
    last_kernel_size: usize,
    residual_kernel_size: usize,
    num_residual_layers: usize,
    num_lstm_layers: usize,
    compress: usize,
    pad_mode: String,
    norm_type: String,
    trim_right_ratio: f64,
    use_causal_conv: bool,
    use_conv_shortcut: Option<bool>,
    normalize: bool,
    target_bandwidths: Vec<f64>,
}

impl EncodecConfig {
    /// `facebook/encodec_32khz`, which MusicGen and JASCO work on: 50 frames a second, 4 codebooks of 2048.
    pub fn facebook_32khz() -> Self {
        Self {
            sample_rate: 32_000,
            channels: 1,
            filters: 64,
            dimension: 128,
            ratios: vec![8, 5, 4, 4],
            kernel: 7,
            last_kernel: 7,
            residual_kernel: 3,
            compress: 2,
            lstm_layers: 2,
            codebooks: 4,
            codebook_size: 2048,
            pad_mode: PadMode::Reflect,
        }
    }

    /// Reads a Hugging Face `config.json`.
    ///
    /// # Errors
    /// [`EncodecError::Config`] if it is no EnCodec configuration or of a kind that is not supported.
    pub fn from_hugging_face(json: &str) -> Result<Self, EncodecError> {
        let c: HuggingFace =
            serde_json::from_str(json).map_err(|e| EncodecError::Config(e.to_string()))?;
        let refuse = |what: String| Err(EncodecError::Config(what));
        if c.use_causal_conv
            || c.use_conv_shortcut == Some(true)
            || c.num_residual_layers != 1
            || c.norm_type != "weight_norm"
            || (c.trim_right_ratio - 1.0).abs() > 1e-9
            || c.normalize
        {
            return refuse(
                "only EnCodec of the 32 kHz kind is supported: not causal, weight_norm, one residual layer, \
                 no convolution in the skips, no normalisation"
                    .into(),
            );
        }
        let pad_mode = match c.pad_mode.as_str() {
            "reflect" => PadMode::Reflect,
            "constant" | "zero" => PadMode::Zeros,
            other => return refuse(format!("unknown pad_mode \"{other}\"")),
        };
        if c.codebook_dim.is_some_and(|d| d != c.hidden_size) {
            return refuse("codebook_dim differs from hidden_size".into());
        }
        let mut config = Self {
            sample_rate: c.sampling_rate,
            channels: c.audio_channels,
            filters: c.num_filters,
            dimension: c.hidden_size,
            ratios: c.upsampling_ratios,
            kernel: c.kernel_size,
            last_kernel: c.last_kernel_size,
            residual_kernel: c.residual_kernel_size,
            compress: c.compress,
            lstm_layers: c.num_lstm_layers,
            codebooks: 1,
            codebook_size: c.codebook_size,
            pad_mode,
        };
        config.check()?;
        // A codebook spends log2(size) bits a frame; the bandwidth (kbit/s) says how many fit.
        let bits = (config.codebook_size as f64).log2().ceil() * config.frame_rate();
        let bandwidth = c.target_bandwidths.iter().copied().fold(0.0, f64::max);
        config.codebooks = ((bandwidth * 1000.0 / bits) as usize).clamp(1, 64);
        Ok(config)
    }

    /// Reads the sizes off the tensors under `prefix`. Rate and padding are not in the shapes.
    ///
    /// # Errors
    /// [`EncodecError::NoEncodec`] if there is none under `prefix`.
    pub fn from_shapes(
        weights: &dyn Tensors,
        prefix: &str,
        sample_rate: u32,
        pad_mode: PadMode,
    ) -> Result<Self, EncodecError> {
        let none = || EncodecError::NoEncodec {
            prefix: prefix.to_owned(),
        };
        let naming = Naming::find(weights, prefix).ok_or_else(none)?;
        let three = |name: String| match naming.conv_shape(weights, &name) {
            Some([a, b, c]) => Ok([a, b, c]),
            None => Err(none()),
        };
        let [filters, channels, kernel] = three(naming.conv("encoder", 0))?;
        let mut ratios = Vec::new();
        while let Some([_, _, kernel]) =
            naming.conv_shape(weights, &naming.transposed(3 + 3 * ratios.len()))
        {
            // A convolution whose index is that of a transposed one is the decoder's last.
            if ratios.len() >= 16
                || naming
                    .conv_shape(weights, &naming.block("decoder", 4 + 3 * ratios.len(), 1))
                    .is_none()
            {
                break;
            }
            ratios.push(kernel / 2);
        }
        let [hidden, _, residual_kernel] = three(naming.block("encoder", 1, 1))?;
        let [dimension, _, last_kernel] = three(naming.conv("encoder", 3 + 3 * ratios.len()))?;
        let lstm = 1 + 3 * ratios.len();
        let lstm_layers = (0..16)
            .take_while(|&l| {
                weights
                    .shape(&naming.lstm("encoder", lstm, "weight_ih", l))
                    .is_some()
            })
            .count();
        let codebooks = (0..64)
            .take_while(|&q| weights.shape(&naming.codebook(q)).is_some())
            .count();
        let codebook_size = weights
            .shape(&naming.codebook(0))
            .and_then(|s| s.first().copied())
            .ok_or_else(none)?;
        let config = Self {
            sample_rate,
            channels,
            filters,
            dimension,
            ratios,
            kernel,
            last_kernel,
            residual_kernel,
            compress: filters / hidden.max(1),
            lstm_layers,
            codebooks,
            codebook_size,
            pad_mode,
        };
        config.check()?;
        Ok(config)
    }

    /// AudioCraft's own file: sizes from the tensors under `best_state.`, rate and padding from `xp.cfg`.
    ///
    /// # Errors
    /// [`EncodecError::NoEncodec`], or [`EncodecError::Config`] if `xp.cfg` does not say, or names another kind.
    pub fn from_native(file: &dyn Tensors) -> Result<Self, EncodecError> {
        let text = file.text("xp.cfg").unwrap_or_default();
        // The keys needed are unique in the file or come first, at the start of a line.
        let key = |name: &str| {
            text.lines()
                .find_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix(':'))
                .map(|value| value.trim().trim_matches(['"', '\'']))
        };
        let refuse = |what: &str| Err(EncodecError::Config(format!("xp.cfg {what}")));
        let Some(sample_rate) = key("sample_rate").and_then(|v| v.parse().ok()) else {
            return refuse("has no sample_rate");
        };
        if text.lines().any(|l| {
            matches!(
                l.trim(),
                "causal: true" | "renormalize: true" | "true_skip: false"
            )
        }) {
            return refuse("asks for a causal or renormalising EnCodec, which is not supported");
        }
        let pad_mode = match key("pad_mode") {
            Some("constant") => PadMode::Zeros,
            Some("reflect") => PadMode::Reflect,
            _ => return refuse("has no pad_mode that is supported (constant or reflect)"),
        };
        Self::from_shapes(file, STATE_PREFIX, sample_rate, pad_mode)
    }

    /// Audio samples of one latent frame.
    pub fn hop(&self) -> usize {
        self.ratios.iter().product()
    }

    /// Latent frames a second.
    pub fn frame_rate(&self) -> f64 {
        f64::from(self.sample_rate) / self.hop() as f64
    }

    /// Refuses what no network can be made of, before anything is sized by it.
    pub(super) fn check(&self) -> Result<(), EncodecError> {
        let sizes = [
            ("sample rate", self.sample_rate as usize, 768_000),
            ("channels", self.channels, 8),
            ("filters", self.filters, 4096),
            ("dimension", self.dimension, 65_536),
            ("kernel", self.kernel, 63),
            ("last kernel", self.last_kernel, 63),
            ("residual kernel", self.residual_kernel, 63),
            ("compress", self.compress, self.filters),
            ("LSTM layers", self.lstm_layers, 16),
            ("codebooks", self.codebooks, 64),
            ("codebook size", self.codebook_size, 1 << 20),
            ("number of ratios", self.ratios.len(), 8),
        ];
        for (what, actual, most) in sizes {
            if actual == 0 || actual > most {
                return Err(EncodecError::Config(format!(
                    "the {what} is {actual}, but 1 to {most} is expected"
                )));
            }
        }
        if let Some(r) = self.ratios.iter().find(|&&r| r == 0 || r > 64) {
            return Err(EncodecError::Config(format!(
                "a ratio is {r}, but 1 to 64 is expected"
            )));
        }
        if [self.kernel, self.last_kernel, self.residual_kernel]
            .iter()
            .any(|k| k % 2 == 0)
        {
            return Err(EncodecError::Config("kernels must be odd".into()));
        }
        Ok(())
    }
}

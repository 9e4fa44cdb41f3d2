// [worker] What a released MultiBand Diffusion file says about its bands.

use super::{MbdError, schedule::ScheduleConfig};
use crate::models::checkpoint::Value;

/// One band's network.
#[derive(Clone, Debug, PartialEq)]
pub struct UnetConfig {
    /// Channels of the first level; the others have `growth` times those of the one before.
    pub hidden: usize,
    /// Levels.
    pub depth: usize,
    pub growth: usize,
    /// The most channels of a level.
    pub max_channels: usize,
    /// Kernel of the convolutions between levels, twice their stride.
    pub kernel: usize,
    pub stride: usize,
    pub res_blocks: usize,
    pub norm_groups: usize,
    /// Whether every level knows the step, or the first only.
    pub emb_all_layers: bool,
    /// Dimension of the condition.
    pub codec_dim: usize,
}

/// One band.
#[derive(Clone, Debug, PartialEq)]
pub struct BandConfig {
    pub unet: UnetConfig,
    pub schedule: ScheduleConfig,
    /// Sub-bands of the processor and the power of its levels, if it has one.
    pub processor: Option<(usize, f32)>,
}

impl UnetConfig {
    /// Channels of a level.
    pub fn channels(&self, level: usize) -> usize {
        let mut channels = self.hidden;
        for _ in 0..level {
            channels = channels.saturating_mul(self.growth).min(self.max_channels);
        }
        channels
    }
}

impl BandConfig {
    /// From a band's `cfg`, a tree of OmegaConf or plain dictionaries.
    ///
    /// # Errors
    /// [`MbdError::Config`] naming the key that is missing or not supported.
    pub fn from_value(cfg: &Value) -> Result<Self, MbdError> {
        let cfg = cfg.plain();
        let at = |path: &str| cfg.at(path).filter(|v| !v.is_none());
        let missing = |path: &str| MbdError::Config(format!("its {path} is missing or no number"));
        let size = |path: &str, most: usize| -> Result<usize, MbdError> {
            let value = at(path)
                .and_then(Value::as_usize)
                .ok_or_else(|| missing(path))?;
            if value == 0 || value > most {
                return Err(MbdError::Config(format!(
                    "its {path} is {value}, but 1 to {most} is expected"
                )));
            }
            Ok(value)
        };
        let real = |path: &str| {
            at(path)
                .and_then(Value::as_f64)
                .ok_or_else(|| missing(path))
        };
        let real_or = |path: &str, otherwise: f64| match at(path) {
            Some(value) => value.as_f64().ok_or_else(|| missing(path)),
            None => Ok(otherwise),
        };
        let flag = |path: &str| at(path).and_then(Value::as_bool).unwrap_or(false);
        for path in ["bilstm", "transformer", "cross_attention"] {
            if flag(&format!("diffusion_unet.{path}")) {
                return Err(MbdError::Config(format!(
                    "its network has a {path}, which is not supported; the released models have none"
                )));
            }
        }
        for (path, expected) in [
            ("schedule.repartition", "power"),
            ("schedule.variance", "beta"),
        ] {
            if let Some(actual) = at(path).and_then(Value::as_str).filter(|a| *a != expected) {
                return Err(MbdError::Config(format!(
                    "its {path} is {actual}, but only {expected} is supported"
                )));
            }
        }
        let unet = UnetConfig {
            hidden: size("diffusion_unet.hidden", 4096)?,
            depth: size("diffusion_unet.depth", 8)?,
            growth: size("diffusion_unet.growth", 16)?,
            max_channels: size("diffusion_unet.max_channels", 1 << 20)?,
            kernel: size("diffusion_unet.kernel", 64)?,
            stride: size("diffusion_unet.stride", 32)?,
            res_blocks: size("diffusion_unet.res_blocks", 8)?,
            norm_groups: size("diffusion_unet.norm_groups", 4096)?,
            emb_all_layers: flag("diffusion_unet.emb_all_layers"),
            codec_dim: size("diffusion_unet.codec_dim", 65_536)?,
        };
        if unet.kernel != 2 * unet.stride || !unet.stride.is_multiple_of(2) {
            return Err(MbdError::Config(format!(
                "its kernel {} and stride {} are not supported: the kernel must be twice an even stride",
                unet.kernel, unet.stride
            )));
        }
        if let Some(level) = (0..unet.depth).find(|&d| {
            let channels = unet.channels(d);
            !channels.is_multiple_of(unet.norm_groups) || channels > 16_384
        }) {
            return Err(MbdError::Config(format!(
                "the {} channels of its level {level} are no multiple of its {} norm groups, or more than 16384",
                unet.channels(level),
                unet.norm_groups
            )));
        }
        let processor = if flag("processor.use") {
            let power = real("processor.power_std")? as f32;
            Some((size("processor.n_bands", 64)?, power))
        } else {
            None
        };
        let schedule = ScheduleConfig {
            steps: size("schedule.num_steps", 100_000)?,
            beta_first: real("schedule.beta_t0")?,
            beta_last: real("schedule.beta_t1")?,
            exponent: real("schedule.beta_exp")?,
            clip: real_or("schedule.clip", 0.0)? as f32,
            rescale: real_or("schedule.rescale", 1.0)? as f32,
            noise_scale: real_or("schedule.noise_scale", 1.0)? as f32,
        };
        schedule.check()?;
        Ok(Self {
            unet,
            schedule,
            processor,
        })
    }
}

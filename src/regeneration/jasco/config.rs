// [worker] JASCO's hyper-parameters: read from the checkpoint, checked against the tensors' shapes.

use super::{JascoError, weights::Needed, yaml::Settings};
use crate::models::tensors::Tensors;

/// What the flow transformer is made of. Nothing is assumed of a released size: all of it comes from
/// the checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowConfig {
    /// Width of the transformer.
    pub dim: usize,
    pub heads: usize,
    pub layers: usize,
    /// Width inside the feed-forward blocks.
    pub hidden: usize,
    /// Channels of the latents.
    pub flow_dim: usize,
    pub chords_dim: usize,
    pub drums_dim: usize,
    /// 0 for a model without melody.
    pub melody_dim: usize,
    /// Width of the sinusoidal embedding of time.
    pub time_dim: usize,
    /// Width of the time embedding's two dense layers.
    pub time_hidden: usize,
    /// U-Net skips between the halves of the transformer.
    pub skips: bool,
    /// Whether the output projection has a bias.
    pub output_bias: bool,
}

/// What the model hears and how its latents are scaled.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    pub flow: FlowConfig,
    /// Rows of the chord table without the null row; the null chord's index.
    pub chords: usize,
    /// Rows of the melody matrix; 0 for a model without melody.
    pub melody_rows: usize,
    /// Width of the text encoder's output.
    pub text_dim: usize,
    pub latent_mean: f32,
    pub latent_std: f32,
    pub sample_rate: u32,
    /// Latent frames a second.
    pub frame_rate: f64,
    /// Length of a window, seconds.
    pub segment_seconds: f64,
    /// Frames averaged by the drums' temporal blur.
    pub blur: usize,
}

impl ModelConfig {
    /// Latent frames a window.
    pub fn frames(&self) -> usize {
        (self.segment_seconds * self.frame_rate).ceil() as usize
    }

    /// Samples a latent frame.
    pub fn hop(&self) -> usize {
        (f64::from(self.sample_rate) / self.frame_rate).round() as usize
    }

    /// Reads the configuration that was saved with the model, and takes everything that shapes tell
    /// from them.
    ///
    /// # Errors
    /// If tensors that tell shapes are missing, if configuration and shapes disagree, or if the model
    /// uses something that isn't supported; every message names the key or tensor.
    pub fn read(source: &dyn Tensors, text: &str) -> Result<Self, JascoError> {
        let settings = Settings::parse(text);
        let flow = flow(source, &settings)?;
        refuse_unsupported(&settings)?;
        let number = |key: &'static str, default: f64| -> Result<f64, JascoError> {
            match settings.get(key) {
                None => Ok(default),
                Some(value) => parse(key, value),
            }
        };
        let chord_rows = rows(source, CHORD_TABLE)?;
        let melody_rows = match source.shape(MELODY_PROJECTION).as_deref() {
            Some([_, rows]) => *rows,
            _ => 0,
        };
        let text_dim = columns(source, TEXT_PROJECTION)?;
        let config = Self {
            chords: chord_rows.saturating_sub(1),
            melody_rows,
            text_dim,
            latent_mean: number("compression_model_latent_mean", -0.0074)? as f32,
            latent_std: number("compression_model_latent_std", 4.0102)? as f32,
            sample_rate: number("sample_rate", 32_000.0)? as u32,
            frame_rate: number("compression_model_framerate", 50.0)?,
            segment_seconds: number("dataset.segment_duration", 10.0)?,
            blur: number("conditioners.self_wav.drum_latents.blurring_factor", 3.0)? as usize,
            flow,
        };
        for (key, actual) in [
            ("conditioners.chords.chords_emb.card", config.chords),
            ("conditioners.melody.melody.card", melody_rows),
        ] {
            agree(&settings, key, actual)?;
        }
        let sane = config.latent_std > 0.0
            && config.latent_std.is_finite()
            && (8_000..=192_000).contains(&config.sample_rate)
            && config.frame_rate >= 1.0
            && config.frame_rate <= 1_000.0
            && config.segment_seconds > 0.0
            && config.segment_seconds <= 600.0
            && (1..=64).contains(&config.blur);
        if !sane {
            return Err(JascoError::Config {
                key: "sample_rate, framerate, segment_duration, latent_std or blurring_factor",
                reason: format!(
                    "{} Hz, {} frames a second, {} s, {}, {}",
                    config.sample_rate,
                    config.frame_rate,
                    config.segment_seconds,
                    config.latent_std,
                    config.blur
                ),
            });
        }
        Ok(config)
    }

    /// Every tensor outside the codec, with its shape.
    pub fn needed(&self) -> Vec<Needed> {
        let f = &self.flow;
        let mut all = f.needed();
        let conditioner = |all: &mut Vec<Needed>, name: &str, out: usize, input: usize| {
            let name = format!("{CONDITIONERS}{name}.output_proj");
            all.push(Needed::new(format!("{name}.weight"), &[out, input]));
            all.push(Needed::new(format!("{name}.bias"), &[out]));
        };
        conditioner(&mut all, "description", f.dim, self.text_dim);
        conditioner(&mut all, "self_wav", f.drums_dim, f.flow_dim);
        if f.melody_dim > 0 {
            conditioner(&mut all, "melody", f.melody_dim, self.melody_rows);
        }
        all.push(Needed::new(CHORD_TABLE, &[self.chords + 1, f.chords_dim]));
        all
    }
}

impl FlowConfig {
    /// Every tensor of the flow transformer, with its shape.
    pub fn needed(&self) -> Vec<Needed> {
        let (d, input) = (self.dim, self.input_dim());
        let mut all = vec![Needed::new("emb.weight", &[d, input])];
        for i in 0..self.layers {
            let p = format!("transformer.layers.{i}.");
            for norm in ["norm1", "norm_cross", "norm2"] {
                all.push(Needed::new(format!("{p}{norm}.weight"), &[d]));
                all.push(Needed::new(format!("{p}{norm}.bias"), &[d]));
            }
            for attention in ["self_attn", "cross_attention"] {
                let p = format!("{p}{attention}.");
                all.push(Needed::new(format!("{p}in_proj_weight"), &[3 * d, d]));
                all.push(Needed::new(format!("{p}out_proj.weight"), &[d, d]));
            }
            all.push(Needed::new(format!("{p}linear1.weight"), &[self.hidden, d]));
            all.push(Needed::new(format!("{p}linear2.weight"), &[d, self.hidden]));
        }
        if self.skips {
            for j in 0..self.layers / 2 {
                let p = format!("transformer.skip_projections.{j}.");
                all.push(Needed::new(format!("{p}weight"), &[d, 2 * d]));
                all.push(Needed::new(format!("{p}bias"), &[d]));
            }
        }
        all.push(Needed::new("out_norm.weight", &[d]));
        all.push(Needed::new("out_norm.bias", &[d]));
        all.push(Needed::new("linear.weight", &[self.flow_dim, d]));
        if self.output_bias {
            all.push(Needed::new("linear.bias", &[self.flow_dim]));
        }
        let h = self.time_hidden;
        all.push(Needed::new("temb.dense.0.weight", &[h, self.time_dim]));
        all.push(Needed::new("temb.dense.0.bias", &[h]));
        all.push(Needed::new("temb.dense.1.weight", &[h, h]));
        all.push(Needed::new("temb.dense.1.bias", &[h]));
        all.push(Needed::new("temb_proj.weight", &[d, h]));
        all.push(Needed::new("temb_proj.bias", &[d]));
        all
    }

    /// Channels of the transformer's input: latents, chords, drums, melody.
    pub fn input_dim(&self) -> usize {
        self.flow_dim + self.local_dim()
    }

    /// Channels of the conditions that change over time: chords, drums, melody.
    pub fn local_dim(&self) -> usize {
        self.chords_dim + self.drums_dim + self.melody_dim
    }

    pub fn head_dim(&self) -> usize {
        self.dim / self.heads
    }
}

/// Where the conditions' own tensors are.
pub(super) const CONDITIONERS: &str = "condition_provider.conditioners.";
pub(super) const CHORD_TABLE: &str = "condition_provider.conditioners.chords.emb.weight";
pub(super) const TEXT_PROJECTION: &str =
    "condition_provider.conditioners.description.output_proj.weight";
pub(super) const DRUMS_PROJECTION: &str =
    "condition_provider.conditioners.self_wav.output_proj.weight";
pub(super) const MELODY_PROJECTION: &str =
    "condition_provider.conditioners.melody.output_proj.weight";
/// Where a copy of the codec is inside the model's own file.
pub const CODEC_PREFIX: &str = "condition_provider.conditioners.self_wav.compression_model.model.";

fn flow(source: &dyn Tensors, settings: &Settings) -> Result<FlowConfig, JascoError> {
    let [dim, input] = matrix(source, "emb.weight")?;
    let layers = (0..)
        .take_while(|i| {
            let name = format!("transformer.layers.{i}.linear1.weight");
            source.shape(&name).is_some()
        })
        .count();
    let hidden = rows(source, "transformer.layers.0.linear1.weight")?;
    let flow_dim = rows(source, "linear.weight")?;
    let [time_hidden, time_dim] = matrix(source, "temb.dense.0.weight")?;
    let chords_dim = columns(source, CHORD_TABLE)?;
    let drums_dim = rows(source, DRUMS_PROJECTION)?;
    let melody_dim = match source.shape(MELODY_PROJECTION).as_deref() {
        Some([rows, _]) => *rows,
        _ => 0,
    };
    let skips = source
        .shape("transformer.skip_projections.0.weight")
        .is_some();
    let heads = match settings.get("transformer_lm.num_heads") {
        Some(value) => parse("transformer_lm.num_heads", value)? as usize,
        // The family's rule: heads of 64.
        None => dim / 64,
    };
    for (key, actual) in [
        ("transformer_lm.dim", dim),
        ("transformer_lm.num_layers", layers),
        ("transformer_lm.flow_dim", flow_dim),
        ("transformer_lm.chords_dim", chords_dim),
        ("transformer_lm.drums_dim", drums_dim),
        ("transformer_lm.melody_dim", melody_dim),
        ("transformer_lm.time_embedding_dim", time_dim),
        ("compression_model_latent_dim", flow_dim),
        ("transformer_lm.skip_connections", usize::from(skips)),
    ] {
        // Models without melody still carry the key.
        if !(key == "transformer_lm.melody_dim" && actual == 0) {
            agree(settings, key, actual)?;
        }
    }
    if let Some(scale) = settings.get("transformer_lm.hidden_scale") {
        let scale = parse("transformer_lm.hidden_scale", scale)?;
        if (dim as f64 * scale).round() as usize != hidden {
            return Err(JascoError::Config {
                key: "transformer_lm.hidden_scale",
                reason: format!("it says {scale} times {dim}, the tensors {hidden}"),
            });
        }
    }
    if heads == 0 || dim % heads != 0 || dim % 2 != 0 || time_dim < 4 || time_dim % 2 != 0 {
        return Err(JascoError::Config {
            key: "transformer_lm.num_heads",
            reason: format!("{heads} heads, width {dim}, time embedding {time_dim}"),
        });
    }
    if skips && layers % 2 != 0 {
        return Err(JascoError::Config {
            key: "transformer_lm.num_layers",
            reason: format!("{layers} is odd, but skip connections join two halves"),
        });
    }
    let local = chords_dim + drums_dim + melody_dim;
    if flow_dim + local != input {
        return Err(JascoError::Tensors {
            problems: vec![format!(
                "emb.weight takes {input} channels, but latents and conditions have \
                 {flow_dim} + {chords_dim} + {drums_dim} + {melody_dim}"
            )],
        });
    }
    Ok(FlowConfig {
        dim,
        heads,
        layers,
        hidden,
        flow_dim,
        chords_dim,
        drums_dim,
        melody_dim,
        time_dim,
        time_hidden,
        skips,
        output_bias: source.shape("linear.bias").is_some(),
    })
}

/// Settings under which the network would be another one than the one implemented.
fn refuse_unsupported(settings: &Settings) -> Result<(), JascoError> {
    const ONLY: [(&str, &str); 12] = [
        ("transformer_lm.norm", "layer_norm"),
        ("transformer_lm.norm_first", "true"),
        ("transformer_lm.activation", "gelu"),
        ("transformer_lm.positional_embedding", "sin"),
        ("transformer_lm.causal", "false"),
        ("transformer_lm.bias_ff", "false"),
        ("transformer_lm.bias_attn", "false"),
        ("transformer_lm.xpos", "false"),
        ("transformer_lm.qk_layer_norm", "false"),
        ("transformer_lm.qk_layer_norm_cross", "false"),
        ("transformer_lm.kv_repeat", "1"),
        ("fuser.cross_attention_pos_emb", "false"),
    ];
    for (key, only) in ONLY {
        if let Some(value) = settings.get(key).filter(|v| !v.eq_ignore_ascii_case(only)) {
            return Err(JascoError::Config {
                key,
                reason: format!("\"{value}\" is not supported, only \"{only}\""),
            });
        }
    }
    if let Some(value) = settings.get("transformer_lm.layer_scale") {
        return Err(JascoError::Config {
            key: "transformer_lm.layer_scale",
            reason: format!("\"{value}\" is not supported"),
        });
    }
    for key in ["fuser.sum", "fuser.prepend"] {
        if settings.items(key) > 0 {
            return Err(JascoError::Config {
                key,
                reason: "conditions can only be joined by cross-attention and concatenation".into(),
            });
        }
    }
    Ok(())
}

fn parse(key: &'static str, value: &str) -> Result<f64, JascoError> {
    let number = match value {
        "true" | "True" => Some(1.0),
        "false" | "False" => Some(0.0),
        _ => value.parse::<f64>().ok().filter(|v| v.is_finite()),
    };
    number.ok_or_else(|| JascoError::Config {
        key,
        reason: format!("\"{value}\" is not a number"),
    })
}

/// The configuration, where it says anything, says what the tensors say.
fn agree(settings: &Settings, key: &'static str, actual: usize) -> Result<(), JascoError> {
    if let Some(value) = settings.get(key)
        && parse(key, value)? != actual as f64
    {
        return Err(JascoError::Config {
            key,
            reason: format!("it says {value}, the tensors say {actual}"),
        });
    }
    Ok(())
}

fn matrix(source: &dyn Tensors, name: &str) -> Result<[usize; 2], JascoError> {
    match source.shape(name).as_deref() {
        Some(&[rows, columns]) if rows > 0 && columns > 0 => Ok([rows, columns]),
        other => Err(JascoError::Tensors {
            problems: vec![match other {
                None => format!("{name} is missing: this is not a JASCO model"),
                Some(shape) => format!("{name} has shape {shape:?}, expected a matrix"),
            }],
        }),
    }
}

fn rows(source: &dyn Tensors, name: &str) -> Result<usize, JascoError> {
    matrix(source, name).map(|[rows, _]| rows)
}

fn columns(source: &dyn Tensors, name: &str) -> Result<usize, JascoError> {
    matrix(source, name).map(|[_, columns]| columns)
}

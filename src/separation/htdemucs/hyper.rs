// [worker] The hyper-parameters of a hybrid Demucs, with or without transformer, read from its file and checked.

use serde_json::Value;

use super::ModelError;

/// What is inside the levels that both kinds of network have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A transformer over both branches: `HTDemucs`.
    Transformer,
    /// Two more levels in which both branches are one: `HDemucs`.
    Merged,
}

/// What shapes a network. Field names are the reference's own.
#[derive(Clone, Debug, PartialEq)]
pub struct Hyper {
    pub kind: Kind,
    /// Names of the stems, in the order of the output.
    pub sources: Vec<String>,
    pub audio_channels: usize,
    /// Hz.
    pub samplerate: u32,
    /// Samples that one pass sees: `segment` seconds times the rate, rounded down.
    pub segment_samples: usize,
    pub channels: usize,
    pub growth: usize,
    pub nfft: usize,
    /// Levels in which the branches are apart, with a skip connection each.
    pub depth: usize,
    /// Groups of the normalisations of the merged levels.
    pub norm_groups: usize,
    pub freq_emb: f32,
    pub emb_scale: f32,
    pub dconv_depth: usize,
    /// Whether decoders have residual branches as encoders do.
    pub dconv_in_decoders: bool,
    pub dconv_comp: usize,
    /// 0: the transformer works on the channels as they come.
    pub bottom_channels: usize,
    pub t_layers: usize,
    pub t_hidden_scale: f64,
    pub t_heads: usize,
    pub t_cross_first: bool,
    pub t_max_period: f64,
    pub t_weight_pos_embed: f32,
    pub t_norm_in: bool,
}

/// Kernel and stride of every encoder and decoder.
pub const KERNEL: usize = 8;
pub const STRIDE: usize = 4;

/// The classes that this code is.
pub const CLASS: &str = "HTDemucs";
pub const MERGED_CLASS: &str = "HDemucs";

/// Longest segment in seconds: the released ones see 7.8, and 44 without transformer. Memory grows with it.
const MAX_SEGMENT_SECONDS: f64 = 45.0;

impl Hyper {
    /// From the keyword arguments of the class. A fraction is `{"_type": "fraction", "numerator": n,
    /// "denominator": d}` or a number. Arguments that this code doesn't implement are refused unless they
    /// have the value that the released models have.
    ///
    /// # Errors
    /// [`ModelError::Unsupported`] names the argument.
    pub fn read(kwargs: &Value) -> Result<Self, ModelError> {
        let k = Kwargs(kwargs);
        for (name, wanted) in [
            ("cac", true),
            ("rewrite", true),
            ("t_norm_first", true),
            ("t_norm_out", true),
            ("t_layer_scale", true),
            ("t_gelu", true),
            ("use_train_segment", true),
            ("t_norm_in_group", false),
            ("t_group_norm", false),
            ("t_sparse_self_attn", false),
            ("t_sparse_cross_attn", false),
        ] {
            if k.bool(name, wanted)? != wanted {
                return Err(unsupported(name, &kwargs[name]));
            }
        }
        for (name, wanted) in [
            ("kernel_size", KERNEL),
            ("stride", STRIDE),
            ("context", 1),
            ("context_enc", 0),
            ("dconv_mode", 3),
        ] {
            // The reference's own default of dconv_mode is 1; every released model says 3.
            let default = if name == "dconv_mode" { 1 } else { wanted };
            if k.count(name, default, 0..=1024)? != wanted {
                return Err(unsupported(name, &kwargs[name]));
            }
        }
        if !matches!(&kwargs["multi_freqs"], Value::Null)
            && kwargs["multi_freqs"]
                .as_array()
                .is_none_or(|a| !a.is_empty())
        {
            return Err(unsupported("multi_freqs", &kwargs["multi_freqs"]));
        }
        if !kwargs["channels_time"].is_null() {
            return Err(unsupported("channels_time", &kwargs["channels_time"]));
        }
        if !matches!(kwargs["t_emb"].as_str(), None | Some("sin")) {
            return Err(unsupported("t_emb", &kwargs["t_emb"]));
        }
        let sources: Vec<String> = kwargs["sources"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|s| s.as_str().map(str::to_owned))
            .collect();
        if sources.is_empty() || sources.len() > 16 {
            return Err(unsupported("sources", &kwargs["sources"]));
        }
        let samplerate = k.count("samplerate", 44_100, 8_000..=192_000)?;
        let hyper = Self {
            sources,
            audio_channels: k.count("audio_channels", 2, 1..=2)?,
            samplerate: samplerate as u32,
            kind: Kind::Transformer,
            norm_groups: 1,
            dconv_in_decoders: true,
            segment_samples: segment(&kwargs["segment"], samplerate, 10.0)?,
            channels: k.count("channels", 48, 1..=512)?,
            growth: k.count("growth", 2, 1..=4)?,
            nfft: k.count("nfft", 4096, 64..=65_536)?,
            depth: k.count("depth", 4, 1..=6)?,
            freq_emb: k.number("freq_emb", 0.2)? as f32,
            emb_scale: k.number("emb_scale", 10.0)? as f32,
            dconv_depth: k.count("dconv_depth", 2, 0..=2)?,
            dconv_comp: k.count("dconv_comp", 8, 1..=64)?,
            bottom_channels: k.count("bottom_channels", 0, 0..=4096)?,
            t_layers: k.count("t_layers", 5, 0..=32)?,
            t_hidden_scale: k.number("t_hidden_scale", 4.0)?,
            t_heads: k.count("t_heads", 8, 1..=64)?,
            t_cross_first: k.bool("t_cross_first", false)?,
            t_max_period: k.number("t_max_period", 10_000.0)?,
            t_weight_pos_embed: k.number("t_weight_pos_embed", 1.0)? as f32,
            t_norm_in: k.bool("t_norm_in", true)?,
        };
        hyper.check(k.count("norm_starts", 4, 0..=64)?, kwargs)?;
        Ok(hyper)
    }

    /// From the keyword arguments of `HDemucs`; as [`Self::read`].
    ///
    /// # Errors
    /// [`ModelError::Unsupported`] names the argument.
    pub fn read_merged(kwargs: &Value) -> Result<Self, ModelError> {
        let k = Kwargs(kwargs);
        for (name, default, wanted) in [
            ("cac", true, true),
            ("rewrite", true, true),
            ("hybrid", true, true),
            ("hybrid_old", false, false),
        ] {
            if k.bool(name, default)? != wanted {
                return Err(unsupported(name, &kwargs[name]));
            }
        }
        let depth = k.count("depth", 6, 3..=8)? - 2;
        for (name, default, wanted) in [
            ("kernel_size", KERNEL, KERNEL),
            ("stride", STRIDE, STRIDE),
            ("time_stride", 2, 2),
            ("context", 1, 1),
            ("context_enc", 0, 0),
            ("dconv_mode", 1, 1),
            // Everything special begins where the branches merge.
            ("norm_starts", 4, depth),
            ("dconv_attn", 4, depth),
            ("dconv_lstm", 4, depth),
        ] {
            if k.count(name, default, 0..=1024)? != wanted {
                return Err(unsupported(name, &kwargs[name]));
            }
        }
        // What the other class takes has the same names and meanings here; what differs is set below.
        let mut common = kwargs.clone();
        if let Some(map) = common.as_object_mut() {
            let others = [
                "depth",
                "norm_starts",
                "dconv_mode",
                "dconv_comp",
                "segment",
                "bottom_channels",
                "t_heads",
            ];
            map.retain(|name, _| !others.contains(&name.as_str()) && !name.starts_with("t_"));
            map.insert("depth".into(), depth.into());
            map.insert("norm_starts".into(), depth.into());
            map.insert("dconv_mode".into(), 3.into());
            map.insert("t_layers".into(), 0.into());
            map.insert("t_heads".into(), 1.into());
        }
        let mut hyper = Self::read(&common)?;
        hyper.kind = Kind::Merged;
        hyper.segment_samples = segment(&kwargs["segment"], hyper.samplerate as usize, 40.0)?;
        hyper.dconv_comp = k.count("dconv_comp", 4, 1..=64)?;
        hyper.dconv_in_decoders = false;
        hyper.norm_groups = k.count("norm_groups", 4, 1..=64)?;
        let (below, outer, inner) = (
            hyper.encoder_channels(depth - 1),
            hyper.encoder_channels(depth),
            hyper.encoder_channels(depth + 1),
        );
        // Both branches come to one position a frame at this level only.
        if hyper.nfft / 2 / STRIDE.pow(depth as u32) != KERNEL || inner > 8192 {
            return Err(unsupported("nfft", &kwargs["nfft"]));
        }
        if [below, outer]
            .iter()
            .any(|c| !c.is_multiple_of(hyper.norm_groups))
        {
            return Err(unsupported("norm_groups", &kwargs["norm_groups"]));
        }
        if [outer, inner]
            .iter()
            .any(|c| !hyper.dconv_channels(*c).is_multiple_of(4))
        {
            return Err(unsupported("dconv_comp", &kwargs["dconv_comp"]));
        }
        Ok(hyper)
    }

    fn check(&self, norm_starts: usize, kwargs: &Value) -> Result<(), ModelError> {
        if norm_starts < self.depth {
            return Err(unsupported("norm_starts", &kwargs["norm_starts"]));
        }
        // Every encoder must see more rows than its kernel: else the reference builds other layers.
        let last = self.nfft / 2 / STRIDE.pow(self.depth as u32 - 1);
        let whole = (self.nfft / 2).is_multiple_of(STRIDE.pow(self.depth as u32));
        if !self.nfft.is_power_of_two() || !whole || last <= KERNEL {
            return Err(unsupported("nfft", &kwargs["nfft"]));
        }
        if self.encoder_channels(self.depth - 1) > 8192 {
            return Err(unsupported("channels", &kwargs["channels"]));
        }
        let width = self.transformer_channels();
        if !width.is_multiple_of(4) || !width.is_multiple_of(self.t_heads) {
            return Err(unsupported("t_heads", &kwargs["t_heads"]));
        }
        if !(0.1..=16.0).contains(&self.t_hidden_scale) {
            return Err(unsupported("t_hidden_scale", &kwargs["t_hidden_scale"]));
        }
        if self.segment_samples < self.nfft / 4 {
            return Err(unsupported("segment", &kwargs["segment"]));
        }
        Ok(())
    }

    /// Whether what is shorter than a segment is heard as it is, and not widened to a segment.
    pub const fn hears_short(&self) -> bool {
        matches!(self.kind, Kind::Merged)
    }

    /// Samples between two frames of the spectrum.
    pub const fn hop(&self) -> usize {
        self.nfft / 4
    }

    /// Frames of the spectrum of a segment.
    pub const fn frames(&self) -> usize {
        self.segment_samples.div_ceil(self.hop())
    }

    /// Channels after encoder `level`.
    pub fn encoder_channels(&self, level: usize) -> usize {
        self.channels * self.growth.pow(level as u32)
    }

    /// Channels on the outer side of level `level`, of which the outermost has `first`.
    pub fn outer_channels(&self, level: usize, first: usize) -> usize {
        match level {
            0 => first,
            _ => self.encoder_channels(level - 1),
        }
    }

    /// Hidden channels of a residual branch over `channels`.
    pub fn dconv_channels(&self, channels: usize) -> usize {
        // The reference: int(channels / compress), at least 1 in what it builds.
        (channels / self.dconv_comp).max(1)
    }

    /// Width of the transformer's tokens.
    pub fn transformer_channels(&self) -> usize {
        match self.bottom_channels {
            0 => self.encoder_channels(self.depth - 1),
            width => width,
        }
    }

    /// Width of the transformer's hidden layers.
    pub fn hidden_channels(&self) -> usize {
        (self.transformer_channels() as f64 * self.t_hidden_scale) as usize
    }
}

/// `int(segment * samplerate)` in whole numbers: in floats 7.8 s · 44100 Hz is a sample short.
fn segment(value: &Value, samplerate: usize, default: f64) -> Result<usize, ModelError> {
    let fraction = value["numerator"]
        .as_u64()
        .zip(value["denominator"].as_u64());
    let samples = if let Some((numerator, denominator)) = fraction {
        u128::from(numerator) * samplerate as u128 / u128::from(denominator.max(1))
    } else {
        let seconds = match value {
            Value::Null => default,
            value => value.as_f64().unwrap_or(-1.0),
        };
        (seconds * samplerate as f64).max(0.0) as u128
    };
    if samples == 0 || samples as f64 > MAX_SEGMENT_SECONDS * samplerate as f64 {
        return Err(unsupported("segment", value));
    }
    Ok(samples as usize)
}

struct Kwargs<'a>(&'a Value);

impl Kwargs<'_> {
    fn bool(&self, name: &'static str, default: bool) -> Result<bool, ModelError> {
        match &self.0[name] {
            Value::Null => Ok(default),
            Value::Bool(value) => Ok(*value),
            other => Err(unsupported(name, other)),
        }
    }

    fn number(&self, name: &'static str, default: f64) -> Result<f64, ModelError> {
        match &self.0[name] {
            Value::Null => Ok(default),
            Value::Number(n) if n.as_f64().is_some_and(|n| n.abs() < 1e9) => {
                Ok(n.as_f64().unwrap_or(default))
            }
            other => Err(unsupported(name, other)),
        }
    }

    fn count(
        &self,
        name: &'static str,
        default: usize,
        range: std::ops::RangeInclusive<usize>,
    ) -> Result<usize, ModelError> {
        let value = match &self.0[name] {
            Value::Null => default,
            other => other
                .as_u64()
                .and_then(|n| usize::try_from(n).ok())
                .ok_or_else(|| unsupported(name, other))?,
        };
        if range.contains(&value) {
            Ok(value)
        } else {
            Err(unsupported(name, &self.0[name]))
        }
    }
}

fn unsupported(name: &'static str, value: &Value) -> ModelError {
    let mut value = value.to_string();
    value.truncate(80);
    ModelError::Unsupported { name, value }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn kwargs() -> Value {
        json!({"sources": ["drums", "bass"], "dconv_mode": 3, "bottom_channels": 512,
            "segment": {"_type": "fraction", "numerator": 39, "denominator": 5}})
    }

    #[test]
    fn a_segment_is_cut_in_whole_numbers() {
        let hyper = Hyper::read(&kwargs()).unwrap();
        assert_eq!(hyper.segment_samples, 343_980);
        assert_eq!(hyper.frames(), 336);
    }

    #[test]
    fn what_is_not_implemented_is_refused_by_name() {
        for (name, value) in [
            ("cac", json!(false)),
            ("depth", json!(100_000)),
            ("segment", json!(1e9)),
            ("segment", json!("x")),
            ("nfft", json!(4095)),
            ("norm_starts", json!(2)),
            ("t_emb", json!("cape")),
            ("multi_freqs", json!([0.5])),
            ("t_heads", json!(7)),
            ("sources", json!([])),
        ] {
            let mut kwargs = kwargs();
            kwargs[name] = value;
            let error = Hyper::read(&kwargs).unwrap_err().to_string();
            assert!(error.contains(name), "{name}: {error}");
        }
        assert!(Hyper::read(&Value::Null).is_err());
    }
}

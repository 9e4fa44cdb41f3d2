//! MultiBand Diffusion at full size with made-up weights, to see its time and memory: FOLDER SECONDS BANDS. FOLDER
//! holds the EnCodec that `benches/peers/encodec.py --make FOLDER` writes. The released model has 4 bands of this
//! size; fewer cost proportionally less time, and as much memory. Prints seconds and memory as JSON.

#[path = "../benches/peers/usage.rs"]
mod usage;

use std::{error::Error, path::Path, sync::Arc, time::Instant};

use candle_core::Device;
use uncook::{
    audio::AudioBuffer,
    models::{
        checkpoint::{Checkpoint, Limits, Value},
        tensors::Tensors,
    },
    regeneration::{
        encodec::{Encodec, EncodecConfig},
        multiband_diffusion::{BandConfig, MultiBandDiffusion},
    },
    worker::progress::Progress,
};

/// The released bands' configuration, as the file has it.
const BAND: &str = r#"{
    "schedule": {"beta_t0": 1e-05, "beta_t1": 0.029, "beta_exp": 7.5, "num_steps": 1000, "variance": "beta",
        "repartition": "power", "clip": 5.0, "rescale": 1.0, "n_bands": null, "noise_scale": 1.0},
    "processor": {"use": false, "n_bands": 8, "num_samples": 10000, "power_std": 1.0},
    "filter": {"use": false},
    "diffusion_unet": {"hidden": 48, "depth": 4, "res_blocks": 2, "norm_groups": 4, "kernel": 8, "stride": 4,
        "growth": 4, "max_channels": 10000, "emb_all_layers": true, "bilstm": false, "codec_dim": 128,
        "transformer": false, "cross_attention": false}
}"#;

/// Channels of a level.
fn channels(level: usize) -> usize {
    48 << (2 * level)
}

/// Small numbers of any shape that the network's names ask for.
struct Made;

impl Tensors for Made {
    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        let parts: Vec<&str> = name.split('.').collect();
        let (_band, parts) = parts.split_first()?;
        let (kind, parts) = parts.split_first()?;
        if *kind != "model" {
            return None;
        }
        let is_bias = *parts.last()? == "bias";
        Some(match parts {
            ["conv_codec", _] if is_bias => vec![channels(3)],
            ["conv_codec", _] => vec![channels(3), 128, 1],
            ["embedding", _] => vec![1000, channels(0)],
            ["embeddings", level, _] => vec![1000, channels(level.parse::<usize>().ok()? + 1)],
            [half @ ("encoders" | "decoders"), level, rest @ ..] => {
                let level: usize = level.parse().ok()?;
                let own = match *half {
                    "encoders" => level,
                    _ => 3usize.checked_sub(level)?,
                };
                let n = channels(own);
                let outside = if own == 0 { 1 } else { channels(own - 1) };
                match rest {
                    ["conv", "weight"] => vec![n, outside, 8],
                    ["convtr", "weight"] => vec![n, outside, 8],
                    ["res_blocks", _, conv, "weight"] if conv.starts_with("conv") => vec![n, n, 3],
                    [.., "weight" | "bias"] => vec![n],
                    _ => return None,
                }
            }
            _ => return None,
        })
    }

    fn tensor_f32(&self, name: &str, expected: &[usize]) -> Result<Vec<f32>, String> {
        let count: usize = expected.iter().product();
        if name.contains("norm") && name.ends_with("weight") {
            return Ok(vec![1.0; count]);
        }
        let inputs: usize = expected.iter().skip(1).product::<usize>().max(1);
        let scale = (1.0 / inputs as f32).sqrt();
        let mut state = 1u32;
        Ok((0..count)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                scale * ((state >> 8) as f32 / 8_388_608.0 - 1.0)
            })
            .collect())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    usage::settle();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [folder, seconds, bands] = args.as_slice() else {
        return Err("FOLDER SECONDS BANDS".into());
    };
    let folder = Path::new(folder);
    let json = std::fs::read_to_string(folder.join("config.json"))?;
    let file = Checkpoint::open(folder.join("model.safetensors"), &Limits::default())?;
    let config = EncodecConfig::from_hugging_face(&json)?;
    let codec = Encodec::load(&file, "", config, &Device::Cpu)?;
    let bands = (0..bands.parse::<usize>()?)
        .map(|_| {
            Ok(BandConfig::from_value(
                &Value::from_json(BAND).ok_or("a defect in BAND")?,
            )?)
        })
        .collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    let model =
        MultiBandDiffusion::load(Arc::new(Made), 32_000, bands, Arc::new(codec), &Device::Cpu)?;
    let frames = (seconds.parse::<f64>()? * 32_000.0) as usize;
    let tone = |n: usize| 0.3 * (n as f32 * 0.0216).sin();
    let audio = AudioBuffer::new(vec![(0..frames).map(tone).collect()], 32_000);
    let (start, before) = (Instant::now(), usage::usage().0);
    let made = model.regenerate(&audio, 1, &Progress::new())?;
    let (cpu, peak) = usage::usage();
    let wall = start.elapsed().as_secs_f64();
    assert!(
        made.channels[0].iter().all(|x| x.is_finite()),
        "it ran away"
    );
    println!(
        "{{\"wall_s\": {wall}, \"cpu_s\": {}, \"peak_bytes\": {peak}}}",
        cpu - before
    );
    Ok(())
}

//! Our half of `encodec.py`: loads the model and input that it wrote, and encodes or decodes when told to.
//! Reads `encode`, `decode` or `quit` on each line of its input; answers with CPU and wall seconds.

#[path = "usage.rs"]
mod usage;

use std::{io::BufRead, path::Path, time::Instant};

use candle_core::{Device, Tensor};
use uncook::{
    models::checkpoint::{Checkpoint, Limits},
    regeneration::encodec::{Encodec, EncodecConfig},
};

fn cpu_seconds() -> f64 {
    usage::usage().0
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    usage::settle();
    let folder = std::env::args()
        .nth(1)
        .ok_or("usage: encodec_peer FOLDER")?;
    let folder = Path::new(&folder);
    let config =
        EncodecConfig::from_hugging_face(&std::fs::read_to_string(folder.join("config.json"))?)?;
    let file = Checkpoint::open(folder.join("model.safetensors"), &Limits::default())?;
    let encodec = Encodec::load(&file, "", config, &Device::Cpu)?;
    drop(file);
    let input = Checkpoint::open(folder.join("input.safetensors"), &Limits::default())?;
    let samples = input.shape("x").ok_or("no x")?.to_vec();
    let x = Tensor::from_vec(input.tensor_f32("x", &samples)?, samples, &Device::Cpu)?;
    println!("ready");
    let mut latents = None;
    for line in std::io::stdin().lock().lines() {
        let (cpu, wall) = (cpu_seconds(), Instant::now());
        match line?.as_str() {
            "encode" => {
                let found = encodec.encode_latents(&x)?;
                let codes = encodec.quantize(&found)?;
                println!("{} {}", cpu_seconds() - cpu, wall.elapsed().as_secs_f64());
                latents = Some((found, codes));
            }
            "decode" => {
                let (found, codes) = latents.as_ref().ok_or("encode first")?;
                let audio = encodec.decode_codes(codes)?;
                println!("{} {}", cpu_seconds() - cpu, wall.elapsed().as_secs_f64());
                let tensors = [("latents", found), ("audio", &audio), ("codes", codes)];
                let tensors: std::collections::HashMap<_, _> = tensors
                    .iter()
                    .map(|(name, t)| (*name, (*t).clone()))
                    .collect();
                candle_core::safetensors::save(&tensors, folder.join("uncook.safetensors"))?;
            }
            _ => break,
        }
    }
    println!("{}", usage::usage().1 / f64::from(1 << 20));
    Ok(())
}

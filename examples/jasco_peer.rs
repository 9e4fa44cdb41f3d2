//! Evaluates JASCO's velocity field with the sizes of the 400M model for `benches/peers/jasco.py`: THREADS OUTPUT.
//! Weights and inputs are the same hash of names and places there and here. Two terms: one that hears text and
//! conditions, one that hears nothing. Writes both velocities as float32 and prints seconds and memory as JSON.
//! `load STATE`: opens that model's state_dict.bin three times instead and prints the seconds of each. What is made of it
//! is kept in `cache` beside it, so that a first opening is one only where that folder is missing.

#[path = "../benches/peers/usage.rs"]
mod usage;

use std::{error::Error, fs, path::Path, time::Instant};

use candle_core::Device;

use uncook::{
    dense::pool::Pool,
    models::tensors::Tensors,
    regeneration::jasco::{
        JascoFiles,
        config::FlowConfig,
        flow::{Row, Rows, Session, cpu::CpuFlow},
        model::Model,
    },
};

use usage::{settle, usage};

const FRAMES: usize = 500;
const POSITIONS: usize = 16;
/// Evaluations that are measured, after one that isn't.
const RUNS: usize = 2;

/// Uniform in -1..1, from a name and a place.
fn hashed(name: &str, count: usize) -> impl Iterator<Item = f32> {
    let seed = name.bytes().fold(0x811C_9DC5_u32, |h, b| {
        (h ^ u32::from(b)).wrapping_mul(0x0100_0193)
    });
    (0..count as u32).map(move |i| {
        let mut x = i.wrapping_mul(0x9E37_79B1).wrapping_add(seed);
        x ^= x >> 16;
        x = x.wrapping_mul(0x85EB_CA6B);
        x ^= x >> 13;
        x = x.wrapping_mul(0xC2B2_AE35);
        x ^= x >> 16;
        (x >> 8) as f32 / 8_388_608.0 - 1.0
    })
}

struct Hashed;

impl Tensors for Hashed {
    fn shape(&self, _: &str) -> Option<Vec<usize>> {
        None
    }

    fn tensor_f32(&self, name: &str, expected: &[usize]) -> Result<Vec<f32>, String> {
        let count = expected.iter().product();
        let norm = name.contains("norm") && name.ends_with("weight");
        let (middle, scale) = match expected {
            [_, inputs] => (0.0, (3.0 / *inputs as f32).sqrt()),
            _ if norm => (1.0, 0.1),
            _ => (0.0, 0.1),
        };
        Ok(hashed(name, count).map(|x| middle + scale * x).collect())
    }
}

fn load(state: &Path) -> Result<(), Box<dyn Error>> {
    let folder = state.parent().ok_or("a file in a folder")?;
    for name in ["first", "second", "third"] {
        // T5 is only opened for a prompt.
        let mut files = JascoFiles::in_folders(folder, folder);
        files.copies = Some(folder.join("cache"));
        let (start, before) = (Instant::now(), usage().0);
        let model = Model::open(files, &Device::Cpu, 2)?;
        let wall = start.elapsed().as_secs_f64();
        let cpu = usage().0 - before;
        println!("{name}: {wall:.3} s, {cpu:.3} processor seconds");
        for notice in model.take_notices() {
            println!("{notice}");
        }
        drop(model);
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    settle();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [threads, output] = args.as_slice() else {
        return Err("THREADS OUTPUT, or load STATE".into());
    };
    if threads == "load" {
        return load(Path::new(output));
    }
    let config = FlowConfig {
        dim: 1024,
        heads: 16,
        layers: 24,
        hidden: 4096,
        flow_dim: 128,
        chords_dim: 16,
        drums_dim: 2,
        melody_dim: 0,
        time_dim: 128,
        time_hidden: 512,
        skips: false,
        output_bias: false,
    };
    let pool = Pool::new(threads.parse()?);
    let flow = CpuFlow::load(&Hashed, &config, &pool)?;
    let local = |name| hashed(name, FRAMES * config.local_dim()).collect();
    let rows = Rows {
        rows: vec![
            Row {
                text: true,
                local: local("all"),
            },
            Row {
                text: false,
                local: local("null"),
            },
        ],
        weights: vec![5.0, -4.0],
        text: hashed("text", POSITIONS * config.dim).collect(),
        frames: FRAMES,
    };
    let before = usage().0;
    let mut session = flow.session(&rows, &pool);
    let prepared = usage().0 - before;
    let z: Vec<f32> = hashed("z", FRAMES * config.flow_dim).collect();
    let mut out = vec![Vec::new(); 2];
    session.terms(0.37, &z, &mut out, None)?;
    let (start, before) = (Instant::now(), usage().0);
    for _ in 0..RUNS {
        session.terms(0.37, &z, &mut out, None)?;
    }
    let runs = RUNS as f64;
    let wall = start.elapsed().as_secs_f64() / runs;
    let cpu = (usage().0 - before) / runs;
    let bytes: Vec<u8> = out.concat().iter().flat_map(|x| x.to_le_bytes()).collect();
    fs::write(output, bytes)?;
    let peak = usage().1;
    println!(
        "{{\"wall_s\": {wall}, \"cpu_s\": {cpu}, \"peak_bytes\": {peak}, \"prepare_cpu_s\": {prepared}}}"
    );
    Ok(())
}

//! Runs HTDemucs over raw audio for `benches/peers/htdemucs.py`: MODEL INPUT OUTPUT THREADS. Audio is planar
//! stereo float32 at 44.1 kHz, stems one after the other. Prints seconds and memory as JSON.
//! `load MODEL`: opens that file's network three times instead and prints the seconds of each. What is made of it is
//! kept in `cache` beside it, so that a first opening is one only where that folder is missing.

#[path = "../benches/peers/usage.rs"]
mod usage;

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use uncook::{
    audio::AudioBuffer,
    separation::{
        NoShelf,
        htdemucs::{HtDemucs, Settings, file::ModelFile},
    },
    worker::progress::Progress,
};

use usage::{settle, usage};

fn load(model: &Path) -> Result<(), Box<dyn Error>> {
    let copies = model.parent().ok_or("a file in a folder")?.join("cache");
    for name in ["first", "second", "third"] {
        let (start, before) = (Instant::now(), usage().0);
        let (net, unkept) = ModelFile::open(model)?.net(Some(&copies))?;
        let wall = start.elapsed().as_secs_f64();
        let cpu = usage().0 - before;
        println!("{name}: {wall:.3} s, {cpu:.3} processor seconds");
        unkept.iter().for_each(|error| println!("{error}"));
        drop(net);
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    settle();
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [command, model] = args.as_slice()
        && command == "load"
    {
        return load(Path::new(model));
    }
    let [model, input, output, threads] = args.as_slice() else {
        return Err("MODEL INPUT OUTPUT THREADS, or load MODEL".into());
    };
    let samples: Vec<f32> = fs::read(input)?
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect();
    let (left, right) = samples.split_at(samples.len() / 2);
    let mix = AudioBuffer::new(vec![left.to_vec(), right.to_vec()], 44_100);
    let settings = Settings {
        threads: threads.parse()?,
        ..Settings::default()
    };
    let separator = HtDemucs::open("peer", &[PathBuf::from(model)], settings)?;
    // Loading happens with the first segment: measure it alone and take it off.
    let before = usage().0;
    drop(ModelFile::open(model.as_ref())?.net(None)?);
    let loading = usage().0 - before;
    let (start, before) = (Instant::now(), usage().0);
    let (stems, notes) = separator.sources_of(&mix, &NoShelf, &Progress::new())?;
    let wall = start.elapsed().as_secs_f64();
    let cpu = usage().0 - before - loading;
    for note in notes {
        eprintln!("{note}");
    }
    let bytes: Vec<u8> = stems
        .iter()
        .flat_map(|s| s.channels.iter().flatten())
        .flat_map(|x| x.to_le_bytes())
        .collect();
    let peak = usage().1;
    println!(
        "{{\"wall_s\": {wall}, \"cpu_s\": {cpu}, \"peak_bytes\": {peak}, \"loading_cpu_s\": {loading}}}"
    );
    fs::write(output, bytes)?;
    Ok(())
}

//! Runs HTDemucs over raw audio for `benches/peers/htdemucs.py`: MODEL INPUT OUTPUT THREADS. Audio is planar
//! stereo float32 at 44.1 kHz, stems one after the other. Prints seconds and memory as JSON.
//! `load MODEL`: opens that file's network three times instead and prints the seconds of each. What is made of it is
//! kept in `cache` beside it, so that a first opening is one only where that folder is missing.
//! `cancel MODEL INPUT`: cancels a second after the network has begun, five times, and prints how long it went on.

#[path = "../benches/peers/usage.rs"]
mod usage;

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
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

fn read(input: &Path) -> Result<AudioBuffer, Box<dyn Error>> {
    let samples: Vec<f32> = fs::read(input)?
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect();
    let (left, right) = samples.split_at(samples.len() / 2);
    Ok(AudioBuffer::new(
        vec![left.to_vec(), right.to_vec()],
        44_100,
    ))
}

fn cancel(model: &Path, input: &Path) -> Result<(), Box<dyn Error>> {
    let mix = read(input)?;
    for _ in 0..5 {
        let separator = HtDemucs::open("peer", &[model.to_owned()], Settings::default())?;
        // The network is opened with the first segment; the second finds it open.
        let opened = mix.slice(0, 1000);
        separator.sources_of(&opened, &NoShelf, &Progress::new())?;
        let progress = Progress::new();
        let (ended, cancelled) = thread::scope(|scope| {
            let job = scope.spawn(|| {
                let stopped = separator.sources_of(&mix, &NoShelf, &progress).is_err();
                (stopped, Instant::now())
            });
            thread::sleep(Duration::from_secs(1));
            let cancelled = Instant::now();
            progress.cancel();
            (job.join(), cancelled)
        });
        let (stopped, ended) = ended.map_err(|_| "the pass panicked")?;
        if !stopped {
            return Err("the pass ended before it was cancelled: a longer INPUT is needed".into());
        }
        println!("{:.3} s", (ended - cancelled).as_secs_f64());
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
    if let [command, model, input] = args.as_slice()
        && command == "cancel"
    {
        return cancel(Path::new(model), Path::new(input));
    }
    let [model, input, output, threads] = args.as_slice() else {
        return Err("MODEL INPUT OUTPUT THREADS, load MODEL or cancel MODEL INPUT".into());
    };
    let mix = read(Path::new(input))?;
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

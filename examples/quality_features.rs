//! Writes what the stem assessment's networks are trained on: see `models/training/overdrive/train.py`.
//!
//! `quality_features TAKES OUT [DECLICK]`: for every `TAKES/NAME.wav`, `OUT/NAME.s`: one row of little-endian f32 per 10 ms, what
//! the networks hear of the restored take and of the drums and bass separated from it without a model. Where
//! `TAKES/NAME_drums.wav` and `TAKES/NAME_bass.wav` lie beside, `OUT/NAME.t`: the same with these and the take as it
//! is. DECLICK: percent, 100 if not given; 0 is five times as fast. Takes that have been heard are left alone.

use std::{error::Error, fs, path::Path};

use uncook::{
    audio::AudioBuffer,
    damage::Stem,
    profile::quality::training_features,
    worker::{
        options::{Options, SeparatorChoice},
        pipeline::restored_and_separated,
        progress::Progress,
    },
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (takes, out, declick) = match arguments.as_slice() {
        [takes, out] => (takes, out, 100),
        [takes, out, declick] => (takes, out, declick.parse()?),
        _ => return Err("usage: quality_features TAKES OUT [DECLICK]".into()),
    };
    let (takes, out) = (Path::new(takes), Path::new(out));
    fs::create_dir_all(out)?;
    let options = Options {
        separator: SeparatorChoice::Spectral,
        declick_percent: declick,
        ..Options::default()
    };
    let mut files: Vec<_> = fs::read_dir(takes)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_, std::io::Error>>()?;
    files.sort();
    for path in files {
        let name = path.file_stem().and_then(|s| s.to_str()).unwrap_or("");
        let is_take = path.extension().is_some_and(|e| e == "wav")
            && !name.ends_with("_drums")
            && !name.ends_with("_bass");
        if !is_take || out.join(format!("{name}.s")).exists() {
            continue;
        }
        let write = |ending: &str, rows: &[f32]| {
            let bytes: Vec<u8> = rows.iter().flat_map(|x| x.to_le_bytes()).collect();
            // Whole files or none: the next run goes on where this one ends.
            let part = out.join(format!("{name}.part"));
            fs::write(&part, bytes)?;
            fs::rename(part, out.join(format!("{name}.{ending}")))
        };
        let take = AudioBuffer::read(&path)?;
        let stem = |which: &str| takes.join(format!("{name}_{which}.wav"));
        if stem("drums").exists() && stem("bass").exists() {
            let (drums, bass) = (
                AudioBuffer::read(&stem("drums"))?,
                AudioBuffer::read(&stem("bass"))?,
            );
            write("t", &training_features(&take, &drums, &bass))?;
        }
        let (base, separation) = restored_and_separated(&take, &options, None, &Progress::new())?;
        let [drums, bass] = [Stem::Drums, Stem::Bass].map(|s| &separation.stems[s as usize]);
        write("s", &training_features(&base, drums, bass))?;
    }
    Ok(())
}

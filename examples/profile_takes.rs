//! Writes the musical profile of takes for `benches/peers/musical_profile.py`, and what its parts heard.
//!
//! `profile_takes OUT SEPARATOR TAKE...`: SEPARATOR is `spectral` or `learned`. For every TAKE (NAME.wav or .flac, or
//! NAME in a folder where the file is called `mix_full`) OUT/NAME.json. The restored take and its stems are kept in
//! OUT/NAME.SEPARATOR/ and read from there the next time. Says what share of real time the profile itself took.

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use uncook::{
    audio::AudioBuffer,
    damage::Stem,
    separation::{Separator, learned::Learned, spectral::Spectral},
    worker::{
        options::{Options, SeparatorChoice},
        pipeline::{heard as profile_of, restored_and_separated},
        progress::Progress,
    },
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [out, separator, takes @ ..] = arguments.as_slice() else {
        return Err("usage: profile_takes OUT spectral|learned TAKE...".into());
    };
    let choice = match separator.as_str() {
        "spectral" => SeparatorChoice::Spectral,
        "learned" => SeparatorChoice::Learned,
        _ => return Err("the separator is spectral or learned".into()),
    };
    let out = Path::new(out);
    fs::create_dir_all(out)?;
    let (mut heard, mut took) = (0.0, 0.0);
    for take in takes.iter().map(Path::new) {
        let name = name_of(take)?;
        let kept = out.join(format!("{name}.{separator}"));
        let (base, stems) = taken_apart(take, choice, &kept)?;
        let began = Instant::now();
        let separator = match choice {
            SeparatorChoice::Spectral => Spectral.id().to_owned(),
            _ => Learned::built_in()?.id().to_owned(),
        };
        let profile = profile_of(&base, &stems, &separator, &Progress::new())?;
        took += began.elapsed().as_secs_f64();
        heard += base.seconds();
        fs::write(
            out.join(format!("{name}.json")),
            serde_json::to_vec(&profile)?,
        )?;
    }
    println!(
        "{heard:.0} s of music, the profile {:.0} times real time",
        heard / took
    );
    Ok(())
}

/// What a take's files are called.
fn name_of(take: &Path) -> Result<String, Box<dyn Error>> {
    let file = take.file_stem().and_then(|s| s.to_str()).ok_or("no name")?;
    let folder = || {
        let name = take.parent()?.file_name()?.to_str()?;
        Some(name.to_owned())
    };
    Ok(match file {
        "mix_full" => folder().ok_or("no folder")?,
        _ => file.to_owned(),
    })
}

/// The restored take and its stems.
fn taken_apart(
    take: &Path,
    separator: SeparatorChoice,
    kept: &Path,
) -> Result<(AudioBuffer, [AudioBuffer; Stem::COUNT]), Box<dyn Error>> {
    let file = |i: usize| -> PathBuf { kept.join(format!("{i}.wav")) };
    if !file(Stem::COUNT).exists() {
        let take = AudioBuffer::read(take)?;
        let options = Options {
            separator,
            ..Options::default()
        };
        let (base, separation) = restored_and_separated(&take, &options, None, &Progress::new())?;
        fs::create_dir_all(kept)?;
        for (i, audio) in separation.stems.iter().chain([&base]).enumerate() {
            audio.write_wav_f32(&file(i))?;
        }
    }
    let base = AudioBuffer::read(&file(Stem::COUNT))?;
    let mut stems = Vec::with_capacity(Stem::COUNT);
    for i in 0..Stem::COUNT {
        stems.push(AudioBuffer::read(&file(i))?);
    }
    Ok((base, stems.try_into().map_err(|_| "not all stems")?))
}

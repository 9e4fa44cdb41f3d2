//! Writes what the ears of the musical profile are trained on: see `models/training/profile/train.py`.
//!
//! `profile_features SONGS OUT [WEIGHTS]`: for every `SONGS/NAME.wav`, little-endian f32 rows. `OUT/NAME.p` and
//! `OUT/NAME.h`, what the networks for pitch and hits hear; with WEIGHTS (a file of weights) `OUT/NAME.b`, what
//! the one for the pulse hears through them.
//!
//! `profile_features --strokes SONGS OUT [SEPARATED]`: what the two ears of the network for strokes hear, every 10 ms.
//! `OUT/NAME.m` of the mix, `OUT/NAME.s` of the drums separated from it without a model, `OUT/NAME.l` of those of the
//! learned separator and, where `SONGS/NAME_drums.wav` lies beside, `OUT/NAME.t` of the true drums and `OUT/NAME.u` of
//! them with some of the mix in them, as a good separator leaves it. Beside them, as the network for pitch hears them,
//! `OUT/NAME.p` of the mix and `OUT/NAME.v` of the learned separator's vocals. SEPARATED: only that many of the songs are
//! separated, which is slow. Songs that have been heard are left alone.

use std::{error::Error, fs, path::Path};

use uncook::{
    audio::AudioBuffer,
    damage::Stem,
    profile::{pitch_features, stroke_features, training_features},
    separation::{Separator, learned::Learned, spectral::Spectral},
    worker::progress::Progress,
};

/// How much of the mix a good separator leaves in the drums, by the song's place in the list.
const LEAKS: [f32; 4] = [0.05, 0.1, 0.2, 0.4];

const USAGE: &str = "usage: profile_features SONGS OUT [WEIGHTS] | --strokes SONGS OUT [SEPARATED]";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let names: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (separated, songs, out, weights) = match names.as_slice() {
        ["--strokes", songs, out] => (Some(usize::MAX), *songs, *out, None),
        ["--strokes", songs, out, count] => (Some(count.parse()?), *songs, *out, None),
        [songs, out] => (None, *songs, *out, None),
        [songs, out, weights] => (None, *songs, *out, Some(fs::read(weights)?)),
        _ => return Err(USAGE.into()),
    };
    let (songs, out) = (Path::new(songs), Path::new(out));
    fs::create_dir_all(out)?;
    let mut files: Vec<_> = fs::read_dir(songs)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_, std::io::Error>>()?;
    files.sort();
    let mut count = 0;
    for path in files {
        let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or("");
        let is_song = path.extension().is_some_and(|e| e == "wav") && !stem.ends_with("_drums");
        if !is_song {
            continue;
        }
        count += 1;
        let wants_separated = separated.is_some_and(|most| count <= most);
        let last = if wants_separated { "l" } else { "m" };
        if separated.is_some() && out.join(format!("{stem}.{last}")).exists() {
            continue;
        }
        let write = |ending: &str, rows: &[f32]| {
            let bytes: Vec<u8> = rows.iter().flat_map(|x| x.to_le_bytes()).collect();
            fs::write(out.join(format!("{stem}.{ending}")), bytes)
        };
        let mix = AudioBuffer::read(&path)?;
        if separated.is_none() {
            let [p, h, b] = training_features(&mix, weights.as_deref()).ok_or("no features")?;
            write("p", &p)?;
            write("h", &h)?;
            if weights.is_some() {
                write("b", &b)?;
            }
            continue;
        }
        let hear = |parts: &[(&AudioBuffer, f32)]| stroke_features(parts).ok_or("no features");
        write("m", &hear(&[(&mix, 1.0)])?)?;
        let drums = songs.join(format!("{stem}_drums.wav"));
        if drums.exists() {
            let drums = AudioBuffer::read(&drums)?;
            write("t", &hear(&[(&drums, 1.0)])?)?;
            write(
                "u",
                &hear(&[(&drums, 1.0), (&mix, LEAKS[count % LEAKS.len()])])?,
            )?;
        }
        if !wants_separated {
            continue;
        }
        let progress = Progress::new();
        let stems = Spectral.separate(&mix, &progress)?;
        write("s", &hear(&[(&stems[Stem::Drums as usize], 1.0)])?)?;
        let stems = Learned::built_in()?.beside(&mix, &stems, &progress)?;
        let lead = &stems[Stem::Vocals as usize];
        let [p, v] = pitch_features([&mix, lead]).ok_or("no features")?;
        write("p", &p)?;
        write("v", &v)?;
        write("l", &hear(&[(&stems[Stem::Drums as usize], 1.0)])?)?;
    }
    Ok(())
}

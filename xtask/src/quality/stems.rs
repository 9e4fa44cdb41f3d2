// [cli] How well the model-free separator takes a clean mix apart.

use anyhow::Result;
use uncook::{
    audio::AudioBuffer,
    damage::Stem,
    metrics::distance::si_sdr_db,
    separation::{Separator, spectral::Spectral},
    worker::progress::Progress,
};

use super::{Song, Table};
use crate::screenshots::cpu_seconds;

/// SI-SDR of each stem's mono mean, and what of that the mix itself has; seconds of music in a second of one core.
pub fn separation(song: &Song, table: &mut Table) -> Result<()> {
    if !table.wants("separation") {
        return Ok(());
    }
    let before = cpu_seconds()?;
    let stems = Spectral.separate(&song.mix, &Progress::new())?;
    let seconds = cpu_seconds()? - before;
    let mix = song.mix.mono();
    for (stem, separated) in Stem::ALL.into_iter().zip(&stems) {
        let name = stem.name();
        let truth = AudioBuffer::read(&song.folder.join(format!("{name}.flac")))?.mono();
        for (row, heard) in [
            (format!("separation, {name}"), separated.mono()),
            (format!("separation, {name}, the mix itself"), mix.clone()),
        ] {
            table.add(
                &song.name,
                &row,
                "dB SI-SDR",
                [si_sdr_db(&truth, &heard), None],
            );
        }
    }
    let length = song.mix.frames() as f64 / f64::from(song.mix.sample_rate);
    let row = "separation, speed";
    table.add(
        &song.name,
        row,
        "× real time",
        [Some(length / seconds), None],
    );
    Ok(())
}

// [cli] How well the separators that are built in take a clean mix apart.

use anyhow::Result;
use uncook::{
    audio::AudioBuffer,
    damage::Stem,
    metrics::distance::si_sdr_db,
    separation::{Separator, learned::Learned, spectral::Spectral},
    worker::progress::Progress,
};

use super::{Song, Table};
use crate::screenshots::cpu_seconds;

/// SI-SDR of each stem's mono mean, and what of that the mix itself has; seconds of music in a second of one core.
pub fn separation(song: &Song, table: &mut Table) -> Result<()> {
    if !table.wants("separation") {
        return Ok(());
    }
    let mix = song.mix.mono();
    let mut add = |row: String, unit, value| table.add(&song.name, &row, unit, [value, None]);
    let truth = |stem: Stem| AudioBuffer::read(&song.folder.join(format!("{}.flac", stem.name())));
    let truths = Stem::ALL
        .into_iter()
        .map(|stem| Ok((stem, truth(stem)?.mono())))
        .collect::<Result<Vec<_>>>()?;
    let learned = Learned::built_in()?;
    for (by, separator) in [("", &Spectral as &dyn Separator), (", learned", &learned)] {
        let before = cpu_seconds()?;
        let stems = separator.separate(&song.mix, &Progress::new())?;
        let seconds = cpu_seconds()? - before;
        for ((stem, truth), separated) in truths.iter().zip(&stems) {
            let score = si_sdr_db(truth, &separated.mono());
            add(
                format!("separation{by}, {}", stem.name()),
                "dB SI-SDR",
                score,
            );
        }
        let length = song.mix.frames() as f64 / f64::from(song.mix.sample_rate);
        let speed = Some(length / seconds);
        add(format!("separation{by}, speed"), "× real time", speed);
    }
    for (stem, truth) in &truths {
        let row = format!("separation, {}, the mix itself", stem.name());
        add(row, "dB SI-SDR", si_sdr_db(truth, &mix));
    }
    Ok(())
}

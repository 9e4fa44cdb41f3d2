// [worker] A network with its threads: the passes that make a piece of the result, and what stands in for a failed one.

use std::path::Path;

use candle_core::Device;

use super::{
    ModelError, Signal,
    device::DeviceNet,
    file::ModelFile,
    grid::{Chunk, Grid},
    net::{Net, Workspace},
    work::{Context, Scratch},
};
use crate::{
    audio::AudioBuffer,
    damage::Stem,
    dense::{
        device::failed,
        pool::{PerWorker, Pool},
    },
    separation::{SeparationError, Separator, spectral::Spectral},
    worker::progress::Progress,
};

/// What a piece is made from.
pub struct Task<'a> {
    pub grid: &'a Grid,
    pub piece: usize,
    /// The part of the normalised signal that it hears, and the signal's sample at which that begins.
    pub heard: Vec<&'a [f32]>,
    pub from: usize,
    pub rate: u32,
    pub deviation: f32,
    /// The sources to be kept.
    pub wanted: &'a [usize],
    pub sources: &'a [String],
}

/// A network that is loaded when it is first needed, with its threads and its workspace.
pub struct Engine<'a> {
    file: &'a ModelFile,
    /// Where copies are kept that open at once.
    copies: Option<&'a Path>,
    /// None once it has failed.
    device: Option<Device>,
    on_device: Option<Box<DeviceNet>>,
    on_processor: Option<(Box<Net>, Option<Workspace>)>,
    threads: usize,
    /// Not started where every piece lies on the shelf.
    pool: Option<(Pool, PerWorker<Scratch>)>,
}

impl<'a> Engine<'a> {
    pub const fn new(
        file: &'a ModelFile,
        copies: Option<&'a Path>,
        threads: usize,
        device: Option<Device>,
    ) -> Self {
        Self {
            file,
            copies,
            device,
            on_device: None,
            on_processor: None,
            threads,
            pool: None,
        }
    }

    /// All sources of what one pass hears.
    fn pass(
        &mut self,
        heard: &Signal,
        progress: &Progress,
        notes: &mut Vec<String>,
    ) -> Result<Vec<Signal>, ModelError> {
        let cancelled = || progress.is_cancelled();
        let (pool, scratch) = self.pool.get_or_insert_with(|| {
            let pool = Pool::new(self.threads);
            let scratch = PerWorker::new(pool.threads(), Scratch::default);
            (pool, scratch)
        });
        let context = Context {
            pool,
            cancelled: &cancelled,
            scratch,
        };
        let hyper = &self.file.hyper;
        if let Some(device) = &self.device {
            let net = match self.on_device.take() {
                Some(net) => Ok(net),
                None => DeviceNet::load(self.file, hyper.clone(), device).map(Box::new),
            };
            let result = net.and_then(|net| {
                let result = net.forward(heard, &context, None);
                self.on_device = Some(net);
                result
            });
            match result {
                Err(ModelError::Device(reason)) => {
                    notes.push(failed(device, &reason));
                    (self.device, self.on_device) = (None, None);
                }
                result => return result,
            }
        }
        let samples = heard.first().map_or(0, Vec::len);
        let (net, work) = match &mut self.on_processor {
            Some(loaded) => loaded,
            none => {
                let (net, unkept) = self.file.net(self.copies)?;
                notes.extend(unkept.map(|error| {
                    format!("the model's copy, which opens faster, can't be kept: {error}")
                }));
                none.insert((Box::new(net), None))
            }
        };
        // What hears short signals as they are needs another workspace for each length.
        if net.hyper().segment_samples != samples {
            net.set_segment(samples);
            *work = None;
        }
        let work = match work {
            Some(work) => work,
            none => none.insert(net.workspace()?),
        };
        net.forward(heard, work, &context, None)
    }

    /// The weighted sums of a piece's chunks, one buffer a wanted source, and whether the network gave all
    /// of them.
    pub fn piece(
        &mut self,
        task: &Task<'_>,
        progress: &Progress,
        notes: &mut Vec<String>,
    ) -> Result<(Vec<AudioBuffer>, bool), SeparationError> {
        let (start, span) = task.grid.span(task.piece);
        let channels = task.heard.len();
        let mut sums: Vec<Signal> = vec![vec![vec![0.0; span]; channels]; task.wanted.len()];
        let mut whole = true;
        let count = task.grid.piece(task.piece).count() as f64;
        for (i, chunk) in task.grid.piece(task.piece).enumerate() {
            let here = Chunk {
                heard: chunk.heard - task.from as isize,
                ..chunk
            };
            let heard: Signal = (task.heard.iter())
                .map(|c| task.grid.cut(c, &here))
                .collect();
            let result = match usable(self.pass(&heard, progress, notes))? {
                Ok(result) => result,
                Err(reason) => {
                    whole = false;
                    let from = chunk.offset as f64 / f64::from(task.rate);
                    let to = (chunk.offset + chunk.len) as f64 / f64::from(task.rate);
                    notes.push(format!(
                        "{reason} from {from:.1} to {to:.1} s: separated by {} there",
                        Spectral.id()
                    ));
                    stand_in(task, &heard, progress)?
                }
            };
            for (sums, source) in sums.iter_mut().zip(task.wanted) {
                for (sums, result) in sums.iter_mut().zip(&result[*source]) {
                    task.grid.add(&chunk, result, start, sums);
                }
            }
            progress.report((i + 1) as f64 / count);
        }
        let buffers = sums
            .into_iter()
            .map(|channels| AudioBuffer::new(channels, task.rate))
            .collect();
        Ok((buffers, whole))
    }
}

/// A pass's result, or why another separator has to stand in for it; what ends the job stays an error.
fn usable(
    pass: Result<Vec<Signal>, ModelError>,
) -> Result<Result<Vec<Signal>, String>, ModelError> {
    match pass {
        Ok(result) if result.iter().flatten().flatten().all(|x| x.is_finite()) => Ok(Ok(result)),
        Ok(_) => Ok(Err("the model gave no numbers".to_owned())),
        Err(ModelError::Memory { bytes }) => Ok(Err(format!(
            "the model found no {} MB of memory",
            bytes.div_ceil(1 << 20)
        ))),
        Err(error) => Err(error),
    }
}

/// The model-free separator's stems of a chunk, in the model's order; what it doesn't know is silent.
fn stand_in(
    task: &Task<'_>,
    heard: &Signal,
    progress: &Progress,
) -> Result<Vec<Signal>, SeparationError> {
    let scaled = heard
        .iter()
        .map(|c| c.iter().map(|x| x * task.deviation).collect())
        .collect();
    let stems = Spectral.separate(&AudioBuffer::new(scaled, task.rate), progress)?;
    Ok(task
        .sources
        .iter()
        .map(
            |name| match Stem::ALL.into_iter().find(|s| s.name() == name) {
                Some(stem) => stems[stem as usize]
                    .channels
                    .iter()
                    .map(|c| c.iter().map(|x| x / task.deviation).collect())
                    .collect(),
                None => vec![vec![0.0; heard[0].len()]; heard.len()],
            },
        )
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_without_result_is_stood_in_for_or_ends_the_job() {
        let sound = vec![vec![vec![0.5f32; 4]; 2]; 4];
        assert_eq!(usable(Ok(sound.clone())), Ok(Ok(sound.clone())));
        let mut broken = sound;
        broken[2][1][3] = f32::NAN;
        assert!(
            usable(Ok(broken))
                .unwrap()
                .unwrap_err()
                .contains("no numbers")
        );
        let bytes = 3 << 20;
        let reason = usable(Err(ModelError::Memory { bytes }))
            .unwrap()
            .unwrap_err();
        assert!(reason.contains("no 3 MB of memory"), "{reason}");
        let cancelled = usable(Err(ModelError::Cancelled));
        assert_eq!(cancelled, Err(ModelError::Cancelled));
    }
}

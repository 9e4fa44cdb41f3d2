// [worker] JASCO's files and networks: opened together, and used together.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use candle_core::{DType, Device, Tensor};

use super::{
    JascoError,
    conditions::{Conditioner, Conditions, Guidance},
    config::{CODEC_PREFIX, ModelConfig},
    flow::{Guided, Session, cpu::CpuFlow, device::DeviceFlow},
    inpaint::{Gauss, Hole, Sampler, inpaint},
    text::{
        Tokenizer,
        t5::{T5, T5Config},
    },
    weights,
};
use crate::{
    dense::pool::Pool,
    models::{
        checkpoint::{Checkpoint, Limits},
        tensors::{self, Stored, Tensors},
    },
    regeneration::encodec::{Encodec, EncodecConfig, PadMode},
    worker::progress::Progress,
};

/// Where the model's files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JascoFiles {
    /// The model.
    pub state: PathBuf,
    /// What the model says about its codec; may be absent, since the codec is in the model's own file.
    pub codec: Option<PathBuf>,
    /// T5's encoder, its configuration and its tokenizer.
    pub text: PathBuf,
    pub text_config: PathBuf,
    pub tokenizer: PathBuf,
    /// Where to keep a copy of the model that opens at once; `None` for nowhere.
    pub copies: Option<PathBuf>,
}

impl JascoFiles {
    /// The files under their published names in the model's and T5's folders.
    pub fn in_folders(model: &Path, text: &Path) -> Self {
        let codec = model.join("compression_state_dict.bin");
        Self {
            state: model.join("state_dict.bin"),
            codec: codec.is_file().then_some(codec),
            text: text.join("model.safetensors"),
            text_config: text.join("config.json"),
            tokenizer: text.join("tokenizer.json"),
            copies: None,
        }
    }
}

/// Where the tensors are in the model's file.
const STATE_PREFIX: &str = "best_state.";
/// The codec that a pointer may name.
const CODEC_NAME: &str = "facebook/encodec_32khz";
/// The configuration in the model's file.
const XP: &str = "xp.cfg";
/// What is made of the model's file, to be raised with what [`CpuFlow`], [`Conditioner`] and the codec ask it for, or
/// with how layers are packed.
const FORM: &str = "jasco-2";

/// The flow transformer where it runs.
enum Engine {
    Cpu(CpuFlow),
    Device(DeviceFlow),
}

/// The networks.
pub struct Model {
    files: JascoFiles,
    pub config: ModelConfig,
    pub conditioner: Conditioner,
    codec: Encodec,
    engine: Mutex<Engine>,
    pool: Pool,
    /// The last prompt and how the transformer hears it: T5 is only in memory while it reads.
    heard: Mutex<Option<(String, Vec<f32>)>>,
    notices: Mutex<Vec<String>>,
}

impl Model {
    /// Opens a model for `device`. If that has no room for it, the processor takes over with a notice. For the
    /// processor, the first opening keeps a copy that is mapped from then on (see [`JascoFiles::copies`]); where that
    /// can't be written, a notice says so.
    ///
    /// # Errors
    /// If a file is missing or damaged, is another model's, or lacks tensors; the message names them.
    pub fn open(files: JascoFiles, device: &Device, threads: usize) -> Result<Self, JascoError> {
        // What a graphics processor gets is copied there anyway.
        let folder = files.copies.as_deref().filter(|_| device.is_cpu());
        let pool = Pool::new(threads.max(1));
        let keeping = folder.map(|folder| (folder, FORM));
        let (networks, unkept) = tensors::open(&files.state, STATE_PREFIX, keeping, |source| {
            Networks::load(source, files.codec.as_deref(), device, &pool)
        })?;
        let Networks {
            config,
            conditioner,
            codec,
            engine,
            mut notices,
        } = networks;
        notices.extend(unkept.map(|error| {
            format!(
                "JASCO takes seconds longer to open each time, since what is made of its file can't be kept: {error}"
            )
        }));
        Ok(Self {
            files,
            config,
            conditioner,
            codec,
            engine: Mutex::new(engine),
            pool,
            heard: Mutex::new(None),
            notices: Mutex::new(notices),
        })
    }

    /// Whether the transformer runs on a graphics processor.
    pub fn on_device(&self) -> bool {
        matches!(*lock(&self.engine), Engine::Device(_))
    }

    /// What the user should know: where the processor took over. Empties the list.
    pub fn take_notices(&self) -> Vec<String> {
        let mut all = std::mem::take(&mut *lock(&self.notices));
        all.extend(self.codec.take_notices());
        all
    }

    /// A prompt as the transformer hears it; empty for no words.
    ///
    /// # Errors
    /// If T5's files are missing or damaged.
    pub fn hear(&self, prompt: &str) -> Result<Vec<f32>, JascoError> {
        if prompt.is_empty() {
            return Ok(Vec::new());
        }
        let mut heard = lock(&self.heard);
        if let Some((words, text)) = heard.as_ref().filter(|(words, _)| words == prompt) {
            let _ = words;
            return Ok(text.clone());
        }
        let ids = Tokenizer::open(&self.files.tokenizer)?.encode(prompt)?;
        let json = read_text(&self.files.text_config)?;
        let checkpoint = Checkpoint::open(&self.files.text, &Limits::default())?;
        let source = Stored {
            checkpoint: &checkpoint,
            prefix: "",
        };
        let t5 = T5::load(&source, T5Config::parse(&json)?)?;
        if t5.width() != self.config.text_dim {
            return Err(JascoError::Config {
                key: "T5's config.json",
                reason: format!(
                    "it makes {} channels, the model reads {}",
                    t5.width(),
                    self.config.text_dim
                ),
            });
        }
        let text = self.conditioner.text(&t5.encode(&ids, None, &self.pool)?);
        *heard = Some((prompt.to_owned(), text.clone()));
        Ok(text)
    }

    /// Mono audio at the model's rate, ±1, to normalised latents `[frames][flow_dim]`.
    ///
    /// # Errors
    /// The codec's.
    pub fn encode(&self, audio: &[f32]) -> Result<Vec<f32>, JascoError> {
        let mut latents = self.encode_raw(audio)?;
        let (mean, std) = (self.config.latent_mean, self.config.latent_std);
        for x in &mut latents {
            *x = (*x - mean) / std;
        }
        Ok(latents)
    }

    /// The same as the codec gives them.
    ///
    /// # Errors
    /// The codec's.
    pub fn encode_raw(&self, audio: &[f32]) -> Result<Vec<f32>, JascoError> {
        let audio = Tensor::from_slice(audio, (1, 1, audio.len()), &Device::Cpu)?;
        let latents = self.codec.encode_latents(&audio)?;
        Ok(latents
            .get(0)?
            .t()?
            .contiguous()?
            .flatten_all()?
            .to_vec1()?)
    }

    /// Normalised latents `[frames][flow_dim]` to mono audio at the model's rate, not clipped.
    ///
    /// # Errors
    /// The codec's.
    pub fn decode(&self, latents: &[f32]) -> Result<Vec<f32>, JascoError> {
        let width = self.config.flow.flow_dim;
        let (mean, std) = (self.config.latent_mean, self.config.latent_std);
        let raw: Vec<f32> = latents.iter().map(|x| x * std + mean).collect();
        let raw = Tensor::from_vec(raw, (1, latents.len() / width, width), &Device::Cpu)?;
        let audio = self
            .codec
            .decode_latents(&raw.transpose(1, 2)?.contiguous()?)?;
        Ok(audio.flatten_all()?.to_vec1()?)
    }

    /// Latents of one window with its hole filled. Without a hole to keep anything around (a mask of ones) it is a
    /// free generation.
    ///
    /// # Errors
    /// [`JascoError::Cancelled`] within one layer of an evaluation; [`JascoError::Diverged`].
    pub fn fill(&self, task: &Task<'_>, progress: &Progress) -> Result<Vec<f32>, JascoError> {
        let mut engine = lock(&self.engine);
        match self.fill_on(&engine, task, progress) {
            Err(JascoError::Device(error)) if matches!(*engine, Engine::Device(_)) => {
                lock(&self.notices).push(format!(
                    "The graphics processor gave up ({error}); the model runs on the processor now, which is slower"
                ));
                let checkpoint = Checkpoint::open(&self.files.state, &Limits::default())?;
                let source = Stored {
                    checkpoint: &checkpoint,
                    prefix: STATE_PREFIX,
                };
                *engine = Engine::Cpu(CpuFlow::load(&source, &self.config.flow, &self.pool)?);
                self.fill_on(&engine, task, progress)
            }
            other => other,
        }
    }

    fn fill_on(
        &self,
        engine: &Engine,
        task: &Task<'_>,
        progress: &Progress,
    ) -> Result<Vec<f32>, JascoError> {
        let rows = self
            .conditioner
            .rows(task.given, task.guidance, task.parity);
        let session: Box<dyn Session + '_> = match engine {
            Engine::Cpu(flow) => Box::new(flow.session(&rows, &self.pool).watching(progress)),
            Engine::Device(flow) => Box::new(flow.session(&rows)?),
        };
        let width = self.config.flow.flow_dim;
        let evaluations = task.sampler.evaluations();
        let mut field = Guided::new(session, &rows, width, progress, evaluations);
        let mut noise = Gauss::new(task.seed);
        inpaint(&mut field, task.hole, task.sampler, &mut noise)
    }
}

/// What is made of the model's file.
struct Networks {
    config: ModelConfig,
    conditioner: Conditioner,
    codec: Encodec,
    engine: Engine,
    notices: Vec<String>,
}

impl Networks {
    /// `codec`: where the model's folder says which codec it has.
    fn load(
        source: &dyn Tensors,
        codec: Option<&Path>,
        device: &Device,
        pool: &Pool,
    ) -> Result<Self, JascoError> {
        let xp = source.text(XP).ok_or(JascoError::Config {
            key: XP,
            reason: "it is not in the file: this is not a JASCO model".into(),
        })?;
        let config = ModelConfig::read(source, &xp)?;
        weights::check(source, &config.needed())?;
        if let Some(path) = codec {
            let pointer = Checkpoint::open(path, &Limits::default())?;
            let name = pointer.value("pretrained").and_then(|v| v.as_str());
            if let Some(name) = name.filter(|n| *n != CODEC_NAME) {
                return Err(JascoError::Config {
                    key: "compression_state_dict.bin",
                    reason: format!("the codec {name} is not supported, only {CODEC_NAME}"),
                });
            }
        }
        let rate = config.sample_rate;
        let shapes = EncodecConfig::from_shapes(source, CODEC_PREFIX, rate, PadMode::Reflect)?;
        let codec = Encodec::load(source, CODEC_PREFIX, shapes, device)?;
        if codec.hop() != config.hop() || codec.channels() != 1 {
            return Err(JascoError::Config {
                key: "compression_model_framerate",
                reason: format!(
                    "{} samples a frame, the codec makes {} in {} channels",
                    config.hop(),
                    codec.hop(),
                    codec.channels()
                ),
            });
        }
        let mut notices = Vec::new();
        let engine = engine(source, &config, device, pool, &mut notices)?;
        Ok(Self {
            conditioner: Conditioner::load(source, &config)?,
            config,
            codec,
            engine,
            notices,
        })
    }
}

/// What is to be generated.
pub struct Task<'a> {
    pub given: &'a Conditions,
    pub guidance: Guidance,
    /// With the reference's quirks in the guidance.
    pub parity: bool,
    pub hole: &'a Hole<'a>,
    pub sampler: &'a Sampler,
    pub seed: u64,
}

/// The transformer on `device`, else on the processor.
fn engine(
    source: &dyn Tensors,
    config: &ModelConfig,
    device: &Device,
    pool: &Pool,
    notices: &mut Vec<String>,
) -> Result<Engine, JascoError> {
    if !device.is_cpu() {
        match DeviceFlow::load(source, &config.flow, device, DType::F32) {
            Ok(flow) => return Ok(Engine::Device(flow)),
            Err(JascoError::Device(error)) => notices.push(format!(
                "The graphics processor can't take the model ({error}); it runs on the processor, which is slower"
            )),
            Err(error) => return Err(error),
        }
    }
    Ok(Engine::Cpu(CpuFlow::load(source, &config.flow, pool)?))
}

fn read_text(path: &Path) -> Result<String, JascoError> {
    std::fs::read_to_string(path).map_err(|e| JascoError::File {
        path: path.to_owned(),
        reason: e.to_string(),
    })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// [worker] JASCO as a regenerator: fills the damaged spans of a stem.

use std::{ops::Range, sync::Arc};

use super::{
    JascoError, chords,
    conditions::{Conditions, Guidance},
    inpaint::{Hole, Sampler, mask},
    melody,
    model::{JascoFiles, Model, Task},
    prompt::prompt,
    windows::{self, CONTEXT_SECONDS, Window},
};
use crate::{
    audio::AudioBuffer,
    damage::Stem,
    dense::device::best_device,
    regeneration::{
        MARGIN_SECONDS, RegenerationError, Regenerator, Request,
        multiband_diffusion::{MbdError, MultiBandDiffusion},
        rank,
        resynthesis::{Random, Resynthesis, Span, padded_spans, region_spans},
    },
    separation::Separator,
    worker::progress::Progress,
};

/// Frames beside a damaged span that are filled too: the codec's convolutions reach 4.3 frames.
const GUARD_FRAMES: usize = 5;
/// Frames over which what is filled passes into what is kept.
const RAMP_FRAMES: usize = 2;
/// Seconds over which two windows pass into each other.
const SEAM_SECONDS: f64 = 0.020;
/// Damage below this severity is mild: the damaged sound still tells rhythm and pitch.
const MILD_SEVERITY: f32 = 0.75;
/// Where a mild hole starts on the way from noise.
const MILD_START: f32 = 0.4;

/// Share of a window's time that its tries take where MultiBand Diffusion decodes, for the progress: about 8 to 12 of
/// 24 minutes of one processor core at full size, for 10 s.
const TRIES_SHARE: f64 = 0.4;

/// How stems are generated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    pub guidance: Guidance,
    pub sampler: Sampler,
    /// Seeds that are tried for each window; what agrees best with the profile is taken.
    pub candidates: usize,
    /// With the reference's quirks in the guidance.
    pub parity: bool,
}

impl Settings {
    /// 32 steps: on the Gaussian flow whose answer is known, the jump at the border falls with the number of
    /// evaluations from 0.56 (10) over 0.51 (16) and 0.44 (25) to 0.43 (32) and 0.42 (50), where 0.37 is exact, and the
    /// mean's error from 0.45 over 0.39 and 0.32 to 0.30 and 0.26. Steps that are denser at either end, and fewer
    /// steps done twice, were no better at any cost. The time that is saved goes into a second try, of which the
    /// better is taken. The weights are those that the model's authors give; models with melody also listen to the
    /// text alone, a third term.
    pub fn new(has_melody: bool) -> Self {
        Self {
            guidance: if has_melody {
                Guidance {
                    all: 1.75,
                    text: 3.5,
                }
            } else {
                Guidance {
                    all: 5.0,
                    text: 0.0,
                }
            },
            sampler: Sampler {
                steps: 32,
                renoise: 0.6,
                travel: 1,
                start: 0.0,
            },
            candidates: 2,
            parity: false,
        }
    }
}

/// Rebuilds stems with JASCO.
pub struct Jasco {
    model: Model,
    separator: Box<dyn Separator>,
    /// Decodes what was chosen, in place of the codec's own decoder.
    diffusion: Option<Arc<MultiBandDiffusion>>,
    pub settings: Settings,
}

impl Jasco {
    /// Opens the model on the best device that this build and machine have. `separator` takes the drums out of the
    /// mix for the model to hear, and everything but the wanted stem out of what it makes.
    ///
    /// # Errors
    /// See [`Model::open`].
    pub fn open(files: JascoFiles, separator: Box<dyn Separator>) -> Result<Self, JascoError> {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        let model = Model::open(files, &best_device(), threads)?;
        let settings = Settings::new(model.config.melody_rows > 0);
        Ok(Self {
            model,
            separator,
            diffusion: None,
            settings,
        })
    }

    /// With MultiBand Diffusion as the decoder: what was generated is coded, and made anew from its codes (the
    /// reference's `regenerate`). Tries are still compared as the codec decodes them.
    #[must_use]
    pub fn with_diffusion(mut self, diffusion: Arc<MultiBandDiffusion>) -> Self {
        self.diffusion = Some(diffusion);
        self
    }

    /// The rebuilt stem, mono at the model's rate, and the holes that were filled, in frames.
    fn generate(
        &self,
        request: &Request<'_>,
        twin: Option<&AudioBuffer>,
        progress: &Progress,
    ) -> Result<Option<Vec<f32>>, JascoError> {
        let config = &self.model.config;
        let (rate, hop) = (config.sample_rate, config.hop());
        let stem = mono_at(request.separated, rate);
        let total = stem.len().div_ceil(hop);
        let frame = |seconds: f64| (seconds * config.frame_rate).max(0.0);
        let mut holes: Vec<Range<usize>> = Vec::new();
        let spans = region_spans(request, request.separated.frames());
        let own_rate = f64::from(request.separated.sample_rate.max(1));
        for span in &spans {
            let first = frame(span.start as f64 / own_rate) as usize;
            let end = frame(span.end as f64 / own_rate).ceil() as usize;
            let hole = first.saturating_sub(GUARD_FRAMES)..(end + GUARD_FRAMES).min(total);
            match holes.last_mut() {
                Some(last) if hole.start <= last.end => last.end = last.end.max(hole.end),
                _ => holes.push(hole),
            }
        }
        let length = config.frames();
        let context = frame(CONTEXT_SECONDS) as usize;
        // A model with short windows gives what context it can.
        let plan = windows::plan(&holes, total, length, context.min(length / 3));
        if plan.is_empty() {
            return Ok(None);
        }
        let prompt = prompt(request.stem, request.style, request.profile);
        let mut job = Job {
            jasco: self,
            request,
            text: self.model.hear(&prompt)?,
            calm: without(&stem, request, rate),
            twin: twin.map(|t| mono_at(t, rate)),
            stem,
            made: vec![0.0; total * config.flow.flow_dim],
            is_made: vec![false; total],
            is_hole: (0..total)
                .map(|f| holes.iter().any(|h| h.contains(&f)))
                .collect(),
            out: vec![0.0; total * hop],
            weight: vec![0.0; total * hop],
        };
        let share = 1.0 / plan.len() as f64;
        for (i, window) in plan.iter().enumerate() {
            let part = progress.part(i as f64 * share, (i + 1) as f64 * share);
            job.fill(i, window, &part)?;
        }
        let out = job.out.iter().zip(&job.weight);
        Ok(Some(
            out.map(|(x, w)| if *w > 0.0 { x / w } else { 0.0 })
                .collect(),
        ))
    }
}

/// One request on its way.
struct Job<'a> {
    jasco: &'a Jasco,
    request: &'a Request<'a>,
    /// The prompt as the transformer hears it.
    text: Vec<f32>,
    /// The stem, mono at the model's rate, as it is and with silence for what is damaged.
    stem: Vec<f32>,
    calm: Vec<f32>,
    /// What the model-free regenerator makes of it.
    twin: Option<Vec<f32>>,
    /// Filled latents `[frames][flow_dim]`.
    made: Vec<f32>,
    is_made: Vec<bool>,
    is_hole: Vec<bool>,
    /// Weighed sum of the windows' audio, and the weights.
    out: Vec<f32>,
    weight: Vec<f32>,
}

impl Job<'_> {
    fn fill(
        &mut self,
        index: usize,
        window: &Window,
        progress: &Progress,
    ) -> Result<(), JascoError> {
        let jasco = self.jasco;
        let (model, settings) = (&jasco.model, &jasco.settings);
        let config = &model.config;
        let (length, width) = (config.frames(), config.flow.flow_dim);
        let mut sampler = settings.sampler;
        let mild = self.severity(window) < MILD_SEVERITY;
        if mild {
            sampler.start = sampler.start.max(MILD_START);
        }
        let mut known = model.encode(&self.cut(&self.calm, window))?;
        known.resize(length * width, 0.0);
        if mild {
            let damaged = model.encode(&self.cut(&self.stem, window))?;
            for f in window.fill.iter().flat_map(Clone::clone) {
                let at = (f - window.start) * width;
                known[at..at + width].copy_from_slice(&damaged[at..at + width]);
            }
        }
        for f in (0..length).filter(|f| self.is_made.get(window.start + f) == Some(&true)) {
            let from = &self.made[(window.start + f) * width..][..width];
            known[f * width..][..width].copy_from_slice(from);
        }
        let mut filled = vec![0.0f32; length];
        for part in &window.fill {
            let (first, end) = (part.start - window.start, part.end - window.start);
            let one = mask(length, first, end, RAMP_FRAMES);
            filled.iter_mut().zip(one).for_each(|(f, m)| *f = f.max(m));
        }
        let given = self.conditions(window, progress)?;
        let (progress, polish) = match jasco.diffusion {
            Some(_) => (
                &progress.part(0.0, TRIES_SHARE),
                progress.part(TRIES_SHARE, 1.0),
            ),
            None => (progress, progress.part(1.0, 1.0)),
        };
        let hole = Hole {
            known: &known,
            mask: &filled,
        };
        let candidates = settings.candidates.max(1);
        let mut best: Option<(f64, Vec<f32>, Vec<f32>)> = None;
        for candidate in 0..candidates {
            let from = candidate as f64 / candidates as f64;
            let part = progress.part(from, from + 1.0 / candidates as f64);
            let task = Task {
                given: &given,
                guidance: settings.guidance,
                parity: settings.parity,
                hole: &hole,
                sampler: &sampler,
                seed: self.seed(index, candidate),
            };
            let latents = model.fill(&task, &part)?;
            let audio = self.only_stem(model.decode(&latents)?, &part)?;
            let score = self.agreement(window, &audio);
            if best.as_ref().is_none_or(|(most, ..)| score > *most) {
                best = Some((score, latents, audio));
            }
        }
        if let Some((_, latents, mut audio)) = best {
            if let Some(diffusion) = &jasco.diffusion {
                let decoded = AudioBuffer::new(vec![model.decode(&latents)?], config.sample_rate);
                let made = diffusion
                    .regenerate_levelled(&decoded, self.seed(index, candidates), &polish)
                    .map_err(|e| match e {
                        MbdError::Cancelled => JascoError::Cancelled,
                        e => JascoError::Diffusion(Box::new(e)),
                    })?;
                // Silence has nothing to be made anew.
                if let Some(made) = made {
                    audio = self.only_stem(made.mono(), &polish)?;
                }
            }
            self.keep(window, &latents, &audio);
        }
        Ok(())
    }

    /// Samples of a window, with silence past the end.
    fn cut(&self, audio: &[f32], window: &Window) -> Vec<f32> {
        let config = &self.jasco.model.config;
        let (hop, length) = (config.hop(), config.frames());
        let first = (window.start * hop).min(audio.len());
        let mut part = audio[first..(first + length * hop).min(audio.len())].to_vec();
        part.resize(length * hop, 0.0);
        part
    }

    /// Worst severity of the regions that a window fills.
    fn severity(&self, window: &Window) -> f32 {
        let rate = self.jasco.model.config.frame_rate;
        let first = window.fill.first().map_or(0.0, |f| f.start as f64 / rate);
        let end = window.fill.last().map_or(0.0, |f| f.end as f64 / rate);
        let regions = self.request.regions.iter();
        regions
            .filter(|r| r.start < end && r.end > first)
            .map(|r| r.severity)
            .fold(0.0, f32::max)
    }

    fn seed(&self, window: usize, candidate: usize) -> u64 {
        let mut random = Random(self.request.seed);
        let own = random.next_u64() ^ ((window as u64) << 32) ^ candidate as u64;
        Random(own ^ ((self.request.stem as u64) << 56)).next_u64()
    }

    fn conditions(&self, window: &Window, progress: &Progress) -> Result<Conditions, JascoError> {
        let model = &self.jasco.model;
        let (config, profile) = (&model.config, self.request.profile);
        let (length, rate) = (config.frames(), config.frame_rate);
        let start = window.start as f64 / rate;
        let chords = (!profile.chords.is_empty()).then(|| {
            let mut frames = vec![chords::NO_CHORD; length];
            for chord in &profile.chords {
                let index = chords::nearest(&chord.label);
                let first = ((chord.start - start) * rate).ceil().max(0.0) as usize;
                let end = ((chord.end - start) * rate).ceil().max(0.0) as usize;
                for slot in frames.iter_mut().take(end).skip(first) {
                    *slot = index;
                }
            }
            frames
        });
        let drums = match self.request.stem {
            // The undamaged hits, and in the holes what the model-free regenerator makes of the others.
            Stem::Drums => {
                let mut drums = self.calm.clone();
                if let Some(twin) = &self.twin {
                    let hop = config.hop();
                    for (i, (d, t)) in drums.iter_mut().zip(twin).enumerate() {
                        if self.is_hole.get(i / hop) == Some(&true) && *t != 0.0 {
                            *d = *t;
                        }
                    }
                }
                self.cut(&drums, window)
            }
            _ => self.drums_of_mix(window, progress)?,
        };
        let notes = match self.request.stem {
            Stem::Bass => &profile.bass_notes,
            _ => &profile.melody_notes,
        };
        let melody = (config.melody_rows == melody::ROWS && !notes.is_empty())
            .then(|| melody::salience(notes, start, length, rate));
        Ok(Conditions {
            text: self.text.clone(),
            chords,
            drums: Some(model.conditioner.drums(&model.encode_raw(&drums)?)),
            silence: if self.jasco.settings.parity {
                let silence = vec![0.0; drums.len()];
                Some(model.conditioner.drums(&model.encode_raw(&silence)?))
            } else {
                None
            },
            melody,
        })
    }

    /// The drums of the mix in a window.
    fn drums_of_mix(&self, window: &Window, progress: &Progress) -> Result<Vec<f32>, JascoError> {
        let config = &self.jasco.model.config;
        let mix = self.request.mix;
        let own = f64::from(mix.sample_rate);
        let start = (window.start as f64 / config.frame_rate * own).round() as usize;
        let length = (config.segment_seconds * own).ceil() as usize;
        let part = mix.slice(start.min(mix.frames()), length);
        let [drums, ..] = self.separate(&part, &progress.part(0.0, 0.0))?;
        let mut drums = mono_at(&drums, config.sample_rate);
        drums.resize(config.frames() * config.hop(), 0.0);
        Ok(drums)
    }

    /// What of a window's audio is the wanted stem: the model makes whole bands.
    fn only_stem(&self, audio: Vec<f32>, progress: &Progress) -> Result<Vec<f32>, JascoError> {
        let rate = self.jasco.model.config.sample_rate;
        let audio = AudioBuffer::new(vec![audio], rate);
        let stems = self.separate(&audio, &progress.part(1.0, 1.0))?;
        Ok(stems[self.request.stem as usize].mono())
    }

    /// Its share of the work is small: `progress` is a point of it, and tells whether to go on.
    fn separate(
        &self,
        audio: &AudioBuffer,
        progress: &Progress,
    ) -> Result<crate::separation::Stems, JascoError> {
        if progress.is_cancelled() {
            return Err(JascoError::Cancelled);
        }
        self.jasco.separator.separate(audio, progress).map_err(|e| {
            if progress.is_cancelled() {
                JascoError::Cancelled
            } else {
                JascoError::Separation {
                    reason: e.to_string(),
                }
            }
        })
    }

    fn agreement(&self, window: &Window, audio: &[f32]) -> f64 {
        let config = &self.jasco.model.config;
        let seconds = |frame: usize| frame as f64 / config.frame_rate;
        let audio = AudioBuffer::new(vec![audio.to_vec()], config.sample_rate);
        let (mut sum, mut all) = (0.0, 0.0);
        for part in &window.fill {
            let length = part.len() as f64;
            let span = seconds(part.start)..seconds(part.end);
            let start = seconds(window.start);
            let (profile, stem) = (self.request.profile, self.request.stem);
            // Where the profile says nothing all tries are alike.
            let score = rank::agreement(profile, stem, &audio, start, span).unwrap_or(0.5);
            sum += length * score;
            all += length;
        }
        sum / f64::max(all, 1.0)
    }

    /// Takes over what a window filled. Around it the window's audio counts too, for the crossfades; into another
    /// window's hole it only reaches by a seam.
    fn keep(&mut self, window: &Window, latents: &[f32], audio: &[f32]) {
        let config = &self.jasco.model.config;
        let (hop, width, rate) = (config.hop(), config.flow.flow_dim, config.sample_rate);
        let margin = (MARGIN_SECONDS * f64::from(rate)) as i64;
        let seam = (SEAM_SECONDS * f64::from(rate)).max(1.0);
        let offset = (window.start * hop) as i64;
        for part in &window.fill {
            let (first, end) = ((part.start * hop) as i64, (part.end * hop) as i64);
            for at in first - margin..end + margin {
                let (Ok(i), Ok(own)) = (usize::try_from(at), usize::try_from(at - offset)) else {
                    continue;
                };
                let (Some(x), Some(hole)) = (audio.get(own), self.is_hole.get(i / hop)) else {
                    continue;
                };
                let away = (first - at).max(at + 1 - end).max(0) as f64;
                let weight = if *hole {
                    (1.0 - away / seam).max(0.0) as f32
                } else {
                    1.0
                };
                self.out[i] += weight * x;
                self.weight[i] += weight;
            }
            for f in part.clone() {
                let from = &latents[(f - window.start) * width..][..width];
                self.made[f * width..][..width].copy_from_slice(from);
                self.is_made[f] = true;
            }
        }
    }
}

impl Regenerator for Jasco {
    fn id(&self) -> &'static str {
        "jasco-1"
    }

    fn supports(&self, _: Stem) -> bool {
        true
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = self.model.take_notices();
        notes.extend(self.diffusion.iter().flat_map(|d| d.take_notices()));
        notes
    }

    fn regenerate(
        &self,
        request: &Request<'_>,
        progress: &Progress,
    ) -> Result<Option<AudioBuffer>, RegenerationError> {
        if progress.is_cancelled() {
            return Err(RegenerationError::Cancelled);
        }
        let twin = if Resynthesis.supports(request.stem) {
            Resynthesis.regenerate(request, &progress.part(0.0, 0.05))?
        } else {
            None
        };
        let made = self.generate(request, twin.as_ref(), &progress.part(0.05, 1.0));
        let Some(made) = made.map_err(|e| match e {
            JascoError::Cancelled => RegenerationError::Cancelled,
            e => RegenerationError::Failed(e.to_string()),
        })?
        else {
            return Ok(None);
        };
        let (frames, rate) = (request.separated.frames(), request.separated.sample_rate);
        let own = self.model.config.sample_rate;
        let mut made = AudioBuffer::new(vec![made], own).resampled(rate).mono();
        made.resize(frames, 0.0);
        if let Some(twin) = twin.filter(|_| rate > own) {
            // What the model's rate can't hold comes from the model-free regenerator.
            let twin = AudioBuffer::new(vec![twin.mono()], rate);
            let low = twin.resampled(own).resampled(rate).mono();
            for ((m, t), l) in made.iter_mut().zip(twin.mono()).zip(low) {
                *m += t - l;
            }
        }
        let mut out = vec![0.0; frames];
        for Span { start, end } in padded_spans(request, frames) {
            out[start..end].copy_from_slice(&made[start..end]);
        }
        let channels = request.separated.channels.len().max(1);
        Ok(Some(AudioBuffer::new(vec![out; channels], rate)))
    }
}

/// The mean of the channels at another rate; what is not a number is silence.
fn mono_at(audio: &AudioBuffer, rate: u32) -> Vec<f32> {
    let mut mono = audio.mono();
    for x in mono.iter_mut().filter(|x| !x.is_finite()) {
        *x = 0.0;
    }
    AudioBuffer::new(vec![mono], audio.sample_rate)
        .resampled(rate)
        .mono()
}

/// `stem` (at `rate`) with the request's regions faded to silence: the codec smears damage into what follows.
fn without(stem: &[f32], request: &Request<'_>, rate: u32) -> Vec<f32> {
    /// Length of a fade, seconds.
    const FADE: f64 = 0.005;
    let mut out = stem.to_vec();
    let own = f64::from(request.separated.sample_rate.max(1));
    let fade = (FADE * f64::from(rate)).max(1.0);
    for span in region_spans(request, request.separated.frames()) {
        let at = |sample: usize| (sample as f64 / own * f64::from(rate)) as usize;
        let (first, end) = (at(span.start), at(span.end));
        let from = first.saturating_sub(fade as usize);
        let to = (end + fade as usize).min(out.len());
        for (i, x) in out.iter_mut().enumerate().take(to).skip(from) {
            let away = first.saturating_sub(i).max((i + 1).saturating_sub(end));
            *x *= (away as f64 / fade).min(1.0) as f32;
        }
    }
    out
}

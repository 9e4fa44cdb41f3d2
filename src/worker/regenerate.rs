// [worker] Who rebuilds damaged stems: the model if it is wanted and works, else the model-free regenerator.

use crate::{
    audio::AudioBuffer,
    regeneration::{RegenerationError, Regenerator, Request, resynthesis::Resynthesis},
    worker::{
        options::{RegeneratorChoice, Regenerators, SeparatorChoice},
        pipeline::PipelineError,
        progress::Progress,
        view::ModelView,
    },
};

/// A regenerator, and what the user should know about it.
pub(super) struct Chosen {
    regenerator: Box<dyn Regenerator>,
    /// What a model's results follow from beside the request, for keeping them.
    identity: Option<String>,
    /// Who rebuilds, under which terms, and why not who was asked for.
    pub lines: Vec<String>,
}

/// What the user's choice comes to; None for nobody.
pub(super) fn choose(choice: RegeneratorChoice, separator: SeparatorChoice) -> Option<Chosen> {
    let plain = |lines| {
        Some(Chosen {
            regenerator: Box::new(Resynthesis),
            identity: None,
            lines,
        })
    };
    match choice {
        RegeneratorChoice::Off => None,
        RegeneratorChoice::Resynthesis | RegeneratorChoice::Everywhere => plain(Vec::new()),
        choice => match open(choice, separator) {
            Ok(chosen) => Some(chosen),
            Err(reason) => plain(vec![format!(
                "what is rebuilt is rebuilt without a model ({reason})"
            )]),
        },
    }
}

impl Chosen {
    /// Who rebuilds, as part of cache keys: for a model with its files' identity.
    pub fn id(&self) -> &str {
        let plain = self.regenerator.id();
        self.identity.as_deref().unwrap_or(plain)
    }

    /// As [`Regenerator::regenerate`]; where a model fails the model-free regenerator does it.
    pub fn regenerate(
        &mut self,
        request: &Request<'_>,
        progress: &Progress,
    ) -> Result<Option<AudioBuffer>, PipelineError> {
        if !self.regenerator.supports(request.stem) {
            return Ok(None);
        }
        let mut result = self.regenerator.regenerate(request, progress);
        let notes = self.regenerator.notes();
        if let Err(RegenerationError::Failed(reason)) = &result {
            self.lines.push(format!(
                "{}: rebuilt without a model ({reason})",
                request.stem.name()
            ));
            result = Resynthesis.regenerate(request, progress);
        }
        self.lines.extend(notes);
        match result {
            Ok(rebuilt) => Ok(rebuilt),
            Err(RegenerationError::Unsupported { .. }) => Ok(None),
            Err(RegenerationError::Cancelled) => Err(PipelineError::Cancelled),
            Err(RegenerationError::Failed(why)) => Err(PipelineError::Regeneration(why)),
        }
    }
}

#[cfg(feature = "ml")]
use installed::open;
#[cfg(feature = "ml")]
pub(super) use installed::{accept, view};

/// What a build without models says.
#[cfg(not(feature = "ml"))]
fn open(_: RegeneratorChoice, _: SeparatorChoice) -> Result<Chosen, String> {
    Err("this build has no models".to_owned())
}

#[cfg(not(feature = "ml"))]
pub(super) fn view(_: Regenerators) -> Option<ModelView> {
    None
}

#[cfg(not(feature = "ml"))]
pub(super) fn accept(_: Regenerators) -> Result<(), String> {
    Err("this build has no models".to_owned())
}

/// The installed models.
#[cfg(feature = "ml")]
mod installed {
    use std::{
        path::{Path, PathBuf},
        sync::Arc,
    };

    use super::{Chosen, ModelView, RegeneratorChoice, Regenerators, SeparatorChoice};
    use crate::{
        models::{
            checkpoint::{Checkpoint, Limits},
            library::Library,
            manifest::Model,
        },
        regeneration::{
            encodec::Encodec,
            jasco::{Jasco, JascoFiles, best_device},
            multiband_diffusion::{DiffusionRegenerator, MultiBandDiffusion},
        },
        worker::separate,
    };

    /// Models that can generate, best for their time first: the larger ones take more than twice as long.
    const JASCO: [&str; 4] = [
        "jasco-chords-drums-melody-400M",
        "jasco-chords-drums-400M",
        "jasco-chords-drums-melody-1B",
        "jasco-chords-drums-1B",
    ];
    const TEXT: [&str; 1] = ["t5-base"];
    const DIFFUSION: [&str; 1] = ["multiband-diffusion"];
    const CODEC: [&str; 1] = ["musicgen-codec"];

    /// What a choice needs: of each group the first that is installed.
    fn groups(choice: RegeneratorChoice) -> &'static [&'static [&'static str]] {
        match choice {
            RegeneratorChoice::Off
            | RegeneratorChoice::Resynthesis
            | RegeneratorChoice::Everywhere => &[],
            RegeneratorChoice::Jasco => &[&JASCO, &TEXT],
            RegeneratorChoice::JascoDiffusion => &[&JASCO, &TEXT, &DIFFUSION, &CODEC],
            RegeneratorChoice::Diffusion => &[&DIFFUSION, &CODEC],
        }
    }

    /// The model of a group that is installed, else the one to install.
    fn of<'l>(library: &'l Library, group: &[&str]) -> Option<(&'l Model, bool)> {
        let found = group.iter().find(|name| library.find(name).is_some());
        let model = library.manifest().get(found.or(group.first())?)?;
        Some((model, found.is_some()))
    }

    /// A model that is installed under accepted terms, with its files.
    fn model<'l>(
        library: &'l Library,
        group: &[&str],
    ) -> Result<(&'l Model, Vec<PathBuf>), String> {
        let (model, _) = of(library, group).ok_or("a defect in the list of models")?;
        let name = &model.name;
        let files = library.find(name).ok_or_else(|| {
            format!(
                "{name} is not installed: fetch it under Models, or by `uncook models fetch {name}`"
            )
        })?;
        if !library.is_accepted(name) {
            return Err(format!(
                "the terms of {name} are not accepted: {} ({}); accept them in the plugin or by `uncook models \
                 fetch {name}`",
                model.licence, model.page
            ));
        }
        Ok((model, files))
    }

    /// Opens what a choice asks for, or says why that can't be used.
    pub fn open(choice: RegeneratorChoice, separator: SeparatorChoice) -> Result<Chosen, String> {
        let library = Library::open().map_err(|e| e.to_string())?;
        let models: Vec<(&Model, Vec<PathBuf>)> = groups(choice)
            .iter()
            .map(|group| model(&library, group))
            .collect::<Result<_, _>>()?;
        let files = |i: usize| models.get(i).map_or(&[][..], |(_, files)| files.as_slice());
        // Who takes stems out of what a model makes.
        let mut stems_by = String::new();
        let regenerator: Box<dyn super::Regenerator> = match choice {
            RegeneratorChoice::Diffusion => Box::new(DiffusionRegenerator::new(Arc::new(
                diffusion(&library, &models)?,
            ))),
            _ => {
                let mut paths = JascoFiles::in_folders(&folder(files(0)), &folder(files(1)));
                paths.copies =
                    (models.first()).and_then(|(model, _)| library.copies_folder(&model.name));
                let separator = separate::best(separator);
                stems_by += separator.id();
                let jasco = Jasco::open(paths, separator).map_err(|error| {
                    let name = models.first().map_or("", |(model, _)| &model.name);
                    format!("{name} can't be used: {error}")
                })?;
                match choice {
                    RegeneratorChoice::JascoDiffusion => {
                        Box::new(jasco.with_diffusion(Arc::new(diffusion(&library, &models[2..])?)))
                    }
                    _ => Box::new(jasco),
                }
            }
        };
        let lines = models
            .iter()
            .filter(|(model, _)| model.ask)
            .map(|(model, _)| {
                format!(
                    "stems rebuilt with {}; its terms: {}",
                    model.name, model.licence
                )
            })
            .collect();
        // The files say which weights; the device and the separator take part in the result.
        let mut identity = format!("{choice:?} {stems_by} {:?}", best_device().location());
        for (model, _) in &models {
            for file in library.receipt(&model.name).iter().flat_map(|r| &r.files) {
                identity += &format!(" {}", file.sha256);
            }
        }
        Ok(Chosen {
            identity: Some(format!("{} {identity}", regenerator.id())),
            regenerator,
            lines,
        })
    }

    fn folder(files: &[PathBuf]) -> PathBuf {
        let parent = files.first().and_then(|path| path.parent());
        parent.map(Path::to_owned).unwrap_or_default()
    }

    /// MultiBand Diffusion and its codec, from the first file of each.
    fn diffusion(
        library: &Library,
        models: &[(&Model, Vec<PathBuf>)],
    ) -> Result<MultiBandDiffusion, String> {
        let [(_, files), (codec, codec_files)] = models else {
            return Err("a defect in the list of models".to_owned());
        };
        let first = |files: &[PathBuf]| files.first().cloned().unwrap_or_default();
        let device = best_device();
        let copies = library.copies_folder(&codec.name);
        let codec = Encodec::open_native(&first(codec_files), copies.as_deref(), &device)
            .map_err(|e| format!("MultiBand Diffusion's codec can't be used: {e}"))?;
        let file = Checkpoint::open(first(files), &Limits::default()).map_err(|e| e.to_string())?;
        MultiBandDiffusion::open(Arc::new(file), Arc::new(codec), &device)
            .map_err(|e| e.to_string())
    }

    /// The models that the choices need, each once, and whether it is installed.
    fn needed(library: &Library, chosen: Regenerators) -> Vec<(&Model, bool)> {
        let mut models: Vec<(&Model, bool)> = Vec::new();
        for group in chosen.different().flat_map(groups) {
            let model = of(library, group);
            models.extend(model.filter(|(m, _)| models.iter().all(|(n, _)| n.name != m.name)));
        }
        models
    }

    /// What the user has to know about the choices before they are used; `None` where they need no model.
    pub fn view(chosen: Regenerators) -> Option<ModelView> {
        if !chosen.any_model() {
            return None;
        }
        let library = Library::open().ok()?;
        let models = needed(&library, chosen);
        let missing = |(model, is_there): &&(&Model, bool)| (!is_there).then(|| model.name.clone());
        let terms = |model: &Model| format!("{}: {} ({})", model.name, model.licence, model.page);
        let asked = models.iter().filter(|(model, _)| model.ask);
        Some(ModelView {
            missing: models.iter().filter_map(|m| missing(&m)).collect(),
            terms: asked.map(|(model, _)| terms(model)).collect(),
            accepted: models
                .iter()
                .all(|(model, _)| library.is_accepted(&model.name)),
        })
    }

    /// Records that the user accepts the terms of everything that the choices need.
    pub fn accept(chosen: Regenerators) -> Result<(), String> {
        let library = Library::open().map_err(|e| e.to_string())?;
        for (model, _) in needed(&library, chosen) {
            library.accept(&model.name).map_err(|e| e.to_string())?;
        }
        Ok(())
    }
}

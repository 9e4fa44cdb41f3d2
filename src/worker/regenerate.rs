// [worker] Who rebuilds damaged stems: the model if it is wanted and works, else the model-free regenerator.

use crate::{
    audio::AudioBuffer,
    regeneration::{RegenerationError, Regenerator, Request, resynthesis::Resynthesis},
    worker::{
        options::{RegeneratorChoice, SeparatorChoice},
        pipeline::PipelineError,
        progress::Progress,
    },
};

/// Models that can generate, best for their time first: the larger ones take more than twice as long.
#[cfg(feature = "ml")]
const MODELS: [&str; 4] = [
    "jasco-chords-drums-melody-400M",
    "jasco-chords-drums-400M",
    "jasco-chords-drums-melody-1B",
    "jasco-chords-drums-1B",
];

/// A regenerator, and what the user should know about it.
pub(super) struct Chosen {
    regenerator: Box<dyn Regenerator>,
    /// Who rebuilds, and why not who was asked for.
    pub lines: Vec<String>,
}

/// What the user's choice comes to; None for nobody.
pub(super) fn choose(choice: RegeneratorChoice, separator: SeparatorChoice) -> Option<Chosen> {
    let plain = |lines| {
        Some(Chosen {
            regenerator: Box::new(Resynthesis),
            lines,
        })
    };
    match choice {
        RegeneratorChoice::Off => None,
        RegeneratorChoice::Resynthesis | RegeneratorChoice::Everywhere => plain(Vec::new()),
        RegeneratorChoice::Jasco => match model(separator) {
            Ok((name, regenerator)) => Some(Chosen {
                regenerator,
                lines: vec![format!("stems rebuilt by {name}")],
            }),
            Err(reason) => plain(vec![format!("stems rebuilt without a model ({reason})")]),
        },
    }
}

impl Chosen {
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
        self.lines.extend(self.regenerator.notes());
        if let Err(RegenerationError::Failed(reason)) = &result {
            self.lines.push(format!(
                "{}: rebuilt without a model ({reason})",
                request.stem.name()
            ));
            result = Resynthesis.regenerate(request, progress);
        }
        match result {
            Ok(rebuilt) => Ok(rebuilt),
            Err(RegenerationError::Unsupported { .. }) => Ok(None),
            Err(RegenerationError::Cancelled) => Err(PipelineError::Cancelled),
            Err(RegenerationError::Failed(why)) => Err(PipelineError::Regeneration(why)),
        }
    }
}

/// The best model that is installed, or why there is none.
#[cfg(feature = "ml")]
fn model(separator: SeparatorChoice) -> Result<(&'static str, Box<dyn Regenerator>), String> {
    use crate::{
        models::library::Library,
        regeneration::jasco::{Jasco, JascoFiles},
        separation::{Separator, spectral::Spectral},
        worker::separate,
    };
    let library = Library::open().map_err(|e| e.to_string())?;
    let installed = MODELS
        .iter()
        .find_map(|name| Some((*name, library.find(name)?)));
    let Some((name, files)) = installed else {
        let best = MODELS[0];
        return Err(format!(
            "no generating model is installed: `uncook models fetch {best}` gets one"
        ));
    };
    let text = library.find("t5-base").ok_or_else(|| {
        "its text encoder is not installed: `uncook models fetch t5-base` gets it".to_owned()
    })?;
    let folder = |files: &[std::path::PathBuf]| {
        let parent = files.first().and_then(|path| path.parent());
        parent.map(std::path::Path::to_owned).unwrap_or_default()
    };
    let files = JascoFiles::in_folders(&folder(&files), &folder(&text));
    let separator: Box<dyn Separator> = match separator {
        SeparatorChoice::Spectral => Box::new(Spectral),
        choice => separate::model(choice).unwrap_or_else(|_| Box::new(Spectral)),
    };
    let jasco =
        Jasco::open(files, separator).map_err(|error| format!("{name} can't be used: {error}"))?;
    Ok((name, Box::new(jasco)))
}

#[cfg(not(feature = "ml"))]
fn model(_: SeparatorChoice) -> Result<(&'static str, Box<dyn Regenerator>), String> {
    Err("this build has no models".to_owned())
}

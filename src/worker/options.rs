// [any] What the user chose for the worker's jobs. None of it is automatable.

use serde::{Deserialize, Deserializer, Serialize};

use crate::{damage::Stem, profile::edit::MusicEdit};

/// When input is captured and analysed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaptureMode {
    /// Nothing is captured.
    Off,
    /// Captured while the transport plays; analysed when the user asks.
    Manual,
    /// Captured while the transport plays; analysed when it stops.
    #[default]
    Automatic,
}

/// How much work goes into offline restoration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quality {
    /// The live settings.
    Draft,
    /// The best settings.
    #[default]
    Best,
}

/// Who separates the stems.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeparatorChoice {
    /// The best model that is installed, else [`Self::Spectral`].
    #[default]
    Automatic,
    /// The model that can tell guitar and piano from the rest, else as [`Self::Automatic`].
    SixStems,
    /// Model-free masks in the spectrum.
    Spectral,
    /// The small network that is built in, else [`Self::Spectral`].
    Learned,
}

/// Who rebuilds a damaged stem.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegeneratorChoice {
    /// Nobody: restore only.
    Off,
    /// Model-free, from the recording's own hits and notes: where a stem is damaged and the result measures
    /// better.
    #[default]
    Resynthesis,
    /// The same over the whole take, damaged or not, for the user to judge by ear.
    Everywhere,
    /// The installed generating model where a stem is damaged, else as [`Self::Resynthesis`].
    Jasco,
    /// The same, its audio decoded by MultiBand Diffusion instead of the codec's own decoder: slower, cleaner.
    JascoDiffusion,
    /// MultiBand Diffusion alone: what is damaged is coded and made anew from its codes. Plays nothing new.
    Diffusion,
}

impl RegeneratorChoice {
    /// Whether a model is asked for.
    pub fn is_model(self) -> bool {
        matches!(self, Self::Jasco | Self::JascoDiffusion | Self::Diffusion)
    }
}

/// Who rebuilds each of the stems that are rebuilt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Regenerators {
    pub drums: RegeneratorChoice,
    pub bass: RegeneratorChoice,
}

impl Regenerators {
    /// The same for all.
    pub fn all(choice: RegeneratorChoice) -> Self {
        Self {
            drums: choice,
            bass: choice,
        }
    }

    /// Who rebuilds `stem`; nobody rebuilds the voice and the rest.
    pub fn of(self, stem: Stem) -> RegeneratorChoice {
        match stem {
            Stem::Drums => self.drums,
            Stem::Bass => self.bass,
            Stem::Other | Stem::Vocals => RegeneratorChoice::Off,
        }
    }

    /// The same, but for one stem.
    #[must_use]
    pub fn with(self, stem: Stem, choice: RegeneratorChoice) -> Self {
        match stem {
            Stem::Drums => Self {
                drums: choice,
                ..self
            },
            Stem::Bass => Self {
                bass: choice,
                ..self
            },
            Stem::Other | Stem::Vocals => self,
        }
    }

    /// Each choice once, in the order of the stems.
    pub fn different(self) -> impl Iterator<Item = RegeneratorChoice> {
        let bass = (self.bass != self.drums).then_some(self.bass);
        std::iter::once(self.drums).chain(bass)
    }

    /// Whether a model is asked for.
    pub fn any_model(self) -> bool {
        self.different().any(RegeneratorChoice::is_model)
    }
}

/// Earlier versions' notes hold one choice for all stems.
impl<'de> Deserialize<'de> for Regenerators {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Each {
            drums: RegeneratorChoice,
            bass: RegeneratorChoice,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            All(RegeneratorChoice),
            Each(Each),
        }
        // Messages to the worker, which don't describe themselves, are always of one version.
        let written = if deserializer.is_human_readable() {
            Written::deserialize(deserializer)?
        } else {
            Written::Each(Each::deserialize(deserializer)?)
        };
        Ok(match written {
            Written::All(choice) => Self::all(choice),
            Written::Each(Each { drums, bass }) => Self { drums, bass },
        })
    }
}

/// A span of one stem that is rebuilt because the user says so, damaged or not, better by measure or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    pub stem: Stem,
    /// First sample of the take, and first one after the span.
    pub start: u64,
    pub end: u64,
}

/// Options of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// Amounts of the offline restoration in percent, as the live chain's parameters stood.
    pub declick_percent: u8,
    pub declip_percent: u8,
    pub denoise_percent: u8,
    pub capture: CaptureMode,
    pub quality: Quality,
    pub separator: SeparatorChoice,
    #[serde(alias = "regenerator")]
    pub regenerators: Regenerators,
    pub seed: u64,
    /// The user's words about the sound; empty if none.
    pub style: String,
    /// What the user changed of the music that is heard in the take: rebuilding follows it.
    pub music: Vec<MusicEdit>,
    /// Only this is rebuilt.
    pub asked: Option<Asked>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            declick_percent: 100,
            declip_percent: 100,
            denoise_percent: 50,
            capture: CaptureMode::default(),
            quality: Quality::default(),
            separator: SeparatorChoice::default(),
            regenerators: Regenerators::default(),
            seed: 0,
            style: String::new(),
            music: Vec::new(),
            asked: None,
        }
    }
}

impl Options {
    /// Whether a job with `other` would give the same result.
    pub fn same_result(&self, other: &Self) -> bool {
        let capture = self.capture;
        *self
            == Self {
                capture,
                ..other.clone()
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_with_one_choice_for_all_stems_are_read() {
        let read = |json: &str| serde_json::from_str::<Options>(json).unwrap().regenerators;
        let old = read(r#"{"regenerator":"jasco","seed":3}"#);
        assert_eq!(old, Regenerators::all(RegeneratorChoice::Jasco));
        let own = Options {
            regenerators: old.with(Stem::Bass, RegeneratorChoice::Off),
            ..Options::default()
        };
        assert_eq!(
            read(&serde_json::to_string(&own).unwrap()),
            own.regenerators
        );
        assert_eq!(read("{}"), Regenerators::default());
        // As a message to the worker.
        let bytes = postcard::to_stdvec(&own).unwrap();
        assert_eq!(postcard::from_bytes::<Options>(&bytes).unwrap(), own);
    }
}

// [main] Presets: five that come with the plugin, and the user's own as files.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use nice_plug::prelude::{Param, ParamPtr, Params};
use serde::{Deserialize, Serialize};

use crate::{
    editor::model::{Command, Gesture},
    params::{RENAMED, UncookParams},
    system::write_aside,
};

/// Ending of a preset's file.
pub const EXTENSION: &str = "uncookpreset";
/// Longest name of a user preset, in characters.
const MAX_NAME: usize = 48;
/// Larger files are no presets.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Parameters that a preset never touches: they belong to the moment, not to the sound.
const MOMENTARY: [&str; 3] = ["bypass", "delta", "compare"];

/// Settings under a name. What it doesn't name stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Preset {
    pub name: String,
    /// Parameters by id, as the plugin writes them: "62.0 %", "-1.0 dBTP", "Best".
    pub values: Vec<(String, String)>,
    pub style: String,
}

/// Why a preset could not be kept or found.
#[derive(Debug, thiserror::Error)]
pub enum PresetError {
    #[error(
        "A preset needs a name of 1 to {MAX_NAME} letters, digits, spaces, dots or dashes; \"{name}\" is none"
    )]
    Name { name: String },
    #[error("{path} could not be written or read ({source}): check that the folder exists and is yours", path = path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{path} is no preset ({reason}): save it again, or delete the file", path = path.display())]
    Broken { path: PathBuf, reason: String },
}

/// The presets that come with the plugin: a starting point for each kind of recording. Everything they
/// don't name is at its default, so that the way from one to the next leaves no trace.
pub fn factory() -> Vec<Preset> {
    let preset = |name: &str, style: &str, values: &[(&str, &str)]| Preset {
        name: name.to_owned(),
        style: style.to_owned(),
        values: (values.iter())
            .map(|(id, text)| ((*id).to_owned(), (*text).to_owned()))
            .collect(),
    };
    vec![
        preset(
            "Gig phone",
            "live band, punchy drums, round bass",
            &[
                ("declip", "100 %"),
                ("declick", "60 %"),
                ("denoise", "30 %"),
                ("bass", "60 %"),
                ("treble", "50 %"),
                ("dereverb_early", "20 %"),
                ("dereverb_late", "45 %"),
                ("eq_match", "60 %"),
            ],
        ),
        preset(
            "Rehearsal room",
            "dry, close-miked drums",
            &[
                ("declip", "100 %"),
                ("declick", "50 %"),
                ("denoise", "45 %"),
                ("bass", "40 %"),
                ("treble", "35 %"),
                ("dereverb_early", "60 %"),
                ("dereverb_late", "70 %"),
                ("eq_match", "50 %"),
            ],
        ),
        preset(
            "Clipped board feed",
            "",
            &[
                ("declip", "100 %"),
                ("declick", "80 %"),
                ("denoise", "15 %"),
                ("bass", "0 %"),
                ("treble", "0 %"),
                ("dereverb_early", "0 %"),
                ("dereverb_late", "0 %"),
                ("eq_match", "25 %"),
            ],
        ),
        preset(
            "Voice memo",
            "small room, acoustic",
            &[
                ("declip", "100 %"),
                ("declick", "70 %"),
                ("denoise", "75 %"),
                ("bass", "75 %"),
                ("treble", "80 %"),
                ("dereverb_early", "45 %"),
                ("dereverb_late", "50 %"),
                ("eq_match", "70 %"),
            ],
        ),
        preset(
            "Gentle",
            "",
            &[
                ("declip", "70 %"),
                ("declick", "40 %"),
                ("denoise", "15 %"),
                ("bass", "15 %"),
                ("treble", "15 %"),
                ("dereverb_early", "10 %"),
                ("dereverb_late", "15 %"),
                ("eq_match", "20 %"),
                ("blend", "60 %"),
            ],
        ),
    ]
}

impl Preset {
    /// The present settings under `name`.
    pub fn of(params: &UncookParams, name: &str) -> Self {
        let values = kept(params)
            .map(|(id, param)| {
                // SAFETY: the pointers come from `params`, which is borrowed meanwhile.
                let text = unsafe {
                    param.normalized_value_to_string(param.unmodulated_normalized_value(), true)
                };
                (id, text)
            })
            .collect();
        Self {
            name: name.trim().to_owned(),
            values,
            style: params.style.get(),
        }
    }

    /// What it sets, in words: "declip 100 %, late reverb 45 %". What isn't named is at its default.
    pub fn words(&self) -> String {
        let words = |(id, text): &(String, String)| format!("{} {text}", id.replace('_', " "));
        let all: Vec<String> = self.values.iter().map(words).collect();
        if all.is_empty() {
            "Everything as it is when Uncook is inserted".to_owned()
        } else {
            all.join(", ")
        }
    }

    /// What sets these settings, each parameter as one gesture. Parameters that a factory preset doesn't
    /// name go to their defaults; unknown ids and texts of other versions are left out.
    pub fn apply(&self, params: &UncookParams, out: &mut Vec<Command>) {
        for (id, param) in kept(params) {
            let named = |name: &str| self.values.iter().find(|(own, _)| own == name);
            let before = || {
                let (old, _) = (RENAMED.iter()).find(|(_, new)| new.contains(&id.as_str()))?;
                named(old)
            };
            let text = named(&id).or_else(before).map(|(_, text)| text);
            // SAFETY: as above.
            let (now, target) = unsafe {
                let target = match text {
                    Some(text) => param.string_to_normalized_value(text),
                    None => Some(param.default_normalized_value()),
                };
                (param.unmodulated_normalized_value(), target)
            };
            let Some(target) = target.filter(|target| (target - now).abs() > 1e-6) else {
                continue;
            };
            out.push(Command::Gesture(Gesture::Begin(param)));
            out.push(Command::Gesture(Gesture::Set(param, target)));
            out.push(Command::Gesture(Gesture::End(param)));
        }
        out.push(Command::NamePreset(self.name.clone()));
    }

    /// Whether `name` can be a file's, on every system.
    pub fn is_name(name: &str) -> bool {
        let name = name.trim();
        let fine = |c: char| c.is_alphanumeric() || " .-_".contains(c);
        (1..=MAX_NAME).contains(&name.chars().count())
            && name.chars().all(fine)
            && !name.starts_with('.')
            && !is_device(name)
    }
}

/// Whether Windows takes a file of that name, whatever its ending, for a device (Microsoft's "Naming Files, Paths, and
/// Namespaces").
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end();
    let stem = stem.to_uppercase();
    let numbered = |of: &str| {
        let number = stem.strip_prefix(of).map(|n| n.chars().collect::<Vec<_>>());
        matches!(number.as_deref(), Some(['0'..='9' | '¹' | '²' | '³']))
    };
    ["CON", "PRN", "AUX", "NUL"].contains(&stem.as_str()) || numbered("COM") || numbered("LPT")
}

/// The parameters that belong to the sound. What the worker is told to capture is the project's.
fn kept(params: &UncookParams) -> impl Iterator<Item = (String, ParamPtr)> + use<> {
    let capture = params.analysis.capture.as_ptr();
    (params.param_map().into_iter())
        .filter(move |(id, ptr, _)| !MOMENTARY.contains(&id.as_str()) && *ptr != capture)
        .map(|(id, ptr, _)| (id, ptr))
}

fn file(folder: &Path, name: &str) -> Result<PathBuf, PresetError> {
    if !Preset::is_name(name) {
        let name = name.to_owned();
        return Err(PresetError::Name { name });
    }
    Ok(folder.join(format!("{}.{EXTENSION}", name.trim())))
}

/// The presets in `folder`, sorted by name; what can't be read is told apart.
pub fn list(folder: &Path) -> (Vec<Preset>, Vec<PresetError>) {
    let (mut presets, mut errors) = (Vec::new(), Vec::new());
    let Ok(entries) = fs::read_dir(folder) else {
        // No folder yet: nothing was saved.
        return (presets, errors);
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.extension().is_some_and(|e| e == EXTENSION) {
            match read(&path) {
                Ok(preset) => presets.push(preset),
                Err(error) => errors.push(error),
            }
        }
    }
    presets.sort_by(|a, b| a.name.cmp(&b.name));
    (presets, errors)
}

/// The preset in a file.
///
/// # Errors
/// If it can't be read, or is none.
pub fn read(path: &Path) -> Result<Preset, PresetError> {
    let io = |source| PresetError::Io {
        path: path.to_owned(),
        source,
    };
    let broken = |reason: String| PresetError::Broken {
        path: path.to_owned(),
        reason,
    };
    let bytes = fs::metadata(path).map_err(io)?.len();
    if bytes > MAX_FILE_BYTES {
        return Err(broken(format!("{bytes} bytes, at most {MAX_FILE_BYTES}")));
    }
    let text = fs::read_to_string(path).map_err(io)?;
    let preset: Preset = serde_json::from_str(&text).map_err(|e| broken(e.to_string()))?;
    if !Preset::is_name(&preset.name) {
        return Err(broken(format!("its name is {:?}", preset.name)));
    }
    Ok(preset)
}

/// What a preset's file holds.
///
/// # Errors
/// None that is known: texts and lists of them can always be written as JSON.
pub fn text(preset: &Preset) -> io::Result<String> {
    serde_json::to_string_pretty(preset).map_err(io::Error::other)
}

/// Keeps `preset` in `folder`.
///
/// # Errors
/// If its name can't be a file's, or the file can't be written.
pub fn save(folder: &Path, preset: &Preset) -> Result<(), PresetError> {
    let path = file(folder, &preset.name)?;
    let written = fs::create_dir_all(folder)
        .and_then(|()| write_aside(&path, &[text(preset)?.as_bytes()], true));
    written.map_err(|source| PresetError::Io { path, source })
}

/// Deletes the preset of this name.
///
/// # Errors
/// If there is none, or it can't be deleted.
pub fn delete(folder: &Path, name: &str) -> Result<(), PresetError> {
    let path = file(folder, name)?;
    fs::remove_file(&path).map_err(|source| PresetError::Io { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nice_plug::params::InternalParamMut;

    fn carry_out(params: &UncookParams, commands: &[Command]) {
        for command in commands {
            if let Command::Gesture(Gesture::Set(ptr, value)) = command {
                // SAFETY: the pointers come from `params`.
                unsafe { ptr._internal_set_normalized_value(*value) };
            }
        }
        let _ = params;
    }

    fn applied(preset: &Preset, params: &UncookParams) -> Vec<Command> {
        let mut out = Vec::new();
        preset.apply(params, &mut out);
        carry_out(params, &out);
        out
    }

    #[test]
    fn factory_presets_name_parameters_that_exist_and_texts_they_read() {
        let params = UncookParams::default();
        let known: Vec<(String, ParamPtr)> = kept(&params).collect();
        let factory = factory();
        assert_eq!(factory.len(), 5);
        for preset in &factory {
            assert!(Preset::is_name(&preset.name));
            for (id, text) in &preset.values {
                let (_, ptr) = known.iter().find(|(own, _)| own == id).expect(id);
                // SAFETY: `params` lives.
                let value = unsafe { ptr.string_to_normalized_value(text) };
                assert!(value.is_some(), "{id} can't read {text}");
            }
        }
    }

    #[test]
    fn a_preset_sets_what_it_says_whatever_was_before() {
        let params = UncookParams::default();
        let presets = factory();
        applied(&presets[3], &params);
        assert!((params.live.denoise.value() - 0.75).abs() < 1e-6);
        let commands = applied(&presets[4], &params);
        assert!((params.live.denoise.value() - 0.15).abs() < 1e-6);
        assert!((params.stems.master.value() - 0.6).abs() < 1e-6);
        assert_eq!(
            commands.last(),
            Some(&Command::NamePreset("Gentle".to_owned()))
        );
        // What Gentle named and Gig phone doesn't goes back to its default.
        applied(&presets[0], &params);
        assert!(
            (params.stems.master.value() - params.stems.master.default_plain_value()).abs() < 1e-6
        );
        // Applied again, nothing is left to set.
        assert_eq!(applied(&presets[0], &params).len(), 1);
        // Listening is left alone.
        unsafe { params.listen.delta._internal_set_plain_value(true) };
        applied(&presets[1], &params);
        assert!(params.listen.delta.value());
    }

    #[test]
    fn a_user_preset_comes_back_from_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let params = UncookParams::default();
        applied(&factory()[1], &params);
        params.style.replace("dry".to_owned());
        let preset = Preset::of(&params, " My room ");
        save(folder.path(), &preset).unwrap();
        let (found, errors) = list(folder.path());
        assert!(errors.is_empty());
        assert_eq!(found, [preset]);
        assert_eq!(found[0].name, "My room");
        let other = UncookParams::default();
        applied(&found[0], &other);
        assert_eq!(other.settings(), params.settings());
        delete(folder.path(), "My room").unwrap();
        assert!(list(folder.path()).0.is_empty());
    }

    #[test]
    fn bad_names_and_broken_files_are_refused_in_words() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "",
            "  ",
            "../x",
            "a/b",
            "a\\b",
            "C:x",
            ".hidden",
            "nul",
            "Con.2",
            "aux ",
            "LPT1",
            "com²",
            &"x".repeat(49),
        ] {
            let preset = Preset {
                name: name.to_owned(),
                ..Preset::default()
            };
            assert!(
                matches!(save(folder.path(), &preset), Err(PresetError::Name { .. })),
                "{name}"
            );
        }
        // Names that only begin so are names.
        for name in ["Console", "aux return", "com", "LPT10", "Null"] {
            assert!(Preset::is_name(name), "{name}");
        }
        fs::write(folder.path().join("x.uncookpreset"), "{").unwrap();
        let (found, errors) = list(folder.path());
        assert!(found.is_empty());
        assert!(errors[0].to_string().contains("is no preset"));
    }
}

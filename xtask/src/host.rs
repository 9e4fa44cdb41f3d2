// [main] A CLAP host for one plugin: load, activate, run its audio thread, state, parameters.

mod audio;
mod callbacks;
mod params;
mod window;

use std::{
    ffi::{CStr, CString},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clack_extensions::{
    audio_ports::{AudioPortInfoBuffer, PluginAudioPorts},
    audio_ports_config::{AudioPortsConfigBuffer, PluginAudioPortsConfig},
    latency::PluginLatency,
    params::{ParamInfoBuffer, PluginParams},
    render::PluginRender,
    state::PluginState,
};
use clack_host::{
    events::event_types::ParamValueEvent,
    extensions::{Extension, PluginExtensionSide},
    prelude::*,
    process::{PluginAudioConfiguration, StoppedPluginAudioProcessor},
};

pub use audio::{AudioThread, ParamChange, Transport};
pub use clack_extensions::render::RenderMode;
pub use params::{Param, ParamId, clap_id_of, find};

use callbacks::{Host, MainThread, Shared};

/// How long the main thread sleeps between looks at the plugin's requests while audio runs.
const MAIN_THREAD_TICK: Duration = Duration::from_millis(2);

/// Room for a parameter's text; CLAP hosts commonly give as much.
const TEXT_BYTES: usize = 256;

/// What the plugin says it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Descriptor {
    pub id: String,
    pub name: String,
    pub vendor: String,
    pub version: String,
    pub features: Vec<String>,
}

struct Active {
    processor: StoppedPluginAudioProcessor<Host>,
    sample_rate: u32,
    max_block: usize,
}

impl Active {
    /// One stretch of audio, on the calling thread.
    fn run<R>(
        self,
        channels: usize,
        work: impl FnOnce(&mut AudioThread) -> Result<R>,
    ) -> (Result<R>, Self) {
        callbacks::mark_audio_thread(true);
        let (result, processor) = match self.processor.start_processing() {
            Err(error) => (Err(anyhow!("{error}")), error.into_stopped_processor()),
            Ok(started) => {
                let mut audio =
                    AudioThread::new(started, self.sample_rate, self.max_block, channels);
                let result = work(&mut audio);
                (result, audio.processor.stop_processing())
            }
        };
        callbacks::mark_audio_thread(false);
        (result, Self { processor, ..self })
    }
}

/// What a finished thread gave; a panic goes on in this one.
fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A loaded plugin. It stays on the thread that loaded it: that is CLAP's main thread.
pub struct HostedPlugin {
    // Dropped before the instance, see `Drop`.
    active: Option<Active>,
    instance: PluginInstance<Host>,
    descriptor: Descriptor,
    channels: usize,
}

impl HostedPlugin {
    /// Loads the only plugin of the bundle at `path` (a file, or a folder on macOS).
    ///
    /// # Errors
    /// If the file is missing or no CLAP plugin, or holds no or several plugins.
    pub fn load(path: &Path) -> Result<Self> {
        ensure!(
            path.exists(),
            "{} does not exist: run `cargo xtask bundle` first",
            path.display()
        );
        // SAFETY: the file is a plugin that this project built or that the user named to be run.
        let entry = unsafe { PluginEntry::load(path) }
            .with_context(|| format!("{} can't be loaded", path.display()))?;
        let factory = entry
            .get_plugin_factory()
            .context("the bundle has no plugin factory")?;
        let mut found = factory.plugin_descriptors();
        let (Some(plugin), None) = (found.next(), found.next()) else {
            bail!("{} does not hold exactly one plugin", path.display());
        };
        let text =
            |t: Option<&CStr>| t.map_or_else(String::new, |t| t.to_string_lossy().into_owned());
        let descriptor = Descriptor {
            id: text(plugin.id()),
            name: text(plugin.name()),
            vendor: text(plugin.vendor()),
            version: text(plugin.version()),
            features: plugin.features().map(|f| text(Some(f))).collect(),
        };
        let host = HostInfo::new("Uncook render", "Uncook", "", env!("CARGO_PKG_VERSION"))?;
        let id = plugin.id().context("the plugin has no id")?;
        let instance =
            PluginInstance::<Host>::new(|_| Shared::new(), |_| MainThread, &entry, id, &host)?;
        let mut plugin = Self {
            active: None,
            instance,
            descriptor,
            channels: 0,
        };
        plugin.channels = plugin.main_port_channels()?;
        Ok(plugin)
    }

    /// What the plugin says it is.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// Channels of the main input and output.
    pub fn channels(&self) -> usize {
        self.channels
    }

    fn extension<E: Extension<ExtensionSide = PluginExtensionSide>>(
        &self,
        name: &str,
    ) -> Result<E> {
        self.instance
            .plugin_shared_handle()
            .get_extension()
            .ok_or_else(|| anyhow!("the plugin has no {name} extension"))
    }

    /// Main input and output must have one width.
    fn main_port_channels(&mut self) -> Result<usize> {
        let ports: PluginAudioPorts = self.extension("audio ports")?;
        let handle = self.instance.plugin_handle();
        let mut width = [0u32; 2];
        for (width, is_input) in width.iter_mut().zip([true, false]) {
            let mut buffer = AudioPortInfoBuffer::new();
            *width = ports
                .get(&handle, 0, is_input, &mut buffer)
                .context("the plugin has no main audio port")?
                .channel_count;
        }
        ensure!(
            width[0] == width[1],
            "the plugin takes {} channels and gives {}",
            width[0],
            width[1]
        );
        Ok(width[0] as usize)
    }

    /// Switches to the layout with `channels` in and out.
    ///
    /// # Errors
    /// If the plugin is active or has no such layout.
    pub fn select_channels(&mut self, channels: usize) -> Result<()> {
        ensure!(
            self.active.is_none(),
            "channels can't change while the plugin is active"
        );
        if channels == self.channels {
            return Ok(());
        }
        let layouts: PluginAudioPortsConfig = self.extension("audio ports config")?;
        let handle = self.instance.plugin_handle();
        let mut chosen = None;
        for index in 0..layouts.count(&handle) {
            let mut buffer = AudioPortsConfigBuffer::new();
            let Some(layout) = layouts.get(&handle, index, &mut buffer) else {
                continue;
            };
            let width = |port: &Option<clack_extensions::audio_ports_config::MainPortInfo<'_>>| {
                port.as_ref().map_or(0, |p| p.channel_count as usize)
            };
            if width(&layout.main_input) == channels && width(&layout.main_output) == channels {
                chosen = Some(layout.id);
                break;
            }
        }
        let id = chosen
            .with_context(|| format!("the plugin has no layout with {channels} channel(s)"))?;
        layouts.select(&handle, id)?;
        self.channels = self.main_port_channels()?;
        ensure!(
            self.channels == channels,
            "the plugin did not take the layout"
        );
        Ok(())
    }

    /// Activates, or activates anew with other values.
    ///
    /// # Errors
    /// If the plugin refuses.
    pub fn activate(&mut self, sample_rate: u32, max_block: usize) -> Result<()> {
        self.deactivate();
        let processor = self.instance.activate(
            |_, _| (),
            PluginAudioConfiguration {
                sample_rate: f64::from(sample_rate),
                min_frames_count: 1,
                max_frames_count: u32::try_from(max_block)?,
            },
        )?;
        self.active = Some(Active {
            processor,
            sample_rate,
            max_block,
        });
        self.run_callbacks();
        Ok(())
    }

    /// Deactivates; nothing where the plugin is not active.
    pub fn deactivate(&mut self) {
        if let Some(active) = self.active.take() {
            self.instance.deactivate(active.processor);
        }
    }

    /// Latency in samples that the plugin reports now.
    pub fn latency(&mut self) -> Result<usize> {
        let latency: PluginLatency = self.extension("latency")?;
        Ok(latency.get(&self.instance.plugin_handle()) as usize)
    }

    /// Tells the plugin how it is run. An active plugin is activated anew, as the plugin is told only
    /// there (nice-plug 0.4 asks its host for that).
    ///
    /// # Errors
    /// If the plugin refuses the mode.
    pub fn set_render_mode(&mut self, mode: RenderMode) -> Result<()> {
        let render: PluginRender = self.extension("render")?;
        let config = self.active.as_ref().map(|a| (a.sample_rate, a.max_block));
        self.deactivate();
        render.set(&self.instance.plugin_handle(), mode)?;
        if let Some((sample_rate, max_block)) = config {
            self.activate(sample_rate, max_block)?;
        }
        Ok(())
    }

    /// Runs `work` on an audio thread, between `start_processing` and `stop_processing`, while this
    /// thread serves the plugin's main-thread requests.
    ///
    /// # Errors
    /// If the plugin is not active, can't start, or `work` fails.
    pub fn with_audio_thread<R: Send>(
        &mut self,
        work: impl FnOnce(&mut AudioThread) -> Result<R> + Send,
    ) -> Result<R> {
        let active = self.active.take().context("the plugin is not active")?;
        let channels = self.channels;
        let (result, active) = std::thread::scope(|scope| {
            let audio = scope.spawn(move || active.run(channels, work));
            while !audio.is_finished() {
                self.run_callbacks();
                std::thread::sleep(MAIN_THREAD_TICK);
            }
            joined(audio)
        });
        self.run_callbacks();
        self.active = Some(active);
        result
    }

    /// Runs `work(index, audio)` for several plugins at once, each on an audio thread of its own.
    ///
    /// # Errors
    /// If a plugin is not active, can't start, or its `work` fails.
    pub fn run_together<R: Send>(
        plugins: &mut [Self],
        work: impl Fn(usize, &mut AudioThread) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        ensure!(
            plugins.iter().all(|p| p.active.is_some()),
            "a plugin is not active"
        );
        let work = &work;
        let results = std::thread::scope(|scope| {
            let audio: Vec<_> = plugins
                .iter_mut()
                .enumerate()
                .filter_map(|(index, plugin)| {
                    let (active, channels) = (plugin.active.take()?, plugin.channels);
                    Some(scope.spawn(move || active.run(channels, |audio| work(index, audio))))
                })
                .collect();
            while audio.iter().any(|a| !a.is_finished()) {
                plugins.iter_mut().for_each(Self::run_callbacks);
                std::thread::sleep(MAIN_THREAD_TICK);
            }
            audio.into_iter().map(joined).collect::<Vec<_>>()
        });
        plugins
            .iter_mut()
            .zip(results)
            .map(|(plugin, (result, active))| {
                plugin.run_callbacks();
                plugin.active = Some(active);
                result
            })
            .collect::<Vec<_>>()
            .into_iter()
            .collect()
    }

    fn run_callbacks(&mut self) {
        while self
            .instance
            .access_shared_handler(Shared::take_callback_request)
        {
            self.instance.call_on_main_thread_callback();
        }
    }

    /// Whether the plugin asked to be activated anew since the last look.
    pub fn take_restart_request(&mut self) -> bool {
        self.instance
            .access_shared_handler(Shared::take_restart_request)
    }

    /// Warnings and errors that the plugin logged since the last look.
    pub fn take_complaints(&mut self) -> Vec<String> {
        self.instance.access_shared_handler(Shared::take_complaints)
    }

    /// Every parameter, in the plugin's order.
    pub fn params(&mut self) -> Result<Vec<Param>> {
        let ext: PluginParams = self.extension("params")?;
        let handle = self.instance.plugin_handle();
        let text = |t: &[u8]| String::from_utf8_lossy(t).into_owned();
        (0..ext.count(&handle))
            .map(|index| {
                let mut buffer = ParamInfoBuffer::new();
                let info = ext
                    .get_info(&handle, index, &mut buffer)
                    .with_context(|| format!("parameter {index} has no description"))?;
                Ok(Param {
                    id: ParamId(info.id),
                    name: text(info.name),
                    module: text(info.module),
                    min: info.min_value,
                    max: info.max_value,
                    default: info.default_value,
                    flags: info.flags,
                })
            })
            .collect()
    }

    /// The parameter with this string id or name.
    ///
    /// # Errors
    /// If there is none; the message lists the names.
    pub fn param(&mut self, key: &str) -> Result<Param> {
        let params = self.params()?;
        find(&params, key).cloned().with_context(|| {
            let names: Vec<_> = params.iter().map(|p| p.name.as_str()).collect();
            format!("no parameter \"{key}\"; there are: {}", names.join(", "))
        })
    }

    /// Sets parameters by id and text, before activation.
    pub fn choose(&mut self, values: &[(&str, &str)]) -> Result<()> {
        for (key, text) in values {
            let param = self.param(key)?;
            let value = self.read_value(&param, text)?;
            self.set_params(&[(param.id, value)])?;
        }
        Ok(())
    }

    /// Has drums and bass rebuilt from end to end, however that measures.
    pub fn rebuild_everywhere(&mut self) -> Result<()> {
        self.choose(&[
            ("drums_regenerator", "Everywhere"),
            ("bass_regenerator", "Everywhere"),
        ])
    }

    /// The current value, in CLAP's range.
    pub fn param_value(&mut self, param: ParamId) -> Result<f64> {
        let ext: PluginParams = self.extension("params")?;
        ext.get_value(&self.instance.plugin_handle(), param.0)
            .context("the plugin does not know the parameter")
    }

    /// How the plugin writes `value`.
    pub fn value_to_text(&mut self, param: ParamId, value: f64) -> Result<String> {
        let ext: PluginParams = self.extension("params")?;
        let mut buffer = [0u8; TEXT_BYTES];
        let text = ext
            .value_to_text(
                &self.instance.plugin_handle(),
                param.0,
                value,
                &mut buffer[..],
            )
            .map_err(|_| anyhow!("the plugin can't write the value {value}"))?;
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    /// How the plugin reads `text`.
    pub fn text_to_value(&mut self, param: ParamId, text: &str) -> Result<f64> {
        let ext: PluginParams = self.extension("params")?;
        let c_text = CString::new(text)?;
        ext.text_to_value(&self.instance.plugin_handle(), param.0, &c_text)
            .with_context(|| format!("the plugin can't read \"{text}\""))
    }

    /// Reads a value as a user writes it: a bare number is in CLAP's range, anything else ("50 %",
    /// "-6 dB", "on") is the plugin's own text.
    pub fn read_value(&mut self, param: &Param, text: &str) -> Result<f64> {
        let text = text.trim();
        let value = match text.parse::<f64>() {
            Ok(value) => value,
            Err(_) => self.text_to_value(param.id, text)?,
        };
        ensure!(
            (param.min..=param.max).contains(&value),
            "{}: {value} is outside {}..={}",
            param.name,
            param.min,
            param.max
        );
        Ok(value)
    }

    /// Sets parameters outside of audio.
    ///
    /// # Errors
    /// If the plugin is active: changes then belong to a block.
    pub fn set_params(&mut self, values: &[(ParamId, f64)]) -> Result<()> {
        let ext: PluginParams = self.extension("params")?;
        let events: Vec<_> = values
            .iter()
            .map(|&(id, value)| ParamValueEvent::new(0, id.0, Pckn::match_all(), value))
            .collect();
        let mut replies = EventBuffer::new();
        let mut handle = self
            .instance
            .inactive_plugin_handle()
            .context("parameters are set before the plugin is activated")?;
        ext.flush(
            &mut handle,
            &InputEvents::from_buffer(&events),
            &mut OutputEvents::from_buffer(&mut replies),
        );
        Ok(())
    }

    /// The plugin's state as it writes it.
    pub fn state_save(&mut self) -> Result<Vec<u8>> {
        let state: PluginState = self.extension("state")?;
        let mut bytes = Vec::new();
        state.save(&self.instance.plugin_handle(), &mut bytes)?;
        Ok(bytes)
    }

    /// Gives the plugin a state.
    pub fn state_load(&mut self, bytes: &[u8]) -> Result<()> {
        let state: PluginState = self.extension("state")?;
        state.load(&self.instance.plugin_handle(), &mut &bytes[..])?;
        self.run_callbacks();
        Ok(())
    }
}

impl Drop for HostedPlugin {
    fn drop(&mut self) {
        self.deactivate();
    }
}

/// The JSON inside a state of nice-plug: eight bytes of length, then the text.
///
/// # Errors
/// If `state` is something else.
pub fn state_json(state: &[u8]) -> Result<serde_json::Value> {
    let json = state.get(8..).context("the state is too short")?;
    serde_json::from_slice(json).context("the state is not JSON")
}

/// A persisted field of a state. nice-plug stores each field as JSON text inside the JSON.
pub fn state_field(state: &[u8], field: &str) -> Result<Option<serde_json::Value>> {
    let json = state_json(state)?;
    Ok(match json.get("fields").and_then(|f| f.get(field)) {
        None => None,
        Some(serde_json::Value::String(text)) => Some(
            serde_json::from_str(text).with_context(|| format!("field \"{field}\" is not JSON"))?,
        ),
        Some(other) => Some(other.clone()),
    })
}

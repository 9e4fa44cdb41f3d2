// [any] Uncook as a program of its own, and its file player: the framework's JACK, system and dummy backends in the
// place of a host.

use std::{
    error::Error,
    sync::{Arc, OnceLock},
};

use nice_plug::{
    context::{gui::GuiContext, process::SendEventError},
    editor::{Editor, HostMethods, ParentWindowHandle, ResizeHint, SpawnedEditor, dpi::NativeSize},
    prelude::*,
};

use super::{Task, Uncook};
use crate::{audio::AudioBuffer, editor::UncookEditor};

/// Seconds that the transport stands still between two passes over the file: the analysis of what was captured
/// starts when it stops.
const REST_SECONDS: f64 = 2.0;

/// How to run, for [`run`].
#[derive(Clone, Debug, Default)]
pub struct Standalone {
    /// Played over and over in the place of the input, with a rest between.
    pub file: Option<AudioBuffer>,
    /// Without the editor: plays until the process is interrupted.
    pub windowless: bool,
}

/// Set once by [`run`], since the framework makes the plugin from nothing.
static CONFIG: OnceLock<Standalone> = OnceLock::new();

/// Opens the editor and plays until it is closed. `args` is the command line with the program's name, as the
/// framework reads it: `--backend`, `--sample-rate`, `--period-size`, the ports' names.
///
/// Returns whether nothing failed. A second call in a process returns `false`.
pub fn run(config: Standalone, args: impl IntoIterator<Item = String>) -> bool {
    let mut args: Vec<String> = args.into_iter().collect();
    let asks = args.iter().any(|arg| arg == "--help" || arg == "-h");
    let backend = option(&args, "--backend", "-b");
    if !asks
        && backend.is_none_or(|backend| backend == "auto" || backend == "jack")
        && let Some(rate) = jack_rate()
    {
        args = at_rate(args, rate);
    }
    CONFIG.set(config).is_ok() && nice_export_standalone_with_args::<Program, _>(args)
}

/// The sample rate of the JACK server, where one runs.
fn jack_rate() -> Option<u32> {
    let options = jack::ClientOptions::NO_START_SERVER;
    let (client, _) = jack::Client::new("uncook_rate", options).ok()?;
    Some(client.sample_rate())
}

/// What a command line says of an option, in the forms `--name value`, `--name=value`, `-n value`, `-n=value`, `-nvalue`.
fn option<'a>(args: &'a [String], long: &str, short: &str) -> Option<&'a str> {
    args.iter().enumerate().find_map(|(at, arg)| {
        if arg == long || arg == short {
            return args.get(at + 1).map(String::as_str);
        }
        let value = match arg.strip_prefix(long) {
            Some(rest) => rest.strip_prefix('='),
            None => arg.strip_prefix(short).filter(|_| !arg.starts_with("--")),
        }?;
        Some(value.strip_prefix('=').unwrap_or(value))
    })
}

/// A command line with this rate in the place of any other. JACK runs at a rate of its own whatever is asked for, and the
/// framework runs the plugin at the one that it reads here.
fn at_rate(args: Vec<String>, rate: u32) -> Vec<String> {
    let (long, short) = ("--sample-rate", "-r");
    let mut kept = Vec::new();
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        if arg == long || arg == short {
            args.next();
        } else if option(std::slice::from_ref(&arg), long, short).is_none() {
            kept.push(arg);
        }
    }
    kept.push(format!("{long}={rate}"));
    kept
}

/// The plugin behind the file player.
#[derive(Default)]
struct Program {
    uncook: Uncook,
    player: Option<FilePlayer>,
}

impl Plugin for Program {
    const NAME: &'static str = Uncook::NAME;
    const VENDOR: &'static str = Uncook::VENDOR;
    const URL: &'static str = Uncook::URL;
    const EMAIL: &'static str = Uncook::EMAIL;
    const VERSION: &'static str = Uncook::VERSION;
    const AUDIO_IO_LAYOUTS: &'static [AudioIOLayout] = Uncook::AUDIO_IO_LAYOUTS;
    const SAMPLE_ACCURATE_AUTOMATION: bool = Uncook::SAMPLE_ACCURATE_AUTOMATION;

    type Editor = Shown;
    type SysExMessage = ();
    type BackgroundTask = Task;

    fn task_executor(&mut self) -> TaskExecutor<Self> {
        self.uncook.task_executor()
    }

    fn params(&self) -> Arc<dyn Params> {
        self.uncook.params()
    }

    fn editor(&mut self, _executor: AsyncExecutor<Self>) -> Option<Shown> {
        let windowless = CONFIG.get().is_some_and(|config| config.windowless);
        (!windowless).then(|| Shown(self.uncook.open_editor()))
    }

    fn activate(
        &mut self,
        layout: &AudioIOLayout,
        config: &BufferConfig,
        context: &mut impl ActivateContext<Self>,
    ) -> bool {
        let channels = layout.main_output_channels.map_or(0, NonZeroU32::get) as usize;
        self.player = CONFIG
            .get()
            .and_then(|config| config.file.as_ref())
            .map(|file| FilePlayer::new(file, config.sample_rate, channels));
        self.uncook.activate(layout, config, &mut Bridge(context))
    }

    fn reset(&mut self) {
        self.uncook.reset();
    }

    fn process(
        &mut self,
        buffer: &mut Buffer,
        aux: &mut AuxiliaryBuffers,
        context: &mut impl ProcessContext<Self>,
    ) -> ProcessStatus {
        let outside = context.transport();
        let transport = self.player.as_mut().map(|player| {
            let (position, playing) = player.fill(buffer.as_slice());
            let mut transport = Transport::new(outside.sample_rate);
            transport.tempo = outside.tempo;
            transport.time_sig_numerator = outside.time_sig_numerator;
            transport.time_sig_denominator = outside.time_sig_denominator;
            transport.pos_samples = Some(position as i64);
            transport.playing = playing;
            transport
        });
        let mut context = Playing { context, transport };
        self.uncook.process(buffer, aux, &mut context)
    }
}

/// The editor of a program: without its window the program ends, since nobody could close it.
struct Shown(UncookEditor);

impl Editor for Shown {
    type Handle = <UncookEditor as Editor>::Handle;

    fn spawn(
        &self,
        parent: Option<ParentWindowHandle>,
        wait_for_parent: bool,
        fallback_scale_factor: Option<f64>,
        context: GuiContext,
        host: Option<HostMethods>,
    ) -> Result<SpawnedEditor<Self::Handle>, Box<dyn Error>> {
        let spawned = self.0.spawn(
            parent,
            wait_for_parent,
            fallback_scale_factor,
            context,
            host,
        );
        if let Err(error) = &spawned {
            eprintln!("{error}\nStart it where windows can open, or with --no-window");
            // The framework would wait for an interrupt first.
            std::process::exit(1);
        }
        // The framework takes Ctrl-C as a wish, which nobody reads while a window is open. Nothing is lost: what was
        // rebuilt is written whole or not at all.
        #[cfg(unix)]
        // SAFETY: the default handler runs no code of this process.
        unsafe {
            libc::signal(libc::SIGINT, libc::SIG_DFL);
        }
        spawned
    }

    fn size(&self) -> NativeSize<u32> {
        self.0.size()
    }

    fn resize_hint(&self) -> ResizeHint {
        self.0.resize_hint()
    }

    fn track_info_updated(&self, info: TrackInfo) {
        self.0.track_info_updated(info);
    }
}

/// The program's activation, as the plugin sees it.
struct Bridge<'a, C>(&'a mut C);

impl<C: ActivateContext<Program>> ActivateContext<Uncook> for Bridge<'_, C> {
    fn plugin_api(&self) -> PluginApi {
        self.0.plugin_api()
    }

    fn execute(&self, task: Task) {
        self.0.execute(task);
    }

    /// Nobody delays anything else to match.
    fn set_latency_samples(&self, _samples: u32) {}

    fn set_current_voice_capacity(&self, capacity: u32) {
        self.0.set_current_voice_capacity(capacity);
    }
}

/// The program's block, as the plugin sees it: on the file's timeline where one is played.
struct Playing<'a, C> {
    context: &'a mut C,
    transport: Option<Transport>,
}

impl<C: ProcessContext<Program>> ProcessContext<Uncook> for Playing<'_, C> {
    fn plugin_api(&self) -> PluginApi {
        self.context.plugin_api()
    }

    fn execute_background(&self, task: Task) {
        self.context.execute_background(task);
    }

    fn execute_gui(&self, task: Task) {
        self.context.execute_gui(task);
    }

    fn transport(&self) -> &Transport {
        self.transport
            .as_ref()
            .unwrap_or_else(|| self.context.transport())
    }

    fn next_event(&mut self) -> Option<PluginNoteEvent<Uncook>> {
        self.context.next_event()
    }

    fn try_send_event(
        &mut self,
        event: PluginNoteEvent<Uncook>,
    ) -> Result<(), (PluginNoteEvent<Uncook>, SendEventError)> {
        self.context.try_send_event(event)
    }

    fn set_latency_samples(&self, _samples: u32) {}

    fn request_restart(&self) {
        self.context.request_restart();
    }

    fn set_current_voice_capacity(&self, capacity: u32) {
        self.context.set_current_voice_capacity(capacity);
    }
}

/// Plays a file from memory, over and over.
struct FilePlayer {
    /// `channels[c][n]` at the backend's rate.
    channels: Vec<Vec<f32>>,
    frames: usize,
    /// The next frame to be played.
    position: usize,
    /// Frames of standstill, and how many of them are left.
    rest: usize,
    resting: usize,
}

impl FilePlayer {
    /// `file` for a backend with `channels` channels at `sample_rate` Hz. A mono file goes to all channels, a stereo
    /// file is mixed for a mono backend.
    fn new(file: &AudioBuffer, sample_rate: f32, channels: usize) -> Self {
        let file = file.resampled(sample_rate.round() as u32);
        let channels: Vec<_> = if file.channels.len() == channels {
            file.channels
        } else {
            vec![file.mono(); channels]
        };
        Self {
            frames: channels.first().map_or(0, Vec::len),
            channels,
            position: 0,
            rest: (REST_SECONDS * f64::from(sample_rate)) as usize,
            resting: 0,
        }
    }

    /// Fills a block; returns its position in the file and whether the timeline moves. Silence in a rest and behind
    /// the file's end.
    fn fill(&mut self, block: &mut [&mut [f32]]) -> (usize, bool) {
        let frames = block.first().map_or(0, |channel| channel.len());
        if self.resting > 0 {
            for channel in block {
                channel.fill(0.0);
            }
            self.resting = self.resting.saturating_sub(frames);
            return (self.position, false);
        }
        let start = self.position;
        let end = (start + frames).min(self.frames);
        for (channel, source) in block.iter_mut().zip(&self.channels) {
            channel.fill(0.0);
            for (y, x) in channel
                .iter_mut()
                .zip(source.get(start..end).unwrap_or(&[]))
            {
                *y = *x;
            }
        }
        self.position = end;
        if end == self.frames {
            self.position = 0;
            self.resting = self.rest.max(1);
        }
        (start, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `blocks` blocks of `frames` frames give: position, whether it plays, samples.
    fn blocks(
        player: &mut FilePlayer,
        count: usize,
        frames: usize,
    ) -> Vec<(usize, bool, Vec<f32>)> {
        (0..count)
            .map(|_| {
                let mut audio = vec![f32::NAN; frames];
                let (position, playing) = player.fill(&mut [&mut audio]);
                (position, playing, audio)
            })
            .collect()
    }

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn the_backend_is_found_in_every_form() {
        for line in [
            "u --backend jack",
            "u --backend=jack",
            "u -b jack",
            "u -b=jack -r 1",
            "u -bjack",
        ] {
            assert_eq!(
                option(&words(line), "--backend", "-b"),
                Some("jack"),
                "{line}"
            );
        }
        for line in ["u", "u --backends=2", "u --bypass", "u -r 44100"] {
            assert_eq!(option(&words(line), "--backend", "-b"), None, "{line}");
        }
    }

    #[test]
    fn the_servers_rate_takes_the_place_of_another() {
        for line in [
            "u -p 64",
            "u -r 44100 -p 64",
            "u --sample-rate=44100 -p 64",
            "u -r44100 -p 64",
        ] {
            let args = at_rate(words(line), 96_000);
            assert_eq!(args, words("u -p 64 --sample-rate=96000"), "{line}");
        }
    }

    #[test]
    fn the_file_is_played_whole_then_rests_then_starts_anew() {
        let samples: Vec<f32> = (0..10).map(|n| n as f32).collect();
        let file = AudioBuffer::new(vec![samples.clone()], 4);
        let mut player = FilePlayer::new(&file, 4.0, 1);
        let pass = vec![
            (0, true, samples[..4].to_vec()),
            (4, true, samples[4..8].to_vec()),
            (8, true, vec![8.0, 9.0, 0.0, 0.0]),
            // Two seconds: eight frames.
            (0, false, vec![0.0; 4]),
            (0, false, vec![0.0; 4]),
        ];
        assert_eq!(blocks(&mut player, 5, 4), pass);
        assert_eq!(blocks(&mut player, 5, 4), pass);
    }

    #[test]
    fn channels_and_rate_are_the_backends() {
        let stereo = AudioBuffer::new(vec![vec![0.5; 800], vec![0.1; 800]], 8_000);
        let player = FilePlayer::new(&stereo, 16_000.0, 1);
        assert_eq!((player.channels.len(), player.frames), (1, 1_600));
        assert!((player.channels[0][800] - 0.3).abs() < 1e-3);
        let mono = AudioBuffer::new(vec![vec![0.5; 800]], 8_000);
        assert_eq!(FilePlayer::new(&mono, 8_000.0, 2).channels.len(), 2);
    }

    #[test]
    fn an_empty_file_gives_silence() {
        let mut player = FilePlayer::new(&AudioBuffer::silence(1, 0, 48_000), 48_000.0, 1);
        for (_, _, audio) in blocks(&mut player, 3, 64) {
            assert_eq!(audio, vec![0.0; 64]);
        }
    }
}

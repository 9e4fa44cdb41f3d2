// [any] Uncook as a program of its own, and its file player: the framework's JACK, system and dummy backends in the
// place of a host.

use std::sync::{Arc, OnceLock};

use nice_plug::{context::process::SendEventError, prelude::*};

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
    CONFIG.set(config).is_ok() && nice_export_standalone_with_args::<Program, _>(args)
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

    type Editor = UncookEditor;
    type SysExMessage = ();
    type BackgroundTask = Task;

    fn task_executor(&mut self) -> TaskExecutor<Self> {
        self.uncook.task_executor()
    }

    fn params(&self) -> Arc<dyn Params> {
        self.uncook.params()
    }

    fn editor(&mut self, _executor: AsyncExecutor<Self>) -> Option<UncookEditor> {
        let windowless = CONFIG.get().is_some_and(|config| config.windowless);
        (!windowless).then(|| self.uncook.open_editor())
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

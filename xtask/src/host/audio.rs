// [audio] The audio thread's half of a hosted plugin: one block in, one block out, with a transport.

use anyhow::{Context, Result, ensure};
use clack_host::{
    events::{
        EventFlags, UnknownEvent,
        event_types::{ParamValueEvent, TransportEvent, TransportFlags},
    },
    prelude::*,
    process::{
        StartedPluginAudioProcessor,
        audio_buffers::{AudioPortBuffer, AudioPortBufferType, AudioPorts, InputChannel},
    },
    utils::FixedPoint,
};

use super::{callbacks::Host, params::ParamId};

/// Beats a bar of the host's time signature, 4/4.
const BEATS_PER_BAR: i64 = 4;

/// The host's timeline for one block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transport {
    /// Whether the song is running.
    pub playing: bool,
    /// Song position of the block's first sample.
    pub position_samples: i64,
    /// Beats a minute.
    pub tempo_bpm: f64,
}

/// A parameter change inside a block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ParamChange {
    /// Sample in the block, smaller than the block's length.
    pub offset: u32,
    pub param: ParamId,
    /// In the range that CLAP reports for the parameter.
    pub value: f64,
}

/// A plugin between `start_processing` and `stop_processing`, on its audio thread.
pub struct AudioThread {
    pub(super) processor: StartedPluginAudioProcessor<Host>,
    sample_rate: u32,
    max_block: usize,
    inputs: Vec<Vec<f32>>,
    outputs: Vec<Vec<f32>>,
    input_ports: AudioPorts,
    output_ports: AudioPorts,
    changes: Vec<ParamValueEvent>,
    replies: EventBuffer,
    steady_samples: u64,
}

impl AudioThread {
    pub(super) fn new(
        processor: StartedPluginAudioProcessor<Host>,
        sample_rate: u32,
        max_block: usize,
        channels: usize,
    ) -> Self {
        Self {
            processor,
            sample_rate,
            max_block,
            inputs: vec![vec![0.0; max_block]; channels],
            outputs: vec![vec![0.0; max_block]; channels],
            input_ports: AudioPorts::with_capacity(channels, 1),
            output_ports: AudioPorts::with_capacity(channels, 1),
            changes: Vec::with_capacity(256),
            replies: EventBuffer::with_capacity(256),
            steady_samples: 0,
        }
    }

    /// Hz.
    pub fn sample_rate(&self) -> u32 {
        self.sample_rate
    }

    /// The longest block the plugin was activated for.
    pub fn max_block(&self) -> usize {
        self.max_block
    }

    /// Channels in and out.
    pub fn channels(&self) -> usize {
        self.inputs.len()
    }

    /// Writes the next block's input: `fill(channel, samples)` gets `frames` samples of each channel.
    pub fn fill_input(&mut self, frames: usize, mut fill: impl FnMut(usize, &mut [f32])) {
        for (channel, input) in self.inputs.iter_mut().enumerate() {
            fill(channel, &mut input[..frames]);
        }
    }

    /// Runs `frames` samples of the input that [`Self::fill_input`] wrote through the plugin.
    /// `changes` must be sorted by offset.
    ///
    /// # Errors
    /// If the plugin reports a processing error, or a block or an offset is out of range.
    pub fn process_block(
        &mut self,
        frames: usize,
        changes: &[ParamChange],
        transport: Transport,
    ) -> Result<()> {
        ensure!(
            (1..=self.max_block).contains(&frames),
            "a block of {frames} samples does not fit 1..={}",
            self.max_block
        );
        self.changes.clear();
        for change in changes {
            ensure!(
                (change.offset as usize) < frames,
                "a parameter change at sample {} of a block of {frames}",
                change.offset
            );
            self.changes.push(ParamValueEvent::new(
                change.offset,
                change.param.0,
                Pckn::match_all(),
                change.value,
            ));
        }
        // A plugin that forgets to write must not look like one that repeats its last block.
        for output in &mut self.outputs {
            output[..frames].fill(f32::NAN);
        }
        let inputs = self.input_ports.with_input_buffers([AudioPortBuffer {
            latency: 0,
            channels: AudioPortBufferType::f32_input_only(
                self.inputs
                    .iter_mut()
                    .map(|c| InputChannel::variable(&mut c[..frames])),
            ),
        }]);
        let mut outputs = self.output_ports.with_output_buffers([AudioPortBuffer {
            latency: 0,
            channels: AudioPortBufferType::f32_output_only(
                self.outputs.iter_mut().map(|c| &mut c[..frames]),
            ),
        }]);
        self.replies.clear();
        let event = transport_event(transport, self.sample_rate);
        self.processor
            .process(
                &inputs,
                &mut outputs,
                &InputEvents::from_buffer(&self.changes),
                &mut OutputEvents::from_buffer(&mut self.replies),
                Some(self.steady_samples),
                Some(&event),
            )
            .context("the plugin could not process a block")?;
        self.steady_samples += frames as u64;
        Ok(())
    }

    /// Events that the plugin wrote in the last block, such as gestures of its editor.
    pub fn replies(&self) -> impl Iterator<Item = &UnknownEvent> {
        self.replies.iter()
    }

    /// The first `frames` samples of `channel` that the last block gave.
    pub fn output(&self, channel: usize, frames: usize) -> &[f32] {
        &self.outputs[channel][..frames]
    }

    /// `clap_plugin.reset()`: everything that remembers audio forgets it.
    pub fn reset(&mut self) {
        self.processor.reset();
        self.steady_samples = 0;
    }
}

/// CLAP gives the song position in seconds and in beats, as 1/2³¹ steps. The seconds are rounded from
/// the exact quotient, so that `round(seconds · rate)` is the position at every rate up to 10⁹ Hz.
///
/// A tempo is always given: nice-plug moves the position along inside a block that it splits at a
/// parameter change only where there is one.
fn transport_event(transport: Transport, sample_rate: u32) -> TransportEvent {
    let Transport {
        playing,
        position_samples,
        tempo_bpm,
    } = transport;
    let mut flags = TransportFlags::HAS_TEMPO
        | TransportFlags::HAS_BEATS_TIMELINE
        | TransportFlags::HAS_SECONDS_TIMELINE
        | TransportFlags::HAS_TIME_SIGNATURE;
    if playing {
        flags |= TransportFlags::IS_PLAYING;
    }
    let beats =
        FixedPoint::from_float(position_samples as f64 / f64::from(sample_rate) * tempo_bpm / 60.0);
    let bar = beats
        .to_bits()
        .div_euclid(FixedPoint::FACTOR * BEATS_PER_BAR);
    TransportEvent {
        header: EventHeader::new_core(0, EventFlags::empty()),
        flags,
        song_pos_beats: beats,
        song_pos_seconds: seconds_fixed(position_samples, sample_rate),
        tempo: tempo_bpm,
        tempo_inc: 0.0,
        loop_start_beats: FixedPoint::default(),
        loop_end_beats: FixedPoint::default(),
        loop_start_seconds: FixedPoint::default(),
        loop_end_seconds: FixedPoint::default(),
        bar_start: FixedPoint::from_int(bar * BEATS_PER_BAR),
        bar_number: bar.clamp(i32::MIN.into(), i32::MAX.into()) as i32,
        time_signature_numerator: BEATS_PER_BAR as u16,
        time_signature_denominator: 4,
    }
}

/// A position in CLAP's fixed-point seconds, correctly rounded.
fn seconds_fixed(position_samples: i64, sample_rate: u32) -> FixedPoint {
    let rate = i128::from(sample_rate);
    let scaled = i128::from(position_samples) * i128::from(FixedPoint::FACTOR);
    FixedPoint::from_bits((2 * scaled + rate).div_euclid(2 * rate) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_position_survives_the_way_through_seconds() {
        // What nice-plug 0.4 does with them: bits / 2³¹ in f64, times the rate, rounded.
        for rate in [8_000u32, 44_100, 48_000, 88_200, 96_000, 192_000] {
            for position in (0..3_000)
                .chain((0..2_000).map(|i| i64::from(rate) * 3_600 * 5 + i * 7_919))
                .chain(-500..0)
            {
                let bits = seconds_fixed(position, rate).to_bits();
                let seconds = bits as f64 / FixedPoint::FACTOR as f64;
                assert_eq!((seconds * f64::from(rate)).round() as i64, position);
            }
        }
    }

    #[test]
    fn bars_follow_the_beats() {
        let at = |seconds: i64| {
            transport_event(
                Transport {
                    playing: true,
                    position_samples: seconds * 48_000,
                    tempo_bpm: 120.0,
                },
                48_000,
            )
        };
        assert_eq!(at(0).bar_number, 0);
        assert_eq!(at(1).bar_number, 0);
        assert_eq!(at(2).bar_number, 1);
        assert_eq!(at(2).bar_start, FixedPoint::from_int(4));
        assert_eq!(at(-1).bar_number, -1);
        assert!(at(0).flags.contains(TransportFlags::IS_PLAYING));
    }
}

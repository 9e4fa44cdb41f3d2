// [audio] The live chain: capture, detect, repair, play patches, finish. Read top to bottom.

use std::sync::{Arc, atomic::Ordering};

use crate::{
    damage::{DamageKind, Severity},
    exchange::{SamplePos, capture::CaptureTap, meters::Meters, patch::PatchReader},
    realtime::{
        MAX_CHANNELS, Ramp, Settings, Stage,
        bandwidth::{BassRestorer, TrebleRestorer},
        compare::LoudnessMatch,
        declick::Declicker,
        declip::Declipper,
        delay::Delay,
        denoise::Denoiser,
        dereverb::Dereverb,
        desaturate::Desaturator,
        detect::Detector,
        eq::EqMatcher,
        limiter::Limiter,
        player::Player,
        stage::RAMP_SECONDS,
        unwrap::Unwrapper,
    },
};

/// Blocks are worked on in pieces of at most this many samples: scratch space stays small.
const PIECE: usize = 256;
/// Input beyond this (+80 dBFS) is cut off: squares must stay finite in single precision.
const MAX_INPUT: f32 = 1e4;
/// Silence after which a moved timeline starts from a clean state, on top of the latency.
const IDLE_SECONDS: f64 = 0.5;
/// The lowest rate in Hz that the stages' frames and filters are made for.
const LOWEST_RATE: f64 = 8_000.0;

/// The audio thread's ends of everything it shares.
pub struct AudioLink {
    pub patches: PatchReader,
    pub capture: CaptureTap,
    pub meters: Arc<Meters>,
}

/// Where a block lies on the timeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transport {
    /// Position of the block's first sample; `None` if the host gives none.
    pub pos: Option<SamplePos>,
    /// Whether the timeline moves.
    pub playing: bool,
    /// Whether input is captured while it does.
    pub capture: bool,
}

/// The live chain with capture tap and player.
///
/// Output depends on the input, the settings and the positions, sample by sample, never on how the
/// host cuts its blocks. Where nothing was damaged, everything is turned down or `bypass` is on, the output
/// is the input, delayed by [`Chain::latency`], bit for bit (not-a-number and infinite input becomes 0).
///
/// When the timeline starts or jumps after silence, the chain starts from a clean state, so that a
/// bounce from there equals the playback from there.
pub struct Chain {
    link: AudioLink,
    channels: usize,
    latency: usize,
    detector: Detector,
    severity: Severity,
    unwrap: Unwrapper,
    desaturate: Desaturator,
    declick: Declicker,
    declip: Declipper,
    denoise: Denoiser,
    /// Fills up what the stages before the player lack to its look-ahead.
    pad: [Delay<f32>; MAX_CHANNELS],
    player: Player,
    bass: BassRestorer,
    treble: TrebleRestorer,
    eq: EqMatcher,
    dereverb: Dereverb,
    /// The raw input, at the limiter.
    dry: [Delay<f32>; MAX_CHANNELS],
    limiter: Limiter,
    loudness: LoudnessMatch,
    gain: Ramp,
    mix: Ramp,
    delta: Ramp,
    compare: Ramp,
    bypass: Ramp,
    scratch: Scratch,
    /// Consecutive frames of digital silence at the input.
    silent_frames: u64,
    idle_frames: u64,
    /// Where the next frame is expected; `None` while the transport stands.
    expected: Option<SamplePos>,
    capturing: bool,
    /// Memory is to be cleared before the next frame.
    fresh: bool,
}

struct Scratch {
    raw: [[f32; PIECE]; MAX_CHANNELS],
    dry: [[f32; PIECE]; MAX_CHANNELS],
}

impl Chain {
    /// Allocates everything for `channels` (1 or 2) at `sample_rate` Hz (8000 to 192000). Below, the stages work
    /// as at 8000 Hz, their frequencies and times scaled with the rate: no recording has such a rate, but some
    /// hosts ask for it when they test a plugin.
    ///
    /// # Panics
    /// On another number of channels: a defect of the caller.
    pub fn new(sample_rate: f64, channels: usize, mut link: AudioLink) -> Self {
        assert!(
            (1..=MAX_CHANNELS).contains(&channels),
            "{channels} channels"
        );
        link.capture.set_sample_rate(sample_rate.round() as u32);
        let patch_rate = sample_rate;
        let sample_rate = sample_rate.max(LOWEST_RATE);
        let unwrap = Unwrapper::live(sample_rate, channels);
        let desaturate = Desaturator::live(sample_rate, channels);
        let declick = Declicker::live(sample_rate, channels);
        let declip = Declipper::live(sample_rate, channels);
        let denoise = Denoiser::live(sample_rate, channels);
        let repair = unwrap.latency()
            + desaturate.latency()
            + declick.latency()
            + declip.latency()
            + denoise.latency();
        let pad = Player::look_ahead_samples(patch_rate).saturating_sub(repair);
        let bass = BassRestorer::live(sample_rate, channels);
        let treble = TrebleRestorer::live(sample_rate, channels);
        let eq = EqMatcher::live(sample_rate, channels);
        let dereverb = Dereverb::live(sample_rate, channels);
        let limiter = Limiter::live(sample_rate, channels);
        let before_limiter =
            repair + pad + bass.latency() + treble.latency() + eq.latency() + dereverb.latency();
        let latency = before_limiter + limiter.latency();
        let ramp = |value| Ramp::new(value, RAMP_SECONDS, sample_rate);
        Self {
            link,
            channels,
            latency,
            detector: Detector::new(sample_rate, channels),
            severity: [0.0; DamageKind::COUNT],
            unwrap,
            desaturate,
            declick,
            declip,
            denoise,
            pad: std::array::from_fn(|_| Delay::new(pad)),
            player: Player::new(patch_rate, repair + pad),
            bass,
            treble,
            eq,
            dereverb,
            dry: std::array::from_fn(|_| Delay::new(before_limiter)),
            limiter,
            loudness: LoudnessMatch::new(sample_rate),
            gain: ramp(1.0),
            mix: ramp(1.0),
            delta: ramp(0.0),
            compare: ramp(0.0),
            bypass: ramp(0.0),
            scratch: Scratch {
                raw: [[0.0; PIECE]; MAX_CHANNELS],
                dry: [[0.0; PIECE]; MAX_CHANNELS],
            },
            silent_frames: u64::MAX,
            idle_frames: latency as u64 + (IDLE_SECONDS * sample_rate) as u64,
            expected: None,
            capturing: false,
            fresh: true,
        }
    }

    /// Gives the shared ends back, to build a chain for another rate or layout.
    pub fn into_link(mut self) -> AudioLink {
        self.stop_capture();
        self.link
    }

    /// Whether the patches of a block of `frames` that begins at `pos` are in memory; live repair plays where they are not.
    pub fn is_here(&self, pos: SamplePos, frames: usize) -> bool {
        let end = pos.offset(frames as i64);
        self.link.patches.current().is_here_throughout(pos, end)
    }

    /// Delay in samples; depends on the sample rate alone.
    pub fn latency(&self) -> usize {
        self.latency
    }

    /// The next block finds all memory cleared and its settings in force at once. Allocates nothing.
    pub fn reset(&mut self) {
        self.fresh = true;
        self.silent_frames = u64::MAX;
        self.expected = None;
    }

    fn clear(&mut self) {
        self.detector.reset();
        self.severity = [0.0; DamageKind::COUNT];
        self.unwrap.reset();
        self.desaturate.reset();
        self.declick.reset();
        self.declip.reset();
        self.denoise.reset();
        self.pad.iter_mut().for_each(Delay::reset);
        self.player.reset();
        self.bass.reset();
        self.treble.reset();
        self.eq.reset();
        self.dereverb.reset();
        self.dry.iter_mut().for_each(Delay::reset);
        self.limiter.reset();
        self.loudness.reset();
        for ramp in self.ramps() {
            ramp.settle();
        }
    }

    fn ramps(&mut self) -> [&mut Ramp; 5] {
        [
            &mut self.gain,
            &mut self.mix,
            &mut self.delta,
            &mut self.compare,
            &mut self.bypass,
        ]
    }

    /// Processes a block in place. `channels`: as many as given to [`Chain::new`], of equal length (any).
    pub fn process(&mut self, channels: &mut [&mut [f32]], at: Transport, settings: &Settings) {
        debug_assert_eq!(channels.len(), self.channels);
        let frames = channels.iter().map(|c| c.len()).min().unwrap_or(0);
        self.locate(at);
        self.set(settings);
        if self.fresh && frames > 0 {
            // After the settings: there is nothing to ramp from, so the first ones hold at once.
            self.clear();
            self.fresh = false;
        }
        let (mut in_peak, mut out_peak, mut reduction_db) = (0.0f32, 0.0f32, 0.0f32);
        let mut done = 0;
        while done < frames {
            let n = (frames - done).min(PIECE);
            let pos = at.pos.map(|p| p.offset(done as i64));
            let at = Transport { pos, ..at };
            let peaks = match channels {
                [left] => {
                    let mut piece = [&mut left[done..done + n]];
                    self.piece(&mut piece, at)
                }
                [left, right, ..] => {
                    let mut piece = [&mut left[done..done + n], &mut right[done..done + n]];
                    self.piece(&mut piece, at)
                }
                [] => return,
            };
            in_peak = in_peak.max(peaks.0);
            out_peak = out_peak.max(peaks.1);
            reduction_db = reduction_db.max(peaks.2);
            done += n;
        }
        self.report(at, frames, in_peak, out_peak, reduction_db);
    }

    /// Follows the timeline: a clean start after silence, the end of a captured span.
    fn locate(&mut self, at: Transport) {
        let pos = at.pos.filter(|_| at.playing);
        if let Some(pos) = pos
            && self.expected != Some(pos)
            && self.silent_frames >= self.idle_frames
        {
            self.fresh = true;
        }
        if self.capturing && !(at.capture && pos.is_some()) {
            self.stop_capture();
        }
    }

    fn stop_capture(&mut self) {
        if std::mem::take(&mut self.capturing) {
            self.link.capture.stop();
        }
    }

    fn set(&mut self, s: &Settings) {
        let amount = |x: f32| (x * s.repair).clamp(0.0, 1.0);
        self.declick.set_intensity(amount(s.declick));
        // Overflow and saturation are clipping of other kinds.
        self.unwrap.set_intensity(amount(s.declip));
        self.desaturate.set_intensity(amount(s.declip));
        self.declip.set_intensity(amount(s.declip));
        self.denoise.set_intensity(amount(s.denoise));
        self.player.set(s);
        self.bass.set_intensity(amount(s.bass));
        self.treble.set_intensity(amount(s.treble));
        self.eq.set_intensity(amount(s.eq_match));
        self.dereverb
            .set_intensities(amount(s.dereverb_early), amount(s.dereverb_late));
        self.gain.set_target(10f32.powf(s.output_gain_db / 20.0));
        self.mix.set_target(s.mix);
        self.limiter.set_ceiling_db(s.ceiling_db);
        self.limiter.set_enabled(s.limiter);
        let switch = |on: bool| f32::from(u8::from(on));
        self.delta.set_target(switch(s.delta));
        self.compare.set_target(switch(s.compare));
        self.bypass.set_target(switch(s.bypass));
    }

    /// One piece of at most [`PIECE`] frames. Returns input peak, output peak and gain reduction in dB.
    fn piece(&mut self, io: &mut [&mut [f32]], at: Transport) -> (f32, f32, f32) {
        let n = io.first().map_or(0, |c| c.len());
        let stereo = self.channels == 2;
        let mut in_peak = 0.0f32;
        for (channel, raw) in io.iter_mut().zip(&mut self.scratch.raw) {
            for (x, raw) in channel.iter_mut().zip(raw) {
                if !x.is_finite() {
                    *x = 0.0;
                } else if x.abs() > MAX_INPUT {
                    *x = x.clamp(-MAX_INPUT, MAX_INPUT);
                }
                *raw = *x;
                in_peak = in_peak.max(x.abs());
            }
        }
        let [raw_left, raw_right] = &self.scratch.raw;
        let raw_right = if stereo { raw_right } else { raw_left };
        self.silent_frames = match (0..n).rposition(|i| raw_left[i] != 0.0 || raw_right[i] != 0.0) {
            Some(last) => (n - 1 - last) as u64,
            None => self.silent_frames.saturating_add(n as u64),
        };
        let pos = at.pos.filter(|_| at.playing);
        self.expected = pos.map(|p| p.offset(n as i64));
        if at.capture
            && let Some(pos) = pos
        {
            self.capturing = true;
            for i in 0..n {
                let (left, right) = (raw_left[i], raw_right[i]);
                self.link.capture.push(pos.offset(i as i64), left, right);
            }
        }
        let severity = &mut self.severity;
        let views = [&raw_left[..n], &raw_right[..n]];
        self.detector
            .process(&views[..self.channels], &mut |_, frame| *severity = *frame);

        self.unwrap.process(io);
        self.desaturate.process(io);
        self.declick.process(io);
        self.declip.process(io);
        self.denoise.process(io);
        for (channel, pad) in io.iter_mut().zip(&mut self.pad) {
            pad.process(channel);
        }
        for i in 0..n {
            let pos = pos.map(|p| p.offset(i as i64));
            // Of mono, takes hold two equal channels.
            let raw = [raw_left[i], raw_right[i]];
            let mut live = [0.0; MAX_CHANNELS];
            for (l, channel) in live.iter_mut().zip(io.iter()) {
                *l = channel[i];
            }
            self.player
                .process(&mut self.link.patches, pos, raw, &mut live);
            for (l, channel) in live.iter().zip(io.iter_mut()) {
                channel[i] = *l;
            }
        }
        self.bass.process(io);
        self.treble.process(io);
        self.eq.process(io);
        self.dereverb.process(io);

        for ((dry, raw), delay) in self
            .scratch
            .dry
            .iter_mut()
            .zip(&self.scratch.raw)
            .zip(&mut self.dry)
            .take(self.channels)
        {
            for (d, r) in dry.iter_mut().zip(&raw[..n]) {
                *d = delay.push(*r);
            }
        }
        for i in 0..n {
            let (gain, mix) = (self.gain.next(), self.mix.next());
            for (channel, dry) in io.iter_mut().zip(&self.scratch.dry) {
                let wet = if gain == 1.0 {
                    channel[i]
                } else {
                    gain * channel[i]
                };
                channel[i] = crossfade(dry[i], wet, mix);
            }
        }
        let [dry_left, dry_right] = &mut self.scratch.dry;
        let mut dry = [&mut dry_left[..n], &mut dry_right[..n]];
        let reduction_db = self.limiter.process(io, &mut dry[..self.channels]);
        let out_peak = self.monitor(io, n);
        (in_peak, out_peak, reduction_db)
    }

    /// Delta, A/B and bypass: what is heard of output and input. Returns the peak.
    fn monitor(&mut self, io: &mut [&mut [f32]], n: usize) -> f32 {
        let mut peak = 0.0f32;
        for i in 0..n {
            let (delta, compare, bypass) =
                (self.delta.next(), self.compare.next(), self.bypass.next());
            let dry = self.scratch.dry.map(|c| c[i]);
            let mut wet = [0.0; MAX_CHANNELS];
            for (w, channel) in wet.iter_mut().zip(io.iter()) {
                *w = channel[i];
            }
            let gain = self
                .loudness
                .process(&dry[..self.channels], &wet[..self.channels]);
            for ((channel, wet), dry) in io.iter_mut().zip(wet).zip(dry) {
                let mut y = wet;
                if delta != 0.0 {
                    y -= delta * dry;
                }
                y = crossfade(y, gain * dry, compare);
                y = crossfade(y, dry, bypass);
                // No stage makes these; a defect in one must not reach the speakers.
                channel[i] = if y.is_finite() { y } else { 0.0 };
                peak = peak.max(channel[i].abs());
            }
        }
        peak
    }

    fn report(&self, at: Transport, frames: usize, in_peak: f32, out_peak: f32, reduction_db: f32) {
        let meters = &self.link.meters;
        Meters::raise(&meters.input_peak, in_peak);
        Meters::raise(&meters.output_peak, out_peak);
        meters.limiter_db.store(reduction_db, Ordering::Relaxed);
        meters.set_severity(&self.severity);
        meters.set_player(self.player.state());
        let pos = at.pos.map_or(Meters::NO_POSITION, |p| p.0);
        meters.position.store(pos, Ordering::Relaxed);
        meters.processed.fetch_add(frames as u64, Ordering::Relaxed);
    }
}

/// `a` at 0, `b` at 1, both bit for bit.
#[inline]
fn crossfade(a: f32, b: f32, x: f32) -> f32 {
    if x == 0.0 {
        a
    } else if x == 1.0 {
        b
    } else {
        a + x * (b - a)
    }
}

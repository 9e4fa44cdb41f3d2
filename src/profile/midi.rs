// [worker] The profile as a standard MIDI file: tempo map, chords, drums, bass and lead.

use midly::{
    Format, Header, MetaMessage, MidiMessage, Smf, Timing, Track, TrackEvent, TrackEventKind,
    num::{u4, u7, u15, u24, u28},
};

use super::{DrumClass, MusicalProfile, Note};

/// Ticks a quarter note.
const TICKS: u16 = 960;
/// Channels (from 0; drums are General MIDI's tenth) and General MIDI programs.
const BASS: (u8, u8) = (0, 33);
const LEAD: (u8, u8) = (1, 80);
const DRUMS: u8 = 9;
/// Length of a drum's note, ticks: a thirty-second.
const HIT: u64 = TICKS as u64 / 8;
/// Tempo where no beats are known, microseconds a quarter.
const NO_TEMPO: f64 = 500_000.0;

/// General MIDI's note for a drum.
pub fn drum_note(class: DrumClass) -> u8 {
    match class {
        DrumClass::Kick => 36,
        DrumClass::Snare => 38,
        DrumClass::HihatClosed => 42,
        DrumClass::HihatOpen => 46,
        DrumClass::Tom => 45,
        DrumClass::Crash => 49,
        DrumClass::Ride => 51,
    }
}

/// The profile as a format 1 standard MIDI file. The first track has the tempo of every beat, the time
/// signature (a first bar cut short where the recording starts inside one) and the chords as markers;
/// the others are drums (General MIDI's map, channel 10), bass and lead, those that have notes. Played
/// back, everything falls where it was heard, to less than a millisecond; pitches are rounded to keys.
pub fn midi_file(profile: &MusicalProfile) -> Vec<u8> {
    let clock = Clock::new(profile);
    let labels: Vec<&[u8]> = profile.chords.iter().map(|c| c.label.as_bytes()).collect();
    let mut tracks = vec![conductor(profile, &clock, &labels)];
    let drums: Vec<Sound> = profile
        .drums
        .iter()
        .map(|hit| {
            let on = clock.tick(hit.t);
            Sound {
                on,
                off: on + HIT,
                key: drum_note(hit.class),
                velocity: hit.velocity,
            }
        })
        .collect();
    let notes = |notes: &[Note]| -> Vec<Sound> {
        notes
            .iter()
            .filter(|n| n.midi.is_finite() && (-0.5..127.5).contains(&n.midi))
            .map(|n| {
                let on = clock.tick(n.t);
                Sound {
                    on,
                    off: clock.tick(n.t + n.dur).max(on + 1),
                    key: n.midi.round().clamp(0.0, 127.0) as u8,
                    velocity: n.velocity,
                }
            })
            .collect()
    };
    for (name, channel, program, sounds) in [
        (&b"Drums"[..], DRUMS, None, drums),
        (b"Bass", BASS.0, Some(BASS.1), notes(&profile.bass_notes)),
        (b"Lead", LEAD.0, Some(LEAD.1), notes(&profile.melody_notes)),
    ] {
        if !sounds.is_empty() {
            tracks.push(part(name, channel, program, &sounds));
        }
    }
    let smf = Smf {
        header: Header::new(Format::Parallel, Timing::Metrical(u15::new(TICKS))),
        tracks,
    };
    let mut bytes = Vec::new();
    // Writing to memory can't fail.
    let done = smf.write(&mut bytes);
    debug_assert!(done.is_ok());
    bytes
}

struct Sound {
    on: u64,
    off: u64,
    key: u8,
    velocity: f32,
}

/// From seconds to ticks along the beats.
struct Clock {
    /// Beat times in seconds, evenly continued to time 0 at the front.
    beats: Vec<f64>,
    /// Ticks a beat: a quarter, or a dotted quarter in compound time.
    beat: u64,
    /// Beats of the cut first bar, 0 for none.
    pickup: usize,
}

impl Clock {
    fn new(profile: &MusicalProfile) -> Self {
        let compound = profile.meter.is_some_and(|m| m.value.1 == 8);
        let beat = u64::from(TICKS) * if compound { 3 } else { 2 } / 2;
        let mut heard: Vec<f64> = profile
            .beats
            .iter()
            .copied()
            .filter(|b| b.is_finite() && *b >= 0.0)
            .collect();
        heard.dedup_by(|b, a| *b - *a < 0.01);
        if heard.len() < 2 {
            let seconds = beat as f64 / f64::from(TICKS) * NO_TEMPO * 1e-6;
            return Self {
                beats: vec![0.0, seconds],
                beat,
                pickup: 0,
            };
        }
        let period = (heard[heard.len() - 1] - heard[0]) / (heard.len() - 1) as f64;
        let first = heard[0];
        let lead = if first < 1e-6 {
            0
        } else {
            ((first / period).round() as usize).max(1)
        };
        let mut beats: Vec<f64> = (0..lead).map(|i| first * i as f64 / lead as f64).collect();
        beats.append(&mut heard);
        let length = beats_a_bar(profile);
        let down = profile.downbeats.first().map_or(0, |&d| {
            beats
                .iter()
                .position(|&b| (b - d).abs() < 0.03)
                .unwrap_or(0)
        });
        Self {
            beats,
            beat,
            pickup: down % length,
        }
    }

    fn tick(&self, seconds: f64) -> u64 {
        let last = self.beats.len() - 2;
        let i = self
            .beats
            .partition_point(|&b| b <= seconds)
            .saturating_sub(1)
            .min(last);
        let (from, to) = (self.beats[i], self.beats[i + 1]);
        let place = i as f64 + (seconds - from) / (to - from);
        (place * self.beat as f64).round().max(0.0) as u64
    }
}

fn beats_a_bar(profile: &MusicalProfile) -> usize {
    match profile.meter.map(|m| m.value) {
        Some((n, 8)) => usize::from(n / 3).max(1),
        Some((n, _)) => usize::from(n).max(1),
        None => 4,
    }
}

fn conductor<'a>(profile: &MusicalProfile, clock: &Clock, labels: &[&'a [u8]]) -> Track<'a> {
    let mut events: Vec<(u64, MetaMessage<'a>)> = vec![(0, MetaMessage::TrackName(b"Uncook"))];
    let (count, unit) = profile.meter.map_or((4, 4), |m| m.value);
    let compound = unit == 8;
    let signature = |beats: usize| {
        let count = if compound { beats * 3 } else { beats };
        let clocks = if compound { 36 } else { 24 };
        MetaMessage::TimeSignature(
            count.min(255) as u8,
            if compound { 3 } else { 2 },
            clocks,
            8,
        )
    };
    let bar = if compound {
        usize::from(count) / 3
    } else {
        usize::from(count)
    }
    .max(1);
    if clock.pickup > 0 {
        events.push((0, signature(clock.pickup)));
    }
    events.push((clock.pickup as u64 * clock.beat, signature(bar)));
    let quarters = clock.beat as f64 / f64::from(TICKS);
    let (mut said, mut last) = (0.0, 0);
    for (i, b) in clock.beats.windows(2).enumerate() {
        // What rounding to microseconds lost is made up by the next beat.
        let micros = ((b[1] - said) * 1e6 / quarters)
            .round()
            .clamp(1.0, 16_777_215.0);
        said += micros * 1e-6 * quarters;
        if i == 0 || micros as u32 != last {
            last = micros as u32;
            events.push((i as u64 * clock.beat, MetaMessage::Tempo(u24::new(last))));
        }
    }
    for (chord, &label) in profile.chords.iter().zip(labels) {
        events.push((clock.tick(chord.start), MetaMessage::Marker(label)));
    }
    events.sort_by_key(|e| e.0);
    track(
        events
            .into_iter()
            .map(|(at, m)| (at, TrackEventKind::Meta(m))),
    )
}

fn part<'a>(name: &'a [u8], channel: u8, program: Option<u8>, sounds: &[Sound]) -> Track<'a> {
    let midi = |message| TrackEventKind::Midi {
        channel: u4::new(channel),
        message,
    };
    // At one tick notes end before others begin, so that a repeated key sounds again.
    let mut events: Vec<(u64, u8, TrackEventKind)> =
        vec![(0, 0, TrackEventKind::Meta(MetaMessage::TrackName(name)))];
    if let Some(program) = program {
        let program = u7::new(program);
        events.push((0, 0, midi(MidiMessage::ProgramChange { program })));
    }
    for (i, sound) in sounds.iter().enumerate() {
        let key = u7::new(sound.key);
        let vel = u7::new((sound.velocity.clamp(0.0, 1.0) * 126.0) as u8 + 1);
        // A key that is struck again ends there.
        let again = sounds[i + 1..]
            .iter()
            .filter(|s| s.key == sound.key && s.on > sound.on);
        let off = again
            .map(|s| s.on)
            .min()
            .map_or(sound.off, |t| sound.off.min(t));
        events.push((sound.on, 2, midi(MidiMessage::NoteOn { key, vel })));
        let vel = u7::new(0);
        events.push((off, 1, midi(MidiMessage::NoteOff { key, vel })));
    }
    events.sort_by_key(|e| (e.0, e.1));
    track(events.into_iter().map(|(at, _, kind)| (at, kind)))
}

fn track<'a>(events: impl Iterator<Item = (u64, TrackEventKind<'a>)>) -> Track<'a> {
    let mut now = 0;
    let mut out: Track = events
        .map(|(at, kind)| {
            // 2²⁸ ticks are over thirty hours.
            let delta = u28::new((at - now).min((1 << 28) - 1) as u32);
            now = at;
            TrackEvent { delta, kind }
        })
        .collect();
    out.push(TrackEvent {
        delta: u28::new(0),
        kind: TrackEventKind::Meta(MetaMessage::EndOfTrack),
    });
    out
}

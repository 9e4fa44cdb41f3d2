//! The profile against synthesized music whose truth is known, and its measures against hand-worked cases.

use super::support::Noise;
use uncook::{
    audio::AudioBuffer,
    profile::{
        Chord, DrumClass, Key, Mode, MusicalProfile, Note, PITCH_CLASSES, analyse,
        metrics::{
            chord_scores, event_f, key_score, note_f, overall_pitch_accuracy, raw_pitch_accuracy,
            tempo_accuracy,
        },
        track_bass, track_melody,
    },
    worker::progress::Progress,
};

const RATE: u32 = 44_100;

/// What a rendered song is made of, and its truth.
#[derive(Default)]
struct Song {
    seconds: f64,
    drums: Vec<f32>,
    bass: Vec<f32>,
    other: Vec<f32>,
    vocals: Vec<f32>,
    beats: Vec<f64>,
    downbeats: Vec<f64>,
    chords: Vec<Chord>,
    bass_notes: Vec<Note>,
    melody: Vec<Note>,
    kicks: Vec<f64>,
    snares: Vec<f64>,
    hats: Vec<f64>,
}

/// A metre: beats a bar, parts a beat, and the beats that carry kick and snare.
struct Metre {
    beats: usize,
    parts: usize,
    kick: &'static [usize],
    snare: &'static [usize],
}

const FOUR: Metre = Metre {
    beats: 4,
    parts: 2,
    kick: &[0, 2],
    snare: &[1, 3],
};
const WALTZ: Metre = Metre {
    beats: 3,
    parts: 2,
    kick: &[0],
    snare: &[1, 2],
};
const SIX_EIGHT: Metre = Metre {
    beats: 2,
    parts: 3,
    kick: &[0],
    snare: &[1],
};

fn hz(midi: f64) -> f64 {
    440.0 * ((midi - 69.0) / 12.0).exp2()
}

fn note(t: f64, dur: f64, midi: f64) -> Note {
    Note {
        t,
        dur,
        midi: midi as f32,
        velocity: 1.0,
        confidence: 1.0,
    }
}

/// Adds a decaying stack of harmonics; `tilt` is the ratio of a partial to the one below.
fn add_tone(out: &mut [f32], note: Note, level: f64, tilt: f64, vibrato: f64) {
    let rate = f64::from(RATE);
    let first = (note.t * rate) as usize;
    let count = (note.dur * rate) as usize;
    let f0 = hz(f64::from(note.midi));
    let mut phase = 0.0f64;
    for n in 0..count {
        let Some(y) = out.get_mut(first + n) else {
            break;
        };
        let t = n as f64 / rate;
        let bend = vibrato * (std::f64::consts::TAU * 5.5 * t).sin();
        phase += std::f64::consts::TAU * f0 * (bend / 12.0).exp2() / rate;
        let attack = (t / 0.008).min(1.0);
        let release = ((note.dur - t) / 0.02).min(1.0);
        let envelope = level * attack * release * (-1.2 * t).exp();
        let mut weight = 1.0;
        let mut sum = 0.0;
        for h in 1..=12 {
            if f0 * f64::from(h) > 9000.0 {
                break;
            }
            sum += weight * (phase * f64::from(h)).sin();
            weight *= tilt;
        }
        *y += (envelope * sum) as f32;
    }
}

fn add_drum(out: &mut [f32], class: DrumClass, t: f64, level: f64, noise: &mut Noise) {
    let rate = f64::from(RATE);
    let first = (t * rate) as usize;
    let (mut phase, mut last) = (0.0f64, 0.0f64);
    for n in 0..(0.25 * rate) as usize {
        let Some(y) = out.get_mut(first + n) else {
            break;
        };
        let s = n as f64 / rate;
        let white = f64::from(noise.next());
        let bright = white - last;
        last = white;
        let x = match class {
            DrumClass::Kick => {
                phase += std::f64::consts::TAU * (48.0 + 90.0 * (-s / 0.02).exp()) / rate;
                phase.sin() * (-s / 0.08).exp() + 0.2 * white * (-s / 0.003).exp()
            }
            DrumClass::Snare => {
                phase += std::f64::consts::TAU * 190.0 / rate;
                0.5 * phase.sin() * (-s / 0.05).exp() + 0.5 * white * (-s / 0.07).exp()
            }
            // Twice differenced noise: nothing below a few kHz.
            _ => 0.35 * bright * (-s / 0.025).exp(),
        };
        *y += (level * x) as f32;
    }
}

/// Renders `bars` bars; `progression` gives root pitch class and quality of each bar in turn. `detune` in
/// semitones applies to everything pitched.
fn render(
    metre: &Metre,
    bpm: f64,
    bars: usize,
    progression: &[(usize, &str)],
    detune: f64,
    with_drums: bool,
) -> Song {
    let beat = 60.0 / bpm;
    let bar = beat * metre.beats as f64;
    let start = 0.3;
    let seconds = start + bar * bars as f64 + 0.4;
    let blank = vec![0.0f32; (seconds * f64::from(RATE)) as usize];
    let mut song = Song {
        seconds,
        drums: blank.clone(),
        bass: blank.clone(),
        other: blank.clone(),
        vocals: blank,
        ..Song::default()
    };
    let mut noise = Noise(7);
    for b in 0..bars {
        let t0 = start + bar * b as f64;
        let (root, quality) = progression[b % progression.len()];
        let third = if quality == "min" { 3 } else { 4 };
        song.chords.push(Chord {
            start: t0,
            end: t0 + bar,
            label: format!("{}:{quality}", PITCH_CLASSES[root]),
            confidence: 1.0,
        });
        for interval in [0, third, 7, 12] {
            let midi = 48.0 + (root + interval) as f64 + detune;
            add_tone(&mut song.other, note(t0, bar * 0.97, midi), 0.05, 0.55, 0.0);
        }
        song.downbeats.push(t0);
        for k in 0..metre.beats {
            let t = t0 + beat * k as f64;
            song.beats.push(t);
            // The bass plays the root, then the fifth above on the bar's second half.
            let low = if root >= 4 { 24 + root } else { 36 + root };
            let interval = if k * 2 >= metre.beats && k > 0 { 7 } else { 0 };
            let bass = note(t, beat * 0.8, (low + interval) as f64 + detune);
            add_tone(&mut song.bass, bass, 0.16, 0.6, 0.0);
            song.bass_notes.push(bass);
            if with_drums {
                if metre.kick.contains(&k) {
                    add_drum(&mut song.drums, DrumClass::Kick, t, 0.5, &mut noise);
                    song.kicks.push(t);
                }
                if metre.snare.contains(&k) {
                    add_drum(&mut song.drums, DrumClass::Snare, t, 0.3, &mut noise);
                    song.snares.push(t);
                }
                for p in 0..metre.parts {
                    let at = t + beat * p as f64 / metre.parts as f64;
                    let level = if p == 0 { 0.2 } else { 0.14 };
                    add_drum(
                        &mut song.drums,
                        DrumClass::HihatClosed,
                        at,
                        level,
                        &mut noise,
                    );
                    song.hats.push(at);
                }
            }
            // The lead sings chord notes, one a beat, with vibrato.
            let sung = [0, 7, third, 12][k % 4];
            let lead = note(t + 0.02, beat * 0.85, 60.0 + (root + sung) as f64 + detune);
            add_tone(&mut song.vocals, lead, 0.11, 0.75, 0.25);
            song.melody.push(lead);
        }
    }
    song
}

impl Song {
    fn mix(&self) -> AudioBuffer {
        let sum = (0..self.drums.len())
            .map(|n| self.drums[n] + self.bass[n] + self.other[n] + self.vocals[n])
            .collect();
        AudioBuffer::new(vec![sum], RATE)
    }

    fn stems(&self) -> [AudioBuffer; 4] {
        [&self.drums, &self.bass, &self.other, &self.vocals]
            .map(|s| AudioBuffer::new(vec![s.clone()], RATE))
    }
}

fn run(mix: &AudioBuffer) -> MusicalProfile {
    analyse(mix, None, &Progress::new()).expect("nobody cancelled")
}

fn hits(profile: &MusicalProfile, classes: &[DrumClass]) -> Vec<f64> {
    let wanted = profile.drums.iter().filter(|d| classes.contains(&d.class));
    wanted.map(|d| d.t).collect()
}

const HATS: [DrumClass; 2] = [DrumClass::HihatClosed, DrumClass::HihatOpen];
const POP: [(usize, &str); 4] = [(0, "maj"), (9, "min"), (5, "maj"), (7, "maj")];

/// Frames of 10 ms of the pitch that sounds.
fn contour(notes: &[Note], seconds: f64) -> Vec<f32> {
    (0..(seconds * 100.0) as usize)
        .map(|i| {
            let t = i as f64 / 100.0;
            let sounding = notes.iter().find(|n| n.t <= t && t < n.t + n.dur);
            sounding.map_or(0.0, |n| hz(f64::from(n.midi)) as f32)
        })
        .collect()
}

/// Everything in order: ascending, inside the recording, finite, confidences 0..=1.
fn assert_sane(p: &MusicalProfile, seconds: f64) {
    let ascending = |v: &[f64]| v.windows(2).all(|w| w[0] < w[1]);
    assert!(ascending(&p.beats) && ascending(&p.downbeats));
    assert!(p.beats.iter().all(|&t| (0.0..=seconds + 0.1).contains(&t)));
    assert!(p.downbeats.iter().all(|d| p.beats.contains(d)));
    assert!(p.chords.windows(2).all(|w| w[0].end == w[1].start));
    assert!(
        p.chords
            .iter()
            .all(|c| c.start < c.end && (0.0..=1.0).contains(&c.confidence))
    );
    for n in p.bass_notes.iter().chain(&p.melody_notes) {
        assert!(n.t >= 0.0 && n.dur > 0.0 && n.midi.is_finite());
        assert!((0.0..=1.0).contains(&n.velocity) && (0.0..=1.0).contains(&n.confidence));
    }
    assert!(p.drums.windows(2).all(|w| w[0].t <= w[1].t));
    for d in &p.drums {
        assert!((0.0..=1.0).contains(&d.velocity) && (0.0..=1.0).contains(&d.confidence));
    }
    let tempo = p.tempo_bpm.map_or(0.5, |t| t.confidence);
    let key = p.key.map_or(0.5, |k| k.confidence);
    let meter = p.meter.map_or(0.5, |m| m.confidence);
    assert!([tempo, key, meter].iter().all(|c| (0.0..=1.0).contains(c)));
}

#[test]
fn a_band_in_four_four_is_heard_from_its_mix() {
    let song = render(&FOUR, 118.0, 8, &POP, 0.0, true);
    let p = run(&song.mix());
    assert_sane(&p, song.seconds);
    let tempo = p.tempo_bpm.expect("a tempo").value;
    assert!((tempo / 118.0 - 1.0).abs() < 0.01, "{tempo} bpm");
    assert_eq!(p.meter.expect("a metre").value, (4, 4));
    let beats = event_f(&song.beats, &p.beats, 0.07);
    assert!(beats > 0.95, "beats {beats}");
    let bars = event_f(&song.downbeats, &p.downbeats, 0.07);
    assert!(bars > 0.9, "downbeats {bars}");
    let key = p.key.expect("a key").value;
    assert_eq!(
        key,
        Key {
            tonic: 0,
            mode: Mode::Major
        }
    );
    let chords = chord_scores(&song.chords, &p.chords);
    assert!(chords.root > 0.93 && chords.majmin > 0.93, "{chords:?}");
    let bass = note_f(&song.bass_notes, &p.bass_notes, 0.05, 50.0);
    assert!(bass > 0.6, "bass notes {bass}");
    // Kicks are left to the tests with a drum stem: here every beat has a bass note that attacks like one.
    let snare = event_f(&song.snares, &hits(&p, &[DrumClass::Snare]), 0.05);
    let hat = event_f(&song.hats, &hits(&p, &HATS), 0.05);
    assert!(snare > 0.9 && hat > 0.8, "{snare} {hat}");
}

#[test]
fn stems_make_it_surer() {
    let song = render(&FOUR, 96.0, 6, &POP, 0.0, true);
    let stems = song.stems();
    let p = analyse(&song.mix(), Some(&stems), &Progress::new()).expect("nobody cancelled");
    assert_sane(&p, song.seconds);
    let bass = note_f(&song.bass_notes, &p.bass_notes, 0.05, 50.0);
    assert!(bass > 0.93, "bass notes {bass}");
    let melody = note_f(&song.melody, &p.melody_notes, 0.1, 50.0);
    assert!(melody > 0.85, "melody notes {melody}");
    let kick = event_f(&song.kicks, &hits(&p, &[DrumClass::Kick]), 0.05);
    let snare = event_f(&song.snares, &hits(&p, &[DrumClass::Snare]), 0.05);
    let hat = event_f(&song.hats, &hits(&p, &HATS), 0.05);
    assert!(
        kick > 0.9 && snare > 0.8 && hat > 0.85,
        "{kick} {snare} {hat}"
    );
}

#[test]
fn three_four_and_six_eight_are_told_from_four_four() {
    let waltz = render(&WALTZ, 132.0, 10, &POP, 0.0, true);
    let p = run(&waltz.mix());
    assert_eq!(p.meter.expect("a metre").value, (3, 4));
    assert!(event_f(&waltz.downbeats, &p.downbeats, 0.07) > 0.85);

    let jig = render(&SIX_EIGHT, 72.0, 10, &POP, 0.0, true);
    let p = run(&jig.mix());
    assert_eq!(p.meter.expect("a metre").value, (6, 8));
    let tempo = p.tempo_bpm.expect("a tempo").value;
    assert!((tempo / 72.0 - 1.0).abs() < 0.02, "{tempo} bpm");
    assert!(event_f(&jig.beats, &p.beats, 0.07) > 0.9);
}

#[test]
fn a_minor_song_between_the_keys_of_the_piano() {
    // E minor, everything 40 cents flat.
    let progression = [(4, "min"), (9, "min"), (11, "min"), (4, "min")];
    let song = render(&FOUR, 104.0, 8, &progression, -0.4, true);
    let p = run(&song.mix());
    let key = p.key.expect("a key").value;
    assert_eq!(
        key,
        Key {
            tonic: 4,
            mode: Mode::Minor
        }
    );
    let chords = chord_scores(&song.chords, &p.chords);
    assert!(chords.majmin > 0.9, "{chords:?}");
}

#[test]
fn the_bass_is_tracked_from_its_stem_down_to_the_low_b_and_through_distortion() {
    let midis = [23.0, 28.0, 33.0, 40.0, 23.0, 45.0, 31.0, 26.0];
    let truth: Vec<Note> = midis
        .iter()
        .enumerate()
        .map(|(i, &m)| note(0.2 + 0.5 * i as f64, 0.45, m))
        .collect();
    let mut stem = vec![0.0f32; (4.5 * f64::from(RATE)) as usize];
    for &n in &truth {
        add_tone(&mut stem, n, 0.2, 0.6, 0.0);
    }
    let reference = contour(&truth, 4.5);
    for drive in [0.0f32, 8.0] {
        let samples = stem
            .iter()
            .map(|&x| if drive > 0.0 { (x * drive).tanh() } else { x });
        let audio = AudioBuffer::new(vec![samples.collect()], RATE);
        let track = track_bass(&audio);
        assert_eq!(track.hz.len(), track.confidence.len());
        let accuracy = raw_pitch_accuracy(&reference, &track.hz, 50.0);
        assert!(accuracy > 0.9, "drive {drive}: {accuracy}");
    }
}

#[test]
fn a_cappella_gives_its_melody() {
    let song = render(&FOUR, 100.0, 4, &POP, 0.0, false);
    let audio = AudioBuffer::new(vec![song.vocals.clone()], RATE);
    let track = track_melody(&audio);
    let reference = contour(&song.melody, song.seconds);
    let accuracy = raw_pitch_accuracy(&reference, &track.hz, 50.0);
    assert!(accuracy > 0.85, "{accuracy}");
    let p = run(&audio);
    assert_sane(&p, song.seconds);
    assert!(note_f(&song.melody, &p.melody_notes, 0.1, 50.0) > 0.7);
}

#[test]
fn a_solo_drummer_has_a_tempo_and_hits() {
    let song = render(&FOUR, 126.0, 6, &POP, 0.0, true);
    let p = run(&AudioBuffer::new(vec![song.drums.clone()], RATE));
    assert_sane(&p, song.seconds);
    let tempo = p.tempo_bpm.expect("a tempo").value;
    assert!((tempo / 126.0 - 1.0).abs() < 0.02, "{tempo} bpm");
    assert!(event_f(&song.kicks, &hits(&p, &[DrumClass::Kick]), 0.05) > 0.85);
}

#[test]
fn a_click_track_is_on_time() {
    let mut audio = AudioBuffer::silence(1, RATE as usize * 12, RATE);
    let truth: Vec<f64> = (0..23).map(|i| 0.25 + 0.5 * f64::from(i)).collect();
    for t in &truth {
        let at = (t * f64::from(RATE)) as usize;
        for n in 0..400 {
            let x = (n as f32 * 0.2).sin() * (-(n as f32) / 80.0).exp();
            audio.channels[0][at + n] = 0.8 * x;
        }
    }
    let p = run(&audio);
    assert_sane(&p, 12.0);
    let tempo = p.tempo_bpm.expect("a tempo").value;
    assert!((tempo - 120.0).abs() < 1.0, "{tempo} bpm");
    // Not only within the usual 70 ms: 25.
    assert!(event_f(&truth, &p.beats, 0.025) > 0.95);
}

#[test]
fn damage_is_survived() {
    // Driven 18 dB into hard clipping, telephone band, noise at −20 dB.
    let song = render(&FOUR, 112.0, 8, &POP, 0.0, true);
    let mut noise = Noise(3);
    let (mut low, mut high, mut before) = (0.0f32, 0.0f32, 0.0f32);
    let samples = song.mix().channels[0]
        .iter()
        .map(|&x| {
            let clipped = (8.0 * x).clamp(-0.5, 0.5);
            high = 0.965 * (high + clipped - before);
            before = clipped;
            low += 0.4 * (high - low);
            low + 0.03 * noise.next()
        })
        .collect();
    let p = run(&AudioBuffer::new(vec![samples], RATE));
    assert_sane(&p, song.seconds);
    assert!(event_f(&song.beats, &p.beats, 0.07) > 0.9);
    let chords = chord_scores(&song.chords, &p.chords);
    assert!(chords.root > 0.75, "{chords:?}");
}

#[test]
fn nothing_gives_nothing_and_never_a_panic() {
    for frames in [0, 1, 2, 100, 1000, RATE as usize] {
        let p = run(&AudioBuffer::silence(2, frames, RATE));
        assert!(p.tempo_bpm.is_none() && p.beats.is_empty() && p.key.is_none());
        assert!(p.bass_notes.is_empty() && p.melody_notes.is_empty() && p.drums.is_empty());
        assert!(p.chords.iter().all(|c| c.label == "N"));
    }
    assert_eq!(
        run(&AudioBuffer::new(Vec::new(), RATE)),
        MusicalProfile::default()
    );
    let mut noise = Noise(11);
    let hiss: Vec<f32> = (0..RATE as usize * 5).map(|_| 0.3 * noise.next()).collect();
    let p = run(&AudioBuffer::new(vec![hiss.clone()], RATE));
    assert_sane(&p, 5.0);
    assert!(p.key.is_none_or(|k| k.confidence < 0.5), "{:?}", p.key);
    let mut broken = hiss;
    broken[1000] = f32::NAN;
    broken[2000] = f32::INFINITY;
    broken[3000] = -f32::MAX;
    assert_sane(&run(&AudioBuffer::new(vec![broken], RATE)), 5.0);
}

#[test]
fn short_clips_and_any_sample_rate() {
    let song = render(&FOUR, 120.0, 4, &POP, 0.0, true);
    let mix = song.mix();
    let clip = mix.slice(0, 3 * RATE as usize);
    let p = run(&clip);
    assert_sane(&p, 3.0);
    assert!(!p.beats.is_empty());
    // The same samples at another rate are the same music, faster or slower: nothing may break, and the
    // tempo scales with it.
    for (rate, bpm) in [(32_000, 87.07), (48_000, 130.6)] {
        let p = run(&AudioBuffer::new(mix.channels.clone(), rate));
        let tempo = p.tempo_bpm.expect("a tempo").value;
        assert!((tempo / bpm - 1.0).abs() < 0.02, "{rate} Hz: {tempo} bpm");
    }
    for rate in [8_000, 11_025, 96_000, 192_000] {
        let seconds = mix.frames() as f64 / f64::from(rate);
        assert_sane(&run(&AudioBuffer::new(mix.channels.clone(), rate)), seconds);
    }
}

#[test]
fn the_same_twice_and_cancellable() {
    let song = render(&FOUR, 120.0, 2, &POP, 0.0, true);
    let mix = song.mix();
    assert_eq!(run(&mix), run(&mix));
    let progress = Progress::new();
    progress.cancel();
    assert!(analyse(&mix, None, &progress).is_none());
}

#[test]
fn tempo_and_key_measures() {
    assert_eq!(tempo_accuracy(100.0, 103.9), (true, true));
    assert_eq!(tempo_accuracy(100.0, 104.1), (false, false));
    assert_eq!(tempo_accuracy(100.0, 199.0), (false, true));
    assert_eq!(tempo_accuracy(90.0, 30.1), (false, true));
    assert_eq!(tempo_accuracy(100.0, 150.0), (false, false));
    let key = |tonic, mode| Key { tonic, mode };
    let c = key(0, Mode::Major);
    assert_eq!(key_score(c, c), 1.0);
    assert_eq!(key_score(c, key(7, Mode::Major)), 0.5);
    assert_eq!(key_score(c, key(5, Mode::Major)), 0.0);
    assert_eq!(key_score(c, key(9, Mode::Minor)), 0.3);
    assert_eq!(key_score(key(9, Mode::Minor), c), 0.3);
    assert_eq!(key_score(c, key(0, Mode::Minor)), 0.2);
    assert_eq!(key_score(c, key(2, Mode::Minor)), 0.0);
}

#[test]
fn event_and_note_measures() {
    // Two of three found, one false: P = 2/3, R = 2/3.
    let f = event_f(&[1.0, 2.0, 3.0], &[1.06, 2.5, 3.0], 0.07);
    assert!((f - 2.0 / 3.0).abs() < 1e-12);
    // One estimate can't serve two references.
    let f = event_f(&[1.0, 1.05], &[1.02], 0.07);
    assert!((f - 2.0 / 3.0).abs() < 1e-12);
    assert_eq!(event_f(&[], &[], 0.07), 1.0);
    assert_eq!(event_f(&[1.0], &[], 0.07), 0.0);
    // The first reference could take either estimate; the largest matching finds both pairs.
    let reference = [note(1.00, 0.1, 60.0), note(1.04, 0.1, 60.0)];
    let estimate = [note(0.99, 0.1, 60.0), note(0.96, 0.1, 60.4)];
    assert_eq!(note_f(&reference, &estimate, 0.05, 50.0), 1.0);
    assert_eq!(note_f(&reference, &estimate, 0.05, 30.0), 0.5);
    let truth = [0.0f32, 100.0, 100.0, 200.0];
    let guess = [0.0f32, 102.0, 110.0, 0.0];
    assert!((raw_pitch_accuracy(&truth, &guess, 50.0) - 1.0 / 3.0).abs() < 1e-12);
    assert_eq!(overall_pitch_accuracy(&truth, &guess, 50.0), 0.5);
}

#[test]
fn chord_measure() {
    let chord = |start: f64, end: f64, label: &str| Chord {
        start,
        end,
        label: label.to_owned(),
        confidence: 1.0,
    };
    let reference = [
        chord(0.0, 2.0, "C:maj"),
        chord(2.0, 3.0, "A:min7/5"),
        chord(3.0, 4.0, "D:sus4"),
        chord(4.0, 5.0, "N"),
    ];
    let estimate = [
        chord(0.0, 1.0, "C:maj"),
        chord(1.0, 2.0, "C:7"),
        chord(2.0, 3.0, "A:min"),
        chord(3.0, 5.0, "D:maj"),
    ];
    let s = chord_scores(&reference, &estimate);
    // Roots: 2 + 1 + 1 of 5. Major/minor: 2 + 1 of 4 (sus4 is outside). Sevenths: 1 of 4.
    assert!((s.root - 0.8).abs() < 1e-12, "{s:?}");
    assert!((s.majmin - 0.75).abs() < 1e-12, "{s:?}");
    assert!((s.sevenths - 0.25).abs() < 1e-12, "{s:?}");
    // Spellings and brackets: Bb = A#, extensions beyond the octave don't matter, flat sevenths do.
    let spelled = chord_scores(
        &[chord(0.0, 1.0, "Bb:maj(9)")],
        &[chord(0.0, 1.0, "A#:maj")],
    );
    assert_eq!((spelled.root, spelled.sevenths), (1.0, 1.0));
    let gap = chord_scores(&[chord(0.0, 1.0, "C:maj")], &[]);
    assert_eq!(gap.root, 0.0);
}

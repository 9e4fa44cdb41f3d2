//! The bundled plugin in a host. Needs `target/bundled/Uncook.clap`, which `cargo xtask test` makes
//! before it runs this.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use uncook::audio::AudioBuffer;
use xtask::{
    automation::{self, Change},
    host::{HostedPlugin, Param, RenderMode, find},
    render::{Blocks, Pace, Pass, commits, first_difference, play, play_on, rest, wait_for_worker},
    song::{Song, song},
};

/// Every parameter's permanent id, and whether a host may automate it.
const PARAMETERS: [(&str, bool); 27] = [
    ("bypass", true),
    ("repair", true),
    ("declip", true),
    ("declick", true),
    ("denoise", true),
    ("bass", true),
    ("treble", true),
    ("dereverb_early", true),
    ("dereverb_late", true),
    ("eq_match", true),
    ("output_gain", true),
    ("mix", true),
    ("limiter", true),
    ("ceiling", true),
    ("blend_drums", true),
    ("blend_bass", true),
    ("blend_other", true),
    ("blend_vocals", true),
    ("blend", true),
    ("delta", true),
    ("compare", true),
    ("capture", false),
    ("quality", false),
    ("seed", false),
    ("separator", false),
    ("drums_regenerator", false),
    ("bass_regenerator", false),
];

/// Songs here are this long: enough for the overdriven span to hold two beats.
const SONG_SECONDS: f64 = 3.0;

/// Longest time the worker may take for such a song.
const WORKER_LIMIT: Duration = Duration::from_secs(300);

/// CLAP knows one main thread a process, the test runner many: one test hosts at a time.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn bundle() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("cargo's scratch folder lies in the target folder");
    let bundle = target.join("bundled").join("Uncook.clap");
    assert!(
        bundle.exists(),
        "\n\nThese tests play the bundled plugin, and there is none at {}.\n\
         Run `cargo xtask test`, which bundles it first, or `cargo xtask bundle`.\n",
        bundle.display()
    );
    bundle
}

fn the_song() -> &'static Song {
    static SONG: OnceLock<Song> = OnceLock::new();
    SONG.get_or_init(|| song(SONG_SECONDS))
}

/// The clean song, cut at the phone's level and nothing else: damage that the live chain repairs.
fn hard_clipped() -> AudioBuffer {
    let song = the_song();
    let level = song.clip_level;
    let clip = |c: &Vec<f32>| c.iter().map(|s| s.clamp(-level, level)).collect();
    let channels = song.clean.channels.iter().map(clip).collect();
    AudioBuffer::new(channels, song.clean.sample_rate)
}

fn set(plugin: &mut HostedPlugin, settings: &[(&str, &str)]) {
    for (key, text) in settings {
        let param = plugin.param(key).unwrap();
        let value = plugin.read_value(&param, text).unwrap();
        plugin.set_params(&[(param.id, value)]).unwrap();
    }
}

/// A plugin that captures nothing, so that no worker runs.
fn live(settings: &[(&str, &str)]) -> HostedPlugin {
    let mut plugin = HostedPlugin::load(&bundle()).unwrap();
    set(&mut plugin, &[("capture", "0")]);
    set(&mut plugin, settings);
    plugin
}

fn pass(blocks: Blocks, changes: &[Change]) -> Pass<'_> {
    Pass {
        blocks,
        pace: Pace::Free,
        start: 0,
        changes,
    }
}

/// Activates for `blocks` and plays once.
fn played(
    plugin: &mut HostedPlugin,
    input: &AudioBuffer,
    blocks: Blocks,
    changes: &[Change],
) -> AudioBuffer {
    plugin.select_channels(input.channels.len()).unwrap();
    plugin.activate(input.sample_rate, blocks.max()).unwrap();
    let played = play(plugin, input, &pass(blocks, changes)).unwrap();
    plugin.deactivate();
    assert_eq!(played.non_finite(), 0);
    assert_eq!(played.audio.frames(), input.frames());
    played.audio
}

#[track_caller]
fn assert_same(a: &AudioBuffer, b: &AudioBuffer, what: &str) {
    if let Some((channel, frame)) = first_difference(a, b) {
        panic!("{what}: channel {channel} differs from sample {frame} on");
    }
}

#[test]
fn it_is_called_what_projects_expect() {
    let _turn = turn();
    let plugin = HostedPlugin::load(&bundle()).unwrap();
    let descriptor = plugin.descriptor();
    assert_eq!(descriptor.id, "org.uncook.uncook");
    assert_eq!(descriptor.name, "Uncook");
    assert_eq!(descriptor.vendor, "Uncook");
    let mut features = descriptor.features.clone();
    features.sort();
    assert_eq!(features, ["audio-effect", "restoration", "stereo"]);
    assert_eq!(plugin.channels(), 2);
}

#[test]
fn parameters_keep_their_ids_and_kinds() {
    let _turn = turn();
    let params = HostedPlugin::load(&bundle()).unwrap().params().unwrap();
    for (id, automatable) in PARAMETERS {
        let param = find(&params, id).unwrap_or_else(|| panic!("{id} is gone"));
        assert_eq!(param.is_automatable(), automatable, "{id}");
    }
    assert_eq!(params.len(), PARAMETERS.len());
}

/// Values over the whole range of a parameter.
fn sweep(param: &Param) -> Vec<f64> {
    let steps = if param.is_stepped() {
        (param.max - param.min).min(64.0) as usize
    } else {
        64
    };
    let spread = |i: usize| param.min + (param.max - param.min) * i as f64 / steps.max(1) as f64;
    (0..=steps)
        .map(spread)
        .map(|v| if param.is_stepped() { v.round() } else { v })
        .collect()
}

#[test]
fn parameter_text_reads_back_as_itself() {
    let _turn = turn();
    let mut plugin = HostedPlugin::load(&bundle()).unwrap();
    for param in plugin.params().unwrap() {
        for value in sweep(&param) {
            let text = plugin.value_to_text(param.id, value).unwrap();
            let read = plugin
                .text_to_value(param.id, &text)
                .unwrap_or_else(|e| panic!("{}: {e:#}", param.name));
            let again = plugin.value_to_text(param.id, read).unwrap();
            assert_eq!(text, again, "{} at {value}", param.name);
            if param.is_stepped() {
                // The plugin computes in f32.
                assert!((read - value).abs() < 1e-3, "{}: \"{text}\"", param.name);
            }
        }
    }
}

#[test]
fn an_impulse_comes_out_at_the_reported_latency() {
    let _turn = turn();
    for rate in [44_100, 48_000, 96_000] {
        for settings in [("repair", "0"), ("bypass", "1")] {
            let mut plugin = live(&[settings]);
            plugin.activate(rate, 256).unwrap();
            let latency = plugin.latency().unwrap();
            let at = 1_000;
            let mut input = AudioBuffer::silence(2, at + latency + 1_000, rate);
            input.channels[0][at] = 0.5;
            input.channels[1][at] = -0.25;
            // As it comes, with nothing taken off: the position itself is what counts.
            let (raw, _) = plugin
                .with_audio_thread(|audio| {
                    play_on(audio, &input, &pass(Blocks::Fixed(256), &[]), 0)
                })
                .unwrap();
            for (channel, value) in raw.iter().zip([0.5, -0.25]) {
                for (n, &sample) in channel.iter().enumerate() {
                    let expected = if n == at + latency { value } else { 0.0 };
                    assert_eq!(sample, expected, "{rate} Hz, {settings:?}, sample {n}");
                }
            }
        }
    }
}

#[test]
fn nothing_to_repair_or_no_repair_leaves_the_input_as_it_is() {
    let _turn = turn();
    let song = the_song();
    for (what, settings, input) in [
        ("repair 0", &[("repair", "0")][..], &song.damaged),
        ("bypass", &[("bypass", "1")][..], &song.damaged),
        ("a clean song", &[][..], &song.clean),
    ] {
        let output = played(&mut live(settings), input, Blocks::Fixed(512), &[]);
        assert_same(&output, input, what);
    }
}

#[test]
fn one_channel_works_like_two() {
    let _turn = turn();
    let damaged = hard_clipped();
    let mono = AudioBuffer::new(vec![damaged.channels[0].clone()], damaged.sample_rate);
    let blocks = Blocks::Fixed(512);
    let untouched = played(&mut live(&[("repair", "0")]), &mono, blocks, &[]);
    assert_same(&untouched, &mono, "repair 0, mono");
    let repaired = played(&mut live(&[]), &mono, blocks, &[]);
    assert!(
        first_difference(&repaired, &mono).is_some(),
        "clipped audio came out untouched"
    );
}

/// Automation that changes much: steps, ramps, switches.
const AUTOMATION: &str = "\
0.301 output_gain \"-6 dB\"
0.5 repair 1
1.2 repair 0.4 linear
1.5 denoise 1
1.7001 mix 0.5 linear
2.1 bypass 1
2.3 bypass 0
";

fn resolve(plugin: &mut HostedPlugin, text: &str, rate: u32) -> Vec<Change> {
    automation::resolve(&automation::parse(text).unwrap(), plugin, rate).unwrap()
}

#[test]
fn every_block_size_gives_the_same_samples() {
    let _turn = turn();
    let input = &hard_clipped();
    let plain = played(&mut live(&[]), input, Blocks::Fixed(512), &[]);
    assert!(
        first_difference(&plain, input).is_some(),
        "clipped audio came out untouched"
    );
    let mut reference: Option<AudioBuffer> = None;
    for blocks in [
        Blocks::Fixed(512),
        Blocks::Fixed(1),
        Blocks::Fixed(64),
        Blocks::Fixed(97),
        Blocks::Fixed(8_192),
        Blocks::Random { seed: 7, max: 700 },
    ] {
        let mut plugin = live(&[]);
        let changes = resolve(&mut plugin, AUTOMATION, input.sample_rate);
        let output = played(&mut plugin, input, blocks, &changes);
        match &reference {
            None => {
                assert!(first_difference(&output, &plain).is_some());
                reference = Some(output);
            }
            Some(reference) => assert_same(&output, reference, &format!("{blocks:?}")),
        }
    }
}

#[test]
fn every_rate_works() {
    let _turn = turn();
    for rate in [44_100, 48_000, 88_200, 96_000, 192_000] {
        let input = the_song().damaged.resampled(rate).slice(0, rate as usize);
        let output = played(&mut live(&[]), &input, Blocks::Fixed(512), &[]);
        let samples = output.channels.iter().flatten();
        let peak = samples.fold(0.0f32, |p, s| p.max(s.abs()));
        assert!((0.05..4.0).contains(&peak), "{rate} Hz: peak {peak}");
        // In time: the output is most like the input without any shift.
        let best = (-40i64..=40).max_by(|&a, &b| {
            correlation(&input, &output, a).total_cmp(&correlation(&input, &output, b))
        });
        assert_eq!(best, Some(0), "{rate} Hz");
    }
}

fn correlation(a: &AudioBuffer, b: &AudioBuffer, shift: i64) -> f64 {
    let (a, b) = (&a.channels[0], &b.channels[0]);
    (100..a.len() as i64 - 100)
        .map(|n| f64::from(a[n as usize]) * f64::from(b[(n + shift) as usize]))
        .sum()
}

#[test]
fn automation_moves_with_the_sample() {
    let _turn = turn();
    let input = &the_song().damaged;
    let blocks = Blocks::Fixed(512);
    let still = played(&mut live(&[]), input, blocks, &[]);
    let at = 60_000;
    let mut heard = Vec::new();
    for shift in [0, 1, 7, 63, 511] {
        let mut plugin = live(&[]);
        let param = plugin.param("output_gain").unwrap();
        let change = Change {
            sample: at + shift,
            param: param.id,
            value: plugin.read_value(&param, "-12 dB").unwrap(),
        };
        plugin.activate(input.sample_rate, blocks.max()).unwrap();
        let output = play(&mut plugin, input, &pass(blocks, &[change])).unwrap();
        let (_, frame) = first_difference(&output.audio, &still).expect("the gain did nothing");
        // Where the host heard it: with the latency put back.
        heard.push((frame + output.latency) as i64 - shift as i64);
    }
    assert!(
        heard[0] >= at as i64,
        "heard at {} what was set at {at}",
        heard[0]
    );
    // The first steps of the gain's ramp can drown in rounding: a few samples' grace, not a block's.
    assert!(heard.iter().all(|h| (h - heard[0]).abs() <= 4), "{heard:?}");
}

#[test]
fn state_brings_every_parameter_back() {
    let _turn = turn();
    let mut plugin = HostedPlugin::load(&bundle()).unwrap();
    let params = plugin.params().unwrap();
    for (i, param) in params.iter().enumerate() {
        // Somewhere in the range, elsewhere for each.
        let values = sweep(param);
        let value = values[(i * 7 + 1) % values.len()];
        plugin.set_params(&[(param.id, value)]).unwrap();
    }
    let state = plugin.state_save().unwrap();
    let mut other = HostedPlugin::load(&bundle()).unwrap();
    assert_ne!(other.state_save().unwrap(), state);
    other.state_load(&state).unwrap();
    for param in &params {
        let here = plugin.param_value(param.id).unwrap();
        let there = other.param_value(param.id).unwrap();
        // nice-plug stores plain values as f32; the way there and back rounds.
        assert!(
            (here - there).abs() <= 1e-5 * param.max.abs().max(1.0),
            "{}: {here} became {there}",
            param.name
        );
    }
    assert_eq!(other.state_save().unwrap(), state);
}

#[test]
fn a_broken_state_is_refused_and_harms_nothing() {
    let _turn = turn();
    let input = &the_song().damaged;
    let blocks = Blocks::Fixed(512);
    let mut plugin = live(&[]);
    let state = plugin.state_save().unwrap();
    for broken in [&[][..], &state[..4], &state[..state.len() / 2], b"nonsense"] {
        assert!(plugin.state_load(broken).is_err());
        assert_eq!(plugin.state_save().unwrap(), state);
    }
    let after = played(&mut plugin, input, blocks, &[]);
    let never = played(&mut live(&[]), input, blocks, &[]);
    assert_same(&after, &never, "after broken states");
}

/// The blend of the drums ridden from nothing to all and back.
const BLEND_RIDE: &str = "0 blend_drums 0\n1.5 blend_drums 1 linear\n3 blend_drums 0 linear\n";

#[test]
fn the_bounce_is_the_playback() {
    let _turn = turn();
    let input = &the_song().damaged;
    let end = input.frames() as i64;
    let blocks = Blocks::Fixed(512);
    let mut plugin = HostedPlugin::load(&bundle()).unwrap();
    let ride = resolve(&mut plugin, BLEND_RIDE, input.sample_rate);
    plugin.activate(input.sample_rate, blocks.max()).unwrap();
    let capture = Pass {
        pace: Pace::Draining,
        ..pass(blocks, &[])
    };
    let live_only = play(&mut plugin, input, &capture).unwrap().audio;
    rest(&mut plugin, end, 0.2, blocks, Pace::Draining).unwrap();
    let count = wait_for_worker(&mut plugin, end, WORKER_LIMIT, RenderMode::Realtime).unwrap();
    assert!(count > 0, "the worker committed nothing");

    let playback = play(&mut plugin, input, &pass(blocks, &ride)).unwrap();
    assert_eq!(playback.non_finite(), 0);
    assert!(
        first_difference(&playback.audio, &live_only).is_some(),
        "the committed patch is not heard"
    );
    plugin.set_render_mode(RenderMode::Offline).unwrap();
    for bounce in 1..=2 {
        let bounced = play(&mut plugin, input, &pass(blocks, &ride)).unwrap();
        assert_same(&bounced.audio, &playback.audio, &format!("bounce {bounce}"));
    }
    plugin.deactivate();

    // The project saved, closed, opened: the same again, in other blocks.
    let state = plugin.state_save().unwrap();
    assert_eq!(commits(&state).unwrap(), count);
    drop(plugin);
    let mut reopened = HostedPlugin::load(&bundle()).unwrap();
    reopened.state_load(&state).unwrap();
    reopened.set_render_mode(RenderMode::Offline).unwrap();
    reopened.activate(input.sample_rate, blocks.max()).unwrap();
    let random = Blocks::Random { seed: 3, max: 512 };
    let again = play(&mut reopened, input, &pass(random, &ride)).unwrap();
    assert_same(&again.audio, &playback.audio, "after reopening");

    // No repair: not even the patch is heard, whatever the blends say.
    reopened.deactivate();
    set(&mut reopened, &[("repair", "0"), ("blend_bass", "1")]);
    let untouched = played(&mut reopened, input, blocks, &ride);
    assert_same(&untouched, input, "repair 0 with a patch");

    // The master blend at 0 is every blend at 0.
    set(&mut reopened, &[("repair", "1"), ("blend", "0")]);
    let master = played(&mut reopened, input, blocks, &[]);
    let stems = ["blend_drums", "blend_bass", "blend_other", "blend_vocals"];
    set(&mut reopened, &[("blend", "1")]);
    set(&mut reopened, &stems.map(|s| (s, "0")));
    let each = played(&mut reopened, input, blocks, &[]);
    assert_same(&master, &each, "blends at 0");
}

#[test]
fn ten_instances_don_t_disturb_each_other() {
    let _turn = turn();
    let input = &hard_clipped();
    let blocks = Blocks::Fixed(256);
    let alone = played(&mut live(&[]), input, blocks, &[]);
    let mut plugins: Vec<_> = (0..10)
        .map(|_| {
            // Capturing, and analysing as soon as the transport stops.
            let mut plugin = HostedPlugin::load(&bundle()).unwrap();
            plugin.activate(input.sample_rate, blocks.max()).unwrap();
            plugin
        })
        .collect();
    let latency = plugins[0].latency().unwrap();
    let outputs = HostedPlugin::run_together(&mut plugins, |_, audio| {
        play_on(audio, input, &pass(blocks, &[]), latency)
    })
    .unwrap();
    for (channels, _) in outputs {
        let output = AudioBuffer::new(channels, input.sample_rate);
        assert_same(&output, &alone, "one of ten");
    }
}

//! States from anywhere, given to the bundled plugin. Needs `target/bundled/Uncook.clap`, which
//! `cargo xtask test` makes before it runs this.

use std::{
    cell::Cell,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, Once, PoisonError},
};

use serde_json::{Value, json};
use uncook::{audio::AudioBuffer, params::RENAMED};
use xtask::{
    host::{HostedPlugin, state_field, state_json},
    render::{Blocks, Pace, Pass, play, split_mix},
    song::song,
};

/// A state that claims to be longer is refused by the framework.
const MOST: usize = 1 << 20;

/// CLAP knows one main thread a process, the test runner many: one test hosts at a time.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    static DATA: Once = Once::new();
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    DATA.call_once(|| {
        let data = Path::new(env!("CARGO_TARGET_TMPDIR")).join("states");
        // SAFETY: the tests of this file take turns, and nothing else reads it yet.
        unsafe { std::env::set_var("UNCOOK_DATA_DIR", data) };
    });
    turn
}

fn bundle() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let bundle = target.join("bundled").join("Uncook.clap");
    assert!(
        bundle.exists(),
        "run `cargo xtask test`, which bundles the plugin first"
    );
    bundle
}

fn plugin() -> HostedPlugin {
    HostedPlugin::load(&bundle()).unwrap()
}

fn state(json: &Value) -> Vec<u8> {
    framed(json.to_string().as_bytes())
}

fn framed(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text].concat()
}

/// Plays a moment; everything that comes out is a number.
fn plays(plugin: &mut HostedPlugin) {
    let input = song(0.5).damaged;
    let input = AudioBuffer::new(vec![input.channels[0].clone(); 2], input.sample_rate);
    plugin.select_channels(2).unwrap();
    plugin.activate(input.sample_rate, 512).unwrap();
    let pass = Pass {
        blocks: Blocks::Fixed(512),
        pace: Pace::Free,
        start: 0,
        changes: &[],
    };
    let played = play(plugin, &input, &pass).unwrap();
    plugin.deactivate();
    assert_eq!(played.non_finite(), 0);
}

/// A deterministic source of numbers (SplitMix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        split_mix(&mut self.0)
    }
}

/// Whether `new` says all that `old` says, and perhaps more.
fn holds(new: &Value, old: &Value) -> bool {
    match old {
        Value::Object(old) => old.iter().all(|(key, value)| holds(&new[key], value)),
        // Values of knobs pass through their range and back.
        Value::Number(old) if old.is_f64() => {
            let (old, new) = (old.as_f64(), new.as_f64());
            old.zip(new)
                .is_some_and(|(old, new)| (old - new).abs() < 1e-5)
        }
        other => new == other,
    }
}

/// States that older versions saved: they open, and saved again they are what this version saves.
#[test]
fn states_of_older_versions_open() {
    let _turn = turn();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/states");
    let mut read = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "json") {
            continue;
        }
        let text = fs::read(&path).unwrap();
        let old: Value = serde_json::from_slice(&text).unwrap();
        let mut plugin = plugin();
        plugin.state_load(&framed(&text)).unwrap();
        let now = plugin.state_save().unwrap();
        for (id, value) in old["params"].as_object().unwrap() {
            let same = [id.as_str()];
            let heirs = RENAMED.iter().find(|(old, _)| old == id);
            for id in heirs.map_or(&same[..], |(_, new)| new) {
                let new = &state_json(&now).unwrap()["params"][*id];
                assert!(holds(new, value), "{}: {id} is {new}", path.display());
            }
        }
        let session: Value =
            serde_json::from_str(old["fields"]["session"].as_str().unwrap()).unwrap();
        let kept = state_field(&now, "session").unwrap().unwrap();
        assert!(holds(&kept, &session), "{}: {kept}", path.display());
        // Once more, byte for byte.
        let mut again = self::plugin();
        again.state_load(&now).unwrap();
        assert_eq!(again.state_save().unwrap(), now);
        plays(&mut again);
        read += 1;
    }
    assert!(read >= 4, "the kept states are gone");
}

#[test]
fn hostile_states_harm_nothing() {
    let _turn = turn();
    let mut plugin = plugin();
    let good = plugin.state_save().unwrap();
    let mut dice = Dice(1);
    let refused = Cell::new(0);
    let give = |plugin: &mut HostedPlugin, bytes: &[u8]| {
        let before = plugin.state_save().unwrap();
        if plugin.state_load(bytes).is_err() {
            refused.set(refused.get() + 1);
            assert_eq!(
                plugin.state_save().unwrap(),
                before,
                "refused, and yet something changed"
            );
        }
    };
    // Cut off anywhere.
    for len in 0..good.len() {
        give(&mut plugin, &good[..len]);
    }
    // Claims of lengths.
    for claim in [0, 1, good.len() as u64, 1 << 32, u64::MAX / 2, u64::MAX] {
        let mut bytes = good.clone();
        bytes[..8].copy_from_slice(&claim.to_le_bytes());
        give(&mut plugin, &bytes);
    }
    // Random bytes, up to megabytes, with and without an honest length.
    for len in [1, 7, 8, 9, 100, 10_000, MOST] {
        let noise: Vec<u8> = (0..len).map(|_| dice.next() as u8).collect();
        give(&mut plugin, &noise);
        give(&mut plugin, &framed(&noise));
    }
    // Deep nesting, endless text.
    for text in [
        "[".repeat(MOST),
        "{\"a\":".repeat(MOST / 5),
        "\"".to_owned() + &"x".repeat(MOST),
    ] {
        give(&mut plugin, &framed(text.as_bytes()));
    }
    assert!(refused.get() > good.len(), "{refused:?}");
    // Bytes changed in a good one: refused, or taken; never harm.
    for _ in 0..2_000 {
        let mut bytes = good.clone();
        for _ in 0..=dice.next() % 4 {
            let at = 8 + dice.next() as usize % (bytes.len() - 8);
            bytes[at] = dice.next() as u8;
        }
        give(&mut plugin, &bytes);
    }
    plays(&mut plugin);
    plugin.state_load(&good).unwrap();
    assert_eq!(plugin.state_save().unwrap(), good);
    plays(&mut plugin);
}

#[test]
fn values_that_no_knob_has_are_brought_into_range() {
    let _turn = turn();
    let mut plugin = plugin();
    let good = state_json(&plugin.state_save().unwrap()).unwrap();
    let hostile = [
        json!(1e30),
        json!(-1e30),
        json!(1e300),
        json!(i64::MAX),
        json!(i32::MIN),
        json!(-1),
        json!("nobody"),
        json!(true),
        json!(null),
        json!([1]),
    ];
    for value in hostile {
        let mut changed = good.clone();
        for (_, param) in changed["params"].as_object_mut().unwrap() {
            *param = if param.is_object() {
                let kind = param.as_object().unwrap().keys().next().unwrap().clone();
                json!({ kind: value })
            } else {
                value.clone()
            };
        }
        let _ = plugin.state_load(&state(&changed));
        for param in plugin.params().unwrap() {
            let now = plugin.param_value(param.id).unwrap();
            assert!(
                (param.min..=param.max).contains(&now),
                "{}: {value} became {now}",
                param.name
            );
        }
        plays(&mut plugin);
    }
}

#[test]
fn a_newer_version_s_state_loads_what_this_one_knows() {
    let _turn = turn();
    let mut plugin = plugin();
    let mut newer = state_json(&plugin.state_save().unwrap()).unwrap();
    newer["version"] = json!("99.0.0");
    newer["params"]["of the future"] = newer["params"]["repair"].clone();
    newer["fields"]["of the future"] = json!("{\"a\":1}");
    newer["something"] = json!([1, 2, 3]);
    let mut session: Value =
        serde_json::from_str(newer["fields"]["session"].as_str().unwrap()).unwrap();
    session["of the future"] = json!({"a": 1});
    newer["fields"]["session"] = json!(session.to_string());
    plugin.state_load(&state(&newer)).unwrap();
    plays(&mut plugin);
}

/// Sessions whose names lead out of the folder are kept as they are, and nothing is opened.
#[test]
fn a_session_can_t_lead_out_of_its_folder() {
    let _turn = turn();
    let mut plugin = plugin();
    let mut good = state_json(&plugin.state_save().unwrap()).unwrap();
    let digits = "0".repeat(64);
    let commits: Vec<Value> = ["../../etc/passwd", "/etc/passwd", "..\\x", "", "\u{0}"]
        .iter()
        .flat_map(|file| {
            [&digits[..], *file].map(|hash| {
                json!({"hash": hash, "file": file, "start": i64::MIN, "frames": u64::MAX,
                    "sample_rate": u32::MAX})
            })
        })
        .collect();
    let session = json!({"commits": commits, "others": commits});
    good["fields"]["session"] = json!(session.to_string());
    plugin.state_load(&state(&good)).unwrap();
    plays(&mut plugin);
    let kept = state_field(&plugin.state_save().unwrap(), "session")
        .unwrap()
        .unwrap();
    assert_eq!(kept["commits"], session["commits"]);
    assert_eq!(kept["others"], session["others"]);
}

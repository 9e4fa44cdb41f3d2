// [any] Tests of the parameters: defaults, texts, ids, and what a project stores.

use std::collections::{BTreeMap, HashSet};

use nice_plug::{params::InternalParamMut, plugin::ParamValue};

use super::*;

/// Every parameter with its id.
fn all(params: &UncookParams) -> Vec<(String, ParamPtr)> {
    params
        .param_map()
        .into_iter()
        .map(|(id, ptr, _)| (id, ptr))
        .collect()
}

#[test]
fn defaults_are_the_chains_and_the_workers() {
    let params = UncookParams::default();
    assert_eq!(params.settings(), Settings::default());
    assert_eq!(params.options(), Options::default());
}

#[test]
fn ids_are_these_for_ever() {
    let ids: Vec<String> = all(&UncookParams::default())
        .into_iter()
        .map(|(id, _)| id)
        .collect();
    let expected = [
        "bypass",
        "repair",
        "declip",
        "declick",
        "denoise",
        "bass",
        "treble",
        "dereverb_early",
        "dereverb_late",
        "eq_match",
        "blend_drums",
        "blend_bass",
        "blend_other",
        "blend_vocals",
        "blend",
        "output_gain",
        "mix",
        "limiter",
        "ceiling",
        "delta",
        "compare",
        "capture",
        "quality",
        "seed",
        "separator",
        "drums_regenerator",
        "bass_regenerator",
    ];
    assert_eq!(
        ids.iter().map(String::as_str).collect::<HashSet<_>>(),
        expected.into_iter().collect::<HashSet<_>>()
    );
    assert_eq!(ids.len(), expected.len());
    // Hosts see a 31-bit polynomial hash of the id: two ids must not collide.
    let hashes: HashSet<u32> = ids
        .iter()
        .map(|id| {
            id.bytes().fold(0u32, |hash, byte| {
                hash.wrapping_mul(31).wrapping_add(u32::from(byte))
            }) & !(1 << 31)
        })
        .collect();
    assert_eq!(hashes.len(), ids.len());
}

#[test]
fn only_the_analysis_is_not_automatable_and_one_is_the_bypass() {
    let params = UncookParams::default();
    let fixed = [
        "capture",
        "quality",
        "seed",
        "separator",
        "drums_regenerator",
        "bass_regenerator",
    ];
    for (id, ptr) in all(&params) {
        // SAFETY: `params` outlives `ptr`.
        let flags = unsafe { ptr.flags() };
        assert_eq!(
            flags.contains(ParamFlags::NON_AUTOMATABLE),
            fixed.contains(&id.as_str()),
            "{id}"
        );
        assert_eq!(flags.contains(ParamFlags::BYPASS), id == "bypass", "{id}");
    }
}

#[test]
fn hosts_see_numbers_between_0_and_1() {
    let params = UncookParams::default();
    for (id, ptr) in all(&params) {
        // SAFETY: `params` outlives `ptr`.
        let (value, default, steps) = unsafe {
            (
                ptr.unmodulated_normalized_value(),
                ptr.default_normalized_value(),
                ptr.step_count(),
            )
        };
        // NaN is in no range.
        assert!((0.0..=1.0).contains(&value), "{id}: {value}");
        assert_eq!(value, default, "{id}");
        assert_ne!(steps, Some(0), "{id} has nothing to choose from");
    }
}

#[test]
fn values_of_a_broken_project_are_brought_into_range() {
    let params = UncookParams::default();
    let set = |param: &FloatParam, value: f32| {
        // SAFETY: only the framework may do this; here it stands in for the framework.
        unsafe { InternalParamMut::_internal_set_plain_value(param, value) };
    };
    set(&params.repair, 7.0);
    set(&params.live.declip, f32::NAN);
    set(&params.output.gain, -1e9);
    set(&params.output.ceiling, f32::INFINITY);
    let settings = params.settings();
    assert_eq!(settings.repair, 1.0);
    assert_eq!(settings.declip, Settings::default().declip);
    assert_eq!(settings.output_gain_db, -24.0);
    assert_eq!(settings.ceiling_db, Settings::default().ceiling_db);
}

#[test]
fn texts_round_trip() {
    let params = UncookParams::default();
    for (id, ptr) in all(&params) {
        for i in 0..=1000 {
            let normalized = i as f32 / 1000.0;
            for with_unit in [false, true] {
                // SAFETY: `params` outlives `ptr`.
                let (text, again) = unsafe {
                    let text = ptr.normalized_value_to_string(normalized, with_unit);
                    let back = ptr.string_to_normalized_value(&text);
                    let back = back.unwrap_or_else(|| panic!("{id} does not read {text:?}"));
                    (text, ptr.normalized_value_to_string(back, with_unit))
                };
                assert_eq!(text, again, "{id} at {normalized}");
                assert!(!text.starts_with("-0.0"), "{id}: {text}");
            }
        }
    }
}

#[test]
fn texts_are_read_generously_and_nonsense_is_refused() {
    let params = UncookParams::default();
    let read = |param: &FloatParam, text: &str| {
        param
            .string_to_normalized_value(text)
            .map(|normalized| param.preview_plain(normalized))
    };
    assert_eq!(read(&params.repair, "50"), Some(0.5));
    assert_eq!(read(&params.repair, " 50 % "), Some(0.5));
    assert_eq!(read(&params.repair, "12,5%"), Some(0.125));
    assert_eq!(read(&params.repair, "250 %"), Some(1.0));
    assert_eq!(read(&params.output.gain, "-6 dB"), Some(-6.0));
    assert_eq!(read(&params.output.gain, "99DB"), Some(24.0));
    assert_eq!(read(&params.output.ceiling, "-1.0 dBTP"), Some(-1.0));
    for nonsense in ["", "loud", "NaN", "inf %", "5 kHz", "--3"] {
        assert_eq!(read(&params.repair, nonsense), None, "{nonsense:?}");
        assert_eq!(read(&params.output.gain, nonsense), None, "{nonsense:?}");
    }
}

#[test]
fn choices_keep_their_place_and_ids() {
    fn check<T: Enum + Copy + PartialEq + std::fmt::Debug + Default>(ids: &[&str]) {
        assert_eq!(T::ids().expect("ids"), ids);
        assert_eq!(T::variants().len(), ids.len());
        for i in 0..ids.len() {
            assert_eq!(T::from_index(i).to_index(), i);
        }
        // Out of range must not panic: a project file may hold any index.
        assert_eq!(T::from_index(usize::MAX), T::from_index(0));
    }
    check::<CaptureMode>(&["off", "manual", "automatic"]);
    check::<Quality>(&["draft", "best"]);
    check::<SeparatorParam>(&["automatic", "spectral", "learned"]);
    // Later versions append: these ids are in saved projects.
    check::<RegeneratorChoice>(&[
        "off",
        "resynthesis",
        "everywhere",
        "jasco",
        "jasco_mbd",
        "mbd",
    ]);
}

/// One choice for both stems became one each.
#[test]
fn what_took_an_old_parameters_place_has_its_value() {
    let ids = all(&UncookParams::default());
    for (old, new) in RENAMED {
        assert!(ids.iter().all(|(id, _)| id != old), "{old} is used again");
        assert!(new.iter().all(|new| ids.iter().any(|(id, _)| id == new)));
    }
    let text = |s: &str| ParamValue::String(s.to_owned());
    let params = |all: &[(&str, &str)]| -> BTreeMap<String, ParamValue> {
        all.iter()
            .map(|(id, v)| ((*id).to_owned(), text(v)))
            .collect()
    };
    let migrated = |before: &[(&str, &str)]| {
        let mut state = PluginState {
            version: String::new(),
            params: params(before),
            fields: BTreeMap::new(),
        };
        migrate(&mut state);
        format!("{:?}", state.params)
    };
    let now = |all: &[(&str, &str)]| format!("{:?}", params(all));
    let both = [
        ("bass_regenerator", "jasco"),
        ("drums_regenerator", "jasco"),
    ];
    assert_eq!(migrated(&[("regenerator", "jasco")]), now(&both));
    // A state of this version stays as it is.
    let own = [("bass_regenerator", "off"), ("drums_regenerator", "jasco")];
    assert_eq!(migrated(&own), now(&own));
}

#[test]
fn the_separators_reach_the_worker() {
    let params = UncookParams::default();
    for (index, expected) in [
        SeparatorChoice::Automatic,
        SeparatorChoice::Spectral,
        SeparatorChoice::Learned,
    ]
    .into_iter()
    .enumerate()
    {
        let value = SeparatorParam::from_index(index);
        // SAFETY: only the framework may do this; here it stands in for the framework.
        unsafe { InternalParamMut::_internal_set_plain_value(&params.analysis.separator, value) };
        assert_eq!(params.options().separator, expected);
    }
}

/// A store that remembers what it was told.
#[derive(Default)]
struct Fake {
    session: Mutex<Session>,
    loads: AtomicU64,
}

impl SessionStore for Fake {
    fn session(&self) -> Session {
        self.session.lock().clone()
    }

    fn load(&self, session: &Session) {
        self.loads.fetch_add(1, Ordering::Relaxed);
        *self.session.lock() = session.clone();
    }
}

fn session(hash: &str) -> Session {
    Session {
        commits: vec![crate::worker::session::CommitRef {
            hash: hash.to_owned(),
            file: format!("{hash}.patch"),
            start: -7,
            frames: 12,
            sample_rate: 48_000,
        }],
        ..Session::default()
    }
}

#[test]
fn the_session_travels_both_ways() {
    let saved = {
        let params = UncookParams::default();
        let store = Arc::new(Fake::default());
        params.session.connect(store.clone());
        // A fresh instance has nothing to load.
        assert_eq!(store.loads.load(Ordering::Relaxed), 0);
        // What the worker commits later is what the project gets.
        *store.session.lock() = session("aa");
        params.style.replace("dry, close drums".to_owned());
        params.editor_size.store([1200.0, 800.0]);
        params.serialize_fields()
    };

    // Loaded before the plugin is connected: handed over when it is.
    let params = UncookParams::default();
    params.deserialize_fields(&saved);
    assert_eq!(params.session.get(), session("aa"));
    assert_eq!(params.style.get(), "dry, close drums");
    assert_eq!(params.options().style, "dry, close drums");
    assert_eq!(params.editor_size.load(), [1200.0, 800.0]);
    let store = Arc::new(Fake::default());
    params.session.connect(store.clone());
    assert_eq!(store.session(), session("aa"));
    // A second activation takes nothing away.
    params.session.connect(store.clone());
    assert_eq!(store.session(), session("aa"));

    // Loaded while connected: handed over at once, but not again if nothing changed.
    params.deserialize_fields(&saved);
    assert_eq!(store.loads.load(Ordering::Relaxed), 1);
    let other: BTreeMap<String, String> = [(
        "session".to_owned(),
        serde_json::to_string(&session("bb")).expect("a session serialises"),
    )]
    .into();
    params.deserialize_fields(&other);
    assert_eq!(store.session(), session("bb"));
    assert_eq!(params.session.get(), session("bb"));
}

#[test]
fn a_change_of_options_is_counted() {
    let params = UncookParams::default();
    let before = params.options_version();
    params.style.replace("x".to_owned());
    let after = params.options_version();
    assert!(after > before);
}

// [main] An hour of song: a picture costs no more than of a minute. Prints what it costs; asserts no time.

use egui::{Event, accesskit::Role, pos2};

use super::stage::{RATE, Stage, views};
use crate::{
    editor::{
        state::{Tab, WaveMode},
        timeline::Viewport,
    },
    profile::{Chord, DrumClass, DrumHit, MusicalProfile, Note},
    worker::{
        picture::Painter,
        pyramid::Pyramid,
        view::{Findings, TakeView, View},
    },
};

/// `seconds` of the band over and over, as the worker would show it.
fn long(seconds: usize) -> View {
    let mut view = views().1.clone();
    let ten = &view.takes[0];
    let frames = seconds * RATE as usize;
    let mut noise = 1u32;
    let audio: Vec<f32> = (0..frames)
        .map(|n| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let swell = 0.5 + 0.4 * (n as f32 / 9_000.0).sin();
            swell * ((noise >> 8) as f32 / (1 << 23) as f32 - 1.0)
        })
        .collect();
    let picture = Painter::paint(&[&audio[..], &audio[..]], RATE);
    let old = ten.findings.as_ref().unwrap();
    let repeat = seconds / 10;
    let mut findings = Findings::clone(old);
    findings.damage.frames = old.damage.frames.repeat(repeat);
    for stem in &mut findings.stems {
        stem.damage.frames = stem.damage.frames.repeat(repeat);
    }
    let cells: Pyramid<_> = (findings.damage.frames.iter())
        .map(crate::worker::view::damage_cell)
        .collect();
    let seconds_f = seconds as f64;
    findings.profile = MusicalProfile {
        beats: (0..2 * seconds).map(|i| 0.5 * i as f64).collect(),
        downbeats: (0..seconds / 2).map(|i| 2.0 * i as f64).collect(),
        chords: (0..seconds / 2)
            .map(|i| Chord {
                start: 2.0 * i as f64,
                end: (2.0 * (i + 1) as f64).min(seconds_f),
                label: "A:min".to_owned(),
                confidence: 0.7,
            })
            .collect(),
        bass_notes: (0..2 * seconds)
            .map(|i| Note {
                t: 0.5 * i as f64,
                dur: 0.4,
                midi: 30.0 + (i % 9) as f32,
                velocity: 0.8,
                confidence: 0.7,
            })
            .collect(),
        drums: (0..8 * seconds)
            .map(|i| DrumHit {
                t: 0.125 * i as f64,
                class: DrumClass::ALL[i % 3],
                velocity: 0.7,
                confidence: 0.7,
            })
            .collect(),
        ..MusicalProfile::default()
    };
    let take = TakeView {
        frames: frames as u64,
        before: picture.clone(),
        after: picture.into(),
        damage: cells,
        findings: Some(findings.into()),
        ..ten.clone()
    };
    view.takes = vec![take];
    view
}

/// Mean milliseconds of computing a picture, drawn and cut into triangles, while the playhead and the mouse move.
fn cost(view: &View, mode: WaveMode, zoomed: bool) -> f64 {
    const PICTURES: usize = 40;
    let mut stage = Stage::new(view.clone());
    stage.desk().state.wave = mode;
    stage.desk().state.tab = Tab::Stems;
    let total = view.takes[0].frames as f64 / f64::from(RATE);
    let rect = stage.rect(Role::Canvas, "Timeline");
    stage.harness.run_steps(4);
    let began = computed();
    for i in 0..PICTURES {
        if zoomed {
            // The view moves: nothing that was drawn can be used again.
            stage.desk().state.viewport = Some(Viewport {
                start: 0.5 * total + 0.1 * i as f64,
                seconds: 20.0,
            });
        }
        stage.desk().levels.position = Some(crate::exchange::SamplePos((i * 400) as i64));
        stage.event(Event::PointerMoved(pos2(
            rect.left() + 40.0 + i as f32,
            rect.top() + 30.0,
        )));
        let shapes = stage.harness.output().shapes.clone();
        let primitives = stage.harness.ctx.tessellate(shapes, 1.0);
        assert!(!primitives.is_empty());
    }
    1e3 * (computed() - began) / PICTURES as f64
}

/// Seconds that this thread has computed: what others do at the same time doesn't count.
#[cfg(target_os = "linux")]
fn computed() -> f64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is there to be written.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + 1e-9 * time.tv_nsec as f64
}

#[cfg(not(target_os = "linux"))]
fn computed() -> f64 {
    static BEGAN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    BEGAN
        .get_or_init(std::time::Instant::now)
        .elapsed()
        .as_secs_f64()
}

#[test]
fn an_hour_is_drawn_from_as_many_triangles_as_a_minute() {
    let (minute, hour) = (long(60), long(3_600));
    let triangles = |view: &View, mode: WaveMode| {
        let mut stage = Stage::new(view.clone());
        stage.desk().state.wave = mode;
        stage.harness.run_steps(4);
        let shapes = stage.harness.output().shapes.clone();
        let primitives = stage.harness.ctx.tessellate(shapes, 1.0);
        (primitives.iter())
            .map(|p| match &p.primitive {
                egui::epaint::Primitive::Mesh(mesh) => mesh.indices.len() / 3,
                egui::epaint::Primitive::Callback(_) => 0,
            })
            .sum::<usize>()
    };
    for mode in [WaveMode::Overlaid, WaveMode::Split, WaveMode::Spectrogram] {
        let (short, long) = (triangles(&minute, mode), triangles(&hour, mode));
        println!(
            "{mode:?}: {short} triangles of a minute, {long} of an hour; {:.1} and {:.1} ms a picture, {:.1} ms \
             zoomed into the hour while it moves",
            cost(&minute, mode, false),
            cost(&hour, mode, false),
            cost(&hour, mode, true),
        );
        assert!(
            long <= 2 * short,
            "{mode:?}: {long} triangles of an hour, {short} of a minute"
        );
    }
}

// [cli] `cargo xtask hosts`: the bundles in other people's hosts, compared with this one's render.

mod environment;
mod project;

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use uncook::audio::AudioBuffer;

use crate::{
    automation::Change,
    bundle,
    host::{HostedPlugin, Param, RenderMode},
    packages,
    render::{Blocks, Pace, Pass, play},
    song, workspace,
};

/// Samples in a block, in every host: the scripts have the same number.
const BLOCK: usize = 512;
const PYTHON: &str = "python3";
/// Seconds of the test song.
const SECONDS: f64 = 6.0;
/// Largest difference between two hosts' exports, full scale being 1.
const TOLERANCE: f32 = 1e-6;
/// What the scripts share.
const COMMON: &str = include_str!("hosts/common.py");
/// Hosts that are driven from Python, and their scripts.
const PYTHON_HOSTS: [(&str, &str); 3] = [
    ("pedalboard", include_str!("hosts/pedalboard.py")),
    ("dawdreamer", include_str!("hosts/dawdreamer.py")),
    (ARDOUR, include_str!("hosts/ardour.py")),
];
/// Not a Python package: Debian's `ardour`, version 7.
const ARDOUR: &str = "ardour";
/// The plugin's VST3 class, as preset files name it: `org.uncook.fx.01`.
const CLASS: &str = "6F72672E756E636F6F6B2E66782E3031";
/// Lines of a failed host's log that are shown.
const LAST_WORDS: usize = 8;
/// Programs say their version within this.
const LOOKING: Duration = Duration::from_secs(60);
/// A host that takes longer than this hangs.
const PATIENCE: Duration = Duration::from_secs(600);

/// Plays the bundles in the hosts that are installed: CLAP in clack, VST3 in pedalboard, DawDreamer and
/// Ardour, and prints a table; then tests the program without a host, on a dummy and on JACK.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The Python that has the hosts, or, with `--set-up`, that makes the environment for them.
    #[arg(long, default_value = PYTHON)]
    pub python: PathBuf,
    /// Install pedalboard and DawDreamer into an environment under target/ first (from PyPI).
    #[arg(long)]
    pub set_up: bool,
    /// Only what `cargo xtask test` does: no Ardour, nothing rebuilt, no failure where hosts can't be installed.
    #[arg(long)]
    pub quick: bool,
    /// Seconds of the test song.
    #[arg(long, default_value_t = SECONDS)]
    pub seconds: f64,
    /// Fail where a host is not installed (Ardour excepted).
    #[arg(long)]
    pub all: bool,
    /// Keep what the hosts wrote in this folder.
    #[arg(long)]
    pub keep: Option<PathBuf>,
}

/// What is played in every host.
struct Scene {
    name: &'static str,
    /// Visible name and normalised value, before audio runs.
    set: Vec<(&'static str, f64)>,
    /// Frame (the start of a block, and a multiple of 25: Ardour keeps automation on ticks of 12.5 samples), visible
    /// name, normalised value.
    changes: Vec<(usize, &'static str, f64)>,
}

/// Nothing is captured, so that no host's speed decides what is heard.
fn scenes() -> Vec<Scene> {
    let quiet = ("Capture", 0.0);
    vec![
        Scene {
            name: "repaired",
            set: vec![quiet],
            changes: Vec::new(),
        },
        Scene {
            name: "transparent",
            set: vec![quiet, ("Repair", 0.0)],
            changes: Vec::new(),
        },
        Scene {
            name: "automated",
            set: vec![quiet, ("Repair", 1.0), ("Blend", 1.0), ("Mix", 1.0)],
            changes: vec![
                (100 * BLOCK, "Repair", 0.25),
                (150 * BLOCK, "Blend", 0.5),
                (200 * BLOCK, "Mix", 0.5),
                (250 * BLOCK, "Repair", 1.0),
            ],
        },
    ]
}

/// One line of the table.
struct Line {
    host: String,
    checks: Vec<(&'static str, Result<String, String>)>,
}

/// Runs the command.
///
/// # Errors
/// If the bundles are missing, a host fails, or one's export differs.
pub fn run(args: &Args) -> Result<()> {
    if args.quick {
        return test();
    }
    let python = if args.set_up {
        environment::make(&args.python)?
    } else {
        args.python.clone()
    };
    let (hosts, missing): (Vec<_>, Vec<_>) =
        (PYTHON_HOSTS.into_iter()).partition(|(package, _)| ready(&python, package).is_ok());
    let failures = compare(&hosts, &python, args.seconds, true, args.keep.as_deref())?;
    let mut from_python = Vec::new();
    for (package, _) in missing {
        if package == ARDOUR {
            println!(
                "Ardour 7 is not installed; on Debian 12 `apt-get install ardour`, then `--set-up`"
            );
        } else {
            println!(
                "{package} is not installed for {}; `cargo xtask hosts --set-up` installs it",
                python.display()
            );
            from_python.push(package);
        }
    }
    ensure!(failures == 0, "{failures} check(s) failed");
    ensure!(
        !args.all || from_python.is_empty(),
        "not installed: {}",
        from_python.join(", ")
    );
    if !cfg!(target_os = "linux") {
        return Ok(());
    }
    if args.set_up {
        packages::ensure_for_standalone()?;
    }
    match packages::missing_for_standalone().as_slice() {
        [] => standalone(),
        missing => {
            let missing = missing.join(" ");
            println!("Not tried without a host, for want of {missing}: `--set-up` installs it");
            Ok(())
        }
    }
}

/// The tests of the program without a host. Of the whole workspace, so that other packages stay as they were built.
fn standalone() -> Result<()> {
    let test = ["test", "--workspace", "--features", "uncook/standalone"];
    workspace::run(
        workspace::cargo()?
            .args(test)
            .args(["--test", "standalone"]),
    )
}

/// What `cargo xtask test` compares: clack, and what PyPI has where that can be set up. Nothing is rebuilt: on a busy
/// machine an analysis takes any time. What can't be is said, and is no
/// failure; a host that runs and plays something else is.
///
/// # Errors
/// If a host that is there fails, or its export differs.
pub(crate) fn test() -> Result<()> {
    let mut left_out = Vec::new();
    let mut hosts = Vec::new();
    let mut python = PathBuf::from(PYTHON);
    let environment = if cfg!(target_os = "linux") {
        environment::make(&python)
    } else {
        Err(anyhow::anyhow!("they are tried under Linux only"))
    };
    match environment {
        Ok(made) => {
            python = made;
            for host in PYTHON_HOSTS {
                match ready(&python, host.0) {
                    _ if host.0 == ARDOUR => {}
                    Ok(()) => hosts.push(host),
                    Err(why) => left_out.push((host.0, format!("{why:#}"))),
                }
            }
        }
        Err(why) => left_out.push(("pedalboard, dawdreamer", format!("{why:#}"))),
    }
    let failures = compare(&hosts, &python, SECONDS, false, None)?;
    for (what, why) in left_out {
        println!("NOTICE: left out of this test: {what}: {why}");
    }
    println!(
        "`cargo xtask hosts --set-up` compares these hosts alone, and Ardour 7 where it is installed"
    );
    ensure!(failures == 0, "{failures} check(s) in plugin hosts failed");
    Ok(())
}

/// Plays everything in clack and in `hosts`, prints the table; returns how many checks failed. With `rebuilt`, projects
/// with rebuilt audio are made, opened and saved too.
fn compare(
    hosts: &[(&str, &str)],
    python: &Path,
    seconds: f64,
    rebuilt: bool,
    keep: Option<&Path>,
) -> Result<usize> {
    let [clap, vst3] = <[PathBuf; 2]>::try_from(bundle::bundles()?)
        .map_err(|_| anyhow::anyhow!("two bundles expected"))?;
    ensure!(
        clap.exists() && vst3.exists(),
        "the bundles are missing: run `cargo xtask bundle` first"
    );
    let temporary = std::env::temp_dir().join(format!("uncook-hosts-{}", std::process::id()));
    let folder = keep.unwrap_or(&temporary);
    fs::create_dir_all(folder)?;
    let data = std::path::absolute(folder)?.join("data");
    // SAFETY: no other thread runs yet.
    unsafe { std::env::set_var("UNCOOK_DATA_DIR", &data) };
    let input = song::song(seconds).damaged;
    let input = match input.channels.as_slice() {
        [mono] => AudioBuffer::new(vec![mono.clone(), mono.clone()], input.sample_rate),
        _ => input,
    };
    let scenes = scenes();
    let mut reference = clack(&clap, &input, &scenes, Clock::default())?;
    let project = rebuilt.then(|| project::make(&clap, &input)).transpose()?;
    if let Some(project) = &project {
        let reloaded = ("patches", project.reopened.clone());
        reference.line.checks.push(reloaded);
    }
    let mut lines = Vec::new();
    for &(package, script) in hosts {
        let place = folder.join(package);
        let line = prepare(&place, &input, &scenes, project.as_ref())
            .and_then(|()| python_host(python, package, script, &vst3, &place))
            .and_then(|report| {
                let clock = Clock::of(&report);
                let another = if clock == Clock::default() {
                    None
                } else {
                    Some(clack(&clap, &input, &scenes, clock)?)
                };
                let reference = another.as_ref().unwrap_or(&reference);
                let mut line = judge(package, &report, &place, reference, &input);
                if let Some(project) = &project {
                    let own_positions = report["heard"].is_null();
                    let render = (own_positions && place.join("patched.f32").exists())
                        .then(|| read(&place, "patched", &input));
                    let kept = project.judge(&report, render);
                    line.checks.push(("patches", kept));
                }
                line.checks.extend(captured(&report));
                Ok(line)
            })
            .unwrap_or_else(|error| Line {
                host: package.to_owned(),
                checks: vec![("load", Err(format!("{error:#}")))],
            });
        lines.push(line);
    }
    lines.insert(0, reference.line);
    print!("{}", table(&lines));
    let failures = lines
        .iter()
        .flat_map(|line| &line.checks)
        .filter(|(_, result)| result.is_err())
        .count();
    if failures > 0 {
        println!("What the hosts wrote and said is in {}", folder.display());
    } else if keep.is_none() {
        fs::remove_dir_all(&temporary)?;
    }
    Ok(failures)
}

/// What a host says of what it played in real time.
fn captured(report: &Value) -> Vec<(&'static str, Result<String, String>)> {
    let mut checks = Vec::new();
    if let Some(captured) = report["captured"].as_u64() {
        let rebuilt = match captured {
            0 => Err("what was played was not rebuilt".into()),
            n => Ok(format!("{n} rebuilt")),
        };
        checks.push(("capture", rebuilt));
    }
    if let Some(heard) = report["heard"].as_f64() {
        let bounce = match report["bounce"].as_bool() {
            _ if heard < 1e-3 => Err("what was rebuilt is not heard".into()),
            Some(true) => Ok("two exports with what was rebuilt, same bits".into()),
            _ => Err("two exports differ".into()),
        };
        checks.push(("bounce", bounce));
    }
    checks
}

/// What clack gave.
struct Reference {
    line: Line,
    /// In the scenes' order, latency taken off.
    renders: Vec<AudioBuffer>,
    latency: usize,
    parameters: Vec<Param>,
}

/// How a host's clock stands to the audio that it plays.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Clock {
    /// Frames of silence that it plays before the input: where the stages' frames lie depends on them.
    lead: usize,
    /// Frames of the input that have gone in when automation of a place arrives, counted from that place.
    late: usize,
}

impl Clock {
    /// What a script says of it; 0 where it says nothing.
    fn of(report: &Value) -> Self {
        let frames = |field: &str| report[field].as_u64().unwrap_or(0) as usize;
        Self {
            lead: frames("lead"),
            late: frames("late"),
        }
    }
}

fn clack(
    bundle: &Path,
    input: &AudioBuffer,
    scenes: &[Scene],
    Clock { lead, late }: Clock,
) -> Result<Reference> {
    let led = AudioBuffer::new(
        (input.channels.iter())
            .map(|channel| [&vec![0.0; lead], channel.as_slice()].concat())
            .collect(),
        input.sample_rate,
    );
    let mut renders = Vec::new();
    let mut latency = 0;
    let mut parameters = Vec::new();
    for scene in scenes {
        let mut plugin = HostedPlugin::load(bundle)?;
        plugin.select_channels(2)?;
        parameters = plugin.params()?;
        for &(name, value) in &scene.set {
            let (id, value) = plain(&mut plugin, name, value)?;
            plugin.set_params(&[(id, value)])?;
        }
        let mut changes = Vec::new();
        for &(frame, name, value) in &scene.changes {
            let (param, value) = plain(&mut plugin, name, value)?;
            changes.push(Change {
                sample: (lead + late + frame) as u64,
                param,
                value,
            });
        }
        plugin.set_render_mode(RenderMode::Offline)?;
        plugin.activate(input.sample_rate, BLOCK)?;
        let pass = Pass {
            blocks: Blocks::Fixed(BLOCK),
            pace: Pace::Free,
            start: 0,
            changes: &changes,
        };
        let mut played = play(&mut plugin, &led, &pass)?;
        latency = played.latency;
        for channel in &mut played.audio.channels {
            channel.drain(..lead);
        }
        renders.push(played.audio);
    }
    let state = clack_state(bundle)?;
    let transparent = scenes
        .iter()
        .position(|scene| scene.name == "transparent")
        .and_then(|at| renders.get(at))
        .context("the transparent scene is missing")?;
    let line = Line {
        host: "clack (CLAP)".into(),
        checks: vec![
            ("parameters", Ok(format!("{}", parameters.len()))),
            ("latency", in_time(transparent, input, latency)),
            ("state", state),
            ("export", Ok("is the reference".into())),
        ],
    };
    Ok(Reference {
        line,
        renders,
        latency,
        parameters,
    })
}

/// A parameter and a value of 0..1 in CLAP's range.
fn plain(
    plugin: &mut HostedPlugin,
    name: &str,
    normalised: f64,
) -> Result<(crate::host::ParamId, f64)> {
    let param = plugin.param(name)?;
    Ok((param.id, param.min + normalised * (param.max - param.min)))
}

/// What is set comes back in another instance, and the state with it byte for byte.
fn clack_state(bundle: &Path) -> Result<Result<String, String>> {
    let (mut first, mut second) = (HostedPlugin::load(bundle)?, HostedPlugin::load(bundle)?);
    let mut values = Vec::new();
    for (name, value) in [("Repair", 0.37), ("Denoise", 0.62), ("Blend", 0.25)] {
        values.push(plain(&mut first, name, value)?);
    }
    first.set_params(&values)?;
    let state = first.state_save()?;
    second.state_load(&state)?;
    for &(param, value) in &values {
        if (second.param_value(param)? - value).abs() > 1e-4 {
            return Ok(Err("a value did not come back".into()));
        }
    }
    Ok(if second.state_save()? == state {
        Ok("same bytes".into())
    } else {
        Err("saved again, the state has other bytes".into())
    })
}

/// Whether a host can be driven from this Python.
///
/// # Errors
/// With what is missing.
fn ready(python: &Path, package: &str) -> Result<()> {
    if package != ARDOUR {
        return environment::has(python, package);
    }
    let mut interpreter = Command::new("ardour7-lua");
    interpreter.arg("--version");
    environment::finish(interpreter, LOOKING)?;
    // What its script needs of Python.
    environment::has(python, "numpy")
}

/// Writes what a script needs into a folder of its own.
fn prepare(
    folder: &Path,
    input: &AudioBuffer,
    scenes: &[Scene],
    project: Option<&project::Project>,
) -> Result<()> {
    fs::create_dir_all(folder)?;
    let samples: Vec<u8> = (input.channels.iter().flatten())
        .flat_map(|sample| sample.to_le_bytes())
        .collect();
    fs::write(folder.join("input.f32"), samples)?;
    if let Some(project) = project {
        fs::write(folder.join("project.json"), &project.state)?;
    }
    let scenes: Vec<Value> = scenes
        .iter()
        .map(|scene| json!({"name": scene.name, "set": scene.set, "changes": scene.changes}))
        .collect();
    let job = json!({
        "rate": input.sample_rate,
        "scenes": scenes,
        "class": CLASS,
        "rebuilt": project.is_some(),
    });
    fs::write(folder.join("job.json"), job.to_string())?;
    Ok(())
}

/// Runs a script in its folder; returns what it reports.
fn python_host(
    python: &Path,
    package: &str,
    script: &str,
    bundle: &Path,
    folder: &Path,
) -> Result<Value> {
    let scripts = folder.join("scripts");
    fs::create_dir_all(&scripts)?;
    fs::write(scripts.join("common.py"), COMMON)?;
    // Not under the package's own name: Python would import the script instead of it.
    let main = scripts.join(format!("run_{package}.py"));
    fs::write(&main, script)?;

    let log = fs::File::create(folder.join("log.txt"))?;
    let mut child = Command::new(python)
        .arg(&main)
        .arg(bundle)
        .arg(folder)
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("{} can't be started", python.display()))?;
    let Some(status) = workspace::wait_within(&mut child, PATIENCE)? else {
        bail!("it hung for {} s", PATIENCE.as_secs());
    };
    let log = fs::read_to_string(folder.join("log.txt"))?;
    let lines: Vec<&str> = log.lines().collect();
    let tail = lines[lines.len().saturating_sub(LAST_WORDS)..].join(" | ");
    ensure!(status.success(), "{status}: {tail}");
    let report = log
        .lines()
        .find_map(|line| line.strip_prefix("REPORT "))
        .with_context(|| format!("no report: {tail}"))?;
    Ok(serde_json::from_str(report)?)
}

/// Compares what a host wrote with the reference.
fn judge(
    package: &str,
    report: &Value,
    folder: &Path,
    reference: &Reference,
    input: &AudioBuffer,
) -> Line {
    let Reference {
        renders,
        latency,
        parameters,
        ..
    } = reference;
    let latency = *latency;
    let version = report["version"].as_str().unwrap_or("?");
    let theirs: Vec<&str> = report["parameters"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    // Ardour shows what can be automated.
    let lacking: Vec<&str> = parameters
        .iter()
        .filter(|parameter| parameter.is_automatable() || package != ARDOUR)
        .map(|parameter| parameter.name.as_str())
        .filter(|name| !theirs.contains(name))
        .collect();
    let parameters = if lacking.is_empty() {
        Ok(format!("{}", theirs.len()))
    } else {
        Err(format!("lacking {}", lacking.join(", ")))
    };
    let number = |field: &str| report[field].as_u64().unwrap_or(0) as usize;
    let (measured, reported) = (number("latency"), number("reported_latency"));
    let same_latency = if measured == latency && reported == latency {
        read(folder, "transparent", input).map_or_else(Err, |out| in_time(&out, input, latency))
    } else {
        Err(format!(
            "{measured} samples measured, {reported} reported, {latency} in CLAP"
        ))
    };
    let mut checks = vec![
        ("parameters", parameters),
        ("latency", same_latency),
        (
            "state",
            match report["state"].as_bool() {
                Some(true) => Ok("comes back".into()),
                _ => Err("a value did not come back".into()),
            },
        ),
    ];
    let scenes = scenes();
    let exports = scenes
        .iter()
        .zip(renders)
        .map(|(scene, render)| {
            read(folder, scene.name, input)
                .and_then(|out| alike(&out, render).map_err(|e| format!("{}: {e}", scene.name)))
        })
        .collect::<Result<Vec<f32>, String>>()
        .map(|differences| {
            let largest = differences.into_iter().fold(0.0, f32::max);
            format!("differs by {largest:.0e}")
        });
    checks.push(("export", exports));
    if folder.join("whole.f32").exists() {
        let whole = read(folder, "whole", input).and_then(|out| {
            let render = renders.first().ok_or("nothing to compare with")?;
            alike(&out, render).map(|d| format!("differs by {d:.0e}"))
        });
        checks.push(("in one call", whole));
    }
    Line {
        host: format!("{package} {version} (VST3)"),
        checks,
    }
}

/// A host's raw floats, which must be as long as the input.
fn read(folder: &Path, name: &str, input: &AudioBuffer) -> Result<AudioBuffer, String> {
    let path = folder.join(format!("{name}.f32"));
    let bytes = fs::read(&path).map_err(|error| format!("{name}: {error}"))?;
    let samples: Vec<f32> = bytes
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect();
    let frames = input.frames();
    if samples.len() != 2 * frames {
        return Err(format!(
            "{name}: {} samples, {} expected",
            samples.len() / 2,
            frames
        ));
    }
    let channels = samples.chunks_exact(frames).map(<[f32]>::to_vec).collect();
    Ok(AudioBuffer::new(channels, input.sample_rate))
}

/// The largest difference, or where it is too large.
fn alike(out: &AudioBuffer, render: &AudioBuffer) -> Result<f32, String> {
    let mut largest = (0.0f32, 0);
    let mut first = usize::MAX;
    for (a, b) in out.channels.iter().zip(&render.channels) {
        for (at, (a, b)) in a.iter().zip(b).enumerate() {
            let difference = (a - b).abs();
            if difference.is_nan() || difference > largest.0 {
                largest = (difference, at);
            }
            if difference.is_nan() || difference > TOLERANCE {
                first = first.min(at);
            }
        }
    }
    let (difference, at) = largest;
    if difference <= TOLERANCE {
        Ok(difference)
    } else {
        Err(format!(
            "differs from sample {first} on, by {difference:.1e} at sample {at}"
        ))
    }
}

/// With nothing to do the plugin only delays: in time means bit for bit the input.
fn in_time(out: &AudioBuffer, input: &AudioBuffer, latency: usize) -> Result<String, String> {
    match crate::render::first_difference(out, input) {
        None => Ok(format!("{latency}, exact")),
        Some((_, frame)) => Err(format!("off by more than nothing from sample {frame}")),
    }
}

fn table(lines: &[Line]) -> String {
    let mut text = String::new();
    for line in lines {
        let _ = writeln!(text, "{}", line.host);
        for (check, result) in &line.checks {
            let (mark, words) = match result {
                Ok(words) => ("ok  ", words),
                Err(words) => ("FAIL", words),
            };
            let _ = writeln!(text, "  {mark} {check:<12} {words}");
        }
    }
    text
}

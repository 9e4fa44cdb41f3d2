// [cli] `cargo xtask screenshots`: the real window in a host, used with the mouse, and pictures of it.

mod dense;
mod footprint;

use std::{
    collections::{BTreeMap, HashSet},
    fs::File,
    io::BufWriter,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clack_host::events::spaces::CoreEventSpace;
use x11rb::{
    COPY_DEPTH_FROM_PARENT, CURRENT_TIME,
    connection::Connection,
    protocol::{
        xproto::{
            BUTTON_PRESS_EVENT, BUTTON_RELEASE_EVENT, ConfigureWindowAux, ConnectionExt,
            CreateWindowAux, ImageFormat, KEY_PRESS_EVENT, KEY_RELEASE_EVENT, MOTION_NOTIFY_EVENT,
            WindowClass,
        },
        xtest::ConnectionExt as _,
    },
    rust_connection::RustConnection,
};

use crate::{
    access::{Object, Reader, SessionBus},
    bundle,
    demo::DATA_DIR,
    host::{AudioThread, HostedPlugin, ParamChange, Transport, clap_id_of, state_field},
    packages, render, song,
    test::Screen,
    workspace,
};

use self::footprint::Footprint;
pub(crate) use self::footprint::cpu_seconds;

/// Opens the bundled plugin's editor, uses it with the mouse, writes pictures of it.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Where the pictures go.
    #[arg(long, default_value = "docs")]
    pub out: PathBuf,
    /// How often the editor is closed and opened again.
    #[arg(long, default_value_t = 50)]
    pub openings: usize,
    /// Use the bundle that is there.
    #[arg(long)]
    pub no_build: bool,
    /// Only close and open again: no pictures.
    #[arg(long)]
    pub only_reopen: bool,
    /// Without a session bus: nothing is read to anybody.
    #[arg(long)]
    pub no_reader: bool,
}

/// Logical size of the window, as the places of the controls were noted.
const SIZE: (u16, u16) = (1120, 800);
/// The smallest that the editor allows.
const SMALL: (u16, u16) = (760, 580);
const BLOCK: usize = 512;
/// Where a pointer rests that points at nothing: beside the window.
const ASIDE: (f32, f32) = (SIZE.0 as f32 + 60.0, SIZE.1 as f32 + 60.0);
/// Share of the analysis that a picture of it shows at least.
const UNDER_WAY: f32 = 0.2;
/// Length of the song that is played.
const SONG_SECONDS: f64 = 14.0;
/// Time for a picture: software OpenGL on a busy machine is slow.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time for the analysis.
const ANALYSIS: Duration = Duration::from_secs(600);
/// The palette's own colour, in which the progress is drawn.
const ACCENT: [u8; 3] = [0x5f, 0xd3, 0xc0];
/// A picture of the editor has text and meters: more than a flat background has.
const COLOURS: usize = 16;
/// Openings after which caches are full: the driver's, and the C library's arenas, of which a window's threads
/// take new ones up to eight times the number of cores.
const SETTLED: usize = 20;
/// What may stay allocated of each opening, in bytes; 70 to 83 thousand do. By `heaptrack`, baseview 0.4.2 never gives
/// back libxkbcommon's keymap and context (54 kB in some 930 blocks, with malloc's own bytes about 70 kB), Mesa's
/// libEGL and libglapi keep 7 kB of names; no block that stays with each opening was asked for by this crate.
/// Least of what an editor of ours could leave is its font texture: half a megabyte.
const MAX_LEFT: u64 = 100_000;
/// The same while a screen reader reads, whose objects come and go with the window: 99.5 thousand do. zbus 5 keeps the
/// path above a window's objects, with an empty table of 15.7 kB; zbus 6 does not, but AccessKit doesn't use it yet.
/// 228 thousand did while the objects stayed on the bus.
const MAX_LEFT_READ: u64 = 130_000;

/// Objects with a name that a screen reader finds in the window at least.
const MIN_NAMED: usize = 50;

/// Share of a core that an editor at rest may take. A count of computing time, not of the clock's.
const MAX_REST: f64 = 0.01;

/// Runs the command.
///
/// # Errors
/// If the editor can't be opened, doesn't do what hands ask for, or leaks.
pub fn run(args: &Args) -> Result<()> {
    let bundle = if args.no_build {
        workspace::bundled_clap()?
    } else {
        bundle::run(&bundle::Args::default())?.swap_remove(0)
    };
    if !args.no_reader {
        packages::ensure_for_screenshots()?;
    }
    let screen = Screen::start()?;
    let display = screen.as_ref().map(|s| s.display.clone());
    let bus = (!args.no_reader)
        .then(|| SessionBus::start(display.as_deref()))
        .transpose()?;
    let places = places(&workspace::root()?.join("tests/golden/editor/places.json"))?;
    let data = workspace::target_dir()?.join("screenshots");
    // An analysis of its own on every run.
    let _ = std::fs::remove_dir_all(&data);
    // SAFETY: no other thread runs yet.
    unsafe {
        std::env::set_var(DATA_DIR, &data);
        if let Some(display) = &display {
            std::env::set_var("DISPLAY", display);
            std::env::set_var("LIBGL_ALWAYS_SOFTWARE", "1");
        }
        match &bus {
            Some(bus) => std::env::set_var("DBUS_SESSION_BUS_ADDRESS", &bus.address),
            None => std::env::remove_var("DBUS_SESSION_BUS_ADDRESS"),
        }
    }
    let reader = bus.as_ref().map(|bus| Reader::new(&bus.address));
    let reader = reader.transpose()?;
    let out = workspace::root()?.join(&args.out);
    std::fs::create_dir_all(&out)?;
    let desk = Desk::new(display.as_deref())?;
    if !args.only_reopen {
        tour(&bundle, &desk, &places, &out, reader.as_ref())?;
        dense::run(&bundle, &desk, &out)?;
    }
    reopen(&bundle, &desk, args.openings, reader.as_ref())
}

/// Name of a control and the rectangle it has in a window of [`SIZE`]. The editor's own tests write and
/// check them.
type Places = BTreeMap<String, [f32; 4]>;

fn places(path: &Path) -> Result<Places> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("{} can't be read", path.display()))?;
    let json: serde_json::Value = serde_json::from_str(&text)?;
    let object = json.as_object().context("the places are no JSON object")?;
    (object.iter())
        .map(|(name, rect)| {
            let side = |i: usize| {
                rect.get(i)
                    .and_then(serde_json::Value::as_f64)
                    .map(|x| x as f32)
            };
            let rect = (|| Some([side(0)?, side(1)?, side(2)?, side(3)?]))();
            Ok((
                name.clone(),
                rect.with_context(|| format!("{name} has no rectangle"))?,
            ))
        })
        .collect()
}

/// The X server, a window on it, and hands.
struct Desk {
    x: RustConnection,
    root: u32,
}

impl Desk {
    fn new(display: Option<&str>) -> Result<Self> {
        let (x, screen) = RustConnection::connect(display).context("there is no X server")?;
        let root = x.setup().roots[screen].root;
        Ok(Self { x, root })
    }

    fn window(&self) -> Result<u32> {
        let window = self.x.generate_id()?;
        self.x.create_window(
            COPY_DEPTH_FROM_PARENT,
            window,
            self.root,
            0,
            0,
            SIZE.0,
            SIZE.1,
            0,
            WindowClass::INPUT_OUTPUT,
            0,
            &CreateWindowAux::new(),
        )?;
        self.x.map_window(window)?;
        self.settle()?;
        Ok(window)
    }

    fn settle(&self) -> Result<()> {
        self.x.get_input_focus()?.reply()?;
        Ok(())
    }

    fn fake(&self, kind: u8, detail: u8, (x, y): (f32, f32)) -> Result<()> {
        self.x
            .xtest_fake_input(kind, detail, CURRENT_TIME, self.root, x as i16, y as i16, 0)?;
        self.settle()
    }

    fn move_to(&self, at: (f32, f32)) -> Result<()> {
        self.fake(MOTION_NOTIFY_EVENT, 0, at)
    }

    fn press(&self, down: bool, at: (f32, f32)) -> Result<()> {
        self.fake(
            if down {
                BUTTON_PRESS_EVENT
            } else {
                BUTTON_RELEASE_EVENT
            },
            1,
            at,
        )
    }

    /// Types what a US keyboard has without Shift, then Return.
    fn keys(&self, text: &str) -> Result<Vec<u8>> {
        let setup = self.x.setup();
        let (first, last) = (setup.min_keycode, setup.max_keycode);
        let map = self
            .x
            .get_keyboard_mapping(first, last - first + 1)?
            .reply()?;
        let per = usize::from(map.keysyms_per_keycode).max(1);
        let code = |symbol: u32| {
            let at = map
                .keysyms
                .chunks(per)
                .position(|keys| keys.first() == Some(&symbol));
            at.map(|at| first + at as u8)
                .with_context(|| format!("no key gives {symbol:#x}"))
        };
        const RETURN: u32 = 0xff0d;
        text.chars()
            .map(u32::from)
            .chain([RETURN])
            .map(code)
            .collect()
    }

    fn key(&self, code: u8, down: bool) -> Result<()> {
        self.fake(
            if down {
                KEY_PRESS_EVENT
            } else {
                KEY_RELEASE_EVENT
            },
            code,
            (0.0, 0.0),
        )
    }

    fn picture(&self, window: u32, (width, height): (u16, u16)) -> Result<Vec<u8>> {
        let image = self
            .x
            .get_image(ImageFormat::Z_PIXMAP, window, 0, 0, width, height, !0)?
            .reply()?;
        // Blue, green, red, unused.
        Ok(image
            .data
            .chunks_exact(4)
            .flat_map(|p| [p[2], p[1], p[0]])
            .collect())
    }

    /// How much of the analysis the open window's bar shows as done, 0..=1.
    fn progress(&self, window: u32, places: &Places) -> Result<f32> {
        let [left, _, right, bottom] = (places.get("Analysis progress"))
            .context("nobody noted where the progress is")?
            .map(|x| x as usize);
        let pixels = self.picture(window, SIZE)?;
        // The middle of the bar, which lies at the bottom of its place.
        let row = (bottom - 5) * usize::from(SIZE.0);
        let at = |x: usize| &pixels[3 * (row + x)..][..3];
        let near = |a: &[u8]| (a.iter().zip(ACCENT)).all(|(a, b)| a.abs_diff(b) < 12);
        let done = (left..right).filter(|x| near(at(*x))).count();
        Ok(done as f32 / (right - left).max(1) as f32)
    }

    fn shot(&self, window: u32, size: (u16, u16), path: &Path) -> Result<()> {
        let pixels = self.picture(window, size)?;
        let file = BufWriter::new(File::create(path)?);
        let mut encoder = png::Encoder::new(file, size.0.into(), size.1.into());
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_compression(png::Compression::High);
        encoder.write_header()?.write_image_data(&pixels)?;
        println!("{}", path.display());
        Ok(())
    }

    /// Waits until something has been drawn.
    fn wait_for_picture(&self, plugin: &mut HostedPlugin, window: u32) -> Result<()> {
        let began = Instant::now();
        loop {
            plugin.idle();
            std::thread::sleep(Duration::from_millis(30));
            let pixels = self.picture(window, SIZE)?;
            let colours: HashSet<&[u8]> = pixels.chunks_exact(3).collect();
            if colours.len() >= COLOURS {
                return Ok(());
            }
            ensure!(began.elapsed() < PATIENCE, "the editor drew nothing");
        }
    }
}

/// What the plugin told the host of a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Told {
    Begin,
    Value(f64),
    End,
}

/// Audio that runs at the pace of a clock while hands work.
struct Player<'a> {
    audio: &'a mut AudioThread,
    song: &'a uncook::audio::AudioBuffer,
    position: usize,
    playing: bool,
    /// Times faster than the clock.
    speed: f64,
    told: Vec<(u32, Told)>,
}

impl Player<'_> {
    fn run(&mut self, time: Duration) -> Result<()> {
        let began = Instant::now();
        let rate = f64::from(self.audio.sample_rate());
        let blocks = (time.as_secs_f64() * self.speed * rate / BLOCK as f64).ceil() as usize;
        for i in 1..=blocks {
            let (song, from) = (self.song, self.position);
            let playing = self.playing;
            self.audio.fill_input(BLOCK, |channel, samples| {
                let source = &song.channels[channel.min(song.channels.len() - 1)];
                for (n, x) in samples.iter_mut().enumerate() {
                    *x = if playing {
                        source.get(from + n).copied().unwrap_or(0.0)
                    } else {
                        0.0
                    };
                }
            });
            let transport = Transport {
                playing,
                position_samples: from as i64,
                tempo_bpm: 112.0,
            };
            self.audio
                .process_block(BLOCK, &[] as &[ParamChange], transport)?;
            for event in self.audio.replies() {
                let told = match event.as_core_event() {
                    Some(CoreEventSpace::ParamGestureBegin(e)) => {
                        e.param_id().map(|id| (id, Told::Begin))
                    }
                    Some(CoreEventSpace::ParamGestureEnd(e)) => {
                        e.param_id().map(|id| (id, Told::End))
                    }
                    Some(CoreEventSpace::ParamValue(e)) => {
                        e.param_id().map(|id| (id, Told::Value(e.value())))
                    }
                    _ => None,
                };
                self.told.extend(told.map(|(id, told)| (id.get(), told)));
            }
            if playing {
                self.position += BLOCK;
            }
            let due = time.mul_f64(i as f64 / blocks as f64);
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
        Ok(())
    }

    /// Plays on until something is so.
    fn run_until(
        &mut self,
        what: &str,
        mut is_so: impl FnMut(&Self) -> Result<bool>,
    ) -> Result<()> {
        let began = Instant::now();
        while !is_so(self)? {
            ensure!(began.elapsed() < ANALYSIS, "{what} did not come");
            self.run(Duration::from_millis(50))?;
        }
        Ok(())
    }

    /// Types.
    fn strike(&mut self, desk: &Desk, keys: Vec<u8>) -> Result<()> {
        for key in keys {
            for down in [true, false] {
                desk.key(key, down)?;
                self.run(Duration::from_millis(40))?;
            }
        }
        self.run(Duration::from_secs(1))
    }

    /// Clicks, and takes the pointer away.
    fn click(&mut self, desk: &Desk, places: &Places, name: &str) -> Result<()> {
        self.press(desk, places, name)?;
        desk.move_to(ASIDE)?;
        self.run(Duration::from_millis(400))
    }

    fn press(&mut self, desk: &Desk, places: &Places, name: &str) -> Result<()> {
        let at = middle(places, name)?;
        desk.move_to(at)?;
        self.run(Duration::from_millis(150))?;
        desk.press(true, at)?;
        self.run(Duration::from_millis(120))?;
        desk.press(false, at)?;
        self.run(Duration::from_millis(100))
    }
}

/// Lets the plugin do for two seconds what it does on the main thread.
fn idle(plugin: &mut HostedPlugin) {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(2) {
        plugin.idle();
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn middle(places: &Places, name: &str) -> Result<(f32, f32)> {
    let [left, top, right, bottom] = places
        .get(name)
        .with_context(|| format!("nobody noted where {name} is"))?;
    Ok((0.5 * (left + right), 0.5 * (top + bottom)))
}

/// Insert, play, Analyse, look, drag, type, resize.
fn tour(
    bundle: &Path,
    desk: &Desk,
    places: &Places,
    out: &Path,
    reader: Option<&Reader>,
) -> Result<()> {
    let song = song::song(SONG_SECONDS).damaged;
    let mut plugin = HostedPlugin::load(bundle)?;
    // Analysed on demand: the click is part of the tour. Both stems are rebuilt, however they measure.
    plugin.choose(&[("capture", "Manual")])?;
    plugin.rebuild_everywhere()?;
    desk.move_to(ASIDE)?;
    plugin.activate(song::SAMPLE_RATE, BLOCK)?;
    let window = desk.window()?;
    plugin.open_editor(window)?;
    plugin.resize_editor(SIZE.0.into(), SIZE.1.into())?;
    desk.wait_for_picture(&mut plugin, window)?;

    let second = Duration::from_secs(1);
    let shot = |name: &str| desk.shot(window, SIZE, &out.join(format!("editor-{name}.png")));
    let work = |audio: &mut AudioThread| -> Result<Vec<(u32, Told)>> {
        let mut player = Player {
            audio,
            song: &song,
            position: 0,
            playing: false,
            speed: 1.0,
            told: Vec::new(),
        };
        player.run(2 * second)?;
        shot("empty")?;
        player.playing = true;
        player.speed = 3.0;
        while (player.position as f64) < 0.6 * song.frames() as f64 {
            player.run(second / 4)?;
        }
        player.speed = 1.0;
        player.run(second)?;
        shot("capturing")?;
        player.speed = 3.0;
        while player.position + BLOCK < song.frames() {
            player.run(second / 4)?;
        }
        player.playing = false;
        player.speed = 1.0;
        player.run(second)?;
        player.click(desk, places, "Analyse")?;
        let under_way = |_: &Player<'_>| Ok(desk.progress(window, places)? >= UNDER_WAY);
        player.run_until("an analysis under way", under_way)?;
        shot("analysing")?;
        Ok(player.told)
    };
    plugin.with_audio_thread(work)?;

    let began = Instant::now();
    while render::commits(&plugin.state_save()?)? == 0 {
        ensure!(
            began.elapsed() < ANALYSIS,
            "the click on Analyse led to no repair"
        );
        plugin.idle();
        std::thread::sleep(Duration::from_millis(200));
    }
    let bass = plugin.param("blend_bass")?;
    let before = plugin.param_value(bass.id)?;
    let told = plugin.with_audio_thread(|audio| {
        let mut player = Player {
            audio,
            song: &song,
            position: 5 * song::SAMPLE_RATE as usize,
            playing: true,
            speed: 1.0,
            told: Vec::new(),
        };
        player.run(2 * second)?;
        let shown = |_: &Player<'_>| Ok(desk.progress(window, places)? == 0.0);
        player.run_until("the end of the analysis", shown)?;
        shot("repaired")?;
        player.playing = false;
        // Drag the bass' blend to the left.
        let (x, y) = middle(places, "Bass blend")?;
        desk.move_to((x, y))?;
        player.run(second / 4)?;
        desk.press(true, (x, y))?;
        for step in 1..=10 {
            desk.move_to((x - 4.0 * step as f32, y))?;
            player.run(second / 10)?;
        }
        desk.press(false, (x - 40.0, y))?;
        player.run(second)?;
        Ok(player.told)
    })?;
    gesture(&told, "blend_bass", 3)?;
    let after = plugin.param_value(bass.id)?;
    ensure!(
        after < before,
        "the bass' blend stayed at {after} while it was dragged from {before}"
    );

    let text = "tight kick, warm bass";
    let keys = desk.keys(text)?;
    let preset = "cellar 2";
    let name = desk.keys(preset)?;
    plugin.with_audio_thread(|audio| {
        let mut player = Player {
            audio,
            song: &song,
            position: 0,
            playing: false,
            speed: 1.0,
            told: Vec::new(),
        };
        player.click(desk, places, "Analysis")?;
        player.press(desk, places, "Style")?;
        player.strike(desk, keys)?;
        shot("style")?;
        player.click(desk, places, "Save preset")?;
        player.strike(desk, name)?;
        for (tab, name) in [("Music", "music"), ("Models", "models")] {
            player.click(desk, places, tab)?;
            shot(name)?;
        }
        player.click(desk, places, "Quality")?;
        shot("quality")?;
        player.click(desk, places, "Spectrum")?;
        player.click(desk, places, "Spectrogram")?;
        shot("spectrogram")?;
        player.click(desk, places, "Light colours")?;
        player.click(desk, places, "Live repair")?;
        player.click(desk, places, "Overlaid")?;
        shot("light")
    })?;
    let state = plugin.state_save()?;
    for (field, typed) in [("style", text), ("preset", preset)] {
        let stored = state_field(&state, field)?;
        ensure!(
            stored == Some(typed.into()),
            "the {field} that was typed is stored as {stored:?}"
        );
    }
    let file = std::path::PathBuf::from(std::env::var(DATA_DIR)?)
        .join("presets")
        .join(format!("{preset}.uncookpreset"));
    let kept = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    ensure!(kept.contains(text), "the preset was kept as {kept}");
    println!("the preset \"{preset}\" was kept");

    if let Some(reader) = reader {
        read_out(&mut plugin, &song, reader)?;
    }

    let configure = ConfigureWindowAux::new()
        .width(u32::from(SMALL.0))
        .height(u32::from(SMALL.1));
    desk.x.configure_window(window, &configure)?;
    plugin.resize_editor(SMALL.0.into(), SMALL.1.into())?;
    idle(&mut plugin);
    desk.shot(window, SMALL, &out.join("editor-small.png"))?;
    let stored = state_field(&plugin.state_save()?, "editor-size")?;
    let small = serde_json::json!([f32::from(SMALL.0), f32::from(SMALL.1)]);
    ensure!(
        stored == Some(small),
        "the size after resizing is stored as {stored:?}"
    );

    // At rest: nothing plays, nobody touches it.
    desk.move_to((f32::from(SMALL.0) + 100.0, f32::from(SMALL.1) + 100.0))?;
    std::thread::sleep(2 * second);
    let (began, spent) = (Instant::now(), cpu_seconds()?);
    std::thread::sleep(10 * second);
    let share = (cpu_seconds()? - spent) / began.elapsed().as_secs_f64();
    println!("an editor at rest takes {:.2} % of a core", 100.0 * share);
    ensure!(
        share < MAX_REST,
        "an editor at rest takes {:.2} % of a core",
        100.0 * share
    );
    plugin.close_editor()?;
    desk.x.destroy_window(window)?;
    // It opens again as it was left.
    let window = desk.window()?;
    let size = plugin.open_editor(window)?;
    ensure!(
        size == (SMALL.0.into(), SMALL.1.into()),
        "the editor was left at {SMALL:?} and opens at {size:?}"
    );
    desk.wait_for_picture(&mut plugin, window)?;
    plugin.close_editor()?;
    desk.x.destroy_window(window)?;
    desk.settle()
}

/// What a screen reader sees of the open window, and what it can do: every object that can be used has a name, *Mix*
/// is set to 40 %, *Delta* is pressed, and the host hears of both.
fn read_out(
    plugin: &mut HostedPlugin,
    song: &uncook::audio::AudioBuffer,
    reader: &Reader,
) -> Result<()> {
    let objects = reader.walk()?;
    let named = objects.iter().filter(|o| !o.name.trim().is_empty());
    let used = |o: &&Object| o.has_value() || o.has_action();
    let (count, named) = (objects.len(), named.count());
    let nameless = (objects.iter().filter(used)).find(|o| o.name.trim().is_empty());
    println!(
        "a screen reader sees {count} objects, {named} named, {} that can be used",
        objects.iter().filter(used).count()
    );
    ensure!(
        named >= MIN_NAMED,
        "a screen reader sees {named} named objects"
    );
    if let Some(nameless) = nameless {
        bail!(
            "something of role {} can be used and has no name",
            nameless.role
        );
    }
    let find = |name: &str, can: fn(&Object) -> bool| {
        let found = objects.iter().find(|o| o.name == name && can(o));
        found.with_context(|| format!("a screen reader doesn't find {name}"))
    };
    let (mix, gain) = (
        find("Mix", Object::has_value)?,
        find("Gain", Object::has_value)?,
    );
    let (range, db) = (reader.value(mix)?, reader.value(gain)?);
    println!(
        "Mix {range:?} {:?}, Gain {db:?} {:?}",
        mix.description, gain.description
    );
    ensure!(range == [0.0, 100.0, 100.0], "Mix reads as {range:?}");
    ensure!(
        mix.description == "100 %" && gain.description == "0.0 dB",
        "without units: {:?}, {:?}",
        mix.description,
        gain.description
    );
    ensure!(db[0] < db[1] && db[1] == 0.0, "Gain reads as {db:?}");
    let delta = find("Delta", Object::has_action)?;
    let told = plugin.with_audio_thread(|audio| {
        let mut player = Player {
            audio,
            song,
            position: 0,
            playing: false,
            speed: 1.0,
            told: Vec::new(),
        };
        reader.set_value(mix, 40.0)?;
        player.run(Duration::from_secs(1))?;
        reader.press(delta)?;
        player.run(Duration::from_secs(1))?;
        Ok(player.told)
    })?;
    gesture(&told, "mix", 1)?;
    gesture(&told, "delta", 1)?;
    for (id, text) in [("mix", "40 %"), ("delta", "On")] {
        let param = plugin.param(id)?;
        let (now, wanted) = (
            plugin.param_value(param.id)?,
            plugin.read_value(&param, text)?,
        );
        ensure!((now - wanted).abs() < 1e-6, "{id} is {now}, not {wanted}");
    }
    let after = reader.value(mix)?;
    ensure!(after[1] == 40.0, "Mix reads as {after:?} after it was set");
    Ok(())
}

/// One gesture of a parameter: begin, at least so many values, end.
fn gesture(told: &[(u32, Told)], id: &str, least: usize) -> Result<()> {
    let param = clap_id_of(id).context("no such parameter")?.get();
    let mine: Vec<Told> = told
        .iter()
        .filter(|(p, _)| *p == param)
        .map(|(_, t)| *t)
        .collect();
    match &mine[..] {
        [Told::Begin, values @ .., Told::End]
            if values.len() >= least && values.iter().all(|t| matches!(t, Told::Value(_))) =>
        {
            println!("{id}: begin, {} values, end", values.len());
            Ok(())
        }
        other => bail!("the host heard of {id}: {other:?}"),
    }
}

/// Opens and closes; what each opening leaves behind is measured after the first few.
fn reopen(bundle: &Path, desk: &Desk, openings: usize, reader: Option<&Reader>) -> Result<()> {
    let mut plugin = HostedPlugin::load(bundle)?;
    let mut settled = None;
    for opening in 1..=openings {
        let window = desk.window()?;
        plugin.open_editor(window)?;
        desk.wait_for_picture(&mut plugin, window)?;
        let mut read = Vec::new();
        if let Some(reader) = reader {
            reader.wait_for_windows(1, || plugin.idle())?;
            if opening == 1 {
                read = reader.walk()?;
                ensure!(!read.is_empty(), "a screen reader sees no object");
            }
        }
        plugin.close_editor()?;
        desk.x.destroy_window(window)?;
        desk.settle()?;
        if let Some(reader) = reader {
            reader.wait_for_windows(0, || plugin.idle())?;
            let (left, all) = (reader.left(&read), read.len());
            ensure!(
                left == 0,
                "{left} of {all} objects can be read after the window was closed"
            );
        }
        if opening == SETTLED.min(openings) {
            settled = Some(Footprint::now()?);
        }
        if opening % 10 == 0 {
            println!("{opening} openings: {}", Footprint::now()?);
        }
    }
    let before = settled.context("nothing was opened")?;
    let after = Footprint::now()?;
    println!("{openings} openings: {before} -> {after}");
    let most = if reader.is_some() {
        MAX_LEFT_READ
    } else {
        MAX_LEFT
    };
    before.check(&after, openings.saturating_sub(SETTLED), most)
}

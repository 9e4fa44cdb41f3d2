//! The bundled plugin's editor in a host's window. Needs the bundle and an X server; `cargo xtask test`
//! gives both.
#![cfg(target_os = "linux")]

use std::{
    collections::HashSet,
    path::Path,
    time::{Duration, Instant},
};

use x11rb::{
    COPY_DEPTH_FROM_PARENT,
    connection::Connection,
    protocol::xproto::{ConnectionExt, CreateWindowAux, ImageFormat, WindowClass},
    rust_connection::RustConnection,
};
use xtask::host::HostedPlugin;

/// How long an editor may take until its first picture; software OpenGL on a busy machine is slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// A picture of the editor has text and meters: more than a flat background has.
const COLOURS: usize = 16;

#[test]
fn the_editor_opens_draws_and_closes_twice() {
    let (x, screen) = RustConnection::connect(None)
        .expect("no X server (DISPLAY): run `cargo xtask test`, which starts one, or set DISPLAY");
    let root = x.setup().roots[screen].root;
    let bundle = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .unwrap()
        .join("bundled/Uncook.clap");
    let mut plugin = HostedPlugin::load(&bundle).unwrap();
    for opening in 1..=2 {
        let parent = x.generate_id().unwrap();
        let (width, height) = (1_400, 900);
        x.create_window(
            COPY_DEPTH_FROM_PARENT,
            parent,
            root,
            0,
            0,
            width,
            height,
            0,
            WindowClass::INPUT_OUTPUT,
            0,
            &CreateWindowAux::new(),
        )
        .unwrap();
        x.map_window(parent).unwrap();
        x.get_input_focus().unwrap().reply().unwrap();
        let (wide, high) = plugin.open_editor(parent).unwrap();
        assert!(wide >= 200 && high >= 100, "{wide} by {high}");
        let began = Instant::now();
        let mut seen = 0;
        while seen < COLOURS && began.elapsed() < PATIENCE {
            plugin.idle();
            std::thread::sleep(Duration::from_millis(50));
            let area = (wide.min(width.into()), high.min(height.into()));
            let image = x
                .get_image(
                    ImageFormat::Z_PIXMAP,
                    parent,
                    0,
                    0,
                    area.0 as u16,
                    area.1 as u16,
                    !0,
                )
                .unwrap()
                .reply()
                .unwrap();
            let pixels: HashSet<&[u8]> = image.data.chunks_exact(4).collect();
            seen = pixels.len();
        }
        assert!(seen >= COLOURS, "opening {opening}: {seen} colours");
        plugin.close_editor().unwrap();
        x.destroy_window(parent).unwrap();
        x.get_input_focus().unwrap().reply().unwrap();
    }
}

// [cli] The real window on a screen of twice as many dots an inch.

use std::path::Path;

use anyhow::{Result, ensure};
use x11rb::{
    protocol::xproto::{AtomEnum, ConfigureWindowAux, ConnectionExt as _, PropMode},
    wrapper::ConnectionExt as _,
};

use super::{Desk, SMALL, idle};
use crate::host::{HostedPlugin, state_field};

/// On a screen of twice as many dots everything is drawn twice as large, and sizes are kept in the same unit.
pub(super) fn run(bundle: &Path, desk: &Desk, out: &Path) -> Result<()> {
    let resources = |text: &[u8]| -> Result<()> {
        let (name, kind) = (AtomEnum::RESOURCE_MANAGER, AtomEnum::STRING);
        (desk.x).change_property8(PropMode::REPLACE, desk.root, name, kind, text)?;
        desk.settle()
    };
    resources(b"Xft.dpi:\t192\n")?;
    let mut plugin = HostedPlugin::load(bundle)?;
    let window = desk.window()?;
    let size = (2 * SMALL.0, 2 * SMALL.1);
    let (width, height) = (u32::from(size.0), u32::from(size.1));
    let larger = ConfigureWindowAux::new().width(width).height(height);
    desk.x.configure_window(window, &larger)?;
    plugin.open_editor(window)?;
    plugin.resize_editor(width, height)?;
    desk.wait_for_picture(&mut plugin, window)?;
    idle(&mut plugin);
    desk.shot(window, size, &out.join("editor-dense.png"))?;
    let stored = state_field(&plugin.state_save()?, "editor-size")?;
    plugin.close_editor()?;
    desk.x.destroy_window(window)?;
    resources(b"")?;
    let small = serde_json::json!([f32::from(SMALL.0), f32::from(SMALL.1)]);
    ensure!(
        stored == Some(small),
        "with 192 dots an inch {size:?} pixels are stored as {stored:?}"
    );
    Ok(())
}

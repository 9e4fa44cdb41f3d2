// [main] A hosted plugin's editor, in an X11 window of the host's.

use anyhow::{Context, Result};
use clack_extensions::gui::{GuiApiType, GuiConfiguration, GuiSize, PluginGui, Window};

use super::HostedPlugin;

impl HostedPlugin {
    /// Opens the editor inside the X11 window `parent`, which must outlive it. Returns the width and
    /// height that the editor wants.
    ///
    /// # Errors
    /// If the plugin has no editor, or can't open it there.
    pub fn open_editor(&mut self, parent: u32) -> Result<(u32, u32)> {
        let gui: PluginGui = self.extension("gui")?;
        let handle = self.instance.plugin_handle();
        let configuration = GuiConfiguration {
            api_type: GuiApiType::X11,
            is_floating: false,
        };
        gui.create(&handle, configuration)?;
        let size = gui
            .get_size(&handle)
            .context("the editor does not say how large it is")?;
        let window = Window::from_x11_handle(parent.into());
        // SAFETY: the caller keeps the window until the editor is closed.
        unsafe { gui.set_parent(&handle, window)? };
        gui.show(&handle)?;
        self.run_callbacks();
        Ok((size.width, size.height))
    }

    /// Gives the open editor another size, in physical pixels.
    ///
    /// # Errors
    /// If the editor is not open or refuses the size.
    pub fn resize_editor(&mut self, width: u32, height: u32) -> Result<()> {
        let gui: PluginGui = self.extension("gui")?;
        gui.set_size(&self.instance.plugin_handle(), GuiSize { width, height })?;
        self.run_callbacks();
        Ok(())
    }

    /// Serves what the plugin asks of the main thread. A host's event loop does so all the time.
    pub fn idle(&mut self) {
        self.run_callbacks();
    }

    /// Closes the editor.
    ///
    /// # Errors
    /// If the plugin has no editor.
    pub fn close_editor(&mut self) -> Result<()> {
        let gui: PluginGui = self.extension("gui")?;
        gui.destroy(&self.instance.plugin_handle());
        self.run_callbacks();
        Ok(())
    }
}

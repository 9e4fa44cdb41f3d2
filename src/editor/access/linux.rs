// [main] Screen readers under Linux, over AT-SPI.

use egui::accesskit::{NodeId, TreeUpdate};
use nice_plug_egui::baseview::WindowContext;

use super::{Shared, farewell};

/// The way to the session's bus, which has a thread of its own.
pub struct Adapter(accesskit_unix::Adapter);

impl Adapter {
    pub fn new(shared: &Shared, _window: &WindowContext) -> Option<Self> {
        let [activation, action, deactivation] = [(); 3].map(|()| shared.clone());
        Some(Self(accesskit_unix::Adapter::new(
            activation,
            action,
            deactivation,
        )))
    }

    /// Whether the window has the focus.
    pub fn focus(&mut self, has: bool) {
        self.0.update_window_focus_state(has);
    }

    /// A new tree, made only where somebody reads.
    pub fn update(&mut self, tree: impl FnOnce() -> TreeUpdate) {
        self.0.update_if_active(tree);
    }

    /// What is in the window leaves the bus, and so does the window `root`, hidden: whatever goes with the adapter instead
    /// stays there as an object. Only what hasn't the focus can be hidden.
    pub fn leave(&mut self, root: NodeId) {
        self.focus(false);
        self.update(|| farewell(root));
    }
}

// [main] Screen readers under Linux, over AT-SPI.

use egui::accesskit::{Node, NodeId, Role, TreeId, TreeUpdate};
use nice_plug_egui::baseview::WindowContext;

use super::Shared;

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

/// The last tree of a window: nothing, and that hidden.
fn farewell(root: NodeId) -> TreeUpdate {
    let mut window = Node::new(Role::Window);
    window.set_hidden();
    TreeUpdate {
        nodes: vec![(root, window)],
        tree: None,
        tree_id: TreeId::ROOT,
        focus: root,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_windows_last_tree_is_hidden_and_empty() {
        let update = farewell(NodeId(7));
        let [(root, window)] = &update.nodes[..] else {
            panic!("{update:?}");
        };
        assert_eq!((*root, update.focus), (NodeId(7), NodeId(7)));
        assert!(window.is_hidden() && window.children().is_empty());
    }
}

// [main] Screen readers: what is drawn, by name and value, goes to the system; what they ask for comes back as input.
//
// The window library hands neither on. This does it: under Linux over AT-SPI, under Windows through UI Automation, under
// macOS through Cocoa.

#[cfg(target_os = "linux")]
#[path = "access/linux.rs"]
mod system;
#[cfg(any(windows, target_os = "macos"))]
#[path = "access/window.rs"]
mod system;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

#[cfg(target_os = "linux")]
use egui::accesskit::DeactivationHandler;
use egui::{
    Context, Event, FullOutput, Plugin, RawInput,
    accesskit::{ActionHandler, ActionRequest, ActivationHandler, NodeId, Role, TreeUpdate},
};
use nice_plug_egui::{RepaintNotifier, baseview::WindowContext};
use parking_lot::Mutex;
use system::Adapter;

use crate::system::stay_loaded;

/// What the window's thread and the system's tell each other.
struct Desk {
    /// Not the picture's context: that holds the reader, and would never go.
    repaint: RepaintNotifier,
    /// Whether anybody reads. Until then no tree is made.
    active: AtomicBool,
    asked: Mutex<Vec<ActionRequest>>,
}

#[derive(Clone)]
struct Shared(Arc<Desk>);

impl Shared {
    fn set_active(&self, active: bool) {
        self.0.active.store(active, Ordering::Relaxed);
        self.0.repaint.request_repaint();
    }
}

impl ActivationHandler for Shared {
    fn request_initial_tree(&mut self) -> Option<TreeUpdate> {
        // The next picture brings it.
        self.set_active(true);
        None
    }
}

#[cfg(target_os = "linux")]
impl DeactivationHandler for Shared {
    fn deactivate_accessibility(&mut self) {
        self.set_active(false);
    }
}

impl ActionHandler for Shared {
    fn do_action(&mut self, request: ActionRequest) {
        self.0.asked.lock().push(request);
        self.0.repaint.request_repaint();
    }
}

/// The way to the system's screen readers, for as long as the window lives.
pub struct Reader {
    shared: Shared,
    /// `None`: the system has no way to this window.
    adapter: Option<Adapter>,
    /// The window in the last tree.
    root: Option<NodeId>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some((adapter, root)) = self.adapter.as_mut().zip(self.root) {
            adapter.leave(root);
        }
    }
}

impl Reader {
    /// Makes the pictures of `context`, which `window` shows, known. Where nobody reads nothing ever comes of it.
    pub fn add_to(context: &Context, window: &WindowContext, repaint: RepaintNotifier) {
        // The system's threads are never joined.
        stay_loaded();
        let shared = Shared(Arc::new(Desk {
            repaint,
            active: AtomicBool::new(false),
            asked: Mutex::default(),
        }));
        let adapter = Adapter::new(&shared, window);
        context.add_plugin(Self {
            shared,
            adapter,
            root: None,
        });
    }
}

impl Plugin for Reader {
    fn debug_name(&self) -> &'static str {
        "screen readers"
    }

    fn input_hook(&mut self, context: &Context, input: &mut RawInput) {
        if self.shared.0.active.load(Ordering::Relaxed) {
            context.enable_accesskit();
        } else {
            context.disable_accesskit();
        }
        let asked = std::mem::take(&mut *self.shared.0.asked.lock());
        (input.events).extend(asked.into_iter().map(Event::AccessKitActionRequest));
        if let Some(adapter) = &mut self.adapter {
            adapter.focus(input.focused);
        }
    }

    fn output_hook(&mut self, _context: &Context, output: &mut FullOutput) {
        if let Some(mut update) = output.platform_output.accesskit_update.take() {
            complete(&mut update);
            self.root = update.tree.as_ref().map(|tree| tree.root).or(self.root);
            if let Some(adapter) = &mut self.adapter {
                adapter.update(|| update);
            }
        }
    }
}

/// Names what the library leaves nameless: the window, and the bars that scroll a list.
fn complete(update: &mut TreeUpdate) {
    let root = update.tree.as_ref().map(|tree| tree.root);
    for (id, node) in &mut update.nodes {
        if Some(*id) == root {
            node.set_label("Uncook");
        } else if node.role() == Role::ScrollBar && node.label().is_none() {
            node.set_label("Scroll");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use egui::accesskit::{Action, Node, TreeId, TreeInfo};

    #[test]
    fn the_window_and_its_scroll_bars_have_names() {
        let [root, bar, other] = [1, 2, 3].map(NodeId);
        let mut update = TreeUpdate {
            nodes: vec![
                (root, Node::new(Role::Window)),
                (bar, Node::new(Role::ScrollBar)),
                (other, Node::new(Role::Button)),
            ],
            tree: Some(TreeInfo::new(root)),
            tree_id: TreeId::ROOT,
            focus: root,
        };
        complete(&mut update);
        let names: Vec<_> = update.nodes.iter().map(|(_, node)| node.label()).collect();
        assert_eq!(names, [Some("Uncook"), Some("Scroll"), None]);
    }

    #[test]
    fn what_a_reader_asks_for_is_done_and_a_tree_is_made_only_for_readers() {
        let context = Context::default();
        let shared = Shared(Arc::new(Desk {
            repaint: RepaintNotifier::new(),
            active: AtomicBool::new(false),
            asked: Mutex::default(),
        }));
        let mut system = shared.clone();
        context.add_plugin(Reader {
            shared,
            adapter: None,
            root: None,
        });
        // Whether the button was pressed, whether it is in a tree, and its place there.
        let picture = || {
            let mut seen = None;
            let mut output = context.run_ui(RawInput::default(), |ui| {
                let button = ui.button("Analyse");
                let in_tree = ui.ctx().accesskit_node_builder(button.id, |_| ()).is_some();
                seen = Some((button.clicked(), in_tree, button.id.accesskit_id()));
            });
            output.textures_delta.clear();
            seen.expect("it was drawn")
        };
        let (pressed, in_tree, target_node) = picture();
        assert!(!pressed && !in_tree);
        assert!(system.request_initial_tree().is_none());
        assert!(picture().1);
        system.do_action(ActionRequest {
            action: Action::Click,
            target_tree: TreeId::ROOT,
            target_node,
            data: None,
        });
        assert!(picture().0);
        assert!(!picture().0, "once");
        // Only there the system says that nobody reads any more.
        #[cfg(target_os = "linux")]
        {
            system.deactivate_accessibility();
            assert!(!picture().1);
        }
    }
}

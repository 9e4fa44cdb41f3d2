// [main] The window as the host holds it: closing it waits until its thread has ended.
//
// On X11 a window has a thread of its own, and baseview 0.4 asks it to end without joining it (its `Drop` returns early
// once the thread no longer answers). A host may destroy the parent window or unload the plugin next, under the
// feet of that thread: so whoever closes waits for it here.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use nice_plug::editor::{EditorHandle, ParentWindowHandle, dpi::NativeSize};
use nice_plug_egui::{EguiEditorHandle, KeyCapture, baseview};
use parking_lot::{Condvar, Mutex};

/// Longest wait. A thread that hangs in a driver must not hang the host too.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether the thread of a window runs, seen from both sides.
#[derive(Clone, Default)]
pub struct Running(Arc<Shared>);

#[derive(Default)]
struct Shared {
    runs: Mutex<bool>,
    ended: Condvar,
}

impl Running {
    /// To be called on the window's own thread, if it has one: from now to the thread's end it counts as
    /// running.
    pub fn mark_this_thread(&self) {
        thread_local! {
            static ENDS: std::cell::RefCell<Vec<Ends>> = const { std::cell::RefCell::new(Vec::new()) };
        }
        /// Dropped by the thread when everything else of it is gone.
        struct Ends(Running);
        impl Drop for Ends {
            fn drop(&mut self) {
                *self.0.0.runs.lock() = false;
                self.0.0.ended.notify_all();
            }
        }
        *self.0.runs.lock() = true;
        ENDS.with_borrow_mut(|ends| ends.push(Ends(self.clone())));
    }

    /// Waits until the thread has ended. Returns whether it has.
    pub fn wait(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        let mut runs = self.0.runs.lock();
        while *runs {
            if self.0.ended.wait_until(&mut runs, until).timed_out() {
                return !*runs;
            }
        }
        true
    }
}

/// An open window. Fields drop in order: the window is asked to close before its thread is waited for.
pub struct Window {
    inner: baseview::Window,
    _end: End,
}

struct End(Running);

impl Drop for End {
    fn drop(&mut self) {
        self.0.wait(PATIENCE);
    }
}

impl Window {
    pub fn new(inner: baseview::Window, running: Running) -> Self {
        Self {
            inner,
            _end: End(running),
        }
    }
}

/// Keys that a control with the focus uses, beside letters: the space bar, and what else the host has keys for, goes on
/// to the host.
const OURS: [&str; 14] = [
    "Tab",
    "Enter",
    "Escape",
    "Delete",
    "Backspace",
    "Home",
    "End",
    "ArrowLeft",
    "ArrowRight",
    "ArrowUp",
    "ArrowDown",
    "+",
    "-",
    "=",
];

/// Keys that the host doesn't get while something here has the focus: all of them while a text is typed.
pub fn kept_keys(typing: bool) -> KeyCapture {
    if typing {
        KeyCapture::CaptureAll
    } else {
        KeyCapture::CaptureKeys(OURS.iter().filter_map(|name| name.parse().ok()).collect())
    }
}

/// The framework's handle for our [`Window`].
pub struct Handle(pub EguiEditorHandle);

impl EditorHandle for Handle {
    type Window = Window;
    type Error = baseview::Error;

    fn run_until_closed(window: Self::Window) -> Result<(), Self::Error> {
        let Window { inner, _end } = window;
        EguiEditorHandle::run_until_closed(inner)
    }

    fn set_parent(
        &self,
        parent: ParentWindowHandle,
        window: &Self::Window,
    ) -> Result<(), Self::Error> {
        self.0.set_parent(parent, &window.inner)
    }

    fn show(&self, window: &Self::Window) -> Result<(), Self::Error> {
        self.0.show(&window.inner)
    }

    fn hide(&self, window: &Self::Window) -> Result<(), Self::Error> {
        self.0.hide(&window.inner)
    }

    fn set_size(
        &self,
        new_size: NativeSize<u32>,
        window: &Self::Window,
    ) -> Result<(), Self::Error> {
        self.0.set_size(new_size, &window.inner)
    }

    fn host_main_thread_callback(&self, window: &Self::Window) {
        self.0.host_main_thread_callback(&window.inner);
    }

    fn adjust_size(
        &self,
        new_size: NativeSize<u32>,
        window: &Self::Window,
    ) -> Option<NativeSize<u32>> {
        self.0.adjust_size(new_size, &window.inner)
    }

    fn set_fallback_scale_factor(
        &self,
        scale_factor: f64,
        window: &Self::Window,
    ) -> Result<(), Self::Error> {
        self.0
            .set_fallback_scale_factor(scale_factor, &window.inner)
    }

    fn state_changed(&self) {
        self.0.state_changed();
    }

    fn param_value_changed(&self, id: &str, normalized_value: f32) {
        self.0.param_value_changed(id, normalized_value);
    }

    fn param_modulation_changed(&self, id: &str, modulation_offset: f32) {
        self.0.param_modulation_changed(id, modulation_offset);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_space_bar_is_the_hosts_unless_a_text_is_typed() {
        let key = |name: &str| name.parse::<nice_plug_egui::Key>().unwrap();
        let keeps = |capture: KeyCapture, name: &str| match capture {
            KeyCapture::CaptureAll => true,
            KeyCapture::CaptureKeys(keys) => keys.contains(&key(name)),
            _ => false,
        };
        for name in [" ", "r", "ArrowLeft"] {
            assert!(keeps(kept_keys(true), name), "{name:?} while typing");
        }
        assert!(!keeps(kept_keys(false), " ") && !keeps(kept_keys(false), "r"));
        // None was written wrong.
        assert!(OURS.iter().all(|name| keeps(kept_keys(false), name)));
    }

    #[test]
    fn closing_waits_for_the_windows_thread_and_no_longer() {
        let running = Running::default();
        assert!(running.wait(Duration::ZERO), "a window without a thread");
        let (go, going) = std::sync::mpsc::channel::<()>();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let of_thread = running.clone();
        let thread = std::thread::spawn(move || {
            of_thread.mark_this_thread();
            ready.send(()).unwrap();
            // Until the test lets it go.
            let _ = going.recv();
        });
        is_ready.recv().unwrap();
        assert!(!running.wait(Duration::from_millis(20)), "it runs");
        drop(go);
        assert!(running.wait(Duration::from_secs(60)), "it has ended");
        thread.join().unwrap();
    }
}

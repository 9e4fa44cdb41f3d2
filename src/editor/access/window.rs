// [main] Screen readers under Windows (UI Automation) and macOS (Cocoa): they ask the window itself, which answers here.
//
// Whatever concerns a window happens on the thread that made it.

use std::{
    mem::ManuallyDrop,
    thread::{self, ThreadId},
};

#[cfg(target_os = "macos")]
use accesskit_macos::SubclassingAdapter;
#[cfg(windows)]
use accesskit_windows::{HWND, SubclassingAdapter};
use egui::accesskit::{NodeId, TreeUpdate};
use nice_plug_egui::baseview::WindowContext;
use raw_window_handle::{HasWindowHandle, RawWindowHandle};

use super::Shared;

/// What answers for a window; on other threads than the window's it does nothing.
pub struct Adapter {
    of_window: ManuallyDrop<SubclassingAdapter>,
    thread: ThreadId,
}

// SAFETY: what it holds is reached through `on_its_thread` alone, and is never dropped elsewhere.
unsafe impl Send for Adapter {}
// SAFETY: shared, it gives access to nothing.
unsafe impl Sync for Adapter {}

impl Adapter {
    /// To be called on the window's thread, before the window is shown. `None` if it is shown already, or is none.
    pub fn new(shared: &Shared, window: &WindowContext) -> Option<Self> {
        let of_window = match window.window_handle().ok()?.as_raw() {
            #[cfg(windows)]
            RawWindowHandle::Win32(window) => {
                use windows_sys::Win32::UI::WindowsAndMessaging::IsWindowVisible;
                let window = window.hwnd.get() as *mut std::ffi::c_void;
                // SAFETY: asks; any handle will do.
                if unsafe { IsWindowVisible(window) } != 0 {
                    return None;
                }
                SubclassingAdapter::new(HWND(window), shared.clone(), shared.clone())
            }
            #[cfg(target_os = "macos")]
            RawWindowHandle::AppKit(view) => {
                // SAFETY: the view of a window that is being opened.
                unsafe {
                    SubclassingAdapter::new(view.ns_view.as_ptr(), shared.clone(), shared.clone())
                }
            }
            _ => return None,
        };
        Some(Self {
            of_window: ManuallyDrop::new(of_window),
            thread: thread::current().id(),
        })
    }

    fn on_its_thread(&mut self) -> Option<&mut SubclassingAdapter> {
        (thread::current().id() == self.thread).then_some(&mut *self.of_window)
    }

    /// Whether the window has the focus. Windows tells that by itself.
    #[cfg_attr(windows, expect(clippy::unused_self, clippy::needless_pass_by_ref_mut))]
    pub fn focus(&mut self, has: bool) {
        #[cfg(target_os = "macos")]
        if let Some(events) =
            (self.on_its_thread()).and_then(|window| window.update_view_focus_state(has))
        {
            events.raise();
        }
        #[cfg(windows)]
        let _ = has;
    }

    /// A new tree, made only where somebody reads.
    pub fn update(&mut self, tree: impl FnOnce() -> TreeUpdate) {
        let events = (self.on_its_thread()).and_then(|window| window.update_if_active(tree));
        if let Some(events) = events {
            events.raise();
        }
    }

    /// The window goes, and with it what it answers.
    pub fn leave(&mut self, _root: NodeId) {}
}

impl Drop for Adapter {
    fn drop(&mut self) {
        if self.on_its_thread().is_some() {
            // SAFETY: nobody reaches it after this.
            unsafe { ManuallyDrop::drop(&mut self.of_window) };
        }
    }
}

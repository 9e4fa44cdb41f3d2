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
    /// To be called on the window's thread, before the window is shown. `None` if it is shown already, is none, or is
    /// Wine's.
    pub fn new(shared: &Shared, window: &WindowContext) -> Option<Self> {
        Self::of(shared, window.window_handle().ok()?.as_raw())
    }

    fn of(shared: &Shared, window: RawWindowHandle) -> Option<Self> {
        let of_window = match window {
            #[cfg(windows)]
            RawWindowHandle::Win32(window) => {
                use windows_sys::Win32::UI::WindowsAndMessaging::IsWindowVisible;
                let window = window.hwnd.get() as *mut std::ffi::c_void;
                // SAFETY: asks; any handle will do.
                if is_wine() || unsafe { IsWindowVisible(window) } != 0 {
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

/// Whether this is Wine. Its UI Automation (8.0) reads, of a window that answers, a pointer that nobody has written, and
/// ends the host.
#[cfg(windows)]
fn is_wine() -> bool {
    use windows_sys::Win32::System::LibraryLoader::{GetModuleHandleA, GetProcAddress};
    // SAFETY: strings that end on zero; every process has this library.
    unsafe {
        let library = GetModuleHandleA(c"ntdll.dll".as_ptr().cast());
        !library.is_null() && GetProcAddress(library, c"wine_get_version".as_ptr().cast()).is_some()
    }
}

impl Drop for Adapter {
    fn drop(&mut self) {
        if self.on_its_thread().is_some() {
            // SAFETY: nobody reaches it after this.
            unsafe { ManuallyDrop::drop(&mut self.of_window) };
        }
    }
}

#[cfg(all(test, windows))]
mod tests {
    use std::{
        num::NonZeroIsize,
        ptr::{null, null_mut},
        sync::{Arc, atomic::AtomicBool, atomic::Ordering},
    };

    use egui::accesskit::{Node, Role, TreeId, TreeInfo};
    use nice_plug_egui::RepaintNotifier;
    use raw_window_handle::Win32WindowHandle;
    use windows_sys::Win32::UI::WindowsAndMessaging::{
        CreateWindowExW, DestroyWindow, SW_SHOW, SendMessageW, ShowWindow, WM_GETOBJECT,
        WS_OVERLAPPEDWINDOW,
    };

    use super::*;
    use crate::editor::access::Desk;

    /// What a reader asks a window for.
    const ROOT_OBJECT: isize = -25;

    /// A window that was not shown yet.
    fn window() -> NonZeroIsize {
        let class: Vec<u16> = "STATIC\0".encode_utf16().collect();
        // SAFETY: a name that ends on zero, and nothing else.
        let window = unsafe {
            let (class, style) = (class.as_ptr(), WS_OVERLAPPEDWINDOW);
            let (menu, instance) = (null_mut(), null_mut());
            CreateWindowExW(
                0,
                class,
                null(),
                style,
                0,
                0,
                50,
                50,
                null_mut(),
                menu,
                instance,
                null(),
            )
        };
        NonZeroIsize::new(window as isize).expect("a window")
    }

    /// What the window answers a reader; 0: nothing.
    fn answer(window: NonZeroIsize) -> isize {
        // SAFETY: an own window, on its thread.
        unsafe { SendMessageW(window.get() as _, WM_GETOBJECT, 0, ROOT_OBJECT) }
    }

    fn close(window: NonZeroIsize) {
        // SAFETY: as above.
        unsafe { DestroyWindow(window.get() as _) };
    }

    fn desk() -> Shared {
        Shared(Arc::new(Desk {
            repaint: RepaintNotifier::new(),
            active: AtomicBool::new(false),
            asked: parking_lot::Mutex::default(),
        }))
    }

    #[test]
    fn a_window_answers_readers_while_it_has_an_adapter() {
        let (shared, window) = (desk(), window());
        let handle = RawWindowHandle::Win32(Win32WindowHandle::new(window));
        assert_eq!(answer(window), 0);
        let Some(mut adapter) = Adapter::of(&shared, handle) else {
            assert!(is_wine(), "it is not shown");
            return close(window);
        };
        let active = || shared.0.active.load(Ordering::Relaxed);
        let mut made = false;
        adapter.update(|| {
            made = true;
            unreachable!("nobody reads")
        });
        assert!(!active() && !made);
        assert_ne!(answer(window), 0);
        assert!(active());
        let root = NodeId(1);
        adapter.update(|| {
            made = true;
            TreeUpdate {
                nodes: vec![(root, Node::new(Role::Window))],
                tree: Some(TreeInfo::new(root)),
                tree_id: TreeId::ROOT,
                focus: root,
            }
        });
        assert!(made);
        assert_ne!(answer(window), 0);
        drop(adapter);
        assert_eq!(answer(window), 0);
        close(window);
    }

    #[test]
    fn a_window_that_is_shown_gets_none_and_other_threads_leave_it_alone() {
        let (shared, window) = (desk(), window());
        let handle = RawWindowHandle::Win32(Win32WindowHandle::new(window));
        let Some(mut adapter) = Adapter::of(&shared, handle) else {
            assert!(is_wine(), "it is not shown");
            return close(window);
        };
        assert_ne!(answer(window), 0);
        std::thread::spawn(move || {
            adapter.update(|| unreachable!("not on the window's thread"));
        })
        .join()
        .unwrap();
        // It was dropped elsewhere: the window keeps what answers.
        assert_ne!(answer(window), 0);
        close(window);
        let shown = self::window();
        // SAFETY: an own window, on its thread.
        unsafe { ShowWindow(shown.get() as _, SW_SHOW) };
        let handle = RawWindowHandle::Win32(Win32WindowHandle::new(shown));
        assert!(Adapter::of(&shared, handle).is_none());
        close(shown);
    }
}

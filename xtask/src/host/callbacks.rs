// [any] What the render host offers a plugin: log, thread check, requests it can look at later.

use std::{
    cell::Cell,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::ThreadId,
};

use clack_extensions::{
    audio_ports::{AudioPortRescanFlags, HostAudioPorts, HostAudioPortsImpl},
    gui::{GuiSize, HostGui, HostGuiImpl},
    latency::{HostLatency, HostLatencyImpl},
    log::{HostLog, HostLogImpl, LogSeverity},
    params::{
        HostParams, HostParamsImplMainThread, HostParamsImplShared, ParamClearFlags,
        ParamRescanFlags,
    },
    state::{HostState, HostStateImpl},
    thread_check::{HostThreadCheck, HostThreadCheckImpl},
};
use clack_host::prelude::*;

thread_local! {
    /// Whether this thread is a plugin's audio thread right now.
    static IS_AUDIO_THREAD: Cell<bool> = const { Cell::new(false) };
}

/// Marks or unmarks the calling thread as an audio thread.
pub(super) fn mark_audio_thread(is_audio: bool) {
    IS_AUDIO_THREAD.set(is_audio);
}

/// The host's types, for clack.
pub(super) struct Host;

impl HostHandlers for Host {
    type Shared<'a> = Shared;
    type MainThread<'a> = MainThread;
    type AudioProcessor<'a> = ();

    fn declare_extensions(builder: &mut HostExtensions<Self>, _shared: &Self::Shared<'_>) {
        builder
            .register::<HostLog>()
            .register::<HostThreadCheck>()
            .register::<HostLatency>()
            .register::<HostParams>()
            .register::<HostState>()
            .register::<HostAudioPorts>()
            .register::<HostGui>();
    }
}

/// What any thread of the plugin may call.
pub(super) struct Shared {
    main_thread: ThreadId,
    callback: AtomicBool,
    restart: AtomicBool,
    /// Warnings and errors the plugin logged, in order.
    complaints: Mutex<Vec<String>>,
}

impl Shared {
    /// To be made on the thread that is to be the main thread.
    pub(super) fn new() -> Self {
        Self {
            main_thread: std::thread::current().id(),
            callback: AtomicBool::new(false),
            restart: AtomicBool::new(false),
            complaints: Mutex::default(),
        }
    }

    /// Whether the plugin asked for a call on the main thread since the last look.
    pub(super) fn take_callback_request(&self) -> bool {
        self.callback.swap(false, Ordering::SeqCst)
    }

    /// Whether the plugin asked to be restarted since the last look.
    pub(super) fn take_restart_request(&self) -> bool {
        self.restart.swap(false, Ordering::SeqCst)
    }

    /// Warnings and errors logged since the last look.
    pub(super) fn take_complaints(&self) -> Vec<String> {
        self.complaints
            .lock()
            .map(|mut c| std::mem::take(&mut *c))
            .unwrap_or_default()
    }
}

impl SharedHandler<'_> for Shared {
    fn request_restart(&self) {
        self.restart.store(true, Ordering::SeqCst);
    }

    // The host never lets an active plugin sleep, so there is nothing to wake.
    fn request_process(&self) {}

    fn request_callback(&self) {
        self.callback.store(true, Ordering::SeqCst);
    }
}

impl HostLogImpl for Shared {
    fn log(&self, severity: LogSeverity, message: &str) {
        if severity >= LogSeverity::Warning {
            eprintln!("plugin: [{severity}] {message}");
            if let Ok(mut complaints) = self.complaints.lock() {
                complaints.push(message.to_owned());
            }
        }
    }
}

impl HostThreadCheckImpl for Shared {
    fn is_main_thread(&self) -> bool {
        std::thread::current().id() == self.main_thread
    }

    fn is_audio_thread(&self) -> bool {
        IS_AUDIO_THREAD.get()
    }
}

impl HostParamsImplShared for Shared {
    // Every block is a flush.
    fn request_flush(&self) {}
}

/// The window keeps the size that the host gave it.
impl HostGuiImpl for Shared {
    fn resize_hints_changed(&self) {}

    fn request_resize(&self, _size: GuiSize) -> Result<(), HostError> {
        Err(HostError::Message("this host's window keeps its size"))
    }

    fn request_show(&self) -> Result<(), HostError> {
        Ok(())
    }

    fn request_hide(&self) -> Result<(), HostError> {
        Ok(())
    }

    fn closed(&self, _was_destroyed: bool) {}
}

/// What only the main thread may call. Everything is read anew where it is needed, so that a change
/// needs no bookkeeping.
pub(super) struct MainThread;

impl MainThreadHandler<'_> for MainThread {}

impl HostLatencyImpl for MainThread {
    fn changed(&self) {}
}

impl HostStateImpl for MainThread {
    fn mark_dirty(&self) {}
}

impl HostParamsImplMainThread for MainThread {
    fn rescan(&self, _flags: ParamRescanFlags) {}
    fn clear(&self, _param: ClapId, _flags: ParamClearFlags) {}
}

impl HostAudioPortsImpl for MainThread {
    fn is_rescan_flag_supported(&self, _flag: AudioPortRescanFlags) -> bool {
        false
    }

    fn rescan(&self, _flags: AudioPortRescanFlags) {}
}

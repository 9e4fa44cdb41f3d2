// [worker] The engine: one a process, shared by all instances.

use std::{path::PathBuf, sync::Arc, time::Duration};

use crate::{
    exchange::{capture::CaptureReader, patch::PatchPublisher},
    worker::{options::Options, session::Session, view::View},
};

/// The engine of this process. It lives while anyone holds it; the last holder joins its threads.
pub struct Engine {}

/// One plugin instance's line to the engine. Dropping it disconnects and cancels its jobs.
pub struct Instance {}

impl Engine {
    /// The engine shared by all instances of this process, started if nobody holds it. Sidecars and cache
    /// go to the user's data and cache folders (`UNCOOK_DATA_DIR` overrides both).
    pub fn shared() -> Arc<Self> {
        unimplemented!()
    }

    /// An engine of its own in `folder` (tests, command line).
    pub fn in_folder(folder: PathBuf) -> Arc<Self> {
        let _ = folder;
        unimplemented!()
    }

    /// Connects an instance.
    pub fn connect(self: &Arc<Self>, capture: CaptureReader, patches: PatchPublisher) -> Instance {
        let _ = (capture, patches);
        unimplemented!()
    }
}

impl Instance {
    /// Options of jobs started from now on; a change of a late option re-runs late stages only.
    pub fn set_options(&self, options: &Options) {
        let _ = options;
        unimplemented!()
    }

    /// The host's rate, from `activate`. Takes and patches of another rate are kept but don't play.
    pub fn set_sample_rate(&self, sample_rate: u32) {
        let _ = sample_rate;
        unimplemented!()
    }

    /// Queues the analysis of everything captured and not yet analysed with these options.
    pub fn analyse(&self) {
        unimplemented!()
    }

    /// Cancels this instance's running and waiting jobs.
    pub fn cancel(&self) {
        unimplemented!()
    }

    /// Forgets captured audio, jobs and patches (committed sidecars stay on disk).
    pub fn clear(&self) {
        unimplemented!()
    }

    /// What the editor shows. Lock-free.
    pub fn view(&self) -> Arc<View> {
        unimplemented!()
    }

    /// What the project stores.
    pub fn session(&self) -> Session {
        unimplemented!()
    }

    /// Replaces the commits by those of a loaded project: reads the sidecars and publishes the patches
    /// before it returns. Missing ones are reported in [`View::problems`] and stay in [`Instance::session`].
    pub fn load_session(&self, session: &Session) {
        let _ = session;
        unimplemented!()
    }

    /// Blocks until no job of this instance is queued or running and nothing captured waits for an
    /// automatic analysis, or until `limit` has passed. Returns whether it became idle. For offline render.
    pub fn wait_idle(&self, limit: Duration) -> bool {
        let _ = limit;
        unimplemented!()
    }
}

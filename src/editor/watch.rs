// [main] Watches what the audio thread and the worker say, and has the window redrawn only when it changed.
//
// A picture costs milliseconds, a look at the meters microseconds: so a thread looks, and an editor in which
// nothing moves draws nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nice_plug::prelude::{ParamPtr, Params};
use parking_lot::Mutex;

use crate::{
    damage::DamageKind,
    editor::{Backend, model::Levels},
    params::UncookParams,
    worker::{shelf::ShelfView, view::View},
};

/// Time between two looks while something moves, and while nothing has moved for [`REST_AFTER`].
const LOOK: Duration = Duration::from_millis(33);
const REST_LOOK: Duration = Duration::from_millis(100);
const REST_AFTER: Duration = Duration::from_secs(1);

/// The thread that looks, for one window. Ends when dropped.
pub struct Watch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    levels: Mutex<Levels>,
    stop: AtomicBool,
}

impl Watch {
    /// Looks from now on; `redraw` is called whenever a picture would differ from the last.
    pub fn start(
        backend: Arc<dyn Backend>,
        params: Arc<UncookParams>,
        redraw: impl Fn() + Send + 'static,
    ) -> Self {
        let shared = Arc::new(Shared {
            levels: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let of_thread = shared.clone();
        let thread = thread::Builder::new()
            .name("uncook-editor".to_owned())
            .spawn(move || look(&of_thread, &*backend, &params, &redraw))
            .ok();
        Self { shared, thread }
    }

    /// The meters as last read.
    pub fn levels(&self) -> Levels {
        self.shared.levels.lock().clone()
    }

    /// Whether anybody looks: a system may refuse to start threads.
    pub fn is_alive(&self) -> bool {
        self.thread.is_some()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // The plugin's code may be unloaded next.
            let _ = thread.join();
        }
    }
}

fn look(shared: &Shared, backend: &dyn Backend, params: &Arc<UncookParams>, redraw: &dyn Fn()) {
    let pointers: Vec<ParamPtr> = (params.param_map().into_iter())
        .map(|(_, pointer, _)| pointer)
        .collect();
    let mut seen = Seen::default();
    let mut last = Instant::now();
    let mut moved = last;
    while !shared.stop.load(Ordering::Acquire) {
        let now = Instant::now();
        let elapsed = now.duration_since(last).as_secs_f32();
        last = now;
        let levels = {
            let mut levels = shared.levels.lock();
            levels.read(backend.meters(), elapsed);
            levels.clone()
        };
        let new = Seen::of(backend, &levels, &pointers);
        if new != seen {
            seen = new;
            moved = now;
            redraw();
        }
        let rests = now.duration_since(moved) > REST_AFTER;
        thread::park_timeout(if rests { REST_LOOK } else { LOOK });
    }
}

/// What a picture shows, as coarsely as the eye sees it.
#[derive(Clone, Debug, Default)]
struct Seen {
    view: Option<Arc<View>>,
    shelf: Option<Arc<ShelfView>>,
    /// Levels and damage in steps of the screen.
    levels: [i32; 3],
    severity: [i32; DamageKind::COUNT],
    position: Option<i64>,
    player: u32,
    running: bool,
    /// Bits of every parameter.
    parameters: Vec<u32>,
}

impl PartialEq for Seen {
    fn eq(&self, other: &Self) -> bool {
        // Views are replaced, never changed. Holding the old one keeps its address from being used again.
        fn same<T>(a: &Option<Arc<T>>, b: &Option<Arc<T>>) -> bool {
            a.as_ref().map(Arc::as_ptr) == b.as_ref().map(Arc::as_ptr)
        }
        same(&self.view, &other.view)
            && same(&self.shelf, &other.shelf)
            && self.levels == other.levels
            && self.severity == other.severity
            && self.position == other.position
            && self.player == other.player
            && self.running == other.running
            && self.parameters == other.parameters
    }
}

impl Seen {
    fn of(backend: &dyn Backend, levels: &Levels, pointers: &[ParamPtr]) -> Self {
        Self {
            view: backend.view(),
            shelf: backend.shelf(),
            levels: [levels.input_db, levels.output_db, levels.limiter_db * 5.0]
                .map(|x| (4.0 * x) as i32),
            severity: levels.severity.map(|s| (100.0 * s) as i32),
            position: levels.position.map(|pos| pos.0),
            player: levels.player as u32,
            running: levels.running,
            parameters: (pointers.iter())
                // SAFETY: the parameters live as long as the `Arc` in `look`.
                .map(|pointer| unsafe { pointer.modulated_normalized_value() }.to_bits())
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use nice_plug::prelude::Param;

    use super::*;
    use crate::editor::tests::still::Still;

    #[test]
    fn a_picture_is_asked_for_when_something_changed_and_never_else() {
        let backend = Arc::new(Still::default());
        let params = Arc::new(UncookParams::default());
        let redraws = Arc::new(AtomicUsize::new(0));
        let count = redraws.clone();
        let watch = Watch::start(backend.clone(), params.clone(), move || {
            count.fetch_add(1, Ordering::SeqCst);
        });
        assert!(watch.is_alive());
        // Until `n` redraws at least were asked for; a busy machine may take its time.
        let reach = |n: usize| {
            let began = Instant::now();
            while redraws.load(Ordering::SeqCst) < n {
                assert!(began.elapsed() < Duration::from_secs(60), "no redraw");
                thread::sleep(Duration::from_millis(5));
            }
        };
        // The first look shows everything; then nothing moves.
        reach(1);
        thread::sleep(4 * REST_AFTER / 10);
        let before = redraws.load(Ordering::SeqCst);
        thread::sleep(2 * REST_AFTER);
        assert_eq!(redraws.load(Ordering::SeqCst), before, "nothing changed");

        *backend.view.lock() = Arc::new(View::default());
        reach(before + 1);
        backend.meters.position.store(4_800, Ordering::Relaxed);
        reach(before + 2);
        // SAFETY: the parameter lives.
        unsafe {
            params
                .output
                .mix
                .as_ptr()
                ._internal_set_normalized_value(0.25)
        };
        reach(before + 3);

        // A loud block: the meter rises at once, then falls until it lies still again.
        backend.meters.output_peak.store(0.5, Ordering::Relaxed);
        reach(before + 6);
        assert!(watch.levels().output_db > crate::editor::model::SILENCE_DB);
        drop(watch);
        let end = redraws.load(Ordering::SeqCst);
        thread::sleep(3 * REST_LOOK);
        assert_eq!(redraws.load(Ordering::SeqCst), end, "the thread has ended");
    }
}

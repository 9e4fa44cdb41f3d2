// [worker] A few threads that share out numbered tasks; all are joined when the pool is dropped.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

type Task<'a> = dyn Fn(usize, usize) + Sync + 'a;

/// A run of tasks as the workers see it.
#[derive(Clone, Copy)]
struct Job {
    /// Borrowed from [`Pool::run`], which returns only when no worker holds it any more.
    task: *const Task<'static>,
    count: usize,
}

// SAFETY: the task is `Sync`, and `Pool::run` outlives every use of the pointer.
unsafe impl Send for Job {}

#[derive(Default)]
struct State {
    job: Option<Job>,
    /// Counts the jobs, so that a worker takes part in each once.
    generation: u64,
    /// Workers that have not finished the current job.
    busy: usize,
    panic: Option<Box<dyn std::any::Any + Send>>,
    closing: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// A job came, or the pool closes.
    begin: Condvar,
    /// A worker has finished.
    end: Condvar,
    /// The next task of the current job.
    next: AtomicUsize,
}

/// Threads for numbered tasks. The caller's thread works too: a pool of `n` starts `n - 1`.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// One run at a time.
    running: Mutex<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// Starts `threads - 1` threads (at least none). If the system refuses one, the pool has fewer.
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let workers = (1..threads)
            .map_while(|index| {
                let shared = shared.clone();
                std::thread::Builder::new()
                    .name("uncook-dense".into())
                    .spawn(move || work(&shared, index))
                    .ok()
            })
            .collect();
        Self {
            shared,
            workers,
            running: Mutex::new(()),
        }
    }

    /// How many threads work, the caller's among them.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `task(index, worker)` for every `index < count`, in any order, on all threads; `worker` is
    /// less than [`Self::threads`] and no two calls at a time have the same one. Returns when all are done.
    /// Must not be called from inside a task of the same pool.
    ///
    /// # Panics
    /// With the panic of a task, after all threads have stopped.
    pub fn run(&self, count: usize, task: impl Fn(usize, usize) + Sync) {
        if count == 0 {
            return;
        }
        let task: &Task<'_> = &task;
        if self.workers.is_empty() || count == 1 {
            for index in 0..count {
                task(index, 0);
            }
            return;
        }
        let _one = lock(&self.running);
        // SAFETY: only the lifetime changes. The job is withdrawn, and every worker is done with it, before
        // this function returns or unwinds.
        let task_static: *const Task<'static> =
            unsafe { std::mem::transmute::<&Task<'_>, &Task<'static>>(task) };
        {
            let mut state = lock(&self.shared.state);
            self.shared.next.store(0, Ordering::Relaxed);
            state.job = Some(Job {
                task: task_static,
                count,
            });
            state.generation += 1;
            state.busy = self.workers.len();
            self.shared.begin.notify_all();
        }
        let own = catch_unwind(AssertUnwindSafe(|| {
            share(&self.shared.next, count, 0, task);
        }));
        if own.is_err() {
            self.shared.next.store(count, Ordering::Relaxed);
        }
        let mut state = lock(&self.shared.state);
        while state.busy > 0 {
            state = self
                .shared
                .end
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.job = None;
        let panic = own.err().or(state.panic.take());
        drop(state);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        lock(&self.shared.state).closing = true;
        self.shared.begin.notify_all();
        for worker in self.workers.drain(..) {
            // A task's panic was handed to the caller of `run`; there is nothing more to say here.
            let _ = worker.join();
        }
    }
}

fn share(next: &AtomicUsize, count: usize, worker: usize, task: &Task<'_>) {
    loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        if index >= count {
            return;
        }
        task(index, worker);
    }
}

fn work(shared: &Shared, index: usize) {
    let mut seen = 0;
    loop {
        let job = {
            let mut state = lock(&shared.state);
            loop {
                if state.closing {
                    return;
                }
                if state.generation != seen
                    && let Some(job) = state.job
                {
                    seen = state.generation;
                    break job;
                }
                state = shared
                    .begin
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
        };
        // SAFETY: `run` waits until `busy` is 0, which this worker lowers after its last use.
        let task = unsafe { &*job.task };
        let done = catch_unwind(AssertUnwindSafe(|| {
            share(&shared.next, job.count, index, task);
        }));
        let mut state = lock(&shared.state);
        if let Err(panic) = done {
            shared.next.store(job.count, Ordering::Relaxed);
            state.panic.get_or_insert(panic);
        }
        state.busy -= 1;
        shared.end.notify_all();
    }
}

/// A buffer cut into parts that tasks take by number, each once.
pub struct Parts<'a, T>(Vec<Mutex<Option<&'a mut [T]>>>);

impl<'a, T> Parts<'a, T> {
    /// Parts of `len` elements; the last may be shorter.
    pub fn new(data: &'a mut [T], len: usize) -> Self {
        Self(
            data.chunks_mut(len.max(1))
                .map(|part| Mutex::new(Some(part)))
                .collect(),
        )
    }

    /// Part `index`.
    ///
    /// # Panics
    /// If there is none, or it was taken before.
    pub fn take(&self, index: usize) -> &'a mut [T] {
        lock(&self.0[index])
            .take()
            .expect("each part is taken once")
    }

    /// How many parts there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// One value for each worker of a pool, to be used as scratch.
pub struct PerWorker<T>(Vec<Mutex<T>>);

impl<T> PerWorker<T> {
    /// `make()` for each of `threads` workers.
    pub fn new(threads: usize, make: impl Fn() -> T) -> Self {
        Self((0..threads.max(1)).map(|_| Mutex::new(make())).collect())
    }

    /// The value of `worker`, which only its own tasks use, so that this never waits.
    pub fn get(&self, worker: usize) -> MutexGuard<'_, T> {
        lock(&self.0[worker])
    }
}

/// Cuts `out` into pieces of `piece` elements and gives each with its number and a scratch to `work`, on as many
/// threads as the machine has cores, which end with the call. Which thread works on a piece changes nothing in it.
pub fn for_pieces<S: Default + Send>(
    out: &mut [f32],
    piece: usize,
    work: impl Fn(usize, &mut [f32], &mut S) + Sync,
) {
    let parts = Parts::new(out, piece);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let pool = Pool::new(cores.min(parts.len()));
    let scratch = PerWorker::new(pool.threads(), S::default);
    pool.run(parts.len(), |index, worker| {
        work(index, parts.take(index), &mut scratch.get(worker));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_for_any_number_of_threads() {
        for threads in [1, 2, 3, 7] {
            let pool = Pool::new(threads);
            for count in [0, 1, 2, 100] {
                let mut seen = vec![0u32; count];
                let parts = Parts::new(&mut seen, 1);
                pool.run(count, |index, worker| {
                    assert!(worker < pool.threads());
                    parts.take(index)[0] += 1;
                });
                assert!(seen.iter().all(|n| *n == 1), "{threads} {count}");
            }
        }
    }

    #[test]
    fn every_piece_is_worked_on_once() {
        let mut out = vec![0.0f32; 1003];
        for_pieces(&mut out, 10, |i, piece, count: &mut usize| {
            *count += 1;
            piece.iter_mut().for_each(|x| *x += i as f32 + 1.0);
        });
        let numbers = (0..1003).map(|n| (n / 10 + 1) as f32);
        assert!(out.iter().copied().eq(numbers));
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(3);
        for bad in 0..8 {
            let caught = catch_unwind(AssertUnwindSafe(|| {
                pool.run(8, |index, _| assert_ne!(index, bad));
            }));
            assert!(caught.is_err());
        }
        let sum = AtomicUsize::new(0);
        pool.run(10, |index, _| {
            sum.fetch_add(index, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 45);
    }
}

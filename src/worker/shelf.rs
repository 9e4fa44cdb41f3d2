// [worker] The models' shelf as the editor sees it: what there is, and one thread that fetches, adds, checks and removes.
//
// The views are plain data, there in every build; the thread needs the feature `ml`.

use std::{fmt, path::PathBuf};

#[cfg(feature = "ml")]
pub use service::Shelf;

/// Everything about the models.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShelfView {
    /// Where the library is.
    pub folder: PathBuf,
    pub rows: Vec<ModelRow>,
    /// What is being done.
    pub work: Option<Work>,
    /// How many orders wait behind it.
    pub waiting: usize,
    /// What became of the last order.
    pub told: Option<Told>,
}

/// One known model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelRow {
    pub name: String,
    /// One word: "separation".
    pub purpose: &'static str,
    pub what: String,
    /// What its authors say about using it, and where.
    pub licence: String,
    pub page: String,
    /// Bytes of all files, if known.
    pub bytes: Option<u64>,
    /// Whether the terms were accepted, or none have to be.
    pub accepted: bool,
    /// Whether its host wants a token.
    pub gated: bool,
    /// Models without which this one does nothing.
    pub needs: Vec<String>,
    pub state: ModelState,
    /// Where its files are, if any came.
    pub place: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ModelState {
    #[default]
    Absent,
    /// Some of its files are missing or have another length than when they came.
    Incomplete,
    Installed,
}

/// What is being done.
#[derive(Clone, Debug, PartialEq)]
pub struct Work {
    /// The model; empty while it is not known which a folder holds.
    pub name: String,
    /// "Fetching", "Adding", "Checking".
    pub verb: &'static str,
    pub file: String,
    /// Bytes of the file.
    pub done: u64,
    pub all: Option<u64>,
}

/// What became of an order, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub text: String,
    pub good: bool,
}

/// What the user wants of the library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Accept a model's terms.
    Accept(String),
    /// Fetch what is missing of a model.
    Fetch {
        name: String,
        token: Option<Secret>,
    },
    /// Copy a model's files from a folder. Which model it is follows from the files.
    Add(PathBuf),
    Verify(String),
    Remove(String),
    /// Stop what is being done, and forget what waits.
    Cancel,
    /// Look again what is there.
    Refresh,
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// "84 MB".
pub fn size(bytes: Option<u64>) -> String {
    match bytes {
        None => "size unknown".to_owned(),
        Some(bytes) if bytes >= 1_000_000_000 => format!("{:.1} GB", bytes as f64 / 1e9),
        Some(bytes) if bytes >= 1_000_000 => format!("{:.0} MB", bytes as f64 / 1e6),
        Some(bytes) => format!("{:.0} kB", (bytes as f64 / 1e3).ceil()),
    }
}

#[cfg(feature = "ml")]
mod service {
    use std::{
        collections::VecDeque,
        panic::{AssertUnwindSafe, catch_unwind},
        sync::{
            Arc, Weak,
            atomic::{AtomicBool, Ordering},
        },
        thread::JoinHandle,
        time::{Duration, Instant},
    };

    use arc_swap::ArcSwap;
    use parking_lot::{Condvar, Mutex};

    use super::{ModelRow, ModelState, Order, ShelfView, Told, Work, size};
    use crate::models::{
        fetch::{Downloader, FetchError, Token},
        library::{Library, LibraryError},
    };

    /// The view follows a download at most this often.
    const SHOWN_EVERY: Duration = Duration::from_millis(60);
    /// Time without an answer or a byte after which a connection is given up and tried again: also what closing the
    /// plugin may have to wait for.
    const PATIENCE: Duration = Duration::from_secs(10);

    /// The library and the thread that works on it. Dropped, the thread stops and is joined.
    pub struct Shelf {
        inner: Arc<Inner>,
        thread: Mutex<Option<JoinHandle<()>>>,
    }

    struct Inner {
        library: Library,
        downloader: Downloader,
        view: ArcSwap<ShelfView>,
        queue: Mutex<VecDeque<Order>>,
        ordered: Condvar,
        stop: AtomicBool,
        cancel: AtomicBool,
    }

    impl Shelf {
        /// The process' shelf: all instances share it, so that nothing is fetched twice.
        ///
        /// # Errors
        /// If the system names no folder for data, or allows no thread.
        pub fn shared() -> Result<Arc<Self>, LibraryError> {
            static SHARED: Mutex<Weak<Shelf>> = Mutex::new(Weak::new());
            let mut shared = SHARED.lock();
            if let Some(shelf) = shared.upgrade() {
                return Ok(shelf);
            }
            let library = Library::open()?;
            let shelf = Arc::new(Self::of(library, Downloader::new(PATIENCE, true)));
            *shared = Arc::downgrade(&shelf);
            Ok(shelf)
        }

        /// A shelf of its own.
        pub fn of(library: Library, downloader: Downloader) -> Self {
            let inner = Arc::new(Inner {
                view: ArcSwap::from_pointee(ShelfView {
                    folder: library.folder().to_owned(),
                    ..ShelfView::default()
                }),
                library,
                downloader,
                queue: Mutex::default(),
                ordered: Condvar::new(),
                stop: AtomicBool::new(false),
                cancel: AtomicBool::new(false),
            });
            // The first look is at files too, so it is no matter of the caller's thread.
            inner.queue.lock().push_back(Order::Refresh);
            let of_thread = inner.clone();
            let thread = std::thread::Builder::new()
                .name("uncook-models".to_owned())
                .spawn(move || of_thread.run())
                .ok();
            Self {
                inner,
                thread: Mutex::new(thread),
            }
        }

        /// What there is. Never waits.
        pub fn view(&self) -> Arc<ShelfView> {
            self.inner.view.load_full()
        }

        /// Takes an order; what becomes of it is told by the view.
        pub fn order(&self, order: Order) {
            let mut queue = self.inner.queue.lock();
            match order {
                Order::Cancel => {
                    queue.clear();
                    self.inner.cancel.store(true, Ordering::Release);
                }
                order if queue.contains(&order) => {}
                order => queue.push_back(order),
            }
            drop(queue);
            self.inner.ordered.notify_one();
        }
    }

    impl Drop for Shelf {
        fn drop(&mut self) {
            self.inner.stop.store(true, Ordering::Release);
            // Under the lock, so that the thread can't go to sleep between its look and its wait.
            let queue = self.inner.queue.lock();
            self.inner.ordered.notify_all();
            drop(queue);
            if let Some(thread) = self.thread.get_mut().take() {
                let _ = thread.join();
            }
        }
    }

    impl Inner {
        fn run(&self) {
            loop {
                let order = {
                    let mut queue = self.queue.lock();
                    loop {
                        if self.stop.load(Ordering::Acquire) {
                            return;
                        }
                        if let Some(order) = queue.pop_front() {
                            // A click on "Cancel" is about what was there then.
                            self.cancel.store(false, Ordering::Release);
                            break order;
                        }
                        self.ordered.wait(&mut queue);
                    }
                };
                let result = catch_unwind(AssertUnwindSafe(|| self.carry_out(&order)));
                let told = match result {
                    Ok(Ok(text)) => text.map(|text| Told { text, good: true }),
                    Ok(Err(
                        LibraryError::Cancelled | LibraryError::Fetch(FetchError::Cancelled),
                    )) => Some(Told {
                        text: "Stopped. What has arrived is kept: fetching goes on there"
                            .to_owned(),
                        good: true,
                    }),
                    Ok(Err(error)) => Some(Told {
                        text: error.to_string(),
                        good: false,
                    }),
                    Err(_) => Some(Told {
                        text: "This met a defect and was ended; nothing else is affected. Please \
                               report it with the model's name"
                            .to_owned(),
                        good: false,
                    }),
                };
                self.publish(told);
            }
        }

        fn carry_out(&self, order: &Order) -> Result<Option<String>, LibraryError> {
            let library = &self.library;
            let watch = |name: &str, verb: &'static str| {
                let last = std::cell::Cell::new(None::<Instant>);
                let name = name.to_owned();
                move |file: &str, done: u64, all: Option<u64>| {
                    let due = last.get().is_none_or(|at| at.elapsed() >= SHOWN_EVERY);
                    if due {
                        last.set(Some(Instant::now()));
                        self.show(Work {
                            name: name.clone(),
                            verb,
                            file: file.to_owned(),
                            done,
                            all,
                        });
                    }
                    !self.cancel.load(Ordering::Acquire) && !self.stop.load(Ordering::Acquire)
                }
            };
            Ok(match order {
                Order::Accept(name) => {
                    library.accept(name)?;
                    None
                }
                Order::Fetch { name, token } => {
                    let token = match token {
                        Some(secret) => Some(Token::new(&secret.0)?),
                        None => Token::find(None, None)?,
                    };
                    let watch = watch(name, "Fetching");
                    watch("", 0, None);
                    let receipt =
                        library.fetch(name, None, token.as_ref(), &self.downloader, &watch)?;
                    let bytes: u64 = receipt.files.iter().map(|f| f.bytes).sum();
                    Some(format!("{name} is installed, {}", size(Some(bytes))))
                }
                Order::Add(folder) => {
                    let name = library.recognise(folder)?.name.clone();
                    let receipt = library.add(folder, Some(&name), &watch(&name, "Adding"))?;
                    let bytes: u64 = receipt.files.iter().map(|f| f.bytes).sum();
                    Some(format!("{name} is installed, {}", size(Some(bytes))))
                }
                Order::Verify(name) => {
                    library.verify(name, &watch(name, "Checking"))?;
                    Some(format!("{name}: every file is as it should be"))
                }
                Order::Remove(name) => {
                    let freed = library.remove(name)?;
                    Some(format!("{name} is removed, {} freed", size(Some(freed))))
                }
                Order::Refresh | Order::Cancel => None,
            })
        }

        fn show(&self, work: Work) {
            let waiting = self.queue.lock().len();
            self.view.rcu(|view| {
                Arc::new(ShelfView {
                    work: Some(work.clone()),
                    waiting,
                    ..ShelfView::clone(view)
                })
            });
        }

        /// Looks at the library anew.
        fn publish(&self, told: Option<Told>) {
            let rows = (self.library.manifest().models.iter())
                .map(|model| self.row(model))
                .collect();
            let old = self.view.load_full();
            self.view.store(Arc::new(ShelfView {
                folder: self.library.folder().to_owned(),
                rows,
                work: None,
                waiting: self.queue.lock().len(),
                // A look in between doesn't make a message untrue.
                told: told.or_else(|| old.told.clone()),
            }));
        }

        fn row(&self, model: &crate::models::manifest::Model) -> ModelRow {
            let library = &self.library;
            let receipt = library.receipt(&model.name);
            let found = library.find(&model.name);
            let state = match (&found, &receipt) {
                (Some(_), _) => ModelState::Installed,
                (None, Some(_)) => ModelState::Incomplete,
                (None, None) => ModelState::Absent,
            };
            let installed =
                (receipt.as_ref()).map(|receipt| receipt.files.iter().map(|f| f.bytes).sum());
            ModelRow {
                name: model.name.clone(),
                purpose: model.purpose.label(),
                what: model.what.clone(),
                licence: model.licence.clone(),
                page: model.page.clone(),
                bytes: model.bytes().or(installed),
                accepted: library.is_accepted(&model.name),
                gated: model.gated,
                needs: model.needs.clone(),
                state,
                place: receipt.map(|receipt| {
                    let own = library.folder().join(&receipt.name);
                    receipt.folder.unwrap_or(own)
                }),
            }
        }
    }
}

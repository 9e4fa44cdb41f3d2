// [cli] Works on several files at once, with a progress bar each.

use std::{
    collections::VecDeque,
    io::IsTerminal,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Mutex,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use uncook::{
    cache::{Cache, DEFAULT_LIMIT_BYTES},
    profile::{MusicalProfile, midi},
    system::write_aside,
    worker::{engine::DATA_DIR_VARIABLE, progress::Progress, report::ProfileReport},
};

use crate::CommonArgs;

/// Steps of a bar.
const BAR_STEPS: u64 = 1000;
/// Time between two looks at the progress.
const LOOK: Duration = Duration::from_millis(100);

/// Writes what was played as a MIDI file.
///
/// # Errors
/// If the file can't be written.
pub fn write_midi(report: &ProfileReport, path: &Path) -> Result<()> {
    let profile = MusicalProfile::from(report);
    write_whole(path, &midi::midi_file(&profile))
}

/// Writes a small file whole or not at all.
///
/// # Errors
/// If it can't be written.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    write_aside(path, &[bytes], true)
        .with_context(|| format!("{}: can't be written; choose another place", path.display()))
}

/// The store of intermediate results, the plugin's own, unless switched off. Without it everything
/// works, only slower the second time.
pub fn cache(args: &CommonArgs) -> Option<Cache> {
    if args.no_cache {
        return None;
    }
    let folder = match std::env::var_os(DATA_DIR_VARIABLE) {
        Some(folder) => Ok(Path::new(&folder).join("cache")),
        None => Cache::default_dir(),
    };
    let opened = folder.and_then(|folder| Cache::open(&folder, DEFAULT_LIMIT_BYTES));
    opened
        .inspect_err(|error| eprintln!("uncook: intermediate results are not kept: {error}"))
        .ok()
}

/// Runs `work` on every item, `jobs` at a time, and says on stderr what failed; `finish` hears how each ended, panics
/// included, and after how long. Results come in the items' order; `None` where an item failed.
pub fn all<T: Sync, R: Send>(
    items: &[T],
    jobs: usize,
    name: impl Fn(&T) -> &Path + Sync,
    work: impl Fn(&T, &Progress) -> Result<R> + Sync,
    finish: impl Fn(&T, Result<R>, Duration) -> Result<R> + Sync,
) -> Vec<Option<R>> {
    let bars = MultiProgress::with_draw_target(if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    });
    let waiting: Mutex<VecDeque<usize>> = Mutex::new((0..items.len()).collect());
    let next = || {
        waiting
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .pop_front()
    };
    let results: Vec<Mutex<Option<R>>> = items.iter().map(|_| Mutex::new(None)).collect();

    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, items.len().max(1)) {
            scope.spawn(|| {
                while let Some(i) = next() {
                    let path = name(&items[i]);
                    let began = Instant::now();
                    let done = watched(&bars, path, |progress| work(&items[i], progress));
                    match finish(&items[i], done, began.elapsed()) {
                        Ok(result) => {
                            let mut slot = results[i].lock().unwrap_or_else(|e| e.into_inner());
                            *slot = Some(result);
                        }
                        Err(error) => say(&bars, &format!("uncook: {error:#}")),
                    }
                }
            });
        }
    });
    results
        .into_iter()
        .map(|slot| slot.into_inner().unwrap_or_else(|e| e.into_inner()))
        .collect()
}

/// A line on stderr that doesn't tear the bars.
fn say(bars: &MultiProgress, line: &str) {
    bars.suspend(|| eprintln!("{line}"));
}

/// Runs `work` with a bar that follows its progress. A panic is an error of this file only.
fn watched<R: Send>(
    bars: &MultiProgress,
    path: &Path,
    work: impl FnOnce(&Progress) -> Result<R> + Send,
) -> Result<R> {
    let style = ProgressStyle::with_template("{prefix:.bold} {bar:24} {percent:>3} % {msg}");
    let bar = bars.add(ProgressBar::new(BAR_STEPS));
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_prefix(path.display().to_string());
    let progress = Progress::new();
    let result = std::thread::scope(|scope| {
        let handle = progress.clone();
        let worker = scope.spawn(move || catch_unwind(AssertUnwindSafe(|| work(&handle))));
        while !worker.is_finished() {
            bar.set_position((progress.done() * BAR_STEPS as f64) as u64);
            bar.set_message(progress.step().label());
            std::thread::sleep(LOOK);
        }
        worker.join()
    });
    bar.finish_and_clear();
    match result {
        Ok(Ok(result)) => result,
        Ok(Err(_)) | Err(_) => Err(anyhow!(
            "{}: a defect in Uncook stopped this file; please report it with the message above",
            path.display()
        )),
    }
}

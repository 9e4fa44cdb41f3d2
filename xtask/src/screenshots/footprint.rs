// [cli] What a process holds and computes, so that what an opening leaves behind is seen.

use anyhow::{Context, Result, ensure};

/// Resident memory that further openings may cost in all, in bytes, after what is free was given back.
const MAX_GROWTH: u64 = 48 << 20;

impl Footprint {
    /// Compares with `now`, `openings` later, of which each may leave `most` bytes.
    ///
    /// # Errors
    /// If more is held now than caches account for.
    pub fn check(&self, now: &Self, openings: usize, most: u64) -> Result<()> {
        if let (Some(before), Some(after)) = (self.heap, now.heap) {
            let left = after.saturating_sub(before) / openings.max(1) as u64;
            println!("{left} bytes an opening stay allocated");
            ensure!(left <= most, "{left} bytes an opening stay allocated");
        }
        ensure!(
            now.resident <= self.resident + MAX_GROWTH,
            "memory grew by {} MB",
            (now.resident - self.resident) >> 20
        );
        ensure!(
            now.files <= self.files + 4,
            "open files grew from {} to {}",
            self.files,
            now.files
        );
        ensure!(
            now.threads <= self.threads + 4,
            "threads grew from {} to {}",
            self.threads,
            now.threads
        );
        Ok(())
    }
}

/// What this process holds.
#[derive(Clone, Debug)]
pub struct Footprint {
    /// Bytes.
    resident: u64,
    /// Bytes that were asked for and not given back, in every library of the process; `None` where the
    /// C library does not tell.
    heap: Option<u64>,
    threads: usize,
    files: usize,
}

impl std::fmt::Display for Footprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} MB resident", self.resident >> 20)?;
        if let Some(heap) = self.heap {
            write!(f, ", {:.1} MB allocated", heap as f64 / f64::from(1 << 20))?;
        }
        write!(f, ", {} threads, {} files", self.threads, self.files)
    }
}

impl Footprint {
    /// Measures it.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn now() -> Result<Self> {
        let count = |folder| Ok::<_, anyhow::Error>(std::fs::read_dir(folder)?.count());
        let heap = heap_bytes();
        Ok(Self {
            resident: resident_bytes()?,
            heap,
            threads: count("/proc/self/task")?,
            files: count("/proc/self/fd")?,
        })
    }
}

/// Gives back what is free, so that only what is held counts.
#[cfg(target_env = "gnu")]
fn heap_bytes() -> Option<u64> {
    // SAFETY: neither has any precondition.
    let info = unsafe {
        libc::malloc_trim(0);
        libc::mallinfo2()
    };
    Some((info.uordblks + info.hblkhd) as u64)
}

#[cfg(not(target_env = "gnu"))]
fn heap_bytes() -> Option<u64> {
    None
}

fn resident_bytes() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = text
        .split(' ')
        .nth(1)
        .context("no resident size")?
        .parse()?;
    Ok(pages * 4096)
}

/// Time that this process has computed.
///
/// # Errors
/// If the system does not tell.
pub fn cpu_seconds() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    // Fields after the name in brackets; user and system time are the 12th and 13th, in 1/100 s.
    let rest = text.rsplit_once(')').context("no process name")?.1;
    let field = |i: usize| {
        rest.split_whitespace()
            .nth(i)
            .and_then(|t| t.parse::<f64>().ok())
    };
    Ok((field(11).context("no time")? + field(12).context("no time")?) / 100.0)
}

//! What a process has used, for the examples that are compared with other programs.

use uncook::dense::level::Level;

/// With `UNCOOK_VECTORS=avx2` in the environment, does without AVX-512. Where that can't be, the process ends.
pub fn settle() {
    if std::env::var("UNCOOK_VECTORS").is_ok_and(|v| v == "avx2") && !Level::Avx2.settle_for() {
        eprintln!("this processor has no AVX2");
        std::process::exit(2);
    }
}

/// Processor seconds of this process, user and system, all threads, and its peak memory in bytes.
#[cfg(unix)]
pub fn usage() -> (f64, f64) {
    // SAFETY: `getrusage` fills the structure it is given; zeros are valid for it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + 1e-6 * t.tv_usec as f64;
    let unit = if cfg!(target_os = "macos") {
        1.0
    } else {
        1024.0
    };
    (
        seconds(usage.ru_utime) + seconds(usage.ru_stime),
        usage.ru_maxrss as f64 * unit,
    )
}

/// Not measured here.
#[cfg(not(unix))]
pub fn usage() -> (f64, f64) {
    (0.0, 0.0)
}

// [any] How much memory there is to use, and whether a process still runs.

#[cfg(target_os = "linux")]
use std::path::{Component, Path};

/// Memory that this process may use, in bytes, where the system tells: the machine's, or what its control groups
/// (containers, services) leave of it.
#[cfg(unix)]
pub fn memory_bytes() -> Option<u64> {
    // SAFETY: no memory is touched; what isn't known is -1.
    let [pages, size] =
        [libc::_SC_PHYS_PAGES, libc::_SC_PAGESIZE].map(|name| unsafe { libc::sysconf(name) });
    let pages = u64::try_from(pages).ok();
    let machine = pages.and_then(|pages| pages.checked_mul(u64::try_from(size).ok()?));
    #[cfg(target_os = "linux")]
    let groups = {
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        control_groups(Path::new("/sys/fs/cgroup"), &own)
    };
    #[cfg(not(target_os = "linux"))]
    let groups = None;
    machine.into_iter().chain(groups).min()
}

/// As above.
#[cfg(windows)]
pub fn memory_bytes() -> Option<u64> {
    use windows_sys::Win32::System::SystemInformation::{GlobalMemoryStatusEx, MEMORYSTATUSEX};
    let mut status = MEMORYSTATUSEX {
        dwLength: size_of::<MEMORYSTATUSEX>() as u32,
        ..Default::default()
    };
    // SAFETY: `status` says its own length.
    let known = unsafe { GlobalMemoryStatusEx(&mut status) } != 0;
    known.then_some(status.ullTotalPhys)
}

/// The least that a process's control groups allow it, in bytes; `None` where they bound nothing. `root`: where they are
/// mounted; `own`: what the system says of the process, a line a hierarchy, `number:controllers:path`.
///
/// Version 2 has one hierarchy (number 0, no controllers) and `memory.max`, version 1 one for memory and
/// `memory.limit_in_bytes` (Linux' `admin-guide/cgroup-v2.rst` and `cgroup-v1/memory.rst`). What a group may have its
/// parents bound, too.
#[cfg(target_os = "linux")]
fn control_groups(root: &Path, own: &str) -> Option<u64> {
    let mut least: Option<u64> = None;
    for line in own.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let (mounts, file) = if controllers.is_empty() {
            // Where both versions are mounted, the second is below the first.
            ([root.to_owned(), root.join("unified")], "memory.max")
        } else if controllers.split(',').any(|c| c == "memory") {
            (
                [root.join("memory"), root.join(controllers)],
                "memory.limit_in_bytes",
            )
        } else {
            continue;
        };
        // A group outside of what this process can see has only its root.
        let mut group = Path::new(path).strip_prefix("/").ok();
        if group.is_none_or(|g| g.components().any(|c| !matches!(c, Component::Normal(_)))) {
            group = Some(Path::new(""));
        }
        for group in group.into_iter().flat_map(Path::ancestors) {
            for mount in &mounts {
                let text = std::fs::read_to_string(mount.join(group).join(file));
                // "max" is no number.
                let limit = text.ok().and_then(|text| text.trim().parse().ok());
                least = least.into_iter().chain(limit).min();
            }
        }
    }
    least
}

/// Whether there is a process of that number, as far as the system tells.
#[cfg(unix)]
pub fn is_running(pid: u32) -> bool {
    let Ok(pid) = libc::pid_t::try_from(pid) else {
        return false;
    };
    // SAFETY: signal 0 is none.
    let sent = unsafe { libc::kill(pid, 0) };
    sent == 0 || std::io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH)
}

/// As above.
#[cfg(windows)]
pub fn is_running(pid: u32) -> bool {
    use windows_sys::Win32::{
        Foundation::{CloseHandle, ERROR_INVALID_PARAMETER, GetLastError, WAIT_OBJECT_0},
        System::Threading::{OpenProcess, PROCESS_SYNCHRONIZE, WaitForSingleObject},
    };
    // SAFETY: takes numbers; a handle that was opened is closed.
    unsafe {
        let process = OpenProcess(PROCESS_SYNCHRONIZE, 0, pid);
        if process.is_null() {
            // Somebody else's process can't be opened, but is one.
            return GetLastError() != ERROR_INVALID_PARAMETER;
        }
        // It can be opened as long as anybody holds it, though it has ended.
        let ended = WaitForSingleObject(process, 0) == WAIT_OBJECT_0;
        CloseHandle(process);
        !ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_memory_and_this_process_runs() {
        assert!(memory_bytes().is_some_and(|bytes| bytes > 64 << 20));
        assert!(is_running(std::process::id()));
        // No system gives such a number.
        assert!(!is_running(u32::MAX - 3));
        // One that has ended, though its parent has not let go of it.
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .arg("--list")
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        child.wait().unwrap();
        assert!(!is_running(child.id()));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn control_groups_bound_what_there_is() {
        use std::fs;
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let put = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let of = |own: &str| control_groups(root, own);
        assert_eq!(of("0::/user.slice/host.scope\n"), None);
        // Version 2: the least of the group and its parents counts; its root has no limit.
        put("user.slice/memory.max", "3000000000\n");
        put("user.slice/host.scope/memory.max", "max\n");
        assert_eq!(of("0::/user.slice/host.scope\n"), Some(3_000_000_000));
        put("user.slice/host.scope/memory.max", "2000000000\n");
        assert_eq!(of("0::/user.slice/host.scope\n"), Some(2_000_000_000));
        assert_eq!(of("0::/other\n"), None);
        // In a container the own group is the root of what can be seen.
        put("memory.max", "1000000000\n");
        assert_eq!(of("0::/\n"), Some(1_000_000_000));
        assert_eq!(of("0::/../outside\n"), Some(1_000_000_000));
        fs::remove_file(root.join("memory.max")).unwrap();
        // Version 1, and a path that is the host's while only the container's root is mounted.
        put("memory/memory.limit_in_bytes", "9223372036854771712\n");
        put("memory/docker/ab/memory.limit_in_bytes", "500000000\n");
        let own = "5:cpu,cpuacct:/docker/ab\n4:memory:/docker/ab\n0::/other\n";
        assert_eq!(of(own), Some(500_000_000));
        put("memory/memory.limit_in_bytes", "400000000\n");
        assert_eq!(of("4:memory:/elsewhere\n"), Some(400_000_000));
        // Both at once.
        put("unified/user.slice/memory.max", "300000000\n");
        assert_eq!(
            of("4:memory:/docker/ab\n0::/user.slice\n"),
            Some(300_000_000)
        );
        // Lines that mean nothing are none.
        assert_eq!(of("nonsense\n\n7:\n"), None);
    }
}

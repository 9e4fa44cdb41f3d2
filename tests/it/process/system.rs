//! What the tests ask of the system: to end and halt processes, and who may enter what.

use std::path::Path;

#[cfg(unix)]
pub use unix::{halt, kill, make_open, make_private};
#[cfg(windows)]
pub use windows::{halt, kill, make_open, make_private, may_open};

#[cfg(unix)]
mod unix {
    use super::Path;
    use std::{fs, os::unix::fs::PermissionsExt};

    /// Ends it at once.
    pub fn kill(pid: u32) -> bool {
        signal(pid, libc::SIGKILL)
    }

    /// It stands still.
    pub fn halt(pid: u32) -> bool {
        signal(pid, libc::SIGSTOP)
    }

    fn signal(pid: u32, signal: i32) -> bool {
        // SAFETY: no memory is touched.
        unsafe { libc::kill(pid.try_into().unwrap(), signal) == 0 }
    }

    /// A folder that only this user can enter.
    pub fn make_private(folder: &Path) {
        make(folder, 0o700);
    }

    /// A folder that everybody can enter.
    pub fn make_open(folder: &Path) {
        make(folder, 0o755);
    }

    fn make(folder: &Path, mode: u32) {
        fs::create_dir(folder).unwrap();
        fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
    }
}

#[cfg(windows)]
mod windows {
    use super::Path;
    use std::{
        fs::File,
        os::windows::{
            ffi::OsStrExt,
            fs::OpenOptionsExt,
            io::{AsRawHandle, FromRawHandle, OwnedHandle},
        },
        ptr::null_mut,
    };

    use windows_sys::Win32::{
        Foundation::{HANDLE, LocalFree},
        Security::{
            Authorization::{
                ConvertSecurityDescriptorToStringSecurityDescriptorW,
                ConvertStringSecurityDescriptorToSecurityDescriptorW, GetSecurityInfo,
                SDDL_REVISION_1, SE_FILE_OBJECT,
            },
            DACL_SECURITY_INFORMATION, SECURITY_ATTRIBUTES,
        },
        Storage::FileSystem::{CreateDirectoryW, FILE_FLAG_BACKUP_SEMANTICS},
        System::Threading::{
            OpenProcess, PROCESS_NAME_WIN32, PROCESS_QUERY_LIMITED_INFORMATION,
            PROCESS_SUSPEND_RESUME, PROCESS_TERMINATE, QueryFullProcessImageNameW,
            TerminateProcess,
        },
    };

    #[link(name = "ntdll")]
    unsafe extern "system" {
        fn NtSuspendProcess(process: HANDLE) -> i32;
    }

    fn wide(text: &std::ffi::OsStr) -> Vec<u16> {
        text.encode_wide().chain([0]).collect()
    }

    /// A worker, for what `rights` says: numbers of processes are soon used again.
    fn worker(pid: u32, rights: u32) -> Option<OwnedHandle> {
        // SAFETY: a handle that was opened is closed by its owner; as much room as is said.
        unsafe {
            let process = OpenProcess(rights | PROCESS_QUERY_LIMITED_INFORMATION, 0, pid);
            if process.is_null() {
                return None;
            }
            let process = OwnedHandle::from_raw_handle(process);
            let (mut name, mut len) = ([0; 1024], 1024);
            QueryFullProcessImageNameW(
                process.as_raw_handle(),
                PROCESS_NAME_WIN32,
                name.as_mut_ptr(),
                &mut len,
            );
            let name = String::from_utf16_lossy(&name[..len as usize]);
            name.ends_with("uncook.exe").then_some(process)
        }
    }

    /// Ends it at once.
    pub fn kill(pid: u32) -> bool {
        // SAFETY: the handle is open.
        worker(pid, PROCESS_TERMINATE)
            .is_some_and(|p| unsafe { TerminateProcess(p.as_raw_handle(), 1) } != 0)
    }

    /// It stands still.
    pub fn halt(pid: u32) -> bool {
        // SAFETY: as above.
        worker(pid, PROCESS_SUSPEND_RESUME)
            .is_some_and(|p| unsafe { NtSuspendProcess(p.as_raw_handle()) } == 0)
    }

    /// A folder that only its owner can enter.
    pub fn make_private(folder: &Path) {
        // The administrators, who own what their processes make, may do everything anyway.
        make(
            folder,
            "D:P(A;OICI;GA;;;CO)(A;OICI;GA;;;BA)(A;OICI;GA;;;SY)",
        );
    }

    /// A folder that everybody can enter.
    pub fn make_open(folder: &Path) {
        make(folder, "D:P(A;OICI;GA;;;WD)");
    }

    fn make(folder: &Path, list: &str) {
        let (list, name) = (wide(list.as_ref()), wide(folder.as_os_str()));
        let mut descriptor = null_mut();
        // SAFETY: strings that end on zero; what the system makes is freed.
        unsafe {
            let made = ConvertStringSecurityDescriptorToSecurityDescriptorW(
                list.as_ptr(),
                SDDL_REVISION_1,
                &mut descriptor,
                null_mut(),
            );
            assert_ne!(made, 0);
            let attributes = SECURITY_ATTRIBUTES {
                nLength: size_of::<SECURITY_ATTRIBUTES>() as u32,
                lpSecurityDescriptor: descriptor,
                bInheritHandle: 0,
            };
            let made = CreateDirectoryW(name.as_ptr(), &attributes);
            LocalFree(descriptor);
            assert_ne!(made, 0, "{}", std::io::Error::last_os_error());
        }
    }

    /// Who may do anything with what lies at `path` (a file, folder or pipe): users, as access lists name them.
    pub fn may_open(path: &Path) -> Vec<String> {
        const READ_CONTROL: u32 = 0x0002_0000;
        let file = File::options()
            .access_mode(READ_CONTROL)
            .custom_flags(FILE_FLAG_BACKUP_SEMANTICS)
            .open(path)
            .unwrap();
        let (mut descriptor, mut words) = (null_mut(), null_mut());
        // SAFETY: the handle is open; what the system makes is freed once it is copied.
        let words = unsafe {
            let error = GetSecurityInfo(
                file.as_raw_handle(),
                SE_FILE_OBJECT,
                DACL_SECURITY_INFORMATION,
                null_mut(),
                null_mut(),
                null_mut(),
                null_mut(),
                &mut descriptor,
            );
            assert_eq!(error, 0);
            let done = ConvertSecurityDescriptorToStringSecurityDescriptorW(
                descriptor,
                SDDL_REVISION_1,
                DACL_SECURITY_INFORMATION,
                &mut words,
                null_mut(),
            );
            assert_ne!(done, 0);
            let len = (0..).take_while(|&n| *words.add(n) != 0).count();
            let copied = String::from_utf16_lossy(std::slice::from_raw_parts(words, len));
            LocalFree(words.cast());
            LocalFree(descriptor);
            copied
        };
        // "D:P(A;OICI;FA;;;S-1-5-21-…)(…)"
        let entries = words.split('(').skip(1);
        let users = entries.filter_map(|entry| entry.trim_end_matches(')').rsplit(';').next());
        users.map(str::to_owned).collect()
    }
}

// [worker] The worker process under Windows: owners and access lists of folders, users of processes, job limits.

use std::{
    ffi::OsStr,
    fs, io,
    os::windows::{
        ffi::OsStrExt,
        fs::MetadataExt,
        io::{AsRawHandle, FromRawHandle, OwnedHandle},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    ptr::{null, null_mut},
};

use windows_sys::Win32::{
    Foundation::{ERROR_ALREADY_EXISTS, LocalFree},
    Security::{
        ACCESS_ALLOWED_ACE, ACL,
        Authorization::{
            ConvertSidToStringSidW, ConvertStringSecurityDescriptorToSecurityDescriptorW,
            GetNamedSecurityInfoW, SDDL_REVISION_1, SE_FILE_OBJECT,
        },
        DACL_SECURITY_INFORMATION, EqualSid, GetAce, GetTokenInformation, IsWellKnownSid,
        OWNER_SECURITY_INFORMATION, PSECURITY_DESCRIPTOR, PSID, SECURITY_ATTRIBUTES, TOKEN_QUERY,
        TOKEN_USER, TokenUser, WinBuiltinAdministratorsSid, WinCreatorOwnerRightsSid,
        WinCreatorOwnerSid, WinLocalSystemSid,
    },
    Storage::FileSystem::{CreateDirectoryW, FILE_ATTRIBUTE_REPARSE_POINT},
    System::{
        JobObjects::{
            AssignProcessToJobObject, CreateJobObjectW, JOB_OBJECT_LIMIT_PROCESS_MEMORY,
            JOBOBJECT_EXTENDED_LIMIT_INFORMATION, JobObjectExtendedLimitInformation,
            SetInformationJobObject,
        },
        Threading::{
            CREATE_NEW_PROCESS_GROUP, CREATE_NO_WINDOW, GetCurrentProcess, OpenProcess,
            OpenProcessToken, PROCESS_QUERY_LIMITED_INFORMATION, PROCESS_TERMINATE,
            TerminateProcess,
        },
    },
};

use super::Violence;

/// What task managers give a process that they end.
const KILLED: u32 = 1;
/// Codes of processes that the system ended begin with these bits.
const SEVERE: u32 = 0xC000_0000;
/// Kinds of entries of an access list that allow something: plain, compound, for an object, with a condition, both.
const ALLOWING: [u8; 5] = [0, 4, 5, 9, 11];

/// A string for the system.
///
/// # Errors
/// If there is a zero in it.
pub fn wide(text: &OsStr) -> io::Result<Vec<u16>> {
    let mut wide: Vec<u16> = text.encode_wide().collect();
    if wide.contains(&0) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    wide.push(0);
    Ok(wide)
}

/// `Ok` unless the system said "no".
fn check(done: i32) -> io::Result<()> {
    if done == 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Who a process works for.
struct User(Vec<u64>);

impl User {
    /// This process' own.
    fn own() -> io::Result<Self> {
        // SAFETY: always a valid handle, which needs no closing.
        Self::of(unsafe { GetCurrentProcess() })
    }

    fn of(process: windows_sys::Win32::Foundation::HANDLE) -> io::Result<Self> {
        let mut token = null_mut();
        // SAFETY: the handle is written, and closed by its owner.
        let token = unsafe {
            check(OpenProcessToken(process, TOKEN_QUERY, &mut token))?;
            OwnedHandle::from_raw_handle(token)
        };
        // More than any user's needs, and aligned for what is written there.
        let mut room = vec![0u64; 32];
        let mut len = 0;
        // SAFETY: as much room as is said.
        check(unsafe {
            GetTokenInformation(
                token.as_raw_handle(),
                TokenUser,
                room.as_mut_ptr().cast(),
                (room.len() * size_of::<u64>()) as u32,
                &mut len,
            )
        })?;
        Ok(Self(room))
    }

    fn sid(&self) -> PSID {
        // SAFETY: the system has written a `TOKEN_USER` there, which points into the same room.
        unsafe { (*self.0.as_ptr().cast::<TOKEN_USER>()).User.Sid }
    }

    /// As access lists are written.
    fn in_words(&self) -> io::Result<String> {
        let mut words = null_mut();
        // SAFETY: a valid user; the string ends on zero, and is freed once it is copied.
        unsafe {
            check(ConvertSidToStringSidW(self.sid(), &mut words))?;
            let len = (0..).take_while(|&n| *words.add(n) != 0).count();
            let copied = String::from_utf16_lossy(std::slice::from_raw_parts(words, len));
            LocalFree(words.cast());
            Ok(copied)
        }
    }
}

/// Whether process `pid` works for the user of this one.
///
/// # Errors
/// If the system doesn't say.
pub fn same_user(pid: u32) -> io::Result<bool> {
    // SAFETY: a handle that was opened is closed by its owner.
    let process = unsafe {
        let process = OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, 0, pid);
        if process.is_null() {
            return Err(io::Error::last_os_error());
        }
        OwnedHandle::from_raw_handle(process)
    };
    let (theirs, own) = (User::of(process.as_raw_handle())?, User::own()?);
    // SAFETY: two valid users.
    Ok(unsafe { EqualSid(theirs.sid(), own.sid()) } != 0)
}

/// What a new object gets that nobody but this user may open.
pub struct OnlyOwner(PSECURITY_DESCRIPTOR);

impl OnlyOwner {
    /// # Errors
    /// If the system refuses.
    pub fn new() -> io::Result<Self> {
        let user = User::own()?.in_words()?;
        // Owned by the user (a process with more rights gives what it makes to all administrators), protected from what
        // is inherited; everything for the user, in folders for what is in them, too.
        let words = format!("O:{user}D:P(A;OICI;GA;;;{user})");
        let words = wide(words.as_ref())?;
        let mut descriptor = null_mut();
        // SAFETY: a string that ends on zero; what is made is freed with this.
        check(unsafe {
            ConvertStringSecurityDescriptorToSecurityDescriptorW(
                words.as_ptr(),
                SDDL_REVISION_1,
                &mut descriptor,
                null_mut(),
            )
        })?;
        Ok(Self(descriptor))
    }

    /// Valid as long as this lives.
    pub fn attributes(&self) -> SECURITY_ATTRIBUTES {
        SECURITY_ATTRIBUTES {
            nLength: size_of::<SECURITY_ATTRIBUTES>() as u32,
            lpSecurityDescriptor: self.0,
            bInheritHandle: 0,
        }
    }
}

impl Drop for OnlyOwner {
    fn drop(&mut self) {
        // SAFETY: the system made it.
        unsafe { LocalFree(self.0) };
    }
}

/// Owner and access list of a file or folder.
struct Security {
    all: PSECURITY_DESCRIPTOR,
    owner: PSID,
    list: *mut ACL,
}

impl Security {
    fn of(path: &Path) -> io::Result<Self> {
        let name = wide(path.as_os_str())?;
        let mut found = Self {
            all: null_mut(),
            owner: null_mut(),
            list: null_mut(),
        };
        // SAFETY: a name that ends on zero; what is found lies in `all`, which is freed with this.
        let error = unsafe {
            GetNamedSecurityInfoW(
                name.as_ptr(),
                SE_FILE_OBJECT,
                OWNER_SECURITY_INFORMATION | DACL_SECURITY_INFORMATION,
                &mut found.owner,
                null_mut(),
                &mut found.list,
                null_mut(),
                &mut found.all,
            )
        };
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error as i32));
        }
        Ok(found)
    }

    /// The user's, or the administrators', who may do everything anyway: theirs is what their processes make.
    fn is_owned_by(&self, user: &User) -> bool {
        is_trusted(self.owner, user)
    }

    /// Whether anybody else may do anything with it.
    fn is_open_to_others(&self, user: &User) -> bool {
        if self.list.is_null() {
            return true;
        }
        // SAFETY: a list that the system has made.
        let entries = u32::from(unsafe { (*self.list).AceCount });
        (0..entries).any(|n| {
            let mut entry = null_mut();
            // SAFETY: as above. All kinds that allow something begin alike; what comes before the user is told by kind,
            // and none but the plain one is understood.
            unsafe {
                if GetAce(self.list, n, &mut entry) == 0 {
                    return true;
                }
                let entry = entry.cast::<ACCESS_ALLOWED_ACE>();
                let kind = (*entry).Header.AceType;
                let plain = kind == ALLOWING[0];
                ALLOWING.contains(&kind)
                    && (*entry).Mask != 0
                    && !(plain && is_trusted((&raw mut (*entry).SidStart).cast(), user))
            }
        })
    }
}

impl Drop for Security {
    fn drop(&mut self) {
        // SAFETY: the system made it.
        unsafe { LocalFree(self.all) };
    }
}

/// The user, and who may do everything on this machine.
fn is_trusted(sid: PSID, user: &User) -> bool {
    let known = [
        WinLocalSystemSid,
        WinBuiltinAdministratorsSid,
        WinCreatorOwnerSid,
        WinCreatorOwnerRightsSid,
    ];
    // SAFETY: the caller's is valid, or null, which is nobody.
    !sid.is_null()
        && unsafe {
            EqualSid(sid, user.sid()) != 0 || known.iter().any(|&k| IsWellKnownSid(sid, k) != 0)
        }
}

/// A folder itself, no link to one.
fn is_folder(path: &Path) -> io::Result<bool> {
    let meta = fs::symlink_metadata(path)?;
    Ok(meta.is_dir() && meta.file_attributes() & FILE_ATTRIBUTE_REPARSE_POINT == 0)
}

/// Creates `folder` if it is missing, and makes sure that nobody but its owner can enter it, and that the
/// owner is this user.
///
/// # Errors
/// In plain words.
pub fn private_folder(folder: &Path) -> Result<(), String> {
    let name = folder.display();
    let made = || {
        folder.parent().map_or(Ok(()), fs::create_dir_all)?;
        let (only_owner, path) = (OnlyOwner::new()?, wide(folder.as_os_str())?);
        // SAFETY: a name that ends on zero, and attributes that live as long as the call.
        check(unsafe { CreateDirectoryW(path.as_ptr(), &only_owner.attributes()) })
    };
    match made() {
        Ok(()) => {}
        Err(e) if e.raw_os_error() == Some(ERROR_ALREADY_EXISTS as i32) => {}
        Err(error) => return Err(format!("the folder {name} can't be made: {error}")),
    }
    let said = |e: io::Error| format!("{name}: {e}");
    let user = User::own().map_err(said)?;
    let security = Security::of(folder).map_err(said)?;
    if !is_folder(folder).map_err(said)? || !security.is_owned_by(&user) {
        return Err(format!(
            "the folder {name} belongs to somebody else; remove it or have it removed"
        ));
    }
    if security.is_open_to_others(&user) {
        return Err(format!(
            "the folder {name} is open to other users; remove it, then it is made anew"
        ));
    }
    Ok(())
}

/// Whether `folder` is a folder, no link, and this user's.
pub fn is_own_folder(folder: &Path) -> bool {
    let owned = || {
        let user = User::own()?;
        io::Result::Ok(is_folder(folder)? && Security::of(folder)?.is_owned_by(&user))
    };
    owned().unwrap_or(false)
}

/// Where the user's worker listens, if nothing else is said.
pub fn default_folder() -> PathBuf {
    // Each user has such a folder.
    std::env::temp_dir().join("uncook-worker")
}

/// What tells the file at `path` from another one in its place.
pub fn version_of(path: &Path) -> Option<(u64, u64, u64)> {
    let meta = fs::metadata(path).ok()?;
    Some((
        meta.creation_time(),
        meta.last_write_time(),
        meta.file_size(),
    ))
}

/// Ends a process at once.
pub fn kill(pid: u32) {
    // SAFETY: takes numbers; a handle that was opened is closed by its owner. A process that is gone is no matter.
    unsafe {
        let process = OpenProcess(PROCESS_TERMINATE, 0, pid);
        if !process.is_null() {
            let process = OwnedHandle::from_raw_handle(process);
            TerminateProcess(process.as_raw_handle(), KILLED);
        }
    }
}

/// How a process ended, unless by itself.
pub fn violent_end(status: ExitStatus) -> Option<Violence> {
    let code = status.code()? as u32;
    if code == KILLED {
        return Some(Violence::killed());
    }
    (code & SEVERE == SEVERE).then(|| Violence {
        how: format!("crashed (code {code:#x})"),
        crashed: true,
    })
}

/// The process that `command` starts has no console, and what interrupts this one's leaves it alive.
pub fn apart(command: &mut Command) {
    command.creation_flags(CREATE_NO_WINDOW | CREATE_NEW_PROCESS_GROUP);
}

/// Bounds the memory that this process may hold: what asks for more fails, and the process ends.
///
/// # Errors
/// If the system refuses.
pub fn limit_memory(bytes: u64) -> io::Result<()> {
    let mut limits = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
    limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_PROCESS_MEMORY;
    limits.ProcessMemoryLimit = usize::try_from(bytes).unwrap_or(usize::MAX);
    // SAFETY: `limits` is read, and as long as said. The job lives as long as its process, with or without this handle.
    unsafe {
        let job = CreateJobObjectW(null(), null());
        if job.is_null() {
            return Err(io::Error::last_os_error());
        }
        let job = OwnedHandle::from_raw_handle(job);
        check(SetInformationJobObject(
            job.as_raw_handle(),
            JobObjectExtendedLimitInformation,
            (&raw const limits).cast(),
            size_of::<JOBOBJECT_EXTENDED_LIMIT_INFORMATION>() as u32,
        ))?;
        check(AssignProcessToJobObject(
            job.as_raw_handle(),
            GetCurrentProcess(),
        ))
    }
}

/// Nothing to do: a handle is inherited only where who opened it asked for that.
pub fn close_inherited() {}

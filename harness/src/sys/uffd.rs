//! userfaultfd write-protection of guest memory.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use userfaultfd::{Error, Event, EventBuffer, FaultKind, FeatureFlags, RegisterMode, Uffd, UffdBuilder};

use super::clock;

/// Features by the kernel's numbers, since the crate names the older ones only.
const WRITE_PROTECT: u64 = 1 << 0;
const THREAD_ID: u64 = 1 << 8;
const WP_HUGETLBFS_SHMEM: u64 = 1 << 12;
const WP_UNPOPULATED: u64 = 1 << 13;
const WP_ASYNC: u64 = 1 << 15;

/// What faults in write-protected memory do. Pages that were never touched are protected too (`WP_UNPOPULATED`):
/// otherwise first writes to them would be missed without a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Faults {
    /// They wait until this program lifts the protection (Linux 6.4).
    Wait,
    /// The kernel lifts it and keeps a note for `PAGEMAP_SCAN` (Linux 6.7).
    Note,
}

impl Faults {
    /// The features that this takes.
    #[must_use]
    pub const fn features(self) -> u64 {
        let both = WRITE_PROTECT | WP_HUGETLBFS_SHMEM | WP_UNPOPULATED;
        match self {
            Self::Wait => both | THREAD_ID,
            Self::Note => both | WP_ASYNC,
        }
    }
}

/// Opens a userfaultfd with `features`. `user_mode_only` must be off: with it, a guest's write to protected memory ends
/// `KVM_RUN` with EFAULT.
///
/// # Errors
/// `ENOSYS` or `ENOTTY` where there is none, `EPERM` or `EACCES` without the rights, `EINVAL` where a feature is missing.
pub fn open(features: u64) -> Result<Uffd, Errno> {
    UffdBuilder::new()
        .close_on_exec(true)
        .non_blocking(true)
        .user_mode_only(false)
        .require_features(FeatureFlags::from_bits_retain(features))
        .create()
        .map_err(|error| errno(&error))
}

/// The crate has a `nix` of its own, so that its errno passes as a number.
fn errno(error: &Error) -> Errno {
    match error {
        Error::OpenDevUserfaultfd(error) => Errno::from_raw(error.raw_os_error().unwrap_or_default()),
        Error::SystemError(errno) => Errno::from_raw(*errno as i32),
        _ => Errno::UnknownErrno,
    }
}

fn to_io(error: Error) -> io::Error {
    match errno(&error) {
        Errno::UnknownErrno => io::Error::other(error),
        errno => errno.into(),
    }
}

/// A write that waits.
#[derive(Debug, Clone, Copy)]
pub struct WriteFault {
    /// The host address that it goes to.
    pub address: u64,
    /// Kernel id of the thread that waits.
    pub thread: i32,
    /// [`clock::tsc`] when it had been read.
    pub taken: u64,
}

/// Host memory under write-protection. Nothing is protected any more, and no thread waits, once it is dropped.
#[derive(Debug)]
pub struct WriteProtection {
    uffd: Uffd,
    ranges: Vec<(u64, u64)>,
}

impl WriteProtection {
    /// Protects `ranges`, `[start, end)` in whole pages.
    ///
    /// # Errors
    /// As [`open`], `UFFDIO_REGISTER` and `UFFDIO_WRITEPROTECT`.
    pub fn new(faults: Faults, ranges: Vec<(u64, u64)>) -> io::Result<Self> {
        let protection = Self { uffd: open(faults.features())?, ranges };
        for &(start, end) in &protection.ranges {
            let length = length(end - start)?;
            protection
                .uffd
                .register_with_mode(start as *mut _, length, RegisterMode::WRITE_PROTECT)
                .map_err(to_io)?;
            protection.protect(start, end)?;
        }
        Ok(protection)
    }

    /// Protects `[start, end)` again.
    ///
    /// # Errors
    /// As `UFFDIO_WRITEPROTECT`.
    pub fn protect(&self, start: u64, end: u64) -> io::Result<()> {
        self.uffd.write_protect(start as *mut _, length(end - start)?).map_err(to_io)
    }

    /// Lifts the protection of `[start, end)` and wakes who waits there.
    ///
    /// # Errors
    /// As `UFFDIO_WRITEPROTECT`.
    pub fn lift(&self, start: u64, end: u64) -> io::Result<()> {
        self.uffd.remove_write_protection(start as *mut _, length(end - start)?, true).map_err(to_io)
    }

    /// Gives each write that waits now to `each`, as many as `events` has room for.
    ///
    /// # Errors
    /// As `read`, and those of `each`.
    pub fn take_faults(
        &self,
        events: &mut EventBuffer,
        mut each: impl FnMut(&WriteFault) -> io::Result<()>,
    ) -> io::Result<()> {
        let events = self.uffd.read_events(events).map_err(to_io)?;
        let taken = clock::tsc();
        for event in events {
            match event.map_err(to_io)? {
                Event::Pagefault { kind: FaultKind::WriteProtected, addr, thread_id, .. } => {
                    each(&WriteFault { address: addr as u64, thread: thread_id.as_raw(), taken })?;
                }
                other => return Err(io::Error::other(format!("userfaultfd reports {other:?}"))),
            }
        }
        Ok(())
    }

    /// Its descriptor, which is readable while writes wait.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.uffd.as_fd()
    }

    /// Lifts all protection for good and wakes everybody.
    ///
    /// # Errors
    /// As `UFFDIO_UNREGISTER` and `UFFDIO_WAKE`.
    pub fn release(&self) -> io::Result<()> {
        for &(start, end) in &self.ranges {
            let length = length(end - start)?;
            let lifted = self.uffd.unregister(start as *mut _, length);
            // The kernel wakes who waits for a missing page by itself, and not who waits to write one.
            let woken = self.uffd.wake(start as *mut _, length);
            lifted.and(woken).map_err(to_io)?;
        }
        Ok(())
    }
}

fn length(bytes: u64) -> io::Result<usize> {
    usize::try_from(bytes).map_err(io::Error::other)
}

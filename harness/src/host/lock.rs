//! One measurement at a time on a host: two would measure each other. The kernel lets go of the lock when the process ends,
//! however it ends.
//!
//! What is locked is the inode that the kernel gives to all of its anonymous files, such as timers: there is one in a
//! kernel, which every user and every container shares, whatever files and namespaces each has, and no permission stands in the
//! way. So that builds exclude each other that know only the file in `/run/lock`, that is locked too where it can be had.

use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::{FileStat, fstat, major, minor};
use nix::sys::timerfd::{ClockId, TimerFd, TimerFlags};
use procfs::LockType;
use procfs::process::Process;

/// Names a file to lock in place of the host, for tests that run beside each other.
pub const VARIABLE: &str = "MIGBENCH_LOCK";

const FILE: &str = "/run/lock/migbench.lock";

/// Between two looks at a lock that is waited for.
const PAUSE: Duration = Duration::from_millis(100);

/// Why this process may not measure.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another one does.
    #[error(
        "another migbench measures on this host ({holder}); two at a time would measure each other: wait for it with --wait, \
         or end it"
    )]
    Held {
        /// Who, as far as the kernel says.
        holder: String,
    },
    /// It was waited for, and the wait was given up.
    #[error("interrupted while another migbench measured on this host ({holder})")]
    GivenUp {
        /// Who, as far as the kernel says.
        holder: String,
    },
    /// The file can't be had.
    #[error("can't lock {}: {source}; set {VARIABLE} to a file that you may read", .path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Held as long as it lives.
#[derive(Debug)]
pub struct HostLock {
    _held: Vec<Flock<OwnedFd>>,
}

impl HostLock {
    /// Takes the host's lock.
    ///
    /// # Errors
    /// See [`LockError`].
    pub fn take() -> Result<Self, LockError> {
        Self::named().unwrap_or_else(|| Self::of_host(Path::new(FILE)))
    }

    /// Takes the lock that [`VARIABLE`] names, if it names one.
    ///
    /// # Errors
    /// See [`LockError`].
    pub fn named() -> Option<Result<Self, LockError>> {
        std::env::var_os(VARIABLE).map(|path| Self::take_at(Path::new(&path)))
    }

    /// Takes a lock by `take`, for which it waits for so long, or until it shall give up.
    ///
    /// # Errors
    /// Those of `take`, and [`LockError::GivenUp`].
    pub fn wait<T>(
        patience: Duration,
        give_up: impl Fn() -> bool,
        take: impl Fn() -> Result<T, LockError>,
    ) -> Result<T, LockError> {
        let since = Instant::now();
        loop {
            match take() {
                Err(LockError::Held { holder }) if since.elapsed() < patience => {
                    if give_up() {
                        return Err(LockError::GivenUp { holder });
                    }
                    std::thread::sleep(PAUSE);
                }
                other => return other,
            }
        }
    }

    /// Takes the host's lock, with that file where it can be had.
    ///
    /// # Errors
    /// See [`LockError`].
    pub fn of_host(file: &Path) -> Result<Self, LockError> {
        let unwritable = |source| LockError::Unwritable { path: file.to_owned(), source };
        let mut held = Vec::new();
        if let Some(anonymous) = shared_by_all() {
            held.push(lock(anonymous, file)?);
        }
        match open(file) {
            Ok(opened) => held.push(lock(opened, file)?),
            // Where there is no such directory, or it can't be written, the kernel's own excludes all the same.
            Err(source) if held.is_empty() => return Err(unwritable(source)),
            Err(_) => {}
        }
        Ok(Self { _held: held })
    }

    fn take_at(path: &Path) -> Result<Self, LockError> {
        let opened = open(path).map_err(|source| LockError::Unwritable { path: path.to_owned(), source })?;
        Ok(Self { _held: vec![lock(opened, path)?] })
    }
}

/// An anonymous file, if in this kernel they share an inode.
fn shared_by_all() -> Option<OwnedFd> {
    let anonymous =
        || TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC).ok().map(OwnedFd::from);
    let (one, other) = (anonymous()?, anonymous()?);
    let inode = |file: &OwnedFd| fstat(file).ok().map(|stat| (stat.st_dev, stat.st_ino));
    (inode(&one)? == inode(&other)?).then_some(one)
}

/// The file, which is made if need be. It is only read: who may not write what another user has made can lock it nevertheless.
fn open(path: &Path) -> io::Result<OwnedFd> {
    // In a directory that everybody may write to, somebody could have made a link.
    let there = || OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path);
    let found = match there() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            match OpenOptions::new().read(true).write(true).create_new(true).open(path) {
                Ok(made) => {
                    // Whatever the umask: others read it.
                    let _ = fs::set_permissions(path, Permissions::from_mode(0o644));
                    Ok(made)
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => there(),
                Err(error) => Err(error),
            }
        }
        other => other,
    };
    found.map(OwnedFd::from)
}

fn lock(file: OwnedFd, path: &Path) -> Result<Flock<OwnedFd>, LockError> {
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(file, errno)| match errno {
        Errno::EWOULDBLOCK => LockError::Held { holder: holder(file.as_fd()) },
        errno => LockError::Unwritable { path: path.to_owned(), source: errno.into() },
    })
}

/// Who holds a lock on that file.
fn holder(file: impl AsFd) -> String {
    let found = fstat(file).ok().and_then(|file| pid_of_holder(&file));
    let Some(pid) = found else {
        return "in a process that is not seen from here, as in another container".to_owned();
    };
    let line = Process::new(pid).and_then(|process| process.cmdline()).unwrap_or_default();
    let words = if line.is_empty() { String::new() } else { format!(", {}", line.join(" ")) };
    format!("process {pid}{words}")
}

fn pid_of_holder(file: &FileStat) -> Option<i32> {
    let is = |lock: &procfs::Lock| {
        (u64::from(lock.devmaj), u64::from(lock.devmin), lock.inode)
            == (major(file.st_dev), minor(file.st_dev), file.st_ino)
    };
    let all = procfs::locks().ok()?;
    all.into_iter().filter(|lock| lock.lock_type == LockType::FLock).find(is)?.pid.filter(|pid| *pid > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("lock");
        let held = HostLock::take_at(&path).unwrap();
        let refused = HostLock::take_at(&path).unwrap_err().to_string();
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        drop(held);
        HostLock::take_at(&path).unwrap();
    }

    #[test]
    fn what_another_user_made_is_locked_as_well() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("lock");
        drop(HostLock::take_at(&path).unwrap());
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
        // Root may write to it all the same; others see that it is only read.
        fs::set_permissions(&path, Permissions::from_mode(0o444)).unwrap();
        let held = HostLock::take_at(&path).unwrap();
        assert!(matches!(HostLock::take_at(&path), Err(LockError::Held { .. })));
        drop(held);
        let link = scratch.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(HostLock::take_at(&link), Err(LockError::Unwritable { .. })));
    }

    #[test]
    fn who_waits_gets_it_or_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("lock");
        let held = std::cell::RefCell::new(Some(HostLock::take_at(&path).unwrap()));
        let take = || HostLock::take_at(&path);
        let refused = HostLock::wait(Duration::ZERO, || false, take);
        assert!(matches!(refused, Err(LockError::Held { .. })));
        let forever = Duration::from_secs(3600);
        assert!(matches!(HostLock::wait(forever, || true, take), Err(LockError::GivenUp { .. })));
        // It is let go of while it is waited for.
        let let_go = || {
            drop(held.take());
            false
        };
        HostLock::wait(forever, let_go, take).unwrap();
    }

    #[test]
    fn a_place_that_cannot_be_read_is_named() {
        let error = HostLock::take_at(Path::new("/nowhere/lock")).unwrap_err().to_string();
        assert!(error.contains("/nowhere/lock") && error.contains(VARIABLE), "{error}");
    }
}

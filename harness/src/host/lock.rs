//! One measurement at a time on a host: two would measure each other. An advisory lock on one file, which the kernel lets
//! go of when the process ends, however it ends.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Names another file than the host's, for tests that run beside each other.
pub const VARIABLE: &str = "MIGBENCH_LOCK";

/// Why this process may not measure.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another one does.
    #[error(
        "another migbench measures on this host ({holder}); two at a time would measure each other: wait for it, or end it"
    )]
    Held {
        /// Who, as far as the file says.
        holder: String,
    },
    /// The file can't be had.
    #[error("can't lock {}: {source}; set {VARIABLE} to a file that you may write", .path.display())]
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
    _file: Flock<File>,
}

/// The file: the variable's, or the host's.
fn file() -> PathBuf {
    if let Some(path) = std::env::var_os(VARIABLE) {
        return path.into();
    }
    let usual = Path::new("/run/lock");
    if usual.is_dir() { usual.join("migbench.lock") } else { std::env::temp_dir().join("migbench.lock") }
}

impl HostLock {
    /// Takes the host's lock.
    ///
    /// # Errors
    /// See [`LockError`].
    pub fn take() -> Result<Self, LockError> {
        Self::take_at(&file())
    }

    /// Takes the lock that [`VARIABLE`] names, if it names one.
    ///
    /// # Errors
    /// See [`LockError`].
    pub fn named() -> Option<Result<Self, LockError>> {
        std::env::var_os(VARIABLE).map(|path| Self::take_at(Path::new(&path)))
    }

    fn take_at(path: &Path) -> Result<Self, LockError> {
        let unwritable = |source: io::Error| LockError::Unwritable { path: path.to_owned(), source };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(unwritable)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                // Who holds it, for whoever is refused. Without it they are refused all the same.
                let _ = file
                    .set_len(0)
                    .and_then(|()| file.rewind())
                    .and_then(|()| write!(file, "process {}", std::process::id()));
                Ok(Self { _file: file })
            }
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                let holder = if holder.is_empty() { "its process is unknown".to_owned() } else { holder };
                Err(LockError::Held { holder })
            }
            Err((_, errno)) => Err(unwritable(errno.into())),
        }
    }
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
    fn a_place_that_cannot_be_written_is_named() {
        let error = HostLock::take_at(Path::new("/nowhere/lock")).unwrap_err().to_string();
        assert!(error.contains("/nowhere/lock") && error.contains(VARIABLE), "{error}");
    }
}

//! A directory of one run, for files and sockets of other VMMs. It is gone with the run; what a runner that was killed left behind goes
//! with the next one.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};
use tempfile::TempDir;

const PREFIX: &str = "migbench-run-";
/// Locked for as long as its run lives.
const LOCK: &str = "lock";

/// Such a directory.
#[derive(Debug)]
pub struct Scratch {
    directory: TempDir,
    _lock: Flock<File>,
}

impl Scratch {
    /// A new one, where the system keeps what is temporary.
    ///
    /// # Errors
    /// As the system.
    pub fn new() -> io::Result<Self> {
        Self::within(&std::env::temp_dir())
    }

    fn within(parent: &Path) -> io::Result<Self> {
        sweep(parent);
        let directory = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
        // Nobody sees it under its name before it is locked.
        let unseen = directory.path().join("unlocked");
        let lock = Flock::lock(File::create(&unseen)?, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, errno)| io::Error::from(errno))?;
        fs::rename(unseen, directory.path().join(LOCK))?;
        Ok(Self { directory, _lock: lock })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// Removes those whose runner is gone. One that can't be removed is in nobody's way.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let Ok(lock) = File::open(entry.path().join(LOCK)) else { continue };
        if Flock::lock(lock, FlockArg::LockExclusiveNonblock).is_ok() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_runner_left_is_removed_and_what_lives_is_not() {
        let parent = tempfile::tempdir().unwrap();
        let names = || {
            let entries = fs::read_dir(parent.path()).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        let killed = Scratch::within(parent.path()).unwrap();
        fs::write(killed.path().join("guest.elf"), "an image").unwrap();
        let Scratch { directory, _lock: lock } = killed;
        let (_left, ()) = (directory.keep(), drop(lock));
        // Others' directories, and one that is being made.
        fs::create_dir(parent.path().join("migbench-results")).unwrap();
        fs::create_dir(parent.path().join(format!("{PREFIX}new"))).unwrap();
        let lives = Scratch::within(parent.path()).unwrap();
        let also = Scratch::within(parent.path()).unwrap();
        let name = |scratch: &Scratch| scratch.path().file_name().unwrap().to_owned();
        let mut expected =
            vec![name(&lives), name(&also), "migbench-results".into(), format!("{PREFIX}new").into()];
        expected.sort();
        assert_eq!(names(), expected);
        drop((lives, also));
        assert_eq!(names().len(), 2);
    }
}

//! What a nightly job keeps from night to night, beside the list of nights: its builds, what it is at, and a lock.
//!
//! ```text
//! good/migbench        the base of the next night
//! candidate/migbench   the build under test: the next base once it passes
//! pinned/migbench      what slow creep is measured against
//! tonight/             what the night at work needs; whatever a killed one left
//! nights/              a directory for each measured night
//! ```

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use migbench_reports::history::GOOD;
use migbench_reports::replace::replace;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::builds;

/// A build that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeping {
    /// The base.
    Good,
    /// What is under test.
    Candidate,
    /// What creep is measured against.
    Pinned,
}

impl Keeping {
    const fn name(self) -> &'static str {
        match self {
            Self::Good => GOOD,
            Self::Candidate => "candidate",
            Self::Pinned => "pinned",
        }
    }
}

/// What a night is at, for the next one to find if this one is killed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// When, UTC, RFC 3339.
    pub started: String,
    /// The suite.
    pub suite: String,
}

/// Why nothing can be kept.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each is about")]
pub enum KeptError {
    #[error("another night is at work in {}; wait for it, or end it", .0.display())]
    Busy(PathBuf),
    #[error("cannot use {}: {source}; name another directory with --history", .path.display())]
    File { path: PathBuf, source: io::Error },
}

fn failed(path: &Path) -> impl Fn(io::Error) -> KeptError {
    let path = path.to_owned();
    move |source| KeptError::File { path: path.clone(), source }
}

/// A history directory, held by this process alone.
#[derive(Debug)]
pub struct Kept {
    root: PathBuf,
    _lock: Flock<File>,
}

impl Kept {
    /// Makes the directory if need be, and takes its lock, which the kernel lets go of however this process ends.
    ///
    /// # Errors
    /// [`KeptError`]
    pub fn open(history: &Path) -> Result<Self, KeptError> {
        fs::create_dir_all(history.join("nights")).map_err(failed(history))?;
        // Commands and records name paths in it.
        let root = fs::canonicalize(history).map_err(failed(history))?;
        let path = root.join("lock");
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        match Flock::lock(file.map_err(failed(&path))?, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Self { root, _lock: lock }),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Err(KeptError::Busy(root)),
            Err((_, error)) => Err(failed(&path)(error.into())),
        }
    }

    /// The directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a build is, if it is there.
    #[must_use]
    pub fn build(&self, which: Keeping) -> PathBuf {
        self.root.join(which.name()).join("migbench")
    }

    /// Keeps the build at `from`, whole or not at all.
    ///
    /// # Errors
    /// [`KeptError::File`]
    pub fn keep(&self, which: Keeping, from: &Path) -> Result<(), KeptError> {
        let into = self.build(which);
        let half = into.with_extension("part");
        let copy = || {
            fs::create_dir_all(self.root.join(which.name()))?;
            fs::copy(from, &half)?;
            File::open(&half)?.sync_all()?;
            fs::rename(&half, &into)
        };
        copy().inspect_err(|_| drop(fs::remove_file(&half))).map_err(failed(&into))
    }

    /// Keeps no build of that kind any longer.
    ///
    /// # Errors
    /// [`KeptError::File`]
    pub fn forget(&self, which: Keeping) -> Result<(), KeptError> {
        gone(fs::remove_file(self.build(which))).map_err(failed(&self.build(which)))
    }

    /// A place for what the night at work needs, and what it is at.
    ///
    /// # Errors
    /// [`KeptError::File`]
    pub fn begin(&self, begun: &Begun) -> Result<PathBuf, KeptError> {
        let tonight = self.root.join("tonight");
        self.end()?;
        let text = serde_json::to_string(begun).unwrap_or_default();
        fs::create_dir(&tonight)
            .and_then(|()| replace(&tonight.join("begun.json"), text.as_bytes()))
            .map_err(failed(&tonight))?;
        Ok(tonight)
    }

    /// What a night was at that was killed; `None` where the last one ended.
    #[must_use]
    pub fn begun(&self) -> Option<Begun> {
        serde_json::from_slice(&fs::read(self.root.join("tonight/begun.json")).ok()?).ok()
    }

    /// Takes away what the night at work needed.
    ///
    /// # Errors
    /// [`KeptError::File`]
    pub fn end(&self) -> Result<(), KeptError> {
        let tonight = self.root.join("tonight");
        gone(fs::remove_dir_all(&tonight)).map_err(failed(&tonight))
    }

    /// A new directory for a night that began at `started`.
    ///
    /// # Errors
    /// [`KeptError::File`]
    pub fn night(&self, started: &str) -> Result<PathBuf, KeptError> {
        let name: String = started.chars().filter(|c| !matches!(c, '-' | ':')).collect();
        let nights = self.root.join("nights");
        // Nights that simulate may begin within one second.
        for number in 1.. {
            let path = nights.join(if number == 1 { name.clone() } else { format!("{name}-{number:04}") });
            match fs::create_dir(&path) {
                Ok(()) => return Ok(path),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(failed(&path)(source)),
            }
        }
        Err(KeptError::Busy(nights))
    }

    /// Takes away all but the last `keep` directories of nights.
    ///
    /// # Errors
    /// [`KeptError::File`]
    pub fn prune(&self, keep: usize) -> Result<(), KeptError> {
        let nights = self.root.join("nights");
        let mut all: Vec<PathBuf> =
            fs::read_dir(&nights).map_err(failed(&nights))?.flatten().map(|entry| entry.path()).collect();
        all.sort();
        for old in &all[..all.len().saturating_sub(keep)] {
            gone(fs::remove_dir_all(old)).map_err(failed(old))?;
        }
        Ok(())
    }
}

fn gone(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Copies the program at `from`, which a build made meanwhile must not change, without its debug information where this host has
/// objcopy or strip: that is nine tenths of it, and each night keeps some. What says no longer what it is after that is copied
/// as it was.
///
/// # Errors
/// [`KeptError::File`]
pub fn copy_stripped(from: &Path, into: &Path) -> Result<(), KeptError> {
    let half = into.with_extension("stripped");
    let run = |program: &str, arguments: &[&Path]| {
        let mut command = Command::new(program);
        command.arg("--strip-debug").args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    let stripped = run("objcopy", &[from, &half]) || run("strip", &[Path::new("-o"), &half, from]);
    if stripped && builds::described(&half).is_ok() {
        return fs::rename(&half, into).map_err(failed(into));
    }
    gone(fs::remove_file(&half)).map_err(failed(&half))?;
    fs::copy(from, into).map(drop).map_err(failed(into))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_night_at_a_time_and_a_killed_one_is_known() {
        let scratch = tempfile::tempdir().unwrap();
        let history = scratch.path().join("a/history");
        let kept = Kept::open(&history).unwrap();
        let error = Kept::open(&history).unwrap_err().to_string();
        assert!(error.starts_with("another night is at work"), "{error}");
        assert_eq!(kept.begun(), None);
        let begun = Begun { started: "2031-01-01T00:00:00Z".to_owned(), suite: "tiny".to_owned() };
        fs::write(kept.begin(&begun).unwrap().join("half"), "").unwrap();
        assert_eq!(kept.begun(), Some(begun.clone()));
        assert!(!kept.begin(&begun).unwrap().join("half").exists());
        kept.end().unwrap();
        assert_eq!(kept.begun(), None);
    }

    #[test]
    fn builds_are_kept_whole_and_nights_in_their_order() {
        let scratch = tempfile::tempdir().unwrap();
        let kept = Kept::open(scratch.path()).unwrap();
        let file = scratch.path().join("file");
        fs::write(&file, "one").unwrap();
        kept.keep(Keeping::Candidate, &file).unwrap();
        assert_eq!(fs::read(kept.build(Keeping::Candidate)).unwrap(), b"one");
        kept.forget(Keeping::Candidate).unwrap();
        kept.forget(Keeping::Candidate).unwrap();
        assert!(!kept.build(Keeping::Candidate).exists());
        let nights: Vec<_> = (0..3).map(|_| kept.night("2031-01-01T00:00:00Z").unwrap()).collect();
        assert!(nights.is_sorted());
        kept.prune(2).unwrap();
        assert_eq!(nights.iter().map(|night| night.exists()).collect::<Vec<_>>(), [false, true, true]);
    }

    #[test]
    fn what_is_no_program_is_copied_as_it_is() {
        let scratch = tempfile::tempdir().unwrap();
        let (from, into) = (scratch.path().join("from"), scratch.path().join("into"));
        fs::write(&from, "no program").unwrap();
        copy_stripped(&from, &into).unwrap();
        assert_eq!(fs::read(into).unwrap(), b"no program");
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 2, "nothing half done is left");
    }
}

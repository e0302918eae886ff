//! The builds whose nodes a plan runs: this program's own, and those that cells name as `binary`. Each is asked what it is
//! before the first guest starts, and its file must stay the same until the last one ends.
//!
//! A program of another kind (a peer engine's) would be a cell's `binary` as well: what it is asked and how its nodes are
//! started is all that would differ, and both have their place here.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use migbench_reports::manifest::Build;
use migbench_scenarios::cell::Cell;
use migbench_scenarios::plan::Plan;

use crate::node::about::{About, PROGRAM, PROTOCOL};
use crate::sys::clock;

/// What cells without a `binary` run, as the keys of a suite call it.
const OWN: &str = "own";

/// Longest wait for a build to say what it is.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why nodes of a build cannot run.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each is about")]
pub enum BuildError {
    #[error("cannot read {}, the `binary` of a cell: {source}", .path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error(
        "{}, the `binary` of a cell, is no build of {PROGRAM} that can say what it is: `{} node --about` {why}; name the \
         program itself, not older than version 0.1.0 with `ab`", .path.display(), .path.display()
    )]
    Unknown { path: PathBuf, why: String },
    #[error(
        "{} is {version} and speaks protocol {theirs} with its nodes, this program speaks {PROTOCOL}: the two builds cannot be \
         compared side by side; measure each with `migbench run` of its own and lay the directories beside each other",
        .path.display()
    )]
    Unlike { path: PathBuf, version: String, theirs: u32 },
    #[error(
        "{} was replaced while it was measured: records before and after are of different builds; start anew, with a copy of \
         the program that nobody writes to", .path.display()
    )]
    Replaced { path: PathBuf },
}

impl BuildError {
    /// Whether both builds are in order and do not go together.
    #[must_use]
    pub const fn is_incomparable(&self) -> bool {
        matches!(self, Self::Unlike { .. })
    }
}

/// All builds of a plan.
#[derive(Debug)]
pub struct Builds {
    known: Vec<Known>,
}

#[derive(Debug)]
struct Known {
    /// As cells name it.
    binary: Option<String>,
    path: PathBuf,
    stamp: Stamp,
    build: Build,
}

/// By which a file is known again without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp([i64; 4], u64);

impl Stamp {
    fn of(about: &Metadata) -> Self {
        Self([about.mtime(), about.mtime_nsec(), about.ctime(), about.ctime_nsec()], about.len())
    }
}

impl Builds {
    /// Asks every build of `plan`; `own` is this program's file.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub fn of(plan: &Plan, own: &Path) -> Result<Self, BuildError> {
        let planned = plan.comparisons.iter().flat_map(|comparison| &comparison.cells);
        Self::of_cells(planned.map(|planned| &planned.cell), own)
    }

    /// Asks every build of `cells`.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub fn of_cells<'a>(cells: impl Iterator<Item = &'a Cell>, own: &Path) -> Result<Self, BuildError> {
        let mut known: Vec<Known> = Vec::new();
        for cell in cells {
            let binary = &cell.binary;
            if known.iter().all(|build| build.binary != *binary) {
                known.push(Known::of(binary.as_deref(), own)?);
            }
        }
        Ok(Self { known })
    }

    /// The file to start for `cell`, which is one of those asked for.
    ///
    /// # Errors
    /// [`BuildError::Replaced`]
    pub fn program(&self, cell: &Cell) -> Result<PathBuf, BuildError> {
        let named = || cell.binary.clone().unwrap_or_default().into();
        let Some(known) = self.known.iter().find(|known| known.binary == cell.binary) else {
            return Err(BuildError::Replaced { path: named() });
        };
        match fs::metadata(&known.path) {
            Ok(about) if Stamp::of(&about) == known.stamp => Ok(known.path.clone()),
            _ => Err(BuildError::Replaced { path: known.path.clone() }),
        }
    }

    /// For the manifest.
    #[must_use]
    pub fn list(&self) -> Vec<Build> {
        self.known.iter().map(|known| known.build.clone()).collect()
    }
}

impl Known {
    fn of(binary: Option<&str>, own: &Path) -> Result<Self, BuildError> {
        match binary {
            None => Self::read(None, own, |_| Ok(About::this())),
            Some(path) => Self::read(binary, Path::new(path), ask),
        }
    }

    fn read(
        binary: Option<&str>,
        named: &Path,
        about: impl Fn(&Path) -> Result<About, BuildError>,
    ) -> Result<Self, BuildError> {
        let unreadable = |source| BuildError::Unreadable { path: named.to_owned(), source };
        // The path itself: without a slash it would be looked for in PATH.
        let path = fs::canonicalize(named).map_err(unreadable)?;
        let stamp = Stamp::of(&fs::metadata(&path).map_err(unreadable)?);
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(File::open(&path).map_err(unreadable)?).map_err(unreadable)?;
        let about = about(&path)?;
        let build = Build {
            binary: binary.unwrap_or(OWN).to_owned(),
            program: about.program,
            tool: about.tool,
            protocol: about.protocol,
            blake3: hasher.finalize().to_hex().to_string(),
        };
        Ok(Self { binary: binary.map(str::to_owned), path, stamp, build })
    }
}

/// The build at `path`, which may speak any protocol.
///
/// # Errors
/// See [`BuildError`]; the build may be one that can't say what it is.
pub fn described(path: &Path) -> Result<Build, BuildError> {
    Known::read(Some(&path.display().to_string()), path, about).map(|known| known.build)
}

/// What the build at `path` says of itself, if it can run beside this program.
fn ask(path: &Path) -> Result<About, BuildError> {
    let about = about(path)?;
    if about.protocol != PROTOCOL {
        let commit = about.tool.commit.as_deref().map_or(String::new(), |commit| format!(" ({commit})"));
        let version = format!("{PROGRAM} {}{commit}", about.tool.version);
        return Err(BuildError::Unlike { path: path.to_owned(), version, theirs: about.protocol });
    }
    Ok(about)
}

/// What the build at `path` says of itself.
fn about(path: &Path) -> Result<About, BuildError> {
    let unknown = |why: String| BuildError::Unknown { path: path.to_owned(), why };
    let text = answer(path).map_err(unknown)?;
    let about: About =
        serde_json::from_str(&text).map_err(|_| unknown("answers something else".to_owned()))?;
    if about.program != PROGRAM {
        return Err(unknown(format!("says that it is {}", about.program)));
    }
    Ok(about)
}

/// What `path node --about` prints, or what became of it.
fn answer(path: &Path) -> Result<String, String> {
    let mut child = Command::new(path)
        .args(["node", "--about"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("does not start: {error}"))?;
    let mut ended = Err(format!("has not ended after {} s", PATIENCE.as_secs()));
    let looked = clock::found_within(PATIENCE, Duration::from_millis(2), || {
        child.try_wait().map(|status| status.map(|status| ended = Ok(status)).is_some())
    });
    if let Err(error) = looked {
        ended = Err(error.to_string());
    }
    // It is reaped in any case.
    let _ = child.kill();
    let _ = child.wait();
    let status = ended?;
    if !status.success() {
        return Err(format!("ended with {status}"));
    }
    let mut text = String::new();
    if let Some(output) = child.stdout.take() {
        output.take(1 << 16).read_to_string(&mut text).map_err(|error| error.to_string())?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn script(directory: &Path, text: &str) -> PathBuf {
        let path = directory.join("migbench");
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn plan(binary: &Path) -> Plan {
        let base = format!("binary={}", binary.display());
        let base = migbench_scenarios::Assignment::parse(&base).unwrap();
        migbench_scenarios::Suite::find("quick").unwrap().sides(&[base], &[]).unwrap()
    }

    #[test]
    fn each_build_is_asked_once_and_known_by_its_file() {
        let scratch = tempfile::tempdir().unwrap();
        let text = format!(
            r#"echo x >>$0.asked; echo '{{"program":"migbench","protocol":{PROTOCOL},"version":"9","commit":"c0ffee"}}'"#
        );
        let other = script(scratch.path(), &text);
        let own = std::env::current_exe().unwrap();
        let plan = plan(&other);
        let builds = Builds::of(&plan, &own).unwrap();
        let asked = fs::read_to_string(scratch.path().join("migbench.asked")).unwrap();
        assert_eq!(asked, "x\n");
        let listed = builds.list();
        assert_eq!(listed.len(), 2);
        assert_eq!((listed[0].binary.as_str(), listed[1].binary.as_str()), (other.to_str().unwrap(), "own"));
        assert_eq!(
            (listed[0].tool.version.as_str(), listed[0].tool.commit.as_deref()),
            ("9", Some("c0ffee"))
        );
        assert_eq!(listed[0].blake3, blake3::hash(&fs::read(&other).unwrap()).to_hex().to_string());
        let [base, new] = [0, 1].map(|row| &plan.comparisons[0].cells[row].cell);
        assert_eq!(builds.program(base).unwrap(), fs::canonicalize(&other).unwrap());
        assert_eq!(builds.program(new).unwrap(), fs::canonicalize(&own).unwrap());

        script(scratch.path(), "echo a build of another hour");
        let error = builds.program(base).unwrap_err().to_string();
        assert!(error.contains("was replaced while it was measured"), "{error}");
    }

    #[test]
    fn builds_of_another_language_or_of_none_are_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let refused = |text: &str| {
            let path = script(scratch.path(), text);
            Builds::of(&plan(&path), Path::new("/proc/self/exe")).unwrap_err()
        };
        let unlike = refused("echo '{\"program\":\"migbench\",\"protocol\":999,\"version\":\"9\"}'");
        assert!(unlike.is_incomparable() && unlike.to_string().contains("speaks protocol 999"), "{unlike}");
        // Which of them it is can still be seen.
        let base = described(&scratch.path().join("migbench")).unwrap();
        assert_eq!((base.protocol, base.tool.version.as_str()), (999, "9"));
        for (text, why) in [
            ("exit 7", "ended with exit status: 7"),
            ("echo hello", "answers something else"),
            ("echo '{\"program\":\"qemu\",\"protocol\":1,\"version\":\"9\"}'", "says that it is qemu"),
        ] {
            let error = refused(text);
            assert!(!error.is_incomparable() && error.to_string().contains(why), "{error}");
        }
        let missing = Builds::of(&plan(Path::new("/nowhere/migbench")), Path::new("/proc/self/exe"));
        assert!(missing.unwrap_err().to_string().contains("/nowhere/migbench"));
    }
}

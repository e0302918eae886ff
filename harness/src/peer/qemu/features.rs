//! Which QEMU is here and what it can do: asked of the program itself, since capabilities differ between versions.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use migbench_scenarios::cell::{Backing, Cell};
use migbench_scenarios::qemu::{QemuMode, QemuSettings};
use serde_json::{Value, json};

use super::arguments;
use super::explain;
use super::process::Process;
use super::qmp::{Qmp, QmpError};
use crate::peer::PeerError;
use crate::sys::memory::leave_open;

/// What a QEMU says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Features {
    /// Its version, and its distributor's word for it.
    pub version: String,
    /// The names of its capabilities for migration.
    capabilities: BTreeSet<String>,
    /// The names of the machines that it has; empty where it was not asked.
    machines: BTreeSet<String>,
    /// Whether it compresses with Zstandard, which it may have been built without.
    zstd: bool,
}

impl Features {
    /// Asks a running one.
    ///
    /// # Errors
    /// When it does not answer.
    pub(super) fn ask(monitor: &mut Qmp) -> Result<Self, QmpError> {
        let said = monitor.execute("query-version", json!({}))?;
        let number = |name: &str| said["qemu"][name].as_u64().unwrap_or(0);
        let mut version = format!("{}.{}.{}", number("major"), number("minor"), number("micro"));
        if let Some(package) = said["package"].as_str().filter(|package| !package.is_empty()) {
            version = format!("{version} ({package})");
        }
        let capabilities = monitor.execute("query-migrate-capabilities", json!({}))?;
        let capabilities = words(&capabilities, &["capability"]);
        Ok(Self { version, capabilities, machines: BTreeSet::new(), zstd: false })
    }

    /// The same, and what a running one is asked for no more.
    fn ask_all(monitor: &mut Qmp) -> Result<Self, QmpError> {
        let machines = words(&monitor.execute("query-machines", json!({}))?, &["name", "alias"]);
        let zstd = match monitor.execute("migrate-set-parameters", json!({ "multifd-compression": "zstd" })) {
            Ok(_) => true,
            Err(QmpError::Refused { .. }) => false,
            Err(error) => return Err(error),
        };
        Ok(Self { machines, zstd, ..Self::ask(monitor)? })
    }

    /// Of a program, which is started without a machine for that.
    ///
    /// # Errors
    /// What keeps it from answering.
    pub fn of(binary: &Path) -> Result<Self, PeerError> {
        let (ours, theirs) =
            UnixStream::pair().map_err(PeerError::system("make a socket for QEMU's monitor"))?;
        let monitor = leave_open(&theirs).map_err(PeerError::system("leave a descriptor open for QEMU"))?;
        let mut command = Command::new(binary);
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-machine", "none", "-S"]);
        command.args([
            "-chardev",
            &format!("socket,id=monitor,fd={monitor}"),
            "-mon",
            "chardev=monitor,mode=control",
        ]);
        let process = Process::start(command, Backing::Anonymous).map_err(PeerError::system("start QEMU"))?;
        drop(theirs);
        let asked =
            Qmp::new(ours, Duration::from_secs(30)).and_then(|mut monitor| Self::ask_all(&mut monitor));
        asked.map_err(|error| explain(&process, &error))
    }

    /// The first capability that `mode` needs and this one has not.
    #[must_use]
    pub fn missing(&self, mode: QemuMode) -> Option<&'static str> {
        arguments::capabilities(mode).iter().copied().find(|name| !self.capabilities.contains(*name))
    }

    /// What it lacks of what these settings need, to stand after its version.
    fn lacks(&self, qemu: &QemuSettings) -> Option<String> {
        let (mode, machine) = (qemu.mode, qemu.machine.split(',').next().unwrap_or_default());
        if let Some(missing) = self.missing(mode) {
            return Some(format!("has no capability {missing}, which mode {mode} needs"));
        }
        if mode == QemuMode::MultifdZstd && !self.zstd {
            return Some(format!("was built without Zstandard, which mode {mode} needs"));
        }
        (!self.machines.contains(machine)).then(|| format!("has no machine {machine}; see qemu.machine"))
    }

    /// The modes that it has all for, and those that it lacks something for.
    #[must_use]
    pub fn modes(&self) -> (Vec<&'static str>, Vec<&'static str>) {
        let has = |mode| self.lacks(&QemuSettings { mode, ..QemuSettings::default() }).is_none();
        let split: (Vec<_>, Vec<_>) = QemuMode::ALL.iter().partition(|(_, mode)| has(*mode));
        let words =
            |modes: Vec<&(&'static str, QemuMode)>| modes.into_iter().map(|(word, _)| *word).collect();
        (words(split.0), words(split.1))
    }
}

/// Where a program lies: a path, or a name to be looked for where the system looks.
///
/// # Errors
/// With the remedy.
pub fn find(binary: &str) -> Result<PathBuf, String> {
    let runs = |path: &Path| {
        path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    if binary.contains('/') {
        let path = PathBuf::from(binary);
        return if runs(&path) {
            Ok(path)
        } else {
            Err(format!("{binary} is no program that can be run; see qemu.binary"))
        };
    }
    let directories = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&directories).map(|directory| directory.join(binary)).find(|path| runs(path));
    found.ok_or_else(|| {
        format!("{binary} is not installed; install QEMU (Debian: `apt-get install qemu-system-x86`)")
    })
}

/// Whether the cell's QEMU is here and can do what its mode needs.
///
/// # Errors
/// What is missing, with the remedy.
pub fn available(cell: &Cell) -> Result<(), String> {
    /// A suite asks for every cell.
    static KNOWN: Mutex<Vec<(PathBuf, Features)>> = Mutex::new(Vec::new());
    let Some(qemu) = &cell.qemu else { return Ok(()) };
    let binary = find(&qemu.binary)?;
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let features = match known.iter().find(|(path, _)| *path == binary) {
        Some((_, features)) => features.clone(),
        None => {
            let features = Features::of(&binary).map_err(|error| error.to_string())?;
            known.push((binary.clone(), features.clone()));
            features
        }
    };
    match features.lacks(qemu) {
        None => Ok(()),
        Some(lacks) => Err(format!("QEMU {} {lacks}; set qemu.binary to another one", features.version)),
    }
}

/// What a list of objects has under these names.
fn words(list: &Value, names: &[&str]) -> BTreeSet<String> {
    let all = list.as_array().into_iter().flatten();
    all.flat_map(|object| names.iter().filter_map(move |name| object[*name].as_str()))
        .map(str::to_owned)
        .collect()
}

/// The QEMU that is found by the usual name, and the modes that it has.
///
/// # Errors
/// As [`available`].
pub fn found() -> Result<String, String> {
    let features =
        Features::of(&find(&QemuSettings::default().binary)?).map_err(|error| error.to_string())?;
    let (has, lacks) = features.modes();
    let lacks = if lacks.is_empty() { String::new() } else { format!(", not {}", lacks.join(", ")) };
    Ok(format!("QEMU {}: {}{lacks}", features.version, has.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_there_is_named_with_the_remedy() {
        assert!(find("no-such-qemu").unwrap_err().contains("apt-get install qemu-system-x86"));
        assert!(find("/dev/null").unwrap_err().starts_with("/dev/null is no program"));
        assert_eq!(find("/bin/sh").unwrap(), Path::new("/bin/sh"));
        assert!(find("sh").unwrap().ends_with("sh"));
    }

    #[test]
    fn a_program_that_is_no_qemu_is_told_in_its_words() {
        let error = Features::of(Path::new("/bin/false")).unwrap_err().to_string();
        assert_eq!(error, "QEMU ended with status 1");
    }

    #[test]
    fn modes_are_those_whose_capabilities_are_there() {
        let capabilities = ["events", "x-ignore-shared", "xbzrle"].map(str::to_owned).into();
        let machines = ["microvm", "pc"].map(str::to_owned).into();
        let features = Features { version: "1".to_owned(), capabilities, machines, zstd: false };
        assert_eq!(features.modes().0, ["precopy", "xbzrle"]);
        assert_eq!(features.missing(QemuMode::DirtyLimit), Some("dirty-limit"));
        let multifd = Features {
            capabilities: ["events", "x-ignore-shared", "multifd"].map(str::to_owned).into(),
            ..features
        };
        assert_eq!(multifd.modes().0, ["precopy", "multifd"]);
        let with = |mode, machine: &str| {
            let qemu = QemuSettings { mode, machine: machine.to_owned(), ..QemuSettings::default() };
            multifd.lacks(&qemu).unwrap_or_default()
        };
        assert_eq!(with(QemuMode::Multifd, "pc,hpet=off"), "");
        assert!(with(QemuMode::Multifd, "q36").starts_with("has no machine q36;"));
        assert!(with(QemuMode::MultifdZstd, "pc").starts_with("was built without Zstandard"));
    }
}

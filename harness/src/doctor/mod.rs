//! Is this host fit to measure on? [`check`] looks at KVM, userfaultfd, network namespaces and the settings that move
//! results, and says for each what it found and what would put it right. It never changes a setting.

mod kvm;
mod network;
mod peers;
mod settings;
mod uffd;

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

use crate::host::disturbance::Activity;
use crate::host::lock::{HostLock, LockError};
use crate::host::provenance;

/// How bad a finding is, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Runs work, but results suffer, or some cells are skipped.
    Warn,
    /// Nothing can run.
    Fail,
}

impl Level {
    /// The word in both outputs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What would put it right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Check {
    fn new(name: impl Into<String>, level: Level, found: impl Into<String>) -> Self {
        Self { name: name.into(), level, found: found.into(), remedy: None }
    }

    fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

/// Looks at the host whose files lie below `root`: `/`, but in tests. What no file states (userfaultfd, network namespaces)
/// is asked of the running kernel, so only of `/`.
#[must_use]
pub fn check(root: &Path) -> Vec<Check> {
    let mut checks = kvm::checks(&root.join("dev/kvm"));
    if root == Path::new("/") {
        checks.extend(uffd::checks());
        checks.push(network::check());
        checks.extend(peers::checks());
        checks.push(lock());
        checks.extend(settings::checks(root, &provenance::this_host(), &Activity::watch(root)));
    } else {
        checks.extend(settings::checks(root, &provenance::collect(root), &Activity::default()));
    }
    checks
}

/// Whether somebody measures here now. That takes their lock for a moment, and lets go of it.
fn lock() -> Check {
    let name = "host lock";
    match HostLock::take() {
        Ok(_) => Check::new(name, Level::Ok, "nobody else measures here now"),
        Err(LockError::Held { holder }) => {
            Check::new(name, Level::Warn, format!("another migbench measures: {holder}"))
                .remedy("wait for it, as --wait does: two at a time would measure each other")
        }
        Err(error) => Check::new(name, Level::Fail, error.to_string()),
    }
}

/// The level of the worst finding; of none it is [`Level::Ok`].
#[must_use]
pub fn worst(checks: &[Check]) -> Level {
    checks.iter().map(|check| check.level).max().unwrap_or(Level::Ok)
}

/// A line for each finding, its remedy below it, and a last line that counts.
#[must_use]
pub fn render_text(checks: &[Check]) -> String {
    let width = checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for check in checks {
        // Writing to a `String` can't fail.
        let _ = writeln!(text, "{:<4}  {:<width$}  {}", check.level.word(), check.name, check.found);
        if let Some(remedy) = &check.remedy {
            let _ = writeln!(text, "{:<4}  {:<width$}  -> {remedy}", "", "");
        }
    }
    let count = |level| checks.iter().filter(|check| check.level == level).count();
    let _ =
        writeln!(text, "{} ok, {} warn, {} fail", count(Level::Ok), count(Level::Warn), count(Level::Fail));
    text
}

/// `{"worst": "warn", "checks": [{"name", "level", "found", "remedy"?}, ...]}`.
#[must_use]
pub fn render_json(checks: &[Check]) -> String {
    let mut text = format!("{:#}", serde_json::json!({ "worst": worst(checks), "checks": checks }));
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<Check> {
        vec![
            Check::new("kvm", Level::Ok, "/dev/kvm opens"),
            Check::new("free memory", Level::Warn, "900 MiB available").remedy("stop what uses it"),
        ]
    }

    #[test]
    fn text_has_a_line_for_each_finding_and_remedy() {
        let expected = "ok    kvm          /dev/kvm opens\n\
                        warn  free memory  900 MiB available\n\
                        \u{20}                  -> stop what uses it\n\
                        1 ok, 1 warn, 0 fail\n";
        assert_eq!(render_text(&sample()), expected);
        assert_eq!(render_text(&[]), "0 ok, 0 warn, 0 fail\n");
    }

    #[test]
    fn json_has_the_same() {
        let json: serde_json::Value = serde_json::from_str(&render_json(&sample())).expect("JSON");
        assert_eq!(json["worst"], "warn");
        assert_eq!(json["checks"][0]["level"], "ok");
        assert!(json["checks"][0].get("remedy").is_none());
        assert_eq!(json["checks"][1]["remedy"], "stop what uses it");
    }

    #[test]
    fn a_root_without_kvm_fails_and_says_why() {
        let root = tempfile::tempdir().expect("a directory");
        let checks = check(root.path());
        assert_eq!(worst(&checks), Level::Fail);
        assert!(checks[0].found.ends_with("dev/kvm does not exist"), "{}", checks[0].found);
        assert!(checks[0].remedy.as_ref().is_some_and(|remedy| remedy.contains("modprobe")));
        assert!(!checks.iter().any(|check| check.name == "userfaultfd"));
    }

    #[test]
    fn this_host_can_be_checked() {
        let checks = check(Path::new("/"));
        for name in [
            "kvm",
            "userfaultfd",
            "network namespaces",
            "qemu",
            "governor",
            "turbo",
            "SMT",
            "THP",
            "KSM",
            "NUMA balancing",
            "load",
        ] {
            assert!(checks.iter().any(|check| check.name == name), "{name}");
        }
    }
}

//! Whether this process may use userfaultfd on a guest's memory, and with which features.

use nix::errno::Errno;

use super::{Check, Level};
use crate::sys::uffd::{self, Faults};

/// What came of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempt {
    Opened,
    /// The kernel has no userfaultfd at all.
    Absent,
    Denied,
    /// The kernel lacks a feature.
    Unsupported,
    Other(Errno),
}

fn attempt(features: u64) -> Attempt {
    match uffd::open(features) {
        Ok(_) => Attempt::Opened,
        Err(Errno::ENOSYS | Errno::ENOTTY) => Attempt::Absent,
        Err(Errno::EPERM | Errno::EACCES) => Attempt::Denied,
        Err(Errno::EINVAL) => Attempt::Unsupported,
        Err(errno) => Attempt::Other(errno),
    }
}

/// Whether it opens, and the trackers that build on it.
pub(super) fn checks() -> Vec<Check> {
    let plain = attempt(0);
    let mut checks = vec![describe("userfaultfd", plain, "")];
    if plain == Attempt::Opened {
        checks.push(describe(
            "tracker: userfaultfd write-protect",
            attempt(Faults::Wait.features()),
            "use Linux 6.4 or newer",
        ));
        checks.push(describe(
            "tracker: userfaultfd async",
            attempt(Faults::Note.features()),
            "use Linux 6.7 or newer",
        ));
    }
    checks
}

fn describe(name: &str, attempt: Attempt, newer: &str) -> Check {
    match attempt {
        Attempt::Opened => Check::new(name, Level::Ok, "available"),
        Attempt::Absent => Check::new(name, Level::Warn, "not in this kernel: cells that use it are skipped")
            .remedy("use a kernel with CONFIG_USERFAULTFD=y"),
        Attempt::Denied => {
            Check::new(name, Level::Warn, "no rights for faults of KVM: cells that use it are skipped")
                .remedy(
                    "run as root, or give yourself rights on /dev/userfaultfd, or as root \
                 `sysctl vm.unprivileged_userfaultfd=1`",
                )
        }
        Attempt::Unsupported => {
            Check::new(name, Level::Warn, "missing: cells that use it are skipped").remedy(newer)
        }
        Attempt::Other(errno) => {
            Check::new(name, Level::Warn, format!("does not open: {}", errno.desc())).remedy("see `dmesg`")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_feature_is_unsupported_or_nothing_opens() {
        // Bit 63 is no feature of any kernel.
        let attempt = attempt(1 << 63);
        assert_ne!(attempt, Attempt::Opened);
        assert_eq!(describe("userfaultfd", attempt, "newer").level, Level::Warn);
    }

    #[test]
    fn every_warning_has_a_remedy() {
        for attempt in [Attempt::Absent, Attempt::Denied, Attempt::Unsupported, Attempt::Other(Errno::EMFILE)]
        {
            assert!(describe("x", attempt, "newer").remedy.is_some(), "{attempt:?}");
        }
    }
}

//! Whether this process may use userfaultfd on a guest's memory, and with which features.

use nix::errno::Errno;
use userfaultfd::{Error, FeatureFlags, UffdBuilder};

use super::{Check, Level};

/// Features by the kernel's numbers, since the crate names the older ones only.
const WRITE_PROTECT: u64 = 1 << 0;
const WP_HUGETLBFS_SHMEM: u64 = 1 << 12;
const WP_UNPOPULATED: u64 = 1 << 13;
const WP_ASYNC: u64 = 1 << 15;

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

/// `user_mode_only` must be off: with it, a guest's write to protected memory ends `KVM_RUN` with EFAULT.
fn attempt(features: u64) -> Attempt {
    let opened = UffdBuilder::new()
        .close_on_exec(true)
        .user_mode_only(false)
        .require_features(FeatureFlags::from_bits_retain(features))
        .create();
    // The crate has a `nix` of its own, so that its errno passes as a number.
    let errno = match opened {
        Ok(_) => return Attempt::Opened,
        Err(Error::OpenDevUserfaultfd(error)) => Errno::from_raw(error.raw_os_error().unwrap_or_default()),
        Err(Error::SystemError(errno)) => Errno::from_raw(errno as i32),
        Err(_) => Errno::UnknownErrno,
    };
    match errno {
        Errno::ENOSYS => Attempt::Absent,
        Errno::EPERM | Errno::EACCES => Attempt::Denied,
        Errno::EINVAL => Attempt::Unsupported,
        errno => Attempt::Other(errno),
    }
}

/// Whether it opens, and the trackers that build on it.
pub(super) fn checks() -> Vec<Check> {
    let plain = attempt(0);
    let mut checks = vec![describe("userfaultfd", plain, "")];
    if plain == Attempt::Opened {
        checks.push(describe(
            "tracker: userfaultfd write-protect",
            attempt(WRITE_PROTECT | WP_HUGETLBFS_SHMEM | WP_UNPOPULATED),
            "use Linux 6.4 or newer",
        ));
        checks.push(describe(
            "tracker: userfaultfd async",
            attempt(WRITE_PROTECT | WP_HUGETLBFS_SHMEM | WP_UNPOPULATED | WP_ASYNC),
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

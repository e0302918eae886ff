//! Whether this host can do a tracker, asked before any guest starts.

use std::path::Path;

use kvm_ioctls::Kvm;
use migbench_scenarios::cell::{Backing, Tracker, TrackerSettings};
use nix::errno::Errno;

use crate::host::kvm::open_kvm;
use crate::sys::kvm::Logging;
use crate::sys::pagemap::{PageRange, Pagemap};
use crate::sys::ram;
use crate::sys::uffd::{self, Faults, WriteProtection};
use crate::vm::logging;

/// A tracker that this host cannot do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the tracker {tracker} is not available here: {}", self.reason())]
pub struct Unavailable {
    /// Which.
    pub tracker: Tracker,
    /// The capability that is not there.
    pub missing: String,
    /// What would provide it.
    pub remedy: &'static str,
}

impl Unavailable {
    /// A phrase that follows "not available here:".
    #[must_use]
    pub fn reason(&self) -> String {
        format!("{}; {}", self.missing, self.remedy)
    }
}

/// Refuses a tracker that this host, or this user of it, cannot do on memory of `backing` as `settings` want it.
///
/// # Errors
/// See [`Unavailable`].
pub fn available(tracker: Tracker, settings: &TrackerSettings, backing: Backing) -> Result<(), Unavailable> {
    let outcome = match tracker {
        Tracker::KvmBitmap | Tracker::KvmManual | Tracker::KvmRing => match open_kvm(Path::new("/dev/kvm")) {
            Ok(kvm) => kvm_logs(&kvm, logging(tracker, settings)),
            Err(error) => Err((error.found(), error.remedy())),
        },
        Tracker::UffdWp => write_protects(Faults::Wait).and_then(|()| works_on(backing, Faults::Wait)),
        Tracker::UffdAsync => {
            write_protects(Faults::Note).and_then(|()| scans()).and_then(|()| works_on(backing, Faults::Note))
        }
    };
    outcome.map_err(|(missing, remedy)| Unavailable { tracker, missing, remedy })
}

/// What is missing, and what would provide it.
type Lack = (String, &'static str);

fn kvm_logs(kvm: &Kvm, logging: Logging) -> Result<(), Lack> {
    let Some((number, argument)) = logging.capability() else { return Ok(()) };
    let offered = u64::try_from(kvm.check_extension_raw(number.into())).unwrap_or(0);
    match logging {
        Logging::Bitmap => {}
        Logging::Manual { initially_set } => {
            if offered == 0 {
                return Err(("KVM lacks KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2".into(), "use Linux 5.1 or newer"));
            }
            if initially_set && offered & argument != argument {
                let remedy = "use Linux 5.7 or newer, or tracker_settings.initially_set = false";
                return Err(("KVM lacks KVM_DIRTY_LOG_INITIALLY_SET".into(), remedy));
            }
        }
        Logging::Ring { entries, acquire } => {
            if offered == 0 && acquire {
                let remedy = "use Linux 6.1 or newer, or tracker_settings.ring_acquire = false";
                return Err(("KVM lacks KVM_CAP_DIRTY_LOG_RING_ACQ_REL".into(), remedy));
            }
            if offered == 0 {
                let remedy = "use Linux 5.11 or newer, or tracker_settings.ring_acquire = true";
                return Err(("KVM lacks KVM_CAP_DIRTY_LOG_RING".into(), remedy));
            }
            if argument > offered {
                let missing = format!("KVM's dirty ring has at most {} entries, not {entries}", offered / 16);
                return Err((missing, "lower tracker_settings.ring_entries"));
            }
        }
    }
    // Only KVM knows how many entries it keeps back for itself (more where the CPU logs in hardware).
    let tried = kvm.create_vm().map_err(std::io::Error::from).and_then(|vm| logging.enable(&vm));
    tried.map_err(|error| match logging {
        Logging::Ring { entries, .. } => (
            format!("KVM refuses a dirty ring of {entries} entries ({error})"),
            "raise tracker_settings.ring_entries; a CPU that logs in hardware needs 1024 at least",
        ),
        _ => (format!("KVM refuses to log in this way ({error})"), "see `dmesg`"),
    })
}

fn write_protects(faults: Faults) -> Result<(), Lack> {
    let newer = match faults {
        Faults::Wait => "use Linux 6.4 or newer",
        Faults::Note => "use Linux 6.7 or newer",
    };
    uffd::open(faults.features()).map(drop).map_err(|errno| match errno {
        Errno::ENOSYS | Errno::ENOTTY => {
            ("this kernel has no userfaultfd".into(), "use a kernel with CONFIG_USERFAULTFD=y")
        }
        Errno::EPERM | Errno::EACCES => (
            "no rights to a userfaultfd for faults of KVM".into(),
            "run as root, or give yourself rights on /dev/userfaultfd, or as root `sysctl \
             vm.unprivileged_userfaultfd=1`",
        ),
        Errno::EINVAL => {
            let what = match faults {
                Faults::Wait => "write-protection of untouched memory (WP_UNPOPULATED)",
                Faults::Note => "asynchronous write-protection (WP_ASYNC)",
            };
            (format!("userfaultfd lacks {what}"), newer)
        }
        errno => (format!("userfaultfd does not open: {}", errno.desc()), "see `dmesg`"),
    })
}

fn scans() -> Result<(), Lack> {
    Pagemap::open()
        .and_then(|pagemap| pagemap.probe())
        .map_err(|error| (format!("no PAGEMAP_SCAN ({error})"), "use Linux 6.7 or newer, with /proc mounted"))
}

/// Tries it on a little memory of that kind: which combinations a kernel protects stands in no list of features.
fn works_on(backing: Backing, faults: Faults) -> Result<(), Lack> {
    // Memory that cannot be had is another refusal's business.
    let Ok((region, _mapping)) = ram::map(ram::GRANULE, backing) else { return Ok(()) };
    let start = region.as_ptr() as u64;
    let end = start + ram::GRANULE;
    let tried = WriteProtection::new(faults, vec![(start, end)]).and_then(|protection| {
        if faults == Faults::Note {
            Pagemap::open()?.take_written(start, end, &mut [PageRange::default(); 1])?;
        }
        protection.protect(start, end)?;
        protection.lift(start, end)
    });
    tried.map_err(|error| {
        let what = match faults {
            Faults::Wait => "write-protect",
            Faults::Note => "write-protect and scan",
        };
        (
            format!("userfaultfd cannot {what} {backing} memory ({error})"),
            "use another backing or a newer Linux",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_what_is_missing_and_what_would_provide_it() {
        let lack = Unavailable {
            tracker: Tracker::UffdAsync,
            missing: "userfaultfd lacks asynchronous write-protection (WP_ASYNC)".into(),
            remedy: "use Linux 6.7 or newer",
        };
        assert_eq!(
            lack.to_string(),
            "the tracker uffd-async is not available here: userfaultfd lacks asynchronous write-protection \
             (WP_ASYNC); use Linux 6.7 or newer"
        );
    }

    #[test]
    fn a_ring_of_an_impossible_size_is_refused_by_name() {
        let Ok(kvm) = open_kvm(Path::new("/dev/kvm")) else {
            eprintln!("skipped: no KVM");
            return;
        };
        for acquire in [true, false] {
            let (missing, remedy) = kvm_logs(&kvm, Logging::Ring { entries: 1 << 24, acquire }).unwrap_err();
            assert!(missing.contains("ring") || missing.contains("RING"), "{missing}");
            assert!(remedy.contains("tracker_settings"), "{remedy}");
        }
    }
}

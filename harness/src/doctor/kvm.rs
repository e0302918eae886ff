//! What the kernel behind `/dev/kvm` can do.

use std::path::Path;

use kvm_bindings::KVM_API_VERSION;
use kvm_ioctls::Cap;

use super::{Check, Level};
use crate::host::kvm::open_kvm;

/// Capabilities that guests and their state need.
const NEEDED: [(Cap, &str); 8] = [
    (Cap::UserMemory, "user memory"),
    (Cap::ImmediateExit, "immediate exit"),
    (Cap::Xsave, "xsave"),
    (Cap::Xcrs, "xcrs"),
    (Cap::VcpuEvents, "vCPU events"),
    (Cap::Debugregs, "debug registers"),
    (Cap::MpState, "MP state"),
    (Cap::GetTscKhz, "TSC frequency"),
];

/// `KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2`, not in [`Cap`].
const MANUAL_PROTECT: u64 = 168;
/// `KVM_CAP_DIRTY_LOG_RING_ACQ_REL`, not in [`Cap`].
const DIRTY_RING_ACQ_REL: u64 = 223;

/// Whether KVM opens, and what it can do.
pub(super) fn checks(path: &Path) -> Vec<Check> {
    let kvm = match open_kvm(path) {
        Ok(kvm) => kvm,
        Err(error) => return vec![Check::new("kvm", Level::Fail, error.found()).remedy(error.remedy())],
    };
    let mut checks = vec![Check::new(
        "kvm",
        Level::Ok,
        format!("{} opens, API version {KVM_API_VERSION}", path.display()),
    )];
    let missing: Vec<_> =
        NEEDED.iter().filter(|(cap, _)| !kvm.check_extension(*cap)).map(|(_, name)| *name).collect();
    checks.push(capabilities(&missing));
    // Without it the state is read in the older form, which has no room for AMX.
    let xsave = kvm.check_extension_int(Cap::Xsave2);
    checks.push(if xsave > 0 {
        Check::new("kvm xsave2", Level::Ok, format!("{xsave} bytes of vector state"))
    } else {
        Check::new("kvm xsave2", Level::Warn, "missing: vector state over 4096 bytes is not carried")
            .remedy("use Linux 5.17 or newer")
    });
    checks.push(tracker(
        "manual clear of the dirty bitmap",
        kvm.check_extension_raw(MANUAL_PROTECT) > 0,
        "available",
        "use Linux 5.1 or newer",
    ));
    let ring = kvm.check_extension_int(Cap::DirtyLogRing).max(kvm.check_extension_raw(DIRTY_RING_ACQ_REL));
    checks.push(tracker(
        "dirty ring",
        ring > 0,
        &format!("available, at most {ring} bytes for each vCPU"),
        "use Linux 5.11 or newer",
    ));
    checks
}

fn capabilities(missing: &[&str]) -> Check {
    if missing.is_empty() {
        Check::new("kvm capabilities", Level::Ok, "all that guests need")
    } else {
        Check::new("kvm capabilities", Level::Fail, format!("missing: {}", missing.join(", ")))
            .remedy("use Linux 4.13 or newer")
    }
}

/// A dirty tracker that only some cells need.
fn tracker(name: &str, available: bool, found: &str, remedy: &str) -> Check {
    let name = format!("tracker: {name}");
    if available {
        Check::new(name, Level::Ok, found)
    } else {
        Check::new(name, Level::Warn, "missing: cells that use it are skipped").remedy(remedy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_does_not_open_is_one_failed_check() {
        let [check] = &checks(Path::new("/nowhere/kvm"))[..] else { panic!("one check") };
        assert_eq!(check.level, Level::Fail);
    }

    #[test]
    fn missing_capabilities_are_named() {
        let check = capabilities(&["xcrs", "MP state"]);
        assert_eq!((check.level, check.found.as_str()), (Level::Fail, "missing: xcrs, MP state"));
        assert_eq!(capabilities(&[]).level, Level::Ok);
    }
}

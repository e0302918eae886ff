//! What the kernel behind `/dev/kvm` can do.

use std::path::Path;

use kvm_bindings::{
    KVM_API_VERSION, KVM_CAP_DEBUGREGS, KVM_CAP_DIRTY_LOG_RING_ACQ_REL, KVM_CAP_EXCEPTION_PAYLOAD,
    KVM_CAP_GET_TSC_KHZ, KVM_CAP_IMMEDIATE_EXIT, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, KVM_CAP_MP_STATE,
    KVM_CAP_USER_MEMORY, KVM_CAP_VCPU_EVENTS, KVM_CAP_XCRS, KVM_CAP_XSAVE,
};
use kvm_ioctls::Cap;

use super::{Check, Level};
use crate::host::kvm::open_kvm;
use crate::vm::model::{Carried, carry_fresh};
use crate::vm::state::StateError;

/// Capabilities that guests and their state need.
const NEEDED: [(u32, &str); 9] = [
    (KVM_CAP_USER_MEMORY, "user memory"),
    (KVM_CAP_IMMEDIATE_EXIT, "immediate exit"),
    (KVM_CAP_XSAVE, "xsave"),
    (KVM_CAP_XCRS, "xcrs"),
    (KVM_CAP_VCPU_EVENTS, "vCPU events"),
    (KVM_CAP_DEBUGREGS, "debug registers"),
    (KVM_CAP_MP_STATE, "MP state"),
    (KVM_CAP_GET_TSC_KHZ, "TSC frequency"),
    (KVM_CAP_EXCEPTION_PAYLOAD, "exception payload"),
];

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
    let lacks = |cap: u32| kvm.check_extension_raw(cap.into()) <= 0;
    let missing: Vec<_> = NEEDED.iter().filter(|(cap, _)| lacks(*cap)).map(|(_, name)| *name).collect();
    checks.push(capabilities(&missing));
    checks.extend(vcpu_state(carry_fresh(&kvm)));
    checks.push(tracker(
        "manual clear of the dirty bitmap",
        !lacks(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2),
        "available",
        "use Linux 5.1 or newer",
    ));
    let ring = kvm
        .check_extension_int(Cap::DirtyLogRing)
        .max(kvm.check_extension_raw(KVM_CAP_DIRTY_LOG_RING_ACQ_REL.into()));
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
            .remedy("use Linux 4.20 or newer")
    }
}

/// Whether the state of a vCPU arrives whole, which every verification run asks of it, and its clock with it.
fn vcpu_state(carried: Result<Carried, StateError>) -> Vec<Check> {
    let carried = match carried {
        Ok(carried) => carried,
        Err(error) => {
            let check = Check::new("kvm vCPU state", Level::Fail, format!("not carried whole: {error}"));
            return vec![check.remedy("use another kernel, and report this line together with its version")];
        }
    };
    let Carried { msrs, moving, xsave, tsc_offset } = carried;
    let mut found = format!("{msrs} MSRs and {xsave} bytes of vector registers read back at another vCPU");
    if !moving.is_empty() {
        let moving: Vec<_> = moving.iter().map(|index| format!("{index:#x}")).collect();
        found += &format!("; not compared, since they move by themselves: MSRs {}", moving.join(", "));
    }
    let clock = Check::new("kvm clock", Level::Ok, "the offset of a guest's TSC is carried");
    let no_clock = Check::new(
        "kvm clock",
        Level::Warn,
        "the offset of a guest's TSC is not carried: its clock starts anew, and `blackout` comes from the host's samples",
    );
    let clock = if tsc_offset { clock } else { no_clock.remedy("use Linux 5.16 or newer") };
    vec![Check::new("kvm vCPU state", Level::Ok, found), clock]
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

    #[test]
    fn what_is_carried_of_a_vcpu_is_reported() {
        let carried = |moving, tsc_offset| Carried { msrs: 22, moving, xsave: 4096, tsc_offset };
        let [state, clock] = &vcpu_state(Ok(carried(vec![0x3, 0x7777], true)))[..] else {
            panic!("two checks")
        };
        assert_eq!((state.level, clock.level), (Level::Ok, Level::Ok));
        assert_eq!(
            state.found,
            "22 MSRs and 4096 bytes of vector registers read back at another vCPU; not compared, since they move by \
             themselves: MSRs 0x3, 0x7777"
        );
        let [state, clock] = &vcpu_state(Ok(carried(vec![], false)))[..] else { panic!("two checks") };
        assert!(state.found.ends_with("at another vCPU"), "{}", state.found);
        assert_eq!((clock.level, clock.remedy.as_deref()), (Level::Warn, Some("use Linux 5.16 or newer")));
        let [state] = &vcpu_state(Err(StateError::Differs("XCR0")))[..] else { panic!("one check") };
        assert_eq!((state.level, state.found.contains("XCR0")), (Level::Fail, true));
    }
}

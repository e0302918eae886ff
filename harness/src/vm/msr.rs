//! Which MSRs are a guest's state. KVM's list (`KVM_GET_MSR_INDEX_LIST`) says what can be read and written, not what
//! belongs to the guest: it holds clocks that move by themselves, interfaces of hypervisors and performance counters that
//! the guest's [CPUID](super::cpuid) does not have, and features of the CPU. On a host with all of them it has over a hundred
//! entries, each of which would be read in the paused window.

use std::collections::BTreeSet;
use std::time::Duration;

use kvm_bindings::{Msrs, kvm_msr_entry};
use kvm_ioctls::{Cap, Kvm, VcpuFd};

use super::state::{StateError, to};

/// Whether an MSR is known by its index to be no state of the guest. Names are those of the kernel's `msr-index.h`,
/// `hyperv-tlfs.h` and `kvm_para.h`; KVM's list is made of `msrs_to_save_base`, `msrs_to_save_pmu` and `emulated_msrs_all`
/// in `arch/x86/kvm/x86.c`.
#[must_use]
pub const fn left_out(index: u32) -> bool {
    match index {
        // IA32_TSC: the offset is restored, since the value would hide the pause (Documentation/virt/kvm/devices/vcpu.rst).
        0x10
        // MPERF and APERF count while the CPU runs, whoever runs on it.
        | 0xe7 | 0xe8
        // IA32_TSC_DEADLINE: without a local APIC in the kernel it reads as 0 and writes are dropped (lapic.c).
        | 0x6e0
        // Of Hyper-V's interface TIME_REF_COUNT and VP_RUNTIME move and drop what the host writes, and writing VP_INDEX
        // switches the emulation on (hyperv.c).
        | 0x4000_0000..=0x4000_01ff
        // KVM's own interface: writing WALL_CLOCK has the host write to the guest's memory (x86.c).
        | 0x11 | 0x12 | 0x4b56_4d00..=0x4b56_4dff
        // Intel's performance counters and what controls them, PEBS and the debug store.
        | 0xc1..=0xc8 | 0x186..=0x18d | 0x309..=0x318 | 0x38d..=0x390 | 0x3f1 | 0x3f2 | 0x4c1..=0x4c8 | 0x600
        // AMD's: version 2, K7, family 15h.
        | 0xc000_0300..=0xc000_0303 | 0xc001_0000..=0xc001_0007 | 0xc001_0200..=0xc001_020b => true,
        _ => false,
    }
}

/// The MSRs of a vCPU's state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateMsrs {
    /// What is saved and restored, in ascending order. The order of writing does not matter: each of these holds a value of
    /// its own. Those that KVM wants in an order are left out (the TSC before its deadline, the interrupt of asynchronous
    /// page faults before these, counters before their global control), or belong to what CPUID does not have.
    pub restored: Vec<u32>,
    /// Those of them that move by themselves, so that what was restored can't be compared with what is read after it.
    pub moving: Vec<u32>,
}

impl StateMsrs {
    /// Those of guests on this host, tried on a vCPU that has never run.
    ///
    /// # Errors
    /// When KVM does not report its lists.
    pub fn of(kvm: &Kvm, fresh: &VcpuFd) -> Result<Self, StateError> {
        let listed = kvm.get_msr_index_list().map_err(to("list MSRs"))?;
        let (read, write) = (|index| read(fresh, index), |index, value| write(fresh, index, value));
        Ok(Self::choose(listed.as_slice(), &features(kvm)?, read, write))
    }

    /// Chooses from `listed`, KVM's list. `features` are MSRs that say what the CPU is: two hosts must agree on them, and a
    /// guest never changes them. What is neither known nor a feature is tried with `read` and `write` on a vCPU that has
    /// never run, so that an MSR that a later kernel adds is restored, and compared if it stands still.
    #[must_use]
    pub fn choose(
        listed: &[u32],
        features: &[u32],
        read: impl Fn(u32) -> Option<u64>,
        write: impl Fn(u32, u64) -> bool,
    ) -> Self {
        let candidates: BTreeSet<u32> =
            listed.iter().copied().filter(|i| !left_out(*i) && !features.contains(i)).collect();
        let first: Vec<_> = candidates.into_iter().filter_map(|i| Some((i, read(i)?))).collect();
        // Also a clock of milliseconds moves in this time.
        std::thread::sleep(Duration::from_millis(2));
        let mut chosen = Self::default();
        for (index, before) in first {
            let Some(now) = read(index).filter(|&now| write(index, now)) else { continue };
            chosen.restored.push(index);
            if before != now {
                chosen.moving.push(index);
            }
        }
        chosen
    }
}

/// MSRs that say what a CPU is, as CPUID does. Linux before 4.17 has no such list.
///
/// # Errors
/// When KVM does not report them.
pub fn features(kvm: &Kvm) -> Result<Vec<u32>, StateError> {
    if !kvm.check_extension(Cap::GetMsrFeatures) {
        return Ok(Vec::new());
    }
    Ok(kvm.get_msr_feature_index_list().map_err(to("list MSRs of features"))?.as_slice().to_vec())
}

/// An MSR of a vCPU, if it can be read.
#[must_use]
pub fn read(vcpu: &VcpuFd, index: u32) -> Option<u64> {
    let mut one = Msrs::from_entries(&[kvm_msr_entry { index, ..Default::default() }]).ok()?;
    let done = vcpu.get_msrs(&mut one).ok()?;
    one.as_slice().first().filter(|_| done == 1).map(|entry| entry.data)
}

fn write(vcpu: &VcpuFd, index: u32, data: u64) -> bool {
    Msrs::from_entries(&[kvm_msr_entry { index, data, ..Default::default() }])
        .is_ok_and(|one| vcpu.set_msrs(&one).is_ok_and(|done| done == 1))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// `KVM_GET_MSR_INDEX_LIST` of Linux 6.1 with SVM and Hyper-V's interface.
    const SVM: [u32; 93] = [
        0x174, 0x175, 0x176, 0xc0000081, 0xc0000083, 0xc0000102, 0xc0000084, 0xc0000082, 0x10, 0x277,
        0xc0010117, 0x3a, 0xc0000103, 0x48, 0x309, 0x30a, 0x30b, 0x38d, 0x38e, 0x38f, 0x390, 0x3f1, 0x600,
        0x3f2, 0xc0010000, 0xc0010001, 0xc0010002, 0xc0010003, 0xc0010004, 0xc0010005, 0xc0010006,
        0xc0010007, 0xc0010200, 0xc0010202, 0xc0010204, 0xc0010206, 0xc0010208, 0xc001020a, 0xc0010201,
        0xc0010203, 0xc0010205, 0xc0010207, 0xc0010209, 0xc001020b, 0x12, 0x11, 0x4b564d01, 0x4b564d00,
        0x40000000, 0x40000001, 0x40000020, 0x40000021, 0x40000022, 0x40000023, 0x40000100, 0x40000101,
        0x40000102, 0x40000103, 0x40000104, 0x40000105, 0x40000003, 0x40000002, 0x40000010, 0x40000080,
        0x400000b0, 0x40000073, 0x40000106, 0x40000107, 0x40000108, 0x400000ff, 0x400000f1, 0x400000f2,
        0x400000f3, 0x400000f4, 0x400000f5, 0x4b564d02, 0x4b564d03, 0x4b564d04, 0x4b564d06, 0x4b564d07, 0x3b,
        0x6e0, 0x10a, 0x345, 0x1a0, 0x17a, 0x17b, 0x9e, 0x34, 0xce, 0x140, 0xc001011f, 0xc0000104,
    ];

    #[test]
    fn of_an_ordinary_hosts_list_the_guests_state_remains() {
        let features = [0xc0011029, 0x8b, 0x10a, 0x345, 0xce];
        let read = |index| {
            assert!(!(0x4000_0000..0x4000_0200).contains(&index), "{index:#x} is never touched");
            Some(0)
        };
        let chosen = StateMsrs::choose(&SVM, &features, read, |_, _| true);
        let expected = [
            0x34, 0x3a, 0x3b, 0x48, 0x9e, 0x140, 0x174, 0x175, 0x176, 0x17a, 0x17b, 0x1a0, 0x277, 0xc0000081,
            0xc0000082, 0xc0000083, 0xc0000084, 0xc0000102, 0xc0000103, 0xc0000104, 0xc0010117, 0xc001011f,
        ];
        assert_eq!((&chosen.restored[..], &chosen.moving[..]), (&expected[..], &[][..]));
    }

    #[test]
    fn what_no_name_knows_is_tried() {
        let clock = Cell::new(0);
        let read = |index| match index {
            3 => Some(clock.replace(clock.get() + 1)),
            5 | 7 => Some(70),
            8 => None,
            _ => panic!("{index} was read"),
        };
        let write = |index, value| (index, value) != (5, 70);
        let chosen = StateMsrs::choose(&[7, 3, 9, 5, 8, 3, 0x10], &[9], read, write);
        assert_eq!(chosen, StateMsrs { restored: vec![3, 7], moving: vec![3] });
    }

    #[test]
    fn clocks_and_interfaces_are_known_and_registers_are_not() {
        for index in [0x10, 0x11, 0x12, 0x6e0, 0x40000010, 0x40000020, 0x40000118, 0x4b564d03, 0x4b564d08] {
            assert!(left_out(index), "{index:#x}");
        }
        // TSC_ADJUST, SYSENTER_EIP, PAT, XSS, EFER, STAR, KERNEL_GS_BASE, TSC_AUX.
        for index in [0x3b, 0x176, 0x277, 0xda0, 0xc0000080, 0xc0000081, 0xc0000102, 0xc0000103] {
            assert!(!left_out(index), "{index:#x}");
        }
    }
}

//! What a guest is offered of its CPU: of what KVM supports, the leaves that the guest image and KVM itself go by, without
//! features whose state is not carried to the destination, and without what depends on the CPU that happened to be asked
//! (`KVM_GET_SUPPORTED_CPUID` passes on what CPUID says there: Documentation/virt/kvm/api.rst).

use std::fmt;

use kvm_bindings::{KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};
use serde::{Deserialize, Serialize};

/// Components of XCR0 that a guest may turn on: x87, SSE, AVX and the three of AVX-512, which the boot stub asks for. Left out
/// are MPX (3, 4), PKRU (9), AMX (17, 18) and APX (19). AMX is why XSAVE's area may exceed 4096 bytes, and needs the
/// kernel's permission (Documentation/arch/x86/xstate.rst).
const COMPONENTS: u32 = 0xe7;

/// In leaf 1, bits of ECX: MONITOR, VMX, PDCM, X2APIC, TSC_DEADLINE.
const LEAF_1_ECX: u32 = 1 << 3 | 1 << 5 | 1 << 15 | 1 << 21 | 1 << 24;
/// In leaf 1, of EBX: what stays is the size of a cache line; APIC id and number of threads are those of the CPU asked.
const LEAF_1_EBX: u32 = 0xff00;
/// In leaf 7, bits of EBX: SGX, MPX, PT.
const LEAF_7_EBX: u32 = 1 << 2 | 1 << 14 | 1 << 25;
/// In leaf 7, bits of ECX: PKU, OSPKE, SHSTK, SGX_LC, PKS.
const LEAF_7_ECX: u32 = 1 << 3 | 1 << 4 | 1 << 7 | 1 << 30 | 1 << 31;
/// In leaf 7, bits of EDX: UINTR, ARCH_LBR, IBT, AMX_BF16, AMX_TILE, AMX_INT8.
const LEAF_7_EDX: u32 = 1 << 5 | 1 << 19 | 1 << 20 | 1 << 22 | 1 << 24 | 1 << 25;
/// In leaf 0x8000_0001, bits of ECX: SVM, IBS, LWP, PERFCTR_CORE, PERFCTR_NB.
const LEAF_8000_0001_ECX: u32 = 1 << 2 | 1 << 10 | 1 << 15 | 1 << 23 | 1 << 24;

/// The CPUID of a guest's vCPU number `index` on a host that supports `supported`. Nothing but the APIC id differs between
/// vCPUs.
#[must_use]
pub fn of_guest(supported: &[kvm_cpuid_entry2], index: u32) -> Vec<kvm_cpuid_entry2> {
    supported.iter().filter_map(|entry| leaf_of_guest(*entry, index)).collect()
}

fn leaf_of_guest(mut entry: kvm_cpuid_entry2, index: u32) -> Option<kvm_cpuid_entry2> {
    match (entry.function, entry.index) {
        (0, _) => entry.eax = entry.eax.min(0xd),
        (1, _) => {
            entry.ebx = entry.ebx & LEAF_1_EBX | index << 24;
            entry.ecx &= !LEAF_1_ECX;
        }
        (7, 0) => {
            entry.eax = 0;
            entry.ebx &= !LEAF_7_EBX;
            entry.ecx &= !LEAF_7_ECX;
            entry.edx &= !LEAF_7_EDX;
        }
        (0xd, 0) => (entry.eax, entry.edx) = (entry.eax & COMPONENTS, 0),
        // Components that only the supervisor saves.
        (0xd, 1) => (entry.ecx, entry.edx) = (0, 0),
        (0xd, component @ 2..=31) if COMPONENTS & 1 << component != 0 => {}
        (0x8000_0000, _) => entry.eax = entry.eax.min(0x8000_0008),
        (0x8000_0001, _) => entry.ecx &= !LEAF_8000_0001_ECX,
        (0x8000_0007, _) => {}
        // Number of cores and of bits in an APIC id.
        (0x8000_0008, _) => entry.ecx = 0,
        _ => return None,
    }
    Some(entry)
}

/// What a vCPU answers to one question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaf {
    function: u32,
    /// Where the answer depends on ECX.
    index: Option<u32>,
    /// EAX, EBX, ECX and EDX.
    registers: [u32; 4],
}

impl From<&kvm_cpuid_entry2> for Leaf {
    fn from(entry: &kvm_cpuid_entry2) -> Self {
        let indexed = entry.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX != 0;
        Self {
            function: entry.function,
            index: indexed.then_some(entry.index),
            registers: [entry.eax, entry.ebx, entry.ecx, entry.edx],
        }
    }
}

impl fmt::Display for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CPUID leaf {:#x}", self.function)?;
        self.index.map_or(Ok(()), |index| write!(f, ".{index}"))
    }
}

/// The first difference between the answers of two sides, in words.
#[must_use]
pub fn difference(here: &[Leaf], there: &[Leaf]) -> Option<String> {
    let same = |a: &&Leaf, b: &Leaf| (a.function, a.index) == (b.function, b.index);
    for a in here {
        let Some(b) = there.iter().find(|b| same(b, a)) else {
            return Some(format!("{a} is here and not there"));
        };
        let registers = ["EAX", "EBX", "ECX", "EDX"].iter().zip(a.registers).zip(b.registers);
        for ((register, here), there) in registers {
            if here != there {
                return Some(format!("{register} of {a} is {here:#x} here and {there:#x} there"));
            }
        }
    }
    let extra = there.iter().find(|b| !here.iter().any(|a| same(b, a)))?;
    Some(format!("{extra} is there and not here"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(function: u32, index: u32, [eax, ebx, ecx, edx]: [u32; 4]) -> kvm_cpuid_entry2 {
        let flags =
            if matches!(function, 4 | 7 | 0xb | 0xd | 0x1d) { KVM_CPUID_FLAG_SIGNIFCANT_INDEX } else { 0 };
        kvm_cpuid_entry2 { function, index, flags, eax, ebx, ecx, edx, ..Default::default() }
    }

    /// What KVM would say on a host with VMX, AMX, PT, MPX, PKU and CET, asked on the CPU with that APIC id.
    fn host(apic: u32) -> Vec<kvm_cpuid_entry2> {
        vec![
            entry(0, 0, [0x20, 0x756e_6547, 0x6c65_746e, 0x4965_6e69]),
            entry(1, 0, [0x806f8, apic << 24 | 0x0010_0800, u32::MAX, u32::MAX]),
            entry(2, 0, [1, 0, 0, 0]),
            entry(4, 0, [apic << 26, 0, 0, 0]),
            entry(7, 0, [2, u32::MAX, u32::MAX, u32::MAX]),
            entry(7, 1, [u32::MAX; 4]),
            entry(0xa, 0, [0x0730_0405, 0, 0, 0x0603]),
            entry(0xb, 0, [1, 2, 0x100, apic]),
            entry(0xd, 0, [0x602ff, 0x240, 0x2b00, 0]),
            entry(0xd, 1, [0x1f, 0, 0x1900, 0]),
            entry(0xd, 2, [256, 576, 0, 0]),
            entry(0xd, 5, [64, 1088, 0, 0]),
            entry(0xd, 9, [8, 2688, 0, 0]),
            entry(0xd, 11, [16, 0, 1, 0]),
            entry(0xd, 17, [64, 2752, 0, 0]),
            entry(0xd, 18, [8192, 2816, 6, 0]),
            entry(0x1d, 1, [0, 0, 0, 0]),
            entry(0x1e, 0, [0, 0, 0, 0]),
            entry(0x4000_0000, 0, [0x4000_0001, 0x4b4d_564b, 0x564b_4d56, 0x4d]),
            entry(0x8000_0000, 0, [0x8000_0022, 0, 0, 0]),
            entry(0x8000_0001, 0, [0, 0, u32::MAX, u32::MAX]),
            entry(0x8000_0008, 0, [0x3030, 0, apic, 0]),
            entry(0x8000_001e, 0, [apic, 0, 0, 0]),
        ]
    }

    fn find(entries: &[kvm_cpuid_entry2], function: u32, index: u32) -> kvm_cpuid_entry2 {
        *entries.iter().find(|e| (e.function, e.index) == (function, index)).unwrap()
    }

    #[test]
    fn features_without_carried_state_are_not_offered() {
        let guest = of_guest(&host(0), 0);
        let leaves: Vec<_> = guest.iter().map(|e| (e.function, e.index)).collect();
        let expected = [
            (0, 0),
            (1, 0),
            (7, 0),
            (0xd, 0),
            (0xd, 1),
            (0xd, 2),
            (0xd, 5),
            (0x8000_0000, 0),
            (0x8000_0001, 0),
            (0x8000_0008, 0),
        ];
        assert_eq!(leaves, expected);
        let (one, seven) = (find(&guest, 1, 0), find(&guest, 7, 0));
        assert_eq!(one.ecx & (1 << 5 | 1 << 24), 0, "VMX, TSC_DEADLINE");
        assert_eq!(one.ecx & (1 << 26 | 1 << 28), 1 << 26 | 1 << 28, "XSAVE, AVX");
        assert_eq!(seven.edx & 0x0150_0000, 0, "AMX and CET");
        assert_eq!(seven.ebx & (1 << 5 | 1 << 16), 1 << 5 | 1 << 16, "AVX2, AVX512F");
        assert_eq!(find(&guest, 0xd, 0).eax, 0xe7);
        assert_eq!(find(&guest, 0xd, 1).ecx, 0);
        assert_eq!(find(&guest, 0x8000_0001, 0).ecx & 4, 0, "SVM");
        assert_eq!((find(&guest, 0, 0).eax, find(&guest, 0x8000_0000, 0).eax), (0xd, 0x8000_0008));
    }

    #[test]
    fn it_does_not_depend_on_the_cpu_that_was_asked() {
        assert_eq!(of_guest(&host(0), 0), of_guest(&host(3), 0));
    }

    #[test]
    fn each_vcpu_has_its_apic_id() {
        for index in [0, 1, 31] {
            assert_eq!(find(&of_guest(&host(2), index), 1, 0).ebx, index << 24 | 0x0800);
        }
    }

    #[test]
    fn a_difference_names_leaf_and_register() {
        let leaves = || -> Vec<Leaf> { of_guest(&host(0), 0).iter().map(Leaf::from).collect() };
        let (here, mut there) = (leaves(), leaves());
        assert_eq!(difference(&here, &there), None);
        let ebx = here[2].registers[1];
        there[2].registers[1] ^= 1 << 16;
        let expected = format!("EBX of CPUID leaf 0x7.0 is {ebx:#x} here and {:#x} there", ebx ^ 1 << 16);
        assert_eq!(difference(&here, &there), Some(expected));
        there = leaves();
        there.remove(1);
        assert_eq!(difference(&here, &there).as_deref(), Some("CPUID leaf 0x1 is here and not there"));
        assert_eq!(difference(&there, &here).as_deref(), Some("CPUID leaf 0x1 is there and not here"));
    }
}

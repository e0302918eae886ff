//! How vCPUs are made, and what two sides must agree on before a guest may go from one to the other, since its state says
//! nothing of it: CPUID, features that MSRs list, the clock's frequency, and the shape of the state itself. The source sends
//! its own when it connects, and the destination compares before a page has moved.

use kvm_bindings::{
    CpuId, KVM_CAP_EXCEPTION_PAYLOAD, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2, kvm_enable_cap,
};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use serde::{Deserialize, Serialize};

use super::cpuid::{self, Leaf};
use super::msr::{self, StateMsrs};
use super::state::{StateError, VcpuState, to};
use crate::sys::kvm::tsc_offset;

/// Creates a guest's vCPU number `index`, which has its CPUID and nothing else yet.
///
/// # Errors
/// As the KVM calls.
pub fn create_vcpu(kvm: &Kvm, vm: &VmFd, index: u32) -> Result<VcpuFd, StateError> {
    // An exception that is pending when a vCPU is paused keeps its payload, and is pending at the destination.
    let payload = kvm_enable_cap { cap: KVM_CAP_EXCEPTION_PAYLOAD, args: [1, 0, 0, 0], ..Default::default() };
    vm.enable_cap(&payload).map_err(to("keep pending exceptions whole"))?;
    let supported = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(to("list the supported CPUID"))?;
    let entries = CpuId::from_entries(&cpuid::of_guest(supported.as_slice(), index)).map_err(|error| {
        StateError::Kvm { action: "take a CPUID", source: std::io::Error::other(format!("{error:?}")) }
    })?;
    let vcpu = vm.create_vcpu(u64::from(index)).map_err(to("create a vCPU"))?;
    vcpu.set_cpuid2(&entries).map_err(to("set a vCPU's CPUID"))?;
    Ok(vcpu)
}

/// What of a vCPU is carried from this host to itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    /// Number of MSRs.
    pub msrs: usize,
    /// Those of them that move by themselves and so are not compared.
    pub moving: Vec<u32>,
    /// Bytes of vector registers.
    pub xsave: u32,
    /// Whether the clock's offset is carried.
    pub tsc_offset: bool,
}

/// Carries the state of a vCPU that has never run to another one and compares, as a migration with a proof does.
///
/// # Errors
/// What a migration would fail with.
pub fn carry_fresh(kvm: &Kvm) -> Result<Carried, StateError> {
    let vm = kvm.create_vm().map_err(to("create a machine"))?;
    let (source, destination) = (create_vcpu(kvm, &vm, 0)?, create_vcpu(kvm, &vm, 1)?);
    let msrs = StateMsrs::of(kvm, &source)?;
    let (mut sent, mut received) = (VcpuState::new(&vm, &msrs)?, VcpuState::new(&vm, &msrs)?);
    let model = CpuModel::of(kvm, &source, &msrs, &sent)?;
    sent.save(&source)?;
    received.load(&sent.as_bytes().concat())?;
    received.restore(&destination)?;
    received.compare(&destination)?;
    Ok(Carried {
        msrs: model.msrs.len(),
        moving: msrs.moving,
        xsave: model.xsave,
        tsc_offset: tsc_offset(&source).is_some(),
    })
}

/// A vCPU as this host's KVM makes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuModel {
    /// Of its clock.
    tsc_khz: u32,
    /// What it answers to CPUID.
    cpuid: Vec<Leaf>,
    /// MSRs that say what the CPU is, and their values.
    features: Vec<(u32, u64)>,
    /// Bytes of vector registers in its state.
    xsave: u32,
    /// MSRs in its state.
    msrs: Vec<u32>,
}

/// Frequencies are the same if they differ by no more than this, in millionths: hosts of one kind measure theirs at boot.
/// KVM's own `tsc_tolerance_ppm`.
const TSC_TOLERANCE: u64 = 250;

/// Why a guest can't come from there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// Not a model.
    #[error("the source describes its CPU in {0} bytes that mean nothing here")]
    Unreadable(usize),
    /// Another CPU.
    #[error("a guest of the source can't run here: {0}; migrate between hosts of the same CPU and kernel")]
    Differs(String),
}

impl CpuModel {
    /// That of `fresh`, a vCPU with a guest's CPUID that has never run, whose state is like `state`, with these MSRs.
    ///
    /// # Errors
    /// As the KVM calls.
    pub fn of(kvm: &Kvm, fresh: &VcpuFd, msrs: &StateMsrs, state: &VcpuState) -> Result<Self, StateError> {
        // Asked back, since KVM may answer otherwise than it was set. Entries that it has none for stay zero.
        let answers = fresh.get_cpuid2(KVM_MAX_CPUID_ENTRIES).map_err(to("read a vCPU's CPUID"))?;
        let last = answers.as_slice().iter().rposition(|entry| *entry != kvm_cpuid_entry2::default());
        let answers = answers.as_slice().iter().take(last.map_or(0, |last| last + 1));
        let features = msr::features(kvm)?;
        let value = |&index: &u32| msr::read(fresh, index).map(|value| (index, value));
        Ok(Self {
            tsc_khz: fresh.get_tsc_khz().map_err(to("read the TSC frequency"))?,
            cpuid: answers.map(Leaf::from).collect(),
            features: features.iter().filter_map(value).collect(),
            xsave: state.xsave_size(),
            msrs: msrs.restored.clone(),
        })
    }

    /// Frequency of its clock.
    #[must_use]
    pub const fn tsc_khz(&self) -> u32 {
        self.tsc_khz
    }

    /// For the other side.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Whether a guest may come from where `bytes` are from, to a vCPU of this model.
    ///
    /// # Errors
    /// Names the first thing that differs.
    pub fn check_source(&self, bytes: &[u8]) -> Result<(), ModelError> {
        let source = serde_json::from_slice(bytes).map_err(|_| ModelError::Unreadable(bytes.len()))?;
        self.difference(&source).map_or(Ok(()), |what| Err(ModelError::Differs(what)))
    }

    /// The first difference from a source's, in words.
    fn difference(&self, source: &Self) -> Option<String> {
        let frequency = || {
            let (here, there) = (self.tsc_khz, source.tsc_khz);
            let apart = u64::from(here.abs_diff(there)) * 1_000_000 > u64::from(here) * TSC_TOLERANCE;
            apart.then(|| format!("its clock has {there} kHz, this host's {here} kHz"))
        };
        let features = || {
            let value = |(index, value): &(u32, u64)| format!("{value:#x} in MSR {index:#x}");
            let (here, there) = first_difference(&self.features, &source.features)?;
            let words = |of: Option<&(u32, u64)>| of.map_or_else(|| "nothing".to_owned(), value);
            Some(format!("its CPU says {}, this one {}", words(there), words(here)))
        };
        let xsave = || {
            let (here, there) = (self.xsave, source.xsave);
            (here != there).then(|| format!("it has {there} bytes of vector registers, {here} here"))
        };
        let msrs = || {
            let (here, there) = first_difference(&self.msrs, &source.msrs)?;
            let words = |of: Option<&u32>| of.map_or_else(|| "ends".to_owned(), |i| format!("has {i:#x}"));
            Some(format!("its list of MSRs {} where this one {}", words(there), words(here)))
        };
        frequency()
            .or_else(|| cpuid::difference(&self.cpuid, &source.cpuid))
            .or_else(features)
            .or_else(xsave)
            .or_else(msrs)
    }
}

type ItemPair<'a, T> = (Option<&'a T>, Option<&'a T>);

/// The first place at which two lists differ.
fn first_difference<'a, T: PartialEq>(here: &'a [T], there: &'a [T]) -> Option<ItemPair<'a, T>> {
    let place = (0..here.len().max(there.len())).find(|&n| here.get(n) != there.get(n))?;
    Some((here.get(place), there.get(place)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> CpuModel {
        let leaf = kvm_cpuid_entry2 { function: 1, ecx: 0x100, ..Default::default() };
        CpuModel {
            tsc_khz: 2_000_000,
            cpuid: vec![Leaf::from(&leaf)],
            features: vec![(0x10a, 1)],
            xsave: 4096,
            msrs: vec![0x174, 0x175],
        }
    }

    fn refused(change: impl FnOnce(&mut CpuModel)) -> String {
        let mut source = model();
        change(&mut source);
        match model().check_source(&source.to_bytes()) {
            Err(ModelError::Differs(what)) => what,
            other => panic!("{source:?} gave {other:?}"),
        }
    }

    #[test]
    fn the_same_is_taken_and_so_is_a_clock_measured_a_little_differently() {
        model().check_source(&model().to_bytes()).unwrap();
        for tsc_khz in [1_999_500, 2_000_500] {
            model().check_source(&CpuModel { tsc_khz, ..model() }.to_bytes()).unwrap();
        }
    }

    #[test]
    fn what_differs_is_named() {
        assert_eq!(refused(|s| s.tsc_khz = 2_000_501), "its clock has 2000501 kHz, this host's 2000000 kHz");
        assert_eq!(refused(|s| s.cpuid.clear()), "CPUID leaf 0x1 is here and not there");
        let features = refused(|s| s.features[0].1 = 3);
        assert_eq!(features, "its CPU says 0x3 in MSR 0x10a, this one 0x1 in MSR 0x10a");
        let none = refused(|s| s.features.clear());
        assert_eq!(none, "its CPU says nothing, this one 0x1 in MSR 0x10a");
        assert_eq!(refused(|s| s.xsave = 11008), "it has 11008 bytes of vector registers, 4096 here");
        assert_eq!(refused(|s| s.msrs.push(0x176)), "its list of MSRs has 0x176 where this one ends");
        let other = refused(|s| s.msrs[0] = 0x3b);
        assert_eq!(other, "its list of MSRs has 0x3b where this one has 0x174");
    }

    #[test]
    fn what_is_no_model_is_refused() {
        for bytes in [&b""[..], b"{}", b"{\"tsc_khz\":1}", &[b'['; 1000]] {
            assert_eq!(model().check_source(bytes), Err(ModelError::Unreadable(bytes.len())));
        }
    }
}

//! All state of a vCPU that the guest can observe, as one block of bytes: saved in the paused window without
//! allocation, sent in the state message, restored and read back at the destination.

use std::io;

use kvm_bindings::{
    Msrs, kvm_debugregs, kvm_mp_state, kvm_msr_entry, kvm_regs, kvm_sregs, kvm_vcpu_events, kvm_xcrs,
    kvm_xsave,
};
use kvm_ioctls::{Kvm, VcpuFd};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::sys;

const IA32_TSC: u32 = 0x10;
const IA32_TSC_DEADLINE: u32 = 0x6e0;

/// Why state could not be saved or restored.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A KVM call failed.
    #[error("KVM refused to {action}: {source}")]
    Kvm {
        /// What was asked.
        action: &'static str,
        /// What it said.
        source: io::Error,
    },
    /// Fewer MSRs than asked: KVM stops at the first that it does not like.
    #[error("KVM stopped {action} MSRs at {index:#x} (number {done} of {count})")]
    Msr {
        /// `reading` or `writing`.
        action: &'static str,
        /// The MSR.
        index: u32,
        /// How many succeeded before.
        done: usize,
        /// How many were asked.
        count: usize,
    },
    /// The state message is not of this host's shape.
    #[error("the state of a vCPU has {found} bytes, {expected} were expected: the hosts' MSR lists differ")]
    Shape {
        /// Bytes received.
        found: usize,
        /// Bytes of a state here.
        expected: usize,
    },
    /// A register reads back differently from what was restored.
    #[error("{0} of the restored vCPU differs from what was sent")]
    Differs(&'static str),
}

/// Wraps a KVM error with what was asked.
fn to(action: &'static str) -> impl Fn(kvm_ioctls::Error) -> StateError {
    move |error| StateError::Kvm { action, source: error.into() }
}

/// What has a fixed size. MSRs follow it on the wire.
#[derive(Debug, Clone, IntoBytes, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Registers {
    regs: kvm_regs,
    sregs: kvm_sregs,
    xcrs: kvm_xcrs,
    events: kvm_vcpu_events,
    debug: kvm_debugregs,
    xsave: [u32; 1024],
    mp_state: u32,
    has_tsc_offset: u32,
    tsc_offset: u64,
}

/// The state of one vCPU.
#[derive(Debug, Clone)]
pub struct VcpuState {
    registers: Registers,
    msrs: Msrs,
}

/// MSRs of this host that can be both read and written back on a fresh vCPU. The TSC is left out: its offset is
/// restored, since its value would hide the pause. Without a local APIC in the kernel there is no TSC deadline.
///
/// # Errors
/// When KVM does not tell its list.
pub fn restorable_msrs(kvm: &Kvm, fresh: &VcpuFd) -> Result<Vec<u32>, StateError> {
    let list = kvm.get_msr_index_list().map_err(to("list MSRs"))?;
    let mut restorable = Vec::new();
    for &index in list.as_slice() {
        if index == IA32_TSC || index == IA32_TSC_DEADLINE {
            continue;
        }
        let Ok(mut one) = Msrs::from_entries(&[kvm_msr_entry { index, ..Default::default() }]) else {
            continue;
        };
        if fresh.get_msrs(&mut one).is_ok_and(|n| n == 1) && fresh.set_msrs(&one).is_ok_and(|n| n == 1) {
            restorable.push(index);
        }
    }
    Ok(restorable)
}

impl VcpuState {
    /// An empty state for the MSRs of `indices`, so that saving needs no allocation.
    ///
    /// # Errors
    /// When the list is longer than KVM takes.
    pub fn new(indices: &[u32]) -> Result<Self, StateError> {
        let entries: Vec<_> =
            indices.iter().map(|&index| kvm_msr_entry { index, ..Default::default() }).collect();
        let msrs = Msrs::from_entries(&entries).map_err(|e| StateError::Kvm {
            action: "take a list of MSRs",
            source: io::Error::other(format!("{e:?}")),
        })?;
        Ok(Self { registers: Registers::new_zeroed(), msrs })
    }

    /// Reads everything. The vCPU must not be in `KVM_RUN`, and its pending I/O must be completed.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn save(&mut self, vcpu: &VcpuFd) -> Result<(), StateError> {
        let r = &mut self.registers;
        r.mp_state = vcpu.get_mp_state().map_err(to("read the MP state"))?.mp_state;
        r.regs = vcpu.get_regs().map_err(to("read registers"))?;
        r.sregs = vcpu.get_sregs().map_err(to("read system registers"))?;
        r.xsave = vcpu.get_xsave().map_err(to("read vector registers"))?.region;
        r.xcrs = vcpu.get_xcrs().map_err(to("read XCR0"))?;
        r.debug = vcpu.get_debug_regs().map_err(to("read debug registers"))?;
        r.events = vcpu.get_vcpu_events().map_err(to("read pending events"))?;
        let offset = sys::kvm::tsc_offset(vcpu);
        r.has_tsc_offset = u32::from(offset.is_some());
        r.tsc_offset = offset.unwrap_or(0);
        let count = self.msrs.as_slice().len();
        let done = vcpu.get_msrs(&mut self.msrs).map_err(to("read MSRs"))?;
        self.check_msrs("reading", done, count)
    }

    /// Writes everything to a vCPU that has not run.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn restore(&self, vcpu: &VcpuFd) -> Result<(), StateError> {
        let r = &self.registers;
        vcpu.set_mp_state(kvm_mp_state { mp_state: r.mp_state }).map_err(to("set the MP state"))?;
        vcpu.set_sregs(&r.sregs).map_err(to("set system registers"))?;
        vcpu.set_regs(&r.regs).map_err(to("set registers"))?;
        vcpu.set_xcrs(&r.xcrs).map_err(to("set XCR0"))?;
        let xsave = kvm_xsave { region: r.xsave, ..Default::default() };
        sys::kvm::set_xsave(vcpu, &xsave)
            .map_err(|source| StateError::Kvm { action: "set vector registers", source })?;
        vcpu.set_debug_regs(&r.debug).map_err(to("set debug registers"))?;
        let done = vcpu.set_msrs(&self.msrs).map_err(to("set MSRs"))?;
        self.check_msrs("writing", done, self.msrs.as_slice().len())?;
        vcpu.set_vcpu_events(&r.events).map_err(to("set pending events"))?;
        if r.has_tsc_offset != 0 {
            sys::kvm::set_tsc_offset(vcpu, r.tsc_offset)
                .map_err(|source| StateError::Kvm { action: "set the TSC offset", source })?;
        }
        Ok(())
    }

    fn check_msrs(&self, action: &'static str, done: usize, count: usize) -> Result<(), StateError> {
        match self.msrs.as_slice().get(done) {
            Some(entry) if done < count => Err(StateError::Msr { action, index: entry.index, done, count }),
            _ => Ok(()),
        }
    }

    /// Compares with what `vcpu` says now, by part.
    ///
    /// # Errors
    /// [`StateError::Differs`] names the first part that differs.
    pub fn compare(&self, vcpu: &VcpuFd) -> Result<(), StateError> {
        let indices: Vec<u32> = self.msrs.as_slice().iter().map(|e| e.index).collect();
        let mut now = Self::new(&indices)?;
        now.save(vcpu)?;
        let (a, b) = (&self.registers, &now.registers);
        let parts = [
            ("the general registers", a.regs.as_bytes() == b.regs.as_bytes()),
            ("CR4", a.sregs.cr4 == b.sregs.cr4),
            ("the system registers", a.sregs.as_bytes() == b.sregs.as_bytes()),
            ("XCR0", a.xcrs.as_bytes() == b.xcrs.as_bytes()),
            ("the vector registers", a.xsave == b.xsave),
            ("the debug registers", a.debug.as_bytes() == b.debug.as_bytes()),
            ("the pending events", a.events.as_bytes() == b.events.as_bytes()),
            ("the MP state", a.mp_state == b.mp_state),
            ("the TSC offset", a.tsc_offset == b.tsc_offset),
            ("the MSRs", self.msrs.as_slice().as_bytes() == now.msrs.as_slice().as_bytes()),
        ];
        match parts.iter().find(|(_, equal)| !equal) {
            None => Ok(()),
            Some((name, _)) => Err(StateError::Differs(name)),
        }
    }

    /// The two parts of its bytes, to be sent one after the other.
    #[must_use]
    pub fn as_bytes(&self) -> [&[u8]; 2] {
        [self.registers.as_bytes(), self.msrs.as_slice().as_bytes()]
    }

    /// Bytes of a state with as many MSRs as this one.
    #[must_use]
    pub fn size(&self) -> usize {
        let [registers, msrs] = self.as_bytes();
        registers.len() + msrs.len()
    }

    /// Takes over what [`Self::as_bytes`] gave on the other side.
    ///
    /// # Errors
    /// [`StateError::Shape`].
    pub fn load(&mut self, bytes: &[u8]) -> Result<(), StateError> {
        let shape = StateError::Shape { found: bytes.len(), expected: self.size() };
        if bytes.len() != self.size() {
            return Err(shape);
        }
        let Ok((registers, rest)) = Registers::read_from_prefix(bytes) else { return Err(shape) };
        let entries = self.msrs.as_mut_slice();
        for (entry, chunk) in entries.iter_mut().zip(rest.chunks_exact(size_of::<kvm_msr_entry>())) {
            match kvm_msr_entry::read_from_bytes(chunk) {
                Ok(read) if read.index == entry.index => *entry = read,
                _ => return Err(shape),
            }
        }
        self.registers = registers;
        Ok(())
    }

    /// Has the guest's clock go on as many ticks behind where it was.
    pub const fn set_clock_back(&mut self, ticks: u64) {
        self.registers.tsc_offset = self.registers.tsc_offset.wrapping_sub(ticks);
    }

    /// The instruction pointer, for messages.
    #[must_use]
    pub const fn instruction_pointer(&self) -> u64 {
        self.registers.regs.rip
    }
}

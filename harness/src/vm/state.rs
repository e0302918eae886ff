//! All state of a vCPU that the guest can observe, as one block of bytes: saved in the paused window without
//! allocation, sent in the state message, restored and read back at the destination.
//!
//! A guest has no local APIC in the kernel, no paravirtual clock and nothing nested, since its [CPUID](super::cpuid) names
//! none and this machine creates none; so these have no part here. Its vCPUs are in long mode from their first instructions on,
//! where there are no PDPTRs to carry beside `kvm_sregs`, and always runnable.

use std::io;

use kvm_bindings::{
    Msrs, kvm_debugregs, kvm_mp_state, kvm_msr_entry, kvm_regs, kvm_sregs, kvm_vcpu_events, kvm_xcrs,
};
use kvm_ioctls::{VcpuFd, VmFd};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::msr::StateMsrs;
use crate::sys;
use crate::sys::kvm::Xsave;

/// Version of the layout below.
const VERSION: u32 = 2;
/// Bytes 464 to 511 of XSAVE's area, in words: KVM fills them with the host kernel's own notes on its signal frames
/// (`xstate_fx_sw_bytes` in arch/x86/kernel/fpu/xstate.c), which are no register and differ between hosts.
const SOFTWARE_RESERVED: std::ops::Range<usize> = 464 / 4..512 / 4;

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
    /// The state message is cut or too long.
    #[error("the state of a vCPU has {found} bytes, {expected} were expected")]
    Size {
        /// Bytes received.
        found: usize,
        /// Bytes of a state here.
        expected: usize,
    },
    /// The state message is of another build.
    #[error("the state of a vCPU has version {found} of the layout, this build knows version {VERSION}")]
    Version {
        /// Its version.
        found: u32,
    },
    /// The other host saves other registers.
    #[error("the state of a vCPU has {found} {what}, {expected} here: the hosts' KVM differs")]
    Shape {
        /// `bytes of vector registers` or `MSRs`.
        what: &'static str,
        /// How many came.
        found: u32,
        /// How many there are here.
        expected: u32,
    },
    /// The other host saves other MSRs.
    #[error("the state of a vCPU has MSR {found:#x} where {expected:#x} is due here: the hosts' KVM differs")]
    Foreign {
        /// The MSR that came.
        found: u32,
        /// The MSR that is due.
        expected: u32,
    },
    /// The vCPU is not paused.
    #[error("the state of a running vCPU cannot be replaced")]
    Running,
    /// A register reads back differently from what was restored.
    #[error("{0} of the restored vCPU differs from what was sent")]
    Differs(&'static str),
    /// An MSR reads back differently from what was restored.
    #[error("MSR {index:#x} of the restored vCPU is {found:#x}, {sent:#x} was sent")]
    MsrDiffers {
        /// The MSR.
        index: u32,
        /// Its value in the state message.
        sent: u64,
        /// Its value on the vCPU.
        found: u64,
    },
}

/// Wraps a KVM error with what was asked.
pub(super) fn to(action: &'static str) -> impl Fn(kvm_ioctls::Error) -> StateError {
    move |error| StateError::Kvm { action, source: error.into() }
}

/// What has a fixed size. Vector registers and MSRs, each with its index, follow it on the wire.
#[derive(Debug, Clone, IntoBytes, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Registers {
    version: u32,
    /// Bytes of vector registers.
    xsave: u32,
    /// Number of MSRs.
    msrs: u32,
    mp_state: u32,
    regs: kvm_regs,
    sregs: kvm_sregs,
    xcrs: kvm_xcrs,
    events: kvm_vcpu_events,
    debug: kvm_debugregs,
    tsc_offset: u64,
    has_tsc_offset: u64,
}

/// The state of one vCPU.
#[derive(Debug, Clone)]
pub struct VcpuState {
    registers: Registers,
    xsave: Xsave,
    msrs: Msrs,
    /// MSRs that move by themselves and so are not compared.
    moving: Vec<u32>,
}

impl VcpuState {
    /// An empty state of a vCPU of `vm` with these MSRs, so that saving needs no allocation.
    ///
    /// # Errors
    /// When the list is longer than KVM takes.
    pub fn new(vm: &VmFd, chosen: &StateMsrs) -> Result<Self, StateError> {
        Self::empty(Xsave::new(vm), &chosen.restored, &chosen.moving)
    }

    /// An empty state of such MSRs, where no KVM says what it has.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn without_kvm(msrs: &[u32]) -> Self {
        Self::empty(Xsave::without_kvm(), msrs, &[]).expect("a short list")
    }

    fn empty(xsave: Xsave, indices: &[u32], moving: &[u32]) -> Result<Self, StateError> {
        let entries: Vec<_> =
            indices.iter().map(|&index| kvm_msr_entry { index, ..Default::default() }).collect();
        let msrs = Msrs::from_entries(&entries).map_err(|e| StateError::Kvm {
            action: "take a list of MSRs",
            source: io::Error::other(format!("{e:?}")),
        })?;
        let mut registers = Registers::new_zeroed();
        registers.version = VERSION;
        registers.xsave = u32::try_from(size_of_val(xsave.words())).unwrap_or(u32::MAX);
        registers.msrs = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        Ok(Self { registers, xsave, msrs, moving: moving.to_vec() })
    }

    /// Reads everything. The vCPU must not be in `KVM_RUN`, and its pending I/O must be completed.
    ///
    /// Events come first: where KVM was not set to keep an exception's payload apart, reading them moves it into CR2 or DR6.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn save(&mut self, vcpu: &VcpuFd) -> Result<(), StateError> {
        let r = &mut self.registers;
        r.events = vcpu.get_vcpu_events().map_err(to("read pending events"))?;
        r.mp_state = vcpu.get_mp_state().map_err(to("read the MP state"))?.mp_state;
        r.regs = vcpu.get_regs().map_err(to("read registers"))?;
        r.sregs = vcpu.get_sregs().map_err(to("read system registers"))?;
        self.xsave
            .read(vcpu)
            .map_err(|source| StateError::Kvm { action: "read vector registers", source })?;
        self.xsave.words_mut()[SOFTWARE_RESERVED].fill(0);
        r.xcrs = vcpu.get_xcrs().map_err(to("read XCR0"))?;
        r.debug = vcpu.get_debug_regs().map_err(to("read debug registers"))?;
        let offset = sys::kvm::tsc_offset(vcpu);
        r.has_tsc_offset = u64::from(offset.is_some());
        r.tsc_offset = offset.unwrap_or(0);
        let count = self.msrs.as_slice().len();
        let done = vcpu.get_msrs(&mut self.msrs).map_err(to("read MSRs"))?;
        self.check_msrs("reading", done, count)
    }

    /// Writes everything to a vCPU that has not run. System registers come before those whose bits they allow, general
    /// registers before events, which setting them drops, and the TSC's offset after the MSRs, of which TSC_ADJUST is one.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn restore(&self, vcpu: &VcpuFd) -> Result<(), StateError> {
        let r = &self.registers;
        vcpu.set_mp_state(kvm_mp_state { mp_state: r.mp_state }).map_err(to("set the MP state"))?;
        vcpu.set_sregs(&r.sregs).map_err(to("set system registers"))?;
        vcpu.set_regs(&r.regs).map_err(to("set registers"))?;
        vcpu.set_xcrs(&r.xcrs).map_err(to("set XCR0"))?;
        self.xsave
            .write(vcpu)
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

    /// Compares with what `vcpu` says now, by part. Nothing moves by itself but the MSRs that are known to.
    ///
    /// # Errors
    /// [`StateError::Differs`] or [`StateError::MsrDiffers`] names the first part that differs.
    pub fn compare(&self, vcpu: &VcpuFd) -> Result<(), StateError> {
        let indices: Vec<u32> = self.msrs.as_slice().iter().map(|e| e.index).collect();
        let mut now = Self::empty(self.xsave.clone(), &indices, &self.moving)?;
        now.save(vcpu)?;
        let (a, b) = (&self.registers, &now.registers);
        let parts = [
            ("the general registers", a.regs.as_bytes() == b.regs.as_bytes()),
            ("CR4", a.sregs.cr4 == b.sregs.cr4),
            ("the system registers", a.sregs.as_bytes() == b.sregs.as_bytes()),
            ("XCR0", a.xcrs.as_bytes() == b.xcrs.as_bytes()),
            ("the vector registers", self.xsave.words() == now.xsave.words()),
            ("the debug registers", a.debug.as_bytes() == b.debug.as_bytes()),
            ("the pending events", a.events.as_bytes() == b.events.as_bytes()),
            ("the MP state", a.mp_state == b.mp_state),
            ("the TSC offset", (a.has_tsc_offset, a.tsc_offset) == (b.has_tsc_offset, b.tsc_offset)),
        ];
        if let Some((name, _)) = parts.iter().find(|(_, equal)| !equal) {
            return Err(StateError::Differs(name));
        }
        let msrs = self.msrs.as_slice().iter().zip(now.msrs.as_slice());
        for (sent, found) in msrs.filter(|(sent, _)| !self.moving.contains(&sent.index)) {
            if sent.data != found.data {
                let (index, sent, found) = (sent.index, sent.data, found.data);
                return Err(StateError::MsrDiffers { index, sent, found });
            }
        }
        Ok(())
    }

    /// The three parts of its bytes, to be sent one after the other.
    #[must_use]
    pub fn as_bytes(&self) -> [&[u8]; 3] {
        [self.registers.as_bytes(), self.xsave.words().as_bytes(), self.msrs.as_slice().as_bytes()]
    }

    /// Bytes of vector registers.
    #[must_use]
    pub const fn xsave_size(&self) -> u32 {
        self.registers.xsave
    }

    /// Takes over what [`Self::as_bytes`] gave on the other side. Nothing is allocated for it: it has this state's shape or
    /// is refused, and this state stays as it was.
    ///
    /// # Errors
    /// [`StateError::Size`], [`StateError::Version`], [`StateError::Shape`] or [`StateError::Foreign`].
    pub fn load(&mut self, bytes: &[u8]) -> Result<(), StateError> {
        let expected: usize = self.as_bytes().iter().map(|part| part.len()).sum();
        let size = StateError::Size { found: bytes.len(), expected };
        let Ok((registers, rest)) = Registers::read_from_prefix(bytes) else { return Err(size) };
        if registers.version != VERSION {
            return Err(StateError::Version { found: registers.version });
        }
        let here = &self.registers;
        for (what, found, expected) in
            [("bytes of vector registers", registers.xsave, here.xsave), ("MSRs", registers.msrs, here.msrs)]
        {
            if found != expected {
                return Err(StateError::Shape { what, found, expected });
            }
        }
        if bytes.len() != expected {
            return Err(size);
        }
        let (xsave, msrs) = rest.split_at(size_of_val(self.xsave.words()));
        let entries =
            || msrs.chunks_exact(size_of::<kvm_msr_entry>()).flat_map(kvm_msr_entry::read_from_bytes);
        for (here, there) in self.msrs.as_slice().iter().zip(entries()) {
            if here.index != there.index {
                return Err(StateError::Foreign { found: there.index, expected: here.index });
            }
        }
        self.registers = registers;
        self.xsave.words_mut().as_mut_bytes().copy_from_slice(xsave);
        self.msrs.as_mut_slice().iter_mut().zip(entries()).for_each(|(here, there)| *here = there);
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

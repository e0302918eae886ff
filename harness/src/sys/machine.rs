//! A KVM machine together with the memory of its slots, which therefore outlives it.

use std::io;
use std::sync::Arc;

use kvm_bindings::{KVM_MEM_LOG_DIRTY_PAGES, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VmFd};
use migbench_workloads::units::PAGE_SIZE;

use super::kvm::Logging;
use super::memory::Telemetry;
use super::ram::{HOLE_START, Ram};

/// Where the guest has its telemetry: in the hole of RAM.
pub const TELEMETRY_ADDRESS: u64 = HOLE_START;
const TELEMETRY_SLOT: u32 = 31;

/// Slots of RAM and telemetry around a `VmFd`. The fields are dropped in this order: KVM lets go first.
#[derive(Debug)]
pub struct Machine {
    vm: VmFd,
    kvm: Kvm,
    ram: Arc<Ram>,
    telemetry: Arc<Telemetry>,
    logging: Logging,
}

impl Machine {
    /// A machine without vCPUs. How it logs written pages is fixed here, because KVM takes that only before the
    /// first vCPU; logging itself is off.
    ///
    /// # Errors
    /// As `KVM_CREATE_VM`, `KVM_ENABLE_CAP` and `KVM_SET_USER_MEMORY_REGION`.
    pub fn new(kvm: Kvm, ram: Arc<Ram>, telemetry: Arc<Telemetry>, logging: Logging) -> io::Result<Self> {
        let vm = kvm.create_vm()?;
        logging.enable(&vm)?;
        let machine = Self { vm, kvm, ram, telemetry, logging };
        machine.set_logging(false)?;
        machine.set_slot(kvm_userspace_memory_region {
            slot: TELEMETRY_SLOT,
            flags: 0,
            guest_phys_addr: TELEMETRY_ADDRESS,
            memory_size: machine.telemetry.size() as u64,
            userspace_addr: machine.telemetry.host_address(),
        })?;
        Ok(machine)
    }

    /// Turns dirty logging of all RAM on or off.
    ///
    /// # Errors
    /// As `KVM_SET_USER_MEMORY_REGION`.
    pub fn set_logging(&self, on: bool) -> io::Result<()> {
        for region in self.ram.regions() {
            self.set_slot(kvm_userspace_memory_region {
                slot: region.slot,
                flags: if on { KVM_MEM_LOG_DIRTY_PAGES } else { 0 },
                guest_phys_addr: region.start.0,
                memory_size: region.pages * PAGE_SIZE,
                userspace_addr: region.host_address,
            })?;
        }
        Ok(())
    }

    fn set_slot(&self, region: kvm_userspace_memory_region) -> io::Result<()> {
        // SAFETY: the memory is that of `ram` or `telemetry`, which self keeps mapped until after `vm` is closed
        // (vCPU threads hold self too); both are reached by copies through raw pointers or by atomics only.
        unsafe { self.vm.set_user_memory_region(region) }.map_err(io::Error::from)
    }

    /// How it logs written pages.
    #[must_use]
    pub const fn logging(&self) -> Logging {
        self.logging
    }

    /// The machine's descriptor.
    #[must_use]
    pub const fn vm(&self) -> &VmFd {
        &self.vm
    }

    /// KVM itself.
    #[must_use]
    pub const fn kvm(&self) -> &Kvm {
        &self.kvm
    }

    /// RAM.
    #[must_use]
    pub const fn ram(&self) -> &Arc<Ram> {
        &self.ram
    }

    /// Telemetry.
    #[must_use]
    pub const fn telemetry(&self) -> &Arc<Telemetry> {
        &self.telemetry
    }
}

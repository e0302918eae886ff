//! KVM's dirty ring of one vCPU: entries that KVM fills and this program hands back (api.rst, 8.29).

use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use kvm_bindings::{KVM_DIRTY_LOG_PAGE_OFFSET, kvm_dirty_gfn};
use kvm_ioctls::VcpuFd;
use migbench_workloads::units::PAGE_SIZE;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// `KVM_DIRTY_GFN_F_DIRTY`: KVM has filled the entry.
const DIRTY: u32 = 1;
/// `KVM_DIRTY_GFN_F_RESET`: the entry is handed back, KVM may reset it.
const RESET: u32 = 2;

/// A vCPU's ring, read by one thread at a time.
#[derive(Debug)]
pub struct DirtyRing {
    base: NonNull<libc::c_void>,
    length: usize,
    entries: u32,
    /// Entries taken since the ring was made. KVM counts in the same way, also over logging being off.
    next: u32,
    /// Entries seen filled, those taken included.
    seen: u32,
}

// SAFETY: the mapping belongs to this object; other threads of this process do not reach it.
unsafe impl Send for DirtyRing {}

impl DirtyRing {
    /// Maps the ring of `vcpu`, whose machine logs to rings of `entries` entries.
    ///
    /// # Errors
    /// As `mmap`, also when that machine does not log to rings of that size.
    pub fn new(vcpu: &VcpuFd, entries: u32) -> io::Result<Self> {
        let invalid = || io::Error::new(io::ErrorKind::InvalidInput, "a ring has a power of two of entries");
        let length = entries as usize * size_of::<kvm_dirty_gfn>();
        let size = NonZeroUsize::new(length).filter(|_| entries.is_power_of_two()).ok_or_else(invalid)?;
        let offset = i64::from(KVM_DIRTY_LOG_PAGE_OFFSET) * PAGE_SIZE.cast_signed();
        let flags = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new shared mapping at an address of the kernel's choice.
        let base =
            unsafe { mmap(None, size, flags, MapFlags::MAP_SHARED, super::kvm::descriptor(vcpu), offset) }?;
        Ok(Self { base, length, entries, next: 0, seen: 0 })
    }

    /// The next written page, as slot and page of that slot. Its entry is handed back; the page is write-protected
    /// again by [`super::kvm::reset_dirty_rings`], before which it must not be read.
    pub fn take(&mut self) -> Option<(u32, u64)> {
        let (entry, flags) = self.entry(self.next);
        if flags.load(Ordering::Acquire) & (DIRTY | RESET) != DIRTY {
            return None;
        }
        // SAFETY: KVM wrote the entry before it set the flag, and writes it again only after it was handed back.
        let (slot, page) = unsafe { ((*entry).slot, (*entry).offset) };
        flags.store(RESET, Ordering::Release);
        self.next = self.next.wrapping_add(1);
        Some((slot, page))
    }
}

impl DirtyRing {
    /// An entry, by its number since the ring was made, and its flags.
    fn entry(&self, number: u32) -> (*mut kvm_dirty_gfn, &AtomicU32) {
        let entry = self.base.as_ptr().cast::<kvm_dirty_gfn>();
        // SAFETY: the mapping holds `entries` entries and the index is below that.
        let entry = unsafe { entry.add((number & (self.entries - 1)) as usize) };
        // SAFETY: an aligned field of a live entry, which KVM and this program only touch atomically.
        (entry, unsafe { AtomicU32::from_ptr(&raw mut (*entry).flags) })
    }

    /// Entries that KVM has filled since the ring was made, modulo 2^32, those that were taken included. Takes none.
    pub fn filled(&mut self) -> u32 {
        if self.seen.wrapping_sub(self.next) > self.entries {
            self.seen = self.next;
        }
        while self.seen.wrapping_sub(self.next) < self.entries
            && self.entry(self.seen).1.load(Ordering::Acquire) & (DIRTY | RESET) == DIRTY
        {
            self.seen = self.seen.wrapping_add(1);
        }
        self.seen
    }
}

impl Drop for DirtyRing {
    fn drop(&mut self) {
        // SAFETY: this object's own mapping, with no reference into it.
        let _ = unsafe { munmap(self.base, self.length) };
    }
}

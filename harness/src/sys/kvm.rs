//! KVM calls that `kvm-ioctls` lacks or marks unsafe, with the argument checks that make them safe.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU8, Ordering};

use kvm_bindings::{
    KVM_CAP_DIRTY_LOG_RING, KVM_CAP_DIRTY_LOG_RING_ACQ_REL, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
    KVM_DIRTY_LOG_INITIALLY_SET, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE, KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET,
    kvm_clear_dirty_log, kvm_clear_dirty_log__bindgen_ty_1, kvm_device_attr, kvm_dirty_log,
    kvm_dirty_log__bindgen_ty_1, kvm_enable_cap, kvm_run, kvm_xsave,
};
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};
use nix::sys::signal::{SigSet, SigmaskHow};

mod ioctl {
    #![allow(missing_docs)]
    use kvm_bindings::{kvm_clear_dirty_log, kvm_device_attr, kvm_dirty_log, kvm_xsave};

    nix::ioctl_write_ptr!(get_dirty_log, 0xae, 0x42, kvm_dirty_log);
    nix::ioctl_readwrite!(clear_dirty_log, 0xae, 0xc0, kvm_clear_dirty_log);
    nix::ioctl_none!(reset_dirty_rings, 0xae, 0xc7);
    nix::ioctl_write_ptr!(set_device_attr, 0xae, 0xe1, kvm_device_attr);
    nix::ioctl_write_ptr!(get_device_attr, 0xae, 0xe2, kvm_device_attr);
    nix::ioctl_read!(get_xsave, 0xae, 0xa4, kvm_xsave);
    nix::ioctl_write_ptr!(set_xsave, 0xae, 0xa5, kvm_xsave);
    nix::ioctl_read!(get_xsave2, 0xae, 0xcf, kvm_xsave);
}

// The kernel's headers: KVM_GET_DIRTY_LOG is _IOW(KVMIO, 0x42, struct kvm_dirty_log).
const _: () = assert!(nix::request_code_write!(0xae, 0x42, size_of::<kvm_dirty_log>()) == 0x4010_ae42);
const _: () =
    assert!(nix::request_code_readwrite!(0xae, 0xc0, size_of::<kvm_clear_dirty_log>()) == 0xc018_aec0);
const _: () = assert!(nix::request_code_none!(0xae, 0xc7) == 0xaec7);
const _: () = assert!(nix::request_code_write!(0xae, 0xe2, size_of::<kvm_device_attr>()) == 0x4018_aee2);
const _: () = assert!(nix::request_code_read!(0xae, 0xcf, size_of::<kvm_xsave>()) == 0x9000_aecf);

/// Reads and clears the dirty bitmap of `slot`, which has `pages` pages: bit n of word w is page 64 w + n.
///
/// # Errors
/// As `KVM_GET_DIRTY_LOG`; also when `words` is too short for the slot.
pub fn get_dirty_log(vm: &VmFd, slot: u32, pages: u64, words: &mut [u64]) -> io::Result<()> {
    if (words.len() as u64) * 64 < pages {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the bitmap is shorter than the slot"));
    }
    let log = kvm_dirty_log {
        slot,
        padding1: 0,
        __bindgen_anon_1: kvm_dirty_log__bindgen_ty_1 { dirty_bitmap: words.as_mut_ptr().cast() },
    };
    // SAFETY: the kernel writes one bit per page of the slot, rounded up to words; the length was checked against
    // the size with which the slot was made.
    unsafe { ioctl::get_dirty_log(vm.as_raw_fd(), &raw const log) }?;
    Ok(())
}

/// Clears and write-protects pages of `slot`, which has `pages` pages: bit n of word w is page `first` + 64 w + n.
/// Pages whose bit is zero stay as they are.
///
/// # Errors
/// As `KVM_CLEAR_DIRTY_LOG`; also for a range that starts within a group of 64 pages or reaches past the slot.
pub fn clear_dirty_log(vm: &VmFd, slot: u32, pages: u64, first: u64, words: &mut [u64]) -> io::Result<()> {
    let invalid = |what| io::Error::new(io::ErrorKind::InvalidInput, what);
    if !first.is_multiple_of(64) || first >= pages {
        return Err(invalid("a range to clear starts on a multiple of 64 pages within the slot"));
    }
    // Up to the slot's end KVM takes any number of pages, before it only multiples of 64.
    let count = ((words.len() as u64) * 64).min(pages - first);
    if (words.len() as u64) > count.div_ceil(64) {
        return Err(invalid("a range to clear reaches past the slot"));
    }
    let mut log = kvm_clear_dirty_log {
        slot,
        num_pages: u32::try_from(count).map_err(|_| invalid("a range to clear has fewer than 2^32 pages"))?,
        first_page: first,
        __bindgen_anon_1: kvm_clear_dirty_log__bindgen_ty_1 { dirty_bitmap: words.as_mut_ptr().cast() },
    };
    // SAFETY: the kernel reads one bit per page, rounded up to words, which `words` holds by the checks above.
    unsafe { ioctl::clear_dirty_log(vm.as_raw_fd(), &raw mut log) }?;
    Ok(())
}

/// Write-protects again pages whose ring entries were handed back, on all vCPUs. Gives the number of entries.
///
/// Signals are held back meanwhile. Linux from 6.16 on stops at a pending signal, says success with a smaller number,
/// and does not protect all pages whose entries it counts: after a kick in the middle of a reset one to three pages
/// stayed writable without an entry, and taking up the rest did not help.
///
/// # Errors
/// As `KVM_RESET_DIRTY_RINGS`.
pub fn reset_dirty_rings(vm: &VmFd) -> io::Result<u64> {
    let held = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    // SAFETY: takes no argument; works on KVM's own records of the entries.
    let reset = unsafe { ioctl::reset_dirty_rings(vm.as_raw_fd()) };
    held.thread_set_mask()?;
    Ok(u64::try_from(reset?).unwrap_or(0))
}

/// How KVM reports written pages, which is fixed when a VM is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logging {
    /// A bitmap that is cleared as it is got. What KVM does by default.
    Bitmap,
    /// A bitmap that is cleared by calls of its own.
    Manual {
        /// All bits are set when logging starts, and nothing is write-protected before it is cleared.
        initially_set: bool,
    },
    /// A ring for each vCPU.
    Ring {
        /// Entries of 16 bytes.
        entries: u32,
        /// With acquire and release semantics.
        acquire: bool,
    },
}

impl Logging {
    /// Number and argument of the capability that must be enabled; none for what is always there.
    #[must_use]
    pub const fn capability(self) -> Option<(u32, u64)> {
        match self {
            Self::Bitmap => None,
            Self::Manual { initially_set } => {
                let set = if initially_set { KVM_DIRTY_LOG_INITIALLY_SET } else { 0 };
                let flags = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | set;
                // Widening; `From` is not const.
                Some((KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, flags as u64))
            }
            Self::Ring { entries, acquire } => {
                let number = if acquire { KVM_CAP_DIRTY_LOG_RING_ACQ_REL } else { KVM_CAP_DIRTY_LOG_RING };
                Some((number, entries as u64 * size_of::<kvm_bindings::kvm_dirty_gfn>() as u64))
            }
        }
    }

    /// Has a VM without vCPUs log in this way.
    ///
    /// # Errors
    /// As `KVM_ENABLE_CAP`.
    pub fn enable(self, vm: &VmFd) -> io::Result<()> {
        let Some((cap, argument)) = self.capability() else { return Ok(()) };
        vm.enable_cap(&kvm_enable_cap { cap, args: [argument, 0, 0, 0], ..Default::default() })?;
        Ok(())
    }
}

/// Room for the extended state of a vCPU (x87, SSE, AVX and what follows) in XSAVE's standard format, as large as this
/// host's KVM asks for: 4096 bytes, or more in a process that may give its guests AMX.
#[derive(Debug, Clone)]
pub struct Xsave {
    words: Box<[u32]>,
    /// `KVM_GET_XSAVE2`, which knows of sizes over 4096 bytes.
    sized: bool,
}

impl Xsave {
    /// Room for any vCPU of this process. Nothing in this program asks for permission to give guests more
    /// (`ARCH_REQ_XCOMP_GUEST_PERM`), on which alone the size depends.
    #[must_use]
    pub fn new(vm: &VmFd) -> Self {
        // 0 before Linux 5.17, where every state fits 4096 bytes.
        let size = usize::try_from(vm.check_extension_int(Cap::Xsave2)).unwrap_or(0);
        let words = size.max(size_of::<kvm_xsave>()).div_ceil(size_of::<u32>());
        Self { words: vec![0; words].into(), sized: size > 0 }
    }

    /// The smallest there is, where no KVM says what it has.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn without_kvm() -> Self {
        Self { words: vec![0; size_of::<kvm_xsave>() / size_of::<u32>()].into(), sized: false }
    }

    /// The state.
    #[must_use]
    pub fn words(&self) -> &[u32] {
        &self.words
    }

    /// The state, to be changed; its size stays.
    #[must_use]
    pub fn words_mut(&mut self) -> &mut [u32] {
        &mut self.words
    }

    /// Reads a vCPU's state.
    ///
    /// # Errors
    /// As `KVM_GET_XSAVE2`.
    pub fn read(&mut self, vcpu: &VcpuFd) -> io::Result<()> {
        let area: *mut kvm_xsave = self.words.as_mut_ptr().cast();
        if self.sized {
            // SAFETY: the kernel writes as many bytes as `KVM_CAP_XSAVE2` said, which `words` has room for; the size is
            // that of all vCPUs of this process.
            unsafe { ioctl::get_xsave2(vcpu.as_raw_fd(), area) }?;
        } else {
            // SAFETY: the kernel writes a `kvm_xsave`, which `words` has room for.
            unsafe { ioctl::get_xsave(vcpu.as_raw_fd(), area) }?;
        }
        Ok(())
    }

    /// Sets a vCPU's state.
    ///
    /// # Errors
    /// As `KVM_SET_XSAVE`.
    pub fn write(&self, vcpu: &VcpuFd) -> io::Result<()> {
        let area: *const kvm_xsave = self.words.as_ptr().cast();
        // SAFETY: the kernel reads as many bytes as `KVM_CAP_XSAVE2` said, 4096 where it said nothing; `words` has them.
        unsafe { ioctl::set_xsave(vcpu.as_raw_fd(), area) }?;
        Ok(())
    }
}

fn tsc_offset_attribute(value: *mut u64) -> kvm_device_attr {
    kvm_device_attr {
        flags: 0,
        group: KVM_VCPU_TSC_CTRL,
        attr: u64::from(KVM_VCPU_TSC_OFFSET),
        addr: value as u64,
    }
}

/// The guest's TSC less the host's. `None` where KVM does not report it.
#[must_use]
pub fn tsc_offset(vcpu: &VcpuFd) -> Option<u64> {
    let mut value = 0_u64;
    let attribute = tsc_offset_attribute(&raw mut value);
    // SAFETY: for this attribute the kernel writes 8 bytes at `addr`, which is `value`.
    unsafe { ioctl::get_device_attr(vcpu.as_raw_fd(), &raw const attribute) }.ok()?;
    Some(value)
}

/// Sets the guest's TSC less the host's.
///
/// # Errors
/// As `KVM_SET_DEVICE_ATTR`.
pub fn set_tsc_offset(vcpu: &VcpuFd, mut value: u64) -> io::Result<()> {
    let attribute = tsc_offset_attribute(&raw mut value);
    // SAFETY: for this attribute the kernel reads 8 bytes at `addr`, which is `value`.
    unsafe { ioctl::set_device_attr(vcpu.as_raw_fd(), &raw const attribute) }?;
    Ok(())
}

/// A second mapping of a vCPU's `kvm_run`, for the one field that other threads may write.
#[derive(Debug)]
pub struct ImmediateExit {
    page: std::ptr::NonNull<libc::c_void>,
    length: usize,
}

// SAFETY: the mapping is only accessed through an atomic byte.
unsafe impl Send for ImmediateExit {}
// SAFETY: as above.
unsafe impl Sync for ImmediateExit {}

impl ImmediateExit {
    /// Maps `vcpu`'s `kvm_run`.
    ///
    /// # Errors
    /// As `mmap`.
    pub fn new(kvm: &Kvm, vcpu: &VcpuFd) -> io::Result<Self> {
        let length = kvm.get_vcpu_mmap_size()?;
        let size = std::num::NonZeroUsize::new(length)
            .ok_or_else(|| io::Error::other("KVM gives kvm_run no size"))?;
        // SAFETY: a new shared mapping at an address of the kernel's choice.
        let page = unsafe {
            nix::sys::mman::mmap(
                None,
                size,
                nix::sys::mman::ProtFlags::PROT_READ | nix::sys::mman::ProtFlags::PROT_WRITE,
                nix::sys::mman::MapFlags::MAP_SHARED,
                descriptor(vcpu),
                0,
            )
        }?;
        Ok(Self { page, length })
    }

    /// Makes the current or next `KVM_RUN` complete what is pending and return EINTR, until it is set back.
    pub fn set(&self, on: bool) {
        let run: *mut kvm_run = self.page.as_ptr().cast();
        // SAFETY: the mapping holds a kvm_run; the field is a byte that KVM reads on entry; all accesses of ours
        // to it are atomic.
        let flag = unsafe { AtomicU8::from_ptr(&raw mut (*run).immediate_exit) };
        flag.store(u8::from(on), Ordering::SeqCst);
    }
}

impl Drop for ImmediateExit {
    fn drop(&mut self) {
        // SAFETY: this object's own mapping, with no reference into it.
        let _ = unsafe { nix::sys::mman::munmap(self.page, self.length) };
    }
}

/// A vCPU's descriptor, to map parts of it.
pub(super) fn descriptor(vcpu: &VcpuFd) -> std::os::fd::BorrowedFd<'_> {
    // SAFETY: the descriptor is open for as long as `vcpu` is borrowed.
    unsafe { std::os::fd::BorrowedFd::borrow_raw(vcpu.as_raw_fd()) }
}

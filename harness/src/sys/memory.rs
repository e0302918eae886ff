//! Memory of the nodes: the shared telemetry mapping, advice on guest memory, descriptors inherited from the runner.

use std::io;
use std::num::NonZeroUsize;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;

use migbench_workloads::abi::{self, Control, VcpuTelemetry};
use migbench_workloads::pages::Page;
use migbench_workloads::units::{Bytes, PAGE_SIZE};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, mmap_anonymous, munmap};
use vm_memory::{MmapRegion, VolatileSlice};
use zerocopy::FromZeros;

use super::ram::GRANULE;

/// Telemetry of one guest, shared by both nodes and the guest.
#[derive(Debug)]
pub struct Telemetry {
    base: NonNull<libc::c_void>,
    size: usize,
    vcpus: usize,
    timing: bool,
}

// SAFETY: everything in the mapping is reached through atomics.
unsafe impl Send for Telemetry {}
// SAFETY: as above.
unsafe impl Sync for Telemetry {}

impl Telemetry {
    /// Maps `memfd` for a guest of `vcpus` vCPUs, growing the file to the size it needs, in whole large pages, as which other
    /// VMMs map it. What the nodes map is made resident, so that the guest never waits for it.
    ///
    /// # Errors
    /// As `ftruncate` and `mmap`.
    pub fn map(memfd: impl AsFd, vcpus: usize, timing: bool) -> io::Result<Self> {
        let size = abi::telemetry_size(vcpus, timing);
        let length = i64::try_from(Self::file_size(vcpus, timing).0)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "too many vCPUs"))?;
        nix::unistd::ftruncate(&memfd, length)?;
        let nonzero = NonZeroUsize::new(size)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "telemetry of no size"))?;
        // SAFETY: a new shared mapping at an address of the kernel's choice.
        let base = unsafe {
            mmap(
                None,
                nonzero,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_SHARED | MapFlags::MAP_POPULATE,
                memfd,
                0,
            )
        }?;
        Ok(Self { base, size, vcpus, timing })
    }

    /// Bytes of its file: whole large pages, and at its end room for what firmware keeps at the end of a machine's memory.
    #[must_use]
    pub const fn file_size(vcpus: usize, timing: bool) -> Bytes {
        const FIRMWARE: u64 = 1 << 20;
        Bytes((abi::telemetry_size(vcpus, timing) as u64 + FIRMWARE).next_multiple_of(GRANULE))
    }

    /// Its host address, for the memory slot and for leaving it out of accounts.
    #[must_use]
    pub fn host_address(&self) -> u64 {
        self.base.as_ptr() as u64
    }

    /// Bytes.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }

    /// vCPUs it has room for.
    #[must_use]
    pub const fn vcpus(&self) -> usize {
        self.vcpus
    }

    /// Whether it has histograms.
    #[must_use]
    pub const fn timing(&self) -> bool {
        self.timing
    }

    /// The page that the host writes.
    #[must_use]
    pub fn control(&self) -> &Control {
        // SAFETY: the mapping starts with the control page and lives as long as self; all fields are atomics.
        unsafe { &*self.base.as_ptr().cast::<Control>() }
    }

    /// The block of one vCPU.
    ///
    /// # Panics
    /// When there is no such vCPU.
    #[must_use]
    pub fn vcpu(&self, vcpu: usize) -> &VcpuTelemetry {
        assert!(vcpu < self.vcpus, "vCPU {vcpu} of {}", self.vcpus);
        // SAFETY: inside of the mapping, aligned to 4 KiB; all fields are atomics.
        unsafe { &*self.base.as_ptr().byte_add(abi::vcpu_offset(vcpu)).cast::<VcpuTelemetry>() }
    }

    /// The counters of one histogram; empty without timing.
    ///
    /// # Panics
    /// When an index is out of range.
    #[must_use]
    pub fn histogram(&self, vcpu: usize, phase: usize, operation: usize, clock: usize) -> &[AtomicU32] {
        assert!(vcpu < self.vcpus && phase < abi::PHASES, "histogram of vCPU {vcpu}, phase {phase}");
        assert!(operation < abi::OPERATIONS && clock < abi::CLOCKS, "histogram {operation}, {clock}");
        if !self.timing {
            return &[];
        }
        let offset = abi::histogram_offset(self.vcpus, vcpu, phase, operation, clock);
        // SAFETY: inside of the mapping by the checks above, 4-byte aligned; atomics.
        unsafe {
            std::slice::from_raw_parts(self.base.as_ptr().byte_add(offset).cast(), abi::HISTOGRAM_COUNTS)
        }
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        // SAFETY: this object's own mapping; references into it borrow self. The VM that had it as a slot is
        // dropped before (see vm::Vm's field order).
        let _ = unsafe { munmap(self.base, self.size) };
    }
}

/// Copies as much of `from` as fits into `to`, past the caches: a plain copy first reads every line that it is going
/// to overwrite, and evicts what the next frame needs. For memory that nobody reads soon.
pub fn copy_past_caches(to: &VolatileSlice<'_>, from: &[u8]) {
    use core::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};
    let guard = to.ptr_guard_mut();
    let start = guard.as_ptr();
    let (blocks, _) = from[..from.len().min(to.len())].as_chunks::<64>();
    if !start.addr().is_multiple_of(size_of::<__m128i>()) {
        to.copy_from(from);
        return;
    }
    for (n, block) in blocks.iter().enumerate() {
        let (from, to): (*const __m128i, *mut __m128i) =
            (block.as_ptr().cast(), start.wrapping_add(n * block.len()).cast());
        for part in 0..4 {
            // SAFETY: the load is inside of `block`. The store is inside of `to`, whose length is at least that of
            // all blocks, and which is valid for writes for as long as its guard lives; it is aligned, as checked.
            // SSE2 is part of x86-64. Nobody holds a reference to guest memory.
            unsafe { _mm_stream_si128(to.add(part), _mm_loadu_si128(from.add(part))) };
        }
    }
    // SAFETY: only orders the stores above before all later ones, so that whoever sees what comes next sees them.
    unsafe { _mm_sfence() };
    let done = blocks.as_flattened().len();
    if let Ok(rest) = to.offset(done) {
        rest.copy_from(&from[done..]);
    }
}

/// Keeps `[address, address + length)`, a mapping of guest memory, in 4 KiB pages.
pub fn forbid_huge_pages(address: *mut u8, length: usize) {
    if let Some(start) = NonNull::new(address.cast()) {
        // SAFETY: advice about page size changes no contents. Kernels without huge pages refuse it, which is as good.
        let _ = unsafe { madvise(start, length, MmapAdvise::MADV_NOHUGEPAGE) };
    }
}

/// Asks for `[address, address + length)`, a mapping of guest memory, in huge pages.
///
/// # Errors
/// `EINVAL` on a kernel without transparent huge pages.
pub fn ask_for_huge_pages(address: *mut u8, length: usize) -> io::Result<()> {
    let Some(start) = NonNull::new(address.cast()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    // SAFETY: advice about page size changes no contents.
    Ok(unsafe { madvise(start, length, MmapAdvise::MADV_HUGEPAGE) }?)
}

/// Private anonymous memory whose address is a multiple of a power of two; unmapped when this is dropped.
#[derive(Debug)]
pub struct Aligned {
    base: NonNull<libc::c_void>,
    size: usize,
}

// SAFETY: it is an address range, and gives no access to what is there.
unsafe impl Send for Aligned {}
// SAFETY: as above.
unsafe impl Sync for Aligned {}

impl Aligned {
    /// Maps `size` bytes of zeros, a multiple of `alignment`, and gives them as a region too. Whoever holds the
    /// region must keep the other as long.
    ///
    /// # Errors
    /// As `mmap`.
    pub fn map(size: usize, alignment: usize) -> io::Result<(MmapRegion, Self)> {
        let (aligned, flags) = Self::new(size, alignment, MapFlags::MAP_NORESERVE)?;
        // SAFETY: the mapping made above; `aligned` keeps it, by the contract as long as the region is in use.
        let region = unsafe {
            MmapRegion::build_raw(aligned.base.as_ptr().cast(), size, READ_WRITE.bits(), flags.bits())
        };
        Ok((region.map_err(io::Error::other)?, aligned))
    }

    /// The mapping, and all of its flags.
    fn new(size: usize, alignment: usize, flags: MapFlags) -> io::Result<(Self, MapFlags)> {
        let refused = || io::Error::from(io::ErrorKind::InvalidInput);
        let whole = size.checked_add(alignment).and_then(NonZeroUsize::new).ok_or_else(refused)?;
        if size == 0 || !alignment.is_power_of_two() || !size.is_multiple_of(alignment) {
            return Err(refused());
        }
        let flags = flags | MapFlags::MAP_PRIVATE | MapFlags::MAP_ANONYMOUS;
        // SAFETY: a new private mapping at an address of the kernel's choice.
        let base = unsafe { mmap_anonymous(None, whole, READ_WRITE, flags) }?;
        let before = base.addr().get().next_multiple_of(alignment) - base.addr().get();
        // SAFETY: inside of the mapping, which is longer than its part by `alignment`.
        let (start, end) = unsafe { (base.byte_add(before), base.byte_add(before + size)) };
        // SAFETY: the two ends of the mapping that was just made, which nobody else knows of; whole pages, since
        // `alignment` and the kernel's choice of address are.
        unsafe {
            if before > 0 {
                munmap(base, before)?;
            }
            if alignment > before {
                munmap(end, alignment - before)?;
            }
        }
        Ok((Self { base: start, size }, flags))
    }
}

/// What mappings may be used for.
const READ_WRITE: ProtFlags = ProtFlags::PROT_READ.union(ProtFlags::PROT_WRITE);

impl Drop for Aligned {
    fn drop(&mut self) {
        // SAFETY: this object's own mapping, of which no region is left by the contract of `map`.
        let _ = unsafe { munmap(self.base, self.size) };
    }
}

/// Makes a mapping resident and writable without changing it (Linux 5.14).
///
/// # Errors
/// As `madvise(MADV_POPULATE_WRITE)`; `ENOMEM` or `EFAULT` when memory runs out.
pub fn populate(address: *mut u8, length: usize) -> io::Result<()> {
    // SAFETY: populates pages without changing contents; a bad range is refused with ENOMEM.
    let result = unsafe { libc::madvise(address.cast(), length, libc::MADV_POPULATE_WRITE) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// There was no memory for something large.
#[derive(Debug, thiserror::Error)]
#[error(
    "no memory for {what} ({size}): choose a smaller `memory`, or raise the limit of this process (`ulimit -v`)"
)]
pub struct NoMemory {
    /// What it was wanted for.
    pub what: &'static str,
    /// How much was wanted.
    pub size: Bytes,
}

impl NoMemory {
    const fn of<T>(count: u64, what: &'static str) -> Self {
        Self { what, size: Bytes(count.saturating_mul(size_of::<T>() as u64)) }
    }
}

impl From<NoMemory> for io::Error {
    fn from(error: NoMemory) -> Self {
        Self::new(io::ErrorKind::OutOfMemory, error)
    }
}

/// `count` zeros for `what`, which the kernel gives as they are first touched. For what is as large as the guest, or as an
/// option makes it: a process that ends for lack of it takes the guest with it.
///
/// # Errors
/// [`NoMemory`].
pub fn zeroed<T: FromZeros>(count: u64, what: &'static str) -> Result<Vec<T>, NoMemory> {
    let length = usize::try_from(count).ok();
    length.and_then(|length| T::new_vec_zeroed(length).ok()).ok_or_else(|| NoMemory::of::<T>(count, what))
}

/// Pages that the kernel gives as they are first touched, zeros until then. They start at a page of the host, so that no access to
/// a line of one crosses a line of the caches, and large ones at a large page.
#[derive(Debug)]
pub struct PageMemory {
    memory: Aligned,
    count: usize,
}

impl PageMemory {
    /// `count` pages for `what`.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub fn map(count: u64, what: &'static str) -> Result<Self, NoMemory> {
        let none = || NoMemory::of::<Page>(count, what);
        let pages = usize::try_from(count).map_err(|_| none())?;
        let alignment = if count < GRANULE / PAGE_SIZE { PAGE_SIZE } else { GRANULE };
        let size =
            count.max(1).checked_mul(PAGE_SIZE).and_then(|size| size.checked_next_multiple_of(alignment));
        let (size, alignment) = size
            .and_then(|size| usize::try_from(size).ok())
            .zip(usize::try_from(alignment).ok())
            .ok_or_else(none)?;
        let (memory, _) = Aligned::new(size, alignment, MapFlags::empty()).map_err(|_| none())?;
        Ok(Self { memory, count: pages })
    }

    /// Takes all of them from the kernel now, as huge pages where it has some.
    ///
    /// # Errors
    /// [`NoMemory`], with `what` they are for.
    pub fn prefault(&mut self, what: &'static str) -> Result<(), NoMemory> {
        let start = self.memory.base.as_ptr().cast();
        // A kernel without huge pages gives others.
        let _ = ask_for_huge_pages(start, self.memory.size);
        populate(start, self.memory.size).map_err(|_| NoMemory::of::<Page>(self.count as u64, what))
    }
}

impl Deref for PageMemory {
    type Target = [Page];

    fn deref(&self) -> &[Page] {
        // SAFETY: the mapping has room for so many pages, any bytes are a page, and nobody else knows of it.
        unsafe { std::slice::from_raw_parts(self.memory.base.as_ptr().cast(), self.count) }
    }
}

impl DerefMut for PageMemory {
    fn deref_mut(&mut self) -> &mut [Page] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.memory.base.as_ptr().cast(), self.count) }
    }
}

/// Room for `more` entries behind those of a list for `what`.
///
/// # Errors
/// [`NoMemory`]; the list is as it was.
pub fn reserve<T>(list: &mut Vec<T>, more: usize, what: &'static str) -> Result<(), NoMemory> {
    list.try_reserve(more).map_err(|_| NoMemory::of::<T>((list.len() + more) as u64, what))
}

/// Lets a child process that is started next inherit `descriptor` under the same number.
///
/// # Errors
/// As `fcntl`.
pub fn leave_open(descriptor: &impl AsFd) -> io::Result<RawFd> {
    nix::fcntl::fcntl(descriptor, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()))?;
    Ok(std::os::fd::AsRawFd::as_raw_fd(&descriptor.as_fd()))
}

/// Takes over a descriptor that the parent process left open for us under a number it sent us.
///
/// # Errors
/// When the number is not an open descriptor.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD of any number is harmless.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: open, as just checked, and by the contract between runner and node nobody else's.
    let owned = unsafe { OwnedFd::from_raw_fd(number) };
    // Not for children of ours.
    nix::fcntl::fcntl(&owned, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
    Ok(owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_cannot_be_had_is_an_error_that_names_what_it_was_for() {
        assert_eq!(zeroed::<u16>(3, "three").unwrap(), [0; 3]);
        for count in [1 << 60, u64::MAX] {
            let error = zeroed::<u64>(count, "a test").unwrap_err().to_string();
            assert!(error.starts_with("no memory for a test (") && error.contains("ulimit -v"), "{error}");
        }
        let mut list = vec![7_u8];
        assert!(reserve(&mut list, usize::MAX - 1, "a test").is_err());
        reserve(&mut list, 9, "a test").unwrap();
        assert!(list == [7] && list.capacity() >= 10);
    }

    #[test]
    fn a_copy_past_the_caches_is_a_copy() {
        let from: Vec<u8> = (0..600_u32).map(|n| n.to_le_bytes()[0]).collect();
        for (start, length) in [(0, 512), (0, 600), (16, 130), (3, 400), (32, 10), (0, 0)] {
            let mut memory = vec![0xee_u8; 1024];
            let aligned = memory.as_ptr().align_offset(64);
            let to = VolatileSlice::from(&mut memory[aligned + start..aligned + start + 620]);
            copy_past_caches(&to, &from[..length]);
            assert_eq!(&memory[aligned + start..][..length], &from[..length], "{start} {length}");
            assert!(memory[aligned + start + length..].iter().all(|&byte| byte == 0xee), "{start} {length}");
            assert!(memory[..aligned + start].iter().all(|&byte| byte == 0xee), "{start} {length}");
        }
        let mut short = [0; 100];
        copy_past_caches(&VolatileSlice::from(&mut short[..]), &from);
        assert_eq!(short[..], from[..100]);
    }
}

//! Guest RAM: where it lies in guest-physical space, what it is made of, and copies of whole pages in and out.
//!
//! Pages are numbered densely through RAM from 0, over the hole below 4 GiB, so that bitmaps and frames need no
//! holes. Guest memory changes while it is read: there are copies, and no references.

use std::io;
use std::sync::Arc;

use migbench_scenarios::cell::Backing;
use migbench_workloads::units::{Bytes, Gpa, PAGE_SIZE};
use nix::sys::memfd::{MFdFlags, memfd_create};
use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{
    Bytes as _, FileOffset, GuestAddress, GuestMemoryBackend as _, GuestMemoryMmap, GuestRegionMmap,
    MmapRegion, VolatileSlice,
};

use super::live::{LivePage, TargetPage};
use super::memory::{self, Aligned};

/// Where RAM stops below 4 GiB, as on a PC.
pub const HOLE_START: u64 = 3 << 30;
/// Where RAM goes on.
pub const HOLE_END: u64 = 4 << 30;
/// RAM comes in whole large pages.
pub const GRANULE: u64 = 2 << 20;

/// Runs of this many bytes are long.
const STREAM: usize = 64 << 10;

/// Why there is no guest memory.
#[derive(Debug, thiserror::Error)]
pub enum RamError {
    /// Not a whole number of granules, or too small.
    #[error("guest memory of {0} is refused: it must be a multiple of 2MiB and at least 32MiB")]
    Size(Bytes),
    /// The kernel gave none.
    #[error("cannot map {size} of guest memory ({backing}): {source}")]
    Map {
        /// How much was wanted.
        size: Bytes,
        /// Of what kind.
        backing: Backing,
        /// What the kernel said.
        source: io::Error,
    },
    /// It could not be made resident.
    #[error("cannot make {size} of guest memory resident: {source}; choose a smaller `memory` or free some")]
    Populate {
        /// How much was wanted.
        size: Bytes,
        /// What the kernel said.
        source: io::Error,
    },
    /// An access past the end of RAM.
    #[error("page {page} is past the end of guest memory ({pages} pages)")]
    Range {
        /// The first page asked for.
        page: u64,
        /// How many there are.
        pages: u64,
    },
}

/// A contiguous part of RAM.
#[derive(Debug, Clone, Copy)]
pub struct Region {
    /// KVM's slot number.
    pub slot: u32,
    /// Guest-physical start.
    pub start: Gpa,
    /// Dense number of its first page.
    pub first_page: u64,
    /// Pages.
    pub pages: u64,
    /// Where the host has it.
    pub host_address: u64,
}

/// All RAM of one guest.
#[derive(Debug, Clone)]
pub struct Ram {
    memory: GuestMemoryMmap,
    regions: Vec<Region>,
    pages: u64,
    backing: Backing,
    /// What `memory` lies in where it does not own its mappings; dropped after it.
    _mappings: Vec<Arc<Aligned>>,
}

impl Ram {
    /// Maps `size` bytes of zeros.
    ///
    /// # Errors
    /// See [`RamError`].
    pub fn new(size: Bytes, backing: Backing) -> Result<Arc<Self>, RamError> {
        if size.0 < 32 << 20 || !size.0.is_multiple_of(GRANULE) {
            return Err(RamError::Size(size));
        }
        let low = size.0.min(HOLE_START);
        let mut ranges = vec![(0, low)];
        if size.0 > low {
            ranges.push((HOLE_END, size.0 - low));
        }
        let failed = |source| RamError::Map { size, backing, source };
        let (mut maps, mut mappings) = (Vec::new(), Vec::new());
        let mut regions = Vec::new();
        let mut first_page = 0;
        for (slot, (start, length)) in (0..).zip(ranges) {
            let (map, aligned) = map(length, backing).map_err(failed)?;
            mappings.extend(aligned.map(Arc::new));
            let host_address = map.as_ptr() as u64;
            let region = GuestRegionMmap::new(map, GuestAddress(start))
                .ok_or_else(|| failed(io::Error::other("the address space overflows")))?;
            maps.push(region);
            let pages = length / PAGE_SIZE;
            regions.push(Region { slot, start: Gpa(start), first_page, pages, host_address });
            first_page += pages;
        }
        let memory = GuestMemoryMmap::from_regions(maps).map_err(|e| failed(io::Error::other(e)))?;
        Ok(Arc::new(Self { memory, regions, pages: first_page, backing, _mappings: mappings }))
    }

    /// What it is made of.
    #[must_use]
    pub const fn backing(&self) -> Backing {
        self.backing
    }

    /// Pages of all RAM.
    #[must_use]
    pub const fn pages(&self) -> u64 {
        self.pages
    }

    /// Its parts, by address.
    #[must_use]
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// The mappings themselves, by guest-physical address.
    #[must_use]
    pub const fn mappings(&self) -> &GuestMemoryMmap {
        &self.memory
    }

    /// Makes all of it resident.
    ///
    /// # Errors
    /// [`RamError::Populate`].
    pub fn populate(&self) -> Result<(), RamError> {
        for region in &self.regions {
            let length = region.pages * PAGE_SIZE;
            let source = match usize::try_from(length) {
                Ok(length) => match memory::populate(region.host_address as *mut u8, length) {
                    Ok(()) => continue,
                    Err(error) => error,
                },
                Err(_) => io::Error::from(io::ErrorKind::OutOfMemory),
            };
            return Err(RamError::Populate { size: Bytes(self.pages * PAGE_SIZE), source });
        }
        Ok(())
    }

    /// The region of `page` and how many pages of it follow, that one included.
    fn locate(&self, page: u64) -> Result<(&Region, u64), RamError> {
        self.regions
            .iter()
            .find(|r| page < r.first_page + r.pages)
            .map(|r| (r, r.first_page + r.pages - page))
            .ok_or(RamError::Range { page, pages: self.pages })
    }

    /// Guest-physical address of a page.
    ///
    /// # Errors
    /// [`RamError::Range`].
    pub fn address(&self, page: u64) -> Result<Gpa, RamError> {
        let (region, _) = self.locate(page)?;
        Ok(Gpa(region.start.0 + (page - region.first_page) * PAGE_SIZE))
    }

    /// The memory of `count` pages from `first` on: one slice, or two over the hole.
    ///
    /// # Errors
    /// [`RamError::Range`].
    pub fn slices(
        &self,
        first: u64,
        count: u64,
    ) -> impl Iterator<Item = Result<VolatileSlice<'_>, RamError>> {
        let (mut page, end) = (first, first.saturating_add(count));
        std::iter::from_fn(move || {
            (page < end).then(|| {
                let bytes = usize::try_from((end - page).saturating_mul(PAGE_SIZE)).unwrap_or(usize::MAX);
                let slice = self.span(page, bytes).and_then(|(start, length)| {
                    self.memory.get_slice(start, length).map_err(|_| self.range(page))
                });
                page = slice.as_ref().map_or(end, |slice| page + slice.len() as u64 / PAGE_SIZE);
                slice
            })
        })
    }

    /// Page `page`, which the guest may be writing.
    ///
    /// # Errors
    /// [`RamError::Range`].
    #[inline]
    pub fn live(&self, page: u64) -> Result<LivePage<'_>, RamError> {
        // SAFETY: as of `host_page`.
        Ok(unsafe { LivePage::new(self.host_page(page)?.cast()) })
    }

    /// Page `page` of a guest that does not run yet, to be written in place.
    ///
    /// # Errors
    /// [`RamError::Range`].
    #[inline]
    pub fn target(&self, page: u64) -> Result<TargetPage<'_>, RamError> {
        // SAFETY: as of `host_page`; RAM is mapped for writing.
        Ok(unsafe { TargetPage::new(self.host_page(page)?) })
    }

    /// Where the host has a page: inside of its region's mapping, which lives as long as `self`, and at a page of the host.
    fn host_page(&self, page: u64) -> Result<*mut u8, RamError> {
        let (region, _) = self.locate(page)?;
        let start = region.host_address + (page - region.first_page) * PAGE_SIZE;
        // It was exposed when it became a number.
        Ok(std::ptr::with_exposed_provenance_mut(usize::try_from(start).unwrap_or(usize::MAX)))
    }

    /// Copies pages from `first` on into `buffer`, which holds whole pages.
    ///
    /// # Errors
    /// [`RamError::Range`].
    pub fn read(&self, first: u64, mut buffer: &mut [u8]) -> Result<(), RamError> {
        let mut page = first;
        while !buffer.is_empty() {
            let (start, length) = self.span(page, buffer.len())?;
            let (now, later) = buffer.split_at_mut(length);
            let slice = self.memory.get_slice(start, length).map_err(|_| self.range(page))?;
            slice.copy_to(now);
            buffer = later;
            page += (length as u64).div_ceil(PAGE_SIZE);
        }
        Ok(())
    }

    /// Copies whole pages into memory from page `first` on.
    ///
    /// # Errors
    /// [`RamError::Range`].
    pub fn write(&self, first: u64, data: &[u8]) -> Result<(), RamError> {
        self.store(first, data, usize::MAX)
    }

    /// As [`Self::write`], past the caches where runs are long: for what nobody reads before long, and caches would not keep.
    ///
    /// # Errors
    /// As there.
    pub fn write_past_caches(&self, first: u64, data: &[u8]) -> Result<(), RamError> {
        self.store(first, data, STREAM)
    }

    fn store(&self, first: u64, mut data: &[u8], stream_from: usize) -> Result<(), RamError> {
        let mut page = first;
        while !data.is_empty() {
            let (start, length) = self.span(page, data.len())?;
            let (now, later) = data.split_at(length);
            let slice = self.memory.get_slice(start, length).map_err(|_| self.range(page))?;
            if length >= stream_from {
                memory::copy_past_caches(&slice, now);
            } else {
                slice.copy_from(now);
            }
            data = later;
            page += (length as u64).div_ceil(PAGE_SIZE);
        }
        Ok(())
    }

    /// Writes bytes at a guest-physical address, for loading.
    ///
    /// # Errors
    /// [`RamError::Range`].
    pub fn write_at(&self, address: Gpa, data: &[u8]) -> Result<(), RamError> {
        self.memory.write_slice(data, GuestAddress(address.0)).map_err(|_| self.range(address.0 / PAGE_SIZE))
    }

    fn range(&self, page: u64) -> RamError {
        RamError::Range { page, pages: self.pages }
    }

    /// Address of `page`, and how much of `length` bytes lies in the same region.
    fn span(&self, page: u64, length: usize) -> Result<(GuestAddress, usize), RamError> {
        let (region, left) = self.locate(page)?;
        let start = region.start.0 + (page - region.first_page) * PAGE_SIZE;
        let room = usize::try_from(left * PAGE_SIZE).unwrap_or(usize::MAX);
        Ok((GuestAddress(start), length.min(room)))
    }

    /// Host ranges `[start, end)`, to leave them out of the process's own memory.
    #[must_use]
    pub fn host_ranges(&self) -> Vec<(u64, u64)> {
        self.regions.iter().map(|r| (r.host_address, r.host_address + r.pages * PAGE_SIZE)).collect()
    }
}

/// Maps `length` bytes, whole granules, of zeros. A region that does not own its mapping comes with what does.
pub(crate) fn map(length: u64, backing: Backing) -> io::Result<(MmapRegion, Option<Aligned>)> {
    let size = usize::try_from(length).map_err(io::Error::other)?;
    let builder = MmapRegionBuilder::new(size).with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE);
    let shared = |flags| -> io::Result<_> {
        let file = std::fs::File::from(memfd_create(c"migbench-ram", flags | MFdFlags::MFD_CLOEXEC)?);
        file.set_len(length)?;
        Ok(FileOffset::new(file, 0))
    };
    let region = match backing {
        Backing::Anonymous => {
            builder.with_mmap_flags(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE).build()
        }
        Backing::Memfd => {
            let file = shared(MFdFlags::empty())?;
            builder.with_mmap_flags(libc::MAP_SHARED).with_file_offset(file).build()
        }
        // Without MAP_NORESERVE the pool's pages are set aside here: a pool that is too small is an error of this
        // call, and not a signal at some later touch.
        Backing::Hugetlb => {
            let file = shared(MFdFlags::MFD_HUGETLB | MFdFlags::MFD_HUGE_2MB)?;
            builder.with_mmap_flags(libc::MAP_SHARED).with_file_offset(file).with_hugetlbfs(true).build()
        }
        Backing::Thp => {
            let granule = usize::try_from(GRANULE).map_err(io::Error::other)?;
            let (region, aligned) = Aligned::map(size, granule)?;
            memory::ask_for_huge_pages(region.as_ptr(), size)?;
            return Ok((region, Some(aligned)));
        }
    };
    let region = region.map_err(|error| match error {
        vm_memory::mmap::MmapRegionError::Mmap(error) => error,
        error => io::Error::other(error),
    })?;
    if !backing.is_huge() {
        memory::forbid_huge_pages(region.as_ptr(), size);
    }
    Ok((region, None))
}

/// Every region must be a valid slot for KVM: page-aligned and not empty.
const _: () = assert!(HOLE_START.is_multiple_of(GRANULE) && HOLE_END.is_multiple_of(GRANULE));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_odd_and_tiny_sizes() {
        for size in [0, 16 << 20, (64 << 20) + 4096] {
            assert!(matches!(Ram::new(Bytes(size), Backing::Anonymous), Err(RamError::Size(_))));
        }
    }

    #[test]
    fn pages_go_on_over_the_hole() {
        let ram = Ram::new(Bytes((3 << 30) + (64 << 20)), Backing::Anonymous).unwrap();
        let last_low = HOLE_START / PAGE_SIZE - 1;
        assert_eq!(ram.address(last_low).unwrap(), Gpa(HOLE_START - PAGE_SIZE));
        assert_eq!(ram.address(last_low + 1).unwrap(), Gpa(HOLE_END));
        let data: Vec<u8> = (0..3 * 4096_u32).map(|n| n.to_le_bytes()[1]).collect();
        ram.write(last_low - 1, &data).unwrap();
        let mut back = vec![0; data.len()];
        ram.read(last_low - 1, &mut back).unwrap();
        assert_eq!(back, data);
        let slices: Vec<_> = ram.slices(last_low - 1, 3).map(|slice| slice.unwrap().len()).collect();
        assert_eq!(slices, [8192, 4096]);
        assert_eq!(ram.slices(last_low, 0).count(), 0);
        assert!(ram.slices(ram.pages() - 1, 2).any(|slice| matches!(slice, Err(RamError::Range { .. }))));
    }

    #[test]
    fn transparent_huge_pages_start_on_their_own_bounds() {
        let ram = Ram::new(Bytes((3 << 30) + (64 << 20)), Backing::Thp).unwrap();
        assert!(ram.regions().iter().all(|region| region.host_address.is_multiple_of(GRANULE)));
        ram.write(ram.pages() - 1, &[7; 4096]).unwrap();
    }

    #[test]
    fn the_end_is_the_end() {
        for backing in [Backing::Anonymous, Backing::Memfd, Backing::Thp] {
            let ram = Ram::new(Bytes(32 << 20), backing).unwrap();
            assert!(ram.write(ram.pages() - 1, &[1; 4096]).is_ok());
            assert!(matches!(ram.write(ram.pages() - 1, &[1; 8192]), Err(RamError::Range { .. })));
            assert!(matches!(ram.read(ram.pages(), &mut [0; 4096]), Err(RamError::Range { .. })));
        }
    }
}

//! `PAGEMAP_SCAN` (Linux 6.7): which pages were written since they were last write-protected, and their protection
//! again, in one call (Documentation/admin-guide/mm/pagemap.rst).

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use zerocopy::FromZeros;

/// `PM_SCAN_WP_MATCHING`: what is reported is write-protected again.
const WP_MATCHING: u64 = 1 << 0;
/// `PM_SCAN_CHECK_WPASYNC`: memory that is not tracked is an error.
const CHECK_WPASYNC: u64 = 1 << 1;
/// `PAGE_IS_WRITTEN`.
const WRITTEN: u64 = 1 << 1;

/// The kernel's `struct page_region`: host addresses `[start, end)`.
#[derive(Debug, Clone, Copy, Default, FromZeros)]
#[repr(C)]
pub struct PageRange {
    /// First byte.
    pub start: u64,
    /// First byte after it.
    pub end: u64,
    categories: u64,
}

mod ioctl {
    #![allow(missing_docs)]

    /// The kernel's `struct pm_scan_arg`.
    #[derive(Debug, Default)]
    #[repr(C)]
    pub struct Scan {
        pub size: u64,
        pub flags: u64,
        pub start: u64,
        pub end: u64,
        pub walk_end: u64,
        pub vec: u64,
        pub vec_len: u64,
        pub max_pages: u64,
        pub category_inverted: u64,
        pub category_mask: u64,
        pub category_anyof_mask: u64,
        pub return_mask: u64,
    }

    nix::ioctl_readwrite!(pagemap_scan, b'f', 16, Scan);
}

// The kernel's headers: PAGEMAP_SCAN is _IOWR('f', 16, struct pm_scan_arg).
const _: () = assert!(nix::request_code_readwrite!(b'f', 16, size_of::<ioctl::Scan>()) == 0xc060_6610);
const _: () = assert!(size_of::<PageRange>() == 24);

/// This process's page tables, as the kernel shows them.
#[derive(Debug)]
pub struct Pagemap(File);

impl Pagemap {
    /// Opens them.
    ///
    /// # Errors
    /// As `open`.
    pub fn open() -> io::Result<Self> {
        File::open("/proc/self/pagemap").map(Self)
    }

    /// Finds pages of `[start, end)` that were written and write-protects them again, until all are found or
    /// `ranges` is full. Gives the ranges and how far it got, which is `end` when all were found.
    ///
    /// # Errors
    /// As the call; `EPERM` for memory without asynchronous write-protection, `ENOTTY` where there is no such call.
    pub fn take_written<'a>(
        &self,
        start: u64,
        end: u64,
        ranges: &'a mut [PageRange],
    ) -> io::Result<(&'a [PageRange], u64)> {
        let mut scan = ioctl::Scan {
            size: size_of::<ioctl::Scan>() as u64,
            flags: WP_MATCHING | CHECK_WPASYNC,
            start,
            end,
            vec: ranges.as_mut_ptr() as u64,
            vec_len: ranges.len() as u64,
            category_mask: WRITTEN,
            return_mask: WRITTEN,
            ..Default::default()
        };
        // SAFETY: the kernel writes at most `vec_len` ranges to `vec`, which has that many, and protects pages
        // without changing their contents.
        let found = unsafe { ioctl::pagemap_scan(self.0.as_raw_fd(), &raw mut scan) }?;
        let found = usize::try_from(found).unwrap_or(0).min(ranges.len());
        Ok((&ranges[..found], scan.walk_end))
    }

    /// Whether this kernel has the call.
    ///
    /// # Errors
    /// `ENOTTY` where it has not.
    pub fn probe(&self) -> io::Result<()> {
        let mut scan = ioctl::Scan { size: size_of::<ioctl::Scan>() as u64, ..Default::default() };
        // SAFETY: a scan of no memory into no ranges.
        match unsafe { ioctl::pagemap_scan(self.0.as_raw_fd(), &raw mut scan) } {
            Err(nix::errno::Errno::ENOTTY) => Err(nix::errno::Errno::ENOTTY.into()),
            _ => Ok(()),
        }
    }
}

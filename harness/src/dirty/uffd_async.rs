//! userfaultfd write-protection that the kernel lifts by itself (`WP_ASYNC`), read and re-armed in one call with
//! `PAGEMAP_SCAN` (Linux 6.7). It sees writes of the host as well as those of the guest.

use std::io;
use std::sync::Arc;

use migbench_scenarios::cell::{Tracker, TrackerSettings};
use migbench_workloads::units::PAGE_SIZE;

use super::{DirtyTracker, TrackerError};
use crate::sys::memory::zeroed;
use crate::sys::pagemap::{PageRange, Pagemap};
use crate::sys::ram::Ram;
use crate::sys::uffd::{Faults, WriteProtection};
use crate::vm::page_set::PageSet;

/// The tracker `uffd-async`.
#[derive(Debug)]
pub struct UffdAsync {
    ram: Arc<Ram>,
    /// Where the kernel puts what it found; may be shorter than that.
    ranges: Vec<PageRange>,
    armed: Option<(WriteProtection, Pagemap)>,
}

fn failed(action: &'static str) -> impl Fn(io::Error) -> TrackerError {
    move |source| TrackerError { tracker: Tracker::UffdAsync, action, source }
}

impl UffdAsync {
    /// A tracker of all RAM, not armed.
    ///
    /// # Errors
    /// When there is no memory for what a scan finds.
    pub fn new(ram: Arc<Ram>, settings: &TrackerSettings) -> Result<Self, TrackerError> {
        let ranges = zeroed(u64::from(settings.scan_ranges.max(1)), "tracker_settings.scan_ranges");
        Ok(Self { ram, ranges: ranges.map_err(TrackerError::no_memory(Tracker::UffdAsync))?, armed: None })
    }
}

impl DirtyTracker for UffdAsync {
    fn arm(&mut self) -> Result<(), TrackerError> {
        let pagemap = Pagemap::open().map_err(failed("open the page map"))?;
        let protection = WriteProtection::new(Faults::Note, self.ram.host_ranges())
            .map_err(failed("write-protect guest memory"))?;
        self.armed = Some((protection, pagemap));
        Ok(())
    }

    fn harvest(&mut self, dirty: &mut PageSet) -> Result<(), TrackerError> {
        let read = failed("scan the page map");
        let Some((_, pagemap)) = &self.armed else {
            return Err(read(io::Error::other("it is not armed")));
        };
        for region in self.ram.regions() {
            let page = |address: u64| region.first_page + (address - region.host_address) / PAGE_SIZE;
            let mut at = region.host_address;
            let end = at + region.pages * PAGE_SIZE;
            while at < end {
                let (found, reached) = pagemap.take_written(at, end, &mut self.ranges).map_err(&read)?;
                for range in found {
                    dirty.insert_run(page(range.start), (range.end - range.start) / PAGE_SIZE);
                }
                // A full vector ends the walk early. Without progress there would be no end.
                if reached <= at {
                    return Err(read(io::Error::other(format!("the scan stands still at {at:#x}"))));
                }
                at = reached;
            }
        }
        Ok(())
    }

    fn disarm(&mut self) -> Result<(), TrackerError> {
        let Some((protection, _)) = self.armed.take() else { return Ok(()) };
        protection.release().map_err(failed("lift the write-protection"))
    }
}

//! KVM's dirty bitmap in its oldest form: `KVM_GET_DIRTY_LOG` copies the bitmap, clears it and re-protects every
//! page in one call (Documentation/virt/kvm/api.rst, 4.8).

use std::io;
use std::sync::Arc;

use migbench_scenarios::cell::Tracker;

use super::{DirtyTracker, TrackerError};
use crate::sys::kvm::get_dirty_log;
use crate::sys::machine::Machine;
use crate::sys::memory::zeroed;
use crate::vm::page_set::PageSet;

/// The tracker `kvm-bitmap`.
#[derive(Debug)]
pub struct KvmBitmap {
    machine: Arc<Machine>,
    /// Where the kernel puts a slot's bitmap; as long as the largest slot needs.
    words: Vec<u64>,
}

fn failed(action: &'static str) -> impl Fn(io::Error) -> TrackerError {
    move |source| TrackerError { tracker: Tracker::KvmBitmap, action, source }
}

impl KvmBitmap {
    /// A tracker of all RAM, not armed.
    ///
    /// # Errors
    /// When there is no memory for the bitmap.
    pub fn new(machine: Arc<Machine>) -> Result<Self, TrackerError> {
        let largest = machine.ram().regions().iter().map(|r| r.pages).max().unwrap_or(0);
        let words = zeroed(largest.div_ceil(64), "a dirty bitmap");
        Ok(Self { machine, words: words.map_err(TrackerError::no_memory(Tracker::KvmBitmap))? })
    }
}

impl DirtyTracker for KvmBitmap {
    fn arm(&mut self) -> Result<(), TrackerError> {
        self.machine.set_logging(true).map_err(failed("turn dirty logging on"))
    }

    fn harvest(&mut self, dirty: &mut PageSet) -> Result<(), TrackerError> {
        for region in self.machine.ram().regions() {
            get_dirty_log(self.machine.vm(), region.slot, region.pages, &mut self.words)
                .map_err(failed("read the dirty log"))?;
            let used = usize::try_from(region.pages.div_ceil(64)).unwrap_or(self.words.len());
            dirty.insert_words(region.first_page, &self.words[..used]);
        }
        Ok(())
    }

    fn disarm(&mut self) -> Result<(), TrackerError> {
        self.machine.set_logging(false).map_err(failed("turn dirty logging off"))
    }
}

//! KVM's dirty rings: each vCPU enters the pages that it writes into a ring of its own (api.rst, 8.29).
//!
//! [`Rings`] collects them; a vCPU whose ring is full does so itself before it goes on, and so waits for nobody.
//!
//! **No kick before a harvest.** A CPU that logs in hardware first (PML) keeps up to 512 written pages of a vCPU to
//! itself until that vCPU leaves `KVM_RUN`, which is why api.rst wants vCPUs kicked out before their rings are believed.
//! This tracker does not kick a running guest, and loses nothing by it:
//! - A written page is at any time either in the CPU's buffer, in a ring, in the collected set, or reported. Only a
//!   reset makes a page writable-with-a-log again, and it is of entries that were taken, so a page in the buffer stays
//!   there until its vCPU exits, which moves it into the ring.
//! - So a harvest with the guest running may leave the newest pages to the next one, as it does with those written a
//!   moment after it. It never has to be the last word.
//! - The harvest that is the last word comes after the pause. The pause is the kick: each vCPU has left `KVM_RUN`, KVM has
//!   flushed its buffer, and nothing written before is missing.
//!
//! A kick in each round would interrupt the guest for a report that nobody needs yet. The price of none is that
//! `dirty_pages` of a round may lag by what the buffers hold. `KVM_GET_DIRTY_LOG` does not lag: KVM kicks for it.

use std::io;
use std::sync::Arc;

use migbench_scenarios::cell::Tracker;

use super::{DirtyTracker, TrackerError};
use crate::vm::page_set::PageSet;
use crate::vm::rings::Rings;

/// The tracker `kvm-ring`.
#[derive(Debug)]
pub struct KvmRing(Arc<Rings>);

fn failed(action: &'static str) -> impl Fn(io::Error) -> TrackerError {
    move |source| TrackerError { tracker: Tracker::KvmRing, action, source }
}

impl KvmRing {
    /// A tracker of all RAM, not armed.
    #[must_use]
    pub const fn new(rings: Arc<Rings>) -> Self {
        Self(rings)
    }
}

impl DirtyTracker for KvmRing {
    fn arm(&mut self) -> Result<(), TrackerError> {
        self.0.start().map_err(failed("reset the dirty rings and turn logging on"))
    }

    fn harvest(&mut self, dirty: &mut PageSet) -> Result<(), TrackerError> {
        self.0.take(dirty).map_err(failed("reset the dirty rings"))
    }

    fn disarm(&mut self) -> Result<(), TrackerError> {
        self.0.stop().map_err(failed("turn dirty logging off"))
    }
}

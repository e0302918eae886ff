//! KVM's dirty rings: each vCPU enters the pages that it writes into a ring of its own (api.rst, 8.29).
//!
//! Entries are collected into a set by the harvest, and by a vCPU whose ring is full, which does so itself before it
//! goes on and so waits for nobody. Collecting ends with the reset that write-protects the pages again, so a page is
//! never read before.
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
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kvm_ioctls::VcpuFd;
use migbench_reports::record::Cause;
use migbench_scenarios::cell::Tracker;

use super::{DirtySet, DirtyTracker, TrackerError};
use crate::sys::kvm::reset_dirty_rings;
use crate::sys::machine::Machine;
use crate::sys::ring::Ring;
use crate::sys::{clock, thread};
use crate::vm::memory::Region;

/// The rings of all vCPUs of a machine.
#[derive(Debug)]
pub struct Rings {
    machine: Arc<Machine>,
    collected: Mutex<Collected>,
    full: AtomicU64,
}

#[derive(Debug)]
struct Collected {
    rings: Vec<Ring>,
    /// Pages taken from the rings and not harvested yet.
    pages: DirtySet,
    /// Entries that were handed back and that KVM has not reset yet.
    owed: u64,
    /// A reset stopped half-way: pages may be writable without an entry. The guest can live with that, a tracker
    /// cannot.
    short: bool,
}

impl Rings {
    /// The rings of `vcpus`, all of them, whose machine logs to rings of `entries` entries.
    ///
    /// # Errors
    /// As `mmap`.
    pub fn new(machine: Arc<Machine>, vcpus: &[VcpuFd], entries: u32) -> io::Result<Self> {
        let rings = vcpus.iter().map(|vcpu| Ring::new(vcpu, entries)).collect::<Result<_, _>>()?;
        let pages = DirtySet::new(machine.ram().pages());
        Ok(Self {
            machine,
            collected: Mutex::new(Collected { rings, pages, owed: 0, short: false }),
            full: AtomicU64::new(0),
        })
    }

    /// Empties all rings and re-arms what was in them.
    fn collect(&self, collected: &mut Collected) -> io::Result<()> {
        let regions = self.machine.ram().regions();
        // Entries of a slot come in rows: most often it is the region of the entry before.
        let mut region = regions.first();
        let Collected { rings, pages, owed, .. } = collected;
        for ring in rings {
            while let Some((slot, page)) = ring.take() {
                *owed += 1;
                // The upper half is the address space, of which there is one.
                let holds = |r: &&Region| r.slot == slot && page < r.pages;
                region = region.filter(holds).or_else(|| regions.iter().find(holds));
                let Some(region) = region else {
                    return Err(io::Error::other(format!("a dirty ring names page {page} of slot {slot}")));
                };
                pages.insert(region.first_page + page);
            }
        }
        self.reset(collected)
    }

    /// Has KVM take back the entries that were handed to it.
    fn reset(&self, collected: &mut Collected) -> io::Result<()> {
        if collected.owed > 0 {
            let reset = reset_dirty_rings(self.machine.vm())?;
            collected.short |= reset < collected.owed;
            collected.owed = collected.owed.saturating_sub(reset);
        }
        Ok(())
    }

    /// The least that a harvest needs, for benches: walks all rings and resets them, and forgets what was in them.
    ///
    /// # Errors
    /// As the reset.
    #[doc(hidden)]
    pub fn discard(&self) -> io::Result<u64> {
        let mut collected = self.collected.lock().unwrap_or_else(PoisonError::into_inner);
        let taken: u64 =
            collected.rings.iter_mut().map(|ring| std::iter::from_fn(|| ring.take()).count() as u64).sum();
        collected.owed += taken;
        self.reset(&mut collected)?;
        Ok(taken)
    }

    /// Makes room; called by a vCPU whose ring is full.
    ///
    /// # Errors
    /// As the reset.
    pub fn make_room(&self) -> io::Result<()> {
        let start = clock::tsc();
        self.full.fetch_add(1, Ordering::Relaxed);
        let made = self.collect(&mut self.collected.lock().unwrap_or_else(PoisonError::into_inner));
        self.machine.events().enter(Cause::RingFull, start, Some(thread::id()));
        made
    }

    /// How often a ring was full.
    #[must_use]
    pub fn times_full(&self) -> u64 {
        self.full.load(Ordering::Relaxed)
    }
}

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
        // What is left in the rings belongs to an earlier time, and all pages are protected anew.
        let mut collected = self.0.collected.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.collect(&mut collected).map_err(failed("reset the dirty rings"))?;
        collected.pages.clear();
        collected.short = false;
        self.0.machine.set_logging(true).map_err(failed("turn dirty logging on"))
    }

    fn harvest(&mut self, dirty: &mut DirtySet) -> Result<(), TrackerError> {
        let mut collected = self.0.collected.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.collect(&mut collected).map_err(failed("reset the dirty rings"))?;
        if collected.short {
            let source = io::Error::other("KVM reset fewer entries than were handed back");
            return Err(failed("trust the dirty rings")(source));
        }
        dirty.absorb(&mut collected.pages);
        Ok(())
    }

    fn disarm(&mut self) -> Result<(), TrackerError> {
        self.0.machine.set_logging(false).map_err(failed("turn dirty logging off"))
    }
}

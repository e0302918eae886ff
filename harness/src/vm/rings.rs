//! The dirty rings of a machine: KVM enters the pages that a vCPU writes into a ring of its own (api.rst, 8.29). Entries are
//! collected into a set by whoever asks for them, and by a vCPU whose ring is full. Collecting ends with the reset that
//! write-protects the pages again, so a page is never read before.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kvm_ioctls::VcpuFd;
use migbench_reports::record::Cause;

use super::events::EventLog;
use super::page_set::PageSet;
use crate::sys::kvm::reset_dirty_rings;
use crate::sys::machine::Machine;
use crate::sys::ram::Region;
use crate::sys::ring::DirtyRing;
use crate::sys::{clock, thread};

/// The rings of all vCPUs of a machine.
#[derive(Debug)]
pub struct Rings {
    machine: Arc<Machine>,
    events: Arc<EventLog>,
    collected: Mutex<Collected>,
    full: AtomicU64,
}

#[derive(Debug)]
struct Collected {
    rings: Vec<DirtyRing>,
    /// Pages taken from the rings and not harvested yet.
    pages: PageSet,
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
    /// As `mmap`, and when there is no memory for the pages that are collected.
    pub fn new(
        machine: Arc<Machine>,
        events: Arc<EventLog>,
        vcpus: &[VcpuFd],
        entries: u32,
    ) -> io::Result<Self> {
        let rings = vcpus.iter().map(|vcpu| DirtyRing::new(vcpu, entries)).collect::<Result<_, _>>()?;
        let pages = PageSet::new(machine.ram().pages())?;
        Ok(Self {
            machine,
            events,
            collected: Mutex::new(Collected { rings, pages, owed: 0, short: false }),
            full: AtomicU64::new(0),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Collected> {
        // A panic of a thread that collects leaves plain data behind.
        self.collected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Turns logging on. What is left in the rings belongs to an earlier time, and all pages are protected anew.
    ///
    /// # Errors
    /// As the reset, and as turning logging on.
    pub fn start(&self) -> io::Result<()> {
        let mut collected = self.lock();
        self.collect(&mut collected)?;
        collected.pages.clear();
        collected.short = false;
        self.machine.set_logging(true)
    }

    /// Adds to `pages` what was written since the last call.
    ///
    /// # Errors
    /// As the reset; also when KVM reset fewer entries than were handed back, since pages may be writable unlogged then.
    pub fn take(&self, pages: &mut PageSet) -> io::Result<()> {
        let mut collected = self.lock();
        self.collect(&mut collected)?;
        if collected.short {
            return Err(io::Error::other("KVM reset fewer entries than were handed back"));
        }
        pages.absorb(&mut collected.pages);
        Ok(())
    }

    /// Turns logging off.
    ///
    /// # Errors
    /// As turning it off.
    pub fn stop(&self) -> io::Result<()> {
        self.machine.set_logging(false)
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
        let mut collected = self.lock();
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
        let made = self.collect(&mut self.lock());
        self.events.enter(Cause::RingFull, start, Some(thread::id()));
        made
    }

    /// Pages that each vCPU has entered since its ring was made, modulo 2^32; of as many as there is room for.
    pub fn written(&self, of_vcpus: &mut [u32]) {
        for (written, ring) in of_vcpus.iter_mut().zip(&mut self.lock().rings) {
            *written = ring.filled();
        }
    }

    /// How often a ring was full.
    #[must_use]
    pub fn times_full(&self) -> u64 {
        self.full.load(Ordering::Relaxed)
    }
}

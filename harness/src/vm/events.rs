//! What the host did to a guest, and when: the log with which stalls of the guest are compared.
//!
//! Times are the host's TSC, of which the guest's differs by a constant. The log belongs to the machine, so that
//! whoever works on it finds the log: trackers, the thread that handles faults, a vCPU with a full ring. It is off until
//! somebody makes room, and then costs each entry two readings of the TSC and three stores. It allocates nothing after
//! that and is never full without saying so.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU64, AtomicUsize, Ordering};

use migbench_reports::record::Cause;
use serde::{Deserialize, Serialize};

use crate::sys::clock;
use crate::sys::memory::{NoMemory, reserve};

/// Entries that a migration has room for: 3 MiB, or some seconds of a guest that faults all the time.
pub const ROOM: usize = 1 << 17;

/// An entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The host's TSC when it began.
    pub start: u64,
    /// The host's TSC when it was over.
    pub end: u64,
    /// What was done.
    pub cause: Cause,
    /// The vCPU that waited for it; none where it may have held up any.
    pub vcpu: Option<u32>,
}

#[derive(Debug, Default)]
struct EventSlot {
    start: AtomicU64,
    end: AtomicU64,
    thread: AtomicI32,
    /// Index in [`Cause::ALL`], plus one once the slot is filled.
    cause: AtomicU8,
}

/// The log.
#[derive(Debug, Default)]
pub struct EventLog {
    slots: OnceLock<Box<[EventSlot]>>,
    next: AtomicUsize,
    /// The host's TSC from which on entries are lost.
    full_since: AtomicU64,
}

impl EventLog {
    /// Turns it on, with room for that many entries; the memory is touched here. A second call changes nothing.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub fn make_room(&self, entries: usize) -> Result<(), NoMemory> {
        let mut slots = Vec::new();
        reserve(&mut slots, entries, "the log of what held up the guest")?;
        slots.extend((0..entries).map(|_| EventSlot::default()));
        // Zeros may come as pages that are not there yet.
        slots.iter().for_each(|slot: &EventSlot| slot.start.store(1, Ordering::Relaxed));
        self.slots.get_or_init(|| slots.into_boxed_slice());
        Ok(())
    }

    /// Bytes that it holds.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.slots.get().map_or(0, |slots| size_of_val::<[EventSlot]>(slots) as u64)
    }

    /// Enters what has lasted from `start`, by [`clock::tsc`], until now, for which `thread` waited.
    pub fn enter(&self, cause: Cause, start: u64, thread: Option<i32>) {
        let Some(slots) = self.slots.get() else { return };
        let end = clock::tsc();
        let Some(slot) = slots.get(self.next.fetch_add(1, Ordering::Relaxed)) else {
            let _ = self.full_since.compare_exchange(0, start.max(1), Ordering::Relaxed, Ordering::Relaxed);
            return;
        };
        slot.start.store(start, Ordering::Relaxed);
        slot.end.store(end, Ordering::Relaxed);
        slot.thread.store(thread.unwrap_or(0), Ordering::Relaxed);
        slot.cause.store(number(cause), Ordering::Release);
    }

    /// What was entered, in no order, of a guest whose vCPUs have these threads. Entries in the making are left out.
    #[must_use]
    pub fn entries(&self, vcpus: &[i32]) -> Vec<Event> {
        let filled = self.next.load(Ordering::Acquire);
        let slots = self.slots.get().map_or(&[][..], |slots| &slots[..filled.min(slots.len())]);
        slots.iter().filter_map(|slot| slot.event(vcpus)).collect()
    }

    /// The host's TSC from which on entries are lost; none while there is room.
    #[must_use]
    pub fn full_since(&self) -> Option<u64> {
        Some(self.full_since.load(Ordering::Relaxed)).filter(|&since| since != 0)
    }
}

/// Its place in [`Cause::ALL`], counted from 1.
fn number(cause: Cause) -> u8 {
    let place = Cause::ALL.iter().position(|(_, known)| *known == cause).unwrap_or(0);
    u8::try_from(place + 1).unwrap_or(0)
}

impl EventSlot {
    fn event(&self, vcpus: &[i32]) -> Option<Event> {
        let number = usize::from(self.cause.load(Ordering::Acquire));
        let (_, cause) = *Cause::ALL.get(number.checked_sub(1)?)?;
        let thread = self.thread.load(Ordering::Relaxed);
        let vcpu = vcpus.iter().position(|&id| id == thread && id != 0);
        Some(Event {
            start: self.start.load(Ordering::Relaxed),
            end: self.end.load(Ordering::Relaxed),
            cause,
            vcpu: vcpu.and_then(|index| u32::try_from(index).ok()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_is_off_holds_nothing() {
        let log = EventLog::default();
        log.enter(Cause::Arm, clock::tsc(), None);
        assert_eq!((log.entries(&[]), log.full_since(), log.size()), (vec![], None, 0));
    }

    #[test]
    fn entries_are_kept_until_it_is_full_and_that_is_reported() {
        let log = EventLog::default();
        log.make_room(2).unwrap();
        log.enter(Cause::Fault, 5, Some(77));
        log.enter(Cause::Harvest, 6, None);
        assert_eq!(log.full_since(), None);
        log.enter(Cause::Clear, 7, None);
        log.enter(Cause::Clear, 8, None);
        assert_eq!(log.full_since(), Some(7), "the first that was lost");
        let entries = log.entries(&[76, 77]);
        let summary: Vec<_> = entries.iter().map(|e| (e.cause, e.start, e.vcpu)).collect();
        assert_eq!(summary, [(Cause::Fault, 5, Some(1)), (Cause::Harvest, 6, None)]);
        assert!(entries.iter().all(|entry| entry.end > entry.start));
    }

    #[test]
    fn many_threads_enter_without_losing_any() {
        let log = EventLog::default();
        log.make_room(4000).unwrap();
        std::thread::scope(|scope| {
            for thread in 1..=4 {
                let log = &log;
                scope.spawn(move || (0..1000).for_each(|n| log.enter(Cause::Fault, n, Some(thread))));
            }
        });
        let mut entries: Vec<_> = log.entries(&[1, 2, 3, 4]).iter().map(|e| (e.vcpu, e.start)).collect();
        entries.sort_unstable();
        entries.dedup();
        assert_eq!((entries.len(), log.full_since()), (4000, None));
    }
}

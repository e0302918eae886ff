//! The parts of the working set, each with its program's state: one for each vCPU, or more of them that all vCPUs share
//! under locks. States lie in guest memory, as the parts do, and move with it.

use core::cell::UnsafeCell;
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::abi::{self, Params};
use crate::memory::Memory;
use crate::programs::{PartContext, Program};

/// Not started.
const ABSENT: u32 = 0;
const FREE: u32 = 1;
const HELD: u32 = 2;

/// Room for a state.
const ROOM: usize = 4096 - 64;

/// A page of its own, so that two vCPUs never write to one cache line.
#[repr(C, align(4096))]
struct PartSlot {
    lock: AtomicU32,
    page_writes: UnsafeCell<u64>,
    align: [u64; 6],
    state: UnsafeCell<[u8; ROOM]>,
}

// SAFETY: whoever holds the lock, or owns the part, is the only one to touch the cells.
unsafe impl Sync for PartSlot {}

static SLOTS: [PartSlot; abi::MAX_PARTS] = [const {
    PartSlot {
        lock: AtomicU32::new(ABSENT),
        page_writes: UnsafeCell::new(0),
        align: [0; 6],
        state: UnsafeCell::new([0; ROOM]),
    }
}; abi::MAX_PARTS];

/// The parts as one program's.
pub struct Parts<'a, P> {
    params: &'a Params,
    memory: &'a Memory,
    program: core::marker::PhantomData<P>,
}

impl<'a, P: Program> Parts<'a, P> {
    /// For the program that `params` names, and no other.
    pub fn new(params: &'a Params, memory: &'a Memory) -> Self {
        const { assert!(size_of::<P>() <= ROOM && align_of::<P>() <= 64) };
        if params.parts as usize > abi::MAX_PARTS || params.parts == 0 {
            crate::fatal("no parts, or too many");
        }
        Self { params, memory, program: core::marker::PhantomData }
    }

    /// Fills the memory of a part and makes its state; no other vCPU does so.
    pub fn start(&self, part: u64) {
        let (first_page, pages) = self.params.part(part);
        let slot = &SLOTS[part as usize];
        // SAFETY: until the lock says that it is there, only this vCPU uses the part; the state has room and alignment.
        unsafe {
            let memory = self.memory.slice(first_page, pages);
            let state = P::start(&PartContext { params: self.params, part, first_page }, memory);
            slot.state.get().cast::<P>().write(state);
        }
        slot.lock.store(FREE, Release);
    }

    /// Gives a part's state and memory to `f`; where vCPUs share the parts, under its lock.
    #[inline(always)]
    pub fn with<R>(&self, part: u64, f: impl FnOnce(&mut P, &mut [P::MemoryUnit]) -> R) -> R {
        let slot = &SLOTS[part as usize];
        let shared = self.params.shared();
        if shared {
            while slot.lock.compare_exchange_weak(FREE, HELD, Acquire, Relaxed).is_err() {
                core::hint::spin_loop();
            }
        }
        let (first_page, pages) = self.params.part(part);
        // SAFETY: this vCPU holds the lock or owns the part, and `start` made the state.
        let result = unsafe { f(&mut *slot.state.get().cast::<P>(), self.memory.slice(first_page, pages)) };
        if shared {
            slot.lock.store(FREE, Release);
        }
        result
    }

    /// Adds to the page writes of a part; only from inside of [`Self::with`].
    #[inline(always)]
    pub fn wrote(&self, part: u64, pages: u64) {
        // SAFETY: the caller holds the part.
        unsafe { *SLOTS[part as usize].page_writes.get() += pages }
    }

    /// Page writes of all parts. No vCPU may be working.
    pub fn page_writes(&self) -> u64 {
        // SAFETY: nobody writes.
        SLOTS[..self.params.parts as usize].iter().map(|slot| unsafe { *slot.page_writes.get() }).sum()
    }
}

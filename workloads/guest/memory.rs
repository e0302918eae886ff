//! Guest memory as PVH describes it: where RAM is, what of it the program owns, and the page tables over it.

use core::cell::UnsafeCell;

use crate::abi::{self, Params};
use crate::machine::{self, PageTable};

/// `struct hvm_start_info` of Xen's public headers, version 1.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    modules: u32,
    module_list: u64,
    command_line: u64,
    rsdp: u64,
    memory_map: u64,
    memory_map_entries: u32,
    reserved: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Module {
    address: u64,
    size: u64,
    command_line: u64,
    reserved: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct MapEntry {
    address: u64,
    size: u64,
    kind: u32,
    reserved: u32,
}

impl StartInfo {
    /// # Safety
    /// `address` is what the loader gave, and mapped.
    pub unsafe fn read(address: u64) -> Self {
        // SAFETY: the caller's.
        let info: Self = unsafe { (address as *const Self).read_unaligned() };
        if info.magic != 0x336e_c578 || info.version < 1 {
            crate::fatal("no PVH start info of version 1");
        }
        info
    }

    /// A copy of the parameter block in the first module.
    pub fn params(&self) -> Params {
        if self.modules == 0 {
            crate::fatal("no PVH module with parameters");
        }
        // SAFETY: PVH gives physical addresses; loaders place modules in RAM under 4 GiB.
        unsafe {
            let module = (self.module_list as *const Module).read_unaligned();
            if module.address + module.size > 1 << 30 {
                map(module.address, module.size);
            }
            if module.size < size_of::<Params>() as u64 {
                crate::fatal("the parameter block is too short");
            }
            (module.address as *const Params).read_unaligned()
        }
    }
}

/// Where the program sees the pages that it owns, all in a row, whatever holes lie between them in physical memory.
const WINDOW: u64 = 256 << 30;

/// The pages that the program owns, numbered through all RAM from [`abi::RESERVED`] on.
pub struct Memory {
    ranges: [(u64, u64); 8],
    count: usize,
    pages: u64,
}

impl Memory {
    pub const fn empty() -> Self {
        Self { ranges: [(0, 0); 8], count: 0, pages: 0 }
    }

    /// How many there are.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// The physical address of page `index`.
    pub fn address(&self, index: u64) -> u64 {
        let mut left = index;
        for &(start, pages) in &self.ranges[..self.count] {
            if left < pages {
                return start + left * 4096;
            }
            left -= pages;
        }
        crate::fatal("a page number over the end of memory")
    }

    /// The first word of page `index`, for volatile access of vCPUs that share it.
    pub fn first_word(&self, index: u64) -> *mut u64 {
        if index >= self.pages {
            crate::fatal("a page number over the end of memory");
        }
        (WINDOW + index * 4096) as *mut u64
    }

    /// Pages from `first` on, as units of a page's size or a divisor of it.
    ///
    /// # Safety
    /// The caller is their only user while the reference lives; any bytes are a valid `U`.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn slice<U>(&self, first: u64, pages: u64) -> &mut [U] {
        if first + pages > self.pages {
            crate::fatal("pages over the end of memory");
        }
        let units = pages as usize * 4096 / size_of::<U>();
        // SAFETY: set_up mapped all owned pages at the window; the caller is their only user.
        unsafe { core::slice::from_raw_parts_mut((WINDOW + first * 4096) as *mut U, units) }
    }
}

/// Reads the memory map; maps all RAM at the window, and telemetry at its address.
pub fn set_up(info: &StartInfo, params: &Params) -> Memory {
    /// What one entry of a page directory maps.
    const LARGE: u64 = 2 << 20;
    let mut memory = Memory::empty();
    let mut window = Window::new();
    for n in 0..u64::from(info.memory_map_entries) {
        // SAFETY: PVH gives the map's address, in the first GiB with every loader that we know.
        let entry = unsafe { ((info.memory_map + n * size_of::<MapEntry>() as u64) as *const MapEntry).read_unaligned() };
        let start = entry.address.max(abi::RESERVED).next_multiple_of(LARGE);
        let mut end = (entry.address + entry.size) & !4095;
        // A VMM that has no place beside RAM for telemetry has it at the end of RAM.
        if (start..end).contains(&params.telemetry) {
            end = params.telemetry;
        }
        if entry.kind != 1 || start >= end {
            continue;
        }
        if memory.count == memory.ranges.len() {
            crate::fatal("more than eight ranges of RAM");
        }
        // What comes before must end with a whole large page, or the row would have a gap.
        if let Some(before) = memory.count.checked_sub(1) {
            let kept = memory.ranges[before].1 & !511;
            memory.pages -= memory.ranges[before].1 - kept;
            memory.ranges[before].1 = kept;
            window.shorten(memory.pages / 512);
        }
        let mut address = start;
        while address < end {
            window.push(address);
            address += LARGE;
        }
        memory.ranges[memory.count] = (start, (end - start) / 4096);
        memory.count += 1;
        memory.pages += (end - start) / 4096;
    }
    window.link();
    map(params.telemetry, params.telemetry_size);
    if memory.pages == 0 || params.working_set > memory.pages {
        crate::fatal("the working set is larger than memory");
    }
    memory
}

/// Large pages at [`WINDOW`], one after another.
struct Window {
    directories: u64,
    used: u64,
}

impl Window {
    fn new() -> Self {
        Self { directories: 0, used: 0 }
    }

    fn push(&mut self, address: u64) {
        if self.used == self.directories * 512 {
            self.directories += 1;
        }
        // SAFETY: only the first vCPU runs, and the directory is not linked yet.
        unsafe {
            let (tables, _) = &mut *SPARE.0.get();
            if self.directories as usize > tables.len() {
                crate::fatal("memory over 256 GiB");
            }
            (&mut *tables[(self.used / 512) as usize].0.get())[(self.used % 512) as usize] = address | 0x87;
        }
        self.used += 1;
    }

    fn shorten(&mut self, entries: u64) {
        self.used = entries;
        self.directories = entries.div_ceil(512);
    }

    /// Links full directories: each write to a live table is a trap where page tables are virtualised in software.
    fn link(self) {
        // SAFETY: only the first vCPU runs; the entries were absent, so no stale translation exists.
        unsafe {
            let (tables, used) = &mut *SPARE.0.get();
            let top = &mut *machine::pdpt.0.get();
            core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::SeqCst);
            for directory in 0..self.directories {
                let entry = &raw mut top[((WINDOW >> 30) + directory) as usize];
                entry.write_volatile(tables[directory as usize].0.get() as u64 | 7);
            }
            *used = self.directories as usize;
        }
    }
}

/// Page directories for the window and for what lies over the first GiB: enough for nearly 256 GiB.
const DIRECTORIES: usize = 256;

struct Directories(UnsafeCell<([PageTable; DIRECTORIES], usize)>);

// SAFETY: only the first vCPU maps, before others start.
unsafe impl Sync for Directories {}

static SPARE: Directories =
    Directories(UnsafeCell::new(([const { PageTable(UnsafeCell::new([0; 512])) }; DIRECTORIES], 0)));

/// Maps `[address, address + size)` one to one, by whole GiB in 2 MiB pages. A directory is filled before it is
/// linked: each write to a live table is a trap where page tables are virtualised in software.
pub fn map(address: u64, size: u64) {
    let last = address + size.max(1) - 1;
    for gib in address >> 30..=last >> 30 {
        // SAFETY: only the first vCPU runs; the entry was absent, so no stale translation exists.
        unsafe {
            let top = &mut *machine::pdpt.0.get();
            if gib >= WINDOW >> 30 {
                crate::fatal("an address over 256 GiB");
            }
            if top[gib as usize] != 0 {
                continue;
            }
            let (tables, used) = &mut *SPARE.0.get();
            if *used == DIRECTORIES {
                crate::fatal("memory over 256 GiB");
            }
            let directory = &mut *tables[*used].0.get();
            *used += 1;
            for (n, entry) in directory.iter_mut().enumerate() {
                *entry = (gib << 30) + ((n as u64) << 21) | 0x87;
            }
            core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::SeqCst);
            (&raw mut top[gib as usize]).write_volatile(directory.as_ptr() as u64 | 7);
        }
    }
}

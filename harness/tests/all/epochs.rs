//! Every tracker against the oracle of the kernel's `dirty_log_test`: the guest writes the number of its pass, the
//! epoch, to pages that it chooses at random, and the host sees by their content which pages changed since it last looked.
//!
//! In step, with the guest between two passes and paused, what is reported must be exactly what changed, to the page: none
//! missed, none reported without a new epoch, none twice. That also is the proof that a paused harvest is the last word: a
//! vCPU may have been stopped anywhere between its last write and the harvest. Racing with the guest, a page whose new
//! epoch was seen before a harvest must have been reported by its end.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::{Duration, Instant};

use crate::support::{cell, require_kvm, telemetry_file};
use migbench::dirty::{DirtyTracker, available, tracker};
use migbench::sys::memory::Telemetry;
use migbench::vm::Vm;
use migbench::vm::page_set::PageSet;
use migbench_scenarios::cell::{Backing, Cell, Tracker, TrackerSettings};
use migbench_workloads::abi;
use migbench_workloads::random::Random;
use migbench_workloads::settings::Pattern;
use migbench_workloads::units::{Bytes, PAGE_SIZE};

/// Pages that the guest writes epochs to, after those of its own program.
const PAGES: u64 = 1024;
const FIRST: u64 = abi::RESERVED / PAGE_SIZE;

/// A guest that writes to about a tenth of its pages in each pass.
fn cell_of(tracker: Tracker, vcpus: u32) -> Cell {
    let backing = [Backing::Anonymous, Backing::Memfd][vcpus as usize % 2];
    let mut cell = Cell { tracker, vcpus, backing, timing: false, ..cell() };
    cell.settings.working_set = Bytes(PAGES * PAGE_SIZE);
    cell.settings.reads = 0.9;
    cell.settings.pattern = Pattern::Uniform;
    cell
}

struct Epochs<'a> {
    vm: &'a Vm,
    tracker: Box<dyn DirtyTracker>,
    dirty: PageSet,
    /// The epochs that the host found in pages when it last read them.
    seen: Vec<u64>,
    bytes: Vec<u8>,
    pass: u32,
    harvests: u64,
    changes: u64,
}

impl<'a> Epochs<'a> {
    fn start(cell: &Cell, vm: &'a Vm) -> Self {
        let mut tracker = tracker(cell, vm).unwrap();
        tracker.arm().unwrap();
        let mut dirty = PageSet::new(vm.ram().pages()).unwrap();
        dirty.fill();
        let bytes = vec![0; usize::try_from(PAGES * PAGE_SIZE).unwrap()];
        let mut epochs =
            Self { vm, tracker, dirty, seen: Vec::new(), bytes, pass: 0, harvests: 0, changes: 0 };
        epochs.pass();
        vm.pause().unwrap();
        epochs.harvest();
        epochs.announce();
        epochs.seen = epochs.read();
        epochs.harvest();
        assert!(epochs.dirty.is_empty());
        vm.resume();
        // KVM maps a page as writable, and so counts it as written, when its first access ever is a read. A dozen passes
        // leave none untouched.
        (0..12).for_each(|_| epochs.in_step(None));
        epochs.changes = 0;
        epochs
    }

    /// Lets every vCPU make one pass, and waits until all have.
    fn pass(&mut self) {
        self.pass += 1;
        let telemetry = self.vm.telemetry();
        telemetry.control().pass.store(self.pass, Release);
        let patience = Instant::now() + Duration::from_secs(60);
        while !(0..telemetry.vcpus()).all(|n| telemetry.vcpu(n).pass.load(Acquire) >= self.pass) {
            self.vm.check().unwrap();
            assert!(Instant::now() < patience, "pass {} does not end", self.pass);
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    fn harvest(&mut self) {
        self.harvests += 1;
        self.tracker.harvest(&mut self.dirty).unwrap();
    }

    /// What each page of the working set holds now.
    fn read(&mut self) -> Vec<u64> {
        self.vm.ram().read(FIRST, &mut self.bytes).unwrap();
        self.bytes
            .as_chunks::<4096>()
            .0
            .iter()
            .map(|page| *page.first_chunk().unwrap())
            .map(u64::from_le_bytes)
            .collect()
    }

    /// Takes all reported pages out, as if they were about to be read.
    fn announce(&mut self) {
        while let Some((first, count)) = self.dirty.take_run(64) {
            self.tracker.before_read(first, count).unwrap();
        }
    }

    /// One pass, and a paused harvest that must find what it wrote and nothing else but for the rest of blocks of `exact`
    /// pages; without `exact` it may find more.
    fn in_step(&mut self, exact: Option<u64>) {
        let block = exact.unwrap_or(1);
        self.pass();
        self.vm.pause().unwrap();
        self.harvest();
        let now = self.read();
        let changed = |page: u64| {
            let index = usize::try_from(page - FIRST).unwrap();
            now[index] != self.seen[index]
        };
        for page in FIRST..FIRST + PAGES {
            let first = page - page % block;
            let expected =
                (first..first + block).any(|page| (FIRST..FIRST + PAGES).contains(&page) && changed(page));
            let epoch = now[usize::try_from(page - FIRST).unwrap()];
            let reported = self.dirty.contains(page);
            let right = if exact.is_some() { reported == expected } else { reported || !expected };
            assert!(right, "page {page} of epoch {epoch} in pass {}: reported is {reported}", self.pass);
            assert!(!changed(page) || epoch == u64::from(self.pass), "epoch {epoch} in pass {}", self.pass);
            self.changes += u64::from(changed(page));
        }
        // The program's own: its stacks. Nobody else writes.
        assert!((FIRST + PAGES..self.vm.ram().pages()).all(|page| !self.dirty.contains(page)));
        self.announce();
        self.seen = now;
        self.harvest();
        assert!(self.dirty.is_empty(), "a quiet guest's {} pages are reported again", self.dirty.len());
        self.vm.resume();
    }

    /// Harvests while the guest makes passes as it likes, `checks` times until it is paused and nothing may be missing, and
    /// on until `changes` more of its writes were seen, however slow the host is.
    fn racing(&mut self, random: &mut Random, checks: u64, changes: u64, waits: bool) {
        self.vm.telemetry().control().pass.store(u32::MAX, Release);
        let enough = self.changes + changes;
        let patience = Instant::now() + Duration::from_secs(60);
        let mut made = 0;
        while made < checks || self.changes < enough {
            assert!(Instant::now() < patience, "the guest wrote next to nothing");
            made += 1;
            for _ in 0..random.below(8) {
                let before = self.read();
                self.harvest();
                // A CPU that logs in hardware may hold back a ring's last entries until its vCPU pauses.
                if waits {
                    self.nothing_is_missing(&before);
                }
                // Seldom all of them: the rest stays for later.
                for _ in 0..random.below(80) {
                    self.take_one();
                }
                std::thread::sleep(Duration::from_micros(random.below(1000)));
            }
            self.vm.pause().unwrap();
            self.harvest();
            let now = self.read();
            self.nothing_is_missing(&now);
            self.announce();
            self.seen = now;
            self.harvest();
            assert!(self.dirty.is_empty(), "a quiet guest's {} pages are reported again", self.dirty.len());
            self.vm.resume();
        }
    }

    fn nothing_is_missing(&mut self, now: &[u64]) {
        for (page, (now, seen)) in (FIRST..).zip(now.iter().zip(&self.seen)) {
            let newer = now != seen;
            assert!(
                !newer || now > seen || *seen > u64::from(u32::MAX),
                "page {page} went from {seen} to {now}"
            );
            assert!(
                !newer || self.dirty.contains(page),
                "harvest {}: page {page} of epoch {now}",
                self.harvests
            );
            self.changes += u64::from(newer);
        }
    }

    fn take_one(&mut self) {
        let Some((first, count)) = self.dirty.take_run(4) else { return };
        self.tracker.before_read(first, count).unwrap();
        for page in (first..first + count).filter(|page| (FIRST..FIRST + PAGES).contains(page)) {
            let mut copy = [0; 4096];
            self.vm.ram().read(page, &mut copy).unwrap();
            self.seen[usize::try_from(page - FIRST).unwrap()] =
                u64::from_le_bytes(*copy.first_chunk().unwrap());
        }
    }
}

fn boot(cell: &Cell, seed: u64) -> Vm {
    let telemetry = Telemetry::map(telemetry_file(), cell.vcpus as usize, cell.timing).unwrap();
    Vm::boot(cell, seed, abi::FLAG_PASSES | abi::FLAG_EPOCHS, Arc::new(telemetry)).unwrap()
}

/// Whether this host has it, with a printed reason if not; where trackers are required it must.
fn have(cell: &Cell) -> bool {
    match available(cell.tracker, &cell.tracker_settings, cell.backing) {
        Ok(()) => true,
        Err(error) => {
            assert!(std::env::var_os("MIGBENCH_REQUIRE_KVM").is_none(), "{error}");
            eprintln!("skipped: {error}");
            false
        }
    }
}

fn every_epoch_is_reported_once(which: Tracker) {
    require_kvm!();
    let mut harvests = 0;
    for vcpus in 1..=4 {
        let cell = cell_of(which, vcpus);
        if !have(&cell) {
            return;
        }
        let vm = boot(&cell, vcpus.into());
        let mut epochs = Epochs::start(&cell, &vm);
        for _ in 0..80 {
            epochs.in_step(Some(1));
        }
        let in_step = epochs.changes;
        epochs.racing(&mut Random::new(vcpus.into()), 25, 1000, which != Tracker::KvmRing);
        let Epochs { harvests: made, changes, mut tracker, .. } = epochs;
        tracker.disarm().unwrap();
        eprintln!("{which}, {vcpus} vCPUs: {made} harvests, {in_step} changes in step, {changes} in all");
        assert!(in_step > 80 * PAGES / 20, "the guest wrote next to nothing");
        harvests += made;
    }
    assert!(harvests > 1000, "{harvests} harvests");
}

#[test]
fn kvm_bitmap_reports_every_epoch_once() {
    every_epoch_is_reported_once(Tracker::KvmBitmap);
}

#[test]
fn kvm_manual_reports_every_epoch_once() {
    every_epoch_is_reported_once(Tracker::KvmManual);
}

#[test]
fn kvm_ring_reports_every_epoch_once() {
    every_epoch_is_reported_once(Tracker::KvmRing);
}

#[test]
fn uffd_wp_reports_every_epoch_once() {
    every_epoch_is_reported_once(Tracker::UffdWp);
}

#[test]
fn uffd_async_reports_every_epoch_once() {
    every_epoch_is_reported_once(Tracker::UffdAsync);
}

/// What blocks add is the rest of a written block, and no more.
#[test]
fn blocks_are_reported_whole_and_alone() {
    require_kvm!();
    let tracker_settings = TrackerSettings { fault_block: Bytes(32 << 10), ..TrackerSettings::DEFAULT };
    let cell = Cell { tracker_settings, ..cell_of(Tracker::UffdWp, 2) };
    if !have(&cell) {
        return;
    }
    let vm = boot(&cell, 11);
    let mut epochs = Epochs::start(&cell, &vm);
    for _ in 0..60 {
        epochs.in_step(Some(8));
    }
    assert!(epochs.changes > 3000, "{} changes", epochs.changes);
}

/// A vCPU that empties its full ring itself may report a page before it writes it; the write brings the page again, so
/// that with the pass over the account is exact.
#[test]
fn a_ring_that_was_full_in_a_pass_is_exact_after_it() {
    require_kvm!();
    let tracker_settings = TrackerSettings { ring_entries: 1024, ..TrackerSettings::DEFAULT };
    let mut cell = Cell { tracker_settings, ..cell_of(Tracker::KvmRing, 1) };
    // Each pass writes each page, which is more than KVM leaves of the ring.
    cell.settings.reads = 0.0;
    cell.settings.pattern = Pattern::Sequential;
    if !have(&cell) {
        return;
    }
    let vm = boot(&cell, 12);
    let mut epochs = Epochs::start(&cell, &vm);
    for _ in 0..60 {
        epochs.in_step(Some(1));
    }
    let full = vm.rings().unwrap().times_full();
    assert!(full >= 60, "the ring was full {full} times in 60 passes");
}

//! Every dirty tracker against one oracle, and each one's known traps.
//!
//! The oracle is a migration without a destination: a copy of memory that is brought up to date only with pages that
//! the tracker reports, in any order and at any time. Whenever the guest is paused and all reports are applied, the
//! copy must equal its memory, byte for byte, and another harvest must find nothing. The kernel's `dirty_log_test` asks
//! the same of KVM's logs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::{cell, own_lock, require_huge_pages, require_kvm, telemetry_file};
use migbench::dirty::{DirtyTracker, UffdAsync, UffdWp, available, tracker};
use migbench::guest::telemetry;
use migbench::sys::memory::Telemetry;
use migbench::sys::ram::Ram;
use migbench::vm::Vm;
use migbench::vm::page_set::PageSet;
use migbench_scenarios::cell::{Backing, Cell, Tracker, TrackerSettings};
use migbench_workloads::abi;
use migbench_workloads::settings::{Load, Pattern};
use migbench_workloads::units::Bytes;

const TRACKERS: [Tracker; 5] =
    [Tracker::KvmBitmap, Tracker::KvmManual, Tracker::KvmRing, Tracker::UffdWp, Tracker::UffdAsync];

/// Ends the test with a printed reason where there is no such tracker, or fails it where trackers are required.
macro_rules! require_tracker {
    ($cell:expr) => {
        if let Err(error) = available($cell.tracker, &$cell.tracker_settings, $cell.backing) {
            assert!(std::env::var_os("MIGBENCH_REQUIRE_KVM").is_none(), "{error}");
            eprintln!("skipped: {error}");
            return;
        }
    };
}

/// A guest that writes a lot, and does nothing else.
fn busy(tracker: Tracker) -> Cell {
    let mut cell = Cell { tracker, timing: false, ..cell() };
    cell.settings.working_set = Bytes(16 << 20);
    cell.settings.reads = 0.1;
    cell.settings.load = Load::FlatOut;
    cell
}

/// The same on another backing, with the settings that a suite would give it.
fn backed(backing: Backing, cell: Cell) -> Cell {
    let fault_block = backing.fault_granule();
    let tracker_settings = TrackerSettings { fault_block, ..cell.tracker_settings };
    Cell { backing, tracker_settings, ..cell }
}

fn boot(cell: &Cell) -> Vm {
    let telemetry = Telemetry::map(telemetry_file(), cell.vcpus as usize, cell.timing).unwrap();
    telemetry.control().phase.store(abi::PHASE_STEADY, Ordering::Relaxed);
    Vm::boot(cell, 1, 0, Arc::new(telemetry)).unwrap()
}

/// Memory of a guest that does not run, to be written by this process.
fn still(backing: Backing) -> Arc<Ram> {
    Ram::new(Bytes(64 << 20), backing).unwrap()
}

/// Steele, Lea and Flood's SplitMix: schedules must be the same in each run.
struct Schedule(u64);

impl Schedule {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

struct Oracle<'a> {
    vm: &'a Vm,
    tracker: Box<dyn DirtyTracker>,
    dirty: PageSet,
    copy: Vec<u8>,
    now: Vec<u8>,
    harvests: u64,
    reported: u64,
    quiet: u64,
}

impl<'a> Oracle<'a> {
    /// Arms while the guest runs, and counts every page as dirty, as an engine does.
    fn start(vm: &'a Vm, mut tracker: Box<dyn DirtyTracker>) -> Self {
        tracker.arm().unwrap();
        let pages = vm.ram().pages();
        let bytes = usize::try_from(pages * 4096).unwrap();
        let mut dirty = PageSet::new(pages).unwrap();
        dirty.fill();
        Self {
            vm,
            tracker,
            dirty,
            copy: vec![0; bytes],
            now: vec![0; bytes],
            harvests: 0,
            reported: 0,
            quiet: 0,
        }
    }

    fn harvest(&mut self) {
        self.harvests += 1;
        self.tracker.harvest(&mut self.dirty).unwrap();
    }

    /// Brings up to `most` runs of the copy up to date, with the guest running or not.
    fn read(&mut self, most: u64) {
        for _ in 0..most {
            let Some((first, count)) = self.dirty.take_run(64) else { return };
            self.tracker.before_read(first, count).unwrap();
            let start = usize::try_from(first * 4096).unwrap();
            let length = usize::try_from(count * 4096).unwrap();
            self.vm.ram().read(first, &mut self.copy[start..start + length]).unwrap();
            self.reported += count;
        }
    }

    /// With the guest paused: nothing is missing, and nothing comes twice.
    fn check(&mut self) {
        self.vm.pause().unwrap();
        self.harvest();
        self.read(u64::MAX);
        self.vm.ram().read(0, &mut self.now).unwrap();
        if self.copy != self.now {
            let pages = self.copy.as_chunks::<4096>().0.iter().zip(self.now.as_chunks::<4096>().0);
            let missed: Vec<_> = pages.enumerate().filter(|(_, (a, b))| a != b).map(|(n, _)| n).collect();
            panic!(
                "harvest {}: {} pages changed and were not reported: {missed:?}",
                self.harvests,
                missed.len()
            );
        }
        self.harvest();
        self.quiet += 1;
        assert!(self.dirty.is_empty(), "a quiet guest's {} pages are reported again", self.dirty.len());
        self.vm.resume();
    }

    /// A random schedule of harvests and reads, `checks` of them with the guest paused.
    fn run(&mut self, seed: u64, checks: u64) {
        let mut schedule = Schedule(seed);
        for _ in 0..checks {
            for _ in 0..schedule.below(6) {
                self.harvest();
                // Seldom all of it: the rest stays for later, as in a round that is cut short.
                self.read(schedule.below(400));
                std::thread::sleep(Duration::from_micros(schedule.below(3000)));
            }
            self.check();
        }
    }

    fn finish(mut self, what: &str) -> u64 {
        self.tracker.disarm().unwrap();
        migbench::guest::validate(self.vm).unwrap();
        eprintln!("{what}: {} harvests, {} pages reported", self.harvests, self.reported);
        assert!(self.reported > self.vm.ram().pages() + 100, "the guest wrote next to nothing");
        self.harvests
    }
}

fn oracle(cell: &Cell, seed: u64, checks: u64) -> u64 {
    let vm = boot(cell);
    let mut oracle = Oracle::start(&vm, tracker(cell, &vm).unwrap());
    oracle.run(seed, checks);
    let (name, backing, vcpus) = (cell.tracker, cell.backing, cell.vcpus);
    oracle.finish(&format!("{name}, {backing}, {vcpus} vCPUs"))
}

/// Every backing and one to four vCPUs.
fn nothing_is_missed_or_doubled(tracker: Tracker) {
    require_kvm!();
    require_tracker!(busy(tracker));
    let mut harvests = 0;
    for (seed, (backing, vcpus)) in (1_u64..).zip([
        (Backing::Anonymous, 1),
        (Backing::Memfd, 2),
        (Backing::Anonymous, 3),
        (Backing::Memfd, 4),
    ]) {
        harvests += oracle(&Cell { backing, vcpus, ..busy(tracker) }, seed, 40);
    }
    assert!(harvests > 400, "{harvests} harvests");
}

#[test]
fn kvm_bitmap_misses_and_doubles_nothing() {
    nothing_is_missed_or_doubled(Tracker::KvmBitmap);
}

#[test]
fn kvm_manual_misses_and_doubles_nothing() {
    nothing_is_missed_or_doubled(Tracker::KvmManual);
}

#[test]
fn kvm_ring_misses_and_doubles_nothing() {
    nothing_is_missed_or_doubled(Tracker::KvmRing);
}

#[test]
fn uffd_wp_misses_and_doubles_nothing() {
    nothing_is_missed_or_doubled(Tracker::UffdWp);
}

#[test]
fn uffd_async_misses_and_doubles_nothing() {
    nothing_is_missed_or_doubled(Tracker::UffdAsync);
}

/// Huge pages, one to four vCPUs, with guest memory resident before or not.
fn nothing_is_missed_in_huge_pages(tracker: Tracker) {
    require_kvm!();
    require_tracker!(busy(tracker));
    for vcpus in 1..=4 {
        let cell = Cell { vcpus, prefault: vcpus % 2 == 1, ..backed(Backing::Thp, busy(tracker)) };
        require_tracker!(cell);
        oracle(&cell, 200 + u64::from(vcpus), 15);
    }
    let _pages = require_huge_pages!(cell().memory.0);
    for vcpus in 1..=4 {
        let cell = Cell { vcpus, prefault: vcpus % 2 == 1, ..backed(Backing::Hugetlb, busy(tracker)) };
        require_tracker!(cell);
        oracle(&cell, 300 + u64::from(vcpus), 15);
    }
}

#[test]
fn kvm_bitmap_misses_nothing_in_huge_pages() {
    nothing_is_missed_in_huge_pages(Tracker::KvmBitmap);
}

#[test]
fn kvm_manual_misses_nothing_in_huge_pages() {
    nothing_is_missed_in_huge_pages(Tracker::KvmManual);
}

#[test]
fn kvm_ring_misses_nothing_in_huge_pages() {
    nothing_is_missed_in_huge_pages(Tracker::KvmRing);
}

#[test]
fn uffd_wp_misses_nothing_in_huge_pages() {
    nothing_is_missed_in_huge_pages(Tracker::UffdWp);
}

#[test]
fn uffd_async_misses_nothing_in_huge_pages() {
    nothing_is_missed_in_huge_pages(Tracker::UffdAsync);
}

/// Pages of a huge page.
const HUGE: u64 = 512;

/// One page written, and how many are reported: KVM's logs are kept in 4 KiB pages whatever the memory is made of, and
/// userfaultfd knows pages of a hugetlb mapping only as a whole. The guest's program and stacks lie in the first huge
/// pages, which are written at any time.
#[test]
fn one_write_is_reported_as_its_huge_page_at_most() {
    require_kvm!();
    let own = abi::RESERVED / 4096;
    let _pages = require_huge_pages!(cell().memory.0);
    for backing in [Backing::Thp, Backing::Hugetlb] {
        for which in TRACKERS {
            let mut cell = backed(backing, busy(which));
            require_tracker!(cell);
            cell.settings.working_set = Bytes(4096);
            cell.settings.reads = 0.0;
            let vm = boot(&cell);
            let mut oracle = Oracle::start(&vm, tracker(&cell, &vm).unwrap());
            for _ in 0..5 {
                // Harvests everything that the guest has written, re-arms, and lets the guest go on.
                oracle.check();
                let before = telemetry::page_writes(vm.telemetry());
                // However busy the host is.
                while telemetry::page_writes(vm.telemetry()) < before + 2 {
                    std::thread::sleep(Duration::from_millis(1));
                    vm.check().unwrap();
                }
                vm.pause().unwrap();
                oracle.harvest();
                vm.ram().read(0, &mut oracle.now).unwrap();
                let pages = oracle.copy.as_chunks::<4096>().0.iter().zip(oracle.now.as_chunks::<4096>().0);
                let changed: Vec<u64> =
                    (0..).zip(pages).filter(|(_, (a, b))| a != b).map(|(n, _)| n).collect();
                let page = *changed.iter().find(|page| **page >= own).expect("the guest writes its page");
                assert!(
                    changed.iter().all(|changed| *changed < own || *changed == page),
                    "one page: {changed:?}"
                );
                let reported: Vec<u64> =
                    (own..vm.ram().pages()).filter(|page| oracle.dirty.contains(*page)).collect();
                let huge = page / HUGE * HUGE;
                let what = format!("{which}, {backing}, page {page}: {} reported", reported.len());
                match (which, backing) {
                    (Tracker::UffdWp | Tracker::UffdAsync, Backing::Hugetlb) => {
                        assert_eq!(reported, (huge..huge + HUGE).collect::<Vec<_>>(), "{what}");
                    }
                    // Whether the kernel splits a huge page at the fault or later is its own choice.
                    (Tracker::UffdWp | Tracker::UffdAsync, _) => {
                        let inside = reported.iter().all(|page| (huge..huge + HUGE).contains(page));
                        assert!(inside && reported.contains(&page), "{what}");
                    }
                    _ => assert_eq!(reported, [page], "{what}"),
                }
                vm.resume();
            }
            oracle.check();
            oracle.tracker.disarm().unwrap();
            migbench::guest::validate(&vm).unwrap();
        }
    }
}

/// Every setting of a tracker, at values that make its edges come often.
#[test]
fn settings_change_cost_and_not_results() {
    require_kvm!();
    let set = TrackerSettings::DEFAULT;
    for (seed, (tracker, tracker_settings)) in (100_u64..).zip([
        (Tracker::KvmManual, TrackerSettings { initially_set: false, ..set }),
        (Tracker::KvmManual, TrackerSettings { clear_chunk: Bytes(256 << 10), ..set }),
        // Not a divisor of guest memory: the last chunk is cut at the slot's end.
        (Tracker::KvmManual, TrackerSettings { clear_chunk: Bytes(23 * (256 << 10)), ..set }),
        (Tracker::KvmRing, TrackerSettings { ring_acquire: false, ..set }),
        (Tracker::KvmRing, TrackerSettings { ring_entries: 1 << 16, ..set }),
        (Tracker::UffdWp, TrackerSettings { fault_block: Bytes(64 << 10), ..set }),
        (Tracker::UffdWp, TrackerSettings { fault_block: Bytes(2 << 20), ..set }),
        (Tracker::UffdAsync, TrackerSettings { scan_ranges: 1, ..set }),
        (Tracker::UffdAsync, TrackerSettings { scan_ranges: 7, ..set }),
    ]) {
        let cell = Cell { tracker_settings, prefault: false, vcpus: 2, ..busy(tracker) };
        if let Err(error) = available(tracker, &tracker_settings, cell.backing) {
            assert!(std::env::var_os("MIGBENCH_REQUIRE_KVM").is_none(), "{error}");
            eprintln!("skipped: {error}");
            continue;
        }
        oracle(&cell, seed, 15);
    }
}

#[test]
fn a_full_ring_loses_nothing() {
    require_kvm!();
    // The fewest entries that this CPU's way of logging leaves room for.
    let entries = [256, 1024].into_iter().find(|&ring_entries| {
        let settings = TrackerSettings { ring_entries, ..TrackerSettings::DEFAULT };
        available(Tracker::KvmRing, &settings, Backing::Anonymous).is_ok()
    });
    let Some(ring_entries) = entries else {
        require_tracker!(busy(Tracker::KvmRing));
        return;
    };
    // vCPUs that are paused while they reset: a signal there has lost pages.
    for (ring_acquire, vcpus) in [(true, 1), (false, 4)] {
        let tracker_settings = TrackerSettings { ring_entries, ring_acquire, ..TrackerSettings::DEFAULT };
        let cell = Cell { tracker_settings, vcpus, ..busy(Tracker::KvmRing) };
        let vm = boot(&cell);
        let mut oracle = Oracle::start(&vm, tracker(&cell, &vm).unwrap());
        oracle.run(7, 100);
        // Without a harvest for long: the vCPUs make room by themselves.
        let before = telemetry::operations(vm.telemetry());
        std::thread::sleep(Duration::from_millis(300));
        assert!(telemetry::operations(vm.telemetry()) > before);
        oracle.check();
        oracle.finish("a ring that is full again and again");
        let full = vm.rings().unwrap().times_full();
        assert!(full > 10, "the ring was full {full} times");
    }
}

#[test]
fn initially_set_reports_every_page_once() {
    require_kvm!();
    require_tracker!(busy(Tracker::KvmManual));
    for initially_set in [true, false] {
        let tracker_settings = TrackerSettings { initially_set, ..TrackerSettings::DEFAULT };
        let cell = Cell { tracker_settings, ..busy(Tracker::KvmManual) };
        let vm = boot(&cell);
        vm.pause().unwrap();
        let mut tracker = tracker(&cell, &vm).unwrap();
        tracker.arm().unwrap();
        let mut dirty = PageSet::new(vm.ram().pages()).unwrap();
        tracker.harvest(&mut dirty).unwrap();
        assert_eq!(dirty.len(), if initially_set { vm.ram().pages() } else { 0 });
        // Reports stay until their pages are about to be read.
        let mut again = PageSet::new(vm.ram().pages()).unwrap();
        tracker.harvest(&mut again).unwrap();
        assert_eq!(again.len(), dirty.len());
        while let Some((first, count)) = dirty.take_run(100) {
            tracker.before_read(first, count).unwrap();
        }
        tracker.harvest(&mut dirty).unwrap();
        assert!(dirty.is_empty());
        tracker.disarm().unwrap();
    }
}

/// Both userfaultfd trackers see writes of this process too, so that no guest is needed.
fn uffd(which: Tracker, ram: &Arc<Ram>, settings: TrackerSettings) -> Box<dyn DirtyTracker> {
    match which {
        Tracker::UffdWp => Box::new(UffdWp::new(Arc::clone(ram), &settings)),
        _ => Box::new(UffdAsync::new(Arc::clone(ram), &settings).unwrap()),
    }
}

/// The pages that are reported where `page` was written in memory of `backing`.
fn reported_with(page: u64, backing: Backing) -> std::ops::Range<u64> {
    let granule = backing.fault_granule().pages().0;
    page / granule * granule..page / granule * granule + granule
}

fn writes_to_untouched_memory_are_seen(backing: Backing) {
    for which in [Tracker::UffdWp, Tracker::UffdAsync] {
        let cell = backed(backing, busy(which));
        require_tracker!(cell);
        let ram = still(backing);
        let mut tracker = uffd(which, &ram, cell.tracker_settings);
        tracker.arm().unwrap();
        let mut dirty = PageSet::new(ram.pages()).unwrap();
        tracker.harvest(&mut dirty).unwrap();
        assert!(dirty.is_empty(), "{which}, {backing}: {} pages nobody wrote", dirty.len());
        for round in 0..2 {
            let mut schedule = Schedule(5);
            let mut written = PageSet::new(ram.pages()).unwrap();
            for _ in 0..if backing == Backing::Hugetlb { 8 } else { 2000 } {
                let page = schedule.below(ram.pages());
                ram.write(page, &[7; 4096]).unwrap();
                reported_with(page, backing).for_each(|page| written.insert(page));
            }
            tracker.harvest(&mut dirty).unwrap();
            assert_eq!(dirty.len(), written.len(), "{which}, {backing}, round {round}");
            while let Some(run) = written.take_run(64) {
                assert_eq!(dirty.take_run(64), Some(run), "{which}, {backing}, round {round}");
            }
        }
        // A read is no write, nor is a read of what was never touched.
        ram.read(0, &mut vec![0; 8 << 20]).unwrap();
        tracker.harvest(&mut dirty).unwrap();
        assert!(dirty.is_empty());
        tracker.disarm().unwrap();
        ram.write(0, &[1; 4096]).unwrap();
    }
}

#[test]
fn writes_to_memory_that_was_never_touched_are_seen() {
    for backing in [Backing::Anonymous, Backing::Memfd, Backing::Thp] {
        writes_to_untouched_memory_are_seen(backing);
    }
}

#[test]
fn writes_to_reserved_memory_that_was_never_touched_are_seen() {
    let _pages = require_huge_pages!(64 << 20);
    writes_to_untouched_memory_are_seen(Backing::Hugetlb);
}

#[test]
fn a_scan_goes_on_where_its_vector_was_full() {
    require_tracker!(busy(Tracker::UffdAsync));
    for backing in [Backing::Anonymous, Backing::Memfd] {
        for scan_ranges in [1, 2, 64, 999, 1000, 1001] {
            let ram = still(backing);
            let settings = TrackerSettings { scan_ranges, ..TrackerSettings::DEFAULT };
            let mut tracker = uffd(Tracker::UffdAsync, &ram, settings);
            tracker.arm().unwrap();
            let mut dirty = PageSet::new(ram.pages()).unwrap();
            for harvest in 0..3 {
                // Pages that do not touch: each is a range of its own.
                for n in 0..1000 {
                    ram.write(3 + n * 5, &[9; 4096]).unwrap();
                }
                tracker.harvest(&mut dirty).unwrap();
                assert_eq!(dirty.len(), 1000, "{backing}, {scan_ranges} ranges, harvest {harvest}");
                assert!((0..1000).all(|n| dirty.contains(3 + n * 5)));
                dirty.clear();
            }
        }
    }
}

#[test]
fn a_harvest_between_lift_and_record_loses_nothing() {
    require_kvm!();
    let cell = Cell { vcpus: 3, ..busy(Tracker::UffdWp) };
    require_tracker!(cell);
    let vm = boot(&cell);
    let lifted = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&lifted);
    // The vCPU goes on at the lift: for this long its write is done and not recorded.
    let slow = UffdWp::new(Arc::clone(vm.ram()), &cell.tracker_settings).with_delay(move || {
        count.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(1));
    });
    let mut oracle = Oracle::start(&vm, Box::new(slow));
    oracle.run(3, 60);
    oracle.tracker.disarm().unwrap();
    migbench::guest::validate(&vm).unwrap();
    let lifted = lifted.load(Ordering::Relaxed);
    eprintln!("{} harvests between {lifted} lifts", oracle.harvests);
    assert!(lifted > 200, "{lifted} faults");
}

#[test]
fn a_guest_outlives_its_tracker() {
    require_kvm!();
    let cell = busy(Tracker::UffdWp);
    require_tracker!(cell);
    let vm = boot(&cell);
    // A guest that waits for nobody waits for ever; one on a busy host, or beside a panic that prints a backtrace first,
    // does not.
    let advances = |what: &str| {
        let before = telemetry::operations(vm.telemetry());
        let start = Instant::now();
        while telemetry::operations(vm.telemetry()) < before + 1000 {
            assert!(start.elapsed() < Duration::from_secs(20), "the guest hangs after {what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    for _ in 0..20 {
        let mut tracker = tracker(&cell, &vm).unwrap();
        tracker.arm().unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    advances("a tracker that was dropped");
    let mut dying =
        UffdWp::new(Arc::clone(vm.ram()), &cell.tracker_settings).with_delay(|| panic!("as planned"));
    dying.arm().unwrap();
    advances("its thread has died");
    let mut dirty = PageSet::new(vm.ram().pages()).unwrap();
    let error = dying.harvest(&mut dirty).unwrap_err();
    assert!(error.to_string().contains("uffd-wp"), "{error}");
    drop(dying);
    vm.pause().unwrap();
    vm.resume();
    migbench::guest::validate(&vm).unwrap();
}

/// The guest's own pattern of work must not matter: one page at a time, in order, over all of its working set.
#[test]
fn sequential_writers_are_tracked_too() {
    require_kvm!();
    for tracker in TRACKERS {
        let mut cell = Cell { backing: Backing::Memfd, ..busy(tracker) };
        require_tracker!(cell);
        cell.settings.pattern = Pattern::Sequential;
        oracle(&cell, 9, 10);
    }
}

#[test]
fn migrations_arrive_whole_under_every_tracker() {
    require_kvm!();
    for (n, tracker) in TRACKERS.into_iter().enumerate() {
        require_tracker!(busy(tracker));
        let (backing, engine) = (["anonymous", "memfd"][n % 2], ["delta", "full"][n / 2 % 2]);
        for (engine, backing, vcpus) in
            [("delta", "anonymous", "1"), (engine, backing, "2"), ("track-only", "memfd", "1")]
        {
            let assert = assert_cmd::Command::cargo_bin("migbench")
                .unwrap()
                .args(["migrate", "--workload", "write-heavy", "--memory", "80MiB", "--engine", engine])
                .args(["--vcpus", vcpus, "--verify"])
                .args(["--set", &format!("tracker={tracker}"), "--set", &format!("backing={backing}")])
                .args(["--set", "windows.steady=100ms", "--set", "windows.after=100ms"])
                .args(["--set", "windows.control=300ms", "--set", "windows.warmup_max=500ms"])
                .args(["--set", "link.rate=10Gbit/s", "--set", "settings.load=pages(20000)"])
                .env("MIGBENCH_LOCK", own_lock())
                .assert()
                .success();
            let shown = String::from_utf8_lossy(&assert.get_output().stdout).into_owned();
            assert!(shown.contains("guest state checked"), "{tracker}: {shown}");
            assert_eq!(shown.contains("memory hashed equal"), engine != "track-only", "{tracker}: {shown}");
        }
    }
}

/// In a mount namespace in which userfaultfd's device is no such thing.
#[test]
fn a_tracker_that_is_not_there_is_refused_before_the_guest_starts() {
    require_kvm!();
    let hidden = |command: &str| {
        let migbench = assert_cmd::cargo::cargo_bin("migbench");
        let script =
            format!("mount --bind /dev/null /dev/userfaultfd && exec {} {command}", migbench.display());
        let mut unshare = std::process::Command::new("unshare");
        unshare.args(["--mount", "sh", "-c", &script]).env("MIGBENCH_LOCK", own_lock()).output()
    };
    match hidden("--version") {
        Ok(output) if output.status.success() => {}
        _ => {
            eprintln!("skipped: no rights to a mount namespace");
            return;
        }
    }
    for tracker in ["uffd-wp", "uffd-async"] {
        let output = hidden(&format!("migrate --set tracker={tracker}")).unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}");
        let named = format!(
            "the tracker {tracker} is not available here: this kernel has no userfaultfd; use a kernel"
        );
        assert!(text.contains(&named), "{text}");
    }
}

//! Every key that a cell has: its name, kind, default and meaning, and how it is read and shown. This table is
//! all that a suite file, `--set` and the flags of `migbench migrate` know about cells, so they cannot differ.

use std::fmt;

use migbench_workloads::catalogue;
use migbench_workloads::settings::{Content, ProgramName, Settings, Sharing};
use migbench_workloads::units::{Bytes, PAGE_SIZE, Rate, Seconds};

use crate::cell::{
    Backing, Cache, Cell, Checksum, Codec, Engine, Estimate, LinkSettings, Pinning, Proof, Rule,
    ShadowSettings, StopRule, Throttle, ThrottleSettings, Tracker, TrackerSettings, Transport, Wait, Windows,
};
use crate::error::{SuiteError, nearest};
use crate::qemu::{self, QemuSettings};
use crate::value::{Reader, shown_cpus, shown_load, shown_pattern, shown_phases, shown_word};

/// One key of a cell.
pub struct Key {
    /// Its name, with dots between tables.
    pub name: &'static str,
    /// What it takes: `size`, `rate`, `time`, `word`, `number`, ...
    pub kind: &'static str,
    /// Its default as one would write it, or a word on where the default comes from.
    pub default: &'static str,
    /// What it means, in a line.
    pub about: &'static str,
    pub(crate) read: fn(&mut Cell, &Reader<'_>) -> Result<(), SuiteError>,
    pub(crate) show: fn(&Cell) -> String,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

pub(crate) const fn key(
    name: &'static str,
    kind: &'static str,
    default: &'static str,
    about: &'static str,
    read: fn(&mut Cell, &Reader<'_>) -> Result<(), SuiteError>,
    show: fn(&Cell) -> String,
) -> Key {
    Key { name, kind, default, about, read, show }
}

/// A statement as a reader.
#[macro_export]
#[doc(hidden)]
macro_rules! reads {
    (|$cell:ident, $value:ident| $body:expr) => {
        |$cell, $value| {
            $body;
            Ok(())
        }
    };
}

/// Reads one list of CPUs; the other two lists stay, empty until they are read as well.
fn pin(cell: &mut Cell) -> &mut Pinning {
    cell.pinning.get_or_insert(Pinning { vcpus: Vec::new(), source: Vec::new(), destination: Vec::new() })
}

fn pinned(cell: &Cell, list: fn(&Pinning) -> &Vec<u32>) -> String {
    cell.pinning.as_ref().map_or_else(|| "none".to_owned(), |pinning| shown_cpus(list(pinning)))
}

fn throttled(cell: &mut Cell) -> &mut ThrottleSettings {
    cell.throttle_settings.get_or_insert_default()
}

/// What one word of KVM's dirty bitmap covers.
const CLEAR_UNIT: u64 = 64 * PAGE_SIZE;

/// Phases that a guest has room for.
const MAX_PHASES: u32 = 8;
/// What the guest's image has tables and stacks for.
const MAX_VCPUS: u32 = 32;
const _: () = assert!(MAX_VCPUS as usize == migbench_workloads::abi::MAX_VCPUS);
const _: () = assert!(MAX_PHASES as usize == migbench_workloads::abi::MAX_STAGES);

/// The word for the program itself.
const OWN_BINARY: &str = "own";

const WORKLOAD: &str = "required";
const FROM_WORKLOAD: &str = "the workload's";

/// Every key. Order matters: a cell is made by reading keys in this order, and what comes first (`workload`,
/// `engine`) implies defaults for what comes later.
pub static KEYS: &[Key] = &[
    key(
        "workload",
        "word",
        WORKLOAD,
        "what the guest does: a name of the catalogue, or of a [workload.<name>] of the suite",
        reads!(|cell, v| {
            let name = v.text("the name of a workload")?.to_owned();
            if let Some(named) = catalogue::lookup(&name) {
                cell.settings = named.settings.clone();
            }
            cell.workload = name;
        }),
        |cell| cell.workload.clone(),
    ),
    key(
        "engine",
        "word",
        WORKLOAD,
        "what moves the guest; delta implies codec xbzrle and cache shadow, the others none; qemu is another VMM, with the keys qemu.*",
        reads!(|cell, v| {
            cell.engine = v.word(Engine::ALL)?;
            let delta = cell.engine == Engine::Delta;
            cell.codec = if delta { Codec::Xbzrle } else { Codec::None };
            cell.cache = if delta { Cache::Shadow } else { Cache::None };
            cell.qemu = (cell.engine == Engine::Qemu).then(QemuSettings::default);
        }),
        |cell| cell.engine.to_string(),
    ),
    key(
        "codec",
        "word",
        "the engine's",
        "how the engine encodes changed pages",
        reads!(|cell, v| cell.codec = v.word(Codec::ALL)?),
        |cell| cell.codec.to_string(),
    ),
    key(
        "cache",
        "none, shadow, bounded(SIZE), digest(BYTES) or unchanged",
        "the engine's",
        "what the source remembers of the pages it has sent: nothing, a copy of every page, copies in SIZE of memory, a digest of every BYTES, \
         or of every page (engine full too)",
        reads!(|cell, v| cell.cache = v.cache()?),
        |cell| cell.cache.to_string(),
    ),
    key(
        "shadow.prefault",
        "boolean",
        "false",
        "whether the memory of cache shadow is taken from the kernel before the clock starts, as huge pages where the host has some",
        reads!(|cell, v| cell.shadow.prefault = v.boolean()?),
        |cell| cell.shadow.prefault.to_string(),
    ),
    qemu::MODE,
    qemu::BINARY,
    qemu::ACCEL,
    qemu::MACHINE,
    qemu::DIRTY_RING_SIZE,
    qemu::XBZRLE_CACHE_SIZE,
    qemu::CHANNELS,
    qemu::ARGUMENTS,
    key(
        "backing",
        "word",
        "anonymous",
        "what guest memory is made of; hugetlb implies a fault_block of 2MiB",
        reads!(|cell, v| {
            cell.backing = v.word(Backing::ALL)?;
            cell.tracker_settings.fault_block = cell.backing.fault_granule();
        }),
        |cell| cell.backing.to_string(),
    ),
    key(
        "throttle",
        "word",
        "none",
        "what slows a guest that writes too fast: none, auto-converge, dirty-limit or quota; the last two imply tracker kvm-ring",
        reads!(|cell, v| {
            cell.throttle = v.word(Throttle::ALL)?;
            cell.throttle_settings = (cell.throttle != Throttle::None).then(ThrottleSettings::default);
            if cell.throttle.counts_pages() {
                cell.tracker = Tracker::KvmRing;
            }
        }),
        |cell| cell.throttle.to_string(),
    ),
    key(
        "throttle_settings.initial",
        "share",
        "0.2",
        "auto-converge: the share of the time that vCPUs sleep at first",
        reads!(|cell, v| throttled(cell).initial = v.share()?),
        |cell| cell.throttle_settings.unwrap_or_default().initial.to_string(),
    ),
    key(
        "throttle_settings.increment",
        "share",
        "0.1",
        "auto-converge: by how much it grows each time",
        reads!(|cell, v| throttled(cell).increment = v.share()?),
        |cell| cell.throttle_settings.unwrap_or_default().increment.to_string(),
    ),
    key(
        "throttle_settings.maximum",
        "share",
        "0.99",
        "auto-converge: the most that it grows to, up to 0.99",
        reads!(|cell, v| throttled(cell).maximum = v.share()?),
        |cell| cell.throttle_settings.unwrap_or_default().maximum.to_string(),
    ),
    key(
        "throttle_settings.trigger",
        "share",
        "0.5",
        "auto-converge: it grows after every second round in which the guest wrote more than this share of the bytes that were sent",
        reads!(|cell, v| throttled(cell).trigger = v.share()?),
        |cell| cell.throttle_settings.unwrap_or_default().trigger.to_string(),
    ),
    key(
        "throttle_settings.dirty_rate",
        "rate",
        "64Mbit/s",
        "dirty-limit: what each vCPU may write",
        reads!(|cell, v| throttled(cell).dirty_rate = v.limited_rate()?),
        |cell| cell.throttle_settings.unwrap_or_default().dirty_rate.to_string(),
    ),
    key(
        "throttle_settings.pages",
        "whole number",
        "20",
        "quota: pages that each vCPU may write in a time slice",
        reads!(|cell, v| throttled(cell).pages =
            v.integer(1, u32::MAX, "a vCPU that may write nothing stands still")?),
        |cell| cell.throttle_settings.unwrap_or_default().pages.to_string(),
    ),
    key(
        "throttle_settings.slice",
        "time",
        "10ms",
        "quota: how long a time slice is, from 1ms to 1s",
        reads!(|cell, v| throttled(cell).slice = v.time()?),
        |cell| cell.throttle_settings.unwrap_or_default().slice.to_string(),
    ),
    key(
        "tracker",
        "word",
        "kvm-bitmap",
        "how written pages are found",
        reads!(|cell, v| cell.tracker = v.word(Tracker::ALL)?),
        |cell| cell.tracker.to_string(),
    ),
    key(
        "tracker_settings.initially_set",
        "boolean",
        "true",
        "kvm-manual: all pages count as dirty at first, so that arming write-protects none",
        reads!(|cell, v| cell.tracker_settings.initially_set = v.boolean()?),
        |cell| cell.tracker_settings.initially_set.to_string(),
    ),
    key(
        "tracker_settings.clear_chunk",
        "size",
        "4MiB",
        "kvm-manual: memory cleared by one call right before its first page is read, a multiple of 256KiB",
        reads!(|cell, v| {
            let chunk = v.size()?;
            if chunk.0 == 0 || !chunk.0.is_multiple_of(CLEAR_UNIT) {
                return Err(
                    v.out_of_range(chunk, "KVM clears whole groups of 64 pages: a multiple of 256KiB")
                );
            }
            cell.tracker_settings.clear_chunk = chunk;
        }),
        |cell| cell.tracker_settings.clear_chunk.to_string(),
    ),
    key(
        "tracker_settings.ring_entries",
        "whole number",
        "4096",
        "kvm-ring: entries of each vCPU's ring, a power of two from 256 to 65536",
        reads!(|cell, v| {
            const WHY: &str = "a ring has a power of two of entries, from 256 to 65536";
            let entries = v.integer(256, 1 << 16, WHY)?;
            if !entries.is_power_of_two() {
                return Err(v.out_of_range(entries, WHY));
            }
            cell.tracker_settings.ring_entries = entries;
        }),
        |cell| cell.tracker_settings.ring_entries.to_string(),
    ),
    key(
        "tracker_settings.ring_acquire",
        "boolean",
        "true",
        "kvm-ring: the ring with acquire and release semantics, not the plain one of x86",
        reads!(|cell, v| cell.tracker_settings.ring_acquire = v.boolean()?),
        |cell| cell.tracker_settings.ring_acquire.to_string(),
    ),
    key(
        "tracker_settings.fault_block",
        "size",
        "4KiB",
        "uffd-wp: memory recorded and lifted after one fault, a power of two from 4KiB to 2MiB",
        reads!(|cell, v| {
            let block = v.size()?;
            if !block.0.is_power_of_two() || !(PAGE_SIZE..=2 << 20).contains(&block.0) {
                return Err(v.out_of_range(block, "a block is a power of two from 4KiB to 2MiB"));
            }
            cell.tracker_settings.fault_block = block;
        }),
        |cell| cell.tracker_settings.fault_block.to_string(),
    ),
    key(
        "tracker_settings.scan_ranges",
        "whole number",
        "1024",
        "uffd-async: ranges of written pages that one PAGEMAP_SCAN can report",
        reads!(|cell, v| {
            cell.tracker_settings.scan_ranges =
                v.integer(1, 1 << 20, "a scan reports 1 to 1048576 ranges")?;
        }),
        |cell| cell.tracker_settings.scan_ranges.to_string(),
    ),
    key(
        "link.transport",
        "word",
        "unix",
        "the kind of socket between the nodes",
        reads!(|cell, v| cell.link.transport = v.word(Transport::ALL)?),
        |cell| cell.link.transport.to_string(),
    ),
    key(
        "link.rate",
        "rate",
        "1Gbit/s",
        "the limit of the link, or unlimited",
        reads!(|cell, v| cell.link.rate = v.rate()?),
        |cell| cell.link.rate.map_or_else(|| "unlimited".to_owned(), |rate| rate.to_string()),
    ),
    key(
        "link.queue",
        "size",
        "544KiB",
        "bytes that may stand between the engine and a limited wire, from 64KiB to 256MiB; the default is two batches of pages",
        reads!(|cell, v| {
            let queue = v.size()?;
            if !(64 << 10..=256 << 20).contains(&queue.0) {
                return Err(v.out_of_range(queue, "a queue holds 64KiB to 256MiB"));
            }
            // The default stays out of the cell, whether it is written down or not.
            cell.link.queue = Some(queue).filter(|&queue| queue != LinkSettings::QUEUE);
        }),
        |cell| cell.link.queue().to_string(),
    ),
    key(
        "link.delay",
        "time",
        "0s",
        "how long a byte is on its way to the other side (one way), up to 1s; needs a rate",
        reads!(|cell, v| {
            let delay = v.time_or_zero()?;
            if delay.0 > 1.0 {
                return Err(v.out_of_range(delay, "a byte is on its way for 1s at the most"));
            }
            cell.link.delay = delay;
        }),
        |cell| if cell.link.delay.is_zero() { "0s".to_owned() } else { cell.link.delay.to_string() },
    ),
    key(
        "link.checksum",
        "word",
        "header",
        "what the checksums of frames cover: header is all but the contents of whole pages, which then go from guest memory to guest memory without a copy; pages is every byte",
        reads!(|cell, v| cell.link.checksum = v.word(Checksum::ALL)?),
        |cell| cell.link.checksum.to_string(),
    ),
    key(
        "memory",
        "size",
        "128MiB",
        "guest memory, at least 32MiB, a multiple of 2MiB",
        reads!(|cell, v| cell.memory = v.size()?),
        |cell| cell.memory.to_string(),
    ),
    key(
        "vcpus",
        "whole number",
        "1",
        "virtual CPUs, 1 to 32",
        reads!(|cell, v| cell.vcpus = v.integer(1, MAX_VCPUS, "a guest has 1 to 32 vCPUs")?),
        |cell| cell.vcpus.to_string(),
    ),
    key(
        "prefault",
        "boolean",
        "true",
        "whether guest memory is made resident on both sides before the clock starts",
        reads!(|cell, v| cell.prefault = v.boolean()?),
        |cell| cell.prefault.to_string(),
    ),
    key(
        "pinning",
        "word or table",
        "none",
        "none leaves placement to the kernel; otherwise a table of the three lists below, all of them",
        reads!(|cell, v| {
            v.word(&[("none", ())])?;
            cell.pinning = None;
        }),
        |cell| if cell.pinning.is_some() { "set".to_owned() } else { "none".to_owned() },
    ),
    key(
        "pinning.vcpus",
        "CPUs",
        "none",
        "host CPUs of the vCPU threads, one each; a shorter list is used again from its start",
        reads!(|cell, v| pin(cell).vcpus = v.cpus()?),
        |cell| pinned(cell, |pinning| &pinning.vcpus),
    ),
    key(
        "pinning.source",
        "CPUs",
        "none",
        "host CPUs of all other threads of the source node",
        reads!(|cell, v| pin(cell).source = v.cpus()?),
        |cell| pinned(cell, |pinning| &pinning.source),
    ),
    key(
        "pinning.destination",
        "CPUs",
        "none",
        "host CPUs of all other threads of the destination node",
        reads!(|cell, v| pin(cell).destination = v.cpus()?),
        |cell| pinned(cell, |pinning| &pinning.destination),
    ),
    key(
        "elide_zero",
        "boolean",
        "true",
        "whether zero pages are sent as a mark",
        reads!(|cell, v| cell.elide_zero = v.boolean()?),
        |cell| cell.elide_zero.to_string(),
    ),
    key(
        "stop.downtime_limit",
        "time",
        "300ms",
        "switch over when the predicted paused round is no longer than this",
        reads!(|cell, v| cell.stop.downtime_limit = v.time()?),
        |cell| cell.stop.downtime_limit.to_string(),
    ),
    key(
        "stop.max_rounds",
        "whole number",
        "30",
        "forced switchover after that many rounds; the run is then capped",
        reads!(|cell, v| cell.stop.max_rounds = v.integer(1, u32::MAX, "at least one round is needed")?),
        |cell| cell.stop.max_rounds.to_string(),
    ),
    key(
        "stop.max_time",
        "time",
        "300s",
        "forced switchover after that much time; the run is then capped",
        reads!(|cell, v| cell.stop.max_time = v.time()?),
        |cell| cell.stop.max_time.to_string(),
    ),
    key(
        "stop.estimate",
        "word",
        "pages",
        "how the length of the paused round is predicted, of rules pages and raw; the older name of stop.rule",
        reads!(|cell, v| {
            cell.stop.estimate = v.word(Estimate::ALL)?;
            cell.stop.rule = None;
        }),
        |cell| cell.stop.estimate.to_string(),
    ),
    key(
        "stop.rule",
        "word",
        "pages",
        "when to switch over: pages, raw, encoded, fixed, ramp, stall or rounds (METHODOLOGY.md has their formulae)",
        reads!(|cell, v| cell.stop.set_rule(v.word(Rule::ALL)?)),
        |cell| cell.stop.rule().to_string(),
    ),
    key(
        "stop.ramp_steps",
        "whole number",
        "10",
        "rule ramp: rounds in which the limit grows to stop.downtime_limit, from that over so many",
        reads!(|cell, v| cell.stop.ramp_steps = v.integer(2, 1000, "a ramp has two steps or more")?),
        |cell| cell.stop.ramp_steps.to_string(),
    ),
    key(
        "stop.ceiling",
        "time",
        "1s",
        "rule stall: the longest pause that is taken once rounds shrink no more",
        reads!(|cell, v| cell.stop.ceiling = v.time()?),
        |cell| cell.stop.ceiling.to_string(),
    ),
    key(
        "stop.rounds",
        "whole number",
        "5",
        "rule rounds: switch over after so many, the first of all memory included",
        reads!(|cell, v| cell.stop.rounds = v.integer(1, u32::MAX, "at least one round is needed")?),
        |cell| cell.stop.rounds.to_string(),
    ),
    key(
        "proof",
        "word",
        "first",
        "which runs prove that memory arrived whole",
        reads!(|cell, v| cell.proof = v.word(Proof::ALL)?),
        |cell| cell.proof.to_string(),
    ),
    key(
        "windows.steady",
        "time",
        "500ms",
        "each of the two steady windows before the migration",
        reads!(|cell, v| cell.windows.steady = v.time()?),
        |cell| cell.windows.steady.to_string(),
    ),
    key(
        "windows.after",
        "time",
        "1s",
        "the window after the migration",
        reads!(|cell, v| cell.windows.after = v.time_or_zero()?),
        |cell| cell.windows.after.to_string(),
    ),
    key(
        "windows.control",
        "time",
        "1s",
        "how long the controls none and track-only do what they do instead of a migration",
        reads!(|cell, v| cell.windows.control = v.time()?),
        |cell| cell.windows.control.to_string(),
    ),
    key(
        "windows.warmup_max",
        "time",
        "5s",
        "longest wait for a steady guest; after it the record says not_steady",
        reads!(|cell, v| cell.windows.warmup_max = v.time()?),
        |cell| cell.windows.warmup_max.to_string(),
    ),
    key(
        "timing",
        "boolean",
        "true",
        "whether the guest times its operations; without it there are counters only",
        reads!(|cell, v| cell.timing = v.boolean()?),
        |cell| cell.timing.to_string(),
    ),
    key(
        "wait",
        "word",
        "spin",
        "what a vCPU with an open loop does until its next operation is due: spin, or have its thread sleep",
        reads!(|cell, v| cell.wait = v.word(Wait::ALL)?),
        |cell| cell.wait.to_string(),
    ),
    key(
        "start_phase",
        "whole number",
        "1",
        "with settings.phases: the phase, counted from 1, in which steady windows are measured and the migration starts",
        reads!(|cell, v| cell.start_phase = v.integer(1, MAX_PHASES, "a workload has 1 to 8 phases")?),
        |cell| cell.start_phase.to_string(),
    ),
    key(
        "binary",
        "path",
        OWN_BINARY,
        "the build of migbench whose nodes run, or own: the program that runs the suite",
        reads!(|cell, v| {
            let path = v.text("the path of a program")?;
            cell.binary = (path != OWN_BINARY).then(|| path.to_owned());
        }),
        |cell| cell.binary.clone().unwrap_or_else(|| OWN_BINARY.to_owned()),
    ),
    key(
        "settings.program",
        "word",
        FROM_WORKLOAD,
        "what the guest runs over its working set; parametric is all numbers, the others have shapes of their own",
        reads!(|cell, v| cell.settings.program = v.word(ProgramName::ALL)?),
        |cell| cell.settings.program.word().to_owned(),
    ),
    key(
        "settings.working_set",
        "size",
        FROM_WORKLOAD,
        "memory that the operations touch, at most guest memory less 8MiB",
        reads!(|cell, v| cell.settings.working_set = v.size()?),
        |cell| cell.settings.working_set.to_string(),
    ),
    key(
        "settings.sharing",
        "word",
        FROM_WORKLOAD,
        "partitioned: each vCPU has a part of the working set; shared: all take turns on 64 parts, under locks",
        reads!(|cell, v| cell.settings.sharing = v.word(Sharing::ALL)?),
        |cell| shown_word(Sharing::ALL, cell.settings.sharing),
    ),
    key(
        "settings.reads",
        "share",
        FROM_WORKLOAD,
        "share of the operations that only read",
        reads!(|cell, v| cell.settings.reads = v.share()?),
        |cell| cell.settings.reads.to_string(),
    ),
    key(
        "settings.pattern",
        "pattern",
        FROM_WORKLOAD,
        "order of the pages: sequential, uniform or zipf(theta) with 0 < theta < 1",
        reads!(|cell, v| cell.settings.pattern = v.pattern()?),
        |cell| shown_pattern(cell.settings.pattern),
    ),
    key(
        "settings.accesses",
        "whole number",
        FROM_WORKLOAD,
        "accesses per operation; 64 make it some 2 us long",
        reads!(|cell, v| cell.settings.accesses = v.integer(1, 1 << 20, "an operation has 1 to 1048576")?),
        |cell| cell.settings.accesses.to_string(),
    ),
    key(
        "settings.writes",
        "whole number",
        FROM_WORKLOAD,
        "page writes among the accesses of a writing operation, at most `accesses`",
        reads!(|cell, v| cell.settings.writes = v.integer(1, 1 << 20, "a writing operation has at least 1")?),
        |cell| cell.settings.writes.to_string(),
    ),
    key(
        "settings.change.bytes",
        "whole number",
        FROM_WORKLOAD,
        "bytes changed by one page write, 1 to 4080",
        reads!(|cell, v| {
            cell.settings.change.bytes = v.integer(
                1,
                4080,
                "one page write changes 1 to 4080 bytes (16 belong to the page's own counter)",
            )?;
        }),
        |cell| cell.settings.change.bytes.to_string(),
    ),
    key(
        "settings.change.pieces",
        "whole number",
        FROM_WORKLOAD,
        "in how many evenly spaced runs they lie, 1 to `bytes`",
        reads!(|cell, v| cell.settings.change.pieces = v.integer(1, 4080, "they lie in 1 to 4080 runs")?),
        |cell| cell.settings.change.pieces.to_string(),
    ),
    key(
        "settings.change.moves",
        "boolean",
        FROM_WORKLOAD,
        "whether the runs move on with every write of the page",
        reads!(|cell, v| cell.settings.change.moves = v.boolean()?),
        |cell| cell.settings.change.moves.to_string(),
    ),
    key(
        "settings.content",
        "word",
        FROM_WORKLOAD,
        "what is written: counter, random, same, text, records, zero or duplicate",
        reads!(|cell, v| cell.settings.content = v.word(Content::ALL)?),
        |cell| shown_word(Content::ALL, cell.settings.content),
    ),
    key(
        "settings.load",
        "load",
        FROM_WORKLOAD,
        "how hard the guest works: pressure(share of the link), pages(per second), bytes(100MB/s), operations(per second) \
         or flat-out",
        reads!(|cell, v| cell.settings.load = v.load()?),
        |cell| shown_load(cell.settings.load),
    ),
    key(
        "settings.fill.zero",
        "share",
        FROM_WORKLOAD,
        "share of the pages outside of the working set that stay zero",
        reads!(|cell, v| cell.settings.fill.zero = v.share()?),
        |cell| cell.settings.fill.zero.to_string(),
    ),
    key(
        "settings.fill.random",
        "share",
        FROM_WORKLOAD,
        "share of pseudo-random pages; in the working set random and text pages share all",
        reads!(|cell, v| cell.settings.fill.random = v.share()?),
        |cell| cell.settings.fill.random.to_string(),
    ),
    key(
        "settings.fill.text",
        "share",
        FROM_WORKLOAD,
        "share of text-like pages; the four shares make 1",
        reads!(|cell, v| cell.settings.fill.text = v.share()?),
        |cell| cell.settings.fill.text.to_string(),
    ),
    key(
        "settings.fill.duplicate",
        "share",
        FROM_WORKLOAD,
        "share of pages that are each one of sixteen",
        reads!(|cell, v| cell.settings.fill.duplicate = v.share()?),
        |cell| cell.settings.fill.duplicate.to_string(),
    ),
    key(
        "settings.phases",
        "phases",
        FROM_WORKLOAD,
        "settings that hold for a time each, over and over, as \"2s reads=0.9 load=pages(5000); 500ms load=flat-out\": \
         of reads, writes, load and working_set; or none",
        reads!(|cell, v| cell.settings.phases = v.phases()?),
        |cell| shown_phases(&cell.settings.phases),
    ),
];

/// The position in [`KEYS`] of the key of that name.
pub(crate) fn find(name: &str) -> Option<usize> {
    KEYS.iter().position(|key| key.name == name)
}

/// Whether keys begin with that name and a dot.
pub(crate) fn is_group(name: &str) -> bool {
    KEYS.iter().any(|key| key.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
}

/// The nearest key to one that does not exist, among those that begin with `prefix`, without the prefix.
pub(crate) fn nearest_key(typed: &str, prefix: &str, others: &[&str]) -> Option<String> {
    let keys = || KEYS.iter().filter_map(|key| key.name.strip_prefix(prefix));
    let groups = keys().filter_map(|key| key.split_once('.')).map(|(group, _)| group);
    nearest(typed, keys().chain(groups).chain(others.iter().copied()))
}

/// The cell that keys are read into: every default, and placeholders for the two keys that have none. Hashes of plans leave out
/// what is as it is here: a new key changes none of them, a default that is changed would give two plans one hash (see `plan::given`).
pub(crate) fn blank() -> Cell {
    Cell {
        workload: String::new(),
        settings: Settings { accesses: 32, ..Settings::BASE },
        engine: Engine::Full,
        codec: Codec::None,
        cache: Cache::None,
        shadow: ShadowSettings::default(),
        qemu: None,
        tracker: Tracker::KvmBitmap,
        tracker_settings: TrackerSettings::DEFAULT,
        link: LinkSettings {
            transport: Transport::Unix,
            rate: Some(Rate(125_000_000)),
            queue: None,
            delay: Seconds(0.0),
            checksum: Checksum::Header,
        },
        memory: Bytes(128 << 20),
        backing: Backing::Anonymous,
        vcpus: 1,
        prefault: true,
        pinning: None,
        elide_zero: true,
        stop: StopRule::DEFAULT,
        throttle: Throttle::None,
        throttle_settings: None,
        proof: Proof::First,
        windows: Windows {
            steady: Seconds(0.5),
            after: Seconds(1.0),
            control: Seconds(1.0),
            warmup_max: Seconds(5.0),
        },
        timing: true,
        wait: Wait::Spin,
        start_phase: 1,
        binary: None,
        side: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documented_defaults_are_the_defaults() {
        let cell = blank();
        for key in KEYS {
            if ![WORKLOAD, FROM_WORKLOAD, "the engine's"].contains(&key.default) {
                assert_eq!((key.show)(&cell), key.default, "{}", key.name);
            }
        }
    }

    #[test]
    fn nearest_keys() {
        assert_eq!(nearest_key("memry", "", &[]).as_deref(), Some("memory"));
        assert_eq!(nearest_key("workingset", "settings.", &[]).as_deref(), Some("working_set"));
        assert_eq!(nearest_key("rate", "", &[]).as_deref(), Some("link.rate"));
        assert_eq!(nearest_key("linc", "", &[]).as_deref(), Some("link"));
        assert_eq!(nearest_key("change.byte", "", &[]).as_deref(), Some("settings.change.bytes"));
    }
}

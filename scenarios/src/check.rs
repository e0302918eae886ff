//! What excludes what: rules over whole cells, each with the reason and the remedy. They run on every cell before
//! anything is measured, because a cell that cannot mean what it says would still give a number.

use migbench_workloads::abi::MAX_PARTS;
use migbench_workloads::settings::{Fill, Load, Settings, Sharing, WorkloadPhase};
use migbench_workloads::units::{Bytes, PAGE_SIZE};

use crate::cell::{Backing, Cache, Cell, Codec, Engine, Proof, Rule, Tracker, Wait};
use crate::error::{Problem, SuiteError};
use crate::layer::Layer;
use crate::place::Place;
use crate::qemu::{MICROVM, QemuAccel, QemuMode};

/// What the guest keeps for itself at the bottom of its memory: its image, stacks and page tables.
pub const GUEST_RESERVE: Bytes = Bytes(8 << 20);
/// The smallest guest.
pub const GUEST_LEAST: Bytes = Bytes(32 << 20);
/// Guest memory comes in whole large pages, which its page tables map.
pub const GUEST_STEP: Bytes = Bytes(2 << 20);

#[expect(clippy::cast_possible_truncation, reason = "a small constant")]
const SHARED_PARTS: u32 = MAX_PARTS as u32;

/// A broken rule: the keys it is about, the one to point at first, and the sentence.
type Broken = (&'static [&'static str], String);

/// Refuses a cell whose values exclude each other. The error points at the first of the keys in question that
/// `values` holds, or else at `around`.
pub(crate) fn cell(cell: &Cell, values: &Layer, around: &Place, id: &str) -> Result<(), SuiteError> {
    let rules = [engine, peer, memory, tracker, link, stop, load, rest];
    let Some((keys, what)) = rules.iter().find_map(|rule| rule(cell)) else {
        return Ok(());
    };
    let place = keys.iter().find_map(|key| values.get(key)).map_or(around, |entry| &entry.key_place);
    let cell = if id.is_empty() { String::new() } else { format!("{id}: ") };
    Err(SuiteError::new(place, Problem::Contradiction { cell, what }))
}

fn engine(cell: &Cell) -> Option<Broken> {
    let delta = cell.engine == Engine::Delta;
    if !delta && cell.codec != Codec::None {
        let what = format!("codec {} with engine {}: only delta encodes pages", cell.codec, cell.engine);
        return Some((&["codec", "engine"], what));
    }
    let identical = cell.engine == Engine::Full && cell.cache == Cache::Unchanged;
    if !delta && cell.cache != Cache::None && !identical {
        let what = format!(
            "cache {} with engine {}: only delta remembers pages, and full digests of them (cache unchanged)",
            cell.cache, cell.engine
        );
        return Some((&["cache", "engine"], what));
    }
    if delta && cell.cache == Cache::Unchanged {
        let what = "cache unchanged with engine delta: it holds nothing to encode a change against; use digest(256), or engine full"
            .to_owned();
        return Some((&["cache", "engine"], what));
    }
    if delta && cell.codec.compresses() && !cell.cache.has_copies() && cell.cache != Cache::None {
        let what = format!(
            "codec {} with cache {}: it encodes against the old page, of which there is no copy; use codec xbzrle or mask, or cache \
             shadow or bounded",
            cell.codec, cell.cache
        );
        return Some((&["codec", "cache"], what));
    }
    if cell.shadow.prefault && cell.cache != Cache::Shadow {
        let what =
            format!("shadow.prefault with cache {}: there is no shadow to take memory for", cell.cache);
        return Some((&["shadow.prefault", "cache", "engine"], what));
    }
    if delta && cell.codec == Codec::None {
        let what = "codec none with engine delta: delta needs a codec, such as xbzrle".to_owned();
        return Some((&["codec", "engine"], what));
    }
    if delta && cell.cache == Cache::None {
        let what =
            "cache none with engine delta: delta needs what it sent before, such as cache shadow".to_owned();
        return Some((&["cache", "engine"], what));
    }
    None
}

fn stop(cell: &Cell) -> Option<Broken> {
    let (stop, throttle) = (&cell.stop, cell.throttle_settings.unwrap_or_default());
    if stop.rule() == Rule::Stall && stop.ceiling < stop.downtime_limit {
        let what = format!(
            "stop.ceiling {} with stop.downtime_limit {}: what is within the ceiling is within the limit; raise the ceiling",
            stop.ceiling, stop.downtime_limit
        );
        return Some((&["stop.ceiling", "stop.downtime_limit"], what));
    }
    if stop.rule() == Rule::Rounds && stop.rounds > stop.max_rounds {
        let what = format!(
            "stop.rounds {} with stop.max_rounds {}: every run would be cut short by the second; raise it",
            stop.rounds, stop.max_rounds
        );
        return Some((&["stop.rounds", "stop.max_rounds"], what));
    }
    if cell.throttle.counts_pages() && cell.tracker != Tracker::KvmRing {
        let what = format!(
            "throttle {} with tracker {}: it counts the pages of each vCPU in its dirty ring; use tracker kvm-ring, or leave it out",
            cell.throttle, cell.tracker
        );
        return Some((&["throttle", "tracker"], what));
    }
    if throttle.maximum > 0.99 || throttle.initial > throttle.maximum {
        let what = format!(
            "throttle_settings.initial {} with throttle_settings.maximum {}: a vCPU sleeps for 0.99 of the time at most, and at first for no more",
            throttle.initial, throttle.maximum
        );
        return Some((&["throttle_settings.maximum", "throttle_settings.initial"], what));
    }
    if !(1e-3..=1.0).contains(&throttle.slice.0) {
        let what = format!("throttle_settings.slice {}: a time slice is 1ms to 1s long", throttle.slice);
        return Some((&["throttle_settings.slice"], what));
    }
    None
}

/// What another VMM can't do as ours does, so that its figures would be those of something else.
fn peer(cell: &Cell) -> Option<Broken> {
    let qemu = cell.qemu.as_ref().filter(|_| cell.engine.is_peer())?;
    let broken = |keys: &'static [&'static str], what: &str| Some((keys, format!("engine qemu {what}")));
    match cell {
        _ if !cell.prefault => {
            broken(&["prefault", "engine"], "with prefault false: its memory is always made resident first")
        }
        _ if !cell.elide_zero => {
            broken(&["elide_zero", "engine"], "with elide_zero false: it always sends a mark for a zero page")
        }
        _ if cell.wait != Wait::Spin => broken(
            &["wait", "engine"],
            "with wait doorbell: it has no port for a vCPU that rests; set wait to spin",
        ),
        _ if !matches!(cell.backing, Backing::Anonymous | Backing::Thp) => broken(
            &["backing", "engine"],
            &format!(
                "with backing {}: its migration leaves shared memory out; set anonymous or thp",
                cell.backing
            ),
        ),
        _ if cell.proof != Proof::First => broken(
            &["proof", "engine"],
            "with proof every: no page is hashed as it arrives; proof first compares all memory in the first repetition",
        ),
        _ if !cell.link.delay.is_zero() => broken(
            &["link.delay", "engine"],
            "with link.delay: only our own bytes are delayed; leave link.delay out",
        ),
        _ if cell.stop.downtime_limit.0 < 1e-3 => broken(
            &["stop.downtime_limit", "engine"],
            "counts its downtime limit in whole milliseconds: set stop.downtime_limit to 1ms or more",
        ),
        _ if qemu.mode == QemuMode::DirtyLimit
            && (qemu.dirty_ring_size == 0 || qemu.accel == QemuAccel::Tcg) =>
        {
            broken(
                &["qemu.dirty_ring_size", "qemu.accel", "qemu.mode"],
                "in mode dirty-limit needs KVM's dirty ring: set qemu.dirty_ring_size, such as to 4096, and qemu.accel to kvm",
            )
        }
        _ if qemu.accel == QemuAccel::Tcg && qemu.dirty_ring_size != 0 => broken(
            &["qemu.dirty_ring_size", "qemu.accel"],
            "with qemu.accel tcg has no dirty ring: leave qemu.dirty_ring_size out",
        ),
        _ if qemu.machine != MICROVM && cell.memory > PC_MOST => broken(
            &["memory", "qemu.machine"],
            &format!(
                "with qemu.machine {} has at most {PC_MOST} here: lower memory, or leave qemu.machine out",
                qemu.machine
            ),
        ),
        _ if cell.memory > LOW_MOST && cell.memory < HOLE => broken(
            &["memory", "engine"],
            &format!(
                "with memory {}: telemetry would lie over the hole under 4GiB; choose at most {LOW_MOST}, or {HOLE} and more",
                cell.memory
            ),
        ),
        _ => None,
    }
}

/// Where a microvm's memory goes on over 4 GiB.
const HOLE: Bytes = Bytes(3 << 30);
/// What leaves room for telemetry under it.
const LOW_MOST: Bytes = Bytes(HOLE.0 - (256 << 20));
/// Other machine types have their hole elsewhere.
const PC_MOST: Bytes = Bytes(1792 << 20);

fn link(cell: &Cell) -> Option<Broken> {
    let link = &cell.link;
    if link.delay.is_zero() || link.modelled_rate().is_some() {
        return None;
    }
    let what = if link.rate.is_none() {
        format!(
            "link.delay {} over an unlimited link: there is no end to what is on its way; set link.rate",
            link.delay
        )
    } else {
        format!(
            "link.delay {} over {}: only the modelled wire has a delay; set link.transport to unix or tcp",
            link.delay, link.transport
        )
    };
    Some((&["link.delay", "link.rate", "link.transport"], what))
}

fn memory(cell: &Cell) -> Option<Broken> {
    let (memory, set) = (cell.memory, cell.settings.working_set);
    if memory < GUEST_LEAST {
        return Some((&["memory"], format!("memory {memory}: the smallest guest has {GUEST_LEAST}")));
    }
    if memory.0 % GUEST_STEP.0 != 0 {
        let what = format!("memory of {} bytes is not a multiple of {GUEST_STEP}", memory.0);
        return Some((&["memory"], what));
    }
    if set.0 == 0 || set.0 % PAGE_SIZE != 0 {
        let what =
            format!("working set of {} bytes: it is a whole number of 4 KiB pages, at least one", set.0);
        return Some((&["settings.working_set"], what));
    }
    let room = Bytes(memory.0 - GUEST_RESERVE.0);
    if set > room {
        let what = format!(
            "settings.working_set {set} in a guest of memory {memory}: {room} are left beside the {GUEST_RESERVE} that the guest \
             keeps; lower settings.working_set or raise memory"
        );
        return Some((&["settings.working_set", "memory", "workload"], what));
    }
    let (parts, whose) = match cell.settings.sharing {
        Sharing::Partitioned => (cell.vcpus, "vCPUs"),
        Sharing::Shared => (SHARED_PARTS, "shared parts"),
    };
    let (program, least) = (cell.settings.program.word(), cell.settings.program.least_pages());
    if set.pages().0 / u64::from(parts) < least {
        let what = format!(
            "working set {set} for {parts} {whose}: {program} needs {} for each",
            Bytes(least * PAGE_SIZE)
        );
        return Some((&["settings.working_set", "vcpus", "settings.sharing", "workload"], what));
    }
    None
}

fn tracker(cell: &Cell) -> Option<Broken> {
    let (block, granule) = (cell.tracker_settings.fault_block, cell.backing.fault_granule());
    if cell.tracker == Tracker::UffdWp && block < granule {
        let what = format!(
            "fault_block {block} with backing {}: userfaultfd lifts the protection of {granule} at once there; leave \
             fault_block out",
            cell.backing
        );
        return Some((&["tracker_settings.fault_block", "backing", "tracker"], what));
    }
    None
}

fn load(cell: &Cell) -> Option<Broken> {
    let whole = &cell.settings;
    const PHASES: &[&str] = &["settings.phases", "start_phase", "workload"];
    if cell.start_phase as usize > whole.phases.len().max(1) {
        let what = format!("start_phase {} of {} phases", cell.start_phase, whole.phases.len().max(1));
        return Some((&["start_phase", "settings.phases", "workload"], what));
    }
    if let Some(phase) = whole.phases.iter().find(|phase| phase.working_set > Some(whole.working_set)) {
        let size = phase.working_set.unwrap_or(whole.working_set);
        let what = format!("a phase of working_set {size} in a working set of {}", whole.working_set);
        return Some((PHASES, what));
    }
    if !whole.program.has_parts_to_choose() && whole.phases.iter().any(|phase| phase.working_set.is_some()) {
        let what = format!(
            "a phase of its own working_set with program {}: it works on all of it",
            whole.program.word()
        );
        return Some((PHASES, what));
    }
    let own = |phase: &WorkloadPhase| {
        [("reads", phase.reads.is_some()), ("writes", phase.writes.is_some())]
            .into_iter()
            .find(|(setting, given)| *given && !whole.program.reads(setting))
    };
    if let Some((setting, _)) = whole.phases.iter().find_map(own) {
        let program = whole.program.word();
        return Some((
            PHASES,
            format!("a phase with {setting} of its own: program {program} does not read it"),
        ));
    }
    let stages = whole.phases.iter().map(|phase| whole.within(phase));
    std::iter::once(whole.clone()).chain(stages).find_map(|settings| load_of(&settings, cell))
}

fn load_of(settings: &Settings, cell: &Cell) -> Option<Broken> {
    if let (Load::Pressure(pressure), None) = (settings.load, cell.link.rate) {
        let what = format!(
            "pressure({pressure}) over an unlimited link: pressure is a share of the link's rate; limit link.rate or \
             set settings.load to pages(...)"
        );
        return Some((&["link.rate", "settings.load", "workload"], what));
    }
    let by_writes = matches!(settings.load, Load::Pressure(_) | Load::Pages(_) | Load::Bytes(_));
    if settings.reads >= 1.0 && by_writes && settings.program.reads_alone() {
        let what = "reads = 1 with a load in written pages: nothing is ever written; lower settings.reads or set \
                    settings.load to operations(...)";
        let keys = &["settings.reads", "settings.phases", "settings.load", "workload"];
        return Some((keys, what.to_owned()));
    }
    if settings.writes > settings.accesses {
        let what = format!(
            "writes = {} of {} accesses: page writes are among the accesses",
            settings.writes, settings.accesses
        );
        return Some((&["settings.writes", "settings.accesses", "workload"], what));
    }
    None
}

fn rest(cell: &Cell) -> Option<Broken> {
    let change = cell.settings.change;
    if change.pieces > change.bytes {
        let what =
            format!("{} pieces of {} bytes: a piece has at least one byte", change.pieces, change.bytes);
        return Some((&["settings.change.pieces", "settings.change.bytes", "workload"], what));
    }
    let Fill { zero, random, text, duplicate } = cell.settings.fill;
    let sum = zero + random + text + duplicate;
    if (sum - 1.0).abs() > 1e-6 {
        let what = format!(
            "fill shares zero {zero} + random {random} + text {text} + duplicate {duplicate} make {sum}, not 1"
        );
        return Some((
            &[
                "settings.fill.zero",
                "settings.fill.random",
                "settings.fill.text",
                "settings.fill.duplicate",
                "workload",
            ],
            what,
        ));
    }
    let pinning = cell.pinning.as_ref()?;
    let lists =
        [("vcpus", &pinning.vcpus), ("source", &pinning.source), ("destination", &pinning.destination)];
    const PINNING: &[&str] = &["pinning.vcpus", "pinning.source", "pinning.destination"];
    if let Some((name, _)) = lists.iter().find(|(_, cpus)| cpus.is_empty()) {
        let what = format!("pinning without `pinning.{name}`: pin all three kinds of threads, or none");
        return Some((PINNING, what));
    }
    if pinning.vcpus.len() > usize::try_from(cell.vcpus).unwrap_or(usize::MAX) {
        let what = format!("{} CPUs in pinning.vcpus for {} vCPUs", pinning.vcpus.len(), cell.vcpus);
        return Some((&["pinning.vcpus", "vcpus"], what));
    }
    None
}

//! Whether this host can run a cell, asked before any guest starts: its tracker, its link, its huge pages, its memory.

use std::path::Path;
use std::time::Duration;

use migbench_scenarios::cell::{Backing, Cache, Cell, Engine, Transport};
use migbench_scenarios::check::GUEST_RESERVE;
use migbench_workloads::units::Bytes;

use crate::dirty::{Unavailable, available};
use crate::host::huge::{self, HUGE_PAGE, HugePagePool};
use crate::host::limits;
use crate::node::link_timeout;
use crate::peer;
use crate::wire::Link;
use crate::wire::modelled::wire_time;
use crate::wire::netns::{Namespaces, NetnsError};
use crate::wire::pages::LARGEST_FRAME;

/// What two nodes take beside guests and shadow: themselves, telemetry, bitmaps.
const NODES: u64 = 64 << 20;
/// Page tables of two processes and of KVM, and KVM's maps from pages back to them: under a hundredth of the guest
/// each.
const TABLES: u64 = 64;

/// Why a cell does not run here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each is about")]
pub enum Refusal {
    #[error(transparent)]
    Tracker(#[from] Unavailable),
    #[error("link.transport netns is not available here: {0}")]
    Network(#[from] NetnsError),
    #[error("{0}")]
    Link(String),
    #[error("engine {engine} is not available here: {missing}")]
    Peer { engine: Engine, missing: String },
    #[error("guest memory of kind {backing} is not available here: {missing}; {remedy}")]
    Backing { backing: Backing, missing: &'static str, remedy: String },
    #[error(
        "a guest of {wanted} does not fit into huge pages: {copies} need {needed} of 2MiB, {free} are free; as root \
         `sysctl vm.nr_hugepages={pool}`"
    )]
    HugePages { wanted: Bytes, copies: &'static str, needed: u64, free: u64, pool: u64 },
    #[error("pinning names CPU {cpu}, on which this process may not run; `taskset -p $$` says which it may")]
    Cpu { cpu: u32 },
    #[error(
        "a guest of {wanted} does not fit: {copies} need {needed}, {free} of memory are free{within}; choose a smaller {smaller}"
    )]
    Memory {
        wanted: Bytes,
        copies: &'static str,
        needed: Bytes,
        free: Bytes,
        /// Where they are: nothing of the host, else which limit leaves no more.
        within: String,
        smaller: &'static str,
    },
}

impl Refusal {
    /// A phrase that follows "not available here:".
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::Tracker(unavailable) => unavailable.reason(),
            Self::Network(error) => error.to_string(),
            Self::Link(error) => error.clone(),
            Self::Peer { missing, .. } => missing.clone(),
            Self::Backing { missing, remedy, .. } => format!("{missing}; {remedy}"),
            Self::HugePages { .. } | Self::Memory { .. } | Self::Cpu { .. } => self.to_string(),
        }
    }
}

/// Refuses a cell that this host, as it is now, cannot run.
///
/// # Errors
/// See [`Refusal`].
pub fn admit(cell: &Cell) -> Result<(), Refusal> {
    let pinned =
        cell.pinning.iter().flat_map(|pin| pin.vcpus.iter().chain(&pin.source).chain(&pin.destination));
    if let Some(&cpu) = pinned.into_iter().find(|cpu| !limits::may_run_on(**cpu)) {
        return Err(Refusal::Cpu { cpu });
    }
    backing(cell, Path::new("/"))?;
    memory(cell, available_memory(), HugePagePool::read(Path::new("/")))?;
    if cell.engine.is_peer() {
        peer::available(cell).map_err(|missing| Refusal::Peer { engine: cell.engine, missing })?;
        if cell.link.transport == Transport::Netns {
            Namespaces::new(&cell.link)?;
        }
        return Ok(());
    }
    if cell.engine.migrates() {
        // Nothing but doing it says whether it can be done.
        patience(cell)?;
        let link = Link::pair(Duration::from_secs(1)).and_then(|(mut link, _)| link.shape(&cell.link));
        link.map_err(|error| Refusal::Link(error.to_string()))?;
        if cell.link.transport == Transport::Netns {
            Namespaces::new(&cell.link)?;
        }
    }
    Ok(available(cell.tracker, &cell.tracker_settings, cell.backing)?)
}

/// Refuses a link on which a frame behind a full queue comes later than a peer waits for it.
fn patience(cell: &Cell) -> Result<(), Refusal> {
    let Some(rate) = cell.link.modelled_rate() else { return Ok(()) };
    let (queue, patience) = (cell.link.queue(), link_timeout(cell));
    let ahead = Duration::from_nanos(wire_time(queue.0.saturating_add(LARGEST_FRAME), rate));
    if ahead + 2 * cell.link.delay.duration() < patience {
        return Ok(());
    }
    let (ahead, patience) = (ahead.as_secs_f64(), patience.as_secs_f64());
    Err(Refusal::Link(format!(
        "over a link.rate of {rate} a link.queue of {queue} and one frame take {ahead:.1} s, and a peer waits for {patience:.0} s: \
         raise link.rate or lower link.queue"
    )))
}

/// Copies of guest memory in the cell's own backing, with their name.
const fn guests(cell: &Cell) -> (&'static str, u64) {
    if cell.engine.migrates() { ("source and destination", 2) } else { ("the guest", 1) }
}

fn backing(cell: &Cell, root: &Path) -> Result<(), Refusal> {
    let refuse = |missing, remedy: &str| {
        Err(Refusal::Backing { backing: cell.backing, missing, remedy: remedy.to_owned() })
    };
    match cell.backing {
        Backing::Anonymous | Backing::Memfd => Ok(()),
        Backing::Hugetlb => {
            let Some(pool) = HugePagePool::read(root) else {
                return refuse(
                    "this kernel has no reserved pages of 2MiB",
                    "use a kernel with CONFIG_HUGETLBFS=y",
                );
            };
            let ((copies, count), wanted) = (guests(cell), cell.memory);
            let needed = count * wanted.0.div_ceil(HUGE_PAGE.0);
            if needed <= pool.free + pool.beyond {
                return Ok(());
            }
            Err(Refusal::HugePages {
                wanted,
                copies,
                needed,
                free: pool.free + pool.beyond,
                pool: pool.grown_for(needed),
            })
        }
        Backing::Thp => match huge::switched_off(root) {
            Some("") => Ok(()),
            Some(switch) => {
                refuse("transparent huge pages are off", &format!("as root `echo madvise > /{switch}`"))
            }
            None => refuse(
                "this kernel has no transparent huge pages",
                "use a kernel with CONFIG_TRANSPARENT_HUGEPAGE=y",
            ),
        },
    }
}

fn memory(cell: &Cell, free: Option<FreeMemory>, pool: Option<HugePagePool>) -> Result<(), Refusal> {
    let (guests, count) = guests(cell);
    // What lies in the pool was taken from free memory when the pool was made; what is made beyond it is not.
    let pages = count * cell.memory.0.div_ceil(HUGE_PAGE.0);
    let in_pool = cell.backing == Backing::Hugetlb && pool.is_none_or(|pool| pages <= pool.free);
    let cache = if cell.engine.migrates() { cell.cache } else { Cache::None };
    let (copies, count) = match (in_pool, cache) {
        (false, Cache::None) => (guests, count),
        (false, Cache::Shadow) => ("source, destination and the shadow", count),
        (false, _) => ("source, destination and the cache", count),
        (true, Cache::None) => ("the nodes", 0),
        (true, Cache::Shadow) => ("the shadow", 0),
        (true, _) => ("the cache", 0),
    };
    let needed = |memory: Bytes| {
        let copied = memory.0.saturating_mul(count).saturating_add(cache.memory(memory).0);
        let own = NODES.saturating_add(peer::own_memory(cell).0);
        Bytes(copied.saturating_add(memory.0 / TABLES).saturating_add(own))
    };
    let Some(FreeMemory { free, within }) = free.filter(|left| needed(cell.memory) > left.free) else {
        return Ok(());
    };
    // Below what the working set needs no `memory` is taken.
    let least = Bytes(cell.settings.working_set.0.saturating_add(GUEST_RESERVE.0));
    let smaller =
        if needed(least) > free { "`settings.working_set`, and `memory` with it" } else { "`memory`" };
    Err(Refusal::Memory { wanted: cell.memory, copies, needed: needed(cell.memory), free, within, smaller })
}

/// Memory that can be had.
struct FreeMemory {
    free: Bytes,
    within: String,
}

/// What the kernel says can be used without swapping, and no more than control groups leave.
fn available_memory() -> Option<FreeMemory> {
    let system = sysinfo::System::new().ok().map(|mut system| {
        system.refresh_memory();
        FreeMemory { free: Bytes(system.available_memory()), within: String::new() }
    });
    let group = limits::memory_left(Path::new("/")).map(|left| FreeMemory {
        free: left.free,
        within: format!(" by the limit in {}", left.limit.display()),
    });
    let host = system.filter(|host| host.free.0 > 0);
    host.into_iter().chain(group).min_by_key(|left| left.free)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use migbench_scenarios::{Assignment, Draft};

    use super::*;

    fn cell(set: &[&str]) -> Cell {
        let mut draft = Draft::new();
        for text in ["workload=write-heavy", "memory=1GiB"].iter().chain(set) {
            draft.set(&Assignment::parse(text).unwrap()).unwrap();
        }
        draft.build().unwrap()
    }

    fn host(pool: Option<[u64; 2]>, transparent: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let kernel = root.path().join("sys/kernel/mm");
        if let Some([total, free]) = pool {
            let directory = kernel.join("hugepages/hugepages-2048kB");
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("nr_hugepages"), total.to_string()).unwrap();
            fs::write(directory.join("free_hugepages"), free.to_string()).unwrap();
        }
        fs::create_dir_all(kernel.join("transparent_hugepage")).unwrap();
        fs::write(kernel.join("transparent_hugepage/enabled"), transparent).unwrap();
        root
    }

    #[test]
    fn both_nodes_must_fit_into_the_pool_and_the_remedy_counts() {
        let delta = cell(&["engine=delta", "backing=hugetlb"]);
        assert_eq!(backing(&delta, host(Some([1024, 1024]), "[never]").path()), Ok(()));
        let refused = backing(&delta, host(Some([1100, 1023]), "[never]").path()).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "a guest of 1GiB does not fit into huge pages: source and destination need 1024 of 2MiB, 1023 are free; \
             as root `sysctl vm.nr_hugepages=1101`"
        );
        let control = cell(&["engine=track-only", "backing=hugetlb"]);
        assert_eq!(backing(&control, host(Some([512, 512]), "[never]").path()), Ok(()));
        let refused = backing(&control, host(None, "[never]").path()).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "guest memory of kind hugetlb is not available here: this kernel has no reserved pages of 2MiB; use a \
             kernel with CONFIG_HUGETLBFS=y"
        );
    }

    #[test]
    fn thp_needs_leave_of_the_administrator() {
        let thp = cell(&["engine=full", "backing=thp"]);
        for (enabled, fits) in [("[always] madvise never", true), ("always madvise [never]", false)] {
            assert_eq!(backing(&thp, host(None, enabled).path()).is_ok(), fits, "{enabled}");
        }
        let refused = backing(&thp, host(None, "always madvise [never]").path()).unwrap_err();
        assert!(
            refused.reason().starts_with("transparent huge pages are off; as root `echo madvise"),
            "{refused}"
        );
    }

    #[test]
    fn every_copy_counts_but_those_in_the_pool() {
        let gib = |n: u64| Some(FreeMemory { free: Bytes(n << 30), within: String::new() });
        let fits = |set: &[&str], free| memory(&cell(set), free, None).is_ok();
        assert!(!fits(&["engine=delta"], gib(3)) && fits(&["engine=delta"], gib(4)));
        assert!(!fits(&["engine=full"], gib(2)) && fits(&["engine=full"], gib(3)));
        assert!(!fits(&["engine=none"], gib(1)) && fits(&["engine=none"], gib(2)));
        assert!(!fits(&["engine=delta", "backing=hugetlb"], gib(1)));
        assert!(fits(&["engine=delta", "backing=hugetlb"], gib(2)));
        assert!(fits(&["engine=full", "backing=hugetlb"], gib(1)));
        // Another VMM takes some memory for itself, and for its cache.
        assert!(
            !fits(&["engine=qemu", "memory=1450MiB"], gib(3))
                && fits(&["engine=full", "memory=1450MiB"], gib(3))
        );
        let cached = ["engine=qemu", "qemu.mode=xbzrle", "qemu.xbzrle_cache_size=1GiB"];
        assert!(!fits(&cached, gib(3)) && fits(&cached, gib(4)) && fits(&cached[..1], gib(3)));
        // Pages that are made beyond the pool are taken from what is free.
        let pool = HugePagePool { total: 0, free: 0, beyond: 4096 };
        assert!(memory(&cell(&["engine=full", "backing=hugetlb"]), gib(1), Some(pool)).is_err());
        assert!(memory(&cell(&["engine=full", "backing=hugetlb"]), gib(3), Some(pool)).is_ok());
        // What nobody knows refuses nothing.
        assert!(fits(&["engine=delta"], None));
        let refused = memory(&cell(&["engine=delta", "memory=8GiB"]), gib(24), None).unwrap_err().to_string();
        assert!(
            refused.starts_with("a guest of 8GiB does not fit: source, destination and the shadow need ")
        );
        assert!(refused.ends_with(", 24GiB of memory are free; choose a smaller `memory`"), "{refused}");
        // A smaller guest does not hold its working set, and a smaller one of those does.
        let set = &["engine=delta", "memory=10GiB", "settings.working_set=8GiB"];
        let refused = memory(&cell(set), gib(24), None).unwrap_err().to_string();
        assert!(
            refused.ends_with("are free; choose a smaller `settings.working_set`, and `memory` with it"),
            "{refused}"
        );
    }
}

//! What this process may use of the host: the CPUs of its affinity mask, and the memory of its control groups (cgroups(7),
//! Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst).

use std::fs;
use std::path::{Path, PathBuf};

use migbench_workloads::units::Bytes;
use nix::sched::sched_getaffinity;
use nix::unistd::Pid;

/// From here on a number stands for no limit: v1 writes the largest multiple of a page.
const NO_LIMIT: u64 = 1 << 62;

/// What the kernel takes back where it needs memory. In v1 these are a group's own, and `total_` ones those of its children too.
const CACHES: [&str; 3] = ["active_file", "inactive_file", "slab_reclaimable"];

/// CPUs that this process may use: those of its affinity, and no more than the quota of its control groups.
#[must_use]
pub fn usable_cpus() -> Option<u32> {
    std::thread::available_parallelism().ok().and_then(|count| u32::try_from(count.get()).ok())
}

/// Whether this process may run on a CPU. What nobody can tell is no refusal.
#[must_use]
pub fn may_run_on(cpu: u32) -> bool {
    // Masks of more CPUs than the library knows cannot be read with it.
    let Ok(mask) = sched_getaffinity(Pid::from_raw(0)) else { return true };
    usize::try_from(cpu).is_ok_and(|cpu| mask.is_set(cpu).unwrap_or(false))
}

/// What a control group leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryLeft {
    /// Bytes that can still be had, with what the kernel would take back from its caches.
    pub free: Bytes,
    /// The file that holds the limit.
    pub limit: PathBuf,
}

/// The least that any control group of this process leaves, on the host whose `/` is `root`; `None` without limits.
#[must_use]
pub fn memory_left(root: &Path) -> Option<MemoryLeft> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let of_line = |line: &str| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let names = match controllers {
            "" => Some(("sys/fs/cgroup", ["memory.max", "memory.current", ""])),
            _ if controllers.split(',').any(|name| name == "memory") => {
                Some(("sys/fs/cgroup/memory", ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_"]))
            }
            _ => None,
        };
        let (mount, names) = names?;
        // In a container its own group is the top of what is mounted.
        let inner = Path::new(path.trim_start_matches('/'));
        inner
            .ancestors()
            .filter_map(|group| left(&root.join(mount).join(group), names))
            .min_by_key(|left| left.free)
    };
    groups.lines().filter_map(of_line).min_by_key(|left| left.free)
}

fn left(group: &Path, [limit, usage, with_children]: [&str; 3]) -> Option<MemoryLeft> {
    let number = |file: &str| fs::read_to_string(group.join(file)).ok()?.trim().parse::<u64>().ok();
    let most = number(limit).filter(|most| *most < NO_LIMIT)?;
    let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let cached = stat.lines().filter_map(|line| line.strip_prefix(with_children)?.split_once(' '));
    let cached = cached.filter(|(name, _)| CACHES.contains(name));
    let cached: u64 = cached.filter_map(|(_, bytes)| bytes.trim().parse::<u64>().ok()).sum();
    let used = number(usage).unwrap_or(0).saturating_sub(cached);
    Some(MemoryLeft { free: Bytes(most.saturating_sub(used)), limit: group.join(limit) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(groups: &str, files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files.iter().chain(&[("proc/self/cgroup", groups)]) {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn the_tightest_group_counts_and_caches_can_be_taken_back() {
        let root = host(
            "0::/jobs/7\n",
            &[
                ("sys/fs/cgroup/jobs/memory.max", "1000000\n"),
                ("sys/fs/cgroup/jobs/memory.current", "900000\n"),
                ("sys/fs/cgroup/jobs/memory.stat", "anon 5\ninactive_file 150000\nactive_file 50000\n"),
                ("sys/fs/cgroup/jobs/7/memory.max", "max\n"),
                ("sys/fs/cgroup/memory.max", "2000000\n"),
            ],
        );
        let left = memory_left(root.path()).unwrap();
        assert_eq!(left.free, Bytes(300_000));
        assert_eq!(left.limit, root.path().join("sys/fs/cgroup/jobs/memory.max"));
    }

    #[test]
    fn version_1_is_read_and_no_limit_is_none() {
        let root = host(
            "4:cpu,memory:/slurm/job\n0::/\n",
            &[
                ("sys/fs/cgroup/memory/slurm/memory.limit_in_bytes", "9223372036854771712"),
                ("sys/fs/cgroup/memory/slurm/job/memory.limit_in_bytes", "314572800"),
                ("sys/fs/cgroup/memory/slurm/job/memory.usage_in_bytes", "24572800"),
                (
                    "sys/fs/cgroup/memory/slurm/job/memory.stat",
                    "active_file 5000000\ntotal_active_file 10000000\n",
                ),
            ],
        );
        assert_eq!(memory_left(root.path()).unwrap().free, Bytes(300_000_000));
        assert_eq!(memory_left(host("0::/\n", &[]).path()), None);
        assert_eq!(memory_left(Path::new("/nowhere")), None);
    }

    #[test]
    fn this_process_may_run_where_it_runs_and_nowhere_without_a_cpu() {
        assert!(usable_cpus().is_some_and(|count| count >= 1));
        assert!((0..1024).any(may_run_on));
        assert!(!may_run_on(1023) || usable_cpus() > Some(512));
    }
}

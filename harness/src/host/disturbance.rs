//! Is the host quiet enough to measure? Asked once before a suite, and of each run what happened meanwhile. It warns and
//! never refuses: on many a machine there is nothing better to be had, but nobody should find out afterwards.

use std::fs;
use std::path::Path;

use migbench_reports::manifest::Host;

/// Load per core over which other work takes CPU from a run.
const LOAD_PER_CORE: f64 = 0.25;
/// Bytes that must stay available, or the page cache is squeezed.
const MEMORY: u64 = 1 << 30;

/// Running totals of what slows a host down without a trace in any process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Throttling {
    /// Times that the control group's CPU quota stopped this process (Documentation/admin-guide/cgroup-v2.rst).
    pub quota: u64,
    /// Times that CPUs slowed down for their temperature, all of them together.
    pub heat: u64,
}

impl Throttling {
    /// As of now; what can't be read counts as nothing.
    #[must_use]
    pub fn read(root: &Path) -> Self {
        Self { quota: quota(root).unwrap_or(0), heat: heat(root) }
    }

    /// Whether something was added since `earlier`.
    #[must_use]
    pub const fn since(self, earlier: Self) -> bool {
        self.quota > earlier.quota || self.heat > earlier.heat
    }
}

/// `nr_throttled` of this process's own group.
fn quota(root: &Path) -> Option<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let stat = fs::read_to_string(root.join("sys/fs/cgroup").join(own).join("cpu.stat")).ok()?;
    stat.lines().find_map(|line| line.strip_prefix("nr_throttled "))?.trim().parse().ok()
}

fn heat(root: &Path) -> u64 {
    let Ok(cpus) = fs::read_dir(root.join("sys/devices/system/cpu")) else { return 0 };
    let count = |cpu: &Path| -> Option<u64> {
        fs::read_to_string(cpu.join("thermal_throttle/core_throttle_count")).ok()?.trim().parse().ok()
    };
    cpus.flatten().filter_map(|cpu| count(&cpu.path())).sum()
}

/// Processes other than this one that run guests: those with a VM of KVM among their files. What this user may not look
/// into is not seen.
fn guests(root: &Path) -> Vec<String> {
    let Ok(processes) = fs::read_dir(root.join("proc")) else { return Vec::new() };
    let own = std::process::id().to_string();
    let runs_guests = |process: &Path| {
        let Ok(files) = fs::read_dir(process.join("fd")) else { return false };
        files.flatten().any(|file| {
            fs::read_link(file.path()).is_ok_and(|to| to.to_string_lossy() == "anon_inode:kvm-vm")
        })
    };
    let mut found: Vec<String> = processes
        .flatten()
        .filter(|process| {
            let name = process.file_name();
            let name = name.to_string_lossy();
            name.bytes().all(|byte| byte.is_ascii_digit()) && *name != own && runs_guests(&process.path())
        })
        .map(|process| {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            format!("{} ({})", name.trim(), process.file_name().to_string_lossy())
        })
        .collect();
    found.sort();
    found
}

/// What disturbs a measurement on this host now, each with advice.
#[must_use]
pub fn disturbances(root: &Path, host: &Host, stolen_share: Option<f64>) -> Vec<String> {
    let mut found = Vec::new();
    if let (Some([load, ..]), Some(cores)) = (host.load_average, host.logical_cores)
        && load > LOAD_PER_CORE * f64::from(cores)
    {
        found.push(format!(
            "the load of the last minute is {load:.2} on {cores} CPUs: other work takes CPU from the runs; \
             wait until it has ended"
        ));
    }
    if let Some(share) = stolen_share.filter(|share| *share > 0.01) {
        found.push(format!(
            "{:.0} % of the CPU time is stolen by the hypervisor below: measure when its host is quieter, or on \
             bare metal",
            share * 100.0
        ));
    }
    if let Some(free) = host.memory_free.filter(|free| *free < MEMORY) {
        found.push(format!(
            "only {} MiB of memory are available: the kernel will reclaim during the runs; free some",
            free >> 20
        ));
    }
    let guests = guests(root);
    if !guests.is_empty() {
        found.push(format!("other guests run on this host: {}; pause or end them", guests.join(", ")));
    }
    if Throttling::read(root).quota > 0 {
        found.push(
            "this control group has met its CPU quota before: raise cpu.max, or measure outside of it"
                .to_owned(),
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn quiet() -> Host {
        Host {
            load_average: Some([0.1, 0.1, 0.1]),
            logical_cores: Some(2),
            memory_free: Some(8 << 30),
            ..Host::default()
        }
    }

    #[test]
    fn a_quiet_host_is_not_warned_of() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(disturbances(root.path(), &quiet(), Some(0.0)), Vec::<String>::new());
        // What nobody can tell is no disturbance either.
        assert_eq!(disturbances(root.path(), &Host::default(), None), Vec::<String>::new());
    }

    #[test]
    fn every_disturbance_is_told_with_advice() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "proc/self/cgroup", "0::/slice/box\n");
        write(
            root.path(),
            "sys/fs/cgroup/slice/box/cpu.stat",
            "usage_usec 5\nnr_periods 9\nnr_throttled 3\n",
        );
        write(root.path(), "proc/4242/comm", "qemu-system-x86\n");
        fs::create_dir_all(root.path().join("proc/4242/fd")).unwrap();
        std::os::unix::fs::symlink("anon_inode:kvm-vm", root.path().join("proc/4242/fd/9")).unwrap();
        let host = Host { load_average: Some([1.5, 1.0, 1.0]), memory_free: Some(100 << 20), ..quiet() };
        let found = disturbances(root.path(), &host, Some(0.2));
        for (part, text) in [
            ("load of the last minute is 1.50", 0),
            ("20 % of the CPU time is stolen", 1),
            ("only 100 MiB of memory", 2),
            ("qemu-system-x86 (4242)", 3),
            ("CPU quota", 4),
        ]
        .map(|(part, at)| (part, &found[at]))
        {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn throttling_is_counted() {
        let root = tempfile::tempdir().unwrap();
        let before = Throttling::read(root.path());
        write(root.path(), "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count", "2\n");
        write(root.path(), "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count", "3\n");
        let after = Throttling::read(root.path());
        assert_eq!(after.heat, 5);
        assert!(after.since(before) && !after.since(after));
    }
}

//! Is the host quiet enough to measure? Asked once before a suite, and of each run what happened meanwhile. It warns and
//! never refuses: on many a machine there is nothing better to be had, but nobody should find out afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use migbench_reports::manifest::Host;
use procfs::prelude::FromRead;
use procfs::process::Stat;

/// Share of all CPU time over which other work takes CPU from a run.
pub const OTHERS: f64 = 0.1;
/// How long others are watched: 50 ticks of the kernel's clock on each CPU.
const WATCHED: Duration = Duration::from_millis(500);
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

/// What all others do with the CPUs at this moment. A load average would count what has ended meanwhile, such as the build of
/// this very program.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Activity {
    /// Share of all CPU time that the hypervisor below gives to others; absent where nobody can tell.
    pub stolen: Option<f64>,
    /// Share of all CPU time that other processes and the kernel use; absent where nobody can tell.
    pub others: Option<f64>,
    /// The process that uses most of it, with its number; absent where none uses a tick.
    pub busiest: Option<String>,
}

impl Activity {
    /// Watches for half a second.
    #[must_use]
    pub fn watch(root: &Path) -> Self {
        let before = Ticks::read(root);
        std::thread::sleep(WATCHED);
        before.zip(Ticks::read(root)).map_or_else(Self::default, |(before, after)| after.since(&before))
    }

    /// The share of others in words, with the number of CPUs where that is known.
    #[must_use]
    pub fn of_others(&self, cores: Option<u32>) -> Option<String> {
        let share = self.others?;
        let busiest = self.busiest.as_ref().map_or_else(String::new, |name| format!(", most of it {name}"));
        Some(match cores {
            Some(cores) => format!("{:.2} of {cores} CPUs{busiest}", share * f64::from(cores)),
            None => format!("{:.0} % of the CPU time{busiest}", share * 100.0),
        })
    }
}

/// Running totals of CPU time, in ticks of the kernel's clock (proc_stat(5), proc_pid_stat(5)).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Ticks {
    all: u64,
    busy: u64,
    stolen: u64,
    own: u64,
    /// Name and ticks by number and start: a number is given again, and a kernel worker is called after what it does just now.
    others: BTreeMap<(i32, u64), (String, u64)>,
}

impl Ticks {
    fn read(root: &Path) -> Option<Self> {
        let stat = fs::read_to_string(root.join("proc/stat")).ok()?;
        let line = stat.lines().next()?.strip_prefix("cpu ")?;
        let fields = line.split_whitespace().map(str::parse).collect::<Result<Vec<u64>, _>>().ok()?;
        // Time in guests is in that of users already.
        let &[user, nice, system, idle, io, interrupt, soft, stolen, ..] = &fields[..] else { return None };
        let busy = user + nice + system + interrupt + soft;
        let mut ticks = Self { all: busy + idle + io + stolen, busy, stolen, ..Self::default() };
        let processes = fs::read_dir(root.join("proc")).ok()?;
        for process in processes.flatten() {
            // One that has ended meanwhile, or no process at all.
            let Ok(text) = fs::read(process.path().join("stat")) else { continue };
            let Ok(stat) = Stat::from_read(&text[..]) else { continue };
            let used = stat.utime + stat.stime;
            if u32::try_from(stat.pid) == Ok(std::process::id()) {
                ticks.own = used;
            } else {
                ticks.others.insert((stat.pid, stat.starttime), (stat.comm, used));
            }
        }
        Some(ticks)
    }

    fn since(&self, earlier: &Self) -> Activity {
        let added = |of: fn(&Self) -> u64| of(self).saturating_sub(of(earlier));
        #[expect(clippy::cast_precision_loss, reason = "ticks of a moment")]
        let share = |ticks: u64| match added(|ticks| ticks.all) {
            0 => None,
            all => Some(ticks as f64 / all as f64),
        };
        // One that was not there before has used all of its time since.
        let used = |(process, (name, now)): (&(i32, u64), &(String, u64))| {
            let before = earlier.others.get(process).map_or(0, |(_, ticks)| *ticks);
            (now.saturating_sub(before), format!("{name} ({})", process.0))
        };
        let busiest = self.others.iter().map(used).max_by_key(|(ticks, _)| *ticks);
        Activity {
            stolen: share(added(|ticks| ticks.stolen)),
            others: share(added(|ticks| ticks.busy).saturating_sub(added(|ticks| ticks.own))),
            busiest: busiest.filter(|(ticks, _)| *ticks > 0).map(|(_, name)| name),
        }
    }
}

/// What disturbs a measurement on this host now, each with advice.
#[must_use]
pub fn disturbances(root: &Path, host: &Host, activity: &Activity) -> Vec<String> {
    let mut found = Vec::new();
    if activity.others.is_some_and(|share| share > OTHERS)
        && let Some(used) = activity.of_others(host.logical_cores)
    {
        found.push(format!(
            "other processes use {used}: they take CPU from the runs; wait until they have ended, or stop them"
        ));
    }
    if let Some(share) = activity.stolen.filter(|share| *share > 0.01) {
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
            // Of what has ended.
            load_average: Some([9.0, 9.0, 9.0]),
            logical_cores: Some(2),
            memory_free: Some(8 << 30),
            ..Host::default()
        }
    }

    #[test]
    fn a_quiet_host_is_not_warned_of() {
        let root = tempfile::tempdir().unwrap();
        let idle = Activity { stolen: Some(0.0), others: Some(0.02), busiest: Some("sshd (1)".to_owned()) };
        assert_eq!(disturbances(root.path(), &quiet(), &idle), Vec::<String>::new());
        // What nobody can tell is no disturbance either.
        assert_eq!(disturbances(root.path(), &Host::default(), &Activity::default()), Vec::<String>::new());
    }

    #[test]
    fn every_disturbance_is_reported_with_advice() {
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
        let host = Host { memory_free: Some(100 << 20), ..quiet() };
        let busy = Activity { stolen: Some(0.2), others: Some(0.7), busiest: Some("rustc (77)".to_owned()) };
        let found = disturbances(root.path(), &host, &busy);
        for (part, text) in [
            ("other processes use 1.40 of 2 CPUs, most of it rustc (77)", 0),
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

    /// As proc_pid_stat(5) has it.
    fn stat(root: &Path, pid: u32, name: &str, user: u64, system: u64) {
        let rest = "20 0 1 0 100 4096 10 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0";
        let text = format!("{pid} ({name}) S 1 1 1 0 -1 4194304 0 0 0 0 {user} {system} 0 0 {rest}\n");
        write(root, &format!("proc/{pid}/stat"), &text);
    }

    #[test]
    fn others_are_all_but_this_process_and_the_busiest_is_named() {
        let root = tempfile::tempdir().unwrap();
        let (path, own) = (root.path(), std::process::id());
        assert_eq!(Ticks::read(path), None, "nobody can tell");
        let cpu = |user, system, idle, stolen| {
            write(
                path,
                "proc/stat",
                &format!("cpu  {user} 0 {system} {idle} 5 0 0 {stolen} 400 0\ncpu0 1 2\n"),
            );
        };
        cpu(1000, 500, 9000, 10);
        stat(path, own, "migbench", 100, 10);
        stat(path, 70, "a (strange) name", 300, 30);
        stat(path, 71, "ended", 5000, 0);
        stat(path, 73, "kworker/0:1-events", 400, 48);
        write(path, "proc/meminfo", "");
        let before = Ticks::read(path).unwrap();
        assert_eq!(before.since(&before), Activity { stolen: None, others: None, busiest: None });

        // 100 ticks: of these 20 are ours, 30 of others, 10 stolen; a build that ended between the looks counts too.
        cpu(1030, 520, 9040, 20);
        stat(path, own, "migbench", 115, 15);
        stat(path, 70, "a (strange) name", 304, 32);
        fs::remove_dir_all(path.join("proc/71")).unwrap();
        stat(path, 72, "rustc", 13, 0);
        stat(path, 73, "kworker/0:1-virtio_vsock", 400, 48);
        let activity = Ticks::read(path).unwrap().since(&before);
        assert_eq!((activity.stolen, activity.others), (Some(0.1), Some(0.3)));
        assert_eq!(activity.busiest.as_deref(), Some("rustc (72)"));
        assert_eq!(activity.of_others(Some(2)).unwrap(), "0.60 of 2 CPUs, most of it rustc (72)");
    }

    #[test]
    fn this_host_is_watched() {
        let activity = Activity::watch(Path::new("/"));
        assert!(activity.others.is_some_and(|share| (0.0..=1.0).contains(&share)), "{activity:?}");
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

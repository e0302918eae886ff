//! Settings of the host that move results: judged from the manifest's [`Host`], so that the doctor and the record
//! never see different machines.

use std::path::Path;

use migbench_reports::manifest::Host;

use super::{Check, Level};
use crate::host::disturbance::{Activity, OTHERS};
use crate::host::huge::{HUGE_PAGE, HugePagePool};

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

/// Below this the smallest suite (two guests of 128 MiB, a page cache as large, the nodes) has no room.
const MEMORY_NEEDED: u64 = 640 * MIB;
/// Below this the page cache of the host is squeezed while guests run.
const MEMORY_WANTED: u64 = 2 * GIB;
/// Reserved pages that both nodes of the suite `quick` (two guests of 128 MiB) take together.
const QUICK_HUGE_PAGES: u64 = 2 * 128 * MIB / HUGE_PAGE.0;

/// One check for each setting.
pub(super) fn checks(root: &Path, host: &Host, activity: &Activity) -> Vec<Check> {
    vec![
        cores(host),
        nested(host),
        memory_below(root),
        governor(host),
        turbo(host),
        smt(host),
        thp(host),
        huge_pages(root),
        ksm(host),
        numa_balancing(host),
        memory(host),
        load(host, activity),
        clock_source(host),
    ]
}

/// A setting that the machine does not show. In a virtual machine that is normal, and the host below decides.
fn hidden(name: &str, host: &Host) -> Check {
    if host.nested == Some(true) {
        Check::new(name, Level::Ok, "not visible in a virtual machine; the machine below decides")
    } else {
        Check::new(name, Level::Warn, "unknown: the kernel does not show it")
            .remedy("look it up in the firmware's set-up")
    }
}

fn cores(host: &Host) -> Check {
    let name = "cores";
    match (host.logical_cores, host.cores()) {
        (Some(logical), Some(usable)) => {
            let mut found = format!("{logical} logical");
            if let Some(physical) = host.physical_cores {
                found += &format!(", {physical} physical");
            }
            if let Some(usable) = host.usable_cores {
                found += &format!(", {usable} for this process by its affinity or control group");
            }
            // One for the vCPU and one for each node.
            if usable >= 3 {
                Check::new(name, Level::Ok, found)
            } else {
                Check::new(name, Level::Warn, format!("{found}: vCPU and engine threads share them"))
                    .remedy("use a machine with at least 3; read `engine_run_delay` and `vcpu_run_delay`")
            }
        }
        _ => Check::new(name, Level::Warn, "unknown"),
    }
}

fn nested(host: &Host) -> Check {
    let name = "nested";
    match host.nested {
        Some(false) => Check::new(name, Level::Ok, "no, this is bare metal"),
        Some(true) => {
            let below = host.hypervisor.as_deref().map(|name| format!(" under {name}")).unwrap_or_default();
            Check::new(name, Level::Warn, format!("this is a virtual machine{below}"))
                .remedy("compare figures of this machine with each other only, and read `steal_time`")
        }
        None => Check::new(name, Level::Warn, "unknown: /proc/cpuinfo shows no CPU flags"),
    }
}

/// Bit of the balloon's features by which freed pages are reported to the machine below (`VIRTIO_BALLOON_F_REPORTING`,
/// virtio 1.2, 5.5.3).
const BALLOON_REPORTS: usize = 5;

/// Whether memory that is freed goes back to the machine below.
fn memory_below(root: &Path) -> Check {
    let name = "free page reporting";
    let balloons = std::fs::read_dir(root.join("sys/bus/virtio/drivers/virtio_balloon"));
    let reports = |device: &Path| {
        let bits = std::fs::read_to_string(device.join("features")).unwrap_or_default();
        bits.as_bytes().get(BALLOON_REPORTS) == Some(&b'1')
    };
    if !balloons
        .is_ok_and(|mut devices| devices.any(|device| device.is_ok_and(|device| reports(&device.path()))))
    {
        return Check::new(name, Level::Ok, "none: freed memory stays with this machine");
    }
    let found = "on: memory that is freed goes back to the machine below, and its next use is a fault there";
    Check::new(name, Level::Warn, found).remedy(
        "use a machine whose balloon does not report free pages; else distrust times in which much memory is first used, \
         such as those of delta with guests of several GiB",
    )
}

fn governor(host: &Host) -> Check {
    let name = "governor";
    match host.governor.as_deref() {
        None => hidden(name, host),
        Some("performance") => Check::new(name, Level::Ok, "performance"),
        Some(other) => Check::new(name, Level::Warn, format!("{other}: the clock follows the load"))
            .remedy("`cpupower frequency-set -g performance`"),
    }
}

fn turbo(host: &Host) -> Check {
    let name = "turbo";
    match host.turbo {
        None => hidden(name, host),
        Some(false) => Check::new(name, Level::Ok, "off"),
        Some(true) => Check::new(name, Level::Warn, "on: the clock follows heat and the other cores' load")
            .remedy(
                "`echo 1 > /sys/devices/system/cpu/intel_pstate/no_turbo`, or \
             `echo 0 > /sys/devices/system/cpu/cpufreq/boost`",
            ),
    }
}

fn smt(host: &Host) -> Check {
    let name = "SMT";
    match host.smt {
        None => hidden(name, host),
        Some(false) => Check::new(name, Level::Ok, "not active"),
        Some(true) => Check::new(name, Level::Warn, "active: threads on one core slow each other")
            .remedy("pin vCPU and engine threads to different cores, or `echo off > /sys/devices/system/cpu/smt/control`"),
    }
}

fn thp(host: &Host) -> Check {
    let name = "THP";
    match host.thp.as_ref() {
        None => Check::new(name, Level::Ok, "not in this kernel"),
        Some(thp) if thp.enabled == "never" => {
            Check::new(name, Level::Ok, "never: cells with backing thp cannot run")
                .remedy("if a suite wants them, `echo madvise > /sys/kernel/mm/transparent_hugepage/enabled`")
        }
        Some(thp) if thp.enabled == "always" => {
            Check::new(name, Level::Warn, "always: pages are joined and split behind a run's back")
                .remedy("`echo madvise > /sys/kernel/mm/transparent_hugepage/enabled`")
        }
        Some(thp) => Check::new(name, Level::Ok, thp.enabled.clone()),
    }
}

fn huge_pages(root: &Path) -> Check {
    let name = "huge pages";
    // Nothing but cells that ask for them needs reserved pages, so that a machine without is in order.
    let Some(pool) = HugePagePool::read(root) else {
        return Check::new(
            name,
            Level::Ok,
            "no 2 MiB pages in this kernel: cells with backing hugetlb cannot run",
        );
    };
    let check = |found| Check::new(name, Level::Ok, found);
    let found = format!("{} of 2 MiB free", pool.free);
    if pool.free >= QUICK_HUGE_PAGES {
        return check(format!("{found}, room for two guests of {} MiB", pool.free * HUGE_PAGE.0 / MIB / 2));
    }
    check(format!("{found}: guests of 128 MiB with backing hugetlb need {QUICK_HUGE_PAGES}")).remedy(format!(
        "if a suite wants them, `sysctl vm.nr_hugepages={}`",
        pool.grown_for(QUICK_HUGE_PAGES)
    ))
}

fn ksm(host: &Host) -> Check {
    let name = "KSM";
    match host.ksm {
        None => Check::new(name, Level::Ok, "not in this kernel"),
        Some(false) => Check::new(name, Level::Ok, "off"),
        Some(true) => {
            Check::new(name, Level::Warn, "on: equal pages are merged, and writes to them cost a copy")
                .remedy("`echo 2 > /sys/kernel/mm/ksm/run`")
        }
    }
}

fn numa_balancing(host: &Host) -> Check {
    let name = "NUMA balancing";
    match host.numa_balancing {
        None => Check::new(name, Level::Ok, "not in this kernel"),
        Some(false) => Check::new(name, Level::Ok, "off"),
        Some(true) => Check::new(name, Level::Warn, "on: it unmaps guest memory to see who uses it")
            .remedy("`sysctl kernel.numa_balancing=0`"),
    }
}

fn memory(host: &Host) -> Check {
    let name = "free memory";
    let Some(free) = host.memory_free else { return Check::new(name, Level::Warn, "unknown") };
    let found = format!("{} MiB available", free / MIB);
    if free < MEMORY_NEEDED {
        Check::new(name, Level::Fail, found)
            .remedy(format!("free at least {} MiB: the smallest suite needs as much", MEMORY_NEEDED / MIB))
    } else if free < MEMORY_WANTED {
        Check::new(name, Level::Warn, found).remedy("stop what uses it, or choose small guests")
    } else {
        Check::new(name, Level::Ok, found)
    }
}

fn load(host: &Host, activity: &Activity) -> Check {
    let name = "load";
    let (Some(share), Some(used)) = (activity.others, activity.of_others(host.logical_cores)) else {
        return Check::new(name, Level::Warn, "unknown");
    };
    let used = format!("others use {used}");
    if share > OTHERS {
        Check::new(name, Level::Warn, used).remedy("wait until the machine is idle, or stop what runs beside")
    } else {
        Check::new(name, Level::Ok, used)
    }
}

fn clock_source(host: &Host) -> Check {
    let name = "clock source";
    match host.clock_source.as_deref() {
        None => Check::new(name, Level::Warn, "unknown"),
        Some("tsc") => Check::new(name, Level::Ok, "tsc"),
        Some(other) => {
            Check::new(name, Level::Warn, format!("{other}: guest and host times come from different clocks"))
                .remedy("where the TSC is stable, boot with `clocksource=tsc`")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use migbench_reports::manifest::Thp;

    use super::*;

    fn using(share: f64) -> Activity {
        Activity { others: Some(share), busiest: Some("rustc (7)".to_owned()), ..Activity::default() }
    }

    fn levels(host: &Host) -> Vec<(String, Level)> {
        let root = tempfile::tempdir().expect("a directory");
        checks(root.path(), host, &using(0.01)).into_iter().map(|check| (check.name, check.level)).collect()
    }

    fn quiet() -> Host {
        Host {
            physical_cores: Some(8),
            logical_cores: Some(8),
            memory_free: Some(16 * GIB),
            thp: Some(Thp { enabled: "madvise".to_owned(), defrag: None }),
            ksm: Some(false),
            numa_balancing: Some(false),
            governor: Some("performance".to_owned()),
            turbo: Some(false),
            smt: Some(false),
            nested: Some(false),
            clock_source: Some("tsc".to_owned()),
            // Of what has ended.
            load_average: Some([9.0, 9.0, 9.0]),
            ..Host::default()
        }
    }

    #[test]
    fn a_quiet_host_is_in_order() {
        for (name, level) in levels(&quiet()) {
            assert_eq!(level, Level::Ok, "{name}");
        }
    }

    #[test]
    fn a_balloon_that_reports_free_pages_is_reported() {
        let root = tempfile::tempdir().expect("a directory");
        let device = root.path().join("sys/bus/virtio/drivers/virtio_balloon/virtio0");
        fs::create_dir_all(&device).expect("a directory");
        assert_eq!(memory_below(root.path()).level, Level::Ok, "no features, no reports");
        for (bits, level) in [("0110010100", Level::Warn), ("0110100100", Level::Ok), ("011", Level::Ok)] {
            fs::write(device.join("features"), format!("{bits}\n")).expect("a file");
            assert_eq!(memory_below(root.path()).level, level, "{bits}");
        }
    }

    #[test]
    fn every_disturbance_is_named_with_its_remedy() {
        let host = Host {
            physical_cores: Some(1),
            logical_cores: Some(2),
            memory_free: Some(GIB),
            thp: Some(Thp { enabled: "always".to_owned(), defrag: None }),
            ksm: Some(true),
            numa_balancing: Some(true),
            governor: Some("powersave".to_owned()),
            turbo: Some(true),
            smt: Some(true),
            nested: Some(true),
            hypervisor: Some("Example".to_owned()),
            clock_source: Some("kvm-clock".to_owned()),
            ..quiet()
        };
        let root = tempfile::tempdir().expect("a directory");
        for check in checks(root.path(), &host, &using(0.3)) {
            // What these say comes from files.
            if ["huge pages", "free page reporting"].contains(&check.name.as_str()) {
                continue;
            }
            assert_eq!(check.level, Level::Warn, "{}", check.name);
            assert!(check.remedy.is_some(), "{}", check.name);
        }
        assert_eq!(load(&host, &using(0.3)).found, "others use 0.60 of 2 CPUs, most of it rustc (7)");
        assert_eq!(load(&host, &Activity::default()).found, "unknown");
        let tight = Host { memory_free: Some(MEMORY_NEEDED - 1), ..quiet() };
        assert_eq!(memory(&tight).level, Level::Fail);
    }

    #[test]
    fn what_a_virtual_machine_hides_is_no_warning_and_elsewhere_is() {
        let host = Host { governor: None, nested: Some(true), ..quiet() };
        assert_eq!(governor(&host).level, Level::Ok);
        assert_eq!(governor(&Host { nested: Some(false), ..host }).level, Level::Warn);
    }

    #[test]
    fn huge_pages_are_counted() {
        let root = tempfile::tempdir().expect("a directory");
        let directory = root.path().join("sys/kernel/mm/hugepages/hugepages-2048kB");
        fs::create_dir_all(&directory).expect("directories");
        fs::write(directory.join("nr_hugepages"), "70\n").expect("a file");
        fs::write(directory.join("free_hugepages"), "64\n").expect("a file");
        let few = huge_pages(root.path());
        assert_eq!(few.found, "64 of 2 MiB free: guests of 128 MiB with backing hugetlb need 128");
        assert!(few.remedy.is_some_and(|remedy| remedy.ends_with("`sysctl vm.nr_hugepages=134`")));
        fs::write(directory.join("free_hugepages"), "256\n").expect("a file");
        assert_eq!(huge_pages(root.path()).found, "256 of 2 MiB free, room for two guests of 256 MiB");
    }
}

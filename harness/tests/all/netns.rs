//! Links between two network namespaces: memory arrives whole through the kernel's filter, nothing of the namespaces is
//! left however a run ends, and who can't have them hears why.

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use migbench_reports::record::Status;
use migbench_scenarios::cell::Transport;

use crate::support::{
    Migbench, SHORT, assert_nothing_left, is_of_another, marked, metric, migrate, require_kvm, require_netns,
    validated,
};

const NETNS: [&str; 2] = ["--transport", "netns"];

/// A network namespace as the kernel names it, such as `net:[4026531840]`.
type Namespace = PathBuf;

fn of_process(pid: u32) -> Option<Namespace> {
    std::fs::read_link(format!("/proc/{pid}/ns/net")).ok()
}

/// Every network namespace that a process is in, or holds open. Those of commands of other tests don't count: the kernel gives the
/// number of a namespace that is gone to the next one.
fn in_use(mark: &str) -> BTreeSet<Namespace> {
    let mut found = BTreeSet::new();
    let numbered = |folder: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let number =
            |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().parse::<u32>().is_ok());
        entries.map(|entry| entry.path()).filter(number).collect()
    };
    for process in numbered(Path::new("/proc")).into_iter().filter(|process| !is_of_another(process, mark)) {
        let threads = numbered(&process.join("task")).into_iter().map(|thread| thread.join("ns/net"));
        let links =
            threads.chain(numbered(&process.join("fd"))).filter_map(|path| std::fs::read_link(path).ok());
        found.extend(links.filter(|link| link.to_string_lossy().starts_with("net:[")));
    }
    found
}

/// Waits until both nodes of a command are in namespaces of their own; gives these.
fn namespaces_of_nodes(mark: &str) -> BTreeSet<Namespace> {
    let ours = of_process(std::process::id());
    let patience = Instant::now() + Duration::from_secs(60);
    loop {
        let foreign: BTreeSet<_> = marked(mark)
            .into_iter()
            .filter_map(of_process)
            .filter(|found| Some(found) != ours.as_ref())
            .collect();
        if foreign.len() == 2 {
            return foreign;
        }
        assert!(Instant::now() < patience, "the nodes are in {foreign:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Fails where a process holds one of the `namespaces` of a command, or it is mounted somewhere.
pub fn assert_gone(namespaces: &BTreeSet<Namespace>, mark: &str) {
    let patience = Instant::now() + Duration::from_secs(10);
    while !in_use(mark).is_disjoint(namespaces) {
        assert!(Instant::now() < patience, "still in use: {namespaces:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    for namespace in namespaces {
        assert!(!mounts.contains(&*namespace.to_string_lossy()), "mounted: {namespace:?}");
    }
}

#[test]
fn memory_arrives_whole_through_the_kernels_filter() {
    require_kvm!();
    require_netns!();
    for engine in ["full", "delta"] {
        for proof in [&["--verify"][..], &["--set", "proof=every"]] {
            let (outcome, record) = migrate(&[&NETNS[..], &["--engine", engine], proof].concat());
            assert_eq!(outcome.status, 0, "{}", outcome.stderr);
            assert_eq!(record.status, Status::Ok, "{:?}", record.error);
            assert_eq!(
                (record.verified, record.guest_checked),
                (Some(true), Some(true)),
                "{engine} {proof:?}"
            );
            assert_eq!(record.cell.link.transport, Transport::Netns);
            assert!(metric(&record, "traffic") > metric(&record, "first_round_bytes"));
            // A busy host falls short of the rate. Without a filter, or with one in other units, it would be many times that.
            let achieved = metric(&record, "link_rate_achieved");
            assert!(achieved > 0.0 && achieved < 1.25, "{achieved} of the rate");
        }
    }
}

#[test]
fn a_link_without_limit_and_one_with_a_queue_of_its_own_arrive_as_well() {
    require_kvm!();
    require_netns!();
    for link in [
        &["--link", "unlimited", "--set", "settings.load=pages(10000)"][..],
        &["--link", "400Mbit/s", "--set", "link.queue=64KiB"],
        &["--link", "10Gbit/s", "--set", "settings.load=pages(10000)"],
    ] {
        let (outcome, record) = migrate(&[&NETNS[..], &["--engine", "delta", "--verify"], link].concat());
        assert_eq!((outcome.status, record.status), (0, Status::Ok), "{link:?}: {:?}", record.error);
        assert_eq!((record.verified, record.guest_checked), (Some(true), Some(true)), "{link:?}");
    }
}

/// A migration long enough to be looked at.
fn long() -> Migbench {
    let load = ["--set", "settings.load=pages(500)", "--link", "100Mbit/s"];
    Migbench::new()
        .args(["migrate", "--engine", "full", "--memory", "32MiB"])
        .args(NETNS)
        .args(SHORT)
        .args(load)
}

#[test]
fn namespaces_end_with_the_run() {
    require_kvm!();
    require_netns!();
    let (child, mark) = long().start();
    let namespaces = namespaces_of_nodes(&mark);
    assert!(!in_use(&mark).is_disjoint(&namespaces), "seen while they are in use");
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_nothing_left(&mark);
    assert_gone(&namespaces, &mark);
}

#[test]
fn namespaces_end_with_a_runner_that_is_killed() {
    require_kvm!();
    require_netns!();
    let (mut child, mark) = long().start();
    let namespaces = namespaces_of_nodes(&mark);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_nothing_left(&mark);
    assert_gone(&namespaces, &mark);
}

const LINKS: &str = r#"
name = "links"
description = "one engine, two wires"
repetitions = 1
[defaults]
memory = "32MiB"
settings.working_set = "8MiB"
windows = { steady = "50ms", after = "100ms", warmup_max = "200ms" }
[[comparison]]
workload = "read-heavy"
engine = "delta"
axes.link.transport = ["unix", "netns"]
compare = "link.transport"
baseline = "unix"
"#;

#[test]
fn a_suite_takes_the_transport_as_an_axis_and_as_a_setting() {
    require_kvm!();
    require_netns!();
    let scratch = tempfile::tempdir().unwrap();
    let suite = scratch.path().join("links.toml");
    std::fs::write(&suite, LINKS).unwrap();
    for (name, arguments) in [("axis", &[][..]), ("set", &["--set", "link.transport=unix,netns"])] {
        let output = scratch.path().join(name);
        let outcome =
            Migbench::new().args([Path::new("run"), &suite, Path::new("-o"), &output]).args(arguments).run();
        assert_eq!(outcome.status, 0, "{name}: {}", outcome.stderr);
        let runs = std::fs::read_to_string(output.join("runs.jsonl")).unwrap();
        let mut records: Vec<_> = runs.lines().map(validated).collect();
        assert!(records.iter().all(|run| run.status == Status::Ok), "{name}");
        records.retain(|run| run.cell.link.transport == Transport::Netns);
        assert_eq!(records.len(), 2, "{name}: a verification and a timed run");
    }
}

/// The suite above, run by the command that `wrap` makes of the binary, in a directory where anybody may write. It must
/// not come to a guest.
fn without_a_guest(wrap: impl FnOnce(&Path) -> Command, arguments: &[&str]) -> (Option<i32>, String) {
    let scratch = tempfile::tempdir().unwrap();
    let anybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(scratch.path(), anybody).unwrap();
    let [binary, suite, results] =
        ["migbench", "links.toml", "results"].map(|name| scratch.path().join(name));
    std::fs::copy(assert_cmd::cargo::cargo_bin!("migbench"), &binary).unwrap();
    std::fs::write(&suite, LINKS).unwrap();
    let output = wrap(&binary)
        .args([Path::new("run"), &suite, Path::new("-o"), &results])
        .args(arguments)
        .env("MIGBENCH_LOCK", scratch.path().join("lock"))
        .current_dir(scratch.path())
        .output()
        .unwrap();
    assert!(!results.exists(), "refused before anything was measured");
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn who_has_no_rights_hears_so_before_a_guest_starts() {
    require_kvm!();
    require_netns!();
    const DENIED: &str = "no rights to make a network namespace";
    const REMEDY: &str = "; run as root (in a container with CAP_SYS_ADMIN and CAP_NET_ADMIN), or choose link.transport = \"unix\"";
    // Root, as in a container: KVM opens all the same.
    for (lacking, reason) in [("-sys_admin", DENIED), ("-net_admin", "`ip link add ")] {
        let container = |binary: &Path| {
            let mut command = Command::new("setpriv");
            command.args(["--bounding-set", lacking]).arg(binary);
            command
        };
        let (status, said) = without_a_guest(container, &["--filter", "netns"]);
        assert_eq!(status, Some(2), "{said}");
        let refusal = format!("/netns: link.transport netns is not available here: {reason}");
        assert!(said.contains(&refusal) && said.contains(REMEDY), "{said}");
    }
    let nobody = |binary: &Path| {
        let mut command = Command::new(binary);
        command.uid(65534).gid(65534);
        command
    };
    let (status, said) = without_a_guest(nobody, &["--filter", "netns", "--dry-run"]);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains(&format!("not available here: {DENIED}{REMEDY}")), "{said}");
}

#[test]
fn who_lacks_a_tool_hears_so_before_a_guest_starts() {
    require_kvm!();
    require_netns!();
    // In a mount namespace of its own, so that nobody else misses it.
    let hide = "for tc in /usr/sbin/tc /sbin/tc /usr/bin/tc /bin/tc; do \
                if [ -f $tc ]; then mount --bind /dev/null $tc; fi; done; exec \"$@\"";
    let without_tc = |binary: &Path| {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", hide, "sh"])
            .arg(binary)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    };
    let (status, said) = without_a_guest(without_tc, &["--filter", "netns"]);
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("not available here: there is no `tc`; install iproute2"), "{said}");
}

#[test]
fn a_queue_that_no_socket_holds_is_refused_before_a_guest_starts() {
    require_kvm!();
    let container = |binary: &Path| {
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set", "-net_admin"]).arg(binary);
        command
    };
    let (status, said) = without_a_guest(container, &["--filter", "unix", "--set", "link.queue=64MiB"]);
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("link.queue of 64MiB") && said.contains("sysctl net.core.wmem_max=6"), "{said}");
    // Nor one that takes longer to leave than anybody waits.
    let (status, said) = without_a_guest(
        |binary: &Path| Command::new(binary),
        &["--filter", "unix", "--set", "link.rate=100kbit/s"],
    );
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("take 66.2 s, and a peer waits for 30 s: raise link.rate"), "{said}");
}

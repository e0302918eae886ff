//! Faults planted in every phase of a migration: what the record says of them, where the guest is afterwards, and
//! that nothing is left behind.

use std::io::BufRead;

use crate::support::{migrate, require_kvm};
use migbench_reports::record::{GuestAt, Record, Status};

const POINTS: [&str; 5] = ["connect", "precopy", "switchover", "before-commit", "after-commit"];

/// Several rounds with the guest running, so that pre-copy goes on after its first one.
const ROUNDS: [&str; 4] = ["--set", "settings.load=pages(20000)", "--set", "stop.downtime_limit=2ms"];

/// A migration with a fault, at whose end the record says so.
fn faulty(fault: &str, arguments: &[&str]) -> Record {
    let (outcome, record) = migrate(&[&["--engine", "delta", "--fault", fault][..], arguments].concat());
    assert!(record.flags.contains(&"fault_injected".to_owned()), "{fault}");
    assert_eq!(outcome.status, i32::from(record.status == Status::Failed), "{fault}: {}", outcome.stderr);
    record
}

/// A migration that must fail, and where the guest may be then.
fn assert_fails(fault: &str, arguments: &[&str], allowed: &[GuestAt]) -> Record {
    let record = faulty(fault, arguments);
    assert_eq!(record.status, Status::Failed, "{fault}");
    let error = record.error.as_ref().unwrap();
    eprintln!("{fault}: {:?} in {}: {}", error.guest, error.phase, error.message);
    let phases = ["connect", "precopy", "switchover", "handover", "after"];
    assert!(phases.contains(&error.phase.as_str()), "{fault}: phase {}", error.phase);
    assert!(!error.message.is_empty());
    assert!(allowed.contains(&error.guest), "{fault}: {error:?}");
    // A guest that goes on somewhere is sound, and one that is lost cannot have been asked.
    let runs = matches!(error.guest, GuestAt::Source | GuestAt::Destination);
    assert_eq!(record.guest_checked, runs.then_some(true), "{fault}: {error:?}");
    record
}

/// Before commit the guest goes on at a source that lives.
#[test]
fn before_commit_the_guest_goes_on_at_the_source() {
    require_kvm!();
    for point in &POINTS[..3] {
        for side_and_action in
            ["source:close", "source:corrupt", "destination:kill", "destination:close", "destination:corrupt"]
        {
            let record = assert_fails(&format!("{side_and_action}@{point}"), &ROUNDS, &[GuestAt::Source]);
            let phase = record.error.unwrap().phase;
            if side_and_action.ends_with(":close") {
                assert_eq!(phase, *point, "{side_and_action}");
            }
        }
    }
    // The source has not sent commit yet, and finds that it cannot.
    assert_fails("source:close@before-commit", &[], &[GuestAt::Source]);
}

#[test]
fn a_link_of_tcp_that_breaks_leaves_the_guest_at_the_source() {
    require_kvm!();
    for fault in ["destination:kill@precopy", "source:close@switchover", "destination:corrupt@switchover"] {
        assert_fails(fault, &["--transport", "tcp"], &[GuestAt::Source]);
    }
}

#[test]
fn a_source_that_dies_before_commit_takes_the_guest_with_it() {
    require_kvm!();
    for point in &POINTS[..4] {
        let record = assert_fails(&format!("source:kill@{point}"), &[], &[GuestAt::Lost]);
        let error = record.error.unwrap();
        assert!(error.message.contains("the source node was killed by signal 9"), "{}", error.message);
    }
}

/// The destination has said that it is ready and breaks. The source may send commit before it notices; then nobody
/// but the destination may run the guest, and a guest that it did not take is lost.
#[test]
fn a_destination_that_breaks_after_ready_never_makes_two_guests() {
    require_kvm!();
    use GuestAt::{Destination, Lost, Source};
    assert_fails("destination:kill@before-commit", &[], &[Source, Lost]);
    assert_fails("destination:close@before-commit", &[], &[Source, Destination, Lost]);
    // What it says is heard before commit is sent, and then nobody gets it; or commit arrives whole, and only the answer does not.
    assert_fails("destination:corrupt@before-commit", &[], &[Source, Destination]);
    // The destination reads something else where commit was due. The source has sent commit and loses the guest, or finds the link
    // closed by then, so that nobody got it and the guest stays.
    assert_fails("source:corrupt@before-commit", &[], &[Source, Lost]);
}

#[test]
fn after_commit_the_guest_is_the_destinations() {
    require_kvm!();
    use GuestAt::{Destination, Lost};
    let record = assert_fails("source:kill@after-commit", &[], &[Destination]);
    assert_eq!(record.error.unwrap().phase, "handover");
    // Where the source waits for a CPU after commit, the answer is there before it closes the link.
    let record = faulty("source:close@after-commit", &[]);
    let at = record.error.as_ref().map(|error| error.guest);
    assert!(at.is_none_or(|at| at == Destination), "{:?}", record.error);
    assert_eq!(record.guest_checked, Some(true), "{:?}", record.error);
    assert_fails("destination:kill@after-commit", &[], &[Lost]);
    assert_fails("destination:close@after-commit", &[], &[Destination]);
    assert_fails("destination:corrupt@after-commit", &[], &[Destination]);
    // Nobody reads the link after commit: this one harms nothing.
    let record = faulty("source:corrupt@after-commit", &[]);
    assert_eq!((record.status, record.guest_checked), (Status::Ok, Some(true)), "{:?}", record.error);
}

/// A stopped process could neither look nor answer: what has arrived by then counts, and not the time that went by.
#[test]
#[ignore = "stops nodes for 35 s each"]
fn a_node_that_was_stopped_throws_nothing_away() {
    require_kvm!();
    use GuestAt::{Destination, Source};
    for (fault, allowed) in [
        // Commit arrives meanwhile: the guest is taken, though nobody waits for the answer any more.
        ("destination:freeze@before-commit", Destination),
        // It is the destination's, and healthy: its first steps are looked for when it can make some.
        ("destination:freeze@after-commit", Destination),
        ("source:freeze@before-commit", Source),
        ("source:freeze@after-commit", Destination),
        ("destination:freeze@precopy", Source),
        ("source:freeze@precopy", Source),
    ] {
        let record = faulty(fault, &[]);
        eprintln!("{fault}: {:?}", record.error);
        assert!(record.error.is_none_or(|error| error.guest == allowed), "{fault}");
        assert_eq!(record.guest_checked, Some(true), "{fault}: the guest goes on, and is sound");
    }
}

/// As by Ctrl-Z in the middle of a run, for longer than a run may take.
#[test]
#[ignore = "stops the runner for 140 s"]
fn a_runner_that_was_stopped_keeps_what_its_nodes_have_reported() {
    require_kvm!();
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("record.json");
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin!("migbench"));
    command.args(["migrate", "--engine", "full", "--memory", "32MiB", "--set", "settings.working_set=8MiB"]);
    command.args(["--link", "100Mbit/s", "--set", "windows.warmup_max=1s", "--json"]).arg(&path);
    command.env("MIGBENCH_LOCK", scratch.path().join("lock"));
    let mut runner = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    // The migration is ordered and under way; what the nodes say from here on waits for the runner.
    let mut said = std::io::BufReader::new(runner.stderr.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().starts_with("round 0")), "a round was reported");
    let signal = |signal| {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(runner.id()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    };
    signal(nix::sys::signal::Signal::SIGSTOP);
    std::thread::sleep(std::time::Duration::from_secs(140));
    signal(nix::sys::signal::Signal::SIGCONT);
    said.for_each(drop);
    assert!(runner.wait().unwrap().success());
    let record: Record = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!((record.status, record.guest_checked), (Status::Ok, Some(true)), "{:?}", record.error);
}

/// The runner may die between starting a node and the node's asking to die with it.
#[test]
fn a_node_whose_runner_is_gone_starts_no_guest() {
    use migbench::node::hello::Token;
    use migbench::node::protocol::{ControlSocket, Order, Role};
    use migbench::sys::memory::{Telemetry, leave_open};
    require_kvm!();
    for role in [Role::Source, Role::Destination] {
        let (runner, node) = std::os::unix::net::UnixStream::pair().unwrap();
        let memory = crate::support::telemetry_file();
        let assignment = crate::support::node_assignment(
            role,
            &crate::support::cell(),
            leave_open(&memory).unwrap(),
            &Token::random().unwrap(),
        );
        let descriptor = leave_open(&node).unwrap();
        // All that it has to say is said; its death closes the socket.
        ControlSocket::new(runner).unwrap().send(&Order::Prepare(Box::new(assignment))).unwrap();
        let output = std::process::Command::new(assert_cmd::cargo::cargo_bin!("migbench"))
            .args(["node", "--control", &descriptor.to_string()])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("the control socket was closed"), "{said}");
        // It has not even looked at this memory.
        assert_eq!(nix::sys::stat::fstat(&memory).unwrap().st_size, 0, "{role:?}");
        drop(Telemetry::map(&memory, 1, true).unwrap());
    }
}

/// A destination that ends before it listens has no address: the source is told so, names it, and keeps the guest.
#[test]
fn a_source_whose_destination_never_listened_keeps_the_guest() {
    use migbench::node::hello::Token;
    use migbench::node::protocol::{ControlSocket, Message, Order, Role};
    use migbench::sys::memory::leave_open;
    require_kvm!();
    let (runner, node) = std::os::unix::net::UnixStream::pair().unwrap();
    let memory = crate::support::telemetry_file();
    let assignment = crate::support::node_assignment(
        Role::Source,
        &crate::support::cell(),
        leave_open(&memory).unwrap(),
        &Token::random().unwrap(),
    );
    let descriptor = leave_open(&node).unwrap();
    let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin!("migbench"))
        .args(["node", "--control", &descriptor.to_string()])
        .spawn()
        .unwrap();
    drop(node);
    let mut control = ControlSocket::new(runner).unwrap();
    control.send(&Order::Prepare(Box::new(assignment))).unwrap();
    assert!(matches!(control.receive().unwrap(), Message::Steady));
    control.send(&Order::Migrate { address: None }).unwrap();
    let Message::Source(report) = control.receive().unwrap() else { panic!("no report") };
    let failure = report.failure.unwrap();
    assert_eq!(failure.message, "the destination ended before the migration began");
    assert!(report.guest_runs && !report.handed_over);
    assert!(report.checked.unwrap().passed);
    drop(control);
    assert!(child.wait().unwrap().success());
}

/// A disk that is full by now keeps the record of before, and the figures are printed.
#[test]
fn a_full_disk_leaves_the_record_of_before() {
    require_kvm!();
    let scratch = tempfile::tempdir().unwrap();
    let disk = scratch.path().to_str().unwrap();
    let script = format!(
        "mount -t tmpfs -o size=8k none {disk} && cd {disk} && echo before > record.json || exit 77\n\
         migbench migrate --engine full --memory 32MiB --json record.json {}; echo status $?; ls; cat record.json",
        crate::support::SHORT.join(" ")
    );
    let outcome = crate::support::Migbench::shell(&format!("exec unshare --mount sh -c '{script}'")).run();
    if outcome.status == 77 || outcome.stderr.contains("unshare") {
        assert!(std::env::var_os("MIGBENCH_REQUIRE_KVM").is_none(), "{}", outcome.stderr);
        return crate::support::skip("no file system can be mounted");
    }
    let (figures, rest) = outcome.stdout.split_once("status 7\n").expect(&outcome.stdout);
    assert!(figures.contains("downtime"), "{figures}");
    assert_eq!(rest, "record.json\nbefore\n");
    assert!(outcome.stderr.contains("cannot write record.json"), "{}", outcome.stderr);
}

/// Without memory a node may fail, but the guest stays where it is.
#[test]
fn a_node_that_gets_no_more_memory_loses_no_guest() {
    require_kvm!();
    use GuestAt::{Destination, Source};
    for (fault, verify, ends_at) in [
        // Batches and sets of pages are made after this point.
        ("source:starve@connect", false, Source),
        // Hashes are made in the pause.
        ("source:starve@switchover", true, Source),
        ("destination:starve@switchover", true, Source),
        ("destination:starve@after-commit", false, Destination),
    ] {
        let record = faulty(fault, if verify { &["--verify"] } else { &[] });
        match &record.error {
            Some(error) => {
                assert_eq!(error.guest, ends_at, "{fault}: {error:?}");
                assert!(error.message.contains("no memory for "), "{fault}: {error:?}");
            }
            // A block to hash is larger than what is left, all else may be had.
            None => assert!(!verify, "{fault}"),
        }
        assert_eq!(record.guest_checked, Some(true), "{fault}: {:?}", record.error);
    }
}

/// A limit of memory, whatever it is, ends a run in words. Between those under which a guest does not even boot and those
/// under which all goes well are some that leave no room for what delta remembers.
#[test]
fn no_limit_of_memory_loses_a_guest() {
    require_kvm!();
    let mut kept = 0;
    for mebibytes in [64, 96, 208, 224, 256] {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("record.json");
        let arguments =
            ["migrate", "--engine", "delta", "--memory", "32MiB", "--json", path.to_str().unwrap()];
        let command = [&arguments[..], &crate::support::SHORT].concat().join(" ");
        let limit = format!("ulimit -v {}; exec migbench {command}", mebibytes << 10);
        let outcome = crate::support::Migbench::shell(&limit).run();
        let said = format!("{mebibytes} MiB: {}", outcome.stderr);
        assert!([0, 1, 2].contains(&outcome.status), "{said}");
        assert!(!said.contains("panicked") && !said.contains("memory allocation of"), "{said}");
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let record = crate::support::validated(text.trim_end());
        let Some(error) = record.error else { break };
        assert_ne!(error.guest, GuestAt::Lost, "{mebibytes} MiB: {error:?}");
        kept += u32::from(error.guest == GuestAt::Source && error.message.contains("no memory for"));
    }
    assert!(kept > 0, "no limit was between too little to boot and enough");
}

#[test]
fn a_flipped_bit_is_found_by_verification_and_named() {
    require_kvm!();
    for engine in ["full", "delta", "stop-and-copy"] {
        let fault = "destination:flip@switchover";
        let (outcome, record) = migrate(&["--engine", engine, "--fault", fault, "--verify"]);
        assert_eq!((outcome.status, record.status, record.verified), (1, Status::Failed, Some(false)));
        let error = record.error.as_ref().unwrap();
        assert_eq!((error.phase.as_str(), error.guest), ("verification", GuestAt::Source));
        // The working set begins where the guest's own memory ends.
        let place = format!("first in the 2 MiB from {:#x} on", migbench_workloads::abi::RESERVED);
        assert!(error.message.contains(&place), "{}", error.message);
        assert!(error.message.contains("1 of 16 blocks"), "{}", error.message);
        assert_eq!(record.guest_checked, Some(true), "the guest at the source is sound");
        assert!(outcome.stdout.contains(&place), "the figures show it: {}", outcome.stdout);
    }
}

#[test]
fn a_flipped_bit_is_found_by_the_guest_in_timed_runs() {
    require_kvm!();
    let record = faulty("destination:flip@switchover", &["--workload", "idle"]);
    assert_eq!((record.status, record.verified), (Status::Failed, None));
    assert_eq!(record.guest_checked, Some(false));
    let error = record.error.unwrap();
    assert_eq!((error.phase.as_str(), error.guest), ("validate", GuestAt::Destination));
    assert!(
        error.message.contains(&format!("{:#x}", migbench_workloads::abi::RESERVED)),
        "{}",
        error.message
    );
}

#[test]
fn a_wrong_decode_is_found_by_the_proof_of_every_run() {
    require_kvm!();
    let arguments = ["--workload", "idle", "--set", "proof=every"];
    let record = faulty("destination:flip@precopy", &arguments);
    assert_eq!((record.status, record.verified), (Status::Failed, Some(false)));
    let error = record.error.unwrap();
    assert_eq!((error.phase.as_str(), error.guest), ("verification", GuestAt::Destination));
    assert!(
        error.message.contains(&format!("{:#x}", migbench_workloads::abi::RESERVED)),
        "{}",
        error.message
    );
}

#[test]
fn a_fault_of_the_guest_ends_the_run_in_its_own_words() {
    require_kvm!();
    let flags = migbench_workloads::abi::FLAG_FAULT.to_string();
    let (outcome, record) = migrate(&["--engine", "full", "--guest-flags", &flags]);
    assert_eq!((outcome.status, record.status), (1, Status::Failed));
    let error = record.error.unwrap();
    assert!(error.message.contains("exception 6 at instruction 0x"), "{}", error.message);
    assert!(["boot", "warmup"].contains(&error.phase.as_str()), "{}", error.phase);
    assert_eq!(record.guest_checked, None);
}

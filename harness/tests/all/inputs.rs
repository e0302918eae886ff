//! What users give and where output goes: a clear word before a guest starts, and what was measured is kept.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Output};

use migbench_reports::store::{Accept, RunData};

const RUN: [&str; 6] = ["run", "quick", "--simulate", "--repeat", "1", "-o"];

fn migbench() -> Command {
    Command::new(assert_cmd::cargo::cargo_bin!("migbench"))
}

/// `migbench run quick -o DIRECTORY` in a shell, with this behind it.
fn in_a_shell(directory: &Path, behind: &str) -> Output {
    let program = assert_cmd::cargo::cargo_bin!("migbench");
    let script = format!("set -o pipefail; \"$0\" {} \"$1\" {behind}", RUN.join(" "));
    Command::new("bash").args(["-c", &script]).arg(program).arg(directory).output().unwrap()
}

fn records(directory: &Path) -> usize {
    RunData::load_as(directory, Accept::Simulated).unwrap().records.len()
}

#[test]
fn nobody_who_looks_on_takes_a_run_away() {
    let scratch = tempfile::tempdir().unwrap();
    for (name, behind, status) in [
        ("closed", "2>&1 >/dev/null | true", 0),
        ("read once", "2>&1 >/dev/null | head -1", 0),
        ("none", "2>&- >/dev/null", 0),
        ("full", "2>/dev/full >/dev/null", 0),
        ("all closed", "2>&1 | true", 0),
        // Who wanted the table did not get it.
        ("table nowhere", ">/dev/full", 7),
    ] {
        let directory = scratch.path().join(name);
        let output = in_a_shell(&directory, behind);
        assert_eq!(output.status.code(), Some(status), "{name}: {output:?}");
        assert_eq!(records(&directory), 8, "{name}");
        assert!(directory.join("report.md").exists() && directory.join("report.html").exists(), "{name}");
    }
}

#[test]
fn a_directory_may_be_called_as_the_file_system_lets_it() {
    let scratch = tempfile::tempdir().unwrap();
    for name in [&b"\xff\xfe no text"[..], b"a 'quote' and \"another\"", b"two\nlines", b"-dash"] {
        let name = OsStr::from_bytes(name);
        let mut output = std::ffi::OsString::from("--output=");
        output.push(name);
        let run = migbench().args(&RUN[..5]).arg(output).current_dir(&scratch).output().unwrap();
        assert_eq!(run.status.code(), Some(0), "{run:?}");
        assert_eq!(records(&scratch.path().join(name)), 8);
        let again = migbench()
            .args(["report", "--simulated", "--"])
            .arg(name)
            .current_dir(&scratch)
            .output()
            .unwrap();
        assert_eq!(again.status.code(), Some(0), "{again:?}");
    }
}

#[test]
fn where_a_record_goes_is_tried_before_a_guest_starts() {
    let scratch = tempfile::tempdir().unwrap();
    for path in [scratch.path().join("none/record.json"), scratch.path().to_owned()] {
        let output = migbench().args(["migrate", "--json"]).arg(&path).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("cannot write") && said.contains("--json"), "{said}");
        assert!(!said.contains("round"), "{said}");
    }
}

#[test]
fn a_suite_cannot_lead_its_runs_elsewhere() {
    let scratch = tempfile::tempdir().unwrap();
    let suite = scratch.path().join("suite.toml");
    let text = "name = \"../x\"\ndescription = \"d\"\n[[comparison]]\nworkload = \"idle\"\naxes.engine = [\"full\"]\n";
    std::fs::write(&suite, text).unwrap();
    let output = migbench().arg("run").arg(&suite).arg("--simulate").current_dir(&scratch).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("suite.toml:1:8"), "{output:?}");
    assert!(!scratch.path().join("results").exists());
}

#[test]
fn a_cpu_that_this_process_may_not_use_is_named_before_a_guest_starts() {
    let mask = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).unwrap();
    let allowed: Vec<usize> = (0..1024).filter(|cpu| mask.is_set(*cpu).unwrap()).collect();
    let first = allowed[0].to_string();
    let dry = |cpu: &str| {
        let program = assert_cmd::cargo::cargo_bin!("migbench");
        let mut command = Command::new("taskset");
        command.args(["-c", &first]).arg(program).args(["run", "quick", "--dry-run"]);
        for kind in ["vcpus", "source", "destination"] {
            command.arg("--set").arg(format!("pinning.{kind}={cpu}"));
        }
        command.output().unwrap()
    };
    let second = allowed.get(1).map(usize::to_string);
    for cpu in second.into_iter().chain(["4000".to_owned()]) {
        let said = dry(&cpu);
        let text = String::from_utf8_lossy(&said.stdout);
        assert!(
            text.contains(&format!("pinning names CPU {cpu}, on which this process may not run")),
            "{said:?}"
        );
    }
    assert!(!String::from_utf8_lossy(&dry(&first).stdout).contains("may not run"));
}

/// Arguments are up to the program that is called: the scripts read their own alone.
#[test]
fn scripts_hand_arguments_through() {
    let scratch = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let submit = |arguments: &[&str]| {
        // A program that writes down what it is called with, and a queue that takes anything.
        for (name, script) in [
            ("migbench", "#!/bin/sh\necho \"$@\" >>called\n: >out/plan.json\n"),
            ("sbatch", "#!/bin/sh\necho 7\n"),
        ] {
            // By another process: a file that any child still holds open for writing cannot be run.
            let write = "printf %s \"$2\" >\"$1\" && chmod +x \"$1\"";
            let path = scratch.path().join(name);
            let made = Command::new("sh").args(["-c", write, "sh"]).arg(path).arg(script).status();
            assert!(made.unwrap().success());
        }
        let path = format!("{}:{}", scratch.path().display(), std::env::var("PATH").unwrap());
        Command::new(root.join("scripts/slurm/submit"))
            .args(arguments)
            .current_dir(&scratch)
            .env("PATH", path)
            .env("MIGBENCH", scratch.path().join("migbench"))
            .output()
            .unwrap()
    };
    let output =
        submit(&["-o", "out", "quick", "--repeat", "3", "--time-budget", "10m", "--", "--time=1:00"]);
    assert!(output.status.success(), "{output:?}");
    let called = std::fs::read_to_string(scratch.path().join("called")).unwrap();
    assert!(
        called.starts_with("plan quick -o ") && called.ends_with("--repeat 3 --time-budget 10m\n"),
        "{called}"
    );
    let output = submit(&["-o", "out", "--repeat", "3", "quick"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("--repeat stands before the suite"),
        "{output:?}"
    );
}

//! A disk that is full, and a process that is killed, at any byte of any file: nothing that was complete is lost, and the
//! next command says what is missing and goes on. A limit of the size of files plays both: a write beyond it fails, or the
//! signal that comes with it ends the process.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use migbench_reports::record::Record;
use migbench_reports::store::{Accept, RunData};

use crate::support::{CommandOutcome, migbench, own_lock, skip};

/// What happens at the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Full,
    Killed,
}

const NO_ROOM: i32 = 7;

/// The binary with no file beyond so many bytes.
fn limited(bytes: usize, at: At, arguments: &[&str]) -> Output {
    let ignored = if at == At::Full { "trap '' XFSZ; " } else { "" };
    let mut command = Command::new("prlimit");
    command.args([
        "--core=0",
        &format!("--fsize={bytes}"),
        "sh",
        "-c",
        &format!("{ignored}exec \"$@\""),
        "sh",
    ]);
    command.arg(assert_cmd::cargo::cargo_bin!("migbench")).args(arguments);
    command.env("MIGBENCH_LOCK", own_lock()).env("XDG_STATE_HOME", own_lock().with_extension("state"));
    command.output().unwrap()
}

/// What `arguments` do at `bytes`: nothing at all, or the end that was to be expected. Says whether they came to their end.
fn ended(output: &Output, at: At, bytes: usize) -> bool {
    let said = String::from_utf8_lossy(&output.stderr);
    match (output.status.code(), at) {
        (Some(0), _) => true,
        (Some(NO_ROOM), At::Full) => {
            assert!(said.contains("File too large"), "{said}");
            false
        }
        (None, At::Killed) => false,
        _ => panic!("{at:?} at {bytes}: {}: {said}", output.status),
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn records(directory: &Path) -> Vec<Record> {
    RunData::load_as(directory, Accept::Simulated).unwrap().records
}

/// A few places in each of the files of so many bytes: their ends, and between.
fn places(files: &[usize]) -> Vec<usize> {
    let mut places: Vec<_> =
        files.iter().flat_map(|size| [size / 3, size - 1, *size]).chain([0, 1]).collect();
    places.sort_unstable();
    places.dedup();
    places
}

fn size(path: &Path) -> usize {
    usize::try_from(std::fs::metadata(path).unwrap().len()).unwrap()
}

fn assert_well(outcome: &CommandOutcome) {
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
}

const RUN: [&str; 5] = ["run", "quick", "--repeat", "1", "--simulate"];

/// A run that was never disturbed.
fn whole(scratch: &Path) -> (PathBuf, Vec<Record>) {
    let directory = scratch.join("whole");
    assert_well(&migbench(&[&RUN[..], &["-o", text(&directory)]].concat()));
    let records = records(&directory);
    (directory, records)
}

#[test]
fn a_suite_that_found_no_room_or_was_killed_is_finished() {
    let scratch = tempfile::tempdir().unwrap();
    let (reference, all) = whole(scratch.path());
    let lines = std::fs::read(reference.join("runs.jsonl")).unwrap();
    let first = lines.iter().position(|&byte| byte == b'\n').unwrap() + 1;
    let sizes =
        [size(&reference.join("manifest.json")), first, lines.len(), size(&reference.join("report.html"))];
    for at in [At::Full, At::Killed] {
        for bytes in places(&sizes) {
            let directory = scratch.path().join(format!("{at:?}-{bytes}"));
            let begun = [&RUN[..], &["-o", text(&directory)]].concat();
            if ended(&limited(bytes, at, &begun), at, bytes) {
                assert_eq!(records(&directory), all, "{at:?} at {bytes}");
                continue;
            }
            let kept = directory
                .join("manifest.json")
                .exists()
                .then(|| RunData::load_as(&directory, Accept::Simulated));
            let kept = kept.map_or_else(Vec::new, |kept| kept.unwrap().records);
            // Without a manifest nothing is begun; that of a longer path is a little longer.
            let fits = if bytes < sizes[0] + 64 { 0 } else { bytes.min(lines.len()) };
            let complete = lines[..fits].iter().filter(|&&byte| byte == b'\n').count();
            assert!(kept.len() >= complete, "{at:?} at {bytes}: {} of {complete}", kept.len());
            assert_eq!(kept, all[..kept.len()], "{at:?} at {bytes}");
            // A directory that is in the way of nobody, or one that is finished.
            let next = if directory.join("manifest.json").exists() && at == At::Full || !kept.is_empty() {
                migbench(&["run", "--resume", text(&directory), "--simulate"])
            } else {
                migbench(&begun)
            };
            assert_well(&next);
            assert_eq!(records(&directory), all, "{at:?} at {bytes}");
        }
    }
}

#[test]
fn a_merge_that_found_no_room_or_was_killed_is_repeated() {
    let scratch = tempfile::tempdir().unwrap();
    let plan = scratch.path().join("plan.json");
    let slices = ["1", "2"].map(|number| scratch.path().join(number));
    assert_well(&migbench(&["plan", "quick", "--repeat", "1", "-o", text(&plan)]));
    for (number, slice) in ["1/2", "2/2"].iter().zip(&slices) {
        let partition = format!("slice:{number}");
        let run = ["run", "--plan", text(&plan), "--partition", &partition, "--simulate", "-o", text(slice)];
        assert_well(&migbench(&run));
    }
    let merge = |output: &Path| {
        let words = ["merge", text(&slices[0]), text(&slices[1]), "--simulated", "-o", text(output)];
        words.map(str::to_owned)
    };
    let reference = scratch.path().join("whole");
    let words = |output: &Path| merge(output).to_vec();
    let run = |words: &[String]| migbench(&words.iter().map(String::as_str).collect::<Vec<_>>());
    assert_well(&run(&words(&reference)));
    let all = records(&reference);
    let sizes = ["manifest.json", "runs.jsonl"].map(|name| size(&reference.join(name)));
    for at in [At::Full, At::Killed] {
        for bytes in places(&sizes) {
            let output = scratch.path().join(format!("{at:?}-{bytes}"));
            let words = words(&output);
            let limited = limited(bytes, at, &words.iter().map(String::as_str).collect::<Vec<_>>());
            let there = output.join("runs.jsonl").exists() && size(&output.join("runs.jsonl")) > 0;
            assert!(!ended(&limited, at, bytes) || there);
            if !there {
                assert_well(&run(&words));
            }
            assert_eq!(records(&output), all, "{at:?} at {bytes}");
            assert_eq!(
                std::fs::read(output.join("runs.jsonl")).unwrap(),
                std::fs::read(reference.join("runs.jsonl")).unwrap()
            );
        }
    }
}

#[test]
fn artifacts_plans_and_exports_are_whole_or_not_there() {
    let scratch = tempfile::tempdir().unwrap();
    let (run, _) = whole(scratch.path());
    for (number, name) in ["plan.json", "artifact.tar.gz", "artifact", "history.csv"].into_iter().enumerate()
    {
        let command = |into: &Path| -> Vec<String> {
            let words = match number {
                0 => vec!["plan", "quick", "-o", text(into)],
                3 => vec![
                    "report",
                    text(&run),
                    "--simulated",
                    "--format",
                    "history-csv",
                    "-o",
                    text(into.parent().unwrap()),
                ],
                _ => vec!["artifact", text(&run), "--simulated", "-o", text(into)],
            };
            words.into_iter().map(str::to_owned).collect()
        };
        let reference = scratch.path().join("reference").join(name);
        let with = |words: &[String], run: &dyn Fn(&[&str])| {
            run(&words.iter().map(String::as_str).collect::<Vec<_>>())
        };
        with(&command(&reference), &|words| assert_well(&migbench(words)));
        let largest =
            if reference.is_dir() { size(&reference.join("report.html")) } else { size(&reference) };
        for at in [At::Full, At::Killed] {
            for bytes in [0, 1, largest / 2, largest - 1] {
                let into = scratch.path().join(format!("{at:?}-{bytes}-{number}")).join(name);
                with(&command(&into), &|words| {
                    assert!(!ended(&limited(bytes, at, words), at, bytes), "{name} at {bytes}");
                    assert!(!into.exists(), "half a {name} at {bytes}");
                    assert_well(&migbench(words));
                });
                let file =
                    |root: &Path| if root.is_dir() { root.join("report.html") } else { root.to_owned() };
                assert_eq!(
                    std::fs::read(file(&into)).unwrap(),
                    std::fs::read(file(&reference)).unwrap(),
                    "{name}"
                );
                let around = std::fs::read_dir(into.parent().unwrap()).unwrap().count();
                assert_eq!(around, 1, "nothing half is left beside {name}");
            }
        }
    }
}

/// Hosts that export into one history at the same time, all of which started in the same second.
#[test]
fn histories_of_many_hosts_are_added_to_at_once() {
    let scratch = tempfile::tempdir().unwrap();
    let (run, _) = whole(scratch.path());
    let history = scratch.path().join("history");
    let manifest = std::fs::read_to_string(run.join("manifest.json")).unwrap();
    let exports = (0..6).map(|number| {
        let host = scratch.path().join(format!("host-{number}"));
        std::fs::create_dir(&host).unwrap();
        let mut its: serde_json::Value = serde_json::from_str(&manifest).unwrap();
        its["host"]["hostname"] = format!("host-{number}").into();
        std::fs::write(host.join("manifest.json"), its.to_string()).unwrap();
        std::fs::copy(run.join("runs.jsonl"), host.join("runs.jsonl")).unwrap();
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("migbench"));
        command.args(["report", text(&host), "--simulated", "--format", "history-csv", "-o", text(&history)]);
        command.stdout(std::process::Stdio::null()).spawn().unwrap()
    });
    for mut export in exports.collect::<Vec<_>>() {
        assert!(export.wait().unwrap().success());
    }
    let text = std::fs::read_to_string(history.join("history.csv")).unwrap();
    let lines = |host: &str| text.lines().filter(|line| line.contains(host)).count();
    assert!(lines("host-0,") > 0);
    for number in 1..6 {
        assert_eq!(lines(&format!("host-{number},")), lines("host-0,"), "of host {number}");
    }
}

/// A file system of 300 KiB, with less and less of it taken by somebody else.
#[test]
fn a_small_file_system_that_is_full_is_said_and_gone_on_with() {
    const SCRIPT: &str = r#"
        set -u
        mount -t tmpfs -o size=300k tmpfs "$1" || exit 99
        cd "$1" || exit 99
        for taken in 300 296 280 200 0; do
            rm -rf run
            dd if=/dev/zero of=taken bs=1024 count=$taken 2>/dev/null
            "$2" run quick --repeat 1 --simulate -o run >/dev/null
            begun=$?
            had=$(cat run/runs.jsonl 2>/dev/null | wc -l)
            rm -f taken
            if [ -e run/manifest.json ]; then
                "$2" run --resume run --simulate >/dev/null
            else
                "$2" run quick --repeat 1 --simulate -o run >/dev/null
            fi
            # Its page of figures is larger than the file system.
            echo "$taken $begun $had $? $(wc -l < run/runs.jsonl)"
            "$2" report run --simulated | head -1
            find run -name '.*.partial'
        done"#;
    if !nix::unistd::geteuid().is_root() {
        skip("needs root, to mount a file system");
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", SCRIPT, "sh", text(scratch.path())]);
    command.arg(assert_cmd::cargo::cargo_bin!("migbench"));
    command.env("MIGBENCH_LOCK", own_lock()).env("XDG_STATE_HOME", scratch.path().join("state"));
    let output = command.output().unwrap();
    if output.status.code() == Some(99) {
        skip("no file system can be mounted here");
        return;
    }
    let (said, why) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let rows: Vec<Vec<usize>> = said
        .lines()
        .filter(|line| line.starts_with(|c: char| c.is_ascii_digit()))
        .map(|line| line.split(' ').map(|word| word.parse().unwrap()).collect())
        .collect();
    assert_eq!(rows.len(), 5, "{said}{why}");
    for row in rows {
        let [taken, begun, had, again, kept] = row[..] else { panic!("{said}{why}") };
        assert_eq!((begun, again, kept), (7, 7, 8), "with {taken} KiB taken: {said}{why}");
        assert!(had <= kept && (taken > 0 || had == kept), "{said}{why}");
    }
    assert_eq!(said.matches("quick: 8 migrations").count(), 5, "{said}{why}");
    assert!(!said.contains(".partial"), "{said}");
    assert!(why.contains("No space left on device"), "{why}");
}

/// Neither files nor namespaces that others have make two measure at a time.
#[test]
fn the_host_is_locked_for_every_user_and_container() {
    if !nix::unistd::geteuid().is_root() {
        skip("needs root, to make namespaces");
        return;
    }
    let _held = match migbench::host::lock::HostLock::of_host(Path::new("/nowhere/lock")) {
        Ok(held) => held,
        Err(error) => return skip(&error.to_string()),
    };
    let scratch = tempfile::tempdir().unwrap();
    let binary = scratch.path().join("migbench");
    std::fs::copy(assert_cmd::cargo::cargo_bin!("migbench"), &binary).unwrap();
    let mut everybody = std::fs::metadata(scratch.path()).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut everybody, 0o755);
    std::fs::set_permissions(scratch.path(), everybody).unwrap();
    let refused = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        let output =
            command.args(arguments).arg(&binary).arg("doctor").env_remove("MIGBENCH_LOCK").output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            said.contains("another migbench measures: "),
            "{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        said
    };
    let seen = refused("setpriv", &["--reuid=65534", "--regid=65534", "--clear-groups"]);
    assert!(seen.contains(&format!("process {}", std::process::id())), "{seen}");
    let hidden = refused(
        "unshare",
        &["--mount", "--pid", "--fork", "--mount-proc", "--net", "--ipc", "--uts", "--cgroup"],
    );
    assert!(hidden.contains("not seen from here"), "{hidden}");
}

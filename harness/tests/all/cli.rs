//! The command line as a user meets it: what is refused and how, what is printed, and what an interruption leaves.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::support::{
    CommandOutcome, Migbench, SHORT, assert_nothing_left, marked, migbench, require_kvm, validated,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Two engines, one workload, a small guest, short windows.
const TINY: &str = r#"
name = "tiny"
description = "as little as is a comparison"

[defaults]
memory = "32MiB"
settings.working_set = "8MiB"
windows = { steady = "50ms", after = "50ms", warmup_max = "150ms" }

[[comparison]]
axes = { workload = ["write-heavy"], engine = ["full", "delta"] }
compare = "engine"
baseline = "full"
"#;

fn tiny_suite(directory: &Path, text: &str) -> String {
    let path = directory.join("tiny.toml");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Refused with status 2, one sentence that holds all of `words`, and nothing on standard output.
#[track_caller]
fn assert_refused(arguments: &[&str], words: &[&str]) {
    let outcome = migbench(arguments);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (2, ""), "{arguments:?}: {}", outcome.stderr);
    for word in words {
        assert!(outcome.stderr.contains(word), "{arguments:?}: no {word:?} in {}", outcome.stderr);
    }
}

/// Refused with status 5, for the reason in `words`.
#[track_caller]
fn assert_incomparable(arguments: &[&str], words: &str) {
    let outcome = migbench(arguments);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (5, ""), "{arguments:?}: {}", outcome.stderr);
    assert!(outcome.stderr.contains(words), "{arguments:?}: {}", outcome.stderr);
}

#[test]
fn a_suite_that_does_not_exist_is_named_with_the_nearest_one() {
    assert_refused(&["run", "quikc"], &["no suite `quikc`", "did you mean `quick`"]);
    assert_refused(&["run", "nowhere/mine.toml"], &["nowhere/mine.toml"]);
}

#[test]
fn a_suite_with_a_mistake_is_refused_with_file_and_line() {
    let scratch = tempfile::tempdir().unwrap();
    for (right, wrong, words) in [
        ("memory = ", "memmory = ", ["tiny.toml:6:1", "unknown key `memmory`", "`memory`"]),
        ("\"32MiB\"", "\"32Mb\"", ["tiny.toml:6:", "`memory`", "MiB"]),
        ("\"32MiB\"", "\"33MiB\"", ["tiny.toml:6:", "multiple of 2MiB", "memory"]),
        ("\"50ms\", after", "\"50\", after", ["tiny.toml:8:", "windows.steady", "ms"]),
    ] {
        let suite = tiny_suite(scratch.path(), &TINY.replacen(right, wrong, 1));
        assert_refused(&["run", &suite, "--dry-run"], &words);
    }
}

#[test]
fn arguments_have_units_and_known_words() {
    assert_refused(&["migrate", "--memory", "1G"], &["`1G` has no unit", "1GiB"]);
    assert_refused(&["run", "quick", "--set", "memory=1G"], &["`1G` has no unit"]);
    assert_refused(&["migrate", "--link", "1GB"], &["--link 1GB", "bit/s"]);
    assert_refused(&["migrate", "--engine", "dleta"], &["dleta", "delta"]);
    assert_refused(&["migrate", "--workload", "write-heavi"], &["write-heavi", "write-heavy"]);
    assert_refused(&["migrate", "--set", "stop.max_round=3"], &["stop.max_round", "stop.max_rounds"]);
    assert_refused(&["migrate", "--frobnicate"], &["--frobnicate"]);
    assert_refused(&["migrate", "--fault", "moon:kill@connect"], &["is no fault"]);
    assert_refused(&["frobnicate"], &["frobnicate"]);
    assert_refused(&["quick", "--help"], &["tip: quick is a suite: migbench run quick"]);
}

#[test]
fn a_guest_that_does_not_fit_is_refused_before_any_starts() {
    require_kvm!();
    let words = ["a guest of 512TiB does not fit", "of memory are free", "choose a smaller `memory`"];
    assert_refused(&["migrate", "--memory", "512TiB"], &words);
    let scratch = tempfile::tempdir().unwrap();
    let output = scratch.path().join("run");
    assert_refused(&["run", "quick", "--set", "memory=512TiB", "-o", output.to_str().unwrap()], &words);
    assert!(!output.exists(), "the name is still free for a suite that fits");
}

#[test]
fn a_place_that_cannot_be_written_is_found_before_any_guest() {
    require_kvm!();
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("file");
    std::fs::write(&file, "").unwrap();
    let below = file.join("run");
    let suite = tiny_suite(scratch.path(), TINY);
    let outcome = migbench(&["run", &suite, "-o", below.to_str().unwrap()]);
    assert_eq!(outcome.status, 2);
    assert!(outcome.stderr.contains(below.to_str().unwrap()), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("name another directory"), "{}", outcome.stderr);
    assert_eq!(outcome.stderr.matches("Not a directory").count(), 1, "reported once: {}", outcome.stderr);
    assert!(
        !outcome.stderr.lines().any(|line| line.starts_with("1/")),
        "a run was started: {}",
        outcome.stderr
    );
}

#[test]
fn a_dry_run_prints_the_plan_and_writes_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let suite = tiny_suite(scratch.path(), TINY);
    let output = scratch.path().join("run");
    let outcome = migbench(&["run", &suite, "--dry-run", "--repeat", "3", "-o", output.to_str().unwrap()]);
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    assert!(outcome.stdout.starts_with("tiny: 8 runs of 2 cells, 3 timed repetitions"), "{}", outcome.stdout);
    let (_, comparisons) = outcome.stdout.split_once('\n').unwrap();
    assert_eq!(comparisons.lines().next(), Some("  write-heavy: engine full (baseline), delta"));
    assert!(!output.exists());
    let filtered = migbench(&["run", &suite, "--dry-run", "--filter", "delta$"]);
    assert!(filtered.stdout.contains("\n  write-heavy: engine delta\n"), "{}", filtered.stdout);
}

#[test]
fn lists_name_what_there_is() {
    let all = migbench(&["list"]);
    assert_eq!(all.status, 0);
    for word in ["quick", "read-heavy", "write-heavy", "idle", "delta", "stop-and-copy", "kvm-bitmap", "tcp"]
    {
        assert!(all.stdout.contains(word), "{word}");
    }
    let workloads = migbench(&["list", "workloads"]).stdout;
    assert!(workloads.contains("Look for:") && !workloads.contains("kvm-bitmap"), "{workloads}");
    assert!(migbench(&["list", "keys"]).stdout.contains("stop.downtime_limit"));
}

/// What doctor looks at, as far as it can be set.
fn host_settings() -> Vec<(PathBuf, Option<String>)> {
    let files = [
        "/sys/kernel/mm/transparent_hugepage/enabled",
        "/sys/kernel/mm/transparent_hugepage/defrag",
        "/sys/kernel/mm/ksm/run",
        "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_overcommit_hugepages",
        "/sys/devices/system/cpu/smt/control",
        "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
        "/sys/devices/system/cpu/cpufreq/boost",
        "/sys/devices/system/cpu/intel_pstate/no_turbo",
        "/sys/devices/system/clocksource/clocksource0/current_clocksource",
        "/proc/sys/kernel/numa_balancing",
        "/proc/sys/vm/unprivileged_userfaultfd",
        "/proc/sys/vm/overcommit_memory",
        "/sys/module/kvm/parameters/halt_poll_ns",
    ];
    files.map(|file| (file.into(), std::fs::read_to_string(file).ok())).to_vec()
}

#[test]
fn doctor_says_what_it_found_and_what_would_mend_it_and_changes_nothing() {
    let before = host_settings();
    let outcome = migbench(&["doctor", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    let text = migbench(&["doctor"]).stdout;
    assert_eq!(host_settings(), before);
    let checks = value["checks"].as_array().unwrap();
    for name in [
        "kvm",
        "userfaultfd",
        "nested",
        "governor",
        "turbo",
        "SMT",
        "THP",
        "huge pages",
        "KSM",
        "NUMA balancing",
        "free memory",
        "clock source",
    ] {
        assert!(checks.iter().any(|check| check["name"] == name), "{name} in {value}");
    }
    for check in checks {
        let (level, found) = (check["level"].as_str().unwrap(), check["found"].as_str().unwrap());
        assert!(["ok", "warn", "fail"].contains(&level) && !found.is_empty(), "{check}");
        assert!(
            level == "ok" || check["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()),
            "{check}"
        );
    }
    let worst = checks.iter().map(|check| check["level"].as_str().unwrap());
    let fails = worst.clone().any(|level| level == "fail");
    assert_eq!(outcome.status, i32::from(fails));
    assert_eq!(value["worst"] == "ok", worst.clone().all(|level| level == "ok"));
    // The same for people: a line each. Other tests move the load, so that only what stays is compared.
    for check in checks
        .iter()
        .filter(|check| !["load", "free memory", "huge pages"].map(Into::into).contains(&check["name"]))
    {
        let line = text.lines().find(|line| line.contains(check["found"].as_str().unwrap())).unwrap();
        assert!(line.starts_with(check["level"].as_str().unwrap()), "{line}");
    }
}

#[test]
fn help_teaches() {
    for command in [
        "run",
        "migrate",
        "track",
        "ab",
        "report",
        "show",
        "compare",
        "reproduce",
        "nightly",
        "list",
        "doctor",
        "plan",
        "merge",
        "artifact",
        "history",
        "completion",
        "man",
    ] {
        let outcome = migbench(&[command, "--help"]);
        assert_eq!(outcome.status, 0);
        let example = format!("\n  migbench {command} ");
        assert!(outcome.stdout.contains("Examples:"), "{}", outcome.stdout);
        assert!(format!("{} ", outcome.stdout.replace('\n', " \n")).contains(&example), "{}", outcome.stdout);
    }
    for command in ["run", "migrate"] {
        let help = migbench(&[command, "--help"]).stdout;
        assert!(help.contains("MiB") && help.contains("Gbit/s") && help.contains("00ms"), "{help}");
        assert!(!help.contains("--fault") && !help.contains("--guest-flags"), "switches of tests are hidden");
    }
    insta::assert_snapshot!("help", migbench(&["--help"]).stdout);
    assert!(migbench(&["help", "gate"]).stdout.contains("migbench compare accept --metric"), "its new name");
}

/// A place with no history and no last run but its own.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn migbench(&self, arguments: &[&str]) -> CommandOutcome {
        self.at("", arguments)
    }

    fn at(&self, directory: &str, arguments: &[&str]) -> CommandOutcome {
        let state = self.0.path().join("state");
        let here = self.0.path().join(directory);
        Migbench::new()
            .args(arguments)
            .current_dir(&here)
            .env("XDG_STATE_HOME", state.to_str().unwrap())
            .run()
    }
}

/// Each example of `--help`, in their order and as it stands: but for figures that are made up, and for less of them.
#[test]
fn the_examples_of_help_work() {
    let desk = Desk::new();
    let help = migbench(&["--help"]).stdout;
    let examples: Vec<_> =
        help.lines().filter_map(|line| line.strip_prefix("  ")?.split_once("migbench ")).collect();
    assert_eq!(examples.len(), 11, "{help}");
    for (_, example) in examples {
        let mut words: Vec<&str> = example.split(' ').collect();
        let statuses: &[i32] = match words[0] {
            "run" => &[0],
            "ab" => &[0, 3],
            "compare" => &[0, 3],
            // It says what this host lacks.
            "doctor" => &[0, 1],
            _ => &[0],
        };
        match words[0] {
            "run" | "ab" => words.push("--simulate=noise=0.01"),
            "report" | "show" | "compare" => words.push("--simulated"),
            "nightly" => words.extend(["--", "--simulate=noise=0.01"]),
            "migrate" | "track" if migbench::host::kvm::open_kvm(Path::new("/dev/kvm")).is_err() => continue,
            "migrate" => words.extend(SHORT.iter().chain(&["--memory", "32MiB"])),
            "track" => words.extend(["--repeat", "1", "--passes", "1"]),
            _ => {}
        }
        let outcome = desk.migbench(&words);
        assert!(statuses.contains(&outcome.status), "{words:?}: {}{}", outcome.stdout, outcome.stderr);
    }
}

#[test]
fn the_last_run_is_read_where_no_directory_is_named() {
    let desk = Desk::new();
    for command in [&["report"][..], &["show"], &["compare", "--gate"], &["artifact"]] {
        let refused = desk.migbench(command);
        assert!(refused.status == 2 && refused.stderr.contains("no last run yet; name a run directory"));
    }
    let run = ["run", "quick", "--repeat", "1", "-o", "a b/first", "--simulate"];
    assert_eq!(desk.migbench(&run).status, 0);
    // Whatever is refused is none.
    assert_eq!(desk.migbench(&run).status, 2);
    let named = desk.migbench(&["report", "a b/first", "--simulated"]);
    let last = desk.migbench(&["report", "--simulated"]);
    assert_eq!((last.status, last.stdout, &*last.stderr), (0, named.stdout, "last run: a b/first\n"));
    let one = desk.migbench(&["show", "0003", "--simulated"]);
    assert!(one.status == 0 && one.stdout.contains("number 3 in order"), "{}{}", one.stdout, one.stderr);
    let elsewhere = desk.at("a b", &["show", "--simulated"]);
    assert_eq!((elsewhere.status, &*elsewhere.stderr), (0, "last run: first\n"));
    assert_eq!(desk.migbench(&["compare", "--gate", "--simulated"]).status, 2, "it has no sides");

    // An interrupted one is one; a confirmation is read by way of what it confirms.
    let slower = "--simulate=noise=0.01,new.encode=3,new.send=1.2";
    assert_eq!(desk.migbench(&["ab", "quick", "-o", "ab", slower, "--no-confirm"]).status, 3);
    let cut = desk.migbench(&["ab", "--resume", "ab", &format!("{slower},interrupt=5")]);
    assert!(cut.status == 130 && cut.stderr.contains("are kept in ab-again"), "{}", cut.stderr);
    let judged = desk.migbench(&["compare", "--gate", "--simulated"]);
    assert!(judged.stderr.starts_with("last run: ab\n") && judged.status == 1, "{}", judged.stderr);
    assert_eq!(desk.migbench(&["ab", "--resume", "ab", slower]).status, 4);
    let judged = desk.migbench(&["compare", "--gate", "--simulated"]);
    assert_eq!((&*judged.stderr, judged.status), ("last run: ab\n", 4));
    // What a night runs is nobody's last run.
    assert_eq!(desk.migbench(&["nightly", "--", "--simulate=noise=0.01"]).status, 0);
    let sides = desk.migbench(&["compare", "--simulated"]);
    assert!(sides.status == 0 && sides.stdout.contains("new over base, cell by cell"), "{}", sides.stdout);

    std::fs::remove_dir_all(desk.0.path().join("ab")).unwrap();
    let gone = desk.migbench(&["report", "--simulated"]);
    assert!(gone.status == 2 && gone.stderr.contains("the last run, ab, is gone; name"), "{}", gone.stderr);
}

/// What was `gate` and `export` does under these names what it does under those that replaced them.
#[test]
fn old_names_do_the_same() {
    let desk = Desk::new();
    let ab = [
        "ab",
        "--new",
        "tracker=kvm-ring",
        "quick",
        "-o",
        "ab",
        "--simulate=noise=0.01,new.encode=2",
        "--no-confirm",
    ];
    assert_eq!(desk.migbench(&ab).status, 3, "and the suite may stand behind the settings");
    for (old, new) in [
        (&["gate", "ab", "--simulated"][..], &["compare", "--gate", "ab", "--simulated"][..]),
        (&["gate", "gone"], &["compare", "--gate", "gone"]),
        (&["gate", "--confirm", "ab"], &["compare", "--gate", "--confirm", "ab"]),
        (
            &["export", "ab", "--simulated", "--format", "junit", "-o", "ci"],
            &["report", "ab", "--simulated", "--format", "junit", "-o", "ci"],
        ),
        (
            &["export", "ab", "--format", "junitt", "-o", "ci"],
            &["report", "ab", "--format", "junitt", "-o", "ci"],
        ),
        (&["gate", "accept", "--metric", "total_time"], &["compare", "accept", "--metric", "total_time"]),
    ] {
        let [old, new] = [old, new].map(|words| desk.migbench(words));
        assert_eq!((old.status, old.stdout), (new.status, new.stdout));
        assert_eq!(old.stderr, new.stderr);
    }
    for (name, metric) in [("gate", "total_time"), ("compare", "traffic")] {
        let known = ["--size", "90%", "--reason", "known", "--until", "2199-01-01", "--metric", metric];
        let accepted = desk.migbench(&[&[name, "accept"][..], &known].concat());
        assert!(accepted.status == 0 && accepted.stdout.contains(metric), "{}", accepted.stderr);
    }
}

/// What is asked of a directory that was begun is what was begun, also where the suite is left out.
#[test]
fn a_directory_is_resumed_as_what_was_begun_in_it() {
    let desk = Desk::new();
    let begun =
        ["run", "quick", "--set", "memory=160MiB", "--repeat", "2", "-o", "run", "--simulate=interrupt=3"];
    assert_eq!(desk.migbench(&begun).status, 130);
    let sides =
        ["ab", "quick", "--new", "tracker=kvm-ring", "--repeat", "2", "-o", "ab", "--simulate=interrupt=3"];
    assert_eq!(desk.migbench(&sides).status, 130);
    let kept = |name: &str| std::fs::read(desk.0.path().join(name).join("runs.jsonl")).unwrap();
    let before = ["run", "ab"].map(kept);
    let set = ["--set", "memory=160MiB"];
    for (directory, arguments, words) in [
        (
            "run",
            &["--set", "memory=192MiB", "--repeat", "2"][..],
            "its memory was 160 MiB, and 192 MiB is asked for",
        ),
        ("run", &["--repeat", "2"], "its memory was 160 MiB, and 128 MiB is asked for"),
        ("run", &["quick"], "its memory was 160 MiB"),
        ("run", &set, "its number of repetitions was 2, and 6 is asked for"),
        (
            "run",
            &[&set[..], &["--repeat", "3"]].concat(),
            "its number of repetitions was 2, and 3 is asked for",
        ),
        (
            "run",
            &[&set[..], &["--repeat", "2", "--filter", "write-heavy/full"]].concat(),
            "its selection of cells was read-heavy/full, read-heavy/delta, write-heavy/full, write-heavy/delta, and \
             write-heavy/full is asked for",
        ),
        (
            "ab",
            &["--new", "tracker=uffd-async", "--repeat", "2"],
            "its tracker was kvm-ring, and uffd-async is asked for",
        ),
        ("ab", &["--repeat", "2"], "its tracker was kvm-ring, and kvm-bitmap is asked for"),
        (
            "ab",
            &["--new", "tracker=kvm-ring", "--repeat", "2", "--seed", "7"],
            "its seed was 1, and 7 is asked for",
        ),
    ] {
        for more in [&[][..], &["--dry-run"]] {
            let command = [&[directory, "--simulate", "--resume", directory], arguments, more].concat();
            let refused = desk.migbench(&command);
            assert_eq!((refused.status, &*refused.stdout), (5, ""), "{command:?}: {}", refused.stderr);
            let remedy =
                "leave suite and settings out to finish what was begun, or start anew with another -o";
            assert!(refused.stderr.contains(words) && refused.stderr.contains(remedy), "{}", refused.stderr);
        }
    }
    let wrong = desk.migbench(&["ab", "--resume", "run", "--simulate"]);
    assert!(
        wrong.status == 2 && wrong.stderr.contains("finish it with `migbench run --resume run`"),
        "{}",
        wrong.stderr
    );
    assert_eq!(["run", "ab"].map(kept), before, "nothing was run");
    let matching = [&["run", "--resume", "run", "--repeat", "2", "--simulate"], &set[..]].concat();
    assert_eq!(desk.migbench(&matching).status, 0);
    let matching = ["ab", "--resume", "ab", "--repeat", "2", "--simulate", "--new", "tracker=kvm-ring"];
    assert!(matches!(desk.migbench(&matching).status, 0 | 3));
    assert!(kept("run").len() > before[0].len() && kept("ab").len() > before[1].len());
}

#[test]
fn shells_and_man_know_the_commands_and_no_switch_of_tests() {
    for (arguments, words) in [
        (&["completion", "bash"][..], &["compare", "--resume", "plan"][..]),
        (&["completion", "zsh"], &["compare", "--resume", "plan"]),
        (&["completion", "fish"], &["compare", "resume", "plan"]),
        (&["man"], &[".TH migbench 1", "compare", "Exit status: 0 success"]),
        (&["man", "plan"], &[".TH", "\\-\\-repeat"]),
    ] {
        let outcome = migbench(arguments);
        assert_eq!(outcome.status, 0, "{}", outcome.stderr);
        for word in words {
            assert!(outcome.stdout.contains(word), "{arguments:?}: no {word}");
        }
        for word in ["simulate", "gate-study", "stop-after"] {
            assert!(!outcome.stdout.contains(word), "{arguments:?}: {word}");
        }
    }
    assert_refused(&["man", "frobnicate"], &["no command `frobnicate`"]);
}

/// One run of the tiny suite, which several tests read.
fn finished() -> &'static (tempfile::TempDir, PathBuf, CommandOutcome) {
    static FINISHED: OnceLock<(tempfile::TempDir, PathBuf, CommandOutcome)> = OnceLock::new();
    FINISHED.get_or_init(|| {
        let scratch = tempfile::tempdir().unwrap();
        let suite = tiny_suite(scratch.path(), TINY);
        let output = scratch.path().join("run");
        let outcome = migbench(&["run", &suite, "--repeat", "1", "-o", output.to_str().unwrap()]);
        assert_eq!(outcome.status, 0, "{}\n{}", outcome.stdout, outcome.stderr);
        (scratch, output, outcome)
    })
}

/// The numbers in a text, whatever stands around them.
fn numbers<'a>(text: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let words = text.into_iter().flat_map(|row| row.split(|c: char| c.is_whitespace() || "|()".contains(c)));
    words.filter(|word| word.parse::<f64>().is_ok()).collect()
}

#[test]
fn a_suite_ends_with_its_table_and_its_records() {
    require_kvm!();
    let (_, directory, outcome) = finished();
    assert!(outcome.stdout.contains("full (baseline)"), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("memory hashed equal in 2 verification runs"), "{}", outcome.stdout);
    assert!(outcome.stdout.contains(&format!("report: {}/report.md", directory.display())));
    let lines = std::fs::read_to_string(directory.join("runs.jsonl")).unwrap();
    let records: Vec<_> = lines.lines().map(validated).collect();
    assert_eq!(records.len(), 4, "two cells, each verified once and timed once");
    assert_eq!(records.iter().filter(|record| record.verified == Some(true)).count(), 2);
    let manifest: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(directory.join("manifest.json")).unwrap()).unwrap();
    let schema = jsonschema::validator_for(&migbench_reports::schema::manifest()).unwrap();
    assert!(schema.is_valid(&manifest), "{:?}", schema.iter_errors(&manifest).next().map(|e| e.to_string()));
}

#[test]
fn the_report_is_the_same_later_and_elsewhere() {
    require_kvm!();
    let (_, directory, first) = finished();
    let directory = directory.to_str().unwrap();
    let brief = Migbench::new().args(["report", directory]).env("PATH", "").run();
    assert_eq!(brief.status, 0, "{}", brief.stderr);
    assert!(first.stdout.starts_with(&brief.stdout), "{}\n{}", first.stdout, brief.stdout);
    let again = migbench(&["report", directory, "--wide"]);
    assert!(again.stdout.len() > brief.stdout.len(), "{}", again.stdout);
    assert_refused(&["report", directory, "--wide", "--format", "markdown"], &["--wide"]);
    let markdown = migbench(&["report", directory, "--format", "markdown"]);
    assert_eq!(markdown.stdout, std::fs::read_to_string(format!("{directory}/report.md")).unwrap());
    // The rows of both engines.
    let rows = again.stdout.lines().filter(|line| {
        ["full (baseline)", "delta "].iter().any(|start| line.trim_start().starts_with(start))
    });
    let of_terminal = numbers(rows);
    assert!(of_terminal.len() >= 20, "{of_terminal:?} of {}", again.stdout);
    let of_markdown = numbers(markdown.stdout.lines());
    for number in of_terminal {
        assert!(of_markdown.contains(&number), "{number} is not in {}", markdown.stdout);
    }
}

#[test]
fn show_lists_runs_and_one_in_full() {
    require_kvm!();
    let (_, directory, _) = finished();
    let directory = directory.to_str().unwrap();
    let all = migbench(&["show", directory]);
    assert_eq!((all.status, all.stdout.matches("write-heavy").count() >= 4), (0, true), "{}", all.stdout);
    let one = migbench(&["show", directory, "0000"]);
    assert!(one.stdout.contains("total_time") && one.stdout.contains("latency_write"), "{}", one.stdout);
    let none = migbench(&["show", directory, "nothing"]);
    assert!(none.status != 0 && none.stderr.contains("nothing"), "{}", none.stderr);
    let elsewhere = migbench(&["report", "/nowhere"]);
    assert!(elsewhere.status == 2 && elsewhere.stderr.contains("is this a run directory?"));
}

#[test]
fn figures_are_exported_from_records_alone() {
    require_kvm!();
    let (scratch, directory, _) = finished();
    let (directory, into) = (directory.to_str().unwrap(), scratch.path().join("out"));
    let formats = "github-action-benchmark,bmf,openmetrics,history-csv,junit";
    let outcome = Migbench::new()
        .args(["report", directory, "--format", formats, "-o", into.to_str().unwrap()])
        .env("PATH", "")
        .run();
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    let paths: Vec<_> = outcome.stdout.lines().map(Path::new).collect();
    assert_eq!(paths.len(), 6, "{}", outcome.stdout);
    for path in paths {
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains("write-heavy"), "{}", path.display());
    }
    assert_refused(&["export", "/nowhere", "--format", "junit", "-o", "out"], &["is this a run directory?"]);
    assert_refused(&["export", directory, "--format", "junitt", "-o", "out"], &["junitt", "junit"]);
}

#[test]
fn a_directory_that_holds_a_run_is_not_written_again() {
    require_kvm!();
    let (scratch, directory, _) = finished();
    let before = std::fs::read(directory.join("runs.jsonl")).unwrap();
    let suite = scratch.path().join("tiny.toml");
    let arguments = ["run", suite.to_str().unwrap(), "-o", directory.to_str().unwrap()];
    assert_refused(&arguments, &["already holds records", "name another directory"]);
    assert_eq!(std::fs::read(directory.join("runs.jsonl")).unwrap(), before);
}

/// A run of the tiny suite of which run number `number` has started; with its mark and what it says from then on.
fn interrupted_at(
    number: usize,
    output: &Path,
    suite: &str,
) -> (std::process::Child, String, BufReader<std::process::ChildStderr>) {
    let (mut child, mark) =
        Migbench::new().args(["run", suite, "--repeat", "2", "-o", output.to_str().unwrap()]).start();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let wanted = format!("{number}/6 ");
    let mut line = String::new();
    while !line.starts_with(&wanted) {
        line.clear();
        assert!(stderr.read_line(&mut line).unwrap() > 0, "it ended before run {number}");
    }
    let patience = Instant::now() + Duration::from_secs(10);
    while marked(&mark).len() < 3 {
        assert!(Instant::now() < patience, "no nodes: {:?}", marked(&mark));
        std::thread::sleep(Duration::from_millis(5));
    }
    (child, mark, stderr)
}

fn signal(child: &std::process::Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

#[test]
fn an_interrupted_suite_keeps_its_records() {
    require_kvm!();
    for interruption in [Signal::SIGINT, Signal::SIGTERM] {
        let scratch = tempfile::tempdir().unwrap();
        let suite = tiny_suite(scratch.path(), TINY);
        let output = scratch.path().join("run");
        let (mut child, mark, mut stderr) = interrupted_at(2, &output, &suite);
        signal(&child, interruption);
        let status = child.wait().unwrap();
        let mut said = String::new();
        stderr.read_to_string(&mut said).unwrap();
        assert_eq!(status.code(), Some(130), "{said}");
        assert_nothing_left(&mark);
        let directory = output.to_str().unwrap();
        assert!(said.contains(&format!("interrupted: 1 of 6 records are kept in {directory}")), "{said}");
        assert!(said.contains(&format!("migbench report {directory}")), "{said}");
        let report = migbench(&["report", directory]);
        assert!(report.stdout.contains("tiny"), "{}{}", report.stdout, report.stderr);
        assert!(migbench(&["show", directory]).stdout.contains("write-heavy"));
        let before = std::fs::read_to_string(output.join("runs.jsonl")).unwrap();
        // As if it had been cut off while it wrote.
        std::fs::write(output.join("runs.jsonl"), format!("{before}{{\"schema\":1,\"run")).unwrap();
        assert_incomparable(
            &["run", &suite, "--repeat", "3", "--resume", directory],
            "number of repetitions was 2, and 3 is asked for",
        );
        let rest = migbench(&["run", "--resume", directory]);
        assert_eq!(rest.status, 0, "{}", rest.stderr);
        let after = std::fs::read_to_string(output.join("runs.jsonl")).unwrap();
        assert!(after.starts_with(&before), "records that were there stay as they were");
        let mut orders: Vec<u32> = after.lines().map(|line| validated(line).order).collect();
        orders.sort_unstable();
        assert_eq!(orders, [0, 1, 2, 3, 4, 5], "each run once");
        // Nothing is left to do: the report, and no further record.
        assert_eq!(migbench(&["run", &suite, "--repeat", "2", "--resume", directory]).status, 0);
        assert_eq!(std::fs::read_to_string(output.join("runs.jsonl")).unwrap(), after);
        let manifest = std::fs::read_to_string(output.join("manifest.json")).unwrap();
        let other = manifest.replace("\"kernel\": \"", "\"kernel\": \"other ");
        assert_ne!(manifest, other);
        std::fs::write(output.join("manifest.json"), other).unwrap();
        assert_incomparable(&["run", "--resume", directory], "its kernel was ");
    }
}

#[test]
fn nodes_die_with_a_runner_that_is_killed() {
    require_kvm!();
    let scratch = tempfile::tempdir().unwrap();
    let suite = tiny_suite(scratch.path(), TINY);
    let (mut child, mark, _stderr) = interrupted_at(1, &scratch.path().join("run"), &suite);
    signal(&child, Signal::SIGKILL);
    child.wait().unwrap();
    assert_nothing_left(&mark);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let (mut child, _) = Migbench::new().args(["list", "keys"]).start();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn no_rights_to_kvm_are_reported_with_the_remedy_and_leave_nothing() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    const NOBODY: u32 = 65534;
    let closed = std::fs::metadata("/dev/kvm").is_ok_and(|kvm| kvm.permissions().mode() & 0o006 == 0);
    if !nix::unistd::geteuid().is_root() || !closed {
        crate::support::skip("needs root, to become somebody without rights to /dev/kvm");
        return;
    }
    // A copy, since the way to the binary itself may be closed to others.
    let scratch = tempfile::tempdir().unwrap();
    std::fs::set_permissions(scratch.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let binary = scratch.path().join("migbench");
    std::fs::copy(assert_cmd::cargo::cargo_bin!("migbench"), &binary).unwrap();
    let output = scratch.path().join("run");
    let commands = [vec!["run", "quick", "-o", output.to_str().unwrap()], vec!["migrate"]];
    for arguments in commands {
        let mut command = std::process::Command::new(&binary);
        let outcome = command.args(arguments).uid(NOBODY).gid(NOBODY).output().unwrap();
        let said = String::from_utf8(outcome.stderr).unwrap();
        assert_eq!((outcome.status.code(), outcome.stdout.len()), (Some(1), 0), "{said}");
        assert!(said.contains("no rights to open /dev/kvm") && said.contains("group `kvm`"), "{said}");
        assert!(!output.exists());
    }
}

/// The binary always opens /dev/kvm; what it says where there is none is tested at its function.
#[test]
fn kvm_that_cannot_be_opened_is_reported_with_a_remedy() {
    let scratch = tempfile::tempdir().unwrap();
    let missing = migbench::host::kvm::open_kvm(&scratch.path().join("kvm")).unwrap_err().to_string();
    assert!(missing.contains("does not exist") && missing.contains("load the module"), "{missing}");
    let path = scratch.path().join("denied");
    std::fs::write(&path, "").unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
    let denied = migbench::host::kvm::open_kvm(&path).unwrap_err().to_string();
    // The superuser may open anything, and finds that this is not KVM.
    assert!(denied.contains("group `kvm`") || denied.contains("is not KVM"), "{denied}");
}

#[test]
fn two_measurements_at_a_time_are_refused() {
    require_kvm!();
    let scratch = tempfile::tempdir().unwrap();
    let lock = scratch.path().join("lock");
    let held = std::fs::File::create(&lock).unwrap();
    let held = nix::fcntl::Flock::lock(held, nix::fcntl::FlockArg::LockExclusive).unwrap();
    let suite = tiny_suite(scratch.path(), TINY);
    let output = scratch.path().join("run");
    let lock = lock.to_str().unwrap();
    for arguments in
        [&["run", &suite, "-o", output.to_str().unwrap()][..], &["migrate", "--memory", "128MiB"], &["track"]]
    {
        let outcome = Migbench::new().args(arguments).env("MIGBENCH_LOCK", lock).run();
        assert_eq!((outcome.status, outcome.stdout.as_str()), (6, ""), "{arguments:?}: {}", outcome.stderr);
        assert!(outcome.stderr.contains("another migbench measures on this host"), "{}", outcome.stderr);
    }
    assert!(!output.exists());
    drop(held);
}

#[test]
fn a_time_budget_says_how_many_repetitions_it_allows() {
    let outcome = migbench(&["run", "quick", "--time-budget", "10m", "--dry-run"]);
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    let said = outcome.stderr.lines().find(|line| line.starts_with("time budget 10m: ")).unwrap();
    let repetitions: u32 = said.split_whitespace().nth(3).unwrap().parse().unwrap();
    assert!(repetitions > 5, "{said}");
    assert!(outcome.stdout.contains(&format!(", {repetitions} timed repetitions,")), "{}", outcome.stdout);
    assert_refused(
        &["run", "quick", "--time-budget", "5s", "--dry-run"],
        &["--time-budget 5s", "one repetition takes"],
    );
    assert_refused(&["run", "--dry-run"], &["SUITE"]);
}

#[test]
fn a_first_round_that_outlasts_its_limit_is_reported_before_it_starts() {
    let outcome = migbench(&["run", "quick", "--set", "stop.max_time=500ms", "--dry-run"]);
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    let expected = "write-heavy/full: its first round alone takes about 1 s, longer than stop.max_time 500ms";
    assert!(outcome.stderr.contains(expected), "{}", outcome.stderr);
}

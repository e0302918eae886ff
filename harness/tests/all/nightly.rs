//! scripts/nightly from night to night: on a simulated testbed, which makes a night take no time, and on real guests.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::require_kvm;

/// One cell and one gate: few enough blocks for all of their relabellings to be tried, which takes no time.
const TINY: &str = r#"
name = "tiny"
description = "as little as is a nightly suite"
repetitions = 10

[defaults]
memory = "32MiB"
link.rate = "unlimited"
settings = { working_set = "8MiB", load = "pages(10000)" }
windows = { steady = "50ms", after = "50ms", warmup_max = "150ms" }

[[comparison]]
axes = { workload = ["write-heavy"], engine = ["delta"] }
compare = "engine"
baseline = "delta"

[[gate]]
metric = "encode_time"
floor = "0s"
"#;

struct Nights {
    scratch: tempfile::TempDir,
    suite: PathBuf,
}

impl Nights {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let suite = scratch.path().join("tiny.toml");
        std::fs::write(&suite, TINY).unwrap();
        Self { scratch, suite }
    }

    fn history(&self) -> PathBuf {
        self.scratch.path().join("history")
    }

    fn command(&self, binary: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/nightly"));
        command
            .args(["--history", self.history().to_str().unwrap(), "--suite", self.suite.to_str().unwrap()])
            .args(["--binary", binary.to_str().unwrap()])
            .args(arguments)
            .env("MIGBENCH_LOCK", self.scratch.path().join("host.lock"));
        command
    }

    fn script(&self, arguments: &[&str]) -> Output {
        self.command(assert_cmd::cargo::cargo_bin!("migbench"), arguments).output().unwrap()
    }

    /// Requires the status and the words, on standard output or standard error.
    #[track_caller]
    fn night(&self, arguments: &[&str], status: i32, words: &[&str]) -> String {
        self.ended(&self.script(arguments), arguments, status, words)
    }

    #[track_caller]
    fn ended(&self, output: &Output, arguments: &[&str], status: i32, words: &[&str]) -> String {
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {text}");
        for word in words {
            assert!(text.contains(word), "no {word:?} in {text}");
        }
        assert!(!self.history().join("tonight").exists(), "nothing half done is left");
        text.into_owned()
    }

    /// The last line of the list of nights.
    fn last(&self) -> serde_json::Value {
        serde_json::from_str(&self.lines("nights.jsonl").pop().unwrap()).unwrap()
    }

    fn kept_build(&self, which: &str) -> PathBuf {
        self.history().join(which).join("migbench")
    }

    /// When the last good build was kept.
    fn kept(&self) -> std::time::SystemTime {
        let good = std::fs::metadata(self.history().join("good/migbench")).unwrap();
        good.modified().unwrap()
    }

    fn lines(&self, file: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.history().join(file)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Directories of nights, the oldest first.
    fn nights(&self) -> Vec<PathBuf> {
        let mut nights: Vec<_> =
            std::fs::read_dir(self.history().join("nights")).unwrap().flatten().map(|d| d.path()).collect();
        nights.sort();
        nights
    }
}

/// A night whose runs are as alike as can be.
const QUIET: [&str; 2] = ["--", "--simulate=noise=0.01"];

fn after<'a>(first: &[&'a str], rest: &[&'a str]) -> Vec<&'a str> {
    [first, rest].concat()
}

#[test]
fn a_night_is_judged_against_the_last_good_build_and_an_alarm_keeps_it() {
    let nights = Nights::new();
    nights.night(&QUIET, 0, &["the first night: nothing to compare with"]);
    assert_eq!(nights.lines("nights.jsonl"), [""; 0]);
    assert!(nights.kept_build("pinned").exists(), "creep has its reference from now on");

    let kept = nights.kept();
    nights.night(
        &QUIET,
        0,
        &["the nights together", "1 night against this base", "good: this build is the next night's base"],
    );
    assert!(nights.kept() > kept, "the new build is the base");
    let night = &nights.nights()[0];
    for file in
        ["report.md", "report.html", "history.txt", "export/junit.xml", "export/bmf.json", "ab/runs.jsonl"]
    {
        assert!(night.join(file).exists(), "{file} is left");
    }
    assert!(!night.join("new").exists(), "a good night's build is kept once");
    let csv = nights.lines("history.csv");
    assert!(csv.iter().any(|line| line.contains("write-heavy/delta/new") && line.contains("encode_time")));

    let kept = nights.kept();
    let words = ["REGRESSION", "encode_time", "for the worse in the mean", "a confirmed regression"];
    nights.night(&["--", "--simulate=noise=0.01,new.encode=1.2"], 4, &words);
    assert_eq!(nights.kept(), kept, "an alarmed night's build is no base");
    assert!(!nights.kept_build("candidate").exists());
    let last = nights.nights().pop().unwrap();
    assert!(last.join("ab-again/runs.jsonl").exists(), "fresh samples confirmed it");
    assert!(
        last.join("new").exists() && last.join("base").exists(),
        "what the alarm is about can be run again"
    );
    assert_eq!((nights.lines("nights.jsonl").len(), nights.last()["verdict"].as_str()), (2, Some("alarm")));

    let noisy = ["--pinned-every", "0", "--", "--simulate=noise=0.5"];
    nights.night(
        &noisy,
        3,
        &["not enough evidence; the base stays", "drift: since the first of 3 measured nights"],
    );
    assert_eq!(nights.kept(), kept, "nor is a build of which nobody knows");
}

/// Six blocks can exclude nothing at the level of a first look, and twelve can.
#[test]
fn nights_against_one_base_are_one_test() {
    let nights = Nights::new();
    let few = ["--pinned-every", "0", "--", "--repeat", "6", "--simulate=noise=0.01"];
    nights.night(&few, 0, &["the first night"]);
    nights.night(&few, 3, &["look 1 at a level of 0.250 %", "under test is tonight's build"]);
    let (candidate, good) = (nights.kept_build("candidate"), nights.kept());
    assert!(candidate.exists());
    // A host that is disturbed says nothing of the build, and is no look.
    nights.night(&after(&few[..4], &["7", "--simulate=steal=0.9"]), 3, &["not enough evidence"]);
    assert_eq!(nights.last()["counts"], false);
    let text = nights.night(&few, 0, &["2 nights against this base, look 2", "under test is the build of "]);
    assert!(text.contains("the build that was under test is the next night's base"), "{text}");
    assert!(!candidate.exists() && nights.kept() > good);
    // What is under test is lost: the test begins anew.
    nights.night(&few, 3, &["look 1 at"]);
    std::fs::remove_file(&candidate).unwrap();
    nights.night(&few, 3, &["the build under test was lost", "look 1 at"]);
}

/// Puts a build in place of a kept one that answers to `node --about` with `answer`.
fn replace(nights: &Nights, which: &str, answer: &str) {
    use std::os::unix::fs::PermissionsExt;
    let path = nights.kept_build(which);
    std::fs::write(&path, format!("#!/bin/sh\n{answer}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_base_of_another_protocol_is_replaced_as_on_a_first_night_and_that_is_recorded() {
    const OLD: &str =
        "echo '{\"program\":\"migbench\",\"protocol\":999,\"version\":\"9.9\",\"commit\":\"c0ffee\"}'";
    let nights = Nights::new();
    nights.night(&QUIET, 0, &[]);
    let ours = std::fs::read(nights.kept_build("good")).unwrap();
    let simulated = after(&["--pinned-every", "1"], &QUIET);
    nights.night(&simulated, 0, &["good: this build is the next night's base"]);
    let before = nights.lines("nights.jsonl").len();
    for (build, recorded) in [(OLD, "\"protocol\":999"), ("exit 7", "cannot say what it is")] {
        replace(&nights, "good", build);
        replace(&nights, "pinned", build);
        let words = [
            "as on a first night",
            "the pinned build speaks another protocol",
            "the next night measures against it",
        ];
        nights.night(&simulated, 0, &words);
        for which in ["good", "pinned"] {
            assert!(std::fs::read(nights.kept_build(which)).unwrap() == ours, "{which} is tonight's build");
        }
        let last = nights.lines("nights.jsonl").pop().unwrap();
        assert!(last.contains("\"verdict\":\"unlike\"") && last.contains(recorded), "{last}");
        assert!(last.contains("\"suite\":\"tiny\""), "{last}");
    }
    assert_eq!(
        (nights.nights().len(), nights.lines("nights.jsonl").len()),
        (1, before + 2),
        "nothing was measured"
    );
    // From then on nights go on, and those of before the beginning are no baseline.
    nights.night(
        &simulated,
        0,
        &["good against the pinned build too", "begins anew, the last good build spoke protocol 999"],
    );
    nights.night(&simulated, 0, &["since the first of 2 measured nights"]);
}

#[test]
fn a_pinned_build_is_measured_against_every_few_nights_and_its_loss_is_said() {
    let nights = Nights::new();
    nights.night(&QUIET, 0, &[]);
    nights.night(&["--pin"], 0, &["pinned: "]);
    let due = |status: i32, repeat: &str, words: &[&str]| {
        let options = ["--pinned-every", "2", "--", "--repeat", repeat, "--simulate=noise=0.01"];
        nights.night(&options, status, words)
    };
    let text = due(0, "10", &[]);
    assert!(!text.contains("pinned build"), "{text}");
    due(0, "10", &["good against the pinned build too", "against the pinned build"]);
    assert!(nights.nights()[1].join("pinned/runs.jsonl").exists());
    due(0, "10", &[]);
    // Due in a night without enough evidence too, since a noisy host would never look otherwise.
    std::fs::remove_file(nights.kept_build("pinned")).unwrap();
    due(3, "3", &["the pinned build is lost: the last good build is pinned in its place"]);
    assert!(nights.kept_build("pinned").exists());
    assert!(nights.nights()[3].join("pinned/runs.jsonl").exists());
    assert!(nights.last()["notes"][0].as_str().unwrap().contains("the pinned build is lost"));
}

#[test]
fn a_build_that_does_not_work_is_not_kept() {
    let nights = Nights::new();
    let refused = |binary: &str, words: &[&str]| {
        let output = nights.command(Path::new(binary), &QUIET).output().unwrap();
        nights.ended(&output, &[binary], 2, words);
    };
    refused("/bin/true", &["/bin/true is no build of migbench"]);
    refused("/nowhere/migbench", &["there is no build /nowhere/migbench"]);
    // One that starts, and migrates nothing.
    nights.night(&["--", "--simulate=fail-rate=1"], 1, &["this build does not work, and is not kept"]);
    assert!(!nights.kept_build("good").exists());
    assert_eq!(nights.last()["verdict"], "failed");
    nights.night(&QUIET, 0, &["the first night"]);
    // Who loses the last good build hears of it.
    nights.night(&QUIET, 0, &[]);
    std::fs::remove_file(nights.kept_build("good")).unwrap();
    nights.night(&QUIET, 0, &["is lost", "as on a first night"]);
    assert_eq!(nights.last()["verdict"], "unlike");
}

#[test]
fn a_build_that_fails_is_in_the_list() {
    use std::os::unix::fs::PermissionsExt;
    let nights = Nights::new();
    nights.night(&QUIET, 0, &[]);
    let tools = nights.scratch.path().join("tools");
    std::fs::create_dir(&tools).unwrap();
    std::fs::write(tools.join("cargo"), "#!/bin/sh\nexit 101\n").unwrap();
    std::fs::set_permissions(tools.join("cargo"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/nightly"))
        .args(["--history", nights.history().to_str().unwrap(), "--suite", nights.suite.to_str().unwrap()])
        .arg("--no-install")
        .env("PATH", format!("{}:{}", tools.display(), std::env::var("PATH").unwrap()))
        .output()
        .unwrap();
    nights.ended(&output, &[], 1, &["it could not be built"]);
    assert_eq!(nights.last()["verdict"], "failed");
    assert_eq!(nights.last()["notes"][0], "it could not be built");
}

#[test]
fn failed_and_interrupted_nights_are_in_the_list_and_are_no_evidence() {
    let nights = Nights::new();
    nights.night(&QUIET, 0, &[]);
    let good = nights.kept();
    nights.night(&["--", "--simulate=noise=0.01,fail=9+12"], 1, &["NOT SOUND", "the night failed"]);
    assert_eq!(nights.last()["verdict"], "failed");
    nights.night(
        &["--", "--simulate=noise=0.01,interrupt=7"],
        130,
        &["interrupted; what was measured by then"],
    );
    assert_eq!(nights.last()["verdict"], "interrupted");
    assert!(nights.last()["notes"][0].as_str().unwrap().contains("is no evidence"));
    assert_eq!(nights.kept(), good);
    // A line that a crash tore stops nothing, and is kept aside.
    let list = nights.history().join("nights.jsonl");
    let torn = std::fs::read_to_string(&list).unwrap() + "{\"schema\":2,\"star";
    std::fs::write(&list, torn).unwrap();
    let text = nights.night(&QUIET, 0, &["nights.jsonl.torn", "failed", "interrupted", "look 1 at"]);
    assert!(text.contains("1 line of ") && text.contains(" was torn"), "{text}");
    assert_eq!(nights.lines("nights.jsonl.torn"), ["{\"schema\":2,\"star"]);
    assert_eq!(nights.lines("nights.jsonl").len(), 3);
}

/// Processes whose command line holds `word`.
fn processes(word: &str) -> Vec<String> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = all.filter_map(|process| std::fs::read_to_string(process.path().join("cmdline")).ok());
    lines.filter(|line| line.contains(word)).collect()
}

#[test]
fn a_night_that_is_killed_measures_no_longer_and_the_next_one_says_so() {
    let nights = Nights::new();
    nights.night(&QUIET, 0, &[]);
    let hanging: Vec<String> = (0..40).map(|run| run.to_string()).collect();
    let hangs = format!("--simulate=hang={}", hanging.join("+"));
    // Guests that hang for a second each: the night is at work until it is killed.
    let mut night = nights
        .command(assert_cmd::cargo::cargo_bin!("migbench"), &["--", &hangs])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let word = nights.history().join("nights").to_str().unwrap().to_owned();
    while processes(&word).is_empty() {
        assert!(night.try_wait().unwrap().is_none(), "the night has ended");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    night.kill().unwrap();
    night.wait().unwrap();
    // The kernel kills it with its parent; it would go on for half a minute otherwise.
    let mut patience = 2000;
    while !processes(&word).is_empty() {
        patience -= 1;
        assert!(patience > 0, "still measuring: {:?}", processes(&word));
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    nights.night(&QUIET, 0, &["came to no end; it is in the list as interrupted", "it was killed"]);
    assert!(nights.lines("nights.jsonl")[0].contains("\"verdict\":\"interrupted\""));
}

#[test]
fn a_deadline_leaves_fewer_repetitions_and_no_half_night() {
    let nights = Nights::new();
    nights.night(&QUIET, 0, &[]);
    let short = |time: &str, status: i32, words: &[&str]| {
        nights.night(&after(&["--pinned-every", "0", "--deadline", time], &QUIET), status, words)
    };
    short("1s", 2, &["--deadline 1s: one repetition takes about"]);
    assert_eq!(nights.last()["verdict"], "failed");
    // Half of it is for an alarm.
    short("24s", 3, &["not enough evidence"]);
    let manifest = std::fs::read_to_string(nights.nights().pop().unwrap().join("ab/manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let repetitions = manifest["repetitions"].as_u64().unwrap();
    assert!((1..9).contains(&repetitions), "{repetitions}");
    short("1h", 0, &["good: "]);
}

/// The clock of simulated runs is made up too: what was estimated is corrected by the runs that were made.
#[test]
fn a_suite_is_cut_where_its_runs_take_longer_than_was_estimated() {
    let nights = Nights::new();
    let suite = nights.suite.to_str().unwrap();
    let directory = nights.scratch.path().join("cut");
    let cut = |seconds: &str| {
        let _ = std::fs::remove_dir_all(&directory);
        crate::support::Migbench::new()
            .args(["ab", suite, "--no-confirm", "--simulate=noise=0.01", "--stop-after", seconds])
            .args(["-o", directory.to_str().unwrap()])
            .run()
    };
    let whole = cut("3600");
    assert_eq!(whole.status, 0, "{whole:?}");
    let runs = || std::fs::read_to_string(directory.join("runs.jsonl")).unwrap().lines().count();
    assert_eq!(runs(), 22);
    let short = cut("10");
    assert!(short.stderr.contains("the plan is cut to these"), "{short:?}");
    let made = runs();
    assert!(made < 22 && made % 2 == 0, "whole repetitions: {made}");
    // It is whole, only shorter.
    let gate =
        crate::support::Migbench::new().args(["gate", directory.to_str().unwrap(), "--simulated"]).run();
    assert!(gate.stdout.contains("encode_time") && !gate.stdout.contains("missing"), "{gate:?}");
    assert!(cut("1").stderr.contains("no repetition of all cells would end within 1 s"));
}

#[test]
fn two_nights_at_once_and_mistakes_are_refused() {
    let nights = Nights::new();
    nights.night(&QUIET, 0, &[]);
    let lock = std::fs::File::open(nights.history().join("lock")).unwrap();
    let lock = nix::fcntl::Flock::lock(lock, nix::fcntl::FlockArg::LockExclusiveNonblock).unwrap();
    nights.night(&QUIET, 1, &["another night is at work"]);
    drop(lock);
    nights.night(&["--frobnicate"], 2, &["unknown argument --frobnicate"]);
    nights.night(&["--keep", "0"], 2, &["want a number"]);
    nights.night(&["--deadline", "soon"], 2, &["--deadline wants a time, such as 40m"]);
    // Before a build, where a compiler would report that there is none.
    for suite in ["nihgtly", "mine.toml"] {
        let mut command = nights.command(Path::new("/nowhere"), &["--suite", suite]);
        let output = command.env("PATH", "/usr/bin:/bin").output().unwrap();
        nights.ended(&output, &[suite], 2, &["there is no suite"]);
    }
    nights.night(&["--", "--repat", "3"], 2, &["--repat"]);
    let ungated = TINY.split("[[gate]]").next().unwrap();
    std::fs::write(&nights.suite, ungated).unwrap();
    nights.night(&QUIET, 2, &["declares no [[gate]]"]);
}

#[test]
fn the_workflow_for_github_is_guarded_and_tells_statuses_apart() {
    use saphyr::{LoadableYamlNode, Yaml};
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.github/workflows/nightly.yml");
    let text = std::fs::read_to_string(path).unwrap();
    let all = Yaml::load_from_str(&text).unwrap();
    let workflow = &all[0];
    let triggers: Vec<&str> = workflow["on"].as_mapping().unwrap().keys().filter_map(Yaml::as_str).collect();
    assert_eq!(triggers, ["schedule", "workflow_dispatch"], "no pull request runs on somebody's own machine");
    let job = &workflow["jobs"]["nightly"];
    let guard = job["if"].as_str().unwrap();
    assert!(guard.contains("vars.MIGBENCH_NIGHTLY == 'yes'") && guard.contains("repository.fork"), "{guard}");
    let steps: Vec<&Yaml<'_>> = job["steps"].as_sequence().unwrap().iter().collect();
    let using = |action: &str| {
        let uses = |step: &&&Yaml<'_>| {
            step.as_mapping_get("uses").and_then(Yaml::as_str).is_some_and(|uses| uses.starts_with(action))
        };
        *steps.iter().find(uses).unwrap_or_else(|| panic!("nothing uses {action}"))
    };
    assert_eq!(using("actions/checkout@")["with"]["clean"].as_bool(), Some(false), "target/ stays");
    let junit = using("mikepenz/action-junit-report@");
    assert!(junit["with"]["report_paths"].as_str().unwrap().ends_with("night/export/junit.xml"));
    let upload = using("actions/upload-artifact@")["with"]["path"].as_str().unwrap();
    assert!(upload.lines().all(|path| path.contains("${{ runner.temp }}/night")), "{upload}");

    // The step itself, with scripts that end as a night does.
    let run = |number: usize| steps[number]["run"].as_str().unwrap();
    assert!(run(2).contains("GITHUB_STEP_SUMMARY") && run(2).contains("nightly.txt"));
    let scratch = tempfile::tempdir().unwrap();
    let at = |name: &str| scratch.path().join(name);
    std::fs::create_dir_all(at("scripts")).unwrap();
    std::fs::create_dir_all(at("history/nights/1")).unwrap();
    for (ends, job, said) in [
        (0, 0, ""),
        (3, 0, "::warning"),
        (4, 4, "::error title=nightly::a confirmed regression"),
        (1, 1, "::error"),
    ] {
        let script = format!(
            "#!/bin/sh\necho 'nightly: kept in {}' >&2\necho verdict\nexit {ends}\n",
            at("history/nights/1").display()
        );
        std::fs::write(at("scripts/nightly"), script).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(at("scripts/nightly"), mode).unwrap();
        let temporary = at(&format!("temporary-{ends}"));
        std::fs::create_dir(&temporary).unwrap();
        // As GitHub has it for `shell: bash`.
        let output = Command::new("bash")
            .args(["--noprofile", "--norc", "-eo", "pipefail", "-c", run(1)])
            .current_dir(scratch.path())
            .env("RUNNER_TEMP", &temporary)
            .env("GITHUB_OUTPUT", temporary.join("output"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(job), "{text}");
        assert!(text.contains(said), "{text}");
        let written = std::fs::read_to_string(temporary.join("output")).unwrap();
        assert!(written.contains(&format!("status={ends}\nnight=")), "{written}");
        assert!(temporary.join("night").is_dir() && temporary.join("nightly.txt").is_file());
    }
}

#[test]
#[ignore = "two nights of real guests"]
fn real_nights() {
    require_kvm!();
    let nights = Nights::new();
    nights.night(&[], 0, &[]);
    let output = nights.script(&["--", "--repeat", "2"]);
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    // Two runs are no evidence; the night was made and kept.
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert_eq!(nights.lines("nights.jsonl").len(), 1, "{text}");
    assert!(nights.last()["pace"].as_f64().unwrap() > 0.0);
    assert!(nights.nights()[0].join("report.md").exists(), "{text}");
}

//! Commands that are printed as advice are run as they were printed, by a shell, and do what they were printed for. All on the
//! simulated testbed, in directories whose names a shell would take apart.

use std::path::{Path, PathBuf};

use migbench_reports::store::{Accept, RunData};

use crate::support::{CommandOutcome, Migbench};

/// A cell and a gate: small enough to be judged by six runs of low noise.
const SUITE: &str = r#"
name = "tiny"
description = "as little as is a suite with a gate"
repetitions = 6

[defaults]
memory = "32MiB"
link.rate = "unlimited"
settings = { working_set = "8MiB", load = "pages(10000)" }
windows = { steady = "50ms", after = "50ms", warmup_max = "150ms" }

[[comparison]]
axes = { workload = ["write-heavy"], engine = ["full", "delta"] }
compare = "engine"
baseline = "full"

[[gate]]
metric = "encode_time"
floor = "0s"
"#;

/// A place in which somebody works, and a suite in it.
struct Place {
    scratch: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::write(scratch.path().join("my suite.toml"), SUITE).unwrap();
        Self { scratch }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn with(&self, command: Migbench) -> CommandOutcome {
        let history = self.path("history");
        command.current_dir(self.scratch.path()).env("MIGBENCH_HISTORY", history.to_str().unwrap()).run()
    }

    fn migbench(&self, arguments: &[&str]) -> CommandOutcome {
        self.with(Migbench::new().args(arguments))
    }

    /// A printed command, typed as it stands.
    fn typed(&self, line: &str) -> CommandOutcome {
        self.with(Migbench::shell(line))
    }

    fn data(&self, name: impl AsRef<Path>) -> RunData {
        RunData::load_as(self.scratch.path().join(name), Accept::Simulated).unwrap()
    }
}

fn all(outcome: &CommandOutcome) -> String {
    format!("{}{}", outcome.stdout, outcome.stderr)
}

/// The command below the line that says so.
#[track_caller]
fn below(outcome: &CommandOutcome, what: &str) -> String {
    let text = all(outcome);
    let mut lines = text.lines().skip_while(|line| *line != format!("{what}:"));
    lines.next().unwrap_or_else(|| panic!("no {what:?} in {text}"));
    lines.next().unwrap().strip_prefix("  ").unwrap().to_owned()
}

/// The command between backticks that has these words.
#[track_caller]
fn quoted(outcome: &CommandOutcome, words: &str) -> String {
    let text = all(outcome);
    let mut quoted = text.split('`').skip(1).step_by(2);
    quoted
        .find(|command| command.contains(words))
        .unwrap_or_else(|| panic!("no {words:?} in {text}"))
        .to_owned()
}

#[track_caller]
fn assert_ends(outcome: &CommandOutcome, status: i32, words: &[&str]) {
    let text = all(outcome);
    assert_eq!(outcome.status, status, "{text}");
    for word in words {
        assert!(text.contains(word), "no {word:?} in {text}");
    }
}

const SLOWER: &str = "--simulate=noise=0.01,new.encode=1.2";

#[test]
fn an_alarm_says_how_it_is_confirmed() {
    let place = Place::new();
    let first = place.migbench(&["ab", "my suite.toml", SLOWER, "--no-confirm", "-o", "it's here/ab"]);
    assert_ends(&first, 3, &["ALARM      encode_time", "NOT CONFIRMED: "]);
    let asked = place.migbench(&["gate", "it's here/ab", "--simulated"]);
    assert_ends(&asked, 3, &["NOT CONFIRMED: "]);
    let exported = |words: &str| {
        let into = ["export", "it's here/ab", "--simulated", "--format", "junit", "-o", "ci"];
        assert_ends(&place.migbench(&into), 0, &[]);
        let text = std::fs::read_to_string(place.path("ci/junit.xml")).unwrap();
        assert!(text.contains(words), "{text}");
    };
    exported("<skipped message=\"not confirmed");
    let command = below(&asked, "Measure again, and judge by fresh samples");
    assert_eq!(below(&first, "Measure again, and judge by fresh samples"), command);
    let confirmed = place.typed(&command);
    let both = [
        "NOT CONFIRMED: ",
        "Measuring again, by fresh samples, into 'it'\\''s here/ab-again'",
        "REGRESSION: ",
    ];
    assert_ends(&confirmed, 4, &both);
    let [first, fresh] = ["it's here/ab", "it's here/ab-again"].map(|name| place.data(name));
    assert_ne!(first.manifest.seed, fresh.manifest.seed);
    // Once more it measures nothing, and says the same; so do the others.
    assert_ends(&place.typed(&command), 4, &["REGRESSION: "]);
    assert_eq!(place.data("it's here/ab-again").records.len(), fresh.records.len());
    assert_ends(&place.migbench(&["gate", "it's here/ab", "--simulated"]), 4, &["REGRESSION: "]);
    exported("<failure message=\"regression: WORSE      encode_time");
}

#[test]
fn too_little_evidence_says_how_more_is_made() {
    let place = Place::new();
    // A second directory with its own accepted changes, which the next command reads too.
    let accepted = ["--accepted", "my changes.toml"];
    let noisy = ["ab", "my suite.toml", "--simulate=noise=0.06,seed=1", "--repeat", "6", "-o", "a b"];
    let first = place.migbench(&[&noisy[..], &accepted].concat());
    assert_ends(&first, 3, &["NOT ENOUGH EVIDENCE: about "]);
    let asked = place.migbench(&[&["gate", "a b", "--simulated"][..], &accepted].concat());
    let command = below(&asked, "Measure anew");
    assert_eq!(below(&first, "Measure anew"), command);
    assert!(command.contains(" --accepted 'my changes.toml'"), "{command}");
    let more = place.typed(&command);
    assert!(matches!(more.status, 0 | 3), "{}", all(&more));
    let made = std::fs::read_dir(place.path("results")).unwrap().next().unwrap().unwrap().path();
    let runs = place.data(&made).manifest.repetitions;
    assert!(runs > 6 && command.contains(&format!(" --repeat {runs} ")), "{command}");
    // A suite that is another one by now is no measurement of the same.
    std::fs::write(place.path("my suite.toml"), SUITE.replace("32MiB", "64MiB")).unwrap();
    let changed = place.migbench(&["gate", "a b", "--simulated"]);
    assert_ends(&changed, 3, &["are not what they were when it was typed"]);
}

/// The program, as another build's file: what is behind the end of an executable changes nothing but its hash.
fn build(place: &Place, directory: &str, mark: &str) -> String {
    let path = place.path(directory).join("migbench");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::copy(assert_cmd::cargo::cargo_bin!("migbench"), &path).unwrap();
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    std::io::Write::write_all(&mut file, mark.as_bytes()).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn two_directories_say_how_their_two_builds_are_measured_side_by_side() {
    let place = Place::new();
    let (old, new) = (build(&place, "old build", "old"), build(&place, "new", "new"));
    for (program, name, simulation) in [(&old, "a", "noise=0.01"), (&new, "b", "noise=0.01,encode=1.3")] {
        let line = format!("'{program}' run 'my suite.toml' --simulate={simulation} -o {name}");
        assert_ends(&place.typed(&line), 0, &[]);
    }
    let gate = || place.migbench(&["gate", "a", "b", "--simulated"]);
    let judged = gate();
    assert_ends(
        &judged,
        3,
        &["advisory: measured at two times", "ALARM      encode_time", "NOT CONFIRMED (advisory)"],
    );
    let command = below(&judged, "Measure both builds side by side");
    let side_by_side = place.typed(&command);
    assert_ends(&side_by_side, 0, &["PASS: judged were encode_time in 2 cells"]);
    let made = std::fs::read_dir(place.path("results")).unwrap().next().unwrap().unwrap().path();
    let builds = |data: &RunData| data.manifest.builds.iter().map(|b| b.blake3.clone()).collect::<Vec<_>>();
    let [a, b] = ["a", "b"].map(|name| builds(&place.data(name)));
    assert_eq!(builds(&place.data(made)), [&a[..], &b].concat(), "both builds, and not one with itself");
    // A build that is gone is named, and no command pretends to have it.
    std::fs::remove_file(&old).unwrap();
    let words = "Measure both builds side by side with `migbench ab`, each named as binary=PATH after --base and --new";
    assert_ends(&gate(), 3, &[words, &a[0][..12], &b[0][..12]]);
}

#[test]
fn directories_that_were_merged_say_it_too() {
    let place = Place::new();
    let (old, new) = (build(&place, "old build", "old"), build(&place, "new", "new"));
    for (program, name, simulation) in
        [(&old, "a", "noise=0.01"), (&new, "b", "noise=0.01,encode=3,send=1.5")]
    {
        let typed = |line: String| assert_ends(&place.typed(&format!("'{program}' {line}")), 0, &[]);
        typed(format!("plan quick -o {name}.json"));
        for slice in [1, 2] {
            let simulate = format!("--simulate={simulation},host=h{slice}");
            typed(format!("run --plan {name}.json --partition slice:{slice}/2 {simulate} -o {name}{slice}"));
        }
        typed(format!("merge {name}1 {name}2 -o {name} --simulated"));
    }
    let judged = place.migbench(&["gate", "a", "b", "--simulated"]);
    assert_ends(&judged, 3, &["ALARM      total_time", "NOT CONFIRMED (advisory)"]);
    let side_by_side = place.typed(&below(&judged, "Measure both builds side by side"));
    assert_ends(&side_by_side, 0, &["PASS: judged were ", "total_time in 4 cells"]);
}

#[test]
fn an_interruption_says_what_is_kept_and_how_the_rest_is_made() {
    for command in [
        &["ab", "my suite.toml", "-o", "it's/cut off"][..],
        &["run", "my suite.toml", "-o", "it's/cut off"],
        &["reproduce", "bhardwaj2019", "-o", "it's"],
    ] {
        let place = Place::new();
        let cut = place.migbench(&[command, &["--simulate=noise=0.01,interrupt=5"]].concat());
        assert_ends(&cut, 130, &["interrupted: 5 of "]);
        let read = place.typed(&quoted(&cut, "migbench report "));
        assert!(read.status < 2 && read.stdout.contains("made by:"), "{}", all(&read));
        let again = place.typed(&quoted(&cut, &format!("migbench {} ", command[0])));
        assert_ends(&again, 130, &["interrupted: 10 of "]);
    }
}

#[test]
fn an_interrupted_confirmation_goes_on_where_its_alarm_is() {
    let place = Place::new();
    let first = place.migbench(&["ab", "my suite.toml", SLOWER, "--no-confirm", "-o", "a b"]);
    assert_ends(&first, 3, &["NOT CONFIRMED"]);
    let cut = place.migbench(&["ab", "--resume", "a b", &format!("{SLOWER},interrupt=5")]);
    assert_ends(&cut, 130, &["NOT CONFIRMED", "interrupted: 5 of 28 records are kept in a b-again"]);
    let again = place.typed(&quoted(&cut, "--resume"));
    assert_ends(&again, 130, &["interrupted: 10 of 28 records are kept in a b-again"]);
    // What is there is not yet what it will be.
    let asked = place.migbench(&["gate", "a b", "--simulated"]);
    assert_ends(&asked, 1, &["NOT SOUND", "planned runs are missing"]);
    assert_ends(&place.typed(&below(&asked, "Finish it")), 4, &["REGRESSION: "]);
}

#[test]
fn a_directory_that_lacks_runs_says_how_they_are_made() {
    let place = Place::new();
    for (command, gate) in
        [("ab", &["gate", "a b", "--simulated"][..]), ("run", &["gate", "a b", "whole", "--simulated"])]
    {
        let cut = place.migbench(&[command, "my suite.toml", "--simulate=interrupt=9", "-o", "a b"]);
        assert_ends(&cut, 130, &["interrupted: 9 of "]);
        assert_ends(&place.migbench(&["run", "my suite.toml", "--simulate=seed=1", "-o", "whole"]), 0, &[]);
        let asked = place.migbench(gate);
        assert_ends(&asked, 1, &["missing", "NOT SOUND"]);
        let rest = place.typed(&below(&asked, "Finish it"));
        assert!(rest.status != 2 && rest.status != 5, "{}", all(&rest));
        let data = place.data("a b");
        assert!(data.records.len() > 9, "{}", all(&rest));
        std::fs::remove_dir_all(place.path("a b")).unwrap();
        std::fs::remove_dir_all(place.path("whole")).unwrap();
    }
    let plan = ["plan", "my suite.toml", "-o", "plan.json"];
    assert_ends(&place.migbench(&plan), 0, &[]);
    let slice = ["run", "--plan", "plan.json", "--simulate=interrupt=3", "-o", "a b"];
    assert_ends(&place.migbench(&slice), 130, &[]);
    let merged = place.migbench(&["merge", "a b", "-o", "merged", "--simulated"]);
    assert_ends(&merged, 3, &["slice 1/1 in 'a b' has 3 of "]);
    let rest = place.typed(&quoted(&merged, "--resume"));
    assert_ends(&rest, 130, &["interrupted: 6 of "]);
}

#[test]
fn what_does_not_go_together_says_what_shows_it_all_the_same() {
    let place = Place::new();
    let run = |set: &str, host: &str, output: &str| {
        let simulate = format!("--simulate=cpu-name={host}");
        let outcome = place.migbench(&["run", "my suite.toml", "--set", set, &simulate, "-o", output]);
        assert_ends(&outcome, 0, &[]);
    };
    run("memory=32MiB", "One", "it's one");
    run("memory=64MiB", "Other", "another one");
    for command in ["gate", "compare"] {
        let refused = place.migbench(&[command, "it's one", "another one", "--simulated"]);
        assert_ends(&refused, 5, &["were made by different plans"]);
        let shown = place.typed(&quoted(&refused, "migbench compare "));
        assert_ends(&shown, 0, &["new over base, cell by cell"]);
    }
    let ungated: String = SUITE.split("[[gate]]").next().unwrap().to_owned();
    std::fs::write(place.path("no gates.toml"), ungated).unwrap();
    let ab = place.migbench(&["ab", "no gates.toml", "--simulate", "-o", "./-sides"]);
    assert_ends(&ab, 0, &["declares no [[gate]]: nothing is decided"]);
    let one = place.migbench(&["gate", "./-sides", "--simulated"]);
    assert_ends(&one, 2, &["so that nothing decides"]);
    assert_ends(&place.typed(&quoted(&one, "migbench report ")), 0, &["made by:"]);
}

#[test]
fn more_tables_are_a_command_away() {
    let place = Place::new();
    let run = place.migbench(&[
        "run",
        "my suite.toml",
        "--simulate",
        "-o",
        "it's a rather long name for a directory",
    ]);
    let (_, text) = run.stdout.split_once("more tables (").unwrap();
    let (_, command) = text.split_once("): ").or_else(|| text.split_once("):")).unwrap();
    let (command, _) = command.split_once("\nmade by:").unwrap();
    assert_ends(&place.typed(command), 0, &["made by:"]);
}

/// An alarm would be measured again into a directory that is another measurement's: found before the first guest.
#[test]
fn a_confirmation_that_would_meet_records_is_refused_at_once() {
    let place = Place::new();
    assert_ends(&place.migbench(&["ab", "my suite.toml", SLOWER, "-o", "a b/"]), 4, &["REGRESSION"]);
    std::fs::remove_dir_all(place.path("a b")).unwrap();
    let ab = ["ab", "my suite.toml", SLOWER, "-o", "a b/"];
    let refused = place.migbench(&ab);
    assert_ends(
        &refused,
        2,
        &["a b-again already holds records, and an alarm would be measured again into it"],
    );
    assert!(!place.path("a b").exists(), "nothing was begun");
    assert_ends(&place.migbench(&[&ab[..], &["--no-confirm"]].concat()), 3, &["NOT CONFIRMED"]);
}

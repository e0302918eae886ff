//! `migbench reproduce` and `migbench artifact` as an author and a reviewer use them.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{CommandOutcome, Migbench, require_kvm};

pub fn migbench(arguments: &[&str]) -> CommandOutcome {
    Migbench::new().args(arguments).run()
}

#[test]
fn papers_are_listed_with_their_claims() {
    let outcome = migbench(&["list", "papers"]);
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    for words in ["bhardwaj2019", "clark2005", "xbzrle-doc", "- read-traffic: 74.21 %", "NSDI 2005"] {
        assert!(outcome.stdout.contains(words), "no {words:?} in {}", outcome.stdout);
    }
    assert!(migbench(&["list"]).stdout.contains("Papers (migbench reproduce NAME):"));
}

#[test]
fn want_of_evidence_and_wrong_words_have_a_status_of_their_own() {
    let quick = Path::new(env!("CARGO_MANIFEST_DIR")).join("../reports/reference/quick");
    let outcome = migbench(&["reproduce", "bhardwaj2019", "--from", quick.to_str().unwrap()]);
    assert_eq!(outcome.status, 3, "{}", outcome.stderr);
    assert!(outcome.stdout.contains("no evidence"), "{}", outcome.stdout);
    for (arguments, words) in [
        (vec!["reproduce", "bhardwaj2020"], "did you mean `bhardwaj2019`"),
        (vec!["reproduce", "nowhere/claims.toml"], "nowhere/claims.toml: cannot be read"),
        (vec!["reproduce", "xbzrle-doc", "--sensitivity"], "no [sensitivity]"),
    ] {
        let outcome = migbench(&arguments);
        assert_eq!((outcome.status, outcome.stdout.as_str()), (2, ""), "{arguments:?}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(words), "{arguments:?}: {}", outcome.stderr);
    }
}

#[test]
fn a_dry_run_prints_and_runs_nothing() {
    let outcome = migbench(&["reproduce", "clark2005", "--dry-run", "--repeat", "1"]);
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    assert!(outcome.stdout.contains("!! The two amplifications"), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("clark2005: 10 runs, about "), "{}", outcome.stdout);
    assert!(!outcome.stdout.contains("Published, and ours"));
}

const SUITE: &str = r#"
name = "mine"
description = "as little as is a comparison"
repetitions = 1
[defaults]
memory = "32MiB"
settings.working_set = "8MiB"
windows = { steady = "50ms", after = "50ms", warmup_max = "150ms" }
[[comparison]]
name = "writer"
workload = "write-heavy"
axes.engine = ["full", "delta"]
"#;

const CLAIMS: &str = r#"
name = "mine2026"
description = "a paper of one's own"
time = "seconds"
disk = "1 MiB"
choice = "As small as it can be."
[reference]
authors = "A. Author"
title = "On Deltas"
published = "2026"
[[unknown]]
what = "the guest's memory"
chosen = "32 MiB"
why = "a test"
keys = ["memory"]
[[claim]]
id = "traffic"
text = "nearly nothing is sent"
where = "table 1"
kind = "reduction"
metric = "traffic"
published = "99.9 %"
comparison = "writer"
row = "delta"
command = "migbench run mine.toml --filter '^writer/'"
time = "seconds"
disk = "1 MiB"
[[claim]]
id = "ends"
text = "deltas converge"
where = "section 2"
kind = "convergence"
published = "converges"
comparison = "writer"
row = "delta"
command = "migbench run mine.toml"
time = "seconds"
disk = "1 MiB"
"#;

/// From claims of one's own to what a reviewer checks: run, page, the same page from records, archive. `run` and `read` are
/// what it takes to simulate, and to read what was simulated.
fn a_paper_of_ones_own(run: &[&str], read: &[&str]) {
    let scratch = tempfile::tempdir().unwrap();
    let place = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(place("mine.toml"), SUITE).unwrap();
    std::fs::write(place("claims.toml"), CLAIMS).unwrap();
    let (claims, output) = (place("claims.toml"), place("out"));
    let table = |text: &str| {
        let results = text.split("Published, and ours").nth(1).unwrap();
        results.split("Evidence").next().unwrap().to_owned()
    };

    let first = migbench(&[&["reproduce", &claims, "-o", &output], run].concat());
    assert_eq!(first.status, 0, "{}\n{}", first.stdout, first.stderr);
    let (before, after) = first.stdout.split_once("mine: ").unwrap();
    assert!(before.contains("the guest's memory") && before.contains("[memory: 32 MiB]"), "{before}");
    assert!(after.contains("99.9 %") && after.contains("unreachable") && after.contains("same"), "{after}");
    assert_eq!(
        listing(Path::new(&output)),
        ["claims.toml", "mine", "mine.toml", "reproduce.json", "reproduce.md"]
    );

    let page = std::fs::read_to_string(Path::new(&output).join("reproduce.md")).unwrap();
    assert!(page.contains(&format!("\nmigbench reproduce {claims}\n")), "a command that finds them: {page}");

    // Nothing is left to run, and the copy of the claims gives the same page from the records.
    let records = || std::fs::read(Path::new(&output).join("mine/runs.jsonl")).unwrap();
    let made = records();
    let second = migbench(&[&["reproduce", &claims, "-o", &output], run].concat());
    assert_eq!((second.status, table(&second.stdout)), (0, table(&first.stdout)), "{}", second.stderr);
    assert_eq!(records(), made);
    let from = |directory: &str| {
        let claims = format!("{directory}/claims.toml");
        let outcome = migbench(&[&["reproduce", &claims, "--from", directory], read].concat());
        assert_eq!(outcome.status, 0, "{}", outcome.stderr);
        table(&outcome.stdout)
    };
    assert_eq!(from(&output), table(&first.stdout));

    let archive = place("mine.tar.gz");
    let packed = migbench(&[&["artifact", &output, "-o", &archive], read].concat());
    assert_eq!(packed.status, 0, "{}", packed.stderr);
    let review = unpacked(&archive, scratch.path());
    let wide = [read, &["--wide"]].concat();
    assert_eq!(report(&review.join("mine"), &wide), report(&Path::new(&output).join("mine"), &wide));
    assert_eq!(from(review.to_str().unwrap()), table(&first.stdout));
}

#[test]
fn a_simulated_paper_goes_all_the_way() {
    a_paper_of_ones_own(&["--simulate"], &["--simulated"]);
}

#[test]
#[ignore = "some ten seconds of migrations"]
fn a_measured_paper_goes_all_the_way() {
    require_kvm!();
    a_paper_of_ones_own(&[], &[]);
}

/// Every shipped paper from its suites to its page; what is made up is refused unless it is asked for.
#[test]
fn shipped_papers_go_all_the_way() {
    let scratch = tempfile::tempdir().unwrap();
    for (name, arguments) in
        [("bhardwaj2019", vec!["--sensitivity"]), ("clark2005", vec![]), ("xbzrle-doc", vec![])]
    {
        let output = scratch.path().join(name);
        let output = output.to_str().unwrap();
        let arguments =
            [vec!["reproduce", name, "-o", output, "--simulate", "--repeat", "1"], arguments].concat();
        let outcome = migbench(&arguments);
        assert!([0, 3].contains(&outcome.status), "{name}: {}\n{}", outcome.stdout, outcome.stderr);
        let page = std::fs::read_to_string(format!("{output}/reproduce.md")).unwrap();
        assert_eq!(page.contains("## One factor at a time"), name == "bhardwaj2019", "{page}");
        let refused = migbench(&["reproduce", name, "--from", output]);
        assert_eq!(refused.status, 2, "{}", refused.stderr);
    }
}

/// An interrupted one is finished by the same command.
#[test]
fn what_is_begun_is_finished() {
    let scratch = tempfile::tempdir().unwrap();
    let place = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(place("mine.toml"), SUITE).unwrap();
    std::fs::write(place("claims.toml"), CLAIMS).unwrap();
    let (claims, output) = (place("claims.toml"), place("out"));
    let arguments = ["reproduce", &claims, "-o", &output, "--simulate"];
    assert_eq!(migbench(&arguments).status, 0);
    let runs = Path::new(&output).join("mine/runs.jsonl");
    let whole = std::fs::read_to_string(&runs).unwrap();
    let kept: String = whole.split_inclusive('\n').take(2).collect();
    std::fs::write(&runs, &kept).unwrap();
    let outcome = migbench(&arguments);
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    let finished = std::fs::read_to_string(&runs).unwrap();
    assert!(finished.starts_with(&kept) && finished.lines().count() == whole.lines().count());
}

/// The only folder of an archive, unpacked by tar, with all hashes right.
pub fn unpacked(archive: &str, scratch: &Path) -> PathBuf {
    let elsewhere = scratch.join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let status = Command::new("tar").args(["-xzf", archive]).current_dir(&elsewhere).status().unwrap();
    assert!(status.success());
    let [folder] = listing(&elsewhere).try_into().unwrap();
    let review = elsewhere.join(folder);
    let sums = Command::new("sha256sum")
        .args(["-c", "--strict", "SHA256SUMS"])
        .current_dir(&review)
        .output()
        .unwrap();
    assert!(sums.status.success(), "{}", String::from_utf8_lossy(&sums.stdout));
    review
}

pub fn report(directory: &Path, read: &[&str]) -> String {
    let outcome = migbench(&[&["report", directory.to_str().unwrap()], read].concat());
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    outcome.stdout
}

/// Names in a directory, sorted.
pub fn listing(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

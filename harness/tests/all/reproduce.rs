//! `migbench reproduce` and `migbench artifact` as an author and a reviewer use them.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Migbench, Outcome, require_kvm};

fn migbench(arguments: &[&str]) -> Outcome {
    Migbench::new().args(arguments).run()
}

/// Real records of suite `paper`, kept in the repository.
fn reference() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../reports/reference/paper");
    path.canonicalize().unwrap().to_str().unwrap().to_owned()
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
fn what_is_not_told_stands_before_any_result() {
    let outcome = migbench(&["reproduce", "bhardwaj2019", "--from", &reference()]);
    assert_eq!(outcome.status, 0, "{}\n{}", outcome.stdout, outcome.stderr);
    let place = |words: &str| {
        outcome.stdout.find(words).unwrap_or_else(|| panic!("no {words:?} in {}", outcome.stdout))
    };
    let result = place("Published, and ours:");
    for words in ["not known in 10 respects", "no workload was", "how fast the guest writes", "the link was the bottleneck"] {
        assert!(place(words) < result, "{words}");
    }
    for line in outcome.stdout.lines() {
        assert!(line.starts_with("  migbench") || line.chars().count() <= 100, "{line}");
    }
    // Deltas cannot save three quarters of what a guest that hardly writes makes full pages send.
    let traffic = outcome.stdout.lines().find(|line| line.contains("74.21 %")).unwrap();
    assert!(traffic.trim_end().ends_with("outside"), "{traffic}");
    // Only to say that it is not said.
    assert_eq!(outcome.stdout.matches("reproduced").count(), 1);
}

#[test]
fn a_page_is_written_only_where_it_is_asked_for() {
    let before = listing(Path::new(&reference()));
    let scratch = tempfile::tempdir().unwrap();
    let output = scratch.path().join("page");
    let arguments = ["reproduce", "bhardwaj2019", "--from", &reference(), "-o", output.to_str().unwrap()];
    assert_eq!(migbench(&arguments).status, 0);
    assert_eq!(listing(Path::new(&reference())), before);
    assert_eq!(listing(&output), ["claims.toml", "reproduce.json", "reproduce.md"]);
    let json: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(output.join("reproduce.json")).unwrap()).unwrap();
    assert_eq!(json["findings"][2]["claim"], "read-traffic");
    assert_eq!(json["findings"][2]["verdict"], "outside");
    assert!(json["findings"][2]["runs"].as_array().is_some_and(|runs| runs.len() >= 4), "{json}");
    let page = std::fs::read_to_string(output.join("reproduce.md")).unwrap();
    assert!(page.contains("| traffic, reduction | 74.21 % |"), "{page}");
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
fn a_dry_run_tells_and_runs_nothing() {
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
windows = { steady = "100ms", after = "100ms", warmup_max = "300ms" }
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

/// From claims of one's own to what a reviewer checks: run, page, the same page from records, archive.
#[test]
fn a_paper_of_ones_own_is_measured_and_packed() {
    require_kvm!();
    let scratch = tempfile::tempdir().unwrap();
    let place = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(place("mine.toml"), SUITE).unwrap();
    std::fs::write(place("claims.toml"), CLAIMS).unwrap();
    let (claims, output) = (place("claims.toml"), place("out"));

    let first = migbench(&["reproduce", &claims, "-o", &output]);
    assert_eq!(first.status, 0, "{}\n{}", first.stdout, first.stderr);
    let (before, after) = first.stdout.split_once("mine: ").unwrap();
    assert!(before.contains("the guest's memory") && before.contains("[memory: 32 MiB]"), "{before}");
    assert!(after.contains("99.9 %") && after.contains("outside") && after.contains("same"), "{after}");
    assert_eq!(
        listing(Path::new(&output)),
        ["claims.toml", "mine", "mine.toml", "reproduce.json", "reproduce.md"]
    );

    // Nothing is left to run, and the copy of the claims gives the same page from the records.
    let records = std::fs::read(Path::new(&output).join("mine/runs.jsonl")).unwrap();
    let second = migbench(&["reproduce", &claims, "-o", &output]);
    assert_eq!(second.status, 0, "{}", second.stderr);
    assert_eq!(std::fs::read(Path::new(&output).join("mine/runs.jsonl")).unwrap(), records);
    let copied = migbench(&["reproduce", &format!("{output}/claims.toml"), "--from", &output]);
    let table = |text: &str| text.split("Published, and ours").nth(1).unwrap().split("Evidence").next().unwrap().to_owned();
    assert_eq!(table(&copied.stdout), table(&second.stdout));

    let archive = place("mine.tar.gz");
    let packed = migbench(&["artifact", &output, "-o", &archive]);
    assert_eq!(packed.status, 0, "{}", packed.stderr);
    let review = unpacked(&archive, scratch.path());
    assert_eq!(report(&review.join("mine")), report(&Path::new(&output).join("mine")));
    let again = migbench(&["reproduce", &format!("{}/claims.toml", review.display()), "--from", review.to_str().unwrap()]);
    assert_eq!(table(&again.stdout), table(&second.stdout));
}

#[test]
fn a_reviewer_checks_the_hashes_and_gets_the_same_table() {
    let scratch = tempfile::tempdir().unwrap();
    let archive = scratch.path().join("paper.tgz");
    let archive = archive.to_str().unwrap();
    let packed = migbench(&["artifact", &reference(), "-o", archive]);
    assert_eq!(packed.status, 0, "{}", packed.stderr);
    let review = unpacked(archive, scratch.path());
    assert_eq!(report(&review), report(Path::new(&reference())));
    let guide = std::fs::read_to_string(review.join("REPRODUCE.md")).unwrap();
    for words in ["sha256sum -c SHA256SUMS", "migbench report .", "git checkout ", "suites/paper.toml"] {
        assert!(guide.contains(words), "no {words:?} in {guide}");
    }
    // One changed byte is found.
    let mut records = std::fs::read(review.join("runs.jsonl")).unwrap();
    records[100] ^= 1;
    std::fs::write(review.join("runs.jsonl"), records).unwrap();
    let checked = Command::new("sha256sum").args(["-c", "SHA256SUMS"]).current_dir(&review).output().unwrap();
    assert!(!checked.status.success());
    assert!(String::from_utf8(checked.stdout).unwrap().contains("runs.jsonl: FAILED"));
    // What is there is left alone.
    let again = migbench(&["artifact", &reference(), "-o", archive]);
    assert_eq!(again.status, 2, "{}", again.stderr);
    assert!(again.stderr.contains("is there already"), "{}", again.stderr);
}

/// The only folder of an archive, unpacked by tar, with all hashes right.
fn unpacked(archive: &str, scratch: &Path) -> PathBuf {
    let elsewhere = scratch.join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let status = Command::new("tar").args(["-xzf", archive]).current_dir(&elsewhere).status().unwrap();
    assert!(status.success());
    let [folder] = listing(&elsewhere).try_into().unwrap();
    let review = elsewhere.join(folder);
    let sums = Command::new("sha256sum").args(["-c", "--strict", "SHA256SUMS"]).current_dir(&review).output().unwrap();
    assert!(sums.status.success(), "{}", String::from_utf8_lossy(&sums.stdout));
    review
}

fn report(directory: &Path) -> String {
    let outcome = migbench(&["report", directory.to_str().unwrap()]);
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    outcome.stdout
}

/// Names in a directory, sorted.
fn listing(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

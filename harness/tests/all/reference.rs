//! Published figures beside the committed reference run of suite `paper`: without KVM, on real records.

use std::path::Path;
use std::process::Command;

use crate::reproduce::{listing, migbench, report, unpacked};

/// Real records of suite `paper`, kept in the repository.
fn reference() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../reports/reference/paper");
    path.canonicalize().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn what_is_not_published_stands_before_any_result() {
    let outcome = migbench(&["reproduce", "bhardwaj2019", "--from", &reference()]);
    assert_eq!(outcome.status, 0, "{}\n{}", outcome.stdout, outcome.stderr);
    let place = |words: &str| {
        outcome.stdout.find(words).unwrap_or_else(|| panic!("no {words:?} in {}", outcome.stdout))
    };
    let result = place("Published, and ours:");
    for words in [
        "not known in 10 respects",
        "no workload was",
        "how fast the guest writes",
        "link was the bottleneck",
    ] {
        assert!(place(words) < result, "{words}");
    }
    for line in outcome.stdout.lines() {
        assert!(line.starts_with("  migbench") || line.chars().count() <= 100, "{line}");
    }
    // Deltas cannot save three quarters of what a guest that hardly writes makes full pages send.
    let traffic = outcome.stdout.lines().find(|line| line.contains("74.21 %")).unwrap();
    assert!(traffic.trim_end().ends_with("unreachable"), "{traffic}");
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
    assert_eq!(json["findings"][2]["verdict"], "unreachable");
    assert!(json["findings"][2]["runs"].as_array().is_some_and(|runs| runs.len() >= 4), "{json}");
    let page = std::fs::read_to_string(output.join("reproduce.md")).unwrap();
    assert!(page.contains("| traffic, reduction | 74.21 % |"), "{page}");
}

#[test]
fn a_reviewer_checks_the_hashes_and_gets_the_same_table() {
    let scratch = tempfile::tempdir().unwrap();
    let archive = scratch.path().join("paper.tgz");
    let archive = archive.to_str().unwrap();
    let packed = migbench(&["artifact", &reference(), "-o", archive]);
    assert_eq!(packed.status, 0, "{}", packed.stderr);
    let review = unpacked(archive, scratch.path());
    assert_eq!(report(&review, &["--wide"]), report(Path::new(&reference()), &["--wide"]));
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

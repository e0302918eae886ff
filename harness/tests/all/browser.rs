//! What a real browser makes of report.html: Chromium without a window opens the page of the reference run from the disk. How
//! it looks is for people to see; this finds what can be measured: errors, missing figures, texts that are cut off or lie on each
//! other, a page that is wider than a phone, tables that don't sort, and anything that is fetched.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::{Migbench, skip};

const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// The browser, if there is one.
fn browser() -> Option<&'static str> {
    NAMES
        .into_iter()
        .find(|name| Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success()))
}

/// What it prints of a page: the document as it is after all scripts, and its log.
fn open(browser: &str, scratch: &Path, page: &str) -> (String, String) {
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"])
        .args(["--enable-logging=stderr", "--host-resolver-rules=MAP * ~NOTFOUND", "--dump-dom"])
        .arg(format!("--user-data-dir={}", scratch.join("profile").display()))
        .arg(format!("file://{}", scratch.join(page).display()))
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// Lines of its log that a page caused.
fn console(log: &str) -> Vec<&str> {
    log.lines().filter(|line| line.contains("CONSOLE")).collect()
}

#[test]
#[ignore = "opens a page in Chromium"]
fn the_page_works_in_a_browser() {
    let Some(browser) = browser() else {
        skip("no Chromium found; Debian: apt-get install chromium");
        return;
    };
    let scratch = tempfile::tempdir().unwrap();
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("../reports/reference/quick");
    let page = scratch.path().join("report.html");
    let arguments = ["report", reference.to_str().unwrap(), "--format", "html", "-o", page.to_str().unwrap()];
    let outcome = Migbench::new().args(arguments).run();
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);

    // By itself: no word in the console, and what the script adds is there.
    let (dom, log) = open(browser, scratch.path(), "report.html");
    assert!(dom.contains("Sort by this column"), "the script did not run: {log}");
    assert_eq!(console(&log), [""; 0]);
    // The console is heard at all: a page with an error says so.
    std::fs::write(scratch.path().join("broken.html"), "<script>throw new Error('heard')</script>").unwrap();
    let (_, log) = open(browser, scratch.path(), "broken.html");
    assert!(console(&log).iter().any(|line| line.contains("heard")), "{log}");

    std::fs::write(scratch.path().join("probe.html"), include_str!("browser/probe.html")).unwrap();
    let (dom, log) = open(browser, scratch.path(), "probe.html");
    let result = dom.split("<pre id=\"result\">").nth(1).and_then(|rest| rest.split('<').next());
    let result: Value =
        serde_json::from_str(result.unwrap_or_default()).unwrap_or_else(|error| panic!("{error}: {log}"));
    judge(&result, &std::fs::read_to_string(&page).unwrap());
}

fn judge(result: &Value, html: &str) {
    let list = |pointer: &str| result.pointer(pointer).unwrap().as_array().unwrap().clone();
    for screen in ["phone", "desk"] {
        let over = &result[screen];
        assert!(
            over["over"].as_i64().unwrap() <= 0 && over["found"] == serde_json::json!([]),
            "{screen}: {over}"
        );
    }
    assert_eq!(list("/requests"), [Value::Null; 0], "something was fetched");

    let figures = list("/figures");
    assert_eq!(figures.len(), html.matches("<figure id=").count());
    assert!(figures.len() >= 13, "{}", figures.len());
    for figure in &figures {
        assert_eq!(figure["wanted"], figure["drawn"], "{figure}");
        assert_eq!(figure["faults"], serde_json::json!([]), "{figure}");
    }

    let sorting = list("/sorting");
    assert!(sorting.len() > 10 && sorting.iter().all(|table| table["works"] == true), "{sorting:?}");

    // Without script: no button that would do nothing, all there to be read.
    let plain = &result["plain"];
    assert_eq!((&plain["buttons"], &plain["hidden"]), (&serde_json::json!(0), &serde_json::json!(0)));
    assert!(plain["drawings"].as_u64().unwrap() > 20, "{}", plain["drawings"]);
    let text = plain["text"].as_str().unwrap();
    for said in
        ["write-heavy", "full (baseline)", "95 %, n = 6", "memory hashed equal", "Glossary", "run quick"]
    {
        assert!(text.to_lowercase().contains(&said.to_lowercase()), "{said}");
    }
}

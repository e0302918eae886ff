//! The page as text; a browser looks at it in the tests of the harness.

use super::*;
use crate::figure::tests as figures;
use crate::sample::{self, data};

/// Names of elements that have no end.
const VOID: [&str; 4] = ["meta", "link", "br", "path"];

/// Each element is closed where it should be.
fn well_formed(html: &str) {
    let mut open: Vec<String> = Vec::new();
    let body = html.split("<script>").next().unwrap();
    let (head, rest) = body.split_once("<style>").unwrap();
    let text = format!("{head}{}", rest.split_once("</style>").unwrap().1);
    let mut rest = text.as_str();
    while let Some(start) = rest.find('<') {
        let end = start + rest[start..].find('>').unwrap();
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        let name = tag.trim_start_matches('/').split([' ', '\n', '/']).next().unwrap();
        if tag.starts_with('!')
            || tag.ends_with('/')
            || (VOID.contains(&name) && !tag.starts_with('/') && name != "path")
        {
            continue;
        }
        if tag.starts_with('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "before {}", &rest[..rest.len().min(200)]);
        } else {
            open.push(name.to_owned());
        }
    }
    assert_eq!(open, ["html", "body"], "the script follows");
}

/// The template also escapes what need not be.
fn text_of(html: &str) -> String {
    html.replace("&#x2f;", "/")
}

#[test]
fn the_reference_run_is_a_whole_page() {
    let report = Report::of(&figures::reference());
    let html = render(std::slice::from_ref(&report));
    well_formed(&html);
    for plot in report.figures.all() {
        assert!(html.contains(&format!("id=\"r1-{}\"", plot.id)), "{}", plot.id);
    }
    // Every figure of the tables, letter for letter.
    let tables = report.tables.iter().chain(report.sections.iter().flat_map(|section| &section.tables));
    let mut found = 0;
    for figure in tables.flat_map(|table| &table.rows).flat_map(|row| row.figures.iter().flatten()) {
        assert!(html.contains(&format!(">{}<", figure.value)), "{figure:?}");
        found += 1;
    }
    assert!(found > 50, "{found}");
    assert!(text_of(&html).contains(&report.manifest.command_line()));
    for reach in ["http://", "https://", "src=", "url(", "@import", "fetch(", "//cdn"] {
        let plain = html.replace("http://www.w3.org/2000/svg", "");
        assert!(!plain.contains(reach), "{reach}");
    }
    let mut ids = std::collections::BTreeSet::new();
    for id in html.split(" id=\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(ids.insert(id), "{id} is there twice");
    }
    for link in html.split("href=\"#").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(ids.contains(link), "#{link} leads nowhere");
    }
}

#[test]
fn a_small_page_is_laid_out_like_this() {
    let mut manifest = sample::manifest();
    manifest.comparisons.remove(0);
    let records = sample::records().into_iter().filter(|record| record.comparison == "write-heavy").collect();
    let html = render(&[Report::of(&data(manifest, records))]);
    well_formed(&html);
    let start = html.find("<main>").unwrap();
    let end = html.find("<section id=\"glossary\">").unwrap();
    // Drawings have snapshots of their own.
    let mut text = String::new();
    for (n, piece) in html[start..end].split("<svg").enumerate() {
        text += if n == 0 { piece } else { piece.split_once("</svg>").unwrap().1 };
    }
    insta::assert_snapshot!("page", text);
}

#[test]
fn what_weakens_a_report_stands_at_its_top() {
    let mut records = sample::records();
    records[0].verified = Some(false);
    records[5] =
        sample::Sample::new("read-heavy", "full").repetition(2).failed("precopy", "the link closed").build();
    let capped = records.iter_mut().filter(|record| record.run_id.starts_with("write-heavy-delta"));
    capped.for_each(|record| record.status = crate::record::Status::Capped);
    let html = render(&[Report::of(&data(sample::manifest(), records))]);
    well_formed(&html);
    let top = html.split("<nav").next().unwrap();
    assert!(
        top.contains("!! MEMORY DIFFERED") && top.contains("1 run failed") && top.contains("unsound"),
        "{top}"
    );
    assert!(html.contains("delta \u{2020}") && text_of(&html).contains("converged 0/5"));
    assert!(html.contains("precopy: the link closed"));
}

#[test]
fn several_reports_share_one_page() {
    let report = Report::of(&data(sample::manifest(), sample::records()));
    let html = render(&[report.clone(), report]);
    well_formed(&html);
    assert_eq!(html.matches("<article").count(), 2);
    assert_eq!(html.matches("<h2>Glossary").count(), 1);
}

#[test]
fn text_from_elsewhere_is_no_markup() {
    let evil = "<script>alert(1)</script><img src=x onerror=alert(1)>";
    let mut manifest = sample::manifest();
    let mut records = sample::records();
    evil.clone_into(&mut manifest.suite_text);
    evil.clone_into(&mut manifest.comparisons[1].name);
    manifest.comparisons[1].analysis =
        format!("{evil}\n\n[a](javascript:alert(1)) ![b](https://example.org/x.png)\n\n- *c*");
    manifest.host.cpu_model = Some(evil.to_owned());
    manifest.command = vec![evil.to_owned()];
    manifest.disturbances = vec![evil.to_owned()];
    for record in records.iter_mut().filter(|record| record.comparison == "write-heavy") {
        evil.clone_into(&mut record.comparison);
        record.flags = vec![evil.to_owned()];
    }
    let html = render(&[Report::of(&data(manifest, records))]);
    well_formed(&html);
    assert_eq!(html.matches("<script").count(), 1, "our own");
    assert!(!html.contains("<img") && !html.contains("javascript:alert") && !html.contains("example.org"));
    assert!(html.contains("<em>c</em>"), "Markdown is rendered");
}

#[test]
fn an_empty_run_directory_is_a_page_too() {
    let html = render(&[Report::of(&data(sample::manifest(), Vec::new()))]);
    well_formed(&html);
    assert!(html.contains("0 of 24 planned runs are recorded"));
}

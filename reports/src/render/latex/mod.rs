//! LaTeX to take into a paper: booktabs tables, and pgfplots figures of the same model as everywhere. It is a fragment for
//! `\input`, and names the packages that it needs.

mod escape;
mod figures;
mod tables;

use std::collections::BTreeSet;
use std::fmt::Write as _;

pub use escape::{number, text};

use crate::figure::{Plot, PlotKind, slug};
use crate::report::Report;
use crate::table::Table;

/// What a document must have before `\begin{document}`.
pub const PREAMBLE: &str = r"\usepackage[T1]{fontenc}
\usepackage{lmodern,textcomp}
\usepackage{booktabs}
\usepackage{graphicx}
\usepackage{pgfplots}
\usetikzlibrary{arrows.meta}
\pgfplotsset{compat=1.16}
";

/// Tables in a row between two page breaks: LaTeX keeps a few dozen that have found no place yet, and fails beyond.
const TABLES_A_BREAK: usize = 8;

/// What of reports goes into a paper: tables and figures by their names, nothing else. Without any, all of them and the remarks.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// Names of tables: a comparison, a section, or `section/comparison`.
    pub tables: Vec<String>,
    /// Names of figures, as the files of `--figures` have them.
    pub figures: Vec<String>,
}

/// No report has a table or figure of that name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no {what} {name}; there are {}", .known.join(", "))]
pub struct NotThere {
    what: &'static str,
    name: String,
    known: Vec<String>,
}

impl Choice {
    /// Whether something was chosen.
    #[must_use]
    pub fn is_made(&self) -> bool {
        !self.tables.is_empty() || !self.figures.is_empty()
    }

    /// Refuses names that no report knows.
    ///
    /// # Errors
    /// [`NotThere`] of the first.
    pub fn check(&self, reports: &[Report]) -> Result<(), NotThere> {
        let tables = || reports.iter().flat_map(named).map(|named| named.name);
        let figures = || reports.iter().flat_map(|report| report.figures.all()).map(|plot| plot.id.clone());
        let unknown = |asked: &[String], is_known: &dyn Fn(&String) -> bool| {
            asked.iter().find(|name| !is_known(name)).cloned()
        };
        let refused = |what, name, known| Err(NotThere { what, name, known });
        let is_table = |asked: &String| reports.iter().flat_map(named).any(|named| named.is_asked_for(asked));
        if let Some(name) = unknown(&self.tables, &is_table) {
            return refused("table", name, tables().collect());
        }
        match unknown(&self.figures, &|asked| figures().any(|name| name == *asked)) {
            Some(name) => refused("figure", name, figures().collect()),
            None => Ok(()),
        }
    }

    fn takes_table(&self, named: &Named<'_>) -> bool {
        !self.is_made() || self.tables.iter().any(|asked| named.is_asked_for(asked))
    }

    fn takes_figure(&self, plot: &Plot) -> bool {
        // Dozens of panels suit a page that can fold them away, and no paper; csv has their numbers.
        self.figures.contains(&plot.id) || (!self.is_made() && plot.kind != PlotKind::FurtherBars)
    }
}

/// A table with its name, what it is about, and the heading that stands before it.
struct Named<'a> {
    name: String,
    table: &'a Table,
    about: &'a str,
    heading: Option<&'a str>,
    /// The section that it stands in.
    section: Option<&'a str>,
}

impl Named<'_> {
    /// A section is all of its tables.
    fn is_asked_for(&self, asked: &str) -> bool {
        self.name == asked || self.section == Some(asked)
    }
}

/// Every table of a report.
fn named(report: &Report) -> Vec<Named<'_>> {
    let first = report.tables.iter().map(|table| Named {
        name: table.comparison.clone(),
        table,
        about: &report.subject,
        heading: None,
        section: None,
    });
    let rest = report.sections.iter().flat_map(|section| {
        section.tables.iter().enumerate().map(|(number, table)| {
            let of = if table.comparison.is_empty() { &table.title } else { &table.comparison };
            let heading = (number == 0).then_some(section.heading);
            let name = format!("{}/{of}", section.name);
            Named { name, table, about: section.about, heading, section: Some(section.name) }
        })
    });
    first.chain(rest).collect()
}

/// The reports, one after the other.
#[must_use]
pub fn render(reports: &[Report], choice: &Choice) -> String {
    let mut out = String::from("% Made by migbench for \\input. It needs this before \\begin{document}:\n");
    for line in PREAMBLE.lines() {
        let _ = writeln!(out, "%   {line}");
    }
    out.push_str("% Tables are as wide as the text at most; a margin of 2 cm on A4 leaves them legible.\n");
    let mut labels = UniqueLabels::default();
    for report in reports {
        out += &one(report, choice, &mut labels);
    }
    out
}

/// UniqueLabels of what stands in a document, each once: named after the run directory, so that those of two fragments don't meet.
#[derive(Default)]
struct UniqueLabels(BTreeSet<String>);

impl UniqueLabels {
    fn label(&mut self, kind: &str, report: &Report, name: &str) -> String {
        let directory = report.path.file_name().map(|name| slug(&name.to_string_lossy())).unwrap_or_default();
        let of = if directory.is_empty() { slug(&report.manifest.suite) } else { directory };
        let plain = format!("{kind}:{of}:{}", slug(name));
        let mut numbered = (2..).map(|number| format!("{plain}-{number}"));
        let mut label = plain.clone();
        while !self.0.insert(label.clone()) {
            label = numbered.next().unwrap_or_default();
        }
        label
    }
}

fn one(report: &Report, choice: &Choice, labels: &mut UniqueLabels) -> String {
    let suite = &report.manifest.suite;
    let chosen = choice.is_made();
    let mut out = format!("\n% {}\n", comment(&report.subject));
    if !chosen {
        for sentence in &report.sentences {
            let _ = writeln!(out, "\\par {}", text(sentence));
        }
    }
    let mut number = 0;
    for one in named(report).into_iter().filter(|one| choice.takes_table(one)) {
        let Named { name, table, about, heading, .. } = one;
        if let Some(heading) = heading {
            let _ = writeln!(out, "\n% {heading}");
        }
        out += &tables::table(table, suite, about, &labels.label("tab", report, &name));
        number += 1;
        if number % TABLES_A_BREAK == 0 {
            out.push_str("\\clearpage\n");
        }
    }
    let page = if chosen { "" } else { "\\clearpage\n" };
    out.push_str(page);
    for plot in report.figures.all().filter(|plot| choice.takes_figure(plot)) {
        out += &figures::figure(plot, &labels.label("fig", report, &plot.id));
    }
    out.push_str(page);
    let remarks = remarks(report);
    // Whoever quotes a table must know what weakens it.
    out + &if chosen {
        let lines = remarks.lines().filter(|line| !line.is_empty());
        lines.map(|line| format!("% {}\n", line.trim_start_matches("% "))).collect()
    } else {
        remarks
    }
}

/// What readers need to judge the figures.
fn remarks(report: &Report) -> String {
    let mut out = String::from(
        "\n% How to read the tables, what was proven, and what weakens them\n\\begin{itemize}\n",
    );
    let proven = [report.verification.proven.clone()];
    let alarms = report.verification.alarms.iter().map(|alarm| format!("!! {alarm}"));
    let warnings = report.warnings.iter().map(|warning| format!("warning: {warning}"));
    let all = report
        .legend
        .iter()
        .chain(&report.spreads)
        .cloned()
        .chain(report.scaling.iter().cloned())
        .chain(proven)
        .chain(alarms)
        .chain(warnings);
    for remark in all.chain([format!("host: {}", report.machine)]) {
        let _ = writeln!(out, "\\item {}", text(&remark));
    }
    let words: Vec<_> = report.manifest.command_words().iter().map(|word| text(word)).collect();
    let _ = writeln!(out, "\\item made by: \\texttt{{{}}}\n\\end{{itemize}}", words.join(" "));
    out
}

/// On one line.
fn comment(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::RunData;

    #[test]
    fn the_fragment_names_what_it_needs() {
        let text = render(&[], &Choice::default());
        for line in PREAMBLE.lines() {
            assert!(text.contains(&format!("%   {line}\n")), "{line}");
        }
    }

    fn sample() -> Report {
        let (manifest, records) = (crate::sample::manifest(), crate::sample::records());
        Report::of(&RunData { path: "results/one".into(), ..crate::sample::data(manifest, records) })
    }

    fn labels(text: &str) -> Vec<&str> {
        text.split("\\label{").skip(1).filter_map(|rest| rest.split('}').next()).collect()
    }

    #[test]
    fn a_paper_takes_what_it_names_and_its_labels_meet_none_of_another_directory() {
        let choice = Choice {
            tables: vec!["write-heavy".to_owned(), "latency".to_owned()],
            figures: vec!["write-heavy-rounds".to_owned()],
        };
        let mut other = sample();
        other.path = "results/other".into();
        let text = render(&[sample(), other], &choice);
        let found = labels(&text);
        assert!(found.iter().any(|label| label.starts_with("tab:other:latency-write-heavy")), "{found:?}");
        let unique: BTreeSet<_> = found.iter().collect();
        assert_eq!(unique.len(), found.len(), "{found:?}");
        assert!(!found.iter().any(|label| label.contains("cost") || label.contains("bars")), "{found:?}");
        // What must be known of it stands beside it, as comments.
        assert!(text.contains("% \\item host: ") && !text.contains("\n\\item"), "{text}");
        assert!(!text.contains("clearpage"));
        choice.check(&[sample()]).unwrap();
    }

    #[test]
    fn unknown_names_are_refused_with_those_that_there_are() {
        let choice = |table: &str, figure: &str| Choice {
            tables: vec![table.to_owned()],
            figures: vec![figure.to_owned()],
        };
        let said = choice("write-hevy", "x").check(&[sample()]).unwrap_err().to_string();
        assert!(
            said.starts_with("there is no table write-hevy; there are") && said.contains("latency/"),
            "{said}"
        );
        let said = choice("write-heavy", "x").check(&[sample()]).unwrap_err().to_string();
        assert!(said.starts_with("there is no figure x; there are") && said.contains("rounds"), "{said}");
    }
}

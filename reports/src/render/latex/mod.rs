//! LaTeX to take into a paper: booktabs tables, and pgfplots figures of the same model as everywhere. It is a fragment for
//! `\input`, and names the packages that it needs.

mod escape;
mod figures;
mod tables;

use std::fmt::Write as _;

pub use escape::{number, text};

use crate::figure::PlotKind;
use crate::report::Report;

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

/// The reports, one after the other.
#[must_use]
pub fn render(reports: &[Report]) -> String {
    let mut out = String::from("% Made by migbench for \\input. It needs this before \\begin{document}:\n");
    for line in PREAMBLE.lines() {
        let _ = writeln!(out, "%   {line}");
    }
    out.push_str("% Tables are as wide as the text at most; a margin of 2 cm on A4 leaves them legible.\n");
    for (number, report) in reports.iter().enumerate() {
        // Labels of several reports must not meet.
        let prefix = if reports.len() > 1 { format!("r{}:", number + 1) } else { String::new() };
        out += &one(report, &prefix);
    }
    out
}

fn one(report: &Report, prefix: &str) -> String {
    let suite = &report.manifest.suite;
    let mut out = format!("\n% {}\n", comment(&report.subject));
    let mut number = 0;
    let mut table = |out: &mut String, table, about: &str| {
        number += 1;
        *out += &tables::table(table, suite, about, &format!("tab:{prefix}{number}"));
        if number % TABLES_A_BREAK == 0 {
            out.push_str("\\clearpage\n");
        }
    };
    for sentence in &report.sentences {
        let _ = writeln!(out, "\\par {}", text(sentence));
    }
    for one in &report.tables {
        table(&mut out, one, &report.subject);
    }
    for section in &report.sections {
        let _ = writeln!(out, "\n% {}", section.heading);
        for one in &section.tables {
            table(&mut out, one, section.about);
        }
    }
    out.push_str("\\clearpage\n");
    // Dozens of panels suit a page that can fold them away, and no paper; csv has their numbers.
    for plot in report.figures.all().filter(|plot| plot.kind != PlotKind::FurtherBars) {
        out += &figures::figure(plot, &format!("fig:{prefix}{}", plot.id));
    }
    out.push_str("\\clearpage\n");
    out += &remarks(report);
    out
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
    let words: Vec<_> = report.command_words().iter().map(|word| text(word)).collect();
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

    #[test]
    fn the_fragment_names_what_it_needs() {
        let text = render(&[]);
        for line in PREAMBLE.lines() {
            assert!(text.contains(&format!("%   {line}\n")), "{line}");
        }
    }
}

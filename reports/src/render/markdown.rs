//! Markdown: the tables of the terminal, with everything that a reader elsewhere needs to judge and to repeat them.

use std::fmt::Write as _;

use super::sentence;
use crate::manifest::{ManifestComparison, MergedPart};
use crate::report::Report;
use crate::settings::{self, Flat};
use crate::table::{PrintedFigure, Row, RowKind, Table};

/// The report.
#[must_use]
pub fn render(report: &Report) -> String {
    let manifest = &report.manifest;
    let mut out = format!(
        "# {}\n\n{}.\n\n{}.\n\n",
        escape(&manifest.suite),
        escape(&report.subject),
        escape(&report.machine)
    );
    for alarm in &report.verification.alarms {
        out += &format!("> **{}**\n\n", escape(alarm));
    }
    if !report.sentences.is_empty() {
        out += &list(report.sentences.iter().map(|sentence| escape(sentence)));
    }
    let cells = manifest.comparisons.iter().flat_map(|plan| &plan.cells).map(|planned| &planned.cell);
    let shared = settings::shared(cells);
    for (table, plan) in report.tables.iter().zip(&manifest.comparisons) {
        out += &comparison(table, plan, &shared);
    }
    for section in &report.sections {
        out += &format!("## {}\n\n{}.\n\n", section.heading, sentence(section.about));
        for table in &section.tables {
            out += &format!("### {}\n\n", escape(&table.title));
            out += &grid(&escape(&table.head), table);
            if !table.notes.is_empty() {
                out += &list(table.notes.iter().map(|note| escape(note)));
            }
        }
    }
    if !report.scaling.is_empty() {
        out += "## Cost by size\n\n";
        out += &list(report.scaling.iter().map(|text| escape(text)));
    }
    if !report.legend.is_empty() {
        out += "## How to read the tables\n\n";
        out += &list(report.legend.iter().chain(&report.spreads));
    }
    out += &format!("## Verification\n\n{}.\n\n", escape(&report.verification.proven));
    if !report.verification.alarms.is_empty() {
        out += &list(report.verification.alarms.iter().map(|alarm| format!("**{}**", escape(alarm))));
    }
    if !report.warnings.is_empty() {
        out += "## Warnings\n\n";
        out += &list(report.warnings.iter().map(|warning| escape(&warning.to_string())));
    }
    out += "## Settings of all cells\n\n";
    out += &pairs("setting", shared);
    out += "## Host\n\n";
    out += &pairs("", settings::host(&manifest.host));
    out += &parts(&manifest.parts);
    out += &format!("## Command\n\n```sh\n{}\n```\n\n", manifest.command_line());
    let _ = writeln!(
        out,
        "{}; seed {}; suite {} (BLAKE3 {}); started {}.",
        manifest.tool.named(),
        manifest.seed,
        manifest.suite,
        manifest.suite_hash,
        manifest.started
    );
    out
}

fn comparison(table: &Table, plan: &ManifestComparison, everywhere: &Flat) -> String {
    let mut out = format!("## {}\n\n", escape(&table.title));
    if !table.analysis.trim().is_empty() {
        out += &format!("{}\n\n", table.analysis.trim());
    }
    out += &grid(&escape(&plan.compare), table);
    if !table.notes.is_empty() {
        out += &list(table.notes.iter().map(|note| escape(note)));
    }
    out + &own_settings(plan, everywhere)
}

fn grid(head: &str, table: &Table) -> String {
    let labels: Vec<_> = table.columns.iter().map(|column| escape(&column.label)).collect();
    let mut out = format!("| {head} | {} |\n", labels.join(" | "));
    let _ = writeln!(out, "|---|{}", "---:|".repeat(table.columns.len()));
    for row in &table.rows {
        let _ = writeln!(out, "| {} | {} |", label(row), figures(row, table.columns.len()).join(" | "));
    }
    out.push('\n');
    out
}

fn label(row: &Row) -> String {
    let mut label = match row.kind {
        RowKind::Control => format!("{} (control)", escape(&row.label)),
        _ => escape(&row.label),
    };
    for text in [&row.converged, &row.samples].into_iter().flatten() {
        let _ = write!(label, "<br>{text}");
    }
    if let Some(kind) = row.difference_spread() {
        let _ = write!(label, "<br>differences with {kind}");
    }
    label
}

fn figures(row: &Row, columns: usize) -> Vec<String> {
    if let Some(text) = &row.text {
        let mut cells = vec![String::new(); columns];
        if let Some(first) = cells.first_mut() {
            *first = escape(text);
        }
        return cells;
    }
    let show = |figure: &Option<PrintedFigure>| {
        let Some(figure) = figure else { return "-".to_owned() };
        let its_spread =
            figure.difference_spread.as_ref().map(|text| format!("; {text}")).unwrap_or_default();
        let difference =
            figure.difference.as_ref().map(|text| format!(" ({text}{its_spread})")).unwrap_or_default();
        let spread = figure.spread.as_ref().map(|text| format!("<br>{text}")).unwrap_or_default();
        format!("{}{difference}{spread}", figure.value)
    };
    row.figures.iter().map(show).collect()
}

/// What this comparison does not share with all others, and what its cells differ in.
fn own_settings(plan: &ManifestComparison, everywhere: &Flat) -> String {
    let (shared, cells) = settings::own(plan, everywhere);
    let common = (!shared.is_empty()).then(|| format!("all: {}", inline(&shared)));
    let lines = cells.iter().map(|(id, own)| format!("{}: {}", escape(id), inline(own)));
    "Cells:\n\n".to_owned() + &list(common.into_iter().chain(lines))
}

fn inline(settings: &Flat) -> String {
    let setting = |(path, value): (&String, &String)| format!("`{path}` {}", escape(value));
    settings.iter().map(setting).collect::<Vec<_>>().join(", ")
}

/// Which machine brought what; nothing where all is of one.
fn parts(parts: &[MergedPart]) -> String {
    if parts.is_empty() {
        return String::new();
    }
    let mut out =
        format!("{}\n\n| {} |\n|---|---|---:|---:|---:|---|\n", settings::PARTS, settings::PART.join(" | "));
    for part in parts {
        let _ = writeln!(out, "| {} |", settings::part(part).map(|text| escape(&text)).join(" | "));
    }
    out + "\n"
}

fn pairs(name: &str, pairs: Flat) -> String {
    let mut out = format!("| {name} | |\n|---|---|\n");
    for (name, value) in pairs {
        let _ = writeln!(out, "| {} | {} |", escape(&name), escape(&value));
    }
    out.push('\n');
    out
}

fn list<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let mut out: String = items.into_iter().map(|item| format!("- {}\n", item.as_ref())).collect();
    out.push('\n');
    out
}

/// Text from elsewhere must not become markup or end a cell of a table.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '|' | '*' | '`' | '<' | '[' | '\\' => out.extend(['\\', c]),
            '\n' | '\r' => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn foreign_text_stays_text() {
        assert_eq!(super::escape("a|b\n<c> not_steady"), "a\\|b \\<c> not_steady");
    }
}

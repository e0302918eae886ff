//! Plain text for a terminal or a pipe: no colour, and no line over the width but for a single word of a command or a
//! column that is wider.

use crate::report::Report;
use crate::shell;
use crate::table::{Column, PrintedFigure, Row, RowKind, Table};

/// What stands between two columns.
const GAP: usize = 1;

/// A line of the body: cells that share the columns' widths, or text across them. A cell has a value, and behind it how it
/// compares.
enum BodyLine {
    Cells(Vec<(String, String)>),
    Text(String),
}

/// How much of a report is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    /// A line for each cell, of the comparisons alone.
    Brief,
    /// All tables, with the spread of every value.
    Wide,
}

/// The report.
#[must_use]
pub fn render(report: &Report, width: usize) -> String {
    page(report, width, Detail::Wide)
}

/// The report without its long sections.
#[must_use]
pub fn brief(report: &Report, width: usize) -> String {
    page(report, width, Detail::Brief)
}

fn page(report: &Report, width: usize, detail: Detail) -> String {
    let brief = detail == Detail::Brief;
    let body = |tables: &[Table]| body(tables, width, detail, report.manifest.repetitions);
    let mut out = Vec::new();
    let (subject, machine) = (&report.subject, &report.machine);
    if length(subject) + length(machine) + 3 <= width {
        let pad = width - length(machine);
        out.push(format!("{subject:<pad$}{machine}"));
    } else {
        out.extend(wrap(subject, width, ""));
        out.extend(wrap(machine, width, ""));
    }
    out.push(String::new());
    for sentence in &report.sentences {
        out.extend(wrap(sentence, width, "  "));
    }
    if !report.sentences.is_empty() {
        out.push(String::new());
    }
    for tables in report.tables.chunk_by(same_columns) {
        out.extend(body(tables));
    }
    if report.tables.is_empty() {
        out.push("no comparison was planned".to_owned());
    }
    let sections = || report.sections.iter();
    for section in sections().filter(|section| section.brief || !brief) {
        out.extend(wrap(&format!("{}: {}", section.heading, section.about), width, "  "));
        out.push(String::new());
        for tables in section.tables.chunk_by(same_columns) {
            out.extend(body(tables));
        }
    }
    for text in &report.scaling {
        out.extend(wrap(text, width, "  "));
    }
    for text in report.legend.iter().chain(report.spreads.iter().filter(|_| !brief)) {
        out.extend(wrap(text, width, "  "));
    }
    out.push(String::new());
    out.extend(wrap(&report.verification.proven, width, "  "));
    for alarm in &report.verification.alarms {
        out.extend(wrap(&format!("!! {alarm}"), width, "   "));
    }
    for warning in &report.warnings {
        let text = if brief { format!("warning: {warning:#}") } else { format!("warning: {warning}") };
        out.extend(wrap(&text, width, "         "));
    }
    if brief && sections().any(|section| !section.brief) {
        let more: Vec<_> = sections().filter(|section| !section.brief).map(|section| section.name).collect();
        let start = format!("more tables ({}):", more.join(", "));
        let words = ["migbench", "report", "--wide"]
            .map(str::to_owned)
            .into_iter()
            .chain([shell::path(&report.path)]);
        let words = words.chain(report.manifest.reading().map(str::to_owned));
        out.extend(command(start, &words.collect::<Vec<_>>(), width));
    }
    out.extend(command("made by:".to_owned(), &report.manifest.command_words(), width));
    out.iter().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// Whether two tables can stand in one grid.
fn same_columns(a: &Table, b: &Table) -> bool {
    a.columns.iter().map(|column| &column.label).eq(b.columns.iter().map(|column| &column.label))
}

/// All comparisons in one grid, so that their columns stand below each other. Where the columns don't fit, they are dealt
/// out to panels, and the notes stand in the last one.
fn body(tables: &[Table], width: usize, detail: Detail, repetitions: u32) -> Vec<String> {
    let Some(first) = tables.first() else { return Vec::new() };
    let heading = heading(&first.columns);
    let mut lines: Vec<BodyLine> = heading.into_iter().map(BodyLine::Cells).collect();
    for table in tables {
        lines.extend(wrap(&table.title, width, " ").into_iter().map(BodyLine::Text));
        for (index, row) in table.rows.iter().enumerate() {
            let first_of = |kind| row.kind == kind && table.rows[..index].iter().all(|row| row.kind != kind);
            if first_of(RowKind::Control) {
                lines.push(BodyLine::Text(" controls:".to_owned()));
            }
            lines.extend(row_lines(row, width, detail, repetitions));
        }
        for note in &table.notes {
            lines.extend(wrap(&format!("  {note}"), width, "  ").into_iter().map(BodyLine::Text));
        }
        lines.push(BodyLine::Text(String::new()));
    }
    let lines = joined(lines);
    let panels = panels(&lines, first.columns.len() + 1, width);
    let mut out = Vec::new();
    for (index, panel) in panels.iter().enumerate() {
        let last = index + 1 == panels.len();
        let mut grid = grid(&lines, panel).into_iter();
        for line in &lines {
            match line {
                JoinedLine::Cells(cells) => {
                    // Lines that have nothing in this panel's columns but in another's leave no gap.
                    let filled = |columns: &[usize]| {
                        columns.iter().any(|&column| column > 0 && !cells[column].trim().is_empty())
                    };
                    let label_alone = index == 0 && cells.iter().skip(1).all(|cell| cell.trim().is_empty());
                    out.extend(grid.next().filter(|_| filled(panel) || label_alone));
                }
                JoinedLine::Text(text) if last || !text.starts_with("  ") => out.push(text.clone()),
                JoinedLine::Text(_) => {}
            }
        }
    }
    out
}

/// Labels of columns, broken at spaces over as many lines as the longest needs, and set to the bottom.
fn heading(columns: &[Column]) -> Vec<Vec<(String, String)>> {
    let broken: Vec<Vec<String>> = columns
        .iter()
        .map(|column| {
            let longest = column.label.split_whitespace().map(length).max().unwrap_or_default();
            wrap(&column.label, longest.max(10), "")
        })
        .collect();
    let height = broken.iter().map(Vec::len).max().unwrap_or_default();
    let line = |index: usize| {
        let cell = |words: &Vec<String>| {
            let skipped = height - words.len();
            index.checked_sub(skipped).and_then(|at| words.get(at)).cloned().unwrap_or_default()
        };
        std::iter::once(String::new()).chain(broken.iter().map(cell)).map(alone).collect()
    };
    (0..height).map(line).collect()
}

/// A cell that compares with nothing.
const fn alone(value: String) -> (String, String) {
    (value, String::new())
}

fn row_lines(row: &Row, width: usize, detail: Detail, repetitions: u32) -> Vec<BodyLine> {
    if let Some(text) = &row.text {
        return wrap(&format!("{}: {text}", row.label), width, " ").into_iter().map(BodyLine::Text).collect();
    }
    // A name that would push the figures out of the page stands on a line of its own.
    let long = length(&row.label) > width * 3 / 10;
    let (above, label) =
        if long { (wrap(&row.label, width, " "), " ") } else { (Vec::new(), row.label.as_str()) };
    let runs = if row.kind == RowKind::Capped { row.subject.runs[1] } else { row.subject.runs[0] };
    // Rows over several cells have no runs of their own.
    let of_one_cell = !row.subject.engine.is_empty();
    let fewer =
        of_one_cell && usize::try_from(repetitions).is_ok_and(|all| all != runs) && detail == Detail::Brief;
    let label = if fewer { format!("{label}, n = {runs}") } else { label.to_owned() };
    let line = |label: Option<String>, cell: &dyn Fn(&PrintedFigure) -> Option<String>, absent: &str| {
        let figures = row.figures.iter().map(|figure| match figure {
            Some(figure) => cell(figure).unwrap_or_default(),
            None => absent.to_owned(),
        });
        std::iter::once(label.unwrap_or_default()).chain(figures).map(alone).collect::<Vec<_>>()
    };
    let indented = |text: &Option<String>| text.as_ref().map(|text| format!("  {text}"));
    let mut value = line(Some(label), &|figure| Some(figure.value.clone()), "-");
    for (cell, figure) in value.iter_mut().skip(1).zip(&row.figures) {
        cell.1 = figure.as_ref().map(PrintedFigure::compared).unwrap_or_default();
    }
    let converged = line(indented(&row.converged), &|_| None, "");
    let mut below = vec![converged];
    if detail == Detail::Wide {
        below.push(line(indented(&row.samples), &|figure| figure.spread.clone(), ""));
    }
    below.retain(|line| line.iter().any(|(cell, _)| !cell.is_empty()));
    let above = above.into_iter().map(BodyLine::Text);
    above.chain(std::iter::once(value).chain(below).map(BodyLine::Cells)).collect()
}

/// A line whose values and comparisons are one text each, as wide in every line.
enum JoinedLine {
    Cells(Vec<String>),
    Text(String),
}

fn joined(lines: Vec<BodyLine>) -> Vec<JoinedLine> {
    let mut widths: Vec<(usize, usize)> = Vec::new();
    let body = lines.iter().skip_while(|line| matches!(line, BodyLine::Cells(_)));
    for line in body {
        let BodyLine::Cells(cells) = line else { continue };
        widths.resize(widths.len().max(cells.len()), (0, 0));
        for (width, (value, compared)) in widths.iter_mut().zip(cells) {
            *width = (width.0.max(length(value)), width.1.max(length(compared)));
        }
    }
    let cell = |((value, compared), (left, right)): ((String, String), (usize, usize))| match right {
        0 => value,
        _ => {
            let text = format!("{value:>left$} {compared}");
            let pad = (left + 1 + right).saturating_sub(length(&text));
            text + &" ".repeat(pad)
        }
    };
    let join = |line| match line {
        BodyLine::Text(text) => JoinedLine::Text(text),
        BodyLine::Cells(cells) => {
            let widths = widths.iter().copied().chain(std::iter::repeat((0, 0)));
            JoinedLine::Cells(cells.into_iter().zip(widths).map(cell).collect())
        }
    };
    lines.into_iter().map(join).collect()
}

/// Which columns stand in which panel: as many as fit, the first column in each.
fn panels(lines: &[JoinedLine], columns: usize, width: usize) -> Vec<Vec<usize>> {
    let widest = |column: usize| {
        let cells = lines.iter().filter_map(|line| match line {
            JoinedLine::Cells(cells) => cells.get(column).map(|cell| length(cell)),
            JoinedLine::Text(_) => None,
        });
        cells.max().unwrap_or_default()
    };
    let label = widest(0);
    let mut panels = Vec::new();
    let (mut panel, mut used) = (vec![0], label);
    for column in 1..columns {
        let more = GAP + widest(column);
        if used + more > width && panel.len() > 1 {
            panels.push(std::mem::replace(&mut panel, vec![0]));
            used = label;
        }
        panel.push(column);
        used += more;
    }
    panels.push(panel);
    panels
}

/// The cells of these columns, aligned, one text per [`BodyLine::Cells`].
fn grid(lines: &[JoinedLine], columns: &[usize]) -> Vec<String> {
    let cells = lines.iter().filter_map(|line| match line {
        JoinedLine::Cells(cells) => Some(cells),
        JoinedLine::Text(_) => None,
    });
    let row = |cells: &Vec<String>| {
        columns.iter().map(|&column| cells.get(column).cloned().unwrap_or_default()).collect()
    };
    super::grid(&cells.map(row).collect::<Vec<_>>(), 1, 1)
}

fn length(text: &str) -> usize {
    text.chars().count()
}

/// Broken at spaces, and within words that are longer than a line; lines after the first start with `indent`, and the first
/// as `text` does.
pub(crate) fn wrap(text: &str, width: usize, indent: &str) -> Vec<String> {
    let start = text.len() - text.trim_start().len();
    let mut lines = vec![text[..start].to_owned()];
    for word in text.split_whitespace() {
        let mut word = word;
        let Some(line) = lines.last_mut() else { break };
        let empty = line.trim().is_empty();
        if !empty && length(line) + 1 + length(word) <= width {
            line.push(' ');
            line.push_str(word);
            continue;
        }
        if empty {
            lines.pop();
        }
        let mut first = if empty && lines.is_empty() { &text[..start] } else { indent };
        loop {
            let room = width.saturating_sub(length(first)).max(1);
            let cut = word.char_indices().nth(room).map_or(word.len(), |(at, _)| at);
            lines.push(format!("{first}{}", &word[..cut]));
            (word, first) = (&word[cut..], indent);
            if word.is_empty() {
                break;
            }
        }
    }
    lines
}

/// A command over as many lines as it takes, each ended so that a shell reads them as one.
fn command(start: String, words: &[String], width: usize) -> Vec<String> {
    let mut lines = vec![start];
    for word in words {
        let Some(line) = lines.last_mut() else { break };
        // Two columns are kept for the end of the line. A word that is longer than a line stays whole: to cut a path would
        // make it useless.
        if length(line) + 1 + length(word) + 2 > width {
            line.push_str(" \\");
            lines.push(format!("  {word}"));
        } else {
            line.push(' ');
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wraps_at_spaces() {
        assert_eq!(wrap("p99.9 write response", 10, ""), ["p99.9", "write", "response"]);
        assert_eq!(wrap("  one two", 6, "  "), ["  one", "  two"]);
        assert_eq!(wrap("", 6, ""), [""]);
        assert_eq!(wrap("a bcdefghij k", 4, " "), ["a", " bcd", " efg", " hij", " k"]);
        assert_eq!(wrap("abcdefgh", 6, ""), ["abcdef", "gh"]);
    }

    #[test]
    fn columns_are_dealt_out_to_panels() {
        let lines = [JoinedLine::Cells(vec!["label".into(), "12345".into(), "12345".into(), "12345".into()])];
        assert_eq!(panels(&lines, 4, 23), [vec![0, 1, 2, 3]]);
        assert_eq!(panels(&lines, 4, 22), [vec![0, 1, 2], vec![0, 3]]);
        assert_eq!(panels(&lines, 4, 1), [vec![0, 1], vec![0, 2], vec![0, 3]]);
    }
}

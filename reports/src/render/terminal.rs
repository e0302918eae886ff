//! Plain text for a terminal or a pipe: no colour, and no line over the width but for a single word or column
//! that is wider.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, Table as Grid};

use crate::report::Report;
use crate::stalled;
use crate::table::{Figure, Row, RowKind, Table};

/// What stands between two columns.
const GAP: usize = 1;

/// A line of the body: cells that share the columns' widths, or text across them.
enum Line {
    Cells(Vec<String>),
    Text(String),
}

/// The report.
#[must_use]
pub fn render(report: &Report, width: usize) -> String {
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
    for tables in report.tables.chunk_by(|a, b| a.columns == b.columns) {
        out.extend(body(tables, width));
    }
    if report.tables.is_empty() {
        out.push("no comparison was planned".to_owned());
    }
    if !report.stalled.is_empty() {
        out.extend(wrap(stalled::HEADING, width, ""));
        for tables in report.stalled.chunk_by(|a, b| a.columns == b.columns) {
            out.extend(body(tables, width));
        }
    }
    for text in &report.scaling {
        out.extend(wrap(text, width, "  "));
    }
    for text in &report.legend {
        out.extend(wrap(text, width, "  "));
    }
    out.push(String::new());
    out.extend(wrap(&report.verification.proven, width, "  "));
    for alarm in &report.verification.alarms {
        out.extend(wrap(&format!("!! {alarm}"), width, "   "));
    }
    for warning in &report.warnings {
        out.extend(wrap(&format!("warning: {warning}"), width, "         "));
    }
    // Not wrapped: it is there to be copied.
    out.push(format!("made by: {}", report.command()));
    out.iter().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// All comparisons in one grid, so that their columns stand below each other. Where the columns don't fit, they are dealt
/// out to panels, and the notes stand in the last one.
fn body(tables: &[Table], width: usize) -> Vec<String> {
    let Some(first) = tables.first() else { return Vec::new() };
    let heading = heading(&first.columns);
    let mut lines: Vec<Line> = heading.into_iter().map(Line::Cells).collect();
    for table in tables {
        lines.push(Line::Text(table.title.clone()));
        for (index, row) in table.rows.iter().enumerate() {
            let first_of = |kind| row.kind == kind && table.rows[..index].iter().all(|row| row.kind != kind);
            if first_of(RowKind::Control) {
                lines.push(Line::Text(" controls:".to_owned()));
            }
            lines.extend(row_lines(row));
        }
        for note in &table.notes {
            lines.extend(wrap(&format!("  {note}"), width, "  ").into_iter().map(Line::Text));
        }
        lines.push(Line::Text(String::new()));
    }
    let panels = panels(&lines, first.columns.len() + 1, width);
    let mut out = Vec::new();
    for (index, panel) in panels.iter().enumerate() {
        let last = index + 1 == panels.len();
        let mut grid = grid(&lines, panel).into_iter();
        for line in &lines {
            match line {
                Line::Cells(_) => {
                    // Rows that have nothing in this panel's columns but in another's leave no gap.
                    out.extend(grid.next().filter(|text| !text.trim().is_empty()));
                }
                Line::Text(text) if last || !text.starts_with("  ") => out.push(text.clone()),
                Line::Text(_) => {}
            }
        }
    }
    out
}

/// Labels of columns, broken at spaces over as many lines as the longest needs, and set to the bottom.
fn heading(columns: &[&str]) -> Vec<Vec<String>> {
    let broken: Vec<Vec<String>> = columns.iter().map(|label| wrap(label, 10, "")).collect();
    let height = broken.iter().map(Vec::len).max().unwrap_or_default();
    let line = |index: usize| {
        let cell = |words: &Vec<String>| {
            let skipped = height - words.len();
            index.checked_sub(skipped).and_then(|at| words.get(at)).cloned().unwrap_or_default()
        };
        std::iter::once(String::new()).chain(broken.iter().map(cell)).collect()
    };
    (0..height).map(line).collect()
}

fn row_lines(row: &Row) -> Vec<Line> {
    if let Some(text) = &row.text {
        return vec![Line::Text(format!("{}  {text}", row.label))];
    }
    let line = |label: Option<String>, cell: &dyn Fn(&Figure) -> Option<String>, absent: &str| {
        let figures = row.figures.iter().map(|figure| match figure {
            Some(figure) => cell(figure).unwrap_or_default(),
            None => absent.to_owned(),
        });
        std::iter::once(label.unwrap_or_default()).chain(figures).collect::<Vec<_>>()
    };
    let indented = |text: &Option<String>| text.as_ref().map(|text| format!("  {text}"));
    let value = line(Some(row.label.clone()), &|figure| Some(figure.value.clone()), "-");
    let difference = line(indented(&row.converged), &|figure| figure.difference.clone(), "");
    let spread = line(indented(&row.samples), &|figure| figure.spread.clone(), "");
    let told = |line: &Vec<String>| line.iter().any(|cell| !cell.is_empty());
    std::iter::once(value).chain([difference, spread].into_iter().filter(told)).map(Line::Cells).collect()
}

/// Which columns stand in which panel: as many as fit, the first column in each.
fn panels(lines: &[Line], columns: usize, width: usize) -> Vec<Vec<usize>> {
    let widest = |column: usize| {
        let cells = lines.iter().filter_map(|line| match line {
            Line::Cells(cells) => cells.get(column).map(|cell| length(cell)),
            Line::Text(_) => None,
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

/// The cells of these columns, aligned, one text per [`Line::Cells`].
fn grid(lines: &[Line], columns: &[usize]) -> Vec<String> {
    let mut grid = Grid::new();
    grid.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    for line in lines {
        if let Line::Cells(cells) = line {
            grid.add_row(columns.iter().map(|&column| cells.get(column).cloned().unwrap_or_default()));
        }
    }
    for (index, column) in grid.column_iter_mut().enumerate() {
        if index == 0 {
            column.set_padding((0, 0));
        } else {
            column.set_padding((1, 0)).set_cell_alignment(CellAlignment::Right);
        }
    }
    grid.lines().collect()
}

fn length(text: &str) -> usize {
    text.chars().count()
}

/// Broken at spaces; lines after the first start with `indent`, and so does the first if `text` does.
fn wrap(text: &str, width: usize, indent: &str) -> Vec<String> {
    let start = text.len() - text.trim_start().len();
    let mut lines = vec![text[..start].to_owned()];
    for word in text.split_whitespace() {
        let Some(line) = lines.last_mut() else { break };
        let empty = line.trim().is_empty();
        if !empty && length(line) + 1 + length(word) > width {
            lines.push(format!("{indent}{word}"));
        } else {
            if !empty {
                line.push(' ');
            }
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
    }

    #[test]
    fn columns_are_dealt_out_to_panels() {
        let lines = [Line::Cells(vec!["label".into(), "12345".into(), "12345".into(), "12345".into()])];
        assert_eq!(panels(&lines, 4, 23), [vec![0, 1, 2, 3]]);
        assert_eq!(panels(&lines, 4, 22), [vec![0, 1, 2], vec![0, 3]]);
        assert_eq!(panels(&lines, 4, 1), [vec![0, 1], vec![0, 2], vec![0, 3]]);
    }
}

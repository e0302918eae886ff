//! One file per format. A format lays out the texts of a [`Report`] and computes no figure, so that the same figure reads
//! the same in each.

pub(crate) mod csv;
pub(crate) mod html;
pub(crate) mod json;
pub mod latex;
pub(crate) mod markdown;
pub mod svg;
pub(crate) mod terminal;
pub(crate) mod tidy;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement};

use crate::format::Format;
use crate::report::Report;

/// One text of all reports, one after the other; `None` of a format that has files ([`crate::export`]). `width` is for the
/// terminal.
#[must_use]
pub fn render(reports: &[Report], format: Format, width: usize) -> Option<String> {
    let each = |one: &dyn Fn(&Report) -> String| reports.iter().map(one).collect::<Vec<_>>().join("\n");
    Some(match format {
        Format::Terminal => each(&|report| report.terminal(width)),
        Format::Markdown => each(&markdown::render),
        // One document, not several one after the other.
        Format::Html => html::render(reports),
        Format::Latex => latex::render(reports, &latex::Choice::default()),
        Format::Csv => csv::render(reports),
        Format::Json => json::render(reports),
        _ => return None,
    })
}

/// Lines of rows whose columns stand below each other, so many blanks apart; from column `right` on they are aligned to the right.
pub(crate) fn grid(rows: &[Vec<String>], gap: u16, right: usize) -> Vec<String> {
    let mut grid = comfy_table::Table::new();
    grid.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    for row in rows {
        grid.add_row(row.iter().cloned().chain(std::iter::repeat_n(String::new(), columns - row.len())));
    }
    for (index, column) in grid.column_iter_mut().enumerate() {
        column.set_padding((if index == 0 { 0 } else { gap }, 0));
        if index >= right {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    grid.lines().collect()
}

/// A capital letter first.
pub(crate) fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |c| c.to_uppercase().chain(characters).collect())
}

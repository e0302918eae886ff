//! One file per format. A format lays out the texts of a [`Report`] and computes no figure, so that the same figure reads
//! the same in each.

pub mod csv;
pub mod html;
pub mod json;
pub mod latex;
pub mod markdown;
pub mod svg;
pub mod terminal;
pub mod tidy;

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
        Format::GithubActionBenchmark
        | Format::Bmf
        | Format::Openmetrics
        | Format::Prometheus
        | Format::HistoryCsv
        | Format::Junit
        | Format::Hlog
        | Format::Hgrm => return None,
    })
}

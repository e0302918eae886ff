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

use crate::report::Report;

/// A format that people read, or that carries what they read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportFormat {
    /// Plain text.
    Terminal,
    /// Markdown, with the host, all settings and the command.
    Markdown,
    /// One page with figures, which needs nothing but itself.
    Html,
    /// Tables and figures for a paper.
    Latex,
    /// A line per cell and metric.
    Csv,
    /// One object, for programs.
    Json,
}

impl ReportFormat {
    /// Every format with its name.
    pub const ALL: &'static [(&'static str, Self)] = &[
        ("terminal", Self::Terminal),
        ("markdown", Self::Markdown),
        ("html", Self::Html),
        ("latex", Self::Latex),
        ("csv", Self::Csv),
        ("json", Self::Json),
    ];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Terminal => "terminal",
            Self::Markdown => "markdown",
            Self::Html => "html",
            Self::Latex => "latex",
            Self::Csv => "csv",
            Self::Json => "json",
        }
    }

    /// The format of that name.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, format)| *format)
    }
}

/// One text of all reports, one after the other. `width` is for the terminal.
#[must_use]
pub fn render(reports: &[Report], format: ReportFormat, width: usize) -> String {
    let each = |one: &dyn Fn(&Report) -> String| reports.iter().map(one).collect::<Vec<_>>().join("\n");
    match format {
        ReportFormat::Terminal => each(&|report| terminal::render(report, width)),
        ReportFormat::Markdown => each(&markdown::render),
        // One document, not several one after the other.
        ReportFormat::Html => html::render(reports),
        ReportFormat::Latex => latex::render(reports),
        ReportFormat::Csv => csv::render(reports),
        ReportFormat::Json => json::render(reports),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_find_their_format() {
        for (name, format) in ReportFormat::ALL {
            assert_eq!((ReportFormat::find(name), format.name()), (Some(*format), *name));
        }
        assert_eq!(ReportFormat::find("pdf"), None);
    }
}

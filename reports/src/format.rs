//! The formats of a report, each with the one name by which it is asked for: those that people read, and those of other
//! programs.

use std::fmt;

/// A format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
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
    /// Two files for `github-action-benchmark`: one where smaller is better, one where bigger is.
    GithubActionBenchmark,
    /// Bencher Metric Format.
    Bmf,
    /// `OpenMetrics` text.
    Openmetrics,
    /// Text of Prometheus, for the textfile collector of `node_exporter`.
    Prometheus,
    /// A line per commit and metric, added to what the file holds.
    HistoryCsv,
    /// `JUnit` XML: a test case per gate, proof and planned run.
    Junit,
    /// `HdrHistogram` interval logs: a file for each operation and phase of each cell.
    Hlog,
    /// `HdrHistogram` percentile files, as many.
    Hgrm,
}

impl Format {
    /// Every format with its name.
    pub const ALL: &'static [(&'static str, Self)] = &[
        ("terminal", Self::Terminal),
        ("markdown", Self::Markdown),
        ("html", Self::Html),
        ("latex", Self::Latex),
        ("csv", Self::Csv),
        ("json", Self::Json),
        ("github-action-benchmark", Self::GithubActionBenchmark),
        ("bmf", Self::Bmf),
        ("openmetrics", Self::Openmetrics),
        ("prometheus", Self::Prometheus),
        ("history-csv", Self::HistoryCsv),
        ("junit", Self::Junit),
        ("hlog", Self::Hlog),
        ("hgrm", Self::Hgrm),
    ];

    /// The format of that name.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, format)| *format)
    }

    /// What the file is called of a format that is one text of all reports ([`crate::render`]); `None` of those that are made of
    /// one run directory and name their files themselves ([`crate::export`]).
    #[must_use]
    pub const fn file(self) -> Option<&'static str> {
        match self {
            Self::Terminal => Some("report.txt"),
            Self::Markdown => Some("report.md"),
            Self::Html => Some("report.html"),
            Self::Latex => Some("report.tex"),
            Self::Csv => Some("report.csv"),
            Self::Json => Some("report.json"),
            Self::GithubActionBenchmark
            | Self::Bmf
            | Self::Openmetrics
            | Self::Prometheus
            | Self::HistoryCsv
            | Self::Junit
            | Self::Hlog
            | Self::Hgrm => None,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::ALL.iter().find(|(_, format)| format == self).map_or("", |(name, _)| name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_find_their_format() {
        for (name, format) in Format::ALL {
            assert_eq!((Format::find(name), format.to_string().as_str()), (Some(*format), *name));
        }
        assert_eq!(Format::find("pdf"), None);
    }
}

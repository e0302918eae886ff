//! The formats of a report, each with the one name by which it is asked for: those that people read, and those of other
//! programs.

use migbench_scenarios::words;

words! {
    /// A format.
    Format {
        /// Plain text.
        Terminal = "terminal",
        /// Markdown, with the host, all settings and the command.
        Markdown = "markdown",
        /// One page with figures, which needs nothing but itself.
        Html = "html",
        /// Tables and figures for a paper.
        Latex = "latex",
        /// A line per cell and metric.
        Csv = "csv",
        /// One object, for programs.
        Json = "json",
        /// Two files for `github-action-benchmark`: one where smaller is better, one where bigger is.
        GithubActionBenchmark = "github-action-benchmark",
        /// Bencher Metric Format.
        Bmf = "bmf",
        /// `OpenMetrics` text.
        Openmetrics = "openmetrics",
        /// Text of Prometheus, for the textfile collector of `node_exporter`.
        Prometheus = "prometheus",
        /// A line per commit and metric, added to what the file holds.
        HistoryCsv = "history-csv",
        /// `JUnit` XML: a test case per gate, proof and planned run.
        Junit = "junit",
        /// `HdrHistogram` interval logs: a file for each operation and phase of each cell.
        Hlog = "hlog",
        /// `HdrHistogram` percentile files, as many.
        Hgrm = "hgrm",
    }
}

impl Format {
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
            _ => None,
        }
    }
}

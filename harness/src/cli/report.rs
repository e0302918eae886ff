//! `migbench report`: tables for people, from the records of run directories alone.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::builder::PossibleValuesParser;
use migbench_reports::render::{self, ReportFormat};
use migbench_reports::replace::replace;

use super::reading::Reading;
use super::{Exit, print, width};

/// Prints the tables of run directories.
///
/// Works from the records alone, also after an interruption, and on a machine without KVM. Several directories stand one
/// after the other: their runs are never mixed, since they were not made in the same blocks (`migbench export` has all
/// runs for those who want to). The exit status is 1 when a run failed or something that was to be proven was not.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  migbench report results/fast
  migbench report results/fast --format markdown -o table.md
  migbench report results/fast --format latex -o report.tex     # for \\input; its head says what it needs
  migbench report results/fast --format csv -o figures.csv      # a line per cell and metric
  migbench report results/fast --format html -o fast.html
  migbench report results/fast --figures figures
  migbench report results/monday results/tuesday")]
pub struct ReportArgs {
    /// Run directories: what `migbench run -o` was given, or its last line names.
    #[arg(required = true, value_name = "DIR")]
    directories: Vec<PathBuf>,
    /// In which format; all show the same figures. Markdown is what report.md holds, html what report.html does: a page of its
    /// own, with curves and bars. csv and json are for programs and have every metric.
    #[arg(long, default_value = ReportFormat::Terminal.name(), value_parser = PossibleValuesParser::new(ReportFormat::ALL.iter().map(|(name, _)| *name)))]
    format: String,
    /// On a terminal, the comparison tables and their summary alone, as at the end of a run.
    #[arg(long)]
    brief: bool,
    /// Where it goes, instead of standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Also writes every figure of the page to a file of its own, as SVG.
    #[arg(long, value_name = "DIR")]
    figures: Option<PathBuf>,
    #[command(flatten)]
    reading: Reading,
}

impl ReportArgs {
    pub fn execute(self) -> anyhow::Result<Exit> {
        let reports = self
            .directories
            .iter()
            .map(|directory| self.reading.report(directory))
            .collect::<Result<Vec<_>, _>>()?;
        let format = ReportFormat::find(&self.format).context("clap let an unknown format through")?;
        if self.brief && format != ReportFormat::Terminal {
            eprintln!("error: --brief is for --format terminal; {} has everything", self.format);
            return Ok(Exit::Usage);
        }
        let width = if self.output.is_some() { super::PIPE_WIDTH } else { width() };
        let text = if self.brief {
            reports.iter().map(|report| report.brief(width)).collect::<Vec<_>>().join("\n")
        } else {
            render::render(&reports, format, width)
        };
        match &self.output {
            Some(path) => replace(path, text.as_bytes())
                .with_context(|| format!("can't write {}; name another file with -o", path.display()))?,
            None => print(&text)?,
        }
        if let Some(directory) = &self.figures {
            write_figures(&reports, directory)?;
        }
        let sound = reports.iter().all(migbench_reports::report::Report::sound);
        Ok(if sound { Exit::Success } else { Exit::Failure })
    }
}

/// A file for each figure; those of a second directory begin with its number.
fn write_figures(reports: &[migbench_reports::report::Report], directory: &Path) -> anyhow::Result<()> {
    let failed =
        |path: &Path| format!("can't write {}; name another directory with --figures", path.display());
    std::fs::create_dir_all(directory).with_context(|| failed(directory))?;
    let files = render::svg::files(reports);
    for (name, text) in &files {
        let path = directory.join(name);
        replace(&path, text.as_bytes()).with_context(|| failed(&path))?;
    }
    eprintln!("{} figures in {}", files.len(), directory.display());
    Ok(())
}

//! `migbench report`: run directories in every format, from their records alone.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use migbench_reports::export::{Source, export};
use migbench_reports::format::Format;
use migbench_reports::render;
use migbench_reports::render::latex::{self, Choice};
use migbench_reports::replace::replace;
use migbench_reports::report::Report;
use migbench_reports::store::RunData;

use super::gate::{Accepting, judgement_of, load};
use super::reading::Reading;
use super::{Exit, PIPE_WIDTH, UsageError, last_run, print, width};

/// Prints the tables of run directories, or writes what other programs read of them.
///
/// Works from the records alone, also after an interruption, and on a machine without KVM. Several directories stand one
/// after the other: their runs are never mixed, since they were not made in the same blocks.
///
/// Formats that are one text go to standard output, or into the file that -o names; the others, and several at once, into the
/// directory that it names. For dashboards, CI servers and change-point tools, capped, failed and missing runs are no figures, and are
/// counted beside them (runs_capped, runs_failed, runs_missing). Of a directory of `migbench ab` there is a gate_status for each
/// gate, as `migbench compare --gate` would end with it, by DIR-again too where an alarm was measured again.
///
/// The exit status is 1 when a run failed or something that was to be proven was not; it is 0 where only formats with files of their
/// own were asked for, which say so themselves.
#[derive(Debug, clap::Args)]
#[command(after_help = "Formats:
  terminal, markdown, html, latex   for people, with the same figures; html has curves and bars, latex is for \\input
  csv, json                         for programs, with every metric

Formats with files of their own:
  github-action-benchmark  smaller-is-better.json, bigger-is-better.json (tools customSmallerIsBetter, customBiggerIsBetter)
  bmf                      bmf.json, Bencher Metric Format with intervals; of a verdict the number alone
  openmetrics              openmetrics.txt, OpenMetrics 1.0
  prometheus               migbench-SUITE.prom, for the textfile collector of node_exporter
  history-csv              history.csv, a line per commit and metric, added to the file that is there
  junit                    junit.xml, a test case per gate, proof and planned run
  hlog                     COMPARISON-CELL-OPERATION-PHASE.hlog, HdrHistogram interval logs with an interval a run
  hgrm                     the same names with .hgrm, percentiles of all runs together in us, for HdrHistogram's plotter

Examples:
  migbench report                                                the last run
  migbench report results/fast --format markdown -o table.md
  migbench report results/fast --format latex -o report.tex      its head says what it needs
  migbench report results/fast --format latex --table write-heavy --figure differences -o paper.tex
  migbench report results/fast --figures figures                 the figures alone
  migbench report results/fast --format junit,openmetrics -o ci  for CI servers and dashboards
  migbench report results/fast --format hlog,hgrm -o latencies   for HdrHistogram's own tools
  migbench report results/monday results/tuesday")]
pub struct ReportArgs {
    /// Run directories: what `migbench run -o` was given, or its last line names. Without one the last run.
    #[arg(value_name = "DIR")]
    directories: Vec<PathBuf>,
    /// One or more formats, separated by commas [default: terminal].
    #[arg(long, value_delimiter = ',', value_parser = formats())]
    format: Vec<Format>,
    /// On a terminal, also the spread of every value, and the tables of latencies, costs, pages and stalls.
    #[arg(long)]
    wide: bool,
    /// Where it goes, instead of standard output: a file; of formats with files of their own and of several formats a directory,
    /// made if need be.
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Writes every figure of the page to a file of its own, as SVG, and nothing else unless --format or -o asks for it.
    #[arg(long, value_name = "DIR")]
    figures: Option<PathBuf>,
    /// Of --format latex, only this table, and others and figures that are named so: a comparison's name, latency, or latency/COMPARISON.
    #[arg(long, value_name = "NAME")]
    table: Vec<String>,
    /// Of --format latex, only this figure, and others and tables that are named so: what --figures calls the file of one directory.
    #[arg(long, value_name = "NAME")]
    figure: Vec<String>,
    #[command(flatten)]
    accepting: Accepting,
    #[command(flatten)]
    reading: Reading,
}

fn formats() -> impl TypedValueParser<Value = Format> {
    let names = Format::ALL.iter().map(|(name, _)| *name);
    PossibleValuesParser::new(names).try_map(|name| Format::find(&name).ok_or("no such format"))
}

impl ReportArgs {
    pub fn execute(mut self) -> anyhow::Result<Exit> {
        let figures_alone = self.figures.is_some() && self.output.is_none() && !self.wide;
        if self.format.is_empty() && !figures_alone {
            self.format.push(Format::Terminal);
        }
        let (texts, exports): (Vec<Format>, Vec<Format>) =
            self.format.iter().partition(|format| format.file().is_some());
        self.refuse_what_does_not_go_together(&exports)?;
        if self.directories.is_empty() {
            self.directories.push(last_run::or_last(None)?);
        }
        let mut sound = true;
        if !texts.is_empty() || self.figures.is_some() {
            let reports = self.directories.iter().map(|directory| self.reading.report(directory));
            let reports = reports.collect::<Result<Vec<_>, _>>()?;
            self.write_texts(&reports, &texts)?;
            if let Some(directory) = &self.figures {
                write_figures(&reports, directory)?;
            }
            sound = reports.iter().all(Report::sound);
        }
        if let ([one], Some(output), false) = (&self.directories[..], &self.output, exports.is_empty()) {
            self.export(&load(self.reading, one)?, &exports, output)?;
        }
        Ok(if sound { Exit::Success } else { Exit::Failure })
    }

    fn refuse_what_does_not_go_together(&self, exports: &[Format]) -> Result<(), UsageError> {
        let names =
            |formats: &[Format]| formats.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let chosen = !self.table.is_empty() || !self.figure.is_empty();
        let refused = if chosen && self.format[..] != [Format::Latex] {
            "--table and --figure choose what --format latex writes; name that format alone".to_owned()
        } else if self.wide && self.format[..] != [Format::Terminal] {
            format!("--wide is for --format terminal, and changes nothing of {}", names(&self.format))
        } else if self.output.is_none() && !exports.is_empty() {
            format!("{} has files of its own: name their directory with -o", names(exports))
        } else if self.output.is_none() && self.format.len() > 1 {
            format!("{} are a file each: name their directory with -o", names(&self.format))
        } else if self.directories.len() > 1 && !exports.is_empty() {
            format!("{} is made of one run directory: name one at a time", names(exports))
        } else {
            return Ok(());
        };
        Err(UsageError(refused))
    }

    fn write_texts(&self, reports: &[Report], formats: &[Format]) -> anyhow::Result<()> {
        let width = if self.output.is_some() { PIPE_WIDTH } else { width() };
        let brief = || reports.iter().map(|report| report.brief(width)).collect::<Vec<_>>().join("\n");
        let directory = self.output.as_ref().filter(|path| self.format.len() > 1 || path.is_dir());
        if let Some(directory) = directory {
            std::fs::create_dir_all(directory).with_context(|| cannot(directory, "directory with -o"))?;
        }
        for format in formats {
            let text = match format {
                Format::Terminal if !self.wide => Some(brief()),
                Format::Latex => {
                    let choice = Choice { tables: self.table.clone(), figures: self.figure.clone() };
                    choice.check(reports).map_err(|error| UsageError(error.to_string()))?;
                    Some(latex::render(reports, &choice))
                }
                _ => render::render(reports, *format, width),
            };
            let (text, name) = (text.unwrap_or_default(), format.file().unwrap_or_default());
            match (&self.output, directory) {
                (_, Some(directory)) => {
                    let path = directory.join(name);
                    replace(&path, text.as_bytes()).with_context(|| cannot(&path, "directory with -o"))?;
                    print(&path.display().to_string())?;
                }
                (Some(path), None) => {
                    replace(path, text.as_bytes()).with_context(|| cannot(path, "file with -o"))?;
                }
                (None, None) => print(&text)?,
            }
        }
        Ok(())
    }

    fn export(&self, data: &RunData, formats: &[Format], output: &Path) -> anyhow::Result<()> {
        let judgement = judgement_of(data, &self.accepting, self.reading)?;
        let source = Source::new(&data.manifest, &data.records, judgement.as_ref());
        if source.figures.is_empty() {
            note!("warning: no run of this directory ended ok, so that there are no figures");
        }
        for path in export(&source, formats, output)? {
            print(&path.display().to_string())?;
        }
        Ok(())
    }
}

fn cannot(path: &Path, other: &str) -> String {
    format!("can't write {}; name another {other}", path.display())
}

/// A file for each figure; those of a second directory begin with its number.
fn write_figures(reports: &[Report], directory: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory).with_context(|| cannot(directory, "directory with --figures"))?;
    let files = render::svg::files(reports);
    for (name, text) in &files {
        let path = directory.join(name);
        replace(&path, text.as_bytes()).with_context(|| cannot(&path, "directory with --figures"))?;
    }
    note!("{} figures in {}", files.len(), directory.display());
    Ok(())
}

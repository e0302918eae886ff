//! `migbench export`: the figures of a run directory in the formats of other programs.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use migbench_reports::export::{Format, Source, export};

use super::gate::{Accepting, judgement_of};
use super::reading::Reading;
use super::{Exit, print};

/// Writes the figures of a run directory, and what is said of it, for other programs: dashboards, CI servers, change-point tools.
///
/// From the records alone. Capped, failed and missing runs are no figures, and are counted beside them (runs_capped, runs_failed,
/// runs_missing). Of a directory of `migbench ab` there is a gate_status for each gate, as `migbench gate` would end with it, by
/// DIR-again too where an alarm was measured again. history-csv adds to the file that is there.
#[derive(Debug, clap::Args)]
#[command(after_help = "Files by format:
  github-action-benchmark  smaller-is-better.json, bigger-is-better.json (tools customSmallerIsBetter, customBiggerIsBetter)
  bmf                      bmf.json, Bencher Metric Format with intervals; of a verdict the number alone
  openmetrics              openmetrics.txt, OpenMetrics 1.0
  prometheus               migbench-SUITE.prom, for the textfile collector of node_exporter
  history-csv              history.csv, a line per commit and metric
  junit                    junit.xml, a test case per gate, proof and planned run
  hlog                     COMPARISON-CELL-OPERATION-PHASE.hlog, HdrHistogram interval logs with an interval a run
  hgrm                     the same names with .hgrm, percentiles of all runs together in us, for HdrHistogram's plotter

Examples:
  migbench export results/last --format junit -o ci
  migbench export results/last --format hlog,hgrm -o latencies
  migbench export results/last --format bmf,openmetrics,history-csv -o exports
  migbench export results/last --format prometheus -o collected    the collector's directory")]
pub struct Export {
    /// The run directory: what `migbench run -o` was given, or its last line names.
    directory: PathBuf,
    /// One or more formats, separated by commas.
    #[arg(long, required = true, value_delimiter = ',', value_parser = PossibleValuesParser::new(Format::ALL.iter().map(|(name, _)| *name)))]
    format: Vec<String>,
    /// Where the files go; made if need be.
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    #[command(flatten)]
    accepting: Accepting,
    #[command(flatten)]
    reading: Reading,
}

impl Export {
    pub fn execute(self) -> anyhow::Result<Exit> {
        let data = self.reading.data(&self.directory)?;
        if let Some(line) = data.truncated {
            eprintln!("warning: line {line} of the records was cut off and is left out");
        }
        let judgement = judgement_of(&data, &self.accepting, self.reading)?;
        let source = Source::new(&data.manifest, &data.records, judgement.as_ref());
        if source.figures.is_empty() {
            eprintln!("warning: no run of this directory ended ok, so that there are no figures");
        }
        for (name, format) in Format::ALL {
            if self.format.iter().any(|wanted| wanted == name) {
                for path in export(&source, *format, &self.output)? {
                    print(&path.display().to_string())?;
                }
            }
        }
        Ok(Exit::Success)
    }
}

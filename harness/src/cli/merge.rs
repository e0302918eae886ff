//! `migbench merge`: slices of a frozen plan as one run directory.

use std::path::PathBuf;

use migbench_reports::merge;
use migbench_reports::store::RunDirectory;

use super::reading::Reading;
use super::{Exit, keep, print, width};

const EXAMPLES: &str = "\
Examples:
  migbench merge slices/* -o results/nightly
  migbench merge slices/1 slices/3 --partial -o results/so-far

Exit status, besides the usual: 3 slices or runs are missing; 5 plans, builds, schemas of records, numbers of slices or classes
of hosts differ, or cells would count twice.";

/// Merges the slices of a plan into one run directory.
///
/// It has the same cells and as many records as one machine would have given, and keeps each host's description. Needs no KVM.
/// Refused is what does not go together: other plans, the same slice twice, hosts that are not alike (CPU, number of CPUs,
/// memory, kernel, KVM), and, without --partial, what is not whole.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Merge {
    /// Run directories that `migbench run --plan` made.
    #[arg(required = true, value_name = "DIR")]
    slices: Vec<PathBuf>,
    /// The run directory to make, which must not hold records yet.
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Merge although slices or runs are missing. The report says how many, and the exit status is 1, since what is missing is
    /// not proven.
    #[arg(long)]
    partial: bool,
    #[command(flatten)]
    reading: Reading,
}

impl Merge {
    pub fn execute(self) -> anyhow::Result<Exit> {
        let slices = merge::load(&self.slices, self.reading.accept())?;
        let merged = merge::merge(&slices, self.partial, super::words())?;
        for text in &merged.missing {
            note!("warning: {text}");
        }
        RunDirectory::whole(&self.output, &merged.manifest, &merged.records)?;
        let report = self.reading.report(&self.output)?;
        let kept = keep(&report, &self.output);
        print(&report.brief(width()))?;
        print(&kept?)?;
        Ok(if report.sound() { Exit::Success } else { Exit::Failure })
    }
}

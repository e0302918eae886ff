//! The command line: one sub-command per file, arguments and output only.

mod ab;
mod advice;
mod artifact;
mod compare;
mod doctor;
mod export;
mod gate;
mod gate_study;
mod history;
mod list;
mod merge;
mod migrate;
mod nightly;
mod node;
mod plan;
mod progress;
mod reading;
mod report;
mod reproduce;
mod run;
mod selection;
mod show;
mod simulate;
mod track;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use migbench_reports::artifact::ArtifactError;
use migbench_reports::frozen::PlanFileError;
use migbench_reports::history::HistoryError;
use migbench_reports::judge::accepted::AcceptError;
use migbench_reports::judge::{JudgeError, Verdict};
use migbench_reports::merge::MergeError;
use migbench_reports::store::StoreError;
use migbench_reports::study::StudyError;
use migbench_scenarios::SuiteError;

use crate::runner::admission::Refusal;
use crate::runner::array::ArrayError;
use crate::runner::suite::SuiteRunError;

/// How the command ends, beside success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Everything went as asked.
    Success,
    /// The harness failed, or a run did.
    Failure,
    /// Usage or configuration.
    Usage,
    /// All is well as far as it goes, and it is too little.
    TooLittle,
    /// Something became worse.
    Regression,
    /// Two things that do not go together.
    NotComparable,
}

impl Exit {
    /// The status of the process. What they mean stands in reports/METRICS.md, and in [`EXAMPLES`] in short.
    const fn status(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::TooLittle => 3,
            Self::Regression => 4,
            Self::NotComparable => 5,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.status())
    }
}

impl From<Verdict> for Exit {
    fn from(verdict: Verdict) -> Self {
        match verdict.status() {
            0 => Self::Success,
            3 => Self::TooLittle,
            4 => Self::Regression,
            _ => Self::Failure,
        }
    }
}

const EXAMPLES: &str = "\
Examples:
  migbench run quick                       both engines, two workloads, two to three minutes
  migbench run quick --set link.rate=500Mbit/s -o results/slow
                                           the same over a slower link, into that directory
  migbench ab nightly --base binary=old/migbench --new binary=new/migbench
                                           is the new build slower?
  migbench migrate --engine delta --workload write-heavy --memory 256MiB --link 1Gbit/s
  migbench report results/slow             the table again, on any machine
  migbench show results/slow               its runs; with a run's id its rounds and errors
  migbench export results/slow --format junit,openmetrics -o ci
                                           for dashboards and CI servers
  migbench compare results/monday results/tuesday
                                           two directories, cell by cell
  migbench gate results/ab                 what ab has measured: did a gated metric become worse? 0 no, 4 yes, 3 can't tell
  migbench plan nightly -o plan.json       for many machines: run --plan on each, then merge
  migbench reproduce bhardwaj2019          a published result beside ours
  migbench artifact results/slow           packed for reviewers: records, report, hashes, instructions
  migbench list                            suites, workloads, engines; keys for --set
  migbench doctor                          is this host fit to measure?

Sizes are written like 256MiB, rates like 1Gbit/s, times like 100ms; a bare 1G is refused.

Exit status: 0 success; 1 the harness or a run failed, or a proof did; 2 usage or configuration;
3 not enough evidence; 4 regression; 5 not comparable.";

/// Measures live migration of KVM guests.
///
/// Starts real guests running memory workloads, migrates them between two processes with the baseline full-page and
/// the delta pre-copy engine, verifies that nothing was lost, and compares what it cost.
#[derive(Debug, Parser)]
#[command(name = "migbench", version, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: CliCommand,
}

#[derive(Debug, Subcommand)]
enum CliCommand {
    Run(Box<run::RunArgs>),
    Plan(plan::Freeze),
    Merge(merge::Merge),
    Ab(Box<ab::Ab>),
    Migrate(migrate::Migrate),
    Track(track::Track),
    Report(report::ReportArgs),
    Compare(compare::Compare),
    Gate(gate::Gate),
    Show(show::Show),
    Export(export::Export),
    Reproduce(reproduce::Reproduce),
    Artifact(artifact::ArtifactCommand),
    Nightly(nightly::Nightly),
    History(history::History),
    List(list::List),
    Doctor(doctor::Doctor),
    #[command(hide = true)]
    GateStudy(gate_study::GateStudy),
    #[command(hide = true)]
    Node(node::NodeArgs),
}

/// Parses the arguments, does what they say, prints errors.
#[must_use]
pub fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        CliCommand::Run(command) => command.execute(),
        CliCommand::Plan(command) => command.execute(),
        CliCommand::Merge(command) => command.execute(),
        CliCommand::Ab(command) => command.execute(),
        CliCommand::Migrate(command) => command.execute(),
        CliCommand::Track(command) => command.execute(),
        CliCommand::Report(command) => command.execute(),
        CliCommand::Compare(command) => command.execute(),
        CliCommand::Gate(command) => command.execute(),
        CliCommand::Show(command) => command.execute(),
        CliCommand::Export(command) => command.execute(),
        CliCommand::Reproduce(command) => command.execute(),
        CliCommand::Artifact(command) => command.execute(),
        CliCommand::Nightly(command) => command.execute(),
        CliCommand::History(command) => command.execute(),
        CliCommand::List(command) => command.execute(),
        CliCommand::Doctor(command) => command.execute(),
        CliCommand::GateStudy(command) => command.execute(),
        CliCommand::Node(command) => command.execute(),
    };
    match outcome {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("error: {}", with_causes(&error));
            status(&error).into()
        }
    }
}

/// How a command ends that failed with `error`.
fn status(error: &anyhow::Error) -> Exit {
    let suite = error.downcast_ref::<SuiteRunError>();
    let plan = error.downcast_ref::<PlanFileError>();
    let merge = error.downcast_ref::<MergeError>();
    let judge = error.downcast_ref::<JudgeError>();
    if suite.is_some_and(SuiteRunError::is_incomparable)
        || plan.is_some_and(PlanFileError::is_incomparable)
        || merge.is_some_and(MergeError::is_incomparable)
        || judge.is_some_and(JudgeError::is_incomparable)
        || error.downcast_ref().is_some_and(StoreError::is_incomparable)
        || error.downcast_ref().is_some_and(HistoryError::is_incomparable)
        || error.downcast_ref().is_some_and(StudyError::is_incomparable)
    {
        return Exit::NotComparable;
    }
    if merge.is_some_and(MergeError::is_too_little) {
        return Exit::TooLittle;
    }
    // What is wrong with a suite, an argument or the size of a guest is the user's to mend; so is a tracker that this
    // host has not.
    let usage = suite.is_some_and(SuiteRunError::is_configuration)
        || error.downcast_ref().is_some_and(StoreError::is_usage)
        || error.downcast_ref().is_some_and(ArtifactError::is_usage)
        || plan.is_some()
        || merge.is_some()
        || judge.is_some()
        || error.is::<AcceptError>()
        || error.is::<UsageError>()
        || error.is::<ArrayError>()
        || error.is::<SuiteError>()
        || error.is::<Refusal>();
    if usage { Exit::Usage } else { Exit::Failure }
}

/// Arguments that are each right and together are not.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct UsageError(String);

/// An error with its causes, each once: many a message holds its cause's already.
fn with_causes(error: &anyhow::Error) -> String {
    error.chain().skip(1).fold(error.to_string(), |text, cause| match cause.to_string() {
        cause if text.contains(&cause) => text,
        cause => format!("{text}: {cause}"),
    })
}

/// Prints to standard output; a reader that has gone away (`| head`) is no error.
fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    let end = if text.ends_with('\n') { "" } else { "\n" };
    match write!(std::io::stdout(), "{text}{end}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// Keeps the report in its run directory, to read in an editor and in a browser, and says where.
fn keep(report: &migbench_reports::report::Report, directory: &std::path::Path) -> anyhow::Result<()> {
    use anyhow::Context;
    for (name, text) in [("report.md", report.markdown()), ("report.html", report.html())] {
        let path = directory.join(name);
        let written = migbench_reports::replace::replace(&path, text.as_bytes());
        written.with_context(|| format!("cannot write {}", path.display()))?;
    }
    print(&format!("report: {}/report.md and report.html", directory.display()))
}

/// Columns of what goes into a pipe or a file.
const PIPE_WIDTH: usize = 100;

/// Columns of the terminal, where there is one.
fn width() -> usize {
    terminal_size::terminal_size().map_or(PIPE_WIDTH, |(width, _)| usize::from(width.0).clamp(60, 200))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(path: &str) -> String {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// `--help` and README have the same sentence, and METRICS a line for each status.
    #[test]
    fn exit_statuses_are_documented_alike() {
        let (_, sentence) = EXAMPLES.split_once("\n\nExit status: ").unwrap();
        assert!(document("README.md").contains(&format!("Exit status: {sentence}")));
        let metrics = document("reports/METRICS.md");
        let (_, table) = metrics.split_once("## Exit status").unwrap();
        let all = [
            Exit::Success,
            Exit::Failure,
            Exit::Usage,
            Exit::TooLittle,
            Exit::Regression,
            Exit::NotComparable,
        ];
        let flat = sentence.replace('\n', " ");
        for (exit, line) in all.iter().zip(flat.trim_end_matches('.').split("; ")) {
            let (status, words) = line.split_once(' ').unwrap();
            assert_eq!(status, exit.status().to_string());
            let line = table.lines().find(|line| line.starts_with(&format!("| {status} | "))).unwrap();
            let (start, _) = words.split_once([',', ' ']).unwrap_or((words, ""));
            assert!(line.contains(start), "{words}: {line}");
        }
    }
}

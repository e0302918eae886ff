//! The command line: one sub-command per file, arguments and output only.

/// A line for whoever looks on. Where nobody can be told, as in a pipe that was closed, measuring goes on.
macro_rules! note {
    ($($what:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($what)*);
    }};
}

mod ab;
mod advice;
mod artifact;
mod compare;
mod doctor;
mod gate;
mod gate_study;
mod generate;
mod history;
mod last_run;
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

use std::ffi::{OsStr, OsString};
use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use migbench_reports::artifact::ArtifactError;
use migbench_reports::history::HistoryError;
use migbench_reports::judge::accepted::AcceptError;
use migbench_reports::judge::{JudgeError, Verdict};
use migbench_reports::merge::MergeError;
use migbench_reports::store::StoreError;
use migbench_reports::study::StudyError;
use migbench_scenarios::SuiteError;
use migbench_scenarios::frozen::PlanFileError;
use migbench_scenarios::shipped::SHIPPED;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::host::lock::LockError;
use crate::runner::admission::Refusal;
use crate::runner::array::ArrayError;
use crate::runner::run::RunnerError;
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
    /// Another measurement is going on.
    Busy,
    /// There is no room to write.
    NoRoom,
    /// Ctrl-C, or SIGTERM.
    Interrupted,
}

impl Exit {
    /// The status of the process. What they mean stands in reports/METRICS.md, and in [`AFTER_HELP`] in short.
    const fn status(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::TooLittle => 3,
            Self::Regression => 4,
            Self::NotComparable => 5,
            Self::Busy => 6,
            Self::NoRoom => 7,
            Self::Interrupted => 130,
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

/// What `--help` lists: a command a line, with an example that works as it stands, after those above it.
const HELP: &str = "\
{about-section}
{usage-heading} {usage}

Measure, on a host with KVM:
  run        a suite, from plan to table             migbench run quick
  migrate    one guest, round by round               migbench migrate --engine delta
  track      dirty trackers, without a migration     migbench track --memory 256MiB --working-set 64MiB
  ab         two settings or builds, side by side    migbench ab quick --new tracker=kvm-ring

Read what was measured, anywhere; without a directory, the last run:
  report     its tables, in any format               migbench report --format markdown
  show       its runs, and one in full               migbench show 0003
  compare    both sides, or two runs; --gate judges  migbench compare --gate

Ask more of it:
  reproduce  a published result beside ours          migbench reproduce bhardwaj2019 --dry-run
  nightly    this build against the last good one    migbench nightly --deadline 2h

Look up:
  list       suites, workloads, engines, keys        migbench list keys
  doctor     is this host fit to measure?            migbench doctor

For many machines: plan, merge, artifact, history; `migbench help plan` explains the first.

{options}{after-help}";

const AFTER_HELP: &str = "\
`migbench help COMMAND` has its options and more examples.
Sizes are written like 256MiB, rates like 1Gbit/s, times like 100ms; a bare 1G is refused.

Exit status: 0 success; 1 the harness or a run failed, or a proof did; 2 usage or configuration;
3 not enough evidence; 4 regression; 5 not comparable; 6 another measurement is going on;
7 no room to write; 130 interrupted.";

/// Measures live migration of KVM guests.
///
/// Starts real guests running memory workloads, migrates them between two processes with the baseline full-page and
/// the delta pre-copy engine, verifies that nothing was lost, and compares what it cost.
#[derive(Debug, Parser)]
#[command(name = "migbench", version, help_template = HELP, after_help = AFTER_HELP, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: CliCommand,
}

#[derive(Debug, Subcommand)]
enum CliCommand {
    Run(Box<run::RunArgs>),
    Migrate(migrate::Migrate),
    Track(track::Track),
    Ab(Box<ab::Ab>),
    Report(report::ReportArgs),
    Show(show::Show),
    Compare(compare::Compare),
    Reproduce(reproduce::Reproduce),
    Nightly(nightly::Nightly),
    List(list::List),
    Doctor(doctor::Doctor),
    #[command(hide = true)]
    Plan(plan::Freeze),
    #[command(hide = true)]
    Merge(merge::Merge),
    #[command(hide = true)]
    Artifact(artifact::ArtifactCommand),
    #[command(hide = true)]
    History(history::History),
    #[command(hide = true)]
    Completion(generate::Completion),
    #[command(hide = true)]
    Man(generate::Man),
    #[command(hide = true)]
    GateStudy(gate_study::GateStudy),
    #[command(hide = true)]
    Node(node::NodeArgs),
}

/// A command line as it is parsed: old names of commands are those of what replaced them, and the suite of `ab` stands before
/// settings that it was typed after, which would take it for one of theirs.
fn spelled<W: AsRef<OsStr> + From<&'static str>>(mut words: Vec<W>) -> Vec<W> {
    let is = |word: Option<&W>, name: &str| word.is_some_and(|word| word.as_ref() == name);
    let asks = is(words.get(1), "help");
    let at = if asks { 2 } else { 1 };
    if is(words.get(at), "gate") {
        let accepts = is(words.get(at + 1), "accept");
        words[at] = W::from("compare");
        if !asks && !accepts {
            words.insert(at + 1, W::from("--gate"));
        }
    } else if is(words.get(at), "export") {
        words[at] = W::from("report");
    } else if is(words.get(at), "ab") {
        let starts = |word: &W, with: &[u8]| word.as_ref().as_encoded_bytes().starts_with(with);
        let is_setting = |word: &W| word.as_ref().as_encoded_bytes().contains(&b'=');
        let mut settings = None;
        for index in at + 1..words.len() {
            let word = &words[index];
            match settings {
                _ if starts(word, b"-") => {
                    settings = ["--base", "--new"].iter().any(|flag| is(Some(word), flag)).then_some(index);
                }
                // What follows the flag, or no setting, is meant as one, however it is written.
                Some(flag) if index > flag + 1 && is_setting(&words[index - 1]) && !is_setting(word) => {
                    words[flag..=index].rotate_right(1);
                    settings = Some(flag + 1);
                }
                _ => {}
            }
        }
    }
    words
}

/// The words of this command line. What is no UTF-8 in them cannot be given back as it was, and is shown as well as can be.
fn words() -> Vec<String> {
    std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect()
}

/// The command of a line that was typed before; `None` of what this version doesn't take.
fn read(words: Vec<String>) -> Option<CliCommand> {
    Some(Cli::try_parse_from(spelled(words)).ok()?.command)
}

/// The command line, or the end of the process with what is wrong with it.
fn parsed(words: Vec<OsString>) -> Cli {
    let name = words.get(1).and_then(|word| word.to_str()).unwrap_or_default().to_owned();
    Cli::try_parse_from(spelled(words)).unwrap_or_else(|error| {
        if SHIPPED.iter().all(|(suite, _)| *suite != name) {
            error.exit();
        }
        let _ = error.print();
        note!("\n  tip: {name} is a suite: migbench run {name}");
        std::process::exit(error.exit_code())
    })
}

/// Parses the arguments, does what they say, prints errors.
#[must_use]
pub fn main() -> ExitCode {
    // Large run directories stay open while they are read, and merge reads many.
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
    let outcome = match parsed(std::env::args_os().collect()).command {
        CliCommand::Run(command) => command.execute(),
        CliCommand::Migrate(command) => command.execute(),
        CliCommand::Track(command) => command.execute(),
        CliCommand::Ab(command) => command.execute(),
        CliCommand::Report(command) => command.execute(),
        CliCommand::Show(command) => command.execute(),
        CliCommand::Compare(command) => command.execute(),
        CliCommand::Reproduce(command) => command.execute(),
        CliCommand::Nightly(command) => command.execute(),
        CliCommand::List(command) => command.execute(),
        CliCommand::Doctor(command) => command.execute(),
        CliCommand::Plan(command) => command.execute(),
        CliCommand::Merge(command) => command.execute(),
        CliCommand::Artifact(command) => command.execute(),
        CliCommand::History(command) => command.execute(),
        CliCommand::Completion(command) => command.execute(),
        CliCommand::Man(command) => command.execute(),
        CliCommand::GateStudy(command) => command.execute(),
        CliCommand::Node(command) => command.execute(),
    };
    match outcome {
        Ok(exit) => exit.into(),
        Err(error) => {
            note!("error: {}", with_causes(&error));
            status(&error).into()
        }
    }
}

/// How a command ends that failed with `error`.
fn status(error: &anyhow::Error) -> Exit {
    let full = |error: &io::Error| {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull, WriteZero};
        matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge | WriteZero)
    };
    if error.chain().any(|cause| cause.downcast_ref().is_some_and(full)) {
        return Exit::NoRoom;
    }
    let suite = error.downcast_ref::<SuiteRunError>();
    if matches!(error.downcast_ref(), Some(LockError::Held { .. }))
        || matches!(suite, Some(SuiteRunError::Lock(LockError::Held { .. })))
    {
        return Exit::Busy;
    }
    if matches!(suite, Some(SuiteRunError::Interrupted { .. } | SuiteRunError::Run(RunnerError::Interrupted)))
        || matches!(error.downcast_ref(), Some(RunnerError::Interrupted))
        || matches!(error.downcast_ref(), Some(LockError::GivenUp { .. }))
        || matches!(suite, Some(SuiteRunError::Lock(LockError::GivenUp { .. })))
        || error.is::<nightly::Interrupted>()
    {
        return Exit::Interrupted;
    }
    let plan = error.downcast_ref::<PlanFileError>();
    let merge = error.downcast_ref::<MergeError>();
    let judge = error.downcast_ref::<JudgeError>();
    if suite.is_some_and(SuiteRunError::is_incomparable)
        || plan.is_some_and(PlanFileError::is_incomparable)
        || merge.is_some_and(MergeError::is_incomparable)
        || judge.is_some_and(JudgeError::is_incomparable)
        || error.is::<run::OtherPlan>()
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

/// Keeps the report in its run directory, to read in an editor and in a browser, and gives a line that says where. Before anything
/// is printed: what becomes of that changes nothing of what is kept.
fn keep(report: &migbench_reports::report::Report, directory: &std::path::Path) -> anyhow::Result<String> {
    use anyhow::Context;
    for (name, text) in [("report.md", report.markdown()), ("report.html", report.html())] {
        let path = directory.join(name);
        let written = migbench_reports::replace::replace(&path, text.as_bytes());
        written.with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(format!("report: {}/report.md and report.html", directory.display()))
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
        let (_, sentence) = AFTER_HELP.split_once("\n\nExit status: ").unwrap();
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
            Exit::Busy,
            Exit::NoRoom,
            Exit::Interrupted,
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

    /// What `--help` lists is what there is, and its examples are parsed as they stand.
    #[test]
    fn help_lists_the_commands() {
        use clap::CommandFactory as _;
        let command = Cli::command();
        let commands = command.get_subcommands().filter(|command| !command.is_hide_set());
        let listed = HELP.lines().filter_map(|line| line.strip_prefix("  ")?.split_once("migbench "));
        let mut names = Vec::new();
        for (line, example) in listed {
            let words = format!("migbench {example}");
            Cli::try_parse_from(spelled(words.split(' ').map(str::to_owned).collect())).unwrap();
            names.push(line.split(' ').next().unwrap());
            assert!(example.starts_with(names.last().unwrap()), "{example}");
        }
        assert_eq!(commands.map(clap::Command::get_name).collect::<Vec<_>>(), names);
        assert!(names.len() <= 11, "{names:?}");
    }

    #[test]
    fn old_names_and_orders_are_spelled_anew() {
        for (typed, means) in [
            ("gate a b --confirm c", "compare --gate a b --confirm c"),
            ("gate --help", "compare --gate --help"),
            ("help gate", "help compare"),
            ("gate accept --metric m", "compare accept --metric m"),
            ("export a --format junit -o ci", "report a --format junit -o ci"),
            ("report gate", "report gate"),
            ("ab --new a=1 quick", "ab quick --new a=1"),
            (
                "ab --base a=0 --new a=1 b=2 quick c=3 --repeat 2",
                "ab --base a=0 quick --new a=1 b=2 c=3 --repeat 2",
            ),
            ("ab quick --new a=1 b", "ab quick b --new a=1"),
            ("ab quick --new tracker kvm-ring", "ab quick --new tracker kvm-ring"),
            ("ab --new a=1 -o dir quick", "ab --new a=1 -o dir quick"),
            ("run --set a=1 quick", "run --set a=1 quick"),
        ] {
            let words = |line: &'static str| {
                std::iter::once("migbench").chain(line.split(' ')).map(str::to_owned).collect::<Vec<_>>()
            };
            assert_eq!(spelled(words(typed)), words(means), "{typed}");
        }
    }
}

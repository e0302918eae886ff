//! What to type next, printed beside a verdict or an interruption. Each command is made from one that was typed before, read and
//! written by the parser that will read it again: no option that does not exist, no directory that holds records already, and
//! every word as a shell takes it. Where no command would do what is meant, words say what to do.

use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{ArgAction, CommandFactory as _, Parser as _};
use migbench_reports::judge::{Judgement, Verdict};
use migbench_reports::manifest::{Build, Manifest};
use migbench_reports::shell;
use migbench_reports::store::RunData;
use migbench_scenarios::Plan;
use migbench_scenarios::frozen::short;

use super::{Cli, CliCommand};
use crate::host::provenance::this_tool;

/// A command line, in its parts.
#[derive(Debug, Clone)]
pub(super) struct Typed {
    program: String,
    command: String,
    given: Vec<Given>,
}

/// An argument as it was given.
#[derive(Debug, Clone)]
struct Given {
    /// Without its dashes; that of what it stands for, where it has none.
    name: String,
    positional: bool,
    /// None of a flag.
    value: Option<String>,
    /// Whether name and value are one word.
    joined: bool,
}

impl Typed {
    /// Reads a command line of this program, of this version: `None` for any other.
    pub(super) fn parse(words: &[String]) -> Option<Self> {
        let root = Cli::command();
        let words = super::spelled(words.to_vec());
        let matches = root.clone().try_get_matches_from(&words).ok()?;
        let (name, found) = matches.subcommand()?;
        let mut given = Vec::new();
        for argument in root.find_subcommand(name)?.get_arguments() {
            let id = argument.get_id().as_str();
            if found.value_source(id) != Some(ValueSource::CommandLine) {
                continue;
            }
            let one = |value: Option<String>| Given {
                name: argument.get_long().unwrap_or(id).to_owned(),
                positional: argument.is_positional(),
                value,
                joined: argument.is_require_equals_set(),
            };
            match argument.get_action() {
                ArgAction::SetTrue => given.push(one(None)),
                _ => {
                    let values = found.get_raw(id).into_iter().flatten();
                    given.extend(values.map(|value| one(Some(value.to_string_lossy().into_owned()))));
                }
            }
        }
        given.sort_by_key(|given| !given.positional);
        Some(Self { program: words.first()?.clone(), command: name.to_owned(), given })
    }

    /// The command that runs just now.
    pub(super) fn now() -> Option<Self> {
        Self::parse(&super::words())
    }

    /// With these options alone.
    pub(super) fn keep(mut self, names: &[&str]) -> Self {
        self.given.retain(|given| names.contains(&given.name.as_str()));
        self
    }

    /// Without these options.
    fn leave_out(mut self, names: &[&str]) -> Self {
        self.given.retain(|given| !names.contains(&given.name.as_str()));
        self
    }

    /// With an option more, in place of what it was.
    pub(super) fn set(mut self, name: &str, value: impl Into<String>) -> Self {
        self.given.retain(|given| given.name != name);
        let (name, value) = (name.to_owned(), Some(value.into()));
        self.given.push(Given { name, positional: false, value, joined: false });
        self
    }

    /// Of another command.
    fn of(mut self, program: String, command: &str) -> Self {
        (self.program, self.command) = (program, command.to_owned());
        self
    }

    fn words(&self) -> Vec<String> {
        let mut words = vec![self.program.clone(), self.command.clone()];
        for Given { name, positional, value, joined } in &self.given {
            match value {
                None => words.push(format!("--{name}")),
                Some(value) if *positional => words.push(value.clone()),
                Some(value) if *joined || value.starts_with('-') => words.push(format!("--{name}={value}")),
                Some(value) => words.extend([format!("--{name}"), value.clone()]),
            }
        }
        words
    }

    /// As it is typed in a shell.
    pub(super) fn text(&self) -> String {
        shell::line(self.words())
    }

    /// The plan that it would work off.
    fn plan(&self) -> Option<Plan> {
        match Cli::try_parse_from(self.words()).ok()?.command {
            CliCommand::Ab(ab) => ab.asked(None).ok().flatten().map(|task| task.plan),
            CliCommand::Run(run) => run.asked(None).ok().flatten().map(|task| task.plan),
            _ => None,
        }
    }

    /// Whether it would measure what the directory holds, with as many runs of each cell or others.
    fn measures(&self, manifest: &Manifest) -> bool {
        let cells = |plan: &Plan| plan.comparisons.iter().map(|c| c.cells.len()).sum::<usize>();
        let there: usize = manifest.comparisons.iter().map(|c| c.cells.len()).sum();
        self.plan().is_some_and(|plan| plan.hash == manifest.suite_hash && cells(&plan) == there)
    }
}

/// What is to be given again to go on as it was begun.
const GOES_ON: [&str; 3] = ["simulate", "plant", "accepted"];

/// The command that makes the rest of a directory which this process makes with `command`.
pub(super) fn finishing(command: &str, directory: &Path) -> String {
    let directory = directory.display().to_string();
    match Typed::now() {
        Some(typed) => {
            let program = typed.program.clone();
            typed
                .keep(&[&GOES_ON[..], &["no-confirm"]].concat())
                .of(program, command)
                .set("resume", directory)
                .text()
        }
        None => shell::line(["migbench", command, "--resume", &directory]),
    }
}

/// What to do about a judgement. `accepted` is the file of accepted changes where it was named.
pub(super) fn next(
    judgement: &Judgement,
    first: &[RunData],
    fresh: Option<&RunData>,
    accepted: Option<&Path>,
) -> String {
    let short_of_runs = |data: &RunData| {
        data.records.len() < usize::try_from(data.manifest.planned_runs).unwrap_or(usize::MAX)
    };
    match (judgement.verdict, first) {
        (Verdict::Unsound, _) => {
            let unfinished: Vec<_> = first.iter().filter(|data| short_of_runs(data)).collect();
            match (&unfinished[..], fresh) {
                // Finishes what was to confirm it, too.
                ([], Some(fresh)) if short_of_runs(fresh) => {
                    first.first().map_or_else(String::new, |first| rest(first, accepted))
                }
                (unfinished, _) => {
                    unfinished.iter().map(|data| rest(data, accepted)).collect::<Vec<_>>().join("\n")
                }
            }
        }
        (Verdict::Unconfirmed, [one]) => confirmation(one, accepted),
        (Verdict::NotEnough, [one]) => match judgement.runs_wanted() {
            Some(runs) => anew(one, runs, accepted),
            None => String::new(),
        },
        (Verdict::HostDisturbed, [one]) => {
            anew(one, usize::try_from(one.manifest.repetitions).unwrap_or(1), accepted)
        }
        (
            Verdict::Unconfirmed | Verdict::NotEnough | Verdict::HostChanged | Verdict::HostDisturbed,
            [base, new],
        ) => side_by_side(base, new, judgement.runs_wanted(), accepted),
        _ => String::new(),
    }
}

fn command_on_host(what: &str, manifest: &Manifest, command: &Typed) -> String {
    let here = crate::host::provenance::collect(Path::new("/")).hostname;
    let there = &manifest.host.hostname;
    let host = match there {
        Some(name) if manifest.simulating().is_none() && *there != here => format!(", on host {name}"),
        _ => String::new(),
    };
    format!("{what}{host}:\n  {}", command.text())
}

/// Fresh samples of what `migbench ab` has measured, and a judgement by them.
fn confirmation(data: &RunData, accepted: Option<&Path>) -> String {
    match resumed(data, accepted) {
        Some(command) => {
            command_on_host("Measure again, and judge by fresh samples", &data.manifest, &command)
        }
        None => format!(
            "Measure again with `ab --resume {}` of the build that measured it, {}",
            shell::path(&data.path),
            data.manifest.tool.build()
        ),
    }
}

/// What a directory lacks.
fn rest(data: &RunData, accepted: Option<&Path>) -> String {
    if !data.manifest.parts.is_empty() {
        return format!(
            "{} was merged: finish the slices that lack runs, and merge them again",
            shell::path(&data.path)
        );
    }
    match resumed(data, accepted) {
        Some(command) => command_on_host("Finish it", &data.manifest, &command),
        None => format!(
            "Finish {} with --resume of the build that began it, {}",
            shell::path(&data.path),
            data.manifest.tool.build()
        ),
    }
}

fn resumed(data: &RunData, accepted: Option<&Path>) -> Option<Typed> {
    let manifest = &data.manifest;
    let (program, sided) = (program(manifest)?, manifest.sided());
    let typed = Typed::parse(&manifest.command)?.keep(&["simulate", "plant"]);
    let typed = typed.of(program, if sided { "ab" } else { "run" });
    let typed = typed.set("resume", data.path.display().to_string());
    Some(if sided { accepting(typed, accepted) } else { typed })
}

fn accepting(typed: Typed, accepted: Option<&Path>) -> Typed {
    match accepted {
        Some(path) => typed.set("accepted", path.display().to_string()),
        None => typed,
    }
}

/// Where a new measurement does not go on with an old one.
const OF_ONE_DIRECTORY: [&str; 9] =
    ["output", "resume", "dry-run", "steps", "time-budget", "repeat", "no-confirm", "accepted", "fault"];

/// The same measurement of `runs` runs of each cell, into a directory of its own.
fn anew(data: &RunData, runs: usize, accepted: Option<&Path>) -> String {
    let command = || {
        let typed = Typed::parse(&data.manifest.command)?.leave_out(&OF_ONE_DIRECTORY);
        let typed = typed.of(program(&data.manifest)?, "ab").set("repeat", runs.to_string());
        let typed = accepting(typed, accepted);
        typed.measures(&data.manifest).then_some(typed)
    };
    match command() {
        Some(command) => command_on_host("Measure anew", &data.manifest, &command),
        None => format!(
            "Measure anew with --repeat {runs}, by the command above; suite, paths or build are not what they were when it was typed"
        ),
    }
}

/// Both builds of two directories, side by side.
fn side_by_side(base: &RunData, new: &RunData, runs: Option<usize>, accepted: Option<&Path>) -> String {
    let builds = [base, new].map(|data| only_build(&data.manifest));
    let [Some(of_base), Some(of_new)] = builds else {
        return "Measure both sides in one directory, with --base and --new of `migbench ab`".to_owned();
    };
    if of_base.blake3 == of_new.blake3 {
        return "Both are of one build: there is nothing that side by side could tell apart".to_owned();
    }
    let command = || {
        let (base_file, new_file) = (file_of(&base.manifest, of_base)?, file_of(&new.manifest, of_new)?);
        let repeat = runs.map_or_else(|| base.manifest.repetitions.to_string(), |runs| runs.to_string());
        let typed = selection(&base.manifest)?.set("repeat", repeat);
        let typed = typed.set("base", format!("binary={base_file}")).set("new", format!("binary={new_file}"));
        let typed = accepting(typed, accepted).of(own_name(), "ab");
        // A path that means something else to a suite, such as two to be tried, is no command.
        typed.plan().is_some().then_some(typed)
    };
    match command() {
        Some(command) => command_on_host("Measure both builds side by side", &base.manifest, &command),
        None => {
            let build = |build: &Build| format!("{} (BLAKE3 {})", build.tool.build(), short(&build.blake3));
            format!(
                "Measure both builds side by side with `migbench ab`, each named as binary=PATH after --base and --new: base is {}, \
                 new is {}",
                build(of_base),
                build(of_new)
            )
        }
    }
}

/// The command that ran guests: a merged directory was made by `merge`, and its slices by `run --plan`.
fn measured_by(manifest: &Manifest) -> &[String] {
    manifest.parts.first().map_or(&manifest.command, |part| &part.command)
}

/// Suite and selection of a directory of `migbench run`, where they still give what was measured.
fn selection(manifest: &Manifest) -> Option<Typed> {
    let typed = Typed::parse(measured_by(manifest))?.keep(&["suite", "set", "filter", "simulate"]);
    let typed = if typed.given.iter().any(|given| given.positional) {
        typed
    } else {
        let suite = Given {
            name: "suite".to_owned(),
            positional: true,
            value: Some(manifest.suite.clone()),
            joined: false,
        };
        Typed { given: std::iter::once(suite).chain(typed.given).collect(), ..typed }
    };
    let typed = typed.of(own_name(), "run");
    typed.measures(manifest).then_some(typed)
}

/// The build of all cells, where it is one.
fn only_build(manifest: &Manifest) -> Option<&Build> {
    let cells = manifest.comparisons.iter().flat_map(|comparison| &comparison.cells);
    let mut builds: Vec<&Build> = cells.filter_map(|planned| manifest.build_of(&planned.cell)).collect();
    builds.dedup_by_key(|build| &build.blake3);
    match builds[..] {
        [one] => Some(one),
        _ => None,
    }
}

/// Where the file of a build lies now.
fn file_of(manifest: &Manifest, build: &Build) -> Option<String> {
    let named = if build.binary == Build::OWN {
        located(measured_by(manifest).first()?)
    } else {
        Some(build.binary.clone().into())
    };
    let here = || std::env::current_exe().ok();
    let found = named.into_iter().chain(here()).find(|path| hash(path).as_ref() == Some(&build.blake3))?;
    Some(found.display().to_string())
}

/// What this program was called.
pub(super) fn own_name() -> String {
    super::words().into_iter().next().unwrap_or_else(|| "migbench".to_owned())
}

/// How to call the program that made a directory, and that alone can go on with it.
fn program(manifest: &Manifest) -> Option<String> {
    let own = manifest.builds.iter().find(|build| build.binary == Build::OWN);
    let is_it = |name: &String| match own {
        Some(own) => located(name).and_then(|path| hash(&path)).as_ref() == Some(&own.blake3),
        None => false,
    };
    let this = own_name();
    let unnamed = own.is_none() && this_tool() == manifest.tool;
    if unnamed || is_it(&this) {
        return Some(this);
    }
    manifest.command.first().filter(|name| is_it(name)).cloned()
}

/// The file that a shell would start.
fn located(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(name.into());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|file| file.is_file())
}

fn hash(path: &Path) -> Option<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(std::fs::File::open(path).ok()?).ok()?;
    Some(hasher.finalize().to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(line: &[&str]) -> Typed {
        Typed::parse(&line.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn a_command_is_typed_again_however_it_was_typed_before() {
        for line in [
            &["migbench", "ab", "quick", "-o", "a b", "--repeat", "9", "--new", "x=1", "y=2"][..],
            &["migbench", "ab", "--repeat=9", "--new", "x=1", "--new", "y=2", "--output=a b", "quick"],
            &["migbench", "ab", "-oa b", "--repeat", "9", "--new", "x=1", "quick", "y=2"],
            &["migbench", "ab", "-oa b", "--new=x=1", "quick", "--new=y=2", "--repeat", "9"],
        ] {
            assert_eq!(
                typed(line).leave_out(&["output"]).text(),
                "migbench ab quick --new x=1 --new y=2 --repeat 9"
            );
        }
        let run = typed(&["m", "run", "quick", "--simulate", "--set", "memory=1GiB", "--dry-run"]);
        assert_eq!(run.text(), "m run quick --set memory=1GiB --dry-run --simulate=");
        let resumed = run.keep(&GOES_ON).of("./m x".to_owned(), "ab").set("resume", "it's");
        assert_eq!(resumed.text(), r"'./m x' ab --simulate= --resume 'it'\''s'");
        assert!(
            Typed::parse(&["migbench".to_owned(), "run".to_owned(), "--frobnicate".to_owned()]).is_none()
        );
    }

    #[test]
    fn a_suite_that_changed_since_is_noticed() {
        let of = |words: &[&str]| typed(words).plan().unwrap();
        let plan = of(&["migbench", "ab", "quick", "--new", "backing=memfd"]);
        assert_ne!(plan.hash, of(&["migbench", "ab", "quick"]).hash);
        assert_eq!(plan.hash, of(&["migbench", "ab", "quick", "--new=backing=memfd", "--repeat", "2"]).hash);
        assert!(typed(&["migbench", "ab", "gone.toml"]).plan().is_none());
    }
}

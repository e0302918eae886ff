//! `migbench nightly`: this build against the last good one, every night, and what is made of it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use migbench_reports::export::{Source, export};
use migbench_reports::format::Format;
use migbench_reports::history::{self, Ended, Night, PINNED};
use migbench_reports::judge::nights::{self, Course, Said};
use migbench_reports::judge::{Accepted, Judgement, Measurement, Verdict, judge};
use migbench_reports::manifest::Build;
use migbench_reports::replace::replace;
use migbench_reports::store::{MANIFEST, RunData};
use migbench_scenarios::Plan;
use migbench_scenarios::plan::RunKind;

use super::ab::Ab;
use super::gate::{history_by_default, today};
use super::reading::Reading;
use super::{Exit, UsageError, last_run, print};
use crate::node::about::PROTOCOL;
use crate::runner::kept::{Begun, Keeping, Kept, copy_stripped};
use crate::runner::{builds, interrupt, now_utc};
use crate::sys::thread::let_die_with_parent;

/// What a night is called that was compared with the last good build.
const LAST_GOOD: &str = "last good";

/// Measures this build against the last good one, and judges it with the nights before. For scripts/nightly, which builds first.
///
/// Nights against one base are strata of one test. The build of the first of them is under test; once all of them together exclude a
/// change of 5 % in the mean and of 10 % in each cell, it passes, and is the next base. Each night the last 1, 2, 3, 5 and 8 nights
/// are tested together for a regression too. METHODOLOGY.md says how the error of both is bounded over all nights.
///
/// The first night tries the build in one cell and keeps it. So does a night whose last good build is lost, or speaks another protocol
/// with its nodes: the history begins anew.
///
/// Exit status: 0 the build under test has passed (or the history begins); 3 not enough evidence yet, or the host was disturbed;
/// 4 a confirmed regression; 1 and 2 failures. The base stays in all but the first.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  migbench nightly --deadline 2h
  migbench nightly --suite mine.toml --history nights -- --set memory=64MiB
  migbench nightly --pin")]
pub struct Nightly {
    /// What is kept from night to night; without it $MIGBENCH_HISTORY, or $XDG_STATE_HOME/migbench (~/.local/state/migbench).
    #[arg(long, value_name = "DIR")]
    history: Option<PathBuf>,
    /// A suite's name or path.
    #[arg(long, default_value = "nightly")]
    suite: String,
    /// As many repetitions as fit, in place of the suite's, by the pace of the nights before.
    #[arg(long, value_name = "TIME")]
    time_budget: Option<humantime::Duration>,
    /// The whole night ends within this time: fewer repetitions than the suite's where they do not fit, with room for an alarm to be
    /// measured again.
    #[arg(long, value_name = "TIME")]
    deadline: Option<humantime::Duration>,
    /// Only make the last good build the pinned one, against which slow creep is measured.
    #[arg(long)]
    pin: bool,
    /// Measure against the pinned build every N nights; 0 for never.
    #[arg(long, value_name = "N", default_value_t = 2)]
    pinned_every: usize,
    /// Directories of that many nights stay; the history's figures stay for good.
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = at_least_one)]
    keep: usize,
    /// Only note in the list of nights that one failed before this program could run.
    #[arg(long, hide = true, value_name = "WHY")]
    failed: Option<String>,
    /// Options of `migbench ab`.
    #[arg(last = true, value_name = "OPTION")]
    options: Vec<String>,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "wants a number, 1 at least".to_owned())
}

fn say(text: &str) {
    note!("nightly: {text}");
}

/// A night that is at work.
struct AtWork<'a> {
    kept: &'a Kept,
    suite: &'a str,
    reading: Reading,
    accepted: Accepted,
    plan: Plan,
    /// By what estimates of this suite are multiplied on this host.
    pace: f64,
    began: Instant,
    deadline: Option<Duration>,
    /// Repetitions, before the deadline is looked at.
    repetitions: u32,
    seed: u64,
    options: Vec<String>,
    notes: Vec<String>,
}

/// A night that did not come to its end.
#[derive(Debug, thiserror::Error)]
#[error("interrupted; what was measured by then is in {}, and is no evidence", .0.display())]
pub(super) struct Interrupted(PathBuf);

/// Both sides, measured and judged by tonight alone.
struct Measured {
    directory: PathBuf,
    data: RunData,
    judgement: Judgement,
    text: String,
    quiet: bool,
    pace: Option<f64>,
}

impl Nightly {
    pub fn execute(self) -> anyhow::Result<Exit> {
        let history = self.history.clone().unwrap_or_else(history_by_default);
        let mistakes = self.asked()?;
        interrupt::catch()?;
        let kept = Kept::open(&history)?;
        for torn in history::mend(kept.root())? {
            say(&torn);
        }
        if self.pin {
            return pin(&kept);
        }
        if let Some(begun) = kept.begun() {
            let why = "it was killed: what it had measured is no evidence".to_owned();
            say(&format!("the night of {} came to no end; it is in the list as interrupted", begun.started));
            Night::broken(&begun.suite, begun.started, Ended::Interrupted, why).append(kept.root())?;
            kept.end()?;
        }
        let started = now_utc();
        if let Some(why) = &self.failed {
            Night::broken(&self.suite, started, Ended::Failed, why.clone()).append(kept.root())?;
            return Ok(Exit::Success);
        }
        let (ab, plan) = mistakes;
        let tonight = kept.begin(&Begun { started: started.clone(), suite: plan.suite.clone() })?;
        let suite = plan.suite.clone();
        let outcome = self.night(&kept, &ab, plan, &tonight, &started);
        if let Err(error) = &outcome {
            let interrupted = interrupt::requested() || error.is::<Interrupted>();
            let ended = if interrupted { Ended::Interrupted } else { Ended::Failed };
            Night::broken(&suite, started, ended, format!("{error:#}")).append(kept.root())?;
        }
        kept.end()?;
        outcome
    }

    /// What is to run, before anything does: a mistake would spoil the night.
    fn asked(&self) -> anyhow::Result<(Ab, Plan)> {
        let mut words = vec!["ab".to_owned(), self.suite.clone()];
        words.extend(self.options.iter().cloned());
        let ab = Ab::parsed(&words)?;
        let plan = ab.plan()?;
        if plan.gates.is_empty() {
            let suite = plan.suite;
            return Err(UsageError(format!(
                "suite {suite} declares no [[gate]], so that nothing decides: name the metrics that do in its file"
            ))
            .into());
        }
        Ok((ab, plan))
    }

    fn night(&self, kept: &Kept, ab: &Ab, plan: Plan, tonight: &Path, started: &str) -> anyhow::Result<Exit> {
        let reading = ab.reading();
        let past = history::nights(kept.root())?;
        let paces =
            past.iter().rev().filter(|night| night.suite == plan.suite).filter_map(|night| night.pace);
        let mut work = AtWork {
            kept,
            suite: &self.suite,
            reading,
            accepted: Accepted::load(&kept.root().join("accepted.toml"), &today())?,
            pace: paces.take(1).next().unwrap_or(1.0),
            began: Instant::now(),
            deadline: self.deadline.map(Into::into),
            repetitions: plan.repetitions,
            seed: plan.seed.wrapping_add(2 * u64::try_from(past.len()).unwrap_or_default()),
            plan,
            options: self.options.clone(),
            notes: Vec::new(),
        };
        if let Some(budget) = self.time_budget {
            let what = format!("--time-budget {budget}");
            work.repetitions = work.fitting(budget.into(), u32::MAX, &what)?;
        }
        // A copy: a build made meanwhile must not change what is measured.
        let new = tonight.join("migbench");
        // The file that runs, whatever stands at its path by now; and not `self`, which another program would take for its own.
        copy_stripped(&PathBuf::from(format!("/proc/{}/exe", std::process::id())), &new)?;
        let ours = builds::described(&new)?;
        say(&format!("new build: {}", ours.tool.build()));
        if let Some(why) = begins(kept, &past) {
            return work.begin_anew(&new, &ours, started, why, ab);
        }
        let good = builds::described(&kept.build(Keeping::Good))?;
        work.look_after_pin()?;

        let night = kept.night(started)?;
        // Paths that stay: what is measured is named in plan and records.
        let (base, stays) = (night.join("base"), night.join("new"));
        fs::rename(&new, &stays).and_then(|()| fs::copy(kept.build(Keeping::Good), &base).map(drop))?;
        say(&format!("the last good build: {}", good.tool.build()));
        let candidate = builds::described(&kept.build(Keeping::Candidate)).ok();
        let hash = candidate.as_ref().map(|build| build.blake3.as_str());
        let mut course = history::course(&past, LAST_GOOD, &good.blake3, hash);
        if course.looks == 0 {
            if course.alarms == 0 && candidate.is_none() && under_test(&past) {
                work.note("the build under test was lost: the test begins anew with tonight's".to_owned());
            }
            kept.keep(Keeping::Candidate, &stays)?;
        }
        let due = self.pinned_every > 0 && since_pinned(&past) + 1 >= self.pinned_every;

        let measured = work.measure(&night, "ab", &base, &stays, if due { 3 } else { 2 }, true)?;
        let mut ended = work.conclude(&measured, &mut course, LAST_GOOD)?;
        let mut against_pinned = None;
        if due && matches!(ended, Ended::Good | Ended::Unsure) {
            against_pinned = work.against_pinned(&past, &night, &stays)?;
        }
        if let Some((pinned, Ended::Alarm | Ended::Failed)) = &against_pinned {
            // The base stays, whatever the test against it says.
            ended = if pinned.verdict == Ended::Alarm { Ended::Alarm } else { Ended::Failed };
        }
        let status = status_of(ended);
        if let Some((line, _)) = &against_pinned {
            line.append(kept.root())?;
        }
        let line = Night {
            counts: measured.quiet,
            pace: measured.pace,
            notes: work.notes.clone(),
            ..Night::of(&measured.data.manifest, &measured.directory, status, LAST_GOOD)
        };
        line.append(kept.root())?;
        work.write_out(&night, &measured)?;
        let creeps = against_pinned.is_some_and(|(_, ended)| ended == Ended::Alarm);
        match ended {
            Ended::Good => {
                let promoted = kept.build(Keeping::Candidate);
                kept.keep(Keeping::Good, &promoted)?;
                kept.forget(Keeping::Candidate)?;
                for build in ["new", "base", "pinned-base"] {
                    let _ = fs::remove_file(night.join(build));
                }
                say(if course.test().len() > 1 || measured.data.manifest.builds.len() < 2 {
                    "good: the build that was under test is the next night's base"
                } else {
                    "good: this build is the next night's base"
                });
            }
            Ended::Alarm => {
                kept.forget(Keeping::Candidate)?;
                say(if creeps {
                    "slower than the pinned build, though no test against the last good one says so; the base stays the last \
                     good build"
                } else {
                    "a confirmed regression; the base stays the last good build, and the test begins anew"
                });
            }
            Ended::Unsure => say("not enough evidence; the base stays the last good build"),
            _ => say(&format!("the night failed; {} says why", night.join("ab.log").display())),
        }
        kept.prune(self.keep)?;
        say(&format!("kept in {}", night.display()));
        Ok(match status {
            0 => Exit::Success,
            3 => Exit::TooLittle,
            4 => Exit::Regression,
            _ => Exit::Failure,
        })
    }
}

/// Why there is nothing to compare with, in a sentence; empty on a first night.
fn begins(kept: &Kept, past: &[Night]) -> Option<String> {
    let good = kept.build(Keeping::Good);
    if !good.exists() {
        let known = past.iter().any(|night| !matches!(night.verdict, Ended::Failed | Ended::Interrupted));
        let lost = known || kept.build(Keeping::Pinned).exists();
        return Some(if lost {
            format!("the last good build {} is lost", good.display())
        } else {
            String::new()
        });
    }
    match builds::described(&good) {
        Ok(build) if build.protocol == PROTOCOL => None,
        Ok(build) => Some(format!(
            "the last good build, {}, speaks protocol {} and this one {PROTOCOL}: their nodes cannot run side by side",
            build.tool.build(),
            build.protocol
        )),
        Err(error) => Some(format!("the last good build cannot say what it is: {error}")),
    }
}

/// Whether the last measured night left a test that goes on.
fn under_test(past: &[Night]) -> bool {
    past.iter()
        .rfind(|night| night.against == LAST_GOOD && night.counts)
        .is_some_and(|night| night.verdict == Ended::Unsure)
}

/// Measured nights since the pinned build was measured against.
fn since_pinned(past: &[Night]) -> usize {
    past.iter()
        .rev()
        .take_while(|night| night.against != PINNED && night.verdict != Ended::Unlike)
        .filter(|night| matches!(night.verdict, Ended::Good | Ended::Unsure | Ended::Alarm))
        .count()
}

const fn status_of(ended: Ended) -> u8 {
    match ended {
        Ended::Good => 0,
        Ended::Unsure => 3,
        Ended::Alarm => 4,
        Ended::Unlike | Ended::Failed | Ended::Interrupted => 1,
    }
}

fn pin(kept: &Kept) -> anyhow::Result<Exit> {
    let good = kept.build(Keeping::Good);
    if !good.exists() {
        let what = format!("there is no good build in {} yet to pin", kept.root().display());
        return Err(UsageError(what).into());
    }
    kept.keep(Keeping::Pinned, &good)?;
    say(&format!("pinned: {}", builds::described(&good)?.tool.build()));
    Ok(Exit::Success)
}

impl AtWork<'_> {
    fn note(&mut self, text: String) {
        say(&text);
        self.notes.push(text);
    }

    /// Whether the build works at all, and keeps it as the base.
    fn begin_anew(
        &mut self,
        new: &Path,
        ours: &Build,
        started: &str,
        why: String,
        ab: &Ab,
    ) -> anyhow::Result<Exit> {
        let first = why.is_empty();
        self.works(new, &ab.first_cell(self.suite)?)?;
        if !first {
            say(&why);
            let builds = builds::described(&self.kept.build(Keeping::Good)).into_iter().chain([ours.clone()]);
            let night = Night::anew(&self.plan.suite, started.to_owned(), builds.collect());
            let known = night.builds.len() == 2;
            Night { notes: if known { Vec::new() } else { vec![why] }, ..night }.append(self.kept.root())?;
        }
        let pinned = self.kept.build(Keeping::Pinned);
        if !builds::described(&pinned).is_ok_and(|build| build.protocol == PROTOCOL) {
            if pinned.exists() {
                say(
                    "the pinned build speaks another protocol than this one too: this one is pinned in its place",
                );
            }
            self.kept.keep(Keeping::Pinned, new)?;
        }
        self.kept.forget(Keeping::Candidate)?;
        self.kept.keep(Keeping::Good, new)?;
        let good = self.kept.build(Keeping::Good);
        say(&format!(
            "{}: nothing to compare with. This build is kept in {}; the next night measures against it",
            if first { "the first night" } else { "as on a first night" },
            good.parent().unwrap_or(&good).display()
        ));
        Ok(Exit::Success)
    }

    /// Tries `build` against itself in one cell: what is kept must be able to run.
    fn works(&self, build: &Path, cell: &str) -> anyhow::Result<()> {
        let escaped: String =
            cell.chars().flat_map(|c| if c.is_alphanumeric() { vec![c] } else { vec!['\\', c] }).collect();
        let directory = build.with_file_name("check");
        let mut more =
            vec!["--filter".to_owned(), format!("^{escaped}$"), "--repeat".to_owned(), "1".to_owned()];
        more.extend(without(&self.options, &["--filter", "--repeat", "--time-budget"]));
        let log = build.with_file_name("check.log");
        let status = self.ab(build, build, build, &directory, &log, &log.with_extension("txt"), &more)?;
        let sound = || -> anyhow::Result<bool> {
            let data = self.reading.data(&directory)?;
            Ok(Measurement::of_one(&data)?.unsound.is_empty())
        };
        // One run is no evidence.
        if matches!(status, Some(0 | 3)) && sound()? {
            return Ok(());
        }
        note!("{}", fs::read_to_string(&log).unwrap_or_default());
        anyhow::bail!("this build does not work, and is not kept: it failed to migrate a guest of {cell}")
    }

    /// Says that the pinned build is gone, or can't run any longer, and pins the last good one.
    fn look_after_pin(&mut self) -> anyhow::Result<()> {
        let pinned = self.kept.build(Keeping::Pinned);
        let why = match builds::described(&pinned) {
            Ok(build) if build.protocol == PROTOCOL => return Ok(()),
            Ok(_) => "speaks another protocol than this one",
            Err(_) if pinned.exists() => "cannot say what it is",
            Err(_) => "is lost",
        };
        self.kept.keep(Keeping::Pinned, &self.kept.build(Keeping::Good))?;
        self.note(format!("the pinned build {why}: the last good build is pinned in its place, and what crept in before is not seen"));
        Ok(())
    }

    /// Repetitions, at most so many, that fit into `time` by the pace of the nights before.
    fn fitting(&self, time: Duration, most: u32, what: &str) -> anyhow::Result<u32> {
        let (once, each) = once_and_each(&self.plan);
        let left = time.as_secs_f64() / self.pace.max(f64::MIN_POSITIVE) - once;
        if left < each {
            let what = format!(
                "{what}: one repetition takes about {:.1} minutes{}; allow more, or leave cells out with -- --filter",
                (once + each) * self.pace / 60.0,
                if self.deadline.is_some() {
                    ", and there must be time to measure an alarm again"
                } else {
                    ""
                }
            );
            return Err(UsageError(what).into());
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "brought into range")]
        let fits = (left / each).clamp(1.0, 10_000.0) as u32;
        Ok(fits.min(most))
    }

    /// What is left of the night.
    fn left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_sub(self.began.elapsed()))
    }

    /// Measures `new` against `base` into a directory of the night, and an alarm again. `parts`: as many such measurements must fit
    /// into what is left of the night.
    fn measure(
        &mut self,
        night: &Path,
        name: &str,
        base: &Path,
        new: &Path,
        parts: u32,
        confirms: bool,
    ) -> anyhow::Result<Measured> {
        let share = self.left().map(|left| left / parts);
        let repetitions = match (share, self.deadline) {
            (Some(share), Some(deadline)) => {
                let what = format!("--deadline {}", humantime::format_duration(deadline));
                self.fitting(share, self.repetitions, &what)?
            }
            _ => self.repetitions,
        };
        let directory = night.join(name);
        let since = Instant::now();
        self.measure_into(night, name, base, new, repetitions, self.seed, share)?;
        let taken = since.elapsed();
        let data = self.reading.data(&directory)?;
        let first = Measurement::of_one(&data)?;
        let mut judgement = judge(&first, None, &self.accepted)?;
        let (once, each) = once_and_each(&self.plan);
        let estimated = once + each * f64::from(data.manifest.repetitions);
        let simulated = data.manifest.backend == migbench_reports::record::Backend::Simulated;
        let mut text = String::new();
        if judgement.verdict == Verdict::Unconfirmed && confirms {
            if self.left().is_some_and(|left| left < taken) {
                self.note("an alarm, and no time left to measure it again before the deadline".to_owned());
            } else {
                say("an alarm: measuring again with fresh samples");
                let again = format!("{name}-again");
                // The same plan, with other guests in another order.
                let made = data.manifest.repetitions;
                self.measure_into(night, &again, base, new, made, self.seed.wrapping_add(1), None)?;
                let fresh = self.reading.data(&night.join(&again))?;
                let fresh = Measurement::of_one(&fresh)?;
                judgement = judge(&first, Some(&fresh), &self.accepted)?;
                text = judgement.text(&first, Some(&fresh), &self.accepted, "");
            }
        }
        let quiet = first.unsound.is_empty() && first.host.is_empty();
        let pace = (!simulated).then(|| taken.as_secs_f64() / estimated.max(f64::MIN_POSITIVE));
        Ok(Measured { directory, judgement, text, quiet, pace, data })
    }

    /// Both sides once.
    #[expect(clippy::too_many_arguments, reason = "what a command line is made of")]
    fn measure_into(
        &self,
        night: &Path,
        name: &str,
        base: &Path,
        new: &Path,
        repetitions: u32,
        seed: u64,
        within: Option<Duration>,
    ) -> anyhow::Result<()> {
        let directory = night.join(name);
        let (log, text) = (night.join(format!("{name}.log")), night.join(format!("{name}.txt")));
        let mut more = vec!["--repeat".to_owned(), repetitions.to_string()];
        if !self.options.iter().any(|option| option == "--seed" || option.starts_with("--seed=")) {
            more.extend(["--seed".to_owned(), seed.to_string()]);
        }
        if let Some(within) = within {
            more.extend(["--stop-after".to_owned(), within.as_secs().to_string()]);
        }
        more.extend(without(&self.options, &["--repeat", "--time-budget"]));
        let status = self.ab(new, base, new, &directory, &log, &text, &more)?;
        print(&fs::read_to_string(&text).unwrap_or_default())?;
        // 1: runs failed, which the records tell.
        if !directory.join(MANIFEST).exists() || !matches!(status, Some(0 | 1 | 3 | 4 | 130)) {
            note!("{}", fs::read_to_string(&log).unwrap_or_default());
            let status = status.map_or_else(|| "a signal".to_owned(), |status| format!("status {status}"));
            anyhow::bail!("migbench ab ended with {status}; {} says why", log.display());
        }
        let data = self.reading.data(&directory)?;
        let made = u32::try_from(data.records.len()).unwrap_or(u32::MAX);
        if interrupt::requested() || made < data.manifest.planned_runs {
            return Err(Interrupted(directory).into());
        }
        Ok(())
    }

    /// `program ab`, which dies with this process. Gives its exit status, unless a signal ended it.
    #[expect(clippy::too_many_arguments, reason = "what a command line is made of")]
    fn ab(
        &self,
        program: &Path,
        base: &Path,
        new: &Path,
        output: &Path,
        log: &Path,
        text: &Path,
        more: &[String],
    ) -> anyhow::Result<Option<i32>> {
        let create =
            |path: &Path| File::create(path).with_context(|| format!("cannot write {}", path.display()));
        let mut command = Command::new(program);
        command.arg("ab").arg(self.suite);
        command.arg("--base").arg(format!("binary={}", base.display()));
        command.arg("--new").arg(format!("binary={}", new.display()));
        command.arg("-o").arg(output).arg("--accepted").arg(self.kept.root().join("accepted.toml"));
        command.arg("--no-confirm").args(more).env(last_run::OF_A_NIGHT, "1");
        command.stdin(Stdio::null()).stdout(create(text)?).stderr(create(log)?);
        let_die_with_parent(&mut command);
        let mut child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let mut signalled = false;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status.code());
            }
            // A signal to this process alone; it ends its run, and keeps what it has.
            if interrupt::requested() && !signalled {
                signalled = true;
                if let Ok(id) = i32::try_from(child.id()) {
                    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), nix::sys::signal::SIGTERM);
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What is said of a measurement, with the nights before it; prints it.
    fn conclude(
        &self,
        measured: &Measured,
        course: &mut Course<Night>,
        against: &str,
    ) -> anyhow::Result<Ended> {
        if !measured.text.is_empty() {
            print(&format!("\nwith fresh samples:\n{}", measured.text))?;
        }
        match measured.judgement.verdict {
            Verdict::Unsound => return Ok(Ended::Failed),
            Verdict::HostChanged | Verdict::HostDisturbed | Verdict::NotSteady | Verdict::NothingJudged => {
                return Ok(Ended::Unsure);
            }
            _ => {}
        }
        let gates = &self.plan.gates;
        let tonight = &measured.data.manifest;
        course.add(Night::of(tonight, &measured.directory, 0, against));
        let candidate = course.test().first().map_or_else(String::new, |night| {
            let build = night.builds.get(1).map_or_else(|| "unknown".to_owned(), |build| build.tool.build());
            if course.looks == 1 {
                format!("tonight's build, {build}")
            } else {
                format!("the build of {}, {build}", night.started)
            }
        });
        let stratum = |night: &Night| {
            let data = self.reading.data(night.directory.as_deref()?).ok()?;
            nights::stratum(&data, tonight, gates, &self.accepted)
        };
        let strata = Course {
            recent: course.recent.iter().map(stratum).collect(),
            looks: course.looks,
            alarms: course.alarms,
        };
        let judged = nights::judge(&strata, gates, against == LAST_GOOD);
        let text = judged.text(&candidate);
        if !text.is_empty() {
            print(&format!("\nthe nights together\n{text}"))?;
        }
        Ok(match judged.with(&measured.judgement) {
            Said::Alarm => Ended::Alarm,
            Said::Pass => Ended::Good,
            Said::Open => Ended::Unsure,
        })
    }

    /// The same against the pinned build: what no test against the last good one sees. `None` where there is no time for it.
    fn against_pinned(
        &mut self,
        past: &[Night],
        night: &Path,
        new: &Path,
    ) -> anyhow::Result<Option<(Night, Ended)>> {
        let base = night.join("pinned-base");
        fs::copy(self.kept.build(Keeping::Pinned), &base)?;
        let build = builds::described(&base)?;
        say(&format!("the pinned build: {}", build.tool.build()));
        if let Some(left) = self.left()
            && self.fitting(left / 2, u32::MAX, "--deadline").is_err()
        {
            self.note("no time is left to measure against the pinned build before the deadline".to_owned());
            return Ok(None);
        }
        // Alone such a night says nothing: what is confirmed and what all nights say together may each be wrong once in so many.
        let measured = self.measure(night, "pinned", &base, new, 2, false)?;
        let mut course = history::course(past, PINNED, &build.blake3, None);
        let mut ended = self.conclude(&measured, &mut course, PINNED)?;
        if ended == Ended::Unsure && measured.judgement.verdict == Verdict::Fine {
            say("good against the pinned build too");
            ended = Ended::Good;
        }
        let line = Night {
            counts: measured.quiet,
            pace: measured.pace,
            ..Night::of(&measured.data.manifest, &measured.directory, status_of(ended), PINNED)
        };
        Ok(Some((line, ended)))
    }

    /// Figures, reports and exports of the night.
    fn write_out(&self, night: &Path, measured: &Measured) -> anyhow::Result<()> {
        let root = self.kept.root();
        let source = Source::new(&measured.data.manifest, &measured.data.records, Some(&measured.judgement));
        export(&source, &[Format::HistoryCsv], root)?;
        let formats = [
            Format::GithubActionBenchmark,
            Format::Bmf,
            Format::Openmetrics,
            Format::Prometheus,
            Format::Junit,
        ];
        export(&source, &formats, &night.join("export"))?;
        for report in ["report.md", "report.html"] {
            fs::copy(measured.directory.join(report), night.join(report))?;
        }
        let text = history::drift(root)?.text();
        replace(&night.join("history.txt"), text.as_bytes())?;
        print(&format!("\n{text}"))
    }
}

/// Seconds of the verification runs, and of one repetition, as estimated.
fn once_and_each(plan: &Plan) -> (f64, f64) {
    let of = |kind: RunKind| {
        plan.order.iter().filter(|run| run.kind == kind).map(|run| plan.time(run).0).sum::<f64>()
    };
    (of(RunKind::Verification), of(RunKind::Timed) / f64::from(plan.repetitions.max(1)))
}

/// Options without those of these names and their values.
fn without(options: &[String], names: &[&str]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut words = options.iter();
    while let Some(word) = words.next() {
        if names.contains(&word.as_str()) {
            words.next();
        } else if !names.iter().any(|name| word.strip_prefix(name).is_some_and(|rest| rest.starts_with('=')))
        {
            kept.push(word.clone());
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_taken_out_with_their_values() {
        let options =
            ["--repeat", "3", "--set", "memory=64MiB", "--repeat=4", "--repeatedly"].map(str::to_owned);
        assert_eq!(without(&options, &["--repeat"]), ["--set", "memory=64MiB", "--repeatedly"]);
    }

    #[test]
    fn a_plan_takes_its_verification_once_and_each_repetition_alike() {
        let of = |repetitions| {
            let words = ["ab", "quick", "--repeat", repetitions].map(str::to_owned);
            Ab::parsed(&words).unwrap().plan().unwrap()
        };
        let ((once, each), (again, more)) = (once_and_each(&of("2")), once_and_each(&of("9")));
        assert!((once - again).abs() < 1e-9 && once > 0.0);
        // But for the jitter, which is under a tenth of a second a run.
        assert!((each - more).abs() < 0.1 * 8.0 && each > 1.0, "{each} and {more}");
    }
}

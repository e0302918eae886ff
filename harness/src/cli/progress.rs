//! The bar that shows where a suite is. Whoever sees it finds what it shows as the last run.

use std::path::PathBuf;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use migbench_reports::record::{Record, Status};
use migbench_scenarios::plan::Plan;

use super::last_run;
use crate::runner::pace::Pace;
use crate::runner::suite::{Job, Listener, Step};

/// A bar on a terminal; a line per run elsewhere.
#[derive(Debug)]
pub struct ProgressPrinter {
    bar: ProgressBar,
    /// Numbers of the runs to come, and about how many seconds are left when each starts.
    left: Vec<(usize, f64)>,
    /// What is left is estimated by what was made.
    pace: Pace,
    /// The run at hand: how long it takes by the estimate, and since when it runs.
    running: Option<(f64, Instant)>,
    plain: bool,
    directory: PathBuf,
}

impl ProgressPrinter {
    /// For the runs of a job.
    pub fn new(job: &Job) -> Self {
        let mut left: Vec<_> =
            job.runs().iter().map(|(number, run)| (*number, job.plan.time(run).0)).collect();
        left.iter_mut().rev().fold(0.0, |after, (_, time)| {
            *time += after;
            *time
        });
        let target = ProgressDrawTarget::stderr();
        let plain = target.is_hidden();
        let bar = ProgressBar::with_draw_target(Some(left.len() as u64), target);
        let style = ProgressStyle::with_template("{bar:24} {pos}/{len} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar, left, pace: Pace::default(), running: None, plain, directory: job.directory.clone() }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Listener for ProgressPrinter {
    fn step(&mut self, step: Step<'_>) {
        if matches!(step, Step::Created | Step::Reopened(_)) {
            last_run::note(&self.directory);
        }
    }

    fn warn(&mut self, text: &str) {
        self.bar.suspend(|| note!("warning: {text}"));
    }

    fn run_starts(&mut self, number: usize, id: &str, plan: &Plan) {
        // A slice has only some of the plan's numbers.
        let place = self.left.partition_point(|(other, _)| *other < number);
        let left = self.left.get(place).map_or(0.0, |(_, left)| *left) * self.pace.factor();
        self.running = plan.order.get(number).map(|run| (plan.time(run).0, Instant::now()));
        let left = format!("{:.0}:{:02.0}", (left / 60.0).floor(), (left % 60.0).floor());
        self.bar.set_position(place as u64);
        self.bar.set_message(format!("{id}, about {left} left"));
        if self.plain {
            note!("{}/{} {id}, about {left} left", place + 1, self.left.len());
        }
    }

    fn run_ends(&mut self, record: &Record) {
        if let Some((estimated, since)) = self.running.take() {
            self.pace.add(estimated, since.elapsed());
        }
        if record.status == Status::Failed
            && let Some(error) = &record.error
        {
            let line = format!("{} failed in {}: {}", record.run_id, error.phase, error.message);
            self.bar.suspend(|| note!("{line}"));
        }
    }
}

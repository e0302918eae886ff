//! The bar that shows where a suite is.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use migbench_reports::record::{Record, Status};
use migbench_scenarios::plan::Plan;

use crate::runner::suite::Listener;

/// A bar on a terminal; a line per run elsewhere.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    total: usize,
    plain: bool,
}

impl Progress {
    /// For a plan.
    pub fn new(plan: &Plan) -> Self {
        let target = ProgressDrawTarget::stderr();
        let plain = target.is_hidden();
        let bar = ProgressBar::with_draw_target(Some(plan.order.len() as u64), target);
        let style = ProgressStyle::with_template("{bar:24} {pos}/{len} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar, total: plan.order.len(), plain }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Listener for Progress {
    fn warn(&mut self, text: &str) {
        self.bar.suspend(|| eprintln!("warning: {text}"));
    }

    fn run_starts(&mut self, number: usize, id: &str, plan: &Plan) {
        let left = plan.remaining(number).0;
        let left = format!("{:.0}:{:02.0}", (left / 60.0).floor(), (left % 60.0).floor());
        self.bar.set_position(number as u64);
        self.bar.set_message(format!("{id}, about {left} left"));
        if self.plain {
            eprintln!("{}/{} {id}, about {left} left", number + 1, self.total);
        }
    }

    fn run_ends(&mut self, record: &Record) {
        if record.status == Status::Failed
            && let Some(error) = &record.error
        {
            let line = format!("{} failed in {}: {}", record.run_id, error.phase, error.message);
            self.bar.suspend(|| eprintln!("{line}"));
        }
    }
}

//! `migbench gate-study`: how far the gate can be trusted, by real runs that are judged again and again.

use std::path::PathBuf;

use migbench_reports::metric::{self, MetricKey};
use migbench_reports::record::{Record, Status};
use migbench_reports::stats;
use migbench_reports::store::RunData;
use migbench_reports::study::nights::{Outcomes, Scenario};
use migbench_reports::study::{BlockPool, Shift, VerdictCounts, as_measured};
use migbench_scenarios::Suite;
use migbench_scenarios::cell::Side;

use super::reading::Reading;
use super::{Exit, UsageError, print};

/// Nights of a history.
const NIGHTS: usize = 30;

/// Judges real runs again and again. For scripts/gate-study.
#[derive(Debug, clap::Args)]
pub struct GateStudy {
    /// Run directories of `migbench ab` with the same build on both sides.
    #[arg(value_name = "DIR", required = true, num_args = 1..)]
    directories: Vec<PathBuf>,
    /// Directories with a cost on the new side: judged as they are.
    #[arg(long, value_name = "DIR", num_args = 1..)]
    planted: Vec<PathBuf>,
    /// Judgements of each kind.
    #[arg(long, default_value_t = 2000)]
    times: usize,
    /// Repetitions of each judgement: some numbers, to show what more of them do.
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "10")]
    repetitions: Vec<usize>,
    /// Seed of the draws.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The suite by whose gates is judged.
    #[arg(long)]
    suite: String,
    /// Only say which cost moves METRIC by PERCENT: `total_time:send:5`.
    #[arg(long, value_name = "METRIC:STAGE:PERCENT")]
    cost: Option<String>,
    /// Judge histories of nights instead, as `migbench nightly` does; --times is of histories.
    #[arg(long)]
    nights: bool,
    #[command(flatten)]
    reading: Reading,
}

impl GateStudy {
    pub fn execute(self) -> anyhow::Result<Exit> {
        let load = |paths: &[PathBuf]| {
            paths.iter().map(|path| self.reading.data(path)).collect::<Result<Vec<RunData>, _>>()
        };
        let same = load(&self.directories)?;
        if let Some(cost) = &self.cost {
            print(&calibrated(cost, &same)?)?;
            return Ok(Exit::Success);
        }
        let gates = Suite::find(&self.suite)?.expand()?.gates;
        let pool = BlockPool::of(&same, &gates)?;
        let metrics = pool.metrics();
        for metric in &metrics {
            for (cell, blocks, variation) in pool.variation(*metric) {
                let share = variation.map_or_else(|| "unknown".to_owned(), |v| format!("{:.1} %", v * 100.0));
                print(&format!(
                    "{:<14} {cell}: {blocks} blocks, runs of one side vary by {share}",
                    metric.name()
                ))?;
            }
        }
        if self.nights {
            return self.histories(&pool);
        }
        let planted = by_cost(load(&self.planted)?);
        print(&format!("\nas measured, each an invocation of migbench ab\n{}", heading()))?;
        let measured = |name: &str, data: &[RunData]| -> anyhow::Result<()> {
            let runs = data.first().map_or(0, |data| data.manifest.repetitions);
            print(&row(name, usize::try_from(runs)?, &as_measured(data, &gates)?))
        };
        measured("same build", &same)?;
        for (cost, data) in &planted {
            measured(cost, data)?;
        }
        print(&format!(
            "\ndrawn from these runs, {} judgements a line, seed {}\n{}",
            self.times,
            self.seed,
            heading()
        ))?;
        for repetitions in &self.repetitions {
            let line = |name: &str, swap: bool, pool: &BlockPool, shifts: &[Shift]| -> anyhow::Result<()> {
                let tally = pool.judged(self.times, *repetitions, swap, shifts, self.seed)?;
                print(&row(name, *repetitions, &tally))
            };
            line("same build", true, &pool, &[])?;
            for metric in &metrics {
                for percent in [5.0, 10.0] {
                    let shifts = [Shift { metric: *metric, factor: 1.0 + percent / 100.0 }];
                    line(&format!("{} +{percent} %", metric.name()), true, &pool, &shifts)?;
                }
            }
        }
        for (cost, data) in planted {
            let pool = BlockPool::of(&data, &gates)?;
            for metric in &metrics {
                let moved = pool.moved(*metric).map_or(0.0, |ratio| (ratio - 1.0) * 100.0);
                print(&format!("{cost}: {} of new over base {moved:+.1} %", metric.name()))?;
            }
            for repetitions in &self.repetitions {
                if let Ok(tally) = pool.judged(self.times, *repetitions, false, &[], self.seed) {
                    print(&row(&cost, *repetitions, &tally))?;
                }
            }
        }
        Ok(Exit::Success)
    }

    fn histories(&self, pool: &BlockPool) -> anyhow::Result<Exit> {
        let of = |part: usize, all: usize| {
            format!("{part} of {all} ({:.1} %)", part as f64 / all.max(1) as f64 * 100.0)
        };
        for blocks in &self.repetitions {
            print(&format!(
                "\nhistories of {NIGHTS} nights of {blocks} blocks, {} of each kind, seed {}",
                self.times, self.seed
            ))?;
            let scenario =
                Scenario { nights: NIGHTS, blocks: *blocks, planted: None, creep: 0.0, pinned_every: 0 };
            let make = |scenario: Scenario| -> anyhow::Result<Outcomes> {
                Ok(pool.histories(&scenario, self.times, self.seed)?)
            };
            for from in [1, 4] {
                let slower = make(Scenario { planted: Some((from, 0.05)), ..scenario })?;
                print(&format!(
                    "+5 % from night {from} on: alarmed within five nights in {}, ever in {}; absorbed in {}",
                    of(slower.alarmed_within_five, slower.histories),
                    of(slower.alarmed, slower.histories),
                    of(slower.absorbed, slower.histories)
                ))?;
            }
            for pinned_every in [2, 3] {
                // 8 % are reached in the sixteenth night.
                let found = make(Scenario { nights: 15, creep: 0.005, pinned_every, ..scenario })?;
                let night = found.found_in as f64 / found.found_by_pinned.max(1) as f64;
                print(&format!(
                    "0.5 % slower each night: found before 8 % against the build pinned first, measured every {pinned_every} nights, \
                     in {}; in night {night:.1} on average",
                    of(found.found_by_pinned, found.histories)
                ))?;
            }
            let same = make(scenario)?;
            print(&format!(
                "same build: false alarms in {} nights; passed within five nights in {}",
                of(same.false_alarms, same.clean_nights),
                of(same.passed_within_five, same.histories)
            ))?;
        }
        Ok(Exit::Success)
    }
}

fn by_cost(data: Vec<RunData>) -> std::collections::BTreeMap<String, Vec<RunData>> {
    let mut by_cost = std::collections::BTreeMap::<_, Vec<RunData>>::new();
    for data in data {
        by_cost
            .entry(data.manifest.planted.clone().unwrap_or_else(|| "nothing".to_owned()))
            .or_default()
            .push(data);
    }
    by_cost
}

fn heading() -> String {
    format!(
        "{:<36} {:>5} {:>8} {:>8} {:>11} {:>11} {:>6}",
        "", "runs", "fine", "unsure", "unconfirmed", "regression", "host"
    )
}

fn row(name: &str, repetitions: usize, tally: &VerdictCounts) -> String {
    format!(
        "{name:<36} {repetitions:>5} {:>8} {:>8} {:>11} {:>11} {:>6}",
        tally.fine, tally.unsure, tally.unconfirmed, tally.regression, tally.host
    )
}

/// The cost that moves a metric by so many percent, from the medians of what was measured without one.
fn calibrated(text: &str, data: &[RunData]) -> anyhow::Result<String> {
    let wrong = || UsageError(format!("`{text}`: write it like total_time:send:5"));
    let [metric, stage, percent] = text.split(':').collect::<Vec<_>>()[..] else {
        return Err(wrong().into());
    };
    let metric = MetricKey::find(metric).ok_or_else(wrong)?;
    let percent: f64 = percent.parse().map_err(|_| wrong())?;
    let runs: Vec<&Record> = data
        .iter()
        .flat_map(|data| &data.records)
        .filter(|run| run.status == Status::Ok && run.repetition > 0 && run.cell.side == Some(Side::Base))
        .collect();
    let median = |value: &dyn Fn(&Record) -> Option<f64>| {
        stats::median(&runs.iter().filter_map(|run| value(run)).collect::<Vec<_>>())
    };
    let wanted = median(&|run| metric::value(&run.metrics, metric)).ok_or_else(wrong)? * percent / 100.0;
    // Seconds of what the cost is counted in: the paused round's alone where the metric is of the pause.
    let paused = matches!(metric.name(), "downtime" | "blackout");
    let rounds = |run: &Record, of: &dyn Fn(&migbench_reports::record::Round) -> Option<f64>| {
        run.rounds
            .iter()
            .filter(|round| !paused || round.paused)
            .filter_map(of)
            .reduce(|sum, time| sum + time)
    };
    let cost = match stage {
        "encode" => {
            let own = median(&|run| rounds(run, &|round| round.encode_time)).ok_or_else(wrong)?;
            format!("encode+{:.1}%", wanted / own * 100.0)
        }
        "send" => {
            let own = median(&|run| rounds(run, &|round| round.send_time)).ok_or_else(wrong)?;
            format!("send+{:.1}%", wanted / own * 100.0)
        }
        "harvest" => {
            // The pause has its own harvest; all of them follow a round but the last, which follows the pause.
            let count =
                median(&|run| Some(if paused { 1.0 } else { run.rounds.len() as f64 })).ok_or_else(wrong)?;
            format!("harvest+{:.0}ns", wanted / count * 1e9)
        }
        "resume" => format!("resume+{:.0}ns", wanted * 1e9),
        _ => return Err(wrong().into()),
    };
    Ok(cost)
}

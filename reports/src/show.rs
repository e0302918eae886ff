//! What one looks at when a single run raises a question: all runs in a list, or one with its rounds, metrics,
//! latencies and error.

mod chart;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::canary::{self, CanaryShift};
use crate::histogram::{self, Latencies, Phase};
use crate::metric::{self, MetricKey, Unit};
use crate::quantity::{self, show};
use crate::record::{Backend, Cause, Record, Round, Stall, Stalls};
use crate::store::RunData;
use crate::table::place;
use crate::warning::{HOST_MOVED, Warning};

/// All runs in the order of execution, one line each.
#[must_use]
pub fn list(data: &RunData) -> String {
    let mut rows: Vec<Vec<String>> =
        vec![["run", "comparison", "engine", "kind", "status", "total time"].map(str::to_owned).to_vec()];
    for record in &data.records {
        let total = metric::value(&record.metrics, MetricKey::TotalTime);
        rows.push(vec![
            record.run_id.clone(),
            record.comparison.clone(),
            record.cell.engine.to_string(),
            record.kind.word().to_owned(),
            record.status.word().to_owned(),
            total.map_or_else(|| "-".to_owned(), |value| show(Unit::Seconds, value)),
        ]);
    }
    let mut out = grid(&rows, 5);
    if data.manifest.backend == Backend::Simulated {
        let _ = writeln!(out, "warning: {}", Warning::Simulated);
    }
    if let Some(line) = data.truncated {
        let _ = writeln!(out, "warning: line {line} of runs.jsonl was cut off and is left out");
    }
    out
}

/// One run, by its id or an unambiguous beginning of it.
///
/// # Errors
/// [`NoSuchRun`], with the ids that come close.
pub fn run(data: &RunData, id: &str) -> Result<String, NoSuchRun> {
    let exact = data.records.iter().find(|record| record.run_id == id);
    let mut starting = data.records.iter().filter(|record| record.run_id.starts_with(id));
    let record = match (exact, starting.next(), starting.next()) {
        (Some(record), ..) | (None, Some(record), None) => record,
        (None, found, _) => {
            let near = data.records.iter().filter(|record| found.is_none() || record.run_id.starts_with(id));
            let near = near.map(|record| record.run_id.clone()).collect();
            return Err(NoSuchRun { id: id.to_owned(), ambiguous: found.is_some(), near });
        }
    };
    let judged = canary::moved(&data.manifest, &data.records);
    let moved = data.records.iter().zip(judged).find(|(other, _)| std::ptr::eq(*other, record));
    Ok(full(record, moved.and_then(|(_, moved)| moved)))
}

/// One run in full.
#[must_use]
pub fn record(record: &Record) -> String {
    full(record, None)
}

/// `moved` is what the host was like before its block, where that was another one.
fn full(record: &Record, moved: Option<CanaryShift>) -> String {
    [
        head(record, moved),
        rounds(&record.rounds),
        chart::draw(record),
        metrics(record),
        latencies(record),
        record.stalls.get().as_ref().as_ref().map(stalls).unwrap_or_default(),
    ]
    .into_iter()
    .filter(|part| !part.is_empty())
    .collect::<Vec<_>>()
    .join("\n")
}

/// No run has that id, or several begin with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} `{id}`; {}", if *.ambiguous { "several runs begin with" } else { "no run is called" }, choices(.near))]
pub struct NoSuchRun {
    /// What was asked for.
    pub id: String,
    /// Whether several runs begin with it.
    pub ambiguous: bool,
    /// Runs that could be meant.
    pub near: Vec<String>,
}

fn choices(near: &[String]) -> String {
    const SHOWN: usize = 8;
    match near {
        [] => "there are no runs".to_owned(),
        near if near.len() <= SHOWN => format!("there are {}", near.join(", ")),
        near => format!("there are {}, and {} more", near[..SHOWN].join(", "), near.len() - SHOWN),
    }
}

fn head(record: &Record, moved: Option<CanaryShift>) -> String {
    let mut out = format!(
        "{}: {} with {}, {} run, repetition {}, {}\n",
        record.run_id,
        record.cell.workload,
        record.cell.engine,
        record.kind.word(),
        record.repetition,
        record.status.word()
    );
    let _ =
        writeln!(out, "started {}, number {} in order, seed {}", record.started, record.order, record.seed);
    if let Some(error) = &record.error {
        let _ = writeln!(out, "failed in {}: {}; {}", error.phase, error.message, place(error.guest));
    }
    let answer = |answer: Option<bool>, yes: &'static str, no: &'static str, none: &'static str| match answer
    {
        Some(true) => yes,
        Some(false) => no,
        None => none,
    };
    let memory = match &record.not_verified {
        Some(why) => format!("MEMORY NOT COMPARED: {why}"),
        None => {
            answer(record.verified, "memory hashed equal", "MEMORY DIFFERED", "memory not hashed").to_owned()
        }
    };
    let state = answer(
        record.guest_checked,
        "guest state checked",
        "GUEST STATE WAS WRONG",
        "guest state not checked",
    );
    let _ = writeln!(out, "{memory}; {state}");
    let own = record.flags.iter().map(String::as_str).filter(|flag| *flag != HOST_MOVED);
    let flags: Vec<_> = own.chain(moved.map(|_| HOST_MOVED)).collect();
    if !flags.is_empty() {
        let _ = writeln!(out, "flags: {}", flags.join(", "));
    }
    if let Some(CanaryShift { key, ratio }) = moved {
        let (label, ratio) = (key.definition().label, quantity::percent(ratio));
        let _ = writeln!(out, "{label}: {ratio} of the median of all blocks before this one");
    }
    out
}

fn rounds(rounds: &[Round]) -> String {
    if rounds.is_empty() {
        return String::new();
    }
    let stages = Round::default().stages().map(|(name, _)| name);
    let head = ["round", "dirty", "traffic", "duration"]
        .into_iter()
        .chain(stages)
        .chain(["idle", "full", "zero", "delta", "same", "overflow", "estimate"]);
    let mut rows = vec![head.map(str::to_owned).collect::<Vec<_>>()];
    for round in rounds {
        let paused = if round.paused { " paused" } else { "" };
        let time = |value| show(Unit::Seconds, value);
        let some = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), time);
        let mut row = vec![
            format!("{}{paused}", round.round),
            round.dirty_pages.to_string(),
            show(Unit::Bytes, round.traffic as f64),
        ];
        row.push(time(round.duration));
        row.extend(round.stages().map(|(_, stage)| some(stage)));
        row.push(some(round.wire_idle));
        row.extend(
            [
                round.pages_full,
                round.pages_zero,
                round.pages_delta,
                round.pages_unchanged,
                round.pages_overflow,
            ]
            .map(|pages| pages.to_string()),
        );
        row.push(some(round.estimate));
        rows.push(row);
    }
    grid(&rows, 1)
}

fn metrics(record: &Record) -> String {
    let known = MetricKey::ALL.iter().filter_map(|key| Some((*key, metric::value(&record.metrics, *key)?)));
    let rows: Vec<Vec<String>> = known
        .map(|(key, value)| {
            let definition = key.definition();
            vec![definition.name.to_owned(), definition.label.to_owned(), show(definition.unit, value)]
        })
        .collect();
    let mut out = grid(&rows, 2);
    for (name, metric) in &record.metrics {
        let unit_agrees =
            MetricKey::find(name).is_some_and(|key| *key.definition().unit.symbol() == *metric.unit);
        if !unit_agrees {
            let _ = writeln!(out, "{name}  {} {} (not known to this version)", metric.value, metric.unit);
        }
    }
    out
}

/// Quantiles per operation and phase, phases in order of time.
fn latencies(record: &Record) -> String {
    const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];
    let mut sorted: BTreeMap<(&str, usize), (&str, &str)> = BTreeMap::new();
    let histograms = record.histograms.get();
    for (key, text) in histograms.as_ref() {
        let (operation, phase) = key.split_once('/').unwrap_or((key, ""));
        let place = Phase::ALL.iter().position(|(word, _)| *word == phase).unwrap_or(Phase::ALL.len());
        sorted.insert((operation, place), (phase, text));
    }
    let mut rows: Vec<Vec<String>> = Vec::new();
    for ((operation, _), (phase, text)) in sorted {
        let name = format!("{operation}/{phase}");
        let Ok(histogram) = histogram::decode(text) else {
            rows.push(vec![name, "can't be read".to_owned()]);
            continue;
        };
        let mut row = vec![name, histogram.len().to_string()];
        row.extend(QUANTILES.map(|(_, q)| {
            histogram::supported_quantile(&histogram, q).map_or_else(|| "-".to_owned(), nanoseconds)
        }));
        row.push(longest(&histogram));
        rows.push(row);
    }
    if rows.is_empty() {
        return String::new();
    }
    let head = ["latency", "count"].into_iter().chain(QUANTILES.map(|(label, _)| label)).chain(["max"]);
    rows.insert(0, head.map(str::to_owned).collect());
    grid(&rows, 1)
}

/// The longest stalls by phase and by what the host did, and the longest of all one by one.
fn stalls(stalls: &Stalls) -> String {
    const SHOWN: usize = 10;
    let time = |seconds| show(Unit::Seconds, seconds);
    let clocks = stalls.clock_error.map_or_else(
        || "the clocks could not be compared".to_owned(),
        |error| format!("clocks compared to {}", time(error)),
    );
    let mut out = format!(
        "stalls: operations over {}; {} listed, {} counted and dropped; {clocks}\n",
        time(stalls.threshold),
        stalls.list.len(),
        stalls.dropped
    );
    let mut sums: BTreeMap<(usize, Cause), (usize, f64, f64)> = BTreeMap::new();
    let place = |stall: &Stall| Phase::ALL.iter().position(|(word, _)| *word == stall.phase);
    for stall in &stalls.list {
        let sum = sums.entry((place(stall).unwrap_or(Phase::ALL.len()), stall.cause)).or_default();
        *sum = (sum.0 + 1, sum.1 + stall.duration, sum.2.max(stall.duration));
    }
    let mut rows = vec![["phase", "cause", "stalls", "together", "longest"].map(str::to_owned).to_vec()];
    for ((phase, cause), (count, together, longest)) in sums {
        let phase = Phase::ALL.get(phase).map_or("other", |(word, _)| *word);
        let figures = [count.to_string(), time(together), time(longest)];
        rows.push([phase, cause.word()].map(str::to_owned).into_iter().chain(figures).collect());
    }
    out += &grid(&rows, 2);
    let mut longest: Vec<&Stall> = stalls.list.iter().collect();
    longest.sort_by(|a, b| b.duration.total_cmp(&a.duration));
    let head = ["at", "took", "vCPU", "operation", "phase", "cause"].map(str::to_owned).to_vec();
    let rows: Vec<_> = std::iter::once(head)
        .chain(longest.iter().take(SHOWN).map(|stall| {
            let at = stall.start.map_or_else(|| "-".to_owned(), time);
            let words = [stall.operation.as_str(), stall.phase.as_str(), stall.cause.word()];
            let figures = [at, time(stall.duration), stall.vcpu.to_string()];
            figures.into_iter().chain(words.map(str::to_owned)).collect()
        }))
        .collect();
    if rows.len() > 1 {
        out.push('\n');
        out += &grid(&rows, usize::MAX);
    }
    out
}

fn longest(histogram: &Latencies) -> String {
    if histogram.is_empty() { "-".to_owned() } else { nanoseconds(histogram.max()) }
}

fn nanoseconds(value: u64) -> String {
    quantity::show(Unit::Seconds, value as f64 / 1e9)
}

/// Columns from `right` on are aligned to the right.
fn grid(rows: &[Vec<String>], right: usize) -> String {
    crate::render::grid(rows, 2, right).iter().map(|line| line.trim_end().to_owned() + "\n").collect()
}

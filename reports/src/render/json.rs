//! The report as one JSON object, for programs. Its shape has a schema, `schema/report.schema.json`, and a version.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::tidy;
use crate::histogram::Phase;
use crate::manifest::{Host, Tool};
use crate::measure::Difference;
use crate::report::Report;
use crate::stats::Spread;
use crate::table::{self, RowKind};

/// Version of this shape.
pub const SCHEMA: u32 = 1;

/// What `migbench report --format json` writes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Document {
    /// Version of this shape.
    pub schema: u32,
    /// One per run directory, in the order in which they were named.
    pub reports: Vec<Directory>,
}

/// A run directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Directory {
    /// Where its records are.
    pub directory: String,
    /// Name of the suite.
    pub suite: String,
    /// BLAKE3 of the suite's text.
    pub suite_hash: String,
    /// What ran, in a sentence.
    pub subject: String,
    /// The command that ran it, word by word.
    pub command: Vec<String>,
    /// When it started, UTC, RFC 3339.
    pub started: String,
    /// Seed of guests and order.
    pub seed: u64,
    /// Timed runs planned per cell.
    pub repetitions: u32,
    /// The program that ran it.
    pub tool: Tool,
    /// The host it ran on.
    pub host: Host,
    /// Whether every run ended and nothing that was to be proven is disproven or missing.
    pub sound: bool,
    /// Runs that failed, verification runs included.
    pub failed_runs: usize,
    /// What was proven, in a sentence.
    pub proven: String,
    /// What was disproven, or was to be proven and was not.
    pub alarms: Vec<String>,
    /// What weakens the figures.
    pub warnings: Vec<String>,
    /// What size costs, in sentences, where the suite varies it.
    pub scaling: Vec<String>,
    /// All figures.
    pub tables: Vec<JsonTable>,
}

/// Figures of one kind, of one comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JsonTable {
    /// `metrics`: every metric of each cell. `summary`: geometric means of ratios over workloads. `latency`: quantiles of
    /// merged histograms. `delta`: traffic saved, and its ceiling. `stalls`: time by cause of one vCPU in one run.
    pub table: String,
    /// What people read above it.
    pub title: String,
    /// Name of the comparison; null for a table over several.
    pub comparison: Option<String>,
    /// The axis on which its cells differ.
    pub compare: Option<String>,
    /// Remarks on it, in sentences.
    pub notes: Vec<String>,
    /// Baseline first, controls last.
    pub rows: Vec<JsonRow>,
}

/// A cell's runs that ended ok, or those that were capped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JsonRow {
    /// `baseline`, `compared`, `control`, `capped` (the capped runs of the cell of the row above; no sample is in both), or
    /// `skipped`.
    pub row: RowKind,
    /// The cell's label in the comparison.
    pub cell: String,
    /// What its guest does; absent in a table over several comparisons.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub workload: String,
    /// What moves it; absent in a table over several comparisons.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub engine: String,
    /// When the operations ran, in tables of latencies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// The cell's timed runs by how they ended.
    pub runs: JsonRuns,
    /// Why there are no figures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// By name of the metric. What could not be had is absent.
    pub figures: BTreeMap<String, JsonFigure>,
}

/// How many timed runs ended how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JsonRuns {
    /// As planned.
    pub ok: usize,
    /// By a limit that forced the switchover.
    pub capped: usize,
    /// Not as planned.
    pub failed: usize,
}

/// A figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JsonFigure {
    /// `s`, `B`, `count`, `ratio`, `op/s`, `page/s`, `op`, `s/s`, `B/s`.
    pub unit: String,
    /// Samples behind it: runs; of latencies, operations; of geometric means, comparisons.
    pub n: u64,
    /// The median of runs; of `latency` the quantile; of `summary` the geometric mean.
    pub value: f64,
    /// Of the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<Spread>,
    /// To the baseline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<Difference>,
}

/// All reports as text.
#[must_use]
pub fn render(reports: &[Report]) -> String {
    let document = Document::of(reports);
    // Maps have strings for keys and numbers are finite: there is nothing that JSON could refuse.
    serde_json::to_string_pretty(&document).map(|text| text + "\n").unwrap_or_default()
}

impl Document {
    /// Of these reports.
    #[must_use]
    pub fn of(reports: &[Report]) -> Self {
        Self { schema: SCHEMA, reports: reports.iter().map(Directory::of).collect() }
    }
}

impl Directory {
    fn of(report: &Report) -> Self {
        let manifest = &report.manifest;
        Self {
            directory: report.path.display().to_string(),
            suite: manifest.suite.clone(),
            suite_hash: manifest.suite_hash.clone(),
            subject: report.subject.clone(),
            command: manifest.command.clone(),
            started: manifest.started.clone(),
            seed: manifest.seed,
            repetitions: manifest.repetitions,
            tool: manifest.tool.clone(),
            host: manifest.host.clone(),
            sound: report.sound(),
            failed_runs: report.failed_runs,
            proven: report.verification.proven.clone(),
            alarms: report.verification.alarms.iter().map(ToString::to_string).collect(),
            warnings: report.warnings.iter().map(ToString::to_string).collect(),
            scaling: report.scaling.clone(),
            tables: tidy::tables(report).into_iter().map(|named| table(report, named)).collect(),
        }
    }
}

fn table(report: &Report, named: tidy::NamedTable<'_>) -> JsonTable {
    let table = named.table;
    let name = (!table.comparison.is_empty()).then(|| table.comparison.clone());
    let plan = report.manifest.comparisons.iter().find(|plan| Some(&plan.name) == name.as_ref());
    // The remarks on a comparison stand in the table for people.
    let shown = report
        .tables
        .iter()
        .find(|shown| named.name == tidy::METRICS && Some(&shown.comparison) == name.as_ref());
    JsonTable {
        table: named.name.to_owned(),
        title: table.title.clone(),
        compare: plan.map(|plan| plan.compare.clone()),
        comparison: name,
        notes: shown.unwrap_or(table).notes.clone(),
        rows: table.rows.iter().map(|row| self::row(named, row)).collect(),
    }
}

fn row(named: tidy::NamedTable<'_>, row: &table::Row) -> JsonRow {
    let subject = &row.subject;
    let [ok, capped, failed] = subject.runs;
    let figures = named.figures(row).map(|(column, figure)| {
        let numbers = figure.numbers;
        let figure = JsonFigure {
            unit: column.unit.symbol().to_owned(),
            n: numbers.samples,
            value: numbers.value,
            spread: numbers.spread,
            difference: numbers.difference,
        };
        (column.name.clone(), figure)
    });
    JsonRow {
        row: row.kind,
        cell: subject.cell.clone(),
        workload: subject.workload.clone(),
        engine: subject.engine.clone(),
        phase: subject.phase,
        runs: JsonRuns { ok, capped, failed },
        note: row.text.clone(),
        figures: figures.collect(),
    }
}

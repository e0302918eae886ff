//! A plan: the cells of a suite, fully resolved, and the order in which they run. It is what `--dry-run` shows, what
//! the runner runs, and what a run directory keeps.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use migbench_workloads::units::Seconds;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cell::{Cell, Checksum};
use crate::error::SuiteError;
use crate::estimate;
use crate::gate::{self, Gate};
use crate::key::{self, KEYS};
use crate::matrix;
use crate::order;
use crate::suite::Suite;

/// Everything that will run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// Name of the suite.
    pub suite: String,
    /// What the suite is for, in a line.
    pub description: String,
    /// Markdown for reports.
    pub analysis: String,
    /// About how long it takes, in the words of the suite.
    pub time_budget: String,
    /// BLAKE3 of what is measured: the suite's name and every cell with its comparison and baseline, without the keys that
    /// are at their default. Seed, prose, repetitions and `--filter` do not change it, nor does a later version that knows
    /// more keys; `--set` does.
    pub hash: String,
    /// The seed of the order and of the guests.
    pub seed: u64,
    /// Timed runs of each cell.
    pub repetitions: u32,
    /// The comparisons in the order of the suite.
    pub comparisons: Vec<Comparison>,
    /// All runs in the order in which they happen.
    pub order: Vec<PlannedRun>,
    /// The metrics that decide whether something became worse. They are judged by and not measured: the hash leaves them out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<Gate>,
}

/// Cells that are compared with each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    /// Unique in the plan.
    pub name: String,
    /// The key whose values are the rows.
    pub compare: String,
    /// The row that the others are compared with; null when a filter left it out.
    pub baseline: Option<usize>,
    /// Markdown for reports.
    pub analysis: String,
    /// The rows.
    pub cells: Vec<PlannedCell>,
}

/// A row of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedCell {
    /// `comparison/label`, unique in the plan; what `--filter` looks at.
    pub id: String,
    /// The value of the compared key, and what an `include` added to it.
    pub label: String,
    /// All parameters.
    pub cell: Cell,
    /// Whether the cell is skipped, with its reason, on a host that cannot run it.
    pub optional: bool,
}

/// What a run is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RunKind {
    /// A timing sample.
    Timed,
    /// Proves that memory arrives whole; never a timing sample.
    Verification,
}

impl RunKind {
    /// As it stands in records.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Timed => "timed",
            Self::Verification => "verification",
        }
    }
}

/// One migration to come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedRun {
    /// In [`Plan::comparisons`].
    pub comparison: usize,
    /// In [`Comparison::cells`].
    pub cell: usize,
    /// 0 is the verification run; timed ones count from 1.
    pub repetition: u32,
    /// What it is for.
    pub kind: RunKind,
    /// The guest's seed, under 2^53, shared by the cells of a comparison in one repetition.
    pub seed: u64,
    /// How long after the steady windows the migration starts, 0 to 100 ms; shared like the seed, so that engines
    /// meet the guest at the same moment and repetitions at different ones.
    pub start_jitter: Seconds,
}

impl Plan {
    pub(crate) fn of(suite: &Suite) -> Result<Self, SuiteError> {
        let mut comparisons: Vec<Comparison> = Vec::new();
        let mut unread = Vec::new();
        for spec in &suite.specs {
            for matrix::Expanded { comparison, unread: named } in matrix::expand(suite, spec)? {
                if comparisons.iter().any(|other| other.name == comparison.name) {
                    let what = format!("a second comparison is called {}; give it a `name`", comparison.name);
                    return Err(SuiteError::duplicate(&spec.place, what));
                }
                comparisons.push(comparison);
                unread.extend(named);
            }
        }
        // What the command line sets may rename the cells of a gate, which then has nothing to say.
        if !suite.overridden() {
            gate::check(&suite.gates, &comparisons)?;
        }
        let hash = hash(&suite.name, &comparisons);
        if let Some((place, regex)) = &suite.filter {
            let ids: Vec<String> =
                comparisons.iter().flat_map(|c| c.cells.iter().map(|cell| cell.id.clone())).collect();
            comparisons =
                comparisons.into_iter().filter_map(|c| c.filtered(|id| regex.is_match(id))).collect();
            if comparisons.is_empty() {
                return Err(SuiteError::no_match(
                    place,
                    format!("matches no cell; there are {}", ids.join(", ")),
                ));
            }
        }
        let cells = || comparisons.iter().flat_map(|comparison| &comparison.cells);
        // What only some engines read may be set for a suite that has others beside them.
        let serves = |key: &usize| {
            let name = KEYS[*key].name;
            suite.set.contains(key)
                && !name.starts_with("settings.")
                && cells().any(|planned| planned.cell.engine.reads(name))
        };
        let in_question =
            |(id, key, _): &(String, usize, _)| !serves(key) && cells().any(|cell| cell.id == *id);
        if suite.refuse_unread
            && let Some((_, _, error)) = unread.into_iter().find(in_question)
        {
            return Err(error);
        }
        Ok(Self {
            suite: suite.name.clone(),
            description: suite.description.clone(),
            analysis: suite.analysis.clone(),
            time_budget: suite.time_budget.clone(),
            hash,
            seed: suite.seed,
            repetitions: suite.repetitions,
            order: order::of(&comparisons, suite.repetitions, suite.seed),
            comparisons,
            gates: suite.gates.iter().map(|(_, gate)| gate.clone()).collect(),
        })
    }

    /// A plan of one cell run `repetitions` times, without a verification run where `verify` is false.
    #[must_use]
    pub fn single(cell: Cell, repetitions: u32, verify: bool, seed: u64) -> Self {
        let (name, label) = (cell.workload.clone(), cell.engine.to_string());
        let planned = PlannedCell { id: format!("{name}/{label}"), label, cell, optional: false };
        let comparisons = vec![Comparison {
            name,
            compare: "engine".to_owned(),
            baseline: Some(0),
            analysis: String::new(),
            cells: vec![planned],
        }];
        let mut order = order::of(&comparisons, repetitions, seed);
        order.retain(|run| verify || run.kind == RunKind::Timed);
        Self {
            suite: "migrate".to_owned(),
            description: "one cell, from the command line".to_owned(),
            analysis: String::new(),
            time_budget: String::new(),
            hash: hash("migrate", &comparisons),
            seed,
            repetitions,
            comparisons,
            order,
            gates: Vec::new(),
        }
    }

    /// The same with another seed: other guests, in another order.
    #[must_use]
    pub fn reseeded(&self, seed: u64) -> Self {
        Self { seed, order: order::of(&self.comparisons, self.repetitions, seed), ..self.clone() }
    }

    /// The same suite with other comparisons.
    pub(crate) fn compare_anew(&mut self, comparisons: Vec<Comparison>) {
        self.hash = hash(&self.suite, &comparisons);
        self.order = order::of(&comparisons, self.repetitions, self.seed);
        self.comparisons = comparisons;
    }

    /// The plan as JSON with sorted keys, without the keys of cells that are at their default: the text to hash it by, which is
    /// the same in a version that knows more keys.
    #[must_use]
    pub fn canonical(&self) -> Value {
        let mut plan = serde_json::to_value(self).unwrap_or_default();
        for (index, comparison) in self.comparisons.iter().enumerate() {
            for (row, planned) in comparison.cells.iter().enumerate() {
                if let Some(cell) = plan.pointer_mut(&format!("/comparisons/{index}/cells/{row}/cell")) {
                    *cell = given(&planned.cell).into_iter().collect();
                }
            }
        }
        plan
    }

    /// The cell of a run of this plan.
    #[must_use]
    pub fn cell(&self, run: &PlannedRun) -> Option<&PlannedCell> {
        self.comparisons.get(run.comparison)?.cells.get(run.cell)
    }

    /// About how long the plan takes, on a host that keeps up with the links. An upper bound for the delta engine,
    /// unknown for closed loops; see [`estimate::run`].
    #[must_use]
    pub fn estimate(&self) -> Seconds {
        Seconds(self.order.iter().map(|run| self.time(run).0).sum())
    }

    /// The same for one run of this plan.
    #[must_use]
    pub fn time(&self, run: &PlannedRun) -> Seconds {
        let planned = self.cell(run);
        Seconds(planned.map_or(0.0, |cell| estimate::run(&cell.cell, run.kind).0 + run.start_jitter.0))
    }
}

impl Comparison {
    /// The comparison with only the cells whose id is wanted, if any.
    fn filtered(mut self, wanted: impl Fn(&str) -> bool) -> Option<Self> {
        let baseline = self.baseline.and_then(|index| self.cells.get(index)).map(|cell| cell.id.clone());
        self.cells.retain(|cell| wanted(&cell.id));
        self.baseline = baseline.and_then(|id| self.cells.iter().position(|cell| cell.id == id));
        (!self.cells.is_empty()).then_some(self)
    }
}

/// Of the JSON of what is measured.
fn hash(name: &str, comparisons: &[Comparison]) -> String {
    let measured: Vec<_> = comparisons
        .iter()
        .map(|c| {
            let cells: Vec<_> = c.cells.iter().map(|cell| (&cell.id, given(&cell.cell))).collect();
            (&c.name, &c.compare, c.baseline, cells)
        })
        .collect();
    // Cells have string keys and finite numbers only, which is all that JSON could refuse.
    let text = serde_json::to_vec(&(name, measured)).unwrap_or_default();
    blake3::hash(&text).to_hex().to_string()
}

/// The keys of a cell that are not at their default, sorted by name: all that a hash needs to know of it, and the same in a
/// version that knows more keys. A key whose default is not what was measured before there was the key is given at its default too.
fn given(cell: &Cell) -> BTreeMap<String, Value> {
    fn differing(path: &str, value: Value, default: Option<&Value>, given: &mut BTreeMap<String, Value>) {
        match (value, default) {
            (value, Some(default)) if value == *default => {}
            (Value::Object(fields), Some(Value::Object(defaults))) => {
                for (name, value) in fields {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    differing(&path, value, defaults.get(&name), given);
                }
            }
            (value, _) => {
                given.insert(path.to_owned(), value);
            }
        }
    }
    static DEFAULTS: LazyLock<Value> = LazyLock::new(|| {
        let mut first = key::blank();
        first.link.checksum = Checksum::Pages;
        serde_json::to_value(first).unwrap_or_default()
    });
    let mut given = BTreeMap::new();
    differing("", serde_json::to_value(cell).unwrap_or_default(), Some(&DEFAULTS), &mut given);
    given
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A plan as a version wrote it: it reads back, and its hash is still the one that it was given. Keys that are new since
    /// then are at their default in it, and defaults that it holds in full must not move.
    #[test]
    fn the_hash_of_a_plan_outlives_new_keys() {
        let plan: Plan = serde_json::from_str(include_str!("../tests/plan.json")).unwrap();
        assert_eq!(hash(&plan.suite, &plan.comparisons), plan.hash);
        let cells = plan.comparisons.iter().flat_map(|comparison| &comparison.cells);
        assert!(cells.clone().any(|planned| planned.cell.link.rate.is_none()));
    }

    #[test]
    fn what_is_given_is_what_differs_from_the_default() {
        let mut cell = key::blank();
        let given_to_new = serde_json::to_string(&given(&cell)).unwrap();
        assert_eq!(given_to_new, "{\"link.checksum\":\"header\"}");
        cell.link.checksum = Checksum::Pages;
        assert_eq!(given(&cell), BTreeMap::new());
        cell.link.rate = None;
        cell.stop.max_rounds = 7;
        cell.side = Some(crate::cell::Side::New);
        cell.settings.load = migbench_workloads::settings::Load::Pressure(0.7);
        cell.pinning = Some(crate::cell::Pinning { vcpus: vec![1], source: vec![], destination: vec![] });
        let given = serde_json::to_string(&given(&cell)).unwrap();
        assert_eq!(
            given,
            "{\"link.rate\":null,\"pinning\":{\"destination\":[],\"source\":[],\"vcpus\":[1]},\
             \"settings.load\":{\"pressure\":0.7},\"side\":\"new\",\"stop.max_rounds\":7}"
        );
    }
}

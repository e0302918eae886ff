//! Which runs stand against which. Two run directories of one plan on one class of host, or one directory that
//! `migbench ab` made, become cells with a base and a new side.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use migbench_scenarios::cell::{Cell, Side};
use migbench_scenarios::gate::Gate;
use migbench_scenarios::{Plan, Slice};

use super::host::{self, HostChange};
use crate::cells::{self, CellRuns};
use crate::manifest::{Manifest, Tool};
use crate::measure::{Measure, Tails, columns};
use crate::record::{Record, Status};
use crate::shell;
use crate::store::{OtherSchema, RunData};
use crate::verification::Verification;

/// Where one side comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The run directory.
    pub path: PathBuf,
    /// The schema of its records.
    pub schema: u32,
    /// The build whose nodes ran, where the manifest knows it, else the program that ran the suite.
    pub tool: Tool,
    /// The program whose nodes ran, where that is another one.
    pub binary: Option<String>,
    /// The command that made the directory.
    pub command: String,
    /// What commands that read it have to be given besides.
    pub reading: Option<&'static str>,
}

impl Origin {
    /// The commit as people name it: `0123abc`, with what makes it doubtful.
    #[must_use]
    pub fn commit(&self) -> String {
        let commit = self.tool.commit.as_deref().unwrap_or("unknown");
        let dirty = if self.tool.dirty == Some(true) { " with uncommitted changes" } else { "" };
        match &self.binary {
            Some(binary) => format!("{commit}{dirty}, the nodes of {binary}"),
            None => format!("{commit}{dirty}"),
        }
    }
}

/// The runs of a cell that are samples: timed, ended as planned.
#[derive(Debug, Clone, PartialEq)]
pub enum Runs<'a> {
    /// Both sides of each block, (base, new): they ran one after the other, in an order that was drawn.
    Blocks(Vec<(&'a Record, &'a Record)>),
    /// Two groups that were made at different times.
    Apart {
        /// Of the base.
        base: Vec<&'a Record>,
        /// Of what is new.
        new: Vec<&'a Record>,
    },
}

impl<'a> Runs<'a> {
    /// How many there are of each side.
    #[must_use]
    pub const fn count(&self) -> (usize, usize) {
        match self {
            Self::Blocks(blocks) => (blocks.len(), blocks.len()),
            Self::Apart { base, new } => (base.len(), new.len()),
        }
    }

    /// All of base, then all of new.
    pub fn all(&self) -> impl Iterator<Item = &'a Record> + '_ {
        let (blocks, base, new) = match self {
            Self::Blocks(blocks) => (&blocks[..], &[][..], &[][..]),
            Self::Apart { base, new } => (&[][..], &base[..], &new[..]),
        };
        let sides = [
            blocks.iter().map(|(base, _)| *base).chain(base.iter().copied()).collect::<Vec<_>>(),
            blocks.iter().map(|(_, new)| *new).chain(new.iter().copied()).collect(),
        ];
        sides.into_iter().flatten()
    }
}

/// A cell with both sides.
#[derive(Debug, Clone, PartialEq)]
pub struct CellPair<'a> {
    /// `comparison/label`, as in the plan; without the side.
    pub id: String,
    /// Name of its comparison.
    pub comparison: String,
    /// The base's parameters.
    pub cell: &'a Cell,
    /// The columns that its comparison shows.
    pub columns: Vec<Measure>,
    /// The samples.
    pub runs: Runs<'a>,
    /// Runs of base and new that ended as planned, whether the other side of their block did or not.
    pub ok: (usize, usize),
    /// Runs of base and new that a limit forced to switch over.
    pub capped: (usize, usize),
    /// The slices that it ran in for base and new, where directories were merged of slices.
    pub slices: (Option<Slice>, Option<Slice>),
}

/// Two sides, ready to be judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Measurement<'a> {
    /// Name of the suite.
    pub suite: String,
    /// What its suite says is to be judged.
    pub gates: Vec<Gate>,
    /// What was there.
    pub base: Origin,
    /// What may be worse.
    pub new: Origin,
    /// Cells that both sides ran.
    pub cells: Vec<CellPair<'a>>,
    /// Whether both sides ran in the same blocks. If not, whatever happened to the host between them is in every difference.
    pub interleaved: bool,
    /// Why the hosts of both sides were not the same one, or not quiet.
    pub host: Vec<HostChange>,
    /// What was not sound: runs of either side that failed or are missing, and proofs that failed or are missing.
    pub unsound: Vec<String>,
    /// Directories that lack planned runs.
    pub unfinished: Vec<PathBuf>,
    /// What else a reader should know.
    pub notes: Vec<String>,
}

/// Differences that are tolerated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Compare the cells that both plans have.
    pub different_plans: bool,
    /// Compare hosts of different classes.
    pub different_hosts: bool,
}

/// Why two sides can't be laid beside each other.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each is about")]
pub enum JudgeError {
    #[error(transparent)]
    Schemas(#[from] OtherSchema),
    #[error(
        "{} and {} were made by different plans: {what}; measure both with the same suite and the same --set{}",
        .base.display(), .new.display(), that_shows(.lay, "lays the cells that both have beside each other")
    )]
    Plans {
        base: PathBuf,
        new: PathBuf,
        what: String,
        /// The command that compares them all the same; none where that is being done.
        lay: Option<String>,
    },
    #[error(
        "{} and {} were measured on different classes of hosts: {what}{}",
        .base.display(), .new.display(), that_shows(.lay, "compares them all the same")
    )]
    Hosts {
        base: PathBuf,
        new: PathBuf,
        what: String,
        /// The command that compares them all the same; none where that is being done.
        lay: Option<String>,
    },
    #[error(
        "{} and {} are one measurement: whatever is compared with itself passes; name two", .base.display(), .new.display()
    )]
    Same { base: PathBuf, new: PathBuf },
    #[error(
        "{} can't confirm what {} has raised: {what}; fresh samples are of the same cells and the same builds, made afterwards with \
         another seed, as `migbench ab --resume {}` makes them", .fresh.display(), .first.display(), shell::path(.first)
    )]
    NotFresh { first: PathBuf, fresh: PathBuf, what: String },
    #[error(
        "{} has no sides: it was not made by `migbench ab`; name two run directories, or make one with both sides",
        .path.display()
    )]
    NoSides { path: PathBuf },
    #[error("{} holds both sides already: judge it by itself", .path.display())]
    HasSides { path: PathBuf },
    #[error(
        "suite {suite} declares no [[gate]], so that nothing decides: name the metrics that do in its file; `{look}` shows what \
         was measured"
    )]
    NoGates { suite: String, look: String },
}

impl JudgeError {
    /// Whether what was named exists and does not go together.
    #[must_use]
    pub const fn is_incomparable(&self) -> bool {
        matches!(self, Self::Schemas(_) | Self::Plans { .. } | Self::Hosts { .. } | Self::NotFresh { .. })
    }
}

fn that_shows(command: &Option<String>, what: &str) -> String {
    command.as_ref().map_or_else(String::new, |command| format!("; `{command}` {what}"))
}

impl<'a> Measurement<'a> {
    /// Of two run directories.
    ///
    /// # Errors
    /// [`JudgeError::Schemas`], [`JudgeError::Plans`], [`JudgeError::Hosts`], and [`JudgeError::HasSides`] for what `migbench ab`
    /// made.
    pub fn of_two(base: &'a RunData, new: &'a RunData, allowed: Allowed) -> Result<Self, JudgeError> {
        for data in [base, new] {
            if data.manifest.sided() {
                return Err(JudgeError::HasSides { path: data.path.clone() });
            }
        }
        // Nothing allows this: a new cell would at least be seen, and another meaning of a figure would not.
        same_schema((&base.path, base.manifest.schema), (&new.path, new.manifest.schema))?;
        let mut notes = Vec::new();
        let (plans, hosts) = (plan_difference(base, new), host_difference(base, new));
        // Both flags where both are needed: a command that only meets the next refusal is no help.
        let lay = |refused: bool| {
            let flags = [(&plans, "--different-plans"), (&hosts, "--different-hosts")];
            let flags = flags.iter().filter(|(difference, _)| difference.is_some()).map(|(_, flag)| *flag);
            let words = ["migbench compare".to_owned(), shell::path(&base.path), shell::path(&new.path)];
            let flags = flags.chain(base.manifest.reading());
            let words = words.into_iter().chain(flags.map(str::to_owned));
            refused.then(|| words.collect::<Vec<_>>().join(" "))
        };
        let of = || (base.path.clone(), new.path.clone());
        if let Some(what) = plans.clone() {
            let ((base, new), lay) = (of(), lay(!allowed.different_plans));
            let difference = JudgeError::Plans { base, new, what, lay };
            if !allowed.different_plans {
                return Err(difference);
            }
            notes.push(difference.to_string());
        }
        if let Some(what) = hosts.clone() {
            let ((base, new), lay) = (of(), lay(!allowed.different_hosts));
            let difference = JudgeError::Hosts { base, new, what, lay };
            if !allowed.different_hosts {
                return Err(difference);
            }
            notes.push(difference.to_string());
        }
        notes.extend([base, new].into_iter().filter_map(planted));
        let (base_sorted, _) = cells::sort(&base.manifest, &base.records);
        let (new_sorted, _) = cells::sort(&new.manifest, &new.records);
        let mut pairs = Vec::new();
        for comparison in &base_sorted {
            let Some(other) = new_sorted.iter().find(|other| other.plan.name == comparison.plan.name) else {
                continue;
            };
            let columns = columns(comparison, Tails::of(&[comparison, other]));
            for runs in &comparison.cells {
                let id = id_of(&comparison.plan.cells, runs);
                let partner = other.cells.iter().find(|partner| id_of(&other.plan.cells, partner) == id);
                let Some(partner) = partner.filter(|_| runs.skipped.is_none()) else { continue };
                if partner.skipped.is_some() {
                    continue;
                }
                pairs.push(CellPair {
                    id,
                    comparison: comparison.plan.name.clone(),
                    cell: runs.cell,
                    columns: columns.clone(),
                    runs: Runs::Apart { base: runs.ok.clone(), new: partner.ok.clone() },
                    ok: (runs.ok.len(), partner.ok.len()),
                    capped: (runs.capped.len(), partner.capped.len()),
                    slices: (
                        base.manifest.slice_of(&comparison.plan.name),
                        new.manifest.slice_of(&comparison.plan.name),
                    ),
                });
            }
        }
        if one_build(base, new) {
            notes.push(
                "both were measured with one build: whatever differs is not the program's doing".to_owned(),
            );
        }
        let (base_lacks, new_lacks) = (unsound(base, " of base"), unsound(new, " of new"));
        let origins = [origin(base, None), origin(new, None)];
        let mut measurement = Self::of_pairs(&base.manifest, origins, pairs, false);
        for (data, lacks) in [(base, base_lacks), (new, new_lacks)] {
            measurement.lacks(data, lacks);
        }
        measurement.notes = notes;
        Ok(measurement)
    }

    /// Of one directory that `migbench ab` made.
    ///
    /// # Errors
    /// [`JudgeError::NoSides`].
    pub fn of_one(data: &'a RunData) -> Result<Self, JudgeError> {
        if !data.manifest.sided() {
            return Err(JudgeError::NoSides { path: data.path.clone() });
        }
        let (sorted, _) = cells::sort(&data.manifest, &data.records);
        let mut pairs = Vec::new();
        for comparison in &sorted {
            let side = |side| comparison.cells.iter().find(|runs| runs.cell.side == Some(side));
            let (Some(base), Some(new)) = (side(Side::Base), side(Side::New)) else { continue };
            if base.skipped.is_some() || new.skipped.is_some() {
                continue;
            }
            let partner = |run: &&'a Record| {
                new.ok.iter().find(|other| other.repetition == run.repetition).map(|new| (*run, *new))
            };
            pairs.push(CellPair {
                id: comparison.plan.name.clone(),
                comparison: comparison.plan.name.clone(),
                cell: base.cell,
                columns: columns(comparison, Tails::of(&[comparison])),
                runs: Runs::Blocks(base.ok.iter().filter_map(partner).collect()),
                ok: (base.ok.len(), new.ok.len()),
                capped: (base.capped.len(), new.capped.len()),
                slices: (None, None),
            });
        }
        let origins = [origin(data, Some(Side::Base)), origin(data, Some(Side::New))];
        let mut measurement = Self::of_pairs(&data.manifest, origins, pairs, true);
        measurement.lacks(data, unsound(data, ""));
        measurement.notes = planted(data).into_iter().collect();
        Ok(measurement)
    }

    fn of_pairs(
        manifest: &Manifest,
        [base, new]: [Origin; 2],
        cells: Vec<CellPair<'a>>,
        interleaved: bool,
    ) -> Self {
        Self {
            suite: manifest.suite.clone(),
            gates: gates(manifest),
            base,
            new,
            host: host::changes(&cells, interleaved),
            cells,
            interleaved,
            unsound: Vec::new(),
            unfinished: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn lacks(&mut self, data: &RunData, lacks: Lacks) {
        self.unsound.extend(lacks.unsound);
        self.unfinished.extend((lacks.missing > 0).then(|| data.path.clone()));
    }

    /// Whether every sample of one side is the other side's too.
    #[must_use]
    pub(super) fn is_of_itself(&self) -> bool {
        let same = |cell: &CellPair<'_>| matches!(&cell.runs, Runs::Apart { base, new } if base == new);
        self.cells.iter().any(|cell| cell.runs.count().0 > 0) && self.cells.iter().all(same)
    }

    /// Timed runs of a cell at least, on either side.
    #[must_use]
    pub fn repetitions(&self) -> usize {
        self.cells.iter().map(|cell| cell.runs.count()).map(|(base, new)| base.min(new)).min().unwrap_or(0)
    }
}

/// Refuses directories of different schemas.
pub(crate) fn same_schema(first: (&Path, u32), other: (&Path, u32)) -> Result<(), OtherSchema> {
    OtherSchema::refuse(first, other, "measure both with one build of migbench (`migbench ab` does)")
}

fn id_of(planned: &[crate::manifest::ManifestCell], runs: &CellRuns<'_>) -> String {
    planned
        .iter()
        .find(|planned| planned.cell == *runs.cell)
        .map_or_else(String::new, |planned| planned.id.clone())
}

/// What the plan says is to be judged; nothing, in a directory of a version that knew of no gates.
fn gates(manifest: &Manifest) -> Vec<Gate> {
    serde_json::from_value::<Plan>(manifest.plan.clone()).map(|plan| plan.gates).unwrap_or_default()
}

fn origin(data: &RunData, side: Option<Side>) -> Origin {
    let cells = || data.manifest.comparisons.iter().flat_map(|c| &c.cells).map(|planned| &planned.cell);
    let binary = cells().find(|cell| cell.side == side).and_then(|cell| cell.binary.clone());
    Origin {
        path: data.path.clone(),
        schema: data.manifest.schema,
        tool: data.manifest.tool_of(binary.as_deref()).clone(),
        binary,
        command: data.manifest.command_line(),
        reading: data.manifest.reading(),
    }
}

/// A cost that was planted makes figures that are not the build's own.
fn planted(data: &RunData) -> Option<String> {
    let planted = data.manifest.planted.as_ref()?;
    Some(format!("a cost was planted in {} to test the judge: {planted}", data.path.display()))
}

/// Whether both sides had the nodes of one and the same build in every cell.
fn one_build(base: &RunData, new: &RunData) -> bool {
    let hashes = |data: &RunData| -> Option<BTreeSet<String>> {
        let cells = data.manifest.comparisons.iter().flat_map(|comparison| &comparison.cells);
        cells.map(|planned| Some(data.manifest.build_of(&planned.cell)?.blake3.clone())).collect()
    };
    hashes(base).zip(hashes(new)).is_some_and(|(base, new)| base.len() == 1 && base == new)
}

/// What a directory lacks.
struct Lacks {
    /// Timed runs that were planned and are not there.
    missing: usize,
    /// All of it, a sentence each.
    unsound: Vec<String>,
}

/// What a directory lacks. Whatever is left of it is what was lucky.
fn unsound(data: &RunData, of: &str) -> Lacks {
    let (comparisons, _) = cells::sort(&data.manifest, &data.records);
    let mut unsound = Verification::of(&comparisons, &data.records).alarms;
    let failed: Vec<_> = data.records.iter().filter(|record| record.status == Status::Failed).collect();
    if let Some(first) = failed.first() {
        let why = first.error.as_ref().map_or("", |error| &error.message);
        let number = crate::quantity::count(failed.len(), "run");
        unsound.push(format!("{number}{of} failed, the first of them {}: {why}", first.run_id));
    }
    let planned = usize::try_from(data.manifest.repetitions).unwrap_or(usize::MAX);
    let cells = || comparisons.iter().flat_map(|comparison| &comparison.cells);
    let lacking = |cell: &CellRuns<'_>| {
        let made = cell.ok.len() + cell.capped.len() + cell.failed.len();
        if cell.skipped.is_some() { 0 } else { planned.saturating_sub(made) }
    };
    let missing: usize = cells().map(lacking).sum();
    if missing > 0 {
        let number = crate::quantity::count(missing, "planned run");
        let verb = if missing == 1 { "is" } else { "are" };
        unsound.push(format!("{number}{of} {verb} missing"));
    }
    Lacks { missing, unsound }
}

/// The first difference of two plans: a cell that only one has, or that is another one. Which program's nodes run is
/// what is compared, and no difference.
pub(super) fn plan_difference(base: &RunData, new: &RunData) -> Option<String> {
    let cells = |data: &RunData| {
        let of = |c: &crate::manifest::ManifestComparison| {
            let name = c.name.clone();
            c.cells
                .iter()
                .map(move |p| (name.clone(), p.id.clone(), Cell { binary: None, ..p.cell.clone() }))
                .collect::<Vec<_>>()
        };
        data.manifest.comparisons.iter().flat_map(of).collect::<Vec<_>>()
    };
    let (before, after) = (cells(base), cells(new));
    let differs = |(name, id, cell): &(String, String, Cell)| {
        let Some((.., other)) = after.iter().find(|(n, i, _)| n == name && i == id) else {
            return Some(format!("only the first has the cell {id}"));
        };
        (cell != other).then(|| format!("the cell {id} differs in {}", difference(cell, other)))
    };
    let extra = || {
        let new = after.iter().find(|(n, i, _)| !before.iter().any(|(name, id, _)| n == name && i == id))?;
        Some(format!("only the second has the cell {}", new.1))
    };
    before.iter().find_map(differs).or_else(extra)
}

/// The names of the parameters that two cells do not share.
fn difference(a: &Cell, b: &Cell) -> String {
    let of = |cell: &Cell| serde_json::to_value(cell).unwrap_or_default();
    let (a, b) = (of(a), of(b));
    let keys = a.as_object().into_iter().flatten().filter(|(key, value)| b.get(key) != Some(value));
    keys.map(|(key, _)| key.as_str()).collect::<Vec<_>>().join(", ")
}

fn host_difference(base: &RunData, new: &RunData) -> Option<String> {
    let pairs = base.manifest.host.class().into_iter().zip(new.manifest.host.class());
    let ((what, was), (_, is)) = pairs.into_iter().find(|((_, was), (_, is))| was != is)?;
    Some(format!("{what} is {was} there and {is} here"))
}

#[cfg(test)]
#[path = "measurement_tests.rs"]
mod tests;

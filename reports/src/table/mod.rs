//! The one model of a table. Every format prints the texts of this model, or its numbers, and computes nothing, so that
//! the same figure reads the same everywhere.

pub mod break_even;
pub mod ceiling;
pub mod comparison;
pub mod convergence;
pub mod cost;
pub mod delta;
pub mod frontier;
pub mod latency;
pub mod metrics;
pub mod peers;
pub mod section;
pub mod sentence;
mod stalled;
pub mod summary;
pub mod throttled;

use migbench_scenarios::words;

use crate::cells::{CellRuns, ComparisonRuns};
use crate::histogram::Phase;
use crate::measure::{Difference, Measure};
use crate::metric::Unit;
use crate::quantity::{self, Scale};
use crate::record::{GuestAt, Record};
use crate::stats::{Spread, Summary};

pub use section::Section;

/// A column of figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// What programs call it: the name of a metric, or one built like them.
    pub name: String,
    /// What people read above it.
    pub label: String,
    /// The unit of its numbers.
    pub unit: Unit,
}

impl Column {
    /// Of these names.
    #[must_use]
    pub fn new(name: impl Into<String>, label: impl Into<String>, unit: Unit) -> Self {
        Self { name: name.into(), label: label.into(), unit }
    }
}

impl From<Measure> for Column {
    fn from(measure: Measure) -> Self {
        Self::new(measure.name(), measure.label(), measure.unit())
    }
}

/// The numbers that a figure's texts were made from, in the unit of its column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Numbers {
    /// Of how many samples: runs, or for quantiles the operations behind them.
    pub samples: u64,
    /// The figure itself.
    pub value: f64,
    /// Range or interval.
    pub spread: Option<Spread>,
    /// To the baseline.
    pub difference: Option<Difference>,
}

/// A figure as printed.
#[derive(Debug, Clone, PartialEq)]
pub struct PrintedFigure {
    /// The median with its unit.
    pub value: String,
    /// The difference to the baseline, or [`NOT_SIGNIFICANT`] where it may be chance.
    pub difference: Option<String>,
    /// Both ends of the difference's interval or range, without its unit where `difference` has one.
    pub difference_spread: Option<String>,
    /// Both ends of the spread, in the unit of the value; one number where they read the same.
    pub spread: Option<String>,
    /// What these texts say.
    pub numbers: Numbers,
}

/// Stands in place of a difference that can't be told from chance.
pub const NOT_SIGNIFICANT: &str = "~";

words! {
    /// What a row is about.
    RowKind {
        /// The cell that others are compared with.
        Baseline = "baseline",
        /// A cell that is compared with it.
        Compared = "compared",
        /// A control.
        Control = "control",
        /// The runs of the cell above that were capped.
        Capped = "capped",
        /// A cell that was left out.
        Skipped = "skipped",
    }
}

/// The cell that a row is of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subject {
    /// Its label in the comparison.
    pub cell: String,
    /// What its guest does.
    pub workload: String,
    /// What moves it.
    pub engine: String,
    /// When its operations ran, in a table of latencies.
    pub phase: Option<Phase>,
    /// Timed runs by how they ended: ok, capped, failed.
    pub runs: [usize; 3],
}

impl Subject {
    /// Of a cell.
    #[must_use]
    pub fn of(cell: &CellRuns<'_>) -> Self {
        Self {
            cell: cell.label.clone(),
            workload: cell.cell.workload.clone(),
            engine: cell.cell.engine.word().to_owned(),
            phase: None,
            runs: [cell.ok.len(), cell.capped.len(), cell.failed.len()],
        }
    }
}

/// A row.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// What it is about.
    pub kind: RowKind,
    /// Its first column.
    pub label: String,
    /// The cell.
    pub subject: Subject,
    /// `converged k/n`, in the row of capped runs.
    pub converged: Option<String>,
    /// What the spread is, and of how many runs.
    pub samples: Option<String>,
    /// One per column of [`Table::columns`]; `None` where there is no figure. Empty for a cell that was left out.
    pub figures: Vec<Option<PrintedFigure>>,
    /// In place of figures.
    pub text: Option<String>,
}

/// A table, ready to be printed.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// Name of its comparison; empty for a table over all of them.
    pub comparison: String,
    /// Name of the comparison, and its workload where that differs.
    pub title: String,
    /// What stands over the first column: the compared axis.
    pub head: String,
    /// The columns of figures.
    pub columns: Vec<Column>,
    /// Baseline first, controls last.
    pub rows: Vec<Row>,
    /// Sentences below: ceiling, failures, what a reader must know to read the rows.
    pub notes: Vec<String>,
    /// Markdown of the suite about this comparison.
    pub analysis: String,
}

impl Table {
    /// Without rows yet.
    #[must_use]
    pub fn empty(comparison: &ComparisonRuns<'_>, columns: Vec<Column>) -> Self {
        Self {
            comparison: comparison.plan.name.clone(),
            title: title(comparison),
            head: comparison.plan.compare.clone(),
            columns,
            rows: Vec::new(),
            notes: Vec::new(),
            analysis: String::new(),
        }
    }

    /// A row or two per cell, a column per measure.
    #[must_use]
    pub fn of_measures(comparison: &ComparisonRuns<'_>, measures: &[Measure]) -> Self {
        let rows = comparison.cells.iter().flat_map(|cell| rows(comparison, cell, measures)).collect();
        Self { rows, ..Self::empty(comparison, measures.iter().copied().map(Column::from).collect()) }
    }
}

fn title(comparison: &ComparisonRuns<'_>) -> String {
    let name = &comparison.title;
    let mut workloads: Vec<_> = comparison.cells.iter().map(|cell| cell.cell.workload.as_str()).collect();
    workloads.dedup();
    match workloads.as_slice() {
        [workload] if name.split(' ').next() != Some(workload) => format!("{name} ({workload})"),
        _ => name.clone(),
    }
}

/// The baseline, where differences to it mean something. Capped runs cost the most: differences to the baseline's other
/// runs alone would flatter the baseline.
#[must_use]
pub fn partner<'a, 'r>(comparison: &'a ComparisonRuns<'r>) -> Option<&'a CellRuns<'r>> {
    comparison.baseline().filter(|baseline| baseline.capped.is_empty())
}

/// What a cell's row is, but for that of its capped runs.
fn kind(comparison: &ComparisonRuns<'_>, cell: &CellRuns<'_>) -> RowKind {
    match cell {
        CellRuns { skipped: Some(_), .. } => RowKind::Skipped,
        CellRuns { baseline: true, .. } => RowKind::Baseline,
        _ if comparison.is_control(cell) => RowKind::Control,
        _ => RowKind::Compared,
    }
}

/// What a cell's row is called.
fn label(cell: &CellRuns<'_>) -> String {
    if cell.baseline { format!("{} (baseline)", cell.label) } else { cell.label.clone() }
}

/// The cell's runs that ended ok, and those that were capped where there are some: which row, and its runs.
fn parts<'a, 'r>(
    comparison: &ComparisonRuns<'r>,
    cell: &'a CellRuns<'r>,
) -> Vec<(RowKind, String, &'a [&'r Record])> {
    let mut parts = vec![(kind(comparison, cell), label(cell), cell.ok.as_slice())];
    if !cell.capped.is_empty() {
        parts.push((RowKind::Capped, format!("{} \u{2020}", cell.label), cell.capped.as_slice()));
    }
    parts
}

/// The row of a cell that was left out.
fn skipped(cell: &CellRuns<'_>) -> Option<Row> {
    let text = Some(format!("not available here: {}", cell.skipped?));
    let (kind, label, subject) = (RowKind::Skipped, label(cell), Subject::of(cell));
    Some(Row { kind, label, subject, converged: None, samples: None, figures: Vec::new(), text })
}

fn rows(comparison: &ComparisonRuns<'_>, cell: &CellRuns<'_>, measures: &[Measure]) -> Vec<Row> {
    if let Some(row) = skipped(cell) {
        return vec![row];
    }
    let row = |(kind, label, runs): (RowKind, String, &[&Record])| {
        let partner = partner(comparison).filter(|_| kind == RowKind::Compared);
        let figure = |measure: &Measure| {
            let summary = measure.summary(runs)?;
            let difference = partner.and_then(|partner| measure.difference(partner, cell));
            let figure = PrintedFigure::of(measure.unit(), &summary, difference, runs.len());
            Some(match partner.filter(|_| measure.is_memory()).and_then(|p| measure.more(p, cell)) {
                Some(more) => figure.more(measure.unit(), &more),
                None => figure,
            })
        };
        let figures = measures.iter().map(figure).collect();
        Row::of(kind, label, cell, runs.len(), figures)
    };
    parts(comparison, cell).into_iter().map(row).collect()
}

impl Row {
    /// Of figures of so many runs.
    fn of(
        kind: RowKind,
        label: String,
        cell: &CellRuns<'_>,
        runs: usize,
        figures: Vec<Option<PrintedFigure>>,
    ) -> Self {
        let of_all = |figure: &&PrintedFigure| figure.numbers.samples == count(runs);
        let spread = figures.iter().flatten().filter(of_all).find_map(|figure| figure.numbers.spread);
        let samples = match (runs, spread) {
            (0, _) => None,
            (n, None) => Some(format!("n = {n}")),
            (n, Some(spread)) => Some(format!("{}, n = {n}", said(spread))),
        };
        let figures = each_says_what_it_is(figures, runs);
        let converged = (kind == RowKind::Capped).then(|| {
            let (converged, ended) = cell.converged();
            format!("converged {converged}/{ended}")
        });
        Self { kind, label, subject: Subject::of(cell), converged, samples, figures, text: None }
    }

    /// Whether the spreads of differences are ranges, intervals, or not there.
    #[must_use]
    pub fn difference_spread(&self) -> Option<&'static str> {
        let spread = spread_of_differences(&self.figures)?;
        Some(if matches!(spread, Spread::Range { .. }) { "its range" } else { "its 95 %" })
    }
}

/// What a spread is called.
const fn said(spread: Spread) -> &'static str {
    if matches!(spread, Spread::Range { .. }) { "range" } else { "95 %" }
}

/// That of the row's differences of which there are most samples: an interval, where one has that many.
fn spread_of_differences(figures: &[Option<PrintedFigure>]) -> Option<Spread> {
    let spreads = || figures.iter().flatten().filter_map(|figure| figure.numbers.difference?.spread);
    spreads().find(|spread| matches!(spread, Spread::Interval { .. })).or_else(|| spreads().next())
}

/// The row's label speaks of figures that all of its runs have. The others say themselves what stands beside them.
fn each_says_what_it_is(mut figures: Vec<Option<PrintedFigure>>, runs: usize) -> Vec<Option<PrintedFigure>> {
    let interval = matches!(spread_of_differences(&figures), Some(Spread::Interval { .. }));
    for figure in figures.iter_mut().flatten() {
        if let (Some(spread), Some(text)) = (figure.numbers.spread, &mut figure.spread)
            && figure.numbers.samples != count(runs)
        {
            *text = format!("{} {text}", said(spread));
        }
        let difference = figure.numbers.difference.and_then(|difference| difference.spread);
        if let (Some(Spread::Range { .. }), Some(text)) = (difference, &mut figure.difference_spread)
            && interval
        {
            *text = format!("range {text}");
        }
    }
    figures
}

/// The row's label speaks of all `runs`; a figure that some of them lack says so itself.
fn lacking(text: String, samples: usize, runs: usize) -> String {
    if samples == runs { text } else { format!("{text}, n = {samples}") }
}

impl PrintedFigure {
    /// A median with what belongs to it; the row speaks of `runs` runs.
    #[must_use]
    pub fn of(unit: Unit, summary: &Summary, difference: Option<Difference>, runs: usize) -> Self {
        let scale = Scale::suiting(unit, summary.median);
        let spread = summary.spread.map(|spread| ends(spread, |end| scale.number(end)));
        Self {
            value: scale.show(summary.median),
            difference: difference.map(|difference| difference.show()),
            difference_spread: difference.and_then(Difference::show_spread),
            spread: spread.map(|text| lacking(text, summary.samples, runs)),
            numbers: Numbers {
                samples: count(summary.samples),
                value: summary.median,
                spread: summary.spread,
                difference,
            },
        }
    }

    /// The difference in the unit of the value, for what a ratio misleads about.
    fn more(mut self, unit: Unit, more: &Summary) -> Self {
        let scale = Scale::suiting(unit, more.median);
        let sign = |value: f64, text: String| if value > 0.0 { format!("+{text}") } else { text };
        let spread = more.spread.map(|spread| ends(spread, |end| sign(end, scale.number(end))));
        match self.difference.as_deref() {
            None => {}
            Some(NOT_SIGNIFICANT) => {
                self.difference_spread = spread.map(|ends| format!("{ends} {}", scale.symbol()));
            }
            Some(_) => {
                self.difference = Some(sign(more.median, scale.show(more.median)));
                self.difference_spread = spread;
            }
        }
        self
    }

    /// The difference with its interval, as one text.
    #[must_use]
    pub fn compared(&self) -> String {
        match (&self.difference, &self.difference_spread) {
            (Some(difference), Some(spread)) => format!("{difference} ({spread})"),
            (Some(difference), None) => difference.clone(),
            (None, _) => String::new(),
        }
    }

    /// A share in percent.
    #[must_use]
    pub fn share(samples: usize, value: f64, spread: Option<Spread>) -> Self {
        let number = |end: f64| quantity::percent(end).trim_end_matches(" %").to_owned();
        Self {
            value: quantity::percent(value),
            difference: None,
            difference_spread: None,
            spread: spread.map(|spread| ends(spread, number)),
            numbers: Numbers { samples: count(samples), value, spread, difference: None },
        }
    }

    /// A share in percent, the median of some of `runs`.
    #[must_use]
    pub fn share_of(summary: &Summary, runs: usize) -> Self {
        let figure = Self::share(summary.samples, summary.median, summary.spread);
        Self { spread: figure.spread.map(|text| lacking(text, summary.samples, runs)), ..figure }
    }

    /// The same, where it may be chance.
    #[must_use]
    pub fn marked(mut self) -> Self {
        self.value = NOT_SIGNIFICANT.to_owned();
        self.spread = self.spread.map(|ends| format!("{ends} %"));
        self
    }

    /// One value and nothing beside it.
    #[must_use]
    pub fn plain(unit: Unit, samples: u64, value: f64) -> Self {
        Self {
            value: quantity::show(unit, value),
            difference: None,
            difference_spread: None,
            spread: None,
            numbers: Numbers { samples, value, spread: None, difference: None },
        }
    }
}

fn count(samples: usize) -> u64 {
    u64::try_from(samples).unwrap_or(u64::MAX)
}

/// `low..high`, or one of them where they read the same.
pub(crate) fn ends(spread: Spread, show: impl Fn(f64) -> String) -> String {
    let (low, high) = spread.ends();
    let (low, high) = (show(low), show(high));
    if low == high { low } else { format!("{low}..{high}") }
}

/// Where the guest ended up, as a phrase.
#[must_use]
pub const fn place(guest: GuestAt) -> &'static str {
    match guest {
        GuestAt::Source => "the guest went on at the source",
        GuestAt::Destination => "the guest runs at the destination",
        GuestAt::Lost => "THE GUEST WAS LOST",
        GuestAt::Unknown => "nobody can tell where the guest is",
        GuestAt::Nowhere => "the guest had never started",
    }
}

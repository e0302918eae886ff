//! The tables beside those of comparisons, in sections with a heading each.

use super::{
    Table, break_even, convergence, cost, delta, frontier, latency, peers, stalled, summary, throttled,
};
use crate::cells::ComparisonRuns;
use crate::measure::Tails;

/// Tables of one kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Section {
    /// What programs call it.
    pub name: &'static str,
    /// What people read above it.
    pub heading: &'static str,
    /// What its tables are, in a sentence that begins with a small letter and has no full stop.
    pub about: &'static str,
    /// Whether it belongs to the short report that ends a run.
    pub brief: bool,
    /// Of each comparison that has such a table.
    pub tables: Vec<Table>,
}

/// All sections that have a table, of comparisons with these tails.
#[must_use]
pub fn all(comparisons: &[ComparisonRuns<'_>], tails: &[Tails]) -> Vec<Section> {
    let section = |name, heading, about, brief, tables| Section { name, heading, about, brief, tables };
    let sections = [
        section("summary", "Summary", summary::ABOUT, true, summary::tables(comparisons, tails)),
        section(
            "frontier",
            "What a shorter pause costs",
            frontier::ABOUT,
            true,
            frontier::tables(comparisons),
        ),
        section("break_even", "Where it pays", break_even::ABOUT, true, break_even::tables(comparisons)),
        section(
            "latency",
            "Latency of the guest's operations",
            latency::ABOUT,
            false,
            comparisons.iter().flat_map(latency::tables).collect(),
        ),
        section(
            "convergence",
            "When it stopped",
            convergence::ABOUT,
            true,
            comparisons.iter().filter_map(convergence::table).collect(),
        ),
        section(
            "throttled",
            "What throttling took",
            throttled::ABOUT,
            true,
            comparisons.iter().filter_map(throttled::table).collect(),
        ),
        section("cost", "Cost", cost::ABOUT, false, comparisons.iter().filter_map(cost::table).collect()),
        section(
            "delta",
            "Pages and traffic",
            delta::ABOUT,
            false,
            comparisons.iter().filter_map(delta::table).collect(),
        ),
        section(
            "peers",
            "By their own account",
            peers::ABOUT,
            false,
            comparisons.iter().filter_map(peers::table).collect(),
        ),
        section(
            "stalls",
            "Where the guest stalled",
            stalled::ABOUT,
            false,
            comparisons.iter().filter_map(stalled::table).collect(),
        ),
    ];
    sections.into_iter().filter(|section| !section.tables.is_empty()).collect()
}

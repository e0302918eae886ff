//! The cost table: CPU, memory, and the time in what an engine does beside sending.

use super::Table;
use crate::cells::ComparisonRuns;
use crate::measure::Measure;
use crate::metric::MetricKey;

const COLUMNS: [Measure; 8] = [
    Measure::Metric(MetricKey::Rounds),
    Measure::Metric(MetricKey::CpuSource),
    Measure::Metric(MetricKey::CpuDestination),
    Measure::Metric(MetricKey::CpuVcpu),
    Measure::Metric(MetricKey::MemorySource),
    Measure::Metric(MetricKey::MemoryDestination),
    Measure::Metric(MetricKey::EncodeTime),
    Measure::Metric(MetricKey::HarvestTime),
];

/// What the table is, in a sentence.
pub const ABOUT: &str = "rounds are those after the first, the paused one included; CPU is user and system time; memory is resident without the guest's; encoding and harvest are \
                         sums over a run";

/// Of one comparison; none where no run has any of it.
#[must_use]
pub fn table(comparison: &ComparisonRuns<'_>) -> Option<Table> {
    let table = Table::of_measures(comparison, &COLUMNS);
    table.rows.iter().any(|row| row.figures.iter().any(Option::is_some)).then_some(table)
}

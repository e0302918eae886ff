//! What the words of a report mean: metrics from their one table, and the terms around them.

use serde::Serialize;

use crate::metric::{Better, MetricKey};

/// A metric with its definition.
#[derive(Debug, Serialize)]
pub struct GlossaryEntry {
    name: &'static str,
    unit: &'static str,
    better: &'static str,
    text: &'static str,
}

/// All of them.
pub fn metrics() -> Vec<GlossaryEntry> {
    let metric = |key: &MetricKey| {
        let definition = key.definition();
        let better = if definition.better == Better::Neither { "" } else { definition.better.word() };
        GlossaryEntry { name: definition.name, unit: definition.unit.symbol(), better, text: definition.text }
    };
    MetricKey::ALL.iter().map(metric).collect()
}

/// Words that are no metrics.
pub const TERMS: &[(&str, &str)] = &[
    ("cell", "One combination of all settings. Its runs differ in nothing but the repetition."),
    ("comparison", "Cells that differ in one setting; one of them is the baseline."),
    (
        "repetition",
        "A block in which every cell of a comparison runs once, in random order, with the same seed of the guest. Differences \
         are paired by repetition, so that drift of the host cancels.",
    ),
    ("verification run", "The run of a cell that hashes all memory on both sides. It is never a sample."),
    ("median", "Over the timed runs of a cell that ended as planned. The unit is one migration."),
    (
        "range, 95 %",
        "Below six runs the smallest and the largest run, called a range. From six on the exact interval of the median, \
         which assumes nothing about the distribution.",
    ),
    (
        "capped, \u{2020}",
        "A limit of rounds or time forced the switchover: pre-copy did not converge. Such runs have rows of their own and stay \
         out of all other figures; against a capped baseline nothing is compared.",
    ),
    ("failed", "The run did not end as planned. It is counted and listed, and is no sample."),
    (
        "pre-copy",
        "Memory is sent in rounds while the guest runs; each round sends what was written during the last one.",
    ),
    (
        "round 0",
        "Sends all memory. The last round, the paused one, sends the rest while the guest stands still.",
    ),
    ("full, delta", "Engines that send changed pages whole, or as the difference to what was sent before."),
    ("ceiling", "What delta can save at most on traffic: all of what the baseline sends after round 0."),
    ("none (control)", "The same timeline without a migration: how the guest looks undisturbed."),
    (
        "track-only (control)",
        "Dirty logging and its harvests, with nothing sent: what logging alone costs the guest.",
    ),
    ("stop-and-copy (control)", "Pause, send all, go on: the least traffic and the longest downtime."),
    (
        "phases",
        "steady: before the migration; precopy: memory moves and the guest runs; switchover: operations that overlap the pause; \
         catchup: until the backlog is gone; after: the rest.",
    ),
    ("service time", "From the start of an operation to its end."),
    (
        "response time",
        "From the moment at which an operation of an open-loop load was due to its end, so that a pause is charged to every \
         operation that it delayed.",
    ),
    ("percentile", "Shown only where at least ten operations lie beyond it: 99.9 % needs 10 000 operations."),
];

//! From a plan to records: one run after another, each in fresh processes, each kept as soon as it ends.

pub mod admission;
pub mod analysis;
pub mod array;
pub mod builds;
mod failure;
mod host_watch;
pub mod interrupt;
pub mod kept;
mod measures;
pub mod pace;
pub mod record;
mod resume;
pub mod run;
mod scratch;
pub mod simulated;
pub mod stalls;
pub mod suite;
pub mod testbed;

/// Now, UTC, as RFC 3339 with seconds: `2026-11-22T17:03:09Z`.
#[must_use]
pub fn now_utc() -> String {
    utc(std::time::SystemTime::now())
}

/// A date in the same form.
#[must_use]
pub fn utc(date: std::time::SystemTime) -> String {
    humantime::format_rfc3339_seconds(date).to_string()
}

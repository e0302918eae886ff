//! From a plan to records: one run after another, each in fresh processes, each kept as soon as it ends.

pub mod admission;
pub mod analysis;
pub mod array;
pub mod canary;
pub mod host;
pub mod interrupt;
pub mod lock;
pub mod noise;
pub mod record;
pub mod run;
pub mod settle;
pub mod stalls;
pub mod suite;

/// Now, UTC, as RFC 3339 with seconds: `2026-11-22T17:03:09Z`.
#[must_use]
pub fn now_utc() -> String {
    humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string()
}

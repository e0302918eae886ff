//! The statistics behind tables, marks and gates. The unit is one migration: runs go in, never operations or pages, since
//! those of one migration share its luck.
//!
//! What each assumes:
//!
//! - all: runs are independent of each other, or pairs are, where runs are paired. Approximations of large samples say so.
//! - p-values: under the null hypothesis labels could as well have been others. No distribution is assumed.
//! - the interval of a median: that runs are alike; no distribution.
//! - intervals of ratios: that the new side is the base times one factor. Those of pairs ([`ratio::paired`],
//!   [`Stratified`]) need that the scatter of log ratios about it is symmetric, those of two samples that both scatter alike.
//!
//! An interval comes from inverting a test, and where a mark stands beside it, that test is the mark's, but for the
//! adjustment for others. What is drawn at random is drawn from a seed: the same records give the same report.
//!
//! ```text
//! quantile, summary       one cell: median, spread, outliers
//! tail                    one run: which quantile stands for its slowest operations
//! signed_rank             pairs: the null distribution
//! ratio                   pairs as a ratio with interval and mark
//! stratified              many cells of one metric as one estimate with bounds
//! joint                   many metrics and cells, each adjusted for all others
//! binomial                one share
//! fisher                  two shares
//! power                   what the samples at hand could have found
//! ```

pub(crate) mod binomial;
pub(crate) mod fisher;
pub(crate) mod joint;
pub(crate) mod normal;
mod permutation;
pub(crate) mod power;
pub(crate) mod quantile;
pub(crate) mod ratio;
pub(crate) mod signed_rank;
pub(crate) mod stratified;
pub(crate) mod summary;
pub(crate) mod tail;
mod walsh;

#[cfg(test)]
mod scipy_tests;

pub use joint::{Against, Evidence, Family};
pub use permutation::{Labels, Values};
pub use quantile::{Fences, median, quantile};
pub use ratio::{RatioTest, Significance, geometric_mean, paired};
pub use stratified::Stratified;
pub use summary::{Spread, Summary, spread};

/// Fewer samples than this have a range and no interval: of five, none covers the median with 95 %.
pub const LEAST_FOR_INTERVAL: usize = 6;
/// How often a mark or an interval may be wrong, where nothing else is said.
pub const ALPHA: f64 = 0.05;

/// Counts as numbers; exact below 2^53, and no count of runs comes near.
pub(crate) const fn real(count: usize) -> f64 {
    count as f64
}

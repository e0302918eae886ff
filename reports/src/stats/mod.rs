//! The statistics behind tables, marks and gates. The unit is one migration: runs go in, never operations or pages, since
//! those of one migration share its luck.
//!
//! None of it assumes a distribution, but for approximations of large samples, and those say so. An interval comes from
//! inverting the very test that gives the mark beside it, so that the two never disagree. What is drawn at random is
//! drawn from a seed: the same records give the same report.
//!
//! ```text
//! quantile, summary       one cell: median, spread, outliers
//! rank_sum, signed_rank   two samples, independent or paired: the null distributions
//! ratio                   two samples as a ratio with interval and mark; holm for many of them
//! stratified              many cells of one metric as one test
//! permutation, bootstrap  where neither of these fits
//! power                   what the samples at hand could have found
//! ```

pub mod bootstrap;
pub mod holm;
pub mod normal;
pub mod permutation;
pub mod power;
pub mod quantile;
pub mod rank_sum;
pub mod ratio;
pub mod signed_rank;
pub mod stratified;
pub mod summary;

#[cfg(test)]
mod scipy_tests;

pub use quantile::{Fences, mad, median, quantile};
pub use ratio::{Mark, RatioTest, geometric_mean, independent, paired, paired_ratio};
pub use stratified::{Stratified, Stratum};
pub use summary::{Spread, Summary, spread};

/// Fewer samples than this have a range and no interval: of five, none covers the median with 95 %.
pub const LEAST_FOR_INTERVAL: usize = 6;
/// How often a mark or an interval may be wrong, where nothing else is said.
pub const ALPHA: f64 = 0.05;

/// Counts as numbers; exact below 2^53, and no count of runs comes near.
#[expect(clippy::cast_precision_loss, reason = "counts of runs and of permutations stay far under 2^53")]
pub(crate) const fn real(count: usize) -> f64 {
    count as f64
}

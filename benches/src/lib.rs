//! Shared set-up of the Criterion benches.

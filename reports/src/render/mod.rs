//! One file per format. A format lays out the texts of a [`crate::report::Report`] and computes no figure.

pub mod markdown;
pub mod terminal;

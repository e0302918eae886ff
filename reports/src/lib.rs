//! What migbench writes down about migrations, and what is made of it.
//!
//! The harness fills a [`manifest::Manifest`] and one [`record::Record`] per migration and keeps both in a
//! [`store::RunDirectory`]. [`store::RunData`] reads one back, anywhere, without KVM, and data flows on in this order:
//!
//! ```text
//! RunData -> cells (runs sorted into the plan) -> measure (figures of a cell, with stats)
//!         -> table, figure, verification, warning -> report -> render/terminal, render/markdown
//!         -> reproduce (claims of publications beside figures of cells)
//!         -> export (flat figures, for other programs)
//! ```
#![forbid(unsafe_code)]

pub mod artifact;
pub mod canary;
pub mod cells;
pub mod chart;
pub mod export;
pub mod figure;
pub mod format;
pub mod frozen;
#[cfg(test)]
mod golden;
pub mod histogram;
pub mod history;
pub mod judge;
pub mod manifest;
pub mod measure;
pub mod merge;
pub mod metric;
pub mod part;
pub mod quantity;
pub mod record;
pub mod render;
pub mod replace;
pub mod report;
pub mod reproduce;
#[cfg(test)]
mod sample;
pub mod scaling;
pub mod schema;
pub mod settings;
pub mod shell;
pub mod show;
pub mod stalled;
pub mod stats;
pub mod store;
pub mod study;
pub mod table;
pub mod verification;
pub mod warning;

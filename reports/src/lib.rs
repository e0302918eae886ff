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
mod canary;
mod cells;
pub mod export;
mod figure;
pub mod format;
#[cfg(test)]
mod golden;
pub mod hindsight;
pub mod histogram;
pub mod history;
pub mod judge;
pub mod manifest;
mod measure;
pub mod merge;
pub mod metric;
pub mod part;
mod quantity;
pub mod record;
pub mod render;
pub use migbench_scenarios::replace;
pub mod report;
pub mod reproduce;
#[cfg(test)]
mod sample;
mod scaling;
pub mod schema;
pub mod settings;
pub mod shell;
pub mod show;
pub mod stats;
pub mod store;
pub mod study;
mod table;
mod verification;
mod warning;
pub mod word;

//! What migbench writes down about migrations, and what is made of it.
//!
//! The harness fills a [`manifest::Manifest`] and one [`record::Record`] per migration and keeps both in a
//! [`store::RunDirectory`]; [`store::RunData`] reads one back, anywhere, without KVM.
#![forbid(unsafe_code)]

pub mod histogram;
pub mod manifest;
pub mod metric;
pub mod quantity;
pub mod record;
#[cfg(test)]
mod sample;
pub mod schema;
pub mod stats;
pub mod store;

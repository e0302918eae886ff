//! migbench measures live migration of KVM guests: it starts real guests running memory workloads, migrates them
//! between two processes with different engines, and records what host, guest and wire saw.

pub mod cache;
pub mod cli;
pub mod codec;
pub mod dirty;
pub mod doctor;
pub mod engine;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod guest;
pub mod host;
pub mod node;
pub mod peer;
pub mod runner;
pub mod sys;
pub mod track;
pub mod vm;
pub mod wire;

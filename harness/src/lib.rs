//! migbench measures live migration of KVM guests: it starts real guests running memory workloads, migrates them
//! between two processes with different engines, and records what host, guest and wire saw.

pub mod doctor;
pub mod runner;
pub mod sys;
pub mod vm;

//! migbench.
pub mod doctor;
pub mod runner;

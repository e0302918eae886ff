//! The integration tests, in one binary: each links all of the harness, which took longer than most of them run.
//! Only `allocation` stands apart, for its allocator of its own.
#![allow(clippy::unwrap_used, clippy::cast_precision_loss)]

mod ab;
mod advice;
mod arrays;
mod backing;
mod browser;
mod cli;
mod codecs;
mod dirty_rate;
mod doorbell;
mod epochs;
mod faults;
mod formats;
mod guest;
mod inputs;
mod judge;
mod migrations;
mod netns;
mod nightly;
mod order;
mod phases;
mod planted_cost;
mod programs_compute;
mod programs_stores;
mod reference;
mod reproduce;
mod resume;
mod simulated;
mod stalls;
mod state;
mod storage;
mod strangers;
mod support;
mod track;
mod trackers;

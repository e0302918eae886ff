//! Other VMMs as a third kind of node: they run our guest image, and one process of theirs migrates it to another. The seam is
//! [`Peer`], which is a [`Guest`] that can also be migrated; what is measured around a migration is measured by the same code as
//! for our own guests, from the telemetry that both processes map and that does not migrate.
//!
//! # Another VMM
//! 1. A word for it in `Engine` and a table of its keys in `migbench-scenarios`, as `qemu.rs` has them there.
//! 2. A file or folder here with a type that implements [`Guest`] (start, pause, resume, whether it lives, its process and the threads
//!    of its vCPUs) and [`Peer`] (listen, migrate, wait, counters). `example.rs` is one whole, and compiled by the tests.
//! 3. An arm in [`spawn`], in [`available`] and in [`own_memory`], and a line in [`found`]. Nothing else knows its name.

mod destination;
#[cfg(test)]
mod example;
mod memory;
pub mod qemu;
mod source;

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use migbench_scenarios::cell::{Cell, Engine};
use migbench_workloads::units::{Bytes, Seconds};

use crate::guest::usage::Meter;
use crate::guest::{Guest, GuestError};
use crate::node::link_timeout;
use crate::node::protocol::{ControlSocket, NodeAssignment, ProtocolError, Role};
pub use crate::node::protocol::{PeerAbout, PeerCounters};
use crate::sys::memory::Telemetry;
use crate::wire::address::LinkAddress;

/// Why another VMM could not do its half.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The guest.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// The system.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// What the VMM said, or did not.
    #[error("{0}")]
    Vmm(String),
    /// Memory that arrived differs from what was sent.
    #[error("{0}")]
    Differs(String),
    /// A counter of the host's.
    #[error(transparent)]
    Noise(#[from] crate::host::noise::NoiseError),
    /// The runner is gone or out of step.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
}

impl PeerError {
    /// A system call that failed.
    const fn system(action: &'static str) -> impl Fn(std::io::Error) -> Self {
        move |source| Self::System { action, source }
    }
}

/// What a VMM reports of a migration, each with [`crate::sys::clock::now`] of the time at which it happened there.
#[derive(Debug, Clone, PartialEq)]
pub enum Moment {
    /// No vCPU runs any more on this side.
    Stopped(u64),
    /// The vCPUs run on this side.
    Resumed(u64),
    /// This side has sent or received everything.
    Completed(u64),
    /// The migration failed, in the VMM's words.
    Failed(String),
}

/// One side's process of another VMM. Dropping it ends the process.
pub trait Peer: Guest {
    /// What it is. It may read the program's file: nothing for the time in which something is measured.
    ///
    /// # Errors
    /// When that file can't be read.
    fn about(&self) -> Result<PeerAbout, PeerError>;

    /// At the destination: has it listen, and gives where.
    ///
    /// # Errors
    /// What it refuses.
    fn listen(&self) -> Result<LinkAddress, PeerError>;

    /// At the source: orders the migration, and does not wait for it.
    ///
    /// # Errors
    /// What it refuses.
    fn migrate(&self, to: &LinkAddress) -> Result<(), PeerError>;

    /// What it reports next, within that time.
    ///
    /// # Errors
    /// When it is gone.
    fn wait(&self, longest: Duration) -> Result<Option<Moment>, PeerError>;

    /// At the source: its own counters of the migration so far.
    ///
    /// # Errors
    /// When it does not answer.
    fn counters(&self) -> Result<PeerCounters, PeerError>;

    /// At the source: has it switch over, whatever is left to send.
    ///
    /// # Errors
    /// What it refuses.
    fn force(&self) -> Result<(), PeerError>;

    /// The share of its resident memory that is in 2 MiB pages, where the cell means it to be.
    ///
    /// # Errors
    /// When the kernel does not report it.
    fn huge_page_share(&self) -> Result<Option<f64>, PeerError>;

    /// Writes so many bytes of guest memory to a file, from `offset` on, counted without the holes. The guest must be paused.
    ///
    /// # Errors
    /// What it refuses.
    fn copy_memory(&self, offset: u64, length: u64, into: &Path) -> Result<(), PeerError>;
}

/// Starts the process of one side, with its memory resident and the guest not yet running. It inherits telemetry's file.
///
/// # Errors
/// See [`PeerError`].
fn spawn(
    assignment: &NodeAssignment,
    (telemetry, file): (Arc<Telemetry>, OwnedFd),
) -> Result<Box<dyn Peer>, PeerError> {
    let cell = &assignment.cell;
    match cell.engine {
        Engine::Qemu => Ok(Box::new(qemu::Qemu::spawn(assignment, telemetry, &file)?)),
        Engine::Full | Engine::Delta | Engine::StopAndCopy | Engine::TrackOnly | Engine::None => {
            Err(PeerError::Vmm(format!("engine {} is our own", cell.engine)))
        }
    }
}

/// Whether this host has what engine and settings of the cell need.
///
/// # Errors
/// What is missing, with the remedy, to stand after "not available here:".
pub fn available(cell: &Cell) -> Result<(), String> {
    match cell.engine {
        Engine::Qemu => qemu::available(cell),
        Engine::Full | Engine::Delta | Engine::StopAndCopy | Engine::TrackOnly | Engine::None => Ok(()),
    }
}

/// Memory that both processes of another VMM take beside the guest.
#[must_use]
pub fn own_memory(cell: &Cell) -> Bytes {
    match cell.engine {
        Engine::Qemu => qemu::own_memory(cell),
        Engine::Full | Engine::Delta | Engine::StopAndCopy | Engine::TrackOnly | Engine::None => Bytes(0),
    }
}

/// The other VMMs that are looked for: the engine's word for each, and what is here, or why it is not, with the remedy after a
/// semicolon.
#[must_use]
pub fn found() -> Vec<(&'static str, Result<String, String>)> {
    vec![(Engine::Qemu.word(), qemu::found())]
}

/// Serves one run as `crate::node::serve` does for our own engines.
///
/// # Errors
/// When the runner is gone; everything else is reported to it.
pub fn serve(control: &mut ControlSocket, assignment: &NodeAssignment) -> Result<(), ProtocolError> {
    match assignment.role {
        Role::Source => source::serve(control, assignment),
        Role::Destination => destination::serve(control, assignment),
    }
}

/// How long all of guest memory may take over the link of a cell, twice, and somebody who is starved meanwhile.
fn transfer_patience(cell: &Cell) -> Duration {
    #[expect(clippy::cast_precision_loss, reason = "seconds of sending memory")]
    let once = cell.link.rate.map_or(0.0, |rate| cell.memory.0 as f64 / rate.0 as f64);
    link_timeout(cell).saturating_add(Seconds(2.0 * once).duration())
}

/// The most that was resident of a VMM at any time, guest memory left out: when it is asked, what the migration took is freed.
fn most_memory(guest: &dyn Peer, meter: &mut Meter) -> Result<u64, PeerError> {
    let now = meter.memory()?;
    let status = procfs::process::Process::new(guest.process().as_raw()).and_then(|process| process.status());
    let peak = status.ok().and_then(|status| Some(status.vmhwm?.saturating_sub(status.vmrss?) * 1024));
    Ok(now + peak.unwrap_or(0))
}

/// The guest's telemetry, and the file that it lies in, which the runner left open.
fn telemetry(assignment: &NodeAssignment) -> Result<(Arc<Telemetry>, OwnedFd), PeerError> {
    let memfd =
        crate::sys::memory::inherited(assignment.telemetry).map_err(PeerError::system("open telemetry"))?;
    let cell = &assignment.cell;
    let telemetry = Telemetry::map(&memfd, cell.vcpus as usize, cell.timing)
        .map_err(PeerError::system("map telemetry"))?;
    Ok((Arc::new(telemetry), memfd))
}

//! A VMM in one file, as an example of the seam and for tests: its guest is a memory of bytes that nobody runs.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::Pid;

use super::{Moment, Peer, PeerAbout, PeerCounters, PeerError};
use crate::guest::{Guest, GuestError};
use crate::sys::clock;
use crate::sys::memory::Telemetry;
use crate::wire::address::LinkAddress;

/// One side. A real one has a process, and a socket over which that is told what to do.
pub struct Vmm {
    telemetry: Arc<Telemetry>,
    memory: Vec<u8>,
    /// What it has to report.
    moments: RefCell<VecDeque<Moment>>,
}

impl Vmm {
    /// With that memory.
    pub fn new(memory: Vec<u8>) -> Self {
        let file = memfd_create(c"telemetry", MFdFlags::MFD_CLOEXEC).unwrap();
        let telemetry = Arc::new(Telemetry::map(file, 1, false).unwrap());
        Self { telemetry, memory, moments: RefCell::default() }
    }

    fn report(&self, moment: Moment) {
        self.moments.borrow_mut().push_back(moment);
    }
}

impl Guest for Vmm {
    fn telemetry(&self) -> &Arc<Telemetry> {
        &self.telemetry
    }

    fn tsc_khz(&self) -> u32 {
        2_000_000
    }

    fn tsc_offset(&self, _: usize) -> Option<u64> {
        None
    }

    fn memory(&self) -> u64 {
        self.memory.len() as u64
    }

    fn start(&self) -> Result<(), GuestError> {
        self.resume();
        Ok(())
    }

    fn pause(&self) -> Result<(), GuestError> {
        self.report(Moment::Stopped(clock::now()));
        Ok(())
    }

    fn resume(&self) {
        self.report(Moment::Resumed(clock::now()));
    }

    fn check(&self) -> Result<(), GuestError> {
        Ok(())
    }

    fn process(&self) -> Pid {
        Pid::this()
    }

    fn vcpu_threads(&self) -> Vec<Pid> {
        Vec::new()
    }

    fn own_memory(&self) -> Vec<Range<u64>> {
        let start = self.memory.as_ptr().addr() as u64;
        let own = start..start + self.memory();
        vec![own]
    }
}

impl Peer for Vmm {
    fn about(&self) -> Result<PeerAbout, PeerError> {
        Ok(PeerAbout { name: "Vmm".to_owned(), version: "1.0".to_owned(), ..PeerAbout::default() })
    }

    fn listen(&self) -> Result<LinkAddress, PeerError> {
        Ok(LinkAddress::Tcp { host: "127.0.0.1".to_owned(), port: 4000 })
    }

    fn migrate(&self, _to: &LinkAddress) -> Result<(), PeerError> {
        self.pause()?;
        self.report(Moment::Completed(clock::now()));
        Ok(())
    }

    fn wait(&self, _longest: Duration) -> Result<Option<Moment>, PeerError> {
        Ok(self.moments.borrow_mut().pop_front())
    }

    fn counters(&self) -> Result<PeerCounters, PeerError> {
        Ok(PeerCounters { traffic: Some(self.memory()), ..PeerCounters::default() })
    }

    fn force(&self) -> Result<(), PeerError> {
        Ok(())
    }

    fn huge_page_share(&self) -> Result<Option<f64>, PeerError> {
        Ok(None)
    }

    fn copy_memory(&self, offset: u64, length: u64, into: &Path) -> Result<(), PeerError> {
        let start = usize::try_from(offset).unwrap();
        let part = &self.memory[start..start + usize::try_from(length).unwrap()];
        std::fs::write(into, part).map_err(PeerError::system("copy guest memory"))
    }
}

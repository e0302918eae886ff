//! Who owns the guest while it changes hands, as types. Each step consumes the one before, so that a guest can't be resumed by
//! a side that does not own it.
//!
//! - At the source an [`Owner`] may resume the guest. [`Owner::commit`] gives it away: without an owner nobody resumes there.
//! - At the destination pages and states are [`Received`]; [`Received::ready`] says so to the source; a [`Ready`] destination
//!   waits for commit, and only what is [`Committed`] runs the guest.

use std::time::Duration;

use super::{NodeError, expect, printable};
use crate::guest::Guest;
use crate::sys::clock;
use crate::wire::frame::FrameKind;
use crate::wire::link::{Link, LinkError};

/// The source's right to run the guest.
pub struct Owner<'a>(&'a dyn Guest);

impl<'a> Owner<'a> {
    /// Of a guest that was booted here.
    #[must_use]
    pub const fn of(guest: &'a dyn Guest) -> Self {
        Self(guest)
    }

    /// Lets the guest go on here.
    pub fn resume(self) {
        self.0.resume();
    }

    /// Gives the guest to a destination that is ready. Gives when commit was about to be sent.
    ///
    /// # Errors
    /// With the owner: one small frame enters the socket whole or not at all, so that an error means that nobody got it.
    pub fn commit(self, link: &mut Link) -> Result<u64, (Self, NodeError)> {
        if let Err(error) = still_waits(link) {
            return Err((self, error));
        }
        let committed = clock::now();
        link.send(FrameKind::Commit, &[]).map(|()| committed).map_err(|error| (self, error.into()))
    }
}

/// Whether a destination that was ready still is. It says nothing before it gets commit but that it gave up, as it does when this side
/// stood still for longer than it waits; over TCP a commit could be written all the same, to nobody.
fn still_waits(link: &mut Link) -> Result<(), NodeError> {
    if !link.wait(Duration::ZERO)? {
        return Ok(());
    }
    let frame = link.recv()?;
    Err(match frame.kind {
        FrameKind::Abort => NodeError::Abort(printable(frame.payload)),
        found => NodeError::OutOfOrder { found, expected: "nothing before Commit" },
    })
}

/// A destination that has every page and state.
pub struct Received<'a>(&'a dyn Guest);

impl<'a> Received<'a> {
    /// All of `guest` was received.
    #[must_use]
    pub const fn all_of(guest: &'a dyn Guest) -> Self {
        Self(guest)
    }

    /// Says so to the source.
    ///
    /// # Errors
    /// As the link.
    pub fn ready(self, link: &mut Link) -> Result<Ready<'a>, LinkError> {
        link.send(FrameKind::Ready, &[])?;
        Ok(Ready { guest: self.0, since: clock::now() })
    }
}

/// A destination that waits for commit.
pub struct Ready<'a> {
    guest: &'a dyn Guest,
    since: u64,
}

impl<'a> Ready<'a> {
    /// Waits for commit.
    ///
    /// # Errors
    /// When something else comes or the link is gone: the guest is the source's.
    pub fn committed(self, link: &mut Link) -> Result<Committed<'a>, NodeError> {
        expect(link, FrameKind::Commit, "Commit")?;
        Ok(Committed { guest: self.guest, ready: self.since })
    }
}

/// A destination that owns the guest.
pub struct Committed<'a> {
    guest: &'a dyn Guest,
    ready: u64,
}

impl Committed<'_> {
    /// [`clock::now`] when it was ready.
    #[must_use]
    pub const fn ready(&self) -> u64 {
        self.ready
    }

    /// Runs the guest.
    pub fn resume(self) {
        self.guest.resume();
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;
    use std::sync::Arc;

    use migbench_scenarios::cell::{LinkSettings, Transport};
    use nix::unistd::Pid;

    use super::*;
    use crate::guest::GuestError;
    use crate::sys::memory::Telemetry;
    use crate::wire::address::LinkListener;

    /// A guest of which nothing is asked.
    struct Nobody;

    impl Guest for Nobody {
        fn telemetry(&self) -> &Arc<Telemetry> {
            unreachable!()
        }

        fn tsc_khz(&self) -> u32 {
            0
        }

        fn tsc_offset(&self, _: usize) -> Option<u64> {
            None
        }

        fn memory(&self) -> u64 {
            0
        }

        fn start(&self) -> Result<(), GuestError> {
            Ok(())
        }

        fn pause(&self) -> Result<(), GuestError> {
            Ok(())
        }

        fn resume(&self) {}

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
            Vec::new()
        }
    }

    const LONG: Duration = Duration::from_secs(20);

    /// The source's end, then the destination's.
    fn connected(transport: Transport) -> (Link, Link) {
        let listener = LinkListener::bind(&LinkSettings::unlimited(transport)).unwrap();
        let source = listener.address().connect(LONG).unwrap();
        (source, listener.accept(LONG).unwrap())
    }

    /// A source that stood still for longer than the destination waits finds its answer, and over TCP could write commit all the same.
    #[test]
    fn commit_is_not_sent_to_a_destination_that_gave_up() {
        for transport in [Transport::Unix, Transport::Tcp] {
            for says_so in [true, false] {
                let (mut source, mut destination) = connected(transport);
                if says_so {
                    crate::node::abort(&mut destination, "nothing moved for 31 s");
                } else {
                    drop(destination);
                }
                // Over TCP it is on its way.
                assert!(source.wait(LONG).unwrap());
                let Err((_, error)) = Owner::of(&Nobody).commit(&mut source) else {
                    panic!("commit was sent over {transport}");
                };
                let said = error.to_string();
                let expected = if says_so { "gave up: nothing moved for 31 s" } else { "closed the link" };
                assert!(said.contains(expected), "{transport}: {said}");
            }
            let (mut source, mut destination) = connected(transport);
            assert!(Owner::of(&Nobody).commit(&mut source).is_ok());
            assert_eq!(destination.recv().unwrap().kind, FrameKind::Commit);
        }
    }
}

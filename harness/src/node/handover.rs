//! Who owns the guest while it changes hands, as types. Each step consumes the one before, so that a guest can't be resumed by
//! a side that does not own it.
//!
//! - At the source an [`Owner`] may resume the guest. [`Owner::commit`] gives it away: without an owner nobody resumes there.
//! - At the destination pages and states are [`Received`]; [`Received::ready`] says so to the source; a [`Ready`] destination
//!   waits for commit, and only what is [`Committed`] runs the guest.

use super::{NodeError, expect};
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
    pub fn commit(self, link: &mut Link) -> Result<u64, (Self, LinkError)> {
        let committed = clock::now();
        link.send(FrameKind::Commit, &[]).map(|()| committed).map_err(|error| (self, error))
    }
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

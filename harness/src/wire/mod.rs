//! What goes between the two nodes of a migration, and how. Pages enter a [`PageBatch`] at the source, leave
//! as one [`frame`] through a [`Link`], and come out at the destination as [`PageRecords`]; every other
//! message is a frame whose payload only the nodes understand. A link with a rate behaves as a wire with a queue before it
//! ([`modelled`]); the sender counts each byte by kind ([`Traffic`]) where it writes it.
//!
//! A decoder trusts nothing that it reads: every fault is an error that names the kind of frame and the byte
//! of the stream, before anything is allocated or handed out because of it.

pub mod address;
pub mod frame;
pub mod link;
pub mod modelled;
pub mod netns;
pub mod pages;
mod receiver;
pub mod sabotage;
pub mod traffic;

pub use address::{LinkAddress, LinkListener};
pub use frame::{Frame, FrameError, FrameKind};
pub use link::{Link, LinkError, Sender};
pub use modelled::ModelledWire;
pub use pages::{PageBatch, PageRecord, PageRecords};
pub use receiver::Receiver;
pub use traffic::Traffic;

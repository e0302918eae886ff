//! What goes between the two nodes of a migration, and how. Pages enter a [`PageBatch`] at the source, leave
//! as one [`frame`] through a [`Link`], and come out at the destination as [`PageRecords`]; every other
//! message is a frame whose payload only the nodes understand. The sender keeps to the link's rate
//! ([`pace`]) and counts each byte by kind ([`Traffic`]) where it writes it.
//!
//! A decoder trusts nothing that it reads: every fault is an error that names the kind of frame and the byte
//! of the stream, before anything is allocated or handed out because of it.

pub mod address;
pub mod frame;
pub mod link;
pub mod netns;
pub mod pace;
pub mod pages;
pub mod sabotage;
pub mod traffic;

pub use address::{LinkAddress, Listener};
pub use frame::{Frame, FrameError, FrameKind};
pub use link::{Link, LinkError, Receiver, Sender};
pub use pace::Pace;
pub use pages::{PageBatch, PageRecord, PageRecords};
pub use traffic::Traffic;

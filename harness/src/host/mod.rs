//! What the host is, what it can do at this moment, and what it does to a run. Everything here reads files of the kernel
//! or asks it; nothing knows of guests.

pub mod canary;
pub mod disturbance;
pub mod huge;
pub mod kvm;
pub mod limits;
pub mod lock;
pub mod noise;
pub mod provenance;

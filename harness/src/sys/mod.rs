//! The only `unsafe` of the harness besides codec SIMD: mappings, KVM ioctls that `kvm-ioctls` lacks, signals,
//! clocks. Each wrapper is safe to call; what makes it so is said at each block.
#![allow(unsafe_code)]

pub mod clock;
pub mod kvm;
pub mod live;
pub mod machine;
pub mod memory;
pub mod pagemap;
pub mod ram;
pub mod ring;
pub mod socket;
pub mod thread;
pub mod uffd;

//! The guest image as bytes: one static ELF64 with a PVH entry, which boots in the harness's own VM and,
//! unchanged, under QEMU's `-kernel`.

/// The ELF file.
pub static GUEST_IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/guest.elf"));

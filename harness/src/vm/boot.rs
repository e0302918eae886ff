//! PVH boot: loads the guest image, writes start info, memory map and parameter block, and gives vCPUs the state
//! that the PVH boot ABI asks for (32-bit protected mode without paging, EBX = start info).

use kvm_bindings::{kvm_regs, kvm_segment};
use kvm_ioctls::VcpuFd;
use migbench_workloads::abi::{self, Params};
use migbench_workloads::units::{Gpa, PAGE_SIZE};
use zerocopy::{Immutable, IntoBytes};

use crate::sys::ram::{Ram, RamError};

const START_INFO: u64 = 0x1000;
const MODULE: u64 = 0x1100;
const MEMORY_MAP: u64 = 0x1200;
const PARAMS: u64 = 0x2000;
const START_MAGIC: u32 = 0x336e_c578;
const XEN_ELFNOTE_PHYS32_ENTRY: u64 = 18;
const CR0_PE: u64 = 1;

/// Why the guest image could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// Not an ELF file.
    #[error("the guest image is no ELF file: {0}")]
    Elf(#[from] elf::ParseError),
    /// Without the notes that name its entry points.
    #[error("the guest image has no note {0} with a 64-bit entry point")]
    Note(&'static str),
    /// Larger than guest memory.
    #[error("the guest image does not fit: {0}")]
    Ram(#[from] RamError),
    /// KVM refused a register.
    #[error("KVM refused the boot state of a vCPU: {0}")]
    Kvm(#[from] kvm_ioctls::Error),
}

/// `struct hvm_start_info`, version 1 (Xen's public headers, arch-x86/hvm/start_info.h).
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    modules: u32,
    module_list: u64,
    command_line: u64,
    rsdp: u64,
    memory_map: u64,
    memory_map_entries: u32,
    reserved: u32,
}

#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Module {
    address: u64,
    size: u64,
    command_line: u64,
    reserved: u64,
}

#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct MapEntry {
    address: u64,
    size: u64,
    kind: u32,
    reserved: u32,
}

/// Entry points of a loaded image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryPoints {
    /// Of the first vCPU.
    pub first: u64,
    /// Of further ones.
    pub others: u64,
}

/// Loads `image` and the tables for it.
///
/// # Errors
/// See [`BootError`].
pub fn load(ram: &Ram, image: &[u8], params: &Params) -> Result<EntryPoints, BootError> {
    let entries = load_elf(ram, image)?;
    let map: Vec<MapEntry> = ram
        .regions()
        .iter()
        .map(|r| MapEntry { address: r.start.0, size: r.pages * PAGE_SIZE, kind: 1, reserved: 0 })
        .collect();
    let info = StartInfo {
        magic: START_MAGIC,
        version: 1,
        flags: 0,
        modules: 1,
        module_list: MODULE,
        command_line: 0,
        rsdp: 0,
        memory_map: MEMORY_MAP,
        memory_map_entries: u32::try_from(map.len()).unwrap_or(u32::MAX),
        reserved: 0,
    };
    let module = Module { address: PARAMS, size: size_of::<Params>() as u64, command_line: 0, reserved: 0 };
    ram.write_at(Gpa(START_INFO), info.as_bytes())?;
    ram.write_at(Gpa(MODULE), module.as_bytes())?;
    ram.write_at(Gpa(MEMORY_MAP), map.as_bytes())?;
    ram.write_at(Gpa(PARAMS), params.as_bytes())?;
    Ok(entries)
}

fn load_elf(ram: &Ram, image: &[u8]) -> Result<EntryPoints, BootError> {
    let file = elf::ElfBytes::<elf::endian::LittleEndian>::minimal_parse(image)?;
    let (mut first, mut others) = (None, None);
    for segment in file.segments().into_iter().flatten() {
        match segment.p_type {
            elf::abi::PT_LOAD => ram.write_at(Gpa(segment.p_paddr), file.segment_data(&segment)?)?,
            elf::abi::PT_NOTE => {
                for note in file.segment_data_as_notes(&segment)? {
                    let elf::note::Note::Unknown(note) = note else { continue };
                    let entry = note.desc.try_into().map(u64::from_le_bytes).ok();
                    match (note.name_str().unwrap_or(""), note.n_type) {
                        ("Xen", XEN_ELFNOTE_PHYS32_ENTRY) => first = entry,
                        (abi::NOTE_NAME, kind) if kind == u64::from(abi::NOTE_AP_ENTRY) => others = entry,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Ok(EntryPoints {
        first: first.ok_or(BootError::Note("Xen/18 (PVH)"))?,
        others: others.ok_or(BootError::Note("migbench/1"))?,
    })
}

fn flat(selector: u16, kind: u8) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: 0xffff_ffff,
        selector,
        type_: kind,
        present: 1,
        dpl: 0,
        db: 1,
        s: 1,
        l: 0,
        g: 1,
        ..Default::default()
    }
}

/// Sets vCPU number `index` to its entry point.
///
/// # Errors
/// As the KVM calls.
pub fn set_entry_state(vcpu: &VcpuFd, index: usize, entries: EntryPoints) -> Result<(), BootError> {
    let mut sregs = vcpu.get_sregs()?;
    sregs.cs = flat(0x08, 0x0b);
    let data = flat(0x10, 0x03);
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.tr = kvm_segment { type_: 0x0b, present: 1, limit: 0x67, s: 0, db: 0, g: 0, ..flat(0, 0) };
    sregs.cr0 = CR0_PE;
    sregs.cr4 = 0;
    sregs.efer = 0;
    vcpu.set_sregs(&sregs)?;
    let rip = if index == 0 { entries.first } else { entries.others };
    vcpu.set_regs(&kvm_regs { rip, rbx: START_INFO, rsi: index as u64, rflags: 2, ..Default::default() })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use migbench_scenarios::cell::Backing;
    use migbench_workloads::image::GUEST_IMAGE;
    use migbench_workloads::units::Bytes;

    #[test]
    fn the_image_names_both_entries() {
        let ram = Ram::new(Bytes(32 << 20), Backing::Anonymous).unwrap();
        let entries = load(&ram, GUEST_IMAGE, &Params::default()).unwrap();
        assert!(entries.first >= 2 << 20 && entries.others > entries.first, "{entries:x?}");
    }

    #[test]
    fn garbage_is_refused() {
        let ram = Ram::new(Bytes(32 << 20), Backing::Anonymous).unwrap();
        assert!(matches!(load(&ram, b"not an ELF file at all", &Params::default()), Err(BootError::Elf(_))));
    }
}

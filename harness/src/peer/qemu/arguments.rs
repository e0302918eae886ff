//! What QEMU is told: its command line, and the capabilities and parameters of a migration.

use std::path::Path;

use migbench_scenarios::cell::Cell;
use migbench_scenarios::qemu::{MICROVM, QemuAccel, QemuMode, QemuSettings};
use migbench_workloads::abi::{self, Params};
use migbench_workloads::params::MachineParams;
use migbench_workloads::units::Bytes;
use serde_json::{Map, Value, json};

use crate::node::protocol::Role;

/// Where a machine's memory goes on over 4 GiB: microvm leaves the last GiB under it to devices.
const HOLE: u64 = 3 << 30;

/// Bytes per second that stand for no limit.
const UNLIMITED: u64 = 1 << 40;

/// What a process of QEMU inherits or finds.
#[derive(Debug, Clone, Copy)]
pub struct Inherited<'a> {
    /// The guest image.
    pub image: &'a Path,
    /// The parameter block.
    pub params: &'a Path,
    /// Descriptor of telemetry's file.
    pub telemetry: i32,
    /// Bytes of it.
    pub telemetry_size: Bytes,
    /// Descriptor of the monitor's socket.
    pub monitor: i32,
}

/// The command line of one side. Main memory is private, since migration leaves shared memory out; telemetry is shared, and
/// because of that left out, at the end of the guest's memory.
pub fn command_line(
    cell: &Cell,
    qemu: &QemuSettings,
    role: Role,
    paused: bool,
    has: Inherited<'_>,
) -> Vec<String> {
    let total = Bytes(cell.memory.0 + has.telemetry_size.0);
    let mut arguments: Vec<String> =
        ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"].map(str::to_owned).into();
    let mut add = |option: &str, value: String| arguments.extend([option.to_owned(), value]);
    add(
        "-machine",
        match &qemu.machine[..] {
            MICROVM => format!("{MICROVM},pit=off,pic=off,rtc=off,isa-serial=off"),
            other => other.to_owned(),
        },
    );
    if qemu.machine == MICROVM {
        // Its usual firmware copies the image byte by byte, which takes seconds where that is emulated.
        add("-bios", "qboot.rom".to_owned());
    }
    add(
        "-accel",
        match (qemu.accel, qemu.dirty_ring_size) {
            (accel, 0) => accel.to_string(),
            (accel, entries) => format!("{accel},dirty-ring-size={entries}"),
        },
    );
    add(
        "-cpu",
        match qemu.accel {
            // A host without VMX and SVM has no such MSR, and QEMU ends where it can't set it.
            QemuAccel::Kvm => "host,-arch-capabilities",
            QemuAccel::Tcg => "max",
        }
        .to_owned(),
    );
    add("-smp", cell.vcpus.to_string());
    add("-m", format!("{}M", total.0 >> 20));
    add("-object", format!("memory-backend-ram,id=ram,size={},prealloc=on", cell.memory.0));
    add(
        "-object",
        format!(
            "memory-backend-file,id=telemetry,size={},mem-path=/proc/self/fd/{},share=on",
            has.telemetry_size.0, has.telemetry
        ),
    );
    add("-numa", "node,memdev=ram".to_owned());
    add("-numa", "node,memdev=telemetry".to_owned());
    add("-chardev", "file,id=doorbell,path=/proc/self/fd/1".to_owned());
    add("-device", format!("isa-debugcon,iobase={:#x},chardev=doorbell", abi::DOORBELL_PORT));
    add("-chardev", format!("socket,id=monitor,fd={}", has.monitor));
    add("-mon", "chardev=monitor,mode=control".to_owned());
    add("-kernel", has.image.display().to_string());
    add("-initrd", has.params.display().to_string());
    if role == Role::Destination {
        add("-incoming", "defer".to_owned());
    }
    // A destination that is not told so runs as soon as everything is there.
    if role == Role::Source || paused {
        arguments.push("-S".to_owned());
    }
    arguments.extend(qemu.arguments.split_whitespace().map(str::to_owned));
    arguments
}

/// The guest-physical address of what lies so far into its memory: after all of main memory comes telemetry.
pub const fn address(offset: u64) -> u64 {
    if offset < HOLE { offset } else { offset - HOLE + (4 << 30) }
}

/// The guest's parameter block.
pub fn params(cell: &Cell, seed: u64, flags: u32, tsc_khz: u32) -> Params {
    let machine = MachineParams {
        vcpus: cell.vcpus,
        tsc_khz,
        seed,
        link: cell.link.rate,
        timing: cell.timing,
        telemetry: address(cell.memory.0),
    };
    let mut params = Params::new(&cell.settings, &machine);
    params.flags |= flags | abi::FLAG_START_OTHERS;
    params
}

/// Capabilities that a mode needs on both sides.
pub const fn capabilities(mode: QemuMode) -> &'static [&'static str] {
    match mode {
        QemuMode::Precopy => &["events", "x-ignore-shared"],
        QemuMode::Xbzrle => &["events", "x-ignore-shared", "xbzrle"],
        QemuMode::Multifd | QemuMode::MultifdZstd => &["events", "x-ignore-shared", "multifd"],
        QemuMode::AutoConverge => &["events", "x-ignore-shared", "auto-converge"],
        QemuMode::DirtyLimit => &["events", "x-ignore-shared", "dirty-limit"],
    }
}

/// Parameters of a migration, on both sides: the same limits as of our own engines.
pub fn parameters(cell: &Cell, qemu: &QemuSettings) -> Value {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
    let limit = (cell.stop.downtime_limit.0 * 1000.0).ceil().clamp(1.0, 2e6) as u64;
    let mut parameters = Map::new();
    let mut set = |name: &str, value: Value| parameters.insert(name.to_owned(), value);
    set("max-bandwidth", json!(cell.link.modelled_rate().map_or(UNLIMITED, |rate| rate.0)));
    set("downtime-limit", json!(limit));
    match qemu.mode {
        QemuMode::Xbzrle => {
            set("xbzrle-cache-size", json!(qemu.xbzrle_cache_size.0));
        }
        QemuMode::Multifd | QemuMode::MultifdZstd => {
            set("multifd-channels", json!(qemu.channels));
            let zstd = qemu.mode == QemuMode::MultifdZstd;
            set("multifd-compression", json!(if zstd { "zstd" } else { "none" }));
        }
        QemuMode::Precopy | QemuMode::AutoConverge | QemuMode::DirtyLimit => {}
    }
    Value::Object(parameters)
}

/// A limit on the downtime under which any rest is sent at once, in ms: QEMU takes no more.
pub const NO_LIMIT: u64 = 2_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use migbench_scenarios::cell::Engine;
    use migbench_workloads::units::Rate;

    fn has() -> Inherited<'static> {
        Inherited {
            image: Path::new("/scratch/guest.elf"),
            params: Path::new("/scratch/params"),
            telemetry: 7,
            telemetry_size: Bytes(6 << 20),
            monitor: 9,
        }
    }

    fn cell(change: impl FnOnce(&mut Cell, &mut QemuSettings)) -> (Cell, QemuSettings) {
        let mut cell = Cell::default_for(Engine::Qemu, "idle").unwrap();
        let mut qemu = cell.qemu.clone().unwrap();
        change(&mut cell, &mut qemu);
        (cell, qemu)
    }

    #[test]
    fn the_command_line_of_each_side() {
        let (plain, qemu) = cell(|_, _| {});
        insta::assert_snapshot!(command_line(&plain, &qemu, Role::Source, false, has()).join(" "));
        let (ring, qemu) = cell(|cell, qemu| {
            cell.vcpus = 2;
            qemu.dirty_ring_size = 4096;
            qemu.machine = "pc".to_owned();
            qemu.arguments = "-name a".to_owned();
        });
        insta::assert_snapshot!(command_line(&ring, &qemu, Role::Destination, false, has()).join(" "));
        let paused = command_line(&ring, &qemu, Role::Destination, true, has());
        assert!(paused.contains(&"-S".to_owned()));
    }

    #[test]
    fn telemetry_lies_after_all_memory_whatever_the_hole() {
        assert_eq!(address(256 << 20), 256 << 20);
        assert_eq!((address((3 << 30) - 1), address(4 << 30)), ((3 << 30) - 1, 5 << 30));
    }

    #[test]
    fn limits_are_those_of_our_own_engines() {
        let (slow, qemu) = cell(|cell, qemu| {
            cell.link.rate = Some(Rate(125_000_000));
            cell.stop.downtime_limit.0 = 0.0101;
            qemu.mode = QemuMode::MultifdZstd;
        });
        let expected = json!({
            "max-bandwidth": 125_000_000, "downtime-limit": 11, "multifd-channels": 2, "multifd-compression": "zstd"
        });
        assert_eq!(parameters(&slow, &qemu), expected);
        let (shaped, qemu) = cell(|cell, _| {
            cell.link.rate = Some(Rate(125_000_000));
            cell.link.transport = migbench_scenarios::cell::Transport::Netns;
        });
        assert_eq!(parameters(&shaped, &qemu)["max-bandwidth"], json!(UNLIMITED), "the kernel shapes it");
    }
}

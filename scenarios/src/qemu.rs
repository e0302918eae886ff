//! The keys of engine `qemu`: which QEMU runs our guest, and which of its ways to migrate is measured.

use migbench_workloads::units::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cell::Cell;
use crate::key::{Key, key};
use crate::reads;
use crate::words;

words! {
    /// How QEMU migrates (QEMU's documentation, "Migration").
    QemuMode {
        /// Pre-copy of whole pages over one connection.
        Precopy = "precopy",
        /// The same, with XBZRLE deltas of pages in its cache.
        Xbzrle = "xbzrle",
        /// Whole pages over several connections, a thread each.
        Multifd = "multifd",
        /// The same, compressed with Zstandard.
        MultifdZstd = "multifd-zstd",
        /// Pre-copy that throttles all vCPUs where it does not converge.
        AutoConverge = "auto-converge",
        /// Pre-copy that limits the dirty rate of each vCPU where it does not converge. It needs KVM's dirty ring.
        DirtyLimit = "dirty-limit",
    }
}

words! {
    /// What executes the guest's instructions.
    QemuAccel {
        /// KVM.
        Kvm = "kvm",
        /// QEMU's own translator.
        Tcg = "tcg",
    }
}

/// How engine `qemu` runs and migrates the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QemuSettings {
    /// Its way to migrate.
    pub mode: QemuMode,
    /// The program, by name or path.
    pub binary: String,
    /// What executes the guest.
    pub accel: QemuAccel,
    /// Its machine type.
    pub machine: String,
    /// Entries of each vCPU's dirty ring; 0 is KVM's bitmap.
    pub dirty_ring_size: u32,
    /// Mode `xbzrle`: the cache.
    pub xbzrle_cache_size: Bytes,
    /// Modes `multifd`: connections.
    pub channels: u32,
    /// Further arguments of both QEMUs, parted by spaces.
    pub arguments: String,
}

impl Default for QemuSettings {
    fn default() -> Self {
        Self {
            mode: QemuMode::Precopy,
            binary: "qemu-system-x86_64".to_owned(),
            accel: QemuAccel::Kvm,
            machine: MICROVM.to_owned(),
            dirty_ring_size: 0,
            xbzrle_cache_size: Bytes(64 << 20),
            channels: 2,
            arguments: String::new(),
        }
    }
}

/// The machine type that boots our guest fastest.
pub const MICROVM: &str = "microvm";
/// The word for no further arguments.
const NO_ARGUMENTS: &str = "none";

/// Of the cell, to be changed.
fn of(cell: &mut Cell) -> &mut QemuSettings {
    cell.qemu.get_or_insert_default()
}

fn shown(cell: &Cell, show: impl Fn(&QemuSettings) -> String) -> String {
    cell.qemu.as_ref().map_or_else(|| show(&QemuSettings::default()), &show)
}

pub(crate) const MODE: Key = key(
    "qemu.mode",
    "word",
    "precopy",
    "engine qemu: its way to migrate; dirty-limit implies a dirty_ring_size of 4096",
    reads!(|cell, v| {
        of(cell).mode = v.word(QemuMode::ALL)?;
        if of(cell).mode == QemuMode::DirtyLimit {
            of(cell).dirty_ring_size = 4096;
        }
    }),
    |cell| shown(cell, |qemu| qemu.mode.to_string()),
);

pub(crate) const BINARY: Key = key(
    "qemu.binary",
    "path",
    "qemu-system-x86_64",
    "engine qemu: the program, by name or path, so that two builds or releases can be compared",
    reads!(|cell, v| of(cell).binary = v.text("the name or path of a QEMU")?.to_owned()),
    |cell| shown(cell, |qemu| qemu.binary.clone()),
);

pub(crate) const ACCEL: Key = key(
    "qemu.accel",
    "word",
    "kvm",
    "engine qemu: what executes the guest",
    reads!(|cell, v| of(cell).accel = v.word(QemuAccel::ALL)?),
    |cell| shown(cell, |qemu| qemu.accel.to_string()),
);

pub(crate) const MACHINE: Key = key(
    "qemu.machine",
    "text",
    MICROVM,
    "engine qemu: its machine type; others than microvm boot in seconds and have at most 1792MiB here",
    reads!(|cell, v| of(cell).machine = v.text("a machine type of QEMU")?.to_owned()),
    |cell| shown(cell, |qemu| qemu.machine.clone()),
);

pub(crate) const DIRTY_RING_SIZE: Key = key(
    "qemu.dirty_ring_size",
    "whole number",
    "0",
    "engine qemu: entries of each vCPU's dirty ring, a power of two from 1024 to 65536; 0 is KVM's bitmap",
    reads!(|cell, v| {
        const WHY: &str =
            "QEMU's dirty ring has a power of two of entries, from 1024 to 65536, or is off with 0";
        let entries = v.integer(0, 1 << 16, WHY)?;
        if entries != 0 && (!entries.is_power_of_two() || entries < 1024) {
            return Err(v.out_of_range(entries, WHY));
        }
        of(cell).dirty_ring_size = entries;
    }),
    |cell| shown(cell, |qemu| qemu.dirty_ring_size.to_string()),
);

pub(crate) const XBZRLE_CACHE_SIZE: Key = key(
    "qemu.xbzrle_cache_size",
    "size",
    "64MiB",
    "engine qemu, mode xbzrle: its cache of pages, a power of two from 4KiB on",
    reads!(|cell, v| {
        let size = v.size()?;
        if !size.0.is_power_of_two() || size.0 < 4096 {
            return Err(v.out_of_range(size, "QEMU's cache has a power of two of bytes, at least a page"));
        }
        of(cell).xbzrle_cache_size = size;
    }),
    |cell| shown(cell, |qemu| qemu.xbzrle_cache_size.to_string()),
);

pub(crate) const CHANNELS: Key = key(
    "qemu.channels",
    "whole number",
    "2",
    "engine qemu, modes multifd and multifd-zstd: connections, 1 to 64",
    reads!(|cell, v| of(cell).channels = v.integer(1, 64, "multifd has 1 to 64 channels")?),
    |cell| shown(cell, |qemu| qemu.channels.to_string()),
);

pub(crate) const ARGUMENTS: Key = key(
    "qemu.arguments",
    "text",
    NO_ARGUMENTS,
    "engine qemu: further arguments of both QEMUs, parted by spaces, or none",
    reads!(|cell, v| {
        let text = v.text("arguments, parted by spaces")?;
        of(cell).arguments = if text == NO_ARGUMENTS { String::new() } else { text.to_owned() };
    }),
    |cell| {
        shown(cell, |qemu| match &qemu.arguments[..] {
            "" => NO_ARGUMENTS.to_owned(),
            some => some.to_owned(),
        })
    },
);

#[cfg(test)]
mod tests {
    use crate::cell::Engine;
    use crate::{Assignment, Draft, Overrides, Suite};

    fn refused(settings: &[(&str, &str)]) -> String {
        let mut draft = Draft::new();
        for (key, value) in [("workload", "idle"), ("engine", "qemu")].iter().chain(settings) {
            draft.set(&Assignment::flag("--set", key, value)).unwrap();
        }
        draft.build().unwrap_err().to_string()
    }

    #[test]
    fn what_would_be_something_else_under_another_vmm_is_refused() {
        for (settings, word) in [
            (&[("prefault", "false")][..], "prefault"),
            (&[("elide_zero", "false")], "elide_zero"),
            (&[("wait", "doorbell")], "doorbell"),
            (&[("backing", "memfd")], "shared memory"),
            (&[("proof", "every")], "proof"),
            (&[("link.delay", "1ms")], "link.delay"),
            (&[("stop.downtime_limit", "100us")], "whole milliseconds"),
            (&[("qemu.mode", "dirty-limit"), ("qemu.dirty_ring_size", "0")], "dirty ring"),
            (&[("qemu.accel", "tcg"), ("qemu.dirty_ring_size", "4096")], "no dirty ring"),
            (&[("qemu.machine", "pc"), ("memory", "2GiB")], "at most"),
            (&[("memory", "3071MiB"), ("memory", "3070MiB")], "hole under 4GiB"),
        ] {
            let error = refused(settings);
            assert!(error.contains(word), "{settings:?}: {error}");
        }
    }

    /// Settings of engines of ours mean nothing to it, nor its own to them: cells do not differ in them.
    #[test]
    fn each_engine_reads_its_own_keys() {
        let suite = Suite::find("peers-quick").unwrap();
        let set = |text: &str| {
            let mut suite = suite.clone();
            let set = vec![Assignment::parse(text).unwrap()];
            suite.apply(&Overrides { set, ..Overrides::default() }).unwrap();
            suite.expand()
        };
        let plan = set("qemu.binary=/opt/qemu").unwrap();
        let cells: Vec<_> = plan.comparisons.iter().flat_map(|comparison| &comparison.cells).collect();
        for cell in &cells {
            let binary = cell.cell.qemu.as_ref().map(|qemu| &qemu.binary[..]);
            assert_eq!(binary, cell.cell.engine.is_peer().then_some("/opt/qemu"), "{}", cell.id);
        }
        assert!(cells.iter().any(|cell| cell.cell.engine == Engine::Qemu && cell.optional));
        let tracked = set("tracker=kvm-ring").unwrap();
        let rings = tracked.comparisons.iter().flat_map(|comparison| &comparison.cells);
        assert!(rings.clone().any(|cell| cell.cell.tracker.word() == "kvm-ring"));
        assert!(
            rings
                .filter(|cell| cell.cell.engine.is_peer())
                .all(|cell| cell.cell.tracker.word() == "kvm-bitmap")
        );
        // Where no cell reads it, it is refused as before.
        let mut quick = Suite::find("quick").unwrap();
        let set = vec![Assignment::parse("qemu.mode=xbzrle").unwrap()];
        quick.apply(&Overrides { set, ..Overrides::default() }).unwrap();
        let error = quick.expand().unwrap_err().to_string();
        assert!(error.contains("engine full does not read it"), "{error}");
    }

    #[test]
    fn two_releases_are_two_sides() {
        let suite = Suite::find("peers-quick").unwrap();
        let side = |text: &str| vec![Assignment::parse(text).unwrap()];
        let plan = suite.sides(&side("qemu.binary=/a"), &side("qemu.binary=/b")).unwrap();
        assert_eq!(plan.comparisons.len(), 6, "cells of our own engines are left out");
        for comparison in &plan.comparisons {
            let binaries: Vec<_> =
                comparison.cells.iter().map(|cell| cell.cell.qemu.as_ref().unwrap().binary.clone()).collect();
            assert_eq!(binaries, ["/a", "/b"]);
        }
    }
}

//! QEMU as a peer: a process of `qemu-system-x86_64` on each side with our guest image, driven over QMP. Nothing outside of this
//! folder and of the keys `qemu.*` knows QEMU.

mod arguments;
mod features;
mod process;
mod qmp;

use std::cell::RefCell;
use std::fs;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use migbench_scenarios::cell::{Cell, Transport};
use migbench_scenarios::qemu::QemuMode;
use migbench_workloads::abi;
use migbench_workloads::image::GUEST_IMAGE;
use migbench_workloads::units::Bytes;
use nix::unistd::Pid;
use serde_json::{Value, json};
use zerocopy::IntoBytes;

use super::{Moment, Peer, PeerAbout, PeerCounters, PeerError};
use crate::guest::{Guest, GuestError};
use crate::host::huge;
use crate::node::link_timeout;
use crate::node::protocol::NodeAssignment;
use crate::sys::memory::{Telemetry, leave_open};
use crate::sys::thread;
use crate::vm::{host_tsc_khz, wait_state};
use crate::wire::address::LinkAddress;
use crate::wire::netns;
use features::Features;
pub use features::{available, found};
use process::Process;
use qmp::{Event, Qmp, QmpError};

/// What one QEMU was seen to take for itself, rounded up.
const OWN: u64 = 80 << 20;

/// Memory that both take beside the guest: themselves, and the source's cache.
#[must_use]
pub fn own_memory(cell: &Cell) -> Bytes {
    let cache = cell.qemu.as_ref().filter(|qemu| qemu.mode == QemuMode::Xbzrle);
    // No page has more than one place in it.
    Bytes(2 * OWN + cache.map_or(0, |qemu| qemu.xbzrle_cache_size.0.min(cell.memory.0)))
}

/// Longest time in which a guest boots: some machine types take seconds.
const BOOT: Duration = Duration::from_secs(60);

/// A process of QEMU with one side of the guest.
pub struct Qemu {
    process: Process,
    monitor: RefCell<Qmp>,
    telemetry: Arc<Telemetry>,
    cell: Cell,
    scratch: PathBuf,
    about: PeerAbout,
    tsc_khz: u32,
    vcpus: Vec<Pid>,
    /// Addresses in its process of main memory and of telemetry.
    mapped: [Range<u64>; 2],
}

impl Qemu {
    /// Starts it, with its memory resident and with the cell's limits set; the guest does not run yet.
    ///
    /// # Errors
    /// When it ends, refuses something, or has no capability that the mode needs.
    pub fn spawn(
        assignment: &NodeAssignment,
        telemetry: Arc<Telemetry>,
        file: &OwnedFd,
    ) -> Result<Self, PeerError> {
        let cell = &assignment.cell;
        let (Some(qemu), Some(scratch)) = (&cell.qemu, &assignment.scratch) else {
            return Err(PeerError::Vmm(
                "a run of QEMU without its settings or without a directory".to_owned(),
            ));
        };
        let binary = features::find(&qemu.binary).map_err(PeerError::Vmm)?;
        let tsc_khz = host_tsc_khz().map_err(GuestError::from)?;
        let side = assignment.role.word();
        let (image, params) = (scratch.join(format!("{side}.elf")), scratch.join(format!("{side}.params")));
        let block = arguments::params(cell, assignment.seed, assignment.guest_flags, tsc_khz);
        fs::write(&image, GUEST_IMAGE)
            .and_then(|()| fs::write(&params, block.as_bytes()))
            .map_err(PeerError::system("write the guest image for QEMU"))?;
        let (ours, theirs) =
            UnixStream::pair().map_err(PeerError::system("make a socket for QEMU's monitor"))?;
        let open = PeerError::system("leave a descriptor open for QEMU");
        let inherited = arguments::Inherited {
            image: &image,
            params: &params,
            telemetry: leave_open(file).map_err(&open)?,
            telemetry_size: Telemetry::file_size(cell.vcpus as usize, cell.timing),
            monitor: leave_open(&theirs).map_err(&open)?,
        };
        let arguments = arguments::command_line(cell, qemu, assignment.role, assignment.verify, inherited);
        let mut command = Command::new(&binary);
        command.args(&arguments);
        let process = Process::start(command, cell.backing).map_err(PeerError::system("start QEMU"))?;
        drop(theirs);
        let mut monitor = Qmp::new(ours, link_timeout(cell)).map_err(|error| explain(&process, &error))?;
        let (version, vcpus) = set_up(&mut monitor, cell).map_err(|error| explain(&process, &error))?;
        let mapped = mapped(&process, [cell.memory, inherited.telemetry_size])?;
        let pins = cell.pinning.as_ref().map_or(&[][..], |pinning| &pinning.vcpus);
        for (&vcpu, &cpu) in vcpus.iter().zip(pins.iter().cycle()) {
            thread::pin_other(vcpu, cpu).map_err(PeerError::system("bind a vCPU of QEMU to its CPU"))?;
        }
        let about = PeerAbout {
            name: "QEMU".to_owned(),
            version,
            binary: binary.display().to_string(),
            hash: String::new(),
            arguments,
        };
        let (cell, scratch) = (cell.clone(), scratch.clone());
        Ok(Self {
            process,
            monitor: RefCell::new(monitor),
            telemetry,
            cell,
            scratch,
            about,
            tsc_khz,
            vcpus,
            mapped,
        })
    }

    fn execute(&self, command: &str, arguments: Value) -> Result<Value, PeerError> {
        let said = self.monitor.borrow_mut().execute(command, arguments);
        said.map_err(|error| explain(&self.process, &error))
    }

    /// The URI of an address, in QEMU's words.
    fn uri(address: &LinkAddress) -> Result<String, PeerError> {
        match address {
            LinkAddress::Path { path } => Ok(format!("unix:{}", path.display())),
            LinkAddress::Tcp { host, port } => Ok(format!("tcp:{host}:{port}")),
            LinkAddress::Netns { port, .. } => Ok(format!("tcp:{}:{port}", netns::DESTINATION)),
            LinkAddress::Unix { .. } => Err(PeerError::Vmm(format!("QEMU can't connect to {address}"))),
        }
    }

    /// What an event says of the migration.
    fn moment(&self, event: &Event) -> Result<Option<Moment>, PeerError> {
        Ok(match (&event.name[..], event.data["status"].as_str()) {
            ("STOP", _) => Some(Moment::Stopped(event.at)),
            ("RESUME", _) => Some(Moment::Resumed(event.at)),
            ("MIGRATION", Some("completed")) => Some(Moment::Completed(event.at)),
            ("MIGRATION", Some(status @ ("failed" | "cancelled"))) => {
                let said = self.execute("query-migrate", json!({}))?;
                Some(Moment::Failed(said["error-desc"].as_str().unwrap_or(status).to_owned()))
            }
            _ => None,
        })
    }
}

/// An error of the monitor, in QEMU's own words where it has ended.
fn explain(process: &Process, error: &QmpError) -> PeerError {
    let ended = matches!(error, QmpError::Closed | QmpError::Socket(_));
    let words = ended.then(|| process.last_words()).flatten();
    PeerError::Vmm(words.unwrap_or_else(|| format!("QEMU: {error}")))
}

/// Sets the migration's capabilities and parameters. Gives QEMU's version and the threads of the vCPUs.
fn set_up(monitor: &mut Qmp, cell: &Cell) -> Result<(String, Vec<Pid>), QmpError> {
    let qemu = cell.qemu.clone().unwrap_or_default();
    let features = Features::ask(monitor)?;
    if let Some(missing) = features.missing(qemu.mode) {
        let reason = format!("QEMU {} has no capability {missing}", features.version);
        return Err(QmpError::Refused { command: "migrate-set-capabilities".to_owned(), reason });
    }
    let on = |capability: &&str| json!({ "capability": capability, "state": true });
    let capabilities: Vec<Value> = arguments::capabilities(qemu.mode).iter().map(on).collect();
    monitor.execute("migrate-set-capabilities", json!({ "capabilities": capabilities }))?;
    monitor.execute("migrate-set-parameters", arguments::parameters(cell, &qemu))?;
    let vcpus = monitor.execute("query-cpus-fast", json!({}))?;
    let thread = |vcpu: &Value| vcpu["thread-id"].as_i64().and_then(|id| i32::try_from(id).ok());
    let vcpus = vcpus.as_array().into_iter().flatten().filter_map(thread).map(Pid::from_raw).collect();
    Ok((features.version, vcpus))
}

/// Where a process has mappings of these sizes: main memory is the only anonymous one that is as large, give or take a neighbour
/// that the kernel joined to it, and telemetry the only one of its file.
fn mapped(process: &Process, [memory, telemetry]: [Bytes; 2]) -> Result<[Range<u64>; 2], PeerError> {
    let path = format!("/proc/{}/maps", process.id());
    let maps = fs::read_to_string(&path).map_err(PeerError::system("read the mappings of QEMU"))?;
    parse_maps(&maps, memory.0, telemetry.0)
        .ok_or_else(|| PeerError::Vmm(format!("{path} has no mapping of {memory} for guest memory")))
}

fn parse_maps(maps: &str, memory: u64, telemetry: u64) -> Option<[Range<u64>; 2]> {
    let (mut ram, mut shared) = (None, None);
    for line in maps.lines() {
        let mut fields = line.split_whitespace();
        let (Some(range), Some(rights)) = (fields.next(), fields.next()) else { continue };
        let Some((start, end)) = range.split_once('-') else { continue };
        let (Ok(start), Ok(end)) = (u64::from_str_radix(start, 16), u64::from_str_radix(end, 16)) else {
            continue;
        };
        let (file, range) = (fields.nth(2), start..end);
        let size = end - start;
        if rights.starts_with("rw-s") && size == telemetry {
            shared = Some(range);
        } else if rights.starts_with("rw-p") && file == Some("0") && size >= memory {
            // The smallest that is large enough.
            ram = [ram, Some(range)].into_iter().flatten().min_by_key(|range| range.end - range.start);
        }
    }
    Some([ram?, shared.unwrap_or(0..0)])
}

impl Guest for Qemu {
    fn telemetry(&self) -> &Arc<Telemetry> {
        &self.telemetry
    }

    fn tsc_khz(&self) -> u32 {
        self.tsc_khz
    }

    fn tsc_offset(&self, _: usize) -> Option<u64> {
        None
    }

    fn memory(&self) -> u64 {
        self.cell.memory.0
    }

    fn start(&self) -> Result<(), GuestError> {
        self.resume();
        let vcpus = self.telemetry.vcpus();
        // Filling runs at hundreds of MB/s and more.
        let patience = BOOT + Duration::from_secs(self.cell.memory.0 >> 27);
        let reached = |state| state >= abi::STATE_RUNNING;
        let running = wait_state(&self.telemetry, vcpus, patience, || self.check(), reached)?;
        if running { Ok(()) } else { Err(GuestError::Late("running", patience.as_secs())) }
    }

    fn pause(&self) -> Result<(), GuestError> {
        self.execute("stop", json!({})).map(drop).map_err(|error| GuestError::Peer(error.to_string()))
    }

    fn resume(&self) {
        // A QEMU that is gone is noticed by `check`.
        let _ = self.execute("cont", json!({}));
    }

    fn check(&self) -> Result<(), GuestError> {
        self.process.check()
    }

    fn process(&self) -> Pid {
        i32::try_from(self.process.id()).map_or(Pid::from_raw(0), Pid::from_raw)
    }

    fn vcpu_threads(&self) -> Vec<Pid> {
        self.vcpus.clone()
    }

    fn own_memory(&self) -> Vec<Range<u64>> {
        self.mapped.to_vec()
    }
}

impl Peer for Qemu {
    fn about(&self) -> Result<PeerAbout, PeerError> {
        let program = fs::read(&self.about.binary).map_err(PeerError::system("read QEMU's program"))?;
        Ok(PeerAbout { hash: blake3::hash(&program).to_hex().to_string(), ..self.about.clone() })
    }

    fn listen(&self) -> Result<LinkAddress, PeerError> {
        let path = self.scratch.join("migration");
        let uri = match self.cell.link.transport {
            Transport::Unix => format!("unix:{}", path.display()),
            Transport::Tcp => "tcp:127.0.0.1:0".to_owned(),
            Transport::Netns => format!("tcp:{}:0", netns::DESTINATION),
        };
        self.execute("migrate-incoming", json!({ "uri": uri }))?;
        if self.cell.link.transport == Transport::Unix {
            return Ok(LinkAddress::Path { path });
        }
        let said = self.execute("query-migrate", json!({}))?;
        let port = said.pointer("/socket-address/0/port").and_then(Value::as_str);
        let port = port.and_then(|port| port.parse().ok());
        let port =
            port.ok_or_else(|| PeerError::Vmm(format!("QEMU does not say where it listens: {said}")))?;
        Ok(match self.cell.link.transport {
            Transport::Netns => LinkAddress::Netns { port, queue: None },
            _ => LinkAddress::Tcp { host: "127.0.0.1".to_owned(), port },
        })
    }

    fn migrate(&self, to: &LinkAddress) -> Result<(), PeerError> {
        self.execute("migrate", json!({ "uri": Self::uri(to)? })).map(drop)
    }

    fn wait(&self, longest: Duration) -> Result<Option<Moment>, PeerError> {
        let event = self.monitor.borrow_mut().event(longest);
        match event.map_err(|error| explain(&self.process, &error))? {
            Some(event) => self.moment(&event),
            None => Ok(None),
        }
    }

    fn counters(&self) -> Result<PeerCounters, PeerError> {
        let mut said = self.execute("query-migrate", json!({}))?;
        // Right at its end the total time is zero for a moment.
        for _ in 0..20 {
            if said["status"] != "completed" || said["total-time"].as_u64() != Some(0) {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
            said = self.execute("query-migrate", json!({}))?;
        }
        Ok(counters(said))
    }

    fn force(&self) -> Result<(), PeerError> {
        self.execute("migrate-set-parameters", json!({ "downtime-limit": arguments::NO_LIMIT })).map(drop)
    }

    fn huge_page_share(&self) -> Result<Option<f64>, PeerError> {
        if !self.cell.backing.is_huge() {
            return Ok(None);
        }
        huge::share(self.process(), &self.mapped[..1])
            .map_err(PeerError::system("see how much of guest memory is in huge pages"))
    }

    fn copy_memory(&self, offset: u64, length: u64, into: &Path) -> Result<(), PeerError> {
        let start = arguments::address(offset);
        let arguments = json!({ "val": start, "size": length, "filename": into.display().to_string() });
        self.execute("pmemsave", arguments).map(drop)
    }
}

/// Counters from what `query-migrate` says: cumulative ones only, since its rates are stale.
fn counters(said: Value) -> PeerCounters {
    let number = |path: &str| said.pointer(path).and_then(Value::as_u64);
    let seconds = |path: &str| {
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of hours")]
        number(path).map(|milliseconds| milliseconds as f64 / 1000.0)
    };
    let deltas =
        ["pages", "bytes", "overflow", "cache-miss"].map(|name| number(&format!("/xbzrle-cache/{name}")));
    PeerCounters {
        traffic: number("/ram/transferred"),
        rounds: number("/ram/dirty-sync-count").unwrap_or(0),
        pages_full: number("/ram/normal"),
        pages_zero: number("/ram/duplicate"),
        deltas: match deltas {
            [Some(pages), Some(bytes), Some(overflow), Some(misses)] => {
                Some([pages, bytes, overflow, misses])
            }
            _ => None,
        },
        downtime: seconds("/downtime"),
        total_time: seconds("/total-time"),
        said,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn main_memory_is_the_smallest_private_mapping_that_holds_it() {
        let maps = "\
5587e3f000-5587e3f100 r--p 00000000 fe:00 123 /usr/bin/qemu\n\
7f0000000000-7f0008000000 rw-p 00000000 00:00 0 \n\
7f1000000000-7f1040000000 rw-p 00000000 00:00 0 \n\
7f2000000000-7f2000600000 rw-s 00000000 00:01 77 /memfd:migbench-telemetry (deleted)\n\
7f3000000000-7f3009000000 ---p 00000000 00:00 0 \n";
        let found = parse_maps(maps, 128 << 20, 6 << 20).unwrap();
        assert_eq!(found, [0x7f00_0000_0000..0x7f00_0800_0000, 0x7f20_0000_0000..0x7f20_0060_0000]);
        assert_eq!(parse_maps(maps, 2 << 30, 6 << 20), None);
    }

    #[test]
    fn counters_that_a_version_does_not_have_are_absent() {
        let said = json!({ "status": "completed", "total-time": 143, "downtime": 23,
            "ram": { "transferred": 1000, "dirty-sync-count": 4, "normal": 7, "duplicate": 5 } });
        let found = counters(said.clone());
        assert_eq!((found.traffic, found.rounds, found.deltas), (Some(1000), 4, None));
        assert_eq!((found.total_time, found.downtime), (Some(0.143), Some(0.023)));
        assert_eq!(found.said, said);
        assert_eq!(counters(json!({})), PeerCounters { said: json!({}), ..PeerCounters::default() });
    }
}

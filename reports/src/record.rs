//! The record of one migration: one line of `runs.jsonl`. Scripts of others read it, so its names stay.

use std::collections::BTreeMap;

pub use migbench_scenarios::RunKind;
use migbench_scenarios::cell::Cell;
use migbench_scenarios::words;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

pub use crate::measure::WriteTimes;
use crate::part::Part;
use crate::word::Word;

/// Version of this shape. Since 2 a modelled link behaves like a wire, waiting for it is a stage of its own, and stages that a
/// run doesn't have are absent; figures of 1 stay readable and are never compared with those of 2.
pub const SCHEMA: u32 = 2;

words! {
    /// What ran the guest.
    #[derive(Default)]
    Backend {
        /// KVM: a real guest in real processes. Records of before this field have no other.
        #[default]
        Kvm = "kvm",
        /// No guest: the runner worked on figures that were made up, to test what stands around a run.
        Simulated = "simulated",
    }
}

words! {
    /// How a run ended.
    Status {
        /// As planned.
        Ok = "ok",
        /// A limit of the stop rule forced the switchover.
        Capped = "capped",
        /// It did not end as planned; the error says where and why.
        Failed = "failed",
    }
}

/// Where the guest was when a run had failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GuestAt {
    /// It went on at the source; its counters advanced after the failure.
    Source,
    /// It runs at the destination; its counters advanced there.
    Destination,
    /// It runs nowhere.
    Lost,
    /// Nobody could tell.
    Unknown,
    /// It had never started.
    Nowhere,
}

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunError {
    /// `boot`, `warmup`, `connect`, `precopy`, `switchover`, `verification`, `handover`, `after`, `validate`, ...
    pub phase: String,
    /// What happened, in a sentence.
    pub message: String,
    /// Where the guest ended up.
    pub guest: GuestAt,
}

/// What came of comparing the memory of both sides, where that was to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemoryProof {
    /// It was equal.
    Equal,
    /// It differed.
    Different,
    /// It was not compared, for this reason.
    NotMade(String),
}

impl MemoryProof {
    /// As [`Record::verified`] and [`Record::not_verified`] write it.
    #[must_use]
    pub fn into_fields(self) -> (Option<bool>, Option<String>) {
        match self {
            Self::Equal => (Some(true), None),
            Self::Different => (Some(false), None),
            Self::NotMade(why) => (None, Some(why)),
        }
    }
}

/// A value with its unit. A metric that could not be had is absent, never zero.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Metric {
    /// `s`, `B`, `count`, `ratio`, `op/s`, `page/s`, `op`, `s/s`, `B/s`.
    #[schemars(with = "String")]
    pub unit: Word,
    /// In that unit.
    pub value: f64,
}

/// A map that is made at once has its nodes full; one that grows in order leaves them half empty.
fn packed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<Word, Metric>, D::Error> {
    Ok(BTreeMap::deserialize(deserializer)?.into_iter().collect())
}

words! {
    /// What came of asking the stop rule.
    Decided {
        /// Another round with the guest running.
        Continue = "continue",
        /// The guest is paused and the rest sent, as the rule says.
        SwitchOver = "switch-over",
        /// The same, since a limit forces it.
        Capped = "capped",
    }
}

/// What the stop rule knew after a round, and what came of it. Times are seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Decision {
    /// What came of it.
    pub decided: Decided,
    /// Pages that were left to send.
    pub pages: u64,
    /// Time until what was queued had left the link.
    pub queued: f64,
    /// Predicted length of a pause then, as the rule counts it; absent where nothing was known yet.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub estimate: Option<f64>,
    /// Bytes that the pages were taken for, by a rule that counts them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bytes: Option<f64>,
    /// What is in the prediction beside pages and queue, where the rule adds something.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub overhead: Option<f64>,
    /// The longest pause that was short enough then; absent where the rule has none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit: Option<f64>,
}

/// One round of pre-copy. Round 0 sends all memory; the last one is the paused round.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Round {
    /// Its number.
    pub round: u32,
    /// Seconds from the start of the migration to the start of its harvest.
    #[serde(default)]
    pub start: f64,
    /// Pages found dirty for this round; in round 0 all pages of the guest.
    pub dirty_pages: u64,
    /// Bytes written to the link.
    pub traffic: u64,
    /// Seconds from the start of its harvest to its last byte written. The stages that a round has add up to it.
    pub duration: f64,
    /// Stage: seconds in the harvest.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub harvest_time: Option<f64>,
    /// Stage: seconds in copying pages out of the guest, of builds that did so before they encoded.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub copy_time: Option<f64>,
    /// Stage: seconds in the policy and the codec, and in reading pages out of the guest.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub encode_time: Option<f64>,
    /// Stage: seconds in writing to the link. In schema 1 waiting for the rate limit is in it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub send_time: Option<f64>,
    /// Stage: seconds of waiting until the queue of the link had room; absent for a link without a rate.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub wait_time: Option<f64>,
    /// Seconds in which the wire had nothing to send although pages were left, without the sender's run delay in that time:
    /// they lie within the stages. Absent for a link without a rate.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub wire_idle: Option<f64>,
    /// Page sends by outcome.
    pub pages_full: u64,
    /// Zero pages sent as marks.
    pub pages_zero: u64,
    /// Pages sent as a delta.
    pub pages_delta: u64,
    /// Found dirty, identical to what the destination holds.
    pub pages_unchanged: u64,
    /// Delta tried, no smaller than the page, sent full (counted in `pages_full` too).
    pub pages_overflow: u64,
    /// Predicted length of a paused round after this one, in seconds; absent where no rate was known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub estimate: Option<f64>,
    /// What was decided after this round; absent in the paused one, and in records of before it was kept.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub decision: Option<Decision>,
    /// Whether the guest was paused.
    pub paused: bool,
}

impl Round {
    /// The stages in order, each with what tables call it and its seconds; absent where the run doesn't have it.
    #[must_use]
    pub const fn stages(&self) -> [(&'static str, Option<f64>); 5] {
        [
            ("harvest", self.harvest_time),
            ("copy", self.copy_time),
            ("encode", self.encode_time),
            ("send", self.send_time),
            ("wait", self.wait_time),
        ]
    }
}

/// Guest operations per interval, and what the host did when.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Timeline {
    /// Seconds per interval.
    pub interval: f64,
    /// Start of the first interval, in seconds before (negative) or after the start of the migration.
    pub start: f64,
    /// Guest operations that ended in each interval, summed over vCPUs.
    pub operations: Vec<u32>,
    /// Where samples are missing: a first interval and how many. Their operations were counted together and are spread
    /// evenly over them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<(u32, u32)>,
    /// Host events: seconds from the start of the migration, and a name such as `arm`, `round-1`, `pause`, `resume`.
    pub events: Vec<(f64, String)>,
}

words! {
    /// What the host did to the guest at the time of a stall.
    Cause {
        /// It turned the dirty tracker on.
        Arm = "arm",
        /// It read the dirty tracker; trackers that re-arm as they harvest did that too.
        Harvest = "harvest",
        /// It re-armed pages that it was about to read.
        Clear = "clear",
        /// It handled a userfaultfd fault of this vCPU, from reading the fault to having lifted it.
        Fault = "fault",
        /// It emptied the full dirty ring of this vCPU.
        RingFull = "ring-full",
        /// It kept this vCPU out of the guest, to throttle it.
        Throttle = "throttle",
        /// It paused the guest, up to the word that it runs again.
        Switchover = "switchover",
        /// It turned the dirty tracker off.
        Disarm = "disarm",
        /// Nothing of these. Faults that the kernel handles alone, such as the first write of a page under KVM's dirty
        /// logging, are not seen by the host's program, nor is a vCPU that waits for a CPU.
        None = "none",
        /// Nobody can say: the log of the host was full, or the clocks could not be compared.
        Unknown = "unknown",
    }
}

/// A guest operation that took longer than the threshold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Stall {
    /// Seconds from the start of the migration to the start of the operation; absent where the clocks could not be
    /// compared.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub start: Option<f64>,
    /// Seconds that it took, the threshold included.
    pub duration: f64,
    /// The vCPU.
    pub vcpu: u32,
    /// `precopy`, `switchover`, `catchup`, `after`.
    pub phase: String,
    /// As in the names of histograms: `read`, `write`, ...
    pub operation: String,
    /// What the host did that overlaps it for the longest time.
    pub cause: Cause,
}

/// The longest stalls from the start of the migration on. A sample: sum and count in `stall_precopy` are exact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Stalls {
    /// Seconds from which on an operation counts as stalled.
    pub threshold: f64,
    /// Seconds by which stalls may have been earlier than is said. What would not overlap a stall then is not its cause.
    /// Absent where the clocks could not be compared.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub clock_error: Option<f64>,
    /// Stalls that were counted and are not in the list.
    pub dropped: u64,
    /// In order of time.
    pub list: Vec<Stall>,
}

/// What the host could do before a block of runs: bytes per second of each pass that was made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CanarySamples {
    /// Copied in memory.
    pub copy: Vec<f64>,
    /// Through a socket.
    pub socket: Vec<f64>,
}

/// Another VMM that ran and moved the guest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PeerRun {
    /// Its name.
    pub name: String,
    /// Its version, as it says.
    pub version: String,
    /// Where the program lies.
    pub binary: String,
    /// BLAKE3 of the program, in hexadecimal.
    pub hash: String,
    /// What it was started with at the source.
    pub source_arguments: Vec<String>,
    /// What it was started with at the destination.
    pub destination_arguments: Vec<String>,
    /// Whether it kept to the link's rate by itself, as far as it does; a link of the kernel's, or none, is nothing of its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paced_by_itself: bool,
    /// All that it said of the migration in the end (QEMU: `query-migrate`).
    pub said: serde_json::Value,
}

/// One migration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Record {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Unique in its run directory.
    pub run_id: String,
    /// Name of the suite.
    pub suite: String,
    /// Name of the comparison: cells that differ in the compared axis only.
    pub comparison: String,
    /// Repetition, 0 for the verification run.
    pub repetition: u32,
    /// Place in the order of execution.
    pub order: u32,
    /// What ran the guest.
    #[serde(default)]
    pub backend: Backend,
    /// Sample or proof.
    pub kind: RunKind,
    /// How it ended.
    pub status: Status,
    /// Why it failed.
    pub error: Option<RunError>,
    /// Memory hashed equal: `true`; differed: `false`; not compared: null.
    pub verified: Option<bool>,
    /// Why memory was not compared although it was to be; absent where it was compared, or was not to be. In schema 1 a proof
    /// that a broken link cut short says that memory differed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub not_verified: Option<String>,
    /// The guest's own check of its state afterwards: passed, failed, or not made.
    pub guest_checked: Option<bool>,
    /// Conditions that weaken the sample: `not_steady`, `oversubscribed`, `fault_injected`, ...
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// Another VMM, where one moved the guest.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub peer: Option<PeerRun>,
    /// A cost that was planted into a stage to test the judge: these are not the build's own figures.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub planted: Option<String>,
    /// What the host could do before the block of this run, the same in all of its runs; absent where nobody looked, and in
    /// schema 1. `canary_copy` and `canary_socket` are the medians.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub canary: Option<CanarySamples>,
    /// When the run started, UTC, RFC 3339.
    pub started: String,
    /// Seed of the guest, shared within a block.
    pub seed: u64,
    /// Every parameter.
    pub cell: Cell,
    /// By name.
    #[serde(deserialize_with = "packed")]
    #[schemars(with = "BTreeMap<String, Metric>")]
    pub metrics: BTreeMap<Word, Metric>,
    /// In order.
    pub rounds: Vec<Round>,
    /// Seconds that each vCPU was kept out of the guest by a throttle; absent without one.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub throttled: Vec<f64>,
    /// HdrHistogram's compressed V2 encoding in base64, by `latency_<op>[_response]/<phase>`; nanoseconds. In schema 1 it is not
    /// compressed.
    #[schemars(with = "BTreeMap<String, String>")]
    pub histograms: Part<BTreeMap<String, String>>,
    /// Throughput around the migration.
    #[schemars(with = "Timeline")]
    pub timeline: Part<Timeline>,
    /// Where the guest stalled; absent where operations were not timed or no threshold could be had.
    #[serde(skip_serializing_if = "Part::is_none", default)]
    #[schemars(with = "Option<Stalls>")]
    pub stalls: Part<Option<Stalls>>,
    /// How long its writes took, from its histograms: many tables ask.
    #[serde(skip)]
    pub write_times: WriteTimes,
}

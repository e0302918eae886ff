//! One cell: every parameter of one migration that can differ between runs, in the names of the records.
//! A cell is what the expansion of a suite produces, what a node is asked to do, and what a record repeats.

use migbench_workloads::settings::Settings;
use migbench_workloads::units::{Bytes, PAGE_SIZE, Rate, Seconds, UnitError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::qemu::QemuSettings;

/// Something that is one of a few words, such as a field of a cell: the words, and the conversions that `serde` and the command
/// line need.
#[macro_export]
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash,
            ::serde::Serialize, ::serde::Deserialize, ::schemars::JsonSchema
        )]
        pub enum $name { $($(#[$variant_doc])* #[serde(rename = $word)] $variant),+ }

        impl $name {
            /// Every word with its value, in the order in which they are documented.
            #[allow(dead_code, reason = "not every list is gone through")]
            pub const ALL: &'static [(&'static str, $name)] = &[$(($word, $name::$variant)),+];

            /// The word of this value.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $($name::$variant => $word),+ }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result { f.pad(self.word()) }
        }
    };
}

words! {
    /// What moves (or, for the controls, does not move) the guest.
    Engine {
        /// Pre-copy that sends whole pages: the baseline.
        Full = "full",
        /// Pre-copy that sends what changed since the page was last sent.
        Delta = "delta",
        /// QEMU, with the same guest.
        Qemu = "qemu",
        /// Control: pause, send everything, resume.
        StopAndCopy = "stop-and-copy",
        /// Control: dirty logging and harvest, nothing sent.
        TrackOnly = "track-only",
        /// Control: the same timeline without a migration.
        None = "none",
    }
}

impl Engine {
    /// Whether the guest ends at the destination.
    #[must_use]
    pub const fn migrates(self) -> bool {
        matches!(self, Self::Full | Self::Delta | Self::Qemu | Self::StopAndCopy)
    }

    /// Whether another VMM runs and moves the guest.
    #[must_use]
    pub const fn is_peer(self) -> bool {
        matches!(self, Self::Qemu)
    }

    /// Whether it has a use for the key of that name.
    #[must_use]
    pub fn reads(self, key: &str) -> bool {
        /// What our own engines, trackers and links do.
        const OURS: [&str; 12] = [
            "codec",
            "throttle",
            "cache",
            "shadow.prefault",
            "tracker",
            "link.queue",
            "link.checksum",
            "stop.estimate",
            "stop.rule",
            "stop.ramp_steps",
            "stop.ceiling",
            "stop.rounds",
        ];
        if self.is_peer() {
            !OURS.contains(&key)
                && !key.starts_with("tracker_settings.")
                && !key.starts_with("throttle_settings.")
        } else {
            !key.starts_with("qemu.")
        }
    }
}

words! {
    /// How a changed page is encoded.
    Codec {
        /// Whole pages.
        None = "none",
        /// QEMU's XBZRLE format.
        Xbzrle = "xbzrle",
        /// Maps of changed lines, words and bytes, or runs, whichever is smallest: a format of our own.
        Mask = "mask",
        /// LZ4 of the XOR with the old page, or of the whole page where there is no old one.
        Lz4 = "lz4",
        /// Zstandard of the same.
        Zstd = "zstd",
        /// Zstandard with a dictionary that both sides train on the first pages.
        ZstdDictionary = "zstd-dictionary",
        /// For each page `mask`, `lz4`, `zstd` or the whole page, whichever should cost least on this link.
        Auto = "auto",
    }
}

impl Codec {
    /// Whether it makes pages smaller that were never sent before, too.
    #[must_use]
    pub const fn compresses(self) -> bool {
        matches!(self, Self::Lz4 | Self::Zstd | Self::ZstdDictionary | Self::Auto)
    }
}

/// What the source remembers of pages it has sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum Cache {
    /// Nothing.
    None,
    /// A copy of all guest memory as the destination holds it.
    Shadow,
    /// Copies of pages in so many bytes.
    Bounded(Bytes),
    /// A digest of every so many bytes of all guest memory: blocks are sent that have another one.
    Digest(u32),
    /// A digest of every page: pages are sent that have another one.
    Unchanged,
}

impl Cache {
    /// What it may be, as it is written.
    pub const EXAMPLES: [&'static str; 5] = ["none", "shadow", "bounded(32MiB)", "digest(256)", "unchanged"];
    /// The fewest bytes of `bounded`.
    pub const LEAST: Bytes = Bytes(1 << 20);
    /// Bytes that a digest may be of.
    pub const BLOCKS: std::ops::RangeInclusive<u32> = 64..=1024;

    /// Memory that it takes beside a guest of so much; copies of more than all pages are none.
    #[must_use]
    pub fn memory(self, guest: Bytes) -> Bytes {
        /// Bytes of a digest.
        const DIGEST: u64 = 8;
        match self {
            Self::None => Bytes(0),
            Self::Shadow => guest,
            Self::Bounded(bytes) => bytes.min(guest),
            Self::Digest(block) => Bytes(guest.0 / u64::from(block.max(1)) * DIGEST),
            Self::Unchanged => Bytes(guest.0 / PAGE_SIZE * DIGEST),
        }
    }

    /// Whether it holds contents of pages, to encode changes of their bytes against.
    #[must_use]
    pub const fn has_copies(self) -> bool {
        matches!(self, Self::Shadow | Self::Bounded(_))
    }
}

/// What is no cache.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CacheError {
    /// Another word.
    #[error("`{0}` is no cache; known are {known}", known = Cache::EXAMPLES.join(", "))]
    Unknown(String),
    /// The size in brackets is none.
    #[error(transparent)]
    Size(#[from] UnitError),
    /// A number in brackets that is not allowed.
    #[error("{0}")]
    Range(&'static str),
}

impl std::str::FromStr for Cache {
    type Err = CacheError;

    fn from_str(text: &str) -> Result<Self, CacheError> {
        let unknown = || CacheError::Unknown(text.to_owned());
        let plain = [("none", Self::None), ("shadow", Self::Shadow), ("unchanged", Self::Unchanged)];
        if let Some((_, cache)) = plain.into_iter().find(|(word, _)| *word == text) {
            return Ok(cache);
        }
        let (name, rest) = text.split_once('(').ok_or_else(unknown)?;
        let inside = rest.strip_suffix(')').ok_or_else(unknown)?.trim();
        match name.trim() {
            "bounded" => match inside.parse::<Bytes>()? {
                bytes if bytes >= Self::LEAST => Ok(Self::Bounded(bytes)),
                _ => Err(CacheError::Range("a bounded cache has 1MiB or more")),
            },
            "digest" => match inside.parse() {
                Ok(block) if Self::BLOCKS.contains(&block) && block.is_power_of_two() => {
                    Ok(Self::Digest(block))
                }
                _ => Err(CacheError::Range("a digest is of 64, 128, 256, 512 or 1024 bytes")),
            },
            _ => Err(unknown()),
        }
    }
}

impl TryFrom<String> for Cache {
    type Error = CacheError;

    fn try_from(text: String) -> Result<Self, CacheError> {
        text.parse()
    }
}

impl From<Cache> for String {
    fn from(cache: Cache) -> Self {
        cache.to_string()
    }
}

impl std::fmt::Display for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.pad("none"),
            Self::Shadow => f.pad("shadow"),
            Self::Bounded(bytes) => f.pad(&format!("bounded({bytes})")),
            Self::Digest(block) => f.pad(&format!("digest({block})")),
            Self::Unchanged => f.pad("unchanged"),
        }
    }
}

words! {
    /// How written pages are found.
    Tracker {
        /// KVM's dirty bitmap, got and cleared in one call.
        KvmBitmap = "kvm-bitmap",
        /// KVM's dirty bitmap, got at the harvest and cleared chunk by chunk right before pages are read.
        KvmManual = "kvm-manual",
        /// KVM's dirty rings, one for each vCPU.
        KvmRing = "kvm-ring",
        /// userfaultfd write-protection with a thread that records each fault and lifts the protection.
        UffdWp = "uffd-wp",
        /// userfaultfd write-protection that the kernel lifts by itself, read with `PAGEMAP_SCAN`.
        UffdAsync = "uffd-async",
    }
}

words! {
    /// What guest memory is made of.
    Backing {
        /// Private anonymous memory in 4 KiB pages.
        Anonymous = "anonymous",
        /// A shared memfd in 4 KiB pages.
        Memfd = "memfd",
        /// A shared memfd of 2 MiB pages that the host's administrator reserved.
        Hugetlb = "hugetlb",
        /// Private anonymous memory that the kernel is asked to make of 2 MiB pages where it can.
        Thp = "thp",
    }
}

impl Backing {
    /// The least that userfaultfd protects or lifts by itself: what one page-table entry of the mapping covers.
    #[must_use]
    pub const fn fault_granule(self) -> Bytes {
        match self {
            Self::Hugetlb => Bytes(2 << 20),
            // The kernel splits a transparent huge page where only part of it is protected.
            Self::Anonymous | Self::Memfd | Self::Thp => Bytes(4096),
        }
    }

    /// Whether it is meant to be in 2 MiB pages.
    #[must_use]
    pub const fn is_huge(self) -> bool {
        matches!(self, Self::Hugetlb | Self::Thp)
    }
}

words! {
    /// The kind of socket between the nodes.
    Transport {
        /// A Unix stream socket.
        Unix = "unix",
        /// TCP over loopback or a network.
        Tcp = "tcp",
        /// TCP between two network namespaces of the run, over a pair of veth interfaces that the kernel keeps to the rate.
        Netns = "netns",
    }
}

words! {
    /// What the checksums of frames cover.
    Checksum {
        /// Every byte: whole pages too, which the sender has to copy for that, since guest memory changes while it is read.
        Pages = "pages",
        /// All but the contents of whole pages. A byte of those that changes on its way is found by proofs of memory only.
        Header = "header",
    }
}

impl Checksum {
    /// What cells without the key were measured with.
    const fn before_it_was_a_key() -> Self {
        Self::Pages
    }

    const fn is_pages(&self) -> bool {
        matches!(self, Self::Pages)
    }
}

words! {
    /// What a vCPU with an open loop does until its next operation is due.
    Wait {
        /// It reads its clock again and again.
        Spin = "spin",
        /// It reports to its host for how long it has nothing to do, which lets its thread sleep.
        Doorbell = "doorbell",
    }
}

impl Wait {
    const fn is_spin(&self) -> bool {
        matches!(self, Self::Spin)
    }

    const fn spin() -> Self {
        Self::Spin
    }
}

words! {
    /// How the length of the paused round is predicted.
    Estimate {
        /// Remaining pages over pages per second sent lately.
        Pages = "pages",
        /// Remaining pages x 4096 over bytes per second sent lately, as QEMU does.
        Raw = "raw",
    }
}

words! {
    /// When pre-copy gives way to stop-and-copy, before a limit forces it to.
    Rule {
        /// The prediction of estimate `pages` is within the limit.
        Pages = "pages",
        /// That of estimate `raw` is, as in QEMU.
        Raw = "raw",
        /// Bytes of the pages left, as they are encoded, over the wire's speed, or their time in the engine, whichever is longer, are
        /// within the limit.
        Encoded = "encoded",
        /// The same with all else that a pause takes.
        Fixed = "fixed",
        /// As `fixed`, under a limit that grows from round to round.
        Ramp = "ramp",
        /// As `fixed`, and once rounds shrink no more, in the next one that is as short as any of late and within a ceiling.
        Stall = "stall",
        /// After so many rounds.
        Rounds = "rounds",
    }
}

words! {
    /// What keeps a guest from writing faster than its link takes.
    #[derive(Default)]
    Throttle {
        /// Nothing.
        #[default]
        None = "none",
        /// All vCPUs sleep for a share of the time, which grows while the guest writes too much, as in QEMU.
        AutoConverge = "auto-converge",
        /// Each vCPU sleeps for the share of the time at which it writes no more pages a second than it may.
        DirtyLimit = "dirty-limit",
        /// Each vCPU that has written its pages of a time slice sleeps until it has paid for them.
        Quota = "quota",
    }
}

impl Throttle {
    /// Whether it counts the pages of each vCPU, which are in its dirty ring.
    #[must_use]
    pub const fn counts_pages(self) -> bool {
        matches!(self, Self::DirtyLimit | Self::Quota)
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    const fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }
}

/// How each throttle works. Every one looks only at what is its own.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ThrottleSettings {
    /// auto-converge: the share of the time that vCPUs sleep at first.
    pub initial: f64,
    /// auto-converge: by how much it grows each time.
    pub increment: f64,
    /// auto-converge: the most that it grows to.
    pub maximum: f64,
    /// auto-converge: it grows after every second round in which the guest wrote more than this share of the bytes that were sent.
    pub trigger: f64,
    /// dirty-limit: what each vCPU may write.
    pub dirty_rate: Rate,
    /// quota: pages that each vCPU may write in a time slice.
    pub pages: u32,
    /// quota: how long that is.
    pub slice: Seconds,
}

impl ThrottleSettings {
    /// What holds unless something else is said.
    pub const DEFAULT: Self = Self {
        initial: 0.2,
        increment: 0.1,
        maximum: 0.99,
        trigger: 0.5,
        dirty_rate: Rate(8_000_000),
        pages: 20,
        slice: Seconds(0.01),
    };
}

impl Default for ThrottleSettings {
    fn default() -> Self {
        Self::DEFAULT
    }
}

words! {
    /// Of two things that are judged against each other, which one.
    Side {
        /// What was there.
        Base = "base",
        /// What may have become slower.
        New = "new",
    }
}

words! {
    /// Which runs prove that memory arrived whole.
    Proof {
        /// The first repetition of each cell, which is not timed, hashes all memory before it resumes.
        First = "first",
        /// Timed runs too: hashes of pages as decoded against hashes of the source's frozen memory.
        Every = "every",
    }
}

/// The connection between the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkSettings {
    /// The kind of socket.
    pub transport: Transport,
    /// The limit in bytes per second; null is no limit.
    pub rate: Option<Rate>,
    /// Bytes that may stand between the engine and the wire; without it [`LinkSettings::QUEUE`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<Bytes>,
    /// How long a byte is on its way to the other side, after it has left.
    #[serde(default, skip_serializing_if = "Seconds::is_zero")]
    pub delay: Seconds,
    /// What the checksums of frames cover.
    #[serde(default = "Checksum::before_it_was_a_key", skip_serializing_if = "Checksum::is_pages")]
    pub checksum: Checksum,
}

impl LinkSettings {
    /// Two batches of 256 KiB of pages with their headers: with less the engine does not get the next one ready before
    /// the wire is idle.
    pub const QUEUE: Bytes = Bytes(544 << 10);

    /// A link over that kind of socket, without a limit.
    #[must_use]
    pub const fn unlimited(transport: Transport) -> Self {
        Self { transport, rate: None, queue: None, delay: Seconds(0.0), checksum: Checksum::Header }
    }

    /// Bytes that may stand between the engine and the wire.
    #[must_use]
    pub fn queue(&self) -> Bytes {
        self.queue.unwrap_or(Self::QUEUE)
    }

    /// The rate that the sender itself has to keep to: none where there is no limit, and none where the kernel sees to it.
    #[must_use]
    pub fn modelled_rate(&self) -> Option<Rate> {
        self.rate.filter(|_| self.transport != Transport::Netns)
    }

    /// The rate that the kernel sees to.
    #[must_use]
    pub fn kernel_rate(&self) -> Option<Rate> {
        self.rate.filter(|_| self.transport == Transport::Netns)
    }
}

/// When pre-copy gives way to stop-and-copy.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StopRule {
    /// Switch over when the predicted paused round is no longer than this.
    pub downtime_limit: Seconds,
    /// Forced switchover after that many rounds, the run is then `capped`.
    pub max_rounds: u32,
    /// Forced switchover after that much time, the run is then `capped`.
    pub max_time: Seconds,
    /// How the prediction of rules `pages` and `raw` is made, which is the whole rule where `rule` is absent.
    pub estimate: Estimate,
    /// Another rule than these two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Rule>,
    /// Rule `ramp`: rounds in which the limit grows to `downtime_limit`, from that over so many.
    #[serde(default = "StopRule::ramp_steps", skip_serializing_if = "StopRule::is_ramp_steps")]
    pub ramp_steps: u32,
    /// Rule `stall`: the longest pause that is taken once rounds shrink no more.
    #[serde(default = "StopRule::ceiling", skip_serializing_if = "StopRule::is_ceiling")]
    pub ceiling: Seconds,
    /// Rule `rounds`: how many.
    #[serde(default = "StopRule::rounds", skip_serializing_if = "StopRule::is_rounds")]
    pub rounds: u32,
}

impl StopRule {
    /// What holds unless something else is said.
    pub const DEFAULT: Self = Self {
        downtime_limit: Seconds(0.3),
        max_rounds: 30,
        max_time: Seconds(300.0),
        estimate: Estimate::Pages,
        rule: None,
        ramp_steps: 10,
        ceiling: Seconds(1.0),
        rounds: 5,
    };

    /// The rule.
    #[must_use]
    pub const fn rule(&self) -> Rule {
        match (self.rule, self.estimate) {
            (Some(rule), _) => rule,
            (None, Estimate::Pages) => Rule::Pages,
            (None, Estimate::Raw) => Rule::Raw,
        }
    }

    /// Takes another rule.
    pub const fn set_rule(&mut self, rule: Rule) {
        (self.rule, self.estimate) = match rule {
            Rule::Pages => (None, Estimate::Pages),
            Rule::Raw => (None, Estimate::Raw),
            other => (Some(other), Estimate::Pages),
        };
    }

    const fn ramp_steps() -> u32 {
        Self::DEFAULT.ramp_steps
    }

    const fn ceiling() -> Seconds {
        Self::DEFAULT.ceiling
    }

    const fn rounds() -> u32 {
        Self::DEFAULT.rounds
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    const fn is_ramp_steps(steps: &u32) -> bool {
        *steps == Self::DEFAULT.ramp_steps
    }

    fn is_ceiling(ceiling: &Seconds) -> bool {
        *ceiling == Self::DEFAULT.ceiling
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    const fn is_rounds(rounds: &u32) -> bool {
        *rounds == Self::DEFAULT.rounds
    }
}

/// How each tracker works. Every one looks only at what is its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrackerSettings {
    /// kvm-manual: every page counts as dirty at first and nothing is write-protected when the tracker is armed.
    pub initially_set: bool,
    /// kvm-manual: memory that is cleared in one call, whole multiples of 64 pages.
    pub clear_chunk: Bytes,
    /// kvm-ring: entries of each vCPU's ring, a power of two.
    pub ring_entries: u32,
    /// kvm-ring: the ring with acquire and release semantics in place of the plain one.
    pub ring_acquire: bool,
    /// uffd-wp: memory that is recorded and lifted after one fault, a power of two of pages.
    pub fault_block: Bytes,
    /// uffd-async: ranges that one `PAGEMAP_SCAN` can report.
    pub scan_ranges: u32,
}

impl TrackerSettings {
    /// What holds unless something else is said.
    pub const DEFAULT: Self = Self {
        initially_set: true,
        clear_chunk: Bytes(4 << 20),
        ring_entries: 4096,
        ring_acquire: true,
        fault_block: Bytes(4096),
        scan_ranges: 1024,
    };
}

impl Default for TrackerSettings {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// How cache shadow remembers pages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShadowSettings {
    /// Whether its memory is taken from the kernel before the clock starts, as huge pages where the host has some.
    pub prefault: bool,
}

impl ShadowSettings {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How long each stage around a migration lasts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Windows {
    /// Each of the two steady windows before the migration.
    pub steady: Seconds,
    /// The window after it.
    pub after: Seconds,
    /// What the controls `none` and `track-only` do instead of a migration lasts this long.
    pub control: Seconds,
    /// Longest wait for a steady guest; after it the record says `not_steady`.
    pub warmup_max: Seconds,
}

/// Every parameter of one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    /// Name of the workload in the catalogue, or the name that a suite gave its own.
    pub workload: String,
    /// What that name stands for.
    pub settings: Settings,
    /// What moves the guest.
    pub engine: Engine,
    /// How the engine encodes changed pages.
    pub codec: Codec,
    /// What the engine remembers of sent pages.
    pub cache: Cache,
    /// How cache shadow does that.
    #[serde(default, skip_serializing_if = "ShadowSettings::is_default")]
    pub shadow: ShadowSettings,
    /// Engine `qemu`: which one, and how it migrates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qemu: Option<QemuSettings>,
    /// How written pages are found.
    pub tracker: Tracker,
    /// How it does that.
    #[serde(default)]
    pub tracker_settings: TrackerSettings,
    /// The connection.
    pub link: LinkSettings,
    /// Guest memory.
    pub memory: Bytes,
    /// What it is made of.
    pub backing: Backing,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Whether guest memory is made resident on both sides before the clock starts.
    pub prefault: bool,
    /// Host CPUs of the vCPU threads, then of the source's threads, then of the destination's; null leaves
    /// placement to the kernel.
    pub pinning: Option<Pinning>,
    /// Whether zero pages are sent as a mark.
    pub elide_zero: bool,
    /// When pre-copy ends.
    pub stop: StopRule,
    /// What slows a guest that writes too fast.
    #[serde(default, skip_serializing_if = "Throttle::is_none")]
    pub throttle: Throttle,
    /// How it does that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttle_settings: Option<ThrottleSettings>,
    /// Which runs prove memory.
    pub proof: Proof,
    /// Lengths of the stages.
    pub windows: Windows,
    /// Whether the guest times its operations; without it there are counters only.
    pub timing: bool,
    /// How the guest waits for its next operation.
    #[serde(default = "Wait::spin", skip_serializing_if = "Wait::is_spin")]
    pub wait: Wait,
    /// Of a workload with phases, the one in which steady windows are measured and the migration starts, from 1.
    #[serde(default = "first")]
    pub start_phase: u32,
    /// The program whose nodes run, as a path; without one, the program that runs the suite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binary: Option<String>,
    /// Under `migbench ab`, the side that the cell is on: both may be alike in everything else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub side: Option<Side>,
}

const fn first() -> u32 {
    1
}

/// Host CPUs, by number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pinning {
    /// One host CPU per vCPU; shorter lists are used again from their start.
    pub vcpus: Vec<u32>,
    /// CPUs of all other threads of the source node.
    pub source: Vec<u32>,
    /// CPUs of all other threads of the destination node.
    pub destination: Vec<u32>,
}

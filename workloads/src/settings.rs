//! What a guest does to its memory, as a program and numbers.
//!
//! The parametric program is all numbers: an operation is a batch of `accesses` to pages of the working set. A share
//! `reads` of the operations only reads; every other one also writes `writes` pages. The other programs have shapes of
//! their own and take of the numbers what has a meaning for them. Named settings (`read-heavy`, ...) stand in the
//! catalogue.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::abi;
use crate::programs::{kv, page_cache};
use crate::units::{Bytes, Rate, Seconds};

/// In which order operations choose pages of the working set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Pattern {
    /// Each page once per cycle, in address order.
    Sequential,
    /// Every page equally likely.
    Uniform,
    /// Zipf-distributed with exponent theta (0 < theta < 1), ranks scattered over the working set.
    Zipf(f64),
}

/// What a page write changes: `bytes` in `pieces` evenly spaced runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PageChange {
    /// Bytes changed by one page write, 1 to 4080; the page's 8-byte write counter changes besides.
    pub bytes: u32,
    /// In how many evenly spaced runs they lie, 1 to `bytes`.
    pub pieces: u32,
    /// Whether the runs move on with every write of the page, or stay where they are.
    pub moves: bool,
}

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// The page's write count, over and over.
    Counter,
    /// Pseudo-random bytes that differ with every write.
    Random,
    /// The same bytes at every write; the page's counter stays too, so that a second write changes nothing.
    Same,
    /// Words that follow each other with the chances of a Markov table: compressible, different with every write.
    Text,
    /// Structured records: keys, counters and empty fields, of which a second write changes few bytes.
    Records,
    /// Zeros.
    Zero,
    /// One of sixteen contents, so that many pages (but for their 16-byte headers) hold the same.
    Duplicate,
}

impl Content {
    /// Every word with its value.
    pub const ALL: &'static [(&'static str, Self)] = &[
        ("counter", Self::Counter),
        ("random", Self::Random),
        ("same", Self::Same),
        ("text", Self::Text),
        ("records", Self::Records),
        ("zero", Self::Zero),
        ("duplicate", Self::Duplicate),
    ];

    /// Its number for the guest.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Counter => abi::CONTENT_COUNTER,
            Self::Random => abi::CONTENT_RANDOM,
            Self::Same => abi::CONTENT_SAME,
            Self::Text => abi::CONTENT_TEXT,
            Self::Records => abi::CONTENT_RECORDS,
            Self::Zero => abi::CONTENT_ZERO,
            Self::Duplicate => abi::CONTENT_DUPLICATE,
        }
    }
}

/// The program that the guest runs over its working set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ProgramName {
    /// Batches of accesses to pages, all of it by parameters.
    #[default]
    Parametric,
    /// A key-value store: reads and updates.
    Kv,
    /// A key-value store: reads, and updates that read the record first.
    KvModify,
    /// A column store: scans and hash aggregation.
    Analytics,
    /// Quicksort of an array, again and again.
    Sort,
    /// A blocked product of matrices.
    Matmul,
    /// The triad of the STREAM benchmark.
    Stream,
    /// A journal with a moving write window and checkpoints.
    Log,
    /// A copying garbage collector.
    Gc,
    /// A cache of file blocks.
    PageCache,
    /// A constant written to the start of each page.
    Memstress,
    /// One byte changed in each KiB.
    XbzrleDoc,
    /// Every word XORed with random data.
    Guestperf,
}

/// Settings that some programs read and others have no use for, by the names of their keys without `settings.`. Every program
/// has all other settings.
pub const PARTICULAR: [&str; 8] =
    ["reads", "pattern", "accesses", "writes", "change.bytes", "change.pieces", "change.moves", "content"];

impl ProgramName {
    /// Which of [`PARTICULAR`] it reads.
    #[must_use]
    pub const fn particular(self) -> &'static [&'static str] {
        match self {
            Self::Parametric => &PARTICULAR,
            Self::Kv | Self::KvModify => &["reads", "pattern", "accesses", "content"],
            Self::PageCache => &["pattern", "accesses", "content"],
            Self::Log | Self::Gc => &["accesses", "content"],
            Self::Analytics
            | Self::Sort
            | Self::Matmul
            | Self::Stream
            | Self::Memstress
            | Self::XbzrleDoc
            | Self::Guestperf => &[],
        }
    }

    /// Whether a setting of that name, without `settings.`, means something to it.
    #[must_use]
    pub fn reads(self, setting: &str) -> bool {
        !PARTICULAR.contains(&setting) || self.particular().contains(&setting)
    }

    /// Every word with its value.
    pub const ALL: &'static [(&'static str, Self)] = &[
        ("parametric", Self::Parametric),
        ("kv", Self::Kv),
        ("kv-modify", Self::KvModify),
        ("analytics", Self::Analytics),
        ("sort", Self::Sort),
        ("matmul", Self::Matmul),
        ("stream", Self::Stream),
        ("log", Self::Log),
        ("gc", Self::Gc),
        ("page-cache", Self::PageCache),
        ("memstress", Self::Memstress),
        ("xbzrle-doc", Self::XbzrleDoc),
        ("guestperf", Self::Guestperf),
    ];

    /// Its number for the guest.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Parametric => abi::PROGRAM_PARAMETRIC,
            Self::Kv => abi::PROGRAM_KV,
            Self::KvModify => abi::PROGRAM_KV_MODIFY,
            Self::Analytics => abi::PROGRAM_ANALYTICS,
            Self::Sort => abi::PROGRAM_SORT,
            Self::Matmul => abi::PROGRAM_MATMUL,
            Self::Stream => abi::PROGRAM_STREAM,
            Self::Log => abi::PROGRAM_LOG,
            Self::Gc => abi::PROGRAM_GC,
            Self::PageCache => abi::PROGRAM_PAGE_CACHE,
            Self::Memstress => abi::PROGRAM_MEMSTRESS,
            Self::XbzrleDoc => abi::PROGRAM_XBZRLE_DOC,
            Self::Guestperf => abi::PROGRAM_GUESTPERF,
        }
    }

    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(_, program)| *program == self).map_or("", |(word, _)| word)
    }

    /// Names of its types of operations, as in `latency_<op>`.
    #[must_use]
    pub const fn operations(self) -> &'static [&'static str] {
        abi::operation_names(self.number())
    }

    /// Whether `reads = 1` keeps it from writing at all.
    #[must_use]
    pub const fn reads_alone(self) -> bool {
        matches!(self, Self::Parametric | Self::Kv | Self::KvModify)
    }

    /// Which of its operations write: those whose tail a table shows.
    #[must_use]
    pub const fn writing(self) -> &'static str {
        match self {
            Self::Parametric | Self::Memstress | Self::XbzrleDoc | Self::Guestperf => "write",
            Self::Kv => "update",
            Self::KvModify => "modify",
            Self::Analytics => "aggregate",
            Self::Sort => "sort",
            Self::Matmul => "multiply",
            Self::Stream => "triad",
            Self::Log => "append",
            Self::Gc => "allocate",
            Self::PageCache => "load",
        }
    }

    /// Whether a phase can send its operations to a share of the working set.
    #[must_use]
    pub const fn has_parts_to_choose(self) -> bool {
        matches!(self, Self::Parametric | Self::Kv | Self::KvModify | Self::PageCache)
    }

    /// The fewest pages that a part of its working set can have.
    #[must_use]
    pub const fn least_pages(self) -> u64 {
        match self {
            Self::Parametric | Self::Sort | Self::Memstress | Self::XbzrleDoc | Self::Guestperf => 1,
            // Three arrays.
            Self::Stream => 3,
            // Three matrices of one block.
            Self::Matmul => 6,
            // A table of groups and a chunk of each column.
            Self::Analytics | Self::Kv | Self::KvModify | Self::Log | Self::Gc | Self::PageCache => 16,
        }
    }
}

/// Whose the pages of a working set are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Sharing {
    /// Each vCPU has a contiguous part of its own.
    #[default]
    Partitioned,
    /// 64 parts, any of which a vCPU takes for one operation, under a lock.
    Shared,
}

impl Sharing {
    /// Every word with its value.
    pub const ALL: &'static [(&'static str, Self)] =
        &[("partitioned", Self::Partitioned), ("shared", Self::Shared)];
}

/// A stage of a workload: for a time, some of its settings are others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkloadPhase {
    /// How long it lasts.
    pub duration: Seconds,
    /// Share of operations that only read; the workload's own where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reads: Option<f64>,
    /// Page writes in a writing operation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writes: Option<u32>,
    /// How hard the guest works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<Load>,
    /// The part of the working set that operations go to, from its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_set: Option<Bytes>,
}

/// How hard the guest works, summed over its vCPUs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Load {
    /// Open loop: bytes of written pages per second over the link's bytes per second.
    Pressure(f64),
    /// Open loop: page writes per second.
    Pages(f64),
    /// Open loop: bytes of written pages per second.
    Bytes(Rate),
    /// Open loop: operations per second.
    Operations(f64),
    /// Closed loop: the next operation starts when the last one ends.
    FlatOut,
}

/// Shares of all guest memory by initial content; the rest is zero. The working set is never zero.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fill {
    /// Share of pages outside of the working set that stay zero.
    pub zero: f64,
    /// Share of pseudo-random pages.
    pub random: f64,
    /// Share of text-like pages.
    pub text: f64,
    /// Share of pages that are one of sixteen.
    #[serde(default)]
    pub duplicate: f64,
}

/// A workload's parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What the guest runs.
    #[serde(default)]
    pub program: ProgramName,
    /// Memory the operations touch.
    pub working_set: Bytes,
    /// Whose its pages are.
    #[serde(default)]
    pub sharing: Sharing,
    /// Share of operations that only read, 0 to 1.
    pub reads: f64,
    /// Order of the pages.
    pub pattern: Pattern,
    /// Accesses per operation.
    pub accesses: u32,
    /// Page writes among the accesses of a writing operation.
    pub writes: u32,
    /// What one page write changes.
    pub change: PageChange,
    /// What it writes.
    pub content: Content,
    /// How hard the guest works.
    pub load: Load,
    /// What memory holds at first.
    pub fill: Fill,
    /// Stages that follow each other, over and over; none is one without end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<WorkloadPhase>,
}

impl Settings {
    /// What named workloads and tests start from. Half of the memory around the working set is zero, as in a guest that
    /// has not used all of its memory; the rest is half noise (compressed or encrypted data) and half text.
    pub const BASE: Self = Self {
        program: ProgramName::Parametric,
        working_set: Bytes(64 << 20),
        sharing: Sharing::Partitioned,
        reads: 0.5,
        pattern: Pattern::Uniform,
        accesses: 64,
        writes: 1,
        change: PageChange { bytes: 256, pieces: 4, moves: true },
        content: Content::Random,
        load: Load::FlatOut,
        fill: Fill { zero: 0.5, random: 0.25, text: 0.25, duplicate: 0.0 },
        phases: Vec::new(),
    };

    /// How many things a program chooses from by `pattern` in a part of `pages` pages: pages, keys, or blocks of a file.
    #[must_use]
    pub const fn choices(&self, pages: u64) -> u64 {
        match self.program {
            ProgramName::Kv | ProgramName::KvModify => kv::records(pages),
            ProgramName::PageCache => page_cache::requests(pages, self.accesses),
            _ => pages,
        }
    }

    /// The settings in a phase.
    #[must_use]
    pub fn within(&self, phase: &WorkloadPhase) -> Self {
        Self {
            reads: phase.reads.unwrap_or(self.reads),
            writes: phase.writes.unwrap_or(self.writes),
            load: phase.load.unwrap_or(self.load),
            working_set: phase.working_set.unwrap_or(self.working_set),
            phases: Vec::new(),
            ..self.clone()
        }
    }

    /// What this load asks of all vCPUs together over a link of `link` bytes per second. A pressure over an unlimited
    /// link is an error of the suite, caught there: here it counts as no pressure at all.
    #[must_use]
    pub fn pace(&self, link: Option<Rate>) -> Pace {
        let pages = match self.load {
            Load::FlatOut => return Pace::FlatOut,
            Load::Operations(rate) => return Pace::Operations(rate),
            Load::Pages(rate) => rate,
            #[expect(clippy::cast_precision_loss, reason = "rates stay far under 2^53")]
            Load::Bytes(rate) => rate.0 as f64 / 4096.0,
            #[expect(clippy::cast_precision_loss, reason = "rates stay far under 2^53")]
            Load::Pressure(p) => match link {
                Some(link) => p * link.0 as f64 / 4096.0,
                None => return Pace::FlatOut,
            },
        };
        if self.program == ProgramName::Parametric {
            // How many pages an operation writes on average is known.
            return Pace::Operations(pages / ((1.0 - self.reads) * f64::from(self.writes)));
        }
        Pace::Writes(pages)
    }
}

/// What paces a guest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// Nothing.
    FlatOut,
    /// Operations per second.
    Operations(f64),
    /// Page writes per second: the guest divides by how many pages its operations write.
    Writes(f64),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_writes_by_an_operation_that_it_has() {
        for (word, program) in ProgramName::ALL {
            assert!(program.operations().contains(&program.writing()), "{word}");
            assert!(program.operations().len() <= abi::OPERATIONS, "{word}");
        }
    }

    #[test]
    fn numbers_are_unique() {
        let numbers: std::collections::BTreeSet<_> =
            ProgramName::ALL.iter().map(|(_, p)| p.number()).collect();
        assert_eq!(numbers.len(), ProgramName::ALL.len());
        let contents: std::collections::BTreeSet<_> = Content::ALL.iter().map(|(_, c)| c.number()).collect();
        assert_eq!(contents.len(), Content::ALL.len());
    }

    #[test]
    fn a_load_in_bytes_is_one_in_pages() {
        let of = |load| Settings { load, program: ProgramName::Kv, ..Settings::BASE }.pace(None);
        assert_eq!(of(Load::Bytes(Rate(4096 * 500))), Pace::Writes(500.0));
        assert_eq!(of(Load::Pages(500.0)), Pace::Writes(500.0));
        assert_eq!(of(Load::FlatOut), Pace::FlatOut);
        let half = Settings { load: Load::Pages(500.0), reads: 0.5, writes: 2, ..Settings::BASE };
        assert_eq!(half.pace(None), Pace::Operations(500.0));
    }

    #[test]
    fn a_phase_changes_what_it_names() {
        let phase = WorkloadPhase {
            duration: Seconds(1.0),
            reads: Some(0.9),
            writes: None,
            load: None,
            working_set: Some(Bytes(4096)),
        };
        let within = Settings::BASE.within(&phase);
        let expected = Settings { reads: 0.9, working_set: Bytes(4096), ..Settings::BASE };
        assert_eq!(within, expected);
    }
}

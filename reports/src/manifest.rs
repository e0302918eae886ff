//! What a run directory says about itself once: the suite, the plan, the machine and the tool behind its
//! records. Written as `manifest.json` before the first migration, read by every report.
//!
//! Whatever could not be found out is absent, never a guess: every field of [`Host`] that a machine may lack is
//! an [`Option`] or an empty map.

use std::collections::BTreeMap;

use migbench_scenarios::Slice;
use migbench_scenarios::cell::Cell;
pub use migbench_scenarios::frozen::Tool;
use migbench_scenarios::plan;
use migbench_scenarios::words;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::record::Backend;
use crate::shell;

/// Everything about a run directory that is not one migration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Manifest {
    /// [`crate::record::SCHEMA`], shared with the records.
    pub schema: u32,
    /// What ran the guests of cells that name no other VMM; each record says what ran its own.
    #[serde(default)]
    pub backend: Backend,
    /// Name of the suite.
    pub suite: String,
    /// The plan's hash of what is measured: [`plan::Plan::hash`].
    pub suite_hash: String,
    /// The suite file as it was read.
    pub suite_text: String,
    /// The plan that the suite was expanded to, as the runner executed it.
    pub plan: serde_json::Value,
    /// Seed of the order of runs and of the guests.
    pub seed: u64,
    /// Timed runs of each cell.
    pub repetitions: u32,
    /// Runs that the plan asks for in all, verification runs included; fewer records mean an interrupted run.
    pub planned_runs: u32,
    /// What is compared with what.
    pub comparisons: Vec<ManifestComparison>,
    /// Cells that this machine could not run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<Skipped>,
    /// The machine.
    pub host: Host,
    /// What disturbed the machine when the suite started, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disturbances: Vec<String>,
    /// Each time that the suite was gone on with after an interruption.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resumptions: Vec<Resumption>,
    /// The program that ran the suite.
    pub tool: Tool,
    /// The builds whose nodes ran, each once; `binary` of a cell says which.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub builds: Vec<Build>,
    /// A cost that was planted to test the judge, and on which side: these are not the build's own figures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planted: Option<String>,
    /// The command line that made the directory, program first.
    pub command: Vec<String>,
    /// When the suite started, UTC, RFC 3339.
    pub started: String,
    /// The part of a frozen plan that was to run here; absent where a suite ran as a whole. `comparisons` and `planned_runs`
    /// are those of the part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slice: Option<PlanSlice>,
    /// What was merged into this directory, in the order of the slices. `host` has then only what all of them share, besides
    /// its class.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<MergedPart>,
}

/// A slice of a frozen plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlanSlice {
    /// Which one of how many.
    pub slice: Slice,
    /// [`migbench_scenarios::frozen::FrozenPlan::hash`].
    pub plan_hash: String,
    /// What chose it: `--partition`, or the variables of an array of jobs.
    pub chosen_by: String,
}

/// What one machine brought into a merged directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MergedPart {
    /// What it was to run, and how it knew.
    pub slice: PlanSlice,
    /// Names of the comparisons that ran there.
    pub comparisons: Vec<String>,
    /// Records that it brought.
    pub records: u32,
    /// The machine.
    pub host: Host,
    /// What the machine could do; absent where nothing ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<CanaryMedians>,
    /// What disturbed the machine when the slice started, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disturbances: Vec<String>,
    /// The command line that made the slice.
    pub command: Vec<String>,
    /// When it started, UTC, RFC 3339.
    pub started: String,
}

/// The median of what a machine's canary reached, over the blocks of a slice; each record has the value of its own block.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CanaryMedians {
    /// Bytes per second, copied in memory.
    pub copy: f64,
    /// Bytes per second through a socket.
    pub socket: f64,
}

impl Manifest {
    /// The command that made the run directory, as typed in a shell.
    #[must_use]
    pub fn command_line(&self) -> String {
        self.command_words().join(" ")
    }

    /// Its words, quoted where a shell takes that.
    #[must_use]
    pub fn command_words(&self) -> Vec<String> {
        self.command.iter().map(|word| shell::quoted(word)).collect()
    }
}

/// An interrupted suite that was gone on with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Resumption {
    /// Records that were there.
    pub records: u32,
    /// The command line, program first.
    pub command: Vec<String>,
    /// When, UTC, RFC 3339.
    pub started: String,
    /// What disturbed the machine then, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disturbances: Vec<String>,
}

/// Cells that differ in one axis only, one of them the baseline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ManifestComparison {
    /// Its name, as in the records.
    pub name: String,
    /// The axis that is compared: a field of the cell such as `engine`, or a path such as `link.rate`.
    pub compare: String,
    /// [`ManifestCell::id`] of the baseline.
    pub baseline: String,
    /// All of its cells, in the order in which tables show them.
    pub cells: Vec<ManifestCell>,
    /// Markdown that reports print above the table.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub analysis: String,
}

/// A cell with the name that the manifest gives it. Records repeat the cell itself, so that they stand alone;
/// a record belongs to the planned cell of its comparison that equals its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ManifestCell {
    /// Unique in its comparison.
    pub id: String,
    /// Its parameters.
    pub cell: Cell,
}

/// A cell that was left out because the machine can't do it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Skipped {
    /// Name of the comparison.
    pub comparison: String,
    /// [`ManifestCell::id`].
    pub cell: String,
    /// What is missing, in a phrase that follows "not available here:".
    pub reason: String,
}

impl ManifestComparison {
    /// A comparison of `plan`.
    #[must_use]
    pub fn of(comparison: &plan::Comparison, plan: &plan::Plan) -> Self {
        let own = if comparison.analysis.is_empty() { &plan.analysis } else { &comparison.analysis };
        Self {
            name: comparison.name.clone(),
            compare: comparison.compare.clone(),
            baseline: comparison.baseline.map(|row| comparison.cells[row].id.clone()).unwrap_or_default(),
            cells: comparison
                .cells
                .iter()
                .map(|c| ManifestCell { id: c.id.clone(), cell: c.cell.clone() })
                .collect(),
            analysis: own.clone(),
        }
    }
}

impl Manifest {
    /// Version and commit of the build that `binary` of a cell names; of the program that ran the suite without one.
    #[must_use]
    pub fn tool_of(&self, binary: Option<&str>) -> &Tool {
        let named = |build: &&Build| binary.is_some_and(|binary| build.binary == binary);
        self.builds.iter().find(named).map_or(&self.tool, |build| &build.tool)
    }
}

impl Manifest {
    /// The build whose nodes a cell ran, where the manifest knows it.
    #[must_use]
    pub fn build_of(&self, cell: &Cell) -> Option<&Build> {
        let binary = cell.binary.as_deref().unwrap_or(Build::OWN);
        self.builds.iter().find(|build| build.binary == binary)
    }

    /// What commands that read its directory have to be given besides: simulated runs are read by who asks for them only.
    #[must_use]
    pub fn reading(&self) -> Option<&'static str> {
        (self.backend == Backend::Simulated).then_some("--simulated")
    }

    /// What commands that go on with its directory have to be given besides: a simulation goes on as it was.
    #[must_use]
    pub fn simulating(&self) -> Option<&str> {
        let said = |word: &&String| *word == "--simulate" || word.starts_with("--simulate=");
        self.command.iter().find(said).map(String::as_str)
    }

    /// Whether its cells are on two sides, as `migbench ab` makes them.
    #[must_use]
    pub fn sided(&self) -> bool {
        self.comparisons.iter().flat_map(|c| &c.cells).any(|planned| planned.cell.side.is_some())
    }

    /// The slice that a comparison ran in, where slices were merged.
    #[must_use]
    pub fn slice_of(&self, comparison: &str) -> Option<Slice> {
        let part = self.parts.iter().find(|part| part.comparisons.iter().any(|name| name == comparison));
        part.map(|part| part.slice.slice)
    }
}

impl Build {
    /// What `binary` is for cells without.
    pub const OWN: &'static str = "own";
}

/// The program whose nodes ran: this one, or one that a cell names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Build {
    /// `binary` of the cells in question; `own` for cells without.
    pub binary: String,
    /// What kind of program it is: `migbench`.
    pub program: String,
    /// Version and commit.
    #[serde(flatten)]
    pub tool: Tool,
    /// The language in which it was spoken to.
    pub protocol: u32,
    /// BLAKE3 of its file, in hexadecimal.
    pub blake3: String,
}

/// The machine, as far as it can change a result.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Host {
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// CPU model as the vendor names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_model: Option<String>,
    /// Physical cores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub physical_cores: Option<u32>,
    /// Logical processors that are online.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logical_cores: Option<u32>,
    /// Logical processors that the runner may use, where its affinity or a control group's quota leaves it fewer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usable_cores: Option<u32>,
    /// Bytes of memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Bytes that were available when the suite started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_free: Option<u64>,
    /// Kernel release, as `uname -r` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// Distribution and its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub os: Option<String>,
    /// The kernel's command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmdline: Option<String>,
    /// KVM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kvm: Option<KvmInfo>,
    /// Transparent huge pages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thp: Option<Thp>,
    /// Whether kernel same-page merging runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ksm: Option<bool>,
    /// Whether automatic NUMA balancing is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub numa_balancing: Option<bool>,
    /// Mitigations of CPU vulnerabilities: name of the file to its text.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub mitigations: BTreeMap<String, String>,
    /// Frequency governor of the first CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub governor: Option<String>,
    /// Whether turbo or boost frequencies are allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turbo: Option<bool>,
    /// Whether simultaneous multithreading is active.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smt: Option<bool>,
    /// Who may use userfaultfd.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub userfaultfd: Option<Userfaultfd>,
    /// Whether the host is a virtual machine itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nested: Option<bool>,
    /// The hypervisor under it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hypervisor: Option<String>,
    /// Current clock source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_source: Option<String>,
    /// Frequency of the time-stamp counter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tsc_khz: Option<u64>,
    /// Load averages over 1, 5 and 15 minutes when the suite started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_average: Option<[f64; 3]>,
}

impl Host {
    /// Logical processors that runs have.
    #[must_use]
    pub fn cores(&self) -> Option<u32> {
        self.usable_cores.or(self.logical_cores)
    }

    /// What must be alike for the figures of two hosts to stand side by side, each with its value as text: the hardware
    /// and the kernel, not the name.
    #[must_use]
    pub fn class(&self) -> [(&'static str, String); 5] {
        // The firmware takes a little of the memory, not the same at each boot.
        let memory = self.memory.map(|bytes| format!("{} GiB", (bytes + (1 << 29)) >> 30));
        let known = |value: Option<String>| value.unwrap_or_else(|| "unknown".to_owned());
        [
            ("CPU", known(self.cpu_model.clone())),
            ("number of CPUs", known(self.cores().map(|cores| cores.to_string()))),
            ("memory", known(memory)),
            ("kernel", known(self.kernel.clone())),
            ("KVM", known(self.kvm.as_ref().map(|kvm| kvm.backend.word().to_owned()))),
        ]
    }
}

/// The KVM of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KvmInfo {
    /// Which module runs guests.
    pub backend: KvmBackend,
    /// Parameters of `kvm` and of that module, named `module.parameter`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
}

words! {
    /// The module that runs guests.
    #[derive(Default)]
    KvmBackend {
        /// `kvm_intel`: VMX.
        Intel = "intel",
        /// `kvm_amd`: SVM.
        Amd = "amd",
        /// `kvm_pvm`: page tables virtualised in software, no VMX or SVM needed.
        Pvm = "pvm",
        /// Built in or hidden, as in a container.
        #[default]
        Unknown = "unknown",
    }
}

/// Policy of transparent huge pages: the selected words of its sysfs files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Thp {
    /// `always`, `madvise` or `never`.
    pub enabled: String,
    /// `always`, `defer`, `defer+madvise`, `madvise` or `never`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defrag: Option<String>,
}

/// Who may use userfaultfd.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Userfaultfd {
    /// `vm.unprivileged_userfaultfd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unprivileged: Option<bool>,
    /// Whether this process may open `/dev/userfaultfd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<bool>,
}

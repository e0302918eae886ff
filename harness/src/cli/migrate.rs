//! `migbench migrate`: one migration, printed as it happens.

use std::path::{Path, PathBuf};

use anyhow::Context;
use migbench_reports::record::{Backend, Record, Round, RunKind, Status};
use migbench_reports::replace::{check, replace};
use migbench_reports::show;
use migbench_scenarios::{Assignment, Draft};
use migbench_workloads::units::Seconds;

use super::simulate::patience;
use super::{Exit, UsageError, print};
use crate::engine::planted_cost::PlantedCost;
use crate::host::lock::HostLock;
use crate::host::provenance;
use crate::node::fault::InjectedFault;
use crate::runner::admission::admit;
use crate::runner::builds::Builds;
use crate::runner::record::{self, RunIdentity};
use crate::runner::run::{RunSpec, run};
use crate::runner::suite::SuiteRunError;
use crate::runner::{interrupt, now_utc, suite};

const EXAMPLES: &str = "\
Examples:
  migbench migrate --engine delta --workload write-heavy --memory 256MiB --link 1Gbit/s
  migbench migrate --workload idle --link unlimited --transport tcp
  migbench migrate --set stop.downtime_limit=100ms --set settings.change.bytes=1024
  migbench migrate --workload write-heavy --set 'settings.load=pages(20000)' --link unlimited

Sizes are written like 256MiB, rates like 1Gbit/s, times like 100ms; a bare 1G is refused.
The loads of read-heavy and write-heavy are shares of the link's rate: without one, set settings.load.";

/// Migrates one guest and shows each round as it happens.
///
/// Rounds go to standard error as they end, the figures to standard output. Every parameter of a cell can be given with
/// --set; the flags are short for the usual ones. One migration proves little: to compare engines, use `migbench run`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Migrate {
    /// What moves the guest: full or delta, qemu, or a control: stop-and-copy, track-only or none.
    #[arg(long, default_value = "full")]
    engine: String,
    /// What the guest does, such as read-heavy or write-heavy; `migbench list workloads` explains all.
    #[arg(long, default_value = "write-heavy")]
    workload: String,
    /// Guest memory, such as 256MiB [default: 128MiB].
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// Rate of the link, such as 1Gbit/s, or unlimited [default: 1Gbit/s].
    #[arg(long, value_name = "RATE")]
    link: Option<String>,
    /// Kind of link between the nodes: unix, tcp, or, as root, netns [default: unix].
    #[arg(long, value_name = "WORD")]
    transport: Option<String>,
    /// Virtual CPUs [default: 1].
    #[arg(long, value_name = "N")]
    vcpus: Option<String>,
    /// Any other parameter, with its unit, such as stop.downtime_limit=100ms (300ms otherwise); may be repeated.
    /// `migbench list keys` names the keys.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Hash all memory on both sides before the guest resumes, and compare; the downtime then includes that.
    #[arg(long)]
    verify: bool,
    /// Seed of the guest's memory and of its accesses.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Also write the record, one line of JSON as in a run directory, to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Wait so long, such as 1h, for another measurement on this host to end.
    #[arg(long, value_name = "TIME")]
    wait: Option<Seconds>,
    /// A planted fault, for tests.
    #[arg(long, hide = true)]
    fault: Option<InjectedFault>,
    /// A planted cost, for tests.
    #[arg(long, hide = true)]
    plant: Option<PlantedCost>,
    /// Flags of the guest, for tests.
    #[arg(long, hide = true, default_value_t = 0)]
    guest_flags: u32,
}

impl Migrate {
    pub fn execute(self) -> anyhow::Result<Exit> {
        let cell = self.draft()?.build()?;
        if let Some(path) = &self.json {
            let refused = |error| {
                UsageError(format!("cannot write {}: {error}; name another file with --json", path.display()))
            };
            check(path).map_err(refused)?;
        }
        if cell.engine.is_peer() && (self.fault.is_some() || self.plant.is_some()) {
            let engine = cell.engine;
            return Err(UsageError(format!(
                "--fault and --plant reach our own engines, and `{engine}` is another VMM: leave them out, or choose another --engine"
            ))
            .into());
        }
        interrupt::catch()?;
        drop(crate::host::kvm::open_kvm(Path::new("/dev/kvm"))?);
        let _lock = HostLock::wait(patience(self.wait), interrupt::requested, HostLock::take)?;
        admit(&cell)?;
        let own = std::env::current_exe().context("cannot find this program's own file")?;
        let builds = Builds::of_cells(std::iter::once(&cell), &own).map_err(SuiteRunError::Build)?;
        let spec = RunSpec {
            verify: self.verify && cell.engine.migrates(),
            seed: self.seed,
            start_jitter: 0.0,
            fault: self.fault,
            planted_cost: self.plant,
            guest_flags: self.guest_flags,
            passes: None,
            binary: builds.program(&cell).map_err(SuiteRunError::Build)?,
            cell,
        };
        let limit = suite::limit(&spec.cell);
        let outcome = run(&spec, limit, &mut |round| note!("{}", line(round)))?;
        let mut record = record::of(self.place(), &spec, &outcome);
        record.flags.extend(record::oversubscribed(&spec.cell, provenance::this_host().cores()));
        if let Some(last) = record.rounds.last().filter(|round| round.paused) {
            note!("{}", line(last));
        }
        // Where nothing is printed any more the file may still be had, and the other way round.
        let printed = print(&show::record(&record));
        if let Some(path) = &self.json {
            let text = serde_json::to_string(&record)? + "\n";
            replace(path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
        }
        printed?;
        Ok(exit(&record))
    }

    fn draft(&self) -> anyhow::Result<Draft> {
        let mut draft = Draft::new();
        let flags = [
            ("--engine", "engine", Some(&self.engine)),
            ("--workload", "workload", Some(&self.workload)),
            ("--memory", "memory", self.memory.as_ref()),
            ("--link", "link.rate", self.link.as_ref()),
            ("--transport", "link.transport", self.transport.as_ref()),
            ("--vcpus", "vcpus", self.vcpus.as_ref()),
        ];
        for (flag, key, value) in flags {
            if let Some(value) = value {
                draft.set(&Assignment::flag(flag, key, value))?;
            }
        }
        for text in &self.set {
            draft.set(&Assignment::parse(text)?)?;
        }
        Ok(draft)
    }

    fn place(&self) -> RunIdentity {
        RunIdentity {
            run_id: format!("{}-{}", self.workload, self.engine),
            suite: "migrate".into(),
            comparison: self.workload.clone(),
            repetition: u32::from(!self.verify),
            order: 0,
            backend: Backend::Kvm,
            kind: if self.verify { RunKind::Verification } else { RunKind::Timed },
            started: now_utc(),
        }
    }
}

fn exit(record: &Record) -> Exit {
    if record.status == Status::Failed { Exit::Failure } else { Exit::Success }
}

fn line(round: &Round) -> String {
    use migbench_workloads::units::Bytes;
    let what = if round.paused { "paused round" } else { "round" };
    let estimate = round
        .estimate
        .map_or(String::new(), |seconds| format!(", a pause now would send for {:.1} ms", seconds * 1e3));
    format!(
        "{what} {}: {} pages dirty, {} sent in {:.1} ms{estimate}",
        round.round,
        round.dirty_pages,
        Bytes(round.traffic),
        round.duration * 1e3
    )
}

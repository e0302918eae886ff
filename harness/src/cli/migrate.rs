//! `migbench migrate`: one migration, told as it happens.

use std::path::{Path, PathBuf};

use anyhow::Context;
use migbench_reports::record::{Kind, Record, Round, Status};
use migbench_reports::show;
use migbench_scenarios::{Assignment, Draft};

use super::{Exit, print};
use crate::node::fault::Fault;
use crate::runner::record::{self, Place};
use crate::runner::run::{RunSpec, run};
use crate::runner::{host, interrupt, now_utc, suite};

/// Migrates one guest and shows each round as it happens.
///
/// Every parameter of a suite can be given with --set; the flags are short for the usual ones.
#[derive(Debug, clap::Args)]
pub struct Migrate {
    /// full, delta, stop-and-copy, track-only or none.
    #[arg(long, default_value = "full")]
    engine: String,
    /// A workload's name; `migbench list workloads`.
    #[arg(long, default_value = "write-heavy")]
    workload: String,
    /// Guest memory, such as 256MiB.
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// The link's rate, such as 1Gbit/s, or unlimited.
    #[arg(long, value_name = "RATE")]
    link: Option<String>,
    /// unix or tcp.
    #[arg(long)]
    transport: Option<String>,
    /// Virtual CPUs.
    #[arg(long, value_name = "N")]
    vcpus: Option<String>,
    /// Any other parameter; `migbench list keys`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Hash all memory before the guest resumes; the downtime then includes that.
    #[arg(long)]
    verify: bool,
    /// Seed of the guest.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Also keep the record as one line of JSON in this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// A planted fault, for tests.
    #[arg(long, hide = true)]
    fault: Option<Fault>,
    /// Flags of the guest, for tests.
    #[arg(long, hide = true, default_value_t = 0)]
    guest_flags: u32,
}

impl Migrate {
    pub fn execute(self) -> anyhow::Result<Exit> {
        let cell = self.draft()?.build()?;
        interrupt::catch()?;
        drop(crate::doctor::open_kvm(Path::new("/dev/kvm"))?);
        crate::dirty::available(cell.tracker, &cell.tracker_settings)?;
        suite::check_cell_memory(&cell)?;
        let spec = RunSpec {
            verify: self.verify && cell.engine.migrates(),
            cell,
            seed: self.seed,
            start_jitter: 0.0,
            fault: self.fault,
            guest_flags: self.guest_flags,
            binary: std::env::current_exe().context("cannot find this program's own file")?,
        };
        let limit = suite::limit(&spec.cell);
        let outcome = run(&spec, limit, &mut |round| eprintln!("{}", line(round)))?;
        let record = record::of(self.place(), &spec, &outcome, host::this_host().logical_cores);
        if let Some(path) = &self.json {
            let text = serde_json::to_string(&record)?;
            std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
        }
        if let Some(last) = record.rounds.last().filter(|round| round.paused) {
            eprintln!("{}", line(last));
        }
        print(&show::record(&record))?;
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

    fn place(&self) -> Place {
        Place {
            run_id: format!("{}-{}", self.workload, self.engine),
            suite: "migrate".into(),
            comparison: self.workload.clone(),
            repetition: u32::from(!self.verify),
            order: 0,
            kind: if self.verify { Kind::Verification } else { Kind::Timed },
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

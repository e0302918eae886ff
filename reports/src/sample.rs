//! Hand-made records and manifests for the tests of this crate, small enough to check tables by eye.

use std::collections::BTreeMap;

use migbench_scenarios::cell::{
    Backing, Cache, Cell, Checksum, Codec, Engine, LinkSettings, Proof, ShadowSettings, StopRule, Throttle,
    Tracker, TrackerSettings, Transport, Wait, Windows,
};
use migbench_workloads::settings::{Content, Fill, Load, PageChange, Pattern, Settings};
use migbench_workloads::units::{Bytes, Rate, Seconds};

use crate::histogram::{self, Clock, Phase};
use crate::manifest::{
    CanaryMedians, Host, KvmBackend, KvmInfo, Manifest, ManifestCell, ManifestComparison, MergedPart,
    PlanSlice, Thp, Tool, Userfaultfd,
};
use crate::measure::WriteTimes;
use crate::metric::{MetricKey, Metrics};
use crate::part::Part;
use crate::record::{Backend, GuestAt, Record, Round, RunError, RunKind, SCHEMA, Status, Timeline};
use crate::store::RunData;

/// The cell of an engine.
pub fn cell(workload: &str, engine: &str) -> Cell {
    let engine = Engine::ALL.iter().find(|(word, _)| *word == engine).unwrap().1;
    let delta = engine == Engine::Delta;
    Cell {
        workload: workload.to_owned(),
        settings: Settings {
            working_set: Bytes(64 << 20),
            reads: if workload == "read-heavy" { 0.9 } else { 0.3 },
            pattern: Pattern::Uniform,
            accesses: 64,
            writes: 8,
            change: PageChange { bytes: 256, pieces: 4, moves: false },
            content: Content::Counter,
            load: Load::Pressure(if workload == "read-heavy" { 0.1 } else { 0.7 }),
            fill: Fill { zero: 0.25, random: 0.5, text: 0.25, duplicate: 0.0 },
            ..Settings::BASE
        },
        engine,
        codec: if delta { Codec::Xbzrle } else { Codec::None },
        cache: if delta { Cache::Shadow } else { Cache::None },
        shadow: ShadowSettings::default(),
        qemu: engine.is_peer().then(Default::default),
        tracker: Tracker::KvmBitmap,
        tracker_settings: TrackerSettings::DEFAULT,
        link: LinkSettings {
            transport: Transport::Unix,
            rate: Some(Rate(125_000_000)),
            queue: None,
            delay: Seconds(0.0),
            checksum: Checksum::Pages,
        },
        memory: Bytes(128 << 20),
        backing: Backing::Anonymous,
        vcpus: 1,
        prefault: true,
        pinning: None,
        elide_zero: true,
        stop: StopRule {
            downtime_limit: Seconds(0.1),
            max_rounds: 30,
            max_time: Seconds(300.0),
            ..StopRule::DEFAULT
        },
        throttle: Throttle::None,
        throttle_settings: None,
        proof: Proof::First,
        windows: Windows {
            steady: Seconds(1.0),
            after: Seconds(1.0),
            control: Seconds(1.0),
            warmup_max: Seconds(10.0),
        },
        timing: true,
        wait: Wait::Spin,
        start_phase: 1,
        binary: None,
        side: None,
    }
}

/// A record in the making: `full` takes 2.4 s, `delta` half of all.
pub struct Sample(Record);

impl Sample {
    /// A timed run that went well.
    pub fn new(workload: &str, engine: &str) -> Self {
        let cell = cell(workload, engine);
        let migrates = cell.engine.migrates();
        Self(Record {
            schema: SCHEMA,
            run_id: String::new(),
            suite: "quick".to_owned(),
            comparison: workload.to_owned(),
            repetition: 1,
            order: 0,
            backend: Backend::Kvm,
            kind: RunKind::Timed,
            status: Status::Ok,
            error: None,
            verified: None,
            not_verified: None,
            guest_checked: migrates.then_some(true),
            flags: Vec::new(),
            peer: None,
            planted: None,
            canary: None,
            started: "2025-01-31T12:00:00Z".to_owned(),
            seed: 7,
            cell,
            metrics: BTreeMap::new(),
            rounds: Vec::new(),
            throttled: Vec::new(),
            histograms: Part::default(),
            timeline: Part::default(),
            stalls: Part::default(),
            write_times: WriteTimes::default(),
        })
    }

    /// In this block.
    pub fn repetition(mut self, repetition: u32) -> Self {
        self.0.repetition = repetition;
        self
    }

    /// The run that hashes memory.
    pub fn verification(mut self, equal: Option<bool>) -> Self {
        self.0.kind = RunKind::Verification;
        self.0.repetition = 0;
        self.0.verified = equal;
        self
    }

    /// Forced to switch over.
    pub fn capped(mut self) -> Self {
        self.0.status = Status::Capped;
        self
    }

    /// Failed there.
    pub fn failed(mut self, phase: &str, message: &str) -> Self {
        self.0.status = Status::Failed;
        self.0.guest_checked = None;
        self.0.error =
            Some(RunError { phase: phase.to_owned(), message: message.to_owned(), guest: GuestAt::Source });
        self
    }

    /// With a flag.
    pub fn flag(mut self, flag: &str) -> Self {
        self.0.flags.push(flag.to_owned());
        self
    }

    /// With this metric.
    pub fn metric(mut self, key: MetricKey, value: f64) -> Self {
        let mut metrics = Metrics::try_from(std::mem::take(&mut self.0.metrics)).unwrap();
        metrics.set(key, value).unwrap();
        self.0.metrics = metrics.into();
        self
    }

    /// With any other change.
    pub fn with(mut self, change: impl FnOnce(&mut Record)) -> Self {
        change(&mut self.0);
        self
    }

    /// Finished, with these rounds.
    pub fn build_with(self, rounds: Vec<Round>) -> Record {
        Record { rounds, ..self.build() }
    }

    /// Finished: metrics that depend on engine and block a little.
    pub fn build(mut self) -> Record {
        let record = &mut self.0;
        let engine = record.cell.engine;
        if record.run_id.is_empty() {
            let (workload, repetition) = (&record.cell.workload, record.repetition);
            record.run_id = format!("{workload}-{engine}-{repetition}");
        }
        if record.status == Status::Failed {
            return self.0;
        }
        let wobble = 1.0 + 0.01 * f64::from(record.repetition % 5);
        let part = if engine == Engine::Delta { 0.5 } else { 1.0 } * wobble;
        let mut metrics = Metrics::new();
        metrics.set(MetricKey::ThroughputSteady, 40_000.0).unwrap();
        if engine.migrates() {
            for (key, value) in [
                (MetricKey::TotalTime, 2.4 * part),
                (MetricKey::Downtime, 0.095 * part),
                (MetricKey::Blackout, 0.096 * part),
                (MetricKey::Traffic, 300e6 * part),
                (MetricKey::CpuSource, 0.3 * part),
                (MetricKey::CpuDestination, 0.2 * part),
                (MetricKey::LinkRateAchieved, 0.995),
            ] {
                metrics.set(key, value).unwrap();
            }
            metrics.set_whole(MetricKey::FirstRoundBytes, 101_000_000);
            metrics.set(MetricKey::Amplification, 300.0 * part / 101.0).unwrap();
            metrics.set_whole(MetricKey::Rounds, if engine == Engine::Delta { 6 } else { 11 });
            metrics.set_whole(
                MetricKey::MemorySource,
                if engine == Engine::Delta { 140 << 20 } else { 6 << 20 },
            );
            metrics.set_whole(MetricKey::MemoryDestination, 5 << 20);
            record.rounds = rounds();
            let mut latencies = histogram::empty();
            latencies.record_n(50_000, 4_000).unwrap();
            latencies.record_n(if engine == Engine::Delta { 40_000_000 } else { 90_000_000 }, 100).unwrap();
            let key = histogram::key("write", Clock::Response, Phase::Switchover);
            record.histograms.to_mut().insert(key, histogram::encode(&latencies).unwrap());
        }
        let mut all = BTreeMap::from(metrics);
        all.append(&mut record.metrics);
        record.metrics = all;
        record.timeline = Part::from(Timeline {
            interval: 0.001,
            start: -0.002,
            operations: vec![40, 41, 39, 12],
            gaps: Vec::new(),
            events: vec![(0.0, "arm".to_owned())],
        });
        self.0
    }
}

fn rounds() -> Vec<Round> {
    let round = |round, dirty_pages, traffic, duration: f64, paused: bool| Round {
        round,
        dirty_pages,
        traffic,
        duration,
        harvest_time: Some(0.0012),
        copy_time: Some(0.0038),
        encode_time: Some(0.015),
        send_time: Some(0.01),
        wait_time: Some(duration - 0.03),
        wire_idle: Some(0.0002),
        pages_full: dirty_pages,
        estimate: (!paused).then_some(duration / 2.0),
        paused,
        ..Round::default()
    };
    vec![round(0, 32_768, 101_000_000, 0.81, false), round(1, 2_900, 11_900_000, 0.095, true)]
}

/// Two workloads with both engines.
pub fn manifest() -> Manifest {
    let comparison = |workload: &str| ManifestComparison {
        name: workload.to_owned(),
        compare: "engine".to_owned(),
        baseline: "full".to_owned(),
        cells: ["full", "delta"]
            .map(|engine| ManifestCell { id: engine.to_owned(), cell: cell(workload, engine) })
            .to_vec(),
        analysis: format!("What {workload} guests cost."),
    };
    Manifest {
        schema: SCHEMA,
        backend: Backend::Kvm,
        suite: "quick".to_owned(),
        suite_hash: "5e1f".to_owned(),
        suite_text: "name = \"quick\"\n".to_owned(),
        plan: serde_json::json!({ "runs": 24 }),
        seed: 1,
        repetitions: 5,
        planned_runs: 24,
        comparisons: vec![comparison("read-heavy"), comparison("write-heavy")],
        skipped: Vec::new(),
        host: Host {
            cpu_model: Some("Example CPU 8000".to_owned()),
            logical_cores: Some(2),
            memory: Some(8 << 30),
            kernel: Some("6.12.0".to_owned()),
            kvm: Some(KvmInfo {
                backend: KvmBackend::Pvm,
                parameters: BTreeMap::from([("kvm.tdp_mmu".to_owned(), "Y".to_owned())]),
            }),
            thp: Some(Thp { enabled: "madvise".to_owned(), defrag: None }),
            mitigations: BTreeMap::from([("meltdown".to_owned(), "Not affected".to_owned())]),
            userfaultfd: Some(Userfaultfd { unprivileged: Some(false), device: Some(true) }),
            nested: Some(true),
            load_average: Some([0.1, 0.2, 0.3]),
            ..Host::default()
        },
        disturbances: Vec::new(),
        resumptions: Vec::new(),
        tool: Tool { version: "0.1.0".to_owned(), commit: Some("0123abc".to_owned()), dirty: Some(false) },
        builds: Vec::new(),
        planted: None,
        command: ["migbench", "run", "quick"].map(str::to_owned).to_vec(),
        started: "2025-01-31T12:00:00Z".to_owned(),
        slice: None,
        parts: Vec::new(),
    }
}

/// The part of slice `number` of three in a merged manifest, of the host `node` with that number.
pub fn part(number: u32, comparisons: &[&str], canary: Option<CanaryMedians>) -> MergedPart {
    MergedPart {
        slice: PlanSlice {
            slice: migbench_scenarios::Slice { number, of: 3 },
            plan_hash: String::new(),
            chosen_by: String::new(),
        },
        comparisons: comparisons.iter().map(|name| (*name).to_owned()).collect(),
        records: 1,
        host: Host { hostname: Some(format!("node{number}")), ..Host::default() },
        canary,
        disturbances: Vec::new(),
        command: Vec::new(),
        started: String::new(),
    }
}

/// A run directory that was read.
pub fn data(manifest: Manifest, records: Vec<Record>) -> RunData {
    RunData { path: "results/quick".into(), manifest, records, truncated: None }
}

/// All runs of [`manifest`], each as it should be.
pub fn records() -> Vec<Record> {
    let cells = ["read-heavy", "write-heavy"].into_iter().flat_map(|w| ["full", "delta"].map(|e| (w, e)));
    cells
        .flat_map(|(workload, engine)| {
            let verification = Sample::new(workload, engine).verification(Some(true)).build();
            let timed = (1..=5).map(move |r| Sample::new(workload, engine).repetition(r).build());
            std::iter::once(verification).chain(timed)
        })
        .collect()
}

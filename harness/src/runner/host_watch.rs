//! What happens to the host while a suite runs: its canary before each block, and what was stolen or throttled in each run.

use std::collections::BTreeMap;
use std::time::Duration;

use migbench_reports::manifest;
use migbench_reports::metric::{self, MetricKey, Metrics};
use migbench_reports::record::{CanarySamples, Record};
use migbench_reports::stats::median;

use super::record::oversubscribed;
use super::testbed::Testbed;
use crate::host::disturbance::Throttling;

/// Looks at the host between runs and after each.
pub(super) struct HostWatch {
    /// What is stolen is counted over all CPUs.
    all_cores: Option<u32>,
    cores: Option<u32>,
    block: Option<u32>,
    canary: Option<CanarySamples>,
    throttling: Throttling,
    started: Duration,
}

impl HostWatch {
    pub(super) fn new(host: &manifest::Host) -> Self {
        Self {
            all_cores: host.logical_cores,
            cores: host.cores(),
            block: None,
            canary: None,
            throttling: Throttling::default(),
            started: Duration::ZERO,
        }
    }

    /// The next run is of this block: before the first of each, what can the host do? Gives whether it was asked.
    pub(super) fn block(&mut self, block: u32, testbed: &mut dyn Testbed) -> bool {
        if self.block == Some(block) {
            return false;
        }
        self.block = Some(block);
        self.canary = testbed.canary(block);
        true
    }

    pub(super) fn run_starts(&mut self, testbed: &dyn Testbed) {
        self.throttling = testbed.throttling();
        self.started = testbed.uptime();
    }

    /// Adds to a record what happened to the host meanwhile.
    pub(super) fn run_ends(&self, record: &mut Record, testbed: &dyn Testbed) {
        let lasted = testbed.uptime().saturating_sub(self.started).as_secs_f64();
        let stolen = metric::value(&record.metrics, MetricKey::StealTime).unwrap_or(0.0);
        if let Some(canary) = &self.canary {
            let mut host = Metrics::new();
            for (key, passes) in
                [(MetricKey::CanaryCopy, &canary.copy), (MetricKey::CanarySocket, &canary.socket)]
            {
                // Speeds are finite.
                let _ = median(passes).map(|speed| host.set(key, speed));
            }
            record.metrics.extend(BTreeMap::from(host));
        }
        record.canary.clone_from(&self.canary);
        let flags = [
            ("cpu_stolen", stolen > STOLEN * lasted * f64::from(self.all_cores.unwrap_or(1))),
            ("cpu_throttled", testbed.throttling().since(self.throttling)),
        ];
        record.flags.extend(oversubscribed(&record.cell, self.cores));
        record.flags.extend(flags.iter().filter(|(_, holds)| *holds).map(|(flag, _)| (*flag).to_owned()));
    }
}

/// Share of CPU time, stolen, over which a run is flagged.
const STOLEN: f64 = 0.01;

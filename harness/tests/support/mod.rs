//! What the integration tests share.
#![allow(dead_code, unused_macros, unused_imports)]

use std::os::fd::OwnedFd;

use migbench_scenarios::cell::*;
use migbench_workloads::settings::*;
use migbench_workloads::units::{Bytes, Rate, Seconds};

/// Ends the test with a printed reason where there is no KVM, or fails it where KVM is required.
macro_rules! require_kvm {
    () => {
        if let Err(error) = migbench::doctor::open_kvm(std::path::Path::new("/dev/kvm")) {
            assert!(std::env::var_os("MIGBENCH_REQUIRE_KVM").is_none(), "{error}");
            eprintln!("skipped: {error}");
            return;
        }
    };
}
pub(crate) use require_kvm;

/// A small guest that writes a lot, open loop.
pub fn cell() -> Cell {
    Cell {
        workload: "test".into(),
        settings: Settings {
            working_set: Bytes(8 << 20),
            reads: 0.5,
            pattern: Pattern::Uniform,
            accesses: 32,
            writes: 1,
            change: Change { bytes: 100, pieces: 3, moves: true },
            content: Content::Random,
            load: Load::Pages(10_000.0),
            fill: Fill { zero: 0.5, random: 0.25, text: 0.25 },
        },
        engine: Engine::Full,
        codec: Codec::None,
        cache: Cache::None,
        tracker: Tracker::KvmBitmap,
        tracker_settings: TrackerSettings::DEFAULT,
        link: Link { transport: Transport::Unix, rate: Some(Rate(125_000_000)) },
        memory: Bytes(32 << 20),
        backing: Backing::Anonymous,
        vcpus: 1,
        prefault: true,
        pinning: None,
        elide_zero: true,
        stop: StopRule {
            downtime_limit: Seconds(0.1),
            max_rounds: 30,
            max_time: Seconds(30.0),
            estimate: Estimate::Pages,
        },
        proof: Proof::First,
        windows: Windows {
            steady: Seconds(0.1),
            after: Seconds(0.1),
            control: Seconds(0.2),
            warmup_max: Seconds(1.0),
        },
        timing: true,
    }
}

/// A memfd for telemetry.
pub fn telemetry_file() -> OwnedFd {
    nix::sys::memfd::memfd_create(c"telemetry", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap()
}

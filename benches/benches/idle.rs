//! The fixed cost of a handover, and the memory that it takes: whole migrations of real guests between two fresh
//! processes. Downtime and blackout of an idle guest over an unlimited link, engine by engine in turn; then resident
//! memory beside guest memory of both nodes.

use std::process::ExitCode;

use migbench_benches::{Fallible, MedianRange, migrate, node, quick, run};
use migbench_reports::record::Record;
use migbench_scenarios::cell::{Cell, Engine};
use migbench_workloads::settings::Fill;
use migbench_workloads::units::{Bytes, Seconds};

/// Migrations of each engine.
const RUNS: u64 = 7;

const PARTS: [&str; 7] = [
    "downtime",
    "downtime_pause",
    "downtime_harvest",
    "downtime_send",
    "downtime_state",
    "downtime_resume",
    "blackout",
];

fn main() -> ExitCode {
    if let Some(exit) = node() {
        return exit;
    }
    run("idle", || handover().and_then(|()| memory()))
}

fn cell(engine: Engine, memory: Bytes) -> Fallible<Cell> {
    let mut cell = Cell::default_for(engine, "idle")?;
    cell.memory = memory;
    cell.link.rate = None;
    cell.windows.steady = Seconds(0.2);
    cell.windows.after = Seconds(0.2);
    cell.windows.warmup_max = Seconds(1.0);
    Ok(cell)
}

fn value(record: &Record, name: &str) -> Option<f64> {
    record.metrics.get(name).map(|metric| metric.value)
}

fn handover() -> Fallible<()> {
    let runs = if quick() { 1 } else { RUNS };
    println!(
        "idle: handing over a guest of 128MiB that only has a heartbeat, over an unlimited unix link; {runs} \
         migrations with each engine in turn, in ms"
    );
    let engines = [Engine::Full, Engine::Delta];
    let mut records = [Vec::new(), Vec::new()];
    for seed in 0..runs {
        for (engine, records) in engines.into_iter().zip(&mut records) {
            records.push(migrate(&cell(engine, Bytes(128 << 20))?, seed)?);
        }
    }
    for (engine, records) in engines.into_iter().zip(&records) {
        println!("  {engine}");
        for part in PARTS {
            if let Some(spread) =
                MedianRange::of(records.iter().filter_map(|r| value(r, part)).map(|s| s * 1e3))
            {
                println!("    {part:18} {spread:.3}");
            }
        }
    }
    println!("  (median and range; targets: downtime at most 1 ms, blackout at most 1.5 ms)");
    Ok(())
}

fn memory() -> Fallible<()> {
    println!(
        "memory: resident bytes of the nodes besides guest memory and telemetry, no page of the guest zero; \
         targets: full under 64MiB for both nodes, delta under guest memory + 64MiB"
    );
    let sizes: &[u64] = if quick() { &[32] } else { &[128, 1024] };
    for &mebibytes in sizes {
        for engine in [Engine::Full, Engine::Delta] {
            let mut cell = cell(engine, Bytes(mebibytes << 20))?;
            cell.settings.fill = Fill { zero: 0.0, random: 0.5, text: 0.5, duplicate: 0.0 };
            let record = migrate(&cell, 1)?;
            let [source, destination] =
                ["memory_source", "memory_destination"].map(|name| value(&record, name).unwrap_or(f64::NAN));
            let in_mebibytes = |bytes: f64| bytes / f64::from(1 << 20);
            println!(
                "  {engine:6} {:>7}: source {:.1} MiB, destination {:.1} MiB, together {:.1} MiB",
                cell.memory.to_string(),
                in_mebibytes(source),
                in_mebibytes(destination),
                in_mebibytes(source + destination)
            );
        }
    }
    Ok(())
}

//! The modelled link against one that the kernel shapes: whole migrations of real guests, over either in turn, whose
//! total time, downtime and `downtime_send` should be the same. The guest leaves the CPU while it waits, since the kernel's
//! link takes its share of it. Pairs in which the kernel fell short of the rate say nothing of the model, and are left out.
//! Before that, frames alone over the modelled wire: how late their ends are, and what the sender costs.

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use migbench::sys::{clock, thread::sharp_timers};
use migbench::wire::netns::Namespaces;
use migbench::wire::{FrameKind, Link, PageBatch};
use migbench_benches::{Fallible, MedianRange, migrate, node, quick, run};
use migbench_reports::record::Record;
use migbench_scenarios::cell::{Cell, Engine, Transport, Wait};
use migbench_workloads::settings::Load;
use migbench_workloads::units::{Bytes, Seconds};
use nix::time::{ClockId, clock_gettime};

/// Pairs that count, of each engine.
const PAIRS: usize = 7;
/// Pairs that are made at most.
const ATTEMPTS: usize = 3 * PAIRS;
/// Of its rate the kernel must have reached this in a pair that counts.
const REACHED: f64 = 0.98;

/// How far the medians may be apart: a share, and seconds besides.
const SHARE: f64 = 0.03;
const BESIDES: f64 = 0.0003;

const METRICS: [&str; 3] = ["total_time", "downtime", "downtime_send"];

fn main() -> ExitCode {
    if let Some(exit) = node() {
        return exit;
    }
    run("link", || late_ends().and_then(|()| compare()))
}

/// Frames of [`BATCH`] pages, as a round sends them, over a modelled wire of 1 Gbit/s, and nothing else on this host.
fn late_ends() -> Fallible<()> {
    const BATCH: usize = 64;
    let frames = if quick() { 20 } else { 4000 };
    let link = cell(Engine::Full, Transport::Unix)?.link;
    let (mut here, mut there) = Link::pair(Duration::from_secs(30))?;
    let (one, other) = (here.shape(&link)?, there.shape(&link)?);
    assert!(one.is_some() && one == other, "a modelled wire");
    let receiver = thread::spawn(move || {
        sharp_timers();
        let mut late = Vec::new();
        loop {
            match there.recv() {
                Ok(frame) if frame.kind == FrameKind::Pages => {}
                Ok(_) => return Ok(late),
                Err(error) => return Err(error),
            }
            late.push(clock::seconds(there.receiver().due(), there.receiver().arrival()));
        }
    });
    sharp_timers();
    let (pages, mut batch) = (vec![1; BATCH * 4096], PageBatch::new());
    let (began, cpu) = (clock::now(), clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?);
    for _ in 0..frames {
        for page in 0..BATCH {
            batch.push_whole(page as u64);
        }
        here.sender_mut().send_pages(&mut batch, &[], &[&pages], &[])?;
        batch.clear();
    }
    here.sender().drain(0);
    let took = clock::seconds(began, clock::now());
    let cpu = Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?) - Duration::from(cpu);
    here.send(FrameKind::RoundEnd, &[])?;
    let mut late = receiver.join().map_err(|_| "the receiver panicked")??;
    late.sort_by(f64::total_cmp);
    let at = |share: usize| 1e6 * late[(late.len() - 1) * share / 100];
    println!(
        "link: {frames} frames of {BATCH} pages over a modelled wire of 1Gbit/s: their ends are {:.0} us late in the median and \
         {:.0} us at p90 (targets 50 and 150), {:.0} us at most; the sender takes {:.1} % of a core",
        at(50),
        at(90),
        at(100),
        100.0 * cpu.as_secs_f64() / took
    );
    Ok(())
}

/// A guest whose operations are a millisecond and more apart, each of many page writes.
fn cell(engine: Engine, transport: Transport) -> Fallible<Cell> {
    let mut cell = Cell::default_for(engine, "write-heavy")?;
    cell.link.transport = transport;
    cell.memory = Bytes(64 << 20);
    cell.settings.working_set = Bytes(32 << 20);
    cell.settings.reads = 0.0;
    cell.settings.writes = 16;
    cell.settings.load = Load::Pages(10_000.0);
    cell.wait = Wait::Doorbell;
    cell.stop.downtime_limit = Seconds(0.1);
    cell.windows.steady = Seconds(0.2);
    cell.windows.after = Seconds(0.2);
    cell.windows.warmup_max = Seconds(1.0);
    Ok(cell)
}

fn value(record: &Record, name: &str) -> Fallible<f64> {
    Ok(record.metrics.get(name).ok_or_else(|| format!("the record has no {name}"))?.value)
}

fn compare() -> Fallible<()> {
    let rate = cell(Engine::Full, Transport::Netns)?.link;
    if let Err(error) = Namespaces::new(&rate) {
        println!("skipped: {error}");
        return Ok(());
    }
    let (pairs, attempts) = if quick() { (1, 1) } else { (PAIRS, ATTEMPTS) };
    println!(
        "link: a guest of 64MiB over a link of 1Gbit/s, modelled against shaped by the kernel; {pairs} pairs of each engine \
         in turn in which the kernel reached {:.0} % of that, in ms",
        100.0 * REACHED
    );
    for engine in [Engine::Full, Engine::Delta] {
        let cells = [cell(engine, Transport::Unix)?, cell(engine, Transport::Netns)?];
        let (mut records, mut short) = (Vec::new(), Vec::new());
        for attempt in 0..attempts {
            // The same guest over both; who comes first takes turns as well.
            let seed = attempt as u64;
            let pair = if attempt % 2 == 0 {
                [migrate(&cells[0], seed)?, migrate(&cells[1], seed)?]
            } else {
                let second = migrate(&cells[1], seed)?;
                [migrate(&cells[0], seed)?, second]
            };
            let reached = value(&pair[1], "link_rate_achieved")?;
            if reached < REACHED {
                short.push(reached);
            }
            // Where only one pair is made, it is shown whatever it is.
            if reached >= REACHED || quick() {
                records.push(pair);
            }
            if records.len() == pairs {
                break;
            }
        }
        print(engine, &records, &short)?;
    }
    println!(
        "  (median and range of each; target: medians within {:.0} % plus {:.1} ms of each other)",
        100.0 * SHARE,
        1e3 * BESIDES
    );
    Ok(())
}

fn print(engine: Engine, records: &[[Record; 2]], short: &[f64]) -> Fallible<()> {
    println!("  {engine}: {} pairs", records.len());
    if let Some(reached) = MedianRange::of(short.iter().map(|share| 100.0 * share)) {
        println!("    the kernel fell short of it in {} pairs: {reached:.1} % of the rate", short.len());
    }
    for name in METRICS {
        let side = |side: usize| -> Fallible<Option<MedianRange>> {
            let values =
                records.iter().map(|pair| value(&pair[side], name)).collect::<Fallible<Vec<f64>>>()?;
            Ok(MedianRange::of(values.into_iter().map(|seconds| seconds * 1e3)))
        };
        let (Some(modelled), Some(kernel)) = (side(0)?, side(1)?) else { continue };
        let apart = (modelled.median - kernel.median).abs();
        let allowed = SHARE * kernel.median + 1e3 * BESIDES;
        println!(
            "    {name:13} modelled {modelled:.2}, kernel {kernel:.2}, ratio {:.3}: {}",
            modelled.median / kernel.median,
            if apart <= allowed { "within" } else { "NOT WITHIN" }
        );
    }
    Ok(())
}

//! What measuring costs the guest: its throughput with the timing of operations on and off, and with the host's
//! sampler on and off, which reads counters alone where operations are not timed. The guest's own counting, two stores an
//! operation, can't be turned off and is on both sides of each comparison.
//!
//! A cost of one percent is less than what a host's luck does to any one slice of time: the slices are short, many, and
//! compared in pairs of neighbours, which a drift of the host hits alike. Both timing and sampler come and go while one guest
//! runs on, because where memory happens to lie makes one guest faster than another by more than that; and guests are booted
//! anew several times, should it matter for the cost too.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use migbench::guest::sampler::Sampler;
use migbench::guest::telemetry;
use migbench::sys::clock;
use migbench::vm::Vm;
use migbench_benches::{Fallible, MedianRange, boot, quick, run};
use migbench_reports::stats::{self, RatioTest};
use migbench_scenarios::cell::{Cell, Engine};
use migbench_workloads::abi;
use migbench_workloads::settings::Load;

/// Times that the guests are booted.
const BOOTS: u64 = 5;
/// Pairs of slices, per boot and comparison.
const PAIRS: usize = 24;
const SLICE: Duration = Duration::from_millis(25);
/// Before each slice, so that caches belong to the guest that runs, and the sampler has started or ended.
const WARM: Duration = Duration::from_millis(5);

/// What the guest may lose by the timing of operations of 2 us or more, as a share.
const TIMING: f64 = 0.03;
/// What it may lose by the sampler.
const SAMPLER: f64 = 0.01;

fn main() -> ExitCode {
    run("probe", compare)
}

/// A guest with write-heavy's settings, flat out, whose operations are timed.
fn guest(seed: u64) -> Fallible<Vm> {
    let mut cell = Cell::default_for(Engine::None, "write-heavy")?;
    cell.settings.load = Load::FlatOut;
    boot(&cell, seed)
}

/// Operations per second of one slice of a running guest, in which it also wrote pages.
fn slice(vm: &Vm) -> Fallible<f64> {
    std::thread::sleep(WARM);
    let count =
        || (clock::now(), telemetry::operations(vm.telemetry()), telemetry::page_writes(vm.telemetry()));
    let (start, before, writes) = count();
    std::thread::sleep(SLICE);
    let (end, after, written) = count();
    if written == writes {
        return Err("the guest wrote no page".into());
    }
    #[expect(clippy::cast_precision_loss, reason = "counts of a slice")]
    let operations = (after - before) as f64;
    Ok(operations / clock::seconds(start, end))
}

/// The same while operations are counted alone.
fn untimed(vm: &Vm, slice: &dyn Fn(&Vm) -> Fallible<f64>) -> Fallible<f64> {
    let phase = &vm.telemetry().control().phase;
    phase.store(abi::PHASE_UNTIMED, Ordering::Relaxed);
    let rate = slice(vm);
    phase.store(abi::PHASE_STEADY, Ordering::Relaxed);
    rate
}

/// The same beside the sampler.
fn sampled(vm: &Vm) -> Fallible<f64> {
    let sampler = Sampler::start(Arc::clone(vm.telemetry()), 1.0)?;
    let rate = slice(vm);
    // One is taken at the end in any case.
    if sampler.finish().operations.len() < 3 {
        return Err("the sampler saw nothing".into());
    }
    rate
}

/// Throughput of two kinds of slices in turn: without what is measured, and with it.
#[derive(Default)]
struct Pairs(Vec<(f64, f64)>);

impl Pairs {
    fn add(
        &mut self,
        pairs: usize,
        with: &dyn Fn() -> Fallible<f64>,
        without: &dyn Fn() -> Fallible<f64>,
    ) -> Fallible<()> {
        for pair in 0..pairs {
            self.0.push(if pair.is_multiple_of(2) {
                let with = with()?;
                (without()?, with)
            } else {
                (without()?, with()?)
            });
        }
        Ok(())
    }

    /// `limit` is the most that the guest may lose, as a share.
    fn print(&self, what: &str, limit: f64) {
        let thousands =
            |side: &dyn Fn(&(f64, f64)) -> f64| MedianRange::of(self.0.iter().map(|pair| side(pair) / 1e3));
        if let (Some(without), Some(with), Some(test)) =
            (thousands(&|pair| pair.0), thousands(&|pair| pair.1), stats::paired(&self.0))
        {
            println!("  {what}: on {with:.1} kop/s, off {without:.1} kop/s");
            println!("    {}", judge(&test, limit));
        }
    }
}

/// The share that is lost, with what is known of it against its limit.
fn judge(test: &RatioTest, limit: f64) -> String {
    let lost = (1.0 - test.ratio) * 100.0;
    let limit = limit * 100.0;
    let stats::Spread::Interval { low, high, .. } = test.interval() else {
        return format!("costs {lost:.2} %; limit {limit:.0} %: can't tell from {} pairs", test.pairs);
    };
    let (least, most) = ((1.0 - high) * 100.0, (1.0 - low) * 100.0);
    let verdict = if most <= limit {
        "within"
    } else if least > limit {
        "over"
    } else {
        "can't tell"
    };
    format!("costs {lost:.2} % (95 % interval {least:.2} to {most:.2}); limit {limit:.0} %: {verdict}")
}

fn compare() -> Fallible<()> {
    let (boots, pairs) = if quick() { (1, 1) } else { (BOOTS, PAIRS) };
    println!(
        "probe: throughput of a guest that works flat out with write-heavy's operations, by what measures it; \
         {boots} boots of {pairs} pairs of slices each"
    );
    let (mut timing, mut sampling, mut counting) = (Pairs::default(), Pairs::default(), Pairs::default());
    for seed in 0..boots {
        let vm = guest(seed)?;
        timing.add(pairs, &|| slice(&vm), &|| untimed(&vm, &slice))?;
        sampling.add(pairs, &|| sampled(&vm), &|| slice(&vm))?;
        counting.add(pairs, &|| untimed(&vm, &sampled), &|| untimed(&vm, &slice))?;
    }
    timing.print("timing, on and off", TIMING);
    if let (Some(rate), Some(test)) =
        (MedianRange::of(timing.0.iter().map(|pair| pair.0)), stats::paired(&timing.0))
    {
        let (untimed, more) = (1e6 / rate.median, 1e6 / rate.median * (1.0 / test.ratio - 1.0));
        println!(
            "    an operation takes {untimed:.2} us untimed and {:.0} ns more timed, which is {:.2} % of one of 2 us, \
             and {:.0} % of one of {:.2} us",
            more * 1e3,
            more / (2.0 + more) * 100.0,
            TIMING * 100.0,
            more * (1.0 - TIMING) / TIMING
        );
    }
    sampling.print("sampler beside timed operations", SAMPLER);
    counting.print("sampler beside counters alone", SAMPLER);
    println!(
        "  (rates: median and range; costs: Hodges-Lehmann estimate of the pairs, with the interval of the signed-rank test)"
    );
    Ok(())
}

//! What measuring costs the guest: its throughput with the timing of operations on and off, and with the host's
//! sampler on and off, which reads counters alone where operations are not timed. The guest's own counting, two stores an
//! operation, can't be turned off and is on both sides of each comparison. Two guests that differ in timing alone stay booted and take turns in short
//! slices, so that a drift of the host hits both alike; they are booted anew several times, because where memory
//! happens to lie makes one guest faster than another.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use migbench::node::sampler::Sampler;
use migbench::sys::clock;
use migbench::sys::memory::Telemetry;
use migbench::vm::{Vm, telemetry};
use migbench_benches::{Spread, have_kvm, quick, wanted};
use migbench_reports::stats::{self, Summary};
use migbench_scenarios::cell::{Cell, Engine};
use migbench_workloads::abi;
use migbench_workloads::settings::Load;

/// Times that the guests are booted.
const BOOTS: u64 = 5;
/// Pairs of slices, per boot and comparison.
const PAIRS: usize = 9;
const SLICE: Duration = Duration::from_millis(80);
/// Before each slice, so that caches belong to the guest that runs.
const SETTLE: Duration = Duration::from_millis(10);

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    if !wanted("probe") || !have_kvm() {
        return ExitCode::SUCCESS;
    }
    match compare() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A paused guest with write-heavy's settings, flat out.
fn guest(timing: bool, seed: u64) -> Outcome<Vm> {
    let mut cell = Cell::default_for(Engine::None, "write-heavy")?;
    cell.settings.load = Load::FlatOut;
    cell.timing = timing;
    let memfd = nix::sys::memfd::memfd_create(c"telemetry", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)?;
    let telemetry = Telemetry::map(memfd, 1, timing)?;
    telemetry.control().phase.store(abi::PHASE_STEADY, Ordering::Relaxed);
    let vm = Vm::boot(&cell, seed, 0, Arc::new(telemetry))?;
    vm.pause()?;
    Ok(vm)
}

/// Operations per second of one slice, in which the guest also wrote pages.
fn slice(vm: &Vm, sampled: bool) -> Outcome<f64> {
    let sampler =
        if sampled { Some(Sampler::start(Arc::clone(vm.machine().telemetry()), 1.0)?) } else { None };
    vm.resume();
    std::thread::sleep(SETTLE);
    let count =
        || (clock::now(), telemetry::operations(vm.telemetry()), telemetry::page_writes(vm.telemetry()));
    let (start, before, writes) = count();
    std::thread::sleep(SLICE);
    let (end, after, written) = count();
    vm.pause()?;
    let samples = sampler.map(Sampler::finish);
    if samples.is_some_and(|samples| samples.operations.len() < 10) || written == writes {
        return Err("the sampler saw nothing, or the guest wrote no page".into());
    }
    #[expect(clippy::cast_precision_loss, reason = "counts of a slice")]
    let operations = (after - before) as f64;
    Ok(operations / clock::seconds(start, end))
}

/// Throughput of two kinds of slices in turn.
#[derive(Default)]
struct Pairs {
    with: Vec<f64>,
    without: Vec<f64>,
}

impl Pairs {
    fn add(
        &mut self,
        turn: usize,
        with: &dyn Fn() -> Outcome<f64>,
        without: &dyn Fn() -> Outcome<f64>,
    ) -> Outcome<()> {
        if turn.is_multiple_of(2) {
            self.with.push(with()?);
            self.without.push(without()?);
        } else {
            self.without.push(without()?);
            self.with.push(with()?);
        }
        Ok(())
    }

    /// `limit` is the most that the guest may lose, as a share.
    fn print(&self, what: &str, limit: f64) {
        let ratios: Vec<f64> =
            self.with.iter().zip(&self.without).map(|(with, without)| with / without).collect();
        let thousands = |rates: &[f64]| Spread::of(rates.iter().map(|rate| rate / 1e3));
        if let (Some(with), Some(without), Some(ratio)) =
            (thousands(&self.with), thousands(&self.without), Summary::of(&ratios))
        {
            println!("  {what}: on {with:.1} kop/s, off {without:.1} kop/s");
            println!("    {}", judge(&ratio, limit));
        }
    }
}

/// The share that is lost, with what is known of it against its limit.
fn judge(ratio: &Summary, limit: f64) -> String {
    let lost = (1.0 - ratio.median) * 100.0;
    let limit = limit * 100.0;
    let Some(stats::Spread::Interval { low, high, .. }) = ratio.spread else {
        return format!("costs {lost:.2} %; limit {limit:.0} %: can't tell from {} pairs", ratio.samples);
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

fn compare() -> Outcome<()> {
    let (boots, pairs) = if quick() { (1, 1) } else { (BOOTS, PAIRS) };
    println!(
        "probe: throughput of a guest that works flat out with write-heavy's operations, by what measures it; \
         {boots} boots of {pairs} pairs of slices each"
    );
    let (mut timing, mut sampling, mut counting) = (Pairs::default(), Pairs::default(), Pairs::default());
    for seed in 0..boots {
        // The guest that boots second has other memory than the first: that takes turns too.
        let (timed, untimed) = if seed % 2 == 0 {
            let timed = guest(true, seed)?;
            (timed, guest(false, seed)?)
        } else {
            let untimed = guest(false, seed)?;
            (guest(true, seed)?, untimed)
        };
        for turn in 0..pairs {
            timing.add(turn, &|| slice(&timed, false), &|| slice(&untimed, false))?;
            sampling.add(turn, &|| slice(&timed, true), &|| slice(&timed, false))?;
            counting.add(turn, &|| slice(&untimed, true), &|| slice(&untimed, false))?;
        }
    }
    if let Some(rate) = Spread::of(timing.without.iter().copied()) {
        println!(
            "  an operation takes {:.2} us untimed; the limit of timing is for 2 us or more",
            1e6 / rate.median
        );
    }
    timing.print("timing, on and off", 0.03);
    sampling.print("sampler beside timed operations", 0.01);
    counting.print("sampler beside counters alone", 0.01);
    println!("  (rates: median and range; costs: median of the pairs, taken in turn)");
    Ok(())
}

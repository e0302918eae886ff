//! What `dirty-limit` and `quota` are set to, and what the guest then writes: a real guest that writes flat out, harvested every tenth of a
//! second as by rounds. The rate is counted from what the tracker found, and not from what the throttle went by. Target: within 5 %.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use migbench::dirty::tracker;
use migbench::engine::throttle::{Throttler, throttle};
use migbench::vm::page_set::PageSet;
use migbench_benches::{Fallible, MedianRange, boot, quick, run};
use migbench_scenarios::cell::{Cell, Engine, Throttle};
use migbench_scenarios::{Assignment, Draft};
use migbench_workloads::units::{PAGE_SIZE, Rate, Seconds};

/// Pages per second of each vCPU.
const RATES: [u32; 5] = [500, 2_000, 5_000, 10_000, 20_000];
/// Time between two harvests, before rates are counted, and over which one rate is counted.
const ROUND: Duration = Duration::from_millis(100);
const WARM_UP: Duration = Duration::from_secs(1);
const WINDOW: Duration = Duration::from_millis(500);
/// Rates that are counted of one guest.
const WINDOWS: usize = 7;

fn main() -> ExitCode {
    run("throttle", every)
}

fn cell(vcpus: u32, word: Throttle, rate: u32) -> Fallible<Cell> {
    let mut draft = Draft::new();
    let (vcpus, throttle) = (vcpus.to_string(), word.to_string());
    for (key, value) in [
        ("engine", Engine::Full.word()),
        ("workload", "write-heavy"),
        ("memory", "128MiB"),
        ("tracker", "kvm-ring"),
        ("settings.load", "flat-out"),
        ("vcpus", &vcpus),
        ("throttle", &throttle),
    ] {
        draft.set(&Assignment::flag(&format!("--{key}"), key, value))?;
    }
    let mut cell = draft.build()?;
    let settings = cell.throttle_settings.get_or_insert_default();
    settings.dirty_rate = Rate(u64::from(rate) * PAGE_SIZE);
    // As many pages in a slice as a hundredth of a second has.
    (settings.pages, settings.slice) = (rate / 100, Seconds(0.01));
    Ok(cell)
}

fn every() -> Fallible<()> {
    let counts: &[u32] = if quick() { &[1] } else { &[1, 2] };
    println!(
        "throttle: pages per second and vCPU, set and reached, median and range of {WINDOWS} times {WINDOW:?}; target 1.00 +- 0.05"
    );
    for &vcpus in counts {
        let free = reached(&cell(vcpus, Throttle::None, RATES[0])?)?;
        println!("  {vcpus} vCPU, none: {free:.0}");
        for word in [Throttle::DirtyLimit, Throttle::Quota] {
            for rate in if quick() { &RATES[1..2] } else { &RATES[..] } {
                let reached = reached(&cell(vcpus, word, *rate)?)?;
                let ratio = reached.median / f64::from(*rate);
                println!("  {vcpus} vCPU, {word} {rate}: {reached:.0}, {ratio:.3} of it");
            }
        }
    }
    Ok(())
}

/// Pages per second and vCPU that are found written.
fn reached(cell: &Cell) -> Fallible<MedianRange> {
    let vm = boot(cell, 1)?;
    let mut dirty = PageSet::new(vm.ram().pages())?;
    // Its memory has been written once before anybody looks.
    std::thread::sleep(WARM_UP);
    let mut tracker = tracker(cell, &vm)?;
    tracker.arm()?;
    let _throttler =
        throttle(cell, vm.vcpus().len()).map(|throttle| Throttler::start(throttle, &vm)).transpose()?;
    let mut rate = |least: Duration| -> Fallible<f64> {
        let (start, mut pages) = (Instant::now(), 0);
        while start.elapsed() < least {
            std::thread::sleep(ROUND);
            dirty.clear();
            tracker.harvest(&mut dirty)?;
            pages += dirty.len();
        }
        #[expect(clippy::cast_precision_loss, reason = "pages of a second")]
        Ok(pages as f64 / start.elapsed().as_secs_f64() / f64::from(cell.vcpus))
    };
    rate(WARM_UP)?;
    let windows = if quick() { 1 } else { WINDOWS };
    let rates = (0..windows).map(|_| rate(WINDOW)).collect::<Fallible<Vec<f64>>>()?;
    vm.check()?;
    MedianRange::of(rates).ok_or_else(|| "no rate was counted".into())
}

//! How long a run will take, roughly: for `--dry-run` and the progress bar, never for results. The model is the
//! textbook one of pre-copy: each round sends what the previous one let the guest write.

use migbench_workloads::settings::Pace;
use migbench_workloads::units::{PAGE_SIZE, Seconds};

use crate::cell::{Cell, Engine, Proof};
use crate::plan::RunKind;

/// Starting two processes and a guest, and ending them.
const START: f64 = 0.05;
/// Bytes of guest memory per second that are made resident on both sides, filled, and checked by the guest at the end.
const PREPARED: f64 = 5e8;
/// Three windows of steady throughput, usually.
const WARMUP: f64 = 0.5;
/// Bytes per second that a link without a limit carries, and that hashing memory reaches.
const FAST: f64 = 1e9;
/// Page writes per second of a guest that runs flat out.
const FLAT_OUT: f64 = 1e6;

/// One run of a cell, without its start jitter.
#[must_use]
pub fn run(cell: &Cell, kind: RunKind) -> Seconds {
    let windows = &cell.windows;
    let around = START + size(cell.memory.0) / PREPARED + WARMUP + 2.0 * windows.steady.0;
    let proof = if kind == RunKind::Verification || cell.proof == Proof::Every {
        size(cell.memory.0) / FAST
    } else {
        0.0
    };
    let body = match cell.engine {
        Engine::None | Engine::TrackOnly => windows.control.0,
        Engine::StopAndCopy => first_round(cell) / rate(cell) + windows.after.0 + proof,
        Engine::Full | Engine::Delta | Engine::Qemu => precopy(cell) + windows.after.0 + proof,
    };
    Seconds(around + body)
}

/// How long the first round of a cell takes at its link's rate, where that alone is longer than `stop.max_time`: each of its
/// runs will be capped.
#[must_use]
pub fn outlasted(cell: &Cell) -> Option<Seconds> {
    let precopy = matches!(cell.engine, Engine::Full | Engine::Delta | Engine::Qemu);
    let limited = cell.link.rate.filter(|_| precopy)?;
    let first = first_round(cell) / size(limited.0);
    (first > cell.stop.max_time.0).then_some(Seconds(first))
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn size(bytes: u64) -> f64 {
    bytes as f64
}

fn rate(cell: &Cell) -> f64 {
    cell.link.rate.map_or(FAST, |rate| size(rate.0).min(FAST))
}

/// Bytes of all memory, less the zero pages that are sent as a mark.
fn first_round(cell: &Cell) -> f64 {
    let set = size(cell.settings.working_set.0);
    let sent = if cell.elide_zero { 1.0 - cell.settings.fill.zero } else { 1.0 };
    set + (size(cell.memory.0) - set).max(0.0) * sent
}

/// Seconds of all rounds, the paused one included.
fn precopy(cell: &Cell) -> f64 {
    let (set, rate, page) = (size(cell.settings.working_set.0), rate(cell), size(PAGE_SIZE));
    let settings = &cell.settings;
    let per_operation = (1.0 - settings.reads) * f64::from(settings.writes);
    let written = page
        * match settings.pace(cell.link.rate) {
            Pace::FlatOut => FLAT_OUT * per_operation,
            Pace::Operations(rate) => rate * per_operation,
            Pace::Writes(rate) => rate,
        };
    // What a re-sent page costs against a whole one; two lengths of up to two bytes around every piece.
    let change = settings.change;
    let delta = (f64::from(change.bytes) + 4.0 * f64::from(change.pieces) + 40.0) / page;
    let share = if cell.engine == Engine::Delta { delta.min(1.0) } else { 1.0 };
    let mut round = first_round(cell) / rate;
    let mut total = round;
    for number in 1..=cell.stop.max_rounds {
        let before = round;
        // Of pages drawn evenly, some are drawn again.
        let dirty = set * (1.0 - (-written * round / set).exp());
        round = dirty * share / rate;
        total += round;
        if round <= cell.stop.downtime_limit.0 || total >= cell.stop.max_time.0 {
            break;
        }
        // Rounds that are all alike are not counted one by one: there may be billions.
        if (round - before).abs() <= 1e-9 * before {
            total += f64::from(cell.stop.max_rounds - number) * round;
            break;
        }
    }
    total.min(cell.stop.max_time.0 + round)
}

//! What each tracker's harvest adds to the bare calls that it cannot do without, over the same guest in the same run: a
//! pass of the guest, ours, a pass, the bare calls, in turns. Both dense (all of 16 MiB, in order) and scattered (a hundredth
//! of the pages of 224 MiB, at random) dirty sets. Target: at most 15 %.
//!
//! | tracker | ours | bare |
//! |---|---|---|
//! | `kvm-bitmap` | harvest | `KVM_GET_DIRTY_LOG` |
//! | `kvm-manual` | harvest, re-arming run by run | `KVM_GET_DIRTY_LOG`, `KVM_CLEAR_DIRTY_LOG` of each chunk with a page in it |
//! | `kvm-ring` | harvest | walking the ring, `KVM_RESET_DIRTY_RINGS` with signals held back |
//! | `uffd-wp` | harvest | `UFFDIO_WRITEPROTECT` of each run of written pages |
//! | `uffd-async` | harvest | `PAGEMAP_SCAN` until the end |

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use migbench::dirty::{DirtyTracker, UffdWp, available, tracker};
use migbench::sys::kvm::{clear_dirty_log, get_dirty_log};
use migbench::sys::pagemap::{PageRange, Pagemap};
use migbench::vm::page_set::PageSet;
use migbench_benches::{Fallible, MedianRange, PassesGuest, quick, run};
use migbench_scenarios::cell::Tracker;
use migbench_workloads::settings::Pattern;
use migbench_workloads::units::{Bytes, PAGE_SIZE};

/// Pairs of ours and bare.
const PAIRS: usize = 11;
/// Where passes take seconds: with a thread in each fault, and with many pages to look through.
const SLOW_PAIRS: usize = 5;

fn main() -> ExitCode {
    run("harvest", every)
}

fn every() -> Fallible<()> {
    println!(
        "harvest: ours over the bare calls that it needs, in turns; median and range of pairs, target 1.15"
    );
    for &(name, which) in Tracker::ALL {
        for scattered in [false, true] {
            compare(name, which, scattered).map_err(|error| format!("{name}: {error}"))?;
        }
    }
    Ok(())
}

fn time<T>(what: impl FnOnce() -> Fallible<T>) -> Fallible<(f64, T)> {
    let start = Instant::now();
    let value = what()?;
    Ok((start.elapsed().as_secs_f64(), value))
}

/// A guest, its tracker, and what the bare calls need.
struct HarvestSubject {
    guest: PassesGuest,
    tracker: Either,
    dirty: PageSet,
    words: Vec<u64>,
    ranges: Vec<PageRange>,
    pagemap: Pagemap,
}

/// The runs of `uffd-wp` are known to it alone.
enum Either {
    Any(Box<dyn DirtyTracker>),
    UffdWp(UffdWp),
}

impl Either {
    fn get(&mut self) -> &mut dyn DirtyTracker {
        match self {
            Self::Any(tracker) => tracker.as_mut(),
            Self::UffdWp(tracker) => tracker,
        }
    }
}

impl HarvestSubject {
    /// Seconds of what this program does, and the pages that it found.
    fn ours(&mut self) -> Fallible<(f64, u64)> {
        self.guest.write();
        self.dirty.clear();
        let Self { tracker, dirty, .. } = self;
        let tracker = tracker.get();
        let (harvest, ()) = time(|| Ok(tracker.harvest(dirty)?))?;
        let found = dirty.len();
        if !tracker.re_arms_lazily() {
            return Ok((harvest, found));
        }
        let (rearm, ()) = time(|| {
            while let Some((first, count)) = dirty.take_run(64) {
                tracker.before_read(first, count)?;
            }
            Ok(())
        })?;
        Ok((harvest + rearm, found))
    }

    /// Seconds of the calls alone.
    fn bare(&mut self) -> Fallible<f64> {
        self.guest.write();
        let Self { guest, tracker, words, ranges, pagemap, .. } = self;
        let machine = Arc::clone(guest.vm.machine());
        let region = guest.vm.ram().regions()[0];
        let get = |words: &mut [u64]| get_dirty_log(machine.vm(), region.slot, region.pages, words);
        let (seconds, ()) = match (guest.cell.tracker, tracker) {
            (Tracker::KvmBitmap, _) => time(|| Ok(get(words)?))?,
            (Tracker::KvmManual, _) => time(|| {
                get(words)?;
                let chunk = usize::try_from(guest.cell.tracker_settings.clear_chunk.0 / PAGE_SIZE / 64)?;
                for (number, words) in words.chunks_mut(chunk).enumerate() {
                    let Some(first) = words.iter().position(|&word| word != 0) else { continue };
                    let last = words.iter().rposition(|&word| word != 0).unwrap_or(first);
                    let page = 64 * (number * chunk + first) as u64;
                    clear_dirty_log(machine.vm(), region.slot, region.pages, page, &mut words[first..=last])?;
                }
                Ok(())
            })?,
            (Tracker::KvmRing, _) => {
                let rings = guest.vm.rings().ok_or("the guest has no rings")?;
                time(|| Ok(rings.discard().map(drop)?))?
            }
            (Tracker::UffdWp, Either::UffdWp(tracker)) => {
                let runs = tracker.take_runs()?;
                time(|| Ok(tracker.protect_runs(&runs)?))?
            }
            (Tracker::UffdAsync, _) => time(|| {
                let (mut at, end) = (region.host_address, region.host_address + region.pages * PAGE_SIZE);
                while at < end {
                    at = pagemap.take_written(at, end, ranges)?.1;
                }
                Ok(())
            })?,
            (Tracker::UffdWp, Either::Any(_)) => return Err("the tracker is of another kind".into()),
        };
        Ok(seconds)
    }
}

fn compare(name: &str, which: Tracker, scattered: bool) -> Fallible<()> {
    let mut cell = PassesGuest::cell(which)?;
    // All entries of a pass: a ring that gets full is emptied by the guest.
    cell.tracker_settings.ring_entries = 1 << 16;
    if scattered {
        cell.settings.working_set = Bytes(224 << 20);
        cell.settings.reads = 0.99;
        cell.settings.pattern = Pattern::Uniform;
    }
    if let Err(error) = available(which, &cell.tracker_settings, cell.backing) {
        println!("  {error}");
        return Ok(());
    }
    let guest = PassesGuest::boot(cell)?;
    let settings = &guest.cell.tracker_settings;
    let tracker = match which {
        Tracker::UffdWp => Either::UffdWp(UffdWp::new(Arc::clone(guest.vm.ram()), settings)),
        _ => Either::Any(tracker(&guest.cell, &guest.vm)?),
    };
    let pages = guest.vm.ram().pages();
    let mut subject = HarvestSubject {
        dirty: PageSet::new(pages)?,
        words: vec![0; usize::try_from(pages.div_ceil(64))?],
        ranges: vec![PageRange::default(); settings.scan_ranges as usize],
        pagemap: Pagemap::open()?,
        guest,
        tracker,
    };
    subject.tracker.get().arm()?;
    // All pages count as written at first, and first accesses cost more than later ones.
    subject.dirty.fill();
    while let Some((first, count)) = subject.dirty.take_run(64) {
        subject.tracker.get().before_read(first, count)?;
    }
    for _ in 0..2 {
        subject.ours()?;
        subject.bare()?;
    }
    let pairs = match which {
        _ if quick() => 1,
        Tracker::UffdWp if !scattered => SLOW_PAIRS,
        Tracker::UffdAsync if scattered => SLOW_PAIRS,
        _ => PAIRS,
    };
    let (mut ours, mut bare, mut found) = (Vec::new(), Vec::new(), 0);
    for pair in 0..pairs {
        // Who comes first takes turns as well.
        let before = if pair % 2 == 0 { Some(subject.bare()?) } else { None };
        let (seconds, pages) = subject.ours()?;
        ours.push(seconds);
        found += pages;
        bare.push(match before {
            Some(seconds) => seconds,
            None => subject.bare()?,
        });
        // A host with few cores has other things to do too.
        std::thread::sleep(Duration::from_millis(1));
    }
    let ratios = ours.iter().zip(&bare).map(|(ours, bare)| ours / bare);
    let micros = |times: &[f64]| MedianRange::of(times.iter().map(|seconds| seconds * 1e6));
    if let (Some(a), Some(b), Some(ratio)) = (micros(&ours), micros(&bare), MedianRange::of(ratios)) {
        let set = if scattered { "scattered" } else { "dense" };
        println!(
            "  {name}, {set}, {} pages: ours {a:.1} us, bare {b:.1} us, medians {:.3}, pairs {ratio:.3}",
            found / pairs as u64,
            a.median / b.median
        );
    }
    Ok(())
}

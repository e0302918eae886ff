//! Arm, harvest and re-arm of each tracker over a guest of 512 MiB that has just written 16 MiB, and beside the
//! harvest of `kvm-bitmap` the bare ioctl that it needs. The bench `harvest` holds all of them to their bare calls.

use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime};
use migbench::dirty::{DirtyTracker, tracker};
use migbench::sys::kvm::get_dirty_log;
use migbench::vm::page_set::PageSet;
use migbench_benches::{PassesGuest, have_kvm};
use migbench_scenarios::cell::Tracker;

fn time(what: impl FnOnce()) -> Duration {
    let start = std::time::Instant::now();
    what();
    start.elapsed()
}

/// Sums `measured` over `times` rounds; a tracker that fails is a bench that fails.
fn bench(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    mut measured: impl FnMut() -> Result<Duration, migbench::dirty::TrackerError>,
) {
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|times| {
            (0..times).map(|_| measured().unwrap_or_else(|error| panic!("{error}"))).sum()
        });
    });
}

fn rearm(tracker: &mut dyn DirtyTracker, dirty: &mut PageSet) -> Result<(), migbench::dirty::TrackerError> {
    while let Some((first, count)) = dirty.take_run(64) {
        tracker.before_read(first, count)?;
    }
    Ok(())
}

fn trackers(criterion: &mut Criterion) {
    if !have_kvm() {
        return;
    }
    for &(name, which) in Tracker::ALL {
        let mut guest = match PassesGuest::cell(which).and_then(PassesGuest::boot) {
            Ok(guest) => guest,
            Err(error) => {
                eprintln!("skipped: {name}: {error}");
                continue;
            }
        };
        let mut group = criterion.benchmark_group(format!("tracker/{name}"));
        group
            .sample_size(10)
            .measurement_time(Duration::from_millis(500))
            .warm_up_time(Duration::from_millis(100));
        let mut tracker = match tracker(&guest.cell, &guest.vm) {
            Ok(tracker) => tracker,
            Err(error) => {
                eprintln!("skipped: {name}: {error}");
                continue;
            }
        };
        let mut dirty = PageSet::new(guest.vm.ram().pages()).expect("a bitmap of 2 KiB");
        bench(&mut group, "arm", || {
            let mut outcome = Ok(());
            let taken = time(|| outcome = tracker.arm());
            outcome?;
            tracker.disarm()?;
            Ok(taken)
        });
        if let Err(error) = tracker.arm() {
            panic!("{error}");
        }
        bench(&mut group, "harvest", || {
            guest.write();
            dirty.clear();
            let mut outcome = Ok(());
            let taken = time(|| outcome = tracker.harvest(&mut dirty));
            outcome?;
            rearm(tracker.as_mut(), &mut dirty)?;
            Ok(taken)
        });
        bench(&mut group, "re-arm", || {
            guest.write();
            dirty.clear();
            tracker.harvest(&mut dirty)?;
            let mut outcome = Ok(());
            let taken = time(|| outcome = rearm(tracker.as_mut(), &mut dirty));
            outcome?;
            Ok(taken)
        });
        if which == Tracker::KvmBitmap {
            let region = guest.vm.ram().regions()[0];
            let mut words = vec![0; usize::try_from(region.pages.div_ceil(64)).unwrap_or(0)];
            bench(&mut group, "bare ioctl", || {
                guest.write();
                let mut outcome = Ok(());
                let machine = Arc::clone(guest.vm.machine());
                let taken =
                    time(|| outcome = get_dirty_log(machine.vm(), region.slot, region.pages, &mut words));
                outcome.map_err(|source| migbench::dirty::TrackerError {
                    tracker: which,
                    action: "read the dirty log",
                    source,
                })?;
                Ok(taken)
            });
        }
        group.finish();
    }
}

criterion_group!(benches, trackers);
criterion_main!(benches);

//! The walk over a set of dirty pages, as the engine makes it once a round, and its count: by how many pages are dirty
//! and how they lie, in a guest of 1 GiB.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use migbench::vm::page_set::PageSet;
use migbench::wire::PageBatch;

/// Of 1 GiB.
const PAGES: u64 = 1 << 18;

/// No page.
fn all_clean() -> PageSet {
    PageSet::new(PAGES).expect("32 KiB")
}

/// Every `stride`th page.
fn scattered(stride: u64) -> PageSet {
    let mut set = all_clean();
    (0..PAGES).step_by(usize::try_from(stride).unwrap_or(usize::MAX)).for_each(|page| set.insert(page));
    set
}

fn walk(criterion: &mut Criterion) {
    let mut all = all_clean();
    all.fill();
    let sets = [
        ("none of 1 GiB", all_clean()),
        ("one in 1000", scattered(1000)),
        ("one in 10", scattered(10)),
        ("every other", scattered(2)),
        ("all", all),
    ];
    let most = PageBatch::PAGES as u64;
    let mut group = criterion.benchmark_group("dirty set");
    group.throughput(Throughput::Elements(PAGES));
    for (name, set) in &sets {
        group.bench_function(BenchmarkId::new("walk", name), |bencher| {
            bencher.iter_batched_ref(
                || set.clone(),
                |set| {
                    let mut pages = 0;
                    while let Some((first, count)) = black_box(&mut *set).take_run(most) {
                        pages += black_box((first, count)).1;
                    }
                    pages
                },
                BatchSize::SmallInput,
            );
        });
        group
            .bench_function(BenchmarkId::new("count", name), |bencher| bencher.iter(|| black_box(set).len()));
    }
}

fn settings() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(500))
}

criterion_group! { name = dirty_set; config = settings(); targets = walk }
criterion_main!(dirty_set);

//! What the codecs cost per page, by how much of the page changed, for every implementation that this CPU can run, beside the
//! floor: reading both pages. Pages come from a pool larger than the caches, as they do in a migration, in the order in which
//! they lie or in a drawn one. Before that, without Criterion, how many bytes each codec makes of a page, and what share of the
//! information bound that reaches.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use migbench::codec::{
    self, Change, CodecBackend, MAX_ENCODED, Mask, PAGE, Page, PageCodec, SLACK, Xbzrle, encode_pair, xbzrle,
};
use migbench::sys::live::LivePage;
use migbench_benches::pages::{DENSITIES, Density, aligned, order};
use migbench_benches::{quick, wanted};
use migbench_scenarios::cell::Codec;

/// Pairs of pages in a pool: 64 MiB.
const PAIRS: usize = 8192;

/// Room for any encoding.
const ROOM: usize = MAX_ENCODED + SLACK;

/// A codec to measure.
struct Named {
    name: String,
    backend: CodecBackend,
    codec: Box<dyn PageCodec>,
}

/// Every codec, those of our own with each backend.
fn codecs() -> Vec<Named> {
    let mut codecs: Vec<Named> = Vec::new();
    for backend in CodecBackend::available() {
        let named = |name, codec| Named { name: format!("{name} {}", backend.name()), backend, codec };
        codecs.push(named("xbzrle", Box::new(Xbzrle::new(backend))));
        codecs.push(named("mask", Box::new(Mask::new(backend))));
    }
    let others = [Codec::Lz4, Codec::Zstd, Codec::Auto].into_iter();
    codecs.extend(others.filter_map(|word| {
        Some(Named { name: word.to_string(), backend: CodecBackend::best(), codec: codec::new(word)? })
    }));
    codecs
}

fn orders(pages: usize) -> [(&'static str, Vec<usize>); 2] {
    [("sequential", order(pages, false)), ("random", order(pages, true))]
}

fn pairs(density: Density) -> Vec<(Page, Page)> {
    density.pairs(if quick() { 64 } else { PAIRS })
}

/// Reads both pages.
fn read(old: &Page, new: &Page) -> u64 {
    let words =
        |page: &Page| page.as_chunks::<8>().0.iter().fold(0, |all, word| all ^ u64::from_ne_bytes(*word));
    words(old) ^ words(new)
}

fn encode(criterion: &mut Criterion) {
    for &(name, density) in DENSITIES {
        let pairs = pairs(density);
        let states = (
            aligned(&pairs, |pair| &pair.0),
            aligned(&pairs, |pair| &pair.0),
            aligned(&pairs, |pair| &pair.1),
        );
        let (Ok(mut held), Ok(one), Ok(other)) = states else { panic!("no memory for the pools") };
        for (order_name, order) in orders(pairs.len()) {
            let mut group = criterion.benchmark_group(format!("encode, {name}, {order_name}"));
            group.bench_function("floor: reading both pages", |bencher| {
                let mut next = order.iter().cycle();
                bencher.iter(|| next.next().map(|&page| read(black_box(&held[page]), black_box(&one[page]))));
            });
            group.bench_function("xbzrle scalar, of two pages that stay", |bencher| {
                let (mut next, mut out) = (order.iter().cycle(), [0; ROOM]);
                bencher.iter(|| {
                    let page = *next.next()?;
                    xbzrle::encode_scalar(black_box(&one[page]), black_box(&other[page]), &mut out)
                });
            });
            for Named { name, backend, mut codec } in codecs() {
                group.bench_function(name, |bencher| {
                    // What is held becomes one state and the other in turn, so that there is always the same change.
                    held.copy_from_slice(&one);
                    let (mut change, mut out) = (Change::new(backend), [0; ROOM]);
                    let mut next = order
                        .iter()
                        .map(|page| (page, &other))
                        .chain(order.iter().map(|page| (page, &one)))
                        .cycle();
                    bencher.iter(|| {
                        let (&page, live) = next.next()?;
                        change.merge(LivePage::of(&live[page]), &mut held[page], codec.takes_old());
                        Some(
                            change.is_none()
                                || codec.encode(page as u64, &change, &held[page], &mut out).is_none(),
                        )
                    });
                });
            }
        }
    }
}

fn decode(criterion: &mut Criterion) {
    for &(name, density) in DENSITIES {
        let pairs = pairs(density);
        for (order_name, order) in orders(pairs.len()) {
            let mut group = criterion.benchmark_group(format!("decode, {name}, {order_name}"));
            for Named { name, backend, mut codec } in codecs() {
                let mut out = [0; ROOM];
                let encoded = (0..).zip(&pairs).map_while(|(page, (old, new))| {
                    let length = encode_pair(codec.as_mut(), backend, page, [old, new], &mut out)?;
                    (length > 0).then(|| (*old, out[..length].to_vec()))
                });
                let mut encoded: Vec<_> = encoded.collect();
                if encoded.len() < pairs.len() {
                    continue;
                }
                group.bench_function(name, |bencher| {
                    let mut next = order.iter().cycle();
                    bencher.iter(|| {
                        let (page, encoding) = &mut encoded[*next.next()?];
                        Some(codec.decode(black_box(encoding), page))
                    });
                });
            }
            let mut copies = vec![[0; PAGE]; pairs.len()];
            group.bench_function("a copy of the page", |bencher| {
                let mut next = order.iter().cycle();
                bencher.iter(|| {
                    let page = *next.next()?;
                    copies[page] = *black_box(&pairs[page].1);
                    Some(())
                });
            });
        }
    }
}

fn zero(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("zero test, per page");
    let count = if quick() { 64 } else { 2 * PAIRS };
    let zeros = vec![[0; PAGE]; count];
    let filled: Vec<Page> = Density::Words(0).pairs(count).into_iter().map(|(page, _)| page).collect();
    for (name, pages) in [("zero page", &zeros), ("random page", &filled)] {
        for backend in CodecBackend::available() {
            group.bench_function(BenchmarkId::new(name, backend.name()), |bencher| {
                let mut next = pages.iter().cycle();
                bencher.iter(|| Some(backend.is_zero(black_box(next.next()?))));
            });
        }
    }
}

/// Prints mean bytes of an encoding, an overflow counted as a page, and the share of the bound in them.
#[expect(clippy::cast_precision_loss, reason = "sums of a thousand pages")]
fn sizes(_: &mut Criterion) {
    const PAGES: usize = 1000;
    if !wanted("sizes") {
        return;
    }
    let words = [Codec::Xbzrle, Codec::Mask, Codec::Lz4, Codec::Zstd];
    println!("bytes of an encoding, and what share of them the information bound is\n");
    println!("| changed | bound | {} |", words.map(Codec::word).join(" | "));
    println!("|---|---{}|", "|---".repeat(words.len()));
    for &(name, density) in DENSITIES.iter().filter(|(name, _)| *name != "nothing") {
        let (bound, pairs) = (density.bound(), density.pairs(PAGES));
        let cells = words.into_iter().filter_map(codec::new).map(|mut codec| {
            let mut out = [0; ROOM];
            let sum: usize = (0..)
                .zip(&pairs)
                .map(|(page, (old, new))| {
                    let best = CodecBackend::best();
                    encode_pair(codec.as_mut(), best, page, [old, new], &mut out).unwrap_or(PAGE)
                })
                .sum();
            let mean = sum as f64 / PAGES as f64;
            format!("{mean:.0} ({:.0} %)", 100.0 * bound / mean)
        });
        println!("| {name} | {bound:.0} | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
    println!();
}

fn settings() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(500))
}

criterion_group! { name = codec; config = settings(); targets = sizes, encode, decode, zero }
criterion_main!(codec);

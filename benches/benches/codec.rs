//! What the codec costs per page, by how much of the page changed, for every implementation that this CPU
//! can run. Pages come from a pool larger than the caches, as they do in a migration.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use migbench::codec::{CodecBackend, PAGE, Page, XbzrleOutcome, xbzrle};

/// Pairs of pages in a pool: 64 MiB.
const PAIRS: usize = 8192;

/// A small generator, so that every run encodes the same pages.
struct Xorshift(u64);

impl Xorshift {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn page(&mut self) -> Page {
        let mut page = [0; PAGE];
        page.as_chunks_mut::<8>().0.iter_mut().for_each(|word| *word = self.next().to_le_bytes());
        page
    }
}

/// How a page is changed.
type PageMutation = fn(&mut Page, &mut Xorshift);

const CHANGES: &[(&str, PageMutation)] = &[
    ("nothing", |_, _| {}),
    ("one word", |page, random| change_words(page, random, 1)),
    ("32 scattered words", |page, random| change_words(page, random, 32)),
    ("256 scattered words", |page, random| change_words(page, random, 256)),
    ("every third byte", |page, _| page.iter_mut().step_by(3).for_each(|byte| *byte ^= 1)),
    ("everything", |page, random| *page = random.page()),
];

/// Changes every byte of `count` different words.
fn change_words(page: &mut Page, random: &mut Xorshift, mut count: usize) {
    let words = page.as_chunks_mut::<8>().0;
    let mut changed = vec![false; words.len()];
    let length = words.len() as u64;
    while count > 0 {
        let at = usize::try_from(random.next() % length).unwrap_or(0);
        if !std::mem::replace(&mut changed[at], true) {
            words[at] = (u64::from_le_bytes(words[at]) ^ 0x0101_0101_0101_0101).to_le_bytes();
            count -= 1;
        }
    }
}

fn pool(change: PageMutation) -> Vec<(Page, Page)> {
    let mut random = Xorshift(0x9e37_79b9_7f4a_7c15);
    let mut pairs = Vec::with_capacity(PAIRS);
    for _ in 0..PAIRS {
        let old = random.page();
        let mut new = old;
        change(&mut new, &mut random);
        pairs.push((old, new));
    }
    pairs
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("xbzrle encode, per page");
    for &(name, change) in CHANGES {
        let pairs = pool(change);
        for backend in CodecBackend::available() {
            group.bench_function(BenchmarkId::new(name, backend.name()), |bencher| {
                let mut next = pairs.iter().cycle();
                let mut out = [0; PAGE + 64];
                bencher.iter(|| {
                    let (old, new) = next.next()?;
                    Some(backend.encode_xbzrle(black_box(old), black_box(new), &mut out))
                });
            });
        }
    }
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("xbzrle decode, per page");
    for &(name, change) in CHANGES {
        let mut pages = Vec::new();
        let mut out = [0; PAGE + 64];
        for (old, new) in pool(change) {
            if let XbzrleOutcome::Delta(length) = xbzrle::encode(&old, &new, &mut out) {
                pages.push((old, out[..length].to_vec()));
            }
        }
        if pages.is_empty() {
            continue;
        }
        group.bench_function(name, |bencher| {
            let mut at = 0;
            bencher.iter(|| {
                at = (at + 1) % pages.len();
                let (page, delta) = &mut pages[at];
                xbzrle::decode(black_box(delta), page)
            });
        });
    }
}

fn zero(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("zero test, per page");
    let zeros = vec![[0; PAGE]; 2 * PAIRS];
    let mut random = Xorshift(1);
    let filled: Vec<Page> = (0..2 * PAIRS).map(|_| random.page()).collect();
    for (name, pages) in [("zero page", &zeros), ("random page", &filled)] {
        for backend in CodecBackend::available() {
            group.bench_function(BenchmarkId::new(name, backend.name()), |bencher| {
                let mut next = pages.iter().cycle();
                bencher.iter(|| Some(backend.is_zero(black_box(next.next()?))));
            });
        }
    }
}

fn settings() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(500))
}

criterion_group! { name = codec; config = settings(); targets = encode, decode, zero }
criterion_main!(codec);

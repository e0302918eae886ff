//! What the wire costs: the checksums of a frame, and whole pages through a Unix socket as a migration sends
//! them (copied once, tested for zero, framed, verified, copied into prepared memory) against the same bytes
//! through the same kind of socket with nothing else. The ratio of the two is printed at the end, from passes
//! that take turns so that a drift of the host hits both alike.

use std::hint::black_box;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use migbench::codec::{PAGE, Page, is_zero};
use migbench::wire::frame::{self, FrameKind};
use migbench::wire::{Link, PageBatch, PageRecord, PageRecords};
use migbench_benches::wanted;
use nix::sys::socket::{setsockopt, sockopt};

/// Pages of one pass: 128 MiB, well over any cache.
const PAGES: usize = 32 << 10;

/// Passes of each kind for the ratio.
const PASSES: usize = 9;

/// Bytes of one write or read of the reference.
const CHUNK: usize = 256 << 10;

const TIMEOUT: Duration = Duration::from_secs(30);

/// The group whose ratio is printed at the end.
const SOCKET: &str = "128 MiB through a socket";

fn random_pages(count: usize) -> Vec<Page> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut pages = vec![[0; PAGE]; count];
    for word in pages.as_flattened_mut().as_chunks_mut::<8>().0 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *word = state.to_le_bytes();
    }
    pages
}

/// A source, and a destination that was written once so that no page of it is missing.
struct BenchMemory {
    source: Vec<Page>,
    destination: Vec<Page>,
}

impl BenchMemory {
    fn new() -> Self {
        Self { source: random_pages(PAGES), destination: vec![[1; PAGE]; PAGES] }
    }
}

/// The time from the first write to the receipt of a word that all has arrived.
fn raw_pass(memory: &mut BenchMemory) -> Duration {
    let (mut here, mut there) = UnixStream::pair().expect("a socket pair");
    setsockopt(&here, sockopt::SndBuf, &(1 << 20)).expect("a socket buffer");
    let BenchMemory { source, destination } = memory;
    thread::scope(|scope| {
        scope.spawn(move || {
            for chunk in destination.as_flattened_mut().chunks_mut(CHUNK) {
                there.read_exact(chunk).expect("the raw bytes");
            }
            there.write_all(&[1]).expect("the word");
        });
        let start = Instant::now();
        for chunk in source.as_flattened().chunks(CHUNK) {
            here.write_all(chunk).expect("the raw bytes");
        }
        here.read_exact(&mut [0]).expect("the word");
        start.elapsed()
    })
}

/// The same for frames of whole pages.
fn framed_pass(memory: &mut BenchMemory, batch_pages: usize) -> Duration {
    let (mut here, mut there) = Link::pair(TIMEOUT).expect("a link");
    let BenchMemory { source, destination } = memory;
    thread::scope(|scope| {
        scope.spawn(move || {
            loop {
                let frame = there.recv().expect("a frame");
                if frame.kind != FrameKind::Pages {
                    break;
                }
                for record in PageRecords::parse(&frame, PAGES as u64).expect("sound records") {
                    let PageRecord::Full { first, data: Some(data), .. } = record else {
                        panic!("not a whole page")
                    };
                    let at = usize::try_from(first).expect("a page number") * PAGE;
                    destination.as_flattened_mut()[at..at + data.len()].copy_from_slice(data);
                }
            }
            there.send(FrameKind::Done, &[]).expect("the word");
        });
        let start = Instant::now();
        let mut batch = PageBatch::new();
        let mut staged = vec![[0; PAGE]; batch_pages];
        let mut pfn = 0;
        for run in source.chunks(batch_pages) {
            staged[..run.len()].copy_from_slice(run);
            for page in &staged[..run.len()] {
                if is_zero(page) {
                    batch.push_zero(pfn)
                } else {
                    batch.push_whole(pfn)
                }
                pfn += 1;
            }
            here.sender_mut().send_pages(&mut batch, &[], &[staged.as_flattened()], &[]).expect("a batch");
            batch.clear();
        }
        here.send(FrameKind::RoundEnd, &[]).expect("the end");
        here.recv().expect("the word");
        start.elapsed()
    })
}

fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame of 64 pages");
    let pages = random_pages(64);
    let payload = pages.as_flattened();
    group.throughput(Throughput::Bytes(payload.len() as u64));
    group.bench_function("encode the header", |bencher| {
        bencher.iter(|| frame::encode_header(FrameKind::Pages, 1, [black_box(payload)], 0));
    });
    let mut bytes = frame::encode_header(FrameKind::Pages, 1, [payload], 0).expect("a frame").to_vec();
    bytes.extend_from_slice(payload);
    group.bench_function("decode", |bencher| {
        bencher.iter(|| frame::decode(black_box(&bytes), 0, 1).is_ok());
    });
}

fn socket(criterion: &mut Criterion, memory: &mut BenchMemory) {
    let mut group = criterion.benchmark_group(SOCKET);
    group.throughput(Throughput::Bytes((PAGES * PAGE) as u64));
    group.bench_function("raw", |bencher| {
        bencher.iter_custom(|passes| (0..passes).map(|_| raw_pass(memory)).sum());
    });
    for pages in [16, PageBatch::PAGES / 2, PageBatch::PAGES] {
        group.bench_function(format!("framed, {pages} pages a batch"), |bencher| {
            bencher.iter_custom(|passes| (0..passes).map(|_| framed_pass(memory, pages)).sum());
        });
    }
}

/// Gigabytes per second of the median pass.
fn median_rate(mut passes: Vec<Duration>) -> f64 {
    passes.sort_unstable();
    #[expect(clippy::cast_precision_loss, reason = "a size of 27 bits")]
    let bytes = (PAGES * PAGE) as f64;
    bytes / passes[passes.len() / 2].as_secs_f64() / 1e9
}

fn print_ratio(memory: &mut BenchMemory) {
    let (mut raw, mut framed) = (Vec::new(), Vec::new());
    for _ in 0..PASSES {
        raw.push(raw_pass(memory));
        framed.push(framed_pass(memory, PageBatch::PAGES));
    }
    assert!(memory.source == memory.destination, "the pages arrived changed");
    let (raw, framed) = (median_rate(raw), median_rate(framed));
    println!("full pages over a unix socket, median of {PASSES} passes of 128 MiB:");
    println!("  raw {raw:.2} GB/s, framed {framed:.2} GB/s, ratio {:.2}", framed / raw);
}

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(500))
        .configure_from_args();
    let mut memory = BenchMemory::new();
    frames(&mut criterion);
    socket(&mut criterion, &mut memory);
    if wanted(SOCKET) {
        print_ratio(&mut memory);
    }
    criterion.final_summary();
}

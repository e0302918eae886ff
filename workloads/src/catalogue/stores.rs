//! Programs that keep data: key-value store, page cache, collector, journal.

use super::NamedWorkload;
use crate::settings::{Content, Load, Pattern, ProgramName, Settings};

/// YCSB's request distribution.
const ZIPF: Pattern = Pattern::Zipf(0.99);

fn kv() -> Settings {
    Settings {
        program: ProgramName::Kv,
        pattern: ZIPF,
        accesses: 8,
        content: Content::Random,
        load: Load::Pressure(0.7),
        ..Settings::BASE
    }
}

pub(super) fn named() -> Vec<NamedWorkload> {
    vec![
        NamedWorkload {
            name: "kv-a",
            summary: "a key-value store, YCSB A: half reads, half updates",
            about: "Models a session store: a hash index, a heap of records and free lists in guest memory, under \
YCSB's workload A.\n\n\
- 50 % of the operations read, 50 % update. An operation is a pipeline of 8 requests of one kind (`accesses`), \
since a single one takes a fraction of a microsecond.\n\
- Keys by a Zipf distribution of exponent 0.99, scrambled, as in YCSB: the most popular of some 80,000 keys gets 8 % of \
the requests.\n\
- Values of 64 bytes to 2 KiB, as many of each power of two, with a checksum that every read verifies. An update writes a \
whole new value, in place unless one in eight draws a length of another class: then it takes a block from \
that class's free list, frees its own and changes the index.\n\
- Values are random bytes, as YCSB's are; `settings.content` has others.\n\
- Pressure 0.7: written pages, a page counted once per operation, amount to 70 % of the link. 64 MiB working set.\n\n\
Look for: far fewer dirty pages than page writes, because popular records are written again and again; a dirty set \
that hardly shrinks with shorter rounds, because it is the popular keys; `latency_update` in pre-copy beside \
`latency_read`.",
            settings: Settings { reads: 0.5, ..kv() },
        },
        NamedWorkload {
            name: "kv-b",
            summary: "a key-value store, YCSB B: 95 % reads, 5 % updates",
            about: "Models a store of tags or profiles: `kv-a` with YCSB's workload B.\n\n\
- 95 % of the operations read, 5 % update; all else is as in `kv-a`.\n\
- Pressure 0.1, for the reason `read-heavy` has it: at the same share of the link as `kv-a` it would need ten times as many \
operations.\n\n\
Look for: rounds that shrink fast, and what tracking costs operations that only read.",
            settings: Settings { reads: 0.95, load: Load::Pressure(0.1), ..kv() },
        },
        NamedWorkload {
            name: "kv-c",
            summary: "a key-value store, YCSB C: reads only",
            about: "Models a cache of profiles that are made elsewhere: `kv-a` with YCSB's workload C.\n\n\
- Nothing is ever written, so the load is given in operations: 20,000 per second, of 8 lookups each, which shows a blackout to \
within 50 us.\n\n\
Look for: no dirty page but those of the guest's own state; so total time is that of one pass over memory, downtime the \
fixed cost of a handover, and `latency_read` in pre-copy the price of tracking and of the sender's use of the memory bus.",
            settings: Settings { reads: 1.0, load: Load::Operations(20_000.0), ..kv() },
        },
        NamedWorkload {
            name: "kv-f",
            summary: "a key-value store, YCSB F: half reads, half read-modify-writes",
            about: "Models a store of user records: `kv-a` with YCSB's workload F.\n\n\
- 50 % of the operations read; the others read a record, verify it and change one field of 64 bytes in it, with its version and \
checksum. Where a modification draws another length (one in eight), the value is cut or grows.\n\
- All else is as in `kv-a`.\n\n\
Look for: as many dirty pages as in `kv-a` at the same pressure, but less changed in each: the two show what the size of a \
change does to a delta codec.",
            settings: Settings { program: ProgramName::KvModify, reads: 0.5, ..kv() },
        },
        NamedWorkload {
            name: "page-cache",
            summary: "file blocks read through a cache: only reads to its user, dirty pages to a hypervisor",
            about: "Models a file server or a search index larger than memory: blocks of 4 KiB are read through a cache of \
frames, and what is not there is loaded.\n\n\
- The file has four blocks for each frame of the cache, so that most requests hit and many still miss.\n\
- An operation reads a run of 8 blocks (`accesses`), 32 KiB, as a file system's read-ahead does; it is a `lookup` where all \
were there, a `load` where any was not. Runs are chosen by a Zipf distribution of exponent 0.99, scrambled.\n\
- CLOCK chooses what to evict: it clears the marks of frames that were used, which dirties the table of frames too.\n\
- A block's content follows from its number and the seed alone: random bytes, as of compressed files. The guest makes it \
itself, where a real one would wait for a device.\n\
- Pressure 0.5: frames loaded and words marked amount to half of the link, in pages.\n\n\
Look for: dirty pages of a guest whose user never writes; each is new from end to end, so that a delta has nothing to \
go by and should cost no more than the page.",
            settings: Settings {
                program: ProgramName::PageCache,
                pattern: ZIPF,
                accesses: 8,
                content: Content::Random,
                load: Load::Pressure(0.5),
                ..Settings::BASE
            },
        },
        NamedWorkload {
            name: "gc",
            summary: "a managed heap with a copying collector: dirties everything in bursts",
            about: "Models a managed runtime: trees of small objects are allocated in one of two semi-spaces, and when it is \
full, Cheney's collector copies what lives to the other.\n\n\
- An `allocate` is 4 trees (`accesses`), each a node with seven leaves of 48 to 520 bytes of its own and one of another \
tree. Seven of eight trees replace one in an eighth of the roots, so that most die young. A little over a third of a space lives \
on at a collection.\n\
- A collection stops the mutator; it is cut into `collect` steps of at most 16 KiB copied. Copies go to the \
other space, and each object that moved is marked in the old one.\n\
- Objects hold structured records (`settings.content`), as objects of programs do: many small and zero fields.\n\
- Pressure 0.3, on average: a collection writes many more pages per operation than allocation does, so its bursts are well \
above that.\n\n\
Look for: rounds whose size depends on whether a collection fell into them, hence total times that scatter; p99.9 of the \
response time, which the collections make, with and without a migration. Memory is written anew at each turn, so the page \
that a delta codec knows holds other objects by then.",
            settings: Settings {
                program: ProgramName::Gc,
                accesses: 4,
                content: Content::Records,
                load: Load::Pressure(0.3),
                ..Settings::BASE
            },
        },
        NamedWorkload {
            name: "log",
            summary: "an append-only journal with checkpoints",
            about: "Models a database's journal or a log-structured store: records are appended to a ring that takes up seven \
eighths of the working set, and checkpoints rewrite a table at a fixed place, the other eighth.\n\n\
- An `append` is a group commit of 16 records (`accesses`) of 88 bytes to 1 KiB, each with its sequence number, length and \
checksum.\n\
- After three eighths of the ring a checkpoint rewrites the table, two pages per `checkpoint` step; no record is appended \
meanwhile. The window from the checkpoint before the last one to the head is intact at any time.\n\
- Rows are structured records (`settings.content`): keys, counters and empty fields.\n\
- Pressure 0.5: written pages amount to half of the link.\n\n\
Look for: two kinds of dirty pages. The window's are new and are not written again for a long time, so that every engine \
sends them once. The table's come back with each checkpoint, changed a little: these a delta can save.",
            settings: Settings {
                program: ProgramName::Log,
                accesses: 16,
                content: Content::Records,
                load: Load::Pressure(0.5),
                ..Settings::BASE
            },
        },
    ]
}

//! Programs that keep data: key-value store, page cache, collector, journal.

use super::Named;
use crate::settings::{Content, Load, Pattern, Program, Settings};

/// YCSB's request distribution.
const ZIPF: Pattern = Pattern::Zipf(0.99);

fn kv() -> Settings {
    Settings {
        program: Program::Kv,
        pattern: ZIPF,
        accesses: 16,
        content: Content::Random,
        load: Load::Pressure(0.5),
        ..Settings::BASE
    }
}

pub(super) fn named() -> Vec<Named> {
    vec![
        Named {
            name: "kv-a",
            summary: "a key-value store, YCSB A: half reads, half updates",
            about: "Models a session store: a hash index, a heap of records and free lists in guest memory, under \
YCSB's workload A.\n\n\
- 50 % of the operations read, 50 % update. An operation is a pipeline of 16 requests of one kind (`accesses`), \
since a single one takes a fraction of a microsecond.\n\
- Keys by a Zipf distribution of exponent 0.99, scrambled, as in YCSB: the most popular of some 80,000 keys gets 8 % of \
the requests.\n\
- Values of 64 bytes to 2 KiB, as many of each power of two, with a checksum that every read verifies. An update writes a \
whole new value, in place unless one in eight draws a length of another class: then it takes a block from \
that class's free list, frees its own and changes the index.\n\
- Values are random bytes, as YCSB's are; `settings.content` has others.\n\
- Pressure 0.5: written pages, a page counted once per operation, amount to half of the link. 64 MiB working set.\n\n\
Look for: far fewer dirty pages than page writes, because popular records are written again and again; a dirty set \
that hardly shrinks with shorter rounds, because it is the popular keys; `latency_update` in pre-copy beside \
`latency_read`.",
            settings: Settings { reads: 0.5, ..kv() },
        },
        Named {
            name: "kv-b",
            summary: "a key-value store, YCSB B: 95 % reads, 5 % updates",
            about: "Models a store of tags or profiles: `kv-a` with YCSB's workload B.\n\n\
- 95 % of the operations read, 5 % update; all else is as in `kv-a`.\n\
- Pressure 0.1, for the reason `read-heavy` has it: at the same share of the link as `kv-a` it would need ten times as many \
operations.\n\n\
Look for: rounds that shrink fast, and what tracking costs operations that only read.",
            settings: Settings { reads: 0.95, load: Load::Pressure(0.1), ..kv() },
        },
        Named {
            name: "kv-c",
            summary: "a key-value store, YCSB C: reads only",
            about: "Models a cache of profiles that are made elsewhere: `kv-a` with YCSB's workload C.\n\n\
- Nothing is ever written, so the load is 20,000 operations of 16 lookups per second, about as many as `kv-b` has.\n\n\
Look for: no dirty page but those of the guest's own state; so total time is that of one pass over memory, downtime the \
fixed cost of a handover, and `latency_read` in pre-copy the price of tracking and of the sender's use of the memory bus.",
            settings: Settings { reads: 1.0, load: Load::Operations(20_000.0), ..kv() },
        },
        Named {
            name: "kv-f",
            summary: "a key-value store, YCSB F: half reads, half read-modify-writes",
            about: "Models a store of user records: `kv-a` with YCSB's workload F.\n\n\
- 50 % of the operations read; the others read a record, verify it and change one field of 64 bytes in it, with its version and \
checksum. Where a modification draws another length (one in eight), the value is cut or grows.\n\
- All else is as in `kv-a`.\n\n\
Look for: as many dirty pages as in `kv-a` at the same pressure, but less changed in each: the two show what the size of a \
change does to a delta codec.",
            settings: Settings { program: Program::KvModify, reads: 0.5, ..kv() },
        },
    ]
}

//! The parametric kernel at its usual settings.

use super::NamedWorkload;
use crate::settings::{Content, Load, Pattern, Settings};
use crate::units::Bytes;

pub(super) fn named() -> Vec<NamedWorkload> {
    vec![
        NamedWorkload {
            name: "read-heavy",
            summary: "a cache or a search index: mostly reads, a few pages written",
            about: "Models a service that answers from memory and updates little, such as a cache or a search \
index.\n\n\
- 95 % of the operations only read. Reads dirty nothing, so this share shows what tracking costs the rest.\n\
- Pressure 0.1: written pages amount to a tenth of the link. The guest writes at a set rate; a flat-out guest \
with 5 % writes would dirty its whole working set in a tenth of a second and be write-heavy in truth.\n\
- 64 MiB working set, uniform: every page is equally likely, so no hot set hides the cost of a round.\n\
- 64 accesses per operation make it some 2 us long, which keeps the cost of timing it to a few percent.\n\
- A page write changes 256 random bytes in 4 runs that move: a small update to several fields of a page.\n\n\
Look for: a second round that is small already, total time near that of one pass over memory, and read \
latency in pre-copy beside its steady value. Delta has little to save here, because most traffic is the first \
round.",
            settings: Settings { reads: 0.95, load: Load::Pressure(0.1), ..Settings::BASE },
        },
        NamedWorkload {
            name: "write-heavy",
            summary: "a database under load: half of the operations write",
            about: "Models a store that is written as much as it is read, such as a database buffer pool or a \
key-value store under load.\n\n\
- Half of the operations write one page each; the others only read.\n\
- Pressure 0.8: written pages amount to 80 % of the link, so that plain pre-copy converges but needs several \
rounds. At 1 and above it would not converge by itself once the working set is larger than what the downtime \
limit allows.\n\
- Working set, pattern, operation and change are those of `read-heavy`, so that the two differ only in how much \
is written.\n\n\
Look for: rounds and amplification of the baseline (they bound what delta can save), downtime, and write \
latency in pre-copy, where the first write to a tracked page pays for the tracking.",
            settings: Settings { reads: 0.5, load: Load::Pressure(0.8), ..Settings::BASE },
        },
        NamedWorkload {
            name: "mixed",
            summary: "an application server: four reads for each write, a hot set",
            about: "Models a service between the two before it, such as an application server with its sessions: it reads \
more than it writes, and a few pages get most of both.\n\n\
- 80 % of the operations only read; every other one writes one page besides.\n\
- Pressure 0.4: page writes amount to 40 % of the link.\n\
- 64 MiB working set, Zipf with exponent 0.99 (YCSB's): a hundredth of the pages gets over half of the accesses, so \
dirty pages are fewer than page writes, and the hot set is dirty at every harvest.\n\
- What is written are records of eight 8-byte fields, most of which seldom change, where the other workloads write noise: \
256 bytes in 4 runs that move.\n\n\
Look for: rounds that shrink to the hot set and then stop shrinking, which is what downtime is made of, and the delta of \
pages that are sent many times.",
            settings: Settings {
                reads: 0.8,
                pattern: Pattern::Zipf(0.99),
                content: Content::Records,
                load: Load::Pressure(0.4),
                ..Settings::BASE
            },
        },
        NamedWorkload {
            name: "idle",
            summary: "a guest with nothing to do but a heartbeat",
            about: "Models a guest that waits. It writes nothing; a heartbeat operation every 10 us (over all vCPUs \
together) reads one word, so that its blackout can be seen to within 10 us.\n\n\
- 100,000 operations per second of one read access each, in a working set of 4 MiB that fits into caches.\n\
- The operations are shorter than those of the other workloads: their latency measures the clock, not memory.\n\n\
Look for: downtime and blackout. There is nothing to re-send, so what remains is the fixed cost of a handover: \
pausing, the last harvest, the state, and resuming.",
            settings: Settings {
                working_set: Bytes(4 << 20),
                reads: 1.0,
                accesses: 1,
                load: Load::Operations(100_000.0),
                ..Settings::BASE
            },
        },
    ]
}

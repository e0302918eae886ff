//! Canonical points from elsewhere, so that results can be laid beside theirs. All are closed loops by nature.

use super::NamedWorkload;
use crate::settings::{Content, Load, PageChange, Pattern, ProgramName, Settings};
use crate::units::Bytes;

pub(super) fn named() -> Vec<NamedWorkload> {
    vec![
        NamedWorkload {
            name: "memstress",
            summary: "kernel selftests: a constant stored to the start of each page (flat-out)",
            about: "The guest code of `memstress` in Linux's KVM selftests (tools/testing/selftests/kvm/lib/memstress.c), \
which `dirty_log_perf_test` runs: the 8-byte constant 0x0123456789abcdef is stored to the start of each page, page after \
page, pass after pass.\n\n\
- Sequential, all writes, which are the selftest's own defaults. Pages are zero but for the constant, which they hold \
from the start, since the selftest populates memory in a pass of its own.\n\
- 64 pages per operation: shorter than 2 us while nothing is tracked, so that timing it costs several percent, and 64 \
faults long where each page is tracked, so that more would blur blackout. 64 MiB working set (ours; \
the selftest's is what its user says).\n\
- Flat-out, as there: the whole working set is dirty at each harvest, so plain pre-copy over a link of 1 Gbit/s does not \
finish by itself. Run it with `stop.max_rounds` set low and expect `capped`, or set `settings.load`.\n\n\
Look for: a delta encoder that looks perfect. A page is dirty and holds what it held, so nothing but its number is sent; \
no real program is like that. It is a good measure of tracking alone: the cost of a fault per page.",
            settings: Settings { program: ProgramName::Memstress, load: Load::FlatOut, ..Settings::BASE },
        },
        NamedWorkload {
            name: "xbzrle-doc",
            summary: "QEMU's XBZRLE document: one byte incremented in each KiB of 16 MiB (flat-out)",
            about: "The \"simple synthetic memory r/w load generator\" of QEMU's description of XBZRLE (docs/xbzrle.txt, \
today docs/devel/migration): one byte in each KiB of 16 MiB is incremented, over and over. The document says that with XBZRLE the \
migration took 110 s and that without it would not complete.\n\n\
- 16 MiB that start as zeros: 4 bytes of a page change per pass, and its other bytes never.\n\
- 64 pages per operation: shorter than 2 us while nothing is tracked, so that timing it costs several percent, and 64 \
faults long where each page is tracked, so that more would blur blackout.\n\
- Flat-out, as there: all of it is dirty at each harvest. 16 MiB take 134 ms over 1 Gbit/s, so plain pre-copy finishes \
after its first round under a downtime limit of 300 ms. Under a lower limit, or over a slower link, it does not finish: \
run it with `stop.max_rounds` set low and expect `capped`, or set `settings.load`.\n\n\
Look for: a delta encoder near its best. A page is 4 changed bytes and the lengths of the runs between them, under 20 \
bytes of 4096; the encoder's speed and its cache are what it tests.",
            settings: Settings {
                program: ProgramName::XbzrleDoc,
                working_set: Bytes(16 << 20),
                load: Load::FlatOut,
                ..Settings::BASE
            },
        },
        NamedWorkload {
            name: "guestperf-stress",
            summary: "QEMU's guestperf: every word XORed with random data (flat-out)",
            about: "The `stress` program of QEMU's guestperf (tests/migration/stress.c and its successors): every 8-byte word \
of memory is XORed with the word at the same place of a page of random data, page after page, pass after pass.\n\n\
- As there, memory starts as bytes 0xfe, each vCPU draws one page of random data, and uses that same page for ever. So \
a page alternates between two contents, and one that is written an even number of times between two sends has not \
changed.\n\
- 4 pages per operation. 64 MiB working set (ours; guestperf's is most of the guest's memory).\n\
- Flat-out, as there: the whole working set is dirty at each harvest, so plain pre-copy over a link of 1 Gbit/s does not \
finish by itself. Run it with `stop.max_rounds` set low and expect `capped`, or set `settings.load`.\n\n\
Look for: a delta encoder that is useless. Every word of a changed page differs, so each try overflows and the whole page \
is sent; what delta seems to save are pages that came back to what they were (`pages_unchanged`), which is chance. \
Compressors see highly repetitive data: all pages of a vCPU are one of two.",
            settings: Settings { program: ProgramName::Guestperf, load: Load::FlatOut, ..Settings::BASE },
        },
        NamedWorkload {
            name: "mmuncher",
            summary: "half of the memory rewritten all the time with new content (flat-out)",
            about: "After the memory muncher of studies of live migration: a program that rewrites half of the guest's memory \
all the time. That much is known to us; its source is not. The settings are ours.\n\n\
- 64 MiB working set: half of a guest of 128 MiB. Set `settings.working_set` along with `memory`.\n\
- Pages in address order, each rewritten whole (4080 random bytes and its counter): of all ways to rewrite memory the \
hardest to save anything on.\n\
- 4 pages per operation, all writes.\n\
- Flat-out: the whole working set is dirty at each harvest, so plain pre-copy over a link of 1 Gbit/s does not finish \
by itself. Run it with `stop.max_rounds` set low and expect `capped`, or set `settings.load`.\n\n\
Look for: what an engine does when it can't win. Delta finds nothing in any page, at full cost, and both engines end with the \
working set sent while the guest is paused.",
            settings: Settings {
                reads: 0.0,
                pattern: Pattern::Sequential,
                accesses: 4,
                writes: 4,
                change: PageChange { bytes: 4080, pieces: 1, moves: false },
                content: Content::Random,
                load: Load::FlatOut,
                ..Settings::BASE
            },
        },
    ]
}

//! Programs that compute over arrays: a column store, a sort, a product of matrices, and a stream.

use super::NamedWorkload;
use crate::settings::{Load, ProgramName, Settings};

pub(super) fn named() -> Vec<NamedWorkload> {
    vec![
        NamedWorkload {
            name: "analytics",
            summary: "a column store: scans, and hash aggregation into a table of groups",
            about: "Models an analytic database that answers one query after another: each selects an eighth of the rows \
by two columns and sums another by group.\n\n\
- Columns (dates, dictionary codes, prices, keys) take three quarters of the 64 MiB working set or more and never \
change. The table of groups takes the rest, at most a quarter; each query clears it and fills it anew.\n\
- `scan`: the predicate over 4096 rows. `aggregate`: up to 32 selected rows added to their groups, at random places in \
the table; or 8 pages of the table cleared.\n\
- Pressure 0.5: page writes amount to half of the link. Their places are few and random, so a page of the table is \
written many times between two harvests and the pages to be sent are far fewer than the page writes.\n\n\
Look for: dirty pages per round that stop at the size of the table, however long the round; the share that delta saves \
of them, where some ten bytes of a group change and its neighbours do not; and `scan` latency beside that of \
`aggregate`, since tracking costs only the one that writes.",
            settings: Settings {
                program: ProgramName::Analytics,
                load: Load::Pressure(0.5),
                ..Settings::BASE
            },
        },
        NamedWorkload {
            name: "sort",
            summary: "quicksort of one large array, again and again",
            about: "Models a batch job that moves all of its data: quicksort of random 8-byte keys, which take all of the \
64 MiB working set. When they are in order, all are replaced by new ones.\n\n\
- `sort`: some 1,000 comparisons; a partition under a page is sorted at once. `rekey`: 1,024 new keys, and the order of \
the old ones verified.\n\
- What is written changes by itself as a sort goes on: first passes over all of memory, in which a page loses half of its \
keys to others; then ever smaller ranges, in which the same few pages are written many times, in every word.\n\
- Pressure 0.5: page writes amount to half of the link, a page that is written on counted once. A sort then takes \
a quarter of a minute over 1 Gbit/s: a migration sees a piece of one, and repetitions see different pieces.\n\n\
Look for: a dirty rate that differs between repetitions more than that of other workloads, and what it does to rounds and \
downtime. Delta has little to find, because a page that was partitioned holds other keys in most of its words.",
            settings: Settings { program: ProgramName::Sort, load: Load::Pressure(0.5), ..Settings::BASE },
        },
        NamedWorkload {
            name: "matmul",
            summary: "a blocked product of matrices, limited by the floating-point unit",
            about: "Models numerical work that computes much and writes little: C = alpha A B in doubles, in blocks of 32 \
by 32, with another alpha for each product. Three square matrices share the 64 MiB working set.\n\n\
- `multiply`: one product of two blocks, 65,536 floating-point operations, added to a block of C (2 pages). A block of C \
is written by some 50 operations in a row, which count as one write of its pages.\n\
- A and B, two thirds of the working set, never change. C changes in address order, each page once per product.\n\
- Pressure 0.05: a block of C is some 50 times the work of writing it, so that a guest can't keep up with a high \
pressure; this one leaves a core of today room to spare. With `settings.load=flat-out` it is the closed loop that such \
jobs are.\n\n\
Look for: short rounds, and latency in pre-copy near its steady value, because there is one write fault for tens of \
operations. Where latency rises all the same, the engine takes CPU or memory bandwidth from the guest. Vector registers \
are in use at the switchover.",
            settings: Settings { program: ProgramName::Matmul, load: Load::Pressure(0.05), ..Settings::BASE },
        },
        NamedWorkload {
            name: "stream",
            summary: "STREAM's triad: whole pages rewritten in address order",
            about: "Models what moves through memory at its full width, such as a stencil or a filter: the triad of the \
STREAM benchmark (McCalpin), a = b + 3 c over three arrays of doubles.\n\n\
- Three arrays share the 64 MiB working set; after each pass they change roles, and after ten passes (STREAM's own count) \
two of them get new values, so that every pass writes new ones.\n\
- `triad`: eight pages of one array. `initialise`: eight pages of new values.\n\
- Pressure 0.5: written pages amount to half of the link. A page is written once per three passes and never twice \
between two harvests but over slow links: page writes and dirty pages are nearly the same.\n\n\
Look for: rounds that halve, one after another, as the arithmetic of pressure 0.5 says; it is the plainest test of it. \
Delta meets words that change in nearly all of their bytes, and saves little or nothing: what it costs to try is in \
`encode_time` and `pages_overflow`.",
            settings: Settings { program: ProgramName::Stream, load: Load::Pressure(0.5), ..Settings::BASE },
        },
    ]
}

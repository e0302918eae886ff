//! What is refused, and in which words: each message names the place, what is wrong there, and the nearest right
//! word or the remedy.

use std::path::Path;

use insta::assert_snapshot;
use migbench_scenarios::{Assignment, Draft, Overrides, Suite, SuiteError};

const HEAD: &str = "name = \"t\"\ndescription = \"d\"\n";
const COMPARISON: &str = "[[comparison]]\nworkload = \"write-heavy\"\naxes.engine = [\"full\", \"delta\"]\n";

fn expand(text: &str) -> Result<(), SuiteError> {
    Suite::parse(text, "t.toml")?.expand().map(|_| ())
}

/// The message about a suite that must not be accepted.
fn refused(text: &str) -> String {
    expand(text).expect_err("this suite must be refused").to_string()
}

/// With `[defaults]` and a comparison that is right.
fn defaults(values: &str) -> String {
    refused(&format!("{HEAD}[defaults]\n{values}\n{COMPARISON}"))
}

/// With one comparison; `{COMPARISON}` alone is right.
fn comparison(lines: &str) -> String {
    refused(&format!("{HEAD}{COMPARISON}{lines}\n"))
}

/// With one comparison of these lines only.
fn bare(lines: &str) -> String {
    refused(&format!("{HEAD}[[comparison]]\n{lines}\n"))
}

/// A right suite after these arguments.
fn argument(set: &[&str], filter: Option<&str>) -> String {
    let apply = || {
        let mut suite = Suite::parse(&format!("{HEAD}{COMPARISON}"), "t.toml")?;
        let set = set.iter().map(|text| Assignment::parse(text)).collect::<Result<_, _>>()?;
        suite.apply(&Overrides { set, filter: filter.map(str::to_owned), ..Overrides::default() })?;
        suite.expand().map(|_| ())
    };
    apply().expect_err("these arguments must be refused").to_string()
}

#[test]
fn the_frame_of_these_tests_is_right() {
    expand(&format!("{HEAD}[defaults]\nmemory = \"128MiB\"\n{COMPARISON}")).unwrap();
}

#[test]
fn names_that_lead_elsewhere() {
    for name in ["../x", "a/b", ".hidden", "", "a\\nb"] {
        let text = format!("name = \"{name}\"\ndescription = \"d\"\n{COMPARISON}");
        let said = refused(&text);
        assert!(said.starts_with("t.toml:1:8: a suite called ") && said.contains("named after it"), "{said}");
    }
    expand(&format!("name = \"my suite-2.1\"\ndescription = \"d\"\n{COMPARISON}")).unwrap();
}

#[test]
fn unknown_keys() {
    assert_snapshot!(defaults("memry = \"128MiB\""), @r#"
    t.toml:4:1: unknown key `memry` in [defaults] (did you mean `memory`?)
    4 | memry = "128MiB"
      | ^^^^^
    "#);
    assert_snapshot!(defaults("rate = \"1Gbit/s\""), @r#"
    t.toml:4:1: unknown key `rate` in [defaults] (did you mean `link.rate`?)
    4 | rate = "1Gbit/s"
      | ^^^^
    "#);
    assert_snapshot!(defaults("stop = { max_round = 3 }"), @r#"
    t.toml:4:10: unknown key `stop.max_round` in [defaults] (did you mean `stop.max_rounds`?)
    4 | stop = { max_round = 3 }
      |          ^^^^^^^^^
    "#);
    assert_snapshot!(defaults("colour = \"red\""), @r#"
    t.toml:4:1: unknown key `colour` in [defaults]
    4 | colour = "red"
      | ^^^^^^
    "#);
    assert_snapshot!(defaults("linc = { rate = \"1Gbit/s\" }"), @r#"
    t.toml:4:1: unknown key `linc` in [defaults] (did you mean `link`?)
    4 | linc = { rate = "1Gbit/s" }
      | ^^^^
    "#);
    assert_snapshot!(comparison("exlude = []"), @r#"
    t.toml:6:1: unknown key `exlude` in [[comparison]] (did you mean `exclude`?)
    6 | exlude = []
      | ^^^^^^
    "#);
    assert_snapshot!(refused(&format!("{HEAD}repetition = 3\n{COMPARISON}")), @r#"
    t.toml:3:1: unknown key `repetition` in the suite; keys of cells stand in [defaults] or [[comparison]] (did you mean `repetitions`?)
    3 | repetition = 3
      | ^^^^^^^^^^
    "#);
    assert_snapshot!(refused(&format!("{HEAD}[workload.mine]\nbase = \"idle\"\nworkingset = \"4MiB\"\n{COMPARISON}")), @r#"
    t.toml:5:1: unknown key `workingset` in [workload.mine] (did you mean `working_set`?)
    5 | workingset = "4MiB"
      | ^^^^^^^^^^
    "#);
    assert_snapshot!(comparison("name = \"at {memry}\""), @r#"
    t.toml:6:8: unknown key `memry` in `name` (did you mean `memory`?)
    6 | name = "at {memry}"
      |        ^^^^^^^^^^^^
    "#);
}

#[test]
fn wrong_units() {
    assert_snapshot!(defaults("memory = \"1G\""), @r#"
    t.toml:4:10: `memory`: `1G` has no unit that says which quantity it is; write it like 128MiB or 1GiB
    4 | memory = "1G"
      |          ^^^^
    "#);
    assert_snapshot!(defaults("memory = \"128Mb\""), @r#"
    t.toml:4:10: `memory`: `Mb` in `128Mb` is not a unit of size; known are B, KiB, MiB, GiB, TiB, kB, MB, GB
    4 | memory = "128Mb"
      |          ^^^^^^^
    "#);
    assert_snapshot!(defaults("link.rate = \"1Gbit\""), @r#"
    t.toml:4:13: `link.rate`: `Gbit` in `1Gbit` is not a unit of rate; known are bit/s, kbit/s, Mbit/s, Gbit/s, B/s, KiB/s, MiB/s, GiB/s, kB/s, MB/s, GB/s
    4 | link.rate = "1Gbit"
      |             ^^^^^^^
    "#);
    assert_snapshot!(defaults("link.rate = \"0bit/s\""), @r#"
    t.toml:4:13: `link.rate` is 0; a link needs some rate, or "unlimited"
    4 | link.rate = "0bit/s"
      |             ^^^^^^^^
    "#);
    assert_snapshot!(defaults("link.queue = \"1KiB\""), @r#"
    t.toml:4:14: `link.queue` is 1KiB; a queue holds 64KiB to 256MiB
    4 | link.queue = "1KiB"
      |              ^^^^^^
    "#);
    assert_snapshot!(defaults("stop.downtime_limit = \"300\""), @r#"
    t.toml:4:23: `stop.downtime_limit`: `300` has no unit that says which quantity it is; write it like 300ms or 30s
    4 | stop.downtime_limit = "300"
      |                       ^^^^^
    "#);
    assert_snapshot!(defaults("windows.steady = \"0s\""), @r#"
    t.toml:4:18: `windows.steady` is 0; it must be longer
    4 | windows.steady = "0s"
      |                  ^^^^
    "#);
}

#[test]
fn wrong_types() {
    assert_snapshot!(defaults("memory = 134217728"), @r#"
    t.toml:4:10: `memory` takes a size with its unit as text, such as "128MiB", not the number 134217728
    4 | memory = 134217728
      |          ^^^^^^^^^
    "#);
    assert_snapshot!(defaults("link = \"1Gbit/s\""), @r#"
    t.toml:4:8: `link` takes a table of link.transport, link.rate, link.queue, link.delay, link.checksum, not the text "1Gbit/s"
    4 | link = "1Gbit/s"
      |        ^^^^^^^^^
    "#);
    assert_snapshot!(defaults("vcpus = \"two\""), @r#"
    t.toml:4:9: `vcpus` takes a whole number, not the text "two"
    4 | vcpus = "two"
      |         ^^^^^
    "#);
    assert_snapshot!(defaults("vcpus = 0"), @r#"
    t.toml:4:9: `vcpus` is 0; a guest has 1 to 32 vCPUs
    4 | vcpus = 0
      |         ^
    "#);
    assert_snapshot!(defaults("prefault = \"yes\""), @r#"
    t.toml:4:12: `prefault` takes true or false, not the text "yes"
    4 | prefault = "yes"
      |            ^^^^^
    "#);
    assert_snapshot!(defaults("tracker = [\"kvm-bitmap\"]"), @r#"
    t.toml:4:11: `tracker` takes one of the words kvm-bitmap, kvm-manual, kvm-ring, uffd-wp, uffd-async, not a list
    4 | tracker = ["kvm-bitmap"]
      |           ^^^^^^^^^^^^^^
    "#);
    assert_snapshot!(defaults("settings.reads = 95"), @r#"
    t.toml:4:18: `settings.reads` is 95; a share lies between 0 and 1
    4 | settings.reads = 95
      |                  ^^
    "#);
    assert_snapshot!(bare("workload = \"idle\"\naxes.engine = \"full\""), @r#"
    t.toml:5:15: `engine` takes a list of values, because it is an axis, not the text "full"
    5 | axes.engine = "full"
      |               ^^^^^^
    "#);
    assert_snapshot!(bare("workload = \"idle\"\naxes.link = [\"unix\"]"), @r#"
    t.toml:5:13: `link` takes a table of link.transport, link.rate, link.queue, link.delay, link.checksum, not a list
    5 | axes.link = ["unix"]
      |             ^^^^^^^^
    "#);
    assert_snapshot!(comparison("include = { engine = \"none\" }"), @r#"
    t.toml:6:11: `include` takes a list of tables, such as [{ engine = "delta" }], not a table
    6 | include = { engine = "none" }
      |           ^^^^^^^^^^^^^^^^^^^
    "#);
    assert_snapshot!(refused("name = \"t\"\ndescription = [1\n"), @r#"
    t.toml:2:17: not TOML: unclosed array, expected `]`
    2 | description = [1
      |                 ^
    "#);
}

#[test]
fn unknown_words() {
    assert_snapshot!(defaults("tracker = \"kvm-bitmp\""), @r#"
    t.toml:4:11: `kvm-bitmp` is not a value of `tracker` (did you mean `kvm-bitmap`?); known are kvm-bitmap, kvm-manual, kvm-ring, uffd-wp, uffd-async
    4 | tracker = "kvm-bitmp"
      |           ^^^^^^^^^^^
    "#);
    assert_snapshot!(bare("workload = \"write-heavi\"\naxes.engine = [\"full\", \"delta\"]"), @r#"
    t.toml:4:12: `write-heavi` is not a value of `workload` (did you mean `write-heavy`?); known are read-heavy, write-heavy, mixed, idle, kv-a, kv-b, kv-c, kv-f, page-cache, gc, log, analytics, sort, matmul, stream, memstress, xbzrle-doc, guestperf-stress, mmuncher
    4 | workload = "write-heavi"
      |            ^^^^^^^^^^^^^
    "#);
    assert_snapshot!(bare("workload = \"idle\"\naxes.engine = [\"full\", \"detla\"]"), @r#"
    t.toml:5:24: `detla` is not a value of `engine` (did you mean `delta`?); known are full, delta, qemu, stop-and-copy, track-only, none
    5 | axes.engine = ["full", "detla"]
      |                        ^^^^^^^
    "#);
    assert_snapshot!(defaults("settings.pattern = \"unifrom\""), @r#"
    t.toml:4:20: `unifrom` is not a value of `settings.pattern` (did you mean `uniform`?); known are sequential, uniform, zipf(0.9)
    4 | settings.pattern = "unifrom"
      |                    ^^^^^^^^^
    "#);
    assert_snapshot!(defaults("settings.pattern = \"zipf(1.2)\""), @r#"
    t.toml:4:20: `settings.pattern` is zipf(1.2); theta must lie between 0 and 1, both excluded; towards 0 it is uniform, 0.99 is the usual skew
    4 | settings.pattern = "zipf(1.2)"
      |                    ^^^^^^^^^^^
    "#);
    assert_snapshot!(defaults("settings.load = \"presure(0.5)\""), @r#"
    t.toml:4:17: `presure(0.5)` is not a value of `settings.load` (did you mean `pressure(0.5)`?); known are pressure(0.5), pages(20000), bytes(100MB/s), operations(100000), flat-out
    4 | settings.load = "presure(0.5)"
      |                 ^^^^^^^^^^^^^^
    "#);
    assert_snapshot!(defaults("settings.load = \"pages(0)\""), @r#"
    t.toml:4:17: `settings.load` is pages(0); the number in brackets must be over 0
    4 | settings.load = "pages(0)"
      |                 ^^^^^^^^^^
    "#);
    assert_snapshot!(refused(&format!("{HEAD}[workload.mine]\nbase = \"idel\"\n{COMPARISON}")), @r#"
    t.toml:4:8: `idel` is not a value of `base` (did you mean `idle`?); known are read-heavy, write-heavy, mixed, idle, kv-a, kv-b, kv-c, kv-f, page-cache, gc, log, analytics, sort, matmul, stream, memstress, xbzrle-doc, guestperf-stress, mmuncher
    4 | base = "idel"
      |        ^^^^^^
    "#);
    assert_snapshot!(comparison("compare = \"enigne\""), @r#"
    t.toml:6:11: `compare` is enigne, which is not among the axes engine (did you mean `engine`?)
    6 | compare = "enigne"
      |           ^^^^^^^^
    "#);
    assert_snapshot!(Suite::find("quik").unwrap_err(), @r#"run: no suite `quik` (did you mean `quick`?); shipped are quick, trackers, scale, delta, frontier, convergence, throttle, peers-quick, peers, workloads, nightly, paper, paper-sensitivity, clark2005, xbzrle-doc; a path to a suite of your own ends in .toml"#);
}

#[test]
fn missing_parts() {
    assert_snapshot!(refused("name = \"t\""), @r#"t.toml: the suite has no `description`: a line that says what it is for"#);
    assert_snapshot!(refused(HEAD), @r#"t.toml: a suite without a [[comparison]] measures nothing"#);
    assert_snapshot!(bare("workload = \"idle\""), @r#"
    t.toml:3:1: [[comparison]] has no `axes`: a table of lists such as axes = { engine = ["full", "delta"] }
    3 | [[comparison]]
      | ^^^^^^^^^^^^^^
    "#);
    assert_snapshot!(bare("axes.engine = [\"full\"]"), @r#"
    t.toml:3:1: the cell has no `workload`: the name of what the guest does
    3 | [[comparison]]
      | ^^^^^^^^^^^^^^
    "#);
    assert_snapshot!(bare("workload = \"idle\"\naxes.memory = [\"64MiB\"]"), @r#"
    t.toml:3:1: `engine` is compared by default and not among the axes memory; set `compare`
    3 | [[comparison]]
      | ^^^^^^^^^^^^^^
    "#);
    assert_snapshot!(refused(&format!("{HEAD}[workload.mine]\nreads = 1\n{COMPARISON}")), @r#"
    t.toml:3:11: [workload.mine] has no `base`: the workload of the catalogue on which it stands
    3 | [workload.mine]
      |           ^^^^
    "#);
}

#[test]
fn empty_and_without_effect() {
    assert_snapshot!(bare("workload = \"idle\"\naxes = {}"), @r#"
    t.toml:5:1: `axes` is empty: nothing varies, so there is nothing to compare
    5 | axes = {}
      | ^^^^
    "#);
    assert_snapshot!(bare("workload = \"idle\"\naxes.engine = []"), @r#"
    t.toml:5:15: axis `engine` has no values; give it some, or leave it out
    5 | axes.engine = []
      |               ^^
    "#);
    assert_snapshot!(comparison("exclude = [{ engine = \"none\" }]"), @r#"
    t.toml:6:12: this entry excludes no cell
    6 | exclude = [{ engine = "none" }]
      |            ^^^^^^^^^^^^^^^^^^^
    "#);
    assert_snapshot!(comparison("exclude = [{ workload = \"write-heavy\" }]"), @r#"
    t.toml:3:1: nothing is left of this comparison: every cell is excluded
    3 | [[comparison]]
      | ^^^^^^^^^^^^^^
    "#);
    assert_snapshot!(comparison("include = [{ engine = \"delta\" }]"), @r#"
    t.toml:6:12: this entry includes no cell that the axes do not give already
    6 | include = [{ engine = "delta" }]
      |            ^^^^^^^^^^^^^^^^^^^^
    "#);
    assert_snapshot!(comparison("include = [{ optional = true }]"), @r#"
    t.toml:6:12: an entry of `include` without any key of a cell
    6 | include = [{ optional = true }]
      |            ^^^^^^^^^^^^^^^^^^^
    "#);
    assert_snapshot!(comparison("optional = [{ backing = \"memfd\" }]"), @r#"
    t.toml:6:13: this entry names no cell of this comparison
    6 | optional = [{ backing = "memfd" }]
      |             ^^^^^^^^^^^^^^^^^^^^^
    "#);
}

#[test]
fn duplicates() {
    assert_snapshot!(bare("workload = \"idle\"\naxes.engine = [\"full\", \"full\"]"), @r#"
    t.toml:5:24: axis `engine` has the value full twice
    5 | axes.engine = ["full", "full"]
      |                        ^^^^^^
    "#);
    assert_snapshot!(bare("workload = \"idle\"\naxes = { engine = [\"full\"], memory = [\"1024MiB\", \"1GiB\"] }"), @r#"
    t.toml:5:50: axis `memory` has the value 1GiB twice
    5 | axes = { engine = ["full"], memory = ["1024MiB", "1GiB"] }
      |                                                  ^^^^^^
    "#);
    assert_snapshot!(comparison("[[comparison]]\nworkload = \"write-heavy\"\naxes.engine = [\"full\"]"), @r#"
    t.toml:6:1: a second comparison is called write-heavy; give it a `name`
    6 | [[comparison]]
      | ^^^^^^^^^^^^^^
    "#);
    assert_snapshot!(comparison("include = [{ engine = \"full\", backing = \"anonymous\" }]"), @r#"
    t.toml:6:12: write-heavy/full backing=anonymous and write-heavy/full are the same cell
    6 | include = [{ engine = "full", backing = "anonymous" }]
      |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    "#);
    assert_snapshot!(bare("engine = \"full\"\nworkload = \"idle\"\naxes.engine = [\"full\", \"delta\"]"), @r#"
    t.toml:6:6: `engine` is an axis and has a fixed value too; keep one of them
    6 | axes.engine = ["full", "delta"]
      |      ^^^^^^
    "#);
    assert_snapshot!(bare("name = \"sweep\"\nworkload = \"idle\"\naxes = { engine = [\"full\"], vcpus = [1, 2] }"), @r#"
    t.toml:4:8: two comparisons are called sweep; put the keys that vary into `name`, such as {memory}
    4 | name = "sweep"
      |        ^^^^^^^
    "#);
    assert_snapshot!(refused(&format!("{HEAD}[workload.idle]\nbase = \"idle\"\n{COMPARISON}")), @r#"
    t.toml:3:11: [workload.idle]: the catalogue has a workload idle; give yours a name of its own
    3 | [workload.idle]
      |           ^^^^
    "#);
}

#[test]
fn baselines() {
    assert_snapshot!(comparison("baseline = \"stop-and-copy\""), @r#"
    t.toml:6:12: `baseline` is stop-and-copy, which is not among the values of `engine`: full, delta
    6 | baseline = "stop-and-copy"
      |            ^^^^^^^^^^^^^^^
    "#);
    assert_snapshot!(comparison("baseline = \"ful\""), @r#"
    t.toml:6:12: `ful` is not a value of `engine` (did you mean `full`?); known are full, delta, qemu, stop-and-copy, track-only, none
    6 | baseline = "ful"
      |            ^^^^^
    "#);
    assert_snapshot!(comparison("exclude = [{ engine = \"full\" }]"), @r#"
    t.toml:3:1: comparison write-heavy has no cell with engine = full, its baseline
    3 | [[comparison]]
      | ^^^^^^^^^^^^^^
    "#);
    assert_snapshot!(comparison("include = [{ engine = \"delta\", workload = \"idle\" }]"), @r#"
    t.toml:6:12: comparison idle has no cell with engine = full, its baseline
    6 | include = [{ engine = "delta", workload = "idle" }]
      |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    "#);
}

#[test]
fn contradictions() {
    assert_snapshot!(comparison("codec = \"xbzrle\""), @r#"
    t.toml:6:1: write-heavy/full: codec xbzrle with engine full: only delta encodes pages
    6 | codec = "xbzrle"
      | ^^^^^
    "#);
    assert_snapshot!(comparison("cache = \"none\""), @r#"
    t.toml:6:1: write-heavy/delta: cache none with engine delta: delta needs what it sent before, such as cache shadow
    6 | cache = "none"
      | ^^^^^
    "#);
    assert_snapshot!(comparison("cache = \"bounded\""), @r#"
    t.toml:6:9: `bounded` is not a value of `cache` (did you mean `bounded(32MiB)`?); known are none, shadow, bounded(32MiB), digest(256), unchanged
    6 | cache = "bounded"
      |         ^^^^^^^^^
    "#);
    assert_snapshot!(comparison("cache = \"bounded(4KiB)\""), @r#"
    t.toml:6:9: `cache` is bounded(4KiB); a bounded cache has 1MiB or more
    6 | cache = "bounded(4KiB)"
      |         ^^^^^^^^^^^^^^^
    "#);
    assert_snapshot!(comparison("cache = \"bounded(much)\""), @r#"
    t.toml:6:9: `cache`: `much` does not start with a number; write it like 128MiB or 1GiB
    6 | cache = "bounded(much)"
      |         ^^^^^^^^^^^^^^^
    "#);
    assert_snapshot!(comparison("cache = \"digest(100)\""), @r#"
    t.toml:6:9: `cache` is digest(100); a digest is of 64, 128, 256, 512 or 1024 bytes
    6 | cache = "digest(100)"
      |         ^^^^^^^^^^^^^
    "#);
    assert_snapshot!(comparison("cache = \"unchanged\""), @r#"
    t.toml:6:1: write-heavy/delta: cache unchanged with engine delta: it holds nothing to encode a change against; use digest(256), or engine full
    6 | cache = "unchanged"
      | ^^^^^
    "#);
    assert_snapshot!(bare("workload = \"idle\"\naxes.engine = [\"delta\"]\ncache = \"digest(256)\"\ncodec = \"zstd\""), @r#"
    t.toml:7:1: idle/delta: codec zstd with cache digest(256): it encodes against the old page, of which there is no copy; use codec xbzrle or mask, or cache shadow or bounded
    7 | codec = "zstd"
      | ^^^^^
    "#);
    assert_snapshot!(bare("workload = \"idle\"\naxes.engine = [\"full\"]\nshadow.prefault = true"), @r#"
    t.toml:6:8: idle/full: shadow.prefault with cache none: there is no shadow to take memory for
    6 | shadow.prefault = true
      |        ^^^^^^^^
    "#);
    assert_snapshot!(defaults("link.rate = \"unlimited\""), @r#"
    t.toml:4:6: write-heavy/full: pressure(0.8) over an unlimited link: pressure is a share of the link's rate; limit link.rate or set settings.load to pages(...)
    4 | link.rate = "unlimited"
      |      ^^^^
    "#);
    assert_snapshot!(defaults("settings.working_set = \"125MiB\""), @r#"
    t.toml:4:10: write-heavy/full: settings.working_set 125MiB in a guest of memory 128MiB: 120MiB are left beside the 8MiB that the guest keeps; lower settings.working_set or raise memory
    4 | settings.working_set = "125MiB"
      |          ^^^^^^^^^^^
    "#);
    assert_snapshot!(defaults("memory = \"64MiB\""), @r#"
    t.toml:4:1: write-heavy/full: settings.working_set 64MiB in a guest of memory 64MiB: 56MiB are left beside the 8MiB that the guest keeps; lower settings.working_set or raise memory
    4 | memory = "64MiB"
      | ^^^^^^
    "#);
    assert_snapshot!(defaults("memory = \"16MiB\""), @r#"
    t.toml:4:1: write-heavy/full: memory 16MiB: the smallest guest has 32MiB
    4 | memory = "16MiB"
      | ^^^^^^
    "#);
    assert_snapshot!(defaults("memory = \"134217729B\""), @r#"
    t.toml:4:1: write-heavy/full: memory of 134217729 bytes is not a multiple of 2MiB
    4 | memory = "134217729B"
      | ^^^^^^
    "#);
    assert_snapshot!(defaults("settings.reads = 1"), @r#"
    t.toml:4:10: write-heavy/full: reads = 1 with a load in written pages: nothing is ever written; lower settings.reads or set settings.load to operations(...)
    4 | settings.reads = 1
      |          ^^^^^
    "#);
    assert_snapshot!(defaults("settings.change = { bytes = 4081 }"), @r#"
    t.toml:4:29: `settings.change.bytes` is 4081; one page write changes 1 to 4080 bytes (16 belong to the page's own counter)
    4 | settings.change = { bytes = 4081 }
      |                             ^^^^
    "#);
    assert_snapshot!(defaults("settings.change = { bytes = 2, pieces = 3 }"), @r#"
    t.toml:4:32: write-heavy/full: 3 pieces of 2 bytes: a piece has at least one byte
    4 | settings.change = { bytes = 2, pieces = 3 }
      |                                ^^^^^^
    "#);
    assert_snapshot!(defaults("settings.writes = 65"), @r#"
    t.toml:4:10: write-heavy/full: writes = 65 of 64 accesses: page writes are among the accesses
    4 | settings.writes = 65
      |          ^^^^^^
    "#);
    assert_snapshot!(defaults("settings.fill.zero = 0.6"), @r#"
    t.toml:4:15: write-heavy/full: fill shares zero 0.6 + random 0.25 + text 0.25 + duplicate 0 make 1.1, not 1
    4 | settings.fill.zero = 0.6
      |               ^^^^
    "#);
    assert_snapshot!(defaults("pinning.vcpus = [0]"), @r#"
    t.toml:4:9: write-heavy/full: pinning without `pinning.source`: pin all three kinds of threads, or none
    4 | pinning.vcpus = [0]
      |         ^^^^^
    "#);
    assert_snapshot!(defaults("pinning = { vcpus = [0, 1], source = [2], destination = [3] }"), @r#"
    t.toml:4:13: write-heavy/full: 2 CPUs in pinning.vcpus for 1 vCPUs
    4 | pinning = { vcpus = [0, 1], source = [2], destination = [3] }
      |             ^^^^^
    "#);
    assert_snapshot!(defaults("pinning = { vcpus = [0, 0], source = [2], destination = [3] }"), @r#"
    t.toml:4:21: `pinning.vcpus` is 0,0; CPU 0 stands twice
    4 | pinning = { vcpus = [0, 0], source = [2], destination = [3] }
      |                     ^^^^^^
    "#);
}

#[test]
fn stop_rules_and_throttles_that_cannot_be() {
    for (lines, said) in [
        (
            "stop = { rule = \"stall\", ceiling = \"10ms\", downtime_limit = \"20ms\" }",
            "stop.ceiling 10ms with stop.downtime_limit 20ms: ",
        ),
        (
            "stop = { rule = \"rounds\", rounds = 8, max_rounds = 7 }",
            "stop.rounds 8 with stop.max_rounds 7: every run would be cut short",
        ),
        ("throttle = \"quota\"\ntracker = \"kvm-bitmap\"", "throttle quota with tracker kvm-bitmap: "),
        (
            "throttle = \"quota\"\nthrottle_settings.slice = \"2s\"",
            "throttle_settings.slice 2s: a time slice is 1ms to 1s long",
        ),
    ] {
        let found = comparison(lines);
        assert!(found.contains(said), "{found}");
    }
}

#[test]
fn arguments() {
    assert_snapshot!(argument(&["memory"], None), @r#"--set memory: write it as key=value, for example memory=256MiB"#);
    assert_snapshot!(argument(&["memry=256MiB"], None), @r#"--set memry=256MiB: unknown key `memry` in a cell (did you mean `memory`?)"#);
    assert_snapshot!(argument(&["memory=256"], None), @r#"--set memory=256: `memory`: `256` has no unit that says which quantity it is; write it like 128MiB or 1GiB"#);
    assert_snapshot!(argument(&["link=1Gbit/s"], None), @r#"--set link=1Gbit/s: `link` takes a table of link.transport, link.rate, link.queue, link.delay, link.checksum, not a single value"#);
    assert_snapshot!(argument(&["engine=delta"], None), @r#"--set engine=delta: the baseline full would be lost; name it too, or pick cells with --filter instead"#);
    assert_snapshot!(argument(&["vcpus=2,2"], None), @r#"--set vcpus=2,2: the value 2 stands twice"#);
    assert_snapshot!(argument(&["link.rate=unlimited"], None), @r#"--set link.rate=unlimited: write-heavy/full: pressure(0.8) over an unlimited link: pressure is a share of the link's rate; limit link.rate or set settings.load to pages(...)"#);
    assert_snapshot!(argument(&[], Some("full|(")), @r#"--filter full|(: not a regular expression: unclosed group"#);
    assert_snapshot!(argument(&[], Some("read-heavy")), @r#"--filter read-heavy: matches no cell; there are write-heavy/full, write-heavy/delta"#);
}

#[test]
fn drafts() {
    let set = |key, value| Draft::new().set(&Assignment::flag(&format!("--{key}"), key, value));
    assert_snapshot!(set("memory", "1G").unwrap_err(), @r#"--memory 1G: `memory`: `1G` has no unit that says which quantity it is; write it like 128MiB or 1GiB"#);
    assert_snapshot!(set("engine", "fulll").unwrap_err(), @r#"--engine fulll: `fulll` is not a value of `engine` (did you mean `full`?); known are full, delta, qemu, stop-and-copy, track-only, none"#);
    assert_snapshot!(set("memory", "64MiB,128MiB").unwrap_err(), @r#"--memory 64MiB,128MiB: `memory` takes one value here, not a list"#);
    assert_snapshot!(Draft::new().build().unwrap_err(), @r#"migrate: the cell has no `workload`: the name of what the guest does"#);
}

#[test]
fn a_file_that_is_not_there() {
    let error = Suite::load(Path::new("/nowhere/suite.toml")).unwrap_err();
    assert_snapshot!(error, @r#"/nowhere/suite.toml: cannot be read: No such file or directory (os error 2)"#);
}

#[test]
fn phases() {
    assert_snapshot!(defaults("settings.phases = \"2s reads=2; 1s\""), @r#"
    t.toml:4:19: `settings.phases` is reads=2; a share lies between 0 and 1
    4 | settings.phases = "2s reads=2; 1s"
      |                   ^^^^^^^^^^^^^^^^
    "#);
    assert_snapshot!(defaults("settings.phases = \"2s\""), @r#"
    t.toml:4:19: `settings.phases` is 2s; a workload has 2 to 8 phases, separated by `;`
    4 | settings.phases = "2s"
      |                   ^^^^
    "#);
    assert_snapshot!(defaults("settings.phases = \"reads=0.5; 1s\""), @r#"
    t.toml:4:19: `settings.phases`: `reads=0.5` does not start with a number; write it like 300ms or 30s
    4 | settings.phases = "reads=0.5; 1s"
      |                   ^^^^^^^^^^^^^^^
    "#);
    assert_snapshot!(defaults("settings.phases = \"1s readz=0.5; 1s\""), @r#"
    t.toml:4:19: `readz` is not a value of `settings.phases` (did you mean `reads`?); known are reads, writes, load, working_set
    4 | settings.phases = "1s readz=0.5; 1s"
      |                   ^^^^^^^^^^^^^^^^^^
    "#);
    assert_snapshot!(defaults("settings.phases = \"1s load=pages(0); 1s\""), @r#"
    t.toml:4:19: `settings.phases` is pages(0); the number in brackets must be over 0
    4 | settings.phases = "1s load=pages(0); 1s"
      |                   ^^^^^^^^^^^^^^^^^^^^^^
    "#);
    assert_snapshot!(defaults("settings.phases = \"1s; 1s working_set=65MiB\""), @r#"
    t.toml:4:10: write-heavy/full: a phase of working_set 65MiB in a working set of 64MiB
    4 | settings.phases = "1s; 1s working_set=65MiB"
      |          ^^^^^^
    "#);
    assert_snapshot!(defaults("settings.phases = \"1s; 1s reads=1\""), @r#"
    t.toml:4:10: write-heavy/full: reads = 1 with a load in written pages: nothing is ever written; lower settings.reads or set settings.load to operations(...)
    4 | settings.phases = "1s; 1s reads=1"
      |          ^^^^^^
    "#);
    assert_snapshot!(defaults("settings.phases = \"1s; 1s reads=0.1\"\nstart_phase = 3"), @r#"
    t.toml:5:1: write-heavy/full: start_phase 3 of 2 phases
    5 | start_phase = 3
      | ^^^^^^^^^^^
    "#);
    assert_snapshot!(defaults("settings.program = \"kv\"\nsettings.sharing = \"shared\"\nsettings.working_set = \"2MiB\""), @r#"
    t.toml:6:10: write-heavy/full: working set 2MiB for 64 shared parts: kv needs 64KiB for each
    6 | settings.working_set = "2MiB"
      |          ^^^^^^^^^^^
    "#);
    assert_snapshot!(defaults("settings.program = \"gc\"\nsettings.phases = \"1s; 1s working_set=16MiB\""), @r#"
    t.toml:5:10: write-heavy/full: a phase of its own working_set with program gc: it works on all of it
    5 | settings.phases = "1s; 1s working_set=16MiB"
      |          ^^^^^^
    "#);
}

#[test]
fn gates() {
    let gate = |lines: &str| refused(&format!("{HEAD}{COMPARISON}[[gate]]\n{lines}\n"));
    let fine = "metric = \"total_time\"\nfloor = \"5ms\"";
    expand(&format!("{HEAD}{COMPARISON}[[gate]]\n{fine}\n")).unwrap();
    for (lines, words) in [
        (
            "metric = \"total_tme\"\nfloor = \"5ms\"",
            "t.toml:7:10: `total_tme` is not a value of `metric` (did you mean `total_time`?)",
        ),
        ("metric = \"dirty_rate\"\nfloor = 1", "`dirty_rate` is not a value of `metric`"),
        (
            "metric = \"total_time\"",
            "t.toml:6:1: [[gate]] has no `floor`: the change below which nothing counts",
        ),
        ("floor = \"5ms\"", "[[gate]] has no `metric`"),
        ("metric = \"total_time\"\nfloor = 5", "`floor` takes a time with its unit as text"),
        ("metric = \"traffic\"\nfloor = \"5ms\"", "`floor`: "),
        ("metric = \"amplification\"\nfloor = \"5ms\"", "`floor` takes a number"),
        ("metric = \"amplification\"\nfloor = -1", "a floor is not negative"),
    ] {
        let message = gate(lines);
        assert!(message.contains(words), "{message}");
    }
    for (lines, words) in [
        ("flor = 1", "unknown key `flor` in [[gate]] (did you mean `floor`?)"),
        ("cells = \"(\"", "not a regular expression"),
        ("cells = \"idle\"", "the gate for total_time of idle looks at no cell that migrates a guest"),
        ("[[gate]]\nmetric = \"total_time\"\nfloor = \"1s\"", "a second gate for total_time"),
    ] {
        let message = gate(&format!("{fine}\n{lines}"));
        assert!(message.contains(words), "{message}");
    }
    let seven: String = (0..7).map(|n| format!("[[gate]]\n{fine}\ncells = \"full{n}?\"\n")).collect();
    let message = refused(&format!("{HEAD}{COMPARISON}{seven}"));
    assert!(message.contains("7 gates; a suite has at most 6"), "{message}");
}

#[test]
fn settings_that_a_program_does_not_read() {
    let kv = "workload = \"kv-a\"\nlink.rate = \"1Gbit/s\"\n";
    assert_snapshot!(bare(&format!("{kv}axes = {{ settings.change.bytes = [64, 256], engine = [\"full\", \"delta\"] }}\ncompare = \"engine\"\nbaseline = \"full\"")), @r#"
    t.toml:6:26: kv-a/full: settings.change.bytes: the program of kv-a (kv) does not read it, so that nothing would change; of what only some programs read it reads reads, pattern, accesses, content
    6 | axes = { settings.change.bytes = [64, 256], engine = ["full", "delta"] }
      |                          ^^^^^
    "#);
    let one = format!("{HEAD}[[comparison]]\n{kv}axes.engine = [\"full\", \"delta\"]\n");
    let set = |set: &[&str], filter: Option<&str>, text: &str| -> Result<usize, String> {
        let mut suite = Suite::parse(text, "t.toml").map_err(|error| error.to_string())?;
        let set = set.iter().map(|text| Assignment::parse(text).unwrap()).collect();
        let overrides = Overrides { set, filter: filter.map(str::to_owned), ..Overrides::default() };
        suite.apply(&overrides).map_err(|error| error.to_string())?;
        suite.expand().map(|plan| plan.comparisons.len()).map_err(|error| error.to_string())
    };
    assert_snapshot!(set(&["settings.writes=4"], None, &one).unwrap_err(), @"--set settings.writes=4: kv-a/full: settings.writes: the program of kv-a (kv) does not read it, so that nothing would change; of what only some programs read it reads reads, pattern, accesses, content");
    assert_eq!(set(&["settings.accesses=4"], None, &one), Ok(1));
    // Of several workloads those that read it can be picked.
    let two = format!(
        "{HEAD}[[comparison]]\nlink.rate = \"1Gbit/s\"\naxes = {{ workload = [\"kv-a\", \"write-heavy\"], engine = [\"full\", \"delta\"] }}\ncompare = \"engine\"\nbaseline = \"full\"\n"
    );
    assert!(set(&["settings.writes=4"], None, &two).unwrap_err().contains("kv-a/full: settings.writes"));
    assert_eq!(set(&["settings.writes=4"], Some("write-heavy"), &two), Ok(1));
    assert_eq!(set(&["settings.writes=4,8"], Some("write-heavy"), &two), Ok(2));
    assert_snapshot!(refused(&format!("{HEAD}[workload.mine]\nbase = \"sort\"\ncontent = \"text\"\n{COMPARISON}")), @r#"
    t.toml:5:1: settings.content: the program of sort (sort) does not read it, so that nothing would change; of what only some programs read it reads nothing
    5 | content = "text"
      | ^^^^^^^
    "#);
    assert_snapshot!(refused(&format!("{HEAD}[workload.mine]\nbase = \"log\"\nphases = \"1s writes=2; 1s\"\n[[comparison]]\nworkload = \"mine\"\nlink.rate = \"1Gbit/s\"\naxes.engine = [\"full\", \"delta\"]\n")), @r#"
    t.toml:5:1: mine/full: a phase with writes of its own: program log does not read it
    5 | phases = "1s writes=2; 1s"
      | ^^^^^^
    "#);
    let mut draft = Draft::new();
    for (flag, key, value) in [("--workload", "workload", "stream"), ("--engine", "engine", "full")] {
        draft.set(&Assignment::flag(flag, key, value)).unwrap();
    }
    draft.set(&Assignment::parse("link.rate=1Gbit/s").unwrap()).unwrap();
    draft.set(&Assignment::parse("settings.pattern=uniform").unwrap()).unwrap();
    assert_snapshot!(draft.build().unwrap_err().to_string(), @"--set settings.pattern=uniform: settings.pattern: the program of stream (stream) does not read it, so that nothing would change; of what only some programs read it reads nothing");
}

/// A default that a program has no use for leaves its cells as they are: no two differ in it alone.
#[test]
fn defaults_pass_by_cells_that_do_not_read_them() {
    let plan = |defaults: &str| {
        let text = format!(
            "{HEAD}[defaults]\nlink.rate = \"1Gbit/s\"\n{defaults}\n[[comparison]]\n\
             axes = {{ workload = [\"kv-a\", \"write-heavy\"], engine = [\"full\"] }}\ncompare = \"engine\"\nbaseline = \"full\"\n"
        );
        Suite::parse(&text, "t.toml").unwrap().expand().unwrap()
    };
    let (with, without) = (plan("settings.change.bytes = 64"), plan(""));
    let cell = |plan: &migbench_scenarios::Plan, index: usize| plan.comparisons[index].cells[0].cell.clone();
    assert_eq!(cell(&with, 0), cell(&without, 0));
    assert_eq!(cell(&with, 1).settings.change.bytes, 64);
}

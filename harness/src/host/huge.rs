//! Pages of 2 MiB: how many the host has reserved and free, and how much of guest memory really lies in them. The
//! kernel reports in `/sys/kernel/mm` (Documentation/admin-guide/mm/hugetlbpage.rst, transhuge.rst) and in
//! `/proc/self/smaps` (proc(5)).

use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path;

use migbench_workloads::units::Bytes;
use nix::unistd::Pid;

/// The only size of huge page that guests use.
pub const HUGE_PAGE: Bytes = Bytes(2 << 20);

/// The pool of reserved 2 MiB pages of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HugePagePool {
    /// Pages in it.
    pub total: u64,
    /// Pages that a new mapping can have: free, and promised to nobody.
    pub free: u64,
    /// Pages that may be made beyond the pool (surplus), out of what memory is free then.
    pub beyond: u64,
}

impl HugePagePool {
    /// The pool of the host whose `/` is `root`; `None` on a kernel without such pages.
    #[must_use]
    pub fn read(root: &Path) -> Option<Self> {
        let directory = root.join("sys/kernel/mm/hugepages/hugepages-2048kB");
        let read = |name: &str| -> Option<u64> {
            fs::read_to_string(directory.join(name)).ok()?.trim().parse().ok()
        };
        let free = read("free_hugepages")?;
        let promised = read("resv_hugepages").unwrap_or(0);
        let beyond = read("nr_overcommit_hugepages").unwrap_or(0);
        let total = read("nr_hugepages").unwrap_or(free);
        Some(Self {
            total,
            free: free.saturating_sub(promised),
            beyond: beyond.saturating_sub(read("surplus_hugepages").unwrap_or(0)),
        })
    }

    /// The size that the pool must be given so that `needed` pages are free.
    #[must_use]
    pub const fn grown_for(self, needed: u64) -> u64 {
        self.total + needed.saturating_sub(self.free)
    }
}

/// The switches of transparent huge pages, below `/`: of all sizes, and of this one where the kernel has one for it.
pub const SWITCHES: [&str; 2] = [
    "sys/kernel/mm/transparent_hugepage/enabled",
    "sys/kernel/mm/transparent_hugepage/hugepages-2048kB/enabled",
];

/// The switch that keeps the kernel from making transparent huge pages of 2 MiB where it is asked to, on the host whose `/` is
/// `root`; an empty text where none does, and `None` on a kernel without them.
#[must_use]
pub fn switched_off(root: &Path) -> Option<&'static str> {
    let [all, this] = SWITCHES.map(|switch| fs::read_to_string(root.join(switch)).ok());
    let never = |text: &str| text.contains("[never]");
    let all = all?;
    Some(match this.filter(|text| !text.contains("[inherit]")) {
        Some(this) if never(&this) => SWITCHES[1],
        Some(_) => "",
        None if never(&all) => SWITCHES[0],
        None => "",
    })
}

/// The share of what is resident in address ranges of a process that is mapped by 2 MiB pages; `None` where nothing is.
///
/// # Errors
/// When the kernel does not report it.
pub fn share(process: Pid, ranges: &[Range<u64>]) -> io::Result<Option<f64>> {
    let path = format!("/proc/{process}/smaps");
    share_of(&fs::read_to_string(&path)?, ranges)
        .map_err(|line| io::Error::other(format!("{path} is not in the kernel's form: {line}")))
}

/// As [`share`], from the text. The kernel joins neighbouring mappings only if they are of one kind, so whatever shares a
/// mapping with guest memory was asked to be in huge pages too: nothing but guest memory is.
#[expect(clippy::cast_precision_loss, reason = "bytes of memory stay under 2^53")]
fn share_of(smaps: &str, ranges: &[Range<u64>]) -> Result<Option<f64>, String> {
    let (mut ours, mut huge, mut small) = (false, 0_u64, 0_u64);
    for line in smaps.lines() {
        let Some((word, rest)) = line.split_once(' ') else { continue };
        if !word.ends_with(':') {
            let mapping = parse_range(word).ok_or(line)?;
            ours = ranges.iter().any(|range| range.start < mapping.end && mapping.start < range.end);
            continue;
        }
        // `Rss` leaves reserved huge pages out and has transparent ones in.
        if ours && ["Rss:", "AnonHugePages:", "Shared_Hugetlb:", "Private_Hugetlb:"].contains(&word) {
            let kib = rest.trim().strip_suffix(" kB").and_then(|kib| kib.parse::<u64>().ok()).ok_or(line)?;
            match word {
                "Rss:" => small += kib,
                "AnonHugePages:" => {
                    huge += kib;
                    small = small.saturating_sub(kib);
                }
                _ => huge += kib,
            }
        }
    }
    Ok((huge + small > 0).then(|| huge as f64 / (huge + small) as f64))
}

/// `7f1c00000000-7f1c02000000`.
fn parse_range(word: &str) -> Option<Range<u64>> {
    let (start, end) = word.split_once('-')?;
    Some(u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
7f0000000000-7f0000800000 rw-p 00000000 00:00 0
Size:               8192 kB
KernelPageSize:        4 kB
Rss:                8192 kB
AnonHugePages:      6144 kB
Shared_Hugetlb:        0 kB
Private_Hugetlb:       0 kB
VmFlags: rd wr mr mw me ac sd hg
7f0001000000-7f0001400000 rw-s 00000000 00:0f 1 /memfd:migbench-ram (deleted)
Rss:                   0 kB
AnonHugePages:         0 kB
Shared_Hugetlb:        0 kB
Private_Hugetlb:    4096 kB
7f0002000000-7f0002400000 rw-p 00000000 00:00 0
Rss:                4096 kB
AnonHugePages:         0 kB
7f0003000000-7f0003400000 rw-p 00000000 00:00 0
Rss:                   0 kB
";

    #[test]
    fn the_share_is_of_what_is_resident_in_the_ranges() {
        let share = |start, end| share_of(SMAPS, &[start..end; 1]).unwrap();
        assert_eq!(share(0x7f00_0000_0000, 0x7f00_0080_0000), Some(0.75));
        assert_eq!(share(0x7f00_0100_0000, 0x7f00_0140_0000), Some(1.0));
        assert_eq!(share(0x7f00_0200_0000, 0x7f00_0240_0000), Some(0.0));
        assert_eq!(share(0x7f00_0300_0000, 0x7f00_0340_0000), None);
        assert_eq!(share(0, 0x7f00_0300_0000), Some(10.0 / 16.0));
        assert!(share_of("7f00-8000 rw-p\nRss: much\n", &[0x7f00..0x8000; 1]).is_err());
    }

    #[test]
    fn what_is_promised_is_not_free() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(HugePagePool::read(root.path()), None);
        let directory = root.path().join("sys/kernel/mm/hugepages/hugepages-2048kB");
        fs::create_dir_all(&directory).unwrap();
        for (name, count) in [("nr_hugepages", "100"), ("free_hugepages", "70"), ("resv_hugepages", "10")] {
            fs::write(directory.join(name), format!("{count}\n")).unwrap();
        }
        let pool = HugePagePool::read(root.path()).unwrap();
        assert_eq!(pool, HugePagePool { total: 100, free: 60, beyond: 0 });
        assert_eq!((pool.grown_for(60), pool.grown_for(128)), (100, 168));
        // Pages that the kernel may make beyond the pool are pages that a mapping can have.
        for (name, count) in [("nr_overcommit_hugepages", "40"), ("surplus_hugepages", "15")] {
            fs::write(directory.join(name), format!("{count}\n")).unwrap();
        }
        assert_eq!(
            HugePagePool::read(root.path()).unwrap(),
            HugePagePool { total: 100, free: 60, beyond: 25 }
        );
    }

    #[test]
    fn never_is_no_and_the_switch_of_this_size_goes_before() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(switched_off(root.path()), None);
        let [all, this] = SWITCHES.map(|switch| root.path().join(switch));
        fs::create_dir_all(this.parent().unwrap()).unwrap();
        for (text, off) in [("always [madvise] never\n", ""), ("always madvise [never]\n", SWITCHES[0])] {
            fs::write(&all, text).unwrap();
            assert_eq!(switched_off(root.path()), Some(off));
        }
        // Now all are off.
        for (text, off) in [
            ("always [inherit] madvise never\n", SWITCHES[0]),
            ("always inherit [madvise] never\n", ""),
            ("always inherit madvise [never]\n", SWITCHES[1]),
        ] {
            fs::write(&this, text).unwrap();
            assert_eq!(switched_off(root.path()), Some(off), "{text}");
        }
    }
}

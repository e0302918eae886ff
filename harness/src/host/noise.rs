//! What the host did to a run, and what the run took from the host: CPU time and waiting for a CPU by thread,
//! CPU time by process, resident memory, stolen CPU. Every reader gives a running total or a momentary value;
//! callers take differences over the window that they measure.
//!
//! Readers take the root directory whose `proc` they read: `/`, but in tests. None of them belongs into the
//! paused window, and [`resident_memory`] least of all: it walks the page tables of the whole process.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use migbench_workloads::units::Bytes;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use procfs::prelude::FromRead;
use procfs::process::Schedstat;

/// Why a reader has no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoiseError {
    /// The file can't be read; a process or thread that has ended is one reason.
    #[error("can't read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file is not in the form that proc(5) describes.
    #[error("{path} is not in the kernel's form: {found}")]
    Form {
        /// The file.
        path: PathBuf,
        /// The part that is not understood.
        found: String,
    },
    /// A CPU clock can't be read.
    #[error("can't read a CPU clock: {0}")]
    Clock(#[from] nix::Error),
}

/// Running totals of one thread since it started, from `schedstat` (Documentation/scheduler/sched-stats.rst).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ThreadTimes {
    /// On a CPU, in the kernel and in a guest included.
    pub cpu: Duration,
    /// Runnable, but waiting for a CPU.
    pub run_delay: Duration,
}

impl ThreadTimes {
    /// What was added since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(earlier.cpu),
            run_delay: self.run_delay.saturating_sub(earlier.run_delay),
        }
    }
}

impl std::ops::Add for ThreadTimes {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { cpu: self.cpu + other.cpu, run_delay: self.run_delay + other.run_delay }
    }
}

impl std::iter::Sum for ThreadTimes {
    fn sum<I: Iterator<Item = Self>>(times: I) -> Self {
        times.fold(Self::default(), std::ops::Add::add)
    }
}

/// The run delay of the calling thread, read often: its file stays open.
#[derive(Debug)]
pub struct RunDelay {
    file: fs::File,
    last: u64,
}

impl RunDelay {
    /// Of the thread that calls.
    ///
    /// # Errors
    /// When the kernel keeps no such statistics.
    pub fn of_this_thread() -> io::Result<Self> {
        let mut this = Self { file: fs::File::open("/proc/thread-self/schedstat")?, last: 0 };
        this.since_last().ok_or_else(|| io::Error::other("no schedstat"))?;
        Ok(this)
    }

    /// Nanoseconds that it waited for a CPU since the last call.
    pub fn since_last(&mut self) -> Option<u64> {
        use std::os::unix::fs::FileExt;
        let mut text = [0; 64];
        let length = self.file.read_at(&mut text, 0).ok()?;
        let now = std::str::from_utf8(&text[..length]).ok()?.split_whitespace().nth(1)?.parse().ok()?;
        Some(now - std::mem::replace(&mut self.last, now))
    }
}

/// Totals of one thread. Absent where the kernel does not keep them (built without scheduler statistics), or the
/// thread has not run yet.
///
/// # Errors
/// When the thread has ended or the file is not understood.
pub fn thread_times(root: &Path, process: Pid, thread: Pid) -> Result<Option<ThreadTimes>, NoiseError> {
    let path = root.join(format!("proc/{process}/task/{thread}/schedstat"));
    let text = read(&path)?;
    parse_schedstat(&text).map_err(|found| NoiseError::Form { path, found })
}

/// Totals of all living threads of a process. The time of threads that have ended is not in it: for the CPU time
/// of a whole process see [`process_cpu_of`].
///
/// # Errors
/// When the process has ended or a file is not understood.
pub fn all_thread_times(root: &Path, process: Pid) -> Result<BTreeMap<Pid, ThreadTimes>, NoiseError> {
    let directory = root.join(format!("proc/{process}/task"));
    let failed = |source| NoiseError::Read { path: directory.clone(), source };
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(&directory).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let Some(thread) = name.to_str().and_then(|name| name.parse().ok()).map(Pid::from_raw) else {
            continue;
        };
        match thread_times(root, process, thread) {
            Ok(Some(times)) => {
                all.insert(thread, times);
            }
            // It ended after the directory was read: ESRCH from a file opened before, ENOENT after.
            Ok(None) | Err(NoiseError::Read { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// User and system CPU time of a process, ended threads and time in guests included, in nanoseconds' resolution.
///
/// # Errors
/// When the process has ended.
pub fn process_cpu_of(process: Pid) -> Result<Duration, NoiseError> {
    Ok(clock_gettime(ClockId::pid_cpu_clock_id(process)?)?.into())
}

/// Resident memory of a process at this moment without the address ranges `excluded`, as [`parse_smaps`] counts it.
///
/// # Errors
/// When the process has ended, its map may not be read, or it is not understood.
pub fn resident_memory(root: &Path, process: Pid, excluded: &[Range<u64>]) -> Result<Bytes, NoiseError> {
    let path = root.join(format!("proc/{process}/smaps"));
    let text = read(&path)?;
    parse_smaps(&text, excluded).map_err(|found| NoiseError::Form { path, found })
}

/// CPU time that the hypervisor below gave to others, summed over all CPUs since boot. Zero on bare metal; absent
/// where the kernel doesn't count it.
///
/// # Errors
/// When `/proc/stat` can't be read.
pub fn steal_time(root: &Path) -> Result<Option<Duration>, NoiseError> {
    let text = read(&root.join("proc/stat"))?;
    Ok(parse_steal(&text, procfs::ticks_per_second()))
}

fn read(path: &Path) -> Result<String, NoiseError> {
    fs::read_to_string(path).map_err(|source| NoiseError::Read { path: path.to_owned(), source })
}

/// `<ns on a CPU> <ns waiting> <time slices>`. A kernel without scheduler statistics writes three zeros.
fn parse_schedstat(text: &str) -> Result<Option<ThreadTimes>, String> {
    let stat = Schedstat::from_read(text.as_bytes()).map_err(|_| format!("{text:?}"))?;
    Ok((stat.pcount > 0).then_some(ThreadTimes {
        cpu: Duration::from_nanos(stat.sum_exec_runtime),
        run_delay: Duration::from_nanos(stat.run_delay),
    }))
}

/// The eighth figure of the line `cpu`, in ticks.
fn parse_steal(stat: &str, ticks_per_second: u64) -> Option<Duration> {
    let ticks: u64 = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().nth(7)?.parse().ok()?;
    let nanos = u128::from(ticks) * 1_000_000_000 / u128::from(ticks_per_second.max(1));
    Some(Duration::from_nanos(u64::try_from(nanos).ok()?))
}

/// Sums `Rss` over the mappings of `/proc/<pid>/smaps` that are not in `excluded`.
///
/// The kernel joins neighbouring mappings of the same kind, so that an excluded range may be a part of a larger
/// mapping: then the length of that part is subtracted, which is exact if the range is resident as a whole (as
/// pre-faulted guest memory is), and never gives less than zero. The ranges must not overlap each other.
///
/// # Errors
/// The text of a line that is not understood.
pub fn parse_smaps(smaps: &str, excluded: &[Range<u64>]) -> Result<Bytes, String> {
    let mut mapping = None;
    let mut total = 0_u64;
    for line in smaps.lines() {
        let Some((word, rest)) = line.split_once(' ') else { continue };
        if word == "Rss:" {
            let resident = rest
                .trim()
                .strip_suffix(" kB")
                .and_then(|kib| kib.parse::<u64>().ok()?.checked_mul(1024))
                .ok_or(line)?;
            let mapping = mapping.as_ref().ok_or(line)?;
            let apart = excluded.iter().map(|range| overlap(mapping, range)).sum();
            total += resident.saturating_sub(apart);
        } else if !word.ends_with(':') {
            mapping = Some(parse_range(word).ok_or(line)?);
        }
    }
    Ok(Bytes(total))
}

/// `55bd63b9d000-55bd63b9f000`.
fn parse_range(word: &str) -> Option<Range<u64>> {
    let (start, end) = word.split_once('-')?;
    Some(u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()?)
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> u64 {
    a.end.min(b.end).saturating_sub(a.start.max(b.start))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
55bd63b9d000-55bd63b9f000 r--p 00000000 fe:00 247030                     /usr/bin/cat
Size:                  8 kB
Rss:                   8 kB
Pss:                   8 kB
VmFlags: rd mr mw me
7f0000000000-7f0000100000 rw-p 00000000 00:00 0 
Size:               1024 kB
Rss:                 512 kB
7f0000200000-7f0000300000 rw-s 00000000 00:01 1044                       /memfd:guest (deleted)
Size:               1024 kB
Rss:                1024 kB
";

    #[test]
    fn resident_memory_leaves_out_whole_and_partial_mappings() {
        let kib = |excluded: &[Range<u64>]| parse_smaps(SMAPS, excluded).expect("smaps").0 / 1024;
        assert_eq!(kib(&[]), 8 + 512 + 1024);
        let guest = 0x7f00_0020_0000..0x7f00_0030_0000;
        assert_eq!(kib(std::slice::from_ref(&guest)), 8 + 512);
        // 256 KiB of a joined mapping; more than is resident never goes below zero.
        let part = 0x7f00_0000_0000..0x7f00_0004_0000;
        assert_eq!(kib(&[part, guest.clone()]), 8 + 256);
        assert_eq!(kib(&[0x7f00_0000_0000..0x7f00_0010_0000, guest]), 8);
        // One range over two mappings and the gap between them.
        let both = 0x7f00_0000_0000..0x7f00_0030_0000;
        assert_eq!(kib(std::slice::from_ref(&both)), 8);
    }

    #[test]
    fn smaps_in_another_form_is_refused() {
        assert_eq!(parse_smaps("", &[]), Ok(Bytes(0)));
        assert!(parse_smaps("Rss: 8 kB\n", &[]).is_err());
        assert!(parse_smaps("zz-1 r--p\nRss: 8 kB\n", &[]).is_err());
        assert!(parse_smaps("0-1000 r--p\nRss: 8 MB\n", &[]).is_err());
    }

    #[test]
    fn schedstat_is_in_nanoseconds() {
        let times = parse_schedstat("157144 2319869 2\n").expect("parsed").expect("counted");
        assert_eq!(times.cpu, Duration::from_nanos(157_144));
        assert_eq!(times.run_delay, Duration::from_nanos(2_319_869));
        assert_eq!(parse_schedstat("0 0 0\n"), Ok(None));
        assert!(parse_schedstat("12\n").is_err());
        assert!(parse_schedstat("").is_err());
        let later = ThreadTimes { cpu: Duration::from_nanos(157_150), ..times };
        assert_eq!(
            later.since(times),
            ThreadTimes { cpu: Duration::from_nanos(6), run_delay: Duration::ZERO }
        );
    }

    #[test]
    fn steal_is_the_eighth_figure() {
        let stat = "cpu  11922 0 3359 186712 475 0 67 32 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n";
        assert_eq!(parse_steal(stat, 100), Some(Duration::from_millis(320)));
        assert_eq!(parse_steal("cpu  1 2 3 4\n", 100), None);
        assert_eq!(parse_steal("", 100), None);
    }

    #[test]
    fn a_tree_of_threads_is_read() {
        let root = tempfile::tempdir().expect("a directory");
        for (thread, text) in [(7, "1000 10 1\n"), (8, "2000 20 1\n"), (9, "0 0 0\n")] {
            let task = root.path().join(format!("proc/7/task/{thread}"));
            fs::create_dir_all(&task).expect("directories");
            fs::write(task.join("schedstat"), text).expect("a file");
        }
        // A thread that ended after the directory was read.
        fs::create_dir_all(root.path().join("proc/7/task/10")).expect("directories");
        let all = all_thread_times(root.path(), Pid::from_raw(7)).expect("threads");
        assert_eq!(all.keys().map(|pid| pid.as_raw()).collect::<Vec<_>>(), [7, 8]);
        let sum: ThreadTimes = all.into_values().sum();
        assert_eq!(sum, ThreadTimes { cpu: Duration::from_nanos(3000), run_delay: Duration::from_nanos(30) });
        let error = all_thread_times(root.path(), Pid::from_raw(8)).expect_err("no such process");
        assert!(error.to_string().contains("proc/8/task"), "{error}");
    }

    #[test]
    fn this_process_is_measured() {
        assert!(process_cpu_of(Pid::this()).expect("a clock") > Duration::ZERO);
        let resident =
            |excluded: &[Range<u64>]| resident_memory(Path::new("/"), Pid::this(), excluded).expect("smaps");
        assert!(resident(&[]) > Bytes(0));
        assert_eq!(resident(std::slice::from_ref(&(0..u64::MAX))), Bytes(0));
        assert!(steal_time(Path::new("/")).is_ok());
    }
}

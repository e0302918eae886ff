//! What the integration tests share.
#![allow(dead_code, unused_macros, unused_imports)]

use std::fs::OpenOptions;
use std::io::Write;
use std::os::fd::{OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use migbench::host::huge::HugePagePool;
use migbench::node::hello::Token;
use migbench::node::protocol::{NodeAssignment, Role};
use migbench_reports::record::Record;
use migbench_scenarios::cell::*;
use migbench_workloads::settings::*;
use migbench_workloads::units::{Bytes, Rate, Seconds};

/// Ends the test with a printed reason where there is no KVM, or fails it where KVM is required.
macro_rules! require_kvm {
    () => {
        if !crate::support::kvm_or_skip() {
            return;
        }
    };
}
pub(crate) use require_kvm;

/// Whether there is KVM; the test is skipped where there is none.
pub fn kvm_or_skip() -> bool {
    let Err(error) = migbench::host::kvm::open_kvm(Path::new("/dev/kvm")) else { return true };
    assert!(std::env::var_os("MIGBENCH_REQUIRE_KVM").is_none(), "{error}");
    skip(&error.to_string());
    false
}

/// Says why the test is skipped: on the terminal, and as a line in the file that `MIGBENCH_SKIP_LOG` names, since
/// cargo hides what a passing test prints.
pub fn skip(reason: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    eprintln!("skipped: {reason}");
    if let Some(log) = std::env::var_os("MIGBENCH_SKIP_LOG") {
        let mut file = OpenOptions::new().create(true).append(true).open(log).unwrap();
        // One write, so that lines of parallel tests stay whole.
        file.write_all(format!("{test}: {}\n", reason.replace('\n', " ")).as_bytes()).unwrap();
    }
}

/// Ends the test with a printed reason where links between network namespaces cannot be made, or fails it where KVM is
/// required.
macro_rules! require_netns {
    () => {
        if !crate::support::netns_or_skip() {
            return;
        }
    };
}
pub(crate) use require_netns;

/// Whether there are network namespaces to be had; the test is skipped where there are none.
pub fn netns_or_skip() -> bool {
    let link = LinkSettings { transport: Transport::Netns, ..cell().link };
    let Err(error) = migbench::wire::netns::Namespaces::new(&link) else { return true };
    assert!(std::env::var_os("MIGBENCH_REQUIRE_KVM").is_none(), "{error}");
    skip(&error.to_string());
    false
}

/// Gives reserved 2 MiB pages for that many bytes until the guard is dropped, or ends the test with a printed reason
/// where they cannot be had; fails it where KVM is required, unless the kernel itself has no such pages.
macro_rules! require_huge_pages {
    ($bytes:expr) => {
        match crate::support::HugePages::reserve($bytes) {
            Ok(pages) => pages,
            Err(Some(error)) if std::env::var_os("MIGBENCH_REQUIRE_KVM").is_some() => panic!("{error}"),
            Err(error) => {
                let reason = error.unwrap_or_else(|| "this kernel has no reserved huge pages".to_owned());
                crate::support::skip(&reason);
                return;
            }
        }
    };
}
pub(crate) use require_huge_pages;

/// The pool of reserved pages, grown. It has its old size again when this is dropped, also by a test that panics.
pub struct HugePages {
    old: Option<u64>,
    /// One test of this process at a time.
    _alone: std::sync::MutexGuard<'static, ()>,
}

impl HugePages {
    const POOL: &'static str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";

    /// `Err(None)` where the kernel has no such pages.
    pub fn reserve(bytes: u64) -> Result<Self, Option<String>> {
        static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let needed = bytes.div_ceil(2 << 20);
        let pool = || HugePagePool::read(Path::new("/")).ok_or(None);
        let before = pool()?;
        if before.free >= needed {
            return Ok(Self { old: None, _alone: alone });
        }
        let size = before.grown_for(needed);
        std::fs::write(Self::POOL, size.to_string()).map_err(|error| {
            Some(format!("{needed} reserved huge pages are needed: {}: {error}", Self::POOL))
        })?;
        // From here on the pool shrinks again in any case.
        let grown = Self { old: Some(before.total), _alone: alone };
        let free = pool()?.free;
        if free < needed {
            return Err(Some(format!(
                "of {needed} huge pages the kernel found {free}: memory is fragmented"
            )));
        }
        Ok(grown)
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        if let Some(old) = self.old {
            // Pages still in use leave the pool when they are free.
            let _ = std::fs::write(Self::POOL, old.to_string());
        }
    }
}

/// A small guest that writes a lot, open loop.
pub fn cell() -> Cell {
    Cell {
        workload: "test".into(),
        settings: Settings {
            working_set: Bytes(8 << 20),
            reads: 0.5,
            pattern: Pattern::Uniform,
            accesses: 32,
            writes: 1,
            change: PageChange { bytes: 100, pieces: 3, moves: true },
            content: Content::Random,
            load: Load::Pages(10_000.0),
            fill: Fill { zero: 0.5, random: 0.25, text: 0.25, duplicate: 0.0 },
            ..Settings::BASE
        },
        engine: Engine::Full,
        codec: Codec::None,
        cache: Cache::None,
        qemu: None,
        shadow: ShadowSettings::default(),
        tracker: Tracker::KvmBitmap,
        tracker_settings: TrackerSettings::DEFAULT,
        link: LinkSettings {
            transport: Transport::Unix,
            rate: Some(Rate(125_000_000)),
            queue: None,
            delay: Seconds(0.0),
            checksum: Checksum::Header,
        },
        memory: Bytes(32 << 20),
        backing: Backing::Anonymous,
        vcpus: 1,
        prefault: true,
        pinning: None,
        elide_zero: true,
        stop: StopRule {
            downtime_limit: Seconds(0.1),
            max_rounds: 30,
            max_time: Seconds(30.0),
            ..StopRule::DEFAULT
        },
        throttle: Throttle::None,
        throttle_settings: None,
        proof: Proof::First,
        windows: Windows {
            steady: Seconds(0.1),
            after: Seconds(0.1),
            control: Seconds(0.2),
            warmup_max: Seconds(1.0),
        },
        timing: true,
        wait: Wait::Spin,
        start_phase: 1,
        binary: None,
        side: None,
    }
}

/// A memfd for telemetry.
pub fn telemetry_file() -> OwnedFd {
    nix::sys::memfd::memfd_create(c"telemetry", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap()
}

/// The command, marked so that its nodes can be found.
pub struct Migbench {
    command: Command,
    mark: String,
}

/// What it did.
#[derive(Debug)]
pub struct CommandOutcome {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

/// A file to lock in place of the host's, for a command that is no [`Migbench`]: a measurement beside the tests refuses none of them.
pub fn own_lock() -> std::path::PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("{}-{}.own.lock", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// The environment variable that marks a command and the nodes it starts.
const MARK: &str = "MIGBENCH_TEST_MARK";

impl Migbench {
    pub fn new() -> Self {
        Self::of(Command::new(assert_cmd::cargo::cargo_bin!("migbench")))
    }

    /// A command line as somebody types it in a shell that finds the program.
    pub fn shell(line: &str) -> Self {
        let program = assert_cmd::cargo::cargo_bin!("migbench");
        let here = program.parent().unwrap().to_str().unwrap();
        let path = std::env::var("PATH").unwrap_or_default();
        let shell = Self::of(Command::new("sh")).args(["-c", line]);
        shell.env("PATH", &format!("{here}:{path}"))
    }

    pub fn of(mut command: Command) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mark = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        // Tests may run beside each other, and beside a measurement: what they time does not matter.
        let lock = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{mark}.lock"));
        command.env(MARK, &mark).env("COLUMNS", "100").env("MIGBENCH_LOCK", lock);
        // Not where whoever runs the tests keeps a history, and a last run.
        command.env("XDG_STATE_HOME", Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{mark}.state")));
        Self { command, mark }
    }

    pub fn args<S: AsRef<std::ffi::OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    pub fn current_dir(mut self, directory: &Path) -> Self {
        self.command.current_dir(directory);
        self
    }

    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.command.env(key, value);
        self
    }

    pub fn env_remove(mut self, key: &str) -> Self {
        self.command.env_remove(key);
        self
    }

    /// Runs it to its end, and requires that nothing of it is left.
    pub fn run(mut self) -> CommandOutcome {
        let output = self.command.output().unwrap();
        let outcome = CommandOutcome {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        };
        assert_nothing_left(&self.mark);
        outcome
    }

    /// Starts it with its output in files; gives its process and its mark.
    pub fn start_into(
        mut self,
        stdout: std::fs::File,
        stderr: std::fs::File,
    ) -> (std::process::Child, String) {
        let child = self.command.stdin(std::process::Stdio::null()).stdout(stdout).stderr(stderr).spawn();
        (child.unwrap(), self.mark)
    }

    /// Starts it; gives its process and its mark.
    pub fn start(mut self) -> (std::process::Child, String) {
        use std::process::Stdio;
        let child =
            self.command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        (child, self.mark)
    }
}

/// The binary with these arguments, to its end.
pub fn migbench(arguments: &[&str]) -> CommandOutcome {
    Migbench::new().args(arguments).run()
}

/// Processes that carry `mark`; zombies have no environment any more.
pub fn marked(mark: &str) -> Vec<u32> {
    let wanted = format!("{MARK}={mark}");
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        if environment.split(|&byte| byte == 0).any(|variable| variable == wanted.as_bytes()) {
            found.push(pid);
        }
    }
    found
}

/// Whether a process, as a folder of /proc, belongs to a marked command of another test.
pub fn is_of_another(process: &Path, mark: &str) -> bool {
    let environment = std::fs::read(process.join("environ")).unwrap_or_default();
    let mut variables = environment.split(|&byte| byte == 0);
    let found = variables.find_map(|variable| variable.strip_prefix(format!("{MARK}=").as_bytes()));
    found.is_some_and(|found| found != mark.as_bytes())
}

/// Abstract sockets of nodes that are no more.
fn orphaned_sockets() -> Vec<String> {
    let sockets = std::fs::read_to_string("/proc/net/unix").unwrap();
    let names = sockets.lines().filter_map(|line| line.split_whitespace().nth(7));
    let orphaned = |name: &&str| {
        let pid = name.strip_prefix("@migbench-").and_then(|rest| rest.split('-').next());
        pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists())
    };
    names.filter(orphaned).map(str::to_owned).collect()
}

/// Fails when processes that carry `mark`, or sockets of processes that are gone, stay.
pub fn assert_nothing_left(mark: &str) {
    let patience = Instant::now() + Duration::from_secs(5);
    loop {
        let (processes, sockets) = (marked(mark), orphaned_sockets());
        if processes.is_empty() && sockets.is_empty() {
            return;
        }
        assert!(Instant::now() < patience, "left behind: processes {processes:?}, sockets {sockets:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Of ways to do the same the one whose turn it is, so that a few runs have every pair of ways of several kinds; all of them in
/// `scripts/test --full`.
pub fn in_turn<const N: usize>(ways: [&'static str; N], turn: usize) -> Vec<&'static str> {
    if std::env::var_os("MIGBENCH_FULL").is_some() { ways.to_vec() } else { vec![ways[turn % N]] }
}

/// `migbench migrate` of a small guest with short windows, and `arguments`, which win.
pub fn migrate(arguments: &[&str]) -> (CommandOutcome, Record) {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("record.json");
    let outcome = Migbench::new()
        .args(["migrate", "--memory", "32MiB"])
        .args(SHORT)
        .args(arguments)
        .arg_path("--json", &path)
        .run();
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{arguments:?} left no record: {error}\n{}", outcome.stderr));
    let record = validated(&text);
    (outcome, record)
}

/// Arguments for a working set that fits a small guest, and short windows.
pub const SHORT: [&str; 8] = [
    "--set",
    "settings.working_set=8MiB",
    "--set",
    "windows.steady=50ms",
    "--set",
    "windows.after=100ms",
    "--set",
    "windows.warmup_max=200ms",
];

impl Migbench {
    fn arg_path(mut self, flag: &str, path: &Path) -> Self {
        self.command.arg(flag).arg(path);
        self
    }
}

/// A record from its line, which must have the shape that the schema says.
pub fn validated(line: &str) -> Record {
    static SCHEMA: std::sync::LazyLock<jsonschema::Validator> =
        std::sync::LazyLock::new(|| jsonschema::validator_for(&migbench_reports::schema::record()).unwrap());
    let value: serde_json::Value = serde_json::from_str(line).unwrap();
    let errors: Vec<String> =
        SCHEMA.iter_errors(&value).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:?}");
    serde_json::from_value(value).unwrap()
}

/// A metric that must be there.
pub fn metric(record: &Record, name: &str) -> f64 {
    let found = record.metrics.get(name);
    found.unwrap_or_else(|| panic!("{}: no metric {name}: {:?}", record.run_id, record.error)).value
}

/// What a runner tells a node that does nothing out of the ordinary.
pub fn node_assignment(role: Role, cell: &Cell, telemetry: RawFd, token: &Token) -> NodeAssignment {
    NodeAssignment {
        role,
        cell: cell.clone(),
        seed: 1,
        guest_flags: 0,
        verify: false,
        start_jitter: 0.0,
        fault: None,
        planted_cost: None,
        telemetry,
        network: None,
        token: token.clone(),
        scratch: None,
    }
}

//! A thousand faults, a few seconds each: each phase x engine x tracker x link, and what is to go wrong drawn for each. After
//! every one the guest is alive and sound where the record says that it is, there never were two, and nothing is left.
//!
//! What was done is a line in a log, so that a campaign that was interrupted goes on where it was; a finished one, or another
//! build, begins anew. See "Faults" in CONTRIBUTING.md.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use migbench_reports::record::{GuestAt, Status};
use migbench_workloads::random::Random;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::netns::assert_gone;
use crate::strangers::nodes;
use crate::support::{Migbench, SHORT, assert_nothing_left, marked, netns_or_skip, require_kvm, validated};

/// Where a node strikes itself, and whenever somebody else strikes it.
const POINTS: [&str; 6] = ["connect", "precopy", "switchover", "before-commit", "after-commit", "any"];
const ENGINES: [&str; 3] = ["full", "delta", "stop-and-copy"];
const TRACKERS: [&str; 5] = ["kvm-bitmap", "kvm-manual", "kvm-ring", "uffd-wp", "uffd-async"];
const LINKS: [&str; 3] = ["unix", "tcp", "netns"];
const ACTIONS: [&str; 10] = [
    "kill",
    "close",
    "corrupt",
    "stop",
    "starve",
    "frame-flip",
    "frame-flip",
    "frame-swap",
    "frame-repeat",
    "frame-lose",
];
/// What can be done to a process from outside.
const SIGNALS: [&str; 2] = ["kill", "stop"];
const VICTIMS: [&str; 3] = ["source", "destination", "runner"];

/// One fault, as it stands in the log.
#[derive(Debug, Clone)]
struct Planned {
    number: usize,
    point: &'static str,
    engine: &'static str,
    tracker: &'static str,
    link: &'static str,
    verify: bool,
    side: &'static str,
    action: &'static str,
    draw: u64,
}

impl Planned {
    fn fault(&self) -> String {
        format!("{}:{}@{}+{}", self.side, self.action, self.point, self.draw)
    }

    /// By what outcomes are counted.
    fn kind(&self) -> String {
        format!("{}:{}@{}", self.side, self.action, self.point)
    }
}

/// All combinations in an order of the seed's, over and over; sides and actions come by turns within each phase.
fn plan(seed: u64, count: usize) -> Vec<Planned> {
    let mut random = Random::new(seed);
    let mut combinations = Vec::new();
    for point in POINTS {
        for engine in ENGINES {
            for tracker in TRACKERS {
                combinations.extend(LINKS.map(|link| (point, engine, tracker, link)));
            }
        }
    }
    let mut turns: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
    let mut planned = Vec::new();
    while planned.len() < count {
        shuffle(&mut combinations, &mut random);
        for &(point, engine, tracker, link) in &combinations {
            let left = turns.entry(point).or_default();
            if left.is_empty() {
                let (sides, actions) =
                    if point == "any" { (&VICTIMS[..], &SIGNALS[..]) } else { (&VICTIMS[..2], &ACTIONS[..]) };
                left.extend(sides.iter().flat_map(|side| actions.iter().map(|action| (*side, *action))));
                shuffle(left, &mut random);
            }
            let (side, action) = left.pop().unwrap();
            let (number, verify, draw) = (planned.len(), random.below(4) == 0, random.below(100_000));
            // Of the next four frames one is met: as many are sent only by a source, and not once its guest is paused.
            let draw = match (side, point) {
                ("source", "connect" | "precopy") => draw,
                ("source", "switchover") => draw - draw % 4 + draw % 2,
                _ => draw - draw % 4,
            };
            planned.push(Planned { number, point, engine, tracker, link, verify, side, action, draw });
        }
    }
    planned.truncate(count);
    planned
}

fn shuffle<T>(list: &mut [T], random: &mut Random) {
    for last in (1..list.len()).rev() {
        list.swap(last, usize::try_from(random.below(last as u64 + 1)).unwrap());
    }
}

/// Nanoseconds that the vCPUs of a process have run; none once it is gone.
fn ran(pid: u32) -> Option<u64> {
    let mut sum = None;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let text = |file| fs::read_to_string(thread.path().join(file)).unwrap_or_default();
        if text("comm").starts_with("vcpu") {
            let time: u64 = text("schedstat").split(' ').next()?.parse().ok()?;
            *sum.get_or_insert(0) += time;
        }
    }
    sum
}

/// Watches the nodes of a run from outside.
#[derive(Default)]
struct Watch {
    last: BTreeMap<u32, u64>,
    /// In how many looks on end the guest of each node had run.
    both: u32,
    overlaps: u32,
    namespaces: std::collections::BTreeSet<PathBuf>,
}

impl Watch {
    /// More than a paused vCPU takes for being looked at, saved or restored.
    const RUNS: u64 = 2_000_000;
    const LOOK: Duration = Duration::from_millis(15);

    fn look(&mut self, nodes: &[u32]) {
        let mut running = 0;
        for &pid in nodes {
            let Some(now) = ran(pid) else { continue };
            let before = self.last.insert(pid, now);
            running += u32::from(before.is_some_and(|before| now > before + Self::RUNS));
            if let Ok(namespace) = fs::read_link(format!("/proc/{pid}/ns/net")) {
                self.namespaces.insert(namespace);
            }
        }
        // Between two looks the guest may go from one to the other, but not for three on end.
        self.both = if running > 1 { self.both + 1 } else { 0 };
        self.overlaps = self.overlaps.max(self.both);
    }
}

/// Runs a migration to its end, watching it, and strikes it from outside where that is the fault.
fn watched(planned: &Planned, child: &mut Child, mark: &str) -> Watch {
    let mut watch = Watch::default();
    let mut found: Vec<u32> = Vec::new();
    let mut strike = (planned.point == "any").then(|| {
        // A run takes half a second and more here, and boots the guest in the first tenth.
        Instant::now() + Duration::from_millis(30 + planned.draw % 900)
    });
    let mut wake: Option<(Instant, Pid)> = None;
    while child.try_wait().unwrap().is_none() {
        if found.len() < 2 {
            found = nodes(&marked(mark));
            found.sort_unstable();
        }
        watch.look(&found);
        if strike.is_some_and(|due| Instant::now() >= due) && found.len() == 2 {
            strike = None;
            // The destination is started first.
            let victim = match planned.side {
                "destination" => found[0],
                "source" => found[1],
                _ => child.id(),
            };
            let victim = Pid::from_raw(i32::try_from(victim).unwrap());
            let signal = if planned.action == "kill" { Signal::SIGKILL } else { Signal::SIGSTOP };
            let _ = kill(victim, signal);
            if planned.action == "stop" {
                wake = Some((Instant::now() + Duration::from_millis(200 + planned.draw % 1800), victim));
            }
        }
        if let Some((_, victim)) = wake.take_if(|(due, _)| Instant::now() >= *due) {
            let _ = kill(victim, Signal::SIGCONT);
        }
        std::thread::sleep(Watch::LOOK);
    }
    watch
}

/// One fault, and what came of it in a word.
///
/// # Errors
/// What must not be.
fn strike(planned: &Planned) -> Result<String, String> {
    let scratch = tempfile::tempdir().unwrap();
    let (path, temporary) = (scratch.path().join("record.json"), scratch.path().join("tmp"));
    fs::create_dir(&temporary).unwrap();
    let mut command = Migbench::new()
        .args(["migrate", "--memory", "32MiB", "--engine", planned.engine, "--transport", planned.link])
        .args(SHORT)
        // Several rounds with the guest running.
        .args(["--set", "settings.load=pages(20000)", "--set", "stop.downtime_limit=2ms"])
        .args(["--set", &format!("tracker={}", planned.tracker), "--seed", &planned.draw.to_string()])
        .args([Path::new("--json"), &path])
        .env("TMPDIR", temporary.to_str().unwrap());
    if planned.verify {
        command = command.args(["--verify"]);
    }
    if planned.point != "any" {
        command = command.args(["--fault", &planned.fault()]);
    }
    let (mut child, mark) = command.start();
    let watch = watched(planned, &mut child, &mark);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let refuse = |what: &str| Err(format!("{what}\n{said}"));
    if watch.overlaps > 2 {
        return refuse("both nodes ran the guest");
    }
    let left = std::panic::catch_unwind(|| {
        assert_nothing_left(&mark);
        if planned.link == "netns" {
            let mut namespaces = watch.namespaces.clone();
            namespaces.remove(&fs::read_link("/proc/self/ns/net").unwrap());
            assert_gone(&namespaces, &mark);
        }
    });
    if left.is_err() {
        return refuse("something is left");
    }
    let files: Vec<_> = fs::read_dir(&temporary).unwrap().flatten().map(|entry| entry.path()).collect();
    if !files.is_empty() {
        return refuse(&format!("files are left: {files:?}"));
    }
    if said.contains("panicked") {
        return refuse("a panic");
    }
    if (planned.side, planned.action, planned.point) == ("runner", "kill", "any") {
        // It was over before, or nobody is there to say anything.
        return Ok(if output.status.success() { "ok" } else { "no runner" }.to_owned());
    }
    let Ok(text) = fs::read_to_string(&path) else { return refuse("no record") };
    let record = validated(text.trim_end());
    let failed = record.status == Status::Failed;
    if output.status.code() != Some(i32::from(failed)) {
        return refuse(&format!("status {:?} of a run that is {:?}", output.status, record.status));
    }
    let end = record.error.as_ref().map(|error| (error.guest, error.phase.as_str()));
    judge(planned, end, record.guest_checked, record.verified)
        .or_else(|what| refuse(&format!("{what}: {:?}", record.error)))
}

/// What a record may say after that fault: where the guest was and in which phase, if it failed; whether the guest found itself
/// sound, and its memory was proven equal.
fn judge(
    planned: &Planned,
    end: Option<(GuestAt, &str)>,
    checked: Option<bool>,
    verified: Option<bool>,
) -> Result<String, String> {
    let Some((guest, phase)) = end else {
        return match checked {
            Some(true) if verified != Some(false) => Ok("ok".to_owned()),
            _ => Err("well ended, and the guest is not known to be sound".to_owned()),
        };
    };
    let by_commit = phase == "handover";
    let killed_owner = planned.action == "kill"
        && match (planned.side, planned.point) {
            ("source", point) => point != "after-commit",
            // Ready was said: the source may have committed before it saw.
            ("destination", point) => point == "any" || by_commit || point == "before-commit",
            _ => false,
        };
    // Commit, or the answer to it, was lost on its way: the one side must not go on, and the other doesn't know that it may.
    let lost_commit =
        by_commit && (planned.action.starts_with("frame") || ["close", "corrupt"].contains(&planned.action));
    match guest {
        GuestAt::Source | GuestAt::Destination if checked == Some(true) => {
            Ok(if guest == GuestAt::Source { "source" } else { "destination" }.to_owned())
        }
        GuestAt::Lost if killed_owner || lost_commit => Ok("lost".to_owned()),
        // It was struck before there was a guest.
        GuestAt::Nowhere if planned.point == "any" && planned.action == "kill" => Ok("nowhere".to_owned()),
        _ => Err("no such end is allowed".to_owned()),
    }
}

/// What was done, and where it is written.
struct Log {
    path: PathBuf,
    seed: u64,
    /// Number, fault and outcome.
    done: BTreeMap<usize, (String, String)>,
}

impl Log {
    /// Goes on with what is there, if it is of this build and unfinished.
    fn open(path: PathBuf, count: usize) -> Self {
        let binary = fs::read(assert_cmd::cargo::cargo_bin!("migbench")).unwrap();
        let build = blake3::hash(&binary).to_hex()[..16].to_owned();
        let text = fs::read_to_string(&path).unwrap_or_default();
        let mut lines = text.lines();
        let head = lines.next().and_then(|line| line.strip_prefix(&format!("build {build} seed ")));
        let asked = std::env::var("MIGBENCH_FAULT_SEED").ok().map(|seed| seed.parse().unwrap());
        if let Some(seed) = head.and_then(|seed| seed.parse().ok())
            && asked.is_none_or(|asked| asked == seed)
        {
            let done: BTreeMap<_, _> = lines
                .filter_map(|line| {
                    let mut fields = line.split('\t');
                    let number = fields.next()?.parse().ok()?;
                    Some((number, (fields.next()?.to_owned(), fields.nth(4)?.to_owned())))
                })
                .collect();
            if done.len() < count {
                return Self { path, seed, done };
            }
        }
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let seed = asked.unwrap_or(now.as_secs());
        fs::write(&path, format!("build {build} seed {seed}\n")).unwrap();
        Self { path, seed, done: BTreeMap::new() }
    }

    fn add(&mut self, planned: &Planned, outcome: &str) {
        let Planned { number, engine, tracker, link, verify, .. } = planned;
        let (fault, verify) = (planned.fault(), if *verify { "verify" } else { "-" });
        let line = format!("{number}\t{fault}\t{engine}\t{tracker}\t{link}\t{verify}\t{outcome}\n");
        let mut file = OpenOptions::new().append(true).open(&self.path).unwrap();
        file.write_all(line.as_bytes()).unwrap();
        self.done.insert(*number, (planned.kind(), outcome.to_owned()));
    }
}

fn number_of(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

#[test]
#[ignore = "a thousand faults take half an hour"]
fn a_thousand_faults_lose_no_guest() {
    require_kvm!();
    let count = number_of("MIGBENCH_FAULTS", 1080);
    let path = std::env::var_os("MIGBENCH_FAULT_LOG")
        .map_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("faults.log"), PathBuf::from);
    let log = Log::open(path, count);
    eprintln!("seed {}, {} of {count} done, {}", log.seed, log.done.len(), log.path.display());
    let netns = netns_or_skip();
    let todo: Vec<_> = plan(log.seed, count)
        .into_iter()
        .filter(|planned| !log.done.contains_key(&planned.number) && (netns || planned.link != "netns"))
        .collect();
    let (log, next, wrong) = (Mutex::new(log), AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..number_of("MIGBENCH_FAULT_WORKERS", 2) {
            scope.spawn(|| {
                while let Some(planned) = todo.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match strike(planned) {
                        Ok(outcome) => log.lock().unwrap().add(planned, &outcome),
                        // It is not done: the next campaign begins with it.
                        Err(what) => {
                            eprintln!("{planned:?}: {what}");
                            wrong.lock().unwrap().push(format!("{planned:?}: {what}"));
                        }
                    }
                }
            });
        }
    });
    let mut table: BTreeMap<(String, String), u32> = BTreeMap::new();
    for (fault, outcome) in log.into_inner().unwrap().done.into_values() {
        let kind = fault.split('+').next().unwrap_or_default().to_owned();
        *table.entry((kind, outcome)).or_default() += 1;
    }
    for ((kind, outcome), times) in &table {
        eprintln!("{kind}\t{outcome}\t{times}");
    }
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} faults: {wrong:#?}", wrong.len());
}

#[test]
fn a_campaign_has_every_combination_and_every_kind() {
    let planned = plan(1, 1080);
    let mut combinations: Vec<_> = planned.iter().map(|p| (p.point, p.engine, p.tracker, p.link)).collect();
    combinations.sort_unstable();
    combinations.dedup();
    assert_eq!(combinations.len(), 270);
    let mut kinds: Vec<_> = planned.iter().map(Planned::kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds.len(), 5 * 2 * 9 + 6);
    let again = plan(1, 1080).into_iter().map(|p| p.fault()).collect::<Vec<_>>();
    assert_eq!(planned.iter().map(Planned::fault).collect::<Vec<_>>(), again);
    for fault in planned.iter().filter(|p| p.point != "any") {
        fault.fault().parse::<migbench::node::fault::InjectedFault>().unwrap();
    }
}

/// What must not be is found.
#[test]
fn a_campaign_refuses_what_must_not_be() {
    let planned = |side, action, point| Planned { side, action, point, ..plan(1, 1).pop().unwrap() };
    let verdict = |(side, action, point), guest: Option<GuestAt>, phase: &str, checked| {
        let end = guest.map(|guest| (guest, phase));
        judge(&planned(side, action, point), end, checked, None).ok()
    };
    use GuestAt::{Destination, Lost, Source, Unknown};
    let stop = ("source", "stop", "before-commit");
    assert_eq!(verdict(stop, None, "", Some(true)).as_deref(), Some("ok"));
    assert_eq!(verdict(stop, None, "", None), None, "nobody has looked");
    assert_eq!(verdict(stop, Some(Source), "handover", Some(true)).as_deref(), Some("source"));
    assert_eq!(verdict(stop, Some(Source), "handover", Some(false)), None, "damaged");
    assert_eq!(verdict(stop, Some(Lost), "handover", None), None);
    assert_eq!(verdict(stop, Some(Unknown), "handover", None), None);
    let starve = ("destination", "starve", "switchover");
    assert_eq!(verdict(starve, Some(Lost), "switchover", None), None);
    let kill = ("source", "kill", "after-commit");
    assert_eq!(verdict(kill, Some(Lost), "handover", None), None, "it is the destination's");
    assert_eq!(verdict(kill, Some(Destination), "handover", Some(true)).as_deref(), Some("destination"));
    let flip = ("source", "frame-flip", "precopy");
    assert_eq!(verdict(flip, Some(Lost), "precopy", None), None);
}

//! One suite on many machines: frozen, run in slices, merged.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use migbench_reports::store::{Accept, RunData};
use migbench_scenarios::frozen::FrozenPlan;
use saphyr::{LoadableYamlNode, Yaml};

use crate::support::{CommandOutcome, Migbench, require_kvm};

/// Two comparisons, for two slices.
const TWO: &str = r#"
name = "two"
description = "as little as two machines can share"

[defaults]
memory = "32MiB"
settings.working_set = "8MiB"
windows = { steady = "50ms", after = "50ms", warmup_max = "150ms" }

[[comparison]]
axes = { workload = ["write-heavy", "read-heavy"], engine = ["full"] }
compare = "engine"
baseline = "full"
"#;

fn migbench(arguments: &[&str]) -> CommandOutcome {
    // The tests themselves may be a task of some array.
    let clean = ["SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX"];
    clean.into_iter().fold(Migbench::new().args(arguments), Migbench::env_remove).run()
}

/// A directory with a frozen plan of two comparisons in it, and the plan's path.
fn frozen() -> (tempfile::TempDir, String) {
    let scratch = tempfile::tempdir().unwrap();
    let suite = scratch.path().join("two.toml");
    std::fs::write(&suite, TWO).unwrap();
    let plan = text(&scratch.path().join("plan.json"));
    let outcome = migbench(&["plan", &text(&suite), "--repeat", "1", "-o", &plan]);
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    assert!(outcome.stdout.contains("more than 2 slices gain nothing"), "{}", outcome.stdout);
    (scratch, plan)
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

#[track_caller]
fn assert_refused(arguments: &[&str], status: i32, words: &str) {
    let outcome = migbench(arguments);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (status, ""), "{arguments:?}: {}", outcome.stderr);
    assert!(outcome.stderr.contains(words), "{arguments:?}: no {words:?} in {}", outcome.stderr);
}

#[test]
#[ignore = "more than a few seconds"]
fn two_slices_of_real_guests_merge_into_one_run() {
    require_kvm!();
    let (scratch, plan) = frozen();
    let directory = |name: &str| text(&scratch.path().join(name));
    let slices = ["one", "two"].map(directory);
    for (number, slice) in (1..).zip(&slices) {
        let partition = format!("slice:{number}/2");
        let outcome = migbench(&["run", "--plan", &plan, "--partition", &partition, "-o", slice]);
        assert_eq!(outcome.status, 0, "{}", outcome.stderr);
        let expected = format!("slice {number}/2 of plan ");
        assert!(outcome.stderr.contains(&expected) && outcome.stderr.contains("chosen by --partition"));
        assert!(outcome.stderr.contains("1 of 2 comparisons, 2 of 4 runs"), "{}", outcome.stderr);
        // Nothing is left to do, and a slice is resumed as itself only.
        assert_eq!(
            migbench(&["run", "--resume", slice, "--plan", &plan, "--partition", &partition]).status,
            0
        );
        let other = format!("slice:{}/2", 3 - number);
        assert_refused(
            &["run", "--resume", slice, "--plan", &plan, "--partition", &other],
            5,
            &format!("its part of the plan was slice {number}/2"),
        );
    }
    let merged = directory("merged");
    assert_refused(&["merge", &slices[1], "-o", &merged], 3, "slice 1/2 with 2 runs is missing");
    assert_refused(&["merge", &slices[1], &slices[1], "-o", &merged], 5, "both hold slice 2/2");
    assert!(!Path::new(&merged).exists(), "refused before anything is made");
    let outcome = migbench(&["merge", &slices[1], &slices[0], "-o", &merged]);
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    assert!(outcome.stdout.starts_with("two: 4 migrations"), "{}", outcome.stdout);

    let data = RunData::load(&merged).unwrap();
    let frozen: FrozenPlan = serde_json::from_str(&std::fs::read_to_string(&plan).unwrap()).unwrap();
    assert_eq!(data.records.len(), frozen.plan.order.len());
    for (record, run) in data.records.iter().zip(&frozen.plan.order) {
        assert_eq!((record.seed, record.repetition), (run.seed, run.repetition));
        assert_eq!(record.cell, frozen.plan.cell(run).unwrap().cell);
    }
    let parts = &data.manifest.parts;
    assert_eq!(parts.iter().map(|part| part.records).collect::<Vec<_>>(), [2, 2]);
    assert!(parts.iter().all(|part| part.host.kernel.is_some() && part.canary.is_some()));
    let verified = data.records.iter().filter(|record| record.verified == Some(true)).count();
    assert_eq!(verified, 2, "verification runs are there");
    for arguments in
        [&["report", &merged][..], &["show", &merged], &["show", &merged, &data.records[3].run_id]]
    {
        let outcome = migbench(arguments);
        assert_eq!(outcome.status, 0, "{arguments:?}: {}", outcome.stderr);
        assert!(outcome.stdout.contains("-heavy"), "{arguments:?}: {}", outcome.stdout);
    }
    // One machine's run is of the same plan and class of host as the merged one.
    let whole = directory("whole");
    assert_eq!(migbench(&["run", "--plan", &plan, "-o", &whole]).status, 0);
    let compared = migbench(&["compare", &whole, &merged]);
    assert_eq!(compared.status, 0, "{}", compared.stderr);
    assert!(compared.stdout.contains("total time"), "{}", compared.stdout);
    let exports = directory("exports");
    assert_eq!(migbench(&["export", &merged, "--format", "junit", "-o", &exports]).status, 0);
    assert_refused(&["run", "--resume", &merged], 2, "was merged and cannot be resumed");
    let partial = directory("partial");
    let outcome = migbench(&["merge", &slices[0], "--partial", "-o", &partial]);
    // As of an interrupted suite: what is missing is not proven.
    assert_eq!(outcome.status, 1, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("slice 2/2 with 2 runs is missing"), "{}", outcome.stderr);
    assert!(outcome.stdout.contains("2 of 4 planned runs are recorded"), "{}", outcome.stdout);
    assert_eq!(RunData::load(partial).unwrap().records.len(), 2);
}

/// A plan of a shipped suite, run on the simulated testbed.
struct SimulatedArray {
    scratch: tempfile::TempDir,
    plan: String,
}

impl SimulatedArray {
    fn of(suite: &str) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let plan = text(&scratch.path().join("plan.json"));
        let outcome = migbench(&["plan", suite, "--repeat", "2", "-o", &plan]);
        assert_eq!(outcome.status, 0, "{}", outcome.stderr);
        Self { scratch, plan }
    }

    fn path(&self, name: &str) -> String {
        text(&self.scratch.path().join(name))
    }

    /// One slice, into the directory of that name.
    fn run(&self, slice: &str, name: &str, simulation: &str) -> CommandOutcome {
        let (partition, simulate) = (format!("slice:{slice}"), format!("--simulate={simulation}"));
        let output = self.path(name);
        migbench(&["run", "--plan", &self.plan, "--partition", &partition, &simulate, "-o", &output])
    }

    fn merge(&self, slices: &[&str]) -> CommandOutcome {
        let paths: Vec<_> = slices.iter().map(|name| self.path(name)).collect();
        let merged = self.path("merged");
        let mut arguments = vec!["merge", "--simulated", "-o", &merged];
        arguments.extend(paths.iter().map(String::as_str));
        migbench(&arguments)
    }

    fn data(&self, name: &str) -> RunData {
        RunData::load_as(self.path(name), Accept::Simulated).unwrap()
    }
}

#[test]
#[ignore = "more than a few seconds"]
fn slices_of_any_number_are_what_one_machine_gives() {
    // A run fails, one is capped, and the hosts have names of their own.
    for (suite, of) in [("quick", 2), ("quick", 3), ("nightly", 4), ("trackers", 5), ("workloads", 3)] {
        let simulated = SimulatedArray::of(suite);
        let whole = simulated.run("1/1", "whole", "fail=2,cap=5,host=one");
        assert_eq!(whole.status, 1, "a run failed: {}", whole.stderr);
        let names: Vec<_> = (1..=of).map(|number| number.to_string()).collect();
        let mut failures = 0;
        for name in &names {
            let outcome = simulated.run(&format!("{name}/{of}"), name, &format!("fail=2,cap=5,host=h{name}"));
            failures += outcome.status;
        }
        assert_eq!(failures, 1, "one slice has the failed run");
        let merged = simulated.merge(&names.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(merged.status, 1, "as on one machine: {}", merged.stderr);
        let (whole, merged) = (simulated.data("whole"), simulated.data("merged"));
        assert_eq!(merged.records, whole.records, "{suite} of {of}");
        let (one, many) = (whole.manifest, merged.manifest);
        assert_eq!((many.comparisons, many.planned_runs), (one.comparisons, one.planned_runs));
        assert_eq!((many.skipped, many.plan), (one.skipped, one.plan));
        let hosts: Vec<_> = many.parts.iter().map(|part| part.host.hostname.clone().unwrap()).collect();
        assert_eq!(hosts, names.iter().map(|name| format!("h{name}")).collect::<Vec<_>>());
    }
}

#[test]
fn an_interrupted_slice_is_missed_until_it_is_resumed() {
    let simulated = SimulatedArray::of("quick");
    assert_eq!(simulated.run("1/2", "1", "").status, 0);
    assert_eq!(simulated.run("2/2", "2", "interrupt=3").status, 130);
    let merged = simulated.merge(&["1", "2"]);
    assert_eq!(merged.status, 3);
    let expected = format!("slice 2/2 in {} has 3 of 6 runs", simulated.path("2"));
    assert!(merged.stderr.contains(&expected), "{}", merged.stderr);
    let rest = migbench(&["run", "--resume", &simulated.path("2"), "--simulate"]);
    assert_eq!(rest.status, 0, "{}", rest.stderr);
    assert_eq!(simulated.merge(&["2", "1"]).status, 0);
    assert_eq!(simulated.run("1/1", "whole", "").status, 0);
    assert_eq!(simulated.data("merged").records, simulated.data("whole").records);
}

#[test]
fn slices_of_unlike_hosts_or_other_plans_are_not_merged() {
    let simulated = SimulatedArray::of("quick");
    for (slice, name, simulation) in
        [("1/2", "1", ""), ("2/2", "2", "cpu-name=Another"), ("2/2", "2c", "cores=3"), ("2/3", "2of3", "")]
    {
        assert_eq!(simulated.run(slice, name, simulation).status, 0);
    }
    let other = SimulatedArray::of("trackers");
    assert_eq!(other.run("2/2", "2", "").status, 0);
    for (with, words) in [
        (simulated.path("2"), "the CPU is "),
        (simulated.path("2c"), "the number of CPUs is "),
        (simulated.path("2of3"), "the number of slices is 2 in one and 3 in the other"),
        (other.path("2"), "the plan is "),
        (simulated.path("1"), "both hold slice 1/2"),
    ] {
        let merged = simulated.path("merged");
        assert_refused(&["merge", "--simulated", "-o", &merged, &simulated.path("1"), &with], 5, words);
        assert!(!Path::new(&merged).exists());
    }
    // What an older version left.
    assert_eq!(simulated.run("2/2", "old", "").status, 0);
    for file in ["manifest.json", "runs.jsonl"] {
        let path = Path::new(&simulated.path("old")).join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        let old = text.replace("\"schema\":2,", "\"schema\":1,").replace("\"schema\": 2,", "\"schema\": 1,");
        assert_ne!(text, old);
        std::fs::write(path, old).unwrap();
    }
    let (merged, old) = (simulated.path("merged"), simulated.path("old"));
    let words = "run both slices with the build of migbench that froze the plan";
    assert_refused(&["merge", "--simulated", "-o", &merged, &simulated.path("1"), &old], 5, words);
}

#[test]
fn an_empty_slice_is_a_directory_without_records() {
    let simulated = SimulatedArray::of("quick");
    for name in ["1", "2", "3"] {
        let outcome = simulated.run(&format!("{name}/3"), name, "");
        assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    }
    assert_eq!(simulated.data("3").records, []);
    assert_eq!(simulated.merge(&["1", "2"]).status, 0, "it is not missed");
}

#[test]
fn a_task_of_an_array_finds_its_slice_by_itself() {
    let (_scratch, plan) = frozen();
    let of = |variables: &[(&str, &str)]| {
        let command = Migbench::new().args(["run", "--plan", &plan, "--dry-run"]);
        let clean = ["SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX"];
        let command = clean.into_iter().fold(command, Migbench::env_remove);
        variables.iter().fold(command, |command, (name, value)| command.env(name, value)).run()
    };
    let slurm =
        of(&[("SLURM_ARRAY_TASK_ID", "2"), ("SLURM_ARRAY_TASK_MIN", "1"), ("SLURM_ARRAY_TASK_COUNT", "2")]);
    assert!(slurm.stdout.starts_with("slice 2/2 of plan "), "{}{}", slurm.stdout, slurm.stderr);
    assert!(
        slurm
            .stdout
            .contains("chosen by SLURM_ARRAY_TASK_ID=2 of SLURM_ARRAY_TASK_COUNT=2: 1 of 2 comparisons")
    );
    let kubernetes = of(&[("JOB_COMPLETION_INDEX", "0"), ("JOB_COMPLETIONS", "2")]);
    assert!(kubernetes.stdout.starts_with("slice 1/2 of plan "), "{}", kubernetes.stdout);
    let comparisons =
        |outcome: &CommandOutcome| outcome.stdout.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    let whole = of(&[]);
    assert!(whole.stdout.starts_with("slice 1/1 of plan "), "{}", whole.stdout);
    let both = [comparisons(&slurm), comparisons(&kubernetes)].map(BTreeSet::from_iter);
    assert!(both[0].is_disjoint(&both[1]), "{both:?}");
    assert_eq!(&both[0] | &both[1], BTreeSet::from_iter(comparisons(&whole)), "each comparison once");
    let alone = of(&[("JOB_COMPLETION_INDEX", "0")]);
    assert_eq!(alone.status, 2);
    assert!(alone.stderr.contains("JOB_COMPLETIONS is not"), "{}", alone.stderr);
}

#[test]
fn plans_are_not_edited_nor_overwritten() {
    let (scratch, plan) = frozen();
    let suite = text(&scratch.path().join("two.toml"));
    assert_refused(&["plan", &suite, "-o", &plan], 2, "plan.json: File exists");
    let whole = std::fs::read_to_string(&plan).unwrap();
    for (was, is, status, words) in [
        ("\"repetitions\": 1", "\"repetitions\": 2", 2, "changed since it was frozen"),
        ("\"plan_schema\": 2", "\"plan_schema\": 9", 2, "a plan of format 9"),
        ("\"version\": \"", "\"version\": \"9", 5, "machines that share a plan use one build"),
    ] {
        let changed = whole.replacen(was, is, 1);
        assert_ne!(changed, whole, "{was}");
        std::fs::write(&plan, changed).unwrap();
        assert_refused(&["run", "--plan", &plan, "--partition", "slice:1/2"], status, words);
    }
    assert_refused(&["run", "--plan", &plan, "--partition", "slice:3/2"], 2, "there is no slice 3 of 2");
    assert_refused(&["run", "--plan", &plan, "--repeat", "2"], 2, "--repeat");
    assert_refused(&["run", &suite, "--partition", "slice:1/2", "--dry-run"], 2, "--partition");
    assert_refused(&["run", "--partition", "slice:1/2", "--dry-run"], 2, "--plan");
}

/// Path to value, of everything in a YAML document but lists' places.
fn fields(node: &Yaml, path: &str, all: &mut BTreeMap<String, Vec<String>>) {
    match node {
        Yaml::Mapping(mapping) => {
            for (key, value) in mapping {
                fields(value, &format!("{path}/{}", key.as_str().unwrap()), all);
            }
        }
        Yaml::Sequence(list) => list.iter().for_each(|value| fields(value, path, all)),
        other => {
            let plain = other.as_str().map(str::to_owned);
            let number = other.as_integer().map(|number| number.to_string());
            let value = plain.or(number).or(other.as_bool().map(|b| b.to_string())).unwrap();
            all.entry(path.to_owned()).or_default().push(value);
        }
    }
}

#[test]
fn the_indexed_job_gives_each_pod_a_slice_and_a_node() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/kubernetes");
    let read = |name: &str| std::fs::read_to_string(PathBuf::from(&folder).join(name)).unwrap();
    let (job, shell) = (read("job.yaml"), read("shell.yaml"));
    let documents = Yaml::load_from_str(&job).unwrap();
    assert_eq!(documents.len(), 1);
    let mut all = BTreeMap::new();
    fields(&documents[0], "", &mut all);
    let one = |path: &str| match all.get(path).map(Vec::as_slice) {
        Some([value]) => value.as_str(),
        other => panic!("{path}: {other:?}"),
    };
    assert_eq!(
        (one("/apiVersion"), one("/kind"), one("/spec/completionMode")),
        ("batch/v1", "Job", "Indexed")
    );
    let pod = "/spec/template/spec";
    assert_eq!(one(&format!("{pod}/containers/env/name")), migbench::runner::array::COMPLETIONS);
    assert_eq!(one(&format!("{pod}/containers/env/value")), one("/spec/completions"));
    let apart = format!("{pod}/affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution");
    assert_eq!(one(&format!("{apart}/topologyKey")), "kubernetes.io/hostname");
    assert_eq!(
        one(&format!("{apart}/labelSelector/matchLabels/app")),
        one("/spec/template/metadata/labels/app")
    );
    assert_eq!(one(&format!("{pod}/hostNetwork")), "true");
    assert_eq!(one(&format!("{pod}/restartPolicy")), "Never");
    assert!(all[&format!("{pod}/volumes/hostPath/path")].contains(&"/dev/kvm".to_owned()));
    for resource in ["cpu", "memory"] {
        let of = |kind: &str| one(&format!("{pod}/containers/resources/{kind}/{resource}")).to_owned();
        assert_eq!(of("requests"), of("limits"), "or the static CPU policy gives no CPUs of its own");
    }
    let script = all[&format!("{pod}/containers/command")].last().unwrap();
    for word in ["run --plan /results/plan.json", "--resume", migbench::runner::array::INDEX] {
        assert!(script.contains(word), "{word}");
    }
    let claims = |all: &BTreeMap<String, Vec<String>>, pod: &str| {
        all[&format!("{pod}/volumes/persistentVolumeClaim/claimName")].clone()
    };
    let documents = Yaml::load_from_str(&shell).unwrap();
    let [mut claim, mut other] = [BTreeMap::new(), BTreeMap::new()];
    fields(&documents[0], "", &mut claim);
    fields(&documents[1], "", &mut other);
    assert_eq!(claim["/metadata/name"], claims(&all, pod));
    assert_eq!(claims(&other, "/spec"), claims(&all, pod));
    assert_eq!(other["/spec/containers/image"], all[&format!("{pod}/containers/image")]);
}

//! `JUnit` XML: a test case for each gate, for each proof, and for each planned run. What is green here is what ended as it
//! should:
//!
//! | case | passed | failure | error | skipped |
//! |---|---|---|---|---|
//! | gate | not worse | a confirmed regression | runs or proofs failed or are missing | not enough evidence |
//! | proof | memory equal | memory differed | not made | |
//! | run | ended as planned, the guest's state sound | capped; the guest's state was wrong | failed; missing; its guest not checked | this host can't run the cell |

use std::time::Duration;

use migbench_scenarios::cell::Proof;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::{ExportError, Source};
use crate::cells::{self, CellRuns};
use crate::format::Format;
use crate::judge::Verdict;
use crate::metric::{self, MetricKey};
use crate::record::{Record, Status};

pub(super) fn text(source: &Source<'_>) -> Result<String, ExportError> {
    let manifest = source.manifest;
    let suite = manifest.suite.as_str();
    let mut report = Report::new(format!("migbench {suite}"));
    let mut gates = TestSuite::new("gates");
    for (result, verdict) in source.gates() {
        let said = result.text();
        let message = || format!("{}: {}", verdict.word(), said.lines().next().unwrap_or_default());
        let status = match verdict {
            Verdict::Fine => TestCaseStatus::success(),
            Verdict::Regression => failure("regression", message()),
            Verdict::Unsound => error("unsound", message()),
            _ => skipped(message()),
        };
        let mut case = case(suite, "gates", result.gate.to_string(), status);
        case.set_system_out(said);
        gates.add_test_case(case);
    }
    if !gates.test_cases.is_empty() {
        report.add_test_suite(gates);
    }
    let (sorted, _) = cells::sort(manifest, source.records);
    let (mut proofs, mut suites) = (TestSuite::new("proofs"), Vec::new());
    for comparison in &sorted {
        let name = comparison.plan.name.as_str();
        let mut runs_of = TestSuite::new(name);
        for runs in &comparison.cells {
            let planned = comparison.plan.cells.iter().find(|planned| planned.cell == *runs.cell);
            let id = planned.map_or(runs.label.as_str(), |planned| planned.id.as_str());
            for repetition in source.repetitions.clone() {
                let record = record(runs, repetition);
                let which =
                    format!("{id} run {repetition}{}", if repetition == 0 { ", which verifies" } else { "" });
                if let Some(reason) = runs.skipped {
                    let status = skipped(format!("not available here: {reason}"));
                    runs_of.add_test_case(case(suite, name, which, status));
                    continue;
                }
                let mut run = case(suite, name, which, ended(record));
                let time = record.and_then(|record| metric::value(&record.metrics, MetricKey::TotalTime));
                if let Some(Ok(time)) = time.map(Duration::try_from_secs_f64) {
                    run.set_time(time);
                }
                runs_of.add_test_case(run);
                let proves = repetition == 0 || runs.cell.proof == Proof::Every;
                if proves && runs.cell.engine.migrates() {
                    let what = format!("{id} run {repetition}: memory arrived equal");
                    proofs.add_test_case(case(suite, "proofs", what, proven(record)));
                }
            }
        }
        suites.push(runs_of);
    }
    if !proofs.test_cases.is_empty() {
        report.add_test_suite(proofs);
    }
    report.add_test_suites(suites);
    report.to_string().map_err(|error| ExportError::Format { format: Format::Junit, why: error.to_string() })
}

fn record<'a>(runs: &CellRuns<'a>, repetition: u32) -> Option<&'a Record> {
    let all = [&runs.ok, &runs.capped, &runs.failed, &runs.verification];
    all.into_iter().flatten().copied().find(|record| record.repetition == repetition)
}

fn case(suite: &str, class: &str, name: String, status: TestCaseStatus) -> TestCase {
    let mut case = TestCase::new(name, status);
    case.set_classname(format!("{suite}.{class}"));
    case
}

fn not_passed(kind: NonSuccessKind, what: &str, message: String) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    status.set_type(what);
    status.set_message(message);
    status
}

fn failure(what: &str, message: String) -> TestCaseStatus {
    not_passed(NonSuccessKind::Failure, what, message)
}

fn error(what: &str, message: String) -> TestCaseStatus {
    not_passed(NonSuccessKind::Error, what, message)
}

fn skipped(message: String) -> TestCaseStatus {
    let mut status = TestCaseStatus::skipped();
    status.set_message(message);
    status
}

fn missing() -> TestCaseStatus {
    error("missing", "planned, and not made: the suite was interrupted or still runs".to_owned())
}

/// How a run ended.
fn ended(record: Option<&Record>) -> TestCaseStatus {
    let Some(record) = record else { return missing() };
    match (record.status, record.guest_checked) {
        (Status::Failed, _) => {
            let why = record.error.as_ref().map(|error| format!("{}: {}", error.phase, error.message));
            error("failed", why.unwrap_or_default())
        }
        (_, Some(false)) => failure("guest-state", "the guest's own check of its state failed".to_owned()),
        (_, None) if record.cell.engine.migrates() => {
            error("unchecked", "the guest did not check its own state".to_owned())
        }
        (Status::Capped, _) => {
            failure("capped", "a limit forced the switchover: this is no sample".to_owned())
        }
        (Status::Ok, _) => TestCaseStatus::success(),
    }
}

/// Whether a run proved that memory arrived as it was.
fn proven(record: Option<&Record>) -> TestCaseStatus {
    let Some(record) = record else { return missing() };
    match (record.verified, &record.not_verified) {
        (Some(true), _) => TestCaseStatus::success(),
        (Some(false), _) => failure("memory-differs", "memory differed".to_owned()),
        (None, Some(why)) => error("unproven", format!("memory was not compared: {why}")),
        (None, None) => error("unproven", "memory was not compared".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::sample::{self, Sample};

    /// All cases by suite and name, with what stands in the place of success: as `failure capped`.
    fn cases(
        records: &[Record],
        change: impl FnOnce(&mut crate::manifest::Manifest),
    ) -> BTreeMap<String, String> {
        let mut manifest = sample::manifest();
        for comparison in &mut manifest.comparisons {
            let whole = |id: &str| format!("{}/{id}", comparison.name);
            comparison.baseline = whole(&comparison.baseline);
            comparison.cells.iter_mut().for_each(|planned| planned.id = whole(&planned.id));
        }
        change(&mut manifest);
        let text = text(&Source::new(&manifest, records, None)).unwrap();
        let report = Report::deserialize_from_str(&text).unwrap();
        let status = |case: &TestCase| match &case.status {
            TestCaseStatus::Success { .. } => "passed".to_owned(),
            TestCaseStatus::NonSuccess { kind, ty, .. } => {
                let kind = if *kind == NonSuccessKind::Error { "error" } else { "failure" };
                format!("{kind} {}", ty.as_deref().unwrap_or_default())
            }
            TestCaseStatus::Skipped { .. } => "skipped".to_owned(),
        };
        let of = |suite: &TestSuite| {
            let name = suite.name.as_str();
            let cases = suite.test_cases.iter();
            cases.map(|case| (format!("{name}: {}", case.name.as_str()), status(case))).collect::<Vec<_>>()
        };
        let all: Vec<_> = report.test_suites.iter().flat_map(of).collect();
        assert_eq!(report.tests, all.len());
        let by_name: BTreeMap<_, _> = all.into_iter().collect();
        assert_eq!(by_name.len(), report.tests, "no name comes twice");
        by_name
    }

    fn not_passed(cases: &BTreeMap<String, String>) -> Vec<String> {
        let failing = cases.iter().filter(|(_, status)| *status != "passed");
        failing.map(|(name, status)| format!("{name}: {status}")).collect()
    }

    #[test]
    fn every_planned_run_and_proof_is_a_case() {
        let cases = cases(&sample::records(), |_| {});
        assert_eq!(cases.len(), 24 + 4);
        assert_eq!(not_passed(&cases), [""; 0]);
    }

    #[test]
    fn what_did_not_end_as_it_should_is_not_green() {
        let mut records = sample::records();
        // In the order of sample::records: read-heavy full and delta, then write-heavy.
        records[0].verified = Some(false);
        records[1].status = Status::Capped;
        records[2].guest_checked = Some(false);
        records[3].guest_checked = None;
        records[6].verified = None;
        records[6].not_verified = Some("the link broke".to_owned());
        records[7] =
            Sample::new("read-heavy", "delta").repetition(1).failed("precopy", "link <gone>").build();
        records.truncate(23);
        assert_eq!(
            not_passed(&cases(&records, |_| {})),
            [
                "proofs: read-heavy/delta run 0: memory arrived equal: error unproven",
                "proofs: read-heavy/full run 0: memory arrived equal: failure memory-differs",
                "read-heavy: read-heavy/delta run 1: error failed",
                "read-heavy: read-heavy/full run 1: failure capped",
                "read-heavy: read-heavy/full run 2: failure guest-state",
                "read-heavy: read-heavy/full run 3: error unchecked",
                "write-heavy: write-heavy/delta run 5: error missing",
            ]
        );
    }

    #[test]
    fn runs_that_were_all_capped_are_not_green() {
        let mut records = sample::records();
        let timed = records.iter_mut().filter(|record| record.repetition > 0);
        timed.for_each(|record| record.status = Status::Capped);
        let not_green = not_passed(&cases(&records, |_| {}));
        assert_eq!(not_green.len(), 20);
        assert!(not_green.iter().all(|case| case.ends_with("failure capped")));
    }

    #[test]
    fn cells_that_a_host_can_not_run_are_skipped() {
        let mut records = sample::records();
        records.retain(|record| record.run_id.starts_with("read-heavy") || !record.run_id.contains("delta"));
        let skip = |manifest: &mut crate::manifest::Manifest| {
            manifest.skipped.push(crate::manifest::Skipped {
                comparison: "write-heavy".to_owned(),
                cell: manifest.comparisons[1].cells[1].id.clone(),
                reason: "no dirty log".to_owned(),
            });
        };
        let cases = cases(&records, skip);
        let skipped: Vec<_> = cases.iter().filter(|(_, status)| *status == "skipped").collect();
        assert_eq!((skipped.len(), not_passed(&cases).len()), (6, 6), "{cases:?}");
    }

    #[test]
    fn every_timed_run_that_is_to_prove_memory_has_a_case_for_it() {
        let mut records = sample::records();
        let every = |cell: &mut migbench_scenarios::cell::Cell| cell.proof = Proof::Every;
        records.iter_mut().for_each(|record| every(&mut record.cell));
        for record in &mut records[2..] {
            record.verified = Some(true);
        }
        let cases = cases(&records, |manifest| {
            manifest.comparisons.iter_mut().flat_map(|c| &mut c.cells).for_each(|p| every(&mut p.cell));
        });
        assert_eq!(cases.len(), 24 + 24);
        assert_eq!(not_passed(&cases).len(), 1, "one did not");
    }
}

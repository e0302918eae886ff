//! `JUnit` XML: a suite for each comparison, a test case for each run and for each cell that was left out. A run fails when
//! it failed or when what it was to prove was not proven; a capped one passes, and says so.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::{ExportError, Format, Source};
use crate::metric::{self, MetricKey};
use crate::record::{Record, Status};

pub(super) fn text(source: &Source<'_>) -> Result<String, ExportError> {
    let manifest = source.manifest;
    let mut report = Report::new(format!("migbench {}", manifest.suite));
    for comparison in &manifest.comparisons {
        let mut suite = TestSuite::new(comparison.name.as_str());
        for skipped in manifest.skipped.iter().filter(|skipped| skipped.comparison == comparison.name) {
            let mut status = TestCaseStatus::skipped();
            status.set_message(format!("not available here: {}", skipped.reason));
            suite.add_test_case(TestCase::new(skipped.cell.as_str(), status));
        }
        for record in source.records.iter().filter(|record| record.comparison == comparison.name) {
            let id = comparison.cells.iter().find(|planned| planned.cell == record.cell);
            let id = id.map_or(record.run_id.as_str(), |planned| planned.id.as_str());
            suite.add_test_case(case(&manifest.suite, id, record));
        }
        report.add_test_suite(suite);
    }
    report.to_string().map_err(|error| ExportError::Format { format: Format::Junit, why: error.to_string() })
}

fn case(suite: &str, id: &str, record: &Record) -> TestCase {
    let mut status = TestCaseStatus::success();
    if record.status == Status::Failed
        || record.verified == Some(false)
        || record.not_verified.is_some()
        || record.guest_checked == Some(false)
    {
        status = TestCaseStatus::non_success(NonSuccessKind::Failure);
        let message = record.error.as_ref().map_or_else(
            || match &record.not_verified {
                Some(why) => format!("memory was not compared: {why}"),
                None => "what it was to prove was not proven".to_owned(),
            },
            |error| format!("{}: {}", error.phase, error.message),
        );
        status.set_type(if record.status == Status::Failed { "failed" } else { "unproven" });
        status.set_message(message);
    }
    let mut case = TestCase::new(format!("{id} run {}", record.repetition), status);
    case.set_classname(format!("{suite}.{}", record.comparison));
    if let Some(seconds) = metric::value(&record.metrics, MetricKey::TotalTime)
        && let Ok(time) = Duration::try_from_secs_f64(seconds)
    {
        case.set_time(time);
    }
    if record.status == Status::Capped {
        case.set_system_out("capped: a limit forced the switchover");
    }
    case
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn reads_back_with_every_run_and_every_failure() {
        let (manifest, records) = (sample::manifest(), super::super::tests::records());
        let text = text(&Source::new(&manifest, &records)).unwrap();
        let report = Report::deserialize_from_str(&text).unwrap();
        assert_eq!(report.tests, records.len());
        assert_eq!(report.failures, 1);
        assert!(text.contains("link &lt;gone"), "{text}");
    }

    #[test]
    fn a_guest_that_fails_its_check_fails_the_case() {
        let manifest = sample::manifest();
        let records =
            [sample::Sample::new("write-heavy", "full").with(|r| r.guest_checked = Some(false)).build()];
        let text = text(&Source::new(&manifest, &records)).unwrap();
        assert_eq!(Report::deserialize_from_str(&text).unwrap().failures, 1);
    }

    #[test]
    fn a_proof_that_was_not_made_fails_the_case_and_says_why() {
        let manifest = sample::manifest();
        let unproven = sample::Sample::new("write-heavy", "full")
            .with(|r| r.not_verified = Some("the link broke".to_owned()));
        let text = text(&Source::new(&manifest, &[unproven.build()])).unwrap();
        assert_eq!(Report::deserialize_from_str(&text).unwrap().failures, 1);
        assert!(text.contains("memory was not compared: the link broke"), "{text}");
    }
}

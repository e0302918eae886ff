//! What was proven, stated exactly: which runs hashed memory equal, after which migrations the guest's own state was
//! checked, and, loudly, what was not.

use migbench_scenarios::cell::Proof;

use crate::cells::ComparisonRuns;
use crate::quantity::count;
use crate::record::{Record, RunKind, Status};

/// The footer of a report.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verification {
    /// What was proven.
    pub proven: String,
    /// What was disproven or left unproven; empty in a sound report.
    pub alarms: Vec<String>,
}

impl Verification {
    /// From all records, sorted and not.
    #[must_use]
    pub fn of(comparisons: &[ComparisonRuns<'_>], records: &[Record]) -> Self {
        let migrated: Vec<_> = records.iter().filter(|record| record.cell.engine.migrates()).collect();
        if migrated.is_empty() {
            return Self { proven: "nothing was migrated".to_owned(), alarms: Vec::new() };
        }
        let mut alarms = damage(records);
        let memory = memory(comparisons, &migrated, &mut alarms);
        let state = state(&migrated, &mut alarms);
        Self { proven: format!("{memory}; {state}"), alarms }
    }
}

fn damage(records: &[Record]) -> Vec<String> {
    let mut alarms = Vec::new();
    let runs = |found: Vec<&Record>| {
        found.iter().map(|record| record.run_id.as_str()).collect::<Vec<_>>().join(", ")
    };
    let differed: Vec<_> = records.iter().filter(|record| record.verified == Some(false)).collect();
    if !differed.is_empty() {
        alarms.push(format!("MEMORY DIFFERED in {}: {}", count(differed.len(), "run"), runs(differed)));
    }
    let not_made: Vec<_> =
        records.iter().filter_map(|record| Some((record, record.not_verified.as_ref()?))).collect();
    if !not_made.is_empty() {
        let each: Vec<_> = not_made.iter().map(|(run, why)| format!("{} ({why})", run.run_id)).collect();
        alarms.push(format!(
            "NOT VERIFIED: memory was not compared in {}: {}",
            count(not_made.len(), "run"),
            each.join(", ")
        ));
    }
    let broken: Vec<_> = records.iter().filter(|record| record.guest_checked == Some(false)).collect();
    if !broken.is_empty() {
        alarms.push(format!("GUEST STATE WAS WRONG in {}: {}", count(broken.len(), "run"), runs(broken)));
    }
    alarms
}

fn memory(comparisons: &[ComparisonRuns<'_>], migrated: &[&Record], alarms: &mut Vec<String>) -> String {
    let equal = |kind: RunKind| {
        migrated.iter().filter(move |record| record.kind == kind && record.verified == Some(true)).count()
    };
    let (verification, timed) = (equal(RunKind::Verification), equal(RunKind::Timed));
    let mut unproven = Vec::new();
    let mut one_each = true;
    for comparison in comparisons {
        let cells = comparison.cells.iter();
        for cell in cells.filter(|cell| cell.cell.engine.migrates() && cell.skipped.is_none()) {
            let proofs = cell.verification.iter().filter(|run| run.verified == Some(true)).count();
            one_each &= proofs == 1;
            let mut timed = cell.ok.iter().chain(&cell.capped);
            if proofs == 0 && !timed.any(|run| run.verified == Some(true)) {
                unproven.push(format!("{}/{}", comparison.plan.name, cell.label));
            }
        }
    }
    if !unproven.is_empty() {
        alarms.push(format!("NOT VERIFIED: no run proved the memory of {}", unproven.join(", ")));
    }
    let promised = |record: &&&Record| {
        record.cell.proof == Proof::Every
            && record.kind == RunKind::Timed
            && record.status != Status::Failed
            && record.verified.is_none()
            && record.not_verified.is_none()
    };
    let broken_promises = migrated.iter().filter(promised).count();
    if broken_promises > 0 {
        alarms.push(format!(
            "NOT VERIFIED: {} that should have proven memory did not",
            count(broken_promises, "timed run")
        ));
    }
    if verification + timed == 0 {
        return "memory was not verified in any run".to_owned();
    }
    let each = if one_each { ", one per cell" } else { "" };
    let mut text = format!("memory hashed equal in {}{each}", count(verification, "verification run"));
    if timed > 0 {
        text += &format!(" and in {}", count(timed, "timed run"));
    }
    text
}

fn state(migrated: &[&Record], alarms: &mut Vec<String>) -> String {
    let failed = migrated.iter().filter(|record| record.status == Status::Failed).count();
    let ended = migrated.len() - failed;
    let of_ended = |answer: Option<bool>| {
        let ended = migrated.iter().filter(|record| record.status != Status::Failed);
        ended.filter(|record| record.guest_checked == answer).count()
    };
    let (sound, unchecked) = (of_ended(Some(true)), of_ended(None));
    if unchecked > 0 {
        alarms.push(format!("GUEST STATE NOT CHECKED after {unchecked} of {}", count(ended, "migration")));
    }
    let which = if failed > 0 { " that ended" } else { "" };
    if sound == ended && ended > 0 {
        let all = if ended == 1 { "the one migration".to_owned() } else { format!("all {ended} migrations") };
        format!("guest state checked after {all}{which}")
    } else {
        format!("guest state checked after {sound} of {}{which}", count(ended, "migration"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cells;
    use crate::sample::{self, Sample};

    fn of(records: &[Record]) -> Verification {
        let manifest = sample::manifest();
        let (sorted, _) = cells::sort(&manifest, records);
        Verification::of(&sorted, records)
    }

    #[test]
    fn a_sound_report_says_what_was_proven() {
        let found = of(&sample::records());
        assert_eq!(
            found.proven,
            "memory hashed equal in 4 verification runs, one per cell; guest state checked after all 24 migrations"
        );
        assert_eq!(found.alarms, [""; 0]);
    }

    #[test]
    fn damage_is_loud() {
        let mut records = sample::records();
        records[0] = Sample::new("read-heavy", "full").verification(Some(false)).build();
        records[7].guest_checked = Some(false);
        let found = of(&records);
        assert!(found.proven.starts_with("memory hashed equal in 3 verification runs; "), "{}", found.proven);
        assert!(found.proven.ends_with("after 23 of 24 migrations"), "{}", found.proven);
        assert_eq!(
            found.alarms,
            [
                "MEMORY DIFFERED in 1 run: read-heavy-full-0",
                "GUEST STATE WAS WRONG in 1 run: read-heavy-delta-1",
                "NOT VERIFIED: no run proved the memory of read-heavy/full",
            ]
        );
    }

    #[test]
    fn what_is_missing_is_loud() {
        let mut records = sample::records();
        records.remove(0);
        records[0].guest_checked = None;
        records[1].cell.proof = Proof::Every;
        let alarms = of(&records).alarms;
        assert_eq!(
            alarms,
            [
                "NOT VERIFIED: no run proved the memory of read-heavy/full",
                "NOT VERIFIED: 1 timed run that should have proven memory did not",
                "GUEST STATE NOT CHECKED after 1 of 23 migrations",
            ]
        );
    }

    #[test]
    fn a_proof_that_was_not_made_is_neither_equal_nor_different() {
        let mut records = sample::records();
        records[0] = Sample::new("read-heavy", "full")
            .verification(None)
            .with(|record| record.not_verified = Some("the link broke".to_owned()))
            .build();
        records[1].cell.proof = Proof::Every;
        records[1].not_verified = Some("the after window was over first".to_owned());
        let found = of(&records);
        assert!(found.proven.starts_with("memory hashed equal in 3 verification runs; "), "{}", found.proven);
        assert_eq!(
            found.alarms,
            [
                "NOT VERIFIED: memory was not compared in 2 runs: read-heavy-full-0 (the link broke), read-heavy-full-1 \
                 (the after window was over first)",
                "NOT VERIFIED: no run proved the memory of read-heavy/full",
            ]
        );
    }

    #[test]
    fn failed_migrations_are_not_counted_as_checked() {
        let mut records = sample::records();
        records[3] = Sample::new("read-heavy", "full").repetition(3).failed("precopy", "gone").build();
        assert!(of(&records).proven.ends_with("after all 23 migrations that ended"));
    }
}

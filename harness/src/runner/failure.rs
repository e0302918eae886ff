//! Why a run failed and where its guest was in the end, from what both nodes say or leave unsaid.

use migbench_reports::record::{GuestAt, RunError};

use super::run::{NodeOutcome, RunOutcome, RunSpec};
use crate::node::protocol::{Checked, Failure};

/// Why the run failed and where the guest is; `None` when all went as planned.
pub(super) fn failure(spec: &RunSpec, outcome: &RunOutcome) -> Option<RunError> {
    let source = outcome.source.report();
    let destination = outcome.destination.as_ref().and_then(NodeOutcome::report);
    let mut parts: Vec<(String, String)> = Vec::new();
    let mut add = |failure: Option<&Failure>, side: &str| {
        if let Some(failure) = failure {
            parts.push((failure.phase.clone(), format!("{side}: {}", failure.message)));
        }
    };
    add(source.and_then(|s| s.failure.as_ref()), "source");
    add(destination.and_then(|d| d.failure.as_ref()), "destination");
    for (side, died) in
        [("source", died(&outcome.source)), ("destination", outcome.destination.as_ref().and_then(died))]
    {
        if let Some(how) = died {
            parts.push((String::new(), format!("the {side} node {how}")));
        }
    }
    if let Some(limit) = outcome.timed_out {
        parts.push(("timeout".into(), format!("given up after {limit} s")));
    }
    let checked = [source.and_then(|s| s.checked.as_ref()), destination.and_then(|d| d.checked.as_ref())];
    for Checked { passed, message } in checked.into_iter().flatten() {
        if !passed {
            parts.push((
                "validate".into(),
                message.clone().unwrap_or_else(|| "the guest's check failed".into()),
            ));
        }
    }
    let first = parts.iter().find(|(phase, _)| !phase.is_empty()).or(parts.first())?;
    let phase = match &first.0 {
        // Whoever waited for a source that died so early has a phase of its own.
        _ if source.is_none() && ["boot", "warmup"].contains(&outcome.reached) => outcome.reached.to_owned(),
        phase if !phase.is_empty() => phase.clone(),
        // A side died and the other one had nothing to complain of: the guest was there by then.
        _ if destination.is_some_and(|d| d.took_over) => "handover".to_owned(),
        _ => outcome.reached.to_owned(),
    };
    let message = parts.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join("; ");
    Some(RunError { phase, message, guest: guest_at(spec, outcome) })
}

fn died<T>(outcome: &NodeOutcome<T>) -> Option<&str> {
    match outcome {
        NodeOutcome::Died(how) => Some(how),
        NodeOutcome::Reported(_) => None,
    }
}

/// Where the guest is, from what each side knows of itself: a dead process runs no guest, a source that has sent
/// commit never resumes, a destination that has not received it never starts.
fn guest_at(spec: &RunSpec, outcome: &RunOutcome) -> GuestAt {
    let destination = outcome.destination.as_ref();
    match destination.and_then(NodeOutcome::report) {
        Some(report) if report.guest_runs => return GuestAt::Destination,
        Some(_) => {}
        // A node that was killed for taking too long may have run the guest until then, if there was one.
        None if outcome.reached != "boot" && outcome.timed_out.is_some() && spec.cell.engine.migrates() => {
            return GuestAt::Unknown;
        }
        None => {}
    }
    match outcome.source.report() {
        Some(report) if report.guest_runs && !report.handed_over => GuestAt::Source,
        Some(report) if report.steady.is_none() && report.sending.is_none() => match &report.failure {
            Some(failure) if failure.phase == "boot" => GuestAt::Nowhere,
            _ => GuestAt::Lost,
        },
        Some(_) => GuestAt::Lost,
        None if outcome.reached == "boot" => GuestAt::Nowhere,
        None if outcome.timed_out.is_some() => GuestAt::Unknown,
        None => GuestAt::Lost,
    }
}

//! Comparisons and judgements as text of at most 100 columns.

use std::fmt::Write as _;

use super::accepted::Accepted;
use super::compare::{CellChanges, Changes, MetricChange};
use super::gate::{
    Change, EXCLUDED, EXCLUDED_IN_CELL, GateResult, JudgedCell, Judgement, Outcome, RELEVANT, Verdict,
};
use super::measurement::Measurement;
use crate::metric::{Better, MetricKey, Unit};
use crate::quantity::{Scale, count, difference, show};
use crate::stats::Spread;

/// More cells than this are counted and not named.
const CELLS: usize = 6;

fn signed(ratio: f64) -> String {
    difference(ratio)
}

fn unit_of(metric: &str) -> Unit {
    MetricKey::find(metric).map_or(Unit::Ratio, |key| key.definition().unit)
}

fn origins(measurement: &Measurement<'_>, text: &mut String) {
    for (name, origin) in [("base", &measurement.base), ("new", &measurement.new)] {
        let _ = writeln!(text, "{name:<5} {} at commit {}", origin.path.display(), origin.commit());
    }
}

fn weakened(measurement: &Measurement<'_>, text: &mut String) {
    for note in &measurement.notes {
        let _ = writeln!(text, "note: {note}");
    }
    for change in &measurement.host {
        let _ = writeln!(text, "host: {change}");
    }
    for alarm in &measurement.unsound {
        let _ = writeln!(text, "!! {alarm}");
    }
}

impl Changes {
    /// As a table of at most 100 columns.
    #[must_use]
    pub fn text(&self, measurement: &Measurement<'_>) -> String {
        let mut text = format!("{}: new over base, cell by cell\n", measurement.suite);
        origins(measurement, &mut text);
        weakened(measurement, &mut text);
        let _ = writeln!(
            text,
            "\n{:<26} {:>10} {:>10} {:>9}  {:<19} {:>7}  change",
            "", "base", "new", "ratio", "95 % interval", "n"
        );
        for cell in &self.cells {
            cell_text(cell, &mut text);
        }
        let changes = || self.cells.iter().flat_map(|cell| &cell.metrics);
        let relabelled = if measurement.interleaved { "blocks" } else { "repetitions" };
        let _ = write!(
            text,
            "\nbase, new: medians; ratio: of geometric means, its interval by itself and not adjusted\n\
             change: by one permutation of {relabelled} for all {}, adjusted to 5 % for all together\n",
            count(self.tests(), "ratio")
        );
        let any = |word: &str| changes().any(|change| change.word() == word);
        if any("none found") {
            text.push_str(
                "none found: tested, and not told from chance; that is not to say that there is none\n",
            );
        }
        if any("untestable") {
            text.push_str(
                "untestable: so few runs can show no change, however large; (range): smallest and largest ratio\n",
            );
        }
        text.push_str("this informs and decides nothing; `migbench gate` does\n");
        text
    }
}

fn cell_text(cell: &CellChanges, text: &mut String) {
    let _ = writeln!(text, "{}", cell.id);
    for change in &cell.metrics {
        change_text(change, text);
    }
    let (base, new) = cell.capped;
    if base + new > 0 {
        let _ = writeln!(
            text,
            "  did not converge: {} of base, {} of new; the others are no fair sample",
            count(base, "run"),
            count(new, "run")
        );
    } else if cell.metrics.is_empty() {
        let _ = writeln!(text, "  no samples on one side or both");
    }
}

fn change_text(change: &MetricChange, text: &mut String) {
    let scale = Scale::suiting(change.unit(), change.medians.0);
    let spread = match change.ratio.map(|ratio| ratio.spread) {
        Some(Spread::Interval { low, high, .. }) => format!("{low:.3}..{high:.3}"),
        Some(Spread::Range { low, high }) => format!("({low:.3}..{high:.3})"),
        None => String::new(),
    };
    let ratio = change.ratio.map_or_else(String::new, |ratio| format!("{:.3}", ratio.value));
    let samples = match change.samples {
        (base, new) if base == new => base.to_string(),
        (base, new) => format!("{base}, {new}"),
    };
    let _ = writeln!(
        text,
        "  {:<24} {:>10} {:>10} {ratio:>9}  {spread:<19} {samples:>7}  {}",
        change.measure.label(),
        scale.show(change.medians.0),
        scale.show(change.medians.1),
        change.word()
    );
}

impl Judgement {
    /// As text of at most 100 columns. `again` is the command that measures both sides once more.
    #[must_use]
    pub fn text(
        &self,
        first: &Measurement<'_>,
        fresh: Option<&Measurement<'_>>,
        accepted: &Accepted,
        again: &str,
    ) -> String {
        let mut text = format!("gate of {}\n", first.suite);
        origins(first, &mut text);
        weakened(first, &mut text);
        if let Some(fresh) = fresh.filter(|_| !self.first_alarms.is_empty()) {
            text.push_str("confirmed or not by fresh samples alone:\n");
            origins(fresh, &mut text);
            weakened(fresh, &mut text);
        } else if fresh.is_some() {
            text.push_str("fresh samples were not looked at: there is no alarm to confirm\n");
        }
        for acceptance in &accepted.current {
            let _ = writeln!(text, "accepted: {acceptance}");
        }
        for acceptance in &accepted.expired {
            let _ = writeln!(text, "acceptance has expired and is ignored: {acceptance}");
        }
        text.push('\n');
        for result in &self.gates {
            gate_text(result, &mut text);
        }
        text.push_str(
            "new over base; in parentheses bounds, each by itself missed once in 20 times; p is one-sided and\n\
             adjusted for all gates, means and cells together\n",
        );
        for result in self.alarms() {
            alarm_text(result, first, &mut text);
        }
        let _ = writeln!(text, "\n{}", self.sentence(first, again));
        text
    }

    fn sentence(&self, first: &Measurement<'_>, again: &str) -> String {
        match self.verdict {
            Verdict::Fine => format!(
                "PASS: no gated metric became worse by {:.0} % or more in the mean over cells, or by {:.0} % in a cell; \
                 what is\nleft of any is under its floor",
                EXCLUDED * 100.0,
                EXCLUDED_IN_CELL * 100.0
            ),
            Verdict::Regression => "REGRESSION: fresh samples confirm it".to_owned(),
            Verdict::Unconfirmed => format!(
                "NOT CONFIRMED: an alarm stands only if fresh samples alone confirm it. Measure again and judge both:\n  {again}"
            ),
            Verdict::Unsound => "NOT SOUND: runs or proofs failed or are missing; mend that before looking at times".to_owned(),
            Verdict::HostChanged => {
                "HOST CHANGED: nothing is said of the commit; measure both sides again, on a quiet host, side by side \
                 with `migbench ab`"
                    .to_owned()
            }
            Verdict::NotEnough => {
                let runs = self.gates.iter().filter_map(|result| match result.outcome {
                    Outcome::NotEnough { runs } => runs,
                    _ => None,
                });
                let here = first.repetitions();
                match runs.max() {
                    Some(runs) => format!(
                        "NOT ENOUGH EVIDENCE: about {runs} timed runs of each cell and side would do, {} more than there \
                         are.\nMake a new measurement with --repeat {runs}; runs are not added to these.",
                        runs.saturating_sub(here)
                    ),
                    None => "NOT ENOUGH EVIDENCE: a gate has no cell with samples on both sides, or one that did not \
                             converge on\nthe new side, or fresh samples lack what they were to confirm; what was left \
                             out stands above".to_owned(),
                }
            }
        }
    }
}

/// The most of a change for the worse that is not excluded.
fn open(change: &Change, larger_is_better: bool) -> String {
    let bound = if larger_is_better { change.bounds.0 } else { change.bounds.1 };
    bound.map_or_else(|| "nothing".to_owned(), signed)
}

fn larger_is_better(metric: &str) -> bool {
    MetricKey::find(metric).is_some_and(|key| key.definition().better == Better::Larger)
}

fn gate_text(result: &GateResult, text: &mut String) {
    let word = match result.outcome {
        Outcome::Fine => "fine",
        Outcome::Alarm => "ALARM",
        Outcome::Regression => "WORSE",
        Outcome::NotEnough { .. } => "can't tell",
    };
    let _ = write!(text, "{word:<10} {}", result.gate);
    match &result.mean {
        None => text.push('\n'),
        Some(mean) => mean_text(result, mean, text),
    }
    for (index, (cell, why)) in result.left_out.iter().enumerate() {
        if index == CELLS {
            let _ = writeln!(text, "{:11}and {} more cells left out", "", result.left_out.len() - CELLS);
            break;
        }
        let _ = writeln!(text, "{:11}without {cell}: {why}", "");
    }
}

fn mean_text(result: &GateResult, mean: &Change, text: &mut String) {
    let bound = |bound: Option<f64>| bound.map_or_else(|| "?".to_owned(), signed);
    let _ = writeln!(
        text,
        ": {} ({} to {}) over {}, p = {:.4}",
        signed(mean.ratio),
        bound(mean.bounds.0),
        bound(mean.bounds.1),
        count(result.cells.len(), "cell"),
        mean.p
    );
    let larger = larger_is_better(&result.gate.metric);
    let _ = writeln!(text, "{:11}excluded is worse than: {} in the mean", "", open(mean, larger));
    if let Some(worst) = result.worst().filter(|_| result.cells.len() > 1) {
        let _ =
            writeln!(text, "{:11}{:>31} in the worst cell, {}", "", open(&worst.change, larger), worst.id);
    }
    let unit = unit_of(&result.gate.metric);
    let size = show(unit, mean.worse_by.abs());
    let sense = if mean.worse_by < 0.0 { "better" } else { "worse" };
    let detectable = result.detectable.map_or_else(
        || "one run of a cell tells nothing of its scatter".to_owned(),
        |share| format!("{:+.1} % would be found 9 times in 10", share * 100.0),
    );
    let floor = show(unit, result.gate.floor);
    let _ = writeln!(text, "{:11}{size} {sense} in the mean, floor {floor}; {detectable}", "");
    let accepted = |change: &Change| change.accepted > 0.0;
    if result.cells.iter().any(|cell| accepted(&cell.change)) {
        let judged = result.cells.iter().filter(|cell| accepted(&cell.change)).count();
        let cells = count(judged, "cell");
        let _ = writeln!(text, "{:11}judged is what is beyond the change that is accepted, in {cells}", "");
    }
}

fn alarm_text(result: &GateResult, measurement: &Measurement<'_>, text: &mut String) {
    let unit = unit_of(&result.gate.metric);
    let sure: Vec<&JudgedCell> = result.cells.iter().filter(|cell| cell.change.alarm).collect();
    let ratio = result.mean.as_ref().map_or(1.0, |mean| mean.ratio);
    let mean = result.mean.as_ref().is_some_and(|mean| mean.alarm);
    let what = match (mean, &sure[..]) {
        (true, _) => format!("changed by {} in the mean", signed(ratio)),
        (false, [cell]) => format!("changed by {} in {}", signed(cell.change.ratio), cell.id),
        (false, cells) => format!("changed in {}", count(cells.len(), "cell")),
    };
    let _ = writeln!(
        text,
        "\n{} {what}, which is worse; from {:.1} % on it counts",
        result.gate.metric,
        RELEVANT * 100.0
    );
    let larger = larger_is_better(&result.gate.metric);
    let worse = |cell: &&JudgedCell| (cell.change.ratio > 1.0) != larger;
    let mut cells: Vec<_> = result.cells.iter().filter(worse).collect();
    cells.sort_by(|a, b| b.change.ratio.ln().abs().total_cmp(&a.change.ratio.ln().abs()));
    let _ =
        writeln!(text, "  cells, {} of {} that way (! by itself an alarm):", cells.len(), result.cells.len());
    for cell in cells.iter().take(CELLS) {
        let _ = writeln!(
            text,
            "  {} {:>9}  {} (base {}, n = {}, {})",
            if cell.change.alarm { "!" } else { " " },
            signed(cell.change.ratio),
            cell.id,
            show(unit, cell.base),
            cell.samples.0,
            cell.samples.1
        );
    }
    if cells.len() > CELLS {
        let _ = writeln!(text, "    and {} more", cells.len() - CELLS);
    }
    match &result.stages[..] {
        [] => text.push_str("  no stage stands out\n"),
        [first, others @ ..] => {
            let told = |stage: &super::stage::Moved| {
                let ratio = stage.ratio.map_or_else(String::new, |ratio| format!(", {}", signed(ratio)));
                format!("{} by +{}{ratio}", stage.stage, show(Unit::Seconds, stage.seconds).trim())
            };
            let _ = writeln!(text, "  stage that moved: {}", told(first));
            for other in others.iter().take(2) {
                let _ = writeln!(text, "  also: {}", told(other));
            }
        }
    }
    let _ = writeln!(text, "  commits: {} -> {}", measurement.base.commit(), measurement.new.commit());
    let mut commands = vec![&measurement.base.command];
    if measurement.new.command != measurement.base.command {
        commands.push(&measurement.new.command);
    }
    for command in commands {
        let _ = writeln!(text, "  made by: {command}");
    }
}

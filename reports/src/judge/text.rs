//! Comparisons and judgements as text of at most 100 columns.

use std::fmt::Write as _;

use super::accepted::Accepted;
use super::compare::{CellComparison, Comparison, Line};
use super::gate::{EXCLUDED, GateResult, Judgement, Outcome, RELEVANT, Verdict};
use super::measurement::Measurement;
use crate::metric::{MetricKey, Unit};
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

impl Comparison {
    /// As a table of at most 100 columns.
    #[must_use]
    pub fn text(&self, measurement: &Measurement<'_>) -> String {
        let mut text = format!("{}: new over base, cell by cell\n", measurement.suite);
        origins(measurement, &mut text);
        weakened(measurement, &mut text);
        let _ = writeln!(
            text,
            "\n{:<26} {:>10} {:>10} {:>9}  {:<21} {:>7}  mark",
            "", "base", "new", "ratio", "interval", "n"
        );
        for cell in &self.cells {
            cell_text(cell, &mut text);
        }
        let few = self.cells.iter().flat_map(|cell| &cell.lines).any(|line| line.word() == "too few");
        let _ = write!(
            text,
            "\nratio: Hodges-Lehmann, of {}; interval: 95 % or more, as the mark needs\n\
             mark: by the same rank test, Holm-adjusted over {}; `-` is not significant\n",
            if measurement.interleaved { "blocks" } else { "two independent samples" },
            count(self.tests(), "test")
        );
        if few {
            text.push_str(
                "(range): too few runs for a mark among so many tests; smallest and largest ratio seen\n",
            );
        }
        text.push_str("marks inform and decide nothing; `migbench gate` does\n");
        text
    }
}

fn cell_text(cell: &CellComparison, text: &mut String) {
    let _ = writeln!(text, "{}", cell.id);
    for line in &cell.lines {
        line_text(line, text);
    }
    let (base, new) = cell.capped;
    if base + new > 0 {
        let _ = writeln!(
            text,
            "  did not converge: {} of base, {} of new; they are no samples",
            count(base, "run"),
            count(new, "run")
        );
    }
    if cell.lines.is_empty() {
        let _ = writeln!(text, "  no samples on one side or both");
    }
}

fn line_text(line: &Line, text: &mut String) {
    let scale = Scale::suiting(line.unit(), line.medians.0);
    let spread = match line.spread() {
        Some(Spread::Interval { low, high, .. }) => format!("{low:.3}..{high:.3}"),
        Some(Spread::Range { low, high }) => format!("({low:.3}..{high:.3})"),
        None => String::new(),
    };
    let ratio = line.test.as_ref().map_or_else(String::new, |test| format!("{:.3}", test.ratio));
    let samples = match line.samples {
        (base, new) if base == new => base.to_string(),
        (base, new) => format!("{base}, {new}"),
    };
    let _ = writeln!(
        text,
        "  {:<24} {:>10} {:>10} {ratio:>9}  {spread:<21} {samples:>7}  {}",
        line.measure.label(),
        scale.show(line.medians.0),
        scale.show(line.medians.1),
        line.word()
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
            "new over base; in parentheses bounds, each missed once in 20 times; p is one-sided, Holm-adjusted\n",
        );
        for result in self.alarms() {
            alarm_text(result, first, &mut text);
        }
        let _ = writeln!(text, "\n{}", self.sentence(first, again));
        text
    }

    fn sentence(&self, first: &Measurement<'_>, again: &str) -> String {
        match self.verdict {
            Verdict::Fine => format!("PASS: no gated metric became worse by {:.0} % or more", EXCLUDED * 100.0),
            Verdict::Regression => "REGRESSION: fresh samples confirm it".to_owned(),
            Verdict::Unconfirmed => format!(
                "NOT CONFIRMED: an alarm stands only if fresh samples alone confirm it. Measure again and judge both:\n  {again}"
            ),
            Verdict::Unsound => "NOT SOUND: the new side failed runs or proofs; mend that before looking at times".to_owned(),
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
                    None => "NOT ENOUGH EVIDENCE: a gate has no cell with samples on both sides, or more runs of the \
                             new side than of the base did not converge; what was left out stands above".to_owned(),
                }
            }
        }
    }
}

fn gate_text(result: &GateResult, text: &mut String) {
    let word = match result.outcome {
        Outcome::Fine => "fine",
        Outcome::Alarm => "ALARM",
        Outcome::Regression => "WORSE",
        Outcome::NotEnough { .. } => "can't tell",
        Outcome::Accepted => "accepted",
    };
    let _ = write!(text, "{word:<10} {}", result.gate);
    if result.cells.is_empty() {
        text.push('\n');
    } else {
        let bound = |bound: Option<f64>| bound.map_or_else(|| "?".to_owned(), signed);
        let _ = writeln!(
            text,
            ": {} ({} to {}) over {}, p = {:.4}",
            signed(result.ratio),
            bound(result.bounds.0),
            bound(result.bounds.1),
            count(result.cells.len(), "cell"),
            result.p
        );
        let detectable = result.detectable.map_or_else(
            || "one run of a cell tells nothing of its scatter".to_owned(),
            |share| format!("{:+.1} % would be found 9 times in 10", share * 100.0),
        );
        let unit = unit_of(&result.gate.metric);
        let size = show(unit, result.worse_by.abs());
        let sense = if result.worse_by < 0.0 { "better" } else { "worse" };
        let _ = writeln!(
            text,
            "{:11}{size} {sense} in the mean, floor {}; {detectable}",
            "",
            show(unit, result.gate.floor)
        );
    }
    for (index, (cell, why)) in result.left_out.iter().enumerate() {
        if index == CELLS {
            let _ = writeln!(text, "{:11}and {} more cells left out", "", result.left_out.len() - CELLS);
            break;
        }
        let _ = writeln!(text, "{:11}without {cell}: {why}", "");
    }
}

fn alarm_text(result: &GateResult, measurement: &Measurement<'_>, text: &mut String) {
    let unit = unit_of(&result.gate.metric);
    let _ = writeln!(
        text,
        "\n{} changed by {}, which is worse; from {:.1} % on it counts",
        result.gate.metric,
        signed(result.ratio),
        RELEVANT * 100.0
    );
    let worse = |cell: &&super::gate::CellChange| (cell.ratio > 1.0) == (result.ratio > 1.0);
    let mut cells: Vec<_> = result.cells.iter().filter(worse).collect();
    cells.sort_by(|a, b| b.ratio.ln().abs().total_cmp(&a.ratio.ln().abs()));
    let _ = writeln!(text, "  cells, {} of {} that way:", cells.len(), result.cells.len());
    for cell in cells.iter().take(CELLS) {
        let _ = writeln!(
            text,
            "    {:>9}  {} (base {}, n = {}, {})",
            signed(cell.ratio),
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

//! Comparisons and judgements as text of at most 100 columns.

use std::fmt::Write as _;

use super::accepted::{Acceptance, Accepted};
use super::compare::{CellChanges, Changes, MetricChange, NEGLIGIBLE};
use super::gate::{
    Change, EXCLUDED, EXCLUDED_IN_CELL, GateResult, JudgedCell, Judgement, Outcome, RELEVANT, Verdict,
};
use super::measurement::Measurement;
use crate::metric::{Better, MetricKey, Unit};
use crate::quantity::{Scale, count, difference, show};
use crate::render::terminal::wrap;
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
        if any(NEGLIGIBLE) {
            let _ = writeln!(text, "{NEGLIGIBLE}: told from chance, and next to nothing");
        }
        if any("untestable") {
            text.push_str(
                "untestable: so few runs can show no change, however large; (range): smallest and largest ratio\n",
            );
        }
        if !measurement.interleaved {
            text.push_str(
                "this informs and decides nothing; `migbench ab` measures side by side, and decides\n",
            );
        }
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
    /// As text of at most 100 columns, but for commands and paths. `next` is what to do now, printed as it is.
    #[must_use]
    pub fn text(
        &self,
        first: &Measurement<'_>,
        fresh: Option<&Measurement<'_>>,
        accepted: &Accepted,
        next: &str,
    ) -> String {
        let mut text = format!("gate of {}\n", first.suite);
        origins(first, &mut text);
        if !first.interleaved {
            text.push_str(ADVISORY);
        }
        weakened(first, &mut text);
        let fresh = fresh.filter(|_| {
            let used = !self.first_alarms.is_empty();
            if !used {
                text.push_str("fresh samples were not looked at: there is no alarm to confirm\n");
            }
            used
        });
        self.accepted_text(accepted, &mut text);
        text.push('\n');
        if let Some(fresh) = fresh {
            text.push_str("by the first samples:\n");
            let first_said = |result: &GateResult| {
                self.first_alarms.iter().find(|alarm| alarm.gate == result.gate).unwrap_or(result).clone()
            };
            self.gates.iter().for_each(|result| gate_text(&first_said(result), &mut text));
            text.push_str("\nwhat they raised an alarm for, by fresh samples alone, which decide:\n");
            origins(fresh, &mut text);
            weakened(fresh, &mut text);
            let again = |result: &&GateResult| self.was_alarm(result);
            self.gates.iter().filter(again).for_each(|result| gate_text(result, &mut text));
        } else {
            self.gates.iter().for_each(|result| gate_text(result, &mut text));
        }
        text.push_str(
            "new over base; in parentheses bounds, each by itself missed once in 20 times; p is one-sided and\n\
             adjusted for all gates, means and cells together\n",
        );
        for result in self.alarms() {
            alarm_text(result, first, &mut text);
        }
        text.push('\n');
        let advisory = if first.interleaved { "" } else { " (advisory)" };
        let sentence =
            format!("{}{advisory}: {}", self.verdict.word().to_uppercase(), self.sentence(first, fresh));
        for line in wrap(&sentence, 100, "") {
            text.push_str(&line);
            text.push('\n');
        }
        if !next.is_empty() {
            let _ = writeln!(text, "{next}");
        }
        text
    }

    fn was_alarm(&self, result: &GateResult) -> bool {
        self.first_alarms.iter().any(|alarm| alarm.gate == result.gate)
    }

    /// What is accepted, and what of it is about nothing that was judged.
    fn accepted_text(&self, accepted: &Accepted, text: &mut String) {
        let judged = |acceptance: &&Acceptance| {
            self.gates.iter().filter(|result| result.gate.metric == acceptance.metric).any(|result| {
                result.cells.iter().any(|cell| acceptance.cell.as_ref().is_none_or(|id| *id == cell.id))
            })
        };
        let (about, others): (Vec<_>, Vec<_>) = accepted.current.iter().partition(judged);
        for acceptance in about {
            let _ = writeln!(text, "accepted: {acceptance}");
        }
        for acceptance in others {
            let _ = writeln!(text, "accepted, but nothing that is judged here: {acceptance}");
        }
        for acceptance in &accepted.expired {
            let _ = writeln!(text, "acceptance has expired and is ignored: {acceptance}");
        }
    }

    /// What was judged, by gate.
    fn judged(&self) -> String {
        let gates = self.gates.iter().map(|result| {
            let (judged, left_out) = (result.cells.len(), result.left_out.len());
            let cells = match left_out {
                0 => count(judged, "cell"),
                _ => format!("{judged} of {}", count(judged + left_out, "cell")),
            };
            format!("{} in {cells}", result.gate)
        });
        let sizes = || self.gates.iter().flat_map(|result| &result.cells).map(|cell| cell.samples);
        let each = |(base, new): (usize, usize)| [base, new];
        let (least, most) = (sizes().flat_map(each).min(), sizes().flat_map(each).max());
        let runs = match (least, most) {
            (Some(least), Some(most)) if least == most => count(most, "run"),
            (Some(least), Some(most)) => format!("{least} to {}", count(most, "run")),
            _ => "no runs".to_owned(),
        };
        format!("{}, by {runs} of each cell and side", gates.collect::<Vec<_>>().join(", "))
    }

    /// The metrics of what the first samples raised an alarm for.
    fn alarmed(&self) -> String {
        let names = self.first_alarms.iter().map(|result| result.gate.to_string());
        names.collect::<Vec<_>>().join(", ")
    }

    fn sentence(&self, first: &Measurement<'_>, fresh: Option<&Measurement<'_>>) -> String {
        let alarm =
            || format!("the first samples raised an alarm for {}, and fresh samples alone", self.alarmed());
        match self.verdict {
            Verdict::Fine => {
                let left_out = self.gates.iter().any(|result| !result.left_out.is_empty());
                let but = if left_out { " What was left out stands above, with the reason." } else { "" };
                let beyond = if accepted_anywhere(self) { " beyond what is accepted" } else { "" };
                let taken_back = match fresh {
                    Some(_) => format!("{} do not confirm it. Judged were", alarm()),
                    None => "judged were".to_owned(),
                };
                format!(
                    "{taken_back} {}. Worse by {:.0} % or more in the mean over cells, or by {:.0} % in a cell, \
                     is excluded{beyond}, or what is not is under the floor.{but}",
                    self.judged(),
                    EXCLUDED * 100.0,
                    EXCLUDED_IN_CELL * 100.0
                )
            }
            Verdict::Regression => format!("{} confirm it", alarm()),
            Verdict::Unconfirmed if first.interleaved => {
                "an alarm stands only if fresh samples alone confirm it".to_owned()
            }
            Verdict::Unconfirmed => {
                "an alarm, of two directories that were measured at two times: it may be the host's doing as well as the \
                 program's, and no further directories make it sure"
                    .to_owned()
            }
            Verdict::Unsound => "runs or proofs failed or are missing; mend that before looking at times".to_owned(),
            Verdict::HostChanged => {
                "nothing is said of the program; measure both sides again, on a quiet host, side by side".to_owned()
            }
            Verdict::HostDisturbed => {
                "others took CPU time from over a fifth of the runs of a side, so that nothing is said of the program; measure \
                 again, on a quiet host"
                    .to_owned()
            }
            Verdict::NotSteady => {
                "over a fifth of the runs of a side began before their guest was steady, so that nothing is said of the program; \
                 give the guests longer with windows.warmup_max, or a load that this host can keep up with"
                    .to_owned()
            }
            Verdict::NothingJudged => format!(
                "a change is accepted of all that could be judged ({}), and no more than that was found; what passes is what \
                 has a gate without one",
                self.judged()
            ),
            Verdict::NotEnough => {
                let here = first.repetitions();
                match self.runs_wanted() {
                    Some(runs) => format!(
                        "about {runs} timed runs of each cell and side would do, {} more than there are. They are a measurement of \
                         their own: runs are not added to these.",
                        runs.saturating_sub(here)
                    ),
                    None => "a gate has no cell with samples on both sides, or one that did not converge on the new side, or \
                             fresh samples lack what they were to confirm; what was left out stands above"
                        .to_owned(),
                }
            }
        }
    }
}

/// What stands above a judgement of two directories.
const ADVISORY: &str = "advisory: measured at two times, so that what the host did between them is in each difference;\n\
                        `migbench ab` measures side by side, and decides\n";

fn accepted_anywhere(judgement: &Judgement) -> bool {
    judgement.gates.iter().flat_map(|result| &result.cells).any(|cell| cell.change.accepted > 0.0)
}

/// The most of a change for the worse that is not excluded.
fn open(change: &Change, larger_is_better: bool) -> String {
    let bound = if larger_is_better { change.bounds.0 } else { change.bounds.1 };
    bound.map_or_else(|| "nothing".to_owned(), signed)
}

fn larger_is_better(metric: &str) -> bool {
    MetricKey::find(metric).is_some_and(|key| key.definition().better == Better::Larger)
}

impl GateResult {
    /// What a judgement prints of it.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        gate_text(self, &mut text);
        text
    }
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
            let of_stage = |stage: &super::stage::Moved| {
                let ratio = stage.ratio.map_or_else(String::new, |ratio| format!(", {}", signed(ratio)));
                format!("{} by +{}{ratio}", stage.stage, show(Unit::Seconds, stage.seconds).trim())
            };
            let _ = writeln!(text, "  stage that moved: {}", of_stage(first));
            for other in others.iter().take(2) {
                let _ = writeln!(text, "  also: {}", of_stage(other));
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

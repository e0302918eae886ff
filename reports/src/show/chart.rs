//! The guest's throughput around a migration, drawn with blocks: a line for the eye, with the marks of what the host did
//! below it.

use std::fmt::Write as _;

use crate::metric::Unit;
use crate::quantity::show;
use crate::record::Record;

/// Columns of the drawing; with its margin it fits 100.
const WIDTH: usize = 96;
/// Lines of it.
const HEIGHT: usize = 3;
const BLOCKS: [char; 9] =
    [' ', '\u{2581}', '\u{2582}', '\u{2583}', '\u{2584}', '\u{2585}', '\u{2586}', '\u{2587}', '\u{2588}'];

/// A chart of the migration with a third of its length before and after it; empty where a record has no timeline of it.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "indices of a timeline, clamped to it"
)]
pub fn draw(record: &Record) -> String {
    let timeline = record.timeline.get();
    let when = |name: &str| timeline.events.iter().find(|(_, event)| event == name).map(|(time, _)| *time);
    let Some(end) = when("running").or_else(|| when("end")).filter(|_| timeline.interval > 0.0) else {
        return String::new();
    };
    let margin = (end / 3.0).max(5.0 * timeline.interval);
    let step = |time: f64| ((time - timeline.start) / timeline.interval).max(0.0) as usize;
    let all = timeline.operations.len();
    let (first, last) = (step(-margin).min(all), step(end + margin).min(all));
    if last <= first {
        return String::new();
    }
    let per_column = (last - first).div_ceil(WIDTH);
    let columns: Vec<f64> = timeline.operations[first..last]
        .chunks(per_column)
        .map(|steps| {
            let sum: f64 = steps.iter().map(|&count| f64::from(count)).sum();
            sum / (steps.len() as f64 * timeline.interval)
        })
        .collect();
    let most = columns.iter().copied().fold(0.0, f64::max);
    if most <= 0.0 {
        return String::new();
    }
    let column_time = per_column as f64 * timeline.interval;
    let begins = timeline.start + first as f64 * timeline.interval;
    let mut out = format!(
        "throughput, {} a column, up to {}\n",
        show(Unit::Seconds, column_time),
        show(Unit::OperationsPerSecond, most)
    );
    for line in (0..HEIGHT).rev() {
        let block = |rate: &f64| {
            let eighths = (rate / most * (8 * HEIGHT) as f64).round() as usize;
            BLOCKS[eighths.saturating_sub(8 * line).min(8)]
        };
        let _ = writeln!(out, "  {}", columns.iter().map(block).collect::<String>().trim_end());
    }
    let mut marks = vec![' '; columns.len()];
    for (time, event) in &timeline.events {
        let at = ((time - begins) / column_time).floor();
        let mark = match event.as_str() {
            "pause" => 'P',
            "resume" => 'R',
            "start" => 'S',
            "end" => 'E',
            round => match round.strip_prefix("round-").and_then(|number| number.chars().last()) {
                Some(digit) => digit,
                None => continue,
            },
        };
        if at >= 0.0
            && let Some(place) = marks.get_mut(at as usize)
            && (*place == ' ' || !mark.is_ascii_digit())
        {
            *place = mark;
        }
    }
    let marks: String = marks.into_iter().collect();
    let _ = writeln!(out, "  {}", marks.trim_end());
    out += "  S start, 0 1 2 ... rounds by their last digit, P pause, R resume, E end\n";
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Timeline;
    use crate::sample::Sample;

    fn timeline(operations: Vec<u32>, events: &[(f64, &str)]) -> Record {
        let events = events.iter().map(|(time, name)| (*time, (*name).to_owned())).collect();
        let timeline = Timeline { interval: 0.001, start: -1.0, operations, gaps: Vec::new(), events };
        let mut record = Sample::new("write-heavy", "full").build();
        record.timeline = timeline.into();
        record
    }

    #[test]
    fn a_pause_is_seen_where_it_was() {
        let operations = (0..3000).map(|ms| if (1200..1300).contains(&ms) { 0 } else { 40 }).collect();
        let events = [
            (0.0, "start"),
            (0.001, "round-0"),
            (0.1, "round-1"),
            (0.2, "pause"),
            (0.3, "resume"),
            (0.3, "running"),
        ];
        let text = draw(&timeline(operations, &events));
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.iter().all(|line| line.chars().count() <= 100), "{text}");
        assert_eq!(lines[0], "throughput, 6.00 ms a column, up to 40.0 kop/s");
        let column = |line: &str, wanted: char| line.chars().position(|c| c == wanted).unwrap();
        let (pause, resume) = (column(lines[4], 'P'), column(lines[4], 'R'));
        for line in &lines[1..4] {
            let dark: Vec<usize> = line
                .char_indices()
                .zip(0..)
                .filter(|((_, c), n)| *c == ' ' && *n > 1)
                .map(|(_, n)| n)
                .collect();
            assert!(dark.len() >= 15 && dark[0] >= pause && *dark.last().unwrap() <= resume, "{text}");
        }
        assert!(column(lines[4], 'S') < column(lines[4], '1'));
    }

    #[test]
    fn without_a_migration_there_is_nothing_to_draw() {
        assert_eq!(draw(&timeline(vec![1; 3000], &[(0.0, "start")])), "");
        assert_eq!(draw(&timeline(vec![], &[(0.3, "running")])), "");
        assert_eq!(draw(&timeline(vec![0; 3000], &[(0.3, "running")])), "");
    }
}

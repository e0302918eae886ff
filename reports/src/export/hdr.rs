//! Latency histograms as `HdrHistogram`'s own tools read them: interval logs (`.hlog`) with an interval for each run, and
//! percentile files (`.hgrm`) of all runs together, one file for each operation and phase of each cell.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use super::{ExportError, Source};
use crate::cells;
use crate::format::Format;
use crate::histogram::{self, Latencies, Phase};
use crate::record::Record;

/// Steps between halvings of what is left to 100 %, as the tools' own default.
const STEPS_PER_HALVING: u32 = 5;
/// Percentile files are in microseconds, with three decimals.
const MICROSECOND: f64 = 1000.0;
/// Logs show the largest value in milliseconds, as the Java library does by default; readers ignore it.
const MILLISECOND: f64 = 1e6;

/// The runs of a cell that have one histogram, and what the file of it is called.
struct Part<'a> {
    file: String,
    title: String,
    key: String,
    runs: Vec<&'a Record>,
}

/// An interval log a part.
///
/// # Errors
/// [`ExportError::Format`] where the library refuses.
pub fn logs(source: &Source<'_>) -> Result<Vec<(String, String)>, ExportError> {
    parts(source).iter().map(|part| Ok((format!("{}.hlog", part.file), log(source, part)?))).collect()
}

/// A percentile file a part.
#[must_use]
pub fn percentiles(source: &Source<'_>) -> Vec<(String, String)> {
    parts(source)
        .iter()
        .map(|part| (format!("{}.hgrm", part.file), distribution(&histogram::merged(&part.runs, &part.key))))
        .collect()
}

/// Runs that ended ok, and apart from them those that were capped. Failed runs and those that hash memory are none.
fn parts<'a>(source: &Source<'a>) -> Vec<Part<'a>> {
    let (sorted, _) = cells::sort(source.manifest, source.records);
    let mut parts = Vec::new();
    let mut names = BTreeSet::new();
    for comparison in &sorted {
        for cell in &comparison.cells {
            for (runs, capped) in [(&cell.ok, false), (&cell.capped, true)] {
                let mut by_key: BTreeMap<String, Vec<&Record>> = BTreeMap::new();
                for run in runs {
                    for key in run.histograms.get().keys() {
                        by_key.entry(key.clone()).or_default().push(run);
                    }
                }
                for (key, runs) in by_key {
                    let of = if capped { "capped runs" } else { "runs" };
                    let title = format!("{}, {}: {key} of {of}", comparison.plan.name, cell.label);
                    let capped = if capped { " capped" } else { "" };
                    let key_name = key.trim_start_matches("latency_");
                    let plain = slug(&format!("{} {}{capped} {key_name}", comparison.plan.name, cell.label));
                    // Two names may read the same once what no file name should have is gone.
                    let mut file = plain.clone();
                    let mut number = 2;
                    while !names.insert(file.clone()) {
                        file = format!("{plain}-{number}");
                        number += 1;
                    }
                    parts.push(Part { file, title, key, runs });
                }
            }
        }
    }
    parts
}

/// Letters, digits and underscores of a text, the rest as single hyphens.
fn slug(text: &str) -> String {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.'));
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-")
}

fn log(source: &Source<'_>, part: &Part<'_>) -> Result<String, ExportError> {
    let refused = |why: String| ExportError::Format { format: Format::Hlog, why };
    let base = began(&source.manifest.started);
    let mut text = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let mut builder = IntervalLogWriterBuilder::new();
    builder
        .add_comment("[Histogram log format version 1.3]")
        .add_comment(&format!(
            "[{}; nanoseconds; an interval is that phase of the run that its tag names]",
            part.title
        ))
        .with_start_time(base)
        .with_base_time(base)
        .with_max_value_divisor(MILLISECOND);
    let mut log =
        builder.begin_log_with(&mut text, &mut serializer).map_err(|error| refused(error.to_string()))?;
    let mut runs: Vec<&Record> = part.runs.clone();
    runs.sort_by_key(|run| run.order);
    for run in runs {
        // Damaged histograms are left out here and warned of in reports.
        let histograms = run.histograms.get();
        let Some(latencies) = histograms.get(&part.key).and_then(|text| histogram::decode(text).ok()) else {
            continue;
        };
        let phase = histogram::parse_key(&part.key).map(|(_, _, phase)| phase);
        let (start, length) = span(run, phase);
        let since = began(&run.started).duration_since(base).unwrap_or_default() + start;
        let tag = Tag::new(&run.run_id);
        log.write_histogram(&latencies, since, length, tag).map_err(|error| refused(error.to_string()))?;
    }
    drop(log);
    String::from_utf8(text).map_err(|error| refused(error.to_string()))
}

fn began(started: &str) -> SystemTime {
    humantime::parse_rfc3339(started).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// When a phase began, from the first sample of the timeline on, and how long it took, as far as the host's events tell.
fn span(run: &Record, phase: Option<Phase>) -> (Duration, Duration) {
    let timeline = run.timeline.get();
    let events: BTreeMap<&str, f64> =
        timeline.events.iter().map(|(time, name)| (name.as_str(), *time)).collect();
    let end = timeline.start + histogram::exact(timeline.operations.len() as u64) * timeline.interval;
    let at = |names: &[&str]| names.iter().find_map(|name| events.get(name).copied());
    let resumed = || at(&["resume", "running", "end"]);
    let caught_up = || at(&["caught-up"]).or_else(resumed);
    let (from, to) = match phase {
        Some(Phase::Steady) => (at(&["steady"]), at(&["start"])),
        Some(Phase::Precopy) => (at(&["start"]), at(&["pause", "end"])),
        Some(Phase::Switchover) => (at(&["pause"]), resumed()),
        Some(Phase::Catchup) => (resumed(), caught_up()),
        Some(Phase::After) => (caught_up(), Some(end)),
        None => (None, None),
    };
    let from = from.unwrap_or(timeline.start);
    let seconds = |value: f64| Duration::try_from_secs_f64(value.max(0.0)).unwrap_or_default();
    (seconds(from - timeline.start), seconds(to.unwrap_or(end) - from))
}

/// The columns that `HdrHistogram` prints and its plotter reads.
fn distribution(all: &Latencies) -> String {
    let mut out =
        format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    for step in all.iter_quantiles(STEPS_PER_HALVING) {
        let total = all.count_between(0, step.value_iterated_to());
        let quantile = step.quantile_iterated_to();
        let value = histogram::exact(step.value_iterated_to()) / MICROSECOND;
        let _ = write!(out, "{value:12.3} {quantile:2.12} {total:10}");
        if quantile < 1.0 {
            let _ = write!(out, " {:14.2}", 1.0 / (1.0 - quantile));
        }
        out.push('\n');
    }
    let (mean, deviation) = (all.mean() / MICROSECOND, all.stdev() / MICROSECOND);
    let most = histogram::exact(all.max()) / MICROSECOND;
    let _ = writeln!(out, "#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]");
    let _ = writeln!(out, "#[Max     = {most:12.3}, Total count    = {:12}]", all.len());
    let _ = writeln!(out, "#[Buckets = {:12}, SubBuckets     = {:12}]", all.buckets(), sub_buckets(all));
    out
}

/// How many values a bucket tells apart: the power of two that holds twice as many as the digits ask for.
fn sub_buckets(all: &Latencies) -> u64 {
    (2 * 10_u64.pow(all.sigfig().into())).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;
    use crate::export::tests::records;
    use crate::sample;

    #[test]
    fn logs_hold_a_run_an_interval_and_all_of_its_values() {
        use base64::Engine as _;
        let (manifest, records) = (sample::manifest(), records());
        let files = logs(&Source::new(&manifest, &records, None)).unwrap();
        let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "read-heavy-full-capped-write_response-switchover.hlog",
                "write-heavy-full-write_response-switchover.hlog",
                "write-heavy-delta-write_response-switchover.hlog"
            ]
        );
        let mut intervals = 0;
        for entry in IntervalLogIterator::new(files[1].1.as_bytes()) {
            if let LogEntry::Interval(interval) = entry.unwrap() {
                let bytes =
                    base64::engine::general_purpose::STANDARD.decode(interval.encoded_histogram()).unwrap();
                let read: Latencies = Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap();
                let key = "latency_write_response/switchover";
                let run: Vec<_> = records.iter().filter(|r| r.run_id == "write-heavy-full-1").collect();
                assert_eq!(read, histogram::merged(&run, key));
                intervals += 1;
            }
        }
        assert_eq!(intervals, 3);
        insta::assert_snapshot!("hlog", files[1].1);
    }

    #[test]
    fn percentiles_end_with_all_operations() {
        let (manifest, records) = (sample::manifest(), records());
        let files = percentiles(&Source::new(&manifest, &records, None));
        insta::assert_snapshot!("hgrm", files[1].1);
        let rows: Vec<Vec<f64>> = files[1]
            .1
            .lines()
            .skip(2)
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().map(|word| word.parse().unwrap()).collect())
            .collect();
        // Three runs of 4000 operations of 50 us and 100 of 90 ms.
        assert_eq!(rows.last().unwrap()[1..], [1.0, 12_300.0]);
        assert!((89_000.0..91_000.0).contains(&rows.last().unwrap()[0]));
        assert!(rows.is_sorted_by(|a, b| a[0] <= b[0] && a[2] <= b[2]));
    }

    #[test]
    fn phases_are_laid_out_as_the_host_saw_them() {
        let mut run = sample::Sample::new("write-heavy", "full").build();
        let events = [(-2.0, "steady"), (0.0, "start"), (0.8, "pause"), (0.9, "resume"), (1.0, "caught-up")];
        let timeline = run.timeline.to_mut();
        timeline.events = events.map(|(time, name)| (time, name.to_owned())).to_vec();
        timeline.start = -2.5;
        timeline.interval = 0.5;
        timeline.operations = vec![1; 9];
        let spans = Phase::ALL.iter().map(|(_, phase)| {
            let (start, length) = span(&run, Some(*phase));
            (start.as_millis(), length.as_millis())
        });
        let spans: Vec<_> = spans.collect();
        assert_eq!(spans, [(500, 2000), (2500, 800), (3300, 100), (3400, 100), (3500, 1000)]);
    }
}

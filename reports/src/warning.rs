//! Conditions that weaken what a report says, found in its records, each with what it means for the reader.

use std::collections::BTreeMap;
use std::fmt;

use migbench_scenarios::cell::Backing;

use crate::canary;
use crate::cells;
use crate::histogram;
use crate::manifest::{CanaryMedians, MergedPart};
use crate::metric::{self, MetricKey};
use crate::quantity::{count, percent};
use crate::record::{Backend, Record, RunKind};
use crate::stats::{Fences, LEAST_FOR_INTERVAL};
use crate::store::RunData;

/// Below this the rate limit was not what the record says.
const LINK_RATE_TOLERATED: f64 = 0.98;

/// Below this a cell with transparent huge pages is not what it says.
const HUGE_PAGES_TOLERATED: f64 = 0.95;

/// Canaries further apart than this are of hosts that are not alike.
const CANARIES_TOLERATED: f64 = 0.1;

/// The flag of runs in whose block the host was another one: judged here, by [`canary::moved`]. Records of schema 1 carry one of
/// their own, which compared with the first block and was raised by almost every suite; it counts for nothing.
pub const HOST_MOVED: &str = "host_moved";

/// More places than this are counted and not named.
const PLACES: usize = 8;

/// One condition. The alternate form (`{:#}`) is the short one, without what a single run tells better.
#[derive(Debug, Clone, PartialEq)]
pub enum Warning {
    /// No guest ran.
    Simulated,
    /// Fewer runs than planned.
    Interrupted { recorded: usize, planned: u32 },
    /// A last line without its end.
    Truncated { line: usize },
    /// Records that belong to no cell of the plan.
    Unplanned { runs: usize },
    /// A flag of timed runs.
    Flag { flag: String, runs: usize, of: usize, places: BTreeMap<String, usize> },
    /// The link was slower than its limit.
    LinkRate { runs: usize, of: usize, lowest: f64 },
    /// Memory that was meant to be in huge pages was not.
    HugePages { runs: usize, of: usize, lowest: f64 },
    /// A histogram that can't be read.
    Histogram { run_id: String, key: String, error: String },
    /// What disturbed the host when the suite started.
    Disturbed(String),
    /// Of the slices that were merged, one found a faster machine than another.
    UnlikeHosts { what: &'static str, fastest: String, slowest: String, ratio: f64 },
    /// What disturbed the host when the suite was gone on with.
    DisturbedLater { records: u32, text: String },
    /// Runs far from the others of their cell, by Tukey's fences. They stay samples.
    Outliers { runs: Vec<String>, of: usize },
    /// The program had changes that no commit holds.
    Dirty,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Simulated => f.write_str(
                "simulated: no guest ran, every figure is made up to test what stands around a run; none of them \
                 says anything about migration",
            ),
            Self::Interrupted { recorded, planned } => write!(
                f,
                "{recorded} of {planned} planned runs are recorded: the suite was interrupted or still runs"
            ),
            Self::Truncated { line } => {
                write!(f, "line {line} of runs.jsonl was cut off and is left out")
            }
            Self::Unplanned { runs } => {
                write!(f, "{} of no cell of the plan: left out", count(*runs, "record"))
            }
            Self::Flag { flag, runs, of, places } => {
                let listed =
                    || places.iter().map(|(place, n)| format!("{place} {n}")).collect::<Vec<_>>().join(", ");
                if f.alternate() {
                    return write!(f, "{flag} in {runs} of {}{}", count(*of, "timed run"), advice(flag));
                }
                let places = if places.len() > PLACES {
                    format!("in {} cells; see `migbench show`", places.len())
                } else {
                    listed()
                };
                write!(f, "{flag} in {runs} of {} ({places}){}", count(*of, "timed run"), advice(flag))
            }
            Self::LinkRate { runs, of, lowest } if f.alternate() => write!(
                f,
                "link under {} of its rate in {runs} of {} (lowest {}): `wire_idle` has the engine's part",
                percent(LINK_RATE_TOLERATED),
                count(*of, "timed run"),
                percent(*lowest)
            ),
            Self::LinkRate { runs, of, lowest } => write!(
                f,
                "the link delivered less than {} of its rate in {runs} of {} (lowest {}): \
                 the engine left the wire without work (its part is `wire_idle`), or the host was too busy",
                percent(LINK_RATE_TOLERATED),
                count(*of, "timed run"),
                percent(*lowest)
            ),
            Self::HugePages { runs, of, lowest } => write!(
                f,
                "less than {} of guest memory was in huge pages in {runs} of {} with backing thp (lowest {}): the \
                 kernel had no free ones; these runs measure a mix of page sizes",
                percent(HUGE_PAGES_TOLERATED),
                count(*of, "timed run"),
                percent(*lowest)
            ),
            Self::Histogram { run_id, key, error } => {
                write!(f, "histogram {key} of run {run_id} is left out: {error}")
            }
            Self::Disturbed(text) => write!(f, "when the suite started, {text}"),
            Self::UnlikeHosts { what, fastest, slowest, ratio } => write!(
                f,
                "{fastest} {what} {} faster than {slowest}, although their hosts are of one class: compare within \
                 comparisons, each of which ran in one slice",
                percent(*ratio - 1.0)
            ),
            Self::DisturbedLater { records, text } => {
                write!(f, "when the suite was resumed after {records} runs, {text}")
            }
            Self::Outliers { runs, of } if f.alternate() => write!(
                f,
                "{} of {} outside of Tukey's fences in total time, samples all the same: see `migbench show`",
                runs.len(),
                count(*of, "timed run")
            ),
            Self::Outliers { runs, of } => {
                let named = runs.iter().take(PLACES).cloned().collect::<Vec<_>>().join(", ");
                let more = if runs.len() > PLACES { format!(" and {} more", runs.len() - PLACES) } else { String::new() };
                write!(
                    f,
                    "total time of {} of {} lies outside of Tukey's fences ({named}{more}): they are samples all the same; \
                     `migbench show` lists what happened in them",
                    runs.len(),
                    count(*of, "timed run")
                )
            }
            Self::Dirty => f.write_str(
                "made by a build with uncommitted changes: nobody can repeat it from the commit alone",
            ),
        }
    }
}

fn advice(flag: &str) -> &'static str {
    match flag {
        "not_steady" => ": the guest's throughput was not steady yet when the migration started",
        "overloaded" => ": the guest could not keep up with its open-loop schedule; lower settings.load",
        "oversubscribed" => ": more vCPUs than cores to spare, so threads waited for each other",
        HOST_MOVED => {
            ": the host was faster or slower in these blocks than its canary scatters; compare within blocks only"
        }
        "cpu_stolen" => ": over 1 % of the time the hypervisor below gave the CPU to others",
        "pause_noticed_late" => {
            ": the guest ran at the destination before its pause was noticed, so that phases overlap and figures of pre-copy are absent"
        }
        "cpu_throttled" => ": a CPU quota or heat slowed the host during the run",
        "cost_planted" => ": a cost was planted into a stage; these are not the build's own figures",
        "fault_injected" => ": a fault was planted; these are no measurements",
        _ => "",
    }
}

/// All that the data shows; `unplanned` is the number of records that fit no cell.
#[must_use]
pub fn find(data: &RunData, unplanned: usize) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if data.manifest.backend == Backend::Simulated {
        warnings.push(Warning::Simulated);
    }
    let (recorded, planned) = (data.records.len(), data.manifest.planned_runs);
    if usize::try_from(planned).is_ok_and(|planned| recorded < planned) {
        warnings.push(Warning::Interrupted { recorded, planned });
    }
    warnings.extend(data.truncated.map(|line| Warning::Truncated { line }));
    if unplanned > 0 {
        warnings.push(Warning::Unplanned { runs: unplanned });
    }
    warnings.extend(data.manifest.disturbances.iter().cloned().map(Warning::Disturbed));
    warnings.extend(unlike_hosts(&data.manifest.parts));
    for resumption in &data.manifest.resumptions {
        let later =
            |text: &String| Warning::DisturbedLater { records: resumption.records, text: text.clone() };
        warnings.extend(resumption.disturbances.iter().map(later));
    }
    let timed: Vec<_> = data.records.iter().filter(|record| record.kind == RunKind::Timed).collect();
    warnings.extend(flags(data));
    warnings.extend(link_rate(&timed));
    warnings.extend(huge_pages(&timed));
    for record in &data.records {
        for (key, text) in record.histograms.get().as_ref() {
            if let Err(error) = histogram::decode(text) {
                let (run_id, key) = (record.run_id.clone(), key.clone());
                warnings.push(Warning::Histogram { run_id, key, error: error.to_string() });
            }
        }
    }
    warnings.extend(outliers(data));
    if data.manifest.tool.dirty == Some(true) {
        warnings.push(Warning::Dirty);
    }
    warnings
}

/// Cells of at least [`LEAST_FOR_INTERVAL`] runs: quartiles of fewer mean little.
fn outliers(data: &RunData) -> Option<Warning> {
    let (mut runs, mut of) = (Vec::new(), 0);
    let (comparisons, _) = cells::sort(&data.manifest, &data.records);
    for cell in comparisons.iter().flat_map(|comparison| &comparison.cells) {
        let times = cell.ok.iter().filter_map(|run| {
            metric::value(&run.metrics, MetricKey::TotalTime).map(|time| (time, &run.run_id))
        });
        let (times, ids): (Vec<f64>, Vec<&String>) = times.unzip();
        let Some(fences) = Fences::of(&times).filter(|_| times.len() >= LEAST_FOR_INTERVAL) else { continue };
        of += times.len();
        runs.extend(fences.outside(&times).into_iter().map(|index| ids[index].clone()));
    }
    (!runs.is_empty()).then_some(Warning::Outliers { runs, of })
}

fn flags(data: &RunData) -> Vec<Warning> {
    let mut by_flag: BTreeMap<&str, BTreeMap<String, usize>> = BTreeMap::new();
    let moved = canary::moved(&data.manifest, &data.records);
    let timed: Vec<_> =
        data.records.iter().zip(moved).filter(|(run, _)| run.kind == RunKind::Timed).collect();
    for (record, moved) in &timed {
        let own = record.flags.iter().map(String::as_str).filter(|flag| *flag != HOST_MOVED);
        for flag in own.chain(moved.map(|_| HOST_MOVED)) {
            let place = format!("{}/{}", record.comparison, record.cell.engine);
            *by_flag.entry(flag).or_default().entry(place).or_default() += 1;
        }
    }
    let warning = |(flag, places): (&str, BTreeMap<String, usize>)| Warning::Flag {
        flag: flag.to_owned(),
        runs: places.values().sum(),
        of: timed.len(),
        places,
    };
    by_flag.into_iter().map(warning).collect()
}

/// The least of a metric's values that are under `tolerated`, with their number and that of all.
fn under(records: &[&Record], key: MetricKey, tolerated: f64) -> Option<(usize, usize, f64)> {
    let all: Vec<f64> = records.iter().filter_map(|record| metric::value(&record.metrics, key)).collect();
    let low: Vec<f64> = all.iter().copied().filter(|value| *value < tolerated).collect();
    let lowest = low.iter().copied().min_by(f64::total_cmp)?;
    Some((low.len(), all.len(), lowest))
}

/// Where canaries of merged parts are further apart than runs of one host may be without a flag.
fn unlike_hosts(parts: &[MergedPart]) -> Option<Warning> {
    let name = |part: &MergedPart| {
        let host = part.host.hostname.as_deref().unwrap_or("unknown");
        format!("{host} (slice {})", part.slice.slice)
    };
    let apart = |what, of: fn(&CanaryMedians) -> f64| {
        let mut reached: Vec<_> =
            parts.iter().filter_map(|part| Some((of(part.canary.as_ref()?), part))).collect();
        reached.sort_by(|a, b| a.0.total_cmp(&b.0));
        let ((least, slowest), (most, fastest)) = (reached.first()?, reached.last()?);
        let ratio = most / least;
        (ratio > 1.0 + CANARIES_TOLERATED).then(|| Warning::UnlikeHosts {
            what,
            fastest: name(fastest),
            slowest: name(slowest),
            ratio,
        })
    };
    apart("copies", |canary| canary.copy).or_else(|| apart("sends", |canary| canary.socket))
}

fn link_rate(timed: &[&Record]) -> Option<Warning> {
    let (runs, of, lowest) = under(timed, MetricKey::LinkRateAchieved, LINK_RATE_TOLERATED)?;
    Some(Warning::LinkRate { runs, of, lowest })
}

fn huge_pages(timed: &[&Record]) -> Option<Warning> {
    let thp: Vec<_> = timed.iter().copied().filter(|run| run.cell.backing == Backing::Thp).collect();
    let (runs, of, lowest) = under(&thp, MetricKey::HugePageShare, HUGE_PAGES_TOLERATED)?;
    Some(Warning::HugePages { runs, of, lowest })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::CanarySamples;
    use crate::sample::{self, Sample};

    fn warnings(records: Vec<Record>) -> Vec<String> {
        let mut manifest = sample::manifest();
        manifest.planned_runs = 2;
        let data = sample::data(manifest, records);
        find(&data, 0).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn good_runs_give_none() {
        assert_eq!(
            warnings([1, 2].map(|r| Sample::new("write-heavy", "full").repetition(r).build()).to_vec()),
            [""; 0]
        );
    }

    #[test]
    fn a_run_far_from_its_like_is_reported_and_stays() {
        let run = |repetition: u32, factor: f64| {
            let sample = Sample::new("write-heavy", "full").repetition(repetition).build();
            let mut metrics = sample.metrics.clone();
            metrics.get_mut("total_time").unwrap().value *= factor;
            Record { metrics, ..sample }
        };
        let runs = |last| (1..=8).map(|r| run(r, if r == 8 { last } else { 1.0 })).collect::<Vec<_>>();
        assert_eq!(warnings(runs(1.0)), [""; 0]);
        let found = warnings(runs(3.0));
        assert!(found[0].starts_with(
            "total time of 1 of 8 timed runs lies outside of Tukey's fences (write-heavy-full-8)"
        ));
        // Five runs are too few to call one of them odd.
        assert_eq!(warnings(runs(3.0).split_off(3)), [""; 0]);
    }

    #[test]
    fn what_no_guest_did_is_reported_first() {
        let manifest = crate::manifest::Manifest { backend: Backend::Simulated, ..sample::manifest() };
        let data = sample::data(manifest, Vec::new());
        assert_eq!(find(&data, 0)[0], Warning::Simulated);
    }

    #[test]
    fn flags_and_slow_links_are_counted() {
        let slow =
            Sample::new("write-heavy", "delta").flag("not_steady").metric(MetricKey::LinkRateAchieved, 0.951);
        let found = warnings(vec![Sample::new("write-heavy", "full").build(), slow.build()]);
        assert_eq!(found.len(), 2);
        assert!(
            found[0].starts_with("not_steady in 1 of 2 timed runs (write-heavy/delta 1): "),
            "{}",
            found[0]
        );
        assert!(found[1].contains("98.0 % of its rate in 1 of 2 timed runs (lowest 95.1 %)"), "{}", found[1]);
    }

    #[test]
    fn a_host_that_moved_for_a_block_is_reported_whatever_was_said_at_the_time() {
        let run = |repetition, copy: f64| {
            let sample = Sample::new("write-heavy", "full").repetition(repetition).flag(HOST_MOVED);
            let samples = CanarySamples { copy: vec![copy; 9], socket: vec![3e9; 9] };
            sample.with(|record| record.canary = Some(samples)).build()
        };
        let runs = |last| (1..=6).map(|r| run(r, if r == 6 { last } else { 8e9 })).collect::<Vec<_>>();
        assert_eq!(warnings(runs(8e9)), [""; 0]);
        let found = warnings(runs(4e9));
        assert!(
            found[0].starts_with("host_moved in 1 of 6 timed runs (write-heavy/full 1): the host"),
            "{found:?}"
        );
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn a_flag_of_many_cells_names_none() {
        let run = |n: usize| {
            let flagged = Sample::new("write-heavy", "full").flag("cpu_stolen");
            flagged.with(move |record| record.comparison = format!("case {n}")).build()
        };
        let found = warnings((0..=PLACES).map(run).collect());
        assert!(
            found.iter().any(|text| text.starts_with("cpu_stolen in 9 of 9 timed runs (in 9 cells; see")),
            "{found:?}"
        );
        let found = warnings((0..PLACES).map(run).collect());
        assert!(found.iter().any(|text| text.contains("(case 0/full 1, case 1/full 1, ")), "{found:?}");
    }

    #[test]
    fn small_pages_under_thp_are_reported_and_elsewhere_are_nobodys_business() {
        let run = |repetition, backing, share| {
            let sample = Sample::new("write-heavy", "full").repetition(repetition);
            let sample = sample.metric(MetricKey::HugePageShare, share);
            sample.with(|record| record.cell.backing = backing).build()
        };
        assert_eq!(warnings(vec![run(1, Backing::Thp, 0.96), run(2, Backing::Hugetlb, 0.5)]), [""; 0]);
        let found = warnings(vec![run(1, Backing::Thp, 0.96), run(2, Backing::Thp, 0.5)]);
        assert!(
            found[0].starts_with(
                "less than 95.0 % of guest memory was in huge pages in 1 of 2 timed runs with backing thp (lowest 50.0 %)"
            ),
            "{found:?}"
        );
    }

    #[test]
    fn hosts_of_one_class_that_are_not_alike_are_reported() {
        let part = |number, copy, socket| sample::part(number, &[], Some(CanaryMedians { copy, socket }));
        let text = |parts: &[MergedPart]| unlike_hosts(parts).map(|warning| warning.to_string());
        assert_eq!(text(&[part(1, 1e9, 5e8), part(2, 1.09e9, 5e8)]), None);
        let copies = text(&[part(1, 1.3e9, 5e8), part(2, 1.1e9, 5e8), part(3, 1e9, 5e8)]).unwrap();
        assert!(
            copies.starts_with("node1 (slice 1/3) copies 30.0 % faster than node3 (slice 3/3), although"),
            "{copies}"
        );
        let sends = text(&[part(1, 1e9, 5e8), part(2, 1e9, 6e8)]).unwrap();
        assert!(sends.starts_with("node2 (slice 2/3) sends 20.0 % faster than node1"), "{sends}");
        let nothing = MergedPart { canary: None, ..part(2, 0.0, 0.0) };
        assert_eq!(text(&[part(1, 1e9, 5e8), nothing]), None);
    }

    #[test]
    fn missing_runs_and_damaged_histograms_are_reported() {
        let found = warnings(vec![
            Sample::new("write-heavy", "full")
                .with(|record| {
                    record.histograms.to_mut().insert("latency_read/steady".to_owned(), "!".to_owned());
                })
                .build(),
        ]);
        assert!(found[0].starts_with("1 of 2 planned runs"), "{}", found[0]);
        assert!(
            found[1].starts_with("histogram latency_read/steady of run write-heavy-full-1"),
            "{}",
            found[1]
        );
    }
}

//! What the samples of the guest's progress say: throughput of a phase, the timeline, brownout, and the gap that the
//! host saw. Pure functions of samples; times are nanoseconds of one clock.

use migbench_reports::stats::median;

/// Time, and operations ended until then; ascending.
pub type OperationSeries = Vec<(u64, u64)>;

/// Nanoseconds of a window of brownout.
const WINDOW: u64 = 10_000_000;
/// For so many nanoseconds a guest does this share of its steady throughput before it is itself again; looked for in such steps.
const RECOVERED_FOR: u64 = 100_000_000;
const RECOVERED: f64 = 0.95;
const RECOVERY_STEP: usize = 1_000_000;
/// Under this share of the steady median a window is a brownout.
const BROWN: f64 = 0.9;

/// The source's samples until `resumed`, then the destination's.
#[must_use]
pub fn merge(source: &[(u64, u64)], destination: &[(u64, u64)], resumed: u64) -> OperationSeries {
    let there: OperationSeries = destination.iter().copied().filter(|s| s.0 >= resumed).collect();
    // A sampler that loses its CPU between the clock and the counters has a count of later, maybe of after the resume.
    let most = there.first().map_or(u64::MAX, |first| first.1);
    let here = |s: &(u64, u64)| (destination.is_empty() || s.0 < resumed) && s.1 <= most;
    let mut all: OperationSeries = source.iter().copied().filter(here).collect();
    all.extend(there);
    all.dedup_by_key(|sample| sample.0);
    all
}

/// Operations until `time`, between two samples by proportion. The series must not be empty.
#[must_use]
fn at(series: &[(u64, u64)], time: u64) -> f64 {
    let after = series.partition_point(|sample| sample.0 <= time);
    match (after.checked_sub(1).map(|i| series[i]), series.get(after)) {
        (Some((t0, o0)), Some(&(t1, o1))) => {
            o0 as f64 + (o1 - o0) as f64 * (time - t0) as f64 / (t1 - t0) as f64
        }
        (Some((_, o)), None) => o as f64,
        (None, Some(&(_, o))) => o as f64,
        (None, None) => 0.0,
    }
}

/// Operations in `[start, end)`.
#[must_use]
pub fn operations(series: &[(u64, u64)], start: u64, end: u64) -> f64 {
    at(series, end) - at(series, start)
}

/// Operations per second in `[start, end)`; `None` for an empty span.
#[must_use]
pub fn throughput(series: &[(u64, u64)], start: u64, end: u64) -> Option<f64> {
    (end > start && !series.is_empty())
        .then(|| operations(series, start, end) / crate::sys::clock::seconds(start, end))
}

/// Operations in each of the whole steps of `step` ns from `start` to `end`.
#[must_use]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts of a millisecond")]
pub fn timeline(series: &[(u64, u64)], start: u64, end: u64, step: u64) -> Vec<u32> {
    let mut before = at(series, start).round();
    (1..=(end.saturating_sub(start)) / step)
        .map(|n| {
            let now = at(series, start + n * step).round();
            let done = now - before;
            before = now;
            done.max(0.0) as u32
        })
        .collect()
}

/// Where samples are more than two steps apart: the first step that lies between them and how many do, of the first `count`
/// from `start` on.
#[must_use]
pub fn gaps(series: &[(u64, u64)], start: u64, count: usize, step: u64) -> Vec<(u32, u32)> {
    let number = |time: u64| u32::try_from(time.saturating_sub(start) / step).unwrap_or(u32::MAX);
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    let mut gaps: Vec<(u32, u32)> = Vec::new();
    for pair in series.windows(2).filter(|pair| pair[1].0 - pair[0].0 > 2 * step && pair[1].0 > start) {
        let (first, end) = (number(pair[0].0), number(pair[1].0 - 1).saturating_add(1).min(count));
        match gaps.last_mut() {
            Some((begun, steps)) if *begun + *steps >= first => *steps = end.saturating_sub(*begun),
            _ if end > first => gaps.push((first, end - first)),
            _ => {}
        }
    }
    gaps
}

/// Seconds of guest time in `[start, end)` in windows of 10 ms whose throughput is under 90 % of the steady median,
/// outside of `blackout`, less the share of such windows in `steady` times the guest time of the span. `None` without
/// samples. Where samples are missing, windows share the average between those that are there.
#[must_use]
pub fn brownout(
    series: &[(u64, u64)],
    steady: (u64, u64),
    span: (u64, u64),
    blackout: Option<(u64, u64)>,
) -> Option<f64> {
    let steady_windows: Vec<f64> = windows(steady).map(|(from, to)| operations(series, from, to)).collect();
    let usual = median(&steady_windows).filter(|&usual| usual > 0.0)?;
    let brown = |(from, to): (u64, u64)| {
        let (dark_from, dark_to) = blackout.unwrap_or((0, 0));
        let dark = to.min(dark_to).saturating_sub(from.max(dark_from));
        let light = crate::sys::clock::seconds(0, to - from - dark);
        let due = usual * light / crate::sys::clock::seconds(0, WINDOW);
        if operations(series, from, to) < BROWN * due { light } else { 0.0 }
    };
    let total: f64 = windows(span).map(brown).sum();
    let (dark_from, dark_to) = blackout.unwrap_or((0, 0));
    let dark = span.1.min(dark_to).saturating_sub(span.0.max(dark_from));
    let lived = crate::sys::clock::seconds(dark, span.1 - span.0);
    let count = steady_windows.len() as f64;
    let usual_share = steady_windows.iter().filter(|&&done| done < BROWN * usual).count() as f64 / count;
    Some(total - usual_share * lived)
}

/// When, from `from` on, the first 100 ms begin in which throughput is 95 % of `steady` operations per second or more; none within the
/// samples.
#[must_use]
pub fn recovered(series: &[(u64, u64)], steady: f64, from: u64) -> Option<u64> {
    let last = series.last()?.0;
    let mut starts = (from..=last.saturating_sub(RECOVERED_FOR)).step_by(RECOVERY_STEP);
    let is_itself = |start: &u64| {
        throughput(series, *start, start + RECOVERED_FOR).is_some_and(|now| now >= RECOVERED * steady)
    };
    starts.find(is_itself)
}

/// When so many operations more were done than at `from`; none within the samples.
#[must_use]
pub fn done_at(series: &[(u64, u64)], from: u64, count: f64) -> Option<u64> {
    let due = at(series, from) + count;
    let after = series.partition_point(|sample| (sample.1 as f64) < due);
    let (&(t1, o1), before) = (series.get(after)?, series.get(after.checked_sub(1)?)?);
    let share = (due - before.1 as f64) / (o1 - before.1) as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a step")]
    Some(before.0 + ((t1 - before.0) as f64 * share) as u64)
}

fn windows((start, end): (u64, u64)) -> impl Iterator<Item = (u64, u64)> {
    (0..end.saturating_sub(start) / WINDOW).map(move |n| (start + n * WINDOW, start + (n + 1) * WINDOW))
}

/// The switchover as the host saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Switchover {
    /// Every vCPU had stopped.
    pub paused: u64,
    /// The last vCPU was about to go on.
    pub entered: u64,
    /// Every vCPU had ended an operation again.
    pub running: u64,
}

/// Nanoseconds between the operations around the switchover, the largest of all vCPUs. `by_guest` is what the guest's
/// clock says, where that clock is trusted. It is not believed if it is less than the time in which the guest surely
/// stood still: then a vCPU had read its clock before the pause for the operation that it filed as overlapping it.
#[must_use]
pub fn blackout(by_guest: Option<u64>, series: &[(u64, u64)], switchover: Switchover) -> u64 {
    let Switchover { paused, entered, running } = switchover;
    let stood_still = entered.saturating_sub(paused);
    by_guest.filter(|&gap| gap >= stood_still).unwrap_or_else(|| {
        // From the last progress that was seen: a sample that came late saw it after it was made, and after the pause
        // none was made.
        let until = series.partition_point(|sample| sample.0 <= entered);
        let counted = series[..until].last().map(|sample| sample.1);
        let first = series[..until].iter().find(|sample| Some(sample.1) == counted);
        let last_progress = first.map_or(paused, |sample| sample.0.min(paused));
        // Samples that end before the pause do not tell what was done after them.
        let seen_paused = series[..until].last().is_some_and(|sample| sample.0 >= paused);
        running.saturating_sub(if seen_paused { last_progress } else { paused })
    })
}

/// 1 - `precopy` / `steady`, throughputs of a closed loop; `None` where the steady guest did nothing.
#[must_use]
pub fn slowdown(precopy: f64, steady: f64) -> Option<f64> {
    (steady > 0.0).then(|| 1.0 - precopy / steady)
}

/// Seconds over the threshold per second: `ticks` of a clock of `khz`, over `lasted` nanoseconds, less the rate of the
/// steady window.
#[must_use]
pub fn stall(ticks: u64, khz: u32, lasted: u64, steady: f64) -> Option<f64> {
    let over = ticks as f64 / (f64::from(khz) * 1000.0);
    (lasted > 0 && khz > 0).then(|| over / crate::sys::clock::seconds(0, lasted) - steady)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// A guest that ends ten operations a millisecond, with none in `[dark.0, dark.1)` and half as many in
    /// `[dim.0, dim.1)`, all in ms.
    fn series(length: u64, dark: (u64, u64), dim: (u64, u64)) -> OperationSeries {
        let mut operations = 0;
        (0..length)
            .map(|ms| {
                let sample = (ms * MS, operations);
                operations += match ms {
                    ms if (dark.0..dark.1).contains(&ms) => 0,
                    ms if (dim.0..dim.1).contains(&ms) => 5,
                    _ => 10,
                };
                sample
            })
            .collect()
    }

    #[test]
    fn a_guest_is_itself_again_when_it_stays_so_for_a_while() {
        // Dark to 600 ms, then half as fast to 700.
        let s = series(1000, (500, 600), (600, 700));
        let at = recovered(&s, 10_000.0, 600 * MS).unwrap();
        // A window that is slow for a tenth of its length has 95 %.
        assert!((690 * MS..=691 * MS).contains(&at), "{at}");
        assert_eq!(recovered(&s, 20_000.0, 600 * MS), None);
        assert_eq!(recovered(&s, 10_000.0, 950 * MS), None, "no 100 ms are left");
        assert_eq!(recovered(&[], 10_000.0, 0), None);
    }

    #[test]
    fn work_of_a_second_ends_later_by_the_pause() {
        let s = series(2000, (500, 600), (0, 0));
        assert_eq!(done_at(&s, 100 * MS, 3000.0), Some(400 * MS));
        assert_eq!(done_at(&s, 100 * MS, 5000.0), Some(700 * MS));
        assert_eq!(done_at(&s, 100 * MS, 50_000.0), None);
        assert_eq!(done_at(&[], 0, 1.0), None);
    }

    /// The source's sampler read the clock before the resume, and the counters after it.
    #[test]
    fn a_count_of_later_is_no_sample_of_before() {
        let series = merge(&[(10, 100), (20, 180)], &[(30, 150), (40, 200)], 25);
        assert_eq!(series, [(10, 100), (30, 150), (40, 200)]);
        assert_eq!(timeline(&series, 10, 40, 10), [25, 25, 50]);
    }

    #[test]
    fn throughput_is_that_of_the_span() {
        let s = series(1000, (500, 600), (0, 0));
        assert_eq!(throughput(&s, 100 * MS, 200 * MS), Some(10_000.0));
        assert_eq!(throughput(&s, 500 * MS, 600 * MS), Some(0.0));
        assert_eq!(throughput(&s, 400 * MS, 600 * MS), Some(5_000.0));
        assert_eq!(throughput(&s, 5, 5), None);
    }

    #[test]
    fn the_timeline_adds_up() {
        let s = series(100, (50, 60), (0, 0));
        let t = timeline(&s, 10 * MS, 90 * MS, MS);
        assert_eq!(t.len(), 80);
        assert_eq!(t.iter().sum::<u32>(), 700);
        assert_eq!(&t[39..42], &[10, 0, 0]);
    }

    #[test]
    fn brownout_leaves_the_blackout_out() {
        let s = series(3000, (2000, 2105), (1500, 1700));
        let steady = (0, 1000 * MS);
        let dark = Some((2000 * MS, 2105 * MS));
        // 200 ms at half speed; the window that holds the end of the blackout is at full speed in its light half.
        let brown = brownout(&s, steady, (1000 * MS, 2900 * MS), dark).unwrap();
        assert!((brown - 0.2).abs() < 1e-9, "{brown}");
        // Told of no blackout, its windows are brown as well.
        let brown = brownout(&s, steady, (1000 * MS, 2900 * MS), None).unwrap();
        assert!((brown - 0.31).abs() < 1e-9, "{brown}");
    }

    #[test]
    fn brownout_is_over_what_the_steady_guest_has_anyway() {
        // One window in ten is dim before the migration, and the same goes on.
        let mut s = Vec::new();
        let mut operations = 0;
        for ms in 0..3000_u64 {
            s.push((ms * MS, operations));
            operations += if ms % 100 < 10 { 2 } else { 10 };
        }
        let brown = brownout(&s, (0, 1000 * MS), (1000 * MS, 2900 * MS), None).unwrap();
        assert!(brown < 1e-9, "{brown}");
        assert_eq!(brownout(&[], (0, MS), (0, MS), None), None);
    }

    #[test]
    fn brownout_expects_none_while_the_guest_is_paused() {
        // Half of all windows are brown, before and after; the pause of 1 s is no guest time.
        let mut s = Vec::new();
        let mut operations = 0;
        for ms in 0..5000_u64 {
            s.push((ms * MS, operations));
            let dark = (2000..3000).contains(&ms);
            operations += if dark {
                0
            } else if ms % 20 < 8 {
                2
            } else {
                10
            };
        }
        let steady = (0, 1000 * MS);
        let dark = Some((2000 * MS, 3000 * MS));
        let brown = brownout(&s, steady, (1000 * MS, 4900 * MS), dark).unwrap();
        // As before: a share of brown windows that went on through 2.9 s of guest time.
        assert!(brown.abs() < 1e-9, "{brown}");
    }

    #[test]
    fn a_better_guest_than_the_steady_one_has_a_negative_brownout() {
        let mut s = series(3000, (0, 0), (100, 200));
        let brown = brownout(&s, (0, 1000 * MS), (1000 * MS, 2000 * MS), None).unwrap();
        assert!((brown + 0.1).abs() < 1e-9, "a tenth of the steady window was brown: {brown}");
        // Windows in which no sample lies share what was done in them.
        s.retain(|sample| !(1200 * MS..1240 * MS).contains(&sample.0));
        let without = brownout(&s, (0, 1000 * MS), (1000 * MS, 2000 * MS), None).unwrap();
        assert!((without - brown).abs() < 1e-9, "{without}");
    }

    #[test]
    fn brownout_has_a_limit_of_nine_tenths() {
        let of = |per_ms: u64| {
            let mut s = Vec::new();
            let mut operations = 0;
            for ms in 0..3000_u64 {
                s.push((ms * MS, operations));
                operations += if ms < 1000 { 100 } else { per_ms };
            }
            brownout(&s, (0, 1000 * MS), (1000 * MS, 2000 * MS), None).unwrap()
        };
        assert!((of(89) - 1.0).abs() < 1e-9 && of(90).abs() < 1e-9, "{} {}", of(89), of(90));
    }

    const AROUND: Switchover = Switchover { paused: 500 * MS, entered: 598 * MS, running: 600 * MS };

    #[test]
    fn blackout_is_the_guests_own_where_its_clock_is_trusted() {
        let s = series(1000, (500, 600), (0, 0));
        // The largest of several vCPUs comes from telemetry.
        assert_eq!(blackout(Some(101 * MS), &s, AROUND), 101 * MS);
        // Shorter than the pause was: it belongs to an operation that ended before it.
        assert_eq!(blackout(Some(2_500), &s, AROUND), 100 * MS);
        assert_eq!(blackout(None, &s, AROUND), 100 * MS, "a jump of the clock hides nothing");
    }

    #[test]
    fn blackout_begins_with_the_last_progress() {
        // The guest stalled 40 ms before it was paused: the gap that spans the switchover is longer than the pause.
        let s = series(1000, (460, 600), (0, 0));
        assert_eq!(blackout(None, &s, AROUND), 140 * MS);
        // A longer gap elsewhere does not span it.
        let mut s = series(1000, (500, 600), (0, 0));
        for sample in &mut s {
            sample.0 += if sample.0 >= 700 * MS { 500 * MS } else { 0 };
        }
        assert_eq!(blackout(None, &s, AROUND), 100 * MS);
    }

    #[test]
    fn blackout_ends_when_the_last_vcpu_goes_on() {
        // One vCPU is back at 600 ms, which the sum shows, the other one only at 650.
        let s = series(1000, (500, 600), (600, 650));
        assert_eq!(blackout(None, &s, Switchover { running: 650 * MS, ..AROUND }), 150 * MS);
    }

    #[test]
    fn blackout_survives_missing_samples() {
        let s = series(1000, (500, 600), (0, 0));
        let without = |from: u64, to: u64| -> OperationSeries {
            s.iter().copied().filter(|sample| !(from * MS..to * MS).contains(&sample.0)).collect()
        };
        // The progress until the pause is seen late.
        assert_eq!(blackout(None, &without(495, 530), AROUND), 100 * MS);
        // Nobody looked between 490 ms and the end of the pause: it is known that the guest could run until 500.
        assert_eq!(blackout(None, &without(490, 700), AROUND), 100 * MS);
        assert_eq!(blackout(None, &without(0, 1000), AROUND), 100 * MS);
    }

    #[test]
    fn slowdown_and_stall_are_against_the_steady_guest() {
        assert_eq!(slowdown(30.0, 40.0), Some(0.25));
        assert_eq!(slowdown(50.0, 40.0), Some(-0.25), "a guest that got faster");
        assert_eq!(slowdown(50.0, 0.0), None);
        // 3 million ticks of a 3 GHz clock are 1 ms, in half a second.
        let rate = stall(3_000_000, 3_000_000, 500 * MS, 0.0005).unwrap();
        assert!((rate - 0.0015).abs() < 1e-12, "{rate}");
        assert!(stall(0, 3_000_000, 500 * MS, 0.001).unwrap() < 0.0, "the steady window was the noisier one");
        assert_eq!(stall(1, 3_000_000, 0, 0.0), None);
    }

    #[test]
    fn missing_samples_are_reported() {
        let s: OperationSeries = [0, 1, 2, 7, 8, 9, 12, 15, 16, 18].map(|ms| (ms * MS, ms)).to_vec();
        assert_eq!(gaps(&s, 0, 18, MS), [(2, 5), (9, 6)]);
        assert_eq!(gaps(&s, 4 * MS, 7, MS), [(0, 3), (5, 2)], "as far as the timeline goes");
        let t = timeline(&s, 0, 18 * MS, MS);
        assert_eq!((t.len(), t.iter().sum::<u32>()), (18, 18), "none is lost");
    }

    #[test]
    fn samples_of_both_sides_are_one_series() {
        let merged = merge(&[(1, 1), (5, 5), (9, 5)], &[(7, 5), (8, 6), (12, 9)], 7);
        assert_eq!(merged, vec![(1, 1), (5, 5), (7, 5), (8, 6), (12, 9)]);
        assert_eq!(merge(&[(1, 1), (9, 5)], &[], 0), vec![(1, 1), (9, 5)]);
    }
}

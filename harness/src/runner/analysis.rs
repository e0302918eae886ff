//! What the samples of the guest's progress say: throughput of a phase, the timeline, brownout, and the gap that the
//! host saw. Pure functions of samples; times are nanoseconds of one clock.

use migbench_reports::stats::median;

/// Time, and operations ended until then; ascending.
pub type Series = Vec<(u64, u64)>;

/// Nanoseconds of a window of brownout.
const WINDOW: u64 = 10_000_000;
/// Under this share of the steady median a window is a brownout.
const BROWN: f64 = 0.9;

/// The source's samples until `resumed`, then the destination's.
#[must_use]
pub fn merge(source: &[(u64, u64)], destination: &[(u64, u64)], resumed: u64) -> Series {
    let mut all: Series =
        source.iter().copied().filter(|s| destination.is_empty() || s.0 < resumed).collect();
    all.extend(destination.iter().copied().filter(|s| s.0 >= resumed));
    all.dedup_by_key(|sample| sample.0);
    all
}

/// Operations until `time`, between two samples by proportion. The series must not be empty.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "differences of one run")]
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

/// Seconds of `[start, end)` in windows of 10 ms whose throughput is under 90 % of the steady median, outside of
/// `blackout`, less the share of such windows in `steady` times the length of the span. `None` without samples.
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
    #[expect(clippy::cast_precision_loss, reason = "a count of windows")]
    let count = steady_windows.len() as f64;
    #[expect(clippy::cast_precision_loss, reason = "a count of windows")]
    let usual_share = steady_windows.iter().filter(|&&done| done < BROWN * usual).count() as f64 / count;
    Some((total - usual_share * crate::sys::clock::seconds(span.0, span.1)).max(0.0))
}

fn windows((start, end): (u64, u64)) -> impl Iterator<Item = (u64, u64)> {
    (0..end.saturating_sub(start) / WINDOW).map(move |n| (start + n * WINDOW, start + (n + 1) * WINDOW))
}

/// The longest time without progress that ends in `[from, to]`, in ns: what the host saw of a blackout.
#[must_use]
pub fn longest_gap(series: &[(u64, u64)], from: u64, to: u64) -> u64 {
    let mut last_progress = series.first().map_or(0, |s| s.0);
    let mut longest = 0;
    for pair in series.windows(2) {
        let ((t0, o0), (t1, o1)) = (pair[0], pair[1]);
        if o1 > o0 {
            if t1 >= from && t0 <= to {
                longest = longest.max(t1 - last_progress);
            }
            last_progress = t1;
        }
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// A guest that ends ten operations a millisecond, with none in `[dark.0, dark.1)` and half as many in
    /// `[dim.0, dim.1)`, all in ms.
    fn series(length: u64, dark: (u64, u64), dim: (u64, u64)) -> Series {
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
    fn the_longest_gap_is_found_around_the_switchover() {
        let s = series(1000, (500, 600), (0, 0));
        let gap = longest_gap(&s, 400 * MS, 700 * MS);
        assert!((100 * MS..=102 * MS).contains(&gap), "{gap}");
        assert!(longest_gap(&s, 700 * MS, 900 * MS) <= 2 * MS);
    }

    #[test]
    fn samples_of_both_sides_are_one_series() {
        let merged = merge(&[(1, 1), (5, 5), (9, 5)], &[(7, 5), (8, 6), (12, 9)], 7);
        assert_eq!(merged, vec![(1, 1), (5, 5), (7, 5), (8, 6), (12, 9)]);
        assert_eq!(merge(&[(1, 1), (9, 5)], &[], 0), vec![(1, 1), (9, 5)]);
    }
}

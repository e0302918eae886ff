//! Least squares of relative deviations, since times span decades: coefficients, each with the margin in which it lies.

use std::fmt;

use crate::metric::Unit;
use crate::quantity::Scale;
use crate::stats::real;

/// Seconds, and half of their 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coefficient {
    /// As fitted. May be negative where the truth is near zero.
    pub value: f64,
    /// The truth is at most this far away, with 95 % confidence if deviations of points are independent, normal and of
    /// one relative size.
    pub margin: f64,
}

impl fmt::Display for Coefficient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scale = Scale::suiting(Unit::Seconds, self.value.abs().max(self.margin));
        write!(f, "{} \u{b1} {}", scale.show(self.value), scale.show(self.margin))
    }
}

/// What was fitted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fit<const N: usize> {
    /// One for each size of a point.
    pub coefficients: [Coefficient; N],
    /// The largest deviation of a point, as a share of the point.
    pub deviation: f64,
}

/// Sizes of a cell (the first is 1, for what a cost is whatever the size), and seconds, which are positive.
pub type Point<const N: usize> = ([f64; N], f64);

/// The 97.5 % quantile of Student's t by degrees of freedom, from 1 on; the last for all beyond. A margin of few points
/// must be wide.
const STUDENT: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/// The costs that add up to the seconds of `points`. `None` with no more points than sizes, and where some sizes grow in step.
#[must_use]
pub fn fit<const N: usize>(points: &[Point<N>]) -> Option<Fit<N>> {
    let freedom = points.len().checked_sub(N).filter(|freedom| *freedom > 0)?;
    let rows: Vec<[f64; N]> = points.iter().map(|(sizes, time)| sizes.map(|size| size / time)).collect();
    // Columns of length one, so that pivots can be judged.
    let length: [f64; N] = std::array::from_fn(|n| rows.iter().map(|row| row[n].powi(2)).sum::<f64>().sqrt());
    let (mut normal, mut right) = ([[0.0; N]; N], [0.0; N]);
    for row in &rows {
        let row: [f64; N] = std::array::from_fn(|n| row[n] / length[n]);
        for (a, left) in row.iter().enumerate() {
            for (b, other) in row.iter().enumerate() {
                normal[a][b] += left * other;
            }
            right[a] += left;
        }
    }
    let inverse = inverse(normal)?;
    let product = |row: &[f64; N]| row.iter().zip(right).map(|(a, b)| a * b).sum::<f64>();
    let values: [f64; N] = std::array::from_fn(|n| product(&inverse[n]) / length[n]);
    let residual =
        |row: &[f64; N]| row.iter().zip(values).map(|(size, value)| size * value).sum::<f64>() - 1.0;
    let deviation = rows.iter().map(|row| residual(row).abs()).fold(0.0, f64::max);
    let variance = rows.iter().map(|row| residual(row).powi(2)).sum::<f64>() / real(freedom);
    let student = STUDENT[freedom.min(STUDENT.len()) - 1];
    let coefficients = std::array::from_fn(|n| Coefficient {
        value: values[n],
        margin: student * (variance * inverse[n][n]).sqrt() / length[n],
    });
    Some(Fit { coefficients, deviation })
}

/// Of a matrix whose columns are about as large as each other, by elimination with the largest pivot.
fn inverse<const N: usize>(mut left: [[f64; N]; N]) -> Option<[[f64; N]; N]> {
    /// Under this a pivot is what rounding left of nothing.
    const NOTHING: f64 = 1e-9;
    let mut right = [[0.0; N]; N];
    right.iter_mut().enumerate().for_each(|(n, row)| row[n] = 1.0);
    for column in 0..N {
        let pivot = (column..N).max_by(|&a, &b| left[a][column].abs().total_cmp(&left[b][column].abs()))?;
        left.swap(column, pivot);
        right.swap(column, pivot);
        let lead = (left[column], right[column]);
        if lead.0[column].abs() < NOTHING {
            return None;
        }
        for (number, (row, other)) in left.iter_mut().zip(&mut right).enumerate() {
            let part = if number == column { lead.0[column] - 1.0 } else { row[column] } / lead.0[column];
            row.iter_mut().zip(lead.0).for_each(|(value, of_lead)| *value -= part * of_lead);
            other.iter_mut().zip(lead.1).for_each(|(value, of_lead)| *value -= part * of_lead);
        }
    }
    Some(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: [(f64, f64); 8] = [
        (0.25, 16384.0),
        (1.0, 16384.0),
        (4.0, 16384.0),
        (8.0, 16384.0),
        (0.5, 1280.0),
        (0.5, 12800.0),
        (0.5, 64000.0),
        (0.5, 128_000.0),
    ];
    const TRUTH: [f64; 3] = [5e-6, 2e-4, 25e-9];

    /// Points of a plane, each off by what `noise` says, as a share.
    fn plane(mut noise: impl FnMut() -> f64) -> Vec<Point<3>> {
        let time = |memory, dirty| TRUTH[0] + TRUTH[1] * memory + TRUTH[2] * dirty;
        let point = |(memory, dirty)| ([1.0, memory, dirty], time(memory, dirty) * (1.0 + noise()));
        SIZES.into_iter().map(point).collect()
    }

    #[test]
    fn finds_the_plane_that_made_the_points() {
        let fit = fit(&plane(|| 0.0)).unwrap();
        for (found, truth) in fit.coefficients.iter().zip(TRUTH) {
            assert!((found.value / truth - 1.0).abs() < 1e-6 && found.margin < truth * 1e-6, "{fit:?}");
        }
        assert!(fit.deviation < 1e-6);
    }

    #[test]
    fn says_how_far_off_it_is() {
        let mut points = plane(|| 0.0);
        points[2].1 *= 1.5;
        let fit = fit(&points).unwrap();
        assert!(fit.deviation > 0.1 && fit.coefficients[1].margin > TRUTH[1] * 0.1, "{fit:?}");
    }

    /// The claim of the margins: of many noisy measurements, 95 % have the truth within.
    #[test]
    fn margins_hold_what_they_promise() {
        use rand::{RngExt, SeedableRng};
        let mut random = rand_xoshiro::Xoshiro256PlusPlus::seed_from_u64(1);
        let mut within = [0; 3];
        for _ in 0..1000 {
            let noise = || 0.03 * crate::stats::normal::value_at(random.random_range(1e-9..1.0));
            let fit = fit(&plane(noise)).unwrap();
            for (count, (found, truth)) in within.iter_mut().zip(fit.coefficients.iter().zip(TRUTH)) {
                *count += u32::from((found.value - truth).abs() <= found.margin);
            }
        }
        assert!(within.iter().all(|count| (925..=975).contains(count)), "{within:?} of 1000");
    }

    #[test]
    fn a_coefficient_and_its_margin_share_a_unit() {
        let shown = |value, margin| Coefficient { value, margin }.to_string();
        assert_eq!(shown(2e-4, 3e-6), "200 us \u{b1} 3.00 us");
        assert_eq!(shown(-3e-9, 2e-6), "-0.00300 us \u{b1} 2.00 us");
    }
}

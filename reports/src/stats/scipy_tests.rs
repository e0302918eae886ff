//! The same samples in SciPy: what `scipy_values.py` beside this file printed.

use super::{Against, Family, Labels, geometric_mean, paired, quantile};

const A: [f64; 7] = [9.1, 10.4, 8.7, 11.2, 9.9, 10.8, 9.4];
const B: [f64; 8] = [10.9, 12.1, 11.5, 9.8, 13.0, 12.6, 11.9, 10.2];
const D: [f64; 9] = [0.11, -0.02, 0.31, 0.07, -0.05, 0.23, 0.17, 0.13, 0.29];

#[track_caller]
fn close(found: f64, expected: f64) {
    assert!((found - expected).abs() <= 1e-8 * expected.abs(), "{found}, and SciPy says {expected}");
}

#[test]
fn ratios_and_their_intervals() {
    let pairs = D.map(|d| (1.0, d.exp()));
    let together = paired(&pairs).unwrap();
    close(together.p, 0.019_531_25);
    close(together.ratio, 1.144_536_784_351_314_6);
    let (low, high) = together.interval().ends();
    // Printed with eight decimals.
    assert!((low - 1.030_454_53).abs() < 1e-8 && (high - 1.271_249_15).abs() < 1e-8, "{low}..{high}");
}

/// SciPy doubles the smaller tail.
#[test]
fn permutations() {
    let doubled = |labels, values| {
        let (values, hypotheses, against) = (vec![values], vec![vec![0]], Against::NotGreater);
        2.0 * Family { labels, values, hypotheses, against }.test(1.0, 1)[0].p
    };
    let apart = A.iter().chain(&B).copied().enumerate().collect();
    close(doubled(Labels::Groups { base: 7, new: 8 }, apart), 0.014_296_814_296_814_297);
    close(doubled(Labels::Swaps(9), D.into_iter().enumerate().collect()), 0.019_531_25);
}

#[test]
fn one_sample() {
    for (share, expected) in [(0.1, 10.08), (0.25, 10.725), (0.333, 11.0986), (0.9, 12.72)] {
        close(quantile(&B, share).unwrap(), expected);
    }
    close(geometric_mean(&[0.5, 2.0, 3.0, 0.7]).unwrap(), 1.203_801_343_502_716);
}

//! Tests of ratios: hand-made cases, and what must hold for any samples.

use proptest::prelude::*;

use super::*;

#[test]
fn ratio_is_the_middle_block() {
    // Half and twice cancel.
    let ratio = |pairs: &[(f64, f64)]| paired(pairs).unwrap().ratio;
    assert!((ratio(&[(1.0, 2.0), (2.0, 1.0)]) - 1.0).abs() < 1e-12);
    assert!((ratio(&[(2.0, 1.0), (4.0, 2.0), (10.0, 5.0)]) - 0.5).abs() < 1e-12);
}

#[test]
fn no_ratio_without_pairs_or_with_zero() {
    for pairs in [&[][..], &[(1.0, 1.0), (0.0, 1.0)], &[(1.0, 0.0)], &[(f64::NAN, 1.0)]] {
        assert_eq!(paired(pairs), None);
    }
}

#[test]
fn five_runs_show_a_range_however_far_apart() {
    let pairs: Vec<_> = (0..5).map(|i| (1.0 + 0.01 * f64::from(i), 10.0)).collect();
    let test = paired(&pairs).unwrap();
    assert!(matches!(test.interval(), Spread::Range { .. }));
    assert_eq!(test.mark(0.05), Significance::TooFew);
}

#[test]
fn six_pairs_all_one_way_are_significant_at_five_percent_and_at_no_less() {
    let pairs: Vec<_> = (0..6).map(|i| (1.0, 2.0 + 0.1 * f64::from(i))).collect();
    let test = paired(&pairs).unwrap();
    assert!((test.p - 2.0 / 64.0).abs() < 1e-15);
    let Spread::Interval { low, high, confidence } = test.interval() else { panic!("{test:?}") };
    assert!(
        (low - 2.0).abs() < 1e-12 && (high - 2.5).abs() < 1e-12 && (confidence - 62.0 / 64.0).abs() < 1e-12
    );
    assert_eq!((test.mark(0.05), test.mark(0.03)), (Significance::Larger, Significance::TooFew));
}

#[test]
fn equal_samples_are_not_significant() {
    let pairs = [(3.0, 3.0); 8];
    let test = paired(&pairs).unwrap();
    assert_eq!((test.ratio, test.p, test.mark(0.05)), (1.0, 1.0, Significance::NotSignificant));
}

#[test]
fn means_of_ratios() {
    assert!((geometric_mean(&[0.5, 2.0, 4.0, 0.25]).unwrap() - 1.0).abs() < 1e-12);
    assert!((geometric_mean(&[2.0, 8.0]).unwrap() - 4.0).abs() < 1e-12);
    assert_eq!(geometric_mean(&[]), None);
    assert_eq!(geometric_mean(&[1.0, 0.0]), None);
}

/// Every choice of signs tried, and the statistic counted in each: what the rank test does with a formula.
#[test]
fn the_p_value_agrees_with_all_signs_tried() {
    let differences: [f64; 8] = [0.11, -0.02, 0.31, 0.07, -0.05, 0.23, 0.17, 0.13];
    let pairs: Vec<_> = differences.iter().map(|d| (1.0, d.exp())).collect();
    let over = |signs: u32| {
        let signed: Vec<f64> =
            differences.iter().enumerate().map(|(i, d)| if signs >> i & 1 == 1 { -d } else { *d }).collect();
        let averages = WalshAverages::of(&signed);
        averages.len() - averages.count(|average| average <= 0.0)
    };
    let seen = over(0).min(36 - over(0));
    let as_far = (0..1_u32 << 8).filter(|signs| over(*signs).min(36 - over(*signs)) <= seen).count();
    assert!((paired(&pairs).unwrap().p - real(as_far) / 256.0).abs() < 1e-12);
}

fn values(size: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Vec<f64>> {
    // From a coarse grid too, so that there are ties.
    let one = prop_oneof![0.5..2.0_f64, (4_u32..9).prop_map(|n| f64::from(n) / 6.0)];
    prop::collection::vec(one, size)
}

fn test(base: &[f64], new: &[f64]) -> RatioTest {
    paired(&base.iter().copied().zip(new.iter().copied()).collect::<Vec<_>>()).unwrap()
}

proptest! {
    #[test]
    fn mark_p_value_and_interval_agree(
        base in values(6..14), new in values(14), shift in 0.5..2.0_f64, alpha in 0.001..0.2_f64,
    ) {
        let new: Vec<_> = new[..base.len()].iter().map(|value| value * shift).collect();
        let test = test(&base, &new);
        match test.spread(alpha) {
            Spread::Interval { low, high, confidence } => {
                let misses_one = low > 1.0 || high < 1.0;
                prop_assert_eq!(test.p <= alpha, misses_one, "{:?}", test);
                prop_assert_eq!(test.mark(alpha).significant(), misses_one);
                prop_assert!(low <= test.ratio && test.ratio <= high);
                prop_assert!(confidence >= 1.0 - alpha);
            }
            Spread::Range { .. } => prop_assert!(test.p > alpha && test.mark(alpha) == Significance::TooFew),
        }
    }

    #[test]
    fn swapping_sides_inverts_the_ratio(base in values(6..12), new in values(12)) {
        let new = &new[..base.len()];
        let (there, back) = (test(&base, new), test(new, &base));
        prop_assert!((there.ratio * back.ratio - 1.0).abs() < 1e-9);
        prop_assert!((there.p - back.p).abs() < 1e-12);
        let ((low, high), (low_back, high_back)) = (there.interval().ends(), back.interval().ends());
        prop_assert!((low * high_back - 1.0).abs() < 1e-9 && (high * low_back - 1.0).abs() < 1e-9);
    }

    #[test]
    fn the_unit_does_not_matter(base in values(6..12), new in values(12), unit in 1e-9..1e9_f64) {
        let new = &new[..base.len()];
        let scaled = |values: &[f64]| values.iter().map(|value| value * unit).collect::<Vec<_>>();
        let (plain, other) = (test(&base, new), test(&scaled(&base), &scaled(new)));
        prop_assert!((plain.ratio / other.ratio - 1.0).abs() < 1e-9);
        prop_assert_eq!(plain.mark(0.05), other.mark(0.05));
    }

    #[test]
    fn a_wider_level_never_takes_a_mark_away(base in values(10), new in values(10)) {
        let test = test(&base, &new);
        let marks = [0.01, 0.05, 0.1].map(|alpha| test.mark(alpha).significant());
        prop_assert!(marks.is_sorted());
    }
}

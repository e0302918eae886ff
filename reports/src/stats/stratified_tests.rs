//! Tests of the stratified test: every permutation tried by hand, and what must hold for any samples.

use proptest::prelude::*;

use super::*;

fn pairs(differences: &[f64]) -> Stratum {
    Stratum::Pairs(differences.iter().map(|d| (2.0, 2.0 * d.exp())).collect())
}

fn samples(base: &[f64], new: &[f64]) -> Stratum {
    Stratum::Samples {
        base: base.iter().map(|v| v.exp()).collect(),
        new: new.iter().map(|v| v.exp()).collect(),
    }
}

/// By hand: take `log` out of the new side, swap every set of pairs, look how often the mean is as large.
fn by_hand(cells: &[&[f64]], log: f64) -> f64 {
    let all: Vec<(f64, f64)> =
        cells.iter().flat_map(|cell| cell.iter().map(|d| (d - log, 1.0 / real(cell.len())))).collect();
    let of = |signs: u32| {
        let signed = all.iter().enumerate();
        signed.map(|(i, (d, weight))| if signs >> i & 1 == 1 { -d * weight } else { d * weight }).sum::<f64>()
    };
    let far = (0..1_u32 << all.len()).filter(|signs| of(*signs) >= of(0) - 1e-9).count();
    real(far) / f64::from(1_u32 << all.len())
}

#[test]
fn pairs_agree_with_all_swaps_tried() {
    let cells: [&[f64]; 3] =
        [&[0.11, -0.02, 0.31, 0.07], &[-0.05, 0.23, 0.17], &[0.02, 0.04, -0.06, 0.09, 0.2]];
    let test = Stratified::of(&cells.map(pairs), 1).unwrap();
    assert!(test.exact);
    for log in [-0.1, 0.0, 0.03, 0.0862, 0.2] {
        assert!((test.p_greater(log) - by_hand(&cells, log)).abs() < 1e-12, "{log}");
    }
    let means: Vec<f64> = cells.iter().map(|cell| mean(cell)).collect();
    assert!((test.estimate - mean(&means)).abs() < 1e-12);
}

#[test]
fn independent_samples_agree_with_all_labellings_tried() {
    // Two cells of 3 v 3 and 2 v 3: 20 x 10 labellings.
    let (first, second) = ([0.1, 0.3, 0.2, 0.35, 0.5, 0.15], [1.0, 1.2, 1.3, 1.1, 1.6]);
    let test =
        Stratified::of(&[samples(&first[..3], &first[3..]), samples(&second[..2], &second[2..])], 1).unwrap();
    assert!(test.exact);
    let statistic = |all: &[f64], chosen: u32| {
        let side = |of: u32| {
            let values: Vec<f64> =
                all.iter().enumerate().filter(|(i, _)| chosen >> i & 1 == of).map(|(_, v)| *v).collect();
            mean(&values)
        };
        side(1) - side(0)
    };
    for log in [-0.2, 0.0, 0.1, 0.4] {
        let taken_out = |all: &[f64], base: usize| {
            all.iter().enumerate().map(|(i, v)| if i < base { *v } else { v - log }).collect::<Vec<_>>()
        };
        let (a, b) = (taken_out(&first, 3), taken_out(&second, 2));
        let seen = statistic(&a, 0b111_000) + statistic(&b, 0b11100);
        let (mut all, mut far) = (0, 0);
        for x in (0..1_u32 << 6).filter(|x| x.count_ones() == 3) {
            for y in (0..1_u32 << 5).filter(|y| y.count_ones() == 3) {
                all += 1;
                far += usize::from(statistic(&a, x) + statistic(&b, y) >= seen - 1e-9);
            }
        }
        assert_eq!(all, 200);
        assert!((test.p_greater(log) - real(far) / 200.0).abs() < 1e-12, "{log}");
    }
}

#[test]
fn draws_agree_with_the_whole() {
    let cells: [&[f64]; 2] = [
        &[0.11, -0.02, 0.31, 0.07, -0.05, 0.23, 0.01, 0.04],
        &[0.02, 0.1, -0.1, 0.05, 0.03, 0.0, 0.2, -0.12],
    ];
    let drawn = Stratified::of(&cells.map(pairs), 3).unwrap();
    assert!(!drawn.exact);
    for log in [-0.02, 0.0, 0.05] {
        let truth = by_hand(&cells, log);
        let error = 4.0 * (truth * (1.0 - truth) / 9_999.0).sqrt() + 1e-4;
        assert!((drawn.p_greater(log) - truth).abs() < error, "{log}: {} and {truth}", drawn.p_greater(log));
    }
    assert_eq!(Stratified::of(&cells.map(pairs), 3).unwrap(), drawn);
}

#[test]
fn a_shift_of_all_cells_is_found_where_each_alone_shows_nothing() {
    let noise = [0.04, -0.03, 0.02, -0.05, 0.01];
    let cell = |turn: usize| {
        let differences: Vec<f64> = (0..5).map(|i| noise[(i + turn) % 5] + 0.05).collect();
        pairs(&differences)
    };
    let one = Stratified::of(&[cell(0)], 1).unwrap();
    let many = Stratified::of(&(0..8).map(cell).collect::<Vec<_>>(), 1).unwrap();
    assert!(one.p_greater(0.0) > 0.03 && many.p_greater(0.0) < 0.001);
    assert!(many.error.unwrap() < one.error.unwrap());
}

#[test]
fn what_has_no_logarithm_has_no_test() {
    assert_eq!(Stratified::of(&[], 1), None);
    assert_eq!(Stratified::of(&[Stratum::Pairs(vec![(1.0, 0.0)])], 1), None);
    assert_eq!(Stratified::of(&[Stratum::Samples { base: vec![1.0], new: vec![] }], 1), None);
    let single = Stratified::of(&[pairs(&[0.1])], 1).unwrap();
    assert_eq!((single.error, single.lower(0.05), single.upper(0.05)), (None, None, None));
}

fn cells() -> impl Strategy<Value = Vec<Stratum>> {
    let value = || 0.5..2.0_f64;
    let paired = prop::collection::vec((value(), value()), 2..9).prop_map(Stratum::Pairs);
    let apart = (prop::collection::vec(value(), 2..7), prop::collection::vec(value(), 2..7))
        .prop_map(|(base, new)| Stratum::Samples { base, new });
    prop::collection::vec(prop_oneof![paired, apart], 1..4)
}

fn swapped(cells: &[Stratum]) -> Vec<Stratum> {
    let swap = |cell: &Stratum| match cell {
        Stratum::Pairs(pairs) => Stratum::Pairs(pairs.iter().map(|(a, b)| (*b, *a)).collect()),
        Stratum::Samples { base, new } => Stratum::Samples { base: new.clone(), new: base.clone() },
    };
    cells.iter().map(swap).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn bounds_and_p_values_agree(cells in cells(), alpha in 0.01..0.3_f64, log in -0.5..0.5_f64) {
        let test = Stratified::of(&cells, 5).unwrap();
        if let Some(lower) = test.lower(alpha) {
            prop_assume!((log - lower).abs() > 1e-9);
            prop_assert_eq!(test.p_greater(log) <= alpha, log < lower);
        } else {
            prop_assert!(test.p_greater(log) > alpha);
        }
        if let Some(upper) = test.upper(alpha) {
            prop_assume!((log - upper).abs() > 1e-9);
            prop_assert_eq!(test.p_less(log) <= alpha, log > upper);
        } else {
            prop_assert!(test.p_less(log) > alpha);
        }
    }

    #[test]
    fn swapping_sides_inverts(cells in cells(), log in -0.3..0.3_f64) {
        let (there, back) = (Stratified::of(&cells, 5).unwrap(), Stratified::of(&swapped(&cells), 5).unwrap());
        prop_assert!((there.estimate + back.estimate).abs() < 1e-12);
        // Draws see other labels after swapping, so only whole enumerations must agree to the last digit.
        if there.exact {
            prop_assert!((there.p_greater(log) - back.p_less(-log)).abs() < 1e-12);
        }
    }

    #[test]
    fn the_unit_does_not_matter(cells in cells(), unit in 1e-6..1e6_f64) {
        let scaled: Vec<Stratum> = cells.iter().map(|cell| match cell {
            Stratum::Pairs(pairs) => Stratum::Pairs(pairs.iter().map(|(a, b)| (a * unit, b * unit)).collect()),
            Stratum::Samples { base, new } => Stratum::Samples {
                base: base.iter().map(|v| v * unit).collect(),
                new: new.iter().map(|v| v * unit).collect(),
            },
        }).collect();
        let (plain, other) = (Stratified::of(&cells, 5).unwrap(), Stratified::of(&scaled, 5).unwrap());
        prop_assert!((plain.estimate - other.estimate).abs() < 1e-9);
        prop_assert!((plain.p_greater(0.0) - other.p_greater(0.0)).abs() < 1e-9);
    }
}

//! Tests of the stratified test: every permutation tried by hand, and what must hold for any samples.

use proptest::prelude::*;

use super::*;

/// Cells of blocks, each with blocks of its own.
fn blocks(cells: &[&[f64]]) -> (Labels, Vec<Values>) {
    let mut units = 0..;
    let of = |cell: &&[f64]| cell.iter().map(|value| (units.next().unwrap(), *value)).collect();
    let cells: Vec<Values> = cells.iter().map(of).collect();
    (Labels::Swaps(units.next().unwrap()), cells)
}

fn of_blocks(cells: &[&[f64]], seed: u64) -> Option<Stratified> {
    let (labels, cells) = blocks(cells);
    Stratified::of(labels, &cells, seed)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / real(values.len())
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
    let test = of_blocks(&cells, 1).unwrap();
    assert!(test.exact);
    for log in [-0.1, 0.0, 0.03, 0.0862, 0.2] {
        assert!((test.p_greater(log) - by_hand(&cells, log)).abs() < 1e-12, "{log}");
    }
    let means: Vec<f64> = cells.iter().map(|cell| mean(cell)).collect();
    assert!((test.estimate - mean(&means)).abs() < 1e-12);
}

/// A repetition is relabelled with all of its cells, since they share its luck; one of the second cell is missing.
#[test]
fn groups_agree_with_all_labellings_tried() {
    let first = [0.1, 0.3, 0.2, 0.35, 0.5, 0.15];
    let second = [Some(1.0), Some(1.2), None, Some(1.3), Some(1.1), Some(1.6)];
    let cells = [
        first.into_iter().enumerate().collect(),
        second.into_iter().enumerate().filter_map(|(unit, value)| Some((unit, value?))).collect(),
    ];
    let test = Stratified::of(Labels::Groups { base: 3, new: 3 }, &cells, 1).unwrap();
    assert!(test.exact);
    for log in [-0.2, 0.0, 0.1, 0.4] {
        let statistic = |labelling: u32| -> f64 {
            let of = |cell: &Values| {
                let side = |of: u32| {
                    let there = cell.iter().filter(|(unit, _)| labelling >> unit & 1 == of);
                    let shifted = there.map(|(unit, value)| if *unit < 3 { *value } else { value - log });
                    mean(&shifted.collect::<Vec<_>>())
                };
                side(1) - side(0)
            };
            cells.iter().map(of).sum()
        };
        let labellings = || (0..1_u32 << 6).filter(|set| set.count_ones() == 3);
        let far = labellings().filter(|set| statistic(*set) >= statistic(0b111_000) - 1e-9).count();
        assert_eq!(labellings().count(), 20);
        assert!((test.p_greater(log) - real(far) / 20.0).abs() < 1e-12, "{log}");
    }
}

#[test]
fn draws_agree_with_the_whole() {
    let cells: [&[f64]; 2] = [
        &[0.11, -0.02, 0.31, 0.07, -0.05, 0.23, 0.01, 0.04],
        &[0.02, 0.1, -0.1, 0.05, 0.03, 0.0, 0.2, -0.12],
    ];
    let drawn = of_blocks(&cells, 3).unwrap();
    assert!(!drawn.exact);
    for log in [-0.02, 0.0, 0.05] {
        let truth = by_hand(&cells, log);
        let error = 4.0 * (truth * (1.0 - truth) / 9_999.0).sqrt() + 1e-4;
        assert!((drawn.p_greater(log) - truth).abs() < error, "{log}: {} and {truth}", drawn.p_greater(log));
    }
    assert_eq!(of_blocks(&cells, 3).unwrap(), drawn);
}

#[test]
fn a_shift_of_all_cells_is_found_where_each_alone_shows_nothing() {
    let noise = [0.04, -0.03, 0.02, -0.05, 0.01];
    let cell = |turn: usize| (0..5).map(|i| noise[(i + turn) % 5] + 0.05).collect::<Vec<f64>>();
    let cells: Vec<_> = (0..8).map(cell).collect();
    let cells: Vec<&[f64]> = cells.iter().map(Vec::as_slice).collect();
    let one = of_blocks(&cells[..1], 1).unwrap();
    let many = of_blocks(&cells, 1).unwrap();
    assert!(one.p_greater(0.0) > 0.03 && many.p_greater(0.0) < 0.001);
    assert!(many.error.unwrap() < one.error.unwrap());
}

#[test]
fn what_is_on_one_side_alone_has_no_test() {
    assert_eq!(of_blocks(&[], 1), None);
    assert_eq!(of_blocks(&[&[0.1], &[]], 1), None);
    let groups = Labels::Groups { base: 2, new: 2 };
    assert_eq!(Stratified::of(groups, &[vec![(0, 1.0), (1, 1.1)]], 1), None);
    assert!(Stratified::of(groups, &[vec![(0, 1.0), (2, 1.1)]], 1).is_some());
    let single = of_blocks(&[&[0.1]], 1).unwrap();
    assert_eq!((single.error, single.lower(0.05), single.upper(0.05)), (None, None, None));
}

/// Blocks of their own for each cell, or repetitions that all cells share.
fn cells() -> impl Strategy<Value = (Labels, Vec<Values>)> {
    let value = || -0.7..0.7_f64;
    let cell = prop::collection::vec(value(), 2..9);
    let paired = prop::collection::vec(cell, 1..4)
        .prop_map(|cells| blocks(&cells.iter().map(Vec::as_slice).collect::<Vec<_>>()));
    let apart = (2..7_usize, 2..7_usize)
        .prop_flat_map(move |(base, new)| {
            let cell = prop::collection::vec(value(), base + new);
            (Just(Labels::Groups { base, new }), prop::collection::vec(cell, 1..4))
        })
        .prop_map(|(labels, cells)| {
            (labels, cells.into_iter().map(|cell| cell.into_iter().enumerate().collect()).collect())
        });
    prop_oneof![paired, apart]
}

fn swapped((labels, cells): &(Labels, Vec<Values>)) -> (Labels, Vec<Values>) {
    match *labels {
        Labels::Swaps(_) => {
            let negative = |cell: &Values| cell.iter().map(|(unit, value)| (*unit, -value)).collect();
            (*labels, cells.iter().map(negative).collect())
        }
        Labels::Groups { base, new } => {
            let other = |unit: usize| if unit < base { unit + new } else { unit - base };
            let moved = |cell: &Values| cell.iter().map(|(unit, value)| (other(*unit), *value)).collect();
            (Labels::Groups { base: new, new: base }, cells.iter().map(moved).collect())
        }
    }
}

fn test((labels, cells): &(Labels, Vec<Values>)) -> Stratified {
    Stratified::of(*labels, cells, 5).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn bounds_and_p_values_agree(cells in cells(), alpha in 0.01..0.3_f64, log in -0.5..0.5_f64) {
        let test = test(&cells);
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
        let (there, back) = (test(&cells), test(&swapped(&cells)));
        prop_assert!((there.estimate + back.estimate).abs() < 1e-12);
        // Draws see other labels after swapping, so only whole enumerations must agree to the last digit.
        if there.exact {
            prop_assert!((there.p_greater(log) - back.p_less(-log)).abs() < 1e-12);
        }
    }
}

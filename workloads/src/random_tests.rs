//! Choices by pattern, and the arithmetic below them.

use proptest::prelude::*;

use super::*;
use crate::params::MachineParams;
use crate::settings::{Pattern, Settings};
use crate::units::Bytes;

fn params(pages: u64, pattern: Pattern, seed: u64) -> Params {
    let settings = Settings { working_set: Bytes(pages * 4096), pattern, ..Settings::BASE };
    let machine =
        MachineParams { vcpus: 1, tsc_khz: 2_000_000, seed, link: None, timing: false, telemetry: 0 };
    Params::new(&settings, &machine)
}

proptest! {
    #[test]
    fn the_step_through_ranks_visits_every_page(n in 1..5000_u64) {
        let stride = coprime(n);
        let mut seen: Vec<u64> = (0..n).map(|rank| rank * stride % n).collect();
        seen.sort_unstable();
        prop_assert!(seen.into_iter().eq(0..n));
    }

    #[test]
    fn every_pattern_stays_in_the_working_set(
        n in 1..3000_u64,
        pattern in prop_oneof![
            Just(Pattern::Sequential), Just(Pattern::Uniform), (0.01..0.99_f64).prop_map(Pattern::Zipf)
        ],
        seed: u64,
    ) {
        let mut chooser = Chooser::new(&params(n, pattern, seed), n);
        let mut random = Random::new(seed);
        let mut seen: Vec<u64> = (0..n).map(|_| chooser.next(&mut random)).collect();
        prop_assert!(seen.iter().all(|&page| page < n));
        if pattern == Pattern::Sequential {
            seen.sort_unstable();
            prop_assert!(seen.into_iter().eq(0..n), "each page once in a cycle");
        }
    }

    #[test]
    fn power_agrees_with_powf(mantissa in 0.5..2.0_f64, wide in 1e-6..1e6_f64, exponent in -3.0..3.0_f64) {
        for (base, exponent) in [(mantissa, exponent * 30.0), (wide, exponent)] {
            let relative = power(base, exponent) / base.powf(exponent) - 1.0;
            prop_assert!(relative.abs() < 1e-8, "{base}^{exponent}: {relative:e}");
        }
    }
}

#[test]
fn power_of_nothing_and_by_nothing() {
    assert!(power(0.0, 2.0) == 0.0 && power(-1.0, 2.0) == 0.0);
    assert!((power(7.0, 0.0) - 1.0).abs() < 1e-12 && (power(1.0, 1e9) - 1.0).abs() < 1e-12);
}

#[test]
fn zipf_prefers_low_ranks_as_much_as_its_exponent_says() {
    const PAGES: u64 = 1000;
    const DRAWS: u32 = 200_000;
    for theta in [0.5, 0.99] {
        let params = params(PAGES, Pattern::Zipf(theta), 1);
        let chooser = Chooser::new(&params, PAGES);
        let mut random = Random::new(3);
        let mut ranks = vec![0_u32; 1000];
        for _ in 0..DRAWS {
            let rank = chooser.zipf_rank(&mut random);
            ranks[usize::try_from(rank).unwrap()] += 1;
        }
        // The first two ranks are exact, the others an approximation.
        for rank in [0_u32, 1] {
            let expected = f64::from(DRAWS) * f64::from(rank + 1).powf(-theta) / params.zipf_zeta;
            let found = f64::from(ranks[rank as usize]);
            assert!((found / expected - 1.0).abs() < 0.1, "theta {theta}, rank {rank}: {found}, {expected}");
        }
        let of = |range: std::ops::Range<usize>| ranks[range].iter().sum::<u32>();
        assert!(of(0..10) > of(100..110) && of(100..110) > of(900..910), "theta {theta}");
    }
}

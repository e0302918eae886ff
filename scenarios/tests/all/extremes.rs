//! Values that are as large, as small or as odd as they can be written: each is taken or refused in words, and nothing that
//! is taken sizes memory, overflows, or keeps anybody waiting.

use migbench_scenarios::key::KEYS;
use migbench_scenarios::{Assignment, Overrides, Suite, SuiteError};
use proptest::prelude::*;

const SUITE: &str = "name = \"t\"\ndescription = \"d\"\n[[comparison]]\nworkload = \"write-heavy\"\n\
    axes.engine = [\"full\", \"delta\", \"none\", \"stop-and-copy\"]\n";

const EXTREMES: [&str; 40] = [
    "0",
    "1",
    "-1",
    "32",
    "33",
    "64",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "0.0",
    "1.0",
    "-0.0",
    "1e-320",
    "1e308",
    "1e400",
    "nan",
    "inf",
    "0s",
    "1ns",
    "1000000h",
    "9999999999999999h",
    "1B",
    "4KiB",
    "128MiB",
    "1EiB",
    "16EiB",
    "18446744073709551615B",
    "1bit/s",
    "1B/s",
    "1Gbit/s",
    "99999999999999Gbit/s",
    "unlimited",
    "none",
    "zipf(1e-9)",
    "pages(1e300)",
    "operations(1e-300)",
    "pressure(1e18)",
    "[]",
];

/// What a command makes of these values before a guest starts.
fn resolved(values: &[(&str, &str)]) -> Result<(), SuiteError> {
    let mut suite = Suite::parse(SUITE, "t.toml")?;
    let set = values.iter().map(|(key, value)| Assignment::parse(&format!("{key}={value}")));
    suite.apply(&Overrides { set: set.collect::<Result<_, _>>()?, ..Overrides::default() })?;
    let plan = suite.expand()?;
    let estimate = plan.estimate().0;
    assert!(estimate >= 0.0, "{values:?} take {estimate} s");
    assert!(serde_json::to_string(&plan.canonical()).is_ok_and(|text| !text.is_empty()), "{values:?}");
    for cell in plan.comparisons.iter().flat_map(|comparison| &comparison.cells) {
        let _ = migbench_scenarios::estimate::outlasted(&cell.cell);
        assert!(cell.cell.vcpus as usize <= migbench_workloads::abi::MAX_VCPUS, "{values:?}");
    }
    Ok(())
}

#[test]
fn every_key_takes_or_refuses_every_extreme() {
    let mut taken = 0;
    for key in KEYS {
        for value in EXTREMES {
            match resolved(&[(key.name, value)]) {
                Ok(()) => taken += 1,
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
    }
    assert!(taken > 100, "{taken} were taken");
}

/// A guest is there for no more vCPUs than its image has tables for.
#[test]
fn one_vcpu_more_than_the_guest_has_tables_for_is_refused_by_number() {
    resolved(&[("vcpus", "32"), ("settings.sharing", "shared")]).unwrap();
    let error = resolved(&[("vcpus", "33")]).unwrap_err().to_string();
    assert!(error.contains("33") && error.contains("1 to 32 vCPUs"), "{error}");
}

/// Billions of rounds are estimated as fast as thirty.
#[test]
fn limits_without_an_end_are_estimated_at_once() {
    for load in ["flat-out", "pressure(0.99)", "pressure(1.5)"] {
        let endless = [
            ("stop.max_rounds", "4294967295"),
            ("stop.max_time", "9999999999999999h"),
            ("stop.downtime_limit", "1ns"),
            ("settings.load", load),
        ];
        resolved(&endless).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn extremes_of_several_keys_are_taken_or_refused(
        values in prop::collection::vec((0..KEYS.len(), 0..EXTREMES.len()), 2..5)
    ) {
        let values: Vec<_> = values.into_iter().map(|(key, value)| (KEYS[key].name, EXTREMES[value])).collect();
        let _ = resolved(&values);
    }
}

//! Claims: those that ship hold together, and `papers/FORMAT.md` says what the code does.

use std::path::Path;

use migbench_scenarios::claims::{
    CLAIM_KEYS, CLAIMS_KEYS, ClaimTest, PAPERS, REFERENCE_KEYS, SENSITIVITY_KEYS, UNKNOWN_KEYS,
};
use migbench_scenarios::{Claims, SuiteError};

const FORMAT: &str = include_str!("../../papers/FORMAT.md");

/// Some metrics: their names are checked, whatever they are.
const METRICS: &[(&str, &str)] = &[
    ("downtime", "s"),
    ("total_time", "s"),
    ("traffic", "B"),
    ("amplification", "ratio"),
    ("throughput_steady", "op/s"),
];

fn parse(text: &str) -> Result<Claims, SuiteError> {
    Claims::parse(text, "claims.toml", Path::new(""), METRICS)
}

/// The first fenced block in `toml`.
fn example() -> &'static str {
    FORMAT.split("```toml\n").nth(1).unwrap().split("```").next().unwrap()
}

#[test]
fn shipped_claims_name_cells_that_exist() {
    for (name, _) in PAPERS {
        let claims = Claims::find(name, METRICS).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(claims.name, *name);
        assert!(claims.claims.len() >= 3 && claims.unknowns.len() >= 5, "{name}");
        assert!(claims.claimed().next().is_some(), "{name}");
        // The text must say so itself, whatever the tool prints around it.
        assert!(claims.choice.replace('\n', " ").contains("until numbers matched"), "{name}");
    }
}

#[test]
fn a_paper_that_does_not_exist_is_named_with_the_nearest_one() {
    let error = Claims::find("bhardwaj2020", METRICS).unwrap_err().to_string();
    assert!(error.contains("no paper `bhardwaj2020` (did you mean `bhardwaj2019`?)"), "{error}");
    let error = Claims::find("nowhere/claims.toml", METRICS).unwrap_err().to_string();
    assert!(error.contains("nowhere/claims.toml: cannot be read"), "{error}");
}

#[test]
fn every_key_is_documented() {
    let all = [CLAIMS_KEYS, REFERENCE_KEYS, UNKNOWN_KEYS, CLAIM_KEYS, SENSITIVITY_KEYS].concat();
    let row = |(name, required, about): &(&str, bool, &str)| {
        format!("| `{name}` | {}{about} |", if *required { "required: " } else { "" })
    };
    let missing: Vec<_> = all.iter().map(row).filter(|row| !FORMAT.contains(row.as_str())).collect();
    assert!(missing.is_empty(), "papers/FORMAT.md lacks these rows:\n{}", missing.join("\n"));
    for (name, _) in PAPERS {
        assert!(FORMAT.contains(&format!("`{name}`")), "papers/FORMAT.md lacks {name}");
    }
}

#[test]
fn the_example_is_accepted_and_mistakes_in_it_are_refused_as_it_says() {
    let claims = parse(example()).unwrap_or_else(|error| panic!("{error}"));
    assert!(matches!(claims.claims[0].test, ClaimTest::Reduction { .. }));
    assert!(matches!(claims.claims[1].test, ClaimTest::Value { .. }));
    assert!(matches!(claims.claims[2].test, ClaimTest::Convergence { published: true }));
    let fragment = FORMAT.split("```toml fragment\n").nth(1).unwrap().split("```").next().unwrap();
    let sensitivity = parse(&format!("{}\n{fragment}", example())).unwrap().sensitivity.unwrap();
    assert_eq!(sensitivity.base, "base point");

    let mut seen = 0;
    for block in FORMAT.split("```text ").skip(1) {
        let (mistake, message) = block.split("```").next().unwrap().split_once('\n').unwrap();
        let (right, wrong) = mistake.split_once("->").unwrap();
        let text = example().replacen(right.trim(), wrong.trim(), 1);
        assert_ne!(text, example(), "{right} is not in the example");
        let error = parse(&text).unwrap_err();
        let reported = error.problem().to_string();
        assert!(reported.starts_with(message.trim()), "{mistake}:\n{reported}\nnot\n{message}");
        assert!(error.to_string().starts_with("claims.toml:"), "{error}");
        seen += 1;
    }
    assert!(seen >= 8, "{seen}");
}

#[test]
fn other_mistakes_are_refused_with_their_place() {
    for (right, wrong, words) in [
        ("kind = \"value\"", "kind = \"valu\"", "did you mean `value`"),
        ("id = \"pause\"", "id = \"traffic\"", "a second claim has the id traffic"),
        ("id = \"pause\"", "id = \"a b\"", "a word of letters"),
        ("row = \"delta\"\n", "", "[[claim]] has no `row`"),
        ("metric = \"downtime\"", "metric = \"throughput_steady\"", "cannot be written in a claim"),
        ("published = \"40 ms to 60 ms\"", "published = \"60 ms to 40 ms\"", "takes a figure with its unit"),
        ("published = \"converges\"", "published = \"yes\"", "known are converges, does not converge"),
        ("published = \"converges\"", "published = \"converges\"\nmetric = \"downtime\"", "has no meaning"),
        ("command = \"migbench run quick\"", "command = \"migbench run quikc\"", "did you mean `quick`"),
        ("command = \"migbench run quick\"", "command = \"rm -r x\"", "must begin with `migbench run SUITE`"),
        ("choice = \"", "chioce = \"", "did you mean `choice`"),
        ("why = \"what the suite has\"", "why = \"\"", "`why` is empty"),
    ] {
        let text = example().replacen(right, wrong, 1);
        assert_ne!(text, example(), "{right}");
        let error = parse(&text).unwrap_err().to_string();
        assert!(error.contains(words), "{wrong}: {error}");
        assert!(error.starts_with("claims.toml:") || error.contains("quikc"), "{error}");
    }
}

#[test]
fn a_suite_of_ones_own_lies_beside_its_claims() {
    let directory = std::env::temp_dir().join(format!("migbench-claims-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let suite = "name = \"mine\"\ndescription = \"a\"\n[[comparison]]\nworkload = \"write-heavy\"\naxes.engine = [\"full\", \"delta\"]\n";
    std::fs::write(directory.join("mine.toml"), suite).unwrap();
    let text = example().replace("migbench run quick", "migbench run mine.toml");
    let claims = Claims::parse(&text, "claims.toml", &directory, METRICS);
    std::fs::remove_dir_all(&directory).unwrap();
    let claims = claims.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(claims.suites.len(), 1);
    assert_eq!(claims.suites[0].plan.suite, "mine");
    assert!(claims.claims[0].command.line.contains(&format!("{}/mine.toml", directory.display())));
}

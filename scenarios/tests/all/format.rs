//! `FORMAT.md` says what the code does: every key and word stands in it, and its examples are accepted or refused as
//! it claims.

use migbench_scenarios::cell::{Backing, Cache, Codec, Engine, Estimate, Proof, Tracker, Transport, Wait};
use migbench_scenarios::gate::{GATE_KEYS, METRICS};
use migbench_scenarios::key::KEYS;
use migbench_scenarios::{COMPARISON_KEYS, SUITE_KEYS, Suite, WORKLOAD_KEYS, shipped};
use migbench_workloads::catalogue;

const FORMAT: &str = include_str!("../../FORMAT.md");

/// The fenced blocks, as language and content.
fn blocks() -> Vec<(&'static str, &'static str)> {
    FORMAT
        .split("\n```")
        .skip(1)
        .step_by(2)
        .map(|block| block.split_once('\n').unwrap_or((block, "")))
        .collect()
}

/// A fragment made a whole suite.
fn whole(fragment: &str) -> String {
    let head =
        if fragment.starts_with("name =") { "" } else { "name = \"mine\"\ndescription = \"an example\"\n" };
    let tail = "\n[[comparison]]\nworkload = \"write-heavy\"\naxes.engine = [\"full\", \"delta\"]\n";
    let tail = if fragment.contains("[[comparison]]") { "" } else { tail };
    format!("{head}{fragment}{tail}")
}

#[test]
fn every_key_of_a_cell_is_documented() {
    let missing: Vec<String> = KEYS
        .iter()
        .map(|key| format!("| `{}` | {} | {} | {} |", key.name, key.kind, key.default, key.about))
        .filter(|row| !FORMAT.contains(row))
        .collect();
    assert!(missing.is_empty(), "FORMAT.md lacks these rows:\n{}", missing.join("\n"));
}

#[test]
fn every_other_key_is_documented() {
    let all = SUITE_KEYS.iter().chain(WORKLOAD_KEYS).chain(COMPARISON_KEYS).chain(GATE_KEYS);
    let missing: Vec<String> = all
        .map(|(name, about)| format!("| `{name}` | {about} |"))
        .filter(|row| !FORMAT.contains(row))
        .collect();
    assert!(missing.is_empty(), "FORMAT.md lacks these rows:\n{}", missing.join("\n"));
}

#[test]
fn every_word_is_documented() {
    fn words<T>(all: &[(&'static str, T)]) -> Vec<&'static str> {
        all.iter().map(|(word, _)| *word).collect()
    }
    let all = [
        words(Engine::ALL),
        words(Codec::ALL),
        Cache::EXAMPLES.to_vec(),
        words(Tracker::ALL),
        words(Backing::ALL),
        words(Transport::ALL),
        words(Wait::ALL),
        words(Estimate::ALL),
        words(Proof::ALL),
        words(METRICS),
        catalogue::ALL.iter().map(|named| named.name).collect(),
        shipped::SHIPPED.iter().map(|(name, _)| *name).collect(),
    ];
    for word in all.concat() {
        assert!(FORMAT.contains(&format!("`{word}`")), "FORMAT.md lacks the word {word}");
    }
}

#[test]
fn examples_are_accepted_or_refused_as_it_says() {
    let blocks = blocks();
    let (mut seen, mut wrong) = ((0, 0), Vec::new());
    for (i, (language, content)) in blocks.iter().enumerate() {
        let result = || Suite::parse(&whole(content), "mine.toml")?.expand();
        match *language {
            "toml" => {
                result().unwrap_or_else(|error| panic!("{error}\nin\n{content}"));
                seen.0 += 1;
            }
            "toml refused" => {
                let error = result().expect_err(content);
                let whole = if content.starts_with("name =") {
                    error.to_string()
                } else {
                    error.problem().to_string()
                };
                if blocks[i + 1].1.trim() != whole.trim() {
                    wrong.push(format!("{content}\n---\n{whole}"));
                }
                seen.1 += 1;
            }
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "messages that FORMAT.md states otherwise:\n{}\n===", wrong.join("\n===\n"));
    assert!(seen.0 >= 3 && seen.1 >= 5, "{seen:?}");
}

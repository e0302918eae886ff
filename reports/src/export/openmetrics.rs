//! Text for dashboards, in two dialects: `OpenMetrics` (<https://prometheus.io/docs/specs/om/open_metrics_spec/>), and the
//! text format 0.0.4 of Prometheus (<https://prometheus.io/docs/instrumenting/exposition_formats/>), which is what the textfile
//! collector of `node_exporter` reads from files that end in `.prom`. One gauge a metric, named with its unit, and a label for
//! what the value is of the samples.

use std::fmt::Write;

use migbench_scenarios::cell::Side;

use super::{ExportedCell, GATE_STATUS, Source, definition};
use crate::metric::{MetricKey, Unit};

/// Which of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    OpenMetrics,
    Prometheus,
}

/// The collector reads every `.prom` of a directory: a file for each suite.
pub(super) fn file(suite: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' };
    format!("migbench-{}.prom", suite.chars().map(plain).collect::<String>())
}

/// The unit's name at the end of a metric's name; none for plain numbers.
const fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Seconds => "seconds",
        Unit::Bytes => "bytes",
        Unit::Ratio | Unit::SecondsPerSecond => "ratio",
        Unit::Count => "",
        Unit::Operations => "operations",
        Unit::SecondsOfOperations => "operation_seconds",
        Unit::OperationsPerSecond => "operations_per_second",
        Unit::PagesPerSecond => "pages_per_second",
        Unit::BytesPerSecond => "bytes_per_second",
    }
}

/// The value of a label.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Labels in braces; those without a value are left out.
fn labels(pairs: &[(&str, Option<&str>)]) -> String {
    let pairs = pairs.iter().filter_map(|(name, value)| Some(format!("{name}=\"{}\"", escaped((*value)?))));
    pairs.collect::<Vec<_>>().join(",")
}

/// What stands before the samples of a metric.
fn head(text: &mut String, dialect: Dialect, name: &str, unit: &str, help: &str) {
    // Quotes are escaped in one dialect and stand for themselves in the other. Writing to a string cannot fail.
    let help = match dialect {
        Dialect::OpenMetrics => escaped(help),
        Dialect::Prometheus => help.replace('\\', "\\\\").replace('\n', "\\n"),
    };
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
    if dialect == Dialect::OpenMetrics && !unit.is_empty() {
        let _ = writeln!(text, "# UNIT {name} {unit}");
    }
}

pub(super) fn text(source: &Source<'_>, dialect: Dialect) -> String {
    let mut text = String::new();
    let suite = source.manifest.suite.as_str();
    let of = |subject: &ExportedCell<'_>| {
        labels(&[
            ("suite", Some(suite)),
            ("comparison", Some(subject.comparison)),
            ("cell", Some(subject.cell)),
            ("workload", Some(subject.workload)),
            ("engine", Some(subject.engine)),
            ("side", subject.side.map(Side::word)),
            ("commit", subject.commit),
        ])
    };
    for &key in MetricKey::ALL {
        let figures: Vec<_> = source.figures.iter().filter(|figure| figure.key == key).collect();
        if figures.is_empty() {
            continue;
        }
        let definition = key.definition();
        let unit = unit(definition.unit);
        let mut name = format!("migbench_{}", definition.name);
        if !unit.is_empty() && !name.ends_with(unit) {
            name = format!("{name}_{unit}");
        }
        head(&mut text, dialect, &name, unit, definition.text);
        for figure in figures {
            let labels = of(&figure.subject);
            let mut line = |statistic: &str, value: f64| {
                let _ = writeln!(text, "{name}{{{labels},statistic=\"{statistic}\"}} {value}");
            };
            line("median", figure.summary.median);
            if let Some((low, high)) = figure.ends() {
                line("low", low);
                line("high", high);
            }
        }
    }
    for (which, (name, _)) in source.lost.first().map(super::Lost::counts).into_iter().flatten().enumerate() {
        head(&mut text, dialect, &format!("migbench_{name}"), "", definition(name));
        for lost in &source.lost {
            let (_, runs) = lost.counts()[which];
            let _ = writeln!(text, "migbench_{name}{{{}}} {runs}", of(&lost.subject));
        }
    }
    let [base, new] = source.commits();
    for (index, (result, verdict)) in source.gates().enumerate() {
        let name = format!("migbench_{GATE_STATUS}");
        if index == 0 {
            head(&mut text, dialect, &name, "", definition(GATE_STATUS));
        }
        let gate = result.gate.to_string();
        let labels = labels(&[
            ("suite", Some(suite)),
            ("gate", Some(&gate)),
            ("side", Some(Side::New.word())),
            ("commit", new),
            ("base_commit", base),
        ]);
        let _ = writeln!(text, "{name}{{{labels}}} {}", verdict.status());
    }
    if dialect == Dialect::OpenMetrics {
        text.push_str("# EOF\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::judge::{Accepted, Measurement, gate_tests, judge};
    use crate::sample;

    /// A family as a strict reader of either dialect takes it.
    #[derive(Default)]
    struct Family {
        help: Option<String>,
        kind: Option<String>,
        unit: Option<String>,
        samples: BTreeMap<BTreeMap<String, String>, f64>,
    }

    fn named(text: &str) -> (String, &str) {
        let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
        assert!(end > 0 && !text.starts_with(|c: char| c.is_ascii_digit()), "no name: {text}");
        (text[..end].to_owned(), &text[end..])
    }

    /// The text between quotes, of which only `\\`, `\"` and `\n` are escapes, and what follows.
    fn value(text: &str) -> (String, &str) {
        let mut characters = text.strip_prefix('"').unwrap().char_indices();
        let mut read = String::new();
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => return (read, &text[at + 2..]),
                '\\' => match characters.next().unwrap().1 {
                    'n' => read.push('\n'),
                    escaped @ ('\\' | '"') => read.push(escaped),
                    other => panic!("\\{other} is no escape: {text}"),
                },
                character => read.push(character),
            }
        }
        panic!("not closed: {text}")
    }

    /// Reads by the rules of both specifications: a family's lines stand together, its metadata before its samples and once
    /// each; names and labels are what they may be; no label comes twice in a sample and no sample twice in a family; a unit
    /// ends the name; values are numbers; the last line is ended, and in one dialect it is the end mark.
    fn read(text: &str, dialect: Dialect) -> BTreeMap<String, Family> {
        let mut families: BTreeMap<String, Family> = BTreeMap::new();
        let mut current = String::new();
        assert!(text.ends_with('\n') && !text.contains('\r'));
        let body = match dialect {
            Dialect::OpenMetrics => text.strip_suffix("# EOF\n").expect("an end mark"),
            Dialect::Prometheus => text,
        };
        for line in body.lines() {
            assert!(!line.is_empty(), "an empty line");
            let (name, rest) = match line.strip_prefix("# ") {
                Some(meta) => {
                    let (keyword, rest) = meta.split_once(' ').unwrap();
                    let (name, rest) = named(rest);
                    let rest = rest.strip_prefix(' ').unwrap().to_owned();
                    let family = families.entry(name.clone()).or_default();
                    assert!(family.samples.is_empty(), "metadata after samples: {line}");
                    let place = match keyword {
                        "HELP" => &mut family.help,
                        "TYPE" => &mut family.kind,
                        "UNIT" if dialect == Dialect::OpenMetrics => &mut family.unit,
                        other => panic!("{other}: {line}"),
                    };
                    assert!(place.replace(rest).is_none(), "twice: {line}");
                    (name, None)
                }
                None => {
                    let (name, rest) = named(line);
                    (name, Some(rest))
                }
            };
            if current != name {
                let begun = families.get(&name).is_some_and(|family| !family.samples.is_empty());
                assert!(!begun, "the lines of {name} stand apart");
                current.clone_from(&name);
            }
            let Some(mut rest) = rest else { continue };
            let family = families.get_mut(&name).expect("metadata before samples");
            let mut labels = BTreeMap::new();
            rest = rest.strip_prefix('{').unwrap();
            while !rest.starts_with('}') {
                let (label, after) = named(rest);
                let (value, after) = value(after.strip_prefix('=').unwrap());
                assert!(labels.insert(label, value).is_none(), "a label twice: {line}");
                rest = after.strip_prefix(',').unwrap_or(after);
            }
            let number: f64 = rest.strip_prefix("} ").unwrap().parse().unwrap();
            assert!(number.is_finite(), "{line}");
            assert!(family.samples.insert(labels, number).is_none(), "a sample twice: {line}");
        }
        for (name, family) in &families {
            assert_eq!(family.kind.as_deref(), Some("gauge"), "{name}");
            assert!(family.help.is_some() && !family.samples.is_empty(), "{name}");
            assert!(family.unit.as_ref().is_none_or(|unit| name.ends_with(&format!("_{unit}"))), "{name}");
        }
        families
    }

    #[test]
    fn keeps_the_rules_of_both_formats() {
        let (mut manifest, records) = (sample::manifest(), super::super::tests::records());
        manifest.suite = "a \"b\" \\ c\nd".to_owned();
        let source = Source::new(&manifest, &records, None);
        let mut names = Vec::new();
        for dialect in [Dialect::OpenMetrics, Dialect::Prometheus] {
            let families = read(&text(&source, dialect), dialect);
            assert!(
                families["migbench_total_time_seconds"].unit.is_some() == (dialect == Dialect::OpenMetrics)
            );
            assert!(
                families.contains_key("migbench_rounds") && !families.contains_key("migbench_gate_status")
            );
            let capped = &families["migbench_runs_capped"].samples;
            assert_eq!(capped.values().sum::<f64>(), 1.0);
            let of = |name: &str| capped.keys().map(|labels| labels[name].as_str()).collect::<BTreeSet<_>>();
            assert_eq!(of("suite"), BTreeSet::from([manifest.suite.as_str()]));
            assert_eq!(of("commit"), BTreeSet::from(["0123abc"]));
            assert!(capped.keys().all(|labels| !labels.contains_key("side")), "there are no sides");
            names.push(families.into_keys().collect::<Vec<_>>());
        }
        assert_eq!(names[0], names[1]);
    }

    #[test]
    fn a_gate_has_its_status_and_cells_their_side_and_commit() {
        let data = gate_tests::slower(1.1, 1);
        let measured = Measurement::of_one(&data).unwrap();
        let judgement = judge(&measured, None, &Accepted::default()).unwrap();
        let source = Source::new(&data.manifest, &data.records, Some(&judgement));
        let families = read(&text(&source, Dialect::Prometheus), Dialect::Prometheus);
        let statuses: Vec<f64> = families["migbench_gate_status"].samples.values().copied().collect();
        assert_eq!(statuses, [3.0]);
        let sides: BTreeSet<_> = families["migbench_total_time_seconds"]
            .samples
            .keys()
            .map(|labels| (labels["side"].as_str(), labels["commit"].as_str()))
            .collect();
        assert_eq!(sides, BTreeSet::from([("base", "0fedcba"), ("new", "0123abc")]));
    }

    #[test]
    fn the_collector_finds_a_file_for_each_suite() {
        assert_eq!(file("quick"), "migbench-quick.prom");
        assert_eq!(file("../a b"), "migbench-.._a_b.prom");
    }
}

//! `OpenMetrics` text (<https://prometheus.io/docs/specs/om/open_metrics_spec/>), for a textfile collector: one gauge a
//! metric, named with its unit as the format demands, and a label for what the value is of the samples.

use std::fmt::Write;

use super::Source;
use crate::metric::{MetricKey, Unit};

/// The unit's name at the end of a metric's name; none for plain numbers.
const fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Seconds => "seconds",
        Unit::Bytes => "bytes",
        Unit::Ratio | Unit::SecondsPerSecond => "ratio",
        Unit::Count => "",
        Unit::Operations => "operations",
        Unit::OperationsPerSecond => "operations_per_second",
        Unit::PagesPerSecond => "pages_per_second",
        Unit::BytesPerSecond => "bytes_per_second",
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

pub(super) fn text(source: &Source<'_>) -> String {
    let mut text = String::new();
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
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# TYPE {name} gauge");
        if !unit.is_empty() {
            let _ = writeln!(text, "# UNIT {name} {unit}");
        }
        let _ = writeln!(text, "# HELP {name} {}", escaped(definition.text));
        for figure in figures {
            let labels = format!(
                "suite=\"{}\",comparison=\"{}\",cell=\"{}\",workload=\"{}\",engine=\"{}\"",
                escaped(&source.manifest.suite),
                escaped(figure.comparison),
                escaped(figure.cell),
                escaped(figure.workload),
                figure.engine,
            );
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
    text.push_str("# EOF\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    /// The rules of the format that a parser insists on: one block a family, metadata before samples, the unit at the
    /// end of the name, quoted labels, a number, and the end mark.
    #[test]
    fn keeps_the_rules_of_the_format() {
        let (manifest, records) = (sample::manifest(), super::super::tests::records());
        let text = text(&Source::new(&manifest, &records));
        assert!(text.ends_with("\n# EOF\n"));
        let mut families = std::collections::BTreeSet::new();
        let mut family = String::new();
        for line in text.lines().take_while(|line| *line != "# EOF") {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                family = rest.strip_suffix(" gauge").unwrap().to_owned();
                assert!(families.insert(family.clone()), "{family} comes twice");
            } else if let Some(rest) = line.strip_prefix("# UNIT ") {
                let (name, unit) = rest.split_once(' ').unwrap();
                assert!(name == family && name.ends_with(&format!("_{unit}")), "{line}");
            } else if let Some(rest) = line.strip_prefix("# HELP ") {
                assert!(rest.starts_with(&family), "{line}");
            } else {
                let rest = line.strip_prefix(&family).and_then(|rest| rest.strip_prefix('{')).unwrap();
                let (labels, value) = rest.rsplit_once("} ").unwrap();
                assert!(value.parse::<f64>().unwrap().is_finite(), "{line}");
                let pairs: Vec<_> = labels.split(',').collect();
                assert!(pairs.iter().all(|pair| pair.contains("=\"") && pair.ends_with('"')), "{line}");
            }
        }
        assert!(families.contains("migbench_total_time_seconds") && families.contains("migbench_rounds"));
    }

    #[test]
    fn odd_names_are_escaped() {
        assert_eq!(escaped("a \"b\" \\ c\nd"), "a \\\"b\\\" \\\\ c\\nd");
    }
}

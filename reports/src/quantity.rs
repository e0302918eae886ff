//! Numbers for people: three significant digits, in the unit that suits them.

use crate::metric::Unit;

/// A unit for people and its size in the metric's own unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    factor: f64,
    symbol: &'static str,
    whole: bool,
}

const TIME: &[(f64, &str)] = &[(1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns")];
const SIZE: &[(f64, &str)] = &[(1_073_741_824.0, "GiB"), (1_048_576.0, "MiB"), (1024.0, "KiB"), (1.0, "B")];
const OPERATION_RATE: &[(f64, &str)] = &[(1e6, "Mop/s"), (1e3, "kop/s"), (1.0, "op/s")];
const PAGE_RATE: &[(f64, &str)] = &[(1e6, "Mpage/s"), (1e3, "kpage/s"), (1.0, "page/s")];
const SLOPE: &[(f64, &str)] = &[(1.0, "s/s"), (1e-3, "ms/s"), (1e-6, "us/s")];
const DELAY: &[(f64, &str)] = &[(1.0, "s x op"), (1e-3, "ms x op"), (1e-6, "us x op")];
const SPEED: &[(f64, &str)] = &[(1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s"), (1.0, "B/s")];
const RATE: &[(f64, &str)] = &[(125e6, "Gbit/s"), (125e3, "Mbit/s"), (125.0, "kbit/s"), (0.125, "bit/s")];

impl Scale {
    /// The one in which `value` is at least one.
    #[must_use]
    pub fn suiting(unit: Unit, value: f64) -> Self {
        let ladder = match unit {
            Unit::Seconds => TIME,
            Unit::Bytes => SIZE,
            Unit::OperationsPerSecond => OPERATION_RATE,
            Unit::PagesPerSecond => PAGE_RATE,
            Unit::SecondsPerSecond => SLOPE,
            Unit::SecondsOfOperations => DELAY,
            Unit::BytesPerSecond => SPEED,
            Unit::Ratio => return Self { factor: 1.0, symbol: "", whole: false },
            Unit::Operations => return Self { factor: 1.0, symbol: "op", whole: true },
            Unit::Count => return Self { factor: 1.0, symbol: "", whole: true },
        };
        Self::of(ladder, value)
    }

    fn of(ladder: &'static [(f64, &'static str)], value: f64) -> Self {
        // Rounded to three digits first, so that 999.6 ms becomes 1.00 s and not 1000 ms.
        let fits = |factor: f64| value.abs() / factor >= 0.9995;
        let zero = (value == 0.0).then(|| ladder.iter().find(|(factor, _)| *factor == 1.0)).flatten();
        let last = ladder.last().copied().unwrap_or((1.0, ""));
        let found = zero.or_else(|| ladder.iter().find(|(factor, _)| fits(*factor)));
        let (factor, symbol) = found.copied().unwrap_or(last);
        Self { factor, symbol, whole: false }
    }

    /// The size of this unit in the metric's own.
    #[must_use]
    pub const fn factor(self) -> f64 {
        self.factor
    }

    /// As it is written; empty for numbers without dimension.
    #[must_use]
    pub const fn symbol(self) -> &'static str {
        self.symbol
    }

    /// Without the unit.
    #[must_use]
    pub fn number(self, value: f64) -> String {
        let value = value / self.factor;
        if self.whole {
            // A median of counts may lie halfway, which says something of a few rounds and nothing of thousands of pages.
            let halfway = value.fract() != 0.0 && value.abs() < 100.0;
            return if halfway { format!("{value:.1}") } else { format!("{value:.0}") };
        }
        digits(value)
    }

    /// With the unit.
    #[must_use]
    pub fn show(self, value: f64) -> String {
        let number = self.number(value);
        if self.symbol.is_empty() { number } else { format!("{number} {}", self.symbol) }
    }
}

/// Three significant digits; whole numbers keep theirs.
#[must_use]
pub fn digits(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let significant =
        |text: &str| text.trim_start_matches(['-', '0', '.']).chars().filter(char::is_ascii_digit).count();
    let shown = (0..=8).rev().map(|decimals| format!("{value:.decimals$}"));
    shown
        .into_iter()
        .find(|text| significant(text) <= 3 && significant(text) > 0)
        .unwrap_or_else(|| format!("{value:.0}"))
}

/// A value in the unit that suits it.
#[must_use]
pub fn show(unit: Unit, value: f64) -> String {
    Scale::suiting(unit, value).show(value)
}

/// A value that was chosen and not measured, such as a tick of an axis: `100 ms` and not `100.0 ms`.
#[must_use]
pub fn trimmed(unit: Unit, value: f64) -> String {
    trim(&show(unit, value))
}

/// A size of memory: `128 MiB`.
#[must_use]
pub fn size(bytes: u64) -> String {
    trim(&show(Unit::Bytes, bytes as f64))
}

/// A rate of a link: `1 Gbit/s`.
#[must_use]
pub fn rate(bytes_per_second: u64) -> String {
    let value = bytes_per_second as f64;
    trim(&Scale::of(RATE, value).show(value))
}

/// A setting, where 0.300 s would look measured: `300 ms`.
#[must_use]
pub fn time(seconds: f64) -> String {
    trim(&show(Unit::Seconds, seconds))
}

fn trim(text: &str) -> String {
    let short = |number: &str| match number.contains('.') {
        true => number.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => number.to_owned(),
    };
    match text.split_once(' ') {
        Some((number, unit)) => format!("{} {unit}", short(number)),
        None => short(text),
    }
}

/// A share: `51.4 %`.
#[must_use]
pub fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0 + 0.0)
}

/// A ratio to the baseline as a difference: `-49.8 %`; from ten times on as a factor.
#[must_use]
pub fn difference(ratio: f64) -> String {
    if ratio >= 10.0 {
        return factor(ratio);
    }
    let text = format!("{:+.1} %", (ratio - 1.0) * 100.0);
    if text == "-0.0 %" || text == "+0.0 %" { "0.0 %".to_owned() } else { text }
}

/// A ratio to the baseline as a factor: `x 12.3`.
#[must_use]
pub fn factor(ratio: f64) -> String {
    format!("x {}", digits(ratio))
}

/// An end of a difference's interval in percent: `-54`, `-8.4`; the difference beside it has the sign of percent.
#[must_use]
pub fn difference_end(ratio: f64) -> String {
    let percent = (ratio - 1.0) * 100.0;
    let decimals = if percent.abs() >= 9.95 && percent > -98.95 { 0 } else { 1 };
    let text = format!("{percent:+.decimals$}");
    if text == "-0.0" || text == "+0.0" { "0.0".to_owned() } else { text }
}

/// `1 run`, `2 runs`.
#[must_use]
pub fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_in_a_suiting_unit() {
        let seconds = |value| show(Unit::Seconds, value);
        assert_eq!(
            [2.414, 0.098_123, 0.000_012_3, 0.999_6, 0.0, 123.4].map(seconds),
            ["2.41 s", "98.1 ms", "12.3 us", "1.00 s", "0 s", "123 s"]
        );
        assert_eq!(show(Unit::Bytes, 242_221_056.0), "231 MiB");
        assert_eq!(show(Unit::Count, 11.0), "11");
        assert_eq!((show(Unit::Count, 11.5), show(Unit::Count, 52_576.5)), ("11.5".into(), "52576".into()));
        assert_eq!(show(Unit::Seconds, -0.000_002), "-2.00 us");
        assert_eq!(show(Unit::OperationsPerSecond, 412_345.0), "412 kop/s");
    }

    #[test]
    fn ranges_share_the_unit_of_their_median() {
        let scale = Scale::suiting(Unit::Seconds, 0.098);
        assert_eq!((scale.number(0.0971), scale.number(1.2)), ("97.1".to_owned(), "1200".to_owned()));
        assert_eq!(scale.number(0.000_012_34), "0.0123");
    }

    #[test]
    fn settings_are_not_padded() {
        assert_eq!(
            (size(128 << 20), rate(125_000_000), time(0.3)),
            ("128 MiB".into(), "1 Gbit/s".into(), "300 ms".into())
        );
        assert_eq!(
            (size(3 << 29), size(100 << 20), time(300.0)),
            ("1.5 GiB".into(), "100 MiB".into(), "300 s".into())
        );
    }

    #[test]
    fn differences_have_a_sign() {
        assert_eq!(
            [0.502, 1.0, 1.0004, 0.9997, 1.25, 12.34].map(difference),
            ["-49.8 %", "0.0 %", "0.0 %", "0.0 %", "+25.0 %", "x 12.3"]
        );
    }
}

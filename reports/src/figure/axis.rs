//! Axes: the range that holds all values, and ticks at round numbers with their texts.

use crate::metric::Unit;
use crate::quantity::{self, Scale};
use crate::stats::real;

/// How values become places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spacing {
    /// Equal differences are equally long.
    Linear,
    /// Equal ratios are equally long; every value is positive.
    Log,
}

/// An axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// What it shows.
    pub label: String,
    /// The unit of all values and ticks; empty where the ticks carry it or there is none.
    pub unit: String,
    /// How values become places.
    pub spacing: Spacing,
    /// The lower end.
    pub low: f64,
    /// The upper end, above `low`.
    pub high: f64,
    /// Places with their texts, within the ends. Without texts on an axis that repeats its neighbour's.
    pub ticks: Vec<(f64, String)>,
    /// What one of the metric's own units is on this axis: values are multiplied by it.
    pub factor: f64,
}

/// About as many ticks as are wanted.
const TICKS: f64 = 5.0;

impl Axis {
    /// Of equal differences, from `low` to `high` in the unit of the metric; values are shown in the unit that suits `high`.
    #[must_use]
    pub fn linear(label: &str, unit: Unit, low: f64, high: f64) -> Self {
        let scale = Scale::suiting(unit, low.abs().max(high.abs()));
        let factor = 1.0 / scale.factor();
        let (low, high) = (low * factor, high * factor);
        let high = if high > low { high } else { low + 1.0 };
        let step = step((high - low) / TICKS);
        // There is no half of a round or a page.
        let step = if matches!(unit, Unit::Count | Unit::Operations) { step.max(1.0) } else { step };
        let ticks = steps(low, high, step).into_iter().map(|(at, n)| (at, decimal(n, step))).collect();
        Self {
            label: label.to_owned(),
            unit: scale.symbol().to_owned(),
            spacing: Spacing::Linear,
            low,
            high,
            ticks,
            factor,
        }
    }

    /// As [`Self::linear`] from zero, with room above the highest value.
    #[must_use]
    pub fn from_zero(label: &str, unit: Unit, highest: f64) -> Self {
        Self::linear(label, unit, 0.0, if highest > 0.0 { highest * 1.08 } else { 1.0 })
    }

    /// Of equal ratios, around the positive ones of `values`, whose ticks carry the unit.
    #[must_use]
    pub fn log(label: &str, unit: Unit, values: impl IntoIterator<Item = f64>) -> Self {
        let (mut low, mut high) = (f64::INFINITY, 0.0_f64);
        for value in values.into_iter().filter(|value| *value > 0.0 && value.is_finite()) {
            (low, high) = (low.min(value), high.max(value));
        }
        if high <= 0.0 {
            (low, high) = (1.0, 10.0);
        }
        // A little room, and never less than half a decade, in which ticks would be odd numbers.
        let (mut low, mut high) = (low / 1.15, high * 1.15);
        if high / low < 3.5 {
            let wider = (3.5 * low / high).sqrt();
            (low, high) = (low / wider, high * wider);
        }
        let places = if unit == Unit::Bytes { binary(low, high) } else { decades(low, high) };
        Self {
            label: label.to_owned(),
            unit: String::new(),
            spacing: Spacing::Log,
            low,
            high,
            ticks: places.into_iter().map(|value| (value, quantity::trimmed(unit, value))).collect(),
            factor: 1.0,
        }
    }

    /// Names at 0, 1, 2, ...
    #[must_use]
    pub fn categories(label: &str, names: impl IntoIterator<Item = String>) -> Self {
        let ticks: Vec<_> = names.into_iter().enumerate().map(|(n, name)| (real(n), name)).collect();
        Self {
            label: label.to_owned(),
            unit: String::new(),
            spacing: Spacing::Linear,
            low: -0.5,
            high: real(ticks.len().max(1)) - 0.5,
            ticks,
            factor: 1.0,
        }
    }

    /// Percentiles as `HdrHistogram` plots them: a value stands for 1 / (1 - q), so that 90 %, 99 % and 99.9 % are equally far
    /// apart, and a tail can be seen. Up to `highest`.
    #[must_use]
    pub fn percentiles(highest: f64) -> Self {
        const PLACES: [(f64, &str); 8] = [
            (1.0, "0"),
            (2.0, "50"),
            (10.0, "90"),
            (1e2, "99"),
            (1e3, "99.9"),
            (1e4, "99.99"),
            (1e5, "99.999"),
            (1e6, "99.9999"),
        ];
        let high = highest.max(10.0);
        Self {
            label: "percentile".to_owned(),
            unit: String::new(),
            spacing: Spacing::Log,
            low: 1.0,
            high,
            ticks: PLACES
                .iter()
                .filter(|(at, _)| *at <= high)
                .map(|(at, text)| (*at, (*text).to_owned()))
                .collect(),
            factor: 1.0,
        }
    }

    /// A value of a metric in the unit of this axis.
    #[must_use]
    pub fn scaled(&self, value: f64) -> f64 {
        value * self.factor
    }

    /// Where a value lies from `low` (0) to `high` (1); what lies outside is brought to the end.
    #[must_use]
    pub fn place(&self, value: f64) -> f64 {
        let share = match self.spacing {
            Spacing::Linear => (value - self.low) / (self.high - self.low),
            Spacing::Log if value <= 0.0 => 0.0,
            Spacing::Log => (value / self.low).ln() / (self.high / self.low).ln(),
        };
        if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) }
    }

    /// What stands beside the axis: label and unit.
    #[must_use]
    pub fn caption(&self) -> String {
        match (self.label.as_str(), self.unit.as_str()) {
            (label, "") => label.to_owned(),
            ("", unit) => unit.to_owned(),
            (label, unit) => format!("{label} ({unit})"),
        }
    }
}

/// The smallest of 1, 2, 5, 10, ... that is at least `wanted`.
fn step(wanted: f64) -> f64 {
    let decade = 10_f64.powf(wanted.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|digit| digit * decade);
    steps.into_iter().find(|step| *step >= wanted * 0.999_999).unwrap_or(wanted)
}

/// All multiples of `step` within the ends, each with its text's number, free of the error that adding up would bring.
fn steps(low: f64, high: f64, step: f64) -> Vec<(f64, f64)> {
    let first = (low / step - 1e-9).ceil();
    (0..50)
        .map(|n| (first + f64::from(n)) * step)
        .take_while(|at| *at <= high + step * 1e-9)
        .map(|at| (at.clamp(low, high), at))
        .collect()
}

/// With as many decimals as the step has.
fn decimal(value: f64, step: f64) -> String {
    let decimals = (0..9_u32)
        .find(|decimals| {
            let shifted = step * 10_f64.powi(i32::try_from(*decimals).unwrap_or(0));
            (shifted - shifted.round()).abs() < 1e-6
        })
        .unwrap_or(9);
    // Plus zero: no "-0".
    format!("{:.*}", decimals as usize, value + 0.0)
}

/// Powers of ten within the ends, with 2 and 5 times them where few fit, and fewer where many do.
fn decades(low: f64, high: f64) -> Vec<f64> {
    let spread = (high / low).log10();
    let (digits, every): (&[f64], i32) = match spread {
        _ if spread < 1.2 => (&[1.0, 2.0, 3.0, 5.0], 1),
        _ if spread < 2.5 => (&[1.0, 2.0, 5.0], 1),
        _ if spread < 6.5 => (&[1.0], 1),
        _ => (&[1.0], 2),
    };
    powers(10.0, low, high, every, digits)
}

/// Powers of two that are familiar as sizes.
fn binary(low: f64, high: f64) -> Vec<f64> {
    let octaves = (high / low).log2();
    let every = [1, 2, 5, 10].into_iter().find(|every| octaves / f64::from(*every) <= 6.5).unwrap_or(20);
    powers(2.0, low, high, every, &[1.0])
}

fn powers(base: f64, low: f64, high: f64, every: i32, digits: &[f64]) -> Vec<f64> {
    (-40..80)
        .filter(|exponent| exponent % every == 0)
        .flat_map(|exponent| digits.iter().map(move |digit| digit * base.powi(exponent)))
        .filter(|value| (low..=high).contains(value))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, text)| text.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        let axis = Axis::from_zero("downtime", Unit::Seconds, 0.0725);
        assert_eq!((axis.caption().as_str(), axis.unit.as_str()), ("downtime (ms)", "ms"));
        assert_eq!(texts(&axis), ["0", "20", "40", "60"]);
        assert_eq!(texts(&Axis::linear("", Unit::Seconds, -0.3, 2.1)), ["0.0", "0.5", "1.0", "1.5", "2.0"]);
        let latency = Axis::log("response", Unit::Seconds, [3e-6, 0.09]);
        assert_eq!(texts(&latency), ["10 us", "100 us", "1 ms", "10 ms", "100 ms"]);
        let bytes = Axis::log("traffic", Unit::Bytes, [204.0 * 1024.0, 156e6]);
        assert_eq!(texts(&bytes), ["256 KiB", "1 MiB", "4 MiB", "16 MiB", "64 MiB"]);
        assert_eq!(texts(&Axis::percentiles(2e3)), ["0", "50", "90", "99", "99.9"]);
    }

    #[test]
    fn places_lie_between_the_ends() {
        let log = Axis::log("", Unit::Seconds, [0.001, 1.0]);
        assert!((log.place(0.0316) - 0.5).abs() < 0.01);
        assert_eq!((log.place(0.0), log.place(1e9), log.place(f64::NAN)), (0.0, 1.0, 0.0));
        let categories = Axis::categories("", ["full".to_owned(), "delta".to_owned()]);
        assert_eq!((categories.place(0.0), categories.place(1.0)), (0.25, 0.75));
    }

    proptest! {
        #[test]
        fn any_range_has_an_axis(low in -1e9_f64..1e9, length in 0.0_f64..1e12) {
            for axis in [
                Axis::linear("", Unit::Seconds, low, low + length),
                Axis::from_zero("", Unit::Bytes, length),
                Axis::log("", Unit::Seconds, [length / 3.0, length]),
                Axis::log("", Unit::Bytes, [1.0, length]),
            ] {
                prop_assert!(axis.low < axis.high && axis.factor.is_finite());
                prop_assert!((1..=14).contains(&axis.ticks.len()), "{axis:?}");
                prop_assert!(axis.ticks.iter().all(|(at, _)| (axis.low..=axis.high).contains(at)), "{axis:?}");
            }
        }
    }
}

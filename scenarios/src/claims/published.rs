//! A published figure: text with its unit goes in, numbers in the unit of records come out, together with how exactly the
//! figure was printed.

/// What a figure is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dimension {
    /// A share of a hundred.
    Share,
    /// Seconds.
    Time,
    /// Bytes.
    Size,
    /// A plain number.
    Number,
}

/// A figure, or a range, as it was printed.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    /// As written in the claim.
    pub text: String,
    /// The least value that would have been printed so; of a range its lower end.
    pub low: f64,
    /// The greatest value that would have been printed so; of a range its upper end.
    pub high: f64,
    /// Whether it is a range and not a figure.
    pub range: bool,
}

const UNITS: &[(&str, Dimension, f64)] = &[
    ("%", Dimension::Share, 0.01),
    ("min", Dimension::Time, 60.0),
    ("s", Dimension::Time, 1.0),
    ("ms", Dimension::Time, 1e-3),
    ("us", Dimension::Time, 1e-6),
    ("B", Dimension::Size, 1.0),
    ("kB", Dimension::Size, 1e3),
    ("MB", Dimension::Size, 1e6),
    ("GB", Dimension::Size, 1e9),
    ("KiB", Dimension::Size, 1024.0),
    ("MiB", Dimension::Size, 1_048_576.0),
    ("GiB", Dimension::Size, 1_073_741_824.0),
    ("", Dimension::Number, 1.0),
];

impl Dimension {
    /// The dimension of a metric by its unit in records.
    #[must_use]
    pub fn of(unit: &str) -> Option<Self> {
        match unit {
            "s" => Some(Self::Time),
            "B" => Some(Self::Size),
            "count" | "ratio" | "op" => Some(Self::Number),
            _ => None,
        }
    }

    /// How a figure of it is written.
    #[must_use]
    pub const fn example(self) -> &'static str {
        match self {
            Self::Share => "\"51.37 %\"",
            Self::Time => "\"3.5 s\" or \"165 ms to 210 ms\"",
            Self::Size => "\"638 MB\"",
            Self::Number => "\"2.50\"",
        }
    }
}

impl Published {
    /// Reads a figure of a dimension; `None` where it is none.
    #[must_use]
    pub fn parse(text: &str, dimension: Dimension) -> Option<Self> {
        let owned = text.trim().to_owned();
        match text.split_once(" to ") {
            None => {
                let (value, half) = figure(text, dimension)?;
                Some(Self { text: owned, low: value - half, high: value + half, range: false })
            }
            Some((low, high)) => {
                let ((low, _), (high, _)) = (figure(low, dimension)?, figure(high, dimension)?);
                (low < high).then_some(Self { text: owned, low, high, range: true })
            }
        }
    }
}

/// A value, and half of its last digit.
fn figure(text: &str, dimension: Dimension) -> Option<(f64, f64)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim();
    let factor = UNITS.iter().find(|(symbol, of, _)| *symbol == unit && *of == dimension)?.2;
    let value: f64 = number.parse().ok()?;
    let decimals = number.split_once('.').map_or(0, |(_, decimals)| decimals.len());
    let half = 0.5 * 10_f64.powi(-i32::try_from(decimals).ok()?);
    Some((value * factor, half * factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn close(text: &str, dimension: Dimension, low: f64, high: f64) {
        let read = Published::parse(text, dimension).unwrap_or_else(|| panic!("{text} is refused"));
        assert!((read.low - low).abs() < 1e-12 && (read.high - high).abs() < 1e-12, "{read:?}");
    }

    #[test]
    fn a_figure_is_as_exact_as_it_was_printed() {
        close("51.37 %", Dimension::Share, 0.513_65, 0.513_75);
        close("3.5 s", Dimension::Time, 3.45, 3.55);
        close("2.50", Dimension::Number, 2.495, 2.505);
        close("110s", Dimension::Time, 109.5, 110.5);
        close("638 MB", Dimension::Size, 637.5e6, 638.5e6);
    }

    #[test]
    fn a_range_has_the_ends_that_it_says() {
        close("165 ms to 210 ms", Dimension::Time, 0.165, 0.21);
        assert!(Published::parse("165 ms to 210 ms", Dimension::Time).unwrap().range);
    }

    #[test]
    fn units_of_something_else_are_refused() {
        for (text, dimension) in [
            ("51.37", Dimension::Share),
            ("3.5 MB", Dimension::Time),
            ("3.5", Dimension::Time),
            ("1.2.3 s", Dimension::Time),
            ("210 ms to 165 ms", Dimension::Time),
            ("fast", Dimension::Number),
        ] {
            assert_eq!(Published::parse(text, dimension), None, "{text}");
        }
    }
}

//! Quantities as types. What people type has units (`128MiB`, `1Gbit/s`, `300ms`) and is parsed by
//! [`FromStr`]; records hold the same quantities as bare SI numbers, which is what `serde` writes.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Bytes of one guest page.
pub const PAGE_SIZE: u64 = 4096;

/// A size in bytes.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct Bytes(pub u64);

/// A count of 4 KiB pages.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct Pages(pub u64);

/// A guest-physical address.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct Gpa(pub u64);

/// A rate in bytes per second.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct Rate(pub u64);

/// A length of time in seconds.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Seconds(pub f64);

/// Why a typed quantity was refused. The message names the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// No number in front of the unit.
    #[error("`{0}` does not start with a number; write it like {1}")]
    NoNumber(String, &'static str),
    /// A number alone, or an ambiguous suffix such as `1G`.
    #[error("`{0}` has no unit that says which quantity it is; write it like {1}")]
    NoUnit(String, &'static str),
    /// The suffix is not one of ours.
    #[error("`{unit}` in `{text}` is not a unit of {quantity}; known are {known}")]
    UnknownUnit {
        /// The whole text.
        text: String,
        /// The suffix that was not recognised.
        unit: String,
        /// What was to be read.
        quantity: &'static str,
        /// The units that are accepted.
        known: &'static str,
    },
    /// Negative, not finite, or over the type's range.
    #[error("`{0}` is out of range")]
    Range(String),
}

const SIZE_UNITS: &[(&str, f64)] = &[
    ("B", 1.0),
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
    ("TiB", 1_099_511_627_776.0),
    ("kB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
];
const RATE_UNITS: &[(&str, f64)] = &[
    ("bit/s", 0.125),
    ("kbit/s", 125.0),
    ("Mbit/s", 125e3),
    ("Gbit/s", 125e6),
    ("B/s", 1.0),
    ("KiB/s", 1024.0),
    ("MiB/s", 1_048_576.0),
    ("GiB/s", 1_073_741_824.0),
    ("kB/s", 1e3),
    ("MB/s", 1e6),
    ("GB/s", 1e9),
];
const TIME_UNITS: &[(&str, f64)] =
    &[("ns", 1e-9), ("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("min", 60.0), ("h", 3600.0)];

struct Grammar {
    quantity: &'static str,
    units: &'static [(&'static str, f64)],
    known: &'static str,
    example: &'static str,
}

const SIZE: Grammar = Grammar {
    quantity: "size",
    units: SIZE_UNITS,
    known: "B, KiB, MiB, GiB, TiB, kB, MB, GB",
    example: "128MiB or 1GiB",
};
const RATE: Grammar = Grammar {
    quantity: "rate",
    units: RATE_UNITS,
    known: "bit/s, kbit/s, Mbit/s, Gbit/s, B/s, KiB/s, MiB/s, GiB/s, kB/s, MB/s, GB/s",
    example: "1Gbit/s or 500MiB/s",
};
const TIME: Grammar =
    Grammar { quantity: "time", units: TIME_UNITS, known: "ns, us, ms, s, min, h", example: "300ms or 30s" };

impl Grammar {
    fn parse(&self, text: &str) -> Result<f64, UnitError> {
        let text = text.trim();
        let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_')).unwrap_or(text.len());
        let (number, unit) = (text[..split].replace('_', ""), text[split..].trim());
        let number: f64 = number.parse().map_err(|_| UnitError::NoNumber(text.to_owned(), self.example))?;
        if unit.is_empty() || matches!(unit, "k" | "K" | "m" | "M" | "g" | "G" | "t" | "T") {
            return Err(UnitError::NoUnit(text.to_owned(), self.example));
        }
        let (_, factor) =
            self.units.iter().find(|(name, _)| *name == unit).ok_or_else(|| UnitError::UnknownUnit {
                text: text.to_owned(),
                unit: unit.to_owned(),
                quantity: self.quantity,
                known: self.known,
            })?;
        let value = number * factor;
        if value.is_finite() { Ok(value) } else { Err(UnitError::Range(text.to_owned())) }
    }

    fn parse_whole(&self, text: &str) -> Result<u64, UnitError> {
        let value = self.parse(text)?.round();
        // 2^63 is exact in f64 and leaves no doubt about rounding at the top of u64.
        if value < 9_223_372_036_854_775_808.0 {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "0 <= value < 2^63, whole"
            )]
            Ok(value as u64)
        } else {
            Err(UnitError::Range(text.to_owned()))
        }
    }

    /// The largest unit of `choice` that gives a number of at least one.
    fn show(value: f64, choice: &[(&str, f64)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, factor) = choice.iter().rev().find(|(_, u)| value >= *u).unwrap_or(&choice[0]);
        let number = format!("{:.3}", value / factor);
        let number = number.trim_end_matches('0').trim_end_matches('.');
        f.pad(&format!("{number}{name}"))
    }
}

impl FromStr for Bytes {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        SIZE.parse_whole(text).map(Self)
    }
}

impl FromStr for Rate {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        RATE.parse_whole(text).map(Self)
    }
}

impl FromStr for Seconds {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        TIME.parse(text).map(Self)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[expect(clippy::cast_precision_loss, reason = "shown with three decimals")]
        Grammar::show(self.0 as f64, &SIZE_UNITS[..5], f)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[expect(clippy::cast_precision_loss, reason = "shown with three decimals")]
        Grammar::show(self.0 as f64, &RATE_UNITS[..4], f)
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Grammar::show(self.0, &TIME_UNITS[..4], f)
    }
}

impl fmt::Display for Gpa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Display for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Bytes {
    /// Whole pages in this size, a last partial page left out.
    #[must_use]
    pub const fn pages(self) -> Pages {
        Pages(self.0 / PAGE_SIZE)
    }
}

impl Pages {
    /// The size of that many pages.
    #[must_use]
    pub const fn bytes(self) -> Bytes {
        Bytes(self.0 * PAGE_SIZE)
    }
}

impl Seconds {
    /// As a [`Duration`]; times over 580 years saturate, negative ones are zero.
    #[must_use]
    pub fn duration(self) -> Duration {
        Duration::try_from_secs_f64(self.0.max(0.0)).unwrap_or(Duration::MAX)
    }

    /// Whether it is no time at all: what a setting that is off stays out of a record by.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.0 == 0.0
    }
}

impl From<Duration> for Seconds {
    fn from(duration: Duration) -> Self {
        Self(duration.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_type() {
        assert_eq!("128MiB".parse(), Ok(Bytes(128 << 20)));
        assert_eq!("1.5 GiB".parse(), Ok(Bytes(3 << 29)));
        assert_eq!("1Gbit/s".parse(), Ok(Rate(125_000_000)));
        assert_eq!("300ms".parse(), Ok(Seconds(0.3)));
    }

    #[test]
    fn refuses_what_could_mean_two_things() {
        assert!(matches!("1G".parse::<Bytes>(), Err(UnitError::NoUnit(..))));
        assert!(matches!("128".parse::<Bytes>(), Err(UnitError::NoUnit(..))));
        assert!(matches!("128Mb".parse::<Bytes>(), Err(UnitError::UnknownUnit { .. })));
        assert!(matches!("MiB".parse::<Bytes>(), Err(UnitError::NoNumber(..))));
        assert!(matches!("99999999TiB".parse::<Bytes>(), Err(UnitError::Range(_))));
        assert!(matches!("-1s".parse::<Seconds>(), Err(UnitError::NoNumber(..))));
    }

    #[test]
    fn shows_what_it_reads() {
        for text in ["128MiB", "1GiB", "1.5KiB", "12B"] {
            assert_eq!(text.parse::<Bytes>().unwrap().to_string(), text);
        }
        assert_eq!(Rate(125_000_000).to_string(), "1Gbit/s");
        assert_eq!(Seconds(0.3).to_string(), "300ms");
    }
}

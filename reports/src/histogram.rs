//! Latency histograms as records keep them: HdrHistogram's compressed V2 encoding in base64, one per operation and phase, which
//! its ports to other languages read as it stands. Schema 1 has V2 without compression, which some of them refuse.
//!
//! Where a table is of all runs together, their histograms are merged before a quantile is read; and a quantile is read only where enough
//! samples stand behind it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2DeflateSerializer};
use migbench_scenarios::words;

use crate::record::Record;

/// A histogram of nanoseconds.
pub type Latencies = Histogram<u64>;

/// Significant decimal digits that buckets keep.
pub const DIGITS: u8 = 3;

words! {
    /// When an operation ran, relative to the migration.
    Phase {
        /// Before the migration.
        Steady = "steady",
        /// While memory moves and the guest runs.
        Precopy = "precopy",
        /// The operations that overlap the pause.
        Switchover = "switchover",
        /// After the pause, until the backlog is gone.
        Catchup = "catchup",
        /// The rest.
        After = "after",
    }
}

/// Where the clock of an operation starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Clock {
    /// At its start.
    Service,
    /// At the moment at which it was due (open loop only).
    Response,
}

/// The key of a histogram in a record: `latency_<op>[_response]/<phase>`.
#[must_use]
pub fn key(operation: &str, clock: Clock, phase: Phase) -> String {
    let suffix = match clock {
        Clock::Service => "",
        Clock::Response => "_response",
    };
    format!("latency_{operation}{suffix}/{phase}")
}

/// The parts of [`key`]: operation, clock and phase; `None` for a name that is none of a latency.
#[must_use]
pub fn parse_key(key: &str) -> Option<(&str, Clock, Phase)> {
    let (name, phase) = key.strip_prefix("latency_")?.split_once('/')?;
    let (_, phase) = *Phase::ALL.iter().find(|(word, _)| *word == phase)?;
    Some(match name.strip_suffix("_response") {
        Some(operation) => (operation, Clock::Response, phase),
        None => (name, Clock::Service, phase),
    })
}

/// Why a histogram could not be written or read.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each is about")]
pub enum HistogramError {
    #[error("the histogram can't be encoded: {0:?}")]
    Encode(hdrhistogram::serialization::V2DeflateSerializeError),
    #[error("not base64: {0}")]
    Base64(#[from] base64::DecodeError),
    #[error("not an HdrHistogram in V2 encoding: {0:?}")]
    Decode(hdrhistogram::serialization::DeserializeError),
    #[error("the histograms can't be merged: {0:?}")]
    Merge(hdrhistogram::AdditionError),
}

/// As a record keeps it.
///
/// # Errors
/// [`HistogramError::Encode`] for a histogram over 2^32 bytes.
pub fn encode(histogram: &Latencies) -> Result<String, HistogramError> {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new().serialize(histogram, &mut bytes).map_err(HistogramError::Encode)?;
    Ok(STANDARD.encode(bytes))
}

/// From a record of any schema.
///
/// # Errors
/// [`HistogramError::Base64`], [`HistogramError::Decode`].
pub fn decode(text: &str) -> Result<Latencies, HistogramError> {
    from_bytes(&STANDARD.decode(text)?)
}

/// From what base64 hides.
///
/// # Errors
/// [`HistogramError::Decode`].
pub fn from_bytes(mut bytes: &[u8]) -> Result<Latencies, HistogramError> {
    Deserializer::new().deserialize(&mut bytes).map_err(HistogramError::Decode)
}

/// An empty histogram that grows with its values.
#[must_use]
pub fn empty() -> Latencies {
    // Its bounds are constants that the constructor accepts; the tests would fail before a user could.
    Latencies::new(DIGITS).expect("three digits are within 0 to 5")
}

/// All of them in one; empty for none.
///
/// # Errors
/// The first that can't be decoded or added.
pub fn merge<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Latencies, HistogramError> {
    let mut all = empty();
    for text in texts {
        all.add(decode(text)?).map_err(HistogramError::Merge)?;
    }
    Ok(all)
}

/// These in one. Damaged histograms are left out here and warned of elsewhere.
#[must_use]
pub fn sum<'a>(texts: impl IntoIterator<Item = &'a String>) -> Latencies {
    let mut all = empty();
    for text in texts {
        add(&mut all, text);
    }
    all
}

fn add(all: &mut Latencies, text: &str) {
    if let Ok(part) = decode(text) {
        // Grows as it must; a histogram that can't be added is of absurd values.
        let _ = all.add(part);
    }
}

/// What these runs have under `key`, in one, as [`sum`].
#[must_use]
pub fn merged(runs: &[&Record], key: &str) -> Latencies {
    let mut all = empty();
    for run in runs {
        if let Some(text) = run.histograms.get().get(key) {
            add(&mut all, text);
        }
    }
    all
}

/// What these runs have, by key, as [`merged`]: each run is read once.
#[must_use]
pub fn merged_by_key(runs: &[&Record]) -> BTreeMap<String, Latencies> {
    let mut by_key = BTreeMap::new();
    for run in runs {
        for (key, text) in run.histograms.get().as_ref() {
            match by_key.get_mut(key) {
                Some(all) => add(all, text),
                None => {
                    by_key.insert(key.clone(), sum([text]));
                }
            }
        }
    }
    by_key
}

/// Nanoseconds as seconds.
#[must_use]
pub fn seconds(nanoseconds: u64) -> f64 {
    exact(nanoseconds) / 1e9
}

/// A number of operations, or of nanoseconds.
#[must_use]
pub const fn exact(number: u64) -> f64 {
    number as f64
}

/// The value at quantile `q` (0 to 1, exclusive) in nanoseconds, if at least 10 / (1 - q) samples stand behind
/// it: with fewer, a tail quantile is little more than the largest value.
#[must_use]
pub fn supported_quantile(histogram: &Latencies, q: f64) -> Option<u64> {
    let beyond = histogram.len() as f64 * (1.0 - q);
    // 10 / (1 - 0.999) is 10000.000000000009 in binary; ten samples beyond it must count as ten.
    (beyond >= 10.0 - 1e-6).then(|| histogram.value_at_quantile(q))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_keys_as_records_do() {
        assert_eq!(key("write", Clock::Service, Phase::Precopy), "latency_write/precopy");
        assert_eq!(key("read", Clock::Response, Phase::After), "latency_read_response/after");
        for (operation, clock) in [("read", Clock::Response), ("get_page", Clock::Service)] {
            let key = key(operation, clock, Phase::Catchup);
            assert_eq!(parse_key(&key), Some((operation, clock, Phase::Catchup)));
        }
        assert_eq!(
            [parse_key("latency_read"), parse_key("latency_read/never"), parse_key("read/after")],
            [None; 3]
        );
    }

    #[test]
    fn shows_a_quantile_from_enough_samples_on() {
        let mut histogram = empty();
        histogram.record_n(1000, 9_999).unwrap();
        assert_eq!(supported_quantile(&histogram, 0.999), None);
        histogram.record(1_000_000).unwrap();
        assert_eq!(supported_quantile(&histogram, 0.999), Some(1000));
        assert_eq!(supported_quantile(&histogram, 0.9999), None);
        assert_eq!(supported_quantile(&empty(), 0.5), None);
    }

    #[test]
    fn refuses_what_is_no_histogram() {
        assert!(matches!(decode("%%%"), Err(HistogramError::Base64(_))));
        assert!(matches!(decode("aGVsbG8gd29ybGQ="), Err(HistogramError::Decode(_))));
    }

    #[test]
    fn reads_what_schema_1_wrote() {
        let mut latencies = empty();
        latencies.record_n(50_000, 4_000).unwrap();
        latencies.record(90_000_000).unwrap();
        let mut bytes = Vec::new();
        hdrhistogram::serialization::V2Serializer::new().serialize(&latencies, &mut bytes).unwrap();
        assert_eq!(decode(&STANDARD.encode(bytes)).unwrap(), latencies);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn merging_loses_nothing(runs in prop::collection::vec(prop::collection::vec(1_u64..10_000_000_000, 1..50), 1..5)) {
            let mut whole = empty();
            let mut texts = Vec::new();
            for run in &runs {
                let mut part = empty();
                for &value in run {
                    part.record(value).unwrap();
                    whole.record(value).unwrap();
                }
                prop_assert_eq!(&decode(&encode(&part).unwrap()).unwrap(), &part);
                texts.push(encode(&part).unwrap());
            }
            prop_assert_eq!(merge(texts.iter().map(String::as_str)).unwrap(), whole);
        }
    }
}

//! Names and units of metrics, which stand in every record by the dozen: those that this build knows take no memory of their own.

use std::borrow::{Borrow, Cow};
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Deref;
use std::sync::LazyLock;

use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize};

use crate::metric::MetricKey;

/// A name or a unit, known to this build or not.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Word(Cow<'static, str>);

static KNOWN: LazyLock<BTreeSet<&'static str>> = LazyLock::new(|| {
    MetricKey::ALL.iter().flat_map(|key| [key.name(), key.definition().unit.symbol()]).collect()
});

impl Word {
    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn read(text: &str) -> Self {
        Self(KNOWN.get(text).map_or_else(|| Cow::Owned(text.to_owned()), |known| Cow::Borrowed(*known)))
    }
}

impl From<&'static str> for Word {
    fn from(text: &'static str) -> Self {
        Self(Cow::Borrowed(text))
    }
}

impl Deref for Word {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Word {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Word;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Word, E> {
                Ok(Word::read(text))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_words_are_borrowed_and_others_are_kept() {
        let read = |text: &str| serde_json::from_str::<Word>(text).unwrap();
        for known in ["total_time", "s", "op/s"] {
            assert!(matches!(read(&format!("{known:?}")).0, Cow::Borrowed(found) if found == known));
        }
        let stranger = read(r#""to\u006dorrow""#);
        assert!(matches!(&stranger.0, Cow::Owned(found) if found == "tomorrow"));
        assert_eq!(serde_json::to_string(&stranger).unwrap(), r#""tomorrow""#);
        assert_eq!(stranger, Word::from("tomorrow"));
    }
}

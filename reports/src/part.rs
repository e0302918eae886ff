//! Parts of a record that are most of its bytes and that few readers ask for: histograms, timeline, stalls. A record that was
//! made has them in memory; of one that was read from a large file it is known where they stand in it, so that memory
//! grows with the number of records and not with the size of the file.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::sync::{Arc, Mutex, PoisonError};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A file of records that is open: what was read from it stays what it was, whatever becomes of its name.
pub(crate) type RecordFile = Arc<Mutex<File>>;

/// A value, or where it stands as JSON.
#[derive(Clone)]
pub struct Part<T>(Place<T>);

#[derive(Clone)]
enum Place<T> {
    Here(T),
    There { file: RecordFile, offset: u64, length: usize },
}

impl<T: Clone + Default + DeserializeOwned> Part<T> {
    /// The value. Where its file can't be read any more it is as that of a run that had none.
    #[must_use]
    pub fn get(&self) -> Cow<'_, T> {
        match &self.0 {
            Place::Here(value) => Cow::Borrowed(value),
            Place::There { file, offset, length } => {
                Cow::Owned(read(file, *offset, *length).unwrap_or_default())
            }
        }
    }

    /// The value, to be changed.
    pub fn to_mut(&mut self) -> &mut T {
        if let Place::There { .. } = self.0 {
            *self = Self(Place::Here(self.get().into_owned()));
        }
        match &mut self.0 {
            Place::Here(value) => value,
            Place::There { .. } => unreachable!("it was brought here"),
        }
    }

    /// Lets go of the value that was read from `line`, where it is that of field `name`: the line starts at `start` in `file`.
    /// A value that is not found there as it is stays in memory.
    pub(crate) fn leave_in(&mut self, file: &RecordFile, start: u64, line: &str, name: &str)
    where
        T: PartialEq,
    {
        let Place::Here(value) = &self.0 else { return };
        // In a text the quotes would be escaped: this is a name.
        let field = format!("\"{name}\":");
        let Some(at) = line.find(&field).map(|at| at + field.len()) else { return };
        let mut values = serde_json::Deserializer::from_str(&line[at..]).into_iter::<T>();
        if values.next().is_some_and(|found| found.is_ok_and(|found| found == *value)) {
            let offset = start + at as u64;
            self.0 = Place::There { file: Arc::clone(file), offset, length: values.byte_offset() };
        }
    }
}

fn read<T: DeserializeOwned>(file: &RecordFile, offset: u64, length: usize) -> io::Result<T> {
    let mut text = vec![0; length];
    {
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(&mut text)?;
    }
    Ok(serde_json::from_slice(&text)?)
}

impl<T> From<T> for Part<T> {
    fn from(value: T) -> Self {
        Self(Place::Here(value))
    }
}

impl<T: Default> Default for Part<T> {
    fn default() -> Self {
        T::default().into()
    }
}

impl<T: Clone + Default + DeserializeOwned + PartialEq> PartialEq for Part<T> {
    fn eq(&self, other: &Self) -> bool {
        *self.get() == *other.get()
    }
}

impl<T: Clone + Default + DeserializeOwned + fmt::Debug> fmt::Debug for Part<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

impl<T: Clone + Default + DeserializeOwned + Serialize> Serialize for Part<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.get().serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Part<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self::from)
    }
}

impl<T> Part<Option<T>> {
    /// Whether there is no value.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        matches!(self.0, Place::Here(None))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Write as _;

    use super::*;

    type Map = BTreeMap<String, String>;

    #[test]
    fn a_value_that_is_left_in_its_file_is_read_as_it_was() {
        let line = r#"{"error":"\"map\":{}","map": {"a":"\u00e4","b":"c"},"none":null}"#;
        let before = "other\n";
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(before.as_bytes()).and_then(|()| file.write_all(line.as_bytes())).unwrap();
        let file = Arc::new(Mutex::new(file));
        let whole = Map::from([("a".to_owned(), "\u{e4}".to_owned()), ("b".to_owned(), "c".to_owned())]);
        let left = |value: Map, name: &str| {
            let mut part = Part::from(value);
            part.leave_in(&file, before.len() as u64, line, name);
            part
        };
        let mut part = left(whole.clone(), "map");
        assert!(matches!(part.0, Place::There { .. }));
        assert_eq!((&*part.get(), &part), (&whole, &Part::from(whole.clone())));
        part.to_mut().clear();
        assert!(part.get().is_empty());
        // Not what stands there, or not to be found.
        for (value, name) in [(Map::new(), "map"), (whole.clone(), "other")] {
            assert!(matches!(left(value, name).0, Place::Here(_)));
        }
        // A file that has lost it is no reason to fail.
        let part = left(whole, "map");
        file.lock().unwrap().set_len(9).unwrap();
        assert!(part.get().is_empty());
    }
}

//! The run directory: `manifest.json`, written once and whole, and `runs.jsonl`, to which one line is added and
//! flushed per migration. An interrupted suite therefore leaves every finished run readable: the reader keeps
//! all whole lines and reports a last line that was cut off.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufRead as _, BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::manifest::Manifest;
use crate::record::{Backend, Record, SCHEMA};
use crate::replace::{append, beside, replace};

/// Name of the manifest in a run directory.
pub const MANIFEST: &str = "manifest.json";
/// Name of the file of records in a run directory.
pub const RUNS: &str = "runs.jsonl";

/// Why a run directory could not be made or read. Each message names the file.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each is about")]
pub enum StoreError {
    #[error("can't write to {}: {source}; name another directory", .path.display())]
    Unwritable { path: PathBuf, source: io::Error },
    #[error("{} already holds records; name another directory", .path.display())]
    Occupied { path: PathBuf },
    #[error("another migbench writes to {}; wait for it, or name another directory", .path.display())]
    InUse { path: PathBuf },
    #[error("can't read {}: {source}{}", .path.display(), hint(.path, .source))]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{}:{line}: {source}", .path.display())]
    Malformed { path: PathBuf, line: usize, source: serde_json::Error },
    #[error("run {run_id} can't be kept as a record: {source}")]
    Unkeepable { run_id: String, source: serde_json::Error },
    #[error(
        "{} holds simulated runs: no guest ran, its figures are made up to test what stands around a run; \
         `--simulated` reads it all the same",
        .path.display()
    )]
    Simulated { path: PathBuf },
    #[error(
        "{}:{line}: a record of schema {found} in a directory whose manifest has schema {manifest}: their figures do not mean \
         the same; keep records in the directory that they were made in",
        .path.display()
    )]
    Mixed { path: PathBuf, line: usize, found: u32, manifest: u32 },
    #[error(
        "{}:{line}: this was written by a newer migbench (schema {found}); \
         this one reads up to schema {SCHEMA}: update it, or read the directory with the version that made it",
        .path.display()
    )]
    Newer { path: PathBuf, line: usize, found: u32 },
}

impl StoreError {
    /// Whether a directory was named that holds no run, or one of a newer version: the user's to mend.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Unreadable { source, .. } => source.kind() == io::ErrorKind::NotFound,
            Self::Newer { .. } | Self::Simulated { .. } => true,
            _ => false,
        }
    }
}

impl StoreError {
    /// Whether things stand together that do not go together.
    #[must_use]
    pub const fn is_incomparable(&self) -> bool {
        matches!(self, Self::Mixed { .. })
    }
}

/// Two directories whose records are of different schemas, so that a figure of one means something else in the other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} holds records of schema {was} and {} of schema {is}, in which the same names mean different figures; {remedy}",
    .first.display(), .other.display()
)]
pub struct OtherSchema {
    /// One of them.
    pub first: PathBuf,
    /// Its schema.
    pub was: u32,
    /// The other one.
    pub other: PathBuf,
    /// Its schema.
    pub is: u32,
    /// What to do about it.
    pub remedy: &'static str,
}

impl OtherSchema {
    /// Of directories that are to be laid beside each other; `remedy` is what to do where they can't be.
    ///
    /// # Errors
    /// Where the schemas differ.
    pub fn refuse(
        (first, was): (&Path, u32),
        (other, is): (&Path, u32),
        remedy: &'static str,
    ) -> Result<(), Self> {
        if was == is {
            return Ok(());
        }
        Err(Self { first: first.to_owned(), was, other: other.to_owned(), is, remedy })
    }
}

fn hint(path: &Path, source: &io::Error) -> &'static str {
    match (source.kind(), path.file_name().and_then(|name| name.to_str())) {
        (io::ErrorKind::NotFound, Some(MANIFEST)) => "; is this a run directory?",
        _ => "",
    }
}

/// A run directory that is being filled, by nobody else at the time.
#[derive(Debug)]
pub struct RunDirectory {
    path: PathBuf,
    runs: File,
}

impl RunDirectory {
    /// Makes the directory and everything above it, with its manifest and an empty `runs.jsonl`, so that a place that can't be
    /// written is found before the first guest starts. One in which no record was kept yet is begun anew; one that can't be
    /// begun is left as if nobody had tried.
    ///
    /// # Errors
    /// [`StoreError::Occupied`] if it holds records already, [`StoreError::InUse`] if somebody begins it at the same time,
    /// [`StoreError::Unwritable`] if something can't be written there.
    pub fn begin(path: impl Into<PathBuf>, manifest: &Manifest) -> Result<Self, StoreError> {
        let path = path.into();
        let made = !path.exists();
        fs::create_dir_all(&path).map_err(unwritable(&path))?;
        let begun = Self::hold(&path).and_then(|directory| {
            let length = directory.runs.metadata().map_err(unwritable(&path))?.len();
            if length > 0 { Err(StoreError::Occupied { path: path.clone() }) } else { Ok(directory) }
        });
        let begun = begun.and_then(|directory| {
            let written = directory.write_manifest(manifest);
            if written.is_err() {
                directory.discard();
            }
            written.map(|()| directory)
        });
        if begun.is_err() && made {
            // Only if nothing is in it.
            let _ = fs::remove_dir(&path);
        }
        begun
    }

    /// Makes a run directory whose records are all there already. Until the last of them is on the disk it has none, so
    /// that a command that was killed in the middle is repeated as it was typed.
    ///
    /// # Errors
    /// Those of [`Self::begin`].
    pub fn whole<'a>(
        path: impl Into<PathBuf>,
        manifest: &Manifest,
        records: impl IntoIterator<Item = &'a Record>,
    ) -> Result<(), StoreError> {
        let path = path.into();
        let made = !path.exists();
        let directory = Self::begin(&path, manifest)?;
        let runs = path.join(RUNS);
        let write = || -> io::Result<()> {
            let half = beside(&runs)?;
            let file = File::create(&half)?;
            let mut text = BufWriter::new(&file);
            let written = records.into_iter().try_for_each(|record| {
                serde_json::to_writer(&mut text, record)?;
                text.write_all(b"\n")
            });
            let kept = written.and_then(|()| text.flush()).and_then(|()| file.sync_all());
            kept.and_then(|()| fs::rename(&half, &runs)).inspect_err(|_| drop(fs::remove_file(&half)))
        };
        write().map_err(|source| {
            directory.discard();
            if made {
                let _ = fs::remove_dir(&path);
            }
            StoreError::Unwritable { path: runs.clone(), source }
        })
    }

    /// Opens the directory that `there` was read from, to add what is missing. A last line that was cut off is taken out:
    /// its run is made again. Nothing is changed before this, so that a directory that is refused stays as it was.
    ///
    /// # Errors
    /// [`StoreError::InUse`], [`StoreError::Unwritable`].
    pub fn reopen(there: &RunData) -> Result<Self, StoreError> {
        let mut directory = Self::hold(&there.path)?;
        let mended = directory.mend(there.truncated.is_some());
        mended.map_err(unwritable(&there.path.join(RUNS)))?;
        Ok(directory)
    }

    /// Opens `runs.jsonl`, which may not be there yet, and keeps others from adding to it.
    fn hold(path: &Path) -> Result<Self, StoreError> {
        let file = path.join(RUNS);
        let open = OpenOptions::new().read(true).append(true).create(true).open(&file);
        let runs = open.map_err(unwritable(&file))?;
        // Whoever has let go of it may have started a process a moment before, which holds a copy of every descriptor, and the
        // lock with it, until it runs its own program.
        for _ in 0..50 {
            match runs.try_lock() {
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(20)),
                // Not every file system knows locks.
                Ok(()) | Err(TryLockError::Error(_)) => return Ok(Self { path: path.to_owned(), runs }),
            }
        }
        Err(StoreError::InUse { path: path.to_owned() })
    }

    /// Makes an end of the last line, or of the last whole one where that was cut off.
    fn mend(&mut self, cut_off: bool) -> io::Result<()> {
        if cut_off {
            let whole = end_of_last_line(&mut self.runs)?;
            self.runs.set_len(whole)?;
            return self.runs.sync_all();
        }
        let mut last = [b'\n'];
        if self.runs.metadata()?.len() > 0 {
            self.runs.seek(SeekFrom::End(-1))?;
            self.runs.read_exact(&mut last)?;
        }
        // Cut off right before the end of the line: the record is whole, and the next one must not follow on its line.
        if last == [b'\n'] { Ok(()) } else { append(&mut self.runs, b"\n") }
    }

    /// Takes away what a directory without records has.
    fn discard(&self) {
        for name in [RUNS, MANIFEST] {
            let _ = fs::remove_file(self.path.join(name));
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes `manifest.json`. Readers see the old file or the new one, never half of it.
    ///
    /// # Errors
    /// [`StoreError::Unwritable`].
    pub fn write_manifest(&self, manifest: &Manifest) -> Result<(), StoreError> {
        let mut text = serde_json::to_string_pretty(manifest)
            .map_err(|source| unwritable(&self.path.join(MANIFEST))(source.into()))?;
        text.push('\n');
        self.write(MANIFEST, &text)
    }

    /// Writes a file such as `report.md` in one step.
    ///
    /// # Errors
    /// [`StoreError::Unwritable`].
    pub fn write(&self, name: &str, text: &str) -> Result<(), StoreError> {
        let path = self.path.join(name);
        replace(&path, text.as_bytes()).map_err(unwritable(&path))
    }

    /// Adds one record and makes sure that it is on the disk: it took a migration to get. A simulated one took none.
    ///
    /// # Errors
    /// [`StoreError::Unkeepable`] if the record would not read back, [`StoreError::Unwritable`].
    pub fn append(&mut self, record: &Record) -> Result<(), StoreError> {
        let unkeepable = |source| StoreError::Unkeepable { run_id: record.run_id.clone(), source };
        let mut line = serde_json::to_string(record).map_err(unkeepable)?;
        // JSON has no NaN: it would be written as null, and one such line would make the whole file unreadable.
        serde_json::from_str::<Record>(&line).map_err(unkeepable)?;
        line.push('\n');
        let path = self.path.join(RUNS);
        append(&mut self.runs, line.as_bytes()).map_err(unwritable(&path))?;
        if record.backend == Backend::Simulated {
            return Ok(());
        }
        self.runs.sync_data().map_err(unwritable(&path))
    }
}

/// Where the last line ends that has an end.
fn end_of_last_line(file: &mut File) -> io::Result<u64> {
    let mut chunk = [0; 1 << 16];
    let mut end = file.metadata()?.len();
    while end > 0 {
        let part = chunk.len().min(usize::try_from(end).unwrap_or(usize::MAX));
        end -= part as u64;
        file.seek(SeekFrom::Start(end))?;
        file.read_exact(&mut chunk[..part])?;
        if let Some(at) = chunk[..part].iter().rposition(|&byte| byte == b'\n') {
            return Ok(end + at as u64 + 1);
        }
    }
    Ok(0)
}

fn unwritable(path: &Path) -> impl Fn(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Unwritable { path: path.clone(), source }
}

/// Which run directories are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Accept {
    /// Those of guests alone.
    #[default]
    Guests,
    /// Simulated ones too: for tests of what stands around a run.
    Simulated,
}

/// A run directory that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct RunData {
    /// Where it is.
    pub path: PathBuf,
    /// Its manifest.
    pub manifest: Manifest,
    /// Its records, in the order in which they were written.
    pub records: Vec<Record>,
    /// The number of a last line that was cut off and left out.
    pub truncated: Option<usize>,
}

impl RunData {
    /// Reads a run directory of guests, complete or interrupted.
    ///
    /// # Errors
    /// Those of [`Self::load_as`], and [`StoreError::Simulated`].
    pub fn load(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        Self::load_as(path, Accept::Guests)
    }

    /// Reads a run directory, complete or interrupted. One simulated record makes all of it simulated.
    ///
    /// # Errors
    /// [`StoreError::Unreadable`], [`StoreError::Malformed`], [`StoreError::Newer`], [`StoreError::Mixed`], each with file and line;
    /// [`StoreError::Simulated`] where such a directory is not accepted. A last line without its end is not an error;
    /// [`RunData::truncated`] reports.
    pub fn load_as(path: impl Into<PathBuf>, accept: Accept) -> Result<Self, StoreError> {
        let path = path.into();
        let file = path.join(MANIFEST);
        let text = fs::read(&file).map_err(unreadable(&file))?;
        let manifest: Manifest = parse(&file, 1, &String::from_utf8_lossy(&text))?;
        let (records, truncated) = read_records(&path.join(RUNS), manifest.schema)?;
        let mut backends = std::iter::once(manifest.backend).chain(records.iter().map(|r| r.backend));
        if accept == Accept::Guests && backends.any(|backend| backend == Backend::Simulated) {
            return Err(StoreError::Simulated { path });
        }
        Ok(Self { path, manifest, records, truncated })
    }
}

/// From a file of so many bytes on, the large parts of records stay in it until they are asked for.
const LARGE: u64 = 1 << 20;

fn unreadable(path: &Path) -> impl Fn(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Unreadable { path: path.clone(), source }
}

/// The records of a file, line by line, and the number of a last line that was cut off. A directory that was begun and
/// killed in the same moment has no file of them yet.
fn read_records(path: &Path, manifest: u32) -> Result<(Vec<Record>, Option<usize>), StoreError> {
    let failed = unreadable(path);
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), None)),
        other => other.map_err(&failed)?,
    };
    let large = file.metadata().map_err(&failed)?.len() >= LARGE;
    // The place in the file is theirs and the reader's, one after the other.
    let parts = large.then(|| file.try_clone().map(|file| Arc::new(Mutex::new(file)))).transpose();
    let parts = parts.map_err(&failed)?;
    let mut reader = BufReader::new(file);
    let (mut records, mut text) = (Vec::new(), Vec::new());
    let (mut start, mut number) = (0, 0);
    loop {
        text.clear();
        let length = reader.read_until(b'\n', &mut text).map_err(&failed)?;
        if length == 0 {
            return Ok((records, None));
        }
        number += 1;
        // A cut may fall inside a character.
        let line = String::from_utf8_lossy(&text);
        if !line.trim().is_empty() {
            match parse_record(path, number, &line) {
                Ok(record) if record.schema != manifest => {
                    let (path, line, found) = (path.to_owned(), number, record.schema);
                    return Err(StoreError::Mixed { path, line, found, manifest });
                }
                Ok(mut record) => {
                    if let (Some(file), std::borrow::Cow::Borrowed(line)) = (&parts, &line) {
                        record.histograms.leave_in(file, start, line, "histograms");
                        record.timeline.leave_in(file, start, line, "timeline");
                        record.stalls.leave_in(file, start, line, "stalls");
                    }
                    records.push(record);
                }
                Err(StoreError::Malformed { .. }) if !line.ends_with('\n') => {
                    return Ok((records, Some(number)));
                }
                Err(error) => return Err(error),
            }
        }
        start += length as u64;
    }
}

/// A record that this version knows, or what is wrong with it.
fn parse_record(path: &Path, number: usize, line: &str) -> Result<Record, StoreError> {
    match serde_json::from_str::<Record>(line) {
        Ok(record) if record.schema <= SCHEMA => Ok(record),
        _ => parse(path, number, line),
    }
}

/// Parses JSON that starts at line `first` of a file, and looks at its schema before anything else, since later
/// versions may have changed everything else.
fn parse<T: DeserializeOwned>(path: &Path, first: usize, text: &str) -> Result<T, StoreError> {
    #[derive(Deserialize)]
    struct RecordVersion {
        schema: u32,
    }
    let malformed = |source: serde_json::Error| StoreError::Malformed {
        path: path.to_owned(),
        line: first + source.line().saturating_sub(1),
        source,
    };
    let RecordVersion { schema: found } = serde_json::from_str(text).map_err(malformed)?;
    if found > SCHEMA {
        return Err(StoreError::Newer { path: path.to_owned(), line: first, found });
    }
    serde_json::from_str(text).map_err(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{Sample, manifest};

    fn filled() -> (tempfile::TempDir, PathBuf) {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("a/b");
        let mut directory = RunDirectory::begin(&path, &manifest()).unwrap();
        for repetition in 1..=3 {
            directory.append(&Sample::new("write-heavy", "full").repetition(repetition).build()).unwrap();
        }
        (scratch, path)
    }

    #[test]
    fn reads_back_what_was_written() {
        let (_scratch, path) = filled();
        let data = RunData::load(&path).unwrap();
        assert_eq!(data.manifest, manifest());
        assert_eq!(data.records.len(), 3);
        assert_eq!(data.records[1], Sample::new("write-heavy", "full").repetition(2).build());
        assert_eq!(data.truncated, None);
    }

    /// Whatever a killed process had made of it.
    #[test]
    fn a_directory_without_records_is_begun_anew_or_finished() {
        for leave in [&[][..], &[MANIFEST], &[RUNS], &[MANIFEST, RUNS]] {
            let scratch = tempfile::tempdir().unwrap();
            let path = scratch.path().join("run");
            drop(RunDirectory::begin(&path, &manifest()).unwrap());
            for name in [MANIFEST, RUNS].iter().filter(|name| !leave.contains(name)) {
                fs::remove_file(path.join(name)).unwrap();
            }
            fs::write(path.join(".manifest.json.partial"), "{").unwrap();
            if leave.contains(&MANIFEST) {
                let there = RunData::load(&path).unwrap();
                assert_eq!((there.records.len(), there.truncated), (0, None));
                drop(RunDirectory::reopen(&there).unwrap());
            }
            let mut directory = RunDirectory::begin(&path, &manifest()).unwrap();
            assert!(matches!(RunDirectory::begin(&path, &manifest()), Err(StoreError::InUse { .. })));
            directory.append(&Sample::new("write-heavy", "full").build()).unwrap();
            assert_eq!(RunData::load(&path).unwrap().records.len(), 1);
        }
    }

    #[test]
    fn what_is_made_as_a_whole_is_there_as_a_whole() {
        let (_scratch, path) = filled();
        let data = RunData::load(&path).unwrap();
        assert!(matches!(
            RunDirectory::whole(&path, &manifest(), &data.records),
            Err(StoreError::Occupied { .. })
        ));
        let other = path.join("other");
        // As a killed one leaves it.
        drop(RunDirectory::begin(&other, &manifest()).unwrap());
        fs::write(other.join(".runs.jsonl.partial"), "{").unwrap();
        RunDirectory::whole(&other, &manifest(), &data.records).unwrap();
        assert_eq!(RunData::load(&other).unwrap().records, data.records);
        assert_eq!(fs::read(other.join(RUNS)).unwrap(), fs::read(path.join(RUNS)).unwrap());
        assert_eq!(fs::read_dir(&other).unwrap().count(), 2);
        // What can't be written leaves nothing.
        let third = path.join("third");
        fs::create_dir_all(third.join(".runs.jsonl.partial")).unwrap();
        RunDirectory::whole(&third, &manifest(), &data.records).unwrap_err();
        assert_eq!(fs::read_dir(&third).unwrap().count(), 1);
    }

    /// Of a record of half a megabyte a few kilobytes stay in memory.
    #[test]
    fn memory_grows_with_the_records_and_not_with_the_file() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("run");
        let mut directory = RunDirectory::begin(&path, &manifest()).unwrap();
        let record = |repetition: u32| {
            let large = Sample::new("write-heavy", "full").repetition(repetition).with(|record| {
                record.timeline.to_mut().operations = (0..60_000).map(|n| n * repetition).collect();
                record.histograms.to_mut().insert("latency_read/steady".to_owned(), "A".repeat(500_000));
            });
            large.build()
        };
        for repetition in 1..=20 {
            directory.append(&record(repetition)).unwrap();
        }
        let mut data = None;
        let used = allocation_counter::measure(|| data = Some(RunData::load(&path).unwrap()));
        let data = data.unwrap();
        let bytes = fs::metadata(path.join(RUNS)).unwrap().len();
        assert!(bytes > 5 << 20, "{bytes}");
        assert!(used.bytes_current < 20 * (16 << 10) + (1 << 18), "{used:?} of {bytes}");
        assert!(used.bytes_max < bytes / 2, "{used:?} of {bytes}");
        // And yet all is there, also when the name is gone.
        fs::remove_file(path.join(RUNS)).unwrap();
        for (repetition, read) in (1..=20).zip(&data.records) {
            assert_eq!(*read, record(repetition));
        }
    }

    #[test]
    fn keeps_whole_lines_of_an_interrupted_run() {
        let (_scratch, path) = filled();
        let text = fs::read(path.join(RUNS)).unwrap();
        fs::write(path.join(RUNS), &text[..text.len() - 40]).unwrap();
        let data = RunData::load(&path).unwrap();
        assert_eq!((data.records.len(), data.truncated), (2, Some(3)));
    }

    #[test]
    fn goes_on_wherever_a_line_was_cut_off() {
        let (_scratch, path) = filled();
        let text = fs::read(path.join(RUNS)).unwrap();
        let last = text.len() - text[..text.len() - 1].iter().rposition(|&byte| byte == b'\n').unwrap() - 1;
        for cut in [0, 1, 2, 40, last - 1, last] {
            fs::write(path.join(RUNS), &text[..text.len() - cut]).unwrap();
            let there = RunData::load(&path).unwrap();
            let mut directory = RunDirectory::reopen(&there).unwrap();
            let next = Sample::new("write-heavy", "full").repetition(9).build();
            directory.append(&next).unwrap();
            let data = RunData::load(&path).unwrap();
            assert_eq!((data.records.len(), data.truncated), (there.records.len() + 1, None), "cut by {cut}");
            assert_eq!(data.records.last(), Some(&next));
        }
    }

    #[test]
    fn names_the_line_of_a_damaged_record() {
        let (_scratch, path) = filled();
        let text = fs::read_to_string(path.join(RUNS)).unwrap();
        let damaged: Vec<_> =
            text.lines().enumerate().map(|(i, l)| if i == 1 { "{\"schema\": 1}" } else { l }).collect();
        fs::write(path.join(RUNS), damaged.join("\n") + "\n").unwrap();
        let error = RunData::load(&path).unwrap_err();
        assert!(matches!(error, StoreError::Malformed { line: 2, .. }));
        assert!(error.to_string().contains("runs.jsonl:2: missing field `run_id`"), "{error}");
    }

    #[test]
    fn refuses_a_newer_schema_before_anything_else() {
        let (_scratch, path) = filled();
        fs::write(path.join(MANIFEST), "{\"schema\": 3, \"everything\": \"else\"}").unwrap();
        let error = RunData::load(&path).unwrap_err().to_string();
        assert!(error.contains("newer migbench (schema 3)"), "{error}");
    }

    #[test]
    fn refuses_records_of_another_schema_than_their_manifest() {
        let (_scratch, path) = filled();
        let text = fs::read_to_string(path.join(RUNS)).unwrap();
        let old = Sample::new("write-heavy", "full").repetition(4).with(|record| record.schema = 1).build();
        fs::write(path.join(RUNS), text + &serde_json::to_string(&old).unwrap() + "\n").unwrap();
        let error = RunData::load(&path).unwrap_err();
        assert!(error.is_incomparable(), "{error}");
        assert!(error.to_string().contains("runs.jsonl:4: a record of schema 1 in"), "{error}");
    }

    #[test]
    fn reads_a_whole_directory_of_schema_1() {
        let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("reference/schema-1");
        let data = RunData::load(reference).unwrap();
        assert_eq!((data.manifest.schema, data.records.len()), (1, 2));
        let rounds: Vec<_> = data.records.iter().flat_map(|record| &record.rounds).collect();
        assert!(rounds.iter().any(|round| round.send_time.is_some_and(|time| time > 0.0)));
        // What schema 1 did not report is absent and not zero.
        assert!(rounds.iter().all(|round| round.copy_time.is_none() && round.wait_time.is_none()));
    }

    #[test]
    fn refuses_a_directory_that_holds_records() {
        let (_scratch, path) = filled();
        assert!(matches!(RunDirectory::begin(&path, &manifest()), Err(StoreError::Occupied { .. })));
    }

    #[test]
    fn finds_an_unwritable_place_at_once() {
        let scratch = tempfile::tempdir().unwrap();
        let file = scratch.path().join("file");
        fs::write(&file, "").unwrap();
        let error = RunDirectory::begin(file.join("run"), &manifest()).unwrap_err();
        assert!(matches!(error, StoreError::Unwritable { .. }), "{error}");
    }

    #[test]
    fn simulated_runs_are_read_only_by_those_who_ask_for_them() {
        let (_scratch, path) = filled();
        let mut directory = RunDirectory::reopen(&RunData::load(&path).unwrap()).unwrap();
        let made_up = Sample::new("write-heavy", "full").with(|record| record.backend = Backend::Simulated);
        directory.append(&made_up.repetition(4).build()).unwrap();
        let error = RunData::load(&path).unwrap_err();
        assert!(error.is_usage() && error.to_string().contains("--simulated"), "{error}");
        assert_eq!(RunData::load_as(&path, Accept::Simulated).unwrap().records.len(), 4);
        // A directory says so by itself, before its first record.
        let (_scratch, path) = filled();
        let simulated = Manifest { backend: Backend::Simulated, ..manifest() };
        RunDirectory::reopen(&RunData::load(&path).unwrap()).unwrap().write_manifest(&simulated).unwrap();
        assert!(matches!(RunData::load(&path), Err(StoreError::Simulated { .. })));
    }

    #[test]
    fn records_of_before_backends_were_named_are_of_guests() {
        let (_scratch, path) = filled();
        for file in [MANIFEST, RUNS] {
            let text = fs::read_to_string(path.join(file)).unwrap();
            let without = text.replace("\"backend\":\"kvm\",", "").replace("  \"backend\": \"kvm\",\n", "");
            assert_ne!(text, without);
            fs::write(path.join(file), without).unwrap();
        }
        let data = RunData::load(&path).unwrap();
        assert!(data.records.iter().all(|record| record.backend == Backend::Kvm));
    }

    #[test]
    fn refuses_a_record_that_would_not_read_back() {
        let scratch = tempfile::tempdir().unwrap();
        let mut directory = RunDirectory::begin(scratch.path().join("run"), &manifest()).unwrap();
        let mut record = Sample::new("write-heavy", "full").build();
        record.timeline.to_mut().start = f64::NAN;
        assert!(matches!(directory.append(&record), Err(StoreError::Unkeepable { .. })));
    }

    #[test]
    fn says_what_a_directory_without_manifest_lacks() {
        let scratch = tempfile::tempdir().unwrap();
        let error = RunData::load(scratch.path()).unwrap_err().to_string();
        assert!(error.ends_with("is this a run directory?"), "{error}");
    }
}

//! What reviewers are given: a run directory, or a directory of them, with its reports, the host, the commands, the suites, a
//! list of hashes, and a page that says how to check, to render and to repeat it all. Everything is made from the records,
//! and the same directory gives the same bytes.

mod anonymous;
mod guide;
mod pack;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use self::anonymous::Names;
use crate::format::Format;
use crate::manifest::{Host, Manifest};
use crate::render;
use crate::report::Report;
use crate::reproduce;
use crate::store::{Accept, MANIFEST, RUNS, RunData, StoreError};

/// The list of hashes, as `sha256sum -c` reads it.
pub const SUMS: &str = "SHA256SUMS";
/// The page for reviewers.
pub const GUIDE: &str = "REPRODUCE.md";
/// The hosts of all runs.
pub const HOSTS: &str = "hosts.json";
/// The commands that made them.
pub const COMMANDS: &str = "commands.sh";
/// The folder of the figures, in each run directory.
pub const FIGURES: &str = "figures";
/// The folder of the suites.
pub const SUITES: &str = "suites";

/// Why there is no artifact.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each is about")]
pub enum ArtifactError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot read {path}: {source}")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("cannot write {path}: {source}; name another place with -o")]
    Unwritable { path: PathBuf, source: io::Error },
    #[error("{path} is there already; remove it, or name another place with -o")]
    Occupied { path: PathBuf },
    #[error("{path} has the name of a file that the artifact makes; move it away")]
    Reserved { path: PathBuf },
}

impl ArtifactError {
    /// Whether it is a matter of what was asked for.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Store(error) => error.is_usage(),
            Self::Occupied { .. } | Self::Reserved { .. } => true,
            Self::Unreadable { .. } | Self::Unwritable { .. } => false,
        }
    }
}

/// A run directory in an artifact.
#[derive(Debug)]
pub(crate) struct Packed {
    /// Its path in the artifact; empty for the artifact itself.
    pub path: String,
    /// Where the text of its suite is.
    pub suite: String,
    pub data: RunData,
    pub report: Report,
}

/// Everything that is packed.
#[derive(Debug)]
pub struct Artifact {
    /// Path in the artifact to content, without the list of hashes.
    files: BTreeMap<String, Vec<u8>>,
    runs: usize,
}

#[derive(Serialize)]
struct HostOf<'a> {
    directory: &'a str,
    suite: &'a str,
    started: &'a str,
    host: &'a Host,
}

impl Artifact {
    /// Of a run directory, or of one that holds run directories, with every file that lies there; reports are made anew.
    ///
    /// # Errors
    /// [`ArtifactError`], also where there is no run directory.
    pub fn of(directory: &Path, accept: Accept) -> Result<Self, ArtifactError> {
        let mut data = reproduce::gather(&[directory.to_owned()], accept)?;
        let mut files = BTreeMap::new();
        collect(directory, directory, &mut files)?;
        for one in &mut data {
            one.path = relative(directory, &one.path).into();
        }
        Self::made(directory, data, files)
    }

    /// The same of the records alone, without what tells who made them and where; see [`anonymous`]. Other files could say it too,
    /// and are left out.
    ///
    /// # Errors
    /// Those of [`Self::of`].
    pub fn anonymous(directory: &Path, accept: Accept) -> Result<Self, ArtifactError> {
        let mut data = reproduce::gather(&[directory.to_owned()], accept)?;
        let names = Names::of(data.iter().map(|one| &one.manifest));
        let names = names.map_err(|error| unreadable(directory, io::Error::other(error)))?;
        let several = data.len() > 1;
        let mut files = BTreeMap::new();
        for (number, one) in data.iter_mut().enumerate() {
            // A folder may be called after whoever measured.
            let path = if several { format!("run-{}", number + 1) } else { String::new() };
            let refused = |source: serde_json::Error| unreadable(&one.path, source.into());
            let made = names.anonymous(one, Path::new(&path)).map_err(refused)?;
            let manifest = serde_json::to_string_pretty(&made.manifest).map_err(refused)? + "\n";
            files.insert(join(&path, MANIFEST), manifest.into_bytes());
            let lines = made.records.iter().map(|record| Ok(serde_json::to_string(record)? + "\n"));
            let lines: String = lines.collect::<Result<_, _>>().map_err(refused)?;
            files.insert(join(&path, RUNS), lines.into_bytes());
            *one = made;
        }
        Self::made(directory, data, files)
    }

    fn made(
        directory: &Path,
        data: Vec<RunData>,
        mut files: BTreeMap<String, Vec<u8>>,
    ) -> Result<Self, ArtifactError> {
        for name in [SUMS, GUIDE, HOSTS, COMMANDS] {
            if files.contains_key(name) {
                return Err(ArtifactError::Reserved { path: directory.join(name) });
            }
        }
        let packed: Vec<_> = data
            .into_iter()
            .map(|mut data| {
                let path = relative(Path::new(""), &data.path);
                if path.is_empty() {
                    data.path = ".".into();
                }
                let suite = keep_suite(&mut files, &data.manifest);
                Packed { path, suite, report: Report::of(&data), data }
            })
            .collect();
        for one in &packed {
            let reports = std::slice::from_ref(&one.report);
            for format in [Format::Markdown, Format::Html, Format::Csv] {
                let name = join(&one.path, format.file().unwrap_or_default());
                files.insert(name, render::render(reports, format, 0).unwrap_or_default().into_bytes());
            }
            for (name, figure) in render::svg::files(reports) {
                files.insert(join(&one.path, &format!("{FIGURES}/{name}")), figure.into_bytes());
            }
        }
        let hosts: Vec<_> = packed.iter().map(host).collect();
        let hosts = serde_json::to_string_pretty(&hosts).unwrap_or_default() + "\n";
        files.insert(HOSTS.to_owned(), hosts.into_bytes());
        files.insert(COMMANDS.to_owned(), guide::commands(&packed).into_bytes());
        let guide = guide::write(&packed, &files);
        files.insert(GUIDE.to_owned(), guide.into_bytes());
        Ok(Self { files, runs: packed.iter().map(|one| one.data.records.len()).sum() })
    }

    /// Every file with its content, the list of hashes too.
    #[must_use]
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = self.files.clone();
        files.insert(SUMS.to_owned(), self.sums().into_bytes());
        files
    }

    /// Records in it.
    #[must_use]
    pub const fn runs(&self) -> usize {
        self.runs
    }

    /// A line for each file: its SHA-256, two spaces, its path.
    #[must_use]
    pub fn sums(&self) -> String {
        self.files.iter().map(|(path, content)| format!("{}  {path}\n", sha256(content))).collect()
    }
}

/// Keeps the text of a suite, and says where. Suites that differ may have one name: each is kept.
fn keep_suite(files: &mut BTreeMap<String, Vec<u8>>, manifest: &Manifest) -> String {
    let text = manifest.suite_text.as_bytes();
    let numbered = (2..).map(|number| format!("{}-{number}", manifest.suite));
    for name in std::iter::once(manifest.suite.clone()).chain(numbered) {
        let path = format!("{SUITES}/{name}.toml");
        if files.entry(path.clone()).or_insert_with(|| text.to_vec()) == text {
            return path;
        }
    }
    unreachable!("there is always another number")
}

fn unreadable(path: &Path, source: io::Error) -> ArtifactError {
    ArtifactError::Unreadable { path: path.to_owned(), source }
}

fn host(one: &Packed) -> HostOf<'_> {
    let manifest = &one.data.manifest;
    HostOf {
        directory: if one.path.is_empty() { "." } else { &one.path },
        suite: &manifest.suite,
        started: &manifest.started,
        host: &manifest.host,
    }
}

fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn join(directory: &str, name: &str) -> String {
    if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") }
}

fn relative(root: &Path, path: &Path) -> String {
    let inner = path.strip_prefix(root).unwrap_or(path);
    inner.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/")
}

/// All regular files under `directory`; hidden ones are leftovers, and links lead elsewhere.
fn collect(
    root: &Path,
    directory: &Path,
    files: &mut BTreeMap<String, Vec<u8>>,
) -> Result<(), ArtifactError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| unreadable(&path, source)
    };
    for entry in std::fs::read_dir(directory).map_err(unreadable(directory))? {
        let entry = entry.map_err(unreadable(directory))?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(unreadable(directory))?);
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if kind.is_dir() {
            collect(root, &path, files)?;
        } else if kind.is_file() {
            let content = std::fs::read(&path).map_err(unreadable(&path))?;
            files.insert(relative(root, &path), content);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use crate::store::RunDirectory;

    fn run_directory(path: &Path) {
        let mut directory = RunDirectory::begin(path, &sample::manifest()).unwrap();
        for record in sample::records() {
            directory.append(&record).unwrap();
        }
    }

    #[test]
    fn everything_is_hashed_and_the_known_hash_is_right() {
        let scratch = tempfile::tempdir().unwrap();
        run_directory(scratch.path());
        std::fs::write(scratch.path().join("abc"), "abc").unwrap();
        std::fs::write(scratch.path().join(".partial"), "").unwrap();
        let artifact = Artifact::of(scratch.path(), Accept::Guests).unwrap();
        let sums = artifact.sums();
        // From FIPS 180-2.
        assert!(
            sums.contains("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  abc\n"),
            "{sums}"
        );
        let files = artifact.files();
        let (figures, names): (Vec<_>, Vec<_>) =
            files.into_keys().partition(|name| name.starts_with("figures/"));
        assert!(figures.contains(&"figures/differences.svg".to_owned()), "{figures:?}");
        assert_eq!(
            names,
            [
                "REPRODUCE.md",
                "SHA256SUMS",
                "abc",
                "commands.sh",
                "hosts.json",
                "manifest.json",
                "report.csv",
                "report.html",
                "report.md",
                "runs.jsonl",
                "suites/quick.toml"
            ]
        );
        assert_eq!((sums.lines().count(), artifact.runs()), (figures.len() + names.len() - 1, 24));
    }

    #[test]
    fn an_anonymous_one_has_neither_host_nor_path_nor_other_files() {
        let scratch = tempfile::tempdir().unwrap();
        let mut manifest = sample::manifest();
        manifest.host.hostname = Some("planet".to_owned());
        manifest.command = ["/srv/lovelace/migbench", "run", "quick"].map(str::to_owned).to_vec();
        let mut directory = RunDirectory::begin(scratch.path(), &manifest).unwrap();
        for record in sample::records() {
            directory.append(&record).unwrap();
        }
        std::fs::write(scratch.path().join("notes"), "by Lovelace on planet").unwrap();
        let whole = Artifact::of(scratch.path(), Accept::Guests).unwrap().files();
        let files = Artifact::anonymous(scratch.path(), Accept::Guests).unwrap().files();
        let told = |files: &BTreeMap<String, Vec<u8>>| {
            let texts: Vec<_> = files.values().map(|content| String::from_utf8_lossy(content)).collect();
            ["planet", "lovelace"].map(|word| texts.iter().any(|text| text.contains(word)))
        };
        assert_eq!((told(&whole), told(&files)), ([true; 2], [false; 2]));
        assert!(whole.contains_key("notes") && !files.contains_key("notes"));
        let csv = |files: &BTreeMap<String, Vec<u8>>| files["report.csv"].clone();
        assert_eq!(csv(&whole), csv(&files), "the figures are the same");
    }

    #[test]
    fn a_directory_of_runs_keeps_its_folders() {
        let scratch = tempfile::tempdir().unwrap();
        run_directory(&scratch.path().join("one"));
        run_directory(&scratch.path().join("two"));
        let files = Artifact::of(scratch.path(), Accept::Guests).unwrap().files();
        for name in ["one/runs.jsonl", "two/report.md", "suites/quick.toml"] {
            assert!(files.contains_key(name), "{name}");
        }
        // Another suite of the same name is none the less kept.
        let other = scratch.path().join("two/manifest.json");
        let changed = std::fs::read_to_string(&other)
            .unwrap()
            .replace("\"suite_text\": \"", "\"suite_text\": \"# mine\\n");
        std::fs::write(&other, changed).unwrap();
        let both = Artifact::of(scratch.path(), Accept::Guests).unwrap().files();
        assert_ne!(both["suites/quick.toml"], both["suites/quick-2.toml"]);
        assert!(String::from_utf8_lossy(&both[GUIDE]).contains("`migbench run suites/quick-2.toml"));
        let guide = String::from_utf8(files[GUIDE].clone()).unwrap();
        insta::assert_snapshot!("artifact_guide", without_sizes(&guide));
    }

    /// Sizes of files change with every field of a record.
    fn without_sizes(text: &str) -> String {
        let cell = |cell: &str| match cell.trim().rsplit_once(' ') {
            Some((number, "B" | "KiB" | "MiB")) if number.parse::<f64>().is_ok() => " SIZE ".to_owned(),
            _ => cell.to_owned(),
        };
        let line = |line: &str| match line.starts_with('|') {
            true => line.split('|').map(cell).collect::<Vec<_>>().join("|"),
            false => line.to_owned(),
        };
        text.lines().map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn what_is_no_run_directory_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let error = Artifact::of(scratch.path(), Accept::Guests).unwrap_err().to_string();
        assert!(error.contains("is this a run directory?"), "{error}");
        run_directory(scratch.path());
        std::fs::write(scratch.path().join(GUIDE), "mine").unwrap();
        let error = Artifact::of(scratch.path(), Accept::Guests).unwrap_err().to_string();
        assert!(error.contains("REPRODUCE.md has the name of a file that the artifact makes"), "{error}");
    }
}

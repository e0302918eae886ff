//! Records without what tells where they were made: for reviews in which authors have no name.
//!
//! Host names become `host-1` and so on, builds `build-1`, and paths of the file system their last part, in the fields that hold them and
//! in texts; the kernel's command line, which names disks, goes. Words of the record's own language and encoded histograms are left
//! alone. A host's class (CPU, memory, kernel) and the commit of migbench stay: without them nobody could judge the figures.

use std::collections::BTreeMap;
use std::path::Path;

use regex::{Captures, Regex};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::manifest::{Build, Manifest};
use crate::store::RunData;

/// Fields that hold text of people or programs, in which a host or a path may stand.
const TEXTS: [&str; 5] = ["analysis", "description", "disturbances", "message", "reason"];
/// Fields that hold names: a build's path may stand in one, and a host may be called like one.
const NAMES: [&str; 8] = ["baseline", "cell", "comparison", "comparisons", "id", "label", "name", "run_id"];
/// An absolute path, one below a home, or one that leads upwards.
const PATH: &str = r#"(?:~[\w-]*|\.\.?)?/[^\s"'`,;)>\]]+"#;
/// The same everywhere.
const EVERYWHERE: [&str; 7] = [
    "/dev/kvm",
    "/dev/null",
    "/dev/userfaultfd",
    "/proc/self/",
    "/proc/sys/",
    "/sys/devices/system/",
    "/sys/kernel/",
];
/// Options whose value is a place.
const PLACES: [&str; 3] = ["-o", "--output", "--resume"];

/// What is replaced by what, the same in every run directory of an artifact.
#[derive(Debug)]
pub struct Names {
    hosts: BTreeMap<String, String>,
    builds: BTreeMap<String, String>,
    /// Whatever may have to be replaced in a text.
    found: Regex,
}

impl Names {
    /// Of all hosts and builds.
    ///
    /// # Errors
    /// None that names could cause: they stand in the expression as they are.
    pub fn of<'a>(manifests: impl Iterator<Item = &'a Manifest>) -> Result<Self, regex::Error> {
        let (mut hosts, mut builds) = (BTreeMap::new(), BTreeMap::new());
        for manifest in manifests {
            let parts = manifest.parts.iter().map(|part| &part.host);
            for host in std::iter::once(&manifest.host).chain(parts).filter_map(|host| host.hostname.as_ref())
            {
                let next = format!("host-{}", hosts.len() + 1);
                hosts.entry(host.clone()).or_insert(next);
            }
            for build in manifest.builds.iter().filter(|build| build.binary != Build::OWN) {
                let next = format!("build-{}", builds.len() + 1);
                builds.entry(build.binary.clone()).or_insert(next);
            }
        }
        // A qualified name is known by its first part too.
        let mut words: Vec<&str> = hosts
            .keys()
            .flat_map(|host| [host.as_str(), first_part(host)])
            .filter(|word| !word.is_empty())
            .collect();
        words.sort_by_key(|word| std::cmp::Reverse(word.len()));
        let words: Vec<_> = words.into_iter().map(regex::escape).collect();
        let hosts_or_none = if words.is_empty() { r"[^\s\S]".to_owned() } else { words.join("|") };
        let found = Regex::new(&format!(r"(?P<path>{PATH})|(?P<host>{hosts_or_none})(?:\.[\w-]+)*"))?;
        Ok(Self { hosts, builds, found })
    }

    /// The same records without what tells where they were made; `path` is where they will be.
    ///
    /// # Errors
    /// None that records which were read could cause.
    pub fn anonymous(&self, data: &RunData, path: &Path) -> Result<RunData, serde_json::Error> {
        let mut manifest = data.manifest.clone();
        for host in manifest.parts.iter_mut().map(|part| &mut part.host).chain([&mut manifest.host]) {
            host.cmdline = None;
        }
        let commands = manifest.parts.iter_mut().map(|part| &mut part.command);
        let resumed = manifest.resumptions.iter_mut().map(|resumption| &mut resumption.command);
        for command in commands.chain(resumed).chain([&mut manifest.command]) {
            *command = self.command(command);
        }
        let manifest = self.replaced(&manifest)?;
        let records = data.records.iter().map(|record| self.replaced(record)).collect::<Result<_, _>>()?;
        Ok(RunData { path: path.to_owned(), manifest, records, truncated: None })
    }

    fn replaced<T: Serialize + DeserializeOwned>(&self, whole: &T) -> Result<T, serde_json::Error> {
        let mut value = serde_json::to_value(whole)?;
        self.walk("", &mut value);
        serde_json::from_value(value)
    }

    fn walk(&self, key: &str, value: &mut Value) {
        let known = |names: &BTreeMap<String, String>, text: &str| names.get(text).cloned();
        match value {
            Value::String(text) => match key {
                "hostname" => *text = known(&self.hosts, text).unwrap_or_default(),
                "binary" => *text = known(&self.builds, text).unwrap_or_else(|| last_part(text).to_owned()),
                "suite_text" => {
                    *text = text.split_inclusive('\n').map(|line| self.line_of_suite(line)).collect()
                }
                _ if TEXTS.contains(&key) => *text = self.text(text, true),
                _ if NAMES.contains(&key) => *text = self.text(text, false),
                _ => {}
            },
            Value::Array(items) => items.iter_mut().for_each(|item| self.walk(key, item)),
            Value::Object(fields) => fields.iter_mut().for_each(|(key, field)| self.walk(key, field)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// A host may be called like a word of the suite: in comments it is a host.
    fn line_of_suite(&self, line: &str) -> String {
        let (code, comment) = line.split_at(line.find('#').unwrap_or(line.len()));
        self.text(code, false) + &self.text(comment, true)
    }

    fn text(&self, text: &str, hosts: bool) -> String {
        let goes_on = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
        let put = |found: &Captures<'_>| {
            let Some(all) = found.get(0) else { return String::new() };
            if text[..all.start()].ends_with(goes_on) {
                return all.as_str().to_owned();
            }
            if let Some(path) = found.name("path") {
                let path = path.as_str();
                return match self.builds.get(path) {
                    Some(build) => build.clone(),
                    None if EVERYWHERE.iter().any(|root| path.starts_with(root)) => path.to_owned(),
                    None => last_part(path).to_owned(),
                };
            }
            let host = found.name("host").map_or("", |host| host.as_str());
            let named = self.hosts.iter().find(|(name, _)| *name == host || first_part(name) == host);
            match named {
                Some((_, name)) if hosts && !text[all.end()..].starts_with(goes_on) => name.clone(),
                _ => all.as_str().to_owned(),
            }
        };
        self.found.replace_all(text, put).into_owned()
    }

    /// A command line: of the program its name, of places none, of other paths the last part. Rates, slices and names of cells have
    /// a slash too.
    fn command(&self, words: &[String]) -> Vec<String> {
        let mut before = "";
        let mut out = Vec::new();
        for word in words {
            let (option, value) = match word.split_once('=') {
                Some((option, value)) => (option, value),
                None => (before, word.as_str()),
            };
            let value = if out.is_empty() {
                "migbench".to_owned()
            } else if PLACES.contains(&option) {
                "DIR".to_owned()
            } else if let Some(build) = self.builds.get(value) {
                build.clone()
            } else if option == "--filter" || value.ends_with("bit/s") || value.starts_with("slice:") {
                value.to_owned()
            } else {
                last_part(value).to_owned()
            };
            out.push(match word.split_once('=') {
                Some((option, _)) if !out.is_empty() => format!("{option}={value}"),
                _ => value,
            });
            before = word;
        }
        out
    }
}

/// What a path says of what lies there; nothing where that could be somebody's home.
fn last_part(path: &str) -> &str {
    let inner = path.trim_start_matches(['~', '.']);
    let parts = inner.split('/').filter(|part| !part.is_empty()).count();
    match path.trim_end_matches('/').rsplit_once('/') {
        Some(_) if path.starts_with(['/', '~']) && parts < 3 => "...",
        Some((_, last)) => last,
        None => path,
    }
}

fn first_part(host: &str) -> &str {
    host.split('.').next().unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    fn data(hostname: &str) -> RunData {
        let mut manifest = sample::manifest();
        manifest.host.hostname = Some(hostname.to_owned());
        let records = sample::records();
        RunData { path: "/srv/eve/r".into(), manifest, records, truncated: Some(7) }
    }

    fn anonymous(data: &RunData) -> RunData {
        let names = Names::of(std::iter::once(&data.manifest)).unwrap();
        names.anonymous(data, Path::new("r")).unwrap()
    }

    #[test]
    fn nothing_tells_where_it_was_made_and_the_figures_stay() {
        let mut data = data("eve.cs.uni.edu");
        let manifest = &mut data.manifest;
        manifest.host.cmdline = Some("BOOT_IMAGE=/boot/vmlinuz root=UUID=1-2".to_owned());
        manifest.command = [
            "/srv/eve/bin/migbench",
            "ab",
            "../eve/quick.toml",
            "--new",
            "binary=/srv/eve/a b/migbench",
            "link.rate=1Gbit/s",
            "--filter",
            "write-heavy/full",
            "--output=results/eve/run",
            "-o",
            "r/eve",
        ]
        .map(str::to_owned)
        .to_vec();
        manifest.disturbances = vec![
            "on eve: never is at work in /srv/eve/x/y, by the limit in /sys/fs/cgroup/user/uid_eve/memory.max".to_owned(),
            "~eve/notes and /srv/eve/ and ../eve/z on eve.cs.uni.edu".to_owned(),
        ];
        manifest.suite_text =
            "# of /srv/eve/suites/a on eve, see /dev/kvm\nlink.rate = \"1Gbit/s\"\n".to_owned();
        // One path ends as the other one is.
        let paths = ["target/migbench", "/srv/eve/new/target/migbench"];
        manifest.builds =
            paths.map(|binary| Build { binary: binary.to_owned(), ..Build::default() }).to_vec();
        for (record, path) in data.records.iter_mut().zip(paths) {
            record.cell.binary = Some(path.to_owned());
        }
        let made = anonymous(&data);
        let text = serde_json::to_string(&(&made.manifest, &made.records)).unwrap();
        let words: Vec<_> = text.split(|c: char| !c.is_alphanumeric()).collect();
        for word in ["eve", "UUID", "srv", "uni"] {
            assert!(!words.contains(&word), "{word} in {text}");
        }
        assert_eq!(
            made.manifest.disturbances,
            ["on host-1: never is at work in y, by the limit in memory.max", "... and ... and z on host-1"]
        );
        assert!(made.manifest.suite_text.contains("see /dev/kvm\nlink.rate = \"1Gbit/s\""));
        assert_eq!(
            made.manifest.command,
            [
                "migbench",
                "ab",
                "quick.toml",
                "--new",
                "binary=migbench",
                "link.rate=1Gbit/s",
                "--filter",
                "write-heavy/full",
                "--output=DIR",
                "-o",
                "DIR"
            ]
        );
        // Two builds stay two, and each its own.
        assert_ne!(made.records[0].cell.binary, made.records[1].cell.binary);
        for record in &made.records[..2] {
            assert_eq!(
                made.manifest.build_of(&record.cell).map(|build| Some(&build.binary)),
                Some(record.cell.binary.as_ref())
            );
        }
        assert_eq!(made.truncated, None);
        assert!(
            made.records
                .iter()
                .zip(&data.records)
                .all(|(a, b)| a.metrics == b.metrics && a.rounds == b.rounds)
        );
    }

    /// A host may be called like a word of the records, and like what occurs in a histogram.
    #[test]
    fn words_of_the_records_are_no_names() {
        for host in ["kvm", "full", "ok", "new", "H4", "host-2", ""] {
            let mut data = data(host);
            data.manifest.builds = ["new", "base", "migbench"]
                .map(|binary| Build { binary: binary.to_owned(), ..Build::default() })
                .to_vec();
            data.records[0]
                .histograms
                .to_mut()
                .insert("latency_write/precopy".to_owned(), "AA+H4/new+ok".to_owned());
            let made = anonymous(&data);
            assert_eq!(made.manifest.host.hostname.as_deref(), Some("host-1"));
            assert_eq!(made.manifest.comparisons, data.manifest.comparisons);
            assert_eq!(made.records, data.records, "{host}");
        }
    }
}

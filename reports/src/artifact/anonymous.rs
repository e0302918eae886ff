//! Records without what tells where they were made: for reviews in which authors have no name.
//!
//! Host names become `host-1` and so on, each build's path a name of its own, and every other path of the file system its last
//! part; the kernel's command line, which names disks, goes. Device files and those of the kernel stay, since they are the same
//! everywhere. A host's class (CPU, memory, kernel) and the commit of migbench stay too: without them nobody could judge the figures.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::manifest::{Build, Host, Manifest};
use crate::store::RunData;

/// An absolute path, or one below a home, and what stands before it.
#[expect(clippy::unwrap_used, reason = "a constant, tested")]
static PATH: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#"(^|[\s"'`=:,;(<\[])(~?/[^\s"'`,;)>\]]+)"#).unwrap());

/// What is replaced by what, the same in every run directory of an artifact.
#[derive(Debug, Default)]
pub struct Names {
    hosts: BTreeMap<String, String>,
    builds: BTreeMap<String, String>,
}

impl Names {
    /// Of all hosts and builds.
    #[must_use]
    pub fn of<'a>(manifests: impl Iterator<Item = &'a Manifest>) -> Self {
        let mut names = Self::default();
        for manifest in manifests {
            let parts = manifest.parts.iter().map(|part| &part.host);
            for host in std::iter::once(&manifest.host).chain(parts).filter_map(|host| host.hostname.as_ref())
            {
                let next = format!("host-{}", names.hosts.len() + 1);
                names.hosts.entry(host.clone()).or_insert(next);
            }
            for build in manifest.builds.iter().filter(|build| build.binary != Build::OWN) {
                let next = format!("build-{}", names.builds.len() + 1);
                names.builds.entry(build.binary.clone()).or_insert(next);
            }
        }
        names
    }

    /// The same records without what tells where they were made; `path` is where they will be.
    ///
    /// # Errors
    /// None that files which were read could cause: what changes is in texts alone.
    pub fn anonymous(&self, data: &RunData, path: &Path) -> Result<RunData, serde_json::Error> {
        let mut manifest = data.manifest.clone();
        for host in manifest.parts.iter_mut().map(|part| &mut part.host).chain([&mut manifest.host]) {
            *host = Host { cmdline: None, ..std::mem::take(host) };
        }
        let commands = manifest.parts.iter_mut().map(|part| &mut part.command);
        let resumed = manifest.resumptions.iter_mut().map(|resumption| &mut resumption.command);
        for word in commands.chain(resumed).chain([&mut manifest.command]).flatten() {
            *word = argument(word);
        }
        let manifest = self.replaced(&manifest)?;
        let records = data.records.iter().map(|record| self.replaced(record)).collect::<Result<_, _>>()?;
        Ok(RunData { path: path.to_owned(), manifest, records, truncated: data.truncated })
    }

    fn replaced<T: Serialize + DeserializeOwned>(&self, whole: &T) -> Result<T, serde_json::Error> {
        let mut value = serde_json::to_value(whole)?;
        self.walk(&mut value);
        serde_json::from_value(value)
    }

    fn walk(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.text(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.walk(item)),
            Value::Object(fields) => fields.values_mut().for_each(|field| self.walk(field)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        // The longest first: one path may begin another.
        for (build, name) in self.builds.iter().rev() {
            text = text.replace(build, name);
        }
        for (host, name) in &self.hosts {
            text = whole_words(&text, host, name);
        }
        let last = |found: &Captures<'_>| {
            let (before, path) = (&found[1], &found[2]);
            let everywhere = ["/dev/", "/proc/", "/sys/"].iter().any(|root| path.starts_with(root));
            format!("{before}{}", if everywhere { path } else { last_part(path) })
        };
        PATH.replace_all(&text, last).into_owned()
    }
}

/// A word of a command: of an option's value, or of a word that is a path, the last part. Rates have a slash too.
fn argument(word: &str) -> String {
    match word.rsplit_once('=') {
        Some((option, value)) if value.starts_with(['/', '.', '~']) => {
            format!("{option}={}", last_part(value))
        }
        Some(_) => word.to_owned(),
        None if word.contains("bit/s") || word.starts_with("slice:") => word.to_owned(),
        None => last_part(word).to_owned(),
    }
}

fn last_part(path: &str) -> &str {
    let path = path.trim_end_matches('/');
    path.rsplit_once('/').map_or(path, |(_, last)| last)
}

/// `name` in place of every `word` that no letter, digit or hyphen goes on with.
fn whole_words(text: &str, word: &str, name: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    let goes_on = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
    while let Some(at) = rest.find(word).filter(|_| !word.is_empty()) {
        let (before, after) = (&rest[..at], &rest[at + word.len()..]);
        let alone = !out.chars().chain(before.chars()).next_back().is_some_and(goes_on)
            && !after.starts_with(goes_on);
        out += before;
        out += if alone { name } else { word };
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn nothing_tells_where_it_was_made_and_the_figures_stay() {
        let mut manifest = sample::manifest();
        manifest.host.hostname = Some("eve".to_owned());
        manifest.host.cmdline = Some("BOOT_IMAGE=/boot/vmlinuz root=UUID=1-2".to_owned());
        manifest.command = [
            "/srv/eve/bin/migbench",
            "ab",
            "../x/quick.toml",
            "--new",
            "binary=/srv/eve/a b/migbench",
            "-o",
            "r/run",
        ]
        .map(str::to_owned)
        .to_vec();
        manifest.disturbances = vec!["on eve: never is at work in /srv/eve/x".to_owned()];
        manifest.suite_text =
            "# of /srv/eve/suites on eve, see /dev/kvm\nlink.rate = \"1Gbit/s\"\n".to_owned();
        let mut records = sample::records();
        records[0].cell.binary = Some("/srv/eve/new/migbench".to_owned());
        records[1].cell.binary = Some("/srv/eve/old/migbench".to_owned());
        manifest.builds = ["/srv/eve/new/migbench", "/srv/eve/old/migbench"]
            .map(|binary| Build { binary: binary.to_owned(), ..Build::default() })
            .to_vec();
        let data = RunData { path: "/srv/eve/r".into(), manifest, records, truncated: None };

        let names = Names::of(std::iter::once(&data.manifest));
        let made = names.anonymous(&data, Path::new("r")).unwrap();
        let text = serde_json::to_string(&(&made.manifest, &made.records)).unwrap();
        let words = text.split(|c: char| !c.is_alphanumeric());
        assert!(!words.clone().any(|word| word == "eve" || word == "UUID" || word == "srv"), "{text}");
        assert!(text.contains("on host-1: never is at work in x"), "{text}");
        assert!(made.manifest.suite_text.contains("see /dev/kvm\nlink.rate = \"1Gbit/s\""));
        let command = ["migbench", "ab", "quick.toml", "--new", "binary=migbench", "-o", "run"];
        assert_eq!(made.manifest.command, command);
        // Two builds stay two.
        assert_eq!(made.records[0].cell.binary.as_deref(), Some("build-1"));
        assert!(made.manifest.build_of(&made.records[1].cell).is_some());
        assert_ne!(made.records[0].cell.binary, made.records[1].cell.binary);
        assert!(
            made.records
                .iter()
                .zip(&data.records)
                .all(|(a, b)| a.metrics == b.metrics && a.rounds == b.rounds)
        );
    }

    #[test]
    fn words_are_replaced_whole_and_rates_are_no_paths() {
        assert_eq!(whole_words("a-b a ab a", "a", "host-1"), "a-b host-1 ab host-1");
        for (word, expected) in [
            ("link.rate=1Gbit/s", "link.rate=1Gbit/s"),
            ("1Gbit/s", "1Gbit/s"),
            ("slice:2/8", "slice:2/8"),
            ("--output=/a/b", "--output=b"),
            ("results/x/", "x"),
        ] {
            assert_eq!(argument(word), expected);
        }
    }
}

//! `migbench list`: suites, papers, workloads, engines and the other words that settings take.

use std::fmt::Write;

use migbench_reports::reproduce;
use migbench_scenarios::cell::{Backing, Engine, Tracker, Transport};
use migbench_scenarios::claims::PAPERS;
use migbench_scenarios::key::Key;
use migbench_scenarios::shipped::SHIPPED;
use migbench_scenarios::{Claims, Suite};
use migbench_workloads::catalogue;

use super::{Exit, print};

/// Lists suites, papers, workloads, engines and other words, and the keys of cells.
///
/// Without WHAT it lists all but the keys, in short.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  migbench list workloads\n  migbench list keys")]
pub struct List {
    /// Only these, in full.
    #[arg(value_enum)]
    what: Option<What>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// Suites that come with migbench.
    Suites,
    /// Publications whose figures `migbench reproduce` lays beside ours.
    Papers,
    /// Named workloads, with what they model and why their numbers are what they are.
    Workloads,
    /// Engines and controls, trackers, kinds of memory and of links.
    Engines,
    /// Keys of a cell, in suites and for --set: what each takes, its default, its meaning.
    Keys,
}

impl List {
    pub fn execute(self) -> anyhow::Result<Exit> {
        let mut text = String::new();
        let wanted = |what| self.what.is_none() || self.what == Some(what);
        if wanted(What::Suites) {
            text.push_str("Suites (migbench run NAME):\n");
            for (name, suite) in SHIPPED {
                let suite = Suite::parse(suite, name)?;
                writeln!(text, "  {name:<14} {} ({})", suite.description, suite.time_budget)?;
            }
        }
        if wanted(What::Papers) {
            text.push_str("Papers (migbench reproduce NAME):\n");
            for (name, _) in PAPERS {
                text.push_str(&paper(name, self.what == Some(What::Papers))?);
            }
        }
        if wanted(What::Workloads) {
            text.push_str("Workloads (workload = NAME):\n");
            for named in catalogue::ALL.iter() {
                writeln!(text, "  {:<14} {}", named.name, named.summary)?;
                if self.what == Some(What::Workloads) {
                    let program = named.settings.program;
                    let read = match program.particular() {
                        [] => String::new(),
                        some => format!(", and of the settings that not all read {}", some.join(", ")),
                    };
                    let head = format!("program {}; reads what every program does{read}", program.word());
                    for line in std::iter::once(head.as_str()).chain(named.about.lines()) {
                        writeln!(text, "  {:<14} {line}", "")?;
                    }
                }
            }
        }
        if wanted(What::Engines) {
            words(&mut text, "Engines", "engine", Engine::ALL.iter().map(|(word, _)| *word))?;
            words(&mut text, "Trackers", "tracker", Tracker::ALL.iter().map(|(word, _)| *word))?;
            words(&mut text, "Kinds of guest memory", "backing", Backing::ALL.iter().map(|(word, _)| *word))?;
            words(
                &mut text,
                "Kinds of links",
                "link.transport",
                Transport::ALL.iter().map(|(word, _)| *word),
            )?;
        }
        if self.what == Some(What::Keys) {
            text.push_str("Keys of [defaults], of axes and of --set KEY=VALUE:\n");
            for key in migbench_scenarios::key::KEYS {
                let Key { name, kind, default, about, .. } = key;
                let default = if *default == "required" { "" } else { &format!(", default {default}") };
                writeln!(text, "  {name:<24} {kind}{default}")?;
                writeln!(text, "  {:<24}   {about}", "")?;
            }
            text.push_str(
                "Sizes are written like 256MiB, rates like 1Gbit/s, times like 100ms, shares like 0.5.\n",
            );
        }
        if self.what.is_none() {
            text.push_str("Every parameter of a cell: migbench list keys\n");
        }
        print(&text)?;
        Ok(Exit::Success)
    }
}

/// A line, or all that is claimed.
fn paper(name: &str, whole: bool) -> anyhow::Result<String> {
    let claims = Claims::find(name, &reproduce::metrics())?;
    let mut text = format!("  {name:<14} {} ({}, {})\n", claims.description, claims.time, claims.disk);
    if whole {
        let reference = &claims.reference;
        let (authors, title, published) = (&reference.authors, &reference.title, &reference.published);
        writeln!(text, "  {:<14} {authors}: {title}, {published}", "")?;
        for claim in &claims.claims {
            writeln!(text, "  {:<14} - {}: {}", "", claim.id, claim.text)?;
        }
    }
    Ok(text)
}

fn words(
    text: &mut String,
    title: &str,
    key: &str,
    words: impl Iterator<Item = &'static str>,
) -> std::fmt::Result {
    writeln!(text, "{title} ({key} = NAME):\n  {}", words.collect::<Vec<_>>().join(", "))
}

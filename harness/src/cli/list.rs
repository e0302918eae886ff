//! `migbench list`: suites, workloads, engines and the other words that settings take.

use std::fmt::Write;

use migbench_scenarios::Suite;
use migbench_scenarios::cell::{Backing, Engine, Tracker, Transport};
use migbench_scenarios::key::Key;
use migbench_scenarios::shipped::SHIPPED;
use migbench_workloads::catalogue;

use super::{Exit, print};

/// Lists suites, workloads, engines and other words, and the keys of cells.
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
        if wanted(What::Workloads) {
            text.push_str("Workloads (workload = NAME):\n");
            for named in catalogue::ALL.iter() {
                writeln!(text, "  {:<14} {}", named.name, named.summary)?;
                if self.what == Some(What::Workloads) {
                    for line in named.about.lines() {
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

fn words(
    text: &mut String,
    title: &str,
    key: &str,
    words: impl Iterator<Item = &'static str>,
) -> std::fmt::Result {
    writeln!(text, "{title} ({key} = NAME):\n  {}", words.collect::<Vec<_>>().join(", "))
}

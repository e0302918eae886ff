//! Values of single keys: from what people type (a word, a number, a quantity with its unit) to the types of a
//! cell. Each reader names the key in what it refuses.

use std::fmt::Display;
use std::str::FromStr;

use migbench_workloads::settings::{Load, Pattern, WorkloadPhase};
use migbench_workloads::units::{Bytes, Rate, Seconds, UnitError};

use crate::cell::{Cache, CacheError};
use crate::document::{Data, PlacedValue};
use crate::error::{Problem, SuiteError, listed, nearest};

/// A value about to be read for a key.
pub(crate) struct Reader<'a> {
    /// The key as its writer knows it.
    pub key: &'a str,
    /// The value.
    pub node: &'a PlacedValue,
}

impl Reader<'_> {
    fn refuse(&self, problem: Problem) -> SuiteError {
        SuiteError::new(&self.node.place, problem)
    }

    pub fn out_of_range(&self, value: impl Display, allowed: &str) -> SuiteError {
        self.refuse(Problem::OutOfRange {
            key: self.key.to_owned(),
            value: value.to_string(),
            allowed: allowed.to_owned(),
        })
    }

    pub fn unknown<'k>(&self, word: &str, known: impl IntoIterator<Item = &'k str> + Clone) -> SuiteError {
        self.refuse(Problem::UnknownWord {
            key: self.key.to_owned(),
            word: word.to_owned(),
            nearest: nearest(word, known.clone()),
            known: listed(known),
        })
    }

    pub fn text(&self, expected: &str) -> Result<&str, SuiteError> {
        self.node.text(self.key, expected)
    }

    fn quantity<T: FromStr<Err = UnitError>>(&self, expected: &str) -> Result<T, SuiteError> {
        let text = self.text(expected)?;
        text.parse().map_err(|source| self.refuse(Problem::Unit { key: self.key.to_owned(), source }))
    }

    pub fn size(&self) -> Result<Bytes, SuiteError> {
        self.quantity("a size with its unit as text, such as \"128MiB\"")
    }

    /// A rate, or none for the word `unlimited`.
    pub fn rate(&self) -> Result<Option<Rate>, SuiteError> {
        let expected = "a rate with its unit as text, such as \"1Gbit/s\", or \"unlimited\"";
        if self.text(expected)? == "unlimited" {
            return Ok(None);
        }
        match self.quantity(expected)? {
            Rate(0) => Err(self.out_of_range("0", "a link needs some rate, or \"unlimited\"")),
            rate => Ok(Some(rate)),
        }
    }

    /// A rate that is one.
    pub fn limited_rate(&self) -> Result<Rate, SuiteError> {
        self.rate()?.ok_or_else(|| self.out_of_range("unlimited", "a limit is a rate, such as 64Mbit/s"))
    }

    /// A time over zero.
    pub fn time(&self) -> Result<Seconds, SuiteError> {
        let time = self.time_or_zero()?;
        if time.0 > 0.0 { Ok(time) } else { Err(self.out_of_range("0", "it must be longer")) }
    }

    pub fn time_or_zero(&self) -> Result<Seconds, SuiteError> {
        self.quantity("a time with its unit as text, such as \"300ms\"")
    }

    pub fn boolean(&self) -> Result<bool, SuiteError> {
        self.node.boolean(self.key)
    }

    /// A whole number from `least` to `most`; `why` ends the message about one outside.
    pub fn integer(&self, least: u32, most: u32, why: &str) -> Result<u32, SuiteError> {
        let number = match &self.node.data {
            Data::Integer(number) => Some(*number),
            Data::Bare(text) => text.parse().ok(),
            _ => None,
        };
        let Some(number) = number else { return Err(self.node.wrong_type(self.key, "a whole number")) };
        match u32::try_from(number) {
            Ok(number) if (least..=most).contains(&number) => Ok(number),
            _ => Err(self.out_of_range(number, why)),
        }
    }

    fn number(&self) -> Result<f64, SuiteError> {
        let number = match &self.node.data {
            #[expect(clippy::cast_precision_loss, reason = "a share; anything over 1 is refused next")]
            Data::Integer(number) => Some(*number as f64),
            Data::Float(number) => Some(*number),
            Data::Bare(text) => text.parse().ok(),
            _ => None,
        };
        number.ok_or_else(|| self.node.wrong_type(self.key, "a number"))
    }

    /// A share, from 0 to 1.
    pub fn share(&self) -> Result<f64, SuiteError> {
        let number = self.number()?;
        if (0.0..=1.0).contains(&number) {
            Ok(number)
        } else {
            Err(self.out_of_range(number, "a share lies between 0 and 1"))
        }
    }

    /// One of a few words.
    pub fn word<T: Copy>(&self, all: &[(&'static str, T)]) -> Result<T, SuiteError> {
        let words = all.iter().map(|(word, _)| *word);
        let text = self.text(&format!("one of the words {}", listed(words.clone())))?;
        let found = all.iter().find(|(word, _)| *word == text);
        found.map(|(_, value)| *value).ok_or_else(|| self.unknown(text, words))
    }

    /// `name(number)`: the number, if the text is that.
    fn call(text: &str) -> Option<(&str, Option<f64>)> {
        let (name, rest) = text.split_once('(')?;
        Some((name.trim(), rest.strip_suffix(')')?.trim().parse().ok()))
    }

    pub fn pattern(&self) -> Result<Pattern, SuiteError> {
        const KNOWN: [&str; 3] = ["sequential", "uniform", "zipf(0.9)"];
        let text = self.text("one of \"sequential\", \"uniform\", \"zipf(0.9)\"")?;
        match (text, Self::call(text)) {
            ("sequential", _) => Ok(Pattern::Sequential),
            ("uniform", _) => Ok(Pattern::Uniform),
            (_, Some(("zipf", Some(theta)))) if theta > 0.0 && theta < 1.0 => Ok(Pattern::Zipf(theta)),
            (_, Some(("zipf", Some(_)))) => Err(self.out_of_range(
                text,
                "theta must lie between 0 and 1, both excluded; towards 0 it is uniform, 0.99 is the usual skew",
            )),
            _ => Err(self.unknown(text, KNOWN)),
        }
    }

    pub fn load(&self) -> Result<Load, SuiteError> {
        let expected = "one of \"pressure(0.5)\", \"pages(20000)\", \"bytes(100MB/s)\", \"operations(100000)\", \"flat-out\"";
        self.load_from(self.text(expected)?)
    }

    fn load_from(&self, text: &str) -> Result<Load, SuiteError> {
        const KNOWN: [&str; 5] =
            ["pressure(0.5)", "pages(20000)", "bytes(100MB/s)", "operations(100000)", "flat-out"];
        if text == "flat-out" {
            return Ok(Load::FlatOut);
        }
        let Some((name, inside)) =
            text.split_once('(').and_then(|(name, rest)| Some((name.trim(), rest.strip_suffix(')')?.trim())))
        else {
            return Err(self.unknown(text, KNOWN));
        };
        if name == "bytes" {
            return match inside.parse() {
                Ok(Rate(0)) => Err(self.out_of_range(text, "the rate in brackets must be over 0")),
                Ok(rate) => Ok(Load::Bytes(rate)),
                Err(source) => Err(self.refuse(Problem::Unit { key: self.key.to_owned(), source })),
            };
        }
        let make: fn(f64) -> Load = match (name, inside.parse::<f64>()) {
            ("pressure", Ok(_)) => Load::Pressure,
            ("pages", Ok(_)) => Load::Pages,
            ("operations", Ok(_)) => Load::Operations,
            _ => return Err(self.unknown(text, KNOWN)),
        };
        match inside.parse() {
            Ok(number) if number > 0.0 && f64::is_finite(number) => Ok(make(number)),
            _ => Err(self.out_of_range(text, "the number in brackets must be over 0")),
        }
    }

    /// A cache: one of [`Cache::EXAMPLES`].
    pub fn cache(&self) -> Result<Cache, SuiteError> {
        let text =
            self.text("one of \"none\", \"shadow\", \"bounded(32MiB)\", \"digest(256)\", \"unchanged\"")?;
        text.parse().map_err(|error| match error {
            CacheError::Unknown(_) => self.unknown(text, Cache::EXAMPLES),
            CacheError::Size(source) => self.refuse(Problem::Unit { key: self.key.to_owned(), source }),
            CacheError::Range(why) => self.out_of_range(text, why),
        })
    }

    /// Phases of a workload: `DURATION KEY=VALUE ...; ...`, or `none`.
    pub fn phases(&self) -> Result<Vec<WorkloadPhase>, SuiteError> {
        const EXPECTED: &str =
            "phases as text, such as \"2s reads=0.9 load=pages(5000); 500ms load=flat-out\", or \"none\"";
        let text = self.text(EXPECTED)?;
        if text.trim() == "none" {
            return Ok(Vec::new());
        }
        let phases = text.split(';').map(|phase| self.phase(phase)).collect::<Result<Vec<_>, _>>()?;
        match phases.len() {
            2..=8 => Ok(phases),
            _ => Err(self.out_of_range(text, "a workload has 2 to 8 phases, separated by `;`")),
        }
    }

    fn phase(&self, text: &str) -> Result<WorkloadPhase, SuiteError> {
        const KEYS: [&str; 4] = ["reads", "writes", "load", "working_set"];
        let unit = |source| self.refuse(Problem::Unit { key: self.key.to_owned(), source });
        let mut parts = text.split_whitespace();
        let duration: Seconds = parts.next().unwrap_or_default().parse().map_err(unit)?;
        if duration.0 <= 0.0 {
            return Err(self.out_of_range(text.trim(), "a phase begins with how long it lasts, over 0"));
        }
        let mut phase = WorkloadPhase { duration, reads: None, writes: None, load: None, working_set: None };
        for part in parts {
            let Some((key, value)) = part.split_once('=') else { return Err(self.unknown(part, KEYS)) };
            match key {
                "reads" => {
                    let share = value.parse().ok().filter(|share| (0.0..=1.0).contains(share));
                    phase.reads =
                        Some(share.ok_or_else(|| self.out_of_range(part, "a share lies between 0 and 1"))?);
                }
                "writes" => {
                    let writes = value.parse().ok().filter(|writes| *writes > 0);
                    phase.writes = Some(
                        writes
                            .ok_or_else(|| self.out_of_range(part, "a writing operation has at least 1"))?,
                    );
                }
                "load" => phase.load = Some(self.load_from(value)?),
                "working_set" => phase.working_set = Some(value.parse().map_err(unit)?),
                _ => return Err(self.unknown(key, KEYS)),
            }
        }
        Ok(phase)
    }

    /// Host CPUs: a list of numbers, or text such as `0,2-3`. At least one, none twice.
    pub fn cpus(&self) -> Result<Vec<u32>, SuiteError> {
        const EXPECTED: &str = "host CPUs, such as [0, 2, 3] or \"0,2-3\"";
        let cpus: Vec<u32> = match &self.node.data {
            Data::List(nodes) => nodes
                .iter()
                .map(|node| Reader { key: self.key, node }.integer(0, u32::MAX, "CPUs count from 0"))
                .collect::<Result<_, _>>()?,
            Data::Text(text) | Data::Bare(text) => {
                cpu_ranges(text).ok_or_else(|| self.node.wrong_type(self.key, EXPECTED))?
            }
            Data::Integer(_) => vec![self.integer(0, u32::MAX, "CPUs count from 0")?],
            _ => return Err(self.node.wrong_type(self.key, EXPECTED)),
        };
        if cpus.is_empty() {
            return Err(self.out_of_range("empty", "name at least one CPU, or write pinning = \"none\""));
        }
        match cpus.iter().enumerate().find(|(i, cpu)| cpus[..*i].contains(cpu)) {
            Some((_, twice)) => {
                Err(self.out_of_range(shown_cpus(&cpus), &format!("CPU {twice} stands twice")))
            }
            None => Ok(cpus),
        }
    }
}

fn cpu_ranges(text: &str) -> Option<Vec<u32>> {
    /// More than any host has; a guard against `0-4000000000`.
    const MOST: u32 = 4096;
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last - first > MOST {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

pub(crate) fn shown_cpus(cpus: &[u32]) -> String {
    cpus.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

pub(crate) fn shown_pattern(pattern: Pattern) -> String {
    match pattern {
        Pattern::Sequential => "sequential".to_owned(),
        Pattern::Uniform => "uniform".to_owned(),
        Pattern::Zipf(theta) => format!("zipf({theta})"),
    }
}

pub(crate) fn shown_load(load: Load) -> String {
    match load {
        Load::Pressure(number) => format!("pressure({number})"),
        Load::Pages(number) => format!("pages({number})"),
        Load::Bytes(rate) => format!("bytes({rate})"),
        Load::Operations(number) => format!("operations({number})"),
        Load::FlatOut => "flat-out".to_owned(),
    }
}

pub(crate) fn shown_word<T: Copy + PartialEq>(all: &[(&'static str, T)], value: T) -> String {
    let found = all.iter().find(|(_, known)| *known == value);
    found.map_or_else(String::new, |(word, _)| (*word).to_owned())
}

pub(crate) fn shown_phases(phases: &[WorkloadPhase]) -> String {
    if phases.is_empty() {
        return "none".to_owned();
    }
    let one = |phase: &WorkloadPhase| {
        let settings = [
            phase.reads.map(|reads| format!(" reads={reads}")),
            phase.writes.map(|writes| format!(" writes={writes}")),
            phase.load.map(|load| format!(" load={}", shown_load(load))),
            phase.working_set.map(|size| format!(" working_set={size}")),
        ];
        settings.into_iter().flatten().fold(phase.duration.to_string(), |text, setting| text + &setting)
    };
    phases.iter().map(one).collect::<Vec<_>>().join("; ")
}

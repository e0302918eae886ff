//! Values of single keys: from what people type (a word, a number, a quantity with its unit) to the types of a
//! cell. Each reader names the key in what it refuses.

use std::fmt::Display;
use std::str::FromStr;

use migbench_workloads::settings::{Content, Load, Pattern};
use migbench_workloads::units::{Bytes, Rate, Seconds, UnitError};

use crate::document::{Data, Node};
use crate::error::{Problem, SuiteError, listed, nearest};

/// A value about to be read for a key.
pub(crate) struct Reader<'a> {
    /// The key as its writer knows it.
    pub key: &'a str,
    /// The value.
    pub node: &'a Node,
}

/// The words for what a page write writes.
pub(crate) const CONTENTS: &[(&str, Content)] =
    &[("counter", Content::Counter), ("random", Content::Random), ("same", Content::Same)];

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
        const KNOWN: [&str; 4] = ["pressure(0.5)", "pages(20000)", "operations(100000)", "flat-out"];
        let text =
            self.text("one of \"pressure(0.5)\", \"pages(20000)\", \"operations(100000)\", \"flat-out\"")?;
        let make: fn(f64) -> Load = match (text, Self::call(text)) {
            ("flat-out", _) => return Ok(Load::FlatOut),
            (_, Some(("pressure", Some(_)))) => Load::Pressure,
            (_, Some(("pages", Some(_)))) => Load::Pages,
            (_, Some(("operations", Some(_)))) => Load::Operations,
            _ => return Err(self.unknown(text, KNOWN)),
        };
        match Self::call(text) {
            Some((_, Some(number))) if number > 0.0 && number.is_finite() => Ok(make(number)),
            _ => Err(self.out_of_range(text, "the number in brackets must be over 0")),
        }
    }

    pub fn content(&self) -> Result<Content, SuiteError> {
        self.word(CONTENTS)
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
        Load::Operations(number) => format!("operations({number})"),
        Load::FlatOut => "flat-out".to_owned(),
    }
}

pub(crate) fn shown_content(content: Content) -> String {
    let found = CONTENTS.iter().find(|(_, value)| *value == content);
    found.map_or_else(String::new, |(word, _)| (*word).to_owned())
}

//! The command that tests a claim: a line of a shell goes in, what it asks of `migbench run` comes out.

use crate::suite::Overrides;

/// A command that runs a suite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuiteCommand {
    /// As it would be typed from where the program runs.
    pub line: String,
    /// The suite: a shipped one, or a path from where the program runs.
    pub suite: String,
    /// The suite as the file names it: a shipped one, or a path from where the file is.
    pub named: String,
    /// `--filter`.
    pub filter: Option<String>,
    /// `--repeat`.
    pub repeat: Option<u32>,
}

impl SuiteCommand {
    /// Reads a line; `resolve` makes a suite as the line names it one as the program finds it.
    ///
    /// # Errors
    /// What is wrong with it, in a phrase.
    pub(super) fn parse(line: &str, resolve: impl Fn(&str) -> String) -> Result<Self, String> {
        let words = words(line).ok_or("a quotation mark is not closed")?;
        let mut rest = match words.split_first_chunk::<3>() {
            Some(([program, verb, _], _)) if program == "migbench" && verb == "run" => words[2..].iter(),
            _ => return Err("it must begin with `migbench run SUITE`".to_owned()),
        };
        let named = rest.next().filter(|suite| !suite.starts_with('-'));
        let named = named.ok_or("the suite must stand right behind `migbench run`")?;
        let suite = resolve(named);
        let mut command =
            Self { line: String::new(), suite, named: named.clone(), filter: None, repeat: None };
        while let Some(flag) = rest.next() {
            let value = rest.next().ok_or_else(|| format!("{flag} has no value"))?;
            match flag.as_str() {
                "--filter" => command.filter = Some(value.clone()),
                "--repeat" => {
                    let repeat = value.parse().ok().filter(|repeat| *repeat > 0);
                    command.repeat = Some(repeat.ok_or_else(|| format!("{value} is no number of runs"))?);
                }
                _ => return Err(format!("{flag} has no place in it; --filter and --repeat have")),
            }
        }
        command.line = line.replacen(named.as_str(), &command.suite, 1);
        Ok(command)
    }

    /// What it changes of its suite.
    #[must_use]
    pub fn overrides(&self) -> Overrides {
        Overrides { filter: self.filter.clone(), repeat: self.repeat, ..Overrides::default() }
    }
}

/// Words as a shell would make them of a line with plain quotation marks; `None` where one is not closed.
fn words(line: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                word.get_or_insert_default();
                quote = Some(c);
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_a_shell_would() {
        let command = SuiteCommand::parse("migbench run mine.toml --filter '^a b/' --repeat 2", |suite| {
            format!("papers/x/{suite}")
        })
        .unwrap();
        assert_eq!(command.line, "migbench run papers/x/mine.toml --filter '^a b/' --repeat 2");
        assert_eq!((command.suite.as_str(), command.repeat), ("papers/x/mine.toml", Some(2)));
        assert_eq!(command.overrides().filter.as_deref(), Some("^a b/"));
    }

    #[test]
    fn anything_else_is_refused_in_words() {
        for (line, words) in [
            ("rm -rf results", "must begin with `migbench run SUITE`"),
            ("migbench run", "must begin with"),
            ("migbench run --filter a", "right behind"),
            ("migbench run paper --set memory=1GiB", "--set has no place"),
            ("migbench run paper --filter", "--filter has no value"),
            ("migbench run paper --repeat 0", "0 is no number of runs"),
            ("migbench run paper --filter 'a", "not closed"),
        ] {
            let error = SuiteCommand::parse(line, str::to_owned).unwrap_err();
            assert!(error.contains(words), "{line}: {error}");
        }
    }
}

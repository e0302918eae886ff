//! Where a value was written: a span of a suite file, or an argument of the command line. Every error about a
//! suite carries one, so that its reader goes straight to the spot.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

#[derive(Debug, PartialEq, Eq)]
struct SourceText {
    origin: String,
    text: String,
}

/// A spot in a suite file, or a whole file or argument where there is no finer one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    source: Arc<SourceText>,
    span: Option<Range<usize>>,
}

impl Place {
    /// All of the text that came from `origin` (a path, or the name of a shipped suite).
    #[must_use]
    pub fn file(origin: &str, text: &str) -> Self {
        Self { source: Arc::new(SourceText { origin: origin.to_owned(), text: text.to_owned() }), span: None }
    }

    /// An argument as it was typed, such as `--set memory=1G`.
    #[must_use]
    pub fn argument(typed: &str) -> Self {
        Self::file(typed, "")
    }

    /// The bytes `span` of the same text; without a span the place is what it was.
    #[must_use]
    pub fn at(&self, span: Option<Range<usize>>) -> Self {
        Self { source: Arc::clone(&self.source), span: span.or_else(|| self.span.clone()) }
    }

    /// The file, or the argument as typed.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.source.origin
    }

    /// Line and column, both from 1, the column in characters.
    #[must_use]
    pub fn line_column(&self) -> Option<(usize, usize)> {
        let start = self.start()?;
        let before = &self.source.text[..start];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Some((before.matches('\n').count() + 1, before[line_start..].chars().count() + 1))
    }

    /// The start of the span, moved back to a character's start.
    fn start(&self) -> Option<usize> {
        let mut start = self.span.as_ref()?.start.min(self.source.text.len());
        while !self.source.text.is_char_boundary(start) {
            start -= 1;
        }
        Some(start)
    }

    /// The line itself with a mark under the span; nothing where there is no line.
    #[must_use]
    pub fn excerpt(&self) -> Option<String> {
        let (line, column) = self.line_column()?;
        let text = self.source.text.lines().nth(line - 1)?;
        let width = self.span.as_ref().map_or(1, |span| span.len());
        let width = width.clamp(1, text.chars().count().saturating_sub(column - 1).max(1));
        let number = line.to_string();
        let gutter = " ".repeat(number.len());
        Some(format!("{number} | {text}\n{gutter} | {}{}", " ".repeat(column - 1), "^".repeat(width)))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line_column() {
            Some((line, column)) => write!(f, "{}:{line}:{column}", self.origin()),
            None => f.write_str(self.origin()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters() {
        let place = Place::file("a.toml", "x = 1\nä = 12\n").at(Some(11..13));
        assert_eq!(place.to_string(), "a.toml:2:5");
        assert_eq!(place.excerpt().unwrap(), "2 | ä = 12\n  |     ^^");
    }

    #[test]
    fn an_argument_has_no_line() {
        let place = Place::argument("--set memory=1G");
        assert_eq!(place.to_string(), "--set memory=1G");
        assert_eq!(place.excerpt(), None);
    }
}

//! Text from elsewhere must not become commands, end a cell of a table, or stop the compiler.

use std::fmt::Write as _;

/// As LaTeX reads it. Letters of western languages stay; what a plain pdfTeX has no glyph for becomes its code point.
#[must_use]
pub fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut before = ' ';
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\textbackslash{}"),
            '{' | '}' | '$' | '&' | '#' | '_' | '%' => out.extend(['\\', c]),
            '^' => out.push_str("\\textasciicircum{}"),
            '~' => out.push_str("\\textasciitilde{}"),
            '<' => out.push_str("\\textless{}"),
            '>' => out.push_str("\\textgreater{}"),
            '|' => out.push_str("\\textbar{}"),
            '"' => out.push_str("\\textquotedbl{}"),
            '\'' => out.push_str("\\textquotesingle{}"),
            '`' => out.push_str("\\textasciigrave{}"),
            // Two in a row would become a dash, `!` and `?` before a grave accent are escaped above.
            '-' if before == '-' => out.push_str("{}-"),
            ',' if before == ',' => out.push_str("{},"),
            '\u{2020}' => out.push_str("\\textdagger{}"),
            '\u{d7}' => out.push_str("\\texttimes{}"),
            '\u{b5}' | '\u{3bc}' => out.push_str("\\textmu{}"),
            c if c.is_ascii_graphic() => out.push(c),
            c if c.is_whitespace() || c.is_control() => out.push(' '),
            // The letters of ISO 8859-1, which every font has.
            '\u{c0}'..='\u{ff}' => out.push(c),
            c => {
                let _ = write!(out, "\\texttt{{U+{:04X}}}", u32::from(c));
            }
        }
        before = c;
    }
    out
}

/// A figure: its minus signs are those of mathematics, and its parts stay on one line.
#[must_use]
pub fn number(figure: &str) -> String {
    let mut out = String::new();
    let characters: Vec<char> = figure.chars().collect();
    for (at, c) in characters.iter().enumerate() {
        match c {
            '-' if characters.get(at + 1).is_some_and(char::is_ascii_digit) => out.push_str("$-$"),
            ' ' => out.push('~'),
            c => out += &text(&c.to_string()),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_latex_is_left() {
        assert_eq!(
            text("50 % of a_b & {c} \\d #1 $2 ~ ^"),
            "50 \\% of a\\_b \\& \\{c\\} \\textbackslash{}d \\#1 \\$2 \\textasciitilde{} \\textasciicircum{}"
        );
        assert_eq!(text("--set x\n\u{7}y"), "-{}-set x  y");
        assert_eq!(
            text("delta \u{2020} caf\u{e9} \u{65e5}"),
            "delta \\textdagger{} caf\u{e9} \\texttt{U+65E5}"
        );
    }

    #[test]
    fn figures_have_minus_signs() {
        assert_eq!(number("-53.2 % ~"), "$-$53.2~\\%~\\textasciitilde{}");
        assert_eq!(number("-54..-52"), "$-$54..$-$52");
        assert_eq!(number("-"), "-");
    }
}

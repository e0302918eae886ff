//! Texts of a drawing: escaped, and how much room they take. A page's fonts are not known here, so widths are those of a wide
//! sans serif; what fits with it fits with others.

/// For element content and quoted attributes. Characters that XML forbids become a replacement character.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            '\n' | '\r' | '\t' => out.push(' '),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// About how wide a text is at that size.
#[must_use]
pub fn width(text: &str, size: f64) -> f64 {
    let of = |c: char| match c {
        'i' | 'j' | 'l' | 'I' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' | ' ' => 0.33,
        'f' | 't' | 'r' | '-' | '(' | ')' | '/' | '[' | ']' => 0.42,
        'm' | 'w' | 'M' | 'W' | '%' | '@' => 0.95,
        'A'..='Z' => 0.71,
        c if c.is_ascii() => 0.625,
        _ => 0.9,
    };
    text.chars().map(of).sum::<f64>() * size
}

/// Lines no wider than `room`, broken at spaces; a single longer word stays whole.
#[must_use]
pub fn wrap(text: &str, room: f64, size: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if width(line, size) + width(" ", size) + width(word, size) <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// As much of a text as fits, with dots where something was cut off.
#[must_use]
pub fn shorten(text: &str, room: f64, size: f64) -> String {
    if width(text, size) <= room {
        return text.to_owned();
    }
    let mut short = String::new();
    for c in text.chars() {
        if width(&short, size) + width("\u{2026}", size) + size > room {
            break;
        }
        short.push(c);
    }
    short + "\u{2026}"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_elsewhere_is_no_markup() {
        assert_eq!(escape("<b a=\"'\">&\u{1}\n"), "&lt;b a=&quot;&#39;&quot;&gt;&amp;\u{fffd} ");
    }

    #[test]
    fn wraps_and_shortens_to_the_room_there_is() {
        let text = "median run of each by total time, the lower one of two";
        let lines = wrap(text, 120.0, 11.0);
        assert!(lines.len() > 2 && lines.iter().all(|line| width(line, 11.0) <= 120.0), "{lines:?}");
        assert_eq!(lines.join(" "), text);
        let short = shorten(text, 100.0, 11.0);
        assert!(width(&short, 11.0) <= 100.0 && short.ends_with('\u{2026}'), "{short}");
        assert_eq!(shorten("full", 100.0, 11.0), "full");
    }
}

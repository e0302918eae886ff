//! Words of a command as a shell takes them: whoever copies a printed command runs what was meant, whatever its paths are called.

use std::path::Path;

/// A word, quoted where a shell would make something else of it.
#[must_use]
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:=+,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// A path as a word that no command takes for an option.
#[must_use]
pub fn path(path: &Path) -> String {
    let text = path.display().to_string();
    quoted(&if text.starts_with('-') { format!("./{text}") } else { text })
}

/// A command line.
#[must_use]
pub fn line<S: AsRef<str>>(words: impl IntoIterator<Item = S>) -> String {
    words.into_iter().map(|word| quoted(word.as_ref())).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_the_words_that_were_meant() {
        let words =
            ["a b", "it's", "$HOME", "", "`x`", "a;b", "~", "*", "-o", "é/é", "\"q\"", "link.rate=1Gbit/s"];
        let script = format!("printf '%s\\0' {}", line(words));
        let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        let read = String::from_utf8(output.stdout).unwrap();
        assert_eq!(read.split_terminator('\0').collect::<Vec<_>>(), words);
        assert_eq!(path(Path::new("-o dir")), "'./-o dir'");
    }
}

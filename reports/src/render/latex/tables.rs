//! A table: each row has its value, and below it what the terminal has there too.

use std::fmt::Write as _;

use super::escape::{number, text};
use crate::table::{PrintedFigure, Row, RowKind, Table};

/// Wide enough for most labels of columns, which are broken above that.
const HEADING: usize = 10;

/// As a float with caption and label.
pub fn table(table: &Table, suite: &str, about: &str, label: &str) -> String {
    let columns = table.columns.len();
    let mut out =
        String::from("\\begin{table}[!htbp]\n\\centering\\footnotesize\\setlength{\\tabcolsep}{4pt}\n");
    let title = if table.title == suite { suite.to_owned() } else { format!("{suite}, {}", table.title) };
    let _ = writeln!(out, "\\caption{{{}: {}.}}\\label{{{label}}}\\vspace{{4pt}}", text(&title), text(about));
    // Narrower than the text it stays as it is, wider it shrinks.
    out.push_str("\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%\n");
    let _ = writeln!(out, "\\begin{{tabular}}{{l{}}}\n\\toprule", "r".repeat(columns));
    let labels = table.columns.iter().map(|column| heading(&column.label));
    line(&mut out, std::iter::once(text(&table.head)).chain(labels));
    out.push_str("\\midrule\n");
    for (index, row) in table.rows.iter().enumerate() {
        let first_control = row.kind == RowKind::Control
            && table.rows[..index].iter().all(|row| row.kind != RowKind::Control);
        if first_control {
            let _ = writeln!(
                out,
                "\\addlinespace\n\\multicolumn{{{}}}{{l}}{{\\emph{{controls}}}} \\\\",
                columns + 1
            );
        }
        rows(&mut out, row, columns);
    }
    out.push_str("\\bottomrule\n\\end{tabular}}\n");
    if !table.notes.is_empty() {
        out.push_str("\n\\smallskip\\parbox{\\linewidth}{\\footnotesize\n");
        for note in &table.notes {
            let _ = writeln!(out, "{}.\\par", text(note));
        }
        out.push_str("}\n");
    }
    out.push_str("\\end{table}\n");
    out
}

/// Over several lines where it is long.
fn heading(label: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in label.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= HEADING => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    let lines: Vec<_> = lines.iter().map(|line| text(line)).collect();
    match lines.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        several => format!("\\begin{{tabular}}[b]{{@{{}}r@{{}}}}{}\\end{{tabular}}", several.join("\\\\")),
    }
}

fn rows(out: &mut String, row: &Row, columns: usize) {
    if let Some(why) = &row.text {
        let _ = writeln!(out, "{} & \\multicolumn{{{columns}}}{{l}}{{{}}} \\\\", text(&row.label), text(why));
        return;
    }
    let cells = |part: &dyn Fn(&PrintedFigure) -> Option<String>, absent: &str| -> Vec<String> {
        let cell = |figure: &Option<PrintedFigure>| match figure {
            Some(figure) => part(figure).map(|text| number(&text)).unwrap_or_default(),
            None => absent.to_owned(),
        };
        row.figures.iter().map(cell).collect()
    };
    let indented = |label: &str| format!("\\quad {}", text(label));
    line(out, std::iter::once(text(&row.label)).chain(cells(&|figure| Some(figure.value.clone()), "-")));
    if let Some(converged) = &row.converged {
        line(out, std::iter::once(indented(converged)).chain(cells(&|_| None, "")));
    }
    if let Some(samples) = &row.samples {
        line(out, std::iter::once(indented(samples)).chain(cells(&|figure| figure.spread.clone(), "")));
    }
    let difference = cells(&|figure| figure.difference.clone(), "");
    if difference.iter().any(|cell| !cell.is_empty()) {
        line(out, std::iter::once(indented("to baseline")).chain(difference));
    }
    if let Some(label) = row.difference_spread() {
        let label = format!("\\quad{}", indented(label));
        line(out, std::iter::once(label).chain(cells(&|figure| figure.difference_spread.clone(), "")));
    }
}

fn line(out: &mut String, cells: impl Iterator<Item = String>) {
    let cells: Vec<_> = cells.collect();
    let _ = writeln!(out, "{} \\\\", cells.join(" & "));
}

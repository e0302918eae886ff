//! The page that people read: a short list of blocks, made once from claims and findings, and laid out for a terminal or as
//! Markdown. A layout computes no figure, so that the same figure reads the same in both.

use std::fmt::Write as _;

use migbench_scenarios::Claims;
use migbench_scenarios::claims::Unknown;
use migbench_scenarios::key::Key;

use super::sensitivity::Varied;
use super::{Estimate, Finding, Reach, RecordSource, Reproduction, Sensitivity};
use crate::quantity::{count, percent};
use crate::render::markdown::escape;
use crate::render::terminal::wrap;
use crate::settings;
use crate::shell;

/// A part of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Block {
    /// A heading, 1 for the page's.
    Heading(usize, String),
    /// A paragraph.
    Text(String),
    /// Something that must not be overlooked.
    Alarm(String),
    /// A list.
    Items(Vec<String>),
    /// Terms and their explanations.
    Terms(Vec<(String, String)>),
    /// A table; the first column is of words, the others are of figures.
    Grid {
        /// Headings of the columns.
        head: Vec<String>,
        /// The rows.
        rows: Vec<GridRow>,
    },
    /// Commands, to be copied.
    Code(Vec<String>),
}

/// A row of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GridRow {
    /// A line above the rows that it names.
    Title(String),
    /// One text per column.
    Cells(Vec<String>),
}

/// A page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReproductionPage(pub Vec<Block>);

impl ReproductionPage {
    /// What stands before any result: the publication, what it does not state, what was chosen and why.
    #[must_use]
    pub fn before(claims: &Claims) -> Self {
        let reference = &claims.reference;
        let address = |name: &str, value: &Option<String>| {
            value.as_ref().map_or_else(String::new, |value| format!(", {name}{value}"))
        };
        let mut blocks = vec![
            Block::Heading(1, format!("{}: {}", claims.name, reference.title)),
            Block::Text(format!(
                "{}: {}, {}{}{}.",
                reference.authors,
                reference.title,
                reference.published,
                address("doi ", &reference.doi),
                address("", &reference.url)
            )),
            Block::Text(format!(
                "The set-up behind the published figures is not known in {}. So nothing here says that a result was \
                 reproduced: each published figure is laid beside ours and beside what could be reached at most in our cell.",
                count(claims.unknowns.len(), "respect")
            )),
            Block::Text(claims.choice.clone()),
        ];
        if !claims.caution.is_empty() {
            blocks.push(Block::Alarm(claims.caution.clone()));
        }
        blocks.push(Block::Heading(2, "What is not stated, and what we chose".to_owned()));
        let term = |unknown: &Unknown| {
            let values = values(claims, &unknown.keys);
            let values = if values.is_empty() { String::new() } else { format!(" [{values}]") };
            (unknown.what.clone(), format!("{}; {}{values}", unknown.chosen, unknown.why))
        };
        blocks.push(Block::Terms(claims.unknowns.iter().map(term).collect()));
        Self(blocks)
    }

    /// The findings and what is behind them.
    #[must_use]
    pub fn results(claims: &Claims, found: &Reproduction) -> Self {
        let mut blocks = vec![Block::Heading(2, "Published, and ours".to_owned()), findings(&found.findings)];
        let remarks = found
            .findings
            .iter()
            .flat_map(|finding| finding.remarks.iter().map(|remark| format!("{}: {remark}", finding.claim)));
        blocks.extend(items(remarks.collect()));
        blocks.push(Block::Heading(2, "What the words mean".to_owned()));
        let used = |verdict: &Reach| {
            let points = found.sensitivity.iter().flat_map(|all| &all.metrics).flat_map(|one| &one.points);
            let varied = points.flat_map(|point| &point.verdicts);
            found.findings.iter().map(|finding| &finding.verdict).chain(varied).any(|other| other == verdict)
        };
        let mut terms: Vec<_> = Reach::ALL
            .into_iter()
            .filter(used)
            .map(|verdict| (verdict.word().to_owned(), verdict.meaning().to_owned()))
            .collect();
        if found.findings.iter().any(|finding| finding.share_reached().is_some()) {
            terms.push((
                "reachable".to_owned(),
                "the most that can be saved: both engines send the first round whole, so of traffic all but its bytes can be \
                 saved at most, of the total time all but its duration, by the baseline's own runs; `of it` is the share \
                 that ours is"
                    .to_owned(),
            ));
        }
        if let Some(text) = spread(&found.findings) {
            terms.push(("spread".to_owned(), text));
        }
        blocks.push(Block::Terms(terms));
        if !found.workloads.is_empty() {
            blocks.push(Block::Heading(2, "The workloads that ran".to_owned()));
            blocks.push(Block::Items(found.workloads.clone()));
        }
        if let Some(sensitivity) = &found.sensitivity {
            blocks.extend(varied(sensitivity));
        }
        blocks.extend(evidence(claims, found));
        Self(blocks)
    }

    /// Both, one after the other.
    #[must_use]
    pub fn whole(claims: &Claims, found: &Reproduction) -> Self {
        let mut page = Self::before(claims);
        page.0.extend(Self::results(claims, found).0);
        page
    }
}

/// What cells of the claims have under these keys.
fn values(claims: &Claims, keys: &[String]) -> String {
    let cells = || {
        let plans = claims.claims.iter().filter_map(|claim| {
            let plan = &claims.suite(&claim.command)?.plan;
            plan.comparisons.iter().find(|comparison| comparison.name == claim.comparison)
        });
        plans.flat_map(|comparison| &comparison.cells).map(|planned| settings::flat(&planned.cell))
    };
    let of_key = |key: &String| {
        let inner = format!("{key}.");
        let mut found: Vec<String> = Vec::new();
        for flat in cells() {
            let here = flat.iter().filter(|(path, _)| *path == key || path.starts_with(&inner));
            // A setting with parts, such as a load, is written with the part's name.
            let text = here.map(|(path, value)| match path.strip_prefix(&inner) {
                Some(part) => format!("{part} {value}"),
                None => value.clone(),
            });
            let text = text.collect::<Vec<_>>().join(" ");
            if !text.is_empty() && !found.contains(&text) {
                found.push(text);
            }
        }
        (!found.is_empty()).then(|| format!("{key}: {}", found.join(" / ")))
    };
    let known = |key: &&String| {
        migbench_scenarios::key::KEYS.iter().any(|Key { name, .. }| name.starts_with(key.as_str()))
    };
    keys.iter().filter(known).filter_map(of_key).collect::<Vec<_>>().join("; ")
}

fn findings(findings: &[Finding]) -> Block {
    let head = ["", "published", "ours", "spread", "n", "reachable", "of it", "verdict"];
    let dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let mut rows = Vec::new();
    let mut comparison = "";
    for finding in findings {
        if finding.comparison != comparison {
            comparison = &finding.comparison;
            rows.push(GridRow::Title(comparison.to_owned()));
        }
        let samples = finding.ours.or(finding.reachable).map(|ours| ours.samples.to_string());
        rows.push(GridRow::Cells(vec![
            finding.subject.clone(),
            finding.published.clone(),
            dash(finding.shown()),
            dash(finding.spread()),
            dash(samples),
            dash(finding.reachable()),
            dash(finding.share_reached()),
            finding.verdict.word().to_owned(),
        ]));
    }
    Block::Grid { head: head.map(str::to_owned).to_vec(), rows }
}

/// What the ends beside our figures are.
fn spread(findings: &[Finding]) -> Option<String> {
    let ours = || findings.iter().filter_map(|finding| finding.ours).filter(|ours| ours.samples > 1);
    let interval = "the interval that holds with 95 %";
    let range = "the smallest and the largest run, since fewer than six give no interval";
    match (ours().any(|ours| ours.interval), ours().any(|ours| !ours.interval)) {
        (false, false) => None,
        (true, false) => Some(interval.to_owned()),
        (false, true) => Some(range.to_owned()),
        (true, true) => Some(format!("{interval} from six runs on; below, {range}")),
    }
}

fn varied(sensitivity: &Sensitivity) -> Vec<Block> {
    let mut blocks = vec![
        Block::Heading(2, "One factor at a time".to_owned()),
        Block::Text(format!(
            "Each row of suite {} differs from \"{}\" in what it names; all else is alike. The last columns show where a \
             published reduction lies to the most that could be saved there.",
            sensitivity.suite, sensitivity.base
        )),
    ];
    for one in &sensitivity.metrics {
        blocks.push(Block::Heading(3, format!("{}, reduction", one.label)));
        blocks.push(points(one));
        blocks.push(Block::Items(one.summary.clone()));
    }
    if let Some(first) = sensitivity.metrics.first() {
        let others = first.points.iter().filter(|point| point.name != sensitivity.base);
        let differs = others.map(|point| {
            let all = point.differs.iter().map(|(path, here, base)| format!("{path} {here} (base {base})"));
            (point.name.clone(), all.collect::<Vec<_>>().join(", "))
        });
        blocks.push(Block::Heading(3, "What differs, read from the cells".to_owned()));
        blocks.push(Block::Terms(differs.collect()));
    }
    blocks
}

fn points(one: &Varied) -> Block {
    let mut head = ["", "most", "ours", "n"].map(str::to_owned).to_vec();
    head.extend(one.published.iter().map(|(_, figure)| figure.clone()));
    let share =
        |estimate: &Option<Estimate>| estimate.map_or_else(|| "-".to_owned(), |one| percent(one.value));
    let row = |point: &super::SensitivityPoint| {
        let mut cells = vec![point.name.clone()];
        if let Some(missing) = &point.missing {
            cells[0] = format!("{} ({missing})", point.name);
        }
        cells.extend([share(&point.most), share(&point.ours)]);
        cells.push(point.ours.map_or_else(|| "-".to_owned(), |ours| ours.samples.to_string()));
        cells.extend(point.verdicts.iter().map(|verdict| verdict.word().to_owned()));
        GridRow::Cells(cells)
    };
    Block::Grid { head, rows: one.points.iter().map(row).collect() }
}

fn evidence(claims: &Claims, found: &Reproduction) -> Vec<Block> {
    let mut blocks = vec![Block::Heading(2, "Evidence".to_owned())];
    // Claims about the same runs share a line.
    let mut groups: Vec<(Vec<&str>, &Finding)> = Vec::new();
    for finding in found.findings.iter().filter(|finding| !finding.runs.is_empty()) {
        let same = |(_, one): &&mut (Vec<&str>, &Finding)| {
            one.runs == finding.runs && one.directory == finding.directory
        };
        match groups.iter_mut().find(same) {
            Some((names, _)) => names.push(&finding.claim),
            None => groups.push((vec![&finding.claim], finding)),
        }
    }
    let lines = groups.iter().map(|(names, finding)| {
        let directory = finding.directory.as_deref().unwrap_or_default();
        (names.join(", "), format!("runs {} in {directory}", short(&finding.runs)))
    });
    let lines: Vec<_> = lines.collect();
    if lines.is_empty() {
        blocks.push(Block::Text("There is no run behind any claim.".to_owned()));
    } else {
        blocks.push(Block::Terms(lines));
    }
    for source in &found.sources {
        blocks.extend(source_blocks(source));
    }
    blocks.push(Block::Heading(2, "Commands".to_owned()));
    let mut commands: Vec<(String, Vec<&str>)> = Vec::new();
    for claim in &claims.claims {
        let line = format!("{}    # {}, {}", claim.command.line, claim.time, claim.disk);
        match commands.iter_mut().find(|(known, _)| *known == line) {
            Some((_, ids)) => ids.push(&claim.id),
            None => commands.push((line, vec![&claim.id])),
        }
    }
    let mut lines = vec![format!("# all claims: {}, {}", claims.time, claims.disk)];
    lines.push(format!("migbench reproduce {}", shell::quoted(&claims.found_by)));
    for (line, ids) in commands {
        lines.push(format!("# {}", ids.join(", ")));
        lines.push(line);
    }
    if let Some(one) = &claims.sensitivity {
        lines.push("# one factor at a time".to_owned());
        lines.push(format!("{}    # {}, {}", one.command.line, one.time, one.disk));
    }
    blocks.push(Block::Code(lines));
    blocks
}

/// Ids of runs by their numbers, which `migbench show` takes too, where each id begins with one.
fn short(runs: &[String]) -> String {
    let numbers: Option<Vec<&str>> = runs
        .iter()
        .map(|run| run.split_once('-').map(|(number, _)| number))
        .map(|number| number.filter(|number| number.chars().all(|c| c.is_ascii_digit())))
        .collect();
    match numbers {
        Some(numbers) if !numbers.is_empty() => numbers.join(" "),
        _ => runs.join(" "),
    }
}

fn source_blocks(source: &RecordSource) -> Vec<Block> {
    let mut blocks = vec![Block::Text(format!(
        "{}: {}. {}. Started {}, {}, by: {}",
        source.directory, source.subject, source.machine, source.started, source.tool, source.command
    ))];
    blocks.push(Block::Text(format!("{}: {}", source.directory, source.proven)));
    blocks.extend(source.alarms.iter().map(|alarm| Block::Alarm(alarm.clone())));
    if source.failed_runs > 0 {
        blocks.push(Block::Alarm(format!("{} failed", count(source.failed_runs, "run"))));
    }
    blocks.extend(items(source.warnings.iter().map(|warning| format!("warning: {warning}")).collect()));
    blocks
}

fn items(items: Vec<String>) -> Option<Block> {
    (!items.is_empty()).then_some(Block::Items(items))
}

/// For a terminal of that many columns, without colour. A table that is wider than that keeps its width.
#[must_use]
pub fn terminal(page: &ReproductionPage, width: usize) -> String {
    let mut out: Vec<String> = Vec::new();
    for block in &page.0 {
        if !out.is_empty() && !matches!(block, Block::Alarm(_)) {
            out.push(String::new());
        }
        match block {
            Block::Heading(1, text) => out.extend(wrap(text, width, "")),
            Block::Heading(_, text) => out.extend(wrap(&format!("{text}:"), width, "")),
            Block::Text(text) => out.extend(wrap(text, width, "")),
            Block::Alarm(text) => out.extend(wrap(&format!("!! {text}"), width, "   ")),
            Block::Items(items) => {
                out.extend(items.iter().flat_map(|item| wrap(&format!("- {item}"), width, "  ")));
            }
            Block::Terms(terms) => {
                for (term, text) in terms {
                    out.extend(wrap(&format!("- {term}"), width, "  "));
                    out.extend(wrap(&format!("    {text}"), width, "    "));
                }
            }
            Block::Grid { head, rows } => out.extend(grid(head, rows)),
            Block::Code(lines) => out.extend(lines.iter().map(|line| format!("  {line}"))),
        }
    }
    out.iter().map(|line| line.trim_end().to_owned() + "\n").collect()
}

fn grid(head: &[String], rows: &[GridRow]) -> Vec<String> {
    let titled = rows.iter().any(|row| matches!(row, GridRow::Title(_)));
    let mut cells = vec![head.to_vec()];
    for row in rows {
        if let GridRow::Cells(row) = row {
            let mut row = row.clone();
            row[..usize::from(titled)].iter_mut().for_each(|first| first.insert_str(0, "  "));
            cells.push(row);
        }
    }
    let mut lines = crate::render::grid(&cells, 2, 1).into_iter();
    let mut out: Vec<String> = lines.next().into_iter().collect();
    for row in rows {
        match row {
            GridRow::Title(text) => out.push(text.clone()),
            GridRow::Cells(_) => out.extend(lines.next()),
        }
    }
    out
}

/// As Markdown.
#[must_use]
pub fn markdown(page: &ReproductionPage) -> String {
    let mut out = String::new();
    for block in &page.0 {
        match block {
            Block::Heading(level, text) => {
                let _ = writeln!(out, "{} {}\n", "#".repeat(*level), prose(text));
            }
            Block::Text(text) => {
                let _ = writeln!(out, "{}\n", prose(text));
            }
            Block::Alarm(text) => {
                let _ = writeln!(out, "> **{}**\n", prose(text));
            }
            Block::Items(items) => {
                let list: String = items.iter().map(|item| format!("- {}\n", prose(item))).collect();
                let _ = writeln!(out, "{list}");
            }
            Block::Terms(terms) => {
                let one =
                    |(term, text): &(String, String)| format!("- **{}**: {}\n", prose(term), prose(text));
                let list: String = terms.iter().map(one).collect();
                let _ = writeln!(out, "{list}");
            }
            Block::Grid { head, rows } => out += &markdown_grid(head, rows),
            Block::Code(lines) => {
                let _ = writeln!(out, "```sh\n{}\n```\n", lines.join("\n"));
            }
        }
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

fn markdown_grid(head: &[String], rows: &[GridRow]) -> String {
    let line = |cells: &[String]| {
        format!("| {} |\n", cells.iter().map(|cell| escape(cell)).collect::<Vec<_>>().join(" | "))
    };
    let mut out = line(head);
    let _ = writeln!(out, "|---|{}", "---:|".repeat(head.len().saturating_sub(1)));
    for row in rows {
        match row {
            GridRow::Title(text) => {
                let blanks = " |".repeat(head.len().saturating_sub(1));
                let _ = writeln!(out, "| **{}** |{blanks}", escape(text));
            }
            GridRow::Cells(cells) => out += &line(cells),
        }
    }
    out.push('\n');
    out
}

/// Text in which back ticks are meant.
fn prose(text: &str) -> String {
    escape(&text.split_whitespace().collect::<Vec<_>>().join(" ")).replace("\\`", "`")
}

//! What the template lays out: texts alone, and for sorting the numbers behind them.

use serde::Serialize;

use super::{glossary, markdown};
use crate::figure::{PanelSize, Plot, PlotKind, slug};
use crate::manifest::Manifest;
use crate::quantity::count;
use crate::render::{sentence, svg};
use crate::report::Report;
use crate::settings::{self, Flat};
use crate::table::{self, RowKind, Section};
use crate::warning::Warning;

/// A name and its value.
type NameValue = (String, String);

#[derive(Debug, Serialize)]
pub struct HtmlPage {
    title: String,
    style: String,
    script: &'static str,
    reports: Vec<OneReport>,
    terms: Vec<(&'static str, &'static str)>,
    metrics: Vec<glossary::GlossaryEntry>,
}

#[derive(Debug, Serialize)]
struct OneReport {
    id: String,
    suite: String,
    description: String,
    subject: String,
    machine: String,
    alarms: Vec<String>,
    proven: String,
    sound: bool,
    failed: Option<String>,
    warnings: Vec<HtmlWarning>,
    analysis: String,
    sentences: Vec<String>,
    legend: Vec<String>,
    /// Tables over all comparisons.
    sections: Vec<Tables>,
    plots: Vec<HtmlPlot>,
    scaling: Vec<String>,
    comparisons: Vec<Compared>,
    settings: Vec<NameValue>,
    suite_text: String,
    host: Vec<NameValue>,
    parts_about: &'static str,
    parts_head: [&'static str; 6],
    parts: Vec<[String; 6]>,
    command: String,
    origin: Vec<NameValue>,
}

#[derive(Debug, Serialize)]
struct Compared {
    id: String,
    analysis: String,
    table: Grid,
    plots: Vec<HtmlPlot>,
    sections: Vec<Tables>,
    metrics: Grid,
    further: Vec<HtmlPlot>,
    shared: Vec<NameValue>,
    cells: Vec<HtmlCell>,
}

#[derive(Debug, Serialize)]
struct HtmlWarning {
    short: String,
    /// Where there is more to say.
    whole: Option<String>,
}

impl HtmlWarning {
    fn of(warning: &Warning) -> Self {
        let (short, whole) = (format!("{warning:#}"), warning.to_string());
        Self { whole: (whole != short).then_some(whole), short }
    }
}

#[derive(Debug, Serialize)]
struct HtmlCell {
    id: String,
    own: Vec<NameValue>,
}

/// Tables with a heading.
#[derive(Debug, Serialize)]
struct Tables {
    heading: &'static str,
    about: String,
    tables: Vec<Grid>,
}

#[derive(Debug, Serialize)]
struct Grid {
    id: String,
    title: String,
    head: String,
    columns: Vec<String>,
    /// Whether its columns hold things of one unit each.
    sortable: bool,
    rows: Vec<HtmlRow>,
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct HtmlRow {
    kind: &'static str,
    label: String,
    lines: Vec<String>,
    figures: Vec<Option<HtmlFigure>>,
    text: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
struct HtmlFigure {
    value: String,
    difference: Option<String>,
    spread: Option<String>,
    sort: f64,
}

#[derive(Debug, Serialize)]
struct HtmlPlot {
    id: String,
    kind: &'static str,
    title: String,
    caption: String,
    size: &'static str,
    legend: Vec<LegendEntry>,
    panels: Vec<String>,
}

#[derive(Debug, Serialize)]
struct LegendEntry {
    swatch: String,
    label: String,
}

impl HtmlPage {
    /// Of all reports, with what they share once.
    pub fn of(reports: &[Report]) -> Self {
        let suites: Vec<_> = reports.iter().map(|report| report.manifest.suite.as_str()).collect();
        Self {
            title: suites.join(", "),
            style: format!("{}{}", include_str!("report.css"), svg::STYLE),
            script: include_str!("sort.js"),
            reports: reports
                .iter()
                .enumerate()
                .map(|(n, report)| one(report, &format!("r{}", n + 1)))
                .collect(),
            terms: glossary::TERMS.to_vec(),
            metrics: glossary::metrics(),
        }
    }
}

fn one(report: &Report, id: &str) -> OneReport {
    let manifest = &report.manifest;
    let cells = manifest.comparisons.iter().flat_map(|plan| &plan.cells).map(|planned| &planned.cell);
    let everywhere = settings::shared(cells);
    OneReport {
        id: id.to_owned(),
        suite: manifest.suite.clone(),
        description: sentence(of_plan(manifest, "description")),
        subject: report.subject.clone(),
        machine: report.machine.clone(),
        alarms: report.verification.alarms.clone(),
        proven: sentence(&report.verification.proven),
        sound: report.sound(),
        failed: (report.failed_runs > 0).then(|| format!("{} failed", count(report.failed_runs, "run"))),
        warnings: report.warnings.iter().map(HtmlWarning::of).collect(),
        analysis: markdown(of_plan(manifest, "analysis")),
        sentences: report.sentences.clone(),
        legend: report.legend.iter().chain(&report.spreads).cloned().collect(),
        sections: sections(report, id, ""),
        plots: report.figures.suite.iter().map(|plot| drawn(plot, id)).collect(),
        scaling: report.scaling.clone(),
        comparisons: (0..report.tables.len()).filter_map(|n| compared(report, n, id, &everywhere)).collect(),
        settings: everywhere.into_iter().collect(),
        suite_text: manifest.suite_text.clone(),
        host: settings::host(&manifest.host).into_iter().collect(),
        parts_about: settings::PARTS,
        parts_head: settings::PART,
        parts: manifest.parts.iter().map(settings::part).collect(),
        command: manifest.command_line(),
        origin: origin(manifest),
    }
}

/// A text of the plan.
fn of_plan<'a>(manifest: &'a Manifest, name: &str) -> &'a str {
    manifest.plan.get(name).and_then(|text| text.as_str()).unwrap_or_default()
}

fn origin(manifest: &Manifest) -> Vec<NameValue> {
    let tool = &manifest.tool;
    let dirty = if tool.dirty == Some(true) { ", with uncommitted changes" } else { "" };
    let commit = tool.commit.as_ref().map(|commit| format!("{commit}{dirty}"));
    let pairs = [
        ("started", Some(manifest.started.clone())),
        ("migbench", Some(tool.version.clone())),
        ("commit", commit),
        ("seed", Some(manifest.seed.to_string())),
        ("timed repetitions of each cell", Some(manifest.repetitions.to_string())),
        ("planned runs", Some(manifest.planned_runs.to_string())),
        ("suite, BLAKE3", Some(manifest.suite_hash.clone())),
        ("plan", manifest.plan.get("hash").and_then(|hash| hash.as_str()).map(str::to_owned)),
    ];
    pairs.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

fn compared(report: &Report, n: usize, id: &str, everywhere: &Flat) -> Option<Compared> {
    let (table, plan) = (report.tables.get(n)?, report.manifest.comparisons.get(n)?);
    let plots = report.figures.comparisons.get(n).map(Vec::as_slice).unwrap_or_default();
    let draw = |further: bool| {
        plots.iter().filter(|p| (p.kind == PlotKind::FurtherBars) == further).map(|p| drawn(p, id)).collect()
    };
    // The number tells comparisons apart whose names read the same.
    let id = format!("{id}-{}-{}", n + 1, slug(&table.title));
    let (shared, cells) = settings::own(plan, everywhere);
    Some(Compared {
        // What the suite says of all comparisons stands above them.
        analysis: if table.analysis == of_plan(&report.manifest, "analysis") {
            String::new()
        } else {
            markdown(&table.analysis)
        },
        table: grid(table, &format!("{id}-table")),
        plots: draw(false),
        sections: sections(report, &id, &plan.name),
        metrics: report.metrics.get(n).map(|table| turned(table, &format!("{id}-metrics")))?,
        further: draw(true),
        shared: shared.into_iter().collect(),
        cells: cells
            .into_iter()
            .map(|(id, own)| HtmlCell { id: id.to_owned(), own: own.into_iter().collect() })
            .collect(),
        id,
    })
}

/// The tables of one comparison, or without a name those over all.
fn sections(report: &Report, id: &str, comparison: &str) -> Vec<Tables> {
    let of_section = |section: &Section| {
        let own = section.tables.iter().filter(|table| table.comparison == comparison);
        let tables: Vec<_> = own
            .enumerate()
            .map(|(n, table)| grid(table, &format!("{id}-{}-{}", section.name, n + 1)))
            .collect();
        (!tables.is_empty()).then(|| Tables {
            heading: section.heading,
            about: sentence(section.about),
            tables,
        })
    };
    report.sections.iter().filter_map(of_section).collect()
}

fn grid(table: &table::Table, id: &str) -> Grid {
    Grid {
        id: id.to_owned(),
        title: table.title.clone(),
        head: table.head.clone(),
        columns: table.columns.iter().map(|column| column.label.clone()).collect(),
        sortable: true,
        rows: table.rows.iter().map(row).collect(),
        notes: table.notes.iter().map(|note| sentence(note) + ".").collect(),
    }
}

/// A row for each column: there are dozens of metrics, and few cells.
fn turned(table: &table::Table, id: &str) -> Grid {
    let whole = grid(table, id);
    let rows = whole.columns.iter().enumerate().map(|(n, label)| HtmlRow {
        kind: "compared",
        label: label.clone(),
        lines: Vec::new(),
        figures: whole.rows.iter().map(|row| row.figures.get(n).cloned().flatten()).collect(),
        text: None,
    });
    let heads =
        whole.rows.iter().map(|row| [std::slice::from_ref(&row.label), &row.lines].concat().join(", "));
    Grid {
        head: "metric".to_owned(),
        sortable: false,
        columns: heads.collect(),
        rows: rows.collect(),
        ..whole
    }
}

fn row(row: &table::Row) -> HtmlRow {
    let label = match row.kind {
        RowKind::Control => format!("{} (control)", row.label),
        _ => row.label.clone(),
    };
    let lines = [&row.converged, &row.samples].into_iter().flatten().cloned().collect();
    let figures = row.figures.iter().map(|figure| figure.as_ref().map(self::figure)).collect();
    HtmlRow { kind: row.kind.word(), label, lines, figures, text: row.text.clone() }
}

fn figure(figure: &table::PrintedFigure) -> HtmlFigure {
    let spread = figure.difference_spread.as_ref().map(|text| format!("; {text}")).unwrap_or_default();
    HtmlFigure {
        value: figure.value.clone(),
        difference: figure.difference.as_ref().map(|text| format!("({text}{spread})")),
        spread: figure.spread.clone(),
        sort: figure.numbers.value,
    }
}

fn drawn(plot: &Plot, id: &str) -> HtmlPlot {
    let id = format!("{id}-{}", plot.id);
    HtmlPlot {
        kind: plot.kind.word(),
        title: plot.title.clone(),
        caption: plot.caption.clone(),
        size: match plot.size {
            PanelSize::Wide => "whole",
            PanelSize::Half => "half",
            PanelSize::Third => "third",
        },
        legend: svg::legend(plot).into_iter().map(|(swatch, label)| LegendEntry { swatch, label }).collect(),
        panels: svg::panels(plot, &id),
        id,
    }
}

//! A whole report: the model that every format renders, made from a run directory alone.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::cells;
use crate::figure::Figures;
use crate::manifest::Manifest;
use crate::measure::Tails;
use crate::quantity::{count, rate, size};
use crate::record::{Backend, Status};
use crate::render::{html, markdown, terminal};
use crate::scaling;
use crate::store::{Accept, RunData, StoreError};
use crate::table::{NOT_SIGNIFICANT, RowKind, Section, Table, comparison, metrics, section, sentence};
use crate::verification::Verification;
use crate::warning::{self, Warning};

/// With more comparisons than this, sentences stand with their tables.
const MOST_SENTENCES: usize = 6;

/// A report, ready to be rendered.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// What ran: suite, migrations, guest, link, repetitions.
    pub subject: String,
    /// On what: KVM, kernel, CPU.
    pub machine: String,
    /// What comparisons come to, in plain words; with many of them that stands among the notes of each table.
    pub sentences: Vec<String>,
    /// One per comparison, in the order of the plan.
    pub tables: Vec<Table>,
    /// Tables beside them, by what they are about.
    pub sections: Vec<Section>,
    /// Every metric of each comparison, for formats that programs read.
    pub metrics: Vec<Table>,
    /// Curves and bars of the same cells.
    pub figures: Figures,
    /// How to read the tables, as far as they need it.
    pub legend: Vec<String>,
    /// What stands below values, where there is anything.
    pub spreads: Option<String>,
    /// What trackers cost per GiB and per dirty page, where the suite varies both.
    pub scaling: Vec<String>,
    /// What was proven and what was not.
    pub verification: Verification,
    /// What weakens the figures.
    pub warnings: Vec<Warning>,
    /// Runs that failed, verification runs included.
    pub failed_runs: usize,
    /// Where the figures come from.
    pub path: PathBuf,
    /// The plan and the host behind them.
    pub manifest: Manifest,
}

impl Report {
    /// Of a run directory, complete or interrupted.
    ///
    /// # Errors
    /// Those of [`RunData::load`].
    pub fn load(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        Self::load_as(path, Accept::Guests)
    }

    /// The same, of simulated runs too where `accept` says so; the report says of them what they are.
    ///
    /// # Errors
    /// Those of [`RunData::load_as`].
    pub fn load_as(path: impl Into<PathBuf>, accept: Accept) -> Result<Self, StoreError> {
        RunData::load_as(path, accept).map(|data| Self::of(&data))
    }

    /// Of data that was read already.
    #[must_use]
    pub fn of(data: &RunData) -> Self {
        let (comparisons, unplanned) = cells::sort(&data.manifest, &data.records);
        let tails = Tails::of_each(&comparisons);
        let said: Vec<_> = comparisons.iter().map(sentence::all).collect();
        let all_said = comparisons.iter().zip(&said).all(|(one, said)| one.compared().count() == said.len());
        let mut tables: Vec<_> = comparisons
            .iter()
            .zip(&tails)
            .map(|(one, tails)| comparison::table(one, *tails, !all_said))
            .collect();
        let mut sentences = Vec::new();
        for ((comparison, said), table) in comparisons.iter().zip(said).zip(&mut tables) {
            // Above all tables a few are read, and many below the table that each is of.
            if comparisons.len() <= MOST_SENTENCES {
                sentences.extend(said.iter().map(|text| format!("{}: {text}", comparison.title)));
            } else {
                table.notes.splice(0..0, said);
            }
        }
        Self {
            subject: subject(data),
            machine: machine(&data.manifest),
            sentences,
            figures: Figures::of(&comparisons, &tails),
            legend: legend(&tables),
            spreads: spreads(&tables),
            scaling: scaling::sentences(&comparisons),
            sections: section::all(&comparisons, &tails),
            metrics: comparisons.iter().zip(&tails).map(|(one, tails)| metrics::table(one, *tails)).collect(),
            tables,
            verification: Verification::of(&comparisons, &data.records),
            warnings: warning::find(data, unplanned),
            failed_runs: data.records.iter().filter(|record| record.status == Status::Failed).count(),
            path: data.path.clone(),
            manifest: data.manifest.clone(),
        }
    }

    /// Whether every run ended and nothing that was to be proven is disproven or missing.
    #[must_use]
    pub const fn sound(&self) -> bool {
        self.failed_runs == 0 && self.verification.alarms.is_empty()
    }

    /// For a terminal of that many columns, without colour. A table that is too wide is cut into panels.
    #[must_use]
    pub fn terminal(&self, width: usize) -> String {
        terminal::render(self, width)
    }

    /// The same without the sections that take a page or more; it says where they are.
    #[must_use]
    pub fn brief(&self, width: usize) -> String {
        terminal::brief(self, width)
    }

    /// As Markdown, with the host, all settings and the command.
    #[must_use]
    pub fn markdown(&self) -> String {
        markdown::render(self)
    }

    /// As a page with figures that needs nothing but itself.
    #[must_use]
    pub fn html(&self) -> String {
        html::render(std::slice::from_ref(self))
    }
}

fn subject(data: &RunData) -> String {
    let cells = || data.manifest.comparisons.iter().flat_map(|comparison| &comparison.cells);
    let sizes: BTreeSet<_> = cells().map(|planned| planned.cell.memory.0).collect();
    let rates: BTreeSet<_> = cells().map(|planned| planned.cell.link.rate.map(|rate| rate.0)).collect();
    let guest = match Vec::from_iter(sizes).as_slice() {
        [] => "no guest".to_owned(),
        [one] => format!("a {} guest", size(*one)),
        [least, .., most] => format!("guests of {} to {}", size(*least), size(*most)),
    };
    let link = |link: &Option<u64>| link.map_or_else(|| "an unlimited link".to_owned(), rate);
    let links = match Vec::from_iter(rates).as_slice() {
        [] => "no link".to_owned(),
        [one] => link(one),
        // No limit sorts first and is the fastest.
        [None, least, ..] => format!("{} and more", link(least)),
        [least, .., most] => format!("{} to {}", link(least), link(most)),
    };
    if !cells().any(|planned| planned.cell.engine.migrates()) {
        let runs = count(data.records.len(), "run");
        return format!(
            "{}: {runs} of {guest}, median of {}",
            data.manifest.suite, data.manifest.repetitions
        );
    }
    let migrations = data.records.iter().filter(|record| record.cell.engine.migrates()).count();
    format!(
        "{}: {} of {guest} over {links}, median of {}",
        data.manifest.suite,
        count(migrations, "migration"),
        data.manifest.repetitions
    )
}

fn machine(manifest: &Manifest) -> String {
    if manifest.backend == Backend::Simulated {
        return "simulated, no guest ran".to_owned();
    }
    let host = &manifest.host;
    let kvm = host.kvm.as_ref().map_or("unknown", |kvm| kvm.backend.word());
    let kernel = host.kernel.as_deref().unwrap_or("unknown");
    let cores = host.cores().or(host.physical_cores).map(|cores| format!("{cores} x "));
    let cpu = host.cpu_model.as_deref().unwrap_or("unknown CPU");
    let hosts: BTreeSet<_> = manifest.parts.iter().map(|part| &part.host.hostname).collect();
    let hosts = if hosts.len() > 1 { format!(", {} such hosts", hosts.len()) } else { String::new() };
    format!("KVM {kvm}, Linux {kernel}, {}{cpu}{hosts}", cores.unwrap_or_default())
}

fn spreads(tables: &[Table]) -> Option<String> {
    let samples = |start: &str| {
        let mut rows = tables.iter().flat_map(|table| &table.rows);
        rows.any(|row| row.samples.as_ref().is_some_and(|samples| samples.starts_with(start)))
    };
    let known = [("range", "range: smallest and largest run"), ("95 %", "95 %: interval of the median")];
    let texts: Vec<_> = known.iter().filter(|(start, _)| samples(start)).map(|(_, text)| *text).collect();
    (!texts.is_empty()).then(|| format!("below a value: {}", texts.join("; ")))
}

fn legend(tables: &[Table]) -> Vec<String> {
    let rows = || tables.iter().flat_map(|table| &table.rows);
    let mut legend = Vec::new();
    let compared = rows().flat_map(|row| row.figures.iter().flatten()).any(|f| f.difference.is_some());
    if compared {
        legend.push(
            "differences are to the baseline, paired by repetition; the two numbers with one are its 95 % interval (under six \
             pairs its range)"
                .to_owned(),
        );
    }
    let tested = rows().flat_map(|row| row.figures.iter().flatten());
    let mut differences = tested.filter_map(|figure| figure.numbers.difference);
    if differences.any(|difference| difference.significant == Some(false)) {
        legend.push(format!(
            "{NOT_SIGNIFICANT} in place of a difference: what there is may be chance, at a level of 5 %; with fewer than six \
             pairs of runs every difference may be"
        ));
    }
    if rows().any(|row| row.kind == RowKind::Capped) {
        legend.push(
            "\u{2020} did not converge: a limit forced the switchover; these runs stay out of the other rows, \
             and a cell with such runs has no difference: its other runs were the lucky ones"
                .to_owned(),
        );
    }
    let is_tail = |name: &str| name.starts_with("write_response_") || name.starts_with("write_precopy_p");
    let columns = tables.iter().flat_map(|table| &table.columns);
    let tails: BTreeSet<&str> = columns.filter(|c| is_tail(&c.name)).map(|c| c.label.as_str()).collect();
    let (longest, quantiles): (Vec<&str>, Vec<&str>) =
        tails.into_iter().partition(|label| label.starts_with("longest"));
    if !quantiles.is_empty() {
        legend.push(format!(
            "{}: one value of each run; the highest quantile for which every run of the tables has 10 / (1 - q) writes",
            quantiles.join(", ")
        ));
    }
    if !longest.is_empty() {
        legend.push(format!(
            "{}: one value of each run; some run has too few writes for a quantile",
            longest.join(", ")
        ));
    }
    let tail_missing = tables.iter().any(|table| {
        let Some(tail) = table.columns.iter().position(|column| column.name.starts_with("write_response"))
        else {
            return false;
        };
        table.rows.iter().any(|row| {
            let of = |index: usize| row.figures.get(index).is_some_and(Option::is_some);
            matches!(row.kind, RowKind::Baseline | RowKind::Compared) && of(0) && !of(tail)
        })
    });
    if tail_missing {
        legend.push("no write response: these guests have no schedule from which it could count, or wrote nothing meanwhile".to_owned());
    }
    legend
}

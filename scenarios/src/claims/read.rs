//! From the tree of a TOML document to [`Claims`]. Every table is checked against its list of keys, every name against
//! what it names.

use std::path::Path;

use super::{
    CLAIM_KEYS, CLAIMS_KEYS, Claim, ClaimTest, ClaimedSuite, Claims, Dimension, Publication, Published,
    REFERENCE_KEYS, SENSITIVITY_KEYS, SensitivitySuite, SuiteCommand, TableKey, UNKNOWN_KEYS, Unknown,
};
use crate::document::{self, Field, PlacedValue};
use crate::error::{Problem, SuiteError, listed, nearest};
use crate::key;
use crate::place::Place;
use crate::plan::Plan;
use crate::shipped::SHIPPED;
use crate::suite::Suite;

/// A table that is being read.
struct TomlTable<'a> {
    /// As messages name it.
    name: &'static str,
    place: &'a Place,
    fields: &'a [Field],
    keys: &'static [TableKey],
}

impl<'a> TomlTable<'a> {
    fn new(
        name: &'static str,
        place: &'a Place,
        fields: &'a [Field],
        keys: &'static [TableKey],
    ) -> Result<Self, SuiteError> {
        let names = keys.iter().map(|(name, ..)| *name);
        for field in fields {
            if !names.clone().any(|name| name == field.key) {
                let nearest = nearest(&field.key, names.clone());
                let problem = Problem::UnknownKey { key: field.key.clone(), table: name.to_owned(), nearest };
                return Err(SuiteError::new(&field.place, problem));
            }
        }
        let table = Self { name, place, fields, keys };
        for (key, required, _) in keys {
            if *required && table.get(key).is_none() {
                return Err(table.missing(key));
            }
        }
        Ok(table)
    }

    fn of(name: &'static str, node: &'a PlacedValue, keys: &'static [TableKey]) -> Result<Self, SuiteError> {
        Self::new(name, &node.place, node.table(name, "a table")?, keys)
    }

    fn missing(&self, key: &str) -> SuiteError {
        let (key, _, about) =
            self.keys.iter().find(|(name, ..)| *name == key).copied().unwrap_or(("?", true, ""));
        SuiteError::new(self.place, Problem::MissingKey { key, table: self.name.to_owned(), about })
    }

    fn get(&self, key: &str) -> Option<&'a PlacedValue> {
        self.fields.iter().find(|field| field.key == key).map(|field| &field.node)
    }

    fn node(&self, key: &str) -> Result<&'a PlacedValue, SuiteError> {
        self.get(key).ok_or_else(|| self.missing(key))
    }

    fn optional(&self, key: &str) -> Result<Option<&'a str>, SuiteError> {
        self.get(key).map(|node| node.text(key, "text")).transpose()
    }

    fn text(&self, key: &str) -> Result<String, SuiteError> {
        let node = self.node(key)?;
        let text = node.text(key, "text")?.trim();
        if text.is_empty() {
            return Err(SuiteError::empty(&node.place, format!("`{key}` is empty; say it, or leave it out")));
        }
        Ok(text.to_owned())
    }

    fn prose(&self, key: &str) -> Result<String, SuiteError> {
        Ok(self.optional(key)?.unwrap_or_default().trim().to_owned())
    }

    fn list(&self, key: &str) -> Result<&'a [PlacedValue], SuiteError> {
        let node = self.node(key)?;
        let list = node.list(key, &format!("tables, written [[{key}]]"))?;
        if list.is_empty() {
            return Err(SuiteError::empty(&node.place, format!("`{key}` has no entry")));
        }
        Ok(list)
    }
}

/// The suites that commands name, loaded as they are met.
struct Suites<'a> {
    directory: &'a Path,
    met: Vec<ClaimedSuite>,
}

impl Suites<'_> {
    fn command(&mut self, node: &PlacedValue) -> Result<SuiteCommand, SuiteError> {
        let line = node.text("command", "text")?;
        // Told apart as `migbench run` does it; a path is relative to the claims.
        let resolve = |suite: &str| match suite.ends_with(".toml") || suite.contains('/') {
            true => self.directory.join(suite).display().to_string(),
            false => suite.to_owned(),
        };
        let command = SuiteCommand::parse(line, resolve).map_err(|what| {
            SuiteError::new(&node.place, Problem::Contradiction { cell: "`command`: ".to_owned(), what })
        })?;
        if !self.met.iter().any(|suite| suite.reference == command.suite) {
            self.met.push(load(&command)?);
        }
        Ok(command)
    }

    /// The plan of a command, without what it filters.
    fn plan(&self, command: &SuiteCommand, place: &Place) -> Result<&Plan, SuiteError> {
        let met = self.met.iter().find(|suite| suite.reference == command.suite);
        met.map(|suite| &suite.plan)
            .ok_or_else(|| SuiteError::empty(place, format!("no suite {}", command.suite)))
    }
}

fn load(command: &SuiteCommand) -> Result<ClaimedSuite, SuiteError> {
    let reference = command.suite.as_str();
    let plan = Suite::find(reference)?.expand()?;
    let text = match SHIPPED.iter().find(|(name, _)| *name == reference) {
        Some((_, text)) => (*text).to_owned(),
        None => std::fs::read_to_string(reference).map_err(|error| {
            SuiteError::new(&Place::file(reference, ""), Problem::Unreadable(error.to_string()))
        })?,
    };
    Ok(ClaimedSuite { reference: reference.to_owned(), named: command.named.clone(), text, plan })
}

pub(super) fn claims(
    text: &str,
    origin: &str,
    directory: &Path,
    metrics: &[(&str, &str)],
) -> Result<Claims, SuiteError> {
    let place = Place::file(origin, text);
    let fields = document::read(text, &place)?;
    let table = TomlTable::new("the file", &place, &fields, CLAIMS_KEYS)?;
    let mut suites = Suites { directory, met: Vec::new() };
    let mut claims: Vec<Claim> = Vec::new();
    for node in table.list("claim")? {
        let claim = claim(node, &mut suites, metrics)?;
        if claims.iter().any(|other| other.id == claim.id) {
            return Err(SuiteError::duplicate(
                &node.place,
                format!("a second claim has the id {}; give it one of its own", claim.id),
            ));
        }
        claims.push(claim);
    }
    let sensitivity =
        table.get("sensitivity").map(|node| sensitivity(node, &mut suites, &claims)).transpose()?;
    Ok(Claims {
        name: word(&table, "name")?,
        description: table.text("description")?,
        time: table.text("time")?,
        disk: table.text("disk")?,
        caution: table.prose("caution")?,
        choice: table.text("choice")?,
        reference: reference(table.node("reference")?)?,
        unknowns: table.list("unknown")?.iter().map(unknown).collect::<Result<_, _>>()?,
        claims,
        sensitivity,
        suites: suites.met,
        text: text.to_owned(),
    })
}

/// Text that can stand in a path.
fn word(table: &TomlTable<'_>, key: &str) -> Result<String, SuiteError> {
    let text = table.text(key)?;
    if text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) && !text.starts_with('.') {
        return Ok(text);
    }
    let allowed =
        "a word of letters, digits, `-`, `_` and `.` is needed, since paths and commands are made of it";
    let problem = Problem::OutOfRange { key: key.to_owned(), value: text, allowed: allowed.to_owned() };
    Err(SuiteError::new(&table.node(key)?.place, problem))
}

fn reference(node: &PlacedValue) -> Result<Publication, SuiteError> {
    let table = TomlTable::of("[reference]", node, REFERENCE_KEYS)?;
    Ok(Publication {
        authors: table.text("authors")?,
        title: table.text("title")?,
        published: table.text("published")?,
        doi: table.optional("doi")?.map(str::to_owned),
        url: table.optional("url")?.map(str::to_owned),
    })
}

fn unknown(node: &PlacedValue) -> Result<Unknown, SuiteError> {
    let table = TomlTable::of("[[unknown]]", node, UNKNOWN_KEYS)?;
    let mut keys = Vec::new();
    let list = table.get("keys").map(|node| node.list("keys", "a list of keys of a cell")).transpose()?;
    for node in list.into_iter().flatten() {
        let text = node.text("keys", "keys of a cell as text")?;
        if key::find(text).is_none() && !key::is_group(text) {
            let nearest = key::nearest_key(text, "", &[]);
            let problem =
                Problem::UnknownKey { key: text.to_owned(), table: "the keys of cells".to_owned(), nearest };
            return Err(SuiteError::new(&node.place, problem));
        }
        keys.push(text.to_owned());
    }
    Ok(Unknown { what: table.text("what")?, chosen: table.text("chosen")?, why: table.text("why")?, keys })
}

fn claim(node: &PlacedValue, suites: &mut Suites<'_>, metrics: &[(&str, &str)]) -> Result<Claim, SuiteError> {
    let table = TomlTable::of("[[claim]]", node, CLAIM_KEYS)?;
    let command = suites.command(table.node("command")?)?;
    let row = table.optional("row")?.map(str::to_owned);
    let claim = Claim {
        id: word(&table, "id")?,
        text: table.text("text")?,
        source: table.text("where")?,
        test: test(&table, metrics)?,
        comparison: table.text("comparison")?,
        row,
        time: table.text("time")?,
        disk: table.text("disk")?,
        note: table.prose("note")?,
        command,
    };
    if claim.row.is_none() && !matches!(claim.test, ClaimTest::Value { .. }) {
        return Err(table.missing("row"));
    }
    let plan = suites.plan(&claim.command, &node.place)?;
    rows(&table, plan, &claim.comparison, claim.row.as_deref(), "comparison")?;
    covered(&table, &claim)?;
    Ok(claim)
}

fn test(table: &TomlTable<'_>, metrics: &[(&str, &str)]) -> Result<ClaimTest, SuiteError> {
    const KINDS: [&str; 3] = ["reduction", "value", "convergence"];
    let kind = table.text("kind")?;
    if !KINDS.contains(&kind.as_str()) {
        return Err(unknown_word(table.node("kind")?, "kind", &kind, KINDS));
    }
    let useless = |key: &str, why: &str| match table.get(key) {
        Some(node) => {
            let what = format!("`{key}` has no meaning for kind {kind}: {why}");
            Err(SuiteError::new(&node.place, Problem::Contradiction { cell: String::new(), what }))
        }
        None => Ok(()),
    };
    let node = table.node("published")?;
    let text = node.text("published", "text")?;
    if kind == "convergence" {
        useless("metric", "it is about how runs end")?;
        useless("capped", "it is about how runs end")?;
        return match text {
            "converges" => Ok(ClaimTest::Convergence { published: true }),
            "does not converge" => Ok(ClaimTest::Convergence { published: false }),
            _ => Err(unknown_word(node, "published", text, ["converges", "does not converge"])),
        };
    }
    let metric = table.text("metric")?;
    let names = metrics.iter().map(|(name, _)| *name);
    let Some((_, unit)) = metrics.iter().find(|(name, _)| *name == metric) else {
        return Err(unknown_word(table.node("metric")?, "metric", &metric, names));
    };
    let dimension = if kind == "reduction" { Some(Dimension::Share) } else { Dimension::of(unit) };
    let Some(dimension) = dimension else {
        let what = format!("`metric`: figures in {unit} cannot be written in a claim");
        let problem = Problem::Contradiction { cell: String::new(), what };
        return Err(SuiteError::new(&table.node("metric")?.place, problem));
    };
    let expected = format!("a figure with its unit, such as {}", dimension.example());
    let published =
        Published::parse(text, dimension).ok_or_else(|| node.wrong_type("published", &expected))?;
    if kind == "reduction" {
        useless("capped", "reductions are taken of runs that converged")?;
        return Ok(ClaimTest::Reduction { metric, published });
    }
    let capped = table.get("capped").map_or(Ok(false), |node| node.boolean("capped"))?;
    Ok(ClaimTest::Value { metric, published, capped })
}

fn sensitivity(
    node: &PlacedValue,
    suites: &mut Suites<'_>,
    claims: &[Claim],
) -> Result<SensitivitySuite, SuiteError> {
    let table = TomlTable::of("[sensitivity]", node, SENSITIVITY_KEYS)?;
    if !claims.iter().any(|claim| matches!(claim.test, ClaimTest::Reduction { .. })) {
        let what = "without a claim of kind reduction there is nothing to lay beside it".to_owned();
        return Err(SuiteError::no_match(&node.place, what));
    }
    let sensitivity = SensitivitySuite {
        command: suites.command(table.node("command")?)?,
        base: table.text("base")?,
        row: table.text("row")?,
        time: table.text("time")?,
        disk: table.text("disk")?,
    };
    let plan = suites.plan(&sensitivity.command, &node.place)?;
    rows(&table, plan, &sensitivity.base, Some(&sensitivity.row), "base")?;
    Ok(sensitivity)
}

/// Refuses a comparison, or a row of it, that the plan lacks.
fn rows(
    table: &TomlTable<'_>,
    plan: &Plan,
    comparison: &str,
    row: Option<&str>,
    key: &str,
) -> Result<(), SuiteError> {
    let names = plan.comparisons.iter().map(|comparison| comparison.name.as_str());
    let Some(found) = plan.comparisons.iter().find(|found| found.name == comparison) else {
        return Err(unknown_word(table.node(key)?, key, comparison, names));
    };
    let labels = found.cells.iter().map(|cell| cell.label.as_str());
    match row {
        Some(row) if !labels.clone().any(|label| label == row) => {
            Err(unknown_word(table.node("row")?, "row", row, labels))
        }
        _ => Ok(()),
    }
}

/// Refuses a command that would not run what its claim is about.
fn covered(table: &TomlTable<'_>, claim: &Claim) -> Result<(), SuiteError> {
    let node = table.node("command")?;
    let mut suite = Suite::find(&claim.command.suite)?;
    let cell = "`command`: ".to_owned();
    let refused =
        |what: String| SuiteError::new(&node.place, Problem::Contradiction { cell: cell.clone(), what });
    suite.apply(&claim.command.overrides()).map_err(|error| refused(error.problem().to_string()))?;
    let plan = suite.expand().map_err(|error| refused(error.problem().to_string()))?;
    let found = plan.comparisons.iter().find(|comparison| comparison.name == claim.comparison);
    let row = |label: &str| found.is_some_and(|found| found.cells.iter().any(|cell| cell.label == label));
    let baseline = found.and_then(|found| found.baseline);
    let covers = match (&claim.test, &claim.row) {
        (ClaimTest::Reduction { .. }, Some(label)) => row(label) && baseline.is_some(),
        (_, Some(label)) => row(label),
        (_, None) => found.is_some(),
    };
    if covers {
        return Ok(());
    }
    Err(refused(format!(
        "its filter leaves out what `{}` is about; --filter '^{}/' keeps it",
        claim.id, claim.comparison
    )))
}

fn unknown_word<'k>(
    node: &PlacedValue,
    key: &str,
    word: &str,
    known: impl IntoIterator<Item = &'k str> + Clone,
) -> SuiteError {
    let problem = Problem::UnknownWord {
        key: key.to_owned(),
        word: word.to_owned(),
        nearest: nearest(word, known.clone()),
        known: listed(known),
    };
    SuiteError::new(&node.place, problem)
}

//! A suite's text as a tree in which every key and value knows its place. TOML goes in; what comes out is the
//! same whether a value stood in a file or on the command line, so that both are read by one set of rules.

use std::ops::Range;

use toml_edit::{Item, TableLike, Value};

use crate::error::{Problem, SuiteError};
use crate::place::Place;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PlacedValue {
    pub place: Place,
    pub data: Data,
}

/// A key, its value, and where the key stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field {
    pub key: String,
    pub place: Place,
    pub node: PlacedValue,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Data {
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    /// A date or time, which no key takes.
    Date,
    List(Vec<PlacedValue>),
    Table(Vec<Field>),
    /// From the command line: the key decides what it is.
    Bare(String),
}

impl PlacedValue {
    /// What stands here, for the sentence "takes x, not ...".
    pub fn found(&self) -> String {
        match &self.data {
            Data::Text(text) => format!("the text \"{text}\""),
            Data::Integer(number) => format!("the number {number}"),
            Data::Float(number) => format!("the number {number}"),
            Data::Boolean(value) => format!("{value}"),
            Data::Date => "a date".to_owned(),
            Data::List(_) => "a list".to_owned(),
            Data::Table(_) => "a table".to_owned(),
            Data::Bare(text) => format!("`{text}`"),
        }
    }

    pub fn wrong_type(&self, key: &str, expected: &str) -> SuiteError {
        SuiteError::new(
            &self.place,
            Problem::WrongType { key: key.to_owned(), expected: expected.to_owned(), found: self.found() },
        )
    }

    pub fn text(&self, key: &str, expected: &str) -> Result<&str, SuiteError> {
        match &self.data {
            Data::Text(text) | Data::Bare(text) => Ok(text),
            _ => Err(self.wrong_type(key, expected)),
        }
    }

    pub fn boolean(&self, key: &str) -> Result<bool, SuiteError> {
        match &self.data {
            Data::Boolean(value) => Ok(*value),
            Data::Bare(text) if text == "true" => Ok(true),
            Data::Bare(text) if text == "false" => Ok(false),
            _ => Err(self.wrong_type(key, "true or false")),
        }
    }

    pub fn list(&self, key: &str, expected: &str) -> Result<&[PlacedValue], SuiteError> {
        match &self.data {
            Data::List(nodes) => Ok(nodes),
            _ => Err(self.wrong_type(key, expected)),
        }
    }

    pub fn table(&self, key: &str, expected: &str) -> Result<&[Field], SuiteError> {
        match &self.data {
            Data::Table(fields) => Ok(fields),
            _ => Err(self.wrong_type(key, expected)),
        }
    }
}

/// Reads TOML.
pub(crate) fn read(text: &str, whole: &Place) -> Result<Vec<Field>, SuiteError> {
    let document = toml_edit::Document::parse(text).map_err(|error| {
        // Later lines repeat the place, which the error shows in its own way.
        let message = error.message().trim().replace('\n', "; ");
        SuiteError::new(&whole.at(error.span()), Problem::Syntax(message))
    })?;
    Ok(fields(document.as_table(), whole))
}

fn fields(table: &dyn TableLike, around: &Place) -> Vec<Field> {
    table
        .iter()
        .filter_map(|(name, _)| table.get_key_value(name))
        .map(|(key, item)| {
            let place = around.at(key.span().or_else(|| item.span()));
            Field { key: key.get().to_owned(), node: from_item(item, &place), place }
        })
        .collect()
}

fn node(place: &Place, span: Option<Range<usize>>, data: impl FnOnce(&Place) -> Data) -> PlacedValue {
    let place = place.at(span);
    PlacedValue { data: data(&place), place }
}

fn from_item(item: &Item, around: &Place) -> PlacedValue {
    match item {
        Item::Value(value) => from_value(value, around),
        Item::Table(table) => node(around, table.span(), |place| Data::Table(fields(table, place))),
        Item::ArrayOfTables(tables) => node(around, tables.span(), |place| {
            let one = |table: &toml_edit::Table| {
                node(place, table.span(), |place| Data::Table(fields(table, place)))
            };
            Data::List(tables.iter().map(one).collect())
        }),
        Item::None => node(around, None, |_| Data::Table(Vec::new())),
    }
}

fn from_value(value: &Value, around: &Place) -> PlacedValue {
    node(around, value.span(), |place| match value {
        Value::String(text) => Data::Text(text.value().clone()),
        Value::Integer(number) => Data::Integer(*number.value()),
        Value::Float(number) => Data::Float(*number.value()),
        Value::Boolean(truth) => Data::Boolean(*truth.value()),
        Value::Datetime(_) => Data::Date,
        Value::Array(array) => Data::List(array.iter().map(|value| from_value(value, place)).collect()),
        Value::InlineTable(table) => Data::Table(fields(table, place)),
    })
}

//! Filters on the rows of a table.

use serde::Deserialize;

use crate::cli::table::{
    ColumnPath, RowFault, TableCell, TableColumns, TableRow, parse_money, parse_number,
};

/// A condition as written: a column and exactly one test.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConditionFile {
    column: String,
    equals: Option<ScalarList>,
    not: Option<ScalarList>,
    prefix: Option<ScalarList>,
    not_prefix: Option<ScalarList>,
    above: Option<f64>,
    below: Option<f64>,
    empty: Option<bool>,
}

/// One value or several.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum ScalarList {
    One(Scalar),
    Several(Vec<Scalar>),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Scalar {
    Bool(bool),
    Integer(i64),
    Number(f64),
    Text(String),
}

/// A condition on the cell of one column.
#[derive(Debug, Clone)]
pub(super) struct RowCondition {
    column: ColumnPath,
    test: CellTest,
    /// As in the mapping, for messages.
    pub(super) description: String,
}

#[derive(Debug, Clone)]
enum CellTest {
    Equals(Vec<String>),
    Not(Vec<String>),
    Prefix(Vec<String>),
    NotPrefix(Vec<String>),
    Above(f64),
    Below(f64),
    Empty(bool),
}

impl ScalarList {
    fn texts(&self) -> Vec<String> {
        match self {
            Self::One(scalar) => vec![scalar.text()],
            Self::Several(scalars) => scalars.iter().map(Scalar::text).collect(),
        }
    }
}

impl Scalar {
    fn text(&self) -> String {
        match self {
            Self::Bool(value) => value.to_string(),
            Self::Integer(number) => number.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.trim().to_owned(),
        }
    }
}

impl ConditionFile {
    pub(super) fn bind(&self, columns: &TableColumns) -> Result<RowCondition, String> {
        let tests = [
            self.equals.as_ref().map(|values| CellTest::Equals(values.texts())),
            self.not.as_ref().map(|values| CellTest::Not(values.texts())),
            self.prefix.as_ref().map(|values| CellTest::Prefix(values.texts())),
            self.not_prefix.as_ref().map(|values| CellTest::NotPrefix(values.texts())),
            self.above.map(CellTest::Above),
            self.below.map(CellTest::Below),
            self.empty.map(CellTest::Empty),
        ];
        let mut tests = tests.into_iter().flatten();
        let (Some(test), None) = (tests.next(), tests.next()) else {
            return Err("must have one of `equals`, `not`, `prefix`, `not_prefix`, `above`, \
                        `below`, `empty`"
                .to_owned());
        };
        let column = columns.find(&self.column)?;
        let description = format!("{} {test}", self.column);
        Ok(RowCondition { column, test, description })
    }
}

impl RowCondition {
    /// Whether the row meets the condition. An empty cell has no prefix, and is neither above
    /// nor below a number.
    pub(super) fn is_met(&self, row: &TableRow<'_>, decimal: char) -> Result<bool, RowFault> {
        let cell = self.column.read(row);
        let text = cell.text().unwrap_or_default();
        Ok(match &self.test {
            CellTest::Equals(values) => values.iter().any(|value| *value == text),
            CellTest::Not(values) => values.iter().all(|value| *value != text),
            CellTest::Prefix(values) => values.iter().any(|value| text.starts_with(value)),
            CellTest::NotPrefix(values) => !values.iter().any(|value| text.starts_with(value)),
            CellTest::Empty(empty) => matches!(cell, TableCell::Missing) == *empty,
            CellTest::Above(limit) => {
                self.number(row, &cell, decimal)?.is_some_and(|number| number > *limit)
            }
            CellTest::Below(limit) => {
                self.number(row, &cell, decimal)?.is_some_and(|number| number < *limit)
            }
        })
    }

    fn number(
        &self,
        row: &TableRow<'_>,
        cell: &TableCell<'_>,
        decimal: char,
    ) -> Result<Option<f64>, RowFault> {
        let number = match cell {
            TableCell::Missing => return Ok(None),
            // As a property of the type money would read it.
            TableCell::Text(text) => parse_number(text, decimal)
                .or_else(|reason| parse_money(text, decimal).map_err(|_| reason)),
            other => parse_number(&other.text().unwrap_or_default(), '.'),
        };
        number.map(Some).map_err(|reason| {
            let text = cell.text().unwrap_or_default();
            RowFault::of_cell(row.line, &self.column.name, &text, reason)
        })
    }
}

impl std::fmt::Display for CellTest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Equals(values) => write!(f, "equals {values:?}"),
            Self::Not(values) => write!(f, "not {values:?}"),
            Self::Prefix(values) => write!(f, "prefix {values:?}"),
            Self::NotPrefix(values) => write!(f, "not_prefix {values:?}"),
            Self::Above(limit) => write!(f, "above {limit}"),
            Self::Below(limit) => write!(f, "below {limit}"),
            Self::Empty(empty) => write!(f, "empty = {empty}"),
        }
    }
}

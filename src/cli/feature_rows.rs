//! Feature rows from tables, one column per feature.

use std::collections::HashSet;
use std::path::Path;

use anyhow::Context;
use indicatif::ProgressBar;

use crate::cli::table::{
    RowStatus, TableCell, TableReader, TableRow, TableSettings, TableSource, parse_number,
};
use crate::domain::fault::{ValidationFault, ValidationFaults};
use crate::domain::feature::{
    FeatureRow, FeatureSet, FeatureValue, MAX_TEXT_BYTES, ValueBounds, ValueType,
};
use crate::domain::nearest::nearest_name;

/// The only column that is not a feature: it sorts the rows in the order of stored
/// customers.
const CUSTOMER: &str = "customer_id";
/// Limit of reported problems: enough to diagnose a file.
const MAX_FAULTS: usize = 20;

/// Reads the rows: by customer id in byte order if the tables have that column, else in table
/// order. On failure returns the problems, up to [`MAX_FAULTS`], with their lines (row numbers
/// in Parquet).
pub(super) fn read(
    patterns: &[String],
    settings: &TableSettings,
    features: &FeatureSet,
) -> anyhow::Result<Vec<FeatureRow>> {
    let sources = TableSource::find(patterns)?;
    let mut rows = FeatureRowReader::new(features, settings.decimal_mark());
    let has_customers = sources
        .iter()
        .map(|source| {
            read_table(source, settings, &mut rows).with_context(|| format!("in {}", source.path()))
        })
        .collect::<anyhow::Result<HashSet<bool>>>()?;
    anyhow::ensure!(
        has_customers.len() == 1,
        "either all tables or none must have the column `{CUSTOMER}`"
    );
    Ok(rows.finish())
}

/// Adds the rows of a table; returns whether it has customer ids.
fn read_table(
    source: &TableSource,
    settings: &TableSettings,
    rows: &mut FeatureRowReader<'_>,
) -> anyhow::Result<bool> {
    let mut reader = TableReader::open(source, settings, &ProgressBar::hidden())?;
    let names = reader.columns().names.iter().map(String::as_str);
    let columns = FeatureColumns::find(names, rows.features, OtherColumns::Refused)?;
    loop {
        let status = reader.advance()?;
        for notice in reader.take_notices() {
            eprintln!("{}: {notice}", source.path());
        }
        match status {
            RowStatus::Row => rows.add(&reader.row(), &columns)?,
            RowStatus::Faulty(fault) => {
                let path = fault.column.clone().unwrap_or_else(|| "row".to_owned());
                let line = usize::try_from(fault.line)?;
                rows.fault(ValidationFault::at_line(line, path, fault.to_string()))?;
            }
            RowStatus::End => break,
        }
    }
    std::mem::take(&mut rows.faults).into_result(columns.customer.is_some()).map_err(Into::into)
}

/// Reads the settings of the tables: the `[table]` section of a mapping, as a file.
pub(super) fn settings(path: Option<&Path>) -> anyhow::Result<TableSettings> {
    let Some(path) = path else { return Ok(TableSettings::default()) };
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
    let settings: TableSettings = toml::from_str(&text).with_context(|| format!("in {shown}"))?;
    let mut faults = ValidationFaults::default();
    settings.validate(&mut faults);
    faults.into_result(settings).with_context(|| format!("in {shown}"))
}

/// Column indices of a table.
pub(super) struct FeatureColumns {
    customer: Option<usize>,
    /// By feature.
    features: Vec<usize>,
}

/// What becomes of columns that are neither a feature nor the customer id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OtherColumns {
    Refused,
    Ignored,
}

impl FeatureColumns {
    /// The columns of all features by name; every feature needs one.
    pub(super) fn find<'n>(
        names: impl Iterator<Item = &'n str>,
        features: &FeatureSet,
        others: OtherColumns,
    ) -> Result<Self, ValidationFaults> {
        let mut faults = ValidationFaults::default();
        let mut customer = None;
        let mut found: Vec<Option<usize>> = vec![None; features.features().len()];
        for (column, name) in names.enumerate() {
            let slot = match features.index_of(name) {
                Some(feature) => &mut found[feature],
                None if name == CUSTOMER => &mut customer,
                None => {
                    if others == OtherColumns::Refused {
                        faults.push(ValidationFault::new(name, unknown(name, features)));
                    }
                    continue;
                }
            };
            if slot.replace(column).is_some() {
                faults
                    .push(ValidationFault::new(name, "occurs twice: column names must be unique"));
            }
        }
        for (def, column) in features.features().iter().zip(&found) {
            if column.is_none() {
                let problem = "has no column; every feature needs one (leave cells empty if the value is missing)";
                faults.push(ValidationFault::new(&*def.name, problem));
            }
        }
        faults.into_result(Self { customer, features: found.into_iter().flatten().collect() })
    }
}

fn unknown(name: &str, features: &FeatureSet) -> String {
    let known = features.features().iter().map(|def| &*def.name).chain([CUSTOMER]);
    let advice =
        nearest_name(name, known).map_or_else(String::new, |meant| format!("; `{meant}`?"));
    format!("is neither a feature of this set nor `{CUSTOMER}`{advice}")
}

/// The rows read so far, and their problems.
struct FeatureRowReader<'a> {
    features: &'a FeatureSet,
    decimal: char,
    /// With the customer id, if the tables have that column.
    read: Vec<(Box<str>, FeatureRow)>,
    customers: HashSet<Box<str>>,
    faults: ValidationFaults,
}

impl<'a> FeatureRowReader<'a> {
    fn new(features: &'a FeatureSet, decimal: char) -> Self {
        let (read, customers) = (Vec::new(), HashSet::new());
        Self { features, decimal, read, customers, faults: ValidationFaults::default() }
    }

    /// Adds a row; fails once the limit of problems is reached.
    fn add(&mut self, row: &TableRow<'_>, columns: &FeatureColumns) -> anyhow::Result<()> {
        let line = usize::try_from(row.line)?;
        let features = read_features(row, columns, self.features, self.decimal);
        let features = match features {
            Ok(features) => features,
            Err(faults) => {
                for fault in faults.0 {
                    self.fault(fault)?;
                }
                FeatureRow(Vec::new())
            }
        };
        let mut customer: Box<str> = Box::default();
        if let Some(column) = columns.customer {
            match self.customer_id(&row.cell(column)) {
                Ok(id) => customer = id,
                Err(problem) => self.fault(ValidationFault::at_line(line, CUSTOMER, problem))?,
            }
        }
        self.read.push((customer, features));
        Ok(())
    }

    /// Adds a problem; fails once the limit is reached.
    fn fault(&mut self, fault: ValidationFault) -> Result<(), ValidationFaults> {
        self.faults.push(fault);
        if self.faults.0.len() >= MAX_FAULTS {
            return Err(std::mem::take(&mut self.faults));
        }
        Ok(())
    }

    fn customer_id(&mut self, cell: &TableCell<'_>) -> Result<Box<str>, String> {
        let Some(text) = cell.text() else { return Err("is empty".to_owned()) };
        if matches!(cell, TableCell::Json(_)) {
            return Err("is not text".to_owned());
        }
        if let Some(reason) = cell.lost_digits() {
            return Err(format!("{reason}: {text}"));
        }
        let id: Box<str> = text.as_ref().into();
        if !self.customers.insert(id.clone()) {
            return Err(format!("`{text}` occurs twice"));
        }
        Ok(id)
    }

    fn finish(mut self) -> Vec<FeatureRow> {
        // A stable sort: without customer ids the table order remains.
        self.read.sort_by(|(one, _), (other, _)| one.cmp(other));
        self.read.into_iter().map(|(_, row)| row).collect()
    }
}

/// The features of one row of a table, or every problem with its line.
pub(super) fn read_features(
    row: &TableRow<'_>,
    columns: &FeatureColumns,
    features: &FeatureSet,
    decimal: char,
) -> Result<FeatureRow, ValidationFaults> {
    let mut faults = ValidationFaults::default();
    let mut values = Vec::with_capacity(columns.features.len());
    for (feature, column) in columns.features.iter().enumerate() {
        let kind = features.value_type_at(feature);
        let bounds = features.bounds_at(feature);
        let value = feature_value(kind, &row.cell(*column), decimal);
        match value.and_then(|value| within_bounds(value, bounds)) {
            Ok(value) => values.push(value),
            Err(problem) => {
                let name = &*features.features()[feature].name;
                let line = usize::try_from(row.line).unwrap_or(usize::MAX);
                faults.push(ValidationFault::at_line(line, name, problem));
            }
        }
    }
    faults.into_result(FeatureRow(values))
}

/// The value, unless the feature cannot have it.
fn within_bounds(value: FeatureValue, bounds: ValueBounds) -> Result<FeatureValue, String> {
    match value {
        FeatureValue::Number(number) => bounds.problem(number).map_or(Ok(value), Err),
        value => Ok(value),
    }
}

/// Converts a cell to a feature value; the error names the expected form.
fn feature_value(
    kind: ValueType,
    cell: &TableCell<'_>,
    decimal: char,
) -> Result<FeatureValue, String> {
    match (kind, cell) {
        (_, TableCell::Missing) => Ok(FeatureValue::Missing),
        (_, TableCell::Json(_)) => Err("must be a number or text".to_owned()),
        (ValueType::Number, cell) => {
            let number = cell_number(cell, decimal).map_err(|reason| match cell {
                TableCell::Digits(_) | TableCell::Text(_) => {
                    format!("must be a number, or empty if missing: {reason}")
                }
                _ => reason,
            })?;
            Ok(number.map_or(FeatureValue::Missing, FeatureValue::number))
        }
        (ValueType::Text, TableCell::Text(text)) if text.len() > MAX_TEXT_BYTES => {
            Err(format!("must be at most {MAX_TEXT_BYTES} bytes long: is {}", text.len()))
        }
        (ValueType::Text, TableCell::Text(text)) => Ok(FeatureValue::Category((**text).into())),
        (ValueType::Text, other) => {
            Err(format!("must be text: is {}", other.text().unwrap_or_default()))
        }
    }
}

/// The number in a cell; true and false are 1 and 0, and an empty cell is `None`.
#[expect(clippy::cast_precision_loss, reason = "numbers are doubles in every format")]
pub(super) fn cell_number(cell: &TableCell<'_>, decimal: char) -> Result<Option<f64>, String> {
    match cell {
        TableCell::Missing => Ok(None),
        TableCell::Bool(value) => Ok(Some(f64::from(u8::from(*value)))),
        TableCell::Integer(number) => Ok(Some(*number as f64)),
        TableCell::Number(number) if number.is_finite() => Ok(Some(*number)),
        TableCell::Number(number) => Err(format!("must be finite: is {number}")),
        TableCell::Digits(text) => text_number(text, '.'),
        TableCell::Text(text) => text_number(text, decimal),
        TableCell::Json(_) => Err("must be a number".to_owned()),
    }
}

fn text_number(text: &str, decimal: char) -> Result<Option<f64>, String> {
    parse_number(text, decimal).map(Some).map_err(|reason| format!("`{text}` {reason}"))
}

//! Feature rows from a table: CSV (optionally gzipped) or Parquet, one column per feature.

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;

use anyhow::Context;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::Field;

use crate::cli::load::decompressed;
use crate::domain::fault::{ValidationFault, ValidationFaults};
use crate::domain::feature::{FeatureRow, FeatureSet, FeatureValue, MAX_TEXT_BYTES, ValueType};
use crate::domain::nearest::nearest_name;

/// The only column that is not a feature: it sorts the rows in the order of stored
/// customers.
const CUSTOMER: &str = "customer_id";
/// Limit of reported problems: enough to diagnose a file.
const MAX_FAULTS: usize = 20;

/// Reads the rows: by customer id in byte order if the table has that column, else in table
/// order. On failure returns the problems, up to [`MAX_FAULTS`], with their lines (CSV) or row
/// numbers (Parquet).
pub(super) fn read(path: &Path, features: &FeatureSet) -> anyhow::Result<Vec<FeatureRow>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let is_parquet = path.extension().is_some_and(|extension| extension == "parquet");
    let rows = if is_parquet { parquet(file, features) } else { csv(path, file, features) };
    rows.with_context(|| format!("in {}", path.display()))
}

fn csv(path: &Path, file: File, features: &FeatureSet) -> anyhow::Result<Vec<FeatureRow>> {
    let mut reader = csv::Reader::from_reader(decompressed(path, file));
    let columns = TableColumns::of(reader.headers()?.iter(), features)?;
    let mut rows = RowReader::new(features, &columns);
    let mut record = csv::StringRecord::new();
    while reader.read_record(&mut record)? {
        let line = record.position().map_or(0, csv::Position::line);
        rows.add(usize::try_from(line)?, |column| match record.get(column) {
            None | Some("") => TableCell::Nothing,
            Some(text) => TableCell::Text(text),
        })?;
    }
    rows.finish()
}

fn parquet(file: File, features: &FeatureSet) -> anyhow::Result<Vec<FeatureRow>> {
    let reader = SerializedFileReader::new(file)?;
    let schema = reader.metadata().file_metadata().schema_descr_ptr();
    let names: Vec<&str> = schema.root_schema().get_fields().iter().map(|f| f.name()).collect();
    let columns = TableColumns::of(names.into_iter(), features)?;
    let mut rows = RowReader::new(features, &columns);
    for (row, number) in reader.get_row_iter(None)?.zip(1..) {
        let fields: Vec<Field> = row?.into_columns().into_iter().map(|(_, field)| field).collect();
        rows.add(number, |column| fields.get(column).map_or(TableCell::Nothing, cell))?;
    }
    rows.finish()
}

/// One value of a table.
enum TableCell<'a> {
    Nothing,
    Number(f64),
    Text(&'a str),
    /// A date, a list …
    Other,
}

#[expect(clippy::cast_precision_loss, reason = "features are doubles wherever they come from")]
fn cell(field: &Field) -> TableCell<'_> {
    match field {
        Field::Null => TableCell::Nothing,
        Field::Bool(value) => TableCell::Number(f64::from(u8::from(*value))),
        Field::Byte(value) => TableCell::Number(f64::from(*value)),
        Field::Short(value) => TableCell::Number(f64::from(*value)),
        Field::Int(value) => TableCell::Number(f64::from(*value)),
        Field::Long(value) => TableCell::Number(*value as f64),
        Field::UByte(value) => TableCell::Number(f64::from(*value)),
        Field::UShort(value) => TableCell::Number(f64::from(*value)),
        Field::UInt(value) => TableCell::Number(f64::from(*value)),
        Field::ULong(value) => TableCell::Number(*value as f64),
        Field::Float(value) => TableCell::Number(f64::from(*value)),
        Field::Double(value) => TableCell::Number(*value),
        Field::Str(text) => TableCell::Text(text),
        _ => TableCell::Other,
    }
}

/// Column indices of a table.
struct TableColumns {
    customer: Option<usize>,
    /// By feature.
    features: Vec<usize>,
}

impl TableColumns {
    fn of<'n>(
        names: impl Iterator<Item = &'n str>,
        features: &FeatureSet,
    ) -> Result<Self, ValidationFaults> {
        let mut faults = ValidationFaults::default();
        let mut customer = None;
        let mut found: Vec<Option<usize>> = vec![None; features.features().len()];
        for (column, name) in names.enumerate() {
            let name = name.trim_start_matches('\u{feff}');
            let slot = match features.index_of(name) {
                Some(feature) => &mut found[feature],
                None if name == CUSTOMER => &mut customer,
                None => {
                    faults.push(ValidationFault::new(name, unknown(name, features)));
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
struct RowReader<'a> {
    features: &'a FeatureSet,
    columns: &'a TableColumns,
    /// With the customer id, if the table has that column.
    read: Vec<(Box<str>, FeatureRow)>,
    customers: HashSet<Box<str>>,
    faults: ValidationFaults,
}

impl<'a> RowReader<'a> {
    fn new(features: &'a FeatureSet, columns: &'a TableColumns) -> Self {
        let (read, customers) = (Vec::new(), HashSet::new());
        Self { features, columns, read, customers, faults: ValidationFaults::default() }
    }

    /// Adds a row; fails once the limit of problems is reached.
    fn add<'c>(
        &mut self,
        line: usize,
        cell: impl Fn(usize) -> TableCell<'c>,
    ) -> Result<(), ValidationFaults> {
        let mut values = Vec::with_capacity(self.columns.features.len());
        for (feature, column) in self.columns.features.iter().enumerate() {
            values.push(
                feature_value(self.features.value_type_at(feature), &cell(*column)).unwrap_or_else(
                    |problem| {
                        let name = &*self.features.features()[feature].name;
                        self.faults.push(ValidationFault::at_line(line, name, problem));
                        FeatureValue::Missing
                    },
                ),
            );
        }
        let customer = self.columns.customer.map_or_else(Box::default, |column| {
            let (customer, problem) = match cell(column) {
                TableCell::Text(text) if self.customers.insert(text.into()) => (text.into(), None),
                TableCell::Text(text) => ("".into(), Some(format!("`{text}` occurs twice"))),
                TableCell::Number(number) if self.customers.insert(number.to_string().into()) => {
                    (number.to_string().into(), None)
                }
                TableCell::Number(number) => ("".into(), Some(format!("{number} occurs twice"))),
                TableCell::Nothing => ("".into(), Some("is empty".to_owned())),
                TableCell::Other => ("".into(), Some("is not text".to_owned())),
            };
            if let Some(problem) = problem {
                self.faults.push(ValidationFault::at_line(line, CUSTOMER, problem));
            }
            customer
        });
        self.read.push((customer, FeatureRow(values)));
        if self.faults.0.len() >= MAX_FAULTS {
            return Err(std::mem::take(&mut self.faults));
        }
        Ok(())
    }

    fn finish(mut self) -> anyhow::Result<Vec<FeatureRow>> {
        // A stable sort: without customer ids the table order remains.
        self.read.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(self.faults.into_result(self.read.into_iter().map(|(_, row)| row).collect())?)
    }
}

/// Converts a cell to a feature value; the error names the expected form.
fn feature_value(kind: ValueType, cell: &TableCell<'_>) -> Result<FeatureValue, String> {
    match (kind, cell) {
        (_, TableCell::Nothing) => Ok(FeatureValue::Missing),
        (ValueType::Number, TableCell::Number(number)) if number.is_finite() => {
            Ok(FeatureValue::number(*number))
        }
        (ValueType::Number, TableCell::Number(number)) => {
            Err(format!("must be finite: is {number}"))
        }
        (ValueType::Number, TableCell::Text(text)) => match text.trim().parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(FeatureValue::number(number)),
            _ => Err(format!("must be a number, or empty if missing: is `{text}`")),
        },
        (ValueType::Text, TableCell::Text(text)) if text.len() > MAX_TEXT_BYTES => {
            Err(format!("must be at most {MAX_TEXT_BYTES} bytes long: is {}", text.len()))
        }
        (ValueType::Text, TableCell::Text(text)) => Ok(FeatureValue::Category((*text).into())),
        (ValueType::Text, TableCell::Number(number)) => {
            Err(format!("must be text: is the number {number}"))
        }
        (_, TableCell::Other) => Err("must be a number or text".to_owned()),
    }
}

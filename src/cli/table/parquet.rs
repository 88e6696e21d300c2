//! Reader of Parquet files, of every codec and type that common writers use.

use std::fs::File;

use anyhow::Context as _;
use bytes::Bytes;
use chrono::DateTime;
use parquet::basic::{ConvertedType, LogicalType, TimeUnit, Type as PhysicalType};
use parquet::data_type::{AsBytes as _, Decimal};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use parquet::schema::types::Type;

use super::cell::TableCell;
use super::json::text_cell;
use super::row::{RowCells, TableRow};
use super::status::{RowFault, RowStatus};

/// Text of a local time, without a zone.
const LOCAL_TIME: &str = "%Y-%m-%dT%H:%M:%S%.f";

/// Reader of a Parquet file.
pub(super) struct ParquetReader {
    rows: RowIter<'static>,
    columns: Vec<String>,
    /// By column.
    times: Vec<Option<ColumnTime>>,
    cells: Vec<TableCell<'static>>,
    number: u64,
    /// Number of rows of the file.
    pub(super) total: u64,
}

/// How an integer column stores times.
#[derive(Debug, Clone, Copy)]
struct ColumnTime {
    per_second: i64,
    /// Instants; else local times without a zone.
    is_utc: bool,
}

/// Storage of a Parquet file.
pub(super) enum ParquetBytes {
    File(File),
    Memory(Bytes),
}

impl ParquetReader {
    pub(super) fn open(bytes: ParquetBytes) -> anyhow::Result<Self> {
        let reader: Box<dyn FileReader> = match bytes {
            ParquetBytes::File(file) => Box::new(SerializedFileReader::new(file)?),
            ParquetBytes::Memory(bytes) => Box::new(SerializedFileReader::new(bytes)?),
        };
        let metadata = reader.metadata().file_metadata();
        let total = u64::try_from(metadata.num_rows()).unwrap_or(0);
        let schema = metadata.schema_descr().root_schema();
        for column in schema.get_fields() {
            check_type(column).with_context(|| format!("column {:?}", column.name()))?;
        }
        let columns = schema.get_fields().iter().map(|column| column.name().to_owned()).collect();
        let times = schema.get_fields().iter().map(|column| column_time(column)).collect();
        let rows = RowIter::from_file_into(reader);
        Ok(Self { rows, columns, times, cells: Vec::new(), number: 0, total })
    }

    pub(super) fn columns(&self) -> &[String] {
        &self.columns
    }

    pub(super) fn advance(&mut self) -> anyhow::Result<RowStatus> {
        let Some(row) = self.rows.next() else { return Ok(RowStatus::End) };
        self.number += 1;
        let row = match row {
            Ok(row) => row,
            Err(error) => anyhow::bail!("row {}: {error}", self.number),
        };
        self.cells.clear();
        for ((name, field), time) in row.into_columns().into_iter().zip(&self.times) {
            match cell(field, *time) {
                Ok(cell) => self.cells.push(cell),
                Err(reason) => {
                    let fault = RowFault {
                        line: self.number,
                        column: Some(name),
                        value: None,
                        reason: reason.to_owned(),
                    };
                    return Ok(RowStatus::Faulty(fault));
                }
            }
        }
        Ok(RowStatus::Row)
    }

    pub(super) fn row(&self) -> TableRow<'_> {
        let cells = RowCells::Values(&self.cells);
        TableRow::new(cells, self.number, self.number)
    }
}

/// Refuses types that no row can be read from, before the first row.
fn check_type(column: &Type) -> anyhow::Result<()> {
    if column.is_group() {
        for field in column.get_fields() {
            check_type(field)?;
        }
        return Ok(());
    }
    let info = column.get_basic_info();
    let physical = column.get_physical_type();
    let is_readable = match info.converted_type() {
        ConvertedType::INTERVAL => false,
        ConvertedType::NONE
        | ConvertedType::DECIMAL
        | ConvertedType::UTF8
        | ConvertedType::ENUM
        | ConvertedType::JSON
        | ConvertedType::BSON => true,
        _ => matches!(physical, PhysicalType::INT32 | PhysicalType::INT64),
    };
    anyhow::ensure!(
        is_readable,
        "the type {} cannot be read; convert the column to text",
        info.converted_type()
    );
    Ok(())
}

fn column_time(column: &Type) -> Option<ColumnTime> {
    if !column.is_primitive() {
        return None;
    }
    match (column.get_physical_type(), column.get_basic_info().logical_type_ref()) {
        (PhysicalType::INT96, _) => Some(ColumnTime { per_second: 1000, is_utc: true }),
        (_, Some(LogicalType::Timestamp(time))) => {
            let per_second = match time.unit {
                TimeUnit::MILLIS => 1000,
                TimeUnit::MICROS => 1_000_000,
                TimeUnit::NANOS => 1_000_000_000,
            };
            Some(ColumnTime { per_second, is_utc: time.is_adjusted_to_u_t_c })
        }
        _ => match column.get_basic_info().converted_type() {
            ConvertedType::TIMESTAMP_MILLIS => Some(ColumnTime { per_second: 1000, is_utc: true }),
            ConvertedType::TIMESTAMP_MICROS => {
                Some(ColumnTime { per_second: 1_000_000, is_utc: true })
            }
            _ => None,
        },
    }
}

fn cell(field: Field, time: Option<ColumnTime>) -> Result<TableCell<'static>, &'static str> {
    Ok(match field {
        Field::Null => TableCell::Missing,
        Field::Bool(value) => TableCell::Bool(value),
        Field::Byte(value) => TableCell::Integer(value.into()),
        Field::Short(value) => TableCell::Integer(value.into()),
        Field::Int(value) => TableCell::Integer(value.into()),
        Field::UByte(value) => TableCell::Integer(value.into()),
        Field::UShort(value) => TableCell::Integer(value.into()),
        Field::UInt(value) => TableCell::Integer(value.into()),
        Field::ULong(value) => TableCell::Integer(value.into()),
        Field::Long(value) | Field::TimestampMillis(value) | Field::TimestampMicros(value) => {
            match time {
                Some(time) => TableCell::Text(time.text(value)?.into()),
                None => TableCell::Integer(value.into()),
            }
        }
        Field::Float16(value) => TableCell::Number(value.to_f64()),
        // Through its shortest decimal text: 0.1 remains 0.1.
        Field::Float(value) => TableCell::Number(value.to_string().parse().unwrap_or(f64::NAN)),
        Field::Double(value) => TableCell::Number(value),
        Field::Decimal(value) => decimal_cell(&value)?,
        Field::Str(text) => text_cell(text.into()),
        Field::Bytes(bytes) => {
            let text = String::from_utf8(bytes.as_bytes().to_vec());
            text_cell(text.map_err(|_| "is binary data that is not UTF-8")?.into())
        }
        Field::Date(days) => {
            let date = DateTime::from_timestamp(i64::from(days) * 86_400, 0);
            let date = date.ok_or("is a date beyond the year 262142")?;
            TableCell::Text(date.format("%Y-%m-%d").to_string().into())
        }
        Field::TimeMillis(_) | Field::TimeMicros(_) => TableCell::Text(field.to_string().into()),
        Field::Group(_) | Field::ListInternal(_) | Field::MapInternal(_) => {
            let mut json = String::new();
            push_json(&field, &mut json)?;
            TableCell::Json(json.into())
        }
    })
}

impl ColumnTime {
    fn text(self, value: i64) -> Result<String, &'static str> {
        let nanos_per_unit = 1_000_000_000 / self.per_second;
        let nanos = value.rem_euclid(self.per_second) * nanos_per_unit;
        let seconds = value.div_euclid(self.per_second);
        let instant = u32::try_from(nanos).ok().and_then(|n| DateTime::from_timestamp(seconds, n));
        let instant = instant.ok_or("is a time beyond the year 262142")?;
        let mut text = instant.format(LOCAL_TIME).to_string();
        if self.is_utc {
            text.push('Z');
        }
        Ok(text)
    }
}

/// A decimal as an integer, or else as the nearest double.
fn decimal_cell(decimal: &Decimal) -> Result<TableCell<'static>, &'static str> {
    let bytes = decimal.data();
    if bytes.len() > 16 {
        return Err("is a decimal of more than 38 digits");
    }
    let mut unscaled: i128 = if bytes.first().is_some_and(|byte| *byte >= 0x80) { -1 } else { 0 };
    for byte in bytes {
        unscaled = (unscaled << 8) | i128::from(*byte);
    }
    if decimal.scale() <= 0 {
        return Ok(TableCell::Integer(unscaled));
    }
    // A decimal text is parsed to the nearest double; a division would round twice.
    let number = format!("{unscaled}e-{}", decimal.scale()).parse();
    Ok(TableCell::Number(number.unwrap_or(f64::NAN)))
}

fn push_json(field: &Field, json: &mut String) -> Result<(), &'static str> {
    match field {
        Field::Group(row) => push_object(row, json)?,
        Field::ListInternal(list) => {
            json.push('[');
            for (at, element) in list.elements().iter().enumerate() {
                if at > 0 {
                    json.push(',');
                }
                push_json(element, json)?;
            }
            json.push(']');
        }
        Field::MapInternal(map) => {
            json.push('{');
            for (at, (key, value)) in map.entries().iter().enumerate() {
                if at > 0 {
                    json.push(',');
                }
                let key = cell(key.clone(), None)?;
                push_json_text(&key.text().unwrap_or_default(), json);
                json.push(':');
                push_json(value, json)?;
            }
            json.push('}');
        }
        _ => match cell(field.clone(), None)? {
            TableCell::Missing => json.push_str("null"),
            TableCell::Number(number) if !number.is_finite() => json.push_str("null"),
            TableCell::Text(text) => push_json_text(&text, json),
            other => json.push_str(&other.text().unwrap_or_default()),
        },
    }
    Ok(())
}

fn push_object(row: &Row, json: &mut String) -> Result<(), &'static str> {
    json.push('{');
    for (at, (name, value)) in row.get_column_iter().enumerate() {
        if at > 0 {
            json.push(',');
        }
        push_json_text(name, json);
        json.push(':');
        push_json(value, json)?;
    }
    json.push('}');
    Ok(())
}

fn push_json_text(text: &str, json: &mut String) {
    json.push_str(&serde_json::Value::from(text).to_string());
}

//! Encoders of the assignment export: CSV, NDJSON or Parquet, a page at a time.

use std::borrow::Cow;

use serde::Serialize;

use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::service::export::formula::CsvEscaping;
use crate::service::export::parquet::ParquetEncoder;
use crate::service::export::row::ExportRow;
use crate::telemetry::labels::TableFormat;

/// Columns of every format, in order.
pub(super) const COLUMNS: [&str; 18] = [
    "customer_id",
    "segment_id",
    "segment_name",
    "model_id",
    "fallback",
    "generation",
    "distance",
    "p_value",
    "confidence",
    "outlier",
    "assigned_at",
    "last_event_at",
    "audiences",
    "value_reliable",
    "churn_probability",
    "predicted_number_of_orders",
    "predicted_clv",
    "expected_date_of_next_order",
];

/// Encoder of rows in one format.
pub(super) enum TableEncoder {
    Csv { has_begun: bool, escape: CsvEscaping },
    Ndjson,
    Parquet(Box<ParquetEncoder>),
}

/// A row in a text format: missing values are empty in CSV and null in JSON.
#[derive(Serialize)]
struct TextRow<'r> {
    customer_id: Cow<'r, str>,
    segment_id: Cow<'r, str>,
    segment_name: Cow<'r, str>,
    model_id: Option<&'r str>,
    fallback: bool,
    generation: i64,
    distance: Option<f32>,
    p_value: Option<f64>,
    confidence: Option<f32>,
    outlier: bool,
    assigned_at: Timestamp,
    last_event_at: Option<Timestamp>,
    audiences: &'r str,
    value_reliable: Option<bool>,
    churn_probability: Option<f64>,
    predicted_number_of_orders: Option<f64>,
    predicted_clv: Option<f64>,
    expected_date_of_next_order: Option<Timestamp>,
}

impl<'r> TextRow<'r> {
    fn new(ExportRow { assignment: row, value, audiences }: &'r ExportRow) -> Self {
        let value = value.as_ref();
        Self {
            customer_id: row.customer_id.as_str().into(),
            segment_id: (&*row.segment.id).into(),
            segment_name: (&*row.segment.name).into(),
            model_id: row.model_id.as_deref(),
            fallback: row.fallback,
            generation: row.generation,
            distance: row.distance,
            p_value: row.p_value,
            confidence: row.confidence,
            outlier: row.outlier,
            assigned_at: row.assigned_at,
            last_event_at: row.last_event_at,
            audiences,
            value_reliable: value.map(|value| value.is_reliable),
            churn_probability: value.map(|value| value.churn_probability),
            predicted_number_of_orders: value.map(|value| value.predicted_orders),
            predicted_clv: value.and_then(|value| value.predicted_spend),
            expected_date_of_next_order: value.and_then(|value| value.next_order_at),
        }
    }

    /// The row for CSV. segmentd itself writes the other texts (ids and instants), so only two
    /// need escaping.
    fn escaped(row: &'r ExportRow, escape: CsvEscaping) -> Self {
        let customer_id = escape.escape_cell(&row.assignment.customer_id);
        let segment_name = escape.escape_cell(&row.assignment.segment.name);
        Self { customer_id, segment_name, ..Self::new(row) }
    }
}

impl TableEncoder {
    pub(super) fn new(format: TableFormat, escape: CsvEscaping) -> Result<Self, ServiceError> {
        Ok(match format {
            TableFormat::Csv => Self::Csv { has_begun: false, escape },
            TableFormat::Ndjson => Self::Ndjson,
            TableFormat::Parquet => {
                Self::Parquet(Box::new(ParquetEncoder::new().map_err(ServiceError::internal)?))
            }
        })
    }

    /// Adds rows. Returns the bytes that are ready to send, possibly none.
    pub(super) fn add(&mut self, rows: &[ExportRow]) -> Result<Vec<u8>, ServiceError> {
        match self {
            Self::Csv { has_begun, escape } => {
                let with_header = !std::mem::replace(has_begun, true);
                csv(rows, with_header, *escape).map_err(ServiceError::internal)
            }
            Self::Ndjson => ndjson(rows).map_err(ServiceError::internal),
            Self::Parquet(parquet) => parquet.add(rows).map_err(ServiceError::internal),
        }
    }

    /// Returns the remaining bytes. No rows may be added afterwards.
    pub(super) fn finish(&mut self) -> Result<Vec<u8>, ServiceError> {
        match self {
            // An empty table also has a header.
            Self::Csv { .. } => self.add(&[]),
            Self::Ndjson => Ok(Vec::new()),
            Self::Parquet(parquet) => parquet.finish().map_err(ServiceError::internal),
        }
    }
}

/// RFC 4180, with a header at the beginning.
fn csv(
    rows: &[ExportRow],
    with_header: bool,
    escape: CsvEscaping,
) -> Result<Vec<u8>, Box<csv::Error>> {
    let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    if with_header {
        writer.write_record(COLUMNS)?;
    }
    for row in rows {
        writer.serialize(TextRow::escaped(row, escape))?;
    }
    writer.into_inner().map_err(|error| Box::new(error.into_error().into()))
}

fn ndjson(rows: &[ExportRow]) -> Result<Vec<u8>, serde_json::Error> {
    let mut lines = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut lines, &TextRow::new(row))?;
        lines.push(b'\n');
    }
    Ok(lines)
}

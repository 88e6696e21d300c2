//! Parquet encoder: one row group at a time.

use std::collections::HashMap;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DataType, DoubleType, FloatType, Int64Type,
};
use parquet::errors::{ParquetError, Result};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

use crate::domain::time::Timestamp;
use crate::service::export::row::ExportRow;

/// Rows in memory at most: about 10 MB. Readers work group by group, so groups must not
/// be small either.
const ROWS_PER_GROUP: usize = 50_000;

/// Columns of the export, in order.
const SCHEMA: &str = "message assignments {
    required binary customer_id (utf8);
    required binary segment_id (utf8);
    required binary segment_name (utf8);
    optional binary model_id (utf8);
    required boolean fallback;
    required int64 generation;
    optional float distance;
    optional double p_value;
    optional float confidence;
    required boolean outlier;
    required int64 assigned_at (timestamp(millis, true));
    optional int64 last_event_at (timestamp(millis, true));
    required binary audiences (utf8);
    optional boolean value_reliable;
    optional double churn_probability;
    optional double predicted_number_of_orders;
    optional double predicted_clv;
    optional int64 expected_date_of_next_order (timestamp(millis, true));
}";

/// A Parquet file in progress; finished bytes are returned and not retained.
pub(super) struct ParquetEncoder {
    file: SerializedFileWriter<Vec<u8>>,
    group: RowGroup,
}

impl ParquetEncoder {
    pub(super) fn new() -> Result<Self> {
        let properties = WriterProperties::builder()
            .set_created_by(concat!("segmentd ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(Compression::SNAPPY)
            // Statistics per group, not per page: page statistics are retained until the
            // end.
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_offset_index_disabled(true)
            .build();
        let schema = Arc::new(parse_message_type(SCHEMA)?);
        let file = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties))?;
        Ok(Self { file, group: RowGroup::default() })
    }

    pub(super) fn add(&mut self, rows: &[ExportRow]) -> Result<Vec<u8>> {
        for row in rows {
            self.group.add(row);
            if self.group.rows() == ROWS_PER_GROUP {
                self.end_group()?;
            }
        }
        self.finished()
    }

    pub(super) fn finish(&mut self) -> Result<Vec<u8>> {
        if self.group.rows() > 0 {
            self.end_group()?;
        }
        self.file.finish()?;
        self.finished()
    }

    fn end_group(&mut self) -> Result<()> {
        let mut group = self.file.next_row_group()?;
        std::mem::take(&mut self.group).write(&mut group)?;
        group.close()?;
        Ok(())
    }

    /// Takes the finished bytes. The writer counts what it wrote, so offsets stay
    /// correct.
    fn finished(&mut self) -> Result<Vec<u8>> {
        self.file.flush()?;
        Ok(std::mem::take(self.file.inner_mut()))
    }
}

/// The rows of one group, by column.
#[derive(Default)]
struct RowGroup {
    customer_id: Vec<ByteArray>,
    segment_id: Vec<ByteArray>,
    segment_name: Vec<ByteArray>,
    model_id: OptionalColumn<ByteArray>,
    fallback: Vec<bool>,
    generation: Vec<i64>,
    distance: OptionalColumn<f32>,
    p_value: OptionalColumn<f64>,
    confidence: OptionalColumn<f32>,
    outlier: Vec<bool>,
    assigned_at: Vec<i64>,
    last_event_at: OptionalColumn<i64>,
    audiences: Vec<ByteArray>,
    value_reliable: OptionalColumn<bool>,
    churn_probability: OptionalColumn<f64>,
    predicted_number_of_orders: OptionalColumn<f64>,
    predicted_clv: OptionalColumn<f64>,
    expected_date_of_next_order: OptionalColumn<i64>,
    /// Interned texts: segments, models and sets of audiences are few, and each is stored once.
    texts: HashMap<String, ByteArray>,
}

impl RowGroup {
    fn rows(&self) -> usize {
        self.customer_id.len()
    }

    fn add(&mut self, ExportRow { assignment: row, value, audiences }: &ExportRow) {
        let value = value.as_ref();
        let segment_id = self.text(&row.segment.id);
        let segment_name = self.text(&row.segment.name);
        let model_id = row.model_id.as_ref().map(|model| self.text(model));
        self.customer_id.push(row.customer_id.as_str().into());
        self.segment_id.push(segment_id);
        self.segment_name.push(segment_name);
        self.model_id.push(model_id);
        self.fallback.push(row.fallback);
        self.generation.push(row.generation);
        self.distance.push(row.distance);
        self.p_value.push(row.p_value);
        self.confidence.push(row.confidence);
        self.outlier.push(row.outlier);
        self.assigned_at.push(row.assigned_at.millis());
        self.last_event_at.push(row.last_event_at.map(Timestamp::millis));
        let audiences = self.text(audiences);
        self.audiences.push(audiences);
        self.value_reliable.push(value.map(|value| value.is_reliable));
        self.churn_probability.push(value.map(|value| value.churn_probability));
        self.predicted_number_of_orders.push(value.map(|value| value.predicted_orders));
        self.predicted_clv.push(value.and_then(|value| value.predicted_spend));
        let next_order_at = value.and_then(|value| value.next_order_at);
        self.expected_date_of_next_order.push(next_order_at.map(Timestamp::millis));
    }

    fn text(&mut self, text: &str) -> ByteArray {
        if let Some(known) = self.texts.get(text) {
            return known.clone();
        }
        let new = ByteArray::from(text);
        self.texts.insert(text.to_owned(), new.clone());
        new
    }

    fn write(self, group: &mut SerializedRowGroupWriter<'_, Vec<u8>>) -> Result<()> {
        column::<ByteArrayType>(group, &self.customer_id, None)?;
        column::<ByteArrayType>(group, &self.segment_id, None)?;
        column::<ByteArrayType>(group, &self.segment_name, None)?;
        self.model_id.write::<ByteArrayType>(group)?;
        column::<BoolType>(group, &self.fallback, None)?;
        column::<Int64Type>(group, &self.generation, None)?;
        self.distance.write::<FloatType>(group)?;
        self.p_value.write::<DoubleType>(group)?;
        self.confidence.write::<FloatType>(group)?;
        column::<BoolType>(group, &self.outlier, None)?;
        column::<Int64Type>(group, &self.assigned_at, None)?;
        self.last_event_at.write::<Int64Type>(group)?;
        column::<ByteArrayType>(group, &self.audiences, None)?;
        self.value_reliable.write::<BoolType>(group)?;
        self.churn_probability.write::<DoubleType>(group)?;
        self.predicted_number_of_orders.write::<DoubleType>(group)?;
        self.predicted_clv.write::<DoubleType>(group)?;
        self.expected_date_of_next_order.write::<Int64Type>(group)
    }
}

/// Optional column: the present values, and a definition level per row (1 = present).
struct OptionalColumn<T> {
    values: Vec<T>,
    levels: Vec<i16>,
}

impl<T> Default for OptionalColumn<T> {
    fn default() -> Self {
        Self { values: Vec::new(), levels: Vec::new() }
    }
}

impl<T> OptionalColumn<T> {
    fn push(&mut self, value: Option<T>) {
        self.levels.push(i16::from(value.is_some()));
        self.values.extend(value);
    }

    fn write<D: DataType<T = T>>(
        &self,
        group: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    ) -> Result<()> {
        column::<D>(group, &self.values, Some(&self.levels))
    }
}

/// Writes the next column of the group.
fn column<D: DataType>(
    group: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    values: &[D::T],
    levels: Option<&[i16]>,
) -> Result<()> {
    let mut column = group
        .next_column()?
        .ok_or_else(|| ParquetError::General("more columns than the schema has".into()))?;
    column.typed::<D>().write_batch(values, levels, None)?;
    column.close()
}

//! Tables in files: CSV and its dialects, newline-delimited JSON, Parquet, and the text
//! format of Postgres' `COPY`. `segmentd load` and `segmentd train --from` read all of them.
//!
//! Memory: one record of a text table, one row group of a Parquet file.

mod cell;
mod copy;
pub mod csv;
mod encoding;
mod json;
mod lines;
mod lookup;
mod ndjson;
mod number;
mod parquet;
mod row;
mod settings;
mod source;
mod status;

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::Read;

use indicatif::ProgressBar;

use copy::CopyReader;
use csv::CsvReader;
use encoding::TextInput;
use ndjson::NdjsonReader;
use parquet::{ParquetBytes, ParquetReader};
use source::TableBytes;

pub use cell::TableCell;
pub(crate) use cell::is_integer;
pub(crate) use json::elements;
pub use lookup::{LookupSettings, LookupTables};
pub(crate) use number::{parse_money, parse_number};
pub use row::{ColumnPath, TableColumns, TableRow};
pub use settings::{TableFormat, TableSettings};
pub use source::TableSource;
pub(crate) use status::shortened;
pub use status::{RowFault, RowStatus};

/// Reader of the rows of one table.
pub struct TableReader {
    rows: RowReader,
    columns: TableColumns,
    notices: Vec<String>,
}

enum RowReader {
    Csv(Box<CsvReader>),
    Copy(Box<CopyReader>),
    Ndjson(Box<NdjsonReader>),
    Parquet(Box<ParquetReader>),
}

impl std::fmt::Debug for TableReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TableReader").field("columns", &self.columns).finish_non_exhaustive()
    }
}

impl TableReader {
    /// Opens a table; what the settings leave open is detected. `bar` shows the progress.
    pub fn open(
        source: &TableSource,
        settings: &TableSettings,
        bar: &ProgressBar,
    ) -> anyhow::Result<Self> {
        match source.open(settings.format, bar)? {
            TableBytes::Text { bytes, format } => Self::from_text(bytes, format, settings),
            TableBytes::Parquet(bytes) => Self::from_parquet(bytes, settings),
        }
    }

    /// Opens a text table.
    pub fn from_text(
        bytes: Box<dyn Read + Send>,
        format: TableFormat,
        settings: &TableSettings,
    ) -> anyhow::Result<Self> {
        let input = TextInput::open(bytes, settings)?;
        let mut notices = Vec::new();
        let encoding = input.encoding.map_or(String::new(), |name| format!(", encoding {name}"));
        let rows = match format {
            TableFormat::Ndjson => {
                notices.push(format!("newline-delimited JSON{encoding}"));
                RowReader::Ndjson(Box::new(NdjsonReader::open(input, settings)?))
            }
            TableFormat::PostgresCopy => {
                notices.push(format!("Postgres COPY text{encoding}"));
                RowReader::Copy(Box::new(CopyReader::open(input, settings)?))
            }
            TableFormat::Csv | TableFormat::Parquet => {
                let reader = CsvReader::open(input, settings)?;
                let dialect = reader.dialect();
                let mut notice =
                    format!("CSV, delimiter {:?}{encoding}", char::from(dialect.delimiter));
                if let Some(escape) = dialect.escape {
                    let _ = write!(notice, ", escape {:?}", char::from(escape));
                }
                notices.push(notice);
                RowReader::Csv(Box::new(reader))
            }
        };
        Self::new(rows, notices, settings)
    }

    fn from_parquet(bytes: ParquetBytes, settings: &TableSettings) -> anyhow::Result<Self> {
        let reader = ParquetReader::open(bytes)?;
        let notice = format!("Parquet, {} rows", reader.total);
        Self::new(RowReader::Parquet(Box::new(reader)), vec![notice], settings)
    }

    fn new(
        rows: RowReader,
        notices: Vec<String>,
        settings: &TableSettings,
    ) -> anyhow::Result<Self> {
        let names = match &rows {
            RowReader::Csv(reader) => reader.columns(),
            RowReader::Copy(reader) => reader.columns(),
            RowReader::Ndjson(reader) => reader.columns(),
            RowReader::Parquet(reader) => reader.columns(),
        };
        let names = names.to_vec();
        let mut known = HashSet::new();
        for name in &names {
            anyhow::ensure!(
                name.is_empty() || known.insert(name),
                "the table has two columns {name:?}; column names must be unique"
            );
        }
        let columns = TableColumns { names, optional: settings.optional.clone() };
        Ok(Self { rows, columns, notices })
    }

    pub fn columns(&self) -> &TableColumns {
        &self.columns
    }

    /// The format, dialect and encoding that were detected since the last call, as sentences.
    pub(crate) fn take_notices(&mut self) -> Vec<String> {
        let mut notices = std::mem::take(&mut self.notices);
        if let RowReader::Csv(reader) = &mut self.rows {
            notices.extend(reader.take_notice());
        }
        notices
    }

    /// Reads the next row.
    pub fn advance(&mut self) -> anyhow::Result<RowStatus> {
        match &mut self.rows {
            RowReader::Csv(reader) => reader.advance(),
            RowReader::Copy(reader) => reader.advance(),
            RowReader::Ndjson(reader) => reader.advance(),
            RowReader::Parquet(reader) => reader.advance(),
        }
    }

    /// The current row, after [`RowStatus::Row`].
    pub fn row(&self) -> TableRow<'_> {
        match &self.rows {
            RowReader::Csv(reader) => reader.row(),
            RowReader::Copy(reader) => reader.row(),
            RowReader::Ndjson(reader) => reader.row(),
            RowReader::Parquet(reader) => reader.row(),
        }
    }
}

//! Shared by the tests of tables: reads text through a mapping.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use segmentd::cli::mapping::{ColumnMapping, EventBatch, LeftOutRows};
use segmentd::cli::table::{
    LookupTables, RowFault, RowStatus, TableFormat, TableReader, TableSettings, TableSource,
};
use serde_json::Value;

/// Events and faults of a table.
#[derive(Debug, Default)]
pub(super) struct MappedTable {
    pub(super) events: Vec<Value>,
    pub(super) faults: Vec<RowFault>,
    pub(super) left_out: Vec<LeftOutRows>,
}

pub(super) fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tables").join(name)
}

/// The events of CSV text under a mapping; the file is called `orders.csv`.
pub(super) fn csv_events(mapping: &str, table: &[u8]) -> anyhow::Result<MappedTable> {
    let mapping = ColumnMapping::parse(mapping)?;
    let bytes = Box::new(Cursor::new(table.to_vec()));
    let format = mapping.table_settings().format.unwrap_or(TableFormat::Csv);
    let reader = TableReader::from_text(bytes, format, mapping.table_settings())?;
    read(reader, &mapping, Path::new("orders.csv"))
}

pub(super) fn file_events(mapping: &Path, file: &Path) -> anyhow::Result<MappedTable> {
    let mapping = ColumnMapping::read(mapping)?;
    read(open(file, mapping.table_settings())?, &mapping, file)
}

pub(super) fn open(file: &Path, settings: &TableSettings) -> anyhow::Result<TableReader> {
    let source = TableSource::File(file.to_owned());
    TableReader::open(&source, settings, &ProgressBar::hidden())
}

fn read(
    mut reader: TableReader,
    mapping: &ColumnMapping,
    file: &Path,
) -> anyhow::Result<MappedTable> {
    let source = TableSource::File(file.to_owned());
    let (mut lookups, columns) = LookupTables::read(mapping.lookups(), &source, reader.columns())?;
    let name = file.file_name().unwrap().to_string_lossy();
    let mut mapper = mapping.bind(&columns, Some(&name), 0)?;
    let mut batch = EventBatch::default();
    loop {
        match reader.advance()? {
            RowStatus::Row => mapper.add(&lookups.join(reader.row()), &mut batch)?,
            RowStatus::Faulty(fault) => batch.faults.push(fault),
            RowStatus::End => break,
        }
    }
    mapper.finish(&mut batch);
    let lines = batch.json.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let events: Vec<Value> =
        lines.map(|line| serde_json::from_slice(line).expect("events are JSON")).collect();
    assert_eq!(events.len(), batch.origins.len(), "each event has a line");
    Ok(MappedTable { events, faults: batch.faults, left_out: mapper.left_out() })
}

/// Every cell of a table as text; `None` for a missing one.
pub(super) fn cells(mut reader: TableReader) -> anyhow::Result<Vec<Vec<Option<String>>>> {
    let columns = reader.columns().names.len();
    let mut rows = Vec::new();
    loop {
        match reader.advance()? {
            RowStatus::Row => {
                let row = reader.row();
                let cell = |column| row.cell(column).text().map(std::borrow::Cow::into_owned);
                rows.push((0..columns).map(cell).collect());
            }
            RowStatus::Faulty(fault) => anyhow::bail!("line {}: {fault}", fault.line),
            RowStatus::End => return Ok(rows),
        }
    }
}

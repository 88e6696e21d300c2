//! Events of one table, read in batches.

use std::sync::Arc;

use anyhow::Context as _;
use indicatif::ProgressBar;

use crate::cli::mapping::{ColumnMapping, EventBatch, EventMapper, LeftOutRows};
use crate::cli::table::{LookupTables, RowStatus, TableReader, TableSource};

/// Limit of a batch besides its number of events.
const MAX_BATCH_BYTES: usize = 8 << 20;

/// Events of one table.
#[derive(Debug)]
pub(in crate::cli) struct TableEvents {
    reader: TableReader,
    lookups: LookupTables,
    mapper: EventMapper,
    fields: Arc<EventMapper>,
    path: String,
    /// A notice about the mapping that was not taken yet.
    notice: Option<String>,
    rows: u64,
    is_ended: bool,
}

/// A batch, and the table after it.
pub(super) struct ReadBatch {
    pub(super) events: TableEvents,
    /// `None` at the end of the table.
    pub(super) batch: Option<EventBatch>,
}

impl TableEvents {
    /// Opens a table and binds the mapping to its columns.
    pub(in crate::cli) fn open(
        source: &TableSource,
        mapping: &ColumnMapping,
        shift_millis: i64,
        bar: &ProgressBar,
    ) -> anyhow::Result<Self> {
        let path = source.path();
        let reader = TableReader::open(source, mapping.table_settings(), bar);
        let reader = reader.with_context(|| format!("in {path}"))?;
        let lookups = LookupTables::read(mapping.lookups(), source, reader.columns());
        let (lookups, columns) = lookups.context("in the mapping")?;
        let name = source.file_name();
        let name = name.as_deref();
        let place = format!("in the mapping for {path}");
        let mapper = mapping.bind(&columns, name, shift_millis);
        let mapper = mapper.with_context(|| place.clone())?;
        let fields = mapping.bind(&columns, name, shift_millis);
        let fields = Arc::new(fields.context(place)?);
        let notice = mapper.identity_notice();
        Ok(Self { reader, lookups, mapper, fields, path, notice, rows: 0, is_ended: false })
    }

    /// The mapping, to find the columns behind the fields of an event.
    pub(in crate::cli) fn fields(&self) -> Arc<EventMapper> {
        Arc::clone(&self.fields)
    }

    pub(in crate::cli) fn take_notices(&mut self) -> Vec<String> {
        let mut notices = self.reader.take_notices();
        notices.extend(self.notice.take());
        notices
    }

    /// Rows read so far.
    pub(in crate::cli) fn rows(&self) -> u64 {
        self.rows
    }

    pub(in crate::cli) fn left_out(&self) -> Vec<LeftOutRows> {
        self.mapper.left_out()
    }

    /// Reads up to `limit` events and faults; `None` at the end of the table.
    pub(in crate::cli) fn next_batch(
        &mut self,
        limit: usize,
    ) -> anyhow::Result<Option<EventBatch>> {
        let mut batch = EventBatch::default();
        while !self.is_ended && batch.len() < limit && batch.json.len() < MAX_BATCH_BYTES {
            let status = self.reader.advance().with_context(|| format!("in {}", self.path))?;
            match status {
                RowStatus::Row => {
                    self.rows += 1;
                    let row = self.lookups.join(self.reader.row());
                    let added = self.mapper.add(&row, &mut batch);
                    added.with_context(|| format!("in {}", self.path))?;
                }
                RowStatus::Faulty(fault) => {
                    self.rows += 1;
                    batch.faults.push(fault);
                }
                RowStatus::End => {
                    self.mapper.finish(&mut batch);
                    self.is_ended = true;
                }
            }
        }
        Ok((batch.len() > 0).then_some(batch))
    }

    pub(super) fn read_batch(mut self, limit: usize) -> anyhow::Result<ReadBatch> {
        let batch = self.next_batch(limit)?;
        Ok(ReadBatch { events: self, batch })
    }
}

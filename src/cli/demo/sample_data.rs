//! The sample data, which is part of the program: its tables and their mappings.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use indicatif::ProgressBar;
use serde::Deserialize;

use crate::cli::load::{BulkSender, SendCounts, TableEvents};
use crate::cli::mapping::ColumnMapping;
use crate::cli::table::TableSource;
use crate::domain::time::Timestamp;

/// End of the data, 2018-01-01T04:01:20Z.
pub(super) const DATA_ENDS: Timestamp = Timestamp::from_millis(1_514_779_280_000);
const BATCH_EVENTS: usize = 5000;

/// A table with its mapping.
struct SampleTable {
    name: &'static str,
    content: &'static [u8],
    mapping: &'static str,
}

macro_rules! sample_table {
    ($name:literal, $mapping:literal) => {
        SampleTable {
            name: $name,
            content: include_bytes!(concat!("../../../config/demo/", $name)),
            mapping: include_str!(concat!("../../../config/demo/", $mapping)),
        }
    };
}

const TABLES: [SampleTable; 3] = [
    sample_table!("demographics.csv", "demographics.toml"),
    sample_table!("baskets.csv.gz", "baskets.toml"),
    sample_table!("coupon_redemptions.csv", "coupon_redemptions.toml"),
];

/// The tables as files: the readers of tables read files.
pub(super) struct SampleData {
    folder: PathBuf,
}

/// One event, as a line of JSON without its end.
#[derive(Debug)]
pub(super) struct SampleEvent {
    pub at: Timestamp,
    pub line: Vec<u8>,
}

#[derive(Deserialize)]
struct EventTime {
    timestamp: String,
}

impl SampleData {
    /// Writes the tables into `directory`.
    pub(super) fn unpack(directory: &Path) -> anyhow::Result<Self> {
        let folder = directory.join("tables");
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        for table in TABLES {
            let path = folder.join(table.name);
            fs::write(&path, table.content).with_context(|| path.display().to_string())?;
        }
        Ok(Self { folder })
    }

    /// All events, moved in time, in order of time.
    pub(super) fn read(&self, shift_millis: i64) -> anyhow::Result<Vec<SampleEvent>> {
        let mut events = Vec::new();
        for table in TABLES {
            let mapping = ColumnMapping::parse(table.mapping)?;
            let source = TableSource::File(self.folder.join(table.name));
            let mut rows =
                TableEvents::open(&source, &mapping, shift_millis, &ProgressBar::hidden())?;
            while let Some(batch) = rows.next_batch(BATCH_EVENTS)? {
                for line in batch.json.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
                {
                    let EventTime { timestamp } = serde_json::from_slice(line)?;
                    let at = Timestamp::parse(&timestamp)
                        .with_context(|| format!("{}: no time: {timestamp}", table.name))?;
                    events.push(SampleEvent { at, line: line.to_vec() });
                }
            }
        }
        events.sort_by_key(|event| event.at);
        Ok(events)
    }
}

/// Sends many events in order, with a progress bar on a terminal.
pub(super) async fn send_all(
    events: &[SampleEvent],
    sender: &BulkSender,
) -> anyhow::Result<SendCounts> {
    let bar = ProgressBar::new(events.len() as u64);
    let mut counts = SendCounts::default();
    for batch in events.chunks(BATCH_EVENTS) {
        counts.add(send_batch(batch, sender).await?);
        bar.inc(batch.len() as u64);
    }
    bar.finish_and_clear();
    Ok(counts)
}

/// Sends events in one request; none if there are none.
pub(super) async fn send_batch(
    events: &[SampleEvent],
    sender: &BulkSender,
) -> anyhow::Result<SendCounts> {
    if events.is_empty() {
        return Ok(SendCounts::default());
    }
    let mut lines = Vec::new();
    for event in events {
        lines.extend_from_slice(&event.line);
        lines.push(b'\n');
    }
    let mut counts = sender.send(lines, events.len()).await?.counts();
    counts.rows = events.len() as u64;
    Ok(counts)
}

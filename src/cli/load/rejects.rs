//! Report of rejected rows: the first ones on the terminal, all of them in a file.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

use crate::cli::table::RowFault;

/// Maximum number of rows that are shown on the terminal.
const MAX_SHOWN: u64 = 10;

/// A row that is rejected, or in conflict with a stored event.
#[derive(Debug, Clone, Serialize)]
pub(in crate::cli) struct RejectedRow {
    pub(super) line: u64,
    pub(super) status: String,
    pub(super) column: Option<String>,
    pub(super) value: Option<String>,
    pub(super) reason: String,
}

/// A line of the file of rejected rows.
#[derive(Serialize)]
struct RejectLine<'a> {
    file: &'a str,
    #[serde(flatten)]
    row: &'a RejectedRow,
}

/// Log of rejected rows.
#[derive(Debug, Default)]
pub(in crate::cli) struct RejectLog {
    all: Option<BufWriter<File>>,
    count: u64,
}

impl RejectLog {
    pub(super) fn create(path: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = path else { return Ok(Self::default()) };
        let file = File::create(path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { all: Some(BufWriter::new(file)), count: 0 })
    }

    /// Adds a row that is rejected before it is sent.
    pub(super) fn add_fault(&mut self, path: &str, fault: &RowFault) -> anyhow::Result<()> {
        let row = RejectedRow {
            line: fault.line,
            status: "rejected".to_owned(),
            column: fault.column.clone(),
            value: fault.value.clone(),
            reason: fault.reason.clone(),
        };
        self.add(path, &row)
    }

    pub(super) fn add(&mut self, path: &str, row: &RejectedRow) -> anyhow::Result<()> {
        self.count += 1;
        if self.count <= MAX_SHOWN {
            let RejectedRow { line, status, column, value, reason } = row;
            let (column, value) = (column.clone(), value.clone());
            let fault = RowFault { line: *line, column, value, reason: reason.clone() };
            eprintln!("{path}, line {line}: {status}: {fault}");
        } else if self.count == MAX_SHOWN + 1 && self.all.is_none() {
            eprintln!("more rows are rejected; --rejects FILE writes all of them to a file");
        }
        if let Some(all) = &mut self.all {
            serde_json::to_writer(&mut *all, &RejectLine { file: path, row })?;
            all.write_all(b"\n")?;
        }
        Ok(())
    }

    pub(super) fn finish(&mut self) -> anyhow::Result<()> {
        if let Some(all) = &mut self.all {
            all.flush().context("cannot write the rejected rows")?;
        }
        Ok(())
    }
}

//! Reader of newline-delimited JSON: an object per line.

use std::io::Read;

use anyhow::Context as _;
use memchr::memchr;

use super::encoding::TextInput;
use super::json::members;
use super::lines::LineBuffer;
use super::row::{CellSpan, RowCells, TableRow, TextRecord};
use super::settings::TableSettings;
use super::status::{RowFault, RowStatus};

/// Bytes from which the columns are collected.
const SAMPLE_BYTES: usize = 1 << 20;
/// Maximum number of lines from which the columns are collected.
const SAMPLE_LINES: usize = 1000;
/// Limit of a line.
const MAX_LINE_BYTES: usize = 64 << 20;

/// Reader of newline-delimited JSON.
pub(super) struct NdjsonReader {
    lines: LineBuffer<Box<dyn Read + Send>>,
    record: TextRecord,
    columns: Vec<String>,
    next_line: u64,
    line: u64,
    number: u64,
}

impl NdjsonReader {
    pub(super) fn open(input: TextInput, settings: &TableSettings) -> anyhow::Result<Self> {
        let mut lines = LineBuffer::new(input.bytes);
        lines.fill_to(SAMPLE_BYTES)?;
        // JSON objects omit null values, so that the first lines may lack optional columns.
        let mut columns = settings.optional.clone();
        for line in lines.bytes().split(|byte| *byte == b'\n').take(SAMPLE_LINES) {
            add_columns(line, &mut columns);
        }
        let record = TextRecord::default();
        Ok(Self { lines, record, columns, next_line: 1, line: 1, number: 0 })
    }

    pub(super) fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Reads the next line that is not blank.
    pub(super) fn advance(&mut self) -> anyhow::Result<RowStatus> {
        loop {
            let bytes = self.lines.bytes();
            let end = memchr(b'\n', bytes);
            if end.is_none() && !self.lines.is_last() {
                let line = self.next_line;
                anyhow::ensure!(
                    bytes.len() < MAX_LINE_BYTES,
                    "line {line}: is longer than {} MiB; newline-delimited JSON has one object \
                     per line",
                    MAX_LINE_BYTES >> 20
                );
                self.lines.fill().with_context(|| format!("after line {line}"))?;
                continue;
            }
            if bytes.is_empty() {
                return Ok(RowStatus::End);
            }
            let length = end.unwrap_or(bytes.len());
            let line = self.next_line;
            self.next_line += 1;
            if bytes[..length].trim_ascii().is_empty() {
                self.lines.consume(length + 1);
                continue;
            }
            self.line = line;
            self.number += 1;
            self.record.text.clear();
            let fault = if let Ok(text) = std::str::from_utf8(&bytes[..length]) {
                self.record.text.push_str(text);
                let read = read_members(&mut self.record, &self.columns);
                read.err().map(|reason| RowFault::of_row(line, text, reason))
            } else {
                let text = String::from_utf8_lossy(&bytes[..length]);
                Some(RowFault::of_row(line, &text, "is not UTF-8; set `table.encoding`"))
            };
            self.lines.consume(length + 1);
            return Ok(fault.map_or(RowStatus::Row, RowStatus::Faulty));
        }
    }

    pub(super) fn row(&self) -> TableRow<'_> {
        let cells = RowCells::Json { record: &self.record };
        TableRow::new(cells, self.line, self.number)
    }
}

fn add_columns(line: &[u8], columns: &mut Vec<String>) {
    let Ok(text) = std::str::from_utf8(line) else { return };
    for member in members(text).unwrap_or_default() {
        if !columns.iter().any(|known| *known == member.name) {
            columns.push(member.name.into_owned());
        }
    }
}

/// Finds the members of the record's object.
fn read_members(record: &mut TextRecord, columns: &[String]) -> Result<(), String> {
    record.spans.clear();
    record.spans.resize(columns.len(), CellSpan::default());
    let base = record.text.as_ptr() as usize;
    let members = members(&record.text)
        .map_err(|error| format!("is not a JSON object (column {} of the line)", error.column()))?;
    for member in members {
        if let Some(column) = columns.iter().position(|known| *known == member.name) {
            let start = member.value.as_ptr() as usize - base;
            record.spans[column] = CellSpan { start, end: start + member.value.len() };
        }
    }
    Ok(())
}

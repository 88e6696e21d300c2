//! Reader of CSV tables: header, records, and their encoding.

use std::io::Read;

use anyhow::Context as _;

use super::detect::detect_dialect;
use super::parse::{CellBuffer, CsvDialect, RecordEnd, first_line};
use crate::cli::table::cell::{is_integer, without_zero_decimals};
use crate::cli::table::encoding::{TextDecoder, TextInput};
use crate::cli::table::lines::LineBuffer;
use crate::cli::table::row::{CellSpan, RowCells, TableRow, TextRecord, TextRules};
use crate::cli::table::settings::TableSettings;
use crate::cli::table::status::{RowFault, RowStatus};

/// Bytes from which the dialect is detected.
const SAMPLE_BYTES: usize = 65_536;
/// Limit of a record: a larger one is the rest of a table behind an unclosed quote.
const MAX_RECORD_BYTES: usize = 16 << 20;
/// Maximum number of rows from which columns of integers are recognised.
const SAMPLE_ROWS: usize = 1000;

/// Reader of a CSV table.
pub(in crate::cli::table) struct CsvReader {
    lines: LineBuffer<Box<dyn Read + Send>>,
    dialect: CsvDialect,
    decoder: TextDecoder,
    cells: CellBuffer,
    record: TextRecord,
    rules: TextRules,
    columns: Vec<String>,
    /// Line of the next record.
    next_line: u64,
    /// Line and number of the current record.
    line: u64,
    number: u64,
}

impl CsvReader {
    pub(in crate::cli::table) fn open(
        input: TextInput,
        settings: &TableSettings,
    ) -> anyhow::Result<Self> {
        let mut lines = LineBuffer::new(input.bytes);
        lines.fill_to(SAMPLE_BYTES)?;
        let dialect = detect_dialect(lines.bytes(), lines.is_last(), settings);
        let rules = TextRules { null: settings.null.clone(), is_integral: Vec::new() };
        let mut reader = Self {
            lines,
            dialect,
            decoder: input.decoder,
            cells: CellBuffer::default(),
            record: TextRecord::default(),
            rules,
            columns: settings.columns.clone(),
            next_line: 1,
            line: 1,
            number: 0,
        };
        if reader.columns.is_empty() {
            reader.read_header()?;
        }
        reader.rules.is_integral = reader.integer_columns();
        Ok(reader)
    }

    pub(in crate::cli::table) fn columns(&self) -> &[String] {
        &self.columns
    }

    pub(in crate::cli::table) fn dialect(&self) -> CsvDialect {
        self.dialect
    }

    pub(in crate::cli::table) fn take_notice(&mut self) -> Option<String> {
        self.decoder.take_notice()
    }

    fn read_header(&mut self) -> anyhow::Result<()> {
        match self.next_record()? {
            RowStatus::Row => {}
            RowStatus::Faulty(fault) => anyhow::bail!("line {}: {fault}", fault.line),
            RowStatus::End => anyhow::bail!("the table is empty: it has no header line"),
        }
        let count = self.record.spans.len();
        let name = |span: &CellSpan| self.record.text[span.start..span.end].trim().to_owned();
        self.columns = self.record.spans[..count].iter().map(name).collect();
        self.number = 0;
        Ok(())
    }

    /// Reads the next row.
    pub(in crate::cli::table) fn advance(&mut self) -> anyhow::Result<RowStatus> {
        let status = self.next_record()?;
        if status != RowStatus::Row {
            return Ok(status);
        }
        let (found, expected) = (self.record.spans.len(), self.columns.len());
        if found != expected {
            let reason = format!(
                "has {found} {}, but the table has {expected} columns",
                if found == 1 { "cell" } else { "cells" }
            );
            let value = self.record_text();
            return Ok(RowStatus::Faulty(RowFault::of_row(self.line, &value, reason)));
        }
        Ok(RowStatus::Row)
    }

    /// The cells of the record with delimiters.
    fn record_text(&self) -> String {
        let mut text = String::new();
        for (column, span) in self.record.spans.iter().enumerate() {
            if column > 0 {
                text.push(self.dialect.delimiter.into());
            }
            text.push_str(&self.record.text[span.start..span.end]);
        }
        text
    }

    pub(in crate::cli::table) fn row(&self) -> TableRow<'_> {
        let cells = RowCells::Text { record: &self.record, rules: &self.rules };
        TableRow::new(cells, self.line, self.number)
    }

    /// Reads the next record that is not a blank line.
    fn next_record(&mut self) -> anyhow::Result<RowStatus> {
        loop {
            let bytes = self.lines.bytes();
            if bytes.is_empty() && self.lines.is_last() {
                return Ok(RowStatus::End);
            }
            let is_last = self.lines.is_last();
            let end = self.dialect.record(bytes, is_last, self.columns.len(), &mut self.cells);
            match end {
                RecordEnd::Incomplete => {
                    anyhow::ensure!(
                        bytes.len() < MAX_RECORD_BYTES,
                        "line {}: the row is longer than {} MiB; a quote in it may not be closed",
                        self.next_line,
                        MAX_RECORD_BYTES >> 20
                    );
                    self.lines.fill().with_context(|| format!("after line {}", self.next_line))?;
                }
                RecordEnd::Unclosed { newlines } => anyhow::bail!(
                    "line {}: a quote opens here and is not closed before other rows; close it, \
                     or set `table.quote = \"\"` if quotes are ordinary characters, or \
                     `table.multiline = true` if cells contain whole rows: {:?}",
                    self.next_line + newlines,
                    crate::cli::table::status::shortened(&String::from_utf8_lossy(nth_line(
                        bytes, newlines
                    )))
                ),
                RecordEnd::TextAfterQuote { length, newlines } => {
                    let text = String::from_utf8_lossy(first_line(bytes)).into_owned();
                    let line = self.start_record(newlines);
                    self.lines.consume(length);
                    let reason = "has text after a closing quote; quotes within quotes are \
                                  doubled, or escaped if `table.escape` is set";
                    return Ok(RowStatus::Faulty(RowFault::of_row(line, &text, reason)));
                }
                RecordEnd::Complete { length, newlines } => {
                    let is_blank = self.cells.ends.len() == 1
                        && bytes[..length].iter().all(u8::is_ascii_whitespace);
                    if is_blank {
                        self.lines.consume(length);
                        self.next_line += newlines;
                        continue;
                    }
                    let line = self.start_record(newlines);
                    self.lines.consume(length);
                    return Ok(
                        match self.decoder.decode(&mut self.cells, &mut self.record, line) {
                            Ok(()) => RowStatus::Row,
                            Err(fault) => RowStatus::Faulty(fault),
                        },
                    );
                }
            }
        }
    }

    fn start_record(&mut self, newlines: u64) -> u64 {
        self.line = self.next_line;
        self.next_line += newlines;
        self.number += 1;
        self.line
    }

    /// By column: whether all of its first values are integers, perhaps with decimals of zero.
    /// Columns without values count as such.
    fn integer_columns(&self) -> Vec<bool> {
        let mut is_integral = vec![true; self.columns.len()];
        let mut cells = CellBuffer::default();
        let mut rest = self.lines.bytes();
        let is_last = self.lines.is_last();
        for _ in 0..SAMPLE_ROWS {
            let end = self.dialect.record(rest, is_last, self.columns.len(), &mut cells);
            let RecordEnd::Complete { length, .. } = end else { break };
            if length == 0 {
                break;
            }
            rest = &rest[length..];
            let mut start = 0;
            for (end, is_integral) in cells.ends.iter().zip(&mut is_integral) {
                let text = std::str::from_utf8(&cells.bytes[start..*end]).unwrap_or("?").trim();
                let is_null = text.is_empty() || self.rules.null.iter().any(|null| null == text);
                *is_integral &= is_null || is_integer(without_zero_decimals(text));
                start = *end;
            }
        }
        is_integral
    }
}

/// The line after `newlines` line breaks.
fn nth_line(bytes: &[u8], newlines: u64) -> &[u8] {
    let mut rest = bytes;
    for _ in 0..newlines {
        let length = first_line(rest).len();
        let skip = if rest[length..].starts_with(b"\r\n") { 2 } else { 1 };
        rest = rest.get(length + skip..).unwrap_or_default();
    }
    first_line(rest)
}

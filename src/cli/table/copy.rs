//! Reader of the text format of Postgres' `COPY`: tabs between cells, `\N` for null,
//! backslash escapes, and no quotes.
//!
//! The columns come from `table.columns`, from a `COPY … FROM stdin;` line of a dump, or from
//! a header line (`COPY … WITH (HEADER)`).

use std::io::Read;

use anyhow::Context as _;
use memchr::memchr;

use super::encoding::TextInput;
use super::lines::LineBuffer;
use super::row::{CellSpan, RowCells, TableRow, TextRecord, TextRules};
use super::settings::{TableSettings, mark};
use super::status::{RowFault, RowStatus};

/// Marks the end of the data in a dump.
const END_OF_DATA: &[u8] = b"\\.";
/// Limit of a line.
const MAX_LINE_BYTES: usize = 64 << 20;

/// Reader of Postgres' text format.
pub(super) struct CopyReader {
    lines: LineBuffer<Box<dyn Read + Send>>,
    delimiter: u8,
    record: TextRecord,
    rules: TextRules,
    columns: Vec<String>,
    line: u64,
    number: u64,
    is_ended: bool,
}

impl CopyReader {
    pub(super) fn open(input: TextInput, settings: &TableSettings) -> anyhow::Result<Self> {
        let mut reader = Self {
            lines: LineBuffer::new(input.bytes),
            delimiter: mark(settings.delimiter.as_ref()).unwrap_or(b'\t'),
            record: TextRecord::default(),
            rules: TextRules { null: settings.null.clone(), is_integral: Vec::new() },
            columns: settings.columns.clone(),
            line: 0,
            number: 0,
            is_ended: false,
        };
        reader.read_header()?;
        Ok(reader)
    }

    pub(super) fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Skips the statements of a dump before the data; else reads a header line, if the
    /// columns are not declared.
    fn read_header(&mut self) -> anyhow::Result<()> {
        self.lines.fill()?;
        let is_dump = self.lines.bytes().split(|byte| *byte == b'\n').take(200).any(is_copy_line);
        if !is_dump && !self.columns.is_empty() {
            return Ok(());
        }
        while let Some(line) = self.next_line()? {
            if is_dump {
                if !is_copy_line(&line) {
                    continue;
                }
                let text = String::from_utf8_lossy(&line);
                let open = text.find('(').context("the COPY line of the dump names no columns")?;
                let names = text[open + 1..].split(')').next().unwrap_or_default();
                self.columns =
                    names.split(',').map(|name| name.trim().trim_matches('"').to_owned()).collect();
            } else {
                let names = String::from_utf8_lossy(&line).into_owned();
                let delimiter = char::from(self.delimiter);
                self.columns = names.split(delimiter).map(|name| name.trim().to_owned()).collect();
            }
            return Ok(());
        }
        anyhow::bail!("the table is empty: it has no columns")
    }

    /// The next line without its end.
    fn next_line(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        loop {
            let bytes = self.lines.bytes();
            let end = memchr(b'\n', bytes);
            if end.is_none() && !self.lines.is_last() {
                anyhow::ensure!(
                    bytes.len() < MAX_LINE_BYTES,
                    "line {}: is longer than {} MiB",
                    self.line + 1,
                    MAX_LINE_BYTES >> 20
                );
                self.lines.fill().with_context(|| format!("after line {}", self.line))?;
                continue;
            }
            if bytes.is_empty() {
                return Ok(None);
            }
            let length = end.unwrap_or(bytes.len());
            let line = bytes[..length].strip_suffix(b"\r").unwrap_or(&bytes[..length]).to_vec();
            self.lines.consume(length + 1);
            self.line += 1;
            return Ok(Some(line));
        }
    }

    /// Reads the next row.
    pub(super) fn advance(&mut self) -> anyhow::Result<RowStatus> {
        if self.is_ended {
            return Ok(RowStatus::End);
        }
        let Some(line) = self.next_line()? else { return Ok(RowStatus::End) };
        if line == END_OF_DATA {
            self.is_ended = true;
            return Ok(RowStatus::End);
        }
        self.number += 1;
        let Ok(text) = std::str::from_utf8(&line) else {
            let text = String::from_utf8_lossy(&line);
            let reason = "is not UTF-8; set `table.encoding`";
            return Ok(RowStatus::Faulty(RowFault::of_row(self.line, &text, reason)));
        };
        split_cells(text, self.delimiter, &mut self.record);
        let (found, expected) = (self.record.spans.len(), self.columns.len());
        if found != expected {
            let reason = format!("has {found} cells, but the table has {expected} columns");
            return Ok(RowStatus::Faulty(RowFault::of_row(self.line, text, reason)));
        }
        Ok(RowStatus::Row)
    }

    pub(super) fn row(&self) -> TableRow<'_> {
        let cells = RowCells::Text { record: &self.record, rules: &self.rules };
        TableRow::new(cells, self.line, self.number)
    }
}

fn is_copy_line(line: &[u8]) -> bool {
    let line = line.trim_ascii_end();
    line.starts_with(b"COPY ") && line.ends_with(b"FROM stdin;")
}

/// Splits a line into cells and resolves the escapes; `\N` is an empty cell.
fn split_cells(line: &str, delimiter: u8, record: &mut TextRecord) {
    record.text.clear();
    record.spans.clear();
    for cell in line.split(char::from(delimiter)) {
        let start = record.text.len();
        if cell != "\\N" {
            push_unescaped(cell, &mut record.text);
        }
        record.spans.push(CellSpan { start, end: record.text.len() });
    }
}

/// Resolves escapes as `COPY` does: control characters, octal and hexadecimal codes of ASCII
/// characters; any other escaped character is itself. A delimiter in a cell is written as
/// `\t`.
fn push_unescaped(cell: &str, text: &mut String) {
    let mut rest = cell.chars().peekable();
    while let Some(next) = rest.next() {
        if next != '\\' {
            text.push(next);
            continue;
        }
        let radix = match rest.next() {
            Some('b') => push(text, '\u{8}'),
            Some('f') => push(text, '\u{c}'),
            Some('n') => push(text, '\n'),
            Some('r') => push(text, '\r'),
            Some('t') => push(text, '\t'),
            Some('v') => push(text, '\u{b}'),
            Some('x') => Some(CodeDigits { radix: 16, limit: 2, value: 0 }),
            Some(digit @ '0'..='7') => {
                Some(CodeDigits { radix: 8, limit: 2, value: digit.to_digit(8).unwrap_or(0) })
            }
            Some(other) => push(text, other),
            None => None,
        };
        let Some(mut code) = radix else { continue };
        for _ in 0..code.limit {
            let Some(digit) = rest.peek().and_then(|digit| digit.to_digit(code.radix)) else {
                break;
            };
            code.value = code.value * code.radix + digit;
            rest.next();
        }
        text.push(char::from_u32(code.value & 0x7f).unwrap_or(' '));
    }
}

/// The digits of an escaped character code.
struct CodeDigits {
    radix: u32,
    /// Maximum number of further digits.
    limit: u32,
    value: u32,
}

fn push(text: &mut String, character: char) -> Option<CodeDigits> {
    text.push(character);
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_resolved() {
        let mut record = TextRecord::default();
        split_cells("1\t\\N\ta\\tb\\\\c\\n\\x41\\101\t", b'\t', &mut record);
        let cells: Vec<&str> =
            record.spans.iter().map(|span| &record.text[span.start..span.end]).collect();
        assert_eq!(cells, ["1", "", "a\tb\\c\nAA", ""]);
    }
}

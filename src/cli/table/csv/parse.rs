//! Parser of one CSV record (RFC 4180), which recognises unclosed quotes.
//!
//! A quote that is not closed makes the rest of a table one cell. Three signs show it: the
//! table ends inside the quotes, text follows a closing quote on a later line, or a quoted
//! cell contains a line with as many delimiters as a row has.

use memchr::{memchr_iter, memchr2, memchr3};

/// Minimum number of columns for a line inside a quoted cell to look like a row.
const MIN_ROW_COLUMNS: usize = 3;

/// Marks of a CSV dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CsvDialect {
    pub delimiter: u8,
    pub quote: Option<u8>,
    /// Makes the next character literal inside quotes, beside a doubled quote.
    pub escape: Option<u8>,
    /// Allows quoted cells that contain lines which look like rows.
    pub multiline: bool,
}

/// Bytes of the cells of one record.
#[derive(Debug, Default)]
pub struct CellBuffer {
    pub bytes: Vec<u8>,
    /// End of each cell in `bytes`.
    pub ends: Vec<usize>,
}

/// Outcome of parsing one record. `length` includes its line end; `newlines` counts the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordEnd {
    /// The bytes end within the record.
    Incomplete,
    Complete {
        length: usize,
        newlines: u64,
    },
    /// Text after a closing quote on the same line; the record ends with the line.
    TextAfterQuote {
        length: usize,
        newlines: u64,
    },
    /// A quote that opens after `newlines` lines is never closed.
    Unclosed {
        newlines: u64,
    },
}

/// Outcome of parsing one quoted cell.
enum QuotedEnd {
    Closed { at: usize, newlines: u64 },
    Incomplete,
    Unclosed,
    TextAfterQuote { at: usize },
}

impl CellBuffer {
    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    fn end_cell(&mut self) {
        self.ends.push(self.bytes.len());
    }
}

impl CsvDialect {
    /// Parses the record at the start of `bytes`. `is_last` is true if no bytes follow;
    /// `columns` is 0 where their number is unknown.
    pub fn record(
        self,
        bytes: &[u8],
        is_last: bool,
        columns: usize,
        cells: &mut CellBuffer,
    ) -> RecordEnd {
        cells.clear();
        let mut at = 0;
        let mut newlines = 0;
        loop {
            let cell = at;
            while bytes.get(at) == Some(&b' ') && self.delimiter != b' ' {
                at += 1;
            }
            let is_quoted = self.quote.is_some() && bytes.get(at).copied() == self.quote;
            if is_quoted {
                match self.quoted(bytes, at + 1, is_last, cells) {
                    QuotedEnd::Closed { at: end, newlines: inner } => {
                        if inner > 0 && self.has_row_inside(&bytes[at + 1..end], columns) {
                            return RecordEnd::Unclosed { newlines };
                        }
                        at = end;
                        newlines += inner;
                    }
                    QuotedEnd::Incomplete => return RecordEnd::Incomplete,
                    QuotedEnd::Unclosed => return RecordEnd::Unclosed { newlines },
                    // Blanks before a quote: the quotes are part of the text.
                    QuotedEnd::TextAfterQuote { .. } if cell < at => {
                        at = self.unquoted(bytes, cell, cells);
                    }
                    QuotedEnd::TextAfterQuote { at } => {
                        return line_end(bytes, at, is_last).map_or(
                            RecordEnd::Incomplete,
                            |length| RecordEnd::TextAfterQuote { length, newlines: newlines + 1 },
                        );
                    }
                }
            } else {
                at = self.unquoted(bytes, cell, cells);
            }
            match bytes.get(at) {
                None if !is_last => return RecordEnd::Incomplete,
                Some(byte) if *byte == self.delimiter => {
                    cells.end_cell();
                    at += 1;
                }
                None => {
                    cells.end_cell();
                    return RecordEnd::Complete { length: at, newlines };
                }
                Some(_) => {
                    cells.end_cell();
                    return line_end(bytes, at, is_last).map_or(RecordEnd::Incomplete, |length| {
                        RecordEnd::Complete { length, newlines: newlines + 1 }
                    });
                }
            }
        }
    }

    fn unquoted(self, bytes: &[u8], from: usize, cells: &mut CellBuffer) -> usize {
        let rest = bytes.get(from..).unwrap_or_default();
        let length = memchr3(self.delimiter, b'\n', b'\r', rest).unwrap_or(rest.len());
        cells.bytes.extend_from_slice(&rest[..length]);
        from + length
    }

    /// Parses a quoted cell from behind its opening quote to behind the blanks after its
    /// closing quote.
    fn quoted(self, bytes: &[u8], from: usize, is_last: bool, cells: &mut CellBuffer) -> QuotedEnd {
        let quote = self.quote.unwrap_or(b'"');
        let restart = cells.bytes.len();
        let mut at = from;
        loop {
            let rest = &bytes[at..];
            let found = memchr2(quote, self.escape.unwrap_or(quote), rest);
            let Some(mark) = found.map(|offset| at + offset) else {
                return if is_last { QuotedEnd::Unclosed } else { QuotedEnd::Incomplete };
            };
            cells.bytes.extend_from_slice(&bytes[at..mark]);
            let next = bytes.get(mark + 1);
            if bytes[mark] != quote || next == Some(&quote) {
                // An escape or a doubled quote: the next character is literal.
                let Some(next) = next else {
                    return if is_last { QuotedEnd::Unclosed } else { QuotedEnd::Incomplete };
                };
                if bytes[mark] != quote && *next != quote && Some(*next) != self.escape {
                    cells.bytes.push(bytes[mark]);
                }
                cells.bytes.push(*next);
                at = mark + 2;
                continue;
            }
            let mut end = mark + 1;
            while bytes.get(end) == Some(&b' ') && self.delimiter != b' ' {
                end += 1;
            }
            return match bytes.get(end) {
                None if !is_last => QuotedEnd::Incomplete,
                Some(byte) if *byte != self.delimiter && !matches!(byte, b'\n' | b'\r') => {
                    cells.bytes.truncate(restart);
                    if line_breaks(&bytes[from..mark]) > 0 {
                        QuotedEnd::Unclosed
                    } else {
                        QuotedEnd::TextAfterQuote { at: end }
                    }
                }
                _ => QuotedEnd::Closed { at: end, newlines: line_breaks(&bytes[from..mark]) },
            };
        }
    }

    /// Whether a line within a quoted cell, after its first one, has the delimiters of a row.
    fn has_row_inside(self, cell: &[u8], columns: usize) -> bool {
        !self.multiline
            && columns >= MIN_ROW_COLUMNS
            && cell
                .split(|byte| matches!(byte, b'\n' | b'\r'))
                .skip(1)
                .any(|line| memchr_iter(self.delimiter, line).count() + 1 == columns)
    }
}

/// Line breaks in `bytes`: LF, CRLF or CR.
fn line_breaks(bytes: &[u8]) -> u64 {
    let mut count = memchr_iter(b'\n', bytes).count();
    for at in memchr_iter(b'\r', bytes) {
        if bytes.get(at + 1) != Some(&b'\n') {
            count += 1;
        }
    }
    count as u64
}

/// Index behind the line end at or after `at`; `None` if it may continue in later bytes.
fn line_end(bytes: &[u8], at: usize, is_last: bool) -> Option<usize> {
    let rest = bytes.get(at..).unwrap_or_default();
    let Some(offset) = memchr2(b'\n', b'\r', rest) else {
        return is_last.then_some(bytes.len());
    };
    let mark = at + offset;
    if bytes[mark] == b'\n' {
        return Some(mark + 1);
    }
    match bytes.get(mark + 1) {
        Some(b'\n') => Some(mark + 2),
        None if !is_last => None,
        _ => Some(mark + 1),
    }
}

/// Position of the first line end in `bytes`.
pub(super) fn first_line(bytes: &[u8]) -> &[u8] {
    let length = memchr2(b'\n', b'\r', bytes).unwrap_or(bytes.len());
    &bytes[..length]
}

/// Whether `bytes` contain the two marks in this order, one after the other.
pub(super) fn contains_pair(bytes: &[u8], first: u8, second: u8) -> bool {
    let mut rest = bytes;
    while let Some(at) = memchr::memchr(first, rest) {
        if rest.get(at + 1) == Some(&second) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMA: CsvDialect =
        CsvDialect { delimiter: b',', quote: Some(b'"'), escape: None, multiline: false };

    fn cells(dialect: CsvDialect, text: &str) -> (RecordEnd, Vec<String>) {
        let mut buffer = CellBuffer::default();
        let end = dialect.record(text.as_bytes(), true, 3, &mut buffer);
        let mut cells = Vec::new();
        let mut start = 0;
        for end in buffer.ends {
            cells.push(String::from_utf8(buffer.bytes[start..end].to_vec()).expect("text"));
            start = end;
        }
        (end, cells)
    }

    #[test]
    fn quotes_are_removed_and_doubled_quotes_are_one() {
        let (end, found) = cells(COMMA, "a,\"b \"\"c\"\", d\" , \"e\"\r\nnext");
        assert_eq!(found, ["a", "b \"c\", d", "e"]);
        assert_eq!(end, RecordEnd::Complete { length: 22, newlines: 1 });
        let (_, found) = cells(COMMA, "5\" pipe, \"a\" b,");
        assert_eq!(found, ["5\" pipe", " \"a\" b", ""]);
    }

    #[test]
    fn lines_within_quotes_are_counted() {
        let (end, found) = cells(COMMA, "a,\"b\nc\",d\n");
        assert_eq!(found, ["a", "b\nc", "d"]);
        assert_eq!(end, RecordEnd::Complete { length: 10, newlines: 2 });
    }

    #[test]
    fn unclosed_quotes_are_found() {
        for text in [
            "a,b,\"c\n1,2,3\n",
            "a,b,\"c\n1,2,\"3\"\n",
            "a,b,\"c\n1,2,3\"\n",
            "a,b,\"c\n1,2,3\n4,5,\"\n",
        ] {
            assert_eq!(cells(COMMA, text).0, RecordEnd::Unclosed { newlines: 0 }, "{text:?}");
        }
        let (end, found) = cells(CsvDialect { multiline: true, ..COMMA }, "a,b,\"c\n1,2,3\"\n");
        assert_eq!(found[2], "c\n1,2,3");
        assert_eq!(end, RecordEnd::Complete { length: 14, newlines: 2 });
    }

    #[test]
    fn text_after_a_quote_costs_one_line() {
        let (end, _) = cells(COMMA, "a,\"5\" screen\",b\nc,d,e");
        assert_eq!(end, RecordEnd::TextAfterQuote { length: 16, newlines: 1 });
    }

    #[test]
    fn escapes_make_quotes_literal() {
        let spark = CsvDialect { escape: Some(b'\\'), ..COMMA };
        assert_eq!(cells(spark, r#"a,"b \"c\", \n",d"#).1, ["a", r#"b "c", \n"#, "d"]);
    }
}

//! Delimiter-separated text: CSV (RFC 4180) and its dialects.

mod detect;
mod parse;
mod read;

pub use detect::detect_dialect;
pub use parse::{CellBuffer, CsvDialect, RecordEnd};
pub(super) use read::CsvReader;

//! Outcome of reading one row.

use std::fmt;

/// Maximum length of a value in a message, in characters.
const MAX_VALUE_CHARS: usize = 80;

/// Outcome of advancing a table by one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowStatus {
    /// The current row can be read.
    Row,
    /// The row is unreadable; the rows after it are not affected.
    Faulty(RowFault),
    End,
}

/// Reason why a row is rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowFault {
    /// Line in the file, from 1; the row number in Parquet.
    pub line: u64,
    /// `None` for a fault of the whole row.
    pub column: Option<String>,
    pub value: Option<String>,
    /// The broken rule, without the value.
    pub reason: String,
}

impl RowFault {
    pub(super) fn of_row(line: u64, value: &str, reason: impl Into<String>) -> Self {
        let value = shortened(value);
        Self { line, column: None, value: Some(value), reason: reason.into() }
    }

    pub(crate) fn of_cell(line: u64, column: &str, value: &str, reason: impl Into<String>) -> Self {
        let value = shortened(value);
        Self { line, column: Some(column.to_owned()), value: Some(value), reason: reason.into() }
    }
}

/// `column "quantity": "x" is not a number`.
impl fmt::Display for RowFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(column) = &self.column {
            write!(f, "column {column:?}: ")?;
        }
        if let Some(value) = &self.value {
            write!(f, "{value:?} ")?;
        }
        f.write_str(&self.reason)
    }
}

/// The start of a value, for messages.
pub(crate) fn shortened(value: &str) -> String {
    let value = value.trim();
    match value.char_indices().nth(MAX_VALUE_CHARS) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}

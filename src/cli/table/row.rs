//! Rows of a table, and the columns that a mapping reads from them.

use std::borrow::Cow;
use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::cell::{TableCell, without_zero_decimals};
use super::json::{at_path, json_cell, text_cell};
use crate::domain::nearest::nearest_name;

/// Maximum number of column names in a message.
const MAX_NAMES: usize = 40;

/// Cells of one row as spans of text.
#[derive(Debug, Default)]
pub(super) struct TextRecord {
    pub(super) text: String,
    /// By column.
    pub(super) spans: Vec<CellSpan>,
}

/// Bytes of a cell in the text of its record.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct CellSpan {
    pub(super) start: usize,
    pub(super) end: usize,
}

/// How the texts of a table are read.
#[derive(Debug, Default)]
pub(super) struct TextRules {
    /// Texts that mean missing.
    pub(super) null: Vec<String>,
    /// By column: whether all of its first values are integers, perhaps with decimals of zero.
    pub(super) is_integral: Vec<bool>,
}

/// Cells that lookup tables add to a row.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct JoinedCells<'a> {
    /// Index of the first added column.
    pub(super) first: usize,
    pub(super) cells: &'a [TableCell<'static>],
}

/// One row of a table.
#[derive(Debug, Clone, Copy)]
pub struct TableRow<'a> {
    pub(super) cells: RowCells<'a>,
    pub(super) joined: JoinedCells<'a>,
    /// Line in the file, from 1; the row number in Parquet.
    pub line: u64,
    /// Number of the data row in its file, from 1.
    pub number: u64,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum RowCells<'a> {
    Text {
        record: &'a TextRecord,
        rules: &'a TextRules,
    },
    /// A JSON object per line; spans are those of its members.
    Json {
        record: &'a TextRecord,
    },
    Values(&'a [TableCell<'static>]),
    /// An element of a JSON array.
    Element(&'a str),
}

impl<'a> TableRow<'a> {
    pub(super) fn new(cells: RowCells<'a>, line: u64, number: u64) -> Self {
        Self { cells, joined: JoinedCells::default(), line, number }
    }

    /// A JSON object as a row; its columns are paths.
    pub(crate) fn element(raw: &'a str, of: &Self) -> Self {
        Self { cells: RowCells::Element(raw), ..*of }
    }

    /// The cell of a column; missing if the row has none.
    pub fn cell(&self, column: usize) -> TableCell<'a> {
        if let Some(joined) = column.checked_sub(self.joined.first)
            && let Some(cell) = self.joined.cells.get(joined)
        {
            return cell.clone();
        }
        match self.cells {
            RowCells::Text { record, rules } => {
                let text = record.text(column).trim();
                if rules.null.iter().any(|null| null == text) {
                    return TableCell::Missing;
                }
                let is_integral = rules.is_integral.get(column).copied().unwrap_or(false);
                text_cell(if is_integral { without_zero_decimals(text) } else { text }.into())
            }
            RowCells::Json { record } => json_cell(record.text(column)),
            RowCells::Values(cells) => cells.get(column).cloned().unwrap_or(TableCell::Missing),
            RowCells::Element(raw) => json_cell(raw),
        }
    }

    /// Hash of the whole row: equal for rows of equal cells.
    pub(crate) fn content_hash(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        match self.cells {
            RowCells::Text { record, .. } => {
                for column in 0..record.spans.len() {
                    hash_cell(&mut hash, record.text(column).trim());
                }
            }
            RowCells::Json { record } => hash.update(record.text.trim()),
            RowCells::Values(cells) => {
                for cell in cells {
                    hash_cell(&mut hash, &cell.text().unwrap_or_default());
                }
            }
            RowCells::Element(raw) => hash.update(raw),
        }
        hash.finalize().into()
    }
}

/// Hashes a cell after its length, so that no two lists of cells have one hash.
fn hash_cell(hash: &mut Sha256, text: &str) {
    hash.update((text.len() as u64).to_le_bytes());
    hash.update(text);
}

impl TextRecord {
    fn text(&self, column: usize) -> &str {
        let span = self.spans.get(column).copied().unwrap_or_default();
        self.text.get(span.start..span.end).unwrap_or_default()
    }
}

/// A column as a mapping names it: the name of a column, or a path into its JSON
/// (`items.0.price`).
#[derive(Debug, Clone)]
pub struct ColumnPath {
    pub name: String,
    /// `None` for an optional column that this table does not have, and for elements.
    index: Option<usize>,
    path: Vec<String>,
}

/// The columns of a table.
#[derive(Debug, Clone, Default)]
pub struct TableColumns {
    pub names: Vec<String>,
    /// Columns that may be absent.
    pub optional: Vec<String>,
}

impl TableColumns {
    /// Finds a column by its name, or by the name of the column that contains the path.
    pub(crate) fn find(&self, name: &str) -> Result<ColumnPath, String> {
        let mut found = self.index_of(name).map(|index| (index, Vec::new()));
        for (dot, _) in name.rmatch_indices('.') {
            if found.is_none() {
                let path = name[dot + 1..].split('.').map(str::to_owned).collect();
                found = self.index_of(&name[..dot]).map(|index| (index, path));
            }
        }
        match found {
            Some((index, path)) => {
                Ok(ColumnPath { name: name.to_owned(), index: Some(index), path })
            }
            None if self.is_optional(name) => {
                Ok(ColumnPath { name: name.to_owned(), index: None, path: Vec::new() })
            }
            None => Err(self.unknown(name)),
        }
    }

    fn index_of(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| known == name)
    }

    fn is_optional(&self, name: &str) -> bool {
        self.optional.iter().any(|known| {
            name.strip_prefix(known.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    }

    /// The message about a column that the table does not have.
    pub(crate) fn unknown(&self, name: &str) -> String {
        let shown: Vec<String> =
            self.names.iter().take(MAX_NAMES).map(|name| format!("{name:?}")).collect();
        let more = self.names.len().saturating_sub(MAX_NAMES);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let mut message =
            format!("the table has no column {name:?}; it has {}{more}", shown.join(", "));
        let near = nearest_name(name, self.names.iter().map(String::as_str));
        if let Some(near) = near {
            let _ = write!(message, "; did you mean {near:?}?");
        } else if let [only] = self.names.as_slice()
            && let Some(mark) = only.chars().find(|c| [',', ';', '\t', '|'].contains(c))
        {
            let _ = write!(
                message,
                "; the only column name contains {mark:?}, which may be the delimiter: set \
                 `table.delimiter`"
            );
        }
        message
    }
}

impl ColumnPath {
    /// A path in the elements of an array.
    pub(crate) fn in_element(name: &str) -> Self {
        let path = name.split('.').map(str::to_owned).collect();
        Self { name: name.to_owned(), index: None, path }
    }

    pub fn read<'a>(&self, row: &TableRow<'a>) -> TableCell<'a> {
        if let RowCells::Element(raw) = row.cells {
            return at_path(raw, &self.path).map_or(TableCell::Missing, json_cell);
        }
        let Some(index) = self.index else { return TableCell::Missing };
        let cell = row.cell(index);
        if self.path.is_empty() {
            return cell;
        }
        match cell {
            TableCell::Json(Cow::Borrowed(raw)) | TableCell::Text(Cow::Borrowed(raw)) => {
                at_path(raw, &self.path).map_or(TableCell::Missing, json_cell)
            }
            TableCell::Json(Cow::Owned(raw)) | TableCell::Text(Cow::Owned(raw)) => {
                let found = at_path(&raw, &self.path).map(json_cell);
                found.map_or(TableCell::Missing, TableCell::into_owned)
            }
            _ => TableCell::Missing,
        }
    }
}

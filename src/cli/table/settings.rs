//! How a table is stored: the `[table]` section of a mapping. Settings without a value are
//! detected.

use encoding_rs::Encoding;
use serde::Deserialize;

use crate::domain::fault::{ValidationFault, ValidationFaults};

/// Storage format of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TableFormat {
    Csv,
    Ndjson,
    Parquet,
    PostgresCopy,
}

/// Settings of a table; `config/load.example.toml` is their manual.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TableSettings {
    pub format: Option<TableFormat>,
    /// Label of the WHATWG Encoding Standard.
    pub encoding: Option<String>,
    pub delimiter: Option<String>,
    /// An empty text: quotes are ordinary characters.
    pub quote: Option<String>,
    pub escape: Option<String>,
    /// Allows cells that contain lines which look like rows.
    pub multiline: bool,
    /// Names of the columns of a table without a header line.
    pub columns: Vec<String>,
    /// Columns that may be absent.
    pub optional: Vec<String>,
    /// Texts that mean missing, beside the empty cell.
    pub null: Vec<String>,
    /// Decimal mark of numbers: `.` or `,`.
    pub decimal: Option<String>,
}

impl TableSettings {
    pub(crate) fn validate(&self, faults: &mut ValidationFaults) {
        for (path, value) in [
            ("table.delimiter", &self.delimiter),
            ("table.quote", &self.quote),
            ("table.escape", &self.escape),
        ] {
            let may_be_empty = path != "table.delimiter";
            if value.as_ref().is_some_and(|text| !is_mark(text, may_be_empty)) {
                faults.push(ValidationFault::new(path, "must be one ASCII character"));
            }
        }
        if self.decimal.as_ref().is_some_and(|mark| mark != "." && mark != ",") {
            faults.push(ValidationFault::new("table.decimal", "must be \".\" or \",\""));
        }
        if let Err(problem) = self.declared_encoding() {
            faults.push(ValidationFault::new("table.encoding", problem));
        }
    }

    pub(super) fn declared_encoding(&self) -> Result<Option<&'static Encoding>, String> {
        let Some(label) = &self.encoding else { return Ok(None) };
        let encoding = Encoding::for_label(label.as_bytes());
        encoding.map(Some).ok_or_else(|| {
            format!("must be a label of the WHATWG Encoding Standard, such as \"utf-8\", \"windows-1252\" or \"utf-16le\": is {label:?}")
        })
    }

    pub(crate) fn decimal_mark(&self) -> char {
        if self.decimal.as_deref() == Some(",") { ',' } else { '.' }
    }
}

fn is_mark(text: &str, may_be_empty: bool) -> bool {
    match text.as_bytes() {
        [] => may_be_empty,
        [byte] => byte.is_ascii() && !matches!(byte, b'\n' | b'\r'),
        _ => false,
    }
}

/// The byte of a setting of one character.
pub(super) fn mark(text: Option<&String>) -> Option<u8> {
    text.and_then(|text| text.bytes().next())
}

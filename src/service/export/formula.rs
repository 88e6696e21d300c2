//! Protection against CSV formula injection (OWASP): cells that a spreadsheet would run.
//!
//! Customer ids come from senders, and CSV files are often opened in a spreadsheet. A
//! cell that begins with one of a few characters is a formula there, and may start
//! programs or send other cells to a server. A leading `'` makes it text.

use std::borrow::Cow;

/// Escaping of text in CSV.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CsvEscaping {
    /// Prefix formulas with `'`.
    #[default]
    Formulas,
    /// Unchanged, for programs.
    None,
}

impl CsvEscaping {
    /// The text as a CSV cell.
    pub(crate) fn escape_cell(self, text: &str) -> Cow<'_, str> {
        if self == Self::Formulas && text.starts_with(is_formula_start) {
            return Cow::Owned(format!("'{text}"));
        }
        Cow::Borrowed(text)
    }
}

/// Characters listed by OWASP, and the full-width forms of the first four, which
/// spreadsheets in some languages treat alike.
const fn is_formula_start(first: char) -> bool {
    matches!(first, '=' | '+' | '-' | '@' | '\t' | '\r' | '\n' | '＝' | '＋' | '－' | '＠')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_spreadsheet_would_run_becomes_text() {
        for formula in ["=1+0", "+cmd", "-10", "@SUM(1)", "\t=1", "\r=1", "\n=1", "＝1", "="] {
            assert_eq!(CsvEscaping::Formulas.escape_cell(formula), format!("'{formula}"));
            assert_eq!(CsvEscaping::None.escape_cell(formula), formula);
        }
        for plain in ["", "1510", "a=1", "'=1", " =1", "c-10", "é"] {
            assert_eq!(CsvEscaping::Formulas.escape_cell(plain), plain);
        }
    }
}

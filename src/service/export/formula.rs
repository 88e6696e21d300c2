//! CSV formula injection (OWASP): a cell that a spreadsheet would run as a formula.
//!
//! Customer ids come from senders, and a CSV file is often opened in a spreadsheet.
//! A cell that begins with one of a few characters is a formula there, and may call
//! programs or send other cells away. A leading `'` makes it text.

use std::borrow::Cow;

/// How text is written into CSV.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CsvEscape {
    /// A text that a spreadsheet would run gets a `'` in front.
    #[default]
    Formulas,
    /// As it is: for programs.
    None,
}

impl CsvEscape {
    pub const ALL: [Self; 2] = [Self::Formulas, Self::None];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Formulas => "formulas",
            Self::None => "none",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|escape| escape.as_str() == text)
    }

    /// The text as a cell.
    pub fn cell(self, text: &str) -> Cow<'_, str> {
        if self == Self::Formulas && text.starts_with(begins_formula) {
            return Cow::Owned(format!("'{text}"));
        }
        Cow::Borrowed(text)
    }
}

/// The characters that OWASP lists, and the full-width forms of the first four, which
/// spreadsheets in some languages read alike.
const fn begins_formula(first: char) -> bool {
    matches!(first, '=' | '+' | '-' | '@' | '\t' | '\r' | '\n' | '＝' | '＋' | '－' | '＠')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_spreadsheet_would_run_becomes_text() {
        for formula in ["=1+0", "+cmd", "-10", "@SUM(1)", "\t=1", "\r=1", "\n=1", "＝1", "="] {
            assert_eq!(CsvEscape::Formulas.cell(formula), format!("'{formula}"));
            assert_eq!(CsvEscape::None.cell(formula), formula);
        }
        for plain in ["", "1510", "a=1", "'=1", " =1", "c-10", "é"] {
            assert_eq!(CsvEscape::Formulas.cell(plain), plain);
        }
    }
}

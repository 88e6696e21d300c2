//! One value of a table, in the type of its format.

use std::borrow::Cow;

/// From this magnitude on, a double cannot represent every integer.
const EXACT_INTEGERS: f64 = 9_007_199_254_740_992.0;

/// A value of a table.
#[derive(Debug, Clone, PartialEq)]
pub enum TableCell<'a> {
    /// Empty, null, or one of the texts that mean missing.
    Missing,
    Bool(bool),
    Integer(i128),
    Number(f64),
    /// A JSON number as it is written, so that it keeps every digit.
    Digits(Cow<'a, str>),
    /// Trimmed text.
    Text(Cow<'a, str>),
    /// A JSON array or object.
    Json(Cow<'a, str>),
}

impl TableCell<'_> {
    /// The value as text; a whole number has no decimals. `None` if it is missing.
    pub fn text(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Missing => None,
            Self::Bool(value) => Some(Cow::Borrowed(if *value { "true" } else { "false" })),
            Self::Integer(number) => Some(number.to_string().into()),
            Self::Number(number) => Some(number.to_string().into()),
            Self::Digits(text) => Some(Cow::Borrowed(without_zero_decimals(text))),
            Self::Text(text) | Self::Json(text) => Some(Cow::Borrowed(text)),
        }
    }

    /// Reason why the value cannot identify anything: digits of it are lost.
    pub(crate) fn lost_digits(&self) -> Option<&'static str> {
        match self {
            Self::Number(number) if number.abs() >= EXACT_INTEGERS => Some(
                "is a floating-point number beyond 2^53, which has lost digits; store ids as integers or text",
            ),
            Self::Text(text) | Self::Digits(text) if is_scientific(text) => {
                Some("is in scientific notation, which has lost digits; export ids as text")
            }
            _ => None,
        }
    }

    pub(super) fn into_owned(self) -> TableCell<'static> {
        match self {
            Self::Missing => TableCell::Missing,
            Self::Bool(value) => TableCell::Bool(value),
            Self::Integer(number) => TableCell::Integer(number),
            Self::Number(number) => TableCell::Number(number),
            Self::Digits(text) => TableCell::Digits(text.into_owned().into()),
            Self::Text(text) => TableCell::Text(text.into_owned().into()),
            Self::Json(text) => TableCell::Json(text.into_owned().into()),
        }
    }
}

/// `17850` for `17850.0`, which is how pandas writes an integer column with gaps.
pub(super) fn without_zero_decimals(text: &str) -> &str {
    match text.split_once('.') {
        Some((whole, decimals))
            if !decimals.is_empty()
                && decimals.bytes().all(|byte| byte == b'0')
                && is_integer(whole) =>
        {
            whole
        }
        _ => text,
    }
}

/// Whether `text` consists of digits, after an optional minus sign.
pub(crate) fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether `text` is a number such as `8.41E+12`. An id such as `12e5` is not.
fn is_scientific(text: &str) -> bool {
    let Some((mantissa, exponent)) = text.split_once(['e', 'E']) else { return false };
    (mantissa.contains('.') || exponent.starts_with('+'))
        && mantissa.parse::<f64>().is_ok()
        && exponent.parse::<i32>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_have_no_decimals() {
        assert_eq!(TableCell::Number(17850.0).text().as_deref(), Some("17850"));
        assert_eq!(TableCell::Digits("17850.0".into()).text().as_deref(), Some("17850"));
        assert_eq!(TableCell::Number(0.5).text().as_deref(), Some("0.5"));
        let digits = "100000000000000000001";
        assert_eq!(TableCell::Digits(digits.into()).text().as_deref(), Some(digits));
    }

    #[test]
    fn numbers_that_lost_digits_are_recognised() {
        for cell in [TableCell::Number(1e20), TableCell::Text("8.41123E+12".into())] {
            assert!(cell.lost_digits().is_some(), "{cell:?}");
        }
        for cell in [TableCell::Text("12e5".into()), TableCell::Text("a.b+c".into())] {
            assert!(cell.lost_digits().is_none(), "{cell:?}");
        }
    }
}

//! Decimal numbers as text: exact integers of any size, and the nearest double.

/// The digits of a decimal number that is an integer: `17850.0` and `1.785e4` are `17850`, and
/// `-0` is `0`. `None` for a fraction, for a text that is no decimal number, and for an integer
/// with more than `max_digits` digits.
pub fn integer_digits(text: &str, max_digits: usize) -> Option<String> {
    let number = DecimalParts::parse(text)?;
    let significant = number.digits.trim_start_matches('0');
    let trimmed = significant.trim_end_matches('0');
    if trimmed.is_empty() {
        return Some("0".to_owned());
    }
    let removed = i64::try_from(significant.len() - trimmed.len()).ok()?;
    let zeros = usize::try_from(number.exponent.checked_add(removed)?).ok()?;
    if trimmed.len().checked_add(zeros)? > max_digits {
        return None;
    }
    let mut digits = String::with_capacity(1 + trimmed.len() + zeros);
    if number.is_negative {
        digits.push('-');
    }
    digits.push_str(trimmed);
    digits.extend(std::iter::repeat_n('0', zeros));
    Some(digits)
}

/// Whether the text is a decimal number: an optional sign, digits with an optional fraction,
/// and an optional exponent.
pub fn is_decimal(text: &str) -> bool {
    DecimalParts::parse(text).is_some()
}

/// The nearest double of a decimal number; `None` for another text, and for a number beyond
/// the range of a double.
pub fn nearest_double(text: &str) -> Option<f64> {
    if !is_decimal(text) {
        return None;
    }
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// A decimal number: `digits` × 10^`exponent`.
struct DecimalParts {
    is_negative: bool,
    digits: String,
    exponent: i64,
}

impl DecimalParts {
    fn parse(text: &str) -> Option<Self> {
        let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = [whole, fraction].concat();
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let exponent = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?;
        Some(Self { is_negative: text.starts_with('-'), digits, exponent })
    }
}

/// The exponent, saturated: whatever is beyond 64 bits is beyond every other limit too.
fn parse_exponent(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let size: i64 = digits.parse().unwrap_or(i64::MAX / 2).min(i64::MAX / 2);
    Some(if text.starts_with('-') { -size } else { size })
}

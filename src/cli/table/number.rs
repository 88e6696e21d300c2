//! Numbers and amounts of money as text.

/// Parses a number with the given decimal mark. It has no thousands separators.
pub(crate) fn parse_number(text: &str, decimal: char) -> Result<f64, &'static str> {
    let parsed = if decimal == '.' {
        text.parse::<f64>()
    } else if text.contains('.') {
        return Err(
            "is not a number with a decimal comma; use type = \"money\" if it has thousands separators",
        );
    } else {
        text.replace(decimal, ".").parse::<f64>()
    };
    match parsed {
        Ok(number) if number.is_finite() => Ok(number),
        Ok(number) if number.is_nan() => {
            Err("is not a number; list it in `table.null` if it means missing")
        }
        Ok(_) => Err("is infinite, or larger than 1.8e308"),
        Err(_) if text.contains(',') => {
            Err("is not a number; use type = \"money\" for thousands separators, or \
             table.decimal = \",\" for a decimal comma")
        }
        Err(_) => Err("is not a number"),
    }
}

/// Parses an amount of money: `$1,234.50`, `1.234,50 €` with a decimal comma, `(12.00)` or
/// `12.00-` for a negative amount, `1'234.50`, `USD 5`.
pub(crate) fn parse_money(text: &str, decimal: char) -> Result<f64, &'static str> {
    let mut rest = text.trim();
    let mut is_negative = false;
    if let Some(inner) = rest.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
        is_negative = true;
        rest = inner;
    }
    let first = rest.find(|c: char| c.is_ascii_digit());
    let end = rest.rfind(|c: char| c.is_ascii_digit());
    let (Some(first), Some(end)) = (first, end) else { return Err("is not an amount of money") };
    // A decimal mark before the first digit belongs to the number (`.5`), unless it ends a word
    // (`Rs.5`).
    let before = rest[..first].strip_suffix(decimal);
    let start = match before {
        Some(before) if !before.ends_with(char::is_alphabetic) => before.len(),
        _ => first,
    };
    for around in [&rest[..start], &rest[end + 1..]] {
        is_negative |= around.contains(['-', '\u{2212}']);
        if around.chars().any(|c| matches!(c, '.' | ',' | '\'') && c != decimal)
            && !around.chars().any(char::is_alphabetic)
        {
            return Err("is not an amount of money");
        }
    }
    let digits = &rest[start..=end];
    let (whole, decimals) = digits.split_once(decimal).unwrap_or((digits, ""));
    if !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("is not an amount of money");
    }
    let mut plain = String::with_capacity(digits.len() + 1);
    for (at, group) in whole.split(|c: char| is_separator(c, decimal)).enumerate() {
        let is_group = group.bytes().all(|byte| byte.is_ascii_digit())
            && (at == 0 || matches!(group.len(), 2 | 3));
        if !is_group {
            return Err("is not an amount of money");
        }
        plain.push_str(group);
    }
    let last_group = whole.rsplit(|c: char| is_separator(c, decimal)).next().unwrap_or(whole);
    if last_group.len() != whole.len() && last_group.len() != 3 {
        return Err(
            "has a thousands separator before two digits; set table.decimal if it is the decimal mark",
        );
    }
    plain.push('.');
    plain.push_str(decimals);
    let amount: f64 = plain.parse().map_err(|_| "is not an amount of money")?;
    Ok(if is_negative { -amount } else { amount })
}

/// Thousands separators of the world, except the decimal mark.
fn is_separator(c: char, decimal: char) -> bool {
    c != decimal && matches!(c, ',' | '.' | '\'' | '\u{2019}' | ' ' | '\u{a0}' | '\u{202f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_the_world_are_parsed() {
        for (text, decimal, amount) in [
            ("$12", '.', 12.0),
            ("1,234.50", '.', 1234.5),
            ("-$1,234.50", '.', -1234.5),
            ("(12.00)", '.', -12.0),
            ("12.00-", '.', -12.0),
            ("USD 5", '.', 5.0),
            ("Rs. 1,23,456.00", '.', 123_456.0),
            ("1.234,50 €", ',', 1234.5),
            ("1\u{202f}234,50\u{a0}€", ',', 1234.5),
            ("CHF 1'234.50", '.', 1234.5),
            (".5", '.', 0.5),
        ] {
            assert_eq!(parse_money(text, decimal), Ok(amount), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "free", "1,23", "1.2.3", "1,2345", "1-2"] {
            assert!(parse_money(text, '.').is_err(), "{text}");
        }
        for text in ["1,234", "NaN", "inf", "1e999", "x"] {
            assert!(parse_number(text, '.').is_err(), "{text}");
        }
        assert_eq!(parse_number("5,50", ','), Ok(5.5));
        assert!(parse_number("1.234,5", ',').is_err());
    }
}

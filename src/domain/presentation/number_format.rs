//! Formatting of numbers and times for sentences.

use chrono::DateTime;

use crate::domain::time::Timestamp;

/// Three significant digits: `0.0123`, `1.5`, `12,300`.
pub(crate) fn format_number(x: f64) -> String {
    // At most twelve decimals are shown.
    if x.abs() < 1e-12 || !x.is_finite() {
        return "0".into();
    }
    let magnitude = x.abs().log10().floor() as i32;
    if magnitude >= 2 {
        let step = 10_f64.powi(magnitude - 2);
        return format_integer((x / step).round() * step);
    }
    let decimals = (2 - magnitude).clamp(0, 12) as usize;
    let text = format!("{x:.decimals$}");
    text.trim_end_matches('0').trim_end_matches('.').into()
}

/// `12 %`, `4.3 %`, `0.25 %`.
pub fn format_percent(share: f64) -> String {
    let percent = 100.0 * share;
    if percent == 0.0 {
        return "0 %".into();
    }
    let decimals = match percent.abs() {
        x if x >= 10.0 => 0,
        x if x >= 1.0 => 1,
        _ => 2,
    };
    format!("{percent:.decimals$} %")
}

/// `= 0.0123`, `< 0.0001`.
pub(crate) fn format_p_value(p: f64) -> String {
    if p < 1e-4 { "< 0.0001".into() } else { format!("= {}", format_number(p)) }
}

/// Whether a unit is written: `1` is that of a plain number.
pub(crate) fn is_written(unit: &str) -> bool {
    !matches!(unit, "" | "1")
}

/// A number followed by its unit, if it has one. A `share` is a percentage.
pub(crate) fn format_with_unit(x: f64, unit: &str) -> String {
    if unit == "share" {
        return format_percent(x);
    }
    if is_written(unit) { format!("{} {unit}", format_number(x)) } else { format_number(x) }
}

/// `12,345`.
pub(crate) fn format_integer(x: f64) -> String {
    let digits = format!("{:.0}", x.abs());
    let mut text = String::from(if x < 0.0 { "-" } else { "" });
    for (i, digit) in digits.char_indices() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// An instant in UTC, to the minute: `9 Feb 2026, 14:00 UTC`.
pub(crate) fn format_time(at: Timestamp) -> String {
    match DateTime::from_timestamp_millis(at.millis()) {
        Some(time) => time.format("%-d %b %Y, %H:%M UTC").to_string(),
        None => at.to_string(),
    }
}

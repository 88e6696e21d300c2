//! Conversion of event properties to their declared types, where no information is lost.

use crate::domain::event::{PropertyValue, UnreadableValue};
use crate::domain::feature::reading::filter::{NumberUse, PropertyType};
use crate::domain::json::decimal;
use crate::domain::text::{NUL_PROBLEM, is_storable};

/// Absolute limit of numbers that a feature adds: far above any price or quantity, and low
/// enough that sums cannot saturate (see `exact`).
pub const MAX_NUMBER: f64 = 1e12;
/// Absolute limit of numbers that a feature shows without adding them (`last`, `min`, `max` and
/// traits): above every 64-bit integer, and low enough that single precision can square it.
pub const MAX_SHOWN_NUMBER: f64 = 1e19;
/// Maximum length of declared texts, so that the customer state has a bounded size.
pub const MAX_TEXT_BYTES: usize = 1024;

/// Reason why a value is not taken.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::domain::feature) enum ConversionFault {
    /// The event is taken without this property.
    LeftOut(String),
    /// The event is rejected: a sum without this number would be wrong.
    Refused(String),
}

/// Converts a value to the declared type: a number to text, decimal text to a number, `true`
/// and `false` from and to text, 0 and 1 to true and false.
pub(in crate::domain::feature) fn convert(
    expected: PropertyType,
    value: PropertyValue,
) -> Result<PropertyValue, ConversionFault> {
    let value = match (expected, value) {
        (PropertyType::Number(_), PropertyValue::Text(text)) => decimal_text(expected, &text)?,
        (PropertyType::Bool, PropertyValue::Text(text)) => match text.trim() {
            word if word.eq_ignore_ascii_case("true") => PropertyValue::Bool(true),
            word if word.eq_ignore_ascii_case("false") => PropertyValue::Bool(false),
            _ => return Err(wrong_type(expected, "a text")),
        },
        (PropertyType::Bool, PropertyValue::Number(number)) if [0.0, 1.0].contains(&number) => {
            PropertyValue::Bool(number > 0.5)
        }
        // Adding 0 turns -0 into 0.
        (PropertyType::Text, PropertyValue::Number(number)) => {
            PropertyValue::Text((number + 0.0).to_string().into())
        }
        (PropertyType::Text, PropertyValue::Integer(number)) => {
            PropertyValue::Text(number.to_string().into())
        }
        (PropertyType::Text, PropertyValue::Bool(flag)) => {
            PropertyValue::Text(flag.to_string().into())
        }
        (_, value) => value,
    };
    match (expected, &value) {
        (
            PropertyType::Number(number_use),
            PropertyValue::Number(_) | PropertyValue::Integer(_),
        ) => {
            check_number(number_use, &value)?;
        }
        (PropertyType::Text | PropertyType::Any, PropertyValue::Text(text)) => check_text(text)?,
        (PropertyType::Bool | PropertyType::Any, PropertyValue::Bool(_))
        | (PropertyType::Any, PropertyValue::Number(_) | PropertyValue::Integer(_)) => {}
        (_, other) => return Err(wrong_type(expected, PropertyType::of_scalar(other).noun())),
    }
    Ok(value)
}

/// The fault of a declared property with a value that is no scalar.
pub(in crate::domain::feature) fn unreadable(
    expected: PropertyType,
    value: UnreadableValue,
) -> ConversionFault {
    match (expected, value) {
        (PropertyType::Number(number_use), UnreadableValue::TooLarge) => too_large(number_use),
        _ => wrong_type(expected, value.noun()),
    }
}

fn decimal_text(expected: PropertyType, text: &str) -> Result<PropertyValue, ConversionFault> {
    let text = text.trim();
    match PropertyValue::from_decimal(text) {
        Some(number) => Ok(number),
        None if decimal::is_decimal(text) => Err(unreadable(expected, UnreadableValue::TooLarge)),
        None => Err(wrong_type(expected, "a text that is no decimal number")),
    }
}

fn check_number(number_use: NumberUse, value: &PropertyValue) -> Result<(), ConversionFault> {
    let number = value.as_number().unwrap_or_default();
    match number_use {
        NumberUse::Summed if number.abs() > MAX_NUMBER => Err(ConversionFault::Refused(format!(
            "must lie within ±{MAX_NUMBER:e}; it is {number:e}"
        ))),
        NumberUse::Shown if number.abs() > MAX_SHOWN_NUMBER => Err(ConversionFault::LeftOut(
            format!("must lie within ±{MAX_SHOWN_NUMBER:e}; it is {number:e}"),
        )),
        _ => Ok(()),
    }
}

fn too_large(number_use: NumberUse) -> ConversionFault {
    let noun = UnreadableValue::TooLarge.noun();
    match number_use {
        NumberUse::Summed => {
            ConversionFault::Refused(format!("must lie within ±{MAX_NUMBER:e}; it is {noun}"))
        }
        NumberUse::Shown | NumberUse::Compared => {
            ConversionFault::LeftOut(format!("must be a finite number; it is {noun}"))
        }
    }
}

fn check_text(text: &str) -> Result<(), ConversionFault> {
    if text.len() > MAX_TEXT_BYTES {
        let problem = format!("must be at most {MAX_TEXT_BYTES} bytes long; it is {}", text.len());
        return Err(ConversionFault::LeftOut(problem));
    }
    if !is_storable(text) {
        return Err(ConversionFault::LeftOut(NUL_PROBLEM.to_owned()));
    }
    Ok(())
}

fn wrong_type(expected: PropertyType, found: &str) -> ConversionFault {
    ConversionFault::LeftOut(format!(
        "must be {}, as the feature set declares it; it is {found}",
        expected.noun()
    ))
}

//! Range check of a setting.

use std::fmt::Display;
use std::ops::RangeInclusive;

use crate::domain::fault::{ValidationFault, ValidationFaults};

/// Adds a fault unless `value` is within `range`. NaN is in no range.
pub(crate) fn check_range<T: PartialOrd + Display + Copy>(
    faults: &mut ValidationFaults,
    path: &str,
    value: T,
    range: RangeInclusive<T>,
) {
    if !range.contains(&value) {
        let (from, to) = range.into_inner();
        faults.push(ValidationFault::new(path, format!("must be from {from} to {to}, is {value}")));
    }
}

//! Range check of a setting.

use std::fmt::Display;
use std::ops::RangeInclusive;

use crate::domain::fault::{Fault, Faults};

/// Adds a fault unless `value` is within `range`. NaN is in no range.
pub(crate) fn check_range<T: PartialOrd + Display + Copy>(
    faults: &mut Faults,
    path: &str,
    value: T,
    range: RangeInclusive<T>,
) {
    if !range.contains(&value) {
        let (from, to) = range.into_inner();
        faults.push(Fault::new(path, format!("must be from {from} to {to}, is {value}")));
    }
}

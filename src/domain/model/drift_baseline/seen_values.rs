//! Seen values: the values of one feature that occurred in training, so that a scored row can
//! be recognised as new.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Maximum number of distinct numbers to list; a feature with more is described by its range.
const MAX_LISTED_NUMBERS: usize = 64;

/// Maximum number of categories beyond the ones counted by name; with more, new categories are
/// not recognised.
const MAX_OTHER_CATEGORIES: usize = 10_000;

/// The values of one feature in the training rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SeenValues {
    /// Few distinct numbers, such as a count of errors: any other number is unseen.
    Numbers {
        /// Strictly ascending.
        values: Vec<f64>,
        repeats: ValueRepeats,
    },
    /// Many distinct numbers: a number outside of the range is unseen.
    Range { lowest: f64, highest: f64 },
    /// Categories: one that is neither counted by name nor in `others` is unseen.
    Categories {
        /// Hashes of the categories that are not counted by name, strictly ascending. Hashes,
        /// because a rare category can identify a person.
        others: Vec<u64>,
        repeats: ValueRepeats,
    },
}

/// How many distinct values occurred in one row and in two rows. The share of values that
/// training missed is estimated from them (Good 1953).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValueRepeats {
    pub once: u64,
    pub twice: u64,
}

impl SeenValues {
    /// `None` without a value.
    pub(super) fn of_numbers(ascending: &[f64]) -> Option<Self> {
        let (lowest, highest) = (*ascending.first()?, *ascending.last()?);
        let mut values = Vec::new();
        let mut repeats = ValueRepeats::default();
        // Equal numbers, 0 and -0 among them, stand side by side.
        for equal in ascending.chunk_by(|a, b| is_same(*a, *b)) {
            if values.len() == MAX_LISTED_NUMBERS {
                return Some(Self::Range { lowest, highest });
            }
            values.extend(equal.first());
            repeats.add(equal.len() as u64);
        }
        Some(Self::Numbers { values, repeats })
    }

    /// `None` with more categories than can be stored. `is_named` selects the categories that
    /// are counted by name.
    pub(super) fn of_categories(
        counts: &BTreeMap<&str, u64>,
        is_named: impl Fn(&str) -> bool,
    ) -> Option<Self> {
        let mut repeats = ValueRepeats::default();
        let mut others = Vec::new();
        for (category, rows) in counts {
            repeats.add(*rows);
            if !is_named(category) {
                others.push(category_hash(category));
            }
        }
        others.sort_unstable();
        others.dedup();
        (others.len() <= MAX_OTHER_CATEGORIES).then_some(Self::Categories { others, repeats })
    }

    /// Whether no training row had this number.
    pub(crate) fn is_new_number(&self, number: f64) -> bool {
        match self {
            Self::Numbers { values, .. } => {
                let at = values.partition_point(|value| *value < number);
                values.get(at).is_none_or(|value| !is_same(*value, number))
            }
            Self::Range { lowest, highest } => !(*lowest..=*highest).contains(&number),
            Self::Categories { .. } => true,
        }
    }

    /// Whether no training row had this category, which is not one of those counted by name.
    pub(crate) fn is_new_category(&self, category: &str) -> bool {
        match self {
            Self::Categories { others, .. } => {
                others.binary_search(&category_hash(category)).is_err()
            }
            Self::Numbers { .. } | Self::Range { .. } => true,
        }
    }

    pub(super) fn is_sound(&self) -> bool {
        match self {
            Self::Numbers { values, .. } => {
                values.iter().all(|value| value.is_finite()) && values.is_sorted_by(|a, b| a < b)
            }
            Self::Range { lowest, highest } => {
                lowest.is_finite() && highest.is_finite() && lowest < highest
            }
            Self::Categories { others, .. } => others.is_sorted_by(|a, b| a < b),
        }
    }
}

impl ValueRepeats {
    fn add(&mut self, rows: u64) {
        match rows {
            1 => self.once += 1,
            2 => self.twice += 1,
            _ => {}
        }
    }
}

/// Whether two numbers are equal; 0 and -0 are.
fn is_same(a: f64, b: f64) -> bool {
    a.partial_cmp(&b) == Some(Ordering::Equal)
}

/// 64-bit FNV-1a hash (Fowler, Noll, Vo), equal on every machine.
fn category_hash(category: &str) -> u64 {
    category.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

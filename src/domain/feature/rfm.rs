//! The fallback: segments by rule from recency, frequency and monetary value.
//!
//! Answers when no model does, so it needs no training and cannot fail: three
//! features, four cut points each, and a table of ten names. Scores of 1 to 5
//! are Hughes's ("Strategic Database Marketing"); the ten names, and their
//! places on the grid of recency against frequency and money, are those that
//! RFM tools share, by custom rather than from one source.

use crate::domain::feature::{FeatureRow, Value};

/// Which features are scored, and where.
#[derive(Debug, Clone, PartialEq)]
pub struct RfmRules {
    /// Low is good: days since the last order.
    pub recency: Scored,
    pub frequency: Scored,
    pub monetary: Scored,
}

/// One feature and the values that part its five scores.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    pub feature: Box<str>,
    /// Its place in the feature set.
    pub index: usize,
    /// Ascending, in the feature's unit. A value equal to a cut is below it.
    pub cuts: [f64; 4],
}

/// A customer's segment by rule. Scores run from 1 (worst) to 5 (best).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RfmSegment {
    /// Its place in [`SEGMENTS`].
    pub index: usize,
    /// Stable, for machines: `champions`.
    pub key: &'static str,
    /// For people: `Champions`.
    pub label: &'static str,
    pub recency: u8,
    pub frequency: u8,
    pub monetary: u8,
}

/// Key and label of every segment, best first.
pub const SEGMENTS: [(&str, &str); 10] = [
    ("champions", "Champions"),
    ("loyal_customers", "Loyal Customers"),
    ("potential_loyalist", "Potential Loyalist"),
    ("new_customers", "New Customers"),
    ("promising", "Promising"),
    ("need_attention", "Need Attention"),
    ("about_to_sleep", "About To Sleep"),
    ("at_risk", "At Risk"),
    ("cant_lose_them", "Can't Lose Them"),
    ("lost", "Lost"),
];

const CHAMPIONS: usize = 0;
const LOYAL: usize = 1;
const POTENTIAL: usize = 2;
const NEW: usize = 3;
const PROMISING: usize = 4;
const ATTENTION: usize = 5;
const SLEEP: usize = 6;
const AT_RISK: usize = 7;
const CANNOT_LOSE: usize = 8;
const LOST: usize = 9;

/// Rows: recency 1 to 5. Columns: the mean of frequency and monetary, half
/// rounded up, 1 to 5.
const GRID: [[usize; 5]; 5] = [
    [LOST, LOST, AT_RISK, AT_RISK, CANNOT_LOSE],
    [LOST, LOST, AT_RISK, AT_RISK, CANNOT_LOSE],
    [SLEEP, SLEEP, ATTENTION, LOYAL, LOYAL],
    [PROMISING, POTENTIAL, POTENTIAL, LOYAL, LOYAL],
    [NEW, POTENTIAL, POTENTIAL, CHAMPIONS, CHAMPIONS],
];

impl RfmRules {
    /// The segment of a row of the feature set these rules belong to. What is
    /// missing scores 1.
    pub fn assess(&self, row: &FeatureRow) -> RfmSegment {
        let recency = self.recency.cuts_passed(row).map_or(1, |passed| 5 - passed);
        let frequency = self.frequency.cuts_passed(row).map_or(1, |passed| 1 + passed);
        let monetary = self.monetary.cuts_passed(row).map_or(1, |passed| 1 + passed);
        let worth = (frequency + monetary).div_ceil(2);
        let index = GRID[usize::from(recency) - 1][usize::from(worth) - 1];
        let (key, label) = SEGMENTS[index];
        RfmSegment { index, key, label, recency, frequency, monetary }
    }
}

impl Scored {
    /// How many cuts the value lies above, 0 to 4; `None` where it is missing.
    fn cuts_passed(&self, row: &FeatureRow) -> Option<u8> {
        match row.0.get(self.index) {
            Some(Value::Number(value)) => Some(self.cuts_below(*value)),
            _ => None,
        }
    }

    /// How many cuts a value lies above.
    pub(in crate::domain) fn cuts_below(&self, value: f64) -> u8 {
        self.cuts.iter().map(|cut| u8::from(value > *cut)).sum()
    }
}

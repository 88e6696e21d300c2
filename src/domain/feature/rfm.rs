//! Rule-based fallback: RFM segments from recency, frequency and monetary value.
//!
//! It answers when no model does, so it needs no training and cannot fail: three features, four
//! cut points each, and a table of ten segments. Scores of 1 to 5 are Hughes's ("Strategic
//! Database Marketing"). The ten names, and their cells in the grid of recency against
//! frequency and monetary value, are common to RFM tools by custom, without a single source.

use crate::domain::feature::{FeatureRow, FeatureValue};

/// The scored features and their cut points.
#[derive(Debug, Clone, PartialEq)]
pub struct RfmRules {
    /// Days since the last order; a low value scores high.
    pub recency: RfmInput,
    pub frequency: RfmInput,
    pub monetary: RfmInput,
}

/// A feature with the cut points between its five scores.
#[derive(Debug, Clone, PartialEq)]
pub struct RfmInput {
    pub feature: Box<str>,
    /// Index in the feature set.
    pub index: usize,
    /// In ascending order and the feature's unit. A value equal to a cut is below it.
    pub cuts: [f64; 4],
}

/// The RFM segment of a customer. Scores range from 1 (worst) to 5 (best).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RfmSegment {
    /// Index in `SEGMENTS`.
    pub index: usize,
    /// Stable id: `champions`.
    pub id: &'static str,
    /// Name for people: `Champions`.
    pub name: &'static str,
    pub recency: u8,
    pub frequency: u8,
    pub monetary: u8,
}

/// Id and name of every segment, best first.
pub(crate) const SEGMENTS: [(&str, &str); 10] = [
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

/// Index of the RFM segment whose name is consistent with the churn probability of the customers.
///
/// Names that imply leaving (`About To Sleep`, `At Risk`, `Can't Lose Them`, `Lost`) require at least
/// the mean churn probability of all customers. With a churn probability below one half, `Lost` becomes
/// `At Risk`. `None`: no consistent name.
pub(in crate::domain) fn named_by_churn(
    segment: usize,
    churn: f64,
    mean_churn: f64,
) -> Option<usize> {
    match segment {
        SLEEP | AT_RISK | CANNOT_LOSE | LOST if churn < mean_churn => None,
        LOST if churn < 0.5 => Some(AT_RISK),
        _ => Some(segment),
    }
}

/// The name of the segment with this id.
pub(crate) fn segment_name(id: &str) -> Option<&'static str> {
    SEGMENTS.iter().find(|(known, _)| *known == id).map(|(_, name)| *name)
}

pub(in crate::domain) const CHAMPIONS: usize = 0;
const LOYAL: usize = 1;
const POTENTIAL: usize = 2;
const NEW: usize = 3;
const PROMISING: usize = 4;
const ATTENTION: usize = 5;
const SLEEP: usize = 6;
const AT_RISK: usize = 7;
const CANNOT_LOSE: usize = 8;
const LOST: usize = 9;

/// Segment by recency score (rows, 1 to 5) and by the mean of frequency and monetary scores,
/// half rounded up (columns, 1 to 5).
const GRID: [[usize; 5]; 5] = [
    [LOST, LOST, AT_RISK, AT_RISK, CANNOT_LOSE],
    [LOST, LOST, AT_RISK, AT_RISK, CANNOT_LOSE],
    [SLEEP, SLEEP, ATTENTION, LOYAL, LOYAL],
    [PROMISING, POTENTIAL, POTENTIAL, LOYAL, LOYAL],
    [NEW, POTENTIAL, POTENTIAL, CHAMPIONS, CHAMPIONS],
];

impl RfmRules {
    /// Indices of the features that the rules read.
    pub(crate) fn inputs(&self) -> impl Iterator<Item = usize> {
        [&self.recency, &self.frequency, &self.monetary].into_iter().map(|input| input.index)
    }

    /// Scores a row of the feature set that these rules belong to. A missing feature scores 1.
    pub fn score_row(&self, row: &FeatureRow) -> RfmSegment {
        let recency = self.recency.cuts_below_row(row).map_or(1, |passed| 5 - passed);
        let frequency = self.frequency.cuts_below_row(row).map_or(1, |passed| 1 + passed);
        let monetary = self.monetary.cuts_below_row(row).map_or(1, |passed| 1 + passed);
        let worth = (frequency + monetary).div_ceil(2);
        let index = GRID[usize::from(recency) - 1][usize::from(worth) - 1];
        let (id, name) = SEGMENTS[index];
        RfmSegment { index, id, name, recency, frequency, monetary }
    }
}

impl RfmInput {
    /// The number of cuts below the row's value, 0 to 4; `None` for a missing value.
    fn cuts_below_row(&self, row: &FeatureRow) -> Option<u8> {
        match row.0.get(self.index) {
            Some(FeatureValue::Number(value)) => Some(self.cuts_below(*value)),
            _ => None,
        }
    }

    /// The number of cuts below a value.
    pub(in crate::domain) fn cuts_below(&self, value: f64) -> u8 {
        self.cuts.iter().map(|cut| u8::from(value > *cut)).sum()
    }
}

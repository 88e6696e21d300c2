//! Why a customer is as far from the prototype as it is: each feature's part.

use crate::domain::feature::{FeatureRow, Value};
use crate::domain::model::segment::Typical;
use crate::domain::model::{Model, Score};

/// One feature's part in a score.
#[derive(Debug, Clone, PartialEq)]
pub struct Reason {
    /// Index into `Model::features`.
    pub feature: usize,
    /// Its share of the squared distance to the prototype, 0..1; all shares
    /// add up to 1, or to 0 for a customer exactly on the prototype.
    pub share: f64,
    /// The customer's value, in the feature's unit.
    pub value: Value,
    /// The segment's median, or its most frequent category.
    pub typical: Value,
    pub direction: Direction,
}

/// The customer's value compared with the segment's typical one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Higher,
    Lower,
    Same,
    /// Another category, or one of the two is missing.
    Different,
}

impl Model {
    /// The reasons for the distance in `score`, which this model gave to
    /// `row`, largest share first. Allocates.
    pub fn explain(&self, row: &FeatureRow, score: &Score) -> Vec<Reason> {
        let (Some(prototype), Some(segment)) =
            (self.prototypes().rows().nth(score.segment), self.segments().get(score.segment))
        else {
            return Vec::new();
        };
        let mut vector = vec![0.0; self.encoder().width()];
        self.encoder().encode(row, &mut vector);

        let mut squared = vec![0.0_f64; self.features().len()];
        let mut is_read = vec![false; self.features().len()];
        for ((column, x), centre) in self.encoder().columns().iter().zip(&vector).zip(prototype) {
            squared[column.feature] += (f64::from(*x) - f64::from(*centre)).powi(2);
            is_read[column.feature] = true;
        }
        let total: f64 = squared.iter().sum();

        let mut reasons: Vec<Reason> = (0..squared.len())
            .filter(|feature| is_read[*feature])
            .map(|feature| {
                let value = row.0.get(feature).cloned().unwrap_or(Value::Missing);
                let typical = segment
                    .profile
                    .iter()
                    .find(|profile| profile.feature == feature)
                    .map_or(Value::Missing, |profile| typical_value(&profile.here));
                let direction = direction(&value, &typical);
                let share = if total > 0.0 { squared[feature] / total } else { 0.0 };
                Reason { feature, share, value, typical, direction }
            })
            .collect();
        reasons.sort_by(|a, b| b.share.total_cmp(&a.share));
        reasons
    }
}

fn typical_value(typical: &Typical) -> Value {
    match typical {
        Typical::Number { median, .. } => Value::Number(*median),
        Typical::Category { most_frequent, .. } => Value::Category(most_frequent.clone()),
        Typical::Unknown => Value::Missing,
    }
}

fn direction(value: &Value, typical: &Value) -> Direction {
    match (value, typical) {
        (Value::Number(here), Value::Number(there)) if here > there => Direction::Higher,
        (Value::Number(here), Value::Number(there)) if here < there => Direction::Lower,
        (here, there) if here == there => Direction::Same,
        _ => Direction::Different,
    }
}

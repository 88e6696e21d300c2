//! Outcomes: numbers that no model reads, by which segmentations are judged, such as the answer to
//! a survey or the cost of campaigns. A segmentation is the better, the more of their variance it
//! explains.

use crate::domain::fault::{ValidationFault, ValidationFaults};
use crate::domain::feature::{FeatureDefinition, FeatureRow, FeatureValue};
use crate::domain::stats::{AnalysisOfVariance, RunningMoments};
use crate::domain::train::evaluation::external_indices::SegmentLabel;

/// Most outcomes of a run.
pub(crate) const MOST_OUTCOMES: usize = 10;
/// Fewest customers with a number for an outcome to count.
pub(crate) const LEAST_KNOWN: usize = 100;

/// The outcomes of some rows, one column for each outcome that can judge.
#[derive(Debug, Clone, Default)]
pub struct OutcomeColumns {
    /// Of each row; `None` where the outcome is not known.
    columns: Vec<Vec<Option<f64>>>,
    /// Outcomes without a column: few rows have a number, or all have the same.
    pub(crate) unusable: Vec<Box<str>>,
}

/// Validates the names of outcomes.
pub(crate) fn check_names(names: &[Box<str>], faults: &mut ValidationFaults) {
    if names.len() > MOST_OUTCOMES {
        let problem = format!("must be at most {MOST_OUTCOMES} features, are {}", names.len());
        faults.push(ValidationFault::new("outcomes", problem));
    }
    for (place, name) in names.iter().enumerate() {
        if names[..place].contains(name) {
            let problem = format!("`{name}` is listed twice");
            faults.push(ValidationFault::new(format!("outcomes[{place}]"), problem));
        }
    }
}

impl OutcomeColumns {
    /// Reads the outcomes of `rows` by name.
    pub(crate) fn read(
        names: &[Box<str>],
        defs: &[FeatureDefinition],
        rows: &[&FeatureRow],
    ) -> Self {
        let mut outcomes = Self::default();
        for name in names {
            let Some(index) = defs.iter().position(|def| def.name == *name) else { continue };
            let mut column = Vec::with_capacity(rows.len());
            for row in rows {
                column.push(match row.0.get(index) {
                    Some(FeatureValue::Number(number)) => Some(*number),
                    _ => None,
                });
            }
            let mut known = column.iter().flatten();
            let first = known.next();
            let differs = known.clone().any(|number| Some(number) != first);
            if differs && known.count() + 1 >= LEAST_KNOWN {
                outcomes.columns.push(column);
            } else {
                outcomes.unusable.push(name.clone());
            }
        }
        outcomes
    }

    /// The outcomes of some of the rows.
    pub(crate) fn select(&self, rows: &[usize]) -> Self {
        let mut columns = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            columns.push(rows.iter().map(|row| column[*row]).collect());
        }
        Self { columns, unusable: vec![] }
    }

    /// Mean over the outcomes of the share of the variance that the segments explain (epsilon
    /// squared), times the share of the rows in a segment; not below 0. `None` without outcomes.
    pub(crate) fn explained_share(&self, labels: &[SegmentLabel]) -> Option<f64> {
        let shares: Vec<f64> =
            self.columns.iter().map(|column| explained_share(column, labels)).collect();
        (!shares.is_empty()).then(|| shares.iter().sum::<f64>() / shares.len() as f64)
    }
}

fn explained_share(column: &[Option<f64>], labels: &[SegmentLabel]) -> f64 {
    let segments = labels.iter().flatten().max().map_or(0, |last| *last as usize + 1);
    let mut groups = vec![RunningMoments::default(); segments];
    let (mut known, mut assigned) = (0_u64, 0_u64);
    for (value, label) in column.iter().zip(labels) {
        let Some(value) = value else { continue };
        known += 1;
        if let Some(segment) = label {
            assigned += 1;
            groups[*segment as usize].add(*value);
        }
    }
    groups.retain(|group| group.rows > 0);
    let analysis = AnalysisOfVariance::measure(&groups);
    let explained = analysis.map_or(0.0, |analysis| analysis.explained_share.max(0.0));
    explained * assigned as f64 / known.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::OutcomeColumns;
    use crate::domain::train::evaluation::external_indices::SegmentLabel;

    fn share(values: &[f64], labels: &[SegmentLabel]) -> f64 {
        let columns = vec![values.iter().copied().map(Some).collect()];
        OutcomeColumns { columns, unusable: vec![] }.explained_share(labels).unwrap()
    }

    #[test]
    fn a_segmentation_is_judged_by_what_it_explains_of_all_rows() {
        let values = [1.0, 1.0, 1.0, 5.0, 5.0, 5.0];
        let (a, b) = (Some(0), Some(1));
        assert!((share(&values, &[a, a, a, b, b, b]) - 1.0).abs() < 1e-12);
        // One row of each group in the wrong segment.
        let mixed = share(&values, &[a, a, b, a, b, b]);
        assert!(mixed > 0.0 && mixed < 0.2, "{mixed}");
        // Groups without a difference explain nothing, and neither does one segment.
        assert!(share(&[1.0, 5.0, 1.0, 5.0], &[a, a, b, b]).abs() < 1e-12);
        assert!(share(&values, &[a; 6]).abs() < 1e-12);
        // A row without a segment is not explained.
        let partial = share(&values, &[a, a, None, b, b, None]);
        assert!((partial - 4.0 / 6.0).abs() < 1e-12, "{partial}");
        assert_eq!(OutcomeColumns::default().explained_share(&[a, b]), None);
    }
}

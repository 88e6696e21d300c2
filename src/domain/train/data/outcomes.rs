//! Outcomes: numbers that no model reads, by which segmentations are judged, such as the answer to
//! a survey or the cost of campaigns. A segmentation is the better, the more of their variance it
//! explains.

use crate::domain::fault::{ValidationFault, ValidationFaults};
use crate::domain::feature::{FeatureDefinition, FeatureRow, FeatureValue};
use crate::domain::stats::{AnalysisOfVariance, RunningMoments};
use crate::domain::train::evaluation::external_indices::SegmentLabel;
use crate::domain::train::evaluation::internal_indices::SampleEstimate;

/// Most outcomes of a run.
pub(crate) const MOST_OUTCOMES: usize = 10;
/// Fewest customers with a number for an outcome to count.
pub(crate) const LEAST_KNOWN: usize = 100;

/// The outcomes of some rows, one column for each outcome that can judge.
#[derive(Debug, Clone, Default)]
pub struct OutcomeColumns {
    columns: Vec<OutcomeColumn>,
    /// Outcomes without a column: too few of the rows have a number, or all have the same.
    pub(crate) unusable: Vec<Box<str>>,
}

#[derive(Debug, Clone)]
struct OutcomeColumn {
    name: Box<str>,
    /// Of each row; `None` where the outcome is not known.
    values: Vec<Option<f64>>,
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
            let mut values = Vec::with_capacity(rows.len());
            for row in rows {
                values.push(match row.0.get(index) {
                    Some(FeatureValue::Number(number)) => Some(*number),
                    _ => None,
                });
            }
            outcomes.add(OutcomeColumn { name: name.clone(), values });
        }
        outcomes
    }

    /// The outcomes of some of the rows, as far as they can judge there.
    pub(crate) fn select(&self, rows: &[usize]) -> Self {
        let mut selected = Self { columns: Vec::new(), unusable: self.unusable.clone() };
        for OutcomeColumn { name, values } in &self.columns {
            let values = rows.iter().map(|row| values[*row]).collect();
            selected.add(OutcomeColumn { name: name.clone(), values });
        }
        selected
    }

    fn add(&mut self, column: OutcomeColumn) {
        if column.can_judge() {
            self.columns.push(column);
        } else {
            self.unusable.push(column.name);
        }
    }

    /// Mean over the outcomes of the share of the variance that the segments explain (epsilon
    /// squared), times the share of the rows in a segment; not below 0. `None` without outcomes.
    pub(crate) fn explained_share(&self, labels: &[SegmentLabel]) -> Option<SampleEstimate> {
        if self.columns.is_empty() {
            return None;
        }
        let count = self.columns.len() as f64;
        let (mut sum, mut variance, mut rows) = (0.0, 0.0, 0);
        for column in &self.columns {
            let explained = column.explained_share(labels);
            sum += explained.value;
            variance += explained.error * explained.error;
            rows = explained.rows.max(rows);
        }
        Some(SampleEstimate { value: (sum / count).max(0.0), error: variance.sqrt() / count, rows })
    }
}

impl OutcomeColumn {
    fn can_judge(&self) -> bool {
        let mut known = self.values.iter().flatten();
        let first = known.next();
        known.clone().any(|number| Some(number) != first) && known.count() + 1 >= LEAST_KNOWN
    }

    /// The standard error is that of a squared correlation (Olkin and Finn 1995), and for segments that
    /// explain nothing that of chance.
    fn explained_share(&self, labels: &[SegmentLabel]) -> SampleEstimate {
        let segments = labels.iter().flatten().max().map_or(0, |last| *last as usize + 1);
        let mut groups = vec![RunningMoments::default(); segments];
        let (mut known, mut assigned) = (0_usize, 0_usize);
        for (value, label) in self.values.iter().zip(labels) {
            let Some(value) = value else { continue };
            known += 1;
            if let Some(segment) = label {
                assigned += 1;
                groups[*segment as usize].add(*value);
            }
        }
        groups.retain(|group| group.rows > 0);
        let explained = AnalysisOfVariance::measure(&groups).map_or(0.0, |one| one.explained_share);
        let rows = known.max(1) as f64;
        let share = explained.clamp(0.0, 1.0);
        let variance = 4.0 * share * (1.0 - share).powi(2) / rows
            + 2.0 * groups.len().saturating_sub(1) as f64 / (rows * rows);
        let part = assigned as f64 / rows;
        SampleEstimate { value: explained * part, error: variance.sqrt() * part, rows: known }
    }
}

#[cfg(test)]
mod tests {
    use super::{LEAST_KNOWN, OutcomeColumn, OutcomeColumns};
    use crate::domain::train::evaluation::external_indices::SegmentLabel;

    fn share(values: &[f64], labels: &[SegmentLabel]) -> f64 {
        let values = values.iter().copied().map(Some).collect();
        let columns = vec![OutcomeColumn { name: "answer".into(), values }];
        OutcomeColumns { columns, unusable: vec![] }.explained_share(labels).unwrap().value
    }

    #[test]
    fn a_segmentation_is_judged_by_what_it_explains_of_all_rows() {
        let values = [1.0, 1.0, 1.0, 5.0, 5.0, 5.0];
        let (a, b) = (Some(0), Some(1));
        assert!((share(&values, &[a, a, a, b, b, b]) - 1.0).abs() < 1e-12);
        // One row in three in the wrong segment.
        let mixed = share(&values.repeat(3), &[a, a, b, a, b, b].repeat(3));
        assert!(mixed > 0.0 && mixed < 0.2, "{mixed}");
        // Groups without a difference explain nothing, and neither does one segment.
        assert!(share(&[1.0, 5.0, 1.0, 5.0], &[a, a, b, b]).abs() < 1e-12);
        assert!(share(&values, &[a; 6]).abs() < 1e-12);
        // A row without a segment is not explained.
        let partial = share(&values, &[a, a, None, b, b, None]);
        assert!((partial - 4.0 / 6.0).abs() < 1e-12, "{partial}");
        assert_eq!(OutcomeColumns::default().explained_share(&[a, b]), None);
    }

    /// Few answers would choose the segments by chance.
    #[test]
    fn outcomes_of_a_sample_with_few_answers_do_not_judge() {
        let values = (0..LEAST_KNOWN + 5).map(|row| Some(f64::from(u8::from(row % 2 == 0))));
        let mut all = OutcomeColumns::default();
        all.add(OutcomeColumn { name: "answer".into(), values: values.collect() });
        assert!(all.unusable.is_empty());
        let rows: Vec<usize> = (0..LEAST_KNOWN - 1).collect();
        let few = all.select(&rows);
        assert_eq!(few.unusable, ["answer".into()]);
        assert_eq!(few.explained_share(&[Some(0); LEAST_KNOWN - 1]), None);
        // All have the same.
        let even: Vec<usize> = (0..LEAST_KNOWN).map(|row| row / 2 * 2).collect();
        assert_eq!(all.select(&even).unusable.len(), 1);
    }
}

//! How far the mean of a group lies from the mean of all, in standard deviations of all.

use crate::domain::stats::Estimate;

/// Rows with the mean and the standard deviation of one column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ColumnMoments {
    pub rows: f64,
    pub mean: f64,
    pub deviation: f64,
}

/// The standardised mean difference: (mean of the group - mean of all) / standard deviation of all.
///
/// Its standard error is that by Welch (1947) of the difference of the means of the group and of the
/// other rows, times the share of the other rows; the standard deviation of all is taken as known.
///
/// `group`: part of `all`, its deviation with the denominator n - 1. `all`: its deviation above 0 and
/// with the denominator n. Without other rows the difference and its error are 0; the error is too small
/// for a group of a few rows.
pub fn group_contrast(group: ColumnMoments, all: ColumnMoments) -> Estimate {
    let others = all.rows - group.rows;
    if others < 1.0 || group.rows < 1.0 {
        return Estimate { value: 0.0, standard_error: 0.0 };
    }
    let away = group.mean - all.mean;
    let others_away = -away * group.rows / others;
    // The squares about the mean of all are those within the two parts and between them.
    let within_group = group.deviation * group.deviation * (group.rows - 1.0);
    let within_others = all.deviation * all.deviation * all.rows
        - within_group
        - group.rows * away * away
        - others * others_away * others_away;
    let of_group = group.deviation * group.deviation / group.rows;
    let of_others = within_others.max(0.0) / (others - 1.0).max(1.0) / others;
    let share_of_others = others / all.rows;
    Estimate {
        value: away / all.deviation,
        standard_error: share_of_others * (of_group + of_others).sqrt() / all.deviation,
    }
}

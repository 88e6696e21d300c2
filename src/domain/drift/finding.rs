//! Drift finding: a significant and relevant difference, described for its owner.

use serde::Serialize;

use crate::domain::drift::by_key::DecisiveKey;
use crate::domain::drift::limits::Severity;
use crate::domain::model::NamedSegment;

/// The compared quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ComparedQuantity {
    /// The known values of a feature.
    Values,
    /// The share of missing values of a feature.
    Missing,
    /// The share of the known values of a feature that training never had.
    Unseen,
    /// The share of the known values of a feature that were rare at training.
    Rare,
    /// A feature among the customers of one segment, as encoded: missing numbers count
    /// with their imputed value.
    Within,
    /// The shares of the segments.
    Segments,
    /// The share of customers in no segment.
    Unassigned,
    /// The distances of customers to their segments.
    Distances,
    /// The rate of outliers.
    Outliers,
    /// The distribution of outlier p-values.
    PValues,
    /// The ranks of each hour among earlier hours, accumulated by sequential detectors.
    Stream,
}

impl ComparedQuantity {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Values => "values",
            Self::Missing => "missing",
            Self::Unseen => "unseen",
            Self::Rare => "rare",
            Self::Within => "within",
            Self::Segments => "segments",
            Self::Unassigned => "unassigned",
            Self::Distances => "distances",
            Self::Outliers => "outliers",
            Self::PValues => "p_values",
            Self::Stream => "stream",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DriftFinding {
    pub about: ComparedQuantity,
    /// Name of the feature; `None`: the finding concerns the model as a whole.
    pub feature: Option<Box<str>>,
    /// Segment to which the finding is limited; `None`: all customers.
    pub segment: Option<NamedSegment>,
    pub title: Box<str>,
    pub owner: Option<Box<str>>,
    pub unit: Option<Box<str>>,
    pub severity: Severity,
    /// Size of the difference, in the unit of the limits of `about`.
    pub size: f64,
    /// The size as a multiple of the limit of a critical difference. It compares findings about
    /// different quantities.
    pub relative_size: f64,
    pub p_value: f64,
    /// The p-value after the correction over all tests of the check.
    pub adjusted_p_value: f64,
    /// Effective sample size of the scored rows; `None` for a finding of a sequential detector,
    /// which compares hours.
    pub effective_sample_size: Option<f64>,
    pub change: DriftChange,
    /// The size and the significance of the change, for readers who know the tests.
    pub statistics: String,
    pub advice: String,
    /// The API key without which the finding disappears. `None` if it survives without any
    /// single key, or if rows are not counted by key.
    pub decisive_key: Option<DecisiveKey>,
}

/// A change in plain words and in the unit of the feature, from training to now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DriftChange {
    /// The changed quantity, such as the title of a feature.
    pub subject: String,
    /// The direction, in the past tense, such as `rose`, which fits titles of any number.
    pub predicate: String,
    /// The figures, such as `typically 13.2 min, 2.1 min at training`.
    pub comparison: String,
}

impl DriftFinding {
    /// The headline of an alert about the finding, one line.
    pub fn title(&self) -> String {
        format!("{} {}", self.change.subject, self.change.predicate)
    }

    /// The change as one plain sentence, without statistics.
    pub fn description(&self) -> String {
        let DriftChange { subject, predicate, comparison } = &self.change;
        format!("{subject} {predicate}: {comparison}.")
    }
}

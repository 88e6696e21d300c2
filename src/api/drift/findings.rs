//! Bodies of drift findings and tests.

use serde::Serialize;
use utoipa::ToSchema;

use crate::api::named_segment::NamedSegmentBody;
use crate::domain::drift::{
    ApiKeyShare, ComparedQuantity, DecisiveKey, DriftFinding, DriftTest, Severity,
};

/// A significant and relevant difference from training.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DriftFindingBody {
    about: ComparedQuantityBody,
    /// Name of the feature; null: the finding concerns the model as a whole.
    #[schema(example = "spend_365d")]
    feature: Option<Box<str>>,
    /// The segment to which the finding is limited; null: all customers.
    segment: Option<NamedSegmentBody>,
    /// Name of the feature for people, or `The model`.
    #[schema(example = "Spend in the last year")]
    title: Box<str>,
    /// Owner of the feature; null: the finding concerns the model as a whole.
    #[schema(example = "Payments team")]
    owner: Option<Box<str>>,
    /// Unit of the feature; null: the finding concerns the model as a whole.
    #[schema(example = "EUR")]
    unit: Option<Box<str>>,
    #[schema(value_type = Severity)]
    severity: &'static str,
    /// Size of the difference, in the unit of the limits of `about` (`[drift]`).
    #[schema(example = 0.306)]
    size: f64,
    /// Probability of such a difference by chance.
    #[schema(example = 0.0001)]
    p_value: f64,
    /// The p-value after the correction over all tests of the report.
    #[schema(example = 0.0004)]
    adjusted_p_value: f64,
    /// Effective sample size of the scored rows: the number of independent rows that would
    /// estimate the compared quantity as precisely. Rows of one customer, hour or day are
    /// correlated. Null: a sequential detector, which compares hours.
    #[schema(example = 480.5)]
    effective_sample_size: Option<f64>,
    /// The change as a plain sentence in the unit of the feature. `typically` quotes the median.
    #[schema(example = "Spend in the last year rose: typically 132 EUR, 90 EUR at training.")]
    description: String,
    /// The size and the significance of the change.
    #[schema(example = "PSI 0.29 beyond chance, values moved by at least 42 EUR on average, \
                   corrected p-value < 0.0001, effective sample size 1,840")]
    statistics: String,
    /// The recommended action.
    #[schema(example = "Payments team: check whether the currency has changed.")]
    advice: String,
    /// The API key that the finding depends on; null if there is none, or if rows are
    /// not counted by key.
    decisive_key: Option<DecisiveKeyBody>,
}

/// The compared quantity. Of a feature: `values`; `missing`, the share of missing values;
/// `unseen`, values that training never had; `rare`, values that were rare at training; `within`,
/// the values in one segment. Of the model: `segments`, the shares of the segments; `unassigned`,
/// the share of customers in no segment; `distances` to the segments; `outliers`, their rate;
/// `p_values`, the distribution of outlier p-values; `stream`, a sequential detector.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ComparedQuantityBody {
    Values,
    Missing,
    Unseen,
    Rare,
    Within,
    Segments,
    Unassigned,
    Distances,
    Outliers,
    PValues,
    Stream,
}

/// The API key without which a finding disappears.
#[derive(Debug, Serialize, ToSchema)]
struct DecisiveKeyBody {
    #[serde(flatten)]
    share: ApiKeyShareBody,
    /// Whether the rows of the other keys suffice to show the finding and do not show it. If so,
    /// the owner of the feature is not alerted.
    is_contradicted: bool,
}

/// Share of one API key in the compared rows.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ApiKeyShareBody {
    /// Id of the key; empty for rows without a key, `(other keys)` for the keys with the fewest
    /// rows.
    #[schema(example = "0050e0c5c045")]
    key_id: Box<str>,
    /// Number of its rows.
    #[schema(example = 900)]
    rows: u64,
    /// Share of all rows, from 0 to 1.
    #[schema(example = 0.9)]
    share: f64,
}

/// Result of one statistical test.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DriftTestBody {
    about: ComparedQuantityBody,
    /// Name of the feature; null: the test concerns the model as a whole.
    #[schema(example = "spend_365d")]
    feature: Option<Box<str>>,
    /// Id of the segment to which the test is limited; null: all customers.
    #[schema(example = "seg_5f2c8d10b7a94e36")]
    segment_id: Option<Box<str>>,
    /// Size of the difference, in the unit of the limits of `about` (`[drift]`).
    #[schema(example = 0.306)]
    size: f64,
    /// Severity of a significant difference of this size; null: below all limits.
    #[schema(value_type = Option<Severity>)]
    severity: Option<&'static str>,
    /// Probability of such a difference by chance.
    #[schema(example = 0.0001)]
    p_value: f64,
    /// The p-value after the correction over all tests of the report.
    #[schema(example = 0.0004)]
    adjusted_p_value: f64,
    /// Whether the difference is a finding.
    is_finding: bool,
}

impl From<&DriftFinding> for DriftFindingBody {
    fn from(finding: &DriftFinding) -> Self {
        Self {
            about: finding.about.into(),
            feature: finding.feature.clone(),
            segment: finding.segment.clone().map(Into::into),
            title: finding.title.clone(),
            owner: finding.owner.clone(),
            unit: finding.unit.clone(),
            severity: finding.severity.as_str(),
            size: finding.size,
            p_value: finding.p_value,
            adjusted_p_value: finding.adjusted_p_value,
            effective_sample_size: finding.effective_sample_size,
            description: finding.description(),
            statistics: finding.statistics.clone(),
            advice: finding.advice.clone(),
            decisive_key: finding.decisive_key.as_ref().map(Into::into),
        }
    }
}

impl From<&DecisiveKey> for DecisiveKeyBody {
    fn from(decisive: &DecisiveKey) -> Self {
        Self { share: (&decisive.key).into(), is_contradicted: decisive.is_contradicted }
    }
}

impl From<&ApiKeyShare> for ApiKeyShareBody {
    fn from(share: &ApiKeyShare) -> Self {
        Self { key_id: share.key.clone(), rows: share.rows, share: share.share }
    }
}

impl From<&DriftTest> for DriftTestBody {
    fn from(test: &DriftTest) -> Self {
        Self {
            about: test.about.into(),
            feature: test.feature.clone(),
            segment_id: test.segment_id.clone(),
            size: test.size,
            severity: test.severity.map(Severity::as_str),
            p_value: test.p_value,
            adjusted_p_value: test.adjusted_p_value,
            is_finding: test.is_finding,
        }
    }
}

impl From<ComparedQuantity> for ComparedQuantityBody {
    fn from(quantity: ComparedQuantity) -> Self {
        match quantity {
            ComparedQuantity::Values => Self::Values,
            ComparedQuantity::Missing => Self::Missing,
            ComparedQuantity::Unseen => Self::Unseen,
            ComparedQuantity::Rare => Self::Rare,
            ComparedQuantity::Within => Self::Within,
            ComparedQuantity::Segments => Self::Segments,
            ComparedQuantity::Unassigned => Self::Unassigned,
            ComparedQuantity::Distances => Self::Distances,
            ComparedQuantity::Outliers => Self::Outliers,
            ComparedQuantity::PValues => Self::PValues,
            ComparedQuantity::Stream => Self::Stream,
        }
    }
}

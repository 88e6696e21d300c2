//! Definitions of experiments as JSON.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::ApiError;
use crate::domain::experiment::bucketing::{BucketRange, HashVersion, Namespace};
use crate::domain::experiment::spec::{
    ExperimentSpec, ExperimentStatus, ExperimentTarget, MetricKind, MetricSource, OutcomeMetric,
    Variation,
};
use crate::domain::experiment::variation_assignment::Holdout;

/// Life cycle of an experiment. `draft`: assigns no customer. `running`: assigns customers and records
/// exposures. `stopped`: assigns no customer; outcomes of earlier exposures still count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::api) enum ExperimentStatusBody {
    Draft,
    Running,
    Stopped,
}

impl From<ExperimentStatus> for ExperimentStatusBody {
    fn from(status: ExperimentStatus) -> Self {
        match status {
            ExperimentStatus::Draft => Self::Draft,
            ExperimentStatus::Running => Self::Running,
            ExperimentStatus::Stopped => Self::Stopped,
        }
    }
}

impl From<ExperimentStatusBody> for ExperimentStatus {
    fn from(status: ExperimentStatusBody) -> Self {
        match status {
            ExperimentStatusBody::Draft => Self::Draft,
            ExperimentStatusBody::Running => Self::Running,
            ExperimentStatusBody::Stopped => Self::Stopped,
        }
    }
}

/// Variations, target, assignment and metrics of an experiment.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExperimentDefinitionBody {
    /// The compared treatments, control first.
    #[schema(
        min_items = 2,
        max_items = 20,
        example = json!([{"key": "control", "weight": 0.5}, {"key": "mail", "weight": 0.5}])
    )]
    variations: Vec<VariationBody>,
    /// Share of the targeted customers that take part. It can grow while the experiment runs.
    #[serde(default = "full_coverage")]
    #[schema(minimum = 0, maximum = 1, default = 1.0, example = 0.8)]
    coverage: f64,
    /// Seed of the hash; null: the key of the experiment. Experiments with the same seed assign the same
    /// customers to the same variations.
    #[schema(example = "spring-mail")]
    hash_seed: Option<String>,
    /// Version of the hash, as in the SDKs of `GrowthBook`: 1 has 1,000 buckets and continues old
    /// experiments, 2 has 10,000 buckets.
    #[serde(default = "newest_hash")]
    #[schema(minimum = 1, maximum = 2, default = 2)]
    hash_version: u32,
    /// Makes experiments with separate ranges of one namespace exclusive; null: none.
    namespace: Option<NamespaceBody>,
    /// Customers that are kept out; null: none.
    holdout: Option<ExperimentHoldoutBody>,
    /// The customers that the experiment is for; by default all.
    #[serde(default)]
    target: ExperimentTargetBody,
    /// Outcomes to compare. The first one decides; p-values are adjusted for all.
    #[schema(min_items = 1, max_items = 10)]
    metrics: Vec<OutcomeMetricBody>,
    /// Days after the exposure in which outcomes count. A customer is in the results once they are over.
    #[serde(default = "default_outcome_days")]
    #[schema(minimum = 1, maximum = 365, default = 14)]
    outcome_days: u32,
    /// Days before the exposure whose outcomes reduce the variance (CUPED); 0: not adjusted.
    #[serde(default = "default_pre_exposure_days")]
    #[schema(minimum = 0, maximum = 365, default = 30)]
    pre_exposure_days: u32,
    /// Customers of two compared variations at which a decision is planned, chosen before the start:
    /// always-valid intervals are narrowest there. Null: 5,000.
    #[schema(minimum = 1, example = 20000)]
    planned_customers: Option<u32>,
}

fn full_coverage() -> f64 {
    1.0
}

fn newest_hash() -> u32 {
    HashVersion::V2.into()
}

fn default_outcome_days() -> u32 {
    14
}

fn default_pre_exposure_days() -> u32 {
    30
}

/// One of the compared treatments.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct VariationBody {
    /// Key, which answers and exposures name.
    #[schema(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length = 64, example = "mail")]
    key: String,
    /// Share of the participants; the shares add up to 1, with a tolerance of 0.01.
    #[schema(minimum = 0, maximum = 1, example = 0.5)]
    weight: f64,
}

/// A range of hashes in a namespace.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NamespaceBody {
    /// Name of the namespace.
    #[schema(max_length = 200, example = "checkout")]
    name: String,
    /// Begin and end of the range, from 0 to 1.
    #[schema(example = json!([0.0, 0.5]))]
    range: [f64; 2],
}

/// A share of the customers that takes part in no experiment with this holdout, to measure the total
/// effect of all of them.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ExperimentHoldoutBody {
    /// Seed of the holdout's own hash, the same in all its experiments.
    #[schema(max_length = 200, example = "holdout-2026")]
    hash_seed: String,
    /// Share of the customers.
    #[schema(minimum = 0, maximum = 1, example = 0.05)]
    share: f64,
}

/// The customers that an experiment is for: those of the audience in one of the segments. Decided anew
/// with each answer until the exposure.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ExperimentTargetBody {
    /// Name of an audience; null: any customer.
    #[schema(example = "vip_at_risk")]
    audience: Option<String>,
    /// Ids of segments; empty: any segment.
    #[serde(default)]
    #[schema(max_items = 100, example = json!(["seg_5f2c8d10b7a94e36"]))]
    segments: Vec<String>,
}

/// An outcome of each exposed customer, from stored events. Only event names and properties that a
/// feature reads are stored.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct OutcomeMetricBody {
    /// Name, for results.
    #[schema(max_length = 200, example = "spend")]
    name: String,
    kind: MetricKindBody,
    /// Name of `track` events.
    #[schema(example = "Order Completed")]
    event: String,
    /// Numeric property to add up, in the currency of the features if it is money; null: count the
    /// events.
    #[schema(example = "total")]
    property: Option<String>,
    /// For a ratio: name of the events of the denominator.
    #[schema(example = "Order Completed")]
    denominator_event: Option<String>,
    /// For a ratio: property to add up in the denominator; null: count the events.
    #[schema(example = "quantity")]
    denominator_property: Option<String>,
    /// For a mean: name of the events that are subtracted, such as the campaigns that a customer was sent.
    #[schema(example = "Campaign Sent")]
    minus_event: Option<String>,
    /// For a mean: property of these events to add up and subtract, such as their cost; null: count the
    /// events.
    #[schema(example = "cost")]
    minus_property: Option<String>,
    /// For a mean: values above this quantile of the values above 0 count as the quantile
    /// (winsorisation); null: none.
    #[schema(minimum = 0.5, exclusive_maximum = 1, example = 0.99)]
    cap_quantile: Option<f64>,
}

/// Kind of a metric. `proportion`: share of the customers with such an event. `mean`: events, or sum of a
/// property, per customer. `ratio`: one sum over all customers divided by another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::api) enum MetricKindBody {
    Proportion,
    Mean,
    Ratio,
}

impl From<MetricKind> for MetricKindBody {
    fn from(kind: MetricKind) -> Self {
        match kind {
            MetricKind::Proportion => Self::Proportion,
            MetricKind::Mean => Self::Mean,
            MetricKind::Ratio => Self::Ratio,
        }
    }
}

impl From<MetricKindBody> for MetricKind {
    fn from(kind: MetricKindBody) -> Self {
        match kind {
            MetricKindBody::Proportion => Self::Proportion,
            MetricKindBody::Mean => Self::Mean,
            MetricKindBody::Ratio => Self::Ratio,
        }
    }
}

impl ExperimentDefinitionBody {
    /// The definition; 422 for an unknown version of the hash.
    pub(super) fn into_spec(self) -> Result<ExperimentSpec, ApiError> {
        let hash_version = HashVersion::try_from(self.hash_version)
            .map_err(|why| ApiError::invalid("definition.hash_version", why.to_string()))?;
        Ok(ExperimentSpec {
            variations: self.variations.into_iter().map(Variation::from).collect(),
            coverage: self.coverage,
            hash_seed: self.hash_seed.map(Into::into),
            hash_version,
            namespace: self.namespace.map(Namespace::from),
            holdout: self.holdout.map(Holdout::from),
            target: ExperimentTarget {
                audience: self.target.audience.map(Into::into),
                segments: self.target.segments.into_iter().map(Into::into).collect(),
            },
            metrics: self.metrics.into_iter().map(OutcomeMetric::from).collect(),
            outcome_days: self.outcome_days,
            pre_exposure_days: self.pre_exposure_days,
            planned_customers: self.planned_customers,
        })
    }
}

impl From<VariationBody> for Variation {
    fn from(body: VariationBody) -> Self {
        Self { key: body.key.into(), weight: body.weight }
    }
}

impl From<NamespaceBody> for Namespace {
    fn from(body: NamespaceBody) -> Self {
        let [start, end] = body.range;
        Self { name: body.name.into(), range: BucketRange { start, end } }
    }
}

impl From<ExperimentHoldoutBody> for Holdout {
    fn from(body: ExperimentHoldoutBody) -> Self {
        Self { hash_seed: body.hash_seed.into(), share: body.share }
    }
}

/// A property alone is a source too, whose missing event is a fault.
fn optional_source(event: Option<String>, property: Option<String>) -> Option<MetricSource> {
    (event.is_some() || property.is_some()).then(|| MetricSource {
        event: event.unwrap_or_default().into(),
        property: property.map(Into::into),
    })
}

fn event_and_property(source: Option<&MetricSource>) -> (Option<String>, Option<String>) {
    match source {
        None => (None, None),
        Some(MetricSource { event, property }) => {
            (Some(event.to_string()), property.as_deref().map(Into::into))
        }
    }
}

impl From<OutcomeMetricBody> for OutcomeMetric {
    fn from(body: OutcomeMetricBody) -> Self {
        Self {
            name: body.name.into(),
            kind: body.kind.into(),
            source: MetricSource {
                event: body.event.into(),
                property: body.property.map(Into::into),
            },
            denominator: optional_source(body.denominator_event, body.denominator_property),
            minus: optional_source(body.minus_event, body.minus_property),
            cap_quantile: body.cap_quantile,
        }
    }
}

impl From<&ExperimentSpec> for ExperimentDefinitionBody {
    fn from(spec: &ExperimentSpec) -> Self {
        let variations = spec.variations.iter();
        Self {
            variations: variations
                .map(|one| VariationBody { key: one.key.to_string(), weight: one.weight })
                .collect(),
            coverage: spec.coverage,
            hash_seed: spec.hash_seed.as_deref().map(Into::into),
            hash_version: spec.hash_version.into(),
            namespace: spec.namespace.as_ref().map(|one| NamespaceBody {
                name: one.name.to_string(),
                range: [one.range.start, one.range.end],
            }),
            holdout: spec.holdout.as_ref().map(|one| ExperimentHoldoutBody {
                hash_seed: one.hash_seed.to_string(),
                share: one.share,
            }),
            target: ExperimentTargetBody {
                audience: spec.target.audience.as_deref().map(Into::into),
                segments: spec.target.segments.iter().map(ToString::to_string).collect(),
            },
            metrics: spec.metrics.iter().map(OutcomeMetricBody::from).collect(),
            outcome_days: spec.outcome_days,
            pre_exposure_days: spec.pre_exposure_days,
            planned_customers: spec.planned_customers,
        }
    }
}

impl From<&OutcomeMetric> for OutcomeMetricBody {
    fn from(metric: &OutcomeMetric) -> Self {
        let (denominator_event, denominator_property) =
            event_and_property(metric.denominator.as_ref());
        let (minus_event, minus_property) = event_and_property(metric.minus.as_ref());
        Self {
            name: metric.name.to_string(),
            kind: metric.kind.into(),
            event: metric.source.event.to_string(),
            property: metric.source.property.as_deref().map(Into::into),
            denominator_event,
            denominator_property,
            minus_event,
            minus_property,
            cap_quantile: metric.cap_quantile,
        }
    }
}

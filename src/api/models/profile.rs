//! Description of a segment by its features, in the units of the features.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::api::score::FeatureValueBody;
use crate::domain::encode::ColumnRole;
use crate::domain::feature::FeatureDefinition;
use crate::domain::model::{
    Model, ModelSegment, SegmentRevenue, SegmentValue, StandoutFeature, TypicalValue,
};

/// A segment as described at training.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct SegmentProfileBody {
    /// Training rows in the segment.
    #[schema(example = 1200)]
    size: u64,
    /// Share of the training rows in the segment.
    #[schema(minimum = 0, maximum = 1, example = 0.24)]
    share: f64,
    /// Typical values of each feature that is not sensitive.
    features: Vec<FeatureProfileBody>,
    /// Differences from the mean of all customers, strongest first.
    standouts: Vec<StandoutFeatureBody>,
    /// An example customer, by feature name, to be sent to `/v1/score`: the mean, or the most
    /// frequent category, of the ten training rows nearest to the segment's centre (of several
    /// centres, the one with most rows). A value is null if fewer than five of the ten have it; there
    /// is no example if no centre has ten rows.
    #[schema(example = json!({ "recency_days": 2.1, "spend_365d": 2010.4, "channel": "web" }))]
    typical_customer: Option<BTreeMap<String, FeatureValueBody>>,
    /// The segment's share of the revenue; null if the monetary feature of `[rfm]` is sensitive, if its
    /// total is not clearly positive, and for segments with fewer than 30 customers.
    revenue: Option<SegmentRevenueBody>,
    /// Forecasts for the customers of the segment; null without a reliable model of customer value that
    /// includes order values, and for segments with fewer than 30 customers with an order.
    value: Option<SegmentValueBody>,
}

/// Forecasts for the customers of a segment, as of the training. Bounds are of approximate 95 %
/// confidence intervals by the spread of the customers; they do not include the uncertainty of the
/// forecasts and of the segments.
#[derive(Debug, Serialize, ToSchema)]
struct SegmentValueBody {
    /// Unit of spend.
    #[schema(example = "USD")]
    unit: String,
    /// Mean probability that a customer has left for good.
    #[schema(minimum = 0, maximum = 1, example = 0.19)]
    churn_probability: f64,
    /// Lower bound of `churn_probability`.
    #[schema(example = 0.17)]
    churn_probability_low: f64,
    /// Upper bound of `churn_probability`.
    #[schema(example = 0.21)]
    churn_probability_high: f64,
    /// Mean number of days with an order in the next 365 days.
    #[schema(example = 22.4)]
    predicted_number_of_orders: f64,
    /// Lower bound of `predicted_number_of_orders`.
    #[schema(example = 21.1)]
    predicted_number_of_orders_low: f64,
    /// Upper bound of `predicted_number_of_orders`.
    #[schema(example = 23.7)]
    predicted_number_of_orders_high: f64,
    /// Mean predicted spend of a customer in the next 365 days.
    #[schema(example = 905.2)]
    predicted_clv: f64,
    /// Lower bound of `predicted_clv`.
    #[schema(example = 850.3)]
    predicted_clv_low: f64,
    /// Upper bound of `predicted_clv`.
    #[schema(example = 960.1)]
    predicted_clv_high: f64,
    /// Share of the predicted spend of all customers.
    #[schema(example = 0.34)]
    share: f64,
    /// Lower bound of `share`.
    #[schema(example = 0.32)]
    share_low: f64,
    /// Upper bound of `share`.
    #[schema(example = 0.36)]
    share_high: f64,
    /// Share of the segment's predicted spend from its most valuable 20 % of customers: 0.2 if all are
    /// worth the same. Null without predicted spend.
    #[schema(example = 0.41)]
    top_fifth_share: Option<f64>,
    /// Mean of a customer's predicted spend times churn probability: highest for valuable customers
    /// with a churn probability near 50 %.
    #[schema(example = 61.3)]
    value_at_risk: f64,
    /// Lower bound of `value_at_risk`.
    #[schema(example = 55.0)]
    value_at_risk_low: f64,
    /// Upper bound of `value_at_risk`.
    #[schema(example = 67.6)]
    value_at_risk_high: f64,
}

/// A segment's share of the total of the monetary feature of `[rfm]` over the training rows, where a
/// missing value counts as 0. It is revenue if that feature is a sum of sales. Bounds are of
/// approximate 95 % confidence intervals, which do not include the uncertainty of the segments.
#[derive(Debug, Serialize, ToSchema)]
struct SegmentRevenueBody {
    /// Name of the monetary feature.
    #[schema(example = "spend_365d")]
    feature: String,
    /// Unit of the means.
    #[schema(example = "USD")]
    unit: String,
    /// Share of the revenue of all customers; with returns it may be below 0 or above 1.
    #[schema(example = 0.34)]
    share: f64,
    /// Lower bound of `share`.
    #[schema(example = 0.32)]
    share_low: f64,
    /// Upper bound of `share`.
    #[schema(example = 0.36)]
    share_high: f64,
    /// Mean revenue of a customer in the segment.
    #[schema(example = 2152.4)]
    mean: f64,
    /// Lower bound of `mean`.
    #[schema(example = 2040.1)]
    mean_low: f64,
    /// Upper bound of `mean`.
    #[schema(example = 2264.7)]
    mean_high: f64,
    /// Share of the segment's revenue from its highest-spending 20 % of customers: 0.2 if all spend
    /// the same. Null if the segment has no revenue, or a customer with a negative one.
    #[schema(example = 0.38)]
    top_fifth_share: Option<f64>,
}

/// Typical values of one feature.
#[derive(Debug, Serialize, ToSchema)]
struct FeatureProfileBody {
    /// Name of the feature.
    #[schema(example = "recency_days")]
    feature: String,
    /// Unit of the numbers.
    #[schema(example = "days")]
    unit: String,
    /// Over the customers in the segment.
    here: TypicalValueBody,
    /// Over all training rows.
    everybody: TypicalValueBody,
}

/// Typical value of one feature over a group of customers.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({ "mean": 12.4, "median": 9.0, "missing_share": 0.02 }))]
pub(in crate::api) struct TypicalValueBody {
    /// Mean of the known numbers, in the feature's unit; left out for categories.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 12.4)]
    mean: Option<f64>,
    /// Median of the known numbers, in the feature's unit; left out for categories.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 9.0)]
    median: Option<f64>,
    /// The most frequent category; left out for numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "web")]
    category: Option<String>,
    /// Share of the customers in this category; left out for numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1, example = 0.62)]
    category_share: Option<f64>,
    /// Share of the customers without a value.
    #[schema(minimum = 0, maximum = 1, example = 0.02)]
    missing_share: f64,
}

/// A feature in which a segment differs from all customers.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "feature": "recency_days", "unit": "days", "aspect": "value", "mean_here": 12.4,
    "mean_everybody": 41.0, "contrast": -1.3, "contrast_low": -1.36, "contrast_high": -1.24
}))]
struct StandoutFeatureBody {
    /// Name of the feature.
    #[schema(example = "recency_days")]
    feature: String,
    /// Unit of the means.
    #[schema(example = "days")]
    unit: String,
    aspect: FeatureAspect,
    /// The compared category; left out for other aspects.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "web")]
    category: Option<String>,
    /// Mean of the known numbers in the segment; present only if `aspect` is `value`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 12.4)]
    mean_here: Option<f64>,
    /// Mean of the known numbers over all training rows; present only if `aspect` is `value`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 41.0)]
    mean_everybody: Option<f64>,
    /// Effect size: standardised mean difference, in standard deviations of all customers, after
    /// missing values are filled, extremes clipped and skewed values transformed. So it is not the
    /// difference of the two means. Positive: higher or more frequent here.
    #[schema(example = -1.3)]
    contrast: f64,
    /// Lower bound of the 95 % confidence interval of `contrast`, which does not include the
    /// uncertainty of the segments.
    #[schema(example = -1.36)]
    contrast_low: f64,
    /// Upper bound of the interval.
    #[schema(example = -1.24)]
    contrast_high: f64,
}

/// The compared quantity of a feature: its value, its missing values, one category, or all rare
/// categories.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::api) enum FeatureAspect {
    Value,
    Missing,
    Category,
    Other,
}

impl FeatureAspect {
    /// The aspect, and the category if it is one.
    pub(in crate::api) fn of(role: &ColumnRole) -> (Self, Option<String>) {
        match role {
            ColumnRole::Value => (Self::Value, None),
            ColumnRole::Missing => (Self::Missing, None),
            ColumnRole::Other => (Self::Other, None),
            ColumnRole::Category(name) => (Self::Category, Some(name.to_string())),
        }
    }
}

impl SegmentProfileBody {
    /// The profile of one segment of `model`.
    pub(in crate::api) fn new(segment: &ModelSegment, model: &Model) -> Self {
        let features = model.features();
        let profiles = segment.profile.iter().map(|profile| FeatureProfileBody {
            feature: features[profile.feature].name.to_string(),
            unit: features[profile.feature].unit.to_string(),
            here: (&profile.here).into(),
            everybody: (&profile.everybody).into(),
        });
        let standouts =
            segment.standouts.iter().map(|one| StandoutFeatureBody::new(one, segment, features));
        Self {
            size: segment.size,
            share: segment.share,
            features: profiles.collect(),
            standouts: standouts.collect(),
            typical_customer: typical_customer(segment, features),
            revenue: segment.revenue.as_ref().map(|one| SegmentRevenueBody::new(one, features)),
            value: segment
                .value
                .as_ref()
                .zip(model.value())
                .map(|(value, of_model)| SegmentValueBody::new(value, &of_model.unit)),
        }
    }
}

fn typical_customer(
    segment: &ModelSegment,
    features: &[FeatureDefinition],
) -> Option<BTreeMap<String, FeatureValueBody>> {
    let mut values = BTreeMap::new();
    for profile in &segment.profile {
        let value = match profile.typical_customer.as_ref()? {
            TypicalValue::Number { mean, .. } => FeatureValueBody::Number(*mean),
            TypicalValue::Category { most_frequent, .. } => {
                FeatureValueBody::Category(most_frequent.to_string())
            }
            TypicalValue::Unknown => FeatureValueBody::Missing,
        };
        values.insert(features[profile.feature].name.to_string(), value);
    }
    Some(values)
}

impl SegmentRevenueBody {
    fn new(revenue: &SegmentRevenue, features: &[FeatureDefinition]) -> Self {
        let feature = &features[revenue.feature];
        let [share_low, share_high] = revenue.share.interval();
        let [mean_low, mean_high] = revenue.mean.interval();
        Self {
            feature: feature.name.to_string(),
            unit: feature.unit.to_string(),
            share: revenue.share.value,
            share_low,
            share_high,
            mean: revenue.mean.value,
            mean_low,
            mean_high,
            top_fifth_share: revenue.top_fifth_share,
        }
    }
}

impl SegmentValueBody {
    fn new(value: &SegmentValue, unit: &str) -> Self {
        let [churn_probability_low, churn_probability_high] = value.churn_probability.interval();
        let [predicted_number_of_orders_low, predicted_number_of_orders_high] =
            value.orders.interval();
        let [predicted_clv_low, predicted_clv_high] = value.spend.interval();
        let [share_low, share_high] = value.spend_share.interval();
        let [value_at_risk_low, value_at_risk_high] = value.value_at_risk.interval();
        Self {
            unit: unit.to_owned(),
            churn_probability: value.churn_probability.value,
            churn_probability_low,
            churn_probability_high,
            predicted_number_of_orders: value.orders.value,
            predicted_number_of_orders_low,
            predicted_number_of_orders_high,
            predicted_clv: value.spend.value,
            predicted_clv_low,
            predicted_clv_high,
            share: value.spend_share.value,
            share_low,
            share_high,
            top_fifth_share: value.top_fifth_share,
            value_at_risk: value.value_at_risk.value,
            value_at_risk_low,
            value_at_risk_high,
        }
    }
}

impl StandoutFeatureBody {
    fn new(
        standout: &StandoutFeature,
        segment: &ModelSegment,
        features: &[FeatureDefinition],
    ) -> Self {
        let (aspect, category) = FeatureAspect::of(&standout.aspect);
        let feature = &features[standout.feature];
        let profile = segment.profile.iter().find(|profile| profile.feature == standout.feature);
        let profile = profile.filter(|_| standout.aspect == ColumnRole::Value);
        let [contrast_low, contrast_high] = standout.contrast_interval();
        Self {
            feature: feature.name.to_string(),
            unit: feature.unit.to_string(),
            aspect,
            category,
            mean_here: profile.and_then(|profile| profile.here.mean()),
            mean_everybody: profile.and_then(|profile| profile.everybody.mean()),
            contrast: standout.contrast,
            contrast_low,
            contrast_high,
        }
    }
}

impl From<&TypicalValue> for TypicalValueBody {
    fn from(typical: &TypicalValue) -> Self {
        let unknown = Self {
            mean: None,
            median: None,
            category: None,
            category_share: None,
            missing_share: 1.0,
        };
        match typical {
            TypicalValue::Number { mean, median, missing_share } => Self {
                mean: Some(*mean),
                median: Some(*median),
                missing_share: *missing_share,
                ..unknown
            },
            TypicalValue::Category { most_frequent, share, missing_share } => Self {
                category: Some(most_frequent.to_string()),
                category_share: Some(*share),
                missing_share: *missing_share,
                ..unknown
            },
            TypicalValue::Unknown => unknown,
        }
    }
}

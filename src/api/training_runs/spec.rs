//! The training spec: settings of a run in requests and responses.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::api::training_runs::algorithm::AlgorithmBody;
use crate::domain::fault::ValidationFaults;

/// Defines the spec of a run and the request for a run with the same settings.
macro_rules! training_settings {
    ($($(#[$attribute:meta])* $setting:ident: $type:ty,)+) => {
        /// The settings of a training run.
        #[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
        #[serde(deny_unknown_fields)]
        #[schema(example = json!({
            "segments": { "from": 4, "to": 8 }, "algorithms": [{ "name": "ward", "cells": 1000 }],
            "distance": "euclidean", "starts": 10, "max_iterations": 300, "tolerance": 0.0001,
            "seed": 0, "holdout_share": 0.2, "validation_share": 0.2, "minimum_rows": 200,
            "sample": 100_000,
            "stability": { "bootstraps": 20, "seeds": 3, "noise": 0.05, "rows": 20_000 },
            "gates": { "smallest_share": 0.005, "mean_jaccard": null, "noise_share": 0.5 },
            "weights": { "reproducibility": 1.0, "modularity": 0.25, "density_validation": 0.25 },
        }))]
        pub(super) struct TrainingSpecBody {
            $(
                $(#[$attribute])*
                #[serde(skip_serializing_if = "Option::is_none")]
                $setting: $type,
            )+
        }

        /// A training run to queue. Absent settings are as configured in `[training]`.
        #[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
        #[serde(deny_unknown_fields)]
        #[schema(example = json!({
            "segments": { "from": 4, "to": 8 }, "algorithms": ["kmeans", "gaussian_mixture"],
            "exclude": [{ "feature": "recency_days", "reason": "changes every day" }],
            "what_if": true, "reason": "do the segments depend on recency?",
        }))]
        pub(super) struct CreateTrainingRunRequest {
            /// Only register the model as a candidate: it is never promoted automatically.
            #[serde(default)]
            pub(super) what_if: bool,
            /// Purpose of the run; stored and listed.
            #[schema(max_length = 2000, example = "are two segments easier to explain?")]
            pub(super) reason: Option<String>,
            $(
                $(#[$attribute])*
                #[serde(skip_serializing_if = "Option::is_none")]
                $setting: $type,
            )+
        }
    };
}

training_settings! {
    /// Number of segments, the range of numbers that are candidates, or `automatic`. Ignored by
    /// `dbscan` and `hdbscan`.
    segments: Option<SegmentCountBody>,
    /// Competing algorithms; left out: those of the configuration; an empty array: `kmeans`,
    /// `gaussian_mixture` and `hdbscan`.
    algorithms: Option<Vec<AlgorithmBody>>,
    distance: Option<TrainingDistance>,
    /// Compare rows in the principal components that explain this share of the variance, above 0;
    /// null: in the encoded columns.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<f64>, exclusive_minimum = 0, maximum = 1, example = 0.9)]
    components: Option<Nullable<f64>>,
    /// Independent k-means starts; the one with the lowest inertia wins.
    #[schema(minimum = 1, maximum = 1000, example = 10)]
    starts: Option<u64>,
    /// Most k-means iterations of one start.
    #[schema(minimum = 1, maximum = 10_000, example = 300)]
    max_iterations: Option<u64>,
    /// Convergence of k-means: the squared movement of all centres is at most this share of the
    /// mean variance of the columns.
    #[schema(minimum = 0, maximum = 1, example = 0.0001)]
    tolerance: Option<f64>,
    /// Seed of all random choices.
    #[schema(minimum = 0, example = 0)]
    seed: Option<u64>,
    /// Share of the rows kept out of the fit, to calibrate outlier limits.
    #[schema(minimum = 0.05, maximum = 0.5, example = 0.2)]
    holdout_share: Option<f64>,
    /// Share of the other rows on which candidates are compared.
    #[schema(minimum = 0, maximum = 0.5, example = 0.2)]
    validation_share: Option<f64>,
    /// Fewest rows to train a model: at least 20, and at least two per segment.
    #[schema(minimum = 20, example = 200)]
    minimum_rows: Option<u64>,
    /// The only features to cluster by; left out: all features with an encoding.
    include: Option<Vec<FeatureChoiceBody>>,
    /// Features not to cluster by.
    exclude: Option<Vec<FeatureChoiceBody>>,
    /// Conditions that a customer must meet to be a training row.
    filters: Option<Vec<RowFilterBody>>,
    /// Most training rows: of more customers, a sample. At least `minimum_rows`, at most
    /// `training.max_rows`.
    #[schema(minimum = 20, example = 100_000)]
    sample: Option<u64>,
    /// Features that divide the rows into slices to compare, such as a country or a channel.
    #[schema(example = json!(["country"]))]
    slices: Option<Vec<String>>,
    /// Features by which segmentations are judged: at most ten, each without an encoding or listed in
    /// `exclude`. The candidate whose segments explain more of their variance gets a higher score; and
    /// those with a rolling window within a horizon of the back-test are outcomes of it.
    #[schema(max_items = 10, example = json!(["survey_score"]))]
    outcomes: Option<Vec<String>>,
    /// Features of the RFM baseline; null: no baseline. Left out of a request: those of the
    /// rule-based fallback.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<BaselineFeaturesBody>)]
    baseline: Option<Nullable<BaselineFeaturesBody>>,
    /// Horizons of the back-test in days. The segments of customers at the beginning of a horizon are
    /// compared with their orders within it. Different numbers from 1 to 730; one above
    /// `history.retention_days` gives no figures. Empty: no back-test.
    #[schema(max_items = 6, example = json!([30, 90]))]
    backtest_horizons_days: Option<Vec<u32>>,
    stability: Option<StabilityTrialsBody>,
    gates: Option<CandidateGatesBody>,
    weights: Option<CriterionWeightsBody>,
}

impl CreateTrainingRunRequest {
    /// Checks that each algorithm has the settings that are given for it.
    pub(super) fn check_algorithms(&self) -> Result<(), ValidationFaults> {
        let mut faults = ValidationFaults::default();
        for (place, algorithm) in self.algorithms.iter().flatten().enumerate() {
            algorithm.check_settings(&format!("algorithms[{place}]"), &mut faults);
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// The given settings, in the form of the domain's training spec.
    pub(super) fn settings(&self) -> Result<Map<String, Value>, serde_json::Error> {
        let mut settings: Map<String, Value> = serde_json::from_value(serde_json::to_value(self)?)?;
        for purpose in ["what_if", "reason"] {
            settings.remove(purpose);
        }
        Ok(settings)
    }
}

/// Distance between customers. `cosine`: by the angle only; `mahalanobis`: between whitened rows,
/// so that correlated columns do not count twice.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum TrainingDistance {
    Euclidean,
    Cosine,
    Mahalanobis,
}

/// A number of segments, a range of numbers, or `automatic`.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(untagged)]
enum SegmentCountBody {
    Exact(SegmentNumber),
    Range(SegmentCountRangeBody),
    Automatic(AutomaticSegmentCountBody),
}

/// From two segments to as many as the rows allow: one for twenty rows, at most 64.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum AutomaticSegmentCountBody {
    Automatic,
}

/// A number of segments.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[schema(minimum = 1, maximum = 256, example = 6)]
struct SegmentNumber(u64);

/// A range of numbers of segments; each number is a candidate.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SegmentCountRangeBody {
    /// The smallest number.
    #[schema(minimum = 1, maximum = 256, example = 4)]
    from: u64,
    /// The largest number.
    #[schema(minimum = 1, maximum = 256, example = 8)]
    to: u64,
}

/// A feature, and why it is chosen or left out.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct FeatureChoiceBody {
    /// Name of the feature.
    #[schema(example = "recency_days")]
    feature: String,
    /// Reason; stored with the run.
    #[schema(min_length = 1, example = "changes every day")]
    reason: String,
}

/// A condition on one feature: bounds of a number, or categories. A customer without a value does
/// not meet it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "feature": "orders_365d", "at_least": 1, "reason": "buyers only" }))]
struct RowFilterBody {
    /// Name of the feature.
    #[schema(example = "orders_365d")]
    feature: String,
    /// Smallest number, in the feature's unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 1.0)]
    at_least: Option<f64>,
    /// Largest number, in the feature's unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 500.0)]
    at_most: Option<f64>,
    /// Categories; not with bounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_items = 1, example = json!(["web", "app"]))]
    one_of: Option<Vec<String>>,
    /// Reason; stored with the run.
    #[schema(min_length = 1, example = "customers without an order have no basket")]
    reason: String,
}

/// The features of an RFM segmentation.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct BaselineFeaturesBody {
    /// Feature for the time since the last order.
    #[schema(example = "recency_days")]
    recency: String,
    /// Feature for the number of orders.
    #[schema(example = "orders_365d")]
    frequency: String,
    /// Feature for the spend.
    #[schema(example = "spend_365d")]
    monetary: String,
}

/// Stability trials of the best candidates.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct StabilityTrialsBody {
    /// Runs on rows drawn with replacement (bootstrap); default 20.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 1000, example = 20)]
    bootstraps: Option<u64>,
    /// Runs from other seeds; default 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 100, example = 3)]
    seeds: Option<u64>,
    /// Standard deviation of the noise on each column, as a share of the column's; 0: no such
    /// trial; default 0.05.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1, example = 0.05)]
    noise: Option<f64>,
    /// Most rows in the trials; default 5,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 100, example = 5_000)]
    rows: Option<u64>,
}

/// Conditions that a candidate must meet; null: no condition.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CandidateGatesBody {
    /// Smallest share of the rows in the smallest segment; default 0.005.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>, minimum = 0, maximum = 1, example = 0.005)]
    smallest_share: Option<Nullable<f64>>,
    /// Smallest mean bootstrap Jaccard index of the segments; default null.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>, minimum = 0, maximum = 1, example = 0.75)]
    mean_jaccard: Option<Nullable<f64>>,
    /// Smallest mean silhouette; default null.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>, minimum = -1, maximum = 1, example = 0.1)]
    silhouette: Option<Nullable<f64>>,
    /// Largest share of the rows in no segment; default 0.5.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>, minimum = 0, maximum = 1, example = 0.5)]
    noise_share: Option<Nullable<f64>>,
}

/// Weights of the criteria in the score that ranks candidates; 0: not used.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CriterionWeightsBody {
    /// Weight of the agreement between halves of the rows; default 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1000, example = 1.0)]
    reproducibility: Option<f64>,
    /// Weight of the modularity in the graph of nearest neighbours; default 0.25.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1000, example = 0.25)]
    modularity: Option<f64>,
    /// Weight of density-based validation (DBCV); default 0.25.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1000, example = 0.25)]
    density_validation: Option<f64>,
    /// Weight of the explained variance of the outcomes; default 0.5, no effect without outcomes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1000, example = 0.5)]
    outcomes: Option<f64>,
}

/// A setting for which null has a meaning, unlike an absent one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
struct Nullable<T>(Option<T>);

/// Deserialises a setting that is present, perhaps as null.
fn present<'de, D, T>(deserializer: D) -> Result<Option<Nullable<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Nullable::deserialize(deserializer).map(Some)
}

impl<'de> Deserialize<'de> for SegmentCountBody {
    /// Unlike the derived form of an untagged enum, errors have the path of the field.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberOrRange)
    }
}

struct NumberOrRange;

impl<'de> Visitor<'de> for NumberOrRange {
    type Value = SegmentCountBody;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a whole number from 1 to 256, a range such as {\"from\": 4, \"to\": 8}, or \"automatic\"",
        )
    }

    fn visit_u64<E: Error>(self, segments: u64) -> Result<SegmentCountBody, E> {
        if (1..=256).contains(&segments) {
            return Ok(SegmentCountBody::Exact(SegmentNumber(segments)));
        }
        Err(E::invalid_value(Unexpected::Unsigned(segments), &self))
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<SegmentCountBody, E> {
        if word == "automatic" {
            return Ok(SegmentCountBody::Automatic(AutomaticSegmentCountBody::Automatic));
        }
        Err(E::invalid_value(Unexpected::Str(word), &self))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SegmentCountBody, A::Error> {
        SegmentCountRangeBody::deserialize(MapAccessDeserializer::new(map))
            .map(SegmentCountBody::Range)
    }
}

//! Bodies of `POST /v1/score`. A request is read row by row (`domain/wire/rows.rs`), and its
//! response is written score by score (`api/score/answer.rs`); the types of the whole bodies
//! describe both.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::api::events::event_body::SentIdBody;
use crate::api::experiments::participation::ParticipationBody;
use crate::domain::feature::FeatureValue;
use crate::domain::model::{AnomalyKind, FeatureContribution, Model, ValueDirection};
use crate::service::scoring::inputs::InputDefault;

/// One feature row, or a list of rows.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "names a schema only")]
pub(super) enum ScoreRequestBody {
    Row(ScoreRowRequest),
    Rows(ScoreRowsRequest),
}

/// One feature row.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ScoreRowRequest {
    /// Values by feature name, as listed by `GET /v1/features`. An absent feature is missing.
    #[schema(example = json!({ "recency_days": 3, "orders_365d": 12, "spend_365d": 310.5 }))]
    features: BTreeMap<String, FeatureValueBody>,
    /// Add the contribution of each feature to the score, and the values that replace missing
    /// inputs.
    #[serde(default)]
    explain: bool,
    /// The customer of the row, which selects between the active and the canary model, and decides the
    /// variations of experiments.
    customer_id: Option<SentIdBody>,
}

/// A list of feature rows.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ScoreRowsRequest {
    /// Rows, each with values by feature name; at most `scoring.max_rows`.
    rows: Vec<BTreeMap<String, FeatureValueBody>>,
    /// Add the contribution of each feature to each score, and the values that replace missing
    /// inputs.
    #[serde(default)]
    explain: bool,
}

/// The value of a feature; null where it is missing.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub(in crate::api) enum FeatureValueBody {
    Number(f64),
    Category(String),
    Missing,
}

impl From<FeatureValue> for FeatureValueBody {
    fn from(value: FeatureValue) -> Self {
        match value {
            FeatureValue::Missing => Self::Missing,
            FeatureValue::Number(number) => Self::Number(number),
            FeatureValue::Category(text) => Self::Category(text.into_string()),
        }
    }
}

impl PartialSchema for FeatureValueBody {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(SchemaType::from_iter([Type::Number, Type::String, Type::Null]))
            .description(Some("The value of a feature: a number, a category, or null if missing."))
            .examples([3.5])
            .into()
    }
}

impl ToSchema for FeatureValueBody {
    fn name() -> Cow<'static, str> {
        "FeatureValueBody".into()
    }
}

/// The score of one row, or the scores of a list of rows.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, clippy::large_enum_variant, reason = "names a schema only")]
pub(super) enum ScoreResponseBody {
    Row(RowScoreBody),
    Rows(RowScoreListBody),
}

/// The score of one row.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "model_id": "50d858e0985ecc7f60418aaf0cc5ab587f42c2570a884095a9e8ccacd0f6545c",
    "fallback": false, "generation": 2, "smallest_p_value": 0.001, "segment_id": "seg_5f2c8d10b7a94e36",
    "segment_name": "Loyal Customers", "nearest_segment_id": "seg_5f2c8d10b7a94e36",
    "distance": 2.618, "runner_up_segment_id": "seg_0b7a91c2d3e4f586", "margin": 0.081, "confidence": 0.03,
    "p_value": 0.63, "outlier": false, "edge_p_value": 0.4, "anomaly": null,
    "missing_inputs": 1,
}))]
pub(super) struct RowScoreBody {
    /// Id of the model; null for the rule-based fallback.
    #[schema(example = "50d858e0985ecc7f60418aaf0cc5ab587f42c2570a884095a9e8ccacd0f6545c")]
    model_id: Option<String>,
    /// Whether the rule-based fallback scored the row: no model is deployed.
    fallback: bool,
    /// Number of the deployment.
    #[schema(example = 2)]
    generation: i64,
    /// Smallest p-value that the model gives. If it is above `scoring.outlier_alpha`, the model was
    /// trained on too few customers to flag one. Null for the fallback.
    #[schema(minimum = 0, maximum = 1, example = 0.001)]
    smallest_p_value: Option<f64>,
    #[serde(flatten)]
    score: ScoreBody,
    /// The experiments that the customer takes part in, by the segment and the audiences of this row,
    /// without knowledge of exposures. Left out without `customer_id`, and while no experiment runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    experiments: Option<Vec<ParticipationBody>>,
}

/// The scores of a list of rows, all by one deployment.
#[derive(Serialize, ToSchema)]
pub(super) struct RowScoreListBody {
    /// Id of the model; null for the rule-based fallback.
    #[schema(example = "50d858e0985ecc7f60418aaf0cc5ab587f42c2570a884095a9e8ccacd0f6545c")]
    model_id: Option<String>,
    /// Whether the rule-based fallback scored the rows: no model is deployed.
    fallback: bool,
    /// Number of the deployment.
    #[schema(example = 2)]
    generation: i64,
    /// Smallest p-value that the model gives. If it is above `scoring.outlier_alpha`, the model was
    /// trained on too few customers to flag one. Null for the fallback.
    #[schema(minimum = 0, maximum = 1, example = 0.001)]
    smallest_p_value: Option<f64>,
    /// One score for each row, in the order of the rows.
    scores: Vec<ScoreBody>,
}

/// A score: the segment of a row, and how well the row fits into it.
#[derive(Serialize, ToSchema)]
pub(super) struct ScoreBody {
    /// Id of the segment, or `unassigned` if the row is too far from every segment.
    #[schema(example = "seg_5f2c8d10b7a94e36")]
    segment_id: String,
    /// Name of the segment.
    #[schema(example = "Loyal Customers")]
    segment_name: String,
    /// Id of the nearest segment; differs from `segment_id` only if that is `unassigned`. Null
    /// for the fallback.
    #[schema(example = "seg_5f2c8d10b7a94e36")]
    nearest_segment_id: Option<String>,
    /// Distance to the nearest segment; null for the fallback.
    #[schema(minimum = 0, example = 2.618)]
    distance: Option<f32>,
    /// Id of the second nearest segment; null for the fallback, and if there is only one.
    #[schema(example = "seg_0b7a91c2d3e4f586")]
    runner_up_segment_id: Option<String>,
    /// Distance to the runner-up minus the distance to the nearest segment; null for the
    /// fallback, and if there is only one segment.
    #[schema(minimum = 0, example = 0.081)]
    margin: Option<f32>,
    /// Simplified silhouette, 1 - distance / distance to the runner-up: 0 on the border between
    /// two segments, 1 at the centre. Null for the fallback.
    #[schema(minimum = 0, maximum = 1, example = 0.03)]
    confidence: Option<f32>,
    /// Conformal p-value of the row among all customers: the share of customers that are at
    /// least as unusual. Null for the fallback.
    #[schema(minimum = 0, maximum = 1, example = 0.63)]
    p_value: Option<f64>,
    /// Whether `p_value` is at most `scoring.outlier_alpha`. Never true if `smallest_p_value` is above
    /// that rate.
    outlier: bool,
    /// Conformal p-value of the row within its segment: the share of the segment's customers that
    /// are at least as far from its centre. Null for the fallback.
    #[schema(minimum = 0, maximum = 1, example = 0.40)]
    edge_p_value: Option<f64>,
    /// The kind of anomaly; null if the row is usual.
    anomaly: Option<AnomalyBody>,
    /// Contributions of the features to the distance, largest first. Left out without `explain`,
    /// and for the fallback.
    #[serde(skip_serializing_if = "Option::is_none")]
    reasons: Option<Vec<ScoreReasonBody>>,
    /// Number of inputs of the model without a value in the row; for the fallback, of the inputs
    /// of its rules.
    #[schema(example = 1)]
    missing_inputs: usize,
    /// The values that replace the missing inputs. Left out without `explain`.
    #[serde(skip_serializing_if = "Option::is_none")]
    defaults: Option<Vec<InputDefaultBody>>,
}

/// The value that replaces a missing input.
#[derive(Serialize, ToSchema)]
pub(super) struct InputDefaultBody {
    /// Name of the feature.
    #[schema(example = "recency_days")]
    feature: String,
    /// The imputed value, in the unit of the feature; null if nothing replaces the input: a missing
    /// category is a value of its own, and so is every missing input of the fallback.
    value: FeatureValueBody,
}

impl From<InputDefault<'_>> for InputDefaultBody {
    fn from(default: InputDefault<'_>) -> Self {
        Self { feature: default.feature.to_owned(), value: default.value.into() }
    }
}

/// A kind of anomaly. `global_outlier`: unusual among all customers. `edge_of_segment`: usual among
/// all customers, but far from the centre of its segment.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum AnomalyBody {
    GlobalOutlier,
    EdgeOfSegment,
}

impl From<AnomalyKind> for AnomalyBody {
    fn from(kind: AnomalyKind) -> Self {
        match kind {
            AnomalyKind::GlobalOutlier => Self::GlobalOutlier,
            AnomalyKind::EdgeOfSegment => Self::EdgeOfSegment,
        }
    }
}

/// The contribution of one feature to the distance of a row from its segment.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ScoreReasonBody {
    /// Name of the feature.
    #[schema(example = "recency_days")]
    feature: String,
    /// Unit of `value` and `typical`.
    #[schema(example = "days")]
    unit: String,
    /// Share of the squared distance; all shares sum to 1.
    #[schema(minimum = 0, maximum = 1, example = 0.41)]
    share: f64,
    /// The value in the row.
    value: FeatureValueBody,
    /// The typical value in the segment.
    typical: FeatureValueBody,
    /// `value` compared with `typical`.
    direction: ValueDirectionBody,
}

/// A value compared with the typical value. `different`: another category, or one of both values is
/// missing.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ValueDirectionBody {
    Higher,
    Lower,
    Same,
    Different,
}

impl From<ValueDirection> for ValueDirectionBody {
    fn from(direction: ValueDirection) -> Self {
        match direction {
            ValueDirection::Higher => Self::Higher,
            ValueDirection::Lower => Self::Lower,
            ValueDirection::Same => Self::Same,
            ValueDirection::Different => Self::Different,
        }
    }
}

impl ScoreReasonBody {
    pub(super) fn new(model: &Model, reason: FeatureContribution) -> Self {
        let def = &model.features()[reason.feature];
        Self {
            feature: def.name.to_string(),
            unit: def.unit.to_string(),
            share: reason.share,
            value: reason.value.into(),
            typical: reason.typical_value.into(),
            direction: reason.direction.into(),
        }
    }
}

//! `GET /v1/features`: the declared features.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::api::ApiState;
use crate::api::request::{AuthorizedCaller, Read};
use crate::api::request_layer::RouteKind;
use crate::api::route::ApiRoute;
use crate::domain::feature::{
    FeatureDefinition, FeatureEncoding, MissingValueRule, NumberScaling, NumberTransform,
    Sensitivity, ValueBounds,
};

pub(super) fn routes() -> Vec<ApiRoute> {
    vec![ApiRoute::new(routes!(get_feature_set), RouteKind::Manage)]
}

/// The declared features.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FeatureSetBody {
    /// Id of the feature set: the SHA-256 of its normal form.
    #[schema(example = "2e7d2c03a9507ae265ecf5b5356885a53393a2029d241394997265a1a25aefc6")]
    feature_set_id: String,
    /// In the order of a feature row.
    features: Vec<FeatureBody>,
}

/// A declared feature.
#[derive(Debug, Serialize, ToSchema)]
struct FeatureBody {
    /// Name of the feature in requests and responses.
    #[schema(example = "recency_days")]
    name: String,
    /// Name for people.
    #[schema(example = "Days since the last order")]
    title: String,
    /// Unit of the values.
    #[schema(example = "days")]
    unit: String,
    /// Address or team that is alerted when the feature drifts.
    #[schema(example = "crm@shop.example")]
    owner: String,
    sensitivity: FeatureSensitivity,
    /// Least value in a feature row; null if unbounded. Lower ones are refused.
    #[schema(example = 0.0)]
    minimum: Option<f64>,
    /// Greatest value in a feature row; null if unbounded. Greater ones are refused.
    maximum: Option<f64>,
    /// Encoding for models; null: models do not read the feature.
    encoding: Option<FeatureEncodingBody>,
}

/// Sensitivity of a feature; a `sensitive` one never enters a model.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum FeatureSensitivity {
    Public,
    Internal,
    Sensitive,
}

/// Encoding of a feature as columns of the encoded row. A number is imputed, clipped,
/// transformed, scaled and weighted, in this order.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "kind": "number", "weight": 1.0, "imputation": "median", "has_missing_flag": true,
    "lower_clip_quantile": 0.01, "upper_clip_quantile": 0.99, "transform": "log1p",
    "scaling": "standard",
}))]
struct FeatureEncodingBody {
    kind: FeatureEncodingKind,
    /// Factor on the scaled columns.
    #[schema(example = 1.0)]
    weight: f64,
    /// Imputation of missing numbers; left out for categories.
    #[serde(skip_serializing_if = "Option::is_none")]
    imputation: Option<FeatureImputation>,
    /// The number that replaces missing ones, with the imputation `constant`; otherwise left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 0.0)]
    imputation_constant: Option<f64>,
    /// Whether another column is 1 where the number is missing; left out for categories.
    #[serde(skip_serializing_if = "Option::is_none")]
    has_missing_flag: Option<bool>,
    /// Numbers below this quantile are clipped; left out if none are.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1, example = 0.01)]
    lower_clip_quantile: Option<f64>,
    /// Numbers above this quantile are clipped; left out if none are.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1, example = 0.99)]
    upper_clip_quantile: Option<f64>,
    /// Transformation of numbers; left out for categories.
    #[serde(skip_serializing_if = "Option::is_none")]
    transform: Option<FeatureTransform>,
    /// Scaling of numbers; left out for categories.
    #[serde(skip_serializing_if = "Option::is_none")]
    scaling: Option<FeatureScaling>,
    /// Categories of a smaller share of the rows have one column together; left out for numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1, example = 0.01)]
    minimum_category_share: Option<f64>,
}

/// One column for a number, or one column for each category.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum FeatureEncodingKind {
    Number,
    OneHot,
}

/// The replacement of a missing number.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum FeatureImputation {
    Mean,
    Median,
    Constant,
}

/// Transformation of a number: chosen from the data in training, none, ln(1 + x), or Yeo-Johnson
/// (2000).
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum FeatureTransform {
    Automatic,
    None,
    Log1p,
    YeoJohnson,
}

/// Scaling of a number: none; by mean and standard deviation; by median and interquartile range;
/// or to the range from 0 to 1.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum FeatureScaling {
    None,
    Standard,
    Robust,
    MinMax,
}

impl FeatureBody {
    fn new(feature: &FeatureDefinition, bounds: ValueBounds) -> Self {
        Self {
            name: feature.name.to_string(),
            title: feature.title.to_string(),
            unit: feature.unit.to_string(),
            owner: feature.owner.to_string(),
            sensitivity: match feature.sensitivity {
                Sensitivity::Public => FeatureSensitivity::Public,
                Sensitivity::Internal => FeatureSensitivity::Internal,
                Sensitivity::Sensitive => FeatureSensitivity::Sensitive,
            },
            minimum: bounds.minimum,
            maximum: bounds.maximum,
            encoding: feature.encoding.map(Into::into),
        }
    }
}

impl FeatureEncodingBody {
    fn new(kind: FeatureEncodingKind, weight: f64) -> Self {
        Self {
            kind,
            weight,
            imputation: None,
            imputation_constant: None,
            has_missing_flag: None,
            lower_clip_quantile: None,
            upper_clip_quantile: None,
            transform: None,
            scaling: None,
            minimum_category_share: None,
        }
    }
}

impl From<FeatureEncoding> for FeatureEncodingBody {
    fn from(encoding: FeatureEncoding) -> Self {
        match encoding {
            FeatureEncoding::OneHot { floor, weight } => Self {
                minimum_category_share: Some(floor),
                ..Self::new(FeatureEncodingKind::OneHot, weight)
            },
            FeatureEncoding::Number {
                missing,
                missing_flag,
                winsorise,
                transform,
                scale,
                weight,
            } => {
                let (lower_clip_quantile, upper_clip_quantile) = winsorise.unzip();
                let (imputation, imputation_constant) = match missing {
                    MissingValueRule::Mean => (FeatureImputation::Mean, None),
                    MissingValueRule::Median => (FeatureImputation::Median, None),
                    MissingValueRule::Constant(number) => {
                        (FeatureImputation::Constant, Some(number))
                    }
                };
                Self {
                    imputation: Some(imputation),
                    imputation_constant,
                    has_missing_flag: Some(missing_flag),
                    lower_clip_quantile,
                    upper_clip_quantile,
                    transform: Some(transform.into()),
                    scaling: Some(scale.into()),
                    ..Self::new(FeatureEncodingKind::Number, weight)
                }
            }
        }
    }
}

impl From<NumberTransform> for FeatureTransform {
    fn from(transform: NumberTransform) -> Self {
        match transform {
            NumberTransform::Automatic => Self::Automatic,
            NumberTransform::None => Self::None,
            NumberTransform::Log1p => Self::Log1p,
            NumberTransform::YeoJohnson => Self::YeoJohnson,
        }
    }
}

impl From<NumberScaling> for FeatureScaling {
    fn from(scaling: NumberScaling) -> Self {
        match scaling {
            NumberScaling::None => Self::None,
            NumberScaling::Standard => Self::Standard,
            NumberScaling::Robust => Self::Robust,
            NumberScaling::MinMax => Self::MinMax,
        }
    }
}

/// List the declared features.
///
/// The feature set of this server, which every feature row and the stored customers follow.
#[utoipa::path(
    get,
    path = "/v1/features",
    tag = "Features",
    security(("key" = ["read"])),
    responses((status = 200, body = FeatureSetBody, description = "The feature set"))
)]
pub(super) async fn get_feature_set(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
) -> Json<FeatureSetBody> {
    let deployment = state.deployments.snapshot();
    let set = &deployment.features;
    let features = set.features().iter().enumerate();
    Json(FeatureSetBody {
        feature_set_id: set.id().to_string(),
        features: features
            .map(|(index, feature)| FeatureBody::new(feature, set.bounds_at(index)))
            .collect(),
    })
}

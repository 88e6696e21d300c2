//! `GET /v1/models/{model_id}/diff/{other_model_id}`: differences between two models.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::models::ids::resolve_model_id;
use crate::api::models::lineage::LineageEventBody;
use crate::api::models::profile::TypicalValueBody;
use crate::api::named_segment::NamedSegmentBody;
use crate::api::request::{AuthorizedCaller, PathParameters, Read, heavy_work};
use crate::api::{ApiError, ApiState};
use crate::domain::model::{
    self, EncoderDiff, FeaturesDiff, ModelDiff, ModelFigures, ProfileChange, SegmentBrief,
    SegmentChange, SegmentsDiff, ValueChange,
};
use crate::domain::time::Timestamp;
use crate::service::models::registry;
use crate::store::models::lineage;

/// The differences from one model to another.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelDiffBody {
    /// Id of the first model.
    #[schema(example = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb")]
    from_model_id: String,
    /// Id of the second model.
    #[schema(example = "3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d")]
    to_model_id: String,
    segments: SegmentDifferencesBody,
    features: FeatureDifferencesBody,
    encoder: EncoderDifferencesBody,
    figures: ModelFiguresChangeBody,
    /// What became of each segment, if the second model was trained while the first was active;
    /// otherwise empty.
    lineage: Vec<LineageEventBody>,
}

/// Segments by their ids.
#[derive(Debug, Serialize, ToSchema)]
struct SegmentDifferencesBody {
    /// Segments of both models, in the order of the first.
    same: Vec<SegmentChangeBody>,
    /// Segments of the second model alone.
    added: Vec<SegmentSummaryBody>,
    /// Segments of the first model alone.
    removed: Vec<SegmentSummaryBody>,
}

/// A segment of one model.
#[derive(Debug, Serialize, ToSchema)]
struct SegmentSummaryBody {
    #[serde(flatten)]
    segment: NamedSegmentBody,
    /// Share of the training rows in the segment.
    #[schema(minimum = 0, maximum = 1, example = 0.24)]
    share: f64,
}

/// A segment of both models.
#[derive(Debug, Serialize, ToSchema)]
struct SegmentChangeBody {
    /// Id of the segment.
    #[schema(example = "seg_5f2c8d10b7a94e36")]
    segment_id: String,
    /// Name of the segment.
    name: TextChangeBody,
    /// Training rows in the segment.
    size: CountChangeBody,
    /// Share of the training rows in the segment.
    share: NumberChangeBody,
    /// Features with other typical values than before.
    features: Vec<TypicalValueChangeBody>,
}

/// A text in the first and the second model.
#[derive(Debug, Serialize, ToSchema)]
struct TextChangeBody {
    /// In the first model.
    #[schema(example = "Loyal Customers")]
    from: String,
    /// In the second model.
    #[schema(example = "Champions")]
    to: String,
}

/// A count in the first and the second model.
#[derive(Debug, Serialize, ToSchema)]
struct CountChangeBody {
    /// In the first model.
    #[schema(example = 1200)]
    from: u64,
    /// In the second model.
    #[schema(example = 1150)]
    to: u64,
}

/// A number in the first and the second model.
#[derive(Debug, Serialize, ToSchema)]
struct NumberChangeBody {
    /// In the first model.
    #[schema(example = 0.24)]
    from: f64,
    /// In the second model.
    #[schema(example = 0.23)]
    to: f64,
}

/// The typical value of one feature in the first and the second model.
#[derive(Debug, Serialize, ToSchema)]
struct TypicalValueChangeBody {
    /// Name of the feature.
    #[schema(example = "recency_days")]
    feature: String,
    /// In the first model; null: the model does not describe the feature.
    from: Option<TypicalValueBody>,
    /// In the second model; null: the model does not describe the feature.
    to: Option<TypicalValueBody>,
}

/// Differences of the declared features, by name.
#[derive(Debug, Serialize, ToSchema)]
struct FeatureDifferencesBody {
    /// Whether both models read the same feature set.
    same_set: bool,
    /// Features of the second model alone.
    #[schema(example = json!(["visits_28d"]))]
    added: Vec<String>,
    /// Features of the first model alone.
    #[schema(example = json!([]))]
    removed: Vec<String>,
    /// Features with another declaration: unit, encoding, owner …
    #[schema(example = json!(["spend_365d"]))]
    changed: Vec<String>,
}

/// Differences of the encoded columns, by name. Their fitted parameters are not compared,
/// because every training fits them anew.
#[derive(Debug, Serialize, ToSchema)]
struct EncoderDifferencesBody {
    /// Columns of the second model alone.
    #[schema(example = json!(["visits_28d"]))]
    added: Vec<String>,
    /// Columns of the first model alone.
    #[schema(example = json!([]))]
    removed: Vec<String>,
    /// Number of columns.
    width: CountChangeBody,
    /// Whether the columns are projected to principal components or whitened.
    projected: FlagChangeBody,
}

/// A statement about the first and the second model.
#[derive(Debug, Serialize, ToSchema)]
struct FlagChangeBody {
    /// About the first model.
    from: bool,
    /// About the second model.
    to: bool,
}

/// Figures of the first and the second model.
#[derive(Debug, Serialize, ToSchema)]
struct ModelFiguresChangeBody {
    from: ModelFiguresBody,
    to: ModelFiguresBody,
}

/// Figures and provenance of a model.
#[derive(Debug, Serialize, ToSchema)]
struct ModelFiguresBody {
    /// Number of segments.
    #[schema(example = 5)]
    segments: usize,
    /// Number of vectors that represent the segments; centroids for k-means.
    #[schema(example = 5)]
    prototypes: usize,
    /// Training rows, fitted and held out.
    #[schema(example = 5000)]
    rows: u64,
    /// Training rows in no segment.
    #[schema(example = 0)]
    unassigned: u64,
    /// The instant that the training rows describe.
    as_of: Timestamp,
    /// Sum of the squared distances of the fitted rows to their prototypes, in encoded units.
    #[schema(example = 8120.5)]
    inertia: f64,
    /// Mean simplified silhouette of the fitted rows, from -1 to 1; null with one segment.
    #[schema(minimum = -1, maximum = 1, example = 0.31)]
    silhouette: Option<f64>,
    /// Seed of the training.
    #[schema(example = 0)]
    seed: u64,
    /// Version of segmentd that trained the model.
    #[schema(example = "0.1.0")]
    code_version: String,
    /// Id of the model from which segments got their ids; null: none.
    #[schema(example = "2e7d2c03a9507ae265ecf5b5356885a53393a2029d241394997265a1a25aefc6")]
    predecessor_model_id: Option<String>,
}

impl ModelDiffBody {
    fn new(diff: &ModelDiff, lineage: Vec<LineageEventBody>) -> Self {
        Self {
            from_model_id: diff.from.to_string(),
            to_model_id: diff.to.to_string(),
            segments: (&diff.segments).into(),
            features: (&diff.features).into(),
            encoder: (&diff.encoder).into(),
            figures: ModelFiguresChangeBody {
                from: (&diff.figures.from).into(),
                to: (&diff.figures.to).into(),
            },
            lineage,
        }
    }
}

impl From<&SegmentsDiff> for SegmentDifferencesBody {
    fn from(diff: &SegmentsDiff) -> Self {
        Self {
            same: diff.same.iter().map(Into::into).collect(),
            added: diff.added.iter().map(Into::into).collect(),
            removed: diff.gone.iter().map(Into::into).collect(),
        }
    }
}

impl From<&SegmentBrief> for SegmentSummaryBody {
    fn from(segment: &SegmentBrief) -> Self {
        Self { segment: segment.segment.clone().into(), share: segment.share }
    }
}

impl From<&SegmentChange> for SegmentChangeBody {
    fn from(change: &SegmentChange) -> Self {
        Self {
            segment_id: change.id.to_string(),
            name: (&change.name).into(),
            size: CountChangeBody { from: change.size.from, to: change.size.to },
            share: NumberChangeBody { from: change.share.from, to: change.share.to },
            features: change.profile.iter().map(Into::into).collect(),
        }
    }
}

impl From<&ValueChange<Box<str>>> for TextChangeBody {
    fn from(change: &ValueChange<Box<str>>) -> Self {
        Self { from: change.from.to_string(), to: change.to.to_string() }
    }
}

impl From<&ProfileChange> for TypicalValueChangeBody {
    fn from(change: &ProfileChange) -> Self {
        Self {
            feature: change.feature.to_string(),
            from: change.from.as_ref().map(Into::into),
            to: change.to.as_ref().map(Into::into),
        }
    }
}

impl From<&FeaturesDiff> for FeatureDifferencesBody {
    fn from(diff: &FeaturesDiff) -> Self {
        Self {
            same_set: diff.same_set,
            added: texts(&diff.added),
            removed: texts(&diff.gone),
            changed: texts(&diff.changed),
        }
    }
}

impl From<&EncoderDiff> for EncoderDifferencesBody {
    fn from(diff: &EncoderDiff) -> Self {
        let EncoderDiff { width, projected, .. } = diff;
        Self {
            added: texts(&diff.added),
            removed: texts(&diff.gone),
            width: CountChangeBody { from: width.from as u64, to: width.to as u64 },
            projected: FlagChangeBody { from: projected.from, to: projected.to },
        }
    }
}

impl From<&ModelFigures> for ModelFiguresBody {
    fn from(figures: &ModelFigures) -> Self {
        Self {
            segments: figures.segments,
            prototypes: figures.prototypes,
            rows: figures.rows,
            unassigned: figures.unassigned,
            as_of: figures.as_of,
            inertia: figures.inertia,
            silhouette: figures.silhouette,
            seed: figures.seed,
            code_version: figures.code_version.to_string(),
            predecessor_model_id: figures.predecessor.as_ref().map(ToString::to_string),
        }
    }
}

fn texts(names: &[Box<str>]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

/// Compare two models.
///
/// Segments of the same id, added and removed segments, typical values, features, encoder and
/// figures.
#[utoipa::path(
    get,
    path = "/v1/models/{model_id}/diff/{other_model_id}",
    tag = "Models",
    security(("key" = ["read"])),
    params(
        ("model_id" = String, Path, description = "Id of the first model, or at least its first 12 digits"),
        ("other_model_id" = String, Path, description = "Id of the second model, or at least its first 12 digits"),
    ),
    responses(
        (status = 200, body = ModelDiffBody, description = "The differences"),
        (status = 404, description = "There is no such model, or several ids begin so"),
        (status = 409, description = "A model fails its self-test"),
    )
)]
pub(crate) async fn compare_models(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Read>,
    PathParameters((from, to)): PathParameters<(String, String)>,
) -> Result<Json<ModelDiffBody>, ApiError> {
    let from = resolve_model_id(&state, &from).await?;
    let to = resolve_model_id(&state, &to).await?;
    let rows = lineage::list_between(&state.db, &from, &to).await?;
    let (from, to) = tokio::try_join!(
        registry::open_model(&state.db, &from),
        registry::open_model(&state.db, &to)
    )?;
    let personas = &state.deployments.snapshot().personas;
    let (from, to) = (personas.name_segments(from), personas.name_segments(to));
    // Always heavy: a comparison covers up to 256 segments of many features each.
    let diff = heavy_work::run(&state, caller.user(), true, move |_| {
        Ok(model::compare_models(&from, &to))
    });
    let diff = diff.await?;
    let lineage: Result<_, _> = rows.into_iter().map(LineageEventBody::new).collect();
    Ok(Json(ModelDiffBody::new(&diff, lineage?)))
}

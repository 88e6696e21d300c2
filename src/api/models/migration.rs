//! `GET /v1/models/{model_id}/migration`: moves of the customers between segments if a model
//! were promoted.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::models::ids::ModelIdPath;
use crate::api::models::ids::resolve_model_id;
use crate::api::named_segment::NamedSegmentBody;
use crate::api::request::{AuthorizedCaller, PathParameters, Read};
use crate::api::{ApiError, ApiState};
use crate::domain::model::SegmentFlow;
use crate::domain::time::Timestamp;
use crate::service::models::preview::PromotionPreview;

/// Moves of the customers between segments under another model.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MigrationBody {
    /// Id of the active model; null: the rule-based fallback answers.
    #[schema(example = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb")]
    from_model_id: Option<String>,
    /// Id of the previewed model.
    #[schema(example = "3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d")]
    to_model_id: String,
    /// The instant that the customers were scored for.
    as_of: Timestamp,
    /// Scored customers.
    #[schema(example = 5000)]
    customers: u64,
    /// Customers in a segment of the same id before and after, or in none both times.
    #[schema(example = 4600)]
    stay: u64,
    /// Customers in another segment than before.
    #[schema(example = 400)]
    move_away: u64,
    /// `move_away` as a share of `customers`; 0 without customers.
    #[schema(minimum = 0, maximum = 1, example = 0.08)]
    moved_share: f64,
    /// Flows of at least 5 customers, largest first, with the customers who stay.
    flows: Vec<SegmentFlowBody>,
    /// Customers in all flows of fewer than 5 customers.
    #[schema(example = 6)]
    in_small_flows: u64,
    /// Number of flows of fewer than 5 customers.
    #[schema(example = 2)]
    small_flows: u64,
}

/// The customers in one segment before and one segment after.
#[derive(Debug, Serialize, ToSchema)]
struct SegmentFlowBody {
    from: NamedSegmentBody,
    to: NamedSegmentBody,
    /// Whether both are the same segment, or none.
    stays: bool,
    /// Customers in this flow.
    #[schema(example = 120)]
    customers: u64,
    /// `customers` as a share of all customers in the segment before.
    #[schema(minimum = 0, maximum = 1, example = 0.1)]
    share_of_from: f64,
    /// `customers` as a share of all customers in the segment after.
    #[schema(minimum = 0, maximum = 1, example = 0.12)]
    share_of_to: f64,
}

impl From<SegmentFlow> for SegmentFlowBody {
    fn from(flow: SegmentFlow) -> Self {
        Self {
            from: flow.from.into(),
            to: flow.to.into(),
            stays: flow.stays,
            customers: flow.customers,
            share_of_from: flow.share_of_from,
            share_of_to: flow.share_of_to,
        }
    }
}

impl From<PromotionPreview> for MigrationBody {
    fn from(preview: PromotionPreview) -> Self {
        let migration = preview.migration;
        Self {
            from_model_id: preview.from.map(Into::into),
            to_model_id: preview.to.into(),
            as_of: preview.as_of,
            customers: migration.customers,
            stay: migration.stay,
            move_away: migration.move_away,
            moved_share: migration.moved_share,
            flows: migration.flows.into_iter().map(Into::into).collect(),
            in_small_flows: migration.in_small_flows,
            small_flows: migration.small_flows,
        }
    }
}

/// Preview the moves of customers under a model.
///
/// Every stored customer is scored by the active model and by this one, both with hysteresis
/// (`hysteresis.min_relative_advantage` and `hysteresis.minimum_stay_seconds`). Nothing is
/// written. Flows of fewer than 5 customers are combined. One preview runs at a time: another
/// one is answered with 429.
#[utoipa::path(
    get,
    path = "/v1/models/{model_id}/migration",
    tag = "Models",
    security(("key" = ["read"])),
    params(ModelIdPath),
    responses(
        (status = 200, body = MigrationBody, description = "The moves between segments"),
        (status = 404, description = "There is no such model, or several ids begin so"),
        (status = 409, description = "The model has another feature set, or fails its self-test"),
    )
)]
pub(crate) async fn preview_migration(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Read>,
    PathParameters(model_id): PathParameters<String>,
) -> Result<Json<MigrationBody>, ApiError> {
    let _permit = state.slow_reads.acquire(&caller.principal).await?;
    let model_id = resolve_model_id(&state, &model_id).await?;
    let preview = state.registry.preview_promotion(&model_id).await?;
    Ok(Json(preview.into()))
}

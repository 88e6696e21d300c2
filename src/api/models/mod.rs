//! `/v1/models…` and `/v1/deployment…`: models, their life cycle, and the deployment.

mod backtest;
pub(crate) mod deployment;
pub(crate) mod diff;
pub(in crate::api) mod ids;
mod leaderboard;
pub(crate) mod lineage;
pub(crate) mod migration;
pub(in crate::api) mod profile;
pub(in crate::api) mod report;
pub(crate) mod segments;
pub(crate) mod shadow;
pub(crate) mod transitions;
pub(crate) mod value;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use crate::api::error::GateResultBody;
use crate::api::models::ids::ModelIdPath;
use crate::api::models::ids::{resolve_model_id, stored_choice};
use crate::api::models::report::TrainingReportBody;
use crate::api::request::page::{InstantAndId, PageCursor, PageLimit};
use crate::api::request::{AuthorizedCaller, PathParameters, QueryParameters, Read};
use crate::api::request_layer::{ExpensiveRequests, RouteKind};
use crate::api::route::ApiRoute;
use crate::api::{ApiError, ApiState};
use crate::domain::deployment::lifecycle::ModelStage;
use crate::domain::id::{InvalidId, ModelId};
use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::service::api_keys::KeyAuthenticator;
use crate::store::models::decisions::ModelDecision;
use crate::store::models::list::InstantPage;
use crate::store::models::{self, ModelRow, decisions, list};

pub(super) fn routes() -> Vec<ApiRoute> {
    vec![
        ApiRoute::new(routes!(list_models), RouteKind::Manage),
        ApiRoute::new(routes!(get_model), RouteKind::Manage),
        ApiRoute::new(routes!(segments::list_model_segments), RouteKind::Manage),
        ApiRoute::new(routes!(value::get_model_value), RouteKind::Manage),
        ApiRoute::new(routes!(value::get_model_value_picture), RouteKind::Manage),
        ApiRoute::new(routes!(diff::compare_models), RouteKind::Manage),
        ApiRoute::new(routes!(migration::preview_migration), RouteKind::Stream)
            .with_expensive(ExpensiveRequests::All),
        ApiRoute::new(
            routes!(shadow::get_shadow_report, transitions::start_shadow),
            RouteKind::Manage,
        ),
        ApiRoute::new(routes!(transitions::start_canary), RouteKind::Manage),
        ApiRoute::new(routes!(transitions::promote_model), RouteKind::Manage),
        ApiRoute::new(routes!(transitions::retire_model), RouteKind::Manage),
        ApiRoute::new(routes!(transitions::reject_model), RouteKind::Manage),
        ApiRoute::new(routes!(deployment::get_deployment), RouteKind::Manage),
        ApiRoute::new(routes!(deployment::rollback_deployment), RouteKind::Manage),
        ApiRoute::new(routes!(deployment::activate_fallback), RouteKind::Manage),
    ]
}

/// Most decisions in the response for one model; the latest.
const MOST_DECISIONS: i64 = 100;

/// A model.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelBody {
    /// Id of the model: the SHA-256 of its document.
    #[schema(example = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb")]
    model_id: String,
    /// Id of the feature set that the model reads.
    #[schema(example = "2e7d2c03a9507ae265ecf5b5356885a53393a2029d241394997265a1a25aefc6")]
    feature_set_id: String,
    stage: ModelStage,
    /// Id of the training run; null: not trained by a run.
    #[schema(example = "run_5f2c8d10b7a94e36")]
    training_run_id: Option<String>,
    /// Registration of the model.
    created_at: Timestamp,
}

impl ModelBody {
    fn new(row: &ModelRow) -> Result<Self, ApiError> {
        Ok(Self {
            model_id: row.model_id.to_string(),
            feature_set_id: row.feature_set.clone(),
            stage: stored_choice(&row.stage)?,
            training_run_id: row.run_id.clone(),
            created_at: row.created_at,
        })
    }
}

/// A page of models, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelListBody {
    models: Vec<ModelBody>,
    /// The `cursor` of the next page; null on the last page.
    next_cursor: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ModelListQuery {
    /// Models per page.
    #[serde(default)]
    #[param(inline)]
    limit: PageLimit<50, 500>,
    /// `next_cursor` of the previous page.
    #[param(value_type = Option<String>)]
    cursor: Option<PageCursor<InstantAndId>>,
}

/// List models, newest first.
#[utoipa::path(
    get,
    path = "/v1/models",
    tag = "Models",
    security(("key" = ["read"])),
    params(ModelListQuery),
    responses((status = 200, body = ModelListBody, description = "The models"))
)]
pub(crate) async fn list_models(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    QueryParameters(query): QueryParameters<ModelListQuery>,
) -> Result<Json<ModelListBody>, ApiError> {
    let limit = query.limit.get();
    let page = InstantPage { after: query.cursor.map(|PageCursor(key)| key), limit };
    let rows = list::list_page(&state.db, &page).await?;
    let next_cursor =
        PageCursor::after(&rows, limit, |row| (row.created_at, row.model_id.to_string()));
    let models: Result<_, _> = rows.iter().map(ModelBody::new).collect();
    Ok(Json(ModelListBody { models: models?, next_cursor }))
}

/// A model with its training report and the decisions about it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelDetailBody {
    #[serde(flatten)]
    model: ModelBody,
    /// Figures of the training; null: the model has no complete report.
    report: Option<TrainingReportBody>,
    /// The latest 100 decisions, newest first.
    decisions: Vec<ModelDecisionBody>,
}

/// A requested step of a model's life cycle.
#[derive(Debug, Serialize, ToSchema)]
struct ModelDecisionBody {
    step: ModelStep,
    /// Stage before the step.
    from_stage: ModelStage,
    /// Stage after the step; null: the step was not taken.
    to_stage: Option<ModelStage>,
    /// Whether the step was taken although gates refused it.
    forced: bool,
    /// Time of the decision.
    decided_at: Timestamp,
    /// Author: a key, a training run or the policy.
    #[schema(example = "key 0050e0c5c045")]
    decided_by: String,
    /// Name of the key; null for another author.
    #[schema(example = "release pipeline")]
    decided_by_name: Option<String>,
    /// Reason of the request.
    #[schema(example = "more stable segments")]
    reason: String,
    /// Results of the gates; empty for a step without gates.
    gates: Vec<GateResultBody>,
}

/// A step of a model's life cycle. `rollback`: the model became active again; `fallback`: the
/// rule-based fallback replaced it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ModelStep {
    Shadow,
    Canary,
    Promote,
    Retire,
    Reject,
    Rollback,
    Fallback,
}

impl ModelDecisionBody {
    fn new(decision: ModelDecision, keys: &KeyAuthenticator) -> Result<Self, ApiError> {
        let to_stage = decision.to_stage.as_deref().map(stored_choice).transpose()?;
        Ok(Self {
            step: stored_choice(&decision.step)?,
            from_stage: stored_choice(&decision.from_stage)?,
            to_stage,
            forced: decision.is_forced,
            decided_at: decision.decided_at,
            decided_by_name: keys.name_of_author(&decision.decided_by),
            decided_by: decision.decided_by,
            reason: decision.reason,
            gates: serde_json::from_value(decision.gates).map_err(ServiceError::internal)?,
        })
    }
}

/// Get a model with its training report.
#[utoipa::path(
    get,
    path = "/v1/models/{model_id}",
    tag = "Models",
    security(("key" = ["read"])),
    params(ModelIdPath),
    responses(
        (status = 200, body = ModelDetailBody, description = "The model"),
        (status = 404, description = "There is no such model, or several ids begin so"),
    )
)]
pub(crate) async fn get_model(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    PathParameters(model_id): PathParameters<String>,
) -> Result<Json<ModelDetailBody>, ApiError> {
    let row = find_model(&state, &model_id).await?;
    let rows = decisions::list_of_model(&state.db, &row.model_id, MOST_DECISIONS).await?;
    let decisions: Result<_, _> = rows
        .into_iter()
        .map(|decision| ModelDecisionBody::new(decision, &state.api_keys))
        .collect();
    let model = ModelBody::new(&row)?;
    let report = serde_json::from_value(row.report).ok();
    Ok(Json(ModelDetailBody { model, report, decisions: decisions? }))
}

pub(crate) async fn find_model(state: &ApiState, text: &str) -> Result<ModelRow, ApiError> {
    let model_id = resolve_model_id(state, text).await?;
    let row = models::find(&state.db, &model_id).await?;
    row.ok_or_else(|| ApiError::not_found(&format!("model `{text}`")))
}

pub(crate) fn parse_model_id(text: &str) -> Result<ModelId, ApiError> {
    text.parse().map_err(|why: InvalidId| ApiError::invalid("model", why.to_string()))
}

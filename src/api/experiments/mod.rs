//! `/v1/experiments…`: controlled tests of treatments.

mod definition;
mod effects;
pub(in crate::api) mod participation;
mod plan;
mod results;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

pub(in crate::api) use definition::{ExperimentStatusBody, MetricKindBody};
pub(in crate::api) use effects::SegmentEffectBody;
pub(in crate::api) use results::analyse;

use crate::api::definition_change::{DefinitionChangeBody, DefinitionVersionQuery, StoredChange};
use crate::api::experiments::definition::ExperimentDefinitionBody;
use crate::api::request::page::PageCursor;
use crate::api::request::{
    AuthorizedCaller, JsonBody, PathParameters, QueryParameters, Read, Train, parse_json,
};
use crate::api::request_layer::{ExpensiveRequests, RouteKind};
use crate::api::route::ApiRoute;
use crate::api::{ApiError, ApiState};
use crate::domain::time::Timestamp;
use crate::service::experiments::ExperimentDraft;
pub(in crate::api) use crate::service::experiments::results::ExperimentResults;
use crate::store::experiments;
use crate::store::experiments::ExperimentVersion;

pub(super) fn routes() -> Vec<ApiRoute> {
    vec![
        ApiRoute::new(routes!(list_experiments), RouteKind::Manage),
        ApiRoute::new(routes!(get_experiment, define_experiment), RouteKind::Manage),
        ApiRoute::new(routes!(list_experiment_versions), RouteKind::Manage),
        ApiRoute::new(routes!(results::get_experiment_results), RouteKind::Manage)
            .with_expensive(ExpensiveRequests::All),
        ApiRoute::new(routes!(results::get_experiment_picture), RouteKind::Manage)
            .with_expensive(ExpensiveRequests::All),
        ApiRoute::new(routes!(plan::plan_experiment), RouteKind::Manage),
    ]
}

/// The path parameter of one experiment, for the OpenAPI document.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "describes a parameter only")]
struct ExperimentKeyPath {
    /// Key of the experiment.
    #[param(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length = 64)]
    key: String,
}

/// A controlled test.
#[derive(Debug, Serialize, ToSchema)]
struct ExperimentBody {
    /// Key, which answers and exposures name.
    #[schema(example = "spring-mail")]
    key: String,
    status: ExperimentStatusBody,
    /// Tested treatment and hypothesis.
    #[schema(example = "A personal coupon brings fading customers back.")]
    description: Option<String>,
    /// Person or team responsible for the experiment.
    #[schema(example = "crm@example.com")]
    owner: Option<String>,
    /// Start of the assignment; null if it has not started.
    started_at: Option<Timestamp>,
    /// End of the assignment; null before it.
    stopped_at: Option<Timestamp>,
    definition: ExperimentDefinitionBody,
    /// Why the results are shown although the sample ratio is mismatched; null: they are withheld then.
    #[schema(example = "Bots were in one variation only; they are removed since 3 May.")]
    mismatch_override: Option<String>,
    change: DefinitionChangeBody,
}

impl ExperimentBody {
    fn new(stored: &ExperimentVersion, state: &ApiState) -> Self {
        let change = StoredChange {
            version: stored.version,
            changed_at: stored.changed_at,
            changed_by: &stored.changed_by,
            reason: &stored.reason,
        };
        Self {
            key: stored.key.clone(),
            status: stored.status.into(),
            description: stored.description.clone(),
            owner: stored.owner.clone(),
            started_at: stored.started_at,
            stopped_at: stored.stopped_at,
            definition: (&stored.spec).into(),
            mismatch_override: stored.mismatch_override.clone(),
            change: DefinitionChangeBody::new(change, &state.api_keys),
        }
    }
}

/// The experiments of the workspace, by key.
#[derive(Debug, Serialize, ToSchema)]
struct ExperimentListBody {
    experiments: Vec<ExperimentBody>,
}

/// List the experiments.
#[utoipa::path(
    get,
    path = "/v1/experiments",
    tag = "Experiments",
    security(("key" = ["read"])),
    responses((status = 200, body = ExperimentListBody, description = "The experiments"))
)]
async fn list_experiments(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
) -> Result<Json<ExperimentListBody>, ApiError> {
    let in_force = experiments::list_in_force(&state.db).await?;
    let experiments = in_force.iter().map(|stored| ExperimentBody::new(stored, &state)).collect();
    Ok(Json(ExperimentListBody { experiments }))
}

/// Get an experiment.
#[utoipa::path(
    get,
    path = "/v1/experiments/{key}",
    tag = "Experiments",
    security(("key" = ["read"])),
    params(ExperimentKeyPath),
    responses(
        (status = 200, body = ExperimentBody, description = "The experiment"),
        (status = 404, description = "There is no such experiment"),
    )
)]
async fn get_experiment(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    PathParameters(key): PathParameters<String>,
) -> Result<Json<ExperimentBody>, ApiError> {
    Ok(Json(find_experiment(&state, &key).await?))
}

async fn find_experiment(state: &ApiState, key: &str) -> Result<ExperimentBody, ApiError> {
    let newest = experiments::list_versions(&state.db, key, None, 1).await?.pop();
    let newest = newest.ok_or_else(|| ApiError::not_found(&format!("experiment `{key}`")))?;
    Ok(ExperimentBody::new(&newest, state))
}

/// The definition of an experiment.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct DefineExperimentRequest {
    status: ExperimentStatusBody,
    /// Tested treatment and hypothesis.
    #[schema(max_length = 2000, example = "A personal coupon brings fading customers back.")]
    description: Option<String>,
    /// Person or team responsible for the experiment.
    #[schema(max_length = 200, example = "crm@example.com")]
    owner: Option<String>,
    definition: ExperimentDefinitionBody,
    /// Why the results are shown although the sample ratio is mismatched.
    #[schema(max_length = 2000, example = "Bots were in one variation only; they are removed.")]
    mismatch_override: Option<String>,
    /// Stored with the change.
    #[schema(min_length = 1, max_length = 2000, example = "Start as agreed on Monday")]
    reason: String,
}

/// Create an experiment, or replace its definition.
///
/// While it runs, each accepted event of `POST /v1/events`, `GET /v1/customers/{customer_id}` and a row of
/// `POST /v1/score` with a `customer_id` are answered with the variation of the customer. The assignment is a hash of the customer
/// id, bit-equal with the SDKs of `GrowthBook`. An application reports an exposure with the `track` event
/// `Experiment Viewed` and the properties `experiment_id` and `variation_id`.
///
/// After the start, variations, seed, hash version, namespace, holdout and target cannot change, and the
/// coverage can only grow. A stopped experiment does not start again. At most 50 experiments run at the
/// same time.
#[utoipa::path(
    put,
    path = "/v1/experiments/{key}",
    tag = "Experiments",
    security(("key" = ["train"])),
    params(ExperimentKeyPath),
    request_body = DefineExperimentRequest,
    responses(
        (status = 200, body = ExperimentBody, description = "The changed experiment"),
        (status = 201, body = ExperimentBody, description = "The new experiment"),
        (status = 409, description = "The change is not possible after the start, or too many run"),
    )
)]
async fn define_experiment(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Train>,
    PathParameters(key): PathParameters<String>,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<ExperimentBody>), ApiError> {
    let request: DefineExperimentRequest = parse_json(&body)?;
    let draft = ExperimentDraft {
        status: request.status.into(),
        description: request.description,
        owner: request.owner,
        spec: request.definition.into_spec()?,
        mismatch_override: request.mismatch_override,
    };
    let is_new =
        state.definitions.experiments.define(&key, draft, &caller.actor(request.reason)).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(find_experiment(&state, &key).await?)))
}

/// A page of the versions of an experiment, newest first.
#[derive(Debug, Serialize, ToSchema)]
struct ExperimentVersionListBody {
    versions: Vec<ExperimentBody>,
    /// The `cursor` of the next page; null on the last page.
    next_cursor: Option<String>,
}

/// List the versions of an experiment, newest first.
///
/// The complete definition after each change, with the author and the reason of the change.
#[utoipa::path(
    get,
    path = "/v1/experiments/{key}/history",
    tag = "Experiments",
    security(("key" = ["read"])),
    params(ExperimentKeyPath, DefinitionVersionQuery),
    responses((status = 200, body = ExperimentVersionListBody, description = "The versions"))
)]
async fn list_experiment_versions(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    PathParameters(key): PathParameters<String>,
    QueryParameters(query): QueryParameters<DefinitionVersionQuery>,
) -> Result<Json<ExperimentVersionListBody>, ApiError> {
    let limit = query.limit.get();
    let before = query.cursor.map(|PageCursor(version)| version);
    let rows = experiments::list_versions(&state.db, &key, before, limit).await?;
    let next_cursor = PageCursor::after(&rows, limit, |row| row.version);
    let versions = rows.iter().map(|row| ExperimentBody::new(row, &state)).collect();
    Ok(Json(ExperimentVersionListBody { versions, next_cursor }))
}

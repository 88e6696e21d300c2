//! `/v1/audiences…`: named rules over customers.

mod members;
mod preview;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use crate::api::definition_change::{DefinitionChangeBody, DefinitionVersionQuery, StoredChange};
use crate::api::request::page::PageCursor;
use crate::api::request::{
    AuthorizedCaller, JsonBody, PathParameters, QueryParameters, Read, Train, parse_json,
};
use crate::api::request_layer::{ExpensiveRequests, RouteKind};
use crate::api::route::ApiRoute;
use crate::api::{ApiError, ApiState};
use crate::service::audiences::{AudienceText, unknown_segment};
use crate::service::rescoring::on_audience_change::count_pending;
use crate::store::audiences;
use crate::store::audiences::AudienceVersion;

pub(super) fn routes() -> Vec<ApiRoute> {
    vec![
        ApiRoute::new(routes!(list_audiences), RouteKind::Manage)
            .with_expensive(ExpensiveRequests::All),
        ApiRoute::new(routes!(get_audience, define_audience, delete_audience), RouteKind::Manage),
        ApiRoute::new(routes!(list_audience_versions), RouteKind::Manage),
        ApiRoute::new(routes!(members::list_audience_customers), RouteKind::Manage)
            .with_expensive(ExpensiveRequests::All),
        ApiRoute::new(routes!(preview::preview_audience), RouteKind::Manage)
            .with_expensive(ExpensiveRequests::All),
    ]
}

/// The path parameter of one audience, for the OpenAPI document.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "describes a parameter only")]
struct AudienceNamePath {
    /// Name of the audience.
    #[param(pattern = "^[a-z][a-z0-9_]*$", max_length = 64)]
    name: String,
}

/// A named rule over customers.
#[derive(Debug, Serialize, ToSchema)]
struct AudienceBody {
    #[serde(flatten)]
    definition: AudienceDefinitionBody,
    /// Customers in the audience now.
    #[schema(example = 412)]
    customers: i64,
    /// Fault of the rule since its definition; null: none. If a feature no longer exists, the
    /// customers of the audience do not change until the rule is changed. A segment that no longer
    /// exists has no customers.
    #[schema(example = "at character 1: there is no feature `spend_365d`")]
    fault: Option<String>,
}

/// The definition of an audience.
#[derive(Debug, Serialize, ToSchema)]
struct AudienceDefinitionBody {
    /// Name, by which rules name the audience.
    #[schema(example = "vip_at_risk")]
    name: String,
    /// The rule.
    #[schema(example = "value.predicted_clv >= 500 and value.churn_probability > 0.5")]
    expression: String,
    /// Description for people.
    #[schema(example = "Customers with a high value that may be leaving")]
    description: Option<String>,
    /// Person or team responsible for the audience.
    #[schema(example = "crm@example.com")]
    owner: Option<String>,
    change: DefinitionChangeBody,
}

/// The audiences of the workspace, by name.
#[derive(Debug, Serialize, ToSchema)]
struct AudienceListBody {
    audiences: Vec<AudienceBody>,
    /// Estimated number of customers still to evaluate after the last change of a rule or of the
    /// deployment. They follow in the background. 0 only once all are evaluated.
    #[schema(example = 0)]
    pending_customers: i64,
}

impl AudienceDefinitionBody {
    fn new(stored: &AudienceVersion, state: &ApiState) -> Self {
        let change = StoredChange {
            version: stored.version,
            changed_at: stored.changed_at,
            changed_by: &stored.changed_by,
            reason: &stored.reason,
        };
        Self {
            name: stored.name.clone(),
            expression: stored.expression.clone(),
            description: stored.description.clone(),
            owner: stored.owner.clone(),
            change: DefinitionChangeBody::new(change, &state.api_keys),
        }
    }
}

/// List the audiences with their sizes.
#[utoipa::path(
    get,
    path = "/v1/audiences",
    tag = "Audiences",
    security(("key" = ["read"])),
    responses((status = 200, body = AudienceListBody, description = "The audiences"))
)]
async fn list_audiences(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
) -> Result<Json<AudienceListBody>, ApiError> {
    let in_force = audiences::list_in_force(&state.db).await?;
    let sizes = audiences::count_members(&state.db).await?;
    let pending_customers = count_pending(&state.db, &state.deployments.snapshot()).await?;
    let audiences = in_force.iter().map(|stored| {
        let customers = sizes.get(&stored.audience_id).copied().unwrap_or(0);
        audience_body(stored, customers, &state)
    });
    Ok(Json(AudienceListBody { audiences: audiences.collect(), pending_customers }))
}

fn audience_body(stored: &AudienceVersion, customers: i64, state: &ApiState) -> AudienceBody {
    let deployment = state.deployments.snapshot();
    let fault = deployment.audiences.fault_of(&stored.name).map(ToString::to_string);
    AudienceBody {
        definition: AudienceDefinitionBody::new(stored, state),
        customers,
        fault: fault.or_else(|| Some(unknown_segment(&stored.expression, &deployment)?.problem)),
    }
}

/// Get an audience with its size.
#[utoipa::path(
    get,
    path = "/v1/audiences/{name}",
    tag = "Audiences",
    security(("key" = ["read"])),
    params(AudienceNamePath),
    responses(
        (status = 200, body = AudienceBody, description = "The audience"),
        (status = 404, description = "There is no such audience"),
    )
)]
async fn get_audience(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    PathParameters(name): PathParameters<String>,
) -> Result<Json<AudienceBody>, ApiError> {
    Ok(Json(find_audience(&state, &name).await?))
}

async fn find_audience(state: &ApiState, name: &str) -> Result<AudienceBody, ApiError> {
    let stored = find_version(state, name).await?;
    let customers = audiences::count_members_of(&state.db, stored.audience_id).await?;
    Ok(audience_body(&stored, customers, state))
}

/// The version in force of an audience; 404 for an unknown name.
async fn find_version(state: &ApiState, name: &str) -> Result<AudienceVersion, ApiError> {
    let newest = audiences::list_versions(&state.db, name, None, 1).await?.pop();
    let newest = newest.filter(|version| !version.is_deleted);
    newest.ok_or_else(|| ApiError::not_found(&format!("audience `{name}`")))
}

/// The definition of an audience.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct DefineAudienceRequest {
    /// The rule, in the language of the guide to audiences.
    #[schema(
        min_length = 1,
        max_length = 4000,
        example = "value.predicted_clv >= 500 and value.churn_probability > 0.5"
    )]
    expression: String,
    /// Description for people.
    #[schema(max_length = 2000, example = "Customers with a high value that may be leaving")]
    description: Option<String>,
    /// Person or team responsible for the audience.
    #[schema(max_length = 200, example = "crm@example.com")]
    owner: Option<String>,
    /// Stored with the change.
    #[schema(min_length = 1, max_length = 2000, example = "Win-back campaign in March")]
    reason: String,
}

/// Create an audience, or replace its definition.
///
/// The rule is checked against the features, the segments and the other audiences; a fault names the
/// character at which it begins. From now on every event is answered with the audiences of its
/// customer, which also change when time alone makes a rule true or false. Stored customers are
/// evaluated in the background, 1,000,000 in some minutes: `pending_customers` of `GET /v1/audiences`
/// estimates how many are left, and is 0 once all are evaluated.
/// At most 500 audiences.
#[utoipa::path(
    put,
    path = "/v1/audiences/{name}",
    tag = "Audiences",
    security(("key" = ["train"])),
    params(AudienceNamePath),
    request_body = DefineAudienceRequest,
    responses(
        (status = 200, body = AudienceBody, description = "The changed audience"),
        (status = 201, body = AudienceBody, description = "The new audience"),
        (status = 409, description = "There are 500 audiences already"),
    )
)]
async fn define_audience(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Train>,
    PathParameters(name): PathParameters<String>,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<AudienceBody>), ApiError> {
    let request: DefineAudienceRequest = parse_json(&body)?;
    let DefineAudienceRequest { expression, description, owner, reason } = request;
    let text = AudienceText { expression, description, owner };
    let is_new = state.definitions.audiences.define(&name, text, &caller.actor(reason)).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(find_audience(&state, &name).await?)))
}

/// Delete an audience.
///
/// All its customers leave it, in the background. Its versions are kept.
#[utoipa::path(
    delete,
    path = "/v1/audiences/{name}",
    tag = "Audiences",
    security(("key" = ["train"])),
    params(AudienceNamePath),
    responses(
        (status = 204, description = "The audience is deleted"),
        (status = 404, description = "There is no such audience"),
        (status = 409, description = "The rule of another audience names this one"),
    )
)]
async fn delete_audience(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Train>,
    PathParameters(name): PathParameters<String>,
) -> Result<StatusCode, ApiError> {
    state.definitions.audiences.delete(&name, &caller.actor("requested")).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// One version of an audience.
#[derive(Debug, Serialize, ToSchema)]
struct AudienceVersionBody {
    #[serde(flatten)]
    definition: AudienceDefinitionBody,
    /// Whether this change deleted the audience.
    deleted: bool,
}

/// A page of the versions of an audience, newest first.
#[derive(Debug, Serialize, ToSchema)]
struct AudienceVersionListBody {
    versions: Vec<AudienceVersionBody>,
    /// The `cursor` of the next page; null on the last page.
    next_cursor: Option<String>,
}

/// List the versions of an audience, newest first.
///
/// The complete definition after each change, with the author and the reason of the change. The list is
/// empty for an unknown name, and has the versions of deleted audiences with this name.
#[utoipa::path(
    get,
    path = "/v1/audiences/{name}/history",
    tag = "Audiences",
    security(("key" = ["read"])),
    params(AudienceNamePath, DefinitionVersionQuery),
    responses((status = 200, body = AudienceVersionListBody, description = "The versions"))
)]
async fn list_audience_versions(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    PathParameters(name): PathParameters<String>,
    QueryParameters(query): QueryParameters<DefinitionVersionQuery>,
) -> Result<Json<AudienceVersionListBody>, ApiError> {
    let limit = query.limit.get();
    let before = query.cursor.map(|PageCursor(version)| version);
    let rows = audiences::list_versions(&state.db, &name, before, limit).await?;
    let next_cursor = PageCursor::after(&rows, limit, |row| row.version);
    let mut versions = Vec::with_capacity(rows.len());
    for row in &rows {
        let definition = AudienceDefinitionBody::new(row, &state);
        versions.push(AudienceVersionBody { definition, deleted: row.is_deleted });
    }
    Ok(Json(AudienceVersionListBody { versions, next_cursor }))
}

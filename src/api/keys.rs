//! `/v1/keys…`: API keys. A secret is returned once, by the request that creates it.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use crate::api::request::page::{InstantAndId, PageCursor, PageLimit};
use crate::api::request::{
    Admin, AuthorizedCaller, JsonBody, PathParameters, QueryParameters, parse_json,
    parse_optional_json,
};
use crate::api::request_layer::RouteKind;
use crate::api::route::ApiRoute;
use crate::api::{ApiError, ApiState};
use crate::domain::access::AccessScope;
use crate::domain::access::api_key::{ApiKeyRequest, DEFAULT_OVERLAP_SECONDS, KeyRateLimits};
use crate::domain::time::Timestamp;
use crate::service::api_keys::KeyWithSecret;
use crate::service::error::ErrorChain;
use crate::store::api_keys;
use crate::store::api_keys::{ApiKeyRow, KeyPage};

/// The path parameter of one API key, for the OpenAPI document.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "describes a parameter only")]
pub(in crate::api) struct KeyIdPath {
    /// Id of the key.
    key_id: String,
}

pub(super) fn routes() -> Vec<ApiRoute> {
    vec![
        ApiRoute::new(routes!(list_keys, create_key), RouteKind::Manage),
        ApiRoute::new(routes!(get_key, revoke_key), RouteKind::Manage),
        ApiRoute::new(routes!(rotate_key), RouteKind::Manage),
    ]
}

/// A page of API keys, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ApiKeyListBody {
    keys: Vec<ApiKeyBody>,
    /// The `cursor` of the next page; null on the last page.
    next_cursor: Option<String>,
}

/// An API key, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ApiKeyBody {
    /// Id of the key.
    #[schema(example = "0050e0c5c045")]
    key_id: String,
    /// Shown in lists, logs and decisions.
    #[schema(example = "web shop")]
    name: String,
    status: ApiKeyStatus,
    /// What the key may do.
    #[schema(value_type = Vec<AccessScope>)]
    scopes: Vec<String>,
    /// Whether the key may stand in a page or an app: it has the scope `track` alone.
    is_public: bool,
    /// Web origins that may use the key; empty: all.
    #[schema(example = json!(["https://shop.example"]))]
    allowed_origins: Vec<String>,
    limits: KeyRateLimitsBody,
    /// Creation.
    created_at: Timestamp,
    /// The key is not valid from then on; null: never.
    expires_at: Option<Timestamp>,
    /// The last request with the key, within about a minute; null: none.
    last_used_at: Option<Timestamp>,
    /// The last rotation of the secret; null: none.
    rotated_at: Option<Timestamp>,
    /// The secret before the last rotation is accepted until then.
    previous_secret_ends_at: Option<Timestamp>,
    /// Revocation; null: not revoked.
    revoked_at: Option<Timestamp>,
}

/// Whether a key is accepted.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ApiKeyStatus {
    Valid,
    Expired,
    Revoked,
}

/// Rate limits of a key in each process.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct KeyRateLimitsBody {
    /// Null or absent: as configured by `limits.requests_per_second_per_key`; 0: no limit.
    #[schema(maximum = 1_000_000_000, example = 200)]
    requests_per_second: Option<u32>,
    /// Null or absent: as configured by `limits.events_per_second_per_key`; 0: no limit.
    #[schema(maximum = 1_000_000_000, example = 5000)]
    events_per_second: Option<u32>,
    /// Exports, requested training runs, migration previews, and features as of an earlier
    /// instant. Null or absent: as configured by
    /// `limits.expensive_requests_per_minute_per_key`; 0: no limit.
    #[schema(maximum = 1_000_000_000, example = 10)]
    expensive_requests_per_minute: Option<u32>,
}

impl From<KeyRateLimitsBody> for KeyRateLimits {
    fn from(body: KeyRateLimitsBody) -> Self {
        Self {
            requests_per_second: body.requests_per_second,
            events_per_second: body.events_per_second,
            expensive_requests_per_minute: body.expensive_requests_per_minute,
        }
    }
}

impl ApiKeyBody {
    fn new(row: ApiKeyRow, now: Timestamp) -> Self {
        let status = if row.revoked_at.is_some() {
            ApiKeyStatus::Revoked
        } else if row.expires_at.is_some_and(|at| at <= now) {
            ApiKeyStatus::Expired
        } else {
            ApiKeyStatus::Valid
        };
        let scopes: Vec<AccessScope> =
            row.scopes.iter().filter_map(|text| AccessScope::parse(text)).collect();
        let previous = row.previous_secret.map(|previous| previous.ends_at);
        Self {
            key_id: row.key_id,
            name: row.name,
            status,
            is_public: AccessScope::is_public_key(&scopes),
            scopes: row.scopes,
            allowed_origins: row.allowed_origins,
            limits: KeyRateLimitsBody {
                requests_per_second: row.limits.requests_per_second,
                events_per_second: row.limits.events_per_second,
                expensive_requests_per_minute: row.limits.expensive_requests_per_minute,
            },
            created_at: row.created_at,
            expires_at: row.expires_at,
            last_used_at: row.last_used_at,
            rotated_at: row.rotated_at,
            previous_secret_ends_at: previous.filter(|ends_at| *ends_at > now),
            revoked_at: row.revoked_at,
        }
    }
}

/// An API key with its secret, which is returned only once.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ApiKeyWithSecretBody {
    #[serde(flatten)]
    properties: ApiKeyBody,
    /// The secret, to be sent in `Authorization: Bearer <key>`.
    #[schema(example = "sk_0050e0c5c045_5fbc0c7e")]
    key: String,
}

impl ApiKeyWithSecretBody {
    fn new(created: KeyWithSecret, now: Timestamp) -> Self {
        let key = created.key.expose().clone();
        Self { properties: ApiKeyBody::new(created.row, now), key }
    }
}

/// An API key to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateKeyRequest {
    /// Shown in lists, logs and decisions.
    #[schema(min_length = 1, max_length = 200, example = "web shop")]
    name: String,
    #[schema(value_type = Vec<AccessScope>, min_items = 1)]
    scopes: Vec<String>,
    /// The key is not valid from then on; default never.
    expires_at: Option<Timestamp>,
    /// For keys with the scope `track` alone: web origins. A request with another `Origin`, or
    /// without one, is answered with 403. Default: all.
    #[serde(default)]
    #[schema(max_items = 100, example = json!(["https://shop.example"]))]
    allowed_origins: Vec<String>,
    #[serde(default)]
    limits: KeyRateLimitsBody,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct KeyListQuery {
    /// Include revoked keys.
    #[serde(default)]
    revoked: bool,
    /// Keys per page.
    #[serde(default)]
    #[param(inline)]
    limit: PageLimit<100, 1000>,
    /// `next_cursor` of the previous page.
    #[param(value_type = Option<String>)]
    cursor: Option<PageCursor<InstantAndId>>,
}

/// List API keys, newest first.
#[utoipa::path(
    get,
    path = "/v1/keys",
    tag = "Keys",
    security(("key" = ["admin"])),
    params(KeyListQuery),
    responses((status = 200, body = ApiKeyListBody, description = "Keys, without their secrets"))
)]
pub(crate) async fn list_keys(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Admin>,
    QueryParameters(query): QueryParameters<KeyListQuery>,
) -> Result<Json<ApiKeyListBody>, ApiError> {
    let now = state.clock.now();
    let limit = query.limit.get();
    let page = KeyPage {
        is_with_revoked: query.revoked,
        after: query.cursor.map(|PageCursor(key)| key),
        limit,
    };
    let rows = api_keys::list_page(&state.db, &page).await?;
    let next_cursor = PageCursor::after(&rows, limit, |row| (row.created_at, row.key_id.clone()));
    let keys = rows.into_iter().map(|row| ApiKeyBody::new(row, now)).collect();
    Ok(Json(ApiKeyListBody { keys, next_cursor }))
}

/// Get an API key.
#[utoipa::path(
    get,
    path = "/v1/keys/{key_id}",
    tag = "Keys",
    security(("key" = ["admin"])),
    params(KeyIdPath),
    responses(
        (status = 200, body = ApiKeyBody, description = "The key, without its secret"),
        (status = 404, description = "There is no such key"),
    )
)]
pub(crate) async fn get_key(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Admin>,
    PathParameters(key_id): PathParameters<String>,
) -> Result<Json<ApiKeyBody>, ApiError> {
    let row = api_keys::find(&state.db, &key_id).await?;
    let row = row.ok_or_else(|| ApiError::not_found(&format!("key `{key_id}`")))?;
    Ok(Json(ApiKeyBody::new(row, state.clock.now())))
}

/// Create an API key.
///
/// The response has the secret of the key, which is not stored and cannot be read later.
#[utoipa::path(
    post,
    path = "/v1/keys",
    tag = "Keys",
    security(("key" = ["admin"])),
    request_body = CreateKeyRequest,
    responses(
        (status = 201, body = ApiKeyWithSecretBody, description = "The key and its secret"),
        (status = 409, description = "There are 1000 keys that are not revoked"),
    )
)]
pub(crate) async fn create_key(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Admin>,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<ApiKeyWithSecretBody>), ApiError> {
    let body: CreateKeyRequest = parse_json(&body)?;
    let request = ApiKeyRequest {
        name: body.name,
        scopes: body.scopes,
        expires_at: body.expires_at,
        allowed_origins: body.allowed_origins,
        limits: body.limits.into(),
    };
    let created = state.key_registry.create_key(request, &caller.actor_name()).await?;
    apply_here(&state).await;
    let body = ApiKeyWithSecretBody::new(created, state.clock.now());
    Ok((StatusCode::CREATED, Json(body)))
}

/// Revoke an API key.
///
/// Every replica refuses the key at once, or within `auth.refresh_seconds` if a notification is
/// lost.
#[utoipa::path(
    delete,
    path = "/v1/keys/{key_id}",
    tag = "Keys",
    security(("key" = ["admin"])),
    params(KeyIdPath),
    responses(
        (status = 204, description = "The key is revoked"),
        (status = 404, description = "There is no such key"),
        (status = 409, description = "It is the last valid key with the scope `admin`"),
    )
)]
pub(crate) async fn revoke_key(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Admin>,
    PathParameters(key_id): PathParameters<String>,
) -> Result<StatusCode, ApiError> {
    state.key_registry.revoke_key_by_request(&key_id, &caller.actor_name()).await?;
    apply_here(&state).await;
    Ok(StatusCode::NO_CONTENT)
}

/// How to rotate the secret of a key.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RotateKeyRequest {
    /// Time for which the previous secret is still accepted; 0 refuses it at once.
    #[schema(maximum = 2_592_000, example = 86_400)]
    overlap_seconds: Option<u32>,
}

/// Give an API key a new secret.
///
/// The previous secret is accepted until `previous_secret_ends_at`; an earlier one is not
/// accepted any more.
#[utoipa::path(
    post,
    path = "/v1/keys/{key_id}/rotate",
    tag = "Keys",
    security(("key" = ["admin"])),
    params(KeyIdPath),
    request_body = Option<RotateKeyRequest>,
    responses(
        (status = 200, body = ApiKeyWithSecretBody, description = "The key and its new secret"),
        (status = 404, description = "There is no such key"),
        (status = 409, description = "The key is revoked or expired"),
    )
)]
pub(crate) async fn rotate_key(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Admin>,
    PathParameters(key_id): PathParameters<String>,
    JsonBody(body): JsonBody,
) -> Result<Json<ApiKeyWithSecretBody>, ApiError> {
    let request: RotateKeyRequest = parse_optional_json(&body)?;
    let overlap_seconds = request.overlap_seconds.unwrap_or(DEFAULT_OVERLAP_SECONDS);
    let author = caller.actor_name();
    let rotated = state.key_registry.rotate_key(&key_id, overlap_seconds, &author).await?;
    apply_here(&state).await;
    Ok(Json(ApiKeyWithSecretBody::new(rotated, state.clock.now())))
}

/// Applies a change in this replica before its response. A failure only delays it: the
/// notification of the change follows.
async fn apply_here(state: &ApiState) {
    if let Err(error) = state.api_keys.refresh().await {
        tracing::warn!(error = %ErrorChain(&error), "the API keys could not be read again");
    }
}

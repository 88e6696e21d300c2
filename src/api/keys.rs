//! `/v1/keys…`: API keys. A secret is returned once, by the request that creates it.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};

use crate::api::request::{
    Admin, AuthorizedCaller, JsonBody, PathParameters, QueryParameters, parse_json,
    parse_optional_json,
};
use crate::api::request_layer::RouteKind;
use crate::api::{ApiError, ApiRoute, ApiState};
use crate::domain::access::AccessScope;
use crate::domain::access::api_key::{ApiKeyRequest, DEFAULT_OVERLAP_SECONDS, KeyRateLimits};
use crate::domain::time::Timestamp;
use crate::service::api_keys::KeyWithSecret;
use crate::service::error::ErrorChain;
use crate::store::api_keys;
use crate::store::api_keys::ApiKeyRow;

pub(super) fn routes() -> Vec<ApiRoute> {
    let (keys, key) = (get(get_keys).post(post_key), get(get_key).delete(delete_key));
    vec![
        ApiRoute::new("/v1/keys", &["GET", "POST"], keys, RouteKind::Manage),
        ApiRoute::new("/v1/keys/{key_id}", &["GET", "DELETE"], key, RouteKind::Manage),
        ApiRoute::new("/v1/keys/{key_id}/rotate", &["POST"], post(post_rotate), RouteKind::Manage),
    ]
}

#[derive(Debug, Serialize)]
pub(crate) struct ApiKeysBody {
    keys: Vec<ApiKeyBody>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ApiKeyBody {
    key_id: String,
    name: String,
    status: ApiKeyStatus,
    scopes: Vec<String>,
    is_public: bool,
    allowed_origins: Vec<String>,
    limits: KeyRateLimitsBody,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
    last_used_at: Option<Timestamp>,
    rotated_at: Option<Timestamp>,
    previous_secret_ends_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum ApiKeyStatus {
    Valid,
    Expired,
    Revoked,
}

/// Rate limits of a key; null: as configured, 0: no limit.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyRateLimitsBody {
    requests_per_second: Option<u32>,
    events_per_second: Option<u32>,
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

/// A key with its secret, which is returned only once.
#[derive(Debug, Serialize)]
pub(crate) struct ApiKeyWithSecretBody {
    #[serde(flatten)]
    properties: ApiKeyBody,
    key: String,
}

impl ApiKeyWithSecretBody {
    fn new(created: KeyWithSecret, now: Timestamp) -> Self {
        let key = created.key.expose().clone();
        Self { properties: ApiKeyBody::new(created.row, now), key }
    }
}

/// Request to create a key.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ApiKeyRequestBody {
    name: String,
    scopes: Vec<String>,
    expires_at: Option<Timestamp>,
    #[serde(default)]
    allowed_origins: Vec<String>,
    #[serde(default)]
    limits: KeyRateLimitsBody,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApiKeyQuery {
    #[serde(default)]
    revoked: bool,
}

pub(crate) async fn get_keys(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Admin>,
    QueryParameters(query): QueryParameters<ApiKeyQuery>,
) -> Result<Json<ApiKeysBody>, ApiError> {
    let now = state.clock.now();
    let rows = api_keys::list(&state.db).await?.into_iter();
    let listed = rows.filter(|row| query.revoked || row.revoked_at.is_none());
    Ok(Json(ApiKeysBody { keys: listed.map(|row| ApiKeyBody::new(row, now)).collect() }))
}

pub(crate) async fn get_key(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Admin>,
    PathParameters(key_id): PathParameters<String>,
) -> Result<Json<ApiKeyBody>, ApiError> {
    let row = api_keys::find(&state.db, &key_id).await?;
    let row = row.ok_or_else(|| ApiError::not_found(&format!("key `{key_id}`")))?;
    Ok(Json(ApiKeyBody::new(row, state.clock.now())))
}

pub(crate) async fn post_key(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Admin>,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<ApiKeyWithSecretBody>), ApiError> {
    let body: ApiKeyRequestBody = parse_json(&body)?;
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

pub(crate) async fn delete_key(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Admin>,
    PathParameters(key_id): PathParameters<String>,
) -> Result<StatusCode, ApiError> {
    state.key_registry.revoke_key_by_request(&key_id, &caller.actor_name()).await?;
    apply_here(&state).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Request to rotate the secret of a key.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RotateKeyRequest {
    overlap_seconds: Option<u32>,
}

pub(crate) async fn post_rotate(
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

//! `/v1/silences…`: silences, which suppress notifications for a limited time.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::api::request::{AuthorizedCaller, JsonBody, PathParameters, Read, Train, parse_json};
use crate::api::{ApiError, ApiState};
use crate::domain::alert::{AlertSilence, AlertTopic};
use crate::domain::time::Timestamp;
use crate::service::api_keys::KeyAuthenticator;
use crate::store::alerting::silences;
use crate::store::alerting::silences::SilenceRow;

#[derive(Debug, Serialize)]
pub(crate) struct SilencesBody {
    silences: Vec<SilenceBody>,
}

#[derive(Debug, Serialize)]
pub(crate) struct SilenceBody {
    silence: String,
    topic: Option<AlertTopic>,
    owner: Option<String>,
    key_prefix: Option<String>,
    until: Timestamp,
    created_at: Timestamp,
    created_by: String,
    /// Name of the key.
    created_by_name: Option<String>,
    reason: String,
}

impl SilenceBody {
    fn new(row: SilenceRow, keys: &KeyAuthenticator) -> Self {
        Self {
            created_by_name: keys.name_of_author(&row.created_by),
            silence: row.silence_id,
            topic: row.silence.topic,
            owner: row.silence.owner,
            key_prefix: row.silence.key_prefix,
            until: row.silence.until,
            created_at: row.created_at,
            created_by: row.created_by,
            reason: row.reason,
        }
    }
}

pub(crate) async fn get_silences(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
) -> Result<Json<SilencesBody>, ApiError> {
    let rows = silences::list_active(&state.db, state.clock.now()).await?;
    let silences = rows.into_iter().map(|row| SilenceBody::new(row, &state.api_keys)).collect();
    Ok(Json(SilencesBody { silences }))
}

/// Request to create a silence. An absent matcher matches every alert.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SilenceRequest {
    topic: Option<AlertTopic>,
    owner: Option<String>,
    key_prefix: Option<String>,
    until: Timestamp,
    reason: String,
}

pub(crate) async fn post_silence(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Train>,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<SilenceBody>), ApiError> {
    let SilenceRequest { topic, owner, key_prefix, until, reason } = parse_json(&body)?;
    let silence = AlertSilence { topic, owner, key_prefix, until };
    let row = state.alerts.create_silence(silence, &caller.actor(reason)).await?;
    Ok((StatusCode::CREATED, Json(SilenceBody::new(row, &state.api_keys))))
}

pub(crate) async fn delete_silence(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Train>,
    PathParameters(id): PathParameters<String>,
) -> Result<StatusCode, ApiError> {
    state.alerts.end_silence(&id, &caller.actor("requested")).await?;
    Ok(StatusCode::NO_CONTENT)
}

//! Model repository extension: `load` promotes a version, `unload` rolls back to the
//! previous one.
//!
//! A model or the fallback always serves, so `unload` never leaves the server without one.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::api::inference::{Addressed, version_of};
use crate::api::request::{Body, Caller, Read, Train, json};
use crate::api::{ApiError, ApiState};
use crate::domain::fault::Faults;
use crate::domain::id::{BadId, ModelId};
use crate::domain::wire::inference::MODEL_NAME;
use crate::service::ServiceError;
use crate::service::models::registry::Change;
use crate::service::scoring::deployment::Lineup;
use crate::store::models::{self, VersionRow};

/// One stored version, and whether it serves on this replica now.
#[derive(Debug, Serialize)]
pub(super) struct Indexed {
    name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    state: &'static str,
    reason: String,
}

const READY: &str = "READY";
const UNAVAILABLE: &str = "UNAVAILABLE";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Wanted {
    /// Only versions that serve.
    ready: bool,
}

pub(super) async fn post_index(
    State(state): State<ApiState>,
    _: Caller<Read>,
    Body(body): Body,
) -> Result<Json<Vec<Indexed>>, ApiError> {
    let wanted: Wanted = or_default(&body)?;
    let stored = models::versions(&state.db).await?;
    let lineup = state.live.lineup();
    let fallback = lineup.active.is_none().then(|| Indexed {
        name: MODEL_NAME,
        version: None,
        state: READY,
        reason: "no model is deployed: the rule-based fallback serves".into(),
    });
    let versions = stored.into_iter().map(|row| indexed(row, &lineup));
    let index = fallback.into_iter().chain(versions);
    Ok(Json(index.filter(|entry| !wanted.ready || entry.state == READY).collect()))
}

fn indexed(row: VersionRow, lineup: &Lineup) -> Indexed {
    let (state, reason) = if version_of(lineup) == Some(row.model_id.as_str()) {
        (READY, String::new())
    } else if row.feature_set != lineup.features.id().as_str() {
        (UNAVAILABLE, OTHER_FEATURES.into())
    } else {
        (UNAVAILABLE, format!("{}; loading promotes it", row.stage))
    };
    Indexed { name: MODEL_NAME, version: Some(row.model_id.into()), state, reason }
}

const OTHER_FEATURES: &str = "it was trained on a feature set other than that of this server";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Load {
    parameters: LoadParameters,
}

/// The parameters that segmentd reads; others are ignored.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LoadParameters {
    version: Option<String>,
}

/// Promotes the version in the path or in `parameters`. Without a version the deployment
/// stays as it is.
pub(super) async fn post_load(
    State(state): State<ApiState>,
    caller: Caller<Train>,
    addressed: Addressed,
    Body(body): Body,
) -> Result<StatusCode, ApiError> {
    let load: Load = or_default(&body)?;
    match addressed.version.or(load.parameters.version) {
        Some(version) => promote(&state, &caller, &version).await?,
        None if state.live.lineup().active.is_some() => {}
        None => {
            let why = "no version is deployed; name one in `parameters.version`: \
                       POST /v2/repository/index lists them";
            return Err(ServiceError::Conflict(why.into()).into());
        }
    }
    Ok(StatusCode::OK)
}

async fn promote(state: &ApiState, caller: &Caller<Train>, version: &str) -> Result<(), ApiError> {
    let model: ModelId = version.parse().map_err(|why: BadId| {
        ServiceError::Invalid(Faults::one("parameters.version", why.to_string()))
    })?;
    let row = models::find(&state.db, &model).await?;
    let row = row.ok_or_else(|| ApiError::not_found(&format!("version `{version}`")))?;
    // A model of another feature set cannot score here. A promotion would deploy it, and
    // the fallback would serve in its place.
    if row.feature_set != state.live.snapshot().features.id().as_str() {
        return Err(ServiceError::Conflict(OTHER_FEATURES.into()).into());
    }
    state.registry.promote(&model, change(caller, "loaded")).await?;
    Ok(())
}

pub(super) async fn post_unload(
    State(state): State<ApiState>,
    caller: Caller<Train>,
    _: Addressed,
    Body(_): Body,
) -> Result<StatusCode, ApiError> {
    state.registry.roll_back(change(&caller, "unloaded")).await?;
    Ok(StatusCode::OK)
}

fn change(caller: &Caller<Train>, what: &str) -> Change {
    Change {
        by: format!("key {}", caller.principal.key_id),
        reason: format!("{what} through the inference protocol"),
    }
}

/// Parses an optional JSON body.
fn or_default<T: Default + for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, ApiError> {
    if body.is_empty() { Ok(T::default()) } else { json(body) }
}

//! The model repository extension: loading a version promotes it, and
//! unloading the live one puts the previous back.
//!
//! Something always answers, so nothing can be unloaded for good.

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

/// One version that is stored, and whether it answers here and now.
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
    /// Only what answers.
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
        reason: "the fallback answers: no model is live".into(),
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
        (UNAVAILABLE, format!("{}; loading it makes it live", row.stage))
    };
    Indexed { name: MODEL_NAME, version: Some(row.model_id.into()), state, reason }
}

const OTHER_FEATURES: &str = "it was trained on other features than those of this server";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Load {
    parameters: LoadParameters,
}

/// Others than these are none of ours.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LoadParameters {
    version: Option<String>,
}

/// The version stands in the address, or in `parameters`. Without one, what is
/// live stays so.
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
            let why = "no version is live; name one in `parameters.version`: \
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
    // It would be promoted and the fallback would answer: loaded, but not ready.
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
        reason: format!("{what} over the inference protocol"),
    }
}

/// A body may be left out.
fn or_default<T: Default + for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, ApiError> {
    if body.is_empty() { Ok(T::default()) } else { json(body) }
}

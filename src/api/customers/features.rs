//! `GET /v1/customers/{id}/features`: features now, or at an earlier instant (bitemporal).
//!
//! `as_of` is the event time: events that had *happened* by then, whenever they arrived, as
//! training needs them. `known_by` is the ingestion time: events that had *arrived* by then,
//! as an audit of past scores needs them. Together they give the knowledge at one instant
//! about an earlier one. Links between ids are always the current ones.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as JsonValue};

use crate::api::customers::{key, named};
use crate::api::request::{Asked, Caller, Path, Read};
use crate::api::{ApiError, ApiState};
use crate::domain::fault::{Fault, Faults};
use crate::domain::feature::CustomerState;
use crate::domain::time::Timestamp;
use crate::service::{ServiceError, rebuild};
use crate::store::customers;
use crate::store::customers::identity;
use crate::store::customers::rebuild::{Known, Snapshot};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct When {
    as_of: Option<String>,
    known_by: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct FeaturesBody {
    /// The surviving id after merges.
    customer_id: String,
    /// The instant of the features.
    as_of: Timestamp,
    known_by: Option<Timestamp>,
    feature_set: String,
    /// Null for features of the stored state.
    replayed_events: Option<u64>,
    /// Values by feature name; null where missing.
    features: Map<String, JsonValue>,
}

pub(crate) async fn get_features(
    State(state): State<ApiState>,
    caller: Caller<Read>,
    Path(id): Path<String>,
    Asked(asked): Asked<When>,
) -> Result<Json<FeaturesBody>, ApiError> {
    let customer = key(&id)?;
    let customer = identity::find(&state.db, &customer).await?.unwrap_or(customer);
    let known = asked.known(state.intake.horizon())?;
    let stored = customers::state(&state.db, &customer).await?;
    let is_known = stored.is_some();
    let features = &state.live.snapshot().features;
    let at = known.happened_by.or(known.received_by).unwrap_or_else(|| state.intake.now());
    let is_past = known.happened_by.is_some() || known.received_by.is_some();
    // A state of another feature set awaits its rebuild: replay it here too.
    let stored = stored.and_then(|bytes| CustomerState::from_bytes(features, &bytes).ok());
    let (folded, replayed_events) = if let Some(stored) = stored.filter(|_| !is_past) {
        (stored, None)
    } else {
        let _turn = state.slow_reads.turn(&caller.principal).await?;
        let mut snapshot = Snapshot::open(&state.db).await?;
        let replay = rebuild::replay(&mut snapshot, features, &customer, known, u64::MAX);
        let rebuilt = replay.await?;
        if rebuilt.events == 0 && !is_known {
            return Err(ApiError::not_found(&format!("customer `{id}`")));
        }
        (rebuilt.state, Some(rebuilt.events))
    };
    Ok(Json(FeaturesBody {
        customer_id: customer.into(),
        as_of: at,
        known_by: known.received_by,
        feature_set: features.id().to_string(),
        replayed_events,
        features: named(features, folded.row(features, at)),
    }))
}

impl When {
    fn known(&self, horizon: Timestamp) -> Result<Known, ServiceError> {
        let mut faults = Vec::new();
        let mut read = |name: &str, text: &Option<String>| {
            let read = text.as_deref().map(|text| instant(name, text, horizon)).transpose();
            read.map_err(|fault| faults.push(fault)).ok().flatten()
        };
        let known = Known {
            happened_by: read("as_of", &self.as_of),
            received_by: read("known_by", &self.known_by),
        };
        if faults.is_empty() { Ok(known) } else { Err(ServiceError::Invalid(Faults(faults))) }
    }
}

fn instant(name: &str, text: &str, horizon: Timestamp) -> Result<Timestamp, Fault> {
    let Some(at) = Timestamp::parse(text) else {
        let hint = if text.contains(' ') { "; in a URL, write `+` as `%2B`" } else { "" };
        let problem =
            format!("`{text}` is not an RFC 3339 instant such as 2017-01-01T11:53:26Z{hint}");
        return Err(Fault::new(name, problem));
    };
    if at > horizon {
        let problem = format!("lies in the future: event times are accepted up to {horizon}");
        return Err(Fault::new(name, problem));
    }
    Ok(at)
}

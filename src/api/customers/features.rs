//! `GET /v1/customers/{customer_id}/features`: features now, or at an earlier instant (bitemporal).
//!
//! `as_of` is the event time: events that had *happened* by then, whenever they arrived, as
//! training needs them. `known_by` is the ingestion time: events that had *arrived* by then,
//! as an audit of past scores needs them. Together they give the knowledge at one instant
//! about an earlier one. Links between ids are always the current ones.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::customers::CustomerIdPath;
use crate::api::customers::parse_customer_id;
use crate::api::request::{AuthorizedCaller, PathParameters, QueryParameters, Read};
use crate::api::score::FeatureValueBody;
use crate::api::{ApiError, ApiState};
use crate::domain::fault::{ValidationFault, ValidationFaults};
use crate::domain::feature::{CustomerState, FeatureRow, FeatureSet};
use crate::domain::time::Timestamp;
use crate::service::{ServiceError, rebuild};
use crate::store::customers;
use crate::store::customers::identity;
use crate::store::customers::rebuild::{EventCutoff, StateSnapshot};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct FeatureTimeQuery {
    /// Event time: uses the events that happened until then, whenever they were received, as
    /// training does. Default `known_by`, or now.
    #[param(value_type = Option<Timestamp>)]
    as_of: Option<String>,
    /// Ingestion time: uses only the events that were received until then. Alone, it gives the
    /// features that the model read then; with `as_of`, the knowledge at `known_by` about the
    /// instant `as_of`.
    #[param(value_type = Option<Timestamp>)]
    known_by: Option<String>,
}

/// The features of a customer at one instant.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CustomerFeaturesBody {
    /// The surviving id after merges.
    #[schema(example = "1510")]
    customer_id: String,
    /// The instant of the features.
    as_of: Timestamp,
    /// Only events that were received until then are used; null: all.
    known_by: Option<Timestamp>,
    /// Hash of the feature set.
    #[schema(example = "b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c")]
    feature_set: String,
    /// Number of the events from which the features were computed; null if they come from the
    /// stored state.
    #[schema(example = 42)]
    replayed_events: Option<u64>,
    features: CustomerFeatureValuesBody,
}

/// Feature values by feature name; null where a value is missing.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(transparent)]
#[schema(example = json!({ "recency_days": 12.5, "spend_365d": 420.0, "country": null }))]
pub(crate) struct CustomerFeatureValuesBody(BTreeMap<String, FeatureValueBody>);

/// The values of a feature row by feature name.
pub(super) fn features_by_name(set: &FeatureSet, row: FeatureRow) -> CustomerFeatureValuesBody {
    let names = set.features().iter().map(|def| def.name.to_string());
    CustomerFeatureValuesBody(names.zip(row.0.into_iter().map(Into::into)).collect())
}

/// Compute a customer's features from its events.
///
/// The features now, or at an earlier instant. A feature is null if it is missing: without the
/// events that it needs, or while its window contains an event that arrived before a property of
/// the feature was declared. Links between ids are always the present ones.
#[utoipa::path(
    get,
    path = "/v1/customers/{customer_id}/features",
    tag = "Customers",
    security(("key" = ["read"])),
    params(CustomerIdPath, FeatureTimeQuery),
    responses(
        (status = 200, body = CustomerFeaturesBody, description = "The features"),
        (status = 404, description = "There is no such customer"),
    )
)]
pub(crate) async fn get_customer_features(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Read>,
    PathParameters(id): PathParameters<String>,
    QueryParameters(query): QueryParameters<FeatureTimeQuery>,
) -> Result<Json<CustomerFeaturesBody>, ApiError> {
    let customer = parse_customer_id(&id)?;
    let customer = identity::find_canonical(&state.db, &customer).await?.unwrap_or(customer);
    let known = query.known(state.ingestion.latest_allowed_timestamp())?;
    let stored = customers::find_state(&state.db, &customer).await?;
    let is_known = stored.is_some();
    let features = &state.deployments.snapshot().features;
    let at = known.happened_by.or(known.received_by).unwrap_or_else(|| state.ingestion.now());
    let is_past = known.happened_by.is_some() || known.received_by.is_some();
    // A state of another feature set awaits its rebuild: replay it here too.
    let stored = stored.and_then(|bytes| CustomerState::from_bytes(features, &bytes).ok());
    let (folded, replayed_events) = if let Some(stored) = stored.filter(|_| !is_past) {
        (stored, None)
    } else {
        let _permit = state.slow_reads.acquire(&caller.principal).await?;
        let mut snapshot = StateSnapshot::open(&state.db).await?;
        let replay = rebuild::replay_events(&mut snapshot, features, &customer, known, u64::MAX);
        let rebuilt = replay.await?;
        if rebuilt.events == 0 && !is_known {
            return Err(ApiError::not_found(&format!("customer `{id}`")));
        }
        (rebuilt.state, Some(rebuilt.events))
    };
    Ok(Json(CustomerFeaturesBody {
        customer_id: customer.into(),
        as_of: at,
        known_by: known.received_by,
        feature_set: features.id().to_string(),
        replayed_events,
        features: features_by_name(features, folded.feature_row(features, at)),
    }))
}

impl FeatureTimeQuery {
    fn known(&self, horizon: Timestamp) -> Result<EventCutoff, ServiceError> {
        let mut faults = Vec::new();
        let known = EventCutoff {
            happened_by: parse_optional(self.as_of.as_deref(), "as_of", horizon, &mut faults),
            received_by: parse_optional(self.known_by.as_deref(), "known_by", horizon, &mut faults),
        };
        if faults.is_empty() {
            Ok(known)
        } else {
            Err(ServiceError::Invalid(ValidationFaults(faults)))
        }
    }
}

/// Parses an optional instant; `None` and a fault if it is not valid.
fn parse_optional(
    text: Option<&str>,
    name: &str,
    horizon: Timestamp,
    faults: &mut Vec<ValidationFault>,
) -> Option<Timestamp> {
    match parse_instant(name, text?, horizon) {
        Ok(at) => Some(at),
        Err(fault) => {
            faults.push(fault);
            None
        }
    }
}

fn parse_instant(name: &str, text: &str, horizon: Timestamp) -> Result<Timestamp, ValidationFault> {
    let Some(at) = Timestamp::parse(text) else {
        let hint = if text.contains(' ') { "; in a URL, write `+` as `%2B`" } else { "" };
        let problem =
            format!("`{text}` is not an RFC 3339 instant such as 2017-01-01T11:53:26Z{hint}");
        return Err(ValidationFault::new(name, problem));
    };
    if at > horizon {
        let problem = format!("lies in the future: event times are accepted up to {horizon}");
        return Err(ValidationFault::new(name, problem));
    }
    Ok(at)
}

//! `GET /v1/customers/{id}…`: current assignment, features and history of one customer.

pub(crate) mod changes;
pub(crate) mod export;
pub(crate) mod features;
pub(crate) mod links;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value as JsonValue};
use utoipa::ToSchema;

use crate::api::request::parameters::last_of_full_page;
use crate::api::request::{AuthorizedCaller, PageParameters, PathParameters, Read};
use crate::api::request_layer::{ExpensiveRequests, RouteKind};
use crate::api::route::ApiRoute;
use crate::api::score::value_body;
use crate::api::{ApiError, ApiState};
use crate::domain::feature::{CustomerState, FeatureRow, FeatureSet};
use crate::domain::id::{CustomerKey, ModelId};
use crate::domain::time::Timestamp;
use crate::store::customers;
use crate::store::customers::assignments::StoredAssignment;
use crate::store::customers::{assignments, identity};
use axum::routing::{delete, get};

pub(super) fn routes() -> Vec<ApiRoute> {
    vec![
        ApiRoute::undescribed("/v1/customers/{id}", &["GET"], get(get_customer), RouteKind::Manage),
        ApiRoute::undescribed(
            "/v1/customers/{id}/features",
            &["GET"],
            get(features::get_features),
            RouteKind::Manage,
        )
        .with_expensive(ExpensiveRequests::WithQuery(&["as_of", "known_by"])),
        ApiRoute::undescribed(
            "/v1/customers/{id}/history",
            &["GET"],
            get(get_history),
            RouteKind::Manage,
        ),
        ApiRoute::undescribed(
            "/v1/customers/{id}/links",
            &["GET"],
            get(links::get_links),
            RouteKind::Manage,
        ),
        ApiRoute::undescribed(
            "/v1/customers/{id}/links/{from}",
            &["DELETE"],
            delete(links::delete_link),
            RouteKind::Manage,
        ),
        ApiRoute::undescribed(
            "/v1/changes",
            &["GET"],
            get(changes::get_changes),
            RouteKind::Stream,
        ),
        ApiRoute::undescribed(
            "/v1/assignments",
            &["GET"],
            get(export::get_assignments),
            RouteKind::Stream,
        )
        .with_expensive(ExpensiveRequests::All),
    ]
}

/// The assignment of a customer: the stored score.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AssignmentBody<'a> {
    /// Id of the model that scored the customer; null for the rule-based fallback.
    #[schema(example = "50d858e0985ecc7f60418aaf0cc5ab587f42c2570a884095a9e8ccacd0f6545c")]
    model_id: Option<&'a str>,
    /// Whether the rule-based fallback scored the customer.
    fallback: bool,
    /// Number of the deployment that scored the customer.
    #[schema(example = 2)]
    generation: i64,
    /// Id of the segment, or `unassigned` if the customer is too far from every segment.
    #[schema(example = "s2")]
    segment: &'a str,
    /// Distance to `segment`; null for the fallback.
    #[schema(minimum = 0, example = 2.618)]
    distance: Option<f32>,
    /// Simplified silhouette, 1 - distance / distance to the runner-up; 0 if another segment is
    /// nearer. Null for the fallback.
    #[schema(minimum = 0, maximum = 1, example = 0.03)]
    confidence: Option<f32>,
    /// Conformal p-value of the customer among all customers. Null for the fallback.
    #[schema(minimum = 0, maximum = 1, example = 0.63)]
    p_value: Option<f64>,
    /// Whether `p_value` is at most `scoring.outlier_alpha`.
    outlier: bool,
    /// Whether the customer is in its segment by hysteresis: another segment is nearer.
    retained_by_hysteresis: bool,
    /// Instant of the score.
    assigned_at: Timestamp,
}

impl<'a> AssignmentBody<'a> {
    pub(crate) fn new(assignment: &'a StoredAssignment) -> Self {
        Self {
            fallback: assignment.model.is_none(),
            model_id: assignment.model.as_ref().map(ModelId::as_str),
            generation: assignment.generation,
            segment: &assignment.segment,
            distance: assignment.distance,
            confidence: assignment.confidence,
            p_value: assignment.p_value,
            outlier: assignment.is_outlier,
            retained_by_hysteresis: assignment.is_retained_by_hysteresis,
            assigned_at: assignment.assigned_at,
        }
    }
}

#[derive(Debug, Serialize)]
struct CustomerBody<'a> {
    /// The surviving id after merges.
    customer_id: &'a str,
    /// The id in the request, where it is not the surviving id.
    #[serde(skip_serializing_if = "Option::is_none")]
    requested_id: Option<&'a str>,
    /// Other ids of the customer.
    merged_ids: Vec<String>,
    #[serde(flatten)]
    assignment: AssignmentBody<'a>,
    last_event_at: Option<Timestamp>,
    /// Values at `features_as_of` by feature name; null where missing.
    features: Map<String, JsonValue>,
    features_as_of: Timestamp,
}

pub(crate) async fn get_customer(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    PathParameters(id): PathParameters<String>,
) -> Result<Response, ApiError> {
    let customer = find_customer(&state, &id).await?;
    let merged = identity::list_merged_ids(&state.db, &customer).await?;
    let assignment = assignments::find_current(&state.db, &customer).await?;
    let assignment = assignment.ok_or_else(|| unknown_customer(&id))?;
    let bytes = customers::find_state(&state.db, &customer).await?;
    let bytes = bytes.ok_or_else(|| unknown_customer(&id))?;
    let deployment = state.deployments.snapshot();
    let now = state.ingestion.now();
    // A state of another feature set awaits its rebuild: no features meanwhile.
    let folded = CustomerState::from_bytes(&deployment.features, &bytes).ok();
    let row = folded.as_ref().map(|folded| folded.feature_row(&deployment.features, now));
    let body = CustomerBody {
        customer_id: customer.as_str(),
        requested_id: (customer.as_str() != id).then_some(&id),
        merged_ids: merged.into_iter().map(Into::into).collect(),
        assignment: AssignmentBody::new(&assignment),
        last_event_at: folded.and_then(|folded| folded.last_event_at()),
        features: row.map(|row| features_by_name(&deployment.features, row)).unwrap_or_default(),
        features_as_of: now,
    };
    Ok(Json(body).into_response())
}

#[derive(Debug, Serialize)]
pub(crate) struct AssignmentHistoryBody {
    /// The surviving id after merges.
    customer_id: String,
    /// The id in the request, where it is not the surviving id.
    #[serde(skip_serializing_if = "Option::is_none")]
    requested_id: Option<String>,
    /// Newest first; one entry for each change of segment or model.
    changes: Vec<AssignmentChangeBody>,
    /// Send this as `before` for the next page; null on the last page.
    next_before: Option<Timestamp>,
}

#[derive(Debug, Serialize)]
struct AssignmentChangeBody {
    assigned_at: Timestamp,
    model: Option<String>,
    fallback: bool,
    segment: String,
    distance: Option<f32>,
    outlier: bool,
    generation: i64,
}

pub(crate) async fn get_history(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    PathParameters(id): PathParameters<String>,
    page: PageParameters,
) -> Result<Json<AssignmentHistoryBody>, ApiError> {
    let customer = find_customer(&state, &id).await?;
    let changes = assignments::list_history(&state.db, &customer, page.before, page.limit).await?;
    let next_before = last_of_full_page(&changes, page.limit).map(|change| change.assigned_at);
    let changes = changes
        .into_iter()
        .map(|change| AssignmentChangeBody {
            assigned_at: change.assigned_at,
            fallback: change.model.is_none(),
            model: change.model.map(Into::into),
            segment: change.segment,
            distance: change.distance,
            outlier: change.outlier,
            generation: change.generation,
        })
        .collect();
    let requested_id = (customer.as_str() != id).then_some(id);
    Ok(Json(AssignmentHistoryBody {
        customer_id: customer.into(),
        requested_id,
        changes,
        next_before,
    }))
}

/// Finds the surviving id of a customer; 404 if the id is unknown.
pub(crate) async fn find_customer(state: &ApiState, id: &str) -> Result<CustomerKey, ApiError> {
    identity::find_canonical(&state.db, &parse_customer_id(id)?)
        .await?
        .ok_or_else(|| unknown_customer(id))
}

fn unknown_customer(id: &str) -> ApiError {
    ApiError::not_found(&format!("customer `{id}`"))
}

/// Parses a customer id from the path; 422 if it is not valid.
pub(crate) fn parse_customer_id(id: &str) -> Result<CustomerKey, ApiError> {
    id.parse().map_err(|why: crate::domain::id::InvalidId| {
        ApiError::invalid("customer_id", why.to_string())
    })
}

/// Feature values as JSON by feature name.
pub(crate) fn features_by_name(set: &FeatureSet, row: FeatureRow) -> Map<String, JsonValue> {
    let names = set.features().iter().map(|def| def.name.to_string());
    names.zip(row.0.into_iter().map(value_body)).collect()
}

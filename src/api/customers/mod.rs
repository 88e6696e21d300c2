//! `GET /v1/customers/{customer_id}…`: current assignment, features, history and links of one
//! customer; the change feed and the export of all customers.

pub(crate) mod changes;
pub(crate) mod export;
pub(crate) mod features;
pub(crate) mod group_filter;
pub(crate) mod history;
pub(crate) mod links;
pub(crate) mod value;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use crate::api::customers::features::{CustomerFeatureValuesBody, features_by_name};
use crate::api::customers::value::CustomerValueBody;
use crate::api::experiments::participation;
use crate::api::experiments::participation::ParticipationBody;
use crate::api::request::{AuthorizedCaller, PathParameters, Read};
use crate::api::request_layer::{ExpensiveRequests, RouteKind};
use crate::api::route::ApiRoute;
use crate::api::{ApiError, ApiState};
use crate::domain::feature::CustomerState;
use crate::domain::id::{CustomerKey, ModelId};
use crate::domain::time::Timestamp;
use crate::store::customers::assignments::StoredAssignment;
use crate::store::customers::{assignments, identity};
use crate::store::{audiences, customers};

/// The path parameter of one customer, for the OpenAPI document.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "describes a parameter only")]
pub(in crate::api) struct CustomerIdPath {
    /// Any id of the customer.
    customer_id: String,
}

pub(super) fn routes() -> Vec<ApiRoute> {
    vec![
        ApiRoute::new(routes!(get_customer), RouteKind::Manage),
        ApiRoute::new(routes!(features::get_customer_features), RouteKind::Manage)
            .with_expensive(ExpensiveRequests::WithQuery(&["as_of", "known_by"])),
        ApiRoute::new(routes!(history::list_customer_history), RouteKind::Manage),
        ApiRoute::new(routes!(links::list_customer_links), RouteKind::Manage),
        ApiRoute::new(routes!(links::remove_customer_link), RouteKind::Manage),
        ApiRoute::new(routes!(changes::list_changes), RouteKind::Stream),
        ApiRoute::new(routes!(export::export_assignments), RouteKind::Stream)
            .with_line_schema::<export::ExportedAssignmentBody>()
            .with_expensive(ExpensiveRequests::All),
    ]
}

/// The stored score of a customer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AssignmentBody<'a> {
    /// Id of the model; null for the rule-based fallback.
    #[schema(example = "6c1f0a5e7d2b4c93a8e0f1d25b7c6a4983de12f07b5c4a69d8e3f01c2b7a5d64")]
    model_id: Option<&'a str>,
    /// Whether the rule-based fallback answered.
    fallback: bool,
    /// Number of the deployment that scored.
    #[schema(example = 7)]
    generation: i64,
    /// Id of the segment; `unassigned` outside of every segment.
    #[schema(example = "seg_5f2c8d10b7a94e36")]
    segment_id: &'a str,
    /// Name of the segment.
    #[schema(example = "Loyal Customers")]
    segment_name: &'a str,
    /// Distance to the segment, in encoded units; null for the rule-based fallback.
    #[schema(example = 0.42)]
    distance: Option<f32>,
    /// Confidence from 0 to 1: how much nearer the segment is than the next one; null for the
    /// rule-based fallback.
    #[schema(example = 0.73)]
    confidence: Option<f32>,
    /// Outlier p-value: share of customers at least as far from all segments; null for the
    /// rule-based fallback.
    #[schema(example = 0.31)]
    p_value: Option<f64>,
    /// Whether the p-value is at most the configured rate of outliers.
    outlier: bool,
    /// Whether another segment was nearer at `assigned_at`, and hysteresis retained this one.
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
            segment_id: &assignment.segment.id,
            segment_name: &assignment.segment.name,
            distance: assignment.distance,
            confidence: assignment.confidence,
            p_value: assignment.p_value,
            outlier: assignment.is_outlier,
            retained_by_hysteresis: assignment.is_retained_by_hysteresis,
            assigned_at: assignment.assigned_at,
        }
    }
}

/// A customer with its current assignment, audiences, features and value.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CustomerBody<'a> {
    /// The surviving id after merges.
    #[schema(example = "1510")]
    customer_id: String,
    /// The id in the request; left out if it is the surviving id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "visitor-93")]
    requested_id: Option<String>,
    /// Other ids of the customer.
    #[schema(example = json!(["visitor-93"]))]
    merged_ids: Vec<String>,
    #[serde(flatten)]
    assignment: AssignmentBody<'a>,
    /// Names of the audiences that the customer is in.
    #[schema(example = json!(["vip_at_risk"]))]
    audiences: Vec<String>,
    /// The running experiments that the customer takes part in.
    experiments: Vec<ParticipationBody>,
    /// The last event; null without events, and while the state awaits its rebuild.
    last_event_at: Option<Timestamp>,
    features: CustomerFeatureValuesBody,
    /// Instant of the features and of the value.
    features_as_of: Timestamp,
    /// Forecasts of the customer's orders and spend; null without an order, while the model has no model
    /// of customer value, and while the customer awaits its rescore or rebuild.
    value: Option<CustomerValueBody>,
}

/// Get a customer with segment, audiences and features.
///
/// The customer is found by any of its ids. `segment_id` need not be the nearest: a customer stays
/// in its segment until another is nearer by `hysteresis.min_relative_advantage`, and after a
/// move for `hysteresis.minimum_stay_seconds`. `retained_by_hysteresis` then is true, `distance`
/// is the distance to `segment_id`, and `confidence` is 0.
#[utoipa::path(
    get,
    path = "/v1/customers/{customer_id}",
    tag = "Customers",
    security(("key" = ["read"])),
    params(CustomerIdPath),
    responses(
        (status = 200, body = CustomerBody<'static>, description = "The customer"),
        (status = 404, description = "There is no such customer"),
    )
)]
pub(crate) async fn get_customer(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    PathParameters(id): PathParameters<String>,
) -> Result<Response, ApiError> {
    let customer = find_customer(&state, &id).await?;
    let merged = identity::list_merged_ids(&state.db, &customer).await?;
    let assignment = assignments::find_current(&state.db, &customer).await?;
    let assignment = assignment.ok_or_else(|| unknown_customer(&id))?;
    let members = audiences::find_of_customer(&state.db, &customer).await?;
    let bytes = customers::find_state(&state.db, &customer).await?;
    let bytes = bytes.ok_or_else(|| unknown_customer(&id))?;
    let deployment = state.deployments.snapshot();
    let now = state.ingestion.now();
    // A state of another feature set awaits its rebuild: no features meanwhile.
    let folded = CustomerState::from_bytes(&deployment.features, &bytes).ok();
    let (row, orders) =
        folded.as_ref().map(|folded| folded.row_and_orders(&deployment.features, now)).unzip();
    let purchases = orders.flatten().and_then(|orders| orders.history());
    // Until the customer is rescored, the assignment is of an earlier model.
    let answering = deployment.for_generation(assignment.generation);
    let model = answering.and_then(|deployment| deployment.active.as_ref());
    let value = model.and_then(|model| model.value()).zip(purchases);
    let experiments = participation::list_participations(
        &state,
        &deployment,
        &customer,
        &assignment.segment.id,
        &members,
    );
    let body = CustomerBody {
        experiments: experiments.await?,
        requested_id: requested_id(&customer, id),
        customer_id: customer.into(),
        merged_ids: merged.into_iter().map(Into::into).collect(),
        assignment: AssignmentBody::new(&assignment),
        audiences: deployment.audiences.named(&members).names().map(Into::into).collect(),
        last_event_at: folded.and_then(|folded| folded.last_event_at()),
        features: row.map(|row| features_by_name(&deployment.features, row)).unwrap_or_default(),
        features_as_of: now,
        value: value.map(|(model, purchases)| CustomerValueBody::new(model, &purchases, now)),
    };
    Ok(Json(body).into_response())
}

/// Finds the surviving id of a customer; 404 if the id is unknown.
pub(crate) async fn find_customer(state: &ApiState, id: &str) -> Result<CustomerKey, ApiError> {
    identity::find_canonical(&state.db, &parse_customer_id(id)?)
        .await?
        .ok_or_else(|| unknown_customer(id))
}

/// The id in the request, if it is not the surviving id of the customer.
fn requested_id(customer: &CustomerKey, id: String) -> Option<String> {
    (customer.as_str() != id).then_some(id)
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

//! HTTP API: JSON endpoints, health probes and metrics.
//!
//! *Architecture invariant:* an API handler cannot write. It reads through
//! [`crate::store::ReadOnlyDatabase`] and changes state through services only. Bodies are types of
//! their own, converted from domain types by hand; some embed a serialisable domain type.

pub mod admin;
pub(crate) mod alerting;
mod audiences;
mod customers;
mod definition_change;
mod drift;
mod error;
mod events;
mod experiments;
mod features;
pub(crate) mod guarded_body;
mod html_page;
mod inference;
mod json_fault;
mod keys;
mod models;
mod named_segment;
mod openapi;
mod policy;
pub mod request;
mod request_layer;
mod route;
mod score;
mod segments;
pub mod state;
mod training_runs;

use axum::Router;
use axum::extract::Extension;
use axum::routing::get;
use serde_json::Value;
use tower::util::MapResponseLayer;

pub use error::ApiError;
pub use request::client_address::PeerAddress;
pub use request_layer::{RequestCapacities, RequestLayers, RequestLimits};
pub use state::ApiState;

use openapi::ApiDocumentation;
use request_layer::{ANY_METHOD, ExpensiveRequests, RouteKind};
use route::ApiRoute;

/// Every route of the API. Each is declared once, with its metrics and its request class.
pub fn router(state: ApiState, gate: &RequestLayers) -> prometheus::Result<Router> {
    let unmatched = gate.layer(
        &state,
        "<unknown>".into(),
        &[ANY_METHOD],
        RouteKind::Public,
        ExpensiveRequests::None,
    )?;
    let fallback = get(error::no_such_route).fallback(error::no_such_route).layer(unmatched);
    let documentation = Extension(ApiDocumentation::new(&openapi_document()));
    let mut native = with_layers(native_routes(), &state, gate)?.layer(documentation);
    for route in events::segment::routes() {
        let layer = route.layer(&state, gate)?;
        let path = route.path;
        let handler = events::segment::with_segment_protocol(route.handler, layer);
        native = native.route(&path, handler);
    }
    let inference = with_layers(inference::routes(), &state, gate)?;
    Ok(native
        .merge(inference.layer(MapResponseLayer::new(inference::convert_error)))
        .fallback_service(fallback.with_state(()))
        .with_state(state))
}

/// The OpenAPI document of the API.
pub fn openapi_document() -> Value {
    let mut routes = native_routes();
    routes.extend(events::segment::routes());
    routes.extend(inference::routes());
    openapi::document(routes.iter().filter_map(|route| {
        route.description.as_ref().map(|description| (&*route.path, description))
    }))
}

/// The routes of the native API and of its documentation.
fn native_routes() -> Vec<ApiRoute> {
    [
        events::routes(),
        score::routes(),
        customers::routes(),
        segments::routes(),
        audiences::routes(),
        experiments::routes(),
        features::routes(),
        models::routes(),
        training_runs::routes(),
        policy::routes(),
        drift::routes(),
        alerting::routes(),
        keys::routes(),
        openapi::routes(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Routes wrapped in the request layer, with their answer to unsupported methods.
fn with_layers(
    routes: impl IntoIterator<Item = ApiRoute>,
    state: &ApiState,
    gate: &RequestLayers,
) -> prometheus::Result<Router<ApiState>> {
    let mut router = Router::new();
    for route in routes {
        let layer = route.layer(state, gate)?;
        // A fallback of the router would be outside of the layer: without request id, metrics
        // and log.
        let handler = if route.methods.contains(&ANY_METHOD) {
            route.handler
        } else {
            route.handler.fallback(error::wrong_method)
        };
        router = router.route(&route.path, handler.layer(layer));
    }
    Ok(router)
}

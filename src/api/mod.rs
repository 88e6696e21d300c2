//! HTTP API: JSON endpoints, health probes and metrics.
//!
//! *Architecture invariant:* an API handler cannot write. It reads through
//! [`crate::store::ReadOnlyDatabase`] and changes state through services only. Bodies are types of
//! their own, converted from domain types by hand; some embed a serialisable domain type.

pub mod admin;
pub(crate) mod alerting;
mod customers;
mod drift;
mod error;
mod events;
pub(crate) mod guarded_body;
mod html_page;
mod inference;
mod json_fault;
mod keys;
mod models;
pub mod openapi;
pub mod request;
mod request_layer;
mod score;
mod segments;
pub mod state;

use axum::Router;
use axum::routing::{MethodRouter, delete, get, post};
use tower::util::MapResponseLayer;

pub use error::ApiError;
pub use request::client_address::PeerAddress;
pub use request_layer::{RequestCapacities, RequestLayers, RequestLimits};
pub use state::ApiState;

use request_layer::{ANY_METHOD, ExpensiveRequests, RouteKind, RouteLayer};

/// A route of the API before it is wrapped in its layers.
struct ApiRoute {
    path: &'static str,
    methods: &'static [&'static str],
    handler: MethodRouter<ApiState>,
    kind: RouteKind,
    expensive: ExpensiveRequests,
}

impl ApiRoute {
    fn new(
        path: &'static str,
        methods: &'static [&'static str],
        handler: MethodRouter<ApiState>,
        kind: RouteKind,
    ) -> Self {
        Self { path, methods, handler, kind, expensive: ExpensiveRequests::None }
    }

    /// Limits the rate of these requests as expensive ones.
    fn with_expensive(self, expensive: ExpensiveRequests) -> Self {
        Self { expensive, ..self }
    }

    /// The request layer of the route.
    fn layer(&self, state: &ApiState, gate: &RequestLayers) -> prometheus::Result<RouteLayer> {
        gate.layer(state, self.path, self.methods, self.kind, self.expensive)
    }
}

/// Every route of the API. Each is declared once, with its metrics and its request class.
pub fn router(state: ApiState, gate: &RequestLayers) -> prometheus::Result<Router> {
    let unmatched =
        gate.layer(&state, "<unknown>", &[ANY_METHOD], RouteKind::Public, ExpensiveRequests::None)?;
    let fallback = get(error::no_such_route).fallback(error::no_such_route).layer(unmatched);
    let native_routes = [
        ingestion_routes(),
        customer_routes(),
        model_routes(),
        drift_and_documentation_routes(),
        alerting_routes(),
        keys::routes(),
    ];
    let mut native = with_layers(native_routes.into_iter().flatten(), &state, gate)?;
    for route in events::segment::routes() {
        let layer = route.layer(&state, gate)?;
        let handler = events::segment::with_segment_protocol(route.handler, layer);
        native = native.route(route.path, handler);
    }
    let inference = with_layers(inference::routes(), &state, gate)?;
    Ok(native
        .merge(inference.layer(MapResponseLayer::new(inference::convert_error)))
        .fallback_service(fallback.with_state(()))
        .with_state(state))
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
        router = router.route(route.path, handler.layer(layer));
    }
    Ok(router)
}

/// Routes of ingestion and scoring.
fn ingestion_routes() -> Vec<ApiRoute> {
    vec![
        ApiRoute::new("/v1/events", &["POST"], post(events::post_events), RouteKind::Ingest),
        ApiRoute::new(
            "/v1/events/bulk",
            &["POST"],
            post(events::bulk::post_bulk),
            RouteKind::Stream,
        ),
        ApiRoute::new(
            "/v1/events/failed",
            &["GET"],
            get(events::failed_events::get_failed),
            RouteKind::Manage,
        ),
        ApiRoute::new(
            "/v1/events/failed/summary",
            &["GET"],
            get(events::failed_events::get_summary),
            RouteKind::Manage,
        ),
        ApiRoute::new(
            "/v1/events/failed/replay",
            &["POST"],
            post(events::failed_events::post_replay),
            RouteKind::Manage,
        ),
        ApiRoute::new("/v1/score", &["POST"], post(score::post_score), RouteKind::Score),
        ApiRoute::new(
            "/v1/sources",
            &["GET"],
            get(events::sources::get_sources),
            RouteKind::Manage,
        ),
    ]
}

/// Routes of customers, their changes and their export.
fn customer_routes() -> Vec<ApiRoute> {
    vec![
        ApiRoute::new(
            "/v1/customers/{id}",
            &["GET"],
            get(customers::get_customer),
            RouteKind::Manage,
        ),
        ApiRoute::new(
            "/v1/customers/{id}/features",
            &["GET"],
            get(customers::features::get_features),
            RouteKind::Manage,
        )
        .with_expensive(ExpensiveRequests::WithQuery(&["as_of", "known_by"])),
        ApiRoute::new(
            "/v1/customers/{id}/history",
            &["GET"],
            get(customers::get_history),
            RouteKind::Manage,
        ),
        ApiRoute::new(
            "/v1/customers/{id}/links",
            &["GET"],
            get(customers::links::get_links),
            RouteKind::Manage,
        ),
        ApiRoute::new(
            "/v1/customers/{id}/links/{from}",
            &["DELETE"],
            delete(customers::links::delete_link),
            RouteKind::Manage,
        ),
        ApiRoute::new(
            "/v1/changes",
            &["GET"],
            get(customers::changes::get_changes),
            RouteKind::Stream,
        ),
        ApiRoute::new(
            "/v1/assignments",
            &["GET"],
            get(customers::export::get_assignments),
            RouteKind::Stream,
        )
        .with_expensive(ExpensiveRequests::All),
    ]
}

/// Routes of segments, features, models and training runs.
fn model_routes() -> Vec<ApiRoute> {
    let shadow = get(models::shadow::get_shadow).post(models::post_shadow);
    let runs = get(models::training_runs::get_runs).post(models::training_runs::post_run);
    vec![
        ApiRoute::new("/v1/segments", &["GET"], get(segments::get_segments), RouteKind::Manage),
        ApiRoute::new("/v1/models", &["GET"], get(models::get_models), RouteKind::Manage),
        ApiRoute::new(
            "/v1/models/rollback",
            &["POST"],
            post(models::post_rollback),
            RouteKind::Manage,
        ),
        ApiRoute::new("/v1/models/{id}", &["GET"], get(models::get_model), RouteKind::Manage),
        ApiRoute::new(
            "/v1/models/{id}/diff/{other}",
            &["GET"],
            get(models::diff::get_diff),
            RouteKind::Manage,
        ),
        ApiRoute::new(
            "/v1/models/{id}/migration",
            &["GET"],
            get(models::diff::get_migration),
            RouteKind::Stream,
        )
        .with_expensive(ExpensiveRequests::All),
        ApiRoute::new(
            "/v1/segments/{id}/lineage",
            &["GET"],
            get(models::diff::get_lineage),
            RouteKind::Manage,
        ),
        ApiRoute::new("/v1/models/{id}/shadow", &["GET", "POST"], shadow, RouteKind::Manage),
        ApiRoute::new(
            "/v1/models/{id}/canary",
            &["POST"],
            post(models::post_canary),
            RouteKind::Manage,
        ),
        ApiRoute::new(
            "/v1/models/{id}/promote",
            &["POST"],
            post(models::post_promote),
            RouteKind::Manage,
        ),
        ApiRoute::new(
            "/v1/models/{id}/retire",
            &["POST"],
            post(models::post_retire),
            RouteKind::Manage,
        ),
        ApiRoute::new(
            "/v1/models/{id}/reject",
            &["POST"],
            post(models::post_reject),
            RouteKind::Manage,
        ),
        ApiRoute::new("/v1/training-runs", &["GET", "POST"], runs, RouteKind::Manage)
            .with_expensive(ExpensiveRequests::Changes),
        ApiRoute::new(
            "/v1/training-runs/{id}",
            &["GET"],
            get(models::training_runs::get_run),
            RouteKind::Manage,
        ),
        ApiRoute::new(
            "/v1/training-runs/{id}/cancel",
            &["POST"],
            post(models::training_runs::post_cancel),
            RouteKind::Manage,
        ),
        ApiRoute::new("/v1/features", &["GET"], get(segments::get_features), RouteKind::Manage),
    ]
}

/// Routes of drift and of the API documentation.
fn drift_and_documentation_routes() -> Vec<ApiRoute> {
    vec![
        ApiRoute::new("/v1/drift", &["GET"], get(drift::get_drift), RouteKind::Manage),
        ApiRoute::new("/v1/drift/history", &["GET"], get(drift::get_history), RouteKind::Manage),
        ApiRoute::new("/v1/drift/flow", &["GET"], get(drift::get_churn), RouteKind::Manage),
        ApiRoute::new(
            "/v1/drift/features/{name}/picture.svg",
            &["GET"],
            get(drift::get_picture),
            RouteKind::Manage,
        ),
        ApiRoute::new("/openapi.json", &["GET"], get(openapi::get_document), RouteKind::Public),
        ApiRoute::new("/docs", &["GET"], get(openapi::get_page), RouteKind::Public),
    ]
}

/// Routes of alerting and of the automation policy.
fn alerting_routes() -> Vec<ApiRoute> {
    let channel = get(alerting::channels::get_channel)
        .put(alerting::channels::put_channel)
        .delete(alerting::channels::delete_channel);
    let channels = get(alerting::channels::get_channels).post(alerting::channels::post_channel);
    let silences = get(alerting::silences::get_silences).post(alerting::silences::post_silence);
    vec![
        ApiRoute::new("/v1/alerts", &["GET"], get(alerting::alerts::get_alerts), RouteKind::Manage),
        ApiRoute::new(
            "/v1/alerts/{id}",
            &["GET"],
            get(alerting::alerts::get_alert),
            RouteKind::Manage,
        ),
        ApiRoute::new(
            "/v1/alerts/{id}/picture.svg",
            &["GET"],
            get(alerting::alerts::get_picture),
            RouteKind::Manage,
        ),
        ApiRoute::new(
            "/v1/alerts/{id}/acknowledge",
            &["POST"],
            post(alerting::alerts::post_acknowledge),
            RouteKind::Manage,
        ),
        ApiRoute::new("/v1/silences", &["GET", "POST"], silences, RouteKind::Manage),
        ApiRoute::new(
            "/v1/silences/{id}",
            &["DELETE"],
            delete(alerting::silences::delete_silence),
            RouteKind::Manage,
        ),
        ApiRoute::new("/v1/channels", &["GET", "POST"], channels, RouteKind::Manage),
        ApiRoute::new("/v1/channels/{id}", &["GET", "PUT", "DELETE"], channel, RouteKind::Manage),
        ApiRoute::new(
            "/v1/channels/{id}/enable",
            &["POST"],
            post(alerting::channels::post_enable),
            RouteKind::Manage,
        ),
        ApiRoute::new(
            "/v1/channels/{id}/test",
            &["POST"],
            post(alerting::channels::post_test),
            RouteKind::Manage,
        ),
        ApiRoute::new(
            "/v1/channels/{id}/deliveries",
            &["GET"],
            get(alerting::deliveries::get_deliveries),
            RouteKind::Manage,
        ),
        ApiRoute::new(
            "/v1/channels/{id}/replay",
            &["POST"],
            post(alerting::deliveries::post_replay_range),
            RouteKind::Manage,
        ),
        ApiRoute::new(
            "/v1/deliveries/{id}/replay",
            &["POST"],
            post(alerting::deliveries::post_replay),
            RouteKind::Manage,
        ),
        ApiRoute::new(
            "/v1/policy",
            &["GET", "PATCH"],
            get(models::policy::get_policy).patch(models::policy::patch_policy),
            RouteKind::Manage,
        ),
        ApiRoute::new(
            "/v1/policy/history",
            &["GET"],
            get(models::policy::get_history),
            RouteKind::Manage,
        ),
        ApiRoute::new(
            "/v1/models/fallback",
            &["POST"],
            post(models::post_fall_back),
            RouteKind::Manage,
        ),
    ]
}

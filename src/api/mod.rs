//! JSON over HTTP: the programmatic edge.
//!
//! *Architecture invariant:* an edge cannot write. It reads through
//! [`crate::store::ReadDb`] and changes things through services only. Bodies
//! are not domain types; they are converted by hand, here.

pub mod admin;
mod changes;
mod customers;
mod error;
mod events;
mod export;
mod extract;
mod gate;
mod models;
pub mod openapi;
mod score;
mod segments;
pub mod state;
mod training;

use axum::Router;
use axum::routing::{MethodRouter, get, post};

pub use error::ApiError;
pub use gate::{Gate, Limits};
pub use state::ApiState;

/// Every route of the API. A route is declared once, with its metrics.
pub fn router(state: ApiState, gate: &Gate) -> prometheus::Result<Router> {
    let bulk = post(events::post_bulk);
    let routes: [(&str, &[&str], MethodRouter<ApiState>, bool); 17] = [
        ("/v1/events", &["POST"], post(events::post_events), true),
        ("/v1/events/bulk", &["POST"], bulk, false),
        ("/v1/score", &["POST"], post(score::post_score), true),
        ("/v1/customers/{id}", &["GET"], get(customers::get_customer), true),
        ("/v1/customers/{id}/history", &["GET"], get(customers::get_history), true),
        ("/v1/changes", &["GET"], get(changes::get_changes), false),
        ("/v1/assignments", &["GET"], get(export::get_assignments), false),
        ("/v1/segments", &["GET"], get(segments::get_segments), true),
        ("/v1/models", &["GET"], get(models::get_models), true),
        ("/v1/models/rollback", &["POST"], post(models::post_rollback), true),
        ("/v1/models/{id}", &["GET"], get(models::get_model), true),
        ("/v1/models/{id}/promote", &["POST"], post(models::post_promote), true),
        (
            "/v1/training-runs",
            &["GET", "POST"],
            get(training::get_runs).post(training::post_run),
            true,
        ),
        ("/v1/training-runs/{id}", &["GET"], get(training::get_run), true),
        ("/v1/features", &["GET"], get(segments::get_features), true),
        ("/openapi.json", &["GET"], get(openapi::get_document), true),
        ("/docs", &["GET"], get(openapi::get_page), true),
    ];
    let mut router = Router::new();
    for (path, methods, handler, timed) in routes {
        router = router.route(path, handler.layer(gate.layer(path, methods, timed)?));
    }
    let unmatched = gate.layer("<unknown>", &["<any>"], true)?;
    let fallback = get(error::no_such_route).fallback(error::no_such_route).layer(unmatched);
    Ok(router
        .fallback_service(fallback.with_state(()))
        .method_not_allowed_fallback(error::wrong_method)
        .with_state(state))
}

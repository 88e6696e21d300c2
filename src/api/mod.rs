//! JSON over HTTP: the programmatic edge.
//!
//! *Architecture invariant:* an edge cannot write. It reads through
//! [`crate::store::ReadDb`] and changes things through services only. Bodies
//! are not domain types; they are converted by hand, here.

pub mod admin;
mod alerts;
mod blocking;
mod bulk;
mod changes;
mod channels;
mod customers;
mod deliveries;
mod diff;
mod drift;
mod error;
mod events;
mod export;
mod extract;
mod failed;
mod features;
mod gate;
mod inference;
mod lines;
mod links;
mod models;
pub mod openapi;
mod packing;
mod policy;
mod score;
mod segment;
mod segments;
mod shadow;
mod silences;
mod sources;
pub mod state;
mod training;

use axum::Router;
use axum::routing::{MethodRouter, delete, get, post};
use tower::util::MapResponseLayer;

pub use error::ApiError;
pub use gate::{Gate, Limits};
pub use state::ApiState;

/// A route: path, methods, handler, and whether the time limit of a request
/// holds. One that is not timed lasts as long as its sender takes.
type Route = (&'static str, &'static [&'static str], MethodRouter<ApiState>, bool);

/// Every route of the API. A route is declared once, with its metrics.
pub fn router(state: ApiState, gate: &Gate) -> prometheus::Result<Router> {
    let unmatched = gate.layer("<unknown>", &["<any>"], true)?;
    let fallback = get(error::no_such_route).fallback(error::no_such_route).layer(unmatched);
    let mut native = gated(native().into_iter().chain(alerting()), gate)?;
    for (path, method, handler) in segment::routes() {
        native = native.route(path, segment::dress(handler, gate.layer(path, &[method], true)?));
    }
    let inference = gated(inference::routes(), gate)?;
    Ok(native
        .merge(inference.layer(MapResponseLayer::new(inference::in_protocol)))
        .fallback_service(fallback.with_state(()))
        .with_state(state))
}

/// The routes, each behind the gate.
fn gated(
    routes: impl IntoIterator<Item = Route>,
    gate: &Gate,
) -> prometheus::Result<Router<ApiState>> {
    let mut router = Router::new();
    for (path, methods, handler, timed) in routes {
        router = router.route(path, handler.layer(gate.layer(path, methods, timed)?));
    }
    Ok(router.method_not_allowed_fallback(error::wrong_method))
}

fn native() -> [Route; 36] {
    let shadow = get(shadow::get_shadow).post(models::post_shadow);
    let runs = get(training::get_runs).post(training::post_run);
    [
        ("/v1/events", &["POST"], post(events::post_events), true),
        ("/v1/events/bulk", &["POST"], post(bulk::post_bulk), false),
        ("/v1/events/failed", &["GET"], get(failed::get_failed), true),
        ("/v1/events/failed/summary", &["GET"], get(failed::get_summary), true),
        ("/v1/events/failed/replay", &["POST"], post(failed::post_replay), true),
        ("/v1/score", &["POST"], post(score::post_score), true),
        ("/v1/customers/{id}", &["GET"], get(customers::get_customer), true),
        ("/v1/customers/{id}/features", &["GET"], get(features::get_features), true),
        ("/v1/customers/{id}/history", &["GET"], get(customers::get_history), true),
        ("/v1/customers/{id}/links", &["GET"], get(links::get_links), true),
        ("/v1/customers/{id}/links/{from}", &["DELETE"], delete(links::delete_link), true),
        ("/v1/changes", &["GET"], get(changes::get_changes), false),
        ("/v1/assignments", &["GET"], get(export::get_assignments), false),
        ("/v1/segments", &["GET"], get(segments::get_segments), true),
        ("/v1/models", &["GET"], get(models::get_models), true),
        ("/v1/models/rollback", &["POST"], post(models::post_rollback), true),
        ("/v1/models/{id}", &["GET"], get(models::get_model), true),
        ("/v1/models/{id}/diff/{other}", &["GET"], get(diff::get_diff), true),
        ("/v1/models/{id}/migration", &["GET"], get(diff::get_migration), false),
        ("/v1/segments/{id}/lineage", &["GET"], get(diff::get_lineage), true),
        ("/v1/models/{id}/shadow", &["GET", "POST"], shadow, true),
        ("/v1/models/{id}/canary", &["POST"], post(models::post_canary), true),
        ("/v1/models/{id}/promote", &["POST"], post(models::post_promote), true),
        ("/v1/models/{id}/retire", &["POST"], post(models::post_retire), true),
        ("/v1/models/{id}/reject", &["POST"], post(models::post_reject), true),
        ("/v1/training-runs", &["GET", "POST"], runs, true),
        ("/v1/training-runs/{id}", &["GET"], get(training::get_run), true),
        ("/v1/training-runs/{id}/cancel", &["POST"], post(training::post_cancel), true),
        ("/v1/features", &["GET"], get(segments::get_features), true),
        ("/v1/drift", &["GET"], get(drift::get_drift), true),
        ("/v1/drift/history", &["GET"], get(drift::get_history), true),
        ("/v1/drift/flow", &["GET"], get(drift::get_flow), true),
        ("/v1/drift/features/{name}/picture.svg", &["GET"], get(drift::get_picture), true),
        ("/v1/sources", &["GET"], get(sources::get_sources), true),
        ("/openapi.json", &["GET"], get(openapi::get_document), true),
        ("/docs", &["GET"], get(openapi::get_page), true),
    ]
}

fn alerting() -> [Route; 16] {
    let channel =
        get(channels::get_channel).put(channels::put_channel).delete(channels::delete_channel);
    let channels = get(channels::get_channels).post(channels::post_channel);
    let silences = get(silences::get_silences).post(silences::post_silence);
    [
        ("/v1/alerts", &["GET"], get(alerts::get_alerts), true),
        ("/v1/alerts/{id}", &["GET"], get(alerts::get_alert), true),
        ("/v1/alerts/{id}/picture.svg", &["GET"], get(alerts::get_picture), true),
        ("/v1/alerts/{id}/acknowledge", &["POST"], post(alerts::post_acknowledge), true),
        ("/v1/silences", &["GET", "POST"], silences, true),
        ("/v1/silences/{id}", &["DELETE"], delete(silences::delete_silence), true),
        ("/v1/channels", &["GET", "POST"], channels, true),
        ("/v1/channels/{id}", &["GET", "PUT", "DELETE"], channel, true),
        ("/v1/channels/{id}/enable", &["POST"], post(channels::post_enable), true),
        ("/v1/channels/{id}/test", &["POST"], post(channels::post_test), true),
        ("/v1/channels/{id}/deliveries", &["GET"], get(deliveries::get_deliveries), true),
        ("/v1/channels/{id}/replay", &["POST"], post(deliveries::post_replay_range), true),
        ("/v1/deliveries/{id}/replay", &["POST"], post(deliveries::post_replay), true),
        (
            "/v1/policy",
            &["GET", "PATCH"],
            get(policy::get_policy).patch(policy::patch_policy),
            true,
        ),
        ("/v1/policy/history", &["GET"], get(policy::get_history), true),
        ("/v1/models/fall-back", &["POST"], post(models::post_fall_back), true),
    ]
}

//! HTTP API: JSON endpoints, health probes and metrics.
//!
//! *Architecture invariant:* an edge cannot write. It reads through
//! [`crate::store::ReadDb`] and changes state through services only. Bodies are types of
//! their own, converted from domain types by hand; some embed a serialisable domain type.

pub mod admin;
pub(crate) mod alerting;
mod customers;
mod drift;
mod error;
mod events;
mod html_page;
mod inference;
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
pub use request_layer::{Capacities, Gate, Limits};
pub use state::ApiState;

use request_layer::{ANY_METHOD, Work};

/// A route: path, methods, handler, and the kind of work that its requests are.
type Route = (&'static str, &'static [&'static str], MethodRouter<ApiState>, Work);

/// Every route of the API. Each is declared once, with its metrics and its request class.
pub fn router(state: ApiState, gate: &Gate) -> prometheus::Result<Router> {
    let unmatched = gate.layer(&state, "<unknown>", &[ANY_METHOD], Work::Public)?;
    let fallback = get(error::no_such_route).fallback(error::no_such_route).layer(unmatched);
    let mut native = gated(native().into_iter().chain(alerting()), &state, gate)?;
    for (path, methods, handler, work) in events::segment::routes() {
        let layer = gate.layer(&state, path, methods, work)?;
        native = native.route(path, events::segment::dress(handler, layer));
    }
    let inference = gated(inference::routes(), &state, gate)?;
    Ok(native
        .merge(inference.layer(MapResponseLayer::new(inference::in_protocol)))
        .fallback_service(fallback.with_state(()))
        .with_state(state))
}

/// The routes, each inside the request layer.
fn gated(
    routes: impl IntoIterator<Item = Route>,
    state: &ApiState,
    gate: &Gate,
) -> prometheus::Result<Router<ApiState>> {
    let mut router = Router::new();
    for (path, methods, handler, work) in routes {
        router = router.route(path, handler.layer(gate.layer(state, path, methods, work)?));
    }
    Ok(router.method_not_allowed_fallback(error::wrong_method))
}

fn native() -> [Route; 36] {
    let shadow = get(models::shadow::get_shadow).post(models::post_shadow);
    let runs = get(models::training_runs::get_runs).post(models::training_runs::post_run);
    [
        ("/v1/events", &["POST"], post(events::post_events), Work::Ingest),
        ("/v1/events/bulk", &["POST"], post(events::bulk::post_bulk), Work::Stream),
        ("/v1/events/failed", &["GET"], get(events::failed_events::get_failed), Work::Manage),
        (
            "/v1/events/failed/summary",
            &["GET"],
            get(events::failed_events::get_summary),
            Work::Manage,
        ),
        (
            "/v1/events/failed/replay",
            &["POST"],
            post(events::failed_events::post_replay),
            Work::Manage,
        ),
        ("/v1/score", &["POST"], post(score::post_score), Work::Score),
        ("/v1/customers/{id}", &["GET"], get(customers::get_customer), Work::Manage),
        (
            "/v1/customers/{id}/features",
            &["GET"],
            get(customers::features::get_features),
            Work::Manage,
        ),
        ("/v1/customers/{id}/history", &["GET"], get(customers::get_history), Work::Manage),
        ("/v1/customers/{id}/links", &["GET"], get(customers::links::get_links), Work::Manage),
        (
            "/v1/customers/{id}/links/{from}",
            &["DELETE"],
            delete(customers::links::delete_link),
            Work::Manage,
        ),
        ("/v1/changes", &["GET"], get(customers::changes::get_changes), Work::Stream),
        ("/v1/assignments", &["GET"], get(customers::export::get_assignments), Work::Stream),
        ("/v1/segments", &["GET"], get(segments::get_segments), Work::Manage),
        ("/v1/models", &["GET"], get(models::get_models), Work::Manage),
        ("/v1/models/rollback", &["POST"], post(models::post_rollback), Work::Manage),
        ("/v1/models/{id}", &["GET"], get(models::get_model), Work::Manage),
        ("/v1/models/{id}/diff/{other}", &["GET"], get(models::diff::get_diff), Work::Manage),
        ("/v1/models/{id}/migration", &["GET"], get(models::diff::get_migration), Work::Stream),
        ("/v1/segments/{id}/lineage", &["GET"], get(models::diff::get_lineage), Work::Manage),
        ("/v1/models/{id}/shadow", &["GET", "POST"], shadow, Work::Manage),
        ("/v1/models/{id}/canary", &["POST"], post(models::post_canary), Work::Manage),
        ("/v1/models/{id}/promote", &["POST"], post(models::post_promote), Work::Manage),
        ("/v1/models/{id}/retire", &["POST"], post(models::post_retire), Work::Manage),
        ("/v1/models/{id}/reject", &["POST"], post(models::post_reject), Work::Manage),
        ("/v1/training-runs", &["GET", "POST"], runs, Work::Manage),
        ("/v1/training-runs/{id}", &["GET"], get(models::training_runs::get_run), Work::Manage),
        (
            "/v1/training-runs/{id}/cancel",
            &["POST"],
            post(models::training_runs::post_cancel),
            Work::Manage,
        ),
        ("/v1/features", &["GET"], get(segments::get_features), Work::Manage),
        ("/v1/drift", &["GET"], get(drift::get_drift), Work::Manage),
        ("/v1/drift/history", &["GET"], get(drift::get_history), Work::Manage),
        ("/v1/drift/flow", &["GET"], get(drift::get_flow), Work::Manage),
        ("/v1/drift/features/{name}/picture.svg", &["GET"], get(drift::get_picture), Work::Manage),
        ("/v1/sources", &["GET"], get(events::sources::get_sources), Work::Manage),
        ("/openapi.json", &["GET"], get(openapi::get_document), Work::Public),
        ("/docs", &["GET"], get(openapi::get_page), Work::Public),
    ]
}

fn alerting() -> [Route; 16] {
    let channel = get(alerting::channels::get_channel)
        .put(alerting::channels::put_channel)
        .delete(alerting::channels::delete_channel);
    let channels = get(alerting::channels::get_channels).post(alerting::channels::post_channel);
    let silences = get(alerting::silences::get_silences).post(alerting::silences::post_silence);
    [
        ("/v1/alerts", &["GET"], get(alerting::alerts::get_alerts), Work::Manage),
        ("/v1/alerts/{id}", &["GET"], get(alerting::alerts::get_alert), Work::Manage),
        ("/v1/alerts/{id}/picture.svg", &["GET"], get(alerting::alerts::get_picture), Work::Manage),
        (
            "/v1/alerts/{id}/acknowledge",
            &["POST"],
            post(alerting::alerts::post_acknowledge),
            Work::Manage,
        ),
        ("/v1/silences", &["GET", "POST"], silences, Work::Manage),
        (
            "/v1/silences/{id}",
            &["DELETE"],
            delete(alerting::silences::delete_silence),
            Work::Manage,
        ),
        ("/v1/channels", &["GET", "POST"], channels, Work::Manage),
        ("/v1/channels/{id}", &["GET", "PUT", "DELETE"], channel, Work::Manage),
        (
            "/v1/channels/{id}/enable",
            &["POST"],
            post(alerting::channels::post_enable),
            Work::Manage,
        ),
        ("/v1/channels/{id}/test", &["POST"], post(alerting::channels::post_test), Work::Manage),
        (
            "/v1/channels/{id}/deliveries",
            &["GET"],
            get(alerting::deliveries::get_deliveries),
            Work::Manage,
        ),
        (
            "/v1/channels/{id}/replay",
            &["POST"],
            post(alerting::deliveries::post_replay_range),
            Work::Manage,
        ),
        (
            "/v1/deliveries/{id}/replay",
            &["POST"],
            post(alerting::deliveries::post_replay),
            Work::Manage,
        ),
        (
            "/v1/policy",
            &["GET", "PATCH"],
            get(models::policy::get_policy).patch(models::policy::patch_policy),
            Work::Manage,
        ),
        ("/v1/policy/history", &["GET"], get(models::policy::get_history), Work::Manage),
        ("/v1/models/fall-back", &["POST"], post(models::post_fall_back), Work::Manage),
    ]
}

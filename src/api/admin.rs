//! The second listener: health and metrics, for machines that watch.

use std::fmt::Write;
use std::sync::Arc;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tower::util::MapResponseLayer;

use crate::api::gate;
use crate::api::state::Readiness;
use crate::service::clock_check::ClockCheck;
use crate::store::ReadDb;
use crate::telemetry::Metrics;

#[derive(Debug, Clone)]
pub struct AdminState {
    pub readiness: Readiness,
    pub db: ReadDb,
    pub clock_check: Arc<ClockCheck>,
    pub metrics: Arc<Metrics>,
}

pub fn router(state: AdminState) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .layer(MapResponseLayer::new(gate::without_sniffing))
        .with_state(state)
}

/// Ready when the first lineup is published and the process is not stopping.
/// Postgres away, or a clock that is wrong, is shown by `?verbose` and does not make it
/// unready: scoring of feature rows goes on.
async fn readyz(State(state): State<AdminState>, RawQuery(query): RawQuery) -> Response {
    let readiness = state.readiness;
    let ready = readiness.is_ready();
    let mut text = String::new();
    if query.is_some_and(|query| query.contains("verbose")) {
        let database = state.db.ping().await.is_ok();
        let checks = [
            ("lineup", readiness.has_lineup()),
            ("serving", readiness.is_serving()),
            ("database", database),
            ("clock", state.clock_check.is_right()),
        ];
        for (name, good) in checks {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "[{}] {name}", if good { '+' } else { '-' });
        }
    }
    text.push_str(if ready { "ready\n" } else { "not ready\n" });
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, text).into_response()
}

async fn metrics(State(state): State<AdminState>) -> Response {
    let (open, idle) = state.db.pool_size();
    state.metrics.pool.open.set(i64::from(open));
    state.metrics.pool.idle.set(i64::try_from(idle).unwrap_or(i64::MAX));
    match state.metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
            .into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

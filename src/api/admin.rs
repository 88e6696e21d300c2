//! Admin listener: liveness, readiness and Prometheus metrics.

use std::fmt::Write;
use std::sync::Arc;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tower::util::MapResponseLayer;

use crate::api::request_layer;
use crate::api::state::Readiness;
use crate::service::health::clock_check::ClockCheck;
use crate::service::health::storage::StorageMonitor;
use crate::service::limits::memory::MemoryBudget;
use crate::store::ReadOnlyDatabase;
use crate::telemetry::ServiceMetrics;
use crate::telemetry::http::limits::gauge_value;

#[derive(Debug, Clone)]
pub(crate) struct AdminState {
    pub readiness: Readiness,
    pub storage: Arc<StorageMonitor>,
    pub db: ReadOnlyDatabase,
    pub clock_check: Arc<ClockCheck>,
    pub metrics: Arc<ServiceMetrics>,
    pub memory: MemoryBudget,
}

pub(crate) fn router(state: AdminState) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/readyz/stateful", get(readyz_stateful))
        .route("/metrics", get(metrics))
        .layer(MapResponseLayer::new(request_layer::without_sniffing))
        .with_state(state)
}

/// Readiness to score feature rows: the first deployment is published, the process is not
/// draining, and no background task has failed for good; otherwise the body names the task.
/// An unreachable database, a full disk or a wrong clock does not make the process unready, as
/// scoring answers from memory; the body then says `degraded: …`.
async fn readyz(State(state): State<AdminState>, RawQuery(query): RawQuery) -> Response {
    let is_verbose = query.is_some_and(|query| query.contains("verbose"));
    state.answer(state.readiness.is_ready(), is_verbose)
}

/// Readiness for stateful requests as well: events, customers and everything stored. For
/// orchestrators that take a process without its database out of rotation.
async fn readyz_stateful(State(state): State<AdminState>, RawQuery(query): RawQuery) -> Response {
    let is_verbose = query.is_some_and(|query| query.contains("verbose"));
    let storage = &state.storage;
    let is_ready =
        state.readiness.is_ready() && storage.is_database_up() && storage.has_disk_space();
    state.answer(is_ready, is_verbose)
}

impl AdminState {
    fn answer(&self, is_ready: bool, is_verbose: bool) -> Response {
        let (database, disk) = (self.storage.is_database_up(), self.storage.has_disk_space());
        let failed_tasks = self.readiness.failed_tasks.names();
        let mut text = String::new();
        if is_verbose {
            let checks = [
                ("deployment", self.readiness.has_deployment()),
                ("serving", self.readiness.is_serving()),
                ("database", database),
                ("disk", disk),
                ("clock", self.clock_check.is_clock_right()),
                ("background_tasks", failed_tasks.is_empty()),
            ];
            for (name, good) in checks {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "[{}] {name}", if good { '+' } else { '-' });
            }
        }
        if !failed_tasks.is_empty() {
            let names = failed_tasks.join(", ");
            let _ = writeln!(text, "failed: background task {names} (restart this process)");
        }
        if !database {
            text.push_str("degraded: database (stateful requests are answered 503)\n");
        }
        if !disk {
            text.push_str("degraded: disk (events are answered 503)\n");
        }
        if !self.clock_check.is_clock_right() {
            text.push_str("degraded: clock (events are answered 503)\n");
        }
        text.push_str(if is_ready { "ready\n" } else { "not ready\n" });
        let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (status, text).into_response()
    }
}

async fn metrics(State(state): State<AdminState>) -> Response {
    let (open, idle) = state.db.pool_size();
    state.metrics.connection_pool.open.set(i64::from(open));
    state.metrics.connection_pool.idle.set(i64::try_from(idle).unwrap_or(i64::MAX));
    let limits = &state.metrics.limits;
    limits.requests_used_bytes.set(gauge_value(state.memory.used_bytes()));
    limits.cache_used_bytes.set(state.metrics.ingestion.cache_bytes.get());
    match state.metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
            .into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

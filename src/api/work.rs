//! Scoring the rows of one request: on which thread, and how it is counted.

use std::time::Instant;

use crate::api::ApiError;
use crate::service::ServiceError;
use crate::service::live::Lineup;
use crate::telemetry::Metrics;
use crate::telemetry::labels::{Answer, Door};

/// Does `work` here where it is small, else beside the async threads: it would
/// hold one of them up.
pub(super) async fn run<T: Send + 'static>(
    small: bool,
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    if small {
        return work();
    }
    tokio::task::spawn_blocking(work).await.map_err(ServiceError::internal)?
}

/// Counts scores given from one lineup.
pub(super) fn note_scores(
    metrics: &Metrics,
    door: Door,
    lineup: &Lineup,
    rows: u64,
    started: Instant,
) {
    let answer = if lineup.active.is_some() { Answer::Active } else { Answer::Fallback };
    metrics.scoring.scores.add((door, answer), rows);
    metrics.scoring.seconds.observe(started.elapsed().as_secs_f64());
}

//! `GET /v1/sources`: event sources and their volume compared with the usual volume.

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use crate::api::request::{AuthorizedCaller, Read};
use crate::api::{ApiError, ApiState};
use crate::domain::event::source_volume::{HourlyVolume, SourceStatus};
use crate::domain::time::Timestamp;
use crate::service::sources::AssessedSource;

#[derive(Debug, Serialize)]
pub(crate) struct SourcesBody {
    /// Ordered by endpoint and key.
    sources: Vec<SourceBody>,
}

#[derive(Debug, Serialize)]
struct SourceBody {
    endpoint: &'static str,
    key: String,
    name: Option<String>,
    status: SourceStatus,
    first_event_at: Timestamp,
    last_event_at: Timestamp,
    /// The hour in progress; not compared with the usual volume.
    this_hour: HourlyVolume,
    /// The last complete hour, which is compared with the usual volume.
    last_hour: HourlyVolume,
    usual_gap_seconds: Option<f64>,
    silent_at: Option<Timestamp>,
}

pub(crate) async fn get_sources(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
) -> Result<Json<SourcesBody>, ApiError> {
    let watched = state.sources.assess_sources().await?;
    Ok(Json(SourcesBody { sources: watched.into_iter().map(SourceBody::new).collect() }))
}

impl SourceBody {
    fn new(AssessedSource { source, assessment }: AssessedSource) -> Self {
        Self {
            endpoint: source.endpoint.as_str(),
            key: source.key_id,
            name: source.name,
            status: assessment.status,
            first_event_at: source.volume.first_at,
            last_event_at: source.volume.last_at,
            this_hour: assessment.this_hour,
            last_hour: assessment.last_hour,
            usual_gap_seconds: assessment.usual_gap_millis.map(millis_to_seconds),
            silent_at: assessment.silent_at,
        }
    }
}

fn millis_to_seconds(millis: i64) -> f64 {
    std::time::Duration::from_millis(millis.unsigned_abs()).as_secs_f64()
}

//! `GET /v1/sources`: event sources and their volume compared with the usual volume.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::request::page::{PageCursor, PageLimit};
use crate::api::request::{AuthorizedCaller, QueryParameters, Read};
use crate::api::{ApiError, ApiState};
use crate::domain::event::source_volume::{HourlyVolume, SourceStatus};
use crate::domain::time::Timestamp;
use crate::domain::wire::IngestionEndpoint;
use crate::service::sources::AssessedSource;

/// Sort key of the list: endpoint and id of the API key.
type EndpointAndKey = (String, String);

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventSourceListQuery {
    /// Sources per page.
    #[serde(default)]
    #[param(inline)]
    limit: PageLimit<100, 1000>,
    /// `next_cursor` of the previous page.
    #[param(value_type = Option<String>)]
    cursor: Option<PageCursor<EndpointAndKey>>,
}

/// A page of event sources, ordered by endpoint and key.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventSourceListBody {
    sources: Vec<EventSourceBody>,
    /// The `cursor` of the next page; null on the last page.
    next_cursor: Option<String>,
}

/// An event source, which is an API key at an endpoint, with its volume.
#[derive(Debug, Serialize, ToSchema)]
struct EventSourceBody {
    /// The endpoint that the events are sent to.
    #[schema(value_type = IngestionEndpoint)]
    endpoint: &'static str,
    /// Id of the API key.
    #[schema(example = "0050e0c5c045")]
    key_id: String,
    /// Name of the API key; null if the key does not exist any more.
    #[schema(example = "web shop")]
    key_name: Option<String>,
    /// The volume compared with the usual one.
    #[schema(value_type = SourceStatus)]
    status: &'static str,
    /// Receipt of the first new event.
    first_event_at: Timestamp,
    /// Receipt of the last new event.
    last_event_at: Timestamp,
    /// The hour in progress, which is not compared with the usual volume.
    this_hour: HourlyVolumeBody,
    /// The last complete hour, which is compared with the usual volume.
    last_hour: HourlyVolumeBody,
    /// The usual longest time between two events; null while the history is too short.
    #[schema(minimum = 0, example = 3600.0)]
    usual_gap_seconds: Option<f64>,
    /// Instant at which silence raises an alert; null while the history is too short.
    silent_at: Option<Timestamp>,
}

/// New events of one hour, with the usual number.
#[derive(Debug, Serialize, ToSchema)]
struct HourlyVolumeBody {
    /// Start of the hour, in UTC.
    hour: Timestamp,
    /// Number of new events.
    #[schema(example = 118)]
    events: u64,
    /// Median number in the same hour of four weeks, or of seven days if the history is shorter;
    /// null while it is too short.
    #[schema(minimum = 0, example = 120.0)]
    usual_events: Option<f64>,
    /// Probability of such a difference by chance (two-sided); null for the hour in progress, and
    /// while the history is too short.
    #[schema(minimum = 0, maximum = 1, example = 0.86)]
    p_value: Option<f64>,
}

/// List event sources with their usual volume.
///
/// All replicas write their counts every `sources.check_seconds`. Sources
/// with a revoked key are left out.
#[utoipa::path(
    get,
    path = "/v1/sources",
    tag = "Event sources",
    security(("key" = ["read"])),
    params(EventSourceListQuery),
    responses((status = 200, body = EventSourceListBody, description = "Sources"))
)]
pub(crate) async fn list_sources(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    QueryParameters(query): QueryParameters<EventSourceListQuery>,
) -> Result<Json<EventSourceListBody>, ApiError> {
    let limit = query.limit.get();
    let mut sources: Vec<EventSourceBody> =
        state.sources.assess_sources().await?.into_iter().map(EventSourceBody::new).collect();
    sources.sort_by_cached_key(EventSourceBody::sort_key);
    if let Some(PageCursor(after)) = query.cursor {
        sources.retain(|source| source.sort_key() > after);
    }
    sources.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let next_cursor = PageCursor::after(&sources, limit, EventSourceBody::sort_key);
    Ok(Json(EventSourceListBody { sources, next_cursor }))
}

impl EventSourceBody {
    fn new(AssessedSource { source, assessment }: AssessedSource) -> Self {
        Self {
            endpoint: source.endpoint.as_str(),
            key_id: source.key_id,
            key_name: source.name,
            status: assessment.status.as_str(),
            first_event_at: source.volume.first_at,
            last_event_at: source.volume.last_at,
            this_hour: assessment.this_hour.into(),
            last_hour: assessment.last_hour.into(),
            usual_gap_seconds: assessment.usual_gap_millis.map(millis_to_seconds),
            silent_at: assessment.silent_at,
        }
    }

    fn sort_key(&self) -> EndpointAndKey {
        (self.endpoint.to_owned(), self.key_id.clone())
    }
}

impl From<HourlyVolume> for HourlyVolumeBody {
    fn from(volume: HourlyVolume) -> Self {
        Self {
            hour: volume.hour,
            events: volume.events,
            usual_events: volume.usual,
            p_value: volume.p_value,
        }
    }
}

fn millis_to_seconds(millis: i64) -> f64 {
    std::time::Duration::from_millis(millis.unsigned_abs()).as_secs_f64()
}

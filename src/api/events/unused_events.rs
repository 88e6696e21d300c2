//! `GET /v1/events/unused`: accepted events that no feature uses.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::request::page::{PageCursor, PageLimit};
use crate::api::request::{AuthorizedCaller, QueryParameters, Read};
use crate::api::{ApiError, ApiState};
use crate::domain::time::Timestamp;
use crate::store::unused_events::{UnusedEventPosition, UnusedEventRow};

/// Sort key of the list: reason, event type, name, nearest name and property.
type UnusedEventKey = (String, String, String, String, String);

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct UnusedEventListQuery {
    /// Names per page.
    #[serde(default)]
    #[param(inline)]
    limit: PageLimit<100, 400>,
    /// `next_cursor` of the previous page.
    #[param(value_type = Option<String>)]
    cursor: Option<PageCursor<UnusedEventKey>>,
}

/// A page of unused events, ordered by reason, type, name and property.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UnusedEventListBody {
    unused_events: Vec<UnusedEventBody>,
    /// Number of events whose names are not listed: 200 names are kept for each reason, and
    /// events of further names are counted together.
    #[schema(example = 0)]
    further_events: u64,
    /// The `cursor` of the next page; null on the last page.
    next_cursor: Option<String>,
}

/// Accepted events of one type and name that no feature uses.
#[derive(Debug, Serialize, ToSchema)]
struct UnusedEventBody {
    #[schema(value_type = UnusedReasonBody)]
    reason: String,
    /// Type of the events.
    #[schema(value_type = UnusedEventTypeBody)]
    r#type: String,
    /// Name of the events; null if they have none, or if `ingestion.stored_event_names` excludes
    /// it. Names longer than 200 bytes are shortened.
    #[schema(example = "order completed")]
    name: Option<String>,
    /// The declared name that was probably meant; null if none is similar.
    #[schema(example = "Order Completed")]
    nearest_name: Option<String>,
    /// The missing property; null if no feature reads the event.
    property: Option<String>,
    /// Number of accepted events.
    #[schema(example = 118)]
    events: u64,
    /// Receipt of the first event.
    first_event_at: Timestamp,
    /// Receipt of the last event.
    last_event_at: Timestamp,
    /// The warning in the result of the last event.
    #[schema(example = "no feature reads `order completed`; did you mean `Order Completed`?")]
    warning: String,
}

/// Why the events are not used. `unread`: no feature and no trait reads them.
/// `missing_property`: a feature reads them, and the property that it needs is missing.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "names a schema only")]
enum UnusedReasonBody {
    Unread,
    MissingProperty,
}

/// Type of an event that can be unused.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "names a schema only")]
enum UnusedEventTypeBody {
    Identify,
    Track,
    Page,
    Screen,
    Group,
}

/// List accepted events that no feature uses.
///
/// Most often their name is misspelt, or a property is missing. By default, names that no feature
/// selects by are not stored (`ingestion.stored_event_names`): their events are counted by the name
/// that was probably meant. Counts are summed over all replicas, which store them every minute. Names are
/// deleted 35 days after their last event.
#[utoipa::path(
    get,
    path = "/v1/events/unused",
    tag = "Events",
    security(("key" = ["read"])),
    params(UnusedEventListQuery),
    responses((status = 200, body = UnusedEventListBody, description = "Unused events"))
)]
pub(crate) async fn list_unused_events(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    QueryParameters(query): QueryParameters<UnusedEventListQuery>,
) -> Result<Json<UnusedEventListBody>, ApiError> {
    let limit = query.limit.get();
    let after = query.cursor.map(|PageCursor(key)| position(key)).unwrap_or_default();
    let page = state.ingestion.unused_events().list(&after, limit).await?;
    let next_cursor = PageCursor::after(&page.rows, limit, sort_key);
    Ok(Json(UnusedEventListBody {
        unused_events: page.rows.into_iter().map(Into::into).collect(),
        further_events: page.further_events,
        next_cursor,
    }))
}

fn position(key: UnusedEventKey) -> UnusedEventPosition {
    let (reason, event_type, name, nearest_name, property) = key;
    UnusedEventPosition { reason, event_type, name, nearest_name, property }
}

fn sort_key(row: &UnusedEventRow) -> UnusedEventKey {
    let UnusedEventPosition { reason, event_type, name, nearest_name, property } =
        row.position.clone();
    (reason, event_type, name, nearest_name, property)
}

impl From<UnusedEventRow> for UnusedEventBody {
    fn from(row: UnusedEventRow) -> Self {
        let UnusedEventPosition { reason, event_type, name, nearest_name, property } = row.position;
        Self {
            reason,
            r#type: event_type,
            name: non_empty(name),
            nearest_name: non_empty(nearest_name),
            property: non_empty(property),
            events: row.events,
            first_event_at: row.first_at,
            last_event_at: row.last_at,
            warning: row.warning,
        }
    }
}

fn non_empty(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

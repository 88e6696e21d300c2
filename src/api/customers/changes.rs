//! `GET /v1/changes`: the feed of changes of segment and audience, by page, by long polling, or as
//! server-sent events.

use std::time::Duration;

use axum::body::Body as HttpBody;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::customers::group_filter::{refuse_unknown_audience, refuse_unknown_segment};
use crate::api::request::page::PageLimit;
use crate::api::request::{AuthorizedCaller, QueryParameters, Read, heavy_work};
use crate::api::{ApiError, ApiState};
use crate::domain::fault::{ValidationFault, ValidationFaults};
use crate::domain::id::ModelId;
use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::service::change_cursor::{decode_cursor, encode_cursor};
use crate::service::change_feed::{ChangeFilter, ChangePage, ChangeReader, StartPosition};
use crate::service::limits::resource_user::ResourceUser;
use crate::store::customers::changes::{AssignmentChange, ChangeSide};

const MAX_WAIT_SECONDS: u64 = 60;
/// Interval of heartbeats, so that proxies do not close an idle stream.
const HEARTBEAT: Duration = Duration::from_secs(15);
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ChangeListQuery {
    /// `next_cursor` of a page, `cursor` of a change, or the id of a server-sent event; `now` for
    /// changes from now on. Default: the oldest stored change.
    #[param(example = "now")]
    cursor: Option<String>,
    /// Only changes into or out of this segment.
    #[param(example = "seg_5f2c8d10b7a94e36")]
    segment_id: Option<String>,
    /// Only changes into or out of this audience. With `segment_id`: changes of either.
    #[param(example = "vip_at_risk")]
    audience: Option<String>,
    /// Leave out changes of the model alone, without a change of segment or audience; default true.
    /// With `segment_id` or `audience` they are always left out.
    moves_only: Option<bool>,
    /// Changes per page.
    #[serde(default)]
    #[param(inline)]
    limit: PageLimit<500, 1000>,
    /// Maximum wait for a first change, in seconds.
    #[serde(default)]
    #[param(maximum = 60)]
    wait_seconds: u64,
}

/// A page of changes, oldest first. A page can have fewer changes than `limit`,
/// also none, although `more` is true.
#[derive(Debug, Serialize, ToSchema)]
struct ChangeListBody {
    changes: Vec<AssignmentChangeBody>,
    /// The `cursor` of the next page. Valid also after a restore of the database.
    #[schema(example = "0100000000000002f30000000000000011d27f")]
    next_cursor: String,
    /// Whether further changes are available now: request the next page at once.
    more: bool,
    /// Whether changes after the requested cursor are missing, because retention deleted them:
    /// start over from an export.
    gap: bool,
}

/// A change of segment, model or audiences of one customer; also the data of a server-sent event.
#[derive(Debug, Serialize, ToSchema)]
struct AssignmentChangeBody {
    /// Position just after this change: send it as `cursor` to continue here.
    #[schema(example = "0100000000000002f30000000000000011d27f")]
    cursor: String,
    /// Id of the customer.
    #[schema(example = "1510")]
    customer_id: String,
    /// Instant of the change.
    changed_at: Timestamp,
    #[serde(flatten)]
    now: AssignedSegmentBody,
    /// Distance to the segment, in encoded units; null for the rule-based fallback.
    #[schema(example = 0.42)]
    distance: Option<f32>,
    /// Whether the customer is an outlier.
    outlier: bool,
    /// Number of the deployment that scored.
    #[schema(example = 7)]
    generation: i64,
    /// The assignment before the change; null for the first assignment of a customer.
    previous: Option<AssignedSegmentBody>,
    /// Names of the audiences that the customer entered; left out if there are none. If the segment
    /// and the model are those before, only audiences changed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(example = json!(["vip_at_risk"]))]
    audiences_entered: Vec<String>,
    /// Names of the audiences that the customer left; left out if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(example = json!(["new_customers"]))]
    audiences_left: Vec<String>,
    /// The surviving id: `customer_id` was merged into it and must not be counted any more. Left
    /// out for other changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "1510")]
    merged_into: Option<String>,
}

/// A segment, and the model that assigned it.
#[derive(Debug, Serialize, ToSchema)]
struct AssignedSegmentBody {
    /// Id of the segment; `unassigned` outside of every segment.
    #[schema(example = "seg_5f2c8d10b7a94e36")]
    segment_id: String,
    /// Name of the segment.
    #[schema(example = "Loyal Customers")]
    segment_name: String,
    /// Id of the model; null for the rule-based fallback.
    #[schema(value_type = Option<String>, example = "6c1f0a5e7d2b4c93a8e0f1d25b7c6a4983de12f07b5c4a69d8e3f01c2b7a5d64")]
    model_id: Option<ModelId>,
    /// Whether the rule-based fallback answered.
    fallback: bool,
}

impl From<ChangeSide> for AssignedSegmentBody {
    fn from(side: ChangeSide) -> Self {
        Self {
            segment_id: side.segment.id.into(),
            segment_name: side.segment.name.into(),
            model_id: side.model,
            fallback: side.fallback,
        }
    }
}

impl From<AssignmentChange> for AssignmentChangeBody {
    fn from(change: AssignmentChange) -> Self {
        Self {
            cursor: encode_cursor(change.position),
            customer_id: change.customer,
            changed_at: change.changed_at,
            now: change.now.into(),
            distance: change.distance,
            outlier: change.outlier,
            generation: change.generation,
            previous: change.before.map(Into::into),
            audiences_entered: change.audiences_entered,
            audiences_left: change.audiences_left,
            merged_into: change.merged_into,
        }
    }
}

/// Follow the changes of segment and audience of all customers.
///
/// A page, a long poll (`wait_seconds`), or server-sent events (`Accept: text/event-stream`),
/// oldest change first. The changes of one customer are in order. Cursors stay valid after a
/// restore of the database. After 410, request `cursor=now`, take an export, and continue from the
/// `next_cursor` of that response.
///
/// An event has the name `change`, the cursor just after the change as its id, and an
/// `AssignmentChange` as its data. An event `gap` says that retention deleted changes.
#[utoipa::path(
    get,
    path = "/v1/changes",
    tag = "Changes",
    security(("key" = ["read"])),
    params(
        ChangeListQuery,
        ("Last-Event-ID" = Option<String>, Header, description = "For server-sent events: id of the last \
         received event, which overrides `cursor`"),
    ),
    responses(
        (
            status = 200,
            description = "Changes",
            content((ChangeListBody = "application/json"), (String = "text/event-stream")),
        ),
        (status = 410, description = "A restore of the database lost the change of the cursor"),
    )
)]
pub(crate) async fn list_changes(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Read>,
    QueryParameters(query): QueryParameters<ChangeListQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let accepted = header_text(&headers, header::ACCEPT);
    let as_events = accepted.is_some_and(|kinds| kinds.contains("text/event-stream"));
    // Sent by a client that reconnects: newer than the cursor in its URL.
    let resumed = header_text(&headers, LAST_EVENT_ID).filter(|id| as_events && !id.is_empty());
    let FeedOptions { start, limit, wait } =
        FeedOptions::new(&query, resumed).map_err(ServiceError::Invalid)?;
    refuse_unknown_segment(&state, query.segment_id.as_deref()).await?;
    refuse_unknown_audience(&state, query.audience.as_deref()).await?;
    let filter = ChangeFilter {
        segment_id: query.segment_id,
        audience: query.audience,
        moves_only: query.moves_only.unwrap_or(true),
    };
    let key_id = &caller.principal.key_id;
    let mut reader = state.change_feed.open_reader(key_id, start, filter, limit).await?;
    let user = caller.user();
    if as_events {
        return Ok(event_stream(state, user, reader));
    }
    let page = reader.next_page(wait).await?;
    let is_heavy = page.changes.len() > HEAVY_PAGE_CHANGES;
    let json = heavy_work::run(&state, user, is_heavy, move |_| page_json(page)).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response())
}

/// Changes that are serialised in about half a millisecond.
const HEAVY_PAGE_CHANGES: usize = 200;

fn page_json(page: ChangePage) -> Result<Vec<u8>, ApiError> {
    let body = ChangeListBody {
        next_cursor: encode_cursor(page.next_position),
        more: page.has_more,
        gap: page.has_gap,
        changes: page.changes.into_iter().map(Into::into).collect(),
    };
    Ok(serde_json::to_vec(&body).map_err(ServiceError::internal)?)
}

fn header_text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Validated parameters of the feed.
struct FeedOptions {
    start: StartPosition,
    limit: usize,
    wait: Duration,
}

impl FeedOptions {
    /// `resumed`: the cursor in `Last-Event-ID`, which overrides `cursor`.
    fn new(query: &ChangeListQuery, resumed: Option<&str>) -> Result<Self, ValidationFaults> {
        let mut faults = ValidationFaults::default();
        let (field, cursor) = match resumed {
            Some(id) => ("Last-Event-ID", Some(id)),
            None => ("cursor", query.cursor.as_deref()),
        };
        let start = match cursor {
            None => StartPosition::Oldest,
            Some("now") => StartPosition::Now,
            Some(text) => decode_cursor(text).map_or(StartPosition::Oldest, StartPosition::After),
        };
        if start == StartPosition::Oldest && cursor.is_some() {
            let problem = "is not a cursor: send a cursor from a response, `now`, or nothing";
            faults.push(ValidationFault::new(field, problem));
        }
        let wait = query.wait_seconds;
        if wait > MAX_WAIT_SECONDS {
            let range = format!("must be from 0 to {MAX_WAIT_SECONDS}");
            faults.push(ValidationFault::new("wait_seconds", range));
        }
        let limit = usize::try_from(query.limit.get()).unwrap_or(1);
        faults.into_result(Self { start, limit, wait: Duration::from_secs(wait) })
    }
}

/// Server-sent events (WHATWG HTML, section 9.2) with backpressure: the next page is read
/// from Postgres after the client has received the last one. Ends when the process stops.
fn event_stream(state: ApiState, user: ResourceUser, reader: ChangeReader) -> Response {
    let stream = ChangeStream { state, user, reader };
    let pages = stream::unfold(Some(stream), async |stream| {
        let mut stream = stream.filter(|stream| !stream.reader.is_stopping())?;
        match stream.next().await {
            Ok(events) => Some((Ok(events), Some(stream))),
            Err(error) => {
                // The client reconnects, and then receives the error as a problem document.
                error.log_aborted_response("/v1/changes");
                Some((Err(std::io::Error::other(error.detail().to_owned())), None))
            }
        }
    });
    let headers =
        [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    (headers, HttpBody::from_stream(pages)).into_response()
}

/// A client of server-sent events.
struct ChangeStream {
    state: ApiState,
    user: ResourceUser,
    reader: ChangeReader,
}

impl ChangeStream {
    /// Reads the next page as events.
    async fn next(&mut self) -> Result<Bytes, ApiError> {
        let page = self.reader.next_page(HEARTBEAT).await?;
        let is_heavy = page.changes.len() > HEAVY_PAGE_CHANGES;
        heavy_work::run(&self.state, self.user, is_heavy, move |_| Ok(page_events(page))).await
    }
}

fn page_events(page: ChangePage) -> Bytes {
    let mut out = Vec::new();
    if page.has_gap {
        out.extend_from_slice(b"event: gap\ndata: {}\n\n");
    }
    for change in page.changes {
        let change = AssignmentChangeBody::from(change);
        let start = out.len();
        out.extend_from_slice(b"id: ");
        out.extend_from_slice(change.cursor.as_bytes());
        out.extend_from_slice(b"\nevent: change\ndata: ");
        // Serialising text and numbers into memory cannot fail, and adds no line break.
        match serde_json::to_writer(&mut out, &change) {
            Ok(()) => out.extend_from_slice(b"\n\n"),
            Err(_) => out.truncate(start),
        }
    }
    // An id without data is not an event. It advances the client's position even if the
    // filter dropped every change, and is the heartbeat.
    out.extend_from_slice(b"id: ");
    out.extend_from_slice(encode_cursor(page.next_position).as_bytes());
    out.extend_from_slice(b"\n\n");
    out.into()
}

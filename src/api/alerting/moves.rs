//! Webhook `customer.moves`, for the OpenAPI document: the message that a channel with the topic
//! `moves` receives. `outbound::moves` renders it.

use utoipa::openapi::path::Operation;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, Path, ToSchema};

use crate::domain::time::Timestamp;

/// Moves of customers between segments and audiences, in the envelope `standard`. In the envelope
/// `cloudevents_structured`, `data` is the member `data`; in `cloudevents_binary` it is the body.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes a message only")]
struct CustomerMovesMessageBody {
    /// Always `customer.moves`.
    #[schema(example = "customer.moves")]
    r#type: String,
    /// Instant of the last event.
    timestamp: Timestamp,
    data: CustomerMovesBody,
}

/// Events of at most 50 moves, in the order of the change feed.
#[derive(ToSchema)]
#[schema(example = json!({ "events": [
    { "type": "segment.left", "customer_id": "1510", "segment_id": "seg_5f2c8d10b7a94e36",
      "segment_name": "Loyal Customers", "changed_at": "2026-03-01T09:30:00.000Z",
      "cursor": "0100000000000002f30000000000000011d27f" },
    { "type": "segment.entered", "customer_id": "1510", "segment_id": "seg_0b1e6c44d9a37f52",
      "segment_name": "Lost", "changed_at": "2026-03-01T09:30:00.000Z",
      "cursor": "0100000000000002f30000000000000011d27f" },
    { "type": "audiences.changed", "customer_id": "1510", "audiences_entered": ["vip_at_risk"],
      "audiences_left": ["new_customers"], "changed_at": "2026-03-01T09:30:00.000Z",
      "cursor": "0100000000000002f30000000000000011d27f" },
], "gap": false }))]
#[expect(dead_code, reason = "describes a message only")]
struct CustomerMovesBody {
    /// The events. A move from one segment to another is `segment.left`, then `segment.entered`.
    events: Vec<CustomerMoveEventBody>,
    /// Whether moves before the first event may be missing, because retention deleted them or the
    /// database was restored: start over from an export.
    #[schema(example = false)]
    gap: bool,
}

/// A customer left or entered a segment, or changed audiences.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes a message only")]
struct CustomerMoveEventBody {
    r#type: MoveEventTypeBody,
    /// Id of the customer.
    #[schema(example = "1510")]
    customer_id: String,
    /// Id of the segment that was left or entered; `unassigned` outside of every segment. Left out
    /// for audiences.
    #[schema(required = false, example = "seg_5f2c8d10b7a94e36")]
    segment_id: String,
    /// Name of the segment. Left out for audiences.
    #[schema(required = false, example = "Loyal Customers")]
    segment_name: String,
    /// Names of the audiences that the customer entered. Left out for segments.
    #[schema(required = false, example = json!(["vip_at_risk"]))]
    audiences_entered: Vec<String>,
    /// Names of the audiences that the customer left. Left out for segments.
    #[schema(required = false, example = json!(["new_customers"]))]
    audiences_left: Vec<String>,
    /// Instant of the change.
    changed_at: Timestamp,
    /// Position of the change in `GET /v1/changes`, the same text as its `cursor`. All events of
    /// a change have the same one. An event with a known `cursor` and `type` is a repetition.
    #[schema(example = "0100000000000002f30000000000000011d27f")]
    cursor: String,
    /// The surviving id: `customer_id` was merged into it, left its segment and enters none. Left
    /// out for other moves.
    #[schema(required = false, example = "1511")]
    merged_into: String,
}

/// Type of an event about a move.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes a message only")]
enum MoveEventTypeBody {
    #[schema(rename = "segment.left")]
    SegmentLeft,
    #[schema(rename = "segment.entered")]
    SegmentEntered,
    #[schema(rename = "audiences.changed")]
    AudiencesChanged,
}

/// Receive the moves of customers.
///
/// A move is from one segment to another, or into or out of an audience.
///
/// segmentd sends it to the webhook of each channel with the topic `moves`, signed by Standard
/// Webhooks. A message is repeated until the receiver answers with a 2xx status, so an event can
/// arrive twice; the events of one customer are in order. The first message has the moves after
/// the channel received the topic.
#[utoipa::path(
    post,
    path = "customer.moves",
    operation_id = "receive_customer_moves",
    params(
        ("webhook-id" = String, Header, description = "Id of the message, equal for each attempt \
         to send the same events"),
        ("webhook-timestamp" = i64, Header, description = "Time of the attempt, in seconds since \
         1970"),
        ("webhook-signature" = String, Header, description = "A signature for each secret of the \
         channel"),
    ),
    request_body = CustomerMovesMessageBody,
    responses(
        (status = 204, description = "The message is accepted; any other 2xx status accepts it too"),
        (status = 410, description = "The channel is disabled"),
    )
)]
#[expect(dead_code, reason = "describes a request of segmentd to a receiver")]
fn receive_customer_moves() {}

/// The operation of the webhook.
pub(in crate::api) fn webhook_operation() -> Operation {
    let mut operation = __path_receive_customer_moves::operation();
    operation.tags = Some(vec!["Channels".to_owned()]);
    operation
}

/// The schemas of the message.
pub(in crate::api) fn webhook_schemas() -> Vec<(String, RefOr<Schema>)> {
    let mut schemas =
        vec![(CustomerMovesMessageBody::name().into_owned(), CustomerMovesMessageBody::schema())];
    CustomerMovesMessageBody::schemas(&mut schemas);
    schemas
}

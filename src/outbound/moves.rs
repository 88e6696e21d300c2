//! Webhook messages with moves of customers, in the envelopes of [`super::webhook`].

use serde_json::{Value, json};

use super::HttpMessage;
use super::webhook::{self, EventAttributes};
use crate::domain::alert::{SigningKey, WebhookEnvelope};
use crate::domain::customer_move::{MOVES_MESSAGE_TYPE, MoveEvent, MoveKind, MovesMessage};
use crate::domain::time::Timestamp;

/// Bytes of events in one message. The rest of the recommended size is for the envelope.
pub(crate) const MAX_EVENT_BYTES: usize = webhook::MAX_BYTES - 1000;

/// Builds the request with one signature per key.
pub fn moves_message(
    format: WebhookEnvelope,
    keys: &[SigningKey],
    moves: &MovesMessage,
    now: Timestamp,
) -> HttpMessage {
    let attributes = EventAttributes {
        id: &moves.message_id,
        event_type: MOVES_MESSAGE_TYPE.to_owned(),
        time: moves.at,
        subject: None,
        link: moves.external_url.as_deref(),
    };
    let events: Vec<_> = moves.events.iter().map(event_data).collect();
    let data = json!({ "events": events, "gap": moves.has_gap });
    let body = webhook::envelope_body(format, &attributes, data).to_string().into_bytes();
    let mut message = webhook::envelope_message(format, &attributes, body);
    webhook::sign(&mut message, keys, &moves.message_id, now);
    message
}

/// Size of an event within a message.
pub(crate) fn event_bytes(event: &MoveEvent) -> usize {
    event_data(event).to_string().len() + ",".len()
}

fn event_data(event: &MoveEvent) -> Value {
    let mut data = json!({
        "type": event.event_type(),
        "customer_id": event.customer_id,
        "changed_at": event.changed_at,
        "cursor": event.cursor,
    });
    match &event.kind {
        MoveKind::Segment { segment, .. } => {
            data["segment_id"] = (*segment.id).into();
            data["segment_name"] = (*segment.name).into();
        }
        MoveKind::Audiences { entered, left } => {
            data["audiences_entered"] = entered.as_slice().into();
            data["audiences_left"] = left.as_slice().into();
        }
    }
    if let Some(survivor) = &event.merged_into {
        data["merged_into"] = survivor.as_str().into();
    }
    data
}

//! Parsing and validation of messages, and removal of properties that no feature reads.

use crate::domain::fault::ValidationFaults;
use crate::domain::id::MessageId;
use crate::domain::time::Timestamp;
use crate::domain::wire::elements::JsonElement;
use crate::domain::wire::original::OriginalMessage;
use crate::domain::wire::{EventLimits, ParsedMessage, native, segment, syntax_fault};
use crate::service::failed_events::{RejectedEvent, TRUNCATED_EVENT_BYTES};
use crate::service::ingestion::IngestionService;
use crate::service::limits::heavy::Cancellation;
use crate::service::random;

impl IngestionService {
    /// Parses and validates one event in segmentd's native format.
    pub fn read(
        &self,
        event: JsonElement<'_>,
        received_at: Timestamp,
    ) -> Result<ParsedMessage, RejectedEvent> {
        self.parse_event_within(&self.settings.validation_limits, event, received_at, new_id)
    }

    /// Parses and validates the messages of a body in the Segment format. Returns one
    /// result per message, in order; fewer if the request is cancelled meanwhile.
    pub(crate) fn parse_segment_messages(
        &self,
        body: &segment::SegmentRequestBody<'_>,
        received_at: Timestamp,
        cancellation: &Cancellation,
    ) -> Vec<Result<ParsedMessage, RejectedEvent>> {
        let deployment = self.core.serving.current();
        let limits = &self.settings.validation_limits;
        let mut results = Vec::new();
        for (index, message) in body.read(received_at, limits, new_id).enumerate() {
            if cancellation.is_cancelled() {
                break;
            }
            let admitted = message.and_then(|message| self.minimize(&deployment, message));
            results.push(match admitted {
                Ok(mut message) => {
                    message.original = Some(body.original_message(index));
                    Ok(message)
                }
                Err(faults) => Err(refused(body, index, faults, limits)),
            });
        }
        results
    }

    pub(crate) fn parse_event_within(
        &self,
        limits: &EventLimits,
        event: JsonElement<'_>,
        received_at: Timestamp,
        new_id: impl FnOnce() -> Option<MessageId>,
    ) -> Result<ParsedMessage, RejectedEvent> {
        let raw = event.bytes();
        if raw.len() > limits.max_event_bytes {
            return Err(self.reject_too_large(raw));
        }
        let parsed = match event {
            JsonElement::Valid(event) => native::parse_event(event, received_at, limits, new_id),
            JsonElement::Broken { error, .. } => Err(syntax_fault(error)),
        };
        let mut message = parsed
            .and_then(|message| self.minimize(&self.core.serving.current(), message))
            .map_err(|faults| RejectedEvent::new(faults, raw))?;
        message.original = Some(OriginalMessage::Native(raw.into()));
        Ok(message)
    }

    /// Rejection of an event that is too large and begins with `head`.
    pub(crate) fn reject_too_large(&self, head: &[u8]) -> RejectedEvent {
        let most = self.settings.validation_limits.max_event_bytes;
        let problem = format!("is larger than {most} bytes (ingestion.max_event_bytes)");
        RejectedEvent::truncated(ValidationFaults::single("event", problem), head)
    }
}

/// A rejected message of the Segment format, as it is stored. A message that is too large
/// is not parsed for this: its parsed form may take more than a hundred times the memory.
fn refused(
    body: &segment::SegmentRequestBody<'_>,
    index: usize,
    faults: ValidationFaults,
    limits: &EventLimits,
) -> RejectedEvent {
    if body.message_bytes(index) > limits.max_event_bytes {
        return RejectedEvent::truncated(faults, body.message_head(index, TRUNCATED_EVENT_BYTES));
    }
    let kept = body.to_stored_message(index);
    if kept.len() > limits.max_event_bytes {
        RejectedEvent::truncated(faults, &kept)
    } else {
        RejectedEvent::new(faults, &kept)
    }
}

/// A random message id for an event that arrived without one.
fn new_id() -> Option<MessageId> {
    random::hex_token::<16>().ok()?.parse().ok()
}

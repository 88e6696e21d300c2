//! Parsing and validation of messages, and removal of properties that no feature reads.

use serde_json::Value;

use crate::domain::fault::Faults;
use crate::domain::id::MessageId;
use crate::domain::time::Timestamp;
use crate::domain::wire::{Limits, Message, native, segment};
use crate::service::failed_events::{HEAD_BYTES, Refused};
use crate::service::ingestion::Intake;
use crate::service::limits::heavy::Cancellation;
use crate::service::random;

impl Intake {
    /// Parses and validates one event in segmentd's native format.
    pub fn read(&self, raw: &[u8], received_at: Timestamp) -> Result<Message, Refused> {
        self.read_within(self.settings.limits, raw, received_at, new_id)
    }

    /// Parses and validates the messages of a body in the Segment format. Returns one
    /// result per message, in order; fewer if the request is cancelled meanwhile.
    pub fn read_segment(
        &self,
        body: &segment::Body<'_>,
        received_at: Timestamp,
        cancellation: &Cancellation,
    ) -> Vec<Result<Message, Refused>> {
        let lineup = self.core.live.lineup();
        let limits = self.settings.limits;
        let messages = body.read(received_at, limits, new_id).enumerate();
        let admitted =
            messages.take_while(|_| !cancellation.is_cancelled()).map(|(index, message)| {
                let mut message = message
                    .and_then(|message| self.admit(&lineup, message))
                    .map_err(|faults| refused(body, index, faults, limits))?;
                let text = || String::from_utf8_lossy(&body.kept(index)).into();
                message.raw = message.link.is_some().then(text);
                Ok(message)
            });
        admitted.collect()
    }

    pub(crate) fn read_within(
        &self,
        limits: Limits,
        raw: &[u8],
        received_at: Timestamp,
        new_id: impl FnOnce() -> Option<MessageId>,
    ) -> Result<Message, Refused> {
        if raw.len() > limits.max_event_bytes {
            return Err(self.too_large(raw));
        }
        let read = || {
            let value: Value = serde_json::from_slice(raw)
                .map_err(|error| Faults::one("event", format!("cannot be read; {error}")))?;
            let message = native::parse(&value, received_at, limits, new_id)?;
            let mut message = self.admit(&self.core.live.lineup(), message)?;
            message.raw = message.link.is_some().then(|| String::from_utf8_lossy(raw).into());
            Ok(message)
        };
        read().map_err(|faults| Refused::new(faults, raw))
    }

    /// Rejection of an event that is too large and begins with `head`.
    pub fn too_large(&self, head: &[u8]) -> Refused {
        let most = self.settings.limits.max_event_bytes;
        let problem = format!("is larger than {most} bytes (intake.max_event_bytes)");
        Refused::cut_short(Faults::one("event", problem), head)
    }
}

/// A rejected message of the Segment format, as it is stored. A message that is too large
/// is not parsed for this: its parsed form may take more than a hundred times the memory.
fn refused(body: &segment::Body<'_>, index: usize, faults: Faults, limits: Limits) -> Refused {
    if body.bytes(index) > limits.max_event_bytes {
        return Refused::cut_short(faults, body.head(index, HEAD_BYTES));
    }
    let kept = body.kept(index);
    if kept.len() > limits.max_event_bytes {
        Refused::cut_short(faults, &kept)
    } else {
        Refused::new(faults, &kept)
    }
}

/// A random message id for an event that arrived without one.
fn new_id() -> Option<MessageId> {
    random::token::<16>().ok()?.parse().ok()
}

//! Field checks that every JSON form of an event shares. Each check records its fault and
//! continues, so that every fault of an event is reported.

use serde_json::{Map, Value};

use crate::domain::event::Properties;
use crate::domain::fault::{ValidationFault, ValidationFaults};
use crate::domain::id::{CustomerKey, InvalidId, MessageId};
use crate::domain::text::{NUL_PROBLEM, is_storable};
use crate::domain::time::Timestamp;
use crate::domain::wire::EventLimits;

/// Earliest plausible instant of an event. An earlier one is a mistaken unit (seconds for
/// milliseconds).
const EARLIEST: Timestamp = Timestamp::from_millis(365 * 86_400_000);

/// The fields of one event, and the faults found so far.
pub(super) struct EventFields<'v> {
    object: &'v Map<String, Value>,
    pub(super) faults: ValidationFaults,
}

impl<'v> EventFields<'v> {
    pub(super) fn open(value: &'v Value) -> Result<Self, ValidationFaults> {
        match value {
            Value::Object(object) => Ok(Self { object, faults: ValidationFaults::default() }),
            _ => Err(ValidationFaults::single("event", "must be a JSON object")),
        }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &'v str> + use<'v> {
        self.object.keys().map(String::as_str)
    }

    pub(super) fn get(&self, field: &str) -> Option<&'v Value> {
        self.object.get(field)
    }

    pub(super) fn fault(&mut self, field: &str, problem: impl Into<String>) {
        self.faults.push(ValidationFault::new(field, problem));
    }

    pub(super) fn text(&mut self, field: &str) -> Option<&'v str> {
        self.text_of(field, self.get(field)?)
    }

    fn text_of<'t>(&mut self, field: &str, value: &'t Value) -> Option<&'t str> {
        match value {
            Value::Null => None,
            Value::String(text) if !is_storable(text) => {
                self.fault(field, NUL_PROBLEM);
                Some(text)
            }
            Value::String(text) => Some(text),
            _ => {
                self.fault(field, "must be a string");
                None
            }
        }
    }

    pub(super) fn id<T: std::str::FromStr<Err = InvalidId>>(
        &mut self,
        field: &str,
        text: &str,
    ) -> Option<T> {
        text.parse().map_err(|why: InvalidId| self.fault(field, why.0)).ok()
    }

    /// The customer id in a text field.
    pub(super) fn customer(&mut self, field: &str) -> Option<CustomerKey> {
        let text = self.text(field)?;
        self.id(field, text)
    }

    /// Whether a field is absent or null.
    pub(super) fn is_absent(&self, field: &str) -> bool {
        self.get(field).is_none_or(Value::is_null)
    }

    /// The sender's id of the event; without one, a generated id.
    pub(super) fn message_id(
        &mut self,
        field: &str,
        text: Option<&str>,
        new_id: impl FnOnce() -> Option<MessageId>,
    ) -> Option<MessageId> {
        match text {
            Some(text) => self.id(field, text),
            None => new_id().or_else(|| {
                self.fault(field, "could not be generated: send one");
                None
            }),
        }
    }

    pub(super) fn instant(&mut self, field: &str) -> Option<Timestamp> {
        self.instant_of(field, self.get(field)?)
    }

    /// Parses an instant from elsewhere, such as the `sentAt` of a batch, which applies to all
    /// of its messages.
    pub(super) fn instant_of(&mut self, field: &str, value: &Value) -> Option<Timestamp> {
        let text = self.text_of(field, value)?;
        let instant = Timestamp::parse(text);
        if instant.is_none() {
            self.fault(field, "must be an RFC 3339 instant such as 2017-01-01T11:53:26Z");
        }
        instant
    }

    /// The instant of the event by the receiver's clock, as the Segment spec defines it:
    /// `received_at - (sent_at - timestamp)` if `sent_at` is given. Without a `timestamp`, the
    /// instant of receipt.
    pub(super) fn happened(
        &mut self,
        timestamp: Option<Timestamp>,
        sent_at: Option<Timestamp>,
        received_at: Timestamp,
        limits: EventLimits,
    ) -> Timestamp {
        let happened = match (timestamp, sent_at) {
            (Some(timestamp), Some(sent_at)) => {
                received_at.plus_millis(timestamp.millis().saturating_sub(sent_at.millis()))
            }
            (Some(timestamp), None) => timestamp,
            (None, _) => received_at,
        };
        if happened > received_at.plus_millis(limits.max_future_millis) {
            let allowed = limits.max_future_millis / 1000;
            self.fault(
                "timestamp",
                format!("lies in the future; at most {allowed} s ahead of the clock is accepted"),
            );
        }
        if happened < EARLIEST {
            self.fault("timestamp", "lies before 1971: check the unit (seconds or milliseconds)");
        }
        happened
    }

    pub(super) fn properties(&mut self, field: &str, limits: EventLimits) -> Properties {
        let most = limits.max_property_depth;
        match self.get(field) {
            None | Some(Value::Null) => return Properties::default(),
            Some(Value::Object(map)) => match Properties::from_json(map, most) {
                Ok(properties) => return properties,
                Err(path) => self.fault(
                    &format!("{field}.{path}"),
                    format!("is nested too deeply: at most {most} objects"),
                ),
            },
            Some(_) => self.fault(field, "must be an object"),
        }
        Properties::default()
    }
}

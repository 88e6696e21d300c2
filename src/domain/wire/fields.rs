//! Field checks that every JSON form of an event shares. Each check records its fault and
//! continues, so that every fault of an event is reported.

use std::borrow::Cow;

use crate::domain::event::Properties;
use crate::domain::fault::{ValidationFault, ValidationFaults};
use crate::domain::id::{CustomerKey, InvalidId, MessageId};
use crate::domain::json::{JsonKind, JsonMember, RawJson};
use crate::domain::text::{NUL_PROBLEM, is_storable};
use crate::domain::time::Timestamp;
use crate::domain::wire::{EventLimits, ids};

/// Earliest plausible instant of an event. An earlier one is a mistaken unit (seconds for
/// milliseconds).
const EARLIEST: Timestamp = Timestamp::from_millis(365 * 86_400_000);

/// The fields of one event, with the faults and warnings found so far.
pub(super) struct EventFields<'v> {
    members: Vec<JsonMember<'v>>,
    /// Reasons to reject the event.
    pub(super) faults: ValidationFaults,
    /// Parts that are left out.
    pub(super) warnings: Vec<ValidationFault>,
}

/// A customer id as sent.
pub(super) enum SentId {
    /// Not sent, null or blank.
    Absent,
    /// Its fault is recorded.
    Invalid,
    /// A text that clients send in place of a missing id.
    Sentinel(String),
    Valid(CustomerKey),
}

/// The ids of an event: at least one is present.
pub(super) struct SentIds {
    pub(super) known: Option<CustomerKey>,
    pub(super) anonymous: Option<CustomerKey>,
}

impl<'v> EventFields<'v> {
    pub(super) fn open(event: RawJson<'v>) -> Result<Self, ValidationFaults> {
        match event.members() {
            Some(members) => Ok(Self {
                members: members.collect(),
                faults: ValidationFaults::default(),
                warnings: Vec::new(),
            }),
            None => Err(ValidationFaults::single("event", "must be a JSON object")),
        }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|member| &*member.name)
    }

    /// The value of a field; the last one, if it was sent several times.
    pub(super) fn get(&self, field: &str) -> Option<RawJson<'v>> {
        self.members.iter().rfind(|member| member.name == field).map(|member| member.value)
    }

    pub(super) fn fault(&mut self, field: &str, problem: impl Into<String>) {
        self.faults.push(ValidationFault::new(field, problem));
    }

    pub(super) fn text(&mut self, field: &str) -> Option<Cow<'v, str>> {
        let value = self.get(field)?;
        self.text_of(field, value)
    }

    fn text_of(&mut self, field: &str, value: RawJson<'v>) -> Option<Cow<'v, str>> {
        match (value.kind(), value.text()) {
            (JsonKind::Null, _) => None,
            (JsonKind::Text, None) => {
                self.fault(field, "must not contain an unpaired surrogate");
                None
            }
            (_, Some(text)) => {
                if !is_storable(&text) {
                    self.fault(field, NUL_PROBLEM);
                }
                Some(text)
            }
            (_, None) => {
                self.fault(field, "must be a string");
                None
            }
        }
    }

    /// An id as text ([`ids::id_text`]).
    pub(super) fn id_text(&mut self, field: &str) -> Option<Cow<'v, str>> {
        let text = ids::id_text(self.get(field)?).unwrap_or_else(|problem| {
            self.fault(field, problem);
            None
        })?;
        if !is_storable(&text) {
            self.fault(field, NUL_PROBLEM);
        }
        Some(text)
    }

    fn id<T: std::str::FromStr<Err = InvalidId>>(&mut self, field: &str, text: &str) -> Option<T> {
        text.parse().map_err(|why: InvalidId| self.fault(field, why.0)).ok()
    }

    /// The customer id in a field.
    pub(super) fn customer(&mut self, field: &str, limits: &EventLimits) -> SentId {
        let faults = self.faults.0.len();
        let Some(text) = self.id_text(field) else {
            return if self.faults.0.len() > faults { SentId::Invalid } else { SentId::Absent };
        };
        if limits.sentinel_ids.contains(&text) {
            return SentId::Sentinel(text.into());
        }
        self.id(field, &text).map_or(SentId::Invalid, SentId::Valid)
    }

    /// The ids of an event in the fields of the known and the anonymous id. A sentinel beside a
    /// proper id is ignored with a warning; as the only id it is a fault. `None` if a fault was
    /// recorded.
    pub(super) fn ids(
        &mut self,
        known: &str,
        anonymous: &str,
        limits: &EventLimits,
    ) -> Option<SentIds> {
        let ids = (self.customer(known, limits), self.customer(anonymous, limits));
        match ids {
            (SentId::Invalid, _) | (_, SentId::Invalid) => None,
            (SentId::Valid(id), SentId::Sentinel(text)) => {
                self.warn_of_sentinel(anonymous, &text);
                Some(SentIds { known: Some(id), anonymous: None })
            }
            (SentId::Sentinel(text), SentId::Valid(id)) => {
                self.warn_of_sentinel(known, &text);
                Some(SentIds { known: None, anonymous: Some(id) })
            }
            (SentId::Sentinel(text), _) => {
                self.fault_of_sentinel(known, &text);
                None
            }
            (_, SentId::Sentinel(text)) => {
                self.fault_of_sentinel(anonymous, &text);
                None
            }
            (SentId::Absent, SentId::Absent) => {
                self.fault(known, format!("is required, or else `{anonymous}`"));
                None
            }
            (SentId::Valid(known), SentId::Valid(anonymous)) => {
                Some(SentIds { known: Some(known), anonymous: Some(anonymous) })
            }
            (SentId::Valid(known), SentId::Absent) => {
                Some(SentIds { known: Some(known), anonymous: None })
            }
            (SentId::Absent, SentId::Valid(anonymous)) => {
                Some(SentIds { known: None, anonymous: Some(anonymous) })
            }
        }
    }

    /// The ids of an `alias` event in the fields of the customer's id and a previous one. A
    /// sentinel as the previous id is ignored with a warning. `None` if a fault was recorded.
    pub(super) fn alias_ids(
        &mut self,
        customer: &str,
        previous: &str,
        limits: &EventLimits,
    ) -> Option<(CustomerKey, Option<CustomerKey>)> {
        let id = match self.customer(customer, limits) {
            SentId::Valid(id) => Some(id),
            SentId::Invalid => None,
            SentId::Absent => {
                self.fault(customer, "is required for `alias`: the id that remains");
                None
            }
            SentId::Sentinel(text) => {
                self.fault_of_sentinel(customer, &text);
                None
            }
        };
        let previous_id = match self.customer(previous, limits) {
            SentId::Valid(id) => Some(id),
            SentId::Invalid => None,
            SentId::Absent => {
                self.fault(previous, "is required for `alias`: another id of the customer");
                None
            }
            SentId::Sentinel(text) => {
                self.warn_of_sentinel(previous, &text);
                None
            }
        };
        Some((id?, previous_id))
    }

    pub(super) fn warn_of_sentinel(&mut self, field: &str, text: &str) {
        let problem = format!("was ignored, as it names no customer; it is `{text}`");
        self.warnings.push(ValidationFault::new(field, problem));
    }

    pub(super) fn fault_of_sentinel(&mut self, field: &str, text: &str) {
        let problem = "names no customer, as many people share it (ingestion.sentinel_ids)";
        self.fault(field, format!("{problem}; it is `{text}`"));
    }

    /// The sender's id of the event; without one, a generated id.
    pub(super) fn message_id(
        &mut self,
        field: &str,
        new_id: impl FnOnce() -> Option<MessageId>,
    ) -> Option<MessageId> {
        let faults = self.faults.0.len();
        match self.id_text(field) {
            Some(text) => self.id(field, &text),
            None if self.faults.0.len() > faults => None,
            None => new_id().or_else(|| {
                self.fault(field, "could not be generated: send one");
                None
            }),
        }
    }

    pub(super) fn instant(&mut self, field: &str) -> Option<Timestamp> {
        let value = self.get(field)?;
        self.instant_of(field, value)
    }

    /// Parses an instant from elsewhere, such as the `sentAt` of a batch, which applies to all
    /// of its messages.
    pub(super) fn instant_of(&mut self, field: &str, value: RawJson<'v>) -> Option<Timestamp> {
        let text = self.text_of(field, value)?;
        let instant = Timestamp::parse(&text);
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
        limits: &EventLimits,
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

    /// The properties in a field. An empty array is an empty object: PHP writes one.
    pub(super) fn properties(&mut self, field: &str, limits: &EventLimits) -> Properties {
        match self.get(field) {
            None => Properties::default(),
            Some(value) => match value.kind() {
                JsonKind::Object => Properties::from_json(value, limits.max_property_depth),
                JsonKind::Null => Properties::default(),
                JsonKind::Array if value.is_empty_array() => Properties::default(),
                kind => {
                    self.fault(field, format!("must be an object; it is {}", kind.noun()));
                    Properties::default()
                }
            },
        }
    }
}

//! The JSON form of an event. [`domain::wire::native`](crate::domain::wire::native) reads events
//! without these types: they describe what it accepts.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::domain::time::Timestamp;

/// One event, or an array of events.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "names a schema only")]
pub(super) enum EventsRequestBody {
    One(Box<EventBody>),
    Several(Vec<EventBody>),
}

/// One behavioural fact about a customer, in the field names of the Segment tracking spec. It
/// needs a `customer_id` or an `anonymous_id`.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "type": "track",
    "name": "Order Completed",
    "message_id": "order-1",
    "customer_id": "c0001",
    "timestamp": "2026-03-01T09:30:00Z",
    "properties": { "sales_value": 42.5, "lines": 3 },
}))]
pub(super) struct EventBody {
    /// Idempotency key of the event among the customer's events; generated if absent. An event
    /// with other content needs another key. An event that is sent again needs the same
    /// `timestamp`.
    message_id: Option<SentIdBody>,
    /// The customer.
    customer_id: Option<SentIdBody>,
    /// The customer, if there is no `customer_id`; with it, another id of the same customer.
    anonymous_id: Option<SentIdBody>,
    /// Required for `alias`, and only accepted there: the id of a customer that is merged into
    /// the customer of `customer_id`.
    previous_id: Option<SentIdBody>,
    r#type: EventTypeBody,
    /// Name of the event: required for `track`.
    name: Option<String>,
    /// Instant of the event, RFC 3339; default now.
    timestamp: Option<Timestamp>,
    /// Instant by the sender's clock at which the request was sent, to correct `timestamp`.
    sent_at: Option<Timestamp>,
    /// Properties of the event. Properties that no feature reads are not stored.
    properties: Option<BTreeMap<String, Value>>,
    /// For `identify`: properties of the customer. Null or a blank text removes a trait.
    traits: Option<BTreeMap<String, Value>>,
    /// Accepted and ignored.
    context: Option<BTreeMap<String, Value>>,
}

/// Type of an event. `track`: an action, which `name` identifies. `identify`: traits of the customer.
/// `page`: a page view on a website. `screen`: a screen view in an app. `alias`: another id of the
/// customer.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "names a schema only")]
enum EventTypeBody {
    Track,
    Identify,
    Page,
    Screen,
    Alias,
}

/// An id as applications send it: a text, or an integer of which every digit counts. Blanks at
/// its ends are removed.
#[derive(Serialize)]
pub(in crate::api) struct SentIdBody(Value);

impl PartialSchema for SentIdBody {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(SchemaType::from_iter([Type::String, Type::Integer]))
            .max_length(Some(200))
            .description(Some("An id: a text of at most 200 characters, or an integer."))
            .examples(["c0001"])
            .into()
    }
}

impl ToSchema for SentIdBody {
    fn name() -> Cow<'static, str> {
        "SentIdBody".into()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use utoipa::openapi::RefOr;

    use super::*;
    use crate::domain::wire::native;

    #[test]
    fn the_description_has_the_fields_that_are_read() {
        let RefOr::T(Schema::Object(event)) = EventBody::schema() else { panic!("an object") };
        let described: BTreeSet<&str> = event.properties.keys().map(String::as_str).collect();
        assert_eq!(described, BTreeSet::from(native::FIELDS));
    }
}

//! The content hash: equal for an event that is sent again, different for any other event.

use proptest::prelude::*;
use segmentd::domain::event::ContentHash;
use segmentd::domain::identity::SentinelIds;
use segmentd::domain::json::RawJson;
use segmentd::domain::time::Timestamp;
use segmentd::domain::wire::segment::{RequestForm, SegmentRequestBody};
use segmentd::domain::wire::{EventLimits, native};
use serde_json::{Value, json};

fn limits() -> EventLimits {
    EventLimits {
        max_future_millis: 1000,
        max_property_depth: 8,
        max_event_bytes: 65_536,
        sentinel_ids: SentinelIds::default(),
    }
}

fn native(event: &Value, received_millis: i64) -> ContentHash {
    let at = Timestamp::from_millis(received_millis);
    let text = event.to_string();
    let event = RawJson::parse(text.as_bytes()).unwrap();
    native::parse_event(event, at, &limits(), || "new".parse().ok()).unwrap().content
}

fn segment(message: &Value) -> ContentHash {
    let body = json!({ "batch": [message] }).to_string();
    let body = SegmentRequestBody::parse(body.as_bytes(), RequestForm::Batch, 10).unwrap();
    let at = Timestamp::from_millis(1_800_000_000_000);
    let limits = limits();
    let mut read = body.read(at, &limits, || "new".parse().ok());
    read.next().unwrap().unwrap().content
}

fn order() -> Value {
    json!({
        "type": "track", "name": "Order Completed", "message_id": "m", "customer_id": "c",
        "timestamp": "2026-01-02T03:04:05.006Z",
        "properties": { "total": 12, "unread": { "deep": [1, null, { "a": true }] } },
    })
}

/// The event with another value at a JSON pointer.
fn changed(event: &Value, pointer: &str, value: Value) -> Value {
    let mut event = event.clone();
    *event.pointer_mut(pointer).unwrap() = value;
    event
}

/// The event with one more member.
fn with(event: &Value, name: &str, value: Value) -> Value {
    let mut event = event.clone();
    event[name] = value;
    event
}

#[test]
fn what_a_client_changes_when_it_sends_again_is_not_content() {
    let first = native(&order(), 1_800_000_000_000);
    assert_eq!(native(&order(), 1_800_000_099_000), first);
    let again = with(&order(), "sent_at", json!("2026-01-02T03:04:09Z"));
    assert_eq!(native(&again, 1_800_000_000_000), first);
    let again = with(&order(), "context", json!({ "attempt": 2 }));
    assert_eq!(native(&again, 1_800_000_000_000), first);
    let again = changed(&order(), "/timestamp", json!("2026-01-02T04:04:05.006+01:00"));
    assert_eq!(native(&again, 1_800_000_000_000), first);
    let again = changed(&order(), "/properties/total", json!(12.0));
    assert_eq!(native(&again, 1_800_000_000_000), first);

    // Without a timestamp, the instant of receipt is not content either.
    let undated = |received| {
        let mut event = order();
        event.as_object_mut().unwrap().remove("timestamp");
        native(&event, received)
    };
    assert_eq!(undated(1_800_000_000_000), undated(1_800_000_555_000));
    assert_ne!(undated(1_800_000_000_000), first);
}

#[test]
fn every_other_part_of_an_event_is_content() {
    let first = native(&order(), 1_800_000_000_000);
    let others = [
        changed(&order(), "/name", json!("Order Refunded")),
        changed(&order(), "/type", json!("page")),
        changed(&order(), "/customer_id", json!("d")),
        changed(&order(), "/timestamp", json!("2026-01-02T03:04:05.007Z")),
        changed(&order(), "/properties/total", json!("12")),
        changed(&order(), "/properties/total", json!(12.01)),
        changed(&order(), "/properties/total", json!(null)),
        changed(&order(), "/properties/unread/deep/1", json!(0)),
        changed(&order(), "/properties/unread/deep/2/a", json!(false)),
        changed(&order(), "/properties/unread", json!("deep")),
        changed(&order(), "/properties", json!({})),
        with(&order(), "anonymous_id", json!("device")),
    ];
    let mut seen = vec![first];
    for other in others {
        let hash = native(&other, 1_800_000_000_000);
        assert!(!seen.contains(&hash), "{other}");
        seen.push(hash);
    }
}

#[test]
fn both_formats_give_an_event_the_same_hash() {
    let message = json!({
        "type": "track", "event": "Order Completed", "messageId": "m", "userId": "c",
        "originalTimestamp": "2026-01-02T03:04:05.006Z", "sentAt": "2026-01-02T03:05:00Z",
        "context": { "library": { "name": "x" } }, "integrations": { "All": true },
        "properties": order()["properties"],
    });
    assert_eq!(segment(&message), native(&order(), 1_800_000_000_000));
    // The members that the format has beside the properties are content.
    let page = json!({ "type": "page", "name": "Home", "messageId": "m", "userId": "c" });
    assert_ne!(segment(&page), segment(&with(&page, "category", json!("Shop"))));
    let group = json!({ "type": "group", "groupId": "g", "messageId": "m", "userId": "c" });
    assert_ne!(segment(&group), segment(&changed(&group, "/groupId", json!("h"))));
    let alias = json!({ "type": "alias", "previousId": "a", "messageId": "m", "userId": "c" });
    assert_ne!(segment(&alias), segment(&changed(&alias, "/previousId", json!("b"))));
    // A forwarder corrects `timestamp` anew with each attempt.
    let forwarded = with(&message, "timestamp", json!("2026-01-02T03:04:06Z"));
    assert_eq!(segment(&forwarded), segment(&message));
}

fn property() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_filter("JSON", |number| number.is_finite()).prop_map(Value::from),
        "[a-z\"{}\\[\\]:,é]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[a-d]{1,2}", inner, 0..4)
                .prop_map(|members| members.into_iter().collect::<Value>()),
        ]
    })
}

/// JSON text with the members of each object in reverse order.
fn reversed(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let members: Vec<String> = members
                .iter()
                .rev()
                .map(|(name, value)| format!("{} : {}", json!(name), reversed(value)))
                .collect();
            format!("{{ {} }}", members.join(" , "))
        }
        Value::Array(elements) => {
            let elements: Vec<String> = elements.iter().map(reversed).collect();
            format!("[ {} ]", elements.join(" , "))
        }
        other => other.to_string(),
    }
}

proptest! {
    /// Two bodies have one hash exactly if they are the same JSON value.
    #[test]
    fn the_hash_is_that_of_the_value(
        one in proptest::collection::btree_map("[a-d]{1,2}", property(), 0..5),
        two in proptest::collection::btree_map("[a-d]{1,2}", property(), 0..5),
    ) {
        let one = changed(&order(), "/properties", one.into_iter().collect());
        let two = changed(&order(), "/properties", two.into_iter().collect());
        let at = 1_800_000_000_000;
        let text: Value = serde_json::from_str(&reversed(&one)).unwrap();
        prop_assert_eq!(native(&text, at), native(&one, at));
        prop_assert_eq!(native(&one, at) == native(&two, at), one == two);
    }
}

//! The Segment message format, by its specification and as its libraries send it.

mod arbitrary;

use std::sync::LazyLock;

use segmentd::domain::event::{EventKind, GROUP_ID, PREVIOUS_ID, PropertyValue};
use segmentd::domain::fault::ValidationFaults;
use segmentd::domain::id::MessageId;
use segmentd::domain::identity::{IdentityLink, SentinelIds};
use segmentd::domain::json::RawJson;
use segmentd::domain::time::Timestamp;
use segmentd::domain::wire::segment::{RequestForm, SegmentRequestBody};
use segmentd::domain::wire::{EventLimits, ParsedMessage, native};
use serde_json::{Value, json};

use crate::feature::support::{at, text};

static LIMITS: LazyLock<EventLimits> = LazyLock::new(|| EventLimits {
    max_future_millis: 3_600_000,
    max_property_depth: 4,
    max_event_bytes: 32_768,
    sentinel_ids: SentinelIds::new(["undefined", "null", "0"]),
});

fn received() -> Timestamp {
    at("2024-05-01T12:00:00Z")
}

fn read(form: RequestForm, body: &str) -> Vec<Result<ParsedMessage, ValidationFaults>> {
    let made_up = || "made-up".parse().ok();
    SegmentRequestBody::parse(body.as_bytes(), form, 1000)
        .unwrap()
        .read(received(), &LIMITS, made_up)
        .collect()
}

/// The only message of a request to the path of its `type`.
fn one(message: &Value) -> Result<ParsedMessage, ValidationFaults> {
    let kind = EventKind::parse(message["type"].as_str().unwrap()).unwrap();
    read(RequestForm::One(kind), &message.to_string()).remove(0)
}

fn native_event(
    event: &Value,
    new_id: impl FnOnce() -> Option<MessageId>,
) -> Result<ParsedMessage, ValidationFaults> {
    let text = event.to_string();
    native::parse_event(RawJson::parse(text.as_bytes()).unwrap(), received(), &LIMITS, new_id)
}

/// `field: problem` of each error.
fn problems(faults: &ValidationFaults) -> Vec<String> {
    faults.0.iter().map(ToString::to_string).collect()
}

#[test]
fn each_kind_of_call_becomes_its_event() {
    let track = one(&json!({
        "type": "track", "event": "Order Completed", "userId": "u1", "messageId": "m1",
        "properties": { "revenue": 12.5, "products": [{ "sku": "a" }], "cart": { "size": 2 } },
    }));
    let ParsedMessage { event, link, .. } = track.unwrap();
    assert_eq!((event.kind, &*event.name), (EventKind::Track, "Order Completed"));
    assert_eq!((event.customer.as_str(), event.message_id.as_str()), ("u1", "m1"));
    assert_eq!(event.timestamp, received());
    assert_eq!(event.properties.number("revenue"), Some(12.5));
    assert_eq!(event.properties.number("cart.size"), Some(2.0));
    // An array is its length and its elements by index.
    assert_eq!(event.properties.number("products.length"), Some(1.0));
    assert_eq!(event.properties.get("products.0.sku"), Some(&text("a")));
    assert_eq!((event.properties.len(), link), (4, None));

    for kind in ["page", "screen"] {
        let seen = one(&json!({
            "type": kind, "name": "Home", "category": "Shop", "anonymousId": "a1",
            "properties": { "url": "/", "category": "Old" },
        }));
        let event = seen.unwrap().event;
        assert_eq!((event.kind.as_str(), &*event.name), (kind, "Home"));
        assert_eq!(event.customer.as_str(), "a1");
        assert_eq!(event.message_id.as_str(), "made-up");
        assert_eq!(event.properties.get("category"), Some(&text("Shop")));
        assert_eq!(event.properties.get("url"), Some(&text("/")));
    }

    let group = one(&json!({
        "type": "group", "userId": "u1", "groupId": 42, "traits": { "plan": "gold" },
    }));
    let event = group.unwrap().event;
    assert_eq!((event.kind, &*event.name), (EventKind::Group, ""));
    assert_eq!(event.properties.get(GROUP_ID), Some(&text("42")));
    assert_eq!(event.properties.get("plan"), Some(&text("gold")));

    let identify = one(&json!({
        "type": "identify", "userId": "u1", "traits": { "age": 30, "address": { "city": "X" } },
        "properties": { "not": "read" },
    }));
    let ParsedMessage { event, link, .. } = identify.unwrap();
    assert_eq!((event.kind, link), (EventKind::Identify, None));
    assert_eq!(event.properties.get("age"), Some(&PropertyValue::Number(30.0)));
    assert_eq!(event.properties.get("address.city"), Some(&text("X")));
    assert_eq!(event.properties.len(), 2);
}

#[test]
fn identify_with_both_ids_and_alias_link_them() {
    let link = |from: &str, to: &str| {
        Some(IdentityLink { from: from.parse().unwrap(), to: to.parse().unwrap() })
    };
    let both = json!({ "type": "identify", "userId": "u1", "anonymousId": "a1" });
    let message = one(&both).unwrap();
    assert_eq!((message.event.customer.as_str(), message.link), ("u1", link("a1", "u1")));
    let itself = json!({ "type": "identify", "userId": "u1", "anonymousId": "u1" });
    assert_eq!(one(&itself).unwrap().link, None);
    // Only these two types link ids.
    let track = json!({ "type": "track", "event": "x", "userId": "u1", "anonymousId": "a1" });
    assert_eq!(one(&track).unwrap().link, None);

    let alias = json!({ "type": "alias", "userId": "u1", "previousId": 7, "anonymousId": "a1" });
    let message = one(&alias).unwrap();
    assert_eq!(message.event.kind, EventKind::Alias);
    assert_eq!((message.event.customer.as_str(), message.link), ("u1", link("7", "u1")));
    assert_eq!(message.event.properties.get(PREVIOUS_ID), Some(&text("7")));
}

#[test]
fn the_native_format_has_alias_too() {
    let alias = |ids: Value| {
        let mut event = json!({ "type": "alias", "message_id": "m" });
        event.as_object_mut().unwrap().extend(ids.as_object().unwrap().clone());
        native_event(&event, || None)
    };
    let message = alias(json!({ "customer_id": "u1", "previous_id": 7 })).unwrap();
    let link = message.link.unwrap();
    assert_eq!((link.from.as_str(), link.to.as_str(), message.is_anonymous), ("7", "u1", false));
    assert_eq!(message.event.properties.get(PREVIOUS_ID), Some(&text("7")));
    assert_eq!(alias(json!({ "customer_id": "u1", "previous_id": "u1" })).unwrap().link, None);
    for (ids, problem) in [
        (json!({ "customer_id": "u" }), "previous_id: is required for `alias`"),
        (json!({ "previous_id": "a" }), "customer_id: is required for `alias`"),
        (
            json!({ "type": "page", "customer_id": "u", "previous_id": "a" }),
            "previous_id: is a field of `alias` events only",
        ),
    ] {
        let faults = problems(&alias(ids).unwrap_err());
        assert!(faults[0].starts_with(problem), "{faults:?}");
    }
}

#[test]
fn the_path_gives_the_kind_of_one_message_and_type_that_of_a_batch() {
    let body = r#"{"type":"page","event":"Seen","userId":"u1"}"#;
    let message = read(RequestForm::One(EventKind::Track), body).remove(0).unwrap();
    assert_eq!((message.event.kind, &*message.event.name), (EventKind::Track, "Seen"));
    let batch = format!(r#"{{"batch":[{body},{{"userId":"u1"}}]}}"#);
    let results = read(RequestForm::Batch, &batch);
    assert_eq!(results[0].as_ref().unwrap().event.kind, EventKind::Page);
    assert_eq!(
        problems(results[1].as_ref().unwrap_err()),
        ["type: must be one of identify, track, page, screen, group, alias"]
    );
}

/// A message as the Node library sends it, with its additional fields.
#[test]
fn fields_that_libraries_add_are_ignored() {
    let body = r#"{
        "batch": [{
            "timestamp": "2024-05-01T11:58:00.000Z", "integrations": { "All": true },
            "userId": "u1", "type": "track", "event": "Order Completed",
            "properties": { "revenue": 1 }, "messageId": "node-next-1-a",
            "context": { "library": { "name": "@segment/analytics-node", "version": "3.1.0" } },
            "_metadata": { "nodeVersion": "v20", "jsRuntime": "node" },
            "channel": "server", "version": 2, "writeKey": "k", "anonymousId": null
        }],
        "writeKey": "k\u0065y", "sentAt": "2024-05-01T11:59:00.000Z",
        "context": {}, "integrations": {}
    }"#;
    let parsed = SegmentRequestBody::parse(body.as_bytes(), RequestForm::Batch, 1000).unwrap();
    assert_eq!(parsed.write_key.as_deref(), Some("key"));
    let event = read(RequestForm::Batch, body).remove(0).unwrap().event;
    assert_eq!(event.message_id.as_str(), "node-next-1-a");
    // A minute before it was sent, so a minute before it was received.
    assert_eq!(event.timestamp, at("2024-05-01T11:59:00Z"));
}

#[test]
fn blank_ids_are_none_and_numbers_are_ids() {
    let event = |fields: &str| {
        let body = format!(r#"{{"event":"x",{fields}}}"#);
        read(RequestForm::One(EventKind::Track), &body).remove(0).map(|message| message.event)
    };
    let blank = event(r#""userId":"","anonymousId":"a1","messageId":" ""#).unwrap();
    assert_eq!((blank.customer.as_str(), blank.message_id.as_str()), ("a1", "made-up"));
    assert_eq!(event(r#""userId":1234567890123"#).unwrap().customer.as_str(), "1234567890123");
    assert_eq!(
        problems(&event(r#""userId":"","anonymousId":null"#).unwrap_err()),
        ["userId: is required, or else `anonymousId`"]
    );
}

#[test]
fn the_senders_clock_is_corrected() {
    let when = |fields: &str, batch_sent_at: &str| {
        let body = format!(
            r#"{{"sentAt":{batch_sent_at},"batch":[{{"type":"page","userId":"u",{fields}}}]}}"#
        );
        read(RequestForm::Batch, &body).remove(0).map(|message| message.event.timestamp.to_string())
    };
    let (early, late) = ("\"2024-05-01T09:00:00Z\"", "\"2024-05-01T10:00:00+00:00\"");
    let table = [
        // Without the clock of the sender, the timestamp is unchanged.
        (format!(r#""timestamp":{early}"#), "null", "2024-05-01T09:00:00.000Z"),
        // The message's own clock before the batch's.
        (format!(r#""timestamp":{early},"sentAt":{late}"#), early, "2024-05-01T11:00:00.000Z"),
        (format!(r#""timestamp":{early},"sentAt":null"#), late, "2024-05-01T11:00:00.000Z"),
        (format!(r#""originalTimestamp":{early}"#), late, "2024-05-01T11:00:00.000Z"),
        // Already corrected by the sender.
        (
            format!(r#""originalTimestamp":{early},"timestamp":{late}"#),
            early,
            "2024-05-01T10:00:00.000Z",
        ),
        (r#""timestamp":null"#.into(), late, "2024-05-01T12:00:00.000Z"),
    ];
    for (fields, sent_at, expected) in table {
        assert_eq!(when(&fields, sent_at).unwrap(), expected, "{fields}, sent {sent_at}");
    }
    for (fields, sent_at, problem) in [
        (
            r#""timestamp":"2024-05-01T14:00:00Z""#,
            "null",
            "timestamp: lies in the future; at most 3600 s",
        ),
        (r#""timestamp":"1970-01-20T00:00:00Z""#, "null", "timestamp: lies before 1971"),
        (r#""timestamp":1714557600"#, "null", "timestamp: must be a string"),
        (r#""timestamp":"2024-05-01T09:00:00Z""#, "\"now\"", "sentAt: must be an RFC 3339"),
    ] {
        let faults = when(fields, sent_at).unwrap_err();
        assert!(problems(&faults)[0].starts_with(problem), "{fields}: {faults}");
    }
}

#[test]
fn every_error_is_named_in_the_terms_of_segment() {
    let long = "x".repeat(201);
    for (message, expected) in [
        (json!({ "type": "track", "userId": "u" }), "event: is required for `track`"),
        (json!({ "type": "track", "event": 5, "userId": "u" }), "event: must be a string"),
        (json!({ "type": "group", "userId": "u" }), "groupId: is required for `group`"),
        (json!({ "type": "alias", "userId": "u" }), "previousId: is required for `alias`"),
        (json!({ "type": "alias", "previousId": "a" }), "userId: is required for `alias`"),
        (json!({ "type": "page", "userId": long }), "userId: must be at most 200 characters"),
        (
            json!({ "type": "page", "userId": "u", "messageId": long }),
            "messageId: must be at most 200 characters",
        ),
        (
            json!({ "type": "page", "userId": ["u"] }),
            "userId: must be a text or an integer; it is an array",
        ),
        (json!({ "type": "identify", "userId": "u", "traits": "x" }), "traits: must be an object"),
        (
            json!({ "type": "page", "userId": "u", "properties": [1] }),
            "properties: must be an object; it is an array",
        ),
        (json!({ "type": "page", "userId": 1.5 }), "userId: must be a text or an integer"),
        (json!({ "type": "page", "userId": "undefined" }), "userId: names no customer"),
        (
            json!({ "type": "page", "userId": 0, "anonymousId": "NULL" }),
            "userId: names no customer",
        ),
    ] {
        let faults = one(&message).unwrap_err();
        assert!(
            problems(&faults).iter().any(|problem| problem.starts_with(expected)),
            "{message}: {faults}"
        );
    }
    // An invalid field is not also reported as missing.
    let faults = one(&json!({ "type": "alias", "userId": "u", "previousId": [] })).unwrap_err();
    assert_eq!(problems(&faults), ["previousId: must be a text or an integer; it is an array"]);
    // All at once.
    let faults = one(&json!({ "type": "track", "timestamp": "soon", "properties": 3 }));
    assert_eq!(faults.unwrap_err().0.len(), 4);
}

#[test]
fn the_longest_id_fits_and_a_message_over_the_limit_affects_no_other() {
    let most = "m".repeat(200);
    let small = json!({ "type": "page", "userId": "u", "messageId": most });
    let large = json!({ "type": "page", "userId": "u", "properties": { "x": "y".repeat(32_768) } });
    let deep = format!("{}1{}", "{\"a\":".repeat(200), "}".repeat(200));
    let odd = r#"{"type":"page","userId":"\ud800"}"#;
    let huge = r#"{"type":"page","userId":"u","properties":{"n":NaN}}"#;
    let body = format!(r#"{{"batch":[{small},{large},{deep},{odd},{huge},5,{small}]}}"#);
    let results = read(RequestForm::Batch, &body);
    let right: Vec<bool> = results.iter().map(Result::is_ok).collect();
    assert_eq!(right, [true, false, false, false, false, false, true]);
    assert_eq!(
        problems(results[1].as_ref().unwrap_err()),
        ["event: is larger than 32768 bytes (ingestion.max_event_bytes)"]
    );
    assert_eq!(problems(results[5].as_ref().unwrap_err()), ["event: must be a JSON object"]);
}

#[test]
fn an_unreadable_body_is_refused_whole() {
    for (form, body, problem) in [
        (RequestForm::Batch, "", "must be a JSON object"),
        (RequestForm::Batch, "[]", "must be a JSON object"),
        (RequestForm::Batch, r#"["key"]"#, "must be a JSON object"),
        (RequestForm::One(EventKind::Track), "hello", "a value is expected at byte 0"),
        (RequestForm::One(EventKind::Track), "5", "must be a JSON object"),
        (RequestForm::Batch, r#"{"batch":[1,2]"#, "ends before its JSON is complete"),
        (RequestForm::Batch, r#"{"batch":[{}"#, "ends before its JSON is complete"),
        (RequestForm::Batch, r#"{"writeKey":"k"}"#, "the array `batch` is missing"),
        (RequestForm::Batch, r#"{"batch":{}}"#, "`batch` must be an array"),
        (RequestForm::Batch, r#"{"sentAt":NaN,"batch":[]}"#, "a value is expected at byte 10"),
        (RequestForm::One(EventKind::Page), r#"{"userId":"u"} x"#, "the text continues after"),
    ] {
        let error = SegmentRequestBody::parse(body.as_bytes(), form, 1000).unwrap_err().to_string();
        assert!(error.contains(problem), "{body}: {error}");
    }
    assert!(read(RequestForm::Batch, r#"{"batch":[]}"#).is_empty());
}

#[test]
fn ids_keep_every_digit_and_lose_blank_ends() {
    for (id, text) in [
        (r#""u1""#, "u1"),
        (r#"" u1\t""#, "u1"),
        ("100000000000000000001", "100000000000000000001"),
        ("17850.0", "17850"),
        ("18446744073709551616", "18446744073709551616"),
        ("-7", "-7"),
    ] {
        let native = format!(
            r#"{{"type":"page","customer_id":{id},"anonymous_id":{id},"message_id":{id}}}"#
        );
        let native = RawJson::parse(native.as_bytes()).unwrap();
        let native = native::parse_event(native, received(), &LIMITS, || None).unwrap();
        let segment = format!(r#"{{"userId":{id},"messageId":{id}}}"#);
        let segment = read(RequestForm::One(EventKind::Page), &segment).remove(0).unwrap();
        for message in [native, segment] {
            assert_eq!(message.event.customer.as_str(), text, "{id}");
            assert_eq!(message.event.message_id.as_str(), text, "{id}");
            assert_eq!(message.link, None);
        }
    }
}

#[test]
fn a_sentinel_id_neither_links_nor_gathers() {
    let device = one(&json!({ "type": "identify", "userId": "u1", "anonymousId": " Undefined " }));
    let ParsedMessage { event, link, warnings, .. } = device.unwrap();
    assert_eq!((event.customer.as_str(), link), ("u1", None));
    assert_eq!(
        problems(&ValidationFaults(warnings)),
        ["anonymousId: was ignored, as it names no customer; it is `Undefined`"]
    );
    let user = one(&json!({ "type": "identify", "userId": "null", "anonymousId": "a1" })).unwrap();
    assert_eq!((user.event.customer.as_str(), user.is_anonymous, user.link), ("a1", true, None));
    assert_eq!(user.warnings[0].path, "userId");
    let alias = one(&json!({ "type": "alias", "userId": "u1", "previousId": "0" })).unwrap();
    assert_eq!((alias.link, &*alias.warnings[0].path), (None, "previousId"));
    let native = json!({ "type": "page", "customer_id": "", "anonymous_id": "undefined" });
    let faults = native_event(&native, || "m".parse().ok()).unwrap_err();
    assert_eq!(
        problems(&faults),
        ["anonymous_id: names no customer, as many people share it (ingestion.sentinel_ids); \
             it is `undefined`"]
    );
}

#[test]
fn values_that_are_no_properties_cost_nothing() {
    let deep = format!("{}1{}", r#"{"a":"#.repeat(5_000), "}".repeat(5_000));
    let body = format!(
        r#"{{"userId":"u","event":"x","messageId":"m","properties":{{"big":1e999,
            "lone":"\ud800","\udfff":1,"deep":{deep},"list":[[[1,2]]],"ok":2}}}}"#
    );
    let message = read(RequestForm::One(EventKind::Track), &body).remove(0).unwrap();
    assert_eq!(message.event.properties.number("ok"), Some(2.0));
    for field in ["properties", "traits", "context"] {
        let body = format!(r#"{{"userId":"u","event":"x","messageId":"m","{field}":[]}}"#);
        for kind in [EventKind::Track, EventKind::Identify] {
            let message = read(RequestForm::One(kind), &body).remove(0).unwrap();
            assert!(message.event.properties.is_empty());
        }
    }
}

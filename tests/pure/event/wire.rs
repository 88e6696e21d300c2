//! The native event format: refused events, their reasons, and the stored text.

use segmentd::domain::event::{CustomerEvent, EventKind, PropertyValue};
use segmentd::domain::fault::{ValidationFault, ValidationFaults};
use segmentd::domain::feature::FeatureSet;
use segmentd::domain::identity::SentinelIds;
use segmentd::domain::json::RawJson;
use segmentd::domain::time::Timestamp;
use segmentd::domain::wire::lines::{LineLimits, LineSplitter, NdjsonLine};
use segmentd::domain::wire::{EventLimits, IngestionEndpoint, native};
use segmentd::service::failed_events::{RejectedEvent, TRUNCATED_EVENT_BYTES};
use serde_json::{Value, json};

use crate::feature::support::{RETAIL, at, event};

fn parse(event: &Value) -> Result<CustomerEvent, ValidationFaults> {
    let limits = EventLimits {
        max_future_millis: 3_600_000,
        max_property_depth: 8,
        max_event_bytes: 32_768,
        sentinel_ids: SentinelIds::default(),
    };
    let text = event.to_string();
    let event = RawJson::parse(text.as_bytes()).unwrap();
    native::parse_event(event, Timestamp::from_millis(1_714_550_400_000), &limits, || None)
        .map(|message| message.event)
}

#[test]
fn nul_is_refused_where_it_would_be_stored() {
    let named = |name: &str| json!({ "type": "track", "name": name, "message_id": "m", "customer_id": "c" });
    assert_eq!(&*parse(&named("a\u{1}b")).unwrap().name, "a\u{1}b");
    let faults = parse(&named("a\0b")).unwrap_err();
    assert_eq!(faults, ValidationFaults::single("name", "must not contain the character NUL"));
    for field in ["message_id", "customer_id"] {
        let mut event = named("a");
        event[field] = json!("a\0b");
        assert_eq!(parse(&event).unwrap_err().0[0].path, field);
    }

    let set = FeatureSet::parse(RETAIL).unwrap();
    let order = |property: &str| {
        let value = PropertyValue::Text("a\0b".into());
        let when = at("2024-01-01T00:00:00Z");
        event("c", EventKind::Track, "Order Completed", when, vec![(property, value)])
    };
    assert_eq!(
        set.validate_event(order("store_id")).unwrap().warnings[0].path,
        "properties.store_id"
    );
    assert!(set.validate_event(order("nobody_reads_this")).unwrap().event.properties.is_empty());
}

/// Reasons are labels of counts, so a sender must not be able to create them.
#[test]
fn the_reason_of_an_error_omits_the_value() {
    let set = FeatureSet::parse(RETAIL).unwrap();
    let gist = |number: f64| {
        let value = vec![("sales_value", PropertyValue::Number(number))];
        let when = at("2024-01-01T00:00:00Z");
        set.validate_event(event("c", EventKind::Track, "Order Completed", when, value))
            .unwrap_err()
            .broken_rule()
    };
    assert_eq!(gist(2e12), "properties.sales_value: must lie within ±1e12");
    assert_eq!(gist(2e12), gist(-3e15));
    assert_eq!(ValidationFault::new("a", "is wrong").broken_rule(), "a: is wrong");
    assert_eq!(ValidationFault::new("a", "is wrong: try b; or c").broken_rule(), "a: is wrong");
    let instants = ["yesterday", "2024-13-01T00:00:00Z"].map(|instant| {
        let event = json!({
            "type": "track", "name": "n", "message_id": "m", "customer_id": "c",
            "timestamp": instant,
        });
        parse(&event).unwrap_err().0[0].broken_rule()
    });
    assert_eq!(instants[0], instants[1]);
}

#[test]
fn a_rejected_event_is_whole_or_marked_as_truncated() {
    let stored =
        |raw: &[u8]| RejectedEvent::new(ValidationFaults::single("event", "x"), raw).stored();
    assert!(stored("{\"å\": 1}".as_bytes()).is_complete);
    let latin = stored(b"{\"\xe5\": 1}");
    assert_eq!((&*latin.raw, latin.is_complete), ("{\"å\": 1}", false));
    assert!(!stored(b"{\"\0\": 1}").is_complete);
    // Truncated within a character.
    let long = format!("a{}", "å".repeat(TRUNCATED_EVENT_BYTES));
    let head = RejectedEvent::truncated(ValidationFaults::default(), long.as_bytes()).stored();
    assert!(!head.is_complete, "{head:?}");
    assert_eq!(head.raw.matches('å').count(), TRUNCATED_EVENT_BYTES / 2 - 1);
}

#[test]
fn an_entry_point_reads_back() {
    for endpoint in IngestionEndpoint::ALL {
        assert_eq!(IngestionEndpoint::parse(endpoint.as_str()), Some(endpoint));
    }
    assert_eq!(IngestionEndpoint::parse("window"), None);
}

/// NDJSON framing does not depend on how the bytes arrive.
#[test]
fn lines_are_the_same_in_chunks_of_any_size() {
    let body = b"one\n\n0123456789\n01234567890123456789 too long\r\nlast, without a break";
    let limits = LineLimits { max_line_bytes: 22, head_bytes: 4 };
    let split = |chunk_bytes: usize| {
        let mut splitter = LineSplitter::new(limits);
        let mut lines = Vec::new();
        for chunk in body.chunks(chunk_bytes) {
            splitter.push(chunk);
            lines.extend(std::iter::from_fn(|| splitter.take_line()));
        }
        splitter.end();
        lines.extend(std::iter::from_fn(|| splitter.take_line()));
        assert_eq!(splitter.number(), lines.len() as u64);
        lines
    };
    for chunk_bytes in 1..=body.len() {
        let lines = split(chunk_bytes);
        assert_eq!(lines.len(), 5, "{chunk_bytes}");
        for (line, expected) in lines.iter().zip(body.split(|byte| *byte == b'\n')) {
            match line {
                NdjsonLine::Text(text) => assert_eq!(text, expected, "{chunk_bytes}"),
                NdjsonLine::TooLong(head) => {
                    assert!(expected.len() > 22 && expected.starts_with(head), "{chunk_bytes}");
                }
            }
        }
    }
}

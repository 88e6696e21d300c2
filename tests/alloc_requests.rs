//! Requests allocate at most the memory reserved for them. A separate test binary, because
//! it replaces the allocator.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::LazyLock;

use allocation_counter::measure;
use segmentd::domain::identity::SentinelIds;
use segmentd::domain::time::Timestamp;
use segmentd::domain::wire::bounded::{self, BoundedArrayError};
use segmentd::domain::wire::elements::{self, ArrayPosition, JsonElement};
use segmentd::domain::wire::segment::{RequestForm, SegmentRequestBody};
use segmentd::domain::wire::{EventLimits, ParsedMessage, native};
use segmentd::service::failed_events::RejectedEvent;
use segmentd::service::limits::memory::{VALUE_EXPANSION, event_memory_bytes};
use serde_json::Value;
use serde_json::value::RawValue;

static LIMITS: LazyLock<EventLimits> = LazyLock::new(|| EventLimits {
    max_future_millis: 3_600_000,
    max_property_depth: 8,
    max_event_bytes: 32_768,
    sentinel_ids: SentinelIds::default(),
});

fn now() -> Timestamp {
    Timestamp::parse("2024-05-01T12:00:00Z").unwrap()
}

fn array(element: &str, bytes: usize) -> String {
    let mut list = format!("{element},").repeat(bytes / (element.len() + 1));
    list.pop();
    format!("[{list}]")
}

/// JSON with a large parsed form: small scalars, empty and tiny containers, deep nesting.
fn worst_values(bytes: usize) -> Vec<String> {
    let deep = |open: &str, close: &str| format!("{}0{}", open.repeat(100), close.repeat(100));
    let names = (0..bytes / 9).map(|n| format!("\"{n:x}\":0")).collect::<Vec<_>>().join(",");
    vec![
        array("0", bytes),
        array("\"\"", bytes),
        array("[]", bytes),
        array("[0]", bytes),
        array("{}", bytes),
        array("{\"\":0}", bytes),
        array("{\"\":{}}", bytes),
        array(&deep("[", "]"), bytes),
        array(&deep("{\"\":", "}"), bytes),
        array(&format!("{}0{}", "[{\"\":".repeat(50), "}]".repeat(50)), bytes),
        format!("{{{names}}}"),
    ]
}

#[test]
fn a_document_takes_no_more_than_its_reservation() {
    let mut worst = 0;
    for text in worst_values(200_000) {
        let mut is_read = false;
        let taken = measure(|| is_read = serde_json::from_str::<Value>(&text).is_ok());
        let ratio = usize::try_from(taken.bytes_max).unwrap() / text.len();
        worst = worst.max(ratio);
        assert!(ratio < VALUE_EXPANSION, "{ratio} times: {is_read} {}", &text[..60]);
    }
    assert!(worst > 50, "the worst is only {worst} times: the documents are too harmless");
}

/// Events with a large validated form, or a large error.
fn worst_events() -> Vec<String> {
    let fields =
        |count: usize| (0..count).map(|n| format!("\"{n:x}\":0")).collect::<Vec<_>>().join(",");
    let right = |properties: String| {
        format!(
            r#"{{"type":"track","event":"x","name":"x","userId":"u","customer_id":"c","properties":{properties}}}"#
        )
    };
    let mut events = vec!["{}".into(), "0".into(), format!("{{{}}}", fields(200))];
    events.push(format!("{{{}}}", fields(4)));
    events.push(format!("{{\"{}\":0}}", "\\u0001".repeat(3000)));
    events.push(right("{}".into()));
    events.push(right(format!("{{{}}}", fields(3000))));
    events.push(right(format!("{{\"a\":\"{}\"}}", "z".repeat(20_000))));
    events.extend(worst_values(10_000).into_iter().map(right));
    events
}

/// Validated events live until their commit. The reservation covers twice their size: once
/// more for their encoding and their verdicts.
#[test]
fn events_take_no_more_than_their_reservation() {
    for event in worst_events() {
        let count = (200_000 / event.len()).clamp(1, 2000);
        let body = array(&event, count * (event.len() + 1));
        let mut kept: Vec<Result<ParsedMessage, RejectedEvent>> = Vec::new();
        let taken = measure(|| {
            let position = ArrayPosition::WholeBody;
            let split = elements::split_array(body.as_bytes(), 0, position, 2000).unwrap();
            for element in split.elements {
                let JsonElement::Valid(event) = element else { panic!("valid JSON") };
                let read = native::parse_event(event, now(), &LIMITS, || "id".parse().ok());
                // The features of the test read no property.
                let admitted = read.map(|mut message| {
                    message.event.properties.retain(|_| false);
                    message
                });
                let raw = event.as_str().as_bytes();
                kept.push(admitted.map_err(|faults| RejectedEvent::new(faults, raw)));
            }
        });
        let (live, most) = (
            usize::try_from(taken.bytes_current).unwrap(),
            event_memory_bytes(kept.len(), body.len()),
        );
        assert!(
            2 * live < most,
            "{} events hold {live} of {most}: {}",
            kept.len(),
            &event[..event.len().min(80)]
        );
    }
}

#[test]
fn messages_of_segments_form_take_no_more_than_their_reservation() {
    for event in worst_events() {
        let count = (200_000 / event.len()).clamp(1, 2000);
        let clock = "9".repeat(5000);
        let messages = array(&event, count * (event.len() + 1));
        let body = format!("{{\"sentAt\":\"{clock}\",\"batch\":{messages}}}");
        let mut kept: Vec<Result<ParsedMessage, RejectedEvent>> = Vec::new();
        let taken =
            measure(|| {
                let body =
                    SegmentRequestBody::parse(body.as_bytes(), RequestForm::Batch, 2000).unwrap();
                let messages = body.read(now(), &LIMITS, || "id".parse().ok()).enumerate();
                for (index, message) in messages {
                    let message = message.map(|mut message| {
                        message.event.properties.retain(|_| false);
                        message
                    });
                    kept.push(message.map_err(|faults| {
                        RejectedEvent::new(faults, &body.to_stored_message(index))
                    }));
                }
            });
        let (live, most) = (
            usize::try_from(taken.bytes_current).unwrap(),
            event_memory_bytes(kept.len(), body.len()),
        );
        assert!(
            2 * live < most,
            "{} events hold {live} of {most}: {}",
            kept.len(),
            &event[..event.len().min(80)]
        );
    }
}

/// The 1.4 million empty messages of a small gzip: none is allocated.
#[test]
fn elements_beyond_the_bound_are_not_allocated() {
    let text = array("{}", 4_000_000);
    let mut outcome = None;
    let taken = measure(|| {
        outcome = Some(
            bounded::parse_elements::<&RawValue>(text.as_bytes(), 1000).map(|found| found.len()),
        );
    });
    assert!(matches!(outcome, Some(Err(BoundedArrayError::TooMany(1000)))), "{outcome:?}");
    assert!(taken.bytes_max < 100_000, "{}", taken.bytes_max);
    let exact = bounded::parse_elements::<u8>(b"[1,2,3]", 3).unwrap();
    assert_eq!(exact, [1, 2, 3]);
    assert!(matches!(
        bounded::parse_elements::<u8>(b"[1,2,3] x", 3),
        Err(BoundedArrayError::Json(_))
    ));
}

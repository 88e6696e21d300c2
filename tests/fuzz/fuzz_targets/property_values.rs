//! The conversion of properties to their declared types: the text is the properties of one
//! event. Conversion is idempotent, and a converted event survives storage.
#![no_main]

use libfuzzer_sys::fuzz_target;
use segmentd::domain::event::EventKind;
use segmentd::domain::json::RawJson;
use segmentd::domain::wire::native;
use segmentd_fuzz::{FEATURES, LIMITS, NOW, new_id};

fuzz_target!(|text: &str| {
    for kind in [EventKind::Track, EventKind::Identify] {
        let kind = kind.as_str();
        let event = format!(
            r#"{{"type":"{kind}","name":"Order Completed","customer_id":"c","properties":{text},"traits":{text}}}"#
        );
        let Ok(event) = RawJson::parse(event.as_bytes()) else { return };
        let Ok(message) = native::parse_event(event, NOW, &LIMITS, new_id) else { return };
        let Ok(validated) = FEATURES.validate_event(message.event) else { return };
        let again = FEATURES.validate_event(validated.event.clone()).expect("valid twice");
        // A missing amount stays missing; nothing else is left out twice.
        let missing = usize::from(again.unused.is_some());
        assert_eq!((&again.event, again.warnings.len()), (&validated.event, missing));
        let stored = serde_json::to_string(&validated.event.properties).expect("serialisable");
        let event = format!(
            r#"{{"type":"{kind}","name":"Order Completed","customer_id":"c","properties":{stored},"traits":{stored}}}"#
        );
        let event = RawJson::parse(event.as_bytes()).expect("stored properties are JSON");
        let read = native::parse_event(event, NOW, &LIMITS, new_id).expect("still an event");
        assert_eq!(read.event.properties, validated.event.properties);
    }
});

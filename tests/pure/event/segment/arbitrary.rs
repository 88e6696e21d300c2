//! Arbitrary input: never a panic, a reason for each refusal, and the same event from both formats.

use proptest::prelude::*;
use segmentd::domain::event::EventKind;
use segmentd::domain::wire::segment::{RequestForm, SegmentRequestBody};
use serde_json::{Value, json};

use super::{LIMITS, native_event, one, read, received};

fn made_up_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(Value::from("2024-05-01T11:00:00Z")),
        Just(Value::from("track")),
    ];
    let field = proptest::sample::select(vec![
        "type",
        "event",
        "userId",
        "anonymousId",
        "previousId",
        "groupId",
        "messageId",
        "name",
        "category",
        "properties",
        "traits",
        "timestamp",
        "originalTimestamp",
        "sentAt",
        "batch",
        "writeKey",
        "context",
        "customer_id",
        "message_id",
        "sent_at",
        "",
    ]);
    leaf.prop_recursive(4, 64, 8, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(field.clone().prop_map(str::to_owned), inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Any input: no panic, one result for each message, and a reason for each refusal.
    #[test]
    fn any_json_gets_an_event_or_reasons(value in made_up_json(), kind in 0..6_usize) {
        let text = value.to_string();
        let batch = format!(r#"{{"batch":[{text},{text}],"sentAt":{text}}}"#);
        let results = read(RequestForm::Batch, &batch);
        prop_assert_eq!(results.len(), 2);
        let one = RequestForm::One(EventKind::ALL[kind]);
        let single = SegmentRequestBody::parse(text.as_bytes(), one, 1000)
            .map(|body| body.read(received(), &LIMITS, || None).collect::<Vec<_>>())
            .unwrap_or_default();
        let native = native_event(&value, || None).map(|_| ());
        let all = results.into_iter().chain(single).map(|result| result.map(|_| ()));
        for faults in all.chain([native]).filter_map(Result::err) {
            prop_assert!(!faults.is_empty());
        }
    }

    /// Both formats give the same event.
    #[test]
    fn both_forms_agree(
        id in "[a-z]{1,8}", name in "[a-z]{1,8}", amount in any::<i32>(),
        age in 0..10_000_i64, skew in -10_000..10_000_i64,
    ) {
        let happened = received().plus_millis(-age).to_string();
        let sent = received().plus_millis(skew).to_string();
        let properties = json!({ "amount": amount, "nested": { "flag": true } });
        let segment = one(&json!({
            "type": "track", "userId": id, "event": name, "messageId": "m", "timestamp": happened,
            "sentAt": sent, "properties": properties,
        }));
        let native = native_event(&json!({
            "type": "track", "customer_id": id, "name": name, "message_id": "m",
            "timestamp": happened, "sent_at": sent, "properties": properties,
        }), || None);
        prop_assert_eq!(segment.unwrap(), native.unwrap());
    }

    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        for form in [RequestForm::Batch, RequestForm::One(EventKind::Track)] {
            if let Ok(body) = SegmentRequestBody::parse(&bytes, form, 1000) {
                body.read(received(), &LIMITS, || None).for_each(drop);
            }
        }
    }
}

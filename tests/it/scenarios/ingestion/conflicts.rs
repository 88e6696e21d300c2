//! Conflicts: an event with the id of another event and other content is reported, kept and
//! counted, at every endpoint, in any path of the commit.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::random::SeededRandom;
use crate::support::{TestApp, ndjson};

/// An order of `customer` with this message id.
fn order(customer: &str, message_id: &str, total: u64) -> Value {
    json!({
        "type": "track", "name": "Order Completed", "message_id": message_id,
        "customer_id": customer, "properties": { "sales_value": total, "unread": { "a": 1 } },
    })
}

fn segment_order(customer: &str, message_id: &str, total: u64) -> Value {
    json!({
        "type": "track", "event": "Order Completed", "messageId": message_id,
        "userId": customer, "properties": { "sales_value": total, "unread": { "a": 1 } },
    })
}

/// Checks the number of orders of a customer and their sum.
async fn assert_counted(app: &TestApp, customer: &str, orders: f64, spend: f64) {
    let (_, customer) = app.get(&format!("/v1/customers/{customer}")).await;
    for (name, expected) in [("orders_365d", orders), ("spend_365d", spend)] {
        let feature = customer["features"][name].as_f64().unwrap_or_else(|| panic!("{customer}"));
        assert!((feature - expected).abs() < 1e-9, "{name} is not {expected}: {customer}");
    }
}

fn statuses(answer: &Value) -> Vec<&str> {
    let outcomes = answer["outcomes"].as_array().unwrap_or_else(|| panic!("{answer}"));
    outcomes.iter().map(|outcome| outcome["status"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_is_reported_kept_and_counted_at_every_endpoint() {
    let app = TestApp::start().await;
    let (status, answer) = app.post("/v1/events", order("c", "m", 10).to_string()).await;
    assert_eq!((status, &answer["accepted"]), (200, &json!(1)), "{answer}");

    // Sent again, with what retries change.
    let mut again = order("c", "m", 10);
    again["sent_at"] = json!("2026-01-01T00:00:00Z");
    again["context"] = json!({ "attempt": 2 });
    let (status, answer) = app.post("/v1/events", again.to_string()).await;
    assert_eq!((status, statuses(&answer)), (200, vec!["duplicate"]), "{answer}");
    let (status, answer) = app.post("/v1/track", segment_order("c", "m", 10).to_string()).await;
    assert_eq!((status, &answer["duplicate"]), (200, &json!(1)), "{answer}");

    // Other content, one event alone.
    let changed = order("c", "m", 11).to_string();
    let (status, answer) = app.post("/v1/events", changed.clone()).await;
    assert_eq!((status, &answer["conflict"], &answer["rejected"]), (422, &json!(1), &json!(0)));
    assert_eq!(answer["outcomes"][0]["message_id"], "m");
    let fault = &answer["outcomes"][0]["errors"][0];
    assert_eq!(fault["field"], "message_id");
    let problem = fault["problem"].as_str().unwrap();
    assert!(problem.starts_with("belongs to an event of this customer with other"), "{problem}");
    assert!(problem.contains("received at 20") && problem.contains("an id of its own"));
    // A property that no feature reads is content too.
    let mut unread = order("c", "m", 10);
    unread["properties"]["unread"]["a"] = json!(2);
    assert_eq!(statuses(&app.post("/v1/events", unread.to_string()).await.1), ["conflict"]);

    // Beside good events, and within one batch.
    let batch = [
        order("c", "m", 12),
        order("c", "new", 1),
        order("c", "new", 1),
        order("c", "new", 2),
        order("d", "m", 10),
    ];
    let (status, answer) = app.post("/v1/events", json!(batch).to_string()).await;
    let expected = ["conflict", "accepted", "duplicate", "conflict", "accepted"];
    assert_eq!((status, statuses(&answer)), (207, expected.to_vec()), "{answer}");
    let (_, lines) = app.post("/v1/events/bulk", ndjson(&batch)).await;
    let lines = lines.as_str().unwrap().to_owned();
    let expected = ["conflict", "duplicate", "duplicate", "conflict", "duplicate"];
    for (line, expected) in lines.lines().zip(expected) {
        assert!(line.contains(&format!(r#""status":"{expected}""#)), "{lines}");
    }
    let batch = json!({ "batch": [segment_order("c", "m", 13), segment_order("c", "seg", 1)] });
    let (status, answer) = app.post("/v1/batch", batch.to_string()).await;
    assert_eq!((status, &answer["accepted"], &answer["conflict"]), (200, &json!(1), &json!(1)));
    assert_eq!(answer["rejections"][0]["index"], 0);
    assert_eq!(answer["rejections"][0]["errors"][0]["field"], "messageId");

    // A strict request counts nothing.
    for strict in [
        [order("c", "other", 1), order("c", "m", 14)],
        [order("c", "twice", 1), order("c", "twice", 2)],
    ] {
        let body = json!(strict).to_string();
        let (status, answer) = app.post("/v1/events?strict=true", body).await;
        assert_eq!((status, statuses(&answer)), (422, vec!["not_counted", "conflict"]));
        assert_eq!(answer["not_counted"], 1);
    }

    // The first event of each id counts, and each conflict outside of strict requests is kept.
    assert_counted(&app, "c", 3.0, 12.0).await;
    let conflicts = r#"segmentd_events_total{outcome="conflict"}"#;
    assert_eq!(app.metric(conflicts).await, 9);
    let (_, summary) = app.get("/v1/events/failed/summary").await;
    let groups = summary["groups"].as_array().unwrap();
    let rule = "belongs to an event of this customer with other content";
    let count = |endpoint: &str, field: &str| {
        let reason = format!("{field}: {rule}");
        let of = |group: &&Value| group["endpoint"] == endpoint && group["reason"] == reason;
        groups.iter().find(of).unwrap_or_else(|| panic!("{summary}"))["events"].clone()
    };
    assert_eq!(count("events", "message_id"), 4);
    assert_eq!(count("bulk", "message_id"), 2);
    assert_eq!(count("segment", "messageId"), 1);
    assert_eq!(groups.len(), 3, "{summary}");
    let (_, kept) = app.get("/v1/events/failed?raw=true").await;
    let raws: Vec<&str> = kept["failed_events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["raw"].as_str().unwrap())
        .collect();
    assert!(raws.contains(&changed.as_str()), "{raws:#?}");

    // A replay says the same again, and ends.
    for _ in 0..2 {
        let (_, replayed) = app.post("/v1/events/failed/replay", "{}").await;
        let expected = json!({
            "accepted": 0, "duplicate": 0, "conflict": 7, "rejected": 0, "next_cursor": null,
        });
        assert_eq!(replayed, expected);
    }
    let (_, again) = app.get("/v1/events/failed/summary").await;
    assert_eq!(again["groups"].as_array().unwrap().len(), 3);
    assert_counted(&app, "c", 3.0, 12.0).await;
    app.stop().await;
}

/// The id as sent decides, whatever customer it belongs to since.
#[tokio::test(flavor = "multi_thread")]
async fn a_merge_of_customers_changes_no_identity() {
    let app = TestApp::start().await;
    let device = |message: &str, total: u64| {
        let mut event = order("device", message, total);
        let event = event.as_object_mut().unwrap();
        event.remove("customer_id");
        event.insert("anonymous_id".into(), "device".into());
        Value::from(event.clone())
    };
    app.post("/v1/events", json!([device("m", 1), order("person", "m", 2)]).to_string()).await;
    let link = json!({
        "type": "identify", "message_id": "link", "customer_id": "person",
        "anonymous_id": "device", "traits": {},
    });
    let (status, answer) = app.post("/v1/events", link.to_string()).await;
    assert_eq!((status, statuses(&answer)), (200, vec!["accepted"]), "{answer}");
    assert_counted(&app, "person", 2.0, 3.0).await;
    let batch = [
        device("m", 1),
        device("m", 2),
        order("person", "m", 2),
        order("person", "m", 1),
        device("later", 4),
    ];
    let (_, answer) = app.post("/v1/events", json!(batch).to_string()).await;
    let expected = ["duplicate", "conflict", "duplicate", "conflict", "accepted"];
    assert_eq!(statuses(&answer), expected, "{answer}");
    assert_counted(&app, "person", 3.0, 7.0).await;
    // Another link under the same id is not dropped in silence either.
    let mut other = link.clone();
    other["anonymous_id"] = json!("other-device");
    let (_, answer) = app.post("/v1/events", other.to_string()).await;
    assert_eq!(statuses(&answer), ["conflict"], "{answer}");
    app.stop().await;
}

const CUSTOMERS: u64 = 20;
const MESSAGES: u64 = 10;
const SENDS: u64 = 3000;

/// Random sends of few identities, with and without changes, alone and in batches, through
/// three replicas at once: of each identity one content counts once, and each send is told so.
#[tokio::test(flavor = "multi_thread")]
async fn three_replicas_report_every_change_and_count_each_event_once() {
    let settings = [("failed_events.max_per_minute", "1000000")];
    let one = TestApp::start_with(&settings).await;
    let (two, three) = (one.replica_with(&settings).await, one.replica_with(&settings).await);
    let replicas = [&one, &two, &three];
    let mut draw = SeededRandom(7);
    let mut batches: Vec<Vec<(String, u64)>> = Vec::new();
    let mut sent = 0;
    while sent < SENDS {
        let size = [1, 1, 2, 20][usize::try_from(draw.below(4)).unwrap()];
        let sends = (0..size).map(|_| {
            let identity = format!("c{}/m{}", draw.below(CUSTOMERS), draw.below(MESSAGES));
            // Every second send is of the first content.
            (identity, draw.below(6).saturating_sub(2))
        });
        batches.push(sends.collect());
        sent += size;
    }
    // Each sender has its own batches and sends them to any replica, one after another.
    let senders = (0..8).map(|sender| {
        let own: Vec<_> = batches.iter().skip(sender).step_by(8).cloned().collect();
        async move {
            let mut verdicts = Vec::new();
            for (number, batch) in own.into_iter().enumerate() {
                let events: Vec<Value> = batch
                    .iter()
                    .map(|(identity, content)| {
                        let (customer, message) = identity.split_once('/').unwrap();
                        order(customer, message, 1 + content)
                    })
                    .collect();
                let body = json!(events).to_string();
                let (_, answer) = replicas[(number + sender) % 3].post("/v1/events", body).await;
                let statuses = statuses(&answer).into_iter().map(str::to_owned);
                verdicts.extend(batch.into_iter().zip(statuses));
            }
            verdicts
        }
    });
    let verdicts: Vec<_> = join_all(senders).await.into_iter().flatten().collect();

    let mut counted = BTreeMap::new();
    for ((identity, content), status) in &verdicts {
        if status == "accepted" {
            assert_eq!(counted.insert(identity, content), None, "{identity} counts twice");
        }
    }
    let mut conflicts = 0;
    for ((identity, content), status) in &verdicts {
        let is_same = counted.get(identity).unwrap_or_else(|| panic!("{identity}")) == &content;
        conflicts += u64::from(!is_same);
        match status.as_str() {
            "accepted" | "duplicate" => assert!(is_same, "{identity} {content} {status}"),
            "conflict" => assert!(!is_same, "{identity} {content} {status}"),
            other => panic!("{other}"),
        }
    }
    for customer in 0..CUSTOMERS {
        let prefix = format!("c{customer}/");
        let own = counted.iter().filter(|(identity, _)| identity.starts_with(&prefix));
        let (orders, spend) = own.fold((0.0, 0.0), |(orders, spend), (_, content)| {
            (orders + 1.0, spend + f64::from(u32::try_from(1 + **content).unwrap()))
        });
        let customer = format!("c{customer}");
        assert_counted(&one, &customer, orders, spend).await;
    }
    let (_, summary) = one.get("/v1/events/failed/summary").await;
    // One group for the key of each replica.
    let groups = summary["groups"].as_array().unwrap();
    let kept: u64 = groups.iter().map(|group| group["events"].as_u64().unwrap()).sum();
    assert_eq!(kept, conflicts, "{summary}");
    assert!(conflicts > SENDS / 4, "{conflicts}");
    three.stop().await;
    two.stop().await;
    one.stop().await;
}

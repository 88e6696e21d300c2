//! Channels with the topic `moves`: the moves of customers between segments as webhooks.

use std::collections::BTreeSet;
use std::time::Duration;

use segmentd::api::openapi_document;
use segmentd::domain::drift::Severity;
use segmentd::domain::id::CustomerKey;
use segmentd::domain::time::Timestamp;
use segmentd::service::clock::TimeSource;
use segmentd::store::customers::assignments::{
    NewAssignmentChange, PreviousAssignment, create_partitions, record_changes,
};
use serde_json::{Value, json};

use crate::support::alerting::{AlertingApp, BY_HAND, a_moment, found, receives};
use crate::support::models::assigned_by_rules;
use crate::support::webhook_receiver::{Behaviour, WebhookReceiver};
use crate::support::{NO_AUDIENCES, TestApp, eventually, eventually_within, ndjson, orders};

pub(super) fn moves_only() -> Value {
    json!({ "topics": ["moves"] })
}

/// Records that a customer moves through the segments, in one transaction.
pub(super) async fn record_moves(app: &TestApp, customer: &str, segments: &[&str], at: Timestamp) {
    let customer: CustomerKey = customer.parse().unwrap();
    let mut tx = app.db.begin().await.unwrap();
    create_partitions(&mut tx, at).await.unwrap();
    let mut before: Option<PreviousAssignment> = None;
    for segment in segments {
        let now = assigned_by_rules(segment, at);
        let change = NewAssignmentChange {
            customer: &customer,
            now: &now,
            before: before.as_ref(),
            audiences: &NO_AUDIENCES,
            is_of_audiences_only: false,
        };
        record_changes(&mut tx, &[change]).await.unwrap();
        before = Some(PreviousAssignment {
            generation: 0,
            is_fallback: true,
            segment_id: (*segment).into(),
            moved_at: None,
            audiences: Vec::new(),
            audience_version: 0,
        });
    }
    tx.commit().await.unwrap();
}

/// The events of all accepted messages, in order.
pub(crate) fn events(receiver: &WebhookReceiver) -> Vec<Value> {
    let messages = receiver.accepted();
    let moves = messages.iter().filter(|message| message.body["type"] == "customer.moves");
    moves.flat_map(|message| message.body["data"]["events"].as_array().unwrap().clone()).collect()
}

/// The events without repetitions, which receivers recognise by cursor and type.
fn first_events(receiver: &WebhookReceiver) -> Vec<Value> {
    let mut known = BTreeSet::new();
    let key = |event: &Value| (event["cursor"].to_string(), event["type"].to_string());
    events(receiver).into_iter().filter(|event| known.insert(key(event))).collect()
}

/// Customer, event type and segment of each event.
pub(super) fn summaries(events: &[Value]) -> Vec<String> {
    let text = |event: &Value, name: &str| event[name].as_str().unwrap().to_owned();
    let summary = |event: &Value| {
        ["customer_id", "type", "segment_id"].map(|name| text(event, name)).join(" ")
    };
    events.iter().map(summary).collect()
}

/// Waits until these events have arrived, each once, in this order.
pub(super) async fn receives_moves(receiver: &WebhookReceiver, expected: &[&str]) {
    eventually("the moves arrive", async || events(receiver).len() >= expected.len()).await;
    a_moment().await;
    assert_eq!(summaries(&events(receiver)), expected);
}

/// The events that follow from the moves of the change feed.
async fn expected_events(app: &TestApp) -> Vec<Value> {
    let (mut all, mut query) = (Vec::new(), String::new());
    loop {
        let (status, page) = app.get(&format!("/v1/changes?limit=1000{query}")).await;
        assert_eq!(status, 200, "{page}");
        for change in page["changes"].as_array().unwrap() {
            let event = |kind: &str, side: &Value| {
                json!({
                    "type": kind, "customer_id": change["customer_id"],
                    "segment_id": side["segment_id"], "segment_name": side["segment_name"],
                    "changed_at": change["changed_at"], "cursor": change["cursor"],
                })
            };
            if change["previous"].is_object() {
                all.push(event("segment.left", &change["previous"]));
            }
            all.push(event("segment.entered", change));
        }
        if page["more"] == false {
            return all;
        }
        query = format!("&cursor={}", page["next_cursor"].as_str().unwrap());
    }
}

/// Two replicas write and deliver, and the receiver fails half of the time.
#[tokio::test(flavor = "multi_thread")]
async fn every_move_arrives_in_order_although_the_receiver_fails_half_of_the_time() {
    let (clock, now) = TimeSource::manual(TimeSource::System.now());
    let one = TestApp::start_at(clock.clone(), &BY_HAND).await;
    let same_database = [("database.url", one.database_url())];
    let two = TestApp::start_at(clock, &[&BY_HAND[..], &same_database].concat()).await;
    one.app.api_keys.refresh().await.unwrap();
    two.app.api_keys.refresh().await.unwrap();
    let receiver = WebhookReceiver::start().await;
    receiver.set(Behaviour::FailsHalfOfTheTime);
    let body = json!({
        "name": "moves", "target": { "kind": "webhook", "url": receiver.url }, "topics": ["moves"],
    });
    let (status, made) = one.post("/v1/channels", body.to_string()).await;
    assert_eq!((status, &made["topics"]), (201, &json!(["moves"])), "{made}");

    let post = async |app: &TestApp, events: &[Value]| {
        for batch in events.chunks(60) {
            assert_eq!(app.post("/v1/events/bulk", ndjson(batch)).await.0, 200);
        }
    };
    let sent = orders(130, 3);
    let (first, second) = sent.split_at(sent.len() / 2);
    tokio::join!(post(&one, first), post(&two, second));
    // All customers are rescored by the new model.
    one.train().await;
    let patience = Duration::from_mins(3);
    eventually_within(patience, "all moves have arrived", async || {
        if receiver.received().last().is_some_and(|last| !last.is_accepted) {
            // The first delay of a retry.
            now.fetch_add(6000, std::sync::atomic::Ordering::Relaxed);
        }
        let expected = expected_events(&one).await;
        expected.iter().any(|event| event["type"] == "segment.left")
            && first_events(&receiver).last() == expected.last()
    })
    .await;

    assert_eq!(first_events(&receiver), expected_events(&one).await);
    let received = receiver.received();
    let secret = standardwebhooks::Webhook::new(made["secret"].as_str().unwrap()).unwrap();
    let document = openapi_document();
    let schema = json!({
        "$ref": "#/components/schemas/CustomerMovesMessage", "components": document["components"],
    });
    let schema = jsonschema::validator_for(&schema).unwrap();
    for message in &received {
        let header = |name: &str| message.headers[name].to_str().unwrap();
        let at = header("webhook-timestamp").parse().unwrap();
        let signature = secret.sign(&message.id, at, &message.payload).unwrap();
        assert_eq!(header("webhook-signature"), signature);
        schema.validate(&message.body).unwrap_or_else(|error| panic!("{error}: {message:?}"));
        assert!(message.payload.len() < 20_000, "{} bytes", message.payload.len());
        let cursors = message.body["data"]["events"].as_array().unwrap().iter();
        let moves: BTreeSet<_> = cursors.map(|event| event["cursor"].to_string()).collect();
        assert!(moves.len() <= 50 && message.body["data"]["gap"] == false, "{message:?}");
    }
    // The same events have the same id.
    for pair in received.windows(2) {
        assert_eq!(pair[0].id == pair[1].id, pair[0].payload == pair[1].payload);
    }
    let failed = received.iter().filter(|message| !message.is_accepted).count();
    assert!(failed >= received.len() / 2, "{failed} of {}", received.len());
    let mut counted = 0;
    for app in [&one, &two] {
        for kind in ["left", "entered"] {
            let metric = format!("segmentd_move_events_total{{type=\"{kind}\"}}");
            counted += app.metric(&metric).await;
        }
    }
    assert_eq!(counted, events(&receiver).len() as u64);
    eventually("no change is undelivered", async || {
        one.metric("segmentd_move_oldest_undelivered_seconds").await == 0
    })
    .await;
    two.stop().await;
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn moves_are_sent_to_webhooks_that_name_the_topic_and_only_from_then_on() {
    let alerting = AlertingApp::start().await;
    let app = &alerting.app;
    let (moves, both, alerts) =
        tokio::join!(WebhookReceiver::start(), WebhookReceiver::start(), WebhookReceiver::start());
    record_moves(app, "early", &["a"], alerting.now()).await;
    alerting.channel("moves", &moves, moves_only()).await;
    alerting.channel("both", &both, json!({ "topics": ["source", "moves"] })).await;
    let later = alerting.channel("alerts", &alerts, json!({})).await;
    record_moves(app, "c1", &["a", "a", "b"], alerting.now()).await;
    let c1 = ["c1 segment.entered a", "c1 segment.left a", "c1 segment.entered b"];
    receives_moves(&moves, &c1).await;
    receives_moves(&both, &c1).await;
    alerting.raise(&found("one", Severity::Warning, None)).await;
    receives(&alerts, &["source.firing of one"]).await;
    assert_eq!(
        events(&moves).len(),
        moves.received()[0].body["data"]["events"].as_array().unwrap().len()
    );
    assert!(both.summaries().contains(&"source.firing of one".to_owned()));

    // The topic is added later, taken away and added again.
    let path = format!("/v1/channels/{later}");
    let with = |topics: Value| json!({ "name": "alerts", "topics": topics }).to_string();
    assert_eq!(app.put(&path, with(json!(["moves"]))).await.0, 200);
    record_moves(app, "c2", &["a"], alerting.now()).await;
    receives_moves(&alerts, &["c2 segment.entered a"]).await;
    assert_eq!(app.put(&path, with(json!([]))).await.0, 200);
    record_moves(app, "c3", &["a"], alerting.now()).await;
    eventually("the others have the move", async || events(&both).len() == 5).await;
    assert_eq!(app.put(&path, with(json!(["moves"]))).await.0, 200);
    record_moves(app, "c4", &["a"], alerting.now()).await;
    receives_moves(&alerts, &["c2 segment.entered a", "c4 segment.entered a"]).await;

    // Other receivers are refused, also for an existing channel, and so are silences.
    let slack = json!({ "kind": "slack", "url": "https://hooks.example.com/x" });
    let refused = json!({ "name": "x", "target": slack, "topics": ["drift", "moves"] });
    for (status, problem) in [
        app.post("/v1/channels", refused.to_string()).await,
        app.put(&path, refused.to_string()).await,
    ] {
        assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!("topics")), "{problem}");
    }
    let until = alerting.now().plus_millis(60_000);
    let silence = json!({ "topic": "moves", "until": until, "reason": "a test" });
    let (status, problem) = app.post("/v1/silences", silence.to_string()).await;
    assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!("topic")), "{problem}");
    assert_eq!(app.get("/v1/alerts?topic=moves").await.0, 422);
    alerting.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merged_customer_leaves_its_segment_and_enters_none() {
    let alerting = AlertingApp::start().await;
    let app = &alerting.app;
    let receiver = WebhookReceiver::start().await;
    alerting.channel("moves", &receiver, moves_only()).await;
    let order = |id: &str| {
        json!({
            "type": "track", "name": "Order Completed", "message_id": format!("m-{id}"),
            "customer_id": id, "properties": { "sales_value": 5 },
        })
    };
    let sent = json!([order("ada"), order("bob")]);
    assert_eq!(app.post("/v1/events", sent.to_string()).await.0, 200);
    let alias = json!({
        "type": "alias", "message_id": "m", "previous_id": "ada", "customer_id": "bob",
    });
    assert_eq!(app.post("/v1/events", alias.to_string()).await.0, 200);
    let merged = |event: &&Value| !event["merged_into"].is_null();
    eventually("the merge arrives", async || events(&receiver).iter().any(|one| merged(&one)))
        .await;
    let all = events(&receiver);
    let merged: Vec<_> = all.iter().filter(merged).collect();
    assert_eq!(merged.len(), 1, "{all:?}");
    let id = merged[0]["customer_id"].as_str().unwrap();
    let survivor = merged[0]["merged_into"].as_str().unwrap();
    assert_eq!(BTreeSet::from([id, survivor]), BTreeSet::from(["ada", "bob"]));
    assert_eq!(merged[0]["type"], "segment.left");
    let of_merged: Vec<_> = all.iter().filter(|event| event["customer_id"] == id).collect();
    assert_eq!(of_merged.len(), 2, "{all:?}");
    assert_eq!(of_merged[0]["segment_id"], of_merged[1]["segment_id"]);
    alerting.app.stop().await;
}

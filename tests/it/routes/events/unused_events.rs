//! `GET /v1/events/unused`: accepted events that no feature uses, over replicas and restarts.

use serde_json::{Value, json};

use segmentd::domain::time::MILLIS_PER_DAY;
use segmentd::service::clock::TimeSource;

use crate::support::contract::assert_described;
use crate::support::{TestApp, ndjson};

fn track(name: &str, id: usize) -> Value {
    json!({
        "type": "track", "name": name, "customer_id": format!("c{id}"),
        "message_id": format!("m{id}"), "properties": { "sales_value": 5 },
    })
}

async fn unused(app: &TestApp, query: &str) -> Value {
    let (status, answer) = app.get(&format!("/v1/events/unused{query}")).await;
    assert_eq!(status, 200, "{answer}");
    assert_described("UnusedEventList", &answer);
    answer
}

const ALL_NAMES: [(&str, &str); 1] = [("ingestion.stored_event_names", "all")];

fn items(answer: &Value) -> &Vec<Value> {
    answer["unused_events"].as_array().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_are_summed_over_endpoints_replicas_and_restarts() {
    let app = TestApp::start_with(&ALL_NAMES).await;
    let other = app.replica_with(&ALL_NAMES).await;
    assert_eq!(items(&unused(&app, "").await).len(), 0);

    // Each endpoint counts; a duplicate, a rejected event and an event that is read do not.
    let misspelt = "order completed";
    let sent = json!([track(misspelt, 1), track(misspelt, 1), track("Order Completed", 2), {}]);
    let (status, answer) = app.post("/v1/events", sent.to_string()).await;
    assert_eq!((status, &answer["accepted"]), (207, &json!(2)), "{answer}");
    let strict = json!([track(misspelt, 3)]).to_string();
    assert_eq!(app.post("/v1/events?strict=true", strict).await.0, 200);
    let lines = ndjson(&[track(misspelt, 4), track(misspelt, 5)]);
    assert_eq!(other.post("/v1/events/bulk", lines).await.0, 200);
    let segment = json!({ "userId": "c6", "event": misspelt, "messageId": "m6" });
    assert_eq!(other.post("/v1/track", segment.to_string()).await.0, 200);

    // Traits and pages have no name; an order without its amount names the property.
    let further = json!([
        { "type": "identify", "customer_id": "c1", "traits": { "shoe_size": 43 } },
        { "type": "page", "name": "Home", "customer_id": "c1" },
        { "type": "track", "name": "Order Completed", "customer_id": "c1", "message_id": "m7" },
    ]);
    let (_, answer) = other.post("/v1/events", further.to_string()).await;
    assert_eq!(answer["accepted"], 3, "{answer}");
    // A replica stores its counts when it stops.
    other.stop().await;

    let found = unused(&app, "").await;
    let [missing, identify, page, order] = &items(&found)[..] else { panic!("{found}") };
    assert_eq!(
        (&missing["reason"], &missing["name"], &missing["property"], &missing["events"]),
        (&json!("missing_property"), &json!("Order Completed"), &json!("sales_value"), &json!(1))
    );
    assert_eq!((&identify["type"], &identify["name"]), (&json!("identify"), &Value::Null));
    assert_eq!((&page["type"], &page["name"]), (&json!("page"), &json!("Home")));
    assert_eq!(
        (&order["reason"], &order["type"], &order["name"], &order["events"]),
        (&json!("unread"), &json!("track"), &json!(misspelt), &json!(5)),
        "{found}"
    );
    assert_eq!(order["nearest_name"], "Order Completed");
    assert_eq!(
        order["warning"],
        "no feature reads `order completed`; did you mean `Order Completed`?"
    );
    assert!(order["first_event_at"].as_str() < order["last_event_at"].as_str(), "{order}");
    assert_eq!(found["further_events"], 0);

    // A process that starts later finds the counts, and adds to them.
    let restarted = app.replica_with(&ALL_NAMES).await;
    assert_eq!(unused(&restarted, "").await, found);
    restarted.post("/v1/events", track(misspelt, 8).to_string()).await;
    restarted.stop().await;
    assert_eq!(items(&unused(&app, "").await)[3]["events"], 6);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_names_is_bounded_and_further_ones_are_counted_together() {
    let app = TestApp::start_with(&ALL_NAMES).await;
    let other = app.replica_with(&ALL_NAMES).await;
    // Two replicas together send more names than are kept, one of them very long.
    let long = "A".repeat(20_000);
    let name = |id: usize| if id == 0 { long.clone() } else { format!("Event {id:03}") };
    let events: Vec<Value> = (0..120).map(|id| track(&name(id), id)).collect();
    assert_eq!(app.post("/v1/events/bulk", ndjson(&events)).await.0, 200);
    let events: Vec<Value> = (120..230).map(|id| track(&name(id), id)).collect();
    assert_eq!(other.post("/v1/events/bulk", ndjson(&events)).await.0, 200);
    let (one, two) = (app.app.ingestion.unused_events(), other.app.ingestion.unused_events());
    let both = tokio::join!(one.flush(), two.flush());
    assert!(both.0.is_ok() && both.1.is_ok(), "{both:?}");
    let again: Vec<Value> = (300..305).map(|id| track("Event 007", id)).collect();
    app.post("/v1/events", json!(again).to_string()).await;

    let all = unused(&app, "?limit=400").await;
    assert_eq!((items(&all).len(), &all["further_events"]), (200, &json!(30)));
    let sum: u64 = items(&all).iter().map(|item| item["events"].as_u64().unwrap()).sum();
    assert_eq!(sum, 205);
    let longest = items(&all).iter().map(|item| item["name"].as_str().unwrap().len()).max();
    assert_eq!(longest, Some(203));

    let mut paged = Vec::new();
    let mut query = "?limit=150".to_owned();
    loop {
        let page = unused(&app, &query).await;
        paged.extend(items(&page).clone());
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        query = format!("?limit=150&cursor={cursor}");
    }
    assert_eq!(json!(paged), all["unused_events"]);
    assert_eq!(app.get("/v1/events/unused?limit=401").await.0, 422);
    other.stop().await;
    app.stop().await;
}

/// Events whose name is not stored are counted by the declared name that was meant.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_not_stored_is_not_listed() {
    let settings = [("ingestion.stored_event_names", "Video Played")];
    let app = TestApp::start_with(&settings).await;
    let names =
        ["Diagnosis Opened", "Therapy Opened", "Video Played", "order completed", "Order Complet"];
    let sent: Vec<Value> = (0..5).map(|id| track(names[id], id)).collect();
    assert_eq!(app.post("/v1/events", json!(sent).to_string()).await.0, 200);
    let found = unused(&app, "").await;
    let text = found.to_string();
    for hidden in ["Diagnosis", "Therapy", "order completed", "Complet`"] {
        assert!(!text.contains(hidden), "{hidden}: {found}");
    }
    let listed: Vec<Value> = items(&found)
        .iter()
        .map(|item| json!([item["name"], item["nearest_name"], item["events"]]))
        .collect();
    let expected =
        json!([[null, null, 2], [null, "Order Completed", 2], ["Video Played", null, 1]]);
    assert_eq!(json!(listed), expected);
    assert_eq!(
        items(&found)[1]["warning"],
        "no feature reads the event; did you mean `Order Completed`?"
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_deleted_35_days_after_its_last_event() {
    let (clock, now) = TimeSource::manual(TimeSource::System.now());
    let app = TestApp::start_at(clock, &ALL_NAMES).await;
    let pass =
        |days: i64| now.fetch_add(days * MILLIS_PER_DAY, std::sync::atomic::Ordering::Relaxed);
    let counter = app.app.ingestion.unused_events();
    app.post("/v1/events", track("Old", 1).to_string()).await;
    pass(20);
    app.post("/v1/events", track("New", 2).to_string()).await;
    for (days, names) in [(14, vec!["New", "Old"]), (2, vec!["New"]), (20, vec![])] {
        pass(days);
        counter.flush().await.unwrap();
        counter.delete_expired().await.unwrap();
        let found = unused(&app, "").await;
        let listed: Vec<&str> =
            items(&found).iter().map(|item| item["name"].as_str().unwrap()).collect();
        assert_eq!(listed, names, "{found}");
    }
    app.stop().await;
}

//! `/v1/audiences…`, and audiences in answers, changes, exports, webhooks and metrics.

use std::sync::atomic::Ordering;

use segmentd::domain::time::{MILLIS_PER_DAY, Timestamp};
use segmentd::service::clock::TimeSource;
use serde_json::{Value, json};

use crate::routes::alerting::moves;
use crate::support::alerting::BY_HAND;
use crate::support::webhook_receiver::WebhookReceiver;
use crate::support::{TestApp, eventually, ndjson, orders};

fn order(customer: &str, message: &str) -> String {
    json!({
        "type": "track", "name": "Order Completed", "customer_id": customer, "message_id": message,
        "properties": { "sales_value": 40.0, "lines": 2 },
    })
    .to_string()
}

async fn define(app: &TestApp, name: &str, expression: &str) -> (u16, Value) {
    let body = json!({ "expression": expression, "reason": "tested" });
    app.put(&format!("/v1/audiences/{name}"), body.to_string()).await
}

async fn settle(app: &TestApp) {
    eventually("all customers are evaluated", async || {
        app.get("/v1/audiences").await.1["pending_customers"] == 0
    })
    .await;
}

async fn members(app: &TestApp, name: &str) -> Vec<String> {
    let (mut found, mut query) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/audiences/{name}/customers?limit=7{query}");
        let (status, page) = app.get(&path).await;
        assert_eq!(status, 200, "{page}");
        let customers = page["customers"].as_array().unwrap();
        found.extend(customers.iter().map(|id| id.as_str().unwrap().to_owned()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        query = format!("&cursor={cursor}");
    }
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_enters_and_leaves_an_audience_in_every_answer() {
    let (clock, now) = TimeSource::manual(Timestamp::from_millis(19_700 * MILLIS_PER_DAY));
    let settings = [&BY_HAND[..], &[("scheduled_rescoring.poll_seconds", "1")]].concat();
    let app = TestApp::start_at(clock, &settings).await;
    let receiver = WebhookReceiver::start().await;
    let channel = json!({
        "name": "crm", "target": { "kind": "webhook", "url": receiver.url }, "topics": ["moves"],
    });
    assert_eq!(app.post("/v1/channels", channel.to_string()).await.0, 201);
    let (status, made) = define(&app, "buyers", "features.orders >= 2").await;
    assert_eq!((status, &made["customers"], &made["fault"]), (201, &json!(0), &Value::Null));
    assert_eq!(made["change"]["reason"], "tested", "{made}");
    let rule = "audiences.buyers and features.recency_days > 30 days";
    assert_eq!(define(&app, "lapsed_buyers", rule).await.0, 201);

    let (status, first) = app.post("/v1/events", order("c1", "m1")).await;
    assert_eq!((status, &first["outcomes"][0]["audiences"]), (200, &json!([])), "{first}");
    let (_, second) = app.post("/v1/events", order("c1", "m2")).await;
    assert_eq!(second["outcomes"][0]["audiences"], json!(["buyers"]), "{second}");
    assert_eq!(app.get("/v1/customers/c1").await.1["audiences"], json!(["buyers"]));

    // Time alone changes the audience, at the instant that the rule names.
    let due = now.load(Ordering::Relaxed) + 30 * MILLIS_PER_DAY;
    now.store(due - 1_000, Ordering::Relaxed);
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    assert_eq!(app.get("/v1/customers/c1").await.1["audiences"], json!(["buyers"]));
    now.store(due + 60_000, Ordering::Relaxed);
    eventually("the customer lapses", async || {
        let (_, customer) = app.get("/v1/customers/c1").await;
        customer["audiences"] == json!(["buyers", "lapsed_buyers"])
    })
    .await;
    let (_, third) = app.post("/v1/events", order("c1", "m3")).await;
    assert_eq!(third["outcomes"][0]["audiences"], json!(["buyers"]), "{third}");

    // The feed has each entry and exit, in order.
    let (_, feed) = app.get("/v1/changes?audience=lapsed_buyers").await;
    let changes = feed["changes"].as_array().unwrap();
    let summary: Vec<[&Value; 2]> =
        changes.iter().map(|c| [&c["audiences_entered"], &c["audiences_left"]]).collect();
    let (names, none) = (json!(["lapsed_buyers"]), Value::Null);
    assert_eq!(summary, [[&names, &none], [&none, &names]], "{feed}");
    let (_, history) = app.get("/v1/customers/c1/history").await;
    assert_eq!(history["changes"][0]["audiences_left"], names, "{history}");
    assert_eq!(history["changes"][1]["audiences_entered"], names, "{history}");
    let (status, refused) = app.get("/v1/changes?audience=buyer").await;
    assert_eq!(status, 422, "{refused}");
    assert!(refused.to_string().contains("the audiences are `buyers`, `lapsed_buyers`"));

    // The webhook and the export have them too.
    let of_lapsed = || {
        let events = moves::events(&receiver).into_iter();
        let events = events.filter(|event| event["type"] == "audiences.changed");
        events.filter(|event| event.to_string().contains("lapsed_buyers")).collect::<Vec<_>>()
    };
    eventually("the webhook is told", async || of_lapsed().len() == 2).await;
    assert_eq!(of_lapsed()[0]["audiences_entered"], names);
    assert_eq!(of_lapsed()[1]["audiences_left"], names);
    let (_, csv) = app.get("/v1/assignments?format=csv").await;
    let mut lines = csv.as_str().unwrap().lines();
    let column = lines.next().unwrap().split(',').position(|name| name == "audiences").unwrap();
    assert_eq!(lines.next().unwrap().split(',').nth(column), Some("buyers"));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stored_customers_follow_the_definitions() {
    let app = TestApp::start().await;
    app.post("/v1/events/bulk", ndjson(&orders(39, 3))).await;
    let large = order("large", "m1").replace("40.0", "900");
    assert_eq!(app.post("/v1/events", large).await.0, 200);
    let (status, preview) =
        app.post("/v1/audiences/all/preview", r#"{"expression": "features.orders >= 1"}"#).await;
    assert_eq!(status, 200, "{preview}");
    assert_eq!(
        (&preview["sampled_customers"], &preview["selected_customers"]),
        (&json!(40), &json!(40))
    );
    assert_eq!((&preview["share"], &preview["share_interval"]), (&json!(1.0), &json!([1.0, 1.0])));
    // A small group is not counted, an empty one is.
    for (name, spend, selected) in [("few", 500.0, Value::Null), ("none", 1e6, json!(0))] {
        let rule = json!({ "expression": format!("features.spend_365d > {spend}") });
        let path = format!("/v1/audiences/{name}/preview");
        let (_, small) = app.post(&path, rule.to_string()).await;
        assert_eq!(small["selected_customers"], selected, "{small}");
    }

    assert_eq!(define(&app, "all", "features.orders >= 1").await.0, 201);
    assert_eq!(define(&app, "others", "not audiences.all").await.0, 201);
    settle(&app).await;
    assert_eq!(members(&app, "all").await.len(), 40);
    assert_eq!(members(&app, "others").await, [""; 0]);
    let (_, listed) = app.get("/v1/audiences").await;
    let sizes: Vec<&Value> =
        listed["audiences"].as_array().unwrap().iter().map(|one| &one["customers"]).collect();
    assert_eq!(sizes, [40, 0], "{listed}");

    // A new rule moves the customers of the audience, and of those that name it.
    let (status, changed) = define(&app, "all", "features.orders >= 1000").await;
    assert_eq!(status, 200, "{changed}");
    settle(&app).await;
    assert_eq!(members(&app, "all").await, [""; 0]);
    assert_eq!(members(&app, "others").await.len(), 40);
    eventually("the sizes are in the metrics", async || {
        let (_, metrics) = app.admin("/metrics").await;
        metrics.contains("segmentd_audience_customers{audience=\"others\"} 40")
    })
    .await;

    // What another rule names stays, and a deleted audience has no customers.
    let (status, kept) = app.delete("/v1/audiences/all").await;
    assert_eq!(status, 409, "{kept}");
    assert!(kept.to_string().contains("the rule of the audience `others` names `all`"), "{kept}");
    assert_eq!(app.delete("/v1/audiences/others").await.0, 204);
    assert_eq!(app.delete("/v1/audiences/all").await.0, 204);
    settle(&app).await;
    assert_eq!(app.get("/v1/audiences/all").await.0, 404);
    assert_eq!(app.get("/v1/audiences/all/customers").await.0, 404);
    let (_, versions) = app.get("/v1/audiences/all/history").await;
    let deleted: Vec<&Value> =
        versions["versions"].as_array().unwrap().iter().map(|one| &one["deleted"]).collect();
    assert_eq!(deleted, [true, false, false], "{versions}");
    let (_, customer) = app.get("/v1/customers/c0001").await;
    assert_eq!(customer["audiences"], json!([]), "{customer}");
    // Defined again before the customers have left, they never left.
    assert_eq!(define(&app, "again", "features.orders >= 1").await.0, 201);
    settle(&app).await;
    let (_, newest) = app.get("/v1/changes?audience=again&limit=1000").await;
    let entries = newest["changes"].as_array().unwrap().len();
    assert_eq!(entries, 40, "{newest}");
    let deleted = app.delete("/v1/audiences/again").await;
    assert_eq!(deleted.0, 204, "{deleted:?}");
    assert_eq!(define(&app, "again", "features.orders >= 1").await.0, 201);
    settle(&app).await;
    assert_eq!(members(&app, "again").await.len(), 40);
    let (_, feed) = app.get("/v1/changes?audience=again&limit=1000").await;
    for change in feed["changes"].as_array().unwrap() {
        let both = change["audiences_entered"].is_array() && change["audiences_left"].is_array();
        assert!(!both, "{change}");
    }
    // A change of the description alone evaluates nobody again.
    let described = json!({
        "expression": "features.orders >= 1", "description": "all", "reason": "tested",
    });
    let changed = app.put("/v1/audiences/again", described.to_string()).await;
    assert_eq!((changed.0, &changed.1["description"]), (200, &json!("all")), "{changed:?}");
    assert_eq!(app.get("/v1/audiences").await.1["pending_customers"], 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_faulty_definition_changes_nothing_and_says_what_is_right() {
    let app = TestApp::start().await;
    app.post("/v1/events/bulk", ndjson(&orders(150, 4))).await;
    app.train().await;
    let (_, segments) = app.get("/v1/segments").await;
    let segment = &segments["segments"][0];
    let (id, name) = (segment["segment_id"].as_str().unwrap(), segment["name"].as_str().unwrap());
    assert_eq!(define(&app, "first", &format!("segment_id = '{id}'")).await.0, 201);
    let by_name = format!("the segment `{name}` has the id `{id}`");
    for (audience, expression, field, expected) in [
        ("Vip", "outlier", "name", "must match [a-z][a-z0-9_]*"),
        ("vip", "features.order > 3", "expression", "at character 1: there is no feature `order`"),
        ("vip", "outlier and audiences.vip", "expression", "depends on itself: vip → vip"),
        ("first", "audiences.first", "expression", "depends on itself: first → first"),
        ("vip", "audiences.second", "expression", "at character 1: there is no audience `second`"),
        (
            "vip",
            "segment_id = 'seg_x'",
            "expression",
            "at character 14: there is no segment `seg_x`",
        ),
        ("vip", &format!("segment_id in ('{name}')"), "expression", &by_name),
        ("vip", " ", "expression", "expected a condition"),
    ] {
        for path in
            [format!("/v1/audiences/{audience}"), format!("/v1/audiences/{audience}/preview")]
        {
            let (status, refused) = if path.ends_with("preview") {
                app.post(&path, json!({ "expression": expression }).to_string()).await
            } else {
                define(&app, audience, expression).await
            };
            assert_eq!(status, 422, "{path} {expression}: {refused}");
            let text = refused.to_string();
            assert!(text.contains(expected) && text.contains(&format!("\"{field}\"")), "{refused}");
        }
    }
    let (_, listed) = app.get("/v1/audiences").await;
    assert_eq!(listed["audiences"].as_array().unwrap().len(), 1, "{listed}");
    settle(&app).await;
    let (_, present) = app.get("/v1/segments").await;
    let size = present["segments"][0]["customers"].as_u64().unwrap();
    assert_eq!(members(&app, "first").await.len() as u64, size);
    app.stop().await;
}

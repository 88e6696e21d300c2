//! `/v1/alerts`: raised once, announced to the owner, escalated, acknowledged, resolved. The
//! test controls the clock.

use crate::support::alerting::{AlertingApp, a_moment, found, receives, watcher};
use crate::support::pages::all_pages;
use crate::support::webhook_receiver::WebhookReceiver;
use crate::support::{eventually, ndjson, orders};
use segmentd::config::DriftCheckSources;
use segmentd::domain::drift::Severity;
use segmentd::domain::time::Timestamp;
use segmentd::service::alerts::NewAlert;
use segmentd::service::drift::monitor::DriftMonitor;
use serde_json::{Value, json};

const CUSTOMERS: usize = 400;
/// One more hour with these rows, then the check.
async fn an_hour(alerting: &AlertingApp, watcher: &DriftMonitor, rows: &[Value]) {
    alerting.pass(3600);
    let body = json!({ "rows": rows }).to_string();
    assert_eq!(alerting.app.post("/v1/score", body).await.0, 200);
    alerting.app.app.drift.flush().await.unwrap();
    // Two replicas check at once: it counts once.
    let both = tokio::join!(watcher.check_if_due(), watcher.check_if_due());
    both.0.unwrap();
    both.1.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_is_announced_to_its_owner_once_and_again_when_it_is_resolved() {
    let alerting = AlertingApp::start().await;
    let app = &alerting.app;
    let (finance, other, pager) =
        tokio::join!(WebhookReceiver::start(), WebhookReceiver::start(), WebhookReceiver::start());
    alerting.channel("finance", &finance, json!({ "owners": ["finance@example.com"] })).await;
    alerting.channel("other", &other, json!({ "owners": ["other@example.com"] })).await;
    let route = json!({ "topics": ["drift"], "min_severity": "critical", "escalation_delay_seconds": 5400 });
    alerting.channel("pager", &pager, route).await;
    app.post("/v1/events/bulk", ndjson(&orders(CUSTOMERS, 5))).await;
    app.train().await;
    let mut rows = Vec::new();
    for customer in 0..CUSTOMERS {
        let (_, body) = app.get(&format!("/v1/customers/c{customer:04}")).await;
        rows.push(body["features"].clone());
    }
    let mut shifted = rows.clone();
    for row in &mut shifted {
        row["spend_365d"] = json!(row["spend_365d"].as_f64().unwrap() * 3.0);
    }
    let watcher = watcher(app, DriftCheckSources::Rows);

    // No finding; then one, which may be chance; then another.
    an_hour(&alerting, &watcher, &rows).await;
    an_hour(&alerting, &watcher, &shifted).await;
    let first = alerting.now();
    assert_eq!(app.get("/v1/alerts?state=all").await.1["alerts"], json!([]));
    an_hour(&alerting, &watcher, &shifted).await;
    let key = "drift:values:rows:Order_Completed:finance@example.com";
    let fired = format!("drift.firing of {key}");
    receives(&finance, &[&fired]).await;
    let message = finance.accepted()[0].clone();
    assert_eq!(message.field("owner"), "finance@example.com");
    assert_eq!(message.field("severity"), "critical");
    let description = message.field("description");
    let start = "Spend net of returns, 365 days rose in the rows sent to be scored (since ";
    assert!(description.starts_with(start), "{description}");
    assert!(description.contains(" USD at training. "), "{description}");
    let (plain, statistics) = description.split_once("\n\n").unwrap();
    assert!(
        !plain.contains("PSI") && statistics.starts_with("Statistics (Spend "),
        "{description}"
    );
    assert!(message.field("advice").starts_with("finance@example.com: check"));
    assert!(message.body["data"]["bars"].as_array().unwrap().len() > 3, "{}", message.body);
    let facts = message.body["data"]["facts"].as_array().unwrap();
    let fact = |name: &str| {
        facts.iter().find(|fact| fact["name"] == name).unwrap()["value"].as_str().unwrap()
    };
    assert!(fact("PSI").contains("by chance alone") && fact("p-value").starts_with("< "));
    assert!(fact("Moved by, on average").ends_with(" USD"));
    let hour = first.millis().div_euclid(3_600_000) * 3_600_000;
    assert_eq!(fact("Found since"), Timestamp::from_millis(hour).to_string());
    // The segments and the distances changed too: parts of the same alert.
    let (_, all) = app.get("/v1/alerts").await;
    assert_eq!(all["alerts"].as_array().unwrap().len(), 1, "{all}");
    let alert = alerting.firing(key).await.unwrap();
    let id = alert["alert_id"].as_str().unwrap();
    assert_eq!(message.field("link"), format!("https://segmentd.example.com/v1/alerts/{id}"));
    let (status, svg) = app.get(alert["picture_url"].as_str().unwrap()).await;
    assert!(status == 200 && svg.as_str().unwrap().contains("Spend net of returns, 365 days"));
    let (_, listed) = app.get("/v1/alerts?owner=finance@example.com&topic=drift").await;
    assert_eq!(listed["alerts"].as_array().unwrap().len(), 1, "{listed}");

    // The alert keeps firing: it is not announced again, and is escalated because it is not
    // acknowledged.
    an_hour(&alerting, &watcher, &shifted).await;
    alerting.alerts().notify_due_alerts().await.unwrap();
    a_moment().await;
    assert_eq!(pager.summaries(), [""; 0]);
    an_hour(&alerting, &watcher, &shifted).await;
    alerting.alerts().notify_due_alerts().await.unwrap();
    eventually("the pager is notified", async || pager.summaries().contains(&fired)).await;
    let metrics = app.admin("/metrics").await.1;
    let line = "segmentd_alerts_firing{severity=\"critical\",topic=\"drift\"} ";
    assert!(metrics.lines().any(|l| l.starts_with(line) && !l.ends_with(" 0")), "{metrics}");

    // Resolved after three checks without a finding.
    for _ in 0..3 {
        assert_eq!(finance.summaries().len(), 1);
        an_hour(&alerting, &watcher, &rows).await;
    }
    let over = format!("drift.resolved of {key}");
    receives(&finance, &[&fired, &over]).await;
    assert_eq!(finance.accepted()[1].field("alert_id"), id);
    eventually("the pager gets the resolution", async || pager.summaries().contains(&over)).await;
    assert_eq!(other.summaries(), [""; 0]);
    let (_, shown) = app.get(&format!("/v1/alerts/{id}")).await;
    assert_eq!(shown["state"], "resolved");
    assert_eq!(shown["resolved_reason"], "it was not found in the last 3 checks");
    assert_eq!(shown["deliveries"].as_array().unwrap().len(), 4, "{shown}");

    // Firing again too soon: listed, but not announced; then another model goes live.
    an_hour(&alerting, &watcher, &shifted).await;
    an_hour(&alerting, &watcher, &shifted).await;
    let again = alerting.firing(key).await.unwrap();
    assert_eq!(
        (&again["alert_id"], &again["is_notification_suppressed"]),
        (&json!(id), &json!(true))
    );
    let model = app.train_with(r#"{"segments": 2, "starts": 3}"#).await["model_id"].clone();
    alerting.pass(3600);
    watcher.check_if_due().await.unwrap();
    let (_, shown) = app.get(&format!("/v1/alerts/{id}")).await;
    let live = format!("model {} became active", &model.as_str().unwrap()[..12]);
    assert_eq!(shown["resolved_reason"], json!(live));
    assert_eq!(app.get("/v1/alerts").await.1["alerts"], json!([]));
    a_moment().await;
    assert_eq!(finance.summaries().len(), 2);
    alerting.app.stop().await;
}

/// The rows, each with some of its values changed.
fn with(rows: &[Value], features: &[&str], change: fn(f64) -> Option<f64>) -> Vec<Value> {
    let mut rows = rows.to_vec();
    for row in &mut rows {
        for feature in features {
            row[feature] = json!(row[feature].as_f64().and_then(change));
        }
    }
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_one_cause_are_one_alert_and_a_later_one_is_announced() {
    let alerting = AlertingApp::start().await;
    let app = &alerting.app;
    let finance = WebhookReceiver::start().await;
    alerting.channel("finance", &finance, json!({ "owners": ["finance@example.com"] })).await;
    app.post("/v1/events/bulk", ndjson(&orders(CUSTOMERS, 5))).await;
    app.train().await;
    let mut rows = Vec::new();
    for customer in 0..CUSTOMERS {
        rows.push(app.get(&format!("/v1/customers/c{customer:04}")).await.1["features"].clone());
    }
    let watcher = watcher(app, DriftCheckSources::Rows);
    let triple = |value: f64| Some(3.0 * value);
    let keys = async || -> Vec<Value> {
        let (_, answer) = app.get("/v1/alerts").await;
        answer["alerts"].as_array().unwrap().iter().map(|alert| alert["key"].clone()).collect()
    };

    // Two features of an owner, and the segments that follow from them.
    let two = with(&rows, &["spend_365d", "basket_value"], triple);
    an_hour(&alerting, &watcher, &two).await;
    an_hour(&alerting, &watcher, &two).await;
    let key = "drift:values:rows:Order_Completed:finance@example.com";
    assert_eq!(keys().await, [json!(key)]);
    let alert = alerting.firing(key).await.unwrap();
    let parts = alert["parts"].as_array().unwrap();
    let features: Vec<&str> = parts.iter().filter_map(|part| part["feature"].as_str()).collect();
    assert!(features.contains(&"spend_365d") && features.contains(&"basket_value"), "{alert}");
    assert!(parts.iter().any(|part| part["feature"].is_null()), "{alert}");
    let description = alert["description"].as_str().unwrap();
    assert!(description.starts_with("2 features have changed together "), "{description}");
    let fired = format!("drift.firing of {key}");
    receives(&finance, &[&fired]).await;
    assert_eq!(finance.accepted()[0].body["data"]["parts"].as_array().unwrap().len(), parts.len());

    // Another feature of the same event, some windows later: a new part, announced once.
    an_hour(&alerting, &watcher, &two).await;
    let three = with(&two, &["basket_largest"], triple);
    for _ in 0..3 {
        an_hour(&alerting, &watcher, &three).await;
    }
    assert_eq!(keys().await, [json!(key)]);
    receives(&finance, &[&fired, &fired]).await;
    let message = finance.accepted()[1].clone();
    assert!(message.field("title").starts_with("New: Largest order"), "{}", message.body);
    assert_eq!(message.field("alert_id"), alert["alert_id"].as_str().unwrap());

    // Missing values that begin later end for another reason: an alert of its own.
    let fourth = with(&three, &["spend_recent"], |_| None);
    an_hour(&alerting, &watcher, &fourth).await;
    an_hour(&alerting, &watcher, &fourth).await;
    let missing = "drift:missing:rows:Order_Completed:finance@example.com";
    assert_eq!(keys().await, [json!(missing), json!(key)]);
    // A part that has ended is listed with its end; the alert goes on.
    let rest = with(&rows, &["basket_value", "basket_largest"], triple);
    for _ in 0..3 {
        an_hour(&alerting, &watcher, &rest).await;
    }
    assert_eq!(keys().await, [json!(key)]);
    let alert = alerting.firing(key).await.unwrap();
    let ended = |part: &&Value| part["ended_at"].is_string();
    let gone: Vec<&Value> = alert["parts"].as_array().unwrap().iter().filter(ended).collect();
    assert!(gone.iter().any(|part| part["feature"] == "spend_365d"), "{alert}");
    for _ in 0..3 {
        an_hour(&alerting, &watcher, &rows).await;
    }
    assert_eq!(keys().await, [Value::Null; 0]);
    alerting.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_ends_when_nothing_comes_in_any_more() {
    let alerting = AlertingApp::start().await;
    let app = &alerting.app;
    app.post("/v1/events/bulk", ndjson(&orders(CUSTOMERS, 5))).await;
    app.train().await;
    let mut rows = Vec::new();
    for customer in 0..CUSTOMERS {
        let (_, body) = app.get(&format!("/v1/customers/c{customer:04}")).await;
        let mut row = body["features"].clone();
        row["spend_365d"] = json!(row["spend_365d"].as_f64().unwrap() * 3.0);
        rows.push(row);
    }
    let watcher = watcher(app, DriftCheckSources::Rows);
    an_hour(&alerting, &watcher, &rows).await;
    an_hour(&alerting, &watcher, &rows).await;
    let key = "drift:values:rows:Order_Completed:finance@example.com";
    let alert = alerting.firing(key).await.unwrap();
    let id = alert["alert_id"].as_str().unwrap();
    // A day later the window is empty; the alert ends after three such checks.
    alerting.pass(24 * 3600);
    for check in 0..3 {
        assert!(alerting.firing(key).await.is_some(), "check {check}");
        alerting.pass(3600);
        watcher.check_if_due().await.unwrap();
    }
    let (_, shown) = app.get(&format!("/v1/alerts/{id}")).await;
    assert_eq!(shown["state"], "resolved");
    let reason = shown["resolved_reason"].as_str().unwrap();
    assert!(reason.starts_with("no data since "), "{reason}");
    alerting.app.stop().await;
}

/// Customers with events differ from all customers: this is reported only if configured.
#[tokio::test(flavor = "multi_thread")]
async fn customers_with_new_events_are_checked_if_configured() {
    let alerting = AlertingApp::start().await;
    let app = &alerting.app;
    app.post("/v1/events/bulk", ndjson(&orders(CUSTOMERS, 5))).await;
    app.train().await;
    let busy = async |round: usize, watcher: &DriftMonitor| {
        alerting.pass(3600);
        let mut events = orders(CUSTOMERS, 0);
        for (number, event) in events.iter_mut().enumerate() {
            event["message_id"] = json!(format!("busy-{round}-{number}"));
            event["timestamp"] = json!(alerting.now());
        }
        app.post("/v1/events/bulk", ndjson(&events)).await;
        app.app.drift.flush().await.unwrap();
        watcher.check_if_due().await.unwrap();
    };
    let (rows, both) =
        (watcher(app, DriftCheckSources::Rows), watcher(app, DriftCheckSources::Both));
    let key = "drift:values:events:Order_Completed:crm@example.com";
    for round in 0..3 {
        busy(round, &rows).await;
    }
    assert_eq!(app.get("/v1/alerts").await.1["alerts"], json!([]));
    for round in 3..5 {
        busy(round, &both).await;
    }
    let alert = alerting.firing(key).await.unwrap();
    assert_eq!(alert["subject"]["source"], "events");
    alerting.pass(3600);
    rows.check_if_due().await.unwrap();
    let (_, answer) = app.get("/v1/alerts?state=all").await;
    let alerts = answer["alerts"].as_array().unwrap();
    assert!(
        alerts.iter().all(|one| one["resolved_reason"] == "it is no longer checked"),
        "{answer}"
    );
    alerting.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_training_run_is_announced_and_so_is_the_next_success() {
    let alerting = AlertingApp::start().await;
    let receiver = WebhookReceiver::start().await;
    alerting.channel("ops", &receiver, json!({ "topics": ["training"] })).await;
    for what_if in [true, false, false] {
        let spec = json!({ "segments": 3, "what_if": what_if }).to_string();
        let (_, run) = alerting.app.post("/v1/training-runs", spec).await;
        let path = format!("/v1/training-runs/{}", run["training_run_id"].as_str().unwrap());
        eventually("the run fails", async || alerting.app.get(&path).await.1["status"] == "failed")
            .await;
    }
    receives(&receiver, &["training.firing of training:request"]).await;
    alerting.app.post("/v1/events/bulk", ndjson(&orders(150, 5))).await;
    alerting.app.train().await;
    let both = ["training.firing of training:request", "training.resolved of training:request"];
    receives(&receiver, &both).await;
    alerting.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledged_alert_is_not_escalated() {
    let alerting = AlertingApp::start().await;
    let app = &alerting.app;
    let (desk, boss) = tokio::join!(WebhookReceiver::start(), WebhookReceiver::start());
    alerting.channel("desk", &desk, json!({})).await;
    alerting.channel("boss", &boss, json!({ "escalation_delay_seconds": 600 })).await;
    let (orders, clicks) =
        (found("orders", Severity::Warning, None), found("clicks", Severity::Warning, None));

    // Announced once, however often it is raised; not escalated after an acknowledgement.
    alerting.raise(&orders).await;
    alerting.raise(&orders).await;
    alerting.raise(&clicks).await;
    receives(&desk, &["source.firing of orders", "source.firing of clicks"]).await;
    let id = alerting.firing("orders").await.unwrap()["alert_id"].as_str().unwrap().to_owned();
    let note = json!({ "note": "on it" }).to_string();
    let (status, answer) = app.post(&format!("/v1/alerts/{id}/acknowledge"), note).await;
    assert_eq!((status, &answer["acknowledged_note"]), (200, &json!("on it")), "{answer}");
    assert!(answer["acknowledged_by"].as_str().unwrap().starts_with("key "));
    alerting.pass(601);
    alerting.alerts().notify_due_alerts().await.unwrap();
    alerting.alerts().notify_due_alerts().await.unwrap();
    receives(&boss, &["source.firing of clicks"]).await;
    // A higher severity is announced again, a lower one is not.
    alerting.raise(&NewAlert { severity: Severity::Critical, ..orders.clone() }).await;
    alerting.raise(&orders).await;
    alerting.resolve("orders").await;
    alerting.resolve("orders").await;
    let four = [
        "source.firing of orders",
        "source.firing of clicks",
        "source.firing of orders",
        "source.resolved of orders",
    ];
    receives(&desk, &four).await;
    assert_eq!(desk.accepted()[2].field("severity"), "critical");
    let (status, _) = app.post(&format!("/v1/alerts/{id}/acknowledge"), "").await;
    assert_eq!(status, 409);
    assert_eq!(app.post("/v1/alerts/alert_0/acknowledge", "").await.0, 404);
    alerting.resolve("clicks").await;
    receives(&boss, &["source.firing of clicks", "source.resolved of clicks"]).await;
    alerting.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_of_one_instant_are_listed_once_and_an_unknown_owner_is_refused() {
    let alerting = AlertingApp::start().await;
    let app = &alerting.app;
    for number in 0..5 {
        alerting.raise(&found(&format!("s{number}"), Severity::Warning, Some("a"))).await;
    }
    for limit in [1, 2, 5, 6] {
        let all = all_pages(app, "/v1/alerts?owner=a", "alerts", limit).await;
        let keys: Vec<&str> = all.iter().map(|alert| alert["key"].as_str().unwrap()).collect();
        assert_eq!(keys, ["s4", "s3", "s2", "s1", "s0"], "{limit}");
    }
    let (_, none) = app.get("/v1/alerts?owner=a&state=resolved").await;
    assert_eq!(none, json!({ "alerts": [], "next_cursor": null }));
    for (query, field) in
        [("owner=b", "owner"), ("topic=weather", "topic"), ("state=lost", "state")]
    {
        let (status, problem) = app.get(&format!("/v1/alerts?{query}")).await;
        assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!(field)), "{problem}");
    }
    alerting.app.stop().await;
}

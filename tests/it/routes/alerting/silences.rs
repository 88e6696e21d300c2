//! `/v1/silences`: silenced alerts are recorded, and announced when the silence ends.

use segmentd::domain::drift::Severity;
use serde_json::json;

use crate::support::alerting::{AlertingApp, a_moment, found, receives};
use crate::support::eventually;
use crate::support::pages::all_pages;
use crate::support::webhook_receiver::WebhookReceiver;

#[tokio::test(flavor = "multi_thread")]
async fn a_silenced_alert_is_recorded_and_announced_when_the_silence_ends() {
    let alerting = AlertingApp::start().await;
    let app = &alerting.app;
    let desk = WebhookReceiver::start().await;
    alerting.channel("desk", &desk, json!({})).await;
    // An alert that was announced and resolved before.
    alerting.raise(&found("orders", Severity::Warning, None)).await;
    alerting.resolve("orders").await;
    receives(&desk, &["source.firing of orders", "source.resolved of orders"]).await;
    let until = alerting.now().plus_millis(3_600_000);
    let silence =
        json!({ "topic": "source", "key_prefix": "or", "until": until, "reason": "a move" });
    let (status, made) = app.post("/v1/silences", silence.to_string()).await;
    assert_eq!(status, 201, "{made}");
    for short in ["orders", "orders-2"] {
        alerting.raise(&found(short, Severity::Warning, None)).await;
    }
    alerting.resolve("orders-2").await;
    alerting.alerts().notify_due_alerts().await.unwrap();
    a_moment().await;
    assert_eq!(desk.summaries().len(), 2);
    assert!(alerting.firing("orders").await.is_some());
    let (_, listed) = app.get("/v1/silences").await;
    assert_eq!(listed["silences"].as_array().unwrap().len(), 1);
    let path = format!("/v1/silences/{}", made["silence_id"].as_str().unwrap());
    assert_eq!(app.delete(&path).await.0, 204);
    assert_eq!(app.delete(&path).await.0, 404);
    alerting.alerts().notify_due_alerts().await.unwrap();
    eventually("the alert is announced", async || desk.summaries().len() == 3).await;
    assert_eq!(desk.summaries()[2], "source.firing of orders");
    for wrong in [
        json!({ "until": until, "reason": " " }),
        json!({ "until": alerting.now(), "reason": "late" }),
        json!({ "until": until, "reason": "x", "matcher": 1 }),
    ] {
        assert_eq!(app.post("/v1/silences", wrong.to_string()).await.0, 422, "{wrong}");
    }
    alerting.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silences_of_one_instant_are_listed_once() {
    let alerting = AlertingApp::start().await;
    let until = alerting.now().plus_millis(3_600_000);
    let mut created = Vec::new();
    for owner in ["a", "b", "c"] {
        let silence = json!({ "owner": owner, "until": until, "reason": "a move" });
        let (_, made) = alerting.app.post("/v1/silences", silence.to_string()).await;
        created.push(made);
    }
    created.sort_by(|a, b| b["silence_id"].as_str().cmp(&a["silence_id"].as_str()));
    for limit in [1, 2, 3] {
        let path = "/v1/silences?";
        assert_eq!(all_pages(&alerting.app, path, "silences", limit).await, created, "{limit}");
    }
    alerting.app.stop().await;
}

//! `/v1/channels`: create, test, replace, delete; the kinds of targets.

use segmentd::config::{AppConfig, Environment};
use segmentd::domain::access::AccessScope;
use segmentd::domain::drift::Severity;
use segmentd::outbound::NotificationSender;
use segmentd::service::api_keys;
use segmentd::store::alerting::alarms;
use segmentd::store::alerting::alarms::Job;
use serde_json::json;

use crate::support::alerting::{AlertingApp, BY_HAND, found, receives};
use crate::support::eventually;
use crate::support::pages::all_pages;
use crate::support::webhook_receiver::WebhookReceiver;

#[tokio::test(flavor = "multi_thread")]
async fn channels_are_created_tested_replaced_and_deleted() {
    let alerting = AlertingApp::start().await;
    let app = &alerting.app;
    let receiver = WebhookReceiver::start().await;
    let body = json!({
        "name": "desk", "target": { "kind": "webhook", "url": receiver.url }, "reason": "a start",
        "owners": ["a"], "topics": ["drift"], "min_severity": "warning",
    });
    let (status, made) = app.post("/v1/channels", body.to_string()).await;
    assert_eq!(status, 201, "{made}");
    let secret = made["secret"].as_str().unwrap();
    assert!(secret.starts_with("whsec_"), "{made}");
    let path = format!("/v1/channels/{}", made["channel_id"].as_str().unwrap());
    let (_, shown) = app.get(&path).await;
    let text = shown.to_string();
    assert!(!text.contains(secret) && !text.contains("/hook"), "{text}");
    let decision = &shown["decisions"][0];
    assert_eq!((&decision["step"], &decision["reason"]), (&json!("create"), &json!("a start")));

    // The test message is delivered and signed like any other, whatever the route.
    let (status, tried) = app.post(&format!("{path}/test"), "").await;
    assert_eq!(status, 202, "{tried}");
    receives(&receiver, &["test.firing of test"]).await;
    assert_eq!(receiver.accepted()[0].id, tried["delivery_id"].as_str().unwrap());
    let log =
        alerting.log(made["channel_id"].as_str().unwrap(), |log| log[0]["state"] == "delivered");
    assert_eq!(log.await[0]["attempts"][0]["status"], 204);

    // Replaced: the secret is kept if none is given.
    let mut other = body.clone();
    other["name"] = json!("other");
    let (status, changed) = app.put(&path, other.to_string()).await;
    assert_eq!((status, &changed["name"]), (200, &json!("other")), "{changed}");
    assert!(changed["secret"].is_null());
    let (status, _) = app.put(&path, json!({ "name": "no target" }).to_string()).await;
    assert_eq!(status, 200);
    assert_eq!(app.post("/v1/channels", body.to_string()).await.0, 201);
    assert_eq!(app.put(&path, body.to_string()).await.0, 409, "the name is taken");
    let (_, listed) = app.get("/v1/channels").await;
    assert_eq!(listed["channels"].as_array().unwrap().len(), 2);
    let all = all_pages(app, "/v1/channels?", "channels", 1).await;
    let names: Vec<&str> = all.iter().map(|channel| channel["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["desk", "no target"]);

    // Invalid channels, with the field of the error.
    let url = json!({ "kind": "slack", "url": "ftp://example.com" });
    for (wrong, field) in [
        (json!({ "name": "x" }), "target"),
        (json!({ "name": "x", "target": url }), "target.url"),
        (json!({ "name": "x", "target": 5 }), "target"),
        (json!({ "name": "x", "target": {} }), "target.kind"),
        (json!({ "name": "x", "target": { "kind": "email" } }), "target.to"),
        (json!({ "name": "x", "target": { "kind": "slack", "url": "x", "to": [] } }), "target.to"),
        (json!({ "name": " ".repeat(101), "target": body["target"] }), "name"),
        (
            json!({ "name": "x", "target": body["target"], "escalation_delay_seconds": 9_999_999 }),
            "escalation_delay_seconds",
        ),
    ] {
        let (status, problem) = app.post("/v1/channels", wrong.to_string()).await;
        assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!(field)), "{problem}");
        assert!(!problem.to_string().contains("enum"), "{problem}");
    }
    let wrong = json!({ "name": "x", "target": body["target"], "topics": ["weather"] });
    assert_eq!(app.post("/v1/channels", wrong.to_string()).await.0, 422);

    // Without the admin scope channels cannot be changed.
    let scopes = [AccessScope::Read, AccessScope::Train];
    let key = api_keys::create_key(&app.db, &app.app.clock, "no admin", &scopes).await.unwrap();
    app.app.api_keys.refresh().await.unwrap();
    assert_eq!(app.post_as(Some(&key), "/v1/channels", &body.to_string()).await.0, 403);
    assert_eq!(app.post_as(Some(&key), &format!("{path}/test"), "").await.0, 403);
    assert_eq!(app.get_as(&key, "/v1/channels").await.0, 200);

    assert_eq!(app.delete(&path).await.0, 204);
    for (path, status) in [
        (path.as_str(), 404),
        ("/v1/alerts/alert_0", 404),
        ("/v1/alerts/alert_0/picture.svg", 404),
        ("/v1/alerts?state=lost", 422),
        ("/v1/alerts?cursor=x", 422),
        ("/v1/channels/channel_0/deliveries", 404),
    ] {
        assert_eq!(app.get(path).await.0, status, "{path}");
    }
    assert_eq!(app.delete(&path).await.0, 404);
    assert_eq!(app.post("/v1/deliveries/msg_0/replay", "").await.0, 404);
    alerting.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alertmanager_is_reminded_of_firing_alerts_and_old_alerts_are_deleted() {
    let alerting = AlertingApp::start().await;
    let app = &alerting.app;
    let receiver = WebhookReceiver::start().await;
    let root = receiver.url.replace("/hook", "");
    // The first run of the background job must be over before the alerts are raised.
    eventually("the first run of the job is over", async || {
        alarms::last_run_at(app.db.read(), Job::KeepAlive).await.unwrap().is_some()
    })
    .await;
    let channel = json!({ "name": "am", "target": { "kind": "alertmanager", "url": root } });
    assert_eq!(app.post("/v1/channels", channel.to_string()).await.0, 201);
    alerting.raise(&found("one", Severity::Warning, None)).await;
    alerting.raise(&found("two", Severity::Warning, None)).await;
    eventually("both alerts are announced", async || receiver.received().len() == 2).await;
    alerting.resolve("two").await;
    eventually("the resolution is announced", async || receiver.received().len() == 3).await;
    let set = BY_HAND.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let config = AppConfig::load_from(None, &Environment::default(), &set).unwrap();
    let sender = NotificationSender::new(&config.outbound).unwrap();
    for (seconds, messages) in [(61, 4), (30, 4), (31, 5)] {
        alerting.pass(seconds);
        alerting.alerts().keep_alive(&sender).await.unwrap();
        assert_eq!(receiver.received().len(), messages);
    }
    let still = receiver.received()[4].body.clone();
    assert_eq!(still.as_array().unwrap().len(), 1, "{still}");
    assert_eq!(still[0]["labels"]["source"], "one");

    // Resolved alerts are deleted after their retention, firing ones are not.
    alerting.pass(89 * 86_400);
    alerting.alerts().delete_expired().await.unwrap();
    assert_eq!(app.get("/v1/alerts?state=all").await.1["alerts"].as_array().unwrap().len(), 2);
    alerting.pass(2 * 86_400);
    alerting.alerts().delete_expired().await.unwrap();
    let (_, answer) = app.get("/v1/alerts?state=all").await;
    assert_eq!(answer["alerts"].as_array().unwrap().len(), 1, "{answer}");
    assert_eq!(answer["alerts"][0]["key"], "one");
    alerting.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_creates_a_channel_once() {
    let alerting = AlertingApp::start().await;
    let app = &alerting.app;
    let url = "--url=http://alertmanager.example.com:9093";
    let quiet = "log.level=error";
    let create = ["--set", quiet, "channels", "create", "am", "--kind", "alertmanager", url];
    let (is_created, id) = app.command(&[&create[..], &["--if-absent"]].concat()).await;
    assert!(is_created, "{id}");
    let again = app.command(&[&create[..], &["--if-absent"]].concat()).await;
    assert_eq!(again, (true, id.clone()));
    let (is_created, error) = app.command(&create).await;
    assert!(!is_created && error.starts_with("error: ") && error.contains("am"), "{error}");
    let (_, shown) = app.get("/v1/channels").await;
    assert_eq!(shown["channels"].as_array().unwrap().len(), 1, "{shown}");
    let channel = &shown["channels"][0];
    assert_eq!(channel["channel_id"], id.trim_end(), "{channel}");
    assert_eq!(channel["target"]["kind"], "alertmanager", "{channel}");

    // A webhook gets a secret, and an address without a host is refused with its reason.
    let webhook = ["channels", "create", "hook", "--kind=webhook", "--url=https://example.com/x"];
    let (is_created, output) = app.command(&webhook).await;
    assert!(is_created && output.contains("\nwhsec_"), "{output}");
    let wrong = ["channels", "create", "wrong", "--kind=slack", "--url=nowhere"];
    let (is_created, error) = app.command(&wrong).await;
    assert!(!is_created && error.contains("target.url"), "{error}");
    alerting.app.stop().await;
}

//! `/v1/policy`: automatic rollback, retraining, freeze and fallback, and changes of the
//! policy.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use segmentd::domain::alert::AlertTopic;
use segmentd::domain::drift::Severity;
use segmentd::service::alerts::NewAlert;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::alerting::{found, raise, resolve};
use crate::support::pages::all_pages;
use crate::support::webhook_receiver::WebhookReceiver;
use crate::support::{TestApp, eventually, ndjson, orders};

const CUSTOMERS: usize = 400;
const QUICK: [(&str, &str); 6] = [
    ("drift.flush_seconds", "1"),
    ("policy.check_seconds", "1"),
    ("policy.probation_min_rows", "400"),
    ("alerts.poll_seconds", "1"),
    ("alerts.allow_private_addresses", "true"),
    ("training.minimum_customers", "100"),
];

async fn live(app: &TestApp) -> Value {
    app.get("/v1/segments").await.1["model_id"].clone()
}

/// Time in which the policy is checked several times.
async fn for_some_checks() {
    // A sleep, because it proves a negative: the checks take no action.
    tokio::time::sleep(Duration::from_secs(3)).await;
}

async fn policy(app: &TestApp) -> Value {
    app.get("/v1/policy").await.1
}

async fn change(app: &TestApp, policy: Value) -> (u16, Value) {
    let body = json!({ "policy": policy, "reason": "a test asks for it" });
    app.patch("/v1/policy", body.to_string()).await
}

async fn with_model(settings: &[(&str, &str)]) -> (TestApp, Value) {
    let app = TestApp::start_with(&[&QUICK, settings].concat()).await;
    app.post("/v1/events/bulk", ndjson(&orders(CUSTOMERS, 5))).await;
    let run = app.train().await;
    (app, run["model_id"].clone())
}

async fn rows(app: &TestApp) -> Vec<Value> {
    let mut rows = Vec::new();
    for customer in 0..CUSTOMERS {
        rows.push(app.get(&format!("/v1/customers/c{customer:04}")).await.1["features"].clone());
    }
    rows
}

/// A candidate that was trained without customers with more than one order.
async fn poor_model(app: &TestApp) -> Value {
    let filter = json!({ "feature": "orders", "at_most": 1, "reason": "to be poor" });
    let spec = json!({ "segments": 2, "starts": 1, "filters": [filter], "what_if": true });
    trained(app, spec.to_string()).await
}

async fn trained(app: &TestApp, spec: String) -> Value {
    let (status, run) = app.post("/v1/training-runs", spec).await;
    assert_eq!(status, 202, "{run}");
    let path = format!("/v1/training-runs/{}", run["training_run_id"].as_str().unwrap());
    let mut model = Value::Null;
    eventually("the model is trained", async || {
        let (_, run) = app.get(&path).await;
        assert_ne!(run["status"], "failed", "{run}");
        model = run["model_id"].clone();
        model.is_string() && run["finished_at"].is_string()
    })
    .await;
    model
}

fn drifted(severity: Severity) -> NewAlert {
    NewAlert {
        topic: AlertTopic::Drift,
        title: "Spend in a year drifted".into(),
        ..found("drift:values:spend_365d:rows", severity, Some("checkout"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poor_model_that_passed_the_gates_is_rolled_back_and_no_request_fails() {
    // With few customers a smaller alpha cannot be estimated.
    let (app, good) = with_model(&[("scoring.outlier_alpha", "0.05")]).await;
    let rows = rows(&app).await;
    let receiver = WebhookReceiver::start().await;
    let channel = json!({ "name": "ops", "target": { "kind": "webhook", "url": receiver.url } });
    assert_eq!(app.post("/v1/channels", channel.to_string()).await.0, 201);
    let poor = poor_model(&app).await;
    assert_eq!(live(&app).await, good, "what is tried does not go live by itself");

    let (going, answered) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
    let sending = {
        let (going, answered) = (Arc::clone(&going), Arc::clone(&answered));
        let (url, key) = (format!("{}/v1/score", app.url), app.key.clone());
        let bodies: Vec<String> =
            rows.iter().map(|row| json!({ "features": row }).to_string()).collect();
        let mut sending = JoinSet::new();
        sending.spawn(async move {
            let client = reqwest::Client::new();
            for body in bodies.iter().cycle() {
                if !going.load(Ordering::Relaxed) {
                    return;
                }
                let sent = client.post(&url).bearer_auth(&key).body(body.clone()).send().await;
                assert_eq!(sent.unwrap().status(), 200);
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
        sending
    };
    let path = format!("/v1/models/{}/promote", poor.as_str().unwrap());
    let (status, promoted) = app.post(&path, "").await;
    assert_eq!((status, &promoted["active_model_id"]), (200, &poor), "{promoted}");
    assert_eq!(policy(&app).await["probation"]["model_id"], poor);
    let before = answered.load(Ordering::Relaxed);
    eventually("the model is rolled back", async || live(&app).await == good).await;
    assert!(answered.load(Ordering::Relaxed) > before + 400, "it was rolled back without evidence");
    let at_rollback = answered.load(Ordering::Relaxed);
    eventually("requests go on after the rollback", async || {
        answered.load(Ordering::Relaxed) > at_rollback + 100
    })
    .await;
    going.store(false, Ordering::Relaxed);
    sending.join_all().await;

    let (_, alerts) = app.get("/v1/alerts?topic=rollback").await;
    let alert = &alerts["alerts"][0];
    assert_eq!((&alert["severity"], &alert["subject"]["model"]), (&json!("critical"), &poor));
    let what = alert["description"].as_str().unwrap();
    assert!(what.contains("are outliers; the promised rate is 5.0 %"), "{what}");
    eventually("the channel gets the alert", async || receiver.accepted().len() == 1).await;
    assert_eq!(receiver.accepted()[0].body["type"], "rollback.firing");
    let (_, model) = app.get(&format!("/v1/models/{}", good.as_str().unwrap())).await;
    let decision = &model["decisions"][0];
    assert_eq!(
        (&decision["step"], &decision["decided_by"]),
        (&json!("rollback"), &json!("policy"))
    );
    let answer = policy(&app).await;
    assert_eq!(
        (&answer["actions"][0]["action"], &answer["actions"][0]["subject"]),
        (&json!("rollback"), &poor)
    );
    assert_eq!(app.metric("segmentd_policy_actions_total{action=\"rollback\"}").await, 1);
    // The restored model is not on probation, and is not rolled back in turn.
    assert_eq!(answer["probation"], Value::Null);
    for_some_checks().await;
    assert_eq!(live(&app).await, good);

    // With rollback disabled the alert is raised, and the model stays until it is replaced
    // by hand.
    assert_eq!(change(&app, json!({ "probation": { "rollback": false } })).await.0, 200);
    assert_eq!(app.post(&path, "").await.0, 200);
    let bodies = json!({ "rows": rows }).to_string();
    for _ in 0..2 {
        assert_eq!(app.post("/v1/score", bodies.clone()).await.0, 200);
    }
    eventually("the alert fires", async || {
        let (_, alerts) = app.get("/v1/alerts?topic=rollback").await;
        alerts["alerts"][0]["title"] == "A new model gives bad answers; automatic rollback is off"
    })
    .await;
    assert_eq!(live(&app).await, poor);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_disagrees_with_its_predecessor_is_rolled_back() {
    // The limit of outliers is off: this test is about disagreement.
    let lax = [("policy.rollback_outliers", "100"), ("policy.probation_min_rows", "200")];
    let disagreeing = [("policy.rollback_disagreement", "0.02"), ("lifecycle.shadow_share", "1")];
    let (app, good) = with_model(&[&lax[..], &disagreeing].concat()).await;
    let segments = app.get("/v1/segments").await.1["segments"].as_array().unwrap().len();
    // Some of its segments are the same, so that customers can be compared.
    let spec = json!({ "segments": segments - 1, "starts": 3, "what_if": true }).to_string();
    let other = trained(&app, spec).await;
    let promote = format!("/v1/models/{}/promote", other.as_str().unwrap());
    assert_eq!(app.post(&promote, "").await.0, 200);
    let model = format!("/v1/models/{}", good.as_str().unwrap());
    eventually("the predecessor is a shadow", async || {
        app.get(&model).await.1["stage"] == "shadow"
    })
    .await;
    let all = orders(CUSTOMERS, 0);
    let mut round = 0;
    eventually("the model is rolled back", async || {
        round += 1;
        let mut again = all.clone();
        for (number, order) in again.iter_mut().enumerate() {
            order["message_id"] = json!(format!("round-{round}-{number}"));
        }
        let sent = app.post("/v1/events/bulk", ndjson(&again)).await;
        assert_eq!(sent.0, 200, "{}", sent.1);
        live(&app).await == good
    })
    .await;
    let (_, alerts) = app.get("/v1/alerts?topic=rollback").await;
    let what = alerts["alerts"][0]["description"].as_str().unwrap();
    assert!(what.contains("into another segment than the previous model does"), "{what}");
    assert_eq!(policy(&app).await["actions"][0]["action"], "rollback");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_drift_is_critical_no_model_is_promoted_automatically() {
    let (app, first) = with_model(&[("policy.on_critical", "freeze")]).await;
    let found = drifted(Severity::Critical);
    raise(&app.app.alerts, &found).await;
    let answer = policy(&app).await;
    assert_eq!(answer["frozen_by"]["title"], "Spend in a year drifted");

    let spec = json!({ "segments": 3, "starts": 3, "seed": 7 }).to_string();
    let (_, run) = app.post("/v1/training-runs", spec.clone()).await;
    let path = format!("/v1/training-runs/{}", run["training_run_id"].as_str().unwrap());
    let mut run = Value::Null;
    eventually("the run ends", async || {
        run = app.get(&path).await.1;
        run["finished_at"].is_string()
    })
    .await;
    assert_eq!(run["status"], "succeeded", "{run}");
    let model = format!("/v1/models/{}", run["model_id"].as_str().unwrap());
    eventually("the reason is recorded", async || {
        let (_, answer) = app.get(&model).await;
        let reason = answer["decisions"][0]["reason"].as_str().unwrap_or_default();
        reason.contains("promotion is frozen") && reason.contains("Spend in a year drifted")
    })
    .await;
    assert_eq!(live(&app).await, first);
    // A promotion by hand is allowed.
    assert_eq!(app.post(&format!("{model}/promote"), "").await.0, 200);
    assert_eq!(live(&app).await, run["model_id"]);

    resolve(&app.app.alerts, &found.key).await;
    assert_eq!(policy(&app).await["frozen_by"], Value::Null);
    let run = app.train_with(r#"{"segments": 3, "starts": 3, "seed": 8}"#).await;
    assert_eq!(live(&app).await, run["model_id"]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_causes_one_training_run_and_the_fallback_answers_until_a_promotion() {
    let settings = [
        ("policy.on_warning", "retrain"),
        ("policy.on_critical", "fallback"),
        ("training.promote", "manual"),
    ];
    let app = TestApp::start_with(&[&QUICK[..], &settings[..]].concat()).await;
    app.post("/v1/events/bulk", ndjson(&orders(CUSTOMERS, 5))).await;
    let found = drifted(Severity::Warning);
    raise(&app.app.alerts, &found).await;
    let runs =
        async || app.get("/v1/training-runs").await.1["training_runs"].as_array().unwrap().clone();
    eventually("a run is over", async || {
        runs().await.first().is_some_and(|run| run["finished_at"].is_string())
    })
    .await;
    for_some_checks().await;
    let all = runs().await;
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!((&all[0]["trigger"], &all[0]["status"]), (&json!("policy"), &json!("succeeded")));
    assert!(all[0]["reason"].as_str().unwrap().starts_with("Spend in a year drifted (alert"));

    let model = all[0]["model_id"].as_str().unwrap();
    assert_eq!(app.post(&format!("/v1/models/{model}/promote"), "").await.0, 200);
    assert_eq!(live(&app).await, model);
    raise(&app.app.alerts, &drifted(Severity::Critical)).await;
    eventually("rules answer", async || live(&app).await.is_null()).await;
    let (_, score) =
        app.post("/v1/score", json!({ "features": { "recency_days": 3 } }).to_string()).await;
    assert_eq!(score["fallback"], true, "{score}");
    // A promotion by hand while the alert fires is deliberate, and is respected.
    assert_eq!(app.post(&format!("/v1/models/{model}/promote"), "").await.0, 200);
    for_some_checks().await;
    assert_eq!(live(&app).await, model);
    let actions = policy(&app).await["actions"].clone();
    let taken: Vec<&str> =
        actions.as_array().unwrap().iter().map(|one| one["action"].as_str().unwrap()).collect();
    assert_eq!(taken, ["fallback", "retrain"]);

    // The fallback by hand.
    assert_eq!(app.post("/v1/deployment/fallback", r#"{"reason": "a drill"}"#).await.0, 200);
    assert!(live(&app).await.is_null());
    assert_eq!(app.post("/v1/deployment/fallback", "").await.0, 409);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_patch_reaches_every_replica_and_is_recorded() {
    let app = TestApp::start_with(&[("deployment.poll_seconds", "1")]).await;
    let other = app.replica_with(&[("deployment.poll_seconds", "1")]).await;
    let first = policy(&app).await;
    assert_eq!(
        (&first["changed"], &first["policy"]["drift"]["significance_level"]),
        (&Value::Null, &json!(0.01))
    );
    for (wrong, problem) in [
        (
            json!({ "drift": { "significance_level": 0.9 } }),
            "policy.drift.significance_level: must be from",
        ),
        (
            json!({ "drift": { "psi": { "notice": 3.0 } } }),
            "notice, warning and critical must ascend",
        ),
        (json!({ "probation": { "outliers": 0.5 } }), "policy.probation.outliers: must be from 1"),
        (json!({ "actions": { "critical": ["panic"] } }), "policy.actions.critical[0]"),
        (json!({ "drift": { "alpha": 0.5 } }), "policy.drift.alpha"),
        (
            json!({ "refresh": { "cool_down_seconds": 2_147_483_648_u32 } }),
            "policy.refresh.cool_down_seconds: must be from 0 to 31536000",
        ),
        (json!({ "refresh": [0.5, 60] }), "policy.refresh: must be an object"),
    ] {
        let (status, answer) = change(&app, wrong).await;
        assert_eq!(status, 422, "{answer}");
        assert!(answer.to_string().contains(problem), "{answer}");
    }
    let without_reason = json!({ "policy": {}, "reason": " " }).to_string();
    assert_eq!(app.patch("/v1/policy", without_reason).await.0, 422);
    assert_eq!(policy(&app).await, first, "what is wrong changes nothing");

    let wanted =
        json!({ "drift": { "minimum_rows": 7 }, "actions": { "critical": ["freeze", "retrain"] } });
    let (status, answer) = change(&app, wanted).await;
    assert_eq!(status, 200, "{answer}");
    let (_, answer) = change(&app, json!({ "refresh": { "confidence": 0.25 } })).await;
    let expected = {
        let mut expected = first["policy"].clone();
        expected["drift"]["minimum_rows"] = json!(7);
        expected["actions"]["critical"] = json!(["freeze", "retrain"]);
        expected["refresh"]["confidence"] = json!(0.25);
        expected
    };
    assert_eq!(answer["policy"], expected);
    assert!((other.app.policies.drift_limits().alpha - 0.01).abs() < 1e-12);
    eventually("the other replica has the policy", async || {
        policy(&other).await["policy"] == expected
    })
    .await;
    assert_eq!(other.app.policies.drift_limits().minimum_rows, 7);
    let (_, history) = app.get("/v1/policy/history").await;
    let versions = history["versions"].as_array().unwrap();
    assert_eq!(versions.len(), 2);
    assert_eq!(&all_pages(&app, "/v1/policy/history", "versions", 1).await, versions);
    assert_eq!(
        (&versions[0]["policy"], &versions[0]["reason"]),
        (&expected, &json!("a test asks for it"))
    );
    assert!(versions[0]["changed_by"].as_str().unwrap().starts_with("key "));
    // A replica that starts now has the policy too.
    let third = app.replica().await;
    assert_eq!(policy(&third).await["policy"], expected);
    for one in [third, other, app] {
        one.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_with_low_confidence_is_retrained_once() {
    let settings = [("policy.probation_seconds", "0"), ("training.promote", "manual")];
    let (app, model) = with_manual_model(&settings).await;
    let rows = rows(&app).await;
    assert_eq!(app.post("/v1/score", json!({ "rows": rows }).to_string()).await.0, 200);
    let mut confidence = None;
    eventually("the scores are counted", async || {
        confidence = app.get("/v1/drift").await.1["confidence"].as_f64();
        confidence.is_some()
    })
    .await;
    let confidence = confidence.unwrap();
    assert!((0.1..0.9).contains(&confidence), "{confidence}");
    let runs =
        async || app.get("/v1/training-runs").await.1["training_runs"].as_array().unwrap().clone();
    let count = runs().await.len();
    change(&app, json!({ "refresh": { "confidence": confidence - 0.1 } })).await;
    for_some_checks().await;
    assert_eq!(runs().await.len(), count, "a confident model is not retrained");
    change(&app, json!({ "refresh": { "confidence": confidence + 0.1 } })).await;
    eventually("the model is retrained", async || runs().await.len() > count).await;
    for_some_checks().await;
    let all = runs().await;
    assert_eq!(all.len(), count + 1);
    assert!(all[0]["reason"].as_str().unwrap().contains("below"), "{}", all[0]);
    assert_eq!(policy(&app).await["actions"][0]["subject"], model);
    app.stop().await;
}

async fn with_manual_model(settings: &[(&str, &str)]) -> (TestApp, Value) {
    let app = TestApp::start_with(&[&QUICK[..], settings].concat()).await;
    app.post("/v1/events/bulk", ndjson(&orders(CUSTOMERS, 5))).await;
    let spec = r#"{"segments": 3, "starts": 3}"#;
    let (_, run) = app.post("/v1/training-runs", spec).await;
    let path = format!("/v1/training-runs/{}", run["training_run_id"].as_str().unwrap());
    let mut model = Value::Null;
    eventually("the model is trained", async || {
        let (_, run) = app.get(&path).await;
        model = run["model_id"].clone();
        run["finished_at"].is_string() && model.is_string()
    })
    .await;
    let path = format!("/v1/models/{}/promote", model.as_str().unwrap());
    assert_eq!(app.post(&path, "").await.0, 200);
    (app, model)
}

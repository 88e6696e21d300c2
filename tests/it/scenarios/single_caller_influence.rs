//! Rows that are sent to be scored cannot cause a rollback while stored customers are answered
//! well, and rows of one API key among several alert no feature owner.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use segmentd::domain::access::AccessScope;
use segmentd::service::api_keys;
use segmentd::service::clock::TimeSource;
use segmentd::store::alerting::alarms;
use segmentd::store::alerting::alarms::Job;
use serde_json::{Value, json};

use crate::support::{TestApp, eventually, ndjson, orders};

const CUSTOMERS: usize = 400;
const HOUR_SECONDS: i64 = 3600;
const PROBATION: [(&str, &str); 5] = [
    ("drift.flush_seconds", "1"),
    ("policy.check_seconds", "1"),
    ("alerts.poll_seconds", "1"),
    ("training.minimum_customers", "100"),
    ("scoring.outlier_alpha", "0.05"),
];

/// A body of rows unlike any customer.
fn absurd(rows: usize) -> String {
    // The encoder clips values to the range of the training rows, so a row is unusual only
    // by its combination of values.
    let row = json!({
        "basket_value": 1e9, "discount_365d": 1e9, "orders_365d": 1e9, "orders_112d": 1e9,
        "orders_90d": 1e9, "orders_per_trip": 1e9, "stores_365d": 1e9, "basket_largest": 0,
        "basket_lines": 0, "coupon_share": 0, "discount_share": 0, "gap_days": 0, "orders": 0,
        "order_trend": 0, "orders_28d": 0, "recency_days": 0, "spend_365d": 0, "spend_recent": 0,
        "trips_112d": 0,
    });
    json!({ "rows": vec![row; rows] }).to_string()
}

async fn usual(app: &TestApp) -> String {
    let mut rows = Vec::new();
    for customer in 0..CUSTOMERS {
        rows.push(app.get(&format!("/v1/customers/c{customer:04}")).await.1["features"].clone());
    }
    json!({ "rows": rows }).to_string()
}

async fn score_key(app: &TestApp, name: &str) -> String {
    let key = api_keys::create_key(&app.db, &TimeSource::System, name, &[AccessScope::Score])
        .await
        .unwrap();
    app.app.api_keys.refresh().await.unwrap();
    key
}

fn id_of(key: &str) -> &str {
    key.split('_').nth(1).unwrap()
}

async fn score(app: &TestApp, key: &str, body: &str) {
    let (status, answer) = app.post_as(Some(key), "/v1/score", body).await;
    assert_eq!((status, &answer["fallback"]), (200, &json!(false)), "{answer}");
}

async fn live(app: &TestApp) -> Value {
    app.get("/v1/segments").await.1["model_id"].clone()
}

async fn alert(app: &TestApp) -> Value {
    app.get("/v1/alerts?topic=rollback").await.1["alerts"][0].clone()
}

fn fact<'a>(alert: &'a Value, name: &str) -> &'a str {
    let facts = alert["facts"].as_array().unwrap();
    let fact = facts.iter().find(|fact| fact["name"] == name);
    fact.unwrap_or_else(|| panic!("no {name} in {alert}"))["value"].as_str().unwrap()
}

/// A first model, and an equally good second one that has just been promoted.
async fn with_model_on_probation() -> (TestApp, Value) {
    let app = TestApp::start_with(&PROBATION).await;
    app.post("/v1/events/bulk", ndjson(&orders(CUSTOMERS, 5))).await;
    app.train().await;
    let run = app.train_with(r#"{"segments": 3, "starts": 3, "seed": 5}"#).await;
    let model = run["model_id"].clone();
    assert_eq!(app.get("/v1/policy").await.1["probation"]["model_id"], model);
    (app, model)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_score_key_cannot_cause_a_rollback() {
    let (app, model) = with_model_on_probation().await;
    let key = score_key(&app, "a caller").await;
    let path = "/v1/deployment/rollback";
    assert_eq!(app.post_as(Some(&key), path, "").await.0, 403);
    let (_, before) = app.get("/v1/customers/c0007").await;
    for _ in 0..2 {
        score(&app, &key, &absurd(300)).await;
    }
    eventually("an alert names the key", async || alert(&app).await.is_object()).await;
    let answer = alert(&app).await;
    assert_eq!(answer["severity"], "warning", "{answer}");
    assert_eq!(fact(&answer, "Serving now"), "unchanged");
    let description = answer["description"].as_str().unwrap();
    assert!(description.contains(&format!("depends on key {}", id_of(&key))), "{description}");
    assert!(
        fact(&answer, "Evidence")
            .contains(&format!("100 % of the rows came from key {}", id_of(&key)))
    );
    // Neither beside another caller, nor with far more rows.
    let other = score_key(&app, "another").await;
    let usual = usual(&app).await;
    for _ in 0..2 {
        score(&app, &other, &usual).await;
    }
    for _ in 0..20 {
        score(&app, &key, &absurd(1000)).await;
    }
    eventually("all rows are counted", async || {
        fact(&alert(&app).await, "Scored since the promotion").parse::<u64>().unwrap()
            >= 600 + 800 + 20_000
    })
    .await;
    // A sleep, because it proves a negative: further checks do not take the model back.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!(live(&app).await, model);
    assert_eq!(alert(&app).await["severity"], "warning");
    assert_eq!(app.get("/v1/policy").await.1["actions"], json!([]));
    assert_eq!(app.get("/v1/customers/c0007").await.1["assignment"], before["assignment"]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_several_keys_cause_no_rollback_while_stored_customers_are_answered_well() {
    let (app, model) = with_model_on_probation().await;
    let mut keys = Vec::new();
    for name in ["one", "two", "three"] {
        keys.push(score_key(&app, name).await);
    }
    for key in &keys {
        score(&app, key, &absurd(600)).await;
    }
    eventually("an alert is raised", async || alert(&app).await.is_object()).await;
    let answer = alert(&app).await;
    assert_eq!(answer["severity"], "warning", "{answer}");
    let description = answer["description"].as_str().unwrap();
    let reason = format!("A sample of {CUSTOMERS} stored customers does not confirm it.");
    assert!(description.ends_with(&reason), "{description}");
    let evidence = fact(&answer, "Evidence");
    for key in &keys {
        assert!(evidence.contains(&format!("33 % of the rows came from key {}", id_of(key))));
    }
    assert_eq!(live(&app).await, model);
    app.stop().await;
}

/// A model that is promoted again is judged by its answers since then.
#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_with_a_reason_is_not_undone_by_earlier_rows() {
    let (app, model) = with_model_on_probation().await;
    for name in ["one", "two"] {
        score(&app, &score_key(&app, name).await, &absurd(600)).await;
    }
    eventually("an alert is raised", async || alert(&app).await.is_object()).await;
    let (status, answer) = app.post("/v1/deployment/rollback", r#"{"reason": "to look"}"#).await;
    assert_eq!(status, 200, "{answer}");
    let path = format!("/v1/models/{}/promote", model.as_str().unwrap());
    let reason = r#"{"reason": "one client sent nonsense; the model is fine", "force": true}"#;
    let (status, answer) = app.post(&path, reason).await;
    assert_eq!(status, 200, "{answer}");
    let other = score_key(&app, "another").await;
    score(&app, &other, &usual(&app).await).await;
    score(&app, &other, &usual(&app).await).await;
    let (_, since) = app.get("/v1/policy").await;
    assert_eq!(since["probation"]["model_id"], model, "{since}");
    // A sleep, because it proves a negative: checks of the new answers raise no alert.
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    assert_eq!(live(&app).await, model);
    let (_, firing) = app.get("/v1/alerts?topic=rollback&state=firing").await;
    let scored = firing["alerts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| fact(one, "Scored since the promotion"));
    assert!(scored.clone().all(|rows| rows != "2000"), "{firing}");
    app.stop().await;
}

const CHECKS: [(&str, &str); 7] = [
    ("drift.alarm_findings", "2"),
    ("drift.alarm_checks", "3"),
    ("drift.flush_seconds", "86400"),
    ("alerts.poll_seconds", "1"),
    ("drift.window_hours", "6"),
    ("policy.on_critical", "fallback, freeze"),
    ("policy.check_seconds", "1"),
];

struct Hours(Arc<AtomicI64>);

impl Hours {
    /// Runs two checks; the second fires critical alarms.
    async fn pass(&self, app: &TestApp) {
        for _ in 0..2 {
            app.app.drift.flush().await.unwrap();
            let checked = async || alarms::last_run_at(app.db.read(), Job::Check).await.unwrap();
            let before = checked().await;
            self.0.fetch_add(1000 * HOUR_SECONDS, Ordering::Relaxed);
            eventually("the check has run", async || checked().await > before).await;
        }
    }
}

async fn alerts(app: &TestApp) -> Vec<Value> {
    app.get("/v1/alerts?topic=drift").await.1["alerts"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_one_caller_among_several_alert_no_owner_and_change_no_model() {
    let (clock, now) = TimeSource::manual(TimeSource::System.now());
    let hours = Hours(now);
    let app = TestApp::start_at(clock, &CHECKS).await;
    app.post("/v1/events/bulk", ndjson(&orders(CUSTOMERS, 5))).await;
    let run = app.train().await;
    let usual = usual(&app).await;
    let [caller, other] = [score_key(&app, "a caller").await, score_key(&app, "another").await];
    hours.pass(&app).await;
    score(&app, &other, &usual).await;
    score(&app, &caller, &absurd(1000)).await;
    hours.pass(&app).await;
    let (_, drift) = app.get("/v1/drift").await;
    assert_eq!(drift["keys"][0]["key_id"], id_of(&caller), "{}", drift["keys"]);
    assert_eq!(drift["keys"][0]["rows"], 1000);
    let findings = drift["findings"].as_array().unwrap();
    assert!(!findings.is_empty());
    for finding in findings {
        assert_eq!(finding["decisive_key"]["key_id"], id_of(&caller), "{finding}");
        assert_eq!(finding["decisive_key"]["is_contradicted"], true, "{finding}");
    }
    let answer = alerts(&app).await;
    assert!(!answer.is_empty());
    for alert in &answer {
        assert_eq!((&alert["owner"], &alert["severity"]), (&Value::Null, &json!("notice")));
        let decisive_key = fact(alert, "Depends on one API key");
        assert!(decisive_key.starts_with("71 % of the rows came from key "), "{decisive_key}");
    }
    let (_, policy) = app.get("/v1/policy").await;
    assert_eq!((&policy["frozen_by"], &policy["actions"]), (&Value::Null, &json!([])));
    assert_eq!(live(&app).await, run["model_id"]);

    // If both keys send the rows, they are drift.
    score(&app, &other, &absurd(1000)).await;
    score(&app, &caller, &absurd(1000)).await;
    hours.pass(&app).await;
    let owned =
        async || alerts(&app).await.into_iter().filter(|one| one["owner"].is_string()).count();
    eventually("owners are alerted", async || owned().await > 0).await;
    eventually("the rules answer, by the policy", async || live(&app).await.is_null()).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_in_rows_of_the_only_caller_is_announced_without_automatic_actions() {
    let (clock, now) = TimeSource::manual(TimeSource::System.now());
    let hours = Hours(now);
    let app = TestApp::start_at(clock, &CHECKS).await;
    app.post("/v1/events/bulk", ndjson(&orders(CUSTOMERS, 5))).await;
    let run = app.train().await;
    let caller = score_key(&app, "the only one").await;
    hours.pass(&app).await;
    score(&app, &caller, &absurd(1000)).await;
    hours.pass(&app).await;
    let answer = alerts(&app).await;
    let critical = answer.iter().filter(|alert| alert["severity"] == "critical");
    assert!(critical.clone().any(|alert| alert["owner"].is_string()), "{answer:?}");
    for alert in critical {
        assert!(
            fact(alert, "Depends on one API key").starts_with("100 % of the rows came from key ")
        );
    }
    let (_, policy) = app.get("/v1/policy").await;
    assert_eq!((&policy["frozen_by"], &policy["actions"]), (&Value::Null, &json!([])));
    assert_eq!(live(&app).await, run["model_id"]);
    // After a week the counts are kept, and the keys behind them are not.
    hours.0.fetch_add(1000 * HOUR_SECONDS * 24 * 8, Ordering::Relaxed);
    app.app.drift.flush().await.unwrap();
    let (_, drift) = app.get("/v1/drift?hours=300").await;
    assert_eq!(drift["scored"], 1000);
    assert_eq!(drift["keys"], json!([]));
    app.stop().await;
}

//! Sequential detectors: a change too small for the daily check raises an alert if it
//! lasts.

use segmentd::config::DriftCheckSources;

use segmentd::domain::stats::RandomStream;
use serde_json::{Value, json};

use crate::support::alerting::{AlertingApp, receives, watcher};
use crate::support::webhook_receiver::WebhookReceiver;
use crate::support::{TestApp, ndjson, orders};

const CUSTOMERS: usize = 400;
const HOURS_PER_WEEK: usize = 168;
/// Rows scored in an hour.
const ROWS: usize = 200;
/// The share of rows drawn from the more unusual half of the customers.
const TILT: f64 = 0.12;
const KEY: &str = "drift:model:rows";

/// The features of every customer, by ascending p-value.
async fn customers(app: &TestApp) -> Vec<Value> {
    let mut rows = Vec::new();
    for customer in 0..CUSTOMERS {
        let (_, body) = app.get(&format!("/v1/customers/c{customer:04}")).await;
        rows.push(body["features"].clone());
    }
    let (_, answer) = app.post("/v1/score", json!({ "rows": rows }).to_string()).await;
    let p_values = answer["scores"].as_array().unwrap().iter();
    let mut rows: Vec<(f64, Value)> =
        p_values.map(|one| one["p_value"].as_f64().unwrap()).zip(rows).collect();
    rows.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    rows.into_iter().map(|(_, row)| row).collect()
}

/// One more hour of rows of random customers, a share of them from the first half.
async fn an_hour(alerting: &AlertingApp, rng: &mut RandomStream, customers: &[Value], tilt: f64) {
    alerting.pass(3600);
    let mut draw = || {
        let among = if rng.uniform_unit() < tilt { CUSTOMERS / 2 } else { CUSTOMERS };
        &customers[rng.uniform_below(among)]
    };
    let rows: Vec<&Value> = (0..ROWS).map(|_| draw()).collect();
    let body = json!({ "rows": rows }).to_string();
    assert_eq!(alerting.app.post("/v1/score", body).await.0, 200);
    alerting.app.app.drift.flush().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_lasting_change_is_announced_and_stable_weeks_are_not() {
    let alerting = AlertingApp::start_with(&[("drift.window_hours", "24")]).await;
    let app = &alerting.app;
    let desk = WebhookReceiver::start().await;
    alerting.channel("desk", &desk, json!({})).await;
    app.post("/v1/events/bulk", ndjson(&orders(CUSTOMERS, 5))).await;
    app.train().await;
    let customers = customers(app).await;
    let watcher = watcher(app, DriftCheckSources::Rows);
    let mut rng = RandomStream::new(11, 0);

    for hour in 0..2 * HOURS_PER_WEEK {
        an_hour(&alerting, &mut rng, &customers, 0.0).await;
        if hour % 24 == 23 {
            watcher.check_if_due().await.unwrap();
        }
    }
    let (_, answer) = app.get("/v1/drift").await;
    assert_eq!((&answer["findings"], &answer["is_enough"]), (&json!([]), &json!(true)), "{answer}");
    // The hours of the second week, without the incomplete current one.
    assert_eq!(answer["stream"]["steps"], json!(HOURS_PER_WEEK - 1));
    let detectors = answer["stream"]["detectors"].as_array().unwrap();
    assert_eq!(detectors.len(), 3);
    assert!(detectors.iter().all(|one| one["changed_at"].is_null()), "{answer}");
    assert_eq!(app.get("/v1/alerts?state=all").await.1["alerts"], json!([]));

    let changed = alerting.now();
    let mut hours = 0;
    while alerting.firing(KEY).await.is_none() {
        assert!(hours < 120, "{}", app.get("/v1/drift").await.1);
        an_hour(&alerting, &mut rng, &customers, TILT).await;
        watcher.check_if_due().await.unwrap();
        hours += 1;
    }
    // Nothing else was found in these days.
    let (_, listed) = app.get("/v1/alerts?state=all").await;
    assert_eq!(listed["alerts"].as_array().unwrap().len(), 1, "{listed}");
    let alert = alerting.firing(KEY).await.unwrap();
    assert_eq!(alert["subject"]["about"], "model");
    let (_, answer) = app.get("/v1/drift").await;
    let findings = answer["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 1, "{answer}");
    assert_eq!((&findings[0]["about"], &findings[0]["feature"]), (&json!("stream"), &Value::Null));
    let detectors = answer["stream"]["detectors"].as_array().unwrap();
    let alarmed: Vec<&Value> =
        detectors.iter().filter(|one| one["changed_at"].is_string()).collect();
    let told_by = u32::try_from(alarmed.len()).unwrap();
    assert_eq!(findings[0]["size"], json!(f64::from(told_by)), "{answer}");
    for one in &alarmed {
        let about_since = one["about_since"].as_str().unwrap();
        let days = [-2, 2].map(|days| changed.plus_millis(days * 86_400_000).to_string());
        assert!((&*days[0]..&*days[1]).contains(&about_since), "{one}, not about {changed}");
    }

    // The notification has the figures.
    receives(&desk, &[&format!("drift.firing of {KEY}")]).await;
    let message = desk.accepted()[0].clone();
    assert!(message.field("description").contains("since about"), "{}", message.body);
    assert!(message.field("advice").contains("retrain"));
    let facts = message.body["data"]["facts"].as_array().unwrap();
    let names: Vec<&str> = facts.iter().map(|fact| fact["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"Hours compared") && names.contains(&"Compared"), "{names:?}");

    // In the metrics, and only while detectors are enabled.
    app.app.drift.update_metrics().await.unwrap();
    let (_, metrics) = app.admin("/metrics").await;
    let line = |source: &str, detector: &Value, value: u8| {
        let name = detector["name"].as_str().unwrap();
        let labels = format!("detector=\"{name}\",source=\"{source}\"");
        format!("segmentd_drift_detector_alarm{{{labels}}} {value}")
    };
    let shown = |line: &String| metrics.lines().any(|one| one == line);
    assert!(shown(&line("rows", alarmed[0], 1)), "{metrics}");
    assert!(shown(&line("events", alarmed[0], 0)), "{metrics}");
    assert!(metrics.contains("segmentd_drift_martingale_log10{source=\"rows\"} "));
    let off = app.replica_with(&[("drift.detectors", "false")]).await;
    assert_eq!(off.get("/v1/drift").await.1["stream"], Value::Null);
    off.stop().await;
    alerting.app.stop().await;
}

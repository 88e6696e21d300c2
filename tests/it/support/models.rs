//! Models for tests: trained ones, and variants of them with other segment ids.

use std::collections::BTreeMap;

use segmentd::domain::id::ModelId;
use segmentd::domain::model::{Model, NamedSegment};
use segmentd::domain::time::Timestamp;
use segmentd::service::clock::TimeSource;
use segmentd::store::customers::assignments::StoredAssignment;
use segmentd::store::models;
use segmentd::store::models::feature_sets;
use serde_json::{Value, json};

use crate::support::{TestApp, eventually, ndjson, orders};

/// The number of customers of [`with_model`].
pub(crate) const CUSTOMERS: usize = 150;

/// An app with customers and a live model of three segments.
pub(crate) async fn with_model(clock: TimeSource, settings: &[(&str, &str)]) -> (TestApp, String) {
    let app = TestApp::start_at(clock, settings).await;
    app.post("/v1/events/bulk", ndjson(&orders(CUSTOMERS, 5))).await;
    let model = app.train().await["model_id"].as_str().unwrap().to_owned();
    (app, model)
}

/// Stores a copy of `model` whose segments have these ids instead.
pub(crate) async fn renamed(app: &TestApp, model: &str, ids: &[&str], report: &Value) -> String {
    let id: ModelId = model.parse().unwrap();
    let bytes = models::artifact(app.db.read(), &id).await.unwrap().unwrap();
    let old = Model::open(&bytes).unwrap();
    let mut text = String::from_utf8(bytes).unwrap();
    for (number, segment) in old.segments().iter().enumerate() {
        text = text.replace(&*segment.id, &format!("<{number}>"));
    }
    for (number, id) in ids.iter().enumerate() {
        text = text.replace(&format!("<{number}>"), id);
    }
    insert(app, text.as_bytes(), report).await
}

/// Stores a copy of `model` under the id of another document.
pub(crate) async fn misfiled(app: &TestApp, model: &str) -> String {
    let id: ModelId = model.parse().unwrap();
    let bytes = models::artifact(app.db.read(), &id).await.unwrap().unwrap();
    insert_as(app, ModelId::of(b"another document"), &bytes, &json!({})).await
}

async fn insert(app: &TestApp, bytes: &[u8], report: &Value) -> String {
    insert_as(app, ModelId::of(bytes), bytes, report).await
}

async fn insert_as(app: &TestApp, model_id: ModelId, bytes: &[u8], report: &Value) -> String {
    let set = app.app.deployments.snapshot().features.clone();
    let now = app.app.clock.now();
    let mut tx = app.db.begin().await.unwrap();
    feature_sets::insert(&mut tx, set.id(), set.normal_form(), now).await.unwrap();
    let model = models::NewModel {
        model_id: &model_id,
        feature_set: set.id(),
        artifact: bytes,
        run_id: None,
        report,
    };
    models::insert(&mut tx, &model, now).await.unwrap();
    tx.commit().await.unwrap();
    model_id.into()
}

/// Stores a copy of `model` with the ids of its first two segments exchanged: the same
/// scores, except that those two segments swap identity.
pub(crate) async fn exchanged(app: &TestApp, model: &str) -> String {
    let [one, two, three] = ids(app, model).await;
    renamed(app, model, &[&two, &one, &three], &json!({})).await
}

/// The ids of the three segments of `model`.
pub(crate) async fn ids(app: &TestApp, model: &str) -> [String; 3] {
    let bytes = models::artifact(app.db.read(), &model.parse().unwrap()).await.unwrap().unwrap();
    let model = Model::open(&bytes).unwrap();
    let ids: Vec<String> = model.segments().iter().map(|s| s.id.to_string()).collect();
    ids.try_into().unwrap()
}

/// Posts to a life-cycle step of a model, such as `promote`.
pub(crate) async fn move_model(
    app: &TestApp,
    model: &str,
    step: &str,
    body: Value,
) -> (u16, Value) {
    app.post(&format!("/v1/models/{model}/{step}"), body.to_string()).await
}

/// The model as `GET /v1/models/{model_id}` describes it.
pub(crate) async fn described(app: &TestApp, model: &str) -> Value {
    app.get(&format!("/v1/models/{model}")).await.1
}

/// The number of customers in each segment of the live model, in the order of the model.
pub(crate) async fn sizes(app: &TestApp) -> Vec<i64> {
    let (_, live) = app.get("/v1/segments").await;
    let segments = live["segments"].as_array().unwrap().iter();
    segments.map(|segment| segment["customers"].as_i64().unwrap()).collect()
}

/// The model that scored each customer, once the live deployment has scored all of them.
pub(crate) async fn models_of(app: &TestApp) -> BTreeMap<String, String> {
    let mut rows = Vec::new();
    eventually("every customer is scored by the live deployment", async || {
        let oldest = app.app.deployments.snapshot().oldest_generation();
        let (_, table) = app.get("/v1/assignments?format=ndjson").await;
        let text = table.as_str().unwrap().to_owned();
        rows = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect();
        assert_eq!(rows.len(), CUSTOMERS);
        rows.iter().all(|row| row["generation"].as_i64().unwrap() >= oldest)
    })
    .await;
    let of = |row: &Value, field: &str| row[field].as_str().unwrap().to_owned();
    rows.iter().map(|row| (of(row, "customer_id"), of(row, "model_id"))).collect()
}

#[expect(clippy::cast_precision_loss, reason = "some hundred customers")]
pub(crate) fn share(part: i64) -> f64 {
    part as f64 / CUSTOMERS as f64
}

/// One more event of every customer.
pub(crate) fn one_more(round: usize) -> Vec<Value> {
    let mut events: Vec<Value> = orders(CUSTOMERS, 5)
        .into_iter()
        .filter(|e| e["message_id"].as_str().unwrap().ends_with("-0"))
        .collect();
    for event in &mut events {
        event["message_id"] = format!("{}-{round}", event["message_id"].as_str().unwrap()).into();
    }
    assert_eq!(events.len(), CUSTOMERS);
    events
}

/// Waits until the model of a training run is live; returns the run.
pub(crate) async fn wait_until_live(app: &TestApp, run: &Value) -> Value {
    let path = format!("/v1/training-runs/{}", run["training_run_id"].as_str().unwrap());
    let mut trained = Value::Null;
    eventually("the trained model is live", async || {
        trained = app.get(&path).await.1;
        assert_ne!(trained["status"], "failed", "{trained}");
        let live = app.get("/v1/segments").await.1;
        trained["model_id"].is_string() && live["model_id"] == trained["model_id"]
    })
    .await;
    trained
}

/// An assignment by the rules, to a segment that is named by its id.
pub(crate) fn assigned_by_rules(segment: &str, assigned_at: Timestamp) -> StoredAssignment {
    StoredAssignment {
        model: None,
        segment: NamedSegment { id: segment.into(), name: segment.into() },
        distance: None,
        p_value: None,
        confidence: None,
        is_outlier: false,
        is_retained_by_hysteresis: false,
        generation: 0,
        assigned_at,
        moved_at: None,
    }
}

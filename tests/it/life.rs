//! The life of a model as its owner lives through it: gates, shadow, promotion, and
//! the way back.

use std::collections::BTreeMap;
use std::time::Duration;

use segmentd::domain::access::Scope;
use segmentd::domain::feature::{FeatureRow, Value as FeatureValue};
use segmentd::domain::id::ModelId;
use segmentd::domain::model::{Model, Scratch};
use segmentd::service::api_keys;
use segmentd::service::clock::Clock;
use segmentd::store::models;
use segmentd::store::models::feature_sets;
use serde_json::{Value, json};

use crate::support::{TestApp, ndjson, orders};

const CUSTOMERS: usize = 150;

/// With customers and a live model of three segments.
pub(crate) async fn with_model(clock: Clock, settings: &[(&str, &str)]) -> (TestApp, String) {
    let app = TestApp::start_at(clock, settings).await;
    app.post("/v1/events/bulk", ndjson(&orders(CUSTOMERS, 5))).await;
    let model = app.train().await["model"].as_str().unwrap().to_owned();
    (app, model)
}

/// A model as `model`, whose segments have these ids instead.
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

async fn insert(app: &TestApp, bytes: &[u8], report: &Value) -> String {
    let set = app.app.live.snapshot().features.clone();
    let now = Clock::System.now();
    let model_id = ModelId::of(bytes);
    let mut tx = app.db.begin().await.unwrap();
    feature_sets::keep(&mut tx, set.id(), set.normal_form(), now).await.unwrap();
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

/// With the ids of its first two segments exchanged: the same answers, of which
/// those two are told to be another's.
pub(crate) async fn exchanged(app: &TestApp, model: &str) -> String {
    let [one, two, three] = ids(app, model).await;
    renamed(app, model, &[&two, &one, &three], &json!({})).await
}

pub(crate) async fn ids(app: &TestApp, model: &str) -> [String; 3] {
    let bytes = models::artifact(app.db.read(), &model.parse().unwrap()).await.unwrap().unwrap();
    let model = Model::open(&bytes).unwrap();
    let ids: Vec<String> = model.segments().iter().map(|s| s.id.to_string()).collect();
    ids.try_into().unwrap()
}

pub(crate) async fn step(app: &TestApp, model: &str, step: &str, body: Value) -> (u16, Value) {
    app.post(&format!("/v1/models/{model}/{step}"), body.to_string()).await
}

pub(crate) async fn told(app: &TestApp, model: &str) -> Value {
    app.get(&format!("/v1/models/{model}")).await.1
}

/// Customers by segment, of the live model.
async fn sizes(app: &TestApp) -> BTreeMap<String, i64> {
    let (_, live) = app.get("/v1/segments").await;
    let size =
        |s: &Value| (s["segment"].as_str().unwrap().into(), s["customers"].as_i64().unwrap());
    live["segments"].as_array().unwrap().iter().map(size).collect()
}

/// The model that answered each customer, once everybody has been looked at.
pub(crate) async fn models_of(app: &TestApp) -> BTreeMap<String, String> {
    loop {
        let oldest = app.app.live.snapshot().oldest_generation();
        let (_, table) = app.get("/v1/assignments?format=ndjson").await;
        let text = table.as_str().unwrap().to_owned();
        let rows: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(rows.len(), CUSTOMERS);
        if rows.iter().all(|row| row["generation"].as_i64().unwrap() >= oldest) {
            let of = |row: &Value, field: &str| row[field].as_str().unwrap().to_owned();
            return rows.iter().map(|row| (of(row, "customer_id"), of(row, "model"))).collect();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[expect(clippy::cast_precision_loss, reason = "some hundred customers")]
fn share(part: i64) -> f64 {
    part as f64 / CUSTOMERS as f64
}

#[tokio::test(flavor = "multi_thread")]
async fn every_gate_refuses_and_says_why() {
    let settings = [("gates.relabelled", "0.5"), ("gates.silhouette_loss", "0.1")];
    let (app, active) = with_model(Clock::System, &settings).await;
    let report = told(&app, &active).await["report"].clone();
    let silhouette = report["silhouette"].as_f64().unwrap();
    let sizes = sizes(&app).await;
    let moved = share(sizes["s1"] + sizes["s2"]);
    assert!(moved > 0.5);
    let stability = json!({ "mean_jaccard": 0.4 });
    let entries = json!([{ "figures": { "stability": stability } }]);
    let cases = [
        ("silhouette", json!({ "silhouette": -0.2 }), -0.2),
        ("silhouette_loss", json!({ "silhouette": silhouette - 0.2 }), 0.2),
        ("jaccard", json!({ "leaderboard": { "entries": entries } }), 0.4),
        ("smallest_share", json!({ "sizes": [999, 1] }), 0.001),
        (
            "outlier_rate",
            json!({ "outliers": [{ "alpha": 0.01, "rows": 500, "flagged": 60 }] }),
            0.12,
        ),
        ("relabelled", json!({}), moved),
    ];
    let mut refused = String::new();
    for (number, (name, report, figure)) in cases.into_iter().enumerate() {
        let model = if name == "relabelled" {
            exchanged(&app, &active).await
        } else {
            let fresh = [0, 1, 2].map(|segment| format!("seg_{number}x{segment}"));
            renamed(&app, &active, &[&fresh[0], &fresh[1], &fresh[2]], &report).await
        };
        for to in ["promote", "canary"] {
            let (status, problem) = step(&app, &model, to, json!({ "reason": "try" })).await;
            assert_eq!(
                (status, &problem["type"]),
                (409, &json!("/docs#problem-refused")),
                "{problem}"
            );
            let gates: Vec<&Value> = problem["gates"].as_array().unwrap().iter().collect();
            let own = gates.iter().find(|gate| gate["gate"] == name).unwrap();
            assert!((own["found"].as_f64().unwrap() - figure).abs() < 1e-6, "{own}");
            assert!(problem["detail"].as_str().unwrap().contains(own["why"].as_str().unwrap()));
            assert!(gates.len() == 1 || name == "silhouette", "{gates:?}");
        }
        let told = told(&app, &model).await;
        assert_eq!(told["stage"], "candidate");
        let decision = &told["decisions"][0];
        assert_eq!((&decision["step"], &decision["to_stage"]), (&json!("canary"), &Value::Null));
        assert_eq!((&decision["reason"], &decision["forced"]), (&json!("try"), &json!(false)));
        assert!(decision["decided_by"].as_str().unwrap().starts_with("key "));
        assert_eq!(decision["gates"].as_array().unwrap().len(), 6);
        refused = model;
    }

    // The inference protocol's door is the same door.
    let version = json!({ "parameters": { "version": refused } }).to_string();
    let (status, failure) = app.post("/v2/repository/models/segments/load", version).await;
    assert_eq!(status, 409, "{failure}");
    assert!(failure["error"].as_str().unwrap().contains("relabelled"), "{failure}");

    // Overruled: by who may, and with a reason.
    let train = api_keys::create(&app.db, &Clock::System, "t", &[Scope::Train]).await.unwrap();
    app.app.access.refresh().await.unwrap();
    let path = format!("/v1/models/{refused}/promote");
    let force = r#"{"force": true, "reason": "the campaign waits"}"#;
    assert_eq!(app.post_as(Some(&train), &path, force).await.0, 403);
    assert_eq!(app.post(&path, r#"{"force": true}"#).await.0, 422);
    assert_eq!(app.post(&path, r#"{"share": 0.5}"#).await.0, 422);
    assert_eq!(step(&app, &refused, "canary", json!({ "share": 1.5 })).await.0, 422);
    assert_eq!(app.get("/v1/segments").await.1["model"], json!(active));
    let (status, live) = app.post(&path, force).await;
    assert_eq!((status, &live["active_model"]), (200, &json!(refused)));
    let decision = told(&app, &refused).await["decisions"][0].clone();
    assert_eq!((&decision["forced"], &decision["to_stage"]), (&json!(true), &json!("active")));
    assert_eq!(decision["reason"], "the campaign waits");

    // What is active can only be replaced; the way back knows no gates.
    for to in ["shadow", "canary", "retire", "reject"] {
        let (status, problem) = step(&app, &refused, to, json!({})).await;
        assert_eq!((status, &problem["type"]), (409, &json!("/docs#problem-conflict")));
    }
    let (status, live) = app.post("/v1/models/rollback", "").await;
    assert_eq!((status, &live["active_model"]), (200, &json!(active)));
    assert_eq!(told(&app, &active).await["decisions"][0]["step"], "rollback");
    let unknown = "0".repeat(64);
    assert_eq!(step(&app, &unknown, "shadow", json!({})).await.0, 404);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_training_may_not_promote_stays_a_candidate() {
    let app = TestApp::start_with(&[("gates.silhouette", "1.0")]).await;
    app.post("/v1/events/bulk", ndjson(&orders(CUSTOMERS, 5))).await;
    let (_, run) = app.post("/v1/training-runs", r#"{"segments": 3}"#).await;
    let path = format!("/v1/training-runs/{}", run["run"].as_str().unwrap());
    let model = loop {
        let (_, run) = app.get(&path).await;
        assert_ne!(run["status"], "failed", "{run}");
        if let Some(model) = run["model"].as_str() {
            break model.to_owned();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let told = loop {
        let told = told(&app, &model).await;
        if !told["decisions"].as_array().unwrap().is_empty() {
            break told;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(
        (&told["stage"], &told["decisions"][0]["to_stage"]),
        (&json!("candidate"), &Value::Null)
    );
    assert!(told["decisions"][0]["decided_by"].as_str().unwrap().starts_with("training run_"));
    assert_eq!(app.get("/v1/segments").await.1["fallback"], true);
    assert_eq!(step(&app, &model, "reject", json!({ "reason": "no" })).await.0, 200);
    assert_eq!(app.get(&format!("/v1/models/{model}")).await.1["stage"], "retired");
    app.stop().await;
}

/// One event more of every customer.
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

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_counts_what_it_would_have_said() {
    let (clock, _) = Clock::fixed(Clock::System.now());
    let (app, active) =
        with_model(clock, &[("life.shadow_share", "1.0"), ("assignment.hysteresis", "0")]).await;
    let (_, run) = app.post("/v1/training-runs", r#"{"segments": 2}"#).await;
    let two = crate::main_job::wait(&app, &run).await["model"].as_str().unwrap().to_owned();
    assert_eq!(app.post("/v1/models/rollback", "").await.0, 200);
    let exchanged = exchanged(&app, &active).await;
    for model in [&two, &exchanged] {
        assert_eq!(step(&app, model, "shadow", json!({})).await.0, 200);
        assert_eq!(told(&app, model).await["stage"], "shadow");
    }
    models_of(&app).await;
    let (_, answers) = app.post("/v1/events/bulk", ndjson(&one_more(1))).await;
    assert_eq!(answers.as_str().unwrap().matches("\"accepted\"").count(), CUSTOMERS);

    let counted = async |model: &str| {
        let path = format!("/v1/models/{model}/shadow");
        for _ in 0..200 {
            let (_, shadow) = app.get(&path).await;
            if shadow["beside"][0]["customers"] == CUSTOMERS {
                return shadow;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{:?}", app.get(&path).await);
    };
    let shadow = counted(&two).await;
    assert_eq!(shadow["beside"][0]["model"], json!(active));
    // Both by hand.
    let open = async |id: &str| {
        let bytes = models::artifact(app.db.read(), &id.parse().unwrap()).await.unwrap().unwrap();
        Model::open(&bytes).unwrap()
    };
    let (live, other) = (open(&active).await, open(&two).await);
    let mut scratch = Scratch::default();
    let mut pairs = BTreeMap::<(String, String), i64>::new();
    let mut outliers = (0, 0);
    for customer in 0..CUSTOMERS {
        let (_, body) = app.get(&format!("/v1/customers/c{customer:04}")).await;
        let value = |name: &str| match &body["features"][name] {
            Value::Number(number) => FeatureValue::Number(number.as_f64().unwrap()),
            Value::String(text) => FeatureValue::Category(text.as_str().into()),
            _ => FeatureValue::Missing,
        };
        let row = FeatureRow(live.features().iter().map(|def| value(&def.name)).collect());
        let (ours, theirs) = (live.score(&row, &mut scratch), other.score(&row, &mut scratch));
        let key = |model: &Model, index: usize| model.segments()[index].key.to_string();
        let pair = (key(&live, ours.segment().unwrap()), key(&other, theirs.segment().unwrap()));
        *pairs.entry(pair).or_default() += 1;
        outliers.0 += i64::from(ours.is_outlier(0.01));
        outliers.1 += i64::from(theirs.is_outlier(0.01));
    }
    let text = |pair: &Value, field: &str| pair[field].as_str().unwrap().to_owned();
    let found: BTreeMap<(String, String), i64> = shadow["beside"][0]["pairs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| {
            ((text(p, "segment"), text(p, "shadow_segment")), p["customers"].as_i64().unwrap())
        })
        .collect();
    assert_eq!(found, pairs);
    assert_eq!(shadow["beside"][0]["outlier_rate"], json!(share(outliers.0)));
    assert_eq!(shadow["beside"][0]["shadow_outlier_rate"], json!(share(outliers.1)));
    assert_eq!(shadow["beside"][0]["shadow_unassigned_rate"], json!(0.0));

    // The same answers, of which two segments have each other's id.
    let shadow = counted(&exchanged).await;
    let sizes = sizes(&app).await;
    assert_eq!(shadow["beside"][0]["agreement"], json!(share(sizes["s3"])));
    let same = "segmentd_shadow_customers_total{outcome=\"agree\"}";
    assert!(app.metric(same).await >= u64::try_from(sizes["s3"]).unwrap());
    assert_eq!(app.metric("segmentd_shadow_customers_total{outcome=\"dropped\"}").await, 0);

    // What it has shown is asked for, where so configured.
    let strict = [("gates.shadow_customers", "151"), ("gates.shadow_agreement", "1.0")];
    let replica = app.replica_with(&strict).await;
    let (status, problem) = step(&replica, &exchanged, "promote", json!({})).await;
    assert_eq!(status, 409);
    let refusing: Vec<&Value> = problem["gates"].as_array().unwrap().iter().collect();
    let found =
        |name: &str| refusing.iter().find(|g| g["gate"] == name).map(|g| g["found"].clone());
    assert_eq!(found("shadow_customers"), Some(json!(150.0)));
    assert_eq!(found("shadow_agreement"), Some(json!(share(sizes["s3"]))));
    replica.stop().await;
    // Nobody was answered by a shadow.
    assert!(models_of(&app).await.values().all(|model| *model == active));
    assert_eq!(step(&app, &two, "retire", json!({})).await.0, 200);
    assert_eq!(told(&app, &two).await["stage"], "retired");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trained_model_goes_through_its_life_by_itself() {
    let settings = [
        ("life.through_shadow", "yes"),
        ("life.through_canary", "yes"),
        ("life.stay_seconds", "0"),
        ("lineup.poll_seconds", "1"),
    ];
    // The first of all is live at once.
    let (app, first) = with_model(Clock::System, &settings).await;
    let steps = async |model: &str| -> Vec<String> {
        let told = told(&app, model).await;
        let decisions = told["decisions"].as_array().unwrap();
        decisions.iter().map(|d| d["step"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(steps(&first).await, ["promote"]);
    let second = app.train_with(r#"{"segments": 2}"#).await["model"].as_str().unwrap().to_owned();
    assert_eq!(steps(&second).await, ["promote", "canary", "shadow"]);
    let told = told(&app, &second).await;
    for decision in told["decisions"].as_array().unwrap() {
        assert!(
            decision["decided_by"].as_str().unwrap().starts_with("training run_"),
            "{decision}"
        );
    }
    assert_eq!(told["decisions"][0]["reason"], "stayed in canary");
    app.stop().await;
}

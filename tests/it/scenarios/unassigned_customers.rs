//! A model whose segments have a radius: a customer outside all of them is `unassigned` on
//! every endpoint.

use ndarray::Array2;
use segmentd::domain::feature::{FeatureRow, FeatureValue};
use segmentd::domain::model::DistanceMetric;
use segmentd::domain::time::Timestamp;
use segmentd::domain::train::{
    self, ProjectedClusters, PrototypeClusters, TrainedModel, TrainingProgress, TrainingSpec,
};
use segmentd::store::models;
use segmentd::store::models::feature_sets;
use serde_json::{Value, json};

use crate::support::{TestApp, eventually, ndjson, orders};

const CUSTOMERS: usize = 240;

struct Quiet;

impl TrainingProgress for Quiet {
    fn report(&self, _: &'static str, _: u64, _: u64) {}

    fn should_stop(&self) -> bool {
        false
    }
}

/// Trains two segments around two customers, so small that most customers are in neither.
fn trained(app: &TestApp, rows: &[FeatureRow]) -> TrainedModel {
    let set = &app.app.deployments.snapshot().features;
    let spec = TrainingSpec { segments: 2.into(), minimum_rows: 200, ..TrainingSpec::default() };
    let (feature_set, defs) = (set.id(), set.features());
    let data = train::TrainingData { feature_set, defs, rows, as_of: Timestamp::from_millis(0) };
    train::train_with_algorithm(&spec.check().unwrap(), &data, &Quiet, |fitted| {
        let prototypes = [0, fitted.rows() - 1].map(|row| fitted.row(row).mapv(f64::from));
        let apart = (&prototypes[0] - &prototypes[1]).mapv(|x| x * x).sum().sqrt();
        assert!(apart > 0.0);
        let clusters = PrototypeClusters {
            labels: vec![None; fitted.rows()],
            prototypes: Array2::from_shape_fn((2, fitted.columns()), |(p, column)| {
                prototypes[p][column]
            }),
            segment_of: vec![0, 1],
            weights: None,
            offsets: None,
            radius: Some(vec![apart * 0.3, apart * 0.3]),
            metric: DistanceMetric::Euclidean,
        };
        Ok(ProjectedClusters::without_projection(clusters))
    })
    .unwrap()
}

async fn rows(app: &TestApp) -> Vec<(FeatureRow, Value)> {
    let names = app.app.deployments.snapshot().features.features().to_vec();
    let mut rows = Vec::new();
    for customer in 0..CUSTOMERS {
        let (_, body) = app.get(&format!("/v1/customers/c{customer:04}")).await;
        let value = |name: &str| match &body["features"][name] {
            Value::Number(number) => FeatureValue::Number(number.as_f64().unwrap()),
            Value::String(text) => FeatureValue::Category(text.as_str().into()),
            _ => FeatureValue::Missing,
        };
        let row = FeatureRow(names.iter().map(|def| value(&def.name)).collect());
        rows.push((row, body["features"].clone()));
    }
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_in_no_segment_is_unassigned_on_every_endpoint() {
    let app = TestApp::start().await;
    app.post("/v1/events/bulk", ndjson(&orders(CUSTOMERS, 5))).await;
    let rows = rows(&app).await;
    let trained = trained(&app, &rows.iter().map(|(row, _)| row.clone()).collect::<Vec<_>>());
    assert!(trained.report.unassigned > 0 && trained.report.sizes.iter().all(|size| *size > 0));
    let set = app.app.deployments.snapshot().features.clone();
    let mut tx = app.db.begin().await.unwrap();
    let at = Timestamp::from_millis(0);
    feature_sets::insert(&mut tx, set.id(), set.normal_form(), at).await.unwrap();
    let report = json!({});
    let model = models::NewModel {
        model_id: trained.model.id(),
        feature_set: set.id(),
        artifact: &trained.bytes,
        run_id: None,
        report: &report,
    };
    models::insert(&mut tx, &model, at).await.unwrap();
    tx.commit().await.unwrap();
    let (status, _) = app.post(&format!("/v1/models/{}/promote", trained.model.id()), "").await;
    assert_eq!(status, 200);

    // Stateless: the nearest segment is still reported, with confidence 0.
    let bodies: Vec<&Value> = rows.iter().map(|(_, body)| body).collect();
    let (_, answer) = app.post("/v1/score", json!({ "rows": bodies }).to_string()).await;
    let scores = answer["scores"].as_array().unwrap();
    let is_out = |score: &&Value| score["segment_id"] == "unassigned";
    let out: Vec<&Value> = scores.iter().filter(is_out).collect();
    assert_eq!(out.len() as u64, trained.report.unassigned);
    for score in &out {
        assert_eq!(
            (&score["segment_name"], &score["confidence"]),
            (&json!("unassigned"), &json!(0.0))
        );
        let nearest = score["nearest_segment_id"].as_str().unwrap();
        assert!(trained.model.segments().iter().any(|one| *one.id == *nearest), "{score}");
    }
    assert!(
        scores.iter().filter(|s| !is_out(s)).all(|s| s["nearest_segment_id"] == s["segment_id"])
    );
    for score in scores {
        let anomaly = score["anomaly"].as_str();
        assert_eq!(score["outlier"] == true, anomaly == Some("global_outlier"), "{score}");
        assert!(score["edge_p_value"].as_f64().unwrap() > 0.0);
    }

    // Stored, listed, in the history and in the feed.
    let place = scores.iter().position(|score| is_out(&score)).unwrap();
    let path = format!("/v1/customers/c{place:04}");
    let mut customer = Value::Null;
    eventually("the model has scored the customer", async || {
        customer = app.get(&path).await.1;
        customer["fallback"] == false
    })
    .await;
    assert_eq!(customer["segment_id"], "unassigned");
    let (_, history) = app.get(&format!("{path}/history")).await;
    assert_eq!(history["changes"][0]["segment_id"], "unassigned");
    let (_, feed) = app.get("/v1/changes?segment_id=unassigned&limit=1000").await;
    assert_eq!(feed["changes"][0]["segment_id"], "unassigned", "{feed}");
    let (_, live) = app.get("/v1/segments").await;
    let listed = live["segments"].as_array().unwrap();
    assert_eq!((listed.len(), &listed[2]["segment_id"]), (3, &json!("unassigned")));
    assert!(listed[0]["segment_id"].as_str().unwrap().starts_with("seg_"));
    assert_eq!(listed[2]["profile"], Value::Null);

    // Tensors have no null: -1 stands for no segment.
    let names: Vec<String> = bodies[place].as_object().unwrap().keys().cloned().collect();
    let numbers = names.iter().filter(|name| bodies[place][*name].is_number());
    let inputs: Vec<Value> = numbers
        .map(|name| {
            let data = [&bodies[place][name]];
            json!({ "name": name, "datatype": "FP64", "shape": [1], "data": data })
        })
        .collect();
    let outputs = json!([{ "name": "segment_index" }, { "name": "segment_id" }]);
    let request = json!({ "inputs": inputs, "outputs": outputs }).to_string();
    let (status, reply) = app.post("/v2/models/segments/infer", request).await;
    assert_eq!(status, 200, "{reply}");
    assert_eq!(reply["outputs"][0]["data"], json!([-1]));
    assert_eq!(reply["outputs"][1]["data"], json!(["unassigned"]));
    app.stop().await;
}

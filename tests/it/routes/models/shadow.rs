//! `/v1/models/{model_id}/shadow`: what a shadow model counts beside the live one.

use std::collections::BTreeMap;

use segmentd::domain::feature::{FeatureRow, FeatureValue};
use segmentd::domain::model::{Model, ScoringScratch};
use segmentd::service::clock::TimeSource;
use segmentd::store::models;
use serde_json::{Value, json};

use crate::support::models::{
    CUSTOMERS, described, exchanged, models_of, move_model, one_more, share, sizes,
    wait_until_live, with_model,
};
use crate::support::{eventually, ndjson};

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_counts_its_own_scores_without_serving() {
    let (clock, _) = TimeSource::manual(TimeSource::System.now());
    let (app, active) = with_model(
        clock,
        &[("lifecycle.shadow_share", "1.0"), ("hysteresis.min_relative_advantage", "0")],
    )
    .await;
    let (_, run) = app.post("/v1/training-runs", r#"{"segments": 2}"#).await;
    let two = wait_until_live(&app, &run).await["model_id"].as_str().unwrap().to_owned();
    assert_eq!(app.post("/v1/deployment/rollback", "").await.0, 200);
    let exchanged = exchanged(&app, &active).await;
    for model in [&two, &exchanged] {
        assert_eq!(move_model(&app, model, "shadow", json!({})).await.0, 200);
        assert_eq!(described(&app, model).await["stage"], "shadow");
    }
    models_of(&app).await;
    let (_, answers) = app.post("/v1/events/bulk", ndjson(&one_more(1))).await;
    assert_eq!(answers.as_str().unwrap().matches("\"accepted\"").count(), CUSTOMERS);

    let counted = async |model: &str| {
        let path = format!("/v1/models/{model}/shadow");
        let mut shadow = Value::Null;
        eventually("the shadow has counted every customer", async || {
            shadow = app.get(&path).await.1;
            shadow["comparisons"][0]["customers"] == CUSTOMERS
        })
        .await;
        shadow
    };
    let shadow = counted(&two).await;
    assert_eq!(shadow["comparisons"][0]["model_id"], json!(active));
    // The expected counts, by both models.
    let open = async |id: &str| {
        let bytes = models::artifact(app.db.read(), &id.parse().unwrap()).await.unwrap().unwrap();
        Model::open(&bytes).unwrap()
    };
    let (live, other) = (open(&active).await, open(&two).await);
    let mut scratch = ScoringScratch::default();
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
        let key = |model: &Model, index: usize| model.segments()[index].id.to_string();
        let pair = (key(&live, ours.segment().unwrap()), key(&other, theirs.segment().unwrap()));
        *pairs.entry(pair).or_default() += 1;
        outliers.0 += i64::from(ours.is_outlier(0.01));
        outliers.1 += i64::from(theirs.is_outlier(0.01));
    }
    let text = |pair: &Value, field: &str| pair[field].as_str().unwrap().to_owned();
    let found: BTreeMap<(String, String), i64> = shadow["comparisons"][0]["pairs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| {
            (
                (text(p, "segment_id"), text(p, "shadow_segment_id")),
                p["customers"].as_i64().unwrap(),
            )
        })
        .collect();
    assert_eq!(found, pairs);
    assert_eq!(shadow["comparisons"][0]["outlier_rate"], json!(share(outliers.0)));
    assert_eq!(shadow["comparisons"][0]["shadow_outlier_rate"], json!(share(outliers.1)));
    assert_eq!(shadow["comparisons"][0]["shadow_unassigned_rate"], json!(0.0));

    // The same scores, except that two segments have exchanged ids.
    let shadow = counted(&exchanged).await;
    let sizes = sizes(&app).await;
    assert_eq!(shadow["comparisons"][0]["agreement"], json!(share(sizes[2])));
    let same = "segmentd_shadow_customers_total{outcome=\"agree\"}";
    assert!(app.metric(same).await >= u64::try_from(sizes[2]).unwrap());
    assert_eq!(app.metric("segmentd_shadow_customers_total{outcome=\"dropped\"}").await, 0);

    // Gates on shadow evidence apply if configured.
    let strict = [("gates.shadow_customers", "151"), ("gates.shadow_agreement", "1.0")];
    let replica = app.replica_with(&strict).await;
    let (status, problem) = move_model(&replica, &exchanged, "promote", json!({})).await;
    assert_eq!(status, 409);
    let refusing: Vec<&Value> = problem["gates"].as_array().unwrap().iter().collect();
    let found =
        |name: &str| refusing.iter().find(|g| g["gate"] == name).map(|g| g["measured"].clone());
    assert_eq!(found("shadow_customers"), Some(json!(150.0)));
    assert_eq!(found("shadow_agreement"), Some(json!(share(sizes[2]))));
    replica.stop().await;
    // No customer was served by a shadow.
    assert!(models_of(&app).await.values().all(|model| *model == active));
    assert_eq!(move_model(&app, &two, "retire", json!({})).await.0, 200);
    assert_eq!(described(&app, &two).await["stage"], "retired");
    app.stop().await;
}

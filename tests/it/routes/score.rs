//! `POST /v1/score`: one row, several rows, explanations, the rule-based fallback.

use serde_json::{Value, json};

use crate::support::{TestApp, ndjson, orders};

#[tokio::test(flavor = "multi_thread")]
async fn one_row_and_several_rows_get_the_same_scores() {
    let app = TestApp::start().await;
    app.post("/v1/events/bulk", ndjson(&orders(150, 5))).await;
    let row = json!({ "recency_days": 3, "orders_365d": 4, "spend_365d": 80 });
    let score = async |body: Value| {
        let (status, answer) = app.post("/v1/score", body.to_string()).await;
        assert_eq!(status, 200, "{answer}");
        answer
    };
    assert_eq!(score(json!({ "features": row })).await["fallback"], true);

    let model = app.train().await["model_id"].clone();
    let one = score(json!({ "features": row })).await;
    assert_eq!((&one["model"], &one["fallback"]), (&model, &json!(false)));
    let several = score(json!({ "rows": [row, {}, row] })).await;
    assert_eq!(several["model"], model);
    let scores = several["scores"].as_array().unwrap();
    assert_eq!(scores.len(), 3);
    assert_eq!(scores[0], scores[2]);
    for (name, value) in scores[0].as_object().unwrap() {
        assert_eq!(one[name], *value, "{name}");
    }

    // An explanation adds reasons, and changes nothing else.
    let explained = score(json!({ "features": row, "explain": true })).await;
    let reasons = explained["reasons"].as_array().unwrap();
    let shares: f64 = reasons.iter().map(|reason| reason["share"].as_f64().unwrap()).sum();
    assert!((shares - 1.0).abs() < 1e-9, "{explained}");
    for (name, value) in one.as_object().unwrap() {
        assert!(name == "reasons" || explained[name] == *value, "{name}");
    }
    app.stop().await;
}

//! `POST /v1/score`: one row, several rows, explanations, the rule-based fallback.

use serde_json::{Value, json};

use crate::support::contract::assert_described;
use crate::support::{TestApp, ndjson, orders};

#[tokio::test(flavor = "multi_thread")]
async fn one_row_and_several_rows_get_the_same_scores() {
    let app = TestApp::start().await;
    app.post("/v1/events/bulk", ndjson(&orders(150, 5))).await;
    let row = json!({ "recency_days": 3, "orders_365d": 4, "spend_365d": 80 });
    let score = async |body: Value| {
        let (status, answer) = app.post("/v1/score", body.to_string()).await;
        assert_eq!(status, 200, "{answer}");
        assert_described("ScoreResponse", &answer);
        let form = if answer["scores"].is_array() { "RowScoreList" } else { "RowScore" };
        assert_described(form, &answer);
        answer
    };
    assert_eq!(score(json!({ "features": row })).await["fallback"], true);
    assert_eq!(score(json!({ "rows": [row] })).await["fallback"], true);

    let model = app.train().await["model_id"].clone();
    let one = score(json!({ "features": row })).await;
    assert_eq!((&one["model_id"], &one["fallback"]), (&model, &json!(false)));
    let several = score(json!({ "rows": [row, {}, row] })).await;
    assert_eq!(several["model_id"], model);
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

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_names_its_field() {
    let app = TestApp::start().await;
    for (body, field, problem) in [
        (json!({}), "features", "is required"),
        (json!({ "row": [] }), "row", "unknown field"),
        (json!({ "features": [] }), "features", "must be an object"),
        (json!({ "features": { "recency": 3 } }), "features.recency", "unknown feature `recency`"),
        (
            json!({ "features": { "recency_days": "x" } }),
            "features.recency_days",
            "must be a number",
        ),
        (
            json!({ "rows": [{}, { "recency_days": 1, "last_store": 5 }] }),
            "rows[1].last_store",
            "must be a string or null",
        ),
        (json!({ "rows": [{}, 7] }), "rows[1]", "must be an object of features"),
        (json!({ "rows": [], "explain": 1 }), "explain", "must be true or false"),
        (json!({ "features": {}, "customer_id": {} }), "customer_id", "must be"),
    ] {
        let (status, answer) = app.post("/v1/score", body.to_string()).await;
        assert_eq!((status, &answer["errors"][0]["field"]), (422, &json!(field)), "{answer}");
        let found = answer["errors"][0]["problem"].as_str().unwrap();
        assert!(found.contains(problem), "{problem}: {answer}");
        assert_described("Problem", &answer);
    }
    app.stop().await;
}

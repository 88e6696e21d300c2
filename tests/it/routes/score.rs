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
    let several = score(json!({ "rows": [row, { "recency_days": 9 }, row] })).await;
    assert_eq!(several["model_id"], model);
    // Of 150 customers too few are held out, so that each of them is counted.
    for answer in [&one, &several] {
        assert_eq!(answer["smallest_p_value"], json!(1.0 / 151.0));
    }
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
async fn a_score_says_how_many_inputs_were_missing_and_what_replaced_them() {
    let app = TestApp::start().await;
    let score = async |body: Value| {
        let (status, answer) = app.post("/v1/score", body.to_string()).await;
        assert_eq!(status, 200, "{answer}");
        answer
    };
    // The fallback reads three features, and replaces none.
    let one = json!({ "recency_days": 3 });
    let rules = score(json!({ "features": one, "explain": true })).await;
    assert_eq!(rules["missing_inputs"], 2, "{rules}");
    let defaults = rules["defaults"].as_array().unwrap();
    assert_eq!(defaults.len(), 2);
    assert!(defaults.iter().all(|default| default["value"].is_null()), "{rules}");

    app.post("/v1/events/bulk", ndjson(&orders(150, 5))).await;
    // It also answers for a row with other values, as it replaces a model at any time.
    let other = score(json!({ "features": { "last_store": "1" } })).await;
    assert_eq!(other["missing_inputs"], 3, "{other}");

    app.train().await;
    let (_, declared) = app.get("/v1/features").await;
    let declared = declared["features"].as_array().unwrap();
    let is_read = |feature: &&Value| !feature["encoding"].is_null();
    let explained = score(json!({ "features": one, "explain": true })).await;
    let defaults = explained["defaults"].as_array().unwrap();
    assert_eq!(explained["missing_inputs"], defaults.len());
    assert!(defaults.len() < declared.iter().filter(is_read).count(), "{explained}");
    assert!(defaults.iter().all(|default| default["feature"] != "recency_days"));
    assert!(defaults.iter().any(|default| default["value"].is_number()), "{explained}");

    // The row with its defaults has the same score, and only categories are missing.
    let mut filled = one.clone();
    for default in defaults {
        filled[default["feature"].as_str().unwrap()] = default["value"].clone();
    }
    let several = score(json!({ "rows": [filled, one] })).await;
    let (filled, one) = (&several["scores"][0], &several["scores"][1]);
    let categories = defaults.iter().filter(|default| default["value"].is_null()).count();
    assert_eq!(filled["missing_inputs"], categories);
    assert_eq!(one["missing_inputs"], defaults.len());
    assert!(one.get("defaults").is_none());
    app.stop().await;
}

/// Without a value, a score would say nothing about the customer.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_without_a_value_is_refused() {
    let app = TestApp::start().await;
    let with_model = async || {
        app.post("/v1/events/bulk", ndjson(&orders(150, 5))).await;
        app.train().await;
    };
    for is_trained in [false, true] {
        if is_trained {
            with_model().await;
        }
        for (body, field) in [
            (json!({ "features": {} }), "features"),
            (json!({ "features": { "recency_days": null } }), "features"),
            (json!({ "features": {}, "explain": true, "customer_id": "c1" }), "features"),
            (json!({ "rows": [{ "recency_days": 1 }, { "recency_days": null }] }), "rows[1]"),
        ] {
            let (status, answer) = app.post("/v1/score", body.to_string()).await;
            assert_eq!((status, &answer["errors"][0]["field"]), (422, &json!(field)), "{answer}");
            let problem = answer["errors"][0]["problem"].as_str().unwrap();
            assert!(problem.starts_with("has no value; send at least one of `"), "{answer}");
            assert!(problem.contains("`recency_days`"), "{answer}");
            assert_described("Problem", &answer);
        }
        // A model does not read this feature; the fallback does. A promotion refuses no row.
        let body = json!({ "features": { "orders_365d": 4 } });
        let (status, answer) = app.post("/v1/score", body.to_string()).await;
        assert_eq!(status, 200, "{answer}");
        assert!(answer["missing_inputs"].as_u64() > Some(1), "{answer}");
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
            json!({ "rows": [{ "recency_days": 1 }, { "recency_days": 1, "last_store": 5 }] }),
            "rows[1].last_store",
            "must be a string or null",
        ),
        (json!({ "rows": [{ "recency_days": 1 }, 7] }), "rows[1]", "must be an object of features"),
        (
            json!({ "features": { "recency_days": -5 } }),
            "features.recency_days",
            "must be at least 0; it is -5",
        ),
        (
            json!({ "rows": [{ "recency_days": 0 }, { "orders_365d": -0.5 }] }),
            "rows[1].orders_365d",
            "must be at least 0; it is -0.5",
        ),
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

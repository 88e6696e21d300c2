//! Scoring while models are promoted: no request fails, and every field of a response comes
//! from one model.

use std::collections::{BTreeMap, HashMap};

use segmentd::service::clock::TimeSource;
use serde_json::{Value, json};

use crate::support::models::{models_of, move_model, one_more, wait_until_live, with_model};
use crate::support::{TestApp, ndjson, orders};

/// All fields of a response come from one model, even during promotions.
#[tokio::test(flavor = "multi_thread")]
async fn promotions_under_load_never_fail_or_mix_a_response() {
    let app = TestApp::start().await;
    let lines = ndjson(&orders(150, 5));
    app.post("/v1/events/bulk", lines).await;
    let three = app.train().await["model_id"].as_str().unwrap().to_owned();
    let (_, run) = app.post("/v1/training-runs", r#"{"segments": 2}"#).await;
    let two = wait_until_live(&app, &run).await["model_id"].as_str().unwrap().to_owned();

    let row = r#"{"recency_days": 3, "orders_365d": 4, "spend_365d": 80}"#;
    let body = format!(r#"{{"rows": [{row}, {row}, {row}]}}"#);
    let mut expected = HashMap::new();
    for model in [&three, &two] {
        app.post(&format!("/v1/models/{model}/promote"), "").await;
        let (_, answer) = app.post("/v1/score", body.clone()).await;
        assert_eq!(answer["model_id"].as_str(), Some(model.as_str()));
        expected.insert(model.clone(), answer["scores"].clone());
    }
    assert_ne!(expected[&three], expected[&two]);
    let promotions = async {
        for turn in 0..20 {
            let model = if turn % 2 == 0 { &three } else { &two };
            let (status, answer) = app.post(&format!("/v1/models/{model}/promote"), "").await;
            assert_eq!(status, 200, "{answer}");
        }
    };
    let scores = async {
        for _ in 0..300 {
            let (status, answer) = app.post("/v1/score", body.clone()).await;
            assert_eq!(status, 200, "{answer}");
            assert_eq!(&answer["scores"], &expected[answer["model_id"].as_str().unwrap()]);
        }
    };
    tokio::join!(promotions, scores);
    app.stop().await;
}

/// Canaries start and end, models are promoted; no response fails or mixes two models.
#[tokio::test(flavor = "multi_thread")]
async fn life_cycle_changes_under_load_never_fail_or_mix_a_response() {
    let (app, three) = with_model(TimeSource::System, &[]).await;
    let (_, run) = app.post("/v1/training-runs", r#"{"segments": 2}"#).await;
    let two = wait_until_live(&app, &run).await["model_id"].as_str().unwrap().to_owned();
    let row = json!({ "recency_days": 3, "orders_365d": 4, "spend_365d": 80 });
    let mut expected = BTreeMap::new();
    for model in [&three, &two] {
        assert_eq!(move_model(&app, model, "promote", json!({})).await.0, 200);
        let (_, mut answer) = app.post("/v1/score", json!({ "features": row }).to_string()).await;
        assert_eq!(answer["model_id"], json!(model));
        answer["generation"] = Value::Null;
        expected.insert(model.clone(), answer);
    }
    let ids_of_two = segment_ids(&app.get("/v1/segments").await.1);
    let life = async {
        for _ in 0..6 {
            for (model, to, body) in [
                (&three, "canary", json!({ "share": 0.5 })),
                (&three, "promote", json!({})),
                (&two, "shadow", json!({})),
                (&two, "canary", json!({ "share": 0.2 })),
                (&two, "retire", json!({})),
                (&two, "promote", json!({})),
            ] {
                let (status, answer) = move_model(&app, model, to, body).await;
                assert_eq!(status, 200, "{to}: {answer}");
            }
        }
    };
    let scores = async {
        for number in 0..300 {
            let body = json!({ "features": row, "customer_id": format!("c{number}") });
            let (status, mut answer) = app.post("/v1/score", body.to_string()).await;
            assert_eq!(status, 200, "{answer}");
            answer["generation"] = Value::Null;
            assert_eq!(&answer, &expected[answer["model_id"].as_str().unwrap()]);
        }
    };
    let events = async {
        for round in 0..3 {
            for event in one_more(10 + round) {
                let (status, answer) = app.post("/v1/events", event.to_string()).await;
                assert_eq!((status, &answer["accepted"]), (200, &json!(1)), "{answer}");
                let score = &answer["outcomes"][0]["score"];
                let model = score["model_id"].as_str().unwrap();
                assert!(model != two || ids_of_two.contains(&score["segment_id"]), "{answer}");
            }
        }
    };
    tokio::join!(life, scores, events);
    assert!(models_of(&app).await.values().all(|model| *model == two));
    app.stop().await;
}

fn segment_ids(segments: &Value) -> Vec<Value> {
    let segments = segments["segments"].as_array().unwrap().iter();
    segments.map(|segment| segment["segment_id"].clone()).collect()
}

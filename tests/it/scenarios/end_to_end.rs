//! End to end: events, features, training, assignments, promotion, rollback.

use serde_json::json;

use crate::support::models::wait_until_live;
use crate::support::{TestApp, ndjson, orders};

#[tokio::test(flavor = "multi_thread")]
async fn events_become_segments() {
    let app = TestApp::start().await;

    // Without a model the fallback answers, and the response says so.
    let (status, answer) = app.post("/v1/events", json!(orders(1, 0)[0]).to_string()).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["accepted"], 1);
    assert_eq!(answer["outcomes"][0]["score"]["fallback"], true);

    // A bulk load gives a verdict for each line; the first event is a duplicate.
    let events = orders(300, 5);
    let lines = ndjson(&events);
    let (status, verdicts) = app.post("/v1/events/bulk", lines.clone()).await;
    assert_eq!(status, 200);
    let text = verdicts.as_str().unwrap();
    assert_eq!(text.lines().count(), events.len());
    assert_eq!(text.matches("\"accepted\"").count(), events.len() - 1);
    assert_eq!(text.matches("\"duplicate\"").count(), 1);
    let before = app.states_digest().await;

    // A second load changes no byte of any state.
    let (_, again) = app.post("/v1/events/bulk", lines).await;
    assert_eq!(again.as_str().unwrap().matches("\"duplicate\"").count(), events.len());
    assert_eq!(app.states_digest().await, before);

    // Training makes a model, promotes it, and assigns every customer.
    let run = app.train().await;
    assert_eq!(run["status"], "succeeded", "{run}");
    let model = run["model_id"].as_str().unwrap();
    let (_, segments) = app.get("/v1/segments").await;
    assert_eq!(segments["model_id"], model);
    let customers: i64 = segments["segments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["customers"].as_i64().unwrap())
        .sum();
    assert_eq!(customers, 300);
    let (_, customer) = app.get("/v1/customers/c0007").await;
    assert_eq!(customer["model_id"], model);
    assert_eq!(customer["fallback"], false);
    let (_, history) = app.get("/v1/customers/c0007/history").await;
    assert_eq!(history["changes"][0]["model_id"], model);
    assert_eq!(history["changes"].as_array().unwrap().last().unwrap()["fallback"], true);

    // The stored assignment equals the stateless score of the same features.
    let body = json!({ "features": customer["features"], "explain": true });
    let (status, score) = app.post("/v1/score", body.to_string()).await;
    assert_eq!(status, 200, "{score}");
    assert_eq!(score["model_id"], model);
    assert_eq!(score["segment_id"], customer["segment_id"]);
    let shares: f64 =
        score["reasons"].as_array().unwrap().iter().map(|r| r["share"].as_f64().unwrap()).sum();
    assert!((shares - 1.0).abs() < 1e-9 || shares == 0.0, "{shares}");

    // A second model, then a rollback.
    let (_, second) = app.post("/v1/training-runs", r#"{"segments": 2}"#).await;
    assert!(["queued", "running"].contains(&second["status"].as_str().unwrap()), "{second}");
    let second = wait_until_live(&app, &second).await;
    assert_ne!(second["model_id"], model);
    let (status, deployment) = app.post("/v1/deployment/rollback", r#"{"reason": "test"}"#).await;
    assert_eq!((status, &deployment["active_model_id"]), (200, &json!(model)));
    assert_eq!(app.get("/v1/segments").await.1["model_id"], model);
    let (_, models) = app.get("/v1/models").await;
    assert_eq!(models["models"].as_array().unwrap().len(), 2);
    let promote = format!("/v1/models/{}/promote", second["model_id"].as_str().unwrap());
    assert_eq!(app.post(&promote, "").await.0, 200);

    let (status, ready) = app.admin("/readyz?verbose").await;
    assert_eq!((status, ready.contains("[+] database")), (200, true));
    assert_eq!(app.admin("/livez").await.0, 200);
    let (_, metrics) = app.admin("/metrics").await;
    assert!(metrics.contains("segmentd_events_total{outcome=\"accepted\"} "), "{metrics}");
    let (_, document) = app.get("/openapi.json").await;
    assert_eq!(document["openapi"], "3.1.0");
    app.stop().await;
}

//! Events in, features, a model, assignments, a swap: the main job.

use serde_json::{Value, json};

use crate::support::{TestApp, ndjson, orders};

#[tokio::test(flavor = "multi_thread")]
async fn events_become_segments() {
    let app = TestApp::start().await;

    // Nothing trained: the fallback answers and says so.
    let (status, answer) = app.post("/v1/events", json!(orders(1, 0)[0]).to_string()).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["accepted"], 1);
    assert_eq!(answer["outcomes"][0]["score"]["fallback"], true);

    // A bulk load gives a verdict per line; the first event is a duplicate.
    let events = orders(300, 5);
    let lines = ndjson(&events);
    let (status, verdicts) = app.post("/v1/events/bulk", lines.clone()).await;
    assert_eq!(status, 200);
    let text = verdicts.as_str().unwrap();
    assert_eq!(text.lines().count(), events.len());
    assert_eq!(text.matches("\"accepted\"").count(), events.len() - 1);
    assert_eq!(text.matches("\"duplicate\"").count(), 1);
    let before = app.states_digest().await;

    // Loading again changes no state, to the byte.
    let (_, again) = app.post("/v1/events/bulk", lines).await;
    assert_eq!(again.as_str().unwrap().matches("\"duplicate\"").count(), events.len());
    assert_eq!(app.states_digest().await, before);

    // Training makes a model, makes it live, and assigns everyone by it.
    let run = app.train().await;
    assert_eq!(run["status"], "succeeded", "{run}");
    let model = run["model"].as_str().unwrap();
    let (_, segments) = app.get("/v1/segments").await;
    assert_eq!(segments["model"], model);
    let customers: i64 = segments["segments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["customers"].as_i64().unwrap())
        .sum();
    assert_eq!(customers, 300);
    let (_, customer) = app.get("/v1/customers/c0007").await;
    assert_eq!(customer["model"], model);
    assert_eq!(customer["fallback"], false);
    let (_, history) = app.get("/v1/customers/c0007/history").await;
    assert_eq!(history["changes"][0]["model"], model);
    assert_eq!(history["changes"].as_array().unwrap().last().unwrap()["fallback"], true);

    // What is stored is what the stateless door answers for the same features.
    let body = json!({ "features": customer["features"], "explain": true });
    let (status, score) = app.post("/v1/score", body.to_string()).await;
    assert_eq!(status, 200, "{score}");
    assert_eq!(score["model"], model);
    assert_eq!(score["segment"], customer["segment"]);
    let shares: f64 =
        score["reasons"].as_array().unwrap().iter().map(|r| r["share"].as_f64().unwrap()).sum();
    assert!((shares - 1.0).abs() < 1e-9 || shares == 0.0, "{shares}");

    // A second model, then back.
    let (_, second) = app.post("/v1/training-runs", r#"{"segments": 2}"#).await;
    assert!(["queued", "running"].contains(&second["status"].as_str().unwrap()), "{second}");
    let second = wait(&app, &second).await;
    assert_ne!(second["model"], model);
    let (status, lineup) = app.post("/v1/models/rollback", r#"{"reason": "test"}"#).await;
    assert_eq!((status, &lineup["active_model"]), (200, &json!(model)));
    assert_eq!(app.get("/v1/segments").await.1["model"], model);
    let (_, models) = app.get("/v1/models").await;
    assert_eq!(models["models"].as_array().unwrap().len(), 2);
    let promote = format!("/v1/models/{}/promote", second["model"].as_str().unwrap());
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

/// One score answer's fields all come from one model, whatever is promoted meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_swap_never_fails_or_mixes_an_answer() {
    let app = TestApp::start().await;
    let lines = ndjson(&orders(150, 5));
    app.post("/v1/events/bulk", lines).await;
    let three = app.train().await["model"].as_str().unwrap().to_owned();
    let (_, run) = app.post("/v1/training-runs", r#"{"segments": 2}"#).await;
    let two = wait(&app, &run).await["model"].as_str().unwrap().to_owned();

    let row = r#"{"recency_days": 3, "orders_365d": 4, "spend_365d": 80}"#;
    let body = format!(r#"{{"rows": [{row}, {row}, {row}]}}"#);
    let mut expected = std::collections::HashMap::new();
    for model in [&three, &two] {
        app.post(&format!("/v1/models/{model}/promote"), "").await;
        let (_, answer) = app.post("/v1/score", body.clone()).await;
        assert_eq!(answer["model"].as_str(), Some(model.as_str()));
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
            assert_eq!(&answer["scores"], &expected[answer["model"].as_str().unwrap()]);
        }
    };
    tokio::join!(promotions, scores);
    app.stop().await;
}

pub(crate) async fn wait(app: &TestApp, run: &Value) -> Value {
    let path = format!("/v1/training-runs/{}", run["run"].as_str().unwrap());
    for _ in 0..600 {
        let (_, run) = app.get(&path).await;
        let live = app.get("/v1/segments").await.1;
        if run["model"].is_string() && live["model"] == run["model"] {
            return run;
        }
        assert_ne!(run["status"], "failed", "{run}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("training took too long");
}

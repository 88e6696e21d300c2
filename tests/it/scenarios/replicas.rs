//! Several replicas on one Postgres.

use serde_json::json;

use crate::support::{TestApp, eventually, ndjson, orders};

/// A promotion through one replica reaches the other. Each response comes from one model.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_follow_one_deployment() {
    let one = TestApp::start().await;
    let two = one.replica().await;
    one.post("/v1/events/bulk", ndjson(&orders(150, 5))).await;
    let trained = one.train().await["model"].as_str().unwrap().to_owned();
    let body = json!({ "features": { "recency_days": 3, "spend_365d": 80 } }).to_string();
    eventually("the other replica answers with the model", async || {
        two.post("/v1/score", body.clone()).await.1["model"] == trained.as_str()
    })
    .await;
    assert_eq!(
        one.post("/v1/score", body.clone()).await.1,
        two.post("/v1/score", body.clone()).await.1
    );

    // Each replica reads what the other stores.
    let (here, there) =
        (one.get("/v1/customers/c0007").await.1, two.get("/v1/customers/c0007").await.1);
    assert_eq!(here["model"], trained.as_str());
    for field in ["model", "segment", "distance", "generation"] {
        assert_eq!(here[field], there[field], "{field}");
    }

    // A requested run is executed once, by the replica with the lease.
    let (_, run) = two.post("/v1/training-runs", r#"{"segments": 2}"#).await;
    let path = format!("/v1/training-runs/{}", run["run"].as_str().unwrap());
    eventually("the run succeeds", async || one.get(&path).await.1["status"] == "succeeded").await;
    let second = one.get(&path).await.1["model"].clone();
    for app in [&one, &two] {
        eventually("both are at the second model", async || {
            app.post("/v1/score", body.clone()).await.1["model"] == second
        })
        .await;
    }
    let (_, models) = one.get("/v1/models").await;
    assert_eq!(models["models"].as_array().unwrap().len(), 2);
    two.stop().await;
    one.stop().await;
}

/// Locks are taken only after a conflict. A repeated event beside a new one counts once.
#[tokio::test(flavor = "multi_thread")]
async fn commits_take_locks_only_when_needed() {
    let app = TestApp::start().await;
    let events = orders(2, 3);
    let count = async |way: &str| -> u64 {
        let (_, metrics) = app.admin("/metrics").await;
        let line = format!("segmentd_ingestion_commits_total{{path=\"{way}\"}} ");
        metrics.lines().find_map(|l| l.strip_prefix(&line)).unwrap().parse().unwrap()
    };
    app.post("/v1/events", json!([events[0]]).to_string()).await;
    app.post("/v1/events", json!([events[1]]).to_string()).await;
    assert_eq!((count("lock_free").await, count("locking").await), (2, 0));
    let (status, answer) = app.post("/v1/events", json!([events[1], events[2]]).to_string()).await;
    assert_eq!((status, &answer["accepted"], &answer["duplicate"]), (200, &json!(1), &json!(1)));
    assert_eq!((count("lock_free").await, count("locking").await), (2, 1));
    app.stop().await;
}

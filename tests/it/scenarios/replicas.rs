//! Several replicas on one Postgres.

use serde_json::json;

use std::time::Duration;

use sqlx::{Connection as _, PgConnection};

use crate::support::{TestApp, eventually, eventually_within, ndjson, orders};

/// A promotion through one replica reaches the other. Each response comes from one model.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_follow_one_deployment() {
    let one = TestApp::start().await;
    let two = one.replica().await;
    one.post("/v1/events/bulk", ndjson(&orders(150, 5))).await;
    let trained = one.train().await["model_id"].as_str().unwrap().to_owned();
    let body = json!({ "features": { "recency_days": 3, "spend_365d": 80 } }).to_string();
    eventually("the other replica answers with the model", async || {
        two.post("/v1/score", body.clone()).await.1["model_id"] == trained.as_str()
    })
    .await;
    assert_eq!(
        one.post("/v1/score", body.clone()).await.1,
        two.post("/v1/score", body.clone()).await.1
    );

    // Each replica reads what the other stores.
    let (here, there) =
        (one.get("/v1/customers/c0007").await.1, two.get("/v1/customers/c0007").await.1);
    assert_eq!(here["model_id"], trained.as_str());
    for field in ["model_id", "segment_id", "distance", "generation"] {
        assert_eq!(here[field], there[field], "{field}");
    }

    // A requested run is executed once, by the replica with the lease.
    let (_, run) = two.post("/v1/training-runs", r#"{"segments": 2}"#).await;
    let path = format!("/v1/training-runs/{}", run["training_run_id"].as_str().unwrap());
    eventually("the run succeeds", async || one.get(&path).await.1["status"] == "succeeded").await;
    let second = one.get(&path).await.1["model_id"].clone();
    for app in [&one, &two] {
        eventually("both are at the second model", async || {
            app.post("/v1/score", body.clone()).await.1["model_id"] == second
        })
        .await;
    }
    let (_, models) = one.get("/v1/models").await;
    assert_eq!(models["models"].as_array().unwrap().len(), 2);
    two.stop().await;
    one.stop().await;
}

/// Deadline for a change of a key on every replica: the promise is five seconds, and a busy
/// machine may take longer to ask.
const KEY_DEADLINE: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn every_replica_refuses_a_revoked_key() {
    let one = TestApp::start().await;
    let replicas = [one.replica().await, one.replica().await];
    let apps = [&one, &replicas[0], &replicas[1]];
    let mut keys = Vec::new();
    for name in ["revoked by a request", "rotated by a request", "revoked without notification"] {
        let request = json!({ "name": name, "scopes": ["read"] }).to_string();
        let (_, key) = one.post("/v1/keys", request).await;
        keys.push((
            key["key_id"].as_str().unwrap().to_owned(),
            key["key"].as_str().unwrap().to_owned(),
        ));
    }
    let accepting = async |key: &str| {
        let mut count = 0;
        for app in apps {
            count += usize::from(app.get_as(key, "/v1/segments").await.0 == 200);
        }
        count
    };
    for (_, key) in &keys {
        eventually("every replica accepts the key", async || accepting(key).await == 3).await;
    }
    let [(revoked, revoked_key), (rotated, rotated_key), (silent, silent_key)] = &keys[..] else {
        panic!("three keys")
    };

    // Through different replicas; the replica that changed it refuses it in the next request.
    assert_eq!(replicas[0].delete(&format!("/v1/keys/{revoked}")).await.0, 204);
    assert_eq!(replicas[0].get_as(revoked_key, "/v1/segments").await.0, 401);
    let at_once = r#"{"overlap_seconds": 0}"#;
    let (status, new) = replicas[1].post(&format!("/v1/keys/{rotated}/rotate"), at_once).await;
    assert_eq!(status, 200, "{new}");
    let new = new["key"].as_str().unwrap();
    for old in [revoked_key, rotated_key] {
        eventually_within(KEY_DEADLINE, "no replica accepts the key", async || {
            accepting(old).await == 0
        })
        .await;
    }
    eventually_within(KEY_DEADLINE, "every replica accepts the new secret", async || {
        accepting(new).await == 3
    })
    .await;

    // A lost notification: the keys are also read again periodically.
    let mut connection = PgConnection::connect(one.database_url()).await.unwrap();
    sqlx::query("update api_key set revoked_at = now() where key_id = $1")
        .bind(silent)
        .execute(&mut connection)
        .await
        .unwrap();
    eventually_within(KEY_DEADLINE, "no replica accepts the key", async || {
        accepting(silent_key).await == 0
    })
    .await;
    for replica in replicas {
        replica.stop().await;
    }
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

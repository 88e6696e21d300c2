//! The customer cache of ingestion: writes of other replicas are never lost, and the
//! metrics count hits and misses.

use std::time::Duration;

use segmentd::store::database::private::{PrivatePostgres, PrivateServerSettings};
use serde_json::{Value, json};

use crate::support::{TestApp, ndjson, open_to_all, orders};

/// Orders of one customer.
fn of_one(orders_of_it: usize) -> Vec<Value> {
    let all = orders(3, orders_of_it);
    all.into_iter().filter(|event| event["customer_id"] == "c0002").collect()
}

async fn send(app: &TestApp, event: &Value) {
    let (status, answer) = app.post("/v1/events", event.to_string()).await;
    assert_eq!((status, &answer["accepted"]), (200, &json!(1)), "{answer}");
}

async fn orders_counted(app: &TestApp) -> Value {
    app.get("/v1/customers/c0002").await.1["features"]["orders_365d"].clone()
}

/// The numbers of customers that were precomputed from the cache, stale in the cache, and
/// read.
async fn known(app: &TestApp) -> [u64; 3] {
    let mut counts = [0; 3];
    for (count, known) in counts.iter_mut().zip(["precomputed", "stale", "read"]) {
        *count = app
            .metric(&format!("segmentd_ingestion_customer_lookups_total{{lookup=\"{known}\"}}"))
            .await;
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_is_read_once_however_many_events_follow() {
    let app = TestApp::start().await;
    let events = of_one(2);
    for event in &events[..4] {
        send(&app, event).await;
    }
    assert_eq!(orders_counted(&app).await, 4.0);
    assert_eq!(known(&app).await, [3, 0, 1]);

    // A repeated event is found by its id, without the row of its customer.
    let (_, answer) = app.post("/v1/events", events[0].to_string()).await;
    assert_eq!(answer["duplicate"], 1);
    assert_eq!((orders_counted(&app).await, known(&app).await), (json!(4.0), [3, 0, 1]));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_of_another_replica_is_not_overwritten() {
    let one = TestApp::start().await;
    let two = one.replica().await;
    let events = of_one(3);
    send(&one, &events[0]).await;
    send(&two, &events[1]).await;
    send(&one, &events[2]).await;
    send(&two, &events[3]).await;
    for app in [&one, &two] {
        assert_eq!(orders_counted(app).await, 4.0);
        // One stale hit; after it the cache is not used for a while.
        assert_eq!(known(app).await, [0, 1, 2]);
        assert_eq!(app.metric("segmentd_ingestion_commits_total{path=\"lock_free\"}").await, 2);
    }
    two.stop().await;
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_rescored_by_a_new_model_is_read_again() {
    let app = TestApp::start().await;
    let events = orders(150, 4);
    let (last, earlier) = events.split_last().unwrap();
    app.post("/v1/events/bulk", ndjson(earlier)).await;
    let before = known(&app).await;
    app.train().await;
    send(&app, last).await;
    assert_eq!(known(&app).await, [before[0], 0, before[2] + 1]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cache_stays_within_its_memory_limit() {
    let app = TestApp::start_with(&[("ingestion.cache_bytes", "20000")]).await;
    let events = orders(300, 1);
    for some in events.chunks(50) {
        app.post("/v1/events", json!(some).to_string()).await;
    }
    let held = app.metric("segmentd_ingestion_cache_bytes").await;
    assert!((5_000..=20_000).contains(&held), "{held}");
    app.stop().await;

    let app = TestApp::start_with(&[("ingestion.cache_bytes", "0")]).await;
    for event in &of_one(2)[..2] {
        send(&app, event).await;
    }
    assert_eq!(known(&app).await, [0, 0, 2]);
    app.stop().await;
}

/// A restarted Postgres may have lost transactions that were not on disk, and reuses their
/// ids.
#[tokio::test(flavor = "multi_thread")]
async fn cached_versions_are_invalid_after_a_database_restart() {
    const SERVER: PrivateServerSettings =
        PrivateServerSettings { binaries: None, max_connections: 60 };
    let place = tempfile::Builder::new().permissions(open_to_all()).tempdir().unwrap();
    let postgres = PrivatePostgres::start(place.path(), &SERVER).await.unwrap();
    let app = TestApp::start_with(&[("database.url", &postgres.url())]).await;
    app.app.api_keys.refresh().await.unwrap();
    let events = of_one(2);
    send(&app, &events[0]).await;
    postgres.stop().await.unwrap();
    let postgres = PrivatePostgres::start(place.path(), &SERVER).await.unwrap();
    // A sleep, because nothing shows when a pooled connection counts as idle: the pool tests
    // a connection, and replaces it, only after two seconds without use. A request before
    // that would fail, and would change the counts below.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    send(&app, &events[1]).await;
    assert_eq!(orders_counted(&app).await, 2.0);
    assert_eq!(known(&app).await, [0, 1, 2]);
    app.stop().await;
    postgres.stop().await.unwrap();
}

//! Customers whom intake need not read again: what others do to them meanwhile
//! is never lost, and what it costs is told.

use std::time::Duration;

use segmentd::store::database::private::{PrivatePostgres, Settings};
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

/// How customers were known: from the cache by an event's own request, from the cache in
/// vain, read.
async fn known(app: &TestApp) -> [u64; 3] {
    let mut counts = [0; 3];
    for (count, known) in counts.iter_mut().zip(["ahead", "stale", "read"]) {
        *count = app.metric(&format!("segmentd_intake_customers_total{{known=\"{known}\"}}")).await;
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_is_read_once_however_many_events_follow() {
    let app = TestApp::start().await;
    for event in &of_one(2)[..4] {
        send(&app, event).await;
    }
    assert_eq!(orders_counted(&app).await, 4.0);
    assert_eq!(known(&app).await, [3, 0, 1]);

    // An event sent again is known by its id, not by its customer.
    let (_, answer) = app.post("/v1/events", of_one(2)[0].to_string()).await;
    assert_eq!(answer["duplicate"], 1);
    assert_eq!((orders_counted(&app).await, known(&app).await), (json!(4.0), [3, 0, 1]));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_replica_wrote_is_not_written_over() {
    let one = TestApp::start().await;
    let two = one.replica().await;
    let events = of_one(3);
    send(&one, &events[0]).await;
    send(&two, &events[1]).await;
    send(&one, &events[2]).await;
    send(&two, &events[3]).await;
    for app in [&one, &two] {
        assert_eq!(orders_counted(app).await, 4.0);
        // In vain once; from then on nothing is taken from the cache for a while.
        assert_eq!(known(app).await, [0, 1, 2]);
        assert_eq!(app.metric("segmentd_intake_commits_total{way=\"lock_free\"}").await, 2);
    }
    two.stop().await;
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_a_new_model_reassigned_is_read_again() {
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
async fn it_takes_no_more_memory_than_it_is_given() {
    let app = TestApp::start_with(&[("intake.cache_bytes", "20000")]).await;
    let events = orders(300, 1);
    for some in events.chunks(50) {
        app.post("/v1/events", json!(some).to_string()).await;
    }
    let held = app.metric("segmentd_intake_cache_bytes").await;
    assert!((5_000..=20_000).contains(&held), "{held}");
    app.stop().await;

    let app = TestApp::start_with(&[("intake.cache_bytes", "0")]).await;
    for event in &of_one(2)[..2] {
        send(&app, event).await;
    }
    assert_eq!(known(&app).await, [0, 0, 2]);
    app.stop().await;
}

/// A server that is started again may have lost what it had not brought to disk,
/// and with it numbers of transactions, which it uses again.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_knew_does_not_hold_for_the_next() {
    const SERVER: Settings = Settings { binaries: None, max_connections: 60 };
    let place = tempfile::Builder::new().permissions(open_to_all()).tempdir().unwrap();
    let postgres = PrivatePostgres::start(place.path(), &SERVER).await.unwrap();
    let app = TestApp::start_with(&[("database.url", &postgres.url())]).await;
    app.app.access.refresh().await.unwrap();
    let events = of_one(2);
    send(&app, &events[0]).await;
    postgres.stop().await.unwrap();
    let postgres = PrivatePostgres::start(place.path(), &SERVER).await.unwrap();
    // Connections that have been idle are tried, and made anew.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    send(&app, &events[1]).await;
    assert_eq!(orders_counted(&app).await, 2.0);
    assert_eq!(known(&app).await, [0, 1, 2]);
    app.stop().await;
    postgres.stop().await.unwrap();
}

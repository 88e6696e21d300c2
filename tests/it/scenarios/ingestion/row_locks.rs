//! A customer row that another database session has locked delays that customer only.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};

use crate::support::{TestApp, eventually, ndjson, orders};

/// Less than `http.request_timeout_seconds`: a request that takes longer waits for the
/// lock.
const STUCK: Duration = Duration::from_secs(20);

fn event(number: usize, customer: &str) -> Value {
    json!({
        "type": "track", "name": "Order Completed", "message_id": format!("locks-{number}"),
        "customer_id": customer, "properties": { "sales_value": 5, "lines": 1 },
    })
}

/// Locks one customer in a session, until the session is closed.
async fn lock(app: &TestApp, customer: &str) -> PgConnection {
    let mut session = PgConnection::connect(app.database_url()).await.unwrap();
    sqlx::raw_sql("begin").execute(&mut session).await.unwrap();
    let locked: String =
        sqlx::query_scalar("select customer_id from customer where customer_id = $1 for update")
            .bind(customer)
            .fetch_one(&mut session)
            .await
            .unwrap();
    assert_eq!(locked, customer);
    session
}

async fn orders_of(app: &TestApp, customer: &str) -> Option<f64> {
    app.get(&format!("/v1/customers/{customer}")).await.1["features"]["orders"].as_f64()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_customer_does_not_delay_events_of_other_customers() {
    let settings = [
        ("database.commit_lock_timeout_milliseconds", "200"),
        ("ingestion.shards", "1"),
        ("ingestion.max_lock_wait_seconds", "300"),
    ];
    let app = TestApp::start_with(&settings).await;
    app.post("/v1/events", json!([event(0, "stuck"), event(1, "c1")]).to_string()).await;
    let session = lock(&app, "stuck").await;

    let stuck = app.post("/v1/events", event(2, "stuck").to_string());
    let others = async {
        // Consecutive shared commits, each with known and new customers.
        for number in 0..20 {
            let new = format!("new-{number}");
            let batch = json!([event(10 + 2 * number, "c1"), event(11 + 2 * number, &new)]);
            let (status, answer) = app.post("/v1/events", batch.to_string()).await;
            assert_eq!((status, &answer["accepted"]), (200, &json!(2)), "{answer}");
        }
        assert_eq!(app.metric("segmentd_ingestion_deferred_events").await, 1);
        session.close().await.unwrap();
    };
    let (stuck, ()) =
        tokio::time::timeout(STUCK, async { tokio::join!(stuck, others) }).await.unwrap();
    // After the lock the event is counted, and sent again it is a duplicate.
    assert_eq!((stuck.0, &stuck.1["accepted"]), (200, &json!(1)), "{}", stuck.1);
    let (_, again) = app.post("/v1/events", event(2, "stuck").to_string()).await;
    assert_eq!(again["duplicate"], 1, "{again}");
    assert_eq!(orders_of(&app, "stuck").await, Some(2.0));
    assert_eq!(orders_of(&app, "c1").await, Some(21.0));
    eventually("nothing is set aside any more", async || {
        app.metric("segmentd_ingestion_deferred_events").await == 0
    })
    .await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_a_locked_customer_is_answered_after_its_deadline_and_counts_once() {
    let settings = [
        ("database.commit_lock_timeout_milliseconds", "100"),
        ("ingestion.max_lock_wait_seconds", "1"),
    ];
    let app = TestApp::start_with(&settings).await;
    app.post("/v1/events", event(0, "stuck").to_string()).await;
    let session = lock(&app, "stuck").await;
    let sends = async {
        // Alone: the request fails as a whole.
        let (status, answer) = app.post("/v1/events", event(1, "stuck").to_string()).await;
        assert_eq!(status, 503, "{answer}");
        let output = "the customer is locked by another database session; send the event again with \
                    the same message_id";
        assert_eq!(answer["detail"], output);
        // With others: each has its own status.
        let batch = json!([event(2, "stuck"), event(3, "free")]).to_string();
        let (status, answer) = app.post("/v1/events", batch).await;
        assert_eq!((status, &answer["accepted"], &answer["locked"]), (207, &json!(1), &json!(1)));
        assert_eq!(answer["outcomes"][0]["status"], "locked");
        assert_eq!(answer["outcomes"][0]["message_id"], "locks-2");
        // In bulk the stream continues.
        let lines = ndjson(&[event(4, "stuck"), event(5, "free")]);
        let (_, verdicts) = app.post("/v1/events/bulk", lines).await;
        let verdicts = verdicts.as_str().unwrap().to_owned();
        assert!(verdicts.contains(r#""line":1,"status":"locked""#), "{verdicts}");
        assert!(verdicts.contains(r#""line":2,"status":"accepted""#), "{verdicts}");
        // A strict request counts all events or none.
        let batch = json!([event(6, "stuck"), event(7, "free")]).to_string();
        let (status, answer) = app.post("/v1/events?strict=true", batch).await;
        assert_eq!((status, answer["detail"].as_str()), (503, Some(output)));
        // 503, because the Segment libraries retry whole requests.
        let track = json!({
            "type": "track", "event": "Order Completed", "messageId": "locks-8",
            "userId": "stuck", "properties": { "sales_value": 5 },
        });
        let (status, answer) = app.post("/v1/batch", json!({ "batch": [track] }).to_string()).await;
        assert_eq!(status, 503, "{answer}");
        // Also for a link to the locked customer.
        let link = json!({
            "type": "identify", "message_id": "locks-9", "anonymous_id": "device",
            "customer_id": "stuck",
        });
        let (status, answer) = app.post("/v1/events", link.to_string()).await;
        assert_eq!(status, 503, "{answer}");
    };
    tokio::time::timeout(STUCK, sends).await.unwrap();
    assert_eq!(orders_of(&app, "free").await, Some(2.0));
    session.close().await.unwrap();

    for number in [1, 2, 4, 6] {
        let (status, answer) = app.post("/v1/events", event(number, "stuck").to_string()).await;
        assert_eq!((status, &answer["accepted"]), (200, &json!(1)), "{answer}");
    }
    assert_eq!(orders_of(&app, "stuck").await, Some(5.0));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_uncommitted_insert_delays_only_its_own_customer() {
    let settings = [
        ("database.commit_lock_timeout_milliseconds", "100"),
        ("ingestion.max_lock_wait_seconds", "300"),
        ("ingestion.shards", "1"),
    ];
    let app = TestApp::start_with(&settings).await;
    app.post("/v1/events", event(0, "c1").to_string()).await;
    // Another session has inserted a customer, and has not committed. A commit that inserts
    // the same customer waits for it, although no visible row is locked.
    let mut session = PgConnection::connect(app.database_url()).await.unwrap();
    sqlx::raw_sql(
        "begin; insert into customer (workspace_id, customer_id, state, updated_at)
         values (1, 'new', '', now())",
    )
    .execute(&mut session)
    .await
    .unwrap();
    let batch: Vec<Value> = (1..20)
        .map(|number| event(number, &if number == 7 { "new".into() } else { format!("c{number}") }))
        .collect();
    let all = app.post("/v1/events", json!(batch).to_string());
    let others = async {
        eventually("the others are counted", async || {
            orders_of(&app, "c19").await == Some(1.0) && orders_of(&app, "c2").await == Some(1.0)
        })
        .await;
        sqlx::raw_sql("rollback").execute(&mut session).await.unwrap();
    };
    let (all, ()) = tokio::time::timeout(STUCK, async { tokio::join!(all, others) }).await.unwrap();
    assert_eq!((all.0, &all.1["accepted"]), (200, &json!(19)), "{}", all.1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rescoring_skips_a_locked_customer_and_retries() {
    let app = TestApp::start().await;
    app.post("/v1/events/bulk", ndjson(&orders(120, 4))).await;
    let session = lock(&app, "c0007").await;
    let (status, run) = app.post("/v1/training-runs", r#"{"segments": 3, "starts": 2}"#).await;
    assert_eq!(status, 202, "{run}");
    let path = format!("/v1/training-runs/{}", run["run"].as_str().unwrap());
    eventually("all others are scored by the new model", async || {
        let model = app.get(&path).await.1["model"].clone();
        let mut by_it = 0;
        for customer in 0..120 {
            let (_, assignment) = app.get(&format!("/v1/customers/c{customer:04}")).await;
            by_it += usize::from(!model.is_null() && assignment["model_id"] == model);
        }
        by_it == 119
    })
    .await;
    let model = app.get(&path).await.1["model"].clone();
    assert_ne!(app.get("/v1/customers/c0007").await.1["model_id"], model);
    assert_eq!(app.metric("segmentd_bulk_rescoring_pending_customers").await, 1);
    session.close().await.unwrap();
    eventually("the locked customer is scored too", async || {
        app.get("/v1/customers/c0007").await.1["model_id"] == model
    })
    .await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_connection_has_its_time_limits() {
    let app = TestApp::start().await;
    app.post("/v1/events", event(0, "c1").to_string()).await;
    let mut session = PgConnection::connect(app.database_url()).await.unwrap();
    sqlx::raw_sql("begin; lock table customer in access exclusive mode")
        .execute(&mut session)
        .await
        .unwrap();
    // A read that waits for a lock times out with a reason.
    let read = tokio::time::timeout(STUCK, app.get("/v1/customers/c1")).await.unwrap();
    assert_eq!(read.0, 503, "{}", read.1);
    assert_eq!(
        read.1["detail"],
        "a row is locked by another database session; nothing was written; send the request again"
    );
    session.close().await.unwrap();
    app.stop().await;
}

//! Events that wait for an earlier commit are precomputed; the result is used only if its
//! inputs have not changed by then.

use futures_util::future::join_all;
use segmentd::store::database::lease::LeaseName;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};

use crate::support::{TestApp, eventually, ndjson, orders};

/// A new order of this customer.
fn order(customer: usize, number: usize) -> Value {
    let mut order = orders(customer + 1, 0).remove(customer);
    order["message_id"] = format!("later-{customer}-{number}").into();
    order
}

async fn send(app: &TestApp, event: &Value) -> Value {
    let (status, answer) = app.post("/v1/events", event.to_string()).await;
    assert_eq!(status, 200, "{answer}");
    answer["outcomes"][0].clone()
}

async fn orders_counted(app: &TestApp, customer: usize) -> Value {
    let (_, assignment) = app.get(&format!("/v1/customers/c{customer:04}")).await;
    assignment["features"]["orders_365d"].clone()
}

/// Blocks the commit of the `first` event until all `events` wait for it and `meanwhile` is
/// over. Returns the outcomes of `events`.
async fn held_up(
    app: &TestApp,
    first: Value,
    events: &[Value],
    meanwhile: impl AsyncFnOnce(),
) -> Vec<Value> {
    let mut database = PgConnection::connect(app.database_url()).await.unwrap();
    let mut lock = database.begin().await.unwrap();
    let statement = "lock table event in share row exclusive mode";
    sqlx::raw_sql(statement).execute(&mut *lock).await.unwrap();
    // Within a transaction `pg_stat_activity` is a snapshot, so this is another session.
    let mut watching = PgConnection::connect(app.database_url()).await.unwrap();
    let waiting = async {
        let waits = "select count(*) > 0 from pg_stat_activity
                     where datname = current_database() and wait_event_type = 'Lock'
                     and query like '%insert into event %'";
        let waits = async || sqlx::query_scalar(waits).fetch_one(&mut watching).await.unwrap();
        eventually("the first commit waits", waits).await;
        let meanwhile = async {
            let all = 1 + events.len() as u64;
            let wait = async || app.metric("segmentd_http_requests_in_flight").await == all;
            eventually("all events wait", wait).await;
            meanwhile().await;
            lock.commit().await.unwrap();
        };
        tokio::join!(join_all(events.iter().map(|event| send(app, event))), meanwhile).0
    };
    let (first, answers) = tokio::join!(send(app, &first), waiting);
    assert_eq!(first["status"], "accepted");
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_events_of_one_customer_count_once_each() {
    let app = TestApp::start().await;
    for customer in 0..3 {
        send(&app, &order(customer, 0)).await;
    }
    let events = [order(1, 1), order(2, 1), order(1, 2), order(2, 1)];
    let answers = held_up(&app, order(0, 1), &events, async || {}).await;
    let mut status: Vec<&str> = answers.iter().map(|a| a["status"].as_str().unwrap()).collect();
    status.sort_unstable();
    assert_eq!(status, ["accepted", "accepted", "accepted", "duplicate"]);
    assert_eq!(orders_counted(&app, 1).await, 3.0);
    assert_eq!(orders_counted(&app, 2).await, 2.0);
    app.stop().await;
}

/// An event is not precomputed from a state that a commit in progress changes.
#[tokio::test(flavor = "multi_thread")]
async fn a_customer_with_an_event_in_a_commit_is_not_precomputed() {
    let app = TestApp::start().await;
    send(&app, &order(1, 0)).await;
    let named = json!({
        "type": "identify", "message_id": "named", "customer_id": "c0001",
        "anonymous_id": "somebody", "timestamp": order(1, 0)["timestamp"],
    });
    let answers = held_up(&app, named, &[order(1, 1)], async || {}).await;
    assert_eq!(answers[0]["status"], "accepted");
    assert_eq!(orders_counted(&app, 1).await, 2.0);
    assert_eq!(app.metric("segmentd_ingestion_customer_lookups_total{lookup=\"stale\"}").await, 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_precomputed_score_of_an_older_model_is_discarded() {
    let app = TestApp::start().await;
    app.post("/v1/events/bulk", ndjson(&orders(150, 5))).await;
    let before = app.train().await["model"].clone();
    app.train_with(r#"{"segments": 2, "starts": 3}"#).await;
    for customer in 0..3 {
        let answer = send(&app, &order(customer, 0)).await;
        assert_ne!(answer["score"]["model_id"], before);
    }
    // Only these events rescore their customers: the test holds the lease of bulk
    // rescoring.
    let mut lease = None;
    let held = async || {
        lease = app.db.try_lease(LeaseName::Rescoring).await.unwrap();
        lease.is_some()
    };
    eventually("the lease is free", held).await;
    let rollback = async || {
        let (status, deployment) = app.post("/v1/models/rollback", "{}").await;
        assert_eq!((status, &deployment["active_model"]), (200, &before));
    };
    for answer in held_up(&app, order(0, 1), &[order(1, 1), order(2, 1)], rollback).await {
        assert_eq!(
            (&answer["status"], &answer["score"]["model_id"]),
            (&json!("accepted"), &before)
        );
    }
    lease.unwrap().release().await;
    app.stop().await;
}

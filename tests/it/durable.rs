//! What nobody knows to be on disk is not acknowledged.

use serde_json::json;
use sqlx::Connection as _;

use crate::support::{TestApp, orders};

/// Ends the connection over which commits are brought to disk: all that is seen of
/// a crash of Postgres from which it has recovered before anybody looks again.
async fn end_the_flushes(app: &TestApp) {
    let mut database = sqlx::PgConnection::connect(app.database_url()).await.unwrap();
    let ended: Vec<bool> = sqlx::query_scalar(
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity
         where datname = current_database() and query like 'select pg_logical_emit_message%'",
    )
    .fetch_all(&mut database)
    .await
    .unwrap();
    assert_eq!(ended, [true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_before_the_connection_was_lost_is_to_be_sent_again() {
    let app = TestApp::start().await;
    let events = orders(3, 2);
    let (status, answer) = app.post("/v1/events", events[0].to_string()).await;
    assert_eq!((status, &answer["accepted"]), (200, &json!(1)), "{answer}");

    end_the_flushes(&app).await;
    let (status, problem) = app.post("/v1/events", events[1].to_string()).await;
    assert_eq!(status, 503, "{problem}");
    let (status, answer) = app.post("/v1/events", events[1].to_string()).await;
    assert_eq!((status, &answer["duplicate"]), (200, &json!(1)), "{answer}");

    let (status, answer) = app.post("/v1/events", events[2].to_string()).await;
    assert_eq!((status, &answer["accepted"]), (200, &json!(1)), "{answer}");
    app.stop().await;
}

//! Long chains of identity links from one sender do not slow other senders.

use segmentd::store::database::private::{PrivatePostgres, PrivateServerSettings};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};

use crate::support::{TestApp, ndjson, open_to_all};

const CHAIN: usize = 3000;

fn alias(from: &str, to: &str) -> Value {
    json!({
        "type": "alias", "message_id": format!("{from}-{to}"), "previous_id": from,
        "customer_id": to, "timestamp": "2026-01-01T00:00:00Z",
    })
}

fn order(message_id: &str, customer: &str) -> Value {
    json!({
        "type": "track", "name": "Order Completed", "message_id": message_id,
        "customer_id": customer, "properties": { "sales_value": 5 },
    })
}

/// The size of the largest connected component of first links.
async fn largest_component(app: &TestApp) -> i64 {
    let mut session = PgConnection::connect(app.database_url()).await.unwrap();
    sqlx::query_scalar(
        "with recursive reached (start, id) as (
             select from_id, from_id from customer_link
             where is_first and from_id in ('a1', 'a1500', 'a3000', 'x')
             union
             select start, case when from_id = id then to_id else from_id end
             from reached join customer_link on is_first and (from_id = id or to_id = id))
         select coalesce(max(ids), 0) from (select count(*) as ids from reached group by start) counts",
    )
    .fetch_one(&mut session)
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_links_is_bounded_and_does_not_slow_other_senders() {
    let app = TestApp::start().await;
    let chain: Vec<Value> =
        (0..CHAIN).map(|k| alias(&format!("a{}", k + 1), &format!("a{k}"))).collect();
    let (_, verdicts) = app.post("/v1/events/bulk", ndjson(&chain)).await;
    let verdicts = verdicts.as_str().unwrap().to_owned();
    let count = |status: &str| verdicts.matches(&format!(r#""status":"{status}""#)).count();
    // Every link has its verdict: recorded, or refused with the reason.
    assert_eq!(count("accepted") + count("rejected"), CHAIN);
    assert!(count("rejected") > 0, "{verdicts}");
    assert!(verdicts.contains("connected to 1000 others"), "{verdicts}");
    assert!(largest_component(&app).await <= 1000);

    // Refused links are stored whole for a replay.
    let (_, kept) = app.get("/v1/events/failed?raw=true&limit=1").await;
    let raw = kept["failed_events"][0]["raw"].as_str().unwrap_or_else(|| panic!("{kept}"));
    let raw: Value = serde_json::from_str(raw).unwrap();
    assert_eq!((&raw["type"], raw["previous_id"].is_string()), (&json!("alias"), true));
    let rejected = app.metric(r#"segmentd_events_total{outcome="rejected"}"#).await;
    assert_eq!(rejected, count("rejected") as u64);

    // Links of other senders are unaffected.
    let link = alias("device-0", "person-0");
    let (status, answer) = app.post("/v1/events", link.to_string()).await;
    assert_eq!((status, &answer["accepted"]), (200, &json!(1)), "{answer}");
    let (status, answer) = app.post("/v1/events", order("o1", "device-0").to_string()).await;
    assert_eq!((status, &answer["outcomes"][0]["customer_id"]), (200, &json!("person-0")));

    // An end of the chain can still be removed.
    let (status, answer) = app.delete("/v1/customers/a1/links/a1").await;
    assert_eq!(status, 200, "{answer}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_stored_before_the_bound_is_neither_walked_nor_extended() {
    // A separate server, which runs on after the service has stopped.
    let place = tempfile::Builder::new().permissions(open_to_all()).tempdir().unwrap();
    let settings = PrivateServerSettings { binaries: None, max_connections: 100 };
    let server = PrivatePostgres::start(place.path(), &settings).await.unwrap();
    let app = TestApp::start_with(&[("database.url", &server.url())]).await;
    app.post("/v1/events", order("o1", "x").to_string()).await;
    // A chain as an earlier version stored it.
    let mut session = PgConnection::connect(app.database_url()).await.unwrap();
    sqlx::raw_sql(
        "insert into customer_link
             (workspace_id, from_id, to_id, happened_at, message_id, is_first, is_alias)
         select 1, 'a' || k + 1, 'a' || k, timestamptz '2026-01-01' + k * interval '1 s', 'm' || k, true, true
         from generate_series(0, 30000) as k;
         insert into customer (workspace_id, customer_id, state, updated_at)
         select 1, 'a' || k, '', now() from generate_series(0, 30001) as k;
         analyze customer_link",
    )
    .execute(&mut session)
    .await
    .unwrap();
    let batch = json!([alias("x", "a15000"), alias("y", "z"), order("o2", "x")]).to_string();
    let (status, answer) = app.post("/v1/events", batch).await;
    assert_eq!(status, 207, "{answer}");
    assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(2), &json!(1)));
    assert_eq!(answer["outcomes"][0]["status"], "rejected");
    // A strict request is refused whole.
    let batch = json!([alias("x", "a15000"), order("o3", "x")]).to_string();
    let (status, answer) = app.post("/v1/events?strict=true", batch).await;
    assert_eq!((status, &answer["rejected"], &answer["not_counted"]), (422, &json!(1), &json!(1)));
    // Removing a link is bounded too.
    let (status, answer) = app.delete("/v1/customers/a20000/links/a20000").await;
    assert_eq!(status, 200, "{answer}");
    // Replayed without a change, it is refused again, and stays stored.
    let (status, answer) = app.post("/v1/events/failed/replay", "{}").await;
    assert_eq!((status, &answer["rejected"]), (200, &json!(1)), "{answer}");
    app.stop().await;
    // Each of these five requests read a bounded part of the chain. To follow it to its
    // ends takes at least 60,000 rows. (Connections report their statistics when they
    // close.)
    let read: i64 = sqlx::query_scalar(
        "select sum(idx_tup_fetch + seq_tup_read)::bigint
         from pg_stat_user_tables where relname = 'customer_link'",
    )
    .fetch_one(&mut session)
    .await
    .unwrap();
    assert!((1000..150_000).contains(&read), "{read}");
    session.close().await.unwrap();
    server.stop().await.unwrap();
}

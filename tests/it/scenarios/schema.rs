//! The schema: keys begin with the workspace, texts are in byte order, and neither depends on
//! the database's own collation.

use futures_util::TryStreamExt as _;
use segmentd::store::customers;
use segmentd::store::database::private::{PrivatePostgres, PrivateServerSettings};
use serde_json::json;
use sqlx::{Connection as _, PgConnection};

use crate::support::{TestApp, ndjson, open_to_all, print_skipped};

/// Rows of one text column, one a line.
async fn lines(connection: &mut PgConnection, sql: &str) -> Vec<String> {
    // The statements of this test contain no value from outside.
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned())).fetch_all(connection).await.unwrap()
}

/// Tables of segmentd, without partitions, which inherit everything.
const TABLES: &str = "select oid, relname from pg_class
    where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and not relispartition
      and relname <> '_sqlx_migrations'";

#[tokio::test(flavor = "multi_thread")]
async fn every_key_begins_with_the_workspace_and_every_text_is_in_byte_order() {
    let app = TestApp::start().await;
    let mut connection = PgConnection::connect(app.database_url()).await.unwrap();
    let tables = lines(&mut connection, &format!("select relname::text from ({TABLES}) t")).await;
    assert!(tables.len() > 25, "{tables:?}");

    // `workspace` and `change_epoch` describe the database.
    let without = format!(
        "select relname::text from ({TABLES}) t where not exists (
             select from pg_attribute where attrelid = t.oid and attname = 'workspace_id'
                 and attnotnull and not atthasdef) order by 1"
    );
    assert_eq!(lines(&mut connection, &without).await, ["change_epoch"]);
    let indexes = format!(
        "select indexrelid::regclass::text from pg_index join ({TABLES}) t on t.oid = indrelid
         where relname not in ('workspace', 'change_epoch') and (
             select attname from pg_attribute
             where attrelid = indrelid and attnum = indkey[0]) is distinct from 'workspace_id'"
    );
    assert_eq!(lines(&mut connection, &indexes).await, [""; 0]);
    // The history of assignments has no key: its rows are read by index, and never changed.
    let keyless = format!(
        "select relname::text from ({TABLES}) t where not exists (
             select from pg_index where indrelid = t.oid and indisprimary)"
    );
    assert_eq!(lines(&mut connection, &keyless).await, ["assignment_history"]);
    // A reference stays within its workspace.
    let references = "select conname::text from pg_constraint
        where contype = 'f' and conrelid::regclass::text !~ '^workspace' and (
            select attname from pg_attribute
            where attrelid = conrelid and attnum = conkey[1]) is distinct from 'workspace_id'";
    assert_eq!(lines(&mut connection, references).await, [""; 0]);
    let by_customer = "select conrelid::regclass::text from pg_constraint
        where contype = 'p' and (
            select attname from pg_attribute where attrelid = conrelid and attnum = conkey[2])
            in ('customer_id', 'from_id')
        order by 1";
    let expected = ["customer", "customer_link", "event"];
    assert_eq!(lines(&mut connection, by_customer).await, expected);

    let other_order = format!(
        "select relname || '.' || attname from ({TABLES}) t join pg_attribute on attrelid = t.oid
         where attnum > 0 and attcollation <> 0 and attcollation <> '\"C\"'::regcollation"
    );
    assert_eq!(lines(&mut connection, &other_order).await, [""; 0]);
    app.stop().await;
}

/// In a database with the order of a natural language, ids are still in byte order.
#[tokio::test(flavor = "multi_thread")]
async fn the_order_of_ids_is_that_of_their_bytes_in_a_database_with_another_collation() {
    let place = tempfile::Builder::new().permissions(open_to_all()).tempdir().unwrap();
    let settings = PrivateServerSettings { binaries: None, max_connections: 100 };
    let server = PrivatePostgres::start(place.path(), &settings).await.unwrap();
    let mut connection = PgConnection::connect(&server.url()).await.unwrap();
    let created = sqlx::raw_sql(
        "create database by_language template template0 locale_provider icu icu_locale 'en-US'",
    );
    if let Err(error) = created.execute(&mut connection).await {
        print_skipped(&format!("this server has no ICU: {error}"));
        return;
    }
    let app = TestApp::start_with(&[("database.url", &server.url_for("by_language"))]).await;
    let mut natural = PgConnection::connect(app.database_url()).await.unwrap();
    assert_eq!(lines(&mut natural, "select ('a' < 'B')::text").await, ["true"]);

    // Batches of ids that the database itself would sort in another order.
    let ids = ["a", "B", "é", "A", "b", "Z", "_", "z", "-"];
    let order = |id: &str, number: usize| {
        json!({
            "type": "track", "name": "Order Completed", "message_id": format!("m{number}-{id}"),
            "customer_id": id, "properties": { "sales_value": 1 },
        })
    };
    for number in 0..3 {
        let events: Vec<_> = ids.iter().map(|id| order(id, number)).collect();
        let events = [events, vec![order("a", 0)]].concat();
        let (_, lines) = app.post("/v1/events/bulk", ndjson(&events)).await;
        let accepted = lines.as_str().unwrap().matches(r#""accepted""#).count();
        assert_eq!(accepted, ids.len(), "{lines}");
    }
    let links = [("B", "a"), ("Z", "_")].map(|(from, to)| {
        json!({
            "type": "alias", "message_id": format!("link-{from}"), "customer_id": to,
            "previous_id": from,
        })
    });
    let (status, answer) = app.post("/v1/events", json!(links).to_string()).await;
    assert_eq!((status, &answer["accepted"]), (200, &json!(2)), "{answer}");
    let states: Vec<_> = customers::stream_states(app.db.read()).try_collect().await.unwrap();
    let read: Vec<&str> = states.iter().map(|stored| stored.customer.as_str()).collect();
    assert_eq!(read, ["-", "A", "_", "a", "b", "z", "é"]);
    let (_, customer) = app.get("/v1/customers/a").await;
    assert_eq!(customer["features"]["orders_365d"], 6.0);
    app.stop().await;
    server.stop().await.unwrap();
}

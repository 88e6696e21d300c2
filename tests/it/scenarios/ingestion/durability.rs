//! An event is acknowledged only when the commit is durable, including synchronous
//! replication.

use std::time::Duration;

use segmentd::store::database::private::{PrivatePostgres, PrivateServerSettings};
use serde_json::json;
use sqlx::{Connection as _, PgConnection};

use crate::support::{TestApp, eventually, open_to_all, orders};

async fn carry_out(statement: &'static str, database: &mut PgConnection) {
    for statement in [statement, "select pg_reload_conf()"] {
        sqlx::raw_sql(statement).execute(&mut *database).await.unwrap();
    }
}

/// Waits until this SQL condition holds.
async fn until(condition: &'static str, database: &mut PgConnection) {
    eventually("the condition holds in Postgres", async || {
        sqlx::query_scalar::<_, bool>(condition).fetch_one(&mut *database).await.unwrap()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_waits_for_synchronous_replication() {
    const SERVER: PrivateServerSettings =
        PrivateServerSettings { binaries: None, max_connections: 60 };
    let place = tempfile::Builder::new().permissions(open_to_all()).tempdir().unwrap();
    let postgres = PrivatePostgres::start(place.path(), &SERVER).await.unwrap();
    let app = TestApp::start_with(&[("database.url", &*postgres.url())]).await;
    let mut database = PgConnection::connect(app.database_url()).await.unwrap();
    let mut events = orders(200, 0).into_iter().map(|event| event.to_string());
    let waits = "select count(*) > 0 from pg_stat_activity
                 where query like 'with inserted as%' and wait_event = 'SyncRep'";
    let nobody_waits = "select count(*) = 0 from pg_stat_activity where wait_event = 'SyncRep'";
    for path in ["/v1/events", "/v1/events?strict=true"] {
        let waiting = loop {
            // Each commit waits for a standby that does not exist, once the server has
            // reloaded its configuration.
            carry_out("alter system set synchronous_standby_names = 'nobody'", &mut database).await;
            let event = events.next().expect("an answer that waits");
            tokio::select! {
                (status, answer) = app.post(path, event.clone()) => assert_eq!(status, 200, "{answer}"),
                () = until(waits, &mut database) => break event,
                // Other commits wait too, and may hold locks that this one needs: after a
                // second without either outcome, the next event tries again, once no commit waits
                // any more that could be taken for its own.
                () = tokio::time::sleep(Duration::from_secs(1)) => {
                    carry_out("alter system reset synchronous_standby_names", &mut database).await;
                    until(nobody_waits, &mut database).await;
                }
            }
        };
        carry_out("alter system reset synchronous_standby_names", &mut database).await;
        let (status, answer) = app.post(path, waiting).await;
        assert_eq!((status, &answer["duplicate"]), (200, &json!(1)), "{path}: {answer}");
    }
    app.stop().await;
    postgres.stop().await.unwrap();
}

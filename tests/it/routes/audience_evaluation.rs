//! Evaluation of stored customers after a change of audiences: locked customers, interruptions,
//! and changes in its course.

use segmentd::store::database::private::{PrivatePostgres, PrivateServerSettings};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};

use crate::support::{TestApp, eventually, ndjson, open_to_all, orders};

const CUSTOMERS: usize = 40;
/// Batches of 5 customers, with pauses in which a test can act.
const SLOW: [(&str, &str); 3] = [
    ("bulk_rescoring.batch_customers", "5"),
    ("bulk_rescoring.pause_ratio", "40"),
    ("deployment.poll_seconds", "1"),
];

async fn define(app: &TestApp, expression: &str) {
    let body = json!({ "expression": expression, "reason": "tested" });
    let (status, made) = app.put("/v1/audiences/buyers", body.to_string()).await;
    assert!([200, 201].contains(&status), "{made}");
}

async fn pending(app: &TestApp) -> Value {
    app.get("/v1/audiences").await.1["pending_customers"].clone()
}

async fn settle(app: &TestApp) {
    eventually("all customers are evaluated", async || pending(app).await == 0).await;
}

async fn size(app: &TestApp) -> Value {
    app.get("/v1/audiences/buyers").await.1["customers"].clone()
}

async fn connect(app: &TestApp) -> PgConnection {
    PgConnection::connect(app.database_url()).await.unwrap()
}

/// Runs statements that the program itself never runs.
async fn run(session: &mut PgConnection, sql: &'static str) {
    sqlx::raw_sql(sql).execute(session).await.unwrap();
}

async fn number(session: &mut PgConnection, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(session).await.unwrap()
}

const EVALUATED: &str = "select count(*) from customer
    where audience_version = (select version from audience_evaluation)";

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_customer_is_evaluated_once_it_is_free() {
    let app = TestApp::start_with(&[("deployment.poll_seconds", "1")]).await;
    app.post("/v1/events/bulk", ndjson(&orders(CUSTOMERS, 1))).await;
    let mut session = connect(&app).await;
    run(&mut session, "begin; select from customer where customer_id = 'c0007' for update").await;
    define(&app, "features.orders >= 1").await;
    eventually("the others are evaluated", async || {
        size(&app).await == CUSTOMERS - 1 && pending(&app).await == 1
    })
    .await;
    assert_eq!(app.get("/v1/customers/c0007").await.1["audiences"], json!([]));
    eventually("the metric has the locked customer", async || {
        app.metric("segmentd_bulk_rescoring_pending_customers").await == 1
    })
    .await;
    run(&mut session, "rollback").await;
    settle(&app).await;
    assert_eq!(size(&app).await, CUSTOMERS);
    assert_eq!(app.get("/v1/customers/c0007").await.1["audiences"], json!(["buyers"]));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_evaluation_continues_at_its_position() {
    let place = tempfile::Builder::new().permissions(open_to_all()).tempdir().unwrap();
    let server = PrivateServerSettings { binaries: None, max_connections: 100 };
    let server = PrivatePostgres::start(place.path(), &server).await.unwrap();
    let url = server.url();
    let app = TestApp::start_with(&[&SLOW[..], &[("database.url", &url)]].concat()).await;
    app.post("/v1/events/bulk", ndjson(&orders(CUSTOMERS, 1))).await;
    define(&app, "features.orders >= 1").await;
    eventually("some customers are evaluated", async || size(&app).await != 0).await;
    app.stop().await;

    let mut session = PgConnection::connect(&url).await.unwrap();
    let evaluated = usize::try_from(number(&mut session, EVALUATED).await).unwrap();
    assert!((5..CUSTOMERS).contains(&evaluated), "{evaluated} customers were evaluated");
    let (position, last): (String, String) = sqlx::query_as(
        "select last_customer_id, (select max(customer_id) from customer where audiences is not null)
         from audience_evaluation",
    )
    .fetch_one(&mut session)
    .await
    .unwrap();
    assert_eq!(position, last);

    let app = TestApp::start_with(&[("database.url", &url)]).await;
    settle(&app).await;
    assert_eq!(size(&app).await, CUSTOMERS);
    // No customer is evaluated twice.
    let rescored = app.metric("segmentd_bulk_rescored_customers_total").await;
    assert_eq!(usize::try_from(rescored).unwrap(), CUSTOMERS - evaluated);
    app.stop().await;
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_change_begins_the_evaluation_again() {
    let app = TestApp::start_with(&SLOW).await;
    app.post("/v1/events/bulk", ndjson(&orders(CUSTOMERS, 1))).await;
    define(&app, "features.orders >= 1").await;
    eventually("some customers are evaluated", async || size(&app).await != 0).await;
    define(&app, "features.orders >= 1000").await;
    assert_ne!(pending(&app).await, 0);
    settle(&app).await;
    assert_eq!(size(&app).await, 0);
    // The customers that the first definition reached have left; the others never entered.
    let (_, feed) = app.get("/v1/changes?audience=buyers&limit=1000").await;
    let changes = feed["changes"].as_array().unwrap();
    let entered = changes.iter().filter(|change| change["audiences_entered"].is_array()).count();
    assert!((5..CUSTOMERS).contains(&entered), "{feed}");
    assert_eq!(changes.len(), 2 * entered, "{feed}");
    let mut session = connect(&app).await;
    assert_eq!(number(&mut session, EVALUATED).await, 40);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_customer_is_not_written_again() {
    let app = TestApp::start().await;
    // Enough to train.
    app.post("/v1/events/bulk", ndjson(&orders(150, 1))).await;
    app.train().await;
    let mut session = connect(&app).await;
    run(&mut session, "create table before as select * from customer").await;
    define(&app, "features.orders >= 1000").await;
    settle(&app).await;
    assert_eq!(number(&mut session, EVALUATED).await, 150);
    let same = "select count(*) from customer join before using (customer_id)
        where customer.updated_at = before.updated_at
          and customer.assigned_at = before.assigned_at
          and customer.next_rescore_at is not distinct from before.next_rescore_at";
    assert_eq!(number(&mut session, same).await, 150);
    app.stop().await;
}

/// A replica with earlier definitions may add a customer after the evaluation.
#[tokio::test(flavor = "multi_thread")]
async fn a_later_pass_finds_customers_of_a_late_replica() {
    let app = TestApp::start_with(&[("deployment.poll_seconds", "1")]).await;
    app.post("/v1/events/bulk", ndjson(&orders(CUSTOMERS, 1))).await;
    define(&app, "features.orders >= 1").await;
    let mut session = connect(&app).await;
    eventually("the evaluation is verified", async || {
        number(&mut session, "select count(*) from audience_evaluation where is_verified").await
            == 1
    })
    .await;
    run(
        &mut session,
        "begin;
         update customer set audience_version = 0, audiences = null where customer_id = 'c0003';
         update audience_evaluation set is_verified = false;
         commit",
    )
    .await;
    assert_eq!(pending(&app).await, 0);
    eventually("the customer is evaluated", async || size(&app).await == CUSTOMERS).await;
    eventually("the evaluation is verified again", async || {
        number(&mut session, "select count(*) from audience_evaluation where is_verified").await
            == 1
    })
    .await;
    app.stop().await;
}

/// A replica with earlier definitions keeps the memberships of later ones, and has the customer
/// rescored soon.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_on_a_late_replica_is_evaluated_soon() {
    let app = TestApp::start().await;
    app.post("/v1/events/bulk", ndjson(&orders(CUSTOMERS, 1))).await;
    define(&app, "features.orders >= 1").await;
    settle(&app).await;
    let mut session = connect(&app).await;
    let later =
        "update customer set audience_version = 1000, audiences = null, next_rescore_at = null
        where customer_id = 'c0003'";
    run(&mut session, later).await;
    let event = json!({
        "type": "track", "name": "Order Completed", "customer_id": "c0003",
        "properties": { "sales_value": 5.0, "lines": 1 },
    });
    let (_, answer) = app.post("/v1/events", event.to_string()).await;
    assert_eq!(answer["outcomes"][0]["audiences"], json!([]), "{answer}");
    let soon = "select count(*) from customer where customer_id = 'c0003'
        and audience_version = 1000 and next_rescore_at <= updated_at + interval '1 minute'";
    assert_eq!(number(&mut session, soon).await, 1);
    app.stop().await;
}

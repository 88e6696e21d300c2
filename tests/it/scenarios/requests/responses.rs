//! Responses: the outcome after a timeout, an unreachable database, security headers, allowed
//! hosts, undecodable paths.

use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};

use crate::scenarios::requests::admission_control::in_time;
use crate::support::{TestApp, eventually, ndjson, orders};

#[tokio::test(flavor = "multi_thread")]
async fn after_a_timeout_the_response_says_that_the_outcome_is_unknown() {
    let app = TestApp::start_with(&[("http.request_timeout_seconds", "2")]).await;
    let event = orders(1, 1)[0].to_string();
    let (status, answer) = app.post("/v1/events", event.clone()).await;
    assert_eq!(status, 200, "{answer}");
    // Another transaction holds a lock on the customer.
    let pool = sqlx::PgPool::connect(app.database_url()).await.unwrap();
    let mut transaction = pool.begin().await.unwrap();
    sqlx::query("select 1 from customer for update").execute(&mut *transaction).await.unwrap();
    let mut second = orders(1, 1)[0].clone();
    second["message_id"] = "second".into();
    let (status, answer) = app.post("/v1/events", second.to_string()).await;
    assert_eq!(status, 503, "{answer}");
    let detail = answer["detail"].as_str().unwrap();
    assert!(detail.contains("longer than 2 s"), "{detail}");
    assert!(detail.contains("outcome is unknown"), "{detail}");
    assert!(detail.contains("same message ids"), "{detail}");
    assert!(!detail.contains("undone"), "{detail}");
    transaction.rollback().await.unwrap();
    // As the response says: sent again, the event counts once, whether it was stored or
    // not.
    eventually("the event is stored once", async || {
        let (status, answer) = app.post("/v1/events", second.to_string()).await;
        status == 200 && answer["duplicate"] == 1
    })
    .await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_unreachable_database_is_called_unavailable() {
    let settings = [("database.max_connections", "4"), ("database.acquire_timeout_seconds", "1")];
    let app = TestApp::start_with(&settings).await;
    let mut other = PgConnection::connect(app.database_url()).await.unwrap();
    let mut held = other.begin().await.unwrap();
    sqlx::query("lock table model in access exclusive mode").execute(&mut *held).await.unwrap();
    // Both read connections wait for the table, and other requests find none.
    let reads = (0..5).map(|_| app.get("/v1/models"));
    let answers = in_time(join_all(reads)).await;
    let details: Vec<&str> = answers
        .iter()
        .filter(|(status, _)| *status == 503)
        .filter_map(|(_, answer)| answer["detail"].as_str())
        .collect();
    let of_the_pool = "all database connections of this process are in use";
    assert!(details.iter().any(|detail| detail.contains(of_the_pool)), "{details:?}");
    assert!(!details.iter().any(|detail| detail.contains("not available")), "{details:?}");
    held.rollback().await.unwrap();
    let (status, answer) = app.get("/v1/models").await;
    assert_eq!(status, 200, "{answer}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_have_security_headers() {
    let app = TestApp::start().await;
    let (status, _) = app.post("/v1/events/bulk", ndjson(&orders(3, 1))).await;
    assert_eq!(status, 200);
    let client = reqwest::Client::new();
    let get = async |path: &str| {
        let request = client.get(format!("{}{path}", app.url)).bearer_auth(&app.key);
        request.header("origin", "https://shop.example").send().await.unwrap()
    };
    let settings = format!("/v1/projects/{}/settings", app.key);
    for path in [
        "/v1/customers/c0001",
        "/v1/customers/c0001/features",
        "/v1/customers/c0001/history",
        "/v1/customers/c0001/links",
        "/v1/customers/unknown",
        "/v1/assignments",
        "/v1/changes",
        "/v1/events/failed",
        "/v1/models",
        "/no/such/route",
        "/v2/health/live",
        "/v2/no-such",
        &settings,
    ] {
        let answer = get(path).await;
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(answer.headers()["cache-control"], "no-store", "{path}");
    }
    let docs = get("/docs").await;
    assert_eq!(docs.headers()["x-content-type-options"], "nosniff");
    let policy = docs.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("default-src 'none'"), "{policy}");
    let (status, _) = app.admin("/metrics").await;
    assert_eq!(status, 200);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_return_only_allowed_hosts() {
    let app = TestApp::start_with(&[("http.allowed_hosts", "api.example.com, localhost")]).await;
    let client = reqwest::Client::new();
    let url = format!("{}/v1/projects/{}/settings", app.url, app.key);
    let ask = async |host: &str| {
        let answer = client.get(&url).header("host", host).send().await.unwrap();
        let vary = answer.headers().get_all("vary").iter().any(|vary| vary == "Host");
        let cache = answer.headers()["cache-control"].to_str().unwrap().to_owned();
        assert_eq!(cache, "no-store");
        (answer.status().as_u16(), vary, answer.json::<Value>().await.unwrap())
    };
    let (status, vary, answer) = ask("API.example.com:8080").await;
    assert_eq!((status, vary), (200, true), "{answer}");
    let host = &answer["integrations"]["Segment.io"]["apiHost"];
    assert_eq!(host, "API.example.com:8080/v1");
    for foreign in ["evil.example", "api.example.com.evil.example", "evil.example/api.example.com"]
    {
        let (status, _, answer) = ask(foreign).await;
        assert_eq!((status, &answer["code"]), (421, &json!("wrong-host")), "{foreign}: {answer}");
        assert!(!answer.to_string().contains("evil"), "{answer}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undecodable_path_or_query_is_answered_with_a_problem() {
    let app = TestApp::start().await;
    let client = reqwest::Client::new();
    for (path, kind) in [
        ("/v1/customers/%FF", "malformed-path"),
        ("/v1/customers/%C3%28/history", "malformed-path"),
        ("/v1/customers/a/links/%FF", "wrong-method"),
        ("/v1/models/%FF", "malformed-path"),
        ("/v1/alerts/%FF", "malformed-path"),
        ("/v1/projects/%FF/settings", "malformed-path"),
        ("/v1/alerts?owner=%FF", "malformed-query"),
        ("/v1/changes?segment_id=%80", "malformed-query"),
        ("/v1/alerts?limit=x", "invalid"),
    ] {
        let request = client.get(format!("{}{path}", app.url)).bearer_auth(&app.key);
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        assert_eq!(answer.headers()["content-type"], "application/problem+json", "{path}");
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["status"], status, "{path}: {problem}");
        assert_eq!(problem["type"], format!("/docs#problem-{kind}"), "{path}: {problem}");
    }
    let (status, answer) = app.get("/v2/models/%FF").await;
    assert_eq!((status, answer["error"].is_string()), (400, true), "{answer}");
    app.stop().await;
}

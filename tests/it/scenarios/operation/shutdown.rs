//! `SIGTERM`: not ready at once, served for the shutdown delay, everything stored, exit code 0.

use serde_json::{Value, json};

use crate::support::process::Process;
use crate::support::{eventually, open_to_all};

const ROW: &str = r#"{"features": {"recency_days": 3}}"#;

/// Each request has a connection of its own, as the requests of new clients have.
fn client() -> reqwest::Client {
    reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap()
}

async fn status(url: String) -> u16 {
    client().get(url).send().await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_fails_readiness_serves_during_its_delay_and_stores_everything() {
    let state = tempfile::Builder::new().permissions(open_to_all()).tempdir().unwrap();
    let key = Process::key(state.path(), None);
    // Only a second signal ends the delay within the patience of this test.
    let settings = ["http.shutdown_delay_seconds=3600", "sources.check_seconds=600"];
    let mut process = Process::start_with(state.path(), None, &settings);
    let ready = format!("{}/readyz", process.admin);
    eventually("it is ready", async || status(ready.clone()).await == 200).await;
    let send = async |number: u32| {
        let event = json!({
            "type": "track", "name": "Order Completed", "customer_id": "c1",
            "message_id": format!("m{number}"), "properties": { "sales_value": 5 },
        });
        let request = client().post(format!("{}/v1/events", process.url)).bearer_auth(&key);
        let answer = request.body(event.to_string()).send().await.unwrap();
        let closes = answer.headers().get("connection").is_some_and(|value| value == "close");
        (answer.status().as_u16(), closes)
    };
    assert_eq!(send(1).await, (200, false));

    process.terminate();
    eventually("it is not ready", async || status(ready.clone()).await == 503).await;
    assert_eq!(status(format!("{}/livez", process.admin)).await, 200);
    assert_eq!(status(format!("{}/metrics", process.admin)).await, 200);
    // Still served, and the client is asked to connect anew.
    assert_eq!(send(2).await, (200, true));
    let score = client().post(format!("{}/v1/score", process.url)).bearer_auth(&key).body(ROW);
    assert_eq!(score.send().await.unwrap().status(), 200);

    process.terminate();
    assert_eq!(process.exit_code().await, Some(0));
    for message in ["shutdown requested", "second signal", "stopping", "stopped"] {
        assert_eq!(process.log_with(message).len(), 1, "{message}: {:#?}", process.log());
    }

    // The events and their counts by source were stored, though the counts were not due.
    let process = Process::start(state.path(), None);
    let get = async |path: &str| -> Value {
        let request = client().get(format!("{}{path}", process.url)).bearer_auth(&key);
        request.send().await.unwrap().json().await.unwrap()
    };
    let customer = get("/v1/customers/c1").await;
    assert_eq!(customer["features"]["orders_365d"], 2.0, "{customer}");
    let sources = get("/v1/sources").await;
    let events = |hour: &str| sources["sources"][0][hour]["events"].as_u64().unwrap_or_default();
    assert_eq!(events("this_hour") + events("last_hour"), 2, "{sources}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_delay_the_first_signal_stops_the_process() {
    let state = tempfile::Builder::new().permissions(open_to_all()).tempdir().unwrap();
    let mut process = Process::start(state.path(), None);
    process.terminate();
    assert_eq!(process.exit_code().await, Some(0));
    assert!(process.log_with("shutdown requested").is_empty());
    assert!(!state.path().join("postgres/data/postmaster.pid").exists());
}

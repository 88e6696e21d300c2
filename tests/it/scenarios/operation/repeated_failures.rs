//! What fails again and again is logged once a minute.

use std::fs;

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use crate::support::process::{Process, postmaster_pid};
use crate::support::{eventually, open_to_all};

async fn metric(process: &Process, name: &str) -> u64 {
    let text = reqwest::get(format!("{}/metrics", process.admin)).await.unwrap().text().await;
    let text = text.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_database_does_not_flood_the_log() {
    let state = tempfile::Builder::new().permissions(open_to_all()).tempdir().unwrap();
    let settings = ["auth.refresh_seconds=1", "deployment.poll_seconds=1", "alerts.poll_seconds=1"];
    let process = Process::start_with(state.path(), None, &settings);
    let (data, away) = (state.path().join("postgres/data"), state.path().join("away"));
    fs::rename(&data, &away).unwrap();
    kill_process(postmaster_pid(&away), Signal::KILL).unwrap();
    let restarts = "segmentd_private_postgres_restarts_total";
    eventually("many restarts fail", async || metric(&process, restarts).await >= 6).await;

    // Postgres is away for seconds: each task has failed several times.
    let failed = process.log_with("private Postgres could not be restarted; it will retry");
    assert_eq!(failed.len(), 1, "{failed:#?}");
    let tasks = process.log_with("background task failed; it will retry");
    let failures: Vec<(&Value, &Value)> =
        tasks.iter().map(|line| (&line["task"], &line["error"])).collect();
    assert!(!failures.is_empty());
    for (index, failure) in failures.iter().enumerate() {
        assert!(!failures[..index].contains(failure), "twice: {failure:?} in {tasks:#?}");
    }
    fs::rename(&away, &data).unwrap();
}

/// A receiver that cannot be reached has one line in the log for all attempts.
#[tokio::test(flavor = "multi_thread")]
async fn failed_deliveries_do_not_flood_the_log() {
    let state = tempfile::Builder::new().permissions(open_to_all()).tempdir().unwrap();
    let key = Process::key(state.path(), None);
    let settings = ["alerts.allow_private_addresses=true", "alerts.poll_seconds=1"];
    let process = Process::start_with(state.path(), None, &settings);
    let client = reqwest::Client::new();
    let url = |path: &str| format!("{}/v1/channels{path}", process.url);
    let target = json!({ "kind": "webhook", "url": "http://127.0.0.1:1/" });
    let channel = json!({ "name": "nowhere", "target": target }).to_string();
    let made = client.post(url("")).bearer_auth(&key).body(channel).send().await.unwrap();
    let made: Value = made.json().await.unwrap();
    let id = made["channel_id"].as_str().unwrap_or_else(|| panic!("{made}"));
    let tested = client.post(url(&format!("/{id}/test"))).bearer_auth(&key).send().await.unwrap();
    assert_eq!(tested.status(), 202);
    let mut deliveries = Value::Null;
    eventually("the delivery is attempted twice", async || {
        let request = client.get(url(&format!("/{id}/deliveries"))).bearer_auth(&key);
        deliveries = request.send().await.unwrap().json().await.unwrap();
        deliveries["deliveries"][0]["attempts"].as_array().is_some_and(|all| all.len() >= 2)
    })
    .await;
    let lines = process.log_with("an alert notification was not delivered");
    assert_eq!(lines.len(), 1, "{lines:#?} for {deliveries:#}");
    assert_eq!((&lines[0]["channel"], &lines[0]["level"]), (&json!(id), &json!("WARN")));
}
